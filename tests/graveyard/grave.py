"""What a bug in the graveyard is: a report, a faulty side with a right twin, and what must be found of it.

Each bug is one file of this folder, which says `BUG = Bug(...)`. Its form says how it is asked: two modules, a model's
file, a side of a command line, or a module that has nothing to be compared with. `asked` puts the question to rnnscope;
`pair` runs the same two on the same input in plain torch, for whoever compares by hand.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import pytest
import torch
from device_stand_ins import stand_in
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

import rnnscope
from rnnscope import Check, Comparison, Spec
from rnnscope.network.weights import Input, Weights
from rnnscope.pages.render import render
from rnnscope.spec.options import NO_FILES
from rnnscope.spec.sides import AS_IT_IS, LEFT, NOTHING_SAID_OF_SIDES, RIGHT
from rnnscope.subjects import builtin
from rnnscope.subjects.builtin import Run, Subject, run_module
from rnnscope.subjects.devices import running
from rnnscope.verdict.making import side_called
from rnnscope.verdict.problem import clear_padding, draw_problem

HERE = Path(__file__).parent

Tensors = dict[str, Tensor]


class Pair(NamedTuple):
    """What was expected, what came out, and what is expected in float64; the names and the order are the same."""

    expected: Tensors
    actual: Tensors
    exact: Tensors


class Form(Protocol):
    """How a bug is asked, of its faulty side or of its right twin."""

    def asked(self, faulty: bool, folder: Path) -> Comparison | Check: ...

    def pair(self, faulty: bool, folder: Path) -> Pair: ...


@dataclass(frozen=True)
class Bug:
    """One real bug, written anew from what its report tells.

    Args:
        report: owner/name#number. told: what went wrong, in one sentence without a full stop.
        half: 1 or 2; the first half was looked at, and what it showed was mended, before the second one was.
        form: how it is asked.
        named: the name on a page of `rnnscope explain` that fits it best; None where no page has one.
        place: what must be told of where it is: facts of the first divergence, of the gradient or of the relation.
        tolerance: rtol and atol as the report's own thread has them; None where it has none.
        needs: a program without which its own cannot be built; "" where there is none.
        missed: what rnnscope does not tell of it, and why: of found, named, placed, and of the twin.
    """

    report: str
    told: str
    half: Literal[1, 2]
    form: Form
    named: str | None
    place: dict[str, Any]
    tolerance: tuple[float, float] | None = None
    needs: str = ""
    missed: dict[str, str] = field(default_factory=dict)


class Answer(NamedTuple):
    """What rnnscope says: whether it is found, under which names, and where."""

    found: bool
    decided: bool
    names: tuple[str, ...]
    place: dict[str, Any]
    text: str


def answer_of(result: Comparison | Check) -> Answer:
    text = render(result, "markdown", io.StringIO())
    if isinstance(result, Check):
        broken = result.told("broken")
        at = broken[0].place if broken else None
        names = tuple(each.relation for each in broken)
        return Answer(bool(broken), result.exit_code != 2, names, asdict(at) if at else {}, text)
    facts = result.facts()
    places = (facts["first_divergence"], facts["gradient_fault"], facts["frozen"])
    place: dict[str, Any] = {}
    for each in places:
        place |= each or {}
    shapes = (each["name"] for each in facts["outputs"] if each["shape"] != each["right_shape"])
    place |= {"tensor": next(shapes, None)} if facts["cause"] == "shape" else {}
    names = tuple(each.replace(" ", "-") for each in result.more)
    return Answer(result.exit_code == 1, result.exit_code != 2, names, place, text)


def is_named(bug: Bug, answer: Answer) -> bool:
    return bug.named is None or bug.named in answer.names


def is_placed(bug: Bug, answer: Answer) -> bool:
    return all(answer.place.get(name) == value for name, value in bug.place.items())


@dataclass(frozen=True)
class Modules:
    """Two modules, each with its own weights, on one input: `make(faulty)` gives left, right, x and hx.

    read: the outputs of the right module by the names of torch's: y, h and c. grad: whether gradients are compared,
    too. more: what is said to `compare` besides.
    """

    make: Callable[[bool], tuple[nn.Module, nn.Module, Tensor, Any]]
    read: Callable[[Any], Tensors] | None = None
    grad: bool = False
    more: dict[str, Any] = field(default_factory=dict)

    def asked(self, faulty: bool, folder: Path) -> Comparison:
        left, right, x, hx = self.make(faulty)
        return rnnscope.compare(left, right, x, hx, grad=self.grad, **self.more)

    def pair(self, faulty: bool, folder: Path) -> Pair:
        left, right, x, hx = self.make(faulty)
        exact = run_by_hand(copy.deepcopy(left).double(), in_float64(x), in_float64(hx), None, self.grad)
        return Pair(run_by_hand(left, x, hx, None, self.grad), run_by_hand(right, x, hx, self.read, self.grad), exact)


@dataclass(frozen=True)
class Model:
    """A module and an export of it: `write(faulty, path)` writes the file, and gives the module, x and hx.

    suffix: .onnx or .pt2. The file takes x, h0 and c0 in this order, as many of them as it has, and gives y, h and c.
    """

    write: Callable[[bool, Path], tuple[nn.Module, Tensor, Any]]
    suffix: str = ".onnx"
    more: dict[str, Any] = field(default_factory=dict)

    def path(self, faulty: bool, folder: Path) -> Path:
        return folder / f"{'faulty' if faulty else 'right'}{self.suffix}"

    def asked(self, faulty: bool, folder: Path) -> Comparison:
        path = self.path(faulty, folder)
        module, x, hx = self.write(faulty, path)
        return rnnscope.compare(module, str(path), x, hx, **self.more)

    def pair(self, faulty: bool, folder: Path) -> Pair:
        path = self.path(faulty, folder)
        module, x, hx = self.write(faulty, path)
        exact = run_by_hand(copy.deepcopy(module).double(), in_float64(x), in_float64(hx))
        expected = run_by_hand(module, x, hx)
        run = run_onnx if self.suffix == ".onnx" else run_exported
        return Pair(expected, dict(zip(expected, run(path, (x, *tree_leaves(hx))), strict=False)), exact)


@dataclass(frozen=True)
class Sides:
    """Two sides as on a command line: `right(faulty, folder)` is the word for --right.

    machine: puts a stand-in for a device in place, by its first argument, with the fault or without.
    """

    spec: Spec
    right: Callable[[bool, Path], str]
    left: str = "module"
    machine: Callable[[pytest.MonkeyPatch, bool], None] | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def asked(self, faulty: bool, folder: Path) -> Comparison:
        with self._on_its_machine(faulty):
            return rnnscope.compare(self.spec, self.left, self.right(faulty, folder), **self.more)

    def pair(self, faulty: bool, folder: Path) -> Pair:
        grad, own = self.more.get("grad", False), NOTHING_SAID_OF_SIDES
        with self._on_its_machine(faulty), running(self.spec, grad) as placed:
            one = side_called("left", LEFT, self.left, self.spec, None, own.left, AS_IT_IS, NO_FILES)
            other = side_called(
                "right", RIGHT, self.right(faulty, folder), self.spec, None, own.right, AS_IT_IS, NO_FILES
            )
            problem = draw_problem(placed, (one.spec.dtype, other.spec.dtype), grad)
            clear_padding(placed, problem.given.x)
            exact = replace(one, spec=replace(one.spec, device="cpu"))
            expected = one.solve(problem, one.spec.dtype)
            return Pair(expected, other.solve(problem, other.spec.dtype), exact.solve(problem, "float64"))

    @contextmanager
    def _on_its_machine(self, faulty: bool) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            if self.machine is not None:
                self.machine(patch, faulty)
            yield


@dataclass(frozen=True)
class Checked:
    """A module with nothing to compare it with: `make(faulty)` gives the module, x and a state.

    by_hand: what whoever reported it compared: two runs of that module, x and state that must give the same. For the
    run in float64 it is given all three in float64.
    """

    make: Callable[[bool], tuple[nn.Module, Tensor, Any]]
    by_hand: Callable[[nn.Module, Tensor, Any], tuple[Tensors, Tensors]]
    more: dict[str, Any] = field(default_factory=dict)

    def asked(self, faulty: bool, folder: Path) -> Check:
        module, x, state = self.make(faulty)
        return rnnscope.check(module, x, state, **self.more)

    def pair(self, faulty: bool, folder: Path) -> Pair:
        with torch.no_grad():
            module, x, state = self.make(faulty)
            exact, _ = self.by_hand(copy.deepcopy(module).double().eval(), in_float64(x), in_float64(state))
            return Pair(*self.by_hand(module.eval(), x, state), exact)


def device(kind: str, fault: Subject, float64: str = "") -> Callable[[pytest.MonkeyPatch, bool], None]:
    """A machine with a device of a type, on which torch's module computes what `fault` says, if it is faulty.

    float64: as in device_stand_ins.stand_in.
    """

    def machine(patch: pytest.MonkeyPatch, faulty: bool) -> None:
        stand_in(patch, kind, float64)

        def run(spec: Spec, weights: Weights, given: Input) -> Run:
            is_there = spec.device.partition(":")[0] == kind
            return (fault if is_there and faulty else run_module)(spec, weights, given)

        patch.setitem(builtin.SUBJECTS, "module", run)

    return machine


def in_float64(value: Any) -> Any:
    return tree_map(lambda e: e.double() if isinstance(e, Tensor) and e.is_floating_point() else e, value)


def run_by_hand(
    module: nn.Module, x: Tensor, hx: Any, read: Callable[[Any], Tensors] | None = None, grad: bool = False
) -> Tensors:
    """y, h and c, and with `grad` the gradients of x, state and parameters, for a sum of all outputs with weights."""
    module = module.eval()
    if not grad:
        with torch.no_grad():
            return _named(module(x) if hx is None else module(x, hx), read)
    x, hx = x.clone().requires_grad_(), tree_map(lambda each: each.clone().requires_grad_(), hx)
    outputs = _named(module(x) if hx is None else module(x, hx), read)
    generator = torch.Generator().manual_seed(0)
    total = sum(
        (each * torch.randn(each.shape, generator=generator, dtype=torch.float64).to(each)).sum()
        for each in outputs.values()
    )
    leaves = {"x": x} | dict(zip(("h0", "c0"), tree_leaves(hx), strict=False)) | dict(module.named_parameters())
    found = torch.autograd.grad(total, [*leaves.values()], materialize_grads=True)  # type: ignore[arg-type]
    gradients = {f"gradient of {name}": each for name, each in zip(leaves, found, strict=True)}
    return {name: each.detach() for name, each in outputs.items()} | gradients


def _named(outputs: Any, read: Callable[[Any], Tensors] | None) -> Tensors:
    return read(outputs) if read else dict(zip(("y", "h", "c"), tree_leaves(outputs), strict=False))


def run_onnx(path: Path, given: tuple[Tensor, ...]) -> list[Tensor]:
    import onnxruntime  # type: ignore[import-untyped,unused-ignore]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    outputs = session.run(None, {name: each.numpy() for name, each in zip(names, given, strict=False)})
    return [torch.from_numpy(each) for each in outputs]


def run_exported(path: Path, given: tuple[Tensor, ...]) -> list[Tensor]:
    program = torch.export.load(str(path))
    with torch.no_grad():
        return tree_leaves(program.module()(*given))


def bugs() -> dict[str, Bug]:
    """Every bug of this folder by the name of its file."""
    names = sorted(path.stem for path in HERE.glob("*_[0-9]*.py"))
    return {name: import_module(f"graveyard.{name}").BUG for name in names}
