"""What is drawn with rich: a page in a terminal or a notebook, a page as a file to share, and the bar of a long run.

What a page says is not known here. Nothing is cut: a page is as wide as its grids and drawings need, and prose wraps.
Nothing in a shared file is fetched from elsewhere, and the page for a browser is readable on a light and a dark ground.
"""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.terminal_theme import TerminalTheme
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


_FONTS = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"


def _theme(ground: str, text: str, *colours: str) -> TerminalTheme:
    """Black, red, green, yellow, blue, magenta, cyan and white, as a page means them, on a ground."""
    first, second, *others = (tuple(bytes.fromhex(each)) for each in (ground, text, *colours))
    return TerminalTheme(first, second, others)  # type: ignore[arg-type]


_LIGHT = _theme("ffffff", "1f2328", *["1f2328", "b01a1a", "116329", "7d4e00", "0550ae", "7030a0", "00626e", "57606a"])


_DARK = _theme("0d1117", "e6edf3", *["6e7681", "ff7b72", "56d364", "e3b341", "79c0ff", "d2a8ff", "56d4dd", "e6edf3"])


_HTML = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="UTF-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@TITLE@</title>
<style>
body {{ color: {foreground}; background-color: {background}; margin: 1.5em; }}
pre {{ font: 14px/1.3 @FONTS@; overflow-x: auto; }}
code {{ font-family: inherit; }}
{stylesheet}
@media (prefers-color-scheme: dark) {{
@DARK@
}}
</style>
</head>
<body>
<pre><code>{code}</code></pre>
</body>
</html>
"""


_DARK_STYLES = "body {{ color: {foreground}; background-color: {background}; }}\n{stylesheet}"


_SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
    font-family: @FONTS@; font-size: {char_height}px; line-height: {line_height}px; white-space: pre;
}}
.{unique_id}-title {{ font-family: sans-serif; font-size: 18px; font-weight: bold; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""rich's own frame, less the fonts that it would fetch from the network."""


def export(page: Page, title: str, ending: str, stream: TextIO) -> str:
    """The text of a file.

    Args:
        title: of the window or the page: the command line that gives it.
        ending: .svg, .html or .txt.
        stream: decides the width, as it does for a page that is printed.
    """
    console = Console(
        record=True,
        file=io.StringIO(),
        width=Console(file=stream).width,
        force_terminal=True,
        force_jupyter=False,
        color_system="truecolor",
        no_color=False,
        highlight=False,
        markup=False,
        emoji=False,
    )
    print_page(page, console)
    plain = console.export_text(clear=False)
    lines = [line.rstrip() for line in plain.splitlines()]
    if ending == ".txt":
        return "".join(f"{line}\n" for line in lines)
    console.width = max(map(cell_len, lines))
    if ending == ".svg":
        console.print()  # what the last line has below its baseline is cut off otherwise
        return console.export_svg(title=title, theme=_DARK, code_format=_SVG.replace("@FONTS@", _FONTS))
    dark = console.export_html(theme=_DARK, code_format=_DARK_STYLES, clear=False)
    code_format = _HTML.replace("@FONTS@", _FONTS).replace("@TITLE@", _braced(escape(title)))
    return console.export_html(theme=_LIGHT, code_format=code_format.replace("@DARK@", _braced(dark)))


def _braced(text: str) -> str:
    """Text that stands in a format as it is."""
    return text.replace("{", "{{").replace("}", "}}")


Advance = Callable[[int], object]
"""Told how many more have been done."""


_is_shown = False
"""One bar at a time: what runs within a sweep has none of its own."""


@contextmanager
def progress(total: int, unit: str, done: int = 0) -> Iterator[Advance]:
    """Show a bar while what is inside runs; it is gone afterwards.

    Args:
        total: how many there are in all.
        unit: what they are, in the plural.
        done: how many there are already.
    """
    global _is_shown
    if _is_shown or sys.stderr is None or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.speed or 0.0
            return Text(f"{speed:,.0f} {unit}/s" if speed >= 100 else f"{speed:.3g} {unit}/s")

    columns = (BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    # stdout is left alone: it gets the result, and may be another terminal.
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task, _is_shown = bar.add_task(unit, total=total, completed=done), True
        try:
            yield lambda count: bar.advance(task, count)
        finally:
            _is_shown = False
