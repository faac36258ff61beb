"""Which configurations a sweep asks about: combinations of lists, some drawn at random, or lines of a file.

A configuration is one comparison, or one check of a module. It is given as flags, as a line of JSON, or as the command
line that makes it. Nothing is run here. Whether a configuration makes sense is found out when it is its turn.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod
from random import Random
from typing import Any

from rnnscope.errors import RnnscopeError
from rnnscope.help.explain import named_deviation
from rnnscope.pages.render import parsed
from rnnscope.spec.flags import Flag, Number, Repeated, Switch, listed, nearest, quoted
from rnnscope.spec.options import AT_BOUNDARIES, CONFIGS, MOST_CONFIGURATIONS, RANDOM, SOURCE_FLAGS
from rnnscope.spec.question import QUESTION_FLAGS
from rnnscope.spec.relations import CHECK, MODULE, SHRINK, WANTED_FLAGS, Wanted
from rnnscope.spec.sides import HOW_FLAGS, LEFT, OWN_FLAGS, RIGHT, is_file
from rnnscope.spec.spec import LARGEST_SEED, SPEC_FLAGS

FIELDS_OF: dict[str, dict[str, Flag]] = {
    "compare": {
        **SPEC_FLAGS,
        **SOURCE_FLAGS,
        "left": LEFT,
        "right": RIGHT,
        **OWN_FLAGS,
        **HOW_FLAGS,
        **QUESTION_FLAGS,
    },
    "check": {**SPEC_FLAGS, "check": MODULE, **WANTED_FLAGS},
}
"""What each command can be asked for, by the names that JSON has."""

FIELDS: dict[str, Flag] = {**FIELDS_OF["compare"], **FIELDS_OF["check"], "check": CHECK}
"""What a sweep can be asked for, by the same names."""

AXES = {
    name: replace(listed(flag), rare=flag.rare or name not in FIELDS_OF["compare"])
    for name, flag in FIELDS.items()
    if flag is not SHRINK  # the whole sweep looks for the smallest
}
"""The same as a sweep takes them: several values each."""

Values = Mapping[str, Any]
"""Values by the names of FIELDS."""

Axes = Mapping[str, tuple[Any, ...]]
"""The values of each flag that was given, by the names of FIELDS."""

_DEFAULTS = {name: flag.default for name, flag in FIELDS.items()}

_OFF = {name: False for name, default in _DEFAULTS.items() if default is False}
"""Switches that are off by default: a command line has no word for off."""

_OF_NETWORK = {name for name, flag in SPEC_FLAGS.items() if flag.panel == SPEC_FLAGS["kind"].panel}
"""What a class is built by: one that is checked must follow what is said of these, also where that is a default."""


@dataclass(frozen=True)
class Configuration:
    """One comparison, or check, that is asked for. Two that ask for the same are equal, however it was said.

    values: those that say something; when a Configuration is made, it leaves out what would hold anyway.
    """

    values: Values

    def __post_init__(self) -> None:
        """Leave out defaults, and sizes that follow.

        Next to a file a default stays, as the file may say otherwise; so may a class of which no second side says it.
        """
        holds = _OFF if self.has_files else _DEFAULTS | _following(self.values)
        if self.command == "check":
            holds = {name: value for name, value in holds.items() if name not in _OF_NETWORK} | _OFF
        said = {}
        for name, value in self.values.items():
            if value is not None and (name not in holds or value != holds[name]):
                said[name] = float(value) if isinstance(FIELDS[name], Number) else value
        object.__setattr__(self, "values", said)

    def __hash__(self) -> int:
        return hash(frozenset(self.values.items()))

    def value(self, name: str) -> Any:
        """The value of a field, given or by default; None for a size that follows from another field."""
        return None if name in _following(self.values) else self.values.get(name, _DEFAULTS[name])

    def of(self, flags: Mapping[str, Flag]) -> dict[str, Any]:
        """The values of some fields, of those that say something."""
        return {name: self.values[name] for name in flags if name in self.values}

    @property
    def command(self) -> str:
        """The command that it is one of: check where it names a module to be checked, compare otherwise."""
        return "compare" if self.values.get("check") is None else "check"

    @property
    def subject(self) -> str:
        """What is asked: the module that is checked, or the right side."""
        return str(self.values.get("check") or self.value("right"))

    @property
    def has_files(self) -> bool:
        """Whether files say what the network or its input is, too."""
        sides = [self.values.get(side) or "" for side in ("left", "right")]
        return any(map(is_file, sides)) or any(self.values.get(name) is not None for name in SOURCE_FLAGS)

    @property
    def written(self) -> Values:
        """The values that its command line is written from: also sizes that follow, but next to files."""
        return self.values if self.has_files else {**_following(self.values), **self.values}

    @cached_property
    def rerun(self) -> str:
        """The command line that compares, or checks, it."""
        words, written = ["rnnscope", self.command], self.written
        for name, flag in FIELDS_OF[self.command].items():
            if name in self.values or (name in written and written[name] != flag.default):
                words += flag.as_typed(written[name])
        return shlex.join(words)


def _following(values: Values) -> dict[str, int]:
    """The sizes that follow from other values, as in a Spec."""
    if lengths := values.get("lengths"):
        return {"seq_len": max(lengths), "batch_size": len(lengths)}
    return {"batch_size": 1} if values.get("unbatched") else {}


FORM = 'write one object a line: {"kind": "lstm"}'
"""What would mend a file of configurations."""


def read_lines(text: str, source: str) -> list[Values]:
    """The values in lines of JSON: objects with the names of FIELDS, or rows of a sweep.

    Raises:
        RnnscopeError: a line that is no such object, with the source and its number, or no line at all.
    """
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                found.append(_read_line(line))
            except RnnscopeError as error:
                raise RnnscopeError(f"{source}, line {number}: {error.message}", error.hint) from error
    if not found:
        raise RnnscopeError(f"{source} has no configuration in it", FORM)
    return found


def _read_line(line: str) -> Values:
    facts = parsed(line, FORM)
    if not isinstance(facts, dict):
        raise RnnscopeError(f"{quoted(line)} is no object", FORM)
    if "schema" in facts and isinstance(facts.get("rerun"), str):
        return read_rerun(facts["rerun"])
    found = {}
    for name, value in facts.items():
        if name not in FIELDS:
            near = nearest(name, FIELDS)
            hint = f"did you mean {near}?" if near else f"use {', '.join(list(FIELDS)[:6])}, ..."
            hint = "give what is in it, or the whole row" if name == "spec" else hint
            raise RnnscopeError(f"there is no {quoted(name)}", hint)
        if value is not None:
            found[name] = tuple(value) if isinstance(value, list) else value
            FIELDS[name].check(found[name])
    return found


_WORDS: dict[str, dict[str, tuple[str, bool | None]]] = {
    command: {
        word: (name, place == 0 if isinstance(flag, Switch) else None)
        for name, flag in fields.items()
        for place, word in enumerate(flag.names[0].split("/"))
    }
    for command, fields in FIELDS_OF.items()
}
"""The field that a word of each command's line gives, and the setting where it is a switch."""


