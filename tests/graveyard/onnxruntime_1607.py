"""microsoft/onnxruntime#1607: the operator RNN starts its backward direction from the state of the forward one.

initial_h has one row for each direction, but the kernel took its address alone, without the offset of the direction.
So the forward half was right. The report saw the backward half differ from torch's on an nn.RNN(2, 2) with relu, with
2 steps of 3 items. The tolerance of its assert_allclose could not be read.
"""

from pathlib import Path
from typing import Any

import onnx
import torch
from graveyard.grave import Bug, Model
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

H_IN, H, L, N = 2, 2, 2, 3


def both(rnn: nn.RNN, name: str) -> Tensor:
    """A weight of both directions, as ONNX stacks them."""
    return torch.stack([getattr(rnn, name + suffix).detach() for suffix in ("_l0", "_l0_reverse")])


def write(faulty: bool, path: Path) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    rnn = nn.RNN(H_IN, H, nonlinearity="relu", bidirectional=True, batch_first=True)
    constants = {
        "W": both(rnn, "weight_ih"),
        "R": both(rnn, "weight_hh"),
        "B": torch.cat((both(rnn, "bias_ih"), both(rnn, "bias_hh")), dim=1),
        "rows": torch.tensor([0, 0] if faulty else [0, 1]),
        "shape": torch.tensor([0, 0, 2 * H]),
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["X"], perm=[1, 0, 2]),
        helper.make_node("Gather", ["h0", "rows"], ["initial_h"], axis=0),
        helper.make_node(
            "RNN",
            ["X", "W", "R", "B", "", "initial_h"],
            ["Y", "h"],
            hidden_size=H,
            direction="bidirectional",
            activations=["Relu", "Relu"],
        ),
        helper.make_node("Transpose", ["Y"], ["Y_by_item"], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", ["Y_by_item", "shape"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "rnn",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "L", H_IN]),
            helper.make_tensor_value_info("h0", TensorProto.FLOAT, [2, "N", H]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "L", 2 * H]),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, [2, "N", H]),
        ],
        [numpy_helper.from_array(each.numpy(), name) for name, each in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return rnn, torch.randn(N, L, H_IN), torch.randn(2, N, H)


BUG = Bug(
    report="microsoft/onnxruntime#1607",
    told="the backward direction of a bidirectional RNN starts from the forward row of h0",
    half=2,
    form=Model(write),
    named="function",
    place={"step": L - 1, "layer": 0, "direction": 1},
)
