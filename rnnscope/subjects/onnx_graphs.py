"""Reads a file of ONNX: its LSTM, GRU and RNN nodes, what feeds them, and one network taken out of its graph.

Nothing is run. Data outside of the file are read from its own folder alone, and an operator that is not part of ONNX or
of onnxruntime is refused, since it would need somebody's library.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.spec.flags import quoted_names
from rnnscope.subjects.onnx_runtime import needed

LARGEST_FILE = 2**31 - 1
"""Bytes of the greatest message that protobuf reads. Larger weights stand in files beside it."""

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Whose operators onnxruntime has in itself."""

OLDEST_OPSET = 7
"""Before it LSTM, GRU and RNN had other attributes."""

KINDS = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn", "DynamicQuantizeLSTM": "lstm"}
"""The operators that walk over time, with the kind of each."""

INT8 = ("DynamicQuantizeLSTM", "MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QAttention", "QGemm")
"""Operators that multiply in int8; so do those whose names begin with QLinear."""

INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
"""The inputs of an LSTM by their places; of GRU and RNN the first six."""

OUTPUTS = ("Y", "Y_h", "Y_c")

ACTIVATIONS = {"lstm": ("Sigmoid", "Tanh", "Tanh"), "gru": ("Sigmoid", "Tanh"), "rnn": ("Tanh",)}
"""Those of torch, which are also those of a node that says none."""

MOVERS = ("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Dropout", "Flatten")
"""Operators that move numbers from one place to another, by their first input alone."""

PARTS = (*MOVERS, "Slice", "Split", "Gather", "Expand")
"""Operators that give a part of their first input, or repeat it."""

_MOST_FOLDED, _DEEPEST = 2**30, 200
"""Elements and steps that the folding of a constant may take."""


@dataclass(frozen=True, eq=False, repr=False)
class RnnNode:
    """An LSTM, GRU or RNN of a graph, with its attributes as ONNX names them.

    Args:
        name: its own, or its operator and a number.
        where: the operators in whose bodies it stands, from outside in.
        clip: 0 where nothing is clipped.
    """

    name: str
    proto: Any
    scope: "Scope"
    operator: str
    kind: str
    hidden_size: int
    direction: str
    layout: int
    linear_before_reset: int
    activations: tuple[str, ...]
    clip: float
    input_forget: int
    where: tuple[str, ...] = ()

    @property
    def directions(self) -> int:
        return 2 if self.direction == "bidirectional" else 1

    @property
    def inputs(self) -> dict[str, str]:
        """The names of what goes in, by ONNX's names; those that are left out are not there."""
        return {role: name for role, name in zip(INPUTS, self.proto.input, strict=False) if name}

    @property
    def outputs(self) -> dict[str, str]:
        """The names of what comes out; those that are left out are not there."""
        return {role: name for role, name in zip(OUTPUTS, self.proto.output, strict=False) if name}

    def constant(self, role: str) -> Tensor | None:
        """The numbers of an input, where they stand in the file."""
        name = self.inputs.get(role)
        return None if name is None else self.scope.constant(name)

    @property
    def facts(self) -> dict[str, Any]:
        """What ONNX says of it, for programs."""
        names = ("hidden_size", "direction", "layout", "linear_before_reset", "clip", "input_forget")
        where = {"name": self.name, "operator": self.operator, "in": list(self.where)}
        said = {name: getattr(self, name) for name in names} | {"activations": list(self.activations)}
        return where | said | {"inputs": self.inputs, "outputs": self.outputs}


@dataclass(frozen=True, eq=False, repr=False)
class Network:
    """Nodes that feed each other, from the lowest layer to the highest: the layers of one network."""

    nodes: tuple[RnnNode, ...]

    @property
    def name(self) -> str:
        return self.nodes[0].name

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.nodes)


