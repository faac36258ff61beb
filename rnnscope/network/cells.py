"""StackedCells: the nn.Module that people write by hand, a loop over layers, directions and time of torch's own cells.

It is called like nn.RNN, nn.LSTM and nn.GRU and returns what they return. CompiledCells runs each step under
torch.compile; the loop over time stays in Python, since unrolled it would take half a minute to compile 50 steps.
"""

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any, NoReturn, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from rnnscope.errors import RnnscopeError
from rnnscope.network.equations import State, Step, walk
from rnnscope.network.shapes import cell_name

Sequence: TypeAlias = Tensor | PackedSequence
Hidden: TypeAlias = Tensor | tuple[Tensor, Tensor]

CELLS: dict[str, Any] = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}
MODULES: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class StackedCells(nn.Module):
    """A stack of nn.RNNCell, nn.LSTMCell or nn.GRUCell, each walked over the whole sequence before the next.

    Parameters have the names of the cells: `cells.{layer}.weight_ih`, `.weight_hh`, `.bias_ih`, `.bias_hh`, and
    `reverse_cells.{layer}.…` for the backward direction.

    Args:
        kind: rnn, lstm or gru. All other arguments are those of torch's modules.

    Raises:
        RnnscopeError: an unknown kind, a size that is not positive, or a nonlinearity or dropout that is not allowed.

    >>> cells = StackedCells("lstm", input_size=3, hidden_size=4, num_layers=2)
    >>> y, (h, c) = cells(torch.zeros(7, 5, 3))
    >>> tuple(y.shape), tuple(h.shape), tuple(c.shape)
    ((7, 5, 4), (2, 5, 4), (2, 5, 4))

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTMCell.html
    """

    def __init__(
        self,
        kind: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if kind not in CELLS:
            raise RnnscopeError(f"StackedCells: kind is {kind!r}, but it must be one of {', '.join(CELLS)}")
        if kind == "rnn" and nonlinearity not in ("tanh", "relu"):
            raise RnnscopeError(f"StackedCells: nonlinearity is {nonlinearity!r}, but it must be tanh or relu")
        if kind != "rnn" and nonlinearity != "tanh":
            raise RnnscopeError(f"StackedCells: nonlinearity is {nonlinearity!r}, but {kind} has none to choose")
        if isinstance(dropout, bool) or not (isinstance(dropout, (int, float)) and 0 <= dropout <= 1):
            raise RnnscopeError(f"StackedCells: dropout is {dropout!r}, but it must be a number from 0 to 1")
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if type(size) is not int or size < 1:
                raise RnnscopeError(f"StackedCells: {name} is {size!r}, but it must be a whole number of at least 1")
        self.kind, self.input_size, self.hidden_size, self.num_layers = kind, input_size, hidden_size, num_layers
        self.nonlinearity, self.bias, self.batch_first = nonlinearity, bias, batch_first
        self.dropout, self.bidirectional = dropout, bidirectional
        widths = [input_size] + [(2 if bidirectional else 1) * hidden_size] * (num_layers - 1)
        options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        if kind == "rnn":
            options["nonlinearity"] = nonlinearity

        def stack() -> nn.ModuleList:
            return nn.ModuleList(CELLS[kind](width, hidden_size, **options) for width in widths)

        self.cells = stack()
        self.reverse_cells = stack() if bidirectional else nn.ModuleList()

    def forward(self, input: Sequence, hx: Hidden | None = None) -> tuple[Sequence, Hidden]:
        """Walk the sequence.

        Args:
            input: (L, N, H_in), (N, L, H_in) with batch_first, (L, H_in) unbatched, or a packed sequence.
            hx: h0: (D·K, N, H), or the pair (h0, c0) for an LSTM; without N for an unbatched input; zeros when None.

        Returns:
            y: (L, N, D·H), laid out or packed as input is, and the last state, in the form of hx.

        Raises:
            RnnscopeError: input or hx of another form, shape or dtype, with what was expected.
        """
        if isinstance(input, PackedSequence):
            self._check_input(input.data)
            x, lengths = pad_packed_sequence(input)
            real = torch.arange(len(x), device=lengths.device)[:, None, None] < lengths[None, :, None]
            y, last = self._walk(x, self._initial(x, hx, batched=True), real.to(x.device))
            return _packed_like(input, y), self._hidden(last)
        self._check_input(input)
        batched = input.dim() == 3
        x = (input.transpose(0, 1) if self.batch_first else input) if batched else input.unsqueeze(1)
        y, last = self._walk(x, self._initial(x, hx, batched), None)
        if not batched:
            return y.squeeze(1), self._hidden(tuple(each.squeeze(1) for each in last))
        return (y.transpose(0, 1) if self.batch_first else y), self._hidden(last)

    @classmethod
    def from_module(cls, module: nn.RNNBase) -> "StackedCells":
        """The same network as an nn.RNN, nn.LSTM or nn.GRU, with weights of its own.

        Raises:
            RnnscopeError: another module, one with a forward of its own, or proj_size, which nn.LSTMCell does not know.
            RnnscopeError: weights that are reparametrised, or of more than one dtype or device.
        """
        kind = next((kind for kind, each in MODULES.items() if isinstance(module, each)), None)
        if kind is None or type(module).forward is not MODULES[kind].forward:
            raise RnnscopeError(f"from_module takes nn.RNN, nn.LSTM or nn.GRU, and got {type(module).__name__}")
        if module.proj_size:
            raise RnnscopeError(f"nn.LSTMCell knows no projection, and the nn.LSTM has proj_size={module.proj_size}")
        weight = next(module.parameters())
        options = _common(module) | {"device": weight.device, "dtype": weight.dtype}
        options["nonlinearity"] = getattr(module, "nonlinearity", "tanh")
        stacked = cls(kind, module.input_size, module.hidden_size, module.num_layers, **options)
        _copy_weights(module, stacked)
        return stacked

    def to_module(self) -> nn.RNNBase:
        """The same network as nn.RNN, nn.LSTM or nn.GRU, with weights of its own."""
        weight = next(self.parameters())
        options = _common(self) | {"device": weight.device, "dtype": weight.dtype}
        if self.kind == "rnn":
            options["nonlinearity"] = self.nonlinearity
        module: nn.RNNBase = MODULES[self.kind](self.input_size, self.hidden_size, self.num_layers, **options)
        _copy_weights(self, module)
        return module

    def extra_repr(self) -> str:
        """What the constructor was given, as torch's modules show it."""
        options = {"num_layers": self.num_layers, "nonlinearity": self.nonlinearity, **_common(self)}
        words = ", ".join(f"{name}={value}" for name, value in options.items())
        return f"{self.kind}, {self.input_size}, {self.hidden_size}, {words}"

    def _walk(self, x: Tensor, initial: State, real: Tensor | None) -> tuple[Tensor, State]:
        return walk(self._steps(), x, initial, real, self._between())

    def _steps(self) -> list[list[Step]]:
        """The steps of each layer, forward and backward."""
        cells = zip(self.cells, self.reverse_cells, strict=True) if self.bidirectional else zip(self.cells, strict=True)
        return [[self._step(cell) for cell in each] for each in cells]

    def _between(self) -> nn.Module | None:
        """What acts between layers."""
        return nn.Dropout(self.dropout).train(self.training) if self.dropout else None

    def _step(self, cell: nn.Module) -> Step:
        # nn.LSTMCell takes and returns (h, c); the others one tensor.
        return cell if self.kind == "lstm" else lambda x, state: (cell(x, state[0]),)

    def _hidden(self, last: State) -> Hidden:
        return (last[0], last[1]) if self.kind == "lstm" else last[0]

    def _check_input(self, x: Tensor) -> None:
        if not isinstance(x, Tensor):
            self._refuse(f"input is a {type(x).__name__}", "a tensor or a packed sequence")
        if x.dim() not in (2, 3):
            self._refuse(f"input has shape {tuple(x.shape)}", "3 dims, or 2 where it is unbatched")
        if x.shape[1 if x.dim() == 3 and self.batch_first else 0] == 0:
            self._refuse(f"input has shape {tuple(x.shape)}", "a sequence of at least one step")
        if x.shape[-1] != self.input_size:
            self._refuse(f"input has {x.shape[-1]} features", f"input_size {self.input_size}")
        self._check_dtype("input", x)

    def _check_dtype(self, name: str, tensor: Tensor) -> None:
        expected = next(self.parameters()).dtype
        if tensor.dtype != expected and not torch.is_autocast_enabled(tensor.device.type):
            self._refuse(f"{name} is in {tensor.dtype}", f"{expected} as the weights are")

    def _initial(self, x: Tensor, hx: Hidden | None, batched: bool) -> State:
        """hx as a state with N, checked: h0: (D·K, N, H), and c0."""
        is_lstm, rows = self.kind == "lstm", (2 if self.bidirectional else 1) * self.num_layers
        shape = (rows, x.shape[1], self.hidden_size)
        if hx is None:
            return tuple(x.new_zeros(shape) for _ in range(2 if is_lstm else 1))
        is_tuple = isinstance(hx, (tuple, list))
        state = tuple(hx) if is_tuple else (hx,)
        if is_tuple is not is_lstm or (is_lstm and len(state) != 2):
            got = f"a {type(hx).__name__}" + (f" of {len(state)}" if is_tuple else "")
            self._refuse(f"hx is {got}", "the pair (h0, c0)" if is_lstm else "the tensor h0")
        expected = shape if batched else (rows, self.hidden_size)
        for name, each in zip(("h0", "c0"), state, strict=False):
            if not isinstance(each, Tensor) or tuple(each.shape) != expected:
                got = f"shape {tuple(each.shape)}" if isinstance(each, Tensor) else f"type {type(each).__name__}"
                self._refuse(f"{name} has {got}", f"shape {expected}")
            self._check_dtype(name, each)
        return state if batched else tuple(each.unsqueeze(1) for each in state)

    def _refuse(self, got: str, expected: str) -> NoReturn:
        raise RnnscopeError(f"StackedCells({self.kind}): {got}, but {expected} was expected")


def _common(network: Any) -> dict[str, Any]:
    return {name: getattr(network, name) for name in ("bias", "batch_first", "dropout", "bidirectional")}


def _copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy the weights under the target's own names; what is tied, frozen or in training stays so."""
    theirs = dict(source.named_parameters(remove_duplicate=False))
    ours = dict(target.named_parameters())
    network = type(source).__name__
    if odd := sorted(theirs.keys() ^ {cell_name(name) for name in ours}):
        raise RnnscopeError(f"{odd[0]} is reparametrised, or no parameter of {network}: make it plain first")
    if len({(each.dtype, each.device) for each in theirs.values()}) > 1:
        raise RnnscopeError(f"the weights of the {network} are not all of one dtype and on one device")
    made: dict[int, nn.Parameter] = {}
    for name, each in ours.items():
        original = theirs[cell_name(name)]
        with torch.no_grad():
            each.copy_(original)
        each.requires_grad_(original.requires_grad)
        owner, _, own_name = name.rpartition(".")
        setattr(target.get_submodule(owner), own_name, made.setdefault(id(original), each))
    target.train(source.training)


def _packed_like(given: PackedSequence, y: Tensor) -> PackedSequence:
    """y: (L, N, ·), in the order of the items, packed as the given sequence is."""
    ordered = y if given.sorted_indices is None else y.index_select(1, given.sorted_indices)
    data = torch.cat([step[:count] for step, count in zip(ordered, given.batch_sizes.tolist(), strict=True)])
    return PackedSequence(data, given.batch_sizes, given.sorted_indices, given.unsorted_indices)


MOST_SHAPES = 256
"""A step may be compiled for so many shapes and dtypes in one process; torch's limit of 8 is a guard for servers."""


class CompiledCells(StackedCells):
    """StackedCells whose cells are compiled; parameters, input and output are the same."""

    def forward(self, input: Sequence, hx: Hidden | None = None) -> tuple[Sequence, Hidden]:
        """The same as StackedCells.forward; the first step of each shape and dtype waits for the compiler."""
        import torch._dynamo.config  # not there before it is asked for

        # torch 2.6 knows the limit by this name alone; newer releases keep it beside recompile_limit.
        with warnings.catch_warnings(), torch._dynamo.config.patch(cache_size_limit=MOST_SHAPES):
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
    """The number of graphs that torch.compile has made in this process."""
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
    """The error to raise where torch.compile finds no compiler, or one that does not work; None for any other error.

    The reason may stand on a later line of torch's error, or in the error behind it.
    """
    lines = [line.strip() for each in _behind(error) for line in f"{type(each).__name__}: {each}".split("\n")]
    for sign, what in _COMPILERS.items():
        if reason := next((line for line in lines if sign in line), None):
            return RnnscopeError(
                f"the subject compiled needs a compiler, and torch.compile finds {what} ({reason})",
                "install g++ (on a GPU Triton too), look at what CXX names, or use cells",
            )
    if type(error).__module__.startswith(("torch._inductor", "torch._dynamo")) and "memory" not in str(error):
        reason = str(error).removeprefix("backend='inductor' raised:\n").split("\n")[0]  # torch 2.6 says the backend
        return RnnscopeError(
            f"torch.compile cannot compile a step ({reason.strip()})",
            "see whether g++ works, look at what CXX names, or use cells",
        )
    return None


_COMPILERS = {
    "C++ compiler": "no C++ compiler that works",
    "C++ compile error": "no C++ compiler that works",
    "Triton": "no Triton that works",
    "torch.compile is not supported": "no compiler for this system",
    "compiler": "no compiler that works",
}
"""What torch says, and what is missing."""


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those behind it."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = getattr(error, "inner_exception", None) or error.__cause__ or error.__context__
