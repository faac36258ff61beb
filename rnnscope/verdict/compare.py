"""Compares two subjects on the same weights and the same input: two names, or two modules that are there.

What can be compared is settled in comparability.py, and what there is to find is gathered in findings.py.
"""

import os
from dataclasses import replace
from typing import Any, overload

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from rnnscope.errors import RnnscopeError
from rnnscope.files.loaded import Loaded
from rnnscope.files.recordings import Recording, write_recording
from rnnscope.files.tensors import check_target
from rnnscope.network.cells import Hidden
from rnnscope.spec.flags import Flag
from rnnscope.spec.question import CHUNK, Question, check_chunk, check_comparable
from rnnscope.spec.sides import LEFT, RECORDED, RIGHT, side_spec
from rnnscope.spec.sources import NO_FILES, RECORD
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import SUBJECTS
from rnnscope.subjects.devices import arithmetic, device_name, running
from rnnscope.subjects.own_building import own_network
from rnnscope.verdict.chunks import carried, draw_in_chunks, using_its_state
from rnnscope.verdict.evidence import Side
from rnnscope.verdict.findings import compare_sides
from rnnscope.verdict.live import live_sides
from rnnscope.verdict.problem import draw_problem, rounded_weights
from rnnscope.verdict.result import Comparison


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
            write_recording(record, problem, outputs, one.spec, one.arithmetic, device_name(one.spec), force)
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
