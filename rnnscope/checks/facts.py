"""What is found of one module: relation by relation, and the whole. Facts alone, without words for the whole."""

from dataclasses import dataclass

from rnnscope.checks.values import Gap, Place
from rnnscope.pages.render import SpecResult
from rnnscope.spec.options import NO_FILES, Sources
from rnnscope.spec.relations import Wanted
from rnnscope.spec.spec import Spec

HOLDS, BROKEN, UNDECIDED, NOT_APPLICABLE = "holds", "broken", "undecided", "not_applicable"
"""What can be said of a relation."""


@dataclass(frozen=True)
class Relation:
    """What was found of one relation.

    Args:
        relation: its name.
        outcome: holds, broken, undecided or not_applicable.
        max_abs: how far the two runs are apart, where that is the greatest share of the bound; the greatest distance
            where it is broken; None where shapes differ, or nothing was run.
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


@dataclass(frozen=True)
class Support:
    """What torch's transforms and exporters make of a module.

    Args:
        name: vmap, jvp, compile, export or scripting.
        outcome: right, wrong, refused or not_applicable.
        message: a sentence without capital and full stop.
        max_abs: how far what it gives is from what the module gives. bound: what rounding explains of that.
    """

    name: str
    outcome: str
    message: str = ""
    max_abs: float | None = None
    bound: float | None = None


@dataclass(frozen=True)
class Smallest:
    """The smallest sizes at which a relation still breaks, and the line that asks for just that; "" without one."""

    relation: str
    spec: Spec
    line: str


@dataclass(frozen=True)
class Findings(SpecResult):
    """One module, relation by relation.

    Args:
        subject: FILE.py:Class, package.module:Class, or the name of the class of a module that was given.
        spec: the sizes with which it was built and run.
        x: the shape of x as the module takes it. batch_first: whether that starts with N.
        computed_in: the dtype in which it was asked: float64, unless it does not run in that.
        steps: the first steps of L that were asked, where rounding moves later ones too far.
        inside: the coarser dtype to which it rounds inside.
        is_given: whether the module was given in Python, so that no line of a shell gives this again.
    """

    subject: str
    spec: Spec
    relations: tuple[Relation, ...]
    wanted: Wanted
    supports: tuple[Support, ...] = ()
    smallest: tuple[Smallest, ...] = ()
    adaptations: tuple[str, ...] = ()
    x: tuple[int, ...] = ()
    batch_first: bool = False
    computed_in: str = "float64"
    steps: int | None = None
    inside: str | None = None
    calls: tuple[tuple[str, int], ...] = ()
    is_given: bool = False
    device_name: str | None = None
    torch_version: str | None = None
    sources: Sources = NO_FILES

    def __getitem__(self, name: str) -> Relation:
        """One relation by its name."""
        found = {each.relation: each for each in self.relations}
        if name not in found:
            raise KeyError(f"{name!r} was not asked; there are {', '.join(found)}")
        return found[name]

    def told(self, outcome: str) -> tuple[Relation, ...]:
        """The relations with an outcome."""
        return tuple(each for each in self.relations if each.outcome == outcome)

    @property
    def verdict(self) -> str:
        """broken if one relation is, holds if one does and nothing is undecided, undecided otherwise."""
        outcomes = {each.outcome for each in self.relations}
        if BROKEN in outcomes:
            return BROKEN
        return UNDECIDED if UNDECIDED in outcomes or HOLDS not in outcomes else HOLDS

    @property
    def exit_code(self) -> int:
        """0 if every relation that applies holds, 1 if one is broken, 2 otherwise: undecided, or none applies."""
        return {HOLDS: 0, BROKEN: 1, UNDECIDED: 2}[self.verdict]
