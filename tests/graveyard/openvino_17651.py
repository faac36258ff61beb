"""openvinotoolkit/openvino#17651: a pass that fuses the pieces of a GRU puts its weights in order, and not its bias.

OpenVINO and ONNX stack the gates z r n. Where the pieces had r first, the pass swapped the halves of both weights, and
took the bias as if z came first. So the sums of r and z are off by the difference of two biases. There the reset came
before the product, and there was one bias; here the cell is torch's. The sizes were chosen here, as the thread has
none, no figures and no tolerance.
"""

from pathlib import Path
from typing import Any

import onnx
import torch
from graveyard.grave import Bug, Model
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

H_IN, H, L, N = 18, 36, 20, 4


def zrh(rows: Tensor, is_zr_format: bool = False) -> Tensor:
    """The gates z r n of what was found in the order r z n, unless it is said to be in order."""
    zr, rz_swapped = rows[: 2 * H], torch.cat((rows[H : 2 * H], rows[:H]))
    return torch.cat((zr if is_zr_format else rz_swapped, rows[2 * H :])).detach()


def write(faulty: bool, path: Path) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(17651)
    gru: Any = nn.GRU(H_IN, H)
    weights = {
        "W": zrh(gru.weight_ih_l0)[None],
        "R": zrh(gru.weight_hh_l0)[None],
        "B": torch.cat((zrh(gru.bias_ih_l0, faulty), zrh(gru.bias_hh_l0, faulty)))[None],
    }
    cell = helper.make_node(
        "GRU", ["x", "W", "R", "B", "", "h0"], ["Y", "h"], hidden_size=H, linear_before_reset=1, direction="forward"
    )
    squeeze = helper.make_node("Squeeze", ["Y", "axis"], ["y"])
    graph = helper.make_graph(
        [cell, squeeze],
        "fused",
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
    report="openvinotoolkit/openvino#17651",
    told="a pass that fuses a GRU swaps r and z in the weights, and leaves their biases where they were",
    half=1,
    form=Model(write),
    named="function",
    place={"step": 0, "layer": 0},
)
