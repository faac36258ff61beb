"""Real modules, with weights of their own: compared, asserted in a test suite, and left as they were."""

import os
import warnings
from copy import deepcopy
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from rnnscope import RnnscopeError, StackedCells, assert_equivalent, compare


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Wrapped(nn.Module):
    """Hides torch's module behind a name, and says nothing of itself."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        return self.rnn(x, hx)


class Scaled(Wrapped):
    def forward(self, x: Tensor, hx: Any = None) -> Any:
        y, h = self.rnn(x, hx)
        return y * 1.001, h


MODULES: dict[str, nn.Module] = {
    "rnn": nn.RNN(3, 4, 2, nonlinearity="relu"),
    "lstm": nn.LSTM(3, 4, 2, bidirectional=True, dropout=0.5),
    "gru": nn.GRU(3, 4, 2, batch_first=True),
}


def state(kind: str, batch: int = 5) -> Any:
    if kind == "lstm":
        return torch.randn(4, batch, 4), torch.randn(4, batch, 4)
    return torch.randn(2, batch, 4)


@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize("kind", MODULES)
def test_a_module_and_its_cells_are_the_same(kind: str, with_state: bool) -> None:
    module: Any = MODULES[kind]
    x = torch.randn(6, 5, 3) if kind != "gru" else torch.randn(5, 6, 3)
    found = compare(module, StackedCells.from_module(module), x, state(kind) if with_state else None, grad=True)
    assert found.verdict in ("identical", "equivalent")
    assert found.weights == ()
    assert (found.spec.seq_len, found.spec.batch_size, found.spec.kind) == (6, 5, kind)
    assert found.figures.missing_gradients == ()


def test_packed_and_unbatched_input() -> None:
    module = nn.LSTM(3, 4)
    cells = StackedCells.from_module(module)
    packed = pack_padded_sequence(torch.randn(6, 3, 3), torch.tensor([2, 6, 4]), enforce_sorted=False)
    hx = torch.randn(1, 3, 4), torch.randn(1, 3, 4)
    assert compare(module, cells, packed, hx).spec.lengths == (2, 6, 4)
    assert compare(module, cells, packed, hx).exit_code == 0
    assert compare(module, cells, torch.randn(6, 3)).spec.unbatched


@pytest.mark.parametrize("kind", MODULES)
def test_a_wrapper_is_looked_into(kind: str) -> None:
    module = MODULES[kind]
    x = torch.randn(5, 5, 3)
    assert compare(Wrapped(module), Wrapped(deepcopy(module)), x).verdict == "identical"
    assert compare(Wrapped(module), module, x).exit_code == 0


def test_each_side_gets_the_input_in_its_own_layout() -> None:
    first, other = nn.GRU(3, 4), nn.GRU(3, 4, batch_first=True)
    other.load_state_dict(first.state_dict())
    found = compare(first, other, torch.randn(6, 5, 3), torch.randn(1, 5, 4), grad=True)
    assert found.exit_code == 0
    assert (found.spec.seq_len, found.outputs[0].shape) == (6, (6, 5, 4))
    assert (found.left, found.right) == ("GRU (left)", "GRU (right)")
    assert dict(found.adaptations)["right"] == ("x and y are (N, L, …) in it, as its batch_first says",)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_cells_are_looped(kind: str) -> None:
    cell = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}[kind](3, 4)
    state = torch.randn(5, 4)
    hx: Any = (state, torch.randn(5, 4)) if kind == "lstm" else state
    step = compare(cell, deepcopy(cell), torch.randn(5, 3), hx)
    assert (step.verdict, step.spec.seq_len, step.spec.batch_size) == ("identical", 1, 5)
    module: Any = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[kind](3, 4)
    module.load_state_dict({f"{name}_l0": each for name, each in cell.state_dict().items()})
    assert compare(module, cell, torch.randn(6, 5, 3), hx, grad=True).exit_code == 0
    module.weight_hh_l0.data[0, 1] += 1e-3
    assert compare(module, cell, torch.randn(6, 5, 3), hx).exit_code == 1


class OneBias(nn.Module):
    """The sum of both biases of an LSTM, in float32."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        own = {name: each.detach() for name, each in lstm.named_parameters()}
        self.W, self.U = nn.Parameter(own["weight_ih_l0"].T), nn.Parameter(own["weight_hh_l0"].T)
        self.b = nn.Parameter(own["bias_ih_l0"] + own["bias_hh_l0"])

    def forward(self, x: Tensor, hx: Any) -> Any:
        h, c = hx[0][0], hx[1][0]
        ys = []
        for step in x:
            i, f, g, o = (step @ self.W + h @ self.U + self.b).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            ys.append(h)
        return torch.stack(ys), (h[None], c[None])


