"""The relations state_dict and copies, of modules that keep them and of modules that break each in one way."""

import io
import re
import threading
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rnnscope import Spec, check
from rnnscope.checks.case import Case, case_of
from rnnscope.checks.copies import copies, state_dict
from rnnscope.checks.facts import Relation
from rnnscope.checks.outside import kept_outside
from rnnscope.checks.probing import probed
from rnnscope.checks.values import Place
from rnnscope.subjects.devices import running
from rnnscope.subjects.user_code import find_own

State = Tensor | None


@pytest.fixture(autouse=True)
def in_its_place() -> Iterator[None]:
    with running(Spec()):
        yield


def case_for(module: nn.Module, make: Callable[[], nn.Module] | None = None, name: str = "Net") -> Case:
    """A case of a module with L = 6, N = 3, H_in = 4."""
    x = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(1))
    return case_of(probed(name, module, x, make), x)


def case_of_class(cls: Callable[[], nn.Module]) -> Case:
    torch.manual_seed(0)
    return case_for(cls(), cls)


class Plain(nn.Module):
    """A loop over the steps with a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(4, 5)

    def forward(self, x: Tensor, h: State = None) -> tuple[Tensor, Tensor]:
        h = x.new_zeros(x.shape[1], 5) if h is None else h
        ys = []
        for each in x:
            h = self.step(each, h)
            ys.append(h)
        return torch.stack(ys), h

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        result: Tensor = self.cell(x, h)
        return result


class PlainTensor(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.rand(5)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return self.scale * super().step(x, h)


class ConstantTensor(PlainTensor):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.full((5,), 0.5)


class UnsavedBuffer(PlainTensor):
    def __init__(self) -> None:
        super().__init__()
        scale = self.scale
        del self.scale
        self.register_buffer("scale", scale, persistent=False)


class ListOfModules(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.others = [nn.Linear(5, 5)]

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        result: Tensor = self.others[0](super().step(x, h))
        return result


class ListOfTensors(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.scales = [torch.rand(5)]

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return self.scales[0] * super().step(x, h)


class NestedModules(ListOfModules):
    def __init__(self) -> None:
        super().__init__()
        self.nested = {"a": [self.others[0]]}
        self.others = nn.ModuleList([nn.Linear(5, 5)])  # type: ignore[assignment]

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        result: Tensor = self.nested["a"][0](super().step(x, h))
        return result


class ListOfParameters(ListOfTensors):
    def __init__(self) -> None:
        super().__init__()
        self.scales = [nn.Parameter(each) for each in self.scales]


class PythonNumber(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.rand(()).item()

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return self.scale * super().step(x, h)


class OwnHelper(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.helper = SimpleNamespace(scale=torch.rand(5))

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        result: Tensor = self.helper.scale * super().step(x, h)
        return result


class ForgetsAParameter(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_pre_hook(self.drop)  # type: ignore[no-untyped-call]

    @staticmethod
    def drop(module: nn.Module, state: dict[str, Tensor], *_: Any) -> None:
        state["cell.bias_hh"] = module.get_parameter("cell.bias_hh").detach().clone()


class OtherKeys(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.register_state_dict_post_hook(self.rename)  # type: ignore[no-untyped-call]

    @staticmethod
    def rename(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
        state["weight"] = state.pop("cell.weight_ih")


class SavesAnObject(Plain):
    def get_extra_state(self) -> Any:
        return SimpleNamespace(a=1)

    def set_extra_state(self, state: Any) -> None:
        pass


class Nothing(nn.Module):
    def forward(self, x: Tensor, h: State = None) -> tuple[Tensor, Tensor]:
        y = x.cumsum(0) + (0 if h is None else h)
        return y, y[-1]


class NothingButAnAttribute(Nothing):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.rand(4)

    def forward(self, x: Tensor, h: State = None) -> tuple[Tensor, Tensor]:
        return super().forward(self.scale * x, h)


class KeepsState(Plain):
    def forward(self, x: Tensor, h: State = None) -> tuple[Tensor, Tensor]:
        y, self.last = super().forward(x, h)
        return y, self.last


class KeepsStateDetached(Plain):
    def forward(self, x: Tensor, h: State = None) -> tuple[Tensor, Tensor]:
        y, h = super().forward(x, h)
        self.last = h.detach()
        return y, h


class CarriesOn(Plain):
    """It starts from where it ended, and so is not stateless; its copies do the same."""

    last: State = None

    def forward(self, x: Tensor, h: State = None) -> tuple[Tensor, Tensor]:
        y, h = super().forward(x, self.last if h is None and self.last is not None else h)
        self.last = h.detach()
        return y, h


class NoGradients(Plain):
    """It writes into what autograd needs as it was."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        self.cell.bias_hh.mul_(1.0)
        return super().step(x, h)


class OnlyOnce(Plain):
    called = False

    def forward(self, x: Tensor, h: State = None) -> tuple[Tensor, Tensor]:
        if self.called:
            raise ValueError("called already")
        self.called = True
        return super().forward(x, h)


