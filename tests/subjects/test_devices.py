"""Where work runs: which devices there are, what is said of one that is not, and one that is no CPU."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.backend_registration
from device_stand_ins import stand_in
from support import OWN, Answer, Cli

from rnnscope import Spec, bench, compare, trace
from rnnscope.errors import RnnscopeError
from rnnscope.spec.spec import ACCELERATORS, DEVICE_FORMS, DEVICE_WORDS, nearest_device
from rnnscope.subjects import devices
from rnnscope.subjects.devices import (
    back_ends,
    device_name,
    has_float64,
    is_out_of_memory,
    running,
    take_device,
    wait_for,
)
from rnnscope.timing.bench import clock_of, peak_bytes

ELSEWHERE = Path(__file__).parents[1] / "another_device.py"

NOTHING = not torch.accelerator.is_available()

none_here = pytest.mark.skipif(not NOTHING, reason="says what a machine without an accelerator says")


# Words.


@pytest.mark.parametrize("device", ["cpu", "auto", "mps", "xpu", "xpu:3", "mps:0", "hpu", "npu:12", "privateuseone"])
def test_a_device_can_be_asked_for(device: str) -> None:
    assert Spec(device=device).device == device


@pytest.mark.parametrize("device", ["gpu", "xpu:", "xpu:-1", "xpu:01", "xpu:12345", "cpu:0", "vulkan", "meta", "MPS"])
def test_what_can_be_no_accelerator_is_refused_before_torch_is_there(device: str) -> None:
    with pytest.raises(RnnscopeError, match=r"^--device is "):
        Spec(device=device)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("gpu", "auto"),
        ("MPS", "mps"),
        ("xpuu", "xpu"),
        ("cuda0", "cuda"),
        ("rocm", "cuda"),
        ("metal", "mps"),
        ("x", None),
    ],
)
def test_the_device_that_was_meant(typed: str, meant: str | None) -> None:
    assert nearest_device(typed) == meant


def test_every_word_is_said() -> None:
    assert set(DEVICE_WORDS) == {"cpu", *ACCELERATORS, "auto"}
    assert all(each in DEVICE_FORMS.split(", ") for each in DEVICE_WORDS)


def test_torch_knows_every_type_but_that_of_a_package() -> None:
    assert [each for each in ACCELERATORS if each != "npu" and torch.device(each).type != each] == []


# What is there.


@none_here
@pytest.mark.parametrize("device", [each for each in ACCELERATORS if each != "cuda"])
def test_a_device_that_is_not_there(cli: Cli, device: str) -> None:
    why = f"finds no {device} device on this machine, and no other accelerator"
    sentence = f"rnnscope: --device {device}: torch {torch.__version__} {why}; use --device cpu\n"
    assert cli("compare", "--device", device) == Answer(2, "", sentence)


@none_here
def test_a_side_that_is_not_there(cli: Cli) -> None:
    answer = cli("compare", "--right", "module@xpu:1/bfloat16")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("rnnscope: --right module@xpu:1/bfloat16: torch ")
    assert answer.err.endswith("use --right module@cpu\n")


@none_here
@pytest.mark.parametrize("asked", ["cuda", "xpu", "npu"])
def test_what_is_there_instead_is_named(monkeypatch: pytest.MonkeyPatch, cli: Cli, asked: str) -> None:
    stand_in(monkeypatch, "mps")
    assert cli("compare", "--device", asked).err.endswith("; use --device mps\n")


@pytest.mark.parametrize(("kind", "there"), [("mps", "mps"), ("xpu", "xpu:0")])
@none_here
def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch, kind: str, there: str) -> None:
    stand_in(monkeypatch, kind)
    with running(Spec(device="auto")) as placed:
        assert placed.device == there


@none_here
def test_a_number_that_is_not_there(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    stand_in(monkeypatch, "xpu")
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 2)
    err = cli("compare", "--device", "xpu:2").err
    assert err == "rnnscope: --device xpu:2: this machine has 2 xpu devices, xpu:0 to xpu:1; use --device xpu\n"


@none_here
def test_a_bare_name_is_the_current_device(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "xpu")
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 2)
    monkeypatch.setattr(torch.xpu, "current_device", lambda: 1)
    with running(Spec(device="xpu")) as placed:
        assert placed.device == "xpu:1"


@none_here
def test_a_rank_takes_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "xpu")
    taken: list[int] = []
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 2)
    monkeypatch.setattr(torch.xpu, "set_device", taken.append)
    take_device(3)
    assert taken == [1]


# What it can do.


@pytest.mark.parametrize(("float64", "has_it"), [("", True), ("refused", False), ("rounded", False)])
def test_whether_it_has_float64_is_asked(monkeypatch: pytest.MonkeyPatch, float64: str, has_it: bool) -> None:
    stand_in(monkeypatch, "xpu", float64)
    assert has_float64("xpu:0") is has_it


@none_here
def test_float64_that_a_device_has_not_is_trouble(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    stand_in(monkeypatch, "mps", "refused")
    sentence = "rnnscope: --dtype float64: mps does not compute in float64; use --dtype float32\n"
    assert cli("compare", "--device", "mps", "--dtype", "float64") == Answer(2, "", sentence)


@none_here
def test_no_back_end_is_told_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "xpu")
    with running(Spec(device="xpu")) as placed:
        assert back_ends(placed) == {}


@none_here
def test_its_name_is_told_where_torch_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "xpu")
    assert device_name(Spec(device="xpu:0")) == "xpu:0"
    monkeypatch.setattr(torch.xpu, "get_device_name", lambda _: "Arc B580")
    assert device_name(Spec(device="xpu:0")) == "xpu:0 (Arc B580)"


def test_mps_says_in_its_own_words_that_memory_ran_out() -> None:
    said = "MPS backend out of memory (MPS allocated: 18.00 GB, other allocations: 1.00 GB, max allowed: 18.13 GB)"
    assert is_out_of_memory(RuntimeError(said))


def waiting(error: Exception | None) -> Any:
    def synchronize(device: torch.device) -> None:
        assert device.type == "xpu"
        if error:
            raise error

    return synchronize


def test_a_device_that_cannot_be_waited_for_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("Backend doesn't support synchronizing all streams on device.")
    monkeypatch.setattr(torch.accelerator, "synchronize", waiting(error))
    wait_for("xpu:0")


def test_what_went_wrong_there_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "synchronize", waiting(RuntimeError("UR error")))
    with pytest.raises(RuntimeError, match="UR error"):
        wait_for("xpu:0")


@none_here
def test_the_clock_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "xpu")
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    clock = clock_of("xpu:0")
    assert clock() <= clock()
    assert waited == [torch.device("xpu:0")] * 2


def test_memory_that_is_counted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "wait_for", lambda _: None)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda _: None)
    monkeypatch.setattr(torch.accelerator, "reset_peak_memory_stats", lambda _: None, raising=False)
    monkeypatch.setattr(torch.accelerator, "memory_allocated", lambda _: 100, raising=False)
    monkeypatch.setattr(torch.accelerator, "max_memory_allocated", lambda _: 350, raising=False)
    assert peak_bytes(lambda: None, "xpu:0", 1) == 250


@none_here
def test_memory_that_is_not_counted_is_left_out(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    stand_in(monkeypatch, "mps", "refused")
    found = bench(Spec(device="mps", seq_len=2), ("module", "cells"), min_time=0.01)
    assert [(each.device, each.peak_bytes) for each in found.timings] == [("mps", None)] * 2
    page = " ".join(cli("bench", "--device", "mps", "--min-time", "0.01", "--subjects", "module").out.split())
    assert "Peak: memory that a call takes on top of weights and input, where torch counts it." in page


# A device that is no CPU, in a process of its own.


def there(*words: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(ELSEWHERE), *words],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


COMMANDS = {
    "the whole family": "sweep --kind rnn,lstm,gru --bidirectional both --lengths 3,1 --grad on --device npu",
    "every way": "sweep --kind lstm --right cells,equations,items --left module@npu --batch-first on --threads 1",
    "its own name": "compare --kind gru --left cells --right module@privateuseone --map --power",
    "a class of the user's": f"compare --kind lstm --layers 1 --device auto --right {OWN}:Lstm --grad",
    "chunks": "compare --left module@npu --chunk 2 --no-reference",
    "stress": "compare --kind gru --device npu --stress --dtype bfloat16 --layers 1",
    "shapes": "shapes --device npu --kind lstm",
    "trace": "trace --device npu --kind lstm --bidirectional --values --lengths 3,2",
    "bench": "bench --device npu --min-time 0.01 --grad --subjects module,cells",
}


made_in_python = pytest.mark.skipif(
    not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch cannot have a device that is made in Python",
)


@made_in_python
@pytest.mark.parametrize("float64", ["", "1"], ids=["with float64", "without"])
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_every_command_runs_there(words: str, float64: str) -> None:
    """What is on the wrong device is an error there, and so is a float64 that was not meant."""
    there(*words.split(), NO_FLOAT64=float64)


@made_in_python
def test_the_page_tells_where_it_ran() -> None:
    page = " ".join(there("compare", "--device", "privateuseone").split())
    assert "Run: on privateuseone:0 (npu) in float32" in page
    assert "Rerun: rnnscope compare --device privateuseone:0" in page


# The CPU is as it was.


def test_a_trace_is_what_it_was() -> None:
    assert trace(Spec(device="cpu")).device_name == "cpu"


def test_a_comparison_on_the_cpu_is_in_float64() -> None:
    found = compare(Spec())
    assert found.reference
    assert (found.reference.function.arithmetic, found.reference.without_float64) == ("float64", ())
