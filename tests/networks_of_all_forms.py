"""Recurrent networks in the forms in which people publish them, each right, and twins of each with a planted fault.

Steps and loops stand in Recurrent, where the faults are planted. The classes differ in parameters, constructors,
states, layouts and outputs. They have no types, as most of what is published has none.
"""
# mypy: ignore-errors

import re
from collections import namedtuple
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnnscope import Spec

# What the classes share, with all faults that can be planted.


class Recurrent(nn.Module):
    """The steps and the loop."""

    fault = ""

    def has(self, fault):
        return self.fault == fault

    def sigmoid(self, a):
        return a.tanh() if self.has("tanh for sigmoid") else a.sigmoid()

    def rnn(self, a):
        return a.relu() if self.has("tanh and relu swapped") else a.tanh()

    def lstm(self, i, f, g, o, c):
        """h and c, of the sums that go into the gates."""
        if self.has("gates i f o g"):
            g, o = o, g
        if self.has("forget bias of 1"):
            f = f + 1
        i, f, g, o = self.sigmoid(i), self.sigmoid(f), g.tanh(), self.sigmoid(o)
        if self.has("coupled forget gate"):
            f = 1 - i
        c = f * c + i * g
        if self.has("output gate before tanh"):
            return (o * c).tanh(), c
        return o * (c if self.has("tanh missing on the cell state") else c.tanh()), c

    def gru(self, r, z, n_x, n_h, h):
        """h, of the sums that go into r and z, x's part of n, and what makes h's part of n."""
        if self.has("gates z r n"):
            r, z = z, r
        r, z = self.sigmoid(r), self.sigmoid(z)
        n = (n_x + (n_h(r * h) if self.has("reset before the matmul") else r * n_h(h))).tanh()
        if self.has("update gate inverted"):
            z = 1 - z
        return (1 - z) * n + z * (r * h if self.has("reset state kept") else h)

    def turned(self, weight):
        """A weight of h to h, or a stack of them."""
        if not self.has("W_hh transposed"):
            return weight
        size = min(weight.shape)
        axis = 0 if weight.shape[0] > size else 1
        return torch.cat([each.T for each in weight.split(size, axis)], axis)

    def bias(self, bias):
        return bias * 0 if self.has("both biases dropped") or self.has("b_hh dropped") else bias

    def loop(self, step, xs, state):
        """The h of each step, and the last state. xs: (L, N, ·); state: (N, H) each."""
        if self.has("h0 ignored"):
            state = (state[0] * 0, *state[1:])
        if self.has("c0 ignored"):
            state = (state[0], state[1] * 0)
        if self.has("item 0 for all"):
            state = tuple(each[:1].expand_as(each) for each in state)
        states = [state]
        for t, x in enumerate(xs):
            if self.has("reset at step 2") and t == 2:
                state = tuple(each * 0 for each in state)
            new = step(x, *state)
            new = new if isinstance(new, tuple) else (new,)
            state = (new[0], state[1]) if self.has("c never updated") else new
            states.append(state)
        ys = [each[0] for each in (states[:-1] if self.has("y shifted by a step") else states[1:])]
        return ys, states[-2] if self.has("last state of step L-2") else state

    def in_order(self, layers):
        """Layers; from the second one on all are alike."""
        layers = list(layers)
        return layers[:1] + layers[:0:-1] if self.has("layers in reverse order") else layers

    def back(self, ys):
        """What a backward direction gives, in the order of time."""
        return ys if self.has("backward outputs not flipped back") else ys[::-1]


def parameter(*sizes):
    return nn.Parameter(torch.randn(*sizes) * 0.3)


# nn.RNN: one layer.


class ElmanPairs(Recurrent):
    """Two Linears; the state has no axis of layers."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.hidden_size = hidden_size
        self.x2h, self.h2h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)

    def forward(self, x, h=None):
        h = x.new_zeros(x.shape[1], self.hidden_size) if h is None else h

        def step(x, h):
            return self.rnn(self.x2h(x) + F.linear(h, self.turned(self.h2h.weight), self.bias(self.h2h.bias)))

        ys, (h,) = self.loop(step, x, (h,))
        return torch.stack(ys), h


class ElmanOverCat(Recurrent):
    """A step, as in a well-known tutorial: one Linear over [x, h]."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.i2h = nn.Linear(input_size + hidden_size, hidden_size)

    def forward(self, input, hidden):
        return self.rnn(self.i2h(torch.cat((input, hidden), 1)))


class ElmanOverTac(ElmanOverCat):
    """One Linear over [h, x]."""

    def forward(self, x, h):
        return self.rnn(self.i2h(torch.cat((h, x), 1)))


class RawElman(Recurrent):
    """x @ W with raw parameters, one bias and a list of steps."""

    def __init__(self, num_inputs, num_hiddens):
        super().__init__()
        self.num_hiddens = num_hiddens
        self.W_xh, self.W_hh = parameter(num_inputs, num_hiddens), parameter(num_hiddens, num_hiddens)
        self.b_h = parameter(num_hiddens)

    def forward(self, inputs, state=None):
        state = inputs.new_zeros(inputs.shape[1], self.num_hiddens) if state is None else state

        def step(x, h):
            return self.rnn(x @ self.W_xh + h @ self.turned(self.W_hh) + self.bias(self.b_h))

        ys, (state,) = self.loop(step, inputs, (state,))
        return ys, state


class RowBiases(Recurrent):
    """W and U, and biases of shape (1, H)."""

    def __init__(self, input_dim, hidden_dim):
        super().__init__()
        self.W, self.U = parameter(hidden_dim, input_dim), parameter(hidden_dim, hidden_dim)
        self.b_w, self.b_u = parameter(1, hidden_dim), parameter(1, hidden_dim)

    def forward(self, x, h):
        def step(x, h):
            return self.rnn(x @ self.W.T + self.bias(self.b_w) + h @ self.turned(self.U).T + self.bias(self.b_u))

        ys, (last,) = self.loop(step, x, (h[0],))
        return torch.stack(ys), last.unsqueeze(0)


