"""Sides with a fault in a known place, so that every machine gives the same figures: subjects for the goldens."""

from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence


class Same(nn.Module):
    """torch's own module; what comes out may be changed."""

    module: Any = nn.RNN

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.rnn = self.module(**options)

    def forward(self, x: Any, hx: Any = None) -> Any:
        y, state = self.rnn(x, hx)
        if isinstance(y, PackedSequence):
            return y._replace(data=self.changed(y.data)), state
        return self.changed(y), state

    def changed(self, y: Tensor) -> Tensor:
        return y


class OneBit(Same):
    """Off by the least that its dtype can say, in one element of y."""

    def changed(self, y: Tensor) -> Tensor:
        return planted(y, torch.finfo(y.dtype).eps)


class EveryBit(Same):
    """Off by the last bit of each element of y; its gradients are not."""

    def changed(self, y: Tensor) -> Tensor:
        return y + (y * torch.finfo(y.dtype).eps).detach()


class Off(Same):
    def changed(self, y: Tensor) -> Tensor:
        return planted(y, 0.25)


class OffTheOtherWay(Same):
    def changed(self, y: Tensor) -> Tensor:
        return planted(y, -0.25)


class OffInFloat32(Same):
    def changed(self, y: Tensor) -> Tensor:
        return planted(y, 2.0**-8) if y.dtype == torch.float32 else y


class NotANumber(Same):
    """NaN in y, and infinity in the last state."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        y, h = super().forward(x, hx)
        return y, planted(h, float("inf"), 0)

    def changed(self, y: Tensor) -> Tensor:
        return planted(y, float("nan"))


class LstmNotANumber(Same):
    module = nn.LSTM

    def changed(self, y: Tensor) -> Tensor:
        return planted(y, float("nan"))


class LstmEveryBit(EveryBit):
    module = nn.LSTM


class Transposed(Same):
    def changed(self, y: Tensor) -> Tensor:
        return y.transpose(0, 1)


class GatesIofg(Same):
    """Takes the rows of an LSTM's weights as i f o g."""

    module = nn.LSTM

    def load_state_dict(self, state: Any, strict: bool = True, assign: bool = False) -> Any:
        moved = {name: torch.cat([each.chunk(4)[gate] for gate in (0, 1, 3, 2)]) for name, each in state.items()}
        return self.rnn.load_state_dict(moved)


class Careless(nn.Module):
    """Knows no state, has weights that get no gradient, and returns float64."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.layers = num_layers

    def load_state_dict(self, state: Any, strict: bool = True, assign: bool = False) -> Any:
        self.weights = {name: each.detach().clone() for name, each in state.items()}

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        last = []
        for layer in range(self.layers):
            weight, *biases = (self.weights[f"{name}_l{layer}"] for name in ("weight_ih", "bias_ih", "bias_hh"))
            x = (x @ weight.T + biases[0] + biases[1]).tanh()
            last.append(x[-1])
        return x.double(), torch.stack(last)


class AnotherEachTime(Same):
    """Off by a quarter, and by a little more in each run."""

    calls = count()

    def changed(self, y: Tensor) -> Tensor:
        return planted(y, 0.25 + 2.0**-20 * next(self.calls))


class OffFromTheSecondCallOn(Same):
    was_called = False

    def changed(self, y: Tensor) -> Tensor:
        y, self.was_called = planted(y, 0.25 if self.was_called else 0.0), True
        return y


class Float32Inside(Same):
    def changed(self, y: Tensor) -> Tensor:
        return y.float().to(y.dtype)


class NeedsTooMuch(Same):
    def changed(self, y: Tensor) -> Tensor:
        raise MemoryError


def planted(y: Tensor, add: float, step: int = 1) -> Tensor:
    """Changed in the first unit of the last item at one step, where there is such a step."""
    changed = y.clone()
    if step < len(y):
        (changed[step] if y.dim() == 2 else changed[step, -1])[0] += add
    return changed


class LooksAhead(nn.RNN):
    """Is given each step one step early."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        return super().forward(x.roll(-1, 0), hx)
