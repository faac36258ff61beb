"""apache/tvm#3410: the importer of TensorFlow's LSTMBlockCell adds the forget bias behind the sigmoid.

TensorFlow has f = sigmoid(a + forget_bias), and the importer sigmoid(a) + forget_bias. Its tests had a forget bias of 0
and saw nothing; the repair tests 0.5. From a cell state of zeros the first step is right. Sizes and weights are those
of a small model of the Penn Treebank, as the tests have one. The thread has no tolerance.
"""

from typing import Any

import torch
from graveyard.grave import Bug, Modules
from torch import Tensor, nn

H, L, N = 200, 20, 1
FORGET_BIAS = 0.5


class LSTMBlockCell(nn.Module):
    """One kernel for [x, h], whose columns are the gates i, ci, f and o."""

    def __init__(self, lstm: Any, faulty: bool) -> None:
        super().__init__()
        self.hidden_size, self.faulty = lstm.hidden_size, faulty
        i, f, g, o = torch.cat((lstm.weight_ih_l0, lstm.weight_hh_l0), 1).detach().chunk(4)
        self.kernel = nn.Parameter(torch.cat((i, g, f, o)).T.contiguous())
        i, f, g, o = lstm.bias_ih_l0.detach().chunk(4)
        self.bias = nn.Parameter(torch.cat((i, g, f, o)))

    def step(self, x: Tensor, c: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        gates = torch.cat((x, h), 1) @ self.kernel + self.bias
        i, ci, f, o = gates.chunk(4, 1)
        f = f.sigmoid() + FORGET_BIAS if self.faulty else (f + FORGET_BIAS).sigmoid()
        c = f * c + i.sigmoid() * ci.tanh()
        return c, o.sigmoid() * c.tanh()

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        zeros = x.new_zeros(1, x.shape[1], self.hidden_size)
        (h,), (c,) = hx or (zeros, zeros)
        y = []
        for each in x:
            c, h = self.step(each, c, h)
            y.append(h)
        return torch.stack(y), (h[None], c[None])


def make(faulty: bool) -> tuple[nn.Module, nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    lstm: Any = nn.LSTM(H, H)
    with torch.no_grad():
        for each in lstm.parameters():
            each.uniform_(-0.1, 0.1)
        lstm.bias_hh_l0.zero_()  # TensorFlow has one bias; torch's other one takes the forget bias
        lstm.bias_hh_l0[H : 2 * H] = FORGET_BIAS
    return lstm, LSTMBlockCell(lstm, faulty), torch.empty(L, N, H).uniform_(-0.1, 0.1), None


BUG = Bug(
    report="apache/tvm#3410",
    told="an imported LSTM adds its forget bias to the forget gate, and not to the sum before the sigmoid",
    half=1,
    form=Modules(make),
    named="function",
    place={"step": 1, "gate": "f"},
)
