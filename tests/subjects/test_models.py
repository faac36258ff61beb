"""Files of models as sides: onnxruntime on graphs that are built by hand, and programs of torch.export, against torch.

What could run code in a file is never reached; the witness is a file that would be made.
"""

import io
import json
import os
import pickle
import random
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from onnx_files import concat, helper, input_of, module_of, nodes_of, numpy_helper, onnx, port, save, written
from support import Cli
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import rnnscope
from rnnscope import Spec
from rnnscope.errors import RnnscopeError
from rnnscope.subjects import models
from rnnscope.subjects.exported_programs import read_program
from rnnscope.subjects.foreign import Refused
from rnnscope.subjects.models import opened
from rnnscope.verdict.page import verdict_in_words

pytest.importorskip("onnxruntime")

KINDS = ["LSTM", "GRU", "RNN"]


def told(found: rnnscope.Comparison) -> str:
    return "; ".join(each for _, told in found.adaptations for each in told)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_is_its_module(tmp_path: Path, kind: str, layers: int, bidirectional: bool) -> None:
    module = module_of(kind, layers, bidirectional=bidirectional)
    file = written(tmp_path / "a.onnx", module)
    assert rnnscope.compare(module, file, *input_of(module)).verdict == "equivalent"


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_with_other_weights_is_another_function(tmp_path: Path, kind: str) -> None:
    file = written(tmp_path / "a.onnx", module_of(kind, seed=1))
    module = module_of(kind)
    found = rnnscope.compare(module, file, *input_of(module))
    assert (found.verdict, found.cause, found.side) == ("different", "function", "right")


def test_either_side_may_be_the_file(tmp_path: Path) -> None:
    module = module_of("GRU")
    file = Path(written(tmp_path / "a.onnx", module_of("GRU", seed=1)))
    assert rnnscope.compare(file, module, *input_of(module)).side == "left"


def test_a_module_in_batch_first_is_the_graph(tmp_path: Path) -> None:
    module = module_of("LSTM", 2, batch_first=True)
    file = written(tmp_path / "a.onnx", module)
    assert rnnscope.compare(module, file, *input_of(module)).verdict == "equivalent"


def test_one_sequence_without_n_is_run(tmp_path: Path) -> None:
    module = module_of("LSTM", 2)
    x, hx = input_of(module)
    one = (x[:, 0], tuple(each[:, 0] for each in hx))
    assert rnnscope.compare(module, written(tmp_path / "a.onnx", module), *one).verdict == "equivalent"


