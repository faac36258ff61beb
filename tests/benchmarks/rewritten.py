"""Correct LSTMs and GRUs as people write them: other operations than torch's, or the same in another order."""

from typing import Any

import torch
from torch import Tensor, nn


class Stack(nn.Module):
    """A loop over time and layers; a step is what a subclass says."""

    make: Any = nn.GRUCell

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.cells = nn.ModuleList(self.make(size, hidden_size) for size in sizes)

    def forward(self, x: Tensor, hx: Any) -> Any:
        pair = isinstance(hx, tuple)
        states = [list(each) for each in (hx if pair else (hx,))]
        y = []
        for step in x:
            for layer, cell in enumerate(self.cells):
                new = self.step(cell, step, *(each[layer] for each in states))
                for each, value in zip(states, new, strict=True):
                    each[layer] = value
                step = new[0]
            y.append(step)
        last = tuple(map(torch.stack, states))
        return torch.stack(y), last if pair else last[0]

    def step(self, cell: Any, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError


class JoinedLstm(Stack):
    """One product for x and h together, the biases added to each other first."""

    make = nn.LSTMCell

    def step(self, cell: Any, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        h, c = state
        weight = torch.cat((cell.weight_ih, cell.weight_hh), 1)
        gates = torch.einsum("gi,ni->ng", weight, torch.cat((x, h), 1)) + (cell.bias_ih + cell.bias_hh)
        i, f, g, o = gates.chunk(4, 1)
        c = torch.addcmul(f.sigmoid() * c, i.sigmoid(), g.tanh())
        return o.sigmoid() * c.tanh(), c


class JoinedGru(Stack):
    """r and z from one product, and h' = n + z·(h − n)."""

    def step(self, cell: Any, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        (h,) = state
        n = 2 * h.shape[1]
        weight = torch.cat((cell.weight_ih[:n], cell.weight_hh[:n]), 1)
        bias = (cell.bias_ih + cell.bias_hh)[:n]
        r, z = (torch.cat((x, h), 1) @ weight.T + bias).sigmoid().chunk(2, 1)
        of_x, of_h = x @ cell.weight_ih[n:].T + cell.bias_ih[n:], h @ cell.weight_hh[n:].T + cell.bias_hh[n:]
        new = torch.tanh(of_x + r * of_h)
        return (new + z * (h - new),)


class InterpolatedGru(Stack):
    """The logistic function by its formula, and torch.lerp."""

    def step(self, cell: Any, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        (h,) = state
        r_x, z_x, n_x = (x @ cell.weight_ih.T + cell.bias_ih).chunk(3, 1)
        r_h, z_h, n_h = (h @ cell.weight_hh.T + cell.bias_hh).chunk(3, 1)
        r, z = 1 / (1 + torch.exp(-r_x - r_h)), 1 / (1 + torch.exp(-z_x - z_h))
        return (torch.lerp(torch.tanh(n_x + r * n_h), h, z),)
