"""Is the gradient that autograd gives the slope of what the module computes, and does it arrive where it should?

The witness of both is finite differences: see slopes.py. A healthy module is run about thirty times on its first steps,
and ten times on all of them; what is found wrong is moved part by part, to say where.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from rnnscope.checks.case import Case, replace_case
from rnnscope.checks.facts import HOLDS, Relation, broken, holds, not_applicable, undecided
from rnnscope.checks.slopes import (
    LONG_STEPS,
    STEPS,
    UNITS_APART,
    Derivatives,
    Key,
    Recorded,
    Refused,
    Seen,
    X,
    coarsest_inside,
    compared,
    differentiated,
    direction_of,
    floats,
    in_a_row,
    leaves_of,
    moved,
    product,
    recorded_run,
    rounding_of,
    run_at,
    signs,
    sizes_of,
    slope_of,
    spread,
)
from rnnscope.checks.steps import reads_backward
from rnnscope.checks.values import Gap, Place

DIRECTIONS = 2
"""In how many directions x, the state and the parameters are each moved; each costs four runs."""

CLEAR = 8.0
"""How many times its bound a slope must have to be one where autograd has none."""

LONGEST, LONGEST_REACH = 64, 512
"""Steps on which each part is moved alone, and on which it is asked how far gradients reach."""

MOST_NUMBERS = 2**21
"""So many numbers come out at most where autograd records all steps: it keeps several times as many."""

CALM = 1e-9
"""Differences are taken on the steps in which rounding moves y by no more than such a share."""

OWN_STEPS = 8
"""Backward passes that ask whether y at a step reaches x at the same one."""

GROUPS = ("parameters", "x", "state")

NOTHING = "nothing that goes in takes a gradient: x is whole numbers, and no parameter requires one"

WHY = {
    "kink": "kinks, as of relu, abs or max, lie so close that the gradient could not be compared with differences",
    "noise": "rounding or jumps move what comes out by more than the small changes of finite differences do",
    "wild": "what comes out bends so much that finite differences settle at no step",
}
"""Why nothing can be said."""


# gradient ------------------------------------------------------------------------------------------------------------


def gradient(case: Case) -> Relation:
    """Autograd's directional derivatives against finite differences, for the parameters, x and state; then twice."""
    if case.dtype != torch.float64:
        return not_applicable("it does not run in float64, and float32 is too coarse for finite differences")
    if not leaves_of(case, case.module, case.x, case.state):
        return not_applicable(NOTHING)
    short, said = _calm(case)
    if short is None:
        return undecided(said)
    try:
        told = _gradient(short)
    except Refused as refused:
        return broken(None, f"autograd gives no gradient: {refused}")
    if told.outcome == HOLDS and short.steps == LONGEST < case.steps:
        return _over_all_steps(case, told, said)
    return replace(told, message=_and(told.message, said))


def _calm(case: Case) -> tuple[Case | None, str]:
    """A case on the first steps, as many as finite differences can follow, and what is to be said of that."""
    short = case.first(LONGEST) if case.steps > LONGEST else case
    every = floats(short.base.values)
    if not all(each.isfinite().all() for each in every.values()) or not any(each.numel() for each in every.values()):
        return None, "what comes out is not finite"
    calm = _calm_steps(short)
    if calm == 0:
        return None, "rounding moves what comes out too far for finite differences"
    short = case.first(calm) if calm < short.steps else short
    return short, "" if short is case else f"finite differences were taken on the first {short.steps} steps"


def _calm_steps(case: Case) -> int:
    """The first steps in which rounding moves y by no more than CALM."""
    y = floats(case.base.values).get("y")
    if y is None or not y.numel():
        return case.steps
    size = y.abs().double().flatten(1).amax(1).cummax(0).values
    wild = ~(case.allowed.tensors["y"].flatten(1).amax(1) <= CALM * size) & (size > 0)
    return int(wild.nonzero()[0]) if wild.any() else case.steps


