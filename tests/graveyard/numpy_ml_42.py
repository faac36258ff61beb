"""ddbourgin/numpy-ml#42: an LSTM cell adds the bias of its output gate to its forget and update gates, too.

A line was copied, and its bias was not changed with its weight. The weights are right, so that biases of zeros, as at
the start of training, hide it. The report shows the four lines, without figures and without a tolerance.
"""

from typing import Any

import torch
from graveyard.grave import Bug, Modules
from torch import Tensor, nn

N_T, N_EX, N_IN, N_OUT = 10, 5, 8, 12


class LSTM(nn.Module):
    """One matrix for each gate, over the last activation and x: W: (N_OUT + N_IN, N_OUT), b: (N_OUT,)."""

    def __init__(self, lstm: Any, faulty: bool) -> None:
        super().__init__()
        self.faulty = faulty
        joined = torch.cat((lstm.weight_hh_l0, lstm.weight_ih_l0), 1).T
        self.Wu, self.Wf, self.Wc, self.Wo = (nn.Parameter(each.clone()) for each in joined.detach().chunk(4, 1))
        self.bu, self.bf, self.bc, self.bo = (nn.Parameter(each.clone()) for each in lstm.bias_ih_l0.detach().chunk(4))

    def step(self, Xt: Tensor, At: Tensor, Ct: Tensor) -> tuple[Tensor, Tensor]:
        Zt = torch.cat((At, Xt), 1)
        _Go = Zt @ self.Wo + self.bo
        _Gf = Zt @ self.Wf + (self.bo if self.faulty else self.bf)
        _Gu = Zt @ self.Wu + (self.bo if self.faulty else self.bu)
        _Gc = Zt @ self.Wc + self.bc
        Ct = _Gf.sigmoid() * Ct + _Gu.sigmoid() * _Gc.tanh()
        return _Go.sigmoid() * Ct.tanh(), Ct

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        (At,), (Ct,) = hx
        y = []
        for Xt in x:
            At, Ct = self.step(Xt, At, Ct)
            y.append(At)
        return torch.stack(y), (At[None], Ct[None])


def make(faulty: bool) -> tuple[nn.Module, nn.Module, Tensor, Any]:
    torch.manual_seed(42)
    lstm: Any = nn.LSTM(N_IN, N_OUT)
    nn.init.zeros_(lstm.bias_hh_l0)  # the cell has one bias for each gate
    hx = torch.randn(1, N_EX, N_OUT), torch.randn(1, N_EX, N_OUT)
    return lstm, LSTM(lstm, faulty), torch.randn(N_T, N_EX, N_IN), hx


BUG = Bug(
    report="ddbourgin/numpy-ml#42",
    told="the forget and the update gate of an LSTM take the bias of the output gate",
    half=1,
    form=Modules(make),
    named="function",
    place={"step": 0, "layer": 0},
)
