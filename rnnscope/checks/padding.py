"""A batch of unequal lengths: packed, or padded with lengths or a mask beside it. Each item is as it is alone."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from rnnscope.checks.case import Case, replace_case
from rnnscope.checks.facts import BROKEN, HOLDS, NOT_APPLICABLE, Relation, broken, holds, not_applicable
from rnnscope.checks.items import named_items
from rnnscope.checks.module import entries_of
from rnnscope.checks.states import cloned, is_number
from rnnscope.checks.values import Gap, Values, gap, greatest, where_steps
from rnnscope.checks.words import figures, item, refused, where
from rnnscope.errors import RnnscopeError

MOST_ALONE = 4
"""So many items are run alone, each over its own length."""


_ALL_WHOLE = "every item is as long as x; --lengths says others"


def packed(case: Case) -> Relation:
    """A PackedSequence, against each item alone."""
    lengths = case.lengths
    if bool((lengths == case.steps).all()):
        return not_applicable(_ALL_WHOLE)
    try:
        values = _of_packed(case, lengths)
    except RnnscopeError as error:
        return not_applicable(f"it takes no PackedSequence: {refused(error)}")
    if values is None:
        return not_applicable("it takes no PackedSequence: what it gives then has other shapes")
    off = _against_alone(case, values, lengths)
    if not off.parts:
        return holds(off)
    return broken(
        off, f"packed, {item(off)} gives another result than alone {where(off)}{figures(off)}, with {_told(lengths)}"
    )


def _of_packed(case: Case, lengths: Tensor) -> Values | None:
    x = case.recurrent.laid_out(case.x)
    packed = pack_padded_sequence(x, lengths, case.recurrent.batch_first, enforce_sorted=False)
    result = case.call(case.copy(), packed, cloned(case.state), **case.needed(case.steps, case.items))
    entries = entries_of(result)
    y = entries.get(case.recurrent.y) if case.recurrent.y is not None else None
    values, _ = case.recurrent.read(result)
    base = case.base.values.of_state().tensors
    if any(name not in values.tensors or values.tensors[name].shape != each.shape for name, each in base.items()):
        return None
    if case.recurrent.has_y and not isinstance(y, PackedSequence):
        there = values.tensors.get("y")
        if there is None or there.shape[:2] != case.x.shape[:2]:
            return None
    return values


def padding(case: Case) -> Relation:
    """Lengths or a mask beside x: what stands behind the end of an item, and the item against itself alone."""
    roles = case.recurrent.roles
    if roles.lengths is None and roles.mask is None:
        return not_applicable("its forward takes neither lengths nor a mask")
    if bool((case.lengths == case.steps).all()):
        return not_applicable(_ALL_WHOLE)
    found = [_padded(case, name) for name in (roles.lengths, roles.mask) if name]
    order = (BROKEN, HOLDS, NOT_APPLICABLE)
    return min(found, key=lambda told: order.index(told.outcome))


def _padded(case: Case, name: str) -> Relation:
    """What a module does with one argument that says where items end."""
    lengths, reason = case.lengths, ""
    gaps: list[tuple[Gap, Gap]] = []
    is_refused_unsorted = False
    for words in _forms(case, name, lengths):
        try:
            values = case.run(**{name: words}).values
            noisy = case.run(_with_noise(case, lengths), **{name: words}).values
        except RnnscopeError as error:
            reason = reason or refused(error)
            is_refused_unsorted |= "sorted" in reason
            continue
        read = gap(_real(noisy, lengths), _real(values, lengths), case.allowed)
        off = _against_alone(case, values, lengths)
        if not read.parts and not off.parts:
            return holds(greatest([read, off]))
        gaps.append((read, off))
    if is_refused_unsorted and case.given_lengths is None:  # enforce_sorted is the default of torch's packing
        ordered = tuple(lengths.sort(descending=True).values.tolist())
        return _padded(replace_case(case, given_lengths=ordered), name)
    if not gaps:
        return not_applicable(f"it does not take {name} in any usual form: {reason}")
    read, off = gaps[0]
    if read.parts:
        return broken(
            read,
            f"with {name}, {item(read)} changes {where(read)}{figures(read)} when what x has after its end does: "
            "it reads the padding",
        )
    return broken(
        off,
        f"with {name}, {item(off)} gives another result than alone {where(off)}{figures(off)}, with {_told(lengths)}",
    )


def _forms(case: Case, name: str, lengths: Tensor) -> Iterator[Any]:
    """The forms in which an argument may take lengths: numbers, or a mask in either sense."""
    if name == case.recurrent.roles.lengths:
        yield lengths  # on the CPU, as torch's packing takes them
        if case.x.device.type != "cpu":
            yield lengths.to(case.x.device)
        yield lengths.tolist()
        return
    real = torch.arange(case.steps)[:, None] < lengths[None, :]  # (L, N)
    own = real.T if case.recurrent.batch_first else real
    means_padding = "pad" in name.lower()
    for mask in (own, own.T):
        for sense in (~mask, mask) if means_padding else (mask, ~mask):
            yield sense.contiguous().to(case.x.device)
            yield sense.to(case.dtype).to(case.x.device)


def _with_noise(case: Case, lengths: Tensor) -> Tensor:
    """x with other, larger numbers behind the end of each item."""
    padded = torch.arange(case.steps)[:, None] >= lengths[None, :]
    other = case.other_x(seed=3)
    other = 10 * other if is_number(other) else other
    return where_steps(padded, other, case.x)


def _real(values: Values, lengths: Tensor) -> Values:
    """y with zeros behind the end of each item, and the state as it is."""
    if "y" not in values.tensors:
        return values
    y = values.tensors["y"]
    ends = torch.arange(len(y))[:, None] < lengths[None, :]
    kept = where_steps(ends, y, torch.zeros_like(y))
    return Values({**values.tensors, "y": kept}, values.axes)


def _against_alone(case: Case, values: Values, lengths: Tensor) -> Gap:
    """Each item against itself alone, over its own length: y up to its end, and its state."""
    found = []
    for number, alone in _alone(case, lengths):
        index, steps = torch.tensor([number]), int(lengths[number])
        own = values.items(index)
        cut = {name: each[:steps] if name == "y" else each for name, each in own.tensors.items()}
        limit = case.allowed.items(index)
        limits = {name: each[:steps] if name == "y" else each for name, each in limit.tensors.items()}
        off = gap(Values(cut, own.axes), alone, Values(limits, own.axes))
        off = named_items(off, index)
        if off.parts:
            return off
        found.append(off)
    return greatest(found)


def _alone(case: Case, lengths: Tensor) -> list[tuple[int, Values]]:
    """Some items alone: the shortest and the longest one, and others."""
    key = f"alone {lengths.tolist()}"
    if key not in case.kept:
        order = lengths.argsort().tolist()
        some = order if len(order) <= MOST_ALONE else [order[0], order[1], order[len(order) // 2], order[-1]]
        case.kept[key] = [(each, _run_alone(case, each, int(lengths[each]))) for each in some]
    found: list[tuple[int, Values]] = case.kept[key]
    return found


def _run_alone(case: Case, number: int, steps: int) -> Values:
    x, state = case.of_items([number])
    return case.run(x[:steps], state).values


def _told(lengths: Tensor) -> str:
    some = lengths.tolist()
    return f"lengths {','.join(map(str, some[:8]))}{',...' if len(some) > 8 else ''}"
