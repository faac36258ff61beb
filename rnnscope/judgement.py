"""Are two sides the same function, and does each compute as well as its arithmetic allows? The runs and the figures.

How far rounding may go is measured in bounds.py; what verdict follows from the figures is comparison.py's business.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from rnnscope.bounds import Yardstick, greatest, index_of, walked
from rnnscope.devices import arithmetic, running
from rnnscope.differences import flat_index, nan_last
from rnnscope.problems import Problem, Solver, Tensors, first_steps, solve, step_by_step
from rnnscope.spec import Spec
from rnnscope.subjects import Subject

HOPELESS = 100.0
"""An error that is so many times over a bound is over every wider one: no more runs are spent on it."""


@dataclass(frozen=True)
class Margin:
    """One tensor: its greatest error, and the error and the bound at `index`, where they are nearest to each other.

    `decided` is False where the bound is too wide for "within" to say anything.
    """

    name: str
    max_abs: float
    error: float
    bound: float
    index: tuple[int, ...]
    within: bool
    decided: bool

    @property
    def nearness(self) -> tuple[bool, float]:
        """How near to its bound it is, NaN above all."""
        return nan_last(self.error / self.bound if self.error else 0.0)


@dataclass(frozen=True)
class Check:
    """One question asked of every tensor, and the arithmetic whose rounding was allowed for.

    `step_by_step`: whole runs decided nothing, so that every step was taken by itself from the reference's state.
    """

    arithmetic: str
    margins: tuple[Margin, ...]
    step_by_step: bool = False

    @property
    def within(self) -> bool:
        """Whether no tensor is over its bound."""
        return all(each.within for each in self.margins)

    @property
    def decided(self) -> bool:
        """Whether the answer says something: a tensor is over, or all are within bounds that are not too wide."""
        return not self.within or all(each.decided for each in self.margins)

    @property
    def max_abs(self) -> float:
        """The greatest error of all."""
        return max((each.max_abs for each in self.margins), key=nan_last)

    @property
    def worst(self) -> Margin:
        """The tensor that is nearest to its bound, or furthest over it."""
        return max(self.margins, key=lambda each: each.nearness)


@dataclass(frozen=True)
class Side:
    """One subject: its name, a Spec with the device and the dtype of its own, and what runs it."""

    subject: str
    spec: Spec
    run: Subject

    def solve(self, problem: Problem, dtype: str, solver: Solver = solve) -> Tensors:
        """What it gives on its device in a dtype."""
        with running(replace(self.spec, dtype=dtype), problem.cotangents is not None) as placed:
            return solver(self.run, placed, problem)

    @property
    def arithmetic(self) -> str:
        """What its products are rounded to."""
        with running(self.spec) as placed:
            return arithmetic(placed, fused=self.subject == "module")


class Evidence:
    """The runs of one problem, each made when it is first asked for, and the checks that they allow.

    Args:
        solver: `solve`, or one that shows every layer.
    """

    def __init__(self, problem: Problem, left: Side, right: Side, solver: Solver = solve) -> None:
        self.problem, self.left, self.right, self._solver = problem, left, right, solver
        self.yardstick = Yardstick(problem, solver=solver)
        self._runs: dict[tuple[Side, str], Tensors] = {}

    def against(self, right: Side) -> "Evidence":
        """The same left side against another right one; what has been run is not run again."""
        other = Evidence(self.problem, self.left, right, self._solver)
        other.yardstick, other._runs = self.yardstick, dict(self._runs)
        for name in self.__dict__.keys() & {"by_steps", "beginning"}:
            setattr(other, name, getattr(self, name).against(right))
        return other

    def own(self, side: Side) -> Tensors:
        """What a side gives in its own dtype."""
        return self._run(side, side.spec.dtype)

    def exact(self, side: Side) -> Tensors:
        """What a side gives in float64, on its own device."""
        return self._run(side, "float64")

    def _run(self, side: Side, dtype: str) -> Tensors:
        if (side, dtype) not in self._runs:
            self._runs[side, dtype] = side.solve(self.problem, dtype, self._solver)
        return self._runs[side, dtype]

    @cached_property
    def by_steps(self) -> "Evidence":
        """The same sides on every step by itself."""
        return Evidence(step_by_step(self.problem), self.left, self.right)

    @cached_property
    def beginning(self) -> "Evidence":
        """The same sides on the first half of the steps."""
        half = first_steps(self.problem, (self.problem.spec.seq_len + 1) // 2)
        return Evidence(half, self.left, self.right)

    def same_function(self) -> Check:
        """Do both sides compute the same? In float64, where a side's own precision is out of the way."""
        return self._decided(lambda of: of.check("float64", of.exact(of.right), of.exact(of.left), of.function_bounds))

    def torchs_function(self, side: Side) -> Check:
        """Does a side compute what the reference does? In float64."""
        return self._decided(lambda of: of.check("float64", of.exact(side), of.yardstick.reference, of.function_bounds))

    def _decided(self, ask: Callable[["Evidence"], Check]) -> Check:
        """The answer of whole runs, or where rounding decides them, of the first steps and of every step by itself.

        Rounding does not yet decide the first steps, in which the loop shows, nor a step that nothing was carried into.
        """
        check, part = ask(self), self
        if check.decided or self.problem.places is not None:
            return check
        while not check.decided and part.problem.spec.seq_len > 1:
            part = part.beginning
            check = ask(part)
        return replace(check if not check.within else ask(self.by_steps), step_by_step=True)

    @property
    def function_bounds(self) -> Iterator[Tensors]:
        """Ever wider bounds under which two runs in float64 are the same function."""
        return self.yardstick.function()

    def precision(self, side: Side) -> Check:
        """Is a side as near the reference as its arithmetic allows?"""
        used = side.arithmetic
        check = self.check(used, self.own(side), self.yardstick.reference, self.yardstick.precision(used))
        if check.decided or self.problem.places is not None:
            return check
        return replace(self.by_steps.precision(side), step_by_step=True)

    def about_float32(self, side: Side) -> bool:
        """Is what a side gives in float64 as near the reference as float32 would be, and is that near?"""
        check = self.check("float32", self.exact(side), self.yardstick.reference, self.yardstick.precision("float32"))
        return check.within and check.decided

    def check(self, used: str, actual: Tensors, expected: Tensors, bounds: Iterator[Tensors]) -> Check:
        """The margins of each tensor under the first of ever wider bounds that holds them all."""
        spec, errors = self.problem.spec, distances(actual, expected)
        found = settled(spec, errors, bounds)
        margins = []
        for name, each in errors.items():
            decided = found.is_floor or not self.yardstick.too_wide(name, found.bound)
            here = margin(spec, name, each, found.bound[name], decided)
            margins.append(replace(here, index=_index_in_whole(self.problem, name, here.index)))
        return Check(used, tuple(margins))