class ColumnWise(Recurrent):
    """W @ x for each item at a time."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.Wxh, self.Whh = parameter(hidden_size, input_size), parameter(hidden_size, hidden_size)
        self.bh = parameter(hidden_size)

    def forward(self, x, h):
        whh = self.turned(self.Whh)
        return self.rnn((self.Wxh @ x.T + whh @ h.T).T + self.bh)


class Relu(Recurrent):
    """relu or tanh by a word."""

    def __init__(self, input_size, hidden_size, activation="tanh"):
        super().__init__()
        self.act = {"tanh": torch.tanh, "relu": torch.relu}[activation]
        self.hidden_size = hidden_size
        self.i2h, self.h2h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, x, h0):
        ys, (h,) = self.loop(lambda x, h: self.act(self.i2h(x) + self.h2h(h)), x, (h0.squeeze(0),))
        return torch.stack(ys), h.unsqueeze(0)


# nn.RNN: several layers, heads, what is left out.


class StackedElman(Recurrent):
    """Lists of Linears, and torch's own form outside."""

    def __init__(self, input_size, hidden_size, n_layers=1):
        super().__init__()
        sizes = [input_size, *[hidden_size] * (n_layers - 1)]
        self.i2h = nn.ModuleList(nn.Linear(size, hidden_size) for size in sizes)
        self.h2h = nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in sizes)

    def forward(self, x, hx=None):
        hx = x.new_zeros(len(self.i2h), x.shape[1], self.h2h[0].out_features) if hx is None else hx
        last = []
        for h, i2h, h2h in zip(hx, self.in_order(self.i2h), self.in_order(self.h2h), strict=True):
            ys, (h,) = self.loop(lambda x, h, i2h=i2h, h2h=h2h: self.rnn(i2h(x) + h2h(h)), x, (h,))
            x = torch.stack(ys)
            last.append(h)
        return x, torch.stack(last)


class StackedByItems(StackedElman):
    """x, y and the state start with N, and no argument says so."""

    def forward(self, x, h=None):
        y, h = super().forward(x.transpose(0, 1), None if h is None else h.transpose(0, 1))
        return y.transpose(0, 1), h.transpose(0, 1)


class OverDimOne(StackedElman):
    """A loop over dim 1; the state is torch's."""

    def forward(self, x, h=None):
        if self.has("batch and time swapped"):
            return super().forward(x, h)
        y, h = super().forward(x.permute(1, 0, 2), h)
        return y.permute(1, 0, 2), h


class NoState(StackedElman):
    """It always starts from zeros."""

    def forward(self, x):
        return super().forward(x)


class OnlyOutput(StackedElman):
    """y alone."""

    def forward(self, x, h0=None):
        return super().forward(x, h0)[0]


class HeadAtEachStep(Recurrent):
    """torch's module and a Linear behind it."""

    def __init__(self, input_size, hidden_size, output_size=7):
        super().__init__()
        self.rnn_layer = nn.RNN(input_size, hidden_size)
        self.fc = nn.Linear(hidden_size, output_size)

    def forward(self, x, h0=None):
        h0 = None if self.has("h0 ignored") else h0
        y, h = self.rnn_layer(x.flip(0) if self.has("time reversed") else x, h0)
        return self.fc(y), h


class HeadAtTheEnd(Recurrent):
    """A classifier: a head on the last step alone."""

    def __init__(self, input_size, hidden_size, num_layers, num_classes):
        super().__init__()
        self.num_layers, self.hidden_size = num_layers, hidden_size
        self.lstm_layers = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)
        self.fc = nn.Linear(hidden_size, num_classes)

    def forward(self, x):
        zeros = x.new_zeros(self.num_layers, x.size(0), self.hidden_size)
        y, _ = self.lstm_layers(x.flip(1) if self.has("time reversed") else x, (zeros, zeros))
        return self.fc(y[:, -1, :])


class BothWaysElman(Recurrent):
    """Lists for the forward and for the backward direction."""

    def __init__(self, input_size, hidden_size, num_layers=1, bidirectional=True):
        super().__init__()
        ways = 1 + bidirectional
        sizes = [input_size, *[ways * hidden_size] * (num_layers - 1)]
        self.fwd = nn.ModuleList(nn.RNNCell(size, hidden_size) for size in sizes)
        self.bwd = nn.ModuleList(nn.RNNCell(size, hidden_size) for size in sizes[: len(sizes) * bidirectional])

    def forward(self, x, hx):
        last, ways = [], 1 + (len(self.bwd) > 0)
        for layer, cell in enumerate(self.fwd):
            ys, (h,) = self.loop(cell, x, (hx[ways * layer],))
            last.append(h)
            if ways == 2:
                reversed_ys, (h,) = self.loop(self.bwd[layer], x.flip(0), (hx[ways * layer + 1],))
                last.append(h)
                ys = [torch.cat(both, -1) for both in zip(ys, self.back(reversed_ys), strict=True)]
            x = torch.stack(ys)
        return x, torch.stack(last)


# nn.LSTM: one layer.


class RawLstm(Recurrent):
    """Letters for each gate, x @ W, a list of steps."""

    def __init__(self, num_inputs, num_hiddens):
        super().__init__()
        self.num_hiddens = num_hiddens
        for gate in "ifoc":
            setattr(self, f"W_x{gate}", parameter(num_inputs, num_hiddens))
            setattr(self, f"W_h{gate}", parameter(num_hiddens, num_hiddens))
            setattr(self, f"b_{gate}", parameter(num_hiddens))

    def sums(self, x, h):
        for gate in "ifco":
            weight = self.turned(getattr(self, f"W_h{gate}"))
            yield x @ getattr(self, f"W_x{gate}") + h @ weight + self.bias(getattr(self, f"b_{gate}"))

    def forward(self, inputs, H_C=None):
        if H_C is None:
            H_C = (inputs.new_zeros(inputs.shape[1], self.num_hiddens),) * 2
        return self.loop(lambda x, h, c: self.lstm(*self.sums(x, h), c), inputs, H_C)


