"""What others make of the graveyard: its bugs and their right twins, each asked on the same input.

`python tests/benchmarks/peers.py`, with `--each` for a line a bug, and 1 or 2 for one half. Asserts nothing.
`rnnscope help graveyard` has the figures. Asked are

- torch.testing.assert_close at its defaults, and at the tolerance that the report's own thread has;
- torch._dynamo.utils.same at its defaults, with float64 as the reference: how torch judges its own compiler;
- torch.onnx.testing.assert_onnx_program, where the bug is in an ONNX file;
- rnnscope.

Each is asked in the best way for it: outputs that one side does not give are left out, and an exception that a run
raises counts as found. A place is told if what is printed has every fact of it that the bug's file names. Of a place
that assert_close prints, the index of the greatest difference, step, item, layer and unit are read. A reason is told if
the name of the bug is given, where that says more than that it is another function.
"""

import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from graveyard.grave import Answer, Bug, Model, Pair, Tensors, answer_of, bugs, is_named, is_placed
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from rnnscope import RnnscopeError, Spec


class Told(NamedTuple):
    """What one says of one pair: whether they differ, or None where that is not decided; which place and reason."""

    differs: bool | None
    place: bool = False
    reason: bool = False


class Asked(NamedTuple):
    """A bug, its pair and what rnnscope found of its sizes; faulty or the right twin."""

    bug: Bug
    pair: Pair
    spec: Spec | None
    path: Path
    faulty: bool


def both(pair: Pair) -> tuple[Tensors, Tensors, Tensors]:
    """What both sides give."""
    names = [name for name in pair.expected if name in pair.actual]
    return tuple({name: each[name] for name in names} for each in pair)  # type: ignore[return-value]


def by_assert_close(asked: Asked, rtol: float | None = None, atol: float | None = None) -> Told:
    expected, actual, _ = both(asked.pair)
    if not actual:
        return Told(True)
    try:
        torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)
    except AssertionError as error:
        return Told(True, has_place(asked, str(error)))
    return Told(False)


def by_the_thread(asked: Asked) -> Told | None:
    if asked.bug.tolerance is None:
        return None
    rtol, atol = asked.bug.tolerance
    return by_assert_close(asked, rtol, atol)


def by_same(asked: Asked) -> Told:
    from torch._dynamo.utils import same

    expected, actual, exact = (list(each.values()) for each in both(asked.pair))
    if not actual:
        return Told(True)
    return Told(not same(expected, actual, fp64_ref=exact, log_error=lambda *_: None))


class Outputs(nn.Module):
    """A module that gives the first of its outputs, as many as a file has."""

    def __init__(self, module: nn.Module, many: int) -> None:
        super().__init__()
        self.module, self.many = module, many

    def forward(self, *given: Any) -> tuple[Tensor, ...]:
        outputs: list[Tensor] = tree_leaves(self.module(*given))
        return tuple(outputs[: self.many])


def by_onnx(asked: Asked) -> Told | None:
    form = asked.bug.form
    if not isinstance(form, Model) or form.suffix != ".onnx":
        return None
    import onnx_ir
    from torch.onnx import ONNXProgram
    from torch.onnx.testing import assert_onnx_program

    module, x, hx = form.write(asked.faulty, asked.path)
    model = onnx_ir.load(str(asked.path))
    given = (x,) if hx is None else (x, hx)
    program = torch.export.export(Outputs(module.eval(), len(model.graph.outputs)), given)
    try:
        assert_onnx_program(ONNXProgram(model, program), args=given, strategy=None)
    except AssertionError as error:
        return Told(True, has_place(asked, str(error)))
    except Exception as error:
        if "onnxruntime" not in type(error).__module__:
            raise
        return Told(True)  # it cannot be run
    return Told(False)


