"""microsoft/onnxscript#2852: an exporter writes nn.GRU without linear_before_reset, so that r scales h too early.

torch resets W_hn·h + b_hn; ONNX resets h itself unless linear_before_reset is 1. The report saw 0.1 on a GRU(1, 32),
and expected about 1e-7.
"""

from pathlib import Path
from typing import Any

import onnx
import torch
from graveyard.grave import Bug, Model
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

H_IN, H, L, N = 1, 32, 10, 2


def zrn(rows: Tensor) -> Tensor:
    """ONNX stacks the gates z r n, and torch r z n."""
    r, z, n = rows.detach().chunk(3)
    return torch.cat((z, r, n))


def write(faulty: bool, path: Path) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    gru: Any = nn.GRU(H_IN, H)
    weights = {
        "W": zrn(gru.weight_ih_l0)[None],
        "R": zrn(gru.weight_hh_l0)[None],
        "B": torch.cat((zrn(gru.bias_ih_l0), zrn(gru.bias_hh_l0)))[None],
    }
    node = helper.make_node(
        "GRU", ["x", "W", "R", "B", "", "h0"], ["Y", "h"], hidden_size=H, linear_before_reset=0 if faulty else 1
    )
    without_directions = helper.make_node("Squeeze", ["Y", "axis"], ["y"])
    graph = helper.make_graph(
        [node, without_directions],
        "gru",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["L", "N", H_IN]),
            helper.make_tensor_value_info("h0", TensorProto.FLOAT, [1, "N", H]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["L", "N", H]),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, "N", H]),
        ],
        [numpy_helper.from_array(each.numpy(), name) for name, each in weights.items()]
        + [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return gru, torch.randn(L, N, H_IN), torch.randn(1, N, H)


BUG = Bug(
    report="microsoft/onnxscript#2852",
    told="an export of nn.GRU leaves out linear_before_reset, so that r scales h before the product",
    half=1,
    form=Model(write),
    named="reset-before-the-matmul",
    place={"step": 0, "gate": "n"},
)