class LettersLstm(Recurrent):
    """W_f, U_f, b_f, and h and c as two arguments."""

    def __init__(self, input_sz, hidden_sz):
        super().__init__()
        self.hidden_sz = hidden_sz
        self.W_i, self.U_i, self.b_i = self._of_gate(input_sz)
        self.W_f, self.U_f, self.b_f = self._of_gate(input_sz)
        self.W_c, self.U_c, self.b_c = self._of_gate(input_sz)
        self.W_o, self.U_o, self.b_o = self._of_gate(input_sz)

    def _of_gate(self, size):
        return parameter(size, self.hidden_sz), parameter(self.hidden_sz, self.hidden_sz), parameter(self.hidden_sz)

    def forward(self, x, init_states=None):
        """x: (N, L, H_in)"""
        zeros = x.new_zeros(x.shape[0], self.hidden_sz)

        def step(x, h, c):
            i = x @ self.W_i + h @ self.turned(self.U_i) + self.b_i
            f = x @ self.W_f + h @ self.turned(self.U_f) + self.b_f
            g = x @ self.W_c + h @ self.turned(self.U_c) + self.b_c
            o = x @ self.W_o + h @ self.turned(self.U_o) + self.b_o
            return self.lstm(i, f, g, o, c)

        ys, state = self.loop(step, x.unbind(1), (zeros, zeros) if init_states is None else init_states)
        return torch.stack(ys, 1), state


class TorchsLetters(Recurrent):
    """The letters of torch's documentation, each with a bias: a step."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        for gate in "ifgo":
            setattr(self, f"W_i{gate}", parameter(hidden_size, input_size))
            setattr(self, f"W_h{gate}", parameter(hidden_size, hidden_size))
            setattr(self, f"b_i{gate}", parameter(hidden_size))
            setattr(self, f"b_h{gate}", parameter(hidden_size))

    def forward(self, x, state):
        h, c = state
        sums = [
            F.linear(x, getattr(self, f"W_i{gate}"), getattr(self, f"b_i{gate}"))
            + F.linear(h, self.turned(getattr(self, f"W_h{gate}")), self.bias(getattr(self, f"b_h{gate}")))
            for gate in "ifgo"
        ]
        return self.lstm(*sums, c)


class GatesInWords(Recurrent):
    """A Linear over [x, h] for each gate, in the order of a paper: a step that takes and gives h and c apart."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        both = input_size + hidden_size
        self.forget_gate, self.input_gate = nn.Linear(both, hidden_size), nn.Linear(both, hidden_size)
        self.cell_gate, self.output_gate = nn.Linear(both, hidden_size), nn.Linear(both, hidden_size)

    def forward(self, x, h, c):
        both = torch.cat((x, h), dim=-1)
        return self.lstm(self.input_gate(both), self.forget_gate(both), self.cell_gate(both), self.output_gate(both), c)


class GatesOverTac(Recurrent):
    """Wf, Wi, Wc, Wo over [h, x]."""

    def __init__(self, n_inputs, n_hidden):
        super().__init__()
        self.n_hidden = n_hidden
        self.Wf, self.Wi, self.Wc, self.Wo = (nn.Linear(n_hidden + n_inputs, n_hidden) for _ in range(4))

    def forward(self, x, h0=None, c0=None):
        zeros = x.new_zeros(x.shape[1], self.n_hidden)

        def step(x, h, c):
            both = torch.cat((h, x), 1)
            return self.lstm(self.Wi(both), self.Wf(both), self.Wc(both), self.Wo(both), c)

        ys, (h, c) = self.loop(step, x, (zeros if h0 is None else h0, zeros if c0 is None else c0))
        return torch.stack(ys), h, c


class Kernels(Recurrent):
    """kernel, recurrent_kernel and bias, x @ W, as in Keras."""

    def __init__(self, input_dim, units):
        super().__init__()
        self.units = units
        self.kernel, self.recurrent_kernel = parameter(input_dim, 4 * units), parameter(units, 4 * units)
        self.bias_ = parameter(4 * units)

    def forward(self, inputs, initial_state=None):
        """inputs: (N, L, H_in)"""
        zeros = inputs.new_zeros(inputs.shape[0], self.units)

        def step(x, h, c):
            sums = x @ self.kernel + h @ self.turned(self.recurrent_kernel) + self.bias(self.bias_)
            return self.lstm(*sums.chunk(4, -1), c)

        ys, (h, c) = self.loop(step, inputs.unbind(1), initial_state or (zeros, zeros))
        return torch.stack(ys, 1), h, c


class FusedOverCat(Recurrent):
    """One Linear over [x, h] for all gates: a step."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.linear = nn.Linear(in_features + out_features, 4 * out_features)

    def joined(self, x, h):
        return torch.cat((x, h), 1)

    def forward(self, x, hc):
        h, c = hc
        return self.lstm(*self.linear(self.joined(x, h)).chunk(4, 1), c)


class FusedOverTac(FusedOverCat):
    """One Linear over [h, x] for all gates."""

    def joined(self, x, h):
        return torch.cat((h, x), 1)


class PairCell(Recurrent):
    """x2h and h2h for all gates: a step that gives (h, c)."""

    def __init__(self, input_size, hidden_size, bias=True):
        super().__init__()
        self.x2h = nn.Linear(input_size, 4 * hidden_size, bias=bias)
        self.h2h = nn.Linear(hidden_size, 4 * hidden_size, bias=bias)

    def sums(self, x, h):
        return (self.x2h(x) + F.linear(h, self.turned(self.h2h.weight), self.h2h.bias)).chunk(4, 1)

    def forward(self, x, hx):
        h, c = hx
        return self.lstm(*self.sums(x, h), c)


class GivesOutAndPair(PairCell):
    """A step that gives (out, (h, c))."""

    def forward(self, x_t, state):
        h, c = super().forward(x_t, state)
        return h, (h, c)


class GivesThree(PairCell):
    """A step that takes h and c apart and gives (out, h, c)."""

    def forward(self, x_t, h_prev, c_prev):
        h, c = super().forward(x_t, (h_prev, c_prev))
        return h, h, c


class FoldedBias(Recurrent):
    """W and U without biases, and one bias for both."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.W = nn.Linear(input_size, 4 * hidden_size, bias=False)
        self.U = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.b = parameter(4 * hidden_size)

    def forward(self, x, state):
        def step(x, h, c):
            return self.lstm(*(self.W(x) + self.U(h) + self.bias(self.b)).chunk(4, -1), c)

        ys, (h, c) = self.loop(step, x, tuple(each[0] for each in state))
        return torch.stack(ys), (h[None], c[None])


