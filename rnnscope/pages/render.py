"""How a result is written: as a page for a terminal, as Markdown, as JSON, as TSV, or as a file to share.

Nothing is computed here. A text is complete and may be written as it is; a file is written as a whole or not at all.
"""

import io
import json
import math
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, TextIO

from rnnscope import __version__
from rnnscope.errors import RnnscopeError
from rnnscope.pages.ci import ERROR, WRITERS, Case
from rnnscope.pages.page import Drawing, Grid, Listing, Markdown, Page, printable
from rnnscope.spec.flags import Flag
from rnnscope.spec.options import Sources
from rnnscope.spec.spec import Spec, rerun


class Result:
    """What a command found: facts, an exit code, its page and its document.

    A frozen dataclass of each command derives from it. `rich.print` of one shows its page, and so does a notebook.
    """

    command: ClassVar[str]
    is_manual: ClassVar[bool] = False
    """Whether it is there to be read, so that a terminal shows it in a pager."""

    torch_version: str | None
    device_name: str | None

    @property
    def rerun(self) -> str:
        """The command line that gives exactly this again; "" where there is none."""
        raise NotImplementedError

    @property
    def threads(self) -> int | None:
        """How many threads of the CPU computed; None where nothing was run, or where parts had several numbers."""
        return None

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
        """One flat record for each tensor, network or configuration, for TSV."""
        raise NotImplementedError

    def cases(self) -> Iterator[Case]:
        """One case for each thing that was asked, for a CI."""
        raise NotImplementedError

    def document(self) -> dict[str, Any]:
        """The facts with what says where they come from, for JSON."""
        environment = {
            "rnnscope": __version__,
            "python": platform.python_version(),
            "torch": self.torch_version,
            "device": self.device_name,
            "threads": self.threads,
        }
        head = {"schema": 1, "command": self.command, "rerun": self.rerun, "environment": environment}
        return head | self.origin() | self.facts()

    def __rich__(self) -> object:
        from rnnscope.pages.rich import RichPage

        return RichPage(self.page())

    def _repr_mimebundle_(self, include: Any = (), exclude: Any = (), **options: Any) -> dict[str, str]:
        from rich.jupyter import JupyterMixin

        return JupyterMixin._repr_mimebundle_(self, include, exclude, **options)  # type: ignore[arg-type]


class SpecResult(Result):
    """A result of one Spec, and of the files that weights and input came from."""

    spec: Spec
    sources: Sources

    @property
    def threads(self) -> int | None:
        return self.spec.threads if self.torch_version else None

    def origin(self) -> dict[str, Any]:
        return {"spec": self.spec.facts, "sources": asdict(self.sources)}

    def line(self, *own: tuple[Flag, object], recorded: bool = False) -> str:
        """The command line that gives this again, with the command's own flags and their values.

        recorded: whether a recorded run brings its dtype along, as other files do.
        """
        files = tuple(self.sources.given())
        return rerun(self.command, self.spec, *files, *own, with_files=bool(files) or recorded)


