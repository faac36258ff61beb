"""What a terminal is told while something takes long: what is going on, how fast, and how long it will take.

`shown` watches over a command. Within it, `stage` names a part, `progress` counts what is done of the whole, and
`walking` counts the steps of a walk. A thread of its own draws what they say on stderr, from the third second on, and
wipes it away at the end. Off a terminal there is no such thread. rich is imported by it, so that short commands do not
wait for that.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, TextIO

from rnnscope.pages.page import printable, thousands

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PATIENCE = 2.0
"""Seconds in which nothing is drawn: what takes no longer would only flicker."""

PAUSE = 0.2
"""Seconds from one drawing to the next."""

Advance = Callable[[int], object]
"""Told how many more have been done."""


class _Count:
    """How much is done: what was added, and as many as a list has entries, which grows by itself."""

    def __init__(self, total: int, unit: str, done: int = 0) -> None:
        self.total, self.unit = total, unit
        self._added = done
        self._growing: Sized = ()

    @property
    def done(self) -> int:
        return self._added + len(self._growing)

    def add(self, many: int) -> None:
        self._added += many

    def follow(self, growing: Sized) -> None:
        """Count the entries of a list from now on; those of the one before stay counted."""
        before, self._growing = len(self._growing), growing
        self._added += before


class _Stage:
    def __init__(self, name: str) -> None:
        self.name, self.began = name, monotonic()
        self.walk: _Count | None = None


class _Screen:
    """The stages that are going on, from the whole to its smallest part, and the thread that draws them."""

    def __init__(self, name: str, terminal: TextIO) -> None:
        self.stages, self.owner = [_Stage(name)], threading.get_ident()
        self.whole: _Count | None = None
        self._terminal, self._over = terminal, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Leave the terminal as it was."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        if not self._over.wait(PATIENCE):
            with suppress(OSError, UnicodeError):  # a terminal that is gone, or that cannot say a name
                self._draw()

    def _draw(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        # What others write goes to stdout and stderr themselves: code of the user's may replace either meanwhile.
        bar = Progress(
            BarColumn(16),
            TextColumn("{task.description}", markup=False),
            console=Console(file=self._terminal),
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        task = bar.add_task("")
        drawn = self._update(bar, task, None)
        with bar:
            while not self._over.wait(PAUSE):
                drawn = self._update(bar, task, drawn)
                bar.refresh()

    def _update(self, bar: "Progress", task: "TaskID", drawn: object) -> object:
        """Say how things stand, and give what the bar is of: a count, or a stage of which only the time is known."""
        stages = self.stages[:]
        count = self.whole or stages[-1].walk
        done, total = (count.done, count.total) if count else (0, None)
        if (count or stages[-1]) is not drawn:
            bar.reset(task, completed=done, total=total)
        bar.update(task, completed=done)  # first, since the speed follows from it
        bar.update(task, description=_in_words(stages, count, done, bar.tasks[0].speed))
        return count or stages[-1]


def _in_words(stages: list[_Stage], count: _Count | None, done: int, speed: float | None) -> str:
    facts = [_clock(monotonic() - stages[-1].began)]
    if count:
        facts = [f"{thousands(done)}/{thousands(count.total)} {count.unit}"]
        if speed:
            rate = f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}"
            facts += [f"{rate} {count.unit}/s", f"{_clock((count.total - done) / speed)} left"]
    return "  ".join((*facts, ", ".join(printable(each.name) for each in stages[1:] or stages)))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{thousands(hours)}:{minutes:02}:{rest:02}"


_screen: _Screen | None = None
"""The one that draws: whatever runs within a command that is shown is a part of it."""


def _own_screen() -> _Screen | None:
    """The screen, in the thread that is shown."""
    return _screen if _screen is not None and _screen.owner == threading.get_ident() else None


@contextmanager
def shown(name: str) -> Iterator[None]:
    """Tell a terminal what goes on inside, if that takes long."""
    global _screen
    if _screen is not None or sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    _screen = screen = _Screen(name, sys.stderr)
    try:
        yield
    finally:
        _screen = None
        screen.end()


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Name what goes on inside, as a part of what is shown."""
    screen = _own_screen()
    if screen is None:
        yield
        return
    screen.stages.append(_Stage(name))
    try:
        yield
    finally:
        screen.stages.pop()


@contextmanager
def progress(total: int, unit: str, done: int = 0) -> Iterator[Advance]:
    """Show a bar while what is inside runs, with `done` of `total` units at its start; none within another one."""
    with shown(unit):
        screen = _own_screen()
        if screen is None or screen.whole is not None:
            yield lambda count: None
            return
        screen.whole = _Count(total, unit, done)
        try:
            yield screen.whole.add
        finally:
            screen.whole = None


def walking(steps: int) -> Callable[[Sized], object]:
    """Give what a walk of so many steps is to tell of each list to which it adds an entry a step.

    The thread that draws looks how long the list is. So counting costs a step nothing.
    """
    screen = _own_screen()
    if screen is None:
        return _untold
    screen.stages[-1].walk = count = _Count(steps, "steps")
    return count.follow


def _untold(growing: Sized) -> None:
    """Nothing is drawn."""
