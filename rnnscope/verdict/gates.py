"""Which gate two sides part in, where it is one alone: told by the rows of their weights, or by steps of a side.

A side that is not torch's function is asked by single steps from states that are chosen. Each gate is a hypothesis:
this gate is another, and all else is torch's, with the weights of the other side, whatever the parameters of this one
are taken for. Then the gate that the side must have had follows from h' and c':

    LSTM   o = h' / tanh(c')    f = (c' - i·g) / c     i = (c' - f·c) / g    g = (c' - f·c) / i
    GRU    z = (h' - n) / (h - n)    n = (h' - z·h) / (1 - z)    r = (atanh(n) - W_in·x - b_in) / (W_hn·h + b_hn)

A gate sees h through its own rows of W_hh alone, and c not at all. So what follows for a unit must stay as it is where
h moves at right angles to its row, and where c moves. n sees r, too: it must stay where both rows do, and where its own
row alone does, what is under its activation must go with r in a straight line. A hypothesis that fails this anywhere is
refuted. A gate is named where it is the only one left, but with a projection never o. Nor is a gate named that is a
multiple of torch's: another one, or a state that is scaled or left out, would do the same.

What is right in single steps may be wrong behind others: a side is then asked with the steps that come before, and x of
the last one is what moves. A gate sees it through its own rows of W_ih alone. There h stays, so that another n looks
like another r. So r is told apart by the numbers that it may be, which are those of σ.

Where a deviation explains a side that cannot be asked so, the gate is the one that the deviation has otherwise.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from rnnscope.network.equations import Layer, affine, gates_of
from rnnscope.network.shapes import GATES, OUTPUTS, Place, direction_parameters, outputs_of
from rnnscope.network.weights import Input, Weights, all_finite, time_first
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import layer_weights, other_shape, run_equations
from rnnscope.verdict.bounds import FUNCTION_FACTOR, UNITS
from rnnscope.verdict.deviations import Deviation, gate_of, named
from rnnscope.verdict.evidence import Evidence, Side, unless_refused
from rnnscope.verdict.problem import Problem, Tensors, first_steps, rounded, solve

BASES, CELLS, UNITS_ASKED = 2, 2, 16
"""From so many states, with so many other c each, and for so many units, a side is asked."""

SHARP = 100.0
"""A gate must be off by so many times what rounding may be."""

MOST_BEHIND = 1e10
"""Multiplications that the steps behind others may take: some seconds."""

_MOVES = {"lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "nr", "n", "n")}
"""The gates whose rows each move of h or x is at right angles to."""


def gate_at(
    evidence: Evidence,
    deviating: tuple[str, ...],
    weights_differ: bool,
    place: Place,
    explained: tuple[tuple[str, tuple[str, ...]], ...] = (),
) -> str | None:
    """The letter of the one gate that is another in the layer and direction of a place; None where none can be named.

    Args:
        deviating: the sides that do not compute what torch's equations say of their own weights.
        weights_differ: whether the sides have other weights.
        explained: the sides that deviations explain, and the names of those.
    """
    problem, sides = evidence.problem, (evidence.left, evidence.right)
    if not GATES[problem.spec.kind]:
        return None
    one, other = (side.own_problem(problem).weights for side in sides)
    differ = gates_of_rows(problem.spec, one, other, place) if weights_differ else set()
    off = [side for side in sides if side.role in deviating]
    if not off:
        return differ.pop() if len(differ) == 1 and differ <= set(GATES[problem.spec.kind]) else None
    if len(off) != 1:
        return None
    if gate := _gate_by_asking(problem, off[0], place, other if off[0] is evidence.left else one):
        return gate
    gate = _gate_of_deviations(problem, off[0], place, [names for role, names in explained if role == off[0].role])
    return gate if differ <= {gate} else None


def gates_of_rows(spec: Spec, one: Weights, other: Weights, place: Place) -> set[str]:
    """The gates whose rows differ in the weights of a layer and direction, and weight_hr by its name if it does."""
    found = set[str]()
    for name in (each.name for each in direction_parameters(spec, place.layer, place.direction)):
        differ = (one[name] != other[name]).flatten(1) if one[name].dim() > 1 else (one[name] != other[name])[:, None]
        if name.startswith("weight_hr"):
            found |= {name} if differ.any() else set()
            continue
        blocks = differ.any(1).chunk(len(GATES[spec.kind]))
        found |= {gate for gate, block in zip(GATES[spec.kind], blocks, strict=True) if block.any()}
    return found


def _gate_by_asking(problem: Problem, side: Side, place: Place, weights: Weights) -> str | None:
    """The gate that a side's own steps tell: single ones, and where nothing is off in these, those behind others.

    weights: those with which the equations are what is expected of it.
    """
    if not (side.has_float64 or side.finest) or "h" not in problem.compared or side.is_recorded:
        return None
    for ask in (_single_steps, _steps_behind)[not side.has_steps :]:
        asked = unless_refused(partial(ask, problem, side, place, weights))
        if asked and not asked.are_torchs:
            return asked.gate
    return None


def _gate_of_deviations(problem: Problem, side: Side, place: Place, every: list[tuple[str, ...]]) -> str | None:
    """The gate that each of the deviations has otherwise, any of which explains a side."""
    found = {_gate_of(problem, side, place, named(names)) for names in every}
    return found.pop() if len(found) == 1 else None


def _gate_of(problem: Problem, side: Side, place: Place, deviation: Deviation) -> str | None:
    """The gate that a deviation has otherwise in steps from states that are chosen."""
    spec, weights = problem.spec, side.own_problem(problem).weights
    w, drawn = layer_weights(spec, weights, place.layer, place.direction), _Drawn()
    x, *state = (drawn(BASES, width) for width in (w.W_ih.shape[1], *(each.shape[-1] for each in problem.given.state)))
    if gate := gate_of(deviation, spec, weights, place, x, tuple(state)):
        return gate
    asked = _single_steps(problem, _as_a_side(side, deviation), place, weights)
    return asked.gate if asked and not asked.are_torchs else None


def _as_a_side(side: Side, deviation: Deviation) -> Side:
    """A deviation on a side's weights, which runs in float64."""
    own = Side(side.role, deviation.name, replace(side.spec, device="cpu", dtype="float64"), deviation.run, "float64")
    return replace(own, weights=side.weights)


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


