"""nn.RNN, nn.LSTM and nn.GRU in int8, by hand and in whole numbers: an independent witness, and ways to get it wrong.

Every product is one of int32 sums of uint8 and int8, times both sizes of a step, as engines for int8 compute it. torch
and rnnscope have no part in it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any


@dataclass(frozen=True)
class Scheme:
    """How a right network quantizes.

    per_row: a size of a step for each row of the weights. levels: of what goes into a product. weights_alone: it is
    left as it is. per_item: an own range for each item. whole_x: x of a layer has one range for all steps.
    """

    per_row: bool = False
    levels: int = 128
    weights_alone: bool = False
    per_item: bool = False
    whole_x: bool = True


SCHEMES = {
    "torch's": Scheme(),
    "by rows": Scheme(per_row=True),
    "256 levels": Scheme(levels=256),
    "by rows, 256 levels": Scheme(per_row=True, levels=256, whole_x=False),
    "weights alone": Scheme(weights_alone=True),
    "weights alone, by rows": Scheme(weights_alone=True, per_row=True),
    "by items": Scheme(per_item=True, whole_x=False),
    "step by step": Scheme(whole_x=False),
}


@dataclass(frozen=True)
class Fault:
    """What is wrong, how much of it, and where: in a layer, and in a gate by its number."""

    name: str
    size: float = 0.0
    layer: int = 0
    gate: int = 0


SIZES: dict[str, tuple[float, ...]] = {
    "gate scale": (1.03, 1.1, 1.3, 2.0),
    "layer scale": (1.03, 1.1, 1.3, 2.0),
    "zero point": (1, 3, 10),
    "clipped inputs": (0.9, 0.7, 0.5),
    "clipped weights": (0.9, 0.7, 0.5),
    "another's scale": (1.1, 1.5, 3.0),
    "gate order": (1,),
    "bias dropped": (1,),
    "bias in few bits": (4, 3, 2),
}
"""Each fault with the sizes that are tried: times a scale, steps, a share of the range, the ratio of scales, bits."""


@dataclass(frozen=True)
class Matrix:
    """Weights in steps of int8, and the size of a step: one, or one for each row."""

    steps: Array
    size: Array


def in_int8(w: Array, per_row: bool, fault: Fault | None) -> Matrix:
    greatest = np.abs(w).max(1, keepdims=True) if per_row else np.abs(w).max()
    size = np.maximum(greatest, 1e-30) / 127.5
    if fault and fault.name == "clipped weights":
        size = size * fault.size
    return Matrix(np.clip(np.round(w / size), -128, 127).astype(np.int32), size)


def product(x: Array, w: Matrix, scheme: Scheme, low: Array, high: Array, fault: Fault | None) -> Array:
    """x @ W.T in whole numbers, and back."""
    rows = np.broadcast_to(w.size, (len(w.steps), 1))[:, 0]
    if scheme.weights_alone:
        return x @ (w.steps * rows[:, None]).T
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    if fault and fault.name == "clipped inputs":
        low, high = low * fault.size, high * fault.size
    most = scheme.levels - 1
    size = np.maximum((high - low) / most, 1e-30)
    zero = np.round(-low / size)
    steps = np.clip(np.round(x / size) + zero, 0, most).astype(np.int32)
    if fault and fault.name == "zero point":
        zero = zero + fault.size
    sums = steps @ w.steps.T - zero.astype(np.int32) * w.steps.sum(1)
    return sums * (size * rows)


def network(
    kind: str,
    weights: dict[str, Array],
    x: Array,
    state: tuple[Array, ...],
    scheme: Scheme = SCHEMES["torch's"],
    fault: Fault | None = None,
    relu: bool = False,
) -> tuple[Array, ...]:
    """y: (L, N, D·H), h and c: (D·K, N, H), of x: (L, N, H_in), h0 and c0: (D·K, N, H); all in float64."""
    layers = sum(name.startswith("weight_ih") and "reverse" not in name for name in weights)
    directions = 1 + any("reverse" in name for name in weights)
    last: list[tuple[Array, ...]] = []
    for layer in range(layers):
        here = fault if fault and fault.layer == layer else None
        halves = []
        for direction in range(directions):
            own = f"_l{layer}" + "_reverse" * direction
            of_x, of_h = _products(weights, own, scheme, here, kind)
            before = tuple(each[layer * directions + direction] for each in state)
            walked = _walk(
                kind,
                x,
                before,
                of_x,
                of_h,
                scheme,
                direction,
                relu,
            )
            halves.append(walked[0])
            last.append(walked[1])
        x = np.concatenate(halves, -1)
    return x, *(np.stack(each) for each in zip(*last, strict=True))


Product = Callable[[Array, Array, Array], Array]


def _products(
    weights: dict[str, Array], own: str, scheme: Scheme, fault: Fault | None, kind: str
) -> tuple[Product, Product]:
    """What x and h are multiplied with in a layer, with the biases: (x, low, high) give (N, G·H)."""
    matrices, biases = [], []
    for side in ("ih", "hh"):
        w = weights[f"weight_{side}{own}"]
        b = weights.get(f"bias_{side}{own}", np.zeros(len(w)))
        matrix = in_int8(w, scheme.per_row, fault)
        matrices.append(_wrong(matrix, fault, kind) if fault else matrix)
        biases.append(_wrong_bias(b, fault) if fault else b)
    if fault and fault.name == "another's scale":
        matrices[1] = Matrix(matrices[1].steps, matrices[1].size * fault.size)

    def of(number: int) -> Product:
        return lambda x, low, high: product(x, matrices[number], scheme, low, high, fault) + biases[number]

    return of(0), of(1)


def _wrong(matrix: Matrix, fault: Fault, kind: str) -> Matrix:
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[kind]
    steps, size = matrix.steps, np.broadcast_to(matrix.size, (len(matrix.steps), 1)).copy()
    each = len(steps) // gates
    at = slice(fault.gate % gates * each, (fault.gate % gates + 1) * each)
    if fault.name == "gate scale":
        size[at] *= fault.size
    if fault.name == "layer scale":
        size *= fault.size
    if fault.name == "gate order":
        order = list(range(gates))
        one, other = fault.gate % gates, (fault.gate + 1) % gates
        order[one], order[other] = order[other], order[one]
        steps = np.concatenate([steps[gate * each : (gate + 1) * each] for gate in order])
        size = np.concatenate([size[gate * each : (gate + 1) * each] for gate in order])
    return Matrix(steps, size)


def _wrong_bias(b: Array, fault: Fault) -> Array:
    if fault.name == "bias dropped":
        return np.zeros_like(b)
    if fault.name == "bias in few bits" and np.abs(b).max() > 0:
        size = np.abs(b).max() / (2 ** (fault.size - 1) - 1)
        return np.round(b / size) * size
    return b


def _walk(
    kind: str,
    x: Array,
    state: tuple[Array, ...],
    of_x: Product,
    of_h: Product,
    scheme: Scheme,
    backward: int,
    relu: bool,
) -> tuple[Array, tuple[Array, ...]]:
    found: list[Array] = [None] * len(x)
    for step in range(len(x))[:: -1 if backward else 1]:
        gates_x = of_x(x[step], *_range(x if scheme.whole_x else x[step], scheme))
        gates_h = of_h(state[0], *_range(state[0], scheme))
        state = STEPS[kind](gates_x, gates_h, state, relu)
        found[step] = state[0]
    return np.stack(found), state


def _range(tensor: Array, scheme: Scheme) -> tuple[Array, Array]:
    if scheme.per_item:
        return tensor.min(-1, keepdims=True), tensor.max(-1, keepdims=True)
    return tensor.min(), tensor.max()


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def _rnn(x: Array, h: Array, state: tuple[Array, ...], relu: bool) -> tuple[Array, ...]:
    return (np.maximum(x + h, 0) if relu else np.tanh(x + h),)


def _lstm(x: Array, h: Array, state: tuple[Array, ...], _: bool) -> tuple[Array, ...]:
    i, f, g, o = np.split(x + h, 4, -1)
    c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def _gru(x: Array, h: Array, state: tuple[Array, ...], _: bool) -> tuple[Array, ...]:
    (r_x, z_x, n_x), (r_h, z_h, n_h) = np.split(x, 3, -1), np.split(h, 3, -1)
    r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
    return ((1 - z) * np.tanh(n_x + r * n_h) + z * state[0],)


STEPS = {"rnn": _rnn, "lstm": _lstm, "gru": _gru}


def subject(scheme: str = "torch's", fault: Fault | None = None) -> Any:
    """The network as a subject of a comparison: batches in torch's layout, in float32."""
    import torch

    from rnnscope.subjects.builtin import Run

    def run(spec: Any, weights: Any, given: Any) -> Run:
        arrays = {name: each.double().numpy() for name, each in weights.items()}
        x = given.x.transpose(0, 1) if spec.batch_first else given.x
        state = tuple(each.double().numpy() for each in given.state)
        relu = spec.nonlinearity == "relu"
        found = network(spec.kind, arrays, x.double().numpy(), state, SCHEMES[scheme], fault, relu)
        y, *last = (torch.from_numpy(each).to(given.x.dtype) for each in found)
        return Run(y.transpose(0, 1) if spec.batch_first else y, tuple(last))

    return run
