"""Runs another program once: what it says is kept within bounds, and nothing that it started is left behind.

It has a session of its own, so that Ctrl-C in a terminal reaches rnnscope alone, which ends it. What it started belongs
to the same session, or has left it but still carries the mark in its environment. The second is seen on Linux alone.
"""

import contextlib
import errno
import os
import re
import selectors
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rnnscope.errors import RnnscopeError
from rnnscope.pages.page import printable

KEPT = 4096
"""Bytes of the end of stdout and stderr that are kept."""

LONGEST_LINE = 200
"""Signs of a line that are told."""

DRAINED = 2**20
"""Bytes that are read at most once a program has ended: what it left behind may go on writing."""

GRACE = 0.5
"""Seconds between SIGTERM and SIGKILL: less than those in which a signal should end rnnscope itself."""

PAUSE = 0.01
"""Seconds between two looks at what cannot be waited for."""

KILLS = 3
"""How often what is left is killed: what hangs in the system cannot be ended at all."""

MARK = "RNNSCOPE_CALL"
"""The variable of the environment by which what a program started is known."""

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    code: its exit code; negative where a signal ended it; None where it took too long. said: its last line on stderr,
    otherwise on stdout; "" where it said nothing.
    """

    code: int | None
    said: str

    @property
    def in_words(self) -> str:
        """What became of it: "ended with exit code 1"."""
        if self.code is None or self.code >= 0:
            return f"ended with exit code {self.code}"
        try:
            return f"was ended by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"was ended by signal {-self.code}"


def run_once(words: list[str], timeout: float) -> Ended:
    """Run a program in this folder and wait for it; it reads nothing, and is ended after so many seconds.

    Whatever it started has ended when this returns, and when it raises: at Ctrl-C, too.

    Raises:
        RnnscopeError: it cannot be started.
    """
    mark, process = uuid.uuid4().hex, None
    try:
        process = _started(words, mark)
        with process.stdout, process.stderr:  # type: ignore[union-attr]
            in_time, said = _watched(process, time.monotonic() + timeout)
    finally:
        _end(process, mark)
    return Ended(process.returncode if in_time else None, said)


def _started(words: list[str], mark: str) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {MARK: f"{os.environ.get(MARK, '')}{mark}"},  # a program may run rnnscope itself
            start_new_session=True,
        )
    except OSError as error:
        raise _cannot_start(words[0], error) from error


def _watched(process: "subprocess.Popen[bytes]", until: float) -> tuple[bool, str]:
    """Wait for the end of a program and read what it says: whether it came in time, and the last line."""
    tails = {pipe.fileno(): b"" for pipe in (process.stderr, process.stdout) if pipe is not None}
    is_over = False
    with selectors.DefaultSelector() as selector, _end_of(process) as ended:
        for each in (*tails, *([] if ended is None else [ended])):
            os.set_blocking(each, False)
            selector.register(each, selectors.EVENT_READ)
        while not is_over and (left := until - time.monotonic()) > 0:
            ready = {key.fd for key, _ in selector.select(min(left, PAUSE) if ended is None else left)}
            is_over = process.poll() is not None if ended is None else ended in ready
            for number in tails.keys() & ready:
                if (piece := _read(number)) == b"":  # it closed that one, and may go on
                    selector.unregister(number)
                tails[number] = (tails[number] + (piece or b""))[-KEPT:]
    for number in tails if is_over else ():
        drained = 0
        while drained < DRAINED and (piece := _read(number)):
            drained += len(piece)
            tails[number] = (tails[number] + piece)[-KEPT:]
    return is_over, next(filter(None, map(_last_line, tails.values())), "")


@contextlib.contextmanager
def _end_of(process: "subprocess.Popen[bytes]") -> Iterator[int | None]:
    """What can be read once a process has ended; None on a system that has no such thing."""
    try:
        ended = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        yield None
        return
    try:
        yield ended
    finally:
        os.close(ended)


def _read(pipe: int) -> bytes | None:
    """What a pipe has now: b"" at its end, None where there is nothing yet."""
    try:
        return os.read(pipe, 65536)
    except BlockingIOError:
        return None


def _last_line(tail: bytes) -> str:
    """The last line that says something, without what a terminal would obey."""
    lines = (_COLOUR.sub("", each).strip() for each in reversed(re.split(r"[\r\n]", tail.decode(errors="replace"))))
    line = next((each for each in lines if each), "")
    line = "".join(each if each.isprintable() else " " for each in line)
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…"


def _cannot_start(name: str, error: OSError) -> RnnscopeError:
    """Why a program cannot be started, and what mends it."""
    file, shown = Path(name), printable(name)
    if isinstance(error, FileNotFoundError):
        if "/" not in name and file.is_file():
            return RnnscopeError(f"there is no program {shown} on the PATH", f"name its folder, too: ./{shown}")
        if file.is_file():
            what = f"{shown} names in its first line an interpreter that is not there"
            return RnnscopeError(what, f"name what runs it, such as python3 {shown}")
        return RnnscopeError(f"there is no program {shown}", "build it, or name one as this folder sees it")
    if isinstance(error, PermissionError):
        if file.is_dir():
            return RnnscopeError(f"{shown} is a folder", "name the program in it")
        return RnnscopeError(f"{shown} may not be run", f"chmod +x {shown}, or name what runs it: python3 {shown}")
    if error.errno == errno.ENOEXEC:
        what = f"{shown} is no program of this machine, and no script with #! in its first line"
        return RnnscopeError(what, f"name what runs it, such as python3 {shown}")
    return RnnscopeError(f"{shown} cannot be started ({error.strerror or error})")


# Ending.


def _end(process: "subprocess.Popen[bytes] | None", mark: str) -> None:
    """End a program, and what it started: SIGTERM, then SIGKILL. Where nothing is left that costs no time."""
    left = _Left(process, mark)
    try:
        if left.signalled(signal.SIGTERM) and not left.gone_soon():
            for _ in range(KILLS):  # it may have started more meanwhile
                left.signalled(signal.SIGKILL)
                if left.gone_soon():
                    break
    except BaseException:  # a signal to rnnscope: there is no time to ask
        left.signalled(signal.SIGKILL)
        raise
    finally:
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)


class _Left:
    """What runs of a program.

    Args:
        process: None where a signal came while it was started.
        mark: what stands in the environment of whatever it started.
    """

    def __init__(self, process: "subprocess.Popen[bytes] | None", mark: str) -> None:
        self._process, self._mark, self._since = process, mark.encode(), 0
        self._sees_all = Path("/proc/self/environ").exists()
        if self._sees_all and process is not None:
            with contextlib.suppress(OSError):
                self._since = _stat(Path(f"/proc/{process.pid}"))[3]  # nothing that it started is older

    def signalled(self, number: int) -> bool:
        """Send a signal to all of it; 0 sends none. Whether there was anything."""
        if not self._sees_all:
            return self._process is not None and self._is_group_signalled(self._process, number)
        left = list(self._seen())
        for each in left if number else ():
            with contextlib.suppress(OSError):
                os.kill(each, number)
        return bool(left)

    def gone_soon(self) -> bool:
        """Whether nothing runs any more after a while."""
        until = time.monotonic() + GRACE
        while is_there := self.signalled(0):
            if time.monotonic() > until:
                break
            time.sleep(PAUSE)
        return not is_there

    def _is_group_signalled(self, process: "subprocess.Popen[bytes]", number: int) -> bool:
        """The same where the system tells no more than whether the program itself runs."""
        with contextlib.suppress(OSError):
            os.killpg(process.pid, number)
        return process.poll() is None

    def _seen(self) -> Iterator[int]:
        """The processes that are of its session, or carry the mark."""
        leader = self._process.pid if self._process else None
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            with contextlib.suppress(OSError):  # it has ended, or is somebody else's
                state, group, session, started = _stat(folder)
                if state == "Z" or started < self._since:
                    continue
                if leader in (group, session) or self._mark in (folder / "environ").read_bytes():
                    yield int(folder.name)


def _stat(folder: Path) -> tuple[str, int, int, int]:
    """State, process group and session of a process, and when it started. Source: man 5 proc."""
    fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return fields[0], int(fields[2]), int(fields[3]), int(fields[19])
