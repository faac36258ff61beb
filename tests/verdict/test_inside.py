"""Coarser arithmetic inside a side is told from a small fault of its function."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from coarser import FAULTS, compared, rounding_inside
from support import Cli
from torch import nn

from rnnscope import Spec, compare
from rnnscope.network.weights import Input, Weights, draw_weights
from rnnscope.subjects import builtin as subjects
from rnnscope.subjects.builtin import Run, formula_of, run_equations
from rnnscope.verdict.deviations import DEVIATIONS
from rnnscope.verdict.facts import Inside
from rnnscope.verdict.page import verdict_in_words

pytestmark = pytest.mark.usefixtures("single_deviations")

KINDS = ["rnn", "lstm", "gru"]


def rounding(inside: str) -> subjects.Subject:
    return lambda spec, weights, given: run_equations(spec, weights, given, rounding_inside(spec, inside, "xWhpsac"))


def rounded(dtype: str, inside: str, kind: str = "gru", places: str = "xWhpsac", **sizes: Any) -> Any:
    spec = Spec(kind=kind, dtype=dtype, threads=1, **sizes)
    return compared(spec, draw_weights(spec), rounding_inside(spec, inside, places))


@pytest.mark.parametrize("places", ["xWhpsac", "ac", "s"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_float32_inside_is_right_in_a_dtype_that_is_no_finer(kind: str, dtype: str, places: str) -> None:
    found = rounded(dtype, "float32", kind, places)
    assert (found.exit_code, found.reference.inside) == (0, (Inside("right", "float32", is_seen=True),))


@pytest.mark.parametrize(
    ("dtype", "inside"),
    [("float64", "float32"), ("float64", "bfloat16"), ("float32", "bfloat16"), ("float32", "float16")],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_coarser_dtype_inside_is_precision(kind: str, dtype: str, inside: str) -> None:
    found = rounded(dtype, inside, kind)
    assert (found.verdict, found.cause, found.side) == ("different", "precision", "right")
    assert found.reference.inside == (Inside("right", inside, is_seen=True),)


def test_rounding_to_the_bits_of_tf32_is_precision() -> None:
    def coarse(tensor: torch.Tensor) -> torch.Tensor:  # no dtype of torch's shows it
        mantissa, exponent = torch.frexp(tensor)
        return torch.ldexp((mantissa * 2**11).round() / 2**11, exponent)

    spec = Spec(kind="lstm", threads=1)

    def step(w: Any, x: torch.Tensor, state: Any) -> Any:
        return tuple(map(coarse, formula_of(spec)(w, coarse(x), tuple(map(coarse, state)))))

    found = compared(spec, draw_weights(spec), step)
    assert found.reference
    assert (found.cause, found.reference.inside) == ("precision", (Inside("right", "tf32", is_seen=False),))


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(each, marks=pytest.mark.slow) for each in range(4, 20))])
@pytest.mark.parametrize("name", FAULTS)
def test_a_small_fault_is_one_of_the_function_whatever_the_seed(name: str, seed: int) -> None:
    spec = Spec(kind=KINDS[seed % 3], seed=seed, threads=1)
    found = compared(spec, draw_weights(spec), FAULTS[name](formula_of(spec), 1e-6 * (-30) ** (seed % 2)))
    assert (found.verdict, found.cause) == ("different", "function")


@pytest.mark.parametrize("inside", ["float32", "bfloat16"])
def test_a_fault_that_is_larger_than_rounding_inside_is_found(inside: str) -> None:
    spec = Spec(kind="gru", threads=1)
    found = compared(spec, draw_weights(spec), FAULTS["scaled"](rounding_inside(spec, inside, "a"), 0.2))
    assert (found.verdict, found.cause) == ("different", "function")


def test_what_differs_by_chance_is_no_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = torch.Generator().manual_seed(0)

    def noisy(spec: Spec, weights: Weights, given: Input) -> Run:
        run = run_equations(spec, weights, given)
        return replace(run, y=run.y + 1e-8 * torch.randn(run.y.shape, generator=noise))

    monkeypatch.setitem(subjects.SUBJECTS, "cells", noisy)
    assert compare(Spec(), "equations", "cells").cause == "function"


def test_both_sides_may_round_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, dtype in (("module", "float32"), ("cells", "bfloat16")):
        monkeypatch.setitem(subjects.SUBJECTS, name, rounding(dtype))
    found = compare(Spec(kind="gru"))
    assert found.reference
    assert [(each.side, each.arithmetic) for each in found.reference.inside] == [
        ("left", "float32"),
        ("right", "bfloat16"),
    ]
    assert (found.cause, found.side) == ("precision", "right")


@pytest.mark.parametrize("name", ["reset before the matmul", "update gate inverted"])
def test_a_deviation_is_named_in_a_side_that_rounds_inside(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    deviation = next(each for each in DEVIATIONS if each.name == name)

    def rounded_and_wrong(spec: Spec, weights: Weights, given: Input) -> Run:
        run = deviation.run(spec, {key: each.float().to(each) for key, each in weights.items()}, given)
        return Run(run.y.float().to(run.y), tuple(each.float().to(each) for each in run.state))

    monkeypatch.setitem(subjects.SUBJECTS, "cells", rounded_and_wrong)
    found = compare(Spec(kind="gru"))
    assert (found.cause, [each.convention for each in found.explanations]) == ("function", [name])


@pytest.mark.parametrize("grad", [False, True], ids=["", "grad"])
@pytest.mark.parametrize("seed", range(4))
def test_float32_inside_is_right_with_large_weights(seed: int, grad: bool) -> None:
    """Where chaos bends every error, fewer steps and smaller weights tell."""
    spec = Spec(kind="gru", seq_len=8, seed=seed, threads=1)
    weights = {name: 20 * each for name, each in draw_weights(spec).items()}
    found = compared(spec, weights, rounding_inside(spec, "float32", "sac"), grad=grad)
    assert (found.exit_code, found.reference and found.reference.inside) == (0, (Inside("right", "float32", True),))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("units", [1, 48])
@pytest.mark.parametrize("below", [1e-3, 1e-2])
def test_a_dead_zone_is_no_rounding_though_it_jumps(below: float, units: int, dtype: str) -> None:
    spec = Spec(kind="lstm", num_layers=1, hidden_size=48, dtype=dtype, threads=1)

    def shrunk(w: Any, x: torch.Tensor, state: Any) -> Any:
        h, c = formula_of(spec)(w, x, state)
        return torch.cat((nn.functional.hardshrink(h[:, :units], 20 * below / units), h[:, units:]), 1), c

    found = compared(spec, draw_weights(spec), shrunk)
    assert (found.cause, found.reference and found.reference.inside) == ("function", ())


def test_a_fault_that_rounding_inside_may_hide_is_told() -> None:
    assert [each.name for each in rounded("float32", "float32").blind_spots] == ["rounding inside"]


# As users write it.

CLASSES = """
import torch
from torch import nn


