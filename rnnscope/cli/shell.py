"""How a command line is answered in a shell: exit code, stdout, stderr. The one boundary that no exception leaves.

Exit codes are those of `cmp`: 0 the same, 1 a finding, 2 trouble; and those of shells: 130 Ctrl-C, 143 SIGTERM, 129
SIGHUP. Everything unexpected is trouble. What a command printed is collected, so that stdout gets the result alone, in
one write and one flush.

Completion is answered with Typer's own scripts and protocols: a shell sets variables and reads stdout, and nothing is
ever said there but completions. Only the command that is typed has its options made.
"""

import contextlib
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TextIO

import typer

from rnnscope import __version__
from rnnscope.cli.commands import main
from rnnscope.cli.parser import (
    COMMANDS,
    COMPLETING,
    ROOT_FLAGS,
    Manners,
    Outcome,
    app_of,
    called_by,
    first_word,
    flags_of_all,
    is_completing,
    is_helper,
)
from rnnscope.cli.usage import by_name, see_help, unexpected, unknown_command, unknown_flag
from rnnscope.errors import RnnscopeError, Stopped
from rnnscope.pages.page import printable
from rnnscope.pages.progress import shown
from rnnscope.pages.render import Collected, exported, failure, plain, render, unfinished, whole_file

# The base of every parse error, under the same name in every release of Typer.
UsageError: Any = typer.BadParameter.__base__

_last_word = threading.RLock()
"""Kept by the thread that says that a signal ends the run: it is said once, however long memory takes to be freed."""

LAST_WORD = 2.0
"""Seconds in which the answer to a signal is written, once the main thread has the last word."""

_SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")

_INSTALL, _SHOW = "--install-completion", "--show-completion"


class Answer(NamedTuple):
    """An exit code, what belongs on stdout, and whether that is a page of the manual, to be read at leisure."""

    code: int
    text: str = ""
    is_manual: bool = False


def run(words: list[str]) -> int:
    """Answer a command line and return the exit code."""
    stdout = sys.stdout
    code, text, is_manual = _answer(words, stdout)
    if not text:
        return code
    try:
        if stdout is None:
            raise OSError("it is closed")
        if stdout.closed:  # by code of the user's; the file descriptor is still there
            stdout = open(1, "w", encoding=stdout.encoding, closefd=False)  # noqa: SIM115
        if is_manual and stdout.isatty():
            _page_through(text)
            return code
        stdout.write(text if can_say(stdout, text) else plain(text))
        stdout.flush()
    except BrokenPipeError:
        _discard(stdout)
    except OSError as error:
        _discard(stdout)
        _complain(f"rnnscope: cannot write to standard output ({error.strerror or error})")
        return 2
    return code


def _page_through(text: str) -> None:
    """Show a text in the pager of the user's choice, or in less, which ends by itself where a screen holds the text."""
    import pydoc  # which takes long
    import shutil

    for name in ("MANPAGER", "PAGER"):  # a pager that is not there would show nothing
        if (words := os.environ.get(name, "").split()) and shutil.which(words[0]) is None:
            del os.environ[name]
    os.environ.setdefault("LESS", "FRX")
    pydoc.pager(text)


def can_say(stream: TextIO, text: str) -> bool:
    """Whether a text can be written as it is. LC_ALL=C asks for ASCII even where Python would write UTF-8."""
    if os.environ.get("LC_ALL") in ("C", "POSIX"):
        return False
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _answer(words: list[str], stdout: TextIO | None) -> Answer:
    """What a command line is answered with, whatever goes wrong."""
    collected, manners = Collected(stdout), Manners()
    try:
        with contextlib.redirect_stdout(collected), warnings.catch_warnings():
            return _understood(words, manners, collected)
    except typer.Exit as done:
        return Answer(done.exit_code, collected.getvalue())
    except (KeyboardInterrupt, typer.Abort) as error:
        _last_word.acquire()
        code, said = _stopped(error)
        return Answer(code, "" if is_helper(called_by(words)) else _told(words, manners, said))
    except Exception as error:
        if is_completing():  # whatever is said would be taken for completions
            return Answer(1)
        if is_helper(called_by(words)) and isinstance(error, (RnnscopeError, UsageError)):  # rank 0 finds it, too
            from rnnscope.sweeps.workers import let_rank_0_speak

            let_rank_0_speak()
            return Answer(2)
        if (manners if manners.is_parsed else _guessed(words)).debug:
            _complain(traceback.format_exc())
        return Answer(2, _told(words, manners, _reason(error, words)))