class Scope:
    """A graph, or the body of an operator, in which every name of the graphs around it is known."""

    def __init__(self, proto: Any, folder: Path, outer: "Scope | None" = None, where: tuple[str, ...] = ()) -> None:
        self.proto, self.folder, self.outer, self.where = proto, folder, outer, where
        self.made_by: dict[str, Any] = {name: node for node in proto.node for name in node.output if name}
        self.initializers: dict[str, Any] = {each.name: each for each in proto.initializer}
        self._constants: dict[str, Tensor | None] = {}

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """What must be given to run it, by name."""
        return {each.name: each for each in self.proto.input if each.name not in self.initializers}

    def constant(self, name: str, depth: int = 0) -> Tensor | None:
        """A tensor that stands in the file, or is moved together from such ones; None where it depends on an input.

        Raises:
            RnnscopeError: its numbers are not whole, or cannot be read.
        """
        if name not in self._constants:
            self._constants[name] = self._constant(name, depth)
        return self._constants[name]

    def _constant(self, name: str, depth: int) -> Tensor | None:
        if name in self.initializers:
            return tensor_of(self.initializers[name], self.folder)
        node = self.made_by.get(name)
        if node is None:
            is_input = any(each.name == name for each in self.proto.input)
            return None if self.outer is None or is_input else self.outer.constant(name, depth + 1)
        if node.op_type == "Constant":
            return _of_constant(node, self.folder)
        fold = _FOLDS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if fold is None or depth > _DEEPEST:
            return None
        given = [self.constant(each, depth + 1) if each else None for each in node.input]
        if any(found is None for found, each in zip(given, node.input, strict=True) if each):
            return None
        if sum(each.numel() for each in given if each is not None) > _MOST_FOLDED:
            return None
        with suppress(IndexError, ValueError, TypeError, RuntimeError, KeyError):  # what does not fit is not folded
            return fold(given, attributes(node), list(node.output).index(name))
        return None

    def behind(self, name: str, through: Sequence[str] = MOVERS) -> tuple[str, tuple[Any, ...]]:
        """The name from which operators of some sorts moved what a name has, and these operators, the last one first.

        A body reads the names of the graph around it.
        """
        passed: list[Any] = []
        while (
            (node := self.made_by.get(name)) is not None and node.op_type in through and len(passed) < len(self.made_by)
        ):
            passed.append(node)
            name = node.input[0]
        return name, tuple(passed)


def attributes(node: Any) -> dict[str, Any]:
    """The attributes of a node by name."""
    get = needed("onnx").helper.get_attribute_value
    return {each.name: get(each) for each in node.attribute}


def _of_constant(node: Any, folder: Path) -> Tensor | None:
    for name, value in attributes(node).items():
        if name == "value":
            return tensor_of(value, folder)
        if name in ("value_int", "value_ints", "value_float", "value_floats"):
            return torch.tensor(value, dtype=torch.int64 if "int" in name else torch.float32)
    return None


def tensor_of(proto: Any, folder: Path) -> Tensor:
    """The numbers of a tensor in a file of ONNX.

    Raises:
        RnnscopeError: there are fewer or more than its dims say, or torch has none of their dtype.
    """
    onnx = needed("onnx")
    if any(each < 0 for each in proto.dims):
        raise RnnscopeError(f"{proto.name} has the dims {tuple(proto.dims)}")
    whole = proto
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        whole = onnx.TensorProto()
        whole.CopyFrom(proto)
        del whole.external_data[:]
        whole.data_location, whole.raw_data = onnx.TensorProto.DEFAULT, _outside(proto, folder)
    try:
        array = onnx.numpy_helper.to_array(whole)
        if proto.data_type == onnx.TensorProto.BFLOAT16:
            return torch.from_numpy(array.view("uint16").copy()).view(torch.bfloat16)
        return torch.from_numpy(array.copy())
    except (ValueError, TypeError, KeyError) as error:
        kind = _dtype_in_words(proto.data_type)
        what = f"{proto.name or 'a tensor'} of {kind} and dims {tuple(proto.dims)} is not whole, or torch has no {kind}"
        raise RnnscopeError(what, "export it anew") from error


def _dtype_in_words(code: int) -> str:
    with suppress(ValueError):
        return str(needed("onnx").TensorProto.DataType.Name(code)).lower()
    return f"dtype {code}"


def _place_outside(proto: Any, folder: Path) -> tuple[Path, int, int]:
    """The file beside the model that has a tensor's numbers, where they begin, and how many bytes they are."""
    said = {each.key: each.value for each in proto.external_data}
    location = said.get("location", "")
    named = f"the numbers of {proto.name or 'a tensor'} stand in {location!r}"
    is_elsewhere = not location or Path(location).is_absolute() or PureWindowsPath(location).drive
    try:
        found = (folder / location).resolve()
        if is_elsewhere or not found.is_relative_to(folder.resolve()):
            raise RnnscopeError(f"{named}, which is not in the model's own folder", "save the model with its data anew")
        if not found.is_file():
            raise RnnscopeError(f"{named}, which is not there", "copy that file beside the model")
        size, offset = found.stat().st_size, int(said.get("offset") or 0)
        length = int(said.get("length") or size - offset)
    except (ValueError, OSError) as error:
        raise RnnscopeError(f"{named}, which cannot be read ({error})", "save the model with its data anew") from error
    if offset < 0 or length < 0 or offset + length > size:
        raise RnnscopeError(f"{named}, which has {size} bytes and not {offset} + {length}", "copy that file anew")
    return found, offset, length


