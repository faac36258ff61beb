"""What a benchmark found: how long each subject takes at each length, how sure that is, and the page that tells it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from typing import Any, ClassVar

import torch

from rnnscope.network.costs import MOST_WATCHED_STEPS, human_bytes
from rnnscope.network.shapes import network_in_words, sizes_in_words
from rnnscope.pages.page import Column, Grid, Page, Sentence, counted, ended, enumerated, thousands, where_it_ran
from rnnscope.pages.render import SpecResult
from rnnscope.spec.flags import Flag
from rnnscope.spec.options import BENCH_SUBJECTS, MIN_TIME, NO_FILES, SEQ_LENS, TIME_GRAD, Sources
from rnnscope.spec.spec import SPEC_FLAGS, Spec

NOISY = 0.1
"""An interquartile range of this part of the median, or more, is noise; torch.utils.benchmark warns of it as well."""


@dataclass(frozen=True, eq=False)
class Timing:
    """One subject at one length.

    Args:
        typed: as it was named, with its own device and dtype where it has them.
        rounds: seconds a call, in each block of calls of each round; empty if it was not measured.
        runs: calls that were timed, in all rounds.
        peak_bytes: what one call allocates at most at one time, on top of weights and input; None if not measured.
        compile_s: how long the first call waited for a compiler; None for a subject that needs none.
        message: why it was not measured.
    """

    typed: str
    subject: str
    device: str
    dtype: str
    seq_len: int
    rounds: tuple[tuple[float, ...], ...] = ()
    runs: int = 0
    peak_bytes: int | None = None
    compile_s: float | None = None
    message: str | None = None

    @property
    def measured(self) -> bool:
        """Whether it has figures, and not only a message."""
        return self.message is None

    @property
    def times(self) -> tuple[float, ...]:
        """Seconds a call, of all blocks of all rounds."""
        return tuple(each for times in self.rounds for each in times)

    @cached_property
    def quartiles(self) -> tuple[float, ...]:
        """Seconds a call: the lower quartile, the median and the upper quartile of all blocks."""
        places = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64, device="cpu")
        return tuple(torch.tensor(self.times, dtype=torch.float64, device="cpu").quantile(places).tolist())

    @property
    def median(self) -> float:
        """Seconds a call."""
        return self.quartiles[1]

    @property
    def iqr(self) -> float:
        """The interquartile range: the middle half of all blocks is within it."""
        return self.quartiles[2] - self.quartiles[0]

    @property
    def noisy(self) -> bool:
        """Whether the interquartile range is a tenth of the median or more."""
        return self.iqr >= NOISY * self.median

    @property
    def steps_per_s(self) -> float:
        """Time steps of the sequence a second: L / median. All sequences of a batch take a step together."""
        return self.seq_len / self.median


@dataclass(frozen=True)
class Ratio:
    """How many times as long as the baseline something takes.

    `value` is that of the medians, `least` and `greatest` those of the medians of one round. `told` is faster or
    slower; None if the interquartile ranges overlap. `noisy` says whether either of the two is.
    """

    value: float
    least: float
    greatest: float
    told: str | None
    noisy: bool


@dataclass(frozen=True)
class Growth:
    """How many times as long a subject takes at one length as at another; `noisy` says whether either of the two is."""

    times: float
    steps: float
    noisy: bool


@dataclass(frozen=True, eq=False)
class Bench(SpecResult):
    """Subjects of one Spec, timed at one length or several.

    Args:
        spec: at the shortest length, with its device made definite.
        subjects: as they were asked for.
        seq_lens: from short to long.
        timings: all lengths of the first subject, then of the next.
        baseline: the subject that ratios are to.
        load: how many CPUs the machine kept busy in the minute before; None where it does not say.
        back_ends: which of them may have computed, on all devices.
    """

    spec: Spec
    subjects: tuple[str, ...]
    seq_lens: tuple[int, ...]
    timings: tuple[Timing, ...]
    baseline: str
    grad: bool
    min_time: float
    cpus: int
    load: float | None
    back_ends: tuple[tuple[str, bool], ...]
    device_name: str
    torch_version: str
    sources: Sources = NO_FILES

    command: ClassVar[str] = "bench"

    @property
    def measured(self) -> tuple[Timing, ...]:
        """The rows that have figures."""
        return tuple(each for each in self.timings if each.measured)

    def ratio(self, timing: Timing) -> Ratio | None:
        """To the baseline at the same length; None where either was not measured."""
        base = self._at(self.baseline, timing.seq_len)
        if base is None or not timing.measured:
            return None
        rounds = [median(own) / median(its) for own, its in zip(timing.rounds, base.rounds, strict=True)]
        (low, _, high), (base_low, _, base_high) = timing.quartiles, base.quartiles
        told = "slower" if low > base_high else "faster" if high < base_low else None
        return Ratio(timing.median / base.median, min(rounds), max(rounds), told, timing.noisy or base.noisy)

    def growth(self, timing: Timing) -> Growth | None:
        """From the length before; None for the shortest one, and where either was not measured."""
        index = self.seq_lens.index(timing.seq_len)
        return self._growth(timing.typed, self.seq_lens[index - 1], timing.seq_len) if index else None

    def growth_in_all(self, typed: str) -> Growth | None:
        """Of a subject from the shortest length to the longest; None where either was not measured."""
        return self._growth(typed, self.seq_lens[0], self.seq_lens[-1]) if len(self.seq_lens) > 1 else None

    def _growth(self, typed: str, one: int, other: int) -> Growth | None:
        first, last = self._at(typed, one), self._at(typed, other)
        if first is None or last is None:
            return None
        return Growth(last.median / first.median, other / one, first.noisy or last.noisy)

    def untold(self, noisy: bool) -> list[Timing]:
        """The rows that show neither faster nor slower than the baseline, whose ratio is noisy or is not."""
        ratios = [(each, self.ratio(each)) for each in self.measured if each.typed != self.baseline]
        return [each for each, ratio in ratios if ratio and ratio.told is None and ratio.noisy is noisy]

    @property
    def verdict(self) -> str:
        """How far the figures can be trusted.

        failed: nothing was measured. undecided: a row, or its baseline, is too noisy to show which is
        faster. noisy: rows are noisy, and it shows nevertheless. steady: no row is noisy.
        """
        if not self.measured:
            return "failed"
        if not any(each.noisy for each in self.measured):
            return "steady"
        return "undecided" if self.untold(noisy=True) else "noisy"

    @property
    def busy(self) -> bool:
        """Whether other programs, by half a CPU or more, took time from the threads: then all rounds are slow alike."""
        return self.load is not None and self.load >= 0.5 and self.load + (self.threads or 1) > self.cpus + 0.5

    @property
    def exit_code(self) -> int:
        """2 where a subject that was named could not be timed, or none could; 0 otherwise: noise is no failure."""
        named = self.subjects != BENCH_SUBJECTS.default and len(self.measured) < len(self.timings)
        return 2 if named or self.verdict == "failed" else 0

    @property
    def rerun(self) -> str:
        """The command line that measures the same again."""
        own: list[tuple[Flag, object]] = [(BENCH_SUBJECTS, self.subjects)]
        asked = self
        if len(self.seq_lens) > 1:
            asked = replace(self, spec=replace(self.spec, seq_len=SPEC_FLAGS["seq_len"].default))
            own.append((SEQ_LENS, self.seq_lens))
        return asked.line(*own, (TIME_GRAD, self.grad), (MIN_TIME, self.min_time))

    def _at(self, typed: str, seq_len: int) -> Timing | None:
        return next((each for each in self.measured if (each.typed, each.seq_len) == (typed, seq_len)), None)

    def page(self) -> Page:
        """The table and the sentences of `rnnscope bench`."""
        several = len(self.seq_lens) > 1
        titles = ["subject", "L", "median", "spread", "steps/s", "ratio", "growth", "peak"]
        shown = [each for each in titles if several or each not in ("L", "growth")]
        columns = [Column(each, number=each != "subject", name=each == "subject") for each in shown]
        rows = [row for name in _names(self.timings) for row in _rows(self, name)]
        steps = f"{enumerated([thousands(each) for each in self.seq_lens])} steps" if several else None
        title = f"What {network_in_words(self.spec)} costs, {'forward and backward' if self.grad else 'forward'}"
        dtypes = " and ".join(dict.fromkeys(each.dtype for each in self.timings))
        run = where_it_ran(self.device_name, dtypes, self.threads, self.torch_version, self.back_ends)
        return [
            Grid(title, (*columns, Column("time")), tuple(rows), keys=2 if several else 1),
            Sentence("Sizes", sizes_in_words(self.spec, steps)),
            _meanings(self),
            *_grown(self),
            *_compiling(self),
            *_messages(self),
            Sentence("Verdict", f"{_verdict(self)}.", {"steady": "good", "noisy": None}.get(self.verdict, "bad")),
            *_unseen(self),
            *_busy(self),
            Sentence("Run", run),
            Sentence("Rerun", self.rerun, verbatim=True),
        ]

    def facts(self) -> dict[str, Any]:
        """What programs get of a benchmark."""
        return {
            "rows": [timing_record(self, each) for each in self.timings],
            "seq_lens": list(self.seq_lens),
            "yardstick": self.baseline,
            "grad": self.grad,
            "min_time_s": self.min_time,
            "threads": self.threads,
            "cpus": self.cpus,
            "load": self.load,
            "back_ends": dict(self.back_ends),
            "verdict": self.verdict,
        }

    def records(self) -> Iterator[dict[str, Any]]:
        """One record a row."""

        return (timing_record(self, each) for each in self.timings)


MOST_LENGTHS = 8
"""So many lengths of a subject are shown: the first ones and the last."""

BAR = 10
"""The width of the longest bar."""

_EIGHTHS = "▏▎▍▌▋▊▉█"


def bar(value: float, greatest: float, width: int) -> str:
    """A bar as long as the value is of the greatest one, to an eighth of a sign; one that is not 0 is seen."""
    eighths = max(round(value / greatest * width * 8), 1)
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8 - 1] if eighths % 8 else "")


def duration(seconds: float) -> str:
    """Seconds with three significant digits, in the unit that suits them."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= 0.9995 * size:
            return f"{_figure(seconds / size)} {unit}"
    return f"{_figure(seconds * 1e9)} ns"