class BiasOnX(Recurrent):
    """Biases on x alone."""

    def __init__(self, ninp, nhid):
        super().__init__()
        self.i2h, self.h2h = nn.Linear(ninp, 4 * nhid), nn.Linear(nhid, 4 * nhid, bias=False)

    def forward(self, x, hidden):
        h, c = hidden
        return self.lstm(*(self.i2h(x) + self.h2h(h)).chunk(4, 1), c)


class NoBias(Recurrent):
    """No bias at all."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.weight_x, self.weight_h = parameter(4 * hidden_size, input_size), parameter(4 * hidden_size, hidden_size)

    def forward(self, x, hx):
        h, c = hx
        return self.lstm(*(x @ self.weight_x.T + h @ self.turned(self.weight_h).T).chunk(4, 1), c)


# nn.LSTM: several layers and states of all forms. The parameters are those of torch's cells.


class StackedLstm(Recurrent):
    """torch's cells in a list; torch's form outside."""

    def __init__(self, input_size, hidden_size, num_layers=1):
        super().__init__()
        self.hidden_size, self.num_layers = hidden_size, num_layers
        sizes = [input_size, *[hidden_size] * (num_layers - 1)]
        self.cells = nn.ModuleList(nn.LSTMCell(size, hidden_size) for size in sizes)

    def walked(self, x, states=None):
        """y, and one (h, c) a layer. x: (L, N, H_in)"""
        zeros = x.new_zeros(x.shape[1], self.hidden_size)
        states = [(zeros, zeros)] * self.num_layers if states is None else states
        last = []
        for cell, state in zip(self.in_order(self.cells), states, strict=True):
            ys, state = self.loop(lambda x, h, c, cell=cell: cell(x, (h, c)), x, state)
            x = torch.stack(ys)
            last.append(state)
        return x, last

    def forward(self, x, hx=None):
        y, last = self.walked(x, hx and list(zip(*hx, strict=True)))
        return y, tuple(map(torch.stack, zip(*last, strict=True)))


class ListOfPairs(StackedLstm):
    """The state is a list with one (h, c) a layer."""

    def forward(self, x, states=None):
        return self.walked(x, states)


class TwoLists(StackedLstm):
    """The state is two lists."""

    def forward(self, x, state=None):
        y, last = self.walked(x, state and list(zip(*state, strict=True)))
        return y, ([h for h, _ in last], [c for _, c in last])


class TwoArguments(StackedLstm):
    """h0 and c0 are two arguments, by name alone; (y, h, c) comes out."""

    def forward(self, x, *, h0=None, c0=None):
        y, (h, c) = super().forward(x, None if h0 is None else (h0, c0))
        return y, h, c


class ItemsFirst(StackedLstm):
    """x, y and the states start with N."""

    def forward(self, x, hx=None):
        hx = hx and tuple(each.transpose(0, 1) for each in hx)
        y, state = super().forward(x.transpose(0, 1), hx)
        return y.transpose(0, 1), tuple(each.transpose(0, 1) for each in state)


class StateInDict(StackedLstm):
    """The state is a dict, and so is the result."""

    def forward(self, x, state=None):
        y, (h, c) = super().forward(x, state and (state["h"], state["c"]))
        return {"output": y, "state": {"h": h, "c": c}}


Result = namedtuple("Result", "output h_n c_n")


class GivesNamedTuple(StackedLstm):
    def forward(self, x, hx=None):
        y, (h, c) = super().forward(x, hx)
        return Result(y, h, c)


@dataclass
class Outcome:
    last_hidden_state: Any
    hidden: Any
    cell: Any


class GivesDataclass(StackedLstm):
    def forward(self, x, hx=None):
        y, (h, c) = super().forward(x, hx)
        return Outcome(y, h, c)


class GivesDict(StackedLstm):
    def forward(self, x, hx=None):
        y, (h, c) = super().forward(x, hx)
        return {"out": y, "h": h, "c": c}


class GivesStepsInAList(StackedLstm):
    def forward(self, x, hx=None):
        y, state = super().forward(x, hx)
        return list(y), state


class OneStepOfAll(StackedLstm):
    """Takes one step through all layers; the state is a list of (h, c)."""

    def forward(self, x, states):
        last = []
        for cell, state in zip(self.in_order(self.cells), states, strict=True):
            last.append(cell(x, state))
            x = last[-1][0]
        return x, last


class OneStepOfAllRows(Recurrent):
    """Takes one step through all layers; the state is (K, N, H)."""

    def __init__(self, input_size, hidden_size, num_layers):
        super().__init__()
        sizes = [input_size, *[hidden_size] * (num_layers - 1)]
        self.layers = nn.ModuleList(nn.GRUCell(size, hidden_size) for size in sizes)

    def forward(self, x, h):
        last = []
        for cell, each in zip(self.in_order(self.layers), h, strict=True):
            x = cell(x, each)
            last.append(x)
        return x, torch.stack(last)


# Constructors.


class Positional(StackedLstm):
    """Names that say nothing, in torch's order."""

    def __init__(self, a, b):
        super().__init__(a, b)


