"""Runs a network step by step and keeps what there is to see of one item: states, gates, slices that are equal.

y, h and c are torch's module's. What is inside is walked by the equations, on the same device and in the same dtype.
Every row of h is looked for in every step of y. The pairs that torch's documentation says are equal are among them;
beside them stand those that are taken for equal.
Source: "Outputs" in https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.files.loading import Loaded
from rnnscope.network.equations import State, Step, gates_of
from rnnscope.network.shapes import Place, in_order
from rnnscope.network.weights import Input, Weights, draw_input, draw_weights
from rnnscope.pages.page import Page
from rnnscope.pages.render import SpecResult
from rnnscope.spec.options import ITEM, NO_FILES, STEP, VALUES, Sources
from rnnscope.spec.question import check_comparable
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import Run, layer_weights, run_equations, run_module, valid_steps
from rnnscope.subjects.devices import device_name, running

if TYPE_CHECKING:
    from torch import Tensor

    from rnnscope.network.shapes import Place


SATURATED = 0.01
"""A gate this near to an end of its range is saturated: its slope is 4 % of the greatest (sigmoid), or 2 % (tanh)."""


@dataclass(frozen=True, eq=False, repr=False)
class Equality:
    """Two slices of what came out, written as in Python, and whether all their numbers are equal; NaN equals NaN.

    expected: whether torch's documentation says that they are. max_abs: how far they are apart; None where their shapes
    differ. meaning: why they are equal, or why not.
    """

    left: str
    right: str
    equal: bool
    expected: bool
    max_abs: float | None
    meaning: str


@dataclass(frozen=True, eq=False, repr=False)
class Walked:
    """One item in one layer and direction, in the order of time.

    states: h: (L, H_out), and c: (L, H) for an LSTM. gates: (L, H) each, by their letters. L is the item's own length.
    """

    states: "Mapping[str, Tensor]"
    gates: "Mapping[str, Tensor]"

    def saturated(self, gate: str) -> list[int]:
        """How many units of a gate are within SATURATED of an end of its range, at each step."""
        values = self.gates[gate].double()
        ends = (-1.0, 1.0) if gate in "gn" else (0.0, 1.0)
        counts: list[int] = ((values - ends[0] < SATURATED) | (ends[1] - values < SATURATED)).sum(-1).tolist()
        return counts


@dataclass(frozen=True, eq=False, repr=False)
class Trace(SpecResult):
    """One run of a network, step by step.

    Args:
        spec: with its device made definite.
        item: whose steps these are.
        step: whose gates are shown.
        values: whether numbers were asked for.
        equalities: the pairs that are equal, and pairs that are easily taken for it.
        by_chance: how many are equal though no rule says so, of which the first ones are among them.
        given: x: (L, H_in), and h0: (D·K, H_out) and c0: (D·K, H), of the item.
        walked: what the equations gave, by (layer, direction).
        distance: how far y of the equations is from the module's at most, where they are not equal.
        first_nonfinite: where NaN or infinity first came out of the equations, over all items.
    """

    spec: Spec
    item: int
    step: int
    values: bool
    equalities: tuple[Equality, ...]
    by_chance: int
    given: "Mapping[str, Tensor]"
    walked: Mapping[tuple[int, int], Walked]
    distance: float
    first_nonfinite: "Place | None"
    device_name: str
    torch_version: str
    sources: Sources = NO_FILES

    command: ClassVar[str] = "trace"

    @property
    def length(self) -> int:
        """Steps of the item."""
        return self.spec.length_of(self.item)

    @property
    def broken(self) -> tuple[Equality, ...]:
        """The pairs that torch's documentation says are equal, and that are not."""
        return tuple(each for each in self.equalities if each.expected and not each.equal)

    @property
    def exit_code(self) -> int:
        """1 when NaN or infinity came out, or a pair is not equal that should be; 0 otherwise."""
        return 1 if self.first_nonfinite or self.broken or not isfinite(self.distance) else 0

    @property
    def rerun(self) -> str:
        """The command line that prints this again."""
        step = None if self.step == self.length - 1 else self.step
        return self.line(*((VALUES, self.values), (ITEM, self.item), (STEP, step)))

    def page(self) -> Page:
        """The tables and sentences of `rnnscope trace`."""
        from rnnscope.tracing.page import page_of_trace

        return page_of_trace(self)

    def facts(self) -> dict[str, Any]:
        """What programs get of it."""
        from rnnscope.tracing.page import document_of_trace

        return document_of_trace(self)

    def records(self) -> Iterator[dict[str, Any]]:
        """One record a pair of slices."""
        return (asdict(each) for each in self.equalities)


