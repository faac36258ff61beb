"""The entry point of `rnnscope` and of `python -m rnnscope`; a failure to start is trouble too.

This process belongs to the command line alone. So signals, garbage and the end of the process are settled here.
"""

import contextlib
import gc
import os
import signal
import sys
import threading
import time
from typing import Any

LEAST_HELP_WIDTH = 80

GRACE = 2.0
"""Seconds in which a signal should have ended the run, and in which the process should end after its answer."""

HEEDED = [getattr(signal, each) for each in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, each)]
"""The signals that ask a process to end, as far as the system has them."""


def main() -> int:
    """Run the command line in sys.argv and return its exit code."""
    # What torch makes when it is imported lives as long as the process: to search it for garbage again and again, and
    # once more when the process ends, would cost a tenth of a short compare.
    gc.set_threshold(300_000, 10, 10)
    _settle_width(sys.argv[1:])
    _fill_gaps()
    try:
        _heed_signals()
        _keep_exit_code()
        from rnnscope.cli.shell import run

        code = run(sys.argv[1:])
        _end_with(code)
        gc.freeze()
        return code
    except KeyboardInterrupt as stopped:  # while this very package was imported
        print("rnnscope: interrupted", file=sys.stderr)
        return 128 + getattr(stopped, "number", signal.SIGINT)
    except Exception as error:
        print(f"rnnscope: cannot start ({type(error).__name__}: {error})", file=sys.stderr)
        return 2


def _fill_gaps() -> None:
    """Open what the shell closed: otherwise the next file would be stdout or stderr for whoever writes there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _heed_signals() -> None:
    """Let a signal that asks the process to end raise an error, as Ctrl-C does, so that nothing is left half done.

    What is ignored stays ignored, as under nohup. Code in C++ is not interrupted; after a while nobody waits for it.
    """
    for number in HEEDED:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _stop)
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    if hasattr(os, "register_at_fork"):  # a signal to a child is none to this process: it waits until that is settled
        os.register_at_fork(before=_hold_signals, after_in_parent=_let_signals, after_in_child=_heed_nothing)
    threading.Thread(target=_insist, args=(read,), daemon=True).start()


_stopped: list[int] = []
"""The signal that came first. Another one must not disturb what is put in order because of it."""


def _stop(number: int, _: Any) -> None:
    from rnnscope.errors import Stopped

    if not _stopped:
        _stopped.append(number)
        raise Stopped(number)


_masks: list[set[Any]] = []
"""The signals that were held back before each fork that is under way."""


def _hold_signals() -> None:
    _masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED))


def _let_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop())


def _heed_nothing() -> None:
    signal.set_wakeup_fd(-1)
    for number in HEEDED:
        if signal.getsignal(number) is _stop:
            signal.signal(number, signal.SIG_DFL)
    _let_signals()


def _insist(read: int) -> None:
    """In a thread: wait for a signal, and end the process where it goes on in spite of it."""
    while signal.getsignal(number := os.read(read, 1)[0]) is not _stop:
        pass  # somebody else heeds that one
    time.sleep(GRACE)
    from rnnscope.cli.shell import give_up

    _leave(give_up(sys.argv[1:], number))


_leave, _own = os._exit, os.getpid()
_codes = [2]
"""Exit codes: that of a process which ends without an answer, then that of the answer."""


def _keep_exit_code() -> None:
    """Let no thread and no exit handler of the user's end this process with a code of its own. A child may."""

    def end(code: int) -> None:
        if os.getpid() != _own:
            _leave(code)
        if len(_codes) == 1 and threading.current_thread() is not threading.main_thread():
            raise SystemExit  # it ends that thread: the answer is still to come
        _leave(_codes[-1])

    os._exit = end  # type: ignore[assignment]


def _end_with(code: int) -> None:
    """The answer is out: code of the user's may neither write behind it, nor stay for ever."""
    _codes.append(code)
    if "rnnscope.subjects.user_code" not in sys.modules:
        return
    with contextlib.suppress(OSError):
        os.dup2(2, 1)
    last = threading.Timer(GRACE, _end_now)  # threads, children and exit handlers may never end
    last.daemon = True
    last.start()


def _end_now() -> None:
    if "multiprocessing" in sys.modules:
        for child in sys.modules["multiprocessing"].active_children():
            child.terminate()
    _leave(_codes[-1])


def _settle_width(words: list[str]) -> None:
    """Set COLUMNS where rich would find something else, and drop what is no width: rich would print nothing in 0."""
    columns = os.environ.get("COLUMNS", "")
    if not columns.isdecimal() or int(columns) == 0:
        os.environ.pop("COLUMNS", None)
    if sys.stdout is None or not sys.stdout.isatty():
        # Otherwise rich would take the width of a terminal that stdin or stderr happens to be.
        os.environ.setdefault("COLUMNS", "80")
    columns = os.environ.get("COLUMNS", "")
    if {"--help", "-h", "--help-all"} & set(words) and columns.isdecimal() and int(columns) < LEAST_HELP_WIDTH:
        os.environ["COLUMNS"] = str(LEAST_HELP_WIDTH)


if __name__ == "__main__":
    sys.exit(main())
