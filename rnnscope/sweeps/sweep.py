"""Asks about many configurations in one process, or shares them with the others that torchrun started.

The row of a configuration is what `rnnscope compare --json`, or `rnnscope check --json`, would say of it, or why
nothing could be asked. It depends on its configuration alone: not on the rows before it, nor on who made it, nor where
in a file it stands.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from os.path import exists, isfile, samefile
from signal import SIGINT
from typing import Any, TextIO

import torch

import rnnscope
from rnnscope.errors import RnnscopeError, Stopped
from rnnscope.files.loading import Loaded
from rnnscope.network.costs import BYTES_OF_TORCH, Work, free_bytes, needed_bytes
from rnnscope.pages.progress import progress, stage
from rnnscope.spec.options import CONFIGS, MOST_CONFIGURATIONS, ROWS, SOURCE_FLAGS, Sources
from rnnscope.spec.question import QUESTION_FLAGS, Question, check_comparable
from rnnscope.spec.relations import WANTED_FLAGS, Wanted, check_askable
from rnnscope.spec.shrinking import shrink
from rnnscope.spec.sides import HOW_FLAGS, LEFT, OWN_FLAGS, RIGHT, How, OwnSides
from rnnscope.spec.spec import SPEC_FLAGS, Spec
from rnnscope.subjects.devices import is_out_of_memory
from rnnscope.sweeps.boundaries import NO_MEMORY, boundaries_of, left_out_of
from rnnscope.sweeps.plan import FORM, Axes, Configuration, Values, plan_of, read_lines, sweep_line
from rnnscope.sweeps.result import Finding, Sweep
from rnnscope.sweeps.rows import SUMMARIES, Row, check_kind, finding_of, read_finding, rows_added_to
from rnnscope.sweeps.workers import Ranks, is_launched, workers_here
from rnnscope.verdict.deviations import deviation_of


def sweep(
    axes: Axes,
    random: int | None = None,
    configs: str | None = None,
    out: str | None = None,
    resume: bool = False,
    force: bool = False,
    at_boundaries: bool = False,
) -> Sweep | None:
    """Compare, or check, every configuration that is asked for; None in a process of torchrun that only helps.

    Args:
        axes: values by the names that JSON has: {"kind": ("rnn", "gru"), "num_layers": (1, 2), "right": ("cells",)}.
            With "check": ("FILE.py:Class",) that class is checked in each, and nothing is compared; of "only", "skip",
            "args" and "names" there is one value, a tuple itself: "only": (("causality", "layout"),).
        random: how many to draw at random; None for every combination.
        configs: a file of lines of JSON, or - for stdin, that are compared, each with what the axes add.
        out: a file to which each row is added as soon as it is there.
        resume: whether to go on with a file that is there, and leave out what it has.
        force: whether to replace one.
        at_boundaries: whether each is compared at sizes around which kernels fail, too; what that would take too long
            for is left out, and told.

    Raises:
        RnnscopeError: a value that is not allowed, or a line that is no configuration.
        RnnscopeError: a file that is there already, has other lines, or cannot be read or written.

    What goes wrong with one configuration is told in its row.

    >>> found = sweep({"kind": ("rnn", "lstm"), "bidirectional": (False, True), "right": ("module",)})
    >>> found.verdict, len(found.findings), found.total.counts["identical"]
    ('same', 4, 4)
    >>> found = sweep({"check": ("torch.nn:GRU",), "seq_len": (2, 5), "only": (("causality",),)})
    >>> found.verdict, [each.outcome for each in found.findings]
    ('holds', ['holds', 'holds'])
    """
    if configs and out and exists(configs) and exists(out) and samefile(configs, out):
        raise RnnscopeError(f"{ROWS.name} {out} is what {CONFIGS.name} reads", "name another file")
    ranks = Ranks() if is_launched() else None
    plan = plan_of(axes, random) if configs is None else plan_of(axes, random, _lines(configs, ranks))
    added, left_out = boundaries_of(plan) if at_boundaries else ([], ())
    plan += [each.configuration for each in added]
    if ranks is not None and ranks.rank:
        for number in ranks.draw(json.loads(ranks.receive("todo"))):
            ranks.hand_over(json.dumps((number, row_of(plan[number]))))
        return None
    # What memory has room for is known to rank 0 alone: it says what is to be done.
    no_room = [each for each in added if not _has_room(each.configuration)]
    left_out += left_out_of((each, NO_MEMORY) for each in no_room)
    findings = tuple(_lead(plan, ranks, out, resume, force, {each.configuration for each in no_room}))
    found = SUMMARIES[plan[0].command].sweep(
        findings,
        sweep_line(axes, random, configs, at_boundaries),
        workers=ranks.size if ranks else None,
        torch_version=str(torch.__version__),
        left_out=left_out,
    )
    first = found.first_to_shrink
    return found if first is None else replace(found, smallest=_smallest_like(first))


def _lines(configs: str, ranks: Ranks | None) -> list[Values]:
    """What the lines of a file say, or of stdin, which rank 0 alone can read."""
    text = ranks.receive("configs") if ranks and ranks.rank else _read(configs)
    if ranks and not ranks.rank:
        ranks.send("configs", text)
    return read_lines(text, "stdin" if configs == "-" else configs)


def _read(configs: str) -> str:
    if configs == "-" and sys.stdin is None:
        raise RnnscopeError("cannot read stdin (it is closed)")
    try:
        with nullcontext(sys.stdin) if configs == "-" else open(configs, encoding="utf-8") as stream:
            return "".join(_bounded(stream)).removeprefix("\ufeff")  # with which some systems begin their files
    except (OSError, UnicodeDecodeError) as error:
        raise RnnscopeError(f"cannot read {configs} ({getattr(error, 'strerror', None) or error})") from error


LONGEST_LINE, LONGEST_CONFIGS = 2**20, 2**30
"""Signs that one configuration may have, and all: a device, and a file of something else, may have no end."""


def _bounded(stream: TextIO) -> Iterator[str]:
    """The lines of a stream.

    Raises:
        RnnscopeError: a line that is too long, or too many of them.
    """
    size = 0
    for number, line in enumerate(iter(lambda: stream.readline(LONGEST_LINE + 1), ""), 1):
        if len(line) > LONGEST_LINE:
            raise RnnscopeError(f"line {number} of {CONFIGS.name} has more than {LONGEST_LINE:,} signs", FORM)
        size += len(line)
        if number > MOST_CONFIGURATIONS or size > LONGEST_CONFIGS:
            limits = f"{MOST_CONFIGURATIONS:,} lines or {LONGEST_CONFIGS:,} signs"
            raise RnnscopeError(f"{CONFIGS.name} has more than {limits}", "split it")
        yield line


def _has_room(asked: Configuration) -> bool:
    """Whether memory has room for a configuration, as far as its flags tell."""
    if asked.has_files:
        return True
    try:
        _check_memory(Spec(**asked.of(SPEC_FLAGS)), _work_of(asked))
    except RnnscopeError:
        return False
    return True


def _work_of(asked: Configuration) -> Work:
    if asked.command == "check":  # of a class nothing is known: it may keep as much as a module with its gradients
        return Work(subjects=("module",), grad=True)
    sides = {side: asked.value(side) for side in ("left", "right")}
    return Work.of("compare", vars(Question(**asked.of(QUESTION_FLAGS))) | sides)


def _lead(
    plan: list[Configuration], ranks: Ranks | None, out: str | None, resume: bool, force: bool, skip: set[Configuration]
) -> list[Finding]:
    """Compare what has no row yet, with the help of the other ranks, and give all findings in the order of the plan.

    skip: what is left out, unless it has a row.
    """
    old: list[Finding] = []

    def seen(row: Row) -> None:
        check_kind(row, plan[0].command)
        old.append(read_finding(row))

    with nullcontext() if out is None else rows_added_to(out, resume, force, seen) as append, _telling_of(out):
        found = {each.configuration: each for each in old}
        kept = [each for each in plan if each in found or each not in skip]
        todo = [number for number, each in enumerate(plan) if each not in found and each not in skip]
        lock = threading.Lock()  # rows of the other ranks come from a thread
        with progress(len(kept), "configurations", done=len(kept) - len(todo)) as advance:

            def take(number: int, row: Row) -> None:
                with lock:
                    if append is not None:
                        append(row)
                    found[plan[number]] = finding_of(plan[number], row)
                    advance(1)

            _run(plan, todo, ranks, take)
    return [found[configuration] for configuration in kept]


@contextmanager
def _telling_of(out: str | None) -> Iterator[None]:
    """Let whoever stops a sweep know that it can go on."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        hint = f"the rows in {out} are whole: add --resume to go on" if out and isfile(out) else None
        raise Stopped(getattr(stopped, "number", SIGINT), hint) from stopped