def _outside(proto: Any, folder: Path) -> bytes:
    path, offset, length = _place_outside(proto, folder)
    with open(path, "rb") as stream:
        stream.seek(offset)
        return stream.read(length)


Given = list[Tensor | None]


def _ints(tensor: Tensor | None) -> list[int]:
    return [] if tensor is None else [int(each) for each in tensor.flatten().tolist()]


def _first(given: Given) -> Tensor:
    if given[0] is None:
        raise ValueError("nothing is given")
    return given[0]


def _axes(given: Given, said: dict[str, Any]) -> list[int]:
    """The axes of a node, which are an input from opset 13 on, and were an attribute before."""
    return _ints(given[1]) if len(given) > 1 else list(said.get("axes", []))


def _squeezed(given: Given, said: dict[str, Any], _: int) -> Tensor:
    axes = _axes(given, said)
    return _first(given).squeeze(tuple(axes)) if axes else _first(given).squeeze()


def _unsqueezed(given: Given, said: dict[str, Any], _: int) -> Tensor:
    found, axes = _first(given), _axes(given, said)
    rank = found.dim() + len(axes)
    for axis in sorted(each % rank for each in axes):
        found = found.unsqueeze(axis)
    return found


def _reshaped(given: Given, said: dict[str, Any], _: int) -> Tensor:
    found, wanted = _first(given), _ints(given[1])
    kept = [
        found.shape[place] if size == 0 and not said.get("allowzero") else size for place, size in enumerate(wanted)
    ]
    return found.reshape(kept)


def _sliced(given: Given, said: dict[str, Any], _: int) -> Tensor:
    found = _first(given)
    starts, ends = (_ints(each) for each in given[1:3]) if len(given) > 2 else (said["starts"], said["ends"])
    axes = _ints(given[3]) if len(given) > 3 else list(said.get("axes", []))
    steps = _ints(given[4]) if len(given) > 4 else []
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = axes[place] if axes else place
        every = slice(start, end, steps[place] if steps else 1)  # torch raises where it walks back
        found = found[(slice(None),) * (axis % found.dim()) + (every,)]
    return found


def _split(given: Given, said: dict[str, Any], number: int) -> Tensor:
    found, axis = _first(given), said.get("axis", 0)
    sizes = _ints(given[1]) if len(given) > 1 else list(said.get("split", []))
    if not sizes:
        raise ValueError("the number of outputs is not looked at")
    return torch.split(found, sizes, axis)[number]


def _transposed(given: Given, said: dict[str, Any], _: int) -> Tensor:
    found = _first(given)
    return found.permute(*said.get("perm", reversed(range(found.dim()))))


