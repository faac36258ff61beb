"""What a sweep found, row by row in short, and counted for each value of each flag. Facts alone; torch is not imported.

A summary is told by the rows alone, whatever order they come in, so that it can be told again from the file of a sweep.
"""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import NoneType
from typing import Any, ClassVar

from rnnscope.errors import RnnscopeError
from rnnscope.pages.page import Page
from rnnscope.pages.render import Result
from rnnscope.spec.flags import Choice, Number, Switch, Whole
from rnnscope.spec.options import REPORT
from rnnscope.spec.question import nan_last
from rnnscope.sweeps.plan import FIELDS, Values, read_rerun
from rnnscope.sweeps.rows import read_rows

OUTCOMES = ("identical", "equivalent", "different", "undecided", "not_comparable", "failed")
"""The verdict of a row, or its status where it has none."""

MOST_GROUPS = 12
"""A flag with more values is told in groups."""

GROUPS = 8

_SIZES = ("seq_len", "batch_size")
"""They follow where there are lengths, and are no values then."""


@dataclass(frozen=True)
class Finding:
    """What a row says, in short.

    values: of the flags that were given; None of a size that follows from another flag. outcome: one of OUTCOMES.
    max_abs: the greatest difference of all outputs, and gradients where they were compared. size: how much there is to
    compute, for an order.
    """

    rerun: str
    values: Values
    outcome: str
    cause: str | None
    max_abs: float | None
    message: str | None
    size: int


