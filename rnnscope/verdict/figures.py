"""The figures of two tensors: how far they are apart, where, and how that stands to a tolerance or a measured bound.

Figures are taken in float64, on the CPU. Nothing is run here and no verdict is given.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnnscope.network.shapes import OUTPUTS, Shape
from rnnscope.spec.question import Tolerance, nan_last
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import valid_region
from rnnscope.verdict.bounds import MEAN, Bound, by_bound, flat_index, index_of
from rnnscope.verdict.bounds import figures as figures_of
from rnnscope.verdict.problem import Tensors

PADDING = "y padding"
"""The part of a packed y behind the ends of its items."""

ELEMENTS_AT_ONCE = 2**18
"""The figures of a large tensor are taken in pieces, so that they need no more memory than those of a small one."""

HOPELESS = 100.0
"""An error that is so many times over a measured bound is over every wider one: no more runs are spent on it."""

EARLY, HOPELESS_EARLY = 4, 1e10
"""In so few steps no network carries a rounding so many times over the floor: not even the first run is spent on it."""


@dataclass(frozen=True)
class Difference:
    """How one output of the right subject differs from the left's, which is the expected value.

    max_abs: greatest |right − left|. max_rel: greatest |right − left| / |left|; where both are 0 it is 0, and where
    only the expected value is 0 it is infinite. max_ulp: greatest distance in representable numbers of the dtype.
    worst_index: where |right − left| is greatest. mismatched: elements over the tolerance, out of `total`. nonfinite:
    elements that are NaN or infinite on either side, and never the same. Where there are any, max_ulp is NaN, and
    max_abs and max_rel are NaN or infinite. All figures are None where `right_shape` differs from `shape`.

    >>> y = compare(Spec(), "equations", "equations").outputs[0]
    >>> y.name, y.shape, y.max_abs, y.mismatched, y.total
    ('y', (3, 5, 20), 0.0, 0, 300)
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
    """The figures of one output: tensors of any shape with at least one element.

    Tensors of two dtypes have no ULP in common: max_ulp is None, and they are never identical.

    Args:
        where: in the shape of both, on the CPU: True at the elements that are compared; None compares all.
    """
    shape, right_shape, places = tuple(expected.shape), tuple(actual.shape), None
    if shape != right_shape:
        return Difference(name, shape, right_shape, expected.numel())
    right, left = actual.detach().flatten(), expected.detach().flatten()
    if where is not None:
        places = where.flatten().nonzero().squeeze(1)
        right, left = right[places.to(right.device)], left[places.to(left.device)]
    pairs = zip(torch.split(right, ELEMENTS_AT_ONCE), torch.split(left, ELEMENTS_AT_ONCE), strict=True)
    found, *others = (_piece(name, a.cpu(), e.cpu(), tolerance) for a, e in pairs)
    for number, each in enumerate(others, 1):
        found = with_piece(found, each, 0, number * ELEMENTS_AT_ONCE)
    (worst,) = found.worst_index or (0,)
    index = flat_index(worst if places is None else int(places[worst]), shape)
    return replace(found, shape=shape, right_shape=shape, worst_index=index)


def with_piece(found: Difference, piece: Difference, dim: int, start: int) -> Difference:
    """The figures of what was seen so far together with the next piece, whose first index in a dim is `start`."""
    if found.worst_index is None or piece.worst_index is None:  # shapes differ: there is nothing to add up
        return found
    index = tuple(at + start if number == dim else at for number, at in enumerate(piece.worst_index))
    before, after = nan_last(found.max_abs or 0.0), nan_last(piece.max_abs or 0.0)
    # The first of several that are greatest, as in one piece.
    farther = after > before or (after == before and index < found.worst_index)
    return replace(
        found,
        total=found.total + piece.total,
        max_abs=piece.max_abs if farther else found.max_abs,
        max_rel=max(found.max_rel or 0.0, piece.max_rel or 0.0, key=nan_last),
        max_ulp=None if found.max_ulp is None else max(found.max_ulp, piece.max_ulp or 0.0, key=nan_last),
        worst_index=index if farther else found.worst_index,
        mismatched=(found.mismatched or 0) + (piece.mismatched or 0),
        nonfinite=(found.nonfinite or 0) + (piece.nonfinite or 0),
        identical=found.identical and piece.identical,
        within_tolerance=found.within_tolerance and piece.within_tolerance,
    )


