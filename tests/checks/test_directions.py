"""Who reads backward: what a module says of itself counts, and what a part of it says proves nothing of the time."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rnnscope

STEPS, ITEMS, BANDS, WIDE = 9, 3, 3, 4


class OverBands(nn.Module):
    """A GRU over time behind one over bands in both directions; x: (L, N, BANDS·WIDE)."""

    def __init__(self, over_all_frames: bool = False) -> None:
        super().__init__()
        self.over_all_frames = over_all_frames
        self.bands = nn.GRU(WIDE, WIDE, batch_first=True, bidirectional=True)
        self.time = nn.GRU(2 * BANDS * WIDE, 5)

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        x = x - x.mean((0, 2) if self.over_all_frames else 2, keepdim=True)
        rows = x.reshape(-1, BANDS, WIDE)
        return self.time(self.bands(rows)[0].reshape(*x.shape[:2], -1), hx)


class FrameByFrame(OverBands):
    def forward(self, x: Tensor, hx: Any = None) -> Any:
        rows = [self.bands(each.reshape(-1, BANDS, WIDE))[0].flatten(1) for each in x]
        return self.time(torch.stack(rows), hx)


class Halves(nn.Module):
    """A part that is written by hand, and says neither what it walks over nor where N stands."""

    def __init__(self) -> None:
        super().__init__()
        self.bidirectional = True
        self.there, self.back = nn.GRUCell(WIDE, WIDE), nn.GRUCell(WIDE, WIDE)

    def forward(self, x: Tensor) -> Tensor:
        h = b = x[0] * 0
        for one, other in zip(x, x.flip(0), strict=True):
            h, b = self.there(one, h), self.back(other, b)
        return torch.cat((h, b), -1)


class ByHand(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.halves, self.time = Halves(), nn.GRU(2 * WIDE, 5)

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        rows = x.reshape(-1, BANDS, WIDE).transpose(0, 1)
        return self.time(self.halves(rows).view(*x.shape[:2], -1), hx)


class OverTime(nn.Module):
    def __init__(self, **says: bool) -> None:
        super().__init__()
        vars(self).update(says)
        self.encoder = nn.GRU(BANDS * WIDE, WIDE, bidirectional=True)
        self.time = nn.GRU(2 * WIDE, 5)

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        return self.time(self.encoder(x)[0], hx)


class InPieces(OverTime):
    """Both directions over three steps at a time: the rows do not follow L, and they hold steps."""

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        pieces = [self.encoder(each)[0] for each in torch.split(torch.cat((x, x[: -len(x) % 3])), 3)]
        return self.time(torch.cat(pieces)[: len(x)], hx)


def found_of(module: nn.Module, *only: str) -> rnnscope.Check:
    torch.manual_seed(0)
    return rnnscope.check(module, torch.randn(STEPS, ITEMS, BANDS * WIDE), only=only)


@pytest.mark.parametrize("kind", [OverBands, FrameByFrame, ByHand])
def test_a_part_may_walk_over_bands(kind: type[nn.Module]) -> None:
    found = found_of(kind(), "causality", "last_state", "chunked", "stepwise", "gradient_reach")
    assert {each.outcome for each in found.relations} == {"holds"}


def test_a_norm_over_all_frames_looks_ahead_whatever_a_part_over_bands_says() -> None:
    found = rnnscope.check(OverBands(over_all_frames=True), torch.randn(STEPS, ITEMS, BANDS * WIDE), skip=("gradient",))
    assert [each.relation for each in found.told("broken")] == ["causality"]


@pytest.mark.parametrize("kind", [OverTime, InPieces])
def test_a_part_that_walks_over_time_may_look_ahead(kind: type[nn.Module]) -> None:
    found = found_of(kind(), "chunked", "stepwise")
    assert {each.outcome for each in found.relations} == {"not_applicable"}
    every = rnnscope.check(kind(), torch.randn(STEPS, ITEMS, BANDS * WIDE), skip=("gradient", "copies"))
    assert every["causality"].outcome == "not_applicable"
    assert every["causality"].message.endswith("where it must not, --only causality asks for it")


def test_who_asks_for_causality_by_its_name_is_told() -> None:
    assert found_of(OverTime(), "causality")["causality"].outcome == "broken"


@pytest.mark.parametrize("says", [{"causal": True}, {"is_causal": True}, {"bidirectional": False}], ids=str)
def test_what_a_module_says_of_itself_goes_over_what_its_parts_say(says: dict[str, bool]) -> None:
    told = found_of(OverTime(**says), "causality", "repeatable")["causality"]
    assert (told.outcome, told.message.partition(", though it says ")[2] != "") == ("broken", True)


def test_a_module_that_says_itself_that_it_is_bidirectional_is_not_asked() -> None:
    assert found_of(OverTime(bidirectional=True), "causality")["causality"].outcome == "not_applicable"
