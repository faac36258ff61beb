"""Networks in forms of public code: how each is found out, and that nothing is adapted away that is a fault."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnnscope import Comparison, RnnscopeError, Spec, compare

FILE = __file__

States = tuple[list[Tensor], list[Tensor]]


class HandLstm(nn.Module):
    """Layers in a loop over the steps; others change how the state goes in, or what comes out."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__()
        widths = [input_size, *[hidden_size] * (num_layers - 1)]
        self.ih = nn.ModuleList([nn.Linear(width, 4 * hidden_size) for width in widths])
        self.hh = nn.ModuleList([nn.Linear(hidden_size, 4 * hidden_size) for _ in widths])

    def start(self, hx: Any) -> States:
        return list(hx[0].unbind(0)), list(hx[1].unbind(0))

    def out(self, y: Tensor, h: list[Tensor], c: list[Tensor]) -> Any:
        return y, (torch.stack(h), torch.stack(c))

    def forward(self, x: Tensor, hx: Any) -> Any:
        h, c = self.start(hx)
        steps = []
        for each in x:
            for layer, (ih, hh) in enumerate(zip(self.ih, self.hh, strict=True)):
                i, f, g, o = (ih(each) + hh(h[layer])).chunk(4, -1)
                c[layer] = f.sigmoid() * c[layer] + i.sigmoid() * g.tanh()
                each = h[layer] = o.sigmoid() * c[layer].tanh()
            steps.append(each)
        return self.out(torch.stack(steps), h, c)


class Pairs(HandLstm):
    """One (h, c) a layer, in and out. With two layers (h0, c0) goes in, too, without an error."""

    def start(self, hx: Any) -> States:
        return [h for h, _ in hx], [c for _, c in hx]

    def out(self, y: Tensor, h: list[Tensor], c: list[Tensor]) -> Any:
        return y, list(zip(h, c, strict=True))


class PairsSwapped(Pairs):
    def out(self, y: Tensor, h: list[Tensor], c: list[Tensor]) -> Any:
        return y, list(zip(c, h, strict=True))


class NeedsDict(HandLstm):
    def start(self, hx: Any) -> States:
        return super().start((hx["h"], hx["c"]))

    def out(self, y: Tensor, h: list[Tensor], c: list[Tensor]) -> Any:
        return y, {"h": torch.stack(h), "c": torch.stack(c)}


class NeedsDictSwapped(NeedsDict):
    def start(self, hx: Any) -> States:
        return super().start({"h": hx["c"], "c": hx["h"]})


class CellFirst(HandLstm):
    """The cell state goes in before the hidden one."""

    def forward(self, x: Tensor, cell_state: Tensor, hidden_state: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x, (hidden_state, cell_state))


class CellFirstSwapped(HandLstm):
    def forward(self, x: Tensor, cell_state: Tensor, hidden_state: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x, (cell_state, hidden_state))


class ResidualHead(HandLstm):
    """Adds a layer's output to y: a part of the network, and no head."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        self.fc = nn.Linear(hidden_size, hidden_size)

    def out(self, y: Tensor, h: list[Tensor], c: list[Tensor]) -> Any:
        return super().out(y + self.fc(y), h, c)


class LastStep(nn.Module):
    """Batch first, from zeros, with a head as wide as the hidden size on the last step."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(input_dim, hidden_dim)
        self.fc = nn.Linear(hidden_dim, output_dim)

    def forward(self, x: Tensor) -> Any:
        state = x.new_zeros(len(x), self.cell.hidden_size), x.new_zeros(len(x), self.cell.hidden_size)
        for each in x.unbind(1):
            state = self.cell(each, state)
        return self.fc(state[0])


class LastStepOfC(LastStep):
    def forward(self, x: Tensor) -> Any:
        state = x.new_zeros(len(x), self.cell.hidden_size), x.new_zeros(len(x), self.cell.hidden_size)
        for each in x.unbind(1):
            state = self.cell(each, state)
        return self.fc(state[1])


