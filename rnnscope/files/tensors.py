"""Reads and writes files of tensors: .pt and .pth of torch, .safetensors, and .npz of NumPy.

Nothing in a file is ever executed: torch's own files are opened with weights_only=True alone.
"""

import io
import re
import stat
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.files.kinds import SAVE, folder_kind, kind_of, whole_class
from rnnscope.pages.progress import stage
from rnnscope.pages.render import check_ending, check_place, whole_file
from rnnscope.subjects.devices import is_out_of_memory
from rnnscope.subjects.exported_programs import read_program
from rnnscope.subjects.onnx_graphs import read_onnx

ABOUT = "rnnscope"
"""The key under which rnnscope keeps what it knows of a file that it wrote: a text of JSON."""

ENDINGS = (".pt", ".pth", ".safetensors", ".npz")
"""What can be written; anything else is read as torch's own."""

_EXTRAS = {".safetensors": "safetensors", ".npz": "numpy"}
"""The package that a format needs; the extra has its name."""

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def read_file(path: str) -> Any:
    """What a file holds: tensors in dicts and lists, and whatever else stands beside them; on the CPU.

    Of .onnx it is an OnnxModel, and of .pt2 the state_dict.

    Raises RnnscopeError where it is not there, cannot be read, is damaged, would run code or needs an extra.
    """
    _check_readable(path)
    ending = Path(path).suffix.lower()
    check_extra(ending)
    try:
        with stage(f"reading {Path(path).name}"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _READERS.get(ending, _read_torch)(path)
    except RnnscopeError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise _refused(path, ending, str(error)) from error


def _check_readable(path: str) -> None:
    try:
        found = Path(path).stat()
        if stat.S_ISDIR(found.st_mode):
            if kind := folder_kind(path):
                raise RnnscopeError(f"{path} is {kind.what}", kind.mend)
            raise RnnscopeError(f"{path} is a directory", "name a file in it")
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for, and a device may never end
            raise RnnscopeError(f"{path} is no regular file", "copy what it gives into one")
        if found.st_size == 0:
            raise RnnscopeError(f"{path} is empty")
        with open(path, "rb"):  # whether it may be read
            pass
    except OSError as error:
        raise RnnscopeError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # such as a NUL in the name
        raise RnnscopeError(f"{path!r}: {error}") from error


def check_extra(ending: str) -> None:
    """Raise unless the package is there that files with an ending need."""
    if name := _EXTRAS.get(ending):
        try:
            __import__(name)
        except ImportError as error:
            raise RnnscopeError(
                f"{ending} files need the package {name}", f"install the extra: pip install 'rnnscope[{name}]'"
            ) from error


def _read_torch(path: str) -> Any:
    if zipfile.is_zipfile(path):  # torch itself does not look at the checksums of its files
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise RnnscopeError(f"{path} is damaged: the checksum of {damaged} does not fit", "copy it anew")
    return torch.load(path, map_location="cpu", weights_only=True)


def _read_safetensors(path: str) -> Any:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        about = (file.metadata() or {}).get(ABOUT)
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    return found if about is None else found | {ABOUT: about}


def _read_npz(path: str) -> Any:
    import numpy

    with open(path, "rb") as stream, numpy.load(stream, allow_pickle=False) as archive:
        return {name: _from_numpy(path, archive, name) for name in archive.files}


_READERS: dict[str, Callable[[str], Any]] = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".onnx": read_onnx,
    ".pt2": lambda path: read_program(path).state,
}