def _cast(given: Given, said: dict[str, Any], _: int) -> Tensor:
    onnx = needed("onnx")
    to = onnx.TensorProto.DataType.Name(said["to"]).lower()
    dtype = {"float": torch.float32, "double": torch.float64}.get(to) or getattr(torch, to, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(to)
    return _first(given).to(dtype)


def _gathered(given: Given, said: dict[str, Any], _: int) -> Tensor:
    found, where, axis = _first(given), given[1], said.get("axis", 0)
    if where is None or where.dim() > 1:
        raise ValueError("places in more than one dim are not looked at")
    taken = found.index_select(axis, where.flatten() % found.shape[axis])
    return taken.squeeze(axis) if where.dim() == 0 else taken


_FOLDS: dict[str, Callable[[Given, dict[str, Any], int], Tensor]] = {
    "Identity": lambda given, said, _: _first(given),
    "Transpose": _transposed,
    "Concat": lambda given, said, _: torch.cat([each for each in given if each is not None], said["axis"]),
    "Slice": _sliced,
    "Split": _split,
    "Gather": _gathered,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "Reshape": _reshaped,
    "Cast": _cast,
}
"""What moves constants together: each takes the inputs, the attributes and the number of the output."""


@dataclass(frozen=True, eq=False, repr=False)
class OnnxModel:
    """A file of ONNX that has been looked through.

    networks: in the order of the graph, those of bodies behind. unread: what was not looked into, in sentences.
    """

    file: str
    proto: Any
    graph: Scope
    networks: tuple[Network, ...]
    operators: frozenset[str]
    unread: tuple[str, ...] = ()

    @property
    def is_int8(self) -> bool:
        """Whether it multiplies in int8."""
        return any(each in INT8 or each.startswith("QLinear") for each in self.operators)

    @property
    def no_network(self) -> RnnscopeError:
        """What is said of a file that has none of the nodes."""
        inside = "what its exporter unrolled to MatMul or wrote as a loop has no weights that can be told apart"
        return RnnscopeError(
            f"{self.file} has no LSTM, GRU or RNN node: {inside}", "it can be run: give its weights by --weights FILE"
        )

    def find(self, prefix: str | None) -> Network | None:
        """The network of a node's name, or the only one; None where there is none.

        Raises:
            RnnscopeError: no node has the name, or there are several networks.
        """
        names = [each.name for each in self.networks]
        told = quoted_names(names)
        if prefix is not None:
            if found := next((each for each in self.networks if prefix in each.names), None):
                return found
            if not names:
                raise self.no_network
            raise RnnscopeError(f"{self.file} has no RNN node {prefix!r}, but {told}", f"try {names[0]!r}")
        if len(self.networks) > 1:
            raise RnnscopeError(
                f"{self.file} has {len(names)} RNNs: {told}",
                f"name one by --prefix or --right-prefix, such as {names[0]!r}",
            )
        return self.networks[0] if self.networks else None


def read_onnx(file: str) -> OnnxModel:
    """Look through a file of ONNX.

    Raises:
        RnnscopeError: onnx is not installed; the file cannot be read, is damaged or none of ONNX; it needs a library of
            somebody's; or its data stand outside of its folder.
    """
    onnx = needed("onnx")
    path = Path(file)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise RnnscopeError(f"{file} is larger than 2 GiB, which no file of ONNX can be", "keep weights beside it")
        content = path.read_bytes()
    except OSError as error:
        raise RnnscopeError(f"{file}: {error.strerror or error}") from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
        is_model = model.HasField("graph") and len(model.graph.node) > 0 and len(model.opset_import) > 0
    except Exception as error:  # protobuf has another class in each of its implementations
        raise _damaged(file) from error
    if not is_model:
        raise _damaged(file)
    try:
        return _looked_through(file, model, path.parent)
    except RnnscopeError as error:
        named = error.message if error.message.startswith(file) else f"{file}: {error.message}"
        raise RnnscopeError(named, error.hint) from error
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError, RecursionError) as error:
        raise _damaged(file) from error


def _damaged(file: str) -> RnnscopeError:
    return RnnscopeError(f"{file} is damaged, cut short or no ONNX model", "copy it anew, or export it anew")


def _looked_through(file: str, model: Any, folder: Path) -> OnnxModel:
    local = {(each.domain, each.name) for each in model.functions}
    scopes = list(_scopes(Scope(model.graph, folder)))
    _check_domains(scopes, model, local)
    for tensor in _tensors(scopes, model):
        if tensor.data_location == needed("onnx").TensorProto.EXTERNAL:
            _place_outside(tensor, folder)
    called = {node.op_type for scope in scopes for node in scope.proto.node if (node.domain, node.op_type) in local}
    inside = sorted(each.name for each in model.functions if any(node.op_type in KINDS for node in each.node))
    unread = tuple(f"the function {name} has RNN nodes, which were not looked into" for name in inside)
    operators = {node.op_type for scope in scopes for node in scope.proto.node} - called
    operators |= {node.op_type for each in model.functions for node in each.node}
    nodes = list(_rnn_nodes(scopes))
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    if nodes and opset < OLDEST_OPSET:
        raise RnnscopeError(
            f"its opset is {opset}, and before {OLDEST_OPSET} an LSTM, GRU or RNN had other attributes",
            "convert it by onnx.version_converter",
        )
    return OnnxModel(file, model, scopes[0], tuple(_networks(nodes)), frozenset(operators), unread)


