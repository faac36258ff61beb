"""A comparison as it is handed out: the facts and the verdict, with their page, their document and their records."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from rnnscope.pages.ci import ERROR, FAILED, PASSED, Case
from rnnscope.pages.page import Page, said
from rnnscope.spec.question import QUESTION_FLAGS, STRESS_TIMES, BlindSpot
from rnnscope.spec.sides import HOW_FLAGS, LEFT, OWN_FLAGS, RIGHT
from rnnscope.verdict.facts import BrokenRelation, Judged, Reference
from rnnscope.verdict.page import named, page_of, title_of, verdict_in_words
from rnnscope.verdict.unseen import blind_spots


@dataclass(frozen=True)
class Comparison(Judged):
    """Two subjects of one Spec, output by output, and gradient by gradient if they were asked for.

    Its fields are those of Judged.

    >>> found = compare(Spec(kind="gru"), "module", "module")
    >>> found.verdict, found.exit_code, found.cause, [each.name for each in found.outputs]
    ('identical', 0, None, ['y', 'h'])
    """

    stress: "Comparison | None" = None

    command: ClassVar[str] = "compare"

    @property
    def blind_spots(self) -> tuple[BlindSpot, ...]:
        """What this comparison cannot see, whatever its verdict."""
        return blind_spots(self)

    @property
    def more(self) -> tuple[str, ...]:
        """What `rnnscope explain` has a page of: the deviations, otherwise the cause or the verdict; blind spots."""
        return named(self)

    @property
    def rerun(self) -> str:
        """The command line that compares exactly this again; "" if there is none."""
        if self.sides.written is None:
            return ""
        asked = {"grad": self.question.grad} | vars(self.question) | {"power": self.reasons.power is not None}
        if self.tolerance.given:
            asked |= {"rtol": self.tolerance.rtol, "atol": self.tolerance.atol}
        sides = zip((LEFT, RIGHT), self.sides.written, strict=True)
        flags = ((QUESTION_FLAGS[name], value) for name, value in asked.items())
        of_classes = ((flag, getattr(self.sides.own, name)) for name, flag in OWN_FLAGS.items())
        of_runs = ((flag, getattr(self.sides.how, name)) for name, flag in HOW_FLAGS.items())
        return self.line(*sides, *of_classes, *of_runs, *flags, recorded=self.sides.recorded is not None)

    def page(self) -> Page:
        """The tables and sentences of `rnnscope compare`."""
        return page_of(self)

    def facts(self) -> dict[str, Any]:
        """Every figure, for JSON."""
        sides, question, figures, reasons = self.sides, self.question, self.figures, self.reasons
        reference, place, heat = self.reference, self.first_divergence, self.heat_map
        return {
            "left": sides.left,
            "right": sides.right,
            "outputs": [asdict(each) for each in figures.outputs],
            **({} if figures.gradients is None else {"gradients": [asdict(each) for each in figures.gradients]}),
            "tolerance": asdict(self.tolerance),
            "reference": reference and _reference_document(reference),
            "verdict": self.verdict,
            "cause": self.cause,
            "frozen": self.frozen and asdict(self.frozen),
            "only_where_made": self.only_where_made
            and dict(zip(("side", "made_at"), self.only_where_made, strict=True)),
            "side": self.side,
            "first_divergence": place and asdict(place) | {"gate": self.gate},
            "gradient_fault": self.gradient_fault and asdict(self.gradient_fault),
            "explanations": [asdict(each) for each in reasons.explanations],
            "broken_relation": reasons.broken_relation and _relation_document(reasons.broken_relation),
            "power": reasons.power and asdict(reasons.power),
            **({} if heat is None else {"map": asdict(heat)}),
            **({} if self.reached is None else {"reached": asdict(self.reached)}),
            **({"stress": _stress_document(self.stress)} if question.stress else {}),
            "blind_spots": [each.sentence for each in self.blind_spots],
            "more": list(self.more),
            "back_ends": dict(self.back_ends),
            "dtypes": list(sides.dtypes),
            "resync": question.resync,
            "chunk": question.chunk,
            "weight_differences": [asdict(each) for each in sides.weights],
            "dependences": [asdict(each) for each in reasons.dependences],
            "recorded": sides.recorded,
            "autocast": sides.how.autocast,
            "inside": {each.side: each.arithmetic for each in reference.inside} if reference else {},
            "without_float64": list(reference.without_float64) if reference else [],
            "returned": dict(figures.wrong_dtypes),
            "keeps_state": {each.side: each.max_abs for each in self.calls if each.by == "state"},
            "calls": [asdict(each) for each in self.calls],
            "notes": [f"{each[0].upper()}{each[1:]}." for each in self.notes],
            "adaptations": {side: list(told) for side, told in self.adaptations if told},
            "ungraded": {role: list(names) for role, names in figures.missing_gradients},
        }

    def records(self) -> Iterator[dict[str, Any]]:
        """One record an output or gradient."""
        return (asdict(each) | {"verdict": self.verdict} for each in self.figures.rows)

    def cases(self) -> Iterator[Case]:
        """One: the comparison. The side that is off is at fault, otherwise the right one."""
        details = said(self.page(), "Why", "First at", "First in", "Rerun")
        yield Case(
            title_of(self),
            {0: PASSED, 1: FAILED}.get(self.exit_code, ERROR),
            self.cause or self.verdict,
            verdict_in_words(self),
            details,
            self.left if self.side == "left" else self.right,
        )


def _reference_document(reference: Reference) -> dict[str, Any]:
    """The figures of each check: the greatest of all tensors, and then tensor by tensor."""
    checks = {"function": reference.function, "left": reference.left, "right": reference.right}
    return {
        "dtype": "float64",
        **{f"{name}_max_abs": check.max_abs for name, check in checks.items()},
        "bound": reference.function.worst.bound,
        "without_tf32_max_abs": reference.without_tf32,
        "other": list(reference.deviating),
        "about_float32": [each.side for each in reference.inside if each.arithmetic == "float32"],
        "about_coarser": reference.about_coarser,
        "checks": {
            name: asdict(check) | {"within": check.within, "decided": check.decided} for name, check in checks.items()
        },
    }


def _relation_document(found: BrokenRelation) -> dict[str, Any]:
    """Which side breaks which relation, by how much and where."""
    names = ("relation", "max_abs", "bound", "place", "message")
    relation = asdict(found.relation)
    return {"side": found.side, **{name: relation[name] for name in names}}


def _stress_document(stress: Comparison | None) -> dict[str, Any] | None:
    """What was found under stress; None where it was not asked, since the sides differ as it is."""
    if stress is None:
        return None
    of_input = {"times": STRESS_TIMES, "seq_len": stress.spec.seq_len, "lengths": stress.spec.lengths}
    facts = stress.facts()
    names = ("outputs", "reference", "verdict", "cause", "side", "first_divergence", "explanations", "broken_relation")
    return of_input | {name: facts[name] for name in (*names, "dependences", "reached") if name in facts}
