"""Where two sides part: the first element that is off, found where a fault was planted, and the map of all cells.

The cells of the map are the differences that two runs by hand give.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import OWN, Cli
from torch import Tensor, nn

from rnnscope import Spec, StackedCells, compare
from rnnscope.network.costs import Work, needed_bytes
from rnnscope.network.equations import State, Step, walk
from rnnscope.network.shapes import Place, layer_parameters
from rnnscope.network.weights import Input, Weights, draw_input, draw_weights
from rnnscope.spec.spec import KINDS
from rnnscope.subjects import builtin as subjects
from rnnscope.subjects.builtin import SUBJECTS, Run, run_cells, run_equations
from rnnscope.verdict.deviations import layer_by_layer
from rnnscope.verdict.places import HeatMap

pytestmark = pytest.mark.usefixtures("single_deviations")

NAN = float("nan")


def faulty(step: int, layer: int, direction: int, unit: int, item: int, add: float) -> subjects.Subject:
    """The equations with one element of h off after one step; it is known by its weights in a run of one layer too."""

    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        marked = next((k for k in range(spec.num_layers) if weights[f"weight_ih_l{k}"][0, 0] > 0.9 * MARK), None)

        def around(k: int, d: int, take: Step) -> Step:
            count = -1

            def taken(x: Tensor, state: State) -> State:
                nonlocal count
                count += 1
                new = take(x, state)
                at = spec.seq_len - 1 - step if d else step
                if (k, d, count) == (marked, direction, at):
                    h = new[0].clone()
                    h[item, unit] += add
                    return (h, *new[1:])
                return new

            return taken

        return run_equations(spec, weights, given, around=around)

    assert layer >= 0
    return run


MARK = 0.5


def marked(layer: int) -> Callable[[Weights], Weights]:
    def change(weights: Weights) -> Weights:
        each = weights[f"weight_ih_l{layer}"].clone()
        each[0, 0] = MARK
        return weights | {f"weight_ih_l{layer}": each}

    return change


@pytest.mark.parametrize("form", [{}, {"batch_first": True}, {"kind": "lstm"}, {"bidirectional": True}], ids=str)
@pytest.mark.parametrize(
    ("step", "layer", "direction", "unit", "item"),
    [(0, 0, 0, 0, 0), (3, 0, 0, 5, 2), (3, 1, 0, 7, 1), (5, 2, 0, 19, 3), (2, 1, 1, 4, 0), (5, 2, 1, 4, 3)],
)
@pytest.mark.parametrize("add", [1e-3, NAN], ids=["off", "nan"])
def test_a_fault_is_found_where_it_was_planted(
    monkeypatch: pytest.MonkeyPatch,
    form: dict[str, Any],
    step: int,
    layer: int,
    direction: int,
    unit: int,
    item: int,
    add: float,
) -> None:
    from rnnscope.network.weights import draw_weights
    from rnnscope.verdict import problem as problems

    if direction and not form.get("bidirectional"):
        pytest.skip("there is one direction")
    monkeypatch.setattr(problems, "draw_weights", lambda spec: marked(layer)(draw_weights(spec)))
    monkeypatch.setitem(subjects.SUBJECTS, "cells", faulty(step, layer, direction, unit, item, add))
    found = compare(Spec(seq_len=6, batch_size=4, num_layers=3, **form))
    assert found.cause == ("function" if add == add else "nonfinite")
    tensor = "y" if layer == 2 else "h"
    assert found.first_divergence == Place(tensor, step, layer, direction, unit, item)


def at_step_3(y: Tensor) -> Tensor:
    return torch.cat((y[:3], y[3:4] + 0.01, y[4:]))


Y_ALONE: dict[str, Callable[[Tensor], Tensor]] = {
    "scaled": lambda y: y * 1.01,
    "moved": lambda y: y + 0.01,
    "a step late": lambda y: y.roll(1, 0),
    "at one step": at_step_3,
}


@pytest.mark.parametrize("both", [False, True], ids=["", "both directions"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", Y_ALONE)
def test_y_alone_is_placed_in_y(
    monkeypatch: pytest.MonkeyPatch, fault: str, kind: str, layers: int, both: bool
) -> None:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        found = run_cells(spec, weights, given)
        return Run(Y_ALONE[fault](found.y), found.state)

    monkeypatch.setitem(subjects.SUBJECTS, "cells", run)
    place = compare(Spec(kind=kind, num_layers=layers, bidirectional=both, seq_len=6)).first_divergence
    assert place is not None
    assert (place.tensor, place.layer) == ("y", layers - 1)


@pytest.mark.parametrize("both", [False, True], ids=["", "both directions"])
@pytest.mark.parametrize("kind", KINDS)
def test_y_of_another_layer_is_placed_in_y(monkeypatch: pytest.MonkeyPatch, kind: str, both: bool) -> None:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        if spec.num_layers == 1:
            return run_cells(spec, weights, given)
        rows = slice(0, spec.directions)
        names = [each.name for each in layer_parameters(spec, 0)]
        lowest = Input(given.x, tuple(each[rows] for each in given.state))
        y = run_cells(replace(spec, num_layers=1), {name: weights[name] for name in names}, lowest).y
        return Run(y, run_cells(spec, weights, given).state)

    monkeypatch.setitem(subjects.SUBJECTS, "cells", run)
    place = compare(Spec(kind=kind, num_layers=3, bidirectional=both)).first_divergence
    assert place is not None
    assert (place.tensor, place.layer) == ("y", 2)


@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_that_has_decayed_is_found_in_its_layer(
    monkeypatch: pytest.MonkeyPatch, kind: str, layers: int, direction: int
) -> None:
    from rnnscope.verdict import problem as problems

    def small(spec: Spec) -> Weights:
        return marked(0)({name: each / 4 for name, each in draw_weights(spec).items()})

    monkeypatch.setattr(problems, "draw_weights", small)
    monkeypatch.setitem(subjects.SUBJECTS, "cells", faulty(40, 0, direction, 7, 1, 1e-6))
    spec = Spec(kind=kind, num_layers=layers, bidirectional=bool(direction), seq_len=80, batch_size=2)
    found = compare(spec)
    assert found.reference is not None
    assert {each.name: each.within for each in found.reference.function.margins}["h"]
    assert found.first_divergence == Place("y" if layers == 1 else "h", 40, 0, direction, 7, 1)


def test_what_goes_up_may_be_off_though_the_state_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    def take(*walked: Any) -> tuple[Tensor, State]:
        y, last = walk(*walked)
        return at_step_3(y), last

    monkeypatch.setitem(
        subjects.SUBJECTS,
        "cells",
        lambda spec, weights, given: run_equations(spec, weights, given, walker=layer_by_layer(take)),
    )
    place = compare(Spec(num_layers=3, seq_len=100)).first_divergence
    assert place is not None
    assert (place.tensor, place.step, place.layer) == ("h", 3, 0)


def test_a_fault_of_the_top_layer_is_none_of_the_layers_below(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        def around(layer: int, direction: int, step: Step) -> Step:
            return (lambda x, state: (step(x, state)[0] * 1.01,)) if layer == spec.num_layers - 1 else step

        return run_equations(spec, weights, given, around=around)

    monkeypatch.setitem(subjects.SUBJECTS, "cells", run)
    place = compare(Spec(num_layers=3)).first_divergence
    assert place is not None
    assert (place.tensor, place.step, place.layer) == ("y", 0, 2)


def test_a_fault_of_every_layer_is_found_below_though_y_is_off_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        found = run_equations(spec, {name: each * 1.01 for name, each in weights.items()}, given)
        return Run(found.y * 1.01, found.state)

    monkeypatch.setitem(subjects.SUBJECTS, "cells", run)
    place = compare(Spec(num_layers=3)).first_divergence
    assert place is not None
    assert (place.tensor, place.step, place.layer) == ("h", 0, 0)


def test_a_short_item_keeps_its_place_below(monkeypatch: pytest.MonkeyPatch) -> None:
    from rnnscope.verdict import problem as problems

    monkeypatch.setattr(problems, "draw_weights", lambda spec: marked(0)(draw_weights(spec)))
    monkeypatch.setitem(subjects.SUBJECTS, "cells", faulty(3, 0, 0, 7, 1, 1e-3))
    found = compare(Spec(num_layers=3, lengths=(6, 4)))
    assert found.first_divergence == Place("h", 3, 0, 0, 7, 1)


def test_it_is_shown_in_words(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        found = run_cells(spec, weights, given)
        return Run(found.y + (torch.arange(spec.seq_len)[:, None, None] == 2), found.state)

    monkeypatch.setitem(subjects.SUBJECTS, "cells", run)
    answer = cli("compare", "--layers", "1", "--bidirectional")
    # The backward direction walks from the last step: of both directions it is the one that comes to step 2 first.
    assert "First at: step 2, layer 0, backward, unit 0, item 0, in y." in answer.out


def test_rows_of_h_and_c_are_found_by_their_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        found = run_cells(spec, weights, given)
        c = found.state[1].clone()
        if spec.num_layers == 2:
            c[1, 3, 6] += 1
        return Run(found.y, (found.state[0], c))

    monkeypatch.setitem(subjects.SUBJECTS, "cells", run)
    found = compare(Spec(kind="lstm", seq_len=4))
    assert found.first_divergence == Place("c", 3, 1, 0, 6, 3)


def test_an_item_ends_at_its_own_length(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        found = run_cells(spec, weights, given)
        h = found.state[0].clone()
        h[0, 1, 2] += 1
        return Run(found.y, (h,))

    monkeypatch.setitem(subjects.SUBJECTS, "cells", run)
    found = compare(Spec(lengths=(5, 2, 3), num_layers=1))
    assert found.first_divergence == Place("h", 1, 0, 0, 2, 1)


def test_of_several_units_the_one_that_is_furthest_off_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        found = run_equations(spec, weights, given)
        y = found.y.clone()
        for item, unit, add in ((1, 3, 0.1), (1, 7, 0.2), (2, 9, 0.3)):
            y[1:2, item, unit] += add
        return replace(found, y=y)

    monkeypatch.setitem(SUBJECTS, "equations", run)
    assert compare(Spec(num_layers=1), right="equations").first_divergence == Place("y", 1, 0, 0, 7, 1)


def test_an_unbatched_network_has_no_item(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        subjects.SUBJECTS,
        "cells",
        lambda spec, weights, given: run_cells(spec, weights, Input(given.x + 1, given.state)),
    )
    found = compare(Spec(unbatched=True))
    assert found.first_divergence is not None
    assert (found.first_divergence.step, found.first_divergence.batch) == (0, None)


def test_a_place_step_by_step_is_one_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        """Off where x is what it is at step 2 of item 1."""
        found = run_cells(spec, weights, given)
        return Run(torch.where(given.x[..., :1] == at, found.y + 1, found.y), found.state)

    from rnnscope.network.weights import draw_input

    at = draw_input(Spec(seq_len=4, num_layers=1)).x[2, 1, 0]
    monkeypatch.setitem(subjects.SUBJECTS, "cells", run)
    found = compare(Spec(seq_len=4, num_layers=1), resync=True)
    assert found.first_divergence is not None
    assert (found.first_divergence.step, found.first_divergence.batch) == (2, 1)


def test_nothing_is_located_where_nothing_is_off() -> None:
    assert compare(Spec()).first_divergence is None


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
    heat = heat_of(Spec(kind="lstm", num_layers=1), "module", f"{OWN}:Iofg")
    first = {row.gate: row.max_abs[0] for row in heat.rows}
    assert first.pop(None) > 0.01
    assert first == {"i": 0.0, "f": 0.0, "g": 0.0, "o": 0.0}
    assert heat.first_over == (0, 0, 0)


def test_the_first_cell_over_its_bound_is_that_of_the_first_divergence() -> None:
    comparison = compare(Spec(kind="lstm", num_layers=3, seq_len=9), "module", f"{OWN}:IgnoresRecurrent", map=True)
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
    answer = cli("compare", "--kind", "lstm", "--right", f"{OWN}:Transposed", "--map")
    assert "Map: none, since the shapes differ." in answer.out


@pytest.mark.parametrize("flags", ["--kind lstm --bidirectional --map", "--map --resync", "--right cells@cpu/bfloat16"])
def test_the_rerun_line_gives_the_same(cli: Cli, flags: str) -> None:
    answer = cli("compare", *flags.split())
    again = answer.out.rpartition("Rerun: rnnscope ")[2].split()
    assert cli(*again).out == answer.out


def test_memory_for_a_map_is_asked_for() -> None:
    spec = Spec(num_layers=100, seq_len=1000)
    kept = 2 * 1000 * 5 * 20 * 100 * 4  # both sides', of every layer
    assert needed_bytes(spec, Work(map=True)) - needed_bytes(spec) > kept


def test_a_document_of_too_many_cells_is_refused(cli: Cli) -> None:
    answer = cli("compare", "--map", "--json", "--seq-len", "600000", "--no-memory-check")
    assert answer.code == 2
    assert "over the limit of 1,000,000 rows" in answer.err


MIDDLE = """
import torch
from torch import nn


