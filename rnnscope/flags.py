"""What a flag is: its names, its default, which values it allows and what is said of the others.

A flag is declared once, where it belongs: with its field of the Spec, with what it chooses, or with its command. The
command line, the error messages and the rerun line are read off that declaration.
"""

import contextlib
import math
import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from rnnscope.errors import RnnscopeError


@dataclass(frozen=True)
class Flag:
    """One flag. Without choices, minimum, number or pattern it is a switch, whose value is True or False.

    Args:
        names: as typed; the first stands in messages. "--bias/--no-bias" turns a switch on and off.
        help: the help text; choices are appended to it.
        panel: the heading under which --help shows it.
        default: what holds where it is not given.
        example: a value that would do, where there is no default.
        choices: the words that are allowed.
        minimum, maximum: the limits of a whole number.
        number: a finite number of at least 0.
        pattern, forms: a regular expression, and the forms that it stands for in words.
    """

    names: tuple[str, ...]
    help: str
    panel: str
    default: Any = None
    example: Any = None
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    number: bool = False
    pattern: str | None = None
    forms: str = ""

    @property
    def name(self) -> str:
        """The name used in messages: what turns a switch on, the first name otherwise."""
        return self.names[0].split("/")[0]

    @property
    def is_switch(self) -> bool:
        """Whether the flag takes no value."""
        return not (self.choices or self.number or self.pattern) and self.minimum is None

    def parse(self, typed: str | bool | None) -> Any:
        """The value that was typed, or the text as it stands: `check` says what is wrong with it."""
        if not isinstance(typed, str):
            return typed
        if self.minimum is not None and re.fullmatch(r"-?[0-9]{1,1000}", typed):
            return int(typed)
        if self.number and typed.isascii() and "_" not in typed:
            with contextlib.suppress(ValueError):
                return float(typed)
        return typed

    def words(self, value: object) -> list[str]:
        """The flag with a value, as it is typed."""
        if self.is_switch:
            return [self.names[0].split("/")[0 if value else 1]]
        return [self.name, str(value)]

    def check(self, value: object) -> None:
        """Do nothing for a value that is allowed.

        Raises:
            RnnscopeError: what the flag got, what it allows, and a value that would do.
        """
        must_be = self._objection(value)
        if must_be is None:
            return
        near = get_close_matches(str(value), self.choices, n=1, cutoff=0.5)
        example = self.example if self.default is None else self.default
        hint = f"did you mean {self.name} {near[0]}?" if near else f"try {self.name} {example}"
        raise RnnscopeError(
            f"{self.name} is {shown(value)}, but it must be {must_be}", None if self.is_switch else hint
        )

    def _objection(self, value: object) -> str | None:
        """What the value would have to be, or None where it is that."""
        if self.choices:
            return None if value in self.choices else f"one of {', '.join(self.choices)}"
        if self.minimum is not None:
            if type(value) is not int or value < self.minimum:
                return f"a whole number of at least {self.minimum}"
            return f"at most {self.maximum}" if self.maximum is not None and value > self.maximum else None
        if self.number:
            if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf:
                return None
            return "a finite number of at least 0"
        if self.pattern:
            return None if isinstance(value, str) and re.fullmatch(self.pattern, value) else f"one of {self.forms}"
        return None if isinstance(value, bool) else "True or False"


def shown(value: object) -> str:
    """A value for a message: numbers bare, text quoted and escaped, all of it cut to what fits on a line."""
    text = str(value) if isinstance(value, (int, float)) else repr(value)
    return text if len(text) <= 40 else f"{text[:20]}...{text[-10:]}"
