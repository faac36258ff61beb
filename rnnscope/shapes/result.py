"""All shapes of a Spec in one result, and what they cost: parameters, multiply-accumulates and bytes, by formula.

Nothing is run and torch is not imported. The shapes themselves are in dims.py; what really comes out is observed in
observation.py and laid beside them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from rnnscope.errors import RnnscopeError
from rnnscope.network.dims import Shape, TensorShape, dim_sizes, gate_rows, layer_parameters, tensor_shapes
from rnnscope.pages.shown import Shown
from rnnscope.spec.flags import Choice, Switch
from rnnscope.spec.sources import NO_FILES, Sources
from rnnscope.spec.spec import Spec, rerun

PATHS = ("module", "cells")
"""The ways of computing a network whose shapes are shown."""

MOST_ROWS = 1_000_000
"""A document, for JSON or TSV, is whole up to this many rows and refused above."""

PATH = Choice(("--path",), "Which way of computing to show:", "Shapes", "both", choices=("both", *PATHS))
DRY_RUN = Switch(("--dry-run",), "From the formulas alone; nothing is run.", "Shapes", False)


@dataclass(frozen=True)
class Mismatch:
    """A tensor or parameter that came out of one path in another shape than the formula's; None is no such name."""

    path: str
    name: str
    expected: Shape | None
    actual: Shape | None


@dataclass(frozen=True)
class Shapes(Shown):
    """All shapes of a Spec. `actual` holds what came out, path -> y, h or c -> shape; None when nothing was run."""

    spec: Spec
    paths: tuple[str, ...]
    tensors: tuple[TensorShape, ...]
    parameter_count: int
    macs: int
    actual: Mapping[str, Mapping[str, Shape]] | None = None
    mismatches: tuple[Mismatch, ...] = ()
    device_name: str | None = None
    torch_version: str | None = None
    sources: Sources = NO_FILES

    command: ClassVar[str] = "shapes"

    @property
    def parameter_bytes(self) -> int:
        """Bytes of all parameters: their count times the bytes of an element."""
        return self.parameter_count * self.spec.element_size

    @property
    def exit_code(self) -> int:
        """1 when a shape came out differently from its formula, 0 otherwise."""
        return 1 if self.mismatches else 0

    @property
    def rerun(self) -> str:
        """The command line that prints this again."""
        path = self.paths[0] if len(self.paths) == 1 and not self.spec.proj_size else "both"
        files = tuple(self.sources.given())
        own = ((PATH, path), (DRY_RUN, self.actual is None))
        return rerun(self.command, self.spec, *files, *own, with_files=bool(files))


def shapes_of(spec: Spec, paths: tuple[str, ...] = PATHS) -> Shapes:
    """Every shape of the network by formula; nothing is run.

    Args:
        paths: the ways of computing to show: module, cells or both. With a projection both is module alone.

    Raises:
        RnnscopeError: no path, one that is not known, or the cells alone with a projection.

    >>> shapes_of(Spec(input_size=10, hidden_size=20, num_layers=2, seq_len=3, batch_size=5)).tensors[2].shape
    (3, 5, 20)
    """
    if not paths or not set(paths) <= set(PATHS):
        raise RnnscopeError(f"paths is {paths!r}, but it must be some of {PATHS!r}")
    if spec.proj_size:
        if paths == ("cells",):
            raise RnnscopeError("--path is cells, but nn.LSTMCell knows no --proj-size", "try --path module")
        paths = ("module",)
    return Shapes(spec, paths, tensor_shapes(spec), parameter_count(spec), macs(spec))


def parameter_rows(spec: Spec) -> int:
    """How many parameters (tensors, not numbers) the network has."""
    return over_layers(spec, lambda layer: len(layer_parameters(spec, layer)))


def parameter_count(spec: Spec) -> int:
    """Numbers to learn: D·(G·H·(I + H_out) + 2·G·H + P·H) for each layer.

    I is H_in in the first layer and D·H_out above it; 2·G·H are the two biases; P·H is the projection.
    """
    return over_layers(spec, lambda layer: sum(each.count for each in layer_parameters(spec, layer)))


def macs(spec: Spec) -> int:
    """Multiply-accumulates of the whole sequence: the real steps times D·(G·H·(I + H_out) + P·H) for each layer.

    Real steps are L·N, or the sum of the lengths of a packed input; I is H_in in the first layer and D·H_out above it.
    Only products with a weight matrix count, as is the custom: a bias is added and a gate applied without one. One
    step of LSTMCell(10, 20) at batch 5 is 4·20·(10 + 20)·5 = 12,000.
    """
    return real_steps(spec) * over_layers(spec, lambda layer: layer_macs(spec, layer))


def layer_macs(spec: Spec, layer: int) -> int:
    """Multiply-accumulates of one step of one sequence in one layer."""
    return sum(each.count for each in layer_parameters(spec, layer) if len(each.shape) == 2)


def parameter_formula(spec: Spec) -> str:
    """`parameter_count` with its numbers put in: "20·(10 + 20 + 2) + 20·(20 + 20 + 2)"."""
    return _over_layers_in_words(spec, " + 2" if spec.bias else "")


def mac_formula(spec: Spec) -> str:
    """`macs` with its numbers put in: "15·(20·(10 + 20) + 20·(20 + 20))"."""
    return f"{real_steps(spec)}·({_over_layers_in_words(spec, '')})"


def _over_layers_in_words(spec: Spec, biases: str) -> str:
    sizes = dim_sizes(spec)

    def layer(width: int) -> str:
        text = f"{sizes[gate_rows(spec)]}·({width} + {spec.output_size}{biases})"
        if spec.proj_size:
            text = f"({text} + {spec.proj_size}·{spec.hidden_size})"
        return f"2·{text}" if spec.bidirectional else text

    above = layer(sizes["D·H_out"])
    return layer(spec.input_size) + {1: "", 2: f" + {above}"}.get(spec.num_layers, f" + {spec.num_layers - 1}·{above}")


def real_steps(spec: Spec) -> int:
    """Steps that are computed, over all sequences: L·N, or the sum of the lengths."""
    return spec.seq_len * spec.batch_size if spec.lengths is None else sum(spec.lengths)


def over_layers(spec: Spec, count: Callable[[int], int]) -> int:
    """A sum over the layers. All above the first are alike, so that a million layers cost no more than two."""
    return count(0) + ((spec.num_layers - 1) * count(1) if spec.num_layers > 1 else 0)


def check_rows(spec: Spec, by_step: int = 0) -> None:
    """Refuse a Spec whose parameters are more rows than a document is whole with.

    Args:
        by_step: how many rows there are for every step of every layer and direction.

    Raises:
        RnnscopeError: more than MOST_ROWS.
    """
    rows = parameter_rows(spec)
    if by_step * spec.seq_len * spec.num_layers * spec.directions > MOST_ROWS:
        raise RnnscopeError(
            f"--seq-len is {spec.seq_len}: its steps in all layers are over the limit of {MOST_ROWS:,} rows",
            "use --format table, which leaves out the steps in the middle",
        )
    if rows > MOST_ROWS:
        raise RnnscopeError(
            f"--layers is {spec.num_layers}: its {rows:,} parameters are over the limit of {MOST_ROWS:,} rows",
            "use --format table, which leaves out the layers in the middle",
        )
