"""A page of the manual, drawn from its Markdown with rich.

Other than rich does it, code is neither wrapped nor padded, so that it can be copied, and nothing has a ground of its
own, so that it can be read on a light terminal too.
"""

from typing import ClassVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement
from rich.text import Text
from rich.theme import Theme

WIDTH = 80
"""Longer lines are hard to read."""

_STYLES = Theme({"markdown.code": "bold", "markdown.h1": "bold", "markdown.h2": "bold underline"})


class _Code(CodeBlock):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(str(self.text).rstrip(), "cyan", no_wrap=True, overflow="ignore")


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
