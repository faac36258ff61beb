"""Compares two subjects on the same weights and the same input.

What can be compared is settled in comparability.py, the runs are made and measured in judgement.py, and the verdict
follows from the facts in verdicts.py.
"""

from dataclasses import replace

import torch
from torch import Tensor

from rnnscope import diagnosis
from rnnscope.comparability import LEFT, RIGHT, Tolerance, check_comparable, chosen_tolerance, side_spec
from rnnscope.devices import back_ends, device_name, running
from rnnscope.differences import Difference, difference
from rnnscope.judgement import Evidence, Side
from rnnscope.locating import OUTPUTS, Place, first_nonfinite, function_parts, precision_parts
from rnnscope.problems import draw_problem, step_by_step
from rnnscope.spec import Spec
from rnnscope.subjects import SUBJECTS, valid_steps
from rnnscope.verdicts import Comparison, Reference


def compare(
    spec: Spec,
    left: str = "module",
    right: str = "cells",
    rtol: float | None = None,
    atol: float | None = None,
    grad: bool = False,
    reference: bool = True,
    resync: bool = False,
    power: bool = False,
) -> Comparison:
    """Run both subjects on the same weights and input and compare y: (L, N, D·H_out), h: (D·K, N, H_out) and c.

    Memory is not checked here: see `check_memory`.

    Args:
        left: the side whose outputs are the expected values: module, cells, equations or compiled, with @DEVICE or
            @DEVICE/DTYPE behind it where it is not the Spec's.
        right: the side that is judged, likewise.
        rtol: relative tolerance that binds besides the bounds. Goes with atol.
        atol: absolute tolerance.
        grad: compare the gradients of x, h0, c0 and every parameter too, for one random cotangent of y, h and c.
        reference: judge by the equations in float64 and by measured bounds: see bounds.py. Otherwise by the tolerance
            alone, torch.testing's for the dtype where none is given.
        resync: take every step by itself, fed the reference's state.
        power: tell which known deviations this comparison would have caught.

    Raises:
        RnnscopeError: nothing to compare, a subject that cannot do what the Spec asks, one tolerance without the other,
            no such device, or a dtype that it cannot compute.

    Source of the tolerance rule: https://docs.pytorch.org/docs/stable/testing.html#torch.testing.assert_close
    """
    check_comparable(spec, left, right, reference, resync)
    sides = _side(*side_spec(LEFT, left, spec)), _side(*side_spec(RIGHT, right, spec))
    dtypes = tuple(side.spec.dtype for side in sides)
    tolerance = chosen_tolerance(dtypes, rtol, atol)
    with running(spec, grad) as placed:
        problem = draw_problem(placed, dtypes, grad)
        evidence = Evidence(step_by_step(problem) if resync else problem, *sides)
        rows = _rows(evidence, tolerance)
        facts = Comparison(
            placed,
            left,
            right,
            tuple(row for row in rows if row.name in (*OUTPUTS, "padding")),
            tolerance,
            ", ".join(dict.fromkeys(device_name(side.spec) for side in sides)),
            str(torch.__version__),
            tuple(row for row in rows if row.name not in (*OUTPUTS, "padding")) if grad else None,
            asked_for_reference=reference,
            resync=resync,
            dtypes=dtypes,
            back_ends=tuple({key: on for side in sides for key, on in back_ends(side.spec).items()}.items()),
        )
        if reference and facts.cause is None:
            facts = replace(facts, reference=_reference(evidence))
            if facts.cause == "function":
                assert facts.reference
                off = {name: each for name, each in _named(evidence).items() if name in facts.reference.other}
                facts = replace(facts, explanations=diagnosis.explanations(evidence, off))
        facts = replace(facts, first_divergence=_first_divergence(facts, evidence))
        if power:
            facts = replace(facts, power=diagnosis.power(evidence, lambda each: _differs(each, facts)))
        return facts


def _side(subject: str, spec: Spec) -> Side:
    with running(spec) as placed:
        return Side(subject, placed, SUBJECTS[subject])


def _named(evidence: Evidence) -> dict[str, Side]:
    return {"left": evidence.left, "right": evidence.right}


def _rows(evidence: Evidence, tolerance: Tolerance) -> list[Difference]:
    """The figures of each tensor: outputs, then gradients."""
    expected, actual = evidence.own(evidence.left), evidence.own(evidence.right)
    rows = []
    for name, each in expected.items():
        valid = _valid_region(evidence.problem.spec, each) if name == "y" else None
        rows.append(difference(name, actual[name], each, tolerance, valid))
        if valid is not None and not valid.all():
            rows.append(difference("padding", actual[name], each, tolerance, ~valid))
    return rows


def _reference(evidence: Evidence) -> Reference:
    """What the equations in float64 tell of both sides."""
    function, sides = evidence.same_function(), _named(evidence)
    if function.within:
        left, right = (evidence.precision(side) for side in sides.values())
        return Reference(function, left, right, without_tf32=_without_tf32(evidence))
    checks = {name: evidence.torchs_function(side) for name, side in sides.items()}
    other = tuple(name for name, check in checks.items() if not check.within)
    inside = [name for name in other if evidence.about_float32(sides[name])]
    about_float32 = inside[0] if inside and inside == list(other) else None
    return Reference(function, checks["left"], checks["right"], other, about_float32)


def _without_tf32(evidence: Evidence) -> float | None:
    """How far the outputs are from each other without TF32, where a side may use it."""
    if "tf32" not in (evidence.left.arithmetic, evidence.right.arithmetic):
        return None
    left, right = (
        replace(side, spec=replace(side.spec, tf32=False)).solve(evidence.problem, side.spec.dtype)
        for side in (evidence.left, evidence.right)
    )
    return max((left[name].cpu().double() - right[name].cpu().double()).abs().max().item() for name in left)


def _first_divergence(facts: Comparison, evidence: Evidence) -> Place | None:
    """Where what the verdict rests on first appears."""
    if facts.cause == "nonfinite":
        found = [first_nonfinite(evidence, side) for side in (evidence.left, evidence.right)]
        return next((place for place in found if place is not None), None)
    if facts.cause == "function" or (facts.reference and facts.reference.about_float32):
        return function_parts(evidence, evidence.left, evidence.right)
    if facts.cause == "precision" and facts.side:
        return precision_parts(evidence, _named(evidence)[facts.side])
    return None


def _differs(evidence: Evidence, facts: Comparison) -> bool:
    """Whether another right side would have been found to be different."""
    left, right = evidence.exact(evidence.left), evidence.exact(evidence.right)
    if any(right[name].shape != each.shape for name, each in left.items()):
        return True
    if facts.asked_for_reference and not evidence.same_function().within:
        return True
    return facts.binds and not all(row.within_tolerance for row in _rows(evidence, facts.tolerance))


def _valid_region(spec: Spec, y: Tensor) -> Tensor | None:
    """In the shape of y, True at the steps that a sequence really has; None where all are."""
    if spec.lengths is None:
        return None
    valid = valid_steps(spec)
    return (valid.t() if spec.batch_first else valid).unsqueeze(-1).expand(y.shape)
