"""How far rounding may move what a network gives, measured on this very network and input, tensor by tensor.

Nothing is a guessed tolerance. R is the reference: the equations in float64. u is the greatest relative error of one
rounding (UNITS). The figure of a tensor is its greatest magnitude, item by item: a loud item of a batch does not hide a
quiet one. y has one for each step: the greatest up to there, in the order in which it is walked. So a late step that is
large does not hide an early one. h and c have one for each row, and a parameter's gradient has one in all.

    same function?     32 · max(δ(2^-53), 2^-53 · max|R|)
    as well as u lets? 8 · max(δ(u), e(u), 2 · u · max|R|) + 4 · (smallest number above 0 that is kept)

δ(u) is how far R moves when every number is rounded at random. Each entry of x, h0, c0, weights and biases, and the
result of every operation of every step, is multiplied by 1 + ξ·u. ξ is uniform in ±√3, so that u is its standard
deviation: two roundings of ±u could cancel exactly, and then a bound would be 0. δ(u) is the greatest over a few such
runs: small where the network contracts, large where it is chaotic. Rounding only what goes in would be too little. It
misses the drift of a network that accumulates, and 1 - z where z is near 1. Random rounding is D. S. Parker's Monte
Carlo arithmetic, 1997.

Where that does not decide, tanh and σ are rounded absolutely too, in what they give and in what they keep for their
backward pass: by 2·ξ·u, since less would be lost beside 1. Another right formula, such as 2·σ(2·x) - 1 for tanh(x),
errs by a rounding of 1 however small x is. A recorded run is not allowed that: in its own dtype a fault of a quiet item
would be as small.

e(u) is the error of the plain equations, run in that dtype on the CPU. The last term of each maximum, the floor, costs
nothing. The other terms are computed only where the floor does not decide, the cheaper one first.

The gradient of a parameter is a sum over all n steps of all items, in any order. Rounding adds up in a sum, so that its
floor is √n · u · max|R| where that is more. (0.3 to 0.7 · √n · u · max|R| were measured, for n up to 32,000.)

int8 is another sort of arithmetic: its noise is relative to the range of a whole tensor, and large. So e and δ are of
runs that are quantized, or have noise of half a step in what goes into products. In such runs the noise is of the very
sort that a side has, unlike rounding of floats, so that small factors do. And what tells a fault in noise is its mean:

    in int8?           2.5 · max(δ, e), and for the root of the mean square of all n errors (1.35 + 1.2/√n) · max(δ, e)

In float64 the second question is the first one: the reference is no more exact than a side.

A bound over a tenth of max|R| is too wide, since chaos has set in. Being within it says nothing. Being a little over it
says nothing either: runs that are one rounding apart come to it a few steps sooner or later.

32 and 8 are what calibration needs, with room to spare. `tests/benchmarks/calibration.py` runs random correct pairs, of
which none may be over, and random deviations, which all must be. The factors of int8 come from
`tests/benchmarks/int8.py`: of 300 right networks the greatest mean was 1.26 times that of the runs, and the greatest
error 2.4 times, but for one amid chaos. The figures of both stand in `rnnscope help measured`.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from rnnscope.network.costs import real_steps
from rnnscope.network.equations import State, Step
from rnnscope.network.shapes import OUTPUTS, Shape
from rnnscope.network.weights import Input, Weights, time_of
from rnnscope.pages.progress import stage
from rnnscope.spec.question import nan_last
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import Run, Subject, run_equations, valid_region
from rnnscope.subjects.devices import running
from rnnscope.verdict.int8 import SCHEMES, Rounding, at_random, quantized, to_steps
from rnnscope.verdict.problem import Problem, Solver, Tensors, solve

Equations = Callable[..., Run]
"""`run_equations`, or one that computes something else and takes the same arguments."""

FLOATS = {"float64": 2.0**-53, "float32": 2.0**-24, "tf32": 2.0**-11, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Half the distance from 1 to the next number of each arithmetic."""

INT8 = "int8"

UNITS = FLOATS | {INT8: 2.0**-7}
"""The same with int8, in which that is the half of a step, as a share of a tensor's greatest number."""

COARSEST = "bfloat16"
"""The dtype that rounds most, but for int8."""

ABSOLUTE = 2.0
"""By how many units tanh and σ are rounded absolutely."""