def has_place(asked: Asked, message: str) -> bool:
    """Whether the message of assert_close says where it is: by the index of the greatest absolute difference."""
    at = re.search(r"Greatest absolute difference: \S+ at index (\(.*?\))", message)
    name = re.search(r"for item \['(.*?)'\]", message)
    if at is None or not asked.bug.place or asked.spec is None:
        return False
    spec, index = asked.spec, [int(each) for each in re.findall(r"\d+", at[1])]
    tensor = name[1] if name else next(iter(asked.pair.expected))
    place: dict[str, Any] = {"tensor": tensor, "name": tensor.removeprefix("gradient of "), "unit": index[-1]}
    if tensor == "y" and len(index) > 1:
        step, item = (index[1], index[0]) if spec.batch_first else (index[0], index[1])
        place |= {"step": step, "item": item, "batch": item, "layer": spec.num_layers - 1}
        half = spec.output_size // spec.directions
        place |= {"direction": index[-1] // half, "unit": index[-1] % half}
    elif tensor in ("h", "c") and len(index) == 3:
        place |= {"step": spec.seq_len - 1, "item": index[1], "batch": index[1]}
        place |= {"layer": index[0] // spec.directions, "direction": index[0] % spec.directions}
    return all(place.get(fact) == value for fact, value in asked.bug.place.items())


def by_rnnscope(bug: Bug, answer: Answer | None) -> Told:
    if answer is None or not answer.decided:
        return Told(None)
    named = has_name(bug) and is_named(bug, answer)
    return Told(answer.found, answer.found and bool(bug.place) and is_placed(bug, answer), answer.found and named)


def has_name(bug: Bug) -> bool:
    """Whether a page of `rnnscope explain` says more of it than that it is another function."""
    return bug.named not in (None, "function")


WHO = "rnnscope"

PEERS: dict[str, Callable[[Asked], Told | None]] = {
    "assert_close": by_assert_close,
    "assert_close, thread's": by_the_thread,
    "same, float64": by_same,
    "torch.onnx": by_onnx,
}


def told_of(bug: Bug, faulty: bool, folder: Path) -> dict[str, Told | None]:
    """What each says of a bug, or of its right twin."""
    try:
        result = bug.form.asked(faulty, folder)
        answer, spec = answer_of(result), result.spec
    except RnnscopeError:
        answer = spec = None  # type: ignore[assignment]
    path = bug.form.path(faulty, folder) if isinstance(bug.form, Model) else folder
    asked = Asked(bug, bug.form.pair(faulty, folder), spec, path, faulty)
    return {name: ask(asked) for name, ask in PEERS.items()} | {WHO: by_rnnscope(bug, answer)}


Row = tuple[str, Bug, dict[str, Told | None], dict[str, Told | None]]


def rows(halves: set[int]) -> Iterator[Row]:
    for name, bug in bugs().items():
        if bug.half not in halves:
            continue
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield name, bug, told_of(bug, True, Path(folder)), told_of(bug, False, Path(folder))


def table(found: list[Row]) -> None:
    columns = ("asked", "found", "missed", "twins called wrong", "place told", "reason told")
    print(f"| {len(found)} bugs and their twins | {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|---|")
    placed = sum(bool(bug.place) for _, bug, _, _ in found)
    named = sum(has_name(bug) for _, bug, _, _ in found)
    for who in (*PEERS, WHO):
        faulty = [each for _, _, told, _ in found if (each := told[who]) is not None]
        right = [each for _, _, _, told in found if (each := told[who]) is not None]
        differs, undecided = sum(each.differs is True for each in faulty), sum(each.differs is None for each in right)
        alarms = f"{sum(each.differs is True for each in right)}" + (f" ({undecided} undecided)" if undecided else "")
        where, why = sum(each.place for each in faulty), sum(each.reason for each in faulty)
        cells = (who, len(faulty), differs, len(faulty) - differs, alarms, f"{where} of {placed}", f"{why} of {named}")
        print(f"| {' | '.join(map(str, cells))} |")


def main() -> None:
    halves = {int(word) for word in sys.argv[1:] if word.isdecimal()} or {1, 2}
    found = list(rows(halves))
    if "--each" in sys.argv:
        marks = {True: "differs", False: "same", None: "undecided"}
        for name, _, faulty, right in found:
            for what, told in (("faulty", faulty), ("right", right)):
                said = (
                    f"{who}: {marks[each.differs]}{' place' * each.place}{' reason' * each.reason}"
                    for who, each in told.items()
                    if each is not None
                )
                print(f"{name} {what}: {'; '.join(said)}")
    for some in (*({half} for half in halves), *([halves] if len(halves) > 1 else [])):
        print(f"\nHalf {' and '.join(map(str, sorted(some)))}\n")
        table([each for each in found if each[1].half in some])


if __name__ == "__main__":
    main()
