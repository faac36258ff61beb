"""The rows of a file, and what they say together: of comparisons, or of checks. Nothing is run.

A row says by its command which of the two it is, and a file has rows of one kind. torch is not imported.
"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rnnscope.errors import RnnscopeError
from rnnscope.spec.options import REPORT
from rnnscope.spec.relations import CHECK
from rnnscope.sweeps.checked import CheckSweep, check_finding
from rnnscope.sweeps.plan import Configuration, read_rerun
from rnnscope.sweeps.result import STATUSES, Finding, Sweep, finding
from rnnscope.sweeps.rows import FROM_A_SWEEP, Row, read_rows


@dataclass(frozen=True)
class Summary:
    """How rows of one command are summed up: what one says in short, and what all say together."""

    finding: Callable[[Configuration, Mapping[str, Any]], Finding]
    sweep: type[Sweep]


SUMMARIES = {"compare": Summary(finding, Sweep), "check": Summary(check_finding, CheckSweep)}
"""By the command of which a row is the document."""


def finding_of(configuration: Configuration, row: Row) -> Finding:
    """What the row of a configuration says."""
    return SUMMARIES[configuration.command].finding(configuration, row)


def read_finding(row: Row) -> Finding:
    """What a row says that was read from a file.

    Raises:
        RnnscopeError: what is no row.
    """
    try:
        found, words = finding_of(Configuration(read_rerun(row["rerun"])), row), SUMMARIES[row["command"]].sweep.words
        allowed = words.verdicts if row["status"] == words.status else STATUSES
        is_its_own = found.configuration.command == row["command"]
        if not is_its_own or found.outcome not in allowed or not isinstance(found.message, str | None):
            raise ValueError(found)
        return found
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RnnscopeError("no row of a sweep", FROM_A_SWEEP) from error


def read_sweep(path: str) -> Sweep:
    """What the rows of a file say together; nothing is run.

    Raises:
        RnnscopeError: a file that cannot be read, or that is no file of rows.
    """
    found: list[Finding] = []

    def seen(row: Row) -> None:
        if found:
            check_kind(row, found[0].configuration.command)
        found.append(read_finding(row))

    read_rows(path, seen)
    if not found:
        raise RnnscopeError(f"{path} has no rows in it", FROM_A_SWEEP)
    findings = {each.configuration: each for each in found}  # of two rows of one the last
    line = shlex.join(["rnnscope", "sweep", *REPORT.as_typed(path)])
    return SUMMARIES[found[0].configuration.command].sweep(tuple(findings.values()), line)


def check_kind(row: Row, command: str) -> None:
    """Raise unless a row is one of a command, as all others in its file are."""
    if row["command"] != command:
        other = {
            "check": f"a comparison, which {CHECK.name} does not go on with",
            "compare": f"a check, with which a sweep goes on that has {CHECK.name}",
        }
        raise RnnscopeError(other[command], "name another file")
