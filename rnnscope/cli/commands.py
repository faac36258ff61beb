"""The commands: flags become a Spec, the library answers, and the answer is handed back as a value.

Nothing is computed and nothing is printed here: see shell.py for what happens to the answer. torch is imported by the
library, and only where something must be computed. How flags are read is in command_line.py.
"""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

import rnnscope
from rnnscope.cli.parser import COMMANDS, app, app_of, command
from rnnscope.errors import RnnscopeError
from rnnscope.files.loaded import Loaded
from rnnscope.network.costs import check_memory
from rnnscope.shapes.result import DRY_RUN, PATH, PATHS, Shapes, shapes_of
from rnnscope.spec.bench_flags import MIN_TIME, SEQ_LENS, SUBJECTS, TIME_GRAD, bench_specs
from rnnscope.spec.question import (
    ATOL,
    CHUNK,
    GRAD,
    MAP,
    POWER,
    REFERENCE,
    RESYNC,
    RTOL,
    Question,
    check_comparable,
)
from rnnscope.spec.sides import LEFT, RIGHT
from rnnscope.spec.sources import FILE, FORCE, OUT, RECORD, SOURCE_FLAGS, TO
from rnnscope.sweeps.configurations import AXES
from rnnscope.sweeps.plan import CONFIGS, RANDOM, REPORT, RESUME, ROWS, Axes, check_flags
from rnnscope.sweeps.result import reported
from rnnscope.sweeps.workers import is_follower
from rnnscope.tracing.result import ITEM, STEP, VALUES

if TYPE_CHECKING:
    from rnnscope.pages.documents import Result

__all__ = ["app", "app_of"]


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Every shape of a recurrent network in PyTorch, and whether two implementations are the same."""
    if version:
        print(f"rnnscope {rnnscope.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise RnnscopeError("no command was given", f"use {', '.join(COMMANDS)}, or --help")


@command("--kind lstm --bidirectional", "--layers 1 --batch-first --dry-run")
def shapes(
    loaded: Annotated[Loaded, ("weights", "prefix")], path: Annotated[str, PATH], dry_run: Annotated[bool, DRY_RUN]
) -> Shapes:
    """Which tensor has which shape, and why? Runs random input through the module and a stack of cells."""
    paths = PATHS if path == "both" else (path,)
    found = shapes_of(loaded.spec, paths) if dry_run else rnnscope.observed_shapes(loaded.spec, paths)
    return replace(found, sources=loaded.sources)


@command("--kind gru --bidirectional --grad", "--kind lstm --right equations --map")
def compare(
    loaded: Annotated[Loaded, tuple(SOURCE_FLAGS)],
    left: Annotated[str, LEFT],
    right: Annotated[str, RIGHT],
    record: Annotated[str | None, RECORD],
    force: Annotated[bool, FORCE],
    rtol: Annotated[float | None, RTOL],
    atol: Annotated[float | None, ATOL],
    grad: Annotated[bool, GRAD],
    reference: Annotated[bool, REFERENCE],
    resync: Annotated[bool, RESYNC],
    power: Annotated[bool, POWER],
    map: Annotated[bool, MAP],
    chunk: Annotated[int | None, CHUNK],
) -> "Result":
    """Are the two the same network? Runs both with the same weights and input; exit code 0 if so, 1 if not."""
    question = Question(rtol, atol, grad, reference, resync, power, map, chunk)
    check_comparable(loaded.spec, left, right, question)  # refused, as all above, before torch is imported
    return rnnscope.compare(loaded.spec, left, right, loaded=loaded, record=record, force=force, **asdict(question))


@command("--kind rnn,lstm,gru --bidirectional both", "--hidden-size 1..100:5 --random 20 --right cells,equations")
def sweep(
    axes: Annotated[Axes, AXES],
    random: Annotated[int | None, RANDOM],
    configs: Annotated[str | None, CONFIGS],
    out: Annotated[str | None, ROWS],
    resume: Annotated[bool, RESUME],
    force: Annotated[bool, FORCE],
    report: Annotated[str | None, REPORT],
) -> "Result":
    """Do many configurations agree, and which do not? Each flag takes a list; every combination is compared."""
    check_flags(axes, random, configs, out, resume, report)
    told = reported(report) if report else rnnscope.sweep(axes, random, configs, out, resume, force)
    if told is None or is_follower():  # another process tells
        raise typer.Exit
    return told


@command("--bidirectional", "--kind lstm --values --item 2 --step 0")
def trace(
    loaded: Annotated[Loaded, ("weights", "prefix", "inputs")],
    values: Annotated[bool, VALUES],
    item: Annotated[int, ITEM],
    step: Annotated[int | None, STEP],
) -> "Result":
    """What happens at which step, and which slice of y is which row of h? Draws the network unrolled over its steps."""
    return rnnscope.trace(loaded.spec, values, item, step, loaded=loaded)


@command(
    "--seq-len 10,100,1000 --subjects module,cells --threads 1",
    "--kind gru --subjects module,items --grad",
    runs=False,
)
def bench(
    loaded: Annotated[Loaded, ("weights", "prefix")],
    subjects: Annotated[tuple[str, ...], SUBJECTS],
    seq_len: Annotated[tuple[int, ...] | None, SEQ_LENS],
    grad: Annotated[bool, TIME_GRAD],
    min_time: Annotated[float, MIN_TIME],
) -> "Result":
    """What does it cost to loop by hand? Times each way of computing in turns, and says what noise leaves open."""
    specs = bench_specs(loaded.spec, subjects, seq_len, min_time)  # refused, as all above, before torch is imported
    if loaded.spec.memory_check:
        check_memory(specs[-1], grad=grad, reference=False)
    return rnnscope.bench(loaded.spec, subjects, seq_len, grad, min_time, loaded=loaded)


@command("--kind gru --bidirectional", "--kind lstm --lengths 3,2,1 --batch-first", runs=False)
def code(loaded: Annotated[Loaded, ("weights", "prefix")]) -> "Result":
    """How is this network written by hand? Prints a complete script: torch's module, a loop of cells, and the check."""
    return rnnscope.code(loaded.spec, loaded=loaded)


@command("model.pt", "model.pt --json")
def weights(file: Annotated[str, FILE]) -> "Result":
    """Which RNNs are in a file, and what goes into them and comes out? Nothing in the file is run."""
    return rnnscope.checkpoint(file)


@command("model.pt --to cells --out cells.pt", "cells.pt --to module --out again.pt --force")
def convert(
    file: Annotated[str, FILE],
    to: Annotated[str, TO],
    out: Annotated[str, OUT],
    prefix: Annotated[str | None, SOURCE_FLAGS["prefix"]],
    force: Annotated[bool, FORCE],
) -> "Result":
    """How do I get a trained module as cells, or back? Writes the same network under other names, and proves it."""
    return rnnscope.convert(file, out, to, prefix, force)