class Middle(nn.Module):
    def __init__(self, input_size, hidden_size, num_layers):
        super().__init__()
        sizes = [input_size, *[hidden_size] * num_layers]
        self.cells = nn.ModuleList(nn.GRUCell(*sizes[k : k + 2]) for k in range(num_layers))

    def forward(self, x, hx):
        last = []
        for k, cell in enumerate(self.cells):
            h, y = hx[k], []
            for step in x:
                h = cell(step, h)
                if k == 1:
                    h = h * (1 - 1e-6)
                y.append(h)
            x = torch.stack(y)
            last.append(h)
        return x, torch.stack(last)
"""


def test_a_layer_that_a_class_numbers_by_itself_is_found(tmp_path: Path) -> None:
    """It is right where that layer is run alone."""
    (tmp_path / "middle.py").write_text(MIDDLE)
    found = compare(Spec(kind="gru", num_layers=3, seq_len=5), right=f"{tmp_path}/middle.py:Middle").first_divergence
    assert found
    assert (found.step, found.layer, found.tensor) == (0, 1, "h")


class Exchanged(nn.Module):
    """An LSTM of cells that take (h, c) for (c, h) all along, so that no layer of it can be run alone."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.cells = nn.ModuleList(nn.LSTMCell(6, 6) for _ in range(lstm.num_layers))
        for layer, cell in enumerate(self.cells):
            cell.load_state_dict({name: getattr(lstm, f"{name}_l{layer}") for name in cell.state_dict()})

    def forward(self, x: Tensor, hx: Any) -> Any:
        state, y = [(c, h) for h, c in zip(*hx, strict=True)], []
        for up in x:
            for layer, cell in enumerate(self.cells):
                state[layer] = cell(up, state[layer])
                up = state[layer][1]
            y.append(up)
        c, h = map(torch.stack, zip(*state, strict=True))
        return torch.stack(y), (h, c)


def test_the_lowest_layer_is_found_where_none_can_be_run_alone() -> None:
    torch.manual_seed(0)
    lstm, zeros = nn.LSTM(6, 6, 3), torch.zeros(3, 2, 6)
    found = compare(lstm, Exchanged(lstm), torch.randn(7, 2, 6), (zeros, zeros)).first_divergence
    assert found
    assert (found.step, found.layer) == (0, 0)
