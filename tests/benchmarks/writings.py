"""Right networks of another writing, at ordinary weights and in corners: one follows from its number alone."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import torch
from torch import Tensor

from rnnscope import Spec
from rnnscope.network.equations import Layer, State, affine
from rnnscope.network.weights import Input, Weights
from rnnscope.subjects.builtin import SUBJECTS, Formula, Run, run_equations
from rnnscope.verdict.evidence import Evidence, Side
from rnnscope.verdict.problem import Problem, draw_problem, rounded

Activation = Callable[[Tensor], Tensor]

SIGMOIDS: dict[str, Activation] = {
    "torch.sigmoid": torch.sigmoid,
    "½(1 + tanh(x/2))": lambda x: 0.5 * (1 + torch.tanh(x / 2)),
    "1 - σ(-x)": lambda x: 1 - torch.sigmoid(-x),
    "1/(1 + exp(-x))": lambda x: 1 / (1 + torch.exp(-x)),
}

TANHS: dict[str, Activation] = {
    "torch.tanh": torch.tanh,
    "2σ(2x) - 1": lambda x: 2 * torch.sigmoid(2 * x) - 1,
    "-tanh(-x)": lambda x: -torch.tanh(-x),
}

CORNERS = ("none", "none", "biases up to 1e3", "weights down to 1e-38", "states up to 100", "a quiet item")


def writing(number: int, grad: bool) -> tuple[str, Evidence]:
    """A right network against a subject of ours, and what they are."""
    draw = Random(number)
    spec = Spec(
        kind=draw.choice(("rnn", "lstm", "gru")),
        input_size=draw.choice((1, 3, 10, 256)),
        hidden_size=draw.choice((1, 1, 2, 5, 20, 64)),
        num_layers=draw.choice((1, 1, 2)),
        seq_len=draw.choice((1, 3, 10, 40)),
        batch_size=draw.choice((1, 3, 8)),
        bidirectional=draw.random() < 0.2,
        bias=draw.random() < 0.9,
        dtype=draw.choice(("float32", "float64", "float64", "bfloat16", "float16")),
        h0=draw.choice(("random", "zeros")),
        seed=draw.randrange(2**30),
        threads=1,
    )
    scale, corner = 10 ** draw.uniform(-4, 1.2), draw.choice(CORNERS)
    problem = _in_a_corner(draw, draw_problem(spec, (spec.dtype,), grad), scale, corner)
    sigmoid, tanh, left = draw.choice([*SIGMOIDS]), draw.choice([*TANHS]), draw.choice(("module", "cells", "equations"))
    step = written(spec.kind, SIGMOIDS[sigmoid], TANHS[tanh])

    def own(spec: Spec, weights: Weights, given: Input) -> Run:
        return run_equations(spec, weights, given, step)

    sides = Side("left", left, spec, SUBJECTS[left], spec.dtype), Side("right", "own", spec, own, spec.dtype)
    return f"{sigmoid} {tanh} against {left}, {corner} x{scale:.2g} {spec}", Evidence(problem, *sides)


def _in_a_corner(draw: Random, problem: Problem, scale: float, corner: str) -> Problem:
    weights = {name: scale * each for name, each in problem.weights.items()}
    x, state = problem.given.x.double(), problem.given.state
    if corner == "biases up to 1e3":
        added = {name: draw.choice((-1, 1)) * 10 ** draw.uniform(0, 3) for name in weights if "bias_ih" in name}
        weights |= {name: weights[name] + each for name, each in added.items()}
    elif corner == "weights down to 1e-38":
        weights = {name: each * 10 ** draw.uniform(-38, -3) for name, each in weights.items()}
    elif corner == "states up to 100":
        state = tuple(each * 10 ** draw.uniform(0, 2) for each in state)
    elif corner == "a quiet item":
        x, state = _with_a_quiet_item(x, 0), tuple(_with_a_quiet_item(each, 0) for each in state)
    return replace(
        problem,
        weights={name: rounded(each, problem.dtypes) for name, each in weights.items()},
        given=Input(
            rounded(x, problem.dtypes).to(problem.given.x.dtype),
            tuple(rounded(each, problem.dtypes) for each in state),
        ),
    )


def _with_a_quiet_item(tensor: Tensor, item: int) -> Tensor:
    quieter = tensor.clone()
    quieter[:, item] *= 1e-4
    return quieter


def written(kind: str, sigmoid: Activation, tanh: Activation) -> Formula:
    """torch's step with other formulas of its activations."""

    def rnn(w: Layer, x: Tensor, state: State) -> State:
        return (tanh(affine(x, w.W_ih, w.b_ih) + affine(state[0], w.W_hh, w.b_hh)),)

    def lstm(w: Layer, x: Tensor, state: State) -> State:
        h, c = state
        i, f, g, o = (affine(x, w.W_ih, w.b_ih) + affine(h, w.W_hh, w.b_hh)).chunk(4, -1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c

    def gru(w: Layer, x: Tensor, state: State) -> State:
        (h,) = state
        r_x, z_x, n_x = affine(x, w.W_ih, w.b_ih).chunk(3, -1)
        r_h, z_h, n_h = affine(h, w.W_hh, w.b_hh).chunk(3, -1)
        r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
        n = tanh(n_x + r * n_h)
        return (n + z * (h - n),)

    return {"rnn": rnn, "lstm": lstm, "gru": gru}[kind]
