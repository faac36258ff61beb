"""Compares two subjects on the same weights and the same input, and gives the verdict.

What can be compared is settled in comparability.py, the figures are taken in differences.py, and what people and
programs are told is in pages.py and documents.py.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rnnscope.comparability import ATOL, GRAD, LEFT, RIGHT, RTOL, Tolerance, check_comparable, chosen_tolerance
from rnnscope.devices import device_name, running
from rnnscope.differences import Difference, difference
from rnnscope.spec import Spec, rerun
from rnnscope.subjects import SUBJECTS, valid_steps
from rnnscope.weights import Input, Weights, draw_cotangents, draw_input, draw_weights

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Comparison:
    """Two subjects of one Spec, output by output, and gradient by gradient where they were asked for.

    Of a packed input, the output y is its valid region, and the output padding is what stands behind the ends.
    """

    spec: Spec
    left: str
    right: str
    outputs: tuple[Difference, ...]
    tolerance: Tolerance
    device_name: str
    torch_version: str
    gradients: tuple[Difference, ...] | None = None

    command: ClassVar[str] = "compare"

    @property
    def differences(self) -> tuple[Difference, ...]:
        """All rows: outputs, then gradients."""
        return (*self.outputs, *(self.gradients or ()))

    @property
    def verdict(self) -> str:
        """identical: every bit of every row agrees. equivalent: all within the tolerance. Otherwise different."""
        if all(each.identical for each in self.differences):
            return "identical"
        return "equivalent" if all(each.within_tolerance for each in self.differences) else "different"

    @property
    def cause(self) -> str | None:
        """What makes them different where it can be told from the figures alone: shape, nonfinite, or None."""
        if any(each.shape != each.right_shape for each in self.differences):
            return "shape"
        return "nonfinite" if any(each.nonfinite for each in self.differences) else None

    @property
    def exit_code(self) -> int:
        """0 when identical or equivalent, 1 when different."""
        return 1 if self.verdict == "different" else 0

    @property
    def rerun(self) -> str:
        """The command line that compares exactly this again."""
        given, grad = self.tolerance.given, self.gradients is not None
        rtol, atol = (self.tolerance.rtol, self.tolerance.atol) if given else (None, None)
        own = ((LEFT, self.left), (RIGHT, self.right), (GRAD, grad), (RTOL, rtol), (ATOL, atol))
        return rerun(self.command, self.spec, *own)


def compare(
    spec: Spec,
    left: str = "module",
    right: str = "cells",
    rtol: float | None = None,
    atol: float | None = None,
    grad: bool = False,
) -> Comparison:
    """Run both subjects on the same weights and input and compare y: (L, N, D·H_out), h: (D·K, N, H_out) and c.

    Memory is not checked here: see `check_memory`.

    Args:
        left: the subject whose outputs are the expected values: module, cells or equations.
        right: the subject that is judged.
        rtol: relative tolerance; torch.testing's for the dtype when neither is given. Goes with atol.
        atol: absolute tolerance.
        grad: compare the gradients of x, h0, c0 and every parameter too, for one random cotangent of y, h and c.

    Raises:
        RnnscopeError: nothing to compare, a subject that cannot do what the Spec asks, one tolerance without the other,
            no such device, or a dtype that it cannot compute.

    Source of the tolerance rule: https://docs.pytorch.org/docs/stable/testing.html#torch.testing.assert_close
    """
    tolerance = chosen_tolerance(spec.dtype, rtol, atol)
    check_comparable(spec, left, right)
    with running(spec, grad) as placed:
        weights, given = draw_weights(placed), draw_input(placed)
        expected, expected_gradients = _results(left, placed, weights, given, grad)
        actual, gradients = _results(right, placed, weights, given, grad)
        rows = []
        for name, each in expected.items():
            valid = _valid_region(placed, each) if name == "y" else None
            rows.append(difference(name, actual[name], each, tolerance, valid))
            if valid is not None and not valid.all():
                rows.append(difference("padding", actual[name], each, tolerance, ~valid))
        by_gradient = [difference(name, gradients[name], each, tolerance) for name, each in expected_gradients.items()]
        return Comparison(
            placed,
            left,
            right,
            tuple(rows),
            tolerance,
            device_name(placed),
            str(torch.__version__),
            tuple(by_gradient) if grad else None,
        )


def _results(subject: str, spec: Spec, weights: Weights, given: Input, grad: bool) -> tuple[Tensors, Tensors]:
    """The outputs of a subject, and the gradients of x, h0, c0 and every parameter by torch's names."""
    if not grad:
        return SUBJECTS[subject](spec, weights, given).outputs(), {}
    given = Input(given.x.clone().requires_grad_(), tuple(each.clone().requires_grad_() for each in given.state))
    run = SUBJECTS[subject](spec, weights, given)
    outputs, leaves = run.outputs(), given.tensors() | run.parameters
    cotangents = draw_cotangents(spec, outputs)
    found = torch.autograd.grad(
        list(outputs.values()), list(leaves.values()), list(cotangents.values()), materialize_grads=True
    )
    return {name: each.detach() for name, each in outputs.items()}, dict(zip(leaves, found, strict=True))


def _valid_region(spec: Spec, y: Tensor) -> Tensor | None:
    """In the shape of y, True at the steps that a sequence really has; None where all are."""
    if spec.lengths is None:
        return None
    valid = valid_steps(spec)
    return (valid.t() if spec.batch_first else valid).unsqueeze(-1).expand(y.shape)
