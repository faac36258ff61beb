"""Sweeps that torchrun shares over two real ranks on the CPU."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch.distributed
from conftest import Answer

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch is built without distributed")

SWEEP = ["sweep", "--kind", "rnn,lstm,gru", "--layers", "1,2", "--hidden-size", "5..60:4"]

CLASS = """
import os, signal
from torch import nn

class Differs(nn.RNN):
    def forward(self, x, hx):
        y, h = super().forward(x, hx)
        return (y + 1, h) if self.hidden_size == 1 else (y, h)

class Dies(nn.RNN):
    def forward(self, x, hx):
        nn.calls = getattr(nn, "calls", 0) + 1  # of the process: the class is made anew for each configuration
        if os.environ.get("RANK") == "1" and nn.calls == 25:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x, hx)
"""


def ranks(*words: str, count: int = 2) -> Answer:
    """Answer a command line with so many processes of torchrun."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    done = subprocess.run([*launch, "-m", "rnnscope", *words], capture_output=True, text=True, check=False, timeout=100)
    return Answer(done.returncode, done.stdout, done.stderr)


def lines_in(path: Path) -> list[bytes]:
    return sorted(path.read_bytes().splitlines(keepends=True))


def test_two_ranks_give_the_rows_of_one_process(cli: Callable[..., Answer], tmp_path: Path) -> None:
    alone = cli(*SWEEP, "--out", str(tmp_path / "alone"))
    together = ranks(*SWEEP, "--out", str(tmp_path / "together"))
    assert lines_in(tmp_path / "together") == lines_in(tmp_path / "alone")
    assert together.out == alone.out.replace("cpu.\nRerun", "cpu, shared by 2 ranks of torchrun.\nRerun")
    assert together.code == 0


def test_a_finding_stands_in_the_file_and_the_exit_code_of_the_report(
    cli: Callable[..., Answer], tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(CLASS)
    lines = "\n".join(json.dumps({"hidden_size": size, "num_layers": 1}) for size in (2, 1))
    (tmp_path / "configs").write_text(lines)
    own = f"{tmp_path / 'own.py'}:Differs"
    answer = ranks("sweep", "--configs", str(tmp_path / "configs"), "--right", own, "--out", str(tmp_path / "f"))
    assert answer.code == 0
    assert "Verdict: 1 of 2 that were compared are different." in answer.out
    assert cli("sweep", "--report", str(tmp_path / "f")).code == 1


def test_what_was_done_when_a_rank_dies_is_kept(cli: Callable[..., Answer], tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(CLASS)
    words = ["sweep", "--seq-len", "1..40", "--layers", "1", "--right", f"{tmp_path / 'own.py'}:Dies"]
    answer = ranks(*words, "--out", str(tmp_path / "f"))
    there = lines_in(tmp_path / "f")
    assert answer.code == 1
    assert 2 <= len(there) < 40
    resumed = cli(*words, "--out", str(tmp_path / "f"), "--resume")
    assert resumed.code == 0
    assert set(there) < set(lines_in(tmp_path / "f"))
    assert cli(*words, "--out", str(tmp_path / "alone")).code == 0
    assert lines_in(tmp_path / "f") == lines_in(tmp_path / "alone")


def test_one_rank_says_what_is_wrong_and_lines_come_from_its_stdin(tmp_path: Path) -> None:
    answer = ranks("sweep", "--layers", "1,0")
    assert answer.out == ""
    assert answer.err.count("rnnscope: --layers is 0, but it must be a whole number of at least 1") == 1
