"""Times subjects at each length with torch.utils.benchmark, in turns: a slow phase of the machine hits them all.

Building a network, loading weights and drawing the input is not timed. Neither is the first call, which waits for a
compiler where there is one.

Memory is what torch's allocator hands out while a call runs, less what it takes back, on top of weights and input. So
it is y, h and c and everything in between: the gates, a step's states, and with gradients what backward keeps. What
oneDNN and Python objects take elsewhere is not seen.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter
from typing import Any, ClassVar

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer

from rnnscope.errors import RnnscopeError
from rnnscope.files.loading import Loaded
from rnnscope.network.costs import MOST_WATCHED_STEPS
from rnnscope.network.weights import draw_input, draw_weights
from rnnscope.pages.page import Page
from rnnscope.pages.render import SpecResult
from rnnscope.pages.rich import Advance, progress
from rnnscope.spec.flags import Flag
from rnnscope.spec.options import BENCH_SUBJECTS as SUBJECTS
from rnnscope.spec.options import (
    MIN_TIME,
    NO_FILES,
    SEQ_LENS,
    SUBJECT,
    TIME_GRAD,
    Sources,
    baseline_of,
    bench_specs,
    side_spec,
)
from rnnscope.spec.spec import SPEC_FLAGS, Spec, rerun
from rnnscope.subjects.calls import Call, prepared, with_backward
from rnnscope.subjects.devices import back_ends, device_name, running

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
    """How many times as long as the baseline something takes.

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
class Bench(SpecResult):
    """Subjects of one Spec, timed at one length or several.

    Args:
        spec: at the shortest length, with its device made definite.
        subjects: as they were asked for.
        seq_lens: from short to long.
        timings: all lengths of the first subject, then of the next.
        baseline: the subject that ratios are to.
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
    baseline: str
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
        """To the baseline at the same length; None where either was not measured."""
        base = self._at(self.baseline, timing.seq_len)
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
        """The rows that are not the baseline's, and of which it does not show whether they are faster or slower."""
        others = [(each, self.ratio(each)) for each in self.measured if each.typed != self.baseline]
        return tuple(each for each, ratio in others if ratio is not None and ratio.told is None)

    @property
    def verdict(self) -> str:
        """How far the figures can be trusted.

        failed: nothing was measured. undecided: of a row that is noisy, or whose baseline is, it does not show whether
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

    def page(self) -> Page:
        """The tables and sentences of `rnnscope bench`."""
        from rnnscope.timing.page import page_of_bench

        return page_of_bench(self)

    def facts(self) -> dict[str, Any]:
        """What programs get of it."""
        from rnnscope.timing.page import document_of_bench

        return document_of_bench(self)

    def records(self) -> Iterator[dict[str, Any]]:
        """One record a row."""
        from rnnscope.timing.page import timing_record

        return (timing_record(self, each) for each in self.timings)


def _growth(first: Timing, last: Timing) -> Growth:
    return Growth(last.median / first.median, last.seq_len / first.seq_len, first.noisy or last.noisy)


def quantile(values: tuple[float, ...], part: float) -> float:
    """Of sorted values, interpolated as torch.quantile does."""
    place = part * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])


class EventClock:
    """Seconds of a GPU: each reading waits for all that the GPU was given before, so that nothing of it is left out.

    Between two readings the GPU's own counter is taken, and not the time at which Python hears of it.
    """

    def __init__(self, device: str) -> None:
        self._device, self._now = torch.device(device), 0.0
        self._last = self._mark()

    def __call__(self) -> float:
        mark = self._mark()
        # From the last one: the events tell milliseconds in 32 bits, which are too few for long.
        self._now += self._last.elapsed_time(mark) / 1000
        self._last = mark
        return self._now

    def _mark(self) -> torch.cuda.Event:
        mark = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        mark.record(torch.cuda.current_stream(self._device))
        mark.synchronize()
        return mark


def cpus_and_load() -> tuple[int, float | None]:
    """How many CPUs the machine has, and how many it kept busy in the minute before."""
    try:
        return os.cpu_count() or 1, os.getloadavg()[0]
    except (OSError, AttributeError):  # some systems do not say
        return os.cpu_count() or 1, None


def clock_of(device: str) -> Callable[[], float]:
    """What tells seconds on a device."""
    return EventClock(device) if device.startswith("cuda") else perf_counter


def finish(device: str) -> None:
    """Wait until a device has done all that it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def peak_bytes(call: Callable[[], object], device: str, steps: int) -> int | None:
    """The most bytes that a call has allocated at one time; None of more steps than can be looked at on the CPU.

    Args:
        steps: of a layer in a direction, that a call takes in all: the profiler keeps a record of each.
    """
    if device.startswith("cuda"):
        finish(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        finish(device)
        return torch.cuda.max_memory_allocated(device) - before
    if steps > MOST_WATCHED_STEPS:
        return None
    with _silent(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    results = getattr(profiled.profiler, "kineto_results", None)
    held = most = 0
    for event in results.events() if results else ():
        if event.name() == "[memory]" and event.device_type() == DeviceType.CPU:
            held += event.nbytes()  # negative where it is given back
            most = max(most, held)
    return most


@contextmanager
def _silent() -> Iterator[None]:
    """Without what the profiler's library says on stderr of its own beginning and end."""
    name = "KINETO_LOG_LEVEL"
    before = os.environ.get(name)
    os.environ[name] = "99"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


ROUNDS = 5
"""So often every subject has its turn, forwards and backwards in the list by turns."""


def bench(
    spec: Spec,
    subjects: tuple[str, ...] = SUBJECTS.default,
    seq_lens: tuple[int, ...] | None = None,
    grad: bool = False,
    min_time: float = 0.5,
    *,
    loaded: Loaded | None = None,
) -> Bench:
    """Time subjects on the weights and the input of a Spec's seed.

    Args:
        subjects: written as for --subjects. torch's module is timed in any case, since ratios are to it.
        seq_lens: lengths to time instead of the Spec's own.
        grad: time forward and backward.
        min_time: seconds of measuring for each row, at least.
        loaded: what files gave.

    What keeps a subject from being timed is its row's message. Memory is not checked here: see `check_memory`.

    Raises:
        RnnscopeError: a value that is not allowed, nothing to time, or no such device.
    """
    TIME_GRAD.check(grad)
    specs = bench_specs(spec, subjects, seq_lens, min_time)
    cpus, load = cpus_and_load()  # before it is our own
    subjects = tuple(dict.fromkeys(subjects))
    loaded, baseline = loaded or Loaded(NO_FILES, spec), baseline_of(subjects)
    names = subjects if baseline in subjects else (baseline, *subjects)
    with running(specs[0], grad) as placed, progress(len(specs) * len(names) * ROUNDS, "rounds") as advance:
        lengths = [_at_length(each, names, grad, min_time, loaded, advance) for each in specs]
        places = {turn.spec.device: turn.spec for turns in lengths for turn in turns if turn.placed}
        places = places or {placed.device: placed}
        return Bench(
            placed,
            subjects,
            tuple(each.seq_len for each in specs),
            tuple(turns[index].timing() for index in range(len(names)) for turns in lengths),
            baseline,
            grad,
            min_time,
            torch.get_num_threads(),
            cpus,
            load,
            tuple({name: state for each in places.values() for name, state in back_ends(each).items()}.items()),
            " and ".join(map(device_name, places.values())),
            str(torch.__version__),
            loaded.sources,
        )


def _at_length(
    spec: Spec, names: tuple[str, ...], grad: bool, min_time: float, loaded: Loaded, advance: Advance
) -> list["_Turns"]:
    """All subjects at one length."""
    every = [_Turns(name, spec, grad) for name in names]
    for each in every:
        each.prepare(loaded)
    for number in range(ROUNDS):
        for each in every[:: -1 if number % 2 else 1]:
            each.take(min_time / ROUNDS)
            advance(1)
    for each in every:
        each.release()
    return every


class _Turns:
    """One subject at one length, from its preparation to its last round."""

    def __init__(self, typed: str, spec: Spec, grad: bool) -> None:
        self.placed = False
        self._typed, self._grad = typed, grad
        self._subject, self.spec = side_spec(SUBJECT, typed, spec)
        self._rounds: list[tuple[float, ...]] = []
        self._runs, self._first = 0, 0.0
        self._message: str | None = None
        self._peak: int | None = None
        self._compiled = False
        self._call: Call | None = None
        self._timer: Timer | None = None

    def prepare(self, loaded: Loaded) -> None:
        """Call it once, and look how much memory a call takes."""
        with self._noting(), running(self.spec, self._grad) as placed:
            self.spec, self.placed = placed, True
            dtype = getattr(torch, placed.dtype)
            drawn = loaded.weights or draw_weights(placed)
            weights = {name: each.to(placed.device, dtype) for name, each in drawn.items()}
            self._call = call = prepared(self._subject, placed, weights, draw_input(placed))
            with call.entered(), self._compiling():
                started = perf_counter()
                outputs = call.forward()
                call.check(outputs)
                target = with_backward(call, outputs) if self._grad else call.forward
                if self._grad:
                    target()
                finish(placed.device)
                self._first = perf_counter() - started
                del outputs
                self._peak = peak_bytes(target, placed.device, self._steps(placed))
            clock, threads = clock_of(placed.device), torch.get_num_threads()
            self._timer = Timer("target()", timer=clock, globals={"target": target}, num_threads=threads)

    def _steps(self, spec: Spec) -> int:
        """Of a layer in a direction, in one call; backward takes each once more."""
        items = spec.batch_size if self._subject == "items" else 1
        return items * spec.seq_len * spec.num_layers * spec.directions * (2 if self._grad else 1)

    def take(self, seconds: float) -> None:
        """One round."""
        if self._timer is not None and self._call is not None:
            with self._noting(), running(self.spec, self._grad), self._call.entered():
                found = self._timer.blocked_autorange(min_run_time=seconds)
                self._rounds.append(tuple(found.times))
                self._runs += found.number_per_run * len(found.times)

    def release(self) -> None:
        """Let go of network and input."""
        self._call = self._timer = None

    def timing(self) -> Timing:
        """What was found."""
        spec = self.spec
        found = Timing(self._typed, self._subject, spec.device, spec.dtype, spec.seq_len, message=self._message)
        if self._message is not None:
            return found
        found = replace(found, rounds=tuple(self._rounds), runs=self._runs, peak_bytes=self._peak)
        if self._subject != "compiled":
            return found
        # The first call did the work of others too: forward once more where there is a backward.
        waited = self._first - (1.5 if self._grad else 1) * found.median
        return replace(found, compile_s=max(waited, 0.0) if self._compiled else 0.0)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """What keeps it from being timed is noted, and the others go on."""
        try:
            yield
        except RnnscopeError as error:
            message, hint = error.message, error.hint
            for name in (f"{self._subject}: ", f"{self._subject} "):  # which stands before it in any case
                message = message.removeprefix(name)
            if message.startswith(f"--device {self.spec.device}: "):  # of its own, which the Spec does not have
                message, hint = message.partition(": ")[2], f"use {self._subject}@cpu"
            self._message = message if hint is None or "--debug" in hint else f"{message}; {hint}"
            self.release()

    @contextmanager
    def _compiling(self) -> Iterator[None]:
        """Tell whether anything was compiled, and what is to be said where there is no compiler."""
        if self._subject != "compiled":
            yield
            return
        from rnnscope.network.cells import compilations, without_compiler

        before = compilations()
        try:
            yield
        except Exception as error:
            explained = without_compiler(error)
            if explained is None:
                raise
            raise explained from error
        self._compiled = compilations() > before
