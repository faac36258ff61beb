"""How a result is written for a CI: as JUnit's XML, which CI servers show as tests, or as annotations of GitHub.

Both are made of cases. A case is one thing that was asked: a comparison, a relation, a configuration of a sweep.
"""

import ast
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rnnscope.pages.page import counted, printable
from rnnscope.spec.sides import CELL, subject_of

PASSED, FAILED, ERROR, SKIPPED = "passed", "failed", "error", "skipped"
"""How a case ended: error where it could not be decided, skipped where it does not apply."""


@dataclass(frozen=True)
class Case:
    """One thing that was asked, and how it ended.

    Args:
        name: what was asked.
        outcome: passed, failed, error or skipped.
        kind: the verdict or the cause, in a word.
        message: a sentence that says what was found; "" where it passed.
        details: lines below it: why, where, and the command line that gives it again.
        subject: what is at fault, as a command line names it: FILE.py:Class, or a file.
    """

    name: str
    outcome: str
    kind: str = ""
    message: str = ""
    details: tuple[str, ...] = ()
    subject: str = ""


Writer = Callable[[str, Sequence[Case], str], str]
"""Writes the cases of a command, and its page."""

_TAGS = {FAILED: "failure", ERROR: "error", SKIPPED: "skipped"}


def _junit(command: str, cases: Sequence[Case], page: str) -> str:
    """One suite of tests; the page is what it printed. No times: the same flags give the same bytes."""
    from xml.etree import ElementTree as Xml

    tags = [_TAGS.get(each.outcome) for each in cases]
    counts = {"tests": len(cases), "failures": tags.count("failure"), "errors": tags.count("error")}
    counts["skipped"] = tags.count("skipped")
    attributes = {"name": f"rnnscope {command}"} | {name: str(count) for name, count in counts.items()}
    root = Xml.Element("testsuites", attributes)
    suite = Xml.SubElement(root, "testsuite", attributes)
    for each, tag in zip(cases, tags, strict=True):
        case = Xml.SubElement(suite, "testcase", classname=f"rnnscope.{command}", name=printable(each.name))
        if tag is not None:
            found = Xml.SubElement(case, tag, type=each.kind or each.outcome, message=printable(each.message))
            found.text = "\n".join(map(printable, each.details)) or None
    if page:
        Xml.SubElement(suite, "system-out").text = page
    Xml.indent(root)
    return f"{Xml.tostring(root, encoding='us-ascii').decode()}\n"


MOST_ANNOTATIONS = 10
"""GitHub shows so many errors of one step of a workflow."""


def _github(command: str, cases: Sequence[Case], page: str) -> str:
    """The page, folded up, and below it an annotation for each case that failed or could not be decided."""
    lines = [f"::group::rnnscope {command}", *map(_harmless, page.splitlines()), "::endgroup::"] if page else []
    found = [each for each in cases if each.outcome in (FAILED, ERROR)]
    lines += [_annotation(command, each) for each in found[:MOST_ANNOTATIONS]]
    if len(found) > MOST_ANNOTATIONS:
        rest = counted(len(found) - MOST_ANNOTATIONS, "error")
        lines.append(f"::notice title=rnnscope {command}::{rest} more like these; --format junit has them all")
    return "".join(f"{each}\n" for each in lines)


def _annotation(command: str, case: Case) -> str:
    title = f"rnnscope {command}: {case.kind}" if case.kind else f"rnnscope {command}"
    place = "".join(f",{name}={_escaped(value, ':,')}" for name, value in _place_of(case.subject).items())
    text = "\n".join(map(printable, (case.message, *case.details)))
    return f"::error title={_escaped(title, ':,')}{place}::{_escaped(text)}"


def _escaped(text: str, also: str = "") -> str:
    """Text in an annotation: signs with a meaning there are written as URLs have them."""
    return "".join(f"%{ord(sign):02X}" if sign in f"%\r\n{also}" else sign for sign in text)


def _harmless(line: str) -> str:
    """A line of a page as a log shows it: a name in a file may look like a command to GitHub."""
    line = line.replace("##[", "## [")
    return f"|{line}" if line.lstrip().startswith("::") else line


def _place_of(subject: str) -> dict[str, str]:
    """File and line of a class that a command line names as FILE.py:Class, or the file of a model. Nothing is run."""
    subject = subject_of(subject).removeprefix(CELL)
    file, _, name = subject.rpartition(":") if ".py:" in subject else (subject, "", "")
    if not Path(file).is_file():
        return {}
    place = {"file": _in_checkout(file)}
    if file.endswith(".py"):
        try:
            tree = ast.parse(Path(file).read_bytes())
        except (OSError, ValueError, SyntaxError, RecursionError):
            return place
        line = _line_of(tree, name.split("."))
        place |= {"line": str(line)} if line else {}
    return place


def _line_of(inside: ast.AST, names: Sequence[str]) -> int | None:
    """The line of what a module defines, such as Outer and Net in it for Outer.Net; None where it defines no such."""
    found = [each for each in _defined(inside) if each.name == names[0]]
    if not found or len(names) == 1:
        return found[-1].lineno if found else None
    return _line_of(found[-1], names[1:])


def _defined(inside: ast.AST) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    """The classes and functions of a block, in their order, also under an if, a try or a with."""
    for each in ast.iter_child_nodes(inside):
        if isinstance(each, (ast.ClassDef, ast.FunctionDef)):
            yield each
        elif isinstance(each, (ast.If, ast.Try, ast.With, ast.ExceptHandler)):
            yield from _defined(each)


def _in_checkout(file: str) -> str:
    """The name of a file as GitHub knows it: from the root of its checkout, whichever folder a step runs in."""
    root, path = Path(os.environ.get("GITHUB_WORKSPACE") or ".").resolve(), Path(file).resolve()
    return (path.relative_to(root) if path.is_relative_to(root) else Path(file)).as_posix()


WRITERS: dict[str, Writer] = {"junit": _junit, "github": _github}
"""By the word for --format."""
