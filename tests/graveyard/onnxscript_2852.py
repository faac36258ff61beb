"""microsoft/onnxscript#2852: an exporter writes nn.GRU without linear_before_reset, so that r scales h too early.

torch resets W_hn·h + b_hn; ONNX resets h itself unless linear_before_reset is 1. The report saw 0.1 on a GRU(1, 32),
and expected about 1e-7.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from graveyard.grave import Bug, Model
from onnx_files import helper, nodes_of, numpy_helper, port, save
from torch import nn

H_IN, H, L, N = 1, 32, 10, 2


def write(faulty: bool, path: Path) -> tuple[nn.Module, torch.Tensor, Any]:
    torch.manual_seed(0)
    gru = nn.GRU(H_IN, H)
    nodes, kept, y = nodes_of(gru, linear_before_reset=0 if faulty else 1)
    nodes.append(helper.make_node("Squeeze", [y, "axis"], ["y"]))
    kept.append(numpy_helper.from_array(np.array([1]), "axis"))
    inputs = [port("x", "L", "N", H_IN), port("rnn_h0_0", 1, "N", H)]
    save(path, nodes, inputs, [port("y", "L", "N", H), port("rnn_h_0", 1, "N", H)], kept)
    return gru, torch.randn(L, N, H_IN), torch.randn(1, N, H)


BUG = Bug(
    report="microsoft/onnxscript#2852",
    told="an export of nn.GRU leaves out linear_before_reset, so that r scales h before the product",
    half=1,
    form=Model(write),
    named="reset-before-the-matmul",
    place={"step": 0, "gate": "n"},
)
