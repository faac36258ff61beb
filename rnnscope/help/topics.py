"""The topics of the manual: each Markdown file beside this one is a topic, named by its file.

A topic may have other names: they stand in its first line, in a comment that no reader sees. Adding a topic is adding
a file.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rnnscope.errors import RnnscopeError
from rnnscope.pages.page import Column, Grid, Markdown, Page, Sentence
from rnnscope.pages.render import Result
from rnnscope.spec.flags import nearest, quoted

FOLDER = Path(__file__).parent

_HEAD = re.compile(r"(?:<!-- also: (.+) -->\n\n?)?# (.+)\n")


class Manual(Result):
    """What the manual says: nothing was run, and it says the same everywhere."""

    command: ClassVar[str] = "help"
    is_manual: ClassVar[bool] = True
    torch_version: str | None = None
    device_name: str | None = None


@dataclass(frozen=True)
class Topic(Manual):
    """A question that users have, and its answer in Markdown.

    also: other names. title: the question in a few words.
    """

    name: str
    also: tuple[str, ...]
    title: str
    text: str

    @property
    def rerun(self) -> str:
        return f"rnnscope help {self.name}"

    def page(self) -> Page:
        return [Markdown(self.text)]

    def facts(self) -> dict[str, Any]:
        return next(self.records()) | {"text": self.text}

    def records(self) -> Iterator[dict[str, Any]]:
        yield {"topic": self.name, "also": ",".join(self.also), "title": self.title}


@dataclass(frozen=True)
class Contents(Manual):
    """Every topic."""

    topics: tuple[Topic, ...]

    @property
    def rerun(self) -> str:
        return "rnnscope help"

    def page(self) -> Page:
        columns = (Column("topic"), Column("what it answers", prose=True))
        rows = tuple((each.name, " ".join((each.title, *_also(each)))) for each in self.topics)
        return [
            Grid("Topics", columns, rows),
            Sentence("Read one", "rnnscope help TOPIC", verbatim=True),
            Sentence("Flags of a command", "rnnscope compare --help", verbatim=True),
        ]

    def facts(self) -> dict[str, Any]:
        return {"topics": list(self.records())}

    def records(self) -> Iterator[dict[str, Any]]:
        for each in self.topics:
            yield from each.records()


def contents() -> Contents:
    """Every topic, in the order of their names."""
    return Contents(tuple(_read(path) for path in sorted(FOLDER.glob("*.md"))))


def topic(name: str) -> Topic:
    """The topic of a name.

    Raises:
        RnnscopeError: no such topic; with the nearest name, or the topics that have the word.
    """
    every = contents().topics
    named = {other: each for each in every for other in (each.name, *each.also)}
    if name.lower() in named:
        return named[name.lower()]
    having = [each.name for each in every if name.strip() and name.lower() in each.text.lower()]
    near = nearest(name, named, cutoff=0.7)
    hint = f"did you mean {near}?" if near else f"the word stands in {', '.join(having[:4])}" if having else None
    raise RnnscopeError(f"no topic is called {quoted(name)}", hint or "rnnscope help lists them")


def _also(topic: Topic) -> tuple[str, ...]:
    """The other names of a topic, in words: a column of their own would leave no room for the questions."""
    return (f"Also: {', '.join(topic.also)}.",) if topic.also else ()


def _read(path: Path) -> Topic:
    text = path.read_text(encoding="utf-8")
    head = _HEAD.match(text)
    assert head is not None, f"{path.name} starts with no heading"
    return Topic(path.stem, tuple((head[1] or "").split(", ")) if head[1] else (), head[2], text[head.start(2) - 2 :])