class HiddenFirst(StackedLstm):
    def __init__(self, hidden_size, input_size, depth):
        super().__init__(input_size, hidden_size, depth)


class TakesConfig(StackedLstm):
    def __init__(self, config):
        super().__init__(config.input_dim, config.hidden_dim, config.n_layers)


class TakesDict(StackedLstm):
    def __init__(self, cfg):
        super().__init__(cfg["input_size"], cfg["hidden_size"], cfg["num_layers"])


@dataclass
class Settings:
    input_size: int = 4
    hidden_size: int = 8
    num_layers: int = 1
    dropout: float = 0.0


class TakesDataclass(StackedLstm):
    def __init__(self, settings: Settings):
        super().__init__(settings.input_size, settings.hidden_size, settings.num_layers)


class NeedsMore(StackedLstm):
    """Needs an argument that no one can guess."""

    def __init__(self, input_size, hidden_size, num_layers, flavour):
        super().__init__(input_size, hidden_size, num_layers)
        assert flavour == "vanilla"


# Layouts and both directions.


class InnerBatchFirst(Recurrent):
    """torch's module with batch_first=True."""

    def __init__(self, input_size, hidden_size, num_layers=1):
        super().__init__()
        self.lstm_layers = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)

    def forward(self, x, hidden=None):
        if self.has("h0 ignored"):
            hidden = hidden and (hidden[0] * 0, hidden[1])
        return self.lstm_layers(x, hidden)


class SaysBatchFirst(StackedLstm):
    """self.batch_first says it."""

    batch_first = True

    def forward(self, x, hx=None):
        y, state = super().forward(x.transpose(0, 1), hx)
        return y.transpose(0, 1), state


class Directions(Recurrent):
    """All cells of both directions in one list, in torch's order: l0, l0_reverse, l1, …"""

    by_layer = True

    def __init__(self, input_size, hidden_size, num_layers=1, bidirectional=True):
        super().__init__()
        assert bidirectional
        self.num_layers = num_layers
        sizes = [input_size, *[2 * hidden_size] * (num_layers - 1)]
        order = [size for size in sizes for _ in range(2)] if self.by_layer else sizes * 2
        self.cells = nn.ModuleList(nn.LSTMCell(size, hidden_size) for size in order)

    def row(self, layer, way):
        return 2 * layer + way if self.by_layer else self.num_layers * way + layer

    def forward(self, x, hx):
        last = []
        for layer in range(self.num_layers):
            halves = []
            for way in (0, 1):
                cell, state = self.cells[self.row(layer, way)], tuple(each[2 * layer + way] for each in hx)
                walk = x.flip(0) if way and not self.has("backward direction fed forward") else x
                ys, state = self.loop(lambda x, h, c, cell=cell: cell(x, (h, c)), walk, state)
                halves.append(self.back(ys) if way and walk is not x else ys)
                last.append(state)
            x = torch.stack([torch.cat(both, -1) for both in zip(*halves, strict=True)])
        return x, tuple(map(torch.stack, zip(*last, strict=True)))


class ForwardThenBackward(Directions):
    """All cells of the forward direction, then all of the backward one."""

    by_layer = False


class GruBothWays(Recurrent):
    """Parameters by torch's names in one class, with both directions."""

    def __init__(self, input_size, hidden_size, num_layers=1, bidirectional=False):
        super().__init__()
        self.num_layers, self.ways = num_layers, 1 + bidirectional
        for name, shape in (
            (f"{base}_l{layer}{way}", shape)
            for layer in range(num_layers)
            for way in ("", "_reverse")[: self.ways]
            for base, shape in (
                ("weight_ih", (3 * hidden_size, hidden_size * self.ways if layer else input_size)),
                ("weight_hh", (3 * hidden_size, hidden_size)),
                ("bias_ih", (3 * hidden_size,)),
                ("bias_hh", (3 * hidden_size,)),
            )
        ):
            setattr(self, name, parameter(*shape))

    def forward(self, x, hx):
        last = []
        for layer in range(self.num_layers):
            halves = []
            for way, end in enumerate(("", "_reverse")[: self.ways]):
                w_ih, w_hh, b_ih, b_hh = (
                    getattr(self, f"{base}_l{layer}{end}") for base in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                )

                def step(x, h, w_ih=w_ih, w_hh=w_hh, b_ih=b_ih, b_hh=b_hh):
                    r, z, n = F.linear(x, w_ih, b_ih).chunk(3, 1)
                    r_h, z_h, _ = F.linear(h, w_hh, b_hh).chunk(3, 1)
                    return self.gru(r + r_h, z + z_h, n, lambda h: F.linear(h, w_hh.chunk(3)[2], b_hh.chunk(3)[2]), h)

                ys, (h,) = self.loop(step, x.flip(0) if way else x, (hx[self.ways * layer + way],))
                halves.append(self.back(ys) if way else ys)
                last.append(h)
            x = torch.stack([torch.cat(both, -1) for both in zip(*halves, strict=True)])
        return x, torch.stack(last)


class Unpacks(StackedLstm):
    """Unpacks what it gets, walks every step of every item, and keeps what is no padding."""

    def forward(self, x, hx=None):
        if not hasattr(x, "data") or isinstance(x, torch.Tensor):
            return super().forward(x, hx)
        padded, lengths = pad_packed_sequence(x)
        every, (h, c) = [], (hx[0].clone(), hx[1].clone())
        for item, length in enumerate(lengths):
            steps = len(padded) if self.has("lengths ignored but in y") else length
            own = tuple(each[:, item : item + 1] for each in hx)
            y, (h[:, item : item + 1], c[:, item : item + 1]) = super().forward(padded[:steps, item : item + 1], own)
            every.append(y[:length, 0])
        y = nn.utils.rnn.pad_sequence(every)
        return pack_padded_sequence(y, lengths, enforce_sorted=False), (h, c)


