"""Recurrent networks that each break one relation at its root, as real code does: subjects of a check.

Most are a right network with one line changed. What else they break rests on that relation.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from right_networks import (
    RIGHT,
    CausalAttention,
    CausalConv,
    Checked,
    Clockwork,
    CoupledLstm,
    DeltaRule,
    EchoState,
    IndRnn,
    LayerNormLstm,
    MinimalGated,
    PeepholeLstm,
    PhasedLstm,
    Qrnn,
    ReluElman,
    Retention,
    Sru,
    StackedGru,
    Stepped,
    TakesPacked,
    Timed,
    WithLengths,
    WithMask,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

# repeatable


class NoiseInEval(MinimalGated):
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h, _ = super().step(x, state)
        h = h + 1e-4 * torch.randn_like(h)
        return h, h[None]


class AlwaysDrops(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.1)  # without training=self.training


class DropoutInEval(StackedGru):
    def __init__(self, input_size: int, hidden_size: int, batch_first: bool = False) -> None:
        super().__init__(input_size, hidden_size, batch_first)
        self.dropout = AlwaysDrops()  # type: ignore[assignment]


# stateless


class KeepsItsState(MinimalGated):
    """Goes on where the last call ended, if no state is given and the batch has the same size."""

    kept: Tensor | None = None

    def forward(self, x: Tensor, state: Any = None) -> Any:
        if state is None and self.kept is not None and self.kept.shape[1] == x.shape[1]:
            state = self.kept.to(x.dtype)
        y, state = super().forward(x, state)
        self.kept = state.detach()
        return y, state


class MovesItsMean(ReluElman):
    """Standardises x by a running mean that evaluation moves too."""

    mean: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.register_buffer("mean", torch.zeros(input_size))

    def forward(self, x: Tensor, state: Any = None) -> Any:
        y = super().forward(x - self.mean, state)
        self.mean = 0.99 * self.mean + 0.01 * x.detach().mean((0, 1))
        return y


class ReusesItsOutput(Sru):
    """Writes y of every call into the same memory where no gradient is asked for."""

    out: Tensor | None = None

    def forward(self, x: Tensor, state: Any = None) -> Any:
        y, state = super().forward(x, state)
        if torch.is_grad_enabled():
            return y, state
        if self.out is None or self.out.shape != y.shape or self.out.dtype != y.dtype:
            self.out = torch.empty_like(y)
        return self.out.copy_(y), state


# inputs_kept


class ShiftsInPlace(MinimalGated):
    """`contiguous` gives x itself where x is contiguous."""

    mean: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.register_buffer("mean", torch.randn(input_size))

    def forward(self, x: Tensor, state: Any = None) -> Any:
        x = x.contiguous()
        with torch.no_grad():
            x -= self.mean
        return super().forward(x, state)


class ClampsInPlace(Sru):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        return super().forward(x.contiguous().clamp_(-1.5, 1.5), state)


class LeaksInPlace(EchoState):
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        drive = (x @ self.entry + state @ self.reservoir).tanh()
        state *= 1 - self.leak
        state += self.leak * drive
        return self.readout(state.clone()), state


class CountsInPlace(PhasedLstm):
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        y, (h, c, _) = super().step(x, state)
        return y, Timed(h, c, state.time.add_(1))


class WritesIntoTheDict(Qrnn):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        y, after = super().forward(x, state)
        if state is None:
            return y, after
        state.update(after)
        return y, state


class WritesIntoTheList(IndRnn):
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        for k, (layer, u) in enumerate(zip(self.layers, self.u, strict=True)):
            x = state[k] = (layer(x) + u * state[k]).relu()
        return x, state


# zero_state


class CellStartsFromOnes(LayerNormLstm):
    def start(self, x: Tensor, batch: int) -> Any:
        h, c = super().start(x, batch)
        return h, c + 1


class StartsFromTheFirstInput(Sru):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.first = nn.Linear(input_size, hidden_size)

    def start(self, x: Tensor, batch: int) -> Any:
        return self.first(x[0]).tanh()


# unbatched, batch_first


class StepsAsItems(CoupledLstm):
    """Adds the batch axis to unbatched x in front, and so takes its steps for items."""

    def forward(self, x: Tensor, state: Any = None) -> Any:
        if x.dim() == 3:
            return super().forward(x, state)
        state = None if state is None else tuple(each.unsqueeze(1) for each in state)
        y, (h, c) = self.walk(x.unsqueeze(0), state)
        return y.squeeze(0), (h[:, -1], c[:, -1])


class UnbatchedDropsTheState(CoupledLstm):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        return super().forward(x, state if x.dim() == 3 else None)


class ReshapesTheLayout(StackedGru):
    """Gives y the shape (N, L, H) by a reshape, which mixes steps and items."""

    def forward(self, x: Tensor, state: Any = None) -> Any:
        y, state = super().forward(x, state)
        return (y.transpose(0, 1).reshape(y.shape) if self.batch_first else y), state


class TransposesOnlyWithoutState(CoupledLstm):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        if self.batch_first and state is not None:
            return self.walk(x, state)
        return super().forward(x, state)


# layout


class Views(ReluElman):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        length, batch, features = x.shape
        return super().forward(x.view(length * batch, features).view(length, batch, features), state)


class ReadsItsMemory(Sru):
    """Takes it for granted that x lies in memory in the order L, N, H_in."""

    def forward(self, x: Tensor, state: Any = None) -> Any:
        _, batch, features = x.shape
        return super().forward(x.as_strided(x.shape, (batch * features, features, 1)), state)


# item_isolation


class NormalisesOverItems(LayerNormLstm):
    """Batch statistics in evaluation too, and so the other items move each item."""

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        x = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()
        return super().step(x, state)


class SoftmaxOverItems(DeltaRule):
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        q, k, v = self.qkv(x).chunk(3, -1)
        q, k = q.softmax(-1), k.softmax(0)
        error = v - torch.einsum("nkv,nk->nv", state, k)
        state = state + self.beta(x).sigmoid()[..., None] * k[:, :, None] * error[:, None]
        return torch.einsum("nkv,nk->nv", state, q), state


class ReshapesForTranspose(MinimalGated):
    """Wants (H, N) and takes a reshape for it."""

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h, _ = super().step(x, state)
        batch, size = h.shape
        h = h.reshape(size, batch).softmax(0).reshape(batch, size)
        return h, h[None]


class ScalesByTheLargest(Sru):
    """One scale for all items, as a dynamic quantisation has."""

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return super().step(x / x.abs().max(), state)


class LeaksEverySixteenthStep(Clockwork):
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h, count = state
        if count % 16 == 15:
            h = h + 0.1 * h.roll(1, 0)
        return super().step(x, (h, count))


# permutation


class EncodesItems(ReluElman):
    """Adds an encoding of positions along the axis of the items."""

    table: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.register_buffer("table", torch.sin(torch.arange(512.0)[:, None] / (1 + torch.arange(input_size))))

    def forward(self, x: Tensor, state: Any = None) -> Any:
        return super().forward(x + self.table[: x.shape[1]], state)


class ForgetsTheLastItem(ReluElman):
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h = x @ self.weight_ih.T + state[0] @ self.weight_hh.T + self.bias
        h = torch.stack([each if n == len(h) - 1 else each.relu() for n, each in enumerate(h)])
        return h, h[None]


# batch_of_one


class DividesByItems(Sru):
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return super().step(x / len(x), state)


class SqueezesItems(MinimalGated):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        y, state = super().forward(x, state)
        return y.squeeze(1), state


class ShortcutForOneItem(ReluElman):
    """A path for N = 1 that forgets the bias."""

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        if len(x) > 1:
            return super().step(x, state)
        h = (self.weight_ih @ x[0] + self.weight_hh @ state[0, 0]).relu()[None]
        return h, h[None]


# causality


class LooksOneStepAhead(Sru):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        ahead = torch.cat([x[1:], torch.zeros_like(x[:1])])
        return super().forward(x + 0.5 * ahead, state)


class NormalisesOverTime(MinimalGated):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        x = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()
        return super().forward(x, state)


class PadsBothSides(MinimalGated):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.conv = nn.Conv1d(input_size, input_size, 3, padding=1)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        return super().forward(self.conv(x.permute(1, 2, 0)).permute(2, 0, 1), state)


class SeesTheNextKey(CausalAttention):
    def allowed(self, length: int, position: int, total: int) -> Tensor:
        return super().allowed(length, position + 1, total)


class CentresBlocks(ReluElman):
    """Takes the mean off every 16 steps."""

    def forward(self, x: Tensor, state: Any = None) -> Any:
        return super().forward(torch.cat([block - block.mean(0) for block in torch.split(x, 16)]), state)


# chunked


class DropsItsCell(PeepholeLstm):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        return super().forward(x, None if state is None else (state[0], torch.zeros_like(state[1])))


class PadsEveryChunk(CausalConv):
    """Gives its buffer back, and pads with zeros all the same."""

    def forward(self, x: Tensor, state: Any = None) -> Any:
        y, _ = super().forward(x)
        _, state = super().forward(x, state)
        return y, state


class RestartsItsPosition(Retention):
    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        return super().rotate(x, positions - positions[0])


class ResetsAtStep16(MinimalGated):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        y, state = super().forward(x[:16], state)
        if len(x) <= 16:
            return y, state
        rest, state = self.forward(x[16:])
        return torch.cat([y, rest]), state


class GivesItsLayersInReverse(StackedGru):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        y, state = super().forward(x, state)
        return y, state.flip(0)


# stepwise


class ShortChunksLoseTheBuffer(CausalConv):
    """Takes the next buffer from this chunk alone, which is too short if it has one step."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, width=3)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        y, _ = super().forward(x, state)
        tail = x[-2:].permute(1, 2, 0)
        return y, F.pad(tail, (2 - tail.shape[-1], 0))


