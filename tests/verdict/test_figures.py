"""The figures of two tensors, worked by hand, and the verdict, cause and exit code that follow from them."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from support import PLAIN_SPECS, rounded_cells
from torch.testing._comparison import default_tolerances

from rnnscope import Comparison, Difference, Spec, Tolerance, compare
from rnnscope.network.weights import Input, Weights
from rnnscope.spec.question import TOLERANCES
from rnnscope.spec.sides import SUBJECT_NAMES
from rnnscope.subjects import builtin as subjects
from rnnscope.subjects.builtin import Run
from rnnscope.verdict import figures as differences
from rnnscope.verdict.figures import difference, with_piece

EXACT = Tolerance(0.0, 0.0, given=True)
NAN, INF = math.nan, math.inf


def figures(actual: list[float], expected: list[float], tolerance: Tolerance = EXACT) -> Difference:
    return difference("y", torch.tensor(actual), torch.tensor(expected), tolerance)


def test_greatest_differences_and_where() -> None:
    actual = torch.tensor([[1.0, 2.0, 3.0], [4.0, -5.5, 6.0]])
    expected = torch.tensor([[1.0, 2.25, 3.0], [4.0, -5.0, 6.0]])
    assert difference("y", actual, expected, Tolerance(0.0, 0.25, given=True)) == Difference(
        "y",
        shape=(2, 3),
        right_shape=(2, 3),
        total=6,
        max_abs=0.5,
        max_rel=0.25 / 2.25,
        max_ulp=2.0**20,  # at -5 a float32 has steps of 2^-21: 0.5 is 2^20 of them, as 0.25 is at 2
        worst_index=(1, 1),
        mismatched=1,
        nonfinite=0,
        identical=False,
        within_tolerance=False,
    )


@pytest.mark.parametrize(
    ("actual", "expected", "relative"),
    [(0.0, 0.0, 0.0), (-0.0, 0.0, 0.0), (1e-30, 0.0, INF), (0.0, 2.0, 1.0), (3.0, 2.0, 0.5), (-2.0, 2.0, 2.0)],
)
def test_relative_difference_where_a_value_is_zero(actual: float, expected: float, relative: float) -> None:
    assert figures([actual], [expected]).max_rel == relative


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("steps", "start"), [(0, 1.0), (1, 1.0), (3, 1.0), (1, 0.0), (2, -1.0)], ids=["0", "1", "3", "from-0", "to-0"]
)
def test_units_in_the_last_place(dtype: torch.dtype, steps: int, start: float) -> None:
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    expected = torch.tensor([start], dtype=dtype)
    actual = (expected.view(bits) + steps).view(dtype)
    assert difference("y", actual, expected, EXACT).max_ulp == steps


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_units_across_zero_count_both_sides(dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    pair = torch.tensor([2 * tiny, 0.0], dtype=dtype), torch.tensor([-3 * tiny, -0.0], dtype=dtype)
    assert difference("y", *pair, EXACT).max_ulp == 5


def test_the_greatest_distance_of_all_does_not_overflow() -> None:
    largest = torch.tensor([torch.finfo(torch.float64).max], dtype=torch.float64)
    assert difference("y", largest, -largest, EXACT).max_ulp == pytest.approx(2 * 0x7FEFFFFFFFFFFFFF)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_tolerances_are_those_of_torch_testing(dtype: str) -> None:
    assert default_tolerances(getattr(torch, dtype)) == TOLERANCES[dtype]


def test_the_subjects_of_the_flags_are_those_that_run() -> None:
    assert tuple(subjects.SUBJECTS) == SUBJECT_NAMES


@pytest.mark.parametrize(
    ("actual", "expected", "mismatched"),
    [
        (1.5, 1.0, 0),
        (1.5000001, 1.0, 1),
        (1.0, 1.5, 0),
        (-1.5, -1.0, 0),
        (2.5, 2.0, 0),
        (2.75, 2.0, 0),
        (2.7500005, 2.0, 1),
    ],
)
def test_an_element_on_the_limit_is_within(actual: float, expected: float, mismatched: int) -> None:
    # 0.25 + 0.25·|expected|: 0.5 at 1, 0.625 at 1.5, 0.75 at 2.
    assert figures([actual], [expected], Tolerance(0.25, 0.25, given=True)).mismatched == mismatched


@pytest.mark.parametrize("actual", [NAN, INF, -INF, 1.0])
@pytest.mark.parametrize("expected", [NAN, INF, -INF])
def test_nan_and_infinity_are_never_the_same(actual: float, expected: float) -> None:
    for pair in ((actual, expected), (expected, actual)):
        both = figures([1.0, pair[0]], [1.0, pair[1]], Tolerance(1e9, 1e9, given=True))
        assert (both.nonfinite, both.mismatched, both.within_tolerance, both.identical) == (1, 1, False, False)
        assert math.isnan(both.max_ulp or 0)


def test_nan_is_the_greatest_difference_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differences, "ELEMENTS_AT_ONCE", 2)
    for place in range(5):
        actual = [9.0] * 5
        actual[place] = NAN
        worst = figures(actual, [0.0] * 5)
        assert math.isnan(worst.max_abs or 0)
        assert worst.worst_index == (place,)


@pytest.mark.parametrize("chunk", [1, 2, 7, 24, 1000])
def test_figures_do_not_depend_on_the_pieces(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    generator = torch.Generator().manual_seed(3)
    expected = torch.randn(2, 3, 4, generator=generator)
    actual = expected + 1e-3 * torch.randn(2, 3, 4, generator=generator)
    whole = difference("y", actual, expected, Tolerance(0.0, 1e-3, given=True))
    monkeypatch.setattr(differences, "ELEMENTS_AT_ONCE", chunk)
    assert difference("y", actual, expected, Tolerance(0.0, 1e-3, given=True)) == whole
    assert whole.max_abs == (actual.double() - expected.double()).abs().max().item()


@pytest.mark.parametrize(
    "values", [[0, 0, 0, 0, 0, 0, 0, 0], [1, 2, 2, 1, 2, 0, 2, 1], [1, NAN, 2, 3, NAN, INF, 0, NAN]]
)
@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("tolerance", [EXACT, Tolerance(0.0, 1.5, given=True)], ids=["exact", "wide"])
def test_figures_of_pieces_add_up_to_those_of_the_whole(values: list[float], dim: int, tolerance: Tolerance) -> None:
    actual, expected = torch.tensor(values).reshape(2, 2, 2), torch.ones(2, 2, 2)
    whole = difference("y", actual, expected, tolerance)
    first, second = (
        difference("y", actual.narrow(dim, at, 1), expected.narrow(dim, at, 1), tolerance) for at in (0, 1)
    )
    found = replace(with_piece(first, second, dim, 1), shape=(2, 2, 2), right_shape=(2, 2, 2))
    assert repr(found) == repr(whole)  # NaN is told like any number


def test_strided_tensors_are_compared_element_by_element() -> None:
    expected = torch.arange(6.0).reshape(2, 3)
    assert difference("y", expected.t().contiguous().t(), expected, EXACT).identical


def test_a_zero_of_the_other_sign_is_equivalent_and_not_identical() -> None:
    signed = figures([-0.0], [0.0])
    assert (signed.identical, signed.within_tolerance, signed.max_ulp) == (False, True, 0)


def test_shapes_that_differ_have_no_numbers() -> None:
    other = difference("y", torch.zeros(2, 3), torch.zeros(3, 2), EXACT)
    assert other == Difference("y", shape=(3, 2), right_shape=(2, 3), total=6)


def wrong_subject(change_y: float) -> subjects.Subject:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        right = rounded_cells(spec, weights, given)
        return Run(right.y + change_y, right.state)

    return run


def against(monkeypatch: pytest.MonkeyPatch, subject: subjects.Subject) -> Comparison:
    monkeypatch.setitem(subjects.SUBJECTS, "cells", subject)
    return compare(Spec())


@pytest.mark.parametrize(
    ("change_y", "verdict", "cause", "code"),
    [(0.0, "equivalent", "rounding", 0), (1e-3, "different", "function", 1), (NAN, "different", "nonfinite", 1)],
)
def test_verdict_cause_and_exit_code(
    monkeypatch: pytest.MonkeyPatch, change_y: float, verdict: str, cause: str | None, code: int
) -> None:
    comparison = against(monkeypatch, wrong_subject(change_y))
    assert (comparison.verdict, comparison.cause, comparison.exit_code) == (verdict, cause, code)


def test_other_shapes_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def batch_first(spec: Spec, weights: Weights, given: Input) -> Run:
        right = subjects.run_cells(spec, weights, given)
        return Run(right.y.transpose(0, 1), right.state)

    comparison = against(monkeypatch, batch_first)
    assert (comparison.verdict, comparison.cause, comparison.exit_code) == ("different", "shape", 1)


def test_a_subject_is_identical_to_itself() -> None:
    comparison = compare(Spec(), "module", "module")
    assert (comparison.verdict, comparison.exit_code) == ("identical", 0)


def test_two_subjects_share_no_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiling(prepared: subjects.Prepared) -> Run:
        found = run(prepared)
        if isinstance(prepared.network, torch.nn.Module):
            for each in prepared.network.parameters():
                each.fill_(NAN)
        return found

    run, before = subjects.Prepared.run, compare(Spec())
    monkeypatch.setattr(subjects.Prepared, "run", spoiling)
    assert compare(Spec()) == before


def test_a_wrong_weight_is_different() -> None:
    def one_weight_off(spec: Spec, weights: Weights, given: Input) -> Run:
        changed = weights["weight_hh_l0"].clone()
        changed[3, 4] += 0.01
        return subjects.run_cells(spec, weights | {"weight_hh_l0": changed}, given)

    with pytest.MonkeyPatch.context() as patch:
        assert against(patch, one_weight_off).verdict == "different"


def test_a_given_tolerance_binds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(subjects.SUBJECTS, "cells", rounded_cells)
    assert compare(Spec(), rtol=0, atol=0).verdict == "different"
    assert compare(Spec(), rtol=0, atol=1).verdict == "equivalent"


@given(PLAIN_SPECS.filter(lambda spec: spec.batch_size > 0))
def test_module_and_cells_are_the_same_network(spec: Spec) -> None:
    comparison = compare(
        spec, rtol=1e-5 if spec.dtype == "float32" else 1e-13, atol=1e-5 if spec.dtype == "float32" else 1e-13
    )
    assert comparison.exit_code == 0
    assert [each.shape for each in comparison.outputs] == [
        (spec.batch_size, spec.seq_len, spec.hidden_size)
        if spec.batch_first
        else (spec.seq_len, spec.batch_size, spec.hidden_size),
        (spec.num_layers, spec.batch_size, spec.hidden_size),
    ]


def test_the_same_flags_give_the_same_figures() -> None:
    assert compare(Spec(seed=5)) == compare(Spec(seed=5))


@pytest.mark.parametrize(
    ("spec", "facts", "line"),
    [
        (Spec(threads=1), {}, "rnnscope compare --threads 1"),
        (Spec(num_layers=3, bias=False, threads=1), {}, "rnnscope compare --layers 3 --no-bias --threads 1"),
        (
            Spec(threads=1),
            {"right": "cells@cpu/bfloat16"},
            "rnnscope compare --threads 1 --right cells@cpu/bfloat16",
        ),
        (
            Spec(batch_first=True, seed=9, threads=2),
            {"left": "cells", "right": "module", "rtol": 0, "atol": 1e-07},
            "rnnscope compare --batch-first --seed 9 --threads 2 --left cells --right module --rtol 0.0 --atol 1e-07",
        ),
    ],
)
def test_the_rerun_line(spec: Spec, facts: dict[str, Any], line: str) -> None:
    assert compare(spec, **facts).rerun == line
