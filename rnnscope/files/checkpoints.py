"""Finds the RNN, LSTM and GRU modules, their cells and stacks of cells in a file, by names and shapes alone.

What a state_dict does not record (batch_first, nonlinearity, dropout) is not guessed. A trainer writes its state_dict
somewhere in nested dicts, and weight norm splits weights in two: both are undone here.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.files.tensors import read_file
from rnnscope.network.cells import cell_name
from rnnscope.network.costs import free_bytes, human_bytes, parameter_count
from rnnscope.network.shapes import Shape, parameters
from rnnscope.network.weights import Weights, dtype_name, nonfinite_index
from rnnscope.spec.spec import DTYPES, Spec

if TYPE_CHECKING:
    from rnnscope.network.weights import Weights


@dataclass(frozen=True)
class Rnn:
    """One network in a file.

    Args:
        prefix: its path in the state_dict; "" at the root.
        path: its path in the file, which goes through the dicts that hold the state_dict.
        form: module (named as in torch's modules), cell (as in their cells) or stacked (a list of cells).
        spec: kind, sizes and dtype; all else in it is not recorded.
        names: in the state_dict, by torch's names.
        weights: by torch's names, in the dtype of the file.
        notes: what else was seen.
        keys: through which the dict with these very weights is reached in the file; None where they were put together
            from others.
    """

    prefix: str
    path: str
    form: str
    spec: Spec
    names: dict[str, str]
    weights: "Weights"
    notes: tuple[str, ...] = ()
    keys: tuple[Any, ...] | None = ()

    @property
    def parameter_count(self) -> int:
        """Numbers in all its weights."""
        return parameter_count(self.spec)


def told_apart(prefixes: Sequence[str], paths: Sequence[str]) -> list[str]:
    """A name for each network: its prefix, or its path in the file where another has the same prefix."""
    return [path if prefixes.count(prefix) > 1 else prefix for prefix, path in zip(prefixes, paths, strict=True)]


@dataclass(frozen=True)
class StateDict:
    """One state_dict.

    Args:
        keys: through which it is reached in the file: ("state_dict",), ("models", 0), or () at the top.
        tensors: by their names.
        folded: the names under which weight norm was folded.
        odd: the names of weights that are reparametrised in a way that a file does not record, and how that is seen.
    """

    keys: tuple[Any, ...]
    tensors: dict[str, Tensor]
    folded: frozenset[str] = frozenset()
    odd: dict[str, str] = field(default_factory=dict)

    @property
    def container(self) -> str:
        """Its own path in the file: "state_dict", "models.0", or "" at the top."""
        path = ""
        for key in self.keys:
            path = f"{path}.{key}" if path else str(key)
        return path


def state_dicts(content: Any) -> Iterator[StateDict]:
    """Each dict in a file that holds tensors itself, from the outside in."""
    waiting: deque[tuple[tuple[Any, ...], Any]] = deque([((), content)])
    seen = set()
    while waiting:
        keys, each = waiting.popleft()
        if id(each) in seen:  # a pickle may hold itself
            continue
        seen.add(id(each))
        if isinstance(each, Mapping):
            items = list(each.items())
        elif isinstance(each, (list, tuple)):
            items = list(enumerate(each))
        else:
            continue
        tensors = {str(key): value.detach() for key, value in items if isinstance(value, Tensor)}
        if tensors:
            yield _folded(keys, tensors)
        waiting.extend(((*keys, key), value) for key, value in items if isinstance(value, (Mapping, list, tuple)))


def is_stretched(tensor: Tensor) -> bool:
    """Whether a tensor says more numbers than it has, as an expanded one does: a small file may claim any size."""
    return not tensor.is_meta and tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


_PARAMETRIZED = re.compile(r"(.*\.)?parametrizations\.([^.]+)\.(original\d?)")


_NORMED = re.compile(r"(.+)_(g|v|orig|u)")


def _folded(keys: tuple[Any, ...], tensors: dict[str, Tensor]) -> StateDict:
    """Weights for the magnitudes and directions into which weight norm splits them, in its old and its new form."""
    plain: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, each in tensors.items():
        if found := _PARAMETRIZED.fullmatch(name):
            parts.setdefault(f"{found[1] or ''}{found[2]}", {})[found[3]] = each
        elif (found := _NORMED.fullmatch(name)) and ({f"{found[1]}_g", f"{found[1]}_orig"} & tensors.keys()):
            parts.setdefault(found[1], {})[found[2]] = each
        else:
            plain[name] = each
    folded, odd = set(), {}
    for name, part in parts.items():
        pair = next((keys for keys in (("g", "v"), ("original0", "original1")) if part.keys() == set(keys)), None)
        weight = None if pair is None else _weight_normed(*(part[key] for key in pair))
        if weight is None:
            odd[name] = ", ".join(sorted(part))
        else:
            plain[name] = weight
            folded.add(name)
    return StateDict(keys, plain, frozenset(folded), odd)


def _weight_normed(magnitude: Tensor, direction: Tensor) -> Tensor | None:
    """g·v/‖v‖, the norm taken over all dims but the one that g has; None where the two are no such pair.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrizations.weight_norm.html
    """
    if is_stretched(magnitude) or is_stretched(direction):
        return None
    alike = magnitude.is_floating_point() and magnitude.dtype == direction.dtype
    if not alike or magnitude.is_meta or direction.is_meta:
        return None
    if magnitude.dim() == 0:
        return torch._weight_norm(direction, magnitude, -1)
    for dim, size in enumerate(direction.shape):
        if magnitude.shape == tuple(size if each == dim else 1 for each in range(direction.dim())):
            return torch._weight_norm(direction, magnitude, dim)
    return None


@dataclass(frozen=True)
class Group:
    """The tensors that would make one network.

    Args:
        state: the state_dict that holds them.
        prefix: their path in it.
        form: module (named as in torch's modules), cell (as in their cells) or stacked (a list of cells).
        names: in the state_dict, by torch's names.
    """

    state: StateDict
    prefix: str
    form: str
    names: dict[str, str]

    @property
    def path(self) -> str:
        """Their path in the file: the container's, then the prefix."""
        return ".".join(filter(None, (self.state.container, self.prefix)))

    def shape(self, name: str) -> Shape:
        """The shape of a parameter by torch's name; none where it is reparametrised."""
        tensor = self.state.tensors.get(self.names[name])
        return () if tensor is None else tuple(tensor.shape)

    def name_of(self, name: str) -> str:
        """The name in the state_dict of a parameter, also of one that is missing."""
        own = {"module": name, "cell": name.partition("_l")[0]}.get(self.form) or cell_name(name)
        return self.names.get(name) or ".".join(filter(None, (self.prefix, own)))


def spec_of(group: Group) -> Spec:
    """Kind and sizes, by the weights of the first layer; in float32, since dtypes are not looked at.

    Raises:
        RnnscopeError: a tensor is missing or has a shape that does not fit, with what it must have.
    """
    shapes = {name: group.shape(name) for name in group.names}
    layers = {int(name.partition("_l")[2].partition("_")[0]) for name in shapes}
    missing = next(number for number in range(len(layers) + 1) if number not in layers)
    if missing < max(layers):
        raise RnnscopeError(f"{group.name_of(f'weight_ih_l{missing}')} is missing: a layer is not there")
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if name not in shapes:
            raise RnnscopeError(f"{group.name_of(name)} is missing")
        if len(shapes[name]) != 2 or 0 in shapes[name]:
            raise RnnscopeError(f"{group.names[name]} has shape {shapes[name]}, but it must have rows and columns")
    hidden, projection = _hidden_size(group, shapes)
    rows = shapes["weight_hh_l0"][0]
    kinds = {"lstm": 4} if projection else {"rnn": 1, "lstm": 4, "gru": 3}
    kind = next((kind for kind, gates in kinds.items() if rows == gates * hidden), None)
    if kind is None:
        times = "4" if projection else "1 (RNN), 3 (GRU) or 4 (LSTM)"
        raise RnnscopeError(
            f"{group.names['weight_hh_l0']} has shape {shapes['weight_hh_l0']}, but its rows must be {times} times the "
            f"hidden size {hidden}"
        )
    return Spec(
        kind=kind,
        input_size=shapes["weight_ih_l0"][1],
        hidden_size=hidden,
        num_layers=len(layers),
        bias=any(name.startswith("bias") for name in shapes),
        bidirectional=any(name.endswith("_reverse") for name in shapes),
        proj_size=projection,
    )


def _hidden_size(group: Group, shapes: dict[str, Shape]) -> tuple[int, int]:
    """H and P: the columns of weight_hh where there is no projection, which has shape (P, H)."""
    projection = shapes.get("weight_hr_l0")
    if projection is None:
        return shapes["weight_hh_l0"][1], 0
    if len(projection) != 2 or not 0 < projection[0] < projection[1]:
        raise RnnscopeError(
            f"{group.names['weight_hr_l0']} has shape {projection}, but it must have fewer rows (the projection) than "
            "columns (the hidden size)"
        )
    return projection[1], projection[0]


def check_shapes(group: Group, spec: Spec) -> None:
    """Do nothing where every parameter of a Spec is there in its shape, and no other.

    Raises:
        RnnscopeError: the one that is not, with what it must have.
    """
    expected: dict[str, Shape] = {each.name: each.shape for each in parameters(spec)}
    for name, shape in expected.items():
        if name not in group.names:
            part = "bias" if name.startswith("bias") else "direction" if name.endswith("_reverse") else "layer"
            raise RnnscopeError(f"{group.name_of(name)} is missing: a {part} is not whole")
        if group.shape(name) != shape:
            raise RnnscopeError(
                f"{group.names[name]} has shape {group.shape(name)}, but it must have {shape} in an {spec.module_name} "
                f"of input size {spec.input_size} and hidden size {spec.hidden_size}"
            )
    if unexpected := next((own for name, own in group.names.items() if name not in expected), None):
        raise RnnscopeError(f"{unexpected} is there, but the other weights have nothing like it")


_PARAMETER = re.compile(
    r"(?:(?P<prefix>.*)\.)?(?P<base>weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)"
    r"(?P<place>_l(?:0|[1-9]\d*)(?:_reverse)?)?",
    re.DOTALL,
)


_IN_LIST = re.compile(r"(?:(?P<list>.*)\.)?(?P<number>0|[1-9]\d*)", re.DOTALL)


MOST_NAMED = 20
"""Of so many networks the names are listed in a message."""


_SAVE_ANEW = "save all weights of a network in one of these dtypes"


def rnns_in(file: str) -> tuple[Rnn, ...]:
    """Every RNN in a file, in the order in which the file has them; a stack before its cells.

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
    return tuple(found)


def _shares(rnn: Rnn, other: Rnn) -> bool:
    """Whether two networks of one form have the same tensors."""
    pairs = [(rnn.weights[name], other.weights.get(name)) for name in rnn.weights]
    return rnn.form == other.form and all(
        b is not None and a.data_ptr() == b.data_ptr() and a.shape == b.shape for a, b in pairs
    )


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
        if (at := nonfinite_index(each)) is not None:
            raise RnnscopeError(f"{group.names[name]} holds NaN or infinity, first at {at}", "save finite weights")
    return dtype_name(weights[first])
