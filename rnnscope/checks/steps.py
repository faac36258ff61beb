"""What the steps have to do with each other: none looks ahead, and a state carries on all that came before."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from rnnscope.checks.calls import no_state
from rnnscope.checks.case import Case
from rnnscope.checks.facts import BROKEN, HOLDS, Relation, broken, holds, not_applicable
from rnnscope.checks.states import is_number, mapped, picked, tensors
from rnnscope.checks.values import Gap, Place, Values, gap, greatest, joined, where_steps
from rnnscope.checks.words import figures, raised, where
from rnnscope.errors import RnnscopeError

WIDTH = 64
"""So many steps are changed in one run, each in an item of its own."""

MOST_CUTS = 512
"""At so many steps a sequence is cut; a longer one at all of its first and last steps, and at some between."""

FEW = 8
"""So many steps are changed one by one, where a module takes no batch of another size."""

MOST_AGAIN = 8
"""Where items move each other, so many cuts are asked of all items at once."""

PARTITIONS = 3
"""A sequence is cut into chunks in so many ways."""

MOST_SINGLE = 24
"""So many steps are taken one by one."""

NEAR = 0.5
"""A row of the state is near to y at the last step where it is off by such a share of how far y moves in that step."""

_BOTH = "it says that it is bidirectional, so that a step may depend on later ones"


def causality(case: Case) -> Relation:
    """x changed from a step on: no step before may move. Every step is such a cut, each in an item of its own."""
    if not case.recurrent.has_y:
        return not_applicable("no y comes out of it")
    if case.recurrent.reads_backward:
        return not_applicable(_BOTH)
    if case.steps < 2:
        return not_applicable("x has one step, and this needs two")
    found, said = _causality(case), case.recurrent.says_causal
    if found.outcome != BROKEN or not case.recurrent.backward_parts:
        return found
    if said:
        return replace(found, message=f"{found.message}, though it says {said}")
    if "causality" in case.by_name:
        return found
    return not_applicable(
        f"its {case.recurrent.backward_parts[0]} says that it is bidirectional, and y does look ahead; where it must "
        "not, --only causality asks for it"
    )


def reads_backward(case: Case) -> str:
    """What says that it is bidirectional, and may walk over time: "it", or a part of it; "" where nothing does.

    What a part says proves nothing of the time: where y does not look ahead, it walks over something else.
    """
    if case.recurrent.reads_backward:
        return "it"
    parts = case.recurrent.backward_parts
    if not parts or (case.recurrent.has_y and case.steps > 1 and _causality(case).outcome == HOLDS):
        return ""
    return f"its {parts[0]}"


def _causality(case: Case) -> Relation:
    """Whether y looks ahead, whatever is said of it; asked once."""
    if "causality" not in case.kept:
        case.kept["causality"] = _looked_ahead(case)
    found: Relation = case.kept["causality"]
    return found


def _looked_ahead(case: Case) -> Relation:
    cuts = cuts_of(case.steps)
    try:
        found = [_ahead(case, some) for some in torch.split(cuts, WIDTH)]
        asked = len(cuts)
    except RnnscopeError:  # a module may be built for one N
        found, asked = [], 0
    suspects = [at for off, at in found if off.parts]
    if suspects or not found:  # other items, cut at other steps, may have moved it: so all are cut at one step
        spread = torch.linspace(1, case.steps - 1, MOST_AGAIN).int().tolist()
        found, again = [], sorted({*suspects[:MOST_AGAIN], *spread})
        for each in again:
            off, at = _ahead(case, torch.full((case.items,), each))
            if off.parts:
                return _look_ahead(case, off, at)
            found.append((off, at))
        asked = len(again)
    told = "" if asked == case.steps - 1 else f"x was changed from {asked} of {case.steps - 1} steps on"
    return holds(greatest([off for off, _ in found]), told)


def cuts_of(steps: int) -> Tensor:
    """The steps at which a sequence is cut: each of them, or the first, the last and some between."""
    every = torch.arange(1, steps)
    if len(every) <= MOST_CUTS:
        return every
    edge = MOST_CUTS // 4
    between = torch.linspace(edge, len(every) - edge - 1, MOST_CUTS // 2).long()
    return torch.tensor(sorted({*every[:edge].tolist(), *every[between].tolist(), *every[-edge:].tolist()}))


def _changed_from(x: Tensor, other: Tensor, cuts: Tensor) -> Tensor:
    """x with other numbers from a step of each item on."""
    after = torch.arange(len(x))[:, None] >= cuts[None, :]
    return where_steps(after, other, x)


def _changed_at(x: Tensor, other: Tensor, cuts: Tensor) -> Tensor:
    """x with other numbers at one step of each item."""
    at = torch.arange(len(x))[:, None] == cuts[None, :]
    return where_steps(at, other, x)


def _ahead(case: Case, cuts: Tensor) -> tuple[Gap, int]:
    """How far y moves before a cut of each item, in one run with one cut for each; and the cut at which it does."""
    index = torch.arange(len(cuts)) % case.items
    x, state = case.of_items(index)
    other = picked(case.other_x(), 1, index)
    before = case.run(x, state).values.of_y()
    after = case.run(_changed_from(x, other, cuts), state).values.of_y()
    y = before.tensors["y"]
    earlier = torch.arange(len(y))[:, None] < cuts[None, :]
    if "y" not in after.tensors or after.tensors["y"].shape != y.shape:
        return Gap(None, None, float("inf"), Place("y"), "y has another shape for other numbers"), int(cuts[0])
    kept = where_steps(earlier, after.tensors["y"], y)
    off = gap(Values({"y": kept}, before.axes), before, case.allowed.items(index).of_y())
    at = int(cuts[off.place.item]) if off.parts and off.place and off.place.item is not None else 0
    if off.place and off.place.item is not None:
        off = replace(off, place=replace(off.place, item=int(index[off.place.item])))
    return off, at


def _look_ahead(case: Case, off: Gap, cut: int) -> Relation:
    """Which step looks at which, and how far ahead: x is changed at one step at a time."""
    step = off.place.step if off.place and off.place.step is not None else 0
    item = off.place.item if off.place and off.place.item is not None else 0
    later = torch.arange(step + 1, case.steps)[: 4 * WIDTH]
    try:
        seen = [at for some in torch.split(later, WIDTH) for at in _moving(case, step, item, some)]
    except RnnscopeError:  # a module may be built for one N
        later = later[:FEW]
        seen = [at for each in later for at in _moving(case, step, item, each.expand(case.items))[:1]]
    if not seen:
        return broken(off, f"y moves at step {step}{figures(off)} when x changes from step {cut} on: it looks ahead")
    far = seen[-1] - step
    ahead = f"{far} step{'s' * (far > 1)} ahead"
    if len(seen) == len(later) and len(later) > 2:
        why = "it is computed over all steps, such as a normalization or a softmax over time, or a backward direction"
        return broken(off, f"y at step {step} changes when any later x does{figures(off)}: {why}")
    nearest = seen[0] - step
    words = ahead if nearest == far else f"{nearest} to {ahead}"
    return broken(off, f"y at step {step} changes when x at step {seen[0]} does{figures(off)}: it looks {words}")


def _moving(case: Case, step: int, item: int, some: Tensor) -> list[int]:
    """The steps at which another x moves y of an item at a step: each is asked in an item of its own, in one run."""
    index = torch.full((len(some),), item)
    x, state = case.of_items(index)
    other = picked(case.other_x(), 1, index)
    y, there = (case.run(each, state).values.tensors["y"][step] for each in (x, _changed_at(x, other, some)))
    limit = case.allowed.tensors["y"][step].max()
    found: list[int] = some[((y - there).abs().flatten(1).amax(1) > limit).cpu()].tolist()
    return found


def chunked(case: Case) -> Relation:
    """Chunks of steps, each from the state after the one before, in some ways to cut; once from no state at all."""
    if reason := _no_chunks(case):
        return not_applicable(reason)
    if case.steps < 2:
        return not_applicable("x has one step, and this needs two")
    generator, found = torch.Generator().manual_seed(case.seed), []
    for way in range(PARTITIONS):
        edges = _edges(case.steps, 3 + way % 2, generator)
        from_nothing = way == 0 and not case.recurrent.roles.needs_state
        expected = (case.from_nothing if from_nothing else case.base).values
        limit = case.allowed_from_nothing if from_nothing else case.allowed
        try:
            off = gap(in_chunks(case, edges, None if from_nothing else case.state), expected, limit)
        except RnnscopeError as error:
            return broken(None, f"chunks from steps {', '.join(map(str, edges[:-1]))} on: one raises {raised(error)}")
        if off.parts:
            return broken(off, f"in chunks from steps {', '.join(map(str, edges[:-1]))} on {_why(case, off, edges)}")
        found.append(off)
    return holds(greatest(found))


def _no_chunks(case: Case) -> str:
    """Why a module cannot be run in chunks."""
    if who := reads_backward(case):
        return f"{who} says that it is bidirectional: its backward direction has no state to carry on"
    takes = case.takes_state or case.recurrent.takes_state
    return "" if takes and case.recurrent.hands_on else no_state(case)


def _edges(steps: int, count: int, generator: torch.Generator) -> list[int]:
    """Where chunks begin and end, at random: of two steps and more, where there are enough."""
    least = 2 if steps >= 2 * count else 1
    count = min(count, steps // least)
    free = steps - count * least
    inner = torch.randint(0, free + 1, (count - 1,), generator=generator).sort().values.tolist()
    return [0, *(each + (place + 1) * least for place, each in enumerate(inner)), steps]


def in_chunks(case: Case, edges: list[int], state: Any) -> Values:
    """What chunks of steps give, each from the state after the one before."""
    pieces = []
    for first, last in pairwise(edges):
        ran = case.run(case.x[first:last], state)
        pieces.append(ran.values)
        state = ran.state
    return joined(pieces)


def _why(case: Case, off: Gap, edges: list[int]) -> str:
    """Where chunks part from the whole, and whether that is what dropping the state gives."""
    what = f"it gives another result {where(off)}{figures(off)}"
    step = off.place.step if off.place else None
    begin = next((each for each in reversed(edges[1:-1]) if step is not None and each <= step), None)
    if begin is None:
        return what
    state = case.run(case.x[:begin]).state
    nothing = mapped(lambda _, each: torch.zeros_like(each), state) if case.recurrent.roles.needs_state else None
    chunk = case.x[begin : next(each for each in edges if each > begin)]
    carried, dropped = (case.run(chunk, each).values.of_y() for each in (state, nothing))
    alike = gap(carried, dropped, case.allowed.steps(begin, begin + len(chunk)))
    return f"{what}: its state lacks something" if alike.parts else f"{what}: the state that is handed on is not used"


def stepwise(case: Case) -> Relation:
    """One step after the other."""
    if reason := _no_chunks(case):
        return not_applicable(reason)
    if case.steps < 2:
        return not_applicable("x has one step, and this needs two")
    steps = min(case.steps, MOST_SINGLE)
    edges = [*range(steps + 1)] + [case.steps] * (steps < case.steps)
    try:
        off = gap(in_chunks(case, edges, case.state), case.base.values, case.allowed)
    except RnnscopeError as error:
        return broken(None, f"a single step raises {raised(error)}")
    told = "" if steps == case.steps else f"the first {steps} steps one by one, the others in one chunk"
    if not off.parts:
        return holds(off, told)
    what = f"step by step it gives another result {where(off)}{figures(off)}"
    return broken(off, f"{what}: {_why_stepwise(case, off)}")


def _why_stepwise(case: Case, off: Gap) -> str:
    """Whether a chunk of several steps that begins where single steps part does so, too."""
    step = off.place.step if off.place else None
    if step:
        with suppress(RnnscopeError):  # it may take single steps and whole sequences alone
            in_two = in_chunks(case, [0, step, case.steps], case.state)
            if gap(in_two, case.base.values, case.allowed).parts:
                return f"so it does in a chunk from step {step} on, and its state lacks something"
    return "a single step is special to it"


def last_state(case: Case) -> Relation:
    """The state is that of the last step: x of that step moves it, and no row of it is y at an earlier one."""
    if not case.recurrent.has_state:
        return not_applicable("no state comes out of it")
    if case.steps < 3:
        return not_applicable("x has fewer than three steps, and this needs them")
    if _is_unmoved(case):
        return broken(None, "the state that comes out is the one that went in")
    if told := _earlier_y(case):
        return told
    if who := reads_backward(case):
        both = _BOTH.replace("it", who, 1)
        return holds() if _rows_of_y(case) else not_applicable(f"{both}, and no row of the state is y at any step")
    moved = _moved_leaves(case, case.steps)
    moving = [name for name, (last, before) in moved.items() if last.parts or before.parts]
    late = [name for name in moving if not moved[name][0].parts]
    if late:  # a unit that changes at every other step only would do so, too, but not one step earlier
        earlier = _moved_leaves(case, case.steps - 1)
        late = [name for name in late if earlier[name][1].parts and not earlier[name][0].parts]
    # A state may hold what was one step ago, as a buffer does: unless it is all of it, or it does not carry on.
    if late and (len(late) == len(moving) or _does_not_carry_on(case)):
        step = case.steps - 2
        off = replace(moved[late[0]][1], place=Place(late[0], step=step))
        return broken(off, f"{late[0]} changes when x at step {step} does, and not when x at the last step does")
    if not any(moved[name][0].parts for name in moving):
        return not_applicable("x at the last step moves nothing in the state")
    return _beside_y(case)


def _beside_y(case: Case) -> Relation:
    """What is said of a state that is that of the last step: whether it is y there, or only near to it."""
    if not case.recurrent.has_y or _rows_of_y(case):
        return holds()
    if any(not _tells_steps(half, case.allowed.tensors["y"]) for _, _, half, _ in _as_wide_as_y(case)):
        return holds()
    near = _near_y(case)
    if near is None:
        return holds(message="no row of the state is y at the last step, but x at that step moves it")
    name, off = near
    return not_applicable(
        f"{name} is near to y at the last step, and {off:.2g} off: whether the two should be the same is not known"
    )


def _does_not_carry_on(case: Case) -> bool:
    """Whether the second half, from the state after the first one, gives another result than in the whole."""
    if not (case.takes_state or case.recurrent.takes_state):
        return False
    half = case.steps // 2
    return gap(in_chunks(case, [0, half, case.steps], case.state), case.base.values, case.allowed).parts


def _moved_leaves(case: Case, steps: int) -> dict[str, tuple[Gap, ...]]:
    """How far each tensor of the state moves when x at the last step changes, and when x at the one before does."""
    x, other = case.x[:steps], case.other_x()[:steps]
    base = (case.base if steps == case.steps else case.run(x)).values.of_state()
    runs = []
    for step in (steps - 1, steps - 2):
        at = torch.full((case.items,), step)
        runs.append(case.run(_changed_at(x, other, at)).values.of_state())
    limits = case.allowed.of_state()
    return {
        name: tuple(gap(run.only(name), base.only(name), limits) for run in runs)
        for name, each in base.tensors.items()
        if is_number(each) and case.axes.get(name) is not None
    }


def _earlier_y(case: Case) -> Relation | None:
    """What is said where a row of the state is y at another step than the last one of its direction."""
    found = _rows_of_y(case)
    if not found or any(step == _end(case, direction) for _, direction, step in found):
        return None
    name, _, step = found[-1]
    y = case.base.values.tensors["y"]
    off = Gap(
        (y[step] - y[-1]).abs().max().item(), case.allowed.tensors["y"][-1].max().item(), 2.0, Place(name, step=step)
    )
    return broken(off, f"{name} is y at step {step}, and not that at the last step, {case.steps - 1}")


def _is_unmoved(case: Case) -> bool:
    """Whether all of the state that has items comes out as it went in."""
    if not case.takes_state:
        return False
    before, after = tensors(case.state), tensors(case.base.state)
    pairs = [(each, after[name]) for name, each in before.items() if name in after and is_number(each) and each.numel()]
    return bool(pairs) and all(one.shape == other.shape and torch.equal(one, other) for one, other in pairs)


def _end(case: Case, direction: int) -> int:
    return 0 if direction else case.steps - 1


def _rows_of_y(case: Case) -> list[tuple[str, int, int]]:
    """Where a row of the state is y of a step in all items: its name, the direction, the step."""
    found = []
    for name, direction, half, rows in _as_wide_as_y(case):
        limit = case.allowed.tensors["y"]
        off = (half[:, :, None] - rows[None]).abs().amax(-1)  # (L, N, rows)
        fits = (off <= limit.flatten(2)).all(1)  # (L, rows)
        is_own = _tells_steps(half, limit)
        for step in range(len(half)):
            if is_own and bool(fits[step].any()):
                found.append((name, direction, step))
    return found


def _near_y(case: Case) -> tuple[str, float] | None:
    """The tensor of the state that is y at the last step but for less than y moves in a step; and how far it is off."""
    found = []
    for name, _, half, rows in _as_wide_as_y(case):
        off = (half[-1][:, None] - rows).abs().amax(-1)  # (N, rows)
        step = (half[-1] - half[-2]).abs().amax(-1)  # (N,)
        found += [(name, off[:, row].max().item()) for row in (off <= NEAR * step[:, None]).all(0).nonzero().flatten()]
    return min(found, key=lambda each: each[1], default=None)


def _as_wide_as_y(case: Case) -> Iterator[tuple[str, int, Tensor, Tensor]]:
    """Tensors of the state with as many units as y, or as a direction of it: the name, the direction, its y, rows."""
    y = case.base.values.tensors.get("y")
    if y is None or y.dim() != 3 or y.is_complex():
        return
    width = y.shape[-1]
    for name, each in case.base.values.of_state().tensors.items():
        axis = case.axes.get(name)
        if axis is None or not is_number(each) or each.dim() < 2 or axis == each.dim() - 1:
            continue
        rows = each.movedim(axis, 0).flatten(1, -2) if each.dim() > 2 else each[:, None]  # (N, rows, units)
        units = rows.shape[-1]
        halves = {0: y[..., :units], 1: y[..., units:]} if units * 2 == width else {0: y} if units == width else {}
        yield from ((name, direction, half, rows) for direction, half in halves.items())


def _tells_steps(y: Tensor, limit: Tensor) -> bool:
    """Whether the last two steps differ, so that it shows which one a state is."""
    return bool(((y[-1] - y[-2]).abs().amax(-1) > 2 * limit[-1].flatten()).all())
