"""Words that the relations share: where two runs part, by how much, and what a class raised."""

import re

from rnnscope.checks.values import Gap, Place
from rnnscope.errors import RnnscopeError


def where(gap: Gap) -> str:
    """Where two runs part: "from step 3 on", "in state[0]"."""
    place = gap.place
    if place is None:
        return "everywhere"
    if place.step is not None:
        return f"from step {place.step} on"
    return f"in {place.tensor}"


def item(gap: Gap, otherwise: str = "an item") -> str:
    """The item in which two runs part: "item 2"; other words where no item is told."""
    return otherwise if gap.place is None or gap.place.item is None else f"item {gap.place.item}"


def figures(gap: Gap) -> str:
    """By how much: ", by 0.00031"; or the shapes."""
    if gap.says:
        return f" ({gap.says})"
    return "" if gap.max_abs is None else f", by {gap.max_abs:.2g}"


def in_words(place: Place) -> str:
    """A place as a table has it: "y, step 3, item 0, unit 7"."""
    index = {"step": place.step, "item": place.item, "unit": place.unit}
    return ", ".join([place.tensor, *(f"{name} {value}" for name, value in index.items() if value is not None)])


def raised(error: RnnscopeError) -> str:
    """What a class raised, and where, without its own name in front."""
    return error.message.partition(" raised ")[2] or error.message


def refused(error: RnnscopeError) -> str:
    """What a class raised, without where: it need not take what it was asked to take."""
    words = _PLACE.sub("", raised(error))
    return words if len(words) <= _MOST else f"{words[:_MOST].rstrip()}…"


_PLACE = re.compile(r" \([^()]*, line \d+(, in \S+)?\)$")
_MOST = 120
