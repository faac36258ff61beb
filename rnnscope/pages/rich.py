"""What is drawn with rich: a page in a terminal or a notebook, and a page as a file to share.

Nothing is cut: a page is as wide as its grids and drawings need, and prose wraps. A file to share fetches nothing from
elsewhere, and the page for a browser can be read on a light and on a dark ground.
"""

import io
from html import escape
from typing import TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from rnnscope.pages.page import Block, Grid, Listing, Page, Sentence, printable

_MOODS = {"good": "green", "bad": "bold red", None: ""}

_PROSE_WIDTH = 20
"""A column of prose may become as narrow as this."""

_LEAST_WIDTH = 40
"""A page is never narrower, whatever COLUMNS says: words would be torn apart."""


class RichPage:
    """A page that rich can print in any console.

    Args:
        fold: whether the console's width holds, so that cells that are too long are folded. Without it every block
            takes as much room as it needs, and the console must not crop.
    """

    def __init__(self, page: Page, fold: bool = True) -> None:
        self._page, self._fold = page, fold

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        before: Block | None = None
        for block in self._page:
            if before is not None and not (isinstance(before, Sentence) and isinstance(block, Sentence)):
                yield ""  # sentences stand together, everything else apart
            before = block
            if self._fold:
                yield _renderable(block, options.max_width, fold=True)
                continue
            width = max(options.max_width, _LEAST_WIDTH)
            renderable = _renderable(block, width, coloured=console.record)
            own = options.update(width=max(width, _least_width(block, renderable, console, options)))
            if isinstance(block, Sentence) and block.verbatim:  # a line that is to be copied is never broken
                own = own.update(no_wrap=True, overflow="ignore")
            yield from console.render(renderable, own)


def text_of(page: Page, stream: TextIO) -> str:
    """The text of a page for a stream, which decides width and colour; every line ends where its text ends."""
    console = Console(file=stream)  # rich asks the stream whether it is a terminal, and writes nothing to it here
    with console.capture() as captured:
        console.print(RichPage(page, fold=False), crop=False)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().split("\n")[:-1])


def _renderable(block: Block, width: int, fold: bool = False, coloured: bool = False) -> RenderableType:
    """What rich prints for a block.

    Args:
        fold: whether cells and lines that are too long are broken.
        coloured: whether a listing gets colours. What goes to a shell gets none: it may be run.
    """
    if isinstance(block, Sentence):
        return Text.assemble((f"{block.label}: ", "bold"), (printable(block.text), _MOODS[block.mood]))
    if isinstance(block, Listing):
        code = block.text.rstrip("\n")
        if not coloured:
            return Text(code)
        from rich.syntax import Syntax

        return Syntax(code, block.language, theme="ansi_light", background_color="default")
    # The title is a line by itself: as a title of the table it would be as narrow as that.
    title = Text(printable(block.title), "bold")
    if isinstance(block, Grid):
        return Group(title, _table(block, fold))
    lines = [Text.assemble(*((printable(text), style or "") for text, style in line)) for line in block.draw(width)]
    return Group(title, Text("\n", no_wrap=not fold, overflow="fold" if fold else "ignore").join(lines))


def _least_width(block: Block, renderable: RenderableType, console: Console, options: ConsoleOptions) -> int:
    """What a block takes under its title: a sentence wraps at any width, and a grid where it has prose."""
    if isinstance(block, Sentence):
        return 0
    body = renderable.renderables[-1] if isinstance(renderable, Group) else renderable
    measured = Measurement.get(console, options.update(width=10_000), body)
    return measured.minimum if isinstance(block, Grid) else measured.maximum


def _table(grid: Grid, fold: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for column, *cells in zip(grid.columns, *grid.rows, strict=True):
        widest = max(cell_len(printable(cell)) for cell in (column.title, *cells))
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


_LIGHT = _theme("ffffff", "1f2328", "1f2328", "b01a1a", "116329", "7d4e00", "0550ae", "7030a0", "00626e", "57606a")

_DARK = _theme("0d1117", "e6edf3", "6e7681", "ff7b72", "56d364", "e3b341", "79c0ff", "d2a8ff", "56d4dd", "e6edf3")

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
    """The text of a file to share.

    Args:
        title: of the window or the page: the command line that gives it.
        ending: .svg, .html or .txt.
        stream: decides the width, as it does for a page that is printed.
    """
    width = Console(file=stream).width
    console = Console(
        record=True, file=io.StringIO(), width=width, force_terminal=True, color_system="truecolor", no_color=False
    )
    console.print(RichPage(page, fold=False), crop=False)
    lines = [line.rstrip() for line in console.export_text(clear=False).splitlines()]
    if ending == ".txt":
        return "".join(f"{line}\n" for line in lines)
    console.width = max(map(cell_len, lines))
    if ending == ".svg":
        console.print()  # without a line below it, the last line would lose what is under its baseline
        return console.export_svg(title=title, theme=_DARK, code_format=_SVG.replace("@FONTS@", _FONTS))
    dark = console.export_html(theme=_DARK, code_format=_DARK_STYLES, clear=False)
    light = console.export_html(theme=_LIGHT, code_format=_HTML)
    # Each is replaced once, where it first stands: in the head, before anything that the page says.
    return light.replace("@DARK@", dark, 1).replace("@FONTS@", _FONTS, 1).replace("@TITLE@", escape(title), 1)
