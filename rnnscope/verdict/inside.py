"""Does a side compute in a coarser arithmetic inside than it is asked to? Then that is rounding, and no other function.

A class with `.float()` in it is 1e-7 off in float64, and so is one with a weight that is off by as little. They are
told apart by this: rounding jumps, a fault moves smoothly. Take the error E against the equations at some numbers, and
at numbers a little more and a little less: E(+) + E(-) - 2·E(0) is of the size of E where it jumps, and near 0 where E
is smooth. And what was rounded to float32 can be said in float32, which in float64 nothing else can but by chance.

The numbers are moved so far that what comes out moves by two units of the arithmetic in question: enough to round
otherwise, and too little to bend a smooth error. That is asked at the numbers of the run and at others of their size,
because a saturated unit rounds the same way again and again.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from rnnscope.network.weights import Input, dtype_name
from rnnscope.pages.progress import stage
from rnnscope.subjects.builtin import other_shape
from rnnscope.verdict.bounds import FLOATS, UNITS, Bounds
from rnnscope.verdict.evidence import Evidence, Side, unless_refused
from rnnscope.verdict.figures import distances
from rnnscope.verdict.problem import Problem, Tensors, first_steps, rounded

FIRST_STEPS = 4
"""Rounding shows in the first steps already, and chaos does not."""

MOVED_BY = 2.0
"""Units of the arithmetic by which what comes out is moved."""

MOST_TIMES, MOST_MOVED = 64.0, 1 / 32
"""The numbers that go in are moved so many times more than that at most, and never by a greater share. Where so many
times less would be too much, chaos bends every error."""

OTHERWISE = 0.5
"""By how much the numbers of a run are changed at most, where others of their size are taken."""

PLACES, MOST_PLACES, ENOUGH = 4, 16, 256
"""Numbers at which is asked whether the error jumps: more of them until there are enough elements, as in one unit."""

JUMPS, JUMPS_UNSEEN = 0.05, 0.2
"""The share of the error that jumps, from which on it is called rounding: to a dtype that was seen in the side, or to
one that was not, as in a kernel of its own. At least 0.12 was measured where a class rounds, and at most 0.07 where it
has a small fault of the function, of which only those with relu were over 0.02."""

SPREAD = 0.01
"""Three quarters of the errors of rounding are at least so large a share of all; where units are saturated, less."""


def with_arithmetics(evidence: Evidence) -> Evidence:
    """The evidence, in which it is known in which dtype and arithmetic the function of each side can be asked for.

    A side that cannot run in float64 is asked in its own dtype, and one that rounds inside in the arithmetic to which
    it rounds.
    """
    evidence = evidence.of_sides(*(_where_it_runs(evidence, side) for side in (evidence.left, evidence.right)))
    if evidence.same_function().within:
        return evidence
    return evidence.of_sides(*(_with_inside(evidence, side) for side in (evidence.left, evidence.right)))


def _where_it_runs(evidence: Evidence, side: Side) -> Side:
    problem = evidence.problem
    asked = side.is_own or (side.foreign and side.foreign.has_float64 is None)
    if not asked or side.spec.dtype == "float64" or not side.has_float64:
        return side
    # Somebody's own class may be built for its number of steps. The whole run of a program will be asked for anyway.
    runs = None if side.foreign else unless_refused(lambda: side.solve(first_steps(problem, 1), "float64"))
    runs = runs or unless_refused(lambda: evidence.exact(side))
    return side if runs else replace(side, has_float64=False)  # in its own dtype it has run already


def _with_inside(evidence: Evidence, side: Side) -> Side:
    """The side with the arithmetic in which it computes inside, if it does."""
    if side.is_recorded or evidence.torchs_function(side).within:
        return side
    with stage(f"{side.role}: rounding or another function"):
        asked = (unless_refused(partial(_told, part, there)) for part, there in _parts(evidence, side))
        told = next(filter(None, asked), side)
    return replace(side, inside=told.inside, is_seen=told.is_seen) if told.inside else side


def _parts(evidence: Evidence, side: Side) -> Iterator[tuple[Evidence, Side]]:
    """The first steps, in which rounding shows and chaos does not; fewer, or tamed, where it does.

    The whole is asked only of what shows later.
    """
    start, one = evidence.first(FIRST_STEPS), evidence.first(1)
    yield start, side
    if evidence.problem.spec.seq_len > 1:
        yield one, side
    if start.tamed:
        tamed = start.tamed[1]
        yield tamed, tamed.left if side.role == "left" else tamed.right
    shown = unless_refused(lambda: start.whole_function(side))
    if shown is None or shown.within:
        yield evidence, side


def _told(part: Evidence, side: Side) -> Side | None:
    """The side with the arithmetic to which it rounds, if that is one; None where a part of the run does not tell."""
    if other_shape(part.problem.spec, part.exact(side)):
        return side
    off = {each.name for each in part.whole_function(side).margins if not each.within}
    if not off:
        return None
    seen = dtypes_inside(side, part.problem)
    told: Side | None = side  # where no arithmetic is so coarse, it is no rounding
    for arithmetic in _candidates(side, seen):
        is_seen = arithmetic in seen
        margins = part.check(arithmetic, part.exact(side), part.bounds_of(side)).margins
        near = [each for each in margins if each.within and each.name in off]
        if len(near) < len(off) and side.is_outside:  # it is no rounding of all that comes out: no more runs are spent
            near = []
        found = _jumps(part, side, arithmetic, [each.name for each in near if each.decided or is_seen])
        if found is None:
            told = None if near else told
            continue
        if found > JUMPS if is_seen else found > JUMPS_UNSEEN and _is_everywhere(part, side):
            return replace(side, inside=arithmetic, is_seen=is_seen)
        told = side
        if is_seen:  # it covers the error, so that none which was not seen is to blame
            break
    return told


def _candidates(side: Side, seen: set[str]) -> list[str]:
    """The arithmetics that are coarser than the side's, those of dtypes that were seen in it first."""
    return sorted(coarser_than(side.exact_arithmetic, FLOATS), key=lambda each: each not in seen)


