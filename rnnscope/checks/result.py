"""What is found of one module: relation by relation, and the whole, with its page, its document and its records."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from rnnscope.checks.values import Gap, Place
from rnnscope.pages.page import Page
from rnnscope.pages.render import SpecResult
from rnnscope.spec.options import NO_FILES, Sources
from rnnscope.spec.relations import WANTED_FLAGS, Wanted
from rnnscope.spec.spec import Spec

HOLDS, BROKEN, UNDECIDED, NOT_APPLICABLE = "holds", "broken", "undecided", "not_applicable"
"""What can be said of a relation."""


@dataclass(frozen=True)
class Relation:
    """What was found of one relation.

    Args:
        relation: its name.
        outcome: holds, broken, undecided or not_applicable.
        max_abs: how far the two runs are apart; None where shapes differ, or nothing was run.
        bound: what rounding explains, where the distance is the greatest share of it.
        place: where they part first.
        message: a sentence without capital and full stop; why, where it does not hold.
        runs: how often the module was called for it.
    """

    relation: str
    outcome: str
    max_abs: float | None = None
    bound: float | None = None
    place: Place | None = None
    message: str = ""
    runs: int = 0


def holds(gap: Gap | None = None, message: str = "") -> Relation:
    """It holds, as near as a gap says."""
    return _told(HOLDS, gap, message)


def broken(gap: Gap | None, message: str) -> Relation:
    """It is broken, where a gap says."""
    return _told(BROKEN, gap, message)


def undecided(message: str, gap: Gap | None = None) -> Relation:
    """Nothing can be said, for a reason."""
    return _told(UNDECIDED, gap, message)


def not_applicable(message: str) -> Relation:
    """It says nothing of this module, for a reason."""
    return _told(NOT_APPLICABLE, None, message)


def _told(outcome: str, gap: Gap | None, message: str) -> Relation:
    if gap is None:
        return Relation("", outcome, message=message)
    return Relation("", outcome, gap.max_abs, gap.bound, gap.place if outcome == BROKEN else None, message)
