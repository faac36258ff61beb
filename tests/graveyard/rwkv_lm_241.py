"""BlinkDL/RWKV-LM#241: the WKV6 kernel that takes a state reads the state of item 0 for every item.

The offset into the state has the head and the row, and not the item of the batch. With one state for all, as in state
tuning, nothing shows; with a state per item, as in training on pieces of a text, every item but the first starts from
the wrong one. x and the weights are bfloat16, as there; the kernel sums in float32, and here the state stays in it. The
report has no tolerance.
"""

from typing import Any

import torch
from graveyard.grave import Bug, Checked, Tensors
from torch import Tensor, nn

HEADS, SIZE, B, T = 2, 64, 4, 12
C = HEADS * SIZE


class TimeMix(nn.Module):
    """RWKV-6's mixing over time: x: (B, T, C); state: (B, HEADS, SIZE, SIZE), v in its rows, k in its columns."""

    def __init__(self, faulty: bool) -> None:
        super().__init__()
        self.faulty, self.batch_first = faulty, True
        self.receptance, self.key, self.value = (nn.Linear(C, C, bias=False) for _ in range(3))
        self.decay = nn.Sequential(nn.Linear(C, 32), nn.Tanh(), nn.Linear(32, C))
        self.decay[2].bias.data = torch.linspace(-6, -1, SIZE).repeat(HEADS)
        self.bonus = nn.Parameter(torch.randn(HEADS, SIZE) / 4)
        self.output = nn.Linear(C, C, bias=False)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        b, t, _ = x.shape
        wide = torch.promote_types(x.dtype, torch.float32)
        if state is None:
            state = x.new_zeros(b, HEADS, SIZE, SIZE, dtype=wide)
        r, k, v, w = (
            each(x).view(b, t, HEADS, SIZE).to(wide) for each in (self.receptance, self.key, self.value, self.decay)
        )
        y, state = self.wkv6(r, k, v, torch.exp(-torch.exp(w)), self.bonus.to(wide), state)
        return self.output(y.to(x.dtype)), state

    def wkv6(self, r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """What the kernel does, one thread of it for each item and head."""
        y, last = torch.empty_like(v), []
        for b in range(len(r)):
            # the kernel adds h·N·N + i·N to the pointer, and the repaired one b·H·N·N, too
            state, of_item = s[0 if self.faulty else b], []
            for t in range(r.shape[1]):
                kv = v[b, t, :, :, None] * k[b, t, :, None, :]
                of_item.append(((u[:, None] * kv + state) * r[b, t, :, None]).sum(-1))
                state = state * w[b, t, :, None] + kv
            y[b] = torch.stack(of_item)
            last.append(state)
        return y.flatten(2), torch.stack(last)


def make(faulty: bool) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(241)
    module = TimeMix(faulty).bfloat16()
    return module, torch.randn(B, T, C).bfloat16(), torch.randn(B, HEADS, SIZE, SIZE)


def by_hand(module: nn.Module, x: Tensor, state: Any) -> tuple[Tensors, Tensors]:
    alone = [module(x[i : i + 1], state[i : i + 1]) for i in range(len(x))]
    expected = [torch.cat(each) for each in zip(*alone, strict=True)]
    return dict(zip(("y", "h"), expected, strict=True)), dict(zip(("y", "h"), module(x, state), strict=True))


BUG = Bug(
    report="BlinkDL/RWKV-LM#241",
    told="a kernel that takes a state for each item reads the state of item 0 for all of them",
    half=1,
    form=Checked(make, by_hand, {"batch_first": True}),
    named="item_isolation",
    place={"tensor": "y", "step": 0, "item": 1},
)
