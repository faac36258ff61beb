"""Faults of devices that are not here: each is seen on a stand-in, with its place, and with its reason where it has a
name. A device without float64 is asked in float32, and that is said."""

import json
from typing import Any

import pytest
import torch
from device_stand_ins import DEVICES, FAULTS, stand_in, with_fault
from support import OWN, Cli

from rnnscope import Spec, compare
from rnnscope.network.weights import Input, Weights
from rnnscope.subjects import builtin
from rnnscope.subjects.builtin import Run, run_module
from rnnscope.verdict.facts import Reference
from rnnscope.verdict.result import Comparison

pytestmark = pytest.mark.usefixtures("single_deviations")

SMALL: dict[str, Any] = {"kind": "lstm", "input_size": 3, "hidden_size": 4, "threads": 1}

ALL_KINDS = ("rnn", "lstm", "gru")


def on_device(device: str, right: str = "module", grad: bool = False, **flags: Any) -> Comparison:
    return compare(Spec(**SMALL | flags), "module", f"{right}@{device}", grad=grad)


def reference_of(found: Comparison) -> Reference:
    assert found.reference
    return found.reference


@pytest.mark.parametrize("kind", DEVICES)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_seen_with_its_place_and_reason(monkeypatch: pytest.MonkeyPatch, name: str, kind: str) -> None:
    fault = FAULTS[name]
    with_fault(monkeypatch, kind, name)
    found = on_device(kind, grad=fault.grad, **fault.flags)
    place = found.first_divergence
    assert (found.verdict, found.cause, found.side) == ("different", fault.cause, "right")
    assert (place and (place.layer, place.batch)) == fault.place
    assert [each.convention for each in found.explanations] == ([fault.named] if fault.named else [])
    assert bool(found.gradient_fault) is fault.grad


@pytest.mark.parametrize("right", ["cells", "equations", "items"])
def test_ways_without_the_kernel_do_not_have_its_fault(monkeypatch: pytest.MonkeyPatch, right: str) -> None:
    with_fault(monkeypatch, "mps", "a large batch")
    assert on_device("mps", right, **FAULTS["a large batch"].flags).exit_code == 0


@pytest.mark.parametrize("grad", [False, True], ids=["outputs", "gradients"])
@pytest.mark.parametrize("kind_of_network", ALL_KINDS)
@pytest.mark.parametrize("right", ["module", "cells", "equations", f"{OWN}:Lstm"])
def test_a_right_network_is_the_same_without_float64(
    monkeypatch: pytest.MonkeyPatch, right: str, kind_of_network: str, grad: bool
) -> None:
    if right.endswith("Lstm") and kind_of_network != "lstm":
        pytest.skip("it is an LSTM")
    stand_in(monkeypatch, "mps", "refused")
    found = on_device("mps", right, grad, kind=kind_of_network, num_layers=1 if right.endswith("Lstm") else 2)
    assert found.exit_code == 0
    assert reference_of(found).function.arithmetic == "float32"
    assert reference_of(found).without_float64 == ("right",)


def test_it_is_said_that_a_device_has_no_float64(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    stand_in(monkeypatch, "mps", "refused")
    page = " ".join(cli("compare", "--right", "cells@mps").out.split())
    said = "the right side (cells) does not run in float64, so that it was judged in float32"
    assert f"Blind spot: {said}: a fault smaller than its rounding would not be seen." in page
    assert "no-float64" in page.partition("More: rnnscope explain ")[2]
    assert "Run: on cpu, mps in float32" in page


def test_a_coarser_dtype_is_asked_in_float32(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    """There rounding hides less than in the dtype itself."""
    stand_in(monkeypatch, "mps", "refused")
    found = on_device("mps", "cells", dtype="bfloat16")
    assert (found.exit_code, reference_of(found).function.arithmetic) == (0, "float32")
    assert "judged in float32" in cli("compare", "--dtype", "bfloat16", "--right", "cells@mps").out


def test_both_sides_may_be_there(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    stand_in(monkeypatch, "mps", "refused")
    answer = cli("compare", "--kind", "gru", "--device", "mps", "--grad", "--map", "--power", "--json")
    facts = json.loads(answer.out)
    assert (answer.code, facts["environment"]["device"], facts["spec"]["device"]) == (0, "mps", "mps")
    assert facts["reference"]["function_max_abs"] < 1e-5


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("gate", ["r", "z", "n"])
def test_a_gate_is_named(monkeypatch: pytest.MonkeyPatch, gate: str, device: str) -> None:
    """Also in float32, where rounding leaves less to see."""
    stand_in(monkeypatch, device, "refused" if device == "mps" else "")

    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        if not spec.device.startswith(device):
            return run_module(spec, weights, given)
        rows = slice(*(spec.hidden_size * ("rzn".index(gate) + end) for end in (0, 1)))
        other = {name: each.clone() for name, each in weights.items()}
        other["weight_hh_l0"][rows] *= 0.75
        return run_module(spec, other, given)

    monkeypatch.setitem(builtin.SUBJECTS, "module", run)
    found = on_device(device, kind="gru", hidden_size=20)
    assert (found.verdict, found.gate) == ("different", gate)


def _in_float32(spec: Spec, weights: Weights, given: Input) -> Run:
    """A kernel that has float32 alone, and says nothing."""
    if spec.device == "cpu" or spec.dtype != "float64":
        return run_module(spec, weights, given)
    coarse = Input(given.x.float(), tuple(each.float() for each in given.state))
    rounded = {name: each.float() for name, each in weights.items()}
    run = run_module(Spec(**vars(spec) | {"dtype": "float32"}), rounded, coarse)
    return Run(run.y.double(), tuple(each.double() for each in run.state), run.parameters)


def test_a_kernel_that_computes_float64_in_float32_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "xpu")
    monkeypatch.setitem(builtin.SUBJECTS, "module", _in_float32)
    asked = on_device("xpu", dtype="float64", hidden_size=20)
    assert (asked.verdict, asked.cause, asked.side) == ("different", "precision", "right")
    assert [(each.side, each.arithmetic) for each in reference_of(asked).inside] == [("right", "float32")]


def test_it_is_no_other_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 it computes as well as any other."""
    stand_in(monkeypatch, "xpu")
    monkeypatch.setitem(builtin.SUBJECTS, "module", _in_float32)
    found = on_device("xpu", hidden_size=20)
    assert (found.exit_code, [each.arithmetic for each in reference_of(found).inside]) == (0, ["float32"])


def test_a_device_that_rounds_every_float64_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "xpu", "rounded")
    found = on_device("xpu", "cells")
    assert (found.exit_code, reference_of(found).without_float64) == (0, ("right",))


def test_modules_that_are_there_are_compared_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their parameters say where they are; a number does not tell it, as there is one MPS device."""
    from rnnscope.subjects.devices import spelled

    stand_in(monkeypatch, "mps", "refused")
    assert [spelled(torch.device(each)) for each in ("cpu", "mps:0", "xpu:1", "meta")] == ["cpu", "mps", "xpu:1", None]
