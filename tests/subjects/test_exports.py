"""torch's exports as sides: each verdict is held against the same export, made and run by hand; and the process.

Nothing here says what an exporter gets right: the export by hand says it. So a verdict stays right when an exporter is
mended or breaks.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from exports_by_hand import MADE_AT, Network, arguments_at, by_hand, module_of
from stand_in_exports import scripted, stand_in
from support import ROOT, Cli

from rnnscope import RnnscopeError, Spec, compare
from rnnscope.subjects import exports
from rnnscope.subjects.foreign import in_one_sentence
from rnnscope.verdict.result import Comparison


def expected(network: Network, sizes: tuple[int, int], folder: Path) -> str:
    """What the export by hand does at some sizes: frozen, same, other."""
    given = arguments_at(network, sizes)
    with torch.no_grad():
        right = module_of(network)(*given)[0]
        try:
            y = by_hand(network, folder)(*given)[0]
        except Exception:
            return "frozen"
    if y.shape != right.shape:
        return "frozen"
    return "same" if (y - right).abs().max() < 1e-5 else "other"


def outcome(found: Comparison) -> str:
    assert found.verdict != "undecided"
    return {"frozen": "frozen", "function": "other"}.get(found.cause or "", "same")


SIZES = ((7, 3), (7, 2), (9, 2))
"""As it was made; another N; another L as well."""

GRID = [
    Network(*each)
    for each in product(
        ("scripted", "onnx@legacy", "exported", "exported@decomposed", "onnx"),
        ("rnn", "lstm", "gru"),
        (1, 2),
        (False, True),
        (False, True),
        ("random", "zeros"),
    )
]

PAIRWISE = [
    Network("scripted", "lstm", 2, True, False, "random"),
    Network("scripted", "rnn", 1, False, True, "zeros"),
    Network("onnx@legacy", "gru", 2, True, True, "random"),
    Network("onnx@legacy", "lstm", 1, False, False, "zeros"),
    Network("exported", "gru", 1, False, False, "random"),
    Network("exported@decomposed", "rnn", 2, True, True, "zeros"),
    Network("onnx", "gru", 1, True, True, "random"),
]
"""Every value of every axis, and each exporter in turn; the whole grid is slow."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("by-hand")


def check(network: Network, folder: Path) -> None:
    there = {sizes: expected(network, sizes, folder) for sizes in SIZES}
    found = {
        sizes: outcome(compare(network.spec(sizes), "module", network.subject, traced_at=MADE_AT)) for sizes in SIZES
    }
    assert found == there


@pytest.mark.parametrize("network", PAIRWISE, ids=lambda each: f"{each.subject}-{each.kind}")
def test_the_verdict_is_what_the_export_by_hand_does(network: Network, folder: Path) -> None:
    check(network, folder)


@pytest.mark.slow
@pytest.mark.parametrize("network", GRID, ids=str)
def test_the_verdict_is_what_the_export_by_hand_does_in_the_whole_grid(network: Network, folder: Path) -> None:
    check(network, folder)


# Forms of call, with exports that are right at all sizes.


@pytest.mark.parametrize(
    "words",
    [
        ("--right", "scripted", "--kind", "lstm", "--lengths", "4,1,2", "--batch-first", "--grad"),
        ("--right", "onnx@legacy", "--kind", "gru", "--unbatched"),
        ("--right", "onnx@legacy", "--kind", "gru", "--lengths", "3,5,1", "--bidirectional"),
        ("--right", "scripted", "--kind", "lstm", "--proj-size", "5", "--dtype", "float64", "--seq-len", "7"),
    ],
    ids=" ".join,
)
def test_a_form_of_call_is_the_same_function(cli: Cli, words: tuple[str, ...]) -> None:
    answer = cli("compare", *words)
    assert (answer.code, answer.err) == (0, "")
    assert "Adapted: The right side" in answer.out


def test_an_export_is_the_left_side_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, scripted())
    assert compare(Spec(kind="gru"), "scripted", "cells").exit_code == 0


@pytest.mark.parametrize(("sizes", "made"), [((3, 5), (7, 3)), ((7, 5), (9, 3)), ((2, 3), (7, 4)), ((7, 3), (9, 4))])
def test_an_export_is_made_at_other_sizes_than_the_run_has(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int], made: tuple[int, int]
) -> None:
    specs = stand_in(monkeypatch, scripted())
    compare(Spec(kind="gru", seq_len=sizes[0], batch_size=sizes[1]), "module", "scripted")
    assert {(each.seq_len, each.batch_size) for each in specs} == {made}


def test_float64_has_an_export_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = stand_in(monkeypatch, scripted())
    compare(Spec(kind="gru"), "module", "scripted")
    assert [each.dtype for each in specs] == ["float32", "float64"]


def test_gradients_of_a_graph_of_onnx_are_refused(cli: Cli) -> None:
    answer = cli("compare", "--right", "onnx@legacy", "--grad")
    assert answer.err == "rnnscope: --right onnx@legacy gives no gradients for --grad; leave --grad out\n"


# What is missing.


@pytest.mark.parametrize(
    ("subject", "package"),
    [("onnx", "onnx"), ("onnx", "onnxscript"), ("onnx", "onnxruntime"), ("onnx@legacy", "onnxruntime")],
)
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, cli: Cli, subject: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    answer = cli("compare", "--right", subject)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == f"rnnscope: {subject} needs the package {package}; install it: pip install '.[onnx]'\n"


LATE = {"onnx", "onnxscript", "onnxruntime", "torch._dynamo", "rnnscope.subjects.exports"}


def test_nothing_is_imported_before_it_is_needed() -> None:
    code = "import rnnscope, sys; rnnscope.compare(rnnscope.Spec()); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert LATE & set(done.stdout.split()) == set()


