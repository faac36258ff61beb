"""apache/mxnet#17818: with two layers, a gradient of the upper h2h bias is zeros on the CPU with MKL-DNN.

MKL-DNN has one bias for a layer, and its gradient is copied to both of MXNet's. Each layer's place was counted in
MKL-DNN's sizes, which are half of MXNet's. So layer 1 is written where the second half of layer 0 stands, layer 0 then
writes over it, and the end of the buffer stays as it was. The report saw zeros there, and other numbers on a GPU;
it names no tolerance. The mend is apache/mxnet#17872.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from graveyard.grave import Bug, Sides, device
from torch import Tensor

from rnnscope import Spec
from rnnscope.network.weights import Input, Weights
from rnnscope.subjects.builtin import Run, run_equations


class FusedBiases(torch.autograd.Function):
    """The biases i2h, h2h of layer 0, of layer 1, and so on, whose gradients are written into one buffer."""

    @staticmethod
    def forward(context: Any, faulty: bool, *biases: Tensor) -> tuple[Tensor, ...]:
        context.faulty = faulty
        return tuple(each.clone() for each in biases)

    @staticmethod
    def backward(context: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        fused = cotangents[::2]  # that of h2h is the same
        size = len(fused[0])
        buffer = fused[0].new_zeros(len(cotangents) * size)
        for layer in reversed(range(len(fused))):
            start = layer * size if context.faulty else layer * 2 * size
            buffer[start : start + 2 * size] = fused[layer].repeat(2)
        return None, *buffer.view(-1, size)


def lstm(faulty: bool, spec: Spec, weights: Weights, given: Input) -> Run:
    leaves = {name: each.detach().clone().requires_grad_(torch.is_grad_enabled()) for name, each in weights.items()}
    names = [f"bias_{part}_l{layer}" for layer in range(spec.num_layers) for part in ("ih", "hh")]
    if not spec.bias or spec.bidirectional:
        return run_equations(spec, weights, given)
    written: tuple[Tensor, ...] = FusedBiases.apply(faulty, *map(leaves.__getitem__, names))  # type: ignore[no-untyped-call]
    run = run_equations(spec, leaves | dict(zip(names, written, strict=True)), given)
    return replace(run, parameters=leaves)


def machine(patch: pytest.MonkeyPatch, faulty: bool) -> None:
    device("xpu", lambda *asked: lstm(faulty, *asked))(patch, True)


BUG = Bug(
    report="apache/mxnet#17818",
    told="the gradient of the second bias of the top layer is zeros, as the place of a layer's bias is counted wrongly",
    half=1,
    form=Sides(
        Spec(kind="lstm", num_layers=2), lambda faulty, folder: "module@xpu", machine=machine, more={"grad": True}
    ),
    named="function",
    place={"name": "bias_hh_l1", "kind": "missing"},
)
