"""What torch's transforms make of modules: of those that they take, and of those that each refuses or gets wrong."""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from rnnscope import Spec
from rnnscope.checks import supports as asked
from rnnscope.checks.case import Case, case_of
from rnnscope.checks.facts import Support
from rnnscope.checks.probing import probed
from rnnscope.checks.supports import supports
from rnnscope.subjects.devices import running

State = Tensor | None

_compiles = asked._compiles


@pytest.fixture(autouse=True)
def in_its_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """aot_eager compiles in a second what inductor compiles in half a minute, by the same way into the module."""
    monkeypatch.setattr(asked, "_compiles", lambda device: False)
    with running(Spec()):
        yield


def case_for(cls: Callable[[], nn.Module], x: Tensor | None = None) -> Case:
    """A case of a module with L = 10, N = 4, H_in = 4."""
    torch.manual_seed(0)
    module = cls()
    x = torch.randn(10, 4, 4, generator=torch.Generator().manual_seed(1)) if x is None else x
    return case_of(probed("Net", module, x, cls), x)


def tried(name: str, cls: Callable[[], nn.Module], x: Tensor | None = None) -> Support:
    """What is found of one transform alone."""
    return asked._tried(name, asked._TRANSFORMS[name], asked._sizes_of(case_for(cls, x)))


class Loop(nn.Module):
    """tanh(W x + U h), step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(4, 5)
        self.states = nn.Linear(5, 5)

    def forward(self, x: Tensor, h: State = None) -> tuple[Tensor, Tensor]:
        if h is None:
            h = torch.zeros(x.shape[1], 5, dtype=x.dtype)
        ys = []
        for t in range(x.shape[0]):
            h = torch.tanh(self.inputs(x[t]) + self.states(h))
            ys.append(h)
        return torch.stack(ys), h


class BatchFirstLoop(Loop):
    batch_first = True

    def forward(self, x: Tensor, h: State = None) -> tuple[Tensor, Tensor]:
        h = x.new_zeros(x.shape[0], 5) if h is None else h
        ys = []
        for each in x.unbind(1):
            h = torch.tanh(self.inputs(each) + self.states(h))
            ys.append(h)
        return torch.stack(ys, 1), h


class Changed(nn.Module):
    """The loop behind something that is done to x."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = Loop()

    def changed(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, h: State = None) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = self.loop(self.changed(x), h)
        return result


