"""What a flag is: its names, its default, which values it allows and what is said of the others.

A flag is declared once, where its value is described. The command line, the error messages and the
rerun line are read off that declaration. One dataclass holds what is declared; a kind of flag has methods alone, since
making a dataclass takes long at the start of every command.
"""

import contextlib
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from rnnscope.errors import RnnscopeError

MOST_VALUES = 1_000_000
"""A flag may list this many values."""

LONG_RUN = 8
"""Whole numbers that follow each other are written as a range from so many on."""

_NUMBER = r"((?:[0-9]{1,20}|[0-9]*\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)"
_RANGE = re.compile(rf"{_NUMBER}\.\.{_NUMBER}(?::([0-9]{{1,20}}))?")

_SETTINGS = {"off": (False,), "on": (True,), "both": (False, True)}


@dataclass(frozen=True, eq=False, repr=False)
class Flag:
    """One flag, and what the kinds of flags have in common. By itself it takes a text.

    Args:
        names: as typed; the first stands in messages. "--bias/--no-bias" turns a switch on and off.
        help: the help text.
        panel: the heading under which --help shows it.
        default: the value where it is not given.
        example: a value that would do, where there is no default.
        allowed: the texts that are allowed, in words.
        pattern: the same as a regular expression.
        choices: the words that are allowed.
        minimum, maximum: the numbers that are allowed.
        placeholder: what stands for the value in the help.
        each: the flag of which a list takes several values.
        rare: whether --help leaves it to --help-all.
        offers: gives the words that a shell completes, where they are not the choices.
    """

    names: tuple[str, ...]
    help: str
    panel: str
    default: Any = None
    example: Any = None
    allowed: str = "a text"
    pattern: str = "(?s:.*)"
    choices: tuple[str, ...] = ()
    minimum: int = 0
    maximum: float = math.inf
    placeholder: str = ""
    each: Any = None
    rare: bool = False
    offers: Callable[[], Iterable[str]] | None = None

    @property
    def name(self) -> str:
        """The name used in messages: what turns a switch on, the first name otherwise."""
        return self.names[0].split("/")[0]

    @property
    def metavar(self) -> str:
        """What stands for the value in the help."""
        return self.placeholder or self.name.lstrip("-").upper()

    def parse(self, typed: str) -> Any:
        """The value that was typed, or the text as it stands: `check` says what is wrong with it."""
        return typed

    def as_typed(self, value: Any) -> list[str]:
        """The flag with a value, as it is typed. A flag whose name has no dashes is an argument."""
        return [self.name, str(value)] if self.name.startswith("-") else [str(value)]

    def complaint(self, value: object) -> str | None:
        """What the value would have to be; None for a value that is allowed."""
        return None if isinstance(value, str) and re.fullmatch(self.pattern, value) else self.allowed

    def hint(self, value: object) -> str | None:
        """What would do instead of a value that is not allowed."""
        return f"try {' '.join(self.as_typed(self.example if self.default is None else self.default))}"

    @property
    def needs(self) -> str:
        """What it must be given, for who gave nothing."""
        return str(self.complaint(None))

    def completions(self, typed: str) -> list[str]:
        """The values that begin with what was typed, as a shell offers them. Without any, it offers names of files."""
        return [each for each in (self.offers() if self.offers else self.choices) if each.startswith(typed)]

    def ends_a_list(self, part: str) -> bool:
        """Whether what follows a part of a list belongs to it, commas and all."""
        return False

    def check(self, value: object) -> None:
        """Raise unless the value is allowed.

        Raises:
            RnnscopeError: what the flag got, what it allows, and a value that would do.
        """
        complaint = self.complaint(value)
        if complaint is not None:
            raise RnnscopeError(f"{self.name} is {quoted(value)}, but it must be {complaint}", self.hint(value))


