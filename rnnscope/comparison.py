"""Compares two subjects on the same weights and the same input, and gives the verdict.

What can be compared is settled in comparability.py, the figures are taken in differences.py, and what people and
programs are told is in pages.py and documents.py.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from rnnscope.comparability import ATOL, LEFT, RIGHT, RTOL, Tolerance, check_comparable, chosen_tolerance
from rnnscope.differences import Difference, difference
from rnnscope.spec import Spec, rerun
from rnnscope.subjects import SUBJECTS, device_name, running
from rnnscope.weights import draw_input, draw_weights


@dataclass(frozen=True)
class Comparison:
    """Two subjects of one Spec, output by output."""

    spec: Spec
    left: str
    right: str
    outputs: tuple[Difference, ...]
    tolerance: Tolerance
    device_name: str
    torch_version: str

    command: ClassVar[str] = "compare"

    @property
    def verdict(self) -> str:
        """identical: every bit of every output agrees. equivalent: all within the tolerance. Otherwise different."""
        if all(each.identical for each in self.outputs):
            return "identical"
        return "equivalent" if all(each.within_tolerance for each in self.outputs) else "different"

    @property
    def cause(self) -> str | None:
        """What makes them different where it can be told from the outputs alone: shape, nonfinite, or None."""
        if any(each.shape != each.right_shape for each in self.outputs):
            return "shape"
        return "nonfinite" if any(each.nonfinite for each in self.outputs) else None

    @property
    def exit_code(self) -> int:
        """0 when identical or equivalent, 1 when different."""
        return 1 if self.verdict == "different" else 0

    @property
    def rerun(self) -> str:
        """The command line that compares exactly this again."""
        given = self.tolerance.given
        rtol, atol = (self.tolerance.rtol, self.tolerance.atol) if given else (None, None)
        return rerun(self.command, self.spec, (LEFT, self.left), (RIGHT, self.right), (RTOL, rtol), (ATOL, atol))


def compare(
    spec: Spec, left: str = "module", right: str = "cells", rtol: float | None = None, atol: float | None = None
) -> Comparison:
    """Run both subjects on the same weights and input and compare y: (L, N, H) and h: (K, N, H).

    Memory is not checked here: see `check_memory`.

    Args:
        left: the subject whose outputs are the expected values: module or cells.
        right: the subject that is judged.
        rtol: relative tolerance; torch.testing's for the dtype when neither is given. Goes with atol.
        atol: absolute tolerance.

    Raises:
        RnnscopeError: nothing to compare, one tolerance without the other, an unknown subject, no such device, or a
            dtype that it cannot compute.

    Source of the tolerance rule: https://docs.pytorch.org/docs/stable/testing.html#torch.testing.assert_close
    """
    tolerance = chosen_tolerance(spec.dtype, rtol, atol)
    check_comparable(spec, left, right)
    with running(spec) as placed:
        weights, given = draw_weights(placed), draw_input(placed)
        runs = [SUBJECTS[name](placed, weights, given).outputs() for name in (left, right)]
        outputs = tuple(difference(name, runs[1][name], expected, tolerance) for name, expected in runs[0].items())
        return Comparison(placed, left, right, outputs, tolerance, device_name(placed), str(torch.__version__))
