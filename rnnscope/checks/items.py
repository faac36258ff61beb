"""What one item of a batch has to do with the others, and with where it lies in memory: nothing."""

from dataclasses import replace

import torch
from torch import Tensor

from rnnscope.checks.case import Case, replace_case
from rnnscope.checks.facts import Relation, broken, holds, not_applicable
from rnnscope.checks.probing import copy_in
from rnnscope.checks.states import cloned, is_number, mapped, of_items, picked, tensors, without_items
from rnnscope.checks.values import Gap, Values, gap, greatest
from rnnscope.checks.words import figures, item, raised, refused, where
from rnnscope.errors import RnnscopeError
from rnnscope.subjects.user_code import guarded

MOST_ALONE = 4
"""So many items are run alone: the first and the last ones."""


def unbatched(case: Case) -> Relation:
    """x: (L, ...) without N, against a batch of one."""
    x, state = case.of_items([0])
    alone = case.alone(0).values.without_items()
    try:
        found = case.run(x[:, 0], without_items(state, case.axes), as_it_is=True).values
    except RnnscopeError as error:
        return not_applicable(f"it takes no x without N: {refused(error)}")
    found = Values(found.tensors, dict.fromkeys(found.axes))
    for name, each in alone.tensors.items():
        if name not in found.tensors or found.tensors[name].shape != each.shape:
            has = tuple(found.tensors[name].shape) if name in found.tensors else "nothing"
            return not_applicable(f"it takes no x without N: {name} is {has} then, and not {tuple(each.shape)}")
    off = gap(found, alone, case.allowed.items(torch.tensor([0])).without_items())
    if not off.parts:
        return holds(off)
    return broken(off, f"x without N gives another result than a batch of one {where(off)}{figures(off)}")


def batch_first(case: Case) -> Relation:
    """One that was asked for the other layout, with the same weights, on x in that layout."""
    recurrent = case.recurrent
    if recurrent.in_other_layout is None:
        return not_applicable("the class takes no batch_first")
    words = f"batch_first={not recurrent.batch_first}"
    try:
        with guarded(recurrent.name):
            other = copy_in(recurrent.in_other_layout().to(case.x.device), case.dtype)
            other.load_state_dict(case.module.state_dict())
        turned = replace_case(case, recurrent=replace(recurrent, batch_first=not recurrent.batch_first), module=other)
        off = gap(turned.run().values, case.base.values, case.allowed)
    except RnnscopeError as error:
        return broken(None, f"with {words} it raises {raised(error)}")
    if not off.parts:
        return holds(off)
    return broken(
        off,
        f"with {words} it gives another result {where(off)}{figures(off)}: an axis is named by its number where the "
        "layout decides, or h is moved, too",
    )


def layout(case: Case) -> Relation:
    """x and the state as views: of another order in memory, of every other number, of one item that is spread."""
    x = case.recurrent.laid_out(case.x).clone()
    turned = x.transpose(0, 1).contiguous().transpose(0, 1)
    apart = torch.stack((x, x), -1)[..., 0]
    state = mapped(_spread, case.state)
    spread, spread_state = case.of_items([0] * case.items)
    one = case.recurrent.laid_out(spread)[:1] if case.recurrent.batch_first else case.recurrent.laid_out(spread)[:, :1]
    expanded = case.run(spread, spread_state).values
    every = (
        ("x with its dims transposed in memory", turned, cloned(case.state), case.base.values, case.allowed),
        ("x whose numbers do not stand in a row", apart, cloned(case.state), case.base.values, case.allowed),
        ("a state whose numbers do not stand in a row", x, state, case.base.values, case.allowed),
        ("one item that is expanded to N", one.expand_as(x), spread_state, expanded, _of_first(case)),
    )
    found = []
    for words, given, start, expected, limit in every:
        if words.startswith("a state") and not case.takes_state:
            continue
        try:
            off = gap(case.run(given, start, as_it_is=True, keep=True).values, expected, limit)
        except RnnscopeError as error:
            return broken(None, f"{words} raises {raised(error)}: it takes reshape instead of view, or contiguous()")
        if off.parts:
            return broken(off, f"{words} gives another result {where(off)}{figures(off)}")
        found.append(off)
    return holds(greatest(found))


def _spread(_: str, tensor: Tensor) -> Tensor:
    return torch.stack((tensor, tensor), -1)[..., 0]


