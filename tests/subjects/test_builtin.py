"""Subject × case, in float64, against nn.RNN as an outside witness and against numbers worked by hand."""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rnnscope import Spec, compare
from rnnscope.network.weights import Input, draw_input, draw_weights
from rnnscope.subjects.builtin import SUBJECTS, Run
from rnnscope.subjects.devices import running

EAGER = ("module", "cells", "equations", "items")
"""The subjects that need no compiler: see test_compiled.py for the other."""

CASES = [
    Spec(
        input_size=4,
        hidden_size=hidden,
        num_layers=layers,
        nonlinearity=nonlinearity,
        bias=bias,
        batch_first=batch_first,
        h0=h0,
        seq_len=6,
        batch_size=3,
        dtype="float64",
        seed=7,
    )
    for hidden, layers, nonlinearity, bias, batch_first, h0 in product(
        (1, 5), (1, 3), ("tanh", "relu"), (True, False), (True, False), ("random", "zeros")
    )
]


def run_of(spec: Spec, subject: str) -> Run:
    with running(spec) as placed:
        return SUBJECTS[subject](placed, draw_weights(placed), draw_input(placed))


def witness(spec: Spec) -> tuple[Tensor, Tensor]:
    """torch's own module, filled here by hand from the drawn weights."""
    module = nn.RNN(
        spec.input_size,
        spec.hidden_size,
        spec.num_layers,
        spec.nonlinearity,
        bias=spec.bias,
        batch_first=spec.batch_first,
        dtype=torch.float64,
    )
    given = draw_input(spec)
    with torch.no_grad():
        for name, value in draw_weights(spec).items():
            getattr(module, name).copy_(value)
        y, h = module(given.x, given.state[0])
    return y, h


@pytest.mark.parametrize("subject", EAGER)
@pytest.mark.parametrize("spec", CASES, ids=lambda spec: spec.h0 + str(CASES.index(spec)))
def test_values_are_those_of_torch(spec: Spec, subject: str) -> None:
    run, (y, h) = run_of(spec, subject), witness(spec)
    torch.testing.assert_close(run.y, y, rtol=0, atol=1e-14)
    torch.testing.assert_close(run.state[0], h, rtol=0, atol=1e-14)