class PackedInside(Recurrent):
    """torch's module on packed sequences."""

    def __init__(self, input_size, hidden_size, num_layers=1, bidirectional=False):
        super().__init__()
        self.inner = nn.GRU(input_size, hidden_size, num_layers, bidirectional=bidirectional)

    def forward(self, x, hx=None):
        return self.inner(x, hx * 0 if self.has("h0 ignored") else hx)


# nn.GRU.


class PairGru(Recurrent):
    """x2h and h2h for all gates: a step."""

    def __init__(self, input_size, hidden_size, bias=True):
        super().__init__()
        self.x2h = nn.Linear(input_size, 3 * hidden_size, bias)
        self.h2h = nn.Linear(hidden_size, 3 * hidden_size, bias)

    def forward(self, x, h):
        r, z, n = self.x2h(x).chunk(3, 1)
        weight = self.turned(self.h2h.weight)
        r_h, z_h, _ = F.linear(h, weight, self.h2h.bias).chunk(3, 1)
        return self.gru(r + r_h, z + z_h, n, lambda h: F.linear(h, weight, self.h2h.bias).chunk(3, 1)[2], h)


class GruOutAndH(PairGru):
    """A step that gives (out, h)."""

    def forward(self, input, hidden):
        h = super().forward(input, hidden)
        return h, h


class OneOfATuple(PairGru):
    """A step whose state is a tuple of one."""

    def forward(self, x, state):
        h = super().forward(x, state[0])
        return h, (h,)


class RawGru(Recurrent):
    """W_xr, W_hr, b_r …, x @ W, with a bias for h's part of the candidate."""

    candidate = "h"

    def __init__(self, num_inputs, num_hiddens):
        super().__init__()
        for gate in ("r", "z", self.candidate):
            setattr(self, f"W_x{gate}", parameter(num_inputs, num_hiddens))
            setattr(self, f"W_h{gate}", parameter(num_hiddens, num_hiddens))
            setattr(self, f"b_{gate}", parameter(num_hiddens))
        setattr(self, f"b_h{self.candidate}", parameter(num_hiddens))

    def forward(self, x, h):
        def affine(gate):
            return x @ getattr(self, f"W_x{gate}") + getattr(self, f"b_{gate}")

        def of(gate, h):
            return h @ self.turned(getattr(self, f"W_h{gate}"))

        n, own = self.candidate, getattr(self, f"b_h{self.candidate}")
        return self.gru(affine("r") + of("r", h), affine("z") + of("z", h), affine(n), lambda h: of(n, h) + own, h)


class RawGruN(RawGru):
    candidate = "n"


class RawGruC(RawGru):
    candidate = "c"


class DenseGru(Recurrent):
    """Linears ir, iz, in_ and hr, hz, hn; hr and hz have no bias, as in flax."""

    def __init__(self, in_features, hidden_features):
        super().__init__()
        self.ir, self.iz, self.in_ = (nn.Linear(in_features, hidden_features) for _ in range(3))
        self.hr, self.hz = (nn.Linear(hidden_features, hidden_features, bias=False) for _ in range(2))
        self.hn = nn.Linear(hidden_features, hidden_features)

    def forward(self, carry, inputs):
        h = self.gru(
            self.ir(inputs) + self.hr(carry), self.iz(inputs) + self.hz(carry), self.in_(inputs), self.hn, carry
        )
        return h, h


class DenseGruInputFirst(DenseGru):
    def forward(self, inputs, carry):
        return super().forward(carry, inputs)


class WordsGru(Recurrent):
    """reset_x, reset_h, update_x, … : a loop whose state has no axis of layers."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.reset_x, self.reset_h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.update_x, self.update_h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.new_x, self.new_h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)

    def forward(self, x, h):
        def step(x, h):
            r, z = self.reset_x(x) + self.reset_h(h), self.update_x(x) + self.update_h(h)
            return self.gru(r, z, self.new_x(x), self.new_h, h)

        ys, (h,) = self.loop(step, x, (h,))
        return torch.stack(ys), h


class FoldedGru(Recurrent):
    """One bias for all gates, and b_hn of its own."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.weight_x, self.weight_h = parameter(3 * hidden_size, input_size), parameter(3 * hidden_size, hidden_size)
        self.bias_x, self.bias_n = parameter(3 * hidden_size), parameter(hidden_size)

    def forward(self, x, h):
        r, z, n = F.linear(x, self.weight_x, self.bias_x).chunk(3, 1)
        w_r, w_z, w_n = self.turned(self.weight_h).chunk(3)
        return self.gru(r + h @ w_r.T, z + h @ w_z.T, n, lambda h: h @ w_n.T + self.bias_n, h)


class GruOverCat(Recurrent):
    """r and z over [x, h], and n by two Linears."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        both = input_size + hidden_size
        self.reset_gate, self.update_gate = nn.Linear(both, hidden_size), nn.Linear(both, hidden_size)
        self.new_x, self.new_h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)

    def forward(self, x, h):
        both = torch.cat((x, h), 1)
        return self.gru(self.reset_gate(both), self.update_gate(both), self.new_x(x), self.new_h, h)


class NoBiasGru(Recurrent):
    """W_z, U_z, … without biases."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        for gate in "zrh":
            setattr(self, f"W_{gate}", nn.Linear(input_size, hidden_size, bias=False))
            setattr(self, f"U_{gate}", nn.Linear(hidden_size, hidden_size, bias=False))

    def forward(self, x, h):
        return self.gru(self.W_r(x) + self.U_r(h), self.W_z(x) + self.U_z(h), self.W_h(x), self.U_h, h)


