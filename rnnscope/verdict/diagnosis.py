"""Why a side is another function, and what a check can see: the known deviations, tried on the equations.

As a hypothesis a deviation explains a side that computes just what it does. As a mutant it is a fault that the check
would catch or miss.

Two at once are tried where no single one explains a side. There are a thousand pairs: where no direction walks
backward, the first step of y tells nearly all of them apart, and what is left is tried as single deviations are.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch

from rnnscope.network.shapes import direction_parameters
from rnnscope.network.weights import Input, time_of
from rnnscope.pages.progress import stage
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import run_equations
from rnnscope.verdict.bounds import INT8, UNITS, Bounds
from rnnscope.verdict.deviations import Deviation, batch_and_time_swapped, deviations, pairs_of_deviations
from rnnscope.verdict.evidence import Evidence, Side, function_arithmetic, unless_refused
from rnnscope.verdict.figures import HOPELESS_EARLY, Check, distance_within, is_of_outputs
from rnnscope.verdict.inside import coarser_than, dtypes_inside
from rnnscope.verdict.problem import Problem, Tensors, draw_problem, first_steps, rounded, solve

SCREENED = 4
"""The first steps, on which a deviation is tried before it is tried on all of them."""

MOST_FOR_PAIRS = 4e10
"""Multiplications that a search may take: some ten seconds. Of a larger network no pairs are tried."""

_LEAST, _LEAST_ITEMS = 1e6, 16
"""A step of a layer takes as long as so many multiplications, and as that of so many items, however small it is."""


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
    """What a network does with its weights and its initial state.

    Args:
        side: left or right.
        ignores: the weights, and the rows of h0 and c0, on which its output does not depend. The equations' does.
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
    found = list[Explanation]()
    for side in sides:
        part = _deciding(evidence, side)
        if part is not None:
            told = (
                _explained(part, side, used, tried(part, side, used))
                for tried in (_singles, _pairs)
                for used in _arithmetics(part, side)
            )
            found += next(filter(None, told), [])
    return tuple(found)


def _deciding(evidence: Evidence, side: Side) -> Evidence | None:
    """As much of the run as decides, or None where the outputs of a side are the equations' there.

    Where rounding moves everything, every deviation is within its bound.
    """
    part: Evidence | None = evidence
    while part is not None:
        outputs = [each for each in part.whole_function(side).margins if is_of_outputs(each.name)]
        if all(each.decided for each in outputs):
            return None if all(each.within for each in outputs) else part
        part = None if side.is_recorded or part.problem.spec.seq_len == 1 else part.beginning
    return None


def _arithmetics(part: Evidence, side: Side) -> Iterator[str]:
    """That in which the function of a side is asked for, then a coarser one that was seen in it.

    A program may read float64, and compute in float32 all the same, which nobody sees.
    """
    yield side.exact_arithmetic
    if side.is_outside:
        yield from coarser_than(side.exact_arithmetic, ["float32"])
    elif not side.is_recorded:
        yield from coarser_than(side.exact_arithmetic, dtypes_inside(side, part.problem))


def _explained(part: Evidence, side: Side, used: str, tried: Iterable[Deviation]) -> list[Explanation]:
    """Those deviations that compute what a side does on a part of the run, and not what torch does there."""
    whole, actual = _without_gradients(part), part.exact(side)
    start = _without_gradients(part, SCREENED)
    screened = None if side.is_recorded else unless_refused(lambda: start.exact(side))
    found = []
    for deviation in tried:
        if screened is None or _explains(deviation, start, side, screened, used):
            left_over = _explains(deviation, whole, side, actual, used)
            if left_over and left_over.decided and not _is_torchs(deviation, whole, side):
                names = deviation.names
                found.append(Explanation(side.role, deviation.name, deviation.does, left_over.max_abs, names))
    return found


def _singles(part: Evidence, side: Side, used: str) -> Iterator[Deviation]:
    return _each_told(part.problem.spec)


def _pairs(part: Evidence, side: Side, used: str) -> Iterator[Deviation]:
    """The pairs of deviations that come near to what a side does."""
    if pairs_are_tried(part.problem.spec, side.is_recorded):
        seen = _without_gradients(part) if side.is_recorded else _shortest(part, side)
        yield from _plausible(part.problem.spec, side.own_problem(seen.problem), seen.exact(side), used)


