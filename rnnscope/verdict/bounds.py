"""How far rounding may move what a network gives, measured on this very network and input, tensor by tensor.

Nothing is a guessed tolerance. R is the reference: the equations in float64. u is the greatest relative error of one
rounding (UNITS). The figure of a tensor is its greatest magnitude. y has one for each step: the greatest up to there,
in the order in which it is walked. So a late step that is large does not hide an early one.

    same function?     32 · max(δ(2^-53), 2^-53 · max|R|)
    as well as u lets? 8 · max(δ(u), e(u), 2 · u · max|R|) + 4 · (smallest number above 0 of the dtype)

δ(u) is how far R moves when every number is rounded at random. Each entry of x, h0, c0, weights and biases, and the
result of every operation of every step, is multiplied by 1 ± u. δ(u) is the greatest over a few such runs: small where
the network contracts, large where it is chaotic. Rounding only what goes in would be too little. It misses the drift of
a network that accumulates, and 1 - z where z is near 1. Random rounding is D. S. Parker's Monte Carlo arithmetic, 1997.

e(u) is the error of the plain equations, run in that dtype on the CPU. The last term of each maximum, the floor, costs
nothing. The other terms are computed only where the floor does not decide, the cheaper one first.

The gradient of a parameter is a sum over all n steps of all items, in any order. Rounding adds up in a sum, so that its
floor is √n · u · max|R| where that is more. (0.3 to 0.7 · √n · u · max|R| were measured, for n up to 32,000.)

In float64 the second question is the first one: the reference is no more exact than a side.

A bound over a tenth of max|R| is too wide, since chaos has set in. Being within it says nothing. Being a little over it
says nothing either: runs that are one rounding apart come to it a few steps sooner or later.

32 and 8 are what calibration needs, with room to spare. `tests/benchmarks/calibration.py` runs random correct pairs, of
which none may be over, and random deviations, which all must be. Its figures stand in the README.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from rnnscope.network.costs import real_steps
from rnnscope.network.equations import State, Step
from rnnscope.network.weights import Input, Weights, time_of
from rnnscope.pages.progress import stage
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import Run, Subject, run_equations
from rnnscope.subjects.devices import running
from rnnscope.verdict.problem import Problem, Solver, Tensors, solve

Equations = Callable[..., Run]
"""`run_equations`, or one that computes something else and takes the same arguments."""

UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "tf32": 2.0**-11, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Half the distance from 1 to the next number of each arithmetic."""

SIGNS = 65_537
"""Random signs that are drawn once for a run. Each operation takes them from a random place on, since drawing takes
longer than computing. A prime number, so that they fall out of step with every size."""

FUNCTION_FACTOR = 32.0
PRECISION_FACTOR = 8.0
TOO_WIDE = 0.1

DRAWS = (2, 8)
"""Randomly rounded runs: two, and eight where two do not decide, since signs can cancel by chance."""


@dataclass(frozen=True, eq=False, repr=False)
class Bound:
    """How far each tensor may be off: (L, D) of y, (1, 1) of others.

    plus: what is added for numbers near 0. is_floor: whether no run was needed for it. measured: whether randomly
    rounded runs are in it.
    """

    limits: Tensors
    plus: float
    is_floor: bool = False
    measured: bool = False

    def of(self, name: str) -> Tensor:
        """The bound of one tensor; padding is 0 in the reference, and may be nothing else."""
        return self.limits[name] if name in self.limits else torch.zeros(1, 1, device="cpu")


class Bounds:
    """The bounds of one problem.

    Args:
        problem: what is computed.
        equations: what computes the reference: the equations, or a deviation of them.
        solver: `solve`, or one that shows every layer.
    """

    def __init__(self, problem: Problem, equations: Equations = run_equations, solver: Solver = solve) -> None:
        self.problem, self._equations, self._solver = problem, equations, solver
        self._spreads: dict[float, list[Tensors]] = {}
        self._errors: dict[str, Tensors] = {}

    @cached_property
    def reference(self) -> Tensors:
        """R: the equations in float64 on the CPU."""
        return self._solve(self._equations, "the equations in float64")

    def precision(self, arithmetic: str) -> Iterator[Bound]:
        """Ever wider bounds for the distance of a run in an arithmetic from the reference.

        Those of float64 are also the bounds under which two runs in float64 are the same function.
        """
        unit, dtype = UNITS[arithmetic], "float32" if arithmetic == "tf32" else arithmetic
        info, is_exact = torch.finfo(getattr(torch, dtype)), arithmetic == "float64"
        factor, plus = (FUNCTION_FACTOR, 0.0) if is_exact else (PRECISION_FACTOR, 4 * info.smallest_normal * info.eps)
        figures = self._floor(unit, 1.0 if is_exact else 2.0)
        yield _bound(figures, factor, plus, is_floor=True)
        if not is_exact:
            figures = _elementwise_maximum(figures, self._error(dtype))
            yield _bound(figures, factor, plus)
        for draws in DRAWS:
            figures = _elementwise_maximum(figures, *self._spread(unit, draws))
            yield _bound(figures, factor, plus, measured=True)

    def too_wide(self, name: str, bound: Bound) -> Tensor:
        """(L, D), or (1, 1): where a bound is too wide to say anything. Chaos does not widen the floor."""
        magnitude = self._magnitudes[name].max() if name in self._magnitudes else 0.0
        return (bound.of(name) > TOO_WIDE * magnitude + bound.plus) & (not bound.is_floor)

    def _floor(self, unit: float, roundings: float) -> Tensors:
        summed = max(roundings, math.sqrt(real_steps(self.problem.spec)))
        sums = self.problem.weights
        return {name: unit * (summed if name in sums else roundings) * each for name, each in self._magnitudes.items()}

    @cached_property
    def _magnitudes(self) -> Tensors:
        return {name: self._running_maximum(name, each) for name, each in self.reference.items()}

    def _error(self, dtype: str) -> Tensors:
        if dtype not in self._errors:
            self._errors[dtype] = self._distance(self._solve(self._equations, f"the equations in {dtype}", dtype))
        return self._errors[dtype]

    def _spread(self, unit: float, draws: int) -> list[Tensors]:
        """The distance of so many randomly rounded runs from the reference."""
        known = self._spreads.setdefault(unit, [])
        while len(known) < draws:
            generator = torch.Generator().manual_seed(len(known))
            rounded = partial(_randomly_rounded, self._equations, unit, generator)
            known.append(self._distance(self._solve(rounded, f"rounded runs {len(known) + 1} of {draws}")))
        return known[:draws]

    def _solve(self, subject: Subject, name: str, dtype: str = "float64") -> Tensors:
        spec = replace(self.problem.spec, dtype=dtype)
        with stage(name), running(spec, self.problem.cotangents is not None) as placed:
            return self._solver(subject, placed, self.problem)

    def _distance(self, found: Tensors) -> Tensors:
        return {name: self._running_maximum(name, each - self.reference[name]) for name, each in found.items()}

    def _running_maximum(self, name: str, values: Tensor) -> Tensor:
        return so_far(greatest_by_step(walked(self.problem.spec, name, values)))


