"""Are two sides the same function, and does each compute as well as its arithmetic allows? The runs, and the answers.

No verdict is given here.
"""

from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TypeVar

import torch

from rnnscope.errors import RnnscopeError
from rnnscope.files.loading import Recording
from rnnscope.network.costs import check_steps
from rnnscope.network.shapes import OUTPUTS
from rnnscope.network.weights import Input, Weights
from rnnscope.pages.page import counted
from rnnscope.pages.progress import stage
from rnnscope.spec.sides import RECORDED
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import Run, Subject
from rnnscope.subjects.devices import arithmetic, device_type, has_float64, is_out_of_memory, running
from rnnscope.subjects.foreign import Foreign
from rnnscope.subjects.own import OwnNetwork
from rnnscope.subjects.user_code import guarded
from rnnscope.verdict.bounds import INT8, UNITS, Bounds, means
from rnnscope.verdict.figures import Check, Margin, distances, margin, settled
from rnnscope.verdict.problem import Problem, Solver, Tensors, first_steps, solve, step_by_step

T = TypeVar("T")

TAMED = (2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8)
"""By what all weights are multiplied, one after the other, until rounding no longer grows: each loses no bit by it."""


FITS_INT8, FITS_SURELY, FEW_ERRORS = 0.9, 0.1, 16
"""Less than that share of its errors is left where the equations in int8 are taken away from a run in int8. Of runs in
bfloat16, float16 and float32 none was below 0.96, but by chance: amid chaos 0.53, and 0.05 of a single number."""

AMID_CHAOS = 3.0
"""So many times over its bound is a fault in int8, even where other bounds are too wide."""


@dataclass(frozen=True, eq=False)
class Side:
    """One side of a comparison.

    Args:
        role: left or right.
        subject: its name.
        spec: with its own device and dtype.
        run: what runs it.
        arithmetic: what its products are rounded to.
        weights: its own, by torch's names, in float64; None where they are the problem's.
        is_recorded: whether it has only the outputs of a run. It cannot run on anything else, nor in float64.
        has_float64: whether it can run in float64.
        finest: the dtype in which its function is asked for where it has no float64; its own dtype where that is None.
        inside: the arithmetic in which it computes where its function is asked for, if that is a coarser one.
        is_seen: whether a tensor of that dtype was seen in it.
        is_own: whether it is somebody's own network.
        gets_weights: whether it is given weights, which somebody's own class may ignore.
        has_layers: whether each layer can be run by itself.
        has_steps: whether each step can be run by itself, from a state that is given.
        network: somebody's own network, which can be called again.
        foreign: what runs it, where that is an export, a model's file or a program.
        autocast: the dtype of torch.autocast under which it is run in its own dtype; None without.
        told: what was done to run it, besides what its network or what runs it tells.
    """

    role: str
    subject: str
    spec: Spec
    run: Subject
    arithmetic: str
    weights: Weights | None = None
    is_recorded: bool = False
    has_float64: bool = True
    finest: str | None = None
    inside: str | None = None
    is_seen: bool = False
    is_own: bool = False
    gets_weights: bool = True
    has_layers: bool = True
    has_steps: bool = True
    network: OwnNetwork | None = None
    foreign: Foreign | None = None
    autocast: str | None = None
    told: tuple[str, ...] = ()

    @property
    def may_refuse(self) -> bool:
        """Whether it may not take an input that nobody typed: one layer, fewer steps, another batch."""
        return self.is_own or self.foreign is not None

    @property
    def is_outside(self) -> bool:
        """Whether it runs in a process of its own, so that nothing shows of its inside and each run takes long."""
        return self.foreign is not None and not self.foreign.in_torch

    @property
    def outputs(self) -> tuple[str, ...]:
        """Those of y, h and c that it gives."""
        if self.foreign:
            return self.foreign.outputs
        return tuple(self.network.form.outputs) if self.network else OUTPUTS

    @property
    def adaptations(self) -> tuple[str, ...]:
        """What was done to make it and to call it, in sentences without a full stop."""
        found = self.foreign.told() if self.foreign else self.network.adaptations if self.network else ()
        return (*found, *self.told)

    @property
    def folded(self) -> Collection[str]:
        """The biases that it has no parameter for, since it has one for both."""
        return self.network.mapping.folded if self.network and self.network.mapping else ()

    @property
    def exact_dtype(self) -> str:
        """The dtype in which its function is asked for: float64, or the finest that it has otherwise."""
        return "float64" if self.has_float64 else self.finest or self.spec.dtype

    @property
    def exact_arithmetic(self) -> str:
        """What is rounded to where its function is asked for."""
        if self.inside or self.has_float64:
            return self.inside or "float64"
        is_finer = self.finest is not None and self.finest != self.spec.dtype
        return self.finest if is_finer and self.finest else self.arithmetic

    def where_it_is(self) -> "Side":
        """The side, asked in float32 on a device that has no float64."""
        if has_float64(self.spec.device):
            return self
        return replace(self, has_float64=False, finest="float32")

    def own_problem(self, problem: Problem) -> Problem:
        """A problem with the side's own weights."""
        return problem if self.weights is None else replace(problem, weights=self.weights)

    def solve(self, problem: Problem, dtype: str, solver: Solver = solve) -> Tensors:
        """What it gives on its device in a dtype."""
        guard = guarded(self.subject) if self.is_own else nullcontext()  # gradients run their code, too
        name = f"{self.role}: {self.subject}" if dtype == self.spec.dtype else f"{self.role} in {dtype}"
        where = running(replace(self.spec, dtype=dtype), problem.cotangents is not None)
        run = self.run if self.autocast is None else partial(_under_autocast, self.autocast, self.run)
        with stage(name), guard, where as placed:
            return solver(run, placed, self.own_problem(problem))


