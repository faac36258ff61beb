"""`rnnscope trace`: which slices are equal is searched for anew here, and the numbers are torch's module's own."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Cli
from torch import Tensor, nn

from rnnscope import RnnscopeError, Spec, trace
from rnnscope.network.shapes import layer_parameters
from rnnscope.network.weights import Input, Weights, draw_input, draw_weights
from rnnscope.pages.render import render
from rnnscope.subjects.builtin import Run, as_module, build_module, run_module
from rnnscope.subjects.devices import running
from rnnscope.tracing.result import unrolled

LAYOUTS: dict[str, dict[str, Any]] = {
    "time first": {"seq_len": 4, "batch_size": 3},
    "batch first": {"seq_len": 4, "batch_size": 3, "batch_first": True},
    "unbatched": {"seq_len": 4, "unbatched": True},
    "packed": {"lengths": (4, 2, 3)},
    "packed batch first": {"lengths": (1, 4, 4), "batch_first": True},
    "one step": {"seq_len": 1, "batch_size": 3},
    "one item": {"seq_len": 4, "batch_size": 1, "batch_first": True},
}
SPECS = {
    f"{kind} {'both' if both else 'forward'} {layout} K={layers}": Spec(
        **sizes, kind=kind, bidirectional=both, num_layers=layers, input_size=3, hidden_size=4
    )
    for kind in ("rnn", "lstm", "gru")
    for both in (False, True)
    for layout, sizes in LAYOUTS.items()
    for layers in (1, 2)
}
SPECS["projection"] = Spec(kind="lstm", proj_size=3, bidirectional=True, hidden_size=5)
SPECS["many layers"] = Spec(kind="gru", num_layers=7)


def outputs(spec: Spec) -> dict[str, Tensor]:
    """What torch's module gives: y, h and c."""
    with running(spec):
        return run_module(spec, draw_weights(spec), draw_input(spec)).outputs()


def brute_force(spec: Spec, y: Tensor, h: Tensor) -> set[tuple[str, str]]:
    """Every slice of y against every row of h, one by one; item by item where they are not equal in all items."""
    names, found = {"y": y, "h": h}, set()
    size = spec.output_size
    halves = [f":{size}", f"{size}:"] if spec.bidirectional else [""]
    for row in range(len(h)):
        for step in range(spec.seq_len):
            for half in halves:
                for item in ["", ":", *map(str, range(spec.batch_size) if spec.lengths else ())]:
                    if (item == "") != spec.unbatched:
                        continue
                    index = [item, str(step)] if spec.batch_first else [str(step), item]
                    left = f"y[{', '.join(filter(None, [*index, half]))}]".replace(", :]", "]")
                    right = f"h[{row}]" if item in ("", ":") else f"h[{row}, {item}]"
                    if torch.equal(eval(left, names), eval(right, names)):
                        found.add((left, right))
                        if item == ":":
                            break
    return found


@pytest.mark.parametrize("name", SPECS)
def test_the_map_holds_every_pair_that_is_equal_and_no_other(name: str) -> None:
    spec = SPECS[name]
    equalities = trace(spec).equalities
    found = {(each.left, each.right) for each in equalities if each.equal and each.right != "h[:, -1]"}  # is no row
    tensors = outputs(spec)
    assert found == brute_force(spec, tensors["y"], tensors["h"])


@pytest.mark.parametrize("name", SPECS)
def test_every_pair_says_what_python_says_of_its_words(name: str) -> None:
    names: dict[str, Any] = {**outputs(SPECS[name]), "torch": torch}
    wrong = []
    for each in trace(SPECS[name]).equalities:
        left, right = eval(each.left, names), eval(each.right, names)
        apart = None if left.shape != right.shape else (left.double() - right.double()).abs().max().item()
        if (each.equal, each.max_abs) != (torch.equal(left, right), apart):
            wrong.append(each)
    assert wrong == []


def test_the_pairs_that_people_take_for_equal_are_there_and_are_not() -> None:
    pairs = {
        (each.left, each.right): each.equal for each in trace(Spec(bidirectional=True, batch_first=True)).equalities
    }
    assert pairs == {
        ("y[:, 2, :20]", "h[2]"): True,
        ("y[:, 0, 20:]", "h[3]"): True,
        ("y[:, 2, :20]", "h[0]"): False,
        ("y[:, 2, 20:]", "h[3]"): False,
        ("y[:, 2, :20]", "h[3]"): False,
        ("y[:, 2]", "torch.cat((h[2], h[3]), -1)"): False,
        ("y[4, :20]", "h[2]"): False,
        ("y[:, 2, :20]", "h[:, -1]"): False,
    }


