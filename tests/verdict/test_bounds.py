"""The measured bounds: figures by hand, and what random rounding does to networks whose answer is known."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from rnnscope import Spec, compare
from rnnscope.network.equations import Layer, gru_step
from rnnscope.network.weights import Input
from rnnscope.verdict.bounds import (
    FUNCTION_FACTOR,
    PRECISION_FACTOR,
    UNITS,
    Bounds,
    _RandomRounding,
    greatest_by_step,
    index_of,
    so_far,
    walked,
)
from rnnscope.verdict.problem import Problem, draw_problem


def problem(spec: Spec) -> Problem:
    return draw_problem(spec, (spec.dtype,))


@pytest.mark.parametrize("arithmetic", ["float64", "float32", "float16", "bfloat16"])
def test_a_unit_is_the_greatest_error_of_one_rounding(arithmetic: str) -> None:
    assert UNITS[arithmetic] == torch.finfo(getattr(torch, arithmetic)).eps / 2


def test_tf32_keeps_ten_bits_after_the_point() -> None:
    assert UNITS["tf32"] == 2.0**-10 / 2


def test_the_greatest_of_each_step_and_direction() -> None:
    # L = 2, N = 1, two directions of two units.
    y = torch.tensor([[[1.0, -5.0, 0.5, 0.25]], [[2.0, 3.0, -8.0, 1.0]]])
    spec = Spec(bidirectional=True, hidden_size=2, seq_len=2, batch_size=1)
    assert greatest_by_step(walked(spec, "y", y)).tolist() == [[5.0, 0.5], [3.0, 8.0]]


def test_a_figure_is_the_greatest_so_far_in_the_order_in_which_it_is_walked() -> None:
    figures = torch.tensor([[1.0, 1.0], [3.0, 4.0], [2.0, 2.0]])
    assert so_far(figures).tolist() == [[1.0, 4.0], [3.0, 4.0], [3.0, 2.0]]


FORMS = {
    "time first": Spec(seq_len=4, batch_size=3, hidden_size=5, bidirectional=True),
    "batch first": Spec(seq_len=4, batch_size=3, hidden_size=5, bidirectional=True, batch_first=True),
    "unbatched": Spec(seq_len=4, unbatched=True, hidden_size=5),
}


@pytest.mark.parametrize("spec", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("name", ["y", "h"])
def test_a_place_in_the_walk_is_found_again_in_the_tensor(spec: Spec, name: str) -> None:
    tensor = Bounds(problem(spec)).reference[name]
    view = walked(spec, name, tensor)
    for place in torch.ones(view.shape).nonzero().tolist():
        assert tensor[index_of(spec, name, tuple(place))] == view[tuple(place)]


def test_rounding_moves_every_result_by_one_unit() -> None:
    mode = _RandomRounding(2.0**-10, torch.Generator().manual_seed(0))
    a, b = torch.full((100,), 3.0, dtype=torch.float64), torch.full((100,), 5.0, dtype=torch.float64)
    with mode:
        product = a * b
    assert set(product.tolist()) == {15 * (1 - 2.0**-10), 15 * (1 + 2.0**-10)}


def test_moving_numbers_about_rounds_nothing() -> None:
    mode = _RandomRounding(0.5, torch.Generator().manual_seed(0))
    a = torch.arange(12.0).reshape(4, 3)
    with mode:
        assert torch.equal(torch.cat(a.T.chunk(3)).T.contiguous(), a.reshape(4, 3)[:, :].T.reshape(3, 4).T)


@pytest.mark.parametrize("count", [1000, 65_537, 200_000])
def test_autograd_keeps_no_signs_for_each_operation(count: int) -> None:
    mode, ones = _RandomRounding(0.5, torch.Generator().manual_seed(1)), torch.ones(count, dtype=torch.float64)
    with torch.enable_grad():
        mode.perturbed(ones)
        kept = [mode.perturbed(ones.requires_grad_()).grad_fn._saved_tensor2 for _ in range(9)]  # type: ignore[union-attr]
    assert len({each.untyped_storage().data_ptr() for each in kept}) <= 2
    assert not torch.equal(kept[0], kept[1])


def test_every_operation_of_a_step_is_rounded() -> None:
    """1 - z is where rounding what goes in alone would see nothing: z is within a rounding of 1."""
    size = 50
    bias = torch.cat([torch.zeros(size), torch.full((size,), 20.0), torch.ones(size)]).double()
    w = Layer(torch.zeros(3 * size, 1).double(), torch.zeros(3 * size, size).double(), bias, torch.zeros_like(bias))
    x, h = torch.ones(1, 1).double(), torch.zeros(1, size).double()
    (exact,) = gru_step(w, x, (h,))
    with _RandomRounding(2.0**-24, torch.Generator().manual_seed(0)):
        (rounded,) = gru_step(w, x, (h,))
    assert (rounded - exact).abs().max() > 10 * exact.abs().max()  # 6e-8 against 2e-9


def bounds(spec: Spec, arithmetic: str | None = None) -> list[dict[str, Tensor]]:
    found = Bounds(problem(spec)).precision(arithmetic or "float64")
    return [each.limits for each in found]


@pytest.mark.parametrize("arithmetic", ["float64", "float32", "tf32"])
def test_bounds_do_not_depend_on_how_often_they_are_asked_for(arithmetic: str) -> None:
    bounds = Bounds(problem(Spec(kind="lstm")))
    first, second = ([each.limits for each in bounds.precision(arithmetic)] for _ in range(2))
    assert all(torch.equal(a[name], b[name]) for a, b in zip(first, second, strict=True) for name in a)


def test_a_tensor_that_is_zero_has_a_bound_that_is_not_too_wide() -> None:
    dead = replace(problem(Spec(nonlinearity="relu")), weights={})
    weights = {name: -each.abs() for name, each in problem(Spec()).weights.items()}
    given = Input(dead.given.x.abs(), tuple(each.abs() for each in dead.given.state))
    bounds = Bounds(replace(dead, weights=weights, given=given))
    assert not bounds.reference["y"].any()
    for bound in bounds.precision("float32"):
        assert not bounds.too_wide("y", bound).any()


def test_the_floor_is_what_the_formula_says() -> None:
    spec = Spec(hidden_size=3, seq_len=4)
    largest = Bounds(problem(spec)).reference["h"].abs().max().item()
    function, precision = bounds(spec)[0]["h"].item(), bounds(spec, "float32")[0]["h"].item()
    assert function == pytest.approx(FUNCTION_FACTOR * 2.0**-53 * largest)
    assert precision == pytest.approx(PRECISION_FACTOR * 2 * 2.0**-24 * largest + 4 * 2.0**-149)


@pytest.mark.parametrize("arithmetic", [None, "float32", "bfloat16", "tf32"])
def test_bounds_grow_wider(arithmetic: str | None) -> None:
    found = bounds(Spec(kind="lstm", seq_len=5), arithmetic)
    for first, second in pairwise(found):
        assert all((first[name] <= second[name]).all() for name in first)


def test_bounds_of_y_never_shrink_along_the_walk() -> None:
    for bound in bounds(Spec(kind="gru", seq_len=9, bidirectional=True)):
        forward, backward = bound["y"].unbind(1)
        assert (forward.diff() >= 0).all()
        assert (backward.diff() <= 0).all()


def test_a_network_that_contracts_has_a_narrow_bound_and_one_that_is_chaotic_a_wide_one() -> None:
    spec = Spec(hidden_size=64, seq_len=60, num_layers=1)
    drawn = problem(spec)

    def last(scale: float) -> float:
        weights = {name: scale * each for name, each in drawn.weights.items()}
        bounds = Bounds(replace(drawn, weights=weights))
        *_, widest = bounds.precision("float32")
        return (widest.of("h") / bounds.reference["h"].abs().max()).item()

    assert last(0.5) < 1e-5
    assert last(10.0) > 1


def test_bounds_are_the_same_every_time() -> None:
    first, second = bounds(Spec(kind="lstm")), bounds(Spec(kind="lstm"))
    assert all(torch.equal(a[name], b[name]) for a, b in zip(first, second, strict=True) for name in a)


def test_runs_are_made_only_where_the_floor_does_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    from rnnscope import compare

    def fail(*_: object) -> None:
        raise AssertionError("a perturbed run was made")

    monkeypatch.setattr(Bounds, "_spread", fail)
    monkeypatch.setattr(Bounds, "_error", fail)
    assert compare(Spec(kind="lstm")).verdict == "equivalent"


@pytest.mark.parametrize(("seed", "hidden_size"), [(0, 32), (1, 32), (0, 50)])
def test_the_gradients_of_many_items_are_sums_in_which_rounding_adds_up(seed: int, hidden_size: int) -> None:
    """torch's LSTM adds up the gradient of a bias over 10,240 steps, one after the other."""
    spec = Spec(kind="lstm", seed=seed, input_size=4, hidden_size=hidden_size, seq_len=10, batch_size=1024)
    comparison = compare(spec, grad=True)
    assert (comparison.verdict, comparison.cause) == ("equivalent", "rounding")
