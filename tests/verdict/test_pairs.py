"""Two deviations at once: composed, searched where no single one explains a side, told, and never misnamed."""

import json
from pathlib import Path

import pytest
import torch
from support import OWN, Cli

from rnnscope import RnnscopeError, Spec, compare
from rnnscope.network.weights import Input, Weights
from rnnscope.subjects import builtin as subjects
from rnnscope.subjects.builtin import Run, run_cells
from rnnscope.verdict import diagnosis
from rnnscope.verdict.deviations import (
    DEVIATIONS,
    Deviation,
    can_be_composed,
    composed,
    deviations,
    pairs_of_deviations,
)

DEVIATING = OWN.with_name("deviating_networks.py")

LSTM = Spec(kind="lstm")
LENGTHS = Spec(kind="gru", lengths=(2, 5, 3))


def named(name: str) -> Deviation:
    return next(each for each in DEVIATIONS if each.name == name)


def with_both(monkeypatch: pytest.MonkeyPatch, first: str, second: str) -> Deviation:
    """Let the equations have both."""
    pair = composed(named(first), named(second))
    monkeypatch.setitem(subjects.SUBJECTS, "equations", pair.run)
    return pair


def with_unknown_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        return run_cells(spec, {name: 1.01 * each for name, each in weights.items()}, given)

    monkeypatch.setitem(subjects.SUBJECTS, "equations", run)


# Classes as people write them.


@pytest.mark.parametrize(
    ("name", "spec", "expected"),
    [
        ("ForgetsItsGate", LSTM, "bias of 1 on the input gate"),
        ("Coupled", LSTM, "coupled forget gate"),
        ("Peepholes", LSTM, "peepholes of weight 1"),
        ("Hard", LSTM, "hard sigmoid"),
        ("NormsItsCell", LSTM, "layer norm on c"),
        ("CellFirst", LSTM, "h and c swapped"),
        ("UnpacksAndPacks", LENGTHS, "lengths ignored but in y"),
        ("UnpacksAndPacks", Spec(kind="gru", lengths=(2, 5, 3), bidirectional=True), "lengths ignored but in y"),
        ("SortsByLength", LENGTHS, "items of h sorted by length"),
        (
            "FlipsThePadding",
            Spec(kind="gru", lengths=(2, 5, 3), bidirectional=True, num_layers=1),
            "lengths ignored backward",
        ),
        ("IofgAndOneBias", LSTM, "gates i f o g + b_hh dropped"),
        ("IgfoAndForgetBias", LSTM, "gates i g f o + forget bias of 1"),
        ("UnpacksAndDropsState", LENGTHS, "h0 ignored + lengths ignored but in y"),
        (
            "UnpacksAndDropsState",
            Spec(kind="gru", lengths=(2, 5, 3), bidirectional=True),
            "h0 ignored + lengths ignored but in y",
        ),
    ],
)
def test_a_class_is_told_what_it_does(name: str, spec: Spec, expected: str) -> None:
    found = compare(spec, "module", f"{DEVIATING}:{name}")
    assert (found.verdict, found.side) == ("different", "right")
    assert [each.convention for each in found.explanations] == [expected]


# Which pairs there are.


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("gates i f o g", "b_hh dropped", True),
        ("gates i f o g", "W_hh transposed", True),
        ("gates i f o g", "gates o g f i", False),
        ("hard tanh", "forget bias of 1", False),
        ("hard tanh", "layer fed by the previous step", True),
        ("lengths ignored", "y of the first layer", False),
        ("h and c swapped", "items of h in reverse", True),
    ],
)
def test_two_formulas_or_two_walkers_or_two_orders_are_no_pair(first: str, second: str, expected: bool) -> None:
    assert can_be_composed(named(first), named(second)) is expected


def test_a_pair_makes_sense_where_both_do() -> None:
    known = {each.name for each in deviations(LSTM)}
    assert {name for pair in pairs_of_deviations(LSTM) for name in pair.names} == known


def test_a_pair_is_one_deviation_after_the_other() -> None:
    pair = composed(named("directions swapped in h"), named("h ordered direction-major"))
    h = torch.arange(4.0).view(4, 1, 1)
    both = pair.outputs(Spec(bidirectional=True), Run(torch.zeros(1, 1, 2), (h,)))
    assert both.state[0].flatten().tolist() == [1, 3, 0, 2]


# How they are told.


