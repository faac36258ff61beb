"""The sizes around which kernels of devices are known to fail, one at a time, besides those that were asked for.

A kernel takes work in blocks of 32, 128 or 256, and launches of at most 65,535 or 65,536 blocks. So its faults begin at
such a size, at one beside it, or at a product: of steps and items, which many kernels take as one. Nothing is run here,
and what is left out follows from the flags alone: every process of a sweep leaves out the same.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from rnnscope.errors import RnnscopeError
from rnnscope.network.costs import macs
from rnnscope.spec.options import AT_BOUNDARIES, MOST_CONFIGURATIONS
from rnnscope.spec.question import QUESTION_FLAGS, Question, check_comparable
from rnnscope.spec.relations import check_askable
from rnnscope.spec.sides import RECORDED
from rnnscope.spec.spec import SPEC_FLAGS, Spec
from rnnscope.sweeps.plan import Configuration, Values

SIZES = (1, 2, 31, 32, 33, 127, 128, 129, 255, 256, 257, 65_535, 65_536, 65_537)
"""Of steps, of items, and of features of h."""

PRODUCT = 65_536
"""Steps times items: just not over it, and just over it."""

_AXES = ("seq_len", "batch_size", "hidden_size")

MOST_WORK = 3e9
"""Multiplications of one run that a comparison at a boundary may cost: a dozen seconds on one core that is idle."""

WORK_OF_STEP = 40_000
"""A step of a layer takes as long as so many: 0.14 ms where a comparison takes 4 ns for a multiplication."""

TIMES_WITH_GRADIENTS, TIMES_CHECKED = 3, 20
"""How much more work a comparison of gradients is, and a check, which calls a module 80 times."""

LONGEST = 1_000
"""A list of lengths has at most so many items, since it stands in every command line."""

LARGEST_OF_FILE = 257
"""With a network out of a file, of which the size is not known yet."""

TOO_MUCH, TOO_MUCH_TO_CHECK, NO_MEMORY, TOO_LONG, UNKNOWN = (
    "comparing one would take too long",
    "checking one would take too long",
    "there is too little memory for one",
    f"--lengths would have over {LONGEST:,} items",
    "how large the network in the file is, is not known before it is read",
)


@dataclass(frozen=True)
class LeftOut:
    """Sizes of a flag that were left out of so many configurations, and why."""

    flag: str
    sizes: tuple[int, ...]
    count: int
    reason: str


@dataclass(frozen=True)
class Boundary:
    """A configuration at a boundary: at which size, and of which flag."""

    configuration: Configuration
    flag: str
    size: int


def boundaries_of(plan: Sequence[Configuration]) -> tuple[list[Boundary], tuple[LeftOut, ...]]:
    """What a plan gets besides: each of its configurations at each boundary, each once; and what is left out.

    Raises:
        RnnscopeError: more than can be kept.
    """
    known, found, left_out = set(plan), dict[Configuration, Boundary](), list[tuple[Boundary, str]]()
    for asked in plan:
        for name, size, values in _variants(asked) if _makes_sense(asked) else ():
            other = Configuration(values)
            if other in known or not _makes_sense(other):
                continue
            known.add(other)
            boundary = Boundary(other, SPEC_FLAGS[name].name, size)
            if reason := _too_much(other, size):
                left_out.append((boundary, reason))
            else:
                found[other] = boundary
        if len(found) + len(plan) > MOST_CONFIGURATIONS:
            more = f"{AT_BOUNDARIES.name} makes more than {MOST_CONFIGURATIONS} configurations of these"
            raise RnnscopeError(more, "list fewer values")
    return list(found.values()), left_out_of(left_out)


def left_out_of(boundaries: Iterable[tuple[Boundary, str]]) -> tuple[LeftOut, ...]:
    """What is told of boundaries that were left out, each with its reason."""
    found: dict[tuple[str, str], list[int]] = {}
    for boundary, reason in boundaries:
        found.setdefault((boundary.flag, reason), []).append(boundary.size)
    return tuple(
        LeftOut(flag, tuple(sorted(set(sizes))), len(sizes), reason) for (flag, reason), sizes in found.items()
    )


def _makes_sense(asked: Configuration) -> bool:
    """Whether it is compared at all; what files say is not known yet."""
    if asked.has_files:
        return True
    try:
        spec = Spec(**asked.of(SPEC_FLAGS))
        if asked.command == "check":
            check_askable(spec)
        else:
            check_comparable(spec, asked.value("left"), asked.value("right"), Question(**asked.of(QUESTION_FLAGS)))
    except RnnscopeError:
        return False
    return True


def _variants(asked: Configuration) -> Iterator[tuple[str, int, Values]]:
    """The name of a size, another size, and the values with it."""
    has_inputs = asked.values.get("inputs") is not None
    if has_inputs or any(str(asked.value(side)).startswith(RECORDED) for side in ("left", "right")):
        return  # these have the sizes that they have
    axes = _AXES[:2] if asked.has_files else _AXES
    for name in axes:
        if name == "batch_size" and asked.values.get("unbatched"):
            continue
        for size in SIZES:
            yield name, size, _with(asked.values, name, size)
    steps = asked.value("seq_len")  # None where lengths say it
    if steps is not None and 1 < steps <= PRODUCT and not asked.values.get("unbatched"):
        for items in (PRODUCT // steps, PRODUCT // steps + 1):
            yield "batch_size", items, _with(asked.values, "batch_size", items)


def _with(values: Values, name: str, size: int) -> dict[str, Any]:
    """The values with another size; of lengths the longest, or their number."""
    lengths = values.get("lengths")
    if not lengths or name == "hidden_size":
        return {**values, name: size}
    rest = {each: value for each, value in values.items() if each not in ("seq_len", "batch_size")}
    if name == "batch_size":
        return {**rest, "lengths": tuple(islice(cycle(lengths), min(size, LONGEST + 1)))}
    longest = max(lengths)
    return {**rest, "lengths": tuple(size if each == longest else min(each, size) for each in lengths)}


def _too_much(asked: Configuration, size: int) -> str | None:
    """Why one is left out; None where it is compared."""
    if asked.has_files:
        return UNKNOWN if size > LARGEST_OF_FILE else None
    spec = Spec(**asked.of(SPEC_FLAGS))
    if spec.lengths and len(spec.lengths) > LONGEST:
        return TOO_LONG
    work = macs(spec) + WORK_OF_STEP * spec.seq_len * spec.num_layers * spec.directions
    if asked.command == "check":
        return TOO_MUCH_TO_CHECK if work * TIMES_CHECKED > MOST_WORK else None
    return TOO_MUCH if work * (TIMES_WITH_GRADIENTS if asked.values.get("grad") else 1) > MOST_WORK else None
