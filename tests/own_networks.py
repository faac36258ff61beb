"""Recurrent networks as people write them by hand, right and wrong: subjects for the tests of --right FILE.py:Class."""

import os
from typing import Any

import torch
from torch import Tensor, nn


class Lstm(nn.Module):
    """A loop of cells in a module list, as in many tutorials; it knows neither directions nor batch_first."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.cells = nn.ModuleList(nn.LSTMCell(size, hidden_size, bias) for size in sizes)

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        if hx is None:
            zeros = torch.zeros(len(self.cells), x.shape[1], self.hidden_size)
            hx = zeros, zeros
        h, c = list(hx[0]), list(hx[1])
        ys = []
        for step in x:
            for layer, cell in enumerate(self.cells):
                h[layer], c[layer] = self.step(cell, step, h[layer], c[layer])
                step = h[layer]
            ys.append(step)
        return self.result(torch.stack(ys), torch.stack(h), torch.stack(c))

    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        state: tuple[Tensor, Tensor] = cell(x, (h, c))
        return state

    def result(self, y: Tensor, h: Tensor, c: Tensor) -> Any:
        return y, (h, c)


class Iofg(Lstm):
    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        gates = x @ cell.weight_ih.T + h @ cell.weight_hh.T + cell.bias_ih + cell.bias_hh
        i, f, o, g = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class IgnoresRecurrent(Lstm):
    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        state: tuple[Tensor, Tensor] = cell(x, (torch.zeros_like(h), c))
        return state


class Random(Lstm):
    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        h, c = super().step(cell, x, h, c)
        return h + torch.rand_like(h), c


class Float32Inside(Lstm):
    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        h, c = torch.lstm_cell(
            x.float(),
            (h.float(), c.float()),
            cell.weight_ih.float(),
            cell.weight_hh.float(),
            cell.bias_ih.float(),
            cell.bias_hh.float(),
        )
        return h.to(x.dtype), c.to(x.dtype)


class ReturnsFloat32(Lstm):
    def result(self, y: Tensor, h: Tensor, c: Tensor) -> Any:
        return y.float(), (h, c)


class DetachesState(Lstm):
    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return super().step(cell, x, h.detach(), c)


class Raises(Lstm):
    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        raise ValueError("the flux\nis gone")


class RaisesLate(Lstm):
    """Something that torch finds only when it computes gradients."""

    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        h, c = super().step(cell, x, h, c)
        y = h.tanh()
        y.mul_(2)
        return y.tanh(), c


class Exits(Lstm):
    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        raise SystemExit(0)


class Prints(Lstm):
    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        print("from print")
        os.write(1, b"from the file descriptor\n")
        return super().step(cell, x, h, c)


class OnlyOutput(Lstm):
    def result(self, y: Tensor, h: Tensor, c: Tensor) -> Any:
        return y


class Transposed(Lstm):
    def result(self, y: Tensor, h: Tensor, c: Tensor) -> Any:
        return y.transpose(0, 1), (h, c)


class OtherNames(nn.Module):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_ih_10 = nn.Parameter(torch.zeros(4 * hidden_size, input_size))
        self.W_hh = nn.Parameter(torch.zeros(4 * hidden_size, hidden_size))

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        raise NotImplementedError


class LoadsByItself(Lstm):
    """Knows how torch's names become its own."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        self.kernels = self.cells

    def load_state_dict(self, state: Any, strict: bool = True, assign: bool = False) -> Any:
        for name, each in state.items():
            base, _, layer = name.rpartition("_l")
            getattr(self.kernels[int(layer)], base).data.copy_(each)


class NeedsMore(Lstm):
    def __init__(self, input_size: int, hidden_size: int, vocabulary: int) -> None:
        super().__init__(input_size, hidden_size)


class NeedsTwoMore(Lstm):
    def __init__(self, input_size: int, hidden_size: int, words: int, pages: int) -> None:
        super().__init__(input_size, hidden_size)


class NeedsMask(Lstm):
    def forward(self, x: Tensor, hx: Any, mask: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x, hx)


class OnlyNumbers(Lstm):
    def result(self, y: Tensor, h: Tensor, c: Tensor) -> Any:
        return 1, 2


