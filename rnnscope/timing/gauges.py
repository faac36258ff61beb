"""What time and memory are read from: a clock of the device itself, and the most that one call allocates at one time.

What is counted as memory: what torch's allocator hands out while the call runs, less what it takes back, on top of the
weights and the input that are there before. So it is y, h and c, and everything in between: the gates, a step's states,
and with gradients what backward keeps. What oneDNN and the Python objects take elsewhere is not seen. The resident
size of the process is no measure of it, since it never falls.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from rnnscope.network.costs import MOST_WATCHED_STEPS


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
