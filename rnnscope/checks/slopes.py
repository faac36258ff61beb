"""The slope of what a module computes: as autograd tells it, and as finite differences show it in float64.

A random cotangent is multiplied into all that comes out. So the error of the differences, which is known for each
number, adds up as a random walk does, and one bound holds for the product.

The error of a difference is measured and not guessed. Five points in a row give the slope by the formula of order four,
and their third and fourth differences are what rounding, curvature or a kink between them leave over.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rnnscope.checks.case import Case, default_dtype
from rnnscope.checks.probing import changed
from rnnscope.checks.states import is_number, mapped, parts
from rnnscope.checks.values import Gap, Place, Values
from rnnscope.errors import RnnscopeError
from rnnscope.subjects.user_code import guarded

STEPS = (2.0**-13, 2.0**-17, 2.0**-21, 2.0**-25, 2.0**-7)
"""Distances of the points, as shares of the size of what is moved, in the order in which they are tried."""

LONG_STEPS, UNITS_APART = (2.0**-7, 2.0**-10, 2.0**-4), 32
"""Likewise for a module that computes in a coarser dtype inside: so many of its units apart at least."""

COTANGENTS = 3
"""How many products of what comes out are differentiated; each costs one backward pass."""

WALK = 2.0
"""How many times the length of a random walk the sum may be off."""

TIGHT = 1e-3
"""The differences decide where their bound is at most such a share of the slope."""

FLAT, STILL = 1e-6, 1e-9
"""Likewise where it is such a share of what comes out; `STILL` ends the search for a better step."""

LONGEST_REASON = 120
"""Signs of an error of autograd's."""

Key = tuple[str, str]
"""What goes in: its group, "parameters", "x" or "state", and its name, such as "cell.weight_hh"."""

X: Key = ("x", "x")


# What goes in and what comes out ---------------------------------------------------------------------------------


def leaves_of(case: Case, module: nn.Module, x: Tensor, state: Any) -> dict[Key, Tensor]:
    """All tensors of floating-point numbers that go in and take a gradient."""
    found: dict[Key, Tensor] = {X: x} if is_number(x) else {}
    if case.takes_state:
        found |= {("state", p): each for p, each in parts(state) if isinstance(each, Tensor) and is_number(each)}
    named = module.named_parameters()
    return found | {("parameters", name): each for name, each in named if each.requires_grad and is_number(each)}


def _changed(case: Case, numbers: Mapping[Key, Tensor]) -> tuple[nn.Module, Tensor, Any]:
    """A module of its own, x and the state, with other numbers."""
    module = changed(case.module, torch.clone)
    with torch.no_grad():
        for name, each in module.named_parameters():
            if ("parameters", name) in numbers:
                each.copy_(numbers["parameters", name])
    x = numbers.get(X, case.x)
    return module, x, mapped(lambda path, each: numbers.get(("state", path), each), case.state)


def moved(case: Case, direction: Mapping[Key, Tensor], by: float) -> tuple[nn.Module, Tensor, Any]:
    """The module, x and the state, moved so far in a direction."""
    leaves = leaves_of(case, case.module, case.x, case.state)
    return _changed(case, {key: leaves[key].detach() + by * each for key, each in direction.items()})


def in_a_row(tensors: Iterable[Tensor], dtype: torch.dtype) -> Tensor:
    """All numbers in a row, complex ones as two."""
    pieces = [_real(each).flatten().to(dtype) for each in tensors]
    return torch.cat(pieces) if pieces else torch.zeros(0, dtype=dtype)


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def floats(values: Values) -> dict[str, Tensor]:
    """What comes out in floating-point numbers, by name."""
    return {name: each for name, each in values.tensors.items() if is_number(each)}


def spread(case: Case, limits: Mapping[str, Tensor]) -> Tensor:
    """One number for each that comes out, from tensors that can be spread over it."""
    rows = []
    for name, each in floats(case.base.values).items():
        limit = limits[name].to(case.dtype).expand(each.shape)
        rows.append(torch.stack((limit, limit), -1) if each.is_complex() else limit)
    return in_a_row(rows, case.dtype).to(case.x.device)


def sizes_of(case: Case) -> Tensor:
    """How large what comes out is: y up to each step, and each tensor of the state."""
    found = {}
    for name, each in floats(case.base.values).items():
        square = each.abs().to(case.dtype).square()
        if name == "y":
            size = square.flatten(1).mean(1).cummax(0).values.sqrt().reshape(-1, *[1] * (each.dim() - 1))
        else:
            size = square.mean().sqrt()
        found[name] = torch.where(size > 0, size, 1.0)
    return spread(case, found)


