"""What a benchmark found: how long each subject takes at each length, how sure that is, and what follows. Facts alone.

They are measured in timing.py. People are told of them in bench_page.py, programs in documents.py.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from rnnscope.pages.shown import Shown
from rnnscope.spec.bench_flags import MIN_TIME, SEQ_LENS, SUBJECTS, TIME_GRAD
from rnnscope.spec.flags import Flag
from rnnscope.spec.sources import NO_FILES, Sources
from rnnscope.spec.spec import SPEC_FLAGS, Spec, rerun

NOISY = 0.1
"""An interquartile range of this part of the median, or more, is noise; torch.utils.benchmark warns of it as well."""


@dataclass(frozen=True, eq=False)
class Timing:
    """One subject at one length.

    Args:
        typed: as it was named, with its own device and dtype where it has them.
        subject: the name alone.
        device: made definite where it could be.
        rounds: of each round the seconds that a call took, in each block of calls; empty where it was not measured.
        runs: calls that were timed, in all rounds.
        peak_bytes: what one call allocates at most at one time, on top of weights and input; None where not measured.
        compile_s: how long the first call waited for a compiler; None of a subject that has none.
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
        """Whether there is anything to tell of it but the message."""
        return self.message is None

    @cached_property
    def times(self) -> tuple[float, ...]:
        """Seconds a call, of all blocks of all rounds, from short to long."""
        return tuple(sorted(each for times in self.rounds for each in times))

    @property
    def median(self) -> float:
        """Seconds a call."""
        return quantile(self.times, 0.5)

    @property
    def p25(self) -> float:
        """The lower quartile."""
        return quantile(self.times, 0.25)

    @property
    def p75(self) -> float:
        """The upper quartile."""
        return quantile(self.times, 0.75)

    @property
    def iqr(self) -> float:
        """The interquartile range: the middle half of all blocks is within it."""
        return self.p75 - self.p25

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
    """How many times as long as the yardstick something takes.

    value: of the medians. least, greatest: of the medians of each round, in which both ran one shortly after the other.
    told: faster or slower; None where the interquartile ranges of both overlap, so that neither can be said.
    noisy: whether either of them is.
    """

    value: float
    least: float
    greatest: float
    told: str | None
    noisy: bool


@dataclass(frozen=True)
class Growth:
    """How many times as long the same subject takes at one length as at another, for so many times the steps.

    noisy: whether either of the two is.
    """

    times: float
    steps: float
    noisy: bool


@dataclass(frozen=True, eq=False)
class Bench(Shown):
    """Subjects of one Spec, timed at one length or several.

    Args:
        spec: at the shortest length, with its device made definite.
        subjects: as they were asked for.
        seq_lens: from short to long.
        timings: all lengths of the first subject, then of the next.
        yardstick: the subject that ratios are to.
        grad: whether backward was timed along with forward.
        min_time: seconds of measuring for each row, at least.
        threads: of torch on the CPU.
        cpus: of the machine.
        load: how many CPUs the machine kept busy in the minute before; None where it does not say.
        back_ends: which of them may have computed, on all devices.
    """

    spec: Spec
    subjects: tuple[str, ...]
    seq_lens: tuple[int, ...]
    timings: tuple[Timing, ...]
    yardstick: str
    grad: bool
    min_time: float
    threads: int
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
        """To the yardstick at the same length; None where either was not measured."""
        base = self._at(self.yardstick, timing.seq_len)
        if base is None or not timing.measured:
            return None
        rounds = [
            quantile(tuple(sorted(own)), 0.5) / quantile(tuple(sorted(its)), 0.5)
            for own, its in zip(timing.rounds, base.rounds, strict=True)
        ]
        told = "slower" if timing.p25 > base.p75 else "faster" if timing.p75 < base.p25 else None
        return Ratio(timing.median / base.median, min(rounds), max(rounds), told, timing.noisy or base.noisy)

    def growth(self, timing: Timing) -> Growth | None:
        """From the length before; None of the shortest one, and where either was not measured."""
        index = self.seq_lens.index(timing.seq_len)
        before = self._at(timing.typed, self.seq_lens[index - 1]) if index else None
        return None if before is None or not timing.measured else _growth(before, timing)

    def growth_in_all(self, typed: str) -> Growth | None:
        """Of a subject from the shortest length to the longest; None where either was not measured."""
        first, last = (self._at(typed, length) for length in (self.seq_lens[0], self.seq_lens[-1]))
        return None if first is None or last is None or first is last else _growth(first, last)

    @property
    def untold(self) -> tuple[Timing, ...]:
        """The rows that are not the yardstick's, and of which it does not show whether they are faster or slower."""
        others = [(each, self.ratio(each)) for each in self.measured if each.typed != self.yardstick]
        return tuple(each for each, ratio in others if ratio is not None and ratio.told is None)

    @property
    def verdict(self) -> str:
        """How far the figures can be trusted.

        failed: nothing was measured. undecided: of a row that is noisy, or whose yardstick is, it does not show whether
        it is faster or slower. noisy: rows are, and it shows nevertheless. steady: no row is noisy.
        """
        if not self.measured:
            return "failed"
        if not any(each.noisy for each in self.measured):
            return "steady"
        ratios = [self.ratio(each) for each in self.untold]
        return "undecided" if any(ratio and ratio.noisy for ratio in ratios) else "noisy"

    @property
    def busy(self) -> bool:
        """Whether other programs, by half a CPU or more, took time from the threads: then all rounds are slow alike."""
        return self.load is not None and self.load >= 0.5 and self.load + self.threads > self.cpus + 0.5

    @property
    def exit_code(self) -> int:
        """2 where a subject that was named could not be timed, or none could; 0 otherwise: noise is no failure."""
        named = self.subjects != SUBJECTS.default and len(self.measured) < len(self.timings)
        return 2 if named or self.verdict == "failed" else 0

    @property
    def rerun(self) -> str:
        """The command line that measures the same again."""
        several = len(self.seq_lens) > 1
        spec = replace(self.spec, seq_len=SPEC_FLAGS["seq_len"].default) if several else self.spec
        files = tuple(self.sources.given())
        own: tuple[tuple[Flag, object], ...] = (
            *((SUBJECTS, self.subjects), (SEQ_LENS, self.seq_lens if several else None)),
            *((TIME_GRAD, self.grad), (MIN_TIME, self.min_time)),
        )
        return rerun(self.command, spec, *files, *own, with_files=bool(files))

    def _at(self, typed: str, seq_len: int) -> Timing | None:
        return next((each for each in self.measured if (each.typed, each.seq_len) == (typed, seq_len)), None)


def _growth(first: Timing, last: Timing) -> Growth:
    return Growth(last.median / first.median, last.seq_len / first.seq_len, first.noisy or last.noisy)


def quantile(values: tuple[float, ...], part: float) -> float:
    """Of sorted values, interpolated as torch.quantile does."""
    place = part * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])