def _shortest(part: Evidence, side: Side) -> Evidence:
    """A start, or, where a direction walks backward, the first step alone; all where somebody's own class needs all."""
    for steps in (1, SCREENED) if part.problem.spec.bidirectional else (SCREENED,):
        start = _without_gradients(part, steps)
        if unless_refused(partial(start.exact, side)):
            return start
    return _without_gradients(part)


def pairs_are_tried(spec: Spec, recorded: bool = False) -> bool:
    """Whether pairs are tried on a network; a recorded run with a backward direction is seen as a whole."""
    sizes = (math.prod(p.shape) for layer in range(spec.num_layers) for p in direction_parameters(spec, layer, 0))
    multiplications = sum(sizes) * max(spec.batch_size, _LEAST_ITEMS)
    a_step = spec.directions * max(multiplications, spec.num_layers * _LEAST)
    steps = spec.seq_len if recorded and spec.bidirectional else 1
    return steps * a_step * sum(1 for _ in pairs_of_deviations(spec)) <= MOST_FOR_PAIRS


def _plausible(spec: Spec, problem: Problem, actual: Tensors, used: str) -> Iterator[Deviation]:
    """The pairs that come so near to what a side gave that rounding in an arithmetic might explain the rest.

    Args:
        spec: of the whole problem.
        problem: it, or its beginning.
    """
    every = tuple(pairs_of_deviations(spec))
    near = min(0.1, max(HOPELESS_EARLY * UNITS["float64"], 1000 * UNITS[used]))
    first = first_steps(problem, 1)
    y = {"y": actual["y"].narrow(time_of(spec), 0, 1)} if "y" in actual else {}
    for number, pair in enumerate(every, 1):
        with stage(f"pairs of deviations {number} of {len(every)}"):
            walks_in_time = y and not spec.bidirectional and pair.walker is not batch_and_time_swapped
            if _is_near(pair, *((first, y) if walks_in_time else (problem, actual)), near):
                yield pair


def _is_near(pair: Deviation, problem: Problem, actual: Tensors, near: float) -> bool:
    found = solve(pair.run, problem.spec, problem)
    expected = {name: each.cpu().double() for name, each in actual.items()}
    return all(
        found[name].shape == each.shape and (found[name] - each).abs().max().item() <= near * each.abs().max().item()
        for name, each in expected.items()
    )


def _without_gradients(evidence: Evidence, steps: int | None = None) -> Evidence:
    """The same sides without gradients, on the first steps alone where that is asked."""
    found = evidence
    if evidence.problem.cotangents is not None:
        found = Evidence(replace(evidence.problem, cotangents=None), evidence.left, evidence.right)
    return found if steps is None else found.first(steps)


def _is_torchs(deviation: Deviation, evidence: Evidence, side: Side) -> bool:
    """Whether a deviation is torch's own function on this problem, so that it explains nothing."""
    other = Bounds(side.own_problem(evidence.problem), deviation.run).reference
    return evidence.check("float64", other, evidence.bounds_of(side)).within


def _each_told(spec: Spec) -> Iterator[Deviation]:
    """The deviations that make sense for a Spec; while each is tried, a terminal is told which one it is."""
    every = tuple(deviations(spec))
    for number, each in enumerate(every, 1):
        with stage(f"deviations {number} of {len(every)}"):
            yield each


def _explains(deviation: Deviation, evidence: Evidence, side: Side, actual: Tensors, used: str) -> Check | None:
    """How near a run of a side is to a deviation, or None where it computes something else."""
    bounds = Bounds(side.own_problem(evidence.problem), deviation.run)
    if any(actual[name].shape != each.shape for name, each in bounds.reference.items()):
        return None
    check = evidence.check(used, actual, bounds)
    return check if check.within else None