def coarser_than(arithmetic: str, others: Iterable[str]) -> list[str]:
    """Those that are coarser, the finest first."""
    return sorted((each for each in others if UNITS[each] > UNITS[arithmetic]), key=UNITS.__getitem__)


def seen_to_round(evidence: Evidence, side: Side) -> str | None:
    """The coarser dtype that was seen in a side and explains why it computes worse than its own dtype allows.

    That is one which float64 does not show, as that of torch.autocast.
    """
    seen = dtypes_inside(side, first_steps(evidence.problem, 1), side.spec.dtype)
    coarser, own = coarser_than(side.arithmetic, seen), evidence.in_own_dtype(side)
    runs = (evidence.check(each, own, evidence.bounds_of(side)) for each in coarser)
    return next((check.arithmetic for check in runs if check.within), None)


def dtypes_inside(side: Side, problem: Problem, dtype: str | None = None) -> set[str]:
    """The dtypes of all tensors of floating-point numbers that Python sees in a run of a side."""
    if side.is_outside:
        return set()
    watching = _Watching()
    with watching:
        side.solve(problem, dtype or side.exact_dtype)
    return watching.dtypes


class _Watching(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.dtypes = set[str]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(each, Tensor) and dtype_name(each) in FLOATS:
                self.dtypes.add(dtype_name(each))
        return result


def _jumps(part: Evidence, side: Side, arithmetic: str, names: list[str]) -> float | None:
    """The share of the error of some tensors that jumps where all numbers are moved by some roundings.

    None where chaos bends it everywhere.
    """
    count = min(MOST_PLACES, max(PLACES, ENOUGH // next(iter(part.exact(side).values())).numel()))
    problem, side = side.own_problem(part.problem), replace(side, weights=None)
    dtype, unit = getattr(torch, "float16" if arithmetic == "tf32" else arithmetic), UNITS[arithmetic]
    jumping = whole = 0.0
    for number in range(count) if names else ():
        here = _moved(problem, side, OTHERWISE, number, with_weights=False) if number else problem
        first = _Run(side, here)
        further = _carried(first.exact, Bounds(_moved(here, side, unit, number)).reference, names) / unit
        if further > MOST_TIMES:
            continue
        by = min(MOVED_BY * unit / max(further, 1 / MOST_TIMES), MOST_MOVED)
        runs = (first, *(_Run(side, _moved(here, side, each, number)) for each in (by, -by)))
        for name in names:
            at, more, less = (each.errors[name] for each in runs)
            size = more.abs() + less.abs() + 2 * at.abs()
            said = torch.stack([_can_say(dtype, each.outputs[name]) for each in runs]).all(0)
            jump = torch.where(said, size, (more + less - 2 * at).abs())
            scale = first.outputs[name].abs().max().item() or 1.0
            jumping += (jump / scale).square().sum().item()
            whole += (size / scale).square().sum().item()
        if side.is_outside and jumping < JUMPS**2 * whole:  # other places would take more runs, and tell the same
            break
        if not number and not _repeats(side, problem, first, names):
            return 0.0
    return math.sqrt(jumping / whole) if whole else None


def _is_everywhere(part: Evidence, side: Side) -> bool:
    """Whether the error is in most of the states after one step, as rounding is.

    A unit or a state that is set to 0 below a threshold jumps, too, but alone.
    """
    run = _Run(replace(side, weights=None), side.own_problem(first_steps(part.problem, 1)))
    name = "h" if "h" in run.errors else "y"  # which are the same after one step, but for layers below
    errors = run.errors[name].abs()[run.exact[name] != 0].sort().values
    return len(errors) > 0 and bool(errors[len(errors) // 4] > SPREAD * errors.square().mean().sqrt())


class _Run:
    """What a side gives of a problem, what the equations give, and how far these are apart."""

    def __init__(self, side: Side, problem: Problem) -> None:
        given, self.exact = side.solve(problem, side.exact_dtype), Bounds(problem).reference
        zeros = {name: torch.zeros_like(each) for name, each in self.exact.items()}
        self.errors = distances(problem.spec, given, self.exact)
        self.outputs = distances(problem.spec, given, zeros)


def _repeats(side: Side, problem: Problem, before: _Run, names: list[str]) -> bool:
    """Whether a side gives the same again, so that what jumps is not chance."""
    after = _Run(side, problem).errors
    changed = ((after[name] - before.errors[name]).abs().max() > JUMPS * after[name].abs().max() for name in names)
    return not any(changed)


def _carried(before: Tensors, after: Tensors, names: list[str]) -> float:
    """How far some of what comes out of the equations moves, as a share of itself."""
    found = {name: each for name, each in before.items() if name in names and each.any()}
    shares = ((after[name] - each).abs().max() / each.abs().max() for name, each in found.items())
    return max((each.item() for each in shares), default=0.0)


def _can_say(dtype: torch.dtype, numbers: Tensor) -> Tensor:
    return (numbers.to(dtype).double() == numbers) & (numbers != 0)  # every dtype says 0


def _moved(problem: Problem, side: Side, by: float, seed: int, with_weights: bool = True) -> Problem:
    """The problem with each number moved by a random share of itself; there and back with by and -by."""
    generator = torch.Generator().manual_seed(seed)

    def moved(tensor: Tensor) -> Tensor:
        share = torch.empty_like(tensor, dtype=torch.float64).uniform_(-1, 1, generator=generator)
        return rounded(tensor * (1 + by * share), (side.exact_dtype,))

    given = Input(moved(problem.given.x), tuple(map(moved, problem.given.state)))
    if not (with_weights and side.gets_weights):
        return replace(problem, given=given)
    return replace(problem, given=given, weights={name: moved(each) for name, each in problem.weights.items()})
