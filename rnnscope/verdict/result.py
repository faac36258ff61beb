"""What a comparison found, and what follows from it: verdict, cause, side and exit code, with their rules.

Facts alone, gathered in findings.py. People are told of them in comparison_page.py, programs in documents.py.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar

from rnnscope.pages.page import Page
from rnnscope.pages.render import SpecResult
from rnnscope.spec.flags import Flag
from rnnscope.spec.options import LEFT, NO_FILES, RECORDED, RIGHT, Sources
from rnnscope.spec.question import ATOL, CHUNK, GRAD, MAP, POWER, REFERENCE, RESYNC, RTOL, Tolerance, blind_spots
from rnnscope.spec.spec import Spec, rerun

if TYPE_CHECKING:  # their modules import torch
    from rnnscope.network.shapes import Place
    from rnnscope.verdict.diagnosis import Dependence, Explanation, Power
    from rnnscope.verdict.figures import Check, Difference
    from rnnscope.verdict.places import HeatMap


@dataclass(frozen=True)
class Reference:
    """What the equations in float64 tell of both sides.

    function: right against left, both in float64. left, right: each side against the reference in its own arithmetic;
    in float64 where they are not the same function; against the left one in float64 where they are, but not torch's.
    Of a recorded run there is no float64: it is judged in its own arithmetic throughout. Each side is held against the
    equations with its own weights.

    other: the sides that are not torch's function. about_float32: those that are as near it as float32 would be, where
    all that are not torch's function are. about_coarser: the arithmetic that would explain a recorded side.
    without_tf32: how far the two are from each other without it, where one of them may use it.
    """

    function: "Check"
    left: "Check"
    right: "Check"
    other: tuple[str, ...] = ()
    about_float32: tuple[str, ...] = ()
    about_coarser: str | None = None
    without_tf32: float | None = None

    @property
    def decided(self) -> bool:
        """Whether all checks say something."""
        return self.function.decided and self.left.decided and self.right.decided


@dataclass(frozen=True)
class Comparison(SpecResult):
    """Two subjects of one Spec, output by output, and gradient by gradient where they were asked for.

    Of a packed input, the output y is its valid region, and the output padding is what stands behind the ends.
    `resync`: every step was a sequence by itself, fed the reference's state. `chunk`: so many steps were run at a time,
    each from the state after the ones before; None where all were. `nonfinite`: the sides out of which NaN or
    infinity came. `weights`: how the right side's weights differ from the left one's, where it has its own; those that
    differ. `recorded`: the side that is a recorded run. `returned`: the dtypes in which a side returned its outputs,
    where that is not the one that was asked for, by the side. `ungraded`: the gradients that a side did not give.
    `sources`: the files. `rerunnable`: whether a command line says it all. `typed`: the sides as they were named, where
    they have a device or a dtype of their own.
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
    heat_map: "HeatMap | None" = None
    asked_for_reference: bool = True
    resync: bool = False
    chunk: int | None = None
    back_ends: tuple[tuple[str, bool], ...] = ()
    dtypes: tuple[str, ...] = ()
    nonfinite: tuple[str, ...] = ()
    weights: "tuple[Difference, ...]" = ()
    dependences: "tuple[Dependence, ...]" = ()
    recorded: str | None = None
    returned: tuple[tuple[str, str], ...] = ()
    ungraded: tuple[tuple[str, tuple[str, ...]], ...] = ()
    sources: Sources = NO_FILES
    rerunnable: bool = True
    typed: tuple[str, str] | None = None

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
        if self.cause in ("shape", "nonfinite", "function", "precision") or (self.binds and not self.within_tolerance):
            return "different"
        if self.reference and not self.reference.decided:
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
        if self.nonfinite or (reference and not isfinite(reference.function.max_abs)):
            return "nonfinite"
        if reference is None:
            return None
        if not reference.function.within:
            return "precision" if reference.about_float32 else "function"
        if not (reference.left.within and reference.right.within):
            return "precision"
        return None if not reference.decided or all(each.identical for each in self.differences) else "rounding"

    @property
    def other(self) -> tuple[str, ...]:
        """The sides that are not torch's function."""
        return self.reference.other if self.reference else ()

    @property
    def side(self) -> str | None:
        """The side that is off, by its cause: nonfinite, another function, or further over its bound than the other.

        None where it is neither, or both.
        """
        reference = self.reference
        if self.cause == "nonfinite":
            return self.nonfinite[0] if len(self.nonfinite) == 1 else None
        if reference is None or self.cause not in ("function", "precision"):
            return None
        if not reference.function.within:
            return reference.other[0] if len(reference.other) == 1 else None
        return "left" if reference.left.worst.nearness > reference.right.worst.nearness else "right"

    @property
    def blind_spots(self) -> tuple[str, ...]:
        """What this comparison cannot see, whatever its verdict."""
        has_own_input = self.recorded is not None or self.sources.inputs is not None
        found = [each for each in blind_spots(self.spec, self.resync) if not (has_own_input and "--h0" in each)]
        if has_own_input and self.spec.h0 == "zeros":
            found.append("no h0 was recorded, so zeros were taken: whether the initial state is used does not show")
        own = [each for each in (self.left, self.right) if ":" in each and not each.startswith(RECORDED)]
        if own and self.chunk is not None and self.chunk < self.spec.seq_len:
            found.append(f"what {' and '.join(own)} may keep from step to step besides hx starts anew in every chunk")
        steps = self.reference.function.whole_steps if self.reference else None
        if steps is not None and self.exit_code == 0:
            found.append(
                f"a fault of the loop after the first {steps} of {self.spec.seq_len} steps would not be seen: "
                "rounding hides it with these weights"
            )
        return tuple(found)

    @property
    def exit_code(self) -> int:
        """0 when identical or equivalent, 1 when different, 2 when undecided."""
        return {"different": 1, "undecided": 2}.get(self.verdict, 0)

    @property
    def rerun(self) -> str:
        """The command line that compares exactly this again; "" where there is none."""
        if not self.rerunnable:
            return ""
        given = self.tolerance.given
        rtol, atol = (self.tolerance.rtol, self.tolerance.atol) if given else (None, None)
        left, right = self.typed or (self.left, self.right)
        own = ((LEFT, left), (RIGHT, right), (GRAD, self.gradients is not None), (RTOL, rtol), (ATOL, atol))
        more: tuple[tuple[Flag, object], ...] = (
            *((REFERENCE, self.asked_for_reference), (RESYNC, self.resync)),
            *((POWER, self.power is not None), (MAP, self.heat_map is not None)),
            (CHUNK, self.chunk),
        )
        files = tuple(self.sources.given())
        return rerun(self.command, self.spec, *files, *own, *more, with_files=bool(files or self.recorded))

    def page(self) -> Page:
        """The tables and sentences of `rnnscope compare`."""
        from rnnscope.verdict.page import page_of_comparison

        return page_of_comparison(self)

    def facts(self) -> dict[str, Any]:
        """What programs get of it."""
        from rnnscope.verdict.page import document_of_comparison

        return document_of_comparison(self)

    def records(self) -> Iterator[dict[str, Any]]:
        """One record an output or gradient."""
        return (asdict(each) | {"verdict": self.verdict} for each in self.differences)
