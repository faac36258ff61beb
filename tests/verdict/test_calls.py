"""What a class keeps from call to call is noticed, also where its first call is right; and so is chance."""

import importlib
import json
import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from support import OWN, Cli
from torch import nn

from rnnscope import Comparison, Spec, assert_equivalent, compare
from rnnscope.spec.question import Question
from rnnscope.subjects.devices import running
from rnnscope.verdict.calls import unsteady
from rnnscope.verdict.evidence import Side
from rnnscope.verdict.problem import draw_problem

CALLED = OWN.with_name("networks_called_again.py")

SPEC = Spec(seq_len=6)


def judged(name: str, spec: Spec = SPEC, **question: Any) -> Comparison:
    return compare(spec, "module", f"{CALLED}:{name}", **question)


def told(cli: Cli, name: str, *flags: str) -> str:
    return " ".join(cli("compare", "--right", f"{CALLED}:{name}", *flags).out.split())


# State.

KEEPING: dict[str, tuple[int, tuple[str, ...]]] = {
    "Remembers": (2, ()),
    "RemembersForThreeCalls": (2, ()),
    "WrongInEachFifthCall": (4, ()),
    "Drifts": (2, ("weight_hh_l0",)),
    "RunningMean": (2, ("mean",)),
    "GreatestSoFar": (3, ()),
    "BufferFromTheFirstCall": (2, ("kept",)),
    "CountsAndRemembers": (2, ()),
}
"""Classes whose first call is right: the call that shows what is kept, and the buffers and parameters it is in."""


@pytest.mark.parametrize("name", KEEPING)
def test_state_that_is_kept_is_told_by_the_call_that_shows_it(name: str) -> None:
    (found,) = judged(name).calls
    assert (found.side, found.by) == ("right", "state")
    assert (found.call, found.changes) == KEEPING[name]


@pytest.mark.parametrize("name", KEEPING)
def test_a_right_first_call_does_not_make_it_the_same_function(name: str) -> None:
    found = judged(name)
    assert (found.verdict, found.exit_code, found.cause, found.side) == ("different", 1, "function", "right")
    assert found.reference is not None
    assert found.reference.deviating == ()
    assert found.figures.within_tolerance


@pytest.mark.parametrize("name", KEEPING)
def test_the_page_tells_state_before_anything_else(name: str, cli: Cli) -> None:
    text = told(cli, name)
    assert f"Verdict: different: the right side ({CALLED}:{name}) keeps state from call to call: with the" in text
    assert " apart from call 1. In first calls alone: same function" in text
    assert "More: rnnscope explain function stateless" in text


def test_the_figure_is_the_distance_of_a_call_from_the_first_one() -> None:
    (found,) = judged("Drifts").calls
    problem = draw_problem(SPEC, ("float32",))
    network: Any = nn.RNN(10, 20, 2).double()
    network.load_state_dict(problem.weights)
    x, h0 = problem.given.x[:4].double(), problem.given.state[0]
    with torch.no_grad():
        first = network(x, h0)
        network.weight_hh_l0.mul_(0.999)
        second = network(x, h0)
    apart = max((after - before).abs().max().item() for before, after in zip(first, second, strict=True))
    assert found.max_abs == pytest.approx(apart, rel=1e-9)


@pytest.mark.parametrize(
    "question",
    [{"grad": True}, {"reference": False}, {"resync": True}, {"chunk": 2}, {"chunk": 2, "reference": False}],
    ids=str,
)
@pytest.mark.parametrize("name", ["Remembers", "Drifts"])
def test_state_is_told_whatever_is_asked(name: str, question: dict[str, Any]) -> None:
    if question.get("grad") and name == "Drifts":
        pytest.skip("it changes what gradients need")
    found = judged(name, **question)
    assert (found.verdict, found.cause, found.side) == ("different", "function", "right")
    assert [each.by for each in found.calls] == ["state"]
    assert found.reference is None or found.reference.deviating == ()