@pytest.mark.parametrize("seed", range(5))
def test_the_rounding_of_a_folded_bias_is_no_fault(seed: int) -> None:
    torch.manual_seed(seed)
    lstm = nn.LSTM(3, 4)
    x, hx = torch.randn(6, 5, 3), (torch.randn(1, 5, 4), torch.randn(1, 5, 4))
    found = compare(lstm, OneBias(lstm), x, hx, grad=True)
    assert (found.exit_code, found.weights) == (0, ())
    other = OneBias(lstm)
    other.b.data[2] += 1e-4
    assert [each.name for each in compare(lstm, other, x, hx).weights] == ["bias_ih_l0"]


FORGET_BIAS = 0.5


class WithForgetBias(nn.Module):
    """An LSTM with one bias and its gates in another order, which has a forget bias in its code."""

    def __init__(self, lstm: nn.LSTM, outside: bool = False) -> None:
        super().__init__()
        own = {name: each.detach() for name, each in lstm.named_parameters()}
        self.W, self.U, self.b = (
            nn.Parameter(torch.cat([own[f"{name}_l0"].chunk(4)[gate] for gate in (0, 2, 1, 3)]))
            for name in ("weight_ih", "weight_hh", "bias_ih")
        )
        self.outside = outside

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        h, c = (each[0] for each in hx) if hx else (x.new_zeros(x.shape[1], 8) for _ in range(2))
        ys = []
        for step in x:
            i, g, f, o = (step @ self.W.T + h @ self.U.T + self.b).chunk(4, -1)
            f = f.sigmoid() + FORGET_BIAS if self.outside else (f + FORGET_BIAS).sigmoid()
            c = f * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            ys.append(h)
        return torch.stack(ys), (h[None], c[None])


def lstm_with_forget_bias() -> Any:
    lstm: Any = nn.LSTM(6, 8)
    with torch.no_grad():
        lstm.bias_hh_l0.zero_()
        lstm.bias_hh_l0[8:16] = FORGET_BIAS
    return lstm


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_bias_that_stands_in_the_code_is_no_fault(seed: int, turned: bool) -> None:
    """Its sum with the parameter is never rounded, so that neither may be that of the other side."""
    torch.manual_seed(seed)
    lstm = lstm_with_forget_bias()
    one, other = (lstm, WithForgetBias(lstm))[:: -1 if turned else 1]
    found = compare(one, other, torch.randn(20, 1, 6))
    assert (found.verdict, found.cause) == ("equivalent", "rounding")
    assert found.weights  # those that its parameters are taken for


@pytest.mark.parametrize("turned", [False, True])
def test_the_gate_is_told_though_parameters_are_taken_for_others(turned: bool) -> None:
    lstm = lstm_with_forget_bias()
    one, other = (lstm, WithForgetBias(lstm, outside=True))[:: -1 if turned else 1]
    found = compare(one, other, torch.randn(20, 1, 6))
    assert (found.side, found.gate) == ("left" if turned else "right", "f")
    assert found.first_divergence is not None
    assert found.first_divergence.step == 1  # from a c of zeros f does nothing


def test_a_module_in_training_mode_is_compared_in_evaluation_mode() -> None:
    dropping = nn.LSTM(3, 4, 2, dropout=0.5)
    found = compare(dropping, deepcopy(dropping).eval(), torch.randn(6, 5, 3))
    assert found.verdict == "identical"
    assert dict(found.adaptations) == {"left": ("it is in training mode, and is compared in evaluation mode",)}


class Spoils(Wrapped):
    """Computes what is right, and changes what it was given."""

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        y, h = self.rnn(x, hx)
        x.detach().zero_()
        hx.detach().zero_()
        return y, h


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_a_module_does_to_its_input_changes_nothing(dtype: torch.dtype) -> None:
    module = nn.GRU(3, 4).to(dtype)
    x, h0 = torch.randn(6, 5, 3, dtype=dtype), torch.randn(1, 5, 4, dtype=dtype)
    before = x.clone(), h0.clone()
    assert compare(Spoils(module), module, x, h0).verdict == "identical"
    assert torch.equal(x, before[0])
    assert torch.equal(h0, before[1])


