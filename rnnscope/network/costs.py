"""What a network costs: parameters, multiply-accumulates and bytes by formula, and what memory the machine has free.

The need of memory is an estimate on the safe side. The memory of a GPU is not asked for: torch itself reports that it
ran out.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path

from rnnscope.errors import RnnscopeError
from rnnscope.network.shapes import BLOCK, GATES, dim_sizes, gate_rows, layer_parameters, tensor_shapes
from rnnscope.spec.spec import Spec


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


BYTES_OF_TORCH = 448 * 2**20
"""230 MiB were measured once torch is imported, and 90 for the pieces in which differences are taken. The allocator
keeps up to 100 of freed steps."""

BYTES_PER_STEP = 1400
"""Overhead of the small tensors that one time step leaves behind: 1020 (module) to 1220 (cells) bytes were measured."""

BYTES_PER_STEP_OF_AUTOGRAD = 9_000
"""What autograd keeps of a step for each gate: 8,000 (RNN), 5,000 (LSTM) and 8,000 (GRU) bytes were measured.

It keeps twice as many where every operation is rounded at random: 16,300, 9,300 and 13,600."""

BYTES_PER_LAYER = 40_000
"""The Python objects of one layer in the module and in the stack of cells."""

MOST_WATCHED_STEPS = 10_000
"""Over all layers and directions. torch's profiler keeps some 60 records of each step, and of more steps it would keep
more than is to be measured."""

COPIES_OF_STATES = 9
"""How often the states of all steps are held where every step is compared by itself: 8.5 were measured."""

COSTLY = ("grad", "reference", "resync", "map", "chunk")
"""What may be asked of a comparison that decides how much it takes: the arguments of `check_memory`."""

DRAWN = 8
"""Bytes of an element while it is drawn: weights and input are drawn in float64 and rounded afterwards."""


def needed_bytes(
    spec: Spec,
    grad: bool = False,
    reference: bool = True,
    resync: bool = False,
    map: bool = False,
    chunk: int | None = None,
) -> int:
    """The most bytes that a comparison of two subjects holds at one time, for the arguments of `check_memory`.

    - Weights, h0 and c0: as they are drawn and rounded, and once more in the network that runs.
    - x: in the dtype of the sides, in that of the network that runs, and what is drawn of it at a time.
    - y, h and c: of every run so far, and their distances from each other. The one that runs has them as steps, as a
      stack, and as a copy where batch_first leaves them strided. The gates of an LSTM or a GRU are each as large as y.
    - With the reference, each side and the equations in float64 too, and the equations rounded at random. Without it
      no more steps than those of a chunk and of the blocks that it is cut out of.
    - With gradients, what the derivative of every step of every layer needs, and a gradient of each run's parameters.
    - Where every step is compared by itself, the states of all steps; for a map, outputs and gates of every layer.
    """
    if chunk is not None and not reference and spec.lengths is None:
        spec = replace(spec, seq_len=min(spec.seq_len, chunk + 2 * BLOCK))
    sizes = {each.name: prod(each.shape) for each in tensor_shapes(spec)}
    gates, running = len(GATES[spec.kind]), DRAWN if reference else spec.element_size
    alone = not (reference or grad or map)  # where one side is walked beside the other's y
    runs = (1 if alone else 2) * spec.element_size + (4 * DRAWN if reference else 0)
    kept = spec.num_layers * (10 + 18 * gates if reference else 4 + 3 * gates) if grad else gates
    weights = parameter_count(spec) * (2 * DRAWN + running + (runs if grad else 0))
    states = sum(sizes.get(name, 0) for name in ("h0", "c0")) * (2 * DRAWN + running + (runs if grad else 0))
    drawn = sizes["x"] * min(BLOCK, spec.seq_len) // spec.seq_len * 2 * DRAWN
    inputs = states + drawn + sizes["x"] * (spec.element_size + (1 if alone else 2) * running + (runs if grad else 0))
    outputs = sum(sizes.get(name, 0) for name in ("y", "h", "c")) * (runs + (4 + kept) * running)
    step = spec.directions * (2 if spec.kind == "lstm" else 1) * BYTES_PER_STEP
    if grad:
        step += (2 if reference else 1) * spec.directions * spec.num_layers * max(gates, 1) * BYTES_PER_STEP_OF_AUTOGRAD
    overhead = BYTES_OF_TORCH + spec.seq_len * step + spec.num_layers * BYTES_PER_LAYER
    layers = sizes["y"] * spec.num_layers * (2 * spec.element_size + DRAWN) + sizes["y"] * (2 * gates + 4) * DRAWN
    return weights + inputs + outputs + overhead + (steps_bytes(spec) if resync else 0) + (layers if map else 0)


def check_steps(spec: Spec) -> None:
    """Raise unless the states of all steps fit into memory, so that every step can be compared by itself."""
    hint = "make --seq-len, --batch, --hidden-size or --layers smaller, or add --no-memory-check"
    check_free(steps_bytes(spec), "every step by itself needs about", hint)


def steps_bytes(spec: Spec) -> int:
    """The bytes that the states of every step take, in the input and the runs that are made of them."""
    rows = spec.directions * spec.num_layers * spec.seq_len * spec.batch_size
    width = spec.output_size + (spec.hidden_size if spec.kind == "lstm" else 0)
    return rows * width * DRAWN * COPIES_OF_STATES


def check_memory(
    spec: Spec,
    free: int | None = None,
    grad: bool = False,
    reference: bool = True,
    resync: bool = False,
    map: bool = False,
    chunk: int | None = None,
) -> None:
    """Raise unless the machine can hold a comparison of the network.

    Args:
        free: bytes that may be used; what the machine has free when None.
        grad: whether gradients are computed too.
        reference: whether the equations are run in float64 too.
        resync: whether every step is compared by itself.
        map: whether a map of the differences is drawn.
        chunk: steps that are run at a time; all when None.

    Raises:
        RnnscopeError: with both figures.

    >>> check_memory(Spec(), free=2**30)
    >>> check_memory(Spec(hidden_size=100_000), free=2**30)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    rnnscope.errors.RnnscopeError: these sizes need about 671 GiB of memory, and 1 GiB is free; make ... smaller, ...
    """
    sizes = "--lengths" if spec.lengths else "--seq-len, --batch"
    hint = f"make {sizes}, --hidden-size or --layers smaller, or add --no-memory-check"
    check_free(needed_bytes(spec, grad, reference, resync, map, chunk), "these sizes need about", hint, free)


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
