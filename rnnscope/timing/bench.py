"""Times subjects at each length with torch.utils.benchmark, in turns: a slow phase of the machine hits them all.

Building a network, loading weights and drawing the input are not timed, nor is the first call, which may compile.

Memory is what torch's allocator hands out while a call runs, less what it takes back, on top of weights and input. So
it is y, h and c and everything in between: the gates, a step's states, and with gradients what backward keeps. What
oneDNN and Python objects take elsewhere is not seen.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from time import perf_counter
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer

from rnnscope.errors import RnnscopeError
from rnnscope.files.loading import Loaded
from rnnscope.network.cells import compilations
from rnnscope.network.costs import MOST_WATCHED_STEPS
from rnnscope.network.weights import draw_input, draw_weights, placed_as
from rnnscope.pages.progress import progress, stage
from rnnscope.spec.options import BENCH_SUBJECTS, NO_FILES, TIME_GRAD, baseline_of, bench_specs
from rnnscope.spec.sides import SUBJECT, side_spec
from rnnscope.spec.spec import Spec
from rnnscope.subjects.adapting import prepare
from rnnscope.subjects.builtin import Prepared, other_shape, tensors_of
from rnnscope.subjects.devices import back_ends, device_name, running, wait_for
from rnnscope.timing.result import Bench, Timing

ROUNDS = 5
"""Each subject has so many turns; every other round goes through the list backwards."""


def bench(
    spec: Spec,
    subjects: tuple[str, ...] = BENCH_SUBJECTS.default,
    seq_lens: tuple[int, ...] | None = None,
    grad: bool = False,
    min_time: float = 0.5,
    *,
    loaded: Loaded | None = None,
) -> Bench:
    """Time subjects on the weights and the input of a Spec's seed.

    A subject that cannot be timed says why in its row's message. Memory is not checked here: `check_memory` does.

    Args:
        subjects: written as for --subjects. torch's module is timed in any case, since ratios are to it.
        seq_lens: lengths to time instead of the Spec's own.
        grad: time forward and backward.
        min_time: seconds of measuring for each row, at least.
        loaded: what files gave.

    Raises:
        RnnscopeError: a value that is not allowed, nothing to time, or no such device.

    >>> found = bench(Spec(seq_len=2, batch_size=1), subjects=("module", "cells"), min_time=0.01)
    >>> [timing.subject for timing in found.timings], found.baseline, found.exit_code
    (['module', 'cells'], 'module', 0)
    """
    TIME_GRAD.check(grad)
    specs = bench_specs(spec, subjects, seq_lens, min_time)
    load = _load()  # before the load is our own
    subjects = tuple(dict.fromkeys(subjects))
    loaded, baseline = loaded or Loaded(NO_FILES, spec), baseline_of(subjects)
    names = subjects if baseline in subjects else (baseline, *subjects)
    with running(specs[0], grad) as placed, progress(len(specs) * len(names) * ROUNDS, "rounds") as advance:
        lengths = [[_Turns(name, each, grad) for name in names] for each in specs]
        for every in lengths:
            for turns in every:
                turns.prepare(loaded)
            for number in range(ROUNDS):
                for turns in every[:: -1 if number % 2 else 1]:
                    turns.take(min_time / ROUNDS)
                    advance(1)
            for turns in every:
                turns.finish()
        found = {turns.placed.device: turns.placed for every in lengths for turns in every if turns.placed}
        places = list(found.values()) or [placed]
        return Bench(
            spec=placed,
            subjects=subjects,
            seq_lens=tuple(each.seq_len for each in specs),
            timings=tuple(every[index].timing for index in range(len(names)) for every in lengths),
            baseline=baseline,
            grad=grad,
            min_time=min_time,
            cpus=os.cpu_count() or 1,
            load=load,
            back_ends=tuple({name: state for each in places for name, state in back_ends(each).items()}.items()),
            device_name=" and ".join(map(device_name, places)),
            torch_version=str(torch.__version__),
            sources=loaded.sources,
        )


def _load() -> float | None:
    """How many CPUs the machine kept busy in the minute before; None on a system that does not say."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


