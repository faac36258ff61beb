"""RNNs in files, found by names and shapes alone; and every file that is refused, with the sentence that says why."""

import json
import os
import pickle
import re
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Cli
from torch import nn
from torch.nn.utils import prune

from rnnscope import RnnscopeError, StackedCells, checkpoint
from rnnscope.files.checkpoints import Rnn, find_rnn, told_apart
from rnnscope.files.tensors import read_file


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def saved(folder: Path, content: Any, name: str = "file.pt") -> str:
    path = folder / name
    if name.endswith(".safetensors"):
        from safetensors.torch import save_file

        save_file({key: each.contiguous().clone() for key, each in content.items()}, path)
    else:
        torch.save(content, path)
    return str(path)


def only(folder: Path, content: Any, name: str = "file.pt") -> Rnn:
    (rnn,) = checkpoint(saved(folder, content, name)).rnns
    return rnn


def under(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{name}": each for name, each in state.items()}


MODULES: dict[str, Callable[[], nn.Module]] = {
    "rnn": lambda: nn.RNN(3, 4),
    "lstm": lambda: nn.LSTM(3, 4, num_layers=3),
    "gru-both": lambda: nn.GRU(3, 4, num_layers=2, bidirectional=True),
    "no-bias": lambda: nn.LSTM(5, 2, bias=False),
    "projection": lambda: nn.LSTM(3, 8, num_layers=2, proj_size=5, bidirectional=True),
    "one-unit": lambda: nn.RNN(1, 1),
    "as-wide-as-gates": lambda: nn.RNN(3, 12),
}


@pytest.mark.parametrize("ending", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_found_with_its_sizes_and_weights(name: str, ending: str, tmp_path: Path) -> None:
    module: Any = MODULES[name]()
    rnn = only(tmp_path, module.state_dict(), f"file{ending}")
    spec, kind = rnn.spec, type(module).__name__.lower()
    assert (rnn.prefix, rnn.form, spec.kind, spec.dtype) == ("", "module", kind, "float32")
    for size in ("input_size", "hidden_size", "num_layers", "bias", "bidirectional", "proj_size"):
        assert (size, getattr(spec, size)) == (size, getattr(module, size))
    assert rnn.parameter_count == sum(each.numel() for each in module.parameters())
    assert list(rnn.weights) == list(module.state_dict())
    assert all(torch.equal(each, module.state_dict()[own]) for own, each in rnn.weights.items())


@pytest.mark.parametrize(
    ("wrap", "prefix", "path"),
    [
        (lambda state: {"state_dict": state}, "", "state_dict"),
        (
            lambda state: {"epoch": 3, "model": {f"module.rnn.{k}": v for k, v in state.items()}},
            "module.rnn",
            "model.module.rnn",
        ),
        (lambda state: {f"encoder.rnn.{k}": v for k, v in state.items()}, "encoder.rnn", "encoder.rnn"),
        (lambda state: {"encoder": {"rnn": dict(state)}}, "", "encoder.rnn"),
        (lambda state: [{"net": state}], "", "0.net"),
        (lambda state: {"opt": {"state": {0: {"exp_avg": torch.zeros(3)}}}, "net": state}, "", "net"),
    ],
    ids=["state_dict", "module.", "prefix", "nested", "list", "optimizer"],
)
def test_a_network_is_found_wherever_a_trainer_puts_it(
    wrap: Callable[[Any], Any], prefix: str, path: str, tmp_path: Path
) -> None:
    rnn = only(tmp_path, wrap(nn.GRU(3, 4).state_dict()))
    assert (rnn.prefix, rnn.path) == (prefix, path)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_dtype_is_the_files(dtype: torch.dtype, tmp_path: Path) -> None:
    rnn = only(tmp_path, nn.LSTM(3, 4).to(dtype).state_dict(), "half.safetensors")
    assert f"torch.{rnn.spec.dtype}" == str(dtype)
    assert rnn.weights["weight_ih_l0"].dtype == dtype


def test_strided_weights_are_read_as_they_are(tmp_path: Path) -> None:
    state = nn.RNN(3, 4).state_dict()
    wide = torch.randn(4, 8)
    state["weight_hh_l0"] = wide[:, ::2]
    state["weight_ih_l0"] = torch.randn(3, 4).t()
    rnn = only(tmp_path, state)
    assert torch.equal(rnn.weights["weight_hh_l0"], wide[:, ::2])
    assert not rnn.weights["weight_ih_l0"].is_contiguous()


def old_norm(module: nn.Module, name: str, dim: int | None) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(module, name, dim)  # type: ignore[arg-type]


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("norm", [old_norm, nn.utils.parametrizations.weight_norm], ids=["old", "parametrised"])
def test_weight_norm_is_folded_into_what_the_module_computes_with(norm: Any, dim: int | None, tmp_path: Path) -> None:
    module: Any = nn.LSTM(3, 4)
    norm(module, "weight_hh_l0", dim=dim)
    for each in module.parameters():
        nn.init.normal_(each)
    module(torch.zeros(1, 1, 3))  # the old kind multiplies before each call
    rnn = only(tmp_path, module.state_dict())
    assert torch.equal(rnn.weights["weight_hh_l0"], module.weight_hh_l0.detach())
    assert rnn.notes == ("weight norm was folded into weight_hh_l0",)


@pytest.mark.parametrize(("make", "name"), [(nn.LSTM, "weight_hh_l0"), (nn.GRUCell, "weight_hh")])
def test_the_mask_of_pruning_is_folded_into_what_the_module_computes_with(make: Any, name: str, tmp_path: Path) -> None:
    module = prune.random_unstructured(make(3, 4), name, 0.5)  # type: ignore[no-untyped-call]
    rnn = only(tmp_path, module.state_dict())
    weight = getattr(module, name).detach()
    assert 0 < weight.count_nonzero() < weight.numel()
    assert torch.equal(rnn.weights["weight_hh_l0"], weight)
    assert (rnn.notes, rnn.keys) == ((f"the mask of pruning was folded into {name}",), None)


RAW = "the _raw tensor, which evaluation uses, was taken for {}"
LEFT_OUT = "the file's own {} differs from its _raw tensor and was left out"


def dropped(inner: str, outer: str, *beside: float) -> dict[str, Any]:
    """The state of weight drop: its raw tensor is 1, and what stands beside it under its own name is as given."""
    state = {f"{inner}{name}": each for name, each in nn.LSTM(3, 4).state_dict().items() if name != "weight_hh_l0"}
    state |= {f"{inner}weight_hh_l0": torch.full((16, 4), each) for each in beside}
    return state | {f"{outer}weight_hh_l0_raw": torch.ones(16, 4)}


@pytest.mark.parametrize("beside", [(), (2.0,), (1.0,)], ids=["alone", "differs", "same"])
@pytest.mark.parametrize(
    ("inner", "outer"),
    [("", ""), ("rnn.", "rnn."), ("rnn.module.", "rnn."), ("module.", ""), ("rnn.module.", "rnn.module.")],
)
def test_the_raw_tensor_of_weight_drop_is_the_weight(
    inner: str, outer: str, beside: tuple[float, ...], tmp_path: Path
) -> None:
    rnn = only(tmp_path, dropped(inner, outer, *beside))
    name = f"{inner}weight_hh_l0"
    assert rnn.prefix == inner.removesuffix(".")
    assert torch.equal(rnn.weights["weight_hh_l0"], torch.ones(16, 4))
    expected = {(): (RAW,), (2.0,): (RAW, LEFT_OUT), (1.0,): ()}[beside]
    assert rnn.notes == tuple(each.format(name) for each in expected)
    assert rnn.keys == (None if expected else ())


def test_weight_drop_of_every_weight_is_one_network(tmp_path: Path) -> None:
    state = {f"{name}_raw": each for name, each in nn.GRU(3, 4).state_dict().items()}
    rnn = only(tmp_path, state)
    assert rnn.notes == (RAW.format("weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0"),)


def test_weight_norm_of_a_raw_tensor_is_folded_and_said(tmp_path: Path) -> None:
    norm = {"weight_hh_l0_raw_g": torch.full((16, 1), 2.0), "weight_hh_l0_raw_v": torch.eye(16, 4) + 1}
    rnn = only(tmp_path, changed_lstm(**norm))
    assert torch.allclose(rnn.weights["weight_hh_l0"].norm(dim=1), torch.full((16,), 2.0))
    assert rnn.notes == ("weight norm was folded into weight_hh_l0", RAW.format("weight_hh_l0"))


def changed_lstm(**parts: Any) -> dict[str, Any]:
    """The state of an LSTM with parts in place of weight_hh_l0."""
    return {name: each for name, each in nn.LSTM(3, 4).state_dict().items() if name != "weight_hh_l0"} | parts


def test_a_mask_that_is_not_applied_is_said_to_be_there(cli: Cli, tmp_path: Path) -> None:
    state = dict(nn.LSTM(3, 4).state_dict()) | {"weight_hh_l0_mask": torch.ones(16, 4)}
    rnn = only(tmp_path, state)
    note = "a mask stands beside weight_hh_l0 and was not applied"
    assert torch.equal(rnn.weights["weight_hh_l0"], state["weight_hh_l0"])
    assert (rnn.notes, rnn.keys) == ((note,), ())
    assert f'Note: "": {note}.' in " ".join(cli("weights", str(tmp_path / "file.pt")).out.split())
    (document,) = json.loads(cli("weights", str(tmp_path / "file.pt"), "--json").out)["rnns"]
    assert document["notes"] == [note]


def test_tied_networks_are_said_to_be_tied_where_their_weights_are_folded(tmp_path: Path) -> None:
    model = nn.ModuleDict({"encoder": old_norm(nn.GRU(3, 4), "weight_hh_l0", 0), "other": nn.GRU(3, 4)})
    model["decoder"] = model["encoder"]
    model["other"] = old_norm(nn.GRU(3, 4), "weight_hh_l0", 0)
    found = {each.prefix: each.notes for each in checkpoint(saved(tmp_path, model.state_dict())).rnns}
    folded = "weight norm was folded into {}.weight_hh_l0"
    assert found == {
        "encoder": (folded.format("encoder"),),
        "other": (folded.format("other"),),
        "decoder": (folded.format("decoder"), "tied to encoder"),
    }


def test_tied_networks_are_said_to_be_tied(tmp_path: Path) -> None:
    model = nn.ModuleDict({"encoder": nn.GRU(3, 4)})
    model["decoder"] = model["encoder"]
    first, second = checkpoint(saved(tmp_path, model.state_dict())).rnns
    assert (first.notes, second.notes) == ((), ("tied to encoder",))


def test_a_chain_of_cells_is_listed_once_more_as_a_stack(tmp_path: Path) -> None:
    model = nn.ModuleDict({"decoder": StackedCells("lstm", 3, 4, 2)})
    found = checkpoint(saved(tmp_path, model.state_dict())).rnns
    assert [(each.prefix, each.form, each.spec.num_layers) for each in found] == [
        ("decoder", "stacked", 2),
        ("decoder.cells.0", "cell", 1),
        ("decoder.cells.1", "cell", 1),
    ]
    assert torch.equal(found[0].weights["weight_hh_l1"], model["decoder"].cells[1].weight_hh)  # type: ignore[union-attr,index]


def listed(name: str, *cells: nn.Module) -> nn.Module:
    return nn.ModuleDict({name: nn.ModuleList(cells)})


@pytest.mark.parametrize(
    ("model", "prefixes", "stacks"),
    [
        (
            StackedCells("gru", 3, 4, 2, bidirectional=True),
            ["", "cells.0", "reverse_cells.0", "cells.1", "reverse_cells.1"],
            [""],
        ),
        (StackedCells("rnn", 3, 4, 1), ["", "cells.0"], [""]),
        (listed("layers", nn.GRUCell(3, 4), nn.GRUCell(4, 4)), ["layers", "layers.0", "layers.1"], ["layers"]),
        (listed("cells", nn.GRUCell(3, 4), nn.GRUCell(7, 4)), ["cells.0", "cells.1"], []),
        (listed("cells", nn.GRUCell(3, 4), nn.RNNCell(4, 4)), ["cells.0", "cells.1"], []),
        (listed("cells", nn.GRUCell(3, 4), nn.Dropout(), nn.GRUCell(4, 4)), ["cells.0", "cells.2"], []),
        (nn.ModuleDict({"cell": nn.LSTMCell(3, 4)}), ["cell"], []),
    ],
    ids=["both-directions", "one-layer", "other-list", "sizes-do-not-fit", "other-kind", "a-gap", "one-cell"],
)
def test_what_is_a_stack(model: nn.Module, prefixes: list[str], stacks: list[str], tmp_path: Path) -> None:
    found = checkpoint(saved(tmp_path, model.state_dict())).rnns
    assert sorted(each.prefix for each in found) == sorted(prefixes)
    assert [each.prefix for each in found if each.form == "stacked"] == stacks


def test_each_state_dict_has_its_own_stack(tmp_path: Path) -> None:
    states = {name: StackedCells("gru", 3, 4, 1).state_dict() for name in ("model", "ema")}
    found = checkpoint(saved(tmp_path, states)).rnns
    assert [(each.path, each.form) for each in found] == [
        ("model", "stacked"),
        ("model.cells.0", "cell"),
        ("ema", "stacked"),
        ("ema.cells.0", "cell"),
    ]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(2, 3)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm-was-done",)


def harmful(path: Path) -> None:
    torch.save({"weight_ih_l0": Harmful()}, path)


def half(path: Path) -> None:
    torch.save(nn.LSTM(20, 30).state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bad_sum(path: Path) -> None:
    torch.save(nn.LSTM(3, 4).state_dict(), path)
    with zipfile.ZipFile(path) as archive:
        place = next(each.header_offset for each in archive.infolist() if each.filename.endswith("data/0"))
    data = bytearray(path.read_bytes())
    data[place + 200] ^= 1
    path.write_bytes(data)


def torchscript(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.LSTM(2, 3)), path)


def itself(path: Path) -> None:
    content: dict[str, Any] = {"rnn": nn.Linear(2, 2).state_dict()}
    content["self"] = content
    torch.save(content, path)


def numbers_only(path: Path) -> None:
    torch.save(torch.zeros(3), path)


UNREADABLE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda path: None, "{file}: No such file or directory"),
    "directory": (lambda path: path.mkdir(), "{file} is a directory; name a file in it"),
    "empty": (lambda path: path.touch(), "{file} is empty"),
    "text": (lambda path: path.write_text("hello\n"), "{file} is damaged, cut short or no file of tensors"),
    "truncated": (half, "{file} is damaged, cut short or no file of tensors"),
    "checksum": (bad_sum, "{file} is damaged: the checksum of file/data/0 does not fit"),
    "harmful": (harmful, "{file} holds a pickled object (posix.mkdir), and opening it could run code"),
    "whole": (
        lambda path: torch.save(nn.LSTM(2, 3), path),
        "{file} holds a whole pickled module (torch.nn.modules.rnn.LSTM)",
    ),
    "own-module": (
        lambda path: torch.save(Net(), path),
        f"{{file}} holds a whole pickled object ({__name__}.Net), and opening it could run code; where the class is "
        'known, run torch.save(model.state_dict(), "model.pt")',
    ),
    "beside": (
        lambda path: torch.save({"model": Net(), "state_dict": Net().state_dict()}, path),
        f"{{file}} holds a pickled object ({__name__}.Net), and opening it could run code; save the state_dict() alone",
    ),
    "plain-pickle": (
        lambda path: path.write_bytes(pickle.dumps({"a": 1}, protocol=4)),
        "{file} is a pickle, which torch.save did not write",
    ),
    "torchscript": (torchscript, "{file} is a TorchScript archive, which holds code; save the state_dict of the"),
    "no-rnn": (lambda path: torch.save(nn.Linear(2, 2).state_dict(), path), "{file} has no RNN inside"),
    "itself": (itself, "{file} has no RNN inside"),
    "a-tensor": (numbers_only, "{file} has no RNN inside"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="posix.mkdir has another name there")
@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_cannot_be_used_is_refused(
    name: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, sentence = UNREADABLE[name]
    path = tmp_path / "file.pt"
    make(path)
    answer = cli("weights", str(path))
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"rnnscope: {sentence.format(file=path)}")
    assert answer.err.count("\n") == 1
    assert not Path("harm-was-done").exists()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (struct.pack("<Q", 2**40) + b"{}", "no .safetensors file"),
        (struct.pack("<Q", 2**62) + b" " * 100, "no .safetensors file"),
        (struct.pack("<Q", 5) + b"{{{{{", "no .safetensors file"),
        (b"ab", "no .safetensors file"),
        (
            struct.pack("<Q", 64) + b'{"weight_ih_l0":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}',
            "no .safetensors file",
        ),
    ],
    ids=["huge-header", "larger-header", "no-json", "too-short", "shape-and-size"],
)
def test_a_damaged_safetensors_file_is_refused(data: bytes, words: str, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(data)
    answer = cli("weights", str(path))
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err


def changed(**changes: Any) -> Callable[[], dict[str, Any]]:
    """The state of a bidirectional LSTM of two layers with some of its tensors changed, or left out where None."""

    def make() -> dict[str, Any]:
        state = dict(nn.LSTM(3, 4, num_layers=2, bidirectional=True).state_dict()) | changes
        return {name: each for name, each in state.items() if each is not None}

    return make


BROKEN: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "shape": (
        changed(weight_ih_l1=torch.zeros(16, 4)),
        "weight_ih_l1 has shape (16, 4), but it must have (16, 8) in an nn.LSTM of input size 3 and hidden size 4",
    ),
    "bias-shape": (
        changed(bias_hh_l0=torch.zeros(12)),
        "bias_hh_l0 has shape (12,), but it must have (16,) in an nn.LSTM of input size 3 and hidden size 4",
    ),
    "rows": (
        changed(weight_hh_l0=torch.zeros(10, 4)),
        "weight_hh_l0 has shape (10, 4), but its rows must be 1 (RNN), 3 (GRU) or 4 (LSTM) times the hidden size 4",
    ),
    "one-dim": (
        changed(weight_hh_l0=torch.zeros(16)),
        "weight_hh_l0 has shape (16,), but it must have rows and columns",
    ),
    "layer": (
        lambda: {name: each for name, each in nn.GRU(3, 4, 3).state_dict().items() if "_l1" not in name},
        "weight_ih_l1 is missing: a layer is not there",
    ),
    "first-layer": (
        lambda: {name: each for name, each in nn.GRU(3, 4, 2).state_dict().items() if "_l0" not in name},
        "weight_ih_l0 is missing: a layer is not there",
    ),
    "bias": (changed(bias_hh_l1=None), "bias_hh_l1 is missing: a bias is not whole"),
    "direction": (
        changed(weight_hh_l1_reverse=None),
        "weight_hh_l1_reverse is missing: a direction is not whole",
    ),
    "half-a-direction": (
        changed(weight_ih_l1_reverse=None, weight_hh_l1_reverse=None, bias_ih_l1_reverse=None, bias_hh_l1_reverse=None),
        "weight_ih_l1_reverse is missing: a direction is not whole",
    ),
    "weight": (changed(weight_hh_l0=None), "weight_hh_l0 is missing"),
    "projection-of-one-layer": (
        lambda: {n: e for n, e in nn.LSTM(3, 4, 2, proj_size=2).state_dict().items() if n != "weight_hr_l1"},
        "weight_hr_l1 is missing: a layer is not whole",
    ),
    "wide-projection": (
        lambda: dict(nn.LSTM(3, 4, proj_size=2).state_dict()) | {"weight_hr_l0": torch.zeros(5, 4)},
        "weight_hr_l0 has shape (5, 4), but it must have fewer rows (the projection) than columns (the hidden size)",
    ),
    "nan": (
        changed(weight_hh_l1=torch.full((16, 4), torch.nan)),
        "weight_hh_l1 holds NaN or infinity, first at [0, 0]; save finite weights",
    ),
    "infinity": (
        changed(bias_ih_l0=torch.full((16,), torch.inf)),
        "bias_ih_l0 holds NaN or infinity, first at [0]; save finite weights",
    ),
    "integers": (
        changed(weight_hh_l0=torch.zeros(16, 4, dtype=torch.int8)),
        "weight_hh_l0 is int8, but it must be dense and one of float32, float64, bfloat16, float16",
    ),
    "complex": (
        changed(bias_hh_l0=torch.zeros(16, dtype=torch.complex64)),
        "bias_hh_l0 is complex64, but it must be dense and one of float32, float64, bfloat16, float16",
    ),
    "sparse": (
        changed(weight_hh_l0=torch.eye(16, 4).to_sparse()),
        "weight_hh_l0 is a sparse_coo tensor of float32, but it must be dense",
    ),
    "mixed": (changed(weight_hh_l0=torch.zeros(16, 4).half()), "weight_hh_l0 is float16, but weight_ih_l0 is float32"),
    "meta": (changed(weight_hh_l0=torch.empty(16, 4, device="meta")), "weight_hh_l0 is on the meta device"),
    "spectral-norm": (
        lambda: nn.utils.parametrizations.spectral_norm(nn.GRU(3, 4), "weight_hh_l0").state_dict(),
        "weight_hh_l0 is reparametrised (original) in a way that a file does not record",
    ),
    "raw-and-mask": (
        changed(weight_hh_l0=None, weight_hh_l0_raw=torch.ones(16, 4), weight_hh_l0_mask=torch.ones(16, 4)),
        "weight_hh_l0 is reparametrised (raw, mask) in a way that a file does not record; make it plain before you",
    ),
    "raw-and-parametrisation": (
        changed(**{"weight_hh_l0": None, "parametrizations.weight_hh_l0_raw.original": torch.ones(16, 4)}),
        "weight_hh_l0 is reparametrised (raw, original) in a way that a file does not record",
    ),
    "orthogonal": (
        lambda: nn.utils.parametrizations.orthogonal(nn.RNN(3, 4), "weight_hh_l0").state_dict(),
        "weight_hh_l0 is reparametrised (original) in a way that a file does not record",
    ),
    "mask-of-another-shape": (
        changed(weight_hh_l0=None, weight_hh_l0_orig=torch.ones(16, 4), weight_hh_l0_mask=torch.ones(4)),
        "weight_hh_l0 is reparametrised (mask, orig) in a way that a file does not record",
    ),
    "sparse-norm": (
        changed(weight_hh_l0=None, weight_hh_l0_g=torch.ones(16, 1), weight_hh_l0_v=torch.eye(16, 4).to_sparse()),
        "weight_hh_l0 is reparametrised (g, v) in a way that a file does not record",
    ),
    "stretched": (
        lambda: {
            "weight_ih_l0": torch.zeros(1).expand(4 * 10**9, 10**6),
            "weight_hh_l0": torch.zeros(1).expand(4 * 10**9, 10**9),
        },
        "its weights need",
    ),
    "cell": (
        lambda: {n: e for n, e in nn.ModuleDict({"c": nn.LSTMCell(3, 4)}).state_dict().items() if n != "c.bias_hh"},
        "c.bias_hh is missing: a bias is not whole",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_network_that_is_not_whole_is_refused_by_its_tensor(name: str, cli: Cli, tmp_path: Path) -> None:
    make, sentence = BROKEN[name]
    file = saved(tmp_path, make())
    answer = cli("weights", file)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"rnnscope: {file}: {sentence}")
    assert answer.err.count("\n") == 1


def test_a_network_by_its_prefix_needs_no_other_to_be_whole(cli: Cli, tmp_path: Path) -> None:
    state = {f"good.{name}": each for name, each in nn.GRU(3, 4).state_dict().items()}
    file = saved(tmp_path, state | {"bad.weight_ih_l0": torch.zeros(3, 3)})
    assert cli("shapes", "--weights", file, "--prefix", "good", "-q").code == 0
    assert "bad.weight_hh_l0 is missing" in cli("shapes", "--weights", file, "--prefix", "bad").err
    assert cli("weights", file).err.endswith("; what is whole is taken by its prefix, of 'good'\n")


def test_the_documents_of_a_file(cli: Cli, tmp_path: Path) -> None:
    model = nn.ModuleDict({"encoder": nn.LSTM(3, 8, 2, proj_size=4), "decoder": nn.RNNCell(3, 4, bias=False)})
    file = saved(tmp_path, {"state_dict": model.state_dict()})
    document = json.loads(cli("weights", file, "--json").out)
    assert document["command"] == "weights"
    assert document["rnns"][0] == {
        "prefix": "encoder",
        "path": "state_dict.encoder",
        "form": "module",
        "kind": "lstm",
        "input_size": 3,
        "hidden_size": 8,
        "num_layers": 2,
        "bidirectional": False,
        "bias": True,
        "proj_size": 4,
        "dtype": "float32",
        "parameter_count": sum(each.numel() for each in model["encoder"].parameters()),
        "notes": [],
    }
    header, _, cell = cli("weights", file, "--format", "tsv").out.splitlines()
    row = dict(zip(header.split("\t"), cell.split("\t"), strict=True))
    assert (row["prefix"], row["form"], row["kind"], row["bias"]) == ("decoder", "cell", "rnn", "false")


def test_what_goes_in_and_comes_out_is_told(cli: Cli, tmp_path: Path) -> None:
    model = nn.ModuleDict({"encoder": nn.LSTM(3, 8, 2, proj_size=4), "decoder": nn.RNNCell(3, 4)})
    out = cli("weights", saved(tmp_path, model.state_dict())).out
    lines = [re.split(" {2,}", line) for line in out.splitlines()]
    assert ["prefix", "x", "y", "h0/h", "c0/c"] in lines
    assert ["encoder", "(L, N, 3)", "(L, N, 4)", "(2, N, 4)", "(2, N, 8)"] in lines
    assert ["decoder", "(N, 3)", "-", "(N, 4)", "-"] in lines
    assert "batch_first, nonlinearity and dropout are in no state_dict" in " ".join(out.split())


def test_sizes_that_no_network_has_are_not_told(cli: Cli, tmp_path: Path) -> None:
    lines = [
        re.split(" {2,}", line) for line in cli("weights", saved(tmp_path, nn.GRU(3, 4).state_dict())).out.splitlines()
    ]
    assert ["prefix", "what", "H_in", "H", "K", "D", "bias", "dtype", "parameters"] in lines
    assert ['""', "(L, N, 3)", "(L, N, 4)", "(1, N, 4)"] in lines


@pytest.mark.parametrize(("ending", "package"), [(".safetensors", "safetensors"), (".npz", "numpy")])
def test_a_missing_extra_is_named(
    ending: str, package: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    path = tmp_path / f"file{ending}"
    path.write_bytes(b"anything")
    assert cli("weights", str(path)).err == (
        f"rnnscope: {ending} files need the package {package}; install the extra: pip install 'rnnscope[{package}]'\n"
    )


def test_torch_files_are_opened_with_weights_only_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    load = torch.load

    def watched(*args: Any, **options: Any) -> Any:
        seen.append(options["weights_only"])
        return load(*args, **options)

    monkeypatch.setattr("rnnscope.files.tensors.torch.load", watched)
    only(tmp_path, nn.GRU(3, 4).state_dict())
    assert seen == [True]


def test_the_same_prefix_in_two_state_dicts_is_told_apart(cli: Cli, tmp_path: Path) -> None:
    file = saved(tmp_path, {"model": nn.GRU(3, 4).state_dict(), "ema": nn.GRU(3, 4).state_dict()})
    assert [each.prefix for each in checkpoint(file).rnns] == ["", ""]
    assert "\nmodel " in cli("weights", file).out
    answer = cli("shapes", "--weights", file)
    assert answer.err == f"rnnscope: {file} has 2 RNNs: 'model', 'ema'; give the prefix of one, such as 'model'\n"
    assert cli("shapes", "--weights", file, "--prefix", "ema", "-q").code == 0


class Both(nn.LSTM):
    """A module that has a cell's weights, too, or a stack of cells under its own prefix."""

    def __init__(self, stack: bool) -> None:
        super().__init__(3, 4)
        if stack:
            self.cells = nn.ModuleList([nn.LSTMCell(3, 4)])
        else:
            for name, each in nn.LSTMCell(3, 4).named_parameters():
                self.register_parameter(name, each)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (lambda: Both(stack=False).state_dict(), {"weight_ih_l0": "module", "weight_ih": "cell"}),
        (
            lambda: {"net": under("rnn", Both(stack=False).state_dict())},
            {"net.rnn.weight_ih_l0": "module", "net.rnn.weight_ih": "cell"},
        ),
        (
            lambda: Both(stack=True).state_dict(),
            {"weight_ih_l0": "module", "cells.0.weight_ih": "stacked", "cells.0": "cell"},
        ),
        (
            lambda: {"rnn": nn.GRU(3, 4).state_dict(), **under("rnn", nn.RNN(3, 4).state_dict())},
            {"rnn": "module", "": "module"},
        ),
    ],
    ids=["module-and-cell", "in-a-dict", "module-and-stack", "dict-and-prefix"],
)
def test_every_network_that_is_listed_is_found_by_its_name(
    content: Callable[[], Any], names: dict[str, str], tmp_path: Path
) -> None:
    file = saved(tmp_path, content())
    rnns = checkpoint(file).rnns
    found = dict(zip(told_apart(rnns), rnns, strict=True))
    assert {name: rnn.form for name, rnn in found.items()} == names
    for name, rnn in found.items():
        again = find_rnn(file, read_file(file), name)
        assert (name, again.form, again.keys, again.names) == (name, rnn.form, rnn.keys, rnn.names)


def test_two_networks_under_one_path_are_refused_with_what_to_do(cli: Cli, tmp_path: Path) -> None:
    file = saved(tmp_path, {"a": {"b": nn.GRU(3, 4).state_dict()}, "a.b": nn.GRU(3, 4).state_dict()})
    assert cli("shapes", "--weights", file, "--prefix", "a.b").err == (
        f"rnnscope: {file} has 2 RNNs under 'a.b'; save each in a file of its own\n"
    )


def test_an_unknown_prefix_gets_the_nearest(tmp_path: Path, cli: Cli) -> None:
    file = saved(tmp_path, nn.ModuleDict({"encoder": nn.GRU(3, 4), "head": nn.RNN(3, 4)}).state_dict())
    assert cli("shapes", "--weights", file, "--prefix", "encodr").err == (
        f"rnnscope: {file} has no RNN under the prefix 'encodr', but under 'encoder', 'head'; did you mean 'encoder'?\n"
    )


def test_a_missing_file_in_python_is_an_error_of_ours() -> None:
    with pytest.raises(RnnscopeError, match=r"nowhere\.pt: No such file"):
        checkpoint("nowhere.pt")
