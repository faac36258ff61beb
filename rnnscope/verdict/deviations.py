"""Named deviations from torch's convention: what hand-written and converted networks do otherwise, as one table.

A deviation that is applied to the equations is a mutant: would this check notice it? It is a hypothesis too: is this
what a wrong subject does? Each does what torch does but for one thing. The table stands at the end of the file.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations, permutations
from operator import attrgetter

import torch
from torch import Tensor, nn

from rnnscope.errors import RnnscopeError
from rnnscope.help import deviations as words
from rnnscope.help.explain import named_deviation
from rnnscope.network.equations import Layer, State, Step, affine, gru_gates, lstm_gates, rnn_step, walk
from rnnscope.network.shapes import GATES, Place, network_in_words
from rnnscope.network.weights import Input, Weights
from rnnscope.spec.flags import Flag
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import Around, Formula, Run, formula_of, layer_weights, run_equations

ChangeWeights = Callable[[Spec, Weights], Weights]

ChangeInput = Callable[[Spec, Input], Input]

ChangeRun = Callable[[Spec, Run], Run]

_WORDS = {each.name: each for each in words.DEVIATIONS}

Layers = list[list[Step]]

Gates = tuple[Tensor, ...]

Walker = Callable[..., tuple[Tensor, State]]
"""`walk`, or another function that walks the steps."""


@dataclass(frozen=True, eq=False, repr=False)
class Deviation:
    """One thing done otherwise than in torch.

    Args:
        name: that of its entry among the words for people.
        applies: whether it makes sense for a Spec.
        weights, given: change what goes in.
        formula: the step that is computed for a Spec.
        walker: walks the steps.
        outputs: changes what comes out.
        parts: the two that it is made of; () where it is a row of the table.
    """

    name: str
    applies: Callable[[Spec], bool] = lambda spec: True
    weights: ChangeWeights = lambda spec, weights: weights
    given: ChangeInput = lambda spec, given: given
    formula: Callable[[Spec], Formula] = formula_of
    walker: Walker = walk
    outputs: ChangeRun = lambda spec, run: run
    parts: tuple["Deviation", ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Its name, or those of both its parts."""
        return tuple(each.name for each in self.parts) or (self.name,)

    @property
    def does(self) -> str:
        """What a side that has it does, then a semicolon and what torch does; of two what torch does is in brackets."""
        return ", and ".join(map(in_brackets, (each.does for each in self.parts))) or _WORDS[self.name].does

    def run(self, spec: Spec, weights: Weights, given: Input, around: Around | None = None) -> Run:
        """The equations with this deviation: a subject like any other."""
        own = {name: each.clone().requires_grad_(torch.is_grad_enabled()) for name, each in weights.items()}
        changed, given = self.weights(spec, own), self.given(spec, given)
        run = self.outputs(spec, run_equations(spec, changed, given, self.formula(spec), around, self.walker))
        return Run(run.y, run.state, own)


def named(names: tuple[str, ...]) -> Deviation:
    """A row of the table by its name, or two at once by both."""
    rows = [next(each for each in DEVIATIONS if each.name == name) for name in names]
    return rows[0] if len(rows) == 1 else composed(*rows)


def gate_of(deviation: Deviation, spec: Spec, weights: Weights, at: Place, x: Tensor, state: State) -> str | None:
    """The one gate that a deviation has otherwise in a step of a layer; None where that is none, or not all of it.

    Args:
        at: the layer and the direction.
        x, state: of any steps of that layer, in float64.
    """
    parts = deviation.parts or (deviation,)
    if any(
        each.given is not Deviation.given or each.walker is not walk or each.outputs is not Deviation.outputs
        for each in parts
    ):
        return None
    step, torchs = deviation.formula(spec), TORCHS[spec.kind]
    step = torchs if step is formula_of(spec) else step
    if not isinstance(step, Gated):
        return None
    own, w = (layer_weights(spec, each, at.layer, at.direction) for each in (deviation.weights(spec, weights), weights))
    gates = step.gates(own, x, state)
    expected = torchs.after(w, state, gates)
    if not all(map(torch.allclose, step.after(own, state, gates), expected)):  # something else is off, too
        return None
    others = zip(GATES[spec.kind], gates, torchs.gates(w, x, state), strict=True)
    off = [gate for gate, each, other in others if not torch.allclose(each, other)]
    return off[0] if len(off) == 1 else None


