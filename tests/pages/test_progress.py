"""What a terminal is told while something runs: one that is a string, whose drawings are waited for, and real ones."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support import OWN
from torch import nn

from rnnscope import Spec, StackedCells, bench, compare, convert, observed_shapes, trace
from rnnscope.pages import progress
from rnnscope.pages.progress import shown, stage, walking
from rnnscope.verdict.deviations import deviations

Patch = pytest.MonkeyPatch


class Terminal(io.StringIO):
    """Keeps what is drawn."""

    def isatty(self) -> bool:
        return True

    def waits_for(self, words: str) -> None:
        """Wait until the words are drawn, and forget what was drawn before."""
        end = time.monotonic() + 5
        while words not in self.getvalue():
            assert time.monotonic() < end, self.getvalue()[-300:]
            time.sleep(0.002)
        self.last = self.getvalue()
        self.truncate(0)


@pytest.fixture
def terminal(monkeypatch: Patch) -> Terminal:
    """stderr is a terminal on which each drawing comes at once."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "PAUSE", 0.002)
    found = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=found))  # pytest sets sys.stderr anew
    return found


WIPED = "\x1b[?25h\r\x1b[1A\x1b[2K"
"""The cursor is there again, and the line is gone."""


def test_what_goes_on_is_named_with_the_time_since_it_began(terminal: Terminal) -> None:
    with shown("compare"):
        terminal.waits_for("0:00:00  compare")
        with stage("every step by itself"):
            terminal.waits_for("0:00:00  every step by itself")
            with stage("left in float64"):
                terminal.waits_for("0:00:00  every step by itself, left in float64")
            terminal.waits_for("0:00:00  every step by itself\r")
        terminal.waits_for("0:00:00  compare")
    assert terminal.getvalue().endswith(WIPED)


def test_a_walk_is_told_by_its_steps_with_rate_and_time_left(terminal: Terminal) -> None:
    with shown("compare"), stage("right: cells"):
        tell, steps = walking(4000), [0] * 1000
        tell(steps)
        terminal.waits_for(" 1,000/4,000 steps  right: cells")
        steps += [0] * 100
        terminal.waits_for(" 1,100/4,000 steps  ")
        steps += [0] * 100
        terminal.waits_for(" 1,200/4,000 steps  ")
        terminal.waits_for(" left  right: cells")
        assert re.search(r" 1,200/4,000 steps  [\d.,e+]+ steps/s  \d+:\d\d:\d\d left  right: cells", terminal.last)
        tell(())
        tell([0] * 900)
        terminal.waits_for(" 2,100/4,000 steps  ")


def test_a_walk_keeps_no_states(terminal: Terminal) -> None:
    class States(list[int]):
        pass

    with shown("compare"):
        tell, states = walking(2), States([1, 2])
        tell(states)
        tell(())
        assert sys.getrefcount(states) == 2
        assert progress._own_screen() is not None


def test_the_whole_is_counted_and_its_parts_are_named(terminal: Terminal) -> None:
    with progress.progress(120, "configurations", done=100) as advance:
        terminal.waits_for(" 100/120 configurations  ")
        advance(7)
        with stage("left: module"), progress.progress(5, "steps") as unseen:
            walking(3)([0])
            unseen(1)
            terminal.waits_for(" 107/120 configurations")
            terminal.waits_for("left: module")
    assert terminal.getvalue().endswith(WIPED)


def test_a_run_that_takes_for_ever_has_its_time_left_too(terminal: Terminal) -> None:
    with progress.progress(10**18, "steps") as advance:
        terminal.waits_for("0/1,000,000,000,000,000,000 steps")
        for number in range(1, 4):
            advance(1)
            terminal.waits_for(f" {number}/1,000,000,000,000,000,000 steps")
        terminal.waits_for(" left  steps")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing_behind(terminal: Terminal, error: type[BaseException]) -> None:
    before = threading.active_count()
    with pytest.raises(error), shown("compare"), stage("left: module"):  # noqa: PT012
        terminal.waits_for("left: module")
        raise error
    assert terminal.getvalue().endswith(WIPED)
    assert (progress._screen, threading.active_count()) == (None, before)


def test_what_is_short_is_not_drawn(terminal: Terminal, monkeypatch: Patch) -> None:
    before = threading.active_count()
    monkeypatch.setattr(progress, "PATIENCE", 600.0)
    found = compare(Spec(kind="lstm"))
    assert (found.exit_code, terminal.getvalue(), threading.active_count()) == (0, "", before)


@pytest.mark.parametrize("stream", [io.StringIO(), None], ids=["a file", "closed"])
def test_off_a_terminal_nothing_is_drawn(monkeypatch: Patch, stream: io.StringIO | None) -> None:
    before = threading.active_count()
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))
    with shown("compare"), stage("left: module"):
        assert (progress._screen, threading.active_count()) == (None, before)
    assert stream is None or stream.getvalue() == ""


