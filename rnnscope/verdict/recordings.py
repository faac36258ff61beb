"""Compares two files of recorded runs, module by module. Nothing of the recorded model is run, only the equations.

Weights, inputs and outputs are held against each other, and each run against the equations with its own weights and
input. Where weights and input agree, so must the outputs, within the bounds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.files.loading import Loaded, Recording, load_call
from rnnscope.files.recording import MOST, about_in, call_in, calls_in
from rnnscope.files.tensors import read_file
from rnnscope.network.costs import check_memory
from rnnscope.network.shapes import OUTPUTS
from rnnscope.network.weights import time_of
from rnnscope.pages.page import counted
from rnnscope.pages.progress import progress, stage
from rnnscope.spec.options import SOURCE_FLAGS, Sources
from rnnscope.spec.question import DEFAULT_QUESTION
from rnnscope.spec.sides import RECORDED
from rnnscope.spec.spec import Spec
from rnnscope.subjects.devices import running
from rnnscope.verdict.bounds import TOO_WIDE, UNITS
from rnnscope.verdict.chunks import rows_of
from rnnscope.verdict.evidence import Evidence, Side, recorded_side
from rnnscope.verdict.figures import Check, Difference, difference
from rnnscope.verdict.modules import NETWORK, ComparedModule, ComparedRuns, JudgedRun
from rnnscope.verdict.problem import Problem, Tensors, clear_padding, draw_problem
from rnnscope.verdict.result import Comparison

ROUNDINGS = 256.0
"""Inputs that are so many roundings apart are taken for the same: what stands between modules rounds, too."""

AMPLIFIED = 16.0
"""By how much that which stands between modules may enlarge what earlier outputs are apart, as a share of each."""

Compare = Callable[..., Comparison]
"""Compares a Spec's two subjects, of which one is recorded."""


def compare_recordings(left: str, right: str, sources: Sources, spec: Spec, compare: Compare) -> ComparedRuns:
    """Compare the runs in two files, matched by the paths of their modules.

    Args:
        sources: prefixes name one run of each file; without them all are compared.
        spec: threads, and whether memory is checked.
        compare: judges one run.

    Raises:
        RnnscopeError: a file cannot be read, lacks a weight or an input, or has no run in common with the other.
    """
    contents = {file: read_file(file) for file in dict.fromkeys((left, right))}
    names, only_left, only_right = _matched(left, right, contents, sources)
    calls = {file: calls_in(each) for file, each in contents.items()}
    modules: list[ComparedModule] = []
    with running(spec) as placed, progress(len(names), "modules") as advance:
        for one, other in names:
            with stage(one or "the model"):
                runs = _RunOf(left, one, calls[left][one]), _RunOf(right, other, calls[right][other])
                modules.append(_module(runs, modules, replace(spec, threads=placed.threads), compare))
            advance(1)
        threads = placed.threads or torch.get_num_threads()
    places = {file: _where(content) for file, content in contents.items()}
    recorded = {file: place for file, place in places.items() if place}
    notes = tuple(note for file, content in contents.items() for note in _notes(file, content))
    version = str(torch.__version__)
    return ComparedRuns(left, right, sources, tuple(modules), only_left, only_right, recorded, notes, threads, version)


def _matched(
    left: str, right: str, contents: dict[str, Any], sources: Sources
) -> tuple[list[tuple[str, str]], tuple[str, ...], tuple[str, ...]]:
    """The names of runs that belong together, and those that only one file has."""
    one, other = calls_in(contents[left]), calls_in(contents[right])
    if sources.prefix is not None or sources.right_prefix is not None:
        prefixes = (sources.prefix or sources.right_prefix, sources.right_prefix or sources.prefix)
        found = []
        for flag, file, prefix in zip(("prefix", "right_prefix"), (left, right), prefixes, strict=True):
            call_in(file, contents[file], prefix, SOURCE_FLAGS[flag].name)
            known = calls_in(contents[file])
            found.append(prefix if prefix in known else next(iter(known)))
        return [(str(found[0]), str(found[1]))], (), ()
    if len(one) == len(other) == 1:
        return [(next(iter(one)), next(iter(other)))], (), ()
    common = [name for name in one if name in other]
    if not common:
        names = [next(iter(each)) for each in (one, other)]
        raise RnnscopeError(
            f"{left} and {right} have no run of one name in common",
            f"name one of each, such as --prefix {names[0]} --right-prefix {names[1]}",
        )
    only_left, only_right = (tuple(name for name in each if name not in common) for each in (one, other))
    return [(name, name) for name in common], only_left, only_right