def _run(plan: list[Configuration], todo: list[int], ranks: Ranks | None, take: Callable[[int, Row], None]) -> None:
    """Compare the configurations of some numbers, alone or together with the other ranks."""
    if ranks is None:
        for number in todo:
            take(number, row_of(plan[number]))
        return
    ranks.send("todo", json.dumps(todo))
    with ranks.taking(len(todo), lambda piece: take(*json.loads(piece))) as others:
        for number in ranks.draw(todo):
            take(number, row_of(plan[number]))
            if others.done():
                others.result()  # raises what went wrong there


LITTLE = 64 * 2**20
"""Bytes for which nobody asks how much memory is free: to find that out takes a tenth of a small comparison."""

TOO_LARGE = "there is too little memory for it; make --seq-len, --batch, --hidden-size or --layers smaller"
"""How much is missing differs from one moment to the next."""


def row_of(asked: Configuration, with_reasons: bool = True) -> Row:
    """Compare, or check, what a configuration asks for: schema, command, rerun, status, message, spec, and the rest.

    status: compared, or checked; not_comparable where it contradicts itself, which is told from the flags alone; failed
    where it was tried and no verdict came out: no such device or file, too little memory, a class that is wrong, and
    whatever else nobody expected. The rest is the document of its command less its environment; where there is none, it
    is left and right, or the subject, alone.

    Args:
        with_reasons: whether to look for what explains a difference, which takes most of the time.

    Raises:
        Exception: a GPU that will compute nothing any more.
    """
    is_check = asked.command == "check"
    named = {"subject": asked.value("check")} if is_check else {each: asked.value(each) for each in ("left", "right")}
    spec = {name: asked.written.get(name, flag.default) for name, flag in SPEC_FLAGS.items()}
    row: Row = {"schema": 1, "command": asked.command, "rerun": asked.rerun}
    row |= {"status": "not_comparable", "message": None, "spec": spec, **named}
    try:
        facts = _checked(asked, row) if is_check else _compared(asked, row, with_reasons)
    except Exception as error:  # one configuration is not the end of the others
        return row | {"message": _reason(error)}
    return row | {"status": SUMMARIES[asked.command].sweep.words.status} | facts | named


