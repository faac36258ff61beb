"""Which configurations a sweep compares: combinations of lists, some drawn at random, or lines of a file.

A configuration is one comparison that is asked for, as flags, as a line of JSON, or as the command line that makes it.
Nothing is run here, and whether a configuration makes sense is found out when it is its turn.
"""

import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from math import prod
from typing import Any, Protocol

from rnnscope.errors import RnnscopeError
from rnnscope.pages.render import parsed
from rnnscope.spec.flags import Flag, Switch, listed, quoted
from rnnscope.spec.options import (
    CONFIGS,
    LEFT,
    MOST_CONFIGURATIONS,
    RANDOM,
    RECORDED,
    REPORT,
    RESUME,
    RIGHT,
    ROWS,
    SOURCE_FLAGS,
    Sources,
)
from rnnscope.spec.question import QUESTION_FLAGS, Question
from rnnscope.spec.spec import LARGEST_SEED, SPEC_FLAGS, Spec

FIELDS: dict[str, Flag] = {**SPEC_FLAGS, **SOURCE_FLAGS, "left": LEFT, "right": RIGHT, **QUESTION_FLAGS}
"""What a comparison can be asked for, by the names that JSON has."""


AXES = {name: listed(flag) for name, flag in FIELDS.items()}
"""The same as a sweep takes them: several values each."""


_FORM = 'write one object a line: {"kind": "lstm"}'


Values = Mapping[str, Any]
"""Values by the names of FIELDS: those that were given."""


@dataclass(frozen=True, eq=False, repr=False)
class Configuration:
    """One comparison that is asked for."""

    given: Values

    @property
    def left(self) -> str:
        return str(self.given.get("left", LEFT.default))

    @property
    def right(self) -> str:
        return str(self.given.get("right", RIGHT.default))

    @property
    def sources(self) -> Sources:
        """Its files.

        Raises:
            RnnscopeError: two flags that do not go together.
        """
        return Sources(**self._those_of(SOURCE_FLAGS))

    @property
    def question(self) -> Question:
        """What is asked of both sides.

        Raises:
            RnnscopeError: two flags that do not go together.
        """
        return Question(**self._those_of(QUESTION_FLAGS))

    @property
    def of_spec(self) -> dict[str, Any]:
        """The fields of the Spec that were given."""
        return self._those_of(SPEC_FLAGS)

    @property
    def has_files(self) -> bool:
        """Whether files say what the Spec is, too."""
        recorded = self.left.startswith(RECORDED) or self.right.startswith(RECORDED)
        return recorded or any(name in self.given for name in SOURCE_FLAGS)

    @cached_property
    def rerun(self) -> str:
        """The command line that compares it.

        A flag at its default is left out where it says nothing: not where files say something else, nor where a size
        that was given contradicts what it must follow. A switch that is off by default has no word for it.
        """
        values, makes_sense = dict(self.given), False
        if not self.has_files:
            with suppress(RnnscopeError):
                values |= vars(Spec(**self.of_spec))
                makes_sense = True
        words = ["rnnscope", "compare"]
        for name, flag in FIELDS.items():
            value = values.get(name)
            says = self.has_files or (name in ("seq_len", "batch_size") and not makes_sense)
            if value is not None and (value != flag.default or (says and value is not False)):
                words += flag.as_typed(value)
        return shlex.join(words)

    def _those_of(self, flags: Iterable[str]) -> dict[str, Any]:
        return {name: self.given[name] for name in flags if name in self.given}


def read_lines(text: str, source: str) -> list[Values]:
    """The configurations in lines of JSON: objects with the names of FIELDS, or rows of a sweep.

    Args:
        source: where the lines are from, for messages.

    Raises:
        RnnscopeError: a line that is no such object, with its number, or no line at all.
    """
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                found.append(_read_line(line))
            except RnnscopeError as error:
                raise RnnscopeError(f"{source}, line {number}: {error.message}", error.hint) from error
    if not found:
        raise RnnscopeError(f"{source} has no configuration in it", _FORM)
    return found


