"""Files of models, which are run: .onnx by onnxruntime, .pt2 by torch, call by call.

What goes into such a file and what comes out has names and layouts of its own. In a graph with LSTM, GRU or RNN nodes
the ways to these nodes tell what is what; elsewhere names do, and then shapes. Where a graph takes or gives something
else, as a whole model does, its network is taken out of it and run alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.network.shapes import OUTPUTS, network_in_words
from rnnscope.network.weights import Input, Weights, dtype_name, time_first, time_of
from rnnscope.spec.spec import DTYPES, KINDS, Spec
from rnnscope.subjects.builtin import Run
from rnnscope.subjects.exported_programs import read_program
from rnnscope.subjects.foreign import Foreign, Refused
from rnnscope.subjects.onnx_graphs import Network, OnnxModel, Way, read_onnx, shape_of, taken_out, ways_in, ways_out
from rnnscope.subjects.onnx_runtime import OnnxSession

NAMES: dict[str, frozenset[str]] = {
    "x": frozenset({"x", "input", "inputs", "xs", "data", "seq", "sequence", "features"}),
    "h0": frozenset(
        {"h0", "h_0", "hx", "hidden", "h", "initial_h", "state", "hx_0", "h_in", "h_prev", "initial_state"}
    ),
    "c0": frozenset({"c0", "c_0", "cx", "c", "cell", "initial_c", "hx_1", "c_in", "c_prev"}),
    "lengths": frozenset({"lengths", "length", "lens", "seq_lens", "seq_lengths", "sequence_lens", "x_lengths"}),
    "y": frozenset({"y", "output", "outputs", "out"}),
    "h": frozenset({"h", "hn", "h_n", "y_h", "hidden", "h_out", "hy", "state"}),
    "c": frozenset({"c", "cn", "c_n", "y_c", "cell", "c_out", "cy"}),
}
"""What inputs and outputs are called, in small letters, by what they are."""

_INS, _OUTS = ("x", "h0", "c0", "lengths"), OUTPUTS
_MEND = "name its inputs x, h0, c0 and its outputs y, h, c"
_N_WORDS, _L_WORDS = ("batch", "n", "b"), ("seq", "time", "len", "l", "t", "steps")

Dims = tuple[int | str | None, ...] | None
Caller = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True, eq=False, repr=False)
class _Ports:
    """What a file takes and gives, by what it is: x, h0, c0, lengths and y, h, c.

    Args:
        names: those of the file.
        dims: of what goes in and comes out, where they are told.
        dtypes: of what goes in.
        labels: the dims of x and of y: L, N, D, F, and 1 for a dim of one; those of y are left out where they stand as
            in x, or show at a run.
        of_nodes: whether nodes of ONNX tell what is what, whose states may have D by itself.
    """

    names: dict[str, str]
    dims: dict[str, Dims]
    dtypes: dict[str, torch.dtype | None]
    labels: dict[str, tuple[str, ...]]
    told: tuple[str, ...] = ()
    of_nodes: bool = True

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(each for each in _OUTS if each in self.names)

    def made_at(self, spec: Spec) -> tuple[int, int] | None:
        """L and N where the file fixes one of them, in what goes in or in what it says of y."""
        fixed = self._fixed("y") | self._fixed("x")
        if not {"L", "N"} & fixed.keys():
            return None
        return fixed.get("L", spec.seq_len), fixed.get("N", spec.batch_size)

    def _fixed(self, role: str) -> dict[str, int]:
        """The dims of x or y that are numbers, by their labels."""
        dims, labels = self.dims.get(role), self.labels.get(role) or self.labels.get("x", ())
        if dims is None or len(dims) != len(labels):
            return {}
        return {label: dim for label, dim in zip(labels, dims, strict=True) if isinstance(dim, int) and dim > 0}


def opened(file: str, spec: Spec, made_at: tuple[int, int] | None, prefix: str | None = None) -> Foreign:
    """The network in a file of a model.

    Args:
        made_at: L and N at which it was made; None where the file itself says it, or does not care.
        prefix: a node of ONNX that is one of its layers, where a file has several networks.

    Raises:
        RnnscopeError: the file cannot be read or run, has no network of the Spec, or does not show what is what.
    """
    if file.endswith(".pt2"):
        return _opened_program(file, spec, made_at)
    model = read_onnx(file)
    network = _network_of(model, spec, prefix)
    parts = model.networks if network is None else (network,)
    if layout_1 := next((each for each in parts if each.nodes[0].layout), None):
        raise RnnscopeError(
            f"{file}: {layout_1.name} has layout 1, which onnxruntime does not run on the CPU",
            "export it with layout 0",
        )
    about = tuple(told for each in parts for told in _about(each))
    if network is None:
        session, ports, how = _by_names(model, spec)
    elif found := _whole(model, network):
        session, ports, how = _by_ways(model, spec, found)
    else:
        session, ports, how = _alone(model, network)
    return _foreign(
        file,
        spec,
        ports,
        session.run,
        made_at,
        told=(*about, *how),
        arithmetic="int8" if model.is_int8 else None,
        has_nodes=bool(model.networks),
    )


_Opened = tuple[OnnxSession, _Ports, tuple[str, ...]]
"""A graph, what it takes and gives, and how it is run, in sentences."""


def _by_ways(model: OnnxModel, spec: Spec, found: Mapping[str, Way]) -> _Opened:
    """A whole graph, of which the ways to the nodes of its network tell what is what."""
    session = _session(model.file, model.file)
    left_out = [port.name for port in session.outputs if port.name not in found]
    told = (f"its {_listed(left_out, 'output')} {_is(left_out)} not compared",) if left_out else ()
    return session, _with_ports(spec, found, session), told


def _alone(model: OnnxModel, network: Network) -> _Opened:
    """A network that is taken out of its graph."""
    taken = taken_out(model, network)
    session = _session(model.file, taken.content)
    layers = f"its {_listed(network.names, 'node')}"
    told = [f"{layers} {_is(network.nodes)} run alone, since {_what_else(model, network)}"]
    told += ["what joins its layers was written anew, since it depends on the rest"] if taken.joined else []
    return session, _ports_of_taken(network, session), tuple(told)


def _by_names(model: OnnxModel, spec: Spec) -> _Opened:
    """A whole graph, of which names and shapes tell what is what.

    Raises:
        RnnscopeError: they do not; where the graph has networks, it says that none was named.
    """
    session = _session(model.file, model.file)
    given, gives = (
        {each.name: (each.shape, each.dtype) for each in side} for side in (session.inputs, session.outputs)
    )
    try:
        ports = _matched(model.file, spec, given, gives)
    except RnnscopeError:
        model.find(None)  # which raises where there are several
        raise
    nodes = [name for each in model.networks for name in each.names]
    told = (f"the whole graph is run, with its {_listed(nodes, 'node')}",) if nodes else ()
    return session, ports, told


def _session(file: str, content: str | bytes) -> OnnxSession:
    """A graph of a file, opened. Raises Refused, with the name of the file."""
    try:
        return OnnxSession(content)
    except Refused as refused:
        raise Refused(f"{file} cannot be opened: {refused.message}", refused.hint) from refused


def _opened_program(file: str, spec: Spec, made_at: tuple[int, int] | None) -> Foreign:
    program = read_program(file)
    given = {name: (dims, program.dtype_of(name)) for name, dims in program.inputs.items()}
    gives = {name: (program.dims_of(name), program.dtype_of(name)) for name in program.outputs}
    ports = _matched(file, spec, given, gives, program.batch_first)

    def call(fed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        x = fed[ports.names["x"]]
        return program.run(fed, x.dtype, str(x.device))

    return _foreign(file, spec, ports, call, made_at)


def _foreign(
    file: str,
    spec: Spec,
    ports: _Ports,
    call: Caller,
    made_at: tuple[int, int] | None,
    *,
    told: tuple[str, ...] = (),
    arithmetic: str | None = None,
    has_nodes: bool = False,
) -> Foreign:
    """What calls a file as a subject.

    Args:
        call: runs the file, by its own names.
        told: what is to be said of it, besides what its ports tell.
        has_nodes: whether it is a graph with LSTM, GRU or RNN nodes.
    """
    is_onnx = file.endswith(".onnx")
    states = ("h0", "c0") if spec.kind == "lstm" else ("h0",)
    dtype = ports.dtypes.get("x") or torch.float32
    if dtype_name(torch.empty(0, dtype=dtype)) not in DTYPES:
        raise RnnscopeError(f"{file} takes an x of {dtype}, but it must be one of {', '.join(DTYPES)}")
    runs = _Runs(file, ports, call, "cpu" if is_onnx else None)
    order = [role for role in (*_INS, *_OUTS) if role in ports.names]
    renamed = [f"{role} is {ports.names[role]!r}" for role in order if ports.names[role] not in (role, f"{role}_*")]
    notes = (*told, *ports.told, *([", ".join(renamed)] if renamed else []))
    return Foreign(
        runs.run,
        # onnxruntime has no LSTM, GRU or RNN in float64, and a graph in float32 casts to it.
        has_float64=(dtype == torch.float64 and not has_nodes) if is_onnx else None,
        has_steps=all(each in ports.names for each in states),
        outputs=ports.outputs,
        made_at=made_at or ports.made_at(spec),
        arithmetic=arithmetic,
        told=lambda: (*notes, *runs.told),
        dtype=dtype_name(torch.empty(0, dtype=dtype)),
    )


def _about(network: Network) -> list[str]:
    """What is odd in the nodes of a network."""
    first = network.nodes[0]
    said = {"linear_before_reset is 0": first.kind == "gru" and not first.linear_before_reset}
    said[f"clip is {first.clip:g}"] = bool(first.clip)
    said[f"direction is {first.direction}"] = first.direction not in ("forward", "bidirectional")
    return [f"{what} in its {_listed(network.names, 'node')}" for what, holds in said.items() if holds]


def _listed(names: Any, what: str) -> str:
    return f"{what}{'s' if len(names) > 1 else ''} {', '.join(names[:4])}{', …' if len(names) > 4 else ''}"


def _is(names: Any) -> str:
    return "are" if len(names) > 1 else "is"


def _what_else(model: OnnxModel, network: Network) -> str:
    """Why a graph is not run as a whole."""
    takes = [name for name in model.graph.inputs if name not in ways_in(model, network)]
    if takes:
        return f"the model takes {', '.join(takes[:4])}"
    if network.nodes[0].where:
        return "they stand in the body of another operator" if len(network.nodes) > 1 else "it stands in another's body"
    return "the model does not give what they compute"


def _network_of(model: OnnxModel, spec: Spec, prefix: str | None) -> Network | None:
    """The network that a prefix names, or the only one that is of a Spec.

    None where a graph has no such nodes, or has several networks and none is of the Spec: then they may be its parts.
    """
    if prefix is None and len(model.networks) > 1:
        fitting = [each for each in model.networks if _misfit(each, spec) is None]
        if len(fitting) < 2:
            return next(iter(fitting), None)
    network = model.find(prefix)
    if network is not None and (other := _misfit(network, spec)):
        raise RnnscopeError(
            f"{network.name} in {model.file} has {other}, but the network is {network_in_words(spec)}",
            "give the weights of the same network, or the sizes of the file",
        )
    return network


def _misfit(network: Network, spec: Spec) -> str | None:
    """In what a network is not that of a Spec."""
    first = network.nodes[0]
    shape = shape_of(first, "W")
    if first.kind != spec.kind:
        return f"an {KINDS[first.kind]}"
    if first.hidden_size and first.hidden_size != spec.hidden_size:
        return f"hidden size {first.hidden_size}"
    if len(network.nodes) != spec.num_layers:
        return f"{len(network.nodes)} layer{'s' * (len(network.nodes) > 1)}"
    if first.directions != spec.directions:
        return "two directions" if first.directions == 2 else "one direction"
    is_plain = first.operator != "DynamicQuantizeLSTM"  # whose W is transposed
    if is_plain and shape is not None and len(shape) == 3 and shape[2] != spec.input_size:
        return f"input size {shape[2]}"
    return None


def _whole(model: OnnxModel, network: Network) -> dict[str, Way] | None:
    """What each input and output of a graph is to its network; None where the graph needs or gives something else."""
    into, out = ways_in(model, network), ways_out(model, network)
    roles = [each.role for each in (*into.values(), *out.values())]
    has_all = set(into) == set(model.graph.inputs) and len(set(roles)) == len(roles)
    return into | out if has_all and "x" in roles and {"y", "h"} & set(roles) else None


def _with_ports(spec: Spec, found: Mapping[str, Way], session: OnnxSession) -> _Ports:
    dims: dict[str, Dims] = {
        found[each.name].role: each.shape for each in (*session.inputs, *session.outputs) if each.name in found
    }
    dtypes = {found[each.name].role: each.dtype for each in session.inputs if each.name in found}
    labels, told = {way.role: way.labels for way in found.values() if way.labels}, tuple[str, ...]()
    if "x" not in labels:  # what moves it does not tell, so that it is as in a graph without nodes
        states = (dims.get(role) for role in ("h0", "h", "c"))
        state = next((each for each in states if each and len(each) == 3), None)
        labels["x"], told = _layout_of_x(spec, dims.get("x"), state, None)
    return _Ports({way.role: name for name, way in found.items()}, dims, dtypes, labels, told)


def _ports_of_taken(network: Network, session: OnnxSession) -> _Ports:
    """The inputs and outputs of a network that was taken out; its states have a name for each layer."""
    first, names = network.nodes[0], {each.name for each in session.inputs}
    found = {"x": "x", "y": "y", "h": "h_*"} | ({"c": "c_*"} if first.kind == "lstm" else {})
    found |= {role: f"{role}_*" for role in ("h0", "c0") if f"{role}_0" in names}
    found |= {"lengths": "lengths"} if "lengths" in names else {}
    dtypes: dict[str, torch.dtype | None] = {each.name: each.dtype for each in session.inputs}
    return _Ports(found, {}, dtypes, {"x": ("L", "N", "F"), "y": ("L", "D", "N", "F")})


# What runs it.


class _Runs:
    """Runs what a file has as a subject: its own names and layouts outside, those of the Spec inside."""

    def __init__(self, file: str, ports: _Ports, call: Caller, device: str | None) -> None:
        self._file, self._ports, self._call, self._device = file, ports, call, device
        self.told: tuple[str, ...] = ()

    def run(self, spec: Spec, weights: Weights, given: Input) -> Run:
        """What the file gives; its own weights are in it."""
        x, state = time_first(spec, given.x), given.state
        if spec.unbatched:
            state = tuple(each.unsqueeze(1) for each in state)
        has_n = "N" in self._ports.labels.get("x", ("N",))
        if (spec.lengths is not None and "lengths" not in self._ports.names) or not has_n:
            outputs = self._by_items(spec, x, state)
        else:
            lengths = torch.tensor(spec.lengths or [x.shape[0]] * x.shape[1])
            outputs = self._batch(spec, x, state, lengths)
        placed = {name: each.to(given.x.device, given.x.dtype) for name, each in outputs.items()}
        return _as_run(spec, given, placed)

    def _by_items(self, spec: Spec, x: Tensor, state: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Each item by itself, for as many steps as it has."""
        why = "takes no lengths" if "N" in self._ports.labels.get("x", ("N",)) else "takes one sequence"
        self.told = (f"it {why}, so that each item was run by itself",)
        found = []
        for item in range(x.shape[1]):
            steps = spec.length_of(item)
            alone = tuple(each[:, item : item + 1].contiguous() for each in state)
            outputs = self._batch(spec, x[:steps, item : item + 1], alone, torch.tensor([steps]))
            if "y" in outputs:
                padding = (0, 0, 0, 0, 0, x.shape[0] - steps)
                outputs["y"] = torch.nn.functional.pad(outputs["y"], padding)
            found.append(outputs)
        return {name: torch.cat([each[name] for each in found], 1) for name in found[0]}

    def _batch(self, spec: Spec, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor) -> dict[str, Tensor]:
        """x: (L, N, H_in), states: (D·K, N, ·); y: (L, N, D·H_out), where its shape allows it."""
        ports, fed = self._ports, dict[str, Tensor]()
        self._check_sizes(x)
        self._feed(fed, "x", _laid_out(x, ports.labels.get("x", ("L", "N", "F"))))
        for role, each in zip(("h0", "c0"), state, strict=False):
            if role not in ports.names:
                if bool(each.any()):
                    raise Refused(f"{self._file} takes no {role}, and {role} is not zeros")
            elif ports.names[role].endswith("_*"):
                for layer, rows in enumerate(each.split(spec.directions)):  # type: ignore[no-untyped-call]
                    self._feed(fed, role, rows, layer)
            else:
                self._feed(fed, role, _state_in(each, ports.dims.get(role)))
        if "lengths" in ports.names:
            fed[ports.names["lengths"]] = lengths.to(ports.dtypes.get("lengths") or torch.int32)
        found = self._call(fed)
        return {role: self._taken(spec, role, found, x) for role in ports.outputs}

    def _check_sizes(self, x: Tensor) -> None:
        """Raise Refused where the file fixes L or N otherwise: it says so in fewer words than onnxruntime does."""
        dims, labels = self._ports.dims.get("x"), self._ports.labels.get("x", ())
        sizes = {"L": x.shape[0], "N": x.shape[1], "F": x.shape[2]}
        names = {"L": "L", "N": "N", "F": "H_in"}
        for label, dim in zip(labels, dims or (), strict=False):
            if label in sizes and isinstance(dim, int) and 0 < dim != sizes[label]:
                raise Refused(f"{self._file} takes {names[label]} = {dim} alone, and not {sizes[label]}")

    def _feed(self, fed: dict[str, Tensor], role: str, tensor: Tensor, layer: int | None = None) -> None:
        name = self._ports.names[role].replace("*", str(layer)) if layer is not None else self._ports.names[role]
        fed[name] = tensor.contiguous() if self._device is None else tensor.contiguous().to(self._device)

    def _taken(self, spec: Spec, role: str, found: Mapping[str, Tensor], x: Tensor) -> Tensor:
        name = self._ports.names[role]
        if name.endswith("_*"):
            return torch.cat([found[name.replace("*", str(layer))] for layer in range(spec.num_layers)])
        if role == "y":
            return _y_of(spec, found[name], x.shape[:2], self._ports.labels)
        size = spec.output_size if role == "h" else spec.hidden_size
        if found[name].dim() > 3 and not self._ports.of_nodes:
            return found[name]  # an axis too many is an error of the file, and no layout
        return _state_out(found[name], (spec.directions * spec.num_layers, x.shape[1], size))


