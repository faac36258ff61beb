"""The figures of two sides: of whole runs, or of a long sequence in chunks of steps. A chunk leaves only its figures.

A side carries its state from one chunk to the next. x is drawn in blocks of a fixed size, and chunks are cut out of
them. So every chunk size sees the same numbers.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import tee

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.network.shapes import OUTPUTS, Place, tensor_shapes
from rnnscope.network.weights import Input, Weights, all_finite, draw_blocks, dtype_name, time_of
from rnnscope.pages.progress import Advance, progress
from rnnscope.spec.question import Tolerance
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import Run, Subject, other_shape, valid_region
from rnnscope.subjects.devices import is_out_of_memory
from rnnscope.verdict.evidence import Evidence, Side
from rnnscope.verdict.facts import Figures
from rnnscope.verdict.figures import Difference, difference, with_piece
from rnnscope.verdict.places import first_nonfinite
from rnnscope.verdict.problem import Problem, Tensors, draw_problem, rounded, smallest_dtype


def draw_in_chunks(
    spec: Spec,
    dtypes: tuple[str, ...],
    chunk: int,
    weights: Weights | None = None,
    dtypes_of_weights: tuple[str, ...] | None = None,
) -> tuple[Problem, Iterator[Tensor]]:
    """The problem that `draw_problem` gives, with an x of one step, and its x in chunks: (T, N, H_in)."""
    # The seed gives the same weights and state for every length.
    short = draw_problem(replace(spec, seq_len=1), dtypes, weights=weights, dtypes_of_weights=dtypes_of_weights)
    exact, dtype = replace(short.spec, seq_len=spec.seq_len), smallest_dtype(dtypes)
    _, blocks = draw_blocks(exact)
    exact_blocks = (rounded(each, dtypes).to(dtype) for each in blocks)
    return replace(short, spec=exact), cut(exact_blocks, time_of(exact), chunk)


def cut(blocks: Iterable[Tensor], time: int, chunk: int) -> Iterator[Tensor]:
    """Blocks of steps as chunks of steps, the last of which may be shorter.

    Chunks are views into whole blocks: each step stands in memory as in the whole x, by which products are rounded.
    """
    kept: list[Tensor] = []
    first = start = end = 0
    for block in blocks:
        kept.append(block)
        end += block.shape[time]
        while end - start >= chunk:
            yield _joined(kept, time).narrow(time, start - first, chunk)
            start += chunk
            while kept and first + kept[0].shape[time] <= start:
                first += kept.pop(0).shape[time]
    if end > start:
        yield _joined(kept, time).narrow(time, start - first, end - start)


def _joined(blocks: list[Tensor], time: int) -> Tensor:
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, time)


def carried(run: Subject, name: str, chunk: int) -> Subject:
    """A subject that is run chunk by chunk and gives the whole y: (L, N, D·H_out)."""

    def chunk_by_chunk(spec: Spec, weights: Weights, given: Input) -> Run:
        ys: list[Tensor] = []  # only these of every run: each run has a copy of the weights
        state = given.state
        with progress(spec.seq_len, "steps") as advance:
            for x in torch.split(given.x, chunk, time_of(spec)):
                of_chunk = chunk_spec(spec, x, first=not ys)
                last = run(of_chunk, weights, Input(x, state))
                check_carried(name, of_chunk, last.outputs())
                ys.append(last.y)
                state = last.state
                advance(of_chunk.seq_len)
        return replace(last, y=torch.cat(ys, time_of(spec)))

    return chunk_by_chunk


def using_its_state(run: Subject, name: str) -> Subject:
    """A class of the user's, refused if it gives the same from its state as from zeros: then nothing is carried."""
    is_known = False

    def watched(spec: Spec, weights: Weights, given: Input) -> Run:
        nonlocal is_known
        found = run(spec, weights, given)
        if not is_known and spec.h0 == "random" and any(bool(each.any()) for each in given.state):
            zeros = run(spec, weights, Input(given.x, tuple(map(torch.zeros_like, given.state))))
            if found.y.shape == zeros.y.shape and torch.equal(found.y, zeros.y):
                raise RnnscopeError(
                    f"{name}: its output does not depend on hx, by which --chunk carries the state on",
                    "leave --chunk out to see how it differs",
                )
            is_known = True
        return found

    return watched


