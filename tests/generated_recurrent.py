"""Right recurrent networks drawn at random from parts: what a check must never call broken.

`generated(seed)` draws one, with the sizes and the dtype to check it at. The same seed gives the same network.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "softsign": F.softsign,
    "gelu": F.gelu,
}

UNBOUNDED = ("relu", "gelu")
"""With these a recurrent gain over 1 grows without end, and a long sequence would overflow."""

DTYPES = {torch.float32: 60, torch.float64: 30, torch.bfloat16: 5, torch.float16: 5}
"""How often each is drawn, out of 100."""

FORMS = ("flat", "nested", "list", "dict", "namedtuple")
"""States that every network can have."""

POSITIONS = ("number", "tensor", "each item")
"""A counter of steps: a Python number, a tensor without axes, a tensor (N,)."""


@dataclass(frozen=True)
class Plan:
    """What a network is made of.

    Args:
        cells: the kind of each layer. gain: the size of its weights. activation: where a cell has a choice.
        front: the width of a causal convolution before the layers, 0 for none. position: a counter, "" for none.
        form: how the state comes in and goes out: one of FORMS, or "stacked" (K, N, H), a pair of those, "one" tensor.
    """

    input_size: int
    hidden_size: int
    cells: tuple[str, ...]
    gain: float
    activation: str
    residual: bool
    norm: bool
    head: bool
    front: int
    position: str
    form: str
    batch_first: bool

    @property
    def words(self) -> str:
        parts = (
            "-".join(self.cells),
            f"gain {self.gain:.2g}",
            self.activation,
            "residual" if self.residual else "",
            "LayerNorm" if self.norm else "",
            "head" if self.head else "",
            f"convolution over {self.front}" if self.front else "",
            f"position as {self.position}" if self.position else "",
            f"state {self.form}",
            "batch first" if self.batch_first else "",
        )
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Generated:
    """A network in evaluation mode and in its dtype, and the sizes to check it at; words says what it is."""

    module: nn.Module
    batch_first: bool
    L: int
    N: int
    H_in: int
    dtype: torch.dtype
    words: str


class Cell(nn.Module):
    """One step of a layer: a tuple of tensors, N items first, is its state, and the first of them h if it has one."""

    def __init__(self, plan: Plan, input_size: int) -> None:
        super().__init__()
        self.size, self.activation = plan.hidden_size, ACTIVATIONS[plan.activation]
        self.gain, self.bounded = plan.gain, plan.activation not in UNBOUNDED
        self.input_size = input_size
        self.build()

    def build(self) -> None:
        raise NotImplementedError

    def start(self, x: Tensor, batch: int) -> tuple[Tensor, ...]:
        return (x.new_zeros(batch, self.size),)

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        raise NotImplementedError

    def weights(self, rows: int, columns: int) -> nn.Parameter:
        return nn.Parameter(torch.randn(rows, columns) * self.gain / columns**0.5)

    def recurrent(self, rows: int) -> nn.Parameter:
        """Weights that let nothing grow without end: their norm is at most 0.9 if the activation has no bound."""
        weights = self.weights(rows, self.size)
        if not self.bounded:
            weights.data *= min(1.0, 0.9 / float(torch.linalg.matrix_norm(weights.data, 2)))
        return weights

    def bias(self, count: int) -> nn.Parameter:
        """Without one, relu of a dead layer would stand at its kink, where no gradient is right."""
        return nn.Parameter(torch.randn(count * self.size) / 2)

    def gates(self, count: int) -> None:
        self.W = self.weights(count * self.size, self.input_size)
        self.U = self.recurrent(count * self.size)
        self.b = self.bias(count)

    def sums(self, x: Tensor, h: Tensor) -> Tensor:
        return F.linear(x, self.W, self.b) + F.linear(h, self.U)


class Elman(Cell):
    def build(self) -> None:
        self.gates(1)

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h = self.activation(self.sums(x, state[0]))
        return h, (h,)


class Lstm(Cell):
    def build(self) -> None:
        self.gates(4)

    def start(self, x: Tensor, batch: int) -> tuple[Tensor, ...]:
        return x.new_zeros(batch, self.size), x.new_zeros(batch, self.size)

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        i, f, g, o = self.sums(x, state[0]).chunk(4, -1)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return h, (h, c)


class Gru(Cell):
    def build(self) -> None:
        self.gates(3)

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h = state[0]
        of_x, of_h = F.linear(x, self.W, self.b), F.linear(h, self.U)
        r, z = (of_x + of_h)[..., : 2 * self.size].sigmoid().chunk(2, -1)
        n = (of_x[..., 2 * self.size :] + r * of_h[..., 2 * self.size :]).tanh()
        h = n + z * (h - n)
        return h, (h,)


class Minimal(Cell):
    def build(self) -> None:
        self.gates(2)

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h = state[0]
        f, g = self.sums(x, h).chunk(2, -1)
        f = f.sigmoid()
        h = (1 - f) * h + f * self.activation(g)
        return h, (h,)


class Simple(Cell):
    """As SRU: matrices act on x alone."""

    def build(self) -> None:
        self.W = self.weights(4 * self.size, self.input_size)
        self.b = self.bias(4)
        self.v = nn.Parameter(torch.randn(2, self.size) * self.gain / 2)

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        c = state[0]
        value, f, r, skip = F.linear(x, self.W, self.b).chunk(4, -1)
        f, r = (f + self.v[0] * c).sigmoid(), (r + self.v[1] * c).sigmoid()
        c = f * c + (1 - f) * value
        return r * self.activation(c) + (1 - r) * skip, (c,)


class Independent(Cell):
    """Each unit sees itself alone."""

    def build(self) -> None:
        self.W = self.weights(self.size, self.input_size)
        self.b = self.bias(1)
        self.u = nn.Parameter(2 * torch.rand(self.size) - 1)

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h = self.activation(F.linear(x, self.W, self.b) + self.u * state[0])
        return h, (h,)


class Leaky(Cell):
    """A reservoir in buffers, with a read-out."""

    reservoir: Tensor
    entry: Tensor
    leak: Tensor

    def build(self) -> None:
        self.register_buffer("reservoir", self.recurrent(self.size).detach())
        self.register_buffer("entry", self.weights(self.size, self.input_size).detach())
        self.out = self.weights(self.size, self.size)
        self.b = self.bias(1)
        self.register_buffer("leak", 0.1 + 0.8 * torch.rand(()))

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        drive = self.activation(F.linear(x, self.entry, self.b) + F.linear(state[0], self.reservoir))
        h = (1 - self.leak) * state[0] + self.leak * drive
        return F.linear(h, self.out), (h,)


class Diagonal(Cell):
    """A linear recurrence without an activation inside."""

    def build(self) -> None:
        self.rate = nn.Parameter(torch.randn(self.size))
        self.B = self.weights(self.size, self.input_size)
        self.C = self.weights(self.size, self.size)
        self.b = self.bias(1)

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h = torch.exp(-F.softplus(self.rate)) * state[0] + F.linear(x, self.B)
        return self.activation(F.linear(h, self.C, self.b)), (h,)


class Memory(Cell):
    """Linear attention: a fading matrix (N, k, H), read with a normaliser (N, k)."""

    def build(self) -> None:
        self.keys = min(self.size, 8)
        self.qk = self.weights(2 * self.keys, self.input_size)
        self.v = self.weights(self.size, self.input_size)
        self.fade = nn.Parameter(2 + torch.randn(()))

    def start(self, x: Tensor, batch: int) -> tuple[Tensor, ...]:
        return x.new_zeros(batch, self.keys, self.size), x.new_zeros(batch, self.keys)

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        q, k = (F.elu(F.linear(x, self.qk)) + 1).chunk(2, -1)
        fade = self.fade.sigmoid()
        s = fade * state[0] + k[:, :, None] * F.linear(x, self.v)[:, None]
        z = fade * state[1] + k
        y = (q[:, :, None] * s).sum(1) / (1 + (q * z).sum(-1, keepdim=True))
        return y, (s, z)


CELLS: dict[str, type[Cell]] = {
    "elman": Elman,
    "lstm": Lstm,
    "gru": Gru,
    "minimal": Minimal,
    "sru": Simple,
    "independent": Independent,
    "leaky": Leaky,
    "diagonal": Diagonal,
    "memory": Memory,
}

STATES = {"lstm": 2, "memory": 2}
"""How many tensors a cell's state has, where they are more than one."""


