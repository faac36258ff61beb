"""Graphs of ONNX that are put together by hand from torch's modules, against which reading and running are held."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

onnx: Any = __import__("pytest").importorskip("onnx")
helper, numpy_helper, FLOAT = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT

LETTERS = {"LSTM": ("ifgo", "iofg"), "GRU": ("rzn", "zrn"), "RNN": ("h", "h")}
"""The gates in torch's order and in ONNX's; ONNX calls g c, and n h."""


def weights_of(module: Any, layer: int) -> dict[str, np.ndarray[Any, Any]]:
    """W, R and B of a layer as ONNX has them."""
    own, theirs = LETTERS[type(module).__name__]

    def turned(name: str) -> Any:
        blocks = dict(zip(own, np.split(getattr(module, name).detach().numpy(), len(own)), strict=True))
        return np.concatenate([blocks[letter] for letter in theirs])

    ends = [f"_l{layer}", f"_l{layer}_reverse"][: 2 if module.bidirectional else 1]
    found = {
        "W": np.stack([turned(f"weight_ih{end}") for end in ends]),
        "R": np.stack([turned(f"weight_hh{end}") for end in ends]),
    }
    if module.bias:
        found["B"] = np.stack([np.concatenate([turned(f"bias_ih{end}"), turned(f"bias_hh{end}")]) for end in ends])
    return found


def nodes_of(
    module: Any, x: str = "x", name: str = "rnn", states: bool = True, lengths: str = "", **said: Any
) -> tuple[list[Any], list[Any], str]:
    """The nodes of a module over a tensor x: (L, N, H_in), its initializers, and the name of Y of the last layer.

    The states of layer k are {name}_h0_k and {name}_c0_k, and {name}_h_k and {name}_c_k come out of it.
    """
    kind, nodes, kept = type(module).__name__, [], []
    directions = 2 if module.bidirectional else 1
    said = {"direction": "bidirectional" if module.bidirectional else "forward"} | said
    if kind == "GRU":
        said = {"linear_before_reset": 1} | said
    if kind == "RNN" and module.nonlinearity == "relu":
        said = {"activations": ["Relu"] * directions} | said
    for layer in range(module.num_layers):
        tensors = {f"{name}_{role}_{layer}": each for role, each in weights_of(module, layer).items()}
        kept += [numpy_helper.from_array(each, own) for own, each in tensors.items()]
        into = [x, *tensors] + [""] * (not module.bias) + [lengths]
        letters = "hc" if kind == "LSTM" else "h"
        into += [f"{name}_{letter}0_{layer}" for letter in letters] if states else []
        out = [f"{name}_Y_{layer}", *(f"{name}_{letter}_{layer}" for letter in letters)]
        nodes.append(helper.make_node(kind, into, out, f"{name}_{layer}", hidden_size=module.hidden_size, **said))
        if layer + 1 < module.num_layers:
            moved, x = f"{name}_moved_{layer}", f"{name}_x_{layer + 1}"
            width = numpy_helper.from_array(np.array([0, 0, -1]), f"{name}_shape_{layer}")
            kept.append(width)
            nodes.append(helper.make_node("Transpose", [out[0]], [moved], perm=[0, 2, 1, 3]))
            nodes.append(helper.make_node("Reshape", [moved, width.name], [x]))
    return nodes, kept, f"{name}_Y_{module.num_layers - 1}"


def port(name: str, *dims: Any, dtype: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, dims or None)


def save(
    file: Path | str, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], kept: Sequence[Any] = ()
) -> str:
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(kept))
    domains = {node.domain for node in nodes} - {""}
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(each, 1) for each in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    Path(file).write_bytes(model.SerializeToString())
    return str(file)


def written(file: Path | str, module: Any, lengths: bool = False, states: bool = True, **said: Any) -> str:
    """A file of a module of one layer, or of more whose states stand apart: Y has four dims, as ONNX gives it.

    A module of one layer has the inputs x, h0 and c0 and the outputs y, h and c.
    """
    nodes, kept, last = nodes_of(module, states=states, lengths="lengths" if lengths else "", **said)
    letters, one = ("hc" if isinstance(module, nn.LSTM) else "h"), module.num_layers == 1
    rows = 2 if module.bidirectional else 1
    layers = range(module.num_layers)
    inputs, outputs = [port("x", "L", "N", module.input_size)], [port("y")]
    nodes.append(helper.make_node("Identity", [last], ["y"]))
    for letter in letters:
        ends = [f"rnn_{letter}_{layer}" for layer in layers]
        nodes.append(helper.make_node("Identity", ends, [letter]) if one else concat(ends, letter))
        outputs.append(port(letter))
        if states:
            inputs.append(port(f"{letter}0", rows * module.num_layers, "N", module.hidden_size))
            starts = [f"rnn_{letter}0_{layer}" for layer in layers]
            nodes.insert(0, helper.make_node("Split", [f"{letter}0"], starts, axis=0) if not one else _same(letter))
    if lengths:
        inputs.append(port("lengths", "N", dtype=onnx.TensorProto.INT32))
    return save(file, nodes, inputs, outputs, kept)


def _same(letter: str) -> Any:
    return helper.make_node("Identity", [f"{letter}0"], [f"rnn_{letter}0_0"])


def concat(names: Sequence[str], name: str) -> Any:
    return helper.make_node("Concat", list(names), [name], axis=0)


def module_of(kind: str, layers: int = 1, seed: int = 0, **options: Any) -> Any:
    """A module of torch's with H_in = 3 and H = 4."""
    torch.manual_seed(seed)
    return getattr(nn, kind)(3, 4, layers, **options).eval()


def input_of(module: Any, steps: int = 5, items: int = 2) -> tuple[Any, Any]:
    """x and hx for a module."""
    rows = module.num_layers * (2 if module.bidirectional else 1)
    x = torch.randn(items, steps, 3) if module.batch_first else torch.randn(steps, items, 3)
    h, c = torch.randn(rows, items, 4), torch.randn(rows, items, 4)
    return x, ((h, c) if isinstance(module, nn.LSTM) else h)
