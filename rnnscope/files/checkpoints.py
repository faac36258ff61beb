"""Finds the RNN, LSTM and GRU modules, their cells and stacks of cells in a file, by names and shapes alone.

The content of a file holds state_dicts, the tensors of each fall into groups, and a group that is whole is a network.
A state_dict does not record batch_first, nonlinearity and dropout: they are not guessed.
"""

import re
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.files.tensors import read_file
from rnnscope.network.costs import check_free, parameter_count
from rnnscope.network.shapes import Shape, parameters
from rnnscope.network.weights import Weights, dtype_name, nonfinite_index
from rnnscope.spec.flags import MOST_NAMED, nearest, quoted_names
from rnnscope.spec.spec import DTYPES, Spec


@dataclass(frozen=True, eq=False, repr=False)
class StateDict:
    """The tensors of one state_dict by their names, each weight in place of the parts into which it was split.

    It is reached in the file through `keys`: ("state_dict",), ("models", 0), or () at the top. `folded` are the weights
    that the file has only in parts. `odd` are those that are reparametrised in a way that a file does not record, each
    with the names of what stands for it. `notes` are sentences about weights, with {} for their names.
    """

    keys: tuple[Any, ...]
    tensors: dict[str, Tensor]
    folded: set[str] = field(default_factory=set)
    odd: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def fold(self, name: str, weight: Tensor, note: str) -> None:
        """Put a weight in place of what the file has for it."""
        self.tensors[name] = weight
        self.folded.add(name)
        self.note(name, note)

    def note(self, name: str, note: str) -> None:
        """Say something of a weight."""
        self.notes.setdefault(note, []).append(name)


@dataclass(frozen=True, eq=False, repr=False)
class Group:
    """The tensors of one state_dict that would make one network.

    `prefix` is their path in the state_dict, "" at the root. `names` gives the name in the state_dict for each name of
    torch's. `form` is module (named as in torch's modules), cell (as in their cells) or stacked (a list of cells).
    `in_stack` says that a cell is in such a list.
    """

    state: StateDict
    prefix: str
    form: str
    names: dict[str, str]
    in_stack: bool = False

    @property
    def path(self) -> str:
        """Their path in the file, which goes through the dicts that hold the state_dict."""
        return _path(*self.state.keys, self.prefix)

    def shape(self, name: str) -> Shape:
        """The shape of a parameter by torch's name; none where it is reparametrised."""
        tensor = self.state.tensors.get(self.names[name])
        return () if tensor is None else tuple(tensor.shape)

    def missing(self, name: str, why: str = "") -> RnnscopeError:
        """The error that names a parameter as the state_dict would name it."""
        own = name if self.form == "module" else name.partition("_l")[0]
        return RnnscopeError(f"{_path(self.prefix, own)} is missing{why}")

    def misshapen(self, name: str, what: str) -> RnnscopeError:
        """The error that says what shape a parameter would need."""
        return RnnscopeError(f"{self.names[name]} has shape {self.shape(name)}, but {what}")


@dataclass(frozen=True, eq=False, repr=False)
class Rnn:
    """One network in a file: a group that is whole, with its weights by torch's names, in the dtype of the file.

    Only kind, sizes and dtype of the Spec are known; all else is not recorded. The dict that has these very weights is
    reached in the file through `keys`: None where weights were folded. `notes` say what else was seen.

    `nodes` are the facts of the nodes of ONNX that are its layers; then the nonlinearity is recorded, too. `refusal`
    says what the network does that none of torch's modules does.
    """

    prefix: str
    path: str
    form: str
    spec: Spec
    names: dict[str, str]
    weights: Weights
    notes: tuple[str, ...] = ()
    keys: tuple[Any, ...] | None = ()
    nodes: tuple[dict[str, Any], ...] = ()
    refusal: str | None = None

    @property
    def parameter_count(self) -> int:
        """Numbers in all its weights."""
        return parameter_count(self.spec)


def told_apart(networks: Sequence[Group | Rnn]) -> list[str]:
    """A name for each network, which --prefix takes.

    It is its prefix, or its path in the file where another has the same prefix, or the path of its first weight where
    another has the same path, too.
    """
    prefixes, paths = [each.prefix for each in networks], [each.path for each in networks]
    return [
        each.prefix
        if prefixes.count(each.prefix) == 1
        else each.path
        if paths.count(each.path) == 1
        else _first_weight(each)
        for each in networks
    ]


