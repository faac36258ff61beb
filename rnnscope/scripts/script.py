"""A script of bare torch for a Spec: torch's module, a loop of cells by hand, and the check that they are one network.

It needs nothing of rnnscope. Here its parts are put in the order in which they are read, and the weights of a file are
given to module and cells.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rnnscope.errors import RnnscopeError
from rnnscope.network.shapes import parameters
from rnnscope.pages.page import Listing, Page
from rnnscope.pages.render import SpecResult
from rnnscope.scripts import parts
from rnnscope.scripts.parts import WIDTH, literal, named, text
from rnnscope.spec.options import NO_FILES, Sources
from rnnscope.spec.question import check_comparable
from rnnscope.spec.spec import Spec

if TYPE_CHECKING:  # their modules import torch
    from rnnscope.files.checkpoints import Rnn
    from rnnscope.files.loading import Loaded


@dataclass(frozen=True)
class Script(SpecResult):
    """A complete script of bare torch, as it is written for a Spec."""

    spec: Spec
    text: str
    sources: Sources = NO_FILES
    torch_version: None = None
    device_name: None = None

    command: ClassVar[str] = "code"

    @property
    def rerun(self) -> str:
        return self.line()

    def page(self) -> Page:
        return [Listing(self.text, "python")]

    def facts(self) -> dict[str, Any]:
        return {"script": self.text}

    def records(self) -> Iterator[dict[str, Any]]:
        """One record for each line."""
        return ({"line": number, "text": line} for number, line in enumerate(self.text.splitlines(), 1))


def code(spec: Spec, *, loaded: "Loaded | None" = None) -> Script:
    """The script that runs a Spec as torch's module and as a loop of cells, and checks that they are the same network.

    Args:
        loaded: what files gave. The script reads the weights from their file itself; without one torch draws them.

    Raises:
        RnnscopeError: a Spec under which nothing can be compared, or weights that a plain script cannot load.

    >>> print(code(Spec(kind="gru")).text.splitlines()[0].strip('"'))
    nn.GRU and a loop of nn.GRUCell by hand: one network, computed twice.
    """
    check_comparable(spec, "module", "equations" if spec.proj_size else "cells")
    script = Script(spec, "", loaded.sources if loaded else NO_FILES)
    file = script.sources.weights or ""
    rnn = loaded.rnn if loaded and file else None
    if rnn is not None:
        _check_rnn(spec, file, rnn, script.sources.prefix)
    return replace(script, text=parts.assembled(_parts(spec, script.rerun, file, rnn)))


def _check_rnn(spec: Spec, file: str, rnn: "Rnn", prefix: str | None) -> None:
    """Raise unless a plain script for the Spec can load the network from its file."""
    if list(parameters(rnn.spec)) != list(parameters(spec)):
        raise RnnscopeError(f"{file} holds another network than the Spec", "take the Spec that was loaded from it")
    if rnn.keys is None or not all(type(key) in (str, int) for key in rnn.keys):
        which = ["--prefix", prefix] if prefix is not None else []
        mend = shlex.join(["rnnscope", "convert", file, *which, "--to", "module", "--out", "plain.pt"])
        raise RnnscopeError(
            f"{file}: a plain script cannot load {rnn.path!r}, "
            "whose weights are not in the file as they are computed with",
            f"write them anew: {mend}, then --with-weights plain.pt",
        )


def _parts(spec: Spec, rerun: str, file: str, rnn: "Rnn | None") -> tuple[str, ...]:
    """The parts in the order in which they are read."""
    return (
        parts.title(spec, rerun),
        _imports(spec, Path(file).suffix.lower()),
        parts.sizes(spec),
        parts.settings(spec),
        parts.torch_module(spec),
        parts.run_module(spec),
        parts.cell_class(spec),
        parts.cells(spec),
        _from_file(spec, file, rnn) if rnn else "",
        _same_weights(spec, to_cells=rnn is None or rnn.form == "module"),
        parts.padding_mask(spec),
        parts.walk(spec),
        parts.run_cells(spec),
        parts.inputs(spec),
        parts.difference(spec),
        parts.check(spec),
    )


def _imports(spec: Spec, ending: str) -> str:
    return text(
        *(["import warnings", ""] if parts.warns(spec) else []),
        ending == ".npz" and "import numpy as np",
        "import torch",
        ending == ".safetensors" and "from safetensors.torch import load_file",
        "from torch import nn",
        spec.lengths is not None and "from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence",
    )


def _from_file(spec: Spec, file: str, rnn: "Rnn") -> str:
    """Read the weights, and give them to whichever has their names: the module, or the cells."""
    read = {
        ".safetensors": ["weights = load_file(file)"],
        ".npz": [
            "with np.load(file, allow_pickle=False) as arrays:",
            '    floats = [name for name in arrays if arrays[name].dtype.kind == "f"]',
            "    weights = {name: torch.from_numpy(arrays[name]) for name in floats}",
        ],
    }
    form, first = rnn.form, rnn.names["weight_ih_l0"]
    target = {"module": "module", "cell": "cells[0]", "stacked": "cells"}[form]
    own = {"module": "weight_ih_l0", "cell": "weight_ih", "stacked": "0.weight_ih"}[form]
    of_reverse = rnn.names["weight_ih_l0_reverse"] if spec.bidirectional else ""
    return text(
        f"# The weights, from a file that has them under the names of {'the module' if form == 'module' else 'cells'}",
        named("file", file),
        *read.get(Path(file).suffix.lower(), ['weights = torch.load(file, map_location="cpu", weights_only=True)']),
        *map(_enter, rnn.keys or ()),
        _load(target, first.removesuffix(own)),
        form == "stacked" and spec.bidirectional and _load("reverse_cells", of_reverse.removesuffix(own)),
    )


def _enter(key: str | int) -> str:
    line = f"weights = weights[{literal(key)}]"
    return line if len(line) <= WIDTH else text(named("key", str(key)), "weights = weights[key]")


def _load(target: str, prefix: str) -> str:
    """Give a module the weights whose names in the file are a prefix and its own names."""
    key = "prefix + name" if prefix else "name"
    load = f"{target}.load_state_dict({{name: weights[{key}] for name in {target}.state_dict()}})"
    return text(prefix != "" and named("prefix", prefix), load)


def _same_weights(spec: Spec, to_cells: bool) -> str:
    """Give the cells the weights of the module; where a file gave them to the cells, the other way round."""
    reverse, loops = "", ["for k in range(K):"]
    cell, name, indent = "cells[k]", 'f"{name}_l{k}"', "    "
    if spec.bidirectional:
        reverse = ", and of reverse_cells[0] weight_ih_l0_reverse"
        loops.append('    for cell, end in ((cells[k], ""), (reverse_cells[k], "_reverse")):')
        cell, name, indent = "cell", 'f"{name}_l{k}{end}"', "        "
    into_cells = f"{cell}.load_state_dict({{name: weights[{name}] for name in {cell}.state_dict()}})"
    from_cells = f"weights |= {{{name}: weight for name, weight in {cell}.state_dict().items()}}"
    return text(
        f"# The same weights for the {'cells' if to_cells else 'module'}. "
        "weight_ih multiplies what a layer reads, weight_hh its own state:",
        f"# weight_ih of cells[0] is weight_ih_l0 of the module{reverse}",
        f"weights = {'module.state_dict()' if to_cells else '{}'}",
        *loops,
        f"{indent}{into_cells if to_cells else from_cells}",
        not to_cells and "module.load_state_dict(weights)",
    )
