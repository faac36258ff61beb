"""A long sequence in chunks of steps: a side carries its state from one to the next, and only figures are kept.

x is drawn in blocks of a fixed size, and the chunks are cut out of these, so that every chunk size sees the same
numbers. Comparisons that ask for more than the figures of y, h and c get whole runs: see evidence.py.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import tee

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.network.shapes import Place, tensor_shapes
from rnnscope.network.weights import Input, Weights, all_finite, draw_blocks, draw_weights, dtype_name, time_of
from rnnscope.pages.rich import Advance, progress
from rnnscope.spec.question import Tolerance
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import Run, Subject
from rnnscope.subjects.devices import is_out_of_memory
from rnnscope.verdict.evidence import Evidence, Side
from rnnscope.verdict.figures import Difference, difference, with_piece
from rnnscope.verdict.places import first_nonfinite
from rnnscope.verdict.problem import Problem, Tensors, rounded, rounded_weights, smallest_dtype


def draw_in_chunks(
    spec: Spec,
    dtypes: tuple[str, ...],
    chunk: int,
    weights: Weights | None = None,
    dtypes_of_weights: tuple[str, ...] | None = None,
) -> tuple[Problem, Iterator[Tensor]]:
    """The problem that `draw_problem` gives, with an x of no steps, and x in chunks: (T, N, H_in), laid out as x is."""
    exact = replace(spec, device="cpu", dtype="float64")
    state, blocks = draw_blocks(exact)
    problem = Problem(
        exact,
        rounded_weights(weights or draw_weights(exact), dtypes_of_weights or dtypes),
        Input(
            torch.empty(0, dtype=smallest_dtype(dtypes), device="cpu"), tuple(rounded(each, dtypes) for each in state)
        ),
        None,
        dtypes,
    )
    exact_blocks = (rounded(each, dtypes).to(smallest_dtype(dtypes)) for each in blocks)
    return problem, cut(exact_blocks, time_of(exact), chunk)


def cut(blocks: Iterable[Tensor], time: int, chunk: int) -> Iterator[Tensor]:
    """Blocks of steps as chunks of steps, the last of which may be shorter.

    Chunks are views into whole blocks, so that in memory each step stands as it would in the whole x: products are
    rounded by that.
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
    """A subject that is run chunk by chunk, and gives the whole y: (L, N, D·H_out).

    Raises:
        RnnscopeError: it gives something that cannot be carried on.
    """

    def chunk_by_chunk(spec: Spec, weights: Weights, given: Input) -> Run:
        ys: list[Tensor] = []  # and of all else that a run gives only the last one: it has weights of its own
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
    """A class of the user's, which might take a state and ignore it: then there is nothing to carry.

    Raises:
        RnnscopeError: it gives the same from its state as from zeros.
    """
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
    """Do nothing where what came out of a chunk has the shapes of its Spec.

    Raises:
        RnnscopeError: another shape.
    """
    for each in tensor_shapes(spec):
        if each.role == "output" and (got := tuple(outputs[each.name].shape)) != each.shape:
            steps = f"{spec.seq_len} step{'' if spec.seq_len == 1 else 's'}"
            raise RnnscopeError(
                f"{name} gives {each.name} of shape {got} for a chunk of {steps}, and {each.shape} can be carried on",
                "leave --chunk out to see how it differs",
            )


PIECE = 2**18
"""Elements of y that are walked before they are compared, where no chunk size was asked for."""


_WALKED = ("cells", "equations", "compiled")
"""Subjects that loop in Python: a walk that goes on from a state gives the very bits of the whole walk."""


_Walk = Iterator[tuple[Problem, Tensors]]
"""Steps and the state before them, as a problem, and what a side gives for them: its y, and the state after them."""


@dataclass(frozen=True)
class Figures:
    """What was seen of two sides: the rows of y, h and c, and of each side by its role what is odd in it.

    nonfinite: the sides out of which NaN or infinity came. returned: the dtype of what a side returned, where it is not
    the one that was asked for. place: where NaN or infinity first came out, where it was looked for; a state counts at
    the end of each chunk, which a whole run does not show.
    """

    outputs: tuple[Difference, ...]
    gradients: tuple[Difference, ...] = ()
    nonfinite: tuple[str, ...] = ()
    returned: tuple[tuple[str, str], ...] = ()
    place: Place | None = None


def in_chunks(problem: Problem, left: Side, right: Side, xs: Iterator[Tensor], tolerance: Tolerance) -> Figures:
    """Both sides chunk by chunk, with a bar.

    Args:
        problem: its x is not looked at.
        xs: x in chunks.

    Raises:
        RnnscopeError: a side gives something that cannot be carried on.
    """
    walks = [_walk(side, problem, own) for side, own in zip((left, right), tee(xs), strict=True)]
    with progress(problem.spec.seq_len, "steps") as advance:
        found, seen = _figures(problem, (left, right), walks, tolerance, advance)
    odd = next((each for each in seen if each.is_odd), None)
    if odd is None or odd.first_odd is None:
        return found
    start, chunk = odd.first_odd
    place = first_nonfinite(Evidence(chunk, left, right), odd.side)
    return replace(found, place=place and replace(place, step=start + place.step))


