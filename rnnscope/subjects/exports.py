"""torch's own exports of its module, run: each is made once for a network, with L and N dynamic, at other sizes.

What makes them is a process of its own; what runs them is this one. An export is kept, so that a sweep over L and N
makes it once and judges it at all of them.
"""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.network.weights import Input, Weights, same_numbers
from rnnscope.pages.progress import stage
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import Run
from rnnscope.subjects.devices import arithmetic, is_out_of_memory
from rnnscope.subjects.exporter import EXPORTS, Made, arguments_of, names_of, read_made, spec_at, write_job
from rnnscope.subjects.foreign import Foreign, Refused, in_one_sentence
from rnnscope.subjects.onnx_runtime import OnnxSession, has_float64_kernel, onnxruntime_version

EXPORTER = [sys.executable, "-W", "ignore", "-m", "rnnscope.subjects.exporter"]
"""What makes an export; the folder of its job is one more word."""

MOST_SECONDS = 900.0
"""In which an exporter must be done."""

MOST_KEPT = 64
"""Exports that are kept, many more than one comparison asks for; the one that was asked for longest ago goes first."""

_STEPS, _ITEMS = (7, 9), (3, 4)
"""L and N at which exports are made: the first of each that the run does not have. None equals another one: exporters
take sizes that are equal for one size."""

_PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "onnx@legacy": ("onnx", "onnxruntime")}
"""What is needed besides torch."""

_BY = {
    "exported": "torch.export.export",
    "exported@decomposed": "torch.export.export and run_decompositions",
    "scripted": "torch.jit.script",
    "onnx": "torch.onnx.export",
    "onnx@legacy": "torch.onnx.export with dynamo=False",
}


def export_of(subject: str, spec: Spec, traced_at: tuple[int, int] | None) -> Foreign:
    """The export of torch's module that a name stands for, which is made when it is first run. Inside `running`.

    Args:
        traced_at: L and N at which it is made; None takes some that the run does not have.

    Raises:
        RnnscopeError: a package is missing, or the export does not run on the Spec's device.
    """
    in_onnx = subject in _PACKAGES
    for package in _PACKAGES.get(subject, ()):
        if find_spec(package) is None:
            raise RnnscopeError(f"{subject} needs the package {package}", "install it: pip install '.[onnx]'")
    if in_onnx and spec.device != "cpu":
        raise RnnscopeError(f"{subject} runs in onnxruntime on the CPU, and not on {spec.device}", f"use {subject}@cpu")
    steps, items = traced_at or _sizes_for(spec)
    network = _Network(subject, spec_at(spec, (steps, items)))
    return Foreign(
        network.run,
        gets_weights=not in_onnx,
        has_steps=spec.h0 == "random",
        made_at=None if subject == "scripted" else (steps, 1 if spec.unbatched else items),
        arithmetic=spec.dtype if in_onnx else arithmetic(spec, fused=True),
        told=network.told,
    )


def _sizes_for(spec: Spec) -> tuple[int, int]:
    """L and N that the run has neither of."""
    steps = next(each for each in _STEPS if each != spec.seq_len)
    return steps, next(each for each in _ITEMS if each != spec.batch_size)


class _Network:
    """The exports of one network, one for each dtype that is asked for.

    Args:
        spec: at the sizes at which they are made.
    """

    def __init__(self, subject: str, spec: Spec) -> None:
        self.subject, self.spec = subject, spec
        self._first: _Export | None = None

    def run(self, spec: Spec, weights: Weights, given: Input) -> Run:
        """Run the export of the dtype on an input of any sizes and layout, as far as it takes them.

        Raises:
            Refused: it cannot be made, does not take the input, or fails at it.
        """
        self._check(spec)
        export = self._export_in(spec.dtype, weights)
        program = export.program
        program.take(weights)
        made = export.spec
        lengths = None if made.lengths is None else spec.lengths or (spec.seq_len,) * spec.batch_size
        arguments = arguments_of(made, _laid_out(made, spec, given), lengths)
        try:
            y, state = program.call(made, arguments)
        except RnnscopeError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise Refused(in_one_sentence(error)) from error
        turned = made.batch_first != spec.batch_first and not spec.unbatched and y.dim() == 3
        return Run(y.transpose(0, 1) if turned else y, state, program.parameters, made.h0 == "random")

    def told(self) -> tuple[str, ...]:
        """How the export was made, and how it is called."""
        made = self._first.made if self._first else None
        return () if made is None else _in_words(self.subject, self.spec, made)

    def _check(self, spec: Spec) -> None:
        """Raise where the export has no such input."""
        made = self.spec
        sizes = ("kind", "input_size", "hidden_size", "num_layers", "bidirectional", "proj_size")
        if any(getattr(spec, each) != getattr(made, each) for each in sizes):
            raise Refused("it has the layers of one network, and others were asked for")
        if made.unbatched and not spec.unbatched:
            raise Refused("it takes one sequence without N, and a batch was asked for")
        if spec.lengths is not None and made.lengths is None:
            raise Refused("it takes no lengths")

    def _export_in(self, dtype: str, weights: Weights) -> "_Export":
        """The export in a dtype, with weights that are those of the first call."""
        grad = torch.is_grad_enabled()
        # Training mode is what cuDNN computes gradients in; there is no dropout in it.
        made = replace(self.spec, dtype=dtype, train=grad, dropout=0.0, seed=0)
        if self._first is None:
            self._first = _export_of(self.subject, made, weights)
            if self.subject not in _PACKAGES and dtype != "float64":
                _export_of(self.subject, replace(made, dtype="float64"), _in_float64(weights))  # starts meanwhile
        first = self._first
        if first.spec == made:
            return first
        if dtype == "float64" and (without := [each for each in first.made.nodes if not has_float64_kernel(each)]):
            raise Refused(f"onnxruntime has no {without[0]} in float64")
        of_first = {name: each.to(weights[name]) for name, each in first.weights.items()}
        return _export_of(self.subject, made, of_first)


