"""Compares two sides on one problem: two names of subjects, or two modules that are there.

What can be compared is settled in spec/question.py. Here the sides are made, run, and everything there is to find is
gathered: figures, reference, place, reasons. The verdict follows from these facts in result.py.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from rnnscope.errors import RnnscopeError
from rnnscope.files.loading import Loaded, Recording, write_recording
from rnnscope.files.tensors import check_target
from rnnscope.network.cells import Hidden
from rnnscope.network.shapes import Place
from rnnscope.network.weights import all_finite, time_of
from rnnscope.pages.render import render
from rnnscope.spec.flags import Flag
from rnnscope.spec.options import LEFT, NO_FILES, RECORD, RECORDED, RIGHT, side_spec
from rnnscope.spec.question import (
    CHUNK,
    Question,
    Tolerance,
    check_chunk,
    check_comparable,
    chosen_tolerance,
)
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import SUBJECTS, valid_region
from rnnscope.subjects.devices import arithmetic, back_ends, device_name, running
from rnnscope.subjects.own import own_network
from rnnscope.verdict import diagnosis
from rnnscope.verdict.chunks import (
    Figures,
    beside_a_whole_run,
    carried,
    draw_in_chunks,
    in_chunks,
    returned,
    using_its_state,
)
from rnnscope.verdict.evidence import Evidence, Side
from rnnscope.verdict.figures import OUTPUTS, Difference, difference
from rnnscope.verdict.live import live_sides
from rnnscope.verdict.places import HeatMap, first_nonfinite, function_parts, heat_map, precision_parts, tolerance_parts
from rnnscope.verdict.problem import Problem, draw_problem, rounded_weights, step_by_step
from rnnscope.verdict.result import Comparison, Reference


@overload
def compare(
    left: nn.Module, right: nn.Module, x: Tensor | PackedSequence, hx: Hidden | None = None, /, **question: Any
) -> Comparison: ...


@overload
def compare(
    spec: Spec,
    left: str = "module",
    right: str = "cells",
    *,
    loaded: Loaded | None = None,
    record: str | None = None,
    force: bool = False,
    **question: Any,
) -> Comparison: ...


def compare(*sides: Any, **options: Any) -> Comparison:
    """Compare two modules, or two subjects of a Spec, on the same input: y: (L, N, D·H_out), h: (D·K, N, H_out) and c.

    `compare(left, right, x, hx)`: two modules with weights of their own, of which at least one is nn.RNN, nn.LSTM,
    nn.GRU, StackedCells, or names its parameters as they do. x: (L, N, H_in), or (N, L, H_in) with batch_first, or
    (L, H_in), or a packed sequence; hx: h0, or (h0, c0), or None. Both are copied and left as they are, and compared in
    evaluation mode.

    `compare(spec, left="module", right="cells")`: two subjects, written as for --left and --right, on the weights and
    the input of the Spec's seed. `loaded` brings what files gave; `record` names a file that keeps the left side's run,
    and `force` replaces one that is there.

    Either takes the fields of a Question by name: rtol, atol, grad, reference, resync, power, map, chunk. Memory is not
    checked here: see `check_memory`.

    Raises:
        RnnscopeError: nothing to compare, a subject that cannot do what is asked, one tolerance without the other, no
            such device, a dtype that it cannot compute, or whatever a class of the user's does wrong.
    """
    if len(sides) > 1 and all(isinstance(each, nn.Module) for each in sides[:2]):
        return _compare_modules(*sides, **options)
    if "spec" in options or (sides and isinstance(sides[0], Spec)):
        return _compare_subjects(*sides, **options)
    raise RnnscopeError("compare takes a Spec, or two modules and their input")


def _compare_modules(
    left: nn.Module, right: nn.Module, x: Tensor | PackedSequence, hx: Hidden | None = None, **question: Any
) -> Comparison:
    asked = Question(**question)
    spec, problem, one, other = live_sides(left, right, x, hx, asked.grad)
    check_chunk(spec, asked)
    one, other = _in_chunks(one, asked), _in_chunks(other, asked)
    with running(spec, asked.grad) as placed:
        return replace(compare_sides(placed, one, other, problem, asked), rerunnable=False)


def _compare_subjects(
    spec: Spec,
    left: str = "module",
    right: str = "cells",
    *,
    loaded: Loaded | None = None,
    record: str | None = None,
    force: bool = False,
    **question: Any,
) -> Comparison:
    asked = Question(**question)
    check_comparable(spec, left, right, asked)
    if record is not None:
        if asked.chunk is not None:
            raise RnnscopeError(
                f"{RECORD.name} {record} keeps a whole run, and {CHUNK.name} {asked.chunk} makes none",
                "give one of the two",
            )
        check_target(record, force)
        _check_no_source(record, loaded)
    loaded = loaded or Loaded(NO_FILES, spec)
    one = _side("left", LEFT, left, spec, loaded.recordings.get("left"))
    right_spec = replace(spec, dtype=loaded.right_dtype or spec.dtype)
    other = _side("right", RIGHT, right, right_spec, loaded.recordings.get("right"))
    dtypes, for_weights = (one.spec.dtype, other.spec.dtype), None
    if loaded.right_weights is not None:  # each side's are rounded to its own dtype alone, or they might become alike
        for_weights = (one.spec.dtype,)
        other = replace(other, weights=rounded_weights(loaded.right_weights, (other.spec.dtype,)))
    one, other = _in_chunks(one, asked), _in_chunks(other, asked)
    with running(spec, asked.grad) as placed:
        xs = None
        if asked.chunk is not None and asked.figures_alone and loaded.given is None:
            problem, xs = draw_in_chunks(placed, dtypes, asked.chunk, loaded.weights, for_weights)
        else:
            problem = draw_problem(placed, dtypes, asked.grad, loaded.weights, loaded.given, for_weights)
        found = compare_sides(placed, one, other, problem, asked, xs)
        found = replace(found, sources=loaded.sources, typed=(left, right))
        if record is not None:
            outputs = one.solve(replace(problem, cotangents=None), one.spec.dtype)
            write_recording(
                record, problem.given, problem.weights, outputs, one.spec, one.arithmetic, device_name(one.spec), force
            )
        return found


def _in_chunks(side: Side, asked: Question) -> Side:
    """The side as it is asked for: it carries its state through chunks where these are asked for.

    Raises:
        RnnscopeError: a class of the user's that takes no state.
    """
    if asked.chunk is None:
        return side
    if not side.has_steps:
        raise RnnscopeError(
            f"{side.subject}: its forward takes no hx, by which {CHUNK.name} {asked.chunk} carries the state on",
            f"name an argument hx, or leave {CHUNK.name} out",
        )
    if side.is_own:
        side = replace(side, run=using_its_state(side.run, side.subject))
    # Without the reference the figures are taken chunk by chunk as well: see side_by_side.py.
    return side if asked.figures_alone else replace(side, run=carried(side.run, side.subject, asked.chunk))


def _check_no_source(record: str, loaded: Loaded | None) -> None:
    """What is read is not written over, whatever --force says."""
    for flag, file in loaded.sources.given() if loaded else ():
        if os.path.exists(record) and os.path.exists(file) and os.path.samefile(record, file):
            raise RnnscopeError(f"{RECORD.name} {record} is what {flag.name} reads", "name another file")


def _side(role: str, flag: Flag, typed: str, spec: Spec, recorded: Recording | None) -> Side:
    """The side that a name stands for."""
    subject, own = side_spec(flag, typed, spec)
    if subject.startswith(RECORDED) and recorded is None:
        raise RnnscopeError(f"{subject} is not loaded", "give what rnnscope.load returned as loaded=")
    if recorded is not None:
        own = replace(own, device="cpu", dtype=recorded.dtype or own.dtype)
        return Side(
            role, subject, own, recorded.run, recorded.arithmetic, recorded=True, has_layers=False, has_steps=False
        )
    try:
        with running(own) as placed:
            used = arithmetic(placed, fused=subject in ("module", "items"))
            if subject in SUBJECTS:
                return Side(role, subject, placed, SUBJECTS[subject], used)
            network = own_network(subject, placed)
            used = arithmetic(placed, network.is_fused)
            side = Side(role, subject, placed, network.run, used, is_own=True)
            return replace(side, has_layers=network.has_layers, has_steps=network.has_steps)
    except RnnscopeError as error:
        if "@" not in typed or not error.message.startswith(f"--device {own.device}"):
            raise
        message = error.message.replace(f"--device {own.device}", f"{flag.name} {typed}")
        raise RnnscopeError(message, f"use {flag.name} {subject}@cpu") from error


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


def assert_equivalent(*sides: Any, **question: Any) -> Comparison:
    """Do nothing where `compare` with the same arguments finds two networks identical or equivalent.

    Returns:
        the comparison, whose figures may be asserted too.

    Raises:
        AssertionError: they are different, or it cannot be decided; its text is the table of the comparison.
        RnnscopeError: they cannot be compared: see `compare`.
    """
    comparison = compare(*sides, **question)
    if comparison.exit_code:
        raise AssertionError("\n" + render(comparison, "table", io.StringIO()))
    return comparison
