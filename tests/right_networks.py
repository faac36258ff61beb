"""Right recurrent networks of many kinds: subjects of the relations that every recurrent module keeps.

None is torch's own module. `RIGHT` lists them, with the relations that apply to each. They take x: (L, N, H_in) unless
they say otherwise, and the state that they give back is a state that they take.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

ALWAYS = (
    "repeatable",
    "stateless",
    "inputs_kept",
    "layout",
    "item_isolation",
    "permutation",
    "batch_of_one",
    "precision",
    "gradient",
    "gradient_reach",
    "state_dict",
    "copies",
)
"""Relations that apply to every network here."""

CARRIED = (*ALWAYS, "zero_state", "causality", "chunked", "stepwise", "last_state")
"""And to one that walks forward and takes the state that it gave."""


@dataclass(frozen=True)
class Checked:
    """A network to check.

    Args:
        kind: what it is, in one line. make: builds it from H_in and H.
        batch_first: whether it takes x as (N, L, H_in). gives: what it returns: "both", "y" or "state".
        lengths: whether it can be told where items end. argument: how: "lengths", "mask", "padding_mask" or "packed".
        applies: relations that must not be called not applicable.
        breaks: the relation that it breaks, "" for none. says: a word that the finding must contain.
    """

    name: str
    kind: str
    make: Callable[[int, int], nn.Module]
    batch_first: bool = False
    lengths: bool = False
    applies: tuple[str, ...] = CARRIED
    breaks: str = ""
    says: str = ""
    gives: str = "both"
    argument: str = ""


class Stepped(nn.Module):
    """Walks over the steps; a network says what it starts from and what one step does."""

    hidden_size: int

    def start(self, x: Tensor, batch: int) -> Any:
        """The state of N items; x is there for its dtype and device."""
        return x.new_zeros(batch, self.hidden_size)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """x: (N, H_in). Returns y: (N, H_out), and the next state."""
        raise NotImplementedError

    def forward(self, x: Tensor, state: Any = None) -> Any:
        _, batch, _ = x.shape
        if state is None:
            state = self.start(x, batch)
        ys = []
        for step in x:
            y, state = self.step(step, state)
            ys.append(y)
        return torch.stack(ys), state


# Gated cells.


class LayerNormLstm(Stepped):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.gates = nn.Linear(input_size + hidden_size, 4 * hidden_size)
        self.norm = nn.LayerNorm(4 * hidden_size)
        self.cell_norm = nn.LayerNorm(hidden_size)

    def start(self, x: Tensor, batch: int) -> Any:
        return x.new_zeros(1, batch, self.hidden_size), x.new_zeros(1, batch, self.hidden_size)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h, c = state[0][0], state[1][0]
        i, f, g, o = self.norm(self.gates(torch.cat([x, h], -1))).chunk(4, -1)
        c = (f + 1).sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * self.cell_norm(c).tanh()
        return h, (h[None], c[None])


class PeepholeLstm(nn.Module):
    """x: (N, L, H_in), y: (N, L, H), h and c: (N, H)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.W = nn.Parameter(torch.randn(input_size, 4 * hidden_size) / input_size**0.5)
        self.U = nn.Parameter(torch.randn(hidden_size, 4 * hidden_size) / hidden_size**0.5)
        self.p = nn.Parameter(torch.randn(3, hidden_size) / 2)
        self.b = nn.Parameter(torch.zeros(4 * hidden_size))

    def forward(self, x: Tensor, state: Any = None) -> Any:
        batch, _, _ = x.shape
        h, c = state if state is not None else (x.new_zeros(batch, self.hidden_size),) * 2
        ys = []
        for step in x.unbind(1):
            i, f, g, o = (step @ self.W + h @ self.U + self.b).chunk(4, 1)
            new = (f + self.p[1] * c).sigmoid() * c + (i + self.p[0] * c).sigmoid() * g.tanh()
            c = new
            h = (o + self.p[2] * c).sigmoid() * c.tanh()
            ys.append(h)
        return torch.stack(ys, 1), (h, c)


class CoupledLstm(nn.Module):
    """Takes unbatched x too, and either layout; h and c are (1, N, H), or (1, H) for x (L, H_in)."""

    def __init__(self, input_size: int, hidden_size: int, batch_first: bool = False) -> None:
        super().__init__()
        self.hidden_size, self.batch_first = hidden_size, batch_first
        self.x2h = nn.Linear(input_size, 3 * hidden_size)
        self.h2h = nn.Linear(hidden_size, 3 * hidden_size, bias=False)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        unbatched = x.dim() == 2
        if unbatched:
            x = x.unsqueeze(1)
            state = None if state is None else tuple(each.unsqueeze(1) for each in state)
        elif self.batch_first:
            x = x.transpose(0, 1)
        y, state = self.walk(x, state)
        if unbatched:
            return y.squeeze(1), tuple(each.squeeze(1) for each in state)
        return y.transpose(0, 1) if self.batch_first else y, state

    def walk(self, x: Tensor, state: Any) -> Any:
        zeros = x.new_zeros(x.shape[1], self.hidden_size)
        h, c = (zeros, zeros) if state is None else (state[0][0], state[1][0])
        ys = []
        for step in self.x2h(x):
            f, g, o = (step + self.h2h(h)).chunk(3, 1)
            f = f.sigmoid()
            c = f * c + (1 - f) * g.tanh()
            h = o.sigmoid() * c.tanh()
            ys.append(h)
        return torch.stack(ys), (h[None], c[None])


