"""The symbolic dims and the sizes of every tensor and parameter, from a Spec alone.

Nothing is run and torch is not imported: these are the formulas of torch's documentation. What they cost is counted in
shapes.py, and what the parts of y and h hold is told in parts.py.
Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from rnnscope.spec.spec import Spec

Shape = tuple[int, ...]

GATES = {"rnn": "", "lstm": "ifgo", "gru": "rzn"}
"""The letters of the gates, in the order in which their rows are stacked in weight_ih, weight_hh and the biases."""

BLOCK = 256
"""Steps of x that are drawn at a time, whatever they are drawn for: every length and every chunk sees the same ones."""


@dataclass(frozen=True)
class TensorShape:
    """One tensor that goes in or comes out: its dims by name, their sizes, its bytes and what it holds."""

    name: str
    role: str
    dims: tuple[str, ...]
    shape: Shape
    bytes: int
    meaning: str


@dataclass(frozen=True)
class ParameterShape:
    """One parameter under its name in torch's module and in the stack of cells, which knows no weight_hr."""

    name: str
    cell_name: str | None
    dims: tuple[str, ...]
    shape: Shape
    count: int

    @property
    def names(self) -> dict[str, str | None]:
        """Its name on each path."""
        return {"module": self.name, "cells": self.cell_name}


def tensor_shapes(spec: Spec) -> tuple[TensorShape, ...]:
    """x: (L, N, H_in), h0 and h: (D·K, N, H_out), c0 and c: (D·K, N, H), y: (L, N, D·H_out).

    batch_first swaps L and N in x and y and never moves the state. Unbatched tensors have no N. c is LSTM's alone.
    """
    batch = () if spec.unbatched else ("N",)
    sequence = (*batch, "L") if spec.batch_first else ("L", *batch)
    sizes = dim_sizes(spec)

    def tensor(name: str, role: str, dims: tuple[str, ...], meaning: str) -> TensorShape:
        shape = tuple(sizes[dim] for dim in dims)
        return TensorShape(name, role, dims, shape, prod(shape) * spec.element_size, meaning)

    each = "every layer" if spec.directions == 1 else "every layer and direction"
    h, c = ("D·K", *batch, "H_out"), ("D·K", *batch, "H")
    state = [tensor("h0", "state", h, f"initial state of {each}")]
    last = [tensor("h", "output", h, f"state of {each} after the last step")]
    if spec.kind == "lstm":
        state.append(tensor("c0", "state", c, f"initial cell state of {each}"))
        last.append(tensor("c", "output", c, f"cell state of {each} after the last step"))
    top = "state of the top layer after every step"
    if spec.bidirectional:
        top += ", forward half then backward half"
    x = tensor("x", "input", (*sequence, "H_in"), "input: one vector for each step of each sequence")
    return (x, *state, tensor("y", "output", (*sequence, "D·H_out"), top), *last)


def dim_sizes(spec: Spec) -> dict[str, int]:
    """The size behind each dim name, the G·H of weights (G gates, or 1 without) included."""
    gates = len(GATES[spec.kind]) or 1
    return {
        "L": spec.seq_len,
        "N": spec.batch_size,
        "H_in": spec.input_size,
        "H": spec.hidden_size,
        "P": spec.proj_size,
        "H_out": spec.output_size,
        "D·H_out": spec.directions * spec.output_size,
        "D": spec.directions,
        "K": spec.num_layers,
        "D·K": spec.directions * spec.num_layers,
        gate_rows(spec): gates * spec.hidden_size,
    }


def direction_parameters(spec: Spec, layer: int, direction: int) -> tuple[ParameterShape, ...]:
    """The parameters of one layer in one direction, in torch's order.

    weight_ih: (G·H, H_in), or (G·H, D·H_out) above the first layer; weight_hh: (G·H, H_out); bias_ih, bias_hh: (G·H);
    weight_hr: (P, H), with a projection.
    """
    sizes, rows = dim_sizes(spec), gate_rows(spec)
    facts = [("weight_ih", (rows, "D·H_out" if layer else "H_in")), ("weight_hh", (rows, "H_out"))]
    if spec.bias:
        facts += [("bias_ih", (rows,)), ("bias_hh", (rows,))]  # type: ignore[list-item]
    if spec.proj_size:
        facts.append(("weight_hr", ("P", "H")))
    found = []
    for base, dims in facts:
        shape = tuple(sizes[dim] for dim in dims)
        name = f"{base}_l{layer}{'_reverse' if direction else ''}"
        cell = None if spec.proj_size else f"{'reverse_' if direction else ''}cells.{layer}.{base}"
        found.append(ParameterShape(name, cell, dims, shape, prod(shape)))
    return tuple(found)


def layer_parameters(spec: Spec, layer: int) -> tuple[ParameterShape, ...]:
    """The parameters of one layer: the forward direction, then the backward one."""
    return tuple(each for d in range(spec.directions) for each in direction_parameters(spec, layer, d))


def parameters(spec: Spec) -> Iterator[ParameterShape]:
    """Every parameter, layer by layer, in torch's order. Lazy: a Spec may have more layers than memory has room for."""
    for layer in range(spec.num_layers):
        yield from layer_parameters(spec, layer)


def gate_rows(spec: Spec) -> str:
    """The dim of the stacked gates: 4·H, 3·H, or H where there are none."""
    gates = len(GATES[spec.kind])
    return f"{gates}·H" if gates else "H"
