"""Where two results part: the first element over its bound or that is no number, and a map of every layer and step.

Places are in the order of cause: an earlier step comes first, then a lower layer, then the forward direction. In a
bidirectional network every step of a layer reads all steps of the layer below. So the lower layer comes first there.
Its steps are earlier or later in the order in which a direction walks them.

A layer by itself is a network of one layer, whose y and whose top layer it is. A side may be off in these alone. So a
lower layer is to blame only where all layers by themselves, one fed by the other, give the y of the whole run.
Otherwise it is only where its state in whole runs is off, too: after that step, or at the end.

In the map the top layer is y of the whole runs. Below it each layer is run by itself, on what the side's own layer
below gave. The last h and c are in the cell of the step after which they are taken. Gates are seen in no side: they are
what the equations make of its weights and of its states. So a row of weights that differs shows in its gate at once,
and a step that is another formula shows in its state first.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TypeVar

import torch
from torch import Tensor

from rnnscope.network.equations import gates_of, h_before
from rnnscope.network.shapes import GATES, OUTPUTS, Place, in_order
from rnnscope.network.weights import Weights, time_first, time_of
from rnnscope.spec.question import Tolerance
from rnnscope.subjects.builtin import layer_weights, valid_steps
from rnnscope.verdict.bounds import Bound, greatest_by_step, walked
from rnnscope.verdict.evidence import Evidence, Side, function_arithmetic, unless_refused
from rnnscope.verdict.figures import PADDING, Check, distances
from rnnscope.verdict.problem import Problem, Tensors, solve_by_layers, up_to

T = TypeVar("T")

Found = tuple[Tensors, Tensors]
"""The errors of some runs, and the bounds that they must not be over."""


def function_parts(evidence: Evidence, check: Check) -> Place | None:
    """Where both sides part in float64.

    Args:
        check: what was found of it. Behind its sharp steps a fault shows in whole runs only when it has grown.
    """

    def find(seen: Evidence) -> Found:
        bounds = seen.bounds.precision(function_arithmetic(seen.left, seen.right))
        return _errors(seen, seen.exact(seen.right), seen.exact(seen.left), bounds)

    parts = _parts(evidence) if check.in_parts else iter((evidence,))
    place = next(filter(None, (_first_of(part, find) for part in parts)), None)
    if place is None or check.sharp_steps is None or place.step < check.sharp_steps or evidence.tamed is None:
        return place
    earlier = _first_of(evidence.tamed[1], find)
    return place if earlier is None else min(place, earlier, key=partial(_order, evidence.problem))


def precision_parts(evidence: Evidence, side: Side) -> Place | None:
    """Where a side parts from the reference in its own dtype."""

    def find(seen: Evidence) -> Found:
        bounds = seen.bounds_of(side)
        return _errors(seen, seen.in_own_dtype(side), bounds.reference, bounds.precision(side.arithmetic))

    return _first_of(evidence, find)


def first_nonfinite(evidence: Evidence, side: Side) -> Place | None:
    """Where a side first gives NaN or infinity in its own dtype."""

    def find(seen: Evidence) -> Found:
        wrong = {name: (~each.isfinite()).double().cpu() for name, each in seen.in_own_dtype(side).items()}
        return wrong, {name: torch.zeros(1, 1, device="cpu") for name in wrong}

    return _first_of(evidence, find)


def tolerance_parts(evidence: Evidence, tolerance: Tolerance) -> Place | None:
    """Where the right side is first over a tolerance, in y, its padding, h and c."""
    left, right = evidence.in_own_dtype(evidence.left), evidence.in_own_dtype(evidence.right)
    shares = {}
    for name, each in distances(evidence.problem.spec, right, left).items():
        expected = left["y" if name == PADDING else name].cpu().double().abs()
        shares[name] = torch.where(each == 0, 0.0, each.abs() / (tolerance.atol + tolerance.rtol * expected))
    return _first(evidence.problem, shares, {name: torch.ones(1, 1, device="cpu") for name in shares})


def _parts(evidence: Evidence) -> Iterator[Evidence]:
    """The whole, its beginnings, its steps, and all with tamed weights: what rounding hides in one shows in another."""
    yield evidence
    part = evidence
    while part.problem.spec.seq_len > 1:
        part = part.beginning
        yield part
    if evidence.problem.origins is None:
        yield evidence.by_steps
        if evidence.tamed:
            yield evidence.tamed[1]


def _errors(seen: Evidence, actual: Tensors, expected: Tensors, bounds: Iterator[Bound]) -> Found:
    """The errors, and a measured bound: rounding alone would be over the floor first."""
    measured = next(bound for bound in bounds if bound.measured)
    errors = distances(seen.problem.spec, actual, expected)
    return errors, {name: measured.of(name) for name in errors}


def _first_of(evidence: Evidence, find: Callable[[Evidence], Found]) -> Place | None:
    """The first place in y, h and c, or an earlier one below, where running each layer by itself shows it.

    How layers are wired shows in whole runs alone.
    """
    problem = evidence.problem
    whole = find(evidence)
    place = _first(problem, *whole)
    if place is None or problem.origins is not None:
        return place
    if not problem.spec.bidirectional:  # what comes later is no cause
        problem = up_to(problem, place.step)
    found = _by_layers(evidence, problem, find)
    if found is None:
        return _lowest_there(evidence, find, place)
    order = partial(_order, evidence.problem)
    earlier = [each for each in sorted(_places(problem, *found), key=order) if order(each) < order(place)]
    if earlier and not _is_the_whole(problem, whole, found):
        off_at = cache(partial(_layers_off, evidence, find))
        last = evidence.problem.spec.seq_len - 1
        earlier = [
            each
            for each in earlier
            if each.layer in off_at(last) or (each.direction == 0 and each.layer in off_at(each.step))
        ]
    return next(iter(earlier), None) or _lowest_there(evidence, find, place)


def _lowest_there(evidence: Evidence, find: Callable[[Evidence], Found], place: Place) -> Place:
    """The place, or one in a lower layer whose state in whole runs is off after the same step already.

    A class may number its layers by itself, and be right where one of them is run alone. Or none of them can be.
    """
    if place.direction or not place.layer or evidence.left.is_recorded or evidence.right.is_recorded:
        return place
    part = replace(up_to(evidence.problem, place.step), cotangents=None)
    seen = unless_refused(lambda: find(Evidence(part, evidence.left, evidence.right)))
    if seen is None:
        return place
    below = [each for each in _places(part, *seen) if each.layer < place.layer and each.tensor in ("h", "c")]
    return min((each for each in below if each.step == place.step), key=partial(_order, part), default=place)


def _is_the_whole(problem: Problem, whole: Found, layers: Found) -> bool:
    """Whether layers by themselves, one fed by the other, are off in y as the whole run is, up to their last step."""
    (errors, bounds), (by_layers, _), time = whole, layers, time_of(problem.spec)
    top = by_layers[f"y of layer {problem.spec.num_layers - 1}"]
    apart = errors["y"].narrow(time, 0, top.shape[time]) - top
    bound = 2 * bounds["y"][: problem.spec.seq_len]  # that of the one and of the other
    return not bool(_over(walked(problem.spec, "y", apart.abs()), bound).any())


def _layers_off(evidence: Evidence, find: Callable[[Evidence], Found], step: int) -> set[int]:
    """The layers whose h or c is over its bound after a step of the whole network."""
    seen = evidence
    if step < evidence.problem.spec.seq_len - 1:
        part = replace(up_to(evidence.problem, step), cotangents=None)
        seen = Evidence(part, evidence.left, evidence.right)
    return {place.layer for place in _places(seen.problem, *find(seen)) if place.tensor in ("h", "c")}


def _by_layers(evidence: Evidence, problem: Problem, look: Callable[[Evidence], T]) -> T | None:
    """What is seen where each layer is run by itself; None where there is one, or where a side cannot do that."""
    if problem.spec.num_layers == 1 or not (evidence.left.has_layers and evidence.right.has_layers):
        return None
    if "y" not in problem.compared:  # which goes up from each layer
        return None
    alone = Evidence(replace(problem, cotangents=None), evidence.left, evidence.right, solve_by_layers)
    return unless_refused(lambda: look(alone))


def _first(problem: Problem, errors: Tensors, bounds: Tensors) -> Place | None:
    return min(_places(problem, errors, bounds), key=partial(_order, problem), default=None)


def _places(problem: Problem, errors: Tensors, bounds: Tensors) -> Iterator[Place]:
    """The first element over its bound in each direction of what each layer hands up, and in each row of h and c."""
    for name, each in errors.items():
        if name in (*OUTPUTS, PADDING) or name.startswith("y of layer"):
            yield from _candidates(problem, name, walked(problem.spec, name, each.abs()), bounds[name])


def _candidates(problem: Problem, name: str, view: Tensor, bound: Tensor) -> Iterator[Place]:
    """The first element over its bound in each direction of y, and in each row of h and c."""
    over = _over(view, bound)
    spec, top = problem.spec, problem.spec.num_layers - 1
    if name in ("h", "c"):
        for row, (values, is_over) in enumerate(zip(view[0, 0], over[0, 0], strict=True)):
            if is_over.any():
                yield _place(problem, name, None, *divmod(row, spec.directions), values, is_over)
        return
    layer = top if name in ("y", PADDING) else int(name.rpartition(" ")[2])
    for direction in range(spec.directions):
        steps = over[:, direction].flatten(1).any(1).nonzero().flatten().tolist()
        if steps:
            step = steps[-1] if direction else steps[0]
            at = (step, direction)
            yield _place(problem, "y" if layer == top else "h", step, layer, direction, view[at], over[at])


def _over(view: Tensor, bound: Tensor) -> Tensor:
    """Where magnitudes are over their bound, which NaN is, too."""
    return ~(view <= bound[(...,) + (None,) * (view.dim() - bound.dim())])


def _place(
    problem: Problem, tensor: str, step: int | None, layer: int, direction: int, values: Tensor, over: Tensor
) -> Place:
    """The first item with an element over its bound, and its worst unit; of single steps the first that is walked.

    Args:
        step: None for the last step of the item.
        values, over: (N, ·), or without N.
    """
    spec, origins = problem.spec, problem.origins
    if spec.unbatched:
        values, over = values[None], over[None]
    item = int(over.any(1).nonzero()[-1 if direction and origins is not None else 0])
    unit = int(torch.where(over[item], values[item].nan_to_num(torch.inf), -1.0).argmax())
    if step is None:
        step = 0 if direction else spec.length_of(item) - 1
    if origins is not None:
        step, item = origins[item].tolist()
    return Place(tensor, step, layer, direction, unit, None if spec.unbatched else item)


def _order(problem: Problem, place: Place) -> tuple[int, ...]:
    """A key that sorts places in the order of cause, of single steps too."""
    return in_order(problem.spec, place, None if problem.origins is None else int(problem.origins[:, 0].max()))


@dataclass(frozen=True)
class HeatRow:
    """One layer in one direction: the greatest difference of its state, or of one of its gates, at each step.

    gate: its letter, or None for the state, which is y in the top layer and what goes up in the others.
    """

    layer: int
    direction: int
    gate: str | None
    max_abs: tuple[float, ...]


@dataclass(frozen=True)
class HeatMap:
    """All rows, and the first cell over its bound or its tolerance: (step, layer, direction).

    whole: whether the layers below the top one are there, which not every side can show.
    """

    rows: tuple[HeatRow, ...]
    first_over: tuple[int, int, int] | None
    whole: bool


def heat_map(evidence: Evidence, place: Place | None) -> HeatMap:
    """Where two sides differ in their own arithmetic.

    Args:
        place: the first element over its bound or its tolerance, where there is one.
    """
    problem, sides = evidence.problem, (evidence.left, evidence.right)
    layers = _by_layers(evidence, problem, lambda seen: tuple(map(seen.in_own_dtype, sides)))
    left, right = (
        _going_up(problem, evidence.in_own_dtype(side), own)
        for side, own in zip(sides, layers or ({}, {}), strict=True)
    )
    whole, ends = len(left) == problem.spec.num_layers, _ends(evidence)
    apart: dict[tuple[int, str | None], Tensor] = {}
    for layer in left:
        state = walked(problem.spec, "y", _exact(right[layer]) - _exact(left[layer]))
        apart[layer, None] = torch.maximum(_by_step(problem, state), ends[:, layer])
        if whole and GATES[problem.spec.kind]:
            apart |= {(layer, gate): each for gate, each in _gates_apart(problem, sides, (left, right), layer).items()}
    rows = [
        HeatRow(layer, way, gate, tuple(steps[:, way].tolist()))
        for (layer, gate), steps in apart.items()
        for way in range(problem.spec.directions)
    ]
    rows.sort(key=lambda row: (-row.layer, row.direction))
    first = None if place is None else (place.step, place.layer, place.direction)
    return HeatMap(tuple(rows), first, whole)


def _going_up(problem: Problem, outputs: Tensors, layers: Tensors) -> dict[int, Tensor]:
    """What goes up from each layer that is seen: y of the whole run, and of a layer by itself below it."""
    top = problem.spec.num_layers - 1
    return {layer: layers[f"y of layer {layer}"] for layer in range(top if layers else 0)} | (
        {top: outputs["y"]} if "y" in outputs else {}
    )


def _ends(evidence: Evidence) -> Tensor:
    """(L, K, D): how far the last h and c are apart, at the step after which each item's are taken; 0 elsewhere."""
    problem, spec = evidence.problem, evidence.problem.spec
    left, right = evidence.in_own_dtype(evidence.left), evidence.in_own_dtype(evidence.right)
    forward = torch.tensor(spec.lengths or [spec.seq_len] * spec.batch_size, device="cpu") - 1
    steps = (forward, torch.zeros_like(forward)) if problem.origins is None else (problem.origins[:, 0],) * 2
    found = torch.zeros(spec.num_layers, spec.directions, int(steps[0].max()) + 1, dtype=torch.float64, device="cpu")
    for name in left.keys() & right.keys() & {"h", "c"}:
        apart = (_exact(right[name]) - _exact(left[name])).abs()
        by_item = apart.reshape(spec.num_layers, spec.directions, spec.batch_size, -1).amax(-1)
        for way in range(spec.directions):
            found[:, way].scatter_reduce_(1, steps[way].expand(spec.num_layers, -1), by_item[:, way], "amax")
    return found.permute(2, 0, 1)


