"""Compares many configurations in one process, or shares them with the others that torchrun started.

The row of a configuration is what `rnnscope compare --json` would say of it, or why nothing could be compared. It
depends on its configuration alone: not on the rows before it, nor on who made it, nor where in a file it stands.
"""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, fields, replace
from itertools import combinations
from typing import Any

import torch

import rnnscope
from rnnscope.errors import RnnscopeError
from rnnscope.files.loading import Loaded
from rnnscope.network.costs import BYTES_OF_TORCH, COSTLY, free_bytes, needed_bytes
from rnnscope.pages.rich import Advance, progress
from rnnscope.spec.options import CONFIGS, ROWS
from rnnscope.spec.question import check_comparable
from rnnscope.spec.spec import SPEC_FLAGS, Spec
from rnnscope.sweeps.plan import Axes, Configuration, Plan, plan_of, read_lines, read_rerun, sweep_line
from rnnscope.sweeps.result import Finding, Sweep, finding
from rnnscope.sweeps.rows import Row, RowFile, line_of, rows_added_to
from rnnscope.sweeps.workers import Ranks, is_launched, workers_here
from rnnscope.verdict.result import Comparison

STDIN = "-"


def sweep(
    axes: Axes,
    random: int | None = None,
    configs: str | None = None,
    out: str | None = None,
    resume: bool = False,
    force: bool = False,
) -> Sweep | None:
    """Compare every configuration that is asked for; None in a process of torchrun that only helps.

    Args:
        axes: values by the fields of a Spec, of a Question and of Sources, and left and right:
            {"kind": ("rnn", "gru"), "num_layers": (1, 2), "right": ("cells",)}.
        random: how many to draw at random; None for every combination.
        configs: a file of lines of JSON, or - for stdin, that are compared, each with what the axes add.
        out: a file to which each row is added as soon as it is there.
        resume: whether to go on with a file that is there, and leave out what it has.
        force: whether to replace one.

    Raises:
        RnnscopeError: values that are not allowed, a line that is no configuration, or a file that is there already,
            that is no file of rows, or that cannot be read or written. What goes wrong with one configuration is told
            in its row.
    """
    if configs is not None and out is not None and _are_one(configs, out):
        raise RnnscopeError(f"{ROWS.name} {out} is what {CONFIGS.name} reads", "name another file")
    ranks = Ranks() if is_launched() else None
    lines = None
    if configs is not None:
        text = ranks.shared("configs", lambda: _read(configs)) if ranks else _read(configs)
        lines = read_lines(text, "stdin" if configs == STDIN else configs)
    plan = plan_of(axes, random, lines)
    if ranks is not None and ranks.rank:
        todo = json.loads(ranks.receive("todo"))
        ranks.hand_over(line_of(row_of(plan[todo[number]])) for number in ranks.draw(len(todo)))
        return None
    findings = _lead(plan, ranks, out, resume, force)
    told = Sweep(
        findings,
        sweep_line(axes, random, configs),
        workers=ranks.size if ranks else None,
        torch_version=str(torch.__version__),
    )
    first = told.first_different
    return told if first is None else replace(told, smallest=_smallest(first))


def _are_one(configs: str, out: str) -> bool:
    return os.path.exists(configs) and os.path.exists(out) and os.path.samefile(configs, out)


def _read(configs: str) -> str:
    if configs == STDIN and sys.stdin is None:
        raise RnnscopeError("cannot read stdin (it is closed)")
    try:
        with nullcontext(sys.stdin) if configs == STDIN else open(configs, encoding="utf-8") as stream:
            return stream.read().removeprefix("\ufeff")  # with which some systems begin their files
    except (OSError, UnicodeDecodeError) as error:
        raise RnnscopeError(f"cannot read {configs} ({getattr(error, 'strerror', None) or error})") from error


