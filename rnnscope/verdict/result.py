"""What a comparison found, and the rules by which verdict, cause, side and exit code follow from it."""

from dataclasses import dataclass
from math import isfinite
from typing import ClassVar

from rnnscope.network.shapes import Place
from rnnscope.pages.render import SpecResult
from rnnscope.spec.options import LEFT, NO_FILES, RECORDED, RIGHT, Sources
from rnnscope.spec.question import QUESTION_FLAGS, Question, Tolerance, blind_spots
from rnnscope.spec.spec import Spec
from rnnscope.verdict.diagnosis import Dependence, Explanation, Power
from rnnscope.verdict.figures import Check, Difference
from rnnscope.verdict.places import HeatMap


@dataclass(frozen=True)
class Sides:
    """Who was compared.

    left, right: the subjects. dtypes: the dtype of each. weights: the weights in which the right side differs from the
    left one. recorded: the side that is a recorded run. written: both as on a command line, with device and dtype; None
    for two modules, which no command line can name.
    """

    left: str
    right: str
    dtypes: tuple[str, ...]
    weights: tuple[Difference, ...] = ()
    recorded: str | None = None
    written: tuple[str, str] | None = None


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
class Reference:
    """How both sides stand to the equations in float64, each with its own weights.

    function: right against left in float64. left, right: each side against the equations; in its own arithmetic if the
    sides are the same function, otherwise in float64. If they are the same function but not torch's, each is held
    against the left side in float64. A recorded run has no float64: it is judged in its own arithmetic throughout.

    deviating: the sides that are not torch's function. about_float32: the deviating sides, if all of them are as near
    to it as float32 would be. about_coarser: the arithmetic that would explain a recorded side. without_tf32: how far
    both sides are apart without TF32, if one of them may use it.
    """

    function: Check
    left: Check
    right: Check
    deviating: tuple[str, ...] = ()
    about_float32: tuple[str, ...] = ()
    about_coarser: str | None = None
    without_tf32: float | None = None

    @property
    def decided(self) -> bool:
        """Whether all checks say something."""
        return self.function.decided and self.left.decided and self.right.decided


@dataclass(frozen=True)
class Reasons:
    """Why a side is another function, and which faults the comparison would have caught."""

    explanations: tuple[Explanation, ...] = ()
    dependences: tuple[Dependence, ...] = ()
    power: Power | None = None


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
        return "precision" if reference.about_float32 else "function"
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
class Verdict(SpecResult):
    """What was found of two subjects of one Spec, and what follows from it: a Comparison without its page.

    reference: None if it was not asked for, or if shapes or NaN already decide. first_divergence: where what the
    verdict rests on first appears. sources: the files that weights and input came from.
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
    reasons: Reasons = Reasons()
    heat_map: HeatMap | None = None
    sources: Sources = NO_FILES

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
        """Why both sides are not identical: shape, nonfinite, function, precision, rounding, or None."""
        return cause_of(self.figures, self.reference)

    @property
    def side(self) -> str | None:
        """The side that is off: left, right, or None."""
        return side_of(self.figures, self.reference)

    @property
    def verdict(self) -> str:
        """What was found.

        different: other shapes, NaN or infinity, another function, a side that computes worse than its arithmetic
        allows, or an element over a tolerance that binds. undecided: none of these, but the bounds are too wide to say
        so. identical: none of these, and every bit agrees. equivalent: none of these.
        """
        over = self.question.binds and not self.figures.within_tolerance
        if over or self.cause in ("shape", "nonfinite", "function", "precision"):
            return "different"
        if self.reference and not self.reference.decided:
            return "undecided"
        return "identical" if self.figures.identical else "equivalent"

    @property
    def exit_code(self) -> int:
        """0 when identical or equivalent, 1 when different, 2 when undecided."""
        return {"different": 1, "undecided": 2}.get(self.verdict, 0)

    @property
    def blind_spots(self) -> tuple[str, ...]:
        """What this comparison cannot see, whatever its verdict."""
        has_own_input = self.sides.recorded is not None or self.sources.inputs is not None
        found = [
            each for each in blind_spots(self.spec, self.question.resync) if not (has_own_input and "--h0" in each)
        ]
        if has_own_input and self.spec.h0 == "zeros":
            found.append("no h0 was recorded, so zeros were taken: whether the initial state is used does not show")
        own = [each for each in (self.left, self.right) if ":" in each and not each.startswith(RECORDED)]
        if own and self.question.chunk is not None and self.question.chunk < self.spec.seq_len:
            found.append(f"what {' and '.join(own)} may keep from step to step besides hx starts anew in every chunk")
        steps = self.reference.function.whole_steps if self.reference else None
        if steps is not None and self.exit_code == 0:
            found.append(
                f"a fault of the loop after the first {steps} of {self.spec.seq_len} steps would not be seen: "
                "rounding hides it with these weights"
            )
        return tuple(found)

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
