"""A page as rich draws it: in a terminal, in a pipe, in somebody's own console, in a notebook.

What a page says is not known here. Nothing is cut: a page is as wide as its grids and drawings need, and prose wraps.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from rnnscope.pages.page import Drawing, Grid, Listing, Page, Part, Sentence, printable

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderResult

_MOODS = {"good": "green", "bad": "bold red", None: ""}

_PROSE_WIDTH = 20
"""A column of prose may become as narrow as this."""

_LEAST_WIDTH = 40
"""A page is never narrower, whatever COLUMNS says: words would be torn apart."""


class RichPage:
    """A page that rich can print in any console; in one that is too narrow for a grid its cells are folded."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def __rich_console__(self, console: Console, options: "ConsoleOptions") -> "RenderResult":
        for part in _spaced(self._page):
            yield "" if part is None else _renderable(part, options.max_width, fold=True)


def text_of(page: Page, stream: TextIO) -> str:
    """The text of a page for a stream, which decides width and colour; every line ends where its text ends."""
    # rich asks the stream whether it is a terminal, and nothing is written to it here.
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        print_page(page, console)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().split("\n")[:-1])


def print_page(page: Page, console: Console) -> None:
    """Print a page in a console of our own, which is widened for what needs more room."""
    width = max(console.width, _LEAST_WIDTH)
    for part in _spaced(page):
        if part is None:
            console.print()
            continue
        renderable = _coloured(part) if isinstance(part, Listing) and console.record else _renderable(part, width)
        console.width = max(width, _least_width(part, renderable, console))
        # A line that is to be copied is never broken.
        console.print(renderable, soft_wrap=isinstance(part, Sentence) and part.verbatim)
        console.width = width


def _spaced(page: Page) -> Iterator[Part | None]:
    """The parts, with None for an empty line: sentences stand together, everything else apart."""
    for before, part in zip([None, *page], page, strict=False):
        if before is not None and not (isinstance(before, Sentence) and isinstance(part, Sentence)):
            yield None
        yield part


def _renderable(part: Part, width: int, fold: bool = False) -> RenderableType:
    if isinstance(part, Grid):
        # The title is a line by itself: as a title of the table it would be as narrow as that.
        return Group(Text(printable(part.title), "bold"), _table(part, fold))
    if isinstance(part, Drawing):
        lines = [Text.assemble(*((printable(text), shade or "") for text, shade in line)) for line in part.draw(width)]
        return Group(Text(printable(part.title), "bold"), *(_unbroken(line, fold) for line in lines))
    if isinstance(part, Listing):
        return Text(part.text.rstrip("\n"))
    return Text.assemble((f"{part.label}: ", "bold"), (printable(part.text), _MOODS[part.mood]))


def _coloured(listing: Listing) -> RenderableType:
    """For a file to share; what goes to a shell may be run, and has no codes in it."""
    from rich.syntax import Syntax

    return Syntax(listing.text.rstrip("\n"), listing.language, theme="ansi_light", background_color="default")


def _unbroken(line: Text, fold: bool) -> Text:
    line.no_wrap, line.overflow = not fold, "fold" if fold else "ignore"
    return line


def _least_width(part: Part, renderable: RenderableType, console: Console) -> int:
    """What a grid or a drawing takes under its title, or a listing in all."""
    if isinstance(part, Listing):
        return max(map(cell_len, part.text.splitlines()))
    if not isinstance(renderable, Group):
        return 0
    _title, *body = (
        Measurement.get(console, console.options.update(width=10_000), each) for each in renderable.renderables
    )
    return max((each.minimum if isinstance(part, Grid) else each.maximum for each in body), default=0)


def _table(grid: Grid, fold: bool = False) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for index, column in enumerate(grid.columns):
        widest = max(cell_len(printable(cell)) for cell in (column.title, *(row[index] for row in grid.rows)))
        least = min(widest, _PROSE_WIDTH) if column.prose else widest
        table.add_column(
            Text(printable(column.title)),
            justify="right" if column.number else "left",
            no_wrap=not (column.prose or fold),
            min_width=None if fold else least,
            overflow="fold",
        )
    for row in grid.rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
