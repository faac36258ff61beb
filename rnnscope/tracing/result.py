"""What a trace found: which slices are equal, what every step gave, where the first NaN is; and the page that tells it.

The page has the network unrolled, which slices are equal, and the numbers of one item.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from math import isfinite
from typing import Any, ClassVar

from torch import Tensor

from rnnscope.help.explain import more
from rnnscope.network import shapes as network
from rnnscope.network.shapes import Place
from rnnscope.pages.page import Column, Drawing, Grid, Line, Page, Sentence, counted, thousands, where_it_ran
from rnnscope.pages.render import SpecResult
from rnnscope.spec.options import ITEM, NO_FILES, STEP, VALUES, Sources
from rnnscope.spec.spec import Spec

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

    states: Mapping[str, Tensor]
    gates: Mapping[str, Tensor]

    def saturated(self, gate: str) -> list[int]:
        """How many units of a gate are within SATURATED of an end of its range, at each step."""
        values = self.gates[gate].double()
        least, greatest = (-1.0, 1.0) if gate in "gn" else (0.0, 1.0)
        counts: list[int] = ((values - least < SATURATED) | (greatest - values < SATURATED)).sum(-1).tolist()
        return counts


@dataclass(frozen=True, eq=False, repr=False)
class Trace(SpecResult):
    """One run of a network, step by step.

    Args:
        spec: with its device made definite.
        item: whose steps these are.
        step: whose gates the page has.
        values: whether numbers were asked for.
        equalities: the pairs that are equal, and pairs that are easily taken for it.
        by_chance: how many are equal though no rule says so; the first ones are among the equalities.
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
    given: Mapping[str, Tensor]
    walked: Mapping[tuple[int, int], Walked]
    distance: float
    first_nonfinite: Place | None
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
    def more(self) -> tuple[str, ...]:
        """What `rnnscope explain` has a page of."""
        spec = self.spec
        found = {"nonfinite": self.first_nonfinite, "last_state": True, "packed": spec.lengths}
        found["batch_first"] = spec.batch_first and not spec.unbatched
        return tuple(name for name, is_told in found.items() if is_told)

    @property
    def rerun(self) -> str:
        step = None if self.step == self.length - 1 else self.step
        return self.line((VALUES, self.values), (ITEM, self.item), (STEP, step))

    def page(self) -> Page:
        """The drawing, the tables and the sentences of `rnnscope trace`."""
        spec = self.spec
        page: Page = [unrolled(spec)]
        if spec.lengths is not None:  # the drawing is of the longest item
            starts = ", and starts its backward direction," if spec.bidirectional else ""
            text = f"how many sequences have the step; each leaves its h{starts} at its own last one."
            page.append(Sentence("Items", text))
        page += [Sentence("Sizes", network.sizes_in_words(spec)), *_pairs_of_slices(self)]
        if self.values:
            told = f"of the equations; y of the module is at most {self.distance:.3g} from them."
            page += [_values(self), Sentence("Numbers", told), *_gates(self)]
        return [
            *page,
            *_findings(self),
            *more(self.more),
            Sentence("Run", where_it_ran(self.device_name, spec.dtype, self.threads, self.torch_version)),
            Sentence("Rerun", self.rerun, verbatim=True),
        ]

    def facts(self) -> dict[str, Any]:
        """The pairs of slices, and a record for each step."""
        place = self.first_nonfinite
        return {
            "equalities": [asdict(each) for each in self.equalities],
            "equal_by_chance": self.by_chance,
            "item": self.item,
            "step": self.step,
            "steps": list(_step_records(self)),
            "module_max_abs": self.distance,
            "first_nonfinite": place and asdict(place),
            "more": list(self.more),
        }

    def records(self) -> Iterator[dict[str, Any]]:
        """One record for each pair of slices."""
        return (asdict(each) for each in self.equalities)


MOST_UNITS = 5
"""A vector of more numbers is cut short."""

MOST_STEPS = 5
"""An item of more steps has these on its page: the first ones, the one whose gates stand there, and the last."""

MOST_PAIRS = 6
"""Of more pairs of one kind the first ones and the last are on the page."""

_GATE_NAMES = {
    "lstm": {"i": "input", "f": "forget", "g": "cell", "o": "output"},
    "gru": {"r": "reset", "z": "update", "n": "new"},
}

_WHAT_GATES_DO = {
    "lstm": "c = f·c + i·g and h = {h}: f keeps the old c, i lets g in, o lets c out",
    "gru": "h = (1 - z)·n + z·h: z keeps the old h, r lets it into n",
}


