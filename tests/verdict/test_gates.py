"""Which gate is off: named where a fault stands in one gate alone, and never where it stands elsewhere."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from support import OWN, Cli
from torch import Tensor, nn

from rnnscope import Spec, compare
from rnnscope.network.equations import Layer, State, affine, gru_gates
from rnnscope.network.equations import lstm_step as torchs_lstm_step
from rnnscope.network.shapes import GATES
from rnnscope.network.weights import Input, Weights, draw_weights
from rnnscope.subjects import builtin as subjects
from rnnscope.subjects.builtin import Formula, Run, run_equations
from rnnscope.verdict.deviations import Deviation, deviations

pytestmark = pytest.mark.usefixtures("single_deviations")

CASES = [(kind, gate) for kind in ("lstm", "gru") for gate in GATES[kind]]

Fault = Callable[[Layer, slice], Layer]
"""Changes the weights of the rows of a gate."""


def with_rows(w: Layer, name: str, rows: slice, change: Callable[[Tensor], Tensor]) -> Layer:
    each = getattr(w, name)
    return replace(w, **{name: torch.cat((each[: rows.start], change(each[rows]), each[rows.stop :]))})


FAULTS: dict[str, Fault] = {
    "b_hh left out": lambda w, rows: with_rows(w, "b_hh", rows, torch.zeros_like),
    "b_ih left out": lambda w, rows: with_rows(w, "b_ih", rows, torch.zeros_like),
    "W_hh scaled": lambda w, rows: with_rows(w, "W_hh", rows, lambda each: each * 1.01),
    "W_hh left out": lambda w, rows: with_rows(w, "W_hh", rows, torch.zeros_like),
    "W_ih scaled": lambda w, rows: with_rows(w, "W_ih", rows, lambda each: each * 1.01),
    "one unit off": lambda w, rows: with_rows(
        w, "b_ih", rows, lambda each: each + 0.01 * (torch.arange(len(each)) == 7)
    ),
}
"""What stands wrong in one gate of somebody's step."""


def faulty(fault: Fault, gates: str) -> subjects.Subject:
    """The equations with a fault in some gates of every layer."""

    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        formula = subjects.formula_of(spec)

        def step(w: Layer, x: Tensor, state: State) -> State:
            for gate in gates:
                at = GATES[spec.kind].index(gate) * spec.hidden_size
                w = fault(w, slice(at, at + spec.hidden_size))
            return formula(w, x, state)

        return run_equations(spec, weights, given, formula=step)

    return run


def gate_of(monkeypatch: pytest.MonkeyPatch, spec: Spec, run: subjects.Subject) -> str | None:
    monkeypatch.setitem(subjects.SUBJECTS, "equations", run)
    found = compare(spec, right="equations")
    assert (found.verdict, found.cause, found.side) == ("different", "function", "right")
    return found.gate


FORMS: dict[str, dict[str, Any]] = {
    "one layer": {"num_layers": 1},
    "three layers, both directions": {"num_layers": 3, "bidirectional": True},
    "lengths": {"lengths": (4, 2, 3), "batch_first": True},
    "unbatched": {"unbatched": True},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("kind", "gate"), CASES)
def test_a_fault_in_one_gate_is_named_in_every_form(
    monkeypatch: pytest.MonkeyPatch, kind: str, gate: str, form: str
) -> None:
    assert gate_of(monkeypatch, Spec(kind=kind, **FORMS[form]), faulty(FAULTS["b_hh left out"], gate)) == gate


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("kind", "gate"), CASES)
def test_a_fault_in_one_gate_is_named(monkeypatch: pytest.MonkeyPatch, kind: str, gate: str, fault: str) -> None:
    assert gate_of(monkeypatch, Spec(kind=kind), faulty(FAULTS[fault], gate)) == gate


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("kind", "gates"), [(kind, a + b) for kind, a in CASES for b in GATES[kind] if a < b])
def test_no_gate_is_named_where_two_are_off(monkeypatch: pytest.MonkeyPatch, kind: str, gates: str, fault: str) -> None:
    assert gate_of(monkeypatch, Spec(kind=kind), faulty(FAULTS[fault], gates)) is None


