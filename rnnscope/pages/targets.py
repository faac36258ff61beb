"""Writes a file as a whole or not at all, and says beforehand whether it can be written. What is in it is not known."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rnnscope.errors import RnnscopeError


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
