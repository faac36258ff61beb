"""Is a module as exact as its dtype allows, and in which arithmetic does it compute inside?"""

import torch
from torch import Tensor

from rnnscope.checks.case import FACTOR, UNITS, Case, allowed, replace_case
from rnnscope.checks.facts import BROKEN, HOLDS, UNDECIDED, Relation, broken, holds, not_applicable, undecided
from rnnscope.checks.probing import copy_in
from rnnscope.checks.states import cast, is_number, mapped
from rnnscope.checks.values import Values, gap
from rnnscope.checks.words import figures, raised, where
from rnnscope.errors import RnnscopeError

DRAWS = 2
"""How often everything is rounded at random to a coarser dtype."""

NAMES = {torch.float64: "float64", torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}

PART = 0.5
"""Of the bound of other relations that a run in a coarse dtype has: in bfloat16 all of it would say nothing."""

AS_NEAR = 4.0
"""Where that bound says nothing: so many times what rounding x, the state and the parameters alone moves, and no
further. Who is that near to float64 is as exact as the dtype allows; of who is not, nothing is said."""

TOO_MUCH = 0.5
"""Where rounding may move a step by such a share of its greatest number, a run in a coarse dtype says nothing."""

COARSER = (torch.float32, torch.float16, torch.bfloat16)
"""From fine to coarse."""

SHARE = 64
"""By so much less numbers are changed the second time."""

SMOOTH = (0.3, 3.0)
"""Then what comes out moves by so much less, times this. Rounding inside makes it 0, since no number reaches the next
one, or jumps by a whole unit."""

SEEN = 2.0**-35
"""Numbers that move by less of their size are left out: float64 itself rounds them."""


REACTS = 2.0**-5
"""A change that is greater than the unit of every arithmetic."""


def inside(case: Case) -> torch.dtype | None:
    """The dtype to which a module rounds inside, where that is coarser than the one it is run in; None where it is not.

    It is asked at the first step, where no chaos bends what comes out. Rounding jumps, and a function moves smoothly.
    """
    if case.dtype != torch.float64 or not all(bool(e.isfinite().all()) for e in case.base.values.tensors.values()):
        return None
    try:
        first = case.first(1)
        if not all(bool(each.isfinite().all()) for each in first.base.values.tensors.values()):
            first = case
    except RnnscopeError:  # a module may need more steps
        first = case
    for dtype, finer in zip(COARSER, (None, *COARSER), strict=False):
        if _is_smooth(first, UNITS[dtype]):
            return finer
    return torch.bfloat16


def _is_smooth(case: Case, unit: float) -> bool:
    """Whether every tensor moves in proportion, when x alone, and when all else is changed by a unit and by a share."""
    base = case.base.values
    for changed in ("x", "others"):
        more, less = (case.moved(changed, each) for each in (unit, unit / SHARE))
        ratios = [_ratio(each, more.tensors[name], less.tensors[name]) for name, each in base.tensors.items()]
        known = [ratio for ratio in ratios if ratio is not None]
        if not all(SMOOTH[0] < ratio < SMOOTH[1] for ratio in known):
            return False
        if not known and _reacts(case, case.moved(changed, REACTS), unit):
            return False
    return True


def _ratio(base: Tensor, more: Tensor, less: Tensor) -> float | None:
    """How much further than in proportion the lesser change moves a tensor; None where neither moves it."""
    if not is_number(base) or more.shape != base.shape or less.shape != base.shape:
        return None
    far, near = ((each - base).abs().double() for each in (more, less))
    seen = far > SEEN * base.abs()
    return float((SHARE * near[seen] / far[seen]).median()) if seen.any() else None