class Collected(io.StringIO):
    """Stands for stdout while a command line is answered: holds what is printed, and is a terminal if stdout is one."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()


FORMATS = ("table", "json", "tsv", "markdown")

FORMATS_OF_A_TEST = (*FORMATS, *WRITERS)
"""Those of a command that finds something right or wrong."""


def render(result: Result, form: str, stream: TextIO) -> str:
    """The text of a result.

    Args:
        form: one of FORMATS; junit or github where the result has cases.
        stream: where the text will go; decides width and colour.
    """
    if form == "json":
        return json_text(result.document())
    if form == "tsv":
        return _tsv(result.records())
    if form == "markdown":
        return _markdown(result.page())
    from rnnscope.pages.rich import export, text_of

    if form == "table":
        return text_of(result.page(), stream)
    # FORCE_COLOR colours a log, and must not colour XML, which is ASCII whatever encoding a shell writes files in.
    page = text_of(result.page(), stream) if form == "github" else plain(export(result.page(), "", ".txt", stream))
    return WRITERS[form](result.command, tuple(result.cases()), page)


def failure(command: str | None, error: RnnscopeError, form: str) -> str:
    """What stands on stdout instead of a result: "" where people read it, since stderr says why."""
    message, hint = printable(error.message), error.hint and printable(error.hint)
    if form == "json":
        return json_text({"schema": 1, "command": command, "error": {"message": message, "hint": hint}})
    if form in WRITERS:
        command = command or "rnnscope"
        return WRITERS[form](command, (Case(command, ERROR, "trouble", printable(str(error))),), "")
    return ""


def exported(result: Result, path: str, stream: TextIO) -> str:
    """The text of a file to share, in the format that its ending names, as wide as a page for the stream."""
    from rnnscope.pages.rich import export

    return export(result.page(), printable(result.rerun or "rnnscope"), Path(path).suffix.lower(), stream)


_PLAIN = str.maketrans(
    {chr(code): "+" for code in range(0x2500, 0x2580)}  # box drawing
    | dict.fromkeys("─━═╴╶╸╺", "-")
    | dict.fromkeys("│┃║", "|")
    | dict.fromkeys("▏▎▍", "-")  # the end of a bar: less than half of a block, or more
    | dict.fromkeys("▌▋▊▉", "=")
    | {"█": "#", "·": "*", "×": "x", "…": ".", "→": ">", "←": "<", "↑": "^", "↓": "v"}
)
"""One sign for each sign of the tables and the help, so that columns stay where they are."""


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


def _markdown(page: Page) -> str:
    lines: list[str] = []
    for block in page:
        if isinstance(block, Listing):
            lines += [f"```{block.language}", *block.text.splitlines(), "```"]
        elif isinstance(block, Markdown):
            lines += block.text.splitlines()
        elif isinstance(block, (Grid, Drawing)):
            apart = [""] if lines and lines[-1] else []
            body = _markdown_grid(block) if isinstance(block, Grid) else _markdown_drawing(block)
            lines += [*apart, f"**{printable(block.title)}**", "", *body, ""]
        else:
            text = printable(block.text)
            lines.append(f"- {block.label}: `{text}`" if block.verbatim else f"- {block.label}: {text}")
    return "\n".join(lines) + "\n"


def _markdown_drawing(drawing: Drawing) -> list[str]:
    lines = ["".join(text for text, _ in line).rstrip() for line in drawing.draw(100)]  # columns
    return ["```text", *map(printable, lines), "```"]


def _markdown_grid(grid: Grid) -> list[str]:
    titles = [column.title for column in grid.columns]
    rule = ["---:" if column.number else "---" for column in grid.columns]
    rows = ([printable(cell).replace("|", "\\|") for cell in row] for row in (titles, rule, *grid.rows))
    return [f"| {' | '.join(row)} |" for row in rows]


def json_text(facts: dict[str, Any]) -> str:
    """One document, indented for people."""
    return json.dumps(_strict(facts), indent=2, allow_nan=False) + "\n"


def json_line(facts: dict[str, Any]) -> str:
    """One document on one line."""
    return json.dumps(_strict(facts), separators=(",", ":"), allow_nan=False) + "\n"


def _strict(value: Any) -> Any:
    """The same value with NaN and infinities as text, which strict JSON has no numbers for."""
    if isinstance(value, dict):
        return {key: _strict(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def parsed(text: str | bytes, hint: str) -> Any:
    """What one document says.

    Raises:
        RnnscopeError: it is no JSON; with the reason and the hint.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        is_plain = isinstance(error, (json.JSONDecodeError, UnicodeDecodeError))  # others speak of Python's own limits
        why = str(error) if is_plain else "too deep, or a number too long"
        raise RnnscopeError(f"no JSON ({why})", hint) from error


def check_ending(path: str, endings: tuple[str, ...]) -> None:
    """Raise unless the name of a file has one of the endings.

    Raises:
        RnnscopeError: a directory, or another ending; with those that are allowed.
    """
    if os.path.isdir(path):
        raise RnnscopeError(f"{path} is a directory", "name a file in it")
    if Path(path).suffix.lower() not in endings:
        raise RnnscopeError(f"{path}: the ending names no format", f"use one of {', '.join(endings)}")


def check_place(path: str, force: bool = False) -> None:
    """Raise unless a file can be written under a name.

    Args:
        force: whether a file that is there already may be replaced.

    Raises:
        RnnscopeError: a file that is there already, or no such folder.
    """
    if os.path.lexists(path) and not (force and Path(path).is_file()):
        raise _is_there(path)
    if not Path(os.path.dirname(path) or ".").is_dir():
        raise RnnscopeError(f"{path}: there is no folder {Path(path).parent}", "make it first")


@contextmanager
def whole_file(path: str, data: bytes, force: bool = False) -> Iterator[str]:
    """Write a file: all of it or nothing.

    The block inside is given the name of a temporary file that is complete. The file gets its own name when that block
    ends without an error.

    Raises:
        RnnscopeError: a file that is there already, or a disk that is full.
    """
    import tempfile  # which takes long, and is needed by few commands

    try:
        target = Path(path).absolute()
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part") as folder:
            unfinished.add(folder)
            part = os.path.join(folder, f"whole{target.suffix.lower()}")
            with open(part, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            yield part
            _put_in_place(part, path, force)
    except FileExistsError as error:
        raise _is_there(path) from error
    except OSError as error:
        raise RnnscopeError(f"cannot write {path} ({error.strerror or error})") from error
    finally:
        unfinished.clear()


unfinished: set[str] = set()
"""Folders with a file that is not whole yet, for who ends the process at once."""


def _put_in_place(temporary: str, path: str, force: bool) -> None:
    if not force:
        try:
            os.link(temporary, path)  # unlike a rename it fails where there is a file
            return
        except FileExistsError:
            raise
        except OSError:  # a file system without links: the name is taken first
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    os.replace(temporary, os.path.realpath(path))  # a link goes on pointing to what is new


def _is_there(path: str) -> RnnscopeError:
    mend = "name another file, or add --force" if Path(path).is_file() else "name another file"
    return RnnscopeError(f"{path} is there already", mend)
