"""Pages and documents as they were looked at and found good: one file a case in tests/golden, at a fixed console.

`pytest tests/test_golden.py --overwrite` writes them anew; look at each before it is committed.

A page is what a command line gives. The figures of rounding, which differ from machine to machine, are left out when a
comparison is held against its golden; a fault that was planted is the same everywhere. What no command can give on
every machine (times, a GPU, a formula that torch does not follow) is a page that a command gave, with a few facts
replaced.
"""

import io
import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import cycle, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import OWN, without_rounding
from torch import nn

from rnnscope import RnnscopeError
from rnnscope.cli import shell
from rnnscope.network.shapes import Place
from rnnscope.pages.page import Grid
from rnnscope.pages.render import plain, render
from rnnscope.shapes.result import Mismatch
from rnnscope.tracing.result import Walked

FOLDER = Path(__file__).parent / "golden"

LINES = {
    "shapes": "shapes",
    "shapes-batch-first-no-bias-relu": "shapes --batch-first --no-bias --nonlinearity relu --layers 1",
    "shapes-cells": "shapes --path cells",
    "shapes-dry-run": "shapes --dry-run",
    "shapes-finding": "shapes --layers 1",
    "shapes-large": "shapes --input-size 1000000 --hidden-size 2000000 --layers 999999999999 --seq-len 1000000000 "
    "--dry-run",
    "shapes-lstm": "shapes --kind lstm --layers 1",
    "shapes-lstm-projection-both-directions": "shapes --kind lstm --proj-size 8 --bidirectional --dry-run",
    "shapes-gru-both-directions": "shapes --kind gru --bidirectional --layers 6 --no-bias",
    "shapes-gru-lengths": "shapes --kind gru --lengths 5,3,3,1 --batch-first --bidirectional",
    "shapes-unbatched-dropout": "shapes --unbatched --dropout 0.5 --layers 1",
    "shapes-swappable": "shapes --seq-len 4 --batch 4 --dropout 0.5",
    "compare": "compare --right my_rnn.py:OneBit",
    "compare-identical": "compare --right module",
    "compare-different": "compare --layers 3 --seq-len 1000 --rtol 0 --atol 1e-9 --right my_rnn.py:OneBit",
    "compare-tf32": "compare --right my_rnn.py:OneBit",
    "compare-function": "compare --kind lstm --bidirectional --right my_rnn.py:GatesIofg",
    "compare-unexplained": "compare --unbatched --left my_rnn.py:Off --right my_rnn.py:OffTheOtherWay",
    "compare-precision": "compare --right my_rnn.py:OffInFloat32",
    "compare-float32-inside": "compare --right my_rnn.py:Float32Inside",
    "compare-undecided": "compare --weights chaotic.pt --seq-len 20 --right module",
    "compare-undecided-function": "compare --right my_rnn.py:OneBit",
    "compare-alike": "compare --kind gru --left my_lstm.py:ResetBefore --right my_lstm.py:ResetBefore",
    "compare-no-reference": "compare --no-reference --right my_rnn.py:OneBit",
    "compare-chunks": "compare --no-reference --chunk 2 --right my_rnn.py:OneBit",
    "compare-power": "compare --layers 1 --seq-len 1 --h0 zeros --right module --power",
    "compare-nonfinite": "compare --right my_rnn.py:NotANumber",
    "compare-shape": "compare --right my_rnn.py:Transposed",
    "compare-weights": "compare --weights before.pt --prefix encoder.rnn --right-weights after.pt --right module",
    "compare-own": "compare --right my_rnn.py:Careless --grad --seed 1",
    "compare-another-each-time": "compare --right my_rnn.py:AnotherEachTime",
    "compare-keeps-state": "compare --right my_rnn.py:OffFromTheSecondCallOn",
    "compare-recorded": "compare --right recorded:run.pt",
    "compare-map": "compare --kind lstm --right my_lstm.py:Iofg --map",
    "compare-map-nonfinite": "compare --kind lstm --right my_rnn.py:LstmNotANumber --map",
    "compare-map-long": "compare --layers 1 --bidirectional --seq-len 1000 --right my_rnn.py:EveryBit --map",
    "compare-lstm-lengths-grad": "compare --kind lstm --lengths 3,1 --right my_rnn.py:LstmEveryBit --grad",
    "check": "check my_rnn.py:LooksAhead --seq-len 9 --only stateless,item_isolation,causality,chunked,packed",
    "check-holds": "check torch.nn:GRU --bidirectional --only stateless,item_isolation,causality,padding",
    "weights": "weights model.pt",
    "convert": "convert gru.pt --to cells --out cells.safetensors --prefix encoder --force",
    "trace-by-hand": "trace --weights zeros.pt --inputs zeros.pt --values",
    "trace-values": "trace --kind lstm --input-size 4 --hidden-size 6 --proj-size 3 --values --item 2 --step 1",
    "trace-values-gru": "trace --kind gru --lengths 9,7 --bidirectional --values --item 1",
    "trace-long": f"trace --layers 6 --lengths {','.join(map(str, range(991, 1001)))}",
    "trace-infinity": "trace --weights growing.pt --nonlinearity relu",
    "bench": "bench --subjects module,cells,equations,items --threads 2",
    "bench-lengths": "bench --kind lstm --batch-first --subjects module,cells --seq-len 10,100,1000 --grad "
    "--min-time 0.1 --threads 2",
    "bench-noisy": "bench --kind lstm --proj-size 3 --seq-len 2 --subjects module,cells,equations --min-time 2 "
    "--threads 2",
    "bench-failed": "bench --kind lstm --proj-size 3 --seq-len 2 --subjects cells --threads 2",
    "sweep": "sweep --configs configs.jsonl",
    "code": "code --kind gru --bidirectional",
    "explain": "explain",
    "explain-deviation": "explain reset-before-the-matmul",
    "explain-cause": "explain nonfinite",
    "explain-verdict": "explain undecided",
    "explain-relation": "explain last_state",
    "explain-blind-spot": "explain zero-h0",
}

