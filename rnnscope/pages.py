"""What a page for people is made of: grids and sentences without colour or width, and the words that pages share.

What each page says is in shapes_page.py and comparison_page.py; how a page is drawn is render.py's business.
"""

from dataclasses import dataclass

from rnnscope.dims import Shape
from rnnscope.shapes import Shapes
from rnnscope.spec import Spec


@dataclass(frozen=True)
class Column:
    """A column of a grid; only a column of prose may be wrapped."""

    title: str
    prose: bool = False
    number: bool = False


@dataclass(frozen=True)
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


Page = list[Grid | Sentence]


def network(spec: Spec) -> str:
    """torch's module with what shapes it, for a title."""
    facts = [counted(spec.num_layers, "layer")]
    facts += ["bidirectional"] if spec.bidirectional else []
    facts += [spec.nonlinearity] if spec.kind == "rnn" else []
    facts += [f"projection to {spec.proj_size}"] if spec.proj_size else []
    facts += [] if spec.bias else ["no bias"]
    return f"{spec.module_name} ({', '.join(facts)})"


def where_it_ran(result: Shapes) -> str:
    """Device, dtype and torch, for a caption."""
    if result.torch_version is None:
        return "not run; torch was not imported."
    return f"on {result.device_name} in {result.spec.dtype}, torch {result.torch_version}."


def as_tuple(shape: Shape) -> str:
    """A shape as Python writes it."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def thousands(number: int) -> str:
    """A whole number for people."""
    return f"{number:,}"


def counted(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{thousands(number)} {noun}{'' if number == 1 else 's'}"
