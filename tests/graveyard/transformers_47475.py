"""huggingface/transformers#47475: Zamba2's mixer sums the decay between chunks over the wrong axis, and looks ahead.

The state that enters a chunk is a sum over the chunks before it, each with its decay. The sum went over the chunks
that receive it. So each chunk saw the one before alone, scaled by decays of its own steps and of later ones. The report
has 512 steps in chunks of 256, and changed step 400: outputs before it moved. The first chunk is right. Its figures and
a tolerance could not be read; nothing before the change may move.
"""

import math
from typing import Any

import torch
from graveyard.grave import Bug, Checked, Tensors
from torch import Tensor, nn
from torch.nn.functional import pad, silu, softplus

HIDDEN, HEADS, HEAD, STATES, CHUNK, L, CHANGED = 16, 4, 8, 8, 256, 512, 400


def segment_sum(x: Tensor) -> Tensor:
    """Sums of x over the steps after s up to t, at [..., t, s]; -inf where s is behind t."""
    square = torch.ones(x.shape[-1], x.shape[-1], dtype=torch.bool)
    sums = x[..., None].expand(*x.shape, x.shape[-1]).masked_fill(~square.tril(-1), 0).cumsum(-2)
    return sums.masked_fill(~square.tril(), -math.inf)


class Mamba2Mixer(nn.Module):
    batch_first = True

    def __init__(self, faulty: bool) -> None:
        super().__init__()
        self.inner, self.mixed = HEADS * HEAD, HEADS * HEAD + 2 * STATES
        self.in_proj = nn.Linear(HIDDEN, self.inner + self.mixed + HEADS, bias=False)
        self.conv1d = nn.Conv1d(self.mixed, self.mixed, 4, groups=self.mixed, padding=3)
        step = torch.exp(torch.rand(HEADS) * math.log(100)) / 1000  # from 0.001 to 0.1
        self.dt_bias = nn.Parameter(step.expm1().log())
        self.A_log = nn.Parameter(torch.arange(1.0, HEADS + 1).log())
        self.D = nn.Parameter(torch.ones(HEADS))
        self.norm = nn.RMSNorm(self.inner, eps=1e-5)
        self.out_proj = nn.Linear(self.inner, HIDDEN, bias=False)
        self.new_states = "bhts,bshpn->bshpn" if faulty else "bhts,bshpn->bthpn"

    def forward(self, x: Tensor) -> Tensor:
        steps = x.shape[1]
        gate, mixed, dt = torch.split(self.in_proj(x), [self.inner, self.mixed, HEADS], -1)
        mixed = silu(self.conv1d(mixed.transpose(1, 2))[..., :steps].transpose(1, 2))
        u, b, c = torch.split(mixed, [self.inner, STATES, STATES], -1)
        u, dt = u.reshape(*u.shape[:2], HEADS, HEAD), softplus(dt + self.dt_bias)
        y = self.scan(u * dt[..., None], -self.A_log.exp() * dt, b, c)[:, :steps] + self.D[:, None] * u
        out: Tensor = self.out_proj(self.norm(y.flatten(2) * silu(gate)))
        return out

    def scan(self, u: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        behind = -u.shape[1] % CHUNK
        u = pad(u, (0, 0, 0, 0, 0, behind)).reshape(len(u), -1, CHUNK, HEADS, HEAD)
        a, b, c = (pad(each, (0, 0, 0, behind)).reshape(len(u), -1, CHUNK, each.shape[-1]) for each in (a, b, c))
        a = a.permute(0, 3, 1, 2)
        a_cumsum = a.cumsum(-1)
        y_diag = torch.einsum("bcls,bhcls,bcshp->bclhp", c @ b.mT, segment_sum(a).exp(), u)
        states = torch.einsum("bcln,bhcl,bclhp->bchpn", b, (a_cumsum[..., -1:] - a_cumsum).exp(), u)
        states = torch.cat((torch.zeros_like(states[:, :1]), states), 1)
        decay_chunk = segment_sum(pad(a_cumsum[..., -1], (1, 0))).exp()
        states = torch.einsum(self.new_states, decay_chunk, states)[:, :-1]
        y_off = torch.einsum("bcln,bchpn,bhcl->bclhp", c, states, a_cumsum.exp())
        return (y_diag + y_off).flatten(1, 2)


def make(faulty: bool) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(1)
    return Mamba2Mixer(faulty), torch.randn(1, L, HIDDEN), None


def by_hand(module: nn.Module, x: Tensor, state: Any) -> tuple[Tensors, Tensors]:
    changed = x.clone()
    changed[:, CHANGED] = x[:, 0]
    return {"y": module(x)[:, :CHANGED]}, {"y": module(changed)[:, :CHANGED]}


BUG = Bug(
    report="huggingface/transformers#47475",
    told="a chunked scan sums the decay between chunks over the wrong axis, so that later steps reach earlier outputs",
    half=2,
    form=Checked(make, by_hand),
    named="causality",
    place={"tensor": "y", "step": CHUNK},
)
