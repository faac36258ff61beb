"""A runtime of recurrent networks in NumPy, written from torch's documentation and from nothing of rnnscope.

    python numpy_runtime.py IN.npz OUT.npz SPEC.json [FAULT]

It is what somebody might write who wants to run a network without torch. FAULT names one thing that it then does wrong.
Source of the formulas: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html, and RNN and GRU beside it.
"""

import json
import sys
from typing import Any

import numpy as np

Array = Any
States = tuple[Array, ...]

FAULT = sys.argv[4] if len(sys.argv) > 4 else ""


def sigmoid(a: Array) -> Array:
    if FAULT == "hard sigmoid":
        return np.clip(a / 6 + 0.5, 0, 1)
    return 1 / (1 + np.exp(-a))


def relu(a: Array) -> Array:
    return np.maximum(a, 0)


class Cell:
    """One layer in one direction."""

    def __init__(self, spec: dict[str, Any], weights: dict[str, Array], layer: int, reverse: bool) -> None:
        end = f"_l{layer}" + ("_reverse" if reverse else "")
        self.kind = spec["kind"]
        self.act: Any = relu if spec["nonlinearity"] == "relu" else np.tanh
        if FAULT == "relu for tanh":
            self.act = relu
        if FAULT == "tanh for relu":
            self.act = np.tanh
        self.W = weights["weight_ih" + end]
        self.U = weights["weight_hh" + end]
        self.b = weights.get("bias_ih" + end, np.zeros(len(self.W), self.W.dtype))
        self.d = weights.get("bias_hh" + end, np.zeros(len(self.W), self.W.dtype))
        self.P = weights.get("weight_hr" + end)
        if FAULT == "bias_hh dropped":
            self.d = 0 * self.d
        if FAULT == "bias_hh of the top layer dropped" and layer == spec["num_layers"] - 1:
            self.d = 0 * self.d
        if FAULT == "W_hh transposed":
            size = self.U.shape[1]
            self.U = np.concatenate([self.U[at : at + size].T for at in range(0, len(self.U), size)])

    def sums(self, x: Array, h: Array) -> tuple[Array, Array]:
        a, r = x @ self.W.T + self.b, h @ self.U.T + self.d
        if FAULT == "sums in float16":
            a, r = (each.astype(np.float16).astype(each.dtype) for each in (a, r))
        if FAULT == "sums in float32":
            a, r = (each.astype(np.float32).astype(each.dtype) for each in (a, r))
        return a, r

    def step(self, x: Array, state: States) -> States:
        found: States = getattr(self, self.kind)(x, *state)
        return found

    def rnn(self, x: Array, h: Array) -> States:
        a, r = self.sums(x, h)
        return (self.act(a + r),)

    def lstm(self, x: Array, h: Array, c: Array) -> States:
        a, r = self.sums(x, h)
        i, f, g, o = np.split(a + r, 4, -1)
        if FAULT == "gates i o f g":
            i, o, f, g = np.split(a + r, 4, -1)
        if FAULT == "gates i f o g":
            i, f, o, g = np.split(a + r, 4, -1)
        if FAULT == "forget bias":
            f = f + 1
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        if FAULT == "c clipped at 1":
            c = np.clip(c, -1, 1)
        if FAULT == "c clipped at 0.7":
            c = np.clip(c, -0.7, 0.7)
        if FAULT == "c clipped at 3":
            c = np.clip(c, -3, 3)
        h = sigmoid(o) * (c if FAULT == "tanh of c left out" else np.tanh(c))
        if self.P is not None:
            h = h[..., : len(self.P)] if FAULT == "projection ignored" else h @ self.P.T
        return h, c

    def gru(self, x: Array, h: Array) -> States:
        a, u = self.sums(x, h)
        (ar, az, an), (ur, uz, un) = np.split(a, 3, -1), np.split(u, 3, -1)
        r, z = sigmoid(ar + ur), sigmoid(az + uz)
        if FAULT == "gates z r n":
            r, z = z, r
        if FAULT == "reset before the matmul":
            n = np.tanh(an + np.split((r * h) @ self.U.T + self.d, 3, -1)[2])
        else:
            n = np.tanh(an + r * un)
        return (z * n + (1 - z) * h,) if FAULT == "update gate inverted" else ((1 - z) * n + z * h,)


