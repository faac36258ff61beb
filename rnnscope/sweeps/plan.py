"""Which configurations a sweep compares: every combination of some lists, some drawn at random, or lines of a file.

Each has a number, by which it is made when it is its turn. Nothing is run here.
"""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

from rnnscope.errors import RnnscopeError
from rnnscope.spec.flags import FileName, Switch, Whole
from rnnscope.spec.spec import LARGEST_SEED
from rnnscope.sweeps.configurations import AXES, Configuration, Values

MOST_CONFIGURATIONS = 1_000_000

RANDOM = Whole(
    ("--random",),
    "Draw so many, each with a seed of its own, instead of every combination.",
    "Sweep",
    minimum=1,
    maximum=MOST_CONFIGURATIONS,
    example=100,
)
CONFIGS = FileName(("--configs",), "Take them from lines of JSON; - is stdin.", "Sweep", example="configs.jsonl")
ROWS = FileName(("--out",), "Add a line of JSON for each to a file.", "Sweep", example="sweep.jsonl")
RESUME = Switch(("--resume",), "Go on with that file, and leave out what it has.", "Sweep", False)
REPORT = FileName(("--report",), "Run nothing; tell again what a file says.", "Sweep", example="sweep.jsonl")

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
        words += AXES[name].words(values)
    words += RANDOM.words(count) if count is not None else []
    return shlex.join(words + (CONFIGS.words(configs) if configs is not None else []))