class Switch(Flag):
    """True or False; takes no value on the command line. A default of None leaves the choice to torch."""

    def as_typed(self, value: Any) -> list[str]:
        return [self.names[0].split("/")[0 if value else 1]]

    def complaint(self, value: object) -> str | None:
        return None if isinstance(value, bool) else "True or False"

    def hint(self, value: object) -> None:
        return None


class Choice(Flag):
    """One of a few words; the help text is followed by them."""

    def complaint(self, value: object) -> str | None:
        return None if value in self.choices else f"one of {', '.join(self.choices)}"

    def hint(self, value: object) -> str | None:
        near = nearest("" if value is None else str(value), self.choices)
        return f"did you mean {self.name} {near}?" if near else super().hint(value)


class Whole(Flag):
    """A whole number."""

    @property
    def metavar(self) -> str:
        return "N"

    def parse(self, typed: str) -> Any:
        return int(typed) if re.fullmatch(r"-?[0-9]{1,1000}", typed) else typed

    def complaint(self, value: object) -> str | None:
        if not isinstance(value, int) or isinstance(value, bool) or value < self.minimum:
            return f"a whole number of at least {self.minimum}"
        return f"at most {self.maximum}" if value > self.maximum else None


class Wholes(Flag):
    """Whole numbers of at least 1, as a tuple; typed with commas between them."""

    def parse(self, typed: str) -> Any:
        is_list = re.fullmatch(r"[0-9]{1,20}(,[0-9]{1,20})*", typed)
        return tuple(map(int, typed.split(","))) if is_list else typed

    def as_typed(self, value: Any) -> list[str]:
        return [self.name, ",".join(map(str, value))]

    def complaint(self, value: object) -> str | None:
        numbers = value if isinstance(value, tuple) and value else (0,)
        allowed = all(type(each) is int and 1 <= each <= self.maximum for each in numbers)
        return None if allowed else "whole numbers of at least 1 with commas between them"


class Number(Flag):
    """A finite number from 0 to a maximum."""

    def parse(self, typed: str) -> Any:
        if typed.isascii() and "_" not in typed:
            with contextlib.suppress(ValueError):
                return float(typed)
        return typed

    def complaint(self, value: object) -> str | None:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and 0 <= value <= min(self.maximum, sys.float_info.max):  # type: ignore[operator]
            return None
        return "a finite number of at least 0" if self.maximum == math.inf else f"a number from 0 to {self.maximum:g}"


class FileName(Flag):
    """The name of a file."""

    @property
    def metavar(self) -> str:
        return "FILE"

    def complaint(self, value: object) -> str | None:
        return None if isinstance(value, str) and value and "\0" not in value else "the name of a file"


class Words(Flag):
    """Any number of words, as a tuple; an argument without a name in front."""

    @property
    def metavar(self) -> str:
        return f"[{self.name}]..."

    def complaint(self, value: object) -> str | None:
        return None if isinstance(value, tuple) else self.allowed


class Repeated(Flag):
    """Texts with a name and a sign =, as a tuple: the flag is typed again for each, and each name once."""

    def gathered(self, typed: list[str]) -> tuple[Any, ...]:
        """The value of a flag that was typed so often."""
        return tuple(typed)

    def as_typed(self, value: Any) -> list[str]:
        return [word for each in value for word in (self.name, each)]

    def hint(self, value: object) -> str:
        return f"try {self.name} {self.example}"

    def check(self, value: object) -> None:
        if not isinstance(value, tuple):
            raise RnnscopeError(
                f"{self.name} is {quoted(value)}, but it must be a tuple of texts", f"try {(self.example,)}"
            )
        seen: dict[str, str] = {}
        for each in value:
            super().check(each)
            name = each.partition("=")[0]
            if name in seen:
                raise RnnscopeError(f"{self.name} gives {name} twice: {seen[name]} and {each}", "give one of the two")
            seen[name] = each


