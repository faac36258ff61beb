"""A state as a module has it: a tensor, or tuples, lists, dicts, namedtuples and dataclasses of such, nested.

What is no tensor in it stays as it is: a Python number, None, a name. Where N stands in each tensor is found out by
running two batch sizes.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

Axes = Mapping[str, int | None]
"""The axis of N of each tensor in a state, by its path; None for a tensor that has none."""


def parts(state: Any, path: str = "state") -> Iterator[tuple[str, Any]]:
    """What is in a state, by its path: "state", "state[0]", "state['h']", "state.c"."""
    if isinstance(state, Mapping):
        inside: Any = ((f"{path}[{key!r}]", each) for key, each in state.items())
    elif is_dataclass(state) and not isinstance(state, type):
        inside = ((f"{path}.{each.name}", getattr(state, each.name)) for each in fields(state))
    elif isinstance(state, tuple) and hasattr(state, "_fields"):
        inside = ((f"{path}.{name}", each) for name, each in zip(state._fields, state, strict=True))
    elif isinstance(state, (tuple, list, deque)):
        inside = ((f"{path}[{place}]", each) for place, each in enumerate(state))
    else:
        yield path, state
        return
    for name, each in inside:
        yield from parts(each, name)


def tensors(state: Any) -> dict[str, Tensor]:
    """The tensors in a state by their paths. Python numbers count, too: a step counter may be one."""
    return {
        path: each if isinstance(each, Tensor) else torch.tensor(each)
        for path, each in parts(state)
        if isinstance(each, (Tensor, bool, int, float))
    }


def _as_it_is(number: Any) -> Any:
    return number


def mapped(
    function: Callable[[str, Tensor], Any], state: Any, path: str = "state", count: Callable[[Any], Any] = _as_it_is
) -> Any:
    """A state of the same form, with something else for each tensor; `count` gives what stands for a Python number."""
    if isinstance(state, Tensor):
        return function(path, state)
    if isinstance(state, (bool, int, float)):
        return count(state)
    if isinstance(state, Mapping):
        made = {key: mapped(function, each, f"{path}[{key!r}]", count) for key, each in state.items()}
        return made if type(state) is dict else type(state)(made)  # type: ignore[call-arg]
    if is_dataclass(state) and not isinstance(state, type):
        new = {
            each.name: mapped(function, getattr(state, each.name), f"{path}.{each.name}", count)
            for each in fields(state)
        }
        return replace(state, **new)
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(
            *(mapped(function, each, f"{path}.{name}", count) for name, each in zip(state._fields, state, strict=True))
        )
    if isinstance(state, (tuple, list, deque)):
        return type(state)(mapped(function, each, f"{path}[{place}]", count) for place, each in enumerate(state))
    return state


def axis_of(one: torch.Size, other: torch.Size, sizes: tuple[int, int]) -> int | None:
    """The first axis that has the one size in one shape, and the other size in the other; None where none has."""
    if len(one) != len(other):
        return None
    return next((axis for axis, pair in enumerate(zip(one, other, strict=True)) if pair == sizes), None)


def cloned(state: Any) -> Any:
    """A state of other tensors with the same numbers."""
    return mapped(lambda _, each: each.clone(), state)


def picked(tensor: Tensor, axis: int | None, index: Tensor) -> Tensor:
    """Some items of a tensor, whose N stands at an axis, in this order; all of it where it has none."""
    return tensor if axis is None else tensor.index_select(axis, index.to(tensor.device))


def squeezed(tensor: Tensor, axis: int | None) -> Tensor:
    """A tensor of one item without its axis of N; as it is where it has none."""
    return tensor if axis is None or axis >= tensor.dim() else tensor.squeeze(axis)


def of_items(state: Any, axes: Axes, index: Tensor) -> Any:
    """The state of some items: each tensor with these alone, in this order. A tensor without N stays as it is."""
    return mapped(lambda path, each: picked(each, axes.get(path), index), state)


def without_items(state: Any, axes: Axes) -> Any:
    """The state of a batch of one without its axis of N."""
    return mapped(lambda path, each: squeezed(each, axes.get(path)), state)


def numbers(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    """A state with other floating-point numbers; whole numbers are places or counts, and stay."""
    return mapped(lambda _, each: function(each) if is_number(each) else each, state)


def is_number(tensor: Tensor) -> bool:
    """Whether it holds floating-point or complex numbers."""
    return tensor.is_floating_point() or tensor.is_complex()


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Floating-point numbers in a dtype, complex ones in complex64 or complex128; whole numbers as they are."""
    if tensor.is_floating_point():
        return tensor.to(dtype)
    if tensor.is_complex():
        return tensor.to(torch.complex128 if dtype == torch.float64 else torch.complex64)
    return tensor
