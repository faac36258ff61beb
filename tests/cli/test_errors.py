"""Every sentence that a user sees when something is wrong: word for word, on one line of stderr, with exit code 2."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Answer, Cli

from rnnscope import Spec, compare, observed_shapes
from rnnscope.errors import RnnscopeError
from rnnscope.network import costs as memory
from rnnscope.network.cells import StackedCells
from rnnscope.spec.spec import DEVICE_FORMS

IN_TORCH = (
    "module, cells, equations, compiled, compiled-module, items, quantized, "
    "FILE.py:Class, package.module:Class, cell:FILE.py:Class"
)
ELSEWHERE = (
    "exported, exported@decomposed, scripted, onnx, onnx@legacy, "
    "FILE.onnx, FILE.pt2, command:WORDS, recorded:FILE, deviation:NAME"
)
"""The sides that there are."""

WRONG_VALUES = {
    "--layers 0": "--layers is 0, but it must be a whole number of at least 1; try --layers 2",
    "--num-layers -3": "--layers is -3, but it must be a whole number of at least 1; try --layers 2",
    "--input-size 2.5": "--input-size is '2.5', but it must be a whole number of at least 1; try --input-size 10",
    "--hidden-size many": "--hidden-size is 'many', but it must be a whole number of at least 1; try --hidden-size 20",
    "--seq-len=": "--seq-len is '', but it must be a whole number of at least 1; try --seq-len 3",
    "--batch -1": "--batch is -1, but it must be a whole number of at least 0; try --batch 5",
    "--seed -1": "--seed is -1, but it must be a whole number of at least 0; try --seed 0",
    "--seed 1073741824": "--seed is 1073741824, but it must be at most 1073741823; try --seed 0",
    "--dropout 1.5": "--dropout is 1.5, but it must be a number from 0 to 1; try --dropout 0.0",
    "--lengths 3,0,1": (
        "--lengths is '3,0,1', but it must be whole numbers of at least 1 with commas between them; try --lengths 3,2,2"
    ),
    "--lengths 3;2": (
        "--lengths is '3;2', but it must be whole numbers of at least 1 with commas between them; try --lengths 3,2,2"
    ),
    "--lengths 3,2 --batch 4": "--batch is 4, but --lengths has 2 sequences; leave --batch out",
    "--lengths 3,2 --seq-len 9": "--seq-len is 9, but --lengths has a longest of 3; leave --seq-len out",
    "--lengths 9,8 --seq-len 3": "--seq-len is 3, but --lengths has a longest of 9; leave --seq-len out",
    "--unbatched --batch 5": "--batch is 5, but --unbatched is 1 sequence; leave --batch out",
    "--unbatched --batch 4": "--batch is 4, but --unbatched is 1 sequence; leave --batch out",
    "--unbatched --lengths 3": "--unbatched is one sequence, and --lengths packs several; give one of the two",
    "--kind gru --nonlinearity relu": "--nonlinearity is relu, but nn.GRU has none to choose; use --kind rnn",
    "--proj-size 3": "--proj-size is 3, but nn.RNN has no projection; use --kind lstm",
    "--kind gru --proj-size 3": "--proj-size is 3, but nn.GRU has no projection; use --kind lstm",
    "--kind lstm --proj-size 20": (
        "--proj-size is 20, but it must be smaller than --hidden-size 20; try --proj-size 10"
    ),
    "--layers 9223372036854775808": (
        "--layers is 9223372036854775808, but it must be at most 9223372036854775807; try --layers 2"
    ),
    "--threads 0": "--threads is 0, but it must be a whole number of at least 1; try --threads 1",
    "--threads 1025": "--threads is 1025, but it must be at most 1024; try --threads 1",
    "--dtype float23": (
        "--dtype is 'float23', but it must be one of float32, float64, bfloat16, float16; did you mean --dtype float32?"
    ),
    "--dtype int": "--dtype is 'int', but it must be one of float32, float64, bfloat16, float16; try --dtype float32",
    "--nonlinearity tan": (
        "--nonlinearity is 'tan', but it must be one of tanh, relu; did you mean --nonlinearity tanh?"
    ),
    "--h0 ones": "--h0 is 'ones', but it must be one of random, zeros; try --h0 random",
    "--device gpu": f"--device is 'gpu', but it must be one of {DEVICE_FORMS}; did you mean --device auto?",
    "--device xpuu": f"--device is 'xpuu', but it must be one of {DEVICE_FORMS}; did you mean --device xpu?",
    "--device MPS": f"--device is 'MPS', but it must be one of {DEVICE_FORMS}; did you mean --device mps?",
    "--device vulkan": f"--device is 'vulkan', but it must be one of {DEVICE_FORMS}; try --device cpu",
    "--device cuda:x": f"--device is 'cuda:x', but it must be one of {DEVICE_FORMS}; did you mean --device cuda?",
    "--kind LSTM": "--kind is 'LSTM', but it must be one of rnn, lstm, gru; did you mean --kind lstm?",
    "--kind tnn": "--kind is 'tnn', but it must be one of rnn, lstm, gru; did you mean --kind rnn?",
    "--layres 3": "no such flag: --layres; did you mean --layers?",
    "--quiet=1": "--quiet=1: --quiet takes no value; use --quiet",
    "--bias=off": "--bias=off: --bias takes no value; use --bias or --no-bias",
    "--layers": "--layers needs a whole number of at least 1; try --layers 2",
    "--layers --threads 1": "--layers needs a whole number of at least 1; try --layers 2",
    "--kind --layers 2": "--kind needs one of rnn, lstm, gru; try --kind rnn",
    "--device": f"--device needs one of {DEVICE_FORMS}; try --device cpu",
    "--lengths -q": ("--lengths needs whole numbers of at least 1 with commas between them; try --lengths 3,2,2"),
    "--weights": "--weights needs the name of a file; try --weights model.pt",
    "--export -q": "--export needs the name of a file; try --export page.svg",
    "3": "unexpected argument: 3; see rnnscope {command} --help",
    "--zzzz": "no such flag: --zzzz; see rnnscope {command} --help",
}


def is_refused(answer: Answer, sentence: str) -> None:
    assert answer == Answer(2, "", f"rnnscope: {sentence}\n")


@pytest.mark.parametrize("command", ["shapes", "compare"])
@pytest.mark.parametrize("typed", WRONG_VALUES)
def test_a_wrong_value_is_named_with_what_mends_it(cli: Cli, command: str, typed: str) -> None:
    is_refused(cli(command, *typed.split(" ")), WRONG_VALUES[typed].format(command=command))


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (
            "-q",
            "no command was given; use shapes, compare, check, sweep, trace, bench, code, weights, convert, help, "
            "explain, or --help",
        ),
        ("compair", "no such command: compair; did you mean compare?"),
        ("sing", "no such command: sing; see rnnscope --help"),
        ("a\nb\x1b[31m", r"no such command: a\nb\x1b[31m; see rnnscope --help"),
        ("compare --zq\nb", r"no such flag: --zq\nb; see rnnscope compare --help"),
        ("--versoin", "no such flag: --versoin; did you mean --version?"),
        (
            "shapes --format xml",
            "--format is 'xml', but it must be one of table, json, tsv, markdown; try --format table",
        ),
        (
            "compare --format xml",
            "--format is 'xml', but it must be one of table, json, tsv, markdown, junit, github; try --format table",
        ),
        (
            "shapes --path cell",
            "--path is 'cell', but it must be one of both, module, cells; did you mean --path cells?",
        ),
        (
            "compare --left modul",
            f"--left is 'modul', but it must be one of {IN_TORCH}, {ELSEWHERE}; did you mean --left module?",
        ),
        (
            "compare --right gru",
            f"--right is 'gru', but it must be one of {IN_TORCH}, {ELSEWHERE}; try --right cells",
        ),
        (
            "compare --left module@gpu",
            f"--left is 'module@gpu', but it must be module@DEVICE with one of {DEVICE_FORMS}; "
            "did you mean --left module@auto?",
        ),
        (
            "compare --right cells@cpu/int8",
            "--right is 'cells@cpu/int8', but it must be cells@cpu/DTYPE with one of float32, float64, bfloat16, "
            "float16; try --right cells@cpu/float32",
        ),
        (
            "compare --right deviation:h0-ignord@cpu/int8",
            "--right is 'deviation:h0-ignord@cpu/int8', but it must be deviation:h0-ignord@cpu/DTYPE with one of "
            "float32, float64, bfloat16, float16; try --right deviation:h0-ignord@cpu/float32",
        ),
        (
            "compare --right deviation:h0-ignord",
            "--right names no deviation: 'h0-ignord'; did you mean --right deviation:h0-ignored?",
        ),
        ("compare --left deviation:", "--left names no deviation: ''; rnnscope explain lists them"),
        ("sweep --right cells,deviation:x", "--right names no deviation: 'x'; rnnscope explain lists them"),
        (
            "compare --right deviation:reset-before-the-matmul",
            "--right deviation:reset-before-the-matmul makes no sense for nn.RNN (2 layers, tanh); try rnnscope "
            "compare --kind gru --right deviation:reset-before-the-matmul",
        ),
        (
            "bench --subjects deviation:h0-ignored",
            f"--subjects is 'deviation:h0-ignored', but it must be one of {IN_TORCH}; try --subjects cells",
        ),
        (
            "compare --kind lstm --proj-size 3 --left compiled",
            "--left compiled cannot do --proj-size 3, since nn.LSTMCell knows no projection; use --left equations",
        ),
        (
            "compare --resync --no-reference",
            "--resync feeds every step the reference's state, and --no-reference leaves it out; give one of the two",
        ),
        ("compare --rtol 1e-3", "--rtol 0.001 is given without --atol; give both, for example --atol 0"),
        ("compare --atol 1e-3", "--atol 0.001 is given without --rtol; give both, for example --rtol 0"),
        (
            "compare --rtol x --atol 0",
            "--rtol is 'x', but it must be a finite number of at least 0; try --rtol 1e-05",
        ),
        (
            "compare --rtol 0 --atol -1",
            "--atol is -1.0, but it must be a finite number of at least 0; try --atol 1e-05",
        ),
        (
            "compare --rtol 1_0 --atol 0",
            "--rtol is '1_0', but it must be a finite number of at least 0; try --rtol 1e-05",
        ),
        (
            "compare --rtol inf --atol 0",
            "--rtol is inf, but it must be a finite number of at least 0; try --rtol 1e-05",
        ),
        (
            "compare --rtol nan --atol 0",
            "--rtol is nan, but it must be a finite number of at least 0; try --rtol 1e-05",
        ),
        (
            "compare --batch 0",
            "--batch is 0, so y and h have no elements and there is nothing to see; try --batch 1 or more",
        ),
    ],
)
def test_each_command_says_what_it_cannot_do(cli: Cli, typed: str, sentence: str) -> None:
    is_refused(cli(*typed.split(" ") if typed else ()), sentence)


def test_contradicting_formats_are_refused(cli: Cli) -> None:
    answer = cli("shapes", "--json", "--format", "tsv")
    assert (answer.code, answer.err) == (
        2,
        "rnnscope: --json means --format json, but --format is tsv; give one of the two\n",
    )


@pytest.mark.parametrize("form", ["json", "tsv"])
def test_a_document_of_too_many_rows_is_refused(cli: Cli, form: str) -> None:
    answer = cli("shapes", "--dry-run", "--layers", "250001", "--format", form)
    assert answer.code == 2
    assert answer.err == (
        "rnnscope: --layers is 250001: its 1,000,004 parameters are over the limit of 1,000,000 rows; "
        "use --format table, which leaves out the layers in the middle\n"
    )


def test_what_memory_cannot_hold_is_refused_with_both_figures(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 2**30)
    # Three matrices of 100,000 × 100,000 (the first weight_ih is narrow) at 3·8 bytes: drawn, rounded, and in the
    # network that runs in float64. 720e9 = 670.6·2^30, and 0.4·2^30 for torch itself.
    is_refused(
        cli("compare", "--hidden-size", "100000"),
        "these sizes need about 760 GiB of memory, and 1 GiB is free; "
        "make --seq-len, --batch, --hidden-size or --layers smaller, or add --no-memory-check",
    )


def test_no_memory_check_runs_where_memory_looks_too_small(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 1)
    assert cli("compare", "-q").code == 2
    assert cli("compare", "-q", "--no-memory-check").code == 0


def test_a_dry_run_needs_no_memory(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 1)
    assert cli("shapes", "-q", "--dry-run").code == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without CUDA says")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
@pytest.mark.parametrize(
    ("built_for", "why"), [(None, "is a build without CUDA"), ("13.0", "finds no CUDA device on this machine")]
)
def test_without_cuda(cli: Cli, monkeypatch: pytest.MonkeyPatch, device: str, built_for: str | None, why: str) -> None:
    monkeypatch.setattr(torch.version, "cuda", built_for)
    is_refused(
        cli("compare", "--device", device), f"--device {device}: torch {torch.__version__} {why}; use --device cpu"
    )


@pytest.mark.parametrize(("count", "there"), [(1, "1 CUDA device, cuda:0"), (3, "3 CUDA devices, cuda:0 to cuda:2")])
def test_a_cuda_device_that_is_not_there(cli: Cli, monkeypatch: pytest.MonkeyPatch, count: int, there: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    is_refused(cli("compare", "--device", "cuda:7"), f"--device cuda:7: this machine has {there}; use --device cuda")


def raising(error: Exception) -> Callable[..., Any]:
    def forward(*_: object) -> None:
        raise error

    return forward


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Half'"),
            f"--dtype float16: torch {torch.__version__} cannot compute nn.RNN in float16 on cpu "
            "(\"addmm_impl_cpu_\" not implemented for 'Half'); use --dtype float32",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes.\nat frame 0"),
            "out of memory on cpu ([enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes.); "
            "make --seq-len, --batch, --hidden-size or --layers smaller",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB."),
            "out of memory on cpu (CUDA out of memory. Tried to allocate 9 GiB.); "
            "make --seq-len, --batch, --hidden-size or --layers smaller",
        ),
        (
            MemoryError(),
            "out of memory on cpu; make --seq-len, --batch, --hidden-size or --layers smaller",
        ),
        (
            RuntimeError("something else\non two lines"),
            "unexpected RuntimeError: something else; add --debug for the traceback",
        ),
        (ZeroDivisionError(), "unexpected ZeroDivisionError; add --debug for the traceback"),
    ],
    ids=["dtype", "cpu-memory", "cuda-memory", "python-memory", "runtime-error", "other"],
)
def test_what_torch_raises(cli: Cli, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str) -> None:
    monkeypatch.setattr(StackedCells, "forward", raising(error))
    is_refused(cli("compare", "--dtype", "float16"), sentence)


def test_a_traceback_is_shown_under_debug_alone(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StackedCells, "forward", raising(ZeroDivisionError("deep down")))
    assert "Traceback" not in cli("compare").err
    assert "ZeroDivisionError: deep down" in cli("compare", "--debug").err
    quiet = cli("compare", "--debug", "-q")
    assert (quiet.out, "ZeroDivisionError: deep down" in quiet.err) == ("", True)


def test_an_error_under_json_is_a_document(cli: Cli) -> None:
    answer = cli("compare", "--json", "--layers", "0")
    assert json.loads(answer.out) == {
        "schema": 1,
        "command": "compare",
        "error": {
            "message": "--layers is 0, but it must be a whole number of at least 1",
            "hint": "try --layers 2",
        },
    }


@pytest.mark.parametrize("words", [("--json",), ("--format", "json"), ("--format=json",)], ids=" ".join)
def test_a_parse_error_under_json_is_a_document_too(cli: Cli, words: tuple[str, ...]) -> None:
    assert json.loads(cli("compare", "--layres", "2", *words).out)["error"]["message"] == "no such flag: --layres"


@pytest.mark.parametrize("words", ["compare -q --json --layers 0", "-q --json compare --layers 0"])
def test_an_error_under_quiet_goes_to_stderr_alone(cli: Cli, words: str) -> None:
    is_refused(cli(*words.split()), "--layers is 0, but it must be a whole number of at least 1; try --layers 2")


def test_an_export_that_fails_is_told_under_quiet(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "page.svg"
    monkeypatch.setattr("rnnscope.pages.render._put_in_place", full)
    answer = cli("shapes", "--dry-run", "-q", "--export", str(path))
    is_refused(answer, f"cannot write {path} (No space left on device)")
    assert list(tmp_path.iterdir()) == []


def test_a_closed_stdout_is_trouble(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from rnnscope.cli.shell import run

    monkeypatch.setattr(sys, "stdout", None)
    assert run(["shapes", "--dry-run"]) == 2
    assert capsys.readouterr().err == "rnnscope: cannot write to standard output (it is closed)\n"


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("words", [(), ("-q",), ("-q", "--json")], ids=str)
def test_ctrl_c_is_130_and_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    monkeypatch.setattr(StackedCells, "forward", interrupted)
    assert cli("compare", *words) == Answer(130, "", "rnnscope: interrupted by Ctrl-C\n")


def test_ctrl_c_under_json_is_a_document(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StackedCells, "forward", interrupted)
    answer = cli("compare", "--json")
    assert answer.code == 130
    assert json.loads(answer.out) == {
        "schema": 1,
        "command": "compare",
        "error": {"message": "interrupted by Ctrl-C", "hint": None},
    }


def test_a_sweep_that_is_stopped_says_how_to_go_on(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows, kept = str(tmp_path / "rows.jsonl"), StackedCells.forward
    monkeypatch.setattr(
        StackedCells, "forward", lambda cells, *given: interrupted() if len(cells.cells) == 2 else kept(cells, *given)
    )
    answer = cli("sweep", "--layers", "1,2", "--out", rows, "--json")
    hint = f"the rows in {rows} are whole: add --resume to go on"
    assert (answer.code, answer.err) == (130, f"rnnscope: interrupted by Ctrl-C; {hint}\n")
    assert json.loads(answer.out)["error"]["hint"] == hint
    monkeypatch.undo()
    assert cli("sweep", "--layers", "1,2", "--out", rows, "--resume", "-q").code == 0


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"bias": 1}, "--bias is 1, but it must be True or False"),
        ({"num_layers": True}, "--layers is True, but it must be a whole number of at least 1; try --layers 2"),
        ({"seed": None}, "--seed is None, but it must be a whole number of at least 0; try --seed 0"),
        ({"device": 3}, f"--device is 3, but it must be one of {DEVICE_FORMS}; try --device cpu"),
        ({"h0": "x" * 99}, f"--h0 is '{'x' * 19}...{'x' * 9}', but it must be one of random, zeros; try --h0 random"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_the_library_refuses_the_same(facts: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RnnscopeError) as caught:
        Spec(**facts)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("paths", [(), ("equations",), ("module", "torch"), "cells"])
def test_the_library_knows_its_paths(paths: Any) -> None:
    with pytest.raises(RnnscopeError, match="but it must be some of "):
        observed_shapes(Spec(), paths)


def test_the_library_knows_its_subjects() -> None:
    with pytest.raises(RnnscopeError, match="--left is 'torch', but it must be one of module, cells, equations"):
        compare(Spec(), left="torch")
