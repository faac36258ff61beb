"""Networks whose forward takes one step, looped over time as StackedCells loops torch's cells."""

from functools import cache

from torch import Tensor, nn

from rnnscope.network.cells import StackedCells
from rnnscope.network.equations import State, Step, walk
from rnnscope.spec.spec import Spec
from rnnscope.subjects.forms import Form


class LoopedSteps(StackedCells):
    """A loop over the steps of somebody's own cells, or of one network that steps through all its layers.

    It is called as torch's modules are, and returns what they return: y is what each step gives, which may be another
    tensor than h.

    Args:
        cells: the forward cells, a layer each, then the backward ones; or the one network that has all layers.
        form: how a step is called.
        has_layers: whether each cell is one layer in one direction.
    """

    def __init__(self, spec: Spec, cells: list[nn.Module], form: Form, has_layers: bool) -> None:
        nn.Module.__init__(self)
        self.kind, self.input_size, self.hidden_size = spec.kind, spec.input_size, spec.hidden_size
        self.num_layers, self.bidirectional = spec.num_layers, spec.bidirectional
        self.nonlinearity, self.bias, self.batch_first = spec.nonlinearity, spec.bias, spec.batch_first
        self.dropout = spec.dropout if spec.train and has_layers else 0.0
        self.form, self.has_layers = form, has_layers
        layers = spec.num_layers if has_layers else 1
        self.cells, self.reverse_cells = nn.ModuleList(cells[:layers]), nn.ModuleList(cells[layers:])

    def _walk(self, x: Tensor, initial: State, real: Tensor | None) -> tuple[Tensor, State]:
        """The walk of StackedCells, in which a step gives y besides, in front of the state."""
        if not self.has_layers:  # all rows are the state of one step
            initial = tuple(each.unsqueeze(0) for each in initial)
        y0 = initial[0] if self.has_layers else initial[0][:, -1]
        y, (_, *last) = walk(self._steps(), x, (y0, *initial), real, self._between())
        return y, tuple(last if self.has_layers else (each.squeeze(0) for each in last))

    def _step(self, cell: nn.Module) -> Step:
        form = self.form

        def step(x: Tensor, state: State) -> State:
            rows = tuple(each.unsqueeze(0) if self.has_layers else each for each in state[1:])
            spec = _spec_of_step(self.kind, x.shape[-1], self.hidden_size, len(rows[0]), x.shape[0])
            reading = form.read(form.call(cell, x, rows), spec)
            if reading is None:
                raise ValueError(f"a step gives another form for x of shape {tuple(x.shape)}")
            last = tuple(each.squeeze(0) if self.has_layers else each for each in reading.state)
            return (reading.plain_y, *last)

        return step


@cache
def _spec_of_step(kind: str, input_size: int, hidden_size: int, layers: int, items: int) -> Spec:
    return Spec(
        kind=kind, input_size=input_size, hidden_size=hidden_size, num_layers=layers, seq_len=1, batch_size=items
    )