@dataclass(frozen=True, eq=False, repr=False)
class _RunOf:
    """A run in a file by its name, with its content."""

    file: str
    name: str
    content: Any

    def load(self) -> Loaded:
        try:
            return load_call(f"{self.file}:{self.name}" if self.name else self.file, self.content)
        except RnnscopeError as error:
            raise RnnscopeError(error.message, "each run needs x and its weights, in its own file") from error


@dataclass(frozen=True, eq=False, repr=False)
class _Run:
    """A run as it is compared: laid out with L first, so that a loop over a cell stands beside a module."""

    loaded: Loaded
    recording: Recording
    spec: Spec
    dtypes: tuple[str, ...]

    @property
    def outputs(self) -> Tensors:
        """y, h and c."""
        return {name: each for name, each in self.recording.tensors.items() if name in OUTPUTS}

    def side(self, role: str) -> Side:
        """The run as a side of a comparison."""
        return recorded_side(role, self.recording, self.spec)

    def problem(self, dtypes: tuple[str, ...]) -> Problem:
        """Weights and input, rounded to what all dtypes can say."""
        given = self.loaded.given and replace(self.loaded.given, x=_time_first(self.loaded.spec, self.loaded.given.x))
        problem = draw_problem(self.spec, dtypes, weights=self.loaded.weights, given=given)
        clear_padding(self.spec, problem.given.x)
        return problem


def _time_first(spec: Spec, tensor: Tensor) -> Tensor:
    return tensor.transpose(0, 1) if time_of(spec) else tensor


def _run(loaded: Loaded) -> _Run:
    recording, spec = loaded.recordings["right"], loaded.spec
    tensors = recording.tensors | {
        name: _time_first(spec, each) for name, each in recording.tensors.items() if name in ("x", "y")
    }
    dtypes = dict.fromkeys((spec.dtype, recording.dtype or spec.dtype))
    return _Run(loaded, replace(recording, tensors=tensors), replace(spec, batch_first=False), tuple(dtypes))


def _module(
    runs: tuple[_RunOf, _RunOf], before: list[ComparedModule], placed: Spec, compare: Compare
) -> ComparedModule:
    """One module in both files; before: those that were called before it."""
    loaded = [each.load() for each in runs]
    left, right = map(_run, loaded)
    if any(getattr(left.spec, name) != getattr(right.spec, name) for name in NETWORK):
        first, second = (_judged(run, each, placed, compare) for run, each in zip(runs, loaded, strict=True))
        return ComparedModule(runs[0].name, first, second)
    dtypes = tuple(dict.fromkeys((*left.dtypes, *right.dtypes)))
    problems = left.problem(dtypes), right.problem(dtypes)
    inputs = tuple(_rows(*(_inputs(each) for each in problems)))
    weights = tuple(each for each in _rows(*(each.weights for each in problems)) if not each.identical)
    outputs = _outputs(left, right)
    agree = not weights and all(each.identical for each in inputs)
    same = agree and all(each.identical for each in outputs)
    one = _judged(runs[0], loaded[0], placed, compare)
    other = _judged(runs[1], loaded[1], placed, compare) if not same else replace(one, **_facts_of(runs[1]))
    can_tell = agree and not same and one.comparison and other.comparison and _have_shapes(outputs)
    return ComparedModule(
        runs[0].name,
        one,
        other,
        inputs,
        weights,
        outputs,
        input_share=_share(inputs, _inputs(problems[0])),
        output_share=_share(outputs, left.outputs),
        input_allowed=_allowed(left, right, before),
        function=_function(left, right, problems[0]) if can_tell else None,
    )


