"""What a network costs: parameters, multiply-accumulates and bytes by formula, and what memory the machine has free.

The need of memory is an estimate: how often each tensor is held was measured, and depends on what is done alone. The
memory of a GPU is not asked for: torch itself reports that it ran out.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from math import prod
from pathlib import Path
from typing import Any

from rnnscope.errors import RnnscopeError
from rnnscope.network.shapes import BLOCK, GATES, dim_sizes, gate_rows, layer_parameters, tensor_shapes
from rnnscope.spec.question import stressed
from rnnscope.spec.spec import LARGEST_SIZE, Spec


def parameter_count(spec: Spec) -> int:
    """Numbers to learn: D·(G·H·(I + H_out) + 2·G·H + P·H) for each layer.

    I is H_in in the first layer and D·H_out above it; 2·G·H are the two biases; P·H is the projection.
    """
    return _over_layers(spec, lambda layer: sum(each.count for each in layer_parameters(spec, layer)))


def macs(spec: Spec) -> int:
    """Multiply-accumulates of the whole sequence: the real steps times D·(G·H·(I + H_out) + P·H) for each layer.

    Real steps are L·N, or the sum of the lengths of a packed input; I is H_in in the first layer and D·H_out above it.
    Only products with a weight matrix count, as is the custom: a bias is added and a gate applied without one. One
    step of LSTMCell(10, 20) at batch 5 is 4·20·(10 + 20)·5 = 12,000.
    """

    def of_step(layer: int) -> int:
        return sum(each.count for each in layer_parameters(spec, layer) if len(each.shape) == 2)

    return real_steps(spec) * _over_layers(spec, of_step)


def parameter_formula(spec: Spec) -> str:
    """`parameter_count` with its numbers put in: "20·(10 + 20 + 2) + 20·(20 + 20 + 2)"."""
    return _over_layers_in_words(spec, " + 2" if spec.bias else "")


def mac_formula(spec: Spec) -> str:
    """`macs` with its numbers put in: "15·(20·(10 + 20) + 20·(20 + 20))"."""
    return f"{real_steps(spec)}·({_over_layers_in_words(spec, '')})"


def _over_layers_in_words(spec: Spec, biases: str) -> str:
    sizes = dim_sizes(spec)

    def layer(width: int) -> str:
        text = f"{sizes[gate_rows(spec)]}·({width} + {spec.output_size}{biases})"
        if spec.proj_size:
            text = f"({text} + {spec.proj_size}·{spec.hidden_size})"
        return f"2·{text}" if spec.bidirectional else text

    above = layer(sizes["D·H_out"])
    return layer(spec.input_size) + {1: "", 2: f" + {above}"}.get(spec.num_layers, f" + {spec.num_layers - 1}·{above}")


def real_steps(spec: Spec) -> int:
    """Steps that are computed, over all sequences: L·N, or the sum of the lengths."""
    return spec.seq_len * spec.batch_size if spec.lengths is None else sum(spec.lengths)


def _over_layers(spec: Spec, count: Callable[[int], int]) -> int:
    """A sum over the layers. All above the first are alike, so that a million layers cost no more than two."""
    return count(0) + (spec.num_layers - 1) * count(1)


MOST_ROWS = 1_000_000
"""A document, for JSON or TSV, is whole up to this many rows and refused above."""


def check_rows(spec: Spec, by_step: int = 0) -> None:
    """Raise unless a document has room for all parameters, and for so many rows by step, layer and direction."""
    rows = _over_layers(spec, lambda layer: len(layer_parameters(spec, layer)))
    too_many = f"are over the limit of {MOST_ROWS:,} rows"
    if by_step * spec.seq_len * spec.num_layers * spec.directions > MOST_ROWS:
        what = f"--seq-len is {spec.seq_len}: its steps in all layers {too_many}"
        raise RnnscopeError(what, "use --format table, which leaves out the steps in the middle")
    if rows > MOST_ROWS:
        what = f"--layers is {spec.num_layers}: its {rows:,} parameters {too_many}"
        raise RnnscopeError(what, "use --format table, which leaves out the layers in the middle")


MIB = 2**20

BYTES_OF_TORCH = 270 * MIB
"""What a process takes that compares a small network, most of it torch: 240 to 295 MiB were measured."""

BYTES_OF_COMPILER = 210 * MIB
"""What torch.compile adds: 160 to 270 MiB."""

BYTES_OF_PROFILER = 70 * MIB
"""What torch's timer and profiler add, before anything is recorded."""

BYTES_OF_WATCHED_STEP = 95_000
"""What the profiler records of a step of one layer in one direction; three times as much with gradients."""

MOST_WATCHED_STEPS = 10_000
"""Over all layers and directions: of more steps the profiler would keep more than is to be measured."""

BYTES_OF_LAYER = 10_000
"""The Python objects of one layer in one direction."""

