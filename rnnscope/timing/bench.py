"""Times subjects at each length with torch.utils.benchmark, in turns: a slow phase of the machine hits them all.

Building a network, loading weights and drawing the input is not timed, and the first call is not either: it waits for
a compiler where there is one. Only calls that come after it are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter

import torch
from torch.utils.benchmark import Timer

from rnnscope.errors import RnnscopeError
from rnnscope.files.loaded import Loaded
from rnnscope.network.weights import draw_input, draw_weights
from rnnscope.pages.progress import Advance, progress
from rnnscope.spec.bench_flags import SUBJECTS, TIME_GRAD, bench_specs, yardstick_of
from rnnscope.spec.sides import SUBJECT, side_spec
from rnnscope.spec.sources import NO_FILES
from rnnscope.spec.spec import Spec
from rnnscope.subjects.calls import Call, prepared, with_backward
from rnnscope.subjects.devices import back_ends, device_name, running
from rnnscope.timing.gauges import clock_of, cpus_and_load, finish, peak_bytes
from rnnscope.timing.result import Bench, Timing

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
    loaded, yardstick = loaded or Loaded(NO_FILES, spec), yardstick_of(subjects)
    names = subjects if yardstick in subjects else (yardstick, *subjects)
    with running(specs[0], grad) as placed, progress(len(specs) * len(names) * ROUNDS, "rounds") as advance:
        lengths = [_at_length(each, names, grad, min_time, loaded, advance) for each in specs]
        places = {turn.spec.device: turn.spec for turns in lengths for turn in turns if turn.placed}
        places = places or {placed.device: placed}
        return Bench(
            placed,
            subjects,
            tuple(each.seq_len for each in specs),
            tuple(turns[index].timing() for index in range(len(names)) for turns in lengths),
            yardstick,
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
        from rnnscope.network.compiled import compilations, without_compiler

        before = compilations()
        try:
            yield
        except Exception as error:
            explained = without_compiler(error)
            if explained is None:
                raise
            raise explained from error
        self._compiled = compilations() > before
