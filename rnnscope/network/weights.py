"""Weights and input: drawn from the seed, or given and checked. How the network is computed is not known here.

Numbers are drawn on the CPU in float64 and rounded afterwards. So a seed means the same numbers in every dtype and
on every device.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.network.shapes import BLOCK, Shape, TensorShape, parameters, tensor_shapes
from rnnscope.spec.spec import Spec

Weights = dict[str, Tensor]
"""Parameters by torch's names: weight_ih_l0, weight_hh_l0, bias_ih_l0, …"""


@dataclass(frozen=True, eq=False, repr=False)
class Input:
    """What goes in: x: (L, N, H_in), or (N, L, H_in) with batch_first, and state: (h0,), or (h0, c0) for an LSTM.

    h0: (D·K, N, H_out), c0: (D·K, N, H). Unbatched tensors have no N. x is padded where the Spec has lengths.
    """

    x: Tensor
    state: tuple[Tensor, ...]

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name: x, h0 and c0."""
        return {"x": self.x} | dict(zip(("h0", "c0"), self.state, strict=False))


def dtype_name(tensor: Tensor) -> str:
    """The dtype as flags and JSON write it."""
    return str(tensor.dtype).removeprefix("torch.")


def nonfinite_index(tensor: Tensor) -> list[int] | None:
    """Where NaN or infinity first stands; None where all numbers are finite."""
    finite = tensor.isfinite()
    found: list[list[int]] = [] if bool(finite.all()) else (~finite).nonzero()[:1].tolist()
    return found[0] if found else None


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have one shape, one dtype, and the same bits: a NaN is what the same NaN is."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(*(each.contiguous().view(torch.uint8) for each in (one, other)))


def same_numbers(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether tensors have the same names, shapes and numbers. NaN is equal to nothing."""
    return one.keys() == other.keys() and all(torch.equal(each, other[name]) for name, each in one.items())


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all numbers are finite."""
    return all(bool(each.isfinite().all()) for each in tensors)


def input_of(spec: Spec, tensors: Mapping[str, Tensor], source: str = "") -> Input:
    """x, h0 and c0 by their names; a state that is left out is zeros. Raises unless they have the Spec's shapes."""
    found = []
    for each in _shapes_in(spec):
        tensor = tensors.get(each.name, torch.zeros(each.shape, device="cpu"))
        if tuple(tensor.shape) != each.shape:
            dims = ", ".join(each.dims)
            raise RnnscopeError(
                f"{source}{each.name} has shape {tuple(tensor.shape)}, but it must be ({dims}) = {each.shape}"
            )
        found.append(tensor)
    return Input(found[0], tuple(found[1:]))


def sizes_of(x: Tensor, batch_first: bool, source: str = "") -> dict[str, int | bool]:
    """The fields of a Spec that an input says: input_size, seq_len, and batch_size or unbatched.

    x: (L, N, H_in), or (N, L, H_in) with batch_first, or (L, H_in). Raises where it has other dims, or one that is 0.
    """
    if x.dim() not in (2, 3) or 0 in x.shape:
        raise RnnscopeError(
            f"{source}x has shape {tuple(x.shape)}, but it must have 3 dims, or 2 without N, none of them 0"
        )
    steps, *batch, features = x.transpose(0, 1).shape if batch_first and x.dim() == 3 else x.shape
    return {"input_size": features, "seq_len": steps} | ({"batch_size": batch[0]} if batch else {"unbatched": True})


def placed_as(spec: Spec, tensor: Tensor) -> Tensor:
    """The tensor in the Spec's dtype and then on its device, which may not have the dtype that it had before."""
    return tensor.to(getattr(torch, spec.dtype)).to(spec.device)


def draw_weights(spec: Spec) -> Weights:
    """Parameters as torch initialises them, uniform in ±1/√H, on the Spec's device and in its dtype.

    Source: "Variables" in https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html
    """
    generator, limit = _generator(spec, "weights"), spec.hidden_size**-0.5

    def drawn(shape: Shape) -> Tensor:
        return torch.empty(shape, dtype=torch.float64, device="cpu").uniform_(-limit, limit, generator=generator)

    return {each.name: placed_as(spec, drawn(each.shape)) for each in parameters(spec)}


def draw_input(spec: Spec) -> Input:
    """x, and the initial state unless it is zeros, from the standard normal distribution."""
    state, blocks = draw_blocks(spec)
    x = x_of_blocks(blocks, spec, getattr(torch, spec.dtype))
    return Input(x.to(spec.device), tuple(placed_as(spec, each) for each in state))


def draw_blocks(spec: Spec) -> tuple[tuple[Tensor, ...], Iterator[Tensor]]:
    """The initial state, and x block by block: (BLOCK, N, H_in), laid out as x is; in float64."""
    generator = _generator(spec, "input")
    x, *states = _shapes_in(spec)
    # The state comes first, so that a longer sequence keeps it.
    state = tuple(_normal(each.shape, generator) for each in states)
    if spec.h0 == "zeros":
        state = tuple(each.zero_() for each in state)

    def blocks() -> Iterator[Tensor]:
        shape, time = list(x.shape), time_of(spec)
        for start in range(0, spec.seq_len, BLOCK):
            shape[time] = min(BLOCK, spec.seq_len - start)
            yield _normal(tuple(shape), generator)

    return state, blocks()


def x_of_blocks(blocks: Iterable[Tensor], spec: Spec, dtype: torch.dtype) -> Tensor:
    """x of a Spec from its blocks, in a dtype on the CPU; no more than one block of it is ever there twice."""
    x, start, time = torch.empty(_shapes_in(spec)[0].shape, dtype=dtype, device="cpu"), 0, time_of(spec)
    for block in blocks:
        steps = block.shape[time]
        x.narrow(time, start, steps).copy_(block)
        start += steps
    return x


def time_of(spec: Spec) -> int:
    """The dim of x and y along which time runs."""
    return 1 if spec.batch_first and not spec.unbatched else 0


def time_first(spec: Spec, tensor: Tensor) -> Tensor:
    """A view of x or y as (L, N, ·)."""
    return tensor.unsqueeze(1) if spec.unbatched else tensor.movedim(time_of(spec), 0)


def draw_cotangents(spec: Spec) -> Weights:
    """What is sent back through y, h and c by their names: standard normal numbers in the shape of each."""
    generator = _generator(spec, "cotangents")
    outputs = [each for each in tensor_shapes(spec) if each.role == "output"]
    return {each.name: placed_as(spec, _normal(each.shape, generator)) for each in outputs}


def _shapes_in(spec: Spec) -> list[TensorShape]:
    """x, h0 and c0."""
    return [each for each in tensor_shapes(spec) if each.role != "output"]


def _generator(spec: Spec, stream: str) -> torch.Generator:
    # A stream of its own for each: otherwise x would start with the same numbers as the weights.
    streams = {"weights": 0, "input": 1, "cotangents": 2}
    return torch.Generator(device="cpu").manual_seed(4 * spec.seed + streams[stream])


def _normal(shape: Shape, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
