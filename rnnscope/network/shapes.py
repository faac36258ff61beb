"""The network on paper: the dims and sizes of every tensor and parameter, what slices hold, and words for them.

Nothing is run and torch is not imported: these are the formulas of torch's documentation.
Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from rnnscope.errors import RnnscopeError
from rnnscope.pages.page import counted, thousands
from rnnscope.spec.spec import Spec

Shape = tuple[int, ...]

OUTPUTS = ("y", "h", "c")
"""What comes out, in the order in which it is shown; c is LSTM's alone."""

GATES = {"rnn": "", "lstm": "ifgo", "gru": "rzn"}
"""The letters of the gates, in the order in which their rows are stacked in weight_ih, weight_hh and the biases."""

BLOCK = 256
"""Steps of x that are drawn at a time, so that every length and every chunk sees the same ones."""


def outputs_of(kind: str) -> tuple[str, ...]:
    """The outputs of a kind of network: an LSTM alone has c."""
    return OUTPUTS if kind == "lstm" else OUTPUTS[:-1]


_DIRECTIONS = ("forward", "backward")


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
    sizes = {"L": spec.seq_len, "N": spec.batch_size, "H_in": spec.input_size, "H": spec.hidden_size}
    sizes |= {"P": spec.proj_size, "H_out": spec.output_size, "D": spec.directions, "K": spec.num_layers}
    gates = len(GATES[spec.kind]) or 1
    products = {"D·H_out": sizes["D"] * sizes["H_out"], "D·K": sizes["D"] * sizes["K"]}
    return sizes | products | {gate_rows(spec): gates * sizes["H"]}


def parameter_name(base: str, layer: int, direction: int) -> str:
    """torch's name: weight_ih in layer 0, walked backward, is weight_ih_l0_reverse."""
    return f"{base}_l{layer}{'_reverse' if direction else ''}"


def cell_name(name: str) -> str:
    """The other name of a parameter: weight_ih_l0_reverse is reverse_cells.0.weight_ih, and the other way round."""
    if found := re.fullmatch(r"(weight_ih|weight_hh|bias_ih|bias_hh)_l(\d+)(_reverse)?", name):
        base, layer, reverse = found.groups()
        return f"{'reverse_' if reverse else ''}cells.{layer}.{base}"
    if found := re.fullmatch(r"(reverse_)?cells\.(\d+)\.(weight_ih|weight_hh|bias_ih|bias_hh)", name):
        reverse, layer, base = found.groups()
        return f"{base}_l{layer}{'_reverse' if reverse else ''}"
    raise RnnscopeError(f"{name!r} is no name of a parameter of torch's modules or of StackedCells")


def direction_parameters(spec: Spec, layer: int, direction: int) -> tuple[ParameterShape, ...]:
    """The parameters of one layer in one direction, in torch's order.

    weight_ih: (G·H, H_in), or (G·H, D·H_out) above the first layer; weight_hh: (G·H, H_out); bias_ih, bias_hh: (G·H);
    weight_hr: (P, H), with a projection.
    """
    sizes, rows = dim_sizes(spec), gate_rows(spec)
    dims_of: dict[str, tuple[str, ...]]
    dims_of = {"weight_ih": (rows, "D·H_out" if layer else "H_in"), "weight_hh": (rows, "H_out")}
    if spec.bias:
        dims_of |= {"bias_ih": (rows,), "bias_hh": (rows,)}
    if spec.proj_size:
        dims_of["weight_hr"] = ("P", "H")
    found = []
    for base, dims in dims_of.items():
        shape = tuple(sizes[dim] for dim in dims)
        name = parameter_name(base, layer, direction)
        found.append(ParameterShape(name, None if spec.proj_size else cell_name(name), dims, shape, prod(shape)))
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


@dataclass(frozen=True)
class Slice:
    """A slice of an output: how it is indexed in Python, its shape and what it holds."""

    name: str
    shape: Shape
    meaning: str


def halves(spec: Spec) -> Iterator[Slice]:
    """The forward and the backward half of y: (L, N, H_out) each, laid out as y is; none with one direction."""
    if not spec.bidirectional:
        return
    y = next(each for each in tensor_shapes(spec) if each.name == "y")
    shape = (*y.shape[:-1], spec.output_size)
    for direction, word in enumerate(_DIRECTIONS):
        yield Slice(f"y[..., {_half(spec, direction)}]", shape, f"{word} states of the top layer, in the order of time")


def rows(spec: Spec, layer: int) -> Iterator[Slice]:
    """The rows of h that a layer has, one a direction: (N, H_out) each. c has the same rows, (N, H) each."""
    shape = (spec.output_size,) if spec.unbatched else (spec.batch_size, spec.output_size)
    for direction in range(spec.directions):
        name = f"h[{spec.row_of(layer, direction)}]"
        words = layer_in_words(spec, layer, direction)
        if spec.lengths is None or direction:
            words += f", after step {0 if direction else spec.seq_len - 1}"
        else:
            words += ", after each item's own last step"
        if layer == spec.num_layers - 1:
            words += f": {last_of_y(spec, direction)}"
        yield Slice(name, shape, words)


