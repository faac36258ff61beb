"""Runs a network step by step and keeps what there is to see of one item: states, gates, slices that are equal.

y, h and c are torch's module's. What is inside is walked by the equations, on the same device and in the same dtype.
Every row of h is looked for in every step of y. Beside the pairs that are equal stand those that people take for equal.
Source: "Outputs" in https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.files.loading import Loaded
from rnnscope.network.equations import State, Step, gates_of, h_before
from rnnscope.network.shapes import Place, in_order
from rnnscope.network.weights import Input, Weights, draw_input, draw_weights, placed_as, time_first
from rnnscope.pages.progress import shown, stage
from rnnscope.spec.options import ITEM, NO_FILES, STEP, VALUES
from rnnscope.spec.question import check_comparable
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import Run, layer_weights, run_equations, run_module, valid_steps
from rnnscope.subjects.devices import device_name, running
from rnnscope.tracing.result import Equality, Trace, Walked


@shown("trace")
def trace(
    spec: Spec, values: bool = False, item: int = 0, step: int | None = None, *, loaded: Loaded | None = None
) -> Trace:
    """Walk the weights and the input of a Spec's seed, or those that files gave, step by step.

    Args:
        values: whether the page has numbers.
        item: whose.
        step: whose gates; None is the item's last one.
        loaded: what files gave.

    Raises:
        RnnscopeError: no such item or step, dropout that acts, no such device, or a dtype that it cannot compute.

    >>> [(each.left, each.right, each.equal) for each in trace(Spec(bidirectional=True)).equalities if each.expected]
    [('y[2, :, :20]', 'h[2]', True), ('y[0, :, 20:]', 'h[3]', True)]
    """
    check_comparable(spec, "module", "equations")
    VALUES.check(values)
    step = _step_of_item(spec, item, step)
    loaded = loaded or Loaded(NO_FILES, spec)
    with running(spec) as placed:
        drawn = loaded.weights or draw_weights(placed)
        weights = {name: placed_as(placed, each) for name, each in drawn.items()}
        given = loaded.given or draw_input(placed)
        given = Input(placed_as(placed, given.x), tuple(placed_as(placed, each).contiguous() for each in given.state))
        with stage(spec.module_name):
            run = run_module(placed, weights, given)
            run = replace(run, y=run.y.cpu(), state=tuple(each.cpu() for each in run.state))
        watch = _Watch(placed, item)
        with stage("the equations"):
            y = run_equations(placed, weights, given, around=watch.around).y.cpu()
        of_item = _of_item(placed, given, item)
        with stage("slices that are equal"):
            equalities, by_chance = _equalities(placed, run)
        return Trace(
            spec=placed,
            item=item,
            step=step,
            values=values,
            equalities=equalities,
            by_chance=by_chance,
            given=_on_cpu(of_item),
            walked={at: _walked(placed, weights, at, steps, of_item["h0"]) for at, steps in watch.steps.items()},
            distance=_distance(y, run.y),
            first_nonfinite=watch.first_nonfinite(),
            device_name=device_name(placed),
            torch_version=str(torch.__version__),
            sources=loaded.sources,
        )


def _step_of_item(spec: Spec, item: int, step: int | None) -> int:
    """The step, by default the last one of the item. Raises unless there are such an item and step."""
    ITEM.check(item)
    if item >= spec.batch_size:
        message = f"{ITEM.name} is {item}, but items go from 0 to {spec.batch_size - 1}"
        raise RnnscopeError(message, f"try {ITEM.name} 0")
    last = spec.length_of(item) - 1
    if step is None:
        return last
    STEP.check(step)
    if step > last:
        message = f"{STEP.name} is {step}, but the steps of item {item} go from 0 to {last}"
        raise RnnscopeError(message, f"try {STEP.name} {last}")
    return step


class _Watch:
    """Keeps what goes into every step of one item and comes out, and where any item first gives NaN or infinity.

    steps: by (layer, direction) x: (L, ·), h: (L, H_out), and c: (L, H) for an LSTM, in the order of time.
    """

    def __init__(self, spec: Spec, item: int) -> None:
        self.steps: dict[tuple[int, int], tuple[Tensor, ...]] = {}
        self._spec, self._item = spec, item
        self._real = valid_steps(spec)[..., None].to(spec.device)
        self._nonfinite: dict[tuple[int, int], Place] = {}

    def around(self, layer: int, direction: int, step: Step) -> Step:
        """The step of a layer in a direction, watched."""
        place, times = (layer, direction), iter(range(self._spec.seq_len)[:: -1 if direction else 1])
        length = self._spec.length_of(self._item)

        def watched(x: Tensor, before: State) -> State:
            after, time = step(x, before), next(times)
            if place not in self._nonfinite:
                self._look(layer, direction, time, after)
            if time < length:
                if place not in self.steps:
                    self.steps[place] = tuple(each.new_empty(length, each.shape[1]) for each in (x, *after))
                for kept, each in zip(self.steps[place], (x, *after), strict=True):
                    kept[time] = each[self._item]
            return after

        return watched

    def _look(self, layer: int, direction: int, time: int, after: State) -> None:
        for name, each in zip(("h", "c"), after, strict=False):
            wrong = ~each.isfinite() & self._real[time]  # what is computed of padding is thrown away
            if bool(wrong.any()):
                item, unit = wrong.nonzero()[0].tolist()
                place = Place(name, time, layer, direction, unit, None if self._spec.unbatched else item)
                self._nonfinite[layer, direction] = place
                return

    def first_nonfinite(self) -> Place | None:
        """The first place in the order of cause."""
        return min(self._nonfinite.values(), key=lambda place: in_order(self._spec, place), default=None)


def _walked(spec: Spec, weights: Weights, place: tuple[int, int], steps: tuple[Tensor, ...], h0: Tensor) -> Walked:
    """States and gates of a layer in a direction, in the order of time, given h0: (D·K, H_out)."""
    x, h, *_ = steps
    before = h_before(h, h0[spec.row_of(*place)], reverse=bool(place[1]))
    gates = gates_of(spec.kind, layer_weights(spec, weights, *place), x, (before,))
    return Walked(_on_cpu(dict(zip(("h", "c"), steps[1:], strict=False))), _on_cpu(gates))


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: each.cpu() for name, each in tensors.items()}


def _of_item(spec: Spec, given: Input, item: int) -> dict[str, Tensor]:
    """x: (L, H_in), h0: (D·K, H_out) and c0: (D·K, H) of one item."""
    if spec.unbatched:
        return given.tensors()
    x = given.x[item] if spec.batch_first else given.x[:, item]
    return {name: x if name == "x" else each[:, item] for name, each in given.tensors().items()}


MOST_OTHERS = 1000
"""So many pairs are listed that are equal though no rule says so, as in a network whose state has stopped changing."""

_ALL = slice(None)


@dataclass(frozen=True, eq=False, repr=False)
class _Slice:
    """A slice: as it is written, and its numbers."""

    text: str
    tensor: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class _Slices:
    """Slices of y: (L, N, D·H_out), h: (D·K, N, H_out) and c: (D·K, N, H); of all items where none is named."""

    spec: Spec
    run: Run

    def y(self, step: int, direction: int | None = None, item: int | None = None) -> _Slice:
        """A step of y: the half of a direction, or the whole where no direction is named."""
        items: int | slice = _ALL if item is None else item
        index = [step] if self.spec.unbatched else [items, step] if self.spec.batch_first else [step, items]
        return _slice("y", self.run.y, *index, *self.half(direction))

    def half(self, direction: int | None) -> list[slice]:
        """The features of a direction; no index where they are all that there are."""
        size = self.spec.output_size
        if direction is None or not self.spec.bidirectional:
            return []
        return [slice(size, None) if direction else slice(None, size)]

    def h(self, row: int, item: int | None = None) -> _Slice:
        return _slice("h", self.run.state[0], row, *([] if item is None else [item]))

    def last(self, direction: int, item: int | None = None) -> int:
        """The step after which a direction has the last state."""
        return 0 if direction else (self.spec.seq_len if item is None else self.spec.length_of(item)) - 1


def _slice(name: str, tensor: Tensor, *index: int | slice) -> _Slice:
    words = [str(each) if isinstance(each, int) else f"{each.start or ''}:{each.stop or ''}" for each in index]
    return _Slice(f"{name}[{', '.join(words).removesuffix(', :')}]", tensor[index])


def _equalities(spec: Spec, run: Run) -> tuple[tuple[Equality, ...], int]:
    """The pairs that are equal and those that people take for it, and how many are equal by chance.

    Of those that are equal by chance the first MOST_OTHERS are among the pairs.
    """
    slices, top = _Slices(spec, run), spec.num_layers - 1
    false_friends = list(_false_friends(slices))
    named = {(each.left, each.right) for each in false_friends}
    others = [
        (row, direction, step, item)
        for row, direction, step, item in _equal_places(spec, run)
        if row != spec.row_of(top, direction) or step != slices.last(direction, item)
    ]
    by_chance = []
    for row, direction, step, item in others[:MOST_OTHERS]:
        found = _equality(slices.y(step, direction, item), slices.h(row, item), False, "")
        if (found.left, found.right) not in named:
            by_chance.append(found)
    return (*_rules(slices), *by_chance, *false_friends), len(others)


def _rules(slices: _Slices) -> Iterator[Equality]:
    """The last states of the top layer: h[-1], or h[-2] and h[-1] with both directions."""
    spec = slices.spec
    for direction in range(spec.directions):
        row = spec.row_of(spec.num_layers - 1, direction)
        way = ("forward: ", "backward: ")[direction] if spec.bidirectional else ""
        by_item = spec.lengths is not None and not direction
        for item in range(spec.batch_size) if by_item else [None]:
            step = slices.last(direction, item)
            whose = way or "the top layer " if item is None else f"{way}item {item} "
            yield _equality(slices.y(step, direction, item), slices.h(row, item), True, f"{whose}ends at step {step}")


def _equal_places(spec: Spec, run: Run) -> Iterator[tuple[int, int, int, int | None]]:
    """(row of h, half of y, step, item) wherever they are equal: item is None where it holds of all."""
    y = time_first(spec, run.y).reshape(spec.seq_len, spec.batch_size, spec.directions, -1)
    h = run.state[0].reshape(-1, spec.batch_size, spec.output_size)
    one_by_one = spec.lengths is not None
    for row in range(len(h)):
        for direction in range(spec.directions):
            equal = _same(y[:, :, direction], h[row]).all(-1)  # (L, N)
            places = equal if one_by_one else equal.all(1, keepdim=True)
            for step, item in places.nonzero().tolist():
                yield row, direction, step, item if one_by_one else None


def _false_friends(slices: _Slices) -> Iterator[Equality]:
    """Pairs that people take for equal."""
    spec, run = slices.spec, slices.run
    row, last = spec.row_of(spec.num_layers - 1, 0), spec.seq_len - 1
    y_end, h_end = slices.y(last, 0), slices.h(row)
    if spec.lengths is not None and min(spec.lengths) < spec.seq_len:
        yield _equality(y_end, h_end, False, "shorter items are padding there")
    if spec.num_layers > 1:
        yield _equality(y_end, slices.h(0), False, "layer 0; y is of the top layer")
    if spec.bidirectional and spec.seq_len > 1:
        backward = slices.h(row + 1)
        yield _equality(slices.y(last, 1), backward, False, "the backward direction starts there")
        yield _equality(y_end, backward, False, "h[-1] is the backward direction")
        halves = torch.cat((h_end.tensor, backward.tensor), -1)
        both = _Slice(f"torch.cat(({h_end.text}, {backward.text}), -1)", halves)
        yield _equality(slices.y(last), both, False, "the backward half ends at step 0")
    if not spec.unbatched and spec.seq_len > 1:
        item = spec.batch_size - 1
        index = [item] if spec.batch_first else [_ALL, item]
        all_steps = _slice("y", run.y, *index, *slices.half(0))
        yield _equality(all_steps, h_end, False, f"item {item} at all steps")
    if spec.batch_first and not spec.unbatched:
        yield _equality(y_end, _slice("h", run.state[0], _ALL, -1), False, "batch_first does not move h")
    if spec.kind == "lstm":
        yield _equality(y_end, _slice("c", run.state[1], row), False, "c is before the output gate")


def _equality(left: _Slice, right: _Slice, expected: bool, meaning: str) -> Equality:
    one, other = left.tensor, right.tensor
    if one.shape != other.shape:
        return Equality(left.text, right.text, False, expected, None, f"other shape: {meaning}")
    equal = bool(_same(one, other).all())
    if equal and not expected:
        meaning = "equal on this run, though no rule says so"
    elif bool(one.isnan().any()):
        meaning += "; NaN counts as equal to NaN"
    return Equality(left.text, right.text, equal, expected, _distance(one, other), meaning)


def _distance(one: Tensor, other: Tensor) -> float:
    """How far two are apart at most, where they are not equal."""
    return float(torch.where(_same(one, other), 0.0, (one.double() - other.double()).abs()).max())


def _same(one: Tensor, other: Tensor) -> Tensor:
    """Where two are equal; NaN is what NaN is."""
    return (one == other) | (one.isnan() & other.isnan())