class StackedGru(Recurrent):
    """torch's cells; a tuple with one h a layer goes in and comes out."""

    def __init__(self, embedding_dim, rnn_size, num_layers=1):
        super().__init__()
        sizes = [embedding_dim, *[rnn_size] * (num_layers - 1)]
        self.layers = nn.ModuleList(nn.GRUCell(size, rnn_size) for size in sizes)

    def forward(self, x, state):
        last = []
        for cell, h in zip(self.in_order(self.layers), state, strict=True):
            ys, (h,) = self.loop(cell, x, (h,))
            x = torch.stack(ys)
            last.append(h)
        return x, tuple(last)


class TorchsForm(Recurrent):
    """Nothing is other than in torch's module: its names, its layout, its state."""

    def __init__(self, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, bidirectional=False):
        super().__init__()
        self.gru_layers = nn.GRU(input_size, hidden_size, num_layers, bias, batch_first, 0.0, bidirectional)

    def forward(self, x, hx=None):
        y, h = self.gru_layers(x, hx)
        return y, h.flip(1) if self.has("items of h in reverse") else h


# The table.

UNKNOWN = (
    "tanh for sigmoid",
    "item 0 for all",
    "reset at step 2",
    "c never updated",
    "y shifted by a step",
    "last state of step L-2",
    "time reversed",
)
"""The faults that rnnscope has no name for; the name of each other one is the same."""


@dataclass(frozen=True)
class Case:
    """A right class, and the faults that can be planted in it.

    Args:
        name: of the class. kind: rnn, lstm or gru.
        words: what its adaptations say, each a word or two; () where there are none.
        faults: those planted in its twins.
        spec: fields of the Spec. own: fields of OwnSides.
        lengths, both_ways: what it can do besides.
    """

    name: str
    kind: str
    words: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    spec: dict[str, Any] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)
    lengths: bool = False
    both_ways: bool = False

    @property
    def asked(self) -> Spec:
        """The Spec: sizes that all differ, unless it says otherwise."""
        sizes = {"input_size": 3, "hidden_size": 4, "num_layers": 1} | self.spec
        if "lengths" not in sizes:
            sizes = {"seq_len": 5, "batch_size": 2} | sizes
        return Spec(kind=self.kind, **sizes)

    @property
    def twins(self) -> dict[str, str]:
        """The name of each wrong class, with its fault."""
        return {twin_name(self.name, fault): fault for fault in self.faults}


def twin_name(name: str, fault: str) -> str:
    return f"{name}_{re.sub(r'[^a-zA-Z0-9]+', '_', fault)}"


TWO: dict[str, Any] = {"num_layers": 2}
THREE: dict[str, Any] = {"num_layers": 3}
BOTH: dict[str, Any] = {"num_layers": 2, "bidirectional": True}
ZEROS: dict[str, Any] = {"h0": "zeros"}
BATCH_FIRST: dict[str, Any] = {"right_batch_first": True}

_STEP, _ONE_ROW, _LIST = "takes one step", "without the layer dim", "a list of steps"

