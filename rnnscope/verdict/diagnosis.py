"""Why a side is another function, and what a check can see: the known deviations, tried on the equations.

As a hypothesis a deviation explains a side that computes just what it does. As a mutant it is a fault that the check
would catch or miss.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import torch

from rnnscope.errors import RnnscopeError
from rnnscope.pages.progress import stage
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import run_equations
from rnnscope.verdict.bounds import Bounds
from rnnscope.verdict.deviations import Deviation, deviations
from rnnscope.verdict.evidence import Evidence, Side, function_arithmetic
from rnnscope.verdict.figures import distance_within
from rnnscope.verdict.pairs import are_tried, plausible
from rnnscope.verdict.problem import Problem, Tensors, draw_problem, first_steps, rounded

SCREENED = 4
"""The first steps, on which a deviation is tried before it is tried on all of them."""


@dataclass(frozen=True)
class Explanation:
    """What computes what a side does within the bound: a deviation or two at once, and what is left of the difference.

    Args:
        convention: the name of the deviation, or those of both with " + " between them.
        deviations: its name, or both.
    """

    side: str
    convention: str
    does: str
    max_abs: float
    deviations: tuple[str, ...]


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

    missed: this check cannot see it, though one of the same network with more steps and a random h0 can. equivalent:
    that one cannot either. Deviations that do not apply are left out.
    """

    caught: tuple[str, ...]
    missed: tuple[str, ...]
    equivalent: tuple[str, ...]


def explanations(evidence: Evidence, sides: tuple[Side, ...]) -> tuple[Explanation, ...]:
    """The deviations that compute what a side does, where its outputs are not what the equations give.

    Where no single one does, the pairs that do.

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
        for deviation in _each_told(problem.spec):
            if began is None or _left_over(deviation, start, began, used) is not None:
                left_over = _left_over(deviation, problem, evidence.exact(side), used)
                if left_over is not None:
                    found.append(_explanation(side, deviation, left_over))
        if not any(each.side == side.role for each in found):
            found += _pairs(side, (start, began), (problem, evidence.exact(side)), used)
    return tuple(found)


def _explanation(side: Side, deviation: Deviation, left_over: float) -> Explanation:
    return Explanation(side.role, deviation.name, deviation.does, left_over, deviation.names)


def _pairs(
    side: Side, start: tuple[Problem, Tensors | None], whole: tuple[Problem, Tensors], used: str
) -> Iterator[Explanation]:
    """The pairs of deviations that compute what a side does.

    Args:
        start, whole: the first steps and all of them, each with what the side gives; None where it was only recorded.
    """
    (first, began), (problem, actual) = start, whole
    if not are_tried(problem.spec, side.recorded):
        return
    seen = whole if began is None else _shortest(side, first, began)
    for pair in plausible(problem.spec, *seen, used):
        if began is None or _left_over(pair, first, began, used) is not None:
            left_over = _left_over(pair, problem, actual, used)
            if left_over is not None:
                yield _explanation(side, pair, left_over)


def _shortest(side: Side, start: Problem, began: Tensors) -> tuple[Problem, Tensors]:
    """A start, or, where a direction walks backward, the first step alone, if somebody's own class can take that."""
    if start.spec.bidirectional:
        one = first_steps(start, 1)
        with suppress(RnnscopeError):
            return one, side.solve(one, "float64")
    return start, began


def _each_told(spec: Spec) -> Iterator[Deviation]:
    """The deviations that make sense for a Spec; while each is tried, a terminal is told which one it is."""
    every = tuple(deviations(spec))
    for number, each in enumerate(every, 1):
        with stage(f"deviations {number} of {len(every)}"):
            yield each


def _left_over(deviation: Deviation, problem: Problem, actual: Tensors, used: str) -> float | None:
    """How far a run is from a deviation, or None where it computes something else."""
    bounds = Bounds(problem, deviation.run)
    return distance_within(problem.spec, actual, bounds.reference, bounds.precision(used))


def dependences(evidence: Evidence, sides: tuple[Side, ...]) -> tuple[Dependence, ...]:
    """What networks of somebody's own do not use, and whether chance is in what they give.

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
            torch.manual_seed(1)  # otherwise chance would fall as it did before
            repeats = _same(before, side.solve(problem, "float64"))
        exact, ignores = Bounds(problem).reference, []
        for name, each in problem.weights.items():
            other = replace(problem, weights=problem.weights | {name: rounded(1 - each, problem.dtypes)})
            unused = _same(side.solve(other, "float64"), before)
            if unused and not _same(Bounds(other).reference, exact):
                ignores.append(name)
        if ignores or not repeats:
            found.append(Dependence(side.role, tuple(ignores), repeats))
    return tuple(found)


def _same(one: Tensors, other: Tensors) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def power(evidence: Evidence, spec: Spec, differs: Callable[[Evidence], bool], by_reference: bool) -> Power:
    """What would become of each deviation that applies to a Spec.

    Args:
        spec: the comparison's own; the evidence has another one where every step is taken by itself.
        differs: whether the verdict on some evidence is "different".
        by_reference: whether that rests on the reference, so that a y that parts in its first steps is enough.
    """
    problem, left, right = evidence.problem, evidence.left, evidence.right
    if left.recorded:  # what was recorded is there for the whole input alone
        left = replace(left, run=run_equations)
    start = Evidence(first_steps(problem, min(SCREENED, problem.spec.seq_len)), left, right)
    rich = Evidence(rich_probe(problem, spec), left, right)
    where = replace(right.spec, device="cpu")
    used = right.arithmetic if right.recorded else where.dtype  # a mutant is as imprecise as the recording
    caught, missed, equivalent = list[str](), list[str](), list[str]()
    for deviation in _each_told(spec):
        mutant = replace(right, subject=deviation.name, spec=where, run=deviation.run, arithmetic=used)
        at_once = by_reference and _parts_at_once(start.against(mutant))
        if deviation.applies(problem.spec) and (at_once or differs(evidence.against(mutant))):
            caught.append(deviation.name)
        elif rich.against(mutant).same_function().within:
            equivalent.append(deviation.name)
        else:
            missed.append(deviation.name)
    return Power(tuple(caught), tuple(missed), tuple(equivalent))


def _parts_at_once(start: Evidence) -> bool:
    """Whether y differs in the first steps already, which are those of the whole where nothing walks backward."""
    left, right = ({"y": start.exact(side)["y"]} for side in (start.left, start.right))
    bounds = start.bounds.precision(function_arithmetic(start.left, start.right))
    return not start.problem.spec.bidirectional and distance_within(start.problem.spec, right, left, bounds) is None


def rich_probe(problem: Problem, spec: Spec) -> Problem:
    """The same network on an input that shows more: four steps of four items, and a random h0."""
    lengths = spec.lengths and (4, 2, 3, 1)
    rich = replace(problem.spec, seq_len=4, batch_size=4, lengths=lengths, unbatched=False, h0="random")
    rich = replace(rich, batch_first=spec.batch_first)
    return draw_problem(rich, problem.dtypes, problem.cotangents is not None, problem.weights)
