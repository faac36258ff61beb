"""What a file is that holds no weights as torch saves them: told by its content, and what to save in its place.

Nothing in it is executed: a pickle is taken apart into its opcodes, never loaded.
"""

import io
import pickletools
import re
import zipfile
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

SAVE = 'torch.save(model.state_dict(), "model.pt")'
"""The line that writes what rnnscope reads."""


class Kind(NamedTuple):
    """What a file is, with its article, and what to do about it."""

    what: str
    mend: str


_HEAD = 2**16
"""Bytes that are looked at, at either end of a file where it is long."""

_BEHIND = f"save the state_dict of the module behind it: {SAVE}"
_COPY = f"copy its weights into torch's module, then {SAVE}"
_FETCH = "fetch the file itself: open its address in a browser to see what the server says"

_SIGNATURES = (
    (0, b"\x89HDF\r\n\x1a\n", Kind("an HDF5 file, as Keras writes", _COPY)),
    (0, b"GGUF", Kind("a GGUF file, as llama.cpp reads", _COPY)),
    (4, b"TFL3", Kind("a TensorFlow Lite model", _COPY)),
    (0, b"\x93NUMPY", Kind("one array of NumPy", 'save all arrays under their names: numpy.savez("model.npz", ...)')),
    (0, b"version https://git-lfs", Kind("a Git LFS pointer and not the file itself", "get it by git lfs pull")),
    (0, b"model_checkpoint_path:", Kind("the list of checkpoints that TensorFlow keeps", _COPY)),
    (0, b"\x1f\x8b", Kind("compressed by gzip", "unpack it by gunzip, or tar -xzf")),
    (0, b"BZh", Kind("compressed by bzip2", "unpack it by bunzip2, or tar -xjf")),
    (0, b"\xfd7zXZ\0", Kind("compressed by xz", "unpack it by unxz, or tar -xJf")),
    (0, b"\x28\xb5\x2f\xfd", Kind("compressed by zstd", "unpack it by unzstd")),
    (257, b"ustar", Kind("a tar archive", "unpack it by tar -xf, and name the file of weights in it")),
)
_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype html|html|error)\b",
    re.IGNORECASE | re.DOTALL,
)
_TF_INDEX = bytes.fromhex("57fb808b247547db")
"""The last eight bytes of an index of TensorFlow's, which is a table as in LevelDB."""

_TF_DATA = re.compile(r".+\.data-\d{5}-of-\d{5}")
_TORCH_MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")


def kind_of(path: str) -> Kind | None:
    """What a file is where it is neither damaged nor what its ending says; None where its content does not tell."""
    size = Path(path).stat().st_size
    with open(path, "rb") as stream:
        head = stream.read(_HEAD)
        stream.seek(-min(size, len(_TF_INDEX)), io.SEEK_END)
        tail = stream.read()
        for offset, magic, kind in _SIGNATURES:
            if head[offset:].startswith(magic):
                return kind
        if _PAGE.match(head):
            return Kind("a web page and not the file itself", _FETCH)
        if tail == _TF_INDEX or _TF_DATA.fullmatch(Path(path).name):  # the data are bytes without any mark
            return Kind("a part of a TensorFlow checkpoint", _COPY)
        if b'"weight_map"' in head and head.lstrip().startswith(b"{"):
            return Kind("an index, which names the files of weights", "name one of those files")
        return _of_torch(path, head, size) or _pickled(head) or _protobuf(stream)


def folder_kind(path: str) -> Kind | None:
    """What a directory is, where a program reads it as a whole."""
    folder = Path(path)
    if (folder / "saved_model.pb").is_file():
        return Kind("a TensorFlow SavedModel", _COPY)
    if (folder / ".metadata").is_file() and any(folder.glob("*.distcp")):
        into_one = "python -m torch.distributed.checkpoint.format_utils dcp_to_torch"
        return Kind("a distributed checkpoint of torch's", f"make one file of it: {into_one} {path} model.pt")
    if (folder / "Data" / "com.apple.CoreML").is_dir():
        return Kind("a Core ML package", _COPY)
    return None


def _of_torch(path: str, head: bytes, size: int) -> Kind | None:
    """What torch writes besides state_dicts, or what another ending would have made readable."""
    ending = Path(path).suffix.lower()
    names: list[str] = []
    with suppress(Exception):  # a damaged archive raises nearly anything
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
    if names:
        return _zipped(names, ending)
    if _is_torchs(head) and ending in _OTHERS:
        return _TORCHS
    header = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= header <= size - 8 and ending != ".safetensors":
        return Kind("a .safetensors file under another ending", "name it .safetensors")
    return None