def _under_autocast(dtype: str, run: Subject, spec: Spec, weights: Weights, given: Input) -> Run:
    """A run under torch.autocast, which leaves float64 as it is. Gradients are taken behind it, as torch advises."""
    if spec.dtype == "float64":
        return run(spec, weights, given)
    try:
        with torch.autocast(device_type(spec.device), getattr(torch, dtype)):
            return run(spec, weights, given)
    except RuntimeError as error:
        if "could not create a primitive" not in str(error):
            raise
        cannot = f"--autocast {dtype}: oneDNN cannot compute {spec.module_name} in {dtype} on this CPU"
        raise RnnscopeError(cannot, "add --no-onednn") from error


def under_autocast(side: Side, dtype: str) -> Side:
    """The side under torch.autocast in a dtype. Raises where it runs in float64, which autocast leaves as it is.

    Where its own dtype is the coarser one, that is what its products are rounded to at least.
    """
    if side.spec.dtype == "float64":
        raise RnnscopeError(
            f"--autocast {dtype} does nothing in float64, in which the {side.role} side runs", "use --dtype float32"
        )
    coarser = max(dtype, side.arithmetic, key=UNITS.__getitem__)
    told = f"runs under torch.autocast in {dtype}"
    return replace(side, autocast=dtype, arithmetic=coarser, told=(*side.told, told))


def own_side(role: str, network: OwnNetwork, placed: Spec, weights: Weights | None = None) -> Side:
    """The side of somebody's own network, on the device where its Spec runs."""
    used = INT8 if network.is_int8 else arithmetic(placed, network.is_fused)
    side = Side(role, network.name, placed, network.run, used, weights, is_own=True, gets_weights=network.gets_weights)
    side = replace(side, has_layers=network.has_layers, has_steps=network.has_steps, network=network)
    return side.where_it_is()


def quantized_side(role: str, subject: str, run: Subject, placed: Spec) -> Side:
    """The side of torch's module in int8, which takes float32 and gives it."""
    told = f"quantized by torch.ao.quantization.quantize_dynamic, engine {torch.backends.quantized.engine}"
    return Side(role, subject, placed, run, INT8, has_float64=False, told=(told,))


