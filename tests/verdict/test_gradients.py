"""Where gradients first part though outputs are right: named as people plant such faults."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from support import OWN, Cli
from torch import Tensor, nn

from rnnscope import Comparison, Spec, compare
from rnnscope.network.equations import Layer, State, Step, affine
from rnnscope.network.shapes import GATES
from rnnscope.network.weights import Input, Weights
from rnnscope.pages.page import Sentence
from rnnscope.spec.spec import KINDS
from rnnscope.subjects import builtin as subjects
from rnnscope.subjects.builtin import Run, run_equations


class Scaled(torch.autograd.Function):
    """x, whose gradient is half of what it should be."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return 0.5 * gradients[0]


class WrongTanh(torch.autograd.Function):
    """tanh with the derivative 1 - y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        found: Tensor = gradients[0] * (1 - ctx.saved_tensors[0])
        return found


class WrongSigmoid(torch.autograd.Function):
    """σ with the derivative y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.sigmoid(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        found: Tensor = gradients[0] * ctx.saved_tensors[0]
        return found


def half(x: Tensor) -> Tensor:
    found: Tensor = Scaled.apply(x)  # type: ignore[no-untyped-call]
    return found


def wrong_tanh(x: Tensor) -> Tensor:
    found: Tensor = WrongTanh.apply(x)  # type: ignore[no-untyped-call]
    return found


def wrong_sigmoid(x: Tensor) -> Tensor:
    found: Tensor = WrongSigmoid.apply(x)  # type: ignore[no-untyped-call]
    return found


Change = Callable[[Tensor], Tensor]


def with_state(change: Change, every: int = 1) -> subjects.Subject:
    """The equations with what a step hands to the next changed."""

    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        def around(layer: int, direction: int, step: Step) -> Step:
            count = -1

            def taken(x: Tensor, state: State) -> State:
                nonlocal count
                count += 1
                changed = count % every == every - 1
                return step(x, tuple(map(change, state)) if changed else state)

            return taken

        return run_equations(spec, weights, given, around=around)

    return run


def with_x(change: Change, layer: int) -> subjects.Subject:
    """The equations with what goes up into a layer changed."""

    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        def around(k: int, direction: int, step: Step) -> Step:
            return (lambda x, state: step(change(x), state)) if k == layer else step

        return run_equations(spec, weights, given, around=around)

    return run


def with_weight(change: Change, name: str) -> subjects.Subject:
    """The equations with a weight changed on its way into them."""

    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        own = {each: tensor.clone().requires_grad_(torch.is_grad_enabled()) for each, tensor in weights.items()}
        layer, base = int(name[-1]), {"weight_hh": "W_hh", "weight_ih": "W_ih", "bias_ih": "b_ih"}[name[:-3]]

        def step(w: Layer, x: Tensor, state: State) -> State:
            marked = own[f"weight_ih_l{layer}"]
            if w.W_ih.shape == marked.shape and torch.equal(w.W_ih, marked):
                w = replace(w, **{base: change(getattr(w, base))})
            return subjects.formula_of(spec)(w, x, state)

        return run_equations(spec, weights, given, formula=step)

    return run


def with_output(change: Change, at: str) -> subjects.Subject:
    """The equations with an output changed."""

    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        found = run_equations(spec, weights, given)
        if at == "y":
            return replace(found, y=change(found.y))
        number = ("h", "c").index(at)
        return replace(found, state=tuple(change(each) if n == number else each for n, each in enumerate(found.state)))

    return run


def with_gates(kind: str, **activations: Change) -> subjects.Subject:
    """The equations with other activations in some gates; out is that of c' in an LSTM."""
    plain = {"i": torch.sigmoid, "f": torch.sigmoid, "g": torch.tanh, "o": torch.sigmoid, "out": torch.tanh}
    of: dict[str, Change] = plain | {"r": torch.sigmoid, "z": torch.sigmoid, "n": torch.tanh} | activations

    def lstm(w: Layer, x: Tensor, state: State) -> State:
        rows = (affine(x, w.W_ih, w.b_ih) + affine(state[0], w.W_hh, w.b_hh)).chunk(4, -1)
        i, f, g, o = (of[gate](each) for gate, each in zip("ifgo", rows, strict=True))
        c = f * state[1] + i * g
        h = o * of["out"](c)
        return (h if w.W_hr is None else h @ w.W_hr.T), c

    def gru(w: Layer, x: Tensor, state: State) -> State:
        (h,) = state
        (r_x, z_x, n_x), (r_h, z_h, n_h) = (
            affine(*each).chunk(3, -1) for each in ((x, w.W_ih, w.b_ih), (h, w.W_hh, w.b_hh))
        )
        r, z = of["r"](r_x + r_h), of["z"](z_x + z_h)
        return ((1 - z) * of["n"](n_x + r * n_h) + z * h,)

    def rnn(w: Layer, x: Tensor, state: State) -> State:
        return (of["n"](affine(x, w.W_ih, w.b_ih) + affine(state[0], w.W_hh, w.b_hh)),)

    step = {"lstm": lstm, "gru": gru, "rnn": rnn}[kind]
    return lambda spec, weights, given: run_equations(spec, weights, given, formula=step)


def found_in(monkeypatch: pytest.MonkeyPatch, spec: Spec, run: subjects.Subject) -> Comparison:
    monkeypatch.setitem(subjects.SUBJECTS, "equations", run)
    assert compare(spec, right="equations").exit_code == 0
    found = compare(spec, right="equations", grad=True)
    assert (found.verdict, found.cause, found.side) == ("different", "function", "right")
    assert found.first_divergence is None
    return found


def facts(found: Comparison) -> tuple[Any, ...]:
    """name, kind, gate and single_steps."""
    fault = found.gradient_fault
    assert fault is not None
    return fault.name, fault.kind, fault.gate, fault.single_steps


@pytest.mark.parametrize("both", [False, True], ids=["", "both directions"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_is_detached_between_steps(
    monkeypatch: pytest.MonkeyPatch, kind: str, layers: int, both: bool
) -> None:
    spec = Spec(kind=kind, num_layers=layers, bidirectional=both)
    assert facts(found_in(monkeypatch, spec, with_state(Tensor.detach))) == ("h0", "missing", None, True)


def test_a_state_that_is_detached_now_and_then_is_right_in_single_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_in(monkeypatch, Spec(seq_len=6), with_state(Tensor.detach, every=3))
    assert facts(found) == ("weight_ih_l1", "formula", None, False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_whose_gradient_is_scaled(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    found = found_in(monkeypatch, Spec(kind=kind), with_state(half))
    assert facts(found) == ("h0", "scale", None, True)
    assert found.gradient_fault is not None
    assert found.gradient_fault.scale == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("form", [{}, {"batch_first": True, "lengths": (4, 2, 3)}, {"unbatched": True}], ids=str)
def test_x_that_is_detached(monkeypatch: pytest.MonkeyPatch, form: dict[str, Any]) -> None:
    assert facts(found_in(monkeypatch, Spec(**form), with_x(Tensor.detach, 0))) == ("x", "missing", None, True)


def test_layers_that_are_detached_from_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_in(monkeypatch, Spec(kind="gru", num_layers=3), with_x(Tensor.detach, 2))
    assert facts(found) == ("weight_ih_l1", "missing", None, True)


@pytest.mark.parametrize("name", ["weight_hh_l0", "weight_hh_l1", "weight_ih_l1", "bias_ih_l0"])
def test_a_parameter_that_is_read_as_data(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    found = found_in(monkeypatch, Spec(kind="lstm"), with_weight(Tensor.detach, name))
    assert facts(found) == (name, "missing", None, True)


def test_a_parameter_whose_gradient_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_in(monkeypatch, Spec(), with_weight(half, "weight_hh_l0"))
    assert facts(found) == ("weight_hh_l0", "scale", None, True)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [False, True], ids=["", "both directions"])
def test_a_wrong_derivative_of_tanh(monkeypatch: pytest.MonkeyPatch, layers: int, both: bool) -> None:
    spec = Spec(num_layers=layers, bidirectional=both)
    found = found_in(monkeypatch, spec, with_gates("rnn", n=wrong_tanh))
    assert facts(found) == (f"weight_ih_l{layers - 1}", "formula", None, True)


@pytest.mark.parametrize(("kind", "gate"), [(kind, gate) for kind in ("lstm", "gru") for gate in GATES[kind]])
def test_a_wrong_derivative_in_one_gate(monkeypatch: pytest.MonkeyPatch, kind: str, gate: str) -> None:
    activation = wrong_tanh if gate in "gn" else wrong_sigmoid
    found = found_in(monkeypatch, Spec(kind=kind), with_gates(kind, **{gate: activation}))
    assert facts(found) == ("weight_ih_l1", "formula", gate, True)


@pytest.mark.parametrize(("kind", "gate"), [("lstm", "f"), ("lstm", "o"), ("gru", "z"), ("gru", "r")])
def test_a_gate_that_is_detached(monkeypatch: pytest.MonkeyPatch, kind: str, gate: str) -> None:
    run = with_gates(kind, **{gate: lambda rows: torch.sigmoid(rows).detach()})
    assert facts(found_in(monkeypatch, Spec(kind=kind), run)) == ("weight_ih_l1", "missing", gate, True)


def test_a_wrong_derivative_of_what_all_gates_but_one_go_through(monkeypatch: pytest.MonkeyPatch) -> None:
    run = with_gates("lstm", out=wrong_tanh)
    assert facts(found_in(monkeypatch, Spec(kind="lstm"), run)) == ("weight_ih_l1", "formula", None, True)


def test_a_projection_stands_before_the_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_in(monkeypatch, Spec(kind="lstm", proj_size=8), with_output(half, "y"))
    assert facts(found) == ("weight_hr_l1", "scale", None, True)


@pytest.mark.parametrize("output", ["y", "h", "c"])
def test_an_output_through_which_nothing_comes_back(monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    found = found_in(monkeypatch, Spec(kind="lstm"), with_output(Tensor.detach, output))
    assert facts(found)[:2] == ("weight_ih_l1", "missing")
    assert found.gradient_fault is not None
    assert found.gradient_fault.through == output


def test_it_is_told_in_words_and_in_json(cli: Cli) -> None:
    words = ("compare", "--kind", "lstm", "--grad", "--right", f"{OWN}:DetachesState")
    text = " ".join(cli(*words).out.split())
    expected = "it is 0 where torch's is not, so that a step hands none back to the one before."
    assert f"First in: the gradient of h0, in single steps: {expected}" in text
    fault = json.loads(cli(*words, "--json").out)["gradient_fault"]
    shown = {"side": "right", "name": "h0", "kind": "missing", "scale": None, "gate": None}
    assert fault == shown | {"through": "y", "single_steps": True}


def test_a_scale_is_told(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.setitem(subjects.SUBJECTS, "cells", with_output(half, "h"))
    text = " ".join(cli("compare", "--grad").out.split())
    expected = "the gradient of weight_ih_l1, in single steps, of what comes back through h: it is 0.5 times torch's."
    assert f"First in: {expected}" in text


@pytest.mark.parametrize("flags", [(), ("--grad",)], ids=str)
def test_there_is_none_where_gradients_are_right(cli: Cli, flags: tuple[str, ...]) -> None:
    assert json.loads(cli("compare", "--json", *flags).out)["gradient_fault"] is None


def test_there_is_none_where_outputs_are_off() -> None:
    found = compare(Spec(kind="lstm", num_layers=1), right=f"{OWN}:Iofg", grad=True)
    assert found.first_divergence is not None
    assert found.gradient_fault is None


def test_the_steps_that_are_taken_by_themselves_tell_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(subjects.SUBJECTS, "cells", with_state(Tensor.detach))
    assert facts(compare(Spec(), grad=True, resync=True)) == ("h0", "missing", None, True)


class WithoutState(nn.Module):
    """A live module that takes no hx, and detaches its weight_hh."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(10, 20)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        w: Any = self.rnn
        h, states = x.new_zeros(x.shape[1], 20), []
        for step in x:
            a = affine(step, w.weight_ih_l0, w.bias_ih_l0) + affine(h, w.weight_hh_l0.detach(), w.bias_hh_l0)
            h = torch.tanh(a)
            states.append(h)
        return torch.stack(states), h[None]


def test_a_module_without_a_state_is_told_by_its_whole_run() -> None:
    torch.manual_seed(0)
    right = WithoutState()
    found = compare(right.rnn, right, torch.randn(4, 3, 10), grad=True)
    assert facts(found) == ("weight_hh_l0", "missing", None, None)


class Times(torch.autograd.Function):
    """x, whose gradient is multiplied by a number, or otherwise changed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Change) -> Tensor:
        ctx.change = change
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.change(gradients[0]), None


def changed(change: Change) -> Change:
    def found(x: Tensor) -> Tensor:
        result: Tensor = Times.apply(x, change)  # type: ignore[no-untyped-call]
        return result

    return found


def by_places(gradient: Tensor) -> Tensor:
    """The gradient, of which every second number is doubled."""
    found = gradient.clone().flatten()
    found[::2] *= 2
    return found.view_as(gradient)


@pytest.mark.parametrize(
    ("hidden", "change", "kind"),
    [(2, lambda each: 3 * each, "scale"), (2, by_places, "formula"), (1, lambda each: 3 * each, "formula")],
    ids=["two of one multiple", "two of two multiples", "one"],
)
def test_two_numbers_that_are_one_multiple_tell_it_and_one_does_not(
    monkeypatch: pytest.MonkeyPatch, hidden: int, change: Change, kind: str
) -> None:
    def start(spec: Spec, weights: Weights, given: Input) -> Run:
        own = tuple(map(changed(change), given.state)) if spec.seq_len > 1 else given.state
        return run_equations(spec, weights, Input(given.x, own))

    spec = Spec(num_layers=1, batch_size=1, hidden_size=hidden, seq_len=3)
    found = found_in(monkeypatch, spec, start)
    assert facts(found) == ("h0", kind, None, False)


def test_of_one_number_it_is_told_that_a_multiple_may_be_chance(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.setitem(subjects.SUBJECTS, "cells", with_state(half))
    words = ("compare", "--grad", "--layers", "1", "--batch", "1", "--hidden-size", "1", "--seq-len", "1")
    text = " ".join(cli(*words).out.split())
    assert "First in: the gradient of h0, in single steps: it is 0.5 times torch's, which may be chance." in text


def in_one_dtype(change: Change, dtype: torch.dtype) -> Change:
    """A gradient that is changed in a dtype alone."""
    return changed(lambda gradient: change(gradient) if gradient.dtype == dtype else gradient)


def rounded(gradient: Tensor) -> Tensor:
    return gradient.bfloat16().to(gradient.dtype)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda each: 0.5 * each, "scale", "it is 0.5 times torch's"),
        (torch.zeros_like, "missing", "it is 0 where torch's is not"),
        (lambda each: each.flip(-1), "formula", "it is no multiple of torch's"),
    ],
    ids=["scale", "missing", "formula"],
)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_gradient_that_is_off_in_one_dtype_alone(
    monkeypatch: pytest.MonkeyPatch, dtype: str, change: Change, kind: str, words: str
) -> None:
    monkeypatch.setitem(subjects.SUBJECTS, "equations", with_x(in_one_dtype(change, getattr(torch, dtype)), 0))
    found = compare(Spec(dtype=dtype), right="equations", grad=True)
    assert (found.verdict, found.cause, found.side) == ("different", "precision", "right")
    assert facts(found) == ("x", kind, None, True)
    page = {each.label: each.text for each in found.page() if isinstance(each, Sentence)}
    assert f"the right side (equations) is further off in {dtype} than even bfloat16 would be: " in page["Verdict"]
    assert words in page["First in"]


def test_a_gradient_that_is_rounded_to_a_coarser_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(subjects.SUBJECTS, "equations", with_x(in_one_dtype(rounded, torch.float32), 0))
    found = compare(Spec(), right="equations", grad=True)
    assert (found.cause, *facts(found)) == ("precision", "x", "rounding", None, True)
    page = {each.label: each.text for each in found.page() if isinstance(each, Sentence)}
    assert "same function, but the right side (equations) computes worse than float32 allows" in page["Verdict"]
    assert page["First in"] == "the gradient of x, in single steps: rounding to bfloat16 would explain it."


def test_there_is_none_where_outputs_are_coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    def coarse(spec: Spec, weights: Weights, given: Input) -> Run:
        found = run_equations(spec, weights, given)
        return replace(found, y=rounded(found.y)) if spec.dtype == "float32" else found

    monkeypatch.setitem(subjects.SUBJECTS, "equations", coarse)
    found = compare(Spec(), right="equations", grad=True)
    assert (found.cause, found.gradient_fault) == ("precision", None)