def _pairs_of_slices(trace: Trace) -> Page:
    rules = [each for each in trace.equalities if each.expected]
    others = [each for each in trace.equalities if each.equal and not each.expected]
    false_friends = [each for each in trace.equalities if not each.equal and not each.expected]
    rows = [*_shortened(rules), *_shortened(others), *map(_pair, false_friends)]
    columns = (Column("slice"), Column("against", prose=True), Column("equal"), Column("max abs", number=True))
    by_chance = f"{counted(trace.by_chance, 'pair')} more by chance"
    found = by_chance if trace.by_chance else "no other step of y is a row of h"
    return [
        Grid("Which slice of y is which row of h, measured", (*columns, Column("why", prose=True)), tuple(rows)),
        Sentence("Searched", f"every row of h in every step of y; {found}."),
    ]


def _shortened(pairs: list[Equality]) -> list[tuple[str, ...]]:
    rows = [*map(_pair, pairs)]
    if len(rows) > MOST_PAIRS:
        between = (f"... {counted(len(rows) - MOST_PAIRS + 1, 'pair')} ...", "", "", "", "")
        rows[MOST_PAIRS - 2 : -1] = [between]
    return rows


def _pair(each: Equality) -> tuple[str, ...]:
    apart = "-" if each.max_abs is None else f"{each.max_abs:.3g}"
    return each.left, each.right, "yes" if each.equal else "no", apart, each.meaning


def _places(spec: Spec) -> Iterator[tuple[int, int] | None]:
    """Each layer on the page in each direction, with None for the layers that are left out."""
    for layer in network.shown_layers(spec):
        if layer is None:
            yield None
        else:
            yield from ((layer, direction) for direction in range(spec.directions))


def _values(trace: Trace) -> Grid:
    """x, and the states of every layer after each step, of one item."""
    spec, given = trace.spec, trace.given
    width = max(spec.input_size, spec.hidden_size)
    units = [f"[{unit}]" for unit in range(min(width, MOST_UNITS))]
    if width > MOST_UNITS:
        units[-1] = "..."
    blank = [""] * len(units)
    rows_of_h = [spec.row_of(*place) for place in _places(spec) if place]
    states = [name for name in ("h0", "c0") if name in given]
    rows = [("start", f"{name}[{row}]", *_numbers(given[name][row], width)) for name in states for row in rows_of_h]
    for step in _steps(trace):
        if step is None:
            rows.append(("...", "", *blank))
            continue
        rows.append((str(step), "x", *_numbers(given["x"][step], width)))
        for place in _places(spec):
            if place is None:
                rows.append((str(step), network.left_out(spec), *blank))
                continue
            where = network.layer_in_words(spec, *place)
            for name, each in trace.walked[place].states.items():
                rows.append((str(step), f"{name}, {where}", *_numbers(each[step], width)))
    title = "Numbers" if spec.unbatched else f"Numbers of item {trace.item}"
    columns = (Column("step"), Column("tensor", prose=True), *(Column(unit, number=True) for unit in units))
    return Grid(title, columns, tuple(rows), keys=2)


def _numbers(vector: Tensor, width: int) -> list[str]:
    """Numbers in the columns of the widest vector; a shorter one leaves those behind its end empty."""
    texts = [f"{number:.3g}" for number in vector[:MOST_UNITS].tolist()]
    if len(texts) == MOST_UNITS < width:
        texts[-1] = "..."
    return texts + [""] * (min(width, MOST_UNITS) - len(texts))


def _steps(trace: Trace) -> Iterator[int | None]:
    """The steps on the page, with None for those that are left out."""
    length, place = trace.length, trace.first_nonfinite
    steps = set(range(length))
    if length > MOST_STEPS:
        steps = {0, 1, 2, trace.step, length - 1}
        if place and (place.batch or 0) == trace.item:
            steps.add(place.step)
    for step in sorted(steps):
        if step and step - 1 not in steps:
            yield None
        yield step


def _gates(trace: Trace) -> Page:
    """The gates of one step, and how many of their units hardly move any more."""
    spec, step = trace.spec, trace.step
    if not network.GATES[spec.kind]:
        return []
    rows: list[tuple[str, ...]] = []
    for place in _places(spec):
        if place is None:
            rows.append((network.left_out(spec), *[""] * 5))
            continue
        walked = trace.walked[place]
        for gate, name in _GATE_NAMES[spec.kind].items():
            values = walked.gates[gate][step].double()
            figures = (f"{float(each):.3g}" for each in (values.min(), values.mean(), values.max()))
            saturated = f"{walked.saturated(gate)[step]} of {thousands(len(values))}"
            rows.append((network.layer_in_words(spec, *place), f"{gate} ({name})", *figures, saturated))
    columns = [Column(each, number=True) for each in ("least", "mean", "greatest", "saturated")]
    title = f"Gates at step {step}" + ("" if spec.unbatched else f" of item {trace.item}")
    h = "W_hr·(o·tanh(c))" if spec.proj_size else "o·tanh(c)"
    near = f"within {SATURATED} of an end: of 0 or 1, and of -1 or 1 where tanh made it"
    return [
        Grid(title, (Column("layer"), Column("gate"), *columns), tuple(rows)),
        Sentence("Gates", f"{_WHAT_GATES_DO[spec.kind].format(h=h)}."),
        Sentence("Saturated", f"{near}; what the gate is computed from hardly gets any gradient there."),
    ]