@pytest.mark.parametrize(
    "spec",
    [
        Spec(lengths=(3, 1, 2)),
        Spec(unbatched=True),
        Spec(batch_first=True),
        Spec(seq_len=1),
        Spec(batch_size=1, h0="zeros"),
        Spec(dtype="float64"),
        Spec(dtype="bfloat16"),
        Spec(seq_len=30, hidden_size=200, batch_size=20),
    ],
    ids=str,
)
def test_state_is_told_in_every_layout_and_dtype(spec: Spec) -> None:
    assert [each.by for each in judged("Remembers", spec).calls] == ["state"]


def test_a_wrong_first_call_is_told_behind_the_state(cli: Cli) -> None:
    text = told(cli, "IgnoresAndRemembers")
    state, function, kept, why = (
        text.index(each)
        for each in ("keeps state from", "In first calls too: not the same", "Why: The right side", "starts from zeros")
    )
    assert state < function < kept < why
    assert [each.convention for each in judged("IgnoresAndRemembers").explanations] == ["h0 ignored"]


def test_a_norm_by_power_iteration_is_state_and_wrong_in_its_first_call() -> None:
    found = judged("PowerIteration")
    assert [(each.by, each.changes) for each in found.calls] == [("state", ("u",))]
    assert found.reference is not None
    assert found.reference.deviating == ("right",)


def test_another_shape_in_a_later_call_is_state_without_a_place(cli: Cli) -> None:
    (found,) = judged("ShorterInTheSecondCall").calls
    assert (found.by, found.output, found.max_abs, found.index) == ("state", "y", float("inf"), ())
    assert "call 2 gives y inf apart from call 1" in told(cli, "ShorterInTheSecondCall")
    assert '"keeps_state": { "right": "inf" }' in told(cli, "ShorterInTheSecondCall", "--json")


def test_state_on_one_side_and_another_function_on_the_other_are_both_off() -> None:
    found = compare(SPEC, "deviation:W_hh-transposed", f"{CALLED}:Remembers")
    assert (found.cause, found.side) == ("function", None)


def test_both_sides_may_keep_state(cli: Cli) -> None:
    name = f"{CALLED}:Remembers"
    found = compare(SPEC, name, name)
    assert [(each.side, each.by) for each in found.calls] == [("left", "state"), ("right", "state")]
    assert (found.verdict, found.side) == ("different", None)
    assert f"Besides, the right side ({name}) keeps state" in told(cli, "Remembers", "--left", name)


def test_json_has_how_far_another_call_is(cli: Cli) -> None:
    found = json.loads(cli("compare", "--json", "--right", f"{CALLED}:Drifts").out)
    assert found["keeps_state"] == {"right": found["calls"][0]["max_abs"]}
    assert found["calls"][0]["changes"] == ["weight_hh_l0"]
    assert json.loads(cli("compare", "--json").out)["keeps_state"] == {}


# Chance.


@pytest.mark.parametrize("name", ["Rare", "RareByPython", "RareByNumpy", "Dropout", "AnotherDieEachTime"])
def test_chance_is_noticed_and_not_taken_for_state(name: str) -> None:
    if "Numpy" in name:
        pytest.importorskip("numpy")
    found = judged(name)
    assert [each.by for each in found.calls] == ["chance"]
    assert (found.verdict, found.cause, found.side) == ("different", "function", "right")
    assert found.document()["keeps_state"] == {}


def test_rare_chance_is_told_where_the_verdict_would_be_fine(cli: Cli) -> None:
    torch.manual_seed(0)  # the first numbers of which are not below 0.2
    text = told(cli, "Rare")
    assert "does not give the same each time it is run: y[" in text
    assert "In first calls alone: same function" in text
    assert text.count("gives something else each time it is run.") == 1


def test_chance_that_parts_the_sides_anyway_is_told_once_as_the_reason(cli: Cli) -> None:
    text = told(cli, "Dropout")
    assert "Verdict: different: not the same function" in text
    assert text.count("each time it is run") == 1