def _first_weight(network: Group | Rnn) -> str:
    """The path in the file of the weight that it has first."""
    return _path(network.path, next(iter(network.names.values())).removeprefix(f"{network.prefix}."))


def _path(*keys: Any) -> str:
    return ".".join(filter(None, map(str, keys)))


def state_dicts(content: Any) -> Iterator[StateDict]:
    """Each dict in the content of a file that holds tensors itself, from the outside in."""
    waiting: deque[tuple[tuple[Any, ...], Any]] = deque([((), content)])
    seen = set()
    while waiting:
        keys, each = waiting.popleft()
        if id(each) in seen:  # a pickle may hold itself
            continue
        seen.add(id(each))
        items: list[tuple[Any, Any]] = []
        if isinstance(each, Mapping):
            items = list(each.items())
        elif isinstance(each, (list, tuple)):
            items = list(enumerate(each))
        tensors = {str(key): value.detach() for key, value in items if isinstance(value, Tensor)}
        if tensors:
            yield _folded(keys, tensors)
        waiting.extend(((*keys, key), value) for key, value in items if isinstance(value, (Mapping, list, tuple)))


_PARAMETRIZED = re.compile(r"((?:.*\.)?)parametrizations\.([^.]+)\.(original\d?)")
_SPLIT = re.compile(r"(.+)_(g|v|orig|u|mask)")
_WEIGHT_NORM = (["g", "v"], ["original0", "original1"])
"""Magnitude and direction, as the old and the new weight norm name them."""
_PRUNING = ["mask", "orig"]


def _folded(keys: tuple[Any, ...], tensors: dict[str, Tensor]) -> StateDict:
    """A state_dict with each weight in place of the parts into which weight norm, pruning or weight drop splits it."""
    state = StateDict(keys, {})
    split: dict[str, dict[str, Tensor]] = {}
    made: dict[Any, Tensor] = {}
    for name, each in tensors.items():
        if found := _PARAMETRIZED.fullmatch(name):
            split.setdefault(found[1] + found[2], {})[found[3]] = each
        elif (found := _SPLIT.fullmatch(name)) and ({f"{found[1]}_g", f"{found[1]}_orig"} & tensors.keys()):
            split.setdefault(found[1], {})[found[2]] = each
        else:
            state.tensors[name] = each
    for name, parts in split.items():
        kinds = sorted(parts)
        pair = [parts[kind] for kind in kinds]
        if kinds in _WEIGHT_NORM and (weight := _weight_normed(*pair)) is not None:
            note = "weight norm was folded into {}"
        elif kinds == _PRUNING and (weight := _pruned(*pair)) is not None:
            note = "the mask of pruning was folded into {}"
        else:
            state.odd[name] = ", ".join(kinds)
            continue
        same = tuple((each.data_ptr(), each.shape, each.stride()) for each in pair)
        state.fold(name, made.setdefault(same, weight), note)  # weights that are tied stay so
    _undrop(state)
    for name in state.tensors:
        if (own := name.removesuffix("_mask")) != name and own in state.tensors and _PARAMETER.fullmatch(own):
            state.note(own, "a mask stands beside {} and was not applied")
    return state


def _undrop(state: StateDict) -> None:
    """Take the tensor that weight drop calls `_raw` for the weight: evaluation computes with it, as nothing is dropped.

    The file may have the weight too, as the last training step dropped it. The tensor may belong to the module that
    holds the RNN as `module`.
    """
    for raw in [*state.tensors, *state.odd]:
        found = _PARAMETER.fullmatch(raw.removesuffix("_raw"))
        if not raw.endswith("_raw") or found is None:
            continue
        name, inner = found[0], _path(found["prefix"] or "", "module.")
        if any(each.startswith(inner) and _PARAMETER.fullmatch(each.removeprefix(inner)) for each in state.tensors):
            name = inner + name.rpartition(".")[2]
        parts = [state.odd[each] for each in (name, raw) if each in state.odd]
        parts += ["mask"] * any(f"{each}_mask" in state.tensors for each in (name, raw, found[0]))
        if parts:
            state.odd[name] = ", ".join(("raw", *parts))
            continue
        weight, own = state.tensors[raw], state.tensors.get(name)
        if own is not None and _are_equal(own, weight):
            continue
        state.fold(name, weight, "the _raw tensor, which evaluation uses, was taken for {}")
        if own is not None:
            state.note(name, "the file's own {} differs from its _raw tensor and was left out")
        for names in state.notes.values():  # what was said of the tensor holds for the weight
            names += [name] * (raw in names)


