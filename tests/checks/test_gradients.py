"""Is a wrong or missing gradient found and placed, and is a right one let alone?"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from rnnscope.checks.case import Case, case_of, replace_case
from rnnscope.checks.facts import Relation
from rnnscope.checks.gradients import gradient, gradient_reach
from rnnscope.checks.probing import probed

H_IN, H, L, N = 5, 8, 12, 3


@pytest.fixture(autouse=True)
def without_autograd() -> Iterator[None]:
    """As relations are asked."""
    with torch.no_grad():
        yield


class Step(nn.Module):
    """h = step(z, h), where z is what both weights give; each subclass has another step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_ih = nn.Linear(H_IN, H)
        self.weight_hh = nn.Linear(H, H)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Any:
        h = x.new_zeros(x.shape[1], H) if h is None else self.start(h)
        y = []
        for t, each in enumerate(x):
            h = self.carry(t, h)
            h = self.step(self.weight_ih(self.read(each)) + self.recur(h), h)
            y.append(self.show(h))
        return self.end(torch.stack(y), h)

    def start(self, h: Tensor) -> Tensor:
        return h

    def carry(self, t: int, h: Tensor) -> Tensor:
        return h

    def read(self, x: Tensor) -> Tensor:
        return x

    def recur(self, h: Tensor) -> Tensor:
        return self.weight_hh(h)  # type: ignore[no-any-return]

    def step(self, z: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(z)

    def show(self, h: Tensor) -> Tensor:
        return h

    def end(self, y: Tensor, h: Tensor) -> Any:
        return y, h


def stepping(step: Callable[..., Any], name: str = "step") -> type[Step]:
    """A class with another method."""
    return type("Stepping", (Step,), {name: lambda self, *given: step(*given)})


def of_step(function: Callable[[Tensor], Tensor]) -> type[Step]:
    return stepping(lambda z, h: function(z))


class Scaled(torch.autograd.Function):
    """Nothing in the forward pass; its gradient is off by a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad * ctx.factor, None


def scaled(x: Tensor, factor: float) -> Tensor:
    return Scaled.apply(x, factor)  # type: ignore[no-any-return, no-untyped-call]


class KeptTanh(torch.autograd.Function):
    """tanh, whose gradient is right and has no gradient with respect to what it was computed from."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.y = x.tanh().detach()
        return x.tanh()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad * (1 - ctx.y**2)


class OnceTanh(KeptTanh):
    """tanh, which refuses to be differentiated twice."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad * (1 - ctx.y**2)


class LayerNormLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ih, self.hh = nn.Linear(H_IN, 4 * H), nn.Linear(H, 4 * H, bias=False)
        self.norm, self.cell_norm = nn.LayerNorm(4 * H), nn.LayerNorm(H)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        h, c = state or (x.new_zeros(x.shape[1], H),) * 2
        y = []
        for each in x:
            i, f, g, o = self.norm(self.ih(each) + self.hh(h)).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * self.cell_norm(c).tanh()
            y.append(h)
        return torch.stack(y), (h, c)


class StateSpace(nn.Module):
    """A diagonal of complex numbers, and a complex state."""

    def __init__(self) -> None:
        super().__init__()
        self.decay, self.angle = nn.Parameter(torch.rand(H)), nn.Parameter(3 * torch.rand(H))
        self.b = nn.Parameter(torch.randn(H, H_IN, dtype=torch.complex64) / 3)
        self.c = nn.Parameter(torch.randn(H, H, dtype=torch.complex64) / 3)

    def forward(self, x: Tensor, state: Tensor | None = None) -> Any:
        a = torch.exp(torch.complex(-self.decay.exp() / 10, self.angle))
        h = torch.zeros(x.shape[1], H, dtype=self.b.dtype) if state is None else state
        y = []
        for each in x:
            h = a * h + each.to(self.b.dtype) @ self.b.T
            y.append((h @ self.c.T).real)
        return torch.stack(y), h


class Words(nn.Module):
    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.words, self.rnn = nn.Embedding(9, H_IN, **how), nn.GRU(H_IN, H)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Any:
        return self.rnn(self.words(x), h)


class DictState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(H_IN, H)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        pair, y = state and (state["h"], state["c"]), []
        for each in x:
            pair = self.cell(each, pair)
            y.append(pair[0])
        return torch.stack(y), {"h": pair[0], "c": pair[1], "steps": len(x) + (state["steps"] if state else 0)}


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(H_IN, H)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Any:
        return checkpoint(self.rnn, x, h, use_reentrant=True)


class Backward(nn.Module):
    """y at the last step knows nothing of the steps before, and rightly."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(H_IN, H)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x.flip(0))[0].flip(0)  # type: ignore[no-any-return]


class Late(Step):
    """y is the state before the step, so that it rightly knows nothing of x at its own step."""

    def forward(self, x: Tensor, h: Tensor | None = None) -> Any:
        h = x.new_zeros(x.shape[1], H) if h is None else h
        y = []
        for each in x:
            y.append(h)
            h = torch.tanh(self.weight_ih(each) + self.weight_hh(h))
        return torch.stack(y), h


class Unused(Step):
    """A parameter that moves nothing has no gradient, and rightly."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(3, 3)


RIGHT: dict[str, Callable[[], nn.Module]] = {
    "rnn": lambda: nn.RNN(H_IN, H, 2),
    "relu": lambda: nn.RNN(H_IN, H, nonlinearity="relu"),
    "relu both ways": lambda: nn.RNN(H_IN, H, 2, nonlinearity="relu", bidirectional=True),
    "lstm": lambda: nn.LSTM(H_IN, H),
    "lstm both ways": lambda: nn.LSTM(H_IN, H, bidirectional=True, batch_first=True),
    "lstm with proj_size": lambda: nn.LSTM(H_IN, H, 2, proj_size=3),
    "gru": lambda: nn.GRU(H_IN, H, 2, bias=False),
    "layer norm": LayerNormLSTM,
    "complex state": StateSpace,
    "dict": DictState,
    "words": Words,
    "padding": lambda: Words(padding_idx=0),
    "sparse": lambda: Words(sparse=True),
    "reentrant checkpoint": Checkpointed,
    "backward": Backward,
    "late": Late,
    "unused": Unused,
    "abs": of_step(lambda z: z.abs() / (1 + z.abs().amax(-1, keepdim=True))),
    "hardtanh": of_step(functional.hardtanh),
    "sort": of_step(lambda z: z.sort(-1).values.tanh()),
    "clamp": stepping(lambda z, h: (0.9 * h + z).clamp(-1, 1)),
    "sign": of_step(torch.sign),
    "float32": of_step(lambda z: z.float().tanh().to(z)),
    "float32 relu": of_step(lambda z: z.float().relu().to(z) / 2),
    "float16": of_step(lambda z: z.half().tanh().to(z)),
    "bfloat16": of_step(lambda z: z.bfloat16().tanh().to(z)),
}

OF_WORDS = ("words", "padding", "sparse")


def case(
    make: Callable[[], nn.Module], of_words: bool = False, seed: int = 0, gain: float = 1.0, steps: int = L
) -> Case:
    torch.manual_seed(seed)
    module = make()
    for each in module.parameters():
        each.mul_(gain)
    x = torch.randint(0, 9, (steps, N)) if of_words else torch.randn(steps, N, H_IN)
    return case_of(probed("module", module, x), x, seed=seed)


def asked(relation: Callable[[Case], Relation], make: Callable[[], nn.Module]) -> Relation:
    return relation(case(make))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(("seed", "gain"), [(1, 0.1), (2, 3.0)])
@pytest.mark.parametrize("name", RIGHT)
class TestRight:
    def test_no_gradient_is_missed(self, name: str, seed: int, gain: float) -> None:
        assert gradient_reach(case(RIGHT[name], name in OF_WORDS, seed, gain)).outcome == "holds"

    def test_no_gradient_is_wrong(self, name: str, seed: int, gain: float) -> None:
        assert gradient(case(RIGHT[name], name in OF_WORDS, seed, gain)).outcome in ("holds", "undecided")


EXACT = sorted(set(RIGHT) - {"float32", "float32 relu", "float16", "bfloat16"})


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", EXACT)
def test_a_right_gradient_is_decided(name: str) -> None:
    found = gradient(case(RIGHT[name], name in OF_WORDS))
    assert (found.outcome, found.max_abs is not None) == ("holds", True)


def test_a_module_in_float32_inside_holds_as_far_as_that_goes() -> None:
    found = asked(gradient, RIGHT["float32"])
    assert found.outcome == "holds"
    assert found.bound is not None
    assert found.bound > 1e-5


def test_a_module_in_bfloat16_inside_is_not_decided() -> None:
    found = asked(gradient, RIGHT["bfloat16"])
    assert (found.outcome, found.message) == (
        "undecided",
        "it computes in bfloat16 inside, too coarse for finite differences",
    )


def test_without_float64_nothing_is_said() -> None:
    it = case(Step)
    found = gradient(case_of(it.recurrent, it.x, dtype=torch.float32))
    assert (found.outcome, found.message[:28]) == ("not_applicable", "it does not run in float64, ")


class Kinked(nn.Module):
    """relu without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(H_IN, H, nonlinearity="relu", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]  # type: ignore[no-any-return]


def test_a_kink_at_x_is_no_fault() -> None:
    it = case(Kinked)
    still = it.x.clone()
    still[:2] = 0
    found = gradient(replace_case(it, x=still))
    assert (found.outcome, found.message) == ("holds", "compared at another x, since kinks lie at this one")


@pytest.mark.parametrize("gain", [5.0, 10.0])
@pytest.mark.parametrize("name", ["rnn", "relu", "lstm", "layer norm", "clamp"])
def test_chaos_is_no_fault(name: str, gain: float) -> None:
    assert gradient(case(RIGHT[name], gain=gain, steps=24)).outcome in ("holds", "undecided")


@pytest.mark.parametrize("steps", [1, 2])
def test_few_steps_are_enough(steps: int) -> None:
    assert gradient(case(Step, steps=steps)).outcome == "holds"


def test_of_many_steps_the_first_are_asked() -> None:
    found = gradient(case(RIGHT["rnn"], steps=70))
    asked = "on all steps the gradient was asked, and on the first 64 its parts and double backward"
    assert (found.outcome, found.message) == ("holds", asked)


def test_of_more_numbers_than_memory_holds_the_first_steps_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnscope.checks.gradients.MOST_NUMBERS", 90 * N * H)
    asked = "on the first 88 steps the gradient was asked, and on the first 64 its parts and double backward"
    assert gradient(case(RIGHT["rnn"], steps=100)).message == asked
    monkeypatch.setattr("rnnscope.checks.gradients.MOST_NUMBERS", 64 * N * H)
    assert gradient(case(RIGHT["rnn"], steps=100)).message == "finite differences were taken on the first 64 steps"


# What is cut off -------------------------------------------------------------------------------------------------


class Truncated(Step):
    """Every fifth step the state is detached."""

    def carry(self, t: int, h: Tensor) -> Tensor:
        return h.detach() if t and t % 5 == 0 else h


class Data(Step):
    def recur(self, h: Tensor) -> Tensor:
        return h @ self.weight_hh.weight.data.T + self.weight_hh.bias


class Skip(Step):
    """x reaches y of later steps alone: of its own step it is detached."""

    def forward(self, x: Tensor, h: Tensor | None = None) -> Any:
        h = x.new_zeros(x.shape[1], H) if h is None else h
        y = []
        for each in x:
            y.append(torch.tanh(self.weight_ih(each.detach()) + self.weight_hh(h)))
            h = torch.tanh(self.weight_ih(each) + self.weight_hh(h))
        return torch.stack(y), h


class NoGrad(Step):
    @torch.no_grad()
    def forward(self, x: Tensor, h: Tensor | None = None) -> Any:
        return super().forward(x, h)


class BothWays(nn.Module):
    """The way back is cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.bidirectional = True
        self.one, self.other = Step(), Truncated()

    def forward(self, x: Tensor) -> Any:
        (there, h), (back, g) = self.one(x), self.other(x.flip(0))
        return torch.cat((there, back.flip(0)), -1), torch.stack((h, g))


CUT: dict[str, tuple[Callable[[], nn.Module], str, int | None, str]] = {
    "truncated": (Truncated, "x", 9, "at x before step 10 from the last step: the state is cut off there"),
    "way back": (BothWays, "x", 2, "at x after step 1 from the first step: the state is cut off there"),
    "data": (Data, "weight_hh.weight", None, "no gradient arrives at weight_hh.weight: it is used through .detach()"),
    "x": (stepping(Tensor.detach, "read"), "x", None, "no gradient arrives at x: it is used through .detach()"),
    "state": (stepping(Tensor.detach, "start"), "state", None, "no gradient arrives at the state that goes in"),
    "own step": (Skip, "x", 0, "no gradient arrives at x at step 0 from y at the same step"),
    "no_grad": (NoGrad, "y", None, "nothing that comes out has a gradient: torch.no_grad, .detach() or numpy"),
    "y": (stepping(Tensor.detach, "show"), "y", None, "y comes out without a gradient"),
    "state that comes out": (
        stepping(lambda y, h: (y, h.detach()), "end"),
        "state",
        None,
        "state comes out without a gradient",
    ),
}


@pytest.mark.parametrize("name", CUT)
def test_what_is_cut_off_is_found(name: str) -> None:
    make, tensor, step, message = CUT[name]
    found = asked(gradient_reach, make)
    assert found.outcome == "broken"
    assert found.place is not None
    assert (found.place.tensor, found.place.step) == (tensor, step)
    assert message in found.message


class InPlace(Step):
    """What the gradient needs is written over."""

    def step(self, z: Tensor, h: Tensor) -> Tensor:
        kept = z.exp()
        later = kept * 2
        kept.mul_(2)
        return (kept.log() + later.log()).tanh()


@pytest.mark.parametrize("relation", [gradient_reach, gradient])
def test_an_error_of_autograd_is_told(relation: Callable[[Case], Relation]) -> None:
    found = asked(relation, InPlace)
    assert found.outcome == "broken"
    assert found.message.startswith(
        "autograd gives no gradient: RuntimeError: one of the variables needed for gradient"
    )


class FrozenWords(Words):
    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x)[0]


@pytest.mark.parametrize("relation", [gradient_reach, gradient])
def test_nothing_is_asked_where_nothing_takes_a_gradient(relation: Callable[[Case], Relation]) -> None:
    assert relation(case(FrozenWords, of_words=True)).outcome == "not_applicable"


def test_a_frozen_parameter_is_left_out() -> None:
    torch.manual_seed(0)
    module = Data()
    module.weight_hh.weight.requires_grad_(False)
    assert gradient_reach(case(lambda: module)).outcome == "holds"


# What is wrong ---------------------------------------------------------------------------------------------------


class OneWeight(Step):
    """The gradient of one weight alone is 1 % off."""

    def recur(self, h: Tensor) -> Tensor:
        return h @ scaled(self.weight_hh.weight, 1.01).T + self.weight_hh.bias


class OfInput(Step):
    """The gradient of x is 1 % off from a step on."""

    def forward(self, x: Tensor, h: Tensor | None = None) -> Any:
        return super().forward(torch.cat((x[:4], scaled(x[4:], 1.01))), h)


class Hooked(Step):
    """A hook of a parameter clips its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_ih.bias.register_hook(lambda grad: grad.clamp(-1e-3, 1e-3))  # type: ignore[no-untyped-call]


def clipped(z: Tensor) -> Tensor:
    if z.requires_grad:
        z.register_hook(lambda grad: grad.clamp(-0.1, 0.1))  # type: ignore[no-untyped-call]
    return z.tanh()


class HookedModule(Step):
    """A hook of a module clips the gradient that leaves it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_hh.register_full_backward_hook(lambda _, into, out: (into[0].clamp(-0.1, 0.1),))  # type: ignore[index]


class Surrogate(KeptTanh):
    """A threshold with a made-up gradient, as spiking networks have it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.y = x.tanh().detach()
        return (x > 0).to(x)


def off_by(share: float) -> type[Step]:
    return of_step(lambda z: scaled(z.tanh(), 1 + share))


WRONG: dict[str, tuple[Callable[[], nn.Module], str, int | None]] = {
    "1 % off": (off_by(0.01), "x", 0),
    "1e-5 off": (off_by(1e-5), "x", 0),
    "1 % of one weight": (OneWeight, "weight_hh.weight", None),
    "1 % of x": (OfInput, "x", 4),
    "1 % of the state": (stepping(partial(scaled, factor=0.99), "start"), "state", None),
    "a detached gate": (stepping(lambda z, h: z.sigmoid().detach() * h + z.tanh()), "x", 0),
    "a clipped gradient": (of_step(clipped), "x", 0),
    "a hook of a module": (HookedModule, "x", 0),
    "a hook of a parameter": (Hooked, "weight_ih.bias", None),
    "straight-through": (of_step(lambda z: z + (torch.round(4 * z.tanh()) / 4 - z).detach()), "x", 0),
    "a spike": (of_step(Surrogate.apply), "x", 0),
    "NaN": (of_step(lambda z: torch.where(z > 0, z.sqrt(), 0.0)), "x", 0),
    "5 % off in float32": (of_step(lambda z: scaled(z.float().tanh(), 1.05).to(z)), "x", 0),
    "1 % off with relu": (of_step(lambda z: scaled(z.relu() / 2, 1.01)), "x", 0),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_gradient_is_found(name: str) -> None:
    make, tensor, step = WRONG[name]
    found = asked(gradient, make)
    assert found.outcome == "broken"
    assert found.place is not None
    assert (found.place.tensor, found.place.step) == (tensor, step)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_gradient_arrives_all_the_same(name: str) -> None:
    assert asked(gradient_reach, WRONG[name][0]).outcome == "holds"


def test_a_made_up_gradient_is_told_so() -> None:
    assert "has a made-up gradient" in asked(gradient, WRONG["straight-through"][0]).message


def test_a_gradient_that_is_nan_is_told_so() -> None:
    assert asked(gradient, WRONG["NaN"][0]).message.endswith("it is NaN or infinite")


def test_a_smooth_one_is_not() -> None:
    assert "made-up" not in asked(gradient, WRONG["1 % off"][0]).message


def test_a_wrong_double_backward_is_found() -> None:
    found = asked(gradient, of_step(KeptTanh.apply))
    assert found.outcome == "broken"
    assert found.message.startswith("the gradient is right, but double backward is wrong for x")


def test_a_refused_double_backward_is_told() -> None:
    found = asked(gradient, of_step(OnceTanh.apply))
    assert found.outcome == "holds"
    assert found.message.startswith("double backward is refused: RuntimeError: trying to differentiate twice")


class InBlocks(torch.autograd.Function):
    """y_t = 0.98 y_(t-1) + x_t; a backward pass in blocks of 40 steps, one of which may leave the others alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, faulty: bool) -> Tensor:
        ctx.faulty, y = faulty, [x[0]]
        for each in x[1:]:
            y.append(0.98 * y[-1] + each)
        return torch.stack(y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        carry, found = torch.zeros_like(grad[0]), []
        for t in reversed(range(len(grad))):
            carry = 0.0 * carry if ctx.faulty and t == 99 else carry
            carry = grad[t] + 0.98 * carry
            found.append(carry)
        return torch.stack(found[::-1]), None


class Blocked(nn.Module):
    def __init__(self, faulty: bool) -> None:
        super().__init__()
        self.into, self.faulty = nn.Linear(H_IN, H), faulty

    def forward(self, x: Tensor) -> Tensor:
        return InBlocks.apply(self.into(x).tanh(), self.faulty)  # type: ignore[no-any-return, no-untyped-call]


def test_a_gradient_that_is_wrong_in_early_blocks_of_a_long_x_is_found() -> None:
    found = gradient(case(partial(Blocked, True), steps=160))
    assert found.outcome == "broken"
    assert "wrong for x from step 0 to 99 and the parameters: " in found.message
    assert found.message.endswith("on the first 64 steps alone it is right")
    assert found.place is not None
    assert (found.place.tensor, found.place.step) == ("x", 0)


def test_a_right_one_in_blocks_is_let_alone() -> None:
    assert gradient(case(partial(Blocked, False), steps=160)).outcome == "holds"


class LateWeight(Step):
    """The gradient of one weight is off by 1 % from step 80 on."""

    def forward(self, x: Tensor, h: Tensor | None = None) -> Any:
        self.t = -1
        return super().forward(x, h)

    def read(self, x: Tensor) -> Tensor:
        self.t += 1
        return x

    def recur(self, h: Tensor) -> Tensor:
        weight = self.weight_hh.weight
        return functional.linear(h, scaled(weight, 1.01) if self.t >= 80 else weight, self.weight_hh.bias)


def test_a_gradient_of_a_weight_that_is_wrong_at_late_steps_is_found() -> None:
    found = gradient(case(LateWeight, steps=96))
    assert found.outcome == "broken"
    assert found.message.startswith("autograd's gradient is wrong for weight_hh.weight: ")


@pytest.mark.parametrize("name", ["relu", "clamp", "layer norm", "lstm"])
@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_no_long_gradient_is_wrong(name: str, gain: float) -> None:
    assert gradient(case(RIGHT[name], gain=gain, steps=150)).outcome in ("holds", "undecided")


class InLogSpace(nn.Module):
    """A gated sum by its logarithm; double backward of logcumsumexp is NaN where the gradient is exactly 0."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(H_IN, 2 * H)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, gate = self.into(x).chunk(2, -1)
        kept = -functional.softplus(gate - 5).cumsum(0)  # so little is forgotten that y is greatest at the last step
        y = (kept + (value - kept).logcumsumexp(0)).exp() if len(x) > 1 else value.exp()
        return y, y[-1]


@pytest.mark.parametrize("seed", range(3))
def test_double_backward_is_asked_of_no_special_product(seed: int) -> None:
    it = case(InLogSpace, seed=seed)
    found = gradient(replace_case(it, x=it.x[:, :1]))
    assert (found.outcome, found.message) == ("holds", "")


# What stays as it was --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relation", [gradient_reach, gradient])
@pytest.mark.parametrize("make", [Step, Truncated, off_by(0.01)])
def test_nothing_is_left_behind(relation: Callable[[Case], Relation], make: type[Step]) -> None:
    it = case(make)
    before = {name: each.clone() for name, each in it.module.state_dict().items()}
    relation(it)
    assert not torch.is_grad_enabled()
    assert not it.x.requires_grad
    assert all(each.grad is None for each in (*it.module.parameters(), *it.recurrent.module.parameters()))
    assert all(torch.equal(each, before[name]) for name, each in it.module.state_dict().items())


@pytest.mark.parametrize(("relation", "most"), [(gradient_reach, 1), (gradient, 31)])
def test_a_healthy_module_is_run_few_times(relation: Callable[[Case], Relation], most: int) -> None:
    it = case(Step)
    assert it.allowed is not None  # which all relations share
    with it.asked_by("this"):
        relation(it)
    assert it.recurrent.counted["this"] <= most