class MinimalGated(Stepped):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.forget = nn.Linear(input_size + hidden_size, hidden_size)
        self.candidate = nn.Linear(input_size + hidden_size, hidden_size)

    def start(self, x: Tensor, batch: int) -> Any:
        return x.new_zeros(1, batch, self.hidden_size)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h = state[0]
        f = self.forget(torch.cat([x, h], 1)).sigmoid()
        h = (1 - f) * h + f * self.candidate(torch.cat([x, f * h], 1)).tanh()
        return h, h[None]


class Sru(Stepped):
    """The simple recurrent unit: all matrices act on x alone; its state is c."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.project = nn.Linear(input_size, 4 * hidden_size)
        self.v = nn.Parameter(torch.randn(2, hidden_size) / 2)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        value, f, r, skip = self.project(x).chunk(4, -1)
        f, r = (f + self.v[0] * state).sigmoid(), (r + self.v[1] * state).sigmoid()
        c = f * state + (1 - f) * value
        return r * c + (1 - r) * skip, c


class Seen(NamedTuple):
    h: Tensor
    last: Tensor
    since: Tensor


class MissingGru(Stepped):
    """As GRU-D: a value near zero counts as missing, and fades from the last one seen; counts the steps since then."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size, self.input_size = hidden_size, input_size
        self.cell = nn.GRUCell(input_size, hidden_size)
        self.fade = nn.Parameter(torch.rand(input_size))
        self.decay = nn.Linear(input_size, hidden_size)

    def start(self, x: Tensor, batch: int) -> Any:
        h, last = x.new_zeros(batch, self.hidden_size), x.new_zeros(batch, self.input_size)
        return Seen(h, last, torch.zeros_like(last, dtype=torch.long))

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        seen = x.abs() > 0.125
        since = torch.where(seen, 0, state.since + 1)
        last = torch.where(seen, x, state.last)
        steps = since.to(x.dtype)
        h = state.h * torch.exp(-F.softplus(self.decay(steps)))
        h = self.cell(last * torch.exp(-F.softplus(self.fade) * steps), h)
        return h, Seen(h, last, since)


class LearnedStart(Stepped):
    """A GRU cell that starts from a parameter."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.cell = nn.GRUCell(input_size, hidden_size)
        self.h0 = nn.Parameter(torch.randn(1, 1, hidden_size))

    def start(self, x: Tensor, batch: int) -> Any:
        return self.h0.expand(1, batch, self.hidden_size)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h = self.cell(x, state[0])
        return h, h[None]


class InitHidden(Stepped):
    """An LSTM cell that says by a method what it starts from: h zeros, c 0.5."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.cell = nn.LSTMCell(input_size, hidden_size)

    def init_hidden(self, batch_size: int) -> tuple[Tensor, Tensor]:
        h = self.cell.weight_hh.new_zeros(batch_size, self.hidden_size)
        return h, torch.full_like(h, 0.5)

    def start(self, x: Tensor, batch: int) -> Any:
        return self.init_hidden(batch)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h, c = self.cell(x, state)
        return h, (h, c)


# Cells without gates.


class ReluElman(Stepped):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_ih = nn.Parameter(torch.randn(hidden_size, input_size) / input_size**0.5)
        self.weight_hh = nn.Parameter(torch.randn(hidden_size, hidden_size) / (2 * hidden_size) ** 0.5)
        self.bias = nn.Parameter(torch.randn(hidden_size) / 4)

    def start(self, x: Tensor, batch: int) -> Any:
        return x.new_zeros(1, batch, self.hidden_size)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h = (x @ self.weight_ih.T + state[0] @ self.weight_hh.T + self.bias).relu()
        return h, h[None]


