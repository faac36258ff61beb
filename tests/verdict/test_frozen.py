"""Exports that do at other sizes what they do not do where they were made: made by stand-ins, so that each is known."""

import json
from pathlib import Path
from typing import Any

import pytest
from stand_in_exports import Around, DropsH0, First7, OneBatch, RightAt7, legacy, refusing, scripted, stand_in
from support import Cli

from rnnscope import Comparison, RnnscopeError, Spec, compare, sweep
from rnnscope.subjects import exports
from rnnscope.subjects.exporter import Made

GRU = Spec(kind="gru", num_layers=1, seq_len=9, batch_size=2)


def judged(monkeypatch: pytest.MonkeyPatch, around: type[Around], spec: Spec = GRU, **how: Any) -> Comparison:
    stand_in(monkeypatch, legacy(around))
    found = compare(spec, "module", "onnx@legacy", **how)
    assert isinstance(found, Comparison)
    return found


def text_of(cli: Cli, *words: str) -> str:
    answer = cli("compare", "--kind", "gru", "--layers", "1", "--right", "onnx@legacy", *words)
    assert answer.err == ""
    return " ".join(answer.out.split())


# What fails, and what has another shape.


@pytest.mark.parametrize("sizes", [(9, 2), (7, 2), (3, 5)])
def test_a_batch_that_is_frozen_is_a_finding(monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int]) -> None:
    found = judged(monkeypatch, OneBatch, Spec(kind="gru", num_layers=1, seq_len=sizes[0], batch_size=sizes[1]))
    assert (found.verdict, found.cause, found.side, found.exit_code) == ("different", "frozen", "right", 1)
    assert found.frozen is not None
    assert found.frozen.made_at == (9 if sizes[0] == 7 else 7, 3)
    assert found.frozen.there == "equivalent"
    assert found.frozen.reason.startswith("Reshape: ")
    assert "\n" not in found.frozen.reason


def test_another_shape_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    found = judged(monkeypatch, First7)
    assert (found.verdict, found.cause) == ("different", "frozen")
    assert found.frozen is not None
    assert (found.frozen.output, found.frozen.shape, found.frozen.expected) == ("y", (7, 2, 20), (9, 2, 20))


def test_what_is_not_frozen_at_these_sizes_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    found = judged(monkeypatch, OneBatch, Spec(kind="gru", num_layers=1, batch_size=3), traced_at=(7, 3))
    assert found.verdict in ("identical", "equivalent")


@pytest.mark.parametrize("sizes", [(7, 4), (9, 2)])
def test_what_fails_everywhere_is_trouble(monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int]) -> None:
    stand_in(monkeypatch, legacy(OneBatch, made_at=(7, 3)))
    with pytest.raises(RnnscopeError, match=r"^onnx@legacy fails: Reshape: .*[^.]$"):
        compare(GRU, "module", "onnx@legacy", traced_at=sizes)


def test_the_left_side_may_be_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, legacy(OneBatch))
    found = compare(GRU, "onnx@legacy", "module")
    assert (found.cause, found.side) == ("frozen", "left")


