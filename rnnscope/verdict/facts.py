"""What a comparison is made of: who was compared, what was measured, what the reference tells, which cause follows."""

from dataclasses import dataclass
from math import isfinite

from rnnscope.verdict.diagnosis import Dependence, Explanation, Power
from rnnscope.verdict.figures import Check, Difference


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
    as a recorded one: they are judged in their own arithmetic throughout. about_coarser: the arithmetic that would
    explain a recorded side. without_tf32: how far both sides are apart without TF32, if one of them may use it.
    """

    function: Check
    left: Check
    right: Check
    deviating: tuple[str, ...] = ()
    inside: tuple[Inside, ...] = ()
    without_float64: tuple[str, ...] = ()
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
