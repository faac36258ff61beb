"""Weights and facts of LSTM, GRU and RNN nodes, of graphs that are built by hand and of both of torch's exporters.

A file that is broken, or would reach outside of its folder, is told in a sentence.
"""

import contextlib
import io
import json
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx_files import helper, module_of, nodes_of, numpy_helper, onnx, port, save, weights_of, written
from support import Cli

import rnnscope
from rnnscope.errors import RnnscopeError
from rnnscope.files.onnx_models import find_onnx_rnn
from rnnscope.files.tensors import read_file

KINDS = ["LSTM", "GRU", "RNN"]


def same(weights: dict[str, torch.Tensor], module: Any) -> bool:
    expected = module.state_dict()
    return weights.keys() == expected.keys() and all(
        torch.equal(weights[name], each) for name, each in expected.items()
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_become_those_of_torchs_module(
    tmp_path: Path, kind: str, layers: int, bidirectional: bool, bias: bool
) -> None:
    module = module_of(kind, layers, bidirectional=bidirectional, bias=bias)
    (rnn,) = rnnscope.checkpoint(written(tmp_path / "a.onnx", module)).rnns
    assert same(rnn.weights, module)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_weights_keep_their_dtype(tmp_path: Path, dtype: str) -> None:
    module = module_of("GRU").to(getattr(torch, dtype))
    (rnn,) = rnnscope.checkpoint(written(tmp_path / "a.onnx", module)).rnns
    assert (rnn.spec.dtype, same(rnn.weights, module)) == (dtype, True)


def test_bfloat16_is_read(tmp_path: Path) -> None:
    module = module_of("RNN", bias=False)
    bits = {
        role: torch.from_numpy(each).to(torch.bfloat16).view(torch.int16).numpy()
        for role, each in weights_of(module, 0).items()
    }
    kept = [
        helper.make_tensor(f"rnn_{role}_0", onnx.TensorProto.BFLOAT16, each.shape, each.tobytes(), raw=True)
        for role, each in bits.items()
    ]
    nodes, _, last = nodes_of(module, states=False)
    file = save(tmp_path / "a.onnx", nodes, [port("x", "L", "N", 3)], [port(last)], kept)
    assert same(rnnscope.checkpoint(file).rnns[0].weights, module.to(torch.bfloat16))


def exported(file: Path, module: Any, dynamo: bool, **how: Any) -> str:
    """A file of one of torch's exporters."""
    pytest.importorskip("onnxscript")
    rows = module.num_layers * (2 if module.bidirectional else 1)
    h = torch.zeros(rows, 2, 4)
    given = (torch.zeros(2, 5, 3), (h, h.clone()) if isinstance(module, torch.nn.LSTM) else h)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, given, str(file), dynamo=dynamo, **how)
    return str(file)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(
    ("kind", "dynamo"), [("LSTM", True), ("LSTM", False), ("GRU", True), ("GRU", False), ("RNN", False)]
)
def test_both_exporters_of_torch_are_read(
    tmp_path: Path, kind: str, dynamo: bool, layers: int, bidirectional: bool
) -> None:
    module = module_of(kind, layers, bidirectional=bidirectional, batch_first=True)
    (rnn,) = rnnscope.checkpoint(exported(tmp_path / "a.onnx", module, dynamo)).rnns
    assert same(rnn.weights, module)


def test_what_the_older_exporter_leaves_to_be_folded_is_folded(tmp_path: Path) -> None:
    module = module_of("LSTM", 2, bidirectional=True, batch_first=True)
    file = exported(tmp_path / "a.onnx", module, dynamo=False, do_constant_folding=False)
    assert {node.op_type for node in onnx.load(file).graph.node} >= {"Slice", "Concat", "Unsqueeze"}
    assert same(rnnscope.checkpoint(file).rnns[0].weights, module)


def test_a_network_that_an_exporter_unrolled_is_told(tmp_path: Path, cli: Cli) -> None:
    file = exported(tmp_path / "a.onnx", module_of("RNN", batch_first=True), dynamo=True)
    found = cli("weights", file)
    assert (found.code, found.out) == (2, "")
    assert "a.onnx has no LSTM, GRU or RNN node: what its exporter unrolled to MatMul" in found.err


def with_w(file: Path, nodes: list[Any], *kept: Any) -> str:
    """A GRU whose W comes from the last of some nodes."""
    module = module_of("GRU")
    own, rest, last = nodes_of(module, states=False)
    own[0].input[1] = nodes[-1].output[0]
    return save(file, [*nodes, *own], [port("x", "L", "N", 3)], [port(last)], [*rest, *kept])