def test_another_thread_is_no_part_of_what_is_shown(terminal: Terminal) -> None:
    def other() -> None:
        with shown("other"), stage("other"):
            walking(3)([0])

    with shown("compare"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        terminal.waits_for("compare")
        assert "other" not in terminal.getvalue()


def test_a_name_is_drawn_as_it_is(terminal: Terminal) -> None:
    with shown("compare"), stage("left: [bold]\x1b[2J.py:A"):
        terminal.waits_for("left: [bold]\\x1b[2J.py:A")


def test_a_terminal_that_is_gone_is_no_error(terminal: Terminal, monkeypatch: Patch) -> None:
    def write(text: str) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(terminal, "write", write)
    with shown("compare"):
        screen = progress._own_screen()
        assert screen is not None
        screen._thread.join()


# What a command names.


@pytest.fixture
def named(terminal: Terminal, monkeypatch: Patch) -> list[str]:
    """The names of all stages, drawn or not."""
    names: list[str] = []

    class Noted(progress._Stage):
        def __init__(self, name: str) -> None:
            super().__init__(name)
            names.append(name)

    monkeypatch.setattr(progress, "_Stage", Noted)
    return names


def chaotic() -> nn.RNN:
    """Rounding decides its whole runs."""
    found = nn.RNN(10, 128, 2)
    generator = torch.Generator().manual_seed(0)
    for each in found.parameters():
        each.data.uniform_(-3, 3, generator=generator)
    return found


LSTM = len(list(deviations(Spec(kind="lstm"))))

RUNS: dict[str, tuple[Callable[[], object], list[str]]] = {
    "compare": (
        lambda: compare(Spec()),
        ["left: module", "right: cells", "left in float64", "right in float64", "the equations in float64"],
    ),
    "gradients": (lambda: compare(Spec(), grad=True), ["left: module", "gradients"]),
    "another function": (
        lambda: compare(Spec(kind="lstm"), right=f"{OWN}:Iofg"),
        [
            *(f"loading {OWN}:Iofg", f"right: {OWN}:Iofg", "rounded runs 1 of 2", "rounded runs 2 of 2"),
            *(f"deviations 1 of {LSTM}", f"deviations {LSTM} of {LSTM}", "where they part"),
        ],
    ),
    "chaos": (
        lambda: compare(chaotic(), StackedCells.from_module(chaotic()), torch.ones(100, 2, 10)),
        ["rounded runs 2 of 2", "the first 50 steps", "the equations in float32", "every step by itself"],
    ),
    "power": (lambda: compare(Spec(kind="lstm"), power=True), [f"deviations {LSTM} of {LSTM}"]),
    "map": (lambda: compare(Spec(), map=True), ["the map"]),
    "trace": (lambda: trace(Spec(kind="gru")), ["nn.GRU", "the equations", "slices that are equal"]),
    "shapes": (lambda: observed_shapes(Spec()), ["module", "cells"]),
    "convert": (lambda: convert("a.pt", "b.pt", "cells"), ["reading a.pt", "left: module", "right: cells"]),
    "bench": (lambda: bench(Spec(), ("module", "cells"), min_time=0), ["module", "cells"]),
}


@pytest.mark.parametrize(("run", "names"), RUNS.values(), ids=RUNS)
def test_each_run_is_named(
    named: list[str], tmp_path: Path, monkeypatch: Patch, run: Callable[[], object], names: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(nn.GRU(3, 4).state_dict(), "a.pt")
    run()
    assert [each for each in names if each not in named] == []
    assert progress._screen is None


# Real terminals.

STARTED = """
import sys
from rnnscope.__main__ import main
from rnnscope.pages import progress
progress.PATIENCE = float(sys.argv.pop(1))
sys.exit(main())
"""

STOPS = """
import time
from torch import nn

class Waits(nn.RNN):
    def forward(self, x, hx=None):
        time.sleep(600)

class Fails(nn.RNN):
    def forward(self, x, hx=None):
        time.sleep(0.3)
        raise ValueError("no idea")
"""


def on_a_terminal(*words: str, until: bytes = b"") -> tuple[int, str, str]:
    """The exit code, stdout and what a terminal as stderr was sent; Ctrl-C comes as soon as some words are there."""
    pty = pytest.importorskip("pty", reason="has no terminals to open")
    leader, follower = pty.openpty()
    command, environment = [sys.executable, "-c", STARTED, *words], os.environ | {"TERM": "xterm", "COLUMNS": "300"}
    sent = b""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower, env=environment, text=True) as process:
        os.close(follower)
        with contextlib.suppress(OSError):  # a terminal that was hung up
            while part := os.read(leader, 65536):
                sent += part
                if until and until in sent:
                    until = b""
                    process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    os.close(leader)
    return process.returncode, out, sent.decode()


@pytest.fixture
def stops(tmp_path: Path) -> str:
    (tmp_path / "stops.py").write_text(STOPS)
    return str(tmp_path / "stops.py")


def test_a_terminal_is_told_of_a_comparison_and_stdout_is_not(stops: str) -> None:
    words = ("compare", "--seq-len", "10000", "--threads", "1")
    code, out, sent = on_a_terminal("0", *words)
    assert (code, sent[-len(WIPED) :]) == (0, WIPED)
    assert "loading torch" in sent
    assert re.search(r" [\d,]+/20,000 steps  ", sent)
    assert on_a_terminal("600", *words) == (0, out, "")


def test_ctrl_c_wipes_the_line_away(stops: str) -> None:
    code, out, sent = on_a_terminal(
        "0", "compare", "--right", f"{stops}:Waits", until=f"loading {stops}:Waits".encode()
    )
    assert (code, out) == (130, "")
    assert sent.endswith(f"{WIPED}rnnscope: interrupted by Ctrl-C\r\n")


def test_an_error_stands_on_a_line_of_its_own(stops: str) -> None:
    code, out, sent = on_a_terminal("0", "compare", "--right", f"{stops}:Fails")
    assert (code, out) == (2, "")
    assert f"right: {stops}:Fails" in sent
    assert re.search(re.escape(WIPED) + r"rnnscope: \S+:Fails raised ValueError: no idea .*\r\n$", sent)