LAYOUTS = {
    "time-first": "",
    "batch-first": "--batch-first",
    "unbatched": "--unbatched",
    "packed": "--lengths 3,1,2",
}

for kind, (way, flag), layout in product(
    ("rnn", "lstm", "gru"), (("forward", ""), ("both", "--bidirectional")), LAYOUTS
):
    LINES[f"trace-{kind}-{way}-{layout}"] = f"trace --kind {kind} {flag} {LAYOUTS[layout]}"

WIDE = ("compare", "compare-map", "check", "trace-long", "shapes-large", "bench", "sweep")
"""One page of each room at 120 columns too."""

DOCUMENTS = (
    *("shapes", "shapes-finding", "shapes-lstm", "compare", "compare-function", "compare-power", "compare-nonfinite"),
    *("compare-shape", "compare-lstm-lengths-grad", "compare-map", "compare-weights", "weights", "convert"),
    *("trace-by-hand", "check", "sweep", "bench-lengths", "bench-noisy", "explain-deviation"),
)
EXTENSIONS = {"json": "json", "tsv": "tsv", "markdown": "md"}

FOR_A_CI = ("compare", "compare-function", "check", "sweep")
EXTENSIONS_FOR_A_CI = {"junit": "xml", "github": "github"}


# The files that the commands name.


def random_like(module: nn.Module, seed: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: scale * (torch.rand(each.shape, generator=generator) - 0.5) for name, each in module.state_dict().items()
    }