def _lead(plan: Plan, ranks: Ranks | None, out: str | None, resume: bool, force: bool) -> tuple[Finding, ...]:
    """What is found by the process that leads, with the help of the others, in the order of the plan."""
    known = {plan[number].rerun: number for number in reversed(range(len(plan)))}
    found: dict[str, Finding] = {}

    def seen(row: Row) -> None:
        told = finding(row)
        if told.rerun in known:
            found[told.rerun] = told

    with rows_added_to(out, resume, force, seen) if out is not None else nullcontext() as file:
        todo = sorted(number for line, number in known.items() if line not in found)
        with progress(len(known), "configurations", done=len(found)) as advance:
            _run(plan, todo, ranks, _Taker(found, file, advance))
    if len(found) < len(known):
        raise RnnscopeError(f"{len(known) - len(found)} of {len(known)} configurations have no row", "add --resume")
    return tuple(found[line] for line in sorted(found, key=known.__getitem__))


class _Taker:
    """Takes rows, from whichever thread, into the file and the findings."""

    def __init__(self, found: dict[str, Finding], file: RowFile | None, advance: Advance) -> None:
        self._found, self._file, self._advance, self._lock = found, file, advance, threading.Lock()

    def __call__(self, row: Row) -> None:
        with self._lock:
            if self._file is not None:
                self._file.append(row)
            self._found[row["rerun"]] = finding(row)
            self._advance(1)


def _run(plan: Plan, todo: list[int], ranks: Ranks | None, take: _Taker) -> None:
    """Compare what there is to do, alone or together with the other ranks."""
    if ranks is None:
        for number in todo:
            take(row_of(plan[number]))
        return
    ranks.send("todo", json.dumps(todo))
    with ranks.taking(lambda piece: take(json.loads(piece))) as raise_errors:
        for number in ranks.draw(len(todo)):
            take(row_of(plan[todo[number]]))
            raise_errors()


LITTLE = 64 * 2**20
"""Bytes for which nobody asks how much memory is free: to find that out takes a tenth of a small comparison."""


TOO_LARGE = "there is too little memory for it; make --seq-len, --batch, --hidden-size or --layers smaller"
"""How much is missing differs from one moment to the next."""


def row_of(configuration: Configuration) -> Row:
    """Compare what a configuration asks for: schema, command, rerun, status, message, spec, left, right, and the rest.

    status: compared; not_comparable where it contradicts itself, which is told from the flags alone; failed where it
    was tried and no verdict came out: no such device or file, too little memory, a class that is wrong, and whatever
    else nobody expected. The rest, where it was compared, is the document of the comparison less its environment.

    Raises:
        Exception: a GPU that will compute nothing any more.
    """
    asked = Configuration(read_rerun(configuration.rerun))  # or a row might be of more than its command line says
    row: Row = {"schema": 1, "command": "compare", "rerun": asked.rerun, "status": "not_comparable", "message": None}
    spec = {name: flag.default for name, flag in SPEC_FLAGS.items()} | asked.of_spec
    row |= {"spec": spec, "left": asked.left, "right": asked.right}
    try:
        loaded = _checked(asked)
        row |= {"status": "failed"}
        loaded = loaded or rnnscope.load(asked.sources, asked.of_spec, asked.left, asked.right)
        row |= {"spec": loaded.spec.facts}
        return row | {"status": "compared"} | _facts(_compared(asked, loaded))
    except Exception as error:  # one configuration is not the end of the others
        return row | {"message": _reason(error)}


def _checked(asked: Configuration) -> Loaded | None:
    """What is compared, where flags alone say it: it makes sense.

    Raises:
        RnnscopeError: it does not.
    """
    question, sources = asked.question, asked.sources
    if asked.has_files:
        return None
    spec = Spec(**asked.of_spec)
    check_comparable(spec, asked.left, asked.right, question)
    return Loaded(sources, spec)


def _compared(asked: Configuration, loaded: Loaded) -> Comparison:
    question = vars(asked.question)
    needed = needed_bytes(loaded.spec, **{name: question[name] for name in COSTLY})
    if loaded.spec.memory_check and needed > BYTES_OF_TORCH + LITTLE:
        free = free_bytes()
        if free is not None and needed > free // workers_here():
            raise RnnscopeError(TOO_LARGE)
    return rnnscope.compare(loaded.spec, asked.left, asked.right, loaded=loaded, question=asked.question)


def _facts(comparison: Comparison) -> Row:
    """What is found; the sides stay as they were asked for, with device and dtype."""
    found = comparison.facts()
    return {"sources": asdict(comparison.sources)} | {n: v for n, v in found.items() if n not in ("left", "right")}