def walk(cell: Cell, x: Array, state: States, lengths: Array, reverse: bool) -> tuple[Array, States]:
    """x: (L, N, H_in); state: arrays (N, ·); each item walks its own steps."""
    y = np.zeros((len(x), x.shape[1], state[0].shape[-1]), x.dtype)
    turned = reverse and FAULT != "backward direction not reversed"
    for t in reversed(range(len(x))) if turned else range(len(x)):
        new, real = cell.step(x[t], state), (t < lengths)[:, None]
        if FAULT == "lengths ignored":
            real = np.ones_like(real)
        state = tuple(np.where(real, after, before) for after, before in zip(new, state, strict=True))
        y[t] = new[0] if FAULT == "padding not zeroed" else np.where(real, new[0], 0)
    if reverse and FAULT == "backward state at the wrong end":
        state = (y[-1], *state[1:])
    if reverse and FAULT == "backward outputs not flipped back":
        y = y[::-1]
    return y, state


def run(spec: dict[str, Any], arrays: dict[str, Array]) -> dict[str, Array]:
    names = ("h0", "c0") if spec["kind"] == "lstm" else ("h0",)
    x, state = arrays["x"], [arrays[name] for name in names]
    if spec["batch_size"] is None:
        x, state = x[:, None], [each[:, None] for each in state]
    elif spec["batch_first"] and FAULT != "batch_first ignored":
        x = x.swapaxes(0, 1)
    steps, items = x.shape[:2]
    lengths = arrays.get("lengths", np.full(items, steps))
    if FAULT == "h0 ignored":
        state[0] = 0 * state[0]
    if FAULT == "c0 ignored":
        state[1] = 0 * state[1]
    if FAULT == "state of the first item for all":
        state = [np.broadcast_to(each[:, :1], each.shape) for each in state]
    directions = 2 if spec["bidirectional"] else 1
    last: list[list[Array]] = [[] for _ in state]
    for layer in range(spec["num_layers"]):
        ways = []
        for way in range(directions):
            row = layer * directions + way
            if FAULT == "states of the layers swapped":
                row = (spec["num_layers"] - 1 - layer) * directions + way
            cell = Cell(spec, arrays, layer, way == 1)
            y, ended = walk(cell, x, tuple(each[row] for each in state), lengths, way == 1)
            ways.append(y)
            for rows, each in zip(last, ended, strict=True):
                rows.append(each)
        x = np.concatenate(ways, -1)
    outputs = dict(zip(("y", "h", "c"), (x, *map(np.stack, last)), strict=False))
    if FAULT == "last step dropped":
        outputs["y"] = np.concatenate([x[:-1], 0 * x[-1:]])
    if FAULT == "y of the step before":
        outputs["y"] = np.concatenate([x[:1], x[:-1]])
    if FAULT == "directions swapped in h":
        outputs["h"] = outputs["h"].reshape(-1, 2, *outputs["h"].shape[1:])[:, ::-1].reshape(outputs["h"].shape)
    if FAULT == "h and c swapped":
        outputs["h"], outputs["c"] = outputs["c"], outputs["h"]
    if spec["batch_size"] is None:
        outputs = {name: each[:, 0] for name, each in outputs.items()}
    elif spec["batch_first"] and FAULT != "batch_first ignored":
        outputs["y"] = outputs["y"].swapaxes(0, 1)
    return outputs


if __name__ == "__main__":
    with np.load(sys.argv[1]) as given, open(sys.argv[3], encoding="utf-8") as stream:
        np.savez(sys.argv[2], **run(json.load(stream), dict(given)))