def _understood(words: list[str], manners: Manners, collected: Collected) -> Answer:
    """The answer to a command line that can be understood.

    Args:
        manners: filled in while it is parsed.
        collected: what is printed meanwhile.
    """
    if is_completing():
        return Answer(_complete(), collected.getvalue())
    if words in (["--version"], ["-V"]):  # Typer would take longer than all the rest
        return Answer(0, f"rnnscope {__version__}\n")
    if words and words[0] in (_INSTALL, _SHOW):
        return Answer(0, _completion(words))
    called = called_by(words)
    if words[:1] in (["--help"], ["-h"]) and called:
        words = [*words[1:], "--help"]
    ask = app_of(called, main)(words, prog_name="rnnscope", standalone_mode=False, obj=manners)
    if not callable(ask):  # --help, --version: Typer's own exit code
        return Answer(ask or 0, collected.getvalue())
    with shown(called or "rnnscope"):
        outcome: Outcome = ask()
    text = "" if manners.quiet else render(outcome.result, outcome.format, collected)
    code = outcome.result.exit_code if _keep(outcome, collected) else 2
    return Answer(code, text, outcome.result.is_manual and outcome.format == "table")


def _told(words: list[str], manners: Manners, error: RnnscopeError) -> str:
    """Say on stderr what went wrong, and give the document that belongs on stdout: "" where none was asked for."""
    _complain(f"rnnscope: {printable(str(error))}")
    manners = manners if manners.is_parsed else _guessed(words)
    return "" if manners.quiet else failure(called_by(words), error, manners.form)


def _stopped(error: BaseException) -> tuple[int, RnnscopeError]:
    """The exit code of Ctrl-C or of a signal, as shells have it, and what is said of it."""
    number = getattr(error, "number", signal.SIGINT)
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    return 128 + number, RnnscopeError(f"interrupted by {name}", getattr(error, "hint", None))


def give_up(words: list[str], number: int) -> int:
    """Say that a signal ends the process, where code that does not come back keeps it from that; give the exit code.

    What runs elsewhere has its own stdout and stderr, and temporary files.
    """
    import shutil

    for folder in list(unfinished):
        shutil.rmtree(folder, ignore_errors=True)
    adds_rows = called_by(words) == "sweep" and any(word.partition("=")[0] == "--out" for word in words)
    code, said = _stopped(Stopped(number, "its rows are whole: add --resume to go on" if adds_rows else None))
    if not _last_word.acquire(timeout=LAST_WORD) or is_helper(called_by(words)):
        return code
    own_code = sys.modules.get("rnnscope.subjects.user_code")
    sys.stderr = sys.__stderr__
    text = _told(words, Manners(), said)
    with contextlib.suppress(OSError):
        os.write(own_code.kept_stdout() if own_code else 1, text.encode())
    return code


def _keep(outcome: Outcome, stream: TextIO) -> bool:
    """Write the file that --export names, where it does; False where that failed, so that the answer is not lost."""
    if outcome.export is None:
        return True
    try:
        text = exported(outcome.result, outcome.export, stream)
        with whole_file(outcome.export, text.encode(), outcome.force):
            return True
    except RnnscopeError as error:
        _complain(f"rnnscope: {printable(str(error))}")
        return False


def _reason(error: Exception, words: list[str]) -> RnnscopeError:
    """What went wrong and what would mend it, on one line."""
    if isinstance(error, RnnscopeError):
        return error
    if isinstance(error, UsageError):
        return _usage(error, words)
    kind = "out of memory" if isinstance(error, MemoryError) else f"unexpected {type(error).__name__}"
    reason = str(error).strip().split("\n")[0][:500]
    return RnnscopeError(f"{kind}: {reason}" if reason else kind, "add --debug for the traceback")


