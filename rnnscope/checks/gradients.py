"""Is the gradient that autograd gives the slope of what the module computes, and does it arrive where it should?

The witness is finite differences in float64. A random cotangent is multiplied into all that comes out: so the error of
the differences, which is known for each number, adds up as a random walk does, and one bound holds for the product.

The error of a difference is measured and not guessed. Five points in a row give the slope by the formula of order four,
and their third and fourth differences are what rounding, curvature or a kink between them leave over.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rnnscope.checks.case import Case, default_dtype, replace_case
from rnnscope.checks.result import Relation, broken, holds, not_applicable, undecided
from rnnscope.checks.states import is_number, mapped, parts
from rnnscope.checks.values import Gap, Place, Values
from rnnscope.errors import RnnscopeError
from rnnscope.subjects.building import computed
from rnnscope.subjects.user_code import guarded

STEPS = (2.0**-13, 2.0**-17, 2.0**-21, 2.0**-25, 2.0**-7)
"""Distances of the points, as shares of the size of what is moved, in the order in which they are tried."""

LONG_STEPS, UNITS_APART = (2.0**-7, 2.0**-10, 2.0**-4), 32
"""Likewise for a module that computes in a coarser dtype inside: so many of its units apart at least."""

COTANGENTS = 3
"""How many products of what comes out are differentiated; each costs one backward pass."""

DIRECTIONS = 2
"""In how many directions x, the state and the parameters are each moved; each costs four runs."""

WALK = 2.0
"""How many times the length of a random walk the sum may be off."""

TIGHT = 1e-3
"""The differences decide where their bound is at most such a share of the slope."""

FLAT, STILL = 1e-6, 1e-9
"""Likewise where it is such a share of what comes out; `STILL` ends the search for a better step."""

CLEAR = 8.0
"""How many times its bound a slope must have to be one where autograd has none."""

LONGEST, LONGEST_REACH = 64, 512
"""Steps on which differences are taken, and on which it is asked how far gradients reach."""

CALM = 1e-9
"""Differences are taken on the steps in which rounding moves y by no more than such a share."""

OWN_STEPS = 8
"""Backward passes that ask whether y at a step reaches x at the same one."""

GROUPS = ("parameters", "x", "state")

Key = tuple[str, str]
"""What goes in: its group and its name, such as ("parameters", "cell.weight_hh")."""


# What goes in and what comes out ---------------------------------------------------------------------------------


def _leaves(case: Case, module: nn.Module, x: Tensor, state: Any) -> dict[Key, Tensor]:
    """All floating-point numbers that go in and may have a gradient."""
    found: dict[Key, Tensor] = {("x", "x"): x} if is_number(x) else {}
    if case.takes_state:
        found |= {("state", p): each for p, each in parts(state) if isinstance(each, Tensor) and is_number(each)}
    named = module.named_parameters()
    return found | {("parameters", name): each for name, each in named if each.requires_grad and is_number(each)}


def _changed(case: Case, numbers: Mapping[Key, Tensor]) -> tuple[nn.Module, Tensor, Any]:
    """A module of its own, x and the state, with other numbers."""
    module = deepcopy(case.module, computed(case.module))
    with torch.no_grad():
        for name, each in module.named_parameters():
            if ("parameters", name) in numbers:
                each.copy_(numbers["parameters", name])
    x = numbers.get(("x", "x"), case.x)
    return module, x, mapped(lambda path, each: numbers.get(("state", path), each), case.state)


def _moved(case: Case, direction: Mapping[Key, Tensor], by: float) -> tuple[nn.Module, Tensor, Any]:
    leaves = _leaves(case, case.module, case.x, case.state)
    return _changed(case, {key: leaves[key].detach() + by * each for key, each in direction.items()})


def _flat(tensors: Iterable[Tensor], dtype: torch.dtype) -> Tensor:
    """All numbers in a row, complex ones as two."""
    pieces = [_real(each).flatten().to(dtype) for each in tensors]
    return torch.cat(pieces) if pieces else torch.zeros(0, dtype=dtype)


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _numbers(values: Values) -> dict[str, Tensor]:
    return {name: each for name, each in values.tensors.items() if is_number(each)}


def _spread(case: Case, limits: Mapping[str, Tensor]) -> Tensor:
    """One number for each that comes out, from tensors that can be spread over it."""
    rows = []
    for name, each in _numbers(case.base.values).items():
        limit = limits[name].to(case.dtype).expand(each.shape)
        rows.append(torch.stack((limit, limit), -1) if each.is_complex() else limit)
    return _flat(rows, case.dtype).to(case.x.device)


def _sizes(case: Case) -> Tensor:
    """How large what comes out is: y up to each step, and each tensor of the state."""
    found = {}
    for name, each in _numbers(case.base.values).items():
        square = each.abs().to(case.dtype).square()
        if name == "y":
            size = square.flatten(1).mean(1).cummax(0).values.sqrt().reshape(-1, *[1] * (each.dim() - 1))
        else:
            size = square.mean().sqrt()
        found[name] = torch.where(size > 0, size, 1.0)
    return _spread(case, found)


def _drawn(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(like)


def _signs(count: int, generator: torch.Generator, like: Tensor) -> Tensor:
    return (torch.randint(0, 2, (count,), generator=generator) * 2 - 1).to(like)


def _direction(case: Case, keys: Iterable[Key], seed: int, steps: slice | None = None) -> dict[Key, Tensor]:
    """Random numbers of the size of those that they move; of x at some steps alone."""
    leaves = _leaves(case, case.module, case.x, case.state)
    generator = torch.Generator().manual_seed(case.seed + 7919 * (seed + 1))
    found = {}
    for key, each in leaves.items():  # in one order, so that a part of them is moved as in the whole
        flat = _real(each.detach())
        size = flat.square().mean().sqrt().item() if flat.numel() else 0.0
        drawn = _drawn(flat.shape, generator, flat) * (size or (0.1 if key[0] == "parameters" else 1.0))
        found[key] = torch.view_as_complex(drawn) if each.is_complex() else drawn
    for name, each in case.module.named_modules():
        # By its definition the padding's row has no gradient.
        row, weight = getattr(each, "padding_idx", None), ("parameters", f"{name}.weight" if name else "weight")
        if isinstance(each, (nn.Embedding, nn.EmbeddingBag)) and row is not None and weight in found:
            found[weight][row] = 0
    if steps is not None:
        kept = torch.zeros_like(found["x", "x"])
        kept[steps] = found["x", "x"][steps]
        found["x", "x"] = kept
    return {key: found[key] for key in keys}


# What autograd says ----------------------------------------------------------------------------------------------


class _Refused(Exception):
    """Autograd raised an error. The text says which."""


@dataclass(frozen=True, eq=False)
class _Recorded:
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
            _Refused: autograd raises an error.
        """
        if not of.requires_grad:
            return dict.fromkeys(self.leaves)
        with _refusing(self.case):
            try:
                found: Any = (
                    self._accumulated(of, cotangent)
                    if whole
                    else torch.autograd.grad(
                        of,
                        list(self.leaves.values()),
                        cotangent,
                        retain_graph=True,
                        create_graph=again,
                        allow_unused=True,
                    )
                )
            except RuntimeError as error:
                if again or "use_reentrant" not in str(error):
                    raise
                found = self._accumulated(of, cotangent)  # as reentrant checkpoints demand
        with torch.set_grad_enabled(again):
            dense = [None if each is None else each.to_dense() if each.is_sparse else each for each in found]
        return dict(zip(self.leaves, dense, strict=True))

    def _accumulated(self, of: Tensor, cotangent: Tensor) -> list[Tensor | None]:
        """The gradients by .backward(): the leaves are nobody else's."""
        for each in self.leaves.values():
            each.grad = None
        torch.autograd.backward(of, cotangent, retain_graph=True)
        return [each.grad for each in self.leaves.values()]