def _are_equal(one: Tensor, other: Tensor) -> bool:
    alike = one.shape == other.shape and one.dtype == other.dtype and has_own_numbers(one) and has_own_numbers(other)
    return alike and torch.equal(one, other)


def _pruned(mask: Tensor, weight: Tensor) -> Tensor | None:
    """The weight where the mask is 1, and 0 where it is 0; None where the two are no such pair.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.prune.BasePruningMethod.html
    """
    if weight.is_floating_point() and mask.shape == weight.shape and has_own_numbers(mask) and has_own_numbers(weight):
        return mask.to(weight.dtype) * weight
    return None


def _weight_normed(magnitude: Tensor, direction: Tensor) -> Tensor | None:
    """g·v/‖v‖, the norm taken over all dims but the one that g has; None where the two are no such pair.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrizations.weight_norm.html
    """
    alike = magnitude.is_floating_point() and magnitude.dtype == direction.dtype
    if not (alike and has_own_numbers(magnitude) and has_own_numbers(direction)):
        return None
    if magnitude.dim() == 0:
        return torch._weight_norm(direction, magnitude, -1)
    ones = (1,) * (direction.dim() - 1)
    for dim, size in enumerate(direction.shape):
        if magnitude.shape == (*ones[:dim], size, *ones[dim:]):
            return torch._weight_norm(direction, magnitude, dim)
    return None


def has_own_numbers(tensor: Tensor) -> bool:
    """Whether a tensor is dense and stores every number that it says: an expanded one may claim any size."""
    if tensor.is_meta or tensor.layout != torch.strided:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


_PARAMETER = re.compile(
    r"(?:(?P<prefix>.*)\.)?(?P<base>weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)"
    r"(?P<place>_l(?:0|[1-9]\d*)(?:_reverse)?)?",
    re.DOTALL,
)
_IN_LIST = re.compile(r"(?:(?P<list>.*)\.)?(?P<number>0|[1-9]\d*)", re.DOTALL)


def _groups(state: StateDict) -> Iterator[Group]:
    """What might be a network in a state_dict, in its order, each stack before its first cell."""
    found: dict[tuple[str, str], Group] = {}
    # A scalar or a mask under a weight's name is a statistic of it.
    weights = [name for name, each in state.tensors.items() if each.dim() and each.dtype != torch.bool]
    for name in (*weights, *state.odd):
        if match := _PARAMETER.fullmatch(name):
            prefix, form = match["prefix"] or "", "module" if match["place"] else "cell"
            group = found.setdefault((prefix, form), Group(state, prefix, form, {}))
            group.names[f"{match['base']}{match['place'] or '_l0'}"] = name
    stacks = list(_stacks(state, found.values()))
    first = {stack.names["weight_ih_l0"]: stack for stack in stacks}
    stacked = {name for stack in stacks for name in stack.names.values()}
    for group in found.values():
        if stack := first.get(group.names.get("weight_ih_l0", "")):
            yield stack
        yield replace(group, in_stack=not stacked.isdisjoint(group.names.values()))


