"""pytorch/pytorch#4611: in float16 the fused LSTM cell's backward pass has another formula than in float32.

The kernel had a branch of its own for half, in float inside. There the gradients of i, f and g were taken with c, g and
f in place of g, c and i, and what goes back to the cell state was not multiplied by f. Every other dtype was right. The
thread names neither sizes nor a tolerance: that the two agree is all that it asks for.
"""

import copy
from typing import Any

import torch
from graveyard.grave import Bug, Modules
from torch import Tensor, nn

H_IN, H, L, N = 64, 128, 12, 16


class LSTMFused(torch.autograd.Function):
    """What is left of a cell behind its products: half goes in and out, and float is in between."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, cx: Tensor, wrong_in_half: bool) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(gates.dtype, torch.float32)
        i, f, g, o = gates.to(wide).chunk(4, -1)
        storage = torch.cat((i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()), -1)
        i, f, g, o = storage.chunk(4, -1)
        cy = f * cx.to(wide) + i * g
        hy = (o * cy.tanh()).to(gates.dtype)
        ctx.is_wrong = wrong_in_half and gates.dtype == torch.half
        ctx.save_for_backward(storage.to(gates.dtype), cx, cy.to(gates.dtype))
        return hy, cy.to(gates.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        storage, cx, cy = ctx.saved_tensors
        wide = torch.promote_types(cx.dtype, torch.float32)
        i, f, g, o = storage.to(wide).chunk(4, -1)
        go, goc, cx = grads[0].to(wide), grads[1].to(wide), cx.to(wide)
        gcx = cy.to(wide).tanh()
        gog = go * gcx
        gcx = go * o * (1 - gcx * gcx) + goc
        if ctx.is_wrong:
            gig, gfg, gcg = gcx * cx, gcx * g, gcx * f
        else:
            gig, gfg, gcg = gcx * g, gcx * cx, gcx * i
            gcx = gcx * f
        gates = torch.cat((gig * (1 - i) * i, gfg * (1 - f) * f, gcg * (1 - g * g), gog * (1 - o) * o), -1)
        return gates.to(storage.dtype), gcx.to(storage.dtype), None


class FusedLSTM(nn.Module):
    def __init__(self, lstm: nn.LSTM, faulty: bool) -> None:
        super().__init__()
        self.faulty = faulty
        self.weights = nn.ParameterList(copy.deepcopy(lstm).all_weights[0])

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        w_ih, w_hh, b_ih, b_hh = self.weights
        h, c = hx[0][0], hx[1][0]
        outputs = []
        for igates in nn.functional.linear(x, w_ih, b_ih):
            hgates = nn.functional.linear(h, w_hh, b_hh)
            h, c = LSTMFused.apply(igates + hgates, c, self.faulty)  # type: ignore[no-untyped-call]
            outputs.append(h)
        return torch.stack(outputs), (h[None], c[None])


def make(faulty: bool) -> tuple[nn.Module, nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    lstm = nn.LSTM(H_IN, H).half()
    hx = (torch.randn(1, N, H).half(), torch.randn(1, N, H).half())
    return lstm, FusedLSTM(lstm, faulty), torch.randn(L, N, H_IN).half(), hx


BUG = Bug(
    report="pytorch/pytorch#4611",
    told="the backward pass of a fused LSTM cell takes the wrong factors for i, f, g and c, in float16 alone",
    half=2,
    form=Modules(make, grad=True),
    named="precision",
    place={"kind": "formula"},
)
