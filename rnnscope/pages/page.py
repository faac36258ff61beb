"""What a page for people is made of: grids, drawings and sentences, and the words that pages share.

What each page says is in shapes_page.py, trace_page.py and so on; how a page is written is render.py's business.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rnnscope.network.dims import Shape, dim_sizes
from rnnscope.shapes.result import Shapes
from rnnscope.spec.spec import Spec
from rnnscope.tracing.result import Trace

if TYPE_CHECKING:  # its module imports torch
    from rnnscope.verdict.places import Place


MOST_LAYERS = 4
"""A page shows this many layers; of more it shows the first two and the last."""


@dataclass(frozen=True)
class Column:
    """A column of a grid; only a column of prose may be wrapped."""

    title: str
    prose: bool = False
    number: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Grid:
    """A table: each row has a text for each column."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Sentence:
    """A line under a grid: `label: text`.

    `mood` is good, bad or None and never carries what the words do not say. `verbatim` text is to be copied.
    """

    label: str
    text: str
    mood: str | None = None
    verbatim: bool = False


Strip = tuple[str, str | None]
"""A piece of a line and its style, which never carries what the text does not say."""

Line = tuple[Strip, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Drawing:
    """Lines that are drawn for a width in characters; they need more where it is too small for them."""

    title: str
    draw: Callable[[int], list[Line]]


@dataclass(frozen=True, eq=False, repr=False)
class Listing:
    """Text to be copied or run as it is: alone on its page."""

    text: str
    language: str


Part = Grid | Drawing | Listing | Sentence
Page = list[Part]


def printable(text: str) -> str:
    """Control codes, which a name in a file may have, are shown and not sent."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def network(spec: Spec) -> str:
    """torch's module with what shapes it, for a title."""
    facts = [counted(spec.num_layers, "layer")]
    facts += ["bidirectional"] if spec.bidirectional else []
    facts += [spec.nonlinearity] if spec.kind == "rnn" else []
    facts += [f"projection to {spec.proj_size}"] if spec.proj_size else []
    facts += [] if spec.bias else ["no bias"]
    return f"{spec.module_name} ({', '.join(facts)})"


def sizes_in_words(spec: Spec, steps: str | None = None) -> str:
    """The sizes behind the names of the dims.

    Args:
        steps: said of L instead of the Spec's own, where there are several lengths.
    """
    sizes = dim_sizes(spec)
    batch = "one sequence without N" if spec.unbatched else f"N = {counted(sizes['N'], 'sequence')}"
    hidden = f"H = H_out = {thousands(sizes['H'])}"
    if spec.proj_size:
        hidden = f"H = {thousands(sizes['H'])}, P = H_out = {thousands(sizes['P'])}"
    return (
        f"L = {steps or counted(sizes['L'], 'step')}, {batch}, H_in = {thousands(sizes['H_in'])}, {hidden}, "
        f"D = {counted(sizes['D'], 'direction')}, K = {counted(sizes['K'], 'layer')}."
    )


def shown_layers(spec: Spec) -> list[int | None]:
    """From the bottom up: every layer, or of many the first two and the last, with None for those between."""
    last = spec.num_layers - 1
    return list(range(last + 1)) if last < MOST_LAYERS else [0, 1, None, last]


def left_out(spec: Spec) -> str:
    """The layers for which None stands."""
    return f"... {counted(spec.num_layers - 3, 'layer')} like it ..."


def layer_in_words(spec: Spec, layer: int, direction: int) -> str:
    """A layer, and its direction where there are two."""
    return f"layer {layer}" + (f", {('forward', 'backward')[direction]}" if spec.bidirectional else "")


def place_in_words(spec: Spec, place: "Place") -> str:
    """One element of an output."""
    item = "" if place.batch is None else f", item {place.batch}"
    where = layer_in_words(spec, place.layer, place.direction)
    return f"step {place.step}, {where}, unit {place.unit}{item}, in {place.tensor}"


def where_it_ran(result: Shapes | Trace) -> str:
    """Device, dtype and torch, for a caption."""
    if result.torch_version is None:
        return "not run; torch was not imported."
    return f"on {result.device_name} in {result.spec.dtype}, torch {result.torch_version}."


def back_ends_in_words(back_ends: tuple[tuple[str, bool], ...]) -> str:
    """Which of torch's back ends may have computed."""
    words = {"onednn": "oneDNN", "cudnn": "cuDNN", "tf32_in_cudnn": "TF32 in cuDNN", "tf32_in_cublas": "TF32 in cuBLAS"}
    return ", ".join(f"{words[name]} {'on' if state else 'off'}" for name, state in back_ends)


def as_tuple(shape: Shape) -> str:
    """A shape as Python writes it."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def thousands(number: int) -> str:
    """A whole number for people."""
    return f"{number:,}"


def ended(text: str) -> str:
    """A sentence with its full stop, where it has no other sign at its end."""
    return text if text.endswith(("?", ".")) else f"{text}."


def counted(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{thousands(number)} {noun}{'' if number == 1 else 's'}"
