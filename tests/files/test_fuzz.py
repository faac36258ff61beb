"""Valid files with bytes flipped and ends cut off: never a traceback, never code run, never wrong weights unnoticed."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Cli
from torch import nn

from rnnscope import Spec, compare
from rnnscope.errors import RnnscopeError
from rnnscope.files.checkpoints import find_rnn
from rnnscope.files.tensors import read_file

TIMES = 250

CHECKED = {".pt", ".npz"}
"""Formats with a checksum over every tensor."""


def valid(folder: Path, name: str) -> Path:
    torch.manual_seed(0)
    path = folder / name
    if name == "old.pt":
        torch.save(nn.GRU(3, 4).state_dict(), path, _use_new_zipfile_serialization=False)
    elif name.endswith(".pt"):
        torch.save({"state_dict": nn.GRU(3, 4).state_dict()}, path)
    else:
        compare(Spec(kind="gru", hidden_size=4, input_size=3, seq_len=2, batch_size=2), record=str(path))
    return path


def damaged(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    if chance.random() < 0.3:
        del changed[chance.randrange(len(changed)) :]
    if chance.random() < 0.1:
        start = chance.randrange(len(changed) or 1)
        del changed[start : start + chance.randrange(1, 40)]
    return bytes(changed)


@pytest.mark.parametrize("name", ["new.pt", "old.pt", "run.safetensors", "run.npz"])
def test_a_damaged_file_is_refused_or_harmless(
    name: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good = valid(tmp_path, name)
    data, expected = good.read_bytes(), find_rnn(name, read_file(str(good))).weights
    bad = tmp_path / f"bad{good.suffix}"
    chance = random.Random(0)
    for number in range(TIMES):
        bad.write_bytes(damaged(data, chance))
        answer = cli("weights", bad.name)
        assert (number, answer.code) in ((number, 0), (number, 2))
        assert (number, answer.err.count("\n")) == (number, 0 if answer.code == 0 else 1)
        assert "unexpected" not in answer.err
        if answer.code == 0 and good.suffix in CHECKED and name != "old.pt":
            found: Any = find_rnn(bad.name, read_file(bad.name)).weights
            assert (number, found.keys()) == (number, expected.keys())
            assert [key for key in found if not torch.equal(found[key], expected[key])] == []
    assert {each.name for each in tmp_path.iterdir()} == {good.name, bad.name}


@pytest.mark.parametrize("name", ["new.pt", "run.npz"])
def test_every_flipped_bit_of_a_tensor_is_noticed(name: str, tmp_path: Path) -> None:
    good = valid(tmp_path, name)
    data = bytearray(good.read_bytes())
    weight = find_rnn(name, read_file(str(good))).weights["weight_hh_l0"].contiguous()
    start = bytes(data).index(bytes(weight.view(torch.uint8).flatten().tolist()))
    for offset in range(0, weight.numel() * 4, 7):
        changed = bytearray(data)
        changed[start + offset] ^= 1
        good.write_bytes(changed)
        with pytest.raises(RnnscopeError, match="damaged"):
            read_file(str(good))
