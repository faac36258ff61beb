"""What a sweep found of one module in many configurations: which relations break, and from which sizes on.

torch is not imported.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

from rnnscope.pages.page import Column, Grid, Page, thousands
from rnnscope.spec.question import nan_last
from rnnscope.spec.relations import RELATIONS
from rnnscope.sweeps.plan import Configuration, Values
from rnnscope.sweeps.result import Finding, Sweep, Wording, size_of

VERDICTS = ("holds", "broken", "undecided")

CHECKED = Wording(
    status="checked",
    unit="check",
    verdicts=VERDICTS,
    shown=(*VERDICTS, "failed"),
    good="holds",
    bad="broken",
    none="a broken relation",
    some="a broken relation",
    worst="times_bound",
)


@dataclass(frozen=True)
class CheckFinding(Finding):
    """What the row of a check says, in short.

    outcome: holds, broken, undecided, not_comparable or failed. cause: the first relation that is broken.
    broken: all of them. share: the greatest max_abs / bound of what holds or is broken. sizes: L and N.
    """

    broken: tuple[str, ...] = ()
    share: float | None = None
    sizes: tuple[int, int] = (0, 0)

    @property
    def worst(self) -> float | None:
        return self.share

    @property
    def narrowed(self) -> Values:
        named = {name: self.configuration.values.get(name) for name in ("check", "args", "names")}
        return named | {"shrink": False, "only": (self.cause,)}

    def record(self) -> dict[str, Any]:
        found = {"verdict": self.outcome, "broken": list(self.broken), CHECKED.worst: self.share}
        return found | {"rerun": self.rerun, "message": self.message}


def check_finding(configuration: Configuration, row: Mapping[str, Any]) -> CheckFinding:
    """What the row of a configuration says."""
    told, spec = row.get("relations", ()), row["spec"]
    outcome = row["verdict"] if row["status"] == CHECKED.status else row["status"]
    broken = tuple(each["relation"] for each in told if each["outcome"] == "broken")
    shares = [_share(each) for each in told if each["outcome"] in ("holds", "broken") and each["max_abs"] is not None]
    return CheckFinding(
        configuration,
        outcome,
        cause=next(iter(broken), None),
        max_abs=None,
        message=_undecided(told) if outcome == "undecided" else row["message"],
        size=size_of(spec),
        more=broken,
        broken=broken,
        share=max(shares, key=nan_last, default=None),
        sizes=(int(spec["seq_len"] or 1), int(spec["batch_size"] or 1)),
    )


def _share(relation: Mapping[str, Any]) -> float:
    """max_abs as a multiple of the bound."""
    max_abs, bound = float(relation["max_abs"]), float(relation["bound"] or 0)
    if max_abs == 0:
        return 0.0
    return max_abs / bound if bound else math.inf


def _undecided(told: list[Mapping[str, Any]]) -> str:
    """Of which relation nothing can be said, and why: of the first one, and how many more there are."""
    undecided = [each for each in told if each["outcome"] == "undecided"]
    if not undecided:
        if any(each["outcome"] != "not_applicable" for each in told):
            raise ValueError(told)  # somebody changed the row
        return "no relation applies"
    first, *others = undecided
    more = f", and {len(others)} more" if others else ""
    return f"{first['relation']}: {first['message']}{more}"


@dataclass(frozen=True)
class BrokenRelation:
    """A relation that is broken in so many configurations.

    seq_len, batch_size: the smallest L of them, and the smallest N with that. rerun: the command line of that one.
    """

    relation: str
    count: int
    seq_len: int
    batch_size: int
    rerun: str


@dataclass(frozen=True, eq=False, repr=False)
class CheckSweep(Sweep):
    """What was found of all configurations in which a module was checked."""

    words: ClassVar[Wording] = CHECKED

    @property
    def first_to_shrink(self) -> Finding | None:
        return next(iter(self.wrong), None)

    @cached_property
    def broken(self) -> tuple[BrokenRelation, ...]:
        """The relations that are broken, in the order of RELATIONS."""
        found: dict[str, list[CheckFinding]] = {}
        for each in self.findings:
            assert isinstance(each, CheckFinding)
            for name in each.broken:
                found.setdefault(name, []).append(each)
        return tuple(_first(name, found[name]) for name in RELATIONS if name in found)

    def tables(self) -> Page:
        if not self.broken:
            return []
        columns = Column("broken relation", name=True), Column("configurations", number=True), Column("first at")
        rows = ((e.relation, thousands(e.count), f"L = {e.seq_len}, N = {e.batch_size}") for e in self.broken)
        return [Grid("Where", columns, tuple(rows))]

    def label(self, found: Finding) -> str:
        return "Broken"

    def in_words(self, found: Finding) -> str:
        return f"Broken: {', '.join(found.more)}" if found.more else super().in_words(found)

    @property
    def label_of_smallest(self) -> str:
        return f"Smallest that breaks {self.wrong[0].cause}"

    def facts_of_wrong(self) -> dict[str, Any]:
        first = next((each.rerun for each in self.wrong), None)
        return {
            "broken": [asdict(each) for each in self.broken],
            "first_broken": first,
            "smallest_broken": self.smallest,
        }

    def records(self) -> Iterator[dict[str, Any]]:
        """One record a configuration; its broken relations with commas between them."""
        return ({**each, "broken": ",".join(each["broken"])} for each in super().records())


def _first(relation: str, found: list[CheckFinding]) -> BrokenRelation:
    first = min(found, key=lambda each: (each.sizes, each.size, each.rerun))
    return BrokenRelation(relation, len(found), *first.sizes, first.rerun)
