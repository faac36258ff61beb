"""What is said of the parts of y and h, tried on what torch gives: each expression is evaluated and compared."""

import re
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from rnnscope import Spec
from rnnscope.network.shapes import look_for, notes, slices
from rnnscope.network.weights import draw_input, draw_weights
from rnnscope.subjects.builtin import run_module
from rnnscope.subjects.devices import running

FORMS: list[dict[str, Any]] = [{}, {"unbatched": True}, {"lengths": (4, 2, 3)}, {"lengths": (2,)}]
KINDS = [("rnn", 0), ("lstm", 7), ("gru", 0)]
SPECS = [
    Spec(
        kind=kind,
        bidirectional=both,
        batch_first=first,
        num_layers=layers,
        proj_size=7 if kind == "lstm" else 0,
        **form,
    )
    for kind, both, first, layers, form in product(("rnn", "lstm", "gru"), (True, False), (True, False), (1, 2), FORMS)
]


def outputs(spec: Spec) -> dict[str, Tensor]:
    with running(spec) as placed:
        return run_module(placed, draw_weights(placed), draw_input(placed)).outputs()


def value(expression: str, spec: Spec, found: dict[str, Tensor]) -> Tensor:
    """The tensor that an expression of y and h stands for; with `item` in it, stacked over the items."""
    if "item" not in expression:
        result: Tensor = eval(expression, dict(found))
        return result
    items = enumerate(spec.lengths or ())
    return torch.stack([eval(expression, {**found, "item": item, "length": length}) for item, length in items])


@pytest.mark.parametrize("spec", SPECS, ids=[f"{each.kind}-{number}" for number, each in enumerate(SPECS)])
def test_each_part_has_its_shape_and_is_what_it_is_said_to_be(spec: Spec) -> None:
    found = outputs(spec)
    for part in slices(spec):
        tensor = value(part.name, spec, found)
        assert tuple(tensor.shape) == part.shape
        if ": y" in part.meaning:
            torch.testing.assert_close(value(part.meaning.partition(": ")[2], spec, found), tensor, rtol=0, atol=0)


@pytest.mark.parametrize("spec", SPECS, ids=[f"{each.kind}-{number}" for number, each in enumerate(SPECS)])
def test_the_line_that_people_look_for_is_true(spec: Spec) -> None:
    found = outputs(spec)
    pairs = re.findall(r"(h\[-\d\]), which is (y\[[^\]]*\])", look_for(spec))
    assert len(pairs) == spec.directions
    for h, y in pairs:
        torch.testing.assert_close(value(y, spec, found), value(h, spec, found), rtol=0, atol=0)


def test_the_backward_half_of_the_last_step_is_not_the_backward_state() -> None:
    found = outputs(Spec(bidirectional=True))
    assert not torch.allclose(found["y"][-1, :, 20:], found["h"][-1])


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (Spec(), []),
        (Spec(dropout=0.5, num_layers=1), ["--dropout 0.5 does nothing: it acts between layers, and there is one"]),
        (Spec(dropout=0.5), ["--dropout 0.5 acts between layers, and only in training: add --train"]),
        (Spec(dropout=0.5, train=True), []),
        (
            Spec(seq_len=4, batch_size=4),
            ["L = N = 4: x laid out as (N, L, H_in) would fit too, and nothing would tell"],
        ),
        (
            Spec(seq_len=4, batch_size=4, batch_first=True),
            ["L = N = 4: x laid out as (L, N, H_in) would fit too, and nothing would tell"],
        ),
        (Spec(h0="zeros"), ["without an h0, x laid out as (N, L, H_in) would be taken too, and nothing would tell"]),
        (Spec(h0="zeros", unbatched=True), []),
    ],
)
def test_what_is_easily_overlooked_is_noted(spec: Spec, said: list[str]) -> None:
    assert list(notes(spec)) == said


def test_a_swapped_layout_really_goes_unnoticed_where_the_note_says_so() -> None:
    module = torch.nn.GRU(10, 20)
    x = torch.randn(3, 5, 10)
    assert module(x)[0].shape == (3, 5, 20)
    assert module(x.transpose(0, 1))[0].shape == (5, 3, 20)
    with pytest.raises(RuntimeError, match="Expected hidden size"):
        module(x.transpose(0, 1), torch.zeros(1, 5, 20))
