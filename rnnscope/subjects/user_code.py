"""Finds a class or function of the user's, and runs it so that its errors and prints are told from ours.

Only here is code from a file executed, and only from the file that the user named.
"""

import importlib
import importlib.util
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import torch

from rnnscope.errors import RnnscopeError
from rnnscope.pages.render import Collected
from rnnscope.spec.flags import nearest
from rnnscope.spec.sides import CELL
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
    place, _, path = name.removeprefix(CELL).rpartition(":")
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
            mend = _as_package(name, folder)
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
    """Keep code of the user's from ending this process, and from putting a deaf ear to who would end it.

    What would end it, or put another program in its place, raises an error. Ctrl-C and the like go on as they are. Of
    each function Python has a second one in the module in which it is built.
    """
    own = os.getpid()
    stand_ins = {name: _refusing(name, own) for name in ("_exit", "abort", "execv", "execve") if hasattr(os, name)}
    changed = [(module, name, call) for name, call in stand_ins.items() for module in (os, _BUILT_IN)]
    changed += [(module, "kill", _no_suicide(own)) for module in (os, _BUILT_IN)]
    changed += [(signal, "signal", _still_heeding(own)), (signal, "set_wakeup_fd", _still_woken(own))]
    kept = [(module, name, getattr(os if module is _BUILT_IN else module, name)) for module, name, _ in changed]
    for module, name, call in changed:
        setattr(module, name, call)
    _inside.append(own)
    try:
        yield
    finally:
        _inside.pop()
        for module, name, call in kept:
            setattr(module, name, call)


_inside: list[int] = []
"""Not empty while code of the user's runs. It may keep a function, and call it when the answer is out."""

_BUILT_IN = sys.modules["nt" if os.name == "nt" else "posix"]
_HEEDED = [getattr(signal, each) for each in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, each)]
_HARMLESS = [getattr(signal, each, 0) for each in ("SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH", "SIGSTOP", "SIGTSTP")]
"""Signals that end no process, unless it asks for that; and 0, which only asks whether there is one."""


def _leave(call: str) -> NoReturn:
    """Raise what says that a call would end the process. In a thread, end that thread: the answer is still to come."""
    if threading.current_thread() is not threading.main_thread():
        raise SystemExit
    raise _Left(call)


def _refusing(name: str, own: int) -> Callable[..., Any]:
    kept = getattr(os, name)

    def refuse(*words: Any) -> Any:
        if os.getpid() != own:  # children may do so
            return kept(*words)
        if not _inside:
            return getattr(os, name)(*words)
        _leave(f"os.{name}({', '.join(map(repr, words[:1]))}{', ...' * (len(words) > 1)})")

    return refuse


def _no_suicide(own: int) -> Callable[..., Any]:
    kept = os.kill

    def kill(pid: int, number: int) -> None:
        if pid == own == os.getpid() and number not in (0, *_HARMLESS) and signal.getsignal(number) == signal.SIG_DFL:
            _leave(f"os.kill(os.getpid(), {signal.Signals(number).name})")
        kept(pid, number)

    return kill


def _still_heeding(own: int) -> Callable[..., Any]:
    kept = signal.signal

    def heed(number: int, handler: Any) -> Any:
        now = signal.getsignal(number)
        return now if os.getpid() == own and number in _HEEDED and callable(now) else kept(number, handler)

    return heed


def _still_woken(own: int) -> Callable[..., Any]:
    kept = signal.set_wakeup_fd

    def wake(*words: Any, **options: Any) -> Any:
        return -1 if os.getpid() == own else kept(*words, **options)

    return wake


def _as_package(name: str, working: str | None) -> str:
    """How to name a class so that what it imports by dots is found.

    Each `__init__.py` in the folders above its file says that the folder is a package.
    """
    place, _, path = name.removeprefix(CELL).rpartition(":")
    file = Path(place if place.endswith(".py") else f"{place.replace('.', os.sep)}.py").resolve()
    parts, folder = [file.stem], file.parent
    while (folder / "__init__.py").is_file() and folder != folder.parent:
        parts.insert(0, folder.name)
        folder = folder.parent
    module = ".".join(parts)
    if len(parts) == 1 or module == place or not file.is_file():
        return "a file alone is in no package: name it as package.module:Class"
    return f"name it as {module}:{path}{f', run from {folder}' if str(folder) != working else ''}"


def _folder() -> str | None:
    """The working directory; None if it was deleted."""
    try:
        return os.getcwd()
    except OSError:
        return None


def _reason(error: BaseException) -> str:
    try:
        text = _said(error)
        return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."
    except Exception:  # an error that cannot say what it is
        return ""


_SCRIPTED = "The following operation failed in the TorchScript interpreter."
_RAISED = re.compile(r"(?:builtins\.)?([\w.]*(?:Error|Exception|Warning|Exit|Interrupt)\b.*)")
_COMPILED = (
    re.compile(r"\bgot (\w+)\((['\"])(.*?)\2,?\)$", re.MULTILINE),
    re.compile(r"\braised exception (\w+)\((['\"])(.*?)\2,?\)$", re.MULTILINE),
    re.compile(r"\A[^\n]* raised:\n(\w+)(:) ([^\n]*)"),
)
"""Where torch.compile tells the error that it met: a name, and what it says."""


def _said(error: BaseException) -> str:
    """The line of an error that says what went wrong: the first, but not where torch puts others before it."""
    said = (error.msg if isinstance(error, SyntaxError) else str(error)).strip()  # its text would name the place again
    first, *lines = said.split("\n")
    if first.startswith(_SCRIPTED):  # then a traceback, and at its end the error
        raised = [found[1] for each in lines if (found := _RAISED.match(each))]
        return raised[-1] if raised else (lines or [first])[-1]
    if type(error).__module__.startswith("torch._dynamo"):
        for found in filter(None, (each.search(said) for each in _COMPILED)):
            return f"{found[1]}: {found[3]}"
    return first


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
