"""The state_dicts in what a file holds: the tensors of each by their names, weight norm folded.

A trainer writes its state_dict somewhere in nested dicts: `state_dict`, `model`, … Which tensors make an RNN is found
in checkpoints.py.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class StateDict:
    """One state_dict.

    Args:
        keys: through which it is reached in the file: ("state_dict",), ("models", 0), or () at the top.
        tensors: by their names.
        folded: the names under which weight norm was folded.
        odd: the names of weights that are reparametrised in a way that a file does not record, and how that is seen.
    """

    keys: tuple[Any, ...]
    tensors: dict[str, Tensor]
    folded: frozenset[str] = frozenset()
    odd: dict[str, str] = field(default_factory=dict)

    @property
    def container(self) -> str:
        """Its own path in the file: "state_dict", "models.0", or "" at the top."""
        path = ""
        for key in self.keys:
            path = f"{path}.{key}" if path else str(key)
        return path


def state_dicts(content: Any) -> Iterator[StateDict]:
    """Each dict in a file that holds tensors itself, from the outside in."""
    waiting: deque[tuple[tuple[Any, ...], Any]] = deque([((), content)])
    seen = set()
    while waiting:
        keys, each = waiting.popleft()
        if id(each) in seen:  # a pickle may hold itself
            continue
        seen.add(id(each))
        if isinstance(each, Mapping):
            items = list(each.items())
        elif isinstance(each, (list, tuple)):
            items = list(enumerate(each))
        else:
            continue
        tensors = {str(key): value.detach() for key, value in items if isinstance(value, Tensor)}
        if tensors:
            yield _folded(keys, tensors)
        waiting.extend(((*keys, key), value) for key, value in items if isinstance(value, (Mapping, list, tuple)))


def is_stretched(tensor: Tensor) -> bool:
    """Whether a tensor says more numbers than it has, as an expanded one does: a small file may claim any size."""
    return not tensor.is_meta and tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


_PARAMETRIZED = re.compile(r"(.*\.)?parametrizations\.([^.]+)\.(original\d?)")
_NORMED = re.compile(r"(.+)_(g|v|orig|u)")


def _folded(keys: tuple[Any, ...], tensors: dict[str, Tensor]) -> StateDict:
    """Weights for the magnitudes and directions into which weight norm splits them, in its old and its new form."""
    plain: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, each in tensors.items():
        if found := _PARAMETRIZED.fullmatch(name):
            parts.setdefault(f"{found[1] or ''}{found[2]}", {})[found[3]] = each
        elif (found := _NORMED.fullmatch(name)) and ({f"{found[1]}_g", f"{found[1]}_orig"} & tensors.keys()):
            parts.setdefault(found[1], {})[found[2]] = each
        else:
            plain[name] = each
    folded, odd = set(), {}
    for name, part in parts.items():
        pair = next((keys for keys in (("g", "v"), ("original0", "original1")) if part.keys() == set(keys)), None)
        weight = None if pair is None else _weight_normed(*(part[key] for key in pair))
        if weight is None:
            odd[name] = ", ".join(sorted(part))
        else:
            plain[name] = weight
            folded.add(name)
    return StateDict(keys, plain, frozenset(folded), odd)


def _weight_normed(magnitude: Tensor, direction: Tensor) -> Tensor | None:
    """g·v/‖v‖, the norm taken over all dims but the one that g has; None where the two are no such pair.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrizations.weight_norm.html
    """
    if is_stretched(magnitude) or is_stretched(direction):
        return None
    alike = magnitude.is_floating_point() and magnitude.dtype == direction.dtype
    if not alike or magnitude.is_meta or direction.is_meta:
        return None
    if magnitude.dim() == 0:
        return torch._weight_norm(direction, magnitude, -1)
    for dim, size in enumerate(direction.shape):
        if magnitude.shape == tuple(size if each == dim else 1 for each in range(direction.dim())):
            return torch._weight_norm(direction, magnitude, dim)
    return None