class IndRnn(Stepped):
    """Two layers of units that each see only themselves; the state is a list."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.layers = nn.ModuleList(nn.Linear(size, hidden_size) for size in (input_size, hidden_size))
        self.u = nn.Parameter(torch.rand(2, hidden_size))

    def start(self, x: Tensor, batch: int) -> Any:
        return [x.new_zeros(batch, self.hidden_size) for _ in self.layers]

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        hs = []
        for layer, u, h in zip(self.layers, self.u, state, strict=True):
            x = (layer(x) + u * h).relu()
            hs.append(x)
        return x, hs


class EchoState(Stepped):
    """A leaky reservoir that is not trained, and a read-out that is."""

    reservoir: Tensor
    entry: Tensor

    def __init__(self, input_size: int, hidden_size: int, leak: float = 0.25) -> None:
        super().__init__()
        self.hidden_size, self.leak = hidden_size, leak
        self.register_buffer("reservoir", torch.randn(hidden_size, hidden_size) * 0.9 / hidden_size**0.5)
        self.register_buffer("entry", torch.rand(input_size, hidden_size) - 0.5)
        self.readout = nn.Linear(hidden_size, hidden_size)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h = (1 - self.leak) * state + self.leak * (x @ self.entry + state @ self.reservoir).tanh()
        return self.readout(h), h


class MultiTimescale(Stepped):
    """Fast units and slow ones that see each other; the state is nested."""

    slow_rate: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.fast = nn.Linear(input_size + 2 * hidden_size, hidden_size)
        self.slow = nn.Linear(2 * hidden_size, hidden_size)
        self.register_buffer("slow_rate", torch.tensor(0.125))

    def start(self, x: Tensor, batch: int) -> Any:
        zeros = x.new_zeros(batch, self.hidden_size)
        return {"fast": zeros, "slow": (zeros, [zeros.clone()])}

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        fast, (slow, (trace,)) = state["fast"], state["slow"]
        fast = self.fast(torch.cat([x, fast, slow], -1)).tanh()
        slow = slow + self.slow_rate * (self.slow(torch.cat([fast, slow], -1)).tanh() - slow)
        trace = 0.75 * trace + 0.25 * fast
        return fast + slow + trace, {"fast": fast, "slow": (slow, [trace])}


class Clockwork(Stepped):
    """Units with periods 1, 2 and 4; the state is h and a count of steps, which is a Python number."""

    periods: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.cell = nn.Linear(input_size + hidden_size, hidden_size)
        self.register_buffer("periods", 2 ** (torch.arange(hidden_size) % 3))

    def start(self, x: Tensor, batch: int) -> Any:
        return x.new_zeros(batch, self.hidden_size), 0

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h, count = state
        h = torch.where(count % self.periods == 0, self.cell(torch.cat([x, h], -1)).tanh(), h)
        return h, (h, count + 1)


class Timed(NamedTuple):
    h: Tensor
    c: Tensor
    time: Tensor


class PhasedLstm(Stepped):
    """An LSTM cell whose units open by turns; each item counts its own steps."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.cell = nn.LSTMCell(input_size, hidden_size)
        self.period = nn.Parameter(3 + 5 * torch.rand(hidden_size))
        self.shift = nn.Parameter(torch.rand(hidden_size))

    def start(self, x: Tensor, batch: int) -> Any:
        zeros = x.new_zeros(batch, self.hidden_size)
        return Timed(zeros, zeros, torch.zeros(batch, dtype=torch.long, device=x.device))

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        turns = state.time[:, None].to(x.dtype) / self.period + self.shift
        is_open = 0.5 + 0.5 * torch.cos(2 * math.pi * turns)
        h, c = self.cell(x, (state.h, state.c))
        h, c = is_open * h + (1 - is_open) * state.h, is_open * c + (1 - is_open) * state.c
        return h, Timed(h, c, state.time + 1)


class Legendre(Stepped):
    """The Legendre memory unit: a fixed linear memory of order 4 besides h."""

    A: Tensor
    B: Tensor

    def __init__(self, input_size: int, hidden_size: int, order: int = 4, window: float = 12.0) -> None:
        super().__init__()
        self.hidden_size, self.order = hidden_size, order
        self.write = nn.Linear(input_size, 1)
        self.read = nn.Linear(input_size + hidden_size + order, hidden_size)
        q = torch.arange(order, dtype=torch.float64)
        i, j = q[:, None], q[None]
        a = (2 * i + 1) * torch.where(i < j, torch.tensor(-1.0), (-1.0) ** (i - j + 1)) / window
        b = (2 * q + 1) * (-1.0) ** q / window
        self.register_buffer("A", torch.linalg.matrix_exp(a).float())
        self.register_buffer("B", b.float())

    def start(self, x: Tensor, batch: int) -> Any:
        return x.new_zeros(batch, self.hidden_size), x.new_zeros(batch, self.order)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h, memory = state
        memory = memory @ self.A.T + self.write(x) * self.B
        h = self.read(torch.cat([x, h, memory], -1)).tanh()
        return h, (h, memory)


# Linear recurrences.


