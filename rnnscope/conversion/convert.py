"""Which networks a file holds, and one of them under other names: torch's module's, or StackedCells', bit for bit.

A network is written only when a comparison has proved that it is the same.
"""

import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from rnnscope.errors import RnnscopeError
from rnnscope.files.checkpoints import Rnn, find_rnn, rnns_in, told_apart
from rnnscope.files.loading import Loaded
from rnnscope.files.onnx_models import Unread, find_onnx_rnn, onnx_rnns
from rnnscope.files.tensors import check_target, read_file, writing
from rnnscope.help.explain import more
from rnnscope.network.shapes import TensorShape, cell_name, network_in_words, tensor_shapes
from rnnscope.network.weights import same_bits
from rnnscope.pages.page import Column, Grid, Page, Sentence, thousands
from rnnscope.pages.progress import shown
from rnnscope.pages.render import Result
from rnnscope.spec.options import FILE, FORCE, NO_FILES, OUT, SOURCE_FLAGS, TO
from rnnscope.spec.spec import rerun
from rnnscope.subjects.onnx_graphs import OnnxModel
from rnnscope.verdict.compare import compare
from rnnscope.verdict.page import verdict_in_words
from rnnscope.verdict.result import Comparison


@dataclass(frozen=True)
class Checkpoint(Result):
    """The networks in a file, in the order in which it has them; a stack before its cells.

    unread: the networks of ONNX whose weights do not stand in the file. notes: what was not looked into.
    """

    file: str
    rnns: tuple[Rnn, ...]
    torch_version: str
    device_name: str = "cpu"
    unread: tuple[Unread, ...] = ()
    notes: tuple[str, ...] = ()

    command: ClassVar[str] = "weights"

    @property
    def rerun(self) -> str:
        """The command line that lists this again."""
        return rerun(self.command, None, (FILE, self.file))

    def page(self) -> Page:
        """The tables and sentences of `rnnscope weights`."""
        named = [(name or '""', rnn) for name, rnn in zip(told_apart(self.rnns), self.rnns, strict=True)]
        letters = _letters(self.rnns)
        has_rnn = any(each.spec.kind == "rnn" for each in self.rnns)
        unknown = "batch_first, nonlinearity and dropout" if has_rnn else "batch_first and dropout"
        nodes = [each for rnn in self.rnns for each in rnn.nodes]
        sizes = f"input H_in, hidden H{', projection P' * ('P' in letters)}; K layers, D directions."
        listed: Page = (
            [_sizes_grid(f"RNNs in {self.file}", named, letters), Sentence("Sizes", sizes)] if self.rnns else []
        )
        return [
            *listed,
            *(Sentence("Note", f"{name}: {note}.") for name, rnn in named for note in rnn.notes),
            *(Sentence("Not read", f"{each.network.name}: {each.reason}.") for each in self.unread),
            *(Sentence("Note", f"{each}.") for each in self.notes),
            *([_tensors_grid(named)] if self.rnns else []),
            *([_nodes_grid(nodes)] if nodes else []),
            *([] if nodes or self.unread else [Sentence("Not recorded", f"{unknown} {_NOT_RECORDED}")]),
            Sentence("Rerun", self.rerun, verbatim=True),
        ]

    def facts(self) -> dict[str, Any]:
        """The file and its networks."""
        found: dict[str, Any] = {"file": self.file, "rnns": [_rnn_record(each) for each in self.rnns]}
        if not (self.unread or self.notes or any(each.nodes for each in self.rnns)):
            return found
        found["unread"] = [
            {"prefix": each.network.name, "reason": each.reason, "nodes": [node.facts for node in each.network.nodes]}
            for each in self.unread
        ]
        return found | {"notes": list(self.notes)}

    def records(self) -> Iterator[dict[str, Any]]:
        """One record a network."""
        for each in self.rnns:
            record = {name: value for name, value in _rnn_record(each).items() if name != "nodes"}
            yield record | {"notes": "; ".join(each.notes)}


_NOT_RECORDED = "are in no state_dict: give them as flags."


@shown("weights")
def checkpoint(file: str) -> Checkpoint:
    """Every RNN, LSTM and GRU in a file, and every stack of their cells, with sizes and weights.

    Args:
        file: a state_dict, bare or inside what a trainer saved: .pt, .pth or .safetensors; or .npz; or a model that can
            be run, .onnx or .pt2.

    Raises:
        RnnscopeError: a file that cannot be read, or has no RNN inside; or an RNN that is not whole.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     torch.save({"model": torch.nn.GRU(3, 4).state_dict()}, f"{folder}/a.pt")
    ...     [(each.path, each.spec.kind, each.parameter_count) for each in checkpoint(f"{folder}/a.pt").rnns]
    [('model', 'gru', 108)]
    """
    version = str(torch.__version__)
    if not file.lower().endswith(".onnx"):
        return Checkpoint(file, rnns_in(file), version)
    model = read_file(file)
    rnns, unread = onnx_rnns(model)
    return Checkpoint(file, rnns, version, unread=unread, notes=model.unread)