class SingleStepSkipsTheGate(MinimalGated):
    """A path for decoding, one step at a time, that forgets to gate h in the candidate."""

    def forward(self, x: Tensor, state: Any = None) -> Any:
        if len(x) > 1 or state is None:
            return super().forward(x, state)
        joined = torch.cat([x[0], state[0]], 1)
        f = self.forget(joined).sigmoid()
        h = (1 - f) * state[0] + f * self.candidate(joined).tanh()
        return h[None], h[None]


class SqueezesSteps(Sru):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        y, state = super().forward(x, state)
        return y.squeeze(0), state


# last_state


class StateOfTheStepBefore(Sru):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        if state is None:
            state = self.start(x, x.shape[1])
        ys, before = [], state
        for step in x:
            before = state
            y, state = self.step(step, state)
            ys.append(y)
        return torch.stack(ys), before


class GivesBackWhatItGot(MinimalGated):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        if state is None:
            state = self.start(x, x.shape[1])
        y, _ = super().forward(x, state)
        return y, state


class CellOfTheStepBefore(CoupledLstm):
    def walk(self, x: Tensor, state: Any) -> Any:
        y, (h, c) = super().walk(x, state)
        if len(x) > 1:
            _, (_, c) = super().walk(x[:-1], state)
        elif state is not None:
            c = state[1]
        return y, (h, c)