def read_rerun(line: str) -> Values:
    """The values that a line like `rnnscope compare --kind lstm` gives.

    Raises:
        RnnscopeError: another line.
    """
    found: dict[str, Any] = {}
    try:
        program, command, *words = shlex.split(line)
        if program != "rnnscope" or command not in FIELDS_OF:
            raise RnnscopeError(f"{quoted(line)} is no rnnscope {' or '.join(FIELDS_OF)}")
        rest = iter(words)
        for word in rest:
            if command == "check" and not word.startswith("-"):
                found["check"] = word
                CHECK.check(word)
                continue
            name, setting = _WORDS[command][word]
            value = FIELDS[name].parse(next(rest)) if setting is None else setting
            found[name] = (*found.get(name, ()), value) if isinstance(FIELDS[name], Repeated) else value
            FIELDS[name].check(found[name])
        if command == "check" and "check" not in found:
            raise ValueError(line)
    except (ValueError, KeyError, StopIteration) as error:
        raise RnnscopeError(f"{quoted(line)} asks nothing that is known here") from error
    return found


ONE_THREAD = {"threads": 1}
"""The default of a sweep: how sums are split over threads moves their last bits, and a row must not depend on how many
workers share a machine."""


def _configuration(values: Values) -> Configuration:
    """One of a sweep, with what a sweep says besides."""
    is_check = values.get("check") is not None
    return Configuration({**ONE_THREAD, **values, **({"shrink": False} if is_check else {})})


