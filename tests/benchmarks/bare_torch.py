"""The baseline of `rnnscope compare`: the same comparison by hand in bare torch, printing two numbers."""

import warnings

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")

import torch  # noqa: E402
from torch import nn  # noqa: E402

torch.manual_seed(0)
with torch.no_grad():
    module = nn.RNN(10, 20, 2)
    cells = [nn.RNNCell(10, 20), nn.RNNCell(20, 20)]
    for layer, cell in enumerate(cells):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(cell, name).copy_(getattr(module, f"{name}_l{layer}"))
    x, h0 = torch.randn(3, 5, 10), torch.randn(2, 5, 20)
    y, h = module(x, h0)
    states, steps = list(h0), []
    for step in x:
        for layer, cell in enumerate(cells):
            step = states[layer] = cell(step, states[layer])
        steps.append(step)
    print((torch.stack(steps) - y).abs().max().item(), (torch.stack(states) - h).abs().max().item())