class StateOfTheFirstStep(ReluElman):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        y, _ = super().forward(x, state)
        return y, y[:1]


# packed


class RunsOverThePadding(TakesPacked):
    """Unpacks, walks over all steps of all items, and packs: y is right, and the state is that of the padding."""

    def forward(self, x: Any, state: Any = None) -> Any:
        if not isinstance(x, PackedSequence):
            return super().forward(x, state)
        padded, lengths = pad_packed_sequence(x)
        y, h = super().forward(padded, state)
        return pack_padded_sequence(y, lengths, enforce_sorted=False), h


class ForgetsTheOrder(TakesPacked):
    """Leaves the state in the order of the lengths."""

    def in_order(self, h: Tensor, order: Tensor | None) -> Tensor:
        return h


class JoinsInTheOrderOfEnds(TakesPacked):
    """Puts the states of items together in the order in which they end."""

    def walk(self, data: Tensor, sizes: list[int], h: Tensor) -> tuple[Tensor, Tensor]:
        ys, ended = [], []
        for step in torch.split(data, sizes):
            ended.append(h[len(step) :])
            h = self.cell(step, h[: len(step)])
            ys.append(h)
        return torch.cat(ys), torch.cat([*ended, h])


# padding


class StateOfThePadding(WithLengths):
    def forward(self, x: Tensor, state: Any = None, lengths: Any = None) -> Any:
        y, _ = super().forward(x, state, lengths)
        _, h = super().forward(x, state)
        return y, h


