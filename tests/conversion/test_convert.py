"""A network under other names: bit for bit, there and back; written as a whole or not at all."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import Answer, Cli
from torch import Tensor, nn

from rnnscope import RnnscopeError, StackedCells, convert
from rnnscope.files.tensors import read_file


def bits(state: dict[str, Tensor]) -> dict[str, tuple[torch.dtype, list[int]]]:
    return {name: (each.dtype, each.contiguous().view(torch.uint8).flatten().tolist()) for name, each in state.items()}


@pytest.fixture
def lstm(tmp_path: Path) -> tuple[nn.LSTM, str]:
    torch.manual_seed(0)
    module = nn.LSTM(3, 4, num_layers=2, bidirectional=True)
    file = tmp_path / "lstm.pt"
    torch.save({"state_dict": {f"encoder.{name}": each for name, each in module.state_dict().items()}}, file)
    return module, str(file)


@pytest.mark.parametrize("ending", [".pt", ".pth", ".safetensors", ".npz"])
def test_cells_load_what_was_written(lstm: tuple[nn.LSTM, str], ending: str, tmp_path: Path) -> None:
    module, file = lstm
    out = str(tmp_path / f"cells{ending}")
    assert convert(file, out, "cells").comparison.verdict in ("identical", "equivalent")
    cells = StackedCells("lstm", 3, 4, 2, bidirectional=True)
    cells.load_state_dict(read_file(out))
    assert bits(cells.state_dict()) == bits(StackedCells.from_module(module).state_dict())


KINDS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
numbers = st.floats(-2, 2, width=16)


@given(
    kind=st.sampled_from(sorted(KINDS)),
    sizes=st.tuples(*[st.integers(1, 4)] * 3),
    bias=st.booleans(),
    both=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    ending=st.sampled_from([".pt", ".safetensors"]),
    data=st.data(),
)
def test_there_and_back_is_the_identity(
    kind: str,
    sizes: tuple[int, int, int],
    bias: bool,
    both: bool,
    dtype: torch.dtype,
    ending: str,
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("convert")
    module = KINDS[kind](sizes[0], sizes[1], sizes[2], bias=bias, bidirectional=both)
    for each in module.parameters():
        values = data.draw(st.lists(numbers, min_size=each.numel(), max_size=each.numel()))
        each.data = torch.tensor(values).view(each.shape)
    state = module.to(dtype).state_dict()
    torch.save(state, folder / "a.pt")
    convert(str(folder / "a.pt"), str(folder / f"b{ending}"), "cells")
    convert(str(folder / f"b{ending}"), str(folder / "c.pt"), "module")
    assert bits(read_file(str(folder / "c.pt"))) == bits(state)


def test_a_single_cell_becomes_a_module(tmp_path: Path) -> None:
    cell = nn.GRUCell(3, 4)
    torch.save(cell.state_dict(), tmp_path / "cell.pt")
    convert(str(tmp_path / "cell.pt"), str(tmp_path / "out.pt"), "module")
    module = nn.GRU(3, 4)
    module.load_state_dict(read_file(str(tmp_path / "out.pt")))
    assert torch.equal(module.state_dict()["weight_hh_l0"], cell.weight_hh)


@pytest.mark.parametrize("to", ["cells", "module"])
def test_a_folded_network_is_written_as_evaluation_computes_it(to: str, cli: Cli, tmp_path: Path) -> None:
    file, out = str(tmp_path / "a.pt"), str(tmp_path / "b.pt")
    state = {f"rnn.module.{name}": each for name, each in nn.LSTM(3, 4).state_dict().items()}
    torch.save(state | {"rnn.weight_hh_l0_raw": torch.ones(16, 4)}, file)
    answer = cli("convert", file, "--to", to, "-o", out)
    name = "cells.0.weight_hh" if to == "cells" else "weight_hh_l0"
    assert torch.equal(read_file(out)[name], torch.ones(16, 4))
    text = " ".join(answer.out.split())
    assert "Note: the _raw tensor, which evaluation uses, was taken for rnn.module.weight_hh_l0." in text
    assert "Note: the file's own rnn.module.weight_hh_l0 differs from its _raw tensor and was left out." in text


def test_a_module_and_a_cell_under_one_prefix_are_named_by_their_weights(cli: Cli, tmp_path: Path) -> None:
    file, out = str(tmp_path / "a.pt"), str(tmp_path / "b.pt")
    torch.save({**nn.LSTM(3, 4).state_dict(), **nn.GRUCell(3, 4).state_dict()}, file)
    words = ["convert", file, "--to", "module", "-o", out]
    assert cli(*words).err == (
        f"rnnscope: {file} has 2 RNNs: 'weight_ih_l0', 'weight_ih'; give the prefix of one, such as 'weight_ih_l0'\n"
    )
    assert cli(*words, "--prefix", "weight_ih", "-q").code == 0
    assert read_file(out)["weight_ih_l0"].shape == (12, 3)


def test_weights_whose_products_overflow_are_refused_with_where_to_look(cli: Cli, tmp_path: Path) -> None:
    file = str(tmp_path / "a.pt")
    huge = {f"net.{name}": torch.full_like(each, 1e308) for name, each in nn.RNN(3, 4).double().state_dict().items()}
    torch.save(huge, file)
    answer = cli("convert", file, "--to", "cells", "-o", str(tmp_path / "b.pt"), "--prefix", "net")
    assert answer.err == (
        "rnnscope: module and cells are different with these weights, so nothing was written; "
        f"see where: rnnscope compare --weights {file} --prefix net --dtype float64\n"
    )
    assert not (tmp_path / "b.pt").exists()


def test_a_projection_stays_a_module(cli: Cli, tmp_path: Path) -> None:
    file = str(tmp_path / "a.pt")
    torch.save(nn.LSTM(3, 8, proj_size=4).state_dict(), file)
    assert cli("convert", file, "--to", "cells", "-o", str(tmp_path / "b.pt")) == Answer(
        2, "", f"rnnscope: {file}: '' has a projection, which nn.LSTMCell does not know; use --to module\n"
    )
    assert cli("convert", file, "--to", "module", "-o", str(tmp_path / "b.pt"), "-q").code == 0


def test_what_is_there_is_kept_unless_forced(lstm: tuple[nn.LSTM, str], cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out.pt"
    out.write_text("mine")
    words = ["convert", lstm[1], "--to", "cells", "-o", str(out)]
    assert cli(*words).err == f"rnnscope: {out} is there already; name another file, or add --force\n"
    assert out.read_text() == "mine"
    assert cli(*words, "--force", "-q").code == 0
    assert "cells.0.weight_ih" in read_file(str(out))
    assert [each.name for each in tmp_path.iterdir() if "part" in each.name] == []


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        ("out.xyz", "the ending names no format; use one of .pt, .pth, .safetensors, .npz"),
        ("nowhere/out.pt", "there is no folder"),
        ("folder.pt", "folder.pt is a directory; name a file in it"),
    ],
)
def test_a_target_that_cannot_be_written(
    lstm: tuple[nn.LSTM, str], cli: Cli, out: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "folder.pt").mkdir()
    answer = cli("convert", lstm[1], "--to", "cells", "--force", "-o", str(tmp_path / out))
    assert (answer.code, answer.out) == (2, "")
    assert sentence in answer.err


def test_npz_cannot_say_bfloat16(cli: Cli, tmp_path: Path) -> None:
    torch.save(nn.GRU(3, 4).bfloat16().state_dict(), tmp_path / "a.pt")
    answer = cli("convert", str(tmp_path / "a.pt"), "--to", "cells", "-o", str(tmp_path / "b.npz"))
    assert "cells.0.weight_ih is in bfloat16, which NumPy does not know; use .pt or .safetensors" in answer.err


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_leaves_nothing(
    lstm: tuple[nn.LSTM, str], call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr("tempfile.mkdtemp", full)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RnnscopeError, match=r"cannot write .*out\.pt \(No space left on device\)"):
        convert(lstm[1], str(tmp_path / "out.pt"), "cells")
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_not_proved_is_not_written(
    lstm: tuple[nn.LSTM, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rnnscope.conversion import convert as conversion

    read = read_file

    def flipped(path: str) -> Any:
        content = read(path)
        if ".part" in path:
            content["cells.0.weight_ih"][0, 0] += 1e-7
        return content

    monkeypatch.setattr(conversion, "read_file", flipped)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RnnscopeError, match="not those that were read"):
        convert(lstm[1], str(tmp_path / "out.pt"), "cells")
    assert sorted(tmp_path.iterdir()) == before


INTERRUPTED = """
import sys, time
from rnnscope.conversion import convert as conversion
from rnnscope.cli.shell import run
proof = conversion._proof
def slow(*args):
    print("writing", flush=True, file=sys.stderr)
    time.sleep(60)