def _reason(error: Exception) -> str:
    """What is told of an error."""
    from rnnscope.subjects.devices import is_out_of_memory  # which imports torch, as all has that could raise it

    if "CUDA error" in str(error):  # after which every call fails
        raise error
    if is_out_of_memory(error):
        return TOO_LARGE
    if isinstance(error, RnnscopeError):
        return error.message if error.hint is None or "--debug" in error.hint else f"{error.message}; {error.hint}"
    return f"unexpected {type(error).__name__}: {error}"


def _smallest(first: Finding) -> str | None:
    """The command line of the shrunk Spec under which both sides still differ; None where files say what it is."""
    asked = Configuration(first.values)
    if asked.has_files:
        return None
    others = {name: value for name, value in asked.given.items() if name not in (*asked.of_spec, "power", "map")}

    def of(spec: Spec) -> Configuration:
        return Configuration(others | vars(spec))

    def differs(spec: Spec) -> bool:
        return row_of(of(spec)).get("cause") == "function"

    return of(shrunk(Spec(**asked.of_spec), differs)).rerun


_SIZES = ("num_layers", "hidden_size", "input_size", "seq_len", "batch_size")


_KEPT = (*_SIZES, "kind", "lengths", "proj_size")


_FEW = (1, 2, 3)
"""Sizes in which a fault usually shows: tried before halves."""


def shrunk(spec: Spec, holds: Callable[[Spec], bool]) -> Spec:
    """A Spec of which it still holds, while it holds of none that is one step simpler."""
    while (simpler := next(filter(holds, simpler_specs(spec)), None)) is not None:
        spec = simpler
    return spec


def simpler_specs(spec: Spec) -> Iterator[Spec]:
    """Those that are a step simpler, the boldest steps first."""
    for changes in _changes(spec):
        try:
            simpler = _changed(spec, changes)
        except RnnscopeError:  # it contradicts itself
            continue
        if simpler != spec:
            yield simpler


def _changed(spec: Spec, changes: dict[str, Any]) -> Spec:
    """The Spec with some fields changed, a projection made to fit, and what follows from lengths left to follow."""
    values = vars(spec) | changes
    values["proj_size"] = min(values["proj_size"], values["hidden_size"] - 1)
    if values["lengths"] is not None:
        del values["seq_len"], values["batch_size"]
    return Spec(**values)


def _changes(spec: Spec) -> Iterator[dict[str, Any]]:
    sizes = {name: getattr(spec, name) for name in _SIZES}
    for few in _FEW:
        lengths = spec.lengths and tuple(min(each, few) for each in spec.lengths[:few])
        yield {name: min(size, few) for name, size in sizes.items()} | {"lengths": lengths}
    if spec.lengths is not None:
        yield {"lengths": None}
        yield from ({"lengths": each} for each in _shorter(spec.lengths))
    yield from ({"proj_size": size} for size in _smaller(spec.proj_size, least=0))
    for each in fields(Spec):
        if each.name not in _KEPT:
            yield {each.name: each.default}
    for name, size in sizes.items():
        yield from ({name: smaller} for smaller in _smaller(size))
    for (one, size), (other, other_size) in combinations(sizes.items(), 2):
        for smaller in zip(_smaller(size), _smaller(other_size), strict=False):
            yield dict(zip((one, other), smaller, strict=True))


def _smaller(size: int, least: int = 1) -> Iterator[int]:
    """Sizes to try instead of one: the least ones, then half of it, a quarter less, an eighth less, … and one less."""
    parts = (size >> shift for shift in range(1, size.bit_length()))
    found = dict.fromkeys((least, *_FEW, *(size - part for part in parts)))
    return (each for each in found if least <= each < size)


def _shorter(lengths: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Fewer items, and shorter ones."""
    count = len(lengths)
    if count > 1:
        yield lengths[: count // 2]
        yield lengths[count // 2 :]
        yield from (lengths[:place] + lengths[place + 1 :] for place in range(count))
    yield tuple((each + 1) // 2 for each in lengths)
    for place, length in enumerate(lengths):
        yield from ((*lengths[:place], each, *lengths[place + 1 :]) for each in _smaller(length))