def test_the_page_of_a_frozen_batch(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    stand_in(monkeypatch, legacy(OneBatch))
    text = text_of(cli, "--seq-len", "9", "--batch", "2")
    assert "L = 9, N = 2 asked for fails L = 7, N = 3 made at equivalent" in text
    assert (
        "Verdict: different: the right side (onnx@legacy) is frozen: it is the same function at L = 7, N = 3, where it "
        "was made, and at L = 9, N = 2 it fails." in text
    )
    assert "Why: The right side (onnx@legacy) says: Reshape: " in text
    assert "Blind spot" not in text
    assert "More: rnnscope explain frozen Run:" in text


def test_the_page_of_another_shape(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    stand_in(monkeypatch, legacy(First7))
    text = text_of(cli, "--seq-len", "9", "--batch", "2")
    assert "y has shape (7, 2, 20), torch has (9, 2, 20)" in text
    assert "and at L = 9, N = 2 it gives another shape." in text
    assert "Why:" not in text


def test_what_is_another_function_there_too_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Both(OneBatch):
        def forward(self, x: Any, hx: Any) -> Any:
            y, h = super().forward(x, hx)
            return 2 * y, h

    found = judged(monkeypatch, Both)
    assert found.frozen is not None
    assert (found.cause, found.frozen.there) == ("frozen", "different")


def test_json_has_what_was_found(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    stand_in(monkeypatch, legacy(First7))
    words = ("--kind", "gru", "--layers", "1", "--seq-len", "9", "--right", "onnx@legacy", "--json")
    found = json.loads(cli("compare", *words).out)
    assert (found["cause"], found["frozen"]["made_at"], found["frozen"]["output"]) == ("frozen", [7, 3], "y")
    assert found["only_where_made"] is None
    assert found["more"] == ["frozen"]


# In chunks.


@pytest.mark.parametrize("reference", [True, False])
def test_chunks_of_a_right_export_are_the_same(monkeypatch: pytest.MonkeyPatch, reference: bool) -> None:
    stand_in(monkeypatch, legacy())
    found = compare(GRU, "module", "onnx@legacy", chunk=2, reference=reference)
    assert found.verdict in ("identical", "equivalent")


@pytest.mark.parametrize("reference", [True, False])
def test_a_batch_is_frozen_in_chunks_too(monkeypatch: pytest.MonkeyPatch, reference: bool) -> None:
    stand_in(monkeypatch, legacy(OneBatch))
    found = compare(GRU, "module", "onnx@legacy", chunk=2, reference=reference)
    assert (found.cause, found.exit_code) == ("frozen", 1)


# What gives other values.


def test_other_values_at_other_sizes_are_told(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    stand_in(monkeypatch, legacy(RightAt7))
    text = text_of(cli, "--seq-len", "9", "--batch", "2")
    assert "Verdict: different: not the same function" in text
    assert (
        "Why: The right side (onnx@legacy) is the same function at L = 7, N = 3, where it was made; at L = 9, N = 2 it "
        "gives other values." in text
    )
    assert "no known deviation" not in text


def test_json_has_the_sizes_at_which_it_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    found = judged(monkeypatch, RightAt7)
    assert (found.cause, found.facts()["only_where_made"]) == ("function", {"side": "right", "made_at": (7, 3)})


def test_other_values_where_it_was_made_too_are_no_matter_of_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = judged(monkeypatch, RightAt7, traced_at=(8, 3))
    assert (found.cause, found.only_where_made) == ("function", None)


# Wrong programs that are no matter of sizes.


def swap_r_and_z(model: Any) -> None:
    from onnx import numpy_helper

    for each in model.graph.initializer:
        array = numpy_helper.to_array(each)
        if array.ndim == 3:  # (D, 3·H, ·), in which ONNX has the gates z r h
            z, r, n = array[:, :20], array[:, 20:40], array[:, 40:]
            import numpy

            each.CopyFrom(numpy_helper.from_array(numpy.concatenate((r, z, n), 1), each.name))
    for each in model.graph.initializer:
        array = numpy_helper.to_array(each)
        if array.ndim == 2 and array.shape[1] == 120:
            import numpy

            parts = [array[:, start : start + 20] for start in range(0, 120, 20)]
            order = [parts[1], parts[0], parts[2], parts[4], parts[3], parts[5]]
            each.CopyFrom(numpy_helper.from_array(numpy.concatenate(order, 1), each.name))


def reset_before_the_matmul(model: Any) -> None:
    node = next(each for each in model.graph.node if each.op_type == "GRU")
    attribute = next(each for each in node.attribute if each.name == "linear_before_reset")
    attribute.i = 0


@pytest.mark.parametrize(
    ("mend", "deviation"),
    [(swap_r_and_z, "gates z r n"), (reset_before_the_matmul, "reset before the matmul")],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_a_wrong_graph_is_named(monkeypatch: pytest.MonkeyPatch, mend: Any, deviation: str) -> None:
    stand_in(monkeypatch, legacy(mend=mend))
    found = compare(GRU, "module", "onnx@legacy")
    assert (found.cause, found.side) == ("function", "right")
    assert deviation in {name for each in found.explanations for name in each.deviations}


def test_a_dropped_h0_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, scripted(DropsH0))
    found = compare(GRU, "module", "scripted")
    assert (found.cause, found.side) == ("function", "right")
    assert "h0 ignored" in {name for each in found.explanations for name in each.deviations}


def test_a_right_program_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, scripted())
    assert compare(GRU, "module", "scripted").verdict == "identical"


def test_one_that_cannot_be_made_is_trouble_in_one_sentence(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    stand_in(monkeypatch, refusing("no such operator"))
    answer = cli("compare", "--kind", "gru", "--right", "exported")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "rnnscope: exported cannot be made of nn.GRU: no such operator\n"


# Sweeps.


def test_a_sweep_makes_an_export_once_for_all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = stand_in(monkeypatch, legacy())
    axes = {"kind": ("gru",), "seq_len": (2, 5, 11), "batch_size": (1, 2), "right": ("onnx@legacy",)}
    found = sweep(axes)
    assert found is not None
    assert found.total.counts["equivalent"] + found.total.counts.get("identical", 0) == 6
    assert [(each.seq_len, each.batch_size) for each in made] == [(7, 3)]


def test_one_that_cannot_be_made_is_a_row_of_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, refusing("no such operator"))
    found = sweep({"kind": ("gru",), "right": ("onnx@legacy",)})
    assert found is not None
    assert found.messages == [("failed", "onnx@legacy cannot be made of nn.GRU: no such operator", 1)]


def test_exports_beyond_those_that_are_kept_leave_no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = stand_in(monkeypatch, scripted())
    monkeypatch.setattr(exports, "MOST_KEPT", 2)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = sweep({"kind": ("gru",), "num_layers": (1, 2, 3), "reference": (False,), "right": ("scripted",)})
    assert found is not None
    assert found.total.counts["identical"] == 3
    assert len(made) == 6
    assert len(list(tmp_path.iterdir())) <= 1


def test_a_sweep_makes_one_for_each_network(monkeypatch: pytest.MonkeyPatch) -> None:
    made = stand_in(monkeypatch, legacy())
    sweep({"kind": ("gru",), "seed": (0, 1), "hidden_size": (4, 5), "right": ("onnx@legacy",), "seq_len": (2, 3)})
    assert len(made) == 4


def test_the_smallest_that_is_frozen_is_frozen_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, legacy(First7))
    found = sweep({"kind": ("gru",), "seq_len": (12,), "num_layers": (1,), "right": ("onnx@legacy",)})
    assert found is not None
    assert found.smallest is not None
    assert "--seq-len 8 --batch 1" in found.smallest
    assert "--hidden-size 1 " in found.smallest


def test_told_says_which_ways_were_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = (("Dim.DYNAMIC", "it is a constant (7)"), ("named Dims", "it is a constant (7)"))
    stand_in(monkeypatch, legacy(), Made(way="Dim.AUTO", refused=refused, nodes=("GRU",)))
    found = compare(GRU, "module", "onnx@legacy")
    ((side, told),) = found.adaptations
    assert side == "right"
    assert told[1] == "Dim.DYNAMIC and named Dims refused: it is a constant (7)"
    assert "at L = 7, N = 3, with Dim.AUTO" in told[0]
