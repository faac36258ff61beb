"""How far a long run has come: a bar with the rate and the time left, on stderr where that is a terminal.

Off a terminal nothing is written. What is counted is known by the caller alone.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], object]
"""Told how many more have been done."""

_is_shown = False
"""One bar at a time: what runs within a sweep has none of its own."""


@contextmanager
def progress(total: int, unit: str, done: int = 0) -> Iterator[Advance]:
    """Show a bar while what is inside runs; it is gone afterwards.

    Args:
        total: how many there are in all.
        unit: what they are, in the plural.
        done: how many there are already.
    """
    global _is_shown
    if _is_shown or sys.stderr is None or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.speed or 0.0
            return Text(f"{speed:,.0f} {unit}/s" if speed >= 100 else f"{speed:.3g} {unit}/s")

    columns = (BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    # stdout is left alone: it gets the result, and may be another terminal.
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task, _is_shown = bar.add_task(unit, total=total, completed=done), True
        try:
            yield lambda count: bar.advance(task, count)
        finally:
            _is_shown = False
