"""Where two results part: the first element over its bound, or the first that is no number, in the order of cause.

An earlier step comes first, then a lower layer, then the forward direction. In a bidirectional network every step of a
layer reads all steps of the layer below, so there the lower layer comes first, and "earlier" is the order in which a
direction is walked. Whether anything is over is judgement.py's business.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnnscope.bounds import walked
from rnnscope.judgement import Evidence, Side, distances, settled
from rnnscope.problems import Problem, Tensors, solve_by_layers

OUTPUTS = ("y", "h", "c")


@dataclass(frozen=True)
class Place:
    """One element of y, h or c, counted from 0; `batch` is None in an unbatched network.

    In a layer below the top one h is what goes up to the next layer at each step.
    """

    tensor: str
    step: int
    layer: int
    direction: int
    unit: int
    batch: int | None


Found = Callable[[Evidence], tuple[Tensors, Tensors]]
"""The errors of some runs, and the bounds that they must not be over."""


def function_parts(evidence: Evidence, left: Side, right: Side) -> Place | None:
    """Where two sides part in float64."""

    def found(seen: Evidence) -> tuple[Tensors, Tensors]:
        errors = distances(seen.exact(right), seen.exact(left))
        return errors, settled(seen.problem.spec, errors, seen.yardstick.function()).bound

    return _first_of(evidence, found)


def precision_parts(evidence: Evidence, side: Side) -> Place | None:
    """Where a side parts from the reference in its own dtype."""

    def found(seen: Evidence) -> tuple[Tensors, Tensors]:
        errors = distances(seen.own(side), seen.yardstick.reference)
        return errors, settled(seen.problem.spec, errors, seen.yardstick.precision(side.arithmetic)).bound

    return _first_of(evidence, found)


def first_nonfinite(evidence: Evidence, side: Side) -> Place | None:
    """Where a side first gives NaN or infinity in its own dtype."""

    def found(seen: Evidence) -> tuple[Tensors, Tensors]:
        wrong = {name: (~each.isfinite()).double().cpu() for name, each in seen.own(side).items()}
        return wrong, {name: torch.zeros(1, 1) for name in wrong}

    return _first_of(evidence, found)


def _first_of(evidence: Evidence, found: Found) -> Place | None:
    """In every layer where that shows it, or else in y, h and c: how layers are wired shows in whole runs alone."""
    problem = evidence.problem
    if problem.spec.num_layers > 1 and problem.places is None:
        alone = replace(problem, cotangents=None)
        layers = Evidence(alone, evidence.left, evidence.right, solver=solve_by_layers)
        place = _first(problem, *found(layers))
        if place is not None:
            return place
    return _first(problem, *found(evidence))


def _first(problem: Problem, errors: Tensors, bounds: Tensors) -> Place | None:
    places = [
        place
        for name, each in errors.items()
        if name in OUTPUTS or name.startswith("y of layer")
        for place in _candidates(problem, name, walked(problem.spec, name, each.abs()), bounds[name])
    ]
    return min(places, key=lambda place: _order(problem, place), default=None)


def _candidates(problem: Problem, name: str, view: Tensor, bound: Tensor) -> Iterator[Place]:
    """The first element over its bound in each direction of y, and in each row of h and c."""
    over = ~(view <= bound[(...,) + (None,) * (view.dim() - 2)])  # NaN is over, too
    directions = problem.spec.directions
    if name in ("h", "c"):
        for row in range(view.shape[2]):
            if over[0, 0, row].any():
                item, unit = _element(view[0, 0, row], over[0, 0, row], problem)
                layer, direction = divmod(row, directions)
                yield _place(problem, name, _end(problem, direction, item), layer, direction, item, unit)
        return
    top = problem.spec.num_layers - 1
    layer = top if name == "y" else int(name.rpartition(" ")[2])
    for direction in range(directions):
        steps = over[:, direction].flatten(1).any(1).nonzero().flatten().tolist()
        if steps:
            step = steps[-1] if direction else steps[0]
            item, unit = _element(view[step, direction], over[step, direction], problem)
            yield _place(problem, "y" if layer == top else "h", step, layer, direction, item, unit)


def _element(values: Tensor, over: Tensor, problem: Problem) -> tuple[int, int]:
    """The first item with an element over its bound, and its worst unit."""
    if problem.spec.unbatched:
        values, over = values[None], over[None]
    item = int(over.any(1).nonzero()[0])
    return item, int(torch.where(over[item], values[item].nan_to_num(torch.inf), -1.0).argmax())


def _place(problem: Problem, tensor: str, step: int, layer: int, direction: int, item: int, unit: int) -> Place:
    if problem.places is not None:
        step, item = problem.places[item].tolist()
    return Place(tensor, step, layer, direction, unit, None if problem.spec.unbatched else item)


def _end(problem: Problem, direction: int, item: int) -> int:
    """The step after which the last state of an item is taken."""
    lengths = problem.spec.lengths
    return 0 if direction else (lengths[item] if lengths else problem.spec.seq_len) - 1


def _order(problem: Problem, place: Place) -> tuple[int, ...]:
    if not problem.spec.bidirectional:
        return place.step, place.layer
    walked_before = problem.spec.seq_len - 1 - place.step if place.direction else place.step
    return place.layer, walked_before, place.direction