def _read_line(line: str) -> Values:
    facts = parsed(line, _FORM)
    if not isinstance(facts, dict):
        raise RnnscopeError(f"{quoted(line)} is no object", _FORM)
    if "schema" in facts and isinstance(facts.get("rerun"), str):
        return read_rerun(facts["rerun"])
    found = {}
    for name, value in facts.items():
        if name not in FIELDS:
            near = get_close_matches(name, FIELDS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"use {', '.join(list(FIELDS)[:6])}, ..."
            hint = "give what is in it, or the whole row" if name == "spec" else hint
            raise RnnscopeError(f"there is no {quoted(name)}", hint)
        if value is not None:
            found[name] = tuple(value) if isinstance(value, list) else value
            FIELDS[name].check(found[name])
    return found


_WORDS: dict[str, tuple[str, bool | None]] = {
    word: (name, place == 0 if isinstance(flag, Switch) else None)
    for name, flag in FIELDS.items()
    for place, word in enumerate(flag.names[0].split("/"))
}
"""The field that a word of a command line gives, and the setting where it is a switch."""


def read_rerun(line: str) -> Values:
    """The configuration that a line like `rnnscope compare --kind lstm` compares.

    Raises:
        RnnscopeError: another line.
    """
    found: dict[str, Any] = {}
    try:
        name_of_program, command, *words = shlex.split(line)
        rest = iter(words)
        for word in rest:
            name, setting = _WORDS[word]
            found[name] = FIELDS[name].parse(next(rest)) if setting is None else setting
            FIELDS[name].check(found[name])
    except (ValueError, KeyError, StopIteration) as error:
        raise RnnscopeError(f"{quoted(line)} compares nothing that is known here") from error
    if (name_of_program, command) != ("rnnscope", "compare"):
        raise RnnscopeError(f"{quoted(line)} is no rnnscope compare")
    return found


ONE_THREAD = {"threads": 1}
"""Of each configuration that does not say otherwise: how sums are split over threads moves their last bits, and a row
must not depend on how many workers share a machine."""


Axes = Mapping[str, tuple[Any, ...]]
"""The values of each flag that was given, by the names of FIELDS."""


class Plan(Protocol):
    """Configurations by their number, each made when it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Configuration: ...


@dataclass(frozen=True, eq=False, repr=False)
class Combinations:
    """Every combination of the values of some axes; those of the last axis follow each other."""

    axes: Axes

    @property
    def count(self) -> int:
        """How many there are, which may be more than `len` can say."""
        return prod(map(len, self.axes.values()))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int, /) -> Configuration:
        if not 0 <= number < len(self):
            raise IndexError(number)
        found: dict[str, Any] = {}
        for name, values in reversed(list(self.axes.items())):
            number, place = divmod(number, len(values))
            found[name] = values[place]
        return Configuration(ONE_THREAD | found)


@dataclass(frozen=True, eq=False, repr=False)
class Drawn:
    """So many configurations at random: of each axis one of its values, and a seed of its own.

    The first ones stay the same where more are drawn.
    """

    axes: Axes
    count: int
    seed: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int, /) -> Configuration:
        if not 0 <= number < self.count:
            raise IndexError(number)
        from random import Random  # which takes a while to import

        generator = Random(f"{self.seed}/{number}")
        found = {name: generator.choice(values) for name, values in self.axes.items()}
        return Configuration(ONE_THREAD | found | {"seed": (self.seed + number) % (LARGEST_SEED + 1)})


def plan_of(axes: Axes, count: int | None = None, lines: Iterable[Values] | None = None) -> Plan:
    """What the flags of a sweep ask for.

    Args:
        axes: the values of each flag that was given.
        count: how many to draw at random; None for every combination.
        lines: configurations that were read; what the axes say goes before what a line says. None where none were.

    Raises:
        RnnscopeError: a value that is not allowed, more configurations than can be kept, or several seeds to draw with.
    """
    for name, values in axes.items():
        if name not in AXES:
            raise RnnscopeError(f"there is nothing called {name} to list", f"use {', '.join(list(AXES)[:6])}, ...")
        AXES[name].check(values)
    if count is not None:
        seeds = axes.get("seed", (0,))
        if len(seeds) > 1:
            raise RnnscopeError(
                "--random draws with one --seed, and each configuration gets a seed of its own", "give one"
            )
        return Drawn({name: values for name, values in axes.items() if name != "seed"}, count, seeds[0])
    of_lines = ({name: (value,) for name, value in line.items()} for line in lines or ({},))
    parts = [Combinations({**own, **axes}) for own in of_lines]
    many = sum(part.count for part in parts)
    if many > MOST_CONFIGURATIONS:
        raise RnnscopeError(
            f"these lists make {many} configurations, but a sweep may have {MOST_CONFIGURATIONS}",
            "add --random 1000 to draw some of them",
        )
    return parts[0] if len(parts) == 1 else [part[number] for part in parts for number in range(len(part))]


def check_flags(
    axes: Axes, count: int | None, configs: str | None, out: str | None, resume: bool, report: str | None
) -> None:
    """Do nothing where the flags of a sweep go together, as far as can be told before lines are read.

    Raises:
        RnnscopeError: two that do not, one that needs another, or what `plan_of` refuses.
    """
    if report is not None:
        others = {**{AXES[name].name: True for name in axes}, RANDOM.name: count, CONFIGS.name: configs, ROWS.name: out}
        given = next((name for name, value in {**others, RESUME.name: resume or None}.items() if value is not None), "")
        if given:
            raise RnnscopeError(f"{REPORT.name} runs nothing, and {given} is given", "leave one of the two out")
        return
    if count is not None and configs is not None:
        raise RnnscopeError(
            f"{RANDOM.name} draws configurations, and {CONFIGS.name} brings them", "give one of the two"
        )
    if out == "-":
        raise RnnscopeError(f"{ROWS.name} is -, and stdout gets the summary", "name a file")
    if resume and out is None:
        raise RnnscopeError(f"{RESUME.name} is given without {ROWS.name}", f"add {ROWS.name} FILE")
    plan_of(axes, count)


def sweep_line(axes: Axes, count: int | None, configs: str | None) -> str:
    """The command line of a sweep, less the file that it writes."""
    words = ["rnnscope", "sweep"]
    for name, values in axes.items():
        words += AXES[name].as_typed(values)
    words += RANDOM.as_typed(count) if count is not None else []
    return shlex.join(words + (CONFIGS.as_typed(configs) if configs is not None else []))