def _facts_of(run: _RunOf) -> dict[str, Any]:
    device = about_in(run.content).get("device")
    return {"file": run.file, "name": run.name, "device": device if isinstance(device, str) else None}


def _judged(run: _RunOf, loaded: Loaded, placed: Spec, compare: Compare) -> JudgedRun:
    """A run against the equations, with its own weights and input."""
    spec = replace(loaded.spec, threads=placed.threads)
    facts = _facts_of(run) | {"spec": spec}
    if "dropout" in loaded.recordings["right"].facts:
        return JudgedRun(**facts, comparison=None)
    if placed.memory_check:
        check_memory(spec)
    with stage(f"in {run.file}"):
        return JudgedRun(**facts, comparison=compare(spec, "equations", f"{RECORDED}{run.file}", loaded=loaded))


def _inputs(problem: Problem) -> Tensors:
    """x, h0 and c0, and the lengths where it has some."""
    lengths = problem.spec.lengths
    found = problem.given.tensors()
    return found if lengths is None else found | {"lengths": torch.tensor(lengths, dtype=torch.float64)}


def _rows(left: Tensors, right: Tensors) -> list[Difference]:
    tolerance = DEFAULT_QUESTION.tolerance("float64")
    missing = torch.zeros(0)
    names = dict.fromkeys((*left, *right))
    return [difference(name, right.get(name, missing), left.get(name, missing), tolerance) for name in names]


def _outputs(left: _Run, right: _Run) -> tuple[Difference, ...]:
    """y, h and c of the steps that both have; what stands in the padding is nobody's output."""
    one, other = (each.outputs for each in (left, right))
    tolerance = DEFAULT_QUESTION.tolerance(*left.dtypes, *right.dtypes)
    return tuple(each for each in rows_of(left.spec, one, other, tolerance)[0] if each.name != "padding")


def _have_shapes(rows: tuple[Difference, ...]) -> bool:
    return all(each.max_abs is not None for each in rows)


def _share(rows: tuple[Difference, ...], expected: Tensors) -> float:
    """How far tensors are apart, as a share of the greatest number in each; infinite in other shapes."""
    found = 0.0
    for each in rows:
        if each.max_abs is None:
            return float("inf")
        greatest = expected[each.name].abs().max().item()
        share = each.max_abs / greatest if greatest else float("inf" if each.max_abs else 0.0)
        found = share if not share <= found else found
    return found


def _allowed(left: _Run, right: _Run, before: list[ComparedModule]) -> float:
    """How far inputs may be apart by rounding, as a share: by what stands between modules, and by what came before."""
    unit = max(UNITS[each.recording.arithmetic] for each in (left, right))
    shares = [AMPLIFIED * each.output_share for each in before if each.verdict in ("equivalent", "undecided")]
    return min(TOO_WIDE, max([ROUNDINGS * unit, *shares]))


def _function(left: _Run, right: _Run, problem: Problem) -> Check:
    """Are both outputs as near each other as the coarser arithmetic of both allows?"""
    return Evidence(problem, left.side("left"), right.side("right")).same_function()


def _where(content: Any) -> str | None:
    """On which device and with which torch the runs of a file were recorded; None where it does not say."""
    about = about_in(content)
    devices = dict.fromkeys(str(about_in(each).get("device")) for each in calls_in(content).values())
    return f"on {' and '.join(devices)} with torch {about['torch']}" if "torch" in about else None


def _notes(file: str, content: Any) -> Iterator[str]:
    """What a file says of calls that it has not."""
    said = {name: each for name, each in about_in(content).items() if isinstance(each, dict)}
    for path, why in said.get("left_out", {}).items():
        yield f"{file} has no run of {path or 'the model itself'}: {why}"
    for path, count in said.get("dropped", {}).items():
        yield f"{file} keeps the first {counted(MOST, 'call')} of {path or 'the model itself'}, and not {count} more"
