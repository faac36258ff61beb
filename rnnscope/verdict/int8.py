"""The equations as int8 computes them: quantized as torch does it, or with as much noise as any right scheme makes.

int8 does not round each number by a share of itself. A tensor has one step for all its numbers, a 127th or so of its
range: each of them is off by half a step at most, the small ones too. Quantized is what goes into products: the
weights once, by the greatest |w| of each matrix; x once for all steps of a layer; h at every step, over all items.
Sums, biases, gates and states stay what they are.

Schemes differ: a step for each row of the weights, 256 levels of activations or 128, weights alone. torch's dynamic one
is the coarsest of these that is in use: a step for each matrix, and 128 levels of activations, since sums of 8 bits
overflow on older CPUs (`reduce_range`). So noise of half of its steps covers the others.

Source: https://docs.pytorch.org/docs/stable/generated/torch.ao.quantization.quantize_dynamic.html
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from rnnscope.network.equations import State, Step
from rnnscope.network.weights import Input, Weights
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import Run

TINY = 1e-300
"""The least range, of numbers that are all 0."""

WEIGHT_STEPS = 127.5
"""Steps from 0 to the greatest |w|: from -128 to 127 there are 255 of them."""

INPUT_STEPS = 127
"""Steps from the least to the greatest number of what a matrix is multiplied with, of which one is 0."""


class Rounding(Protocol):
    """How numbers are brought to steps: size is that of a step, and least and most are the steps that there are."""

    def __call__(self, tensor: Tensor, size: Tensor, least: float, most: float) -> Tensor: ...


@dataclass(frozen=True)
class Scheme:
    """What gets a size of a step of its own.

    by_rows: each row of the weights; otherwise each matrix. input_steps: in which what a matrix is multiplied with is
    said; 0 leaves it as it is.
    """

    by_rows: bool = False
    input_steps: int = INPUT_STEPS


TORCHS = Scheme()

SCHEMES = tuple(Scheme(by_rows, steps) for steps in (INPUT_STEPS, 255, 0) for by_rows in (False, True))
"""Those that are in use: torch's first, which has 127 steps for inputs since sums of 8 bits overflow on older CPUs."""


def to_steps(tensor: Tensor, size: Tensor, least: float, most: float) -> Tensor:
    """The nearest steps, as a right scheme takes them."""
    return (tensor / size).round().clamp(least, most) * size


def at_random(seed: int) -> Rounding:
    """Half a step away at most: where the numbers of a tensor lie between two steps is chance."""
    generator = torch.Generator().manual_seed(seed)

    def rounded(tensor: Tensor, size: Tensor, least: float, most: float) -> Tensor:
        noise = torch.empty(tensor.shape, dtype=torch.float64, device="cpu").uniform_(-0.5, 0.5, generator=generator)
        return tensor + size * noise

    return rounded


def quantized(
    equations: Callable[..., Run],
    rounding: Rounding,
    spec: Spec,
    weights: Weights,
    given: Input,
    scheme: Scheme = TORCHS,
) -> Run:
    """The equations, or a deviation of them, with everything quantized that goes into a product."""
    mode = _Quantizing(rounding, scheme.input_steps)
    matrices = {name: _weight(each, rounding, scheme) if each.dim() == 2 else each for name, each in weights.items()}
    return equations(spec, matrices, given, around=_Layers(mode, given.x).around)


def _weight(weight: Tensor, rounding: Rounding, scheme: Scheme) -> Tensor:
    greatest = weight.abs().amax(1, keepdim=True) if scheme.by_rows else weight.abs().max()
    return rounding(weight, greatest.clamp(min=TINY) / WEIGHT_STEPS, -128, 127)


class _Layers:
    """Gives each layer its x in the steps of all its x, and lets the mode see to the other products.

    x of a layer is what came out of the one below, in both directions. All of it has been walked by then.
    """

    def __init__(self, mode: "_Quantizing", x: Tensor) -> None:
        self._mode, self._ranges = mode, {-1: (x.min().item(), x.max().item())}

    def around(self, layer: int, direction: int, step: Step) -> Step:
        def quantizing(x: Tensor, state: State) -> State:
            low, high = self._ranges.get(layer - 1, (0.0, 0.0))
            x = self._mode.quantized(x, min(low, x.min().item()), max(high, x.max().item()))
            with self._mode.besides(x):
                new = step(x, state)
            least, most = self._ranges.get(layer, (0.0, 0.0))
            self._ranges[layer] = min(least, new[0].min().item()), max(most, new[0].max().item())
            return new

        return quantizing


class _Quantizing(TorchFunctionMode):
    """Quantizes what a matrix is multiplied with, but for x, which is quantized already."""

    def __init__(self, rounding: Rounding, steps: int) -> None:
        super().__init__()
        self._rounding, self._steps, self._known = rounding, steps, torch.empty(0, device="cpu")

    def quantized(self, tensor: Tensor, low: float, high: float) -> Tensor:
        """What goes into a product, from a range of numbers; 0 is always one of the steps."""
        if not self._steps:
            return tensor
        low, high = min(low, 0.0), max(high, 0.0)
        size = max(high - low, TINY) / self._steps
        below = round(-low / size)
        return self._rounding(tensor, tensor.new_tensor(size), -below, self._steps - below)

    def besides(self, x: Tensor) -> "_Quantizing":
        self._known = x
        return self

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ == "matmul" and args[0] is not self._known:
            tensor = args[0]
            with torch._C.DisableTorchFunction():
                tensor = self.quantized(tensor, tensor.min().item(), tensor.max().item())
            args = (tensor, *args[1:])
        return func(*args, **(kwargs or {}))
