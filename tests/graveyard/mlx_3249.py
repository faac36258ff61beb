"""ml-explore/mlx#3249: nn.GRU without a hidden state leaves b_hn out of its first step.

The loop skips all that comes from h while there is none, and with it the bias of the new gate, which does not depend on
h. So a call without a state is no call from zeros. The report shows it on a GRU(4, 3) at (1, 3, 4), with x around 0.1;
what its first step misses fades at the later ones. No tolerance of the thread is known.
"""

from typing import Any

import torch
from graveyard.grave import Bug, Checked, Tensors
from torch import Tensor, nn

D, H, N, L = 4, 3, 1, 3


class GRU(nn.Module):
    """A GRU over (..., L, D) that gives all hidden states; hidden: (..., H), or None."""

    def __init__(self, input_size: int, hidden_size: int, faulty: bool) -> None:
        super().__init__()
        scale = hidden_size**-0.5

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape).uniform_(-scale, scale))

        self.hidden_size, self.faulty, self.batch_first = hidden_size, faulty, True
        self.Wx, self.Wh = uniform(3 * hidden_size, input_size), uniform(3 * hidden_size, hidden_size)
        self.b, self.bhn = uniform(3 * hidden_size), uniform(hidden_size)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        x = x @ self.Wx.T + self.b
        sizes = [2 * self.hidden_size, self.hidden_size]
        x_rz, x_n = torch.split(x, sizes, -1)
        all_hidden = []
        for step in range(x.shape[-2]):
            rz, n = x_rz[..., step, :], x_n[..., step, :]
            if hidden is not None:
                h_rz, h_n = torch.split(hidden @ self.Wh.T, sizes, -1)
                r, z = (rz + h_rz).sigmoid().chunk(2, -1)
                n = (n + r * (h_n + self.bhn)).tanh()
                hidden = (1 - z) * n + z * hidden
            else:
                r, z = rz.sigmoid().chunk(2, -1)
                n = (n if self.faulty else n + r * self.bhn).tanh()
                hidden = (1 - z) * n
            all_hidden.append(hidden)
        return torch.stack(all_hidden, -2)


def make(faulty: bool) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(42)
    return GRU(D, H, faulty), 0.1 * torch.randn(N, L, D), None


def by_hand(module: nn.Module, x: Tensor, state: Any) -> tuple[Tensors, Tensors]:
    return {"y": module(x, x.new_zeros(len(x), H))}, {"y": module(x)}


BUG = Bug(
    report="ml-explore/mlx#3249",
    told="a GRU that is called without a hidden state leaves b_hn out of its first step",
    half=1,
    form=Checked(make, by_hand, {"batch_first": True}),
    named="zero_state",
    place={"tensor": "y", "step": 0},
)
