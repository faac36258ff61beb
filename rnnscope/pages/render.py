"""How a result is written: as a page for a terminal, as Markdown, as JSON, as TSV, or as a file to share.

Nothing is computed here. A text is complete and may be written as it is; a file is written as a whole or not at all.
"""

import io
import json
import math
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

from rnnscope import __version__
from rnnscope.errors import RnnscopeError
from rnnscope.pages.page import Drawing, Grid, Listing, Page, printable
from rnnscope.spec.flags import Flag
from rnnscope.spec.options import Sources
from rnnscope.spec.spec import Spec, rerun

if TYPE_CHECKING:
    from rnnscope.pages.rich import RichPage


FORMATS = ("table", "json", "tsv", "markdown")


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


class Collected(io.StringIO):
    """Stands for stdout while a command line is answered, so that stdout gets the result alone.

    It holds what is printed, and says whether the stream that it stands for is a terminal.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()


class Result:
    """What a command found: facts, an exit code, and the page and the document that it opens when it is asked for them.

    A frozen dataclass of each command derives from it. `rich.print` of one shows its page, and so does a notebook.
    """

    command: ClassVar[str]
    torch_version: str | None
    device_name: str | None

    @property
    def rerun(self) -> str:
        """The command line that gives exactly this again; "" where there is none."""
        raise NotImplementedError

    @property
    def exit_code(self) -> int:
        """0 the same, 1 a finding, 2 trouble."""
        return 0

    def page(self) -> Page:
        """The tables, drawings and sentences that people read."""
        raise NotImplementedError

    def origin(self) -> dict[str, Any]:
        """What it is a result of, as plain data."""
        return {}

    def facts(self) -> dict[str, Any]:
        """What programs get of it, as plain data."""
        raise NotImplementedError

    def records(self) -> Iterator[dict[str, Any]]:
        """One flat record a tensor, network or configuration, for TSV."""
        raise NotImplementedError

    def document(self) -> dict[str, Any]:
        """The facts with what says where they come from, for JSON."""
        environment = {
            "rnnscope": __version__,
            "python": platform.python_version(),
            "torch": self.torch_version,
            "device": self.device_name,
        }
        head = {"schema": 1, "command": self.command, "rerun": self.rerun, "environment": environment}
        return head | self.origin() | self.facts()

    def __rich__(self) -> "RichPage":
        from rnnscope.pages.rich import RichPage

        return RichPage(self.page())

    def _repr_mimebundle_(self, include: Any = (), exclude: Any = (), **options: Any) -> dict[str, str]:
        from rich.jupyter import JupyterMixin

        return JupyterMixin._repr_mimebundle_(self, include, exclude, **options)  # type: ignore[arg-type]


class SpecResult(Result):
    """A result of one Spec, and of the files that weights and input came from."""

    spec: Spec
    sources: Sources

    def origin(self) -> dict[str, Any]:
        return {"spec": self.spec.facts, "sources": asdict(self.sources)}

    def line(self, *own: tuple[Flag, object], recorded: bool = False) -> str:
        """The command line that gives this again.

        Args:
            own: the command's own flags, each with its value.
            recorded: whether a recorded run brings its dtype along, as other files do.
        """
        files = tuple(self.sources.given())
        return rerun(self.command, self.spec, *files, *own, with_files=bool(files) or recorded)


def render(result: Result, form: str, stream: TextIO) -> str:
    """The text of a result.

    Args:
        form: one of FORMATS.
        stream: where the text will go; decides width, colour and whether a `·` can be said.
    """
    if form == "json":
        return json_text(result.document())
    if form == "tsv":
        return _tsv(result.records())
    if form == "markdown":
        return _markdown(result.page())
    from rnnscope.pages.rich import text_of

    return text_of(result.page(), stream)


def exported(result: Result, path: str, stream: TextIO) -> str:
    """The text of a file to share, in the format that its ending names, as wide as a page for a stream is."""
    from rnnscope.pages.rich import export

    return export(result.page(), printable(result.rerun or "rnnscope"), Path(path).suffix.lower(), stream)


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


def json_text(facts: dict[str, Any]) -> str:
    """One document, to be read by people too."""
    return json.dumps(_strict(facts), indent=2, allow_nan=False) + "\n"


def json_line(facts: dict[str, Any]) -> str:
    """One document on one line."""
    return json.dumps(_strict(facts), separators=(",", ":"), allow_nan=False) + "\n"


def parsed(text: str | bytes, hint: str) -> Any:
    """What one document says.

    Raises:
        RnnscopeError: no document, with why not, and with the hint.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        is_plain = isinstance(error, (json.JSONDecodeError, UnicodeDecodeError))  # others speak of Python's own limits
        why = str(error) if is_plain else "too deep, or a number too long"
        raise RnnscopeError(f"no JSON ({why})", hint) from error


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def check_ending(path: str, endings: tuple[str, ...]) -> None:
    """Do nothing where the ending of a name is one of those that name a format.

    Raises:
        RnnscopeError: with those that do.
    """
    if os.path.isdir(path):
        raise RnnscopeError(f"{path} is a directory", "name a file in it")
    if Path(path).suffix.lower() not in endings:
        raise RnnscopeError(f"{path}: the ending names no format", f"use one of {', '.join(endings)}")


def check_place(path: str, force: bool = False) -> None:
    """Do nothing where a file can be written under a name.

    Args:
        force: whether a file that is there already may be replaced.

    Raises:
        RnnscopeError: a file that is there already, or no such folder.
    """
    if os.path.lexists(path) and not (force and Path(path).is_file()):
        raise _is_there(path)
    if not Path(path).absolute().parent.is_dir():
        raise RnnscopeError(f"{path}: there is no folder {Path(path).parent}", "make it first")


@contextmanager
def whole_file(path: str, data: bytes, force: bool = False) -> Iterator[str]:
    """Write a file: all of it or nothing.

    What is inside is given the name of a file that is whole, and it gets its own name only when that ends without an
    error.

    Raises:
        RnnscopeError: a file that is there already, or a disk that is full.
    """
    import tempfile  # which takes long, and is needed by few commands

    temporary = None
    try:
        ending = Path(path).suffix.lower()
        handle, temporary = tempfile.mkstemp(dir=Path(path).absolute().parent, prefix=".part", suffix=ending)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        yield temporary
        _put_in_place(temporary, path, force)
    except FileExistsError as error:
        raise _is_there(path) from error
    except OSError as error:
        raise RnnscopeError(f"cannot write {path} ({error.strerror or error})") from error
    finally:
        if temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(temporary)


def _put_in_place(temporary: str, path: str, force: bool) -> None:
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(temporary, 0o666 & ~umask)
    if force:
        os.replace(temporary, os.path.realpath(path))  # a link goes on pointing to what is new
        return
    try:
        os.link(temporary, path)  # unlike a rename it fails where there is a file
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        try:
            os.replace(temporary, path)
        except OSError:
            os.unlink(path)
            raise


def _is_there(path: str) -> RnnscopeError:
    mend = "name another file, or add --force" if Path(path).is_file() else "name another file"
    return RnnscopeError(f"{path} is there already", mend)