def _piece(name: str, actual: Tensor, expected: Tensor, tolerance: Tolerance) -> Difference:
    """The figures of two tensors (n,) on the CPU."""
    a, e = actual.double(), expected.double()
    absolute, size = (a - e).abs(), e.abs()
    max_abs, alike = absolute.max().item(), actual.dtype == expected.dtype
    # Where no difference is NaN or infinite, no number is, and the many need not be looked at one by one.
    nonfinite = 0 if math.isfinite(max_abs) else int((~(a.isfinite() & e.isfinite())).sum())
    all_finite, mismatched, max_rel = nonfinite == 0, 0, 0.0
    if max_abs != 0:
        max_rel = torch.where(absolute == 0, absolute, absolute / size).max().item()
    if not max_abs <= tolerance.atol:
        # Asked as "not within", so that NaN, which is neither over nor under, counts as a mismatch.
        over = ~(absolute <= tolerance.atol + tolerance.rtol * size)
        mismatched = int((over if all_finite else over | ~(a.isfinite() & e.isfinite())).sum())
    ulp = _ulp(actual, expected).max().item() if alike and all_finite else math.nan
    return Difference(
        name,
        shape=tuple(expected.shape),
        right_shape=tuple(expected.shape),
        total=len(expected),
        max_abs=max_abs,
        max_rel=max_rel,
        max_ulp=ulp if alike else None,
        worst_index=(int(absolute.argmax()),),
        mismatched=mismatched,
        nonfinite=nonfinite,
        identical=alike and all_finite and torch.equal(_bits(actual), _bits(expected)),
        within_tolerance=mismatched == 0,
    )


def _bits(tensor: Tensor) -> Tensor:
    return tensor.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])


def _place(tensor: Tensor) -> Tensor:
    """How many steps of the dtype lie between 0 and each number, below 0 where it is negative; of up to 32 bits."""
    bits = _bits(tensor)
    negative = bits >> (8 * tensor.element_size() - 1)  # -1 where the sign is set, 0 elsewhere
    magnitude = (1 << (8 * tensor.element_size() - 1)) - 1
    return (negative & magnitude).bitwise_xor_(bits).sub_(negative).double()


def _ulp(a: Tensor, b: Tensor) -> Tensor:
    """Distance in units in the last place: how many steps of the dtype lie between the two, +0 and −0 being one."""
    if a.element_size() < 8:
        return _place(a).sub_(_place(b)).abs_()
    places = []
    for each in (a, b):
        bits = _bits(each).long()
        sign = 1 << (8 * each.element_size() - 1)
        places.append(torch.where(bits < 0, -(bits & (sign - 1)), bits))
    first, second = places
    apart = first.abs().double() + second.abs().double()  # of opposite signs: may not fit into 64 bits
    return torch.where((first < 0) == (second < 0), (first - second).abs().double(), apart)


@dataclass(frozen=True)
class Margin:
    """One tensor: its greatest error, and the error and the bound at `index`, where they are nearest to each other.

    within: the error is nowhere over the bound, but for places where the bound is too wide to say anything. decided:
    there are no such places.
    """

    name: str
    max_abs: float
    error: float
    bound: float
    index: tuple[int, ...]
    within: bool
    decided: bool

    @property
    def nearness(self) -> tuple[bool, float]:
        """How near the error is to its bound; NaN is above all."""
        return nan_last(0.0 if self.error == 0 else self.error / self.bound if self.bound else math.inf)


@dataclass(frozen=True)
class Check:
    """One question asked of every tensor, and the arithmetic whose rounding was allowed for.

    whole_steps: None where whole runs decide. Where rounding moves them too far, so many first steps were compared as a
    whole, or 0 if that was not asked. Every step was compared by itself, too, from the reference's state. Then the
    margins are those of the part that is over, or of the single steps. single_steps: whether they are of single steps,
    in which an index tells the step: (step, item, unit), or (step, row, item, unit).

    sharp_steps: None where the bound is narrow in all steps; otherwise the number of first ones, as they are walked,
    behind which rounding may hide a small fault. tamed_by: by what the weights were multiplied, where all steps were
    compared with smaller ones, too. Then the margins are those of that run if it is over.
    """

    arithmetic: str
    margins: tuple[Margin, ...]
    whole_steps: int | None = None
    single_steps: bool = False
    sharp_steps: int | None = None
    tamed_by: float | None = None

    @property
    def within(self) -> bool:
        """Whether no tensor is over its bound."""
        return all(each.within for each in self.margins)

    @property
    def outputs_within(self) -> bool:
        """Whether no output is over its bound, so that gradients alone may be."""
        return all(each.within for each in self.margins if is_of_outputs(each.name))

    @property
    def decided(self) -> bool:
        """Whether the answer says something: a tensor is over, or all are within bounds that are not too wide."""
        return not self.within or all(each.decided for each in self.margins)

    @property
    def in_parts(self) -> bool:
        """Whether more was asked than the whole runs."""
        return self.whole_steps is not None or self.tamed_by is not None

    @property
    def max_abs(self) -> float:
        """The greatest error of all."""
        return max((each.max_abs for each in self.margins), key=nan_last)

    @property
    def worst(self) -> Margin:
        """The tensor that is nearest to its bound, or furthest over it."""
        return max(self.margins, key=lambda each: each.nearness)