def foreign_side(role: str, subject: str, foreign: Foreign, placed: Spec) -> Side:
    """The side of an export, a model's file or a program; in the dtype of the file, where it has one."""
    placed = replace(placed, dtype=foreign.dtype or placed.dtype)
    side = Side(role, subject, placed, foreign.run, foreign.arithmetic or placed.dtype, foreign=foreign)
    return replace(
        side,
        has_float64=foreign.has_float64 is not False,
        gets_weights=foreign.gets_weights,
        has_layers=foreign.gets_weights,
        has_steps=foreign.has_steps,
    )


def recorded_side(role: str, recorded: Recording, spec: Spec) -> Side:
    """The side of a recorded run, which computes nothing; in the dtype in which it was recorded."""
    own = replace(spec, device="cpu", dtype=recorded.dtype or spec.dtype)
    return Side(
        role,
        f"{RECORDED}{recorded.file}",
        own,
        recorded.run,
        recorded.arithmetic,
        is_recorded=True,
        has_float64=False,
        has_layers=False,
        has_steps=False,
    )


def unless_refused(ask: Callable[[], T]) -> T | None:
    """What is found; None where somebody's own class takes no such input: one layer, fewer steps, another batch."""
    try:
        return ask()
    except RnnscopeError as error:
        if is_out_of_memory(error):
            raise
        return None


def outputs_of_both(left: Side, right: Side) -> tuple[str, ...]:
    """Those of y, h and c that both sides give, which are compared."""
    return tuple(name for name in OUTPUTS if name in left.outputs and name in right.outputs)