class _refusing:
    """Tell errors of autograd's from all others, in the dtype in which the module is run."""

    def __init__(self, case: Case) -> None:
        self._inside = (default_dtype(case.dtype), guarded(case.recurrent.name))

    def __enter__(self) -> None:
        for each in self._inside:
            each.__enter__()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            self._inside[1].__exit__(kind, error, trace)
        except RnnscopeError as raised:
            cause = raised.__cause__ or raised
            raise _Refused(f"{type(cause).__name__}: {str(cause).strip().splitlines()[0][:200]}") from raised
        finally:
            self._inside[0].__exit__(None, None, None)


def _recorded(case: Case, numbers: Mapping[Key, Tensor] | None = None) -> _Recorded:
    """Run a copy with parameters, x and a state of its own, and record it.

    Raises:
        _Refused: it runs without autograd alone.
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
    with torch.enable_grad():
        try:
            ran = case.run(x, state, on=module)
        except RnnscopeError as raised:
            cause = raised.__cause__ or raised
            raise _Refused(f"{type(cause).__name__}: {str(cause).strip().splitlines()[0][:200]}") from raised
        flat = _flat(_numbers(ran.values).values(), case.dtype)
    return _Recorded(case, _leaves(case, module, x, state), ran.values, flat)


def _as_in_training(module: nn.Module, x: Tensor) -> None:
    """cuDNN gives gradients in training mode alone; without dropout that computes the same."""
    plain = (nn.RNN.forward, nn.LSTM.forward, nn.GRU.forward)
    for each in module.modules() if x.device.type != "cpu" else ():
        if isinstance(each, nn.RNNBase) and type(each).forward in plain:
            each.training, each.dropout = True, 0.0


# What finite differences say ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Slope:
    """How what comes out moves in a direction: a number for each number of it.

    Args:
        values: the slope.
        error: how far it may be off.
        bend: how far the slopes on both sides are apart; at a kink that stays at every distance.
    """

    values: Tensor
    error: Tensor
    bend: Tensor


def _slope(evaluate: Callable[[float], Tensor], centre: Tensor, noise: Tensor, step: float) -> _Slope:
    """The slope by five points in a row.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 25.3.6 and table 25.2.
    """
    ahead, near, behind, back = (evaluate(place * step) for place in (2, 1, -1, -2))
    third = (ahead - back) - 2 * (near - behind)
    fourth = (ahead + back) - 4 * (near + behind) + 6 * centre
    return _Slope(
        (8 * (near - behind) - (ahead - back)) / (12 * step),
        (third.abs() + fourth.abs() + noise) / step,
        (near + behind - 2 * centre).abs() / step,
    )


@dataclass(frozen=True)
class _Seen:
    """What was seen in one direction, or in several: `agrees`, `differs` or `coarse`.

    Args:
        off: how far autograd and the differences are apart.
        bound: what the errors of the differences explain.
        share: the off in shares of the slope.
        why: what makes them coarse.
    """

    outcome: str
    off: float
    bound: float
    share: float
    why: str = ""

    @property
    def differs(self) -> bool:
        return self.outcome == "differs"

    def gap(self, place: Place | None = None) -> Gap:
        return Gap(self.off, self.bound, self.off / self.bound if self.bound else math.inf * (self.off > 0), place)


def _compared(
    evaluate: Callable[[float], Tensor],
    centre: Tensor,
    noise: Tensor,
    cotangents: Tensor,
    told: Tensor,
    rest: Tensor,
    steps: tuple[float, ...],
) -> _Seen:
    """Compare slopes of products with those that autograd tells.

    They agree where they do at one distance that decides. They differ where they do at two distances and agree at none,
    and by more than the slopes on both sides of the point are apart.

    Args:
        cotangents: (C, M), for M numbers that come out.
        told: (C,), by autograd.
        rest: (C,), how far rounding may move these.
    """
    squared, size = cotangents.square(), math.sqrt(max(len(centre), 1))
    best, parted, bend = _Seen("coarse", math.inf, math.inf, math.inf), [], torch.full_like(told, math.inf)
    errors: list[float] = []
    for step in steps:
        slope = _slope(evaluate, centre, noise, step)
        said = cotangents @ slope.values
        if not told.any() and not slope.values.any():
            return _Seen("agrees", 0.0, 0.0, 0.0)
        bound = WALK * (squared @ slope.error.square()).sqrt() + rest
        scale = torch.maximum((squared @ slope.values.square()).sqrt(), told.abs().nan_to_num())
        off = (told - said).abs().nan_to_num(nan=math.inf)
        if not bound.isfinite().all():
            continue
        bend = torch.minimum(bend, WALK * (squared @ slope.bend.square()).sqrt())
        worst = int((off / bound.clamp(min=1e-300)).argmax())
        share = (off / scale.clamp(min=1e-300)).max().item()
        seen = _Seen("coarse", off[worst].item(), bound[worst].item(), share if off[worst] else 0.0)
        errors.append(bound.max().item())
        if (off > bound).any():
            parted.append(replace(seen, outcome="differs"))
            if len(parted) > 1 and (off > bend).any():
                return parted[0]
        elif (bound <= torch.maximum(TIGHT * scale, torch.full_like(scale, STILL * size))).all():
            return replace(seen, outcome="agrees")
        best = min(best, seen, key=lambda each: each.bound)
    if not parted and best.bound <= FLAT * size:
        return replace(best, outcome="agrees")
    grows = len(errors) > 1 and errors[1] > errors[0]
    return replace(best, why="kink" if parted and not grows else "coarse" if grows else "wild")


@dataclass(frozen=True, eq=False)
class _At:
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

    def seen(self, direction: dict[Key, Tensor]) -> _Seen:
        """Move something, and compare."""
        case = self.case
        products = [[_product(each[key], v) for key, v in direction.items()] for each in self.gradients]
        told = torch.stack([torch.stack([one for one, _ in each]).sum() for each in products])
        rest = torch.stack([torch.stack([size for _, size in each]).sum() for each in products])
        centre = _flat(_numbers(case.base.values).values(), case.dtype)
        noise = _spread(case, case.allowed.tensors)
        rest = 64 * case.unit * rest
        return _compared(
            lambda by: _run_at(case, direction, by), centre, noise, self.cotangents, told, rest, self.steps
        )

    def group(self, group: str) -> list[Key]:
        return [key for key in self.gradients[0] if key[0] == group]


def _product(gradient: Tensor | None, direction: Tensor) -> tuple[Tensor, Tensor]:
    """A gradient times a direction, and the size of what was added up."""
    if gradient is None:
        zero = torch.zeros((), dtype=_real(direction).dtype, device=direction.device)
        return zero, zero
    each = _real(gradient).to(_real(direction)) * _real(direction)
    return each.sum(), each.abs().sum()


def _run_at(case: Case, direction: Mapping[Key, Tensor], by: float) -> Tensor:
    module, x, state = _moved(case, direction, by)
    with torch.no_grad():
        return _flat(_numbers(case.run(x, state, on=module).values).values(), case.dtype)


def _at(case: Case, steps: tuple[float, ...]) -> _At:
    """Let autograd differentiate some random products.

    Raises:
        _Refused: it raises an error.
    """
    recorded, sizes = _recorded(case), _sizes(case)
    generator = torch.Generator().manual_seed(case.seed + 5)
    cotangents = torch.stack([_signs(len(sizes), generator, sizes) / sizes for _ in range(COTANGENTS)])
    return _At(case, cotangents, [recorded.gradient(recorded.flat, each) for each in cotangents], steps)


# gradient ------------------------------------------------------------------------------------------------------------


def gradient(case: Case) -> Relation:
    """Autograd's directional derivatives against finite differences, for the parameters, x and state; then twice."""
    if case.dtype != torch.float64:
        return undecided("this device has no float64, and finite differences in float32 are too coarse")
    if not _leaves(case, case.module, case.x, case.state):
        return not_applicable(NOTHING)
    short, said = _calm(case)
    if short is None:
        return undecided(said)
    try:
        return _gradient(short, said)
    except _Refused as refused:
        return broken(None, f"autograd gives no gradient: {refused}")


