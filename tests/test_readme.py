"""The README is run: every command, script and Python example, with the output that stands under it.

Where the output holds figures of rounding, versions or a build of torch, which differ from machine to machine, their
place is compared and not their digits.
"""

import contextlib
import io
import re
import shlex
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import typer.main
from support import ROOT, Answer, Cli, masked

from rnnscope.cli.commands import main
from rnnscope.cli.parser import COMMANDS, app_of

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
CONSOLE = [text.removeprefix("$ ").split("\n", 1) for kind, text in BLOCKS if kind == "console"]
SET_UP = [text.strip() for kind, text in BLOCKS if kind == "sh"]


def followed_by_output(kind: str) -> list[tuple[str, str]]:
    """Each block of that kind with the output that stands in the next block."""
    pairs = [(this, following) for this, following in pairwise(BLOCKS) if this[0] == kind]
    assert all(following[0] == "text" for _, following in pairs)
    return [(this[1], following[1]) for this, following in pairs]


@pytest.mark.parametrize(("command", "output"), CONSOLE, ids=[command for command, _ in CONSOLE])
def test_a_command_prints_what_stands_under_it(bash: Callable[..., Answer], command: str, output: str) -> None:
    if "cuda" in command and torch.cuda.is_available():
        pytest.skip("says what a machine without CUDA says")
    if "bfloat16" in command and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("says what a CPU says on which oneDNN computes bfloat16")
    answer = bash(f"{command} 2>&1", COLUMNS="80")
    assert masked(answer.out) == masked(output)
    assert answer.code == (2 if output.startswith("rnnscope: ") else 0)


@pytest.mark.parametrize(("script", "output"), followed_by_output("bash"), ids=lambda text: text.split("\n")[0][:40])
def test_a_script_runs(bash: Callable[..., Answer], script: str, output: str) -> None:
    assert bash(f"set -euo pipefail\n{script}") == Answer(0, output, "")


@pytest.mark.parametrize(
    ("script", "output"), followed_by_output("python"), ids=["compare", "cells", "rich", "modules"]
)
def test_a_python_example_runs(script: str, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(script, "README.md", "exec"), {})
    assert masked(re.sub(" +\n", "\n", printed.getvalue())) == masked(output)


SCREENS: list[tuple[str, str]] = re.findall(r"^\| [^|]+ \| `(rnnscope [^`]+)` \| (.+) \|$", README, re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the table of screens names."""
    folder = tmp_path_factory.mktemp("screens")
    weights = torch.nn.LSTM(8, 16, 2).state_dict()
    torch.save(weights, folder / "model.pt")
    torch.save({name: each + 0.01 for name, each in weights.items()}, folder / "after.pt")
    own = (ROOT / "tests" / "own_networks.py").read_text(encoding="utf-8")
    (folder / "my_gru.py").write_text(own.replace("class ResetBefore", "class MyGRU"), encoding="utf-8")
    (folder / "my_lstm.py").write_text(
        re.findall(r"<<'PYTHON'\n(.*?)^PYTHON$", README, re.M | re.S)[0], encoding="utf-8"
    )
    return folder


@pytest.mark.parametrize(("command", "words"), SCREENS, ids=[command for command, _ in SCREENS])
def test_a_screen_says_what_settles_it(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, words: str
) -> None:
    if "cuda" in command and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    monkeypatch.chdir(folder)
    if "run.pt" in command:
        cli("compare", "--record", "run.pt", "--force", "-q")
    answer = cli(*shlex.split(command)[1:])
    assert words in re.sub(r"\s+", " ", answer.out)


def test_two_commands_set_up_a_fresh_machine() -> None:
    first, second = SET_UP
    assert first.endswith("&& rnnscope compare")
    assert second.endswith("&& pytest -n auto")
    for line in SET_UP:
        assert "\n" not in line
        assert line.startswith("python3 -m venv .venv && ")
        assert "torch==2.13.0" in line


def test_ci_runs_the_commands_that_stand_here(bash: Callable[..., Answer]) -> None:
    ci = ROOT / ".ci" / "run"
    if not ci.exists() or not shutil.which("bash"):
        pytest.skip("not in a checkout")
    found = bash(f"bash '{ci}' --show '{ROOT / 'README.md'}'")
    assert found.out.splitlines() == SET_UP


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_is_named(name: str) -> None:
    command = typer.main.get_command(app_of(name, main)).commands[name]  # type: ignore[attr-defined]
    options = {option for each in command.params for option in (*each.opts, *each.secondary_opts) if option[0] == "-"}
    options -= {"--help", "-h", "--help-all"}
    assert options
    assert {each for each in options if not re.search(rf"[`/]{each}\b", README)} == set()
