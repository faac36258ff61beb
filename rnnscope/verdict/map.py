"""Draws the map of the differences of each layer and step as text, readable without colour and in ASCII."""

import math
import textwrap
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby

from rnnscope.network.shapes import GATES, layer_in_words, shown_layers
from rnnscope.pages.page import Drawing, Line, Page, Sentence, counted
from rnnscope.spec.question import nan_last
from rnnscope.spec.spec import Spec
from rnnscope.verdict.places import HeatMap, HeatRow

_MOST_LEVELS = 9
"""A level is one digit."""

_EQUAL, _NONFINITE, _MARK = ".", "N", "!"

_LEAST_CELLS = 10

_SHADES = (None, "bright_blue", "magenta")
"""From small to great, readable on a dark and on a light ground. Red is kept for what is over its bound."""


class _Scale:
    """Digits for ever greater differences: three a decade, or one if three are too many."""

    def __init__(self, rows: Sequence[HeatRow]) -> None:
        found = [each for row in rows for each in row.max_abs if 0 < each < math.inf]
        self.ends = _ends(min(found), max(found)) if found else []
        self.has_nonfinite = any(not math.isfinite(each) for row in rows for each in row.max_abs)

    def sign(self, value: float) -> str:
        if not math.isfinite(value):
            return _NONFINITE
        return str(bisect_right(self.ends, value) + 1) if value else _EQUAL

    def shade(self, sign: str) -> str | None:
        if sign in (_MARK, _NONFINITE):
            return "bold red"
        return None if sign == _EQUAL else _SHADES[(int(sign) - 1) * len(_SHADES) // len(self.ends)]


def heat_page(spec: Spec, heat: HeatMap, limit: str) -> Page:
    """The map and what explains it.

    Args:
        limit: what a cell may be over: its bound or its tolerance.
    """
    if not heat.rows:
        return [Sentence("Map", "none, since the shapes differ.")]
    page: Page = [Drawing("Greatest difference of each layer and step", partial(_draw, spec, heat))]
    if heat.first_over is None:
        page.append(Sentence("Map", f"nothing is marked, since no output is over its {limit}."))
    else:
        step, layer, way = heat.first_over
        place = f"step {step}, {layer_in_words(spec, layer, way)}"
        page.append(Sentence("Map", f"{_MARK} marks {place}, the first over its {limit}."))
    if not heat.whole:
        why = "a side cannot show the layers below the top one, so that they and the gates are not drawn."
        page.append(Sentence("Note", why))
    elif GATES[spec.kind]:
        page.append(Sentence("Gates", "what the equations make of each side's own weights and states, in float64."))
    return page


def _draw(spec: Spec, heat: HeatMap, width: int) -> list[Line]:
    drawn = {layer for layer in (*shown_layers(spec), heat.first_over and heat.first_over[1]) if layer is not None}
    rows = [row for row in heat.rows if row.layer in drawn]
    scale, labels, ends = _Scale(rows), [_label(spec, row) for row in rows], [_greatest(row) for row in rows]
    left, steps = max(map(len, labels)), len(rows[0].max_abs)
    per = math.ceil(steps / max(width - left - max(map(len, ends)) - 5, _LEAST_CELLS))
    lines: list[Line] = []
    for row, label, end in zip(rows, labels, ends, strict=True):
        shaded = (("".join(run), shade) for shade, run in groupby(_signs(heat, row, scale, per), key=scale.shade))
        lines.append(((f"{label:<{left}} |", None), *shaded, (f"|  {end}", None)))
    last = f"{steps - 1:>{max(math.ceil(steps / per) - 1, len(str(steps - 1)) + 1)}}" if steps > 1 else ""
    words = [f"{'step':>{left}}  0{last}", *_legend(scale, per, steps, width)]
    if hidden := len({row.layer for row in heat.rows} - drawn):
        words.append(f"Not drawn: {counted(hidden, 'layer')} more.")
    return [*lines, *(((line, None),) for line in words)]


def _signs(heat: HeatMap, row: HeatRow, scale: _Scale, per: int) -> Iterator[str]:
    """The signs of a row, each of so many steps; the first cell over its bound is marked in the row of the state."""
    first = heat.first_over
    marked = first[0] // per if first and row.gate is None and first[1:] == (row.layer, row.direction) else None
    for number, start in enumerate(range(0, len(row.max_abs), per)):
        yield _MARK if number == marked else scale.sign(max(row.max_abs[start : start + per], key=nan_last))


def _label(spec: Spec, row: HeatRow) -> str:
    what = row.gate or ("y" if row.layer == spec.num_layers - 1 else "h")
    return f"{layer_in_words(spec, row.layer, row.direction)}, {what}"


def _greatest(row: HeatRow) -> str:
    value = max(row.max_abs, key=nan_last)
    return "equal" if value == 0 else f"{value:.3g} at step {row.max_abs.index(value)}"


def _ends(least: float, greatest: float) -> list[float]:
    """The upper end of each level: the finest levels that are not too many."""
    decades = range(math.floor(math.log10(least)), math.floor(math.log10(greatest)) + 1)
    ends = [float(f"{digit}e{decade}") for decade in decades for digit in (2, 5, 10)]
    ends = ends[bisect_right(ends, least) : bisect_right(ends, greatest) + 1]
    if len(ends) <= _MOST_LEVELS:
        return ends
    per = math.ceil(len(decades) / _MOST_LEVELS)
    return [float(f"1e{decade + per}") for decade in decades[::per]]


def _legend(scale: _Scale, per: int, steps: int, width: int) -> Iterator[str]:
    """What each sign stands for, and how many steps a character does."""
    words = [f"{_EQUAL} equal", *(f"{level} below {end:g}" for level, end in enumerate(scale.ends, 1))]
    words += [f"{_NONFINITE} NaN or infinity"] if scale.has_nonfinite else []
    unbroken = "  ".join(["Scale:", *(word.replace(" ", "\xa0") for word in words)])
    for line in textwrap.wrap(unbroken, width, subsequent_indent="        "):
        yield line.replace("\xa0", " ")
    if per > 1:
        of_last = f", the last of {steps % per}" if steps % per else ""
        yield from textwrap.wrap(f"Each character is the greatest of {per} steps{of_last}.", width)
