"""Programs as sides: a runtime that is written in NumPy is found right, and what is planted in it is found and named."""

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from rnnscope import Spec, compare
from rnnscope.verdict.result import Comparison

RUNTIME = ROOT / "tests" / "numpy_runtime.py"


def runtime(fault: str = "") -> str:
    """The runtime as a side, with a fault planted in it."""
    words = shlex.join([sys.executable, str(RUNTIME)])
    return f"command:{words} {{in}} {{out}} {{spec}} {shlex.quote(fault)}"


def asked(fault: str = "", right: str | None = None, **spec: Any) -> Comparison:
    question = {name: spec.pop(name) for name in ("stress", "power", "map") if name in spec}
    sizes = {"input_size": 6, "hidden_size": 12, "num_layers": 1, "seq_len": 4, "batch_size": 5, "threads": 1}
    if "lengths" in spec:
        del sizes["seq_len"], sizes["batch_size"]
    if spec.get("unbatched"):
        del sizes["batch_size"]
    found: Comparison = compare(Spec(**sizes | spec), "module", right or runtime(fault), **question)
    return found


RIGHT: list[dict[str, Any]] = [
    {"kind": "rnn", "num_layers": 2},
    {"kind": "rnn", "nonlinearity": "relu"},
    {"kind": "rnn", "num_layers": 2, "bidirectional": True, "lengths": (2, 4, 1)},
    {"kind": "rnn", "unbatched": True, "bias": False},
    {"kind": "lstm"},
    {"kind": "lstm", "num_layers": 2, "proj_size": 2, "bidirectional": True},
    {"kind": "lstm", "batch_first": True, "bidirectional": True, "lengths": (4, 2, 3)},
    {"kind": "lstm", "dtype": "float64", "num_layers": 3},
    {"kind": "gru"},
    {"kind": "gru", "num_layers": 2, "bidirectional": True, "bias": False},
    {"kind": "gru", "batch_first": True, "lengths": (3, 4)},
    {"kind": "gru", "h0": "zeros", "seq_len": 1},
    {"kind": "gru", "dtype": "float16"},
]


@pytest.mark.parametrize("spec", RIGHT, ids=str)
def test_a_right_runtime_is_called_right(spec: dict[str, Any]) -> None:
    found = asked(**spec)
    assert found.verdict in ("identical", "equivalent")
    assert found.reference is not None
    assert found.reference.without_float64 == ()


LSTM, GRU, RNN = ({"kind": kind} for kind in ("lstm", "gru", "rnn"))
BOTH, PACKED = {"bidirectional": True}, {"lengths": (2, 4, 3)}

NAMED: list[tuple[str, dict[str, Any], str]] = [
    ("gates i o f g", LSTM, "gates i o f g"),
    ("gates i f o g", LSTM, "gates i f o g"),
    ("gates z r n", GRU, "gates z r n"),
    ("reset before the matmul", GRU, "reset before the matmul"),
    ("update gate inverted", GRU, "update gate inverted"),
    ("bias_hh dropped", LSTM, "b_hh dropped"),
    ("forget bias", LSTM, "forget bias of 1"),
    ("h0 ignored", GRU, "h0 ignored"),
    ("c0 ignored", LSTM, "c0 ignored"),
    ("projection ignored", LSTM | {"proj_size": 2}, "projection left out"),
    ("relu for tanh", RNN, "tanh and relu swapped"),
    ("tanh for relu", RNN | {"nonlinearity": "relu"}, "tanh and relu swapped"),
    ("hard sigmoid", GRU, "hard sigmoid"),
    ("tanh of c left out", LSTM, "tanh missing on the cell state"),
    ("c clipped at 1", LSTM | {"seed": 1}, "cell state clipped at 1"),
    ("W_hh transposed", GRU, "W_hh transposed"),
    ("h and c swapped", LSTM, "h and c swapped"),
    ("backward direction not reversed", RNN | BOTH, "backward direction fed forward"),
    ("backward outputs not flipped back", LSTM | BOTH, "backward outputs not flipped back"),
    ("directions swapped in h", GRU | BOTH, "directions swapped in h"),
    ("lengths ignored", RNN | PACKED, "lengths ignored"),
    ("batch_first ignored", RNN | {"batch_first": True, "seq_len": 5}, "batch and time swapped"),
]


@pytest.mark.usefixtures("single_deviations")
@pytest.mark.parametrize(("fault", "spec", "name"), NAMED, ids=[fault for fault, _, _ in NAMED])
def test_a_planted_fault_is_named(fault: str, spec: dict[str, Any], name: str) -> None:
    found = asked(fault, **spec)
    assert (found.verdict, found.side) == ("different", "right")
    assert name in [each.convention for each in found.explanations]


NAMELESS: list[tuple[str, dict[str, Any]]] = [
    ("states of the layers swapped", RNN | {"num_layers": 2}),
    ("backward state at the wrong end", GRU | BOTH),
    ("last step dropped", LSTM),
    ("y of the step before", GRU),
    ("padding not zeroed", RNN | PACKED),
    ("state of the first item for all", RNN),
    ("c clipped at 0.7", LSTM),
    ("bias_hh of the top layer dropped", GRU | {"num_layers": 2}),
]


@pytest.mark.usefixtures("single_deviations")
@pytest.mark.parametrize(("fault", "spec"), NAMELESS, ids=[fault for fault, _ in NAMELESS])
def test_a_planted_fault_without_a_name_is_found(fault: str, spec: dict[str, Any]) -> None:
    found = asked(fault, **spec)
    assert (found.verdict, found.cause, found.side, found.explanations) == ("different", "function", "right", ())
