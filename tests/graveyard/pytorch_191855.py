"""pytorch/pytorch#191855: an exporter writes the length of its example into a bidirectional LSTM made by hand.

The pattern is one LSTM forward, another over x in reverse order, and a gather that puts its output back in order. The
indices of that gather are expanded to the output's shape. The exporter had recomputed this shape for the example's
length, so that the Expand got N, the constant 6, and H. The file ran at 6 steps and failed at 9: "invalid expand
shape". An LSTM by itself never asks for that shape. The thread names no tolerance.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from graveyard.grave import Bug, Model, Pair
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument  # type: ignore[import-untyped,unused-ignore]
from torch import Tensor, nn

N, H_IN, H = 2, 16, 8
MADE_AT, RUN_AT = 6, 9
CONSTANTS = {
    "one": torch.tensor(1),
    "minus_one": torch.tensor(-1),
    "direction": torch.tensor([1]),
    "around": torch.tensor([0, 2]),
}


def iofc(rows: Tensor) -> Tensor:
    """ONNX stacks the gates i o f c, and torch i f c o."""
    i, f, c, o = rows.detach().chunk(4)
    return torch.cat((i, o, f, c))


def weights(lstm: Any, name: str, suffix: str) -> dict[str, Tensor]:
    w, r = (iofc(getattr(lstm, f"weight_{each}_l0{suffix}"))[None] for each in ("ih", "hh"))
    b = [iofc(getattr(lstm, f"bias_{each}_l0{suffix}")) for each in ("ih", "hh")]
    return {f"{name}_W": w, f"{name}_R": r, f"{name}_B": torch.cat(b)[None]}


def one_direction(x: str, name: str) -> list[Any]:
    """An LSTM over x with N first, and its y, with N first, too."""
    given = [f"{name}_{each}" for each in ("x", "W", "R", "B")]
    outputs = [f"{name}_{each}" for each in ("Y", "h", "c")]
    return [
        helper.make_node("Transpose", [x], [f"{name}_x"], perm=[1, 0, 2]),
        helper.make_node("LSTM", given, outputs, hidden_size=H),
        helper.make_node("Squeeze", [f"{name}_Y", "direction"], [f"{name}_steps"]),
        helper.make_node("Transpose", [f"{name}_steps"], [f"{name}_y"], perm=[1, 0, 2]),
    ]


def nodes(faulty: bool) -> list[Any]:
    if faulty:
        shape_of_y = helper.make_node("Concat", ["batch", "length_of_example", "hidden"], ["shape_of_y"], axis=0)
    else:
        shape_of_y = helper.make_node("Shape", ["backward_y"], ["shape_of_y"])
    return [
        helper.make_node("Shape", ["x"], ["shape_of_x"]),
        helper.make_node("Shape", ["x"], ["batch"], start=0, end=1),
        helper.make_node("Shape", ["x"], ["time"], start=1, end=2),
        helper.make_node("Squeeze", ["time"], ["length"]),
        helper.make_node("Sub", ["length", "one"], ["last"]),
        helper.make_node("Range", ["last", "minus_one", "minus_one"], ["arange"]),
        helper.make_node("Unsqueeze", ["arange", "around"], ["view"]),
        helper.make_node("Expand", ["view", "shape_of_x"], ["expand"], name="node_expand"),
        helper.make_node("GatherElements", ["x", "expand"], ["gather"], axis=1),
        *one_direction("x", "forward"),
        *one_direction("gather", "backward"),
        shape_of_y,
        helper.make_node("Expand", ["view", "shape_of_y"], ["expand_1"], name="node_expand_1"),
        helper.make_node("GatherElements", ["backward_y", "expand_1"], ["gather_1"], axis=1),
        helper.make_node("Concat", ["forward_y", "gather_1"], ["y"], axis=2),
        helper.make_node("Concat", ["forward_h", "backward_h"], ["h"], axis=0),
        helper.make_node("Concat", ["forward_c", "backward_c"], ["c"], axis=0),
    ]


def write(faulty: bool, path: Path) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    lstm = nn.LSTM(H_IN, H, batch_first=True, bidirectional=True)
    constants = CONSTANTS | weights(lstm, "forward", "") | weights(lstm, "backward", "_reverse")
    if faulty:
        constants |= {"length_of_example": torch.tensor([MADE_AT]), "hidden": torch.tensor([H])}
    shapes: list[tuple[str, list[int | str]]] = [
        ("x", ["batch", "time", H_IN]),
        ("y", ["batch", MADE_AT if faulty else "time", 2 * H]),
        ("h", [2, "batch", H]),
        ("c", [2, "batch", H]),
    ]
    x, *outputs = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes)
    initializers = [numpy_helper.from_array(each.numpy(), name) for name, each in constants.items()]
    graph = helper.make_graph(nodes(faulty), "main_graph", [x], outputs, initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return lstm, torch.randn(N, RUN_AT, H_IN), None


@dataclass(frozen=True)
class RunsOrNot(Model):
    """A file that may fail: then nothing came out."""

    def pair(self, faulty: bool, folder: Path) -> Pair:
        try:
            return super().pair(faulty, folder)
        except InvalidArgument:
            return super().pair(False, folder)._replace(actual={})


BUG = Bug(
    report="pytorch/pytorch#191855",
    told="an export keeps the length of its example in the shape to which it expands the indices of the backward half",
    half=1,
    form=RunsOrNot(write),
    named="frozen",
    place={"made_at": (MADE_AT, N)},
)
