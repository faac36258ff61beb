"""The verdict: same function or not, which side is off and why, on cases where every fixed tolerance is wrong."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from coarser import LATE, late
from support import Answer, Cli, rounded_cells
from torch import Tensor

from rnnscope import Comparison, Spec, compare
from rnnscope.network.equations import Step
from rnnscope.network.weights import Input, Weights, draw_weights
from rnnscope.subjects import builtin as subjects
from rnnscope.subjects import devices
from rnnscope.subjects.builtin import Run, run_cells, run_equations, run_module
from rnnscope.verdict import evidence, making
from rnnscope.verdict import problem as problems

pytestmark = pytest.mark.usefixtures("single_deviations")


Patch = pytest.MonkeyPatch


def with_weights(monkeypatch: Patch, change: Callable[[Weights], Weights]) -> None:
    """Let both sides have other weights than those that are drawn."""
    monkeypatch.setattr(problems, "draw_weights", lambda spec: change(draw_weights(spec)))


def with_cells(monkeypatch: Patch, run: subjects.Subject) -> None:
    """Let something else compute the cells."""
    monkeypatch.setitem(subjects.SUBJECTS, "cells", run)


def times_ten(weights: Weights) -> Weights:
    return {name: 10 * each for name, each in weights.items()}


def off_by(amount: float) -> subjects.Subject:
    """Cells with one entry of weight_hh_l0 off."""

    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        changed = weights["weight_hh_l0"].clone()
        changed[3, 4] += amount
        return run_cells(spec, weights | {"weight_hh_l0": changed}, given)

    return run


def greatest(found: Comparison) -> float:
    return max(each.max_abs or 0.0 for each in found.outputs)


# The four cases in which a fixed tolerance is wrong.


def test_a_chaotic_network_is_the_same_though_it_is_far_apart(monkeypatch: Patch) -> None:
    with_weights(monkeypatch, times_ten)
    found = compare(Spec(kind="lstm", hidden_size=64, num_layers=1, seq_len=200))
    assert greatest(found) > 1
    assert (found.verdict, found.cause, found.side, found.exit_code) == ("equivalent", "rounding", None, 0)
    assert found.reference
    assert found.reference.left.whole_steps == 0
    assert found.reference.function.whole_steps is None


def test_a_small_error_in_one_weight_is_another_function(monkeypatch: Patch) -> None:
    with_cells(monkeypatch, off_by(1e-3))
    found = compare(Spec(kind="gru", hidden_size=128, num_layers=1))
    assert greatest(found) < 1e-4
    assert (found.verdict, found.cause, found.side, found.exit_code) == ("different", "function", "right", 1)
    assert found.explanations == ()


def test_an_error_that_any_tolerance_lets_pass_is_another_function(monkeypatch: Patch) -> None:
    with_cells(monkeypatch, off_by(1e-5))
    found = compare(Spec(kind="gru", hidden_size=128, num_layers=1))
    assert all(each.within_tolerance for each in found.outputs)
    assert (found.verdict, found.side) == ("different", "right")


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="needs oneDNN in bfloat16")
def test_bfloat16_through_onednn_is_rounding() -> None:
    spec = Spec(kind="lstm", dtype="bfloat16", hidden_size=64, seq_len=20)
    found = compare(spec)
    assert not all(each.within_tolerance for each in found.outputs)
    assert (found.verdict, found.cause) == ("equivalent", "rounding")
    assert greatest(compare(replace(spec, onednn=False))) == 0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tf32_is_rounding_and_said_to_be_tf32() -> None:
    spec = Spec(device="cuda", hidden_size=256, seq_len=50)
    found = compare(spec)
    assert (found.verdict, found.cause) == ("equivalent", "rounding")
    assert found.reference
    assert found.reference.left.arithmetic == "tf32"
    assert found.reference.without_tf32 is not None
    assert found.reference.without_tf32 < greatest(found) / 10


# Each cause, by a subject that has it.


def in_bfloat16(spec: Spec, weights: Weights, given: Input) -> Run:
    """Honest in float64, and in bfloat16 inside otherwise."""
    if spec.dtype == "float64":
        return run_cells(spec, weights, given)
    return rounded_inside(torch.bfloat16)(spec, weights, given)


def rounded_inside(dtype: torch.dtype) -> subjects.Subject:
    """Computes in a dtype of its own, whatever it is asked for."""

    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        name = str(dtype).removeprefix("torch.")
        inside = Input(given.x.to(dtype), tuple(each.to(dtype) for each in given.state))
        found = run_cells(replace(spec, dtype=name), {key: each.to(dtype) for key, each in weights.items()}, inside)
        return Run(found.y.to(given.x), tuple(each.to(given.x) for each in found.state))

    return run


def changed_y(change: Callable[[Tensor], Tensor]) -> subjects.Subject:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        found = run_cells(spec, weights, given)
        return Run(change(found.y), found.state)

    return run


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (rounded_cells, ("equivalent", "rounding", None, 0)),
        (run_module, ("identical", None, None, 0)),
        (off_by(0.01), ("different", "function", "right", 1)),
        (in_bfloat16, ("different", "precision", "right", 1)),
        (rounded_inside(torch.bfloat16), ("different", "precision", "right", 1)),
        (changed_y(lambda y: y / 0), ("different", "nonfinite", "right", 1)),
        (changed_y(lambda y: y.transpose(0, 1)), ("different", "shape", None, 1)),
    ],
    ids=["rounding", "identical", "weight", "bfloat16", "bfloat16-inside", "infinity", "shape"],
)
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_verdict_cause_and_side(
    monkeypatch: Patch, kind: str, run: subjects.Subject, expected: tuple[Any, ...]
) -> None:
    with_cells(monkeypatch, run)
    found = compare(Spec(kind=kind, seq_len=6, hidden_size=32))
    assert (found.verdict, found.cause, found.side, found.exit_code) == expected


def test_the_side_is_the_left_one_where_that_is_off(monkeypatch: Patch) -> None:
    with_cells(monkeypatch, off_by(0.01))
    found = compare(Spec(), "cells", "module")
    assert (found.cause, found.side) == ("function", "left")


def test_two_sides_that_are_wrong_in_two_ways_are_both_told(monkeypatch: Patch) -> None:
    with_cells(monkeypatch, off_by(0.01))
    monkeypatch.setitem(subjects.SUBJECTS, "module", off_by(0.02))
    found = compare(Spec())
    assert found.reference
    assert (found.cause, found.side, found.reference.deviating) == ("function", None, ("left", "right"))


def test_a_fault_below_rounding_in_float32_is_found(monkeypatch: Patch) -> None:
    # Not one element differs by more than float32 may round: only float64 tells.
    with_cells(monkeypatch, off_by(1e-9))
    found = compare(Spec())
    assert found.verdict == "different"
    assert found.reference
    assert found.reference.function.max_abs < 1e-8


# Tolerances.


def test_a_tolerance_that_is_given_binds_and_the_cause_stays_rounding(monkeypatch: Patch) -> None:
    with_cells(monkeypatch, rounded_cells)
    found = compare(Spec(), rtol=0, atol=0)
    assert (found.verdict, found.cause, found.side, found.exit_code) == ("different", "rounding", None, 1)


def test_a_wide_tolerance_does_not_make_another_function_the_same(monkeypatch: Patch) -> None:
    with_cells(monkeypatch, off_by(0.01))
    found = compare(Spec(), rtol=1, atol=1)
    assert all(each.within_tolerance for each in found.outputs)
    assert (found.verdict, found.cause) == ("different", "function")


@pytest.mark.parametrize(("amount", "verdict"), [(1e-6, "equivalent"), (0.1, "different")])
def test_without_a_reference_the_tolerance_alone_decides(monkeypatch: Patch, amount: float, verdict: str) -> None:
    with_cells(monkeypatch, off_by(amount))
    found = compare(Spec(), reference=False)
    assert (found.verdict, found.cause, found.reference) == (verdict, None, None)


def test_without_a_reference_no_reference_is_run(monkeypatch: Patch) -> None:
    with_cells(monkeypatch, rounded_cells)
    monkeypatch.setattr(evidence, "Bounds", lambda *_, **__: None)
    assert compare(Spec(), reference=False).verdict == "equivalent"


# What a side runs on.


def test_two_dtypes_are_given_the_same_numbers() -> None:
    found = compare(Spec(kind="gru"), "cells@cpu/float64", "cells@cpu/bfloat16")
    assert (found.verdict, found.cause) == ("equivalent", "rounding")
    assert found.reference
    assert (found.reference.left.arithmetic, found.reference.right.arithmetic) == ("float64", "bfloat16")
    assert [each.max_ulp for each in found.outputs] == [None, None]
    # Weights that were rounded for one side alone would be another function.
    assert found.reference.function.max_abs < 1e-15


def test_each_side_is_judged_by_its_own_arithmetic(monkeypatch: Patch) -> None:
    # 1e-4 off is fine for bfloat16, and far over what float32 allows.
    def rough(spec: Spec, weights: Weights, given: Input) -> Run:
        found = run_cells(spec, weights, given)
        return found if spec.dtype == "float64" else Run(found.y + 1e-4, found.state)

    with_cells(monkeypatch, rough)
    assert compare(Spec(), "module@cpu/float32", "cells@cpu/bfloat16").verdict == "equivalent"
    assert compare(Spec(), "module@cpu/bfloat16", "cells@cpu/float32").cause == "precision"


def test_tf32_is_allowed_for_and_named(monkeypatch: Patch, cli: Cli) -> None:
    """On a CPU, with a stand-in: the module is rounded to the 10 bits of TF32 unless it is switched off."""

    def tf32(spec: Spec, weights: Weights, given: Input) -> Run:
        found = run_cells(spec, weights, given)
        if spec.dtype == "float64":
            return found
        if not torch.backends.cuda.matmul.allow_tf32:  # the last place is off, and it is so on every machine
            return Run(found.y * (1 + torch.finfo(found.y.dtype).eps), found.state)
        return Run((found.y.view(torch.int32) & ~0x1FFF).view(torch.float32), found.state)

    monkeypatch.setitem(subjects.SUBJECTS, "module", tf32)
    assert compare(Spec(tf32=True)).cause == "precision"

    def used(spec: Spec, fused: bool) -> str:
        return "tf32" if fused and spec.dtype == "float32" and torch.backends.cuda.matmul.allow_tf32 else spec.dtype

    monkeypatch.setattr(making, "arithmetic", used)
    found = compare(Spec(tf32=True))
    assert (found.verdict, found.cause) == ("equivalent", "rounding")
    assert greatest(found) > 1e-4
    assert found.reference
    assert found.reference.without_tf32 == pytest.approx(greatest(compare(Spec(tf32=False))))
    text = " ".join(cli("compare", "--tf32").out.split())
    assert "same function; the left side (module) computes in TF32; --no-tf32 brings it to 1.2e-07." in text


def test_tf32_is_allowed_for_where_the_network_amplifies_it(monkeypatch: Patch) -> None:
    """A stand-in that rounds the operands of every step, as the hardware does, in a chaotic network."""

    def short(tensor: Tensor) -> Tensor:
        return (tensor.float().view(torch.int32) & ~0x1FFF).view(torch.float32)

    def tf32(spec: Spec, weights: Weights, given: Input) -> Run:
        if spec.dtype == "float64":
            return run_module(spec, weights, given)

        def around(_: int, __: int, step: Step) -> Step:
            return lambda x, state: step(short(x), tuple(map(short, state)))

        rounded = {name: short(each) for name, each in weights.items()}
        return run_equations(spec, rounded, given, around=around)

    monkeypatch.setitem(subjects.SUBJECTS, "module", tf32)
    monkeypatch.setattr(making, "arithmetic", lambda spec, fused: "tf32" if fused else spec.dtype)
    with_weights(monkeypatch, lambda weights: {name: 5 * each for name, each in weights.items()})
    found = compare(Spec(hidden_size=64, seq_len=50))
    assert greatest(found) > 1
    assert (found.verdict, found.cause) == ("equivalent", "rounding")


@pytest.mark.parametrize(
    ("fused", "flags", "expected"),
    [
        (True, {}, "tf32"),
        (False, {}, "float32"),
        (True, {"tf32": False}, "float32"),
        (False, {"tf32": True}, "tf32"),
        (True, {"cudnn": False}, "float32"),
        (True, {"cudnn": False, "tf32": True}, "tf32"),
        (True, {"dtype": "float64"}, "float64"),
        (True, {"dtype": "bfloat16"}, "bfloat16"),
    ],
)
def test_the_arithmetic_on_a_gpu(monkeypatch: Patch, fused: bool, flags: dict[str, Any], expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    spec = Spec(device="cuda:0", **flags)
    with devices._switched(spec):
        assert devices.arithmetic(spec, fused) == expected


def test_an_old_gpu_has_no_tf32(monkeypatch: Patch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert devices.arithmetic(Spec(device="cuda:0", tf32=True), fused=True) == "float32"


Switches = tuple[bool, ...]


def tf32() -> Switches:
    return bool(torch.backends.cudnn.allow_tf32), bool(torch.backends.cuda.matmul.allow_tf32)


def exact_settings() -> list[object]:
    places = (torch.backends.cudnn, getattr(torch.backends.cudnn, "rnn", None), torch.backends.cuda.matmul)
    return [getattr(each, "fp32_precision", None) for each in places]


def cudnn() -> Switches:
    return (bool(torch.backends.cudnn.enabled),)


def onednn() -> Switches:
    return (bool(torch.backends.mkldnn.enabled),)


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("switches", [tf32, cudnn, onednn])
def test_a_back_end_is_switched_for_the_run_and_put_back(switches: Callable[[], Switches], value: bool) -> None:
    before = (tf32(), cudnn(), onednn(), exact_settings())
    seen: list[Switches] = []

    def fail() -> None:
        with devices.running(Spec(**{switches.__name__: value})):  # type: ignore[arg-type]
            seen.append(switches())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert set(*seen) == {value}
    assert (tf32(), cudnn(), onednn(), exact_settings()) == before


def test_the_effective_back_ends_are_shown(cli: Cli) -> None:
    line = ("compare", "--no-onednn", "--threads", "1")
    assert "Run: on cpu in float32, 1 thread, oneDNN off, torch" in cli(*line).out
    assert json.loads(cli("compare", "--onednn", "--json").out)["back_ends"] == {"onednn": True}


# What rounding alone decides.


def test_what_no_precision_can_tell_is_undecided(monkeypatch: Patch) -> None:
    # Thirty times the default in bfloat16: a single step is moved by as much as it gives.
    with_weights(monkeypatch, lambda weights: {name: 30 * each for name, each in weights.items()})
    found = compare(Spec(hidden_size=128, seq_len=20, dtype="bfloat16"))
    assert (found.verdict, found.cause, found.exit_code) == ("undecided", None, 2)


def test_a_chaotic_network_is_compared_step_by_step_even_in_float64(monkeypatch: Patch) -> None:
    with_weights(monkeypatch, times_ten)
    with_cells(monkeypatch, rounded_cells)
    spec = Spec(hidden_size=64, seq_len=150)
    found = compare(spec)
    assert found.reference
    assert (found.verdict, found.cause) == ("equivalent", "rounding")
    assert found.reference.function.whole_steps in range(2, 150)
    with_cells(monkeypatch, off_by(1e-3))
    found = compare(spec)
    assert (found.verdict, found.cause) == ("different", "function")
    assert found.first_divergence
    assert (found.first_divergence.step, found.first_divergence.layer, found.first_divergence.unit) == (0, 0, 3)


def test_a_fault_of_the_loop_shows_in_a_chaotic_network_too(monkeypatch: Patch) -> None:
    """Step by step it would not: a backward direction that walks forward takes the same steps."""
    from rnnscope.verdict.deviations import DEVIATIONS

    with_weights(monkeypatch, times_ten)
    fed_forward = next(each for each in DEVIATIONS if each.name == "backward direction fed forward")
    with_cells(monkeypatch, fed_forward.run)
    found = compare(Spec(hidden_size=64, seq_len=150, bidirectional=True))
    assert (found.verdict, found.cause) == ("different", "function")
    assert [each.convention for each in found.explanations] == ["backward direction fed forward"]


def test_resync_tells_a_local_fault_from_a_carried_error(monkeypatch: Patch) -> None:
    def late(spec: Spec, weights: Weights, given: Input) -> Run:
        """Right in every step, but the state that goes on is a little off."""
        nudged = Input(given.x, tuple(each + 1e-6 for each in given.state))
        return run_cells(spec, weights, nudged if spec.seq_len > 1 else given)

    with_cells(monkeypatch, late)
    assert compare(Spec(seq_len=5)).verdict == "different"
    assert compare(Spec(seq_len=5), resync=True).exit_code == 0
    with_cells(monkeypatch, off_by(1e-3))
    assert compare(Spec(seq_len=5), resync=True).cause == "function"


@pytest.mark.parametrize("name", ["lengths ignored", "backward direction fed forward"])
def test_what_happens_at_the_ends_shows_in_a_chaotic_network_too(monkeypatch: Patch, name: str) -> None:
    from rnnscope.verdict.deviations import DEVIATIONS

    with_weights(monkeypatch, times_ten)
    with_cells(monkeypatch, next(each.run for each in DEVIATIONS if each.name == name))
    found = compare(Spec(hidden_size=64, lengths=(150, 140, 130), bidirectional=True, num_layers=1))
    assert (found.verdict, found.cause) == ("different", "function")


def test_padding_that_is_not_zero_is_named_as_padding(monkeypatch: Patch, cli: Cli) -> None:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        found = run_cells(spec, weights, given)
        return Run(torch.where(found.y == 0, 1e-9, found.y), found.state)

    with_cells(monkeypatch, run)
    text = " ".join(cli("compare", "--lengths", "3,1").out.split())
    assert "not the same function: in float64 the padding of y is 1e-09 apart" in text


def test_the_page_says_which_part_was_compared(monkeypatch: Patch, cli: Cli) -> None:
    with_weights(monkeypatch, times_ten)
    with_cells(monkeypatch, rounded_cells)
    text = " ".join(cli("compare", "--hidden-size", "64", "--seq-len", "150").out.split())
    assert "Verdict: equivalent: same function as far as can be told; they differ by rounding alone" in text
    assert re.search(
        r"Step by step: .* so every step was compared by itself, .*; the first \d+ steps as a whole too", text
    )


def test_a_sequence_of_steps_keeps_no_graph() -> None:
    problem = problems.draw_problem(Spec(kind="lstm"), ("float32",), grad=True)
    with devices.running(Spec(), grad=True):
        assert not any(each.requires_grad for each in problems.step_by_step(problem).given.state)


# Both sides alike.


def test_two_runs_are_made_where_both_sides_are_the_same_subject(monkeypatch: Patch) -> None:
    count = 0

    def unsteady(spec: Spec, weights: Weights, given: Input) -> Run:
        nonlocal count
        count += 1
        found = run_cells(spec, weights, given)
        return Run(found.y + 1e-9 * count, found.state)

    with_cells(monkeypatch, unsteady)
    assert compare(Spec(), "cells", "cells").verdict == "different"


# Odd ones.


@pytest.mark.parametrize("seed", [0, 1])
def test_a_network_that_gives_zeros_is_judged(seed: int) -> None:
    from rnnscope.verdict.deviations import DEVIATIONS

    spec = Spec(nonlinearity="relu", hidden_size=1, num_layers=1, seq_len=1, batch_size=1, seed=seed)
    swapped = next(each for each in DEVIATIONS if each.name == "tanh and relu swapped")
    with pytest.MonkeyPatch.context() as patch:
        with_cells(patch, swapped.run)
        assert compare(spec).verdict == "different"


def test_gradients_that_are_zero_do_not_make_it_undecided(cli: Cli) -> None:
    words = "--input-size 300 --layers 3 --seq-len 1 --batch 32 --h0 zeros --grad"
    assert cli("compare", "-q", *words.split()).code == 0


@pytest.mark.parametrize(
    "words", ["--h0 zeros --grad --power", "--h0 zeros --power --resync", "--no-reference --power"]
)
def test_power_goes_with_every_flag(cli: Cli, words: str) -> None:
    assert cli("compare", "-q", "--power", *words.split()) == Answer(0, "", "")


@pytest.mark.parametrize("change", ["shape", "constant"])
def test_gradients_of_a_side_that_has_none_are_a_finding(monkeypatch: Patch, change: str) -> None:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        found = run_cells(spec, weights, given)
        if change == "shape":
            return Run(found.y, (found.state[0][:1],), found.parameters)
        return Run(torch.zeros_like(found.y), (torch.zeros_like(found.state[0]),), found.parameters)

    with_cells(monkeypatch, run)
    found = compare(Spec(), grad=True)
    assert (found.verdict, found.cause) == ("different", "shape" if change == "shape" else "function")


def test_a_fault_of_gradients_alone_has_no_convention(monkeypatch: Patch, cli: Cli) -> None:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        return run_cells(spec, weights, Input(given.x.detach(), given.state))

    with_cells(monkeypatch, run)
    text = " ".join(cli("compare", "--grad").out.split())
    assert "in float64 the gradient of x is" in text
    assert "Why: only gradients differ, so no convention of the outputs explains it." in text


def test_a_side_without_its_device_is_named(cli: Cli) -> None:
    if torch.cuda.is_available():
        pytest.skip("says what a machine without CUDA says")
    answer = cli("compare", "--left", "module@cuda")
    assert answer.code == 2
    assert answer.err.startswith("rnnscope: --left module@cuda: torch ")
    assert answer.err.endswith("; use --left module@cpu\n")


@pytest.mark.parametrize("facts", [{"resync": True}, {"spec": Spec(lengths=(3, 2))}, {"power": True}], ids=str)
def test_the_callers_default_device_does_not_matter(facts: dict[str, Any]) -> None:
    arguments = {"spec": Spec()} | facts
    before = compare(**arguments)
    with torch.device("meta"):
        assert compare(**arguments) == before


def test_the_callers_inference_mode_does_not_reach_inside() -> None:
    with torch.inference_mode():
        assert compare(Spec(), grad=True).exit_code == 0


# Gradients.


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_gradients_are_judged_like_outputs(kind: str, dtype: str) -> None:
    found = compare(Spec(kind=kind, dtype=dtype, seq_len=8), grad=True)
    assert found.reference
    assert "weight_hh_l0" in [each.name for each in found.reference.function.margins]
    assert (found.verdict, found.cause) in (("equivalent", "rounding"), ("identical", None))


def test_a_wrong_gradient_is_another_function(monkeypatch: Patch) -> None:
    def detached(spec: Spec, weights: Weights, given: Input) -> Run:
        found = rounded_cells(spec, weights, given)
        return Run(found.y * 1.0, (found.state[0].detach() + 0 * found.y.sum(),), found.parameters)

    with_cells(monkeypatch, detached)
    assert compare(Spec()).verdict == "equivalent"
    found = compare(Spec(), grad=True)
    assert (found.verdict, found.cause, found.first_divergence) == ("different", "function", None)


# The document.


def test_the_document_of_a_finding(monkeypatch: Patch, cli: Cli) -> None:
    with_cells(monkeypatch, off_by(0.01))
    found = json.loads(cli("compare", "--json").out)
    assert (found["verdict"], found["cause"], found["side"]) == ("different", "function", "right")
    place = {"tensor": "h", "step": 0, "layer": 0, "direction": 0, "unit": 3, "batch": 0, "gate": None}
    assert found["first_divergence"] == place
    assert found["explanations"] == []
    assert found["power"] is None
    reference = found["reference"]
    assert reference["dtype"] == "float64"
    assert reference["function_max_abs"] > 1e-3 > reference["bound"] > 0
    assert reference["left_max_abs"] < 1e-12 < 1e-3 < reference["right_max_abs"]
    assert [each["name"] for each in reference["checks"]["right"]["margins"]] == ["y", "h"]


def test_the_document_of_a_good_pair(monkeypatch: Patch, cli: Cli) -> None:
    with_cells(monkeypatch, rounded_cells)
    found = json.loads(cli("compare", "--json").out)
    assert (found["verdict"], found["cause"], found["side"]) == ("equivalent", "rounding", None)
    assert found["first_divergence"] is None
    reference = found["reference"]
    assert reference["function_max_abs"] < reference["bound"] < 1e-13
    assert reference["left_max_abs"] < 1e-6
    assert all(check["within"] for check in reference["checks"].values())


def test_the_sentence_names_the_figures(monkeypatch: Patch, cli: Cli) -> None:
    with_cells(monkeypatch, in_bfloat16)
    text = " ".join(cli("compare").out.split())
    assert "Verdict: different: same function, but the right side (cells) computes worse than float32 allows: " in text


# Faults that set in late, where rounding decides by then.


@pytest.mark.parametrize("times", [pytest.param(5, marks=pytest.mark.slow), 15])
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("fault", [each for each in LATE if each != "right"])
def test_a_fault_that_sets_in_behind_chaos_is_found(monkeypatch: Patch, fault: str, kind: str, times: float) -> None:
    with_weights(monkeypatch, lambda weights: {name: times * each for name, each in weights.items()})
    with_cells(monkeypatch, late(fault, 80))
    found = compare(Spec(kind=kind, hidden_size=64, num_layers=1, seq_len=100))
    assert (found.verdict, found.cause, found.explanations) == ("different", "function", ())
    assert found.first_divergence
    assert found.first_divergence.step == 80


def test_a_right_network_is_not_blamed_behind_chaos(monkeypatch: Patch) -> None:
    with_weights(monkeypatch, times_ten)
    with_cells(monkeypatch, late("right", 80))
    found = compare(
        Spec(hidden_size=64, num_layers=1, seq_len=100), "items"
    )  # some processors give cells the module's bits
    assert found.exit_code == 0
    assert found.reference
    assert found.reference.function.tamed_by
    assert [each.name for each in found.blind_spots] == ["late fault"]


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_no_reason_is_torchs_own_function(monkeypatch: Patch, kind: str) -> None:
    """With h0 of zeros to ignore it is no fault, nor to swap two biases that are added."""
    with_cells(monkeypatch, off_by(0.01))
    named = {each.convention for each in compare(Spec(kind=kind, h0="zeros")).explanations}
    assert not named


def test_no_reason_is_named_where_rounding_decides(monkeypatch: Patch) -> None:
    with_weights(monkeypatch, lambda weights: {name: 30 * each for name, each in weights.items()})
    with_cells(monkeypatch, off_by(1.0))
    found = compare(Spec(hidden_size=128, seq_len=50))
    assert (found.cause, found.explanations) == ("function", ())