NOTHING = "nothing that goes in takes a gradient: x is whole numbers, and no parameter requires one"


def _calm(case: Case) -> tuple[Case | None, str]:
    """A case on the first steps, as many as finite differences can follow, and what is to be said of that."""
    short = case.first(LONGEST) if case.steps > LONGEST else case
    every = _numbers(short.base.values)
    if not all(each.isfinite().all() for each in every.values()) or not any(each.numel() for each in every.values()):
        return None, "what comes out is not finite"
    y = every.get("y")
    if y is not None and y.numel():
        size = y.abs().double().flatten(1).amax(1).cummax(0).values
        wild = ~(short.allowed.tensors["y"].flatten(1).amax(1) <= CALM * size) & (size > 0)
        calm = int(wild.nonzero()[0]) if wild.any() else short.steps
        if calm == 0:
            return None, "rounding moves what comes out too far for finite differences"
        short = case.first(calm) if calm < short.steps else short
    return short, "" if short is case else f"finite differences were taken on the first {short.steps} steps"


def _gradient(case: Case, said: str) -> Relation:
    coarse = _coarsest(case)
    steps = (
        STEPS if coarse is None else tuple(each for each in LONG_STEPS if each >= UNITS_APART * torch.finfo(coarse).eps)
    )
    if coarse is not None and not steps:
        return undecided(_and(f"{_inside(coarse)}, too coarse for finite differences", said))
    at = _at(case, steps)
    found: dict[str, _Seen] = {}
    for group in GROUPS:
        if keys := at.group(group):
            found[group] = _of_group(at, keys)
    wrong = [group for group, each in found.items() if each.differs]
    if wrong:
        sure, other = _elsewhere(at, wrong)
        if sure:
            return _placed(at, {group: found[group] for group in sure}, said)
        return undecided(_and(f"at this x the gradient is not the slope, but at others it is{other}", said))
    loose = [each for each in found.values() if each.outcome == "coarse"]
    if loose:
        why = WHY[loose[0].why] if coarse is None else f"{_inside(coarse)}, and finite differences do not decide"
        return undecided(_and(why, said), max(loose, key=lambda each: each.bound).gap())
    best = max(found.values(), key=lambda each: each.gap().share).gap()
    return _twice(case, steps, best, said)


