"""alibaba/MNN#1573: a GRU walks one item after the other and sets h to zeros before the first of them alone.

All items share one buffer for h. It is cleared once, in front of the loop over the batch, so each item but the first
starts from the last h of the item before it. With one item all is right. The thread has no figures and no tolerance.
"""

import shlex
import sys
from pathlib import Path

from graveyard.grave import Bug, Sides

from rnnscope import Spec

PROGRAM = """
import sys
import numpy as np

given, shared = np.load(sys.argv[1]), sys.argv[3] == "shared"


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def step(x, h, W, R, b, d):
    xr, xz, xn = np.split(W @ x + b, 3)
    hr, hz, hn = np.split(R @ h + d, 3)
    z = sigmoid(xz + hz)
    return (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * h


def layer(x, h0, weights):
    steps, batch, _ = x.shape
    output = np.empty((steps, batch, h0.shape[1]), x.dtype)
    last = np.empty_like(h0)
    state = h0[0]
    for b in range(batch):
        if not shared:
            state = h0[b]
        for i in range(steps):
            state = step(x[i, b], state, *weights)
            output[i, b] = state
        last[b] = state
    return output, last


y, h = given["x"], []
for k, h0 in enumerate(given["h0"]):
    names = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
    y, last = layer(y, h0, [given[f"{name}_l{k}"] for name in names])
    h.append(last)
np.savez(sys.argv[2], y=y, h=np.stack(h))
"""


def program(faulty: bool, folder: Path) -> str:
    path = folder / "gru.py"
    path.write_text(PROGRAM)
    words = shlex.join([sys.executable, str(path)])
    return f"command:{words} {{in}} {{out}} {'shared' if faulty else 'own'}"


BUG = Bug(
    report="alibaba/MNN#1573",
    told="a GRU sets h to zeros before the first item of a batch alone, and the others go on from the item before",
    half=2,
    form=Sides(
        Spec(kind="gru", input_size=8, hidden_size=16, num_layers=1, seq_len=6, batch_size=3, h0="zeros"), program
    ),
    named="function",
    place={"step": 0, "layer": 0, "batch": 1},
)
