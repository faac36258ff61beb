"""onnx/keras-onnx#103: a converter writes the bias of the cell gate over every recurrent bias of an LSTM.

ONNX has eight rows of biases, Wb and Rb in the order i o f c, and Keras one bias, which belongs in Wb. The four gates
were assigned to open slices (`b[3:] = ...`), so that the last one filled rows 3 to 7: each gate had the cell gate's
bias once more. A fresh layer hides it, since that bias is zero there. The thread's layer has one unit, the kernel
1 2 3 4, the recurrent kernel 5 6 7 8 and the bias 1 2 3 4. It names no tolerance.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from graveyard.grave import Bug, Model
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

N, L, H_IN, UNITS = 3, 6, 1, 1


def rows(stacked: Any, gate: str) -> Any:
    """The rows of a gate: Keras stacks i f c o, as torch does."""
    return dict(zip("ifco", np.split(stacked, 4), strict=True))[gate]


def bias(keras: Any, faulty: bool) -> Any:
    b = np.zeros((8, UNITS), np.float32)
    for place, gate in enumerate("iofc"):
        if faulty:
            b[place:] = rows(keras, gate)
        else:
            b[place] = rows(keras, gate)
    return b.reshape(1, 8 * UNITS)


def trained() -> Any:
    """Keras' layer in torch: its only bias is bias_ih."""
    lstm: Any = nn.LSTM(H_IN, UNITS, batch_first=True)
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
        lstm.weight_hh_l0.copy_(torch.tensor([[5.0], [6.0], [7.0], [8.0]]))
        lstm.bias_ih_l0.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        lstm.bias_hh_l0.zero_()
    return lstm


def write(faulty: bool, path: Path) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    lstm = trained()
    kernel, recurrent, keras = (
        each.detach().numpy() for each in (lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0)
    )
    initializers = {
        "W": np.concatenate([rows(kernel, gate) for gate in "iofc"])[None],
        "R": np.concatenate([rows(recurrent, gate) for gate in "iofc"])[None],
        "B": bias(keras, faulty),
        "direction": np.array([1]),
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps_first"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps_first", "W", "R", "B"], ["Y", "h", "c"], hidden_size=UNITS),
        helper.make_node("Squeeze", ["Y", "direction"], ["y_steps_first"]),
        helper.make_node("Transpose", ["y_steps_first"], ["y"], perm=[1, 0, 2]),
    ]
    shapes: dict[str, list[int | str]] = {
        "x": ["N", "L", H_IN],
        "y": ["N", "L", UNITS],
        "h": [1, "N", UNITS],
        "c": [1, "N", UNITS],
    }
    infos = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    graph = helper.make_graph(
        nodes,
        "keras_lstm",
        [infos["x"]],
        [infos["y"], infos["h"], infos["c"]],
        [numpy_helper.from_array(each, name) for name, each in initializers.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return lstm, torch.rand(N, L, H_IN), None


BUG = Bug(
    report="onnx/keras-onnx#103",
    told="a converter of an LSTM writes the cell gate's bias over the recurrent biases of all gates",
    half=1,
    form=Model(write),
    named="function",
    place={"step": 0, "layer": 0, "unit": 0},
)
