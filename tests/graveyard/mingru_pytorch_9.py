"""lucidrains/minGRU-pytorch#9: the parallel form sends the initial state through g, the step-by-step form does not.

A sequence of more than one step is scanned in log space. There log g(h0) stood for log h0, so that even zeros were read
as 0.5. One step took h0 as it is. The report saw 1.3748 against 1.2011 for minGRU(4) over three steps, and asked by
torch.allclose without more (rtol 1e-5, atol 1e-8).
"""

from typing import Any

import torch
from graveyard.grave import Bug, Checked, Tensors
from torch import Tensor, nn
from torch.nn.functional import pad, softplus


def g(x: Tensor) -> Tensor:
    return torch.where(x >= 0, x + 0.5, x.sigmoid())


def log_g(x: Tensor) -> Tensor:
    return torch.where(x >= 0, (x.relu() + 0.5).log(), -softplus(-x))


def scan(log_coeffs: Tensor, log_values: Tensor) -> Tensor:
    """h_t = a_t·h_(t-1) + b_t for all steps at once, from the logarithms of a and b."""
    a = log_coeffs.cumsum(dim=1)
    return (a + (log_values - a).logcumsumexp(dim=1)).exp()


class MinGRU(nn.Module):
    batch_first = True

    def __init__(self, dim: int, faulty: bool) -> None:
        super().__init__()
        self.to_hidden_and_gate = nn.Linear(dim, dim * 2, bias=False)
        self.faulty = faulty

    def forward(self, x: Tensor, prev_hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        hidden, gate = self.to_hidden_and_gate(x).chunk(2, dim=-1)
        if x.shape[1] == 1:
            prev = torch.zeros_like(hidden) if prev_hidden is None else prev_hidden
            out = prev.lerp(g(hidden), gate.sigmoid())
        else:
            out = self.parallel(hidden, gate, prev_hidden)
        return out, out[:, -1:]

    def parallel(self, hidden: Tensor, gate: Tensor, prev_hidden: Tensor | None) -> Tensor:
        log_coeffs, log_values = -softplus(gate), -softplus(-gate) + log_g(hidden)
        if prev_hidden is not None:
            first = log_g(prev_hidden) if self.faulty else prev_hidden.log()
            log_values, log_coeffs = torch.cat((first, log_values), dim=1), pad(log_coeffs, (0, 0, 1, 0))
        return scan(log_coeffs, log_values)[:, -hidden.shape[1] :]


def make(faulty: bool) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    module = MinGRU(4, faulty)
    return module, torch.randn(1, 3, 4), torch.rand(1, 1, 4)


def by_hand(module: nn.Module, x: Tensor, state: Any) -> tuple[Tensors, Tensors]:
    y, _ = module(x, state)
    steps = []
    for t in range(x.shape[1]):
        step, state = module(x[:, t : t + 1], state)
        steps.append(step)
    return {"y": torch.cat(steps, dim=1)}, {"y": y}


BUG = Bug(
    report="lucidrains/minGRU-pytorch#9",
    told="the parallel form of a minGRU sends the state it is given through the activation of new hidden values",
    half=2,
    form=Checked(make, by_hand),
    named="stepwise",
    place={"tensor": "y", "step": 0},
    tolerance=(1e-5, 1e-8),
    missed={"named": "three steps leave chunks of one step alone, so that chunked breaks, and stepwise rests on it"},
)
