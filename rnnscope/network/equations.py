"""The formulas: one time step of RNN, LSTM and GRU in the letters of torch's documentation, and nothing else.

No layers, no directions, no loop over time: see walker.py. A product with a weight is written as `x @ W.T`, so that a
row of W belongs to a unit, and the rows of several gates stand in one matrix, in the order that the names of the
unpacked chunks give.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rnnscope.network.dims import GATES
from rnnscope.network.walker import State


@dataclass(frozen=True)
class Layer:
    """The weights of one layer in one direction. G is 1 (RNN), 4 (LSTM) or 3 (GRU).

    W_ih: (G·H, H_in), or (G·H, D·H_out) above the first layer. W_hh: (G·H, H_out). b_ih, b_hh: (G·H) or None.
    W_hr: (P, H), for an LSTM with a projection, or None.
    """

    W_ih: Tensor
    W_hh: Tensor
    b_ih: Tensor | None = None
    b_hh: Tensor | None = None
    W_hr: Tensor | None = None


def rnn_step(w: Layer, x: Tensor, state: State, nonlinearity: str = "tanh") -> State:
    """h' = tanh(W_ih·x + b_ih + W_hh·h + b_hh), or relu instead of tanh.

    Args:
        x: (N, H_in).
        state: (h,), h: (N, H).

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html
    """
    (h,) = state
    a = affine(x, w.W_ih, w.b_ih) + affine(h, w.W_hh, w.b_hh)
    return (torch.tanh(a) if nonlinearity == "tanh" else torch.relu(a),)


def lstm_step(w: Layer, x: Tensor, state: State) -> State:
    """i, f, o = σ(…), g = tanh(…), c' = f·c + i·g, h' = o·tanh(c'), and W_hr·h' with a projection.

    Args:
        x: (N, H_in).
        state: (h, c), h: (N, H_out), c: (N, H).

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html
    """
    _, c = state
    i, f, g, o = lstm_gates(w, x, state)
    c = f * c + i * g
    h = o * torch.tanh(c)
    return (h if w.W_hr is None else h @ w.W_hr.T), c


def lstm_gates(w: Layer, x: Tensor, state: State) -> tuple[Tensor, ...]:
    """i, f, g, o: (N, H) each: the input, forget, cell and output gate.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html
    """
    i, f, g, o = (affine(x, w.W_ih, w.b_ih) + affine(state[0], w.W_hh, w.b_hh)).chunk(4, -1)
    return torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)


def gru_step(w: Layer, x: Tensor, state: State) -> State:
    """r, z = σ(…), n = tanh(W_in·x + b_in + r·(W_hn·h + b_hn)), h' = (1 − z)·n + z·h.

    The reset gate acts after the product with W_hn, as in torch and cuDNN, not before it, as in the paper.

    Args:
        x: (N, H_in).
        state: (h,), h: (N, H).

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html
    """
    (h,) = state
    _, z, n = gru_gates(w, x, state)
    return ((1 - z) * n + z * h,)


def gru_gates(w: Layer, x: Tensor, state: State) -> tuple[Tensor, ...]:
    """r, z, n: (N, H) each: the reset, update and new gate.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html
    """
    r_x, z_x, n_x = affine(x, w.W_ih, w.b_ih).chunk(3, -1)
    r_h, z_h, n_h = affine(state[0], w.W_hh, w.b_hh).chunk(3, -1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    return r, z, torch.tanh(n_x + r * n_h)


def gates_of(kind: str, w: Layer, x: Tensor, state: State) -> dict[str, Tensor]:
    """The gates of a step by their letters, in torch's order; an RNN has none."""
    found = {"lstm": lstm_gates, "gru": gru_gates}.get(kind)
    return dict(zip(GATES[kind], found(w, x, state), strict=True)) if found else {}


def affine(x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
    """W·x + b for each row of x."""
    product = x @ W.T
    return product if b is None else product + b
