"""What people are told of a trace: the network unrolled, which slices are equal, the numbers of one item."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any

from rnnscope.network.shapes import (
    GATES,
    layer_in_words,
    left_out,
    place_in_words,
    shown_layers,
    sizes_in_words,
)
from rnnscope.network.shapes import network_in_words as network
from rnnscope.pages.page import Column, Drawing, Grid, Line, Page, Sentence, counted, thousands, where_it_ran
from rnnscope.spec.spec import Spec
from rnnscope.tracing.trace import SATURATED, Equality, Trace, Walked

if TYPE_CHECKING:
    from torch import Tensor


MOST_UNITS = 6
"""A vector of more numbers is cut short."""


MOST_STEPS = 5
"""So many steps are shown: the first ones, the one whose gates are shown, and the last."""


MOST_PAIRS = 6
"""So many pairs of one kind are shown: the first ones and the last."""


_GATE_NAMES = {
    "lstm": {"i": "input", "f": "forget", "g": "cell", "o": "output"},
    "gru": {"r": "reset", "z": "update", "n": "new"},
}


_WHAT_GATES_DO = {
    "lstm": "c = f·c + i·g and h = {h}: f keeps the old c, i lets g in, o lets c out",
    "gru": "h = (1 - z)·n + z·h: z keeps the old h, r lets it into n",
}


def page_of_trace(trace: Trace) -> Page:
    """The drawing, the tables and the sentences of `rnnscope trace`."""
    spec = trace.spec
    page: Page = [unrolled(spec), *_items(spec), Sentence("Sizes", sizes_in_words(spec))]
    page += _equalities(trace)
    if trace.values:
        page.append(_values(trace))
        page.append(
            Sentence("Numbers", f"of the equations; y of the module is at most {trace.distance:.3g} from them.")
        )
        page += _gates(trace)
    page += _findings(trace)
    return [
        *page,
        Sentence("Run", where_it_ran(trace.device_name, trace.spec.dtype, trace.torch_version)),
        Sentence("Rerun", trace.rerun, verbatim=True),
    ]


def _items(spec: Spec) -> Page:
    """What the drawing, which is of the longest item, leaves out of a packed input."""
    if spec.lengths is None:
        return []
    starts = ", and each backward direction starts," if spec.bidirectional else ""
    return [Sentence("Items", f"so many have the step; each h leaves{starts} at its own last one.")]


def _equalities(trace: Trace) -> Page:
    rules = [each for each in trace.equalities if each.expected]
    others = [each for each in trace.equalities if each.equal and not each.expected]
    friends = [each for each in trace.equalities if not each.equal and not each.expected]
    rows = [*_shortened(rules), *_shortened(others), *map(_pair, friends)]
    columns = (Column("slice"), Column("against"), Column("equal"), Column("max abs", number=True))
    found = "no other step of y is a row of h"
    if trace.by_chance:
        found = f"{counted(trace.by_chance, 'pair')} more by chance"
    return [
        Grid("Which slice of y is which row of h, measured", (*columns, Column("why", prose=True)), tuple(rows)),
        Sentence("Searched", f"every row of h in every step of y; {found}."),
    ]


def _shortened(pairs: list[Equality]) -> list[tuple[str, ...]]:
    if len(pairs) <= MOST_PAIRS:
        return [*map(_pair, pairs)]
    between = (f"... {counted(len(pairs) - MOST_PAIRS + 1, 'pair')} like it ...", "", "", "", "")
    return [*map(_pair, pairs[: MOST_PAIRS - 2]), between, _pair(pairs[-1])]


def _pair(each: Equality) -> tuple[str, ...]:
    apart = "-" if each.max_abs is None else f"{each.max_abs:.3g}"
    return each.left, each.right, "yes" if each.equal else "no", apart, each.meaning


def _values(trace: Trace) -> Grid:
    """x, and the states of every layer after each step, of one item."""
    spec = trace.spec
    width = max(spec.input_size, spec.hidden_size)
    blank = [""] * len(_units(width))
    rows = [
        ("start", f"{name}[{row}]", *_numbers(trace.given[name][row], width))
        for name in ("h0", "c0")
        if name in trace.given
        for row in _state_rows(spec)
    ]
    for step in _steps(trace):
        rows += [("...", "", *blank)] if step is None else _at_step(trace, step, width)
    units = [Column("..." if unit is None else f"[{unit}]", number=True) for unit in _units(width)]
    title = "Numbers" if spec.unbatched else f"Numbers of item {trace.item}"
    return Grid(title, (Column("step"), Column("tensor"), *units), tuple(rows))


def _at_step(trace: Trace, step: int, width: int) -> Iterator[tuple[str, ...]]:
    yield str(step), "x", *_numbers(trace.given["x"][step], width)
    for layer in shown_layers(trace.spec):
        if layer is None:
            yield str(step), left_out(trace.spec), *[""] * len(_units(width))
            continue
        for direction in range(trace.spec.directions):
            for name, states in trace.walked[layer, direction].states.items():
                where = layer_in_words(trace.spec, layer, direction)
                yield str(step), f"{name}, {where}", *_numbers(states[step], width)


def _gates(trace: Trace) -> Page:
    """The gates of one step, and how many of their units hardly move any more."""
    spec = trace.spec
    if not GATES[spec.kind]:
        return []
    rows = []
    for layer in shown_layers(spec):
        if layer is None:
            rows.append((left_out(spec), *[""] * 5))
            continue
        for direction in range(spec.directions):
            walked = trace.walked[layer, direction]
            for gate, name in _GATE_NAMES[spec.kind].items():
                figures = _gate(walked, gate, trace.step)
                rows.append((layer_in_words(spec, layer, direction), f"{gate} ({name})", *figures))
    columns = [Column(each, number=True) for each in ("least", "mean", "greatest", "saturated")]
    title = f"Gates at step {trace.step}" + ("" if spec.unbatched else f" of item {trace.item}")
    h = "W_hr·(o·tanh(c))" if spec.proj_size else "o·tanh(c)"
    near = f"within {SATURATED} of an end: of 0 or 1, and of -1 or 1 where tanh made it"
    return [
        Grid(title, (Column("layer"), Column("gate"), *columns), tuple(rows)),
        Sentence("Gates", f"{_WHAT_GATES_DO[spec.kind].format(h=h)}."),
        Sentence("Saturated", f"{near}; what the gate is computed from hardly gets any gradient there."),
    ]


def _gate(walked: Walked, gate: str, step: int) -> tuple[str, ...]:
    values = walked.gates[gate][step].double()
    figures = (f"{float(each):.3g}" for each in (values.min(), values.mean(), values.max()))
    return *figures, f"{walked.saturated(gate)[step]} of {thousands(len(values))}"


def _findings(trace: Trace) -> list[Sentence]:
    found = [
        Sentence("Finding", f"{each.left} is not {each.right}, though torch's documentation says so.", "bad")
        for each in trace.broken[:MOST_PAIRS]
    ]
    if not isfinite(trace.distance):
        found.append(Sentence("Finding", "NaN or infinity comes out of the module, and not of the equations.", "bad"))
    if trace.first_nonfinite:
        where = place_in_words(trace.spec, trace.first_nonfinite)
        found.append(Sentence("Finding", f"NaN or infinity first comes out at {where}.", "bad"))
    return found


def _numbers(vector: "Tensor", width: int) -> tuple[str, ...]:
    """Numbers in the columns of the widest vector; a shorter one leaves those behind its end empty."""
    texts = []
    for unit in _units(width):
        if unit is None:
            texts.append("..." if len(vector) >= MOST_UNITS else "")
        else:
            texts.append(f"{float(vector[unit]):.3g}" if unit < len(vector) else "")
    return tuple(texts)


def _units(width: int) -> list[int | None]:
    return list(range(width)) if width <= MOST_UNITS else [*range(MOST_UNITS - 1), None]


def _steps(trace: Trace) -> list[int | None]:
    length = trace.length
    if length <= MOST_STEPS:
        return list(range(length))
    place = trace.first_nonfinite
    first = {place.step} if place and (place.batch or 0) == trace.item else set()
    shown = sorted({0, 1, 2, trace.step, length - 1} | first)
    found: list[int | None] = []
    for before, step in zip([-1, *shown], shown, strict=False):
        found += [None, step] if step > before + 1 else [step]
    return found


def _state_rows(spec: Spec) -> list[int]:
    """The rows of h0 and c0 that are shown."""
    layers = [layer for layer in shown_layers(spec) if layer is not None]
    return [spec.row_of(layer, direction) for layer in layers for direction in range(spec.directions)]


_GAP = "   "


_FORWARD, _BACKWARD = "──→", "←──"


_ELIDED = "..."


@dataclass(frozen=True)
class _Row:
    """A line of the drawing: its left end, the column of each step, what stands between columns, its right end.

    cell: the text of a step in a column of a width.
    """

    left: str = ""
    cell: Callable[[int, int], str] = lambda step, width: ""
    joint: str = _GAP
    right: str = ""


def unrolled(spec: Spec) -> Drawing:
    """The network over its steps. Steps that do not fit are left out in the middle, and so are layers of many."""
    return Drawing(f"{network(spec)} unrolled over {counted(spec.seq_len, 'step')}", partial(_draw, spec))


def _draw(spec: Spec, width: int) -> list[Line]:
    rows = [_step_row(spec, "y"), _edge(spec, _dims(spec, "D·H_out" if spec.bidirectional else "H_out"))]
    for layer in reversed(shown_layers(spec)):
        rows += _skipped(spec) if layer is None else _layer(spec, layer)
    rows += [_edge(spec, _dims(spec, "H_in")), _step_row(spec, "x"), *_item_counts(spec)]
    left, right = max(len(row.left) for row in rows), max(len(row.right) for row in rows)
    name = "backward" if spec.bidirectional else f"layer {thousands(spec.num_layers - 1)}"
    column = max(len(_slice_at(spec, "y", spec.seq_len - 1)), len(name) + 4)
    steps = _fitting_steps(spec.seq_len, width - left - right - 2 * (len(_GAP) + 1), column)
    lines = [_line(row, steps, column, left) for row in rows]
    if None in steps:
        lines.append(f"{'':{left}} {_GAP}left out in the middle: {counted(spec.seq_len - len(steps) + 1, 'step')}")
    return [((line.rstrip(), None),) for line in lines]


def _line(row: _Row, steps: list[int | None], column: int, left: int) -> str:
    between = _ELIDED if row.joint.strip() else _GAP
    cells = [between if step is None else f"{row.cell(step, column):^{column}}" for step in steps]
    return f"{row.left:>{left}} {row.joint}{row.joint.join(cells)}{row.joint} {row.right}"


def _fitting_steps(count: int, width: int, column: int) -> list[int | None]:
    """The steps that fit, with None where some are left out; the first and the last are always there."""
    one = column + len(_GAP)
    if count * one - len(_GAP) <= width or count <= 2:
        return list(range(count))
    fitting = max(2, (width - len(_ELIDED)) // one)
    if fitting >= count:
        return list(range(count))
    last = fitting // 2
    return [*range(fitting - last), None, *range(count - last, count)]


def _layer(spec: Spec, layer: int) -> Iterator[_Row]:
    """The boxes of a layer, one compartment a direction, and what goes up into them where there is a layer below."""
    border = f"layer {thousands(layer)}" if spec.bidirectional else ""
    yield _Row(left=border, cell=lambda step, width: f"┌{'─' * (width - 2)}┐")
    for direction in reversed(range(spec.directions)):
        row = spec.row_of(layer, direction)
        name = ("forward", "backward")[direction] if spec.bidirectional else f"layer {thousands(layer)}"
        for state, text in zip(("h", "c") if spec.kind == "lstm" else ("h",), (name, ""), strict=False):
            dims = _dims(spec, "H" if state == "c" else "H_out")
            ends = (f"{dims}  {state}0[{row}]", f"{state}[{row}]  {dims}")
            if direction:
                ends = (f"{dims}  {state}[{row}]", f"{state}0[{row}]  {dims}")
            yield _Row(ends[0], partial(_box, text), _BACKWARD if direction else _FORWARD, ends[1])
        if direction:
            yield _Row(cell=lambda step, width: f"├{'─' * (width - 2)}┤")
    yield _Row(cell=lambda step, width: f"└{'─' * (width - 2)}┘")
    if layer:
        yield _edge(spec, _dims(spec, "D·H_out" if spec.bidirectional else "H_out"))


def _box(text: str, step: int, width: int) -> str:
    return f"│{text:^{width - 2}}│"


def _skipped(spec: Spec) -> Iterator[_Row]:
    yield _Row(left=f"... {counted(spec.num_layers - 3, 'layer')}")
    yield _edge(spec, "")


def _edge(spec: Spec, dims: str) -> _Row:
    """What goes up at every step."""
    return _Row(left=dims, cell=lambda step, width: "↑")


def _step_row(spec: Spec, name: str) -> _Row:
    return _Row(cell=lambda step, width: _slice_at(spec, name, step))


def _item_counts(spec: Spec) -> Iterator[_Row]:
    """How many items a packed input has at each step."""
    if spec.lengths is not None:
        lengths = spec.lengths
        yield _Row(left="items", cell=lambda step, width: str(sum(length > step for length in lengths)))


def _slice_at(spec: Spec, name: str, step: int) -> str:
    return f"{name}[:, {step}]" if spec.batch_first and not spec.unbatched else f"{name}[{step}]"


def _dims(spec: Spec, last: str) -> str:
    return last if spec.unbatched else f"N, {last}"


def document_of_trace(trace: Trace) -> dict[str, Any]:
    place = trace.first_nonfinite
    return {
        "equalities": [asdict(each) for each in trace.equalities],
        "equal_by_chance": trace.by_chance,
        "item": trace.item,
        "step": trace.step,
        "steps": list(_step_records(trace)),
        "module_max_abs": trace.distance,
        "first_nonfinite": place and asdict(place),
    }


def _step_records(trace: Trace) -> Iterator[dict[str, Any]]:
    """One record a layer, direction and step; with its numbers where they were asked for."""
    for (layer, direction), walked in trace.walked.items():
        saturated = {name: walked.saturated(name) for name in walked.gates}
        for step in range(trace.length):
            found: dict[str, Any] = {"step": step, "layer": layer, "direction": direction}
            found["saturated"] = {name: each[step] for name, each in saturated.items()}
            if trace.values:
                found |= {name: each[step].tolist() for name, each in walked.states.items()}
                found["gates"] = {name: each[step].tolist() for name, each in walked.gates.items()}
            yield found