class ConditionOfData(Changed):
    def changed(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class Item(Changed):
    def changed(self, x: Tensor) -> Tensor:
        return x * x.abs().max().item()


class Numpy(Changed):
    def changed(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() * 2)


class InPlaceBuffer(Changed):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("room", torch.zeros(4))

    def changed(self, x: Tensor) -> Tensor:
        self.get_buffer("room").copy_(x[0, 0])
        return x + self.get_buffer("room")


class OtherWhileCompiling(Changed):
    """torch asks a module whether it is traced, so that it may leave something out: here what it must not."""

    def changed(self, x: Tensor) -> Tensor:
        return x if torch.compiler.is_compiling() else 2 * x


class PrintsAndWarns(Changed):
    def changed(self, x: Tensor) -> Tensor:
        print("printed")
        logging.getLogger("torch._dynamo").warning("logged")
        return x


class Exits(Changed):
    """It ends the process as soon as anything but a plain call is made."""

    def changed(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or torch._C._functorch.maybe_get_level(x) >= 0:
            raise SystemExit("good bye")
        return x


class Interrupted(Changed):
    def changed(self, x: Tensor) -> Tensor:
        if torch._C._functorch.maybe_get_level(x) >= 0:
            raise KeyboardInterrupt
        return x


class _Doubled(torch.autograd.Function):
    """2 x, whose derivative is wrong in forward mode."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return 3 * tangent

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor) -> tuple[Tensor, int]:
        return 3 * x, in_dims[0]


class _WrongBackward(_Doubled):
    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 5 * gradient

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return 2 * tangent


class WrongDerivatives(Changed):
    function: Any = _Doubled

    def changed(self, x: Tensor) -> Tensor:
        result: Tensor = self.function.apply(x)
        return result


class WrongGradients(WrongDerivatives):
    function = _WrongBackward


class VariableArguments(Loop):
    def forward(self, x: Tensor, h: State = None, **others: Any) -> tuple[Tensor, Tensor]:
        return super().forward(x, h)


class CarriesOn(Loop):
    """It starts from where it ended."""

    last: State = None

    def forward(self, x: Tensor, h: State = None) -> tuple[Tensor, Tensor]:
        y, h = super().forward(x, h)
        y = y if self.last is None or self.last.shape != h.shape else y + self.last
        self.last = h.detach()
        return y, h


class Sum(nn.Module):
    """No parameters."""

    def forward(self, x: Tensor, h: State = None) -> tuple[Tensor, Tensor]:
        y = x.cumsum(0) + (0 if h is None else h)
        return y, y[-1]


class Infinite(Changed):
    def changed(self, x: Tensor) -> Tensor:
        return x / 0


class Decay(nn.Module):
    """One number of state for each of x."""

    def forward(self, x: Tensor, h: State = None) -> tuple[Tensor, Tensor]:
        h = x.new_zeros(x.shape[1:]) if h is None else h
        ys = []
        for each in x:
            h = 0.5 * h + each
            ys.append(h)
        return torch.stack(ys), h


class Tokens(nn.Module):
    """x is a whole number for each step and item."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 5)

    def forward(self, x: Tensor, h: State = None) -> tuple[Tensor, Tensor]:
        y = self.table(x).cumsum(0) + (0 if h is None else h)
        return y, y[-1]


class TokensAlone(nn.Module):
    def forward(self, x: Tensor, h: State = None) -> tuple[Tensor, Tensor]:
        y = x.cumsum(0) + (0 if h is None else h)
        return y, y[-1]


class OneBatchSize(Loop):
    """It takes four items and no others."""

    def forward(self, x: Tensor, h: State = None) -> tuple[Tensor, Tensor]:
        if x.shape[1] != 4:
            raise ValueError("four items, please")
        return super().forward(x, h)


class Long(Loop):
    def forward(self, x: Tensor, h: State = None) -> tuple[Tensor, Tensor]:
        for _ in range(asked.MOST_OPERATIONS):
            x = x + 1
        return super().forward(x, h)


class Pair(NamedTuple):
    h: Tensor
    c: Tensor


@dataclass
class Data:
    h: Tensor
    c: Tensor


def _with_state(make: Callable[[Tensor, Tensor], Any], read: Callable[[Any], tuple[Tensor, Tensor]]) -> type[nn.Module]:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inputs = nn.Linear(4, 5)

        def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
            h, c = (x.new_zeros(x.shape[1], 5), x.new_zeros(x.shape[1], 5)) if state is None else read(state)
            ys = []
            for each in self.inputs(x):
                c = 0.5 * c + each
                h = torch.tanh(c + h)
                ys.append(h)
            return torch.stack(ys), make(h, c)

    return Net


FORMS: dict[str, type[nn.Module]] = {
    "tuple": _with_state(lambda h, c: (h, c), lambda state: state),
    "list": _with_state(lambda h, c: [h, c], lambda state: (state[0], state[1])),
    "dict": _with_state(lambda h, c: {"h": h, "c": c}, lambda state: (state["h"], state["c"])),
    "namedtuple": _with_state(Pair, lambda state: (state.h, state.c)),
    "dataclass": _with_state(Data, lambda state: (state.h, state.c)),
    "nested": _with_state(
        lambda h, c: [{"h": h}, (c, torch.zeros(h.shape[0], dtype=torch.long))],
        lambda state: (state[0]["h"], state[1][0]),
    ),
}

NETS: dict[str, Callable[[], nn.Module]] = {
    "RNN": lambda: nn.RNN(4, 5, 2),
    "LSTM": lambda: nn.LSTM(4, 5, bidirectional=True, batch_first=True),
    "GRU": lambda: nn.GRU(4, 5),
}


@pytest.mark.parametrize("net", NETS)
def test_what_torch_takes_of_its_own_modules(net: str) -> None:
    found = {each.name: each for each in supports(case_for(NETS[net]))}
    outcomes = {name: each.outcome for name, each in found.items()}
    assert outcomes == {
        "vmap": "refused",
        "jvp": "right",
        "compile": "right",
        "export": "refused",
        "scripting": "right",
    }
    assert found["vmap"].message.startswith("Batching rule not implemented for aten::")
    assert found["compile"].message.startswith("torch.compile leaves all of it uncompiled: Attempted to wrap RNN")
    assert "right at L = 3, N = 2, where it was made; at another L it refuses" in found["export"].message


@pytest.mark.parametrize("cls", [Loop, BatchFirstLoop])
@pytest.mark.parametrize("name", ["vmap", "jvp", "compile"])
def test_a_loop_is_taken(name: str, cls: type[nn.Module]) -> None:
    found = tried(name, cls)
    assert found.outcome == "right"
    assert (found.max_abs or 0.0) <= (found.bound or 0.0) < 1e-11


def test_a_loop_is_scripted() -> None:
    found = tried("scripting", Loop)
    assert (found.outcome, found.message, found.max_abs) == ("right", "", 0.0)


@pytest.mark.parametrize("cls", [Loop, BatchFirstLoop])
def test_an_export_of_a_loop_freezes_its_length(cls: type[nn.Module]) -> None:
    found = tried("export", cls)
    assert found.outcome == "refused"
    assert found.message.startswith("right at L = 3, N = 2, where it was made; at another L it refuses: ")
    assert found.max_abs == 0.0


def test_without_a_loop_an_export_takes_every_size() -> None:
    found = tried("export", Sum)
    assert (found.outcome, found.message) == ("right", "with L and N dynamic")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["vmap", "jvp"])
def test_a_state_of_any_form_is_taken(name: str, form: str) -> None:
    assert tried(name, FORMS[form]).outcome == "right"


@pytest.mark.parametrize("form", ["dataclass", "nested"])
def test_a_state_of_any_form_is_compiled(form: str) -> None:
    assert tried("compile", FORMS[form]).outcome == "right"


@pytest.mark.parametrize("form", FORMS)
def test_an_export_takes_what_is_a_pytree(form: str) -> None:
    found = tried("export", FORMS[form])
    assert found.outcome == "refused"
    assert ("where it was made" in found.message) is (form != "dataclass")


@pytest.mark.parametrize(
    ("name", "cls", "says"),
    [
        ("vmap", ConditionOfData, "data-dependent control flow"),
        ("vmap", Item, "calling .item() on a Tensor"),
        ("vmap", Numpy, "data pointer"),
        ("vmap", InPlaceBuffer, "inplace arithmetic"),
        ("jvp", Numpy, "data pointer"),
        ("jvp", InPlaceBuffer, "mutate a captured Tensor"),
        ("export", ConditionOfData, "data-dependent expression"),
        ("export", Numpy, ".numpy() is not supported"),
        ("scripting", VariableArguments, "can't take variable number of arguments"),
        ("scripting", Numpy, "object has no attribute"),
        ("jvp", Exits, "good bye"),
        ("export", Exits, "good bye"),
        ("vmap", Exits, "good bye"),
    ],
)
def test_what_is_refused_has_a_reason_in_one_line(name: str, cls: type[nn.Module], says: str) -> None:
    found = tried(name, cls)
    assert found.outcome == "refused"
    assert says in found.message
    assert "\n" not in found.message
    assert "/" not in found.message
    assert 0 < len(found.message) <= 220


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("vmap", WrongDerivatives),
        ("jvp", WrongDerivatives),
        ("compile", OtherWhileCompiling),
        ("export", OtherWhileCompiling),
    ],
)
def test_what_is_wrong_is_told_with_how_far(name: str, cls: type[nn.Module]) -> None:
    found = tried(name, cls)
    assert found.outcome == "wrong"
    assert found.max_abs is not None
    assert found.bound is not None
    assert found.max_abs > 1e6 * found.bound
    assert f"is {found.max_abs:.2g} off" in found.message


