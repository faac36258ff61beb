"""Devices that this machine does not have, and the faults that people reported of such devices.

A stand-in has the name of a device, and computes on the CPU: `Tensor.to` takes the name for the CPU, and what torch is
asked of its accelerators answers for that device. So all that rnnscope decides by the name is decided, and the numbers
are torch's. Only torch's module has the fault, as on those devices: there it is one kernel of the maker's, and cells
and equations are made of smaller ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rnnscope import Spec
from rnnscope.network.weights import Input, Weights
from rnnscope.subjects import builtin, devices
from rnnscope.subjects.builtin import Run, run_equations, run_module

DEVICES = ("mps", "xpu")
"""MPS has no float64, and XPU has it here."""


def stand_in(monkeypatch: pytest.MonkeyPatch, kind: str, float64: str = "") -> None:
    """Let this machine have one device of a type.

    Args:
        float64: "" where it computes in float64; "refused" where it makes no such tensor; "rounded" where it makes them
            in float32 without a word.
    """
    real: Callable[..., Tensor] = Tensor.to

    def is_meant(word: object) -> bool:
        return isinstance(word, (str, torch.device)) and torch.device(word).type == kind

    def to(tensor: Tensor, *args: Any, **named: Any) -> Tensor:
        on_cpu = ["cpu" if is_meant(each) else each for each in args]
        moved = real(tensor, *on_cpu, **{name: "cpu" if is_meant(each) else each for name, each in named.items()})
        if not any(map(is_meant, (*args, *named.values()))):
            return moved
        if moved.dtype == torch.float64 and float64 == "refused":
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )
        return moved.float().double() if moved.dtype == torch.float64 and float64 == "rounded" else moved

    monkeypatch.setattr(Tensor, "to", to)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda _: None)
    monkeypatch.setattr(getattr(torch, kind), "device_count", lambda: 1)
    devices.has_float64.cache_clear()  # what another stand-in of this name said


def with_fault(monkeypatch: pytest.MonkeyPatch, kind: str, name: str) -> None:
    """Let this machine have a device on which torch's module has a fault."""
    stand_in(monkeypatch, kind, "refused" if kind == "mps" else "")
    fault = FAULTS[name]
    _SEEN.clear()

    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        is_there = spec.device.partition(":")[0] == kind
        return (fault.run if is_there and fault.acts(spec) else run_module)(spec, weights, given)

    monkeypatch.setitem(builtin.SUBJECTS, "module", run)


def _items_read_again(spec: Spec, weights: Weights, given: Input) -> Run:
    """The items behind the first 110 are given the x of the first ones again."""
    items = torch.arange(spec.batch_size) % MOST_ITEMS
    return run_module(spec, weights, Input(given.x.index_select(0 if spec.batch_first else 1, items), given.state))


def _without_a_bias(spec: Spec, weights: Weights, given: Input) -> Run:
    """The kernel that adds a bias does not run."""
    rest = {name: torch.zeros_like(each) if name.startswith("bias_ih") else each for name, each in weights.items()}
    return run_module(spec, rest, given)