@dataclass(frozen=True, eq=False)
class _Asked:
    """What a side was asked of one layer in one direction, and what it gave.

    Args:
        units: those for which something moves.
        cells: so many times from each base c alone is another. h moves where it is, otherwise x does.
    """

    kind: str
    step: _Step
    units: list[int]
    cells: int

    @cached_property
    def told(self) -> dict[str, Told]:
        """What the hypotheses tell that nothing refutes."""
        every = _HYPOTHESES[self.kind](self.step)
        return {gate: each for gate, each in every if _stays(self, gate, each)}

    @property
    def are_torchs(self) -> bool:
        """Whether all steps are as the equations have them."""
        return bool(self.told) and all(_is_torchs(each, self.step.gates[gate]) for gate, each in self.told.items())

    @property
    def gate(self) -> str | None:
        """The one gate that is left, unless it is a multiple of torch's or hardly off."""
        told = dict(self.told)
        if told.keys() == {"r", "n"}:
            # n is what it is by r, but no other n looks like another r while h moves. Otherwise r may be no σ.
            is_n = not self.cells and _is_no_gate(told["r"], self.step.gates["r"])
            told.pop("r" if is_n else "n")
        if len(told) != 1:
            return None
        ((gate, value),) = told.items()
        is_vague = _is_multiple(value, self.step.gates[gate]) or _is_vague(value, self.step.gates[gate])
        return None if is_vague else gate


def _single_steps(problem: Problem, side: Side, place: Place, weights: Weights) -> _Asked | None:
    """Single steps from states that are chosen; None where they cannot be asked."""
    spec = problem.spec
    if spec.output_size <= max(map(len, _MOVES[spec.kind])):  # nothing is at right angles to as many rows
        return None
    w = layer_weights(spec, weights, place.layer, place.direction)
    units = _units(spec, place)
    asked = _from_states(problem, w, place, units, side.exact_dtype)
    row = spec.row_of(place.layer, place.direction)
    return _seen(asked, side, w, place, units, CELLS, tuple(each[row] for each in asked.given.state))


def _steps_behind(problem: Problem, side: Side, place: Place, weights: Weights) -> _Asked | None:
    """The step of a place behind all those before it, with another x; None where that cannot be asked."""
    spec = problem.spec
    if (place.layer, place.direction) != (0, 0) or problem.origins is not None:
        return None
    if spec.input_size <= max(map(len, _MOVES[spec.kind])):
        return None
    w = layer_weights(spec, weights, 0, 0)
    units = _units(spec, place)
    asked = _behind(problem, w, place, units, side.exact_dtype)
    if asked.spec.batch_size * asked.spec.seq_len * sum(each.numel() for each in weights.values()) > MOST_BEHIND:
        return None
    before = tuple(each[0] for each in asked.given.state)
    if place.step:
        start = replace(first_steps(asked, place.step), weights=weights, compared=OUTPUTS)
        outputs = solve(run_equations, start.spec, start)
        before = tuple(outputs[name][0] for name in outputs_of(spec.kind)[1:])
    return _seen(asked, side, w, place, units, 0, before)