def _scopes(scope: Scope) -> Iterator[Scope]:
    """A graph and the bodies of its operators, from the outside in."""
    yield scope
    onnx = needed("onnx")
    for node in scope.proto.node:
        for each in node.attribute:
            bodies = [each.g] if each.type == onnx.AttributeProto.GRAPH else list(each.graphs)
            for body in bodies:
                where = (*scope.where, f"{node.op_type} {node.name}".strip())
                yield from _scopes(Scope(body, scope.folder, scope, where))


def _every_node(scopes: list[Scope], model: Any) -> Iterator[Any]:
    """The nodes of all graphs, bodies and functions."""
    for part in (*(scope.proto for scope in scopes), *model.functions):
        yield from part.node


def _check_domains(scopes: list[Scope], model: Any, local: set[tuple[str, str]]) -> None:
    for node in _every_node(scopes, model):
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in local:
            raise RnnscopeError(
                f"{node.op_type} is an operator of {node.domain!r}, and onnxruntime itself has none such",
                "export it with the operators of ONNX alone",
            )


def _tensors(scopes: list[Scope], model: Any) -> Iterator[Any]:
    """Every tensor that is written down anywhere in a model."""
    for scope in scopes:
        yield from scope.proto.initializer
        for sparse in scope.proto.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in _every_node(scopes, model):
        for each in node.attribute:
            yield from (each.t, *each.tensors)


def _rnn_nodes(scopes: list[Scope]) -> Iterator[RnnNode]:
    seen: dict[str, int] = {}
    for scope in scopes:
        for node in scope.proto.node:
            if node.op_type in KINDS and node.domain in DOMAINS:
                number = seen[node.op_type] = seen.get(node.op_type, -1) + 1
                name = node.name or f"{node.op_type}_{number}"
                if name in seen:  # ONNX asks for no names, and so for none that differ
                    name = f"{name}_{number}"
                seen.setdefault(name, 0)
                yield _rnn_node(name, node, scope)


def _rnn_node(name: str, node: Any, scope: Scope) -> RnnNode:
    said, kind = attributes(node), KINDS[node.op_type]
    direction = bytes(said.get("direction", b"forward")).decode("utf-8", "replace")
    directions = 2 if direction == "bidirectional" else 1
    activations = tuple(bytes(each).decode("utf-8", "replace") for each in said.get("activations", ()))
    hidden = said.get("hidden_size")
    if hidden is None:  # onnxruntime takes it from R
        found = scope.constant(node.input[2]) if len(node.input) > 2 else None
        hidden = 0 if found is None or found.dim() != 3 else found.shape[2]
    return RnnNode(
        name,
        node,
        scope,
        node.op_type,
        kind,
        int(hidden),
        direction,
        int(said.get("layout", 0)),
        int(said.get("linear_before_reset", 0)),
        activations or ACTIVATIONS[kind] * directions,
        float(said.get("clip", 0.0)),
        int(said.get("input_forget", 0)),
        scope.where,
    )


def _networks(nodes: list[RnnNode]) -> Iterator[Network]:
    """The nodes, each with those that it feeds as they are."""
    above: dict[int, RnnNode] = {}
    has_below = set()
    for node in nodes:
        root, _ = node.scope.behind(node.inputs.get("X", ""))
        for below in nodes:
            is_fed = below.scope is node.scope and root and root == below.outputs.get("Y")
            if is_fed and id(below) not in above and _are_layers(below, node):
                above[id(below)] = node
                has_below.add(id(node))
    for node in nodes:
        if id(node) not in has_below:
            layers = [node]
            while (following := above.get(id(layers[-1]))) is not None and following not in layers:
                layers.append(following)
            yield Network(tuple(layers))


def _are_layers(below: RnnNode, above: RnnNode) -> bool:
    """Whether torch's module could have both as its layers."""
    alike = ("operator", "hidden_size", "direction", "layout", "linear_before_reset", "activations", "clip")
    if any(getattr(below, name) != getattr(above, name) for name in (*alike, "input_forget")):
        return False
    width = shape_of(above, "W")
    fits = width is None or width[-1] == below.directions * below.hidden_size
    return fits and ("B" in below.inputs) == ("B" in above.inputs)


def shape_of(node: RnnNode, role: str) -> tuple[int, ...] | None:
    """The shape of a constant input."""
    found = node.constant(role)
    return None if found is None or found.dim() == 0 else tuple(found.shape)


# One network by itself.


