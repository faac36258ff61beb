"""Why a side is another function, and what a check can see: the known deviations, tried on the equations.

As a hypothesis a deviation explains a side that computes just what it does; as a mutant it is a fault that the check
would catch or miss. The deviations themselves are in conventions.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import run_equations
from rnnscope.verdict.bounds import Bounds
from rnnscope.verdict.deviations import Deviation, deviations
from rnnscope.verdict.evidence import Evidence, Side, function_arithmetic
from rnnscope.verdict.figures import all_within, distances
from rnnscope.verdict.problem import Problem, Tensors, draw_problem, first_steps, rounded

SCREENED = 4
"""The first steps, on which a deviation is tried before it is tried on all of them."""


@dataclass(frozen=True)
class Explanation:
    """A deviation that brings a side within the bound, and what is left of the difference."""

    side: str
    convention: str
    does: str
    max_abs: float


@dataclass(frozen=True)
class Dependence:
    """What somebody's own network does with its weights.

    Args:
        side: left or right.
        ignores: the weights on which its output does not depend, though the equations' does.
        repeats: whether it gives the same when it is run again.
    """

    side: str
    ignores: tuple[str, ...]
    repeats: bool


@dataclass(frozen=True)
class Power:
    """What would become of each deviation on the right side, by their names.

    `missed`: this check cannot see it, though one of the same network with more steps and a random h0 can.
    `equivalent`: that one cannot either. Deviations that do not apply are left out.
    """

    caught: tuple[str, ...]
    missed: tuple[str, ...]
    equivalent: tuple[str, ...]


def explanations(evidence: Evidence, sides: tuple[Side, ...]) -> tuple[Explanation, ...]:
    """The deviations that compute what a side does, where its outputs are not what the equations give.

    Args:
        sides: those that are not torch's function.
    """
    found = []
    for side in sides:
        if evidence.outputs_are_torchs(side):
            continue
        problem, used = replace(side.own_problem(evidence.problem), cotangents=None), function_arithmetic(side)
        start = first_steps(problem, min(SCREENED, problem.spec.seq_len))
        began = None if side.recorded else side.solve(start, "float64")
        for deviation in deviations(problem.spec):
            if began is None or _left_over(start, deviation, began, used) is not None:
                max_abs = _left_over(problem, deviation, evidence.exact(side), used)
                if max_abs is not None:
                    found.append(Explanation(side.role, deviation.name, deviation.does, max_abs))
    return tuple(found)


def dependences(evidence: Evidence, sides: tuple[Side, ...]) -> tuple[Dependence, ...]:
    """What networks of somebody's own do not use, or do by chance.

    Args:
        sides: those that are not torch's function.
    """
    found = []
    start = first_steps(replace(evidence.problem, cotangents=None), min(SCREENED, evidence.problem.spec.seq_len))
    for side in sides:
        if not (side.is_own and side.gets_weights):
            continue
        problem, side = side.own_problem(start), replace(side, weights=None)
        before = side.solve(problem, "float64")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)  # or chance would fall as it did before
            again = side.solve(problem, "float64")
        exact = Bounds(problem).reference
        ignores = []
        for name, each in problem.weights.items():
            other = replace(problem, weights=problem.weights | {name: rounded(1 - each, problem.dtypes)})
            unused = _same(side.solve(other, "float64"), before)
            if unused and not _same(Bounds(other).reference, exact):
                ignores.append(name)
        if ignores or not _same(before, again):
            found.append(Dependence(side.role, tuple(ignores), _same(before, again)))
    return tuple(found)


def _same(one: Tensors, other: Tensors) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def _left_over(problem: Problem, deviation: Deviation, actual: Tensors, used: str) -> float | None:
    """The greatest difference of what a side gave from what a deviation gives, or None where it is over the bound."""
    bounds = Bounds(problem, deviation.run)
    expected = bounds.reference
    if any(actual[name].shape != each.shape for name, each in expected.items()):
        return None
    errors = distances(problem.spec, actual, expected)
    if not all_within(problem.spec, errors, bounds.precision(used)):
        return None
    return max(each.abs().max().item() for each in errors.values())


def power(evidence: Evidence, spec: Spec, differs: Callable[[Evidence], bool], by_reference: bool) -> Power:
    """What would become of each deviation that applies to a Spec.

    Args:
        spec: the comparison's own; the evidence's is another one where every step is taken by itself.
        differs: whether the verdict on some evidence is "different".
        by_reference: whether that rests on the reference, so that a y that parts in its first steps is enough.
    """
    problem = evidence.problem
    verdicts: dict[str, list[str]] = {"caught": [], "missed": [], "equivalent": []}
    left, right = evidence.left, evidence.right
    where = replace(right.spec, device="cpu")
    if left.recorded:  # what was recorded is there for the whole input alone
        left = replace(left, run=run_equations)
    start, rich = (
        Evidence(each, left, right)
        for each in (first_steps(problem, min(SCREENED, problem.spec.seq_len)), rich_probe(problem, spec))
    )
    for deviation in deviations(spec):
        # Of a recorded side the mutants are as imprecise as the recording.
        used = right.arithmetic if right.recorded else where.dtype
        mutant = replace(right, subject=deviation.name, spec=where, run=deviation.run, arithmetic=used)
        at_once = by_reference and _parts_at_once(start.against(mutant))
        if deviation.applies(problem.spec) and (at_once or differs(evidence.against(mutant))):
            verdicts["caught"].append(deviation.name)
        else:
            seen = not rich.against(mutant).same_function().within
            verdicts["missed" if seen else "equivalent"].append(deviation.name)
    return Power(**{name: tuple(each) for name, each in verdicts.items()})


def _parts_at_once(start: Evidence) -> bool:
    """Whether y differs in the first steps already, which are those of the whole where nothing walks backward."""
    spec = start.problem.spec
    errors = distances(spec, {"y": start.exact(start.right)["y"]}, {"y": start.exact(start.left)["y"]})
    bounds = start.bounds.precision(function_arithmetic(start.left, start.right))
    return not spec.bidirectional and not all_within(spec, errors, bounds)


def rich_probe(problem: Problem, spec: Spec) -> Problem:
    """The same network on an input that shows more: four steps of four items, and a random h0."""
    lengths = spec.lengths and (4, 2, 3, 1)
    rich = replace(
        problem.spec,
        seq_len=4,
        batch_size=4,
        unbatched=False,
        lengths=lengths,
        h0="random",
        batch_first=spec.batch_first,
    )
    return draw_problem(rich, problem.dtypes, problem.cotangents is not None, problem.weights)
