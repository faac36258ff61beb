"""huggingface/transformers#45513: a gated delta net forgets its cache where more than one step comes in.

Only a single step was said to continue from a cache. A longer piece, as in a prefill by pieces or when drafted tokens
are verified, started from zeros: zeros to the left of the convolution, and a recurrent state of zeros. Generation
feeds one step at a time, so it never showed there. The test of that pull request compares a step that comes in alone
with the same one before seven others, both after 8 steps, at rtol 1e-4 and atol 1e-4.
"""

import math
from typing import Any

import torch
from graveyard.grave import Bug, Checked, Tensors
from torch import Tensor, nn
from torch.nn import functional

HIDDEN, HEADS, SIZE, KERNEL, B, PREFILL, T = 32, 4, 16, 4, 2, 8, 16


class GatedDeltaNet(nn.Module):
    """x: (B, T, HIDDEN); cache: what the convolution saw, (B, 3·HEADS·SIZE, KERNEL - 1), and (B, HEADS, SIZE, SIZE)."""

    def __init__(self, faulty: bool) -> None:
        super().__init__()
        self.faulty, self.batch_first = faulty, True
        width = HEADS * SIZE
        self.in_proj_qkvz = nn.Linear(HIDDEN, 4 * width, bias=False)
        self.in_proj_ba = nn.Linear(HIDDEN, 2 * HEADS, bias=False)
        self.conv1d = nn.Conv1d(3 * width, 3 * width, KERNEL, groups=3 * width, bias=False)
        dt = torch.empty(HEADS).uniform_(math.log(0.001), math.log(0.1)).exp()
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.A_log = nn.Parameter(torch.empty(HEADS).uniform_(1, 16).log())
        self.norm = nn.RMSNorm(SIZE, eps=1e-6)
        self.out_proj = nn.Linear(width, HIDDEN, bias=False)

    def forward(self, x: Tensor, cache: Any = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        b, t, _ = x.shape
        if cache is None or (self.faulty and t > 1):
            cache = x.new_zeros(b, self.conv1d.in_channels, KERNEL - 1), x.new_zeros(b, HEADS, SIZE, SIZE)
        conv_state, recurrent_state = cache
        qkv, z = self.in_proj_qkvz(x).split([3 * HEADS * SIZE, HEADS * SIZE], -1)
        seen = torch.cat([conv_state, qkv.transpose(1, 2)], -1)
        q, k, v = functional.silu(self.conv1d(seen)).view(b, 3, HEADS, SIZE, t).transpose(-1, -2).unbind(1)
        beta, a = self.in_proj_ba(x).transpose(1, 2).chunk(2, 1)
        g = -self.A_log.exp()[:, None] * functional.softplus(a + self.dt_bias[:, None])
        q, k = functional.normalize(q, dim=-1, eps=1e-6) * SIZE**-0.5, functional.normalize(k, dim=-1, eps=1e-6)
        y, recurrent_state = chunk_gated_delta_rule(q, k, v, g, beta.sigmoid(), recurrent_state)
        y = self.norm(y.transpose(1, 2)) * functional.silu(z.view(b, t, HEADS, SIZE))
        return self.out_proj(y.flatten(2)), (seen[..., 1 - KERNEL :], recurrent_state)


def chunk_gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """All steps at once; q, k, v: (B, HEADS, T, SIZE); g and beta: (B, HEADS, T); state: keys in its rows."""
    g = g.cumsum(-1)
    later = torch.ones(g.shape[-1], g.shape[-1], dtype=torch.bool).triu(1)
    decay = (g[..., :, None] - g[..., None, :]).masked_fill(later, -torch.inf).exp()
    overlap = (beta[..., None] * (k @ k.mT) * decay).tril(-1)
    asked = beta[..., None] * (v - g[..., None].exp() * (k @ state))
    delta = torch.linalg.solve_triangular(overlap, asked, upper=False, unitriangular=True)
    y = g[..., None].exp() * (q @ state) + ((q @ k.mT) * decay) @ delta
    return y, g[..., -1, None, None].exp() * state + (decay[..., -1, :, None] * k).mT @ delta


def make(faulty: bool) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    return GatedDeltaNet(faulty), torch.randn(B, T, HIDDEN), None


def by_hand(module: nn.Module, x: Tensor, state: Any) -> tuple[Tensors, Tensors]:
    """The step behind the prefill, alone and as the first of several."""
    _, cache = module(x[:, :PREFILL])
    alone, _ = module(x[:, PREFILL : PREFILL + 1], cache)
    several, _ = module(x[:, PREFILL:], cache)
    return {"y": alone}, {"y": several[:, :1]}


BUG = Bug(
    report="huggingface/transformers#45513",
    told="a gated delta net starts from zeros where more than one step comes in with a cache",
    half=1,
    form=Checked(make, by_hand, {"batch_first": True}),
    named="chunked",
    place={"tensor": "y"},
    tolerance=(1e-4, 1e-4),
)