@dataclass(frozen=True, eq=False, repr=False)
class Taken:
    """A network that was taken out of its graph, as a model of its own.

    Its inputs are x, h0_0, c0_0, h0_1, … and lengths, as far as the nodes have them; its outputs y, h_0, c_0, … as ONNX
    lays them out. joined: whether what joins its layers was written anew, since it depends on the rest of the graph.
    """

    content: bytes
    joined: bool


def taken_out(model: OnnxModel, network: Network) -> Taken:
    """A network as a model of its own, of the very nodes and weights of the file.

    Raises:
        RnnscopeError: a weight depends on what goes into the graph.
    """
    onnx = needed("onnx")
    builder = _Builder(model, network)
    for layer in range(len(network.nodes)):
        builder.add(layer)
    content = onnx.helper.make_model(
        onnx.helper.make_graph(
            builder.nodes, "network", builder.inputs, builder.outputs, list(builder.initializers.values())
        ),
        opset_imports=list(model.proto.opset_import),
        ir_version=model.proto.ir_version,
    )
    try:
        return Taken(content.SerializeToString(), builder.joined)
    except Exception as error:  # over 2 GiB
        raise RnnscopeError(f"{network.name} is too large to be taken out of {model.file} ({error})") from error


class _Builder:
    """Gathers the nodes of a network, and what they need."""

    def __init__(self, model: OnnxModel, network: Network) -> None:
        self._onnx, self._model, self._network = needed("onnx"), model, network
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self.joined = False
        first = network.nodes[0].constant("B" if "B" in network.nodes[0].inputs else "W")
        is_plain = first is not None and first.is_floating_point()
        self._dtype = _onnx_dtype(first.dtype if first is not None and is_plain else torch.float32)

    def add(self, layer: int) -> None:
        """Add a layer, with what joins it to the one below."""
        node = self._network.nodes[layer]
        copy = self._onnx.NodeProto()
        copy.CopyFrom(node.proto)
        for place, name in enumerate(node.proto.input):
            role = INPUTS[place] if place < len(INPUTS) else ""
            if not name:
                continue
            if role == "X":
                copy.input[place] = self._x(layer, node)
            elif role in ("initial_h", "initial_c"):
                copy.input[place] = self._input(f"{role[-1]}0_{layer}", self._dtype)
            elif role == "sequence_lens":
                copy.input[place] = self._input("lengths", self._onnx.TensorProto.INT32)
            else:
                copy.input[place] = self._constant(node, name, f"{layer}_{role or place}")
        roles = OUTPUTS if node.kind == "lstm" else OUTPUTS[:2]
        del copy.output[:]
        copy.output.extend(self._name(role, layer) for role in roles)
        self.nodes.append(copy)
        is_last = layer + 1 == len(self._network.nodes)
        info = self._onnx.helper.make_tensor_value_info
        self.outputs += [info(self._name(role, layer), self._dtype, None) for role in roles if role != "Y" or is_last]

    def _name(self, role: str, layer: int) -> str:
        return {"Y": f"y_{layer}" if layer + 1 < len(self._network.nodes) else "y"}.get(role, f"{role[-1]}_{layer}")

    def _input(self, name: str, dtype: int) -> str:
        if all(each.name != name for each in self.inputs):
            self.inputs.append(self._onnx.helper.make_tensor_value_info(name, dtype, None))
        return name

    def _constant(self, node: RnnNode, name: str, own: str) -> str:
        found = node.scope.constant(name)
        if found is None:
            raise RnnscopeError(
                f"{self._model.file}: {name}, a weight of {node.name}, depends on what goes into the graph",
                "export it with weights that stand in the file",
            )
        self._keep(own, found)
        return own

    def _keep(self, name: str, tensor: Tensor) -> None:
        dtype = _onnx_dtype(tensor.dtype)
        raw = bytes(tensor.contiguous().view(torch.uint8).numpy()) if tensor.numel() else b""
        if tensor.dim() == 0:
            raw = bytes(tensor.reshape(1).view(torch.uint8).numpy())
        self.initializers[name] = self._onnx.helper.make_tensor(name, dtype, list(tensor.shape), raw, raw=True)

    def _x(self, layer: int, node: RnnNode) -> str:
        """What a layer takes: x, or what comes out of the layer below, moved as the graph moves it."""
        if layer == 0:
            return self._input("x", self._dtype)
        below = self._network.nodes[layer - 1]
        _, passed = node.scope.behind(node.inputs["X"])
        moved = self._name("Y", layer - 1)
        constants = [[node.scope.constant(each) for each in mover.input[1:] if each] for mover in passed]
        if any(each is None for found in constants for each in found):
            self.joined = True
            return self._joined(layer, below)
        for number, mover in enumerate(reversed(passed)):
            copy = self._onnx.NodeProto()
            copy.CopyFrom(mover)
            copy.input[0] = moved
            for place, name in enumerate(mover.input[1:], 1):
                if name:
                    copy.input[place] = self._constant(node, name, f"{layer}_join_{number}_{place}")
            moved = f"{layer}_joined_{number}"
            del copy.output[:]
            copy.output.append(moved)
            copy.name = moved
            self.nodes.append(copy)
        return moved

    def _joined(self, layer: int, below: RnnNode) -> str:
        """Y: (L, D, N, H), or (N, L, D, H) with layout 1, as the x of the next layer."""
        y, moved, x = self._name("Y", layer - 1), f"{layer}_moved", f"{layer}_x"
        self._keep(f"{layer}_shape", torch.tensor([0, 0, below.directions * below.hidden_size]))
        perm = [0, 1, 2, 3] if below.layout else [0, 2, 1, 3]
        self.nodes.append(self._onnx.helper.make_node("Transpose", [y], [moved], perm=perm))
        self.nodes.append(self._onnx.helper.make_node("Reshape", [moved, f"{layer}_shape"], [x]))
        return x


