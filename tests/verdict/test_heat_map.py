"""`compare --map`: the cells are the differences that two runs by hand give, and the page says what each sign means."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Answer
from torch import Tensor, nn

from rnnscope import Spec, StackedCells, compare
from rnnscope.network.costs import needed_bytes
from rnnscope.network.weights import draw_input, draw_weights
from rnnscope.pages.page import Drawing, Sentence
from rnnscope.spec.spec import KINDS
from rnnscope.subjects.builtin import SUBJECTS
from rnnscope.verdict.page import heat_page
from rnnscope.verdict.places import HeatMap, HeatRow

Cli = Callable[..., Answer]
OWN = f"{Path(__file__).parent / 'own_networks.py'}:"


def heat_of(spec: Spec, *sides: str, **question: Any) -> HeatMap:
    found = compare(spec, *sides, map=True, **question).heat_map
    assert found is not None
    return found


def figures(heat: HeatMap) -> dict[tuple[int, int, str | None], tuple[float, ...]]:
    return {(row.layer, row.direction, row.gate): row.max_abs for row in heat.rows}


def greatest(spec: Spec, apart: Tensor) -> Tensor:
    """(D, L) of a difference of y."""
    if spec.unbatched:
        apart = apart.unsqueeze(1)
    elif spec.batch_first:
        apart = apart.transpose(0, 1)
    halves = apart.abs().chunk(spec.directions, -1)
    return torch.stack([half.flatten(1).amax(1) for half in halves])


@pytest.mark.parametrize("layout", [{}, {"batch_first": True}, {"unbatched": True}, {"lengths": (4, 2, 3)}], ids=str)
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_top_row_is_the_difference_of_y(kind: str, both: bool, layout: dict[str, Any]) -> None:
    spec = Spec(kind=kind, bidirectional=both, **layout)
    weights, given = draw_weights(spec), draw_input(spec)
    with torch.no_grad():
        left, right = (SUBJECTS[name](spec, weights, given) for name in ("module", "equations"))
    heat = heat_of(spec, "module", "equations")
    expected = greatest(spec, right.y.double() - left.y.double())
    for one, other in zip(left.state, right.state, strict=True):  # the last h and c are in the last cell
        apart = (one.double() - other.double()).abs().reshape(2, spec.directions, spec.batch_size, -1).amax(-1)
        for item, length in enumerate(spec.lengths or [spec.seq_len] * spec.batch_size):
            for way, end in ((0, length - 1), (1, 0))[: spec.directions]:
                expected[way, end] = max(expected[way, end], apart[1, way, item])
    found = figures(heat)
    assert [list(found[1, way, None]) for way in range(spec.directions)] == expected.tolist()


def test_lower_layers_are_the_differences_of_what_goes_up() -> None:
    spec = Spec(kind="gru", num_layers=3, bidirectional=True)
    weights, given = draw_weights(spec), draw_input(spec)
    lower = {name: each for name, each in weights.items() if "_l2" not in name}
    module = nn.GRU(10, 20, 2, bidirectional=True)
    module.load_state_dict(lower)
    cells = StackedCells.from_module(module)
    with torch.no_grad():
        pair = [network(given.x, given.state[0][:4])[0] for network in (module, cells)]
    expected = greatest(spec, pair[1].double() - pair[0].double())
    found = figures(heat_of(spec))
    assert [list(found[1, way, None]) for way in range(2)] == expected.tolist()


def test_the_rows_are_in_the_order_of_the_drawing() -> None:
    rows = heat_of(Spec(kind="gru", bidirectional=True)).rows
    order = [(row.layer, row.direction, row.gate) for row in rows]
    assert order == [(layer, way, gate) for layer in (1, 0) for way in (0, 1) for gate in (None, "r", "z", "n")]


def gates_by_hand(spec: Spec, weights: dict[str, Tensor], x: Tensor, y: Tensor, h0: Tensor) -> Tensor:
    """i, f, g, o of the backward direction of one layer, item by item and step by step: (4, L, N, H)."""
    w_ih, w_hh = weights["weight_ih_l0_reverse"].double(), weights["weight_hh_l0_reverse"].double()
    bias = weights["bias_ih_l0_reverse"].double() + weights["bias_hh_l0_reverse"].double()
    found = torch.zeros(4, spec.seq_len, spec.batch_size, spec.hidden_size, dtype=torch.float64)
    for item, length in enumerate(spec.lengths or ()):
        for step in reversed(range(length)):
            before = h0[item] if step == length - 1 else y[step + 1, item]
            i, f, g, o = (w_ih @ x[step, item].double() + w_hh @ before.double() + bias).chunk(4)
            found[:, step, item] = torch.stack((i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()))
    return found


def test_gates_are_what_the_equations_make_of_the_states() -> None:
    spec = Spec(kind="lstm", num_layers=1, bidirectional=True, lengths=(4, 2, 3))
    weights, given = draw_weights(spec), draw_input(spec)
    with torch.no_grad():
        pair = [
            gates_by_hand(spec, weights, given.x, SUBJECTS[name](spec, weights, given).y[..., 20:], given.state[0][1])
            for name in ("module", "equations")
        ]
    expected = (pair[1] - pair[0]).abs().flatten(2).amax(2)
    found = figures(heat_of(spec, "module", "equations"))
    for at, gate in enumerate("ifgo"):
        assert found[0, 1, gate] == pytest.approx(expected[at].tolist(), rel=1e-6, abs=1e-17)


def test_weights_that_differ_show_in_their_gate_at_the_first_step(cli: Cli, tmp_path: Path) -> None:
    weights = nn.LSTM(10, 20).state_dict()
    torch.save(weights, tmp_path / "left.pt")
    weights["bias_ih_l0"][20:40] += 1  # the forget gate
    torch.save(weights, tmp_path / "right.pt")
    files = ("--weights", str(tmp_path / "left.pt"), "--right-weights", str(tmp_path / "right.pt"))
    rows = json.loads(cli("compare", *files, "--map", "--json").out)["map"]["rows"]
    first = {row["gate"]: row["max_abs"][0] for row in rows}
    assert first.pop("f") > 0.1
    assert first.pop(None) > 0.01
    assert first == {"i": 0.0, "g": 0.0, "o": 0.0}


def test_another_formula_shows_in_the_state_first() -> None:
    heat = heat_of(Spec(kind="lstm", num_layers=1), "module", f"{OWN}Iofg")
    first = {row.gate: row.max_abs[0] for row in heat.rows}
    assert first.pop(None) > 0.01
    assert first == {"i": 0.0, "f": 0.0, "g": 0.0, "o": 0.0}
    assert heat.first_over == (0, 0, 0)


def test_the_first_cell_over_its_bound_is_that_of_the_first_divergence() -> None:
    comparison = compare(Spec(kind="lstm", num_layers=3, seq_len=9), "module", f"{OWN}IgnoresRecurrent", map=True)
    place, heat = comparison.first_divergence, comparison.heat_map
    assert place is not None
    assert heat is not None
    assert heat.first_over == (place.step, place.layer, place.direction) == (0, 0, 0)


def test_equal_sides_have_no_difference_anywhere() -> None:
    heat = heat_of(Spec(kind="gru"), "module", "module")
    assert {value for row in heat.rows for value in row.max_abs} == {0.0}
    assert heat.first_over is None


def test_the_first_cell_over_a_tolerance_is_marked() -> None:
    """The equations in bfloat16, and a tolerance that only the greatest of their differences is over."""
    spec, sides = Spec(num_layers=1, seq_len=6), ("module", "equations@cpu/bfloat16")
    values = heat_of(spec, *sides).rows[0].max_abs
    greatest_step = values.index(max(values))
    over = heat_of(spec, *sides, rtol=0.0, atol=max(values) * 0.999)
    assert over.first_over == (greatest_step, 0, 0)


OFF = """
import torch
from torch import nn


