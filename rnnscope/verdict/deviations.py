"""Named deviations from torch's convention: what hand-written and converted networks do otherwise, as one table.

Applied to the equations a deviation is a mutant (would this check notice it?) and a hypothesis (is this what a wrong
subject does?). Each does what torch does but for one thing. The table stands at the end of the file.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

from rnnscope.network.equations import Layer, State, Step, affine, rnn_step, walk
from rnnscope.network.shapes import GATES
from rnnscope.network.weights import Input, Weights
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import Around, Formula, Run, formula_of, run_equations

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


Applies = Callable[[Spec], bool]


@dataclass(frozen=True)
class Deviation:
    """One thing done otherwise than in torch; None where it leaves that part as it is.

    Args:
        name: short, for lists.
        does: what a subject does that has it, after the subject's name; what torch does stands behind a semicolon.
        applies: whether it makes sense for a Spec.
        weights, given: changed before the equations run.
        formula: the step that is computed instead, for a Spec.
        walker: walks the steps instead of `walk`.
        outputs: changed when the equations have run.
    """

    name: str
    does: str
    applies: Applies = lambda spec: True
    weights: Callable[[Spec, Weights], Weights] | None = None
    given: Callable[[Spec, Input], Input] | None = None
    formula: Callable[[Spec], Formula] | None = None
    walker: Callable[..., tuple[Tensor, State]] = walk
    outputs: Callable[[Spec, Run], Run] | None = None

    def run(self, spec: Spec, weights: Weights, given: Input, around: Around | None = None) -> Run:
        """The equations with this deviation: a subject like any other."""
        own = {name: each.clone().requires_grad_(torch.is_grad_enabled()) for name, each in weights.items()}
        changed = own if self.weights is None else self.weights(spec, own)
        given = given if self.given is None else self.given(spec, given)
        formula = None if self.formula is None else self.formula(spec)
        run = run_equations(spec, changed, given, formula, around, self.walker)
        run = run if self.outputs is None else self.outputs(spec, run)
        return Run(run.y, run.state, own)


def deviations(spec: Spec) -> Iterator[Deviation]:
    """Those that make sense for a Spec."""
    return (each for each in DEVIATIONS if each.applies(spec))


def _gate_orders() -> Iterator[Deviation]:
    for kind in ("lstm", "gru"):
        torchs = GATES[kind]
        for order in map("".join, permutations(torchs)):
            if order != torchs:
                yield Deviation(
                    f"gates {' '.join(order)}",
                    f"stacks its gates {' '.join(order)}; torch stacks {' '.join(torchs)}",
                    applies=lambda spec, kind=kind: spec.kind == kind,  # type: ignore[misc]
                    weights=rows_in_order(order),
                )


def _is(*kinds: str) -> Applies:
    return lambda spec: spec.kind in kinds


def _can_swap_batch_and_time(spec: Spec) -> bool:
    return not spec.unbatched and spec.lengths is None and (spec.seq_len == spec.batch_size or spec.h0 == "zeros")


DEVIATIONS: tuple[Deviation, ...] = (
    *_gate_orders(),
    Deviation(
        "b_ih dropped",
        "leaves out b_ih; torch adds both biases",
        lambda spec: spec.bias,
        weights=without("bias_ih"),
    ),
    Deviation(
        "b_hh dropped",
        "leaves out b_hh; torch adds both biases",
        lambda spec: spec.bias,
        weights=without("bias_hh"),
    ),
    Deviation(
        "both biases dropped",
        "leaves out b_ih and b_hh; torch adds both",
        lambda spec: spec.bias,
        weights=without("bias"),
    ),
    Deviation(
        "b_ih and b_hh swapped",
        "takes b_hh for b_ih and b_ih for b_hh",
        lambda spec: spec.bias,
        weights=biases_swapped,
    ),
    Deviation(
        "W_hh transposed",
        "multiplies with the transpose of W_hh; torch computes W_hh·h",
        lambda spec: not spec.proj_size,
        weights=w_hh_transposed,
    ),
    Deviation(
        "layers in reverse order",
        "takes the weights of its layers of one shape from the last to the first; torch starts with the lowest",
        lambda spec: len(layers_alike(spec)) > 1,
        weights=layers_reversed,
    ),
    Deviation("h0 ignored", "starts from zeros; torch starts from h0", given=state_ignored(0)),
    Deviation(
        "c0 ignored",
        "starts its cell state from zeros; torch starts from c0",
        _is("lstm"),
        given=state_ignored(1),
    ),
    Deviation(
        "h0 and c0 ignored",
        "starts from zeros in h and c; torch starts from hx",
        _is("lstm"),
        given=state_ignored(0, 1),
    ),
    Deviation(
        "h0 and c0 swapped",
        "takes hx for (c0, h0); torch takes (h0, c0)",
        lambda spec: spec.kind == "lstm" and not spec.proj_size,
        given=lambda spec, given: Input(given.x, given.state[::-1]),
    ),
    Deviation(
        "tanh and relu swapped",
        "has the other nonlinearity: relu for tanh, or tanh for relu",
        formula=nonlinearity_swapped,
    ),
    Deviation(
        "tanh missing on the cell state",
        "gives o·c for h; torch gives o·tanh(c)",
        _is("lstm"),
        formula=lambda spec: lstm_without_tanh,
    ),
    Deviation(
        "output gate before tanh",
        "gives tanh(o·c) for h; torch gives o·tanh(c)",
        _is("lstm"),
        formula=lambda spec: lstm_gated_before_tanh,
    ),
    Deviation(
        "forget bias of 1",
        "adds 1 to the forget gate; torch adds its biases alone",
        _is("lstm"),
        formula=lambda spec: lstm_forget_bias,
    ),
    Deviation(
        "projection left out",
        "gives the first P features of o·tanh(c) for h; torch multiplies with W_hr",
        lambda spec: spec.proj_size > 0,
        formula=lambda spec: lstm_unprojected,
    ),
    Deviation(
        "reset before the matmul",
        "resets h before it multiplies with W_hn; torch resets the product",
        _is("gru"),
        formula=lambda spec: gru_reset_before,
    ),
    Deviation(
        "update gate inverted",
        "gives z·n + (1 - z)·h; torch gives (1 - z)·n + z·h",
        _is("gru"),
        formula=lambda spec: gru_inverted,
    ),
    Deviation(
        "reset state kept",
        "mixes n with r·h; torch mixes it with h",
        _is("gru"),
        formula=lambda spec: gru_reset_kept,
    ),
    Deviation(
        "new hidden used too early",
        "takes the new h for the one before the step, and takes the step once more",
        formula=too_early,
    ),
    Deviation(
        "layer fed by the previous step",
        "feeds each layer the h that the layer below had a step before; torch feeds it the h of the same step",
        lambda spec: spec.num_layers > 1 and not spec.bidirectional,
        walker=layer_by_layer(fed_late),
    ),
    Deviation(
        "backward outputs not flipped back",
        "leaves the backward half of y in the order in which it was walked; torch puts it in the order of time",
        lambda spec: spec.bidirectional,
        walker=layer_by_layer(not_flipped_back),
    ),
    Deviation(
        "backward direction fed forward",
        "walks its backward direction from the first step on; torch starts at the last",
        lambda spec: spec.bidirectional,
        walker=layer_by_layer(fed_forward),
    ),
    Deviation(
        "directions swapped in y",
        "puts the backward half of y first; torch puts the forward half first",
        lambda spec: spec.bidirectional,
        outputs=y_directions_swapped,
    ),
    Deviation(
        "directions swapped in h",
        "puts the backward row of each layer first; torch puts the forward row first",
        lambda spec: spec.bidirectional,
        outputs=rows_of_state(direction_swapped),
    ),
    Deviation(
        "directions swapped in y and h",
        "puts the backward direction first in y and h; torch puts the forward one first",
        lambda spec: spec.bidirectional,
        outputs=both_swapped,
    ),
    Deviation(
        "h ordered direction-major",
        "stacks the forward rows of h before all backward ones; torch stacks them layer by layer",
        lambda spec: spec.bidirectional and spec.num_layers > 1,
        outputs=rows_of_state(direction_major),
    ),
    Deviation(
        "batch and time swapped",
        "walks along N instead of L",
        _can_swap_batch_and_time,
        walker=batch_and_time_swapped,
    ),
    Deviation(
        "lengths ignored",
        "walks on through the padding; torch stops at each item's own end",
        lambda spec: spec.lengths is not None and min(spec.lengths) < spec.seq_len,
        walker=lengths_ignored,
    ),
)
