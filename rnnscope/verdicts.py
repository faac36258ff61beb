"""What a comparison found, and what follows from it: verdict, cause, side and exit code, with their rules.

Facts alone: they are gathered in comparison.py, and what people and programs are told is in pages.py and documents.py.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rnnscope.comparability import ATOL, GRAD, LEFT, POWER, REFERENCE, RESYNC, RIGHT, RTOL, Tolerance
from rnnscope.spec import Spec, rerun

if TYPE_CHECKING:  # their modules import torch
    from rnnscope.diagnosis import Explanation, Power
    from rnnscope.differences import Difference
    from rnnscope.judgement import Check
    from rnnscope.locating import Place


@dataclass(frozen=True)
class Reference:
    """What the equations in float64 tell of both sides.

    function: right against left, both in float64. left, right: each side against the reference: in its own arithmetic,
    or in float64 where they are not the same function. other: the sides that are not torch's function; empty where they
    are the same. about_float32: one of those that is as near the reference as float32 would be.
    without_tf32: how far the two are from each other without it, where one of them may use TF32.
    """

    function: "Check"
    left: "Check"
    right: "Check"
    other: tuple[str, ...] = ()
    about_float32: str | None = None
    without_tf32: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Two subjects of one Spec, output by output, and gradient by gradient where they were asked for.

    Of a packed input, the output y is its valid region, and the output padding is what stands behind the ends.
    `resync`: every step was a sequence by itself, fed the reference's state.
    """

    spec: Spec
    left: str
    right: str
    outputs: "tuple[Difference, ...]"
    tolerance: Tolerance
    device_name: str
    torch_version: str
    gradients: "tuple[Difference, ...] | None" = None
    reference: Reference | None = None
    first_divergence: "Place | None" = None
    explanations: "tuple[Explanation, ...]" = ()
    power: "Power | None" = None
    asked_for_reference: bool = True
    resync: bool = False
    back_ends: tuple[tuple[str, bool], ...] = ()
    dtypes: tuple[str, ...] = ()

    command: ClassVar[str] = "compare"

    @property
    def differences(self) -> "tuple[Difference, ...]":
        """All rows: outputs, then gradients."""
        return (*self.outputs, *(self.gradients or ()))

    @property
    def binds(self) -> bool:
        """Whether the tolerance decides: where it was given, and where there is no reference."""
        return self.tolerance.given or not self.asked_for_reference

    @property
    def within_tolerance(self) -> bool:
        """Whether no element of any row is over the tolerance."""
        return all(each.within_tolerance for each in self.differences)

    @property
    def verdict(self) -> str:
        """What was found.

        different: other shapes, NaN or infinity, another function, a side that computes worse than its arithmetic
        allows, or an element over a tolerance that binds. undecided: none of these, but the bounds are too wide to say
        so. identical: none of these, and every bit agrees. equivalent: none of these.
        """
        reference = self.reference
        if self.cause in ("shape", "nonfinite", "function", "precision") or (self.binds and not self.within_tolerance):
            return "different"
        if reference and not all(each.decided for each in (reference.function, reference.left, reference.right)):
            return "undecided"
        return "identical" if all(each.identical for each in self.differences) else "equivalent"

    @property
    def cause(self) -> str | None:
        """Why they are not identical, the first that holds of: shape, nonfinite, function, precision, rounding.

        None where they are identical, where it is undecided, and without a reference.
        """
        reference = self.reference
        if any(each.shape != each.right_shape for each in self.differences):
            return "shape"
        if any(each.nonfinite for each in self.differences):
            return "nonfinite"
        if reference is None:
            return None
        if not reference.function.within:
            return "precision" if reference.about_float32 else "function"
        if not (reference.left.within and reference.right.within):
            return "precision"
        if not all(each.decided for each in (reference.function, reference.left, reference.right)):
            return None
        return None if all(each.identical for each in self.differences) else "rounding"

    @property
    def side(self) -> str | None:
        """The side that is off: not torch's function, or further over its bound; None where it is neither or both."""
        reference = self.reference
        if reference is None or self.cause not in ("function", "precision"):
            return None
        if reference.about_float32:
            return reference.about_float32
        if self.cause == "function":
            return reference.other[0] if len(reference.other) == 1 else None
        return "left" if reference.left.worst.nearness > reference.right.worst.nearness else "right"

    @property
    def exit_code(self) -> int:
        """0 when identical or equivalent, 1 when different, 2 when undecided."""
        return {"different": 1, "undecided": 2}.get(self.verdict, 0)

    @property
    def rerun(self) -> str:
        """The command line that compares exactly this again."""
        given = self.tolerance.given
        rtol, atol = (self.tolerance.rtol, self.tolerance.atol) if given else (None, None)
        own = ((LEFT, self.left), (RIGHT, self.right), (GRAD, self.gradients is not None), (RTOL, rtol), (ATOL, atol))
        more = ((REFERENCE, self.asked_for_reference), (RESYNC, self.resync), (POWER, self.power is not None))
        return rerun(self.command, self.spec, *own, *more)