ROUNDINGS = 65_537
"""Random roundings that are drawn once for a run. Each operation takes them from a random place on, since drawing takes
longer than computing. A prime number, so that they fall out of step with every size."""

FUNCTION_FACTOR = 32.0
PRECISION_FACTOR = 8.0
TOO_WIDE = 0.1

SHARP = 2.0**26
"""Units of the loudest step. In float64 a fault of 10^-8 is less, so that no more is hidden by rounding that grows."""

DRAWS = (2, 8)
"""Randomly rounded runs: two, and eight where two do not decide, since roundings can nearly cancel by chance."""

INT8_FACTOR, INT8_DRAWS, INT8_TOO_WIDE = 2.5, (4, 16), 0.25
"""The same of int8, whose noise is larger before chaos sets in."""

INT8_MEAN_FACTOR, INT8_FEW = 1.35, 1.2
"""That of the mean of n errors is so much, and a √n-th of the other more: the mean of a few depends on chance, too."""

MEAN = "mean of "
"""Stands before the name of a tensor whose errors are taken together: the root of their mean square."""


def coarsest_times(arithmetic: str) -> float:
    """How much wider a bound of the coarsest dtype is, as long as rounding does not grow beyond proportion."""
    return max(1.0, UNITS[COARSEST] / UNITS[arithmetic])


