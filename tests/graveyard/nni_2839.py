"""microsoft/nni#2839: the stacked cells of the ENAS controller take LSTMCell's (h, c) for (c, h).

State goes in and out under the same wrong names, so that each cell gets its own state back. But what is called h is the
cell state: it is the output, and the next layer is fed with it. The controller has 64 units, no biases, a batch of one,
and starts from zeros. The thread has no tolerance.
"""

from typing import Any

import torch
from graveyard.grave import Bug, Modules
from torch import Tensor, nn

LAYERS, SIZE, L, N = 2, 64, 8, 1

States = tuple[list[Tensor], list[Tensor]]


class StackedLSTMCell(nn.Module):
    """All layers of one step; its state is (c, h)."""

    def __init__(self, layers: int, size: int, bias: bool, faulty: bool) -> None:
        super().__init__()
        self.faulty = faulty
        self.lstm_modules = nn.ModuleList([nn.LSTMCell(size, size, bias=bias) for _ in range(layers)])

    def forward(self, inputs: Tensor, hidden: States) -> States:
        next_c, next_h = [], []
        for cell, prev_c, prev_h in zip(self.lstm_modules, *hidden, strict=True):
            if self.faulty:
                curr_c, curr_h = cell(inputs, (prev_c, prev_h))
            else:
                curr_h, curr_c = cell(inputs, (prev_h, prev_c))
            next_c.append(curr_c)
            next_h.append(curr_h)
            inputs = curr_h
        return next_c, next_h


class Controller(nn.Module):
    def __init__(self, lstm: nn.LSTM, faulty: bool) -> None:
        super().__init__()
        self.lstm = StackedLSTMCell(lstm.num_layers, lstm.hidden_size, lstm.bias, faulty)
        for layer, cell in enumerate(self.lstm.lstm_modules):
            cell.load_state_dict({name: getattr(lstm, f"{name}_l{layer}") for name in cell.state_dict()})

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        zeros = x.new_zeros(LAYERS, x.shape[1], SIZE)
        h, c = (list(each) for each in hx or (zeros, zeros))
        y = []
        for inputs in x:
            c, h = self.lstm(inputs, (c, h))
            y.append(h[-1])
        return torch.stack(y), (torch.stack(h), torch.stack(c))


def make(faulty: bool) -> tuple[nn.Module, nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    lstm = nn.LSTM(SIZE, SIZE, LAYERS, bias=False)
    return lstm, Controller(lstm, faulty), torch.randn(L, N, SIZE), None


BUG = Bug(
    report="microsoft/nni#2839",
    told="stacked cells take what nn.LSTMCell returns for (c, h), and give the cell state for y and to the next layer",
    half=1,
    form=Modules(make),
    named="function",
    place={"step": 0, "layer": 0},
)