class Evidence:
    """The runs of one problem, each made when it is first asked for, and the questions that they answer.

    Args:
        solver: `solve`, or one that shows every layer.
    """

    def __init__(self, problem: Problem, left: Side, right: Side, solver: Solver = solve) -> None:
        self.problem, self.left, self.right, self._solver = problem, left, right, solver
        self.bounds = Bounds(problem, solver=solver)
        self._own_bounds: dict[str, Bounds] = {}
        self._runs: dict[tuple[Side, str], Tensors] = {}
        self._functions: dict[Side | None, Check] = {}
        self._starts: dict[int, Evidence] = {}

    def against(self, right: Side) -> "Evidence":
        """The same left side against another right one. What has been run is not run again."""
        other = Evidence(self.problem, self.left, right, self._solver)
        other.bounds, other._own_bounds, other._runs = self.bounds, self._own_bounds, dict(self._runs)
        for name in self.__dict__.keys() & {"by_steps", "beginning"}:  # those that were asked for
            setattr(other, name, getattr(self, name).against(right))
        return other

    def in_own_dtype(self, side: Side) -> Tensors:
        """What a side gives in its own dtype."""
        return self._run(side, side.spec.dtype)

    def exact(self, side: Side) -> Tensors:
        """What a side gives in float64, on its own device; in its own dtype where it has no float64."""
        return self._run(side, side.exact_dtype)

    def _run(self, side: Side, dtype: str) -> Tensors:
        if (side, dtype) not in self._runs:
            self._runs[side, dtype] = side.solve(self.problem, dtype, self._solver)
        return self._runs[side, dtype]

    @cached_property
    def by_steps(self) -> "Evidence":
        """The same sides on every step by itself."""
        if self.problem.spec.memory_check:
            check_steps(self.problem.spec)
        return Evidence(step_by_step(self.problem), self.left, self.right)

    @cached_property
    def beginning(self) -> "Evidence":
        """The same sides on the first half of the steps."""
        half = first_steps(self.problem, (self.problem.spec.seq_len + 1) // 2)
        return Evidence(half, self.left, self.right)

    def first(self, steps: int) -> "Evidence":
        """The same sides on the first steps, each run once; this itself where it has no more."""
        if steps >= self.problem.spec.seq_len:
            return self
        if steps not in self._starts:
            self._starts[steps] = Evidence(first_steps(self.problem, steps), self.left, self.right)
        return self._starts[steps]

    @cached_property
    def tamed(self) -> "tuple[float, Evidence] | None":
        """The same sides with weights so small that rounding does not grow, and by what they were multiplied.

        None where a side has its weights by itself, none are small enough, or no y shows whether they are.
        """
        if any(side.is_recorded or not side.gets_weights for side in (self.left, self.right)):
            return None
        if "y" not in self.bounds.reference:
            return None
        for times in TAMED:
            left, right = (
                replace(side, weights=side.weights and _times(side.weights, times)) for side in (self.left, self.right)
            )
            tamed = Evidence(replace(self.problem, weights=_times(self.problem.weights, times)), left, right)
            measured = next(bound for bound in tamed.bounds.precision("float64") if bound.measured)
            if tamed.bounds.sharp_steps("float64", measured) is None:
                return times, tamed
        return None

    def bounds_of(self, side: Side) -> Bounds:
        """The bounds for a side's own weights."""
        if side.weights is None:
            return self.bounds
        if side.role not in self._own_bounds:
            self._own_bounds[side.role] = Bounds(side.own_problem(self.problem), solver=self._solver)
        return self._own_bounds[side.role]

    def of_sides(self, left: Side, right: Side) -> "Evidence":
        """The same runs, where more is known of both sides."""
        if (left, right) == (self.left, self.right):
            return self
        other = Evidence(self.problem, left, right, self._solver)
        other.bounds, other._own_bounds = self.bounds, self._own_bounds
        known = {self.left: left, self.right: right}
        other._runs = {(known[side], dtype): run for (side, dtype), run in self._runs.items()}
        return other

    def same_function(self) -> Check:
        """Do both sides compute the same? In float64, where a side's own precision is out of the way."""
        used = function_arithmetic(self.left, self.right)
        return self._once(None, lambda of: of.check(used, of.exact(of.right), of.bounds, of.left))

    def torchs_function(self, side: Side) -> Check:
        """Does a side compute what the reference does with its weights? In float64."""
        return self._once(side, lambda of: of.whole_function(side))

    def _once(self, side: Side | None, ask: Callable[["Evidence"], Check]) -> Check:
        """The answer to a question of one side, or of both, which is asked again and again."""
        if side not in self._functions:
            self._functions[side] = self._answer(ask)
        return self._functions[side]

    def whole_function(self, side: Side) -> Check:
        """The same question, asked of whole runs alone."""
        return self.check(function_arithmetic(side), self.exact(side), self.bounds_of(side))

    def precision(self, side: Side, expected: Side | None = None) -> Check:
        """Is a side as near the reference, or what another side gives in float64, as its arithmetic allows?"""
        return self._answer(
            lambda of: of.check(side.arithmetic, of.in_own_dtype(side), of.bounds_of(expected or side), expected),
            loop=False,
        )

    def about(self, arithmetic: str, side: Side) -> bool:
        """Is what a side gives as near the reference as another arithmetic would be, and is that near?"""
        check = self.check(arithmetic, self.exact(side), self.bounds_of(side))
        return check.within and check.decided

    def about_coarser(self, side: Side) -> str | None:
        """The coarser arithmetic that would explain what a recorded side gives.

        int8 is told by what quantizing makes of these very weights, to which no other rounding comes near.
        """
        actual, bounds = self.exact(side), self.bounds_of(side)
        if sum(actual[name].numel() for name in OUTPUTS if name in actual) >= FEW_ERRORS:
            left_over = bounds.left_by_int8(actual)
            if left_over < FITS_SURELY or (left_over < FITS_INT8 and self.about(INT8, side)):
                return INT8
        return next((used for used in ("tf32", "bfloat16") if self.about(used, side)), None)

    def _answer(self, ask: Callable[["Evidence"], Check], loop: bool = True) -> Check:
        """Whole runs answer; where rounding decides them, the first steps and every step by itself.

        Where rounding hides small faults in the later steps, the loop is asked over all of them with tamed weights.

        Args:
            loop: whether to ask the loop at all, of which nothing but its length shows in other dtypes.
        """
        whole = ask(self)
        if self.problem.origins is not None or self.problem.spec.seq_len == 1:
            return whole
        found = whole if whole.decided else self._unless_refused(lambda: self._in_parts(ask, whole, loop)) or whole
        if not (loop and found.within) or whole.sharp_steps is None or self.tamed is None:
            return replace(found, sharp_steps=whole.sharp_steps)
        times, evidence = self.tamed
        with stage("all steps with smaller weights"):
            tamed = self._unless_refused(lambda: ask(evidence))
        if tamed is None:
            return replace(found, sharp_steps=whole.sharp_steps)
        return replace(found if tamed.within else tamed, sharp_steps=whole.sharp_steps, tamed_by=times)

    def _unless_refused(self, ask: Callable[[], Check]) -> Check | None:
        """The answer; None where a side takes no such input. What is known by then is not lost."""
        return unless_refused(ask) if self.left.may_refuse or self.right.may_refuse else ask()

    def _in_parts(self, ask: Callable[["Evidence"], Check], whole: Check, loop: bool) -> Check:
        """The answer of the first steps in which rounding does not yet decide, and of every step by itself."""
        check, part = whole, self
        if not (self.left.has_steps and self.right.has_steps):
            return check
        while loop and not check.decided and part.problem.spec.seq_len > 1:
            part = part.beginning
            with stage(f"the first {counted(part.problem.spec.seq_len, 'step')}"):
                check = ask(part)
        if check.within:
            with stage("every step by itself"):
                check = ask(self.by_steps)
        return replace(check, whole_steps=part.problem.spec.seq_len if loop else 0)

    def check(self, used: str, actual: Tensors, bounds: Bounds, by: Side | None = None) -> Check:
        """The margin of each tensor under the first of ever wider bounds of an arithmetic that holds it.

        Args:
            by: the side whose run in float64 is expected; the reference when None.
        """
        problem, margins = self.problem, []
        absolute = not (self.left.is_recorded or self.right.is_recorded)
        errors = distances(problem.spec, actual, bounds.reference if by is None else self.exact(by))
        errors |= means(errors) if used == INT8 else {}
        bound_of = settled(problem.spec, errors, bounds.precision(used, absolute))
        for name, bound in bound_of.items():
            found = margin(problem.spec, name, errors[name], bound.of(name), bounds.too_wide(name, bound))
            margins.append(replace(found, index=_index_in_whole(problem, name, found.index)))
        if used == INT8 and not all(each.decided for each in margins):
            # Noise comes to a place of chaos sooner or later: what is a little over elsewhere says nothing then.
            margins = [each if each.nearness > (False, AMID_CHAOS) else _undecided(each) for each in margins]
        sharp = bounds.sharp_steps(used, bound_of["y"]) if "y" in bound_of else None
        return Check(used, tuple(margins), single_steps=problem.origins is not None, sharp_steps=sharp)


def _undecided(margin: Margin) -> Margin:
    return margin if margin.within else replace(margin, within=True, decided=False)


def _times(weights: Weights, times: float) -> Weights:
    return {name: times * each for name, each in weights.items()}


def function_arithmetic(*sides: Side) -> str:
    """The arithmetic in which the function of sides is asked for: float64, or the coarsest that one of them needs."""
    return max((side.exact_arithmetic for side in sides), key=UNITS.__getitem__)


def _index_in_whole(problem: Problem, name: str, index: tuple[int, ...]) -> tuple[int, ...]:
    """The index of a single step: (step, item, unit) in x and y, (step, row, item, unit) in states."""
    if problem.origins is None or name not in ("x", "y", "h0", "c0", "h", "c"):
        return index
    row, place, unit = index
    step, item = problem.origins[place].tolist()
    return (step, item, unit) if name in ("x", "y") else (step, row, item, unit)