def write_files() -> None:
    """Into the current folder."""
    root = OWN.parent
    shutil.copy(root / "planted.py", "my_rnn.py")
    shutil.copy(OWN, "my_lstm.py")
    chaotic = random_like(nn.RNN(10, 128, 2), seed=0, scale=6)
    torch.save({name: each.bfloat16() for name, each in chaotic.items()}, "chaotic.pt")
    before = random_like(nn.RNN(10, 20, 2), seed=1)
    torch.save({f"encoder.rnn.{name}": each for name, each in before.items()}, "before.pt")
    before["weight_hh_l1"][3, 7] += 0.25
    torch.save(before, "after.pt")
    growing = {name: torch.full_like(each, 100.0).half() for name, each in nn.RNN(10, 20).state_dict().items()}
    torch.save(growing, "growing.pt")
    zeros = {f"encoder.{name}": torch.zeros_like(each).bfloat16() for name, each in nn.GRU(10, 20).state_dict().items()}
    torch.save(zeros, "gru.pt")
    write_checkpoint()
    write_runs()
    write_configs()


def write_checkpoint() -> None:
    """A trainer's, with a weight norm, a stack of cells and a cell that is tied to another."""
    rnn = random_like(nn.LSTM(10, 20, 2, bidirectional=True, proj_size=8), seed=0)
    normed = rnn.pop("weight_hh_l0")
    rnn["weight_hh_l0_g"], rnn["weight_hh_l0_v"] = normed.norm(dim=1, keepdim=True), normed
    state = {f"module.encoder.rnn.{name}": each.bfloat16() for name, each in rnn.items()}
    cell = random_like(nn.RNNCell(10, 20, bias=False), seed=1)
    for number, size in enumerate((10, 20)):
        stacked = random_like(nn.GRUCell(size, 20), seed=number)
        state |= {f"module.decoder.{number}.{name}": each for name, each in stacked.items()}
        state |= {f"module.policy_{number}.{name}": each for name, each in cell.items()}
    torch.save({"state_dict": state}, "model.pt")


def write_runs() -> None:
    """A recorded run whose outputs are off as TF32 would have them, and one of weights that are zero."""
    assert shell.run(["compare", "--record", "run.pt", "-q"]) == 0
    run = torch.load("run.pt", weights_only=True)
    torch.save(run | {name: (run[name].double() * (1 + 2.0**-12)).float() for name in ("y", "h")}, "run.pt")
    flags = "--kind gru --input-size 1 --hidden-size 2 --layers 1 --seq-len 2 --batch 1"
    assert shell.run(f"compare {flags} --record zeros.pt -q".split()) == 0
    run = torch.load("zeros.pt", weights_only=True)
    run = {name: torch.zeros_like(each) if "_l0" in name else each for name, each in run.items()}
    run["x"], run["h0"] = torch.tensor([[[1.0]], [[2.0]]]), torch.tensor([[[1.0, -0.5]]])
    torch.save({name: each for name, each in run.items() if name not in ("y", "h")}, "zeros.pt")