def in_brackets(does: str) -> str:
    """What a side does, with what torch does in brackets."""
    wrong, semicolon, right = does.partition("; ")
    return f"{wrong} ({right})" if semicolon else wrong


def deviations(spec: Spec) -> Iterator[Deviation]:
    """Those that make sense for a Spec."""
    return (each for each in DEVIATIONS if each.applies(spec))


def pairs_of_deviations(spec: Spec) -> Iterator[Deviation]:
    """Every two that make sense for a Spec and can be had at once."""
    return (composed(*both) for both in combinations(deviations(spec), 2) if can_be_composed(*both))


def can_be_composed(first: Deviation, second: Deviation) -> bool:
    """Whether both can be had at once: there is one formula and one walker. Two orders of the gates are a third one."""
    formulas = sum(each.formula is not formula_of for each in (first, second))
    walkers = sum(each.walker is not walk for each in (first, second))
    orders = sum(each in _GATE_ORDERS for each in (first, second))
    return max(formulas, walkers, orders) < 2


def composed(first: Deviation, second: Deviation) -> Deviation:
    """Both at once; where both change the same, the first one changes it first."""
    return Deviation(
        f"{first.name} + {second.name}",
        lambda spec: first.applies(spec) and second.applies(spec),
        weights=lambda spec, weights: second.weights(spec, first.weights(spec, weights)),
        given=lambda spec, given: second.given(spec, first.given(spec, given)),
        formula=second.formula if first.formula is formula_of else first.formula,
        walker=second.walker if first.walker is walk else first.walker,
        outputs=lambda spec, run: second.outputs(spec, first.outputs(spec, run)),
        parts=(first, second),
    )


def deviation_of(flag: Flag, typed: str, spec: Spec) -> Deviation | None:
    """The deviation that a side of a comparison names; None where it is another side.

    Raises:
        RnnscopeError: no such deviation, or one that makes no sense for the Spec.
    """
    entry = named_deviation(flag, typed)
    if entry is None:
        return None
    deviation = next(each for each in DEVIATIONS if each.name == entry.name)
    if not deviation.applies(spec):
        message = f"{flag.name} {typed} makes no sense for {network_in_words(spec)}"
        raise RnnscopeError(message, f"try {entry.command}")
    return deviation


# Where they apply.


def of_kind(kind: str) -> Callable[[Spec], bool]:
    return lambda spec: spec.kind == kind


is_lstm, is_gru = of_kind("lstm"), of_kind("gru")
has_bias, is_bidirectional = attrgetter("bias"), attrgetter("bidirectional")


def has_several_layers(spec: Spec) -> bool:
    return spec.num_layers > 1


def has_gates(spec: Spec) -> bool:
    return bool(GATES[spec.kind])


def has_tanh(spec: Spec) -> bool:
    return has_gates(spec) or spec.nonlinearity == "tanh"


def has_padding(spec: Spec) -> bool:
    return spec.lengths is not None and min(spec.lengths) < spec.seq_len


def layers_alike(spec: Spec) -> range:
    """The layers whose weights have the same shapes."""
    return range(0 if spec.input_size == spec.directions * spec.output_size else 1, spec.num_layers)


def can_swap_batch_and_time(spec: Spec) -> bool:
    return not spec.unbatched and spec.lengths is None and (spec.seq_len == spec.batch_size or spec.h0 == "zeros")


# Weights and input.


def with_changed(bases: str | tuple[str, ...], change: Callable[[Spec, Tensor], Tensor]) -> ChangeWeights:
    """Changes the weights whose names start with a base."""
    return lambda spec, weights: {n: change(spec, each) if n.startswith(bases) else each for n, each in weights.items()}


def without(bases: str) -> ChangeWeights:
    return with_changed(bases, lambda spec, each: each * 0)


