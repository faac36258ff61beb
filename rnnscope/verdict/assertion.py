"""An assertion for test suites: that two networks are the same, with the table of the comparison where they are not."""

import io
from typing import Any

from rnnscope.pages.render import render
from rnnscope.verdict.compare import compare
from rnnscope.verdict.result import Comparison


def assert_equivalent(*sides: Any, **question: Any) -> Comparison:
    """Do nothing where `compare` with the same arguments finds two networks identical or equivalent.

    Returns:
        the comparison, whose figures may be asserted too.

    Raises:
        AssertionError: they are different, or it cannot be decided; its text is the table of the comparison.
        RnnscopeError: they cannot be compared: see `compare`.
    """
    comparison = compare(*sides, **question)
    if comparison.exit_code:
        raise AssertionError("\n" + render(comparison, "table", io.StringIO()))
    return comparison