class _Turns:
    """One subject at one length: prepared, timed in rounds in turns with the others, finished.

    `timing` is what is known so far, and `placed` the Spec on the device where it runs; None until there is one.
    """

    def __init__(self, typed: str, spec: Spec, grad: bool) -> None:
        subject, self._spec = side_spec(SUBJECT, typed, spec)
        self.timing = Timing(typed, subject, self._spec.device, self._spec.dtype, spec.seq_len)
        self.placed: Spec | None = None
        self._grad = grad
        self._timer: Timer | None = None
        self._entered: Callable[[], AbstractContextManager[None]] = nullcontext

    def prepare(self, loaded: Loaded) -> None:
        """Give it weights and input, call it once, and measure how much memory a call takes."""
        with stage(self.timing.typed), self._noting(), running(self._spec, self._grad) as placed:
            self.placed, self.timing = placed, replace(self.timing, device=placed.device)
            drawn = loaded.weights or draw_weights(placed)
            weights = {name: placed_as(placed, each) for name, each in drawn.items()}
            prepared = prepare(self.timing.subject, placed, weights, draw_input(placed)).with_input(leaf)
            with prepared.entered():
                target = self._first_call(prepared, placed.device)
                steps = placed.seq_len * placed.num_layers * placed.directions * (2 if self._grad else 1)
                steps *= placed.batch_size if self.timing.subject == "items" else 1
                peak = peak_bytes(target, placed.device, steps)
            self.timing, self._entered = replace(self.timing, peak_bytes=peak), prepared.entered
            clock = clock_of(placed.device)
            self._timer = Timer(
                "target()", timer=clock, globals={"target": target}, num_threads=torch.get_num_threads()
            )

    def _first_call(self, prepared: Prepared, device: str) -> Callable[[], Any]:
        """Make the call that may wait for a compiler, and give what is called from then on."""
        is_compiled = self.timing.subject == "compiled"
        graphs, started = compilations() if is_compiled else 0, perf_counter()
        outputs, target = prepared.call(), prepared.call
        if wrong := other_shape(prepared.spec, prepared.run_of(outputs).outputs()):
            raise RnnscopeError("returned {} of shape {}, and torch's is {}".format(*wrong))
        if self._grad:
            target = with_backward(prepared, outputs)
            del outputs  # with all that autograd keeps of it
            target()
        wait_for(device)
        if is_compiled:  # for now all of the first call
            first = perf_counter() - started
            self.timing = replace(self.timing, compile_s=first if compilations() > graphs else 0.0)
        return target

    def take(self, seconds: float) -> None:
        """Time one round."""
        if self._timer is not None and self.placed is not None:
            with self._noting(), running(self.placed, self._grad), self._entered():
                found = self._timer.blocked_autorange(min_run_time=seconds)
                rounds = (*self.timing.rounds, tuple(found.times))
                runs = self.timing.runs + found.number_per_run * len(found.times)
                self.timing = replace(self.timing, rounds=rounds, runs=runs)

    def finish(self) -> None:
        """Let go of the network and its input, and tell the compiler's time from that of the first call."""
        self._timer = None
        if self.timing.compile_s is not None:
            usual = (1.5 if self._grad else 1) * self.timing.median  # with a backward it went forward twice
            self.timing = replace(self.timing, compile_s=max(self.timing.compile_s - usual, 0.0))

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Note what keeps the subject from being timed, so that the others go on."""
        try:
            yield
        except RnnscopeError as error:
            message, hint, subject, device = error.message, error.hint, self.timing.subject, self._spec.device
            for name in (f"{subject}: ", f"{subject} "):  # the row or the sentence has it already
                message = message.removeprefix(name)
            if message.startswith(f"--device {device}: "):  # the subject's own device, which the Spec does not have
                message, hint = message.partition(": ")[2], f"use {subject}@cpu"
            spec, told = self.placed or self._spec, RnnscopeError(message, hint).in_a_row
            self.timing = Timing(self.timing.typed, subject, spec.device, spec.dtype, spec.seq_len, message=told)
            self._timer = None


def leaf(tensor: Tensor) -> Tensor:
    """A copy whose gradient is taken where autograd records."""
    return tensor.detach().clone().requires_grad_(torch.is_grad_enabled())


def with_backward(prepared: Prepared, outputs: Any) -> Callable[[], None]:
    """Forward and backward: the gradients of all leaves for one random cotangent of the outputs of an earlier call."""
    found = list(tensors_of(outputs))
    graded = [index for index, each in enumerate(found) if each.requires_grad]
    if not graded:
        raise RnnscopeError("what comes out has no gradient", "leave --grad out")
    cotangents = [torch.randn_like(found[index]) for index in graded]
    leaves = [each for each in prepared.leaves if each.requires_grad]  # a class of the user's may have frozen ones
    call = prepared.call

    def both() -> None:
        found = list(tensors_of(call()))
        torch.autograd.grad([found[index] for index in graded], leaves, cotangents, allow_unused=True)

    return both


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


def clock_of(device: str) -> Callable[[], float]:
    """Seconds: of the CPU, of CUDA's events, or of the CPU once another device has done all that it was given."""
    if device.startswith("cuda"):
        return EventClock(device)

    def waiting() -> float:
        wait_for(device)
        return perf_counter()

    return perf_counter if device == "cpu" else waiting


def _peak_on(call: Callable[[], object], device: str) -> int | None:
    """The most bytes that a call has allocated on an accelerator; None where torch does not count them there."""
    memory: Any = torch.cuda if device.startswith("cuda") else torch.accelerator
    wait_for(device)
    try:
        memory.reset_peak_memory_stats(device)
        before = memory.memory_allocated(device)
    except (RuntimeError, AttributeError):
        return None
    call()
    wait_for(device)
    return int(memory.max_memory_allocated(device) - before) or None


def peak_bytes(call: Callable[[], object], device: str, steps: int) -> int | None:
    """The most bytes that a call has allocated at one time; None if a CPU takes more steps than can be recorded."""
    if device != "cpu":
        return _peak_on(call, device)
    if steps > MOST_WATCHED_STEPS:
        return None
    silent = patch.dict(os.environ, KINETO_LOG_LEVEL="99")  # the profiler's library tells of itself on stderr
    with silent, profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    results = getattr(profiled.profiler, "kineto_results", None)
    held = most = 0
    for event in results.events() if results else ():
        if event.name() == "[memory]" and event.device_type() == DeviceType.CPU:
            held += event.nbytes()  # negative where it is given back
            most = max(most, held)
    return most
