"""Files of another kind are named for what they are, by their content, with what to save in their place."""

import gzip
import io
import pickle
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from support import Cli
from torch import nn

from rnnscope.files.kinds import SAVE, kind_of, whole_class

BEHIND = f"save the state_dict of the module behind it: {SAVE}"
COPY = f"copy its weights into torch's module, then {SAVE}"


def state() -> dict[str, Any]:
    return dict(nn.GRU(3, 4).state_dict())


def stored(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, "{}")
    return stream.getvalue()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("model.pt")
        entry.size = 5
        archive.addfile(entry, io.BytesIO(b"hello"))
    return stream.getvalue()


def torchscript() -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.LSTM(2, 3)), stream)
    return stream.getvalue()


def exported() -> bytes:
    stream = io.BytesIO()
    torch.export.save(torch.export.export(nn.Linear(2, 3), (torch.zeros(1, 2),)), stream)
    return stream.getvalue()


def one_array() -> bytes:
    stream = io.BytesIO()
    numpy.save(stream, numpy.zeros(3))
    return stream.getvalue()


def field(number: int, value: int | bytes) -> bytes:
    """A field of protobuf whose number and length need no more than two bytes."""

    def varint(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128, value >> 7])

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


ONNX = field(1, 8) + field(2, b"pytorch") + field(7, b"graph" * 100) + field(8, field(2, 18))
CORE_ML = field(1, 4) + field(2, b"description") + field(500, b"neural network")
SAVED_MODEL = field(1, 1) + field(2, b"meta graph")

OTHERS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "onnx": ("model.onnx", lambda: ONNX, "is damaged, cut short or no ONNX model; copy it anew, or export it anew"),
    "onnx-renamed": ("model.pt", lambda: ONNX, "is an ONNX model under another ending; name it .onnx"),
    "core-ml": ("model.mlmodel", lambda: CORE_ML, f"is a Core ML model; {COPY}"),
    "saved-model": ("saved_model.pb", lambda: SAVED_MODEL, f"is a TensorFlow SavedModel; {COPY}"),
    "hdf5": ("w.h5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), f"is an HDF5 file, as Keras writes; {COPY}"),
    "hdf5-renamed": ("w.pt", lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), f"is an HDF5 file, as Keras writes; {COPY}"),
    "keras": ("w.keras", lambda: zipped("config.json", "model.weights.h5"), f"is a Keras model; {COPY}"),
    "tf-index": (
        "model.ckpt.index",
        lambda: bytes(80) + bytes.fromhex("57fb808b247547db"),
        f"is a part of a TensorFlow checkpoint; {COPY}",
    ),
    "tf-data": (
        "model.ckpt.data-00000-of-00001",
        lambda: bytes(80),
        f"is a part of a TensorFlow checkpoint; {COPY}",
    ),
    "tf-list": (
        "checkpoint",
        lambda: b'model_checkpoint_path: "model.ckpt-1"\n',
        f"is the list of checkpoints that TensorFlow keeps; {COPY}",
    ),
    "gguf": ("m.gguf", lambda: b"GGUF" + bytes(60), f"is a GGUF file, as llama.cpp reads; {COPY}"),
    "tflite": ("m.tflite", lambda: bytes(4) + b"TFL3" + bytes(60), f"is a TensorFlow Lite model; {COPY}"),
    "pickle": (
        "m.pkl",
        lambda: pickle.dumps(numpy.random.RandomState(0)),
        f"is a pickle of numpy.random._pickle.__randomstate_ctor, which torch.save did not write; {COPY}",
    ),
    "plain-pickle": (
        "m.pt",
        lambda: pickle.dumps({"a": 1}, protocol=2),
        f"is a pickle, which torch.save did not write; {COPY}",
    ),
    "zip": ("m.zip", lambda: zipped("a/b.txt"), "is a ZIP archive of 'a/b.txt'; unpack it, and name the file of"),
    "torchscript": ("m.pt", torchscript, f"is a TorchScript archive, which holds code; {BEHIND}"),
    "torch.export": ("m.pt", exported, "is a program of torch.export under another ending; name it .pt2"),
    "lfs": (
        "m.safetensors",
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "is a Git LFS pointer and not the file itself; get it by git lfs pull",
    ),
    "page": (
        "m.pt",
        lambda: b"\n<!-- a -->\n<!DOCTYPE html><html></html>",
        "is a web page and not the file itself; fetch the file itself",
    ),
    "refused-download": (
        "m.safetensors",
        lambda: b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>',
        "is a web page and not the file itself; fetch the file itself",
    ),
    "index-of-weights": (
        "model.safetensors.index.json",
        lambda: b'{"metadata": {}, "weight_map": {}}',
        "is an index, which names the files of weights; name one of those files",
    ),
    "tar": ("m.tar", tarred, "is a tar archive; unpack it by tar -xf, and name the file of weights in it"),
    "gzip": ("m.pt.gz", lambda: gzip.compress(b"hello"), "is compressed by gzip; unpack it by gunzip, or tar -xzf"),
    "npy": ("w.npy", one_array, "is one array of NumPy; save all arrays under their names: numpy.savez("),
    "npy-as-npz": ("w.npz", one_array, "is one array of NumPy; save all arrays under their names: numpy.savez("),
    "npz-as-pt": ("w.pt", lambda: zipped("a.npy"), "is an .npz file under another ending; name it .npz"),
    "safetensors-as-pt": (
        "w.pt",
        lambda: struct.pack("<Q", 2) + b"{}",
        "is a .safetensors file under another ending; name it .safetensors",
    ),
    "pt-as-safetensors": (
        "w.safetensors",
        lambda: stored(state()),
        "is a file of torch.save under another ending; name it .pt",
    ),
    "old-pt-as-npz": (
        "w.npz",
        lambda: stored(state(), _use_new_zipfile_serialization=False),
        "is a file of torch.save under another ending; name it .pt",
    ),
    "protocol-4": (
        "w.pt",
        lambda: stored(state(), pickle_protocol=4),
        "is pickled by protocol 4 or later, which weights_only does not open; save it anew without pickle_protocol",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_kind_is_named(name: str, cli: Cli, tmp_path: Path) -> None:
    ending, make, sentence = OTHERS[name]
    path = tmp_path / ending
    path.write_bytes(make())
    answer = cli("weights", str(path))
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"rnnscope: {path} {sentence}")
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    "make", [lambda: stored(state()), lambda: stored(state(), _use_new_zipfile_serialization=False)]
)
def test_what_torch_saves_is_of_no_other_kind(make: Callable[[], bytes], tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(make())
    assert kind_of(str(path)) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"h", b"hello\n", ONNX[:-1], ONNX + b"\x07", b"\x80\x01.", b"\xff" * 99, b"\x0a\xff\xff\xff\xff\xff\x7f"],
)
def test_what_tells_nothing_is_not_guessed(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(content)
    assert kind_of(str(path)) is None


FOLDERS: dict[str, tuple[list[str], str]] = {
    "saved-model": (["saved_model.pb"], "{0} is a TensorFlow SavedModel; copy its weights"),
    "distributed": (
        [".metadata", "__0_0.distcp"],
        "{0} is a distributed checkpoint of torch's; make one file of it: "
        "python -m torch.distributed.checkpoint.format_utils dcp_to_torch {0} model.pt\n",
    ),
    "core-ml": (["Data/com.apple.CoreML/model.mlmodel"], "{0} is a Core ML package; copy its weights"),
    "any": (["model.pt"], "{0} is a directory; name a file in it\n"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_is_a_model_is_named(name: str, cli: Cli, tmp_path: Path) -> None:
    files, sentence = FOLDERS[name]
    for each in files:
        (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / each).touch()
    answer = cli("weights", str(tmp_path))
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"rnnscope: {sentence.format(tmp_path)}")


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: nn.GRU(3, 4), "torch.nn.modules.rnn.GRU"),
        (lambda: {"model": nn.GRU(3, 4)}, None),
        (lambda: [nn.GRU(3, 4)], None),
    ],
    ids=["module", "dict", "list"],
)
def test_a_whole_object_is_told_from_one_in_a_dict(
    make: Callable[[], Any], found: str | None, is_zip: bool, tmp_path: Path
) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(stored(make(), _use_new_zipfile_serialization=is_zip))
    assert whole_class(str(path)) == found