def _gradient(case: Case, said: str = "", at_another: bool = False) -> Relation:
    """Compare all groups at one point; where kinks lie there, at another one, too."""
    coarse = coarsest_inside(case)
    steps = _steps_over(coarse)
    if not steps:
        return undecided(_and(f"{_inside(coarse)}, too coarse for finite differences", said))
    at = differentiated(case, steps)
    found = {group: _of_group(at, at.group(group)) for group in GROUPS if at.group(group)}
    if wrong := [group for group, each in found.items() if each.differs]:
        if sure := _elsewhere(at, wrong):
            return _placed(at, {group: found[group] for group in sure}, said)
        return undecided(
            _and("the gradient is not the slope at this x, but it is at others: a kink may lie here", said)
        )
    if loose := [each for each in found.values() if each.outcome == "coarse"]:
        if loose[0].why == "kink" and coarse is None and not at_another:
            return _gradient(_another(case, 1), said, at_another=True)
        why = WHY[loose[0].why] if coarse is None else f"{_inside(coarse)}, and finite differences do not decide"
        return undecided(_and(why, said), max(loose, key=lambda each: each.bound).gap())
    best = max(found.values(), key=lambda each: each.share_of_bound).gap()
    return _twice(case, steps, best, _and("compared at another x, since kinks lie at this one" * at_another, said))


def _steps_over(dtype: torch.dtype | None) -> tuple[float, ...]:
    """How far things are moved, also for a module that computes in a coarser dtype inside."""
    if dtype is None:
        return STEPS
    return tuple(each for each in LONG_STEPS if each >= UNITS_APART * torch.finfo(dtype).eps)


def _inside(dtype: torch.dtype | None) -> str:
    return f"it computes in {str(dtype).removeprefix('torch.')} inside"


def _of_group(at: Derivatives, keys: list[Key]) -> Seen:
    """The worst of some directions; one that decides nothing is not followed by another."""
    worst = Seen("agrees", 0.0, 0.0, 0.0)
    for seed in range(DIRECTIONS):
        seen = at.seen(direction_of(at.case, keys, seed))
        if seen.outcome != "agrees":
            return seen
        worst = max(worst, seen, key=lambda each: (each.share_of_bound, each.bound))
    return worst


def _elsewhere(at: Derivatives, groups: list[str]) -> list[str]:
    """Those of some groups whose gradient is wrong at another point, too."""
    for seed in (1, 2):
        there = _another(at.case, seed)
        if not all(each.isfinite().all() for each in floats(there.base.values).values()):
            continue
        other = differentiated(there, at.steps)
        sure = [each for each in groups if other.seen(direction_of(there, other.group(each), seed)).differs]
        if sure:
            return sure
    return []


def _another(case: Case, seed: int) -> Case:
    """A case with another x, and with parameters and a state that are moved a little."""
    leaves = leaves_of(case, case.module, case.x, case.state)
    module, _, state = moved(case, direction_of(case, [key for key in leaves if key[0] != "x"], seed + 100), 0.02)
    return replace_case(case, module=module, x=case.other_x(seed), state=state)


def _placed(at: Derivatives, found: dict[str, Seen], said: str) -> Relation:
    """Say for what the gradient is wrong. The place is what tells most: some parameters, then the step of x."""
    names = list(_wrong(at, at.group("parameters"))) if "parameters" in found else []
    states = list(_wrong(at, at.group("state"))) if "state" in found else []
    step = _first_step(at) if "x" in found else None
    every = len(names) == len(at.group("parameters")) > 1
    where = [] if step is None else [f"x from step {step} on" if step else "x"]
    where += [_listed(states, "tensors of the state")] * bool(states)
    where += ["every parameter" if every else _listed(names, "parameters")] * bool(names)
    if names and not (every and len(where) > 1):
        place, worst = Place(names[0]), found["parameters"]
    elif step is not None:
        place, worst = Place("x", step), found["x"]
    else:
        group = "state" if states else next(iter(found))
        place, worst = Place(states[0] if states else group), found[group]
    message = f"autograd's gradient is wrong for {', '.join(where or found)}: {_apart(worst)}"
    jumps = "what comes out moves in jumps: a rounding or threshold has a made-up gradient, as straight-through ones do"
    return broken(worst.gap(place), _and(message, jumps if _jumps(at, list(found)) else "", said))


