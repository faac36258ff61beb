"""jax-ml/jax#17653: an LSTM that is asked for float32 runs in TF32, so that its test fails now and then.

cuDNN was never told the precision that the caller had chosen. TF32 keeps 10 of the 23 bits behind the point of what is
multiplied, and adds up in float32. The thread has no figures. The tolerance is that of the test which it mends, and the
sizes are the largest of that test.
"""

from unittest.mock import patch

import pytest
import torch
from graveyard.grave import Bug, Sides, device
from torch import Tensor

from rnnscope import Spec
from rnnscope.network.weights import Input, Weights
from rnnscope.subjects.builtin import Run, run_equations


def tf32(each: Tensor) -> Tensor:
    """The nearest number of TF32; other dtypes are left as they are."""
    if each.dtype != torch.float32:
        return each
    return ((each.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def affine_in_tf32(x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
    return affine_in_float32(tf32(x), tf32(W), b)


def affine_in_float32(x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
    return torch.nn.functional.linear(x, W, b)


def machine(monkeypatch: pytest.MonkeyPatch, faulty: bool) -> None:
    affine = affine_in_tf32 if faulty else affine_in_float32

    def kernel(spec: Spec, weights: Weights, given: Input) -> Run:
        with patch("rnnscope.network.equations.affine", affine):
            return run_equations(spec, weights, given)

    device("xpu", kernel)(monkeypatch, True)


SPEC = Spec(kind="lstm", input_size=2, hidden_size=6, num_layers=4, bidirectional=True, seq_len=4, batch_size=4)

BUG = Bug(
    report="jax-ml/jax#17653",
    told="an LSTM runs in TF32 although float32 was asked for",
    half=2,
    form=Sides(SPEC, lambda faulty, folder: "module@xpu", machine=machine),
    named="precision",
    place={},
    tolerance=(1e-5, 1e-5),
)
