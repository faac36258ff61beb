"""How the text of a script is laid out: plain ASCII, no line over WIDTH, and as `ruff format` would leave it."""

import os
import shlex
import textwrap
from collections.abc import Callable, Iterable, Sequence

WIDTH = 100
"""Columns of a line."""


def text(*lines: str | bool) -> str:
    """Lines, of which those whose condition is False are left out."""
    return "\n".join(each for each in lines if isinstance(each, str))


def joined(parts: Iterable[str]) -> str:
    """The whole script: a blank line between its parts, and two around a function or a class."""
    script = ""
    for part in filter(None, parts):
        around = _at_margin(script)[-1:] + _at_margin(part)[:1]
        apart = any(line.startswith(("def ", "class ")) for line in around)
        script += ("\n\n\n" if apart else "\n\n") + part if script else part
    return script + "\n"


def _at_margin(part: str) -> list[str]:
    """The lines that begin a statement."""
    return [line for line in part.splitlines() if line and line[0] not in " #)]"]


def call(name: str, arguments: Iterable[str], then: str = "") -> str:
    """A call, broken at its brackets where it is too long for a line."""
    inside, indent = ", ".join(arguments), " " * (len(name) - len(name.lstrip()))
    line = f"{name}({inside}){then}"
    return line if len(line) <= WIDTH else f"{name}(\n{indent}    {inside}\n{indent}){then}"


def numbers(name: str, values: Sequence[int], comment: str) -> str:
    """A list of numbers, over several lines where it is too long for one."""
    every = ", ".join(map(str, values))
    line = f"{name} = [{every}]  # {comment}"
    if len(line) <= WIDTH:
        return line
    filled = textwrap.fill(f"{every},", WIDTH, initial_indent="    ", subsequent_indent="    ")
    return f"# {name}: {comment}\n{name} = [\n{filled}\n]  # fmt: skip"


def command(line: str) -> str:
    """A command as it is typed into a shell, indented, and over several lines where it is too long for one."""
    lines = ["   "]
    for word in shlex.split(line):
        first, *others = map(_shell_word, _pieces(word, _shell_word))
        if len(lines[-1]) + 1 + len(first) + 2 > WIDTH:
            lines[-1] += " \\"
            lines.append("       ")
        lines[-1] += f" {first}"
        for piece in others:  # a word goes on at the margin of the next line
            lines[-1] += "\\"
            lines.append(piece)
    return "\n".join(lines)


def _shell_word(word: str) -> str:
    """A word in the shell's own quotes; byte by byte where these would not do in a docstring of ASCII."""
    if word.isascii() and word.isprintable() and '"' not in word:
        return shlex.quote(word)
    safe = (chr(each) if 32 <= each < 127 and each not in b"\\'\"" else f"\\x{each:02x}" for each in os.fsencode(word))
    return f"$'{''.join(safe)}'"


def named(name: str, value: str) -> str:
    """A text with a name of its own, in pieces where it is too long for a line."""
    line = f"{name} = {literal(value)}"
    if len(line) <= WIDTH:
        return line
    return text(f"{name} = (", *(f"    {literal(piece)}" for piece in _pieces(value, literal)), ")")


def _pieces(value: str, written: Callable[[str], str]) -> list[str]:
    """A text in pieces, each of which has room in an indented line as it is written."""
    pieces = [""]
    for each in value:
        if len(written(pieces[-1] + each)) > WIDTH - 10:
            pieces.append("")
        pieces[-1] += each
    return pieces


def literal(value: str | int) -> str:
    """A text or a number as Python writes it: in ASCII, and in double quotes unless single ones save escapes."""
    if isinstance(value, int):
        return str(value)
    quote = "'" if value.count('"') > value.count("'") else '"'
    return quote + "".join(f"\\{each}" if each == quote else ascii(each)[1:-1] for each in value) + quote
