"""How far tensors are apart, and how that stands to their bounds: the figures behind a verdict.

Nothing is run here: the runs are made in judgement.py, and the bounds are measured in bounds.py.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rnnscope.spec.question import nan_last
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import valid_region
from rnnscope.verdict.bounds import Bound, greatest, index_of, walked
from rnnscope.verdict.figures import flat_index
from rnnscope.verdict.problem import Tensors

HOPELESS = 100.0
"""An error that is so many times over a measured bound is over every wider one: no more runs are spent on it."""

OUTPUTS = ("y", "h", "c")

PADDING = "y padding"
"""The part of a packed y behind the ends of its items."""

EARLY, HOPELESS_EARLY = 4, 1e10
"""In so few steps no network carries a rounding so many times over the floor: not even the first run is spent on it."""


@dataclass(frozen=True)
class Margin:
    """One tensor: its greatest error, and the error and the bound at `index`, where they are nearest to each other.

    `within`: it is nowhere over, places apart where the bound is too wide to say anything. `decided`: there are none.
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
        """How near to its bound it is, NaN above all."""
        if self.error == 0:
            return nan_last(0.0)
        return nan_last(self.error / self.bound if self.bound else math.inf)


@dataclass(frozen=True)
class Check:
    """One question asked of every tensor, and the arithmetic whose rounding was allowed for.

    `whole_steps`: None where whole runs decide. Where rounding moves them too far, so many first steps were compared as
    a whole (0 where that was not asked), and every step by itself from the reference's state: the margins are those of
    the part that is over, or of the single steps. `single_steps`: whether they are of steps by themselves, so that an
    index tells the step: (step, item, unit), or (step, row, item, unit).
    """

    arithmetic: str
    margins: tuple[Margin, ...]
    whole_steps: int | None = None
    single_steps: bool = False

    @property
    def within(self) -> bool:
        """Whether no tensor is over its bound."""
        return all(each.within for each in self.margins)

    @property
    def decided(self) -> bool:
        """Whether the answer says something: a tensor is over, or all are within bounds that are not too wide."""
        return not self.within or all(each.decided for each in self.margins)

    @property
    def max_abs(self) -> float:
        """The greatest error of all."""
        return max((each.max_abs for each in self.margins), key=nan_last)

    @property
    def worst(self) -> Margin:
        """The tensor that is nearest to its bound, or furthest over it."""
        return max(self.margins, key=lambda each: each.nearness)


def distances(spec: Spec, actual: Tensors, expected: Tensors) -> Tensors:
    """actual - expected of each tensor that both have, in float64 on the CPU; of a packed y the padding by itself."""
    errors = {
        name: actual[name].cpu().double() - each.cpu().double() for name, each in expected.items() if name in actual
    }
    if spec.lengths is not None:
        for name in [name for name in errors if name.startswith("y")]:
            valid, each = valid_region(spec, errors[name]), errors[name]
            errors[name] = torch.where(valid, each, 0.0)
            if name == "y" and not valid.all():
                errors[PADDING] = torch.where(valid, 0.0, each)
    return errors


@dataclass(frozen=True)
class Settled:
    """The first bound that holds an error, or the last one; and whether it is the floor, which needs no run."""

    bound: Bound
    is_floor: bool


def settled(spec: Spec, errors: Tensors, bounds: Iterator[Bound]) -> dict[str, Settled]:
    """The bound of each tensor, by its name."""
    figures = {name: greatest(walked(spec, name, each)) for name, each in errors.items()}
    found: dict[str, Settled] = {}
    for number, bound in enumerate(bounds):
        open_ones = [name for name in figures if name not in found or not _holds(found[name].bound, name, figures)]
        found |= {name: Settled(bound, number == 0) for name in open_ones}
        over = [
            shares(figures[name], bound.of(name)).max().item() for name in open_ones if not _holds(bound, name, figures)
        ]
        if not over or (bound.measured and not max(over, key=nan_last) < HOPELESS) or _over_early(spec, figures, bound):
            break
    return found


def all_within(spec: Spec, errors: Tensors, bounds: Iterator[Bound]) -> bool:
    """Whether every tensor is within one of ever wider bounds."""
    figures = {name: greatest(walked(spec, name, each)) for name, each in errors.items()}
    return all(_holds(each.bound, name, figures) for name, each in settled(spec, errors, bounds).items())


def _holds(bound: Bound, name: str, figures: Tensors) -> bool:
    return bool((figures[name] <= bound.of(name)).all())


def shares(figures: Tensor, bound: Tensor) -> Tensor:
    """Error over bound; 0 where there is no error."""
    return torch.where(figures == 0, 0.0, figures / bound)


def _over_early(spec: Spec, figures: Tensors, floor: Bound) -> bool:
    """Whether y is hopelessly over in its first steps; with both directions a second layer has none that are early."""
    if "y" not in figures or (spec.bidirectional and spec.num_layers > 1):
        return False
    over = figures["y"] > HOPELESS_EARLY * floor.of("y")
    return bool(over[:EARLY, 0].any() or over[-EARLY:, 1:].any())


def margin(spec: Spec, name: str, error: Tensor, bound: Tensor, wide: Tensor) -> Margin:
    """Where an error is nearest to its bound: error in the shape of the tensor; bound and wide: (L, D), or (1, 1)."""
    view = walked(spec, name, error)
    figures = greatest(view)
    bound, wide = bound.expand_as(figures), wide.expand_as(figures)
    ratio = shares(figures, bound)
    if not wide.all():
        ratio = torch.where(wide, -1.0, ratio)
    step, direction = divmod(int(ratio.argmax()), ratio.shape[1])
    there = view[step, direction]
    place = flat_index(int(there.abs().argmax()), tuple(there.shape))
    return Margin(
        name,
        max_abs=figures.max().item(),
        error=figures[step, direction].item(),
        bound=bound[step, direction].item(),
        index=index_of(spec, name, (step, direction, *place)),
        within=bool(((figures <= bound) | (wide & figures.isfinite())).all()),
        decided=not bool(wide.any()),
    )
