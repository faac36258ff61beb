"""The parts of a recurrent network as people write them otherwise: weights, steps, walks and outputs.

Each does what torch does but for one thing. What each is called, and where it applies, is in conventions.py.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from rnnscope.network.dims import GATES
from rnnscope.network.equations import Layer, affine, rnn_step
from rnnscope.network.walker import State, Step, walk
from rnnscope.network.weights import Input, Weights
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import Formula, Run, formula_of

Layers = list[list[Step]]
Walked = tuple[Tensor, State]


# Weights.


def rows_in_order(order: str) -> Callable[[Spec, Weights], Weights]:
    """Rows read as if they were stacked in this order."""

    def change(spec: Spec, weights: Weights) -> Weights:
        places = [order.index(gate) for gate in GATES[spec.kind]]
        return {
            name: each
            if name.startswith("weight_hr")
            else torch.cat([each.chunk(len(order))[place] for place in places])
            for name, each in weights.items()
        }

    return change


def without(base: str) -> Callable[[Spec, Weights], Weights]:
    return lambda spec, weights: {name: each * 0 if name.startswith(base) else each for name, each in weights.items()}


def biases_swapped(spec: Spec, weights: Weights) -> Weights:
    other = {"bias_ih": "bias_hh", "bias_hh": "bias_ih"}
    return {
        name: weights[name.replace(name[:7], other[name[:7]])] if name[:7] in other else each
        for name, each in weights.items()
    }


def w_hh_transposed(spec: Spec, weights: Weights) -> Weights:
    gates = len(GATES[spec.kind]) or 1
    return {
        name: torch.cat([block.T for block in each.chunk(gates)]) if name.startswith("weight_hh") else each
        for name, each in weights.items()
    }


def layers_alike(spec: Spec) -> range:
    """The layers whose weights have the same shapes."""
    return range(0 if spec.input_size == spec.directions * spec.output_size else 1, spec.num_layers)


def layers_reversed(spec: Spec, weights: Weights) -> Weights:
    layers = layers_alike(spec)
    other = dict(zip(layers, reversed(layers), strict=True))

    def source(name: str) -> str:
        base, _, rest = name.partition("_l")
        layer, *reverse = rest.split("_")
        return "_".join([f"{base}_l{other.get(int(layer), int(layer))}", *reverse])

    return {name: weights[source(name)] for name in weights}


# Input.


def state_ignored(*ignored: int) -> Callable[[Spec, Input], Input]:
    """Zeros for h0, which is 0, and for c0, which is 1."""
    return lambda spec, given: Input(
        given.x, tuple(torch.zeros_like(each) if n in ignored else each for n, each in enumerate(given.state))
    )


# Steps.


def nonlinearity_swapped(spec: Spec) -> Formula:
    if spec.kind == "rnn":
        other = "relu" if spec.nonlinearity == "tanh" else "tanh"
        return lambda w, x, state: rnn_step(w, x, state, other)
    return lstm_with_relu if spec.kind == "lstm" else gru_with_relu


def _lstm(
    w: Layer, x: Tensor, state: State, act: Callable[[Tensor], Tensor], forget: float = 0.0
) -> tuple[Tensor, Tensor]:
    """σ(o) and c'."""
    h, c = state
    i, f, g, o = (affine(x, w.W_ih, w.b_ih) + affine(h, w.W_hh, w.b_hh)).chunk(4, -1)
    return torch.sigmoid(o), torch.sigmoid(f + forget) * c + torch.sigmoid(i) * act(g)


def _projected(w: Layer, h: Tensor) -> Tensor:
    return h if w.W_hr is None else h @ w.W_hr.T


def lstm_with_relu(w: Layer, x: Tensor, state: State) -> State:
    o, c = _lstm(w, x, state, torch.relu)
    return _projected(w, o * torch.relu(c)), c


def lstm_without_tanh(w: Layer, x: Tensor, state: State) -> State:
    o, c = _lstm(w, x, state, torch.tanh)
    return _projected(w, o * c), c


def lstm_gated_before_tanh(w: Layer, x: Tensor, state: State) -> State:
    o, c = _lstm(w, x, state, torch.tanh)
    return _projected(w, torch.tanh(o * c)), c


def lstm_forget_bias(w: Layer, x: Tensor, state: State) -> State:
    o, c = _lstm(w, x, state, torch.tanh, forget=1.0)
    return _projected(w, o * torch.tanh(c)), c


def lstm_unprojected(w: Layer, x: Tensor, state: State) -> State:
    o, c = _lstm(w, x, state, torch.tanh)
    return (o * torch.tanh(c))[:, : len(state[0][0])], c


