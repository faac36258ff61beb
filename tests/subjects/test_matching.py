"""Which of a class' own parameters stands for which of torch's: right readings, open ones, and each error sentence."""

import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from rnnscope import Spec
from rnnscope.errors import RnnscopeError
from rnnscope.network.shapes import Shape
from rnnscope.network.weights import draw_weights
from rnnscope.subjects.matching import ambiguous, mappings_of
from rnnscope.subjects.names import hints, is_bias
from rnnscope.subjects.parameters import Mapping

RNN, LSTM, GRU = (Spec(kind=kind, num_layers=1, dtype="float64") for kind in ("rnn", "lstm", "gru"))

SIDE = "[weight_ih_l0, weight_hh_l0] side by side"
SUM = "bias_ih_l0 + bias_hh_l0"


def shapes_of(text: str) -> dict[str, Shape]:
    """`W_x W_h: 80x10; b: 80` as shapes by name."""
    found: dict[str, Shape] = {}
    for part in filter(None, re.split(r";\s*", text)):
        names, _, sizes = part.partition(":")
        found |= dict.fromkeys(names.split(), tuple(map(int, sizes.strip().split("x"))))
    return found


def each_of(pattern: str, *values: str) -> str:
    """A name for each of some values: `W_#` and i, f are `W_i W_f`."""
    return " ".join(pattern.replace("#", value) for value in values)


def read(text: str, spec: Spec, **said: str) -> tuple[Mapping, ...]:
    return mappings_of("Own", shapes_of(text), spec, said)


def only(text: str, spec: Spec, **said: str) -> Mapping:
    (mapping,) = read(text, spec, **said)
    return mapping


TORCH = {
    "torch": ("weight_ih_l0: 80x10; weight_hh_l0: 80x20; bias_ih_l0 bias_hh_l0: 80", LSTM),
    "prefix": (
        "net.rnn.weight_ih_l0: 20x10; net.rnn.weight_hh_l0: 20x20; net.rnn.bias_ih_l0 net.rnn.bias_hh_l0: 20",
        RNN,
    ),
    "cell": ("cell.weight_ih: 60x10; cell.weight_hh: 60x20; cell.bias_ih cell.bias_hh: 60; fc.weight: 3x20", GRU),
    "cells": (
        "cells.0.weight_ih: 20x10; cells.1.weight_ih cells.0.weight_hh cells.1.weight_hh: 20x20; "
        "cells.0.bias_ih cells.0.bias_hh cells.1.bias_ih cells.1.bias_hh: 20",
        replace(RNN, num_layers=2),
    ),
    "list": (
        "0.weight_ih: 20x10; 1.weight_ih 0.weight_hh 1.weight_hh: 20x20",
        replace(RNN, num_layers=2, bias=False),
    ),
    "stacked": (
        "cells.0.weight_ih reverse_cells.0.weight_ih: 80x10; cells.0.weight_hh reverse_cells.0.weight_hh: 80x20",
        replace(LSTM, bidirectional=True, bias=False),
    ),
    "projected": (
        "weight_ih_l0: 80x10; weight_hh_l0: 80x8; weight_hr_l0: 8x20; bias_ih_l0 bias_hh_l0: 80",
        replace(LSTM, proj_size=8),
    ),
    "square": ("weight_ih_l0 weight_hh_l0: 20x20", replace(RNN, input_size=20, bias=False)),
}
"""Names that are taken without a word."""

IFGO, IFCO = ("i", "f", "g", "o"), ("i", "f", "c", "o")
DEEP = replace(LSTM, num_layers=2, bias=False)
BOTH = replace(LSTM, num_layers=2, bidirectional=True, bias=False)
SQUARE = replace(RNN, input_size=20)

