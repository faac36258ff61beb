"""pytest's fixture `rnnscope`: `compare`, `check` and `sweep`, each of which fails the test where something is wrong.

A failing test keeps the command line that shows the same again: in its report, below all tests, and in pytest's cache
until it passes. pytest loads this file whenever it starts, so nothing heavy is imported before a test asks for it.
"""

import io
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from rnnscope.checks.result import Check
    from rnnscope.sweeps.result import Sweep
    from rnnscope.verdict.result import Comparison

R = TypeVar("R", "Check", "Comparison", "Sweep")

KEPT = "rnnscope/rerun"
"""The name of the lines: in a report's properties, and in pytest's cache."""


class Asserting:
    """The functions of rnnscope as assertions: each returns its result, unless something is wrong with it.

    They take what the functions of these names take, and raise an AssertionError whose text is the page.
    """

    def __init__(self, item: pytest.Item) -> None:
        self._item = item

    def compare(self, *sides: Any, **options: Any) -> "Comparison":
        """Fail unless both sides are identical or equivalent."""
        __tracebackhide__ = True
        import rnnscope

        found: Comparison = rnnscope.compare(*sides, **options)
        return self._sound(found)

    def check(self, module: Any, *given: Any, **options: Any) -> "Check":
        """Fail unless every relation holds that says something of the module."""
        __tracebackhide__ = True
        import rnnscope

        return self._sound(rnnscope.check(module, *given, **options))

    def sweep(self, *axes: Any, **options: Any) -> "Sweep":
        """Fail unless nothing is wrong in any configuration; the smallest that is wrong is the line that is kept."""
        __tracebackhide__ = True
        import rnnscope

        found = rnnscope.sweep(*axes, **options)
        assert found is not None  # only a process of torchrun that helps gets None
        return self._sound(found, found.smallest)

    def _sound(self, found: R, line: str | None = None) -> R:
        """The result, if nothing is wrong with it."""
        __tracebackhide__ = True
        if not found.exit_code:
            return found
        from rnnscope.pages.render import render

        if line := line or found.rerun:  # modules that are given in Python have none
            # The report of a test takes its properties along, also from a process of pytest-xdist.
            self._item.user_properties.append((KEPT, line))
        page = render(found, "table", io.StringIO())
        raise AssertionError(f"rnnscope {found.command} found {found.verdict}\n{page}")


@pytest.fixture
def rnnscope(request: pytest.FixtureRequest) -> Asserting:
    """compare, check and sweep of rnnscope, which fail the test where something is wrong."""
    return Asserting(request.node)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """List below all tests the line of each that failed, and keep it in the cache until that test passes."""
    # pytest calls it an error where a fixture fails, before or after the test.
    wrong = (*terminalreporter.getreports("failed"), *terminalreporter.getreports("error"))
    failed = {each.nodeid: _lines(each) for each in wrong if isinstance(each, pytest.TestReport)}
    passed = {each.nodeid for each in terminalreporter.getreports("passed") if each.when == "call"}
    failed = {name: lines for name, lines in failed.items() if lines}
    if failed:
        terminalreporter.section("rnnscope: the same again, in a shell")
        for name, lines in failed.items():
            for line in (name, *lines):
                terminalreporter.write_line(line)
    cache = getattr(config, "cache", None)  # pytest may run without one
    if cache is not None and (failed or cache.get(KEPT, None)):
        kept = {name: lines for name, lines in cache.get(KEPT, {}).items() if name not in passed}
        cache.set(KEPT, kept | failed)


def _lines(report: pytest.TestReport) -> list[str]:
    return [str(value) for name, value in report.user_properties if name == KEPT]