def trace(
    spec: Spec, values: bool = False, item: int = 0, step: int | None = None, *, loaded: Loaded | None = None
) -> Trace:
    """Walk the weights and the input of a Spec's seed, or those that files gave, step by step.

    Args:
        values: whether numbers are to be shown.
        item: whose.
        step: whose gates are to be shown; the item's last one when None.
        loaded: what files gave.

    Raises:
        RnnscopeError: no such item or step, dropout that acts, no such device, or a dtype that it cannot compute.
    """
    check_comparable(spec, "module", "equations")
    VALUES.check(values)
    step = _checked(spec, item, step)
    loaded = loaded or Loaded(NO_FILES, spec)
    with running(spec) as placed:
        dtype = getattr(torch, placed.dtype)
        weights = {
            name: each.to(placed.device, dtype) for name, each in (loaded.weights or draw_weights(placed)).items()
        }
        given = _placed(loaded.given or draw_input(placed), placed.device, dtype)
        run = run_module(placed, weights, given)
        noted = _Noted(placed, item)
        y = run_equations(placed, weights, given, around=noted.around).y
        of_item = _of_item(placed, given, item)
        return Trace(
            placed,
            item,
            step,
            values,
            *equalities(placed, run),
            _on_cpu(of_item),
            {
                (layer, way): _walked(placed, weights, (layer, way), steps, of_item["h0"][spec.row_of(layer, way)])
                for (layer, way), steps in noted.steps.items()
            },
            float(torch.where(same(y, run.y), 0.0, (y.double() - run.y.double()).abs()).max()),
            noted.first_nonfinite(),
            device_name(placed),
            str(torch.__version__),
            loaded.sources,
        )


def _checked(spec: Spec, item: int, step: int | None) -> int:
    """The step, which the item must have."""
    ITEM.check(item)
    if item >= spec.batch_size:
        raise RnnscopeError(
            f"{ITEM.name} is {item}, but items go from 0 to {spec.batch_size - 1}", f"try {ITEM.name} 0"
        )
    length = spec.length_of(item)
    if step is None:
        return length - 1
    STEP.check(step)
    if step >= length:
        raise RnnscopeError(
            f"{STEP.name} is {step}, but the steps of item {item} go from 0 to {length - 1}",
            f"try {STEP.name} {length - 1}",
        )
    return step


class _Noted:
    """What goes into every step of one item and comes out, and where NaN or infinity first comes out of any item.

    steps: by (layer, direction) x: (L, ·), h: (L, H_out), and c: (L, H) for an LSTM, in the order of time.
    """

    def __init__(self, spec: Spec, item: int) -> None:
        self.steps: dict[tuple[int, int], tuple[Tensor, ...]] = {}
        self._spec, self._item = spec, item
        self._length = spec.length_of(item)
        self._real = valid_steps(spec).unsqueeze(-1).to(spec.device) if spec.lengths else None
        self._nonfinite: dict[tuple[int, int], Place] = {}

    def around(self, layer: int, direction: int, step: Step) -> Step:
        spec, walked = self._spec, 0

        def noting(x: Tensor, before: State) -> State:
            nonlocal walked
            after = step(x, before)
            time = spec.seq_len - 1 - walked if direction else walked
            walked += 1
            if (layer, direction) not in self._nonfinite:
                self._look(layer, direction, time, after)
            if time < self._length:
                if (layer, direction) not in self.steps:
                    room = tuple(each.new_empty(self._length, each.shape[1]) for each in (x, *after))
                    self.steps[layer, direction] = room
                for kept, each in zip(self.steps[layer, direction], (x, *after), strict=True):
                    kept[time] = each[self._item]
            return after

        return noting

    def _look(self, layer: int, direction: int, time: int, after: State) -> None:
        for name, each in zip(("h", "c"), after, strict=False):
            wrong = ~each.isfinite()
            if self._real is not None:  # what is computed of padding is thrown away
                wrong = wrong & self._real[time]
            if bool(wrong.any()):
                item, unit = wrong.nonzero()[0].tolist()
                place = Place(name, time, layer, direction, unit, None if self._spec.unbatched else item)
                self._nonfinite[layer, direction] = place
                return

    def first_nonfinite(self) -> Place | None:
        """In the order of cause."""
        return min(self._nonfinite.values(), key=lambda place: in_order(self._spec, place), default=None)