def rows_in_order(order: tuple[str, ...]) -> ChangeWeights:
    """Rows read as if they were stacked in this order."""

    def reordered(spec: Spec, each: Tensor) -> Tensor:
        blocks = dict(zip(order, each.chunk(len(order)), strict=True))
        return torch.cat([blocks[gate] for gate in GATES[spec.kind]])

    return with_changed(("weight_ih", "weight_hh", "bias"), reordered)


def blocks_transposed(spec: Spec, each: Tensor) -> Tensor:
    return torch.cat([block.T for block in each.chunk(len(GATES[spec.kind]) or 1)])


def exchanged(weights: Weights, pattern: str, other: dict[str, str]) -> Weights:
    """The weights under other names: each match of the pattern is replaced by its other word."""
    return {name: weights[re.sub(pattern, lambda word: other.get(word[0], word[0]), name)] for name in weights}


def biases_swapped(spec: Spec, weights: Weights) -> Weights:
    return exchanged(weights, "bias_.h", {"bias_ih": "bias_hh", "bias_hh": "bias_ih"})


def layers_reversed(spec: Spec, weights: Weights) -> Weights:
    layers = [str(layer) for layer in layers_alike(spec)]
    return exchanged(weights, r"\d+", dict(zip(layers, reversed(layers), strict=True)))


def state_ignored(*ignored: int) -> ChangeInput:
    """Replaces h0, which is 0, or c0, which is 1, by zeros."""
    return lambda spec, given: Input(
        given.x, tuple(torch.zeros_like(each) if n in ignored else each for n, each in enumerate(given.state))
    )


def state_of_first_layer(spec: Spec, given: Input) -> Input:
    """Leaves the first layer its initial state, and gives zeros to the others."""
    zeros = (each[spec.directions :] * 0 for each in given.state)
    return Input(
        given.x, tuple(torch.cat((each[: spec.directions], z)) for each, z in zip(given.state, zeros, strict=True))
    )


# Steps.


@dataclass(frozen=True, eq=False, repr=False)
class Gated:
    """A step of an LSTM or GRU whose gates can be seen.

    Args:
        gates: gives them in torch's order, of the weights, x and the state before.
        after: gives the next state, of the weights, the state before and the gates.
    """

    gates: Callable[[Layer, Tensor, State], Gates]
    after: Callable[[Layer, State, Gates], State]

    def __call__(self, w: Layer, x: Tensor, state: State) -> State:
        return self.after(w, state, self.gates(w, x, state))


TORCHS = {
    "lstm": Gated(lstm_gates, lambda w, state, gates: _lstm_after(w, state, *gates)),
    "gru": Gated(gru_gates, lambda w, state, gates: ((1 - gates[1]) * gates[2] + gates[1] * state[0],)),
}
"""torch's own steps."""


def _lstm_after(w: Layer, state: State, i: Tensor, f: Tensor, g: Tensor, o: Tensor) -> State:
    c = f * state[1] + i * g
    h = o * torch.tanh(c)
    return (h if w.W_hr is None else h @ w.W_hr.T), c


def lstm(
    h_of: Callable[[Tensor, Tensor], Tensor] = lambda o, c: o * torch.tanh(c),
    activation: Callable[[Tensor], Tensor] = torch.tanh,
    sigmoid: Callable[[Tensor], Tensor] = torch.sigmoid,
    sums: Callable[[Gates, Tensor], Gates] = lambda gates, c: gates,
    i_and_f: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda i, f: (i, f),
    cell: Callable[[Tensor], Tensor] = lambda c: c,
    o_sum: Callable[[Tensor, Tensor], Tensor] | None = None,
    projects: bool = True,
) -> Callable[[Spec], Formula]:
    """torch's step but for what is given.

    Args:
        h_of: gives h' before the projection, of o and c'.
        activation, sigmoid: give g and the gates.
        sums: changes what goes into them, i f g o, and may look at c.
        i_and_f: changes i and f.
        cell: changes c'.
        o_sum: changes what goes into o, of that and c'.
    """

    def gates(w: Layer, x: Tensor, state: State) -> Gates:
        h, c = state
        i, f, g, o = sums((affine(x, w.W_ih, w.b_ih) + affine(h, w.W_hh, w.b_hh)).chunk(4, -1), c)
        i, f = i_and_f(sigmoid(i), sigmoid(f))
        g = activation(g)
        return i, f, g, sigmoid(o if o_sum is None else o_sum(o, cell(f * c + i * g)))

    def after(w: Layer, state: State, gates: Gates) -> State:
        i, f, g, o = gates
        c = cell(f * state[1] + i * g)
        new = h_of(o, c)
        if not projects:
            return new[:, : state[0].shape[1]], c
        return (new if w.W_hr is None else new @ w.W_hr.T), c

    return lambda spec: Gated(gates, after)