def _by_step(problem: Problem, view: Tensor) -> Tensor:
    """(L, D): the greatest of each step, over all items; of single steps at their places.

    Args:
        view: (L, D, N, ·), or without N. What is computed of padding does not count.
    """
    if problem.spec.lengths is not None:
        view = torch.where(valid_steps(problem.spec)[:, None, :, None], view, 0.0)
    if problem.origins is None:
        return greatest_by_step(view)
    found = view[0].abs().amax(-1).T  # (M, D), the first steps of all items first
    counts = problem.origins[:, 0].bincount().tolist()
    return torch.stack([part.amax(0) for part in torch.split(found, counts)])


def _gates_apart(
    problem: Problem, sides: tuple[Side, Side], ups: tuple[dict[int, Tensor], dict[int, Tensor]], layer: int
) -> Tensors:
    """(L, D) by the letters of the gates: how far those of a layer are apart at each step."""
    expected, actual = (
        _gates(problem, side.own_problem(problem).weights, layer, up) for side, up in zip(sides, ups, strict=True)
    )
    return {gate: _by_step(problem, actual[gate] - each) for gate, each in expected.items()}


def _gates(problem: Problem, weights: Weights, layer: int, up: dict[int, Tensor]) -> Tensors:
    """What the equations make of weights and states, in float64: (L, D, N, H) by the letters of the gates."""
    spec, given = problem.spec, problem.given
    x = time_first(spec, _exact(given.x if layer == 0 else up[layer - 1]))
    real = None if spec.lengths is None else valid_steps(spec).unsqueeze(-1)
    found: dict[str, list[Tensor]] = {}
    for way, half in enumerate(time_first(spec, _exact(up[layer])).chunk(spec.directions, -1)):
        h0 = given.state[0][spec.row_of(layer, way)].reshape(half.shape[1:])
        before = h_before(half, h0, bool(way), real)
        for gate, each in gates_of(spec.kind, layer_weights(spec, weights, layer, way), x, (before,)).items():
            found.setdefault(gate, []).append(each)
    return {gate: torch.stack(ways, 1) for gate, ways in found.items()}


def _exact(tensor: Tensor) -> Tensor:
    return tensor.cpu().double()
