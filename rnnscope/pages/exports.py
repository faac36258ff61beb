"""A page as one file to share: a picture (.svg), a page for a browser (.html) or plain text (.txt), as rich exports it.

Nothing in the file is fetched from elsewhere, and the page for a browser is readable on a light and on a dark ground.
"""

import io
from html import escape
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from rnnscope.pages.page import Page
from rnnscope.pages.rich import print_page

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