def _apart(seen: Seen) -> str:
    if not math.isfinite(seen.off):
        return "it is NaN or infinite"
    percent = 100 * seen.share
    return f"it is {f'{percent:.0f}' if percent >= 10 else f'{percent:.2g}'} % off what finite differences give"


def _wrong(at: Derivatives, keys: list[Key]) -> Iterator[str]:
    """The names of those whose gradients are wrong; many are asked in halves."""
    if len(keys) == 1:
        yield from (name for _, name in keys if at.seen(direction_of(at.case, keys, 0)).differs)
    elif len(keys) <= 8 or at.seen(direction_of(at.case, keys, 0)).differs:
        size = len(keys) // 2
        for half in [[key] for key in keys] if len(keys) <= 8 else [keys[:size], keys[size:]]:
            yield from _wrong(at, half)


def _first_step(at: Derivatives) -> int:
    """The first step at which the gradient with respect to x is wrong."""
    return _fewest(at.case.steps, lambda count: _is_wrong_at(at, range(count))) - 1


def _last_step(at: Derivatives) -> int:
    """The last such step."""
    steps = at.case.steps
    return steps - _fewest(steps, lambda count: _is_wrong_at(at, range(steps - count, steps)))


def _is_wrong_at(at: Derivatives, steps: range) -> bool:
    return at.seen(direction_of(at.case, [X], 0, steps)).differs


def _fewest(most: int, wrong: Callable[[int], bool]) -> int:
    """The least count for which something is wrong; for the most it is."""
    if wrong(1):
        return 1
    low, high = 1, most  # so many are right, and so many are not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if wrong(middle) else (middle, high)
    return high


def _jumps(at: Derivatives, groups: list[str]) -> bool:
    """Whether what comes out jumps: on a stretch that is halved again and again it moves as far as on the whole."""
    case, sizes = at.case, sizes_of(at.case)
    direction = direction_of(case, [key for key in at.gradients[0] if key[0] in groups], 0)
    low, high = 0.0, 2.0**-4
    before, after = run_at(case, direction, low), run_at(case, direction, high)
    while high - low > 2.0**-30:
        middle = (low + high) / 2
        between = run_at(case, direction, middle)
        if ((between - before) / sizes).abs().max() >= ((after - between) / sizes).abs().max():
            high, after = middle, between
        else:
            low, before = middle, between
    return bool(((after - before) / sizes).abs().max() > 1e-4)


def _listed(names: list[str], noun: str) -> str:
    if len(names) > 3:
        return f"{', '.join(names[:3])} and {len(names) - 3} more {noun}"
    return " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), *names[-1:]])


def _and(*sentences: str) -> str:
    return "; ".join(filter(None, sentences))


# over all steps ------------------------------------------------------------------------------------------------------


def _over_all_steps(case: Case, told: Relation, said: str) -> Relation:
    """What is said of a gradient that is right on the first steps: a blocked or checkpointed pass may fail beyond them.

    The parameters are moved at once, and so are x and the state; one product of what comes out is differentiated.
    """
    long = _longest(case)
    if long is None:
        return replace(told, message=_and(told.message, said))
    try:
        at = differentiated(long, _steps_over(coarsest_inside(long)), cotangents=1)
        every = [keys for keys in (at.group("x") + at.group("state"), at.group("parameters")) if keys]
        seen = [at.seen(direction_of(long, keys, 0)) for keys in every]
        if any(each.differs for each in seen):
            found = {group: _of_all(at, group) for group in GROUPS if at.group(group)}
            if sure := _elsewhere(at, [group for group, each in found.items() if each.differs]):
                return _placed_late(at, {group: found[group] for group in sure})
    except Refused as refused:
        said = _and(said, f"on the first {long.steps} autograd raises {refused}")
        return replace(told, message=_and(told.message, said))
    if all(each.outcome == "agrees" for each in seen):
        asked = "all" if long.steps == case.steps else f"the first {long.steps}"
        said = f"on {asked} steps the gradient was asked, and on the first {LONGEST} its parts and double backward"
    return replace(told, message=_and(told.message, said))


