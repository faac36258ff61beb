"""pytorch/pytorch#39499: one observer sees the weights of all layers, so that later ones get too coarse a scale.

Dynamic quantization of nn.LSTM made its observer once. Its minimum and maximum only ever widen: each weight is rounded
with the range of all weights before it. Nothing fails, and accuracy is lost, the more the more layers there are. The
thread has no tolerance. The sizes are those of the tests of that module, and the first weight is wide, as in a trained
network with small inputs. Expected are the same weights in int8, each with a scale of its own.
"""

import copy
from typing import Any, NamedTuple

import torch
from graveyard.grave import Bug, Modules
from torch import Tensor, nn

H_IN, H, LAYERS, L, N = 3, 7, 2, 128, 16


class Quantized(NamedTuple):
    steps: Tensor
    scale: float

    def dequantize(self) -> Tensor:
        return self.steps.float() * self.scale


class MinMaxObserver:
    """The greatest number so far makes the scale: it lies 127.5 steps from 0."""

    def __init__(self) -> None:
        self.greatest = 0.0

    def __call__(self, weight: Tensor) -> None:
        self.greatest = max(self.greatest, weight.abs().max().item())

    def quantize(self, weight: Tensor) -> Quantized:
        scale = self.greatest / 127.5
        return Quantized((weight / scale).round().clamp(-128, 127).to(torch.int8), scale)


def observed(lstm: nn.LSTM, faulty: bool) -> dict[str, Quantized]:
    """The weights in int8 by their names."""
    observer, quantized = MinMaxObserver(), {}
    for name, weight in lstm.named_parameters():
        if name.startswith("weight"):
            if not faulty:
                observer = MinMaxObserver()
            observer(weight)
            quantized[name] = observer.quantize(weight.detach())
    return quantized


class DynamicLSTM(nn.Module):
    """Weights are held in int8 steps, and spread out to floats where they are used."""

    def __init__(self, lstm: nn.LSTM, faulty: bool) -> None:
        super().__init__()
        self.layers = lstm.num_layers
        for name, weight in observed(lstm, faulty).items():
            self.register_buffer(name, weight.dequantize())
        for name, bias in lstm.named_parameters():
            if name.startswith("bias"):
                self.register_buffer(name, bias.detach().clone())

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        last = []
        for layer in range(self.layers):
            w_ih, w_hh, b_ih, b_hh = (
                self.get_buffer(f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            h, c, outputs = hx[0][layer], hx[1][layer], []
            for step in x:
                i, f, g, o = (step @ w_ih.T + h @ w_hh.T + (b_ih + b_hh)).chunk(4, -1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                outputs.append(h)
            x = torch.stack(outputs)
            last.append((h, c))
        hs, cs = zip(*last, strict=True)
        return x, (torch.stack(hs), torch.stack(cs))


def make(faulty: bool) -> tuple[nn.Module, nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    lstm: Any = nn.LSTM(H_IN, H, LAYERS)
    with torch.no_grad():
        lstm.weight_ih_l0.mul_(4)
    each_for_itself = copy.deepcopy(lstm)
    each_for_itself.load_state_dict(
        {name: weight.dequantize() for name, weight in observed(lstm, faulty=False).items()}, strict=False
    )
    hx = (torch.rand(LAYERS, N, H), torch.rand(LAYERS, N, H))
    return each_for_itself, DynamicLSTM(lstm, faulty), torch.rand(L, N, H_IN), hx


BUG = Bug(
    report="pytorch/pytorch#39499",
    told="the weights of an LSTM in int8 are rounded with the range of all weights before them",
    half=2,
    form=Modules(make),
    named="function",
    place={"step": 0, "layer": 0},
)
