"""A program as a side: it gets the network and its input in a file, and writes what comes out into another.

    in      x, h0 and c0, laid out as torch's modules take them; lengths, where x is padded; the weights by torch's
            names: weight_ih_l0, weight_hh_l0, bias_ih_l0, …
    out     y, h and c by name; without names, in this order
    spec    JSON: the Spec of this call

All numbers have the dtype in which is asked: that of the Spec, and float64. Each call is a process of its own. What
reads and writes tensors is handed over.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.network.shapes import OUTPUTS, outputs_of, tensor_shapes
from rnnscope.network.weights import Input, Weights, dtype_name, same_numbers
from rnnscope.pages.page import counted
from rnnscope.pages.render import unfinished
from rnnscope.spec.sides import COMMAND, TIMEOUT, ProgramWords
from rnnscope.spec.spec import DTYPES, Spec
from rnnscope.subjects.builtin import Run
from rnnscope.subjects.foreign import Foreign, Refused
from rnnscope.subjects.processes import run_once

_TOLD = (
    *("kind", "input_size", "hidden_size", "num_layers", "nonlinearity", "bias", "batch_first", "bidirectional"),
    *("proj_size", "dropout", "seq_len", "batch_size", "lengths", "h0", "seed", "device", "dtype"),
)
"""What {spec} says, by the names of JSON."""

LONGEST_NAME = 60
"""Signs of the words that stand in a sentence."""

TIMES_TOO_LARGE, LARGE = 16, 2**26
"""A file of so many times the bytes of y, h and c is not read, unless it is small."""


@dataclass(frozen=True)
class Files:
    """What reads and writes files of tensors, by their endings.

    Args:
        check: raises where an ending needs a package that is not there.
        write: writes tensors by their names.
        read: gives what a file holds.
    """

    check: Callable[[str], None]
    write: Callable[[str, Mapping[str, Tensor]], None]
    read: Callable[[str], Any]


def program_of(text: str, dtype: str, timeout: float, files: Files) -> Foreign:
    """The program that some words start.

    Args:
        dtype: its own, which is that of the Spec; it may refuse float64.
        timeout: seconds that each call may take.

    Raises:
        RnnscopeError: a format that needs a package that is not there, or that does not know the dtype.
    """
    program = _Program(ProgramWords(text), dtype, timeout, files)
    return Foreign(program.run, gets_weights=True, first_run_tells=True, in_torch=False, told=program.told)


class _Program:
    """What is known of a program: what it did not take, and the first run, until it is asked for again."""

    def __init__(self, words: ProgramWords, dtype: str, timeout: float, files: Files) -> None:
        self._words, self._dtype, self._timeout, self._files = words, dtype, timeout, files
        self._name = f"{COMMAND}{words.text}"
        if len(self._name) > LONGEST_NAME:
            self._name = f"{self._name[: LONGEST_NAME - 1]}…"
        self._first: tuple[Spec, Weights, Input, Run] | None = None
        self._is_first = True
        self._outputs: tuple[str, ...] = OUTPUTS
        self._in_float64: str | None = ""  # why it does not run there; None once it has
        self._left_aside: tuple[str, ...] = ()
        for name in words.files.values():
            self._check_format(name)

    def _check_format(self, name: str) -> None:
        ending = Path(name).suffix
        if ending == ".npz" and self._dtype == "bfloat16":
            mend = "use {in.safetensors} and {out.safetensors}"
            raise RnnscopeError(f"{self._name}: .npz has no bfloat16, since NumPy does not know it", mend)
        try:
            self._files.check(ending)
        except RnnscopeError as error:
            other = "safetensors" if ending == ".npz" else "npz"
            mend = f"{error.hint}, or use {{in.{other}}} and {{out.{other}}}"
            raise RnnscopeError(f"{self._name}: {error.message}", mend) from error

    def told(self) -> tuple[str, ...]:
        """What its user should know of how it was asked."""
        told = [f"in float64 it {self._in_float64}"] if self._in_float64 else []
        if self._left_aside:
            told.append(f"it wrote more, which was left aside: {', '.join(self._left_aside)}")
        return tuple(told)

    def run(self, spec: Spec, weights: Weights, given: Input) -> Run:
        """A subject. Raises Refused where the program fails, hangs, or writes nothing that can be compared."""
        if found := self._run_again(spec, weights, given):
            return found
        try:
            found = self._called(spec, weights, given)
        except Refused as refused:
            if spec.dtype == "float64" and self._in_float64 == "":
                self._in_float64 = refused.message.removeprefix(f"{self._name} ")
            raise
        if spec.dtype == "float64":
            self._in_float64 = None
        if self._is_first:  # it was run to see what it gives, and will be asked for the same
            self._first, self._outputs, self._is_first = (spec, weights, given, found), tuple(found.outputs()), False
        return found

    def _run_again(self, spec: Spec, weights: Weights, given: Input) -> Run | None:
        """The first run, where it is asked for once more: not kept for longer, since a program may roll dice."""
        first, self._first = self._first, None
        if first is None or first[0] != spec:
            return None
        before, now = ({**run[1], **run[2].tensors()} for run in (first, (spec, weights, given)))
        return first[3] if same_numbers(before, now) else None

    def _called(self, spec: Spec, weights: Weights, given: Input) -> Run:
        with _folder() as folder:
            self._write(Path(folder), spec, weights, given)
            ended = run_once(self._words.placed(folder), self._timeout)
            # Where the files stood differs from call to call.
            said = f": {ended.said.replace(f'{folder}/', '')}" if ended.said else ""
            if ended.code is None:
                mend = f"give it more by {TIMEOUT.name}, or make what it computes smaller"
                raise Refused(f"{self._name} took more than {self._timeout:g} s and was ended{said}", mend)
            if ended.code:
                raise Refused(f"{self._name} {ended.in_words}{said}")
            out = Path(folder, self._words.file("out"))
            if not os.path.lexists(out):
                raise Refused(f"{self._name} wrote no {out.name} where {{out}} stands{said}")
            return self._read(out, spec, given)

    def _write(self, folder: Path, spec: Spec, weights: Weights, given: Input) -> None:
        tensors = given.tensors() | weights
        if spec.lengths is not None:
            tensors["lengths"] = torch.tensor(spec.lengths, device="cpu")
        facts = {name: spec.facts[name] for name in _TOLD}
        try:
            for name in self._words.files.values():
                if name == "spec.json":
                    (folder / name).write_text(f"{json.dumps(facts)}\n", encoding="utf-8")
                elif name.startswith("in."):
                    self._files.write(str(folder / name), tensors)
        except OSError as error:
            raise RnnscopeError(f"cannot write what {self._name} reads ({error.strerror or error})") from error

    def _read(self, out: Path, spec: Spec, given: Input) -> Run:
        """What the program wrote.

        Raises:
            Refused: no file of tensors, none of y, h and c, or numbers of another sort; a coarser dtype than float64.
        """
        numbers = sum(8 * each.bytes // spec.element_size for each in tensor_shapes(spec) if each.role == "output")
        size = os.lstat(out).st_size
        if size > max(LARGE, TIMES_TOO_LARGE * numbers):
            what = f"{', '.join(outputs_of(spec.kind))} take no more than {numbers:,}"
            raise Refused(f"{self._name} wrote {counted(size, 'byte')}, and {what}")
        try:
            content = self._files.read(str(out))
        except RnnscopeError as error:
            message = error.message.replace(f"{out.parent}/", "").partition(" (")[0]
            raise Refused(f"{self._name} wrote what cannot be read: {message}") from error
        found = self._by_name(content, spec)
        for name, each in found.items():
            if dtype_name(each) not in DTYPES:
                raise Refused(f"{self._name} gives {name} in {dtype_name(each)}, and not in {spec.dtype}")
            if spec.dtype == "float64" != self._dtype and dtype_name(each) != "float64":
                raise Refused(f"{self._name} gives {name} in {dtype_name(each)}")
        missing = [each for each in self._outputs if each in outputs_of(spec.kind) and each not in found]
        if missing and not self._is_first:
            raise Refused(f"{self._name} wrote no {' and no '.join(missing)} this time")
        placed = {name: each.to(given.x.device) for name, each in found.items()}
        state = tuple(placed[name] for name in OUTPUTS[1:] if name in placed)
        return Run(placed.get("y", given.x.new_empty(0)), state, has_y="y" in placed)

    def _by_name(self, content: Any, spec: Spec) -> Weights:
        """y, h and c, as far as they are there: by name, or the only tensors in this order."""
        names = outputs_of(spec.kind)
        items = (
            content.items()
            if isinstance(content, Mapping)
            else enumerate(content if isinstance(content, (tuple, list)) else [content])
        )
        tensors = {str(name): each for name, each in items if isinstance(each, Tensor)}
        found = {name: tensors[name] for name in names if name in tensors}
        if not found and 0 < len(tensors) <= len(names) and self._keeps_order:
            return dict(zip(names, tensors.values(), strict=False))
        if not found or (names[-1] == "c" and "c" in found and "h" not in found):
            has = ", ".join(tensors) if tensors else "no tensors"
            raise Refused(f"{self._name} wrote {has[:100]}, and not {', '.join(names)}", "write them under these names")
        self._left_aside = tuple(sorted(tensors.keys() - found.keys()))
        return found

    @property
    def _keeps_order(self) -> bool:
        return not self._words.file("out").endswith(".safetensors")


@contextmanager
def _folder() -> Iterator[str]:
    """A folder for the files of one call, which is gone afterwards, also where a signal ends the run."""
    folder = tempfile.mkdtemp(prefix="rnnscope-")
    unfinished.add(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.discard(folder)
