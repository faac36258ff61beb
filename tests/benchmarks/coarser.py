"""Right networks that round to a coarser dtype inside, and wrong ones whose fault is small or late: by their number."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from rnnscope import Comparison, Spec, compare
from rnnscope.network.equations import Layer, State, Step, affine
from rnnscope.network.weights import Input, Weights, draw_weights
from rnnscope.subjects.builtin import SUBJECTS, Formula, Run, Subject, formula_of, run_equations
from rnnscope.verdict import problem
from rnnscope.verdict.bounds import UNITS

PLACES = ("xWhpsac", "sac", "ac", "a", "c", "h", "p", "s", "xW")
"""What is rounded: x, weights (W), h before a step, products (p), their sum (s), activations (a), the new state (c)."""


def rounding_inside(spec: Spec, dtype: str, places: str) -> Formula:
    """torch's step, rounded to a dtype in some places and back."""

    def to(place: str, tensor: Tensor) -> Tensor:
        return tensor.to(getattr(torch, dtype)).to(tensor.dtype) if place in places else tensor

    def products(w: Layer, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return (
            to("p", affine(to("x", x), to("W", w.W_ih), w.b_ih)),
            to("p", affine(to("h", h), to("W", w.W_hh), w.b_hh)),
        )

    def rnn(w: Layer, x: Tensor, state: State) -> State:
        a = to("s", torch.add(*products(w, x, state[0])))
        return (to("a", torch.tanh(a) if spec.nonlinearity == "tanh" else torch.relu(a)),)

    def lstm(w: Layer, x: Tensor, state: State) -> State:
        h, c = state
        i, f, g, o = to("s", torch.add(*products(w, x, h))).chunk(4, -1)
        c = to("c", to("a", torch.sigmoid(f)) * c + to("a", torch.sigmoid(i)) * to("a", torch.tanh(g)))
        return to("a", torch.sigmoid(o)) * to("a", torch.tanh(c)), c

    def gru(w: Layer, x: Tensor, state: State) -> State:
        of_x, of_h = (each.chunk(3, -1) for each in products(w, x, state[0]))
        r, z = (to("a", torch.sigmoid(to("s", of_x[gate] + of_h[gate]))) for gate in (0, 1))
        n = to("a", torch.tanh(of_x[2] + r * of_h[2]))
        return (to("c", (1 - z) * n + z * state[0]),)

    return {"rnn": rnn, "lstm": lstm, "gru": gru}[spec.kind]


Fault = Callable[[Formula, float], Formula]


def _leak(step: Formula, by: float) -> Formula:
    return lambda w, x, state: tuple(new + by * old for new, old in zip(step(w, x, state), state, strict=True))


def _weight_off(step: Formula, by: float) -> Formula:
    def off(w: Layer, x: Tensor, state: State) -> State:
        changed = w.W_hh.clone()
        changed[0, 0] += by
        return step(replace(w, W_hh=changed), x, state)

    return off


def _bias_off(step: Formula, by: float) -> Formula:
    return lambda w, x, state: step(replace(w, W_ih=w.W_ih * (1 + by)), x, state)


def _scaled(step: Formula, by: float) -> Formula:
    return lambda w, x, state: tuple(new * (1 + by) for new in step(w, x, state))


def _peephole(step: Formula, by: float) -> Formula:
    return lambda w, x, state: step(w, x + by * state[-1].mean(-1, keepdim=True), state)


def _late(step: Formula, by: float) -> Formula:
    """An eps in the denominator: x/(1 + eps) where the new state is large."""
    return lambda w, x, state: tuple(new / (1 + by * new * new) for new in step(w, x, state))


FAULTS: dict[str, Fault] = {
    "a leak": _leak,
    "one weight off": _weight_off,
    "W_ih off": _bias_off,
    "scaled": _scaled,
    "a peephole": _peephole,
    "an eps": _late,
}


@dataclass(frozen=True)
class Case:
    """A side that rounds inside, or that has a fault: what it is, and the comparison with torch's equations."""

    words: str
    inside: str | None
    found: Comparison

    @property
    def is_fine(self) -> bool:
        """Whether what rounds inside is no coarser than the dtype that was asked for."""
        return self.inside is not None and UNITS[self.inside] <= UNITS[self.found.spec.dtype]


def compared(spec: Spec, weights: Weights, step: Formula, **question: Any) -> Comparison:
    """The equations against a step of another writing."""

    def own(spec: Spec, weights: Weights, given: Input) -> Run:
        return run_equations(spec, weights, given, step)

    return compared_run(spec, weights, own, **question)


def compared_run(spec: Spec, weights: Weights, own: Subject, **question: Any) -> Comparison:
    """The equations against another subject."""
    with patch.dict(SUBJECTS, cells=own), patch.object(problem, "draw_weights", lambda spec: weights):
        return compare(spec, "equations", "cells", **question)


def random_spec(draw: Random) -> tuple[Spec, float]:
    """A Spec, and by how much its weights are larger than by default."""
    kind = draw.choice(("rnn", "lstm", "gru"))
    spec = Spec(
        kind=kind,
        input_size=draw.choice((1, 3, 10, 64)),
        hidden_size=draw.choice((1, 2, 5, 20, 64)),
        num_layers=draw.choice((1, 1, 2)),
        nonlinearity=draw.choice(("tanh", "relu")) if kind == "rnn" else "tanh",
        seq_len=draw.choice((1, 4, 20, 60)),
        batch_size=draw.choice((1, 3, 8)),
        dtype=draw.choice(("float32", "float32", "float64", "bfloat16")),
        h0=draw.choice(("random", "zeros")),
        seed=draw.randrange(2**30),
        threads=1,
    )
    return spec, 10 ** draw.uniform(-1.5, 1.2)


def rounding_case(number: int) -> Case:
    """A side that rounds to a coarser dtype inside."""
    draw = Random(number)
    spec, scale = random_spec(draw)
    dtype, places = draw.choice(("float32", "float32", "bfloat16", "float16")), draw.choice(PLACES)
    weights = {name: scale * each for name, each in draw_weights(spec).items()}
    found = compared(spec, weights, rounding_inside(spec, dtype, places))
    return Case(f"{dtype} in {places} x{scale:.2g} {spec}", dtype, found)


def faulty_case(number: int) -> Case:
    """A side with a fault of 1e-7 to 1e-2."""
    draw = Random(number)
    spec, scale = random_spec(draw)
    name, by = draw.choice([*FAULTS]), draw.choice((-1, 1)) * 10 ** draw.uniform(-7, -2)
    weights = {name: scale * each for name, each in draw_weights(spec).items()}
    found = compared(spec, weights, FAULTS[name](formula_of(spec), by))
    return Case(f"{name} by {by:.1e} x{scale:.2g} {spec}", None, found)


LATE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "right": lambda new, old: new,
    "reset": lambda new, old: new * 0,
    "leak": lambda new, old: new + 1e-3 * old,
    "frozen": lambda new, old: old,
    "off by 1 %": lambda new, old: new * 1.01,
    "off by a millionth": lambda new, old: new * (1 + 1e-6),
}
"""What becomes of a state from some step on."""