def plan_of(axes: Axes, random: int | None = None, lines: Sequence[Values] = ({},)) -> list[Configuration]:
    """The configurations that the flags of a sweep ask for, each once.

    Args:
        axes: the values of each flag that was given. Every combination is made; the last one changes first.
        random: how many to draw instead, each with a seed of its own. The first ones stay where more are drawn.
        lines: configurations that were read. What the axes say goes before what a line says.

    Raises:
        RnnscopeError: what `check_axes` refuses.
    """
    check_axes(axes, random, len(lines))
    if random is not None:
        check_together(axes)
        return [_configuration(_drawn(axes, number)) for number in range(random)]
    found: dict[Configuration, None] = {}
    for line in lines:
        lists = {**{name: (value,) for name, value in line.items()}, **axes}
        check_together(lists)
        for values in product(*lists.values()):
            found[_configuration(dict(zip(lists, values, strict=True)))] = None
    if len({each.command for each in found}) > 1:
        raise RnnscopeError(
            f"some lines of {CONFIGS.name} check a module, and others compare two sides", "sweep each by themselves"
        )
    return list(found)


def _drawn(axes: Axes, number: int) -> dict[str, Any]:
    (seed,) = axes.get("seed", (0,))
    generator = Random(f"{seed}/{number}")
    found = {name: generator.choice(values) for name, values in axes.items() if name != "seed"}
    return found | {"seed": (seed + number) % (LARGEST_SEED + 1)}


def check_axes(axes: Axes, random: int | None, lines: int = 1) -> None:
    """Raise unless a sweep can be made of so many lines and the values of each flag.

    Raises:
        RnnscopeError: a value that is not allowed, more configurations than can be kept, or several seeds to draw with.
    """
    for name, values in axes.items():
        if name not in AXES:
            raise RnnscopeError(f"there is nothing called {name} to list", f"use {', '.join(list(AXES)[:6])}, ...")
        AXES[name].check(values)
        for value in values if name in ("left", "right") else ():
            named_deviation(FIELDS[name], value)
    many = lines * prod(map(len, axes.values()))
    if random is None and many > MOST_CONFIGURATIONS:
        raise RnnscopeError(
            f"these lists make {many} configurations, but a sweep may have {MOST_CONFIGURATIONS}",
            "add --random 1000 to draw some of them",
        )
    if random is not None and len(axes.get("seed", (0,))) > 1:
        raise RnnscopeError("--random draws with one --seed, and each configuration gets a seed of its own", "give one")


def check_together(axes: Axes) -> None:
    """Raise unless all that is given is said of a comparison, or all of it of a check.

    Raises:
        RnnscopeError: two flags that do not go together, or one that needs another.
    """
    is_check = any(value is not None for value in axes.get("check", ()))
    known = FIELDS_OF["check" if is_check else "compare"]
    given = next((FIELDS[name].name for name in axes if name not in known and name != "check"), None)
    if given is not None:
        if is_check:
            raise RnnscopeError(
                f"{CHECK.name} asks one module, and {given} is a flag of comparisons", "leave one of the two out"
            )
        raise RnnscopeError(f"{given} is given without {CHECK.name}", f"add {CHECK.name} FILE.py:Class")
    if is_check:
        Wanted(**{name: axes[name][0] for name in WANTED_FLAGS if name in axes})


def check_flags(
    axes: Axes,
    random: int | None,
    configs: str | None,
    out: str | None,
    resume: bool,
    report: str | None,
    at_boundaries: bool = False,
) -> None:
    """Raise unless the flags of a sweep go together, as far as can be told before lines are read.

    Raises:
        RnnscopeError: two that do not, one that needs another, or what `check_axes` refuses.
    """
    if report is not None:
        own = {"--random": random, "--configs": configs, "--out": out, "--resume": resume or None}
        own |= {AT_BOUNDARIES.name: at_boundaries or None}
        given = [*(AXES[name].name for name in axes), *(name for name, value in own.items() if value is not None)]
        if given:
            raise RnnscopeError(f"--report runs nothing, and {given[0]} is given", "leave one of the two out")
        return
    if random is not None and configs is not None:
        raise RnnscopeError("--random draws configurations, and --configs brings them", "give one of the two")
    if out == "-":
        raise RnnscopeError("--out is -, and stdout gets the summary", "name a file")
    if resume and out is None:
        raise RnnscopeError("--resume is given without --out", "add --out FILE")
    check_axes(axes, random)
    if configs is None or "check" in axes:  # lines may name a module
        check_together(axes)


def sweep_line(axes: Axes, random: int | None, configs: str | None, at_boundaries: bool = False) -> str:
    """The command line of a sweep, less the file that it writes."""
    words = ["rnnscope", "sweep"]
    for name, values in axes.items():
        words += AXES[name].as_typed(values)
    words += [] if random is None else RANDOM.as_typed(random)
    words += [] if configs is None else CONFIGS.as_typed(configs)
    words += [AT_BOUNDARIES.name] if at_boundaries else []
    return shlex.join(words)
