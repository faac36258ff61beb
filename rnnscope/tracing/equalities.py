"""Which slice of y is which row of h, measured on a run: every row is looked for in every step of y.

The pairs that torch's documentation says are equal are among them; beside them stand those that are taken for equal.
Source: "Outputs" in https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import Run
from rnnscope.tracing.result import Equality

MOST_OTHERS = 1000
"""So many pairs are listed that are equal though no rule says so, as in a network whose state has stopped changing."""

_ALL = slice(None)


@dataclass(frozen=True)
class _Piece:
    """A slice: as it is written, and its numbers."""

    text: str
    tensor: Tensor


def equalities(spec: Spec, run: Run) -> tuple[tuple[Equality, ...], int]:
    """What is equal in y: (L, N, D·H_out), h: (D·K, N, H_out) and c: (D·K, N, H), and what only seems to be.

    Returns:
        the pairs, and how many are equal by chance, of which the first MOST_OTHERS are among them.
    """
    others = [place for place in _equal_places(spec, run) if not _is_rule(spec, *place)]
    by_chance = [_by_chance(spec, run, *place) for place in others[:MOST_OTHERS]]
    found = (*_rules(spec, run), *by_chance, *_false_friends(spec, run))
    return tuple({(each.left, each.right): each for each in reversed(found)}.values())[::-1], len(others)


def _rules(spec: Spec, run: Run) -> Iterator[Equality]:
    """The last states of the top layer: h[-1], or h[-2] and h[-1] with both directions."""
    for direction in range(spec.directions):
        row = spec.row_of(spec.num_layers - 1, direction)
        way = ("forward: ", "backward: ")[direction] if spec.bidirectional else ""
        whole = way or "the top layer "
        if spec.lengths is None or direction:
            step = _end(spec, direction)
            yield _equality(_y(spec, run, step, direction), _h(run, row), True, f"{whole}ends at step {step}")
            continue
        for item, length in enumerate(spec.lengths):
            pair = _y(spec, run, length - 1, direction, item), _h(run, row, item)
            yield _equality(*pair, True, f"{way}item {item} ends at step {length - 1}")


def _is_rule(spec: Spec, row: int, direction: int, step: int, item: int | None) -> bool:
    """Whether torch's documentation says that this half of a step is this row of h."""
    return row == spec.row_of(spec.num_layers - 1, direction) and step == _end(spec, direction, item)


def _by_chance(spec: Spec, run: Run, row: int, direction: int, step: int, item: int | None) -> Equality:
    return _equality(_y(spec, run, step, direction, item), _h(run, row, item), False, "")


def _equal_places(spec: Spec, run: Run) -> Iterator[tuple[int, int, int, int | None]]:
    """(row of h, half of y, step, item) wherever they are equal: item is None where it holds of all."""
    y, h = _laid_out(spec, run)
    one_by_one = spec.lengths is not None
    for row in range(len(h)):
        for direction in range(spec.directions):
            equal = same(y[:, :, direction], h[row]).all(-1)  # (L, N)
            places = equal if one_by_one else equal.all(1, keepdim=True)
            for step, item in places.nonzero().tolist():
                yield row, direction, step, item if one_by_one else None


def _laid_out(spec: Spec, run: Run) -> tuple[Tensor, Tensor]:
    """y: (L, N, D, H_out), h: (D·K, N, H_out)."""
    y, h = run.y, run.state[0]
    if spec.unbatched:
        y, h = y.unsqueeze(1), h.unsqueeze(1)
    elif spec.batch_first:
        y = y.transpose(0, 1)
    return y.reshape(*y.shape[:2], spec.directions, -1), h