FLOAT64 = 8
"""Bytes of an element: weights and x are drawn in float64, and the reference runs in it."""


@dataclass(frozen=True)
class Held:
    """How many copies of a tensor there are at the peak, as measured.

    Args:
        weights, x: in float64, whichever dtype runs.
        y: of y, h and c, and with gradients of h0 and c0; in float64 with the reference, in the own dtype without it.
        step: bytes of the objects that a step in one direction leaves behind; with gradients a step of each layer.
    """

    weights: float
    x: float
    y: float
    step: int = 1_300


HELD = {
    "shapes": Held(weights=1.1, x=0.9, y=4.5),
    "trace": Held(weights=1.5, x=0.8, y=9.5),
    "bench": Held(weights=2.6, x=1.7, y=7.5),
    "bench --grad": Held(weights=2, x=0.5, y=7, step=15_000),
    "compare": Held(weights=3.4, x=2.7, y=8.5),
    "compare --grad": Held(weights=6, x=7, y=8, step=14_000),
    "compare --no-reference": Held(weights=2.6, x=1.7, y=5.5),
    "compare --no-reference --grad": Held(weights=2, x=0.5, y=2.5, step=15_000),
}
"""By what is done."""

KEPT = {"rnn": 4, "lstm": 14, "gru": 16}
"""What autograd keeps of each step, as copies of its h. As much is held for two more while gradients are taken."""

KEPT_BY_LENGTHS = 5
"""What it keeps besides where each step is masked."""

LEAVES = 4.5
"""Copies of weights and x, as they run, and their gradients."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is done with a network, as far as it decides how much memory that takes: the keywords of `check_memory`.

    Args:
        command: shapes, trace, bench or compare.
        subjects: what is run, as flags name it.
        grad: whether gradients are computed too.
        reference: whether the equations are run in float64 too.
        resync: whether every step is compared by itself.
        map: whether a map of the differences is drawn.
        chunk: steps that are run at a time; all when None.
        stress: whether a longer input is run too.
    """

    command: str = "compare"
    subjects: tuple[str, ...] = ("module", "cells")
    grad: bool = False
    reference: bool = True
    resync: bool = False
    map: bool = False
    chunk: int | None = None
    stress: bool = False

    @property
    def held(self) -> Held:
        """What is held at the peak."""
        left_out = self.command == "compare" and not self.reference
        return HELD[f"{self.command}{' --no-reference' * left_out}{' --grad' * self.grad}"]

    @classmethod
    def of(cls, command: str, values: Mapping[str, Any]) -> "Work":
        """What a command does with the values of its flags, by their names."""
        subjects = tuple(values.get(side, "") for side in ("left", "right"))
        known = {each.name: values[each.name] for each in fields(cls) if each.name in values}
        return cls(**{"command": command, "subjects": subjects} | known)

    def has(self, subject: str) -> bool:
        """Whether a subject is among those that are run, on whichever device."""
        return any(each.partition("@")[0] == subject for each in self.subjects)


COMPARE = Work()


def needed_bytes(spec: Spec, work: Work = COMPARE) -> int:
    """The most bytes that a process takes: each tensor as often as it is held, and what objects take besides."""
    spec = stressed(spec) if work.stress else spec
    seen, held, gates = _seen(spec, work), work.held, len(GATES[spec.kind])
    x, states, outputs = (_numbers(seen, role) for role in ("input", "state", "output"))
    weights, steps = parameter_count(seen), seen.num_layers * seen.seq_len
    of_step = seen.directions * seen.batch_size * seen.hidden_size
    exact = held.weights * weights + held.x * x
    # The gates of all steps are computed at once, and are wider than y where it is projected.
    own = held.y * outputs + gates * seen.seq_len * seen.batch_size * (seen.hidden_size - seen.output_size)
    if work.grad:
        kept = KEPT[seen.kind] + (KEPT_BY_LENGTHS if seen.lengths else 0)
        own += held.y * states + LEAVES * (weights + x) + kept * of_step * (steps + 2)
    if work.resync:  # the states are noted step by step, and then stacked
        exact += 2 * states
    if work.map:  # the states of all layers of both sides, and at a time the gates of one
        exact += of_step * (steps + (3 + 5 * gates) * seen.seq_len)
    if work.command == "bench":  # each subject keeps its own
        exact += (max(len(work.subjects), 2) - 2) / 2 * (weights + x)
    running = FLOAT64 if work.command == "compare" and work.reference else seen.element_size
    return _bytes_of_objects(spec, work, seen.seq_len) + int(FLOAT64 * exact + running * own)


def _numbers(spec: Spec, role: str) -> int:
    """Elements of all tensors of a role."""
    return sum(prod(each.shape) for each in tensor_shapes(spec) if each.role == role)


