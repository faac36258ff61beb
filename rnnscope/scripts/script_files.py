"""The weights of a script of bare torch: where in a file they are, and how module and cells come to share them."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from rnnscope.errors import RnnscopeError
from rnnscope.files.storage import Rnn
from rnnscope.scripts.script_text import WIDTH, literal, named, text
from rnnscope.spec.spec import Spec


@dataclass(frozen=True)
class Stored:
    """A network in a file, whose weights a plain script can load."""

    file: str
    rnn: Rnn

    @property
    def ending(self) -> str:
        """The ending of the file, which says how it is read."""
        return Path(self.file).suffix.lower()

    def prefix(self, name: str, own: str) -> str:
        """What stands in the file before a script's own name of a parameter, given torch's name of it."""
        return self.rnn.names[name].removesuffix(own)


def stored(file: str, rnn: Rnn, prefix: str | None) -> Stored:
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