WHY = {
    "kink": "kinks, as of relu, abs or max, lie so close that the gradient could not be compared with differences",
    "coarse": "finite differences are too coarse: it computes in less than float64 inside, or in jumps",
    "wild": "finite differences settle at no step: what comes out bends or jumps too much",
}


def _inside(dtype: torch.dtype) -> str:
    return f"it computes in {str(dtype).removeprefix('torch.')} inside"


class _Casts(TorchDispatchMode):
    """Watches to which coarser dtypes numbers are cast; made-up ones, as of a mask, lose nothing."""

    def __init__(self) -> None:
        super().__init__()
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


def _coarsest(case: Case) -> torch.dtype | None:
    """The coarsest dtype to which the module casts its numbers in its first steps; None where it does not."""
    with torch.no_grad(), _Casts() as casts:
        case.run(case.x[:4])
    return max(casts.seen, key=lambda each: torch.finfo(each).eps, default=None)


def _of_group(at: _At, keys: list[Key]) -> _Seen:
    """The worst of some directions; one that decides nothing is not followed by another."""
    worst = _Seen("agrees", 0.0, 0.0, 0.0)
    for seed in range(DIRECTIONS):
        seen = at.seen(_direction(at.case, keys, seed))
        if seen.outcome != "agrees":
            return seen
        worst = max(worst, seen, key=lambda each: (each.off / each.bound if each.bound else 0.0, each.bound))
    return worst


