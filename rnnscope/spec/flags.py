"""What a flag is: its names, its default, which values it allows and what is said of the others.

A flag is declared once, where it belongs: with its field of the Spec, with what it chooses, or with its command. The
command line, the error messages and the rerun line are read off that declaration. Flags are never compared or printed
themselves: without the methods for it their classes are made in half the time, at the start of every command.
"""

import contextlib
import math
import re
import sys
from dataclasses import KW_ONLY, dataclass
from difflib import get_close_matches
from typing import Any

from rnnscope.errors import RnnscopeError


@dataclass(frozen=True, eq=False, repr=False)
class Flag:
    """One flag, and what the kinds of flags have in common.

    Args:
        names: as typed; the first stands in messages. "--bias/--no-bias" turns a switch on and off.
        help: the help text.
        panel: the heading under which --help shows it.
        default: what holds where it is not given.
        example: a value that would do, where there is no default.
    """

    names: tuple[str, ...]
    help: str
    panel: str
    default: Any = None
    _: KW_ONLY
    example: Any = None

    @property
    def name(self) -> str:
        """The name used in messages: what turns a switch on, the first name otherwise."""
        return self.names[0].split("/")[0]

    @property
    def metavar(self) -> str:
        """What stands for the value in the help."""
        return self.name.lstrip("-").upper()

    def parse(self, typed: str) -> Any:
        """The value that was typed, or the text as it stands: `check` says what is wrong with it."""
        return typed

    def words(self, value: Any) -> list[str]:
        """The flag with a value, as it is typed."""
        return [self.name, str(value)]

    def must_be(self, value: object) -> str | None:
        """What the value would have to be, or None where it is that."""
        raise NotImplementedError

    def mend(self, value: object) -> str | None:
        """What would do instead of a value that is not allowed."""
        return f"try {' '.join(self.words(self.example if self.default is None else self.default))}"

    def check(self, value: object) -> None:
        """Do nothing for a value that is allowed.

        Raises:
            RnnscopeError: what the flag got, what it allows, and a value that would do.
        """
        must_be = self.must_be(value)
        if must_be is not None:
            raise RnnscopeError(f"{self.name} is {shown(value)}, but it must be {must_be}", self.mend(value))


class Default(int):
    """A default that can be told from the same number, given."""


@dataclass(frozen=True, eq=False, repr=False)
class Switch(Flag):
    """True or False; takes no value on the command line. A default of None leaves the choice to torch."""

    default: bool | None = False

    def words(self, value: Any) -> list[str]:
        return [self.names[0].split("/")[0 if value else 1]]

    def must_be(self, value: object) -> str | None:
        return None if isinstance(value, bool) else "True or False"

    def mend(self, value: object) -> None:
        return None


@dataclass(frozen=True, eq=False, repr=False)
class Choice(Flag):
    """One of a few words; the help text is followed by them."""

    _: KW_ONLY
    choices: tuple[str, ...]

    def must_be(self, value: object) -> str | None:
        return None if value in self.choices else f"one of {', '.join(self.choices)}"

    def mend(self, value: object) -> str | None:
        near = get_close_matches(str(value).lower(), self.choices, n=1, cutoff=0.5)
        return f"did you mean {self.name} {near[0]}?" if near else super().mend(value)


@dataclass(frozen=True, eq=False, repr=False)
class Whole(Flag):
    """A whole number."""

    _: KW_ONLY
    minimum: int
    maximum: int

    @property
    def metavar(self) -> str:
        return "N"

    def parse(self, typed: str) -> Any:
        return int(typed) if re.fullmatch(r"-?[0-9]{1,1000}", typed) else typed

    def must_be(self, value: object) -> str | None:
        if not isinstance(value, int) or isinstance(value, bool) or value < self.minimum:
            return f"a whole number of at least {self.minimum}"
        return f"at most {self.maximum}" if value > self.maximum else None


@dataclass(frozen=True, eq=False, repr=False)
class Wholes(Flag):
    """Whole numbers of at least 1, as a tuple; typed with commas between them."""

    _: KW_ONLY
    maximum: int

    def parse(self, typed: str) -> Any:
        if re.fullmatch(r"[0-9]{1,20}(,[0-9]{1,20})*", typed):
            return tuple(map(int, typed.split(",")))
        return typed

    def words(self, value: Any) -> list[str]:
        return [self.name, ",".join(map(str, value))]

    def must_be(self, value: object) -> str | None:
        allowed = isinstance(value, tuple) and value and all(type(each) is int for each in value)
        if allowed and all(1 <= each <= self.maximum for each in value):  # type: ignore[attr-defined]
            return None
        return "whole numbers of at least 1 with commas between them"


@dataclass(frozen=True, eq=False, repr=False)
class Number(Flag):
    """A finite number from 0 to a maximum."""

    _: KW_ONLY
    maximum: float = math.inf

    def parse(self, typed: str) -> Any:
        if typed.isascii() and "_" not in typed:
            with contextlib.suppress(ValueError):
                return float(typed)
        return typed

    def must_be(self, value: object) -> str | None:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and 0 <= value <= min(self.maximum, sys.float_info.max):  # type: ignore[operator]
            return None
        return "a finite number of at least 0" if self.maximum == math.inf else f"a number from 0 to {self.maximum:g}"


@dataclass(frozen=True, eq=False, repr=False)
class Text(Flag):
    """Text of certain forms: a regular expression, and what it stands for in words."""

    _: KW_ONLY
    pattern: str
    forms: str

    def must_be(self, value: object) -> str | None:
        return None if isinstance(value, str) and re.fullmatch(self.pattern, value) else f"one of {self.forms}"


@dataclass(frozen=True, eq=False, repr=False)
class FileName(Flag):
    """The name of a file. It is no option but an argument where its own name has no dashes."""

    @property
    def metavar(self) -> str:
        return "FILE"

    def words(self, value: Any) -> list[str]:
        return super().words(value) if self.name.startswith("-") else [str(value)]

    def must_be(self, value: object) -> str | None:
        return None if isinstance(value, str) and value and "\0" not in value else "the name of a file"


@dataclass(frozen=True, eq=False, repr=False)
class Prefix(Flag):
    """A path in a state_dict, "" at its root."""

    def must_be(self, value: object) -> str | None:
        return None if isinstance(value, str) else "a text"


def shown(value: object) -> str:
    """A value for a message: numbers bare, text quoted and escaped, all of it cut to what fits on a line."""
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    if isinstance(value, int) and value.bit_length() > 1000:
        return "a number of more than 300 digits"
    text = str(value) if isinstance(value, (int, float)) else repr(value)
    return text if len(text) <= 40 else f"{text[:20]}...{text[-10:]}"
