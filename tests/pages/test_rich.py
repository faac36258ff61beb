"""A result shows itself: `print` of rich and a notebook give the page that the command prints, in any console."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from support import Cli
from torch import nn

from rnnscope import Spec, checkpoint, code, compare, convert, shapes_of, trace

RESULTS: dict[str, tuple[str, Callable[[], Any]]] = {
    "shapes": (
        "shapes --dry-run --kind lstm --bidirectional",
        lambda: shapes_of(Spec(kind="lstm", bidirectional=True)),
    ),
    "compare": ("compare --kind gru --map --power", lambda: compare(Spec(kind="gru"), map=True, power=True)),
    "trace": ("trace --values", lambda: trace(Spec(), values=True)),
    "code": ("code --kind lstm", lambda: code(Spec(kind="lstm"))),
    "weights": ("weights model.pt", lambda: checkpoint("model.pt")),
    "convert": (
        "convert model.pt --to cells --out cells.pt",
        lambda: convert("model.pt", "cells.pt", "cells", force=True),
    ),
}


@pytest.fixture(autouse=True)
def in_a_folder_with_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(nn.LSTM(10, 20, 2).state_dict(), "model.pt")


def printed(result: object, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(result)
    assert isinstance(console.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


@pytest.mark.parametrize("name", RESULTS)
def test_rich_prints_what_the_command_prints(name: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    line, made = RESULTS[name]
    words = printed(made(), 150).split()
    if name == "convert":
        Path("cells.pt").unlink()
    assert words == cli(*line.split()).out.split()


@pytest.mark.parametrize("width", [30, 40, 60])
@pytest.mark.parametrize("name", RESULTS)
def test_nothing_is_lost_in_a_narrow_console(name: str, width: int) -> None:
    result = RESULTS[name][1]()
    letters = "".join(printed(result, width).split())
    assert "…" not in letters
    assert max(map(len, printed(result, width).splitlines())) <= width


@pytest.mark.parametrize("name", RESULTS)
def test_a_notebook_gets_the_page_as_html(name: str) -> None:
    bundle = RESULTS[name][1]()._repr_mimebundle_(include=[], exclude=[])
    assert bundle["text/html"].startswith("<pre")
    assert bundle["text/plain"].strip()
