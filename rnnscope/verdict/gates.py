"""Which gate two sides part in, where it is one alone: told by the rows of their weights, or by single steps of a side.

A side whose weights are the other's is asked by single steps from states that are chosen. Each gate is a hypothesis:
this gate is another, and all else is torch's. Then the gate that the side must have had follows from h' and c':

    LSTM   o = h' / tanh(c')    f = (c' - i·g) / c     i = (c' - f·c) / g    g = (c' - f·c) / i
    GRU    z = (h' - n) / (h - n)    n = (h' - z·h) / (1 - z)    r = (atanh(n) - W_in·x - b_in) / (W_hn·h + b_hn)

A gate sees h through its own rows of W_hh alone, and c not at all. So what follows for a unit must stay as it is where
h moves at right angles to its row, and where c moves. n sees r, too: it must stay where both rows do, and where its own
row alone does, what is under its activation must go with r in a straight line. A hypothesis that fails this anywhere is
refuted. A gate is named where it is the only one left, but with a projection never o. Nor is a gate named that is a
multiple of torch's: another one, or a state that is scaled or left out, would do the same.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnnscope.network.equations import Layer, affine, gates_of
from rnnscope.network.shapes import GATES, Place, direction_parameters
from rnnscope.network.weights import Input, Weights, all_finite
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import layer_weights, other_shape
from rnnscope.verdict.bounds import FUNCTION_FACTOR, UNITS
from rnnscope.verdict.evidence import Evidence, Side, unless_refused
from rnnscope.verdict.problem import Problem, Tensors, rounded

BASES, CELLS, UNITS_ASKED = 2, 2, 16
"""From so many states, with so many other c each, and for so many units, a side is asked."""

SHARP = 100.0
"""A gate must be off by so many times what rounding may be."""

_MOVES = {"lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "nr", "n", "n")}
"""The gates whose rows each move of h is at right angles to."""


def gate_at(evidence: Evidence, deviating: tuple[str, ...], weights_differ: bool, place: Place) -> str | None:
    """The letter of the one gate that is another in the layer and direction of a place; None where none can be named.

    Args:
        deviating: the sides that do not compute what torch's equations say of their own weights.
        weights_differ: whether the sides have other weights.
    """
    spec, sides = evidence.problem.spec, (evidence.left, evidence.right)
    if not GATES[spec.kind]:
        return None
    if weights_differ:
        one, other = (side.own_problem(evidence.problem).weights for side in sides)
        return None if deviating else gate_of_rows(spec, one, other, place)
    off = [side for side in sides if side.role in deviating]
    is_sharp = all(side.has_float64 or side.finest for side in off)
    if len(off) != 1 or not (is_sharp and off[0].has_steps) or "h" not in evidence.problem.compared:
        return None
    return unless_refused(lambda: _gate_of_steps(evidence.problem, off[0], place))


def gate_of_rows(spec: Spec, one: Weights, other: Weights, place: Place) -> str | None:
    """The gate whose rows alone differ in the weights of a layer and direction."""
    found = set[str]()
    for name in (each.name for each in direction_parameters(spec, place.layer, place.direction)):
        differ = (one[name] != other[name]).flatten(1) if one[name].dim() > 1 else (one[name] != other[name])[:, None]
        if name.startswith("weight_hr"):
            found |= {name} if differ.any() else set()
            continue
        blocks = differ.any(1).chunk(len(GATES[spec.kind]))
        found |= {gate for gate, block in zip(GATES[spec.kind], blocks, strict=True) if block.any()}
    return found.pop() if len(found) == 1 and found <= set(GATES[spec.kind]) else None


@dataclass(frozen=True, eq=False)
class _Step:
    """Single steps of one layer in one direction, (M, ·) each, and what the equations make of them.

    after: h', and c' of an LSTM, as the side gave them. error: how far rounding may move a numerator.
    """

    w: Layer
    x: Tensor
    before: tuple[Tensor, ...]
    after: tuple[Tensor, ...]
    gates: Tensors
    error: float


Told = tuple[Tensor, Tensor]
"""What a hypothesis tells of a gate, (M, H), and how far rounding may move it; infinitely where it tells nothing."""


def _gate_of_steps(problem: Problem, side: Side, place: Place) -> str | None:
    spec, weights = problem.spec, side.own_problem(problem).weights
    if spec.output_size <= max(map(len, _MOVES[spec.kind])):  # nothing is at right angles to as many rows
        return None
    w = layer_weights(spec, weights, place.layer, place.direction)
    units = sorted({place.unit, *range(min(spec.hidden_size, UNITS_ASKED))})
    asked = _asked(problem, w, place, units, side.exact_dtype)
    outputs = side.solve(asked, side.exact_dtype)
    if other_shape(asked.spec, outputs) or not all_finite(outputs.values()):  # a class may give other shapes for a step
        return None
    step = _seen(asked, w, place, outputs, UNITS[side.exact_arithmetic])
    told = {gate: each for gate, each in _HYPOTHESES[spec.kind](step) if _stays(step, spec.kind, gate, each, units)}
    if not told or all(_is_torchs(each, step.gates[gate]) for gate, each in told.items()):
        return None
    if told.keys() == {"r", "n"}:  # n is what it is by r, but no other n looks like another r
        told.pop("n")
    (gate, *others), (value, *_) = told, told.values()
    return None if others or _is_multiple(value, step.gates[gate]) or _is_vague(value, step.gates[gate]) else gate


def _asked(problem: Problem, w: Layer, place: Place, units: list[int], dtype: str) -> Problem:
    """Single steps as items of one batch: from each base its own c and others, and h moved for each gate and unit.

    All are numbers of the dtype in which they are asked.
    """
    spec, generator = problem.spec, torch.Generator().manual_seed(0)
    blocks = dict(zip(GATES[spec.kind], w.W_hh.chunk(len(GATES[spec.kind])), strict=True))
    row = spec.row_of(place.layer, place.direction)

    def drawn(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float64, device="cpu").normal_(generator=generator)

    # So small that no gate is saturated by it, whose faults would not show.
    small_x, small_h = (1 / max(1.0, float(each.norm(dim=1).max())) for each in (w.W_ih, w.W_hh))
    x = drawn(1, 1, spec.input_size) * (small_x if place.layer == 0 else 1)
    states = [drawn(len(each), 1, each.shape[-1]) for each in problem.given.state]
    rows: list[list[Tensor]] = [[] for _ in states]
    for _ in range(BASES):
        base = [drawn(each.shape[-1]) for each in states]
        base[0] *= small_h
        moved = [
            base[0] + _across([blocks[gate][unit] for gate in seeing], small_h * drawn(spec.output_size))
            for seeing in _MOVES[spec.kind]
            for unit in units
        ]
        rows[0] += [base[0]] * (1 + CELLS) + moved
        for cells in rows[1:]:
            cells += [base[1], *(drawn(spec.hidden_size) for _ in range(CELLS)), *[base[1]] * len(moved)]
    count = len(rows[0])
    given = [each.repeat(1, count, 1) for each in states]
    for each, own in zip(given, rows, strict=True):
        each[row] = torch.stack(own)
    x, *given = (rounded(each, (dtype,)) for each in (x, *given))
    alone = replace(spec, seq_len=1, batch_size=count, lengths=None, unbatched=False, batch_first=False, h0="random")
    return replace(problem, spec=alone, given=Input(x.repeat(1, count, 1), tuple(given)), cotangents=None, origins=None)


def _across(rows: list[Tensor], move: Tensor) -> Tensor:
    """The part of a move that is at right angles to some rows."""
    basis: Tensor = torch.linalg.qr(torch.stack(rows, 1))[0]
    return move - basis @ (basis.T @ move)


def _seen(asked: Problem, w: Layer, place: Place, outputs: Tensors, unit: float) -> _Step:
    """Those steps, as the side gave them: what went into the layer is what came out of the side's layer below.

    unit: the relative error of one rounding of the side.
    """
    spec = asked.spec
    row = spec.row_of(place.layer, place.direction)
    outputs = {name: each.cpu().double() for name, each in outputs.items()}
    x = asked.given.x[0]
    if place.layer:
        below = spec.row_of(place.layer - 1, 0)
        x = torch.cat([*outputs["h"][below : below + spec.directions]], -1)
    before = tuple(each[row] for each in asked.given.state)
    after = tuple(outputs[name][row] for name in ("h", "c") if name in outputs)
    sums = x.abs() @ w.W_ih.abs().T + before[0].abs() @ w.W_hh.abs().T
    biases = sum(float(each.abs().max()) for each in (w.b_ih, w.b_hh) if each is not None)
    largest = float(sums.max()) + biases + max(float(each.abs().max()) for each in before)
    error = FUNCTION_FACTOR * unit * (1 + largest)
    return _Step(w, x, before, after, gates_of(spec.kind, w, x, before), error)


def _of_lstm(step: _Step) -> Iterator[tuple[str, Told]]:
    (i, f, g, o), c, (h_after, c_after) = step.gates.values(), step.before[1], step.after
    out = o * torch.tanh(c_after)
    shown = out if step.w.W_hr is None else out @ step.w.W_hr.T
    if bool(((h_after - shown).abs() <= step.error).all()):
        yield "i", _told(step, c_after - f * c, g)
        yield "f", _told(step, c_after - i * g, c)
        yield "g", _told(step, c_after - f * c, i)
    elif step.w.W_hr is None and bool(((c_after - f * c - i * g).abs() <= step.error).all()):
        yield "o", _told(step, h_after, torch.tanh(c_after))


def _of_gru(step: _Step) -> Iterator[tuple[str, Told]]:
    (_, z, n), h, h_after = step.gates.values(), step.before[0], step.after[0]
    new, error = _told(step, h_after - z * h, 1 - z)
    yield "z", _told(step, h_after - n, h - n)
    yield "n", (new, error)
    n_x = affine(step.x, step.w.W_ih, step.w.b_ih).chunk(3, -1)[2]
    n_h = affine(h, step.w.W_hh, step.w.b_hh).chunk(3, -1)[2]
    # A slope of atanh; what is no tanh is NaN, which refutes.
    error = (error / (1 - new * new) + step.error) / n_h.abs()
    yield "r", ((torch.atanh(new) - n_x) / n_h, error)


_HYPOTHESES: dict[str, Callable[[_Step], Iterator[tuple[str, Told]]]] = {"lstm": _of_lstm, "gru": _of_gru}


def _told(step: _Step, numerator: Tensor, denominator: Tensor) -> Told:
    return numerator / denominator, step.error / denominator.abs()


def _stays(step: _Step, kind: str, gate: str, told: Told, units: list[int]) -> bool:
    """Whether what is told of a gate stays as it is where nothing that the gate sees moves."""
    values, errors = (each.view(BASES, -1, each.shape[-1]) for each in told)
    others = [(n, slice(None)) for n in range(1, 1 + CELLS)]
    others += _moved(kind, "nr" if gate == "n" else gate, units)
    stays = all(
        bool(((values[:, n, unit] - values[:, 0, unit]).abs() <= errors[:, n, unit] + errors[:, 0, unit]).all())
        for n, unit in others
    )
    return stays and (gate != "n" or any(_is_straight(step, told, undone, units) for undone in _UNDONE))


def _moved(kind: str, seeing: str, units: list[int]) -> list[tuple[int, slice]]:
    """For each unit, by its number, the item of a base in which h has moved across the rows of some gates."""
    first = 1 + CELLS + _MOVES[kind].index(seeing) * len(units)
    return [(first + number, slice(unit, unit + 1)) for number, unit in enumerate(units)]


_UNDONE: tuple[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]], ...] = (
    (torch.atanh, lambda n: 1 / (1 - n * n)),
    (torch.logit, lambda n: 1 / (n * (1 - n))),
    (lambda n: n, torch.ones_like),
)
"""What undoes an activation that n may have, and its slope."""


def _is_straight(
    step: _Step, told: Told, undone: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]], units: list[int]
) -> bool:
    """Whether what is under the activation of n goes with r in a straight line where the row of n sees no move."""
    undo, slope = undone
    n, error = told
    error = torch.where(n.abs() <= error, torch.inf, error * slope(n))  # 0 of a relu tells nothing
    values, errors, r = (each.view(BASES, -1, each.shape[-1]) for each in (undo(n), error, step.gates["r"]))
    goes = False
    for item, unit in _moved("gru", "n", units):
        (v0, v1, v2), (e0, e1, e2), (r0, r1, r2) = (
            (each[:, 0, unit], each[:, item, unit], each[:, item + len(units), unit]) for each in (values, errors, r)
        )
        apart = (v1 - v0) * (r2 - r0) - (v2 - v0) * (r1 - r0)
        rounding = (e0 + e1) * (r2 - r0).abs() + (e0 + e2) * (r1 - r0).abs()
        rounding = rounding + step.error * ((v1 - v0).abs() + (v2 - v0).abs())
        if not bool((apart.abs() <= rounding).all()):
            return False
        goes = goes or bool(((v1 - v0).abs() > e0 + e1).any())
    return goes


def _is_torchs(told: Told, gate: Tensor) -> bool:
    return bool(((told[0] - gate).abs() <= told[1]).all())


def _is_vague(told: Told, gate: Tensor) -> bool:
    """Whether there is a unit that is off, though never by far more than rounding may be."""
    apart, errors = (told[0] - gate).abs(), told[1]
    off, clearly = (apart > errors).any(0), (apart > SHARP * errors).any(0)
    return bool((off & ~clearly).any())


def _is_multiple(told: Told, gate: Tensor) -> bool:
    """Whether each unit of a gate is one multiple of torch's in all steps."""
    ratio, error = told[0] / gate, told[1] / gate
    return bool(((ratio - ratio[0]).abs() <= error + error[0]).all())