def plus(number: float, gate: str) -> Callable[[Spec], Formula]:
    """An LSTM's step with a number more on one gate."""
    place = GATES["lstm"].index(gate)
    return lstm(sums=lambda gates, c: tuple(each + number if n == place else each for n, each in enumerate(gates)))


def peepholes(gates: Gates, c: Tensor) -> Gates:
    i, f, g, o = gates
    return i + c, f + c, g, o


def clipped(most: float) -> Callable[[Spec], Formula]:
    return lstm(cell=lambda c: c.clamp(-most, most))


def gru(
    n_of: Callable[[Layer, Tensor, Tensor, Tensor, Tensor], Tensor] = lambda w, h, r, n_x, n_h: torch.tanh(
        n_x + r * n_h
    ),
    h_of: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = lambda h, r, z, n: (1 - z) * n + z * h,
    sigmoid: Callable[[Tensor], Tensor] = torch.sigmoid,
) -> Callable[[Spec], Formula]:
    """torch's step but for what is given.

    Args:
        n_of: gives n, of the weights, h, r, and of its two parts: W_in·x + b_in and W_hn·h + b_hn.
        h_of: gives h', of h, r, z and n.
        sigmoid: gives r and z.
    """

    def gates(w: Layer, x: Tensor, state: State) -> Gates:
        (h,) = state
        r_x, z_x, n_x = affine(x, w.W_ih, w.b_ih).chunk(3, -1)
        r_h, z_h, n_h = affine(h, w.W_hh, w.b_hh).chunk(3, -1)
        r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
        return r, z, n_of(w, h, r, n_x, n_h)

    return lambda spec: Gated(gates, lambda w, state, gates: (h_of(state[0], *gates),))


def gru_of(
    activation: Callable[[Tensor], Tensor], sigmoid: Callable[[Tensor], Tensor] = torch.sigmoid
) -> Callable[[Spec], Formula]:
    """torch's step with another function for tanh or σ."""
    return gru(lambda w, h, r, n_x, n_h: activation(n_x + r * n_h), sigmoid=sigmoid)


def reset_before(w: Layer, h: Tensor, r: Tensor, n_x: Tensor, n_h: Tensor) -> Tensor:
    return torch.tanh(n_x + affine(r * h, w.W_hh, w.b_hh).chunk(3, -1)[2])


def bias_not_reset(w: Layer, h: Tensor, r: Tensor, n_x: Tensor, n_h: Tensor) -> Tensor:
    b_hn = 0 if w.b_hh is None else w.b_hh.chunk(3)[2]
    return torch.tanh(n_x + b_hn + r * affine(h, w.W_hh, None).chunk(3, -1)[2])


def hard_sigmoid(slope: float) -> Callable[[Tensor], Tensor]:
    return lambda a: (a * slope + 0.5).clamp(0, 1)


def hard_tanh(a: Tensor) -> Tensor:
    return a.clamp(-1, 1)


def layer_norm(a: Tensor) -> Tensor:
    """Without weights of its own, and with torch's eps."""
    return nn.functional.layer_norm(a, a.shape[-1:])


def with_sigmoid(sigmoid: Callable[[Tensor], Tensor]) -> Callable[[Spec], Formula]:
    return lambda spec: (lstm(sigmoid=sigmoid) if spec.kind == "lstm" else gru_of(torch.tanh, sigmoid))(spec)


