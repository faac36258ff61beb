"""Compares two subjects on the same weights and the same input.

What can be compared is settled in comparability.py, the runs are made and measured in judgement.py, and the verdict
follows from the facts in verdicts.py.
"""

from dataclasses import replace
from functools import partial

import torch

from rnnscope import diagnosis
from rnnscope.comparability import (
    GRAD,
    LEFT,
    POWER,
    REFERENCE,
    RESYNC,
    RIGHT,
    Tolerance,
    check_comparable,
    chosen_tolerance,
    side_spec,
)
from rnnscope.devices import arithmetic, back_ends, device_name, running
from rnnscope.differences import Difference, difference
from rnnscope.errors import RnnscopeError
from rnnscope.flags import Choice
from rnnscope.judgement import Evidence, Side
from rnnscope.locating import Place, first_nonfinite, function_parts, precision_parts
from rnnscope.margins import OUTPUTS
from rnnscope.problems import Tensors, draw_problem, step_by_step
from rnnscope.spec import Spec
from rnnscope.subjects import SUBJECTS, valid_region
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
    for flag, value in ((GRAD, grad), (REFERENCE, reference), (RESYNC, resync), (POWER, power)):
        flag.check(value)
    check_comparable(spec, left, right, reference, resync)
    sides = _side("left", LEFT, left, spec), _side("right", RIGHT, right, spec)
    dtypes = tuple(side.spec.dtype for side in sides)
    tolerance = chosen_tolerance(dtypes, rtol, atol)
    with running(spec, grad) as placed:
        problem = draw_problem(placed, dtypes, grad)
        evidence = Evidence(step_by_step(problem) if resync else problem, *sides)
        outputs, gradients = _rows(evidence, tolerance)
        facts = Comparison(
            placed,
            left,
            right,
            outputs,
            tolerance,
            ", ".join(dict.fromkeys(device_name(side.spec) for side in sides)),
            str(torch.__version__),
            gradients if grad else None,
            asked_for_reference=reference,
            resync=resync,
            dtypes=dtypes,
            back_ends=tuple({key: on for side in sides for key, on in back_ends(side.spec).items()}.items()),
            nonfinite=tuple(side.role for side in sides if not _all_finite(evidence.own(side))),
        )
        if facts.cause in ("shape", "nonfinite"):
            return replace(facts, first_divergence=_first_divergence(facts, evidence))
        if reference:
            facts = replace(facts, reference=_reference(evidence))
            other = tuple(side for side in sides if side.role in facts.other)
            facts = replace(facts, explanations=diagnosis.explanations(evidence, other))
            facts = replace(facts, first_divergence=_first_divergence(facts, evidence))
        if power:
            caught = partial(_would_differ, facts, any(not row.within_tolerance for row in (*outputs, *gradients)))
            facts = replace(facts, power=diagnosis.power(evidence, spec, caught, reference))
        return facts


def _side(role: str, flag: Choice, typed: str, spec: Spec) -> Side:
    subject, own = side_spec(flag, typed, spec)
    try:
        with running(own) as placed:
            used = arithmetic(placed, fused=subject == "module")
            return Side(role, subject, placed, SUBJECTS[subject], used)
    except RnnscopeError as error:
        if "@" not in typed:
            raise
        message = error.message.replace(f"--device {own.device}", f"{flag.name} {typed}")
        raise RnnscopeError(message, f"use {flag.name} {subject}@cpu") from error


def _rows(evidence: Evidence, tolerance: Tolerance) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
    """The figures of each output, and of each gradient."""
    spec, expected, actual = evidence.problem.spec, evidence.own(evidence.left), evidence.own(evidence.right)
    outputs, gradients = [], []
    for name, each in expected.items():
        if name not in actual:
            continue
        if name not in OUTPUTS:
            gradients.append(difference(name, actual[name], each, tolerance))
        elif name != "y" or spec.lengths is None:
            outputs.append(difference(name, actual[name], each, tolerance))
        else:
            valid = valid_region(spec, each)
            outputs.append(difference(name, actual[name], each, tolerance, valid))
            if not valid.all():
                outputs.append(difference("padding", actual[name], each, tolerance, ~valid))
    return tuple(outputs), tuple(gradients)


def _all_finite(tensors: Tensors) -> bool:
    return all(bool(each.isfinite().all()) for each in tensors.values())


def _reference(evidence: Evidence) -> Reference:
    """What the equations in float64 tell of both sides."""
    function, sides = evidence.same_function(), (evidence.left, evidence.right)
    if function.within:
        left, right = (evidence.precision(side) for side in sides)
        if left.within and right.within:
            return Reference(function, left, right, without_tf32=_without_tf32(evidence))
        other = tuple(side.role for side in sides if not evidence.torchs_function(side).within)
        if len(other) == 2:  # the same function, though not torch's: each is as exact as it can be of the left one
            left, right = (evidence.precision(side, evidence.left) for side in sides)
        return Reference(function, left, right, other if len(other) == 2 else ())
    left, right = (evidence.torchs_function(side) for side in sides)
    other = tuple(side.role for side, check in zip(sides, (left, right), strict=True) if not check.within)
    inside = tuple(side.role for side in sides if side.role in other and evidence.about_float32(side))
    return Reference(function, left, right, other, inside if inside == other else ())


def _without_tf32(evidence: Evidence) -> float | None:
    """How far the outputs are from each other without TF32, where a side may use it."""
    sides = (evidence.left, evidence.right)
    if all(side.arithmetic != "tf32" for side in sides):
        return None
    left, right = (
        replace(side, spec=replace(side.spec, tf32=False)).solve(evidence.problem, side.spec.dtype) for side in sides
    )
    return max((left[name].cpu().double() - right[name].cpu().double()).abs().max().item() for name in left)


def _first_divergence(facts: Comparison, evidence: Evidence) -> Place | None:
    """Where what the verdict rests on first appears."""
    off = next((side for side in (evidence.left, evidence.right) if side.role in (facts.side, *facts.nonfinite)), None)
    if facts.cause == "nonfinite" and off:
        return first_nonfinite(evidence, off)
    if facts.reference and not facts.reference.function.within:
        return function_parts(evidence, facts.reference.function.whole_steps is not None)
    return precision_parts(evidence, off) if facts.cause == "precision" and off else None


def _would_differ(facts: Comparison, over_anyway: bool, evidence: Evidence) -> bool:
    """Whether another right side would be found different by its function, or by a tolerance that correct ones keep."""
    left, right = evidence.own(evidence.left), evidence.own(evidence.right)
    if any(name not in right or right[name].shape != each.shape for name, each in left.items()):
        return True
    if facts.asked_for_reference and not evidence.same_function().within:
        return True
    if not facts.binds or over_anyway:
        return False
    return any(not row.within_tolerance for rows in _rows(evidence, facts.tolerance) for row in rows)
