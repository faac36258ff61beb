"""What people are told of files: the networks that are in one, and what was written into one or is to be."""

from rnnscope.files.storage import Checkpoint, Conversion, Rnn
from rnnscope.network.dims import TensorShape, tensor_shapes
from rnnscope.pages.page import Column, Grid, Listing, Page, Sentence, network, thousands
from rnnscope.scripts.script import Script
from rnnscope.verdict.verdict_words import verdict_in_words

_WHAT = {"module": "nn.{}", "cell": "nn.{}Cell", "stacked": "stack of nn.{}Cell"}


def page_of_checkpoint(checkpoint: Checkpoint) -> Page:
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


def page_of_script(script: Script) -> Page:
    """The script of `rnnscope code`, alone."""
    return [Listing(script.text, "python")]


def page_of_conversion(conversion: Conversion) -> Page:
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
