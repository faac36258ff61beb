"""Compares two sides on one problem: two names of subjects, or two modules with weights of their own.

The sides are made and run, and figures, reference, place and reasons are gathered. The verdict follows from these.
"""

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from rnnscope.errors import RnnscopeError
from rnnscope.files.loading import Loaded, write_recording
from rnnscope.files.tensors import check_target
from rnnscope.network.cells import Hidden
from rnnscope.network.shapes import Place
from rnnscope.network.weights import all_finite, time_of
from rnnscope.pages.progress import shown, stage
from rnnscope.pages.render import render
from rnnscope.spec.options import NO_FILES, RECORD, Sources
from rnnscope.spec.question import (
    CHUNK,
    DEFAULT_QUESTION,
    QUESTION_FLAGS,
    Question,
    Tolerance,
    check_comparable,
    check_recordings,
    stressed,
    stressed_question,
)
from rnnscope.spec.sides import (
    AS_IT_IS,
    HOW_FLAGS,
    LEFT,
    NOTHING_SAID_OF_SIDES,
    OWN_FLAGS,
    RIGHT,
    SUBJECT_NAMES,
    How,
    OwnSides,
    is_model,
)
from rnnscope.spec.spec import Spec
from rnnscope.subjects.devices import back_ends, device_name, is_out_of_memory, running
from rnnscope.verdict import chunks, diagnosis
from rnnscope.verdict.calls import Unsteady, unsteady
from rnnscope.verdict.evidence import (
    Evidence,
    Side,
    under_autocast,
)
from rnnscope.verdict.facts import (
    NO_REASONS,
    BrokenRelation,
    Figures,
    Inside,
    Reasons,
    Reference,
    Sides,
    cause_of,
    side_of,
)
from rnnscope.verdict.figures import Difference, difference
from rnnscope.verdict.frozen import Frozen, frozen_of, in_one_call, is_at, problem_at
from rnnscope.verdict.gates import gate_at
from rnnscope.verdict.gradients import GradientFault, gradient_fault
from rnnscope.verdict.inside import seen_to_round, with_arithmetics
from rnnscope.verdict.live import Live, live_sides
from rnnscope.verdict.making import alike, chunked, in_model_files, side_called, with_outputs, with_zeros
from rnnscope.verdict.modules import ComparedRuns
from rnnscope.verdict.places import HeatMap, first_nonfinite, function_parts, heat_map, precision_parts, tolerance_parts
from rnnscope.verdict.problem import (
    Problem,
    clear_padding,
    draw_problem,
    rounded_weights,
    step_by_step,
    stressed_problem,
)
from rnnscope.verdict.recordings import compare_recordings
from rnnscope.verdict.result import Comparison
from rnnscope.verdict.unseen import unseen, watched

T = TypeVar("T")


@overload
def compare(
    left: nn.Module, right: nn.Module, x: Tensor | PackedSequence, hx: Hidden | None = None, /, **question: Any
) -> Comparison: ...