def write_configs() -> None:
    """Each outcome, a flag with many numbers, and more lines and reasons than are shown."""
    lines: list[dict[str, Any]] = [{"kind": "rnn", "hidden_size": size, "right": "module"} for size in range(1, 18)]
    lines += [
        {"kind": "lstm", "hidden_size": size, "right": f"my_rnn.py:{'GatesIofg' if size % 2 else 'LstmNotANumber'}"}
        for size in range(1, 6)
    ]
    lines += [{"kind": "gru", "hidden_size": 9, "proj_size": size, "right": "module"} for size in (1, 2, 3, 4)]
    lines += [
        {"kind": "rnn", "hidden_size": 17, "lengths": [3, 2], "bidirectional": True, "right": "my_rnn.py:EveryBit"},
        {"kind": "rnn", "hidden_size": 3, "right": "my_rnn.py:OffInFloat32"},
        {"weights": "chaotic.pt", "seq_len": 20, "right": "module"},
        {"hidden_size": 3, "right": "my_rnn.py:NeedsTooMuch"},
        {"hidden_size": 4, "bias": False, "right": "my_rnn.py:NeedsTooMuch"},
    ]
    Path("configs.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


# What stands in for a machine.

BLOCKS: dict[str, list[Any]] = {
    "bench": [(77.8e-6, 0.031), (138e-6, 0.058), (117e-6, 0.048), (366e-6, 0.068)],
    "bench-lengths": [(188e-6, 0.02), (596e-6, 0.3), (682e-6, 0.02), (5.56e-3, 0.02), (5.53e-3, 0.02), (55.4e-3, 0.02)],
    "bench-noisy": [(1.5e-3, 0.0), (1.6e-3, 0.4)],
    "bench-failed": [None],
}
"""Of each subject that is prepared, in turn: seconds of a call and the interquartile range as a part; None fails."""


def stand_in(name: str, patch: pytest.MonkeyPatch) -> None:
    """Five rounds of one block take what BLOCKS says, on a machine with two CPUs of which bench-lengths keeps two."""
    blocks = iter(BLOCKS[name])

    class Timer:
        def __init__(self, *given: object, **options: object) -> None:
            self.block = next(blocks)
            self.places = cycle((-1, -0.5, 0, 0.5, 1))

        def blocked_autorange(self, min_run_time: float) -> SimpleNamespace:
            if self.block is None:
                raise RnnscopeError("out of memory on cpu")
            seconds, spread = self.block
            return SimpleNamespace(times=[seconds * (1 + spread * next(self.places))], number_per_run=100)

    patch.setattr("rnnscope.timing.bench.Timer", Timer)
    patch.setattr(os, "cpu_count", lambda: 2)
    patch.setattr(os, "getloadavg", lambda: (1.7 if name == "bench-lengths" else 0.0,) * 3)
    patch.setattr("rnnscope.timing.bench.peak_bytes", lambda call, device, steps: 800 * steps)


def with_other_shapes(found: Any) -> Any:
    """As if torch did not follow the formulas."""
    mismatches = (
        Mismatch(path="cells", name="y", expected=(3, 5, 20), actual=(5, 3, 20)),
        Mismatch(path="module", name="bias_ih_l0", expected=(20,), actual=None),
        Mismatch(path="module", name="gain_l0", expected=None, actual=(20,)),
    )
    actual = found.actual | {"cells": found.actual["cells"] | {"y": (5, 3, 20)}}
    return replace(found, actual=actual, mismatches=mismatches)


def with_a_nan(found: Any) -> Any:
    """As if one number of the last step were none."""
    steps = torch.tensor([[0.5, -0.25], [0.75, torch.nan]])
    walked = Walked(states={"h": steps}, gates=dict.fromkeys("rzn", steps))
    place = Place(tensor="h", step=1, layer=0, direction=0, unit=1, batch=0)
    return replace(found, walked={(0, 0): walked}, distance=2.0**-24, first_nonfinite=place)


ON_GPU: dict[str, Any] = {
    "device_name": "cuda:0 (NVIDIA H100 80GB HBM3)",
    "back_ends": (("cudnn", True), ("tf32_in_cudnn", True), ("tf32_in_cublas", False)),
}


def in_tf32(found: Any) -> Any:
    """As if the left side had run on a GPU."""
    left = found.reference.left
    margins = tuple(replace(each, index=(1, 4, 0), max_abs=3e-4, error=3e-4, bound=7.8e-3) for each in left.margins)
    left = replace(left, arithmetic="tf32", margins=margins)
    return replace(found, **ON_GPU, reference=replace(found.reference, left=left, without_tf32=1.2e-7))


def undecided(found: Any) -> Any:
    """As if rounding moved each step in float64 further than the network goes."""
    y = next(each for each in found.reference.function.margins if each.name == "y")
    margin = replace(y, index=(1, 4, 0), max_abs=0.25, error=0.25, bound=20.0, within=True, decided=False)
    function = replace(found.reference.function, margins=(margin,), whole_steps=12, single_steps=True)
    return replace(found, reference=replace(found.reference, function=function))


def compiled(found: Any) -> Any:
    """As if the last subject were the compiled one."""
    last = replace(found.timings[-1], typed="compiled", subject="compiled", compile_s=2.15)
    return replace(found, subjects=(*found.subjects[:-1], "compiled"), timings=(*found.timings[:-1], last))


def on_two_devices(found: Any) -> Any:
    """As if the first subject had run on a GPU."""
    first = replace(found.timings[0], typed="module@cuda:0", device="cuda:0")
    return replace(
        found,
        subjects=("module@cuda:0", *found.subjects[1:]),
        timings=(first, *found.timings[1:]),
        baseline="module@cuda:0",
        device_name=f"{ON_GPU['device_name']} and cpu",
        back_ends=(*ON_GPU["back_ends"], ("onednn", True)),
    )


REPLACED: dict[str, Callable[[Any], Any]] = {
    "shapes-finding": with_other_shapes,
    "trace-by-hand": with_a_nan,
    "compare-tf32": in_tf32,
    "compare-undecided-function": undecided,
    "bench": compiled,
    "bench-noisy": on_two_devices,
    "sweep": lambda found: replace(found, workers=4),
}


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The commands run in a folder with the files that they name, and under one release of Python and torch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("golden"))
        patch.setattr(platform, "python_version", lambda: "3.11.7")
        patch.setattr(torch, "__version__", "2.13.0")
        threads = torch.get_num_threads()
        torch.set_num_threads(2)  # on any number of cores
        write_files()
        yield
        torch.set_num_threads(threads)
        result_of.cache_clear()


