"""Compares two subjects on the same weights and the same input, and gives the verdict.

The figures behind it are taken in differences.py. Nothing is drawn or printed here: see render.py.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from rnnscope.differences import Difference, Tolerance, chosen_tolerance, difference
from rnnscope.errors import RnnscopeError
from rnnscope.flags import ATOL, LEFT, RIGHT, RTOL
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
        return rerun(
            self.command,
            self.spec,
            {
                LEFT.name: self.left if self.left != "module" else None,
                RIGHT.name: self.right if self.right != "cells" else None,
                RTOL.name: self.tolerance.rtol if self.tolerance.given else None,
                ATOL.name: self.tolerance.atol if self.tolerance.given else None,
            },
        )


def compare(
    spec: Spec, left: str = "module", right: str = "cells", rtol: float | None = None, atol: float | None = None
) -> Comparison:
    """Run both subjects on the same weights and input and compare y: (L, N, H) and h: (K, N, H).

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
    LEFT.check(left, "module")
    RIGHT.check(right, "cells")
    if spec.batch_size == 0:
        raise RnnscopeError(
            "--batch is 0, so y and h have no elements and nothing was compared", "try --batch 1 or more"
        )
    with running(spec) as placed:
        weights, given = draw_weights(placed), draw_input(placed)
        runs = [SUBJECTS[name](placed, weights, given).outputs() for name in (left, right)]
        outputs = tuple(difference(name, runs[1][name], expected, tolerance) for name, expected in runs[0].items())
        return Comparison(placed, left, right, outputs, tolerance, device_name(placed), str(torch.__version__))
