"""Finds a class or function of the user's, and runs what is theirs so that its errors and prints are told from ours.

The one place where code from a file is executed, and only the file that the user named.
"""

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from difflib import get_close_matches
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from rnnscope.errors import RnnscopeError


def find_own(name: str) -> Any:
    """What `FILE.py:Class` or `package.module:Class` names.

    Raises:
        RnnscopeError: no such file, module or name, or an error of the user's when it was imported.
    """
    place, _, path = name.rpartition(":")
    is_file = place.endswith(".py") or os.sep in place
    if is_file and not Path(place).is_file():
        raise RnnscopeError(f"{name}: there is no file {place}", f"give the path from {Path.cwd().name or '/'}/ on")
    with guarded(name):
        module = _load_file(place) if is_file else _import(name, place)
    try:
        return reduce(getattr, path.split("."), module)
    except AttributeError:
        public = [each for each in vars(module) if not each.startswith("_")]
        near = get_close_matches(path, public, n=1, cutoff=0.4)
        has = f"did you mean {place}:{near[0]}?" if near else f"it has {', '.join(public[:10]) or 'nothing'}"
        raise RnnscopeError(f"{name}: {place} has no {path}", has) from None


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """Run code of the user's: what it prints goes to stderr, and what it raises becomes an RnnscopeError.

    Memory that runs out and Ctrl-C are nobody's mistake and pass.
    """
    try:
        with _prints_to_stderr():
            yield
    except (RnnscopeError, MemoryError, torch.OutOfMemoryError, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as error:
        reason = str(error).strip().split("\n")[0]
        kind = type(error).__name__
        raise RnnscopeError(
            f"{name} raised {kind}{f': {reason}' if reason else ''} ({_place(error, name)})",
            "add --debug for the traceback",
        ) from error


def _place(error: BaseException, name: str) -> str:
    """File and line of the innermost frame that is the user's, or of the innermost of all."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    ours, torchs = str(Path(__file__).parent), str(Path(torch.__file__).parent)
    theirs = [each for each in frames if not each.filename.startswith((ours, torchs, "<", sys.base_prefix))]
    last = (theirs or frames)[-1]
    return f"{last.filename}, line {last.lineno}, in {last.name}"


@contextmanager
def _prints_to_stderr() -> Iterator[None]:
    """Also what is written to file descriptor 1 itself, by a child process or by code in C++."""
    saved = None
    with suppress(OSError):
        saved = os.dup(1)
        os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if saved is not None:
            os.dup2(saved, 1)
            os.close(saved)


def _load_file(file: str) -> ModuleType:
    """Run a file as a module of its own; what lies beside it can be imported, as when Python runs it."""
    path = Path(file).resolve()
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_of_the_user"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RnnscopeError(f"{file} is no Python file", "its name must end with .py")
    module = importlib.util.module_from_spec(spec)
    with _importable(str(path.parent)):
        sys.modules[name] = module  # as dataclasses and torch.jit expect it
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
    return module


def _import(name: str, module: str) -> ModuleType:
    with _importable(str(Path.cwd())):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name and (module == error.name or module.startswith(f"{error.name}.")):
                raise RnnscopeError(
                    f"{name}: there is no module {module}", "give FILE.py:Class, or package.module:Class from here"
                ) from error
            raise


@contextmanager
def _importable(folder: str) -> Iterator[None]:
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(folder)
