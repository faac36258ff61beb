"""A page of the manual, drawn from its Markdown with rich.

Unlike in rich's own pages, code is neither wrapped nor padded, so that it can be copied. Nothing has a ground of its
own, so that it can be read on a light terminal too.
"""

import re
from typing import ClassVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement
from rich.text import Text
from rich.theme import Theme

WIDTH = 80
"""Longer lines are hard to read."""

_STYLES = Theme(
    {"markdown.code": "bold", "markdown.h1": "bold", "markdown.h2": "bold underline"}
    # Releases of rich have them in cyan or in yellow, which cannot be read on a light ground.
    | {"markdown.item.bullet": "bold", "markdown.item.number": "bold"}
    | {"markdown.table.header": "bold", "markdown.table.border": "none"}
)


_EXAMPLE = "bright_blue"
"""Unlike blue and cyan it can be read on a dark and on a light ground."""


class _Code(CodeBlock):
    """What is typed is bold, and what is printed then is not."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        example = Text(str(self.text).rstrip(), _EXAMPLE, no_wrap=True, overflow="ignore")
        typed = r"^\$ .*" if self.lexer_name == "console" else r"^.+"
        if self.lexer_name != "text":
            example.highlight_regex(re.compile(typed, re.MULTILINE), "bold")
        yield example


class _Heading(Heading):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.text


class ManualPage(Markdown):
    """A text in Markdown that rich can print in any console."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = Markdown.elements | {
        "fence": _Code,
        "code_block": _Code,
        "heading_open": _Heading,
    }

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with console.use_theme(_STYLES):
            yield from super().__rich_console__(console, options.update(width=min(WIDTH, options.max_width)))