W = weights_of(module_of("GRU"), 0)["W"]
CONSTANT = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(W))


def whole(name: str, *numbers: int) -> Any:
    return numpy_helper.from_array(np.array(numbers), name)


MOVED: dict[str, Callable[[Path], str]] = {
    "constant": lambda file: with_w(file, [CONSTANT]),
    "identity": lambda file: with_w(file, [CONSTANT, helper.make_node("Identity", ["w"], ["i"])]),
    "transpose": lambda file: with_w(
        file,
        [helper.make_node("Transpose", ["turned"], ["w"], perm=[0, 2, 1])],
        numpy_helper.from_array(W.transpose(0, 2, 1).copy(), "turned"),
    ),
    "unsqueeze": lambda file: with_w(
        file,
        [helper.make_node("Unsqueeze", ["flat", "axes"], ["w"])],
        numpy_helper.from_array(W[0], "flat"),
        whole("axes", 0),
    ),
    "squeeze": lambda file: with_w(
        file,
        [helper.make_node("Squeeze", ["deep", "axes"], ["w"])],
        numpy_helper.from_array(W[None], "deep"),
        whole("axes", 0),
    ),
    "concat": lambda file: with_w(
        file,
        [helper.make_node("Concat", ["a", "b"], ["w"], axis=1)],
        numpy_helper.from_array(W[:, :5], "a"),
        numpy_helper.from_array(W[:, 5:], "b"),
    ),
    "slice": lambda file: with_w(
        file,
        [helper.make_node("Slice", ["more", "from", "to", "axes"], ["w"])],
        numpy_helper.from_array(np.concatenate([W, W + 1], 1), "more"),
        whole("from", 0),
        whole("to", 12),
        whole("axes", 1),
    ),
    "split": lambda file: with_w(
        file,
        [
            helper.make_node("Split", ["more", "sizes"], ["other", "w_"], axis=1),
            helper.make_node("Identity", ["w_"], ["w"]),
        ],
        numpy_helper.from_array(np.concatenate([W + 1, W], 1), "more"),
        whole("sizes", 12, 12),
    ),
    "gather": lambda file: with_w(
        file,
        [helper.make_node("Gather", ["more", "which"], ["w"], axis=0)],
        numpy_helper.from_array(np.concatenate([W + 1, W]), "more"),
        whole("which", 1),
    ),
    "reshape": lambda file: with_w(
        file,
        [helper.make_node("Reshape", ["flat", "shape"], ["w"])],
        numpy_helper.from_array(W.reshape(-1), "flat"),
        whole("shape", 1, 12, 3),
    ),
    "cast": lambda file: with_w(
        file,
        [helper.make_node("Cast", ["double"], ["w"], to=onnx.TensorProto.FLOAT)],
        numpy_helper.from_array(W.astype("float64"), "double"),
    ),
}


@pytest.mark.parametrize("how", MOVED)
def test_weights_that_are_moved_together_in_the_graph_are_read(tmp_path: Path, how: str) -> None:
    assert same(rnnscope.checkpoint(MOVED[how](tmp_path / "a.onnx")).rnns[0].weights, module_of("GRU"))


def test_weights_that_are_computed_are_not_read(tmp_path: Path, cli: Cli) -> None:
    file = with_w(
        tmp_path / "a.onnx", [helper.make_node("Mul", ["half", "half"], ["w"])], numpy_helper.from_array(W, "half")
    )
    found = cli("weights", file)
    assert (found.code, "Not read: rnn_0: W of rnn_0 is computed in the graph" in found.out) == (0, True)


def test_weights_that_are_computed_are_none_to_compare_with(tmp_path: Path) -> None:
    file = with_w(
        tmp_path / "a.onnx", [helper.make_node("Mul", ["half", "half"], ["w"])], numpy_helper.from_array(W, "half")
    )
    with pytest.raises(RnnscopeError, match="W of rnn_0 is computed in the graph and does not stand in the file"):
        find_onnx_rnn(read_file(file), None)


EVERYTHING: dict[str, Any] = {
    "activations": ["Sigmoid", "Tanh", "Affine"],
    "activation_alpha": [0.5],
    "activation_beta": [0.25],
    "clip": 3.5,
    "direction": "reverse",
    "input_forget": 1,
    "layout": 1,
}