def _false_friends(spec: Spec, run: Run) -> Iterator[Equality]:
    """Pairs that people take for equal."""
    top, last = spec.num_layers - 1, spec.seq_len - 1
    row, h_end = spec.row_of(top, 0), _h(run, spec.row_of(top, 0))
    y_end = _y(spec, run, last, 0)
    if spec.lengths is not None and min(spec.lengths) < spec.seq_len:
        yield _equality(y_end, h_end, False, "shorter items are padding there")
    if spec.num_layers > 1:
        yield _equality(y_end, _h(run, spec.row_of(0, 0)), False, "layer 0; y is of the top layer")
    if spec.bidirectional and spec.seq_len > 1:
        backward = _h(run, row + 1)
        yield _equality(_y(spec, run, last, 1), backward, False, "the backward direction starts there")
        yield _equality(y_end, backward, False, "h[-1] is the backward direction")
        whole, both = _piece("y", run.y, *_at(spec, last)), _joined(h_end, backward)
        yield _equality(whole, both, False, "the backward half ends at step 0")
    if not spec.unbatched and spec.batch_size and spec.seq_len > 1:
        item = spec.batch_size - 1
        swapped = (item,) if spec.batch_first else (_ALL, item)
        whole = _piece("y", run.y, *swapped, *_half(spec, 0))
        yield _equality(whole, h_end, False, f"item {item} at all steps")
    if spec.batch_first and not spec.unbatched:
        state = run.state[0]
        yield _equality(y_end, _piece("h", state, _ALL, -1), False, "batch_first does not move h")
    if spec.kind == "lstm":
        yield _equality(y_end, _piece("c", run.state[1], row), False, "c is before the output gate")


def _equality(left: _Piece, right: _Piece, expected: bool, meaning: str) -> Equality:
    one, other = left.tensor, right.tensor
    if one.shape != other.shape:
        return Equality(left.text, right.text, False, expected, None, f"other shape: {meaning}")
    alike = same(one, other)
    apart = float(torch.where(alike, 0.0, (one.double() - other.double()).abs()).max())
    equal = bool(alike.all())
    if bool(one.isnan().any()):
        meaning += "; NaN counts as equal to NaN"
    by_chance = "equal on this run, though no rule says so"
    return Equality(left.text, right.text, equal, expected, apart, by_chance if equal and not expected else meaning)


def same(one: Tensor, other: Tensor) -> Tensor:
    """Where two are equal; NaN is what NaN is."""
    return (one == other) | (one.isnan() & other.isnan())


def _piece(name: str, tensor: Tensor, *index: Any) -> _Piece:
    while len(index) > 1 and index[-1] == _ALL:
        index = index[:-1]
    words = (str(each) if isinstance(each, int) else _colons(each) for each in index)
    return _Piece(f"{name}[{', '.join(words)}]", tensor[index])


def _colons(each: slice) -> str:
    return f"{'' if each.start is None else each.start}:{'' if each.stop is None else each.stop}"


def _joined(one: _Piece, other: _Piece) -> _Piece:
    return _Piece(f"torch.cat(({one.text}, {other.text}), -1)", torch.cat((one.tensor, other.tensor), -1))


def _y(spec: Spec, run: Run, step: int, direction: int, item: int | None = None) -> _Piece:
    """A half of a step of y."""
    return _piece("y", run.y, *_at(spec, step, item), *_half(spec, direction))


def _h(run: Run, row: int, item: int | None = None) -> _Piece:
    return _piece("h", run.state[0], row, *(() if item is None else (item,)))


def _at(spec: Spec, step: int, item: int | None = None) -> tuple[Any, ...]:
    if spec.unbatched:
        return (step,)
    which = _ALL if item is None else item
    return (which, step) if spec.batch_first else (step, which)


def _half(spec: Spec, direction: int) -> tuple[slice, ...]:
    size = spec.output_size
    return () if not spec.bidirectional else (slice(None, size) if direction == 0 else slice(size, None),)


def _end(spec: Spec, direction: int, item: int | None = None) -> int:
    """The step after which the last state is taken."""
    return 0 if direction else (spec.seq_len if item is None else spec.length_of(item)) - 1
