"""The row of a configuration: what `rnnscope compare --json` would say of it, or why nothing could be compared.

A row depends on its configuration alone: not on the rows before it, nor on who made it, nor where in a file it stands.
What is a fact of a machine or of a moment, the environment and how much memory is free, is not in it.
"""

from dataclasses import asdict

import rnnscope
from rnnscope.errors import RnnscopeError
from rnnscope.files.loaded import Loaded
from rnnscope.network.costs import BYTES_OF_TORCH, COSTLY, free_bytes, needed_bytes
from rnnscope.spec.question import check_comparable
from rnnscope.spec.spec import SPEC_FLAGS, Spec
from rnnscope.sweeps.configurations import Configuration, read_rerun
from rnnscope.sweeps.row_files import Row
from rnnscope.sweeps.workers import workers_here
from rnnscope.verdict.comparison_document import comparison_document
from rnnscope.verdict.result import Comparison

LITTLE = 64 * 2**20
"""Bytes for which nobody asks how much memory is free: to find that out takes a tenth of a small comparison."""

TOO_LARGE = "there is too little memory for it; make --seq-len, --batch, --hidden-size or --layers smaller"
"""How much is missing differs from one moment to the next."""


def row_of(configuration: Configuration) -> Row:
    """Compare what a configuration asks for: schema, command, rerun, status, message, spec, left, right, and the rest.

    status: compared; not_comparable where it contradicts itself, which is told from the flags alone; failed where it
    was tried and no verdict came out: no such device or file, too little memory, a class that is wrong, and whatever
    else nobody expected. The rest, where it was compared, is the document of the comparison less its environment.

    Raises:
        Exception: a GPU that will compute nothing any more.
    """
    asked = Configuration(read_rerun(configuration.rerun))  # or a row might be of more than its command line says
    row: Row = {"schema": 1, "command": "compare", "rerun": asked.rerun, "status": "not_comparable", "message": None}
    spec = {name: flag.default for name, flag in SPEC_FLAGS.items()} | asked.of_spec
    row |= {"spec": spec, "left": asked.left, "right": asked.right}
    try:
        loaded = _checked(asked)
        row |= {"status": "failed"}
        loaded = loaded or rnnscope.load(asked.sources, asked.of_spec, asked.left, asked.right)
        row |= {"spec": loaded.spec.facts}
        return row | {"status": "compared"} | _facts(_compared(asked, loaded))
    except Exception as error:  # one configuration is not the end of the others
        return row | {"message": _reason(error)}


def _checked(asked: Configuration) -> Loaded | None:
    """What is compared, where flags alone say it: it makes sense.

    Raises:
        RnnscopeError: it does not.
    """
    question, sources = asked.question, asked.sources
    if asked.has_files:
        return None
    spec = Spec(**asked.of_spec)
    check_comparable(spec, asked.left, asked.right, question)
    return Loaded(sources, spec)


def _compared(asked: Configuration, loaded: Loaded) -> Comparison:
    question = vars(asked.question)
    needed = needed_bytes(loaded.spec, **{name: question[name] for name in COSTLY})
    if loaded.spec.memory_check and needed > BYTES_OF_TORCH + LITTLE:
        free = free_bytes()
        if free is not None and needed > free // workers_here():
            raise RnnscopeError(TOO_LARGE)
    return rnnscope.compare(loaded.spec, asked.left, asked.right, loaded=loaded, **question)


def _facts(comparison: Comparison) -> Row:
    """What is found; the sides stay as they were asked for, with device and dtype."""
    found = comparison_document(comparison)
    return {"sources": asdict(comparison.sources)} | {n: v for n, v in found.items() if n not in ("left", "right")}


def _reason(error: Exception) -> str:
    """What is told of an error."""
    from rnnscope.subjects.devices import is_out_of_memory  # which imports torch, as all has that could raise it

    if "CUDA error" in str(error):  # after which every call fails
        raise error
    if is_out_of_memory(error):
        return TOO_LARGE
    if isinstance(error, RnnscopeError):
        return error.message if error.hint is None or "--debug" in error.hint else f"{error.message}; {error.hint}"
    return f"unexpected {type(error).__name__}: {error}"