def test_every_attribute_is_told(tmp_path: Path, cli: Cli) -> None:
    file = written(tmp_path / "a.onnx", module_of("LSTM"), lengths=True, **EVERYTHING)
    (node,) = json.loads(cli("weights", file, "--json").out)["rnns"][0]["nodes"]
    assert node == {
        "name": "rnn_0",
        "operator": "LSTM",
        "in": [],
        "hidden_size": 4,
        "direction": "reverse",
        "layout": 1,
        "linear_before_reset": 0,
        "clip": 3.5,
        "input_forget": 1,
        "activations": ["Sigmoid", "Tanh", "Affine"],
        "inputs": {
            "X": "x",
            "W": "rnn_W_0",
            "R": "rnn_R_0",
            "B": "rnn_B_0",
            "sequence_lens": "lengths",
            "initial_h": "rnn_h0_0",
            "initial_c": "rnn_c0_0",
        },
        "outputs": {"Y": "rnn_Y_0", "Y_h": "rnn_h_0", "Y_c": "rnn_c_0"},
    }


def test_layers_that_feed_each_other_are_one_network(tmp_path: Path, cli: Cli) -> None:
    file = written(tmp_path / "a.onnx", module_of("GRU", 3, bidirectional=True))
    (found,) = json.loads(cli("weights", file, "--json").out)["rnns"]
    names = ("prefix", "form", "kind", "input_size", "hidden_size", "num_layers", "bidirectional", "bias", "dtype")
    assert [found[name] for name in names] == ["rnn_0", "module", "gru", 3, 4, 3, True, True, "float32"]
    assert [each["name"] for each in found["nodes"]] == ["rnn_0", "rnn_1", "rnn_2"]


def test_layers_between_which_something_is_computed_are_two_networks(tmp_path: Path) -> None:
    module = module_of("GRU", 2)
    nodes, kept, last = nodes_of(module, states=False)
    nodes.insert(2, helper.make_node("Relu", [nodes[2].input[0]], ["relu"]))
    nodes[3].input[0] = "relu"
    file = save(tmp_path / "a.onnx", nodes, [port("x", "L", "N", 3)], [port(last)], kept)
    assert [each.prefix for each in rnnscope.checkpoint(file).rnns] == ["rnn_0", "rnn_1"]


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "clips its gates at 0.5": ("LSTM", {"clip": 0.5}),
    "walks reverse alone": ("GRU", {"direction": "reverse"}),
    "couples its input and forget gates": ("LSTM", {"input_forget": 1}),
    "has the activations Sigmoid, Relu": ("GRU", {"activations": ["Sigmoid", "Relu"]}),
    "has the activations Elu": ("RNN", {"activations": ["Elu"]}),
}


@pytest.mark.parametrize("does", REFUSED)
def test_what_torch_lacks_makes_no_weights_of_torchs(tmp_path: Path, does: str) -> None:
    kind, said = REFUSED[does]
    file = written(tmp_path / "a.onnx", module_of(kind), **said)
    with pytest.raises(RnnscopeError, match=f"a.onnx: rnn_0 {does}, so that its weights make no nn.{kind}"):
        rnnscope.load(rnnscope.spec.options.Sources(weights=file), {})


@pytest.mark.parametrize("does", REFUSED)
def test_what_torch_lacks_is_listed(tmp_path: Path, cli: Cli, does: str) -> None:
    kind, said = REFUSED[does]
    found = cli("weights", written(tmp_path / "a.onnx", module_of(kind), **said))
    assert (found.code, f"rnn_0: it {does}" in " ".join(found.out.split())) == (0, True)


def with_peepholes(file: Path, size: float) -> str:
    module = module_of("LSTM")
    nodes, kept, last = nodes_of(module, states=False)
    nodes[0].input.extend(["", "", "p"])
    peepholes = numpy_helper.from_array(np.full((1, 12), size, "float32"), "p")
    return save(file, nodes, [port("x", "L", "N", 3)], [port(last)], [*kept, peepholes])


@pytest.mark.parametrize(("size", "refusal"), [(0.5, "has peepholes"), (0.0, None)])
def test_peepholes_count_unless_they_are_zeros(tmp_path: Path, size: float, refusal: str | None) -> None:
    assert rnnscope.checkpoint(with_peepholes(tmp_path / "a.onnx", size)).rnns[0].refusal == refusal


def test_linear_before_reset_of_0_is_told(tmp_path: Path, cli: Cli) -> None:
    found = cli("weights", written(tmp_path / "a.onnx", module_of("GRU"), linear_before_reset=0))
    assert "linear_before_reset is 0: it resets h before it multiplies" in " ".join(found.out.split())


