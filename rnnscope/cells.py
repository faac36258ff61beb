"""StackedCells: the nn.Module that people write by hand, a loop over time and layers of nn.RNNCell.

It is called like nn.RNN and returns what nn.RNN returns. Only the loop is here: one step is torch's own cell.
"""

import torch
from torch import Tensor, nn


class StackedCells(nn.Module):
    """A stack of nn.RNNCell, layer above layer, each walked over the whole sequence before the next.

    The state_dict has the keys `cells.{layer}.weight_ih`, `.weight_hh`, `.bias_ih` and `.bias_hh`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.RNNCell.html
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.batch_first = batch_first
        widths = [input_size] + [hidden_size] * (num_layers - 1)
        self.cells = nn.ModuleList(
            nn.RNNCell(width, hidden_size, bias, nonlinearity, device, dtype) for width in widths
        )

    def forward(self, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        """Walk the sequence.

        Args:
            x: (L, N, H_in), or (N, L, H_in) with batch_first.
            h0: (K, N, H).

        Returns:
            y: (L, N, H), or (N, L, H) with batch_first, and h: (K, N, H).
        """
        time = 1 if self.batch_first else 0
        steps: list[Tensor] | tuple[Tensor, ...] = x.unbind(time)
        last = []
        for cell, h in zip(self.cells, h0.unbind(0), strict=True):
            steps = walk(cell, steps, h)
            last.append(steps[-1])
        return torch.stack(tuple(steps), time), torch.stack(last)


def walk(cell: nn.Module, steps: list[Tensor] | tuple[Tensor, ...], h: Tensor) -> list[Tensor]:
    """The states h: (N, H) after each of the steps, each a Tensor (N, H_in)."""
    states = []
    for x in steps:
        h = cell(x, h)
        states.append(h)
    return states
