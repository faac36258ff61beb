"""Recurrent networks with the deviations that people write, one or two of them: subjects for --right FILE.py:Class."""

from typing import Any

import torch
from own_networks import Lstm
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def gates_of(cell: Any, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    sums: Tensor = x @ cell.weight_ih.T + h @ cell.weight_hh.T + cell.bias_ih + cell.bias_hh
    return sums.chunk(4, 1)


class ForgetsItsGate(Lstm):
    """Takes the rows of f for i in the bias that it adds."""

    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = gates_of(cell, x, h)
        c = f.sigmoid() * c + (i + 1).sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class Coupled(Lstm):
    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, _, g, o = gates_of(cell, x, h)
        i = i.sigmoid()
        c = (1 - i) * c + i * g.tanh()
        return o.sigmoid() * c.tanh(), c


class Peepholes(Lstm):
    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = gates_of(cell, x, h)
        c = (f + c).sigmoid() * c + (i + c).sigmoid() * g.tanh()
        return (o + c).sigmoid() * c.tanh(), c


class Hard(Lstm):
    sigmoid = nn.Hardsigmoid()

    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = gates_of(cell, x, h)
        c = self.sigmoid(f) * c + self.sigmoid(i) * g.tanh()
        return self.sigmoid(o) * c.tanh(), c


class NormsItsCell(Lstm):
    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = gates_of(cell, x, h)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        c = (c - c.mean(1, keepdim=True)) / (c.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        return o.sigmoid() * c.tanh(), c


class CellFirst(Lstm):
    def result(self, y: Tensor, h: Tensor, c: Tensor) -> Any:
        return y, (c, h)


class IofgAndOneBias(Lstm):
    """As of a framework with one bias and another order of gates."""

    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, o, g = (x @ cell.weight_ih.T + h @ cell.weight_hh.T + cell.bias_ih).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class IgfoAndForgetBias(Lstm):
    """As TensorFlow 1's BasicLSTMCell."""

    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, g, f, o = gates_of(cell, x, h)
        c = (f + 1).sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class UnpacksAndPacks(nn.Module):
    """Unpacks its input, walks over all of it, and packs what it gives."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bidirectional: bool = False) -> None:
        super().__init__()
        self.rnn = nn.GRU(input_size, hidden_size, num_layers, bidirectional=bidirectional)

    def forward(self, packed: Any, hx: Tensor) -> Any:
        x, lengths = pad_packed_sequence(packed)
        y, h = self.rnn(x, self.given(hx))
        return pack_padded_sequence(y, lengths, enforce_sorted=False), h

    def given(self, hx: Tensor) -> Tensor:
        return hx


class UnpacksAndDropsState(UnpacksAndPacks):
    def given(self, hx: Tensor) -> Tensor:
        return torch.zeros_like(hx)


class SortsByLength(UnpacksAndPacks):
    """Sorts its items, as people did before enforce_sorted, and puts y alone back in order."""

    def forward(self, packed: Any, hx: Tensor) -> Any:
        x, lengths = pad_packed_sequence(packed)
        order = lengths.argsort(descending=True, stable=True)
        y, h = self.rnn(pack_padded_sequence(x[:, order], lengths[order]), hx[:, order])
        padded, _ = pad_packed_sequence(y)
        return pack_padded_sequence(padded[:, order.argsort()], lengths, enforce_sorted=False), h


class FlipsThePadding(nn.Module):
    """Packs for its forward direction alone; the backward one gets the padded input from its end on."""

    def __init__(self, input_size: int, hidden_size: int, bidirectional: bool = True) -> None:
        super().__init__()
        self.rnn = nn.GRU(input_size, hidden_size, bidirectional=bidirectional)

    def forward(self, packed: Any, hx: Tensor) -> Any:
        x, lengths = pad_packed_sequence(packed)
        right, last = self.rnn(packed, hx)
        wrong, through = self.rnn(x, hx)
        half = self.rnn.hidden_size
        y = torch.cat((pad_packed_sequence(right)[0][..., :half], wrong[..., half:]), -1)
        return pack_padded_sequence(y, lengths, enforce_sorted=False), torch.stack((last[0], through[1]))