def test_relu_is_recorded(tmp_path: Path) -> None:
    file = written(tmp_path / "a.onnx", module_of("RNN", 2, nonlinearity="relu", bidirectional=True))
    assert rnnscope.load(rnnscope.spec.options.Sources(weights=file), {}).spec.nonlinearity == "relu"


def test_a_flag_must_not_contradict_the_recorded_nonlinearity(tmp_path: Path, cli: Cli) -> None:
    file = written(tmp_path / "a.onnx", module_of("RNN", nonlinearity="relu"))
    found = cli("compare", "--weights", file, "--nonlinearity", "tanh")
    assert (found.code, "--nonlinearity tanh contradicts" in found.err) == (2, True)


def in_a_body(file: Path) -> str:
    """A GRU in the body of an If, with its weights outside of it."""
    nodes, kept, last = nodes_of(module_of("GRU"), states=False)
    bodies = [
        helper.make_graph(nodes, "then", [], [port(last)]),
        helper.make_graph([helper.make_node("Identity", ["x"], ["as_it_is"])], "else", [], [port("as_it_is")]),
    ]
    both = dict(zip(("then_branch", "else_branch"), bodies, strict=True))
    node = helper.make_node("If", ["which"], ["y"], "choice", **both)
    inputs = [port("x", "L", "N", 3), port("which", dtype=onnx.TensorProto.BOOL)]
    return save(file, [node], inputs, [port("y")], kept)


def test_a_node_in_a_body_is_found(tmp_path: Path) -> None:
    (rnn,) = rnnscope.checkpoint(in_a_body(tmp_path / "a.onnx")).rnns
    assert (rnn.nodes[0]["in"], rnn.notes) == (["If choice"], ("it stands in the body of If choice",))
    assert same(rnn.weights, module_of("GRU"))


def test_nodes_without_names_get_some(tmp_path: Path) -> None:
    first, second = (nodes_of(module_of("GRU", seed=seed), name=name, states=False) for seed, name in enumerate("ab"))
    for node in (*first[0], *second[0]):
        node.name = ""
    outputs = [port(first[2]), port(second[2])]
    file = save(tmp_path / "a.onnx", first[0] + second[0], [port("x", "L", "N", 3)], outputs, first[1] + second[1])
    assert [each.prefix for each in rnnscope.checkpoint(file).rnns] == ["GRU_0", "GRU_1"]


def test_a_function_of_the_model_is_not_looked_into_and_that_is_said(tmp_path: Path, cli: Cli) -> None:
    nodes, kept, last = nodes_of(module_of("GRU"), states=False)
    opsets = [helper.make_opsetid("", 17)]
    inner = helper.make_node("GRU", ["a", "b", "c"], ["d"], hidden_size=4)
    function = helper.make_function("mine", "Layer", ["a", "b", "c"], ["d"], [inner], opsets)
    graph = helper.make_graph(nodes, "graph", [port("x", "L", "N", 3)], [port(last)], kept)
    model = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    found = cli("weights", str(tmp_path / "a.onnx"))
    assert "Note: the function Layer has RNN nodes, which were not looked into." in found.out


def test_the_weights_of_a_node_are_converted(tmp_path: Path) -> None:
    module = module_of("LSTM", 2, bidirectional=True)
    file = written(tmp_path / "a.onnx", module)
    rnnscope.convert(file, str(tmp_path / "a.pt"), to="module")
    assert same(torch.load(tmp_path / "a.pt", weights_only=True), module)


# What is refused.


def test_without_onnx_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "a.onnx", module_of("GRU"))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(RnnscopeError, match="ONNX needs the package onnx") as caught:
        read_file(file)
    assert "[onnx]" in str(caught.value.hint)


def changed(file: Path, change: Callable[[Any], None]) -> str:
    """The file of a GRU in which something was changed."""
    written(file, module_of("GRU"))
    model = onnx.load(str(file))
    change(model)
    file.write_bytes(model.SerializeToString())
    return str(file)


def outside(location: str, **said: str) -> Callable[[Any], None]:
    """W stands in another file."""

    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": location, **said}.items():
            tensor.external_data.add(key=key, value=value)

    return change


def set_w(array: Any) -> Callable[[Any], None]:
    return lambda model: model.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "rnn_W_0"))


def set_opset(model: Any) -> None:
    model.opset_import[0].version = 6


def of_somebody(model: Any) -> None:
    next(node for node in model.graph.node if node.op_type == "GRU").domain = "com.example"


def too_few(model: Any) -> None:
    model.graph.initializer[0].raw_data = b"1234"


def too_many(model: Any) -> None:
    model.graph.initializer[0].dims[0] = 2**50