def _laid_out(x: Tensor, labels: tuple[str, ...]) -> Tensor:
    """x: (L, N, H_in) as a file takes it; a file of one sequence takes it without N."""
    kept = [each for each in labels if each != "1"]
    if "N" not in kept:
        return x.squeeze(1)
    return x if kept.index("L") < kept.index("N") else x.transpose(0, 1)


def _state_in(state: Tensor, dims: Dims) -> Tensor:
    """A state: (D·K, N, ·) as a file takes it."""
    if dims is None or len(dims) == 3:
        is_turned = dims is not None and dims[1] == state.shape[0] != dims[0] and isinstance(dims[0], int)
        return state.transpose(0, 1) if is_turned else state
    if len(dims) == 2:
        return state.squeeze(0) if state.shape[0] == 1 else state.squeeze(1)
    return state


def _state_out(state: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """A state as (D·K, N, ·) where its shape allows it."""
    rows, items, size = shape
    if tuple(state.shape) == shape:
        return state
    if tuple(state.shape) == (items, rows, size):
        return state.transpose(0, 1)
    if state.numel() == rows * items * size and state.shape[-1:] == (size,) and state.shape[-2:-1] != (rows,):
        return state.reshape(shape)
    return state.unsqueeze(1) if tuple(state.shape) == (rows, size) and items == 1 else state


def _y_of(spec: Spec, y: Tensor, sizes: tuple[int, ...], labels: Mapping[str, tuple[str, ...]]) -> Tensor:
    """y as (L, N, D·H_out) where its shape allows it."""
    steps, items = sizes
    names = labels.get("y")
    if names is None or not _are_borne_out(names, y, steps, items):
        names = _labels_of_y(spec, tuple(y.shape), steps, items, labels.get("x", ())) or names
    if names is None or len(names) != y.dim():
        return y
    for place in reversed([place for place, each in enumerate(names) if each == "1"]):
        y = y.squeeze(place) if y.shape[place] == 1 else y
    kept = [each for each in names if each != "1"]
    if len(kept) != y.dim() or "L" not in kept or "F" not in kept:
        return y
    y = y.permute(*(kept.index(each) for each in ("L", "N", "D", "F") if each in kept))
    if "N" not in kept:
        y = y.unsqueeze(1)
    return y.flatten(2)


def _are_borne_out(names: tuple[str, ...], y: Tensor, steps: int, items: int) -> bool:
    """Whether y has the sizes that the names of its dims say; a Reshape may move numbers as no Transpose does."""
    known = {"1": 1, "L": steps, "N": items}
    return len(names) == y.dim() and all(known.get(n, size) == size for n, size in zip(names, y.shape, strict=True))


def _labels_of_y(
    spec: Spec, shape: tuple[int, ...], steps: int, items: int, of_x: tuple[str, ...]
) -> tuple[str, ...] | None:
    """What the dims of y are, by their sizes; where L and N are alike, they stand as in x."""
    width, two = spec.directions * spec.output_size, spec.directions
    forms: dict[tuple[str, ...], tuple[int, ...]] = {
        ("L", "N", "F"): (steps, items, width),
        ("N", "L", "F"): (items, steps, width),
        ("L", "D", "N", "F"): (steps, two, items, spec.output_size),
        ("N", "L", "D", "F"): (items, steps, two, spec.output_size),
        ("L", "F"): (steps, width),
    }
    found = [names for names, sizes in forms.items() if sizes == shape]
    order = [each for each in of_x if each in ("L", "N")]
    alike = [names for names in found if [each for each in names if each in ("L", "N")] == order]
    return next(iter(alike or found), None)


def _as_run(spec: Spec, given: Input, outputs: dict[str, Tensor]) -> Run:
    """What came out, laid out as the Spec says."""
    y, state = outputs.get("y"), [outputs[each] for each in ("h", "c") if each in outputs]
    if spec.unbatched:
        state = [each.squeeze(1) for each in state]
        y = y if y is None else y.squeeze(1)
    elif y is not None and y.dim() == 3:
        y = y.movedim(0, time_of(spec))
    empty = given.x.new_empty(0)
    return Run(empty if y is None else y, tuple(state), has_y=y is not None)


# Where a file has no nodes that tell what is what.


def _matched(
    file: str,
    spec: Spec,
    given: Mapping[str, tuple[Dims, torch.dtype | None]],
    gives: Mapping[str, tuple[Dims, torch.dtype | None]],
    batch_first: bool | None = None,
) -> _Ports:
    """What is what, by names and then by shapes.

    Raises:
        RnnscopeError: something has no place, or may be more than one of them.
    """
    states = ("h0", "c0") if spec.kind == "lstm" else ("h0",)
    is_length = {name: dtype is not None and not dtype.is_floating_point for name, (_, dtype) in given.items()}
    floats = {name: dims for name, (dims, _) in given.items() if not is_length[name]}
    lengths = [name for name, holds in is_length.items() if holds]
    if len(lengths) > 1 or any(len(given[each][0] or ()) != 1 for each in lengths):
        raise RnnscopeError(
            f"{file} takes {', '.join(lengths)}, which {_is(lengths)} neither x nor a state of numbers",
            "export the recurrent module alone, or give the file of ONNX that has its node",
        )
    names = _assigned(file, spec, floats, ("x", *states), "input", None)
    if "x" not in names:
        raise RnnscopeError(f"{file} takes {', '.join(given) or 'nothing'}, of which none is x", _MEND)
    x_dims = floats[names["x"]]
    outputs = {name: dims for name, (dims, _) in gives.items()}
    names |= _assigned(file, spec, outputs, ("y", "h", "c")[: 1 + len(states)], "output", x_dims)
    if not {"y", "h"} & names.keys():
        raise RnnscopeError(f"{file} gives {', '.join(gives) or 'nothing'}, of which none is y or h", _MEND)
    if lengths:
        names["lengths"] = lengths[0]
    dims = {role: (given if role in _INS else gives)[name][0] for role, name in names.items()}
    dtypes = {role: given[name][1] for role, name in names.items() if role in _INS}
    state = next((found for role in ("h0", "h", "c") if (found := dims.get(role)) and len(found) == 3), None)
    labels, told = _layout_of_x(spec, x_dims, state, batch_first)
    left_out = [name for name in gives if name not in names.values()]
    told += (f"its {_listed(left_out, 'output')} {_is(left_out)} not compared",) if left_out else ()
    return _Ports(names, dims, dtypes, {"x": labels}, told, of_nodes=False)


def _assigned(
    file: str, spec: Spec, found: Mapping[str, Dims], roles: tuple[str, ...], what: str, x_dims: Dims
) -> dict[str, str]:
    """A name for each role that a file has: by names, then by the one way in which the shapes fit.

    Where shapes leave it open, torch's own order counts if the file has as many as torch.
    """
    named: dict[str, str] = {}
    for role in roles:
        own = [name for name in found if name.lower() in NAMES[role] and _fits(spec, role, found[name], x_dims)]
        if len(own) == 1 and own[0] not in named.values():
            named[role] = own[0]
    rest = [name for name in found if name not in named.values()]
    open_roles = [role for role in roles if role not in named]
    if what == "output":  # others may stand beside them
        rest = [name for name in rest if any(_fits(spec, role, found[name], x_dims) for role in open_roles)]
    ways: list[dict[str, str]] = []
    if len(rest) <= len(open_roles):
        every = (dict(zip(order, rest, strict=False)) for order in permutations(open_roles, len(rest)))
        ways = [way for way in every if all(_fits(spec, role, found[name], x_dims) for role, name in way.items())]
    is_whole = len(named) + len(rest) == len(found)
    if what == "output" and not (ways and is_whole) and (by_order := _by_order(spec, found, roles, named, x_dims)):
        return by_order
    if not rest:
        return named
    if len(rest) <= len(open_roles):
        in_order = [way for way in ways if tuple(way) == tuple(open_roles)]
        if len(ways) == 1 or in_order:
            return named | (in_order or ways)[0]
        if not ways:
            raise RnnscopeError(f"{file}: its {_listed(rest, what)} {_is(rest)} none of {', '.join(open_roles)}", _MEND)
    told = ", ".join(f"{name} {_dims_in_words(found[name])}" for name in rest)
    raise RnnscopeError(f"{file}: which of its {what}s is {' or '.join(open_roles)} does not show: {told}", _MEND)


def _by_order(
    spec: Spec, found: Mapping[str, Dims], roles: tuple[str, ...], named: Mapping[str, str], x_dims: Dims
) -> dict[str, str] | None:
    """All outputs in torch's order, where y fits, there are as many as torch's, and each other one may be a state.

    Then another shape is what is wrong with a state, and no reason to leave it out.
    """
    way = dict(zip(roles, found, strict=False))
    if len(found) != len(roles) or not named.items() <= way.items() or not _fits(spec, "y", found[way["y"]], x_dims):
        return None
    may_be = all(_may_be_state(spec, role, found[way[role]], found[way["y"]]) for role in roles[1:])
    return way if may_be else None


def _may_be_state(spec: Spec, role: str, dims: Dims, y_dims: Dims) -> bool:
    """Whether dims end as those of a state do, and are not those of another y."""
    if dims is None or y_dims is None:
        return True
    return (
        len(dims) > 1 and _may_be(dims[-1], _width(spec, role)) and sorted(map(str, dims)) != sorted(map(str, y_dims))
    )


def _dims_in_words(dims: Dims) -> str:
    return "" if dims is None else f"({', '.join('?' if each is None else str(each) for each in dims)})"


def _fits(spec: Spec, role: str, dims: Dims, x_dims: Dims) -> bool:
    """Whether a tensor of some dims may be what a role says; what is not told fits."""
    if dims is None:
        return True
    rows, width = spec.directions * spec.num_layers, _width(spec, role)
    if role == "y":
        width = spec.output_size if len(dims) == 4 else spec.directions * spec.output_size
        if x_dims is not None and len(dims) == len(x_dims):
            one, other = (sorted(map(str, each[:-1])) for each in (dims, x_dims))
            if one != other and all(isinstance(each, int) for each in (*dims[:-1], *x_dims[:-1])):
                return False
        return len(dims) in (2, 3, 4) and _may_be(dims[-1], width)
    if len(dims) not in (2, 3) or not _may_be(dims[-1], width):
        return False
    return role == "x" or len(dims) == 2 or _may_be(dims[0], rows) or _may_be(dims[1], rows)


def _width(spec: Spec, role: str) -> int:
    """The last dim of x or of a state."""
    widths = {"x": spec.input_size, "h0": spec.output_size, "h": spec.output_size}
    return widths.get(role, spec.hidden_size)


def _may_be(dim: int | str | None, size: int) -> bool:
    return not isinstance(dim, int) or dim == size


def _layout_of_x(spec: Spec, x: Dims, state: Dims, batch_first: bool | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the dims of x are, and what is to be told of it."""
    forms = {False: ("L", "N", "F"), True: ("N", "L", "F")}
    if x is not None and len(x) == 2:
        return ("L", "F"), ()
    if batch_first is not None:
        return forms[batch_first], ()
    if x is not None and len(x) == 3:
        if state is not None and x[0] != x[1] and state[1] in (x[0], x[1]) and state[1] is not None:
            return forms[state[1] == x[0]], ()
        for is_first, (n, steps) in ((True, x[:2]), (False, (x[1], x[0]))):
            if _sounds(n, _N_WORDS) or (_sounds(steps, _L_WORDS) and not _sounds(n, _L_WORDS)):
                return forms[is_first], ()
    own = spec.batch_first and not spec.unbatched
    letters = "(N, L, H_in)" if own else "(L, N, H_in)"
    return forms[own], (f"x was taken as {letters}, which the file does not say",)


def _sounds(dim: int | str | None, words: tuple[str, ...]) -> bool:
    """Whether a size is called as N or L are."""
    if not isinstance(dim, str):
        return False
    name = dim.lower()
    return any(name == word or (len(word) > 1 and word in name) for word in words)
