"""What a comparison found, the verdict that follows from it, and the page that tells it."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from rnnscope.help.explain import more
from rnnscope.network.shapes import Place, network_in_words, place_in_words
from rnnscope.pages.page import Column, Grid, Page, Sentence, counted, thousands, where_it_ran
from rnnscope.pages.render import SpecResult
from rnnscope.spec.options import DEVIATION, LEFT, NO_FILES, RECORDED, RIGHT, Sources
from rnnscope.spec.question import QUESTION_FLAGS, STRESS_TIMES, BlindSpot, Question, Tolerance, blind_spots
from rnnscope.spec.spec import Spec
from rnnscope.verdict.calls import Unsteady
from rnnscope.verdict.deviations import in_brackets
from rnnscope.verdict.diagnosis import Explanation, pairs_are_tried
from rnnscope.verdict.facts import NO_REASONS, Figures, Inside, Reasons, Reference, Sides, cause_of, side_of
from rnnscope.verdict.figures import Check, Difference
from rnnscope.verdict.gradients import GradientFault
from rnnscope.verdict.map import heat_page
from rnnscope.verdict.places import HeatMap
from rnnscope.verdict.unseen import OF_WEIGHTS, Reach


@dataclass(frozen=True)
class Comparison(SpecResult):
    """Two subjects of one Spec, output by output, and gradient by gradient if they were asked for.

    reference: None if it was not asked for, or if shapes or NaN already decide. first_divergence: where what the
    verdict rests on first appears. gate: the letter of the gate that is off there, where it is one alone.
    gradient_fault: where gradients first part, if they alone are off. sources: the files that weights and input came
    from. calls: what a side gives otherwise when it is called again. unseen: what the numbers themselves leave unseen.
    reached: how far the equations reach, where a class of the user's is a side, or under stress. stress: what is found
    under stress, where that was asked and nothing differs as it is; it is_stressed.

    >>> found = compare(Spec(kind="gru"), "module", "module")
    >>> found.verdict, found.exit_code, found.cause, [each.name for each in found.outputs]
    ('identical', 0, None, ['y', 'h'])
    """

    spec: Spec
    sides: Sides
    question: Question
    figures: Figures
    device_name: str
    torch_version: str
    back_ends: tuple[tuple[str, bool], ...] = ()
    reference: Reference | None = None
    first_divergence: Place | None = None
    gate: str | None = None
    gradient_fault: GradientFault | None = None
    reasons: Reasons = NO_REASONS
    heat_map: HeatMap | None = None
    sources: Sources = NO_FILES
    calls: tuple[Unsteady, ...] = ()
    unseen: tuple[BlindSpot, ...] = ()
    reached: Reach | None = None
    stress: "Comparison | None" = None
    is_stressed: bool = False

    command: ClassVar[str] = "compare"

    @property
    def left(self) -> str:
        return self.sides.left

    @property
    def right(self) -> str:
        return self.sides.right

    @property
    def weights(self) -> tuple[Difference, ...]:
        return self.sides.weights

    @property
    def outputs(self) -> tuple[Difference, ...]:
        return self.figures.outputs

    @property
    def gradients(self) -> tuple[Difference, ...] | None:
        return self.figures.gradients

    @property
    def nonfinite(self) -> tuple[str, ...]:
        return self.figures.nonfinite

    @property
    def explanations(self) -> tuple[Explanation, ...]:
        return self.reasons.explanations

    @property
    def tolerance(self) -> Tolerance:
        """The tolerance of the rows, given or of torch.testing."""
        return self.question.tolerance(*self.sides.dtypes)

    @property
    def cause(self) -> str | None:
        """Why both sides are not identical: shape, nonfinite, function, precision, rounding, or None.

        A side that gives something else when it is called again is no function of its input. Where they differ under
        stress alone, it is the cause there, and so is the side.
        """
        if self.stress and self.parts_under_stress:
            return self.stress.cause
        found = cause_of(self.figures, self.reference)
        return "function" if self.calls and found not in ("shape", "nonfinite") else found

    @property
    def side(self) -> str | None:
        """The side that is off: left, right, or None."""
        if self.stress and self.parts_under_stress:
            return self.stress.side
        found = side_of(self.figures, self.reference)
        if not self.calls or self.cause != "function":
            return found
        off = {each.side for each in self.calls} | ({found} if found else set())
        off |= set(self.reference.deviating) if self.reference else set()
        return off.pop() if len(off) == 1 else None

    @property
    def parts_under_stress(self) -> bool:
        """Whether the sides differ under stress alone."""
        return self.stress is not None and self.stress.verdict == "different"

    @property
    def as_asked(self) -> "Comparison":
        """The same without stress."""
        return replace(self, stress=None)

    @property
    def verdict(self) -> str:
        """What was found.

        different: other shapes, NaN or infinity, another function, also in another call, a side that computes worse
        than its arithmetic allows, or an element over a tolerance that binds. undecided: none of these, but the bounds
        are too wide to say so. identical: none of these, and every bit agrees. equivalent: none of these.

        What is different under stress is different. What is undecided there does not count, since that input is not the
        user's; nor does it where the input itself drives a side beyond what its dtype can say.
        """
        if self.is_stressed and self.cause == "nonfinite" and self.reached and self.reached.overflows:
            return "undecided"
        over = self.question.binds and not self.figures.within_tolerance
        if over or self.cause in ("shape", "nonfinite", "function", "precision"):
            return "different"
        if self.reference and not self.reference.decided:
            return "undecided"
        is_identical = self.figures.identical and not (self.stress and self.stress.verdict == "equivalent")
        return "identical" if is_identical else "equivalent"

    @property
    def exit_code(self) -> int:
        """0 when identical or equivalent, 1 when different, 2 when undecided."""
        return {"different": 1, "undecided": 2}.get(self.verdict, 0)

    @property
    def blind_spots(self) -> tuple[BlindSpot, ...]:
        """What this comparison cannot see, whatever its verdict."""
        has_own_input = self.sides.recorded is not None or self.sources.inputs is not None
        found = list(blind_spots(self.spec, self.question.resync))
        if has_own_input:
            found = [each for each in found if "--h0" not in each.sentence]
        if has_own_input and self.spec.h0 == "zeros":
            unused = "no h0 was recorded, so zeros were taken: whether the initial state is used does not show"
            found.append(BlindSpot("no recorded h0", unused))
        own = [each for each in (self.left, self.right) if ":" in each and not each.startswith((RECORDED, DEVIATION))]
        if own and self.question.chunk is not None and self.question.chunk < self.spec.seq_len:
            kept = f"what {' and '.join(own)} may keep from step to step besides hx starts anew in every chunk"
            found.append(BlindSpot("memory of its own", kept))
        for role in self.reference.without_float64 if self.reference else ():
            if role != self.sides.recorded:
                used = self.sides.dtypes[0 if role == "left" else 1]
                alone = f"{_side_in_words(self, role)} does not run in float64, so that it was judged in {used}"
                found.append(BlindSpot("no float64", f"{alone}: a fault smaller than its rounding would not be seen"))
        late = (_late_fault(each) for each in (self, self.stress) if each is not None)
        return (*found, *filter(None, late), *self.unseen, *_beyond(self))

    @property
    def on_these_weights(self) -> str:
        """The words " on these weights" where others would show more."""
        return " on these weights" if any(each.name in OF_WEIGHTS for each in self.unseen) else ""

    @property
    def more(self) -> tuple[str, ...]:
        """What `rnnscope explain` has a page of: the deviations, otherwise the cause or the verdict; blind spots."""
        decisive = self.stress if self.stress and self.parts_under_stress else self
        found = [name for each in _explained(decisive) for name in each.deviations] or [self.cause or self.verdict]
        found += [each.name for each in self.blind_spots]
        found += ["gradient not given"] if self.figures.missing_gradients else []
        found += [_RELATIONS[each.by] for each in self.calls]
        return tuple(dict.fromkeys(found))

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
        return self.line(*sides, *flags, recorded=self.sides.recorded is not None)

    def page(self) -> Page:
        """The tables and sentences of `rnnscope compare`."""
        left, right, tolerance = self.left, self.right, self.tolerance
        title = f"{right} against {left}, {network_in_words(self.spec)}"
        page: Page = [_differences_grid(title, "output", self.outputs, self)]
        if self.gradients is not None:
            page.append(_differences_grid("Gradients", "gradient of", self.gradients, self))
        if self.weights:
            page.append(_differences_grid("Weights that differ", "weight", self.weights, self))
        if self.reference is not None:
            page.append(_reference_grid(self, self.reference))
        if self.question.binds:
            source = "as given" if tolerance.given else "torch.testing's, since no reference was asked for"
            rule = f"|{right} - {left}| <= {tolerance.atol:g} + {tolerance.rtol:g}·|{left}|; {source}."
            page.append(Sentence("Tolerance", rule))
        mood = "good" if self.exit_code == 0 else "bad"
        page.append(Sentence("Verdict", verdict_in_words(self), mood))
        page += [*_kept(self), *_why(self), *_own(self)]
        if self.first_divergence is not None:
            page.append(Sentence("First at", f"{place_in_words(self.spec, self.first_divergence, self.gate)}."))
        if self.gradient_fault is not None:
            page.append(Sentence("First in", _gradient_fault(self, self.gradient_fault)))
        page += [*_in_chunks(self), *_step_by_step(self), *_power(self), *_under_stress(self)]
        if self.heat_map is not None:
            limit = "tolerance" if self.first_divergence is None and self.question.binds else "bound"
            if self.reference and not self.reference.function.within:
                limit = "bound in float64"  # the map itself may show nothing over it
            page += heat_page(self.spec, self.heat_map, limit)
        page += [Sentence(each.label, f"{each.sentence}.") for each in self.blind_spots]
        page += more(self.more, least=max((len(each.deviations) for each in _explained(self)), default=1))
        dtypes = " and ".join(dict.fromkeys(self.sides.dtypes))
        run = where_it_ran(self.device_name, dtypes, self.threads, self.torch_version, self.back_ends)
        page.append(Sentence("Run", run))
        return page + ([Sentence("Rerun", self.rerun, verbatim=True)] if self.rerun else [])

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
            "side": self.side,
            "first_divergence": place and asdict(place) | {"gate": self.gate},
            "gradient_fault": self.gradient_fault and asdict(self.gradient_fault),
            "explanations": [asdict(each) for each in reasons.explanations],
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
            "inside": {each.side: each.arithmetic for each in reference.inside} if reference else {},
            "without_float64": list(reference.without_float64) if reference else [],
            "returned": dict(figures.wrong_dtypes),
            "keeps_state": {each.side: each.max_abs for each in self.calls if each.by == "state"},
            "calls": [asdict(each) for each in self.calls],
            "ungraded": {role: list(names) for role, names in figures.missing_gradients},
        }

    def records(self) -> Iterator[dict[str, Any]]:
        """One record an output or gradient."""
        return (asdict(each) | {"verdict": self.verdict} for each in self.figures.rows)


_RELATIONS = {"state": "stateless", "chance": "repeatable"}
"""The relation that does not hold where something else comes out of another call."""

_INDEXED = {"y": "y", "padding": "y", "y padding": "y", "h": "h", "c": "c"}
"""The output in which a row has its index; a gradient has the index of its own row."""

_MOST_NAMED = 4
"""A sentence names so many parameters and buffers at most."""

_TENSORS = {"y": "y", "h": "h", "c": "c", "y padding": "the padding of y"}

_BY_TOLERANCE = {
    "identical": "every bit agrees{}",
    "equivalent": "every element is within the tolerance{}; whether they are the same function was not asked",
    "different": "elements are over the tolerance; without --no-reference it is told whether that is rounding",
}
"""Why a verdict without a reference is what it is; {} stands for where that holds."""


def _differences_grid(title: str, first: str, differences: tuple[Difference, ...], comparison: Comparison) -> Grid:
    binds = comparison.question.binds
    names = (first, "shape", "max abs", "at", "max rel", "max ulp", *(["over tolerance"] if binds else []))
    columns = tuple(Column(name, prose=name == "shape", number=name not in (first, "shape", "at")) for name in names)
    rows = (_differences_row(each) for each in differences)
    return Grid(title, columns, tuple(row[: len(columns)] for row in rows))


def _differences_row(each: Difference) -> tuple[str, ...]:
    """The cells of a row, of which the last one is shown if the tolerance binds."""
    if each.max_abs is None or each.max_rel is None or each.worst_index is None:
        return (each.name, f"left {each.shape}, right {each.right_shape}", *["-"] * 5)
    return (
        each.name,
        str(each.shape),
        f"{each.max_abs:.3g}",
        "-" if each.max_abs == 0 else f"{_INDEXED.get(each.name, '')}[{', '.join(map(str, each.worst_index))}]",
        f"{each.max_rel:.3g}",
        "-" if each.max_ulp is None else f"{each.max_ulp:.3g}",
        f"{thousands(each.mismatched or 0)} of {thousands(each.total)}",
    )


def _reference_grid(comparison: Comparison, reference: Reference) -> Grid:
    """For each check the tensor that is nearest to its bound, with the error and the bound there."""
    numbers = (Column("error", number=True), Column("bound", number=True))
    columns = (Column("what", name=True), Column("computed in"), *numbers, Column("nearest at", prose=True))
    rows = (
        _reference_row("right against left", reference.function),
        _reference_row(f"left: {comparison.left}", reference.left),
        _reference_row(f"right: {comparison.right}", reference.right),
    )
    return Grid("Against the equations in float64", columns, rows)


def _reference_row(what: str, check: Check) -> tuple[str, ...]:
    worst, index = check.worst, check.worst.index
    name = worst.name if worst.name in _INDEXED else f"grad of {worst.name}"
    at = f"{name}[{', '.join(map(str, index))}]"
    if check.single_steps and len(index) == 3:
        at = "{}: step {}, item {}, unit {}".format(worst.name, *index)
    elif check.single_steps and len(index) == 4:
        at = "{0}[{2}]: step {1}, item {3}, unit {4}".format(worst.name, *index)
    row = (what, _arithmetic_in_words(check.arithmetic), f"{worst.error:.3g}", f"{worst.bound:.3g}")
    return (*row, at if worst.error else "-")


def _explained(comparison: Comparison) -> tuple[Explanation, ...]:
    """The deviations that the page names."""
    reference = comparison.reference
    return comparison.explanations if reference and reference.deviating else ()


def _why(comparison: Comparison) -> Page:
    """The deviations that a side has."""
    reference, reasons = comparison.reference, comparison.reasons
    if reference is None or not reference.deviating:
        return []
    roles = dict.fromkeys(each.side for each in reasons.explanations)
    found = [f"{_side_in_words(comparison, role, 'The')} {_does(reasons.explanations, role)}" for role in roles]
    if not found:
        if reference.about_coarser or reasons.dependences or comparison.weights:
            return []
        outputs = [each for each in reference.function.margins if each.name in _INDEXED]
        only = "only gradients differ, so no convention of the outputs explains it"
        none, recorded = "no known convention explains it", comparison.sides.recorded
        if not all(pairs_are_tried(comparison.spec, role == recorded) for role in reference.deviating):
            none += "; two at once were not tried on so large a network"
        found = [only if all(each.within for each in outputs) else none]
    return [Sentence("Why", f"{each}.") for each in found]


def _does(explanations: tuple[Explanation, ...], role: str) -> str:
    """What a side does; where this input does not tell several apart, one of them."""
    found = [each for each in explanations if each.side == role]
    if len(found) == 1:
        return found[0].does
    ways = [in_brackets(each.does) if len(each.deviations) == 1 else each.does for each in found]
    return f"does one of these, which are the same on this input: {'; '.join(ways)}"


def _kept(comparison: Comparison) -> Page:
    """Where a side keeps what it keeps."""
    page: Page = []
    for each in comparison.calls:
        if each.changes is not None:
            side = _side_in_words(comparison, each.side, "The")
            kept = f"changes {_some(each.changes)} when it is called"
            if not each.changes:
                kept = "keeps something that is neither a parameter nor a buffer"
            page.append(Sentence("Why", f"{side} {kept}."))
    return page


def _some(names: tuple[str, ...]) -> str:
    rest = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _own(comparison: Comparison) -> Page:
    """What was noticed of somebody's own class."""
    page: Page = []
    by_chance = {each.side for each in comparison.calls if each.by == "chance"}
    for role in sorted(by_chance | {each.side for each in comparison.reasons.dependences if not each.repeats}):
        side = _side_in_words(comparison, role, "The")
        page.append(Sentence("Why", f"{side} gives something else each time it is run."))
    for found in comparison.reasons.dependences:
        side = _side_in_words(comparison, found.side, "The")
        if found.ignores:
            page.append(Sentence("Why", f"{side}: its output does not depend on {', '.join(found.ignores)}."))
    for role, names in comparison.figures.missing_gradients:
        side, named = _side_in_words(comparison, role), ", ".join(names)
        page.append(Sentence("Blind spot", f"{side} gives no gradient of {named}, so that these are not compared."))
    reference = comparison.reference
    for each in reference.inside if reference and comparison.cause != "precision" else ():
        page.append(Sentence("Note", f"{_side_in_words(comparison, each.side, 'The')} {_computes_inside(each)}."))
    for role, dtype in comparison.figures.wrong_dtypes:
        asked = comparison.sides.dtypes[0 if role == "left" else 1]
        side = _side_in_words(comparison, role, "The")
        page.append(Sentence("Note", f"{side} returned {dtype} where {asked} was asked for."))
    return page


