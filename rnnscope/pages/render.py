"""How a result is written: as a page for a terminal, as Markdown, as JSON, as TSV, or as a file to share.

Computes nothing; the text that comes out is complete and may be written as it is. How rich draws a page is in
rich_pages.py.
"""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rnnscope.pages.page import Drawing, Grid, Listing, Page, printable
from rnnscope.pages.strict_json import json_text

if TYPE_CHECKING:
    from rnnscope.pages.documents import Result
    from rnnscope.pages.rich import RichPage

FORMATS = ("table", "json", "tsv", "markdown")

_PAGES = {
    "shapes": "shapes.page.page_of_shapes",
    "compare": "verdict.page.page_of_comparison",
    "trace": "tracing.page.page_of_trace",
    "sweep": "sweeps.page.page_of_sweep",
    "bench": "timing.page.page_of_bench",
    "code": "conversion.files_page.page_of_script",
    "weights": "conversion.files_page.page_of_checkpoint",
    "convert": "conversion.files_page.page_of_conversion",
}
"""What makes the page of each command's result; imported when it is needed, since some of it takes long."""

_MARKDOWN_WIDTH = 100
"""Of a drawing, which Markdown shows as it is."""

_PLAIN = str.maketrans(
    {chr(code): "+" for code in range(0x2500, 0x2580)}  # box drawing
    | dict.fromkeys("─━═╴╶╸╺", "-")
    | dict.fromkeys("│┃║", "|")
    | dict.fromkeys("▏▎▍", "-")  # what a bar ends with: less than half of a block, or more
    | dict.fromkeys("▌▋▊▉", "=")
    | {"█": "#", "·": "*", "×": "x", "…": ".", "→": ">", "←": "<", "↑": "^", "↓": "v"}
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
        from rnnscope.pages.documents import document, records

        return json_text(document(result)) if form == "json" else _tsv(records(result))
    if form == "markdown":
        return _markdown(page(result))
    from rnnscope.pages.rich import text_of

    return text_of(page(result), stream)


def exported(result: "Result", path: str, stream: TextIO) -> str:
    """The text of a file to share, in the format that its ending names, as wide as a page for a stream is."""
    from rnnscope.pages.exports import export

    return export(page(result), printable(result.rerun or "rnnscope"), Path(path).suffix.lower(), stream)


def shown(result: "Result") -> "RichPage":
    """What rich prints of a result in any console."""
    from rnnscope.pages.rich import RichPage

    return RichPage(page(result))


def page(result: "Result") -> Page:
    """The tables, drawings and sentences that people read."""
    module, name = _PAGES[result.command].rsplit(".", 1)
    made: Page = getattr(import_module(f"rnnscope.{module}"), name)(result)
    return made


def plain(text: str) -> str:
    """The same text in ASCII, each sign as wide as before."""
    return text.translate(_PLAIN).encode("ascii", "replace").decode()


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
        if isinstance(part, Listing):
            lines += [f"```{part.language}", *part.text.splitlines(), "```"]
        elif isinstance(part, (Grid, Drawing)):
            lines += [*([""] if lines and lines[-1] else []), f"**{printable(part.title)}**", "", *_block(part), ""]
        else:
            text = printable(part.text)
            lines.append(f"- {part.label}: `{text}`" if part.verbatim else f"- {part.label}: {text}")
    return "\n".join(lines) + "\n"


def _block(part: Grid | Drawing) -> list[str]:
    """A table of Markdown, or a drawing as it is."""
    if isinstance(part, Drawing):
        drawn = ["".join(text for text, _ in line).rstrip() for line in part.draw(_MARKDOWN_WIDTH)]
        return ["```text", *map(printable, drawn), "```"]
    rule = ["---:" if column.number else "---" for column in part.columns]
    titles = [column.title for column in part.columns]
    return ["| " + " | ".join(map(_cell, cells)) + " |" for cells in (titles, rule, *part.rows)]


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|")