class Gru(nn.Module):
    """A class around torch's own module: all names have a prefix."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.rnn = nn.GRU(**options)

    def forward(self, x: Any, hx: Any = None) -> Any:
        return self.rnn(x, hx)


class BatchFirst(nn.Module):
    """Has no say in its layout, and says which it is."""

    batch_first = True

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(input_size, hidden_size, num_layers, batch_first=True)

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        return self.rnn(x, hx)


class NoState(nn.Module):
    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(input_size, hidden_size, num_layers)

    def forward(self, x: Tensor) -> Any:
        return self.rnn(x)


class WrongWithoutState(nn.Module):
    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(input_size, hidden_size, num_layers)

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        if hx is None:
            hx = x.new_ones(self.rnn.num_layers, x.shape[1], self.rnn.hidden_size)
        return self.rnn(x, hx)


def make_two_layers() -> nn.Module:
    return Lstm(10, 20, num_layers=2)


instance = nn.RNN(10, 20, num_layers=2)
number = 3


class ResetBefore(nn.Module):
    """A GRU as in the paper: the reset gate acts before the product."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.cells = nn.ModuleList(nn.GRUCell(size, hidden_size) for size in sizes)

    def forward(self, x: Tensor, hx: Tensor) -> Any:
        h = list(hx)
        ys = []
        for step in x:
            for layer, cell in enumerate(self.cells):
                step = h[layer] = self.step(cell, step, h[layer])
            ys.append(step)
        return torch.stack(ys), torch.stack(h)

    def step(self, cell: Any, x: Tensor, h: Tensor) -> Tensor:
        r_x, z_x, n_x = (x @ cell.weight_ih.T + cell.bias_ih).chunk(3, 1)
        w_r, w_z, w_n = cell.weight_hh.chunk(3)
        b_r, b_z, b_n = cell.bias_hh.chunk(3)
        r, z = (r_x + h @ w_r.T + b_r).sigmoid(), (z_x + h @ w_z.T + b_z).sigmoid()
        n = (n_x + (r * h) @ w_n.T + b_n).tanh()
        new: Tensor = (1 - z) * n + z * h
        return new


class OwnGradients(Lstm):
    """Its parameters have names that say nothing, and load_state_dict knows what they are."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        for cell in self.cells:
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                setattr(cell, f"own_{name}", getattr(cell, name))
                delattr(cell, name)

    def load_state_dict(self, state: Any, strict: bool = True, assign: bool = False) -> Any:
        for name, each in state.items():
            base, _, layer = name.rpartition("_l")
            getattr(self.cells[int(layer)], f"own_{base}").data.copy_(each)

    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return torch.lstm_cell(x, (h, c), cell.own_weight_ih, cell.own_weight_hh, cell.own_bias_ih, cell.own_bias_hh)


class Frozen(Lstm):
    """Whose biases do not learn."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        for name, each in self.named_parameters():
            each.requires_grad_("bias" not in name)


class SecondIsLengths(nn.Module):
    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(input_size, hidden_size, num_layers)

    def forward(self, x: Tensor, lengths: Any = None) -> Any:
        assert lengths is None
        return self.rnn(x)


class KeywordState(nn.Module):
    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(input_size, hidden_size, num_layers)

    def forward(self, x: Tensor, *, hidden: Any = None) -> Any:
        return self.rnn(x, hidden)


def shared() -> nn.Module:
    return instance


class Remembers(Lstm):
    """Goes on from where the call before ended."""

    kept: Any = None

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        y, self.kept = super().forward(x, hx if self.kept is None else self.kept)
        return y, self.kept


buffers: dict[Any, Tensor] = {}


class SharesItsOutput(Lstm):
    """Writes all results of one shape into one buffer."""

    def result(self, y: Tensor, h: Tensor, c: Tensor) -> Any:
        buffer = buffers.setdefault((y.shape, y.dtype), torch.empty_like(y))
        return buffer.copy_(self.changed(y)), (h, c)

    def changed(self, y: Tensor) -> Tensor:
        return y


class SharesWrongOutput(SharesItsOutput):
    def changed(self, y: Tensor) -> Tensor:
        return y * 1.1


class StateInThirdPlace(nn.Module):
    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(input_size, hidden_size, num_layers)

    def forward(self, x: Tensor, lengths: Any = None, hx: Any = None) -> Any:
        return self.rnn(x, hx)