def _gradient_fault(comparison: Comparison, fault: GradientFault) -> str:
    """Which gradient is the first that is off, and how."""
    where = f"the gradient of {fault.name}" + (f", gate {fault.gate}" if fault.gate else "")
    where += "" if comparison.side else f" on {_side_in_words(comparison, fault.side)}"
    where += {True: ", in single steps", False: ", though not in single steps", None: ""}[fault.single_steps]
    where += "" if fault.through == "y" else f", of what comes back through {fault.through}"
    scaled = f"it is {fault.scale:.4g} times torch's" if fault.scale is not None else ""
    how = {"missing": "it is 0 where torch's is not", "scale": scaled, "formula": "it is no multiple of torch's"}
    back = fault.kind == "missing" and fault.single_steps and fault.name in ("h0", "c0")
    return f"{where}: {how[fault.kind]}{', so that a step hands none back to the one before' if back else ''}."


def _in_chunks(comparison: Comparison) -> Page:
    chunk, steps = comparison.question.chunk, comparison.spec.seq_len
    if chunk is None or chunk >= steps:
        return []
    chunks, rest = divmod(steps, chunk)
    last = f" and one of {counted(rest, 'step')}" if rest else ""
    of = f"{counted(chunks, 'chunk')} of {counted(chunk, 'step')}{last}"
    return [Sentence("In chunks", f"{of}, each from the state after the one before.")]


