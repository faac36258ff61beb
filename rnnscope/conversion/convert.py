"""Which networks a file holds, and one of them under other names: torch's module's, or StackedCells', bit for bit.

A network is written only when a comparison has proved that it is the same.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.files.checkpoints import Rnn, find_rnn, rnns_in, told_apart
from rnnscope.files.loading import Loaded
from rnnscope.files.tensors import check_target, read_file, writing
from rnnscope.network.cells import cell_name
from rnnscope.network.shapes import TensorShape, tensor_shapes
from rnnscope.network.shapes import network_in_words as network
from rnnscope.pages.page import Column, Grid, Page, Sentence, thousands
from rnnscope.pages.render import Result
from rnnscope.spec.options import FILE, FORCE, NO_FILES, OUT, SOURCE_FLAGS, TO
from rnnscope.spec.spec import rerun
from rnnscope.verdict.compare import compare
from rnnscope.verdict.page import verdict_in_words
from rnnscope.verdict.result import Comparison

if TYPE_CHECKING:
    from rnnscope.verdict.result import Comparison


@dataclass(frozen=True)
class Checkpoint(Result):
    """The networks in a file, in the order in which it has them; a stack before its cells."""

    file: str
    rnns: tuple[Rnn, ...]
    torch_version: str
    device_name: str = "cpu"

    command: ClassVar[str] = "weights"

    @property
    def names(self) -> list[str]:
        """What to call each network."""
        return told_apart([each.prefix for each in self.rnns], [each.path for each in self.rnns])

    @property
    def rerun(self) -> str:
        """The command line that lists this again."""
        return rerun(self.command, None, (FILE, self.file))

    def page(self) -> Page:
        """The tables and sentences of `rnnscope weights`."""
        return _page_of_checkpoint(self)

    def facts(self) -> dict[str, Any]:
        """The file and its networks."""
        return {"file": self.file, "rnns": [_rnn_record(each) for each in self.rnns]}

    def records(self) -> Iterator[dict[str, Any]]:
        """One record a network."""
        return ({**_rnn_record(each), "notes": "; ".join(each.notes)} for each in self.rnns)


def checkpoint(file: str) -> Checkpoint:
    """Every RNN in a file.

    Raises:
        RnnscopeError: see `rnns_in`.
    """
    return Checkpoint(file, rnns_in(file), str(torch.__version__))


@dataclass(frozen=True)
class Conversion(Result):
    """A network that was written under other names.

    Args:
        file, prefix: where it was.
        rnn: what it is.
        out, to: where it is now, and whose names it has.
        names: the new name of each weight by its old one, in the order of torch's module.
        comparison: torch's module with the old weights against the cells with the new ones, in float64.
    """

    file: str
    prefix: str | None
    rnn: Rnn
    out: str
    to: str
    names: dict[str, str]
    comparison: Comparison
    torch_version: str
    device_name: str = "cpu"

    command: ClassVar[str] = "convert"

    @property
    def rerun(self) -> str:
        """The command line that writes this again."""
        own = ((FILE, self.file), (TO, self.to), (OUT, self.out), (SOURCE_FLAGS["prefix"], self.prefix))
        return rerun(self.command, None, *own, (FORCE, True))

    def page(self) -> Page:
        """The table and sentences of `rnnscope convert`."""
        return _page_of_conversion(self)

    def facts(self) -> dict[str, Any]:
        """Where the network was and is, its names, and the proof."""
        return {
            "file": self.file,
            "out": self.out,
            "to": self.to,
            "rnn": _rnn_record(self.rnn),
            "names": self.names,
            "verdict": self.comparison.verdict,
            "outputs": [asdict(each) for each in self.comparison.outputs],
        }

    def records(self) -> Iterator[dict[str, Any]]:
        """One record a weight."""
        return ({"old": old, "new": new} for old, new in self.names.items())


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
    return Conversion(file, prefix, rnn, out, to, names, comparison, comparison.torch_version)


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


_WHAT = {"module": "nn.{}", "cell": "nn.{}Cell", "stacked": "stack of nn.{}Cell"}


def _page_of_checkpoint(checkpoint: Checkpoint) -> Page:
    """The tables and sentences of `rnnscope weights`."""
    titles = ("prefix", "what", "H_in", "H", "P", "K", "D", "bias", "dtype", "parameters")
    columns = tuple(Column(each, number=each in ("H_in", "H", "P", "K", "D", "parameters")) for each in titles)
    named = [(name or '""', rnn) for name, rnn in zip(checkpoint.names, checkpoint.rnns, strict=True)]
    rows = tuple((name, *_row(rnn)) for name, rnn in named)
    lines = tuple((name, _shapes(rnn, "input", "state"), _shapes(rnn, "output")) for name, rnn in named)
    return [
        Grid(f"RNNs in {checkpoint.file}", columns, rows),
        Sentence("Sizes", "input H_in, hidden H, projection P; K layers, D directions."),
        *(Sentence("Note", f"{name}: {note}.") for name, rnn in named for note in rnn.notes),
        Grid("What goes in and comes out", (Column("prefix"), Column("goes in"), Column("comes out")), lines),
        Sentence("Not recorded", f"{_not_recorded(checkpoint)} are in no state_dict: the flags say them."),
        Sentence("Rerun", checkpoint.rerun, verbatim=True),
    ]


def _page_of_conversion(conversion: Conversion) -> Page:
    """The table and sentences of `rnnscope convert`."""
    columns = (Column(f"name in {conversion.file}"), Column(f"name in {conversion.out}"))
    loads = {"cells": "rnnscope.StackedCells", "module": conversion.rnn.spec.module_name}[conversion.to]
    return [
        Grid(f"{network(conversion.rnn.spec)} for {loads}", columns, tuple(conversion.names.items())),
        Sentence("Bits", f"every weight is in {conversion.rnn.spec.dtype} as before, with the same bits."),
        Sentence("Verdict", verdict_in_words(conversion.comparison), "good"),
        Sentence("Rerun", conversion.rerun, verbatim=True),
    ]


def _row(rnn: Rnn) -> tuple[str, ...]:
    spec = rnn.spec
    return (
        _WHAT[rnn.form].format(spec.kind.upper()),
        str(spec.input_size),
        str(spec.hidden_size),
        str(spec.proj_size or "-"),
        str(spec.num_layers),
        str(spec.directions),
        "yes" if spec.bias else "no",
        spec.dtype,
        thousands(rnn.parameter_count),
    )


def _shapes(rnn: Rnn, *roles: str) -> str:
    """The tensors with the sizes that are known, L and N by their letters; a cell has neither L nor layers."""
    tensors = [each for each in tensor_shapes(rnn.spec) if each.role in roles]
    if rnn.form == "cell":
        tensors = [each for each in tensors if each.name != "y"]
    return ", ".join(f"{each.name} ({_dims(each, rnn.form == 'cell')})" for each in tensors)


def _dims(tensor: TensorShape, is_cell: bool) -> str:
    dropped = ("L", "D·K") if is_cell else ()
    sizes = zip(tensor.dims, tensor.shape, strict=True)
    return ", ".join(dim if dim in ("L", "N") else str(size) for dim, size in sizes if dim not in dropped)


def _not_recorded(checkpoint: Checkpoint) -> str:
    has_rnn = any(each.spec.kind == "rnn" for each in checkpoint.rnns)
    return "batch_first, nonlinearity and dropout" if has_rnn else "batch_first and dropout"


def _rnn_record(rnn: Rnn) -> dict[str, Any]:
    spec = rnn.spec
    network = ("kind", "input_size", "hidden_size", "num_layers", "bidirectional", "bias", "proj_size", "dtype")
    return {
        "prefix": rnn.prefix,
        "path": rnn.path,
        "form": rnn.form,
        **{name: getattr(spec, name) for name in network},
        "parameter_count": rnn.parameter_count,
        "notes": list(rnn.notes),
    }