def test_weights_that_were_never_shared_are_said() -> None:
    found = compare(nn.LSTM(3, 4), StackedCells("lstm", 3, 4), torch.randn(6, 5, 3))
    assert (found.cause, found.side) == ("function", None)
    assert len(found.weights) == 4


def test_another_function_is_told_by_its_side() -> None:
    module = nn.GRU(3, 4)
    found = compare(module, Scaled(module), torch.randn(6, 5, 3), torch.randn(1, 5, 4))
    assert (found.cause, found.side, found.right) == ("function", "right", "Scaled")


@pytest.mark.parametrize(("left", "right"), [("float64", "float32"), ("float32", "bfloat16")])
def test_a_copy_in_another_dtype_is_the_same_network(left: str, right: str) -> None:
    module = nn.GRU(3, 4).to(getattr(torch, left))
    found = compare(module, deepcopy(module).to(getattr(torch, right)), torch.randn(6, 5, 3))
    assert (found.verdict, found.sides.dtypes) == ("equivalent", (left, right))


def test_folded_weight_norm_is_the_same_network() -> None:
    normed: Any = nn.utils.parametrizations.weight_norm(nn.LSTM(3, 4), "weight_hh_l0")
    plain = nn.LSTM(3, 4)
    plain.load_state_dict({name: getattr(normed, name).detach() for name in plain.state_dict()})
    normed(torch.zeros(1, 1, 3))  # keeps what it has computed
    x = torch.randn(6, 5, 3)
    assert compare(plain, normed, x).verdict == "identical"
    assert compare(normed, plain, x, grad=True).exit_code == 0
    assert isinstance(normed.parametrizations.weight_hh_l0.original0, nn.Parameter)


@pytest.mark.parametrize("learns", [True, False])
def test_a_normed_weight_is_rounded_and_its_gradient_compared_as_a_plain_one(learns: bool) -> None:
    normed: Any = nn.utils.parametrizations.weight_norm(nn.LSTM(3, 4), "weight_hh_l0").requires_grad_(learns)
    plain = nn.LSTM(3, 4)
    plain.load_state_dict({name: getattr(normed, name).detach() for name in plain.state_dict()})
    x = torch.randn(6, 5, 3)
    assert compare(normed, deepcopy(plain).bfloat16(), x).verdict == "equivalent"
    assert bool(compare(normed, plain, x, grad=True).figures.missing_gradients) is not learns
    assert normed(x)[0].shape == (6, 5, 4)


def test_weight_norm_of_the_old_kind_is_the_same_network() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        normed: Any = nn.utils.weight_norm(nn.LSTM(3, 4), "weight_hh_l0")
    normed(torch.zeros(1, 1, 3))
    plain = nn.LSTM(3, 4)
    plain.load_state_dict({name: getattr(normed, name).detach() for name in plain.state_dict()})
    assert compare(plain, normed, torch.randn(6, 5, 3)).verdict == "identical"


class KeepsState(Wrapped):
    """Keeps the state of its last call, with all that led to it."""

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        y, self.last = self.rnn(x, hx)
        return y, self.last


def test_a_module_that_was_used_can_be_compared() -> None:
    module = nn.LSTM(3, 4)
    used = KeepsState(module)
    used(torch.randn(6, 5, 3))
    assert compare(used, module, torch.randn(6, 5, 3)).verdict == "identical"


def test_modules_are_left_as_they_were() -> None:
    module: Any = nn.LSTM(3, 4, 2, dropout=0.5)
    before = deepcopy(module.state_dict())
    cells, x = StackedCells.from_module(module), torch.randn(6, 5, 3, requires_grad=True)
    rng = torch.get_rng_state()
    compare(module, cells, x, grad=True, power=True)
    assert module.training
    assert all(torch.equal(each, before[name]) for name, each in module.state_dict().items())
    assert [each.grad for each in module.parameters()] == [None] * 8
    assert x.grad is None
    assert torch.equal(rng, torch.get_rng_state())


def test_a_working_directory_that_is_gone_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    module = nn.GRU(3, 4)
    assert compare(module, StackedCells.from_module(module), torch.randn(6, 5, 3)).exit_code == 0