@pytest.mark.parametrize("subject", EAGER)
@pytest.mark.parametrize(("nonlinearity", "act"), [("tanh", math.tanh), ("relu", lambda a: max(a, 0.0))])
def test_two_steps_of_two_layers_by_hand(subject: str, nonlinearity: str, act: Callable[[float], float]) -> None:
    spec = Spec(
        input_size=1, hidden_size=1, num_layers=2, nonlinearity=nonlinearity, seq_len=2, batch_size=1, dtype="float64"
    )
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    facts = dict(zip(names, (0.5, -2.0, 0.125, 0.25), strict=True))
    facts |= {"weight_ih_l1": 3.0, "weight_hh_l1": 0.75, "bias_ih_l1": -0.5, "bias_hh_l1": 0.0625}
    weights = {
        name: torch.full((1, 1) if "weight" in name else (1,), value, dtype=torch.float64)
        for name, value in facts.items()
    }
    x, h0 = [[[1.0]], [[-3.0]]], [[[0.1]], [[0.2]]]
    given = Input(torch.tensor(x, dtype=torch.float64), (torch.tensor(h0, dtype=torch.float64),))
    with running(spec):
        run = SUBJECTS[subject](spec, weights, given)
    # h = act(w_ih·x + b_ih + w_hh·h + b_hh), layer 0 then layer 1, step 0 then step 1.
    a0 = act(0.5 * 1.0 + 0.125 - 2.0 * 0.1 + 0.25)
    b0 = act(3.0 * a0 - 0.5 + 0.75 * 0.2 + 0.0625)
    a1 = act(0.5 * -3.0 + 0.125 - 2.0 * a0 + 0.25)
    b1 = act(3.0 * a1 - 0.5 + 0.75 * b0 + 0.0625)
    torch.testing.assert_close(run.y.flatten().tolist(), [b0, b1], rtol=1e-15, atol=1e-15)
    torch.testing.assert_close(run.state[0].flatten().tolist(), [a1, b1], rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("subject", EAGER)
@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l1", "weight_hh_l1"])
def test_every_weight_that_is_given_is_used(subject: str, name: str) -> None:
    spec = Spec(dtype="float64")
    weights, given = draw_weights(spec), draw_input(spec)
    with running(spec):
        before = SUBJECTS[subject](spec, weights, given)
        after = SUBJECTS[subject](spec, weights | {name: weights[name] + 0.01}, given)
    assert not torch.equal(before.y, after.y)


@pytest.mark.parametrize("subject", EAGER)
def test_a_subject_leaves_weights_and_input_alone(subject: str) -> None:
    spec = Spec()
    weights, given = draw_weights(spec), draw_input(spec)
    copies = {name: each.clone() for name, each in weights.items()} | {
        name: each.clone() for name, each in given.tensors().items()
    }
    with running(spec):
        SUBJECTS[subject](spec, weights, given)
    assert all(torch.equal(copies[name], each) for name, each in (weights | given.tensors()).items())


def test_a_seed_means_the_same_numbers_in_every_dtype() -> None:
    double = draw_weights(Spec(dtype="float64"))
    half = draw_weights(Spec(dtype="bfloat16"))
    assert all(torch.equal(double[name].bfloat16(), half[name]) for name in double)


def test_another_seed_is_another_network_and_another_input() -> None:
    assert not torch.equal(draw_input(Spec(seed=0)).x, draw_input(Spec(seed=1)).x)
    assert not torch.equal(draw_weights(Spec(seed=0))["weight_hh_l0"], draw_weights(Spec(seed=1))["weight_hh_l0"])


def test_weights_are_within_the_limits_of_torch() -> None:
    drawn = torch.cat([each.flatten() for each in draw_weights(Spec(hidden_size=100)).values()])
    assert drawn.abs().max() <= 0.1  # 1/√100
    assert drawn.abs().max() > 0.099


def test_weights_have_both_signs() -> None:
    assert (draw_weights(Spec())["weight_hh_l0"] < 0).any()


def test_input_is_no_repetition_of_the_weights() -> None:
    spec = Spec(input_size=20, hidden_size=20)
    uniform = torch.rand(5, generator=torch.Generator().manual_seed(4 * spec.seed), dtype=torch.float64)
    normal = torch.randn(5, generator=torch.Generator().manual_seed(4 * spec.seed), dtype=torch.float64)
    assert not torch.allclose(draw_input(spec).state[0].flatten()[:5].double(), normal)
    assert torch.allclose((draw_weights(spec)["weight_ih_l0"].flatten()[:5].double() * 20**0.5 + 1) / 2, uniform)


def test_a_longer_sequence_keeps_its_h0() -> None:
    assert torch.equal(draw_input(Spec(seq_len=3)).state[0], draw_input(Spec(seq_len=9)).state[0])


def test_h0_of_zeros_is_zeros_and_random_is_not() -> None:
    assert not draw_input(Spec(h0="zeros")).state[0].any()
    assert draw_input(Spec(h0="random")).state[0].all()


def state_of_torch() -> tuple[Any, ...]:
    return (
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.get_rng_state().sum().item(),
    )


def test_the_state_of_torch_is_put_back() -> None:
    before = state_of_torch()
    compare(Spec(threads=before[0] + 1))
    assert state_of_torch() == before


def test_the_state_of_torch_is_put_back_after_an_error() -> None:
    before = state_of_torch()

    def fail() -> None:
        with running(Spec(threads=before[0] + 1)):
            torch.rand(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert state_of_torch() == before


def test_threads_are_as_asked_while_it_runs() -> None:
    with running(Spec(threads=2)):
        two = torch.get_num_threads()
    with running(Spec(threads=1)):
        one = torch.get_num_threads()
    assert (two, one) == (2, 1)


def test_inference_runs_without_autograd() -> None:
    run = run_of(Spec(), "cells")
    assert not run.y.requires_grad


def test_the_callers_default_dtype_does_not_matter() -> None:
    before = compare(Spec())
    torch.set_default_dtype(torch.float64)
    try:
        assert compare(Spec()) == before
    finally:
        torch.set_default_dtype(torch.float32)


def test_auto_is_the_cpu_where_there_is_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with running(Spec(device="auto")) as placed:
        assert placed.device == "cpu"


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("subject", EAGER)
def test_what_comes_out_has_the_dtype_that_was_asked_for(subject: str, dtype: str) -> None:
    run = run_of(Spec(dtype=dtype), subject)
    assert (run.y.dtype, run.state[0].dtype) == (getattr(torch, dtype),) * 2


def test_a_callers_autocast_does_not_reach_inside() -> None:
    before = compare(Spec())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert compare(Spec()) == before