class Listed(Flag):
    """Several values of a flag, as a tuple without repetitions. The flag itself says what each value may be.

    1,2,3           of anything but lists
    1..5            each whole number from the first to the last
    1..1000:10      so many numbers in geometric steps from the first to the last, rounded where they must be whole
    on, off, both   of a switch
    3,2,2/4,1       of lists

    A flag that is repeated, or takes a list anyway, has one value here: all that it is given. What ends a list is the
    last of its values: the flag is typed again for more.
    """

    @property
    def _is_one(self) -> bool:
        """Whether the flag has one value, which holds several texts itself."""
        return isinstance(self.each, (Repeated, Listed))

    @property
    def metavar(self) -> str:
        if self._is_one:
            return str(self.each.metavar)
        return "on|off|both" if isinstance(self.each, Switch) else f"{self.each.metavar},..."

    def gathered(self, typed: list[str]) -> tuple[Any, ...]:
        """The values of a list that was typed in several parts."""
        if self._is_one:
            return (self.each.gathered(typed),)
        return tuple(dict.fromkeys(value for part in typed for value in self.parse(part)))

    @property
    def needs(self) -> str:
        return "on, off or both" if isinstance(self.each, Switch) else str(self.each.needs)

    def hint(self, value: object) -> str | None:
        return f"try {self.name} both" if isinstance(self.each, Switch) else str(self.each.hint(value))

    def completions(self, typed: str) -> list[str]:
        before, separator, last = typed.rpartition(self._separator)
        if isinstance(self.each, Switch):
            return [each for each in _SETTINGS if each.startswith(typed)]
        return [f"{before}{separator}{each}" for each in self.each.completions(last)]

    @property
    def _separator(self) -> str:
        return "/" if isinstance(self.each, Wholes) else ","

    def parse(self, typed: str) -> Any:
        if self._is_one:
            return self.gathered([typed])
        parts = typed.split(self._separator)
        last = next((place for place, part in enumerate(parts) if self.each.ends_a_list(part)), len(parts))
        parts[last:] = [self._separator.join(parts[last:])] if last < len(parts) else []
        return tuple(dict.fromkeys(value for part in parts for value in self._values(part)))

    def as_typed(self, value: Any) -> list[str]:
        if isinstance(self.each, Switch):
            return [self.name, next(name for name, values in _SETTINGS.items() if set(values) == set(value))]
        if isinstance(self.each, Whole):
            return [self.name, ",".join(_runs(value))]
        if self._is_one:
            return list(self.each.as_typed(value[0]))
        lists: list[list[str]] = [[]]
        for each in value:
            if lists[-1] and self.each.ends_a_list(lists[-1][-1]):
                lists.append([])
            lists[-1].append(self.each.as_typed(each)[-1])
        return [word for texts in lists for word in (self.name, self._separator.join(texts))]

    def check(self, value: object) -> None:
        if not isinstance(value, tuple) or not value:
            raise RnnscopeError(f"{self.name} is {quoted(value)}, but it must be a tuple of values")
        if self._is_one and len(value) > 1:
            raise RnnscopeError(
                f"{self.name} has {len(value)} values, but it holds for every configuration", "give one"
            )
        for each in value:
            if isinstance(self.each, Switch) and not isinstance(each, bool):
                raise RnnscopeError(f"{self.name} is {quoted(each)}, but it must be on, off or both")
            self.each.check(each)

    def _values(self, part: str) -> Iterator[Any]:
        """The values of one part of a list; the text itself where it is no value, which `check` refuses."""
        if isinstance(self.each, Switch):
            yield from _SETTINGS.get(part, (part,))
        elif isinstance(self.each, (Whole, Number)) and (found := _RANGE.fullmatch(part)):
            yield from self._range(part, *found.groups())
        else:
            yield self.each.parse(part)

    def _range(self, part: str, first: str, last: str, typed_count: str | None) -> Iterator[Any]:
        start, end, whole = self.each.parse(first), self.each.parse(last), isinstance(self.each, Whole)
        if isinstance(start, str) or isinstance(end, str) or start > end or (typed_count is None and not whole):
            raise self._no_range(part)
        count = end - start + 1 if typed_count is None else int(typed_count)
        if count > MOST_VALUES:
            raise RnnscopeError(
                f"{self.name} {part} lists {count} values, but it may list {MOST_VALUES}", f"try {self.name} {part}:10"
            )
        if typed_count is None:
            yield from range(start, end + 1)
            return
        if start <= 0 or count < 1 or (count == 1 and start != end):
            raise self._no_range(part)
        for step in range(count):
            value = start if step == 0 else end if step == count - 1 else start * (end / start) ** (step / (count - 1))
            yield round(value) if whole else value

    def _no_range(self, part: str) -> RnnscopeError:
        whole = isinstance(self.each, Whole)
        forms = f"FIRST..LAST:COUNT with 0 < FIRST <= LAST and a COUNT of at least 2{', or FIRST..LAST' * whole}"
        example = "1..100:5" if whole else "0.001..0.1:3"
        return RnnscopeError(
            f"{self.name} is {quoted(part)}, but a range must be {forms}", f"try {self.name} {example}"
        )


