"""openvinotoolkit/openvino#34633: an LSTM in float16 adds up its products in float16, too coarse for long ones.

The accumulator has the type of the input, so that each product and each sum is rounded. The thread says that tests of
long sequences need float32 there. It has no figures and no tolerance. H and H_in are those of a test there, and L was
chosen here. The right twin adds up in float32 and rounds the sum once.
"""

from unittest.mock import patch

import pytest
import torch
from graveyard.grave import Bug, Sides, device
from torch import Tensor

from rnnscope import Spec
from rnnscope.network.weights import Input, Weights
from rnnscope.subjects.builtin import Run, run_equations


def in_input_type(x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
    total = x.new_zeros(x.shape[0], W.shape[0])
    for each, column in zip(x.unbind(1), W.unbind(1), strict=True):
        total = total + each[:, None] * column
    return total if b is None else total + b


def in_float32(x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    total = x.to(wide) @ W.to(wide).T
    return (total if b is None else total + b).to(x.dtype)


def machine(monkeypatch: pytest.MonkeyPatch, faulty: bool) -> None:
    affine = in_input_type if faulty else in_float32

    def kernel(spec: Spec, weights: Weights, given: Input) -> Run:
        with patch("rnnscope.network.equations.affine", affine):
            return run_equations(spec, weights, given)

    device("xpu", kernel)(monkeypatch, True)


SPEC = Spec(kind="lstm", input_size=256, hidden_size=128, num_layers=1, seq_len=100, batch_size=1, dtype="float16")

BUG = Bug(
    report="openvinotoolkit/openvino#34633",
    told="an LSTM in float16 adds up its products in float16, where a long sequence needs float32",
    half=2,
    form=Sides(SPEC, lambda faulty, folder: "module@xpu", machine=machine),
    named="precision",
    place={},
    missed={
        "found": "sixteen roundings of the greatest y are allowed, and sums of 256 products in float16 are off by nine"
    },
)
