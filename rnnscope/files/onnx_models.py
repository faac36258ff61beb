"""The networks in a file of ONNX, with their weights under torch's names. Nothing is run.

ONNX stacks the gates of an LSTM i o f c and those of a GRU z r h, where torch has i f g o and r z n. Both directions of
a layer stand in one tensor, and so do both biases.

Source: https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html, onnx__RNN.html
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.files.checkpoints import Rnn
from rnnscope.network.shapes import parameter_name, parameters
from rnnscope.network.weights import Weights, dtype_name, nonfinite_index
from rnnscope.spec.spec import DTYPES, KINDS, Spec
from rnnscope.subjects.onnx_graphs import ACTIVATIONS, Network, OnnxModel, RnnNode

_GATES = {"lstm": (0, 2, 3, 1), "gru": (1, 0, 2), "rnn": (0,)}
"""The block of ONNX's rows that is each gate of torch's."""


@dataclass(frozen=True, eq=False, repr=False)
class Unread:
    """A network whose sizes or numbers do not stand in the file, and why."""

    network: Network
    reason: str


def onnx_rnns(model: OnnxModel) -> tuple[tuple[Rnn, ...], tuple[Unread, ...]]:
    """Every network whose sizes are known, and every other one.

    Raises:
        RnnscopeError: there is none, or one has weights that are not finite or of no dtype of torch's.
    """
    if not model.networks:
        raise model.no_network
    rnns, unread = [], []
    for network in model.networks:
        try:
            rnns.append(_rnn(model, network))
        except _NotThere as error:
            unread.append(Unread(network, error.message.removeprefix(f"{model.file}: ")))
    return tuple(rnns), tuple(unread)


def find_onnx_rnn(model: OnnxModel, prefix: str | None) -> Rnn:
    """The network of a node's name, or the only one.

    Raises:
        RnnscopeError: there is none or several; its weights do not stand in the file, are not finite, or belong to a
            node that is none of torch's modules.
    """
    network = model.find(prefix)
    if network is None:
        raise model.no_network
    rnn = _rnn(model, network)
    if rnn.refusal:
        raise RnnscopeError(
            f"{model.file}: {rnn.prefix} {rnn.refusal}, so that its weights make no {rnn.spec.module_name}",
            "to judge it against other weights, give --weights FILE",
        )
    return rnn


class _NotThere(RnnscopeError):
    """A weight does not stand in the file."""


def _rnn(model: OnnxModel, network: Network) -> Rnn:
    """A network, checked. Raises _NotThere where its weights are no numbers in the file."""
    try:
        layers = [dict(_of_layer(node, layer)) for layer, node in enumerate(network.nodes)]
    except RnnscopeError as error:
        raise type(error)(f"{model.file}: {error.message.removeprefix(f'{model.file}: ')}", error.hint) from error
    first = network.nodes[0]
    found = {name: each for layer in layers for name, each in layer.items()}
    spec = Spec(
        kind=first.kind,
        input_size=found["weight_ih_l0"][1].shape[1],
        hidden_size=first.hidden_size,
        num_layers=len(network.nodes),
        nonlinearity="relu" if first.kind == "rnn" and first.activations[0].lower() == "relu" else "tanh",
        bias="bias_ih_l0" in found,
        bidirectional=first.directions == 2,
        dtype=dtype_name(found["weight_ih_l0"][1]),
    )
    names, weights = dict[str, str](), Weights()
    for each in parameters(spec):
        names[each.name], weights[each.name] = found[each.name]
    facts = tuple(each.facts for each in network.nodes)
    notes = tuple(_notes(network))
    return Rnn(first.name, first.name, "module", spec, names, weights, notes, None, facts, _refusal(network))


def _of_layer(node: RnnNode, layer: int) -> Iterator[tuple[str, tuple[str, Tensor]]]:
    """The weights of a node by torch's names, each with the name and the part of the tensor from which it was taken."""
    gates, hidden = len(_GATES[node.kind]), node.hidden_size
    if node.operator == "DynamicQuantizeLSTM":
        raise _NotThere(f"{node.name} has its weights in int8")
    if hidden < 1:
        raise RnnscopeError(f"{node.name} has hidden_size {hidden}")
    w, r = _numbers(node, "W"), _numbers(node, "R")
    rows = gates * hidden
    wanted: dict[str, tuple[int, ...]] = {
        "W": (node.directions, rows, w.shape[-1] if w.dim() else 0),
        "R": (node.directions, rows, hidden),
    }
    tensors = {"W": w, "R": r}
    if "B" in node.inputs:
        tensors["B"], wanted["B"] = _numbers(node, "B"), (node.directions, 2 * rows)
    for role, each in tensors.items():
        if tuple(each.shape) != wanted[role] or 0 in each.shape:
            raise RnnscopeError(
                f"{role} of {node.name} has shape {tuple(each.shape)}, but it must be {wanted[role]} with hidden_size "
                f"{hidden}",
                "export it anew",
            )
        if each.dtype != w.dtype:
            raise RnnscopeError(f"W of {node.name} is {dtype_name(w)}, but {role} is {dtype_name(each)}")
    for direction in range(node.directions):
        for base, role in (("weight_ih", "W"), ("weight_hh", "R")):
            part = f"{node.inputs[role]}[{direction}]"
            yield parameter_name(base, layer, direction), (part, _ordered(node, tensors[role][direction]))
        if "B" in tensors:
            for base, half, which in zip(
                ("bias_ih", "bias_hh"),
                torch.split(tensors["B"][direction], rows),
                (f":{rows}", f"{rows}:"),
                strict=True,
            ):
                part = f"{node.inputs['B']}[{direction}, {which}]"
                yield parameter_name(base, layer, direction), (part, _ordered(node, half))


