"""Finds the RNN, LSTM and GRU modules, their cells and stacks of cells in a file, by the names and shapes alone.

What a state_dict does not record (batch_first, nonlinearity, dropout) is not guessed. Files are opened in
tensor_files.py and laid out as flat dicts of tensors in state_dicts.py.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import torch

from rnnscope.errors import RnnscopeError
from rnnscope.files.rnn_shapes import Group, check_shapes, spec_of
from rnnscope.files.state_dicts import StateDict, state_dicts
from rnnscope.files.storage import Checkpoint, Rnn, told_apart
from rnnscope.files.tensors import read_file
from rnnscope.network.costs import free_bytes, human_bytes
from rnnscope.network.dims import parameters
from rnnscope.network.weights import Weights, dtype_name, first_nonfinite
from rnnscope.spec.spec import DTYPES

_PARAMETER = re.compile(
    r"(?:(?P<prefix>.*)\.)?(?P<base>weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)"
    r"(?P<place>_l(?:0|[1-9]\d*)(?:_reverse)?)?",
    re.DOTALL,
)
_IN_LIST = re.compile(r"(?:(?P<list>.*)\.)?(?P<number>0|[1-9]\d*)", re.DOTALL)

MOST_NAMED = 20
"""Of so many networks the names are listed in a message."""

_SAVE_ANEW = "save all weights of a network in one of these dtypes"


def checkpoint(file: str) -> Checkpoint:
    """Every RNN in a file.

    Raises:
        RnnscopeError: a file that cannot be read (see `read_file`), has no RNN inside, or one that is not whole: a
            tensor of another shape than the others say, missing, not finite, or of a dtype that is none of DTYPES.
    """
    found: list[Rnn] = []
    groups = list(_groups(file, read_file(file)))
    for group in groups:
        try:
            rnn = _rnn(file, group)
        except RnnscopeError as error:
            others = ", ".join(repr(each.path) for each in groups[:MOST_NAMED] if each is not group)
            mends = [error.hint] if error.hint else []
            mends += [f"what is whole is taken by its prefix, of {others}"] if others else []
            raise RnnscopeError(error.message, "; ".join(mends) or None) from error
        owner = next((each for each in found if _shares(each, rnn)), None)
        found.append(replace(rnn, notes=(*rnn.notes, f"tied to {owner.path}")) if owner else rnn)
    return Checkpoint(file, tuple(found), str(torch.__version__))


def find_rnn(file: str, content: Any, prefix: str | None = None) -> Rnn:
    """The one RNN under a prefix.

    Args:
        content: what `read_file` gave.
        prefix: in the state_dict or in the file; may be None where there is one network, and a stack that has all the
            cells is one.

    Raises:
        RnnscopeError: as `checkpoint`, of this network alone; or there is none under the prefix, or several.
    """
    groups = list(_groups(file, content))
    if prefix is None:
        stacks = [each for each in groups if each.form == "stacked"]
        own = {(id(each.state), name) for each in stacks for name in each.names.values()}
        found = [
            each for each in groups if each in stacks or not {(id(each.state), n) for n in each.names.values()} <= own
        ]
    else:
        found = [each for each in groups if prefix == each.path] or [each for each in groups if prefix == each.prefix]
    if len(found) == 1:
        return _rnn(file, found[0])
    every = found or groups
    paths = told_apart([each.prefix for each in every], [each.path for each in every])
    listed = ", ".join(map(repr, paths[:MOST_NAMED])) + (", ..." if len(paths) > MOST_NAMED else "")
    if found:
        raise RnnscopeError(f"{file} has {len(found)} RNNs: {listed}", f"give the prefix of one, such as {paths[0]!r}")
    near = get_close_matches(prefix or "", paths, n=1, cutoff=0.5)
    raise RnnscopeError(
        f"{file} has no RNN under the prefix {prefix!r}, but under {listed}",
        f"did you mean {near[0]!r}?" if near else f"try {paths[0]!r}",
    )


def _groups(file: str, content: Any) -> Iterator[Group]:
    """What might be a network, in the order of the file, each stack before its first cell.

    Raises:
        RnnscopeError: there is nothing.
    """
    found: dict[tuple[int, str, str], Group] = {}
    for state in state_dicts(content):
        # A scalar or a mask under a weight's name is a statistic of it.
        weights = [name for name, each in state.tensors.items() if each.dim() and each.dtype != torch.bool]
        for name in (*weights, *state.odd):
            if match := _PARAMETER.fullmatch(name):
                prefix, form = match["prefix"] or "", "module" if match["place"] else "cell"
                group = found.setdefault((id(state.tensors), prefix, form), Group(state, prefix, form, {}))
                group.names[f"{match['base']}{match['place'] or '_l0'}"] = name
    if not found:
        raise RnnscopeError(
            f"{file} has no RNN inside: no tensor is named weight_ih_l0, weight_ih or the like",
            "save the state_dict() of a model with nn.RNN, nn.LSTM, nn.GRU or their cells",
        )
    stacks = {stack.names["weight_ih_l0"]: stack for stack in _stacks(list(found.values()))}
    for group in found.values():
        stack = stacks.get(group.names.get("weight_ih_l0", "")) if group.form == "cell" else None
        if stack is not None and stack.state is group.state:
            yield stack
        yield group


def _stacks(groups: list[Group]) -> Iterator[Group]:
    """Lists of cells whose sizes fit: `cells`, with `reverse_cells`, under their owner, any other list by its name."""
    lists: dict[tuple[str, str], dict[int, Group]] = {}
    for group in groups:
        match = _IN_LIST.fullmatch(group.prefix)
        if group.form == "cell" and match:
            lists.setdefault((group.state.container, match["list"] or ""), {})[int(match["number"])] = group
    for (container, path), cells in lists.items():
        owner, _, name = path.rpartition(".")
        if name == "reverse_cells" or 0 not in cells or (len(cells) == 1 and name != "cells"):
            continue
        reverse = lists.get((container, f"{owner}.reverse_cells".lstrip(".")), {}) if name == "cells" else {}
        names = {
            f"{each.removesuffix('_l0')}_l{number}{direction}": own
            for direction, one_way in (("", cells), ("_reverse", reverse))
            for number, group in one_way.items()
            for each, own in group.names.items()
        }
        stack = Group(cells[0].state, owner if name == "cells" else path, "stacked", names)
        if _fits(stack):
            yield stack


def _fits(stack: Group) -> bool:
    """Whether cells can be walked as a stack: none is missing, and each takes what the one below gives."""
    try:
        check_shapes(stack, spec_of(stack))
    except RnnscopeError:
        return False
    return True


def _rnn(file: str, group: Group) -> Rnn:
    """The network of a group, checked."""
    try:
        for name in group.names.values():
            _check_tensor(group.state, name)
        spec = spec_of(group)
        check_shapes(group, spec)
        weights = {each.name: group.state.tensors[group.names[each.name]] for each in parameters(spec)}
        dtype = _check_numbers(group, weights)
    except RnnscopeError as error:
        raise RnnscopeError(f"{file}: {error.message}", error.hint) from error
    folded = ", ".join(name for name in group.names.values() if name in group.state.folded)
    notes = (f"weight norm was folded into {folded}",) if folded else ()
    spec, keys = replace(spec, dtype=dtype), None if folded else group.state.keys
    return Rnn(group.prefix, group.path, group.form, spec, group.names, weights, notes, keys)


def _check_tensor(state: StateDict, name: str) -> None:
    if name in state.odd:
        raise RnnscopeError(
            f"{name} is reparametrised ({state.odd[name]}) in a way that a file does not record",
            "make it plain before you save it",
        )
    tensor = state.tensors[name]
    if tensor.is_meta:
        raise RnnscopeError(f"{name} is on the meta device and has no numbers", "save the weights themselves")
    layout, dtype = str(tensor.layout).removeprefix("torch."), dtype_name(tensor)
    if layout != "strided" or dtype not in DTYPES:
        got = dtype if layout == "strided" else f"a {layout} tensor of {dtype}"
        raise RnnscopeError(f"{name} is {got}, but it must be dense and one of {', '.join(DTYPES)}", _SAVE_ANEW)


def _check_numbers(group: Group, weights: Weights) -> str:
    """The one dtype of finite weights."""
    first, *others = weights
    for name in others:
        if weights[name].dtype != weights[first].dtype:
            pair = (f"{group.names[each]} is {dtype_name(weights[each])}" for each in (name, first))
            raise RnnscopeError(", but ".join(pair), _SAVE_ANEW)
    # A small tensor may be stretched to any size.
    needed, free = 8 * sum(each.numel() for each in weights.values()), free_bytes()
    if free is not None and needed > free:
        raise RnnscopeError(
            f"its weights need {human_bytes(needed)} of memory, and {human_bytes(free)} is free", "free some"
        )
    for name, each in weights.items():
        if (at := first_nonfinite(each)) is not None:
            raise RnnscopeError(f"{group.names[name]} holds NaN or infinity, first at {at}", "save finite weights")
    return dtype_name(weights[first])


def _shares(rnn: Rnn, other: Rnn) -> bool:
    """Whether two networks of one form have the same tensors."""
    pairs = [(rnn.weights[name], other.weights.get(name)) for name in rnn.weights]
    return rnn.form == other.form and all(
        b is not None and a.data_ptr() == b.data_ptr() and a.shape == b.shape for a, b in pairs
    )
