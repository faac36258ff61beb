"""Is a module as exact as its dtype allows, and in which arithmetic does it compute inside?"""

import torch

from rnnscope.checks.case import CHAOTIC, UNITS, Case, allowed, replace_case
from rnnscope.checks.facts import Relation, broken, holds, undecided
from rnnscope.checks.probing import copy_in
from rnnscope.checks.states import cast, mapped
from rnnscope.checks.values import Values, gap
from rnnscope.checks.words import figures, raised, where
from rnnscope.errors import RnnscopeError

DRAWS = 2
"""How often everything is rounded at random to a coarser dtype."""

NAMES = {torch.float64: "float64", torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}

COARSER = (torch.float32, torch.float16, torch.bfloat16)
"""From fine to coarse."""

SMOOTH = (0.1, 8.0)
"""Where numbers move by a share of 2^-30, what comes out moves by 2^-6 of what 2^-24 moves it, times this. Rounding
inside makes it 0, since no number reaches the next one, or jumps by a whole unit."""


def inside(case: Case) -> torch.dtype | None:
    """The dtype to which a module rounds inside, where that is coarser than the one it is run in; None where it is not.

    Source of the idea: rounding jumps, and a function moves smoothly.
    """
    if case.dtype != torch.float64 or not any(each.numel() for each in case.base.values.tensors.values()):
        return None
    for dtype in COARSER:
        if _is_smooth(case, UNITS[dtype] / 64, UNITS[dtype]):
            return None if dtype is torch.float32 else COARSER[COARSER.index(dtype) - 1]
    return torch.bfloat16


def _is_smooth(case: Case, small: float, large: float) -> bool:
    """Whether what comes out moves in proportion between two sizes of change."""
    less, more = (_moved(case, unit) for unit in (small, large))
    if more == 0 or more != more or more == float("inf"):
        return True
    return SMOOTH[0] < less / more * large / small < SMOOTH[1]


def _moved(case: Case, unit: float) -> float:
    """How far what comes out moves, at the first steps of y or in the state."""
    base, found = case.base.values, 0.0
    for run in case.rounded_runs(case.state, unit, 1):
        for name, each in base.tensors.items():
            there = run.tensors.get(name)
            if there is None or there.shape != each.shape or not each.is_floating_point() or not each.numel():
                continue
            off = (there - each).abs()
            found = max(found, float((off[:4] if name == "y" else off).median() if off.numel() else 0.0))
    return found


def precision(case: Case) -> Relation:
    """In its own dtype, and in that which was asked for, against float64 on the same numbers."""
    coarse = case.inside
    own = case.dtypes
    if coarse is not None and UNITS[coarse] > UNITS[own[0]]:
        return broken(
            None,
            f"it computes in {NAMES[coarse]} inside, whatever it is given: in float64 what comes out moves in jumps of "
            f"that size, and not smoothly",
        )
    found = [_in_dtype(case, dtype) for dtype in own]
    return next((each for each in found if each.outcome == "broken"), found[-1])


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
    limit = Values({name: torch.maximum(each, scaled[name]) for name, each in by_input.tensors.items()}, base.axes)
    steps = _decided(base, limit)
    told = "" if steps is None or steps == case.steps else f"in {NAMES[dtype]}: the first {steps} steps"
    if steps == 0:
        return undecided(f"in {NAMES[dtype]} rounding alone moves the first step by more than {CHAOTIC:g} of its size")
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
    chaotic = ~(limit.tensors["y"].flatten(1).amax(1) <= max(CHAOTIC, 0.25) * size)
    return int(chaotic.nonzero()[0]) if chaotic.any() and size.max() > 0 else len(size)