TOLD: dict[str, tuple[str, Spec, tuple[str, ...]]] = {
    "x2h": (
        "x2h.weight: 80x10; h2h.weight: 80x20; x2h.bias h2h.bias: 80; fc.weight: 3x20; fc.bias: 3",
        LSTM,
        ("x2h.weight is weight_ih_l0", "h2h.weight is weight_hh_l0"),
    ),
    "W U b": (
        "W: 10x80; U: 20x80; b: 80",
        LSTM,
        ("W (transposed) is weight_ih_l0", "U (transposed) is weight_hh_l0", f"b is {SUM}"),
    ),
    "Keras": (
        "kernel: 10x60; recurrent_kernel: 20x60; bias: 1x60",
        GRU,
        ("kernel (transposed) is weight_ih_l0", "recurrent_kernel (transposed) is weight_hh_l0", f"bias is {SUM}"),
    ),
    "convention": (
        "W_xh: 10x20; W_hh: 20x20; b_h: 20x1; W_hq: 20x7; b_q: 7",
        RNN,
        ("W_xh (transposed) is weight_ih_l0", "W_hh (transposed) is weight_hh_l0", f"b_h is {SUM}"),
    ),
    "no convention for Linear": (
        "W_xh: 10x20; hh.weight: 20x20; b: 20",
        RNN,
        ("W_xh (transposed) is weight_ih_l0", "hh.weight is weight_hh_l0", f"b is {SUM}"),
    ),
    "W_hx": (
        "W_hx.weight W_hh.weight: 20x20; W_hx.bias: 20",
        SQUARE,
        ("W_hx.weight is weight_ih_l0", "W_hh.weight is weight_hh_l0", f"W_hx.bias is {SUM}"),
    ),
    "input_linear": (
        "hidden_linear.weight input_linear.weight: 20x20; hidden_linear.bias input_linear.bias: 20",
        SQUARE,
        ("input_linear.weight is weight_ih_l0", "hidden_linear.weight is weight_hh_l0"),
    ),
    "d2l LSTM": (
        f"{each_of('W_x#', *IFCO)}: 10x20; {each_of('W_h#', *IFCO)}: 20x20; {each_of('b_#', *IFCO)}: 20; "
        "W_hq: 20x7; b_q: 7; W_ci W_cf W_co: 20",
        LSTM,
        (
            "W_xi, W_xf, W_xc, W_xo (transposed) are weight_ih_l0",
            "W_hi, W_hf, W_hc, W_ho (transposed) are weight_hh_l0",
            f"b_i, b_f, b_c, b_o are {SUM}",
        ),
    ),
    "d2l GRU": (
        "W_xz W_xr W_xh: 10x20; W_hz W_hr W_hh: 20x20; b_z b_r b_h: 20",
        GRU,
        (
            "W_xr, W_xz, W_xh (transposed) are weight_ih_l0",
            "W_hr, W_hz, W_hh (transposed) are weight_hh_l0",
            f"b_r, b_z, b_h are {SUM}",
        ),
    ),
    "torch's letters": (
        f"{each_of('W_i#', *IFGO)}: 20x10; {each_of('W_h#', *IFGO)}: 20x20; "
        f"{each_of('b_i#', *IFGO)} {each_of('b_h#', *IFGO)}: 20",
        LSTM,
        (
            "W_ii, W_if, W_ig, W_io are weight_ih_l0",
            "W_hi, W_hf, W_hg, W_ho are weight_hh_l0",
            "b_ii, b_if, b_ig, b_io are bias_ih_l0",
            "b_hi, b_hf, b_hg, b_ho are bias_hh_l0",
        ),
    ),
    "torch's letters in a GRU": (
        "W_ir.weight W_iz.weight W_in.weight: 20x10; W_hr.weight W_hz.weight W_hn.weight: 20x20; "
        "W_ir.bias W_iz.bias W_in.bias W_hr.bias W_hz.bias W_hn.bias: 20",
        GRU,
        (
            "W_ir.weight, W_iz.weight, W_in.weight are weight_ih_l0",
            "W_hr.weight, W_hz.weight, W_hn.weight are weight_hh_l0",
        ),
    ),
    "gate first": (
        f"{each_of('W_#x', *IFGO)}: 20x10; {each_of('W_#h', *IFGO)}: 20x20; {each_of('b_#', *IFGO)}: 20",
        LSTM,
        (
            "W_ix, W_fx, W_gx, W_ox are weight_ih_l0",
            "W_ih, W_fh, W_gh, W_oh are weight_hh_l0",
            f"b_i, b_f, b_g, b_o are {SUM}",
        ),
    ),
    "W_f U_f": (
        f"{each_of('U_#.weight', *IFCO)} {each_of('W_#.weight', *IFCO)}: 20x20; {each_of('W_#.bias', *IFCO)}: 20",
        replace(LSTM, input_size=20),
        (
            "W_i.weight, W_f.weight, W_c.weight, W_o.weight are weight_ih_l0",
            "U_i.weight, U_f.weight, U_c.weight, U_o.weight are weight_hh_l0",
            f"W_i.bias, W_f.bias, W_c.bias, W_o.bias are {SUM}",
        ),
    ),
    "Wf Uf": (
        "Wz Wr Wh: 10x20; Uz Ur Uh: 20x20; bz br bh: 20",
        GRU,
        (
            "Wr, Wz, Wh (transposed) are weight_ih_l0",
            "Ur, Uz, Uh (transposed) are weight_hh_l0",
            f"br, bz, bh are {SUM}",
        ),
    ),
    "update as u": (
        "W_u W_r W_c: 20x10; U_u U_r U_c: 20x20; b_u b_r b_c: 20",
        GRU,
        ("W_r, W_u, W_c are weight_ih_l0", "U_r, U_u, U_c are weight_hh_l0", f"b_r, b_u, b_c are {SUM}"),
    ),
    "a candidate without a letter": (
        "W_r W_z W: 20x10; U_r U_z U: 20x20; b_r b_z b: 20",
        GRU,
        (
            "W_r, W_z, W are weight_ih_l0, in the order r z n",
            "U_r, U_z, U are weight_hh_l0, in the order r z n",
            f"b_r, b_z, b are {SUM}, in the order r z n",
        ),
    ),
    "written together": (
        f"{each_of('Wx#', *IFCO)}: 20x10; {each_of('Wh#', *IFCO)}: 20x20; {each_of('b#', *IFCO)}: 20",
        LSTM,
        ("Wxi, Wxf, Wxc, Wxo are weight_ih_l0", "Whi, Whf, Whc, Who are weight_hh_l0", f"bi, bf, bc, bo are {SUM}"),
    ),
    "words": (
        f"{each_of('#_gate_x.weight', 'input', 'forget', 'cell', 'output')}: 20x10; "
        f"{each_of('#_gate_h.weight', 'input', 'forget', 'cell', 'output')}: 20x20",
        replace(LSTM, bias=False),
        (
            "input_gate_x.weight, forget_gate_x.weight, cell_gate_x.weight, output_gate_x.weight are weight_ih_l0",
            "input_gate_h.weight, forget_gate_h.weight, cell_gate_h.weight, output_gate_h.weight are weight_hh_l0",
        ),
    ),
    "words of camels": (
        "resetGateX updateGateX newGateX: 20x10; resetGateH updateGateH newGateH: 20x20",
        replace(GRU, bias=False),
        (
            "resetGateX, updateGateX, newGateX are weight_ih_l0",
            "resetGateH, updateGateH, newGateH are weight_hh_l0",
        ),
    ),
    "Flax": (
        "ir.weight iz.weight in.weight: 20x10; hr.weight hz.weight hn.weight: 20x20; "
        "ir.bias iz.bias in.bias hn.bias: 20",
        GRU,
        (
            "ir.weight, iz.weight, in.weight are weight_ih_l0",
            "hr.weight, hz.weight, hn.weight are weight_hh_l0",
            f"ir.bias, iz.bias are gates r, z of {SUM}",
        ),
    ),
    "Equinox": (
        "weight_ih: 60x10; weight_hh: 60x20; bias: 60; bias_n: 20",
        GRU,
        (
            "weight_ih is weight_ih_l0",
            "weight_hh is weight_hh_l0",
            f"bias is {SUM} (gates r, z)",
            "bias_n is gate n of bias_hh_l0",
        ),
    ),
    "bias on h alone": (
        "x2h.weight: 60x10; h2h.weight: 60x20; h2h.bias: 60",
        GRU,
        ("x2h.weight is weight_ih_l0", "h2h.weight is weight_hh_l0", "h2h.bias is bias_hh_l0 + bias_ih_l0"),
    ),
    "bias on h alone, only added": (
        "x2h.weight: 80x10; h2h.weight: 80x20; h2h.bias: 80",
        LSTM,
        ("x2h.weight is weight_ih_l0", "h2h.weight is weight_hh_l0", f"h2h.bias is {SUM}"),
    ),
    "two plain biases": (
        "Wx: 80x10; Wh: 80x20; b1 b2: 80",
        LSTM,
        ("Wx is weight_ih_l0", "Wh is weight_hh_l0", "b1 is bias_ih_l0", "b2 is bias_hh_l0"),
    ),
    "gates in a dim of their own": (
        "W: 4x20x10; U: 4x20x20; b: 80",
        LSTM,
        ("W is weight_ih_l0", "U is weight_hh_l0", f"b is {SUM}"),
    ),
    "r and z in one": (
        "x_rz.weight: 40x10; h_rz.weight: 40x20; x_n.weight: 20x10; h_n.weight: 20x20",
        replace(GRU, bias=False),
        ("x_rz.weight, x_n.weight are weight_ih_l0", "h_rz.weight, h_n.weight are weight_hh_l0"),
    ),
    "z and r in one": (
        "x_zr.weight: 40x10; h_zr.weight: 40x20; x_n.weight: 20x10; h_n.weight: 20x20",
        replace(GRU, bias=False),
        ("x_zr.weight, x_n.weight are weight_ih_l0", "h_zr.weight, h_n.weight are weight_hh_l0"),
    ),
    "numbered gates": (
        f"{each_of('x.#.weight', *'0123')}: 20x10; {each_of('h.#.weight', *'0123')}: 20x20",
        replace(LSTM, bias=False),
        (
            "x.0.weight, x.1.weight, x.2.weight, x.3.weight are weight_ih_l0, in the order i f g o",
            "h.0.weight, h.1.weight, h.2.weight, h.3.weight are weight_hh_l0, in the order i f g o",
        ),
    ),
    "projection": (
        "x2h.weight: 80x10; h2h.weight: 80x8; proj.weight: 8x20",
        replace(LSTM, proj_size=8, bias=False),
        ("x2h.weight is weight_ih_l0", "h2h.weight is weight_hh_l0", "proj.weight is weight_hr_l0"),
    ),
    "layers of cells": (
        "layers.0.cell.weight_ih: 80x10; "
        "layers.1.cell.weight_ih layers.0.cell.weight_hh layers.1.cell.weight_hh: 80x20",
        DEEP,
        ("layers.#.cell.weight_ih is weight_ih of each layer", "layers.#.cell.weight_hh is weight_hh of each layer"),
    ),
    "lists of parameters": (
        "weight_ih.0: 80x10; weight_ih.1 weight_hh.0 weight_hh.1: 80x20",
        DEEP,
        ("weight_ih.# is weight_ih of each layer", "weight_hh.# is weight_hh of each layer"),
    ),
    "counted from 1": (
        "lstm1.x2h.weight: 80x10; lstm2.x2h.weight lstm1.h2h.weight lstm2.h2h.weight: 80x20",
        DEEP,
        ("lstm#.x2h.weight is weight_ih of each layer", "lstm#.h2h.weight is weight_hh of each layer"),
    ),
    "one list of all": (
        "weights.0: 80x10; weights.1 weights.2 weights.3: 80x20",
        DEEP,
        ("weights.0 is weight_ih of each layer", "weights.1 is weight_hh of each layer"),
    ),
    "quantizable": (
        f"{each_of('layers.0.layer_#.cell.igates.weight', 'fw', 'bw')}: 80x10; "
        f"{each_of('layers.1.layer_#.cell.igates.weight', 'fw', 'bw')}: 80x40; "
        f"{each_of('layers.0.layer_#.cell.hgates.weight', 'fw', 'bw')} "
        f"{each_of('layers.1.layer_#.cell.hgates.weight', 'fw', 'bw')}: 80x20",
        BOTH,
        (
            "layers.#.layer_fw.cell.igates.weight is weight_ih of each layer and direction",
            "layers.#.layer_fw.cell.hgates.weight is weight_hh of each layer and direction",
        ),
    ),
    "layer by layer": (
        "c.0.x2h.weight c.1.x2h.weight: 80x10; c.2.x2h.weight c.3.x2h.weight: 80x40; "
        f"{each_of('c.#.h2h.weight', *'0123')}: 80x20",
        BOTH,
        (
            "c.#.x2h.weight is weight_ih of each layer and direction",
            "c.#.h2h.weight is weight_hh of each layer and direction",
        ),
    ),
    "direction by direction": (
        "c.0.x2h.weight c.2.x2h.weight: 80x10; c.1.x2h.weight c.3.x2h.weight: 80x40; "
        f"{each_of('c.#.h2h.weight', *'0123')}: 80x20",
        BOTH,
        (
            "c.#.x2h.weight is weight_ih of each layer and direction",
            "c.#.h2h.weight is weight_hh of each layer and direction",
        ),
    ),
    "two numbers": (
        "c.0.0.x.weight c.0.1.x.weight: 80x10; c.1.0.x.weight c.1.1.x.weight c.2.0.x.weight c.2.1.x.weight: 80x40; "
        f"{each_of('c.#.h.weight', '0.0', '0.1', '1.0', '1.1', '2.0', '2.1')}: 80x20",
        replace(BOTH, num_layers=3),
        (
            "c.#.#.x.weight is weight_ih of each layer and direction",
            "c.#.#.h.weight is weight_hh of each layer and direction",
        ),
    ),
    "backward": (
        "forward_cell.Wx backward_cell.Wx: 20x10; forward_cell.Wh backward_cell.Wh: 20x20; "
        "forward_cell.b backward_cell.b: 20",
        replace(RNN, bidirectional=True),
        (
            "forward_cell.Wx is weight_ih of each direction",
            "forward_cell.Wh is weight_hh of each direction",
            "forward_cell.b is bias_ih + bias_hh of each direction",
        ),
    ),
    "biases that are not asked for": (
        "x2h.weight: 80x10; h2h.weight: 80x20; x2h.bias h2h.bias: 80; fc.bias: 80; fc.weight: 80x9",
        replace(LSTM, bias=False),
        (
            "x2h.weight is weight_ih_l0",
            "h2h.weight is weight_hh_l0",
            "x2h.bias, h2h.bias are set to zero: --no-bias",
        ),
    ),
    "torch's biases that are not asked for": (
        "weight_ih_l0: 80x10; weight_hh_l0: 80x20; bias_ih_l0 bias_hh_l0: 80",
        replace(LSTM, bias=False),
        ("bias_ih_l0, bias_hh_l0 are set to zero: --no-bias",),
    ),
    "heads and norms": (
        "emb.weight: 50x20; ln.weight ln.bias: 20; rnn.x2h.weight rnn.h2h.weight rnn.h2o.weight: 20x20; "
        "rnn.x2h.bias rnn.h2h.bias rnn.h2o.bias: 20; h0: 1x20",
        SQUARE,
        ("rnn.x2h.weight is weight_ih_l0", "rnn.h2h.weight is weight_hh_l0"),
    ),
}
"""Names, and what is said of them."""