def _elsewhere(at: _At, groups: list[str]) -> tuple[list[str], str]:
    """Those of some groups whose gradient is wrong at another point, too."""
    for seed in (1, 2):
        there = _another(at.case, seed)
        if not all(each.isfinite().all() for each in _numbers(there.base.values).values()):
            continue
        other = _at(there, at.steps)
        sure = [each for each in groups if other.seen(_direction(there, other.group(each), seed)).differs]
        if sure:
            return sure, ""
    return [], ""


def _another(case: Case, seed: int) -> Case:
    """A case with another x, and with parameters and a state that are moved a little."""
    leaves = _leaves(case, case.module, case.x, case.state)
    module, _, state = _moved(case, _direction(case, [key for key in leaves if key[0] != "x"], seed + 100), 0.02)
    return replace_case(case, module=module, x=case.other_x(seed), state=state)


def _placed(at: _At, found: dict[str, _Seen], said: str) -> Relation:
    """Say for what the gradient is wrong."""
    names = list(_wrong(at, at.group("parameters"))) if "parameters" in found else []
    states = list(_wrong(at, at.group("state"))) if "state" in found else []
    step = _first_step(at) if "x" in found else None
    every = [name for _, name in at.group("parameters")]
    told = (
        [_listed(names, "parameters") if len(names) < len(every) or len(every) == 1 else "every parameter"]
        if names
        else []
    )
    told += [_listed(states, "tensors of the state")] if states else []
    told += [f"x from step {step} on" if step else "x"] if step is not None else []
    if names and (len(names) < len(every) or (step is None and not states)):
        place, worst = Place(names[0]), found["parameters"]
    elif step is not None:
        place, worst = Place("x", step), found["x"]
    else:
        group = "state" if states else next(iter(found))
        place, worst = Place(states[0] if states else group), found[group]
    message = f"autograd's gradient is wrong for {' and '.join(told) or ' and '.join(found)}: {_apart(worst)}"
    if _jumps(at, list(found)):
        message += (
            "; what comes out jumps: a rounding or threshold with a made-up gradient (straight-through) is told so"
        )
    return broken(worst.gap(place), _and(message, said))


def _apart(seen: _Seen) -> str:
    if not math.isfinite(seen.off):
        return "it is NaN or infinite"
    return f"it is {100 * seen.share:.2g} % off what finite differences give"


def _wrong(at: _At, keys: list[Key]) -> Iterator[str]:
    """The names of those whose gradients are wrong; many are asked in halves."""
    if len(keys) == 1:
        yield from (name for _, name in keys if at.seen(_direction(at.case, keys, 0)).differs)
    elif len(keys) <= 8 or at.seen(_direction(at.case, keys, 0)).differs:
        size = len(keys) // 2
        for half in [[key] for key in keys] if len(keys) <= 8 else [keys[:size], keys[size:]]:
            yield from _wrong(at, half)


def _first_step(at: _At) -> int:
    """The first step at which the gradient with respect to x is wrong."""

    def wrong(last: int) -> bool:
        return at.seen(_direction(at.case, [("x", "x")], 0, slice(0, last))).differs

    low, high = 0, at.case.steps  # the first `low` steps are right, and the first `high` are not
    if wrong(1):
        return 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if wrong(middle) else (middle, high)
    return low


