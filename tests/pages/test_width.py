"""A page is as wide as it is asked to be: prose wraps, names are shortened, grids go on below; nothing is lost."""

import io
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.cells import cell_len
from rich.console import Console
from support import ROOT
from torch import nn

from rnnscope import Spec, compare
from rnnscope.cli import shell
from rnnscope.pages.page import Column, Grid, Page, Sentence
from rnnscope.pages.render import render
from rnnscope.pages.rich import shortened, text_of
from rnnscope.timing.result import Bench, Timing
from rnnscope.verdict.result import Comparison

FOLDER = "some/long/path/to_a/directory"
OWN = f"{FOLDER}/my_recurrent_networks.py"
DOTTED = "some.long.path.to_a.directory.my_recurrent_networks"
MODEL = f"{FOLDER}/a_rather_long_name_of_a_checkpoint_epoch_0012.pt"
LARGE = "--hidden-size 1000 --batch 100000 --seq-len 12345"

LINES = (
    "shapes --dry-run",
    "shapes --kind lstm --bidirectional --dropout 0.5",
    "shapes --kind gru --lengths 5,3,3,1 --batch-first --bidirectional --layers 120",
    "shapes --kind lstm --bidirectional --hidden-size 256 --batch 100 --layers 12",
    f"shapes --kind lstm --dry-run --bidirectional --layers 12 {LARGE}",
    f"shapes --kind lstm --dry-run --bidirectional --layers 12 --proj-size 100 --batch-first {LARGE}",
    "compare --kind gru --bidirectional --layers 12 --batch 100 --map --grad --no-reference",
    "compare --kind lstm --lengths 3,2,2,1,1 --grad --bidirectional --resync",
    "compare --kind lstm --proj-size 8 --right equations --power --map --rtol 0 --atol 1e-9",
    "compare --layers 1 --seq-len 1000 --bidirectional --map",
    f"compare --left module@cpu/bfloat16 --right {OWN}:OneBit",
    f"compare --right {OWN}:NotANumber --grad",
    f"compare --kind lstm --right {OWN}:GatesIofg --map --power",
    f"compare --left {OWN}:OneBit --right {OWN}:Transposed --no-reference",
    f"compare --right {DOTTED}:AnotherEachTime",
    f"compare --weights {MODEL} --right cells",
    "trace --values",
    "trace --kind lstm --bidirectional --batch-first --layers 100 --seq-len 7",
    "trace --kind lstm --values --layers 100 --bidirectional --lengths 12,11 --proj-size 3",
    "trace --kind gru --values --hidden-size 1000 --batch 7 --seq-len 1234 --layers 1",
    "trace --kind lstm --unbatched --bidirectional --layers 1000 --hidden-size 2 --proj-size 1",
    f"sweep --right {OWN}:OneBit --hidden-size 5,6 --layers 1..20 --seq-len 1",
    f"sweep --right {OWN}:NotANumber,{OWN}:Transposed,{OWN}:OneBit --bidirectional both",
    f"sweep --right {DOTTED}:GatesIofg,{OWN}:OneBit --kind lstm,gru --proj-size 0,3",
    f"weights {MODEL}",
    "weights many.pt",
    f"convert many.pt --prefix model.encoder.layers.10.recurrent_block.rnn --to module --out {FOLDER}/out.pt --force",
    f"convert {MODEL} --to cells --out cells.pt --force",
)


def timings(*subjects: str, seq_lens: tuple[int, ...] = (3,)) -> Bench:
    """What a benchmark on a very busy machine found."""
    rounds = ((0.00112, 0.00123, 0.00456), (0.00789, 0.0345, 0.00234))
    rows = [
        Timing(
            name,
            name,
            "cpu",
            "float32",
            length,
            tuple(tuple(length**1.5 * each for each in r) for r in rounds),
            9,
            1234567,
        )
        for name in subjects
        for length in seq_lens
    ]
    spec = Spec(seq_len=seq_lens[0], threads=2)
    return Bench(
        spec, subjects, seq_lens, tuple(rows), subjects[0], False, 0.5, 2, 3.14, (("onednn", True),), "cpu", "2.13.0"
    )