SAID: dict[str, tuple[str, Spec, dict[str, str], tuple[str, ...]]] = {
    "side by side": (
        "a: 80x30; b: 80",
        LSTM,
        {"a": "weight_hh_l0,weight_ih_l0"},
        ("a is [weight_hh_l0, weight_ih_l0] side by side", f"b is {SUM}"),
    ),
    "side by side, transposed": (
        "a: 30x80; b: 80",
        LSTM,
        {"a": "weight_ih_l0.T,weight_hh_l0.T", "b": "bias_ih_l0+bias_hh_l0"},
        (f"a (transposed) is {SIDE}", f"b is {SUM}"),
    ),
    "one tells the other": (
        "p q: 20x20; bias: 20",
        SQUARE,
        {"q": "weight_ih_l0.T"},
        ("q (transposed) is weight_ih_l0", "p (transposed) is weight_hh_l0", f"bias is {SUM}"),
    ),
    "gates against their names": (
        f"{each_of('#.weight', *IFGO)}: 20x30",
        replace(LSTM, bias=False),
        {
            "i.weight": "weight_ih_l0.f,weight_hh_l0.f",
            "f.weight": "weight_ih_l0.i,weight_hh_l0.i",
        },
        (f"f.weight, i.weight, g.weight, o.weight are {SIDE}, in the order i f g o",),
    ),
    "left as it is": (
        "x2h.weight x2h_old.weight: 20x10; h2h.weight: 20x20",
        replace(RNN, bias=False),
        {"x2h.weight": "-"},
        ("x2h_old.weight is weight_ih_l0", "h2h.weight is weight_hh_l0"),
    ),
    "all layers like one": (
        "l.0.one l.0.two l.1.one l.1.two: 20x20",
        replace(SQUARE, num_layers=2, bias=False),
        {"l.1.one": "weight_hh_l1"},
        ("l.#.two is weight_ih of each layer", "l.#.one is weight_hh of each layer"),
    ),
    "layers that no number tells": (
        "low.x2h top.x2h low.h2h top.h2h: 20x20",
        replace(SQUARE, num_layers=2, bias=False),
        {"low.x2h": "weight_ih_l0", "top.x2h": "weight_ih_l1", "low.h2h": "weight_hh_l0", "top.h2h": "weight_hh_l1"},
        (
            "low.x2h is weight_ih_l0",
            "low.h2h is weight_hh_l0",
            "top.x2h is weight_ih_l1",
            "top.h2h is weight_hh_l1",
        ),
    ),
}


