"""pytorch/pytorch#130791: a compiled LSTM keeps an axis of 1 in h and c, unless its batch has one item.

torch.compile decomposes each layer. The layer gives its state an axis for the step, and takes it away with squeeze(1).
That is the axis of items, which squeeze leaves alone unless N is 1. The fix takes away axis 0.
The sizes are those of the report: one step of 8 items, LSTM(640, 640, 2). It is about shapes and has no tolerance.
"""

from pathlib import Path
from typing import Any

import torch
from graveyard.grave import Bug, Model
from torch import Tensor, nn
from torch.nn.functional import linear

H_IN, H, LAYERS, L, N = 640, 640, 2, 1, 8


class Decomposed(nn.Module):
    def __init__(self, lstm: nn.LSTM, faulty: bool) -> None:
        super().__init__()
        self.lstm = lstm
        self.axis = 1 if faulty else 0

    def one_layer_lstm(self, inp: Tensor, hidden: tuple[Tensor, Tensor], layer: int) -> tuple[Tensor, Tensor, Tensor]:
        w_ih, w_hh, b_ih, b_hh = (
            getattr(self.lstm, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        hx, cx = (each.unsqueeze(0) for each in hidden)
        outputs = []
        for precomputed in torch.split(linear(inp, w_ih, b_ih), 1, 0):
            in_gate, forget_gate, cell_gate, out_gate = (linear(hx, w_hh, b_hh) + precomputed).chunk(4, 2)
            cx = forget_gate.sigmoid() * cx + in_gate.sigmoid() * cell_gate.tanh()
            hx = out_gate.sigmoid() * cx.tanh()
            outputs.append(hx)
        return torch.cat(outputs, 0), hx.squeeze(self.axis), cx.squeeze(self.axis)

    def forward(self, x: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h_n, c_n = [], []
        for layer in range(LAYERS):
            x, h, c = self.one_layer_lstm(x, (h0[layer], c0[layer]), layer)
            h_n.append(h)
            c_n.append(c)
        return x, torch.stack(h_n), torch.stack(c_n)


def write(faulty: bool, path: Path) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    lstm = nn.LSTM(H_IN, H, LAYERS).eval()
    x, h0, c0 = torch.randn(L, N, H_IN), torch.randn(LAYERS, N, H), torch.randn(LAYERS, N, H)
    torch.export.save(torch.export.export(Decomposed(lstm, faulty), (x, h0, c0)), path)
    return lstm, x, (h0, c0)


BUG = Bug(
    report="pytorch/pytorch#130791",
    told="the last states of a compiled LSTM have an axis too many wherever the batch has more than one item",
    half=2,
    form=Model(write, suffix=".pt2"),
    named="shape",
    place={"tensor": "h"},
)