def _jumps(at: _At, groups: list[str]) -> bool:
    """Whether what comes out jumps: on a stretch that is halved again and again it moves as far as on the whole."""
    case, sizes = at.case, _sizes(at.case)
    direction = _direction(case, [key for key in at.gradients[0] if key[0] in groups], 0)
    low, high = 0.0, 2.0**-4
    before, after = _run_at(case, direction, low), _run_at(case, direction, high)
    while high - low > 2.0**-30:
        middle = (low + high) / 2
        between = _run_at(case, direction, middle)
        if ((between - before) / sizes).abs().max() >= ((after - between) / sizes).abs().max():
            high, after = middle, between
        else:
            low, before = middle, between
    return bool(((after - before) / sizes).abs().max() > 1e-4)


def _listed(names: list[str], noun: str) -> str:
    return (
        " and ".join(names)
        if len(names) <= 2
        else f"{', '.join(names[:3])}" + (f" and {len(names) - 3} more {noun}" if len(names) > 3 else "")
    )


def _and(*sentences: str) -> str:
    return "; ".join(filter(None, sentences))


# twice ---------------------------------------------------------------------------------------------------------------


def _twice(case: Case, steps: tuple[float, ...], best: Gap, said: str) -> Relation:
    """What is said where the gradient is right: whether it is differentiated rightly itself."""
    try:
        seen, name = _second(case, steps)
        if seen.differs:
            other, _ = _second(_another(case, 1), steps)
            if other.differs:
                message = f"the gradient is right, but double backward is wrong for {name}: {_apart(seen)}"
                return broken(seen.gap(Place(name)), _and(message, said))
            seen = replace(seen, outcome="coarse")
    except _Refused as refused:
        return holds(best, _and(f"double backward is refused: {refused}", said))
    return holds(best, _and("double backward could not be compared" if seen.outcome == "coarse" else "", said))


def _second(case: Case, steps: tuple[float, ...]) -> tuple[_Seen, str]:
    """The derivative of the gradient in one direction, by autograd and by differences, and where it is wrong.

    Raises:
        _Refused: autograd raises an error.
    """
    sizes, generator = _sizes(case), torch.Generator().manual_seed(case.seed + 11)
    cotangent = _signs(len(sizes), generator, sizes) / sizes
    recorded = _recorded(case)
    leaves = recorded.leaves
    first = recorded.gradient(recorded.flat, cotangent, again=True)
    with torch.enable_grad():
        flat = _filled(first, leaves, case.dtype)
    scales = [_weight(first[key], each) for key, each in leaves.items()]
    weights = torch.cat(scales) * _signs(len(flat), generator, flat)
    direction = _direction(case, leaves, 3)

    def told(weight: Tensor) -> tuple[Tensor, Tensor]:
        second = recorded.gradient(flat, weight, whole=True)
        products = [_product(second[key], v) for key, v in direction.items()]
        return torch.stack([each for each, _ in products]).sum(), torch.stack([size for _, size in products]).sum()

    def gradient_at(by: float) -> Tensor:
        start = _leaves(case, case.module, case.x, case.state)
        there = _recorded(case, {key: start[key].detach() + by * each for key, each in direction.items()})
        moved = there.gradient(there.flat, cotangent)
        return _filled(moved, leaves, case.dtype).detach()

    return _told_twice(
        case, gradient_at, flat.detach(), weights, told, [len(each) for each in scales], list(leaves), steps
    )


def _filled(gradient: dict[Key, Tensor | None], leaves: dict[Key, Tensor], dtype: torch.dtype) -> Tensor:
    """A gradient in a row, with zeros where none arrives."""
    return _flat([torch.zeros_like(leaves[key]) if each is None else each for key, each in gradient.items()], dtype)


def _told_twice(
    case: Case,
    gradient_at: Callable[[float], Tensor],
    centre: Tensor,
    weights: Tensor,
    told: Callable[[Tensor], tuple[Tensor, Tensor]],
    counts: list[int],
    keys: list[Key],
    steps: tuple[float, ...],
) -> tuple[_Seen, str]:
    remembered: dict[float, Tensor] = {}

    def evaluate(by: float) -> Tensor:
        if by not in remembered:
            remembered[by] = gradient_at(by)
        return remembered[by]

    def seen(weight: Tensor) -> _Seen:
        product, rest = told(weight)
        noise = 4 * case.unit * centre.abs()
        return _compared(
            evaluate, centre, noise, weight[None], product[None].detach(), 64 * case.unit * rest[None], steps
        )

    whole, name = seen(weights), ""
    if whole.differs:
        for mask, key in zip(_masks(counts, weights), keys, strict=True):
            if (each := seen(weights * mask)).differs:
                return each, key[1]
    return whole, name or "all together"