@pytest.mark.parametrize("case", TORCH)
def test_names_of_torch_are_taken_without_a_word(case: str) -> None:
    text, spec = TORCH[case]
    mapping = only(text, spec)
    assert (mapping.adaptations, mapping.folded, mapping.zeroed) == ((), {}, ())
    assert [name for each in mapping.pieces for name in each.names] == list(draw_weights(spec))


@pytest.mark.parametrize("case", TOLD)
def test_what_was_taken_for_what(case: str) -> None:
    text, spec, sentences = TOLD[case]
    assert only(text, spec).adaptations == sentences


@pytest.mark.parametrize("case", SAID)
def test_what_the_user_says_holds(case: str) -> None:
    text, spec, said, sentences = SAID[case]
    assert only(text, spec, **said).adaptations == sentences


EVERY = {
    **{f"torch: {name}": (text, spec, {}) for name, (text, spec) in TORCH.items()},
    **{f"told: {name}": (text, spec, {}) for name, (text, spec, _) in TOLD.items()},
    **{f"said: {name}": (text, spec, said) for name, (text, spec, said, _) in SAID.items()},
}


@pytest.mark.parametrize("case", EVERY)
def test_what_is_written_is_read_again(case: str) -> None:
    text, spec, said = EVERY[case]
    (mapping,) = mappings_of("Own", shapes_of(text), spec, said)
    own = {name: torch.full(shape, torch.nan, dtype=torch.float64) for name, shape in shapes_of(text).items()}
    weights = draw_weights(spec)
    mapping.write(own, weights)
    read, folded = mapping.read(own), mapping.fold(weights)
    assert list(read) == list(weights)
    assert all(torch.equal(read[name], folded[name]) for name in weights)
    assert {name for name, each in own.items() if each.isnan().any()} == set(mapping.left_over)
    assert all(not own[name].any() for name in mapping.zeroed)


@pytest.mark.parametrize(
    ("text", "kind", "same"),
    [
        ("x.weight: 60x10; h.weight: 60x20; b1 b2: 60", "gru", False),
        ("x.weight: 80x10; h.weight: 80x20; b1 b2: 80", "lstm", True),
    ],
)
def test_biases_that_are_only_added_may_change_places(text: str, kind: str, same: bool) -> None:
    assert (len(read(text, Spec(kind=kind, num_layers=1))) == 1) is same


def test_a_gradient_of_a_sum_is_that_of_bias_ih_alone() -> None:
    mapping = only("ir.bias iz.bias in.bias hn.bias: 20; x.weight: 60x10; h.weight: 60x20", GRU)
    own = {each.own: torch.randn(shape) for each, shape in zip(mapping.pieces, SHAPES_OF_GRU, strict=True)}
    found = mapping.read(own, gradients=True)
    assert list(found) == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0"]
    assert torch.equal(found["bias_ih_l0"], torch.cat([own[f"i{gate}.bias"] for gate in "rzn"]))


SHAPES_OF_GRU = [(60, 10), (60, 20), (20,), (20,), (20,), (20,)]


def test_what_has_no_gradient_is_left_out() -> None:
    mapping = only("W_x: 20x10; W_h: 20x20; b_x b_h: 20", RNN)
    own = {"W_x": torch.ones(20, 10), "b_h": torch.ones(20)}
    assert list(mapping.read(own, gradients=True)) == ["weight_ih_l0", "bias_hh_l0"]
    assert mapping.read({}) == {}


def test_a_sum_is_rounded_once() -> None:
    mapping = only("W: 20x10; U: 20x20; b: 20", RNN)
    weights = {name: each.to(torch.bfloat16) for name, each in draw_weights(RNN).items()}
    own = {"W": torch.zeros(20, 10), "U": torch.zeros(20, 20), "b": torch.zeros(20)}
    mapping.write(own, weights)
    exact = weights["bias_ih_l0"].double() + weights["bias_hh_l0"].double()
    assert torch.equal(own["b"], exact.float())
    assert torch.equal(mapping.fold(weights)["bias_ih_l0"], exact)


def test_biases_by_name_that_are_not_asked_for_are_named_once() -> None:
    assert only("Wx: 80x10; Wh: 80x20; b1 b2 b_y: 80", replace(LSTM, bias=False)).zeroed == ("b1", "b2")


def test_a_path_that_the_user_names_stands_for_its_parameter() -> None:
    text = "cell.a.weight cell.b.weight net.a.weight net.b.weight: 20x20"
    aliases = {"net.a.weight": "cell.a.weight", "net.b.weight": "cell.b.weight"}
    said = {"net.b.weight": "weight_ih_l0"}
    (mapping,) = mappings_of("Own", shapes_of(text), replace(SQUARE, bias=False), said, aliases=aliases)
    assert [each.own for each in mapping.pieces] == ["net.b.weight", "cell.a.weight"]


ALIASES = {"first.x2h.weight": "cells.0.x2h.weight", "first.h2h.weight": "cells.0.h2h.weight"}


@pytest.mark.parametrize("aliases", [ALIASES, {path: alias for alias, path in ALIASES.items()}])
def test_one_parameter_under_two_paths(aliases: dict[str, str]) -> None:
    text = "first.x2h.weight first.h2h.weight: 20x20; " + "; ".join(
        f"cells.{layer}.x2h.weight cells.{layer}.h2h.weight: 20x20" for layer in range(2)
    )
    spec = replace(SQUARE, num_layers=2, bias=False)
    (mapping,) = mappings_of("Own", shapes_of(text), spec, aliases=aliases)
    assert [each.own for each in mapping.pieces] == [f"cells.{k}.{way}2h.weight" for way in "xh" for k in range(2)]
    assert mapping.left_over == ()