def chunk_spec(spec: Spec, x: Tensor, first: bool) -> Spec:
    """The Spec of a chunk, which starts from a state unless it is the first."""
    return replace(spec, seq_len=x.shape[time_of(spec)], h0=spec.h0 if first else "random")


def check_carried(name: str, spec: Spec, outputs: dict[str, Tensor]) -> None:
    """Raise unless the outputs of a chunk have the shapes of its Spec."""
    if wrong := other_shape(spec, outputs):
        output, got, expected = wrong
        steps = f"{spec.seq_len} step{'' if spec.seq_len == 1 else 's'}"
        raise RnnscopeError(
            f"{name} gives {output} of shape {got} for a chunk of {steps}, and {expected} can be carried on",
            "leave --chunk out to see how it differs",
        )


PIECE = 2**18
"""Elements of y that are walked before they are compared, if no chunk size was asked for."""

_WALKED = ("cells", "equations", "compiled")
"""Subjects that loop in Python: a walk that goes on from a state gives the very bits of the whole walk."""

_Walk = Iterator[tuple[Problem, Tensors]]
"""Steps and the state before them, as a problem, and what a side gives for them: its y, and the state after them."""

Rows = tuple[Difference, ...]


def rows_of(spec: Spec, left: Tensors, right: Tensors, tolerance: Tolerance) -> tuple[Rows, Rows]:
    """The rows of the outputs, and those of the gradients, that both sides gave."""
    rows: dict[bool, list[Difference]] = {True: [], False: []}
    for name, expected in left.items():
        if name not in right:
            continue
        if name == "y" and spec.lengths is not None:
            valid = valid_region(spec, expected)
            rows[True].append(difference(name, right[name], expected, tolerance, valid))
            if not valid.all():
                rows[True].append(difference("padding", right[name], expected, tolerance, ~valid))
        else:
            rows[name in OUTPUTS].append(difference(name, right[name], expected, tolerance))
    return tuple(rows[True]), tuple(rows[False])


def wrong_dtypes(sides: Iterable[Side], runs: Iterable[Tensors]) -> tuple[tuple[str, str], ...]:
    """The sides that gave an output in another dtype than was asked for, with the first such dtype."""
    found: dict[str, str] = {}
    for side, run in zip(sides, runs, strict=True):
        for name in OUTPUTS:
            if name in run and dtype_name(run[name]) != side.spec.dtype:
                found.setdefault(side.role, dtype_name(run[name]))
    return tuple(found.items())


def in_chunks(
    problem: Problem, left: Side, right: Side, xs: Iterable[Tensor], tolerance: Tolerance
) -> tuple[Figures, Place | None]:
    """The figures of both sides chunk by chunk, with a bar, and the place where NaN or infinity first came out.

    A state counts at the end of each chunk, which a whole run does not show. xs: x in chunks, instead of the problem's.
    """
    sides = (left, right)
    walks = [_walk(side, problem, own) for side, own in zip(sides, tee(xs), strict=True)]
    with progress(problem.spec.seq_len, "steps") as advance:
        figures, odd = _added_up(problem, sides, walks, tolerance, advance)
    if not figures.nonfinite:
        return figures, None
    role = figures.nonfinite[0]
    start, piece = odd[role]
    place = first_nonfinite(Evidence(piece, left, right), left if role == "left" else right)
    return figures, place and replace(place, step=start + place.step)