def _reacts(case: Case, moved: Values, unit: float) -> bool:
    """Whether a change that every arithmetic sees moves what comes out, so far that one by a unit should be seen."""

    def is_moved(base: Tensor, there: Tensor) -> bool:
        if base.shape != there.shape:
            return False
        if not is_number(base):
            return bool((base != there).any())
        seen = (base - there).abs() * (unit / REACTS) > SEEN * base.abs()
        return bool(seen[base.isfinite()].any())

    return any(is_moved(each, moved.tensors[name]) for name, each in case.base.values.tensors.items())


def precision(case: Case) -> Relation:
    """In its own dtype, and in that which was asked for, against float64 on the same numbers."""
    if case.dtype is not torch.float64:
        why = f": {case.without_float64}" if case.without_float64 else ""
        return not_applicable(f"it does not run in float64{why}")
    coarse = case.inside
    own = case.dtypes
    if coarse is not None and UNITS[coarse] > UNITS[own[0]]:
        return broken(
            None,
            f"it rounds inside about as coarsely as {NAMES[coarse]}: in float64 what comes out moves in jumps of that "
            "size, and not smoothly",
        )
    found = [_in_dtype(case, dtype) for dtype in own]
    worst = (BROKEN, UNDECIDED, HOLDS)
    return min(found, key=lambda told: worst.index(told.outcome))


def _in_dtype(case: Case, dtype: torch.dtype) -> Relation:
    """A run in one dtype against float64, on numbers that this dtype has."""
    rounded = _rounded(case, dtype)
    low = replace_case(
        rounded,
        module=copy_in(rounded.module, dtype),
        x=cast(rounded.x, dtype),
        state=mapped(lambda _, each: cast(each, dtype), rounded.state),
        dtype=dtype,
        unit=UNITS[dtype],
    )
    try:
        values = low.run().values
    except RnnscopeError as error:
        return undecided(f"in {NAMES[dtype]} it raises {raised(error)}")
    unit = UNITS[dtype]
    base = rounded.base.values
    runs = list(rounded.rounded_runs(rounded.state, unit, DRAWS))
    by_input = allowed(base, iter(runs), unit)
    scaled = {name: each * (unit / case.unit) for name, each in rounded.allowed.tensors.items()}
    wider = {name: PART * torch.maximum(each, scaled[name]) for name, each in by_input.tensors.items()}
    limit = Values(wider, base.axes)
    steps = _decided(base, limit)
    told = "" if steps is None or steps == case.steps else f"in {NAMES[dtype]}: the first {steps} steps"
    if steps == 0:
        finer = Values({name: each * (AS_NEAR / FACTOR) for name, each in by_input.tensors.items()}, base.axes)
        off = gap(values, base, finer)
        if not off.parts and _decided(base, finer) == case.steps:
            return holds(off)
        return undecided(f"in {NAMES[dtype]} rounding alone moves the first step by half of its size")
    if told:
        values, base, limit = (each.steps(0, steps or 0) for each in (values, base, limit))
    off = gap(values, base, limit)
    if not off.parts:
        return holds(off, told)
    return broken(
        off, f"in {NAMES[dtype]} it is further from float64 than rounding explains {where(off)}{figures(off)}"
    )


def _rounded(case: Case, dtype: torch.dtype) -> Case:
    """The case on numbers that a dtype has; those of float32 it has already."""
    if dtype is torch.float32:
        return case
    module = copy_in(copy_in(case.module, dtype), case.dtype)
    x = cast(cast(case.x, dtype), case.dtype)
    state = mapped(lambda _, each: cast(cast(each, dtype), case.dtype), case.state)
    return replace_case(case, module=module, x=x, state=state)


def _decided(base: Values, limit: Values) -> int | None:
    """The first steps in which the bound says something; None where there is no y."""
    if "y" not in base.tensors or not base.tensors["y"].numel():
        return None
    size = base.tensors["y"].abs().double().flatten(1).amax(1).cummax(0).values
    chaotic = ~(limit.tensors["y"].flatten(1).amax(1) <= TOO_MUCH * size)
    return int(chaotic.nonzero()[0]) if chaotic.any() and size.max() > 0 else len(size)
