"""What only a machine with a GPU can show: both paths run there, and the caption says which device it was."""

import json
from typing import Any

import pytest
import torch
from support import Cli

from rnnscope import Spec, bench, compare, observed_shapes, trace
from rnnscope.network.weights import draw_input, draw_weights

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_module_and_cells_are_the_same_network(nonlinearity: str, batch_first: bool) -> None:
    spec = Spec(device="cuda", dtype="float64", nonlinearity=nonlinearity, batch_first=batch_first, num_layers=3)
    assert compare(spec, rtol=1e-12, atol=1e-12).exit_code == 0


@pytest.mark.parametrize("right", ["cells", "equations"])
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize(
    "form", [{}, {"unbatched": True}, {"lengths": (2, 5, 1)}], ids=["batched", "unbatched", "packed"]
)
def test_the_whole_family_with_gradients(kind: str, form: dict[str, Any], right: str) -> None:
    spec = Spec(kind=kind, device="cuda", dtype="float64", bidirectional=True, batch_first=True, **form)
    assert compare(spec, right=right, rtol=1e-11, atol=1e-11, grad=True).exit_code == 0


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_dtype_is_computed_as_it_is_asked_for(kind: str, dtype: str) -> None:
    assert compare(Spec(kind=kind, device="cuda", dtype=dtype), rtol=5e-2, atol=5e-2).exit_code == 0


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_shapes_come_out_on_the_device_in_every_dtype(dtype: str) -> None:
    shapes = observed_shapes(Spec(device="cuda", dtype=dtype))
    assert (shapes.exit_code, shapes.spec.device) == (0, "cuda:0")


@pytest.mark.parametrize(
    "form", [{}, {"lengths": (2, 5, 1)}, {"batch_first": True}], ids=["batched", "packed", "batch"]
)
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_each_item_by_itself(kind: str, form: dict[str, Any]) -> None:
    spec = Spec(kind=kind, device="cuda", dtype="float64", bidirectional=True, **form)
    assert compare(spec, right="items", map=True).exit_code == 0


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_a_trace_runs_there(kind: str) -> None:
    found = trace(Spec(kind=kind, device="cuda", bidirectional=True, lengths=(3, 2)), values=True)
    assert (found.exit_code, found.spec.device) == (0, "cuda:0")


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_a_script_runs_there(kind: str, bash: Cli) -> None:
    answer = bash(f"rnnscope code --kind {kind} --device cuda --bidirectional | python -")
    assert answer.out.endswith("the same network\n")


@pytest.mark.parametrize("grad", [False, True], ids=["forward", "grad"])
def test_a_benchmark_runs_there(grad: bool) -> None:
    found = bench(Spec(kind="lstm", device="cuda"), ("module", "cells", "module@cpu"), (3, 30), grad, 0.01)
    assert [each.message for each in found.timings] == [None] * 6
    assert [each.device for each in found.timings] == ["cuda:0"] * 4 + ["cpu"] * 2
    for each in found.timings[:4]:
        assert each.peak_bytes is not None
        assert each.peak_bytes >= each.seq_len * 5 * 20 * 4  # y
    assert torch.cuda.get_device_name(0) in found.device_name
    assert {"cudnn", "onednn"} <= dict(found.back_ends).keys()


def test_a_seed_means_the_same_network_on_cpu_and_gpu() -> None:
    here, there = (draw_weights(Spec(device=device)) for device in ("cpu", "cuda"))
    assert all(torch.equal(here[name], there[name].cpu()) for name in here)
    assert torch.equal(draw_input(Spec()).x, draw_input(Spec(device="cuda")).x.cpu())


def test_the_caption_names_the_device(cli: Cli) -> None:
    answer = cli("compare", "--device", "cuda", "--dtype", "float64")
    assert f"Run: on cuda:0 ({torch.cuda.get_device_name(0)}) in float64" in answer.out
    assert "rnnscope compare --device cuda:0 --dtype float64" in answer.out


def test_auto_is_the_gpu(cli: Cli) -> None:
    answer = cli("shapes", "--device", "auto", "--json")
    assert json.loads(answer.out)["spec"]["device"] == "cuda:0"


def test_a_device_that_is_not_there_is_trouble(cli: Cli) -> None:
    answer = cli("compare", "--device", "cuda:99")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("rnnscope: --device cuda:99: this machine has ")


def test_the_random_state_of_the_device_is_left_alone() -> None:
    before = torch.cuda.get_rng_state()
    compare(Spec(device="cuda"))
    assert torch.equal(torch.cuda.get_rng_state(), before)
