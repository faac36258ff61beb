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
from rnnscope.scripts.parts import (
    WIDTH,
    cell_class,
    cells,
    check,
    difference,
    inputs,
    joined,
    literal,
    named,
    real_mask,
    run_cells,
    run_module,
    settings,
    sizes,
    text,
    title,
    torch_module,
    walk,
    warns,
)
from rnnscope.spec.options import NO_FILES, Sources
from rnnscope.spec.question import check_comparable
from rnnscope.spec.spec import Spec

if TYPE_CHECKING:  # their modules import torch
    from rnnscope.files.checkpoints import Rnn
    from rnnscope.files.loading import Loaded


@dataclass(frozen=True)
class Stored:
    """A network in a file, whose weights a plain script can load."""

    file: str
    rnn: "Rnn"

    @property
    def ending(self) -> str:
        """The ending of the file, which says how it is read."""
        return Path(self.file).suffix.lower()

    def prefix(self, name: str, own: str) -> str:
        """What stands in the file before a script's own name of a parameter, given torch's name of it."""
        return self.rnn.names[name].removesuffix(own)


def stored(file: str, rnn: "Rnn", prefix: str | None) -> Stored:
    """The network in a file, for a script.

    Raises:
        RnnscopeError: its weights were put together from others, or are behind a key that is no text or number.
    """
    if rnn.keys is not None and all(type(key) in (str, int) for key in rnn.keys):
        return Stored(file, rnn)
    which = ["--prefix", prefix] if prefix is not None else []
    mend = shlex.join(["rnnscope", "convert", file, *which, "--to", "module", "--out", "plain.pt"])
    raise RnnscopeError(
        f"{file}: a plain script cannot load {rnn.path!r}, whose weights are not in the file as they are computed with",
        f"write them anew: {mend}, then --with-weights plain.pt",
    )


def imports(found: Stored | None) -> tuple[str, str]:
    """What reading the file needs besides torch: a module, and a name from one."""
    ending = found.ending if found else ""
    return (
        "import numpy as np" if ending == ".npz" else "",
        "from safetensors.torch import load_file" if ending == ".safetensors" else "",
    )


def from_file(spec: Spec, found: Stored) -> str:
    """Read the weights, and give them to whichever has their names: the module, or the cells."""
    read = {
        ".safetensors": ["weights = load_file(file)"],
        ".npz": [
            "with np.load(file, allow_pickle=False) as arrays:",
            '    floats = [name for name in arrays if arrays[name].dtype.kind == "f"]',
            "    weights = {name: torch.from_numpy(arrays[name]) for name in floats}",
        ],
    }
    own = {"module": "weight_ih_l0", "cell": "weight_ih", "stacked": "0.weight_ih"}[found.rnn.form]
    target = {"module": "module", "cell": "cells[0]", "stacked": "cells"}[found.rnn.form]
    backward = found.rnn.form == "stacked" and spec.bidirectional
    return text(
        "# The weights, from a file that has them under the names of "
        + ("the module" if target == "module" else "cells"),
        named("file", found.file),
        *read.get(found.ending, ['weights = torch.load(file, map_location="cpu", weights_only=True)']),
        *map(_enter, found.rnn.keys or ()),
        *_load(target, found.prefix("weight_ih_l0", own)),
        *(_load("reverse_cells", found.prefix("weight_ih_l0_reverse", own)) if backward else []),
    )


def _enter(key: str | int) -> str:
    line = f"weights = weights[{literal(key)}]"
    return line if len(line) <= WIDTH else text(named("key", str(key)), "weights = weights[key]")


def _load(target: str, prefix: str) -> list[str]:
    key = "prefix + name" if prefix else "name"
    load = f"{target}.load_state_dict({{name: weights[{key}] for name in {target}.state_dict()}})"
    return [*([named("prefix", prefix)] if prefix else []), load]


def shared(spec: Spec, found: Stored | None) -> str:
    """Give the cells the weights of the module; where a file gave them to the cells, the other way round."""
    both = spec.bidirectional
    each_is = "weight_ih multiplies what a layer reads, weight_hh its own state:"
    reverse = ", and of reverse_cells[0] weight_ih_l0_reverse" if both else ""
    each = ["for k in range(K):"]
    cell, end = "cells[k]", ""
    if both:
        each.append('    for cell, end in ((cells[k], ""), (reverse_cells[k], "_reverse")):')
        cell, end = "cell", "{end}"
    indent, name = " " * (8 if both else 4), f'f"{{name}}_l{{k}}{end}"'
    if found is not None and found.rnn.form != "module":
        return text(
            f"# The same weights for the module. {each_is}",
            f"# weight_ih of cells[0] is weight_ih_l0 of the module{reverse}",
            "weights = {}",
            *each,
            f"{indent}weights |= {{{name}: weight for name, weight in {cell}.state_dict().items()}}",
            "module.load_state_dict(weights)",
        )
    return text(
        f"# The same weights for the cells. {each_is}",
        f"# weight_ih of cells[0] is weight_ih_l0 of the module{reverse}",
        "weights = module.state_dict()",
        *each,
        f"{indent}{cell}.load_state_dict({{name: weights[{name}] for name in {cell}.state_dict()}})",
    )


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
        """The command line that writes this again."""
        return self.line()

    def page(self) -> Page:
        """The script, alone."""
        return [Listing(self.text, "python")]

    def facts(self) -> dict[str, Any]:
        """The script as one text."""
        return {"script": self.text}

    def records(self) -> Iterator[dict[str, Any]]:
        """One record a line."""
        return ({"line": number, "text": line} for number, line in enumerate(self.text.splitlines(), 1))


def code(spec: Spec, *, loaded: "Loaded | None" = None) -> Script:
    """The script that runs a Spec as torch's module and as a loop of cells, and checks that they are the same network.

    Args:
        loaded: what files gave, of which the script reads the weights itself; torch draws them where there are none.

    Raises:
        RnnscopeError: a Spec under which nothing can be compared, or weights that a plain script cannot load.
    """
    check_comparable(spec, "module", "equations" if spec.proj_size else "cells")
    script = Script(spec, "", loaded.sources if loaded else NO_FILES)
    file, found = script.sources.weights, None
    if loaded is not None and file is not None and (rnn := loaded.rnn) is not None:
        if list(parameters(rnn.spec)) != list(parameters(spec)):
            raise RnnscopeError(f"{file} holds another network than the Spec", "take the Spec that was loaded from it")
        found = stored(file, rnn, script.sources.prefix)
    return replace(script, text=joined(_parts(spec, found, script.rerun)))


def _parts(spec: Spec, found: Stored | None, line: str) -> tuple[str, ...]:
    """The parts in the order in which they are read."""
    return (
        title(spec, line),
        _imports(spec, found),
        sizes(spec),
        settings(spec),
        torch_module(spec),
        run_module(spec),
        cell_class(spec),
        cells(spec),
        "" if found is None else from_file(spec, found),
        shared(spec, found),
        real_mask(spec),
        walk(spec),
        run_cells(spec),
        inputs(spec),
        difference(spec),
        check(spec),
    )


def _imports(spec: Spec, found: Stored | None) -> str:
    packing = "from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence"
    module, name = imports(found)
    return text(
        *(["import warnings", ""] if warns(spec) else []),
        module or False,
        "import torch",
        name or False,
        "from torch import nn",
        spec.lengths is not None and packing,
    )