def _masks(counts: list[int], like: Tensor) -> Iterator[Tensor]:
    place = 0
    for count in counts:
        mask = torch.zeros_like(like)
        mask[place : place + count] = 1
        place += count
        yield mask


def _weight(gradient: Tensor | None, leaf: Tensor) -> Tensor:
    """One over the size of a gradient, for each number of it, so that none outweighs the others."""
    flat = _real(leaf.detach()).flatten()
    size = 0.0 if gradient is None else _real(gradient.detach()).square().mean().sqrt().item()
    return torch.full_like(flat, 1 / size if 0 < size < math.inf else 1.0)


# gradient_reach ------------------------------------------------------------------------------------------------------

CUT = "it is used through .detach(), .data or numpy"


@dataclass(frozen=True)
class _Cut:
    """Where no gradient arrives, though there should."""

    place: Place
    message: str


def gradient_reach(case: Case) -> Relation:
    """Whether a gradient arrives at every step of x, at the state and at every parameter that moves what comes out."""
    if not _leaves(case, case.module, case.x, case.state):
        return not_applicable(NOTHING)
    short = case.first(LONGEST_REACH) if case.steps > LONGEST_REACH else case
    said = f"asked on the first {short.steps} steps" if short is not case else ""
    try:
        cuts = list(_cuts(short))
    except _Refused as refused:
        return broken(None, f"autograd gives no gradient: {refused}")
    if not cuts:
        return holds(message=said)
    message = "; ".join(each.message for each in cuts[:3])
    return replace(broken(None, _and(message, said)), place=cuts[0].place)


def _cuts(case: Case) -> Iterator[_Cut]:
    """All places where no gradient arrives. Only what has a zero gradient is moved and run."""
    recorded = _recorded(case)
    outputs = _numbers(recorded.values)
    deaf = [name for name, each in outputs.items() if not each.requires_grad]
    if len(deaf) == len(outputs):
        if _moves(case, _direction(case, recorded.leaves, 0), _mask(case, lambda _: True)):
            message = "nothing that comes out has a gradient: torch.no_grad, .detach() or numpy is inside"
            yield _Cut(Place(deaf[0] if deaf else "y"), message)
        return
    for name in deaf:
        if _moves(case, _direction(case, recorded.leaves, 0), _mask(case, {name}.__contains__)):
            yield _Cut(Place(name), f"{name} comes out without a gradient, as after .detach() or torch.no_grad")
    everything = _mask(case, lambda each: each not in deaf)
    reached = recorded.gradient(recorded.flat, _signed(case, everything))
    silent = [key for key, each in reached.items() if _is_zero(each)]
    cut = [key for key in _moving(case, silent, everything) if key in silent]
    yield from _named(cut, len([key for key in recorded.leaves if key[0] == "parameters"]))
    if ("x", "x") in recorded.leaves and ("x", "x") not in silent:
        yield from _cut_steps(case, recorded, deaf)


def _named(cut: list[Key], parameters: int) -> Iterator[_Cut]:
    """Tell which parameters, which parts of the state and whether x are cut off."""
    for group, noun in (("parameters", "parameters"), ("state", "tensors of the state"), ("x", "")):
        names = [name for each, name in cut if each == group]
        if names:
            where = "any parameter" if 1 < parameters == len(names) else _listed(names, noun)
            where = f"the {name} that goes in" if group == "state" and (name := _listed(names, noun)) else where
            yield _Cut(Place(names[0]), f"no gradient arrives at {where}: {CUT}")


def _moving(case: Case, keys: list[Key], wanted: Tensor) -> Iterator[Key]:
    """Those that move what comes out; all are asked at once first."""
    if not keys or not _moves(case, _direction(case, keys, 0), wanted):
        return
    if len(keys) == 1:
        yield keys[0]
        return
    half = len(keys) // 2
    yield from _moving(case, keys[:half], wanted)
    yield from _moving(case, keys[half:], wanted)


def _cut_steps(case: Case, recorded: _Recorded, deaf: list[str]) -> Iterator[_Cut]:
    """Steps of x at which nothing arrives from the end, or nothing from y at the same step."""
    x, has_y, last = ("x", "x"), "y" in set(recorded.values.tensors) - set(deaf), case.steps - 1
    ends = [(last, "last")] + [(0, "first")] * (has_y and case.recurrent.reads_backward and last > 0)
    for end, called in ends:
        wanted = _mask(case, lambda name: name not in ("y", *deaf), {end: slice(None)} if has_y else None)
        arrived = recorded.gradient(recorded.flat, _signed(case, wanted))[x]
        silent = [step for step in range(case.steps) if arrived is None or _is_zero(arrived[step])]
        step = _nearest_moving(case, silent if called == "last" else silent[::-1], wanted)
        if step is not None:
            yield _Cut(Place("x", step), _cut_at(step, called, case.steps, silent))
            return
    if has_y:
        yield from _own_steps(case, recorded)


