"""Element-Research/rnn#28: nn.Recurrent multiplies the gradient of its start by the number of steps.

Gradients were once averaged over the steps, and the start, which is used once, was to get its own back by `mul(rho)`.
When the average went, that line stayed: only the gradient of the start is off, and a sequence of one step does not show
it. The report saw errors of 0.01 to 0.1 for three steps of two units. What mended it asks for a ratio of norms below
1e-4, which is no tolerance for elements. Here h0 is the start, and tanh the transfer.
"""

import copy
from typing import Any

import torch
from graveyard.grave import Bug, Modules
from torch import Tensor, nn

HIDDEN, L, N = 2, 3, 1


class Averaged(torch.autograd.Function):
    """The start as it is; its gradient is multiplied by rho."""

    @staticmethod
    def forward(ctx: Any, start: Tensor, rho: int) -> Tensor:
        ctx.rho = rho
        return start.view_as(start)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0] * ctx.rho, None


class Recurrent(nn.Module):
    """One step at a time: a lookup of the input, and a linear feedback of the output before."""

    def __init__(self, rnn: Any, faulty: bool, rho: int = 5) -> None:
        super().__init__()
        self.faulty, self.rho = faulty, rho
        self.input = nn.Linear(rnn.input_size, rnn.hidden_size)
        self.feedback = nn.Linear(rnn.hidden_size, rnn.hidden_size)
        self.input.weight, self.input.bias = rnn.weight_ih_l0, rnn.bias_ih_l0
        self.feedback.weight, self.feedback.bias = rnn.weight_hh_l0, rnn.bias_hh_l0

    def forward(self, x: Tensor, hx: Tensor) -> tuple[Tensor, Tensor]:
        output = hx[0]
        if self.faulty:
            output = Averaged.apply(output, min(self.rho, len(x)))  # type: ignore[no-untyped-call]
        outputs = []
        for step in x:
            output = torch.tanh(self.input(step) + self.feedback(output))
            outputs.append(output)
        return torch.stack(outputs), output[None]


def make(faulty: bool) -> tuple[nn.Module, nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    rnn = nn.RNN(2, HIDDEN)
    sequence = torch.tensor([0, 1, 0])
    x = nn.functional.one_hot(sequence, 2).float()[:, None]
    return rnn, Recurrent(copy.deepcopy(rnn), faulty), x, torch.randn(1, N, HIDDEN)


BUG = Bug(
    report="Element-Research/rnn#28",
    told="the gradient of the initial state is multiplied by the number of steps",
    half=2,
    form=Modules(make, grad=True),
    named="function",
    place={"name": "h0", "kind": "scale"},
)