class Idiom(nn.LSTM):
    \"\"\"Its state and its nonlinearities are float32.\"\"\"

    def forward(self, x, hx):
        h, c, ys = hx[0][0].float(), hx[1][0].float(), []
        for t in x:
            a = nn.functional.linear(t, self.weight_ih_l0, self.bias_ih_l0)
            a = a + nn.functional.linear(h.to(t), self.weight_hh_l0, self.bias_hh_l0)
            i, f, g, o = a.float().chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            ys.append(h.to(t))
        return torch.stack(ys), (h[None].to(x), c[None].to(x))

class Autocast(Idiom):
    def forward(self, x, hx):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y, (h, c) = super().forward(x, hx)
        return y.to(x), (h.to(x), c.to(x))

class Single(nn.LSTM):
    def forward(self, x, hx):
        if x.dtype != torch.float32:
            raise TypeError("only float32")
        return super().forward(x, hx)

class SingleAndWrong(Single):
    def forward(self, x, hx):
        y, state = super().forward(x, hx)
        return y + 1e-3 * y * y, state
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(CLASSES)
    return path


def words(own: Path, name: str, *flags: str) -> tuple[str, ...]:
    return ("compare", "--kind", "lstm", "--layers", "1", "--threads", "1", "--right", f"{own}:{name}", *flags)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_usual_idiom_is_right_and_the_page_says_what_it_does(cli: Cli, own: Path, dtype: str) -> None:
    answer = cli(*words(own, "Idiom", "--dtype", dtype))
    assert answer.code == 0
    assert "Idiom) computes in float32 inside." in " ".join(answer.out.split())


def test_in_float64_the_same_is_said_and_it_is_different(cli: Cli, own: Path) -> None:
    answer = cli(*words(own, "Idiom", "--dtype", "float64"))
    assert answer.code == 1
    assert "Idiom) computes in float32 inside: " in " ".join(answer.out.split())


def test_autocast_is_named(cli: Cli, own: Path) -> None:
    """In float64 it does nothing."""
    document = json.loads(cli(*words(own, "Autocast", "--json")).out)
    assert (document["cause"], document["inside"]) == ("precision", {"right": "bfloat16"})


def test_json_says_what_is_inside(cli: Cli, own: Path) -> None:
    document = json.loads(cli(*words(own, "Idiom", "--json")).out)
    assert (document["inside"], document["reference"]["about_float32"]) == ({"right": "float32"}, ["right"])


def test_a_class_without_float64_is_judged_in_its_own_dtype(cli: Cli, own: Path) -> None:
    document = json.loads(cli(*words(own, "Single", "--json")).out)
    assert (document["verdict"], document["without_float64"]) == ("identical", ["right"])
    assert any("does not run in float64, so that it was judged in float32" in each for each in document["blind_spots"])


def test_a_fault_of_a_class_without_float64_is_found(cli: Cli, own: Path) -> None:
    document = json.loads(cli(*words(own, "SingleAndWrong", "--json")).out)
    assert (document["verdict"], document["cause"], document["side"]) == ("different", "function", "right")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_quantized_module_is_judged_in_int8() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(10, 20, 2)
    quantize: Any = torch.ao.quantization.quantize_dynamic
    quantized = quantize(nn.Sequential(lstm), {nn.LSTM}, dtype=torch.qint8)[0]
    found = compare(lstm, quantized, torch.randn(7, 3, 10))
    assert found.reference
    assert (found.verdict, found.cause, found.reference.without_float64) == ("equivalent", "rounding", ("right",))
    assert "as exact as float32 and int8 allow" in verdict_in_words(found)