def _cut_at(step: int, called: str, steps: int, silent: list[int]) -> str:
    if len(silent) == steps:
        return f"no gradient arrives at x from y at the {called} step: {CUT}"
    if called == "last" and silent[: step + 1] == list(range(step + 1)) and step + 1 not in silent:
        where = f"before step {step + 1}"
    elif called == "first" and silent[-(steps - step) :] == list(range(step, steps)) and step - 1 not in silent:
        where = f"behind step {step - 1}"
    else:
        where = f"at step {step}"
    told = f"no gradient arrives at x {where} from the {called} step"
    return f"{told}: the state is cut off there, as by .detach()"


def _nearest_moving(case: Case, steps: list[int], wanted: Tensor) -> int | None:
    """The last of some steps whose x moves what is wanted; None where none does."""

    def moves(some: list[int]) -> bool:
        return bool(some) and _moves(case, _direction_at(case, some), wanted)

    if not steps or not moves(steps):
        return None
    if moves(steps[-1:]):
        return steps[-1]
    low, high = 0, len(steps) - 1  # those from `low` on move it, those from `high` on do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if moves(steps[middle:]) else (low, middle)
    return steps[low]


def _own_steps(case: Case, recorded: _Recorded) -> Iterator[_Cut]:
    """Whether y at a step reaches x at that step: each item asks another step, so that a few passes ask all."""
    count = min(case.steps, OWN_STEPS * case.items)
    asked = sorted({round(place * (case.steps - 1) / max(count - 1, 1)) for place in range(count)})
    found: list[tuple[int, int]] = []
    for start in range(0, len(asked), case.items):
        pairs = list(enumerate(asked[start : start + case.items]))
        wanted = _mask(case, lambda name: False, {step: item for item, step in pairs})
        arrived = recorded.gradient(recorded.flat, _signed(case, wanted))["x", "x"]
        found += [(step, item) for item, step in pairs if arrived is None or _is_zero(arrived[step, item])]
    for step, item in found[:OWN_STEPS]:
        if _moves(case, _direction_at(case, [step]), _mask(case, lambda name: False, {step: item})):
            yield _Cut(Place("x", step), f"no gradient arrives at x at step {step} from y at the same step: {CUT}")
            return


def _direction_at(case: Case, steps: list[int]) -> dict[Key, Tensor]:
    """Move x at some steps alone."""
    whole = _direction(case, [("x", "x")], 0)["x", "x"]
    kept = torch.zeros_like(whole)
    kept[steps] = whole[steps]
    return {("x", "x"): kept}


def _mask(case: Case, wanted: Callable[[str], bool], of_y: Mapping[int, Any] | None = None) -> Tensor:
    """One for each number that is wanted: of the tensors of some names, and of y at some steps and items."""
    found = {}
    for name, each in _numbers(case.base.values).items():
        found[name] = torch.full(each.shape, float(wanted(name)), dtype=case.dtype, device=each.device)
        for step, item in (of_y or {}).items() if name == "y" else ():
            found[name][step, item] = 1.0
    return _spread(case, found)


def _signed(case: Case, mask: Tensor) -> Tensor:
    """Random numbers where a mask is one: no sum of them is zero by the nature of a module, as of a softmax."""
    generator = torch.Generator().manual_seed(case.seed + 13)
    return mask * _drawn(mask.shape, generator, mask) / _sizes(case)


def _is_zero(gradient: Tensor | None) -> bool:
    return gradient is None or not bool((gradient != 0).any())


def _moves(case: Case, direction: dict[Key, Tensor], wanted: Tensor) -> bool:
    """Whether a small change clearly moves something of what is wanted, and not by a jump or a kink."""
    centre, noise = _flat(_numbers(case.base.values).values(), case.dtype), _spread(case, case.allowed.tensors)
    mask, clear, still = wanted > 0, 0, False
    for step in (2.0**-7, 2.0**-10, 2.0**-13, 2.0**-18):
        slope = _slope(lambda by: _run_at(case, direction, by), centre, noise, step)
        values, error = slope.values[mask], slope.error[mask]
        clear += bool((values.abs() > CLEAR * error).any())
        still = not bool((values != 0).any())
        if clear == 2 or still:  # what does not move at all moves by no smaller change either
            break
    return clear == 2
