"""The formulas: by hand for the worked example, and for random Specs against what nn.RNN and the cells give."""

from dataclasses import replace
from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import PLAIN_SPECS

from rnnscope import Spec, observed_shapes, shapes_of
from rnnscope.network.shapes import parameters
from rnnscope.shapes.result import Mismatch
from rnnscope.spec.options import PATHS
from rnnscope.subjects import builtin as subjects


def test_the_worked_example_by_hand() -> None:
    shapes = shapes_of(Spec(input_size=10, hidden_size=20, num_layers=2, seq_len=3, batch_size=5))
    assert {each.name: (each.dims, each.shape) for each in shapes.tensors} == {
        "x": (("L", "N", "H_in"), (3, 5, 10)),
        "h0": (("D·K", "N", "H_out"), (2, 5, 20)),
        "y": (("L", "N", "D·H_out"), (3, 5, 20)),
        "h": (("D·K", "N", "H_out"), (2, 5, 20)),
    }


def test_batch_first_moves_x_and_y_and_never_the_state() -> None:
    shapes = shapes_of(Spec(batch_first=True))
    assert {each.name: each.shape for each in shapes.tensors} == {
        "x": (5, 3, 10),
        "h0": (2, 5, 20),
        "y": (5, 3, 20),
        "h": (2, 5, 20),
    }


def test_parameters_by_hand() -> None:
    assert [(each.name, each.cell_name, each.shape, each.count) for each in parameters(Spec())] == [
        ("weight_ih_l0", "cells.0.weight_ih", (20, 10), 200),
        ("weight_hh_l0", "cells.0.weight_hh", (20, 20), 400),
        ("bias_ih_l0", "cells.0.bias_ih", (20,), 20),
        ("bias_hh_l0", "cells.0.bias_hh", (20,), 20),
        ("weight_ih_l1", "cells.1.weight_ih", (20, 20), 400),
        ("weight_hh_l1", "cells.1.weight_hh", (20, 20), 400),
        ("bias_ih_l1", "cells.1.bias_ih", (20,), 20),
        ("bias_hh_l1", "cells.1.bias_hh", (20,), 20),
    ]


@pytest.mark.parametrize(
    ("spec", "count", "macs"),
    [
        # 20·10 + 20·20 + 20·20 + 20·20 = 1,400 products for each of 3·5 steps; the biases add 4·20 parameters.
        (Spec(), 1_480, 21_000),
        (Spec(bias=False), 1_400, 21_000),
        (Spec(num_layers=1), 640, 9_000),
        (Spec(input_size=1, hidden_size=1, num_layers=3, seq_len=7, batch_size=2), 12, 84),
        (Spec(batch_size=0), 1_480, 0),
    ],
)
def test_counts_by_hand(spec: Spec, count: int, macs: int) -> None:
    shapes = shapes_of(spec)
    assert (shapes.parameter_count, shapes.macs) == (count, macs)


@given(PLAIN_SPECS)
def test_every_shape_comes_out_as_its_formula_says(spec: Spec) -> None:
    shapes = observed_shapes(spec)
    assert (shapes.mismatches, shapes.exit_code) == ((), 0)
    outputs = {each.name: each.shape for each in shapes.tensors if each.name in ("y", "h")}
    assert shapes.actual == {path: outputs for path in PATHS}


@given(PLAIN_SPECS)
def test_the_count_is_that_of_torch(spec: Spec) -> None:
    module = torch.nn.RNN(spec.input_size, spec.hidden_size, spec.num_layers, bias=spec.bias)
    assert shapes_of(spec).parameter_count == sum(each.numel() for each in module.parameters())


