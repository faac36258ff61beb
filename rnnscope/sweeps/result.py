"""What a sweep found, counted for each value of each flag, and the page that tells it. torch is not imported.

This is what every sweep tells, and how one tells of comparisons.

A summary follows from the rows alone, whatever order they come in, so that the file of a sweep can give it again.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

from rnnscope.help.explain import more
from rnnscope.pages.ci import ERROR, FAILED, PASSED, SKIPPED, Case
from rnnscope.pages.page import Column, Grid, Page, Sentence, counted, ended, thousands
from rnnscope.pages.render import Result
from rnnscope.spec.flags import Choice, Listed, Number, Repeated, Switch, Whole
from rnnscope.spec.question import nan_last
from rnnscope.spec.spec import SPEC_FLAGS
from rnnscope.sweeps.boundaries import LeftOut
from rnnscope.sweeps.plan import FIELDS, Configuration, Values

VERDICTS = ("identical", "equivalent", "different", "undecided")

STATUSES = ("not_comparable", "failed")

OUTCOMES = VERDICTS + STATUSES
"""The verdict of a row, or its status where it has none."""

MOST_GROUPS = 12

GROUPS = 8
"""A flag with more values than the first is told in groups, numbers in so many."""


@dataclass(frozen=True)
class Finding:
    """What a row says, in short.

    outcome: one of OUTCOMES. cause: of a difference; a smaller one that is like it has the same.
    max_abs: the greatest difference of all outputs, and gradients where they were compared.
    size: how much there is to compute, for an order. more: what `rnnscope explain` has a page of.
    """

    configuration: Configuration
    outcome: str
    cause: str | None
    max_abs: float | None
    message: str | None
    size: int
    more: tuple[str, ...] = ()

    @property
    def rerun(self) -> str:
        return self.configuration.rerun

    @property
    def worst(self) -> float | None:
        """The figure that tells how bad it is."""
        return self.max_abs

    @property
    def narrowed(self) -> Values:
        """What else than a Spec has to be asked for, to see the same again."""
        values = self.configuration.values
        return {name: value for name, value in values.items() if name not in (*SPEC_FLAGS, "power", "map")}

    def record(self) -> dict[str, Any]:
        """What programs get of it."""
        return {name: getattr(self, name) for name in ("outcome", "cause", "max_abs", "rerun", "message")}


def finding(configuration: Configuration, row: Mapping[str, Any]) -> Finding:
    """What the row of a configuration says."""
    found = [each["max_abs"] for each in (*row.get("outputs", ()), *row.get("gradients", ()))]
    max_abs = None if None in found else max(map(float, found), key=nan_last, default=None)
    outcome = row["verdict"] if row["status"] == "compared" else row["status"]
    names = tuple(each for each in row.get("more", ()) if isinstance(each, str))
    return Finding(configuration, outcome, row.get("cause"), max_abs, row["message"], size_of(row["spec"]), names)


def size_of(spec: Mapping[str, Any]) -> int:
    """Steps of all items, times layers, times what a step multiplies; of a Spec that may contradict itself."""
    names = ("num_layers", "hidden_size", "input_size", "seq_len", "batch_size")
    layers, hidden, width, steps, items = (int(spec[name] or 1) for name in names)
    return items * steps * layers * hidden * (hidden + width)


@dataclass(frozen=True)
class Tally:
    """How the configurations ended that have some values of a flag; all of them where flag is "".

    counts: by the outcomes of the sweep. worst: the worst figure of all.
    """

    flag: str
    value: str
    counts: Mapping[str, int]
    worst: float | None


@dataclass(frozen=True)
class Wording:
    """How a kind of sweep says what it found.

    Args:
        status: that of a row with a verdict. unit: what was made then.
        verdicts: of a row. shown: the outcomes that a table always has.
        good, bad: the verdict of a sweep in which nothing is wrong, and of one in which something is.
        none, some: what was not found in the first, and what was found in the second.
        worst: the figure that tells how bad one is, as JSON has it.
    """

    status: str
    unit: str
    verdicts: tuple[str, ...]
    shown: tuple[str, ...]
    good: str
    bad: str
    none: str
    some: str
    worst: str


COMPARED = Wording(
    status="compared",
    unit="comparison",
    verdicts=VERDICTS,
    shown=("identical", "equivalent", "different", "not_comparable"),
    good="same",
    bad="different",
    none="more than rounding",
    some="a difference",
    worst="max_abs",
)


@dataclass(frozen=True, eq=False, repr=False)
class Sweep(Result):
    """What was found of all configurations.

    line: the command line that gives this again, less the file that it wrote. smallest: that of the smallest Spec that
    still differs, where one was looked for. workers: how many processes of torchrun shared the work, where it was used.
    left_out: boundary sizes that were not compared.
    """

    findings: tuple[Finding, ...]
    line: str
    smallest: str | None = None
    workers: int | None = None
    torch_version: str | None = None
    left_out: tuple[LeftOut, ...] = ()
    device_name: None = None

    command: ClassVar[str] = "sweep"
    words: ClassVar[Wording] = COMPARED

    @property
    def rerun(self) -> str:
        return self.line

    @property
    def threads(self) -> int | None:
        used = self._threads
        return used[0] if self.torch_version and len(used) == 1 else None

    @property
    def _threads(self) -> list[int]:
        """Each number of threads that a configuration asks for."""
        return sorted({each.configuration.value("threads") for each in self.findings} - {None})

    @cached_property
    def total(self) -> Tally:
        """Of all configurations."""
        return self._tally("", "all", self.findings)

    @property
    def tallies(self) -> Iterator[Tally]:
        """For each flag that has several values, and each of them. A size that follows from lengths is no value."""
        axes = {}
        for name in FIELDS:
            found: dict[Any, list[Finding]] = {}
            for each in self.findings:
                found.setdefault(each.configuration.value(name), []).append(each)
            values = found.keys() - {None} if name in ("seq_len", "batch_size") else found
            if len(values) > 1:
                axes[name] = found
        if len(axes) > 1 and len(axes.get("seed", ())) == len(self.findings):
            del axes["seed"]  # each was drawn with its own
        for name, found in axes.items():
            for label, findings in _grouped(name, found):
                yield self._tally(FIELDS[name].name, label, findings)

    def _tally(self, flag: str, value: str, findings: Sequence[Finding]) -> Tally:
        counts = Counter(each.outcome for each in findings)
        figures = [each.worst for each in findings if each.worst is not None]
        outcomes = (*self.words.verdicts, *STATUSES)
        return Tally(flag, value, {name: counts[name] for name in outcomes}, max(figures, key=nan_last, default=None))

    @cached_property
    def wrong(self) -> list[Finding]:
        """Those that differ: first by function, then the smaller ones, in whichever order they were run."""
        found = [each for each in self.findings if each.outcome == self.words.bad]
        return sorted(found, key=lambda each: (each.cause != "function", each.size, each.rerun))

    @property
    def first_different(self) -> Finding | None:
        """The first one that differs by function, or is frozen."""
        return next((each for each in self.wrong if each.cause in ("function", "frozen")), None)

    @property
    def first_to_shrink(self) -> Finding | None:
        """The one of which a smallest Spec is looked for."""
        return next((each for each in self.wrong if each.cause in SHRUNK), None)

    @property
    def more(self) -> list[str]:
        """What `rnnscope explain` has a page of: of those that differ, otherwise undecided ones, otherwise all.

        The most frequent first. Where nothing is wrong, only what nobody could see.
        """
        told = self.wrong or [each for each in self.findings if each.outcome == "undecided"]
        found = Counter(name for each in told or self.findings for name in each.more)
        return [name for name, _ in found.most_common() if told or name not in _NOTHING_WRONG]

    @property
    def messages(self) -> list[tuple[str, str, int]]:
        """Why there was no comparison: outcome, reason, and of how many; the most frequent first."""
        found = Counter((each.outcome, each.message) for each in self.findings if each.message is not None)
        return sorted(((*key, count) for key, count in found.items()), key=lambda each: (-each[2], each))

    @property
    def verdict(self) -> str:
        """different where one is, else undecided where one is, or failed, or where nothing was compared, else same."""
        counts = self.total.counts
        if counts[self.words.bad]:
            return self.words.bad
        is_open = counts["undecided"] or counts["failed"] or not sum(counts[each] for each in self.words.verdicts)
        return "undecided" if is_open else self.words.good

    @property
    def exit_code(self) -> int:
        """0 where all that could be compared are the same, 1 where one differs, 2 where that cannot be told of all.

        Under torchrun 0: it takes any other code of a worker for a crash.
        """
        codes = {self.words.good: 0, self.words.bad: 1, "undecided": 2}
        return 0 if self.workers is not None else codes[self.verdict]

    def page(self) -> Page:
        """The table and sentences of `rnnscope sweep`."""
        page: Page = [_grid(self), *self.tables(), _verdict(self)]
        for each in self.wrong[:_MOST]:
            page.append(Sentence(self.label(each), each.rerun, verbatim=True))
        page += _left_out(len(self.wrong), "line", " like these")
        if self.smallest:
            page.append(Sentence(self.label_of_smallest, self.smallest, verbatim=True))
        for outcome, message, count in self.messages[:_MOST]:
            page.append(Sentence(outcome.replace("_", " ").capitalize(), ended(f"{thousands(count)}, since {message}")))
        page += [*_left_out(len(self.messages), "reason"), *map(_not_compared, self.left_out), *more(self.more)]
        if self.torch_version:
            *fewer, most = self._threads
            threads = " or ".join((*map(str, fewer), counted(most, "thread")))
            ranks = f", shared by {counted(self.workers, 'rank')} of torchrun" if self.workers else ""
            page.append(Sentence("Run", f"each with {threads}, torch {self.torch_version}{ranks}."))
        return [*page, Sentence("Rerun", self.rerun, verbatim=True)]

    def tables(self) -> Page:
        """What stands below the counts."""
        return []

    def label(self, found: Finding) -> str:
        """What is wrong, before its command line."""
        return _CAUSES.get(found.cause or "", "Over the tolerance")

    def in_words(self, found: Finding) -> str:
        """What was found, where no message says it."""
        return self.label(found) if found.outcome == self.words.bad else _OTHERWISE.get(found.outcome, found.outcome)

    @property
    def label_of_smallest(self) -> str:
        """What stands before the smallest one."""
        return "Smallest that differs"

    def facts(self) -> dict[str, Any]:
        worst = self.words.worst
        axes = ({"flag": e.flag, "value": e.value, "counts": dict(e.counts), worst: e.worst} for e in self.tallies)
        return {
            "verdict": self.verdict,
            "counts": dict(self.total.counts),
            worst: self.total.worst,
            "axes": list(axes),
            "messages": [dict(zip(("status", "message", "count"), each, strict=True)) for each in self.messages],
            **self.facts_of_wrong(),
            "more": self.more,
            "left_out": [asdict(each) for each in self.left_out],
            "configurations": [each.record() for each in self.findings],
        }

    def facts_of_wrong(self) -> dict[str, Any]:
        """What is wrong first, and in the smallest."""
        first = self.first_different
        return {"first_different": first and first.rerun, "smallest_different": self.smallest}

    def cases(self) -> Iterator[Case]:
        """One for each configuration: first those in which something is wrong, in the order of the page."""
        smallest = (f"{self.label_of_smallest}: {self.smallest}",) if self.smallest else ()
        for each in (*self.wrong, *(each for each in self.findings if each.outcome != self.words.bad)):
            yield Case(
                each.rerun.removeprefix("rnnscope "),
                self._ended(each.outcome),
                each.cause or each.outcome,
                ended(each.message or self.in_words(each)),
                (f"Rerun: {each.rerun}", *(smallest if each is self.first_to_shrink else ())),
                each.configuration.subject,
            )

    def _ended(self, outcome: str) -> str:
        if outcome == self.words.bad:
            return FAILED
        return {"undecided": ERROR, "failed": ERROR, "not_comparable": SKIPPED}.get(outcome, PASSED)

    def records(self) -> Iterator[dict[str, Any]]:
        """One record a configuration."""
        return (each.record() for each in self.findings)


def _grouped(name: str, found: dict[Any, list[Finding]]) -> Iterator[tuple[str, list[Finding]]]:
    """The values of a flag in their order, many numbers as ranges, of many others the first ones and the rest."""
    flag = FIELDS[name]

    def word(value: Any) -> str:
        if value is None:
            return "-"
        if isinstance(flag, (Repeated, Listed)):
            return ", ".join(value) or "-"
        return ("off", "on")[value] if isinstance(flag, Switch) else flag.as_typed(value)[-1]

    places = {word: place for place, word in enumerate(flag.choices)} if isinstance(flag, Choice) else {}
    values = sorted(found, key=lambda value: (value is not None, places.get(value, value)))
    is_number = isinstance(flag, (Whole, Number)) and None not in found
    if len(values) <= MOST_GROUPS:
        groups = [[value] for value in values]
    elif is_number:
        groups = [values[len(values) * n // GROUPS : len(values) * (n + 1) // GROUPS] for n in range(GROUPS)]
    else:
        groups = [*([value] for value in values[: MOST_GROUPS - 1]), values[MOST_GROUPS - 1 :]]
    for group in groups:
        label = word(group[0])
        if len(group) > 1:
            label = f"{label} to {word(group[-1])}" if is_number else f"{len(group)} others"
        yield label, [each for value in group for each in found[value]]


_NOTHING_WRONG = ("identical", "equivalent", "rounding")

_CAUSES = {
    "function": "Another function",
    "precision": "Less precise",
    "shape": "Other shapes",
    "nonfinite": "NaN or infinity",
    "frozen": "Frozen",
}

_OTHERWISE = {"undecided": "Rounding alone may move these numbers too far"}

SHRUNK = ("frozen", "function", "nonfinite", "shape")
"""The causes of which a smallest Spec is looked for: less precision depends on every size."""

_MOST = 3
"""So many lines, and so many reasons, are shown; JSON has them all."""


def _left_out(many: int, unit: str, like: str = "") -> Page:
    rest = many - _MOST
    return [Sentence("Left out", f"{counted(rest, unit)}{like}: --format tsv lists all.")] if rest > 0 else []


def _not_compared(left: LeftOut) -> Sentence:
    """Boundary sizes that were left out, and why."""
    sizes = ", ".join(map(str, left.sizes))
    return Sentence("Not at", f"{left.flag} {sizes} ({counted(left.count, 'configuration')}), since {left.reason}.")


def _grid(sweep: Sweep) -> Grid:
    """A row for each value of each flag that has several, and one for all."""
    counted_all, words = sweep.total.counts, sweep.words
    outcomes = [each for each in counted_all if each in words.shown or counted_all[each]]
    numbers = (Column(each.replace("_", " "), number=True) for each in (*outcomes, words.worst))
    rows = []
    for tally in (*sweep.tallies, sweep.total):
        counts = (thousands(tally.counts[each]) if tally.counts[each] else "-" for each in outcomes)
        worst = "-" if tally.worst is None else f"{tally.worst:.3g}"
        rows.append((f"{tally.flag} {tally.value}".strip(), *counts, worst))
    title = counted(len(sweep.findings), "configuration")
    return Grid(title, (Column("of these", name=True), *numbers), tuple(rows))


def _verdict(sweep: Sweep) -> Sentence:
    counts, words, is_good = sweep.total.counts, sweep.words, sweep.verdict == sweep.words.good
    done = sum(counts[each] for each in words.verdicts)
    found = thousands(counts[words.bad]) if counts[words.bad] else "none"
    text = f"of {counted(done, words.unit)} {found} found {words.none if is_good else words.some}"
    left = [f"{thousands(counts[each])} {each}" for each in ("undecided", "failed") if counts[each]]
    text = "; ".join((text if done else f"nothing was {words.status}", *left))
    return Sentence("Verdict", f"{text}.", "good" if is_good else "bad")