def _units(spec: Spec, place: Place) -> list[int]:
    return sorted({place.unit, *range(min(spec.hidden_size, UNITS_ASKED))})


def _from_states(problem: Problem, w: Layer, place: Place, units: list[int], dtype: str) -> Problem:
    """Single steps as items of one batch: from each base its own c and others, and h moved for each gate and unit.

    All are numbers of the dtype in which they are asked.
    """
    spec, drawn = problem.spec, _Drawn()
    row = spec.row_of(place.layer, place.direction)
    # So small that no gate is saturated by it, whose faults would not show.
    small_x, small_h = _small(w.W_ih), _small(w.W_hh)
    x = drawn(1, 1, spec.input_size) * (small_x if place.layer == 0 else 1)
    states = [drawn(len(each), 1, each.shape[-1]) for each in problem.given.state]
    rows: list[list[Tensor]] = [[] for _ in states]
    for _ in range(BASES):
        base = [drawn(each.shape[-1]) for each in states]
        base[0] *= small_h
        moved = _moves(spec.kind, w.W_hh, units, base[0], small_h, drawn)
        rows[0] += [base[0]] * (1 + CELLS) + moved
        for cells in rows[1:]:
            cells += [base[1], *(drawn(spec.hidden_size) for _ in range(CELLS)), *[base[1]] * len(moved)]
    count = len(rows[0])
    given = [each.repeat(1, count, 1) for each in states]
    for each, own in zip(given, rows, strict=True):
        each[row] = torch.stack(own)
    return _of_items(problem, x.repeat(1, count, 1), tuple(given), dtype, "random")


def _behind(problem: Problem, w: Layer, place: Place, units: list[int], dtype: str) -> Problem:
    """The steps of the place's item up to its own, of which the last x moves from each base for each gate and unit."""
    spec, drawn, item = problem.spec, _Drawn(), place.batch or 0
    small = _small(w.W_ih)
    last: list[Tensor] = []
    for _ in range(BASES):
        base = small * drawn(spec.input_size)
        last += [base, *_moves(spec.kind, w.W_ih, units, base, small, drawn)]
    x = time_first(spec, problem.given.x)[: place.step + 1, item].double()
    x = x.unsqueeze(1).repeat(1, len(last), 1)
    x[-1] = torch.stack(last)
    states = (each.unsqueeze(1) if spec.unbatched else each[:, item : item + 1] for each in problem.given.state)
    return _of_items(problem, x, tuple(each.repeat(1, len(last), 1) for each in states), dtype, spec.h0)


