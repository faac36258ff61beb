"""What both sides get: numbers that every dtype can say, and problems made from a problem."""

from itertools import product

import pytest
import torch

from rnnscope import Spec
from rnnscope.subjects.builtin import run_equations, run_module, valid_region
from rnnscope.verdict.problem import draw_problem, first_steps, rounded, solve, solve_by_layers, step_by_step

DTYPES = ("float32", "float64", "bfloat16", "float16")

FORMS = {
    "plain": Spec(kind="lstm", seq_len=6, num_layers=3),
    "both directions": Spec(kind="gru", seq_len=6, bidirectional=True, batch_first=True),
    "lengths": Spec(kind="lstm", lengths=(2, 6, 4), bidirectional=True),
    "unbatched": Spec(seq_len=6, unbatched=True, bidirectional=True),
    "projection": Spec(kind="lstm", seq_len=6, proj_size=7),
}


@pytest.mark.parametrize("dtypes", list(product(DTYPES, DTYPES)), ids="-".join)
def test_every_side_can_say_every_number(dtypes: tuple[str, ...]) -> None:
    problem = draw_problem(Spec(kind="lstm"), dtypes, grad=True)
    numbers = [*problem.weights.values(), problem.given.x, *problem.given.state, *(problem.cotangents or {}).values()]
    for each, dtype in product(numbers, dtypes):
        assert torch.equal(each.to(getattr(torch, dtype)).double(), each.double())
    assert problem.given.x.element_size() == min(getattr(torch, dtype).itemsize for dtype in dtypes)


def test_rounding_two_ways_keeps_what_both_can_say() -> None:
    odd = torch.tensor([65519.0, 1e-6, 2.0**-24 * 1.3, 1.2345678, -3.4e38], dtype=torch.float64)
    both = rounded(odd, ("float16", "bfloat16"))
    assert torch.equal(both.half().double(), both)
    assert torch.equal(both.bfloat16().double(), both)


@pytest.mark.parametrize("spec", FORMS.values(), ids=FORMS)
def test_the_first_steps_give_the_first_outputs(spec: Spec) -> None:
    problem = draw_problem(spec, ("float64",))
    beginning = first_steps(problem, 2)
    time = 1 if spec.batch_first else 0
    whole, start = (solve(run_equations, each.spec, each)["y"] for each in (problem, beginning))
    assert start.shape[time] == 2
    if spec.bidirectional:  # the forward direction of the lowest layer has not seen what comes later
        whole, start = (
            solve_by_layers(run_equations, each.spec, each)["y of layer 0"] for each in (problem, beginning)
        )
    valid = valid_region(beginning.spec, start)[..., : spec.output_size]
    forward = whole.narrow(time, 0, 2)[..., : spec.output_size]
    assert torch.equal(start[..., : spec.output_size][valid], forward[valid])


def test_a_beginning_is_as_ragged_as_the_whole() -> None:
    problem = draw_problem(Spec(lengths=(10, 5, 9)), ("float64",))
    assert first_steps(problem, 4).spec.lengths == (4, 2, 4)


@pytest.mark.parametrize("spec", FORMS.values(), ids=FORMS)
def test_every_step_by_itself_is_a_step_of_the_whole(spec: Spec) -> None:
    problem = draw_problem(spec, ("float64",))
    alone = step_by_step(problem)
    assert alone.origins is not None
    whole = solve(run_equations, problem.spec, problem)["y"]
    steps = solve(run_equations, alone.spec, alone)["y"][0]
    for (step, item), y in zip(alone.origins.tolist(), steps, strict=True):
        index = (step,) if spec.unbatched else (item, step) if spec.batch_first else (step, item)
        torch.testing.assert_close(y, whole[index], rtol=0, atol=1e-14)


def test_only_real_steps_are_taken_by_themselves() -> None:
    alone = step_by_step(draw_problem(FORMS["lengths"], ("float64",)))
    assert alone.origins is not None
    assert alone.spec.batch_size == 2 + 6 + 4
    assert [1, 0] in alone.origins.tolist()
    assert [2, 0] not in alone.origins.tolist()


@pytest.mark.parametrize("spec", FORMS.values(), ids=FORMS)
def test_the_top_layer_by_itself_gives_y(spec: Spec) -> None:
    problem = draw_problem(spec, ("float64",))
    for subject in (run_equations, run_module):
        found = solve_by_layers(subject, problem.spec, problem)
        y = solve(subject, problem.spec, problem)["y"]
        assert list(found) == [f"y of layer {layer}" for layer in range(spec.num_layers)]
        torch.testing.assert_close(found[f"y of layer {spec.num_layers - 1}"], y, rtol=0, atol=1e-14)