def _onnx_dtype(dtype: torch.dtype) -> int:
    kinds = needed("onnx").TensorProto
    names = {torch.float32: "FLOAT", torch.float64: "DOUBLE"}
    return int(kinds.DataType.Value(names.get(dtype) or str(dtype).removeprefix("torch.").upper()))


# Where a graph's own inputs and outputs lead.


@dataclass(frozen=True)
class Way:
    """What an input or an output of a graph is to a network.

    Args:
        role: x, h0, c0, lengths, y, h or c.
        labels: what its dims are, as far as what moves it tells: L, N, D, F, and 1 for a dim of one; None otherwise.
    """

    role: str
    labels: tuple[str, ...] | None = None


def ways_in(model: OnnxModel, network: Network) -> dict[str, Way]:
    """The inputs of the graph that lead to a network and nowhere else on their way, by name."""
    graph, found = model.graph, dict[str, Way]()
    if network.nodes[0].scope is not graph:
        return {}
    for node in network.nodes:
        for role, name in (("h0", "initial_h"), ("c0", "initial_c"), ("lengths", "sequence_lens")):
            root, _ = graph.behind(node.inputs.get(name, ""), (*PARTS, "Concat"))
            if root in graph.inputs:
                found[root] = Way(role)
    first = network.nodes[0]
    root, passed = graph.behind(first.inputs.get("X", ""))
    if root in graph.inputs:
        sizes = _sizes(graph.inputs[root])
        rank = 3 if sizes is None else len(sizes)
        letters = ("a", "b", "F")[3 - rank :] if rank in (2, 3) else None
        known = dict(zip(letters or (), sizes or (), strict=False))
        there = labels_behind(graph, letters, tuple(reversed(passed)), sizes=known) if letters else None
        wanted = ("N", "L", "F") if first.layout else ("L", "N", "F")
        labels = None
        if letters and there and len(there) == 3:
            named = dict(zip(there, wanted, strict=True))
            labels = tuple(named.get(each, "") for each in letters)
            labels = labels if all(labels) else None
        found[root] = Way("x", labels)
    return found


def ways_out(model: OnnxModel, network: Network) -> dict[str, Way]:
    """The outputs of the graph that are the y, h or c of a network, moved and not changed, by name."""
    graph, found = model.graph, dict[str, Way]()
    if network.nodes[0].scope is not graph:
        return {}
    last = network.nodes[-1]
    for each in graph.proto.output:
        root, passed = graph.behind(each.name)
        if root == last.outputs.get("Y") and root:
            letters = ("N", "L", "D", "F") if last.layout else ("L", "D", "N", "F")
            found[each.name] = Way("y", labels_behind(graph, letters, tuple(reversed(passed)), last.directions))
        for role, name in (("h", "Y_h"), ("c", "Y_c")):
            wanted = [node.outputs.get(name, "") for node in network.nodes]
            if wanted == _stacked(graph, root):
                found[each.name] = Way(role)
    return found


