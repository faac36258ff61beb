"""The commands: what was typed goes to the library, and its answer is handed back as a value.

Nothing is computed and nothing is printed here. torch is imported by the library, and only where something must be
computed. A command is one function: its flags stand in its signature, and its docstring is its help.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

import rnnscope
from rnnscope.cli.parser import COMMANDS, MANNERS, ROOT_FLAGS, Asked, Manners, command, is_helper, option
from rnnscope.errors import RnnscopeError
from rnnscope.network.costs import check_memory
from rnnscope.pages.render import Result
from rnnscope.spec import options, relations, sides
from rnnscope.spec.flags import Listed
from rnnscope.spec.question import QUESTION_FLAGS, Question, check_comparable, check_recordings

if TYPE_CHECKING:
    from rnnscope.sweeps.plan import Axes


def main(
    context: typer.Context,
    version: Annotated[bool | None, option(ROOT_FLAGS["version"])] = None,
    format: Annotated[str | None, option(MANNERS["format"])] = None,
    json: Annotated[bool | None, option(MANNERS["json"])] = None,
    quiet: Annotated[bool | None, option(MANNERS["quiet"])] = None,
    debug: Annotated[bool | None, option(MANNERS["debug"])] = None,
) -> None:
    """Every shape of a recurrent network in PyTorch, and whether two implementations are the same."""
    manners: Manners = context.obj
    manners.add({"format": format, "json": json, "quiet": quiet, "debug": debug})
    if version:
        print(f"rnnscope {rnnscope.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        if not any((format, json, quiet, debug)):
            print(context.get_help())
            raise typer.Exit
        raise RnnscopeError("no command was given", f"use {', '.join(COMMANDS)}, or --help")


def axes_of_a_sweep() -> dict[str, Listed]:
    """The flags of a sweep, made when it is called: each takes a list."""
    from rnnscope.sweeps.plan import AXES

    return AXES


@command("--kind lstm --bidirectional", "--layers 1 --batch-first --dry-run")
def shapes(
    asked: Annotated[Asked, ("weights", "prefix")],
    path: Annotated[str, options.PATH],
    dry_run: Annotated[bool, options.DRY_RUN],
) -> Result:
    """Which tensor has which shape, and why? Runs random input through the module and a stack of cells."""
    paths = options.PATHS if path == "both" else (path,)
    found = rnnscope.shapes_of(asked.spec, paths) if dry_run else rnnscope.observed_shapes(asked.spec, paths)
    return replace(found, sources=asked.sources)


@command("--kind gru --bidirectional --grad", "--kind lstm --right equations --map", tests=True)
def compare(
    asked: Annotated[Asked, tuple(options.SOURCE_FLAGS)],
    left: Annotated[str, sides.LEFT],
    right: Annotated[str, sides.RIGHT],
    record: Annotated[str | None, options.RECORD],
    force: Annotated[bool, options.FORCE],
    question: Annotated[Question, QUESTION_FLAGS],
    own: Annotated[sides.OwnSides, sides.OWN_FLAGS],
    how: Annotated[sides.How, sides.HOW_FLAGS],
) -> Result:
    """Are the two the same network? Runs both with the same weights and input; exit code 0 if so, 1 if not."""
    from rnnscope.help.explain import named_deviation

    if files := sides.recorded_files(left, right):
        check_recordings(asked.given, asked.sources, record, question)
        return rnnscope.compare(
            *files,
            prefix=asked.sources.prefix,
            right_prefix=asked.sources.right_prefix,
            threads=asked.spec.threads,
            memory_check=asked.spec.memory_check,
        )
    check_comparable(asked.spec, left, right, question, own, how)  # refused, as all above, before torch is imported
    named_deviation(sides.LEFT, left)
    named_deviation(sides.RIGHT, right)
    return rnnscope.compare(
        asked.spec, left, right, loaded=asked.loaded, record=record, force=force, question=question, own=own, how=how
    )


@command("torch.nn:GRU --bidirectional", "mine.py:Net --seq-len 32 --only causality,chunked", runs=False, tests=True)
def check(
    asked: Annotated[Asked, ()],
    module: Annotated[str, relations.MODULE],
    wanted: Annotated[relations.Wanted, relations.WANTED_FLAGS],
) -> Result:
    """Does a module keep what every recurrent module must keep? Needs nothing to compare it with."""
    return rnnscope.check(module, asked.spec, given=asked.given, wanted=wanted)


@command(
    "--kind rnn,lstm,gru --bidirectional both", "--check mine.py:Net --seq-len 1..200:8 --batch 1..64:5", tests=True
)
def sweep(
    axes: Annotated["Axes", axes_of_a_sweep],
    random: Annotated[int | None, options.RANDOM],
    configs: Annotated[str | None, options.CONFIGS],
    at_boundaries: Annotated[bool, options.AT_BOUNDARIES],
    out: Annotated[str | None, options.ROWS],
    resume: Annotated[bool, options.RESUME],
    force: Annotated[bool, options.FORCE],
    report: Annotated[str | None, options.REPORT],
) -> Result:
    """Do many configurations agree, and which do not? Each flag takes a list."""
    from rnnscope.sweeps.plan import check_flags

    check_flags(axes, random, configs, out, resume, report, at_boundaries)
    if report:
        from rnnscope.sweeps.rows import read_sweep

        told: Result | None = read_sweep(report)
    else:
        told = rnnscope.sweep(axes, random, configs, out, resume, force, at_boundaries)
    if told is None or is_helper("sweep"):  # another process tells
        raise typer.Exit
    return told


@command("--bidirectional", "--kind lstm --values --item 2 --step 0")
def trace(
    asked: Annotated[Asked, ("weights", "prefix", "inputs")],
    values: Annotated[bool, options.VALUES],
    item: Annotated[int, options.ITEM],
    step: Annotated[int | None, options.STEP],
) -> Result:
    """What happens at which step, and which slice of y is which row of h? Draws the network unrolled over its steps."""
    return rnnscope.trace(asked.spec, values, item, step, loaded=asked.loaded)


@command(
    "--seq-len 10,100,1000 --subjects module,cells --threads 1",
    "--kind gru --subjects module,items --grad",
    runs=False,
)
def bench(
    asked: Annotated[Asked, ("weights", "prefix")],
    subjects: Annotated[tuple[str, ...], options.BENCH_SUBJECTS],
    seq_len: Annotated[tuple[int, ...] | None, options.SEQ_LENS],
    grad: Annotated[bool, options.TIME_GRAD],
    min_time: Annotated[float, options.MIN_TIME],
) -> Result:
    """What does it cost to loop by hand? Times each way of computing in turns, and says what noise leaves open."""
    specs = options.bench_specs(
        asked.spec, subjects, seq_len, min_time
    )  # refused, as all above, before torch is imported
    if asked.spec.memory_check:
        check_memory(specs[-1], command="bench", subjects=subjects, grad=grad, reference=False)
    return rnnscope.bench(asked.spec, subjects, seq_len, grad, min_time, loaded=asked.loaded)


@command("--kind gru --bidirectional", "--kind lstm --lengths 3,2,1 --batch-first", runs=False)
def code(asked: Annotated[Asked, ("weights", "prefix")]) -> Result:
    """How is this network written by hand? Prints a complete script: torch's module, a loop of cells, and the check."""
    return rnnscope.code(asked.spec, loaded=asked.loaded)


