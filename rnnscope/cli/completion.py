"""Completion in a shell: Typer's own scripts and protocols; only the command that is typed has its options made.

A shell sets variables and reads stdout. Nothing is ever said there but completions.
"""

import os
from collections.abc import Sequence

import typer

from rnnscope.cli.commands import main
from rnnscope.cli.parser import COMPLETING, app_of, called_by
from rnnscope.errors import RnnscopeError

SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")

INSTALL, SHOW = "--install-completion", "--show-completion"


def complete() -> int:
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


def answer(words: Sequence[str]) -> str:
    """What --install-completion and --show-completion print.

    Raises:
        RnnscopeError: no such shell, one that cannot be found out, or a file that cannot be written.
    """
    from typer.completion import get_completion_script, install  # type: ignore[attr-defined]

    flag, *rest = words
    shell = rest[0].lower() if rest else _this_shell(flag)
    if shell not in SHELLS or len(rest) > 1:
        what = " ".join(rest) or shell
        raise RnnscopeError(f"{flag} is {what[:40]!r}, but it must be one of {', '.join(SHELLS)}", f"try {flag} bash")
    if flag == SHOW:
        return f"{get_completion_script(prog_name='rnnscope', complete_var=COMPLETING, shell=shell)}\n"
    try:
        shell, path = install(shell=shell, prog_name="rnnscope", complete_var=COMPLETING)
    except (OSError, RuntimeError, typer.Exit) as error:  # no home, or no PowerShell
        reason = getattr(error, "strerror", None) or error
        raise RnnscopeError(f"{flag} {shell}: {reason}", f"write it yourself: rnnscope {SHOW} {shell}") from error
    return f"Completion for {shell} stands in {path}. It works in the next shell that you start.\n"


def _this_shell(flag: str) -> str:
    try:
        import shellingham  # type: ignore[import-untyped]

        return str(shellingham.detect_shell()[0])
    except Exception as error:  # without that package, or where no shell started this process
        raise RnnscopeError(f"{flag} cannot find out which shell this is", f"name it: {flag} bash") from error
