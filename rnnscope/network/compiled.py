"""The stack of cells with one step under torch.compile. The loop over time stays in Python and is never unrolled.

Unrolled, a compilation would take half a minute at 50 steps. A step takes a second or two, for each shape and dtype.
"""

import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from rnnscope.errors import RnnscopeError
from rnnscope.network.cells import Hidden, Sequence, StackedCells
from rnnscope.network.walker import State, Step

_SHAPES = 256
"""Shapes and dtypes for which a step may be compiled in one process; torch's own limit of 8 is a guard for servers."""


class CompiledCells(StackedCells):
    """StackedCells whose cells are compiled; parameters, input and output are the same."""

    def forward(self, input: Sequence, hx: Hidden | None = None) -> tuple[Sequence, Hidden]:
        """As StackedCells.forward; the first step of each shape and dtype waits for the compiler."""
        import torch._dynamo.config  # not there before it is asked for

        with warnings.catch_warnings(), torch._dynamo.config.patch(recompile_limit=_SHAPES):
            # dynamo looks at .grad of everything that it traces.
            warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
            try:
                return super().forward(input, hx)
            except Exception as error:
                if type(error).__name__ != "FailOnRecompileLimitHit":  # which older releases of torch do not have
                    raise
                torch._dynamo.reset()  # what was compiled before must not matter
                return super().forward(input, hx)

    def _step(self, cell: nn.Module) -> Step:
        function = _compiled(self.nonlinearity if self.kind == "rnn" else self.kind)
        weights = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
        return lambda x, state: function(x, state, *weights)


def compilations() -> int:
    """How many graphs torch.compile has made in this process."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


@cache
def _compiled(name: str) -> Any:
    """torch's function behind a cell, compiled."""
    function: Any = {"tanh": torch.rnn_tanh_cell, "relu": torch.rnn_relu_cell, "gru": torch.gru_cell}.get(name)

    # The frame must be one of ours: dynamo skips torch's own modules.
    def of_cell(x: Tensor, state: State, *weights: Any) -> State:
        return torch.lstm_cell(x, state, *weights) if function is None else (function(x, state[0], *weights),)

    return torch.compile(of_cell, dynamic=False, fullgraph=True)


def without_compiler(error: Exception) -> RnnscopeError | None:
    """What to say where torch.compile finds nothing that it could compile with; None for any other error."""
    reason = str(error).split("\n")[0]
    if "compiler" in reason or "Triton" in reason or "torch.compile is not supported" in reason:
        return RnnscopeError(
            f"the subject compiled needs a compiler, and torch.compile finds none ({reason.strip()})",
            "install g++ (on a GPU Triton too), or use cells",
        )
    return None
