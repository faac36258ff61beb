"""The greatest difference of two sides in each layer, direction and step, and what it makes of the gates.

Each side is run layer by layer on what its own layer below gave. Gates are seen in no side: they are what the equations
make of its weights and of its states, so that a row of weights that differs shows in its gate at once, and a step that
is another formula shows in its state first. How a map is drawn is heat_page.py's business.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnnscope.bounds import greatest, walked
from rnnscope.comparability import Tolerance
from rnnscope.equations import gates_of
from rnnscope.errors import RnnscopeError
from rnnscope.judgement import Evidence, Side
from rnnscope.locating import Place, in_order
from rnnscope.margins import distances
from rnnscope.problems import Problem, Tensors, solve_by_layers
from rnnscope.subjects import layer_weights, valid_steps


@dataclass(frozen=True)
class HeatRow:
    """One layer in one direction: of its state, or of one of its gates, the greatest difference at each step.

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


def heat_map(evidence: Evidence, place: Place | None, tolerance: Tolerance | None) -> HeatMap:
    """Where two sides differ in their own arithmetic.

    Args:
        place: the first element over its bound, where there is one.
        tolerance: the one that binds, where there is one.
    """
    seen, whole = _layer_by_layer(evidence)
    problem, left, right = seen.problem, seen.own(seen.left), seen.own(seen.right)
    errors = {
        name: each for name, each in distances(problem.spec, right, left).items() if _layer(problem, name) is not None
    }
    rows = [
        row for name, each in errors.items() for row in _rows(problem, name, None, walked(problem.spec, name, each))
    ]
    if whole:
        rows += _gate_rows(seen)
    if place is None and tolerance is not None:
        place = _first_over(problem, left, errors, tolerance)
    first = None if place is None else (place.step, place.layer, place.direction)
    return HeatMap(tuple(sorted(rows, key=lambda row: (-row.layer, row.direction, row.gate is not None))), first, whole)


def _layer_by_layer(evidence: Evidence) -> tuple[Evidence, bool]:
    """The same sides, showing every layer; or as they are, where one of them cannot."""
    one = evidence.problem.spec.num_layers == 1
    if not one and evidence.left.has_layers and evidence.right.has_layers:
        problem = replace(evidence.problem, cotangents=None)
        layers = Evidence(problem, evidence.left, evidence.right, solver=solve_by_layers)
        try:
            for side in (layers.left, layers.right):
                layers.own(side)
            return layers, True
        except RnnscopeError:  # somebody's own class that cannot be built with one layer
            pass
    return evidence, one


def _layer(problem: Problem, name: str) -> int | None:
    """Whose output a tensor is."""
    if name == "y":
        return problem.spec.num_layers - 1
    return int(name.rpartition(" ")[2]) if name.startswith("y of layer") else None


def _rows(problem: Problem, name: str, gate: str | None, view: Tensor) -> list[HeatRow]:
    """One row a direction of a view: (L, D, N, ·)."""
    steps, layer = _by_step(problem, view), _layer(problem, name)
    assert layer is not None
    return [HeatRow(layer, way, gate, tuple(steps[:, way].tolist())) for way in range(steps.shape[1])]


def _by_step(problem: Problem, view: Tensor) -> Tensor:
    """(L, D): the greatest of each step, over all items; of steps by themselves at their places."""
    if problem.places is None:
        return greatest(view)
    found = view[0].abs().amax(-1).T  # (M, D), the first steps of all items first
    counts = problem.places[:, 0].bincount().tolist()
    return torch.stack([part.amax(0) for part in torch.split(found, counts)])


def _gate_rows(seen: Evidence) -> list[HeatRow]:
    """The gates of both sides, compared."""
    problem, rows = seen.problem, list[HeatRow]()
    spec = problem.spec
    if spec.kind == "rnn":
        return rows
    for layer in range(spec.num_layers):
        left, right = (_gates(seen, side, layer) for side in (seen.left, seen.right))
        for gate, each in left.items():
            rows += _rows(problem, f"y of layer {layer}", gate, right[gate] - each)
    return rows


def _gates(seen: Evidence, side: Side, layer: int) -> Tensors:
    """What the equations make of a side's weights and states, in float64: (L, D, N, H) by the letters of the gates."""
    problem = seen.problem
    spec, weights, given = problem.spec, side.own_problem(problem).weights, problem.given
    run = seen.own(side)
    x = given.x if layer == 0 else _exact(run[f"y of layer {layer - 1}"])
    y = _exact(run.get(f"y of layer {layer}", run.get("y", given.x)))
    found: dict[str, list[Tensor]] = {}
    for way in range(spec.directions):
        h0 = given.state[0][layer * spec.directions + way]
        before = _before(problem, _time_first(problem, y).chunk(spec.directions, -1)[way], h0, way)
        gates = gates_of(spec.kind, layer_weights(spec, weights, layer, way), _time_first(problem, x), (before,))
        for gate, each in gates.items():
            found.setdefault(gate, []).append(_valid(problem, each))
    return {gate: torch.stack(ways, 1) for gate, ways in found.items()}


def _exact(tensor: Tensor) -> Tensor:
    return tensor.cpu().double()


def _time_first(problem: Problem, tensor: Tensor) -> Tensor:
    """(L, N, ·)."""
    if problem.spec.unbatched:
        return tensor.unsqueeze(1)
    return tensor.transpose(0, 1) if problem.spec.batch_first else tensor


def _before(problem: Problem, y: Tensor, h0: Tensor, way: int) -> Tensor:
    """The states before each step: (L, N, H_out), of the states after it."""
    first = h0.reshape(1, *y.shape[1:])
    if not way:
        return torch.cat((first, y[:-1]))
    later = torch.cat((y[1:], first))
    if problem.spec.lengths is None:
        return later
    real = valid_steps(problem.spec)
    has_later = torch.cat((real[1:], torch.zeros_like(real[:1]))).unsqueeze(-1)
    return torch.where(has_later, later, first)


def _valid(problem: Problem, gate: Tensor) -> Tensor:
    """Without what is computed of padding."""
    return gate if problem.spec.lengths is None else torch.where(valid_steps(problem.spec).unsqueeze(-1), gate, 0.0)


def _first_over(problem: Problem, expected: Tensors, errors: Tensors, tolerance: Tolerance) -> Place | None:
    """The first cell with an element over a tolerance, in the order of cause."""
    places = []
    for name, each in errors.items():
        allowed = tolerance.atol + tolerance.rtol * _exact(expected[name]).abs()
        over = _by_step(problem, walked(problem.spec, name, (~(each.abs() <= allowed)).double()))
        layer = _layer(problem, name) or 0
        places += [Place("y", step, layer, way, 0, None) for step, way in over.nonzero().tolist()]
    return min(places, key=lambda place: in_order(problem.spec, place), default=None)
