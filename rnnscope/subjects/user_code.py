"""Finds a class or function of the user's, and runs it so that its errors and prints are told from ours.

Only here is code from a file executed, and only from the file that the user named.
"""

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from rnnscope.errors import RnnscopeError
from rnnscope.pages.render import Collected
from rnnscope.spec.flags import nearest
from rnnscope.subjects.devices import is_out_of_memory

_homes: dict[str, "_Home"] = {}
"""Where the code of each name lies, so that it finds there what it imports while it runs."""


LONGEST_REASON = 500
"""Signs of an error of the user's: some print whole tensors."""

LARGEST_CODE = 2**26
"""Bytes: nobody writes as much."""


def find_own(name: str) -> Any:
    """What `FILE.py:Class` or `package.module:Class` names.

    Raises:
        RnnscopeError: no such file, module or name, or an error of the user's when it was imported.
    """
    place, _, path = name.rpartition(":")
    is_file = place.endswith(".py") or os.sep in place
    if is_file and not Path(place).is_file():
        if os.path.lexists(place):  # a folder, a device, a pipe, or a link to nothing
            raise RnnscopeError(f"{name}: {place} is no regular file", "name a file of Python code")
        raise RnnscopeError(f"{name}: there is no file {place}", f"give its path from {_folder() or '/'}")
    if is_file and Path(place).stat().st_size > LARGEST_CODE:
        raise RnnscopeError(f"{name}: {place} has more than {LARGEST_CODE:,} bytes", "name a file of Python code")
    _homes[name] = _Home(str(Path(place).resolve().parent) if is_file else _folder() or "", is_file)
    with guarded(name):
        module = _load_file(place) if is_file else _import(name, place)
        found: Any = module
        try:
            for each in path.split("."):
                found = getattr(found, each)
            return found
        except AttributeError as error:
            public = [each for each in vars(module) if not each.startswith("_")]
            near = nearest(path, public)
            has = f"did you mean {place}:{near}?" if near else f"it has {', '.join(public[:10]) or 'nothing'}"
            raise RnnscopeError(f"{name}: {place} has no {path}", has) from error


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """Run code of the user's: what it prints goes to stderr, and what it raises becomes an RnnscopeError.

    Memory that runs out and Ctrl-C are nobody's mistake and pass. The default dtype and the working directory are
    afterwards what they were. On a command line it cannot end the process. A process that it forks ends where its code
    ends: otherwise each call would double them.
    """
    own, dtype, folder = os.getpid(), torch.get_default_dtype(), _folder()
    # In a library call other threads may print and exit, so only a command line moves what is the process's.
    process = _alone() if isinstance(sys.stdout, Collected) else nullcontext()
    try:
        with process, _homes[name].entered() if name in _homes else nullcontext():
            yield
    except (RnnscopeError, KeyboardInterrupt):
        raise
    except BaseException as error:  # GeneratorExit, SystemExit and the like are no answer either
        if is_out_of_memory(error):
            raise
        if isinstance(error, _Left):
            raise RnnscopeError(
                f"{name} called {error} ({_place(error)}), which would end rnnscope without an answer",
                "leave that call out",
            ) from error
        reason, mend = _reason(error), "add --debug for the traceback"
        if isinstance(error, ImportError) and "relative import" in reason:
            mend = "a file alone is in no package: name it as package.module:Class"
        raise RnnscopeError(
            f"{name} raised {type(error).__name__}{f': {reason}' if reason else ''} ({_place(error)})",
            mend,
        ) from error
    finally:
        if os.getpid() != own:
            os._exit(2)  # no exit handler of this process may run twice
        torch.set_default_dtype(dtype)
        if folder is not None:
            with suppress(OSError):  # it may be gone
                os.chdir(folder)


@contextmanager
def _alone() -> Iterator[None]:
    """Keep stdout and the end of the process from code of the user's."""
    with _prints_to_stderr(), _no_way_out():
        yield


class _Left(BaseException):
    """Code of the user's tried to end the process. The text is the call."""


