"""apache/mxnet#18203: a bidirectional LSTM of three layers or more writes dx over the dy that it still needs.

Layers between the first and the top hand dx down in the buffer in which they got dy. The forward direction writes it
before the backward direction reads its half of dy. So the top layer and the forward direction below it are right;
everything behind is wrong. Outputs are right.
"""

from typing import Any

import torch
from graveyard.grave import Bug, Modules
from torch import Tensor, nn

LAYERS, I, H, L, N = 3, 10, 16, 5, 2  # noqa: E741 (as the operator's source has them)


def forward_walk(x: Tensor, h: Tensor, c: Tensor, w: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor, list[Any]]:
    """One direction of one layer: y, the last h and c, and what the backward pass needs of each step."""
    wx, wh, bx, bh = w
    y, kept = [], []
    for each in x @ wx.T:
        i, f, g, o = (each + bx + bh + h @ wh.T).chunk(4, 1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        tanh_c = (f * c + i * g).tanh()
        kept.append((i, f, g, o, h, c, tanh_c))
        c = f * c + i * g
        h = o * tanh_c
        y.append(h)
    return torch.stack(y), h, c, kept


def backward_walk(
    x: Tensor, kept: list[Any], dy: Tensor, dh: Tensor, dc: Tensor, w: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Gradients of x, h0, c0 and the weights of one direction of one layer."""
    difgo = []
    for (i, f, g, o, _, c, tanh_c), each in zip(reversed(kept), dy.flip(0), strict=True):
        dh = dh + each
        dc = dc + dh * o * (1 - tanh_c * tanh_c)
        gates = (dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g * g), dh * tanh_c * o * (1 - o))
        difgo.append(torch.cat(gates, 1))
        dh, dc = difgo[-1] @ w[1], dc * f
    d, before = torch.stack(difgo[::-1]), torch.stack([each[4] for each in kept])
    dwx, dwh = torch.einsum("lng,lni->gi", d, x), torch.einsum("lng,lnh->gh", d, before)
    return d @ w[0], dh, dc, [dwx, dwh, d.sum((0, 1)), d.sum((0, 1))]


class Operator(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, faulty: bool, x: Tensor, hx: Tensor, cx: Tensor, *w: Tensor) -> tuple[Tensor, ...]:
        walks, hy, cy = [], [], []
        for layer in range(len(w) // 8):
            halves = []
            for bid in (0, 1):
                idx = 2 * layer + bid
                turned, weights = x.flip(0) if bid else x, w[4 * idx : 4 * idx + 4]
                y, h, c, kept = forward_walk(turned, hx[idx], cx[idx], weights)
                walks.append((turned, kept, weights))
                halves.append(y.flip(0) if bid else y)
                hy.append(h)
                cy.append(c)
            x = torch.cat(halves, 2)
        ctx.faulty, ctx.walks = faulty, walks
        return x, torch.stack(hy), torch.stack(cy)

    @staticmethod
    def backward(ctx: Any, dy: Tensor, dhy: Tensor, dcy: Tensor) -> tuple[Tensor | None, ...]:
        dy_tmp, dhx, dcx, dw = torch.empty_like(dy), torch.empty_like(dhy), torch.empty_like(dcy), []
        for layer in reversed(range(len(ctx.walks) // 2)):
            dx = dy_tmp if ctx.faulty and layer else torch.empty_like(ctx.walks[2 * layer][0])
            for bid in (0, 1):
                idx = 2 * layer + bid
                x, kept, weights = ctx.walks[idx]
                half = dy.chunk(2, 2)[bid]
                turned = half.flip(0) if bid else half
                part, dhx[idx], dcx[idx], grads = backward_walk(x, kept, turned, dhy[idx], dcy[idx], weights)
                dw.append(grads)
                if bid:
                    dx += part.flip(0)
                else:
                    dx.copy_(part)
            dy = dx
        in_order = [dw[len(dw) - 2 - idx + 2 * (idx % 2)] for idx in range(len(dw))]
        return None, dy, dhx, dcx, *(each for grads in in_order for each in grads)


class LSTM(nn.Module):
    def __init__(self, lstm: nn.LSTM, faulty: bool) -> None:
        super().__init__()
        self.faulty = faulty
        for name, each in lstm.named_parameters():
            self.register_parameter(name, nn.Parameter(each.detach().clone()))

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, hy, cy = Operator.apply(self.faulty, x, *hx, *self.parameters())  # type: ignore[no-untyped-call]
        return y, (hy, cy)


def make(faulty: bool) -> tuple[nn.Module, nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    lstm = nn.LSTM(I, H, LAYERS, bidirectional=True)
    hx = torch.randn(2 * LAYERS, N, H), torch.randn(2 * LAYERS, N, H)
    return lstm, LSTM(lstm, faulty), torch.randn(L, N, I), hx


BUG = Bug(
    report="apache/mxnet#18203",
    told="the middle layers of a bidirectional LSTM write dx over dy before the backward direction reads it",
    half=1,
    form=Modules(make, grad=True),
    named="function",
    place={"name": "weight_ih_l1_reverse", "kind": "formula"},
)