def _index_in_whole(problem: Problem, name: str, index: tuple[int, ...]) -> tuple[int, ...]:
    """Where every step is taken by itself: (step, item, unit) in x and y, (step, row, item, unit) in states."""
    if problem.places is None or name not in ("x", "y", "h0", "c0", "h", "c"):
        return index
    row, place, unit = index
    step, item = problem.places[place].tolist()
    return (step, item, unit) if name in ("x", "y") else (step, row, item, unit)


def distances(actual: Tensors, expected: Tensors) -> Tensors:
    """actual - expected of each tensor, in float64 on the CPU."""
    return {name: actual[name].cpu().double() - each.cpu().double() for name, each in expected.items()}


@dataclass(frozen=True)
class Settled:
    """The bound that settles whether errors are within it, and whether they are; the floor needs no run of its own."""

    bound: Tensors
    within: bool
    is_floor: bool


def settled(spec: Spec, errors: Tensors, bounds: Iterator[Tensors]) -> Settled:
    """The first of ever wider bounds that holds all errors, or the last one."""
    figures = {name: greatest(walked(spec, name, each)) for name, each in errors.items()}
    for number, bound in enumerate(bounds):
        over = [(each / bound[name]).max().item() for name, each in figures.items() if not (each <= bound[name]).all()]
        found = Settled(bound, not over, number == 0)
        if not over or (number and not max(over, key=nan_last) < HOPELESS):
            break
    return found


def margin(spec: Spec, name: str, error: Tensor, bound: Tensor, decided: bool) -> Margin:
    """Where an error is nearest to its bound: error in the shape of the tensor, bound: (L, D), or (1, 1)."""
    view = walked(spec, name, error)
    figures = greatest(view)
    ratio = torch.where(figures == 0, 0.0, figures / bound)
    step, direction = divmod(int(ratio.argmax()), ratio.shape[1])
    there = view[step, direction]
    place = flat_index(int(there.abs().argmax()), tuple(there.shape))
    return Margin(
        name,
        max_abs=figures.max().item(),
        error=figures[step, direction].item(),
        bound=bound[step, direction].item(),
        index=index_of(spec, name, (step, direction, *place)),
        within=bool((figures <= bound).all()),
        decided=decided,
    )
