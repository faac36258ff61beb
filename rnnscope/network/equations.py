"""The formulas: one time step of RNN, LSTM and GRU in the letters of torch's documentation, and the walk over steps.

A product with a weight is written as `x @ W.T`, so that a row of W belongs to a unit. The rows of the gates stand in
one matrix, in the order in which they are unpacked from its chunks. The walk serves cells and equations alike: it knows
neither weights nor gates, and its sequences start with L. Its callers lay out batch_first and unbatched input.

Sources: https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html, and torch.nn.LSTM.html and torch.nn.GRU.html
beside it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rnnscope.network.shapes import GATES
from rnnscope.pages.progress import walking

State = tuple[Tensor, ...]
"""(h,), or (h, c) for an LSTM. h: (N, H_out), c: (N, H)."""

Step = Callable[[Tensor, State], State]
"""One time step of one layer in one direction: x: (N, H_in) and the state before it give the state after it."""

Steps = Sequence[Tensor]
"""A sequence of L tensors (N, ·), one a step."""


def walk(
    layers: Sequence[Sequence[Step]],
    x: Tensor,
    initial: State,
    real: Tensor | None = None,
    between: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, State]:
    """Walk x through all layers.

    Args:
        layers: the steps of each layer: one, or the forward and the backward one.
        x: (L, N, H_in).
        initial: h0: (D·K, N, H_out), and c0: (D·K, N, H) for an LSTM.
        real: (L, N, 1), False where an item has ended and x is padding. There y is 0 and the state stays what it was.
            So the last state is each item's own, and the backward direction starts at each item's own end.
        between: applied to every step that goes up from one layer to the next.

    Returns:
        y: (L, N, D·H_out), and the last state: h: (D·K, N, H_out), and c: (D·K, N, H) for an LSTM.
    """
    steps: Steps = x.unbind(0)
    masks = None if real is None else real.unbind(0)
    # Where numbers stand in memory decides how products are rounded. So each row gets a place of its own, as later
    # states have. Otherwise a walk that goes on from the state of another would not give what one walk gives.
    rows = iter(zip(*([row.clone() for row in each.unbind(0)] for each in initial), strict=True))
    last: list[State] = []
    tell = walking(len(steps) * sum(map(len, layers)))
    for number, directions in enumerate(layers):
        if number and between is not None:
            steps = [between(step) for step in steps]
        steps, states = _walk_layer(directions, steps, rows, masks, tell)
        last += states
    return torch.stack(tuple(steps)), tuple(torch.stack(each) for each in zip(*last, strict=True))


def _walk_layer(
    directions: Sequence[Step],
    steps: Steps,
    rows: Iterator[State],
    masks: Steps | None,
    tell: Callable[[Steps], object],
) -> tuple[Steps, list[State]]:
    """What goes up from a layer at each step, and the last state of each direction."""
    halves, last = [], []
    for reverse, step in enumerate(directions):
        half, state = _walk_direction(step, steps, next(rows), masks, bool(reverse), tell)
        halves.append(half)
        last.append(state)
    joined = halves[0] if len(halves) == 1 else [torch.cat(pair, -1) for pair in zip(*halves, strict=True)]
    if masks is not None:
        joined = [torch.where(mask, step, 0) for mask, step in zip(masks, joined, strict=True)]
    return joined, last


def _walk_direction(
    step: Step, steps: Steps, state: State, masks: Steps | None, reverse: bool, tell: Callable[[Steps], object]
) -> tuple[list[Tensor], State]:
    """h after each step, in the order of time in either direction, and the state after the last step walked."""
    order = -1 if reverse else 1
    walked: list[Tensor] = []
    tell(walked)
    every_mask = [None] * len(steps) if masks is None else masks
    for x, mask in zip(steps[::order], every_mask[::order], strict=True):
        new = step(x, state)
        state = new if mask is None else tuple(torch.where(mask, *pair) for pair in zip(new, state, strict=True))
        walked.append(state[0])
    tell(())  # otherwise these states would be kept
    return walked[::order], state


def h_before(h: Tensor, h0: Tensor, reverse: bool, real: Tensor | None = None) -> Tensor:
    """h before each step of a direction, from h after each: (L, N, H_out), and h0: (N, H_out); real is as in `walk`."""
    if not reverse:
        return torch.cat((h0[None], h[:-1]))
    later = torch.cat((h[1:], h0[None]))
    # The last step has no later one: there it does not matter what roll says, since `later` is h0 already.
    return later if real is None else torch.where(real.roll(-1, 0), later, h0)


@dataclass(frozen=True, eq=False, repr=False)
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
    """h' = tanh(W_ih·x + b_ih + W_hh·h + b_hh), or relu instead of tanh; x: (N, H_in), h: (N, H)."""
    (h,) = state
    a = affine(x, w.W_ih, w.b_ih) + affine(h, w.W_hh, w.b_hh)
    return (torch.tanh(a) if nonlinearity == "tanh" else torch.relu(a),)


def lstm_step(w: Layer, x: Tensor, state: State) -> State:
    """c' = f·c + i·g, h' = o·tanh(c'), and W_hr·h' with a projection; x: (N, H_in), h: (N, H_out), c: (N, H)."""
    i, f, g, o = lstm_gates(w, x, state)
    c = f * state[1] + i * g
    h = o * torch.tanh(c)
    return (h if w.W_hr is None else h @ w.W_hr.T), c


def lstm_gates(w: Layer, x: Tensor, state: State) -> tuple[Tensor, ...]:
    """i, f, o = σ(W_i·x + b_i + W_h·h + b_h), g = tanh(likewise): (N, H) each: input, forget, cell and output gate."""
    i, f, g, o = (affine(x, w.W_ih, w.b_ih) + affine(state[0], w.W_hh, w.b_hh)).chunk(4, -1)
    return torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)


def gru_step(w: Layer, x: Tensor, state: State) -> State:
    """h' = (1 − z)·n + z·h; x: (N, H_in), h: (N, H)."""
    _, z, n = gru_gates(w, x, state)
    return ((1 - z) * n + z * state[0],)


def gru_gates(w: Layer, x: Tensor, state: State) -> tuple[Tensor, ...]:
    """r, z = σ(W_i·x + b_i + W_h·h + b_h), n = tanh(W_in·x + b_in + r·(W_hn·h + b_hn)): (N, H) each.

    They are the reset, update and new gate. The reset gate acts after the product with W_hn, as in torch and cuDNN, not
    before it, as in the paper.
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
