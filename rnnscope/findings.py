"""Gathers what there is to find of two sides on one problem: figures, reference, place, reasons.

The runs are made and measured in judgement.py, and the verdict follows from the facts in verdicts.py.
"""

from dataclasses import replace
from functools import partial

import torch

from rnnscope import diagnosis
from rnnscope.comparability import (
    Question,
    Tolerance,
    chosen_tolerance,
)
from rnnscope.devices import back_ends, device_name
from rnnscope.differences import Difference, difference
from rnnscope.heat_map import HeatMap, heat_map
from rnnscope.judgement import Evidence, Side
from rnnscope.locating import Place, first_nonfinite, function_parts, precision_parts, tolerance_parts
from rnnscope.margins import OUTPUTS
from rnnscope.problems import Problem, Tensors, step_by_step
from rnnscope.spec import Spec
from rnnscope.subjects import valid_region
from rnnscope.verdicts import Comparison, Reference
from rnnscope.weights import dtype_name


def compare_sides(spec: Spec, left: Side, right: Side, problem: Problem, question: Question) -> Comparison:
    """Run two sides on one problem and compare y: (L, N, D·H_out), h: (D·K, N, H_out) and c.

    To be called while the Spec runs: see devices.py.

    Raises:
        RnnscopeError: a dtype that a device cannot compute, or whatever a side of the user's does wrong.
    """
    evidence = Evidence(step_by_step(problem) if question.resync else problem, left, right)
    facts = _found(spec, evidence, question)
    return replace(facts, heat_map=_heat_map(facts, evidence)) if question.map else facts


def _heat_map(facts: Comparison, evidence: Evidence) -> HeatMap:
    if facts.cause == "shape":
        return HeatMap((), None, whole=False)
    place = facts.first_divergence
    if place is None and facts.binds and not facts.within_tolerance:
        place = tolerance_parts(evidence, facts.tolerance)
    return heat_map(evidence, place)


def _found(spec: Spec, evidence: Evidence, question: Question) -> Comparison:
    """All but the map."""
    sides = (evidence.left, evidence.right)
    dtypes = tuple(side.spec.dtype for side in sides)
    tolerance = chosen_tolerance(dtypes, question.rtol, question.atol)
    outputs, gradients = _rows(evidence, tolerance)
    facts = Comparison(
        spec,
        evidence.left.subject,
        evidence.right.subject,
        outputs,
        tolerance,
        ", ".join(dict.fromkeys(device_name(side.spec) for side in sides)),
        str(torch.__version__),
        gradients if question.grad else None,
        asked_for_reference=question.reference,
        resync=question.resync,
        dtypes=dtypes,
        back_ends=tuple({key: on for side in sides for key, on in back_ends(side.spec).items()}.items()),
        nonfinite=tuple(side.role for side in sides if not _all_finite(evidence.own(side))),
        weights=_other_weights(evidence, tolerance),
        recorded=next((side.role for side in sides if side.recorded), None),
        ungraded=tuple(
            (side.role, missing) for side in sides if question.grad and (missing := _ungraded(evidence, side))
        ),
        returned=tuple((side.role, each) for side in sides if (each := _returned(evidence, side)) != side.spec.dtype),
    )
    if facts.cause in ("shape", "nonfinite"):
        return replace(facts, first_divergence=_first_divergence(facts, evidence))
    if question.reference:
        facts = replace(facts, reference=_reference(evidence))
        other = tuple(side for side in sides if side.role in facts.other)
        facts = replace(
            facts,
            explanations=diagnosis.explanations(evidence, other),
            dependences=diagnosis.dependences(evidence, other),
        )
        facts = replace(facts, first_divergence=_first_divergence(facts, evidence))
    if question.power:
        caught = partial(_would_differ, facts, any(not row.within_tolerance for row in (*outputs, *gradients)))
        facts = replace(facts, power=diagnosis.power(evidence, spec, caught, question.reference))
    return facts


def _other_weights(evidence: Evidence, tolerance: Tolerance) -> tuple[Difference, ...]:
    """How the right side's weights differ from the left one's."""
    left, right = (side.own_problem(evidence.problem).weights for side in (evidence.left, evidence.right))
    rows = (difference(name, right[name], each, tolerance) for name, each in left.items())
    return () if left is right else tuple(each for each in rows if not each.identical)


def _ungraded(evidence: Evidence, side: Side) -> tuple[str, ...]:
    """The gradients that a side did not give, since its parameters have other names or do not learn."""
    given, problem = evidence.own(side), evidence.problem
    # Where h0 is zeros it need not be given to anything.
    expected = (*(problem.given.tensors() if problem.spec.h0 == "random" else "x"), *problem.weights)
    return tuple(each for each in expected if each not in given)


def _returned(evidence: Evidence, side: Side) -> str:
    """The dtype in which a side gave its outputs: the first that is not the one that was asked for."""
    dtypes = [dtype_name(each) for name, each in evidence.own(side).items() if name in OUTPUTS]
    return next((each for each in dtypes if each != side.spec.dtype), side.spec.dtype)


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
        roles = tuple(side.role for side in sides if not evidence.torchs_function(side).within)
        if len(roles) == 2:  # the same function, though not torch's: each is as exact as it can be of the left one
            left, right = (evidence.precision(side, evidence.left) for side in sides)
        return Reference(function, left, right, roles if len(roles) == 2 else ())
    left, right = (evidence.torchs_function(side) for side in sides)
    other = tuple(side for side, check in zip(sides, (left, right), strict=True) if not check.within)
    roles = tuple(side.role for side in other)
    inside = tuple(side.role for side in other if evidence.about("float32", side))
    coarser = None
    if other and all(side.recorded for side in other):
        coarser = next((used for used in ("tf32", "bfloat16") if evidence.about(used, other[0])), None)
    return Reference(function, left, right, roles, inside if inside == roles else (), coarser)


def _without_tf32(evidence: Evidence) -> float | None:
    """How far the outputs are from each other without TF32, where a side may use it."""
    sides = (evidence.left, evidence.right)
    if all(side.arithmetic != "tf32" or side.recorded for side in sides):
        return None
    left, right = (
        replace(side, spec=replace(side.spec, tf32=False)).solve(evidence.problem, side.spec.dtype) for side in sides
    )
    both = left.keys() & right.keys()  # somebody's own class may give no gradient of a parameter
    return max((left[name].cpu().double() - right[name].cpu().double()).abs().max().item() for name in both)


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
