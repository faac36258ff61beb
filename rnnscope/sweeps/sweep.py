"""Compares many configurations in one process, or shares them with the others that torchrun started.

What a configuration gives is in rows.py, where rows are kept in row_files.py, and what they say together in
summaries.py.
"""

import json
import os
import sys
import threading
from contextlib import nullcontext
from dataclasses import replace

import torch

from rnnscope.errors import RnnscopeError
from rnnscope.pages.progress import Advance, progress
from rnnscope.spec.spec import Spec
from rnnscope.sweeps.configurations import Configuration, read_lines
from rnnscope.sweeps.plan import CONFIGS, ROWS, Axes, Plan, plan_of, sweep_line
from rnnscope.sweeps.result import Finding, Sweep, finding
from rnnscope.sweeps.row_files import Row, RowFile, line_of, rows_added_to
from rnnscope.sweeps.rows import row_of
from rnnscope.sweeps.shrinking import smallest
from rnnscope.sweeps.workers import Ranks, is_launched

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


def _smallest(first: Finding) -> str | None:
    """The command line of the smallest Spec under which both sides still differ; None where files say what it is."""
    asked = Configuration(first.values)
    if asked.has_files:
        return None
    others = {name: value for name, value in asked.given.items() if name not in (*asked.of_spec, "power", "map")}

    def of(spec: Spec) -> Configuration:
        return Configuration(others | vars(spec))

    def differs(spec: Spec) -> bool:
        return row_of(of(spec)).get("cause") == "function"

    return of(smallest(Spec(**asked.of_spec), differs)).rerun