class _ReadInOrder(torch.autograd.Function):
    """A gradient of (N, L, H_in) that is taken for one of (L, N, H_in)."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_: Any, *cotangents: Tensor) -> Tensor:
        return cotangents[0].transpose(0, 1).reshape(cotangents[0].shape)


def _gradient_in_another_order(spec: Spec, weights: Weights, given: Input) -> Run:
    """x of batch_first is no longer contiguous once it is transposed, and its gradient is read as if it were."""
    x: Tensor = _ReadInOrder.apply(given.x)  # type: ignore[no-untyped-call]
    return run_module(spec, weights, Input(x, given.state))


def _dropping(spec: Spec, weights: Weights, given: Input) -> Run:
    """Dropout acts between layers, though nothing is trained."""
    return run_equations(replace(spec, train=True), weights, given)


def _nothing_but_nan(spec: Spec, weights: Weights, given: Input) -> Run:
    run = run_module(spec, weights, given)
    return replace(run, y=run.y * torch.nan, state=tuple(each * torch.nan for each in run.state))


def _as_if_padded(spec: Spec, weights: Weights, given: Input) -> Run:
    """The lengths are not looked at: what walks backward begins in the padding."""
    run = run_module(replace(spec, lengths=None), weights, given)
    return replace(run, y=run.y * builtin.valid_region(spec, run.y))


def _first_state_alone(spec: Spec, weights: Weights, given: Input) -> Run:
    """The layers above the first begin with zeros."""
    first = torch.arange(spec.num_layers * spec.directions) < spec.directions
    state = tuple(each * first.view(-1, *[1] * (each.dim() - 1)) for each in given.state)
    return run_module(spec, weights, Input(given.x, state))


def _in_float32(spec: Spec, weights: Weights, given: Input) -> Run:
    """A kernel that has float32 alone, and says nothing."""
    coarse = {name: each.float() for name, each in weights.items()}
    run = run_module(
        replace(spec, dtype="float32"), coarse, Input(given.x.float(), tuple(each.float() for each in given.state))
    )
    return replace(run, y=run.y.double(), state=tuple(each.double() for each in run.state))


_SEEN = set[tuple[object, ...]]()
"""The shapes for which a device has made its kernel."""


def _is_first_of_its_shape(spec: Spec) -> bool:
    shape = (spec.seq_len, spec.batch_size, spec.input_size, spec.hidden_size, spec.num_layers, spec.dtype)
    is_new = shape not in _SEEN
    _SEEN.add(shape)
    return is_new


@dataclass(frozen=True)
class Fault:
    """A fault of torch's module on a device: where it acts, and what is computed there.

    Args:
        flags: a Spec in which it acts.
        smallest: the flags of the smallest Spec in which it acts, besides sizes of 1.
        place: where it is first seen: layer and item.
        cause: what a comparison calls it.
        grad: whether it is in the gradients.
        named: the deviation that it is, where it is one.
    """

    acts: Callable[[Spec], bool]
    run: builtin.Subject
    flags: dict[str, Any]
    smallest: dict[str, Any]
    place: tuple[int, int] | None = (0, 0)
    cause: str = "function"
    grad: bool = False
    named: str | None = None


MOST_ITEMS, MOST_ROWS, MOST_UNITS = 110, 65_536, 256

ONES: dict[str, Any] = {"input_size": 1, "hidden_size": 1, "num_layers": 1, "seq_len": 1, "batch_size": 1}

FAULTS = {
    # pytorch/pytorch#177834: with batch sizes up to 100 nn.LSTM is right on ROCm, and it is wrong from 110 on.
    "a large batch": Fault(
        lambda spec: spec.batch_size > MOST_ITEMS, _items_read_again, {"batch_size": 120}, {"batch_size": 111}, (0, 110)
    ),
    # ROCm/rocm-libraries#10551 and pytorch/pytorch#195738: where batch * seq_len is over the largest grid, the kernel
    # that adds the bias never runs, and nobody is told.
    "a large product": Fault(
        lambda spec: spec.bias and spec.batch_size * spec.seq_len > MOST_ROWS,
        _without_a_bias,
        {"seq_len": 3, "batch_size": 21_846, "hidden_size": 2, "input_size": 2},
        {"batch_size": 65_537},
        (1, 0),
        named="b_ih dropped",
    ),
    # pytorch/pytorch#175189: on MPS the gradient of x is wrong in LSTM where x is not contiguous; weights are right.
    "a gradient of what is not contiguous": Fault(
        lambda spec: spec.batch_first and torch.is_grad_enabled(),
        _gradient_in_another_order,
        {"batch_first": True},
        {"batch_first": True, "seq_len": 2, "batch_size": 2},
        None,
        grad=True,
    ),
    # pytorch/pytorch#190057: on MPS dropout=1.0 in training multiplies 0 by infinity.
    "a dropout of 1": Fault(
        lambda spec: spec.train and spec.dropout == 1 and spec.num_layers > 1,
        _nothing_but_nan,
        {"train": True, "dropout": 1.0},
        {"train": True, "dropout": 1.0, "num_layers": 2},
        cause="nonfinite",
    ),
    # pytorch/pytorch#180744: on MPS a graph that was made for training is used again for evaluation, dropout and all.
    "dropout in evaluation": Fault(
        lambda spec: spec.dropout > 0 and not spec.train and spec.num_layers > 1,
        _dropping,
        {"dropout": 0.5},
        {"dropout": 0.5, "num_layers": 2},
        (1, 0),
    ),
    # pytorch/pytorch#95118 and #94754: on MPS nn.LSTM was wrong on packed sequences, and with both directions.
    "both directions of a packed batch": Fault(
        lambda spec: spec.bidirectional and spec.lengths is not None,
        _as_if_padded,
        {"bidirectional": True, "lengths": (4, 2, 1)},
        {"bidirectional": True, "lengths": (2, 1), "seq_len": 2, "batch_size": 2},
        (0, 1),
        named="lengths ignored but in y",
    ),
    # pytorch/pytorch#94691: nn.GRU gave NaN on MPS. From which size on is not said there.
    "many units": Fault(
        lambda spec: spec.hidden_size >= MOST_UNITS,
        _nothing_but_nan,
        {"hidden_size": 257},
        {"hidden_size": 256},
        cause="nonfinite",
    ),
    # pytorch/pytorch#95137: on MPS one layer was right, and two were not.
    "the state of the second layer": Fault(
        lambda spec: spec.num_layers > 1 and spec.h0 == "random",
        _first_state_alone,
        {},
        {"num_layers": 2},
        (1, 0),
        named="h0 for the first layer alone",
    ),
    # tensorflow/tensorflow#29374 is of a product that is wrong on its first run alone.
    "the first call": Fault(_is_first_of_its_shape, _without_a_bias, {}, {}, named="b_ih dropped"),
}
