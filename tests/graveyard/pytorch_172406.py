"""pytorch/pytorch#172406: tanh gives NaN on MPS above 44, which the cell state of a trained LSTM reaches at step 100.

Metal's fast tanh divides (exp(2x) - 1) by (exp(2x) + 1), and exp(2x) overflows in float32 from x = 44.4 on. In the
report's decoder a forget gate of 0.9999 let one unit of c grow with every step, until h was NaN after 101 steps. The
repair takes Metal's precise tanh. The thread has no tolerance. Weights are made here, so that step 100 is the first.
"""

from collections.abc import Callable
from unittest.mock import patch

import pytest
import torch
from graveyard.grave import Bug, Sides, device
from torch import Tensor

from rnnscope import Spec
from rnnscope.network.weights import Input, Weights, draw_weights
from rnnscope.subjects.builtin import Run, run_equations

H, COUNTER = 64, 5
"""The unit of the first layer that counts steps."""

GATES = {"i": 0.0, "f": 9.21, "g": 1.4, "o": 0.0}
"""σ(9.21) = 0.9999, and σ(0)·tanh(1.4) = 0.443 is what it adds at each step."""


def fast_tanh(x: Tensor) -> Tensor:
    e = torch.exp(2 * x)
    return (e - 1) / (e + 1)


def precise_tanh(x: Tensor) -> Tensor:
    e = torch.expm1(-2 * x.abs())
    return -e / (e + 2) * x.sign()


def trained(spec: Spec) -> Weights:
    """The weights of the seed, but for one unit that counts, and hardly looks at x."""
    weights = draw_weights(spec)
    for number, bias in enumerate(GATES.values()):
        row = number * spec.hidden_size + COUNTER
        weights["weight_ih_l0"][row] *= 0.05
        weights["weight_hh_l0"][row] *= 0.05
        weights["bias_ih_l0"][row] = bias
        weights["bias_hh_l0"][row] = 0
    return weights


def machine(monkeypatch: pytest.MonkeyPatch, faulty: bool) -> None:
    tanh: Callable[[Tensor], Tensor] = fast_tanh if faulty else precise_tanh

    def kernel(spec: Spec, weights: Weights, given: Input) -> Run:
        with patch.object(torch, "tanh", tanh):
            return run_equations(spec, weights, given)

    device("mps", kernel, "refused")(monkeypatch, True)
    monkeypatch.setattr("rnnscope.verdict.problem.draw_weights", trained)


SPEC = Spec(kind="lstm", input_size=32, hidden_size=H, num_layers=2, seq_len=110, batch_size=3, h0="zeros")

BUG = Bug(
    report="pytorch/pytorch#172406",
    told="tanh gives NaN on MPS from 44.4 on, which a growing cell state reaches after some 100 steps",
    half=2,
    form=Sides(SPEC, lambda faulty, folder: "module@mps", machine=machine),
    named="nonfinite",
    place={"step": 100, "layer": 0, "unit": COUNTER},
)