def with_tanh(tanh: Callable[[Tensor], Tensor]) -> Callable[[Spec], Formula]:
    """The step with another function for every tanh."""

    def formula(spec: Spec) -> Formula:
        if spec.kind == "rnn":
            return lambda w, x, state: (tanh(affine(x, w.W_ih, w.b_ih) + affine(state[0], w.W_hh, w.b_hh)),)
        if spec.kind == "lstm":
            return lstm(lambda o, c: o * tanh(c), activation=tanh)(spec)
        return gru_of(tanh)(spec)

    return formula


def sums_normalized(spec: Spec) -> Formula:
    if spec.kind == "rnn":
        activation = torch.tanh if spec.nonlinearity == "tanh" else torch.relu
        return with_tanh(lambda a: activation(layer_norm(a)))(spec)
    if spec.kind == "lstm":
        return lstm(sums=lambda gates, c: tuple(map(layer_norm, gates)))(spec)
    return gru_of(lambda a: torch.tanh(layer_norm(a)), lambda a: torch.sigmoid(layer_norm(a)))(spec)


def h_normalized(spec: Spec) -> Formula:
    step = formula_of(spec)

    def normalized(w: Layer, x: Tensor, state: State) -> State:
        h, *others = step(w, x, state)
        return layer_norm(h), *others

    return normalized


def nonlinearity_swapped(spec: Spec) -> Formula:
    if spec.kind == "rnn":
        return partial(rnn_step, nonlinearity="relu" if spec.nonlinearity == "tanh" else "tanh")
    return with_tanh(torch.relu)(spec)


def too_early(spec: Spec) -> Formula:
    step = formula_of(spec)
    return lambda w, x, state: step(w, x, (step(w, x, state)[0], *state[1:]))


# The walk.


def layer_by_layer(
    take: Walker = walk, feed: Callable[[Tensor, State], Tensor] = lambda y, initial: y, gives: int = -1
) -> Walker:
    """A walk of one layer after the other.

    Args:
        take: walks a network of one layer.
        feed: makes of a layer's y and initial state what goes up to the next layer.
        gives: the layer whose y is given.
    """

    def walker(
        layers: Layers, x: Tensor, initial: State, real: Tensor | None, between: Callable[[Tensor], Tensor] | None
    ) -> tuple[Tensor, State]:
        every, last = list[Tensor](), list[State]()
        for number, layer in enumerate(layers):
            rows = slice(number * len(layer), (number + 1) * len(layer))
            own = tuple(each[rows] for each in initial)
            y, state = take([layer], x, own, real)
            x = feed(y, own) if between is None else between(feed(y, own))
            every.append(y)
            last.append(state)
        return every[max(gives, -len(every))], tuple(map(torch.cat, zip(*last, strict=True)))

    return walker


def not_flipped_back(layers: Layers, x: Tensor, initial: State, real: Tensor | None) -> tuple[Tensor, State]:
    y, last = walk(layers, x, initial, real)
    forward, backward = y.chunk(2, -1)
    return torch.cat((forward, backward.flip(0)), -1), last


def fed_forward(layers: Layers, x: Tensor, initial: State, real: Tensor | None) -> tuple[Tensor, State]:
    ways = [walk([[step]], x, tuple(each[d : d + 1] for each in initial), real) for d, step in enumerate(layers[0])]
    halves, last = zip(*ways, strict=True)
    return torch.cat(halves, -1), tuple(map(torch.cat, zip(*last, strict=True)))


def padding_walked(
    layers: Layers, x: Tensor, initial: State, real: Tensor | None, between: Callable[[Tensor], Tensor] | None
) -> tuple[Tensor, State]:
    y, last = walk(layers, x, initial, None, between)
    return y if real is None else torch.where(real, y, 0), last


