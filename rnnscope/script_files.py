"""The weights of a script of bare torch: where in a file they are, and how module and cells come to share them."""

import shlex
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnnscope.errors import RnnscopeError
from rnnscope.script_text import WIDTH, literal, named, text
from rnnscope.spec import Spec
from rnnscope.storage import Rnn


@dataclass(frozen=True)
class Stored:
    """A network in a file, and the keys through which the dict with its weights is reached."""

    file: str
    keys: tuple[str | int, ...]
    rnn: Rnn

    @property
    def ending(self) -> str:
        """The ending of the file, which says how it is read."""
        return Path(self.file).suffix.lower()

    def prefix(self, name: str, own: str) -> str:
        """What stands in the file before a script's own name of a parameter, given torch's name of it."""
        return self.rnn.names[name].removesuffix(own)


def stored(file: str, content: Any, rnn: Rnn, prefix: str | None) -> Stored:
    """Where the weights of a network are in what a file holds, found by the weights themselves.

    Raises:
        RnnscopeError: nowhere, since they were put together from others, or behind a key that is no text or number.
    """
    for keys, found in _dicts(content):
        if all(_is_same(found.get(own), rnn.weights[name]) for name, own in rnn.names.items()):
            return Stored(file, keys, rnn)
    which = ["--prefix", prefix] if prefix is not None else []
    mend = shlex.join(["rnnscope", "convert", file, *which, "--to", "module", "--out", "plain.pt"])
    raise RnnscopeError(
        f"{file}: a plain script cannot load {rnn.path!r}, whose weights are not in the file as they are computed with",
        f"write them anew: {mend}, then --with-weights plain.pt",
    )


def _dicts(content: Any) -> Iterator[tuple[tuple[str | int, ...], Mapping[Any, Any]]]:
    """Each dict in a file with the keys that lead to it, where Python can write them, from the outside in."""
    waiting: deque[tuple[tuple[str | int, ...], Any]] = deque([((), content)])
    seen = set()
    while waiting:
        keys, each = waiting.popleft()
        if id(each) in seen:  # a pickle may hold itself
            continue
        seen.add(id(each))
        if isinstance(each, Mapping):
            yield keys, each
            waiting.extend(((*keys, key), value) for key, value in each.items() if type(key) in (str, int))
        elif isinstance(each, (list, tuple)):
            waiting.extend(((*keys, number), value) for number, value in enumerate(each))


def _is_same(value: Any, weight: Any) -> bool:
    alike = all(getattr(value, fact, None) == getattr(weight, fact) for fact in ("layout", "device", "dtype"))
    return alike and bool(weight.equal(value))


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
        *map(_enter, found.keys),
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
