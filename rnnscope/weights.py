"""Draws weights and input from the seed, and moves weights between torch's names and the cells' names.

Everything is drawn on the CPU in float64 and rounded to the dtype afterwards, so that a seed means the same numbers in
every dtype and on every device. Knows nothing of how the network is computed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rnnscope.shapes import Shape, dim_sizes, parameters, tensor_shapes
from rnnscope.spec import Spec

Weights = dict[str, Tensor]
"""Parameters by torch's names: weight_ih_l0, weight_hh_l0, bias_ih_l0, …"""

_STREAMS = {"weights": 0, "input": 1}


@dataclass(frozen=True)
class Input:
    """What goes in: x: (L, N, H_in), or (N, L, H_in) with batch_first, and h0: (K, N, H)."""

    x: Tensor
    h0: Tensor


def draw_weights(spec: Spec) -> Weights:
    """Parameters as torch initialises them, uniform in ±1/√H, on the Spec's device and in its dtype.

    Source: "Variables" in https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html
    """
    generator, limit = _generator(spec, "weights"), dim_sizes(spec)["H"] ** -0.5
    return {
        each.name: _placed(_empty(each.shape).uniform_(-limit, limit, generator=generator), spec)
        for each in parameters(spec)
    }


def draw_input(spec: Spec) -> Input:
    """x, and h0 unless it is zeros, from the standard normal distribution, on the Spec's device and in its dtype."""
    generator = _generator(spec, "input")
    shapes = {each.name: each.shape for each in tensor_shapes(spec)}
    # h0 comes first, so that a longer sequence keeps it.
    h0 = _empty(shapes["h0"])
    h0 = h0.normal_(generator=generator) if spec.h0 == "random" else h0.zero_()
    x = _empty(shapes["x"]).normal_(generator=generator)
    return Input(_placed(x, spec), _placed(h0, spec))


def cell_weights(spec: Spec, weights: Weights) -> Weights:
    """The same parameters under the names of the stack of cells: weight_ih_l0 becomes cells.0.weight_ih."""
    return {each.cell_name: weights[each.name] for each in parameters(spec)}


def _generator(spec: Spec, stream: str) -> torch.Generator:
    # Two streams, or the first numbers of x would be the first weights again.
    return torch.Generator(device="cpu").manual_seed((2 * spec.seed + _STREAMS[stream]) % 2**64)


def _empty(shape: Shape) -> Tensor:
    return torch.empty(shape, dtype=torch.float64, device="cpu")


def _placed(tensor: Tensor, spec: Spec) -> Tensor:
    return tensor.to(dtype=getattr(torch, spec.dtype)).to(spec.device)
