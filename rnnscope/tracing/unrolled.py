"""Draws a network unrolled: layers from bottom to top, steps from left to right, and where x, h and y enter and leave.

From a Spec alone; the lines are text for any width. What the tensors hold on a run is found out in tracing.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from rnnscope.pages.page import Drawing, Line, counted, network, shown_layers, thousands
from rnnscope.spec.spec import Spec

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
    rows += [_edge(spec, _dims(spec, "H_in")), _step_row(spec, "x"), *_items(spec)]
    left, right = max(len(row.left) for row in rows), max(len(row.right) for row in rows)
    name = "backward" if spec.bidirectional else f"layer {thousands(spec.num_layers - 1)}"
    column = max(len(_at_step(spec, "y", spec.seq_len - 1)), len(name) + 4)
    steps = _steps(spec.seq_len, width - left - right - 2 * (len(_GAP) + 1), column)
    lines = [_line(row, steps, column, left) for row in rows]
    if None in steps:
        lines.append(f"{'':{left}} {_GAP}left out in the middle: {counted(spec.seq_len - len(steps) + 1, 'step')}")
    return [((line.rstrip(), None),) for line in lines]


def _line(row: _Row, steps: list[int | None], column: int, left: int) -> str:
    between = _ELIDED if row.joint.strip() else _GAP
    cells = [between if step is None else f"{row.cell(step, column):^{column}}" for step in steps]
    return f"{row.left:>{left}} {row.joint}{row.joint.join(cells)}{row.joint} {row.right}"


def _steps(count: int, width: int, column: int) -> list[int | None]:
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
    return _Row(cell=lambda step, width: _at_step(spec, name, step))


def _items(spec: Spec) -> Iterator[_Row]:
    """How many items a packed input has at each step."""
    if spec.lengths is not None:
        lengths = spec.lengths
        yield _Row(left="items", cell=lambda step, width: str(sum(length > step for length in lengths)))


def _at_step(spec: Spec, name: str, step: int) -> str:
    return f"{name}[:, {step}]" if spec.batch_first and not spec.unbatched else f"{name}[{step}]"


def _dims(spec: Spec, last: str) -> str:
    return last if spec.unbatched else f"N, {last}"