class OneStepTooMany(WithLengths):
    def within(self, t: int, lengths: Tensor) -> Tensor:
        return t <= lengths


class TakesTheLongest(WithLengths):
    def within(self, t: int, lengths: Tensor) -> Tensor:
        return t < lengths.max().expand_as(lengths)


class ReadsTheMaskOfTheStepBefore(WithMask):
    """Shifts the mask by one step: an item's first step of padding is read."""

    def real(self, x: Tensor, mask: Any) -> Tensor:
        real = super().real(x, mask)
        return torch.cat([real[:, :1], real[:, :-1]], 1)


# precision


class AutocastInside(MinimalGated):
    """Computes its products in bfloat16, wherever it is called; float64 is left as it is by torch."""

    def forward(self, x: Tensor, state: Any = None) -> Any:
        with torch.autocast(x.device.type, torch.bfloat16):
            y, state = super().forward(x, state)
        return y.to(x.dtype), state.to(x.dtype)


class SoftplusThatOverflows(ReluElman):
    """log(1 + exp(100 z)) / 100 as it stands: exp overflows in float32 from z = 0.89 on, in float64 from 7.1."""

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        z = (x @ self.weight_ih.T).tanh() + 0.5 * (state[0] @ self.weight_hh.T + self.bias).tanh()
        h = torch.log(1 + torch.exp(100 * z)) / 100
        return h, h[None]


# gradient


class WrongTanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        derivative: Tensor = 1 - y.abs()  # it is 1 - y²
        return gradient * derivative


class OwnTanh(Stepped):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.cell = nn.Linear(input_size + hidden_size, hidden_size)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h: Tensor = WrongTanh.apply(self.cell(torch.cat([x, state], 1)))  # type: ignore[no-untyped-call]
        return h, h


class DetachesHalfOfItsGate(MinimalGated):
    """The gate learns from what it lets in, and not from what it keeps."""

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h = state[0]
        f = self.forget(torch.cat([x, h], 1)).sigmoid()
        h = (1 - f).detach() * h + f * self.candidate(torch.cat([x, f * h], 1)).tanh()
        return h, h[None]


class ClampsItsGradient(MinimalGated):
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h, _ = super().step(x, state)
        if h.requires_grad:
            h.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))  # type: ignore[no-untyped-call]
        return h, h[None]


# gradient_reach


class DetachesBetweenSteps(MinimalGated):
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return super().step(x, state.detach())


class TruncatesEverySixteenthStep(MinimalGated):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        if state is None:
            state = self.start(x, x.shape[1])
        ys = []
        for t, step in enumerate(x):
            y, state = self.step(step, state.detach() if t % 16 == 0 else state)
            ys.append(y)
        return torch.stack(ys), state


class ThroughNumbers(Sru):
    """Takes x apart into numbers, as a way through numpy does."""

    def forward(self, x: Tensor, state: Any = None) -> Any:
        return super().forward(torch.tensor(x.tolist(), dtype=x.dtype, device=x.device), state)


class FirstLayerWithoutGradient(StackedGru):
    def layer(self, k: int, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and k > 0):
            return super().layer(k, x, h)


class DataOfTheBias(ReluElman):
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h = (x @ self.weight_ih.T + state[0] @ self.weight_hh.T + self.bias.data).relu()
        return h, h[None]


class DataOfTheCell(LayerNormLstm):
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return super().step(x, (state[0], state[1].data))


# state_dict


