"""What weights, input and the range of a run leave unseen is told, and nothing of numbers that show everything."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import OWN, Cli
from torch import nn

from rnnscope import Comparison, Spec, StackedCells, compare
from rnnscope.help.findings import BLIND_SPOTS
from rnnscope.verdict import compare as comparing
from rnnscope.verdict import unseen as seeing
from rnnscope.verdict.problem import Problem, draw_problem
from rnnscope.verdict.unseen import OF_WEIGHTS, unseen, watched

SPEC = Spec(kind="gru", input_size=4, hidden_size=4, bidirectional=True)


def problem_of(spec: Spec = SPEC, **weights: Any) -> Problem:
    """A problem in which some weights are what a function makes of them."""
    problem = draw_problem(spec, ("float32",))
    changed = {name: change(problem.weights[name]) for name, change in weights.items()}
    return replace(problem, weights=problem.weights | changed)


def spots(problem: Problem) -> dict[str, str]:
    return {each.name: each.sentence for each in unseen([problem])}


def tenths(weight: torch.Tensor) -> torch.Tensor:
    return torch.full_like(weight, 0.1)


# Numbers that show little.


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("size", [1, 2, 20])
def test_random_numbers_leave_nothing_unseen(kind: str, size: int) -> None:
    spec = Spec(kind=kind, input_size=size, hidden_size=size, bidirectional=True)
    assert unseen([draw_problem(spec, ("float32",))]) == ()


def test_a_parameter_of_zeros_is_named() -> None:
    found = spots(problem_of(bias_hh_l0=torch.zeros_like, weight_ih_l1=torch.zeros_like))
    named = "bias_hh_l0 and weight_ih_l1 are zeros: whether they are used, and how, does not show"
    assert found == {"zero weights": named}


def test_a_parameter_of_zeros_on_one_side_is_named() -> None:
    problems = [problem_of(), problem_of(bias_hh_l0=torch.zeros_like)]
    sentence = "bias_hh_l0 is zeros: whether it is used, and how, does not show"
    assert [each.sentence for each in unseen(problems)] == [sentence]


def test_a_parameter_of_zeros_on_both_sides_is_named_once() -> None:
    problems = [problem_of(bias_hh_l0=torch.zeros_like), problem_of(bias_hh_l0=torch.zeros_like)]
    assert [each.sentence.count("bias_hh_l0") for each in unseen(problems)] == [1]


def test_a_parameter_of_one_number_is_named() -> None:
    sentence = (
        "weight_hh_l0 has one number throughout: whether transposed, or with gates or units in another order, "
        "does not show"
    )
    assert spots(problem_of(weight_hh_l0=tenths)) == {"alike weights": sentence}


def test_a_number_that_differs_late_is_seen() -> None:
    def last_one_differs(weight: torch.Tensor) -> torch.Tensor:
        changed = tenths(weight)
        changed[-1, -1] = 0.2
        return changed

    spec = replace(SPEC, kind="rnn", hidden_size=40, input_size=40)
    assert spots(problem_of(spec, weight_ih_l0=last_one_differs)) == {}


def test_a_matrix_that_is_its_own_transpose_is_named() -> None:
    blocks = torch.stack([torch.eye(4), 2 * torch.eye(4), torch.ones(4, 4)]).double()
    found = spots(problem_of(weight_hh_l0=lambda _: blocks.flatten(0, 1)))
    assert found == {"symmetric weights": "weight_hh_l0 is its own transpose: whether it is transposed does not show"}


def test_equal_biases_of_a_gru_are_named() -> None:
    bias = torch.arange(12).double()
    found = spots(problem_of(bias_ih_l1=lambda _: bias, bias_hh_l1=lambda _: bias))
    assert found == {"equal weights": "equal weights in bias_ih_l1 and bias_hh_l1: whether swapped does not show"}


def test_equal_biases_of_an_lstm_hide_nothing() -> None:
    bias = torch.arange(16).double()
    spec = replace(SPEC, kind="lstm")
    assert spots(problem_of(spec, bias_ih_l1=lambda _: bias, bias_hh_l1=lambda _: bias)) == {}


@pytest.mark.parametrize(
    ("spec", "copy", "kept", "named"),
    [
        (replace(SPEC, bidirectional=False), "_l1", "_l0", "layer 0 and layer 1"),
        (replace(SPEC, num_layers=1), "_l0_reverse", "_l0", "both directions of layer 0"),
    ],
    ids=["layers", "directions"],
)
def test_equal_parts_are_named(spec: Spec, copy: str, kept: str, named: str) -> None:
    problem = problem_of(spec)
    weights = {name: problem.weights[name.replace(copy, kept)] for name in problem.weights}
    found = spots(replace(problem, weights=weights))
    assert found == {"equal weights": f"equal weights in {named}: whether swapped does not show"}


def test_no_more_than_a_handful_are_named() -> None:
    problem = problem_of(replace(SPEC, num_layers=3, bidirectional=False))
    found = spots(replace(problem, weights={name: tenths(each) for name, each in problem.weights.items()}))
    assert "weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0 and 8 more have one number" in found["alike weights"]


@pytest.mark.parametrize(
    ("value", "spot"),
    [(0.0, "zero input"), (1.0, "alike input")],
)
def test_an_x_of_one_number_is_a_blind_spot(value: float, spot: str) -> None:
    rnn = nn.RNN(4, 4)
    found = compare(rnn, StackedCells.from_module(rnn), torch.full((3, 5, 4), value), torch.randn(1, 5, 4))
    assert [each.name for each in found.blind_spots if each.name != "reached range"] == [spot]


def test_a_given_state_of_zeros_is_a_blind_spot() -> None:
    lstm = nn.LSTM(4, 4)
    hx = torch.zeros(1, 5, 4), torch.zeros(1, 5, 4)
    found = compare(lstm, StackedCells.from_module(lstm), torch.randn(3, 5, 4), hx)
    sentence = "h0 and c0 are zeros: whether they are used, and how, does not show"
    assert [each.sentence for each in found.blind_spots if each.name == "zero h0"] == [sentence]


def test_zeros_that_were_asked_for_are_told_once() -> None:
    assert [each.name for each in compare(Spec(h0="zeros")).blind_spots] == ["zero h0"]


# What the verdict says of it.


def saved(path: Path, **changes: Any) -> str:
    weights = nn.GRU(10, 20).state_dict()
    torch.save(weights | {name: change(weights[name]) for name, change in changes.items()}, path)
    return str(path)


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("--reference", "Verdict: identical: same function on these weights, and every bit agrees."),
        ("--no-reference", "Verdict: identical: every bit agrees on these weights."),
    ],
)
def test_the_verdict_holds_on_these_weights(cli: Cli, tmp_path: Path, reference: str, sentence: str) -> None:
    weights = saved(tmp_path / "zeros.pt", bias_hh_l0=torch.zeros_like)
    assert sentence in cli("compare", "--weights", weights, "--right", "module", reference).out


def test_the_verdict_on_other_weights_says_nothing_of_them(cli: Cli, tmp_path: Path) -> None:
    answer = cli("compare", "--weights", saved(tmp_path / "random.pt"), "--right", "module")
    assert "on these weights" not in answer.out


def test_what_hides_a_fault_is_named_where_the_fault_is_not_seen(tmp_path: Path, cli: Cli) -> None:
    weights = saved(tmp_path / "zeros.pt", bias_hh_l0=torch.zeros_like)
    answer = cli("compare", "--weights", weights, "--right", "deviation:b_hh-dropped")
    assert answer.code == 0
    assert "Blind spot: bias_hh_l0 is zeros" in answer.out


# The range that is reached.


def test_the_range_is_that_of_the_equations() -> None:
    spec = Spec(kind="lstm", num_layers=1, seq_len=7)
    problem = draw_problem(spec, ("float32",))
    lstm = nn.LSTM(10, 20).double()
    lstm.load_state_dict(problem.weights)
    h, c = problem.given.state
    gate_sums, hs, cs = [], [], []
    for x in problem.given.x.double():
        w, v, b, d = (each.detach() for each in lstm.parameters())
        gate_sums.append(x @ w.T + b + h[0] @ v.T + d)
        _, (h, c) = lstm(x[None], (h, c))
        h, c = h.detach(), c.detach()
        hs.append(h)
        cs.append(c)
    found, dead = watched([problem])
    expected = [max(each.abs().max().item() for each in every) for every in (hs, cs, gate_sums)]
    assert [found.h, found.c, found.gate_sum] == pytest.approx(expected, rel=1e-12)
    assert (found.steps, found.overflows, dead) == (7, False, ())


@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_reaches_nothing(bidirectional: bool) -> None:
    spec = Spec(lengths=(3, 1), bidirectional=bidirectional, num_layers=1)
    problem = draw_problem(spec, ("float32",))
    x = problem.given.x.clone()
    x[1:, 1] = 1e6
    padded = replace(problem, given=replace(problem.given, x=x))
    assert watched([padded]) == watched([problem])


def test_a_state_beyond_what_a_dtype_can_say_overflows() -> None:
    problem = draw_problem(Spec(nonlinearity="relu"), ("float16",))
    large = replace(problem, weights={name: 1e3 * each.abs() for name, each in problem.weights.items()})
    assert watched([large])[0].overflows


def of_a_class(**options: Any) -> Comparison:
    return compare(Spec(kind="lstm"), right=f"{OWN}:Lstm", **options)


def test_the_range_is_told_where_a_class_is_a_side() -> None:
    found = of_a_class()
    assert found.reached
    assert found.facts()["reached"] == {**vars(found.reached)}
    assert found.blind_spots[-1].label == "Reached"


def test_the_range_is_not_told_where_they_differ() -> None:
    found = compare(Spec(kind="lstm"), right=f"{OWN}:Iofg")
    assert (found.verdict, found.blind_spots) == ("different", ())


@pytest.mark.parametrize("spec", [Spec(kind=kind) for kind in ("rnn", "lstm", "gru")], ids=lambda each: each.kind)
def test_two_of_our_subjects_take_no_run_more(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "watched", None)
    assert compare(spec).reached is None


def test_without_the_reference_no_range_is_known() -> None:
    assert of_a_class(reference=False).reached is None


# Units of a relu.


def relu_with_dead(*units: int) -> Problem:
    problem = draw_problem(Spec(nonlinearity="relu", num_layers=1, seq_len=20), ("float32",))
    bias = problem.weights["bias_ih_l0"].index_fill(0, torch.tensor(units, dtype=torch.long), -99.0)
    return replace(problem, weights=problem.weights | {"bias_ih_l0": bias})


def test_units_that_are_never_awake_are_named() -> None:
    _, (spot,) = watched([relu_with_dead(3, 7)])
    assert (spot.name, spot.sentence) == (
        "dead units",
        "0 at every step: units 3 and 7 of layer 0; what feeds these hardly shows",
    )


def test_units_that_awake_are_not() -> None:
    assert watched([relu_with_dead()])[1] == ()


def test_many_units_are_counted() -> None:
    _, (spot,) = watched([relu_with_dead(*range(20))])
    assert "units 0, 1, 2, 3 and 16 more of layer 0" in spot.sentence


# The words for people.


def test_every_blind_spot_of_the_numbers_has_an_entry() -> None:
    names = {*seeing.SENTENCES, *OF_WEIGHTS, "dead units", "reached range"}
    assert names <= {each.name for each in BLIND_SPOTS}
