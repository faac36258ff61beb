"""Right networks that are written otherwise are the same function, and no item of a batch hides a fault of another."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import Cli
from writings import SIGMOIDS, TANHS, written

from rnnscope import Spec
from rnnscope.network.weights import Input, Weights
from rnnscope.subjects.builtin import SUBJECTS, Run, run_equations
from rnnscope.verdict.evidence import Evidence, Side
from rnnscope.verdict.problem import Problem, draw_problem, rounded


def evidence(problem: Problem, run: Callable[..., Run]) -> Evidence:
    """torch's module against another way of computing it, in float32."""
    spec = replace(problem.spec, dtype="float32")
    left = Side("left", "module", spec, SUBJECTS["module"], "float32")
    return Evidence(problem, left, Side("right", "own", spec, run, "float32"))


def assert_the_same(found: Evidence) -> None:
    for check in (found.same_function(), found.precision(found.left), found.precision(found.right)):
        assert check.within
        assert check.decided


@pytest.mark.parametrize("grad", [False, True], ids=["forward", "gradients"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 3.0])
@pytest.mark.parametrize("tanh", [name for name in TANHS if name != "torch.tanh"])
@pytest.mark.parametrize("sigmoid", [name for name in SIGMOIDS if name != "torch.sigmoid"])
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_another_formula_of_an_activation_is_the_same_function(
    kind: str, sigmoid: str, tanh: str, scale: float, grad: bool
) -> None:
    spec = Spec(kind=kind, num_layers=1, hidden_size=4)
    problem = draw_problem(spec, ("float32",), grad)
    weights = {name: rounded(scale * each, ("float32",)) for name, each in problem.weights.items()}
    step = written(kind, SIGMOIDS[sigmoid], TANHS[tanh])

    def own(spec: Spec, weights: Weights, given: Input) -> Run:
        return run_equations(spec, weights, given, step)

    assert_the_same(evidence(replace(problem, weights=weights), own))


@pytest.mark.parametrize("seed", range(40))
def test_biases_that_cancel_are_their_sum(seed: int) -> None:
    problem = draw_problem(Spec(input_size=1, hidden_size=1, num_layers=1, batch_size=1, seed=seed), ("float32",))
    bias = rounded(7 * torch.rand(1, generator=torch.Generator().manual_seed(seed)).double(), ("float32",))
    weights = problem.weights | {"bias_ih_l0": bias, "bias_hh_l0": -bias}

    def summed(spec: Spec, weights: Weights, given: Input) -> Run:
        zero = torch.zeros_like(weights["bias_hh_l0"])
        return run_equations(spec, weights | {"bias_ih_l0": zero, "bias_hh_l0": zero}, given)

    assert_the_same(evidence(replace(problem, weights=weights), summed))


@pytest.mark.parametrize(("factor", "code"), [(1.0, 0), (1.01, 1)], ids=["right", "1 % off"])
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_a_loud_item_of_a_recorded_batch_hides_no_quiet_one(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, factor: float, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    x, h0 = torch.randn(3, 5, 10, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 5, 20)
    x[:, 0] *= 1e-4
    torch.save({"x": x, "h0": h0} | ({"c0": h0} if kind == "lstm" else {}), "x.pt")
    words = ("--kind", kind, "--no-bias", "--inputs", "x.pt")
    assert cli("compare", *words, "--record", "run.pt").code == 0
    run = torch.load("run.pt")
    run["y"][:, 0] *= factor
    torch.save(run, "run.pt")
    assert cli("compare", "--left", "equations", "--right", "recorded:run.pt").code == code


def test_a_right_recorded_run_of_a_chaotic_network_is_not_blamed() -> None:
    """It cannot be run again, with tamed weights as little as with others."""
    problem = draw_problem(Spec(hidden_size=64, num_layers=1, seq_len=100, threads=1), ("float32",))
    problem = replace(problem, weights={name: 8 * each for name, each in problem.weights.items()})
    right = Side("right", "recorded", problem.spec, SUBJECTS["module"], "float32")
    kept = right.solve(problem, "float32")
    run = Run(kept["y"], (kept["h"],))
    right = replace(right, run=lambda *_: run, is_recorded=True, has_float64=False, has_layers=False, has_steps=False)
    left = Side("left", "equations", problem.spec, SUBJECTS["equations"], "float32")
    check = Evidence(problem, left, right).same_function()
    assert (check.within, check.decided, check.tamed_by) == (True, False, None)