def test_a_module_under_two_names_is_one() -> None:
    text = "cell.x2h.weight cell.h2h.weight net.x2h.weight net.h2h.weight: 20x20"
    aliases = {"net.x2h.weight": "cell.x2h.weight", "net.h2h.weight": "cell.h2h.weight"}
    spec = replace(SQUARE, bias=False)
    assert len(mappings_of("Own", shapes_of(text), spec)) > 1
    assert len(mappings_of("Own", shapes_of(text), spec, aliases=aliases)) == 1


OPEN: dict[str, tuple[str, Spec, tuple[str, str]]] = {
    "order of x and h": (
        "linear.weight: 80x30; linear.bias: 80",
        LSTM,
        ("linear.weight=weight_ih_l0,weight_hh_l0", "linear.weight=weight_hh_l0,weight_ih_l0"),
    ),
    "order of x and h, by gate": (
        f"{each_of('#_gate.weight', 'input', 'forget', 'cell', 'output')}: 20x30",
        replace(LSTM, bias=False),
        (
            "input_gate.weight=weight_ih_l0.i,weight_hh_l0.i",
            "input_gate.weight=weight_hh_l0.i,weight_ih_l0.i",
        ),
    ),
    "a tutorial's RNN": (
        "i2h.weight: 20x30; i2h.bias: 20; h2o.weight: 20x20; h2o.bias: 20",
        RNN,
        ("i2h.weight=weight_ih_l0,weight_hh_l0", "i2h.weight=weight_hh_l0,weight_ih_l0"),
    ),
    "out_gate is the candidate": (
        "reset_gate.weight update_gate.weight out_gate.weight: 20x30",
        replace(GRU, bias=False),
        ("reset_gate.weight=weight_ih_l0.r,weight_hh_l0.r", "reset_gate.weight=weight_hh_l0.r,weight_ih_l0.r"),
    ),
    "two of equal shape": (
        "fc1.weight fc2.weight: 20x20; fc1.bias fc2.bias: 20",
        SQUARE,
        ("fc1.weight=weight_ih_l0", "fc1.weight=weight_hh_l0"),
    ),
    "x @ W or W @ x": (
        "W_xh W_hh: 20x20; b: 20",
        SQUARE,
        ("W_xh=weight_ih_l0", "W_xh=weight_ih_l0.T"),
    ),
    "r and z": (
        "x_gates.weight: 40x10; h_gates.weight: 40x20; x_new.weight: 20x10; h_new.weight: 20x20",
        replace(GRU, bias=False),
        ("x_gates.weight=weight_ih_l0.rz", "x_gates.weight=weight_ih_l0.zr"),
    ),
    "layers and directions": (
        f"{each_of('c.#.x2h.weight', *'0123')}: 20x40; {each_of('c.#.h2h.weight', *'0123')}: 20x20",
        replace(RNN, num_layers=2, bidirectional=True, input_size=40, bias=False),
        ("c.1.x2h.weight=weight_ih_l0_reverse", "c.1.x2h.weight=weight_ih_l1"),
    ),
    "two networks": (
        "dec.weight_ih_l0 enc.weight_ih_l0: 20x10; dec.weight_hh_l0 enc.weight_hh_l0: 20x20",
        replace(RNN, bias=False),
        ("dec.weight_ih_l0=weight_ih_l0", "dec.weight_ih_l0=-"),
    ),
    "one bias of two": (
        "x.weight: 60x10; h.weight: 60x20; b1 b2: 60",
        GRU,
        ("b1=bias_ih_l0", "b1=bias_hh_l0"),
    ),
}
"""What nothing tells, and the two lines that do."""


@pytest.mark.parametrize("case", OPEN)
def test_what_nothing_tells_is_asked(case: str) -> None:
    text, spec, lines = OPEN[case]
    found = read(text, spec)
    assert len(found) > 1
    own, _, one = lines[0].partition("=")
    other = lines[1].partition("=")[2].replace("-", "nothing of torch's")
    assert str(ambiguous("Own", found, "--left-name")) == (
        f"Own: {own} may be {one} or {other}, and its name and shape do not tell; "
        f"say which: --left-name '{lines[0]}' or --left-name '{lines[1]}'"
    )


@pytest.mark.parametrize("line", [0, 1])
@pytest.mark.parametrize("case", OPEN)
def test_the_line_that_an_error_gives_mends_it(case: str, line: int) -> None:
    text, spec, lines = OPEN[case]
    before = len(read(text, spec))
    own, _, value = lines[line].partition("=")
    after = read(text, spec, **{own: value})
    assert 1 <= len(after) < before
    said = {each.own for each in after[0].pieces}
    assert (own in said) is (value != "-")


