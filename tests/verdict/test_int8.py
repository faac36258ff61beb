"""Verdicts on int8: right schemes are the same function, planted faults are not, and what was recorded is named."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from int8_networks import SCHEMES as RIGHT
from int8_networks import Fault, network, subject
from support import Cli
from torch import Tensor, nn

import rnnscope
from rnnscope import Spec, compare
from rnnscope.network.weights import Input, Weights
from rnnscope.subjects.builtin import SUBJECTS, Run, Subject, run_equations, run_module
from rnnscope.subjects.foreign import Foreign
from rnnscope.verdict.bounds import INT8, Bounds
from rnnscope.verdict.deviations import DEVIATIONS
from rnnscope.verdict.evidence import Evidence, Side, foreign_side
from rnnscope.verdict.int8 import SCHEMES, Scheme, quantized, to_steps
from rnnscope.verdict.page import verdict_in_words
from rnnscope.verdict.problem import Problem, draw_problem, solve

pytestmark = pytest.mark.usefixtures("single_deviations")

NETWORKS = {
    "lstm": Spec(kind="lstm", seq_len=8),
    "gru": Spec(kind="gru", seq_len=8, bidirectional=True),
}


@contextmanager
def instead_of_torchs(run: Subject) -> Iterator[None]:
    """Another network stands where torch's in int8 would."""
    with patch.dict(SUBJECTS, quantized=run):
        yield


def problem_of(spec: Spec) -> Problem:
    return draw_problem(spec, ("float32",))


def in_numpy(tensor: Tensor) -> Any:
    return tensor.detach().double().numpy()


# The bound: what int8 makes of the equations is what a hand in numpy makes of them, and what torch makes.


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("torch's", Scheme()),
        ("by rows", Scheme(by_rows=True)),
        ("256 levels", Scheme(input_steps=255)),
        ("weights alone", Scheme(input_steps=0)),
        ("weights alone, by rows", Scheme(by_rows=True, input_steps=0)),
    ],
)
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_the_equations_in_int8_are_those_by_hand(kind: str, name: str, scheme: Scheme) -> None:
    problem = problem_of(Spec(kind=kind, seq_len=6, bidirectional=True))
    given = Input(problem.given.x.double(), problem.given.state)
    run = quantized(run_equations, to_steps, problem.spec, problem.weights, given, scheme)
    arrays = {key: in_numpy(each) for key, each in problem.weights.items()}
    expected = network(kind, arrays, in_numpy(given.x), tuple(map(in_numpy, given.state)), RIGHT[name])
    found = (run.y, *run.state)
    assert max(np.abs(in_numpy(a) - b).max() for a, b in zip(found, expected, strict=True)) < 1e-12


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_torchs_module_is_the_network_by_hand(kind: str) -> None:
    if torch.backends.quantized.engine == "qnnpack":
        pytest.skip("qnnpack takes 256 levels")
    spec = Spec(kind=kind, seed=2)  # in which no number lies so near the middle of two steps that float32 decides
    with torch.no_grad():
        runs = [solve(run, spec, problem_of(spec)) for run in (SUBJECTS["quantized"], subject())]
    assert max((runs[0][name] - each).abs().max().item() for name, each in runs[1].items()) < 1e-6


def test_the_noise_of_a_product_worked_by_hand() -> None:
    # One unit of nn.RNN with relu and W_ih = 1, x = 127: its own range gives steps of 1, and W_ih one of 1/127.5. So
    # noise moves x by 1/2 and W_ih by 1/255 at most: h by 127/255 + 1/2, and a little in both, which is 1 in all.
    spec = Spec(input_size=1, hidden_size=1, num_layers=1, nonlinearity="relu", seq_len=1, batch_size=1, h0="zeros")
    weights = {"weight_ih_l0": torch.ones(1, 1), "weight_hh_l0": torch.ones(1, 1)}
    weights |= {name: torch.zeros(1) for name in ("bias_ih_l0", "bias_hh_l0")}
    given = Input(torch.full((1, 1, 1), 127.0), (torch.zeros(1, 1, 1),))
    bounds = Bounds(draw_problem(spec, ("float32",), weights=weights, given=given))
    widest = [float(each.of("h")) / 2.5 for each in bounds.precision(INT8)]
    assert widest[0] == pytest.approx(127 * 0.5 / 127.5)  # 127.5 steps are clamped to 127
    assert widest[0] < widest[-1] < 1.0


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_right_scheme_is_the_same_function(kind: str, name: str) -> None:
    with instead_of_torchs(subject(name)):
        found = compare(NETWORKS[kind], "module", "quantized")
    assert (found.verdict, found.cause) == ("equivalent", "rounding")


def test_the_page_says_as_exact_as_int8_allows(cli: Cli) -> None:
    answer = cli("compare", "--kind", "lstm", "--right", "quantized")
    assert "each side\nis as exact as float32 and int8 allow." in answer.out
    assert "so that it was\njudged in int8" in answer.out