@command("model.pt", "model.pt --json")
def weights(file: Annotated[str, options.FILE]) -> Result:
    """Which RNNs are in a file, and what goes into them and comes out? Nothing in the file is run."""
    return rnnscope.checkpoint(file)


@command("model.pt --to cells --out cells.pt", "cells.pt --to module --out again.pt --force")
def convert(
    file: Annotated[str, options.FILE],
    to: Annotated[str, options.TO],
    out: Annotated[str, options.OUT],
    prefix: Annotated[str | None, options.SOURCE_FLAGS["prefix"]],
    force: Annotated[bool, options.FORCE],
) -> Result:
    """How do I get a trained module as cells, or back? Writes the same network under other names, and proves it."""
    return rnnscope.convert(file, out, to, prefix, force)


def names_of_topics() -> list[str]:
    """What `rnnscope help` can be asked for."""
    from rnnscope.help import topics

    return [name for each in topics.contents().topics for name in (each.name, *each.also)]


@command("compare", "verdict", runs=False)
def help(topic: Annotated[tuple[str, ...], replace(options.TOPIC, offers=names_of_topics)]) -> Result:
    """How is it used, and what does it mean? Shows a topic of the manual, or lists all of them."""
    from rnnscope.help import topics

    return topics.topic("-".join(topic)) if topic else topics.contents()


def names_to_explain() -> list[str]:
    """What `rnnscope explain` can be asked for."""
    from rnnscope.help.explain import names

    return names()


@command("reset-before-the-matmul", "gates-i-f-o-g zero-h0", runs=False)
def explain(name: Annotated[tuple[str, ...], replace(options.NAME, offers=names_to_explain)]) -> Result:
    """What does a name on a page mean, and how is it fixed? Shows a page for each name, or lists all of them."""
    from rnnscope.help.explain import explained

    return explained(name)