def test_finite_differences_decide_between_forward_mode_and_autograd() -> None:
    found = tried("jvp", WrongGradients)
    assert found.outcome == "right"
    assert found.message == "finite differences agree with it, and autograd's gradients do not"


@pytest.mark.parametrize(
    ("cls", "says"),
    [(Item, "2 graph breaks: Unsupported Tensor.item() call"), (ConditionOfData, "1 graph break: Data-dependent")],
)
def test_graph_breaks_are_counted(cls: type[nn.Module], says: str) -> None:
    found = tried("compile", cls)
    assert found.outcome == "right"
    assert found.message.startswith(says)


def test_without_a_compiler_another_back_end_is_told() -> None:
    assert tried("compile", Loop).message == "by aot_eager, since there is no compiler"


@pytest.mark.skipif(not _compiles("cpu"), reason="torch.compile finds no C++ compiler")
def test_inductor_compiles_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "_compiles", _compiles)
    found = tried("compile", Decay)
    assert (found.outcome, found.message) == ("right", "")
    assert (found.max_abs or 0.0) <= (found.bound or 0.0) < 1e-12


def test_a_module_that_carries_on_is_compared_call_by_call() -> None:
    assert tried("compile", CarriesOn).outcome == "right"


def test_too_many_operations_are_not_compiled() -> None:
    found = tried("compile", Long)
    assert found.outcome == "not_applicable"
    assert found.message.startswith("not tried: 5")