def _runs(values: tuple[int, ...]) -> Iterator[str]:
    """Whole numbers; those that follow each other are a range."""
    start = 0
    for place in range(1, len(values) + 1):
        if place == len(values) or values[place] != values[place - 1] + 1:
            run = values[start:place]
            yield from (f"{run[0]}..{run[-1]}",) if len(run) >= LONG_RUN else map(str, run)
            start = place


def flagged(flag: Flag) -> Any:
    """A field of a dataclass with a flag, and its default."""
    return field(default=flag.default, metadata={"flag": flag})


def flags_of(cls: Any) -> dict[str, Flag]:
    """The flag of each field of a dataclass."""
    return {each.name: each.metadata["flag"] for each in fields(cls)}


class Flagged:
    """What dataclasses have in common whose fields carry flags, and which check whatever is given."""

    def __post_init__(self) -> None:
        for flag, value in self.given():
            flag.check(value)

    def given(self) -> Iterator[tuple[Flag, Any]]:
        """The flags that are not at their default, each with its value."""
        values = ((flag, getattr(self, name)) for name, flag in flags_of(self).items())
        return ((flag, value) for flag, value in values if value != flag.default)


def listed(flag: Flag, default: Any = None) -> Listed:
    """The flag that takes several values of a flag. A switch is turned on and off under its first name."""
    names = (flag.name,) if isinstance(flag, Switch) else flag.names
    return Listed(names, help_of(flag), flag.panel, default, each=flag, rare=flag.rare)


def help_of(flag: Flag) -> str:
    """The help text, with the choices where there are some."""
    return f"{flag.help} {', '.join(flag.choices)}." if flag.choices else flag.help


def nearest(typed: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The word that was probably meant, in whatever case it was typed; None where none is as near as the cutoff."""
    words = {each.lower(): each for each in known}
    near = get_close_matches(typed.lower(), words, n=1, cutoff=cutoff)
    return words[near[0]] if near else None


MOST_NAMED = 20
"""A message names so many modules or networks at most."""


def quoted_names(names: Sequence[str]) -> str:
    """Names for a message, each in quotes; of many the first ones."""
    return ", ".join(map(repr, names[:MOST_NAMED])) + (", ..." if len(names) > MOST_NAMED else "")


def quoted(value: object) -> str:
    """A value for a message: numbers bare, text quoted and escaped, all of it cut to what fits on a line."""
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    if isinstance(value, int) and value.bit_length() > 1000:
        return "a number of more than 300 digits"
    text = str(value) if isinstance(value, (int, float)) else repr(value)
    return text if len(text) <= 40 else f"{text[:20]}...{text[-10:]}"
