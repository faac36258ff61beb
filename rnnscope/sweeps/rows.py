"""A file of rows, one line of JSON each: rows are added as they come, and nothing that is there is lost.

A row is one write of a whole line, so that whatever stops a process tears the last line at most. What a row says is
not known here.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from rnnscope.errors import RnnscopeError
from rnnscope.pages.render import json_line, parsed
from rnnscope.spec.flags import quoted

Row = dict[str, Any]


FACTS = ("schema", "rerun", "status", "message", "left", "right", "spec")
"""What every row has besides command."""


HEAD = b'{"schema":1,"command":"compare",'
"""How every row begins."""


class RowFile:
    """A file that is open for one writer; or a pipe, or a device, where nothing can be cut off."""

    def __init__(self, path: str, stream: IO[bytes], is_regular: bool) -> None:
        self._path, self._stream, self._is_regular = path, stream, is_regular

    def append(self, row: Row) -> None:
        """Write a row behind the others.

        Raises:
            RnnscopeError: the disk is full, or the like; the file then ends with the row before it.
        """
        whole, line = self._stream.seek(0, os.SEEK_END) if self._is_regular else None, line_of(row)
        try:
            while line:  # a disk that is nearly full takes a part of it
                line = line[self._stream.write(line) :]
        except OSError as error:
            with suppress(OSError):
                if whole is not None:
                    self._stream.truncate(whole)
            raise RnnscopeError(
                f"cannot write {self._path} ({error.strerror or error})",
                "the rows in it are whole: make room, and add --resume",
            ) from error


def line_of(row: Row) -> bytes:
    """A row as it stands in a file."""
    return json_line(row).encode()


@contextmanager
def rows_added_to(path: str, resume: bool, force: bool, seen: Callable[[Row], object]) -> Iterator[RowFile]:
    """Open a file to add rows to.

    Args:
        seen: told each row that is there already, which it may refuse.
        resume: whether to go on with a file that is there already; a torn last line is cut off.
        force: whether to replace one.

    Raises:
        RnnscopeError: a file that is there already, that another process writes, that cannot be written, or that is
            no file of rows.
    """
    with ExitStack() as opened:
        with _telling(path):
            stream = opened.enter_context(open(path, "ab", buffering=0))
        is_regular = Path(path).is_file()
        with _telling(path):
            _lock(path, stream)
            if is_regular:
                _prepare(path, stream, resume, force, seen)
        yield RowFile(path, stream, is_regular)
        if is_regular:
            with _telling(path):
                os.fsync(stream.fileno())


@contextmanager
def _telling(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RnnscopeError(f"cannot write {path} ({error.strerror or error})") from error


def _prepare(path: str, stream: IO[bytes], resume: bool, force: bool, seen: Callable[[Row], object]) -> None:
    """Leave in a file what is to stay there."""
    if _is_stdout(stream):
        raise RnnscopeError(f"{path} is where the summary goes, too", "send one of the two elsewhere")
    if resume:
        stream.truncate(_seen(path, seen))
        if not _ends_with_a_line(path):
            stream.write(b"\n")
    elif force:
        stream.truncate(0)
    elif os.path.getsize(path):
        raise RnnscopeError(f"{path} is there already", "add --resume to go on with it, or --force to write it anew")


def _is_stdout(stream: IO[bytes]) -> bool:
    """Whether what is written there would be written over by what is printed."""
    with suppress(OSError):
        return os.path.sameopenfile(stream.fileno(), 1)
    return False


def _ends_with_a_line(path: str) -> bool:
    with open(path, "rb") as written:
        size = written.seek(0, os.SEEK_END)
        written.seek(max(size - 1, 0))
        return written.read() in (b"", b"\n")


def read_rows(path: str, seen: Callable[[Row], object]) -> None:
    """Tell each row of a file; a torn last line is passed over.

    Raises:
        RnnscopeError: a file that cannot be read, or a line that is no row or is refused, with its number.
    """
    try:
        _seen(path, seen)
    except OSError as error:
        raise RnnscopeError(f"cannot read {path} ({error.strerror or error})") from error


def _seen(path: str, seen: Callable[[Row], object]) -> int:
    """Bytes of the whole lines, each of which was told."""
    size = 0
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            is_torn = not line.endswith(b"\n") and (line.startswith(HEAD) or HEAD.startswith(line))
            if not is_torn:
                try:
                    seen(_row(line))
                except RnnscopeError as error:
                    raise RnnscopeError(f"{path}, line {number}: {error.message}", error.hint) from error
                size += len(line)
    return size


def _row(line: bytes) -> Row:
    hint = "name a file that rnnscope sweep --out wrote"
    row = parsed(line, hint)
    if isinstance(row, dict) and "schema" in row and row["schema"] != 1:
        raise RnnscopeError(f"schema {quoted(row['schema'])}, but this rnnscope knows schema 1", "name another file")
    if not isinstance(row, dict) or row.get("command") != "compare" or any(name not in row for name in FACTS):
        raise RnnscopeError("no row of a sweep", hint)
    return row


def _lock(path: str, stream: IO[bytes]) -> None:
    """Two sweeps that write one file would each do what the other does."""
    try:
        import fcntl
    except ImportError:  # a system that has no such locks
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RnnscopeError(f"{path} is being written by another sweep", "wait for it, or name another file") from error
    except OSError:  # a file system that has none
        return