def walked(spec: Spec, name: str, tensor: Tensor) -> Tensor:
    """A view of y, or of a layer's y, as it is walked: (L, D, N, H_out), or without N. Others: (1, 1, …)."""
    if not name.startswith("y"):
        return tensor[None, None]
    return tensor.view(*tensor.shape[:-1], spec.directions, -1).movedim((time_of(spec), -2), (0, 1))


def index_of(spec: Spec, name: str, place: tuple[int, ...]) -> tuple[int, ...]:
    """The index in a tensor of a place in its view by `walked`."""
    step, direction, *others = place
    if not name.startswith("y"):
        return tuple(others)
    *items, unit = others
    items.insert(time_of(spec), step)
    return (*items, direction * spec.output_size + unit)


def greatest_by_step(view: Tensor) -> Tensor:
    """(L, D), or (1, 1): the greatest magnitude of each step and direction; without a copy of the view."""
    dims = tuple(range(2, view.dim()))
    return torch.maximum(view.amax(dims), -view.amin(dims)).abs()


def so_far(by_step: Tensor) -> Tensor:
    """The greatest up to each step: the forward direction walks from the first one, the backward from the last one."""
    forward, backward = by_step[:, :1], by_step[:, 1:]
    return torch.cat((forward.cummax(0).values, backward.flip(0).cummax(0).values.flip(0)), 1)


class _RandomRounding(TorchFunctionMode):
    """Multiplies the result of every operation of the equations by 1 ± u."""

    def __init__(self, unit: float, generator: torch.Generator) -> None:
        super().__init__()
        self._unit, self._generator = unit, generator
        coins = torch.empty(SIGNS, dtype=torch.float64, device="cpu").bernoulli_(0.5, generator=generator)
        self._signs = (2 * coins - 1).repeat(2)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return self.perturbed(result) if func.__name__ in _OPERATIONS else result

    def perturbed(self, tensor: Tensor) -> Tensor:
        """The tensor with every entry a rounding away."""
        start = int(torch.randint(SIGNS, (1,), generator=self._generator, device="cpu"))
        end = start + tensor.numel()
        if end > len(self._signs):
            self._signs = self._signs[:SIGNS].repeat(-(-end // SIGNS))
        # A view, since autograd keeps the signs of every operation.
        return torch.addcmul(tensor, tensor, self._signs[start:end].view(tensor.shape), value=self._unit)


_OPERATIONS = frozenset({"matmul", "add", "mul", "sub", "__rsub__", "sigmoid", "tanh", "relu"})
"""The operations that round, by the names that torch gives to a mode. All others only move numbers about."""


def _randomly_rounded(
    equations: Equations, unit: float, generator: torch.Generator, spec: Spec, weights: Weights, given: Input
) -> Run:
    """The equations with every number that goes in or comes out of an operation a rounding away."""
    mode = _RandomRounding(unit, generator)

    def around(layer: int, direction: int, step: Step) -> Step:
        def perturbed(x: Tensor, state: State) -> State:
            with mode:
                return step(x, state)

        return perturbed

    weights = {name: mode.perturbed(each) for name, each in weights.items()}
    given = Input(mode.perturbed(given.x), tuple(map(mode.perturbed, given.state)))
    return equations(spec, weights, given, around=around)


def _bound(figures: Tensors, factor: float, plus: float, is_floor: bool = False, measured: bool = False) -> Bound:
    # What overflows has no bound; a NaN here would look like one that a side gave.
    widened = {name: (factor * each + plus).nan_to_num(torch.inf) for name, each in figures.items()}
    return Bound(widened, plus, is_floor, measured)


def _elementwise_maximum(*figures: Tensors) -> Tensors:
    return {name: reduce(torch.maximum, (each[name] for each in figures)) for name in figures[0]}
