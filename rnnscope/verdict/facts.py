"""What a comparison found: who was compared, what was measured, what the reference tells; and the verdict that follows.

No sentence stands here, but what a side is called.
"""

from dataclasses import dataclass, replace
from math import isfinite

from rnnscope.checks.facts import Relation
from rnnscope.network.shapes import Place
from rnnscope.pages.render import SpecResult
from rnnscope.spec.options import NO_FILES, Sources
from rnnscope.spec.question import BlindSpot, Question, Tolerance
from rnnscope.spec.sides import AS_IT_IS, NOTHING_SAID_OF_SIDES, How, OwnSides
from rnnscope.spec.spec import Spec
from rnnscope.verdict.calls import Unsteady
from rnnscope.verdict.diagnosis import Dependence, Explanation, Power
from rnnscope.verdict.figures import Check, Difference
from rnnscope.verdict.frozen import Frozen
from rnnscope.verdict.gradients import GradientFault
from rnnscope.verdict.places import HeatMap


@dataclass(frozen=True)
class Sides:
    """Who was compared.

    left, right: the subjects. dtypes: the dtype of each. weights: the weights in which the right side differs from the
    left one. recorded: the side that is a recorded run. written: both as on a command line, with device and dtype; None
    for two modules, which no command line can name. own: what was said of sides that are classes of the user's. how:
    how sides are made and run.
    """

    left: str
    right: str
    dtypes: tuple[str, ...]
    weights: tuple[Difference, ...] = ()
    recorded: str | None = None
    written: tuple[str, str] | None = None
    own: OwnSides = NOTHING_SAID_OF_SIDES
    how: How = AS_IT_IS


@dataclass(frozen=True)
class Figures:
    """What was measured of both sides, row by row, and what is odd in either.

    outputs: y, h and c; y of a packed input has a row for its valid region and one for its padding. gradients: None
    unless they were asked for. nonfinite: the sides that gave NaN or infinity. wrong_dtypes: the sides that returned
    another dtype than was asked for, each with that dtype. missing_gradients: the gradients that a side did not give.
    """

    outputs: tuple[Difference, ...]
    gradients: tuple[Difference, ...] | None = None
    nonfinite: tuple[str, ...] = ()
    wrong_dtypes: tuple[tuple[str, str], ...] = ()
    missing_gradients: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def rows(self) -> tuple[Difference, ...]:
        """All rows: outputs, then gradients."""
        return (*self.outputs, *(self.gradients or ()))

    @property
    def identical(self) -> bool:
        """Whether every bit agrees."""
        return all(each.identical for each in self.rows)

    @property
    def within_tolerance(self) -> bool:
        """Whether no element of any row is over the tolerance."""
        return all(each.within_tolerance for each in self.rows)


@dataclass(frozen=True)
class Inside:
    """A side that computes in a coarser arithmetic inside than it is asked to.

    is_seen: whether a tensor of that dtype was seen in it; otherwise its roundings are of that size.
    """

    side: str
    arithmetic: str
    is_seen: bool


@dataclass(frozen=True)
class Reference:
    """How both sides stand to the equations in float64, each with its own weights.

    function: right against left in float64. left, right: each side against the equations; in its own arithmetic if the
    sides are the same function, otherwise in float64. If they are the same function but not torch's, each is held
    against the left side in float64.

    deviating: the sides that are not torch's function. inside: the sides that compute in a coarser arithmetic inside,
    in which `function` is then asked. without_float64: the sides that cannot run in float64,
    as a recorded one: they are judged in their own arithmetic throughout, or in the finest that their device has.
    asked_in: those that have a finer one than their own, with its dtype. about_coarser: the arithmetic that would
    explain a recorded side. without_tf32: how far both sides are apart without TF32, if one of them may use it.
    """

    function: Check
    left: Check
    right: Check
    deviating: tuple[str, ...] = ()
    inside: tuple[Inside, ...] = ()
    without_float64: tuple[str, ...] = ()
    asked_in: tuple[tuple[str, str], ...] = ()
    about_coarser: str | None = None
    without_tf32: float | None = None

    @property
    def decided(self) -> bool:
        """Whether all checks say something."""
        return self.function.decided and self.left.decided and self.right.decided

    @property
    def gradients_alone(self) -> bool:
        """Whether the sides are not the same function by their gradients alone."""
        return not self.function.within and self.function.outputs_within


@dataclass(frozen=True)
class Reach:
    """How far the equations in float64 reach.

    h, c: the greatest |h| and |c| after any step; c is None unless it is an LSTM. gate_sum: the greatest argument of σ,
    tanh or relu in any gate. steps: L. overflows: whether that is near or beyond what a side's dtype can say.
    """

    h: float
    c: float | None
    gate_sum: float
    steps: int
    overflows: bool


@dataclass(frozen=True)
class BrokenRelation:
    """A relation that a class of the user's breaks, though every recurrent network keeps it."""

    side: str
    relation: Relation


