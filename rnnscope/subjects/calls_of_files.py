"""What is checked of a call in a stranger's program before torch gets it.

torch's operators trust what they are given more than a file deserves: with some arguments they read beyond a tensor,
end the process or never end. An exporter writes none of these.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""The whole recurrent networks among the operators, and how many gates their weights stack."""

LARGEST_INT = 2**63
"""Sizes are below it in torch. Python's numbers have no end, and neither would a chain of products of them."""

_CODES = {"ScalarType": torch.dtype, "Layout": torch.layout, "MemoryFormat": torch.memory_format}
"""What torch takes as a number, too, and never checks."""


def check_call(function: Callable[..., Any], positional: Sequence[Any], named: dict[str, Any]) -> None:
    """Raise a ValueError where a call could do more than compute."""
    if not isinstance(function, torch._ops.OpOverload):
        _check_arithmetic(positional[1:] if function is operator.getitem else positional)
        return
    given = dict(zip((each.name for each in function._schema.arguments), positional, strict=False)) | named
    for each in function._schema.arguments:
        wanted = next((kind for code, kind in _CODES.items() if code in str(each.real_type)), None)
        value = given.get(each.name)
        if wanted is not None and value is not None and not isinstance(value, wanted):
            raise ValueError(f"{each.name} is {str(value)[:40]}, which is no {wanted.__name__}")
    name = function._schema.name.removeprefix("aten::")
    if name in GATES:
        _check_rnn(name, **given)
    if name in ("_weight_norm", "_weight_norm_interface"):
        _check_weight_norm(**given)


def _check_arithmetic(values: Sequence[Any]) -> None:
    """Python's operators would also repeat a text or a list, and multiply numbers without end."""
    for each in values:
        if isinstance(each, (str, tuple, list)) or (isinstance(each, int) and abs(each) > LARGEST_INT):
            raise ValueError("arithmetic of sizes has something that is no size")


def _check_rnn(
    name: str, hx: Any, params: Sequence[Tensor], has_biases: bool, num_layers: int, bidirectional: bool, **given: Any
) -> None:
    """Raise unless all sizes fit each other: oneDNN reads weights by the sizes that they should have."""
    x = given["input"] if "input" in given else given["data"]
    states = list(hx) if name == "lstm" else [hx]
    if "batch_sizes" in given:
        sizes = given["batch_sizes"].tolist()
        if not sizes or sizes[-1] < 1 or sizes != sorted(sizes, reverse=True) or sum(sizes) != len(x):
            raise ValueError("the sizes of a packed batch do not fit its numbers")
        items, is_packed = sizes[0], 1
    else:
        items, is_packed = x.shape[0 if given["batch_first"] else 1], 0
    directions = 2 if bidirectional else 1
    out, hidden = states[0].shape[-1], states[-1].shape[-1]
    rows = GATES[name] * hidden
    wanted: list[tuple[int, ...]] = []
    for layer in range(num_layers if num_layers <= len(params) else 0):
        size = x.shape[-1] if layer == 0 else directions * out
        weights = [(rows, size), (rows, out), *([(rows,)] * 2 if has_biases else [])]
        wanted += [*weights, *([(out, hidden)] if out != hidden else [])] * directions
    shapes = [tuple(each.shape) for each in states]
    fitting = [(num_layers * directions, items, size) for size in ((out, hidden) if name == "lstm" else (out,))]
    kinds = {each.dtype for each in (x, *states, *params)}
    if x.dim() + is_packed != 3 or shapes != fitting or [tuple(each.shape) for each in params] != wanted:
        raise ValueError(f"the sizes of what {name} is given do not fit each other: {shapes} and {fitting}")
    if len(kinds) > 1 or not x.is_floating_point():
        raise ValueError(f"{name} is given several dtypes")


def _check_weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> None:
    """Raise unless g has a number for each place along a dim of v: torch divides by such sizes."""
    if not v.numel() or v.dim() != g.dim() or not -1 <= dim < v.dim():
        raise ValueError("what weight_norm is given does not fit")
    sizes = [v.shape[place] if place == dim else 1 for place in range(v.dim())]
    if list(g.shape) != sizes and not (dim == -1 and g.numel() == 1):
        raise ValueError("what weight_norm is given does not fit")
