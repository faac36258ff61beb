"""Signals that ask the process to end, sent to a process of its own: what it says, what it leaves, its exit code."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import ROOT, Answer, Cli

RNNSCOPE = [sys.executable, "-m", "rnnscope"]

HERE = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}
"""The environment in which this very package is found from every folder."""

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}

SLOW = """
import os, time
from torch import nn

class Slow(nn.RNN):
    def forward(self, x, hx):
        print("it runs")
        open("started", "w").close()
        WAIT
        return super().forward(x, hx)
"""
"""A class that says when it is run, and then stays."""

STAYS = "time.sleep(600)"
GOES_ON = "exec('while True:\\n try: time.sleep(600)\\n except BaseException: pass')"


def ended(folder: Path, number: signal.Signals, *words: str, ready: Callable[[], bool]) -> Answer:
    """Run a command line in a folder until it is ready, and send it a signal."""
    keep = signal.signal(signal.SIGINT, signal.SIG_DFL)  # or the child would ignore what a background job ignores
    with subprocess.Popen(
        [*RNNSCOPE, *words], cwd=folder, env=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        signal.signal(signal.SIGINT, keep)
        while not ready() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    return Answer(process.returncode, out, err)


def slow(folder: Path, number: signal.Signals, *words: str, wait: str = STAYS) -> Answer:
    (folder / "slow.py").write_text(SLOW.replace("WAIT", wait), encoding="utf-8")
    return ended(
        folder, number, "compare", "--right", "slow.py:Slow", *words, ready=lambda: (folder / "started").exists()
    )


@pytest.mark.parametrize("number", NAMES)
def test_a_signal_is_told_in_one_line(tmp_path: Path, number: signal.Signals) -> None:
    said = f"it runs\nrnnscope: interrupted by {NAMES[number]}\n"
    assert slow(tmp_path, number) == Answer(128 + number, "", said)


@pytest.mark.parametrize("number", NAMES)
def test_a_signal_under_json_is_a_document(tmp_path: Path, number: signal.Signals) -> None:
    answer = slow(tmp_path, number, "--json")
    assert json.loads(answer.out) == {
        "schema": 1,
        "command": "compare",
        "error": {"message": f"interrupted by {NAMES[number]}", "hint": None},
    }


@pytest.mark.parametrize("words", [("--json",), ("--json", "-q")], ids=str)
def test_code_that_goes_on_is_not_waited_for(tmp_path: Path, words: tuple[str, ...]) -> None:
    answer = slow(tmp_path, signal.SIGTERM, *words, wait=GOES_ON)
    assert answer.code == 143
    assert answer.err.endswith("rnnscope: interrupted by SIGTERM\n")
    assert (json.loads(answer.out)["error"]["message"] if answer.out else None) == (
        None if "-q" in words else "interrupted by SIGTERM"
    )


def test_a_signal_to_a_child_is_none_to_the_command(tmp_path: Path, bash: Cli) -> None:
    (tmp_path / "forks.py").write_text(
        "import multiprocessing, time\nfrom torch import nn\n\nclass Forks(nn.RNN):\n"
        "    def forward(self, x, hx):\n"
        "        child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(600,))\n"
        "        child.start()\n        child.terminate()\n        child.join()\n        assert child.exitcode == -15\n"
        "        return super().forward(x, hx)\n",
        encoding="utf-8",
    )
    assert bash(f"rnnscope compare -q --threads 1 --right {tmp_path}/forks.py:Forks") == Answer(0, "", "")


def test_a_half_written_file_is_taken_away(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from rnnscope.pages import render
kept = render._put_in_place
render._put_in_place = lambda *_: os.kill(os.getpid(), signal.SIGTERM)
from rnnscope.__main__ import main
sys.exit(main())
"""
    words = ["shapes", "--dry-run", "--export", "page.svg"]
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=tmp_path,
        env=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "rnnscope: interrupted by SIGTERM\n")
    assert list(tmp_path.iterdir()) == []


def rows_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


SWEEP = ("sweep", "--kind", "rnn,lstm,gru", "--layers", "1,2,3", "--seed", "0..99", "--out", "rows.jsonl")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_the_rows_of_a_sweep_are_whole_and_it_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    rows = tmp_path / "rows.jsonl"
    answer = ended(tmp_path, number, *SWEEP, "--json", ready=lambda: rows_in(rows) > 5)
    hint = "the rows in rows.jsonl are whole: add --resume to go on"
    assert answer.code == 128 + number
    assert json.loads(answer.out)["error"] == {"message": f"interrupted by {NAMES[number]}", "hint": hint}
    assert answer.err == f"rnnscope: interrupted by {NAMES[number]}; {hint}\n"
    many = [json.loads(line)["status"] for line in rows.read_text(encoding="utf-8").splitlines()]
    assert set(many) == {"compared"}
    more = ended(tmp_path, number, *SWEEP, "--resume", ready=lambda: rows_in(rows) > len(many) + 5)
    assert more.code == 128 + number
    assert rows.read_bytes().endswith(b"}\n")


@pytest.mark.skipif(not shutil.which("timeout"), reason="needs timeout of coreutils")
def test_under_timeout_the_rows_are_whole(tmp_path: Path, bash: Cli) -> None:
    line = " ".join(SWEEP).replace("rows.jsonl", str(tmp_path / "rows.jsonl")).replace("0..99", "0..9999")
    answer = bash(f"timeout --preserve-status 8 python -m rnnscope {line}")
    assert (answer.code, answer.out) == (143, "")
    assert answer.err.startswith("rnnscope: interrupted by SIGTERM")
    assert (tmp_path / "rows.jsonl").read_bytes().endswith(b"}\n")
