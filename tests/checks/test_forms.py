"""Modules as people write them: what their arguments, states and results are is found out, or it is said why not."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rnnscope
from rnnscope import RnnscopeError


class TwoStepsBack(nn.Module):
    """Keeps h of the last step, and of the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(3, 4), nn.Linear(8, 4)

    def forward(self, x: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        h, before = hx or (x.new_zeros(x.shape[1], 4), x.new_zeros(x.shape[1], 4))
        y = []
        for each in x:
            h, before = torch.tanh(self.x(each) + self.h(torch.cat((h, before), -1))), h
            y.append(h)
        return torch.stack(y), (h, before)


def test_a_state_may_hold_what_was_one_step_ago() -> None:
    torch.manual_seed(0)
    found = rnnscope.check(TwoStepsBack(), torch.randn(9, 3, 3), only=("last_state", "chunked"))
    assert [each.outcome for each in found.relations] == ["holds", "holds"]


class Shown(nn.Module):
    """A GRU whose y is some function of its h, and whose state is h itself."""

    def __init__(self, show: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.cell, self.show = nn.GRUCell(3, 4), show

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = x.new_zeros(x.shape[1], 4) if h is None else h
        y = []
        for each in x:
            before, h = h, self.cell(each, h)
            y.append(self.show(h, before))
        return torch.stack(y), h


@pytest.mark.parametrize(
    ("show", "outcome", "message"),
    [
        (lambda h, _: h, "holds", ""),
        (lambda h, before: h + 0.1 * (h - before), "not_applicable", "whether the two should be the same is not known"),
        (lambda h, _: (5 * h.flip(-1)).cos(), "holds", "no row of the state is y at the last step"),
        (lambda h, _: torch.ones_like(h), "holds", ""),
    ],
    ids=["h", "near to h", "far from h", "always the same"],
)
def test_a_state_that_is_not_y_is_told_so(show: Any, outcome: str, message: str) -> None:
    torch.manual_seed(0)
    found = rnnscope.check(Shown(show), torch.randn(9, 3, 3), only=("last_state",))["last_state"]
    assert found.outcome == outcome
    assert message in found.message
    assert bool(message) == bool(found.message)


class Unnamed(nn.Module):
    """Takes its state by a name that says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)

    def forward(self, x: Tensor, scale: float = 1.0, buf: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = x.new_zeros(x.shape[1], 4) if buf is None else buf
        y = []
        for each in x:
            h = self.cell(scale * each, h)
            y.append(h)
        return torch.stack(y), h


def test_the_argument_of_a_state_is_found_by_what_it_moves() -> None:
    torch.manual_seed(0)
    found = rnnscope.check(Unnamed(), torch.randn(9, 3, 3), only=("chunked", "zero_state"))
    assert found.adaptations == ("buf takes the state that comes out",)
    assert [each.outcome for each in found.relations] == ["holds", "holds"]


class StartsFromOnes(Unnamed):
    def init_hidden(self, batch_size: int) -> None:
        """Gives nothing."""

    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(x, 1.0, x.new_ones(x.shape[1], 4) if hx is None else hx)


def test_a_method_that_gives_nothing_says_nothing_of_the_start() -> None:
    torch.manual_seed(0)
    found = rnnscope.check(StartsFromOnes(), torch.randn(9, 3, 3), only=("zero_state",))
    assert found["zero_state"].outcome == "broken"


class ForThree(nn.Module):
    """Is built for three items, and sees x at step 8 at step 7."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(3, 4))
        self.cell = nn.GRUCell(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        h, y = self.start, []
        for t in range(len(x)):
            h = self.cell(x[t + 1] if t == 7 else x[t], h)
            y.append(h)
        return torch.stack(y)


def test_what_was_not_asked_is_said_where_a_module_takes_one_batch_size() -> None:
    torch.manual_seed(0)
    told = rnnscope.check(ForThree(), torch.randn(60, 3, 3), only=("causality",))["causality"]
    assert told.outcome == "broken" or "of 59 steps on" in told.message


class Rotating(nn.Module):
    """y and the state are complex."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Parameter(torch.polar(torch.full((4,), 0.9), torch.linspace(0, 3, 4)))
        self.x = nn.Parameter(torch.randn(3, 4, dtype=torch.complex64))

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        u = x.to(self.x.dtype) @ self.x
        h = torch.zeros_like(u[0]) if state is None else state
        y = []
        for each in u:
            h = self.turn * h + each
            y.append(h)
        return torch.stack(y), h


def test_complex_numbers_are_compared_as_such() -> None:
    torch.manual_seed(0)
    found = rnnscope.check(Rotating(), torch.randn(9, 3, 3), make=Rotating)
    assert (found.verdict, found.inside) == ("holds", None)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_module_in_another_dtype_is_asked(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    found = rnnscope.check(nn.GRU(3, 4).to(dtype), torch.randn(9, 3, 3), skip=("gradient",))
    assert found.verdict == "holds"


class NeedsLengths(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, h = self.rnn(packed)
        return nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])[0], h


def test_lengths_that_are_always_needed_are_those_of_whole_items() -> None:
    torch.manual_seed(0)
    found = rnnscope.check(NeedsLengths(), torch.randn(4, 9, 3), make=NeedsLengths)
    assert {each.relation: each.message for each in found.relations if each.outcome in ("broken", "undecided")} == {}
    assert found["padding"].outcome == "holds"


class NeedsMask(NeedsLengths):
    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x, mask.sum(1).clamp(min=1).long().cpu())


def test_a_mask_that_is_always_needed_is_that_of_whole_items() -> None:
    torch.manual_seed(0)
    found = rnnscope.check(NeedsMask(), torch.randn(4, 9, 3), only=("padding", "layout", "inputs_kept"))
    assert [each.outcome for each in found.relations] == ["holds"] * 3


class Ignores(NeedsLengths):
    def forward(self, x: Tensor, lengths: Any = None) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(x)
        return y, h


def test_lengths_that_are_ignored_show_in_a_batch_of_one() -> None:
    torch.manual_seed(0)
    assert rnnscope.check(Ignores(), torch.randn(1, 9, 3), only=("padding",))["padding"].outcome == "broken"


def test_nothing_that_applies_is_not_called_right() -> None:
    found = rnnscope.check(nn.GRU(3, 4), torch.randn(9, 3, 3), only=("padding",))
    assert (found.verdict, found.exit_code) == ("undecided", 2)


class Words(nn.Module):
    """Looks one word ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.rnn = nn.Embedding(9, 3), nn.GRU(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(self.words(x.roll(-1, 0)))[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("x", [torch.zeros(7, 3, dtype=torch.long), torch.ones(7, 3, dtype=torch.long)], ids=["0", "1"])
def test_words_that_are_all_the_same_are_changed_too(x: Tensor) -> None:
    assert rnnscope.check(Words(), x, only=("causality",))["causality"].outcome == "broken"


def test_the_sizes_of_a_module_that_is_given_are_its_own() -> None:
    found = rnnscope.check(
        nn.LSTM(3, 4, 2, bidirectional=True, batch_first=True), torch.randn(2, 6, 3), only=("layout",)
    )
    spec = found.spec
    assert (spec.kind, spec.num_layers, spec.bidirectional, spec.seq_len, spec.batch_size) == ("lstm", 2, True, 6, 2)


class Squeezes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(x, h)
        return self.head(y).squeeze(), h


def test_a_squeeze_of_every_axis_shows_in_a_batch_of_one() -> None:
    torch.manual_seed(0)
    found = rnnscope.check(Squeezes(), torch.randn(9, 3, 3))
    assert "batch_of_one" in [each.relation for each in found.told("broken")]


class FillsGaps(nn.GRU):
    def forward(self, x: Tensor, hx: Any = None) -> Any:  # type: ignore[override]
        x[x < 0] = 0
        return super().forward(x, hx)


@pytest.mark.parametrize("steps", [4, 9])
def test_a_write_that_changes_nothing_the_second_time_is_seen_and_never_reaches_the_callers_x(steps: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(steps, 3, 3)
    before = x.clone()
    found = rnnscope.check(FillsGaps(3, 4), x)
    assert torch.equal(x, before)
    assert [each.relation for each in found.told("broken")] == ["inputs_kept"]


class AddsToItsList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4)

    def forward(self, x: Tensor, state: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        y, h = self.rnn(x, state[0] if state else None)
        if state:
            state.append(h)
        return y, [h]


def test_what_is_added_to_a_list_that_is_given_is_seen() -> None:
    torch.manual_seed(0)
    found = rnnscope.check(AddsToItsList(), torch.randn(9, 3, 3), only=("inputs_kept",))
    assert found["inputs_kept"].message == "the call changed state: state[1] is in it now"


class Heads(nn.Module):
    """N and heads are one axis of the state."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.cell = nn.Linear(3, 8), nn.GRUCell(4, 4)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        steps, items, _ = x.shape
        h = x.new_zeros(items * 2, 4) if state is None else state
        y = []
        for each in self.x(x).reshape(steps, items * 2, 4):
            h = self.cell(each, h)
            y.append(h)
        return torch.stack(y).reshape(steps, items, 8), h


def test_a_state_in_which_items_and_heads_are_one_axis_is_no_leak() -> None:
    torch.manual_seed(0)
    found = rnnscope.check(Heads(), torch.randn(9, 3, 3))
    assert {each.relation: each.message for each in found.relations if each.outcome in ("broken", "undecided")} == {}
    assert found["chunked"].outcome == "holds"


class LastStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0][-1]  # type: ignore[no-any-return]


def test_what_survives_a_packed_sequence_is_not_taken_for_one_that_takes_it() -> None:
    torch.manual_seed(0)
    found = rnnscope.check(LastStep(), torch.randn(9, 3, 3), only=("packed", "batch_of_one"))
    assert [each.outcome for each in found.relations] == ["holds", "not_applicable"]


class KeyMask(nn.Module):
    """Takes a mask of shape (N, L) beside x: (L, N, H_in), true in the padding."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRUCell(3, 4)

    def forward(self, x: Tensor, key_padding_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h, y = x.new_zeros(x.shape[1], 4), []
        for t, each in enumerate(x):
            new = self.rnn(each, h)
            h = new if key_padding_mask is None else torch.where(key_padding_mask[:, t, None], h, new)
            y.append(h)
        return torch.stack(y), h


@pytest.mark.parametrize("steps", [3, 5])
def test_a_mask_may_start_with_items_where_x_starts_with_steps(steps: int) -> None:
    torch.manual_seed(0)
    assert rnnscope.check(KeyMask(), torch.randn(steps, 5, 3), only=("padding",))["padding"].outcome == "holds"


class ForTheFirstLength(nn.Module):
    scale: Tensor | None = None

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        if self.scale is None:
            self.scale = torch.linspace(1, 2, len(x)).to(x)[:, None, None]
        return self.rnn(x * self.scale)[0]  # type: ignore[no-any-return]


class ScaledByTheFirst(ForTheFirstLength):
    def forward(self, x: Tensor) -> Tensor:
        if self.scale is None:
            self.scale = x.abs().mean().detach()
        return self.rnn(x / self.scale)[0]  # type: ignore[no-any-return]


class Decays(ForTheFirstLength):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.rnn.all_weights[0][1].mul_(0.9)
        return self.rnn(x)[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [ScaledByTheFirst, Decays])
def test_what_the_first_call_leaves_behind_is_seen(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    assert rnnscope.check(kind(), torch.randn(9, 3, 3), only=("stateless",))["stateless"].outcome == "broken"


class Gives(nn.Module):
    def __init__(self, what: Any) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: Tensor) -> Any:
        return self.what


@pytest.mark.parametrize("what", [None, "y", (1, 2), object()], ids=["none", "text", "numbers", "object"])
def test_a_result_in_which_nothing_is_y_or_a_state_is_refused(what: Any) -> None:
    with pytest.raises(RnnscopeError, match="in which nothing is y or a state"):
        rnnscope.check(Gives(what), torch.randn(4, 2, 3))


def test_x_with_nan_is_refused() -> None:
    with pytest.raises(RnnscopeError, match="x is sparse, or has NaN or infinity in it"):
        rnnscope.check(nn.GRU(3, 4), torch.full((4, 2, 3), torch.nan))


def test_a_module_without_numbers_is_refused() -> None:
    with pytest.raises(RnnscopeError, match="LazyLinear has parameters without numbers"):
        rnnscope.check(nn.LazyLinear(3), torch.randn(4, 2, 3))


@pytest.mark.parametrize("only", ["causality", ["causality"], ("causality",)], ids=str)
def test_relations_may_be_named_by_a_word_or_a_list(only: Any) -> None:
    found = rnnscope.check(nn.GRU(3, 4), torch.randn(4, 2, 3), only=only)
    assert [each.relation for each in found.relations] == ["causality"]


class DropsALateState(nn.Module):
    """Goes on from the state that it is given, but for one after step 20."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4)

    def forward(self, x: Tensor, state: tuple[Tensor, int] | None = None) -> tuple[Tensor, tuple[Tensor, int]]:
        hx, count = state or (None, 0)
        y, h = self.rnn(x, None if count > 20 else hx)
        return y, (h, count + len(x))


def test_why_chunks_part_is_told_of_the_chunk_in_which_they_do() -> None:
    torch.manual_seed(0)
    told = rnnscope.check(DropsALateState(), torch.randn(32, 3, 3), only=("chunked",))["chunked"]
    assert told.message.endswith("the state that is handed on is not used")


class Refuses(nn.GRU):
    def load_state_dict(self, *given: Any, **named: Any) -> Any:
        raise ValueError("not this one")


def test_what_a_class_raises_in_one_relation_leaves_the_others() -> None:
    found = rnnscope.check(
        Refuses(3, 4), torch.randn(5, 2, 3), only=("batch_first", "causality"), make=partial(Refuses, 3, 4)
    )
    assert found["causality"].outcome == "holds"


def test_a_relation_that_was_not_asked_is_an_error_that_names_those_that_were() -> None:
    found = rnnscope.check(nn.GRU(3, 4), torch.randn(5, 2, 3), only=("causality",))
    with pytest.raises(KeyError, match="'chunked' was not asked; there are causality"):
        found["chunked"]


@pytest.mark.parametrize("given", [None, 3, [nn.GRU(3, 4)]])
def test_what_is_neither_a_module_nor_a_name_is_refused(given: Any) -> None:
    with pytest.raises(RnnscopeError, match="check takes a module or the name of a class"):
        rnnscope.check(given)


class GoesOnFromY(nn.Module):
    """Gives all h and no state; without one it leaves a bias out of the first step, if it is faulty."""

    def __init__(self, faulty: bool = False, layer: bool = False) -> None:
        super().__init__()
        self.faulty, self.layer = faulty, layer
        self.x, self.h = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        y = []
        h = hidden[0] if self.layer and hidden is not None else hidden
        for each in x:
            h = x.new_zeros(x.shape[1], 4) if h is None and not self.faulty else h
            h = torch.tanh(self.x(each) + (0 if h is None else self.h(h)))
            y.append(h)
        return torch.stack(y)


@pytest.mark.parametrize("layer", [False, True])
@pytest.mark.parametrize("faulty", [False, True])
def test_y_is_the_state_where_a_module_goes_on_from_it(faulty: bool, layer: bool) -> None:
    torch.manual_seed(0)
    found = rnnscope.check(GoesOnFromY(faulty, layer), torch.randn(9, 3, 3))
    assert found.adaptations == ("y at the last step is the state from which it goes on, as hidden",)
    assert [found[each].outcome for each in ("chunked", "stepwise")] == ["holds", "holds"]
    assert [each.relation for each in found.told("broken")] == (["zero_state"] if faulty else [])


class Tagger(nn.Module):
    """A head on two layers, that gives y alone."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.start, self.rnn, self.head = start, nn.LSTM(3, 4, 2), nn.Linear(4, 5)

    def forward(self, x: Tensor, hidden: Any = None) -> Tensor:
        if hidden is None:
            hidden = (x.new_full((2, x.shape[1], 4), self.start), x.new_zeros(2, x.shape[1], 4))
        y: Tensor = self.head(self.rnn(x, hidden)[0])
        return y


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_a_state_that_only_goes_in_has_the_form_that_a_part_takes(start: float) -> None:
    torch.manual_seed(0)
    found = rnnscope.check(Tagger(start), torch.randn(9, 3, 3))
    assert found.adaptations == ("hidden takes a state of (2, 3, 4) and (2, 3, 4)",)
    assert [each.relation for each in found.told("broken")] == (["zero_state"] if start else [])
    assert found["chunked"].message == "no state comes out of it"


class NeedsHidden(Tagger):
    def forward(self, x: Tensor, hidden: Any) -> Tensor:  # type: ignore[override]
        return super().forward(x, hidden)


def test_a_module_that_needs_a_state_may_give_none() -> None:
    assert rnnscope.check(NeedsHidden(), torch.randn(9, 3, 3)).verdict == "holds"


class Conditioned(nn.Module):
    """What it takes has the name and the form of a state, and is added to x."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.to_x = nn.GRU(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        y: Tensor = self.rnn(x if hidden is None else x + self.to_x(hidden))[0]
        return y


def test_what_only_has_the_name_of_a_state_is_none() -> None:
    told = rnnscope.check(Conditioned(), torch.randn(9, 3, 3))["zero_state"]
    assert told.outcome == "not_applicable"
    assert told.message.startswith("no state comes out of it, so that the form of hidden is not known")


class WithContext(Conditioned):
    """Gives a state, takes none, and an argument into which one fits."""

    def forward(self, x: Tensor, context: Any = None, reverse: bool = False) -> Any:
        x = x.flip(0) if reverse else x
        return self.rnn(x if context is None else x + self.to_x(context[0]))


def test_what_moves_what_comes_out_need_not_be_the_state() -> None:
    torch.manual_seed(0)
    found = rnnscope.check(WithContext(), torch.randn(9, 3, 3), only=("zero_state", "chunked"))
    assert {each.message[:38] for each in found.relations} == {"no argument of its forward takes the s"}


class ReadsTheFirstState(Tagger):
    """Every item starts from the state of item 0."""

    def forward(self, x: Tensor, start: Any = None) -> Tensor:
        return super().forward(x, start and tuple(each[:, :1].expand_as(each).contiguous() for each in start))


@pytest.mark.parametrize("items", [2, 3, 4])
def test_a_state_that_is_given_goes_in_where_none_comes_out(items: int) -> None:
    torch.manual_seed(0)
    state = tuple(torch.randn(2, items, 4) for _ in range(2))  # N may be the number of layers, or of units
    for kind, broken in ((Tagger, []), (ReadsTheFirstState, ["item_isolation"])):
        found = rnnscope.check(kind(), torch.randn(9, items, 3), state)
        assert [each.relation for each in found.told("broken")] == broken


class ForgetsInPieces(nn.Module):
    """Goes on from a state where a single step comes in, and starts anew where more do."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4)

    def forward(self, x: Tensor, p: Tensor | None = None) -> Any:
        return self.rnn(x, p if x.shape[0] == 1 else None)


class IgnoresItsCache(ForgetsInPieces):
    def forward(self, x: Tensor, cache: Tensor | None = None) -> Any:
        return super().forward(x, None)


@pytest.mark.parametrize("kind", [ForgetsInPieces, IgnoresItsCache])
def test_a_state_that_pieces_forget_is_one(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    found = rnnscope.check(kind(), torch.randn(9, 3, 3))
    assert [each.relation for each in found.told("broken")] == ["chunked"]


@dataclass
class Counted:
    """A state with the number of steps that led to it."""

    h: Tensor
    steps: int


class CountsSteps(nn.Module):
    """A position of sines is added to x, counted on from the state; it is right."""

    def __init__(self, form: Callable[[Tensor, int], Any]) -> None:
        super().__init__()
        self.cell, self.form = nn.GRUCell(3, 4), form

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        h, steps = x.new_zeros(x.shape[1], 4), 0
        if state is not None:
            h, steps = (state.h, state.steps) if isinstance(state, Counted) else state
        y = []
        for each in x:
            h, steps = self.cell(each + math.sin(steps), h), steps + 1
            y.append(h)
        return torch.stack(y), self.form(h, steps)


@pytest.mark.parametrize("form", [Counted, lambda h, steps: (h, steps), lambda h, steps: deque([h, steps])])
def test_a_counter_in_a_state_of_any_form_starts_from_0(form: Any) -> None:
    torch.manual_seed(0)
    found = rnnscope.check(CountsSteps(form), torch.randn(9, 3, 3), only=("zero_state", "chunked"))
    assert [each.outcome for each in found.relations] == ["holds", "holds"]


class CachedAttention(nn.Module):
    """Causal attention of one head, whose state is the keys and values of all steps; it is right.

    batch_first: x: (N, L, 4) and the cache (N, 1, L, 4), which nothing says; otherwise x: (L, N, 4), (L, N, 1, 4).
    """

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.axis, self.qkv = int(batch_first), nn.Linear(4, 12)

    def forward(self, x: Tensor, past_kv: Any = None) -> tuple[Tensor, Any]:
        x = x if self.axis else x.transpose(0, 1)
        q, k, v = (each.unsqueeze(1) for each in self.qkv(x).chunk(3, -1))
        if past_kv is not None:
            k, v = (torch.cat((self.in_heads(past), each), 2) for past, each in zip(past_kv, (k, v), strict=True))
        seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen).squeeze(1)
        return (y if self.axis else y.transpose(0, 1)), (self.kept(k), self.kept(v))

    def kept(self, each: Tensor) -> Tensor:
        return each if self.axis else each.permute(2, 0, 1, 3)

    def in_heads(self, each: Tensor) -> Tensor:
        return each if self.axis else each.permute(1, 2, 0, 3)


@pytest.mark.parametrize("batch_first", [True, False])
def test_the_layout_of_what_keeps_a_cache_is_that_in_which_it_walks_over_steps(batch_first: bool) -> None:
    torch.manual_seed(0)
    only = ("item_isolation", "causality", "chunked")
    found = rnnscope.check(CachedAttention(batch_first), torch.randn(6, 6, 4), only=only)
    assert found.batch_first is batch_first
    assert [each.outcome for each in found.relations] == ["holds", "holds", "holds"]