def _walked(spec: Spec, weights: Weights, place: tuple[int, int], steps: tuple[Tensor, ...], first: Tensor) -> Walked:
    """States and gates of a layer in a direction, in the order of time.

    Args:
        first: h before the first step that is walked: (H_out,).
    """
    x, *states = steps
    before = torch.cat((states[0][1:], first[None])) if place[1] else torch.cat((first[None], states[0][:-1]))
    gates = gates_of(spec.kind, layer_weights(spec, weights, *place), x, (before,))
    return Walked(_on_cpu(dict(zip(("h", "c"), states, strict=False))), _on_cpu(gates))


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: each.cpu() for name, each in tensors.items()}


def _of_item(spec: Spec, given: Input, item: int) -> dict[str, Tensor]:
    """x: (L, H_in), h0: (D·K, H_out) and c0: (D·K, H) of one item."""
    if spec.unbatched:
        return given.tensors()
    x = given.x[item] if spec.batch_first else given.x[:, item]
    return {"x": x} | {name: each[:, item] for name, each in given.tensors().items() if name != "x"}


def _placed(given: Input, device: str, dtype: torch.dtype) -> Input:
    return Input(given.x.to(device, dtype), tuple(each.to(device, dtype).contiguous() for each in given.state))


MOST_OTHERS = 1000
"""So many pairs are listed that are equal though no rule says so, as in a network whose state has stopped changing."""


_ALL = slice(None)


@dataclass(frozen=True)
class _Piece:
    """A slice: as it is written, and its numbers."""

    text: str
    tensor: Tensor


def equalities(spec: Spec, run: Run) -> tuple[tuple[Equality, ...], int]:
    """What is equal in y: (L, N, D·H_out), h: (D·K, N, H_out) and c: (D·K, N, H), and what only seems to be.

    Returns:
        the pairs, and how many are equal by chance, of which the first MOST_OTHERS are among them.
    """
    others = [place for place in _equal_places(spec, run) if not _is_rule(spec, *place)]
    by_chance = [_by_chance(spec, run, *place) for place in others[:MOST_OTHERS]]
    found = (*_rules(spec, run), *by_chance, *_false_friends(spec, run))
    return tuple({(each.left, each.right): each for each in reversed(found)}.values())[::-1], len(others)


def _rules(spec: Spec, run: Run) -> Iterator[Equality]:
    """The last states of the top layer: h[-1], or h[-2] and h[-1] with both directions."""
    for direction in range(spec.directions):
        row = spec.row_of(spec.num_layers - 1, direction)
        way = ("forward: ", "backward: ")[direction] if spec.bidirectional else ""
        whole = way or "the top layer "
        if spec.lengths is None or direction:
            step = _end(spec, direction)
            yield _equality(_y(spec, run, step, direction), _h(run, row), True, f"{whole}ends at step {step}")
            continue
        for item, length in enumerate(spec.lengths):
            pair = _y(spec, run, length - 1, direction, item), _h(run, row, item)
            yield _equality(*pair, True, f"{way}item {item} ends at step {length - 1}")


def _is_rule(spec: Spec, row: int, direction: int, step: int, item: int | None) -> bool:
    """Whether torch's documentation says that this half of a step is this row of h."""
    return row == spec.row_of(spec.num_layers - 1, direction) and step == _end(spec, direction, item)


def _by_chance(spec: Spec, run: Run, row: int, direction: int, step: int, item: int | None) -> Equality:
    return _equality(_y(spec, run, step, direction, item), _h(run, row, item), False, "")


def _equal_places(spec: Spec, run: Run) -> Iterator[tuple[int, int, int, int | None]]:
    """(row of h, half of y, step, item) wherever they are equal: item is None where it holds of all."""
    y, h = _laid_out(spec, run)
    one_by_one = spec.lengths is not None
    for row in range(len(h)):
        for direction in range(spec.directions):
            equal = same(y[:, :, direction], h[row]).all(-1)  # (L, N)
            places = equal if one_by_one else equal.all(1, keepdim=True)
            for step, item in places.nonzero().tolist():
                yield row, direction, step, item if one_by_one else None