def _of_first(case: Case) -> Values:
    return case.allowed.items(torch.zeros(case.items, dtype=torch.long))


def item_isolation(case: Case) -> Relation:
    """Some items changed, the others watched: so often that each is watched while each other one is changed."""
    if case.items < 2:
        return not_applicable("x has one item, and this needs two")
    found = []
    for changed in halves(case.items):
        kept = torch.tensor([each for each in range(case.items) if each not in changed])
        off = _moved(case, changed, kept)
        if off.parts:
            return _leak(case, off, changed, kept)
        found.append(off)
    return holds(greatest(found))


def halves(items: int) -> list[list[int]]:
    """Sets of items, in which for every two of them one set has the one and not the other."""
    bits = range((items - 1).bit_length())
    return [[each for each in range(items) if (each >> bit & 1) == value] for bit in bits for value in (0, 1)]


def _moved(case: Case, changed: list[int], kept: Tensor) -> Gap:
    """How far the kept items move while others are changed."""
    rows = torch.tensor(changed)
    x = case.x.index_copy(1, rows.to(case.x.device), picked(case.other_x(), 1, rows))
    values = case.run(x, _with_others(case, rows)).values
    return gap(values.items(kept), case.base.values.items(kept), case.allowed.items(kept))


def _with_others(case: Case, rows: Tensor) -> object:
    """The state, in which some items have another one: that of the items before them, half as large."""
    there = of_items(case.state, case.axes, torch.arange(case.items).roll(1))
    found = tensors(there)

    def change(path: str, each: Tensor) -> Tensor:
        axis = case.axes.get(path)
        if axis is None or not is_number(each):
            return each
        at = rows.to(each.device)
        return each.index_copy(axis, at, (found[path] / 2).index_select(axis, at))

    return mapped(change, case.state)


def _leak(case: Case, off: Gap, changed: list[int], kept: Tensor) -> Relation:
    """Which item changes when which one does."""
    for each in changed:
        others = torch.tensor([other for other in range(case.items) if other != each])
        single = _moved(case, [each], others)
        if single.parts:
            off, kept, by = single, others, f"item {each} does"
            break
    else:
        by = f"items {', '.join(map(str, changed))} do"
    off = named_items(off, kept)
    return broken(
        off,
        f"{item(off)} changes when {by}, {where(off)}{figures(off)}: something is computed over the batch, such as "
        "BatchNorm or a softmax over the wrong axis",
    )


def named_items(off: Gap, index: Tensor) -> Gap:
    """A gap among some items, with the number that its item has in the whole batch."""
    if off.place is None or off.place.item is None:
        return off
    return replace(off, place=replace(off.place, item=int(index[off.place.item])))


def permutation(case: Case) -> Relation:
    """The items in another order."""
    if case.items < 2:
        return not_applicable("x has one item, and this needs two")
    order = torch.arange(case.items).roll(1)  # no item keeps its place
    off = gap(case.run(*case.of_items(order)).values, case.base.values.items(order), case.allowed.items(order))
    if not off.parts:
        return holds(off)
    off = named_items(off, order)
    return broken(
        off,
        f"in another order {item(off, 'it')} gives another result {where(off)}{figures(off)}: what it gives depends on "
        "its place in the batch",
    )


def batch_of_one(case: Case) -> Relation:
    """Items alone, and in batches of other sizes."""
    found = []
    for index in _batches(case.items):
        size = len(index)
        try:
            ran = case.alone(int(index)) if size == 1 else case.run(*case.of_items(index))
            off = gap(ran.values, case.base.values.items(index), case.allowed.items(index))
        except RnnscopeError as error:
            return broken(None, f"a batch of {size} raises {raised(error)}")
        if off.parts:
            off = named_items(off, index)
            among = "alone" if size == 1 else f"in a batch of {size}"
            return broken(
                off,
                f"{among} {item(off, 'it')} gives another result than in a batch of {case.items} {where(off)}"
                f"{figures(off)}: something depends on N, such as a squeeze() or a mean over the batch",
            )
        found.append(off)
    return holds(greatest(found))


def _batches(items: int) -> list[Tensor]:
    """Items alone, two together, and more than there are, some of them again."""
    alone = range(items) if items <= MOST_ALONE else (0, 1, items - 2, items - 1)
    wider = torch.arange(items + 3) % items
    two = [torch.tensor([0, items - 1])] if items > 2 else []
    return [*(torch.tensor([each]) for each in alone), *two, wider]
