"""The same question under stress: what acts further out or later is found, and what is right stays right."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from own_networks import ClipsItsCell, Lstm
from support import OWN, Answer, Cli
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from rnnscope import Comparison, RnnscopeError, Spec, StackedCells, assert_equivalent, compare
from rnnscope.network.costs import Work, needed_bytes
from rnnscope.spec.question import STRESS_TIMES, Question, stressed
from rnnscope.verdict.problem import draw_problem, stressed_problem

FAULTS = ("ClipsItsCell", "ClipsItsGates", "ResetsItself")
LSTM = Spec(kind="lstm")


def of_a_class(name: str, spec: Spec = LSTM, **question: Any) -> Comparison:
    return compare(spec, right=f"{OWN}:{name}", **question)


# What is found, and what is not.


@pytest.mark.parametrize("name", FAULTS)
def test_what_acts_further_out_is_not_seen_without_stress(name: str) -> None:
    assert of_a_class(name).verdict == "equivalent"


@pytest.mark.parametrize("name", FAULTS)
def test_what_acts_further_out_is_found_under_stress(name: str) -> None:
    found = of_a_class(name, stress=True)
    assert (found.verdict, found.exit_code, found.cause, found.side) == ("different", 1, "function", "right")
    assert found.as_asked.verdict == "equivalent"


@pytest.mark.parametrize("h0", ["random", "zeros"])
def test_a_clip_of_the_cell_is_found_from_zeros_too(h0: str) -> None:
    assert of_a_class("ClipsItsCell", replace(LSTM, h0=h0), stress=True).verdict == "different"


def test_a_reset_is_found_where_it_acts() -> None:
    stress = of_a_class("ResetsItself", stress=True).stress
    assert stress
    assert stress.first_divergence
    assert stress.first_divergence.step == 10


def test_a_formula_that_overflows_is_found() -> None:
    found = of_a_class("OverflowsSooner", replace(LSTM, input_size=100), stress=True)
    assert (found.verdict, found.cause, found.side) == ("different", "nonfinite", "right")


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("lengths", [None, (3, 1, 2)], ids=["whole", "packed"])
def test_what_is_right_stays_right(kind: str, lengths: tuple[int, ...] | None, dtype: str) -> None:
    spec = Spec(kind=kind, lengths=lengths, dtype=dtype, bidirectional=lengths is not None)
    assert compare(spec, stress=True).exit_code == 0


def test_a_right_class_stays_right() -> None:
    found = of_a_class("Lstm", stress=True)
    assert (found.verdict, found.cause) == ("equivalent", "rounding")


# Which verdict counts.


def verdict_with(plain: str, under_stress: str) -> Comparison:
    """A comparison whose two questions have these verdicts."""
    found = {
        "identical": compare(Spec(), right="module"),
        "equivalent": compare(Spec(), right="cells@cpu/float64"),
        "different": compare(Spec(), right="deviation:W_hh-transposed"),
        "undecided": compare(Spec(), right="module"),
    }
    undecided = found["undecided"]
    assert undecided.reference
    function = undecided.reference.function
    wide = replace(function, margins=tuple(replace(each, decided=False) for each in function.margins))
    found["undecided"] = replace(undecided, reference=replace(undecided.reference, function=wide))
    assert found[plain].verdict == plain
    assert found[under_stress].verdict == under_stress
    return replace(found[plain], stress=found[under_stress])


@pytest.mark.parametrize(
    ("plain", "under_stress", "verdict", "exit_code"),
    [
        ("identical", "identical", "identical", 0),
        ("identical", "equivalent", "equivalent", 0),
        ("identical", "undecided", "identical", 0),
        ("identical", "different", "different", 1),
        ("equivalent", "identical", "equivalent", 0),
        ("equivalent", "undecided", "equivalent", 0),
        ("equivalent", "different", "different", 1),
        ("undecided", "equivalent", "undecided", 2),
        ("undecided", "different", "different", 1),
    ],
)
def test_the_worse_verdict_counts_but_for_undecided(
    plain: str, under_stress: str, verdict: str, exit_code: int
) -> None:
    found = verdict_with(plain, under_stress)
    assert (found.verdict, found.exit_code) == (verdict, exit_code)


def test_what_is_undecided_under_stress_is_not_silent(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    growing = {name: 2 * each.abs() for name, each in nn.RNN(10, 20).state_dict().items()}
    torch.save(growing, "growing.pt")
    answer = cli("compare", "--weights", "growing.pt", "--nonlinearity", "relu", "--dtype", "float16", "--stress")
    text = " ".join(answer.out.split())
    assert answer.code == 0
    assert "; under stress undecided, which does not count. " in text
    assert "undecided: numbers so large are near or beyond what float16 can say, so that nothing can be told." in text


def test_what_rounding_hides_under_stress_is_not_silent() -> None:
    found = compare(Spec(), stress=True)
    assert found.stress
    assert found.stress.reference
    function = replace(found.stress.reference.function, whole_steps=5)
    stress = replace(found.stress, reference=replace(found.stress.reference, function=function))
    sentence = "under stress a fault of the loop after the first 5 of 20 steps would not be seen"
    assert [each.sentence.partition(":")[0] for each in replace(found, stress=stress).blind_spots] == [sentence]


def test_what_differs_as_it_is_is_not_asked_again(cli: Cli) -> None:
    answer = cli("compare", "--right", "deviation:W_hh-transposed", "--stress")
    assert answer.code == 1
    assert "Under stress: not asked, since they differ as it is." in answer.out
    assert (
        json.loads(cli("compare", "--right", "deviation:W_hh-transposed", "--stress", "--json").out)["stress"] is None
    )


def test_a_tolerance_is_of_what_was_asked() -> None:
    found = compare(Spec(nonlinearity="relu"), right="cells@cpu/float64", stress=True, rtol=0, atol=1e-6)
    assert found.stress
    assert max(each.max_abs or 0.0 for each in found.stress.outputs) > 1e-6
    assert found.verdict == "equivalent"


# The input under stress.


@pytest.mark.parametrize(("steps", "more"), [(1, 20), (3, 20), (5, 20), (6, 24), (100, 400)])
def test_there_are_more_steps(steps: int, more: int) -> None:
    assert stressed(Spec(seq_len=steps)).seq_len == more


def test_lengths_are_as_ragged_as_before() -> None:
    assert stressed(Spec(lengths=(3, 1, 2))).lengths == (20, 7, 14)


@pytest.mark.parametrize(
    "spec",
    [Spec(), Spec(batch_first=True), Spec(unbatched=True), Spec(lengths=(3, 1, 2)), Spec(input_size=1)],
    ids=["time first", "batch first", "unbatched", "packed", "one feature"],
)
def test_x_is_given_over_and_over_with_its_features_moved_on(spec: Spec) -> None:
    problem = draw_problem(spec, ("float32",))
    found = stressed_problem(problem)

    def by_step(x: torch.Tensor) -> torch.Tensor:
        return x[:, None] if spec.unbatched else x.transpose(0, 1) if spec.batch_first else x

    x, longer = by_step(problem.given.x), by_step(found.given.x)
    assert longer.dtype == x.dtype
    for step, item in torch.cartesian_prod(torch.arange(len(longer)), torch.arange(x.shape[1])).tolist():
        of_item = spec.length_of(item)
        expected = x[step % of_item, item].roll(step // of_item)
        torch.testing.assert_close(longer[step, item], STRESS_TIMES * expected)


def test_the_state_is_as_much_larger_and_the_weights_stay() -> None:
    problem = draw_problem(LSTM, ("float32",))
    found = stressed_problem(problem)
    torch.testing.assert_close(found.given.state, tuple(STRESS_TIMES * each for each in problem.given.state))
    assert found.weights is problem.weights


# What it goes with.


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--chunk 2", "--chunk 2 carries the state from chunk to chunk, and --stress runs more steps as a whole"),
        ("--resync", "--stress asks about more steps, and --resync takes every step by itself"),
        ("--no-reference", "--stress is judged by the equations in float64, and --no-reference leaves them out"),
    ],
)
def test_what_leaves_nothing_to_see_is_refused(cli: Cli, words: str, sentence: str) -> None:
    assert cli("compare", "--stress", *words.split()) == Answer(2, "", f"rnnscope: {sentence}; give one of the two\n")


def test_a_recorded_run_is_refused(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("compare", "--record", "run.pt", "-q").code == 0
    sentence = "recorded:run.pt cannot be run again, as --stress would need; leave it out"
    answer = cli("compare", "--left", "module", "--right", "recorded:run.pt", "--stress")
    assert answer == Answer(2, "", f"rnnscope: {sentence}\n")


def test_a_question_is_checked_in_python_too() -> None:
    with pytest.raises(RnnscopeError, match="--stress asks about more steps"):
        Question(stress=True, resync=True)


def live_sides(kind: type[Lstm]) -> tuple[nn.LSTM, Lstm]:
    lstm, own = nn.LSTM(10, 20, 2), kind(10, 20, 2)
    for name, each in lstm.state_dict().items():
        base, _, layer = name.rpartition("_l")
        getattr(own.cells[int(layer)], base).data.copy_(each)
    return lstm, own


@pytest.mark.parametrize(("kind", "verdict"), [(Lstm, "equivalent"), (ClipsItsCell, "different")])
def test_modules_that_are_there_are_asked(kind: type[Lstm], verdict: str) -> None:
    hx = torch.randn(2, 5, 20), torch.randn(2, 5, 20)
    assert compare(*live_sides(kind), torch.randn(3, 5, 10), hx, stress=True).verdict == verdict


def test_a_packed_sequence_is_longer_too() -> None:
    lstm, x = nn.LSTM(10, 20, 2), pack_padded_sequence(torch.randn(3, 5, 10), [3, 3, 2, 1, 1])
    found = compare(lstm, StackedCells.from_module(lstm), x, stress=True)
    assert (found.exit_code, found.stress and found.stress.spec.lengths) == (0, (20, 20, 14, 7, 7))


def test_an_assertion_may_ask() -> None:
    hx = torch.randn(2, 5, 20), torch.randn(2, 5, 20)
    with pytest.raises(AssertionError, match="not under stress"):
        assert_equivalent(*live_sides(ClipsItsCell), torch.randn(3, 5, 10), hx, stress=True)


def test_weights_from_a_file_are_asked(cli: Cli, tmp_path: Path) -> None:
    torch.save(nn.LSTM(10, 20, 2).state_dict(), tmp_path / "model.pt")
    words = ("--weights", str(tmp_path / "model.pt"), "--right", f"{OWN}:ClipsItsCell", "--stress")
    assert cli("compare", *words, "-q").code == 1


def test_weights_of_its_own_stay_its_own(cli: Cli, tmp_path: Path) -> None:
    torch.save(nn.LSTM(10, 20, 2).state_dict(), tmp_path / "model.pt")
    file = str(tmp_path / "model.pt")
    assert cli("compare", "--weights", file, "--right-weights", file, "--stress", "-q").code == 0


def test_gradients_power_and_a_map_are_of_what_was_asked() -> None:
    found = compare(LSTM, stress=True, grad=True, power=True, map=True)
    assert found.gradients
    assert found.stress
    assert (found.stress.gradients, found.stress.reasons.power, found.stress.heat_map) == (None, None, None)


def test_a_sweep_asks_too(cli: Cli, tmp_path: Path) -> None:
    words = ("--kind", "lstm", "--stress", "off,on", "--right", f"{OWN}:ResetsItself", "--out", str(tmp_path / "rows"))
    assert cli("sweep", *words, "-q").code == 1
    rows = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    assert {row["rerun"].endswith("--stress"): row["verdict"] for row in rows} == {
        False: "equivalent",
        True: "different",
    }


# What is told.


def test_the_page_has_what_was_found_under_stress(cli: Cli) -> None:
    text = " ".join(cli("compare", "--kind", "lstm", "--right", f"{OWN}:ResetsItself", "--stress").out.split())
    assert "Verdict: different: equivalent as asked, but not under stress, as the table there says." in text
    assert "Under stress: x and the initial state 30 times as large, in 20 steps" in text
    assert "verdict different: not the same function: in float64" in text
    assert "cause function" in text
    assert "reached |c| up to" in text
    assert f"why The right side ({OWN}:ResetsItself) breaks chunked: in chunks from steps 0, " in text
    assert "first at step 10, layer 0," in text
    assert "More: rnnscope explain chunked" in text


def test_json_has_the_essential_keys(cli: Cli) -> None:
    found = json.loads(cli("compare", "--kind", "lstm", "--right", f"{OWN}:ClipsItsCell", "--stress", "--json").out)
    stress = found["stress"]
    assert (found["verdict"], found["cause"], found["side"]) == ("different", "function", "right")
    assert (stress["verdict"], stress["times"], stress["seq_len"]) == ("different", 30, 20)
    assert stress["first_divergence"]["layer"] == 0
    assert {"lengths", "outputs", "reference", "explanations", "dependences", "reached"} <= stress.keys()
    assert stress["reached"]["c"] > found["reached"]["c"]


def test_the_line_that_reruns_it_asks_too(cli: Cli) -> None:
    assert json.loads(cli("compare", "--stress", "--json").out)["rerun"].endswith("--stress")


def test_memory_is_asked_for_the_longer_input() -> None:
    work, spec = Work.of("compare", {"stress": True}), Spec(seq_len=1000)
    assert needed_bytes(spec, work) == needed_bytes(stressed(spec), Work())
