"""onnx/keras-onnx#123: a converted LSTM is right for one item; in a larger batch its items run as one long sequence.

The converter brought x to ONNX's layout with Reshape(-1, 1, H_in), where a Transpose belongs. So N items of L steps
became one item of N·L steps: item 0 is right, and each later one starts in the state in which the one before it
ended. The sizes L = 3, H_in = 4 and H = 128 are those of the fix's test. The thread names no tolerance.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from graveyard.grave import Bug, Model
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

N, L, H_IN, H = 2, 3, 4, 128


def iofc(rows: Tensor) -> Any:
    """ONNX stacks the gates i o f c, and torch i f c o."""
    i, f, c, o = rows.detach().chunk(4)
    return torch.cat((i, o, f, c)).numpy()


def write(faulty: bool, path: Path) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    lstm: Any = nn.LSTM(H_IN, H, batch_first=True)
    nn.init.zeros_(lstm.bias_hh_l0)  # Keras has one bias
    initializers = {
        "W": iofc(lstm.weight_ih_l0)[None],
        "R": iofc(lstm.weight_hh_l0)[None],
        "B": np.concatenate([iofc(lstm.bias_ih_l0), iofc(lstm.bias_hh_l0)])[None],
        "shape_of_y": np.array([-1, L, H]),
    }
    if faulty:
        initializers["shape_of_x"] = np.array([-1, 1, H_IN])
        to_onnx = helper.make_node("Reshape", ["x", "shape_of_x"], ["X"])
    else:
        to_onnx = helper.make_node("Transpose", ["x"], ["X"], perm=[1, 0, 2])
    nodes = [
        to_onnx,
        helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y"], hidden_size=H),
        helper.make_node("Transpose", ["Y"], ["items_first"], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", ["items_first", "shape_of_y"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "keras_lstm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", L, H_IN])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", L, H])],
        [numpy_helper.from_array(each, name) for name, each in initializers.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return lstm, torch.rand(N, L, H_IN), None


BUG = Bug(
    report="onnx/keras-onnx#123",
    told="a converted LSTM runs the items of a batch one after the other, as one sequence",
    half=1,
    form=Model(write),
    named="function",
    place={"tensor": "y", "step": 0, "batch": 1},
)