def _from_numpy(path: str, archive: Mapping[str, Any], name: str) -> Any:
    """An array of an archive as a tensor, or its text. Raises RnnscopeError where torch has no such numbers."""
    try:
        array = archive[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        what = f"{name} is an array of Python objects, and opening it could run code"
        raise RnnscopeError(f"{path}: {what}", "save each array of numbers alone, by .astype('<f4')") from error
    dtype = array.dtype
    if dtype.kind in "US":
        return str(array) if array.ndim == 0 else array.tolist()
    if dtype.names:
        mend = f"save each field alone, such as array[{dtype.names[0]!r}]"
        raise RnnscopeError(f"{path}: {name} is a structured array ({', '.join(dtype.names)})", mend)
    if not dtype.isnative and dtype.kind in "iufc":
        order, own = ("big", "little") if dtype.str[0] == ">" else ("little", "big")
        mend = f"save it as {own}-endian by .astype({dtype.newbyteorder().str!r})"
        raise RnnscopeError(f"{path}: {name} is {order}-endian {dtype.name}", mend)
    try:
        return torch.from_numpy(array.copy())
    except TypeError as error:
        long = " (long double)" if dtype.char in "gG" else ""
        mend = "save it as float64 by .astype('<f8')"
        raise RnnscopeError(f"{path}: {name} is {dtype.name}{long}, which torch does not know", mend) from error


def _refused(path: str, ending: str, reason: str) -> RnnscopeError:
    """Why a file cannot be opened, in the user's words."""
    if kind := kind_of(path):
        return RnnscopeError(f"{path} is {kind.what}", kind.mend)
    if ending in _EXTRAS:
        what = ".npz file of numbers" if ending == ".npz" else f"{ending} file"
        first_line = reason.split("\n")[0]
        return RnnscopeError(f"{path} is damaged, cut short or no {what} ({first_line})")
    if found := _GLOBAL.search(reason):
        return _pickled(path, found[1])
    if "Unsupported operand 149" in reason:  # the frame with which protocol 4 begins
        what = f"{path} is pickled by protocol 4 or later, which weights_only does not open"
        return RnnscopeError(what, "save it anew without pickle_protocol")
    return RnnscopeError(f"{path} is damaged, cut short or no file of tensors", "copy it anew, or save a state_dict()")


def _pickled(path: str, name: str) -> RnnscopeError:
    """What to do about a class in a file that weights_only does not open."""
    if whole_class(path) == name:
        what = "module" if name.startswith(("torch.nn.modules.", "__main__.")) else "object"
        return RnnscopeError(
            f"{path} holds a whole pickled {what} ({name}), and opening it could run code",
            f"where the class is known, run {SAVE}",
        )
    return RnnscopeError(
        f"{path} holds a pickled object ({name}), and opening it could run code",
        "save the state_dict() alone, or where you trust the file "
        "torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW)",
    )


def check_target(path: str, force: bool = False) -> None:
    """Raise unless a file can be written: its ending names a format whose extra is there, and its place is free."""
    check_ending(path, ENDINGS)
    check_place(path, force)
    check_extra(Path(path).suffix.lower())


@contextmanager
def writing(path: str, tensors: Mapping[str, Tensor], about: str | None = None, force: bool = False) -> Iterator[str]:
    """Write tensors under their names, as `whole_file` does, to a place that `check_target` has found good.

    The text `about` is kept under the key ABOUT, in .safetensors as metadata. Raises RnnscopeError where the format has
    no such dtype, or the file cannot be written after all.
    """
    with whole_file(path, _bytes(path, tensors, {} if about is None else {ABOUT: about}), force) as part:
        yield part


def write_tensors(path: str, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors under their names to a file that nobody else reads meanwhile, as one for another program."""
    Path(path).write_bytes(_bytes(path, tensors, {}))


def _bytes(path: str, given: Mapping[str, Tensor], about: dict[str, str]) -> bytes:
    """The content of a file, in the format that its ending names."""
    tensors = {name: each.detach().cpu().contiguous().clone() for name, each in given.items()}
    ending = Path(path).suffix.lower()
    if ending == ".safetensors":
        from safetensors.torch import save

        return save(tensors, about or None)
    stream = io.BytesIO()
    if ending == ".npz":
        import numpy

        if odd := next((name for name, each in tensors.items() if each.dtype == torch.bfloat16), None):
            raise RnnscopeError(f"{path}: {odd} is in bfloat16, which NumPy does not know", "use .pt or .safetensors")
        arrays: dict[str, Any] = {name: each.numpy() for name, each in tensors.items()}
        numpy.savez(stream, **arrays, **about)  # type: ignore[arg-type]
    else:
        torch.save(tensors | about, stream)
    return stream.getvalue()