def test_the_function_is_asked_in_int8(cli: Cli) -> None:
    document = json.loads(cli("compare", "--kind", "gru", "--right", "quantized", "--json").out)
    checks = document["reference"]["checks"]
    assert [checks[name]["arithmetic"] for name in ("function", "left", "right")] == ["int8", "float32", "int8"]
    assert document["without_float64"] == ["right"]


FAULTS = [
    Fault("gate scale", 1.3, gate=1),
    Fault("layer scale", 1.1),
    Fault("layer scale", 1.1, layer=1),
    Fault("zero point", 3),
    Fault("clipped inputs", 0.7),
    Fault("clipped weights", 0.7),
    Fault("another's scale", 1.5),
    Fault("gate order", gate=0),
    Fault("gate order", gate=1, layer=1),
    Fault("bias dropped"),
    Fault("bias in few bits", 3),
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_planted_fault_is_another_function(kind: str, fault: Fault) -> None:
    with instead_of_torchs(subject(fault=fault)):
        found = compare(NETWORKS[kind], "module", "quantized")
    assert (found.verdict, found.cause, found.side) == ("different", "function", "right")


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_gate_whose_scale_is_a_tenth_off_is_found_in_a_gate_that_acts(kind: str) -> None:
    gate = {"lstm": 2, "gru": 2}[kind]  # g and n, which the state is made of
    with instead_of_torchs(subject(fault=Fault("gate scale", 1.1, gate=gate))):
        assert compare(NETWORKS[kind], "module", "quantized").verdict == "different"


def test_a_fault_of_the_left_side_is_found_beside_int8() -> None:
    found = compare(NETWORKS["gru"], "deviation:reset before the matmul", "quantized")
    assert (found.verdict, found.side) == ("different", "left")


def test_a_mean_is_told_as_one() -> None:
    with instead_of_torchs(subject(fault=Fault("zero point", 1))):
        found = compare(Spec(kind="lstm", seq_len=30, hidden_size=40), "module", "quantized")
    assert found.verdict == "different"
    assert " on average, and rounding explains " in verdict_in_words(found)


DEVIATING = {
    "reset before the matmul": "gru",
    "gates i f o g": "lstm",
    "W_hh transposed": "gru",
}


@pytest.mark.parametrize("name", DEVIATING)
def test_a_deviation_in_int8_is_named(name: str) -> None:
    deviation = next(each for each in DEVIATIONS if each.name == name)

    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        exact = Input(given.x.double(), tuple(each.double() for each in given.state))
        doubled = {key: each.double() for key, each in weights.items()}
        found = quantized(deviation.run, to_steps, spec, doubled, exact)
        return Run(found.y.float(), tuple(each.float() for each in found.state))

    with instead_of_torchs(run):
        found = compare(Spec(kind=DEVIATING[name]), "module", "quantized")
    assert name in [each.convention for each in found.explanations]


def test_chaos_is_undecided() -> None:
    spec = Spec(kind="gru", hidden_size=40, seq_len=60)
    wild = {name: 60 * each for name, each in problem_of(spec).weights.items()}
    with patch("rnnscope.verdict.problem.draw_weights", lambda _: wild):
        assert compare(spec, "module", "quantized").verdict == "undecided"


@pytest.mark.parametrize(("fault", "within"), [(None, True), (Fault("layer scale", 1.3), False)])
def test_what_runs_elsewhere_in_int8_is_judged_in_it(fault: Fault | None, within: bool) -> None:
    spec = NETWORKS["lstm"]
    foreign = Foreign(subject("by rows, 256 levels", fault), has_float64=False, arithmetic="int8")
    left = Side("left", "module", spec, run_module, "float32")
    evidence = Evidence(problem_of(spec), left, foreign_side("right", "net.onnx", foreign, spec))
    check = evidence.same_function()
    assert (check.arithmetic, check.within) == ("int8", within)


# Recorded runs.


def recorded(tmp_path: Path, spec: Spec, run: Subject, dtype: str = "float32") -> str:
    """A file with weights, input and outputs in float32, and nothing that says how they were computed."""
    problem = problem_of(spec)
    with torch.no_grad():
        outputs = solve(run, replace(spec, dtype=dtype), problem)
    tensors = {name: each.float() for name, each in (problem.given.tensors() | problem.weights | outputs).items()}
    torch.save(tensors, tmp_path / "run.pt")
    return f"recorded:{tmp_path / 'run.pt'}"


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_recorded_run_in_int8_is_named(cli: Cli, tmp_path: Path, kind: str) -> None:
    file = recorded(tmp_path, Spec(kind=kind), SUBJECTS["quantized"])
    document = json.loads(cli("compare", "--kind", kind, "--left", "equations", "--right", file, "--json").out)
    assert (document["verdict"], document["reference"]["about_coarser"]) == ("different", "int8")


def test_its_page_says_so(cli: Cli, tmp_path: Path) -> None:
    file = recorded(tmp_path, Spec(kind="lstm"), SUBJECTS["quantized"])
    page = " ".join(cli("compare", "--kind", "lstm", "--left", "equations", "--right", file).out.split())
    assert "It is as near as int8 would be: it may have been quantized, or a weight is off by as little." in page


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_recorded_run_in_half_precision_is_not_called_int8(
    cli: Cli, tmp_path: Path, kind: str, dtype: str, seed: int
) -> None:
    file = recorded(tmp_path, Spec(kind=kind, seed=seed), SUBJECTS["equations"], dtype)
    document = json.loads(cli("compare", "--kind", kind, "--left", "equations", "--right", file, "--json").out)
    assert document["reference"]["about_coarser"] in ("tf32", "bfloat16")


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_every_known_scheme_is_told_by_what_is_left(scheme: Scheme) -> None:
    problem = problem_of(Spec(kind="gru", seq_len=10))
    bounds = Bounds(problem)
    run = quantized(
        run_equations,
        to_steps,
        problem.spec,
        problem.weights,
        Input(problem.given.x.double(), problem.given.state),
        scheme,
    )
    assert bounds.left_by_int8({name: each.float() for name, each in run.outputs().items()}) < 1e-3


def in_int8(model: nn.Module) -> nn.Module:
    quantize: Any = torch.ao.quantization.quantize_dynamic
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: nn.Module = quantize(model.eval(), {nn.LSTM, nn.GRU, nn.RNNCell}, dtype=torch.qint8)
    return found


class Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNNCell(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(5, 16)
        for step in x:
            h = self.cell(step, h)
        return h


MODELS = {
    "lstm": lambda: nn.Sequential(nn.LSTM(8, 16, 2, bidirectional=True)),
    "gru": lambda: nn.Sequential(nn.GRU(8, 16, batch_first=True)),
    "rnn": Loop,
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_quantized_module_is_recorded_and_judged_in_int8(cli: Cli, tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    file = str(tmp_path / "run.pt")
    model = in_int8(MODELS[kind]())
    with torch.no_grad(), rnnscope.record(model, file):
        model(torch.randn(7, 5, 8))
    about = json.loads(torch.load(file)["rnnscope"])
    assert (about["arithmetic"], about["spec"]["kind"]) == ("int8", kind)
    document = json.loads(cli("compare", "--left", "equations", "--right", f"recorded:{file}", "--json").out)
    assert (document["verdict"], document["reference"]["checks"]["right"]["arithmetic"]) == ("equivalent", "int8")


def test_a_kept_run_of_the_left_side_is_judged_in_int8(cli: Cli, tmp_path: Path) -> None:
    file = str(tmp_path / "run.pt")
    cli("compare", "--kind", "lstm", "--left", "quantized", "--record", file, "-q")
    document = json.loads(cli("compare", "--left", "equations", "--right", f"recorded:{file}", "--json").out)
    assert (document["verdict"], document["reference"]["checks"]["function"]["arithmetic"]) == ("equivalent", "int8")


# onnxruntime's own int8.


def test_onnxruntimes_int8_is_within_the_bound(tmp_path: Path) -> None:
    runtime: Any = pytest.importorskip("onnxruntime")
    quantization: Any = pytest.importorskip("onnxruntime.quantization")
    from rnnscope.subjects.builtin import build_module

    spec = Spec(kind="lstm", seq_len=8, batch_size=4)
    problem = problem_of(spec)
    module = build_module(spec)
    module.load_state_dict({name: each.float() for name, each in problem.weights.items()})
    x, state = problem.given.x.float(), tuple(each.float() for each in problem.given.state)
    plain, file = str(tmp_path / "plain.onnx"), str(tmp_path / "int8.onnx")
    names: Any = {"input_names": ["x", "h0", "c0"], "output_names": ["y", "h", "c"]}
    axes = {"x": {0: "L", 1: "N"}, "h0": {1: "N"}, "c0": {1: "N"}}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x, state), plain, dynamo=False, dynamic_axes=axes, **names)
        quantization.quantize_dynamic(plain, file)
    session = runtime.InferenceSession(file)

    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        found = session.run(None, {name: each.numpy() for name, each in given.tensors().items()})
        y, *last = (torch.from_numpy(each) for each in found)
        return Run(y, tuple(last))

    foreign = Foreign(run, has_float64=False, arithmetic="int8")
    left = Side("left", "module", spec, run_module, "float32")
    check = Evidence(problem, left, foreign_side("right", "int8.onnx", foreign, spec)).same_function()
    assert (check.within, check.decided) == (True, True)