def _stacks(state: StateDict, groups: Collection[Group]) -> Iterator[Group]:
    """Lists of cells whose sizes fit: `cells`, with `reverse_cells`, under their owner, any other list by its name."""
    lists: dict[str, dict[int, Group]] = {}
    for group in groups:
        match = _IN_LIST.fullmatch(group.prefix)
        if group.form == "cell" and match:
            lists.setdefault(match["list"] or "", {})[int(match["number"])] = group
    for path, cells in lists.items():
        owner, _, name = path.rpartition(".")
        if name == "reverse_cells" or 0 not in cells or (len(cells) == 1 and name != "cells"):
            continue
        reverse = lists.get(_path(owner, "reverse_cells"), {}) if name == "cells" else {}
        names = {
            f"{each.removesuffix('_l0')}_l{number}{direction}": own
            for direction, one_way in (("", cells), ("_reverse", reverse))
            for number, group in one_way.items()
            for each, own in group.names.items()
        }
        stack = Group(state, owner if name == "cells" else path, "stacked", names)
        try:
            spec_of(stack)
        except RnnscopeError:  # a cell is missing, or one does not take what the one below gives
            continue
        yield stack


def spec_of(group: Group) -> Spec:
    """Kind and sizes, by the weights of the first layer, which all others must fit; dtypes are not looked at."""
    shapes = {name: group.shape(name) for name in group.names}
    layers = {int(re.sub(r"\D", "", name)) for name in shapes}
    missing = next(number for number in range(len(layers) + 1) if number not in layers)
    if missing < max(layers):
        raise group.missing(f"weight_ih_l{missing}", ": a layer is not there")
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if name not in shapes:
            raise group.missing(name)
        if len(shapes[name]) != 2 or 0 in shapes[name]:
            raise group.misshapen(name, "it must have rows and columns")
    (rows, hidden), projection = shapes["weight_hh_l0"], 0
    if (shape := shapes.get("weight_hr_l0")) is not None:
        if len(shape) != 2 or not 0 < shape[0] < shape[1]:
            what = "it must have fewer rows (the projection) than columns (the hidden size)"
            raise group.misshapen("weight_hr_l0", what)
        projection, hidden = shape
    kinds = {"lstm": 4} if projection else {"rnn": 1, "lstm": 4, "gru": 3}
    kind = next((kind for kind, gates in kinds.items() if rows == gates * hidden), None)
    if kind is None:
        times = "4" if projection else "1 (RNN), 3 (GRU) or 4 (LSTM)"
        raise group.misshapen("weight_hh_l0", f"its rows must be {times} times the hidden size {hidden}")
    spec = Spec(
        kind=kind,
        input_size=shapes["weight_ih_l0"][1],
        hidden_size=hidden,
        num_layers=len(layers),
        bias=any(name.startswith("bias") for name in shapes),
        bidirectional=any(name.endswith("_reverse") for name in shapes),
        proj_size=projection,
    )
    _check_shapes(group, spec)
    return spec


def _check_shapes(group: Group, spec: Spec) -> None:
    """Raise unless every parameter of a Spec is there in its shape, and no other."""
    expected = {each.name: each.shape for each in parameters(spec)}
    for name, shape in expected.items():
        if name not in group.names:
            part = "bias" if name.startswith("bias") else "direction" if name.endswith("_reverse") else "layer"
            raise group.missing(name, f": a {part} is not whole")
        if group.shape(name) != shape:
            sizes = f"input size {spec.input_size} and hidden size {spec.hidden_size}"
            raise group.misshapen(name, f"it must have {shape} in an {spec.module_name} of {sizes}")
    if unexpected := next((own for name, own in group.names.items() if name not in expected), None):
        raise RnnscopeError(f"{unexpected} is there, but the other weights have nothing like it")


def _rnn(file: str, group: Group) -> Rnn:
    """The network of a group, checked."""
    try:
        for name in group.names.values():
            _check_tensor(group.state, name)
        spec = spec_of(group)
        weights = {each.name: group.state.tensors[group.names[each.name]] for each in parameters(spec)}
        _check_numbers(group, weights)
    except RnnscopeError as error:
        raise RnnscopeError(f"{file}: {error.message}", error.hint) from error
    own = list(group.names.values())
    about = {note: [name for name in own if name in names] for note, names in group.state.notes.items()}
    notes = tuple(note.format(", ".join(names)) for note, names in about.items() if names)
    folded = not group.state.folded.isdisjoint(own)
    spec, keys = replace(spec, dtype=dtype_name(weights["weight_ih_l0"])), None if folded else group.state.keys
    return Rnn(group.prefix, group.path, group.form, spec, group.names, weights, notes, keys)


_SAVE_ANEW = "save all weights of a network in one of these dtypes, as after model.float()"


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


