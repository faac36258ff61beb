"""The smallest Spec of which something holds: sizes are made smaller, and flags left out, while it still does."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import combinations
from typing import Any

from rnnscope.errors import RnnscopeError
from rnnscope.spec.spec import SPEC_FLAGS, Spec

_SIZES = ("num_layers", "hidden_size", "input_size", "seq_len", "batch_size")

_FEW = (1, 2, 3)
"""Sizes in which a fault usually shows: tried before halves."""


def shrink(spec: Spec, holds: Callable[[Spec], bool]) -> Spec:
    """A Spec of which it still holds, while it holds of none that is one step simpler."""
    while (simpler := next(filter(holds, simpler_specs(spec)), None)) is not None:
        spec = simpler
    return spec


def simpler_specs(spec: Spec) -> Iterator[Spec]:
    """Those that are a step simpler, the boldest steps first."""
    for changes in _changes(spec):
        values = vars(spec) | changes
        values["proj_size"] = min(values["proj_size"], values["hidden_size"] - 1)
        if values["lengths"] is not None:
            del values["seq_len"], values["batch_size"]  # they follow
        with suppress(RnnscopeError):  # it contradicts itself
            simpler = Spec(**values)
            if simpler != spec:
                yield simpler


def _changes(spec: Spec) -> Iterator[dict[str, Any]]:
    sizes = {name: getattr(spec, name) for name in _SIZES}
    for few in _FEW:
        lengths = spec.lengths and tuple(min(each, few) for each in spec.lengths[:few])
        yield {name: min(size, few) for name, size in sizes.items()} | {"lengths": lengths}
    if spec.lengths is not None:
        yield {"lengths": None}
        yield from ({"lengths": each} for each in _shorter(spec.lengths))
    yield from ({"proj_size": size} for size in _smaller(spec.proj_size, least=0))
    kept = (*_SIZES, "kind", "lengths", "proj_size", "threads")  # on which the last bits depend
    yield from ({name: flag.default} for name, flag in SPEC_FLAGS.items() if name not in kept)
    for name, size in sizes.items():
        yield from ({name: smaller} for smaller in _smaller(size))
    yield from _traded(spec)
    for (one, size), (other, other_size) in combinations(sizes.items(), 2):
        for smaller, other_smaller in zip(_smaller(size), _smaller(other_size), strict=False):
            yield {one: smaller, other: other_smaller}


def _traded(spec: Spec) -> Iterator[dict[str, Any]]:
    """Fewer steps of so many more items that the product of both does not get smaller: only that may count.

    It ends, as no other step makes more steps of fewer.
    """
    if spec.lengths is None and not spec.unbatched and spec.batch_size > spec.seq_len:
        for steps in (each for each in _FEW if each < spec.seq_len):
            yield {"seq_len": steps, "batch_size": -(-spec.seq_len * spec.batch_size // steps)}


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