FAULTS: dict[str, tuple[str, Spec, dict[str, str], str]] = {
    "nothing": (
        "x2h.weight: 80x10; x2h.bias: 80; fc.weight: 3x20; fc.bias: 3",
        LSTM,
        {},
        "Own: nothing stands for weight_hh_l0 (80, 20); it has fc.weight (3, 20), fc.bias (3,) besides; "
        "say what does: --right-name OWN=weight_hh_l0",
    ),
    "nothing at all": (
        "",
        RNN,
        {},
        "Own: nothing stands for weight_ih_l0 (20, 10), weight_hh_l0 (20, 20), bias_ih_l0 (20,), bias_hh_l0 (20,); "
        "it has nothing besides; say what does: --right-name OWN=weight_ih_l0",
    ),
    "many": (
        f"{each_of('a.m#n', *map(str, range(10)))}: 7x7; W_hh: 80x20; b: 80",
        LSTM,
        {},
        "Own: nothing stands for weight_ih_l0 (80, 10); it has a.m0n (7, 7), a.m1n (7, 7), a.m2n (7, 7), "
        "a.m3n (7, 7), a.m4n (7, 7), a.m5n (7, 7), a.m6n (7, 7), a.m7n (7, 7) and 2 more besides; "
        "say what does: --right-name OWN=weight_ih_l0",
    ),
    "a gate": (
        f"{each_of('x.#', *IFGO)}: 20x10; {each_of('h.#', *IFGO[:3])}: 20x20; b: 80",
        LSTM,
        {},
        "Own: nothing stands for gate o of weight_hh_l0; it has nothing besides; "
        "say what does: --right-name OWN=weight_hh_l0.o",
    ),
    "a bias of one gate": (
        "x2h.weight: 80x10; h2h.weight: 80x20; b_i b_f b_g: 20",
        LSTM,
        {},
        "Own: nothing stands for gate o of bias_ih_l0; it has nothing besides; "
        "say what does: --right-name OWN=bias_ih_l0.o",
    ),
    "no biases": ("W: 80x10; U: 80x20", LSTM, {}, "Own: it has no biases; use --no-bias"),
    "convolution": (
        "conv.weight: 80x30x3x3; conv.bias: 80",
        LSTM,
        {},
        "Own has convolution kernels (conv.weight (80, 30, 3, 3)), so it is a convolutional recurrent network, "
        "which torch has not; name a class that computes nn.LSTM",
    ),
    "hidden size": (
        "weight_ih: 128x10; weight_hh: 128x32; bias_ih bias_hh: 128",
        LSTM,
        {},
        "Own: its parameters are those of hidden_size=32, not --hidden-size 20; use --hidden-size 32",
    ),
    "input size": (
        "x2h.weight: 20x28; h2h.weight: 20x20",
        replace(RNN, bias=False),
        {},
        "Own: its parameters are those of input_size=28, not --input-size 10; use --input-size 28",
    ),
    "both sizes": (
        "x2h.weight: 64x7; h2h.weight: 64x16",
        replace(LSTM, bias=False),
        {},
        "Own: its parameters are those of hidden_size=16 and input_size=7, not --hidden-size 20 --input-size 10; "
        "use --hidden-size 16 --input-size 7",
    ),
    "another kind": (
        "x2h.weight: 60x10; h2h.weight: 60x20",
        replace(LSTM, bias=False),
        {},
        "Own: its parameters are those of kind=gru, not --kind lstm; use --kind gru",
    ),
    "fewer layers": (
        "x2h.weight: 20x10; h2h.weight: 20x20",
        replace(RNN, bias=False, num_layers=2),
        {},
        "Own: its parameters are those of num_layers=1, not --layers 2; use --layers 1",
    ),
    "more layers": (
        "weight_ih_l0: 20x10; weight_ih_l1 weight_hh_l0 weight_hh_l1: 20x20",
        replace(RNN, bias=False),
        {},
        "Own: its parameters are those of num_layers=2, not --layers 1; use --layers 2",
    ),
    "one direction": (
        "x2h.weight: 20x10; h2h.weight: 20x20",
        replace(RNN, bias=False, bidirectional=True),
        {},
        "Own: its parameters are those of bidirectional=False, not --bidirectional; leave --bidirectional out",
    ),
    "two directions": (
        "fwd.x2h.weight bwd.x2h.weight: 20x10; fwd.h2h.weight bwd.h2h.weight: 20x20",
        replace(RNN, bias=False),
        {},
        "Own: its parameters are those of bidirectional=True; use --bidirectional",
    ),
    "no such parameter": (
        "W_h: 20x80; W_x: 10x80; b: 80",
        LSTM,
        {"Wh": "weight_hh_l0.T"},
        "--right-name is Wh=weight_hh_l0.T, but Own has no parameter Wh; did you mean W_h=weight_hh_l0.T?",
    ),
    "nothing like it": (
        "W_h: 20x80; b: 80",
        LSTM,
        {"recurrent": "-"},
        "--right-name is recurrent=-, but Own has no parameter recurrent; it has W_h (20, 80), b (80,)",
    ),
    "no such name in torch": (
        "W_h: 20x80",
        LSTM,
        {"W_h": "weight_hh"},
        "--right-name is W_h=weight_hh, but it must be one of torch's parameters (weight_ih_l0), a gate of it "
        "(weight_ih_l0.i), transposed (weight_hh_l0.T), two side by side (weight_ih_l0,weight_hh_l0), a sum "
        "(bias_ih_l0+bias_hh_l0), or - for none; did you mean W_h=weight_hh_l0?",
    ),
    "no gates to name": (
        "W_h: 20x80",
        RNN,
        {"W_h": "what"},
        "--right-name is W_h=what, but it must be one of torch's parameters (weight_ih_l0), transposed "
        "(weight_hh_l0.T), two side by side (weight_ih_l0,weight_hh_l0), a sum (bias_ih_l0+bias_hh_l0), or - for none",
    ),
    "no such gate": (
        "W_h: 20x80",
        LSTM,
        {"W_h": "weight_hh_l0.z"},
        "--right-name is W_h=weight_hh_l0.z, but the gate must be one of i, f, g, o",
    ),
    "no gate": (
        "W_h: 20x20",
        RNN,
        {"W_h": "weight_hh_l0.i"},
        "--right-name is W_h=weight_hh_l0.i, but the gate must be left out: it has none",
    ),
    "transposed": (
        "W_h: 20x80",
        LSTM,
        {"W_h": "weight_hh_l0"},
        "Own: W_h has shape (20, 80), but weight_hh_l0 is (80, 20); transposed? write W_h=weight_hh_l0.T",
    ),
    "not transposed": (
        "W_h: 80x20",
        LSTM,
        {"W_h": "weight_hh_l0.T"},
        "Own: W_h has shape (80, 20), but weight_hh_l0.T is (20, 80); transposed? write W_h=weight_hh_l0",
    ),
    "wrong size": (
        "W_h: 80x30",
        LSTM,
        {"W_h": "weight_hh_l0"},
        "Own: W_h has shape (80, 30), but weight_hh_l0 is (80, 20); build it in that size",
    ),
    "a bias is not transposed": (
        "b: 80x1",
        LSTM,
        {"b": "bias_ih_l0.T"},
        "Own: b has shape (80, 1), but bias_ih_l0.T is (80,); leave .T out",
    ),
    "two that are not side by side": (
        "b: 80x1",
        LSTM,
        {"b": "weight_ih_l0+weight_hh_l0"},
        "--right-name is b=weight_ih_l0+weight_hh_l0, but it must be one of torch's parameters (weight_ih_l0), a gate "
        "of it (weight_ih_l0.i), transposed (weight_hh_l0.T), two side by side (weight_ih_l0,weight_hh_l0), a sum "
        "(bias_ih_l0+bias_hh_l0), or - for none; did you mean b=weight_ih_l0?",
    ),
    "wrong size of a bias": (
        "b: 80",
        LSTM,
        {"b": "bias_ih_l0.f+bias_hh_l0.f"},
        "Own: b has shape (80,), but bias_ih_l0.f+bias_hh_l0.f is (20,); build it in that size",
    ),
    "said twice": (
        "W U V: 20x20",
        replace(SQUARE, bias=False),
        {"W": "weight_ih_l0", "U": "weight_ih_l0", "V": "weight_hh_l0"},
        "--right-name is U=weight_ih_l0, but another parameter of Own is said to be that; say it of one",
    ),
}
"""Each error sentence."""


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_wrong_is_said(case: str) -> None:
    text, spec, said, sentence = FAULTS[case]
    with pytest.raises(RnnscopeError) as error:
        read(text, spec, **said)
    assert str(error.value) == sentence


State = tuple[Tensor, ...]


def lstm_step(gates: dict[str, Tensor], state: State) -> State:
    c = gates["f"].sigmoid() * state[1] + gates["i"].sigmoid() * gates["g"].tanh()
    return gates["o"].sigmoid() * c.tanh(), c


