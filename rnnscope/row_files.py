"""A file of rows, one line of JSON each: rows are added as they come, and nothing that is there is lost.

A row is one write of a whole line, so that whatever stops a process tears the last line at most. What a row says is
not known here.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from rnnscope.errors import RnnscopeError
from rnnscope.strict_json import json_line

Row = dict[str, Any]

FACTS = ("rerun", "status", "left", "right", "spec")
"""What every row has besides schema and command."""


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
        seen: told each row that is there already.
        resume: whether to go on with a file that is there already; a torn last line is cut off.
        force: whether to replace one.

    Raises:
        RnnscopeError: a file that is there already, that another process writes, that cannot be written, or that is
            no file of rows.
    """
    try:
        if Path(path).is_file() and os.path.getsize(path) and not (resume or force):
            raise RnnscopeError(
                f"{path} is there already", "add --resume to go on with it, or --force to write it anew"
            )
        with open(path, "ab", buffering=0) as stream:
            _lock(path, stream)
            is_regular = Path(path).is_file()
            if is_regular:
                stream.truncate(_seen(path, seen) if resume else 0)
            yield RowFile(path, stream, is_regular)
            if is_regular:
                os.fsync(stream.fileno())
    except OSError as error:
        raise RnnscopeError(f"cannot write {path} ({error.strerror or error})") from error


def read_rows(path: str) -> Iterator[Row]:
    """The rows of a file; a torn last line is passed over.

    Raises:
        RnnscopeError: a file that cannot be read, or a line that is no row, with its number.
    """
    try:
        for _, row in _whole_lines(path):
            yield row
    except OSError as error:
        raise RnnscopeError(f"cannot read {path} ({error.strerror or error})") from error


def _whole_lines(path: str) -> Iterator[tuple[int, Row]]:
    """Each row, after how many bytes of the file; a torn last line is none."""
    size = 0
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.endswith(b"\n"):
                size += len(line)
                yield size, _row(path, number, line)


def _seen(path: str, seen: Callable[[Row], object]) -> int:
    """Bytes of the whole lines, each of which was told."""
    whole = 0
    for size, row in _whole_lines(path):
        seen(row)
        whole = size
    return whole


def _row(path: str, number: int, line: bytes) -> Row:
    where = f"{path}, line {number}"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RnnscopeError(f"{where}: no JSON ({error})", "name a file that rnnscope sweep --out wrote") from error
    if isinstance(row, dict) and row.get("schema") not in (None, 1):
        raise RnnscopeError(f"{where}: schema {row['schema']}, but this rnnscope knows schema 1", "name another file")
    if not isinstance(row, dict) or row.get("command") != "compare" or any(name not in row for name in FACTS):
        raise RnnscopeError(f"{where}: no row of a sweep", "name a file that rnnscope sweep --out wrote")
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