def beside_a_whole_run(problem: Problem, left: Side, right: Side, tolerance: Tolerance) -> Figures | None:
    """What two whole runs would show, of one side walked beside the whole y of the other.

    None where that cannot be, where it saves nothing, and where NaN or infinity came out: whole runs tell where.
    """
    spec = problem.spec
    steps = max(16, PIECE // (spec.batch_size * spec.output_size))
    walked = [side.subject in _WALKED for side in (left, right)]
    if spec.bidirectional or spec.lengths is not None or not any(walked) or spec.seq_len <= steps:
        return None
    walks = [
        _walk(side, problem, _pieces(side, problem, steps)) if is_walked else _whole(side, problem, steps)
        for side, is_walked in zip((left, right), walked, strict=True)
    ]
    try:
        found, _ = _figures(problem, (left, right), walks, tolerance, lambda count: None)
    except RnnscopeError as error:  # something of another shape; whole runs show it, or tell what else is wrong
        if is_out_of_memory(error):  # which they would need more of
            raise
        return None
    return None if found.nonfinite else found


def _pieces(side: Side, problem: Problem, steps: int) -> Iterator[Tensor]:
    """x in pieces of a side's own dtype. It is placed as a whole, as it would be for a whole run: see chunks.cut."""
    x = problem.given.x.to(side.spec.device, getattr(torch, side.spec.dtype))
    return iter(torch.split(x, steps, time_of(problem.spec)))


def _walk(side: Side, problem: Problem, xs: Iterator[Tensor]) -> _Walk:
    """A side that carries its state from one piece of x to the next."""
    state, first = problem.given.state, True
    for x in xs:
        piece = replace(problem, spec=chunk_spec(problem.spec, x, first), given=Input(x, state))
        found = side.solve(piece, side.spec.dtype)
        check_carried(side.subject, piece.spec, found)
        yield piece, found
        state, first = _state(found), False


def _whole(side: Side, problem: Problem, steps: int) -> _Walk:
    """A side that is run once; its state is the last one throughout."""
    found = side.solve(problem, side.spec.dtype)
    check_carried(side.subject, problem.spec, found)
    for y in torch.split(found["y"], steps, time_of(problem.spec)):
        yield problem, found | {"y": y}


def _state(outputs: Tensors) -> tuple[Tensor, ...]:
    return tuple(each for name, each in outputs.items() if name != "y")


def _figures(
    problem: Problem, sides: tuple[Side, Side], walks: list[_Walk], tolerance: Tolerance, advance: Advance
) -> tuple[Figures, tuple["_Seen", ...]]:
    """The figures of both sides, added up piece by piece, and what was seen of each."""
    time, start, y = time_of(problem.spec), 0, None
    seen = tuple(map(_Seen, sides))
    left, right = Tensors(), Tensors()
    for (left_piece, left), (right_piece, right) in zip(*walks, strict=True):
        piece = difference("y", right["y"], left["y"], tolerance)
        y = piece if y is None else with_piece(y, piece, time, start)
        for each, of, found in zip(seen, (left_piece, right_piece), (left, right), strict=True):
            each.look(start, of, found, y_may_be_odd=piece.nonfinite != 0)
        start += left["y"].shape[time]
        advance(left["y"].shape[time])
    assert y is not None  # there is at least one step
    whole = next(each.shape for each in tensor_shapes(problem.spec) if each.name == "y")
    last = (difference(name, right[name], each, tolerance) for name, each in left.items() if name != "y")
    found = Figures(
        (replace(y, shape=whole, right_shape=whole), *last),
        nonfinite=tuple(each.side.role for each in seen if each.is_odd),
        returned=returned(zip(sides, (left, right), strict=True)),
    )
    return found, seen


def returned(runs: Iterable[tuple[Side, Tensors]]) -> tuple[tuple[str, str], ...]:
    """The dtype in which a side gave its outputs, the first that is not the one that was asked for, by its role."""
    found = (
        (side, next((each for each in map(dtype_name, outputs.values()) if each != side.spec.dtype), None))
        for side, outputs in runs
    )
    return tuple((side.role, each) for side, each in found if each is not None)


class _Seen:
    """What is kept of a side: whether NaN or infinity came out, and the piece in which it first did."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.first_odd: tuple[int, Problem] | None = None
        self._y_is_odd = self._state_is_odd = False

    @property
    def is_odd(self) -> bool:
        """Whether y was anywhere, or the last state is, no number."""
        return self._y_is_odd or self._state_is_odd

    def look(self, start: int, piece: Problem, outputs: Tensors, y_may_be_odd: bool) -> None:
        """Take in what came out of a piece that begins at a step."""
        self._y_is_odd |= y_may_be_odd and not all_finite([outputs["y"]])
        self._state_is_odd = not all_finite(_state(outputs))
        if self.is_odd and self.first_odd is None:
            self.first_odd = start, piece