@contextmanager
def _no_way_out() -> Iterator[None]:
    """Let what would end this process, or put another program in its place, raise an error; children may do both."""
    kept = {name: getattr(os, name) for name in ("_exit", "execv", "execve") if hasattr(os, name)}
    own = os.getpid()

    def refusing(name: str) -> Callable[..., Any]:
        def refuse(*words: Any) -> Any:
            if os.getpid() != own:
                return kept[name](*words)
            raise _Left(f"os.{name}({', '.join(map(repr, words[:1]))}{', ...' * (len(words) > 1)})")

        return refuse

    for name in kept:
        setattr(os, name, refusing(name))
    try:
        yield
    finally:
        for name, call in kept.items():
            setattr(os, name, call)


def _folder() -> str | None:
    """The working directory; None if it was deleted."""
    try:
        return os.getcwd()
    except OSError:
        return None


def _reason(error: BaseException) -> str:
    try:
        said = error.msg if isinstance(error, SyntaxError) else str(error)  # its text would name the place again
        text = said.strip().split("\n")[0]
        return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."
    except Exception:  # an error that cannot say what it is
        return ""


def _place(error: BaseException) -> str:
    """File and line of the innermost frame that is the user's; without one, of the innermost of all."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    others = tuple(
        f"{each}{os.sep}" for each in (Path(__file__).parents[1], Path(torch.__file__).parent, sys.base_prefix)
    )
    theirs = [each for each in frames if not each.filename.startswith((*others, "<"))]
    last = (theirs or frames)[-1]
    return f"{last.filename}, line {last.lineno}, in {last.name}"


@contextmanager
def _prints_to_stderr() -> Iterator[None]:
    """Also what a child process or code in C++ writes to file descriptor 1 itself."""
    saved = None
    with suppress(OSError):
        saved = os.dup(1)
        _stdouts.add(saved)
        os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if saved is not None:
            os.dup2(saved, 1)
            os.close(saved)
            _stdouts.discard(saved)


_stdouts: set[int] = set()
"""Where stdout is kept while code of the user's runs."""


def kept_stdout() -> int:
    """The file descriptor of stdout, wherever it is now."""
    return next(iter(_stdouts), 1)


def _leave_stdout() -> None:
    """In a child: a process that stays would keep the reader of the answer waiting."""
    while _stdouts:
        with suppress(OSError):
            os.close(_stdouts.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_stdout)


@dataclass
class _Home:
    """The folder of a piece of code. While it runs, what lies there can be imported, as when Python runs a file.

    If it is private, what is imported from there is hidden afterwards. Two versions of a project have modules of the
    same names, and each must get its own.
    """

    folder: str
    private: bool
    modules: dict[str, ModuleType] = field(default_factory=dict)

    @contextmanager
    def entered(self) -> Iterator[None]:
        hidden = {name: sys.modules[name] for name in self.modules if name in sys.modules}
        before = set(sys.modules) - set(self.modules)
        sys.modules.update(self.modules)
        sys.path.insert(0, self.folder)
        try:
            yield
        finally:
            with suppress(ValueError):
                sys.path.remove(self.folder)
            if self.private:
                for name in [name for name in sys.modules if name not in before and self._owns(sys.modules[name])]:
                    self.modules[name] = sys.modules.pop(name)
                sys.modules.update(hidden)

    def _owns(self, module: ModuleType) -> bool:
        file = getattr(module, "__file__", None) or ""
        return file.startswith(self.folder + os.sep) and "site-packages" not in file


def _load_file(file: str) -> ModuleType:
    """Run a file as a module whose name is no other's."""
    path = Path(file).resolve()
    name = f"{path.stem}_{sha1(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RnnscopeError(f"{file} is no Python file", "its name must end with .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as dataclasses and torch.jit expect it
    spec.loader.exec_module(module)
    return module


def _import(name: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            mend = "give FILE.py:Class, or package.module:Class from here"
            raise RnnscopeError(f"{name}: there is no module {module}", mend) from error
        raise
