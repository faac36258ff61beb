"""PaddlePaddle/Paddle#15605: an LSTM with a projection squashes what it has projected, since tanh was the default.

torch, TensorFlow and the paper have r = W·h; here it was r = tanh(W·h) unless one asked for no activation. The pull
request makes "identity" the default. As r is small in a network that is not trained, tanh hardly moves it: y is off by
the third power of r. The sizes are those of the layer's own example; the thread has no figures and no tolerance.
"""

from typing import Any

import torch
from graveyard.grave import Bug, Modules
from torch import Tensor, nn

EMB_DIM, HIDDEN_DIM, PROJ_DIM, B, T = 64, 512, 256, 3, 12


class DynamicLSTMP(nn.Module):
    """x goes through a fully connected layer first; weight: (PROJ_DIM, 4·HIDDEN_DIM) and bias are of what recurs."""

    def __init__(self, lstm: Any, proj_activation: str) -> None:
        super().__init__()
        self.act = {"tanh": nn.Tanh, "identity": nn.Identity}[proj_activation]()
        self.fc = nn.Linear(EMB_DIM, 4 * HIDDEN_DIM)
        self.fc.weight.data = lstm.weight_ih_l0.detach().clone()
        self.fc.bias.data = lstm.bias_ih_l0.detach().clone()
        self.weight = nn.Parameter(lstm.weight_hh_l0.detach().T.contiguous())
        self.bias = nn.Parameter(lstm.bias_hh_l0.detach().clone())
        self.proj_weight = nn.Parameter(lstm.weight_hr_l0.detach().T.contiguous())

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        (r,), (c,) = hx
        projection = []
        for gates in self.fc(x):
            i, f, g, o = (gates + r @ self.weight + self.bias).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            r = self.act((o.sigmoid() * c.tanh()) @ self.proj_weight)
            projection.append(r)
        return torch.stack(projection), (r[None], c[None])


def make(faulty: bool) -> tuple[nn.Module, nn.Module, Tensor, Any]:
    torch.manual_seed(15605)
    lstm = nn.LSTM(EMB_DIM, HIDDEN_DIM, proj_size=PROJ_DIM)
    hx = torch.zeros(1, B, PROJ_DIM), torch.zeros(1, B, HIDDEN_DIM)
    return lstm, DynamicLSTMP(lstm, "tanh" if faulty else "identity"), torch.randn(T, B, EMB_DIM), hx


BUG = Bug(
    report="PaddlePaddle/Paddle#15605",
    told="an LSTM with a projection applies tanh to what it has projected",
    half=2,
    form=Modules(make),
    named="function",
    place={"step": 0, "layer": 0},
)
