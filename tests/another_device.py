"""A device that is not the CPU, made in Python when this is imported, for the whole process: torch calls it npu.

Its tensors say so, keep their numbers in a tensor of the CPU, and compute with those of their own device alone. So what
is on the wrong device, or is never waited for, is an error here as on any other. Run as a program it answers a command
line of rnnscope. NO_FLOAT64 in the environment lets it refuse float64.
"""

import os
import sys
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

HERE = "npu:0"

aten: Any = torch.ops.aten


class There(Tensor):
    """A tensor of the device."""

    held: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "There":
        if inner.dtype == torch.float64 and os.environ.get("NO_FLOAT64"):
            raise TypeError("Cannot convert a npu Tensor to float64 dtype as it doesn't support float64.")
        made: Any = Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), dtype=inner.dtype, device=torch.device(HERE)
        )
        made.held = inner
        found: There = made
        return found

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        kwargs = dict(kwargs or {})
        if func is aten.copy_.default:
            return _copied(*args[:2])
        if func is aten._to_copy.default and torch.device(kwargs.get("device") or HERE).type == "cpu":
            return func(args[0].held, **kwargs)
        kwargs = {name: "cpu" if name == "device" else each for name, each in kwargs.items()}
        own = {id(each.held): each for each in args if isinstance(each, There)}
        inside = _numbers_of if func in _LENGTHS_ON_CPU else _inside
        found = _OWN.get(func, func)(*tree_map(inside, args), **tree_map(inside, kwargs))

        def outside(each: Any) -> Any:
            if not isinstance(each, Tensor) or (func in _LENGTHS_ON_CPU and each.dtype == torch.int64):
                return each
            return own[id(each)] if id(each) in own else There(each)

        return tree_map(outside, found)


_LENGTHS_ON_CPU = (
    aten._pack_padded_sequence.default,
    aten._pack_padded_sequence_backward.default,
    aten._pad_packed_sequence.default,
)
"""What takes and gives the lengths of a batch on the CPU, wherever the batch is."""


def _numbers_of(each: Any) -> Any:
    return each.held if isinstance(each, There) else each


def _inside(each: Any) -> Any:
    if isinstance(each, Tensor) and not isinstance(each, There) and each.dim():
        raise RuntimeError(f"a tensor {tuple(each.shape)} is on the CPU, and others are on {HERE}")
    return _numbers_of(each)


def _copied(into: Tensor, from_: Tensor) -> Tensor:
    """A copy may cross over."""
    one, other = (each.held if isinstance(each, There) else each for each in (into, from_))
    one.copy_(other)
    return into


def _fused_lstm_cell(gates_x: Tensor, gates_h: Tensor, c: Tensor, b_ih: Any = None, b_hh: Any = None) -> Any:
    """The kernel of one step, which each maker of a device brings."""
    biases = 0 if b_ih is None else b_ih + b_hh
    i, f, g, o = (gates_x + gates_h + biases).chunk(4, 1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    c = f * c + i * g
    return o * c.tanh(), c, torch.cat([i, f, g, o], 1)


def _fused_lstm_cell_backward(grad_h: Any, grad_c: Any, c: Tensor, c_new: Tensor, kept: Tensor, bias: bool) -> Any:
    i, f, g, o = kept.chunk(4, 1)
    grad_h = torch.zeros_like(c) if grad_h is None else grad_h
    of_c = grad_h * o * (1 - c_new.tanh() ** 2) + (0 if grad_c is None else grad_c)
    of_gates = torch.cat(
        [of_c * g * i * (1 - i), of_c * c * f * (1 - f), of_c * i * (1 - g * g), grad_h * c_new.tanh() * o * (1 - o)], 1
    )
    return of_gates, of_c * f, of_gates.sum(0) if bias else torch.zeros(0)


def _fused_gru_cell(gates_x: Tensor, gates_h: Tensor, h: Tensor, b_ih: Any = None, b_hh: Any = None) -> Any:
    if b_ih is not None:
        gates_x, gates_h = gates_x + b_ih, gates_h + b_hh
    (r_x, z_x, n_x), (r_h, z_h, n_h) = gates_x.chunk(3, 1), gates_h.chunk(3, 1)
    r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
    n = (n_x + r * n_h).tanh()
    return n + z * (h - n), torch.cat([r, z, n, h, n_h], 1)


def _fused_gru_cell_backward(grad_h: Tensor, kept: Tensor, bias: bool) -> Any:
    r, z, n, h, n_h = kept.chunk(5, 1)
    of_z, of_n = grad_h * (h - n) * z * (1 - z), grad_h * (1 - z) * (1 - n * n)
    of_r = of_n * n_h * r * (1 - r)
    of_x, of_h = torch.cat([of_r, of_z, of_n], 1), torch.cat([of_r, of_z, of_n * r], 1)
    none = torch.zeros(0)
    return of_x, of_h, grad_h * z, of_x.sum(0) if bias else none, of_h.sum(0) if bias else none


_OWN = {
    aten._thnn_fused_lstm_cell.default: _fused_lstm_cell,
    aten._thnn_fused_lstm_cell_backward_impl.default: _fused_lstm_cell_backward,
    aten._thnn_fused_gru_cell.default: _fused_gru_cell,
    aten._thnn_fused_gru_cell_backward.default: _fused_gru_cell_backward,
}

_setup_privateuseone_for_python_backend("npu")

LIBRARY: Any = torch.library.Library(  # type: ignore[no-untyped-call]
    "aten", "IMPL", "PrivateUse1"
)
LIBRARY.impl(
    "empty.memory_format",
    lambda size, *, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None: There(
        torch.empty(size, dtype=dtype, device="cpu")
    ),
)
LIBRARY.impl(
    "empty_strided",
    lambda size, stride, *, dtype=None, layout=None, device=None, pin_memory=None: There(
        torch.empty_strided(size, stride, dtype=dtype, device="cpu")
    ),
)

if __name__ == "__main__":
    from rnnscope.cli.shell import run

    sys.exit(run(sys.argv[1:]))