@dataclass(frozen=True, eq=False, repr=False)
class Bound:
    """How far each tensor may be off, in the shape of its `figures`.

    plus: what is added for numbers near 0. least: what every wider bound allows at least, where an activation may be
    rounded absolutely. is_floor: whether no run was needed for it. measured: whether randomly rounded runs are in it.
    is_padded: whether the reference, which is a deviation then, has numbers in the padding of y.
    by_range: whether rounding is relative to the range of all items.
    """

    limits: Tensors
    plus: float
    least: float
    is_floor: bool = False
    measured: bool = False
    is_padded: bool = False
    by_range: bool = False

    def of(self, name: str) -> Tensor:
        """The bound of one tensor. Padding is 0 in the equations, and may be nothing else; elsewhere it is as y is."""
        name = "y" if self.is_padded and name not in self.limits else name
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
        self._spreads: dict[tuple[float, float], list[Tensors]] = {}
        self._errors: dict[str, Tensors] = {}
        self._int8: list[Tensors] = []

    @cached_property
    def reference(self) -> Tensors:
        """R: the equations in float64 on the CPU."""
        return self._solve(self._equations, "the equations in float64")

    def precision(self, arithmetic: str, absolute: bool = True) -> Iterator[Bound]:
        """Ever wider bounds for the distance of a run in an arithmetic from the reference.

        Those of float64 are also the bounds under which two runs in float64 are the same function.

        Args:
            absolute: whether activations may err by a rounding of 1.
        """
        if arithmetic == INT8:
            yield from self._of_int8()
            return
        unit, dtype = UNITS[arithmetic], "float32" if arithmetic == "tf32" else arithmetic
        info, is_exact = torch.finfo(getattr(torch, dtype)), arithmetic == "float64"
        smallest = info.smallest_normal * (info.eps if dtype == "float16" else 1)  # the others are flushed to 0 by some
        factor, plus = (FUNCTION_FACTOR, 0.0) if is_exact else (PRECISION_FACTOR, 4 * smallest)
        bound = partial(_bound, factor=factor, plus=plus, least=factor * unit, is_padded=self._is_padded)
        found = self._floor(unit, 1.0 if is_exact else 2.0)
        yield bound(found, is_floor=True)
        if not is_exact:
            found = _elementwise_maximum(found, self._error(dtype))
            yield bound(found)
        for units, draws in product((0.0, ABSOLUTE) if absolute else (0.0,), DRAWS):
            found = _elementwise_maximum(found, *self._spread(unit, units, draws))
            yield bound(found, measured=True)

    def _of_int8(self) -> Iterator[Bound]:
        """Those of int8: quantized as torch does it, then with more and more noise. All else in it is float32."""
        unit, share = UNITS["float32"], PRECISION_FACTOR / INT8_FACTOR
        bound = partial(
            _bound, factor=INT8_FACTOR, plus=0.0, least=INT8_FACTOR * unit, is_padded=self._is_padded, by_range=True
        )
        of_floats = self._floor(unit, 2.0)
        few, many = INT8_DRAWS
        yield bound(self._with_floats(0, of_floats, share))
        of_floats = _elementwise_maximum(of_floats, self._error("float32"))
        yield bound(self._with_floats(few, of_floats, share), measured=True)
        of_floats = _elementwise_maximum(of_floats, *self._spread(unit, ABSOLUTE, DRAWS[0]))
        yield bound(self._with_floats(many, of_floats, share), measured=True)

    def left_by_int8(self, actual: Tensors) -> float:
        """The share of the errors of a run that is left beside the equations in int8, in the scheme that fits best."""
        left_over = []
        for scheme in SCHEMES:
            run = self._solve(partial(quantized, self._equations, to_steps, scheme=scheme), "the equations in int8")
            both = means({name: actual[name].cpu().double() - each for name, each in run.items() if name in actual})
            whole = means({name: actual[name].cpu().double() - self.reference[name] for name in run if name in actual})
            left_over.append(max((each / whole[name]).max().item() for name, each in both.items()))
        return min(left_over, key=nan_last)

    def _with_floats(self, draws: int, of_floats: Tensors, share: float) -> Tensors:
        found = _elementwise_maximum(*self._in_int8(draws))
        return found | {name: torch.maximum(found[name], share * each) for name, each in of_floats.items()}

    def too_wide(self, name: str, bound: Bound) -> Tensor:
        """In the shape of the bound: where it is too wide to say anything. Chaos does not widen the floor."""
        if name.startswith(MEAN):  # the tensor itself tells
            return torch.zeros_like(bound.of(name), dtype=torch.bool)
        known = "y" if self._is_padded and name not in self._magnitudes else name
        most = self._most(known, bound, TOO_WIDE) if known in self._magnitudes else 0.0
        return (bound.of(name) > most + bound.plus) & (not bound.is_floor)

    def sharp_steps(self, arithmetic: str, bound: Bound) -> int | None:
        """In how many first steps, as they are walked, y must be exact to SHARP units; None where it is all of them."""
        if bound.is_floor:
            return None
        wide = bound.of("y") > self._most("y", bound, min(TOO_WIDE, SHARP * UNITS[arithmetic])) + bound.plus
        by_step = wide.flatten(2).any(2) if wide.dim() > 2 else wide
        walks = [by_step[:, 0], *(by_step[:, way].flip(0) for way in range(1, by_step.shape[1]))]
        return min((int(each.int().argmax()) for each in walks if each.any()), default=None)

    @cached_property
    def _is_padded(self) -> bool:
        spec, y = self.problem.spec, self.reference.get("y")
        return spec.lengths is not None and y is not None and bool(y.masked_fill(valid_region(spec, y), 0.0).any())

    def _most(self, name: str, bound: Bound, share: float) -> Tensor:
        """What a bound may be at most: a share of each item, or of all where rounding is relative to these."""
        magnitude = self._magnitude(name)
        return INT8_TOO_WIDE * magnitude.max() if bound.by_range else share * magnitude

    def _magnitude(self, name: str) -> Tensor:
        """The greatest of each item over all steps, also where its steps are taken by themselves."""
        found, origins = self._magnitudes[name].amax((0, 1)), self.problem.origins
        if origins is None or name in self.problem.weights:
            return found
        items = origins[:, 1].expand(found.shape)
        empty = found.new_zeros(*found.shape[:-1], int(items.max()) + 1)
        return empty.scatter_reduce(-1, items, found, "amax").gather(-1, items)

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

    def _spread(self, unit: float, absolute: float, draws: int) -> list[Tensors]:
        """The distance of so many randomly rounded runs from the reference."""
        known = self._spreads.setdefault((unit, absolute), [])
        while len(known) < draws:
            mode = _RandomRounding(unit, absolute, torch.Generator().manual_seed(len(known)))
            rounded = partial(_randomly_rounded, self._equations, mode)
            known.append(self._distance(self._solve(rounded, f"rounded runs {len(known) + 1} of {draws}")))
        return known[:draws]

    def _in_int8(self, draws: int) -> list[Tensors]:
        """How far the reference is from itself in torch's int8, and from so many runs with noise of that size."""
        known = self._int8
        while len(known) <= draws:
            rounding: Rounding = at_random(len(known)) if known else to_steps
            name = f"noisy runs {len(known)} of {draws}" if known else "the equations in int8"
            run = self._solve(partial(quantized, self._equations, rounding), name)
            errors = {each: run[each] - self.reference[each] for each in run}
            found = {each: self._running_maximum(each, error) for each, error in errors.items()}
            for each, mean in means(errors).items():
                few = len(mean) / errors[each.removeprefix(MEAN)].numel()
                found[each] = (INT8_MEAN_FACTOR + INT8_FEW * math.sqrt(few)) / INT8_FACTOR * mean[None, None]
            known.append(found)
        return known[: draws + 1]

    def _solve(self, subject: Subject, name: str, dtype: str = "float64") -> Tensors:
        spec = replace(self.problem.spec, dtype=dtype)
        with stage(name), running(spec, self.problem.cotangents is not None) as placed:
            return self._solver(subject, placed, self.problem)

    def _distance(self, found: Tensors) -> Tensors:
        return {name: self._running_maximum(name, each - self.reference[name]) for name, each in found.items()}

    def _running_maximum(self, name: str, values: Tensor) -> Tensor:
        return so_far(figures(self.problem.spec, name, values))