# The process.


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Let lines of Python be the exporter, which has the folder of its job; folders are made in tmp_path."""

    def let(lines: str) -> None:
        monkeypatch.setattr(exports, "EXPORTER", [sys.executable, "-c", lines])

    monkeypatch.setattr(exports, "_kept", {})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield let
    exports._end_exporters()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("import sys; sys.exit(3)", "the exporter ended with code 3"),
        ("raise ValueError('\\x1b[31mno\\x1b[0m good')", "the exporter ended with code 1 (ValueError: no good)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "the exporter ended with code -9"),
    ],
)
def test_an_exporter_that_dies_is_told_in_a_sentence(
    exporter: Callable[[str], None], cli: Cli, tmp_path: Path, lines: str, said: str
) -> None:
    exporter(lines)
    answer = cli("compare", "--kind", "gru", "--right", "onnx@legacy")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == f"rnnscope: onnx@legacy cannot be made of nn.GRU: {said}\n"
    assert list(tmp_path.iterdir()) == []


def test_an_exporter_that_never_ends_is_ended(
    exporter: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    exporter("import time; time.sleep(600)")
    monkeypatch.setattr(exports, "MOST_SECONDS", 0.5)
    with pytest.raises(RnnscopeError, match=r"the exporter was not done in 0\.5 seconds$"):
        compare(Spec(kind="gru"), "module", "onnx@legacy")
    assert list(tmp_path.iterdir()) == []


def test_what_an_exporter_prints_is_not_seen(
    exporter: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    exporter("import sys; print('out'); print('err', file=sys.stderr); sys.exit(1)")
    with pytest.raises(RnnscopeError):
        compare(Spec(kind="gru"), "module", "onnx@legacy")
    assert capfd.readouterr() == ("", "")


def children_in(folder: Path) -> list[int]:
    """The processes that have a folder among their words."""
    found: list[int] = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = each.read_bytes()
        except OSError:
            continue
        if bytes(folder) in words:
            found.append(int(each.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_no_child_and_no_file_is_left_by_a_signal(tmp_path: Path, number: signal.Signals, code: int) -> None:
    paths = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    keep = signal.signal(signal.SIGINT, signal.SIG_DFL)  # or the child would ignore what a background job ignores
    words = [sys.executable, "-m", "rnnscope", "compare", "--kind", "gru", "--right", "onnx"]
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": paths}
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        signal.signal(signal.SIGINT, keep)
        while not children_in(tmp_path) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        ended = process.wait(60)
    assert ended == code
    deadline = time.monotonic() + 60
    while (children_in(tmp_path) or any(tmp_path.glob("rnnscope-*"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children_in(tmp_path) == []
    assert not any(tmp_path.glob("rnnscope-*"))


# Reasons.


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            "Constraints violated (L['input'].size()[0])! For more information, run with TORCH_LOGS=\"+dynamic\".\n"
            "  - You marked L['input'].size()[0] as dynamic but your code specialized it to be a constant (7). If so\n",
            "your code specialized it to be a constant (7)",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running GRU node. Name:'/GRU' Status "
            "Message: Input initial_h must have shape {1,2,20}. Actual:{1,3,20}",
            "GRU: Input initial_h must have shape {1,2,20}. Actual:{1,3,20}",
        ),
        (
            "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: x for the indices\n"
            " index: 0 Got: 9 Expected: 7\n Please fix either the inputs/outputs or the model.",
            "Got invalid dimensions for input: x for the indices index: 0 Got: 9 Expected: 7",
        ),
        ("\x1b[1mNo.\x1b[0m Really not.\n\nMore", "No"),
        (
            "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript (most recent "
            'call last):\n  File "a", line 1\nRuntimeError: shapes differ\n',
            "shapes differ",
        ),
        ("", "str"),
        ("x" * 400, "x" * 219 + "…"),
    ],
)
def test_a_reason_is_one_sentence(error: str, sentence: str) -> None:
    assert in_one_sentence(error) == sentence


# The compiled module, which is in this process.


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_a_compiled_module_is_compiled(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    graphs = []

    def backend(graph: Any, given: Any) -> Any:
        graphs.append([node.target for node in graph.graph.nodes])
        return graph.forward

    whole: Any = torch.compile
    monkeypatch.setattr("torch.compile", lambda network: whole(network, backend=backend))
    torch._dynamo.reset()
    found = compare(Spec(kind=kind, num_layers=1), "module", "compiled-module")
    name = {"rnn": "rnn_tanh"}.get(kind, kind)
    assert found.verdict == "identical"
    assert any(name in str(target) for graph in graphs for target in graph)
    assert "torch._dynamo.config.allow_rnn" in found.adaptations[0][1][0]
    assert found.adaptations[0][1][1] == "it was called at L = 4, N = 2 first"


def test_what_compiles_puts_back_what_it_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    config: Any = import_module("torch._dynamo.config")
    whole: Any = torch.compile
    monkeypatch.setattr("torch.compile", lambda network: whole(network, backend="eager"))
    before = config.allow_rnn, config.cache_size_limit, logging.root.manager.disable
    compare(Spec(num_layers=1), "module", "compiled-module")
    assert (config.allow_rnn, config.cache_size_limit, logging.root.manager.disable) == before


def test_a_long_module_is_not_compiled(cli: Cli) -> None:
    answer = cli("compare", "--right", "compiled-module", "--seq-len", "33")
    assert answer.code == 2
    assert answer.err == (
        "rnnscope: compiled-module: torch.compile unrolls nn.RNN, and 66 steps of layers take too long; "
        "use --seq-len 32 or less\n"
    )