conversion._proof = slow
sys.exit(run(sys.argv[1:]))
"""


def test_ctrl_c_leaves_nothing(lstm: tuple[nn.LSTM, str], tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    words = ["convert", lstm[1], "--to", "cells", "-o", str(tmp_path / "out.pt")]
    child = subprocess.Popen([sys.executable, "-c", INTERRUPTED, *words], stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    assert child.stderr.readline() == "writing\n"
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=30) == 130
    child.stderr.close()
    assert sorted(tmp_path.iterdir()) == before


def test_the_document_of_a_conversion(lstm: tuple[nn.LSTM, str], cli: Cli, tmp_path: Path) -> None:
    out = str(tmp_path / "out.safetensors")
    document = json.loads(cli("convert", lstm[1], "--to", "cells", "-o", out, "--json").out)
    assert document["verdict"] in ("identical", "equivalent")
    assert document["names"]["encoder.weight_hh_l1_reverse"] == "reverse_cells.1.weight_hh"
    assert document["rerun"].endswith(f"--to cells --out {out} --force")
    assert document["rnn"]["prefix"] == "encoder"


@pytest.mark.parametrize(("words", "missing"), [(["--to", "cells"], "--out"), (["-o", "x.pt"], "--to")])
def test_what_must_be_given(cli: Cli, words: list[str], missing: str) -> None:
    assert cli("convert", "a.pt", *words).err.startswith(f"rnnscope: {missing} is missing; try {missing} ")
