"""pytorch/pytorch#10838: an exporter of bidirectional RNNs to ONNX moves the axis of directions behind the units.

ONNX gives Y as (L, D, N, H), and torch wants (L, N, D·H). The exporter transposed it to (L, N, H, D), so that the two
directions alternate in y unit by unit; only Caffe2, which undid it, gave torch's y. States were right all along.
The thread is about the order of axes. It has no figure and no tolerance.
"""

from pathlib import Path
from typing import Any

import onnx
import torch
from graveyard.grave import Bug, Model
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

H_IN, H, L, N = 10, 20, 7, 3


def iofc(rows: Tensor) -> Tensor:
    """ONNX stacks the gates i o f c, and torch i f g o."""
    i, f, g, o = rows.detach().chunk(4)
    return torch.cat((i, o, f, g))


def both(lstm: nn.LSTM, name: str) -> Tensor:
    return torch.stack([iofc(getattr(lstm, name + suffix)) for suffix in ("_l0", "_l0_reverse")])


def write(faulty: bool, path: Path) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    lstm = nn.LSTM(H_IN, H, bidirectional=True)
    constants = {
        "W": both(lstm, "weight_ih"),
        "R": both(lstm, "weight_hh"),
        "B": torch.cat((both(lstm, "bias_ih"), both(lstm, "bias_hh")), dim=1),
        "shape": torch.tensor([0, 0, -1]),
    }
    nodes = [
        helper.make_node(
            "LSTM", ["x", "W", "R", "B", "", "h0", "c0"], ["Y", "h", "c"], hidden_size=H, direction="bidirectional"
        ),
        helper.make_node("Transpose", ["Y"], ["transposed"], perm=[0, 2, 3, 1] if faulty else [0, 2, 1, 3]),
        helper.make_node("Reshape", ["transposed", "shape"], ["y"]),
    ]
    states = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, "N", H]) for name in ("h0", "c0", "h", "c")]
    graph = helper.make_graph(
        nodes,
        "lstm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["L", "N", H_IN]), *states[:2]],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["L", "N", 2 * H]), *states[2:]],
        [numpy_helper.from_array(each.numpy(), name) for name, each in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return lstm, torch.randn(L, N, H_IN), (torch.randn(2, N, H), torch.randn(2, N, H))


BUG = Bug(
    report="pytorch/pytorch#10838",
    told="an export of a bidirectional LSTM lets its two directions alternate in y unit by unit",
    half=2,
    form=Model(write),
    named="function",
    place={"tensor": "y", "step": 0, "layer": 0, "direction": 0},  # all units are off but the first one
)