@dataclass(frozen=True)
class Conversion(Result):
    """The network under a prefix of a file, written to `out` under the names of `to`.

    `names` gives the new name of each weight by its old one, in the order of torch's module. The comparison is of
    torch's module with the old weights against the cells with the new ones, in float64.
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

    @property
    def threads(self) -> int | None:
        return self.comparison.threads

    def page(self) -> Page:
        """The table and sentences of `rnnscope convert`."""
        columns = (Column(f"name in {self.file}", name=True), Column(f"name in {self.out}", name=True))
        spec = self.rnn.spec
        loads = "rnnscope.StackedCells" if self.to == "cells" else spec.module_name
        return [
            Grid(f"{network_in_words(spec)} for {loads}", columns, tuple(self.names.items())),
            *(Sentence("Note", f"{note}.") for note in self.rnn.notes),
            Sentence("Bits", f"every weight is in {spec.dtype} as before, with the same bits."),
            Sentence("Verdict", verdict_in_words(self.comparison), "good"),
            *(Sentence(each.label, f"{each.sentence}.") for each in self.comparison.blind_spots),
            *more(self.comparison.more),
            Sentence("Rerun", self.rerun, verbatim=True),
        ]

    def facts(self) -> dict[str, Any]:
        """Where the network was and is, its names, and the proof."""
        where = {"file": self.file, "out": self.out, "to": self.to, "rnn": _rnn_record(self.rnn), "names": self.names}
        outputs = [asdict(each) for each in self.comparison.outputs]
        return where | {"verdict": self.comparison.verdict, "outputs": outputs, "more": list(self.comparison.more)}

    def records(self) -> Iterator[dict[str, Any]]:
        """One record a weight."""
        return ({"old": old, "new": new} for old, new in self.names.items())


@shown("convert")
def convert(file: str, out: str, to: str, prefix: str | None = None, force: bool = False) -> Conversion:
    """Write the network under a prefix for StackedCells (`cells`) or for torch's module (`module`).

    Args:
        out: .pt, .pth, .safetensors or .npz; replaced with force where it is there already.
        prefix: may be None where the file has one network.

    Raises:
        RnnscopeError: a file or a prefix cannot be used, or cells are to have a projection.
        RnnscopeError: `out` is there already or cannot be written.
        RnnscopeError: a comparison does not find the two to be the same.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     torch.save(torch.nn.GRU(3, 4, bias=False).state_dict(), f"{folder}/a.pt")
    ...     convert(f"{folder}/a.pt", f"{folder}/b.pt", to="cells").names
    {'weight_ih_l0': 'cells.0.weight_ih', 'weight_hh_l0': 'cells.0.weight_hh'}
    """
    TO.check(to)
    check_target(out, force)
    if Path(out).exists() and Path(out).samefile(file):
        raise RnnscopeError(f"{out} is the file that is read, and would lose all else that it has", "name another file")
    content = read_file(file)
    rnn = find_onnx_rnn(content, prefix) if isinstance(content, OnnxModel) else find_rnn(file, content, prefix)
    if to == "cells" and rnn.spec.proj_size:
        raise RnnscopeError(
            f"{file}: {rnn.path!r} has a projection, which nn.LSTMCell does not know", "use --to module"
        )
    new = {name: cell_name(name) if to == "cells" else name for name in rnn.weights}
    with writing(out, {new[name]: each for name, each in rnn.weights.items()}, force=force) as part:
        comparison = _proof(rnn, find_rnn(part, read_file(part)), file, prefix)
    names = {rnn.names[name]: own for name, own in new.items()}
    return Conversion(file, prefix, rnn, out, to, names, comparison, comparison.torch_version)


def _proof(rnn: Rnn, copy: Rnn, file: str, prefix: str | None) -> Comparison:
    """torch's module with the old weights against the cells with those that were written."""
    if any(not same_bits(each, copy.weights[name]) for name, each in rnn.weights.items()):
        raise RnnscopeError("the weights that were written are not those that were read", "try another disk")
    # One thread, so that the line that runs this again tells of the same bits on every machine.
    spec = replace(rnn.spec, dtype="float64", threads=1)
    loaded = Loaded(NO_FILES, spec, rnn, copy.weights)
    comparison = compare(spec, "module", "equations" if spec.proj_size else "cells", loaded=loaded)
    if comparison.exit_code:
        which = ["--prefix", prefix] if prefix is not None else []
        see = shlex.join(["rnnscope", "compare", "--weights", file, *which, "--dtype", "float64"])
        raise RnnscopeError(
            f"module and cells are {comparison.verdict} with these weights, so nothing was written", f"see where: {see}"
        )
    return comparison