def walked(spec: Spec, name: str, tensor: Tensor) -> Tensor:
    """A view of y, or of a layer's y, as it is walked: (L, D, N, H_out), or without N. Others: (1, 1, …)."""
    if not name.startswith("y"):
        return tensor[None, None]
    return tensor.view(*tensor.shape[:-1], spec.directions, -1).movedim((time_of(spec), -2), (0, 1))


def by_bound(spec: Spec, name: str, tensor: Tensor) -> Tensor:
    """A view in whose last dim stand the elements that share a bound; the ones before are those of `figures`.

    y: as it is walked. h, c and the gradients of h0 and c0: (1, 1, D·K, N, ·). The gradient of x: (1, 1, N, L·H_in).
    That of a parameter: (1, 1, all). N is left out where it is not there. A mean: (1, 1, ·, 1).
    """
    if name.startswith("y"):
        return walked(spec, name, tensor)
    if name in ("h", "c", "h0", "c0"):
        return tensor[None, None]
    if name.startswith(MEAN):
        return tensor[None, None, :, None]
    if name == "x" and not spec.unbatched:
        return tensor.movedim(_batch_of(spec), 0).flatten(1)[None, None]
    return tensor.flatten()[None, None]


def index_of(spec: Spec, name: str, shape: Shape, place: tuple[int, ...]) -> tuple[int, ...]:
    """The index in a tensor of a place in its view by `by_bound`."""
    step, direction, *others = place
    if name.startswith("y"):
        *items, unit = others
        items.insert(time_of(spec), step)
        return (*items, direction * spec.output_size + unit)
    if name in ("h", "c", "h0", "c0"):
        return tuple(others)
    if name.startswith(MEAN):
        return tuple(others[:-1])
    *items, at = others
    index = list(flat_index(at, tuple(size for dim, size in enumerate(shape) if not items or dim != _batch_of(spec))))
    for item in items:
        index.insert(_batch_of(spec), item)
    return tuple(index)


def _batch_of(spec: Spec) -> int:
    return 1 - time_of(spec)


def flat_index(flat: int, shape: Shape) -> tuple[int, ...]:
    """The index of an element that is counted from the first one."""
    # torch.unravel_index does the same, but its first call imports 500 modules: a fifth of the time of a compare.
    index = []
    for size in reversed(shape):
        flat, place = divmod(flat, size)
        index.append(place)
    return tuple(reversed(index))


def figures(spec: Spec, name: str, tensor: Tensor) -> Tensor:
    """The greatest magnitude of the elements that share a bound; without a copy.

    (L, D, N) of y, (1, 1, D·K, N) of h and c, (1, 1, N) of x, (1, 1) of a parameter; N where it is there.
    """
    view = by_bound(spec, name, tensor)
    return torch.maximum(view.amax(-1), -view.amin(-1)).abs()


def means(errors: Tensors) -> Tensors:
    """The root of the mean square of the errors of y: (1,), and of each row of h and c: (D·K,); by names of their own.

    How large the noise of all is together hardly depends on chance, unlike its greatest.
    """
    outputs = {name: each for name, each in errors.items() if name in OUTPUTS}
    rows = {name: each.flatten()[None] if name == "y" else each.flatten(1) for name, each in outputs.items()}
    return {f"{MEAN}{name}": each.square().mean(1).sqrt() for name, each in rows.items()}