def is_of_outputs(name: str) -> bool:
    """Whether a margin is of y, h or c, of padding, or of the mean error of one: and not of a gradient."""
    return name in (*OUTPUTS, PADDING) or name.startswith(MEAN)


def distances(spec: Spec, actual: Tensors, expected: Tensors) -> Tensors:
    """actual - expected of each tensor that both have, in float64 on the CPU; the padding of a packed y by itself."""
    errors = {
        name: actual[name].cpu().double() - each.cpu().double() for name, each in expected.items() if name in actual
    }
    if spec.lengths is not None:
        for name in [name for name in errors if name.startswith("y")]:
            valid = valid_region(spec, errors[name])
            if name == "y" and not valid.all():
                errors[PADDING] = errors[name].masked_fill(valid, 0.0)
            errors[name].masked_fill_(~valid, 0.0)
    return errors


def settled(spec: Spec, errors: Tensors, bounds: Iterator[Bound]) -> dict[str, Bound]:
    """For each tensor the first of ever wider bounds that holds its error, or the last one."""
    figures = _all_figures(spec, errors)
    over, found = figures, dict[str, Bound]()
    for bound in bounds:
        found |= dict.fromkeys(over, bound)
        over = {name: each for name, each in over.items() if not _holds(bound, name, each)}
        if not over or _is_hopeless(spec, over, bound):
            break
    return found


def distance_within(spec: Spec, actual: Tensors, expected: Tensors, bounds: Iterator[Bound]) -> float | None:
    """The greatest difference of two runs, or None where shapes differ or a tensor is within none of the bounds."""
    if any(actual[name].shape != each.shape for name, each in expected.items()):
        return None
    errors = distances(spec, actual, expected)
    figures = _all_figures(spec, errors)
    if not all(_holds(bound, name, figures[name]) for name, bound in settled(spec, errors, bounds).items()):
        return None
    return max(each.max().item() for each in figures.values())


def _all_figures(spec: Spec, errors: Tensors) -> Tensors:
    return {name: figures_of(spec, name, each) for name, each in errors.items()}


def _holds(bound: Bound, name: str, figures: Tensor) -> bool:
    return bool((figures <= bound.of(name)).all())


def shares(figures: Tensor, bound: Tensor) -> Tensor:
    """Error over bound; 0 where there is no error."""
    return torch.where(figures == 0, 0.0, figures / bound)


def _is_hopeless(spec: Spec, over: Tensors, bound: Bound) -> bool:
    """Whether no wider bound would hold the tensors that are over this one."""
    # The loudest item of a step, since what is drawn for a single number may be near 0 by chance.
    figures = {name: _loudest(each) for name, each in over.items()}
    limits = {name: _loudest(bound.of(name)) + bound.least for name in over}
    worst = max((shares(each, limits[name]).max().item() for name, each in figures.items()), key=nan_last)
    if bound.measured and not worst < HOPELESS:
        return True
    # With both directions a second layer has no early steps: each of them has seen all steps of the layer below.
    if "y" not in over or (spec.bidirectional and spec.num_layers > 1):
        return False
    early = figures["y"] > HOPELESS_EARLY * limits["y"]
    return bool(early[:EARLY, 0].any() or early[-EARLY:, 1:].any())


def _loudest(figures: Tensor) -> Tensor:
    """(L, D), or (1, 1): the greatest of all items."""
    return figures.flatten(2).amax(2) if figures.dim() > 2 else figures


def margin(spec: Spec, name: str, error: Tensor, bound: Tensor, wide: Tensor) -> Margin:
    """Where an error is nearest to its bound: error in the shape of the tensor; bound and wide in that of its figures.

    Where all is too wide, it is where the error is nearest to that; otherwise such places do not count.
    """
    view = by_bound(spec, name, error)
    figures = figures_of(spec, name, error)
    bound, wide = bound.expand_as(figures), wide.expand_as(figures)
    ratio = torch.where(wide & ~wide.all(), -1.0, shares(figures, bound))
    place = flat_index(int(ratio.argmax()), tuple(ratio.shape))
    at = int(view[place].abs().argmax())
    return Margin(
        name,
        max_abs=figures.max().item(),
        error=figures[place].item(),
        bound=bound[place].item(),
        index=index_of(spec, name, tuple(error.shape), (*place, at)),
        within=bool(((figures <= bound) | (wide & figures.isfinite())).all()),
        decided=not bool(wide.any()),
    )
