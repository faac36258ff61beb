"""rwth-i6/returnn#1313: ZoneoutLSTMCell gives the LSTM's output, and not the h that zoneout makes of it.

Zoneout mixes the new h and c with those before the step, by chance in training, and by their mean in evaluation. The
mixed h goes on to the next step, while the plain one is what is returned. The thread has it from reading the code and
the paper, and names neither figures nor a tolerance.
"""

from typing import Any

import torch
from graveyard.grave import Bug, Checked, Tensors
from torch import Tensor, nn

H_IN, H, L, N = 10, 20, 6, 3


class ZoneoutLSTM(nn.Module):
    def __init__(self, faulty: bool, factor_cell: float = 0.15, factor_output: float = 0.05) -> None:
        super().__init__()
        self.faulty = faulty
        self.factor_cell, self.factor_output = factor_cell, factor_output
        self.cell = nn.LSTMCell(H_IN, H)

    def zoneout(self, before: Tensor, new: Tensor, factor: float) -> Tensor:
        if self.training:
            return before + (1 - factor) * nn.functional.dropout(new - before, factor)
        return (1 - factor) * new + factor * before

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        prev_h, prev_c = (each[0] for each in hx) if hx else 2 * (x.new_zeros(x.shape[1], H),)
        outputs = []
        for step in x:
            output, new_c = self.cell(step, (prev_h, prev_c))
            c = self.zoneout(prev_c, new_c, self.factor_cell)
            h = self.zoneout(prev_h, output, self.factor_output)
            outputs.append(output if self.faulty else h)
            prev_h, prev_c = h, c
        return torch.stack(outputs), (prev_h[None], prev_c[None])


def make(faulty: bool) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    return ZoneoutLSTM(faulty), torch.randn(L, N, H_IN), (torch.randn(1, N, H), torch.randn(1, N, H))


def last_output_and_state(module: nn.Module, x: Tensor, state: Any) -> tuple[Tensors, Tensors]:
    y, (h, _) = module(x, state)
    return {"y": h[0]}, {"y": y[-1]}


BUG = Bug(
    report="rwth-i6/returnn#1313",
    told="a zoneout LSTM returns the h of the plain cell for y, and hands on the mixed one",
    half=2,
    form=Checked(make, last_output_and_state),
    named="last_state",
    place={"step": L - 1},
    missed={
        "found": "it is told that h is 0.01 from y at the last step, but nothing says that the two must be the same"
    },
)