def _in_float64(weights: Weights) -> Weights:
    return {name: each.double() for name, each in weights.items()}


def _laid_out(made: Spec, spec: Spec, given: Input) -> Input:
    """The input in the layout of an export."""
    turned = made.batch_first != spec.batch_first and not spec.unbatched
    return Input(given.x.transpose(0, 1) if turned else given.x, given.state)


def _in_words(subject: str, spec: Spec, made: Made) -> tuple[str, ...]:
    """What was done to make an export and to call it."""
    sizes = f"L = {spec.seq_len}" if spec.unbatched else f"L = {spec.seq_len}, N = {spec.batch_size}"
    by = f"{_BY[subject]} made it"
    if made.way == "dynamic_axes":
        by += f" at {sizes}, with dynamic axes"
    elif made.way:
        by += f" at {sizes}, with {made.way}"
    reasons: dict[str, list[str]] = {}
    for way, why in made.refused:
        reasons.setdefault(why, []).append(way)
    if subject == "scripted" and spec.lengths is None:
        by += " of a module around it, since by itself it has no forward"
    told = [by, *(f"{' and '.join(ways)} refused: {why}" for why, ways in reasons.items())]
    if subject in _PACKAGES:
        by = f"; {' and '.join(made.versions)} wrote it" if made.versions else ""
        told.append(f"it runs in {onnxruntime_version()}{by}")
    if spec.lengths is not None:
        told.append("it packs x by pack_padded_sequence, and takes lengths")
    return (*told, *(["it is called without hx"] if spec.h0 == "zeros" else []))


# The exports that are kept.


class _Export:
    """An export in one dtype, from when its exporter starts: what is told of it, and the program that was opened."""

    def __init__(self, subject: str, spec: Spec, weights: Weights) -> None:
        self.subject, self.spec = subject, spec
        self.weights = {name: each.detach().clone() for name, each in weights.items()}
        self._exporter: _Exporter | None = _Exporter(subject, spec, weights)
        self._made: Made | None = None
        self._program: _Torch | _Onnx | None = None
        self._refused: str | None = None

    @property
    def made(self) -> Made:
        return self._made or Made()

    @property
    def program(self) -> "_Torch | _Onnx":
        """What runs it.

        Raises:
            Refused: it cannot be made; at every call.
        """
        if self._exporter is not None:
            exporter, self._exporter = self._exporter, None
            try:
                self._open(exporter)
            except Refused as refused:
                self._refused = refused.message
            finally:
                exporter.end()
        if self._program is None:
            raise Refused(f"{self.subject} cannot be made of {self.spec.module_name}: {self._refused}")
        return self._program

    def forget(self) -> None:
        """Leave nothing of an export that nobody has opened."""
        if self._exporter is not None:
            self._exporter.end()
            self._exporter = None
            self._refused = "it was forgotten"

    def _open(self, exporter: "_Exporter") -> None:
        with stage(f"{self.subject} is made in {self.spec.dtype}"):
            self._made = exporter.wait()
        if self._made.error:
            raise Refused(self._made.error)
        path = str(exporter.folder / EXPORTS[self.subject])
        self._program = _Onnx(path) if self.subject in _PACKAGES else _opened(self.subject, path, self.spec)
        self._program.taken = self.weights


