"""The measured bounds: figures by hand, and what random rounding does to networks whose answer is known."""

from collections.abc import Callable
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
    by_bound,
    figures,
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
@pytest.mark.parametrize("name", ["y", "h", "x", "h0", "weight_ih_l0", "bias_hh_l0"])
def test_a_place_under_a_bound_is_found_again_in_the_tensor(spec: Spec, name: str) -> None:
    tensor = Bounds(draw_problem(spec, (spec.dtype,), grad=True)).reference[name]
    view = by_bound(spec, name, tensor)
    for place in torch.ones(view.shape).nonzero().tolist():
        assert tensor[index_of(spec, name, tuple(tensor.shape), tuple(place))] == view[tuple(place)]


@pytest.mark.parametrize(
    ("name", "shape"),
    [("y", (4, 2, 3)), ("h", (1, 1, 4, 3)), ("x", (1, 1, 3)), ("h0", (1, 1, 4, 3)), ("weight_ih_l0", (1, 1))],
)
@pytest.mark.parametrize("form", ["time first", "batch first"])
def test_each_item_has_a_figure_of_its_own(form: str, name: str, shape: tuple[int, ...]) -> None:
    spec = replace(FORMS[form], num_layers=2)
    tensor = Bounds(draw_problem(spec, (spec.dtype,), grad=True)).reference[name]
    assert tuple(figures(spec, name, tensor).shape) == shape


def random_rounding(unit: float, seed: int = 0, absolute: float = 0.0) -> _RandomRounding:
    return _RandomRounding(unit, absolute, torch.Generator().manual_seed(seed))


def test_rounding_moves_results_by_a_unit_on_average_and_never_by_the_same_amount() -> None:
    a, b = torch.full((10_000,), 3.0, dtype=torch.float64), torch.full((10_000,), 5.0, dtype=torch.float64)
    with random_rounding(2.0**-10):
        product = a * b
    moved = product / 15 - 1
    assert moved.abs().max().item() <= 3**0.5 * 2.0**-10 * (1 + 1e-9)
    assert moved.square().mean().sqrt().item() == pytest.approx(2.0**-10, rel=0.02)
    assert len(set(moved.tolist())) > 9_900


@pytest.mark.parametrize("activation", [torch.tanh, torch.sigmoid])
def test_an_activation_may_be_rounded_as_if_it_gave_1(activation: Callable[[Tensor], Tensor]) -> None:
    x = torch.full((1000,), 1e-9, dtype=torch.float64)
    with random_rounding(2.0**-20), torch.no_grad():
        relative = activation(x) - activation(x)
    with random_rounding(2.0**-20, absolute=2.0), torch.no_grad():
        absolute = activation(x) - activation(x)
    assert absolute.std().item() == pytest.approx(2 * 2.0**-20 * 2**0.5, rel=0.1)
    assert relative.std().item() == pytest.approx(2.0**-20 * 2**0.5 * activation(x[0]).item(), rel=0.1)


@pytest.mark.parametrize("activation", [torch.tanh, torch.sigmoid])
def test_what_a_saturated_activation_keeps_for_its_gradient_is_rounded(
    activation: Callable[[Tensor], Tensor],
) -> None:
    x = torch.full((1000,), 60.0, dtype=torch.float64, requires_grad=True)
    with random_rounding(2.0**-20, absolute=2.0), torch.enable_grad():
        (slope,) = torch.autograd.grad(activation(x).sum(), x)
    assert slope.abs().min().item() > 0  # torch's own is 0 there
    assert 2.0**-20 < slope.abs().max().item() < 8 * 2.0**-20


def test_moving_numbers_about_rounds_nothing() -> None:
    mode = random_rounding(0.5)
    a = torch.arange(12.0).reshape(4, 3)
    with mode:
        assert torch.equal(torch.cat(a.T.chunk(3)).T.contiguous(), a.reshape(4, 3)[:, :].T.reshape(3, 4).T)


@pytest.mark.parametrize("count", [1000, 65_537, 200_000])
def test_autograd_keeps_no_roundings_for_each_operation(count: int) -> None:
    mode, ones = random_rounding(0.5, seed=1), torch.ones(count, dtype=torch.float64)
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
    with random_rounding(2.0**-24):
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
    largest = Bounds(problem(spec)).reference["h"].abs().amax(-1)
    function, precision = bounds(spec)[0]["h"][0, 0], bounds(spec, "float32")[0]["h"][0, 0]
    torch.testing.assert_close(function, FUNCTION_FACTOR * 2.0**-53 * largest)
    torch.testing.assert_close(precision, PRECISION_FACTOR * 2 * 2.0**-24 * largest + 4 * 2.0**-126)


@pytest.mark.parametrize("arithmetic", [None, "float32", "bfloat16", "tf32"])
def test_bounds_grow_wider(arithmetic: str | None) -> None:
    found = bounds(Spec(kind="lstm", seq_len=5), arithmetic)
    for first, second in pairwise(found):
        assert all((first[name] <= second[name]).all() for name in first)


def test_bounds_of_y_never_shrink_along_the_walk() -> None:
    for bound in bounds(Spec(kind="gru", seq_len=9, bidirectional=True)):
        forward, backward = bound["y"].unbind(1)
        assert (forward.diff(dim=0) >= 0).all()
        assert (backward.diff(dim=0) <= 0).all()


def test_a_network_that_contracts_has_a_narrow_bound_and_one_that_is_chaotic_a_wide_one() -> None:
    spec = Spec(hidden_size=64, seq_len=60, num_layers=1)
    drawn = problem(spec)

    def last(scale: float) -> float:
        weights = {name: scale * each for name, each in drawn.weights.items()}
        bounds = Bounds(replace(drawn, weights=weights))
        *_, widest = bounds.precision("float32")
        return (widest.of("h").max() / bounds.reference["h"].abs().max()).item()

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