def _check_numbers(group: Group, weights: Weights) -> None:
    """Raise unless the weights have one dtype and are finite."""
    first, *others = weights
    for name in others:
        if weights[name].dtype != weights[first].dtype:
            pair = (f"{group.names[each]} is {dtype_name(weights[each])}" for each in (name, first))
            raise RnnscopeError(", but ".join(pair), _SAVE_ANEW)
    # A small tensor may be stretched to any size.
    check_free(8 * sum(each.numel() for each in weights.values()), "its weights need", "free some")
    for name, each in weights.items():
        if (at := nonfinite_index(each)) is not None:
            raise RnnscopeError(f"{group.names[name]} holds NaN or infinity, first at {at}", "save finite weights")


def rnns_in(file: str) -> tuple[Rnn, ...]:
    """Every RNN in a file, in the order in which the file has them; a stack before its cells.

    Raises RnnscopeError where there is none, or where one is not whole: a tensor is missing, not finite, of a shape
    that the others do not fit, or of none of DTYPES.
    """
    found: list[Rnn] = []
    groups = _all_groups(file, read_file(file))
    for group in groups:
        try:
            rnn = _rnn(file, group)
        except RnnscopeError as error:
            named = zip(groups[:MOST_NAMED], told_apart(groups), strict=False)
            others = ", ".join(repr(name) for each, name in named if each is not group)
            mends = [error.hint or "", f"what is whole is taken by its prefix, of {others}" if others else ""]
            raise RnnscopeError(error.message, "; ".join(filter(None, mends)) or None) from error
        owner = next((each for each in found if _are_tied(each, rnn)), None)
        found.append(replace(rnn, notes=(*rnn.notes, f"tied to {owner.path}")) if owner else rnn)
    return tuple(found)


def find_rnn(file: str, content: Any, prefix: str | None = None) -> Rnn:
    """The one RNN under a prefix, which is a path in the state_dict or in the file, in what `read_file` gave.

    Where two are under one path, such as a module and a cell, the path of the first weight names one of them.

    The prefix may be None where there is one network; a stack and its cells are one. Raises RnnscopeError where there
    is no network under it, where there are several, or where the one is not whole.
    """
    groups = _all_groups(file, content)
    found = [each for each in groups if not each.in_stack] if prefix is None else _meant(groups, prefix)
    if len(found) == 1:
        return _rnn(file, found[0])
    names = told_apart(found or groups)
    names_told = quoted_names(names)
    if found and len(set(names)) == 1:  # dicts may be nested, or have dots in their keys
        raise RnnscopeError(f"{file} has {len(found)} RNNs under {found[0].path!r}", "save each in a file of its own")
    if found:
        raise RnnscopeError(
            f"{file} has {len(found)} RNNs: {names_told}", f"give the prefix of one, such as {names[0]!r}"
        )
    near = nearest(prefix or "", names)
    raise RnnscopeError(
        f"{file} has no RNN under the prefix {prefix!r}, but under {names_told}",
        f"did you mean {near!r}?" if near else f"try {names[0]!r}",
    )


def _meant(groups: list[Group], prefix: str) -> list[Group]:
    """The groups that a prefix names: by their path, their prefix, or their first weight."""
    found: list[Group] = []
    for name_of in (lambda each: each.path, lambda each: each.prefix, _first_weight):
        found = found or [each for each in groups if name_of(each) == prefix]
    exact = [each for each in found if each.prefix == prefix] or found
    return [each for each in exact if not each.in_stack] or exact


def _all_groups(file: str, content: Any) -> list[Group]:
    groups = [group for state in state_dicts(content) for group in _groups(state)]
    if not groups:
        raise RnnscopeError(
            f"{file} has no RNN inside: no tensor is named weight_ih_l0, weight_ih or the like",
            "save the state_dict() of a model with nn.RNN, nn.LSTM, nn.GRU or their cells",
        )
    return groups


def _are_tied(rnn: Rnn, other: Rnn) -> bool:
    """Whether two networks of one form have the same tensors."""
    return rnn.form == other.form and all(
        name in other.weights and each.is_set_to(other.weights[name]) for name, each in rnn.weights.items()
    )
