"""A flag that takes several values: a list, a range, both settings of a switch. What each may be, its own flag says.

1,2,3           of anything but lists
1..5            each whole number from the first to the last
1..1000:10      so many numbers in geometric steps from the first to the last, rounded where they must be whole
on, off, both   of a switch
3,2,2/4,1       of lists
"""

import re
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any

from rnnscope.errors import RnnscopeError
from rnnscope.spec.flags import Choice, Flag, Number, Switch, Whole, Wholes, shown

MOST_VALUES = 1_000_000
"""A flag may list this many values."""

_NUMBER = r"((?:[0-9]{1,20}|[0-9]*\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)"
_RANGE = re.compile(rf"{_NUMBER}\.\.{_NUMBER}(?::([0-9]{{1,20}}))?")

LONG_RUN = 8
"""Whole numbers that follow each other are written as a range from so many on."""

_SETTINGS = {"off": (False,), "on": (True,), "both": (False, True)}


@dataclass(frozen=True, eq=False, repr=False)
class Listed(Flag):
    """Several values of a flag, as a tuple without repetitions."""

    _: KW_ONLY
    each: Flag

    @property
    def metavar(self) -> str:
        return "on|off|both" if isinstance(self.each, Switch) else f"{self.each.metavar},..."

    def parse(self, typed: str) -> Any:
        parts = typed.split("/" if isinstance(self.each, Wholes) else ",")
        return tuple(dict.fromkeys(value for part in parts for value in self._values(part)))

    def words(self, value: Any) -> list[str]:
        if isinstance(self.each, Switch):
            setting = next(name for name, values in _SETTINGS.items() if set(values) == set(value))
            return [self.name, setting]
        if isinstance(self.each, Whole):
            return [self.name, ",".join(_runs(value))]
        return [self.name, ("/" if isinstance(self.each, Wholes) else ",").join(self.each.words(v)[-1] for v in value)]

    def check(self, value: object) -> None:
        if not isinstance(value, tuple) or not value:
            raise RnnscopeError(f"{self.name} is {shown(value)}, but it must be a tuple of values")
        for each in value:
            if isinstance(self.each, Switch) and not isinstance(each, bool):
                raise RnnscopeError(f"{self.name} is {shown(each)}, but it must be on, off or both")
            self.each.check(each)

    def _values(self, part: str) -> Iterator[Any]:
        """The values that one part of a list stands for; the text where it is none, which `check` refuses."""
        if isinstance(self.each, Switch):
            yield from _SETTINGS.get(part, (part,))
        elif isinstance(self.each, (Whole, Number)) and (found := _RANGE.fullmatch(part)):
            yield from self._range(part, *found.groups())
        else:
            yield self.each.parse(part)

    def _range(self, part: str, first: str, last: str, count: str | None) -> Iterator[Any]:
        start, end = self.each.parse(first), self.each.parse(last)
        whole = isinstance(self.each, Whole)
        if isinstance(start, str) or isinstance(end, str) or start > end:
            raise self._no_range(part)
        if count is None:
            if not whole:
                raise self._no_range(part)
            self._check_count(part, end - start + 1)
            yield from range(start, end + 1)
            return
        steps = int(count) - 1
        self._check_count(part, steps + 1)
        if start <= 0 or steps < 0 or (steps == 0 and start != end):
            raise self._no_range(part)
        for step in range(steps + 1):
            value = start if step == 0 else end if step == steps else start * (end / start) ** (step / steps)
            yield round(value) if whole else value

    def _check_count(self, part: str, count: int) -> None:
        if count > MOST_VALUES:
            raise RnnscopeError(
                f"{self.name} {part} lists {count} values, but it may list {MOST_VALUES}", f"try {self.name} {part}:10"
            )

    def _no_range(self, part: str) -> RnnscopeError:
        whole = isinstance(self.each, Whole)
        forms = "FIRST..LAST:COUNT with 0 < FIRST <= LAST and a COUNT of at least 2" + (
            ", or FIRST..LAST" if whole else ""
        )
        example = "1..100:5" if whole else "0.001..0.1:3"
        return RnnscopeError(f"{self.name} is {shown(part)}, but a range must be {forms}", f"try {self.name} {example}")


def _runs(values: tuple[int, ...]) -> Iterator[str]:
    """Whole numbers, of which those that follow each other are a range."""
    start = 0
    for place in range(1, len(values) + 1):
        if place == len(values) or values[place] != values[place - 1] + 1:
            run = values[start:place]
            yield from (f"{run[0]}..{run[-1]}",) if len(run) >= LONG_RUN else map(str, run)
            start = place


def listed(flag: Flag) -> Listed:
    """The flag that takes several values of a flag. A switch is turned on and off under its first name."""
    names = (flag.name,) if isinstance(flag, Switch) else flag.names
    help_text = f"{flag.help} {', '.join(flag.choices)}." if isinstance(flag, Choice) else flag.help
    return Listed(names, help_text, flag.panel, each=flag)