class WithLambda(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.act = lambda h: h.tanh()


class WithLock(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class WithFile(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.log = io.TextIOWrapper(io.BytesIO())


class PicklesNoLock(WithLock):
    def __deepcopy__(self, memo: dict[int, Any]) -> "PicklesNoLock":
        other = PicklesNoLock()
        other.cell = deepcopy(self.cell, memo)
        return other.train(self.training)


class CopiesToItself(Plain):
    def __deepcopy__(self, memo: dict[int, Any]) -> "CopiesToItself":
        return self


class SharesItsWeights(Plain):
    def __deepcopy__(self, memo: dict[int, Any]) -> "SharesItsWeights":
        other = type(self)()
        other.cell.load_state_dict(self.cell.state_dict())
        other.cell.weight_ih = self.cell.weight_ih
        return other.to(self.cell.weight_ih).train(self.training)


class PicklesWithoutItsScale(Plain):
    """What it leaves out it makes anew; deepcopy asks it by another method."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 0.5

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return self.scale * super().step(x, h)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "scale": 1.0}

    def __deepcopy__(self, memo: dict[int, Any]) -> "PicklesWithoutItsScale":
        other = type(self)()
        other.cell = deepcopy(self.cell, memo)
        return other.train(self.training)


class TiedWeights(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(5, 5)
        self.other = nn.Linear(5, 5)
        self.other.weight = self.one.weight

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        result: Tensor = self.other(self.one(super().step(x, h)))
        return result


KEEPING: list[Callable[[], nn.Module]] = [
    lambda: nn.RNN(4, 5, 2),
    lambda: nn.LSTM(4, 5, bidirectional=True),
    lambda: nn.GRU(4, 5, batch_first=True),
    Plain,
    TiedWeights,
    ConstantTensor,
]


# state_dict


@pytest.mark.parametrize("cls", KEEPING)
def test_a_state_dict_holds_all_that_a_module_computes_with(cls: Callable[[], nn.Module]) -> None:
    found = state_dict(case_of_class(cls))
    assert (found.outcome, found.message, found.max_abs) == ("holds", "", 0.0)


@pytest.mark.parametrize(
    ("cls", "says", "tensor"),
    [
        (PlainTensor, "the state_dict lacks scale: a tensor that is no buffer (register_buffer)", "scale"),
        (UnsavedBuffer, "the state_dict lacks scale: a buffer with persistent=False", "scale"),
        (ListOfModules, "the state_dict lacks others: a list that is no nn.ModuleList", "others[0].weight"),
        (
            ListOfTensors,
            "the state_dict lacks scales: a list of tensors, which are neither parameters nor buffers",
            "scales[0]",
        ),
        (ListOfParameters, "the state_dict lacks scales: a list that is no nn.ParameterList", "scales[0]"),
        (NestedModules, "the state_dict lacks nested: a dict that is no nn.ModuleDict", "nested['a'][0].weight"),
        (OwnHelper, "the state_dict lacks helper.scale: something that is no nn.Module", "helper.scale"),
    ],
)
def test_what_a_state_dict_lacks_is_named(cls: Callable[[], nn.Module], says: str, tensor: str) -> None:
    found = state_dict(case_of_class(cls))
    assert (found.outcome, found.message, found.place) == ("broken", says, Place(tensor))


@pytest.mark.parametrize("cls", [PythonNumber, ForgetsAParameter])
def test_what_is_no_tensor_is_noticed_by_the_result(cls: Callable[[], nn.Module]) -> None:
    found = state_dict(case_of_class(cls))
    assert found.outcome == "broken"
    assert found.place == Place("y", 0, 0, 0)
    assert found.message.startswith("the state_dict lacks something that it computes with")


def test_keys_that_do_not_fit_break_it() -> None:
    found = state_dict(case_of_class(OtherKeys))
    assert found.outcome == "broken"
    assert 'Missing key(s) in state_dict: "cell.weight_ih"' in found.message


def test_what_torch_load_refuses_breaks_it() -> None:
    found = state_dict(case_of_class(SavesAnObject))
    assert found.outcome == "broken"
    assert "weights_only=True) refuses its state_dict: UnpicklingError" in found.message


def test_without_parameters_and_buffers_it_says_nothing() -> None:
    found = state_dict(case_of_class(Nothing))
    assert (found.outcome, found.message) == ("not_applicable", "it has no parameters and no buffers")


def test_a_tensor_outside_is_asked_where_the_state_dict_is_empty() -> None:
    assert state_dict(case_of_class(NothingButAnAttribute)).outcome == "broken"


def test_a_module_that_is_there_already_is_loaded_into_a_copy() -> None:
    found = state_dict(case_for(PlainTensor()))
    assert found.outcome == "holds"
    assert "outside of parameters and buffers was not asked" in found.message


def test_a_copy_that_does_not_take_a_parameter_is_noticed() -> None:
    assert state_dict(case_for(ForgetsAParameter())).outcome == "broken"


def test_of_an_attribute_alone_a_module_that_is_there_already_says_nothing() -> None:
    found = state_dict(case_for(NothingButAnAttribute()))
    assert (found.outcome, "scale" in found.message) == ("undecided", True)


def test_a_class_that_cannot_be_built_again_says_nothing() -> None:
    def once() -> nn.Module:
        raise ValueError("built already")

    found = state_dict(case_for(Plain(), once))
    assert (found.outcome, found.message) == ("undecided", "it cannot be built again: ValueError: built already")


# copies


@pytest.mark.parametrize("cls", [*KEEPING, KeepsStateDetached, CarriesOn, NoGradients, PlainTensor, ListOfModules])
def test_copies_give_the_same_and_share_nothing(cls: Callable[[], nn.Module]) -> None:
    found = copies(case_of_class(cls))
    assert (found.outcome, found.message, found.max_abs) == ("holds", "", 0.0)


def test_a_state_that_is_kept_with_gradients_is_not_copied() -> None:
    found = copies(case_of_class(KeepsState))
    assert (found.outcome, found.place) == ("broken", Place("last"))
    assert "deepcopy is refused after a call with gradients (it keeps last, a result" in found.message
    assert "Only Tensors created explicitly by the user" in found.message


def test_a_module_that_takes_one_call_alone_says_nothing() -> None:
    found = copies(case_of_class(OnlyOnce))
    assert found.outcome == "undecided"
    assert found.message == "called a second time, it raises by itself ValueError: called already"


@pytest.mark.parametrize(
    ("cls", "says"),
    [
        (WithLambda, r"pickle is refused: .*<lambda>.*"),
        (WithLock, r"deepcopy is refused: TypeError: cannot pickle '_thread.lock' object"),
        (WithFile, r"deepcopy is refused: TypeError: cannot pickle '_io.TextIOWrapper' object"),
        (PicklesNoLock, r"pickle is refused: TypeError: cannot pickle '_thread.lock' object"),
        (CopiesToItself, r"deepcopy gives a copy that shares cell\.weight_ih, .* and 1 more with the first one"),
        (SharesItsWeights, r"deepcopy gives a copy that shares cell\.weight_ih with the first one"),
        (PicklesWithoutItsScale, r"what pickle gives does not give what the first one gives"),
    ],
)
def test_what_is_no_copy_is_told(cls: Callable[[], nn.Module], says: str) -> None:
    found = copies(case_of_class(cls))
    assert found.outcome == "broken"
    assert re.fullmatch(says, found.message)


def test_no_address_is_told() -> None:
    assert "0x" not in copies(case_of_class(WithLambda)).message


def test_a_local_class_is_told_and_breaks_nothing() -> None:
    class Local(Plain):
        pass

    found = copies(case_of_class(Local))
    assert found.outcome == "holds"
    assert found.message.startswith("pickle does not find test_a_local_class_is_told")


def test_a_lambda_in_a_local_class_breaks_it() -> None:
    class Local(WithLambda):
        pass

    assert copies(case_of_class(Local)).outcome == "broken"


def test_a_class_of_a_file_is_told_and_breaks_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import torch\nclass Net(torch.nn.GRU):\n    pass\n", encoding="utf-8")
    name = f"{tmp_path}/mine.py:Net"
    cls = find_own(name)
    found = copies(case_for(cls(4, 5), lambda: cls(4, 5), name))
    assert found.outcome == "holds"
    assert found.message == "pickle finds its class where mine.py can be imported by that name"


def test_of_a_scripted_module_deepcopy_alone_is_asked() -> None:
    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.jit.script(nn.Linear(4, 4))

        def forward(self, x: Tensor, h: State = None) -> tuple[Tensor, Tensor]:
            y = self.inner(x).cumsum(0) + (0 if h is None else h)
            return y, y[-1]

    found = copies(case_of_class(Inside))
    assert found.outcome == "holds"
    assert "scripted" in found.message


def test_the_module_itself_stays_as_it_was() -> None:
    case = case_of_class(Plain)
    before = {name: each.clone() for name, each in case.module.state_dict().items()}
    found: list[Relation] = [copies(case), state_dict(case)]
    assert [each.outcome for each in found] == ["holds", "holds"]
    assert all(torch.equal(each, before[name]) for name, each in case.module.state_dict().items())


# what is kept outside


def test_owners_in_lists_end() -> None:
    net = ListOfModules()
    net.others[0].owner = [net]  # type: ignore[assignment]
    assert list(kept_outside(net)) == ["others[0].weight", "others[0].bias"]


def test_torchs_own_refusal_to_pickle_a_parametrized_module_is_no_fault_of_it() -> None:
    torch.manual_seed(0)
    module = nn.utils.parametrizations.orthogonal(nn.Linear(4, 4))
    found = check(module, torch.randn(5, 2, 4), only=("copies",))
    assert found["copies"].outcome == "holds"
    assert "parametrized" in found["copies"].message