def lstm_step(**activations: Callable[[Tensor], Tensor]) -> Formula:
    of = {"i": torch.sigmoid, "f": torch.sigmoid, "g": torch.tanh, "o": torch.sigmoid} | activations

    def step(w: Layer, x: Tensor, state: State) -> State:
        rows = (affine(x, w.W_ih, w.b_ih) + affine(state[0], w.W_hh, w.b_hh)).chunk(4, -1)
        i, f, g, o = (of[gate](each) for gate, each in zip("ifgo", rows, strict=True))
        c = f * state[1] + i * g
        h = o * torch.tanh(c)
        return (h if w.W_hr is None else h @ w.W_hr.T), c

    return step


def gru_step(**activations: Callable[[Tensor], Tensor]) -> Formula:
    of = {"r": torch.sigmoid, "z": torch.sigmoid, "n": torch.tanh} | activations

    def step(w: Layer, x: Tensor, state: State) -> State:
        (h,) = state
        (r_x, z_x, n_x), (r_h, z_h, n_h) = (
            affine(x, w.W_ih, w.b_ih).chunk(3, -1),
            affine(h, w.W_hh, w.b_hh).chunk(3, -1),
        )
        r, z = of["r"](r_x + r_h), of["z"](z_x + z_h)
        return ((1 - z) * of["n"](n_x + r * n_h) + z * h,)

    return step


def with_formula(formula: Formula) -> subjects.Subject:
    return lambda spec, weights, given: run_equations(spec, weights, given, formula=formula)


def hard(x: Tensor) -> Tensor:
    return (0.2 * x + 0.5).clamp(0, 1)


@pytest.mark.parametrize("gate", "ifgo")
@pytest.mark.parametrize("activation", [hard, torch.relu], ids=["hard", "relu"])
def test_another_activation_in_one_gate_of_an_lstm_is_named(
    monkeypatch: pytest.MonkeyPatch, activation: Callable[[Tensor], Tensor], gate: str
) -> None:
    run = with_formula(lstm_step(**{gate: activation}))
    assert gate_of(monkeypatch, Spec(kind="lstm"), run) == gate


@pytest.mark.parametrize(("gate", "activation"), [("r", hard), ("z", hard), ("n", torch.relu), ("n", torch.sigmoid)])
def test_another_activation_in_one_gate_of_a_gru_is_named(
    monkeypatch: pytest.MonkeyPatch, activation: Callable[[Tensor], Tensor], gate: str
) -> None:
    assert gate_of(monkeypatch, Spec(kind="gru"), with_formula(gru_step(**{gate: activation}))) == gate


def peephole(w: Layer, x: Tensor, state: State) -> State:
    i, f, g, o = (affine(x, w.W_ih, w.b_ih) + affine(state[0], w.W_hh, w.b_hh)).chunk(4, -1)
    c = torch.sigmoid(f + 0.1 * state[1]) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def a_fault_in_time(spec: Spec, weights: Weights, given: Input) -> Run:
    found = run_equations(spec, weights, given)
    return replace(found, y=torch.cat((found.y[:2], found.y[2:] * 1.01)))


def with_scaled_h(spec: Spec, weights: Weights, given: Input) -> Run:
    found = run_equations(spec, weights, given)
    return replace(found, state=(found.state[0] * 1.01, *found.state[1:]))


NO_GATE: dict[str, tuple[str, subjects.Subject]] = {
    "a peephole": ("lstm", with_formula(peephole)),
    "a gate that is a multiple": ("lstm", with_formula(lstm_step(i=lambda x: 1.01 * torch.sigmoid(x)))),
    "another that is a multiple": ("lstm", with_formula(lstm_step(g=lambda x: 1.01 * torch.tanh(x)))),
    "r that is a multiple": ("gru", with_formula(gru_step(r=lambda x: 1.01 * torch.sigmoid(x)))),
    "y alone": ("gru", a_fault_in_time),
    "h alone": ("lstm", with_scaled_h),
}