class TensorsInAList(Stepped):
    """Its recurrent weights are tensors in a list, which torch does not know of."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.entry = nn.Linear(input_size, hidden_size)
        self.recurrent = [torch.randn(hidden_size, hidden_size) / hidden_size**0.5]

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h = (self.entry(x) + state @ self.recurrent[0].to(x)).tanh()
        return h, h


class LayersInAList(Stepped):
    """The second layer's Linear stands in a list that is not a ModuleList."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.entry = nn.Linear(input_size + hidden_size, hidden_size)
        self.heads = [nn.Linear(hidden_size, hidden_size)]

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h = self.entry(torch.cat([x, state], 1)).tanh()
        return F.linear(h, self.heads[0].weight.to(x), self.heads[0].bias.to(x)), h


class ForgetsItsReservoir(EchoState):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.register_buffer("reservoir", self.reservoir, persistent=False)


class KeepsOldDecay(Stepped):
    """Computes its decay once, when it is built: what is loaded later does not move it."""

    decay: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.entry = nn.Linear(input_size, hidden_size)
        self.rate = nn.Parameter(torch.randn(hidden_size))
        self.register_buffer("decay", torch.exp(-F.softplus(self.rate.detach())), persistent=False)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h = self.decay * state + (1 - self.decay) * self.entry(x)
        return h, h


# copies


class SharesItsParameters(MinimalGated):
    def __deepcopy__(self, memo: Any) -> Any:
        return copy.copy(self)


class SharesItsReservoir(EchoState):
    """To save memory, copies share the matrix that is not trained."""

    def __deepcopy__(self, memo: Any) -> Any:
        memo[id(self.reservoir)] = self.reservoir
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new


class PicklesItsSizesAlone(MinimalGated):
    """What is loaded from a pickle is built anew, with new weights."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.input_size = input_size

    def __reduce__(self) -> Any:
        return type(self), (self.input_size, self.hidden_size)

    def __deepcopy__(self, memo: Any) -> Any:
        new = type(self).__new__(type(self))
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new


class HoldsALambda(Stepped):
    """A lambda cannot be pickled."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.cell = nn.Linear(input_size + hidden_size, hidden_size)
        self.activation = lambda z: z / (1 + z.abs())

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h = self.activation(self.cell(torch.cat([x, state], 1)))  # type: ignore[no-untyped-call]
        return h, h


def faulty(
    name: str, breaks: str, make: Callable[[int, int], nn.Module], like: str, kind: str, says: str = ""
) -> Checked:
    """A network that keeps the layout and arguments of a right one."""
    right = {each.name: each for each in RIGHT}[like]
    return replace(right, name=name, kind=kind, make=make, breaks=breaks, says=says)


def own(name: str, breaks: str, make: Callable[[int, int], nn.Module], kind: str, says: str = "") -> Checked:
    """A network of its own, without a right one beside it."""
    return Checked(name, kind, make, breaks=breaks, says=says)