@pytest.mark.parametrize("name", ["vmap", "jvp", "export"])
def test_whole_numbers_are_taken(name: str) -> None:
    assert tried(name, Tokens, torch.arange(40).reshape(10, 4) % 9).outcome == "right"


def test_without_a_finite_number_there_is_no_derivative() -> None:
    assert tried("jvp", Infinite).outcome == "not_applicable"


def test_without_any_number_there_is_no_derivative() -> None:
    found = tried("jvp", TokensAlone, torch.arange(40).reshape(10, 4) % 9)
    assert (found.outcome, found.message) == ("not_applicable", "it has no parameters, and x holds whole numbers")


@pytest.mark.parametrize("name", ["vmap", "jvp"])
def test_a_module_of_one_batch_size_is_asked_at_that(name: str) -> None:
    assert tried(name, OneBatchSize).outcome == "right"


def test_what_is_right_where_it_was_made_may_be_wrong_elsewhere() -> None:
    case = case_for(Loop)
    here, longer = asked._case_at(case, 3, 2), asked._case_at(case, 5, 2)
    plain = here.copy()

    def frozen(x: Tensor, h: Tensor) -> Any:
        y, state = plain(x[:3], h)
        return torch.cat((y, y.new_zeros(len(x) - 3, *y.shape[1:]))), state

    found = asked._judged((here,), (longer,), frozen)
    assert found.outcome == "wrong"
    assert found.message.startswith("right at L = 3, N = 2, where it was made; at another L y is ")


def test_another_shape_is_told() -> None:
    case = asked._case_at(case_for(Loop), 3, 2)
    found = asked._judged((case,), (), lambda x, h: (x, h))
    assert (found.outcome, found.message) == ("wrong", "at L = 3, N = 2 y is (3, 2, 4) instead of (3, 2, 5)")


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    case = case_for(PrintsAndWarns)
    capfd.readouterr()
    supports(case)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("cls", [ConditionOfData, Numpy])
def test_torch_prints_nothing_of_what_it_refuses(cls: type[nn.Module], capfd: pytest.CaptureFixture[str]) -> None:
    tried("export", cls)
    assert capfd.readouterr() == ("", "")


def test_torch_is_left_as_it_was() -> None:
    from torch._dynamo.utils import counters

    before = (torch.get_default_dtype(), logging.root.manager.disable, torch.is_grad_enabled())
    tried("compile", Decay)
    assert (torch.get_default_dtype(), logging.root.manager.disable, torch.is_grad_enabled()) == before
    assert not counters


def test_ctrl_c_passes() -> None:
    with pytest.raises(KeyboardInterrupt):
        tried("vmap", Interrupted)


def test_the_bound_is_that_of_rounding() -> None:
    found = tried("jvp", Loop)
    assert found.bound is not None
    assert 0.0 < found.bound < math.sqrt(2.0**-53)
