"""What people are told of a trace: the network unrolled, which slices are equal, the numbers of one item."""

from collections.abc import Iterator
from math import isfinite
from typing import TYPE_CHECKING

from rnnscope.network.dims import GATES
from rnnscope.pages.page import (
    Column,
    Grid,
    Page,
    Sentence,
    counted,
    layer_in_words,
    left_out,
    place_in_words,
    shown_layers,
    sizes_in_words,
    thousands,
    where_it_ran,
)
from rnnscope.spec.spec import Spec
from rnnscope.tracing.result import SATURATED, Equality, Trace, Walked
from rnnscope.tracing.unrolled import unrolled

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
    return [*page, Sentence("Run", where_it_ran(trace)), Sentence("Rerun", trace.rerun, verbatim=True)]


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
