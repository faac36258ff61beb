"""apache/mxnet#17479: with MKL-DNN, layers above the first start from the state of the layer below them.

Layers of one size are one call. Where input and hidden size differ, the first layer is a call of its own, and the
pointer to hx is not moved on for the second call. All is wrong but the first layer's state; the fault fades along the
sequence. The sizes are the report's, and its states are random.
"""

from typing import Any

import torch
from graveyard.grave import Bug, Modules
from torch import Tensor, nn

LAYERS, I, H, L, N = 2, 5, 10, 3, 1  # noqa: E741 (as the operator's source has them)


class RNN(nn.Module):
    """The operator behind gluon.rnn.RNN, with gluon's names."""

    def __init__(self, rnn: nn.RNN, faulty: bool) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers = rnn.input_size, rnn.hidden_size, rnn.num_layers
        self.faulty = faulty
        for layer in range(rnn.num_layers):
            for what in ("weight", "bias"):
                for gluon, torchs in (("i2h", "ih"), ("h2h", "hh")):
                    each = getattr(rnn, f"{what}_{torchs}_l{layer}").detach().clone()
                    self.register_parameter(f"l{layer}_{gluon}_{what}", nn.Parameter(each))

    def fused(self, layers: range, x: Tensor, hx: Tensor) -> tuple[Tensor, Tensor]:
        """One call of MKL-DNN: it reads as many states behind hx as it has layers, and one sum of both biases."""
        hy = []
        for layer, h in zip(layers, hx, strict=False):
            w_x, w_h, b_x, b_h = (
                getattr(self, f"l{layer}_{each}") for each in ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")
            )
            y = []
            for each in x @ w_x.T:
                h = (each + h @ w_h.T + (b_x + b_h)).tanh()
                y.append(h)
            x = torch.stack(y)
            hy.append(h)
        return x, torch.stack(hy)

    def forward(self, x: Tensor, hx: Tensor) -> tuple[Tensor, Tensor]:
        if self.input_size == self.hidden_size or self.num_layers == 1:
            return self.fused(range(self.num_layers), x, hx)
        x, first = self.fused(range(1), x, hx)
        y, others = self.fused(range(1, self.num_layers), x, hx if self.faulty else hx[1:])
        return y, torch.cat((first, others))


def make(faulty: bool) -> tuple[nn.Module, nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    rnn = nn.RNN(I, H, LAYERS)
    return rnn, RNN(rnn, faulty), torch.rand(L, N, I), torch.rand(LAYERS, N, H)


BUG = Bug(
    report="apache/mxnet#17479",
    told="the layers above the first start from the initial state of the layer below",
    half=1,
    form=Modules(make),
    named="function",
    place={"step": 0, "layer": 1},
)
