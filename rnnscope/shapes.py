"""The symbolic dims and the sizes of every tensor and parameter, and what they cost, from a Spec alone.

Nothing is run and torch is not imported: these are the formulas of torch's documentation. What really comes out is
observed in subjects.py and laid beside them.
Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from rnnscope.errors import RnnscopeError
from rnnscope.flags import Flag
from rnnscope.spec import Spec, rerun

Shape = tuple[int, ...]

PATHS = ("module", "cells")
"""The ways of computing a network."""

PATH = Flag(("--path",), "Which way of computing to show:", "Shapes", "both", choices=("both", *PATHS))
DRY_RUN = Flag(("--dry-run",), "From the formulas alone; nothing is run.", "Shapes", False)


@dataclass(frozen=True)
class TensorShape:
    """One tensor that goes in or comes out: its dims by name, their sizes and what it holds."""

    name: str
    role: str
    dims: tuple[str, ...]
    shape: Shape
    meaning: str


@dataclass(frozen=True)
class ParameterShape:
    """One parameter under its name in torch's module and under its name in the stack of cells."""

    name: str
    cell_name: str
    dims: tuple[str, ...]
    shape: Shape
    count: int

    @property
    def names(self) -> dict[str, str]:
        """Its name on each path."""
        return {"module": self.name, "cells": self.cell_name}


@dataclass(frozen=True)
class Mismatch:
    """A tensor or parameter that came out of one path in another shape than the formula's; None is no such name."""

    path: str
    name: str
    expected: Shape | None
    actual: Shape | None


@dataclass(frozen=True)
class Shapes:
    """All shapes of a Spec. `actual` holds what came out, path -> y or h -> shape; None when nothing was run."""

    spec: Spec
    paths: tuple[str, ...]
    tensors: tuple[TensorShape, ...]
    parameter_count: int
    macs: int
    actual: Mapping[str, Mapping[str, Shape]] | None = None
    mismatches: tuple[Mismatch, ...] = ()
    device_name: str | None = None
    torch_version: str | None = None

    command: ClassVar[str] = "shapes"

    @property
    def exit_code(self) -> int:
        """1 when a shape came out differently from its formula, 0 otherwise."""
        return 1 if self.mismatches else 0

    @property
    def rerun(self) -> str:
        """The command line that prints this again."""
        path = self.paths[0] if len(self.paths) == 1 else "both"
        return rerun(self.command, self.spec, (PATH, path), (DRY_RUN, self.actual is None))


def shapes_of(spec: Spec, paths: tuple[str, ...] = PATHS) -> Shapes:
    """Every shape of the network by formula; nothing is run.

    Args:
        paths: the ways of computing to show: module, cells or both.

    Raises:
        RnnscopeError: no path, or one that is not known.

    >>> shapes_of(Spec(input_size=10, hidden_size=20, num_layers=2, seq_len=3, batch_size=5)).tensors[2].shape
    (3, 5, 20)
    """
    if not paths or not set(paths) <= set(PATHS):
        raise RnnscopeError(f"paths is {paths!r}, but it must be some of {PATHS!r}")
    return Shapes(spec, paths, tensor_shapes(spec), parameter_count(spec), macs(spec))


def tensor_shapes(spec: Spec) -> tuple[TensorShape, ...]:
    """x: (L, N, H_in), h0: (D·K, N, H_out), y: (L, N, D·H_out), h: (D·K, N, H_out).

    batch_first swaps L and N in x and y and never moves the state.
    """
    time, batch = ("N", "L") if spec.batch_first else ("L", "N")
    sizes = dim_sizes(spec)

    def tensor(name: str, role: str, dims: tuple[str, ...], meaning: str) -> TensorShape:
        return TensorShape(name, role, dims, tuple(sizes[dim] for dim in dims), meaning)

    return (
        tensor("x", "input", (time, batch, "H_in"), "input: one vector for each step of each sequence"),
        tensor("h0", "state", ("D·K", "N", "H_out"), "initial state, one row a layer"),
        tensor("y", "output", (time, batch, "D·H_out"), "state of the top layer after every step"),
        tensor("h", "output", ("D·K", "N", "H_out"), "state of every layer after the last step"),
    )


def dim_sizes(spec: Spec) -> dict[str, int]:
    """The size behind each dim name. D is 1 (one direction) and H_out is H (no projection)."""
    hidden = spec.hidden_size
    return {
        "L": spec.seq_len,
        "N": spec.batch_size,
        "H_in": spec.input_size,
        "H": hidden,
        "H_out": hidden,
        "D·H_out": hidden,
        "D": 1,
        "K": spec.num_layers,
        "D·K": spec.num_layers,
    }


def layer_parameters(spec: Spec, layer: int) -> tuple[ParameterShape, ...]:
    """The parameters of one layer: weight_ih (H, H_in or H), weight_hh (H, H), bias_ih (H), bias_hh (H)."""
    hidden = spec.hidden_size
    width, width_name = (spec.input_size, "H_in") if layer == 0 else (hidden, "H")
    facts: list[tuple[str, tuple[str, ...], Shape]] = [
        ("weight_ih", ("H", width_name), (hidden, width)),
        ("weight_hh", ("H", "H"), (hidden, hidden)),
    ]
    if spec.bias:
        facts += [("bias_ih", ("H",), (hidden,)), ("bias_hh", ("H",), (hidden,))]
    return tuple(
        ParameterShape(f"{base}_l{layer}", f"cells.{layer}.{base}", dims, shape, prod(shape))
        for base, dims, shape in facts
    )


def parameters(spec: Spec) -> Iterator[ParameterShape]:
    """Every parameter, layer by layer, in torch's order. Lazy: a Spec may have more layers than memory has room for."""
    for layer in range(spec.num_layers):
        yield from layer_parameters(spec, layer)


def parameter_rows(spec: Spec) -> int:
    """How many parameters (tensors, not numbers) the network has."""
    return _over_layers(spec, lambda layer: len(layer_parameters(spec, layer)))


def parameter_count(spec: Spec) -> int:
    """Numbers to learn: the sum over layers of H·(H_in or H) + H·H, and 2·H for the two biases."""
    return _over_layers(spec, lambda layer: sum(p.count for p in layer_parameters(spec, layer)))


def macs(spec: Spec) -> int:
    """Multiply-accumulates of the whole sequence: L·N times the sum over layers of H·(H_in or H) + H·H.

    Only matrix products count, as is the custom: a bias is added and a tanh taken without one.
    """
    per_step = _over_layers(spec, lambda layer: sum(p.count for p in layer_parameters(spec, layer) if p.shape[1:]))
    return spec.seq_len * spec.batch_size * per_step


def _over_layers(spec: Spec, count: Callable[[int], int]) -> int:
    # All layers above the first are alike, so that a million layers cost no more than two.
    return count(0) + (spec.num_layers - 1) * count(1)
