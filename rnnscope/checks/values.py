"""What comes out of a call: y and the tensors of the state, of which some items or some steps can be taken."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnnscope.checks.states import Axes, is_number, picked, squeezed


@dataclass(frozen=True, eq=False)
class Values:
    """y: (L, N, ...) and every tensor of the state, by their names.

    Args:
        tensors: "y", and those of the state by their paths.
        axes: where N stands in each; None where it does not.
    """

    tensors: Mapping[str, Tensor]
    axes: Axes

    def items(self, index: Tensor) -> "Values":
        """Those of some items, in this order. What has no N stays."""
        return replace(
            self,
            tensors={name: picked(each, self.axes[name], index) for name, each in self.tensors.items()},
        )

    def without_items(self) -> "Values":
        """Those of a batch of one without the axis of N."""
        alone = {name: squeezed(each, self.axes[name]) for name, each in self.tensors.items()}
        return Values(alone, dict.fromkeys(self.axes))

    def steps(self, first: int, last: int) -> "Values":
        """y alone, from a step to the one before the last."""
        return replace(self, tensors={name: each[first:last] for name, each in self.tensors.items() if name == "y"})

    def of_y(self) -> "Values":
        """y alone."""
        return self.only("y")

    def of_state(self) -> "Values":
        """The state alone."""
        return self.only(*(name for name in self.tensors if name != "y"))

    def only(self, *names: str) -> "Values":
        """The tensors of these names, as far as they are there."""
        return replace(self, tensors={name: self.tensors[name] for name in names if name in self.tensors})


def where_steps(chosen: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """One where a step of an item is chosen: (L, N), and the other elsewhere. Both are (L, N, ...)."""
    return torch.where(chosen.reshape(*chosen.shape, *[1] * (one.dim() - 2)).to(one.device), one, other)


@dataclass(frozen=True)
class Place:
    """Where something is: the tensor that it is in, and there the step, the item and the unit, counted from 0."""

    tensor: str
    step: int | None = None
    item: int | None = None
    unit: int | None = None


@dataclass(frozen=True)
class Gap:
    """How far two runs are apart, at the place where they part first.

    Args:
        max_abs: the distance where it is the greatest share of the bound; the greatest of all where the runs part; None
            where shapes differ.
        bound: what rounding explains where the distance is the greatest share of that.
        share: that share: over 1 where the runs part.
        place: the first number that is further off than rounding explains; else the one with the greatest share.
        says: what is to be said instead of figures, such as the shapes.
    """

    max_abs: float | None
    bound: float | None
    share: float
    place: Place | None
    says: str = ""

    @property
    def parts(self) -> bool:
        """Whether rounding does not explain it."""
        return not self.share <= 1.0


def joined(pieces: "list[Values]") -> Values:
    """Several pieces of steps as one: their y one behind the other, and the state of the last.

    Where a y has another shape than the others, it alone is there.
    """
    last = pieces[-1]
    ys = [each.tensors["y"] for each in pieces if "y" in each.tensors]
    odd = [each for each in ys if each.shape[1:] != ys[-1].shape[1:]]
    whole = {"y": odd[0] if odd else torch.cat(ys)} if ys else {}
    return replace(last, tensors={**last.tensors, **whole})


def greatest(gaps: "list[Gap]") -> Gap:
    """The gap that is to be told of several: the one of the greatest share."""
    return max(gaps, key=lambda gap: math.inf if math.isnan(gap.share) else gap.share)


def gap(actual: Values, expected: Values, allowed: Values) -> Gap:
    """How far two runs are apart, with what rounding may bring at each number.

    Args:
        allowed: what rounding explains, in shapes that can be spread over those of `expected`.
    """
    found = [_gap(name, actual, expected, allowed) for name in expected.tensors]
    parted = [each for each in found if each.parts]
    if parted:  # y stands first, and what is off in it is off earlier than in the state
        return replace(
            parted[0], max_abs=max((each.max_abs for each in parted if each.max_abs is not None), default=None)
        )
    return greatest(found) if found else Gap(0.0, 0.0, 0.0, None)


def _gap(name: str, actual: Values, expected: Values, allowed: Values) -> Gap:
    there, here = actual.tensors.get(name), expected.tensors[name]
    if there is None or there.shape != here.shape:
        shape = "nothing" if there is None else str(tuple(there.shape))
        return Gap(None, None, math.inf, Place(name), f"{name} is {shape} instead of {tuple(here.shape)}")
    if here.numel() == 0:
        return Gap(0.0, 0.0, 0.0, None)
    limit = allowed.tensors[name].cpu().expand(here.shape)
    off = distance(there, here)
    share = torch.where(off == 0, 0.0, off / limit).nan_to_num(nan=math.inf, posinf=math.inf)
    parts = share > 1
    worst = int(share.argmax())
    first = (parts if parts.any() else share == share.max()).nonzero()[0]
    index = tuple(first.tolist())
    place = place_of(name, index, expected.axes.get(name))
    far = off.max() if parts.any() else off.flatten()[worst]
    return Gap(far.item(), limit.flatten()[worst].item(), share.flatten()[worst].item(), place)


def distance(one: Tensor, other: Tensor) -> Tensor:
    """|one − other| of each number in float64; without limit where one of them alone is NaN or infinite."""
    one, other = one.detach().cpu(), other.detach().cpu()  # not every device has float64
    if not (is_number(one) or is_number(other)):
        return torch.where(one == other, 0.0, math.inf)
    wide = torch.complex128 if one.is_complex() or other.is_complex() else torch.float64
    one, other = one.to(wide), other.to(wide)
    off = torch.where(one == other, 0.0, (one - other).abs())
    return torch.where(one.isnan() & other.isnan(), 0.0, off.nan_to_num(nan=math.inf, posinf=math.inf))


def place_of(name: str, index: tuple[int, ...], axis: int | None) -> Place:
    """The place of an element: in y (L, N, units), in the state wherever its N stands."""
    if not index:
        return Place(name)
    if name in ("x", "y"):
        others = index[2:] if axis == 1 else index[1:]
        return Place(name, index[0], index[1] if axis == 1 else None, others[-1] if others else None)
    unit = index[-1] if axis != len(index) - 1 else None
    return Place(name, None, None if axis is None else index[axis], unit)