def _step_by_step(comparison: Comparison) -> Page:
    if comparison.question.resync:
        count = counted(comparison.outputs[-1].shape[1], "sequence")
        return [Sentence("Step by step", f"{count} of one step, each fed the reference's state before it.")]
    reference = comparison.reference
    checks = (reference.function, reference.left, reference.right) if reference else ()
    counts = [each.whole_steps for each in checks if each.whole_steps is not None]
    tamed = next(
        (f"all {comparison.spec.seq_len} steps with {_tamed_in_words(each)}" for each in checks if each.tamed_by), ""
    )
    if not counts:
        hides = "rounding hides small faults in the later steps, so that they were compared in other ways too"
        return [Sentence("Step by step", f"{hides}: {tamed}.")] if tamed else []
    first = f"; the first {counted(max(counts), 'step')} as a whole too" if max(counts) else ""
    first += f"; {tamed}" if tamed else ""
    why = "rounding moves whole runs too far to tell, so every step was compared by itself, from the reference's state"
    return [Sentence("Step by step", f"{why}{first}.")]


def _tamed_in_words(check: Check) -> str:
    return f"weights of 1/{round(1 / (check.tamed_by or 1))}"


def _power(comparison: Comparison) -> Page:
    power = comparison.reasons.power
    if power is None:
        return []
    outcomes = {"caught": power.caught, "missed": power.missed, "never seen": power.equivalent}
    columns = (Column("outcome"), Column("count", number=True), Column("deviations on the right side", prose=True))
    rows = tuple((word, str(len(names)), "; ".join(names) or "-") for word, names in outcomes.items())
    return [Grid("What this comparison would have caught", columns, rows)]