def test_what_another_thread_prints_meanwhile_goes_to_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    is_run, is_printed = Event(), Event()

    class Waits(Wrapped):
        def forward(self, x: Tensor, hx: Any = None) -> Any:
            is_run.set()
            assert is_printed.wait(60)
            return super().forward(x, hx)

    def other() -> None:
        if is_run.wait(60):
            print("printed", flush=True)
            os.write(1, b"written\n")
            is_printed.set()

    thread, module = Thread(target=other), nn.GRU(3, 4)
    thread.start()
    assert compare(Waits(module), module, torch.randn(6, 5, 3)).verdict == "identical"
    thread.join()
    assert capfd.readouterr() == ("printed\nwritten\n", "")


def test_no_command_line_says_all_of_it() -> None:
    module = nn.GRU(3, 4)
    assert compare(module, module, torch.randn(6, 5, 3)).rerun == ""


def test_an_assertion_passes_with_the_comparison() -> None:
    module = nn.GRU(3, 4)
    found = assert_equivalent(module, StackedCells.from_module(module), torch.randn(6, 5, 3))
    assert found.exit_code == 0


def test_an_assertion_fails_with_the_table() -> None:
    module = nn.GRU(3, 4)
    with pytest.raises(AssertionError) as failure:
        assert_equivalent(module, Scaled(module), torch.randn(6, 5, 3))
    text = str(failure.value)
    assert "Scaled against GRU, nn.GRU (1 layer)" in text
    assert "Verdict: different: not the same function" in text
    assert "\nMore: rnnscope explain last_state zero-h0\nRun: " in text
    assert "Rerun" not in text


def test_an_assertion_takes_a_tolerance_too() -> None:
    module = nn.GRU(3, 4)
    with pytest.raises(AssertionError, match="over the tolerance"):
        assert_equivalent(module, nn.GRU(3, 4), torch.randn(6, 5, 3), reference=False, rtol=0, atol=1e-6)


LSTM, GRU, X = nn.LSTM(3, 4), nn.GRU(3, 4), torch.zeros(6, 5, 3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((nn.Linear(3, 4), nn.Linear(3, 4), X), "no kind and sizes can be told of Linear or Linear"),
        ((LSTM, GRU, X), r"LSTM is nn.LSTM\(3, 4, num_layers=1\) and GRU is nn.GRU\(3, 4, num_layers=1\)"),
        ((GRU, nn.GRU(3, 5), X), "compare networks of one kind and size"),
        ((GRU, nn.GRU(3, 4, bias=False), X), r"GRU is nn.GRU\(3, 4, num_layers=1, bias=False\)"),
        ((GRU, GRU, torch.zeros(6, 5, 2)), r"x has shape \(6, 5, 2\), but it must be \(L, N, H_in\) = \(6, 5, 3\)"),
        ((GRU, GRU, torch.zeros(6)), r"x has shape \(6,\), but it must have 3 dims"),
        ((GRU, GRU, [1, 2]), "x is a list, but it must be a tensor of floating-point numbers"),
        ((GRU, GRU, X, torch.zeros(1, 5, 3)), r"h0 has shape \(1, 5, 3\), but it must be"),
        ((LSTM, LSTM, X, torch.zeros(1, 5, 4)), r"hx is a Tensor, but nn.LSTM takes the pair \(h0, c0\)"),
        ((GRU, GRU, X, (torch.zeros(1, 5, 4),)), "hx is a tuple, but nn.GRU takes the tensor h0"),
        ((GRU, deepcopy(GRU).to("meta"), X), "is in float32 on meta, but it must be in one of"),
        (("module", "cells"), "compare takes a Spec, or two modules and their input"),
        ((GRU, "cells", X), "compare takes a Spec, or two modules and their input"),
        (
            (GRU, GRU, torch.zeros(6, 5, 3, dtype=torch.int64)),
            "x is of torch.int64, but it must be a tensor of floating",
        ),
        ((LSTM, LSTM, X, (torch.zeros(1, 5, 4), None)), "c0 is a NoneType, but it must be a tensor"),
    ],
)
def test_what_cannot_be_compared(arguments: Any, sentence: str) -> None:
    with pytest.raises(RnnscopeError, match=sentence):
        compare(*arguments)


@pytest.mark.parametrize("question", [{"resync": True, "reference": False}, {"rtol": 1.0}, {"grad": 3}])
def test_a_question_that_makes_no_sense(question: dict[str, Any]) -> None:
    with pytest.raises(RnnscopeError):
        compare(nn.RNN(3, 4), nn.RNN(3, 4), X, **question)