def test_what_is_equal_by_chance_is_found_and_said(cli: Cli, tmp_path: Path) -> None:
    weights = {name: torch.zeros_like(each) for name, each in nn.RNN(10, 20, 2).state_dict().items()}
    torch.save(weights, tmp_path / "zero.pt")
    answer = cli("trace", "--weights", str(tmp_path / "zero.pt"))
    assert "5 pairs more by chance" in answer.out
    assert "equal on this run, though no rule says so" in " ".join(answer.out.split())


def test_nan_that_the_module_alone_gives_is_a_finding(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    def nan(spec: Spec, weights: Weights, given: Input) -> Run:
        run = run_module(spec, weights, given)
        return Run(run.y * torch.nan, tuple(each * torch.nan for each in run.state))

    monkeypatch.setattr("rnnscope.tracing.trace.run_module", nan)
    answer = cli("trace")
    assert answer.code == 1
    assert "NaN or infinity comes out of the module, and not of the equations." in answer.out


@pytest.mark.parametrize(("size", "shown"), [(4, "[3]"), (5, "..."), (6, "...")])
def test_a_vector_that_is_cut_says_so(cli: Cli, size: int, shown: str) -> None:
    answer = cli("trace", "--values", "--input-size", str(size), "--hidden-size", "8", "--unbatched")
    x = next(line for line in answer.out.splitlines() if line.startswith("0      x"))
    assert len(x.split()) == 2 + min(size, 5)
    assert (x.split()[-1] == "...") is (shown == "...")


def test_a_rule_that_does_not_hold_is_a_finding(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    def reversed_y(spec: Spec, weights: Weights, given: Input) -> Run:
        run = run_module(spec, weights, given)
        return replace(run, y=run.y.flip(0))

    monkeypatch.setattr("rnnscope.tracing.trace.run_module", reversed_y)
    answer = cli("trace")
    assert answer.code == 1
    assert "Finding: y[2] is not h[1], though torch's documentation says so." in answer.out


@pytest.mark.parametrize("name", [name for name in SPECS if "packed" not in name])
def test_the_states_are_those_of_torchs_module_run_layer_by_layer(name: str) -> None:
    spec = replace(SPECS[name], dtype="float64")
    found, item = trace(spec), 0
    with running(spec):
        weights, given = draw_weights(spec), draw_input(spec)
        x, wrong = given.x, []
        for layer in range(spec.num_layers):
            one = replace(spec, num_layers=1, input_size=x.shape[-1])
            names = [each.name for each in layer_parameters(spec, layer)]
            module = build_module(one)
            module.load_state_dict({each.replace(f"_l{layer}", "_l0"): weights[each] for each in names})
            rows = slice(layer * spec.directions, (layer + 1) * spec.directions)
            run = as_module(module, one, Input(x, tuple(each[rows] for each in given.state)), {}).run()
            y = run.y if spec.unbatched else run.y[item] if spec.batch_first else run.y[:, item]
            for direction in range(spec.directions):
                half = y[:, direction * spec.output_size : (direction + 1) * spec.output_size]
                h = found.walked[layer, direction].states["h"]
                if not torch.allclose(h, half, rtol=0, atol=1e-12):
                    wrong.append((layer, direction))
            x = run.y
    assert wrong == []


def test_the_last_cell_state_is_c() -> None:
    spec = Spec(kind="lstm", bidirectional=True, dtype="float64")
    walked, c = trace(spec, item=3).walked, outputs(spec)["c"]
    last = [walked[layer, way].states["c"][0 if way else -1] for layer in range(2) for way in range(2)]
    torch.testing.assert_close(torch.stack(last), c[:, 3], rtol=0, atol=1e-12)


def test_the_gates_give_the_states() -> None:
    spec = Spec(kind="lstm", num_layers=1, dtype="float64")
    found = trace(spec, item=2)
    i, f, g, o = found.walked[0, 0].gates.values()
    c, h = found.walked[0, 0].states["c"], found.walked[0, 0].states["h"]
    before = torch.cat((found.given["c0"], c[:-1]))
    torch.testing.assert_close(c, f * before + i * g, rtol=0, atol=1e-12)
    torch.testing.assert_close(h, o * c.tanh(), rtol=0, atol=1e-12)


def test_the_gates_of_a_gru_give_the_states() -> None:
    spec = Spec(kind="gru", num_layers=1, dtype="float64", bidirectional=True)
    walked = trace(spec, item=2).walked[0, 1]
    _, z, n = walked.gates.values()
    h = walked.states["h"]
    after = torch.cat((h[1:], draw_input(spec).state[0][1:, 2]))  # the backward direction comes from the next step
    torch.testing.assert_close(h, (1 - z) * n + z * after, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("flags", "formula"), [((), "h = o·tanh(c)"), (("--proj-size", "3"), "h = W_hr·(o·tanh(c))")])
def test_the_formula_is_that_of_the_network(cli: Cli, flags: tuple[str, ...], formula: str) -> None:
    answer = cli("trace", "--kind", "lstm", "--values", *flags)
    assert f"Gates: c = f·c + i·g and {formula}: " in " ".join(answer.out.split())


def test_saturation_is_said_of_the_gate_and_not_of_the_state(cli: Cli) -> None:
    """f = 1 passes the gradient of c on as it is: only what the gate itself could learn is lost."""
    answer = cli("trace", "--kind", "lstm", "--values")
    assert "what the gate is computed from hardly gets any gradient there" in " ".join(answer.out.split())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "each leaves its h at its own last one."),
        (("--bidirectional",), "each leaves its h, and starts its backward direction, at its own last one."),
    ],
    ids=["forward", "both"],
)
def test_where_packed_items_end_is_said_under_the_drawing(cli: Cli, flags: tuple[str, ...], words: str) -> None:
    answer = cli("trace", "--lengths", "3,1", *flags)
    assert f"Items: how many sequences have the step; {words}" in " ".join(answer.out.split())


