"""Named deviations from torch's convention: what hand-written and converted networks do otherwise, as one table.

A deviation that is applied to the equations is a mutant: would this check notice it? It is a hypothesis too: is this
what a wrong subject does? Each does what torch does but for one thing. The table stands at the end of the file.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from operator import attrgetter

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.help import deviations as words
from rnnscope.help.explain import named_deviation
from rnnscope.network.equations import Layer, State, Step, affine, rnn_step, walk
from rnnscope.network.shapes import GATES, network_in_words
from rnnscope.network.weights import Input, Weights
from rnnscope.spec.flags import Flag
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import Around, Formula, Run, formula_of, run_equations

ChangeWeights = Callable[[Spec, Weights], Weights]

_WORDS = {each.name: each for each in words.DEVIATIONS}

Layers = list[list[Step]]

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
    """

    name: str
    applies: Callable[[Spec], bool] = lambda spec: True
    weights: ChangeWeights = lambda spec, weights: weights
    given: Callable[[Input], Input] = lambda given: given
    formula: Callable[[Spec], Formula] = formula_of
    walker: Walker = walk
    outputs: Callable[[Run], Run] = lambda run: run

    @property
    def does(self) -> str:
        """What a side that has it does, then a semicolon and what torch does."""
        return _WORDS[self.name].does

    def run(self, spec: Spec, weights: Weights, given: Input, around: Around | None = None) -> Run:
        """The equations with this deviation: a subject like any other."""
        own = {name: each.clone().requires_grad_(torch.is_grad_enabled()) for name, each in weights.items()}
        changed, given = self.weights(spec, own), self.given(given)
        run = self.outputs(run_equations(spec, changed, given, self.formula(spec), around, self.walker))
        return Run(run.y, run.state, own)


def deviations(spec: Spec) -> Iterator[Deviation]:
    """Those that make sense for a Spec."""
    return (each for each in DEVIATIONS if each.applies(spec))


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


def state_ignored(*ignored: int) -> Callable[[Input], Input]:
    """Replaces h0, which is 0, or c0, which is 1, by zeros."""
    return lambda given: Input(
        given.x, tuple(torch.zeros_like(each) if n in ignored else each for n, each in enumerate(given.state))
    )


# Steps.


def lstm(
    h_of: Callable[[Tensor, Tensor], Tensor] = lambda o, c: o * torch.tanh(c),
    activation: Callable[[Tensor], Tensor] = torch.tanh,
    forget_bias: float = 0.0,
    projects: bool = True,
) -> Callable[[Spec], Formula]:
    """torch's step but for what is given.

    Args:
        h_of: gives h' before the projection, of o and c'.
        activation: gives g.
    """

    def step(w: Layer, x: Tensor, state: State) -> State:
        h, c = state
        i, f, g, o = (affine(x, w.W_ih, w.b_ih) + affine(h, w.W_hh, w.b_hh)).chunk(4, -1)
        o, c = torch.sigmoid(o), torch.sigmoid(f + forget_bias) * c + torch.sigmoid(i) * activation(g)
        new = h_of(o, c)
        if not projects:
            return new[:, : h.shape[1]], c
        return (new if w.W_hr is None else new @ w.W_hr.T), c

    return lambda spec: step


def gru(h_of: Callable[[Layer, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]) -> Callable[[Spec], Formula]:
    """torch's step with another h'.

    Args:
        h_of: gives h' of the weights, h, r, z, and of the two parts of n: W_in·x + b_in and W_hn·h + b_hn.
    """

    def step(w: Layer, x: Tensor, state: State) -> State:
        (h,) = state
        r_x, z_x, n_x = affine(x, w.W_ih, w.b_ih).chunk(3, -1)
        r_h, z_h, n_h = affine(h, w.W_hh, w.b_hh).chunk(3, -1)
        return (h_of(w, h, torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h), n_x, n_h),)

    return lambda spec: step


def reset_before(w: Layer, h: Tensor, r: Tensor, z: Tensor, n_x: Tensor, n_h: Tensor) -> Tensor:
    n_h = affine(r * h, w.W_hh, w.b_hh).chunk(3, -1)[2]
    return (1 - z) * torch.tanh(n_x + n_h) + z * h


def nonlinearity_swapped(spec: Spec) -> Formula:
    if spec.kind == "rnn":
        return partial(rnn_step, nonlinearity="relu" if spec.nonlinearity == "tanh" else "tanh")
    if spec.kind == "lstm":
        return lstm(lambda o, c: o * torch.relu(c), activation=torch.relu)(spec)
    return gru(lambda w, h, r, z, n_x, n_h: (1 - z) * torch.relu(n_x + r * n_h) + z * h)(spec)


def too_early(spec: Spec) -> Formula:
    step = formula_of(spec)
    return lambda w, x, state: step(w, x, (step(w, x, state)[0], *state[1:]))


# The walk.


