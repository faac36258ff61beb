"""The drawing of `compare --map`: what each sign says, whatever the width."""

import math
import re
from dataclasses import replace

import pytest

from rnnscope import Spec
from rnnscope.pages.page import Drawing, Sentence
from rnnscope.verdict.map import heat_page
from rnnscope.verdict.places import HeatMap, HeatRow


def row(*values: float, layer: int = 0, gate: str | None = None) -> HeatRow:
    return HeatRow(layer, 0, gate, values)


ONE = Spec(num_layers=1)


def drawn(width: int, *rows: HeatRow, first: tuple[int, int, int] | None = None, spec: Spec = ONE) -> list[str]:
    drawing = heat_page(spec, HeatMap(rows, first, whole=True), "bound")[0]
    assert isinstance(drawing, Drawing)
    return ["".join(text for text, _ in line) for line in drawing.draw(width)]


def cells(line: str) -> str:
    return line.split("|")[1]


@pytest.mark.parametrize(
    ("values", "signs", "scale"),
    [
        ((0.0, 0.0), "..", ". equal"),
        ((1e-7, 1e-7), "11", ". equal  1 below 2e-07"),
        ((1.5e-7, 3e-7, 0.0, 9e-7), "12.3", ". equal  1 below 2e-07  2 below 5e-07  3 below 1e-06"),
        ((2e-7, 5e-7), "12", ". equal  1 below 5e-07  2 below 1e-06"),
        ((1e-16, 0.5), "18", "8 below 1"),
        ((1e-9, 1e-8, 1e-7, 1e-3), "1237", "7 below 0.01"),
        ((math.nan, math.inf, 1.0), "NN1", "N NaN or infinity"),
    ],
    ids=str,
)
def test_a_sign_says_below_what_a_difference_is(values: tuple[float, ...], signs: str, scale: str) -> None:
    lines = drawn(200, row(*values))
    assert cells(lines[0]) == signs
    assert scale in lines[2]


@pytest.mark.parametrize("exponent", [-300, -20, -7, 0, 5, 200])
@pytest.mark.parametrize("decades", [0, 1, 2, 3, 5, 9, 12, 40, 100])
def test_every_difference_is_below_what_its_sign_says_and_not_below_the_one_before(exponent: int, decades: int) -> None:
    values = tuple(10.0 ** (exponent + decades * part / 20) for part in range(21))
    lines = drawn(2000, row(*values))
    scale = "  ".join(drawn(2000, row(*values))[2:])
    ends = [0.0, *(float(each.split(" below ")[1]) for each in scale.split("  ") if " below " in each)]
    assert len(ends) <= 10
    assert [
        v for v, sign in zip(values, cells(lines[0]), strict=True) if not ends[int(sign) - 1] <= v < ends[int(sign)]
    ] == []


def test_long_sequences_are_binned_by_their_maximum() -> None:
    values = [1e-9] * 1003
    values[517] = 1e-3
    lines = drawn(60, row(*values))
    assert cells(lines[0]).count("7") == 1
    per = math.ceil(1003 / len(cells(lines[0])))
    assert cells(lines[0])[517 // per] == "7"
    assert lines[-1].startswith("Each character is the greatest of ")
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize("steps", [1, 2, 59, 60, 61, 1000, 99_999])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_map_fits_the_width_and_says_of_how_many_steps_a_character_is(steps: int, width: int) -> None:
    lines = drawn(width, row(*[1e-7] * steps))
    found = cells(lines[0])
    says = re.search(r"is the greatest of (\d+) steps", " ".join(lines[2:]))
    per = int(says[1]) if says else 1
    assert len(found) == math.ceil(steps / per)
    assert max(map(len, lines)) <= width


def test_the_marked_cell_is_in_its_bin() -> None:
    lines = drawn(
        50, row(*[1e-7] * 100), row(*[1e-7] * 100, gate="f"), first=(99, 0, 0), spec=replace(ONE, kind="lstm")
    )
    assert cells(lines[0]).endswith("1!")
    assert "!" not in cells(lines[1])


def test_what_is_marked_is_said() -> None:
    page = heat_page(Spec(bidirectional=True), HeatMap((row(1.0),), (3, 0, 1), whole=True), "tolerance")
    assert page[1] == Sentence("Map", "! marks step 3, layer 0, backward, the first over its tolerance.")


def test_of_many_layers_some_are_drawn_and_always_the_marked_one() -> None:
    rows = [row(1.0, layer=layer) for layer in reversed(range(9))]
    lines = drawn(80, *rows, first=(0, 5, 0), spec=Spec(num_layers=9))
    assert [line.split(",")[0] for line in lines if "|" in line] == ["layer 8", "layer 5", "layer 1", "layer 0"]
    assert lines[-1] == "Not drawn: 5 layers more."