_WHAT = {"module": "nn.{}", "cell": "nn.{}Cell", "stacked": "{} cells"}


_LETTERS = ("H_in", "H", "P", "K", "D")


def _letters(rnns: tuple[Rnn, ...]) -> list[str]:
    """The sizes that a page tells: P only where a network has a projection."""
    has_projection = any(each.spec.proj_size for each in rnns)
    return [each for each in _LETTERS if each != "P" or has_projection]


def _sizes_grid(title: str, named: list[tuple[str, Rnn]], letters: list[str]) -> Grid:
    def row(rnn: Rnn) -> Iterator[str]:
        spec = rnn.spec
        sizes = (spec.input_size, spec.hidden_size, spec.proj_size or "-", spec.num_layers, spec.directions)
        yield _WHAT[rnn.form].format(spec.kind.upper())
        yield from (str(size) for letter, size in zip(_LETTERS, sizes, strict=True) if letter in letters)
        yield from ("yes" if spec.bias else "no", spec.dtype, thousands(rnn.parameter_count))

    numbers = (Column(letter, number=True) for letter in letters)
    of_each = (Column("what"), *numbers, Column("bias"), Column("dtype"), Column("parameters", number=True))
    return Grid(title, (Column("prefix", name=True), *of_each), tuple((name, *row(rnn)) for name, rnn in named))


def _tensors_grid(named: list[tuple[str, Rnn]]) -> Grid:
    """What goes in and comes out; the state comes out in the shape in which it went in."""
    titles = {"x": "x", "y": "y", "h": "h0/h"}
    if any(rnn.spec.kind == "lstm" for _, rnn in named):
        titles["c"] = "c0/c"
    rows = tuple((name, *_shapes(rnn, *titles)) for name, rnn in named)
    return Grid("What goes in and comes out", (Column("prefix", name=True), *map(Column, titles.values())), rows)


_PLAIN = {"layout": 0, "clip": 0.0, "input_forget": 0}
"""What most nodes say of themselves, or do not say."""


def _nodes_grid(nodes: list[dict[str, Any]]) -> Grid:
    """What ONNX says of each node; what most of them say is left out where all do."""
    odd = [name for name, plain in _PLAIN.items() if any(each[name] != plain for each in nodes)]
    is_gru = any(each["operator"] == "GRU" for each in nodes)
    names = ["direction", *(["linear_before_reset"] if is_gru else []), "activations", *odd]
    titles = [Column(name.replace("linear_before_reset", "lbr"), prose=name == "activations") for name in names]
    columns = (Column("node", name=True), *titles, Column("inputs", prose=True))
    rows = tuple(
        (each["name"], *(_said(each, name) for name in names), ", ".join(each["inputs"].values())) for each in nodes
    )
    return Grid("Nodes of ONNX" + (", lbr: linear_before_reset" if is_gru else ""), columns, rows)


def _said(node: dict[str, Any], name: str) -> str:
    if name == "activations":
        said = node[name]
        half = len(said) // 2
        both_alike = node["direction"] == "bidirectional" and said[:half] == said[half:]
        return " ".join(said[:half] if both_alike else said)
    if name == "linear_before_reset" and node["operator"] != "GRU":
        return "-"
    return f"{node[name]:g}" if isinstance(node[name], float) else str(node[name])


def _shapes(rnn: Rnn, *names: str) -> Iterator[str]:
    """The tensors with the sizes that are known, L and N by their letters; a cell has neither y, L nor layers."""
    is_cell = rnn.form == "cell"
    tensors = {each.name: each for each in tensor_shapes(rnn.spec) if not (is_cell and each.name == "y")}
    for name in names:
        yield f"({_dims(tensors[name], ('L', 'D·K') if is_cell else ())})" if name in tensors else "-"


def _dims(tensor: TensorShape, dropped: tuple[str, ...]) -> str:
    sizes = zip(tensor.dims, tensor.shape, strict=True)
    return ", ".join(dim if dim in ("L", "N") else str(size) for dim, size in sizes if dim not in dropped)


def _rnn_record(rnn: Rnn) -> dict[str, Any]:
    names = ("kind", "input_size", "hidden_size", "num_layers", "bidirectional", "bias", "proj_size", "dtype")
    where = {"prefix": rnn.prefix, "path": rnn.path, "form": rnn.form}
    sizes = {name: getattr(rnn.spec, name) for name in names}
    found = where | sizes | {"parameter_count": rnn.parameter_count, "notes": list(rnn.notes)}
    if not rnn.nodes:
        return found
    of_rnn = {"nonlinearity": rnn.spec.nonlinearity} if rnn.spec.kind == "rnn" else {}
    return found | of_rnn | {"nodes": list(rnn.nodes)}
