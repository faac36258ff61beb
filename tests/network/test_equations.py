"""The formulas against numbers by hand, and every subject against torch's module for every Spec, gradients too."""

from itertools import product
from math import exp, tanh
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rnnscope import Spec, compare
from rnnscope.network.equations import Layer, gru_step, lstm_step, rnn_step

KINDS: dict[str, dict[str, Any]] = {
    "tanh": {"kind": "rnn"},
    "relu": {"kind": "rnn", "nonlinearity": "relu"},
    "lstm": {"kind": "lstm"},
    "projection": {"kind": "lstm", "proj_size": 2},
    "gru": {"kind": "gru"},
}
INPUTS: dict[str, dict[str, Any]] = {
    "batched": {"batch_size": 3},
    "single": {"batch_size": 1, "seq_len": 1},
    "unbatched": {"unbatched": True},
    "packed": {"lengths": (5, 3, 3, 1)},
    "packed unsorted": {"lengths": (1, 4, 2)},
}


def sigmoid(a: float) -> float:
    return 1 / (1 + exp(-a))


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


X, H, C = column(0.5), column(-0.25), column(0.75)


def test_one_step_of_an_rnn_by_hand() -> None:
    w = Layer(column(2.0), column(-1.5), vector(0.125), vector(0.0625))
    a = 2.0 * 0.5 + 0.125 - 1.5 * -0.25 + 0.0625
    torch.testing.assert_close(rnn_step(w, X, (H,))[0].item(), tanh(a), rtol=1e-15, atol=0)
    torch.testing.assert_close(rnn_step(w, X, (H,), "relu")[0].item(), a, rtol=1e-15, atol=0)
    assert rnn_step(w, -4 * X, (H,), "relu")[0].item() == 0


def lstm_by_hand() -> tuple[Layer, float, float]:
    """The weights of one LSTM unit, and its h and c after one step; every gate has numbers of its own."""
    W_ih, W_hh = column(0.5, -1.0, 2.0, 0.25), column(1.0, 0.5, -0.5, -2.0)
    w = Layer(W_ih, W_hh, vector(0.1, 0.2, 0.3, 0.4), vector(-0.4, 0.3, 0.2, 0.1))
    i = sigmoid(0.5 * 0.5 + 0.1 + 1.0 * -0.25 - 0.4)
    f = sigmoid(-1.0 * 0.5 + 0.2 + 0.5 * -0.25 + 0.3)
    g = tanh(2.0 * 0.5 + 0.3 - 0.5 * -0.25 + 0.2)
    o = sigmoid(0.25 * 0.5 + 0.4 - 2.0 * -0.25 + 0.1)
    c = f * 0.75 + i * g
    return w, o * tanh(c), c


def test_one_step_of_an_lstm_by_hand() -> None:
    w, expected_h, expected_c = lstm_by_hand()
    h, c = lstm_step(w, X, (H, C))
    torch.testing.assert_close((h.item(), c.item()), (expected_h, expected_c), rtol=1e-15, atol=0)


def test_one_step_of_an_lstm_with_a_projection_by_hand() -> None:
    w, expected_h, expected_c = lstm_by_hand()
    projected = Layer(w.W_ih, w.W_hh, w.b_ih, w.b_hh, column(-3.0))
    h, c = lstm_step(projected, X, (H, C))
    torch.testing.assert_close((h.item(), c.item()), (-3.0 * expected_h, expected_c), rtol=1e-15, atol=0)


def test_one_step_of_a_gru_by_hand() -> None:
    w = Layer(column(0.5, -1.0, 2.0), column(1.0, 0.5, -0.5), vector(0.1, 0.2, 0.3), vector(-0.4, 0.3, 0.2))
    r = sigmoid(0.5 * 0.5 + 0.1 + 1.0 * -0.25 - 0.4)
    z = sigmoid(-1.0 * 0.5 + 0.2 + 0.5 * -0.25 + 0.3)
    n = tanh(2.0 * 0.5 + 0.3 + r * (-0.5 * -0.25 + 0.2))
    torch.testing.assert_close(gru_step(w, X, (H,))[0].item(), (1 - z) * n + z * -0.25, rtol=1e-15, atol=0)