def _stacked(graph: Scope, name: str) -> list[str]:
    """The names from which a Concat, or a mover, has what it gives."""
    node = graph.made_by.get(name)
    if node is None or node.op_type != "Concat":
        return [name]
    return [graph.behind(each)[0] for each in node.input]


def _sizes(info: Any) -> tuple[int | None, ...] | None:
    """The dims that an input of a graph declares, each with its size where that is fixed."""
    kind = info.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)


def labels_behind(
    graph: Scope,
    labels: tuple[str, ...],
    passed: tuple[Any, ...],
    directions: int = 1,
    sizes: Mapping[str, int | None] | None = None,
) -> tuple[str, ...] | None:
    """What the dims are after some movers; None where that does not show.

    D is a dim of its own before it is merged with F. A dim that is put in has the label 1.

    Args:
        sizes: what is known of the sizes, by label.
    """
    found: list[str] | None = [("1" if each == "D" and directions == 1 else each) for each in labels]
    for node in passed:
        if found is None:
            return None
        found = _after(graph, node, found, {**(sizes or {}), "1": 1})
    return None if found is None else tuple(found)


def _after(graph: Scope, node: Any, labels: list[str], sizes: Mapping[str, int | None]) -> list[str] | None:
    said = attributes(node)
    axes = _ints(graph.constant(node.input[1])) if len(node.input) > 1 and node.input[1] else said.get("axes")
    if node.op_type == "Transpose":
        perm = list(said.get("perm", reversed(range(len(labels)))))
        return [labels[each] for each in perm] if sorted(perm) == list(range(len(labels))) else None
    if node.op_type == "Squeeze":
        gone = {each % len(labels) for each in axes} if axes else {n for n, each in enumerate(labels) if each == "1"}
        return [each for place, each in enumerate(labels) if place not in gone]
    if node.op_type == "Unsqueeze":
        rank = len(labels) + len(axes or ())
        rest = iter(labels)
        put = {each % rank for each in axes or ()}
        return ["1" if place in put else next(rest) for place in range(rank)] if put else None
    if node.op_type == "Reshape":
        asked = axes or _sizes_asked(graph, node)
        if len(asked) == len(labels):
            return labels if _keeps(asked, [sizes.get(each) for each in labels]) else None
        kept = [each for each in labels if each != "1"]
        if "D" in kept and kept.index("D") + 1 == kept.index("F"):
            kept.remove("D")
        return kept if len(asked) == len(kept) else None
    return labels if node.op_type in ("Identity", "Cast", "Dropout") else None


@dataclass(frozen=True)
class _SizeOf:
    """A size that a Reshape takes from a dim of what it moves."""

    place: int


def _keeps(asked: Sequence[int | _SizeOf | None], sizes: Sequence[int | None]) -> bool:
    """Whether a Reshape to as many dims may leave each as it is; what is not known may.

    It does not where it takes the size of another dim, or puts in a dim of one where none is known to be.
    """

    def may_keep(place: int, each: int | _SizeOf | None, size: int | None) -> bool:
        if isinstance(each, _SizeOf):
            return each.place == place
        return each in (None, 0, -1, size) or (size is None and each != 1)

    return all(may_keep(place, *pair) for place, pair in enumerate(zip(asked, sizes, strict=True)))


def _sizes_asked(graph: Scope, reshape: Any) -> list[int | _SizeOf | None]:
    """The sizes of a Reshape whose shape is put together of single ones; empty where it is not."""
    node = graph.made_by.get(reshape.input[1]) if len(reshape.input) > 1 else None
    if node is None or node.op_type != "Concat":
        return []
    return [_size_asked(graph, each, reshape.input[0]) for each in node.input]


def _size_asked(graph: Scope, name: str, moved: str) -> int | _SizeOf | None:
    """A size: a number of the file, or that of a dim of the tensor that is moved; None where neither shows."""
    if len(number := _ints(graph.constant(name))) == 1:
        return number[0]
    root, _ = graph.behind(name)
    picked, place = graph.made_by.get(root), None
    if picked is not None and picked.op_type == "Gather":
        place, picked = graph.constant(picked.input[1]), graph.made_by.get(picked.input[0])
    if picked is None or picked.op_type != "Shape" or picked.input[0] != moved:
        return None
    found = [attributes(picked)["start"]] if place is None and "start" in attributes(picked) else _ints(place)
    return _SizeOf(found[0]) if len(found) == 1 and found[0] >= 0 else None