class Off(nn.Module):
    def __init__(self, input_size, hidden_size, num_layers):
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers)

    def forward(self, x, hx):
        y, (h, c) = self.lstm(x, hx)
        return {result}


class Rolled(nn.Module):
    def __init__(self, input_size, hidden_size, num_layers):
        super().__init__()
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.layers = nn.ModuleList(nn.LSTM(size, hidden_size) for size in sizes)

    def load_state_dict(self, weights, *args, **kwargs):
        for number, layer in enumerate(self.layers):
            names = {{name: f"{{name[:-1]}}{{number}}" for name in layer.state_dict()}}
            layer.load_state_dict({{name: weights[other] for name, other in names.items()}})

    def forward(self, x, hx):
        states = []
        for number, layer in enumerate(self.layers):
            x, state = layer(x.roll(1, 0) if number else x, (hx[0][number, None], hx[1][number, None]))
            states.append(state)
        return x, tuple(map(torch.cat, zip(*states)))
"""


@pytest.mark.parametrize("result", ["(y, (h + 0.01, c))", "(y, (h, c * 1.5))"], ids=["h", "c"])
def test_a_last_state_that_is_off_shows_in_the_cell_that_is_marked(result: str, tmp_path: Path) -> None:
    (tmp_path / "off.py").write_text(OFF.format(result=result))
    heat = heat_of(Spec(kind="lstm", num_layers=1, seq_len=6), "module", f"{tmp_path}/off.py:Off")
    assert heat.first_over == (5, 0, 0)
    values = figures(heat)[0, 0, None]
    assert values[:5] == (0.0,) * 5
    assert values[5] > 0.005


def test_layers_that_are_wired_wrongly_show_in_y(tmp_path: Path) -> None:
    (tmp_path / "off.py").write_text(OFF.format(result="(y, (h, c))"))
    comparison = compare(Spec(kind="lstm"), "module", f"{tmp_path}/off.py:Rolled", map=True)
    assert comparison.heat_map is not None
    top = figures(comparison.heat_map)[1, 0, None]
    assert max(top) == max(each.max_abs or 0 for each in comparison.outputs)
    assert comparison.verdict == "different"


def test_a_tolerance_binds_the_last_states_too() -> None:
    spec, sides = Spec(kind="lstm", num_layers=1, seed=1), ("module", "equations@cpu/bfloat16")
    rows = {each.name: each.max_abs or 0.0 for each in compare(spec, *sides).outputs}
    assert rows["c"] > rows["y"]
    assert heat_of(spec, *sides, rtol=0.0, atol=(rows["c"] + rows["y"]) / 2).first_over == (2, 0, 0)


def test_layers_below_the_top_are_held_to_no_tolerance() -> None:
    spec, sides = Spec(seq_len=8, seed=3), ("module", "equations@cpu/bfloat16")
    comparison = compare(
        spec, *sides, rtol=0.0, atol=max(each.max_abs or 0.0 for each in compare(spec, *sides).outputs)
    )
    assert comparison.exit_code == 0
    assert heat_of(spec, *sides, rtol=0.0, atol=comparison.tolerance.atol).first_over is None


def test_steps_by_themselves_are_marked_in_the_order_of_cause() -> None:
    spec = Spec(num_layers=1, bidirectional=True)
    heat = heat_of(spec, "module", "equations@cpu/bfloat16", resync=True, rtol=0.0, atol=0.0)
    assert heat.first_over == (0, 0, 0)


def test_steps_by_themselves_stand_at_their_places() -> None:
    heat = heat_of(Spec(lengths=(4, 1, 3), bidirectional=True), "module", "equations@cpu/bfloat16", resync=True)
    assert {len(row.max_abs) for row in heat.rows} == {4}
    assert all(value > 0 for row in heat.rows for value in row.max_abs)


def test_a_recorded_side_shows_its_top_layer_alone(cli: Cli, tmp_path: Path) -> None:
    run = str(tmp_path / "run.pt")
    cli("compare", "--record", run, "-q")
    answer = cli("compare", "--left", "equations", "--right", f"recorded:{run}", "--map")
    drawn = answer.out.partition("Greatest difference")[2]
    assert ("layer 1, y" in drawn, "layer 0" in drawn) == (True, False)
    assert "a side cannot show the layers below the top one" in " ".join(drawn.split())


def test_gradients_do_not_disturb_the_map() -> None:
    assert heat_of(Spec(kind="gru"), grad=True) == heat_of(Spec(kind="gru"))


def test_shapes_that_differ_have_no_map(cli: Cli) -> None:
    answer = cli("compare", "--kind", "lstm", "--right", f"{OWN}Transposed", "--map")
    assert "Map: none, since the shapes differ." in answer.out


@pytest.mark.parametrize("flags", ["--kind lstm --bidirectional --map", "--map --resync", "--right cells@cpu/bfloat16"])
def test_the_rerun_line_gives_the_same(cli: Cli, flags: str) -> None:
    answer = cli("compare", *flags.split())
    again = answer.out.rpartition("Rerun: rnnscope ")[2].split()
    assert cli(*again).out == answer.out


def test_memory_for_a_map_is_asked_for() -> None:
    spec = Spec(num_layers=100, seq_len=1000)
    kept = 3 * 1000 * 5 * 20 * 100 * 4  # at least both sides' and one more, of every layer
    assert needed_bytes(spec, map=True) - needed_bytes(spec) > kept


def test_a_document_of_too_many_cells_is_refused(cli: Cli) -> None:
    answer = cli("compare", "--map", "--json", "--seq-len", "600000", "--no-memory-check")
    assert answer.code == 2
    assert "over the limit of 1,000,000 rows" in answer.err


# The drawing.


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
    assert page[1] == Sentence("Map", "! marks step 3, layer 0, backward, the first over its tolerance.", "bad")


def test_of_many_layers_some_are_drawn_and_always_the_marked_one() -> None:
    rows = [row(1.0, layer=layer) for layer in reversed(range(9))]
    lines = drawn(80, *rows, first=(0, 5, 0), spec=Spec(num_layers=9))
    assert [line.split(",")[0] for line in lines if "|" in line] == ["layer 8", "layer 5", "layer 1", "layer 0"]
    assert lines[-1] == "Not drawn: 5 layers more."