@cache
def result_of(name: str) -> Any:
    """What a command line gives, before it is rendered."""
    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        if name in BLOCKS:
            stand_in(name, patch)
        patch.setattr(shell, "render", lambda result, form, stream: found.append(result))
        shell.run(LINES[name].split())
    (result,) = found
    return REPLACED.get(name, lambda same: same)(result)


def cases() -> Iterator[tuple[str, str, str, str]]:
    """(name of the file, result, format, width)."""
    for name in LINES:
        for width in ("80", "120") if name in WIDE else ("80",):
            yield f"{name}.{width}.txt", name, "table", width
    for name, (form, extension) in product(DOCUMENTS, EXTENSIONS.items()):
        yield f"{name}.{extension}", name, form, "80"
    for name, (form, extension) in product(FOR_A_CI, EXTENSIONS_FOR_A_CI.items()):
        yield f"{name}.{extension}", name, form, "80"


def held_against(name: str, text: str) -> str:
    """What of a page must be the same on every machine."""
    is_rounded = name.startswith(("check", "compare", "convert", "sweep", "trace-values"))
    return without_rounding(text) if is_rounded else text


@pytest.mark.parametrize(("file", "name", "form", "width"), list(cases()), ids=[each[0] for each in cases()])
def test_looks_as_it_did(
    file: str, name: str, form: str, width: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    result = result_of(name)
    monkeypatch.setenv("COLUMNS", width)
    text = render(result, form, io.StringIO())
    if request.config.getoption("--overwrite"):
        (FOLDER / file).write_text(text, encoding="utf-8")
    assert held_against(name, text) == held_against(name, (FOLDER / file).read_text(encoding="utf-8"))


def test_no_golden_is_left_over() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {each[0] for each in cases()}


def text_of(name: str, columns: str, monkeypatch: pytest.MonkeyPatch) -> str:
    result_of(name)
    monkeypatch.setenv("COLUMNS", columns)
    return render(result_of(name), "table", io.StringIO())


def grids(name: str) -> dict[str, Grid]:
    return {part.title: part for part in result_of(name).page() if isinstance(part, Grid)}


@pytest.mark.parametrize("name", [name for name in LINES if name.startswith("shapes")])
def test_the_rows_add_up(name: str) -> None:
    counts = {row[0]: int(row[2].replace(",", "")) for row in grids(name)["Counts"].rows}
    grid = grids(name)["Parameters"]
    at = [column.title for column in grid.columns].index("count")
    parameters = [int(row[at].replace(",", "")) for row in grid.rows]
    assert sum(parameters) == counts["parameters"]
    work = counts.pop("multiply-accumulates")
    assert work >= 0
    assert counts.pop("in all") == sum(counts.values())


@pytest.mark.parametrize("name", [name for name in LINES if name.startswith("shapes")])
def test_the_formulas_give_the_counts(name: str) -> None:
    for what, formula, count, _ in grids(name)["Counts"].rows:
        if what != "in all":
            value = eval(formula.replace("·", "*"), {"__builtins__": {}})
            assert (what, value) == (what, int(count.replace(",", "")))


@pytest.mark.parametrize("columns", ["1", "20", "40", "80", "200"])
@pytest.mark.parametrize("name", LINES)
def test_only_prose_is_broken_and_names_are_shortened(name: str, columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of(name, columns, monkeypatch)
    assert "…" not in text
    found = [
        (cell, column)
        for grid in grids(name).values()
        for row in grid.rows
        for cell, column in zip(row, grid.columns, strict=True)
    ]
    ends = re.findall(r"^(.+?)\.\.\.(.+?)(?:  |$)", text, re.MULTILINE)
    short = {cell for cell, _ in found if any(cell.startswith(start) and cell.endswith(end) for start, end in ends)}
    names = {cell for cell, column in found if column.name}
    whole = [cell for cell, column in found if not column.prose and cell not in short & names]
    assert [cell for cell in whole if cell not in text] == []
    assert [
        word for cell, column in found if column.prose for word in cell.split() if len(word) < 20 and word not in text
    ] == []


@pytest.mark.parametrize("width", [80, 120])
def test_every_golden_is_as_wide_as_its_screen(width: int) -> None:
    copied = r"(Rerun|Smallest that (differs|breaks \w+)|Another function): "
    pages = [path for path in FOLDER.glob(f"*.{width}.txt") if not path.name.startswith("code")]
    lines = [line for path in pages for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line for line in lines if len(line) > width and not re.match(copied, line)] == []


@pytest.mark.parametrize("name", LINES)
def test_every_line_ends_where_its_text_ends(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = text_of(name, "80", monkeypatch).splitlines()
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize("name", LINES)
def test_ascii_says_the_same_in_the_same_places(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of(name, "80", monkeypatch)
    simple = plain(text)
    assert simple.isascii()
    assert simple.count("?") == text.count("?")  # which stands for what ASCII cannot say
    assert [len(line) for line in simple.splitlines()] == [len(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", LINES)
def test_a_screen_reader_is_told_every_word_and_number(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left without colour and in ASCII: the same words and numbers in the same order, and no code."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = re.sub(r"\x1b\[[\d;]*m", "", text_of(name, "80", monkeypatch))
    monkeypatch.delenv("FORCE_COLOR")
    monkeypatch.setenv("NO_COLOR", "1")
    spoken = plain(text_of(name, "80", monkeypatch))
    assert "\x1b" not in spoken
    words = r"[\w.]+|[<>^!]"  # arrows and marks are facts too
    arrows = coloured.translate(str.maketrans("→←↑", "><^")).replace("×", "x")
    assert re.findall(words, spoken) == re.findall(words, arrows)


def test_the_verdict_is_a_word_and_its_colour_says_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = text_of("compare-different", "80", monkeypatch)
    assert "\x1b[1;31mdifferent" in coloured
    monkeypatch.delenv("FORCE_COLOR")
    words = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert [line.rstrip() for line in words.splitlines()] == text_of(
        "compare-different", "80", monkeypatch
    ).splitlines()