GRID = [
    case
    for case in product(KINDS, INPUTS, (True, False), (True, False), (True, False), (1, 3), ("cells", "equations"))
    if not (case[0] == "projection" and case[-1] == "cells")
]


@pytest.mark.parametrize("h0", ["random", "zeros"])
@pytest.mark.parametrize(("kind", "form", "bias", "bidirectional", "batch_first", "layers", "right"), GRID)
def test_outputs_and_gradients_are_those_of_torch(
    kind: str, form: str, bias: bool, bidirectional: bool, batch_first: bool, layers: int, h0: str, right: str
) -> None:
    options: dict[str, Any] = {"bias": bias, "bidirectional": bidirectional, "batch_first": batch_first, "h0": h0}
    sizes: dict[str, Any] = {"input_size": 3, "hidden_size": 4, "num_layers": layers, "dtype": "float64"}
    spec = Spec(**KINDS[kind], **INPUTS[form], **options, **sizes)
    comparison = compare(spec, right=right, rtol=1e-12, atol=1e-13, grad=True)
    assert comparison.exit_code == 0
    names = [each.name for each in comparison.outputs]
    assert names == ["y", *(["padding"] if spec.lengths else []), "h", *(["c"] if spec.kind == "lstm" else [])]
    assert len(comparison.gradients or ()) == len(names) - ("padding" in names) + layers * (1 + bidirectional) * (
        2 + 2 * bias + (kind == "projection")
    )


@pytest.mark.parametrize(("kind", "dtype"), list(product(KINDS, ("float32", "bfloat16", "float16"))))
def test_the_equations_compute_in_every_dtype_without_an_upcast(kind: str, dtype: str) -> None:
    comparison = compare(Spec(**KINDS[kind], dtype=dtype), right="equations", rtol=5e-2, atol=5e-2)
    assert comparison.exit_code == 0
    assert comparison.spec.dtype == dtype


SPECS = st.builds(
    lambda kind, form, **facts: Spec(**KINDS[kind], **INPUTS[form], **facts, dtype="float64"),
    st.sampled_from(list(KINDS)),
    st.sampled_from(list(INPUTS)),
    input_size=st.integers(1, 6),
    hidden_size=st.integers(3, 6),
    num_layers=st.integers(1, 3),
    bias=st.booleans(),
    bidirectional=st.booleans(),
    batch_first=st.booleans(),
    dropout=st.sampled_from([0.0, 1.0]),
    train=st.booleans(),
    seed=st.integers(0, 2**30 - 1),
)


@given(SPECS)
def test_module_and_equations_are_the_same_network(spec: Spec) -> None:
    assert compare(spec, right="equations", rtol=1e-12, atol=1e-13, grad=True).exit_code == 0


def test_a_gradient_that_differs_is_a_finding() -> None:
    comparison = compare(Spec(kind="gru"), rtol=0, atol=0, grad=True)
    assert comparison.gradients is not None
    assert any(not each.identical for each in comparison.gradients)
    assert comparison.exit_code == 1


def test_a_gradient_is_the_slope_of_what_the_cotangent_weighs() -> None:
    """Against a difference quotient of the run itself, and not against another autograd."""
    from rnnscope.subjects.builtin import run_module
    from rnnscope.subjects.devices import running
    from rnnscope.verdict.problem import draw_problem, solve

    spec = Spec(kind="lstm", lengths=(3, 2), input_size=2, hidden_size=3, num_layers=1, dtype="float64")
    problem = draw_problem(spec, ("float64",), grad=True)
    with running(spec, grad=True):
        gradients = solve(run_module, spec, problem)

    def weighed(bump: float) -> float:
        changed = problem.weights["weight_hh_l0"].clone()
        changed[4, 1] += bump
        with running(spec):
            outputs = run_module(spec, problem.weights | {"weight_hh_l0": changed}, problem.given).outputs()
        cotangents = problem.cotangents or {}
        return sum((outputs[name] * cotangents[name]).sum().item() for name in outputs)

    slope = (weighed(1e-5) - weighed(-1e-5)) / 2e-5
    assert gradients["weight_hh_l0"][4, 1].item() == pytest.approx(slope, rel=1e-7)
