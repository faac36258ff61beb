"""What a page for people is made of: grids, drawings, listings and sentences, and the words that pages share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of a grid. Where a page is narrow, prose is wrapped and names are shortened in the middle."""

    title: str
    prose: bool = False
    number: bool = False
    name: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Grid:
    """A table: each row has a text for each column. The first `keys` of them say what a row is about."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    keys: int = 1


@dataclass(frozen=True)
class Sentence:
    """A line under a grid: `label: text`.

    `mood` is good, bad or None, and repeats what the words say. `verbatim` text is there to be copied.
    """

    label: str
    text: str
    mood: str | None = None
    verbatim: bool = False


Strip = tuple[str, str | None]
"""A piece of a line and its style, which repeats what the text says."""

Line = tuple[Strip, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Drawing:
    """Lines that are drawn for a width in characters; where the width is too small, they take more."""

    title: str
    draw: Callable[[int], list[Line]]


@dataclass(frozen=True, eq=False, repr=False)
class Listing:
    """Text to be copied or run as it is: alone on its page."""

    text: str
    language: str


@dataclass(frozen=True, eq=False, repr=False)
class Markdown:
    """A text in Markdown, as the manual has it."""

    text: str


Block = Grid | Drawing | Listing | Markdown | Sentence

Page = list[Block]


def said(page: Page, *labels: str) -> tuple[str, ...]:
    """The sentences of a page that have one of the labels, each as a line."""
    return tuple(f"{e.label}: {e.text}" for e in page if isinstance(e, Sentence) and e.label in labels)


def printable(text: str) -> str:
    """The text with its control codes spelled out: a name in a file may have some, and a terminal would obey them."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


_BACK_ENDS = {
    "onednn": "oneDNN",
    "cudnn": "cuDNN",
    "tf32_in_cudnn": "TF32 in cuDNN",
    "tf32_in_cublas": "TF32 in cuBLAS",
}


def where_it_ran(
    device: str | None,
    dtype: str,
    threads: int | None,
    torch_version: str | None,
    back_ends: tuple[tuple[str, bool], ...] = (),
) -> str:
    """Device, dtype, threads, the back ends that may have computed, and torch, for a caption."""
    if threads is None or torch_version is None:
        return "not run; torch was not imported."
    on = (f"{_BACK_ENDS[name]} {'on' if state else 'off'}" for name, state in back_ends)
    return f"{', '.join((f'on {device} in {dtype}', counted(threads, 'thread'), *on, f'torch {torch_version}'))}."


def thousands(number: int) -> str:
    """A whole number for people."""
    return f"{number:,}"


def ended(text: str) -> str:
    """A sentence with a full stop, unless it has a sign at its end."""
    return text if text.endswith(("?", ".")) else f"{text}."


def enumerated(words: Sequence[str]) -> str:
    """Words in a sentence: "a, b and c"."""
    *first, last = words or ("",)
    return f"{', '.join(first)} and {last}" if first else last


def first_of(words: Sequence[str], most: int) -> str:
    """The first words of a list in a sentence, and how many more there are: "a, b and 3 more"."""
    rest = len(words) - most
    return ", ".join(words[:most]) + (f" and {rest} more" if rest > 0 else "")


def counted(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{thousands(number)} {noun}{'' if number == 1 else 's'}"