FAULTY: tuple[Checked, ...] = (
    faulty("noise-in-eval", "repeatable", NoiseInEval, "minimal-gated", "adds noise in evaluation"),
    faulty("dropout-in-eval", "repeatable", DropoutInEval, "stacked-gru", "F.dropout without self.training"),
    faulty("keeps-its-state", "stateless", KeepsItsState, "minimal-gated", "keeps h on self and goes on from it"),
    faulty("moves-its-mean", "stateless", MovesItsMean, "relu-elman", "running mean that moves in evaluation"),
    faulty("reuses-its-output", "stateless", ReusesItsOutput, "sru", "writes each y into the same memory"),
    faulty("shifts-in-place", "inputs_kept", ShiftsInPlace, "minimal-gated", "takes a mean off x in place", "x"),
    faulty("clamps-in-place", "inputs_kept", ClampsInPlace, "sru", "clamps x in place", "x"),
    faulty("leaks-in-place", "inputs_kept", LeaksInPlace, "echo-state", "h *= and h += on the given state"),
    faulty("counts-in-place", "inputs_kept", CountsInPlace, "phased-lstm", "counts in the given tensor of positions"),
    faulty("writes-into-the-dict", "inputs_kept", WritesIntoTheDict, "qrnn", "updates the dict that it was given"),
    faulty("writes-into-the-list", "inputs_kept", WritesIntoTheList, "ind-rnn", "state[layer] = h in the given list"),
    faulty("cell-starts-from-ones", "zero_state", CellStartsFromOnes, "layer-norm-lstm", "c starts from ones"),
    faulty("starts-from-the-first-input", "zero_state", StartsFromTheFirstInput, "sru", "starts from a map of x[0]"),
    faulty("steps-as-items", "unbatched", StepsAsItems, "coupled-lstm", "unsqueezes unbatched x at the wrong axis"),
    faulty("unbatched-drops-the-state", "unbatched", UnbatchedDropsTheState, "coupled-lstm", "no state if unbatched"),
    faulty("reshapes-the-layout", "batch_first", ReshapesTheLayout, "stacked-gru", "reshape for transpose"),
    faulty(
        "transposes-only-without-state",
        "batch_first",
        TransposesOnlyWithoutState,
        "coupled-lstm",
        "forgets batch_first where a state is given",
    ),
    faulty("views", "layout", Views, "relu-elman", "view of what is not contiguous"),
    faulty("reads-its-memory", "layout", ReadsItsMemory, "sru", "reads x in the order of its memory"),
    faulty(
        "normalises-over-items", "item_isolation", NormalisesOverItems, "layer-norm-lstm", "batch statistics", "item"
    ),
    faulty("softmax-over-items", "item_isolation", SoftmaxOverItems, "delta-rule", "softmax over the items", "item"),
    faulty("reshapes-for-transpose", "item_isolation", ReshapesForTranspose, "minimal-gated", "mixes rows", "item"),
    faulty("scales-by-the-largest", "item_isolation", ScalesByTheLargest, "sru", "one scale for all items", "item"),
    faulty(
        "leaks-every-sixteenth-step",
        "item_isolation",
        LeaksEverySixteenthStep,
        "clockwork",
        "the item before moves an item at every sixteenth step",
        "item",
    ),
    faulty("encodes-items", "permutation", EncodesItems, "relu-elman", "encodes the positions of items", "item"),
    faulty("forgets-the-last-item", "permutation", ForgetsTheLastItem, "relu-elman", "last item without relu", "item"),
    faulty("divides-by-items", "batch_of_one", DividesByItems, "sru", "divides x by the number of items"),
    faulty("squeezes-items", "batch_of_one", SqueezesItems, "minimal-gated", "squeeze of a batch of one"),
    faulty("shortcut-for-one-item", "batch_of_one", ShortcutForOneItem, "relu-elman", "no bias for a batch of one"),
    faulty("looks-one-step-ahead", "causality", LooksOneStepAhead, "sru", "reads the next x", "step"),
    faulty("normalises-over-time", "causality", NormalisesOverTime, "minimal-gated", "mean of all steps", "step"),
    faulty("pads-both-sides", "causality", PadsBothSides, "minimal-gated", "convolution that is centred", "step"),
    faulty("sees-the-next-key", "causality", SeesTheNextKey, "causal-attention", "mask off by one", "step"),
    faulty("centres-blocks", "causality", CentresBlocks, "relu-elman", "mean of 16 steps", "step"),
    faulty("drops-its-cell", "chunked", DropsItsCell, "peephole-lstm", "c of the given state is not used"),
    faulty("pads-every-chunk", "chunked", PadsEveryChunk, "causal-conv", "the given buffer is not used"),
    faulty("restarts-its-position", "chunked", RestartsItsPosition, "retention", "positions from zero in each call"),
    faulty("resets-at-step-16", "chunked", ResetsAtStep16, "minimal-gated", "forgets its state at step 16", "step"),
    faulty("gives-its-layers-in-reverse", "chunked", GivesItsLayersInReverse, "stacked-gru", "layers in reverse"),
    faulty("short-chunks-lose-the-buffer", "stepwise", ShortChunksLoseTheBuffer, "causal-conv", "buffer of one chunk"),
    faulty("single-step-skips-the-gate", "stepwise", SingleStepSkipsTheGate, "minimal-gated", "wrong path for L = 1"),
    faulty("squeezes-steps", "stepwise", SqueezesSteps, "sru", "squeeze of a single step"),
    faulty("state-of-the-step-before", "last_state", StateOfTheStepBefore, "sru", "state of step L - 2"),
    faulty("gives-back-what-it-got", "last_state", GivesBackWhatItGot, "minimal-gated", "the initial state"),
    faulty("cell-of-the-step-before", "last_state", CellOfTheStepBefore, "coupled-lstm", "h of step L - 1, c of L - 2"),
    faulty("state-of-the-first-step", "last_state", StateOfTheFirstStep, "relu-elman", "h of step 0"),
    faulty("runs-over-the-padding", "packed", RunsOverThePadding, "takes-packed", "state of the padding"),
    faulty("forgets-the-order", "packed", ForgetsTheOrder, "takes-packed", "state in the order of the lengths"),
    faulty("joins-in-the-order-of-ends", "packed", JoinsInTheOrderOfEnds, "takes-packed", "state in the order of ends"),
    faulty("state-of-the-padding", "padding", StateOfThePadding, "with-lengths", "h of the last padded step"),
    faulty("one-step-too-many", "padding", OneStepTooMany, "with-lengths", "t <= lengths"),
    faulty("takes-the-longest", "padding", TakesTheLongest, "with-lengths", "the longest length for all items"),
    faulty("reads-the-mask-of-the-step-before", "padding", ReadsTheMaskOfTheStepBefore, "with-mask", "late by a step"),
    faulty("autocast-inside", "precision", AutocastInside, "minimal-gated", "bfloat16 products", "float32"),
    faulty("softplus-that-overflows", "precision", SoftplusThatOverflows, "relu-elman", "exp overflows", "float32"),
    own("own-tanh", "gradient", OwnTanh, "a backward of its own that is wrong"),
    faulty("detaches-half-of-its-gate", "gradient", DetachesHalfOfItsGate, "minimal-gated", "1 - f without gradient"),
    faulty("clamps-its-gradient", "gradient", ClampsItsGradient, "minimal-gated", "clamps the gradient of h"),
    faulty("detaches-between-steps", "gradient_reach", DetachesBetweenSteps, "minimal-gated", "h.detach()"),
    faulty("truncates", "gradient_reach", TruncatesEverySixteenthStep, "minimal-gated", "h.detach() at 0, 16, ..."),
    faulty("through-numbers", "gradient_reach", ThroughNumbers, "sru", "torch.tensor(x.tolist())", "x"),
    faulty(
        "first-layer-without-gradient",
        "gradient_reach",
        FirstLayerWithoutGradient,
        "stacked-gru",
        "the first layer runs under no_grad",
        "x",
    ),
    faulty("data-of-the-bias", "gradient_reach", DataOfTheBias, "relu-elman", "bias.data", "bias"),
    faulty("data-of-the-cell", "gradient_reach", DataOfTheCell, "layer-norm-lstm", "c.data"),
    own("tensors-in-a-list", "state_dict", TensorsInAList, "recurrent weights in a list"),
    own("layers-in-a-list", "state_dict", LayersInAList, "a Linear in a list"),
    faulty("forgets-its-reservoir", "state_dict", ForgetsItsReservoir, "echo-state", "buffer that is not saved"),
    own("keeps-old-decay", "state_dict", KeepsOldDecay, "decay computed at construction"),
    faulty("shares-its-parameters", "copies", SharesItsParameters, "minimal-gated", "a deepcopy that is shallow"),
    faulty("shares-its-reservoir", "copies", SharesItsReservoir, "echo-state", "copies share a buffer", "reservoir"),
    faulty(
        "pickles-its-sizes-alone", "copies", PicklesItsSizesAlone, "minimal-gated", "a pickle without weights", "pickle"
    ),
    own("holds-a-lambda", "copies", HoldsALambda, "cannot be pickled", "pickle"),
)
