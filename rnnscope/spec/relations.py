"""The relations that a recurrent module keeps by itself, and the flags by which some of them are asked for."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rnnscope.errors import RnnscopeError
from rnnscope.spec.flags import Choice, Flag, Flagged, Listed, Switch, flagged, flags_of
from rnnscope.spec.sides import ARG, CELL, NAME_OF, Own, is_own
from rnnscope.spec.spec import Spec

_REPEATABLE = ("repeatable",)

RESTS_ON: dict[str, tuple[str, ...]] = {
    "repeatable": (),
    "stateless": _REPEATABLE,
    "inputs_kept": (),
    "zero_state": _REPEATABLE,
    "batch_first": _REPEATABLE,
    "layout": ("repeatable", "inputs_kept"),
    "item_isolation": _REPEATABLE,
    "permutation": ("item_isolation",),
    "batch_of_one": ("item_isolation", "permutation"),
    "unbatched": ("batch_of_one",),
    "causality": _REPEATABLE,
    "last_state": _REPEATABLE,
    "chunked": ("causality", "last_state", "item_isolation"),
    "stepwise": ("chunked",),
    "packed": ("batch_of_one", "causality"),
    "padding": ("batch_of_one", "causality"),
    "precision": _REPEATABLE,
    "gradient_reach": _REPEATABLE,
    "gradient": ("gradient_reach",),
    "state_dict": _REPEATABLE,
    "copies": ("repeatable", "stateless"),
}
"""Each relation, in the order in which they are told, with those without which it cannot hold.

Where one of these is broken, the relation breaks with it, and says nothing by itself.
"""

RELATIONS = tuple(RESTS_ON)


def roots(relation: str) -> Iterator[str]:
    """The relations on which one rests, the nearest first, and those on which these rest."""
    for each in RESTS_ON[relation]:
        yield each
        yield from roots(each)


_ONLY = Choice(("--only",), "", "Check", choices=RELATIONS, example="causality")

ONLY = Listed(("--only",), "Check these relations alone.", "Check", each=_ONLY, placeholder="RELATION")
SKIP = Listed(("--skip",), "Leave these relations out.", "Check", each=replace(_ONLY, names=("--skip",)))
SUPPORTS = Switch(("--supports",), "Try vmap, jvp, torch.compile, torch.export and scripting, too.", "Check", False)
SHRINK = Switch(
    ("--shrink/--no-shrink",), "Find the smallest sizes at which it still breaks.", "Check", True, rare=True
)
ARGUMENT = replace(ARG, names=("--arg",), help="An argument of the class; give it again for more.", panel="Check")
NAME = replace(
    NAME_OF,
    names=("--name",),
    help="What an argument of its forward is.",
    panel="Check",
    rare=True,
    example="n=lengths",
    allowed="OWN=x, OWN=state, OWN=lengths or OWN=mask, with an argument of its forward",
    pattern=r"[^=\s]+=(x|state|lengths|mask)",
)


class ModuleFlag(Flag):
    """A class or a function of the user's."""

    def complaint(self, value: object) -> str | None:
        is_whole = isinstance(value, str) and is_own(value) and not value.startswith(CELL)
        return None if is_whole else self.allowed

    def hint(self, value: object) -> str | None:
        text = "" if value is None else str(value)
        return f"name the class in it, such as {text}:MyLSTM" if text.endswith(".py") else super().hint(value)


MODULE = ModuleFlag(
    ("MODULE",),
    "A class, or a function that gives a module: FILE.py:Class, package.module:Class.",
    "Check",
    example="torch.nn:GRU",
    allowed="FILE.py:Class or package.module:Class",
)


CHECK = replace(
    MODULE,
    names=("--check",),
    help="Check this module in each configuration; compare nothing.",
    panel="Sweep",
    placeholder="MODULE",
    rare=True,
)
"""The same in a sweep."""


@dataclass(frozen=True, kw_only=True)
class Wanted(Flagged):
    """What is asked of one module, and what its user says of it: the flags of `rnnscope check`.

    Args:
        only: these relations alone; None asks for all.
        skip: relations that are left out.
        supports: whether vmap, jvp, torch.compile, torch.export and scripting are tried, too.
        shrink: whether the smallest sizes are looked for at which a broken relation still breaks.
        args: arguments of its constructor: NAME=VALUE.
        names: what arguments of its forward are: OWN=x, OWN=state, OWN=lengths, OWN=mask.

    Raises:
        RnnscopeError: a value that is not allowed, or nothing is left to ask for.

    >>> Wanted(only=("causality", "chunked", "stepwise"), skip=("chunked",)).relations
    ('causality', 'stepwise')
    """

    only: tuple[str, ...] | None = flagged(ONLY)
    skip: tuple[str, ...] | None = flagged(SKIP)
    supports: bool = flagged(SUPPORTS)
    shrink: bool = flagged(SHRINK)
    args: tuple[str, ...] = flagged(ARGUMENT)
    names: tuple[str, ...] = flagged(NAME)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.relations:
            raise RnnscopeError(f"{SKIP.name} leaves nothing of {ONLY.name} to ask for", "leave one of the two out")

    @property
    def relations(self) -> tuple[str, ...]:
        """Those that are asked for, in the order in which they are told."""
        return tuple(each for each in RELATIONS if each in (self.only or RELATIONS) and each not in (self.skip or ()))

    @property
    def own(self) -> Own:
        """The words of a class of the user's."""
        return Own(self.args)

    @property
    def roles(self) -> dict[str, str]:
        """What stands for x, state, lengths and mask: the names of forward's arguments."""
        return {role: own for own, role in (each.split("=", 1) for each in self.names)}


WANTED_FLAGS = flags_of(Wanted)

ALL = Wanted()


def check_askable(spec: Spec) -> None:
    """Raise RnnscopeError unless a Spec leaves something to ask of one module."""
    if spec.unbatched:
        raise RnnscopeError(
            "--unbatched leaves nothing to ask of items", "leave it out: the relation unbatched asks it"
        )
    if spec.batch_size == 0:
        raise RnnscopeError("--batch is 0, so that nothing comes out", "try --batch 4")