@pytest.mark.parametrize("lengths", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_batch_is_run(tmp_path: Path, kind: str, lengths: bool) -> None:
    module = module_of(kind, 2, bidirectional=True)
    x, hx = input_of(module)
    file = written(tmp_path / "a.onnx", module, lengths=lengths)
    found = rnnscope.compare(module, file, pack_padded_sequence(x, torch.tensor([5, 3])), hx)
    alone = "it takes no lengths, so that each item was run by itself"
    assert (found.verdict, alone in told(found)) == ("equivalent", not lengths)


def test_the_lengths_of_a_graph_are_given_where_nothing_is_packed(tmp_path: Path) -> None:
    module = module_of("GRU")
    file = written(tmp_path / "a.onnx", module, lengths=True)
    assert rnnscope.compare(module, file, *input_of(module)).verdict == "equivalent"


def test_a_graph_without_states_starts_from_zeros(tmp_path: Path, cli: Cli) -> None:
    file = written(tmp_path / "a.onnx", module_of("LSTM"), states=False)
    found = json.loads(cli("compare", "--right", file, "--json").out)
    assert (found["verdict"], found["spec"]["h0"]) == ("equivalent", "zeros")


def test_a_state_that_a_graph_does_not_take_is_refused(tmp_path: Path) -> None:
    module = module_of("LSTM")
    file = written(tmp_path / "a.onnx", module, states=False)
    with pytest.raises(RnnscopeError, match=r"a.onnx takes no h0, and h0 is not zeros"):
        rnnscope.compare(module, file, *input_of(module))


class MyLSTM(nn.Module):
    """A class of one's own, whose parameters have other names."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = module_of("LSTM")

    def forward(self, x: Any, hx: Any = None) -> Any:
        return self.inner(x, hx)


@pytest.mark.parametrize("of", [MyLSTM, lambda: rnnscope.StackedCells.from_module(module_of("LSTM"))])
def test_a_class_of_ones_own_is_held_against_a_file(tmp_path: Path, of: Callable[[], nn.Module]) -> None:
    file = written(tmp_path / "a.onnx", module_of("LSTM"))
    assert rnnscope.assert_equivalent(of(), file, *input_of(module_of("LSTM"))).exit_code == 0


def test_a_file_gives_no_gradients(tmp_path: Path) -> None:
    module = module_of("GRU")
    with pytest.raises(RnnscopeError, match=r"a.onnx gives no gradients"):
        rnnscope.compare(module, written(tmp_path / "a.onnx", module), *input_of(module), grad=True)


# The command line.


def test_a_file_brings_its_own_weights(tmp_path: Path, cli: Cli) -> None:
    found = json.loads(cli("compare", "--right", written(tmp_path / "a.onnx", module_of("GRU", 2)), "--json").out)
    assert (found["verdict"], found["spec"]["kind"], found["spec"]["num_layers"]) == ("equivalent", "gru", 2)


@pytest.mark.parametrize(("seed", "code"), [(0, 0), (1, 1)])
def test_an_export_is_held_against_the_trained_weights(tmp_path: Path, cli: Cli, seed: int, code: int) -> None:
    torch.save(module_of("GRU", seed=seed).state_dict(), tmp_path / "model.pt")
    file = written(tmp_path / "a.onnx", module_of("GRU"))
    assert cli("compare", "--weights", str(tmp_path / "model.pt"), "--right", file, "-q").code == code


def test_two_files_are_compared(tmp_path: Path, cli: Cli) -> None:
    one, other = (written(tmp_path / f"{seed}.onnx", module_of("GRU", seed=seed)) for seed in (0, 1))
    found = json.loads(cli("compare", "--left", one, "--right", other, "--json").out)
    assert (found["verdict"], len(found["weight_differences"])) == ("different", 4)


def test_a_spec_of_python_takes_the_weights_of_the_file(tmp_path: Path) -> None:
    file = written(tmp_path / "a.onnx", module_of("GRU"))
    spec = Spec(kind="gru", input_size=3, hidden_size=4, num_layers=1)
    assert rnnscope.compare(spec, "module", file).verdict == "equivalent"


def test_a_spec_of_another_size_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "a.onnx", module_of("GRU"))
    with pytest.raises(RnnscopeError, match="--hidden-size 20 contradicts"):
        rnnscope.compare(Spec(kind="gru", input_size=3, num_layers=1), "module", file)


def test_weights_of_another_size_are_refused(tmp_path: Path, cli: Cli) -> None:
    torch.save(nn.GRU(3, 5).state_dict(), tmp_path / "model.pt")
    file = written(tmp_path / "a.onnx", module_of("GRU"))
    found = cli("compare", "--weights", str(tmp_path / "model.pt"), "--right", file)
    assert (found.code, "rnn_0 in" in found.err, "has hidden size 4" in found.err) == (2, True, True)


def test_a_reset_before_the_matmul_is_explained(tmp_path: Path, cli: Cli) -> None:
    file = written(tmp_path / "a.onnx", module_of("GRU", 2), linear_before_reset=0)
    found = json.loads(cli("compare", "--right", file, "--json").out)
    assert [each["convention"] for each in found["explanations"]] == ["reset before the matmul"]
    assert found["without_float64"] == ["right"]
    assert "linear_before_reset is 0 in its nodes rnn_0, rnn_1" in found["adaptations"]["right"]


def test_a_clip_is_judged_against_other_weights(tmp_path: Path, cli: Cli) -> None:
    torch.save(module_of("LSTM").state_dict(), tmp_path / "model.pt")
    file = written(tmp_path / "a.onnx", module_of("LSTM"), clip=0.3)
    found = cli("compare", "--weights", str(tmp_path / "model.pt"), "--right", file)
    assert (found.code, "clip is 0.3 in its node rnn_0" in " ".join(found.out.split())) == (1, True)


def test_a_clip_makes_no_weights(tmp_path: Path, cli: Cli) -> None:
    found = cli("compare", "--right", written(tmp_path / "a.onnx", module_of("LSTM"), clip=0.3))
    assert (found.code, found.err.count("\n")) == (2, 1)


def test_layout_1_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "a.onnx", module_of("LSTM"), layout=1)
    with pytest.raises(RnnscopeError, match="rnn_0 has layout 1, which onnxruntime does not run"):
        opened(file, Spec(kind="lstm", input_size=3, hidden_size=4, num_layers=1), None)


def fixed(file: Path, steps: Any = 5, items: Any = 2) -> str:
    """A GRU whose x has fixed sizes."""
    nodes, kept, last = nodes_of(module_of("GRU"), states=False)
    axes = numpy_helper.from_array(torch.tensor([1]).numpy(), "axes")
    nodes.append(helper.make_node("Squeeze", [last, "axes"], ["y"]))
    return save(file, nodes, [port("x", steps, items, 3)], [port("y", steps, items, 4)], [*kept, axes])


def test_sizes_that_are_fixed_are_found_frozen(tmp_path: Path, cli: Cli) -> None:
    found = json.loads(cli("compare", "--right", fixed(tmp_path / "a.onnx"), "--json").out)
    assert (found["verdict"], found["cause"], found["frozen"]["made_at"]) == ("different", "frozen", [5, 2])
    assert found["frozen"]["there"] == "equivalent"


@pytest.mark.parametrize(
    ("steps", "items", "made_at"), [(5, 2, (5, 2)), (5, "N", (5, 6)), ("L", 2, (7, 2)), ("L", "N", None)]
)
def test_it_was_made_at_the_sizes_that_are_fixed(
    tmp_path: Path, steps: Any, items: Any, made_at: tuple[int, int] | None
) -> None:
    spec = Spec(kind="gru", input_size=3, hidden_size=4, num_layers=1, seq_len=7, batch_size=6)
    assert opened(fixed(tmp_path / "a.onnx", steps, items), spec, None).made_at == made_at


def test_what_the_user_says_counts_more(tmp_path: Path) -> None:
    spec = Spec(kind="gru", input_size=3, hidden_size=4, num_layers=1)
    assert opened(fixed(tmp_path / "a.onnx"), spec, (9, 9)).made_at == (9, 9)


def test_onnxruntime_has_no_rnn_in_float64(tmp_path: Path) -> None:
    foreign = opened(fixed(tmp_path / "a.onnx"), Spec(kind="gru", input_size=3, hidden_size=4, num_layers=1), None)
    assert (foreign.has_float64, foreign.dtype) == (False, "float32")


# Where a Reshape moves numbers as no Transpose does.


def items_first(file: Path, into: str, out: str, dims: tuple[Any, Any] = ("N", 5)) -> str:
    """A GRU over 5 steps whose x and y start with N, each brought in order by Transpose or by Reshape alone."""
    nodes, kept, last = nodes_of(module_of("GRU"), "X", states=False)
    shapes = {"shape_of_x": [-1, 1, 3], "shape_of_y": [-1, 5, 4]}
    kept += [numpy_helper.from_array(torch.tensor(each).numpy(), name) for name, each in shapes.items()]
    said = {"perm": [1, 0, 2]} if into == "Transpose" else {}
    nodes.insert(0, helper.make_node(into, ["x"] + ["shape_of_x"] * (not said), ["X"], **said))
    if out == "Transpose":
        nodes.append(helper.make_node("Transpose", [last], ["turned"], perm=[2, 0, 1, 3]))
        last = "turned"
    nodes.append(helper.make_node("Reshape", [last, "shape_of_y"], ["y"]))
    return save(file, nodes, [port("x", *dims, 3)], [port("y", *dims, 4)], kept)


@pytest.mark.parametrize("dims", [("N", 5), ("batch", "time"), (2, 5)])
@pytest.mark.parametrize(
    ("into", "out", "batch"),
    [("Transpose", "Transpose", None), ("Reshape", "Transpose", 1), ("Transpose", "Reshape", 1)],
)
def test_numbers_that_a_reshape_mixes_are_another_function(
    tmp_path: Path, into: str, out: str, batch: int | None, dims: tuple[Any, Any]
) -> None:
    module = module_of("GRU", batch_first=True)
    found = rnnscope.compare(module, items_first(tmp_path / "a.onnx", into, out, dims), input_of(module)[0])
    first = found.facts()["first_divergence"]
    assert (found.cause, first and first["batch"]) == ("function" if first else "rounding", batch)


@pytest.mark.parametrize("by", ["Gather", "Shape"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_reshape_to_sizes_in_another_order_is_no_transpose(tmp_path: Path, by: str, order: tuple[int, int]) -> None:
    """Sizes that are computed in the graph, as a view in torch is exported."""
    module = module_of("GRU", batch_first=True)
    nodes, kept, last = nodes_of(module_of("GRU"), "X", states=False)
    for place in order:
        kept.append(numpy_helper.from_array(torch.tensor([place]).numpy(), f"place_{place}"))
        if by == "Gather":
            nodes.insert(0, helper.make_node("Gather", ["sizes", f"place_{place}"], [f"size_{place}"]))
        else:
            nodes.insert(0, helper.make_node("Shape", ["x"], [f"size_{place}"], start=place, end=place + 1))
    kept += [numpy_helper.from_array(torch.tensor([each]).numpy(), name) for name, each in (("F", 3), ("one", 1))]
    moved = [
        helper.make_node("Concat", [*(f"size_{place}" for place in order), "F"], ["shape_of_x"], axis=0),
        helper.make_node("Reshape", ["x", "shape_of_x"], ["viewed"]),
        helper.make_node("Transpose" if order == (0, 1) else "Identity", ["viewed"], ["X"], **_perm(order)),
    ]
    nodes = [helper.make_node("Shape", ["x"], ["sizes"]), *nodes[:2], *moved, *nodes[2:]]
    nodes.append(helper.make_node("Squeeze", [last, "one"], ["steps_first"]))
    nodes.append(helper.make_node("Transpose", ["steps_first"], ["y"], perm=[1, 0, 2]))
    file = save(tmp_path / "a.onnx", nodes, [port("x", "N", 5, 3)], [port("y", "N", 5, 4)], kept)
    found = rnnscope.compare(module, file, input_of(module)[0])
    assert found.cause == ("rounding" if order == (0, 1) else "function")


def _perm(order: tuple[int, int]) -> dict[str, Any]:
    return {"perm": [1, 0, 2]} if order == (0, 1) else {}


# A network of several.


def by_hand(file: Path, module: Any, steps: int | None = None, states: bool = True, said: Any = "L") -> str:
    """Both directions of a module as two nodes; steps are those that are written into a Reshape of y."""
    letters = "hc" if isinstance(module, nn.LSTM) else "h"
    nodes, kept, halves = list[Any](), list[Any](), list[str]()
    for name, end, way in (("there", "", "forward"), ("back", "_reverse", "reverse")):
        half = type(module)(3, 4)
        half.load_state_dict({each: getattr(module, each + end) for each in half.state_dict()})
        more, constants, y = nodes_of(half, name=name, states=states, direction=way)
        nodes, kept, halves = [*nodes, *more], [*kept, *constants], [*halves, y]
    kept.append(numpy_helper.from_array(torch.tensor([steps or 0, 0, 8]).numpy(), "shape"))
    nodes += [
        helper.make_node("Concat", halves, ["both"], axis=3),
        helper.make_node("Squeeze", ["both", "one"], ["plain"]),
        helper.make_node("Reshape", ["plain", "shape"], ["y"]),
        *(concat([f"there_{each}_0", f"back_{each}_0"], each) for each in letters),
    ]
    kept.append(numpy_helper.from_array(torch.tensor([1]).numpy(), "one"))
    inputs = [port("x", "L", "N", 3)]
    if states:
        parts = {each: [f"there_{each}0_0", f"back_{each}0_0"] for each in letters}
        nodes = [helper.make_node("Split", [f"{each}0"], parts[each], axis=0) for each in letters] + nodes
        inputs += [port(f"{each}0", 2, "N", 4) for each in letters]
    outputs = [port("y", said, "N", 8), *(port(each, 2, "N", 4) for each in letters)]
    return save(file, nodes, inputs, outputs, kept)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_of_several_nodes_is_run_whole(tmp_path: Path, kind: str) -> None:
    module = module_of(kind, bidirectional=True)
    found = rnnscope.compare(module, by_hand(tmp_path / "a.onnx", module), *input_of(module))
    assert (found.verdict, found.facts()["without_float64"]) == ("equivalent", ["right"])
    assert "the whole graph is run, with its nodes there_0, back_0" in told(found)
    other = module_of(kind, bidirectional=True, seed=1)
    assert rnnscope.compare(other, str(tmp_path / "a.onnx"), *input_of(module)).cause == "function"


def test_weights_are_held_against_a_network_of_several_nodes(tmp_path: Path, cli: Cli) -> None:
    module = module_of("LSTM", bidirectional=True)
    torch.save(module.state_dict(), tmp_path / "model.pt")
    file = by_hand(tmp_path / "a.onnx", module)
    assert cli("compare", "--weights", str(tmp_path / "model.pt"), "--right", file, "-q").code == 0


@pytest.mark.parametrize("said", [5, "L"])
def test_what_a_file_says_of_y_tells_where_it_was_made(tmp_path: Path, said: Any) -> None:
    module = module_of("LSTM", bidirectional=True)
    file = by_hand(tmp_path / "a.onnx", module, steps=5, states=False, said=said)
    found = rnnscope.compare(module, file, input_of(module, 7)[0])
    assert (found.cause, found.frozen and found.frozen.made_at) == ("frozen", (5, 2))
    assert found.frozen
    assert found.frozen.there == "equivalent"
    assert rnnscope.compare(module, file, input_of(module)[0]).verdict == "equivalent"


def test_two_networks_that_both_fit_ask_for_a_prefix(tmp_path: Path) -> None:
    module = module_of("GRU", bidirectional=True)
    one = module_of("GRU")
    with pytest.raises(RnnscopeError, match="has 2 RNNs: 'there_0', 'back_0'"):
        rnnscope.compare(one, by_hand(tmp_path / "a.onnx", module, states=False), input_of(one)[0])


# Whole models.


def whole_model(file: Path, **said: Any) -> str:
    """Words into an encoder, an activation, a decoder and a head."""
    encoder, decoder = module_of("LSTM", 2, bidirectional=True), nn.GRU(8, 5)
    words, head = torch.randn(9, 3).numpy(), torch.randn(5, 2).numpy()
    first, kept, y = nodes_of(encoder, "embedded", "encoder", states=False)
    second, more, out = nodes_of(decoder, "active", "decoder", states=False, **said)
    nodes = [
        helper.make_node("Gather", ["words", "ids"], ["embedded"]),
        *first,
        helper.make_node("Transpose", [y], ["turned"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["turned", "encoder_shape_0"], ["joined"]),
        helper.make_node("Relu", ["joined"], ["active"]),
        *second,
        helper.make_node("MatMul", [out, "head"], ["logits"]),
    ]
    kept += [*more, numpy_helper.from_array(words, "words"), numpy_helper.from_array(head, "head")]
    torch.save({"encoder": encoder.state_dict(), "decoder": decoder.state_dict()}, file.with_suffix(".pt"))
    ids = port("ids", "L", "N", dtype=onnx.TensorProto.INT64)
    return save(file, nodes, [ids], [port("logits")], kept)


@pytest.mark.parametrize(
    ("node", "prefix"), [("encoder_0", "encoder"), ("encoder_1", "encoder"), ("decoder_0", "decoder")]
)
def test_a_network_is_taken_out_of_a_whole_model(tmp_path: Path, cli: Cli, node: str, prefix: str) -> None:
    file = whole_model(tmp_path / "a.onnx")
    found = cli(
        "compare", "--weights", str(tmp_path / "a.pt"), "--prefix", prefix, "--right", file, "--right-prefix", node
    )
    assert (found.code, "run alone, since the model takes ids" in " ".join(found.out.split())) == (0, True)


def test_the_one_network_that_fits_is_taken(tmp_path: Path, cli: Cli) -> None:
    file = whole_model(tmp_path / "a.onnx")
    assert cli("compare", "--weights", str(tmp_path / "a.pt"), "--prefix", "decoder", "--right", file, "-q").code == 0


def test_several_networks_ask_for_a_prefix(tmp_path: Path, cli: Cli) -> None:
    found = cli("compare", "--right", whole_model(tmp_path / "a.onnx"))
    assert (found.code, "has 2 RNNs: 'encoder_0', 'decoder_0'" in found.err) == (2, True)
    assert "--right-prefix" in found.err


def test_a_prefix_picks_network_and_weights(tmp_path: Path, cli: Cli) -> None:
    file = whole_model(tmp_path / "a.onnx")
    found = json.loads(cli("compare", "--right", file, "--right-prefix", "decoder_0", "--json").out)
    assert (found["verdict"], found["spec"]["kind"]) == ("equivalent", "gru")
    assert "--right-prefix decoder_0" in found["rerun"]


def test_a_prefix_that_is_not_there_is_told(tmp_path: Path, cli: Cli) -> None:
    found = cli("compare", "--right", whole_model(tmp_path / "a.onnx"), "--right-prefix", "head")
    assert (found.code, "has no RNN node 'head', but 'encoder_0', 'decoder_0'" in found.err) == (2, True)


def test_a_head_that_fits_by_chance_is_not_taken_for_y(tmp_path: Path) -> None:
    module = module_of("GRU")
    nodes, kept, last = nodes_of(module, states=False)
    nodes.append(helper.make_node("Relu", [last], ["y"]))  # of the shape of y, and called so
    file = save(tmp_path / "a.onnx", nodes, [port("x", "L", "N", 3)], [port("y", "L", 1, "N", 4)], kept)
    found = rnnscope.compare(module, file, input_of(module)[0])
    assert (found.verdict, "run alone, since the model does not give what they compute" in told(found)) == (
        "equivalent",
        True,
    )


def test_a_node_in_the_body_of_another_is_run_alone(tmp_path: Path) -> None:
    module = module_of("GRU")
    nodes, kept, last = nodes_of(module, states=False)
    then = helper.make_graph(nodes, "then", [], [port(last)])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["same"])], "else", [], [port("same")])
    node = helper.make_node("If", ["which"], ["y"], then_branch=then, else_branch=other)
    inputs = [port("x", "L", "N", 3), port("which", dtype=onnx.TensorProto.BOOL)]
    file = save(tmp_path / "a.onnx", [node], inputs, [port("y")], kept)
    assert rnnscope.compare(module, file, input_of(module)[0]).verdict == "equivalent"


def test_outputs_that_are_not_there_are_not_compared(tmp_path: Path) -> None:
    module = module_of("LSTM")
    nodes, kept, last = nodes_of(module, states=False)
    file = save(tmp_path / "a.onnx", nodes, [port("x", "L", "N", 3)], [port(last)], kept)
    found = rnnscope.compare(module, file, input_of(module)[0])
    assert (found.verdict, [each.name for each in found.outputs]) == ("equivalent", ["y"])


# Graphs that have no such node.


def one_step(file: Path, ports: dict[str, str], more: bool = False, first: Any = "N") -> str:
    """An nn.RNN over one step, written as MatMul and Tanh; ports gives the names of x, h0, y and h."""
    module = module_of("RNN", bias=False)
    kept = [
        numpy_helper.from_array(getattr(module, f"weight_{end}_l0").detach().numpy().T.copy(), end)
        for end in ("ih", "hh")
    ]
    nodes = [
        helper.make_node("MatMul", [ports["x"], "ih"], ["a"]),
        helper.make_node("MatMul", [ports["h0"], "hh"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Tanh", ["sum"], [ports["y"]]),
        helper.make_node("Identity", [ports["y"]], [ports["h"]]),
    ]
    outputs = [port(ports["y"], 1, first, 4), port(ports["h"], 1, first, 4)]
    if more:
        nodes.append(helper.make_node("Identity", [ports["y"]], ["again"]))
        outputs.append(port("again", 1, first, 4))
    return save(file, nodes, [port(ports["x"], 1, first, 3), port(ports["h0"], 1, first, 4)], outputs, kept)


ONE = Spec(input_size=3, hidden_size=4, num_layers=1, bias=False, seq_len=1)


def run_one(file: str) -> Any:
    module = module_of("RNN", bias=False)
    return rnnscope.compare(module, file, torch.randn(1, 2, 3), torch.randn(1, 2, 4))


@pytest.mark.parametrize(
    "names",
    [
        {"x": "input", "h0": "hx", "y": "output", "h": "h_n"},
        {"x": "a1", "h0": "a2", "y": "a3", "h": "a4"},
        {"x": "a1", "h0": "a2", "y": "output", "h": "a4"},
    ],
)
def test_what_is_what_is_told_by_names_and_shapes(tmp_path: Path, names: dict[str, str]) -> None:
    assert run_one(one_step(tmp_path / "a.onnx", names)).verdict == "equivalent"


def test_what_shapes_leave_open_is_asked_for(tmp_path: Path) -> None:
    file = one_step(tmp_path / "a.onnx", {"x": "a1", "h0": "a2", "y": "a3", "h": "a4"}, more=True)
    with pytest.raises(
        RnnscopeError, match=r"which of its outputs is y or h does not show: a3 \(1, N, 4\), a4"
    ) as caught:
        run_one(file)
    assert caught.value.hint == "name its inputs x, h0, c0 and its outputs y, h, c"


def test_an_input_that_is_neither_x_nor_a_state_is_told(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["ids"], ["y"])
    ids = port("ids", "L", "N", dtype=onnx.TensorProto.INT64)
    file = save(tmp_path / "a.onnx", [node], [ids], [port("y", dtype=onnx.TensorProto.INT64)])
    with pytest.raises(RnnscopeError, match="takes ids, which is neither x nor a state of numbers"):
        opened(file, ONE, None)


def test_a_graph_without_a_node_asks_for_weights(tmp_path: Path, cli: Cli) -> None:
    file = one_step(tmp_path / "a.onnx", {"x": "x", "h0": "h0", "y": "y", "h": "h"})
    found = cli("compare", "--right", file)
    assert (found.code, "give its weights by --weights FILE" in found.err) == (2, True)


# What is refused.


def test_an_operator_of_somebodys_is_refused_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = helper.make_node("Mine", ["x"], ["y"], domain="com.example")
    file = save(tmp_path / "a.onnx", [node], [port("x")], [port("y")])
    monkeypatch.setattr(models, "OnnxSession", None)
    with pytest.raises(
        RnnscopeError, match=r"Mine is an operator of 'com.example', and onnxruntime itself has none such"
    ):
        opened(file, ONE, None)


def test_a_graph_that_onnxruntime_does_not_open_is_named(tmp_path: Path) -> None:
    file = save(tmp_path / "a.onnx", [helper.make_node("NoSuch", ["x"], ["y"])], [port("x")], [port("y")])
    with pytest.raises(RnnscopeError, match=r"a.onnx cannot be opened: .*NoSuch"):
        opened(file, ONE, None)


def test_products_in_int8_are_named(tmp_path: Path) -> None:
    file = one_step(tmp_path / "a.onnx", {"x": "x", "h0": "h0", "y": "y", "h": "h"})
    model = onnx.load(file)
    zero = numpy_helper.from_array(torch.zeros(2, 2, dtype=torch.uint8).numpy(), "zero")
    model.graph.initializer.append(zero)
    model.graph.node.append(helper.make_node("MatMulInteger", ["zero", "zero"], ["unused"]))
    onnx.save(model, file)
    assert opened(file, ONE, None).arithmetic == "int8"


@pytest.mark.parametrize("seed", range(60))
def test_flipped_bytes_are_no_crash(tmp_path: Path, seed: int) -> None:
    content = bytearray(Path(written(tmp_path / "a.onnx", module_of("GRU", 2))).read_bytes())
    chance = random.Random(seed)
    for _ in range(1 + seed % 5):
        content[chance.randrange(len(content))] = chance.randrange(256)
    bad, module = tmp_path / "b.onnx", module_of("GRU", 2)
    bad.write_bytes(content)
    with suppress(RnnscopeError):
        rnnscope.compare(module, str(bad), *input_of(module))


# Programs of torch.export.


def program(file: Path, module: Any, given: tuple[Any, ...] | None = None, decomposed: bool = False, **how: Any) -> str:
    with warnings.catch_warnings():  # torch warns of its own RNNs
        warnings.simplefilter("ignore")
        found = torch.export.export(module, given or input_of(module), **how)
        torch.export.save(found.run_decompositions() if decomposed else found, str(file))
    return str(file)


@pytest.mark.parametrize("decomposed", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_program_gives_what_torch_gives_of_it(tmp_path: Path, kind: str, batch_first: bool, decomposed: bool) -> None:
    module = module_of(kind, 2, bidirectional=True, batch_first=batch_first)
    file = program(tmp_path / "a.pt2", module, decomposed=decomposed)
    x, hx = input_of(module)
    states = hx if isinstance(hx, tuple) else (hx,)
    y, last = torch.export.load(file).module()(x, hx)
    expected = (y, *(last if isinstance(last, tuple) else (last,)))
    found = read_program(file)
    given = dict(zip(found.inputs, (x, *states), strict=True))
    outputs = found.run(given, torch.float32, "cpu")
    assert all(torch.equal(one, other) for one, other in zip(outputs.values(), expected, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_is_its_module(tmp_path: Path, kind: str) -> None:
    module = module_of(kind, 2, bidirectional=True, batch_first=True)
    file = program(tmp_path / "a.pt2", module)
    found = rnnscope.compare(module, file, *input_of(module))
    assert (found.verdict, found.reference and found.reference.function.arithmetic) == ("identical", "float64")


def test_a_program_brings_its_weights(tmp_path: Path, cli: Cli) -> None:
    file = program(tmp_path / "a.pt2", module_of("GRU", 2))
    assert cli("compare", "--right", file, "--seq-len", "5", "--batch", "2", "-q").code == 0
    assert [each["kind"] for each in json.loads(cli("weights", file, "--json").out)["rnns"]] == ["gru"]


@pytest.mark.parametrize("steps", [5, 6])
def test_a_program_refuses_the_sizes_that_torch_refuses(tmp_path: Path, steps: int) -> None:
    module = module_of("GRU")
    auto = torch.export.Dim.AUTO
    file = program(tmp_path / "a.pt2", module, dynamic_shapes=({0: auto, 1: auto}, {1: auto}))
    x, h = torch.randn(steps, 4, 3), torch.randn(1, 4, 4)
    found = read_program(file)
    if steps == 5:
        expected = torch.export.load(file).module()(x, h)[0]
        assert torch.equal(found.run({"input": x, "hx": h}, torch.float32, "cpu")[found.outputs[0]], expected)
        return
    with pytest.raises(AssertionError, match="Guard failed"):
        torch.export.load(file).module()(x, h)
    with pytest.raises(Refused, match="dim 0 of input is 6, and it was made for 5"):
        found.run({"input": x, "hx": h}, torch.float32, "cpu")


def test_a_program_is_found_frozen(tmp_path: Path) -> None:
    module = module_of("GRU")
    found = rnnscope.compare(module, program(tmp_path / "a.pt2", module), *input_of(module, 7, 3))
    assert (found.cause, found.frozen and found.frozen.made_at) == ("frozen", (5, 2))


class Words(nn.Module):
    """A whole model: words, an RNN and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.rnn, self.head = nn.Embedding(9, 3), module_of("GRU"), nn.Linear(4, 2)

    def forward(self, ids: Any) -> Any:
        return self.head(self.rnn(self.words(ids))[0])


def test_a_whole_program_is_told(tmp_path: Path, cli: Cli) -> None:
    file = program(tmp_path / "a.pt2", Words().eval(), (torch.zeros(5, 2, dtype=torch.int64),))
    found = cli("compare", "--right", file)
    assert (found.code, "takes ids, which is neither x nor a state of numbers" in found.err) == (2, True)


class OneAxisMore(nn.Module):
    """torch's module, whose last states have an axis of one too many, or a layer too many."""

    def __init__(self, module: nn.Module, more: str) -> None:
        super().__init__()
        self.module, self.more = module, more

    def forward(self, *given: Any) -> Any:
        state = given[1:] if len(given) == 3 else given[1]
        y, state = self.module(given[0], state)
        states = state if isinstance(state, tuple) else (state,)
        if self.more == "y":
            return y + 0, *(y + 1 for _ in states)
        return y, *(each[:, None] if self.more == "axis" else torch.cat((each, each)) for each in states)


def states_of(module: nn.Module) -> tuple[torch.Tensor, ...]:
    x, state = input_of(module)
    return (x, *(state if isinstance(state, tuple) else (state,)))


@pytest.mark.parametrize("more", ["axis", "layer"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_states_of_another_shape_are_told_by_their_order(tmp_path: Path, kind: str, more: str) -> None:
    module = module_of(kind, 3)
    given = states_of(module)
    file = program(tmp_path / "a.pt2", OneAxisMore(module, more).eval(), given)
    found = rnnscope.compare(module, file, *input_of(module))
    off = [each.name for each in found.outputs if each.shape != each.right_shape]
    assert (found.verdict, found.cause, off) == ("different", "shape", ["h", "c"] if kind == "LSTM" else ["h"])
    assert ("h has 4 dims where torch has 3 on the right side" in verdict_in_words(found)) == (more == "axis")


def test_what_has_the_sizes_of_y_is_no_state_of_another_shape(tmp_path: Path) -> None:
    module = module_of("GRU")
    file = program(tmp_path / "a.pt2", OneAxisMore(module, "y").eval(), input_of(module))
    with pytest.raises(RnnscopeError, match="its outputs add, add_1 are none of y, h"):
        rnnscope.compare(module, file, *input_of(module))


class ByHand(nn.Module):
    """A GRU over time written out, by operators that torch's own module has no use for."""

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.w, self.u, self.b, self.v = gru.parameters()

    def forward(self, x: Any, h: Any) -> Any:
        state, found, u = h[0], [], self.u.T
        for step in torch.einsum("lni,ji->lnj", x, self.w).unbind(0):
            r, z, n = step.add(self.b).tensor_split(3, -1)
            hr, hz, hn = torch.addmm(self.v, state, u).view(-1, 3, self.u.shape[1]).unbind(1)
            z = torch.reciprocal(1 + (-z - hz).exp())
            state = torch.lerp((n + (r + hr).sigmoid() * hn).tanh(), state, z)
            found.append(torch.where(torch.isfinite(state), state, 0.0))
        return torch.vstack([each[None] for each in found]), state.view_as(h)


@pytest.mark.parametrize("decomposed", [True, False])
def test_a_loop_of_other_operators_is_run(tmp_path: Path, decomposed: bool) -> None:
    module = module_of("GRU")
    file = program(tmp_path / "a.pt2", ByHand(module).eval(), input_of(module), decomposed)
    assert rnnscope.compare(module, file, *input_of(module)).verdict == "equivalent"


@pytest.mark.parametrize(
    "target",
    [
        "from_file.default",  # opens a file
        "add.out",  # writes to what it is given
        "add_.Tensor",
        "rand_like.default",  # draws numbers
        "bernoulli.p",
        "manual_seed.default",  # gives nothing
        "save.default",
        "warn.default",
        "_embedding_bag.default",  # of no use here
        "convolution_backward.default",
        "overloads.default",  # no operator at all
    ],
)
def test_an_operator_that_does_more_than_compute_is_refused(tmp_path: Path, target: str) -> None:
    evil = evil_call(f"torch.ops.aten.{target}", [])
    with pytest.raises(RnnscopeError, match=f"calls torch.ops.aten.{target}, which is not among the operators"):
        read_program(rewritten(tmp_path / "a.pt2", evil))


@cache
def _program_of_a_gru() -> bytes:
    with TemporaryDirectory() as folder:
        return Path(program(Path(folder) / "a.pt2", module_of("GRU"))).read_bytes()


def rewritten(file: Path, change: Callable[[dict[str, bytes]], None]) -> str:
    """A program of a GRU whose archive was changed."""
    file.write_bytes(_program_of_a_gru())
    with zipfile.ZipFile(file) as archive:
        content = {each: archive.read(each) for each in archive.namelist()}
    change(content)
    with zipfile.ZipFile(file, "w") as archive:
        for name, each in content.items():
            archive.writestr(name, each)
    return str(file)


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (self.mark,)


def pickled(mark: Path) -> bytes:
    stream = io.BytesIO()
    torch.save({"weight_ih_l0": Evil(str(mark))}, stream)
    return stream.getvalue()


def place(content: dict[str, bytes], ending: str) -> str:
    return next(name for name in content if name.endswith(ending))


def in_json(content: dict[str, bytes], ending: str, change: Callable[[dict[str, Any]], None]) -> None:
    found = json.loads(content[place(content, ending)])
    change(found)
    content[place(content, ending)] = json.dumps(found).encode()


def in_program(content: dict[str, bytes], change: Callable[[dict[str, Any]], None]) -> None:
    in_json(content, "models/model.json", change)


def evil_size(mark: Path) -> Callable[[dict[str, bytes]], None]:
    said = {"expr_str": f"open({str(mark)!r}, 'w')", "hint": {"as_int": 5}}

    def change(found: dict[str, Any]) -> None:
        for each in found["graph_module"]["graph"]["tensor_values"].values():
            each["sizes"][0] = {"as_expr": said}

    return lambda content: in_program(content, change)


def evil_name(mark: Path) -> Callable[[dict[str, bytes]], None]:
    def change(content: dict[str, bytes]) -> None:
        name = place(content, "models/model.json")
        code = f"input = open({str(mark)!r}, 'w'); x"
        content[name] = content[name].replace(b'"input"', json.dumps(code).encode())

    return change


def evil_guard(mark: Path) -> Callable[[dict[str, bytes]], None]:
    code = [f"open({str(mark)!r}, 'w')"]
    return lambda content: in_program(content, lambda found: found.update(guards_code=code))


def evil_call(target: str, arguments: list[Any]) -> Callable[[dict[str, bytes]], None]:
    inputs = [{"name": name, "arg": arg, "kind": 1} for name, arg in arguments]
    node = {"target": target, "inputs": inputs, "outputs": [], "metadata": {}, "name": "evil"}
    return lambda content: in_program(content, lambda found: found["graph_module"]["graph"]["nodes"].insert(0, node))


def evil_file(ending: str, mark: Path) -> Callable[[dict[str, bytes]], None]:
    def change(content: dict[str, bytes]) -> None:
        content[place(content, "models/model.json").replace("models/model.json", ending)] = pickled(mark)

    return change


def evil_weight(mark: Path) -> Callable[[dict[str, bytes]], None]:
    def change(content: dict[str, bytes]) -> None:
        def use_pickle(found: dict[str, Any]) -> None:
            found["config"]["weight_ih_l0"]["use_pickle"] = True

        in_json(content, "model_weights_config.json", use_pickle)
        content[place(content, "weights/weight_0")] = pickled(mark)

    return change


def evil_constant(mark: Path) -> Callable[[dict[str, bytes]], None]:
    def change(content: dict[str, bytes]) -> None:
        meta = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
        in_json(content, "model_constants_config.json", lambda found: found["config"].update(c=meta))
        folder = place(content, "model_constants_config.json").replace("model_constants_config.json", "")
        content[f"{folder}opaque_obj_0"] = pickle.dumps(Evil(str(mark)))

    return change


def evil_spec(mark: Path) -> Callable[[dict[str, bytes]], None]:
    spec = [1, {"type": "collections.defaultdict", "context": json.dumps(["os.path", "join"]), "children_spec": []}]

    def change(found: dict[str, Any]) -> None:
        found["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps(spec)

    return lambda content: in_program(content, change)


def evil_mapping(mark: Path) -> Callable[[dict[str, bytes]], None]:
    arguments = [("filename", {"as_string": str(mark)}), ("shared", {"as_bool": True}), ("size", {"as_int": 4})]
    return evil_call("torch.ops.aten.from_file.default", arguments)


def evil_system(mark: Path) -> Callable[[dict[str, bytes]], None]:
    return evil_call("torch.os.system", [("command", {"as_string": f"touch {mark}"})])


def evil_load(mark: Path) -> Callable[[dict[str, bytes]], None]:
    mark.with_suffix(".pickle").write_bytes(pickled(mark))
    return evil_call("torch.load", [("f", {"as_string": str(mark.with_suffix(".pickle"))})])


def evil_operator(mark: Path) -> Callable[[dict[str, bytes]], None]:
    return evil_call(
        "_operator.call", [("f", {"as_operator": "torch.os.system"}), ("c", {"as_string": f"touch {mark}"})]
    )


EVIL: dict[str, Callable[[Path], Callable[[dict[str, bytes]], None]]] = {
    "size": evil_size,
    "name": evil_name,
    "guard": evil_guard,
    "weight": evil_weight,
    "constant": evil_constant,
    "spec": evil_spec,
    "from_file": evil_mapping,
    "system": evil_system,
    "load": evil_load,
    "operator": evil_operator,
    "old weights": lambda mark: evil_file("data/weights/model.pt", mark),
    "old constants": lambda mark: evil_file("data/constants/model.pt", mark),
    "examples": lambda mark: evil_file("data/sample_inputs/model.pt", mark),
}
"""Where torch.export.load would evaluate a text, unpickle, import or call what a file says."""


@pytest.mark.parametrize("how", EVIL)
def test_nothing_in_a_program_is_executed(tmp_path: Path, how: str) -> None:
    mark, module = tmp_path / "mark", module_of("GRU")
    file = rewritten(tmp_path / "a.pt2", EVIL[how](mark))
    with suppress(RnnscopeError):
        rnnscope.compare(module, file, *input_of(module))
    assert not mark.exists()


def test_the_witness_of_evil_works(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    file = rewritten(tmp_path / "a.pt2", evil_weight(mark))
    with suppress(Exception):
        torch.export.load(file)
    assert mark.exists()


REFUSED: dict[str, tuple[Callable[[Path], Callable[[dict[str, bytes]], None]], str]] = {
    "call": (evil_mapping, "calls torch.ops.aten.from_file.default, which is not among the operators"),
    "weight": (evil_weight, "weight_ih_l0 is no plain tensor, and opening it could run code"),
    "constant": (evil_constant, "c is no plain tensor, and opening it could run code"),
    "old weights": (lambda mark: evil_file("data/weights/model.pt", mark), "holds more than tensors"),
}


@pytest.mark.parametrize("how", REFUSED)
def test_what_could_run_code_is_told(tmp_path: Path, how: str) -> None:
    evil, sentence = REFUSED[how]
    with pytest.raises(RnnscopeError, match=sentence):
        read_program(rewritten(tmp_path / "a.pt2", evil(tmp_path / "mark")))


def test_compiled_code_is_refused(tmp_path: Path) -> None:
    def change(content: dict[str, bytes]) -> None:
        content[place(content, "models/model.json").replace("models/model.json", "data/aotinductor/m/a.so")] = (
            b"\x7fELF"
        )

    with pytest.raises(RnnscopeError, match="holds compiled code"):
        read_program(rewritten(tmp_path / "a.pt2", change))


def test_a_tensor_beyond_its_bytes_is_refused(tmp_path: Path) -> None:
    def change(found: dict[str, Any]) -> None:
        found["config"]["weight_ih_l0"]["tensor_meta"]["strides"][0] = {"as_int": 10**9}

    with pytest.raises(RnnscopeError, match="is damaged"):
        read_program(
            rewritten(tmp_path / "a.pt2", lambda content: in_json(content, "model_weights_config.json", change))
        )


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    file = program(tmp_path / "a.pt2", module_of("GRU"))
    with zipfile.ZipFile(file, "a") as archive:
        name = next(each for each in archive.namelist() if each.endswith("model.json"))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(name, b"{}")
    with pytest.raises(RnnscopeError, match="is damaged"):
        read_program(file)


def test_another_schema_is_told(tmp_path: Path) -> None:
    def change(content: dict[str, bytes]) -> None:
        in_program(content, lambda found: found.update(schema_version={"major": 99, "minor": 1}))

    with pytest.raises(RnnscopeError, match=r"is written by version 99 of the schema of torch.export"):
        read_program(rewritten(tmp_path / "a.pt2", change))


def old_archive(file: Path) -> str:
    """The same program as torch 2.7 wrote it: weights and examples by torch.save, all files at the root."""
    program(file, module_of("GRU"))
    x, h = input_of(module_of("GRU"))
    with zipfile.ZipFile(file) as archive:
        name = next(each for each in archive.namelist() if each.endswith("models/model.json"))
        content = archive.read(name)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("version", "8.8")
        archive.writestr("serialized_exported_program.json", content)
        parts = {"state_dict": module_of("GRU").state_dict(), "constants": {}, "example_inputs": ((x, h), {})}
        for part, each in parts.items():
            stream = io.BytesIO()
            torch.save(each, stream)
            archive.writestr(f"serialized_{part}.pt", stream.getvalue())
    return str(file)


def test_the_older_archive_is_read(tmp_path: Path) -> None:
    module = module_of("GRU")
    assert rnnscope.compare(module, old_archive(tmp_path / "a.pt2"), *input_of(module)).verdict == "identical"


def test_a_cut_program_is_told(tmp_path: Path) -> None:
    whole_program, bad = _program_of_a_gru(), tmp_path / "b.pt2"
    for size in range(0, len(whole_program), 97):
        bad.write_bytes(whole_program[:size])
        with pytest.raises(RnnscopeError):
            read_program(str(bad))


@pytest.mark.parametrize("seed", range(100))
def test_flipped_bytes_of_a_program_are_no_crash(tmp_path: Path, seed: int) -> None:
    content, chance = bytearray(_program_of_a_gru()), random.Random(seed)
    for _ in range(1 + seed % 3):
        content[chance.randrange(len(content))] = chance.randrange(256)
    (tmp_path / "b.pt2").write_bytes(content)
    with suppress(RnnscopeError):
        found = read_program(str(tmp_path / "b.pt2"))
        found.run(dict(zip(found.inputs, input_of(module_of("GRU")), strict=False)), torch.float32, "cpu")


@pytest.mark.parametrize("seed", range(60))
def test_a_program_of_other_json_is_no_crash(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)

    def change(content: dict[str, bytes]) -> None:
        def mangle(found: dict[str, Any]) -> None:
            at: Any = found
            while isinstance(at, (dict, list)) and at:
                key = chance.choice(list(at) if isinstance(at, dict) else range(len(at)))
                if chance.random() < 0.2 or not isinstance(at[key], (dict, list)) or not at[key]:
                    at[key] = chance.choice([None, -1, "x", [], {}, 2**70, True])
                    return
                at = at[key]

        in_json(content, chance.choice(["models/model.json", "model_weights_config.json"]), mangle)

    module, file = module_of("GRU"), rewritten(tmp_path / "a.pt2", change)
    with suppress(RnnscopeError):
        rnnscope.compare(module, file, *input_of(module))