def signs(count: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """So many times 1 or -1."""
    return (torch.randint(0, 2, (count,), generator=generator) * 2 - 1).to(like)


def direction_of(case: Case, keys: Iterable[Key], seed: int, steps: Sequence[int] | None = None) -> dict[Key, Tensor]:
    """Random numbers of the size of those that they move; of x at some steps alone."""
    leaves = leaves_of(case, case.module, case.x, case.state)
    generator = torch.Generator().manual_seed(case.seed + 7919 * (seed + 1))
    found = {}
    for key, each in leaves.items():  # in one order, so that a part of them is moved as in the whole
        flat = _real(each.detach())
        size = flat.square().mean().sqrt().item() if flat.numel() else 0.0
        drawn = torch.randn(flat.shape, generator=generator, dtype=torch.float64).to(flat)
        drawn = drawn * (size or (0.1 if key[0] == "parameters" else 1.0))
        found[key] = torch.view_as_complex(drawn) if each.is_complex() else drawn
    _leave_padding(case.module, found)
    if steps is not None:
        kept = torch.zeros_like(found[X])
        kept[list(steps)] = found[X][list(steps)]
        found[X] = kept
    return {key: found[key] for key in keys}


def _leave_padding(module: nn.Module, direction: dict[Key, Tensor]) -> None:
    """Move no row of an embedding that stands for padding: by definition it has no gradient."""
    for name, each in module.named_modules():
        weight = ("parameters", f"{name}.weight" if name else "weight")
        is_embedding = isinstance(each, (nn.Embedding, nn.EmbeddingBag))
        if is_embedding and each.padding_idx is not None and weight in direction:
            direction[weight][each.padding_idx] = 0


# What autograd says ----------------------------------------------------------------------------------------------


class Refused(Exception):
    """Autograd raised an error; the text says which."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """A run that autograd recorded.

    Args:
        leaves: what went in.
        values: what came out.
        flat: the same in a row.
    """

    case: Case
    leaves: dict[Key, Tensor]
    values: Values
    flat: Tensor

    def gradient(
        self, of: Tensor, cotangent: Tensor, again: bool = False, whole: bool = False
    ) -> dict[Key, Tensor | None]:
        """The gradient of a product for each leaf; None where none arrives.

        Args:
            again: whether it is recorded itself.
            whole: whether all of the graph is walked, also what leads to no leaf: there stands what refuses to be.

        Raises:
            Refused: autograd raises an error.
        """
        if not of.requires_grad:
            return dict.fromkeys(self.leaves)
        with _refusing(self.case):
            found = self._accumulated(of, cotangent) if whole else self._asked(of, cotangent, again)
        with torch.set_grad_enabled(again):
            dense = [None if each is None else each.to_dense() if each.is_sparse else each for each in found]
        return dict(zip(self.leaves, dense, strict=True))

    def _asked(self, of: Tensor, cotangent: Tensor, again: bool) -> Sequence[Tensor | None]:
        leaves = list(self.leaves.values())
        try:
            return torch.autograd.grad(of, leaves, cotangent, retain_graph=True, create_graph=again, allow_unused=True)
        except RuntimeError as error:
            if again or "use_reentrant" not in str(error):
                raise
            return self._accumulated(of, cotangent)  # reentrant checkpoints allow nothing else

    def _accumulated(self, of: Tensor, cotangent: Tensor) -> list[Tensor | None]:
        """The gradients by .backward(): the leaves are nobody else's."""
        for each in self.leaves.values():
            each.grad = None
        torch.autograd.backward(of, cotangent, retain_graph=True)
        return [each.grad for each in self.leaves.values()]


@contextmanager
def _refusing(case: Case) -> Iterator[None]:
    """Tell errors of autograd's, and of a module that it records, from all others."""
    try:
        with default_dtype(case.dtype), guarded(case.recurrent.name):
            yield
    except RnnscopeError as raised:
        cause = raised.__cause__ or raised
        reason = (str(cause).strip().splitlines() or [""])[0].split(". ")[0]
        raise Refused(f"{type(cause).__name__}: {reason[:LONGEST_REASON]}") from raised


def recorded_run(case: Case, numbers: Mapping[Key, Tensor] | None = None) -> Recorded:
    """Run a copy with parameters, x and a state of its own, and record it.

    Raises:
        Refused: it runs without autograd alone.
    """
    module, x, state = _changed(case, numbers or {})
    _as_in_training(module, x)
    theirs = dict(case.recurrent.module.named_parameters())
    for name, each in module.named_parameters():
        if each.requires_grad and name in theirs:  # a copy of a parameter is made without its hooks
            for hook in (theirs[name]._backward_hooks or {}).values():
                each.register_hook(hook)  # type: ignore[no-untyped-call]

    def fresh(_: str, tensor: Tensor) -> Tensor:
        tensor = tensor.detach().clone()
        return tensor.requires_grad_() if is_number(tensor) else tensor

    x, state = fresh("", x), mapped(fresh, state)
    with torch.enable_grad(), _refusing(case):
        ran = case.run(x, state, on=module)
        flat = in_a_row(floats(ran.values).values(), case.dtype)
    return Recorded(case, leaves_of(case, module, x, state), ran.values, flat)


def _as_in_training(module: nn.Module, x: Tensor) -> None:
    """cuDNN gives gradients in training mode alone; without dropout that computes the same."""
    plain = (nn.RNN.forward, nn.LSTM.forward, nn.GRU.forward)
    for each in module.modules() if x.device.type != "cpu" else ():
        if isinstance(each, nn.RNNBase) and type(each).forward in plain:
            each.training, each.dropout = True, 0.0


# What finite differences say ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Slope:
    """How what comes out moves in a direction: a number for each number of it.

    Args:
        values: the slope.
        error: how far it may be off.
        bend: how far the slopes on both sides are apart; at a kink that stays at every distance.
    """

    values: Tensor
    error: Tensor
    bend: Tensor


def slope_of(evaluate: Callable[[float], Tensor], centre: Tensor, noise: Tensor, step: float) -> Slope:
    """The slope by five points in a row.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 25.3.6 and table 25.2.
    """
    ahead, near, behind, back = (evaluate(place * step) for place in (2, 1, -1, -2))
    third = (ahead - back) - 2 * (near - behind)
    fourth = (ahead + back) - 4 * (near + behind) + 6 * centre
    return Slope(
        (8 * (near - behind) - (ahead - back)) / (12 * step),
        (third.abs() + fourth.abs() + noise) / step,
        (near + behind - 2 * centre).abs() / step,
    )


@dataclass(frozen=True)
class Seen:
    """What was seen in one direction, or in several: `agrees`, `differs` or `coarse`.

    Args:
        off: how far autograd and the differences are apart.
        bound: what the errors of the differences explain.
        share: how far they are apart, in shares of the slope.
        why: what makes them coarse: `noise`, a `kink`, or that they are `wild`.
    """

    outcome: str
    off: float
    bound: float
    share: float
    why: str = ""

    @property
    def differs(self) -> bool:
        return self.outcome == "differs"

    @property
    def share_of_bound(self) -> float:
        return self.off / self.bound if self.bound else math.inf if self.off else 0.0

    def gap(self, place: Place | None = None) -> Gap:
        """As a relation tells it."""
        return Gap(self.off, self.bound, self.share_of_bound, place)


def compared(
    evaluate: Callable[[float], Tensor],
    centre: Tensor,
    noise: Tensor,
    cotangents: Tensor,
    told: Tensor,
    rest: Tensor,
    steps: tuple[float, ...],
) -> Seen:
    """Compare slopes of products with those that autograd tells.

    They agree where they do at one distance that decides. They differ where they do at two distances and agree at none,
    and by more than the slopes on both sides of the point are apart.

    Args:
        cotangents: (C, M), for M numbers that come out.
        told: (C,), by autograd.
        rest: (C,), how far rounding may move these.
    """
    squared, size = cotangents.square(), math.sqrt(max(len(centre), 1))
    best, parted, bend = Seen("coarse", math.inf, math.inf, math.inf), [], torch.full_like(told, math.inf)
    bounds: list[float] = []
    for step in steps:
        slope = slope_of(evaluate, centre, noise, step)
        said = cotangents @ slope.values
        if not told.any() and not slope.values.any():
            return Seen("agrees", 0.0, 0.0, 0.0)
        bound = WALK * (squared @ slope.error.square()).sqrt() + rest
        scale = torch.maximum((squared @ slope.values.square()).sqrt(), told.abs().nan_to_num())
        off = (told - said).abs().nan_to_num(nan=math.inf)
        if not bound.isfinite().all():
            continue
        bend = torch.minimum(bend, WALK * (squared @ slope.bend.square()).sqrt())
        worst = int((off / bound.clamp(min=1e-300)).argmax())
        share = (off / scale.clamp(min=1e-300)).max().item()
        seen = Seen("coarse", off[worst].item(), bound[worst].item(), share if off[worst] else 0.0)
        bounds.append(bound.max().item())
        if (off > bound).any():
            parted.append(replace(seen, outcome="differs"))
            if len(parted) > 1 and (off > bend).any():
                return parted[0]
        elif (bound <= torch.maximum(TIGHT * scale, torch.full_like(scale, STILL * size))).all():
            return replace(seen, outcome="agrees")
        best = min(best, seen, key=lambda each: each.bound)
    if not parted and best.bound <= FLAT * size:
        return replace(best, outcome="agrees")
    # At a smaller distance the error of curvature shrinks, that of a kink stays, and that of rounding grows.
    growth = bounds[1] / bounds[0] if len(bounds) > 1 and bounds[0] else 0.0
    return replace(best, why="noise" if growth > 2 else "kink" if parted or growth > 0.5 else "wild")


@dataclass(frozen=True, eq=False)
class Derivatives:
    """All that is known of derivatives at one point: that of a case.

    Args:
        cotangents: (C, M).
        gradients: what autograd gives for each of them.
        steps: how far things are moved.
    """

    case: Case
    cotangents: Tensor
    gradients: list[dict[Key, Tensor | None]]
    steps: tuple[float, ...]

    def seen(self, direction: dict[Key, Tensor]) -> Seen:
        """Move something, and compare."""
        case = self.case
        products = [[product(each[key], v) for key, v in direction.items()] for each in self.gradients]
        told = torch.stack([torch.stack([one for one, _ in each]).sum() for each in products])
        rest = torch.stack([torch.stack([size for _, size in each]).sum() for each in products])
        centre = in_a_row(floats(case.base.values).values(), case.dtype)
        noise = spread(case, case.allowed.tensors)
        runs = partial(run_at, case, direction)
        return compared(runs, centre, noise, self.cotangents, told, rounding_of(rest, case), self.steps)

    def group(self, group: str) -> list[Key]:
        """What goes in of a group."""
        return [key for key in self.gradients[0] if key[0] == group]


def product(gradient: Tensor | None, direction: Tensor) -> tuple[Tensor, Tensor]:
    """A gradient times a direction, and the size of what was added up."""
    if gradient is None:
        zero = torch.zeros((), dtype=_real(direction).dtype, device=direction.device)
        return zero, zero
    each = _real(gradient).to(_real(direction)) * _real(direction)
    return each.sum(), each.abs().sum()


def rounding_of(size: Tensor, case: Case) -> Tensor:
    """How far rounding may move a sum whose parts add up to a size; none of a sum that is NaN."""
    return 64 * case.unit * size.detach().nan_to_num(nan=0.0, posinf=0.0)


def run_at(case: Case, direction: Mapping[Key, Tensor], by: float) -> Tensor:
    """What comes out of numbers moved so far in a direction."""
    module, x, state = moved(case, direction, by)
    with torch.no_grad():
        return in_a_row(floats(case.run(x, state, on=module).values).values(), case.dtype)


def differentiated(case: Case, steps: tuple[float, ...], cotangents: int = COTANGENTS) -> Derivatives:
    """Let autograd differentiate some random products.

    Raises:
        Refused: it raises an error.
    """
    recorded, sizes = recorded_run(case), sizes_of(case)
    generator = torch.Generator().manual_seed(case.seed + 5)
    products = torch.stack([signs(len(sizes), generator, sizes) / sizes for _ in range(cotangents)])
    return Derivatives(case, products, [recorded.gradient(recorded.flat, each) for each in products], steps)


# In which dtype it computes ----------------------------------------------------------------------------------------


class _Casts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches to which coarser dtypes numbers are cast; made-up ones, as of a mask, lose nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and any(isinstance(each, Tensor) and _finer(each, result) for each in args):
            self.seen.add(result.dtype)
        return result


def _finer(one: Tensor, other: Tensor) -> bool:
    """Whether one tensor has more digits than another."""
    if not (is_number(one) and is_number(other)):
        return False
    return torch.finfo(one.dtype).eps < torch.finfo(other.dtype).eps


def coarsest_inside(case: Case) -> torch.dtype | None:
    """The coarsest dtype to which the module casts its numbers in its first steps; None where it does not."""
    with torch.no_grad(), _Casts() as casts:
        case.run(case.x[:4])
    return max(casts.seen, key=lambda each: torch.finfo(each).eps, default=None)