class Loop(nn.Module):
    """Walks the steps of x: (L, N, H_in) with its `step`."""

    states = 1

    def step(self, x: Tensor, state: State) -> State:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        state: State = (x.new_zeros(x.shape[1], 4),) * self.states
        ys = []
        for each in x:
            state = self.step(each, state)
            ys.append(state[0])
        return torch.stack(ys)


def raw(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))


class Transposed(Loop):
    """x @ W, as in Keras."""

    states = 2

    def __init__(self) -> None:
        super().__init__()
        self.W, self.U, self.b = raw(3, 16), raw(4, 16), raw(16)

    def step(self, x: Tensor, state: State) -> State:
        i, f, g, o = (x @ self.W + state[0] @ self.U + self.b).chunk(4, dim=1)
        return lstm_step({"i": i, "f": f, "g": g, "o": o}, state)


class ByGate(Loop):
    """A Linear for each gate over x, and one over h, in the order f i c o."""

    states = 2

    def __init__(self) -> None:
        super().__init__()
        for gate in "fico":
            setattr(self, f"W_{gate}", nn.Linear(3, 4))
            setattr(self, f"U_{gate}", nn.Linear(4, 4, bias=False))

    def step(self, x: Tensor, state: State) -> State:
        found = {gate: getattr(self, f"W_{gate}")(x) + getattr(self, f"U_{gate}")(state[0]) for gate in "fico"}
        return lstm_step(found | {"g": found["c"]}, state)


class SideBySide(Loop):
    """A Linear for each gate over cat([x, h])."""

    states = 2

    def __init__(self) -> None:
        super().__init__()
        self.forget_gate, self.input_gate, self.cell_gate, self.output_gate = (nn.Linear(7, 4) for _ in range(4))

    def step(self, x: Tensor, state: State) -> State:
        both = torch.cat([x, state[0]], dim=1)
        gates = {"f": self.forget_gate, "i": self.input_gate, "g": self.cell_gate, "o": self.output_gate}
        return lstm_step({letter: gate(both) for letter, gate in gates.items()}, state)