@given(PLAIN_SPECS)
def test_a_formula_that_torch_does_not_follow_is_found(spec: Spec) -> None:
    wrong = tuple(
        replace(each, shape=(*each.shape, 1)) if each.name == "h" else each for each in shapes_of(spec).tensors
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rnnscope.shapes.result.tensor_shapes", lambda _: wrong)
        shapes = observed_shapes(spec)
    h = (spec.num_layers, spec.batch_size, spec.hidden_size)
    assert shapes.mismatches == tuple(Mismatch(path, "h", (*h, 1), h) for path in PATHS)
    assert shapes.exit_code == 1


def test_a_parameter_that_is_missing_or_too_many_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def build_other(spec: Spec) -> torch.nn.Module:
        return torch.nn.RNN(spec.input_size, spec.hidden_size, 1, bias=False)

    monkeypatch.setitem(subjects.BUILDERS, "module", build_other)
    shapes = observed_shapes(Spec(num_layers=1), ("module",))
    assert shapes.mismatches == (
        Mismatch("module", "bias_hh_l0", (20,), None),
        Mismatch("module", "bias_ih_l0", (20,), None),
    )


FAMILY = st.builds(
    lambda kind, form, **facts: Spec(**kind, **form, **facts),
    st.sampled_from([{"kind": "lstm"}, {"kind": "gru"}, {"kind": "lstm", "proj_size": 2}, {"kind": "rnn"}]),
    st.sampled_from([{"batch_size": 0}, {"batch_size": 3}, {"unbatched": True}, {"lengths": (2, 4, 1)}]),
    hidden_size=st.integers(3, 6),
    num_layers=st.integers(1, 3),
    bias=st.booleans(),
    batch_first=st.booleans(),
    bidirectional=st.booleans(),
    dtype=st.sampled_from(["float32", "float64", "bfloat16", "float16"]),
)


@given(FAMILY)
def test_every_kind_and_form_comes_out_as_its_formula_says(spec: Spec) -> None:
    shapes = observed_shapes(spec)
    assert shapes.mismatches == ()
    assert shapes.paths == (("module",) if spec.proj_size else PATHS)


@given(FAMILY)
def test_the_count_of_every_kind_is_that_of_torch(spec: Spec) -> None:
    module = subjects.build_module(spec)
    assert shapes_of(spec).parameter_count == sum(each.numel() for each in module.parameters())


@pytest.mark.parametrize(
    ("spec", "count", "macs", "size"),
    [
        # One step of LSTMCell(10, 20) at batch 5: 4·20·(10 + 20)·5.
        (Spec(kind="lstm", num_layers=1, seq_len=1), 80 * 32, 12_000, 4),
        # Of a packed input the 5 + 3 + 3 + 1 real steps count: 12·3·20·(10 + 20).
        (Spec(kind="gru", num_layers=1, lengths=(5, 3, 3, 1)), 60 * 32, 12 * 1_800, 4),
        # 4·20·(10 + 8) for the gates and 8·20 for the projection, in 3·5 steps; the biases add 2·80.
        (Spec(kind="lstm", proj_size=8, num_layers=1, dtype="float64"), 1_440 + 160 + 160, 15 * 1_600, 8),
        # Both directions: twice, and the second layer takes 2·20.
        (Spec(bidirectional=True, dtype="float16"), 2 * (20 * 32 + 20 * 62), 15 * 2 * (600 + 1_200), 2),
    ],
)
def test_counts_of_the_family_by_hand(spec: Spec, count: int, macs: int, size: int) -> None:
    shapes = shapes_of(spec)
    assert (shapes.parameter_count, shapes.macs, shapes.parameter_bytes) == (count, macs, size * count)
    assert [each.bytes for each in shapes.tensors] == [size * prod(each.shape) for each in shapes.tensors]


def test_one_path_runs_that_path_alone() -> None:
    shapes = observed_shapes(Spec(), ("cells",))
    assert list(shapes.actual or {}) == ["cells"]


def test_an_empty_batch_has_shapes() -> None:
    shapes = observed_shapes(Spec(batch_size=0))
    assert shapes.actual is not None
    assert shapes.actual["module"]["y"] == shapes.actual["cells"]["y"] == (3, 0, 20)


def test_the_last_state_of_the_top_layer_is_where_the_page_says() -> None:
    module = torch.nn.RNN(10, 20, 2, batch_first=True)
    y, h = module(torch.ones(5, 3, 10))
    assert torch.equal(h[-1], y[:, -1])
    module.batch_first = False
    y, h = module(torch.ones(3, 5, 10))
    assert torch.equal(h[-1], y[-1])