@pytest.mark.parametrize("name", NO_GATE)
def test_no_gate_is_named_where_none_is_at_fault(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    kind, run = NO_GATE[name]
    assert gate_of(monkeypatch, Spec(kind=kind, seq_len=4), run) is None


class Late:
    """A step that is torch's, and another one from step 2 on in one call, of one layer."""

    def __init__(self, late: Formula) -> None:
        self.late = late

    def __call__(self, spec: Spec, weights: Weights, given: Input) -> Run:
        formula, steps = subjects.formula_of(spec), count()

        def step(w: Layer, x: Tensor, state: State) -> State:
            return (formula if next(steps) < 2 else self.late)(w, x, state)

        return run_equations(spec, weights, given, formula=step)


def gru_late(
    sum_of: Callable[..., Tensor] = lambda n_x, r, n_h: n_x + r * n_h,
    h_of: Callable[..., Tensor] = lambda h, r, z, n: (1 - z) * n + z * h,
) -> Formula:
    def step(w: Layer, x: Tensor, state: State) -> State:
        (h,) = state
        r, z, _ = gru_gates(w, x, state)
        n_x, n_h = (affine(a, *b).chunk(3, -1)[2] for a, b in ((x, (w.W_ih, w.b_ih)), (h, (w.W_hh, w.b_hh))))
        return (h_of(h, r, z, torch.tanh(sum_of(n_x, r, n_h))),)

    return step


def two_off(w: Layer, x: Tensor, state: State) -> State:
    return lstm_step(i=hard, f=hard)(w, x, state)


LATE: dict[str, tuple[str, Formula, str | None]] = {
    "f": ("lstm", lstm_step(f=hard), "f"),
    "g": ("lstm", lstm_step(g=torch.relu), "g"),
    "o": ("lstm", lstm_step(o=hard), "o"),
    "z": ("gru", gru_step(z=hard), "z"),
    "another product in n": ("gru", gru_late(lambda n_x, r, n_h: n_x + r * (n_h + n_h.roll(1, -1))), "n"),
    "a product in n that is scaled": ("gru", gru_late(lambda n_x, r, n_h: n_x + 4 * r * n_h), None),
    "two gates": ("lstm", two_off, None),
    "h that is kept": ("gru", gru_late(h_of=lambda h, r, z, n: (1 - z) * n + z * r * h), None),
    "h that is scaled": ("gru", gru_late(h_of=lambda h, r, z, n: (1 - z) * n + 0.9 * z * h), None),
    "c that is another": ("lstm", lambda w, x, state: torchs_lstm_step(w, x, (state[0], 0.9 * state[1])), None),
    "h that is another": ("lstm", lambda w, x, state: torchs_lstm_step(w, x, (0.9 * state[0], state[1])), None),
}


@pytest.mark.parametrize("h0", ["zeros", "random"])
@pytest.mark.parametrize("name", LATE)
def test_what_is_off_behind_other_steps_alone_is_told(monkeypatch: pytest.MonkeyPatch, name: str, h0: str) -> None:
    kind, formula, gate = LATE[name]
    assert gate_of(monkeypatch, Spec(kind=kind, num_layers=1, seq_len=4, h0=h0), Late(formula)) == gate


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_class_that_takes_no_state_is_told_its_gate(kind: str) -> None:
    gate, at = ("o", 60) if kind == "lstm" else ("z", 20)

    class NoState(nn.Module):
        def __init__(self, rnn: Any) -> None:
            super().__init__()
            self.rnn = rnn

        def forward(self, x: Tensor) -> Any:
            rnn, inside = self.rnn, copy.deepcopy(self.rnn)
            with torch.no_grad():
                inside.weight_ih_l0[at : at + 20] = rnn.weight_ih_l0[at : at + 20] * 1.1
            return inside(x)

    torch.manual_seed(0)
    rnn = getattr(nn, kind.upper())(10, 20)
    assert compare(rnn, NoState(copy.deepcopy(rnn)), torch.randn(5, 3, 10)).gate == gate


@pytest.mark.parametrize(("linear_before_reset", "gate"), [(0, "n"), (1, None)])
def test_the_gate_of_a_file_without_float64_is_that_of_its_deviation(
    tmp_path: Path, linear_before_reset: int, gate: str | None
) -> None:
    pytest.importorskip("onnx")
    import onnx_files

    module = onnx_files.module_of("GRU")
    file = onnx_files.written(tmp_path / "gru.onnx", module, linear_before_reset=linear_before_reset)
    found = compare(module, file, *onnx_files.input_of(module))
    assert (found.exit_code, found.gate) == (int(gate is not None), gate)


GATES_OF_DEVIATIONS = {
    "lstm": {
        "coupled forget gate": "f",
        "coupled input gate": "i",
        "forget bias of 1": "f",
        "forget bias of 2": "f",
        "bias of 1 on the input gate": "i",
        "bias of 1 on the cell gate": "g",
        "bias of 1 on the output gate": "o",
    },
    "gru": {
        "update gate inverted": "z",
        "reset before the matmul": "n",
        "b_ih and b_hh swapped": "n",
        "b_hn outside the reset gate": "n",
        "tanh and relu swapped": "n",
        "hard tanh": "n",
    },
}
"""In a GRU the sum of the two biases is all that counts for r and z, and n alone has a tanh."""


@pytest.mark.parametrize(
    ("spec", "deviation"),
    [(spec, each) for spec in (Spec(kind="lstm", bias=False), Spec(kind="gru")) for each in deviations(spec)],
    ids=lambda value: value.name if isinstance(value, Deviation) else value.kind,
)
def test_only_deviations_of_one_gate_have_one(
    monkeypatch: pytest.MonkeyPatch, spec: Spec, deviation: Deviation
) -> None:
    monkeypatch.setitem(subjects.SUBJECTS, "equations", deviation.run)
    assert compare(spec, right="equations").gate == GATES_OF_DEVIATIONS[spec.kind].get(deviation.name)


@pytest.mark.parametrize("gate", "ifg")
def test_a_projection_tells_all_gates_but_o(monkeypatch: pytest.MonkeyPatch, gate: str) -> None:
    assert gate_of(monkeypatch, Spec(kind="lstm", proj_size=8), faulty(FAULTS["b_hh left out"], gate)) == gate


def test_a_projection_hides_o(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gate_of(monkeypatch, Spec(kind="lstm", proj_size=8), faulty(FAULTS["b_hh left out"], "o")) is None


def test_without_biases_a_scaled_part_of_n_is_not_taken_for_r(monkeypatch: pytest.MonkeyPatch) -> None:
    """r·(1.01·W_hn·h) may be either."""
    spec = Spec(kind="gru", bias=False)
    assert gate_of(monkeypatch, spec, faulty(FAULTS["W_hh scaled"], "n")) is None


CLASS = """
import torch
from torch import nn



class NoForgetBias(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.cell = nn.LSTMCell(input_size, hidden_size)

    def forward(self, x, hx):
        cell, h, c, y = self.cell, hx[0][0], hx[1][0], []
        for step in x:
            gates = step @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T
            i, f, g, o = gates.chunk(4, -1)
            bi, bf, bg, bo = cell.bias_hh.chunk(4)
            c = f.sigmoid() * c + (i + bi).sigmoid() * (g + bg).tanh()
            h = (o + bo).sigmoid() * c.tanh()
            y.append(h)
        return torch.stack(y), (h[None], c[None])
"""


def test_a_class_is_told_its_gate_in_words_and_in_json(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(CLASS)
    words = ("compare", "--kind", "lstm", "--layers", "1", "--right", f"{tmp_path}/own.py:NoForgetBias")
    assert "First at: step 0, layer 0, gate f, unit" in cli(*words).out
    assert json.loads(cli(*words, "--json").out)["first_divergence"]["gate"] == "f"


def test_the_document_says_where_there_is_no_gate(cli: Cli) -> None:
    found = json.loads(cli("compare", "--kind", "lstm", "--right", f"{OWN}:Iofg", "--layers", "1", "--json").out)
    assert found["first_divergence"]["gate"] is None


def pair(kind: str, change: Callable[[nn.Module], None]) -> tuple[nn.Module, nn.Module, Tensor]:
    torch.manual_seed(0)
    modules = [getattr(nn, kind.upper())(10, 20, 2, bidirectional=True) for _ in range(2)]
    modules[1].load_state_dict(modules[0].state_dict())
    with torch.no_grad():
        change(modules[1])
    return modules[0], modules[1], torch.randn(5, 3, 10)


@pytest.mark.parametrize("name", ["weight_ih_l1", "weight_hh_l1", "bias_ih_l1", "weight_hh_l0_reverse"])
@pytest.mark.parametrize(("kind", "gate"), CASES)
def test_weights_that_differ_in_one_gate_name_it(kind: str, gate: str, name: str) -> None:
    at = GATES[kind].index(gate) * 20

    def change(module: Any) -> None:
        getattr(module, name)[at : at + 20] += 0.01

    found = compare(*pair(kind, change))
    assert found.reference is not None
    assert found.reference.deviating == ()
    assert found.gate == gate


def test_weights_that_differ_in_two_gates_name_none() -> None:
    def change(module: Any) -> None:
        module.bias_ih_l1[:21] += 0.01

    assert compare(*pair("lstm", change)).gate is None


def test_the_gate_is_one_of_the_layer_of_the_place() -> None:
    def change(module: Any) -> None:
        module.bias_ih_l0[:20] += 0.01
        module.bias_ih_l1[20:40] += 0.01

    found = compare(*pair("lstm", change))
    assert found.first_divergence is not None
    assert (found.first_divergence.layer, found.gate) == (0, "i")


def test_an_rnn_has_no_gate() -> None:
    def change(module: Any) -> None:
        module.bias_ih_l1[:20] += 0.01

    assert compare(*pair("rnn", change)).gate is None


@pytest.mark.parametrize("times", [4, 15])
@pytest.mark.parametrize(("kind", "gate"), CASES)
def test_large_weights_hide_no_gate(monkeypatch: pytest.MonkeyPatch, kind: str, gate: str, times: int) -> None:
    from rnnscope.verdict import problem as problems

    large = {name: each * times for name, each in draw_weights(Spec(kind=kind)).items()}
    monkeypatch.setattr(problems, "draw_weights", lambda spec: large)
    assert gate_of(monkeypatch, Spec(kind=kind), faulty(FAULTS["b_hh left out"], gate)) == gate


@pytest.mark.parametrize(("kind", "gates", "units"), [("gru", "z", 2), ("gru", "zn", 1), ("lstm", "i", 1)])
def test_too_few_units_tell_no_gate(monkeypatch: pytest.MonkeyPatch, kind: str, gates: str, units: int) -> None:
    run = faulty(FAULTS["W_hh left out"], gates)
    assert gate_of(monkeypatch, Spec(kind=kind, hidden_size=units, input_size=1), run) is None


class Live(nn.Module):
    """A module of one's own with weights of its own, whose output gate has no recurrent part."""

    batch_first = True

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(10, 20, batch_first=True)

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        w: Any = self.lstm
        h, c, y = hx[0][0], hx[1][0], []
        for step in x.unbind(1):
            a = affine(step, w.weight_ih_l0, w.bias_ih_l0)
            i, f, g, _ = (a + affine(h, w.weight_hh_l0, w.bias_hh_l0)).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = a.chunk(4, -1)[3].sigmoid() * c.tanh()
            y.append(h)
        return torch.stack(y, 1), (h[None], c[None])


def test_a_live_module_is_told_its_gate() -> None:
    torch.manual_seed(0)
    right = Live()
    found = compare(right.lstm, right, torch.randn(3, 5, 10), (torch.randn(1, 3, 20), torch.randn(1, 3, 20)))
    assert (found.verdict, found.gate) == ("different", "o")


def test_right_weights_are_told_their_gate(cli: Cli, tmp_path: Path) -> None:
    weights = nn.GRU(10, 20).state_dict()
    torch.save(weights, tmp_path / "left.pt")
    weights["weight_hh_l0"][25, 3] += 0.5  # a row of z
    torch.save(weights, tmp_path / "right.pt")
    answer = cli("compare", "--weights", str(tmp_path / "left.pt"), "--right-weights", str(tmp_path / "right.pt"))
    assert "layer 0, gate z, unit 5," in answer.out


def test_a_class_whose_state_has_another_shape_after_one_step_is_told_no_gate() -> None:
    breaking = OWN.with_name("networks_breaking_relations.py")
    found = compare(Spec(kind="gru", num_layers=1, seq_len=7), right=f"{breaking}:GivesAnEarlierState")
    assert (found.verdict, found.cause, found.gate) == ("different", "function", None)


class GivesNoC(nn.Module):
    """An LSTM that gives y and h, or y alone, and adds 0.5 to the sum of its forget gate."""

    def __init__(self, lstm: nn.LSTM, gives_h: bool) -> None:
        super().__init__()
        self.gives_h, self.cell = gives_h, nn.LSTMCell(3, 4)
        self.cell.load_state_dict({name.removesuffix("_l0"): each for name, each in lstm.state_dict().items()})

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        h, c = (x.new_zeros(x.shape[1], 4),) * 2 if hx is None else (hx[0][0], hx[1][0])
        y = []
        for each in x:
            sums = nn.functional.linear(each, self.cell.weight_ih, self.cell.bias_ih)
            sums = sums + nn.functional.linear(h, self.cell.weight_hh, self.cell.bias_hh)
            i, f, g, o = sums.chunk(4, -1)
            c = (f + 0.5).sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            y.append(h)
        return (torch.stack(y), h[None]) if self.gives_h else torch.stack(y)


@pytest.mark.parametrize("gives_h", [True, False], ids=["y and h", "y alone"])
def test_a_side_that_gives_no_c_is_compared_without_a_gate(gives_h: bool) -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(3, 4)
    found = compare(lstm, GivesNoC(lstm, gives_h), torch.randn(5, 2, 3))
    assert (found.verdict, found.first_divergence is not None) == ("different", True)
