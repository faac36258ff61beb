"""What a module keeps on itself that is neither a parameter nor a buffer: plain tensors, lists of modules, helpers.

torch does not see it. It is not in the state_dict, and neither `.to` nor `.double` reaches it.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

_TORCHS = frozenset(vars(nn.Module())) | {"_flat_weights", "_flat_weight_refs"}
"""What torch itself keeps on a module."""

_OPAQUE = (str, bytes, type, ModuleType, FunctionType, MethodType, weakref.ref, torch.dtype, torch.device)
"""What is not looked into."""


def kept_outside(module: nn.Module) -> dict[str, Tensor]:
    """Tensors that torch does not know of, by their paths: "scale", "cells[0].weight_ih", "encoder.cache['h']".

    >>> gru = nn.GRU(1, 1)
    >>> gru.scale = torch.ones(1)
    >>> kept_outside(gru)
    {'scale': tensor([1.])}
    """
    return dict(_outside(module, "", set()))


def _outside(module: nn.Module, path: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """The same of a module at a path; seen: the ids of what is not to be told again."""
    seen.update(id(each) for each in (*module.parameters(), *module.buffers(), *module.modules()))
    for place, each in module.named_modules(prefix=path):
        for name, value in attributes(each).items():
            yield from _tensors(value, f"{place}.{name}" if place else name, seen)


def attributes(module: nn.Module) -> dict[str, Any]:
    """What a module keeps on itself, without what torch keeps there."""
    return {name: each for name, each in vars(module).items() if name not in _TORCHS}


def _tensors(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """The tensors in something, each but once."""
    if value is None or isinstance(value, _OPAQUE) or id(value) in seen:
        return
    if isinstance(value, nn.Module):
        own = [*value.named_parameters(prefix=path), *value.named_buffers(prefix=path)]
        yield from ((name, each) for name, each in own if id(each) not in seen)
        yield from _outside(value, path, seen)
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield path, value
        return
    if isinstance(value, Mapping):
        inside: Any = [(f"{path}[{key!r}]", each) for key, each in value.items()]
    elif isinstance(value, (tuple, list)):
        inside = [(f"{path}[{place}]", each) for place, each in enumerate(value)]
    else:
        inside = [(f"{path}.{name}", each) for name, each in getattr(value, "__dict__", {}).items()]
    for name, each in inside:
        yield from _tensors(each, name, seen)


def change_outside(module: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
    """Other numbers for what torch does not know of: it would be left in another dtype than all else."""
    for each in kept_outside(module).values():
        each.data = function(each.data)