def _findings(trace: Trace) -> list[Sentence]:
    found = [f"{each.left} is not {each.right}, though torch's documentation says so." for each in trace.broken]
    found = found[:MOST_PAIRS]
    if not isfinite(trace.distance):
        found.append("NaN or infinity comes out of the module, and not of the equations.")
    if trace.first_nonfinite:
        found.append(f"NaN or infinity first comes out at {network.place_in_words(trace.spec, trace.first_nonfinite)}.")
    return [Sentence("Finding", each, "bad") for each in found]


_GAP, _ELIDED = "   ", "..."


@dataclass(frozen=True, eq=False, repr=False)
class _Row:
    """A line of the drawing: its left end, the text of each step, what stands between the steps, its right end.

    cell: one text for all steps, or what gives that of a step.
    """

    left: str
    cell: str | Callable[[int], str]
    joint: str = _GAP
    right: str = ""

    def at(self, step: int) -> str:
        return self.cell if isinstance(self.cell, str) else self.cell(step)


def unrolled(spec: Spec) -> Drawing:
    """The network over its steps. Steps that do not fit are left out in the middle, and so are layers of many."""
    title = f"{network.network_in_words(spec)} unrolled over {counted(spec.seq_len, 'step')}"
    return Drawing(title, partial(_draw, spec))


def _draw(spec: Spec, width: int) -> list[Line]:
    items = ":, " if spec.batch_first and not spec.unbatched else ""
    name = "backward" if spec.bidirectional else f"layer {thousands(spec.num_layers - 1)}"
    column = max(len(f"y[{items}{spec.seq_len - 1}]"), len(f"│ {name} │"))
    rows = [_Row("", lambda step: f"y[{items}{step}]"), _upward(spec, "D·H_out")]
    for layer in reversed(network.shown_layers(spec)):
        if layer is None:
            rows += [_Row(f"... {counted(spec.num_layers - 3, 'layer')}", ""), _Row("", "↑")]
        else:
            rows += _layer(spec, layer, column)
    rows += [_upward(spec, "H_in"), _Row("", lambda step: f"x[{items}{step}]")]
    if (lengths := spec.lengths) is not None:
        rows.append(_Row("items", lambda step: str(sum(length > step for length in lengths))))
    left, right = max(len(row.left) for row in rows), max(len(row.right) for row in rows)
    steps = _fitting_steps(spec.seq_len, width - left - right - 2 * (len(_GAP) + 1), column)
    lines = []
    for row in rows:
        between = _GAP if row.joint == _GAP else _ELIDED
        cells = row.joint.join(between if step is None else f"{row.at(step):^{column}}" for step in steps)
        lines.append(f"{row.left:>{left}} {row.joint}{cells}{row.joint} {row.right}")
    if None in steps:
        lines.append(f"{'':{left}} {_GAP}left out in the middle: {counted(spec.seq_len - len(steps) + 1, 'step')}")
    return [((line.rstrip(), None),) for line in lines]


def _fitting_steps(count: int, width: int, column: int) -> list[int | None]:
    """The steps that fit, with None where some are left out; the first and the last are always there."""
    one = column + len(_GAP)
    fitting = max(2, (width - len(_ELIDED)) // one)
    if count <= fitting or count * one - len(_GAP) <= width:
        return list(range(count))
    last = fitting // 2
    return [*range(fitting - last), None, *range(count - last, count)]


def _layer(spec: Spec, layer: int, column: int) -> Iterator[_Row]:
    """The boxes of a layer, one compartment a direction, and what goes up into them where there is a layer below."""
    name, bar = f"layer {thousands(layer)}", "─" * (column - 2)
    yield _Row(name if spec.bidirectional else "", f"┌{bar}┐")
    for direction in reversed(range(spec.directions)):
        row = spec.row_of(layer, direction)
        text = ("forward", "backward")[direction] if spec.bidirectional else name
        for state, size, words in [("h", "H_out", text), ("c", "H", "")][: 2 if spec.kind == "lstm" else 1]:
            enters, leaves, dims = f"{state}0[{row}]", f"{state}[{row}]", _dims(spec, size)
            left, arrow, right = (leaves, "←──", enters) if direction else (enters, "──→", leaves)
            box = f"│{words:^{column - 2}}│"
            yield _Row(f"{dims}  {left}", box, arrow, f"{right}  {dims}")
        if direction:
            yield _Row("", f"├{bar}┤")
    yield _Row("", f"└{bar}┘")
    if layer:
        yield _upward(spec, "D·H_out")


def _upward(spec: Spec, features: str) -> _Row:
    """What goes up at every step."""
    return _Row(_dims(spec, features if spec.bidirectional else features.removeprefix("D·")), "↑")


def _dims(spec: Spec, features: str) -> str:
    return features if spec.unbatched else f"N, {features}"


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