class Lru(Stepped):
    """The linear recurrent unit: a diagonal of complex numbers; the state is complex, the parameters are real."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.nu = nn.Parameter(torch.randn(hidden_size) - 1)
        self.theta = nn.Parameter(3 * torch.rand(hidden_size))
        self.entry = nn.Linear(input_size, 2 * hidden_size, bias=False)
        self.exit = nn.Linear(2 * hidden_size, hidden_size)
        self.skip = nn.Linear(input_size, hidden_size)

    def start(self, x: Tensor, batch: int) -> Any:
        zeros = x.new_zeros(batch, self.hidden_size)
        return torch.complex(zeros, zeros)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        size = torch.exp(-torch.exp(self.nu))
        real, imaginary = self.entry(x).chunk(2, -1)
        drive = (1 - size**2).sqrt() * torch.complex(real, imaginary)
        state = torch.polar(size, self.theta) * state + drive
        return self.exit(torch.cat([state.real, state.imag], -1)) + self.skip(x), state


class StateSpace(nn.Module):
    """A real diagonal state space, computed for all steps at once by its powers; the state is (N, H)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.rate = nn.Parameter(torch.randn(hidden_size))
        self.B = nn.Linear(input_size, hidden_size, bias=False)
        self.C = nn.Linear(hidden_size, hidden_size)
        self.D = nn.Linear(input_size, hidden_size, bias=False)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        length, batch, _ = x.shape
        if state is None:
            state = x.new_zeros(batch, self.hidden_size)
        steps = torch.arange(length, device=x.device)
        distance = steps[:, None] - steps
        rate = -F.softplus(self.rate)
        kernel = torch.exp(distance.clamp(min=0)[..., None] * rate) * (distance >= 0)[..., None]
        h = torch.einsum("tsh,snh->tnh", kernel, self.B(x))
        h = h + torch.exp((steps[:, None] + 1) * rate)[:, None] * state
        return self.C(F.gelu(h)) + self.D(x), h[-1]


class Selective(nn.Module):
    """As Mamba: a causal convolution before a state space whose rates depend on x. The state has both."""

    def __init__(self, input_size: int, hidden_size: int, size: int = 3, width: int = 4) -> None:
        super().__init__()
        self.hidden_size, self.size, self.width = hidden_size, size, width
        self.entry = nn.Linear(input_size, 2 * hidden_size)
        self.conv = nn.Conv1d(hidden_size, hidden_size, width, groups=hidden_size)
        self.delta = nn.Linear(hidden_size, hidden_size)
        self.bc = nn.Linear(hidden_size, 2 * size)
        self.log_a = nn.Parameter(torch.log(torch.arange(1.0, size + 1)).repeat(hidden_size, 1))
        self.exit = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        length, batch, _ = x.shape
        if state is None:
            conv = x.new_zeros(batch, self.hidden_size, self.width - 1)
            state = {"conv": conv, "ssm": x.new_zeros(batch, self.hidden_size, self.size)}
        u, gate = self.entry(x).chunk(2, -1)
        u = torch.cat([state["conv"], u.permute(1, 2, 0)], -1)
        tail = u[..., length:]
        u = F.silu(self.conv(u)).permute(2, 0, 1)
        delta, (b, c) = F.softplus(self.delta(u)), self.bc(u).chunk(2, -1)
        s, ys = state["ssm"], []
        for t in range(length):
            s = torch.exp(-delta[t, ..., None] * self.log_a.exp()) * s + (delta[t] * u[t])[..., None] * b[t][:, None]
            ys.append((s * c[t][:, None]).sum(-1))
        return self.exit(torch.stack(ys) * F.silu(gate)), {"conv": tail, "ssm": s}


class Qrnn(nn.Module):
    """A quasi-recurrent network: gates from two steps of x, then a pooling; carries the last x, and c."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.now = nn.Linear(input_size, 3 * hidden_size)
        self.before = nn.Linear(input_size, 3 * hidden_size, bias=False)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        _, batch, features = x.shape
        if state is None:
            state = {"x": x.new_zeros(batch, features), "c": x.new_zeros(batch, self.hidden_size)}
        shifted = torch.cat([state["x"][None], x])
        z, f, o = (self.now(x) + self.before(shifted[:-1])).chunk(3, -1)
        c, ys = state["c"], []
        for value, forget, out in zip(z.tanh(), f.sigmoid(), o.sigmoid(), strict=True):
            c = forget * c + (1 - forget) * value
            ys.append(out * c)
        return torch.stack(ys), {"x": shifted[-1], "c": c}


class CausalConv(nn.Module):
    """A causal convolution, which carries its last K - 1 inputs: (N, H_in, K - 1)."""

    def __init__(self, input_size: int, hidden_size: int, width: int = 4) -> None:
        super().__init__()
        self.width = width
        self.conv = nn.Conv1d(input_size, hidden_size, width)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        length, batch, features = x.shape
        if state is None:
            state = x.new_zeros(batch, features, self.width - 1)
        x = torch.cat([state, x.permute(1, 2, 0)], -1)
        return self.conv(x).tanh().permute(2, 0, 1), x[..., length:]


class DilatedConvs(nn.Module):
    """A stack of dilated causal convolutions with a residual; its state is a tuple of buffers of different lengths."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.entry = nn.Linear(input_size, hidden_size)
        self.convs = nn.ModuleList(nn.Conv1d(hidden_size, hidden_size, 2, dilation=2**k) for k in range(3))

    def forward(self, x: Tensor, state: Any = None) -> Any:
        length, batch, _ = x.shape
        if state is None:
            state = tuple(x.new_zeros(batch, self.hidden_size, 2**k) for k in range(3))
        x = self.entry(x).permute(1, 2, 0)
        tails = []
        for conv, buffer in zip(self.convs, state, strict=True):
            longer = torch.cat([buffer, x], -1)
            tails.append(longer[..., length:])
            x = x + F.relu(conv(longer))
        return x.permute(2, 0, 1), tuple(tails)