def slices(spec: Spec) -> Iterator[Slice]:
    """The halves of y and every row of h."""
    yield from halves(spec)
    for layer in range(spec.num_layers):
        yield from rows(spec, layer)


def last_of_y(spec: Spec, direction: int) -> str:
    """The slice of y that is the last state of the top layer in a direction."""
    own_end = spec.lengths is not None and not direction
    step = "0" if direction else "length - 1" if own_end else "-1"
    item = "item" if own_end else ":"
    index = [step] if spec.unbatched else [item, step] if spec.batch_first else [step, item]
    if spec.bidirectional:
        index.append(_half(spec, direction))
    elif index[-1] == ":":
        index.pop()
    return f"y[{', '.join(index)}]"


def look_for(spec: Spec) -> str:
    """The one line that people look for: where the last state of the top layer is."""
    if not spec.bidirectional:
        where = " of each item" if spec.lengths is not None else ""
        return f"the last state{where} of the top layer is h[-1], which is {last_of_y(spec, 0)}"
    return (
        f"the top layer ends in h[-2], which is {last_of_y(spec, 0)}, and h[-1], which is {last_of_y(spec, 1)}: "
        "the backward direction ends at step 0"
    )


def notes(spec: Spec) -> Iterator[str]:
    """What a reader of the Spec could overlook."""
    if spec.dropout and spec.num_layers == 1:
        yield f"--dropout {spec.dropout:g} does nothing: it acts between layers, and there is one"
    elif spec.dropout and not spec.train:
        yield f"--dropout {spec.dropout:g} acts between layers, and only in training: add --train"
    if spec.unbatched:
        return
    first, second = ("N", "L") if spec.batch_first else ("L", "N")
    if spec.seq_len == spec.batch_size and spec.seq_len > 1:
        yield f"L = N = {spec.seq_len}: x laid out as ({second}, {first}, H_in) would fit too, and nothing would tell"
    elif spec.h0 == "zeros" and spec.lengths is None:
        yield f"without an h0, x laid out as ({second}, {first}, H_in) would be taken too, and nothing would tell"


def _half(spec: Spec, direction: int) -> str:
    return f"{spec.output_size}:" if direction else f":{spec.output_size}"


@dataclass(frozen=True)
class Place:
    """One element of y, h or c, counted from 0; `batch` is None in an unbatched network.

    In a layer below the top one h is what goes up to the next layer at each step.
    """

    tensor: str
    step: int
    layer: int
    direction: int
    unit: int
    batch: int | None


def in_order(spec: Spec, place: Place, last: int | None = None) -> tuple[int, ...]:
    """The key that sorts places in the order of cause; `last` is the last step, where it is not the Spec's."""
    if not spec.bidirectional:
        return place.step, place.layer
    last = spec.seq_len - 1 if last is None else last
    walked_before = last - place.step if place.direction else place.step
    return place.layer, walked_before, place.direction


def network_in_words(spec: Spec) -> str:
    """torch's module with what shapes it, for a title."""
    facts = [counted(spec.num_layers, "layer")]
    facts += ["bidirectional"] if spec.bidirectional else []
    facts += [spec.nonlinearity] if spec.kind == "rnn" else []
    facts += [f"projection to {spec.proj_size}"] if spec.proj_size else []
    facts += [] if spec.bias else ["no bias"]
    return f"{spec.module_name} ({', '.join(facts)})"


def sizes_in_words(spec: Spec, steps: str | None = None) -> str:
    """The sizes behind the names of the dims; `steps` stands for L where there are several lengths."""
    sizes = dim_sizes(spec)
    batch = "one sequence without N" if spec.unbatched else f"N = {counted(sizes['N'], 'sequence')}"
    projection = f"{thousands(sizes['H'])}, P = " if spec.proj_size else ""
    hidden = f"H = {projection}H_out = {thousands(sizes['H_out'])}"
    return (
        f"L = {steps or counted(sizes['L'], 'step')}, {batch}, H_in = {thousands(sizes['H_in'])}, {hidden}, "
        f"D = {counted(sizes['D'], 'direction')}, K = {counted(sizes['K'], 'layer')}."
    )


def shown_layers(spec: Spec) -> list[int | None]:
    """From the bottom up: all of up to four layers; of more the first two and the last, with None for those between."""
    return list(range(spec.num_layers)) if spec.num_layers <= 4 else [0, 1, None, spec.num_layers - 1]


def left_out(spec: Spec) -> str:
    """The layers for which None stands."""
    return f"... {counted(spec.num_layers - 3, 'layer')} ..."


def layer_in_words(spec: Spec, layer: int, direction: int) -> str:
    """A layer, and its direction where there are two."""
    return f"layer {layer}" + (f", {_DIRECTIONS[direction]}" if spec.bidirectional else "")


def place_in_words(spec: Spec, place: Place, gate: str | None = None) -> str:
    """One element of an output, and the gate that is off there."""
    item = "" if place.batch is None else f", item {place.batch}"
    where = layer_in_words(spec, place.layer, place.direction) + (f", gate {gate}" if gate else "")
    return f"step {place.step}, {where}, unit {place.unit}{item}, in {place.tensor}"