def one_unit(tmp_path: Path, kind: str, **rows: list[float]) -> str:
    """A network of one unit that reads nothing but its biases."""
    gates = {"lstm": 4, "gru": 3}[kind]
    path = tmp_path / "one.pt"
    torch.save(
        {
            "weight_ih_l0": torch.zeros(gates, 1),
            "weight_hh_l0": torch.zeros(gates, 1),
            "bias_ih_l0": torch.tensor(rows["bias"]),
            "bias_hh_l0": torch.zeros(gates),
        },
        path,
    )
    return str(path)


def test_gates_and_saturation_by_hand(cli: Cli, tmp_path: Path) -> None:
    """σ(-9) = 0.000123 and σ(0) = 0.5, tanh(9) ≈ 1, σ(4.5) = 0.989 is not saturated and σ(4.7) = 0.991 is."""
    path = one_unit(tmp_path, "lstm", bias=[-9.0, 0.0, 9.0, 4.5])
    steps = json.loads(cli("trace", "--weights", path, "--values", "--json").out)["steps"]
    assert [each["saturated"] for each in steps] == [{"i": 1, "f": 0, "g": 1, "o": 0}] * 3
    assert steps[0]["gates"]["i"] == [pytest.approx(0.0001234, rel=1e-3)]
    assert steps[0]["gates"]["o"] == [pytest.approx(0.98901, rel=1e-4)]


def test_the_first_infinity_of_a_network_that_grows(cli: Cli, tmp_path: Path) -> None:
    weights = {"weight_ih_l0": torch.zeros(1, 1), "weight_hh_l0": torch.full((1, 1), 16.0)}
    torch.save({**weights, "bias_ih_l0": torch.zeros(1), "bias_hh_l0": torch.zeros(1)}, tmp_path / "grows.pt")
    torch.save({"x": torch.zeros(9, 1, 1), "h0": torch.ones(1, 1, 1)}, tmp_path / "x.pt")
    files = ("--weights", str(tmp_path / "grows.pt"), "--inputs", str(tmp_path / "x.pt"))
    # 16⁴ = 65536 is over the greatest number of float16, 65504.
    document = json.loads(cli("trace", *files, "--nonlinearity", "relu", "--dtype", "float16", "--json").out)
    assert document["first_nonfinite"] == {"tensor": "h", "step": 3, "layer": 0, "direction": 0, "unit": 0, "batch": 0}


def test_a_backward_direction_that_grows_is_found_in_the_order_in_which_it_walks(cli: Cli, tmp_path: Path) -> None:
    weights: dict[str, Tensor] = {}
    for way in ("", "_reverse"):
        weights |= {
            f"weight_ih_l0{way}": torch.zeros(1, 1),
            f"weight_hh_l0{way}": torch.full((1, 1), 16.0 if way else 0.0),
        }
        weights |= {f"{name}_l0{way}": torch.zeros(1) for name in ("bias_ih", "bias_hh")}
    torch.save(weights, tmp_path / "grows.pt")
    torch.save({"x": torch.zeros(9, 1, 1), "h0": torch.ones(2, 1, 1)}, tmp_path / "x.pt")
    files = ("--weights", str(tmp_path / "grows.pt"), "--inputs", str(tmp_path / "x.pt"))
    answer = cli("trace", *files, "--nonlinearity", "relu", "--dtype", "float16")
    assert answer.code == 1
    assert "first comes out at step 5, layer 0, backward, unit 0, item 0, in h." in " ".join(answer.out.split())


def test_numbers_are_those_of_the_item(cli: Cli) -> None:
    spec = Spec(kind="gru")
    steps = json.loads(cli("trace", "--kind", "gru", "--values", "--item", "4", "--json").out)["steps"]
    top = [each["h"] for each in steps if each["layer"] == 1]
    torch.testing.assert_close(torch.tensor(top), outputs(spec)["y"][:, 4], rtol=0, atol=1e-6)