def _late_fault(comparison: Comparison) -> BlindSpot | None:
    """What rounding may hide in the later steps, where it grows."""
    check = comparison.reference.function if comparison.reference else None
    if check is None or comparison.exit_code:
        return None
    steps = check.sharp_steps if check.whole_steps is None else check.whole_steps
    if steps is None or (check.tamed_by and check.whole_steps is None):
        return None
    where = "under stress " if comparison.is_stressed else ""
    seen = f", unless with {_tamed_in_words(check)}" if check.tamed_by else ""
    late = f"a fault of the loop after the first {steps} of {comparison.spec.seq_len} steps would not be seen{seen}"
    return BlindSpot("late fault", f"{where}{late}: rounding hides it with these weights")


def _beyond(comparison: Comparison) -> Iterator[BlindSpot]:
    """That nothing is known of what lies beyond the range that was reached, where nothing differs."""
    if comparison.reached and comparison.exit_code == 0 and not (comparison.question.stress or comparison.is_stressed):
        far = _reach_in_words(comparison.spec, comparison.reached)
        yield BlindSpot("reached range", f"{far}; --stress reaches further", label="Reached")


def _reach_in_words(spec: Spec, reached: Reach) -> str:
    state, far = ("h", reached.h) if reached.c is None else ("c", reached.c)
    sums = f"sums before {spec.nonlinearity}" if spec.kind == "rnn" else "gate sums"
    steps = counted(reached.steps, "step")
    greatest = f"|{state}| up to {_short(far)}, {sums} up to {_short(reached.gate_sum)}, in {steps}"
    return f"{greatest}: a clip or a threshold beyond that would not be seen"


