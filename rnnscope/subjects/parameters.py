"""The own parameters of a network by torch's: weights and gradients are written into them and read out of them."""

import re
from collections import abc
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rnnscope.network.shapes import GATES, Shape, parameters
from rnnscope.network.weights import Weights
from rnnscope.spec.spec import Spec

PARTNER = {"bias_ih": "bias_hh", "bias_hh": "bias_ih"}
"""The other bias of a bias."""


@dataclass(frozen=True)
class Piece:
    """One own parameter, made of blocks of torch's.

    Args:
        own: its path in the network.
        names: torch's parameters that stand side by side along its columns: one, or two.
        rows: the gates that it has, in the order of its rows.
        transposed: whether it is laid out as (columns, rows).
    """

    own: str
    names: tuple[str, ...]
    rows: tuple[int, ...]
    transposed: bool = False


@dataclass(frozen=True)
class Mapping:
    """The own parameters of a network by torch's, for all layers and directions.

    Args:
        spec: the network that torch's parameters are of.
        pieces: what each own parameter is made of.
        folded: the gates of biases that have no own parameter: these rows are added to those of the other bias.
        zeroed: own biases where the Spec has none.
        left_over: own parameters that stand for nothing of torch's.
        adaptations: what was taken for what, in sentences, where the names are not torch's.
    """

    spec: Spec
    pieces: tuple[Piece, ...]
    folded: dict[str, tuple[int, ...]] = field(default_factory=dict)
    zeroed: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
    adaptations: tuple[str, ...] = ()

    @torch.no_grad()
    def write(self, own: abc.Mapping[str, Tensor], weights: Weights) -> None:
        """Copy weights into own parameters, in place."""
        for piece in self.pieces:
            matrix = torch.cat([self._rows(weights, name, piece.rows) for name in piece.names], dim=-1)
            into = own[piece.own]
            into.copy_((matrix.T if piece.transposed else matrix).reshape(into.shape).to(into.dtype))
        for name in self.zeroed:
            own[name].zero_()

    def _rows(self, weights: Weights, name: str, gates: tuple[int, ...]) -> Tensor:
        """Rows of one of torch's parameters, with the rows of the other bias that have no own parameter.

        On the CPU, since a device may have no float64.
        """
        blocks, other = _blocks(weights[name].cpu(), name, self.spec), other_bias(name)
        found = [blocks[gate] for gate in gates]
        if other in self.folded:
            added = _blocks(weights[other].cpu(), other, self.spec)
            # In float64: the sum must be rounded once, as that of `fold` is.
            found = [
                block.double() + added[gate].double() if gate in self.folded[other] else block
                for gate, block in zip(gates, found, strict=True)
            ]
        return torch.cat([each.double() for each in found])

    def read(self, own: abc.Mapping[str, Tensor], gradients: bool = False) -> Weights:
        """torch's parameters out of own ones, or their gradients out of own gradients.

        Folded rows are zeros. A bias with such rows has no gradient of its own, so gradients leave it out. What needs
        an own tensor that is not given is left out too.
        """
        absent = {name for piece in self.pieces if piece.own not in own for name in piece.names}
        absent |= self.folded.keys() if gradients else set()
        shapes = {name: shape for name, shape in torch_shapes(self.spec).items() if name not in absent}
        found = {name: next(iter(own.values())).new_zeros(shape) for name, shape in shapes.items()}
        for piece in self.pieces:
            if not found.keys() & set(piece.names):
                continue
            widths = [width_of(self.spec, name) for name in piece.names]
            tensor = own[piece.own].detach()
            matrix = tensor.reshape(sum(widths), -1).T if piece.transposed else tensor.reshape(-1, sum(widths))
            for name, columns in zip(piece.names, torch.split(matrix, widths, dim=1), strict=True):
                blocks = _blocks(found[name], name, self.spec) if name in found else ()
                for gate, rows in zip(piece.rows, columns.chunk(len(piece.rows)), strict=True):
                    if blocks:
                        blocks[gate].copy_(rows.reshape(blocks[gate].shape))
        return found

    def fold(self, weights: Weights) -> Weights:
        """Weights of the same network in float64, whose folded rows are 0 and added to those of the other bias."""
        found = {name: each.double().clone() for name, each in weights.items()}
        for name, gates in self.folded.items():
            rows, others = _blocks(found[name], name, self.spec), _blocks(found[other_bias(name)], name, self.spec)
            for gate in gates:
                others[gate].add_(rows[gate])
                rows[gate].zero_()
        return found


def _blocks(tensor: Tensor, name: str, spec: Spec) -> tuple[Tensor, ...]:
    """Views of the rows of each gate."""
    return tensor.chunk(1 if name.startswith("weight_hr") else len(GATES[spec.kind]) or 1)


def other_bias(name: str) -> str:
    """The other bias of the same layer and direction; the name itself for a weight."""
    return re.sub("bias_ih|bias_hh", lambda found: PARTNER[found[0]], name)


def width_of(spec: Spec, name: str) -> int:
    """The columns of one of torch's parameters; 1 of a bias."""
    below = spec.input_size if re.search("_l0(_reverse)?$", name) else spec.directions * spec.output_size
    widths = {"weight_ih": below, "weight_hh": spec.output_size, "weight_hr": spec.hidden_size}
    return widths.get(name.partition("_l")[0], 1)


def torch_shapes(spec: Spec) -> dict[str, Shape]:
    """The shapes of torch's parameters by name."""
    return {each.name: each.shape for each in parameters(spec)}
