"""The manual: its topics are listed, shown by every name that they have, and drawn so that code stays whole."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import Cli

from rnnscope.help.topics import FOLDER, contents, topic

LICENSE = (FOLDER / "license.md").read_text(encoding="utf-8")


def test_every_topic_is_listed_with_what_it_answers(cli: Cli) -> None:
    rows = cli("help", "--format", "tsv").out.splitlines()[1:]
    assert [row.split("\t")[0] for row in rows] == sorted(path.stem for path in FOLDER.glob("*.md"))
    assert "compare\t\tAre the two the same network?" in rows


@pytest.mark.parametrize("words", [["checkpoints"], ["weights"], ["convert"]])
def test_a_topic_has_several_names(cli: Cli, words: list[str]) -> None:
    assert cli("help", *words).out.startswith("What is in this checkpoint, and how do I get it as cells?\n")


def test_a_name_may_be_typed_in_several_words(cli: Cli) -> None:
    assert cli("help", "exit", "codes").out == cli("help", "exit-codes").out


def test_a_topic_may_be_typed_in_any_case(cli: Cli) -> None:
    assert cli("help", "Compare") == cli("help", "compare")


def test_no_two_topics_have_one_name() -> None:
    names = [name for each in contents().topics for name in (each.name, *each.also)]
    assert sorted(set(names)) == sorted(names)


def test_markdown_is_the_file_itself(cli: Cli) -> None:
    assert cli("help", "license", "--format", "markdown").out == LICENSE


def test_a_document_has_the_text(cli: Cli) -> None:
    found = json.loads(cli("help", "weights", "--json").out)
    assert (found["command"], found["rerun"], found["topic"]) == ("help", "rnnscope help checkpoints", "checkpoints")
    assert found["text"].startswith("# What is in this checkpoint")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("comparing", "did you mean compare?"),
        ("flax", "the word stands in recorded"),
        ("zzz", "rnnscope help lists them"),
        ("", "rnnscope help lists them"),
    ],
)
def test_an_unknown_topic_is_answered_by_the_nearest(cli: Cli, name: str, hint: str) -> None:
    answer = cli("help", name)
    assert answer.code == 2
    assert answer.err == f"rnnscope: no topic is called '{name}'; {hint}\n"


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_code_is_neither_wrapped_nor_padded(cli: Cli, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    code = "            gates = gates + h @ cell.weight_hh.T + cell.bias_hh"
    assert code in cli("help", "own-class").out.splitlines()


@pytest.mark.parametrize(("columns", "width"), [(40, 40), (80, 80), (120, 80)])
def test_prose_is_as_wide_as_the_terminal_and_never_over_80(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, columns: int, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    widest = max(map(len, cli("help", "license").out.splitlines()))
    assert width - 10 < widest <= width


def test_what_is_typed_is_bold_and_what_is_printed_is_not(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    bold, plain = (re.findall(rf"\x1b\[{code}m(.*?)\x1b", cli("help", "formats").out) for code in ("1;94", "94"))
    assert 'echo "the loop of cells is nn.RNN"' in bold
    assert "the loop of cells is nn.RNN" in plain
    typed = ["$ rnnscope compare --device cuda", "$ rnnscope compare --right module@mps"]
    assert re.findall(r"\x1b\[1;94m(.*?)\x1b", cli("help", "gpu").out) == typed


def on_a_terminal(pager: Path, words: str) -> str:
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "rnnscope", *words.split()],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=os.environ | {"PAGER": str(pager), "TERM": "xterm", "LESS": "FEX"},
    ) as process:
        os.close(slave)
        shown = b""
        try:
            while piece := os.read(master, 65536):
                shown += piece
        except OSError:  # how Linux says that nobody writes any more
            pass
        os.close(master)
    assert process.returncode == 0
    return shown.decode()


@pytest.mark.parametrize(("words", "is_paged"), [("help license", True), ("help license --json", False)])
def test_a_terminal_shows_a_topic_in_the_pager(tmp_path: Path, words: str, is_paged: bool) -> None:
    (tmp_path / "pager").write_text("#!/bin/sh\necho IN THE PAGER\ncat\n", encoding="utf-8")
    (tmp_path / "pager").chmod(0o755)
    shown = on_a_terminal(tmp_path / "pager", words)
    assert "MIT License" in shown
    assert ("IN THE PAGER" in shown) is is_paged


def test_a_pager_that_is_not_there_hides_nothing(tmp_path: Path) -> None:
    shown = on_a_terminal(tmp_path / "nowhere", "help license")
    assert "MIT License" in shown
    assert "not found" not in shown


def test_the_package_carries_its_license() -> None:
    assert "MIT License" in topic("license").text
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert 'license-files = ["rnnscope/help/license.md"]' in project
