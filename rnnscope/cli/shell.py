"""How a command line is answered in a shell: exit code, stdout, stderr. The one boundary that no exception leaves.

Exit codes are those of `cmp`: 0 the same, 1 a finding, 2 trouble, 130 Ctrl-C. Everything unexpected is trouble. What a
command printed is collected, so that stdout gets the result alone, in one write and one flush.
"""

import contextlib
import os
import re
import sys
import traceback
import warnings
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, TextIO

import typer

from rnnscope.cli.commands import main
from rnnscope.cli.parser import COMMANDS, Manners, Outcome, app_of, is_helper
from rnnscope.errors import RnnscopeError
from rnnscope.pages.page import printable
from rnnscope.pages.progress import shown
from rnnscope.pages.render import Collected, exported, json_text, plain, render, whole_file

# The base of every parse error, under the same name in every release of Typer.
UsageError: Any = typer.BadParameter.__base__


def run(words: list[str]) -> int:
    """Answer a command line and return the exit code."""
    stdout = sys.stdout
    code, text, is_manual = _answer(words, stdout)
    if not text:
        return code
    try:
        if stdout is None:
            raise OSError("it is closed")
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


def _answer(words: list[str], stdout: TextIO | None) -> tuple[int, str, bool]:
    """The exit code, what belongs on stdout, and whether that is a page of the manual, to be read at leisure."""
    collected, manners = Collected(stdout), Manners()
    try:
        shows = shown(_command(words) or "rnnscope")
        with shows, contextlib.redirect_stdout(collected), warnings.catch_warnings():
            app = app_of(_command(words), main)
            outcome = app(words, prog_name="rnnscope", standalone_mode=False, obj=manners)
            if not isinstance(outcome, Outcome):  # --help, --version: Typer's own exit code
                return outcome or 0, collected.getvalue(), False
            text = "" if manners.quiet else render(outcome.result, outcome.format, collected)
            kept = _keep(outcome, collected, manners.quiet)
            is_manual = outcome.result.is_manual and outcome.format == "table"
            return outcome.result.exit_code if kept else 2, text, is_manual
    except (KeyboardInterrupt, typer.Abort):
        return 130, "", False
    except Exception as error:
        manners = manners if manners.is_parsed else _guessed(words)
        message, hint = _reason(error, words)
        message, hint = printable(message), hint and printable(hint)
        if _is_said_elsewhere(error, words):
            from rnnscope.sweeps.workers import let_rank_0_speak

            let_rank_0_speak()
            return 2, "", False
        if not manners.quiet:
            if manners.debug:
                _complain(traceback.format_exc())
            _complain(_line(message, hint))
        return 2, _error_document(words, message, hint) if manners.json and not manners.quiet else "", False


def _is_said_elsewhere(error: Exception, words: list[str]) -> bool:
    """Under torchrun every process finds the same fault in the same command line, and one of them says so."""
    return is_helper(_command(words)) and isinstance(error, (RnnscopeError, UsageError))


def _keep(outcome: Outcome, stream: TextIO, quiet: bool) -> bool:
    """Write the file that --export names, where it does; False where that failed, so that the answer is not lost."""
    if outcome.export is None:
        return True
    try:
        text = exported(outcome.result, outcome.export, stream)
        with whole_file(outcome.export, text.encode(), outcome.force):
            return True
    except RnnscopeError as error:
        if not quiet:
            _complain(printable(_line(error.message, error.hint)))
        return False


def _line(message: str, hint: str | None) -> str:
    return f"rnnscope: {message}" if hint is None else f"rnnscope: {message}; {hint}"


def _reason(error: Exception, words: list[str]) -> tuple[str, str | None]:
    """What went wrong and what would mend it, on one line each."""
    if isinstance(error, RnnscopeError):
        return error.message, error.hint
    if isinstance(error, UsageError):
        return _usage(error, words)
    kind = "out of memory" if isinstance(error, MemoryError) else f"unexpected {type(error).__name__}"
    reason = str(error).strip().split("\n")[0]
    return f"{kind}: {reason}" if reason else kind, "add --debug for the traceback"


def _usage(error: Any, words: list[str]) -> tuple[str, str]:
    """A parse error of Typer's, in the form of our own."""
    name: str = getattr(error, "option_name", None) or ""
    near = getattr(error, "possibilities", None) or []
    command, message = _command(words), error.format_message().rstrip(".")
    if command is None and not name:
        name = next((word for word in words if not word.startswith("-")), "")
        message, near = f"no such command: {name[:40]}", get_close_matches(name, COMMANDS)
    elif message.startswith("No such option"):
        message = f"no such flag: {name[:40]}"
        if command == "sweep" and name.startswith("--no-"):
            return message, f"use --{name[5:]} off"
        if command is None and len(words) > 1:
            return message, f"flags go after the command: {', '.join(COMMANDS)}"
    elif "unexpected extra argument" in message:
        message = f"unexpected argument: {message.partition(' (')[2].removesuffix(')')}"
    help_words = " ".join(filter(None, ("rnnscope", command, "--help")))
    return message, f"did you mean {near[0]}?" if near else f"see {help_words}"


def _error_document(words: list[str], message: str, hint: str | None) -> str:
    return json_text({"schema": 1, "command": _command(words), "error": {"message": message, "hint": hint}})


def _command(words: list[str]) -> str | None:
    first = next((word for word in words if not word.startswith("-")), None)
    return first if first in COMMANDS else None


def _guessed(words: list[str]) -> Manners:
    """How an answer is wanted, by the words of a line that was not understood."""
    return Manners(
        quiet=any(re.fullmatch("-q+|--quiet", word) for word in words),
        json="--json" in words or "--format=json" in words or ("--format", "json") in pairwise(words),
        debug="--debug" in words,
    )


def _complain(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            if not can_say(sys.stderr, text):
                text = text.encode("ascii", "backslashreplace").decode()
            print(text, file=sys.stderr, flush=True)


def _discard(stream: TextIO | None) -> None:
    """Point a stream that cannot be written at the null device: otherwise Python would complain again when it exits."""
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
