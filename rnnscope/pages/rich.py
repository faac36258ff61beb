"""What is drawn with rich: a page in a terminal or a notebook, and a page as a file to share.

A page has one width: that of the console, or more where one of its blocks cannot be narrower. Prose wraps first, then
names are shortened in the middle, and then a grid goes on below itself. A file to share fetches nothing from elsewhere,
and the page for a browser can be read on a light and on a dark ground.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from operator import itemgetter
from typing import TextIO

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from rnnscope.pages.page import Block, Column, Drawing, Grid, Listing, Markdown, Page, Sentence, printable

_MOODS = {"good": "green", "bad": "bold red", None: ""}

_PROSE_WIDTH, _WORD_WIDTH = 16, 30
"""A column of prose may become as narrow as the first, or as its longest word up to the second."""

_NAME_WIDTH = 20
"""A column of names may become as narrow as this."""

_GAP = 2
"""Between two columns."""

_LEAST_WIDTH = 40
"""A page is never narrower, whatever COLUMNS says: words would be torn apart."""


class RichPage:
    """A page that rich can print in any console.

    Args:
        fold: whether the console's width holds, so that cells that are too long are folded. Without it the page takes
            as much room as it needs, and the console must not crop.
    """

    def __init__(self, page: Page, fold: bool = True) -> None:
        self._page, self._fold = page, fold

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        if not self._fold:
            width = max(width, _LEAST_WIDTH)
            width = max(width, *(_least_width(block, width) for block in self._page))
        before: Block | None = None
        for block in self._page:
            if before is not None and not (isinstance(before, Sentence) and isinstance(block, Sentence)):
                yield ""  # sentences stand together, everything else apart
            before = block
            own = options.update(width=width)
            if not self._fold and (isinstance(block, Listing) or (isinstance(block, Sentence) and block.verbatim)):
                own = own.update(no_wrap=True, overflow="ignore")  # what is to be copied is never broken
            yield from console.render(_renderable(block, width, console.record and not self._fold), own)


def shortened(text: str, width: int, start: int | None = None) -> str:
    """A name that fills at most so many cells: its middle is left out.

    Args:
        start: how many cells of its start are kept; less than half of them otherwise, since its end tells more.
    """
    if cell_len(text) <= width:
        return text
    room = width - len("...")
    start = _at_the_start(room) if start is None else start
    first, last = set_cell_size(text, start), set_cell_size(text[::-1], room - start)[::-1]
    return f"{first.rstrip(' .')}...{last.lstrip(' .')}"


def _at_the_start(room: int) -> int:
    return room * 2 // 5


def text_of(page: Page, stream: TextIO) -> str:
    """The text of a page for a stream, which decides width and colour; every line ends where its text ends."""
    console = Console(file=stream)  # rich asks the stream whether it is a terminal, and writes nothing to it here
    console.width = max(console.width, _LEAST_WIDTH)  # in none rich would print nothing
    with console.capture() as captured:
        console.print(RichPage(page, fold=False), crop=False)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().split("\n")[:-1])


def _renderable(block: Block, width: int, coloured: bool) -> RenderableType:
    """What rich prints for a block.

    Args:
        coloured: whether a listing gets colours. What goes to a shell gets none: it may be run.
    """
    if isinstance(block, Sentence):
        head, *rest = printable(block.text).partition(": ")  # the verdict itself is coloured, and not what follows it
        return Text.assemble((f"{block.label}: ", "bold"), (head, _MOODS[block.mood]), *rest)
    if isinstance(block, Markdown):
        from rnnscope.pages.manual import ManualPage

        return ManualPage(block.text)
    if isinstance(block, Listing):
        code = block.text.rstrip("\n")
        if not coloured:
            return Text(code)
        from rich.syntax import Syntax

        return Syntax(code, block.language, theme="ansi_light", background_color="default")
    # The title is a line by itself: as a title of the table it would be as narrow as that.
    title = Text(" ".join(shortened(word, width) for word in printable(block.title).split(" ")), "bold")
    if isinstance(block, Grid):
        return Group(title, *_Layout(block).tables(width))
    lines = [Text.assemble(*((printable(text), style or "") for text, style in line)) for line in block.draw(width)]
    return Group(title, Text("\n", overflow="fold").join(lines))


def _least_width(block: Block, width: int) -> int:
    """What a block takes: a sentence wraps at any width, and what is to be copied goes over the edge."""
    if isinstance(block, Grid):
        return _Layout(block).least_width
    if isinstance(block, Drawing):
        return max(sum(cell_len(printable(text)) for text, _ in line) for line in block.draw(width))
    return 0


class _Layout:
    """The columns of a grid, and where they stand on a page of some width."""

    def __init__(self, grid: Grid) -> None:
        rows = ([column.title for column in grid.columns], *grid.rows)
        columns = [_Texts(*each) for each in zip(grid.columns, zip(*rows, strict=True), strict=True)]
        self._keys, self._others = columns[: grid.keys], columns[grid.keys :]

    @property
    def least_width(self) -> int:
        """How narrow the grid may be where it goes on below itself after each column."""
        return _total([*(each.least for each in self._keys), max(each.least for each in self._others)])

    def tables(self, width: int) -> Iterator[RenderableType]:
        """The grid; where it is too wide, some of its columns, and the others below them beside the same keys."""
        parts, count = [*self._parts(width)], len(self._keys)
        fitted = [_fitted(part, width) for part in parts]
        keys = [min(widths) for widths in zip(*(each[:count] for each in fitted), strict=True)]
        for part, widths in zip(parts, fitted, strict=True):
            if part is not parts[0]:
                yield ""
            yield _table(part, [*keys, *widths[count:]])

    def _parts(self, width: int) -> Iterator[list["_Texts"]]:
        part = self._keys
        for column in self._others:
            if part is not self._keys and _total([each.least for each in (*part, column)]) > width:
                yield part
                part = self._keys
            part = [*part, column]
        yield part


class _Texts:
    """A column's title and cells: how wide they would like to be, and how narrow they may become.

    Lines of prose and of titles are broken first, down to `wrapped`. Then names are shortened, down to `least`.
    """

    def __init__(self, column: Column, texts: Iterable[str]) -> None:
        self.column, self.texts = column, [*map(printable, texts)]
        self.natural = _widest(self.texts)
        self.wrapped = self._wrapped()
        self.least = _told_apart(self.texts) if column.name else self.wrapped

    def _wrapped(self) -> int:
        """How narrow it may be where lines are broken between words: of the title, and of the cells if prose."""
        title, *cells = self.texts
        if self.column.name:
            return self.natural
        if not self.column.prose:
            return _widest((*title.split(" "), *cells))
        word = _widest(" ".join(self.texts).split(" "))
        return min(self.natural, max(_PROSE_WIDTH, min(word, _WORD_WIDTH)))

    def told(self, width: int) -> list[str]:
        """The texts, shortened if they are names that are too long."""
        if not self.column.name:
            return self.texts
        start = _start(self.texts, width)
        return [shortened(text, width, start) for text in self.texts]


def _fitted(columns: list[_Texts], width: int) -> list[int]:
    """The widths of some columns: the last one is wrapped first, and the widest name is shortened first."""
    widths = [each.natural for each in columns]
    steps = (([each.wrapped for each in columns], itemgetter(0)), ([each.least for each in columns], itemgetter(1)))
    for least, rank in steps:
        while _total(widths) > width:
            with_room = [(at, each) for at, each in enumerate(widths) if each > least[at]]
            if not with_room:
                break
            at, _ = max(with_room, key=rank)
            widths[at] -= 1
    return widths


def _table(columns: list[_Texts], widths: list[int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    every_cell = []
    for each, width in zip(columns, widths, strict=True):
        title, *cells = map(Text, each.told(width))
        table.add_column(title, justify="right" if each.column.number else "left", max_width=width, overflow="fold")
        every_cell.append(cells)
    for row in zip(*every_cell, strict=True):
        table.add_row(*row)
    return table


def _told_apart(names: Sequence[str]) -> int:
    """How narrow a column of names may be, so that no two of them become the same."""
    natural = _widest(names)
    return next((width for width in range(_NAME_WIDTH, natural) if _start(names, width) is not None), natural)


def _start(names: Sequence[str], width: int) -> int | None:
    """How much of the start of names to keep so that they can be told apart; None where no part tells."""
    room, different = width - len("..."), [*dict.fromkeys(names)]
    starts = sorted(range(room + 1), key=lambda start: abs(start - _at_the_start(room)))
    return next((start for start in starts if _are_apart(shortened(each, width, start) for each in different)), None)


def _are_apart(names: Iterator[str]) -> bool:
    """Whether no name comes twice; it stops at the first that does, since there are many parts to try."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return False
        seen.add(name)
    return True


def _widest(texts: Iterable[str]) -> int:
    return max(map(cell_len, texts))


def _total(widths: list[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


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
    width = max(Console(file=stream).width, _LEAST_WIDTH)
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
