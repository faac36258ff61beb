"""A right network keeps every relation that says something of it; a faulty one breaks the one it was made for.

Both are listed by what they are in right_networks.py and faulty_networks.py. None of them is torch's own.
"""

from collections.abc import Callable
from functools import cache, partial
from itertools import product
from typing import Any, NamedTuple

import pytest
import torch
from faulty_networks import FAULTY
from right_networks import RIGHT, Checked
from torch import Tensor, nn

import rnnscope
from rnnscope import RnnscopeError
from rnnscope.checks.result import Check

STEPS, ITEMS, INPUTS, UNITS = 20, 4, 6, 8
"""Enough steps for faults that show at the sixteenth."""


@cache
def found_of(net: Checked) -> Check:
    torch.manual_seed(0)
    module = net.make(INPUTS, UNITS)
    x = torch.randn(STEPS, ITEMS, INPUTS)
    x = x.transpose(0, 1) if net.batch_first else x
    return rnnscope.check(module, x, batch_first=net.batch_first, make=partial(net.make, INPUTS, UNITS))


@pytest.mark.parametrize("net", RIGHT, ids=lambda net: net.name)
def test_a_right_network_keeps_every_relation(net: Checked) -> None:
    found = found_of(net)
    assert {each.relation: each.message for each in found.relations if each.outcome in ("broken", "undecided")} == {}


@pytest.mark.parametrize("net", RIGHT, ids=lambda net: net.name)
def test_what_applies_is_asked(net: Checked) -> None:
    left_out = {each.relation: each.message for each in found_of(net).told("not_applicable")}
    assert {name: left_out[name] for name in net.applies if name in left_out} == {}


@pytest.mark.parametrize("net", FAULTY, ids=lambda net: net.name)
def test_a_fault_is_named_by_the_one_relation_that_it_breaks(net: Checked) -> None:
    assert [each.relation for each in found_of(net).told("broken")] == [net.breaks]


@pytest.mark.parametrize("net", FAULTY, ids=lambda net: net.name)
def test_what_is_undecided_beside_a_fault_rests_on_it(net: Checked) -> None:
    undecided = found_of(net).told("undecided")
    assert [each.message for each in undecided if not each.message.startswith("it rests on ")] == []


CONFIGURATIONS = (
    dict(num_layers=1),
    dict(num_layers=2, bias=False),
    dict(num_layers=1, bidirectional=True),
    dict(num_layers=2, bidirectional=True, batch_first=True),
    dict(num_layers=3, batch_first=True),
)


@pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)
@pytest.mark.parametrize("kind", [nn.RNN, partial(nn.RNN, nonlinearity="relu"), nn.LSTM, nn.GRU], ids=str)
def test_torchs_own_modules_keep_all_that_applies(kind: Callable[..., nn.Module], options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    make = partial(kind, 5, 7, **options)
    shape = (3, 9) if options.get("batch_first") else (9, 3)
    found = rnnscope.check(make(), torch.randn(*shape, 5), make=make)
    assert found.verdict == "holds"


KINDS = (nn.RNN, partial(nn.RNN, nonlinearity="relu"), nn.LSTM, partial(nn.LSTM, proj_size=3), nn.GRU)
EVERY: list[dict[str, Any]] = [
    dict(zip(("num_layers", "bias", "batch_first", "bidirectional"), values, strict=True))
    for values in product((1, 2, 3), (True, False), (True, False), (True, False))
]


@pytest.mark.slow
@pytest.mark.parametrize("options", EVERY, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_torchs_modules_keep_all_in_every_configuration(
    kind: Callable[..., nn.Module], options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    make = partial(kind, 5, 7, **options)
    shape = (3, 9) if options["batch_first"] else (9, 3)
    found = rnnscope.check(make(), torch.randn(*shape, 5), make=make)
    assert found.verdict == "holds"
    assert {each.relation for each in found.told("holds")} >= {"batch_first", "unbatched", "packed", "gradient"}


def test_torchs_lstm_with_a_projection_keeps_all_that_applies() -> None:
    torch.manual_seed(0)
    make = partial(nn.LSTM, 5, 7, proj_size=3, num_layers=2)
    assert rnnscope.check(make(), torch.randn(9, 3, 5), make=make).verdict == "holds"


@pytest.mark.parametrize(("steps", "items"), [(1, 4), (2, 1), (1, 1), (70, 2)])
def test_few_steps_or_items_are_no_fault(steps: int, items: int) -> None:
    torch.manual_seed(0)
    found = rnnscope.check(nn.GRU(5, 7), torch.randn(steps, items, 5), make=partial(nn.GRU, 5, 7))
    assert found.verdict == "holds"


def test_a_module_is_left_as_it_is() -> None:
    torch.manual_seed(0)
    module = nn.LSTM(5, 7, dropout=0.5, num_layers=2)
    before = {name: each.clone() for name, each in module.state_dict().items()}
    rnnscope.check(module, torch.randn(6, 3, 5), only=("repeatable", "precision", "gradient"))
    assert module.training
    assert all(torch.equal(each, before[name]) for name, each in module.state_dict().items())
    assert all(each.grad is None for each in module.parameters())


def test_random_numbers_of_the_caller_go_on_as_they_would() -> None:
    module = nn.GRU(3, 4)
    torch.manual_seed(1)
    expected = torch.randn(3)
    torch.manual_seed(1)
    rnnscope.check(module, only=("repeatable",))
    assert torch.equal(torch.randn(3), expected)


class Grown(nn.Module):
    """A linear recurrence whose rounding grows a thousand times with each step."""

    def __init__(self) -> None:
        super().__init__()
        self.input = nn.Linear(3, 4)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = x.new_zeros(x.shape[1], 4) if state is None else state
        ys = []
        for step in self.input(x):
            h = torch.sin(1000 * h + step)
            ys.append(h)
        return torch.stack(ys), h


def test_where_rounding_moves_later_steps_too_far_the_first_ones_are_asked() -> None:
    torch.manual_seed(0)
    found = rnnscope.check(Grown(), torch.randn(30, 3, 3), only=("causality", "item_isolation"))
    assert found.steps in range(1, 8)
    assert [each.outcome for each in found.relations] == ["holds", "holds"]


class Blown(nn.Module):
    """Gives NaN."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - 1e9).sqrt()


def test_nan_is_never_called_right() -> None:
    found = rnnscope.check(Blown(), torch.randn(4, 3, 2), only=("causality", "repeatable"))
    assert (found.verdict, found.exit_code) == ("undecided", 2)
    assert {each.message for each in found.relations} == {"y is NaN or infinite at the first step"}


class Heads(NamedTuple):
    output: Tensor
    carry: dict[str, Any]


class Named(nn.Module):
    """Arguments and results in words of its own: a step count, and the state in a dict in a namedtuple."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)

    def forward(self, carry: dict[str, Any] | None, inputs: Tensor) -> Heads:
        h = inputs.new_zeros(inputs.shape[1], 4) if carry is None else carry["layers"][0]
        count = 0 if carry is None else carry["steps"]
        ys = []
        for each in inputs:
            h = self.cell(each, h)
            count += 1
            ys.append(h * (1 + 0.01 * (count % 7)))
        return Heads(torch.stack(ys), {"layers": [h], "steps": count})


def test_a_state_of_any_form_is_carried_on() -> None:
    torch.manual_seed(0)
    found = rnnscope.check(Named(), torch.randn(9, 3, 3))
    assert {each.relation for each in found.told("holds")} >= {"chunked", "stepwise", "causality", "zero_state"}
    assert found.exit_code == 0


class Unknown(nn.Module):
    """Neither argument has a name that says what it is."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)

    def forward(self, p: Tensor, q: Tensor, r: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = p.new_zeros(p.shape[1], 4) if r is None else r
        ys = []
        for t, each in enumerate(p):
            h = torch.where((t < q.to(p.device))[:, None], self.cell(each, h), h)
            ys.append(h)
        return torch.stack(ys), h


def test_the_user_says_which_argument_is_what() -> None:
    torch.manual_seed(0)
    names = ("p=x", "q=lengths", "r=state")
    found = rnnscope.check(Unknown(), torch.randn(9, 3, 3), names=names, only=("padding", "chunked"))
    assert [each.outcome for each in found.relations] == ["holds", "holds"]


def test_an_argument_that_is_not_there_is_refused() -> None:
    with pytest.raises(RnnscopeError, match=r"--name z=lengths: GRU\.forward takes no z") as caught:
        rnnscope.check(nn.GRU(3, 4), torch.randn(5, 2, 3), names=("z=lengths",))
    assert caught.value.hint == "it takes input, hx"


def test_a_state_that_is_given_is_started_from() -> None:
    torch.manual_seed(0)
    state = (torch.randn(1, 3, 7), torch.randn(1, 3, 7))
    found = rnnscope.check(nn.LSTM(5, 7), torch.randn(6, 3, 5), state, only=("chunked", "item_isolation"))
    assert found.verdict == "holds"


def test_words_are_drawn_for_an_embedding() -> None:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.rnn = nn.Embedding(20, 5), nn.GRU(5, 7)

        def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
            y, h = self.rnn(self.words(x), hx)
            return y, h

    torch.manual_seed(0)
    found = rnnscope.check(Tagger(), torch.randint(20, (8, 3)), make=Tagger)
    assert {"chunked", "causality", "gradient"} <= {each.relation for each in found.told("holds")}


def test_a_sound_module_passes_in_a_test_suite() -> None:
    assert rnnscope.assert_sound(nn.GRU(4, 8), torch.randn(5, 3, 4)).verdict == "holds"


def test_a_broken_one_fails_with_its_table() -> None:
    faulty = next(net for net in FAULTY if net.name == "looks-one-step-ahead")
    with pytest.raises(AssertionError, match="causality: y at step 0 changes when x at step 1 does"):
        rnnscope.assert_sound(faulty.make(4, 8), torch.randn(6, 3, 4), only=("causality",))


def test_x_must_be_a_batch() -> None:
    with pytest.raises(RnnscopeError, match=r"x is of shape \(5, 4\), but it must be a tensor \(L, N, ...\)"):
        rnnscope.check(nn.GRU(4, 8), torch.randn(5, 4))


def test_a_module_that_needs_a_state_and_says_nothing_of_it_is_refused() -> None:
    class Needs(nn.Module):
        def forward(self, x: Tensor, carried: Any) -> tuple[Tensor, Any]:
            return x * carried["gain"], carried

    with pytest.raises(RnnscopeError, match="its forward always takes a state") as caught:
        rnnscope.check(Needs(), torch.randn(4, 2, 3))
    assert "rnnscope.check(module, x, state)" in str(caught.value.hint)


class StateOfItem0(nn.Module):
    """Every item goes on from the state of item 0; if it forgets, from half of it where x has more than one step."""

    def __init__(self, forgets: bool) -> None:
        super().__init__()
        self.rnn, self.forgets = nn.GRU(INPUTS, UNITS), forgets

    def forward(self, x: Tensor, hx: Tensor | None = None) -> Any:
        if hx is not None:
            hx = hx[:, :1].expand_as(hx).contiguous() / (2 if self.forgets and len(x) > 1 else 1)
        return self.rnn(x, hx)


@pytest.mark.parametrize("forgets", [False, True])
def test_chunks_that_part_because_items_are_mixed_are_the_same_fault(forgets: bool) -> None:
    torch.manual_seed(0)
    found = rnnscope.check(StateOfItem0(forgets), torch.randn(STEPS, ITEMS, INPUTS))
    broken = {each.relation for each in found.told("broken")}
    assert broken == {"item_isolation", *(["chunked"] if forgets else [])}
    assert forgets or found["chunked"].message == "it rests on item_isolation, which is broken"


def test_what_is_as_near_as_rounding_the_input_allows_is_exact_enough() -> None:
    torch.manual_seed(3)
    layer = nn.Sequential(
        nn.Linear(64, 256, bias=False), nn.Linear(256, 256, bias=False), nn.Linear(256, 64)
    ).bfloat16()
    rnn = Residual(layer, nn.GRU(64, 64).bfloat16())
    assert rnnscope.check(rnn, 30 * torch.randn(12, 3, 64), only=("precision",))["precision"].outcome == "holds"


class Residual(nn.Module):
    def __init__(self, layer: nn.Module, rnn: nn.Module) -> None:
        super().__init__()
        self.layer, self.rnn = layer, rnn

    def forward(self, x: Tensor, hx: Tensor | None = None) -> Any:
        y, h = self.rnn(x, hx)
        return self.layer(y) - self.layer(x), h


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(5, 6, 4), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.rnn(x)[0])
        return y


def test_an_x_that_hardly_moves_the_first_step_is_not_rounded_inside() -> None:
    torch.manual_seed(2)
    found = rnnscope.check(Deep(), torch.randn(16, 2, 5), only=("gradient",))
    assert (found.inside, found.verdict) == (None, "holds")