def dependences(evidence: Evidence, sides: tuple[Side, ...], explained: Collection[str] = ()) -> tuple[Dependence, ...]:
    """What sides do not use, and whether chance is in what they give.

    Args:
        sides: those that are not torch's function.
        explained: those that deviations explain. Of these the initial state is not asked, which would be said twice.
    """
    found = []
    for side in sides:
        of_weights = side.gets_weights and (side.is_own or side.foreign is not None)
        of_state = side.has_steps and not side.is_recorded and evidence.problem.spec.h0 == "random"
        of_state = of_state and side.role not in explained
        if not (of_weights or of_state):
            continue
        whole, side = side.own_problem(replace(evidence.problem, cotangents=None)), replace(side, weights=None)
        problem = first_steps(whole, SCREENED)
        before = unless_refused(partial(side.solve, problem, side.exact_dtype))
        if before is None:  # it may be built for its number of steps
            problem, before = whole, side.solve(whole, side.exact_dtype)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)  # otherwise chance would fall as it did before
            repeats = _same(before, side.solve(problem, side.exact_dtype))
        ignores = _unused(side, problem, before, _other_weights(problem)) if of_weights and repeats else []
        ignores += _unused(side, problem, before, _other_states(problem, ignores)) if of_state and repeats else []
        if ignores or (of_weights and not repeats):
            found.append(Dependence(side.role, tuple(ignores), repeats))
    return tuple(found)


def _unused(side: Side, problem: Problem, before: Tensors, others: Iterable[tuple[str, Problem]]) -> list[str]:
    """The names of what makes no difference to a side, though it does to the equations.

    before: what the side gives of the problem.
    """
    exact, found = Bounds(problem).reference, []
    for name, other in others:
        if _same(side.solve(other, side.exact_dtype), before) and not _same(Bounds(other).reference, exact):
            found.append(name)
    return found


def _other_weights(problem: Problem) -> Iterator[tuple[str, Problem]]:
    """The same problem with other numbers in one weight, by its name."""
    for name, each in problem.weights.items():
        yield name, replace(problem, weights=problem.weights | {name: rounded(1 - each, problem.dtypes)})


def _other_states(problem: Problem, ignored: Collection[str]) -> Iterator[tuple[str, Problem]]:
    """The same problem with other numbers in one row of the initial state: h0[1], which is a layer's in a direction.

    ignored: weights. What they would multiply is not used either, which would be said twice.
    """
    spec, given = problem.spec, problem.given
    places = [(layer, direction) for layer in range(spec.num_layers) for direction in range(spec.directions)]
    for number, name in enumerate(("h0", "c0")[: len(given.state)]):
        for layer, direction in places:
            row = spec.row_of(layer, direction)
            if name == "h0" and f"weight_hh_l{layer}{'_reverse' if direction else ''}" in ignored:
                continue
            other = [each.clone() for each in given.state]
            other[number][row] = rounded(1 - other[number][row], problem.dtypes)
            yield f"{name}[{row}]", replace(problem, given=Input(given.x, tuple(other)))


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
    if left.is_recorded:  # what was recorded is there for the whole input alone
        left = replace(left, run=run_equations)
    start = Evidence(problem, left, right).first(SCREENED)
    rich = Evidence(rich_probe(problem, spec), left, right)
    where = replace(right.spec, device="cpu")
    # A mutant is as imprecise as the recording, or as int8.
    used = right.arithmetic if right.is_recorded or right.arithmetic == INT8 else where.dtype
    caught, missed, equivalent = list[str](), list[str](), list[str]()
    for deviation in _each_told(spec):
        mutant = replace(right, subject=deviation.name, spec=where, run=deviation.run, arithmetic=used)
        if by_reference:
            start.exact(left)  # once, and not against each mutant
        at_once = by_reference and _parts_at_once(start.against(mutant))
        if deviation.applies(problem.spec) and (at_once or differs(evidence.against(mutant))):
            caught.append(deviation.name)
            continue
        rich.exact(left)
        outcome = equivalent if rich.against(mutant).same_function().within else missed
        outcome.append(deviation.name)
    return Power(tuple(caught), tuple(missed), tuple(equivalent))


def _parts_at_once(start: Evidence) -> bool:
    """Whether y differs in the first steps already, which are those of the whole where nothing walks backward."""
    if start.problem.spec.bidirectional or "y" not in start.problem.compared:
        return False
    left, right = ({"y": start.exact(side)["y"]} for side in (start.left, start.right))
    bounds = start.bounds.precision(function_arithmetic(start.left, start.right))
    return distance_within(start.problem.spec, right, left, bounds) is None


def rich_probe(problem: Problem, spec: Spec) -> Problem:
    """The same network on an input that shows more: four steps of four items, and a random h0."""
    lengths = spec.lengths and (4, 2, 3, 1)
    rich = replace(problem.spec, seq_len=4, batch_size=4, lengths=lengths, unbatched=False, h0="random")
    rich = replace(rich, batch_first=spec.batch_first)
    return draw_problem(rich, problem.dtypes, problem.cotangents is not None, problem.weights)