def _numbers(node: RnnNode, role: str) -> Tensor:
    """A weight. Raises _NotThere unless it stands in the file."""
    found = node.constant(role)
    if found is None:
        raise _NotThere(f"{role} of {node.name} is computed in the graph and does not stand in the file")
    if dtype_name(found) not in DTYPES:
        raise RnnscopeError(f"{role} of {node.name} is {dtype_name(found)}, but it must be one of {', '.join(DTYPES)}")
    if (at := nonfinite_index(found)) is not None:
        raise RnnscopeError(f"{role} of {node.name} holds NaN or infinity, first at {at}", "save finite weights")
    return found


def _ordered(node: RnnNode, rows: Tensor) -> Tensor:
    """Rows of ONNX's gates in torch's order."""
    blocks = torch.split(rows, node.hidden_size)
    return torch.cat([blocks[gate] for gate in _GATES[node.kind]])


def _notes(network: Network) -> Iterator[str]:
    """What a reader should know of a network."""
    first = network.nodes[0]
    if refusal := _refusal(network):
        yield f"it {refusal}, so that its weights make no {KINDS[first.kind]}"
    if first.kind == "gru" and not first.linear_before_reset:
        yield "linear_before_reset is 0: it resets h before it multiplies, and torch resets the product"
    if first.where:
        yield f"it stands in the body of {' in '.join(reversed(first.where))}"
    if first.layout:
        yield "layout is 1: its x, y and states start with N"


def _refusal(network: Network) -> str | None:
    """Why no module of torch's computes what a network computes; None where one may."""
    first = network.nodes[0]
    if first.direction not in ("forward", "bidirectional"):
        return f"walks {first.direction} alone"
    if first.clip:
        return f"clips its gates at {first.clip:g}"
    if first.input_forget:
        return "couples its input and forget gates"
    if any(_peeps(each) for each in network.nodes):
        return "has peepholes"
    said = tuple(each.lower() for each in first.activations)
    plain = tuple(each.lower() for each in ACTIVATIONS[first.kind]) * first.directions
    if said != plain and not (first.kind == "rnn" and said == ("relu",) * first.directions):
        return f"has the activations {', '.join(first.activations)}"
    return None


def _peeps(node: RnnNode) -> bool:
    found = node.constant("P")
    return "P" in node.inputs and (found is None or bool(found.any()))