def _compared(asked: Configuration, row: Row, with_reasons: bool) -> Row:
    """What a comparison says. The row is told how far it came."""
    left, right = asked.value("left"), asked.value("right")
    question, sources = Question(**asked.of(QUESTION_FLAGS)), Sources(**asked.of(SOURCE_FLAGS))
    own, how = OwnSides(**asked.of(OWN_FLAGS)), How(**asked.of(HOW_FLAGS))
    loaded = None
    if not asked.has_files:  # flags alone tell whether it makes sense
        loaded = Loaded(sources, Spec(**asked.of(SPEC_FLAGS)))
        check_comparable(loaded.spec, left, right, question, own, how)
        for flag, typed in ((LEFT, left), (RIGHT, right)):
            deviation_of(flag, typed, loaded.spec)
    row["status"] = "failed"
    loaded = loaded or rnnscope.load(sources, asked.of(SPEC_FLAGS), left, right)
    row["spec"] = loaded.spec.facts
    _check_memory(loaded.spec, _work_of(asked))
    options: dict[str, Any] = {"loaded": loaded, "question": question, "own": own, "how": how}
    found = rnnscope.compare(loaded.spec, left, right, with_reasons=with_reasons, **options)
    return {"sources": asdict(found.sources)} | found.facts()


def _checked(asked: Configuration, row: Row) -> Row:
    """What a check says, of a class that must follow what was said of the network; likewise."""
    spec, wanted = Spec(**asked.of(SPEC_FLAGS)), Wanted(**asked.of(WANTED_FLAGS))
    check_askable(spec)
    row["status"] = "failed"
    row["spec"] = spec.facts
    _check_memory(spec, _work_of(asked))
    found = rnnscope.check(asked.value("check"), spec, given=tuple(asked.of(SPEC_FLAGS)), wanted=wanted)
    return {"sources": asdict(found.sources)} | found.facts()


def _check_memory(spec: Spec, work: Work) -> None:
    """Raise unless this process can take its share of what is free."""
    needed = needed_bytes(spec, work)
    if spec.memory_check and needed > BYTES_OF_TORCH + LITTLE:
        free = free_bytes()
        if free is not None and needed > free // workers_here():
            raise RnnscopeError(TOO_LARGE)


def _reason(error: Exception) -> str:
    """What is told of an error."""
    if "CUDA error" in str(error):  # after which every call fails
        raise error
    if is_out_of_memory(error):
        return TOO_LARGE
    if isinstance(error, RnnscopeError):
        return error.in_a_row
    return f"unexpected {type(error).__name__}: {error}"


def _smallest_like(found: Finding) -> str | None:
    """The command line of the smallest Spec of which the same is still found, for the same cause.

    None where files say what it is.
    """
    asked = found.configuration
    if asked.has_files:
        return None
    spec = Spec(**asked.of(SPEC_FLAGS))

    def asked_of(smaller: Spec) -> Configuration:
        """A class that is checked must follow what is said of a network: nothing is said that nobody said."""
        network = SPEC_FLAGS["kind"].panel
        said = {
            name: value
            for name, value in vars(smaller).items()
            if name in asked.values or value != getattr(spec, name) or SPEC_FLAGS[name].panel != network
        }
        return Configuration({**found.narrowed, **said})

    def is_like(smaller: Spec) -> bool:
        configuration = asked_of(smaller)
        return finding_of(configuration, row_of(configuration, with_reasons=False)).cause == found.cause

    with stage("the smallest of which it still holds"):
        return asked_of(shrink(spec, is_like)).rerun
