"""NX-AI/xlstm#51: conv1d_step shifts the convolution state that it is given in place.

An xLSTM block keeps the last inputs of its convolution in the state. A step wrote the new input into that very tensor,
and returned it. Outputs are right, but the state of whoever called is another one afterwards; the report saw it as an
error of backward, for a state of shape (6, 4, 512). There is no tolerance in the thread: nothing may change.
"""

import math
from typing import Any

import torch
from graveyard.grave import Bug, Checked, Tensors
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, silu

N, WIDTH, D, HEADS, L = 6, 4, 512, 4, 8


def conv1d_step(x: Tensor, conv_state: Tensor, weight: Tensor, faulty: bool) -> tuple[Tensor, Tensor]:
    if faulty:
        conv_state[:, :-1] = conv_state[:, 1:].clone()
        conv_state[:, -1:] = x
    else:
        conv_state = torch.cat((conv_state[:, 1:], x), dim=1)
    return (conv_state * weight).sum(dim=1, keepdim=True), conv_state


class MLSTMLayer(nn.Module):
    batch_first = True

    def __init__(self, faulty: bool) -> None:
        super().__init__()
        self.conv1d = nn.Parameter(torch.randn(WIDTH, D) / 2)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(D, D, bias=False) for _ in range(3))
        self.igate, self.fgate = nn.Linear(D, HEADS), nn.Linear(D, HEADS)
        self.faulty = faulty

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        if state is None:
            c = x.new_zeros(len(x), HEADS, D // HEADS, D // HEADS)
            mlstm_state = c, c[..., :1], c[..., :1, :1]
            state = {"mlstm_state": mlstm_state, "conv_state": (x.new_zeros(len(x), WIDTH, D),)}
        y = []
        for each in torch.split(x, 1, dim=1):
            out, state = self.step(each, **state)
            y.append(out)
        return torch.cat(y, dim=1), state

    def step(self, x: Tensor, mlstm_state: Any, conv_state: Any) -> tuple[Tensor, Any]:
        x_conv, conv = conv1d_step(x, conv_state[0], self.conv1d, self.faulty)
        x_conv = silu(x_conv)
        q, k, v = (
            proj(each).view(len(x), HEADS, -1, 1)
            for proj, each in ((self.q_proj, x_conv), (self.k_proj, x_conv), (self.v_proj, x))
        )
        i, log_f = (gate.view(len(x), HEADS, 1, 1) for gate in (self.igate(x_conv), logsigmoid(self.fgate(x_conv))))
        (c, n, m), k = mlstm_state, k / math.sqrt(k.shape[2])
        new_m = torch.maximum(log_f + m, i)
        f, i = (log_f + m - new_m).exp(), (i - new_m).exp()
        c, n = f * c + i * (k @ v.mT), f * n + i * k
        h = (q.mT @ c) / (torch.maximum((q.mT @ n).abs(), (-new_m).exp()) + 1e-6)
        return h.reshape(x.shape), {"mlstm_state": (c, n, new_m), "conv_state": (conv,)}


def make(faulty: bool) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    module = MLSTMLayer(faulty)
    with torch.no_grad():
        _, state = module(torch.randn(N, L, D))
    return module, torch.randn(N, L, D), state


def by_hand(module: nn.Module, x: Tensor, state: Any) -> tuple[Tensors, Tensors]:
    (conv,) = state["conv_state"]
    before = conv.clone()
    module(x, state)
    return {"conv_state": before}, {"conv_state": conv}


BUG = Bug(
    report="NX-AI/xlstm#51",
    told="a step of the causal convolution writes the new input into the state that it is given",
    half=2,
    form=Checked(make, by_hand),
    named="inputs_kept",
    place={"item": 0},
)