_kept: dict[tuple[str, Spec], list[_Export]] = {}
"""By subject and by the Spec at which they were made, which has the dtype; one for each set of weights."""


def _export_of(subject: str, spec: Spec, weights: Weights) -> _Export:
    """The export that is kept, or one that is made now."""
    same_network = _kept.pop((subject, spec), [])
    _kept[subject, spec] = same_network  # now the last one
    found = next((each for each in same_network if same_numbers(each.weights, weights)), None)
    if found is None:
        found = _Export(subject, spec, weights)
        same_network.append(found)
        while sum(map(len, _kept.values())) > MOST_KEPT:
            oldest = next(key for key, each in _kept.items() if each)
            _kept[oldest].pop(0).forget()
            if not _kept[oldest]:
                del _kept[oldest]
    return found


# The programs.


class _Torch:
    """A program that torch runs: an ExportedProgram's module, or a ScriptModule."""

    def __init__(self, network: Any) -> None:
        self._network, self.taken = network, dict[str, Tensor]()
        # Behind a wrapper that packs, all names start with that of its module.
        self.parameters: Weights = {
            name.removeprefix("rnn."): each for name, each in network.named_parameters() if each.is_floating_point()
        }

    def take(self, weights: Weights) -> None:
        """Give it other weights, which need no other program."""
        if same_numbers(weights, self.taken):
            return
        if self.parameters.keys() != weights.keys():
            raise Refused("its parameters have other names than torch's, so that it keeps the weights it was made with")
        with torch.no_grad():
            for name, each in self.parameters.items():
                each.copy_(weights[name])
        self.taken = {name: each.detach().clone() for name, each in weights.items()}

    def call(self, made: Spec, arguments: tuple[Any, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        y, last = self._network(*arguments)
        return y, tuple(last) if isinstance(last, (tuple, list)) else (last,)


class _Onnx:
    """A graph that onnxruntime runs, with its weights in it."""

    def __init__(self, path: str) -> None:
        self._session, self.taken = OnnxSession(path), dict[str, Tensor]()
        self.parameters: Weights = {}

    def take(self, weights: Weights) -> None:
        if not same_numbers(weights, self.taken):
            raise Refused("its weights are in the graph, and others were asked for")

    def call(self, made: Spec, arguments: tuple[Any, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        flat = [each for one in arguments for each in (one if isinstance(one, tuple) else (one,))]
        y, *state = self._session.run(dict(zip(names_of(made)[0], flat, strict=True))).values()
        return y, tuple(state)


def _opened(subject: str, path: str, spec: Spec) -> _Torch:
    of_scripts: Any = torch.jit.load  # torch says nothing of its types
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if subject == "scripted":
            return _Torch(of_scripts(path, map_location=spec.device))
        return _Torch(torch.export.load(path).module())


# The process.


class _Exporter:
    """An exporter at work in a process of its own, and the folder that it shares with this one."""

    def __init__(self, subject: str, spec: Spec, weights: Weights) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rnnscope-"))
        _at_work.add(self)
        self._process: subprocess.Popen[bytes] | None = None
        try:
            write_job(self.folder, subject, spec, weights)
            with open(self.folder / "said", "wb") as said:
                self._process = subprocess.Popen(
                    [*EXPORTER, str(self.folder)],
                    stdin=subprocess.PIPE,  # where it is closed, the exporter ends
                    stdout=said,
                    stderr=said,
                    cwd=self.folder,
                    env=_environment(),
                    start_new_session=True,  # Ctrl-C is for this process, which ends that one
                )
        except BaseException:
            self.end()
            raise

    def wait(self) -> Made:
        """What is told of the export.

        Raises:
            Refused: the exporter ended without one, or is at work for too long.
        """
        assert self._process is not None
        try:
            code = self._process.wait(MOST_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise Refused(f"the exporter was not done in {MOST_SECONDS:g} seconds") from error
        if made := read_made(self.folder):
            return made
        said = (self.folder / "said").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise Refused(f"the exporter ended with code {code}{f' ({in_one_sentence(said[-1])})' if said else ''}")

    def end(self) -> None:
        """Leave neither the process nor its files."""
        _at_work.discard(self)
        if self._process is not None:
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
        shutil.rmtree(self.folder, ignore_errors=True)


_at_work: set[_Exporter] = set()
"""Exporters whose export nobody has opened."""


@atexit.register
def _end_exporters() -> None:
    for each in tuple(_at_work):
        each.end()


def _environment() -> dict[str, str]:
    """Ours, in which this very package is found from every folder."""
    own = str(Path(__file__).parents[2])
    given = [os.path.abspath(each) for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    return os.environ | {"PYTHONPATH": os.pathsep.join((own, *given))}