def huge() -> Comparison:
    """A comparison of tensors that no test can hold."""
    found = compare(Spec(), rtol=0, atol=1e-9)
    assert found.reference
    shapes = {"y": (12345, 100000, 2000), "h": (24, 100000, 1000)}
    rows = tuple(
        replace(
            each, shape=shapes[each.name], worst_index=tuple(size - 1 for size in shapes[each.name]), max_rel=0.000123,
            max_ulp=1.23e7, mismatched=10**9, total=2 * 10**12,
        )
        for each in found.outputs
    )  # fmt: skip
    gradients = tuple(replace(each, name=name) for each in rows for name in ("weight_ih_l11_reverse", "bias_hh_l0"))
    left = found.reference.left
    margins = tuple(
        replace(each, name="weight_ih_l11_reverse", index=(39999, 9999), error=1e-3) for each in left.margins
    )
    reference = replace(found.reference, left=replace(left, margins=margins))
    return replace(found, figures=replace(found.figures, outputs=rows, gradients=gradients), reference=reference)


MADE: dict[str, Callable[[], Any]] = {
    "huge": huge,
    "bench": lambda: timings("module@cuda:0/bfloat16", "cells", "equations"),
    "bench of a class": lambda: timings("module", f"{OWN}:OneBit", f"{DOTTED}:OneBit"),
    "bench of lengths": lambda: timings("module", f"{OWN}:OneBit", seq_lens=(3, *range(1000, 9000, 1000), 100_000)),
}

PAGES = (*LINES, *MADE)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("width"))
        patch.syspath_prepend(".")
        Path(FOLDER).mkdir(parents=True)
        shutil.copy(ROOT / "tests" / "planted.py", OWN)
        lstm = nn.LSTM(10, 20, 2, bidirectional=True).state_dict()
        torch.save({f"model.encoder.layers.0.rnn.{name}": each for name, each in lstm.items()}, MODEL)
        large = nn.LSTM(12, 128, 2, bidirectional=True, proj_size=100).state_dict()
        many = {
            f"model.encoder.layers.{n}.recurrent_block.rnn.{name}": large[name].clone()
            for n in range(12)
            for name in large
        }
        torch.save(many, "many.pt")
        yield
        result_of.cache_clear()


@cache
def result_of(name: str) -> Any:
    if made := MADE.get(name):
        return made()
    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shell, "render", lambda result, form, stream: found.append(result))
        shell.run(name.split())
    return found[0]


