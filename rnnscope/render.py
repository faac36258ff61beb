"""How a page, a document or records are written: as tables of rich, as Markdown, as JSON, as TSV.

Knows no command and computes nothing; the text that comes out is complete and may be written as it is.
"""

import json
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

from rnnscope.pages import Grid, Page
from rnnscope.shapes import Shapes
from rnnscope.shapes_page import page_of_shapes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from rnnscope.documents import Result

FORMATS = ("table", "json", "tsv", "markdown")

_MOODS = {"good": "green", "bad": "bold red", None: ""}

_PROSE_WIDTH = 20
"""A column of prose may become as narrow as this."""

_LEAST_WIDTH = 40
"""A page is never narrower, whatever COLUMNS says: words would be torn apart."""

_PLAIN = str.maketrans(
    {chr(code): "+" for code in range(0x2500, 0x2580)}  # box drawing
    | dict.fromkeys("─━═╴╶╸╺", "-")
    | dict.fromkeys("│┃║", "|")
    | {"·": "*", "×": "x", "…": "."}
)
"""A sign for each sign that the tables and the help use, so that columns stay where they are."""


def render(result: "Result", form: str, stream: TextIO) -> str:
    """The text of a result.

    Args:
        form: one of FORMATS.
        stream: where the text will go; decides width, colour and whether a `·` can be said.
    """
    if form in ("json", "tsv"):
        # Imported here and below where they are needed: a page of shapes is there in no time.
        from rnnscope.documents import document, records

        return json_text(document(result)) if form == "json" else _tsv(records(result))
    return _markdown(page(result)) if form == "markdown" else _table(page(result), stream)


def page(result: "Result") -> Page:
    """The tables and sentences that people read."""
    if isinstance(result, Shapes):
        return page_of_shapes(result)
    from rnnscope.comparison_page import page_of_comparison
    from rnnscope.files_page import page_of_checkpoint, page_of_conversion
    from rnnscope.storage import Checkpoint, Conversion

    if isinstance(result, Checkpoint):
        return page_of_checkpoint(result)
    return page_of_conversion(result) if isinstance(result, Conversion) else page_of_comparison(result)


def json_text(facts: dict[str, Any]) -> str:
    """One strict JSON document in ASCII: NaN and infinities are the strings "nan", "inf" and "-inf"."""
    return json.dumps(_strict(facts), indent=2, allow_nan=False) + "\n"


def plain(text: str) -> str:
    """The same text in ASCII, each sign as wide as before."""
    return text.translate(_PLAIN).encode("ascii", "replace").decode()


def printable(text: str) -> str:
    """Control codes, which a name in a file may have, are shown and not sent."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _tsv(rows: Iterable[dict[str, Any]]) -> str:
    lines: list[str] = []
    for row in rows:
        if not lines:
            lines.append("\t".join(row))
        lines.append("\t".join(_field(name, value) for name, value in row.items()))
    return "\n".join(lines) + "\n"


def _field(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        return ("," if name in ("dims", "worst_index") else "x").join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else printable(str(value))


def _markdown(parts: Page) -> str:
    lines: list[str] = []
    for part in parts:
        if isinstance(part, Grid):
            rule = ["---:" if column.number else "---" for column in part.columns]
            titles = [column.title for column in part.columns]
            rows = ["| " + " | ".join(map(printable, cells)) + " |" for cells in (titles, rule, *part.rows)]
            lines += [*([""] if lines and lines[-1] else []), f"**{part.title}**", "", *rows, ""]
        else:
            lines.append(f"- {part.label}: `{part.text}`" if part.verbatim else f"- {part.label}: {part.text}")
    return "\n".join(lines) + "\n"


def _table(parts: Page, stream: TextIO) -> str:
    from rich.console import Console
    from rich.text import Text

    # rich asks the stream whether it is a terminal, and nothing is written to it here.
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    console.width = max(console.width, _LEAST_WIDTH)
    with console.capture() as captured:
        for before, part in zip([None, *parts], parts, strict=False):
            if before is not None and (isinstance(part, Grid) or isinstance(before, Grid)):
                console.print()
            if isinstance(part, Grid):
                _print_grid(part, console)
            else:
                line = Text.assemble((f"{part.label}: ", "bold"), (printable(part.text), _MOODS[part.mood]))
                # A line that is to be copied is never broken.
                console.print(line, soft_wrap=part.verbatim)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _print_grid(grid: Grid, console: "Console") -> None:
    from rich.measure import Measurement
    from rich.text import Text

    console.print(Text(printable(grid.title), "bold"))  # as a title of the table it would be as narrow as that
    table, width = _rich_table(grid), console.width
    console.width = max(width, Measurement.get(console, console.options.update(width=10_000), table).minimum)
    console.print(table)
    console.width = width


def _rich_table(grid: Grid) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for index, column in enumerate(grid.columns):
        widest = max(len(cell) for cell in (column.title, *(row[index] for row in grid.rows)))
        table.add_column(
            Text(column.title),
            justify="right" if column.number else "left",
            no_wrap=not column.prose,
            min_width=min(widest, _PROSE_WIDTH) if column.prose else widest,
        )
    for row in grid.rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