def _usage(error: Any, words: list[str]) -> RnnscopeError:
    """A parse error of Typer's, in the form of our own."""
    name: str = getattr(error, "option_name", None) or ""
    command, message, hint = called_by(words), error.format_message().rstrip("."), None
    if command is None and not name:
        return unknown_command(first_word(words) or "", COMMANDS)
    flags = flags_of_all()[command] if command else ROOT_FLAGS
    if message.startswith("No such option"):
        return unknown_flag(name, by_name(flags.values()), command, flags_of_all())
    if "unexpected extra argument" in message:
        extra = message.partition(" (")[2].removesuffix(")")
        message, hint = f"unexpected argument: {extra}", unexpected(extra.split(" ")[0], flags)
    return RnnscopeError(message, hint or see_help(command))


def _guessed(words: list[str]) -> Manners:
    """How an answer is wanted, by the words of a line that was not understood."""
    formats = [after for before, after in pairwise(words) if before == "--format"]
    formats += [word.partition("=")[2] for word in words if word.startswith("--format=")]
    return Manners(
        format=next(iter(formats), None),
        quiet=any(re.fullmatch("-q+|--quiet", word) for word in words),
        json="--json" in words,
        debug="--debug" in words,
    )


def _complain(text: str) -> None:
    if sys.stderr is not None:
        if sys.stderr.closed:  # by code of the user's
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        with contextlib.suppress(OSError, ValueError):  # a stderr that code of the user's closed, too
            if not can_say(sys.stderr, text):
                text = text.encode("ascii", "backslashreplace").decode()
            print(text, file=sys.stderr, flush=True)


def _discard(stream: TextIO | None) -> None:
    """Point a stream that cannot be written at the null device: otherwise Python would complain again when it exits."""
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


# Completion.


def _complete() -> int:
    """Print what could stand in place of the last word, as the shell's variables ask, and give the exit code."""
    try:
        app_of(called_by(_whole_words()), main)([], prog_name="rnnscope", standalone_mode=False)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    return 1


def _whole_words() -> list[str]:
    """The words before the one that is being typed."""
    if "COMP_WORDS" not in os.environ:  # all shells but bash
        line = os.environ.get("_TYPER_COMPLETE_ARGS", "")
        words = line.split()
        return words[1:] if line.endswith(" ") else words[1:-1]
    words, place = os.environ["COMP_WORDS"].split("\n"), int(os.environ.get("COMP_CWORD") or 0)
    if len(words) == 1:  # as somebody writes it by hand
        words = words[0].split(" ")
    # bash takes --kind=lstm for three words.
    place -= words[:place].count("=")
    words = [word for word in words if word != "="]
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(words), str(place)
    return words[1:place]


def _completion(words: Sequence[str]) -> str:
    """What --install-completion and --show-completion print.

    Raises:
        RnnscopeError: no such shell, one that cannot be found out, or a file that cannot be written.
    """
    from typer.completion import get_completion_script, install  # type: ignore[attr-defined]

    flag, *rest = words
    shell = rest[0].lower() if rest else _this_shell(flag)
    if shell not in _SHELLS or len(rest) > 1:
        what = " ".join(rest) or shell
        raise RnnscopeError(f"{flag} is {what[:40]!r}, but it must be one of {', '.join(_SHELLS)}", f"try {flag} bash")
    if flag == _SHOW:
        return f"{get_completion_script(prog_name='rnnscope', complete_var=COMPLETING, shell=shell)}\n"
    try:
        shell, path = install(shell=shell, prog_name="rnnscope", complete_var=COMPLETING)
    except (OSError, RuntimeError, typer.Exit) as error:  # no home, or no PowerShell
        reason = getattr(error, "strerror", None) or error
        raise RnnscopeError(f"{flag} {shell}: {reason}", f"write it yourself: rnnscope {_SHOW} {shell}") from error
    return f"Completion for {shell} stands in {path}. It works in the next shell that you start.\n"


def _this_shell(flag: str) -> str:
    try:
        import shellingham  # type: ignore[import-untyped]

        return str(shellingham.detect_shell()[0])
    except Exception as error:  # without that package, or where no shell started this process
        raise RnnscopeError(f"{flag} cannot find out which shell this is", f"name it: {flag} bash") from error