def _figure(number: float) -> str:
    """A number with three significant digits, never as a power."""
    rounded = float(f"{number:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:.3g}"


def _rows(bench: Bench, typed: str) -> list[tuple[str, ...]]:
    every = [_row(bench, each) for each in bench.timings if each.typed == typed]
    if len(every) <= MOST_LENGTHS:
        return every
    left_out = counted(len(every) - MOST_LENGTHS + 1, "length")
    between = (f"... {left_out} ...", *[""] * (len(every[0]) - 1))
    return [*every[: MOST_LENGTHS - 2], between, every[-1]]


def _row(bench: Bench, timing: Timing) -> tuple[str, ...]:
    several = len(bench.seq_lens) > 1
    named = (timing.typed, *([thousands(timing.seq_len)] if several else []))
    if not timing.measured:
        return (*named, *["-"] * (6 if several else 5), "")
    ratio, growth = bench.ratio(timing), bench.growth(timing)
    is_rough = ratio is not None and timing.typed != bench.baseline and (ratio.noisy or ratio.told is None)
    greatest = max(each.median for each in bench.measured)
    return (
        *named,
        duration(timing.median),
        _spread(timing),
        _figure(timing.steps_per_s),
        "-" if ratio is None else f"{'~' if is_rough else ''}{_figure(ratio.value)}",
        *([_times(growth) if growth else "-"] if several else []),
        "-" if timing.peak_bytes is None else human_bytes(timing.peak_bytes),
        bar(timing.median, greatest, BAR),
    )


def _spread(timing: Timing) -> str:
    return f"{_figure(100 * timing.iqr / timing.median)} %"


def _times(growth: Growth) -> str:
    return f"{'~' if growth.noisy else ''}x {_figure(growth.times)}"


def _meanings(bench: Bench) -> Sentence:
    """What the columns mean."""
    several = len(bench.seq_lens) > 1
    together = "" if bench.spec.unbatched else ", which all sequences of the batch take together"
    at = " at the same L" if several else ""
    ratio = f"to {bench.baseline}{at}; ~ where noise makes it rough, or it cannot be told from 1"
    if not any(bench.ratio(each) for each in bench.timings):
        ratio = f"none, since {bench.baseline} was not timed"
    text = f"of a call. Spread: interquartile range / median. Steps/s: time steps{together}. Ratio: {ratio}."
    text += " Growth: to the row above." if several else ""
    text += " Peak: memory that a call takes on top of weights and input"
    unknown = {each.device for each in bench.measured if each.peak_bytes is None}
    text += f", of at most {thousands(MOST_WATCHED_STEPS)} steps in all layers and directions" * ("cpu" in unknown)
    text += ", where torch counts it" * bool(unknown - {"cpu"})
    return Sentence("Median", f"{text}.")


def _grown(bench: Bench) -> Page:
    """How cost grows from the shortest length to the longest, of each subject that was timed at both."""
    grown = [f"{name} {_times(each)}" for name in _names(bench.timings) if (each := bench.growth_in_all(name))]
    first, last = bench.seq_lens[0], bench.seq_lens[-1]
    lengths = f"from L = {thousands(first)} to {thousands(last)}, x {_figure(last / first)} the steps"
    return [Sentence("Growth", f"{lengths}: {', '.join(grown)}.")] if grown else []


def _compiling(bench: Bench) -> Page:
    """How long the compiler took, which no median holds."""
    found = [each for each in bench.measured if each.compile_s]
    at = enumerated([f"{duration(each.compile_s or 0)}{_where(bench, [each])}" for each in found])
    return [Sentence("Compiling", f"took the first call of compiled {at}, which is in no median.")] if found else []


def _messages(bench: Bench) -> Page:
    """Why rows were not timed; once where it is the same at several lengths."""
    reasons: dict[tuple[str, str], list[Timing]] = {}
    for each in bench.timings:
        if each.message is not None:
            reasons.setdefault((each.typed, each.message), []).append(each)
    texts = [f"{typed}{_where(bench, rows)}: {message}" for (typed, message), rows in reasons.items()]
    return [Sentence("Not timed", ended(each), "bad") for each in texts]


def _verdict(bench: Bench) -> str:
    """The verdict and why."""
    unsure, near = bench.untold(noisy=True), bench.untold(noisy=False)
    also = f"; as far as it shows, {_named(bench, near)} as fast as {bench.baseline}" if near else ""
    if bench.verdict == "failed":
        return "failed: nothing was timed"
    if bench.verdict == "steady":
        return f"steady: every spread is below {100 * NOISY:.0f} %{also}"
    worst = max(bench.measured, key=lambda each: each.iqr / each.median)
    spread = f"the spread of {_named(bench, [worst])} {_spread(worst)}"
    mend = "leave the machine alone, or raise --min-time"
    if bench.verdict == "undecided":
        whether = f"whether {_named(bench, unsure)} slower or faster than {bench.baseline}"
        return f"too noisy to tell {whether}: {spread}; {mend}{also}"
    if any(bench.ratio(each) for each in bench.measured if each.typed != bench.baseline):
        spread += ", so that ratios with ~ are rough, but which is faster shows"
    return f"noisy: {spread}; {mend}{also}"


def _unseen(bench: Bench) -> Page:
    """Somebody's own class was only timed, which people might take for more."""
    own = [each for each in _names(bench.measured) if ":" in each]
    compute = "computes" if len(own) == 1 else "compute"
    text = f"whether {enumerated(own)} {compute} the same: see rnnscope compare."
    return [Sentence("Not asked", text)] if own else []


def _busy(bench: Bench) -> Page:
    """A machine that is equally busy in every round shows in no spread."""
    if not bench.busy:
        return []
    slow = ", so that all figures may be too high"
    if bench.threads != 1:
        slow = f"; a call waits for the slowest of its {bench.threads} threads, which --threads 1 avoids"
    on = f"on {counted(bench.cpus, 'CPU')}{slow}"
    return [Sentence("Busy", f"the machine had {bench.load:.2g} CPUs' work before this began, {on}.")]


def _names(timings: Iterable[Timing]) -> list[str]:
    """The subjects, each once."""
    return list(dict.fromkeys(each.typed for each in timings))


def _named(bench: Bench, timings: list[Timing]) -> str:
    """Rows by their subjects, with their lengths unless all are meant, and the verb: "cells at L = 3 is"."""
    rows = {name: [each for each in timings if each.typed == name] for name in _names(timings)}
    subjects = enumerated([f"{name}{_where(bench, every)}" for name, every in rows.items()])
    return f"{subjects} {'is' if len(rows) == 1 else 'are'}"


def _where(bench: Bench, timings: list[Timing]) -> str:
    """At which lengths, unless it is at all of them."""
    if len(timings) == len(bench.seq_lens):
        return ""
    lengths = [thousands(each.seq_len) for each in timings]
    if len(lengths) > MOST_LENGTHS:
        lengths = [*lengths[: MOST_LENGTHS - 1], f"{len(lengths) - MOST_LENGTHS + 1} more lengths"]
    return f" at L = {enumerated(lengths)}"


def timing_record(bench: Bench, timing: Timing) -> dict[str, Any]:
    """One row; figures are None if it was not measured."""
    measured, ratio, growth = timing.measured, bench.ratio(timing), bench.growth(timing)
    p25, p50, p75 = timing.quartiles if measured else (None, None, None)
    return {
        "subject": timing.subject,
        "device": timing.device,
        "dtype": timing.dtype,
        "seq_len": timing.seq_len,
        "median_s": p50,
        "iqr_s": timing.iqr if measured else None,
        "p25_s": p25,
        "p75_s": p75,
        "noisy": timing.noisy if measured else None,
        "blocks": len(timing.times),
        "runs": timing.runs,
        "steps_per_s": timing.steps_per_s if measured else None,
        "ratio": ratio and ratio.value,
        "ratio_least": ratio and ratio.least,
        "ratio_greatest": ratio and ratio.greatest,
        "told": ratio and ratio.told,
        "growth": growth and growth.times,
        "growth_of_steps": growth and growth.steps,
        "peak_bytes": timing.peak_bytes,
        "compile_s": timing.compile_s,
        "message": timing.message,
    }
