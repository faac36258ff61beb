"""What is found of one module as it is handed out: with its page, its document and its records."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from rnnscope.checks.facts import BROKEN, HOLDS, NOT_APPLICABLE, UNDECIDED, Findings
from rnnscope.checks.page import page_of
from rnnscope.checks.words import in_words
from rnnscope.pages.ci import ERROR, FAILED, PASSED, SKIPPED, Case
from rnnscope.pages.page import Page, ended
from rnnscope.spec.relations import MODULE, WANTED_FLAGS


@dataclass(frozen=True)
class Check(Findings):
    """One module, relation by relation. Its fields are those of Findings.

    >>> found = check(torch.nn.GRU(4, 8), torch.randn(5, 3, 4))
    >>> found.verdict, found.exit_code, found["causality"].outcome
    ('holds', 0, 'holds')
    """

    command: ClassVar[str] = "check"

    @property
    def rerun(self) -> str:
        if self.is_given:
            return ""
        return self.line((MODULE, self.subject), *((flag, getattr(self.wanted, n)) for n, flag in WANTED_FLAGS.items()))

    def page(self) -> Page:
        """The table of relations, and a sentence for each that is broken."""
        return page_of(self)

    def cases(self) -> Iterator[Case]:
        """One for each relation. Where one is broken, an undecided one, which may rest on it, says nothing."""
        unsaid = SKIPPED if self.told(BROKEN) else ERROR
        outcomes = {HOLDS: PASSED, BROKEN: FAILED, UNDECIDED: unsaid, NOT_APPLICABLE: SKIPPED}
        again = (f"Rerun: {self.rerun}",) if self.rerun else ()
        for each in self.relations:
            outcome, message = outcomes[each.outcome], f"{each.relation}: {ended(each.message)}"
            where = (f"First at: {in_words(each.place)}",) if each.place else ()
            details = (*where, *again) if outcome in (FAILED, ERROR) else ()
            yield Case(each.relation, outcome, each.relation, message, details, self.subject)

    def facts(self) -> dict[str, Any]:
        """Every relation, for JSON."""
        return {
            "subject": self.subject,
            "verdict": self.verdict,
            "relations": [asdict(each) for each in self.relations],
            "supports": [asdict(each) for each in self.supports],
            "smallest": [{"relation": e.relation, "spec": e.spec.facts, "rerun": e.line} for e in self.smallest],
            "adaptations": list(self.adaptations),
            "x": list(self.x),
            "batch_first": self.batch_first,
            "computed_in": self.computed_in,
            "steps": self.steps,
            "inside": self.inside,
            "calls": dict(self.calls),
        }

    def records(self) -> Iterator[dict[str, Any]]:
        """One record for each relation; its place in columns of its own."""
        for each in self.relations:
            place = asdict(each.place) if each.place else dict.fromkeys(("tensor", "step", "item", "unit"))
            facts = {"relation": each.relation, "outcome": each.outcome, "max_abs": each.max_abs, "bound": each.bound}
            yield facts | place | {"runs": each.runs, "message": each.message, "verdict": self.verdict}