def greatest_by_step(view: Tensor) -> Tensor:
    """(L, D): the greatest magnitude of each step and direction of a view by `walked`; without a copy."""
    dims = tuple(range(2, view.dim()))
    return torch.maximum(view.amax(dims), -view.amin(dims)).abs()


def so_far(by_step: Tensor) -> Tensor:
    """The greatest up to each step: the forward direction walks from the first one, the backward from the last one."""
    forward, backward = by_step[:, :1], by_step[:, 1:]
    return torch.cat((forward.cummax(0).values, backward.flip(0).cummax(0).values.flip(0)), 1)


class _RandomRounding(TorchFunctionMode):
    """Rounds the result of every operation of the equations at random.

    absolute: by how many units tanh and σ are rounded as if they gave 1; 0 rounds them as everything else.
    """

    def __init__(self, unit: float, absolute: float, generator: torch.Generator) -> None:
        super().__init__()
        self._unit, self._absolute, self._generator = unit, absolute, generator
        drawn = torch.empty(ROUNDINGS, dtype=torch.float64, device="cpu").uniform_(-1, 1, generator=generator)
        self._roundings = (drawn * (math.sqrt(3) * unit)).repeat(2)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._absolute and func.__name__ in _SLOPES:
            return _Rounded.apply(args[0], self._absolute * self._drawn(args[0]), func)  # type: ignore[no-untyped-call]
        result = func(*args, **(kwargs or {}))
        return self.perturbed(result) if func.__name__ in _OPERATIONS else result

    def perturbed(self, tensor: Tensor) -> Tensor:
        """The tensor with every entry a rounding away."""
        return torch.addcmul(tensor, tensor, self._drawn(tensor))

    def _drawn(self, tensor: Tensor) -> Tensor:
        """A rounding for every entry: a view, since autograd keeps those of every operation."""
        start = int(torch.randint(ROUNDINGS, (1,), generator=self._generator, device="cpu"))
        end = start + tensor.numel()
        if end > len(self._roundings):
            self._roundings = self._roundings[:ROUNDINGS].repeat(-(-end // ROUNDINGS))
        return self._roundings[start:end].view(tensor.shape)


_OPERATIONS = frozenset({"matmul", "add", "mul", "sub", "__rsub__", "sigmoid", "tanh", "relu"})
"""The operations that round, by the names that torch gives to a mode. All others only move numbers about."""

_SLOPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "tanh": lambda y, rounding: 1 - y * y - 2 * y * rounding,
    "sigmoid": lambda y, rounding: y * (1 - y) + (1 - 2 * y) * rounding,
}
"""The derivatives of what gives at most 1, of what it gave and how that was rounded. Near 1 a sum would lose that."""


class _Rounded(torch.autograd.Function):
    """tanh or σ that is roundings of 1 away, forward and in what is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rounding: Tensor, func: Callable[[Tensor], Tensor]) -> Tensor:
        y = func(x)
        ctx.save_for_backward(y, rounding)
        ctx.slope = _SLOPES[func.__name__]
        return y + rounding

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None]:
        return cotangents[0] * ctx.slope(*ctx.saved_tensors), None, None


def _randomly_rounded(equations: Equations, mode: _RandomRounding, spec: Spec, weights: Weights, given: Input) -> Run:
    """The equations with every number that goes in or comes out of an operation a rounding away."""

    def around(layer: int, direction: int, step: Step) -> Step:
        def perturbed(x: Tensor, state: State) -> State:
            with mode:
                return step(x, state)

        return perturbed

    weights = {name: mode.perturbed(each) for name, each in weights.items()}
    given = Input(mode.perturbed(given.x), tuple(map(mode.perturbed, given.state)))
    return equations(spec, weights, given, around=around)


def _bound(
    figures: Tensors,
    factor: float,
    plus: float,
    least: float,
    is_floor: bool = False,
    measured: bool = False,
    is_padded: bool = False,
    by_range: bool = False,
) -> Bound:
    # What overflows has no bound; a NaN here would look like one that a side gave.
    widened = {name: (factor * each + plus).nan_to_num(torch.inf) for name, each in figures.items()}
    return Bound(widened, plus, least, is_floor, measured, is_padded, by_range)


def _elementwise_maximum(*figures: Tensors) -> Tensors:
    return {name: reduce(torch.maximum, (each[name] for each in figures)) for name in figures[0]}