def layer_by_layer(take: Walker = walk, feed: Callable[[Tensor, State], Tensor] = lambda y, initial: y) -> Walker:
    """A walk of one layer after the other.

    Args:
        take: walks a network of one layer.
        feed: makes of a layer's y and initial state what goes up to the next layer.
    """

    def walker(
        layers: Layers, x: Tensor, initial: State, real: Tensor | None, between: Callable[[Tensor], Tensor] | None
    ) -> tuple[Tensor, State]:
        last: list[State] = []
        for number, layer in enumerate(layers):
            rows = slice(number * len(layer), (number + 1) * len(layer))
            own = tuple(each[rows] for each in initial)
            y, state = take([layer], x, own, real)
            x = feed(y, own) if between is None else between(feed(y, own))
            last.append(state)
        return y, tuple(map(torch.cat, zip(*last, strict=True)))

    return walker


def not_flipped_back(layers: Layers, x: Tensor, initial: State, real: Tensor | None) -> tuple[Tensor, State]:
    y, last = walk(layers, x, initial, real)
    forward, backward = y.chunk(2, -1)
    return torch.cat((forward, backward.flip(0)), -1), last


def fed_forward(layers: Layers, x: Tensor, initial: State, real: Tensor | None) -> tuple[Tensor, State]:
    ways = [walk([[step]], x, tuple(each[d : d + 1] for each in initial), real) for d, step in enumerate(layers[0])]
    halves, last = zip(*ways, strict=True)
    return torch.cat(halves, -1), tuple(map(torch.cat, zip(*last, strict=True)))


def batch_and_time_swapped(
    layers: Layers, x: Tensor, initial: State, real: None, between: None
) -> tuple[Tensor, State]:
    if x.shape[0] != x.shape[1]:  # then h0 is zeros: in its own shape it would not fit
        initial = tuple(each.new_zeros(len(each), x.shape[0], each.shape[2]) for each in initial)
    y, last = walk(layers, x.transpose(0, 1), initial, real, between)
    return y.transpose(0, 1), last


# Outputs.


def y_swapped(run: Run) -> Run:
    return Run(torch.cat(run.y.chunk(2, -1)[::-1], -1), run.state)


def h_swapped(run: Run) -> Run:
    return Run(run.y, tuple(each[[row ^ 1 for row in range(len(each))]] for each in run.state))


def h_direction_major(run: Run) -> Run:
    return Run(run.y, tuple(torch.cat((each[::2], each[1::2])) for each in run.state))


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
    Deviation("W_hh transposed", lambda spec: not spec.proj_size,
              weights=with_changed("weight_hh", blocks_transposed)),
    Deviation("layers in reverse order", lambda spec: len(layers_alike(spec)) > 1, weights=layers_reversed),
    Deviation("h0 ignored", given=state_ignored(0)),
    Deviation("c0 ignored", is_lstm, given=state_ignored(1)),
    Deviation("h0 and c0 ignored", is_lstm, given=state_ignored(0, 1)),
    Deviation("h0 and c0 swapped", lambda spec: is_lstm(spec) and not spec.proj_size,
              given=lambda given: Input(given.x, given.state[::-1])),
    Deviation("tanh and relu swapped", formula=nonlinearity_swapped),
    Deviation("tanh missing on the cell state", is_lstm, formula=lstm(lambda o, c: o * c)),
    Deviation("output gate before tanh", is_lstm, formula=lstm(lambda o, c: torch.tanh(o * c))),
    Deviation("forget bias of 1", is_lstm, formula=lstm(forget_bias=1.0)),
    Deviation("projection left out", lambda spec: spec.proj_size > 0, formula=lstm(projects=False)),
    Deviation("reset before the matmul", is_gru, formula=gru(reset_before)),
    Deviation("update gate inverted", is_gru,
              formula=gru(lambda w, h, r, z, n_x, n_h: z * torch.tanh(n_x + r * n_h) + (1 - z) * h)),
    Deviation("reset state kept", is_gru,
              formula=gru(lambda w, h, r, z, n_x, n_h: (1 - z) * torch.tanh(n_x + r * n_h) + z * r * h)),
    Deviation("new hidden used too early", formula=too_early),
    Deviation("layer fed by the previous step", lambda spec: spec.num_layers > 1 and not spec.bidirectional,
              walker=layer_by_layer(feed=lambda y, initial: torch.cat((initial[0], y[:-1])))),
    Deviation("backward outputs not flipped back", is_bidirectional, walker=layer_by_layer(not_flipped_back)),
    Deviation("backward direction fed forward", is_bidirectional, walker=layer_by_layer(fed_forward)),
    Deviation("directions swapped in y", is_bidirectional, outputs=y_swapped),
    Deviation("directions swapped in h", is_bidirectional, outputs=h_swapped),
    Deviation("directions swapped in y and h", is_bidirectional, outputs=lambda run: h_swapped(y_swapped(run))),
    Deviation("h ordered direction-major", lambda spec: spec.bidirectional and spec.num_layers > 1,
              outputs=h_direction_major),
    Deviation("batch and time swapped", can_swap_batch_and_time, walker=batch_and_time_swapped),
    Deviation("lengths ignored", lambda spec: spec.lengths is not None and min(spec.lengths) < spec.seq_len,
              walker=lambda layers, x, initial, real, between: walk(layers, x, initial, None, between)),
)
# fmt: on