@overload
def compare(
    left: nn.Module | str | os.PathLike[str],
    right: nn.Module | str | os.PathLike[str],
    x: Tensor | PackedSequence,
    hx: Hidden | None = None,
    /,
    **question: Any,
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


@overload
def compare(
    left: str | os.PathLike[str],
    right: str | os.PathLike[str],
    /,
    *,
    prefix: str | None = None,
    right_prefix: str | None = None,
    threads: int | None = None,
    memory_check: bool = False,
) -> ComparedRuns: ...


@shown("compare")
def compare(*sides: Any, question: Question = DEFAULT_QUESTION, **options: Any) -> Comparison | ComparedRuns:
    """Compare two modules, or two subjects of a Spec, on the same input: y: (L, N, D·H_out), h: (D·K, N, H_out) and c.

    `compare(left, right, x, hx)`: two modules with weights of their own. At least one is nn.RNN, nn.LSTM, nn.GRU,
    StackedCells, or names its parameters as they do. x: (L, N, H_in), or (N, L, H_in) with batch_first, or (L, H_in),
    or a packed sequence; hx: h0, or (h0, c0), or None. Both are copied and left as they are, and compared in evaluation
    mode. In place of one of them may stand the name of a file, "model.onnx" or "model.pt2".

    `compare(spec, left="module", right="cells")`: two subjects, written as for --left and --right, on the weights and
    the input of the Spec's seed. `loaded` brings what files gave; `record` names a file that keeps the left side's run,
    and `force` replaces one that is there.

    What has to be said of a class of one's own is `own=OwnSides(...)`, or its fields by name: left_args, left_names,
    left_batch_first, and the same of the right side.

    Both take `question=Question(...)`, or its fields by name: rtol, atol, grad, reference, resync, power, map, chunk,
    stress.

    `compare("a.pt", "b.pt")`: two files of recorded runs, module by module; `prefix` and `right_prefix` name one run.
    Memory is not checked here: `check_memory` does.

    Raises:
        RnnscopeError: nothing to compare, or a subject that cannot do what is asked.
        RnnscopeError: one tolerance without the other, no such device, or a dtype that it cannot compute.
        RnnscopeError: whatever a class of the user's does wrong.

    >>> found = compare(Spec(kind="gru", seq_len=1, h0="zeros"))
    >>> found.exit_code
    0
    >>> print(found.blind_spots[0].sentence)
    one step from --h0 zeros never uses weight_hh: use --seq-len 2 or more, or --h0 random
    """
    if fields := {name: options.pop(name) for name in QUESTION_FLAGS if name in options}:
        question = replace(question, **fields)
    if said := {name: options.pop(name) for name in OWN_FLAGS if name in options}:
        options["own"] = replace(options.get("own", NOTHING_SAID_OF_SIDES), **said)
    if said := {name: options.pop(name) for name in HOW_FLAGS if name in options}:
        options["how"] = replace(options.get("how", AS_IT_IS), **said)
    if len(sides) > 1 and _are_live(*sides[:2]):
        return _compare_modules(*sides, question=question, **options)
    if "spec" in options or (sides and isinstance(sides[0], Spec)):
        return _compare_subjects(*sides, question=question, **options)
    are_files = all(isinstance(each, (str, os.PathLike)) and each not in SUBJECT_NAMES for each in sides)
    if len(sides) == 2 and are_files:
        check_recordings((), NO_FILES, None, question)
        return _compare_files(*map(os.fspath, sides), **options)
    raise RnnscopeError(
        "compare takes a Spec, or two modules and their input, of which one may be a model's file, or two files of "
        "recorded runs"
    )


def _are_live(*sides: Any) -> bool:
    """Whether both are modules, or one is and the other names a file of a model."""
    files = [each for each in sides if isinstance(each, (str, os.PathLike)) and is_model(os.fspath(each))]
    return len(files) < 2 and all(isinstance(each, nn.Module) for each in sides if each not in files)


def _compare_files(
    left: str, right: str, *, prefix: str | None = None, right_prefix: str | None = None, **run: Any
) -> ComparedRuns:
    sources = Sources(prefix=prefix, right_prefix=right_prefix)
    return compare_recordings(left, right, sources, Spec(**{"memory_check": False} | run), _compare_recorded)


def _compare_recorded(spec: Spec, left: str, right: str, loaded: Loaded) -> Comparison:
    return _compare_subjects(spec, left, right, question=DEFAULT_QUESTION, loaded=loaded)


def assert_equivalent(*sides: Any, **question: Any) -> Comparison:
    """Raise unless `compare` with the same arguments finds two networks identical or equivalent.

    Returns:
        the comparison, whose figures may be asserted too.

    Raises:
        AssertionError: they are different, or it cannot be decided; its text is the table of the comparison.
        RnnscopeError: `compare` raises it.

    >>> lstm = torch.nn.LSTM(8, 16, num_layers=2)
    >>> assert_equivalent(lstm, StackedCells.from_module(lstm), torch.randn(5, 3, 8)).exit_code
    0
    """
    comparison: Comparison = compare(*sides, **question)
    if comparison.exit_code:
        raise AssertionError("\n" + render(comparison, "table", io.StringIO()))
    return comparison


def _compare_modules(
    left: Live, right: Live, x: Tensor | PackedSequence, hx: Hidden | None = None, *, question: Question
) -> Comparison:
    file = next((os.fspath(each) for each in (left, right) if not isinstance(each, nn.Module)), None)
    if file and question.grad:
        raise RnnscopeError(f"{file} gives no gradients for grad=True", "leave grad out")
    spec, problem, one, other = live_sides(left, right, x, hx, question.grad)
    question.check_chunk(spec)
    one, other = chunked(one, question), chunked(other, question)
    with running(spec, question.grad) as placed:
        return _compare_sides(placed, one, other, problem, question)


def _compare_subjects(
    spec: Spec,
    left: str = "module",
    right: str = "cells",
    *,
    question: Question,
    loaded: Loaded | None = None,
    record: str | None = None,
    force: bool = False,
    own: OwnSides = NOTHING_SAID_OF_SIDES,
    how: How = AS_IT_IS,
    with_reasons: bool = True,
) -> Comparison:
    check_comparable(spec, left, right, question, own, how)
    loaded = loaded or in_model_files(spec, left, right)
    if record is not None:
        _check_record(record, force, question, loaded.sources)
    one = side_called("left", LEFT, left, spec, loaded.recordings.get("left"), own.left, how, loaded.sources)
    right_spec = replace(spec, dtype=loaded.right_dtype or spec.dtype)
    other = side_called(
        "right", RIGHT, right, right_spec, loaded.recordings.get("right"), own.right, how, loaded.sources
    )
    dtypes, for_weights = (one.spec.dtype, other.spec.dtype), None
    if loaded.right_weights is not None:
        # Each side's weights are rounded to its own dtype alone: otherwise they might become alike.
        for_weights = (one.spec.dtype,)
        other = replace(other, weights=rounded_weights(loaded.right_weights, (other.spec.dtype,)))
    if how.autocast is not None:
        other = under_autocast(other, how.autocast)
    one, other = chunked(one, question), chunked(other, question)
    spec = with_zeros(spec, one, other, loaded)
    with running(spec, question.grad) as placed:
        xs = None
        if question.chunk is not None and question.figures_alone and loaded.given is None:
            problem, xs = chunks.draw_in_chunks(placed, dtypes, question.chunk, loaded.weights, for_weights)
        else:
            problem = draw_problem(placed, dtypes, question.grad, loaded.weights, loaded.given, for_weights)
            if not loaded.recordings:  # a recorded run may have seen what stands there
                clear_padding(placed, problem.given.x)
        one, other = (with_outputs(side, problem, question) for side in (one, other))
        problem, one, other = alike(problem, one, other)
        said = (loaded.sources, own, how)
        found = _compare_sides(
            placed, one, other, problem, question, xs, (left, right), *said, with_reasons=with_reasons
        )
        if record is not None:
            outputs = one.solve(replace(problem, cotangents=None), one.spec.dtype)
            write_recording(
                record, problem.given, problem.weights, outputs, one.spec, one.arithmetic, device_name(one.spec), force
            )
        return found


def _check_record(record: str, force: bool, question: Question, sources: Sources) -> None:
    """Raise unless a whole run can be kept in a file; a file that is read is not written over, even with --force."""
    if question.chunk is not None:
        raise RnnscopeError(
            f"{RECORD.name} {record} keeps a whole run, and {CHUNK.name} {question.chunk} makes none",
            "give one of the two",
        )
    check_target(record, force)
    for flag, file in sources.given():
        if os.path.exists(record) and os.path.exists(file) and os.path.samefile(record, file):
            raise RnnscopeError(f"{RECORD.name} {record} is what {flag.name} reads", "name another file")


def _compare_sides(
    spec: Spec,
    left: Side,
    right: Side,
    problem: Problem,
    question: Question,
    xs: Iterator[Tensor] | None = None,
    written: tuple[str, str] | None = None,
    sources: Sources = NO_FILES,
    own: OwnSides = NOTHING_SAID_OF_SIDES,
    how: How = AS_IT_IS,
    is_stressed: bool = False,
    with_reasons: bool = True,
) -> Comparison:
    """Run two sides on one problem while the Spec runs, and gather what is found; xs: x in chunks, if it has none."""
    calls = tuple(each for side in (left, right) for each in unsteady(problem, side, question.reference))
    left, right = (_in_first_calls(side, calls, question) for side in (left, right))
    sides = (left, right)
    recorded = next((side.role for side in sides if side.is_recorded), None)
    weights = _other_weights(problem, left, right, _tolerance(question, problem, left, right))
    comparison_with = partial(
        _comparison,
        sides,
        spec,
        Sides(left.subject, right.subject, problem.dtypes, weights, recorded, written, own, how),
        question,
        calls=calls,
        device_name=", ".join(dict.fromkeys(device_name(side.spec) for side in sides)),
        torch_version=str(torch.__version__),
        back_ends=tuple({key: on for side in sides for key, on in back_ends(side.spec).items()}.items()),
        sources=sources,
        unseen=unseen([side.own_problem(problem) for side in sides], [name for side in sides for name in side.folded]),
        is_stressed=is_stressed,
    )
    evidence = Evidence(step_by_step(problem) if question.resync else problem, left, right)
    asked = evidence
    if xs is not None and question.chunk is not None:  # of which the problem has the first step alone
        chunk = min(question.chunk, problem.spec.seq_len)
        asked = Evidence(problem_at(problem, (chunk, problem.spec.batch_size)), left, right)
    if frozen := next(filter(None, (frozen_of(asked, side) for side in sides)), None):
        return comparison_with(figures=Figures(()), frozen=_judged_there(frozen, left, right, problem))
    if question.figures_alone and (alone := _figures_alone(problem, left, right, question, xs)):
        figures, place = alone
        return comparison_with(figures=figures, first_divergence=place)
    figures, reference, reasons = _figures_of_whole_runs(evidence, question), None, NO_REASONS
    told = _Told(any(side.may_refuse for side in sides))
    if cause_of(figures, None) is None:
        if question.reference:
            evidence = with_arithmetics(evidence)
            reference = _reference(evidence)
        ask = partial(_reasons, spec, evidence, question, figures, reference, calls)
        if with_reasons:
            reasons = told.unless_refused("the reason", ask) or replace(NO_REASONS, refused=True)
    with stage("where they part"):
        place = told.unless_refused("the place", partial(_first_divergence, evidence, figures, reference))
        gate = None
        if place and reference and not reference.function.within:
            explained = tuple((each.side, each.deviations) for each in reasons.explanations)
            gate = gate_at(evidence, reference.deviating, bool(weights), place, explained)
        ask_where = partial(_gradient_fault, evidence, figures, reference)
        fault = told.unless_refused("the first gradient that is off", ask_where)
    with stage("the map"):
        draw = partial(_heat_map, evidence, question, figures, place)
        drawn = told.unless_refused("the map", draw) if question.map else None
    found = comparison_with(
        figures=figures,
        reference=reference,
        first_divergence=place,
        gate=gate,
        gradient_fault=fault,
        reasons=reasons,
        heat_map=drawn,
    )
    ask_there = partial(_with_where_made, found, sides, problem)
    found = told.unless_refused("the verdict where it was made", ask_there) or found
    found = _with_reach(found, sides, problem)
    stressed_too = told.unless_refused("the verdict under stress", lambda: _with_stress(found, left, right, problem))
    hints = _hints(sides) if cause_of(figures, None) == "shape" else []
    return replace(stressed_too or found, notes=(*told.notes, *hints))


def _comparison(sides: tuple[Side, Side], *facts: Any, **found: Any) -> Comparison:
    """What was found, with what was done to make and to call the sides, which is known once they have run."""
    told = tuple((side.role, side.adaptations) for side in sides if side.adaptations)
    return Comparison(*facts, **found | {"adaptations": told})


def _judged_there(frozen: Frozen, left: Side, right: Side, problem: Problem) -> Frozen:
    """What is frozen, with the verdict at the sizes at which it was made."""
    at = problem_at(problem, frozen.made_at)
    with stage("where it was made"):
        there = _compare_sides(at.spec, in_one_call(left), in_one_call(right), at, DEFAULT_QUESTION)
    return replace(frozen, there=there.verdict)


def _with_where_made(found: Comparison, sides: tuple[Side, Side], problem: Problem) -> Comparison:
    """What was found, with the sizes at which an export was made, where it is the same function at these alone."""
    off = [side for side in sides if found.reference and side.role in found.reference.deviating]
    made = next(((side.role, side.foreign.made_at) for side in off if side.foreign and side.foreign.made_at), None)
    if found.cause != "function" or made is None or is_at(problem, made[1]):
        return found
    at = problem_at(problem, made[1])
    with stage("where it was made"):
        there = _compare_sides(at.spec, *sides, at, DEFAULT_QUESTION)
    return replace(found, only_where_made=made) if there.exit_code == 0 else found


class _Told:
    """What could not be told of a finished verdict, since a class of the user's refuses an input that nobody typed."""

    def __init__(self, has_own: bool) -> None:
        self.notes: list[str] = []
        self._has_own = has_own

    def unless_refused(self, what: str, ask: Callable[[], T]) -> T | None:
        """The answer; None where a class of the user's raises, which becomes a note."""
        try:
            return ask()
        except RnnscopeError as error:
            if not self._has_own or is_out_of_memory(error):
                raise
            self.notes.append(f"{what} is not told, since that takes another input than was asked for: {error.message}")
            return None


def _hints(sides: tuple[Side, Side]) -> list[str]:
    """What would mend the shapes of a class of the user's."""
    return [f"the {side.role} side: {side.network.hint}" for side in sides if side.network and side.network.hint]


def _with_reach(found: Comparison, sides: tuple[Side, Side], problem: Problem) -> Comparison:
    """What was found, with how far the equations reach where a class of the user's may do something beyond that."""
    own = [side for side in sides if side.is_own or (side.foreign and side.foreign.gets_weights)]
    has_range = found.is_stressed or (own and found.reference)
    if not has_range and not (found.reference and found.spec.nonlinearity == "relu"):
        return found
    reached, dead = watched([side.own_problem(problem) for side in (own or sides)])
    return replace(found, reached=reached if has_range else None, unseen=(*found.unseen, *dead))


def _with_stress(found: Comparison, left: Side, right: Side, problem: Problem) -> Comparison:
    """What was found, with what is found under stress where that is asked and nothing differs as it is."""
    if not found.question.stress or found.verdict == "different":
        return found
    with stage("under stress"):
        spec, question, longer = stressed(found.spec), stressed_question(found.question), stressed_problem(problem)
        return replace(found, stress=_compare_sides(spec, left, right, longer, question, is_stressed=True))


def _in_first_calls(side: Side, calls: tuple[Unsteady, ...], question: Question) -> Side:
    """The side, judged by its first call alone if it is known to keep state."""
    keeps = any(each.side == side.role and each.by == "state" for each in calls)
    return chunked(replace(side, run=side.network.run_once), question) if side.network and keeps else side


def _figures_alone(
    problem: Problem, left: Side, right: Side, question: Question, xs: Iterator[Tensor] | None
) -> tuple[Figures, Place | None] | None:
    """The figures of sides that walk piece by piece, and where NaN or infinity came out; None if whole runs must."""
    tolerance = _tolerance(question, problem, left, right)
    if question.chunk is None and not {"y", "h"} <= set(problem.compared):
        return None
    if question.chunk is None:
        figures = chunks.beside_a_whole_run(problem, left, right, tolerance)
        return None if figures is None else (figures, None)
    pieces = xs or torch.split(problem.given.x, question.chunk, time_of(problem.spec))
    return chunks.in_chunks(problem, left, right, pieces, tolerance)


def _tolerance(question: Question, problem: Problem, left: Side, right: Side) -> Tolerance:
    """That of the dtypes of both sides, and of autocast where one runs under that."""
    return question.tolerance(*problem.dtypes, *(side.autocast for side in (left, right) if side.autocast))


def _other_weights(problem: Problem, left: Side, right: Side, tolerance: Tolerance) -> tuple[Difference, ...]:
    """The weights in which the right side differs from the left one, with those biases alone that both have."""
    one, other = (side.own_problem(problem).weights for side in (left, right))
    if one is other:
        return ()
    for network in (side.network for side in (left, right) if side.network):
        one, other = network.folded(one), network.folded(other)
    rows = (difference(name, other[name], each, tolerance) for name, each in one.items())
    return tuple(each for each in rows if not each.identical)


def _figures_of_whole_runs(evidence: Evidence, question: Question) -> Figures:
    """What whole runs show."""
    sides = (evidence.left, evidence.right)
    left, right = runs = [evidence.in_own_dtype(side) for side in sides]
    tolerance = _tolerance(question, evidence.problem, *sides)
    outputs, gradients = chunks.rows_of(evidence.problem.spec, left, right, tolerance)
    return Figures(
        outputs,
        gradients if question.grad else None,
        nonfinite=tuple(side.role for side, run in zip(sides, runs, strict=True) if not all_finite(run.values())),
        wrong_dtypes=chunks.wrong_dtypes(sides, runs),
        missing_gradients=_missing_gradients(evidence) if question.grad else (),
    )


def _missing_gradients(evidence: Evidence) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The gradients that a side did not give, since its parameters have other names or do not learn."""
    problem = evidence.problem
    # h0 of zeros need not be given to anything, so it needs no gradient.
    expected = (*(problem.given.tensors() if problem.spec.h0 == "random" else "x"), *problem.weights)
    found = []
    for side in (evidence.left, evidence.right):
        wanted = [each for each in expected if each not in side.folded]  # bias_ih has the gradient of the one bias
        if missing := tuple(each for each in wanted if each not in evidence.in_own_dtype(side)):
            found.append((side.role, missing))
    return tuple(found)


def _reference(evidence: Evidence) -> Reference:
    """What the equations in float64 tell of both sides."""
    sides = (evidence.left, evidence.right)
    found = _of_one_function(evidence) if evidence.same_function().within else _of_two_functions(evidence)
    inside = []
    for side, check in zip(sides, (found.left, found.right), strict=True):
        # What float64 shows is no reason where that is as exact as the side's own dtype.
        is_worse = found.function.within and not check.within and side.is_own
        if is_worse and (seen := seen_to_round(evidence, side)):
            inside.append(Inside(side.role, seen, is_seen=True))
        elif side.inside:
            inside.append(Inside(side.role, side.inside, side.is_seen))
    without = tuple(side.role for side in sides if not side.has_float64)
    asked_in = tuple((side.role, side.finest) for side in sides if side.finest)
    return replace(found, inside=tuple(inside), without_float64=without, asked_in=asked_in)


def _of_one_function(evidence: Evidence) -> Reference:
    function, sides = evidence.same_function(), (evidence.left, evidence.right)
    left, right = (evidence.precision(side) for side in sides)
    if left.within and right.within:
        return Reference(function, left, right, without_tf32=_without_tf32(evidence))
    roles = tuple(side.role for side in sides if not evidence.torchs_function(side).within)
    if len(roles) == 2:
        # The same function, though not torch's: each can only be as exact as the left one in float64.
        left, right = (evidence.precision(side, evidence.left) for side in sides)
        return Reference(function, left, right, roles)
    if roles and any(side.weights for side in sides):
        # One has a part of its weights in its code, as a forget bias. So it is held against the other one's.
        expected = next(side for side in sides if side.role not in roles)
        left, right = (evidence.precision(side, expected) for side in sides)
    return Reference(function, left, right)


def _of_two_functions(evidence: Evidence) -> Reference:
    sides = (evidence.left, evidence.right)
    left, right = (evidence.torchs_function(side) for side in sides)
    deviating = tuple(side for side, check in zip(sides, (left, right), strict=True) if not check.within)
    coarser = None
    if deviating and all(side.is_recorded for side in deviating):
        coarser = evidence.about_coarser(deviating[0])
    roles = tuple(side.role for side in deviating)
    return Reference(evidence.same_function(), left, right, roles, about_coarser=coarser)


def _without_tf32(evidence: Evidence) -> float | None:
    """How far the outputs are apart without TF32, if a side may use it."""
    sides = (evidence.left, evidence.right)
    if all(side.arithmetic != "tf32" or side.is_recorded for side in sides):
        return None
    left, right = (
        replace(side, spec=replace(side.spec, tf32=False)).solve(evidence.problem, side.spec.dtype) for side in sides
    )
    both = left.keys() & right.keys()  # somebody's own class may give no gradient of a parameter
    return max((left[name].cpu().double() - right[name].cpu().double()).abs().max().item() for name in both)


def _reasons(
    spec: Spec,
    evidence: Evidence,
    question: Question,
    figures: Figures,
    reference: Reference | None,
    calls: tuple[Unsteady, ...],
) -> Reasons:
    """Which deviations a side computes, and which ones the comparison would have caught on the right side."""
    roles = reference.deviating if reference else ()
    deviating = tuple(side for side in (evidence.left, evidence.right) if side.role in roles)
    caught = partial(_would_differ, question, not figures.within_tolerance)
    explanations = diagnosis.explanations(evidence, deviating)
    explained = {each.side for each in explanations}
    # Each weight takes a run, and a program takes long for one: that is asked where nothing else tells.
    puzzling = tuple(side for side in deviating if side.foreign is None or side.role not in explained)
    dependences = diagnosis.dependences(evidence, puzzling, explained)
    return Reasons(
        explanations,
        dependences,
        diagnosis.power(evidence, spec, caught, question.reference) if question.power else None,
        broken_relation=_broken_relation(evidence, reference, calls, explanations, dependences),
    )


def _broken_relation(
    evidence: Evidence,
    reference: Reference | None,
    calls: tuple[Unsteady, ...],
    explanations: tuple[diagnosis.Explanation, ...],
    dependences: tuple[diagnosis.Dependence, ...],
) -> BrokenRelation | None:
    """What a class of the user's breaks, where what comes out of each call differs, and nothing explains it."""
    if reference is None or reference.function.within or reference.gradients_alone:
        return None
    told = {each.side for each in calls} | {each.side for each in explanations}
    told |= {each.side for each in dependences if not each.repeats}
    puzzling = [each for each in (evidence.left, evidence.right) if each.role in set(reference.deviating) - told]
    if not any(side.network for side in puzzling):
        return None
    from rnnscope.verdict.relations import broken_relation  # all that checks a module, which others need not wait for

    every = filter(None, (broken_relation(evidence.problem, side) for side in puzzling))
    ignoring = {each.side for each in dependences if any(name.startswith(("h0", "c0")) for name in each.ignores)}
    # Whatever does not use a state that it is given cannot go on from one: that is no reason besides.
    return next((e for e in every if not (e.side in ignoring and e.relation.relation in _GOING_ON)), None)


_GOING_ON = ("chunked", "stepwise")
"""The relations of a network that goes on from a state."""


def _would_differ(question: Question, is_over_anyway: bool, evidence: Evidence) -> bool:
    """Whether another right side would be found different by its function, or by a tolerance that correct ones keep."""
    left, right = evidence.in_own_dtype(evidence.left), evidence.in_own_dtype(evidence.right)
    if any(name not in right or right[name].shape != each.shape for name, each in left.items()):
        return True
    if question.reference and not evidence.same_function().within:
        return True
    if is_over_anyway or not question.binds:
        return False
    tolerance = _tolerance(question, evidence.problem, evidence.left, evidence.right)
    rows = chunks.rows_of(evidence.problem.spec, left, right, tolerance)
    return not Figures(*rows).within_tolerance


def _first_divergence(evidence: Evidence, figures: Figures, reference: Reference | None) -> Place | None:
    """Where what the verdict rests on first appears."""
    cause, roles = cause_of(figures, reference), (side_of(figures, reference), *figures.nonfinite)
    off = next((side for side in (evidence.left, evidence.right) if side.role in roles), None)
    if cause == "nonfinite" and off:
        return first_nonfinite(evidence, off)
    if reference and not reference.function.within:
        return function_parts(evidence, reference.function)
    return precision_parts(evidence, off) if cause == "precision" and off else None


def _gradient_fault(evidence: Evidence, figures: Figures, reference: Reference | None) -> GradientFault | None:
    """Where gradients first part, if they alone are off: as a function, or in a side's own dtype."""
    if reference is None or reference.gradients_alone:
        return gradient_fault(evidence, reference.deviating) if reference else None
    role = side_of(figures, reference) if cause_of(figures, reference) == "precision" else None
    check, side = (reference.left, evidence.left) if role == "left" else (reference.right, evidence.right)
    if role is None or not check.outputs_within or not evidence.torchs_function(side).within:
        return None
    return gradient_fault(evidence, (role,), in_own=True)


def _heat_map(evidence: Evidence, question: Question, figures: Figures, place: Place | None) -> HeatMap:
    if cause_of(figures, None) == "shape":
        return HeatMap((), None, whole=False)
    if place is None and question.binds and not figures.within_tolerance:
        place = tolerance_parts(evidence, _tolerance(question, evidence.problem, evidence.left, evidence.right))
    return heat_map(evidence, place)