def _short(number: float) -> str:
    return f"{number:.2g}" if number < 100 else f"{number:.3g}"


def _under_stress(comparison: Comparison) -> Page:
    """What was found under stress, in short."""
    stress, spec = comparison.stress, comparison.spec
    if stress is None:
        asked = comparison.question.stress
        return [Sentence("Under stress", "not asked, since they differ as it is.")] if asked else []
    rows = [("verdict", _verdict_under_stress(stress))]
    rows += [("cause", stress.cause)] if stress.cause else []
    rows += [("reached", f"{_reach_in_words(spec, stress.reached)}.")] if stress.reached else []
    rows += [(each.label.lower(), each.text) for each in (*_why(stress), *_own(stress)) if isinstance(each, Sentence)]
    place = stress.first_divergence
    rows += [("first at", f"{place_in_words(stress.spec, place)}.")] if place else []
    state = "" if spec.h0 == "zeros" else " and the initial state"
    title = f"Under stress: x{state} {STRESS_TIMES} times as large, in {counted(stress.spec.seq_len, 'step')}"
    return [Grid(title, (Column("what"), Column("found", prose=True)), tuple(rows))]


def _verdict_under_stress(stress: Comparison) -> str:
    if stress.cause == "nonfinite" and stress.verdict == "undecided":
        dtypes = " or ".join(dict.fromkeys(stress.sides.dtypes))
        return f"undecided: numbers so large are near or beyond what {dtypes} can say, so that nothing can be told."
    return verdict_in_words(stress)