class HThenX(Loop):
    """One Linear over cat([h, x])."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(7, 4)

    def step(self, x: Tensor, state: State) -> State:
        return (self.linear(torch.cat([state[0], x], dim=1)).tanh(),)


class Letters(Loop):
    """A raw matrix for each gate, and one bias for each gate but n, which has two."""

    W_xz: Tensor
    W_xr: Tensor
    W_xh: Tensor
    W_hz: Tensor
    W_hr: Tensor
    W_hh: Tensor

    def __init__(self) -> None:
        super().__init__()
        for gate in "zrh":
            setattr(self, f"W_x{gate}", raw(3, 4))
            setattr(self, f"W_h{gate}", raw(4, 4))
        self.b_z, self.b_r, self.b_xh, self.b_hh = (raw(4) for _ in range(4))

    def step(self, x: Tensor, state: State) -> State:
        (h,) = state
        z = (x @ self.W_xz + h @ self.W_hz + self.b_z).sigmoid()
        r = (x @ self.W_xr + h @ self.W_hr + self.b_r).sigmoid()
        n = (x @ self.W_xh + self.b_xh + r * (h @ self.W_hh + self.b_hh)).tanh()
        return ((1 - z) * n + z * h,)


class BiasOnH(Loop):
    """The Linear over x has no bias; z and r come from one Linear, in this order."""

    def __init__(self) -> None:
        super().__init__()
        self.x_zr, self.h_zr = nn.Linear(3, 8, bias=False), nn.Linear(4, 8)
        self.x_n, self.h_n = nn.Linear(3, 4, bias=False), nn.Linear(4, 4)

    def step(self, x: Tensor, state: State) -> State:
        (h,) = state
        z, r = (self.x_zr(x) + self.h_zr(h)).sigmoid().chunk(2, dim=1)
        return ((1 - z) * (self.x_n(x) + r * self.h_n(h)).tanh() + z * h,)


class Layer(Loop):
    def __init__(self, width: int, backward: bool) -> None:
        super().__init__()
        self.i2h, self.h2h, self.backward = nn.Linear(width, 4), nn.Linear(4, 4), backward

    def step(self, x: Tensor, state: State) -> State:
        return ((self.i2h(x) + self.h2h(state[0])).tanh(),)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flip(0)).flip(0) if self.backward else super().forward(x)


class Deep(nn.Module):
    """Layers that count from 1, in two directions."""

    def __init__(self) -> None:
        super().__init__()
        self.fwd1, self.bwd1, self.fwd2, self.bwd2 = (Layer(width, d) for width in (3, 8) for d in (False, True))

    def forward(self, x: Tensor) -> Tensor:
        low = torch.cat([self.fwd1(x), self.bwd1(x)], dim=2)
        return torch.cat([self.fwd2(low), self.bwd2(low)], dim=2)


CLASSES: dict[str, tuple[type[nn.Module], Spec]] = {
    "transposed": (Transposed, Spec(kind="lstm", input_size=3, hidden_size=4, num_layers=1)),
    "by gate": (ByGate, Spec(kind="lstm", input_size=3, hidden_size=4, num_layers=1)),
    "side by side": (SideBySide, Spec(kind="lstm", input_size=3, hidden_size=4, num_layers=1)),
    "h, then x": (HThenX, Spec(input_size=3, hidden_size=4, num_layers=1)),
    "letters": (Letters, Spec(kind="gru", input_size=3, hidden_size=4, num_layers=1)),
    "bias on h": (BiasOnH, Spec(kind="gru", input_size=3, hidden_size=4, num_layers=1)),
    "deep": (Deep, Spec(input_size=3, hidden_size=4, num_layers=2, bidirectional=True)),
}


@pytest.mark.parametrize("case", CLASSES)
def test_a_class_that_is_given_weights_computes_what_torch_does(case: str) -> None:
    make, spec = CLASSES[case][0], replace(CLASSES[case][1], dtype="float64")
    network, modules = make().double(), {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
    own = dict(network.named_parameters(remove_duplicate=False))
    found = mappings_of("Own", {name: tuple(each.shape) for name, each in own.items()}, spec)
    weights = draw_weights(spec)
    module = modules[spec.kind](3, 4, spec.num_layers, bidirectional=spec.bidirectional).double()
    x = torch.randn(6, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    agreed = []
    for mapping in found:
        mapping.write(own, weights)
        module.load_state_dict(mapping.fold(weights))
        y, expected = network(x), module(x)[0]
        agreed.append(torch.allclose(y, expected, rtol=0, atol=1e-14))
        if agreed[-1]:
            gradients = torch.autograd.grad(y.square().sum(), list(own.values()))
            wanted = dict(
                zip(weights, torch.autograd.grad(expected.square().sum(), list(module.parameters())), strict=True)
            )
            got = mapping.read(dict(zip(own, gradients, strict=True)), gradients=True)
            assert got.keys() == wanted.keys() - mapping.folded.keys()
            assert all(torch.allclose(got[name], wanted[name], rtol=0, atol=1e-13) for name in got)
    assert agreed == {"side by side": [True, False], "h, then x": [False, True]}.get(case, [True])


@pytest.mark.parametrize(
    ("words", "kind", "expected"),
    [
        ("W_ih", "lstm", {("x", ""), ("h", "i")}),
        ("W_ih", "rnn", {("x", "")}),
        ("x2h.weight", "rnn", {("x", "")}),
        ("cell.igates.weight", "lstm", {("x", "g"), ("x", "")}),
        ("Uf", "lstm", {("", "f")}),
        ("recurrent_kernel", "rnn", {("h", "")}),
        ("h_rz.weight", "gru", {("h", "rz")}),
        ("layers.#.fc", "lstm", {("", "")}),
    ],
)
def test_the_ways_to_read_a_name(words: str, kind: str, expected: set[tuple[str, str]]) -> None:
    assert expected <= {(each.source, each.gate) for each in hints(words, kind)}
    assert not any(each.other for each in hints(words, kind))


@pytest.mark.parametrize("words", ["head.weight", "h2o.weight", "W_hq", "h0", "ln.weight"])
def test_what_is_no_part_of_a_recurrent_layer(words: str) -> None:
    assert all(each.other for each in hints(words, "rnn"))


@pytest.mark.parametrize(
    ("words", "yes"),
    [
        ("x2h.bias", True),
        ("bf", True),
        ("b_hh", True),
        ("b.#", True),
        ("bias_f", True),
        ("b.weight", False),
        ("W", False),
    ],
)
def test_which_names_are_those_of_biases(words: str, yes: bool) -> None:
    assert is_bias(words) is yes


PAIRS = """w_ih w_hh, W_ih W_hh, i2h h2h, in2hidden hid2hid, linear_ih linear_hh, input_to_hidden hidden_to_hidden,
x_linear h_linear, in_proj rec_proj, W_in W_rec, Win Wrec, W_input W_recurrent, fc_x fc_h, ih hh, x h,
weight_x weight_h, Wi Wh, input_weights hidden_weights, input_kernel hidden_kernel, kernel recurrent_kernel,
W_xh W_hh, W_hx W_hh, wih whh, W U, W R, input_layer hidden_layer, input_map recurrent_map"""


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("pair", re.split(r",\s", PAIRS))
def test_names_of_equal_shapes_tell_x_from_h(pair: str, kind: str) -> None:
    spec, rows = Spec(kind=kind, num_layers=1, input_size=20, bias=False), {"rnn": 20, "lstm": 80, "gru": 60}[kind]
    ih, hh = (f"{each}.weight" for each in pair.split())
    mapping = only(f"{hh} {ih}: {rows}x20", spec)
    assert [(each.own, each.names) for each in mapping.pieces] == [(ih, ("weight_ih_l0",)), (hh, ("weight_hh_l0",))]


SCHEMES = {
    "lstm": "W_{s}{g}, w{s}{g}, W_{g}{s}, {s}_{g}, {g}{s}, {g}.{s}, {s}2{g}, gates.{g}.W_{s}, {m}_{g}, {M}{g}",
    "gru": "W_{s}{g}, w{s}{g}, W_{g}{s}, {g}_{s}, {s}{g}, {s}2{g}, {M}_{g}, {m}{g}",
}
LONG_SCHEMES = (
    "{word}_gate.{s}2h, {s}_to_{word}, {word}_{from_}, {from_}_{word}, fc_{word}_{s}, {word}Gate{S}, {word}_{m}"
)
LETTERS = {"lstm": ("ifgo", "ifco", "ifjo"), "gru": ("rzn", "rzh", "ruc", "rzg")}
WORDS = {"lstm": ("input", "forget", "cell", "output"), "gru": ("reset", "update", "candidate")}

GATED = [
    (kind, scheme, gates)
    for kind in ("lstm", "gru")
    for schemes, alphabets in ((SCHEMES[kind], LETTERS[kind]), (LONG_SCHEMES, (WORDS[kind],)))
    for scheme in schemes.split(", ")
    for gates in alphabets
]


@pytest.mark.parametrize("x", ["x", "i"])
@pytest.mark.parametrize(("kind", "scheme", "gates"), GATED)
def test_names_of_equal_shapes_tell_the_gates(kind: str, scheme: str, gates: tuple[str, ...], x: str) -> None:
    sides = [{"s": x, "S": "X", "from_": "input", "m": "w", "M": "W"}]
    sides += [{"s": "h", "S": "H", "from_": "hidden", "m": "u", "M": "U"}]
    names = [[scheme.format(g=gate, word=gate, **side) + ".weight" for gate in gates] for side in sides]
    mapping = only(
        f"{' '.join(sorted(names[0] + names[1]))}: 20x20", Spec(kind=kind, num_layers=1, input_size=20, bias=False)
    )
    found = {(each.names[0], each.rows): each.own for each in mapping.pieces}
    assert [found["weight_ih_l0", (gate,)] for gate in range(len(gates))] == names[0]
    assert [found["weight_hh_l0", (gate,)] for gate in range(len(gates))] == names[1]


PLACES = [
    ("layer_{one}.{w}", 3, 1),
    ("stack.{k}.0.{w}", 2, 1),
    ("net.1.layers.{k}.{w}", 2, 1),
    ("rnn{k}.cell0.{w}", 2, 1),
    ("lstm_{word}.{w}", 1, 2),
    ("{word}_layers.{k}.{w}", 3, 2),
    ("{word}Cell{one}.{w}", 2, 2),
    ("rnn.{k}.{word}_cell.{w}", 2, 2),
    ("{w}_{word}.{k}", 2, 2),
    ("{w}_l{k}{reverse}", 2, 2),
    ("c{by_layer}.{w}", 2, 2),
    ("c.{by_direction}.{w}", 3, 2),
    ("cells.{k}.{d}.{w}", 2, 2),
    ("directions.{d}.{k}.{w}", 2, 2),
]


@pytest.mark.parametrize(("scheme", "layers", "directions"), PLACES)
def test_names_tell_layers_and_directions(scheme: str, layers: int, directions: int) -> None:
    expected, shapes = {}, dict[str, Shape]()
    for d in range(directions):
        for k in range(layers):
            numbers = {"k": k, "one": k + 1, "d": d, "by_layer": k * directions + d, "by_direction": d * layers + k}
            words = {"word": ("forward", "backward")[d], "reverse": "_reverse" * d}
            for w, base, columns in (("x2h", "weight_ih", 20 * directions if k else 10), ("h2h", "weight_hh", 20)):
                own = scheme.format(w=w, **numbers, **words) + ".weight"
                expected[own], shapes[own] = (f"{base}_l{k}{'_reverse' * d}",), (20, columns)
    spec = replace(RNN, num_layers=layers, bidirectional=directions == 2, bias=False)
    (mapping,) = mappings_of("Own", shapes, spec)
    assert {each.own: each.names for each in mapping.pieces} == expected
