"""Two sides, walked side by side a few steps at a time: only figures are kept, and never a second whole y.

For comparisons that ask for no more than the figures of y, h and c: no reference, no gradient, no map. Whoever asks for
more gets whole runs: see judgement.py.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import tee

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.network.dims import tensor_shapes
from rnnscope.network.weights import Input, all_finite, dtype_name, time_of
from rnnscope.pages.progress import Advance, progress
from rnnscope.spec.question import Tolerance
from rnnscope.subjects.devices import is_out_of_memory
from rnnscope.verdict.chunks import check_carried, spec_of
from rnnscope.verdict.evidence import Evidence, Side
from rnnscope.verdict.figures import Difference, difference, with_piece
from rnnscope.verdict.places import Place, first_nonfinite
from rnnscope.verdict.problem import Problem, Tensors

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
        piece = replace(problem, spec=spec_of(problem.spec, x, first), given=Input(x, state))
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