def _stress_document(stress: Comparison | None) -> dict[str, Any] | None:
    """What was found under stress; None where it was not asked, since the sides differ as it is."""
    if stress is None:
        return None
    of_input = {"times": STRESS_TIMES, "seq_len": stress.spec.seq_len, "lengths": stress.spec.lengths}
    facts = stress.facts()
    names = ("outputs", "reference", "verdict", "cause", "side", "first_divergence", "explanations")
    return of_input | {name: facts[name] for name in (*names, "dependences", "reached") if name in facts}


def verdict_in_words(comparison: Comparison) -> str:
    """The verdict and why, in a few sentences."""
    stress, plain = comparison.stress, comparison.as_asked
    if stress is None:
        return _with_calls(comparison)
    if comparison.parts_under_stress:
        return f"different: {plain.verdict} as asked, but not under stress, as the table there says."
    counts = ", which does not count" if stress.verdict == "undecided" else ""
    return f"{comparison.verdict}: {_because(plain)}; under stress {stress.verdict}{counts}."


def _with_calls(comparison: Comparison) -> str:
    """The verdict and why; what other calls give is said first."""
    in_first_calls = replace(comparison, calls=())
    because, differs = _because(in_first_calls), in_first_calls.verdict == "different"
    is_other = in_first_calls.cause == "function"  # then a line behind Why names chance
    told = [_unsteady(comparison, each) for each in comparison.calls if each.by == "state" or not is_other]
    if not told:
        return f"{comparison.verdict}: {because}."
    if comparison.reference is None and comparison.question.reference and not in_first_calls.cause:
        return f"{comparison.verdict}: {'. Besides, '.join(told)}. In float64 it raises an error."
    alone = "too" if differs else "alone"
    return f"{comparison.verdict}: {'. Besides, '.join(told)}. In first calls {alone}: {because}."