def padding_walked_backward(layers: Layers, x: Tensor, initial: State, real: Tensor | None) -> tuple[Tensor, State]:
    y, last = walk(layers, x, initial, real)
    other, through = walk(layers, x, initial)
    forward, backward = y.chunk(2, -1)[0], other.chunk(2, -1)[1]
    y = torch.cat((forward, backward), -1)
    rows = tuple(torch.cat((each[:1], over[1:])) for each, over in zip(last, through, strict=True))
    return y if real is None else torch.where(real, y, 0), rows


def batch_and_time_swapped(
    layers: Layers, x: Tensor, initial: State, real: None, between: None
) -> tuple[Tensor, State]:
    if x.shape[0] != x.shape[1]:  # then h0 is zeros: in its own shape it would not fit
        initial = tuple(each.new_zeros(len(each), x.shape[0], each.shape[2]) for each in initial)
    y, last = walk(layers, x.transpose(0, 1), initial, real, between)
    return y.transpose(0, 1), last


# Outputs.


def y_swapped(spec: Spec, run: Run) -> Run:
    return Run(torch.cat(run.y.chunk(2, -1)[::-1], -1), run.state)


def with_state(change: Callable[[Spec, Tensor], Tensor]) -> ChangeRun:
    """Changes h, and c likewise."""
    return lambda spec, run: Run(run.y, tuple(change(spec, each) for each in run.state))


def rows_swapped(spec: Spec, h: Tensor) -> Tensor:
    return h[[row ^ 1 for row in range(len(h))]]


def direction_major(spec: Spec, h: Tensor) -> Tensor:
    return torch.cat((h[::2], h[1::2]))


def by_length(spec: Spec) -> list[int]:
    """The items from the longest to the shortest; those of one length stay in order."""
    return sorted(range(spec.batch_size), key=lambda item: -spec.length_of(item))


def items_by_length(spec: Spec, h: Tensor) -> Tensor:
    return h[:, by_length(spec)]


def is_unsorted(spec: Spec) -> bool:
    return has_padding(spec) and by_length(spec) != list(range(spec.batch_size))


h_swapped = with_state(rows_swapped)


# The table. What each is called and what is said of it stands in the words for people, under the same names.

_GATE_ORDERS = tuple(
    Deviation(f"gates {' '.join(order)}", of_kind(kind), weights=rows_in_order(order))
    for kind in ("lstm", "gru")
    for order in permutations(GATES[kind])
    if order != tuple(GATES[kind])
)

