"""Networks that give something else when they are called again, and some that only look so; named as FILE.py:Class."""

import random
import sys
from typing import Any

import torch
from torch import nn


class Remembers(nn.RNN):
    """Goes on from where the call before ended."""

    kept: Any = None

    def forward(self, x: Any, hx: Any = None) -> Any:
        y, self.kept = super().forward(x, hx if self.kept is None else self.kept)
        return y, self.kept


class RemembersForThreeCalls(Remembers):
    count = 0

    def forward(self, x: Any, hx: Any = None) -> Any:
        if self.count % 3 == 0:
            self.kept = None
        self.count += 1
        return super().forward(x, hx)


class WrongInEachFifthCall(nn.RNN):
    count = 0

    def forward(self, x: Any, hx: Any = None) -> Any:
        self.count += 1
        y, h = super().forward(x, hx)
        return (y, h * 2) if self.count % 5 == 0 else (y, h)


class ShorterInTheSecondCall(nn.RNN):
    was_called = False

    def forward(self, x: Any, hx: Any = None) -> Any:
        y, h = super().forward(x[1:] if self.was_called else x, hx)
        self.was_called = True
        return y, h


class IgnoresAndRemembers(Remembers):
    """Wrong in its first call, too."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        return super().forward(x, torch.zeros_like(hx))


class Drifts(nn.RNN):
    weight_hh_l0: Any

    def forward(self, x: Any, hx: Any = None) -> Any:
        found = super().forward(x, hx)
        with torch.no_grad():
            self.weight_hh_l0.mul_(0.999)
        return found


class PowerIteration(nn.RNN):
    """Divides y by a norm that comes nearer to its value in each call."""

    weight_hh_l0: Any
    u: Any

    def __init__(self, *sizes: int, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.register_buffer("u", torch.ones(self.hidden_size))

    def forward(self, x: Any, hx: Any = None) -> Any:
        y, h = super().forward(x, hx)
        v = nn.functional.normalize(self.weight_hh_l0.T @ self.u, dim=0)
        self.u = nn.functional.normalize(self.weight_hh_l0 @ v, dim=0)
        return y / (self.u @ self.weight_hh_l0 @ v), h


class RunningMean(nn.RNN):
    """The mean of what came in before is taken from x; nothing came before the first call."""

    mean: Any

    def __init__(self, *sizes: int, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.register_buffer("mean", torch.zeros(self.input_size))

    def forward(self, x: Any, hx: Any = None) -> Any:
        found = super().forward(x - self.mean, hx)
        self.mean = 0.9 * self.mean + 0.1 * x.mean((0, 1))
        return found


class GreatestSoFar(nn.RNN):
    """Only an input that is greater than those before changes anything."""

    peak = 0.0

    def forward(self, x: Any, hx: Any = None) -> Any:
        y, h = super().forward(x, hx)
        self.peak = max(self.peak, x.abs().max().item())
        return y * (self.peak / x.abs().max()), h


class BufferFromTheFirstCall(nn.RNN):
    kept: Any

    def __init__(self, *sizes: int, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.register_buffer("kept", None)

    def forward(self, x: Any, hx: Any = None) -> Any:
        y, self.kept = super().forward(x, hx if self.kept is None else self.kept)
        return y, self.kept


class CountsAndRemembers(Remembers):
    """What it keeps in a buffer does no harm, and what it keeps besides does."""

    steps: Any

    def __init__(self, *sizes: int, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Any, hx: Any = None) -> Any:
        self.steps += len(x)
        return super().forward(x, hx)


class Dropout(nn.RNN):
    def forward(self, x: Any, hx: Any = None) -> Any:
        return super().forward(nn.functional.dropout(x, 0.1), hx)


class Rare(nn.RNN):
    """Rolls a die in each call."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        y, h = super().forward(x, hx)
        return y * (1.5 if self.roll() < 0.2 else 1.0), h

    def roll(self) -> float:
        return torch.rand(()).item()


class RareByPython(Rare):
    def roll(self) -> float:
        return random.random()


class RareByNumpy(Rare):
    def roll(self) -> float:
        return float(sys.modules["numpy"].random.rand())


class AnotherDieEachTime(nn.RNN):
    """Nobody can seed it."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        y, h = super().forward(x, hx)
        return y * (1 + random.SystemRandom().random()), h


last: Any = None


class RemembersForAll(nn.RNN):
    """What a call keeps is there for other instances, too."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        global last
        same = last is not None and last.shape == hx.shape and last.dtype == hx.dtype
        y, last = super().forward(x, last if same else hx)
        return y, last


class Counts(nn.RNN):
    """Its buffer changes in each call, and nothing depends on it."""

    steps: Any

    def __init__(self, *sizes: int, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Any, hx: Any = None) -> Any:
        self.steps += len(x)
        return super().forward(x, hx)


class KeepsUnusedWeights(nn.RNN):
    """Its recurrent weights are other ones between two calls, and are put back before they are used."""

    weight_hh_l0: Any
    kept: Any = None

    def forward(self, x: Any, hx: Any = None) -> Any:
        with torch.no_grad():
            if self.kept is not None:
                self.weight_hh_l0.copy_(self.kept)
            self.kept = self.weight_hh_l0.clone()
            found = super().forward(x, hx)
            self.weight_hh_l0.zero_()
        return found


class KeepsItsZeros(nn.RNN):
    """Makes a state of zeros in its first call, and takes it again where it fits."""

    zeros: Any = None

    def forward(self, x: Any, hx: Any = None) -> Any:
        shape = self.num_layers, x.shape[1], self.hidden_size
        if self.zeros is None or self.zeros.shape != shape or self.zeros.dtype != x.dtype:
            self.zeros = x.new_zeros(shape)
        return super().forward(x, self.zeros if hx is None else hx)


class SpoilsItsInput(nn.RNN):
    def forward(self, x: Any, hx: Any = None) -> Any:
        found = super().forward(x, hx)
        x.zero_()
        hx.zero_()
        return found


class RefusesOtherInput(nn.RNN):
    """Takes only what it got in its first call, or zeros."""

    first: Any = None

    def forward(self, x: Any, hx: Any = None) -> Any:
        if x.any():
            self.first = x.clone() if self.first is None else self.first
            assert torch.equal(x, self.first)
        return super().forward(x, hx)


seen: list[int] = []


class NotesItsSteps(nn.RNN):
    def forward(self, x: Any, hx: Any = None) -> Any:
        seen.append(len(x))
        return super().forward(x, hx)