class State(NamedTuple):
    """The form "namedtuple", and what a network works with. front is (N, H, width - 1); none of a part is ()."""

    layers: Any
    front: Any
    position: Any


class Network(nn.Module):
    """A network of a Plan. x: (L, N, H_in), or (N, L, H_in) with batch_first; y has the same layout."""

    frequencies: Tensor

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan, self.batch_first, self.hidden_size = plan, plan.batch_first, plan.hidden_size
        size = plan.hidden_size
        has_entry = bool(plan.residual or plan.front or plan.position)
        self.entry = nn.Linear(plan.input_size, size) if has_entry else nn.Identity()
        self.conv = nn.Conv1d(size, size, plan.front, groups=size) if plan.front else nn.Identity()
        sizes = [size if has_entry else plan.input_size] + [size] * (len(plan.cells) - 1)
        self.cells = nn.ModuleList(CELLS[kind](plan, each) for kind, each in zip(plan.cells, sizes, strict=True))
        self.norms = nn.ModuleList(nn.LayerNorm(size) if plan.norm else nn.Identity() for _ in plan.cells)
        self.head = nn.Linear(size, size + 1) if plan.head else nn.Identity()
        self.register_buffer("frequencies", 0.5 ** torch.arange(1.0, size + 1))

    def forward(self, x: Tensor, state: Any = None) -> Any:
        if self.batch_first:
            x = x.transpose(0, 1)
        length, batch, _ = x.shape
        layers, front, position = self.start(x, batch) if state is None else self.entered(state)
        x = self.entry(x)
        if self.plan.front:
            longer = torch.cat([front, x.permute(1, 2, 0)], -1)
            x, front = self.conv(longer).permute(2, 0, 1), longer[..., length:]
        if self.plan.position:
            x, position = x + self.encoding(x, position, length), position + length
        after = []
        for cell, norm, before in zip(self.cells, self.norms, layers, strict=True):
            y, carried = self.walk(cell, x, before)
            x = norm(x + y if self.plan.residual else y)
            after.append(carried)
        y = self.head(x)
        return y.transpose(0, 1) if self.batch_first else y, self.left(State(after, front, position))

    def walk(self, cell: Any, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        ys = []
        for step in x:
            y, state = cell.step(step, state)
            ys.append(y)
        return torch.stack(ys), state

    def encoding(self, x: Tensor, position: Any, length: int) -> Tensor:
        """Sines of the positions: (L, N or 1, H)."""
        steps = torch.arange(length, device=x.device)[:, None] + position
        return torch.sin(steps[..., None].to(x.dtype) * self.frequencies)

    def start(self, x: Tensor, batch: int) -> State:
        layers: Any = [cell.start(x, batch) for cell in self.cells]  # type: ignore[operator]
        front = x.new_zeros(batch, self.hidden_size, self.plan.front - 1) if self.plan.front else ()
        position: Any = {
            "": (),
            "number": 0,
            "tensor": torch.zeros((), dtype=torch.long, device=x.device),
            "each item": torch.zeros(batch, dtype=torch.long, device=x.device),
        }[self.plan.position]
        return State(layers, front, position)

    def left(self, state: State) -> Any:
        """The state in the form of the plan."""
        layers, front, position = state
        extras = [each for each in (front, position) if not isinstance(each, tuple)]
        flat = [each for layer in layers for each in layer]
        if self.plan.form == "one":
            return flat[0]
        if self.plan.form == "stacked":
            return torch.stack(flat)
        if self.plan.form == "pair":
            return torch.stack(flat[::2]), torch.stack(flat[1::2])
        if self.plan.form == "flat":
            return (*flat, *extras)
        if self.plan.form == "nested":
            return (tuple(layers), tuple(extras)) if extras else tuple(layers)
        if self.plan.form == "list":
            return [*layers, *extras]
        if self.plan.form == "dict":
            parts = {"layers": layers, "front": front, "position": position}
            return {name: part for name, part in parts.items() if not isinstance(part, tuple)}
        return State(layers, front, position)

    def entered(self, given: Any) -> State:
        """What `left` gave, taken apart again."""
        form, counts = self.plan.form, [STATES.get(kind, 1) for kind in self.plan.cells]
        if form == "namedtuple":
            return State(*given)
        if form == "dict":
            return State(given["layers"], given.get("front", ()), given.get("position", ()))
        if form == "pair":
            return State(list(zip(*given, strict=True)), (), ())
        if form in ("one", "stacked"):
            return State([(each,) for each in ([given] if form == "one" else given)], (), ())
        extras: list[Any]
        if form == "nested":
            has_extras = bool(self.plan.front or self.plan.position)
            layers, extras = (list(given[0]), list(given[1])) if has_extras else (list(given), [])
        elif form == "list":
            layers, extras = list(given[: len(counts)]), list(given[len(counts) :])
        else:
            rest = list(given)
            layers = [tuple(rest.pop(0) for _ in range(count)) for count in counts]
            extras = rest
        front = extras.pop(0) if self.plan.front else ()
        return State(layers, front, extras.pop(0) if self.plan.position else ())


def log_uniform(draw: random.Random, lowest: int, highest: int) -> int:
    return round(math.exp(draw.uniform(math.log(lowest), math.log(highest))))


def plan_of(draw: random.Random) -> Plan:
    same = draw.random() < 0.5
    count = draw.choice((1, 1, 2, 2, 3))
    first = draw.choice(list(CELLS))
    cells = tuple(first if same else draw.choice(list(CELLS)) for _ in range(count))
    front = draw.choice((0, 0, 0, 2, 3, 4))
    position = draw.choice(("", "", "", *POSITIONS))
    forms = list(FORMS)
    if not front and not position:
        if all(kind not in STATES for kind in cells):
            forms += ["stacked"] * 3 + ["one"] * (3 if count == 1 else 0)
        elif set(cells) == {"lstm"}:
            forms += ["pair"] * 3
    return Plan(
        input_size=log_uniform(draw, 1, 64),
        hidden_size=log_uniform(draw, 1, 64),
        cells=cells,
        gain=math.exp(draw.uniform(math.log(0.1), math.log(3))),
        activation=draw.choice(list(ACTIVATIONS)),
        residual=draw.random() < 0.4,
        norm=draw.random() < 0.3,
        head=draw.random() < 0.4,
        front=front,
        position=position,
        form=draw.choice(forms),
        batch_first=draw.random() < 0.4,
    )


def generated(seed: int) -> Generated:
    """Draw a right network. The generator of torch is left as it was."""
    draw = random.Random(seed)
    plan = plan_of(draw)
    (dtype,) = draw.choices(list(DTYPES), list(DTYPES.values()))
    length, batch = log_uniform(draw, 1, 200), log_uniform(draw, 1, 16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Network(plan).to(dtype).eval()
    words = f"{plan.words}; L={length} N={batch} H_in={plan.input_size} H={plan.hidden_size} {str(dtype)[6:]}"
    return Generated(module, plan.batch_first, length, batch, plan.input_size, dtype, words)
