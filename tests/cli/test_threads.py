"""The threads of the CPU: every page of what was run says them, and its rerun line asks for as many."""

import io
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support import OWN, Cli
from torch import nn

from rnnscope import StackedCells, compare
from rnnscope.pages.render import render


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


TOLD = {
    "shapes": ("2 threads", "shapes --threads 2", 2),
    "shapes --threads 1": ("1 thread", "shapes --threads 1", 1),
    "shapes --dry-run": (None, "shapes --dry-run", None),
    "compare --right module": ("2 threads", "compare --threads 2 --right module", 2),
    "compare --left module@cpu/float64": ("2 threads", "compare --threads 2 --left module@cpu/float64", 2),
    "trace": ("2 threads", "trace --threads 2", 2),
    "bench --subjects module --min-time 0": ("2 threads", "bench --threads 2 --subjects module --min-time 0.0", 2),
    "sweep": ("each with 1 thread", "sweep", 1),
    "sweep --threads 2": ("each with 2 threads", "sweep --threads 2", 2),
    "sweep --threads 2,1": ("each with 1 or 2 threads", "sweep --threads 2,1", None),
    "code": (None, "code", None),
    "weights model.pt": (None, "weights model.pt", None),
    "convert model.pt --to cells --out new.pt": (None, "convert model.pt --to cells --out new.pt --force", 1),
}


@pytest.mark.parametrize(("line", "told"), TOLD.items(), ids=TOLD)
def test_the_page_says_the_threads_and_its_rerun_line_keeps_them(
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    two_threads: None,
    line: str,
    told: tuple[str | None, str, int | None],
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(nn.LSTM(10, 20, 2).state_dict(), "model.pt")
    words, rerun, number = told
    found = json.loads(cli(*line.split(), "--json").out)
    assert (found["rerun"], found["environment"]["threads"]) == (f"rnnscope {rerun}", number)
    assert json.loads(cli(*rerun.split(), "--json").out)["rerun"] == f"rnnscope {rerun}"
    page = cli(*rerun.split()).out
    assert re.findall(r"^Run: .*\bthreads?\b", page, re.M) == re.findall(rf"^Run: .*\b{words}(?=,)", page, re.M)
    assert ("thread, " in page or "threads, " in page) is (words is not None)


def test_a_comparison_of_modules_says_the_threads(two_threads: None) -> None:
    module = nn.GRU(3, 4)
    found = compare(module, StackedCells.from_module(module), torch.randn(6, 5, 3))
    assert (found.threads, found.rerun) == (2, "")
    assert "\n- Run: on cpu in float32, 2 threads, oneDNN on, torch " in render(found, "markdown", io.StringIO())


WIDE = "--input-size 256 --hidden-size 256 --layers 1"
"""Sizes at which the number of threads decides the last bits."""

LINES = (
    "shapes",
    f"compare --kind lstm {WIDE}",
    f"compare --kind gru {WIDE} --grad --no-onednn --json",
    f"trace --kind lstm {WIDE} --values",
    f"sweep --kind lstm --input-size 256 --hidden-size 256 --right cells,{OWN}:Iofg",
    "sweep --kind lstm,gru --input-size 256 --hidden-size 256 --threads 2 --json",
    "convert model.pt --to cells --out new.pt --force --json",
)


@pytest.mark.parametrize(("threads", "others"), [("1", "2"), ("2", "1")])
@pytest.mark.parametrize("line", LINES)
def test_a_rerun_line_gives_the_same_bytes_whatever_the_environment_says(
    bash: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, threads: str, others: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(nn.LSTM(256, 256).state_dict(), "model.pt")
    first = bash(f"rnnscope {line}", OMP_NUM_THREADS=threads)
    (rerun,) = re.findall(r'(?:^Rerun: |^  "rerun": ")([^"\n]*)', first.out, re.M)
    assert bash(f"{rerun} {'--json' if '--json' in line else ''}", OMP_NUM_THREADS=others) == first


def test_what_a_sweep_found_can_be_run_again_with_its_threads(cli: Cli, two_threads: None) -> None:
    page = cli("sweep", "--kind", "lstm", "--right", f"{OWN}:Iofg").out
    lines = re.findall("^(?:Another function|Smallest that differs): rnnscope (.*)", page, re.M)
    assert [re.findall("--threads 1", each) for each in lines] == [["--threads 1"]] * 2
    assert [cli(*shlex.split(each)).code for each in lines] == [1, 1]