def negative(model: Any) -> None:
    model.graph.initializer[0].dims[0] = -1


BROKEN: dict[str, tuple[Callable[[Any], None], str]] = {
    "gone": (outside("gone.bin"), "stand in 'gone.bin', which is not there"),
    "up": (outside("../a.bin"), "stand in '../a.bin', which is not in the model's own folder"),
    "absolute": (outside("/etc/passwd"), "'/etc/passwd', which is not in the model's own folder"),
    "drive": (outside("C:\\a.bin"), "which is not in the model's own folder"),
    "nameless": (outside(""), "which is not in the model's own folder"),
    "nul": (outside("a\0b"), "which cannot be read"),
    "short": (outside("a.onnx", offset="0", length="9999999"), "bytes and not 0 \\+ 9999999"),
    "negative": (outside("a.onnx", offset="-8", length="8"), "bytes and not -8 \\+ 8"),
    "odd": (outside("a.onnx", offset="many"), "which cannot be read"),
    "nan": (set_w(np.full((1, 12, 3), np.nan, "float32")), "W of rnn_0 holds NaN or infinity, first at \\[0, 0, 0\\]"),
    "misshapen": (set_w(np.zeros((1, 11, 3), "float32")), "W of rnn_0 has shape \\(1, 11, 3\\), but it must be"),
    "integers": (set_w(np.zeros((1, 12, 3), "int64")), "W of rnn_0 is int64, but it must be one of"),
    "mixed": (set_w(np.zeros((1, 12, 3), "float64")), "W of rnn_0 is float64, but R is float32"),
    "opset": (set_opset, "its opset is 6, and before 7"),
    "domain": (of_somebody, "GRU is an operator of 'com.example'"),
    "few": (too_few, "rnn_W_0 of float and dims \\(1, 12, 3\\) is not whole"),
    "many": (too_many, "is not whole"),
    "dims": (negative, "rnn_W_0 has the dims \\(-1, 12, 3\\)"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_told_in_a_sentence(tmp_path: Path, how: str) -> None:
    change, sentence = BROKEN[how]
    with pytest.raises(RnnscopeError, match=sentence) as caught:
        rnnscope.checkpoint(changed(tmp_path / "a.onnx", change))
    assert caught.value.message.startswith(str(tmp_path / "a.onnx"))


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(1000))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "w.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(RnnscopeError, match="which is not in the model's own folder"):
        rnnscope.checkpoint(changed(tmp_path / "in" / "a.onnx", outside("w.bin")))


def test_numbers_beside_the_model_are_read(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(7) + weights_of(module_of("GRU"), 0)["W"].tobytes())
    file = changed(tmp_path / "a.onnx", outside("w.bin", offset="7", length=str(12 * 3 * 4)))
    assert same(rnnscope.checkpoint(file).rnns[0].weights, module_of("GRU"))


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04", bytes(100), b"\x08\x08"])
def test_what_is_no_model_is_told(tmp_path: Path, cli: Cli, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    found = cli("weights", str(tmp_path / "a.onnx"))
    assert (found.code, found.err.count("\n"), "a.onnx is " in found.err) == (2, 1, True)


def test_a_model_under_another_ending_is_told(tmp_path: Path, cli: Cli) -> None:
    file = written(tmp_path / "a.onnx", module_of("GRU"))
    Path(file).rename(tmp_path / "a.pt")
    assert "a.pt is an ONNX model under another ending; name it .onnx" in cli("weights", str(tmp_path / "a.pt")).err


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_file_is_told(tmp_path: Path, kind: str) -> None:
    whole_file = Path(written(tmp_path / "a.onnx", module_of(kind, 2, bidirectional=True))).read_bytes()
    bad = tmp_path / "b.onnx"
    for size in range(0, len(whole_file), 13):
        bad.write_bytes(whole_file[:size])
        with pytest.raises(RnnscopeError):
            rnnscope.checkpoint(str(bad))


@pytest.mark.parametrize("seed", range(200))
def test_flipped_bytes_are_no_crash(tmp_path: Path, seed: int) -> None:
    content = bytearray(Path(written(tmp_path / "a.onnx", module_of("GRU", 2))).read_bytes())
    chance = random.Random(seed)
    for _ in range(1 + seed % 5):
        content[chance.randrange(len(content))] = chance.randrange(256)
    (tmp_path / "b.onnx").write_bytes(content)
    with contextlib.suppress(RnnscopeError):
        rnnscope.checkpoint(str(tmp_path / "b.onnx"))
