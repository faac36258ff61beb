"""The smallest Spec of which something still holds, found by making a Spec simpler until nothing simpler will do.

What must hold is the caller's business; here it is that two sides still differ. Sizes come down, alone, in pairs and
all at once (a fault may need two that are alike); everything else goes back to its default. The kind stays.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import combinations
from typing import Any

from rnnscope.errors import RnnscopeError
from rnnscope.spec.spec import Spec

_SIZES = ("num_layers", "hidden_size", "input_size", "seq_len", "batch_size")

_KEPT = (*_SIZES, "kind", "lengths", "proj_size")

_FEW = (1, 2, 3)
"""Sizes in which a fault usually shows: tried before halves."""


def smallest(spec: Spec, holds: Callable[[Spec], bool]) -> Spec:
    """A Spec of which it still holds, while it holds of none that is one step simpler."""
    while (simpler := next(filter(holds, simpler_specs(spec)), None)) is not None:
        spec = simpler
    return spec


def simpler_specs(spec: Spec) -> Iterator[Spec]:
    """Those that are a step simpler, the boldest steps first."""
    for changes in _changes(spec):
        try:
            simpler = _changed(spec, changes)
        except RnnscopeError:  # it contradicts itself
            continue
        if simpler != spec:
            yield simpler


def _changed(spec: Spec, changes: dict[str, Any]) -> Spec:
    """The Spec with some fields changed, a projection made to fit, and what follows from lengths left to follow."""
    values = vars(spec) | changes
    values["proj_size"] = min(values["proj_size"], values["hidden_size"] - 1)
    if values["lengths"] is not None:
        del values["seq_len"], values["batch_size"]
    return Spec(**values)


def _changes(spec: Spec) -> Iterator[dict[str, Any]]:
    sizes = {name: getattr(spec, name) for name in _SIZES}
    for few in _FEW:
        lengths = spec.lengths and tuple(min(each, few) for each in spec.lengths[:few])
        yield {name: min(size, few) for name, size in sizes.items()} | {"lengths": lengths}
    if spec.lengths is not None:
        yield {"lengths": None}
        yield from ({"lengths": each} for each in _shorter(spec.lengths))
    yield from ({"proj_size": size} for size in _smaller(spec.proj_size, least=0))
    for each in fields(Spec):
        if each.name not in _KEPT:
            yield {each.name: each.default}
    for name, size in sizes.items():
        yield from ({name: smaller} for smaller in _smaller(size))
    for (one, size), (other, other_size) in combinations(sizes.items(), 2):
        for smaller in zip(_smaller(size), _smaller(other_size), strict=False):
            yield dict(zip((one, other), smaller, strict=True))


def _smaller(size: int, least: int = 1) -> Iterator[int]:
    """Sizes to try instead of one: the least ones, then half of it, a quarter less, an eighth less, … and one less."""
    parts = (size >> shift for shift in range(1, size.bit_length()))
    found = dict.fromkeys((least, *_FEW, *(size - part for part in parts)))
    return (each for each in found if least <= each < size)


def _shorter(lengths: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Fewer items, and shorter ones."""
    count = len(lengths)
    if count > 1:
        yield lengths[: count // 2]
        yield lengths[count // 2 :]
        yield from (lengths[:place] + lengths[place + 1 :] for place in range(count))
    yield tuple((each + 1) // 2 for each in lengths)
    for place, length in enumerate(lengths):
        yield from ((*lengths[:place], each, *lengths[place + 1 :]) for each in _smaller(length))