def test_a_packed_item_has_its_own_steps(cli: Cli) -> None:
    steps = json.loads(cli("trace", "--lengths", "3,1,2", "--item", "2", "--bidirectional", "--json").out)["steps"]
    assert [each["step"] for each in steps] == [0, 1] * 4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--item 5", "--item is 5, but items go from 0 to 4; try --item 0"),
        ("--item x", "--item is 'x', but it must be a whole number of at least 0; try --item 0"),
        ("--step 3", "--step is 3, but the steps of item 0 go from 0 to 2; try --step 2"),
        ("--step 2 --lengths 3,2 --item 1", "--step is 2, but the steps of item 1 go from 0 to 1; try --step 1"),
        ("--unbatched --item 1", "--item is 1, but items go from 0 to 0; try --item 0"),
        ("--batch 0", "--batch is 0, so y and h have no elements and there is nothing to see; try --batch 1 or more"),
        (
            "--train --dropout 0.5",
            "--train with --dropout 0.5 draws random masks, so that no two runs are alike; "
            "use --dropout 0 or 1, or leave --train out",
        ),
        (
            "--seq-len 600000 --json",
            "--seq-len is 600000: its steps in all layers are over the limit of 1,000,000 rows; "
            "use --format table, which leaves out the steps in the middle",
        ),
    ],
)
def test_what_cannot_be_traced(cli: Cli, flags: str, message: str) -> None:
    answer = cli("trace", *flags.split())
    assert (answer.code, answer.err) == (2, f"rnnscope: {message}\n")


@pytest.mark.parametrize("item", [-1, 1.5, True])
def test_python_is_told_the_same(item: Any) -> None:
    with pytest.raises(RnnscopeError, match=r"--item is .*, but it must be a whole number"):
        trace(Spec(), item=item)


def test_the_rerun_line_gives_the_same(cli: Cli) -> None:
    found = trace(Spec(kind="lstm", lengths=(3, 2), threads=2), values=True, item=1, step=0)
    assert found.rerun == "rnnscope trace --kind lstm --batch 2 --lengths 3,2 --threads 2 --values --item 1 --step 0"
    again = cli(*found.rerun.split()[1:])
    assert again.out == render(found, "table", io.StringIO())


# The drawing.


def drawn(width: int, **sizes: Any) -> list[str]:
    return ["".join(text for text, _ in line) for line in unrolled(Spec(**sizes)).draw(width)]


@pytest.mark.parametrize("width", [80, 100, 120, 200])
@pytest.mark.parametrize("name", SPECS)
def test_the_drawing_fits_the_width(name: str, width: int) -> None:
    spec = replace(SPECS[name], lengths=None, seq_len=1000)
    lines = ["".join(text for text, _ in line) for line in unrolled(spec).draw(width)]
    assert max(map(len, lines)) <= width


def test_more_width_shows_more_steps() -> None:
    counts = [sum("x[" in word for word in " ".join(drawn(width, seq_len=50)).split()) for width in range(60, 800, 20)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (2, 50)


def test_first_and_last_step_are_there_whatever_the_width() -> None:
    text = "\n".join(drawn(1, seq_len=1000))
    assert all(each in text for each in ("x[0]", "x[999]", "y[0]", "y[999]", "left out in the middle: 998 steps"))


def test_every_layer_has_where_its_states_enter_and_leave() -> None:
    text = "\n".join(drawn(80, kind="lstm", bidirectional=True))
    missing = [f"{name}[{row}]" for name in ("h0", "c0", "h", "c") for row in range(4) if f"{name}[{row}]" not in text]
    assert missing == []


def test_the_backward_direction_enters_on_the_right() -> None:
    lines = [line for line in drawn(80, bidirectional=True, num_layers=1) if "ward" in line]
    assert lines[0].index("h[1]") < lines[0].index("backward") < lines[0].index("h0[1]")
    assert lines[1].index("h0[0]") < lines[1].index("forward") < lines[1].index("h[0]")
    assert ("←" in lines[0], "→" in lines[0]) == (True, False)
    assert ("←" in lines[1], "→" in lines[1]) == (False, True)


@pytest.mark.parametrize("dims", ["N, H_in", "N, D·H_out", "N, H_out", "N, H"])
def test_every_edge_has_its_dims(dims: str) -> None:
    assert dims in "\n".join(drawn(80, kind="lstm", bidirectional=True))


def test_layers_in_the_middle_are_left_out() -> None:
    text = "\n".join(drawn(80, num_layers=1000))
    assert [each for each in ("layer 999", "... 997 layers", "layer 1 ", "layer 0") if each not in text] == []


def test_a_packed_input_shows_how_many_items_have_each_step() -> None:
    assert drawn(80, lengths=(3, 1, 2))[-1].split() == ["items", "3", "2", "1"]
