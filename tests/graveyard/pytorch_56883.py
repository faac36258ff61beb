"""pytorch/pytorch#56883: the trace of an LSTM that keeps its own state starts every call from the state at tracing.

The state is an attribute, which forward reads and writes anew, for use in real time. Tracing takes what it reads for a
constant: zeros. So the first chunk is right, and each later one begins anew, which wears off with its steps.
The report's module is nn.LSTM(1, 100), with 10 steps of one item; its tracer compared with rtol=1e-05 and atol=1e-05.
"""

from pathlib import Path
from typing import Any

import torch
from graveyard.grave import Bug, Model
from torch import Tensor, nn

H_IN, H, L, N = 1, 100, 10, 1


class Streaming(nn.Module):
    """What is left of forward in the trace; the mended module takes its state, and gives it back."""

    def __init__(self, lstm: nn.LSTM, faulty: bool) -> None:
        super().__init__()
        self.lstm = lstm
        self.faulty = faulty
        self.register_buffer("hidden_cell", torch.zeros(2, 1, N, H))

    def forward(self, input_seq: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, c = (each[0] for each in (self.get_buffer("hidden_cell") if self.faulty else (h0, c0)))
        outputs = []
        for each in input_seq:
            h, c = torch.lstm_cell(each, (h, c), *self.lstm.parameters())
            outputs.append(h)
        return torch.stack(outputs), h[None], c[None]


def write(faulty: bool, path: Path) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    lstm = nn.LSTM(H_IN, H).eval()
    first_chunk, chunk = torch.rand(2, L, N, H_IN)
    with torch.no_grad():
        _, (h, c) = lstm(first_chunk)
    program = torch.export.export(Streaming(lstm, faulty), (chunk, h, c))
    torch.export.save(program, path)
    return lstm, chunk, (h, c)


BUG = Bug(
    report="pytorch/pytorch#56883",
    told="the trace of a streaming LSTM has the state at tracing for a constant, and begins anew with each chunk",
    half=2,
    form=Model(write, suffix=".pt2"),
    named="h0-and-c0-ignored",
    place={"step": 0, "layer": 0},
    tolerance=(1e-5, 1e-5),
)
