"""The figures of two tensors: how far they are apart, where, and how many elements are over the tolerance.

Figures are taken in float64, on the CPU. Runs nothing and gives no verdict: see comparison.py.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnnscope.network.dims import Shape
from rnnscope.spec.question import Tolerance, nan_last

CHUNK = 2**20
"""Elements taken at a time, so that the figures of a large tensor need no more memory than those of a small one."""


@dataclass(frozen=True)
class Difference:
    """How one output of the right subject differs from the left's, which is the expected value.

    max_abs: greatest |right − left|. max_rel: greatest |right − left| / |left|; where both are 0 it is 0, and where
    only the expected value is 0 it is infinite. max_ulp: greatest distance in representable numbers of the dtype.
    worst_index: where |right − left| is greatest. mismatched: elements over the tolerance, out of `total`. nonfinite:
    elements that are NaN or infinite on either side; they are never the same, not even as their like. Where there are
    any, max_ulp is NaN, and max_abs and max_rel are NaN or infinite. All figures are None when `right_shape` differs
    from `shape`.
    """

    name: str
    shape: Shape
    right_shape: Shape
    total: int
    max_abs: float | None = None
    max_rel: float | None = None
    max_ulp: float | None = None
    worst_index: tuple[int, ...] | None = None
    mismatched: int | None = None
    nonfinite: int | None = None
    identical: bool = False
    within_tolerance: bool = False


def difference(
    name: str, actual: Tensor, expected: Tensor, tolerance: Tolerance, where: Tensor | None = None
) -> Difference:
    """The figures of one output; tensors of any shape and at least one element.

    Where they have two dtypes they have no ULP in common: it is None, and they are never identical.

    Args:
        where: in the shape of both, True at the elements that are compared, on the CPU; all of them when None.
    """
    shape, right_shape, total = tuple(expected.shape), tuple(actual.shape), expected.numel()
    if shape != right_shape:
        return Difference(name, shape, right_shape, total)
    flat, flat_expected, places = actual.detach().flatten(), expected.detach().flatten(), None
    if where is not None:
        places = where.flatten().nonzero().squeeze(1)
        flat, flat_expected, total = (
            flat[places.to(flat.device)],
            flat_expected[places.to(flat_expected.device)],
            len(places),
        )
    chunks = zip(torch.split(flat, CHUNK), torch.split(flat_expected, CHUNK), strict=True)
    parts = [_part(a.cpu(), e.cpu(), tolerance) for a, e in chunks]
    worst = max(range(len(parts)), key=lambda number: nan_last(parts[number].max_abs))
    at = worst * CHUNK + parts[worst].worst
    mismatched = sum(part.mismatched for part in parts)
    return Difference(
        name,
        shape,
        right_shape,
        total,
        max_abs=parts[worst].max_abs,
        max_rel=max((part.max_rel for part in parts), key=nan_last),
        max_ulp=max((part.max_ulp for part in parts), key=nan_last) if actual.dtype == expected.dtype else None,
        worst_index=flat_index(at if places is None else int(places[at]), shape),
        mismatched=mismatched,
        nonfinite=sum(part.nonfinite for part in parts),
        identical=all(part.identical for part in parts),
        within_tolerance=mismatched == 0,
    )


def with_piece(found: Difference, piece: Difference, dim: int, start: int) -> Difference:
    """The figures of what was seen so far and of the next piece of it, whose first index in a dim is `start`."""
    if found.worst_index is None or piece.worst_index is None:  # there are none to add up
        return found
    index = tuple(at + start if number == dim else at for number, at in enumerate(piece.worst_index))
    # As in one piece, the first of several that are greatest.
    farther = _order(piece.max_abs) > _order(found.max_abs)
    farther = farther or (_order(piece.max_abs) == _order(found.max_abs) and index < found.worst_index)
    return replace(
        found,
        total=found.total + piece.total,
        max_abs=piece.max_abs if farther else found.max_abs,
        max_rel=max(found.max_rel, piece.max_rel, key=_order),
        max_ulp=None if found.max_ulp is None else max(found.max_ulp, piece.max_ulp, key=_order),
        worst_index=index if farther else found.worst_index,
        mismatched=(found.mismatched or 0) + (piece.mismatched or 0),
        nonfinite=(found.nonfinite or 0) + (piece.nonfinite or 0),
        identical=found.identical and piece.identical,
        within_tolerance=found.within_tolerance and piece.within_tolerance,
    )


def _order(value: float | None) -> tuple[bool, float]:
    """A key under which every NaN is the same, and greater than every number."""
    return nan_last(0.0 if value is None else value) if value == value else (True, 0.0)


@dataclass(frozen=True)
class _Part:
    """The figures of one chunk; `worst` counts from its first element."""

    max_abs: float
    max_rel: float
    max_ulp: float
    worst: int
    mismatched: int
    nonfinite: int
    identical: bool


def _part(actual: Tensor, expected: Tensor, tolerance: Tolerance) -> _Part:
    a, e = actual.double(), expected.double()
    absolute = (a - e).abs()
    relative = torch.where(absolute == 0, absolute, absolute / e.abs())
    finite = a.isfinite() & e.isfinite()
    all_finite = bool(finite.all())
    # Asked as "not within", so that NaN, which is neither over nor under, counts as a mismatch.
    mismatched = ~(absolute <= tolerance.atol + tolerance.rtol * e.abs()) | ~finite
    alike = actual.dtype == expected.dtype
    return _Part(
        max_abs=absolute.max().item(),
        max_rel=relative.max().item(),
        max_ulp=_ulp(actual, expected).max().item() if alike and all_finite else math.nan,
        worst=int(absolute.argmax()),
        mismatched=int(mismatched.sum()),
        nonfinite=int((~finite).sum()),
        identical=alike and all_finite and torch.equal(_bits(actual), _bits(expected)),
    )


def flat_index(flat: int, shape: Shape) -> tuple[int, ...]:
    """The index of an element that is counted from the first one."""
    # torch.unravel_index does the same, but its first call imports 500 modules: a fifth of the time of a compare.
    index = []
    for size in reversed(shape):
        flat, place = divmod(flat, size)
        index.append(place)
    return tuple(reversed(index))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])


def _ulp(a: Tensor, b: Tensor) -> Tensor:
    """Distance in units in the last place: how many steps of the dtype lie between the two, +0 and −0 being one."""
    places = []
    for each in (a, b):
        bits = _bits(each).long()
        sign = 1 << (8 * each.element_size() - 1)
        places.append(torch.where(bits < 0, -(bits & (sign - 1)), bits))
    first, second = places
    apart = first.abs().double() + second.abs().double()  # of opposite signs: may not fit into 64 bits
    return torch.where((first < 0) == (second < 0), (first - second).abs().double(), apart)
