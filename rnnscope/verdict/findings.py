"""Gathers what there is to find of two sides on one problem: figures, reference, place, reasons.

The runs are made and measured in judgement.py, and the verdict follows from the facts in verdicts.py.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from rnnscope.network.weights import all_finite, time_of
from rnnscope.spec.question import (
    Question,
    Tolerance,
    chosen_tolerance,
)
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import valid_region
from rnnscope.subjects.devices import back_ends, device_name
from rnnscope.verdict import diagnosis
from rnnscope.verdict.evidence import Evidence, Side
from rnnscope.verdict.figures import Difference, difference
from rnnscope.verdict.heat_map import HeatMap, heat_map
from rnnscope.verdict.margins import OUTPUTS
from rnnscope.verdict.places import Place, first_nonfinite, function_parts, precision_parts, tolerance_parts
from rnnscope.verdict.problem import Problem, step_by_step
from rnnscope.verdict.result import Comparison, Reference
from rnnscope.verdict.side_by_side import Figures, beside_a_whole_run, in_chunks, returned


def compare_sides(
    spec: Spec, left: Side, right: Side, problem: Problem, question: Question, xs: Iterator[Tensor] | None = None
) -> Comparison:
    """Run two sides on one problem and compare y: (L, N, D·H_out), h: (D·K, N, H_out) and c.

    To be called while the Spec runs: see devices.py.

    Args:
        xs: x in chunks, where the problem has none.

    Raises:
        RnnscopeError: a dtype that a device cannot compute, or whatever a side of the user's does wrong.
    """
    sides = (left, right)
    tolerance = chosen_tolerance(tuple(side.spec.dtype for side in sides), question.rtol, question.atol)
    if question.figures_alone:
        if xs is None and question.chunk is not None:
            xs = iter(torch.split(problem.given.x, question.chunk, time_of(problem.spec)))
        if xs is not None:
            seen = in_chunks(problem, left, right, xs, tolerance)
            return replace(_facts(spec, sides, problem, question, seen, tolerance), first_divergence=seen.place)
        if figures := beside_a_whole_run(problem, left, right, tolerance):
            return _facts(spec, sides, problem, question, figures, tolerance)
    evidence = Evidence(step_by_step(problem) if question.resync else problem, left, right)
    facts = _found(spec, evidence, question, tolerance)
    return replace(facts, heat_map=_heat_map(facts, evidence)) if question.map else facts


def _heat_map(facts: Comparison, evidence: Evidence) -> HeatMap:
    if facts.cause == "shape":
        return HeatMap((), None, whole=False)
    place = facts.first_divergence
    if place is None and facts.binds and not facts.within_tolerance:
        place = tolerance_parts(evidence, facts.tolerance)
    return heat_map(evidence, place)


def _facts(
    spec: Spec, sides: tuple[Side, Side], problem: Problem, question: Question, figures: Figures, tolerance: Tolerance
) -> Comparison:
    """What follows from the figures alone."""
    left, right = sides
    return Comparison(
        spec,
        left.subject,
        right.subject,
        figures.outputs,
        tolerance,
        ", ".join(dict.fromkeys(device_name(side.spec) for side in sides)),
        str(torch.__version__),
        figures.gradients if question.grad else None,
        asked_for_reference=question.reference,
        resync=question.resync,
        chunk=question.chunk,
        dtypes=(left.spec.dtype, right.spec.dtype),
        back_ends=tuple({key: on for side in sides for key, on in back_ends(side.spec).items()}.items()),
        nonfinite=figures.nonfinite,
        weights=_other_weights(problem, left, right, tolerance),
        recorded=next((side.role for side in sides if side.recorded), None),
        returned=figures.returned,
    )


def _found(spec: Spec, evidence: Evidence, question: Question, tolerance: Tolerance) -> Comparison:
    """All but the map, of whole runs."""
    sides = (evidence.left, evidence.right)
    figures = _figures(evidence, tolerance)
    facts = _facts(spec, sides, evidence.problem, question, figures, tolerance)
    if question.grad:
        missing = ((side.role, _ungraded(evidence, side)) for side in sides)
        facts = replace(facts, ungraded=tuple((role, names) for role, names in missing if names))
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
        caught = partial(_would_differ, facts, any(not row.within_tolerance for row in facts.differences))
        facts = replace(facts, power=diagnosis.power(evidence, spec, caught, question.reference))
    return facts


def _other_weights(problem: Problem, left: Side, right: Side, tolerance: Tolerance) -> tuple[Difference, ...]:
    """How the right side's weights differ from the left one's."""
    one, other = (side.own_problem(problem).weights for side in (left, right))
    rows = (difference(name, other[name], each, tolerance) for name, each in one.items())
    return () if one is other else tuple(each for each in rows if not each.identical)


def _ungraded(evidence: Evidence, side: Side) -> tuple[str, ...]:
    """The gradients that a side did not give, since its parameters have other names or do not learn."""
    given, problem = evidence.own(side), evidence.problem
    # Where h0 is zeros it need not be given to anything.
    expected = (*(problem.given.tensors() if problem.spec.h0 == "random" else "x"), *problem.weights)
    return tuple(each for each in expected if each not in given)


def _figures(evidence: Evidence, tolerance: Tolerance) -> Figures:
    """What whole runs show."""
    runs = [(side, evidence.own(side)) for side in (evidence.left, evidence.right)]
    outputs, gradients = _rows(evidence, tolerance)
    nonfinite = tuple(side.role for side, found in runs if not all_finite(found.values()))
    plain = [(side, {name: each for name, each in found.items() if name in OUTPUTS}) for side, found in runs]
    return Figures(outputs, gradients, nonfinite, returned(plain))


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
