"""A configuration: one comparison that is asked for, as flags, as a line of JSON, or as the command line that makes it.

It is known by that command line, in which every flag has its place: two ways to say the same have one line. Nothing is
run here, and whether a configuration makes sense is found out when it is its turn.
"""

import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from rnnscope.errors import RnnscopeError
from rnnscope.pages.strict_json import parsed
from rnnscope.spec.flags import Default, Flag, Switch, shown
from rnnscope.spec.listed import listed
from rnnscope.spec.question import QUESTION_FLAGS, Question
from rnnscope.spec.sides import LEFT, RECORDED, RIGHT
from rnnscope.spec.sources import SOURCE_FLAGS, Sources
from rnnscope.spec.spec import SPEC_FLAGS, Spec

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
            says = self.has_files or (isinstance(flag.default, Default) and not makes_sense)
            if value is not None and (value != flag.default or (says and value is not False)):
                words += flag.words(value)
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
        raise RnnscopeError(f"{shown(line)} is no object", _FORM)
    if "schema" in facts and isinstance(facts.get("rerun"), str):
        return read_rerun(facts["rerun"])
    found = {}
    for name, value in facts.items():
        if name not in FIELDS:
            near = get_close_matches(name, FIELDS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"use {', '.join(list(FIELDS)[:6])}, ..."
            hint = "give what is in it, or the whole row" if name == "spec" else hint
            raise RnnscopeError(f"there is no {shown(name)}", hint)
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
        raise RnnscopeError(f"{shown(line)} compares nothing that is known here") from error
    if (name_of_program, command) != ("rnnscope", "compare"):
        raise RnnscopeError(f"{shown(line)} is no rnnscope compare")
    return found