def beside_a_whole_run(problem: Problem, left: Side, right: Side, tolerance: Tolerance) -> Figures | None:
    """Walk one side beside the whole y of the other, and give the figures that two whole runs would show.

    None if this cannot be done or saves nothing, and if NaN or infinity came out: only whole runs tell where.
    """
    spec = problem.spec
    steps = max(16, PIECE // (spec.batch_size * spec.output_size))
    # Under autocast a state may have another dtype than the one that a piece starts from.
    walked = [side.subject in _WALKED and side.autocast is None for side in (left, right)]
    if spec.bidirectional or spec.lengths is not None or not any(walked) or spec.seq_len <= steps:
        return None
    walks = []
    for side, is_walked in zip((left, right), walked, strict=True):
        if is_walked:  # x is placed as a whole, as it would be for a whole run
            x = problem.given.x.to(getattr(torch, side.spec.dtype)).to(side.spec.device)
            walks.append(_walk(side, problem, torch.split(x, steps, time_of(spec))))
        else:
            walks.append(_whole(side, problem, steps))
    try:
        found, _ = _added_up(problem, (left, right), walks, tolerance, lambda count: None)
    except RnnscopeError as error:  # an output of another shape, which whole runs show, or something else is wrong
        if is_out_of_memory(error):  # whole runs would need more
            raise
        return None
    return None if found.nonfinite else found


def _walk(side: Side, problem: Problem, xs: Iterable[Tensor]) -> _Walk:
    """A side that carries its state from one piece of x to the next."""
    state, first = problem.given.state, True
    for x in xs:
        piece = replace(problem, spec=chunk_spec(problem.spec, x, first), given=Input(x, state))
        found = side.solve(piece, side.spec.dtype)
        check_carried(side.subject, piece.spec, found)
        yield piece, found
        state, first = tuple(_states(found).values()), False


def _whole(side: Side, problem: Problem, steps: int) -> _Walk:
    """A side that is run once; its state is the last one throughout."""
    found = side.solve(problem, side.spec.dtype)
    check_carried(side.subject, problem.spec, found)
    for y in torch.split(found["y"], steps, time_of(problem.spec)):
        yield problem, found | {"y": y}


def _states(run: Tensors) -> Tensors:
    return {name: each for name, each in run.items() if name != "y"}


def _added_up(
    problem: Problem, sides: tuple[Side, Side], walks: list[_Walk], tolerance: Tolerance, advance: Advance
) -> tuple[Figures, dict[str, tuple[int, Problem]]]:
    """The figures of both sides, added up piece by piece.

    Also by the role of a side the first piece out of which NaN or infinity came, with the step at which it begins.
    """
    time, start, y = time_of(problem.spec), 0, None
    odd_y, odd = set[str](), dict[str, tuple[int, Problem]]()
    left, right = Tensors(), Tensors()
    for (left_piece, left), (right_piece, right) in zip(*walks, strict=True):
        found = difference("y", right["y"], left["y"], tolerance)
        y = found if y is None else with_piece(y, found, time, start)
        for side, piece, run in zip(sides, (left_piece, right_piece), (left, right), strict=True):
            if found.nonfinite and not all_finite([run["y"]]):
                odd_y.add(side.role)
            if side.role in odd_y or not all_finite(_states(run).values()):
                odd.setdefault(side.role, (start, piece))
        start += left["y"].shape[time]
        advance(left["y"].shape[time])
    assert y is not None  # there is at least one step
    whole = next(each.shape for each in tensor_shapes(problem.spec) if each.name == "y")
    states, _ = rows_of(problem.spec, _states(left), right, tolerance)
    odd_states = (s.role for s, run in zip(sides, (left, right), strict=True) if not all_finite(_states(run).values()))
    nonfinite = odd_y.union(odd_states)
    figures = Figures(
        (replace(y, shape=whole, right_shape=whole), *states),
        nonfinite=tuple(side.role for side in sides if side.role in nonfinite),
        wrong_dtypes=wrong_dtypes(sides, (left, right)),
    )
    return figures, odd