def _laid_out(spec: Spec, run: Run) -> tuple[Tensor, Tensor]:
    """y: (L, N, D, H_out), h: (D·K, N, H_out)."""
    y, h = run.y, run.state[0]
    if spec.unbatched:
        y, h = y.unsqueeze(1), h.unsqueeze(1)
    elif spec.batch_first:
        y = y.transpose(0, 1)
    return y.reshape(*y.shape[:2], spec.directions, -1), h


def _false_friends(spec: Spec, run: Run) -> Iterator[Equality]:
    """Pairs that people take for equal."""
    top, last = spec.num_layers - 1, spec.seq_len - 1
    row, h_end = spec.row_of(top, 0), _h(run, spec.row_of(top, 0))
    y_end = _y(spec, run, last, 0)
    if spec.lengths is not None and min(spec.lengths) < spec.seq_len:
        yield _equality(y_end, h_end, False, "shorter items are padding there")
    if spec.num_layers > 1:
        yield _equality(y_end, _h(run, spec.row_of(0, 0)), False, "layer 0; y is of the top layer")
    if spec.bidirectional and spec.seq_len > 1:
        backward = _h(run, row + 1)
        yield _equality(_y(spec, run, last, 1), backward, False, "the backward direction starts there")
        yield _equality(y_end, backward, False, "h[-1] is the backward direction")
        whole, both = _piece("y", run.y, *_at(spec, last)), _joined(h_end, backward)
        yield _equality(whole, both, False, "the backward half ends at step 0")
    if not spec.unbatched and spec.batch_size and spec.seq_len > 1:
        item = spec.batch_size - 1
        swapped = (item,) if spec.batch_first else (_ALL, item)
        whole = _piece("y", run.y, *swapped, *_half(spec, 0))
        yield _equality(whole, h_end, False, f"item {item} at all steps")
    if spec.batch_first and not spec.unbatched:
        state = run.state[0]
        yield _equality(y_end, _piece("h", state, _ALL, -1), False, "batch_first does not move h")
    if spec.kind == "lstm":
        yield _equality(y_end, _piece("c", run.state[1], row), False, "c is before the output gate")


def _equality(left: _Piece, right: _Piece, expected: bool, meaning: str) -> Equality:
    one, other = left.tensor, right.tensor
    if one.shape != other.shape:
        return Equality(left.text, right.text, False, expected, None, f"other shape: {meaning}")
    alike = same(one, other)
    apart = float(torch.where(alike, 0.0, (one.double() - other.double()).abs()).max())
    equal = bool(alike.all())
    if bool(one.isnan().any()):
        meaning += "; NaN counts as equal to NaN"
    by_chance = "equal on this run, though no rule says so"
    return Equality(left.text, right.text, equal, expected, apart, by_chance if equal and not expected else meaning)


def same(one: Tensor, other: Tensor) -> Tensor:
    """Where two are equal; NaN is what NaN is."""
    return (one == other) | (one.isnan() & other.isnan())


def _piece(name: str, tensor: Tensor, *index: Any) -> _Piece:
    while len(index) > 1 and index[-1] == _ALL:
        index = index[:-1]
    words = (str(each) if isinstance(each, int) else _colons(each) for each in index)
    return _Piece(f"{name}[{', '.join(words)}]", tensor[index])


def _colons(each: slice) -> str:
    return f"{'' if each.start is None else each.start}:{'' if each.stop is None else each.stop}"


def _joined(one: _Piece, other: _Piece) -> _Piece:
    return _Piece(f"torch.cat(({one.text}, {other.text}), -1)", torch.cat((one.tensor, other.tensor), -1))


def _y(spec: Spec, run: Run, step: int, direction: int, item: int | None = None) -> _Piece:
    """A half of a step of y."""
    return _piece("y", run.y, *_at(spec, step, item), *_half(spec, direction))


def _h(run: Run, row: int, item: int | None = None) -> _Piece:
    return _piece("h", run.state[0], row, *(() if item is None else (item,)))


def _at(spec: Spec, step: int, item: int | None = None) -> tuple[Any, ...]:
    if spec.unbatched:
        return (step,)
    which = _ALL if item is None else item
    return (which, step) if spec.batch_first else (step, which)


def _half(spec: Spec, direction: int) -> tuple[slice, ...]:
    size = spec.output_size
    return () if not spec.bidirectional else (slice(None, size) if direction == 0 else slice(size, None),)


def _end(spec: Spec, direction: int, item: int | None = None) -> int:
    """The step after which the last state is taken."""
    return 0 if direction else (spec.seq_len if item is None else spec.length_of(item)) - 1
