"""Where two results part: the first element over its bound, or the first that is no number, in the order of cause.

An earlier step comes first, then a lower layer, then the forward direction. In a bidirectional network every step of a
layer reads all steps of the layer below, so there the lower layer comes first, and "earlier" is the order in which a
direction is walked. Whether anything is over is judgement.py's business.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.spec.question import Tolerance
from rnnscope.spec.spec import Spec
from rnnscope.subjects.devices import is_out_of_memory
from rnnscope.verdict.bounds import Bound, walked
from rnnscope.verdict.evidence import Evidence, Side, function_arithmetic
from rnnscope.verdict.margins import OUTPUTS, PADDING, distances
from rnnscope.verdict.problem import Problem, Tensors, first_steps, solve_by_layers


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


def function_parts(evidence: Evidence, step_by_step: bool) -> Place | None:
    """Where both sides part in float64.

    Args:
        step_by_step: whether rounding decides the whole runs.
    """

    def found(seen: Evidence) -> tuple[Tensors, Tensors]:
        used = function_arithmetic(seen.left, seen.right)
        return _errors(seen, seen.exact(seen.right), seen.exact(seen.left), seen.yardstick.precision(used))

    parts = _parts(evidence) if step_by_step else (evidence,)
    return next(filter(None, (_first_of(part, found) for part in parts)), None)


def precision_parts(evidence: Evidence, side: Side) -> Place | None:
    """Where a side parts from the reference in its own dtype."""

    def found(seen: Evidence) -> tuple[Tensors, Tensors]:
        yardstick = seen.yardstick_of(side)
        return _errors(seen, seen.own(side), yardstick.reference, yardstick.precision(side.arithmetic))

    return _first_of(evidence, found)


def tolerance_parts(evidence: Evidence, tolerance: Tolerance) -> Place | None:
    """Where the right side is first over a tolerance, in y, its padding, h and c."""
    left, right = evidence.own(evidence.left), evidence.own(evidence.right)
    shares = {}
    for name, each in distances(evidence.problem.spec, right, left).items():
        expected = left["y" if name == PADDING else name].cpu().double().abs()
        shares[name] = torch.where(each == 0, 0.0, each.abs() / (tolerance.atol + tolerance.rtol * expected))
    return _first(evidence.problem, shares, {name: torch.ones(1, 1, device="cpu") for name in shares})


def _parts(evidence: Evidence) -> Iterator[Evidence]:
    """The whole, its beginnings and its steps: where rounding decides the whole, a difference shows in one of them."""
    yield evidence
    part = evidence
    while part.problem.spec.seq_len > 1:
        part = part.beginning
        yield part
    if evidence.problem.places is None:
        yield evidence.by_steps


def first_nonfinite(evidence: Evidence, side: Side) -> Place | None:
    """Where a side first gives NaN or infinity in its own dtype."""

    def found(seen: Evidence) -> tuple[Tensors, Tensors]:
        wrong = {name: (~each.isfinite()).double().cpu() for name, each in seen.own(side).items()}
        return wrong, {name: torch.zeros(1, 1, device="cpu") for name in wrong}

    return _first_of(evidence, found)


def _errors(seen: Evidence, actual: Tensors, expected: Tensors, bounds: Iterator[Bound]) -> tuple[Tensors, Tensors]:
    """The errors, and a measured bound: the floor would be passed first by what is rounding."""
    measured = next(bound for bound in bounds if bound.measured)
    errors = distances(seen.problem.spec, actual, expected)
    return errors, {name: measured.of(name) for name in errors}


def _first_of(evidence: Evidence, found: Found) -> Place | None:
    """The first place in y, h and c, or an earlier one below, where running each layer by itself shows it.

    How layers are wired shows in whole runs alone.
    """
    place = _first(evidence.problem, *found(evidence))
    single = evidence.problem.spec.num_layers == 1 or evidence.problem.places is not None
    if place is None or single or not (evidence.left.has_layers and evidence.right.has_layers):
        return place
    problem = replace(evidence.problem, cotangents=None)
    if not problem.spec.bidirectional:  # what comes later is no cause
        problem = first_steps(problem, place.step + 1)
    layers = Evidence(problem, evidence.left, evidence.right, solver=solve_by_layers)
    try:
        below = _first(problem, *found(layers))
    except RnnscopeError as error:  # somebody's own class that cannot be built with one layer
        if is_out_of_memory(error):
            raise
        return place
    return place if below is None else min(place, below, key=lambda each: _order(evidence.problem, each))


def _first(problem: Problem, errors: Tensors, bounds: Tensors) -> Place | None:
    places = [
        place
        for name, each in errors.items()
        if name in (*OUTPUTS, PADDING) or name.startswith("y of layer")
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
                layer, direction = divmod(row, directions)
                item, unit = _element(view[0, 0, row], over[0, 0, row], problem, direction)
                yield _place(problem, name, _end(problem, direction, item), layer, direction, item, unit)
        return
    top = problem.spec.num_layers - 1
    layer = top if name in ("y", PADDING) else int(name.rpartition(" ")[2])
    for direction in range(directions):
        steps = over[:, direction].flatten(1).any(1).nonzero().flatten().tolist()
        if steps:
            step = steps[-1] if direction else steps[0]
            item, unit = _element(view[step, direction], over[step, direction], problem, direction)
            yield _place(problem, "y" if layer == top else "h", step, layer, direction, item, unit)


def _element(values: Tensor, over: Tensor, problem: Problem, direction: int) -> tuple[int, int]:
    """The first item with an element over its bound, and its worst unit; of steps by themselves the first walked."""
    if problem.spec.unbatched:
        values, over = values[None], over[None]
    item = int(over.any(1).nonzero()[-1 if direction and problem.places is not None else 0])
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
    """By what places are sorted in the order of cause, of steps by themselves too."""
    return in_order(problem.spec, place, None if problem.places is None else int(problem.places[:, 0].max()))


def in_order(spec: Spec, place: Place, last: int | None = None) -> tuple[int, ...]:
    """By what places are sorted in the order of cause.

    Args:
        last: the last step, where it is not the Spec's.
    """
    if not spec.bidirectional:
        return place.step, place.layer
    last = spec.seq_len - 1 if last is None else last
    walked_before = last - place.step if place.direction else place.step
    return place.layer, walked_before, place.direction