def _unsteady(comparison: Comparison, found: Unsteady) -> str:
    side, at = _side_in_words(comparison, found.side), found.output
    at += f"[{', '.join(map(str, found.index))}]" if found.index else ""  # another shape has no place
    if found.by == "state":
        other = f"with the same input, call {found.call} gives"
        return f"{side} keeps state from call to call: {other} {at} {found.max_abs:.2g} apart from call 1"
    return f"{side} does not give the same each time it is run: {at} is {found.max_abs:.2g} apart"


def _side_in_words(comparison: Comparison, side: str, the: str = "the") -> str:
    """A side by its place and its subject: "the right side (cells)"."""
    return f"{the} {side} side ({comparison.left if side == 'left' else comparison.right})"


def _arithmetic_in_words(arithmetic: str) -> str:
    """The name of an arithmetic as people write it."""
    return "TF32" if arithmetic == "tf32" else arithmetic


def _coarse_in_words(arithmetic: str) -> str:
    """An arithmetic that was told by its roundings alone, of which TF32 and float16 have the same."""
    return "TF32 or float16" if arithmetic == "tf32" else arithmetic


def _computes_inside(inside: Inside) -> str:
    about = "" if inside.is_seen else "about "
    return f"computes in {about}{_coarse_in_words(inside.arithmetic)} inside"


def _tensor_in_words(name: str) -> str:
    """An output by its name, a gradient as "the gradient of x", so that x is not taken for the input."""
    return _TENSORS.get(name, f"the gradient of {name}")


def _because(comparison: Comparison) -> str:
    reference = comparison.reference
    if comparison.cause == "shape":
        names = [each.name for each in comparison.figures.rows if each.shape != each.right_shape]
        return f"the shapes of {' and '.join(names)} differ"
    if comparison.cause == "nonfinite":
        sides = " and ".join(_side_in_words(comparison, side) for side in comparison.nonfinite)
        return f"NaN or infinity came out of {sides}" if sides else "in float64 NaN or infinity came out"
    if reference is None:
        return _BY_TOLERANCE[comparison.verdict].format(comparison.on_these_weights)
    if not reference.function.within:
        return _other_function(comparison, reference)
    if comparison.cause == "precision":
        return _worse(comparison, reference)
    far = " as far as can be told" if reference.function.whole_steps is not None else ""
    same = f"same function{comparison.on_these_weights}" + (
        " as far as a recorded run can tell" if comparison.sides.recorded else far
    )
    same += ", though not torch's" if reference.deviating else ""
    same += ", though their weights differ" if comparison.weights else ""
    if not reference.decided:
        over = ", and elements are over the tolerance" if comparison.verdict == "different" else ""
        return _undecided(reference) + over
    if comparison.verdict == "different":
        return f"{same}, and they differ by rounding alone, but elements are over the tolerance"
    if comparison.verdict == "identical":
        return f"{same}, and every bit agrees"
    return f"{same}; {_rounding(comparison, reference)}"


