"""Writes a network from one file into another under other names: torch's module's, or StackedCells', bit for bit.

It says so only when a comparison has proved it.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.files.checkpoints import find_rnn
from rnnscope.files.loaded import Loaded
from rnnscope.files.storage import Conversion, Rnn
from rnnscope.files.tensors import check_target, read_file, writing
from rnnscope.network.cells import cell_name
from rnnscope.spec.sources import NO_FILES, TO
from rnnscope.verdict.compare import compare
from rnnscope.verdict.result import Comparison


def convert(file: str, out: str, to: str, prefix: str | None = None, force: bool = False) -> Conversion:
    """Write the network under a prefix for StackedCells (`cells`) or for torch's module (`module`).

    Raises:
        RnnscopeError: a file or a prefix that cannot be used, a projection for cells, a target that is there already
            or cannot be written, or two that a comparison does not find to be the same.
    """
    TO.check(to)
    check_target(out, force)
    if Path(out).exists() and Path(out).samefile(file):
        raise RnnscopeError(f"{out} is the file that is read, and would lose all else that it has", "name another file")
    rnn = find_rnn(file, read_file(file), prefix)
    if to == "cells" and rnn.spec.proj_size:
        raise RnnscopeError(
            f"{file}: {rnn.path!r} has a projection, which nn.LSTMCell does not know", "use --to module"
        )
    new = {name: cell_name(name) if to == "cells" else name for name in rnn.weights}
    with writing(out, {new[name]: each for name, each in rnn.weights.items()}, force=force) as part:
        comparison = _proof(rnn, find_rnn(part, read_file(part)))
    names = {rnn.names[name]: own for name, own in new.items()}
    return Conversion(file, prefix, rnn, out, to, names, comparison)


def _proof(rnn: Rnn, copy: Rnn) -> Comparison:
    """torch's module with the old weights against the cells with those that were written."""
    if any(not _same_bits(each, copy.weights[name]) for name, each in rnn.weights.items()):
        raise RnnscopeError("the weights that were written are not those that were read", "try another disk")
    spec = replace(rnn.spec, dtype="float64")
    loaded = Loaded(NO_FILES, spec, rnn, copy.weights)
    comparison = compare(spec, "module", "equations" if spec.proj_size else "cells", loaded=loaded)
    if comparison.exit_code:
        raise RnnscopeError(f"module and cells are {comparison.verdict} with these weights, so nothing was written")
    return comparison


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(*(each.contiguous().view(torch.uint8) for each in (one, other)))