# Attention, and memories that are matrices.


class LinearAttention(Stepped):
    """The state is the sum of keys and values, S: (N, H, H), and the sum of keys, z: (N, H)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.qkv = nn.Linear(input_size, 3 * hidden_size)

    def start(self, x: Tensor, batch: int) -> Any:
        return x.new_zeros(batch, self.hidden_size, self.hidden_size), x.new_zeros(batch, self.hidden_size)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        q, k, v = self.qkv(x).chunk(3, -1)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        s = state[0] + k[:, :, None] * v[:, None]
        z = state[1] + k
        return torch.einsum("nk,nkv->nv", q, s) / ((q * z).sum(-1, keepdim=True) + 1e-6), (s, z)


class DeltaRule(Stepped):
    """Fast weights: each step corrects what the matrix S: (N, H, H) says of its key."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.qkv = nn.Linear(input_size, 3 * hidden_size)
        self.beta = nn.Linear(input_size, 1)

    def start(self, x: Tensor, batch: int) -> Any:
        return x.new_zeros(batch, self.hidden_size, self.hidden_size)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        q, k, v = self.qkv(x).chunk(3, -1)
        q, k = q.softmax(-1), k.softmax(-1)
        error = v - torch.einsum("nkv,nk->nv", state, k)
        state = state + self.beta(x).sigmoid()[..., None] * k[:, :, None] * error[:, None]
        return torch.einsum("nkv,nk->nv", state, q), state


class Mlstm(Stepped):
    """The matrix LSTM of xLSTM: exponential gates with a stabiliser m, which moves no output."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.qkvo = nn.Linear(input_size, 4 * hidden_size)
        self.gates = nn.Linear(input_size, 2)

    def start(self, x: Tensor, batch: int) -> Any:
        size = self.hidden_size
        return {"C": x.new_zeros(batch, size, size), "n": x.new_zeros(batch, size), "m": x.new_zeros(batch, 1)}

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        q, k, v, o = self.qkvo(x).chunk(4, -1)
        k = k / self.hidden_size**0.5
        log_i, f = self.gates(x).chunk(2, -1)
        log_f = F.logsigmoid(f)
        m = torch.maximum(log_f + state["m"], log_i)
        i, f = torch.exp(log_i - m), torch.exp(log_f + state["m"] - m)
        c = f[..., None] * state["C"] + i[..., None] * v[:, :, None] * k[:, None]
        n = f * state["n"] + i * k
        scale = torch.maximum((n * q).sum(-1, keepdim=True).abs(), torch.exp(-m))
        return o.sigmoid() * torch.einsum("nvk,nk->nv", c, q) / scale, {"C": c, "n": n, "m": m}


class Rwkv(Stepped):
    """The time mixing of RWKV: a weighted mean with a bonus for now; carries the last x, sum, weight and exponent."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size, self.input_size = hidden_size, input_size
        self.mix = nn.Parameter(torch.rand(3, input_size))
        self.key = nn.Linear(input_size, hidden_size, bias=False)
        self.value = nn.Linear(input_size, hidden_size, bias=False)
        self.receptance = nn.Linear(input_size, hidden_size, bias=False)
        self.decay = nn.Parameter(torch.randn(hidden_size))
        self.bonus = nn.Parameter(torch.randn(hidden_size))

    def start(self, x: Tensor, batch: int) -> Any:
        return (x.new_zeros(batch, self.input_size), *(x.new_zeros(batch, self.hidden_size) for _ in range(3)))

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        last, total, weight, exponent = state
        of_k, of_v, of_r = (x * mix + last * (1 - mix) for mix in self.mix)
        k, v, r = self.key(of_k), self.value(of_v), self.receptance(of_r).sigmoid()
        top = torch.maximum(exponent, self.bonus + k)
        old, now = torch.exp(exponent - top), torch.exp(self.bonus + k - top)
        y = r * (old * total + now * v) / (old * weight + now)
        faded = exponent - torch.exp(self.decay)
        top = torch.maximum(faded, k)
        old, now = torch.exp(faded - top), torch.exp(k - top)
        return y, (x, old * total + now * v, old * weight + now, top)