def _gru(w: Layer, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    """r, z, and the two parts of n: W_in·x + b_in and W_hn·h + b_hn."""
    r_x, z_x, n_x = affine(x, w.W_ih, w.b_ih).chunk(3, -1)
    r_h, z_h, n_h = affine(h, w.W_hh, w.b_hh).chunk(3, -1)
    return torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h), n_x, n_h


def gru_with_relu(w: Layer, x: Tensor, state: State) -> State:
    r, z, n_x, n_h = _gru(w, x, state[0])
    return ((1 - z) * torch.relu(n_x + r * n_h) + z * state[0],)


def gru_reset_before(w: Layer, x: Tensor, state: State) -> State:
    r, z, n_x, _ = _gru(w, x, state[0])
    n_h = affine(r * state[0], w.W_hh, w.b_hh).chunk(3, -1)[2]
    return ((1 - z) * torch.tanh(n_x + n_h) + z * state[0],)


def gru_inverted(w: Layer, x: Tensor, state: State) -> State:
    r, z, n_x, n_h = _gru(w, x, state[0])
    return (z * torch.tanh(n_x + r * n_h) + (1 - z) * state[0],)


def gru_reset_kept(w: Layer, x: Tensor, state: State) -> State:
    r, z, n_x, n_h = _gru(w, x, state[0])
    return ((1 - z) * torch.tanh(n_x + r * n_h) + z * r * state[0],)


def too_early(spec: Spec) -> Formula:
    step = formula_of(spec)
    return lambda w, x, state: step(w, x, (step(w, x, state)[0], *state[1:]))


# The walk.


def layer_by_layer(change: Callable[..., tuple[Tensor, Tensor, State]]) -> Callable[..., tuple[Tensor, State]]:
    """A walk in which `change` walks each layer: it gives y, what goes up instead of y, and the last state."""

    def walker(
        layers: Layers,
        x: Tensor,
        initial: State,
        real: Tensor | None = None,
        between: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, State]:
        last: list[State] = []
        for number, layer in enumerate(layers):
            rows = slice(number * len(layer), (number + 1) * len(layer))
            y, up, state = change(layer, x, tuple(each[rows] for each in initial), real)
            x = up if between is None else between(up)
            last.append(state)
        return y, tuple(map(torch.cat, zip(*last, strict=True)))

    return walker


def fed_late(layer: list[Step], x: Tensor, initial: State, real: Tensor | None) -> tuple[Tensor, Tensor, State]:
    y, last = walk([layer], x, initial, real)
    return y, torch.cat((initial[0], y[:-1])), last


def not_flipped_back(layer: list[Step], x: Tensor, initial: State, real: Tensor | None) -> tuple[Tensor, Tensor, State]:
    y, last = walk([layer], x, initial, real)
    forward, backward = y.chunk(2, -1)
    y = torch.cat((forward, backward.flip(0)), -1)
    return y, y, last


def fed_forward(layer: list[Step], x: Tensor, initial: State, real: Tensor | None) -> tuple[Tensor, Tensor, State]:
    halves, last = zip(
        *(walk([[step]], x, tuple(each[d : d + 1] for each in initial), real) for d, step in enumerate(layer)),
        strict=True,
    )
    y = torch.cat(halves, -1)
    return y, y, tuple(map(torch.cat, zip(*last, strict=True)))


def lengths_ignored(
    layers: Layers, x: Tensor, initial: State, real: Tensor | None, between: None
) -> tuple[Tensor, State]:
    return walk(layers, x, initial, None, between)


def batch_and_time_swapped(
    layers: Layers, x: Tensor, initial: State, real: None, between: None
) -> tuple[Tensor, State]:
    if x.shape[0] != x.shape[1]:  # then h0 is zeros, or the shapes would not fit
        initial = tuple(each.new_zeros(len(each), x.shape[0], each.shape[2]) for each in initial)
    y, last = walk(layers, x.transpose(0, 1), initial, real, between)
    return y.transpose(0, 1), last


# Outputs.


def y_directions_swapped(spec: Spec, run: Run) -> Run:
    return Run(torch.cat(run.y.chunk(2, -1)[::-1], -1), run.state)


def both_swapped(spec: Spec, run: Run) -> Run:
    return rows_of_state(direction_swapped)(spec, y_directions_swapped(spec, run))


def rows_of_state(order: Callable[[Spec], list[int]]) -> Callable[[Spec, Run], Run]:
    return lambda spec, run: Run(run.y, tuple(each[order(spec)] for each in run.state))


def direction_swapped(spec: Spec) -> list[int]:
    return [row ^ 1 for row in range(2 * spec.num_layers)]


def direction_major(spec: Spec) -> list[int]:
    return [*range(0, 2 * spec.num_layers, 2), *range(1, 2 * spec.num_layers, 2)]