def finding(row: Mapping[str, Any]) -> Finding:
    """What a row says.

    Raises:
        RnnscopeError: what is no row.
    """
    try:
        values = read_rerun(row["rerun"])
        follows = ("seq_len", "batch_size") if "lengths" in values else ("batch_size",) if "unbatched" in values else ()
        differences = (*row.get("outputs", ()), *row.get("gradients", ()))
        has_figures = differences and all(each["max_abs"] is not None for each in differences)
        is_compared = row["status"] == "compared"
        outcome = row["verdict"] if is_compared else row["status"]
        found = Finding(
            rerun=row["rerun"],
            values={**values, **dict.fromkeys(follows)},
            outcome=outcome,
            cause=row.get("cause"),
            max_abs=max((float(each["max_abs"]) for each in differences), key=nan_last) if has_figures else None,
            message=row["message"],
            size=_size(row["spec"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RnnscopeError("no row of a sweep", "name a file that rnnscope sweep --out wrote") from error
    if outcome not in (OUTCOMES[:4] if is_compared else OUTCOMES[4:]) or not isinstance(found.message, (str, NoneType)):
        raise RnnscopeError("no row of a sweep", "name a file that rnnscope sweep --out wrote")
    return found


def reported(path: str) -> "Sweep":
    """What the rows of a file say together; nothing is run.

    Raises:
        RnnscopeError: a file that cannot be read, or that is no file of rows.
    """
    findings: dict[str, Finding] = {}
    read_rows(path, lambda row: findings.update({row["rerun"]: finding(row)}))
    if not findings:
        raise RnnscopeError(f"{path} has no rows in it", "name a file that rnnscope sweep --out wrote")
    return Sweep(tuple(findings.values()), shlex.join(["rnnscope", "sweep", *REPORT.as_typed(path)]))


def _size(spec: Mapping[str, Any]) -> int:
    """Steps of all items, times layers, times what a step multiplies; of a Spec that may contradict itself."""
    layers, hidden, width, steps, items = (
        int(spec[name] or 1) for name in ("num_layers", "hidden_size", "input_size", "seq_len", "batch_size")
    )
    return items * steps * layers * hidden * (hidden + width)


@dataclass(frozen=True)
class Tally:
    """How the configurations ended that have some values of a flag; of all of them where it has no flag.

    counts: by the names of OUTCOMES. max_abs: the greatest difference of all.
    """

    flag: str
    value: str
    counts: Mapping[str, int]
    max_abs: float | None


@dataclass(frozen=True, eq=False, repr=False)
class Sweep(Result):
    """What was found of all configurations.

    smallest: the command line of the smallest configuration that still differs as the first one does; None where none
    was looked for. workers: how many processes of torchrun shared the work; None where it was not torchrun.
    """

    findings: tuple[Finding, ...]
    line: str
    smallest: str | None = None
    workers: int | None = None
    torch_version: str | None = None
    device_name: None = None

    command: ClassVar[str] = "sweep"

    @property
    def rerun(self) -> str:
        """The command line that gives this again, less the file that it wrote."""
        return self.line

    @cached_property
    def total(self) -> Tally:
        """Of all configurations."""
        return _tally("", "all", self.findings)

    @property
    def tallies(self) -> Iterator[Tally]:
        """For each flag that has several values, and each of them."""
        axes = {
            name: found
            for name in FIELDS
            if len(found := self._by_value(name)) > 1 + (None in found and name in _SIZES)
        }
        if len(axes) > 1 and len(axes.get("seed", ())) == len(self.findings):
            del axes["seed"]  # each was drawn with its own
        for name, found in axes.items():
            for value, findings in _grouped(name, found):
                yield _tally(FIELDS[name].name, value, findings)

    def _by_value(self, name: str) -> dict[Any, list[Finding]]:
        found: dict[Any, list[Finding]] = {}
        for each in self.findings:
            found.setdefault(each.values.get(name, FIELDS[name].default), []).append(each)
        return found

    @property
    def first_different(self) -> Finding | None:
        """Of those that differ by function the smallest, so that it does not matter in which order they were run."""
        found = [each for each in self.findings if each.outcome == "different" and each.cause == "function"]
        return min(found, key=lambda each: (each.size, each.rerun), default=None)

    @property
    def messages(self) -> list[tuple[str, str, int]]:
        """Why there was no comparison: outcome, reason, and of how many; the most frequent first."""
        found = Counter((each.outcome, each.message) for each in self.findings if each.message is not None)
        return sorted(((*key, count) for key, count in found.items()), key=lambda each: (-each[2], each))

    @property
    def verdict(self) -> str:
        """different where one is, else undecided where one is, or failed, or where nothing was compared, else same."""
        counts = self.total.counts
        if counts["different"]:
            return "different"
        if counts["undecided"] or counts["failed"] or not counts["identical"] + counts["equivalent"]:
            return "undecided"
        return "same"

    @property
    def exit_code(self) -> int:
        """0 where all that could be compared are the same, 1 where one differs, 2 where that cannot be told of all.

        Under torchrun 0: it takes any other code of a worker for a crash.
        """
        return 0 if self.workers is not None else {"same": 0, "different": 1, "undecided": 2}[self.verdict]

    def page(self) -> Page:
        """The tables and sentences of `rnnscope sweep`."""
        from rnnscope.sweeps.page import page_of_sweep

        return page_of_sweep(self)

    def facts(self) -> dict[str, Any]:
        """What programs get of it."""
        from rnnscope.sweeps.page import document_of_sweep

        return document_of_sweep(self)

    def records(self) -> Iterator[dict[str, Any]]:
        """One record a configuration."""
        from rnnscope.sweeps.page import finding_record

        return map(finding_record, self.findings)


def _tally(flag: str, value: str, findings: "tuple[Finding, ...] | list[Finding]") -> Tally:
    counts = Counter(each.outcome for each in findings)
    apart = [each.max_abs for each in findings if each.max_abs is not None]
    return Tally(flag, value, {name: counts[name] for name in OUTCOMES}, max(apart, key=nan_last, default=None))


def _grouped(name: str, found: dict[Any, list[Finding]]) -> Iterator[tuple[str, list[Finding]]]:
    """The values of a flag in their order, many numbers as ranges, of many others the first ones and the rest."""
    values = sorted(found, key=lambda value: _place(name, value))
    is_number = isinstance(FIELDS[name], (Whole, Number)) and None not in found
    if len(values) <= MOST_GROUPS:
        groups = [[value] for value in values]
    elif is_number:
        groups = [values[len(values) * n // GROUPS : len(values) * (n + 1) // GROUPS] for n in range(GROUPS)]
    else:
        groups = [*([value] for value in values[: MOST_GROUPS - 1]), values[MOST_GROUPS - 1 :]]
    for group in groups:
        label = _word(name, group[0])
        if len(group) > 1:
            label = f"{label} to {_word(name, group[-1])}" if is_number else f"{len(group)} others"
        yield label, [each for value in group for each in found[value]]


def _place(name: str, value: Any) -> tuple[Any, ...]:
    """A key for the order of values: nothing first, then as choices are listed, numbers grow, words are sorted."""
    flag = FIELDS[name]
    if value is None:
        return (0,)
    return (1, flag.choices.index(value)) if isinstance(flag, Choice) else (1, value)


def _word(name: str, value: Any) -> str:
    if value is None:
        return "-"
    flag = FIELDS[name]
    return ("off", "on")[value] if isinstance(flag, Switch) else flag.as_typed(value)[-1]