@dataclass(frozen=True)
class Reasons:
    """Why a side is another function, and which faults the comparison would have caught.

    refused: whether a class of the user's took no input on which they were looked for. broken_relation: asked where no
    deviation explains it.
    """

    explanations: tuple[Explanation, ...] = ()
    dependences: tuple[Dependence, ...] = ()
    power: Power | None = None
    refused: bool = False
    broken_relation: BrokenRelation | None = None


NO_REASONS = Reasons()


def cause_of(figures: Figures, reference: Reference | None) -> str | None:
    """Why both sides are not identical, the first that holds of: shape, nonfinite, function, precision, rounding.

    None if they are identical, if that is undecided, and without a reference.
    """
    if any(each.shape != each.right_shape for each in figures.rows):
        return "shape"
    if figures.nonfinite or (reference and not isfinite(reference.function.max_abs)):
        return "nonfinite"
    if reference is None:
        return None
    if not reference.function.within:
        return "function"
    if not (reference.left.within and reference.right.within):
        return "precision"
    return "rounding" if reference.decided and not figures.identical else None


def side_of(figures: Figures, reference: Reference | None) -> str | None:
    """The side that is off: nonfinite, another function, or further over its bound than the other side.

    None if it is neither, or both.
    """
    cause = cause_of(figures, reference)
    if cause == "nonfinite":
        return figures.nonfinite[0] if len(figures.nonfinite) == 1 else None
    if reference is None or cause not in ("function", "precision"):
        return None
    if not reference.function.within:
        return reference.deviating[0] if len(reference.deviating) == 1 else None
    return "left" if reference.left.worst.nearness > reference.right.worst.nearness else "right"


@dataclass(frozen=True)
class Judged(SpecResult):
    """Every fact of two subjects of one Spec, output by output, and the verdict.

    reference: None if it was not asked for, or if shapes or NaN already decide. first_divergence: where what the
    verdict rests on first appears. gate: the letter of the gate that is off there, where it is one alone.
    gradient_fault: where gradients first part, if they alone are off. sources: the files that weights and input came
    from. calls: what a side gives otherwise when it is called again. adaptations: what was done to build and to call a
    class of the user's, by its side. notes: what could not be told. unseen: what the numbers themselves leave unseen.
    reached: how far the equations reach, where a class of the user's is a side, or under stress. stress: what is found
    under stress, where that was asked and nothing differs as it is. is_stressed: whether this is that. frozen: what
    does not run at these sizes; then nothing else was found. only_where_made: a side that is the same function at the
    sizes at which it was made alone, with these sizes.
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
    adaptations: tuple[tuple[str, tuple[str, ...]], ...] = ()
    notes: tuple[str, ...] = ()
    unseen: tuple[BlindSpot, ...] = ()
    reached: Reach | None = None
    stress: "Judged | None" = None
    is_stressed: bool = False
    frozen: Frozen | None = None
    only_where_made: tuple[str, tuple[int, int]] | None = None

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
        autocast = self.sides.how.autocast
        return self.question.tolerance(*self.sides.dtypes, *((autocast,) if autocast else ()))

    @property
    def cause(self) -> str | None:
        """Why both sides are not identical: frozen, shape, nonfinite, function, precision, rounding, or None.

        A side that gives something else when it is called again is no function of its input. Where they differ under
        stress alone, it is the cause there, and so is the side.
        """
        if self.stress and self.parts_under_stress:
            return self.stress.cause
        if self.frozen:
            return "frozen"
        found = cause_of(self.figures, self.reference)
        return "function" if self.calls and found not in ("shape", "nonfinite") else found

    @property
    def side(self) -> str | None:
        """The side that is off: left, right, or None."""
        if self.stress and self.parts_under_stress:
            return self.stress.side
        if self.frozen:
            return self.frozen.side
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
    def as_asked(self) -> "Judged":
        """The same without stress."""
        return replace(self, stress=None)

    @property
    def verdict(self) -> str:
        """What was found.

        different: an export that does not run at these sizes, other shapes, NaN or infinity, another function, also in
        another call, a side that computes worse than its arithmetic allows, or an element over a tolerance that binds.
        undecided: none of these, but the bounds are too wide to say so. identical: none of these, and every bit agrees.
        equivalent: none of these.

        What is different under stress is different. What is undecided there does not count, since that input is not the
        user's; nor does it where the input itself drives a side beyond what its dtype can say.
        """
        if self.is_stressed and self.cause == "nonfinite" and self.reached and self.reached.overflows:
            return "undecided"
        over = self.question.binds and not self.figures.within_tolerance
        if over or self.cause in ("frozen", "shape", "nonfinite", "function", "precision"):
            return "different"
        if self.reference and not self.reference.decided:
            return "undecided"
        is_identical = self.figures.identical and not (self.stress and self.stress.verdict == "equivalent")
        return "identical" if is_identical else "equivalent"

    @property
    def exit_code(self) -> int:
        """0 when identical or equivalent, 1 when different, 2 when undecided."""
        return {"different": 1, "undecided": 2}.get(self.verdict, 0)


def side_in_words(comparison: Judged, side: str, the: str = "the") -> str:
    """A side by its place and its subject: "the right side (cells)"."""
    return f"{the} {side} side ({comparison.left if side == 'left' else comparison.right})"