ARRAYS: dict[str, tuple[Callable[[], Any], str]] = {
    "big-endian": (
        lambda: numpy.zeros((4, 3), ">f4"),
        "weight_ih_l0 is big-endian float32; save it as little-endian by .astype('<f4')",
    ),
    "big-endian-double": (
        lambda: numpy.zeros((4, 3), ">f8"),
        "weight_ih_l0 is big-endian float64; save it as little-endian by .astype('<f8')",
    ),
    "long-double": (
        lambda: numpy.zeros((4, 3), numpy.longdouble),
        f"weight_ih_l0 is {numpy.dtype(numpy.longdouble).name} (long double), which torch does not know; save it as "
        "float64 by .astype('<f8')",
    ),
    "objects": (
        lambda: numpy.array([[1], [1, 2]], dtype=object),
        "weight_ih_l0 is an array of Python objects, and opening it could run code; save each array of numbers alone, "
        "by .astype('<f4')",
    ),
    "structured": (
        lambda: numpy.zeros(3, [("gate", "f4"), ("row", ">i4")]),
        "weight_ih_l0 is a structured array (gate, row); save each field alone, such as array['gate']",
    ),
    "dates": (
        lambda: numpy.zeros(3, "datetime64[s]"),
        "weight_ih_l0 is datetime64[s], which torch does not know; save it as float64 by .astype('<f8')",
    ),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_that_torch_does_not_know_is_named(name: str, cli: Cli, tmp_path: Path) -> None:
    make, sentence = ARRAYS[name]
    path = tmp_path / "w.npz"
    numpy.savez(path, weight_ih_l0=make())
    answer = cli("weights", str(path))
    assert (answer.code, answer.out, answer.err) == (2, "", f"rnnscope: {path}: {sentence}\n")


def test_text_in_an_npz_stands_beside_the_network(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    arrays = {name: each.numpy() for name, each in state().items()}
    numpy.savez(path, names=numpy.array(["a", "b"]), note=numpy.array("mine"), **arrays)
    assert cli("weights", str(path), "-q").code == 0