def _longest(case: Case) -> Case | None:
    """A case on all steps that differences can follow and that memory holds; None where these are the first alone."""
    numbers = sum(each.numel() for each in floats(case.base.values).values())
    fits = case.steps if numbers <= MOST_NUMBERS else case.steps * MOST_NUMBERS // numbers
    if fits <= LONGEST:
        return None
    steps = min(fits, _calm_steps(case))
    if steps <= LONGEST:
        return None
    long = case if steps == case.steps else case.first(steps)
    return long if all(each.isfinite().all() for each in floats(long.base.values).values()) else None


def _of_all(at: Derivatives, group: str) -> Seen:
    """What is seen where all of a group is moved at once."""
    return at.seen(direction_of(at.case, at.group(group), 0))


def _placed_late(at: Derivatives, found: dict[str, Seen]) -> Relation:
    """Say for what a gradient is wrong that is right on the first steps alone; x tells most of it."""
    names = {"parameters": "the parameters", "x": "x", "state": "the state"}
    place, worst = Place(next(iter(found))), next(iter(found.values()))
    if "x" in found:
        first, last = _first_step(at), _last_step(at)
        names["x"] = f"x from step {first} to {last}"
        place, worst = Place("x", first), found["x"]
    elif "parameters" in found and (wrong := list(_wrong(at, at.group("parameters")))):
        names["parameters"], place = _listed(wrong, "parameters"), Place(wrong[0])
    where = " and ".join(names[group] for group in sorted(found, key=("x", "state", "parameters").index))
    right = f"on the first {LONGEST} steps alone it is right"
    return broken(worst.gap(place), f"autograd's gradient is wrong for {where}: {_apart(worst)}; {right}")


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
    except Refused as refused:
        return holds(best, _and(f"double backward is refused: {refused}", said))
    return holds(best, _and("double backward could not be compared" if seen.outcome == "coarse" else "", said))


def _second(case: Case, steps: tuple[float, ...]) -> tuple[Seen, str]:
    """The derivative of the gradient in one direction, by autograd and by differences, and where it is wrong.

    Raises:
        Refused: autograd raises an error.
    """
    sizes, generator = sizes_of(case), torch.Generator().manual_seed(case.seed + 11)
    # Signs alone would cancel where a number comes out twice, as y at the last step and as h: 0 is a special point.
    cotangent = torch.randn(len(sizes), generator=generator, dtype=torch.float64).to(sizes) / sizes
    recorded = recorded_run(case)
    first = recorded.gradient(recorded.flat, cotangent, again=True)
    with torch.enable_grad():
        flat = _filled(first, recorded.leaves, case.dtype)
    direction, start = direction_of(case, recorded.leaves, 3), leaves_of(case, case.module, case.x, case.state)

    @cache
    def gradient_at(by: float) -> Tensor:
        there = recorded_run(case, {key: start[key].detach() + by * each for key, each in direction.items()})
        return _filled(there.gradient(there.flat, cotangent), there.leaves, case.dtype).detach()

    def seen(weight: Tensor) -> Seen:
        second = recorded.gradient(flat, weight, whole=True)
        products = [product(second[key], each) for key, each in direction.items()]
        told, size = (torch.stack(each).sum()[None].detach() for each in zip(*products, strict=True))
        noise = 4 * case.unit * flat.detach().abs()
        return compared(gradient_at, flat.detach(), noise, weight[None], told, rounding_of(size, case), steps)

    parts = dict(_weights(first, recorded.leaves, generator))
    whole = seen(sum(parts.values(), torch.zeros_like(flat.detach())))
    for (_, name), weight in parts.items() if whole.differs else ():
        if (each := seen(weight)).differs:
            return each, name
    return whole, "all that goes in together"


def _filled(gradient: dict[Key, Tensor | None], leaves: dict[Key, Tensor], dtype: torch.dtype) -> Tensor:
    """A gradient in a row, with zeros where none arrives."""
    return in_a_row([torch.zeros_like(leaves[key]) if each is None else each for key, each in gradient.items()], dtype)


