"""microsoft/onnxruntime#3893: a GRU with linear_before_reset and no bias adds the last step's product to this one's.

h·R of the new gate is added to a buffer, into which the bias is copied before. Without a bias nothing is copied, and
the product of the step before is still there. From zeros the first product is 0, so that two steps are right and the
third one is not. The thread says that it takes a batch of 3 where no initial state is given; here there are 3 items
and 4 steps. It gives no figure and no tolerance.
"""

import sys
from pathlib import Path

from graveyard.grave import Bug, Sides

from rnnscope import Spec

PROGRAM = '''"""ONNX's GRU with linear_before_reset: python deep_cpu_gru.py IN.npz OUT.npz BETA_WITHOUT_BIAS"""
import sys

import numpy as np


def gemm(a, b, beta, out):
    """out = a b^T + beta out, in its place"""
    out *= beta
    out += a @ b.T


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def gru(x, W, R, Wb, Rb, h, beta_without_bias):
    steps, batch, width = x.shape
    size = h.shape[1]
    zrh = np.zeros((steps, batch, 3 * size), x.dtype)
    gemm(x.reshape(-1, width), W, 0, zrh.reshape(-1, 3 * size))
    linear_output = np.zeros((batch, size), x.dtype)
    outputs = []
    for step in range(steps):
        gemm(h, R[: 2 * size], 1, zrh[step, :, : 2 * size])
        if Rb is not None:
            linear_output[:] = Rb[2 * size :]
            zrh[step] += Wb
            zrh[step, :, : 2 * size] += Rb[: 2 * size]
        gemm(h, R[2 * size :], beta_without_bias if Rb is None else 1, linear_output)
        z, r = np.split(sigmoid(zrh[step, :, : 2 * size]), 2, 1)
        h = (1 - z) * np.tanh(zrh[step, :, 2 * size :] + r * linear_output) + z * h
        outputs.append(h)
    return np.stack(outputs), h


def zrh_of(rows):
    """torch stacks the gates r z n"""
    r, z, n = np.split(rows, 3)
    return np.concatenate((z, r, n))


given = np.load(sys.argv[1])
y, last = given["x"], []
for layer, h in enumerate(given["h0"]):
    names = [f"{part}_l{layer}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    node = [zrh_of(given[name]) if name in given.files else None for name in names]
    y, h = gru(y, *node, h, float(sys.argv[3]))
    last.append(h)
np.savez(sys.argv[2], y=y, h=np.stack(last))
'''


def right(faulty: bool, folder: Path) -> str:
    program = folder / "deep_cpu_gru.py"
    program.write_text(PROGRAM)
    return f"command:{sys.executable} {program} {{in}} {{out}} {1 if faulty else 0}"


BUG = Bug(
    report="microsoft/onnxruntime#3893",
    told="a GRU without biases adds the recurrent product of the new gate to that of the step before",
    half=1,
    form=Sides(Spec(kind="gru", num_layers=1, bias=False, seq_len=4, batch_size=3, h0="zeros"), right),
    named="function",
    place={"step": 2, "layer": 0, "gate": "n"},
)