class TwoHeads(nn.Module):
    """A head of two layers, of which the last one is the first in its list of parameters."""

    def __init__(self, input_size: int, hidden_size: int, num_classes: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(input_size, hidden_size)
        self.last, self.first = nn.Linear(hidden_size, num_classes), nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        y, h = self.rnn(x, h)
        return self.last(self.first(y).relu()), h


class HeadedCell(nn.Module):
    """One step with a head as wide as the hidden size, and a softmax behind it."""

    def __init__(self, input_size: int, hidden_size: int, output_size: int) -> None:
        super().__init__()
        self.i2h, self.h2h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.h2o = nn.Linear(hidden_size, output_size)

    def forward(self, x: Tensor, hidden: Tensor) -> Any:
        hidden = torch.tanh(self.i2h(x) + self.h2h(hidden))
        return self.h2o(hidden).log_softmax(-1), hidden


class FeedsBack(HeadedCell):
    """What its Linear gives is its state: no head."""

    def forward(self, x: Tensor, hidden: Tensor) -> Any:
        hidden = self.h2o(torch.tanh(self.i2h(x) + self.h2h(hidden)))
        return hidden, hidden


class ItemsFirst(nn.Module):
    """Walks over dim 1, and no flag or attribute says so."""

    def __init__(self, obs_dim: int, hidden_size: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(obs_dim, hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        steps = []
        for each in x.unbind(1):
            h = self.cell(each, h)
            steps.append(h)
        return torch.stack(steps, 1), h


class ItemsFirstTwice(ItemsFirst):
    """Steps twice on the first input."""

    def forward(self, x: Tensor, h: Tensor) -> Any:
        return super().forward(x, self.cell(x[:, 0], h))


class Records(nn.Module):
    """Gives h of each step by the name of the last one, and fits in both layouts without its state."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(input_size, hidden_size)

    def forward(self, x: Tensor, h_0: Tensor | None = None, c_0: Tensor | None = None) -> dict[str, Tensor]:
        zeros = x.new_zeros(len(x), self.cell.hidden_size)
        h, c = zeros if h_0 is None else h_0, zeros if c_0 is None else c_0
        steps = []
        for each in x.unbind(1):
            h, c = self.cell(each, (h, c))
            steps.append(h)
        return {"h_n": torch.stack(steps, 1)}


class StateByItems(HandLstm):
    """Its state starts with N. With as many items as layers its shapes do not show that."""

    def start(self, hx: Any) -> States:
        return super().start([each.transpose(0, 1) for each in hx])

    def out(self, y: Tensor, h: list[Tensor], c: list[Tensor]) -> Any:
        return y, (torch.stack(h, 1), torch.stack(c, 1))


class BothWays(nn.Module):
    """Two modules side by side: its parameters are those of two directions, and no argument says so."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.fwd, self.bwd = nn.GRU(input_size, hidden_size), nn.GRU(input_size, hidden_size)

    def back(self, y: Tensor) -> Tensor:
        return y.flip(0)

    def forward(self, x: Tensor, hx: Tensor) -> Any:
        y, h = self.fwd(x, hx[:1])
        y_back, h_back = self.bwd(x.flip(0), hx[1:])
        return torch.cat([y, self.back(y_back)], -1), torch.cat([h, h_back])


class BothWaysUnflipped(BothWays):
    def back(self, y: Tensor) -> Tensor:
        return y


class First(nn.Module):
    def forward(self, result: tuple[Tensor, Tensor]) -> Tensor:
        return result[0]


def two_in_a_row(input_size: int, hidden_size: int) -> nn.Module:
    return nn.Sequential(nn.RNN(input_size, hidden_size), First(), nn.RNN(hidden_size, hidden_size), First())


class GatesFirst(nn.Module):
    """Weights and biases with the gates in a dim of their own."""

    def __init__(self, d_in: int, d_hidden: int) -> None:
        super().__init__()
        self.w_x, self.w_h = (nn.Parameter(torch.empty(4, d_hidden, width)) for width in (d_in, d_hidden))
        self.b = nn.Parameter(torch.empty(4, d_hidden))

    def gates(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.einsum("ghi,bi->gbh", self.w_x, x) + torch.einsum("ghk,bk->gbh", self.w_h, h)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> Any:
        h, c = state
        i, f, g, o = self.gates(x, h) + self.b[:, None]
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class GatesFirstTransposed(GatesFirst):
    def gates(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.einsum("ghi,bi->gbh", self.w_x, x) + torch.einsum("ghk,bh->gbk", self.w_h, h)


class OnlyWithout(nn.Module):
    """Takes one tensor for both states, which torch's (h0, c0) is not, and may do without it."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(input_size, hidden_size)

    def forward(self, x: Tensor, hx: Tensor | None = None) -> Any:
        h = c = x.new_zeros(x.shape[1], self.cell.hidden_size) if hx is None else hx.select(0, 0)
        for each in x:
            h, c = self.cell(each, (h, c))
        return h.unsqueeze(0)


@dataclass(frozen=True)
class Case:
    """A class, what is asked of it, and words of what is said of how it was adapted."""

    name: str
    kind: str
    words: tuple[str, ...] = ()
    asked: dict[str, Any] = field(default_factory=dict)


RIGHT = (
    Case("HandLstm", "lstm"),
    Case("Pairs", "lstm", ("its state is one (h, c) a layer, in and out",)),
    Case("Pairs", "lstm", ("its state is one (h, c) a layer, in and out",), {"num_layers": 3}),
    Case("NeedsDict", "lstm", ("its state is a dict, in and out",)),
    Case("CellFirst", "lstm", ("it takes its state as h and c apart",)),
    Case("LastStep", "lstm", ("fc is left out", "in no other layout", "output_dim is hidden_size"), {"num_layers": 1}),
    Case("TwoHeads", "gru", ("first is left out",), {"num_layers": 1}),
    Case("HeadedCell", "rnn", ("h2o is left out", "takes one step")),
    Case("ItemsFirst", "gru", ("in no other layout", "obs_dim is input_size"), {"num_layers": 1}),
    Case("Records", "lstm", ("in no other layout", "h and c apart", "it gives y alone"), {"num_layers": 1}),
    Case("StateByItems", "lstm", ("its state is (N, D·K, H), in and out",), {"batch_size": 2}),
    Case("BothWays", "gru", (), {"num_layers": 1, "bidirectional": True}),
    Case("two_in_a_row", "rnn", ("it gives y alone",)),
    Case("GatesFirst", "lstm", ("b is bias_ih + bias_hh of each layer",)),
    Case("OnlyWithout", "lstm", ("no state that torch's modules take fits its hx",), {"num_layers": 1}),
)

WRONG = (
    (Case("PairsSwapped", "lstm"), "h and c swapped"),
    (Case("NeedsDictSwapped", "lstm"), "h0 and c0 swapped"),
    (Case("CellFirstSwapped", "lstm"), "h0 and c0 swapped"),
    (Case("ResidualHead", "lstm"), None),
    (Case("LastStepOfC", "lstm", asked={"num_layers": 1}), None),
    (Case("FeedsBack", "rnn"), None),
    (Case("ItemsFirstTwice", "gru", asked={"num_layers": 1}), None),
    (
        Case("BothWaysUnflipped", "gru", (), {"num_layers": 1, "bidirectional": True}),
        "backward outputs not flipped back",
    ),
    (Case("GatesFirstTransposed", "lstm"), "W_hh transposed"),
)


def judged(case: Case) -> Comparison:
    spec = Spec(kind=case.kind, input_size=3, hidden_size=4, **case.asked)
    return compare(spec, "module", f"{FILE}:{case.name}")


def told(comparison: Comparison) -> str:
    """What the right side's adaptations say."""
    return "; ".join(each for side, sentences in comparison.adaptations if side == "right" for each in sentences)


def name_of(case: Case) -> str:
    return f"{case.name}-{case.asked.get('num_layers', 2)}"


@pytest.mark.parametrize("case", RIGHT, ids=name_of)
def test_a_form_of_public_code_is_found_out(case: Case) -> None:
    found = judged(case)
    assert found.exit_code == 0
    assert [word for word in case.words if word not in told(found)] == []


@pytest.mark.parametrize(("case", "fault"), WRONG, ids=[name_of(case) for case, _ in WRONG])
def test_a_fault_in_such_a_form_is_not_adapted_away(case: Case, fault: str | None) -> None:
    found = judged(case)
    assert (found.verdict, found.cause, found.side) == ("different", "function", "right")
    assert fault is None or fault in [each.convention for each in found.explanations]


@pytest.mark.parametrize("name", ["ResidualHead", "FeedsBack"])
def test_a_part_of_the_network_is_no_head(name: str) -> None:
    kind = "lstm" if name == "ResidualHead" else "rnn"
    assert "left out" not in told(judged(Case(name, kind)))


class Normalised(nn.Module):
    """Biases that stand in layers of norm alone."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_ih, self.weight_hh = (
            nn.Parameter(torch.empty(hidden_size, width)) for width in (input_size, hidden_size)
        )
        self.layernorm_i = nn.LayerNorm(hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.layernorm_i(x @ self.weight_ih.T) + h @ self.weight_hh.T)


class UnitsFirst(nn.Module):
    """The gates in the middle dim."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(hidden_size, 4, input_size))

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor]) -> Tensor:
        return x


class OfPacked(HandLstm):
    """Takes packed sequences alone."""

    def forward(self, x: Any, hx: Any) -> Any:
        padded, lengths = pad_packed_sequence(x)
        y, state = super().forward(padded, hx)
        return pack_padded_sequence(y, lengths, enforce_sorted=False), state


class LastLayer(HandLstm):
    """Gives the state of the last layer alone, and no y."""

    def out(self, y: Tensor, h: list[Tensor], c: list[Tensor]) -> Any:
        return h[-1], c[-1]


class OfWords(nn.Module):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.embedding, self.gru = nn.Embedding(input_size, hidden_size), nn.GRU(hidden_size, hidden_size)

    def forward(self, x: Tensor, hx: Tensor) -> Any:
        return self.gru(self.embedding(x), hx)


@pytest.mark.parametrize(
    ("name", "spec", "message", "hint"),
    [
        ("Normalised", Spec(input_size=3, hidden_size=4), "it has no biases", "--no-bias"),
        (
            "UnitsFirst",
            Spec(kind="lstm", input_size=3, hidden_size=5, num_layers=1),
            "nothing stands for weight_ih_l0",
            "--right-name",
        ),
        (
            "OfPacked",
            Spec(kind="lstm", input_size=3, hidden_size=4, num_layers=1),
            "OfPacked raised",
            "use --lengths 3,1,1,1,1",
        ),
        ("LastLayer", Spec(kind="lstm", input_size=3, hidden_size=4), "returned", "fit with --layers 1"),
        (
            "OfWords",
            Spec(kind="gru", input_size=4, hidden_size=4, num_layers=1),
            "indices",
            "what stands behind its embedding",
        ),
    ],
)
def test_what_cannot_be_adapted_is_told_with_a_way_on(name: str, spec: Spec, message: str, hint: str) -> None:
    with pytest.raises(RnnscopeError, match=message) as caught:
        compare(spec, "module", f"{FILE}:{name}")
    assert hint in (caught.value.hint or "")