# fmt: off
CASES = (
    Case("ElmanPairs", "rnn", (_ONE_ROW,), ("W_hh transposed", "b_hh dropped", "h0 ignored", "tanh and relu swapped")),
    Case("ElmanOverCat", "rnn", (_STEP,), ("tanh and relu swapped",)),
    Case("ElmanOverTac", "rnn", (_STEP,), ("tanh and relu swapped",)),
    Case("RawElman", "rnn", (_ONE_ROW, _LIST),
         ("W_hh transposed", "both biases dropped", "h0 ignored", "last state of step L-2")),
    Case("RowBiases", "rnn", (), ("W_hh transposed", "both biases dropped", "item 0 for all")),
    Case("ColumnWise", "rnn", (_STEP,), ("W_hh transposed",)),
    Case("Relu", "rnn", (), ("y shifted by a step",), {"nonlinearity": "relu"}),
    Case("Relu", "rnn", (), ("reset at step 2",)),
    Case("StackedElman", "rnn", (), ("layers in reverse order", "h0 ignored", "reset at step 2"), THREE),
    Case("StackedByItems", "rnn", ("(N, L, …)",), ("y shifted by a step", "item 0 for all"), TWO, BATCH_FIRST),
    Case("OverDimOne", "rnn", (), ("h0 ignored", "last state of step L-2"), TWO | {"batch_first": True}),
    Case("OverDimOne", "rnn", ("(N, L, …)",), ("batch and time swapped",), ZEROS | {"batch_size": 5}, BATCH_FIRST),
    Case("NoState", "rnn", (), ("layers in reverse order", "y shifted by a step"), THREE | ZEROS),
    Case("OnlyOutput", "rnn", ("gives y alone",), ("h0 ignored", "reset at step 2"), TWO),
    Case("HeadAtEachStep", "rnn", ("fc is left out",), ("h0 ignored", "time reversed")),
    Case("HeadAtTheEnd", "lstm", ("fc is left out",), ("time reversed",), ZEROS,
         {"right_batch_first": True, "right_args": ("num_classes=3",)}),
    Case("BothWaysElman", "rnn", (), ("backward outputs not flipped back", "h0 ignored"), BOTH, both_ways=True),
    Case("RawLstm", "lstm", (_ONE_ROW, _LIST),
         ("gates i f o g", "W_hh transposed", "both biases dropped", "c0 ignored", "forget bias of 1")),
    Case("LettersLstm", "lstm", ("(N, L, …)",), ("W_hh transposed", "tanh for sigmoid", "c never updated"),
         {}, BATCH_FIRST),
    Case("TorchsLetters", "lstm", (_STEP,), ("W_hh transposed", "b_hh dropped", "gates i f o g")),
    Case("GatesInWords", "lstm", (_STEP,), ("forget bias of 1", "coupled forget gate")),
    Case("GatesOverTac", "lstm", ("apart",), ("h0 ignored", "c0 ignored", "output gate before tanh")),
    Case("Kernels", "lstm", ("(N, L, …)",), ("gates i f o g", "both biases dropped", "W_hh transposed"),
         {}, BATCH_FIRST),
    Case("FusedOverCat", "lstm", (_STEP,), ("gates i f o g", "forget bias of 1")),
    Case("FusedOverTac", "lstm", (_STEP,), ("gates i f o g", "tanh for sigmoid")),
    Case("PairCell", "lstm", (_STEP,), ("gates i f o g", "W_hh transposed", "tanh missing on the cell state"),
         both_ways=True),
    Case("PairCell", "lstm", (_STEP, "4 of it are built"), ("gates i f o g", "forget bias of 1"), BOTH, both_ways=True),
    Case("GivesOutAndPair", "lstm", (_STEP,), ("coupled forget gate",), TWO, both_ways=True),
    Case("GivesThree", "lstm", (_STEP,), ("gates i f o g",)),
    Case("FoldedBias", "lstm", (), ("both biases dropped", "gates i f o g", "item 0 for all")),
    Case("BiasOnX", "lstm", (_STEP,), ("gates i f o g", "forget bias of 1")),
    Case("NoBias", "lstm", (_STEP,), ("W_hh transposed", "gates i f o g"), {"bias": False}),
    Case("StackedLstm", "lstm", (), ("layers in reverse order", "c0 ignored", "c never updated"), THREE),
    Case("ListOfPairs", "lstm", ("one (h, c) a layer",), ("h0 ignored", "c0 ignored"), TWO),
    Case("TwoLists", "lstm", ("a list",), ("h0 ignored", "reset at step 2"), TWO),
    Case("TwoArguments", "lstm", ("apart",), ("h0 ignored", "c0 ignored", "last state of step L-2"), TWO),
    Case("ItemsFirst", "lstm", ("(N, D·K, H)",), ("h0 ignored", "item 0 for all"), TWO, BATCH_FIRST),
    Case("StateInDict", "lstm", ("a dict",), ("c0 ignored", "y shifted by a step"), TWO),
    Case("GivesNamedTuple", "lstm", ("h and c apart",), ("last state of step L-2",), TWO),
    Case("GivesDataclass", "lstm", ("h and c apart",), ("last state of step L-2",), TWO),
    Case("GivesDict", "lstm", ("h and c apart",), ("y shifted by a step",), TWO),
    Case("GivesStepsInAList", "lstm", (_LIST,), ("y shifted by a step", "h0 ignored"), TWO),
    Case("OneStepOfAll", "lstm", (_STEP,), ("layers in reverse order",), THREE),
    Case("OneStepOfAllRows", "gru", (_STEP,), ("layers in reverse order",), THREE),
    Case("Positional", "lstm", (), ("h0 ignored",)),
    Case("HiddenFirst", "lstm", ("depth",), ("c0 ignored",), TWO),
    Case("TakesConfig", "lstm", ("hidden_dim",), ("h0 ignored",), TWO),
    Case("TakesDict", "lstm", (), ("h0 ignored",), TWO),
    Case("TakesDataclass", "lstm", (), ("layers in reverse order",), THREE),
    Case("NeedsMore", "lstm", (), ("h0 ignored",), TWO, {"right_args": ("flavour=vanilla",)}),
    Case("InnerBatchFirst", "lstm", ("(N, L, …)",), ("h0 ignored",), TWO),
    Case("SaysBatchFirst", "lstm", ("batch_first says",), ("c0 ignored", "y shifted by a step")),
    Case("Directions", "lstm", (), ("backward outputs not flipped back", "backward direction fed forward"), BOTH),
    Case("ForwardThenBackward", "lstm", (), ("backward outputs not flipped back", "c0 ignored"), BOTH),
    Case("GruBothWays", "gru", (), ("update gate inverted", "backward outputs not flipped back"), BOTH, both_ways=True),
    Case("Unpacks", "lstm", (), ("lengths ignored but in y", "c0 ignored"), TWO | {"lengths": (5, 2, 4)}, lengths=True),
    Case("PackedInside", "gru", (), ("h0 ignored",), TWO, lengths=True, both_ways=True),
    Case("PairGru", "gru", (_STEP,),
         ("reset before the matmul", "update gate inverted", "W_hh transposed", "gates z r n")),
    Case("PairGru", "gru", (_STEP,), ("reset before the matmul", "reset state kept"), BOTH, both_ways=True),
    Case("GruOutAndH", "gru", (_STEP,), ("update gate inverted",), TWO),
    Case("OneOfATuple", "gru", (_STEP, "a tuple of one"), ("reset before the matmul",)),
    Case("RawGru", "gru", (_STEP,), ("reset before the matmul", "W_hh transposed")),
    Case("RawGruN", "gru", (_STEP,), ("update gate inverted", "W_hh transposed")),
    Case("RawGruC", "gru", (_STEP,), ("gates z r n", "tanh for sigmoid")),
    Case("DenseGruInputFirst", "gru", (_STEP,), ("reset before the matmul", "update gate inverted")),
    Case("WordsGru", "gru", (_ONE_ROW,), ("reset before the matmul", "h0 ignored", "update gate inverted")),
    Case("FoldedGru", "gru", (_STEP,), ("reset before the matmul", "W_hh transposed", "gates z r n")),
    Case("GruOverCat", "gru", (_STEP,), ("update gate inverted", "reset before the matmul")),
    Case("NoBiasGru", "gru", (_STEP,), ("reset before the matmul", "update gate inverted"), {"bias": False}),
    Case("StackedGru", "gru", ("a list with one (N, H) a layer",), ("layers in reverse order", "h0 ignored"), THREE),
    Case("TorchsForm", "gru", (), ("items of h in reverse",), BOTH, lengths=True, both_ways=True),
)
# fmt: on

for _case in CASES:
    for _name, _fault in _case.twins.items():
        globals()[_name] = type(_name, (globals()[_case.name],), {"fault": _fault})