def test_what_is_kept_for_all_instances_is_not_told_as_state_of_one() -> None:
    assert [each.by for each in judged("RemembersForAll").calls] == ["chance"]


# Nothing to tell.


@pytest.mark.parametrize(
    "name", ["Counts", "KeepsUnusedWeights", "KeepsItsZeros", "SpoilsItsInput", "RefusesOtherInput", "NotesItsSteps"]
)
@pytest.mark.parametrize("question", [{}, {"grad": True}, {"reference": False}], ids=str)
def test_a_cache_that_changes_nothing_is_no_finding(name: str, question: dict[str, Any]) -> None:
    if question.get("grad") and name in ("KeepsUnusedWeights", "SpoilsItsInput"):
        pytest.skip("it changes what gradients need")
    found = judged(name, **question)
    assert (found.calls, found.exit_code) == ((), 0)


def test_only_the_first_steps_are_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(CALLED.parent))
    networks = importlib.import_module(CALLED.stem)
    networks.seen.clear()
    assert compare(Spec(seq_len=50), right=f"{CALLED.stem}:NotesItsSteps").exit_code == 0
    whole = [each for each in networks.seen if each == 50]
    assert len(whole) == 3  # in its own dtype, and twice in float64
    assert set(networks.seen) == {1, 4, 50}
    assert networks.seen.count(4) <= 21  # with those by which its form is found out


def test_a_side_that_is_not_somebodys_own_is_not_called() -> None:
    def run(*_: Any) -> Any:
        raise AssertionError("it was called")

    with running(SPEC) as placed:
        side = Side("right", "cells", placed, run, "float32")
        assert unsteady(draw_problem(placed, ("float32",)), side, in_float64=True) == ()


def test_random_states_are_afterwards_what_they_were() -> None:
    before = torch.get_rng_state(), random.getstate()
    judged("Counts")
    judged("Drifts")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


# Modules that are there.


class Keeps(nn.Module):
    """Keeps its state in itself, as streaming code does."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn
        self.kept: Any = None

    def forward(self, x: Any, hx: Any = None) -> Any:
        y, self.kept = self.rnn(x, hx if self.kept is None else self.kept)
        return y, self.kept


@pytest.fixture
def gru() -> nn.GRU:
    torch.manual_seed(0)
    return nn.GRU(3, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_module_that_keeps_state_is_told_and_left_as_it_is(gru: nn.GRU, dtype: torch.dtype) -> None:
    module = Keeps(gru.to(dtype))
    before = deepcopy(module.state_dict())
    found = compare(gru, module, torch.randn(6, 5, 3, dtype=dtype), torch.randn(1, 5, 4, dtype=dtype))
    assert [(each.side, each.by) for each in found.calls] == [("right", "state")]
    assert (found.verdict, found.side) == ("different", "right")
    assert module.kept is None
    assert all(torch.equal(each, before[name]) for name, each in module.state_dict().items())


def test_a_module_whose_state_cannot_be_float64_is_told_all_the_same(gru: nn.GRU) -> None:
    module, x = Keeps(gru), torch.randn(6, 5, 3)
    with torch.no_grad():
        module(x)
    found = compare(gru, module, x)
    assert [each.by for each in found.calls] == ["state"]
    assert found.reference
    assert (found.verdict, found.cause, found.reference.without_float64) == ("different", "function", ("right",))
    with pytest.raises(AssertionError, match="keeps state from call to call"):
        assert_equivalent(gru, module, x)


def test_a_module_without_state_has_nothing_told(gru: nn.GRU) -> None:
    found = compare(gru, nn.Sequential(deepcopy(gru)), torch.randn(6, 5, 3), question=Question(grad=True))
    assert (found.calls, found.verdict) == ((), "identical")


@pytest.mark.parametrize("name", ["Remembers", "Rare"])
def test_the_same_flags_give_the_same_bytes(name: str, cli: Cli, tmp_path: Path) -> None:
    assert told(cli, name, "--json") == told(cli, name, "--json")