# fmt: off
DEVIATIONS: tuple[Deviation, ...] = (
    *_GATE_ORDERS,
    Deviation("b_ih dropped", has_bias, weights=without("bias_ih")),
    Deviation("b_hh dropped", has_bias, weights=without("bias_hh")),
    Deviation("both biases dropped", has_bias, weights=without("bias")),
    Deviation("b_ih and b_hh swapped", has_bias, weights=biases_swapped),
    Deviation("W_hh transposed", lambda spec: not spec.proj_size and spec.hidden_size > 1,
              weights=with_changed("weight_hh", blocks_transposed)),
    Deviation("layers in reverse order", lambda spec: len(layers_alike(spec)) > 1, weights=layers_reversed),
    Deviation("h0 ignored", given=state_ignored(0)),
    Deviation("c0 ignored", is_lstm, given=state_ignored(1)),
    Deviation("h0 and c0 ignored", is_lstm, given=state_ignored(0, 1)),
    Deviation("h0 and c0 swapped", lambda spec: is_lstm(spec) and not spec.proj_size,
              given=lambda spec, given: Input(given.x, given.state[::-1])),
    Deviation("h0 for the first layer alone", has_several_layers, given=state_of_first_layer),
    Deviation("tanh and relu swapped", formula=nonlinearity_swapped),
    Deviation("tanh missing on the cell state", is_lstm, formula=lstm(lambda o, c: o * c)),
    Deviation("output gate before tanh", is_lstm, formula=lstm(lambda o, c: torch.tanh(o * c))),
    Deviation("forget bias of 1", is_lstm, formula=plus(1.0, "f")),
    Deviation("forget bias of 2", is_lstm, formula=plus(2.0, "f")),
    Deviation("bias of 1 on the input gate", is_lstm, formula=plus(1.0, "i")),
    Deviation("bias of 1 on the cell gate", is_lstm, formula=plus(1.0, "g")),
    Deviation("bias of 1 on the output gate", is_lstm, formula=plus(1.0, "o")),
    Deviation("coupled forget gate", is_lstm, formula=lstm(i_and_f=lambda i, f: (i, 1 - i))),
    Deviation("coupled input gate", is_lstm, formula=lstm(i_and_f=lambda i, f: (1 - f, f))),
    Deviation("peepholes of weight 1", is_lstm, formula=lstm(sums=peepholes, o_sum=lambda o, c: o + c)),
    Deviation("cell state clipped at 1", is_lstm, formula=clipped(1.0)),
    Deviation("cell state clipped at 3", is_lstm, formula=clipped(3.0)),
    Deviation("hard sigmoid", has_gates, formula=with_sigmoid(hard_sigmoid(1 / 6))),
    Deviation("hard sigmoid of Keras 2", has_gates, formula=with_sigmoid(hard_sigmoid(0.2))),
    Deviation("hard tanh", has_tanh, formula=with_tanh(hard_tanh)),
    Deviation("layer norm on the sums", formula=sums_normalized),
    Deviation("layer norm on h", formula=h_normalized),
    Deviation("layer norm on c", is_lstm, formula=lstm(cell=layer_norm)),
    Deviation("projection left out", lambda spec: spec.proj_size > 0, formula=lstm(projects=False)),
    Deviation("reset before the matmul", is_gru, formula=gru(reset_before)),
    Deviation("b_hn outside the reset gate", lambda spec: is_gru(spec) and spec.bias, formula=gru(bias_not_reset)),
    Deviation("update gate inverted", is_gru,
              formula=gru(h_of=lambda h, r, z, n: z * n + (1 - z) * h)),
    Deviation("reset state kept", is_gru,
              formula=gru(h_of=lambda h, r, z, n: (1 - z) * n + z * r * h)),
    Deviation("new hidden used too early", formula=too_early),
    Deviation("layer fed by the previous step", lambda spec: has_several_layers(spec) and not spec.bidirectional,
              walker=layer_by_layer(feed=lambda y, initial: torch.cat((initial[0], y[:-1])))),
    Deviation("y of the first layer", has_several_layers, walker=layer_by_layer(gives=0)),
    Deviation("y of the layer below the top", lambda spec: spec.num_layers > 2, walker=layer_by_layer(gives=-2)),
    Deviation("backward outputs not flipped back", is_bidirectional, walker=layer_by_layer(not_flipped_back)),
    Deviation("backward direction fed forward", is_bidirectional, walker=layer_by_layer(fed_forward)),
    Deviation("directions swapped in y", is_bidirectional, outputs=y_swapped),
    Deviation("directions swapped in h", is_bidirectional, outputs=h_swapped),
    Deviation("directions swapped in y and h", is_bidirectional,
              outputs=lambda spec, run: h_swapped(spec, y_swapped(spec, run))),
    Deviation("h ordered direction-major", lambda spec: spec.bidirectional and has_several_layers(spec),
              outputs=with_state(direction_major)),
    Deviation("h and c swapped", lambda spec: is_lstm(spec) and not spec.proj_size,
              outputs=lambda spec, run: Run(run.y, run.state[::-1])),
    Deviation("items of h in reverse", lambda spec: spec.batch_size > 1,
              outputs=with_state(lambda spec, h: h.flip(1))),
    Deviation("items of h sorted by length", is_unsorted, outputs=with_state(items_by_length)),
    Deviation("batch and time swapped", can_swap_batch_and_time, walker=batch_and_time_swapped),
    Deviation("lengths ignored", has_padding,
              walker=lambda layers, x, initial, real, between: walk(layers, x, initial, None, between)),
    Deviation("lengths ignored but in y", has_padding, walker=padding_walked),
    Deviation("lengths ignored backward", lambda spec: spec.bidirectional and has_padding(spec),
              walker=layer_by_layer(padding_walked_backward)),
)
# fmt: on
