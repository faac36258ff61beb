"""proger/accelerated-scan#15: the backward of a complex scan carries the gradient wrongly from block to block.

The kernel scans blocks of 2048 steps, in backward from the last to the first. A block must add f[t] times the gradient
that comes in. It scaled its own gradient by the product of all f behind it, and added the carry as it is. Outputs and
the last block are right. Small radii hid it in means, so the fix also tests radii from 0.99 to 1 and the last output.
Its tests start at 4096 steps, and hold both gradients against a plain scan by rtol 1e-4 and atol 1e-5.
"""

import math
from typing import Any

import torch
from graveyard.grave import Bug, Checked, Tensors
from torch import Tensor, nn

BLOCK, L, D = 2048, 4096, 4


def within(f: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The products of f up to each step, and x_t + f_t·x_(t-1), within one block."""
    shift = 1
    while shift < x.shape[-1]:
        x = torch.cat((x[..., :shift], x[..., shift:] + f[..., shift:] * x[..., :-shift]), -1)
        f = torch.cat((f[..., :shift], f[..., shift:] * f[..., :-shift]), -1)
        shift *= 2
    return f, x


def in_blocks(f: Tensor, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(torch.split(f, BLOCK, -1), torch.split(x, BLOCK, -1), strict=True))


class Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, forget: Tensor, inputs: Tensor, faulty: bool) -> Tensor:
        state = torch.zeros_like(forget[..., :1])
        blocks: list[Tensor] = []
        for pair in in_blocks(forget, inputs.to(forget.dtype)):
            f, x = within(*pair)
            blocks.append(x + f * state)
            state = blocks[-1][..., -1:]
        states = torch.cat(blocks, -1)
        ctx.save_for_backward(forget, states)
        ctx.faulty = faulty
        return states

    @staticmethod
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor, Tensor, None]:
        forget, states = ctx.saved_tensors
        one, nothing = torch.ones_like(forget[..., :1]), torch.zeros_like(forget[..., :1])
        shifted = torch.cat((forget[..., 1:].conj(), one), -1)
        state_x, state_f = nothing, one
        blocks: list[Tensor] = []
        for pair in reversed(in_blocks(shifted, d_output)):
            f, d = within(*(each.flip(-1) for each in pair))
            if ctx.faulty:
                d, state_f = d * state_f + state_x, f[..., -1:] * state_f
            else:
                d = d + f * state_x
            state_x = d[..., -1:]
            blocks.insert(0, d.flip(-1))
        d_inputs = torch.cat(blocks, -1)
        return torch.cat((nothing, states[..., :-1].conj()), -1) * d_inputs, d_inputs.real, None


class ComplexGates(nn.Module):
    """A diagonal recurrence whose gates have a radius from 0.99 to 1, and an angle that x says."""

    batch_first = True

    def __init__(self, dim: int, faulty: bool) -> None:
        super().__init__()
        self.gates, self.out = nn.Linear(dim, 3 * dim), nn.Linear(2 * dim, dim)
        self.faulty = faulty

    def forward(self, x: Tensor) -> Tensor:
        return self.read(Scan.apply(*self.forget_and_inputs(x), self.faulty))  # type: ignore[no-untyped-call]

    def forget_and_inputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        radius, angle, inputs = self.gates(x).transpose(1, 2).chunk(3, 1)
        return torch.polar(0.99 + 0.01 * radius.sigmoid(), math.pi * angle.tanh()), inputs.tanh()

    def read(self, states: Tensor) -> Tensor:
        y: Tensor = self.out(torch.cat((states.real, states.imag), 1).transpose(1, 2))
        return y


def make(faulty: bool) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    return ComplexGates(D, faulty), torch.randn(1, L, D), None


def by_hand(module: Any, x: Tensor, state: Any) -> tuple[Tensors, Tensors]:
    """The gradient of the last output for x: through a plain loop, and through the scan."""
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        forget, inputs = module.forget_and_inputs(x)
        h = torch.zeros_like(forget[..., 0])
        for f, each in zip(forget.unbind(-1), inputs.unbind(-1), strict=True):
            h = f * h + each
        (expected,) = torch.autograd.grad(module.read(h[..., None]).sum(), x)
        (actual,) = torch.autograd.grad(module(x)[:, -1].sum(), x)
    return {"gradient of x": expected}, {"gradient of x": actual}


BUG = Bug(
    report="proger/accelerated-scan#15",
    told="the backward of a scan in blocks scales the gradient of each block where it must scale what comes in",
    half=2,
    form=Checked(make, by_hand),
    named="gradient",
    place={"tensor": "x"},
    tolerance=(1e-4, 1e-5),
)
