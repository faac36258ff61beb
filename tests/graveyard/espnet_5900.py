"""espnet/espnet#5900: BSRNN with causal=True looks ahead, since its norms take their statistics over all frames.

The LSTM over time has one direction, yet a GroupNorm of one group before it takes the mean over channels and time. The
report puts NaN into the last of 1,000 frames, and every frame comes out as NaN; a finite number there moves the others
by little. The repair is a norm of each frame by itself. No tolerance: the report asserts that there are numbers.
"""

from typing import Any

import torch
from graveyard.grave import Bug, Checked, Tensors
from torch import Tensor, nn

BANDS, CHANNELS, LAYERS, N, T = [2, 2, 4, 4], 16, 2, 2, 100
BINS = sum(BANDS)


class Norm(nn.Module):
    """Over (N, channels, T, ...): over each item, or over each frame of it."""

    def __init__(self, channels: int, faulty: bool, dims: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, *[1] * dims))
        self.bias = nn.Parameter(torch.zeros(channels, *[1] * dims))
        self.faulty = faulty

    def forward(self, x: Tensor) -> Tensor:
        over = [each for each in range(1, x.dim()) if self.faulty or each != 2]
        x = x - x.mean(over, keepdim=True)
        var: Tensor = x.square().mean(over, keepdim=True)
        return x / (var + 1e-5).sqrt() * self.weight + self.bias


class Through(nn.Module):
    """norm, LSTM and Linear along the last axis but one of (n, CHANNELS, length, m), with a residual connection."""

    def __init__(self, faulty: bool, bidirectional: bool) -> None:
        super().__init__()
        self.norm = Norm(CHANNELS, faulty, 2)
        self.rnn = nn.LSTM(CHANNELS, 2 * CHANNELS, batch_first=True, bidirectional=bidirectional)
        self.fc = nn.Linear((4 if bidirectional else 2) * CHANNELS, CHANNELS)
        self.along_bands = bidirectional

    def forward(self, x: Tensor) -> Tensor:
        order = (0, 2, 3, 1) if self.along_bands else (0, 3, 2, 1)
        rows = self.norm(x).permute(order)
        y = self.fc(self.rnn(rows.flatten(0, 1))[0]).view(rows.shape)
        back: Tensor = y.permute([order.index(each) for each in range(4)])
        return x + back


class BSRNN(nn.Module):
    """A causal band-split RNN; x and y: (N, T, 2·BINS), the real parts of a spectrum and its imaginary parts."""

    def __init__(self, faulty: bool) -> None:
        super().__init__()
        self.batch_first = True
        self.norms = nn.ModuleList(Norm(2 * each, faulty, 1) for each in BANDS)
        self.split = nn.ModuleList(nn.Conv1d(2 * each, CHANNELS, 1) for each in BANDS)
        self.layers = nn.Sequential(*[Through(faulty, along_bands) for along_bands in (False, True)] * LAYERS)
        self.masks = nn.ModuleList(nn.Conv1d(CHANNELS, 2 * each, 1) for each in BANDS)

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.stack(x.transpose(1, 2).chunk(2, 1))
        parts = [torch.cat([*each], 1) for each in torch.split(spectrum, BANDS, 2)]
        bands = [conv(norm(each)) for conv, norm, each in zip(self.split, self.norms, parts, strict=True)]
        z = self.layers(torch.stack(bands, -1))
        masks = [conv(z[..., i]).chunk(2, 1) for i, conv in enumerate(self.masks)]
        real, imaginary = (torch.cat(each, 1) for each in zip(*masks, strict=True))
        a, b = spectrum
        return torch.cat([real * a - imaginary * b, real * b + imaginary * a], 1).transpose(1, 2)


def make(faulty: bool) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(5900)
    return BSRNN(faulty), torch.randn(N, T, 2 * BINS), None


def by_hand(module: nn.Module, x: Tensor, state: Any) -> tuple[Tensors, Tensors]:
    """All frames but the last one, before and after that one changes."""
    other = x.clone()
    other[:, -1] *= -1
    return {"y": module(x)[:, :-1]}, {"y": module(other)[:, :-1]}


BUG = Bug(
    report="espnet/espnet#5900",
    told="a band-split RNN that is said to be causal normalizes over all frames, so that each one sees the last",
    half=1,
    form=Checked(make, by_hand, {"batch_first": True}),
    named="causality",
    place={"tensor": "y", "step": 0},
)