_OTHERS = (".safetensors", ".npz")
_TORCHS = Kind("a file of torch.save under another ending", "name it .pt")


def _is_torchs(head: bytes) -> bool:
    """Whether it begins as torch.save began its files before they were ZIP archives."""
    return _TORCH_MAGIC in head[:20]


def _zipped(names: list[str], ending: str) -> Kind | None:
    """What an archive with these files in it is."""
    inside = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inside and any(name.startswith("code/") for name in inside):
        return Kind("a TorchScript archive, which holds code", _BEHIND)
    if "archive_format" in inside or "serialized_exported_program.json" in {*names, *inside}:
        return Kind("a program of torch.export under another ending", "name it .pt2")
    if "data.pkl" in inside:
        return _TORCHS if ending in _OTHERS else None
    if all(name.endswith(".npy") for name in names):
        return Kind("an .npz file under another ending", "name it .npz") if ending != ".npz" else None
    if "model.weights.h5" in names:
        return Kind("a Keras model", _COPY)
    return Kind(f"a ZIP archive of {names[0][:60]!r}", "unpack it, and name the file of weights in it")


def _pickled(head: bytes) -> Kind | None:
    """A pickle that torch.save did not write, with the first class in it."""
    if _is_torchs(head) or head[:1] != b"\x80" or not 2 <= int.from_bytes(head[1:2], "big") <= 5:
        return None
    found = next(_globals(head), None)
    return Kind(f"a pickle{f' of {found}' if found else ''}, which torch.save did not write", _COPY)


def _globals(pickled: bytes) -> Iterator[str]:
    """The classes and functions that a pickle names, from its start to where it is cut off."""
    texts: list[str] = []
    with suppress(Exception):  # nothing holds of the bytes of a stranger
        for code, value, _ in pickletools.genops(pickled):
            if code.name == "GLOBAL":
                yield str(value).replace(" ", ".")
            elif code.name == "STACK_GLOBAL":
                yield ".".join(texts[-2:])
            elif isinstance(value, str):
                texts.append(value)


_BEFORE_A_CLASS = ("PROTO", "FRAME", "MARK", "BINPUT")


def whole_class(path: str) -> str | None:
    """The class of what a file of torch.save holds, where that is one object and no dict or list."""
    with suppress(Exception):
        for code, value, _ in pickletools.genops(_content(path)):
            if code.name not in _BEFORE_A_CLASS and value != "module":  # so are modules marked in the old format
                return str(value).replace(" ", ".") if code.name == "GLOBAL" else None
    return None


def _content(path: str) -> BinaryIO:
    """The pickle in a file of torch.save, at its start."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = next(each for each in archive.namelist() if each.endswith("/data.pkl"))
            return io.BytesIO(archive.read(name))
    stream = io.BytesIO(Path(path).read_bytes())
    for _ in range(3):  # the old format begins with a number, a version and what is known of the machine
        deque(pickletools.genops(stream), maxlen=0)
    return stream


_MOST_FIELDS = 10_000
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
"""How a field is stored; protobuf calls it the wire type."""


def _protobuf(stream: BinaryIO) -> Kind | None:
    """A model in protobuf, by the numbers of its fields: none of them says its format in words."""
    fields = _fields(stream)
    if fields.get(1) == _VARINT and fields.get(7) == fields.get(8) == _BYTES:
        return Kind("an ONNX model under another ending", "name it .onnx")
    if fields.get(1) == _VARINT and fields.get(2) == _BYTES and max(fields) >= 200:
        return Kind("a Core ML model", _COPY)
    if fields == {1: _VARINT, 2: _BYTES}:
        return Kind("a TensorFlow SavedModel", _COPY)
    return None


def _fields(stream: BinaryIO) -> dict[int, int]:
    """Each field of a protobuf message with how it is stored; none unless the fields end where the file does."""
    found: dict[int, int] = {}
    end, place = stream.seek(0, io.SEEK_END), stream.seek(0)
    for _ in range(_MOST_FIELDS):
        if place == end:
            return found
        tag = _varint(stream)
        if tag is None or tag >> 3 == 0:
            return {}
        wire = tag & 7
        found[tag >> 3] = wire
        length = _varint(stream) if wire in (_VARINT, _BYTES) else {_EIGHT: 8, _FOUR: 4}.get(wire)
        if length is None:
            return {}
        place = stream.tell() if wire == _VARINT else stream.seek(length, io.SEEK_CUR) if length <= end else end + 1
        if place > end:
            return {}
    return {}


def _varint(stream: BinaryIO) -> int | None:
    """A number whose bytes hold seven bits each; None where it does not end."""
    number = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            return None
        number |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return number
    return None