def _seen(spec: Spec, work: Work) -> Spec:
    """The steps that are there at a time: of a chunk and the blocks that it is cut out of, or each as a sequence."""
    if work.resync:
        count = min(real_steps(spec), LARGEST_SIZE)
        return replace(spec, seq_len=1, batch_size=count, lengths=None, unbatched=False)
    if work.chunk is None or work.reference or spec.lengths is not None:
        return spec
    return replace(spec, seq_len=min(spec.seq_len, work.chunk + 2 * BLOCK))


def _bytes_of_objects(spec: Spec, work: Work, steps_at_a_time: int) -> int:
    """What is there besides the numbers: torch itself, its tools, and the objects of layers and steps."""
    found = BYTES_OF_TORCH + spec.num_layers * spec.directions * BYTES_OF_LAYER
    found += BYTES_OF_COMPILER if work.has("compiled") else 0
    steps = spec.directions * (spec.seq_len if work.resync else steps_at_a_time)
    if work.grad or work.resync or work.command == "bench":
        steps *= spec.num_layers
    noted = steps * (2 if work.grad and spec.kind != "rnn" else 1)  # with gates autograd notes twice as much
    if work.command == "bench":
        is_watched = steps * (2 if work.grad else 1) <= MOST_WATCHED_STEPS
        found += BYTES_OF_PROFILER + is_watched * noted * BYTES_OF_WATCHED_STEP * (3 if work.grad else 1)
    by_item = spec.batch_size if work.grad and work.has("items") else 1
    return found + noted * by_item * work.held.step


def check_steps(spec: Spec) -> None:
    """Raise unless the states of all steps fit into memory, so that every step can be compared by itself."""
    work, single = Work(resync=True), replace(spec, seq_len=1, batch_size=1, lengths=None)
    hint = "make --seq-len, --batch, --hidden-size or --layers smaller, or add --no-memory-check"
    needed = needed_bytes(spec, work) - needed_bytes(single, work)
    check_free(needed, "every step by itself needs about", hint)


def check_memory(spec: Spec, free: int | None = None, **work: Any) -> None:
    """Raise unless the machine can hold a comparison of the network.

    Args:
        free: bytes that may be used; what the machine has free when None.
        work: what is done: command, subjects, grad, reference, resync, map, chunk, stress; a plain one by default.

    Raises:
        RnnscopeError: with both figures.

    >>> check_memory(Spec(), free=2**30)
    >>> check_memory(Spec(hidden_size=100_000), free=2**30)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    rnnscope.errors.RnnscopeError: these sizes need about 760 GiB of memory, and 1 GiB is free; make ... smaller, ...
    """
    sizes = "--lengths" if spec.lengths else "--seq-len, --batch"
    hint = f"make {sizes}, --hidden-size or --layers smaller, or add --no-memory-check"
    check_free(needed_bytes(spec, Work(**work)), "these sizes need about", hint, free)


def check_free(needed: int, what: str, hint: str, free: int | None = None) -> None:
    """Raise, with both figures, unless so many bytes are free: what the machine has free when None."""
    free = free_bytes() if free is None else free
    if free is not None and needed > free:
        raise RnnscopeError(f"{what} {human_bytes(needed)} of memory, and {human_bytes(free)} is free", hint)


def human_bytes(count: int) -> str:
    """Bytes with a binary unit and three significant digits: 1.5 KiB, 12 GiB."""
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    power = next((power for power in range(len(units)) if count < 1000 * 1024**power), len(units) - 1)
    return f"{count} B" if power == 0 else f"{count / 1024**power:.3g} {units[power]}"


def free_bytes(root: Path = Path("/")) -> int | None:
    """Bytes that a process may still take: the free memory of the machine, or the less that its control group leaves.

    Both are read on Linux. Elsewhere all physical memory counts as free, and None stands where it is not known.
    """
    machine = [line for line in _lines(root / "proc/meminfo") if line.startswith("MemAvailable:")]
    found = [int(line.split()[1]) * 1024 for line in machine] + _left_by_groups(root)
    if found or not hasattr(os, "sysconf"):
        return min(found, default=None)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _left_by_groups(root: Path) -> list[int]:
    """What each control group of this process, or above it, leaves; its idle file cache counts as free."""
    left = []
    for line in _lines(root / "proc/self/cgroup"):  # "0::/path" in version 2, "4:memory:/path" in version 1
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            left += _limits(root / "sys/fs/cgroup", path, ("memory.max", "memory.current", "inactive_file"))
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            left += _limits(root / "sys/fs/cgroup/memory", path, names)
    return left


def _limits(base: Path, path: str, names: tuple[str, str, str]) -> list[int]:
    """What the group at the path and each group above it leaves of its limit, where it has one."""
    limit, usage, idle = names
    left = []
    inner = base / path.lstrip("/")
    for group in (inner, *inner.parents):
        try:
            allowed = int((group / limit).read_text())
            used = int((group / usage).read_text())
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # no such group here, or its limit is the word "max"
            continue
        left.append(allowed - used + int(stat.get(idle, 0)))
    return left


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