class Retention(nn.Module):
    """Retention for all steps at once, with rotated queries and keys; the state is a matrix and a position."""

    frequencies: Tensor

    def __init__(self, input_size: int, hidden_size: int, gamma: float = 0.9375) -> None:
        super().__init__()
        self.hidden_size, self.gamma = hidden_size, gamma
        self.pairs = (hidden_size + 1) // 2
        self.q = nn.Linear(input_size, 2 * self.pairs)
        self.k = nn.Linear(input_size, 2 * self.pairs)
        self.v = nn.Linear(input_size, hidden_size)
        self.register_buffer("frequencies", 0.5 ** torch.arange(1.0, self.pairs + 1))

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        angle = (positions[:, None].to(x.dtype) * self.frequencies)[:, None]
        even, odd = x.chunk(2, -1)
        return torch.cat([even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos()], -1)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        length, batch, _ = x.shape
        if state is None:
            zeros = x.new_zeros(batch, 2 * self.pairs, self.hidden_size)
            state = zeros, torch.zeros((), dtype=torch.long, device=x.device)
        memory, position = state
        steps = torch.arange(length, device=x.device)
        q, k, v = self.rotate(self.q(x), position + steps), self.rotate(self.k(x), position + steps), self.v(x)
        distance = steps[:, None] - steps
        decay = (self.gamma ** distance.clamp(min=0).to(x.dtype)) * (distance >= 0)
        fade = self.gamma ** (steps + 1).to(x.dtype)
        y = torch.einsum("tnk,snk,ts,snv->tnv", q, k, decay, v) + torch.einsum("tnk,nkv,t->tnv", q, memory, fade)
        memory = fade[-1] * memory + torch.einsum("snk,snv,s->nkv", k, v, decay[-1])
        return y, (memory, position + length)


class CausalAttention(nn.Module):
    """Causal attention with a cache that grows: keys and values (N, T, H), and the position as a Python number."""

    frequencies: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.entry = nn.Linear(input_size, hidden_size)
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.register_buffer("frequencies", 0.5 ** torch.arange(1.0, hidden_size + 1))

    def allowed(self, length: int, position: int, total: int) -> Tensor:
        """Which of the keys each query sees: (L, T)."""
        return torch.ones(length, total, dtype=torch.bool).tril(position)

    def start(self, x: Tensor, batch: int) -> Any:
        return {
            "k": x.new_zeros(batch, 0, self.hidden_size),
            "v": x.new_zeros(batch, 0, self.hidden_size),
            "position": 0,
        }

    def forward(self, x: Tensor, state: Any = None) -> Any:
        length, batch, _ = x.shape
        if state is None:
            state = self.start(x, batch)
        position = state["position"]
        times = torch.arange(position, position + length, device=x.device)
        x = self.entry(x) + torch.sin(times[:, None, None].to(x.dtype) * self.frequencies)
        q, k, v = self.qkv(x.transpose(0, 1)).chunk(3, -1)
        k, v = torch.cat([state["k"], k], 1), torch.cat([state["v"], v], 1)
        scores = q @ k.transpose(1, 2) / self.hidden_size**0.5
        seen = self.allowed(length, position, k.shape[1]).to(x.device)
        y = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v
        return y.transpose(0, 1), {"k": k, "v": v, "position": position + length}


# Stacks, directions, and other ways to be called.