def _weights(
    gradient: dict[Key, Tensor | None], leaves: dict[Key, Tensor], generator: torch.Generator
) -> Iterator[tuple[Key, Tensor]]:
    """For each leaf, random numbers to multiply into the gradient: of it, in its size, and zeros for all others."""
    rows = {key: in_a_row([each.detach()], torch.float64) for key, each in leaves.items()}
    place, length = 0, sum(len(each) for each in rows.values())
    for key, row in rows.items():
        each = gradient[key]
        size = 0.0 if each is None else in_a_row([each.detach()], row.dtype).square().mean().sqrt().item()
        weight = torch.zeros(length, dtype=row.dtype, device=row.device)
        weight[place : place + len(row)] = signs(len(row), generator, row) / (size if 0 < size < math.inf else 1.0)
        place += len(row)
        yield key, weight


# gradient_reach ------------------------------------------------------------------------------------------------------

CUT = "it is used through .detach(), .data or numpy"


@dataclass(frozen=True)
class _Cut:
    """Where no gradient arrives, though there should."""

    place: Place
    message: str


def gradient_reach(case: Case) -> Relation:
    """Whether a gradient arrives at every step of x, at the state and at every parameter that moves what comes out."""
    if not leaves_of(case, case.module, case.x, case.state):
        return not_applicable(NOTHING)
    short = case.first(LONGEST_REACH) if case.steps > LONGEST_REACH else case
    said = f"asked on the first {short.steps} steps" if short is not case else ""
    try:
        cuts = list(_cuts(short))
    except Refused as refused:
        return broken(None, f"autograd gives no gradient: {refused}")
    if not cuts:
        return holds(message=said)
    message = "; ".join(each.message for each in cuts[:3])
    return replace(broken(None, _and(message, said)), place=cuts[0].place)


def _cuts(case: Case) -> Iterator[_Cut]:
    """All places where no gradient arrives. Only what has a zero gradient is moved and run."""
    recorded = recorded_run(case)
    outputs = floats(recorded.values)
    deaf = [name for name, each in outputs.items() if not each.requires_grad]
    if len(deaf) == len(outputs):
        if _moves(case, direction_of(case, recorded.leaves, 0), _mask(case, lambda _: True)):
            message = "nothing that comes out has a gradient: torch.no_grad, .detach() or numpy is inside"
            yield _Cut(Place(deaf[0] if deaf else "y"), message)
        return
    for name in deaf:
        if _moves(case, direction_of(case, recorded.leaves, 0), _mask(case, {name}.__contains__)):
            yield _Cut(Place(name), f"{name} comes out without a gradient, as after .detach() or torch.no_grad")
    everything = _mask(case, lambda each: each not in deaf)
    reached = recorded.gradient(recorded.flat, _signed(case, everything))
    silent = [key for key, each in reached.items() if _is_zero(each)]
    yield from _named(list(_moving(case, silent, everything)), sum(key[0] == "parameters" for key in recorded.leaves))
    if X in recorded.leaves and X not in silent:
        yield from _cut_steps(case, recorded, deaf)


def _named(cut: list[Key], parameters: int) -> Iterator[_Cut]:
    """Tell which parameters, which parts of the state and whether x are cut off."""
    groups = {group: [name for each, name in cut if each == group] for group in GROUPS}
    names = _listed(groups["parameters"], "parameters")
    where = {
        "parameters": "any parameter" if len(groups["parameters"]) == parameters > 1 else names,
        "x": "x",
        "state": f"the {_listed(groups['state'], 'tensors of the state')} that goes in",
    }
    for group, found in groups.items():
        if found:
            yield _Cut(Place(found[0]), f"no gradient arrives at {where[group]}: {CUT}")


def _moving(case: Case, keys: list[Key], wanted: Tensor) -> Iterator[Key]:
    """Those that move what comes out; all are asked at once first."""
    if not keys or not _moves(case, direction_of(case, keys, 0), wanted):
        return
    if len(keys) == 1:
        yield keys[0]
        return
    half = len(keys) // 2
    yield from _moving(case, keys[:half], wanted)
    yield from _moving(case, keys[half:], wanted)


