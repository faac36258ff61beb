"""A file of rows, one line of JSON each: how rows are added, and what they say together.

Rows are added as they come, and nothing that is there is lost. A row is one write of a whole line, so that whatever
stops a process tears the last line at most. A row is of a comparison or of a check, as its command says, and a file has
rows of one kind. Nothing is run here, and torch is not imported.
"""

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rnnscope.errors import RnnscopeError
from rnnscope.pages.render import json_line, parsed
from rnnscope.spec.flags import quoted
from rnnscope.spec.options import REPORT
from rnnscope.spec.relations import CHECK
from rnnscope.sweeps.checked import CheckSweep, check_finding
from rnnscope.sweeps.plan import Configuration, read_rerun
from rnnscope.sweeps.result import STATUSES, Finding, Sweep, finding

Row = dict[str, Any]
Taker = Callable[[Row], object]

FACTS = {"schema", "command", "rerun", "status", "message", "spec"}
"""What every row has."""

FACTS_OF = {"compare": FACTS | {"left", "right"}, "check": FACTS | {"subject"}}
"""What a row of each command has."""

FROM_A_SWEEP = "name a file that rnnscope sweep --out wrote"
"""What would mend a file without rows."""

HEADS = tuple(b'{"schema":1,"command":"%s",' % command.encode() for command in FACTS_OF)
"""How every row begins."""


@contextmanager
def rows_added_to(path: str, resume: bool, force: bool, seen: Taker) -> Iterator[Taker]:
    """Open a file to add rows to, for this process alone. Gives a function that writes a row behind the others.

    Args:
        resume: whether to go on with a file that is there already; a torn last line is cut off.
        force: whether to replace one.
        seen: told each row that is there already, which it may refuse.

    Raises:
        RnnscopeError: a file that is there already, that another process writes, that cannot be written, or that is
            no file of rows. Where a row cannot be written, the file ends with the row before it.
    """
    with ExitStack() as opened:
        with _telling("write", path):
            stream = opened.enter_context(open(path, "ab", buffering=0))
            is_regular = Path(path).is_file()  # in a pipe or a device nothing can be cut off
            _lock(path, stream)
            if is_regular:
                _prepare(path, stream, resume, force, seen)

        def append(row: Row) -> None:
            line = line_of(row)
            with _telling("write", path, "the rows in it are whole: make room, and add --resume"):
                end = stream.seek(0, os.SEEK_END) if is_regular else 0
                try:
                    while line:  # a disk that is nearly full takes a part of it
                        line = line[stream.write(line) :]
                except BaseException:  # a full disk, or a signal
                    if is_regular:
                        stream.truncate(end)
                    raise

        yield append
        if is_regular:
            with _telling("write", path):
                os.fsync(stream.fileno())


def _prepare(path: str, stream: IO[bytes], resume: bool, force: bool, seen: Taker) -> None:
    """Leave in a file what is to stay there."""
    with suppress(OSError):  # stdout is closed
        if os.path.sameopenfile(stream.fileno(), 1):  # where one of the two would write over the other
            raise RnnscopeError(f"{path} is where the summary goes, too", "send one of the two elsewhere")
    if resume:
        size, end = read_rows(path, seen)
        stream.truncate(size)
        stream.write(end)
    elif force:
        stream.truncate(0)
    elif os.path.getsize(path):
        raise RnnscopeError(f"{path} is there already", "add --resume to go on with it, or --force to write it anew")


def line_of(row: Row) -> bytes:
    """A row as it stands in a file."""
    return json_line(row).encode()


def _lock(path: str, stream: IO[bytes]) -> None:
    """Two sweeps that write one file would each do what the other does."""
    with suppress(ImportError, OSError):  # a system, or a file system, that has no locks
        import fcntl

        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            hint = "wait for it, or name another file"
            raise RnnscopeError(f"{path} is being written by another sweep", hint) from error