class ResidualStack(Stepped):
    """Layers with LayerNorm and a residual; the state is a list of pairs."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 3) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.entry = nn.Linear(input_size, hidden_size)
        self.cells = nn.ModuleList(nn.LSTMCell(hidden_size, hidden_size) for _ in range(num_layers))
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_size) for _ in range(num_layers))

    def start(self, x: Tensor, batch: int) -> Any:
        return [(x.new_zeros(batch, self.hidden_size), x.new_zeros(batch, self.hidden_size)) for _ in self.cells]

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        x, after = self.entry(x), []
        for cell, norm, pair in zip(self.cells, self.norms, state, strict=True):
            h, c = cell(norm(x), pair)
            x = x + h
            after.append((h, c))
        return x, after


class StackedGru(nn.Module):
    """Two layers with dropout between them in training alone, and a batch_first that leaves the state (2, N, H)."""

    def __init__(self, input_size: int, hidden_size: int, batch_first: bool = False, dropout: float = 0.5) -> None:
        super().__init__()
        self.hidden_size, self.batch_first = hidden_size, batch_first
        self.cells = nn.ModuleList(nn.GRUCell(size, hidden_size) for size in (input_size, hidden_size))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        if self.batch_first:
            x = x.transpose(0, 1)
        _, batch, _ = x.shape
        if state is None:
            state = x.new_zeros(len(self.cells), batch, self.hidden_size)
        last = []
        for k, h in enumerate(state):
            x, h = self.layer(k, x if k == 0 else self.dropout(x), h)
            last.append(h)
        return x.transpose(0, 1) if self.batch_first else x, torch.stack(last)

    def layer(self, k: int, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        ys = []
        for step in x:
            h = self.cells[k](step, h)
            ys.append(h)
        return torch.stack(ys), h


class Bidirectional(nn.Module):
    """Two walks, of which one starts at the end: y (L, N, 2H), h (2, N, H)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size, self.bidirectional = hidden_size, True
        self.cells = nn.ModuleList(nn.RNNCell(input_size, hidden_size) for _ in range(2))

    def forward(self, x: Tensor, state: Any = None) -> Any:
        _, batch, _ = x.shape
        if state is None:
            state = x.new_zeros(2, batch, self.hidden_size)
        ahead, forwards = self.walk(self.cells[0], x, state[0])
        back, backwards = self.walk(self.cells[1], x.flip(0), state[1])
        return torch.cat([ahead, back.flip(0)], -1), torch.stack([forwards, backwards])

    def walk(self, cell: nn.Module, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        ys = []
        for step in x:
            h = cell(step, h)
            ys.append(h)
        return torch.stack(ys), h


class StateAlone(Stepped):
    """An encoder: returns the last h (N, H), and nothing else."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.cell = nn.GRUCell(input_size, hidden_size)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h = self.cell(x, state)
        return h, h

    def forward(self, x: Tensor, state: Any = None) -> Any:
        _, h = super().forward(x, state)
        return h


class OutputAlone(Stepped):
    """A tagger: returns y (L, N, H), and takes no state."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.cell = nn.RNNCell(input_size, hidden_size)
        self.head = nn.Linear(hidden_size, hidden_size)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h = self.cell(x, state)
        return self.head(h), h

    def forward(self, x: Tensor) -> Any:  # type: ignore[override]
        y, _ = super().forward(x)
        return y


class WithLengths(nn.Module):
    """Takes lengths (N,): y is zero after the end of an item, and h (1, N, H) is that of its last step."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.cell = nn.GRUCell(input_size, hidden_size)

    def within(self, t: int, lengths: Tensor) -> Tensor:
        return t < lengths

    def forward(self, x: Tensor, state: Any = None, lengths: Any = None) -> Any:
        length, batch, _ = x.shape
        h = x.new_zeros(batch, self.hidden_size) if state is None else state[0]
        ends = torch.full((batch,), length) if lengths is None else torch.as_tensor(lengths)
        ys = []
        for t, step in enumerate(x):
            inside = self.within(t, ends.to(x.device))[:, None]
            after = self.cell(step, h)
            h = torch.where(inside, after, h)
            ys.append(torch.where(inside, after, 0))
        return torch.stack(ys), h[None]


class WithMask(nn.Module):
    """Takes x (N, L, H_in) and a mask (N, L) that is true at real steps; c and h stand still at others."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.cell = nn.LSTMCell(input_size, hidden_size)

    def real(self, x: Tensor, mask: Any) -> Tensor:
        """Where the steps are real: (N, L)."""
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask.bool()

    def forward(self, x: Tensor, state: Any = None, mask: Any = None) -> Any:
        batch, length, _ = x.shape
        h, c = state if state is not None else (x.new_zeros(batch, self.hidden_size),) * 2
        real = self.real(x, mask)
        ys = []
        for t in range(length):
            inside = real[:, t, None]
            after, cell = self.cell(x[:, t], (h, c))
            h, c = torch.where(inside, after, h), torch.where(inside, cell, c)
            ys.append(torch.where(inside, after, 0))
        return torch.stack(ys, 1), (h, c)


class WithPaddingMask(WithMask):
    """Takes a mask that is true at the padding, as torch's key_padding_mask is."""

    def forward(self, x: Tensor, state: Any = None, padding_mask: Any = None) -> Any:
        return super().forward(x, state, None if padding_mask is None else ~padding_mask.bool())


class TakesPacked(nn.Module):
    """Walks over a PackedSequence by itself, in whatever order its items stand; takes x (L, N, H_in) too."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.cell = nn.RNNCell(input_size, hidden_size)

    def forward(self, x: Any, state: Any = None) -> Any:
        if not isinstance(x, PackedSequence):
            length, batch, features = x.shape
            y, h = self.walk(x.reshape(length * batch, features), [batch] * length, self.entered(x, batch, state))
            return y.reshape(length, batch, -1), h[None]
        sizes = x.batch_sizes.tolist()
        h = self.entered(x.data, sizes[0], state)
        if x.sorted_indices is not None:
            h = h[x.sorted_indices]
        y, h = self.walk(x.data, sizes, h)
        return x._replace(data=y), self.in_order(h, x.unsorted_indices)[None]

    def entered(self, x: Tensor, batch: int, state: Any) -> Tensor:
        given: Tensor = x.new_zeros(batch, self.hidden_size) if state is None else state[0]
        return given

    def in_order(self, h: Tensor, order: Tensor | None) -> Tensor:
        return h if order is None else h[order]

    def walk(self, data: Tensor, sizes: list[int], h: Tensor) -> tuple[Tensor, Tensor]:
        ys, ended = [], []
        for step in torch.split(data, sizes):
            ended.append(h[len(step) :])
            h = self.cell(step, h[: len(step)])
            ys.append(h)
        return torch.cat(ys), torch.cat([h, *reversed(ended)])


RIGHT: tuple[Checked, ...] = (
    Checked("layer-norm-lstm", "LSTM with LayerNorm, state (h, c) with a layer axis", LayerNormLstm),
    Checked("peephole-lstm", "LSTM with peepholes, batch first by nature", PeepholeLstm, batch_first=True),
    Checked(
        "coupled-lstm",
        "LSTM with coupled gates, unbatched x and either layout",
        CoupledLstm,
        applies=(*CARRIED, "unbatched", "batch_first"),
    ),
    Checked("minimal-gated", "minimal gated unit, state (1, N, H)", MinimalGated),
    Checked("sru", "simple recurrent unit, state (N, H)", Sru),
    Checked("missing-gru", "GRU that counts the steps since a value was seen, namedtuple", MissingGru),
    Checked("learned-start", "GRU that starts from a parameter", LearnedStart),
    Checked("init-hidden", "LSTM that says by a method what it starts from", InitHidden),
    Checked("relu-elman", "Elman network with relu", ReluElman),
    Checked("ind-rnn", "two layers of independent units, list", IndRnn),
    Checked("echo-state", "leaky reservoir in buffers with a read-out", EchoState),
    Checked("multi-timescale", "fast and slow units, nested state", MultiTimescale),
    Checked("clockwork", "units with periods, step count as a Python number", Clockwork),
    Checked("phased-lstm", "LSTM gated by the position of each item, namedtuple", PhasedLstm),
    Checked("legendre", "Legendre memory unit, buffers", Legendre),
    Checked("lru", "linear recurrent unit, complex state", Lru),
    Checked("state-space", "real diagonal state space, all steps at once", StateSpace),
    Checked("selective", "selective state space behind a convolution, dict", Selective),
    Checked("qrnn", "quasi-recurrent network, carries the last x", Qrnn),
    Checked("causal-conv", "causal convolution with a carried buffer", CausalConv),
    Checked("dilated-convs", "dilated causal convolutions, buffers of three lengths", DilatedConvs),
    Checked("linear-attention", "linear attention with its normaliser", LinearAttention),
    Checked("delta-rule", "fast weights with the delta rule, state (N, H, H)", DeltaRule),
    Checked("mlstm", "matrix LSTM with a stabiliser, dict", Mlstm),
    Checked("rwkv", "time mixing of RWKV, tuple of four", Rwkv),
    Checked("retention", "retention with a position that has no axes", Retention),
    Checked("causal-attention", "causal attention with a growing cache and a Python position", CausalAttention),
    Checked("residual-stack", "LSTM layers with a residual, list of tuples", ResidualStack),
    Checked(
        "stacked-gru",
        "two layers, dropout in training, batch_first argument",
        StackedGru,
        applies=(*CARRIED, "batch_first"),
    ),
    Checked("bidirectional", "both directions", Bidirectional, applies=(*ALWAYS, "zero_state")),
    Checked("state-alone", "encoder that returns its state alone", StateAlone, applies=ALWAYS, gives="state"),
    Checked("output-alone", "tagger that returns y alone", OutputAlone, applies=(*ALWAYS, "causality"), gives="y"),
    Checked(
        "with-lengths",
        "GRU that takes lengths",
        WithLengths,
        lengths=True,
        applies=(*CARRIED, "padding"),
        argument="lengths",
    ),
    Checked(
        "with-mask",
        "LSTM that takes a mask of real steps, batch first",
        WithMask,
        batch_first=True,
        lengths=True,
        applies=(*CARRIED, "padding"),
        argument="mask",
    ),
    Checked(
        "with-padding-mask",
        "LSTM that takes a mask of the padding, batch first",
        WithPaddingMask,
        batch_first=True,
        lengths=True,
        applies=(*CARRIED, "padding"),
        argument="padding_mask",
    ),
    Checked(
        "takes-packed",
        "RNN that walks over a PackedSequence itself",
        TakesPacked,
        lengths=True,
        applies=(*CARRIED, "packed"),
        argument="packed",
    ),
)