def _cut_steps(case: Case, recorded: Recorded, deaf: list[str]) -> Iterator[_Cut]:
    """Steps of x at which nothing arrives from the end, or nothing from y at the same step."""
    has_y, last = "y" in set(recorded.values.tensors) - set(deaf), case.steps - 1
    both_ways = has_y and bool(reads_backward(case)) and last > 0
    # The state of the way back would reach all that the way there does not.
    left_out = set(recorded.values.tensors) if both_ways else {"y", *deaf}
    for end, called in [(last, "last"), (0, "first")] if both_ways else [(last, "last")]:
        wanted = _mask(case, lambda name: name not in left_out, {end: slice(None)} if has_y else None)
        arrived = recorded.gradient(recorded.flat, _signed(case, wanted))[X]
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
        where = f"after step {step - 1}"
    else:
        where = f"at step {step}"
    told = f"no gradient arrives at x {where} from the {called} step"
    return f"{told}: the state is cut off there, as by .detach()"


def _nearest_moving(case: Case, steps: list[int], wanted: Tensor) -> int | None:
    """The last of some steps whose x moves what is wanted; None where none does."""

    def moves(some: list[int]) -> bool:
        return bool(some) and _moves(case, direction_of(case, [X], 0, some), wanted)

    if not steps or not moves(steps):
        return None
    if moves(steps[-1:]):
        return steps[-1]
    low, high = 0, len(steps) - 1  # those from `low` on move it, those from `high` on do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if moves(steps[middle:]) else (low, middle)
    return steps[low]


def _own_steps(case: Case, recorded: Recorded) -> Iterator[_Cut]:
    """Whether y at a step reaches x at that step: each item asks another step, so that a few passes ask all."""
    count = min(case.steps, OWN_STEPS * case.items)
    asked = sorted({round(place * (case.steps - 1) / max(count - 1, 1)) for place in range(count)})
    found: list[tuple[int, int]] = []
    for start in range(0, len(asked), case.items):
        pairs = list(enumerate(asked[start : start + case.items]))
        wanted = _mask(case, lambda name: False, {step: item for item, step in pairs})
        arrived = recorded.gradient(recorded.flat, _signed(case, wanted))[X]
        found += [(step, item) for item, step in pairs if arrived is None or _is_zero(arrived[step, item])]
    for step, item in found[:OWN_STEPS]:
        if _moves(case, direction_of(case, [X], 0, [step]), _mask(case, lambda name: False, {step: item})):
            yield _Cut(Place("x", step), f"no gradient arrives at x at step {step} from y at the same step: {CUT}")
            return


def _mask(case: Case, wanted: Callable[[str], bool], of_y: Mapping[int, Any] | None = None) -> Tensor:
    """One for each number that is wanted: of the tensors of some names, and of y at some steps and items."""
    found = {}
    for name, each in floats(case.base.values).items():
        found[name] = torch.full(each.shape, float(wanted(name)), dtype=case.dtype, device=each.device)
        for step, item in (of_y or {}).items() if name == "y" else ():
            found[name][step, item] = 1.0
    return spread(case, found)


def _signed(case: Case, mask: Tensor) -> Tensor:
    """Random numbers where a mask is one: no sum of them is zero by the nature of a module, as of a softmax."""
    generator = torch.Generator().manual_seed(case.seed + 13)
    drawn = torch.randn(mask.shape, generator=generator, dtype=torch.float64).to(mask)
    return mask * drawn / sizes_of(case)


def _is_zero(gradient: Tensor | None) -> bool:
    return gradient is None or not bool((gradient != 0).any())


def _moves(case: Case, direction: dict[Key, Tensor], wanted: Tensor) -> bool:
    """Whether a small change clearly moves something of what is wanted, and not by a jump or a kink."""
    centre, noise = in_a_row(floats(case.base.values).values(), case.dtype), spread(case, case.allowed.tensors)
    mask, clear, still = wanted > 0, 0, False
    for step in (2.0**-7, 2.0**-10, 2.0**-13, 2.0**-18):
        slope = slope_of(lambda by: run_at(case, direction, by), centre, noise, step)
        values, error = slope.values[mask], slope.error[mask]
        clear += bool((values.abs() > CLEAR * error).any())
        still = not bool((values != 0).any())
        if clear == 2 or still:  # what does not move at all moves by no smaller change either
            break
    return clear == 2