def _other_function(comparison: Comparison, reference: Reference) -> str:
    used, worst = _arithmetic_in_words(reference.function.arithmetic), reference.function.worst
    tamed = f" with {_tamed_in_words(reference.function)}" if reference.function.tamed_by else ""
    apart = f"in {used}{tamed} {_tensor_in_words(worst.name)} is {worst.error:.2g} apart"
    apart += f", and rounding explains {worst.bound:.2g}"
    return f"not the same function: {apart}{_who(comparison, reference)}{_of_a_recording(comparison, reference)}"


def _worse(comparison: Comparison, reference: Reference) -> str:
    """Which side computes worse than its arithmetic allows."""
    check = reference.left if comparison.side == "left" else reference.right
    name, used = _side_in_words(comparison, comparison.side or ""), _arithmetic_in_words(check.arithmetic)
    how = f"computes worse than {used} allows"
    if inside := next((each for each in reference.inside if each.side == comparison.side), None):
        how = _computes_inside(inside)
    worst = check.worst
    off = f"{_tensor_in_words(worst.name)} is {worst.error:.2g} off, and rounding in {used} explains {worst.bound:.2g}"
    return f"same function, but {name} {how}: {off}"


def _who(comparison: Comparison, reference: Reference) -> str:
    """Which side is off, or whether it is the weights."""
    own = " with its own weights" if comparison.weights else ""
    if len(reference.deviating) == 2:
        return f". Neither side computes what torch's equations say{own}"
    if comparison.side is not None:
        off = _side_in_words(comparison, comparison.side)
        return f". It is {off} that does not compute what torch's equations say{own}"
    return ". It is the weights: both sides compute what torch's equations say of their own" if own else ""


def _of_a_recording(comparison: Comparison, reference: Reference) -> str:
    if comparison.sides.recorded is None or comparison.sides.recorded not in reference.deviating:
        return ""
    if reference.about_coarser:
        near = f". It is as near as {_coarse_in_words(reference.about_coarser)} would be"
        return f"{near}: it may have been computed in that, or a weight is off by as little"
    return ". A recorded run has no float64, so that it may be worse precision too"


def _undecided(reference: Reference) -> str:
    if not reference.function.decided:
        return f"rounding in float64 alone may move {_moved(reference.function)}, so that nothing can be told"
    check = reference.right if reference.left.decided else reference.left
    used = _arithmetic_in_words(check.arithmetic)
    moved = f"same function in float64, but in {used} rounding alone may move {_moved(check)}"
    return f"{moved}: how well the sides compute is not decidable in this precision"


def _moved(check: Check) -> str:
    """What is moved too far, and how far."""
    widest = max((each for each in check.margins if not each.decided), key=lambda each: each.bound)
    far = f"by {widest.bound:.2g}" if math.isfinite(widest.bound) else "without limit"
    steps = "even in a single step" if check.single_steps else "over all steps, and single ones cannot be taken"
    return f"{_tensor_in_words(widest.name)} {far} {steps}"


def _rounding(comparison: Comparison, reference: Reference) -> str:
    sides = {"left": reference.left.arithmetic, "right": reference.right.arithmetic}
    tf32 = [side for side, arithmetic in sides.items() if arithmetic == "tf32"]
    if tf32 and reference.without_tf32 is not None:
        who = "both sides compute" if len(tf32) == 2 else f"{_side_in_words(comparison, tf32[0])} computes"
        return f"{who} in TF32; --no-tf32 brings it to {reference.without_tf32:.2g}"
    if _through_onednn(comparison):
        half = comparison.sides.dtypes[0]
        return f"the module computes through oneDNN, which rounds {half} in its own way; --no-onednn leaves it out"
    used = list(dict.fromkeys(map(_arithmetic_in_words, sides.values())))
    allow = "allows" if len(used) == 1 else "allow"
    return f"they differ by rounding alone, and each side is as exact as {' and '.join(used)} {allow}"


def _through_onednn(comparison: Comparison) -> bool:
    """Whether oneDNN takes nn.LSTM over in bfloat16, and with it most of the difference."""
    spec, module = comparison.spec, "module" in (comparison.left, comparison.right)
    taken = spec.kind == "lstm" and not spec.proj_size and spec.lengths is None and module
    same_place = comparison.device_name == "cpu" and set(comparison.sides.dtypes) == {"bfloat16"}
    return taken and same_place and dict(comparison.back_ends).get("onednn", False)


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
