"""Sweeps that torchrun shares over two real ranks on the CPU."""

import json
from pathlib import Path

import pytest
import torch.distributed
from support import Cli, lines_in, ranks

import rnnscope
from rnnscope import Spec
from rnnscope.network.costs import needed_bytes
from rnnscope.sweeps.plan import Configuration
from rnnscope.sweeps.sweep import row_of
from rnnscope.sweeps.workers import Ranks

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch is built without distributed")

SWEEP = ["sweep", "--kind", "rnn,lstm,gru", "--layers", "1,2", "--hidden-size", "5..60:4"]

CLASS = """
import os, time
from torch import nn

class Differs(nn.RNN):
    def forward(self, x, hx):
        y, h = super().forward(x, hx)
        return (y + 1, h) if self.hidden_size == 1 else (y, h)

class Dies(nn.RNN):
    def forward(self, x, hx):
        nn.calls = getattr(nn, "calls", 0) + 1  # of the process: the class is made anew for each configuration
        if os.environ.get("RANK") == "1" and nn.calls == 60:
            os.system(f"kill -9 {os.getpid()}")  # from outside: a class cannot end its own process
        time.sleep(0.01 if os.environ.get("RANK") == "0" else 0)  # or rank 0 might be done before
        return super().forward(x, hx)
"""


def test_two_ranks_give_the_rows_of_one_process(cli: Cli, tmp_path: Path) -> None:
    alone = cli(*SWEEP, "--out", str(tmp_path / "alone"))
    together = ranks(*SWEEP, "--out", str(tmp_path / "together"))
    assert lines_in(tmp_path / "together") == lines_in(tmp_path / "alone")
    assert together.out == alone.out.replace(".\nRerun", ", shared by 2 ranks of torchrun.\nRerun")
    assert together.code == 0


def test_a_finding_stands_in_the_file_and_the_exit_code_of_the_report(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(CLASS)
    lines = "\n".join(json.dumps({"hidden_size": size, "num_layers": 1}) for size in (2, 1))
    own = f"{tmp_path / 'own.py'}:Differs"
    answer = ranks("sweep", "--configs", "-", "--right", own, "--out", str(tmp_path / "f"), typed=lines)
    assert answer.code == 0
    assert "Verdict: of 2 comparisons 1 found a difference." in answer.out
    assert cli("sweep", "--report", str(tmp_path / "f")).code == 1


def test_what_was_done_when_a_rank_dies_is_kept(cli: Cli, tmp_path: Path) -> None:
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


def test_one_rank_says_what_is_wrong() -> None:
    answer = ranks("sweep", "--layers", "1,0", "--json")
    sentence = "--layers is 0, but it must be a whole number of at least 1"
    assert json.loads(answer.out)["error"]["message"] == sentence
    assert answer.err.count(f"rnnscope: {sentence}") == 1


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process of torchrun that has no others."""
    store = torch.distributed.HashStore()  # type: ignore[attr-defined]
    monkeypatch.setattr("torch.distributed.rendezvous", lambda url: iter([(store, 0, 1)]))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")


@pytest.mark.usefixtures("launched")
def test_a_process_may_sweep_twice() -> None:
    for layers in (1, 2):
        found = rnnscope.sweep({"left": ("cells",), "num_layers": (layers,)})
        assert found is not None
        assert found.workers == 1
        assert [each.outcome for each in found.findings] == ["identical"]


@pytest.mark.usefixtures("launched")
@pytest.mark.parametrize(("local_rank", "device"), [(0, 0), (1, 1), (5, 1)])
def test_each_rank_takes_its_own_device(monkeypatch: pytest.MonkeyPatch, local_rank: int, device: int) -> None:
    taken: list[int] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", taken.append)
    monkeypatch.setenv("LOCAL_RANK", str(local_rank))
    Ranks()
    assert taken == [device]


def test_ranks_share_the_memory_of_their_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    large = Configuration({"hidden_size": 1000})
    monkeypatch.setattr("rnnscope.sweeps.sweep.free_bytes", lambda: 4 * needed_bytes(Spec(hidden_size=1000)) - 4)
    assert row_of(large)["status"] == "compared"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert row_of(large)["status"] == "failed"