class _Drawn:
    """Draws standard normal numbers in float64, the same each time."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(0)

    def __call__(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float64, device="cpu").normal_(generator=self._generator)


def _small(W: Tensor) -> float:
    return 1 / max(1.0, float(W.norm(dim=1).max()))


def _moves(kind: str, W: Tensor, units: list[int], base: Tensor, small: float, drawn: _Drawn) -> list[Tensor]:
    """x or h moved away from a base, at right angles to the rows that each hypothesis looks at, unit by unit."""
    blocks = dict(zip(GATES[kind], W.chunk(len(GATES[kind])), strict=True))
    return [
        base + _across([blocks[gate][unit] for gate in seeing], small * drawn(len(base)))
        for seeing in _MOVES[kind]
        for unit in units
    ]


def _across(rows: list[Tensor], move: Tensor) -> Tensor:
    """The part of a move that is at right angles to some rows."""
    basis: Tensor = torch.linalg.qr(torch.stack(rows, 1))[0]
    return move - basis @ (basis.T @ move)


def _of_items(problem: Problem, x: Tensor, state: tuple[Tensor, ...], dtype: str, h0: str) -> Problem:
    """The same network on another batch, x: (L, N, H_in), in numbers that a dtype can say."""
    given = Input(rounded(x, (dtype,)), tuple(rounded(each, (dtype,)) for each in state))
    alone = replace(problem.spec, seq_len=x.shape[0], batch_size=x.shape[1], lengths=None, unbatched=False)
    alone = replace(alone, batch_first=False, h0=h0)
    return replace(problem, spec=alone, given=given, cotangents=None, origins=None)


def _seen(
    asked: Problem, side: Side, w: Layer, place: Place, units: list[int], cells: int, before: tuple[Tensor, ...]
) -> _Asked | None:
    """The last steps, as the side gives them: what goes into the layer is what comes out of the side's layer below.

    None where it gives no such outputs: a class may give h alone, other shapes for a step, or an h that is not its own.
    """
    spec, outputs, states = asked.spec, side.solve(asked, side.exact_dtype), ("h", "c")[: len(before)]
    if not outputs.keys() >= {*states} or other_shape(spec, outputs) or not all_finite(outputs.values()):
        return None
    outputs = {name: each.cpu().double() for name, each in outputs.items()}
    x = asked.given.x[-1]
    if place.layer:
        below = spec.row_of(place.layer - 1, 0)
        x = torch.cat([*outputs["h"][below : below + spec.directions]], -1)
    row = spec.row_of(place.layer, place.direction)
    after = tuple(outputs[name][row] for name in states)
    sums = x.abs() @ w.W_ih.abs().T + before[0].abs() @ w.W_hh.abs().T
    biases = sum(float(each.abs().max()) for each in (w.b_ih, w.b_hh) if each is not None)
    largest = float(sums.max()) + biases + max(float(each.abs().max()) for each in before)
    error = FUNCTION_FACTOR * UNITS[side.exact_arithmetic] * (1 + largest)
    if not _is_last_of_y(spec, outputs, error):
        return None
    step = _Step(w, x, before, after, gates_of(spec.kind, w, x, before), error)
    return _Asked(spec.kind, step, units, cells)


def _is_last_of_y(spec: Spec, outputs: Tensors, error: float) -> bool:
    """Whether the h of the top layer is the last step of y, where that comes out."""
    if "y" not in outputs:
        return True
    ways = zip(outputs["y"].chunk(spec.directions, -1), outputs["h"][-spec.directions :], (-1, 0), strict=False)
    return all(bool(((half[step] - h).abs() <= error).all()) for half, h, step in ways)


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


def _stays(asked: _Asked, gate: str, told: Told) -> bool:
    """Whether what is told of a gate stays as it is where nothing that the gate sees moves."""
    values, errors = (each.view(BASES, -1, each.shape[-1]) for each in told)
    others = [(n, slice(None)) for n in range(1, 1 + asked.cells)]
    others += _moved(asked, "nr" if gate == "n" else gate)
    stays = all(
        bool(((values[:, n, unit] - values[:, 0, unit]).abs() <= errors[:, n, unit] + errors[:, 0, unit]).all())
        for n, unit in others
    )
    return stays and (gate != "n" or any(_is_straight(asked, told, undone) for undone in _UNDONE))


def _moved(asked: _Asked, seeing: str) -> list[tuple[int, slice]]:
    """For each unit, by its number, the item of a base in which x or h has moved across the rows of some gates."""
    first = 1 + asked.cells + _MOVES[asked.kind].index(seeing) * len(asked.units)
    return [(first + number, slice(unit, unit + 1)) for number, unit in enumerate(asked.units)]


_UNDONE: tuple[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]], ...] = (
    (torch.atanh, lambda n: 1 / (1 - n * n)),
    (torch.logit, lambda n: 1 / (n * (1 - n))),
    (lambda n: n, torch.ones_like),
)
"""What undoes an activation that n may have, and its slope."""


def _is_straight(
    asked: _Asked, told: Told, undone: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]
) -> bool:
    """Whether what is under the activation of n goes with r in a straight line where the row of n sees no move."""
    (undo, slope), step = undone, asked.step
    n, error = told
    error = torch.where(n.abs() <= error, torch.inf, error * slope(n))  # 0 of a relu tells nothing
    values, errors, r = (each.view(BASES, -1, each.shape[-1]) for each in (undo(n), error, step.gates["r"]))
    goes = False
    for item, unit in _moved(asked, "n"):
        (v0, v1, v2), (e0, e1, e2), (r0, r1, r2) = (
            (each[:, 0, unit], each[:, item, unit], each[:, item + len(asked.units), unit])
            for each in (values, errors, r)
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


def _is_no_gate(told: Told, gate: Tensor) -> bool:
    """Whether a gate is somewhere what no σ gives, and is no multiple of torch's as a whole either."""
    value, error = told
    ratio, off = value / gate, error / gate
    is_multiple = bool(((ratio - ratio[0, 0]).abs() <= off + off[0, 0]).all())
    return not is_multiple and bool(((value < -error) | (value > 1 + error)).any())


def _is_vague(told: Told, gate: Tensor) -> bool:
    """Whether there is a unit that is off, though never by far more than rounding may be."""
    apart, errors = (told[0] - gate).abs(), told[1]
    off, clearly = (apart > errors).any(0), (apart > SHARP * errors).any(0)
    return bool((off & ~clearly).any())


def _is_multiple(told: Told, gate: Tensor) -> bool:
    """Whether each unit of a gate is one multiple of torch's in all steps."""
    ratio, error = told[0] / gate, told[1] / gate
    return bool(((ratio - ratio[0]).abs() <= error + error[0]).all())
