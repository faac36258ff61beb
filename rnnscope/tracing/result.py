"""What a trace found: which slices are equal, what every step gave, where the first NaN is. Facts alone.

They are gathered in tracing.py. People are told of them in trace_page.py, programs in documents.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, ClassVar

from rnnscope.pages.shown import Shown
from rnnscope.spec.flags import Switch, Whole
from rnnscope.spec.sources import NO_FILES, Sources
from rnnscope.spec.spec import LARGEST_SIZE, Spec, rerun

if TYPE_CHECKING:  # their modules import torch
    from torch import Tensor

    from rnnscope.verdict.places import Place

VALUES = Switch(("--values",), "Print the numbers of one item, and its gates at one step.", "Trace", False)
ITEM = Whole(("--item",), "Whose numbers are printed.", "Trace", 0, minimum=0, maximum=LARGEST_SIZE)
STEP = Whole(
    ("--step",),
    "At which step gates are printed; the last one otherwise.",
    "Trace",
    minimum=0,
    maximum=LARGEST_SIZE,
    example=0,
)


SATURATED = 0.01
"""A gate this near to an end of its range is saturated: its slope is 4 % of the greatest (sigmoid), or 2 % (tanh)."""


@dataclass(frozen=True, eq=False, repr=False)
class Equality:
    """Two slices of what came out, written as in Python, and whether all their numbers are equal; NaN equals NaN.

    expected: whether torch's documentation says that they are. max_abs: how far they are apart; None where their shapes
    differ. meaning: why they are equal, or why not.
    """

    left: str
    right: str
    equal: bool
    expected: bool
    max_abs: float | None
    meaning: str


@dataclass(frozen=True, eq=False, repr=False)
class Walked:
    """One item in one layer and direction, in the order of time.

    states: h: (L, H_out), and c: (L, H) for an LSTM. gates: (L, H) each, by their letters. L is the item's own length.
    """

    states: "Mapping[str, Tensor]"
    gates: "Mapping[str, Tensor]"

    def saturated(self, gate: str) -> list[int]:
        """How many units of a gate are within SATURATED of an end of its range, at each step."""
        values = self.gates[gate].double()
        ends = (-1.0, 1.0) if gate in "gn" else (0.0, 1.0)
        counts: list[int] = ((values - ends[0] < SATURATED) | (ends[1] - values < SATURATED)).sum(-1).tolist()
        return counts


@dataclass(frozen=True, eq=False, repr=False)
class Trace(Shown):
    """One run of a network, step by step.

    Args:
        spec: with its device made definite.
        item: whose steps these are.
        step: whose gates are shown.
        values: whether numbers were asked for.
        equalities: the pairs that are equal, and pairs that are easily taken for it.
        by_chance: how many are equal though no rule says so, of which the first ones are among them.
        given: x: (L, H_in), and h0: (D·K, H_out) and c0: (D·K, H), of the item.
        walked: what the equations gave, by (layer, direction).
        distance: how far y of the equations is from the module's at most, where they are not equal.
        first_nonfinite: where NaN or infinity first came out of the equations, over all items.
    """

    spec: Spec
    item: int
    step: int
    values: bool
    equalities: tuple[Equality, ...]
    by_chance: int
    given: "Mapping[str, Tensor]"
    walked: Mapping[tuple[int, int], Walked]
    distance: float
    first_nonfinite: "Place | None"
    device_name: str
    torch_version: str
    sources: Sources = NO_FILES

    command: ClassVar[str] = "trace"

    @property
    def length(self) -> int:
        """Steps of the item."""
        return self.spec.length_of(self.item)

    @property
    def broken(self) -> tuple[Equality, ...]:
        """The pairs that torch's documentation says are equal, and that are not."""
        return tuple(each for each in self.equalities if each.expected and not each.equal)

    @property
    def exit_code(self) -> int:
        """1 when NaN or infinity came out, or a pair is not equal that should be; 0 otherwise."""
        return 1 if self.first_nonfinite or self.broken or not isfinite(self.distance) else 0

    @property
    def rerun(self) -> str:
        """The command line that prints this again."""
        step = None if self.step == self.length - 1 else self.step
        files = tuple(self.sources.given())
        own = ((VALUES, self.values), (ITEM, self.item), (STEP, step))
        return rerun(self.command, self.spec, *files, *own, with_files=bool(files))