def read_rows(path: str, seen: Taker) -> tuple[int, bytes]:
    """Tell each row of a file; a torn last line is passed over.

    Returns how many bytes its whole rows have, and the end of line that the last one lacks.

    Raises:
        RnnscopeError: a file that cannot be read, or a line that is no row or is refused, with its number.
    """
    size, end = 0, b""
    with _telling("read", path), open(path, "rb") as stream:
        for number, line in enumerate(_lines(path, stream), 1):
            if not line.endswith(b"\n"):
                if line.startswith(HEADS) or any(head.startswith(line) for head in HEADS):  # torn
                    break
                end = b"\n"
            try:
                seen(_row(line))
            except RnnscopeError as error:
                raise RnnscopeError(f"{path}, line {number}: {error.message}", error.hint) from error
            size += len(line)
    return size, end


LONGEST_LINE, LONGEST_ROW = 2**20, 2**30
"""Bytes of a line: a row says at once that it is one, and --map makes it long."""


def _lines(path: str, stream: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file. A device may have one that never ends."""
    while line := stream.readline(LONGEST_LINE):
        if not line.endswith(b"\n") and len(line) == LONGEST_LINE:
            line += stream.readline(LONGEST_ROW) if line.startswith(HEADS) else b""
            if not line.startswith(HEADS) or len(line) > LONGEST_ROW:
                raise RnnscopeError(f"{path} has a line of more than {LONGEST_LINE:,} bytes, and no row", FROM_A_SWEEP)
        yield line


def _row(line: bytes) -> Row:
    row: Any = parsed(line, FROM_A_SWEEP)
    if isinstance(row, dict) and row.get("schema", 1) != 1:
        raise RnnscopeError(f"schema {quoted(row['schema'])}, but this rnnscope knows schema 1", "name another file")
    if isinstance(row, dict):
        facts = FACTS_OF.get(str(row.get("command")))
        if facts is not None and row.keys() >= facts:
            return row
    raise RnnscopeError("no row of a sweep", FROM_A_SWEEP)


@contextmanager
def _telling(doing: str, path: str, hint: str | None = None) -> Iterator[None]:
    """Name the file in an error of the system."""
    try:
        yield
    except OSError as error:
        raise RnnscopeError(f"cannot {doing} {path} ({error.strerror or error})", hint) from error


# What rows say.


@dataclass(frozen=True)
class Summary:
    """How rows of one command are summed up: what one says in short, and what all say together."""

    finding: Callable[[Configuration, Mapping[str, Any]], Finding]
    sweep: type[Sweep]


SUMMARIES = {"compare": Summary(finding, Sweep), "check": Summary(check_finding, CheckSweep)}
"""By the command of which a row is the document."""


def finding_of(configuration: Configuration, row: Row) -> Finding:
    """What the row of a configuration says."""
    return SUMMARIES[configuration.command].finding(configuration, row)


def read_finding(row: Row) -> Finding:
    """What a row says that was read from a file.

    Raises:
        RnnscopeError: what is no row.
    """
    try:
        found, words = finding_of(Configuration(read_rerun(row["rerun"])), row), SUMMARIES[row["command"]].sweep.words
        allowed = words.verdicts if row["status"] == words.status else STATUSES
        is_its_own = found.configuration.command == row["command"]
        if not is_its_own or found.outcome not in allowed or not isinstance(found.message, str | None):
            raise ValueError(found)
        return found
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RnnscopeError("no row of a sweep", FROM_A_SWEEP) from error


def read_sweep(path: str) -> Sweep:
    """What the rows of a file say together; nothing is run.

    Raises:
        RnnscopeError: a file that cannot be read, or that is no file of rows.
    """
    found: list[Finding] = []

    def seen(row: Row) -> None:
        if found:
            check_kind(row, found[0].configuration.command)
        found.append(read_finding(row))

    read_rows(path, seen)
    if not found:
        raise RnnscopeError(f"{path} has no rows in it", FROM_A_SWEEP)
    findings = {each.configuration: each for each in found}  # of two rows of one the last
    line = shlex.join(["rnnscope", "sweep", *REPORT.as_typed(path)])
    return SUMMARIES[found[0].configuration.command].sweep(tuple(findings.values()), line)


def check_kind(row: Row, command: str) -> None:
    """Raise unless a row is one of a command, as all others in its file are."""
    if row["command"] != command:
        other = {
            "check": f"a comparison, which {CHECK.name} does not go on with",
            "compare": f"a check, with which a sweep goes on that has {CHECK.name}",
        }
        raise RnnscopeError(other[command], "name another file")