def lines_of(page: Page, columns: int, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[list[str]]]:
    """The lines of grids and drawings, and those of each sentence that may wrap."""
    monkeypatch.setenv("COLUMNS", str(columns))
    others, sentences, lines = [], [], text_of(page, io.StringIO()).splitlines()
    said = [each for each in page if isinstance(each, Sentence)]
    while lines:
        if not said or not lines[0].startswith(f"{said[0].label}:"):
            others.append(lines.pop(0))
            continue
        whole, own = f"{said[0].label}: {said[0].text}", [lines.pop(0)]
        while "".join(own).replace(" ", "") != whole.replace(" ", ""):
            own.append(lines.pop(0))
        if not said.pop(0).verbatim:
            sentences.append(own)
    assert said == []
    return others, sentences


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", PAGES)
def test_no_line_is_wider_than_the_screen(name: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    others, sentences = lines_of(result_of(name).page(), columns, monkeypatch)
    assert [line for line in (*others, *chain(*sentences)) if len(line) > columns] == []


@pytest.mark.parametrize("columns", [40, 50, 60, 79])
@pytest.mark.parametrize("name", PAGES)
def test_tables_and_prose_have_one_width(name: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    others, sentences = lines_of(result_of(name).page(), columns, monkeypatch)
    width = max(columns, *map(len, others))
    assert [line for line in chain(*sentences) if len(line) > width] == []
    for lines in sentences:  # a line ends where its next word does not fit any more
        for line, following in pairwise(lines):
            assert len(line) + 1 + len(following.split()[0]) > width


@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize("name", PAGES)
def test_all_that_is_no_name_is_there(name: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    page = result_of(name).page()
    others, _ = lines_of(page, columns, monkeypatch)
    text = "\n".join(others)
    cells = [
        cell
        for grid in page
        if isinstance(grid, Grid)
        for column, *cells in zip(grid.columns, *grid.rows, strict=True)
        for cell in cells
        if not column.name and not column.prose
    ]
    assert [cell for cell in cells if cell not in text] == []


@pytest.mark.parametrize("name", [name for name in PAGES if any(each in name for each in (OWN, DOTTED, MODEL))])
def test_a_name_is_whole_wherever_it_is_read_by_programs_or_copied(name: str) -> None:
    result = result_of(name)
    names = re.findall(rf"(?:{OWN}|{DOTTED}):\w+|{MODEL}", name)
    for text in (*(render(result, form, io.StringIO()) for form in ("json", "markdown")), result.rerun):
        assert [each for each in names if each not in text] == []
    assert "..." not in render(result, "tsv", io.StringIO())


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_shortened_where_there_is_room(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    page = result_of(name).page()
    others, _ = lines_of(page, 2000, monkeypatch)
    rows = [row for grid in page if isinstance(grid, Grid) for row in grid.rows]
    assert [row for row in rows if not any(all(cell in line for cell in row) for line in others)] == []


@pytest.mark.parametrize(
    ("width", "told"),
    [(9, "abcdefghi"), (8, "ab...ghi"), (7, "a...ghi"), (4, "...i"), (3, "...")],
)
def test_the_middle_of_a_name_is_left_out(width: int, told: str) -> None:
    assert shortened("abcdefghi", width) == told


def test_dots_of_a_name_do_not_run_into_those_that_are_left_out() -> None:
    assert shortened("model.layers.0.rnn", 13) == "mode...0.rnn"


def test_wide_characters_count_twice() -> None:
    assert shortened("模型编码器网络", 10) == "模...网络"


@pytest.mark.parametrize("width", [30, 60])
@pytest.mark.parametrize("name", PAGES)
def test_a_console_of_any_width_gets_no_wider_line(name: str, width: int) -> None:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as captured:
        console.print(result_of(name))
    assert max(map(cell_len, captured.get().splitlines())) <= width


def page_of(*rows: tuple[str, ...], columns: tuple[Column, ...], keys: int = 1) -> Page:
    return [Grid("A title", columns, rows, keys)]


def shown(page: Page, columns: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    return text_of(page, io.StringIO()).splitlines()


def test_names_that_differ_in_their_middle_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"model.encoder.layers.{n}.recurrent_block.rnn" for n in (1, 10, 11)]
    rows = [(name, "x" * 12) for name in names]
    lines = shown(page_of(*rows, columns=(Column("prefix", name=True), Column("value"))), 42, monkeypatch)
    assert [line.split()[0] for line in lines[3:]] == [
        "mod...1.recurrent_block.rnn",
        "mod...10.recurrent_block.rnn",
        "mod...11.recurrent_block.rnn",
    ]


def test_a_grid_that_is_too_wide_goes_on_below_beside_the_same_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = (Column("what"), Column("at"), *(Column(letter * 12) for letter in "abc"))
    page = page_of(("one", "1", "A", "B", "C"), ("two", "2", "D", "E", "F"), columns=columns, keys=2)
    assert shown(page, 40, monkeypatch) == [
        "A title",
        "what  at  aaaaaaaaaaaa  bbbbbbbbbbbb",
        "────────────────────────────────────",
        "one   1   A             B",
        "two   2   D             E",
        "",
        "what  at  cccccccccccc",
        "──────────────────────",
        "one   1   C",
        "two   2   F",
    ]


def test_titles_wrap_before_a_name_is_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = (Column("name", name=True), Column("not comparable", number=True))
    assert shown(page_of(("a_name_of_28_characters_here", "3"), columns=columns), 40, monkeypatch) == [
        "A title",
        "                                     not",
        "name                          comparable",
        "────────────────────────────────────────",
        "a_name_of_28_characters_here           3",
    ]


def test_a_title_wraps_and_its_longest_word_is_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    page: Page = [Grid(f"{'a' * 30}{'b' * 30} against module, and more", (Column("x"), Column("y")), (("1", "2"),))]
    assert shown(page, 40, monkeypatch)[:2] == [f"{'a' * 14}...{'b' * 23}", "against module, and more"]