def test_both_are_named_in_a_sentence_and_have_a_page(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    with_both(monkeypatch, "gates i f o g", "b_hh dropped")
    text = " ".join(cli("compare", "--kind", "lstm", "--right", "equations").out.split())
    assert (
        "Why: The right side (equations) stacks its gates i f o g (torch stacks i f g o), and leaves out b_hh "
        "(torch adds both biases). First at"
    ) in text
    assert "More: rnnscope explain gates-i-f-o-g b_hh-dropped Run:" in text


def test_both_have_a_page_where_one_line_is_too_short(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    with_both(monkeypatch, "tanh missing on the cell state", "backward direction fed forward")
    lines = cli("compare", "--kind", "lstm", "--bidirectional", "--right", "equations").out.splitlines()
    assert [line for line in lines if line.startswith("More: ")] == [
        "More: rnnscope explain tanh-missing-on-the-cell-state",
        "More: rnnscope explain backward-direction-fed-forward",
    ]


def test_a_document_has_both_names(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    with_both(monkeypatch, "h0 ignored", "h and c swapped")
    found = json.loads(cli("compare", "--kind", "lstm", "--right", "equations", "--json").out)
    (explanation,) = found["explanations"]
    assert explanation["convention"] == "h0 ignored + h and c swapped"
    assert explanation["deviations"] == found["more"] == ["h0 ignored", "h and c swapped"]


def test_a_single_deviation_is_told_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with_both(monkeypatch, "directions swapped in y", "directions swapped in h")
    found = compare(Spec(bidirectional=True), right="equations")
    assert [each.deviations for each in found.explanations] == [("directions swapped in y and h",)]


def test_one_that_does_nothing_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with_both(monkeypatch, "W_hh transposed", "cell state clipped at 3")
    found = compare(LSTM, right="equations")
    assert [each.deviations for each in found.explanations] == [("W_hh transposed",)]


def test_several_that_one_input_does_not_tell_apart_are_told_as_such(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.setitem(subjects.SUBJECTS, "equations", named("reset before the matmul").run)
    words = ("compare", "--kind", "gru", "--layers", "1", "--seq-len", "1", "--h0", "zeros", "--right", "equations")
    text = " ".join(cli(*words).out.split())
    assert (
        "Why: The right side (equations) does one of these, which are the same on this input: resets h before it "
        "multiplies with W_hn (torch resets the product); leaves b_hn out of what r multiplies (torch multiplies "
        "W_hn·h + b_hn with r)."
    ) in text


def test_pairs_that_one_input_does_not_tell_apart_are_all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with_both(monkeypatch, "b_hh dropped", "items of h in reverse")
    found = compare(Spec(lengths=(1, 2, 3)), right="equations")
    assert [each.convention for each in found.explanations] == [
        "b_hh dropped + items of h in reverse",
        "b_hh dropped + items of h sorted by length",
    ]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_unknown_fault_is_no_pair(monkeypatch: pytest.MonkeyPatch, bidirectional: bool) -> None:
    with_unknown_fault(monkeypatch)
    found = compare(Spec(kind="gru", bidirectional=bidirectional), right="equations")
    assert (found.verdict, found.explanations) == ("different", ())


# Where they are searched.


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_recorded_pair_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cli: Cli, bidirectional: bool
) -> None:
    with_both(monkeypatch, "b_ih dropped", "h0 ignored")
    words = ["compare", "--kind", "gru", *(["--bidirectional"] if bidirectional else [])]
    cli(*words, "--left", "equations", "--record", str(tmp_path / "run.safetensors"))
    found = json.loads(cli(*words, "--right", f"recorded:{tmp_path / 'run.safetensors'}", "--json").out)
    assert [each["convention"] for each in found["explanations"]] == ["b_ih dropped + h0 ignored"]


@pytest.mark.parametrize(
    ("first", "second", "spec"),
    [
        ("b_ih dropped", "batch and time swapped", Spec(seq_len=5, batch_size=5)),
        ("both biases dropped", "lengths ignored but in y", Spec(lengths=(34, 27), bidirectional=True)),
        ("h and c swapped", "items of h in reverse", Spec(kind="lstm", seq_len=20)),
        ("W_hh transposed", "hard tanh", Spec(kind="gru", h0="zeros", batch_first=True)),
        ("gates z r n", "y of the first layer", Spec(kind="gru", unbatched=True)),
    ],
)
def test_what_the_first_step_does_not_show_is_found(
    monkeypatch: pytest.MonkeyPatch, first: str, second: str, spec: Spec
) -> None:
    pair = with_both(monkeypatch, first, second)
    assert [each.convention for each in compare(spec, right="equations").explanations] == [pair.name]


def test_a_class_that_takes_no_single_step_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    both = composed(named("b_ih dropped"), named("h0 ignored"))

    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        if spec.seq_len == 1:
            raise RnnscopeError("a window of 2 is needed")
        return both.run(spec, weights, given)

    monkeypatch.setitem(subjects.SUBJECTS, "equations", run)
    found = compare(Spec(bidirectional=True), right="equations")
    assert [each.convention for each in found.explanations] == [both.name]


@pytest.mark.parametrize(
    ("spec", "recorded", "expected"),
    [
        (LSTM, False, True),
        (Spec(kind="lstm", bidirectional=True, num_layers=3, hidden_size=64, batch_size=16), False, True),
        (Spec(kind="lstm", hidden_size=1024), False, False),
        (Spec(kind="gru", bidirectional=True), True, True),
        (Spec(kind="gru", bidirectional=True, seq_len=500), True, False),
        (Spec(kind="gru", seq_len=500), True, True),
    ],
)
def test_pairs_are_tried_unless_that_takes_long(spec: Spec, recorded: bool, expected: bool) -> None:
    assert diagnosis.pairs_are_tried(spec, recorded) is expected


def test_a_page_says_that_pairs_were_not_tried(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.setattr(diagnosis, "MOST_FOR_PAIRS", 0)
    with_unknown_fault(monkeypatch)
    text = " ".join(cli("compare", "--right", "equations").out.split())
    assert "Why: no known deviation explains it; two at once were not tried on so large a network." in text