class OnlyFloat32(Lstm):
    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return super().step(cell, x.float(), h.float(), c.float())


class ClipsItsCell(Lstm):
    """Keeps c within ±3."""

    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        h, c = super().step(cell, x, h, c)
        return h, c.clamp(-3, 3)


class ClipsItsGates(Lstm):
    """Keeps what goes into σ and tanh within ±10."""

    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        gates = x @ cell.weight_ih.T + h @ cell.weight_hh.T + cell.bias_ih + cell.bias_hh
        i, f, g, o = gates.clamp(-10, 10).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class ResetsItself(Lstm):
    """Begins anew at step 10."""

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        y, last = super().forward(x[:10], hx)
        if len(x) <= 10:
            return y, last
        later, last = super().forward(x[10:], tuple(each.new_zeros(each.shape) for each in last))
        return torch.cat((y, later)), last


class OverflowsSooner(Lstm):
    """A right formula that gives NaN where exp(x) is infinite."""

    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        gates = x @ cell.weight_ih.T + h @ cell.weight_hh.T + cell.bias_ih + cell.bias_hh
        i, f, g, o = gates.chunk(4, 1)
        c = f.exp() / (1 + f.exp()) * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class SixSteps(nn.Module):
    """A GRU that is built for six steps, and gives 1 % too much."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(input_size, hidden_size)

    def forward(self, x: Tensor, hx: Tensor) -> Any:
        h, ys = hx[0], []
        if len(x) != 6:
            raise ValueError(f"{len(x)} steps instead of 6")
        for step in x:
            h = self.after(self.cell(step, h))
            ys.append(h)
        return torch.stack(ys), h[None]

    def after(self, h: Tensor) -> Tensor:
        return 1.01 * h


class SixStepsRight(SixSteps):
    def after(self, h: Tensor) -> Tensor:
        return h


class SixStepsResetBefore(SixSteps):
    """The same with a fault that has a name."""

    def forward(self, x: Tensor, hx: Tensor) -> Any:
        h, ys, cell = hx[0], [], self.cell
        if len(x) != 6:
            raise ValueError(f"{len(x)} steps instead of 6")
        for step in x:
            r_x, z_x, n_x = (step @ cell.weight_ih.T + cell.bias_ih).chunk(3, -1)
            W_r, W_z, W_n = cell.weight_hh.chunk(3)
            b_r, b_z, b_n = cell.bias_hh.chunk(3)
            r, z = torch.sigmoid(r_x + h @ W_r.T + b_r), torch.sigmoid(z_x + h @ W_z.T + b_z)
            n = torch.tanh(n_x + (r * h) @ W_n.T + b_n)
            h = (1 - z) * n + z * h
            ys.append(h)
        return torch.stack(ys), h[None]


class AlongTheBatch(nn.Module):
    """Loops over dim 1, as a class for N, L, H_in does, and says nothing of that."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(input_size, hidden_size)

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        h = x.new_zeros(len(x), self.cell.hidden_size) if hx is None else hx[0]
        ys = []
        for step in x.unbind(1):
            h = self.cell(step, h)
            ys.append(h)
        return self.result(torch.stack(ys, 1), h[None])

    def result(self, y: Tensor, h: Tensor) -> Any:
        return y, h


class TurnsItsOutput(AlongTheBatch):
    """Whose y fits in no layout: it starts with L where x starts with N."""

    def result(self, y: Tensor, h: Tensor) -> Any:
        return y.transpose(0, 1), h


class TurnsItsState(nn.Module):
    """Takes (D·K, N, H), and gives (N, D·K, H)."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(input_size, hidden_size, num_layers)

    def forward(self, x: Tensor, hx: Tensor) -> Any:
        y, h = self.rnn(x, hx)
        return y, h.transpose(0, 1)


class WithPeepholes(Lstm):
    """Peepholes that are zeros when it is built."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.peephole = nn.Parameter(torch.zeros(hidden_size))

    def step(self, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        gates = x @ cell.weight_ih.T + h @ cell.weight_hh.T + cell.bias_ih + cell.bias_hh
        i, f, g, o = gates.chunk(4, 1)
        c = torch.sigmoid(f + self.peephole * c) * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c
