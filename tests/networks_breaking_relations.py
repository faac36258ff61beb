"""Recurrent networks with one fault each that no convention explains, and what every recurrent network keeps does."""
# mypy: ignore-errors

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

# What stands beside an item, and where.


class MeanOverTheBatch(nn.LSTM):
    def forward(self, x, hx):
        return super().forward(x - x.mean(1, keepdim=True), hx)


class SoftmaxOverTheBatch(nn.GRU):
    def forward(self, x, hx):
        y, h = super().forward(x, hx)
        return y * y.softmax(1), h


class KnowsItsPlace(nn.LSTM):
    def forward(self, x, hx):
        return super().forward(x * torch.linspace(1, 2, x.shape[1], dtype=x.dtype)[:, None], hx)


class KnowsTheSizeOfTheBatch(nn.RNN):
    def forward(self, x, hx):
        return super().forward(x / x.shape[1], hx)


class OnlyFiveItems(nn.GRU):
    """Built for its N; and another formula, which no relation tells."""

    def forward(self, x, hx):
        return super().forward((x + x.new_zeros(5, 1)).sin(), hx)


# What comes later.


class LooksAhead(nn.LSTM):
    def forward(self, x, hx):
        return super().forward(x + x.roll(-1, 0), hx)


class LooksThreeAhead(nn.GRU):
    def forward(self, x, hx):
        return super().forward(torch.cat((x[3:], x[-3:])), hx)


class NormalizedOverTime(nn.RNN):
    def forward(self, x, hx):
        return super().forward((x - x.mean(0)) / x.std(0), hx)


# What is carried on.


class GivesAnEarlierState(nn.GRU):
    def forward(self, x, hx):
        y, _ = super().forward(x, hx)
        return y, y[-2:-1]


class GivesAnEarlierOutput(nn.LSTM):
    def forward(self, x, hx):
        y, last = super().forward(x, hx)
        return torch.cat((hx[0], y[:-1])), last


class SquashesTheOutput(nn.GRU):
    def forward(self, x, hx):
        y, h = super().forward(x, hx)
        return y.tanh(), h


class ResetsAtStep16(nn.LSTM):
    def forward(self, x, hx):
        first, hx = super().forward(x[:16], hx)
        if len(x) <= 16:
            return first, hx
        second, hx = super().forward(x[16:], tuple(each * 0 for each in hx))
        return torch.cat((first, second)), hx


class DropsThePlacesOfItsSteps(nn.RNN):
    """The step is counted in each call."""

    def forward(self, x, hx):
        return super().forward(x + torch.arange(len(x), dtype=x.dtype)[:, None, None] / 10, hx)


class ScalesAllButASingleStep(nn.GRU):
    def forward(self, x, hx):
        return super().forward(x if len(x) == 1 else x / 2, hx)


class StartsFromOnes(nn.RNN):
    def forward(self, x, hx=None):
        if hx is None:
            hx = x.new_ones(self.num_layers, x.shape[1], self.hidden_size)
        return super().forward(x, hx)


# Lengths.


class ReadsThePadding(nn.GRU):
    """What stands behind the end of an item goes into its state."""

    def forward(self, packed, hx):
        x, lengths = pad_packed_sequence(packed, padding_value=1.0)
        y, h = super().forward(x, hx)
        return pack_padded_sequence(y, lengths, enforce_sorted=False), h


# Memory.


class WritesIntoX(nn.LSTM):
    def forward(self, x, hx):
        return super().forward(x.mul_(0.5), hx)


class ReadsTheMemory(nn.Module):
    """(N, L, ...); as the numbers of x stand in memory, whatever its strides are."""

    def __init__(self, input_size, hidden_size, num_layers=1):
        super().__init__()
        self.rnn = nn.RNN(input_size, hidden_size, num_layers, batch_first=True)

    def forward(self, x, hx):
        return self.rnn(torch.as_strided(x, x.shape, (x.shape[1] * x.shape[2], x.shape[2], 1)), hx)


# Other forms.


class MeanInACell(nn.Module):
    """A step, which rnnscope loops."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.cell = nn.LSTMCell(input_size, hidden_size)

    def forward(self, x, state):
        return self.cell(x - x.mean(0), state)


class LooksAheadBeforeItsHead(nn.Module):
    """A head stands behind the network, and h and c apart; with N first."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.lstm, self.fc = nn.LSTM(input_size, hidden_size, batch_first=True), nn.Linear(hidden_size, 2)

    def forward(self, x, h, c):
        y, (h, c) = self.lstm(x + x.roll(-1, 1), (h, c))
        return self.fc(y), h, c


class LooksAheadInAnUnbatchedInput(nn.GRU):
    def forward(self, x, hx):
        if x.dim() != 2:
            raise ValueError("an unbatched input alone")
        return super().forward(x + x.roll(-1, 0), hx)


# What is told otherwise, or not at all.


class Right(nn.LSTM):
    pass


class GatesIofgAndWrites(nn.Module):
    """A known deviation, and a relation that is broken besides."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.cell = nn.LSTMCell(input_size, hidden_size)

    def forward(self, x, hx):
        cell, h, c, y = self.cell, hx[0][0], hx[1][0], []
        for step in x:
            i, f, o, g = (step @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T + cell.bias_hh).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            y.append(h)
        x.zero_()
        return torch.stack(y), (h[None], c[None])


class KeepsState(nn.GRU):
    kept = 0.0

    def forward(self, x, hx):
        y, h = super().forward(x + self.kept + x.mean(1, keepdim=True), hx)
        self.kept = h.mean().detach()
        return y, h


class AnotherFormula(nn.GRU):
    """It keeps every relation all the same; `calls` counts."""

    calls = 0

    def forward(self, x, hx):
        type(self).calls += 1
        return super().forward(x.sin(), hx)


class Refuses(nn.GRU):
    """Whatever is not the input of the comparison, which has 5 items and 7 steps."""

    def forward(self, x, hx):
        if x.shape[:2] != (7, 5):
            raise ValueError("of this size alone")
        return super().forward(x - x.mean(1, keepdim=True), hx)


class CannotBeCopied(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.rnn, self.letters = nn.LSTM(input_size, hidden_size), (each for each in "a generator")

    def forward(self, x, hx):
        return self.rnn(x - x.mean(1, keepdim=True), hx)


class StartsAllLayersAlike(nn.RNN):
    """Each layer starts from the state of the first one."""

    def forward(self, x, hx):
        return super().forward(x, hx[:1].expand_as(hx).contiguous())
