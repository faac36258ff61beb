"""The first element that is off, found again where a fault was planted."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import Answer
from torch import Tensor

from rnnscope import Spec, compare
from rnnscope.network.equations import State, Step
from rnnscope.network.shapes import Place
from rnnscope.network.weights import Input, Weights
from rnnscope.subjects import builtin as subjects
from rnnscope.subjects.builtin import Run, run_cells, run_equations

Cli = Callable[..., Answer]
NAN = float("nan")


def faulty(step: int, layer: int, direction: int, unit: int, item: int, add: float) -> subjects.Subject:
    """The equations with one element of h off after one step; it is known by its weights in a run of one layer too."""

    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        marked = next((k for k in range(spec.num_layers) if weights[f"weight_ih_l{k}"][0, 0] == MARK), None)

        def around(k: int, d: int, take: Step) -> Step:
            count = -1

            def taken(x: Tensor, state: State) -> State:
                nonlocal count
                count += 1
                new = take(x, state)
                at = spec.seq_len - 1 - step if d else step
                if (k, d, count) == (marked, direction, at):
                    h = new[0].clone()
                    h[item, unit] += add
                    return (h, *new[1:])
                return new

            return taken

        return run_equations(spec, weights, given, around=around)

    assert layer >= 0
    return run


MARK = 0.5


def marked(layer: int) -> Callable[[Weights], Weights]:
    def change(weights: Weights) -> Weights:
        each = weights[f"weight_ih_l{layer}"].clone()
        each[0, 0] = MARK
        return weights | {f"weight_ih_l{layer}": each}

    return change


@pytest.mark.parametrize("form", [{}, {"batch_first": True}, {"kind": "lstm"}, {"bidirectional": True}], ids=str)
@pytest.mark.parametrize(
    ("step", "layer", "direction", "unit", "item"),
    [(0, 0, 0, 0, 0), (3, 0, 0, 5, 2), (3, 1, 0, 7, 1), (5, 2, 0, 19, 3), (2, 1, 1, 4, 0), (5, 2, 1, 4, 3)],
)
@pytest.mark.parametrize("add", [1e-3, NAN], ids=["off", "nan"])
def test_a_fault_is_found_where_it_was_planted(
    monkeypatch: pytest.MonkeyPatch,
    form: dict[str, Any],
    step: int,
    layer: int,
    direction: int,
    unit: int,
    item: int,
    add: float,
) -> None:
    from rnnscope.network.weights import draw_weights
    from rnnscope.verdict import problem as problems

    if direction and not form.get("bidirectional"):
        pytest.skip("there is one direction")
    monkeypatch.setattr(problems, "draw_weights", lambda spec: marked(layer)(draw_weights(spec)))
    monkeypatch.setitem(subjects.SUBJECTS, "cells", faulty(step, layer, direction, unit, item, add))
    found = compare(Spec(seq_len=6, batch_size=4, num_layers=3, **form))
    assert found.cause == ("function" if add == add else "nonfinite")
    tensor = "y" if layer == 2 else "h"
    assert found.first_divergence == Place(tensor, step, layer, direction, unit, item)


def test_it_is_shown_in_words(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        found = run_cells(spec, weights, given)
        return Run(found.y + (torch.arange(spec.seq_len)[:, None, None] == 2), found.state)

    monkeypatch.setitem(subjects.SUBJECTS, "cells", run)
    answer = cli("compare", "--layers", "1", "--bidirectional")
    # The backward direction walks from the last step: of both directions it is the one that comes to step 2 first.
    assert "First at: step 2, layer 0, backward, unit 0, item 0, in y." in answer.out


def test_rows_of_h_and_c_are_found_by_their_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        found = run_cells(spec, weights, given)
        c = found.state[1].clone()
        if spec.num_layers == 2:
            c[1, 3, 6] += 1
        return Run(found.y, (found.state[0], c))

    monkeypatch.setitem(subjects.SUBJECTS, "cells", run)
    found = compare(Spec(kind="lstm", seq_len=4))
    assert found.first_divergence == Place("c", 3, 1, 0, 6, 3)


def test_an_item_ends_at_its_own_length(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        found = run_cells(spec, weights, given)
        h = found.state[0].clone()
        h[0, 1, 2] += 1
        return Run(found.y, (h,))

    monkeypatch.setitem(subjects.SUBJECTS, "cells", run)
    found = compare(Spec(lengths=(5, 2, 3), num_layers=1))
    assert found.first_divergence == Place("h", 1, 0, 0, 2, 1)


def test_an_unbatched_network_has_no_item(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        subjects.SUBJECTS,
        "cells",
        lambda spec, weights, given: run_cells(spec, weights, Input(given.x + 1, given.state)),
    )
    found = compare(Spec(unbatched=True))
    assert found.first_divergence is not None
    assert (found.first_divergence.step, found.first_divergence.batch) == (0, None)


def test_a_place_step_by_step_is_one_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        """Off where x is what it is at step 2 of item 1."""
        found = run_cells(spec, weights, given)
        return Run(torch.where(given.x[..., :1] == at, found.y + 1, found.y), found.state)

    from rnnscope.network.weights import draw_input

    at = draw_input(Spec(seq_len=4, num_layers=1)).x[2, 1, 0]
    monkeypatch.setitem(subjects.SUBJECTS, "cells", run)
    found = compare(Spec(seq_len=4, num_layers=1), resync=True)
    assert found.first_divergence is not None
    assert (found.first_divergence.step, found.first_divergence.batch) == (2, 1)


def test_nothing_is_located_where_nothing_is_off() -> None:
    assert compare(Spec()).first_divergence is None