def late(name: str, at: int) -> Subject:
    """The equations with a fault of LATE from a step on."""

    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        def around(layer: int, direction: int, step: Step) -> Step:
            steps = iter(range(spec.seq_len))

            def taken(x: Tensor, state: State) -> State:
                new = step(x, state)
                return tuple(map(LATE[name], new, state)) if next(steps) >= at else new

            return taken

        return run_equations(spec, weights, given, around=around)

    return run


def chaotic_case(number: int) -> tuple[bool, Case]:
    """A side whose fault sets in late, or that has none, at weights 1 to 20 times the default; whether it is right."""
    draw = Random(number)
    kind = draw.choice(("rnn", "lstm", "gru"))
    spec = Spec(
        kind=kind,
        hidden_size=draw.choice((8, 64)),
        num_layers=draw.choice((1, 1, 2)),
        bidirectional=draw.random() < 0.2,
        seq_len=draw.choice((50, 200)),
        batch_size=2,
        seed=draw.randrange(2**30),
        threads=1,
    )
    name, scale = draw.choice([*LATE]), draw.uniform(1, 20)
    at = draw.randrange(2, spec.seq_len - 2)
    weights = {key: scale * each for key, each in draw_weights(spec).items()}
    found = compared_run(spec, weights, late(name, at) if name != "right" else SUBJECTS["module"])
    return name == "right", Case(f"{name} from step {at} x{scale:.2g} {spec}", None, found)
