"""A module as it is called: what goes in where, what of its result is y and what the state, and where N stands.

All of this is found out from its signature and from a few calls. Only copies of it are run.
"""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from rnnscope.checks.states import Axes, tensors
from rnnscope.checks.values import Values
from rnnscope.errors import RnnscopeError
from rnnscope.subjects.forms import CELL_NAMES, STATE_NAMES, arguments_of
from rnnscope.subjects.user_code import guarded

_X = re.compile(r"^(x|xs|inp|inputs?|input_?seq\w*|seq|sequence|src|tokens|u)$", re.IGNORECASE)
_LENGTHS = re.compile(r"^(x_?|seq_?|input_?|src_?)?(lengths?|lens?|valid_?lens?)$|^seq_?sizes?$", re.IGNORECASE)
_MASK = re.compile(r"mask$|padding", re.IGNORECASE)
"""How people name what torch calls input, and what a batch of unequal lengths is given by."""

_CACHE = re.compile(r"^(past_|kv_)?caches?(_params)?$|^past(_key_values?)?$", re.IGNORECASE)
"""How people name a state of which they do not think as hx."""

_CAUSAL = ("causal", "is_causal", "unidirectional")
"""How people name the attribute by which a module says that it does not look ahead."""


@dataclass(frozen=True)
class Roles:
    """Which arguments of forward take what, by their names; "" for the one that follows x by its place.

    Args:
        x: None where it is the first one.
        state: none, one for the whole state, or one for each part of it.
        others: arguments of which nothing is known, and whose default is no number, word or switch.
        needs_state: whether it cannot be left out.
        needs_lengths, needs_mask: likewise.
    """

    x: str | None = None
    state: tuple[str, ...] = ()
    lengths: str | None = None
    mask: str | None = None
    others: tuple[str, ...] = ()
    needs_state: bool = False
    needs_lengths: bool = False
    needs_mask: bool = False


@dataclass(frozen=True, eq=False)
class Recurrent:
    """A module, how it is called, and what its results are.

    Args:
        name: its name in messages.
        module: itself, in its own dtype; copies of it are run.
        make: builds another one, with weights of its own; None where nobody knows how.
        in_other_layout: likewise one that is asked for the other batch_first; None where it cannot be asked for that.
        batch_first: whether its x and y start with N.
        roles: which arguments take what.
        y: where y is in its result: None where there is none, "" where the result is y itself.
        state: where the parts of the state are in its result.
        axes: where N stands in each tensor that comes out.
        merged: the tensors of a state in which N and something else are one axis, so that no item can be taken.
        growing: the axis that grows with L, of the tensors of a state that have one, as a cache of keys has.
        start: a state from which it can start, where it always takes one.
        takes_state: whether it takes back the state that it gives, or takes one and gives none.
        state_of_y: makes its state of y at a step, where no state comes out, and it goes on from y.
        gives_none: whether no state is said by None, since forward has no default for it.
        says_backward: whether it was asked to be bidirectional.
        across: the parts that say bidirectional and walk over something else than time, such as bands.
        adaptations: what was found out, in sentences without a full stop.
        counted: how often it was called, by what was asked.
    """

    name: str
    module: nn.Module
    make: Callable[[], nn.Module] | None = None
    in_other_layout: Callable[[], nn.Module] | None = None
    batch_first: bool = False
    roles: Roles = field(default_factory=Roles)
    y: str | int | None = ""
    state: tuple[str | int, ...] = ()
    axes: Axes = field(default_factory=dict)
    merged: frozenset[str] = frozenset()
    growing: Axes = field(default_factory=dict)
    start: Any = None
    takes_state: bool = False
    state_of_y: Callable[[Tensor], Tensor] | None = None
    gives_none: bool = False
    says_backward: bool = False
    across: frozenset[str] = frozenset()
    adaptations: tuple[str, ...] = ()
    counted: Counter[str] = field(default_factory=Counter)

    @property
    def has_y(self) -> bool:
        return self.y is not None

    @property
    def has_state(self) -> bool:
        """Whether a state comes out."""
        return bool(self.state)

    @property
    def hands_on(self) -> bool:
        """Whether there is a state after the last step from which it can go on."""
        return self.has_state or self.state_of_y is not None

    @property
    def reads_backward(self) -> bool:
        """Whether it says that it is bidirectional itself, so that a step may depend on later ones."""
        return self.says_backward or getattr(self.module, "bidirectional", False) is True

    @property
    def backward_parts(self) -> tuple[str, ...]:
        """The parts that say so, and may walk over time."""
        parts = ((path, each) for path, each in self.module.named_modules() if path and path not in self.across)
        return tuple(path for path, each in parts if getattr(each, "bidirectional", False) is True)

    @property
    def says_causal(self) -> str:
        """The attribute by which it says that it does not look ahead, whatever its parts say; "" without one."""
        said = (f"{name}=True" for name in _CAUSAL if getattr(self.module, name, None) is True)
        return next(said, "bidirectional=False" if getattr(self.module, "bidirectional", None) is False else "")

    def laid_out(self, x: Tensor) -> Tensor:
        """x: (L, N, ...) in the module's own layout, with its numbers in a row in memory."""
        return x.transpose(0, 1).contiguous() if self.batch_first else x.contiguous()

    def call(self, module: nn.Module, x: Any, state: Any = None, **others: Any) -> Any:
        """Call a copy of the module with x in its own layout, and whatever else there is.

        Raises:
            RnnscopeError: an error of the user's.
        """
        named: dict[str, Any] = {name: each for name, each in others.items() if each is not None}
        placed: list[Any] = []
        if state is not None or self.gives_none:
            several = isinstance(state, (tuple, list)) and len(state) == len(self.roles.state) > 1
            for name, each in zip(self.roles.state, state if several else (state,), strict=False):
                if name:
                    named[name] = each
                else:
                    placed.append(each)
        with guarded(self.name):
            if self.roles.x is None:
                return module(x, *placed, **named)
            return module(*placed, **{self.roles.x: x}, **named)

    def read(self, result: Any) -> tuple[Values, Any]:
        """What came out, y as (L, N, ...), and the state as the module has it; None where none comes out."""
        entries = entries_of(result)
        found: dict[str, Tensor] = {}
        if self.y is not None:
            y = entries.get(self.y)
            if isinstance(y, PackedSequence):
                y, _ = pad_packed_sequence(y, self.batch_first)
            if isinstance(y, Tensor):
                found["y"] = y.transpose(0, 1) if self.batch_first and y.dim() > 2 else y
        state = state_in(entries, self.state)
        if self.state_of_y is not None and "y" in found:
            state = self.state_of_y(found["y"][-1])
            return Values({"y": found["y"].cpu()}, {"y": 1}), state
        found |= {path: each for path, each in tensors(state).items() if path not in self.merged}
        found = {name: each.cpu() for name, each in found.items()}  # not every device has float64 to compare in
        return Values(found, {name: 1 if name == "y" else self.axes.get(name) for name in found}), state


def entries_of(result: Any) -> dict[str | int, Any]:
    """What a result is made of at its top: by name, by place, or as a whole under ""."""
    if isinstance(result, Mapping):
        return dict(result)
    if is_dataclass(result) and not isinstance(result, type):
        return {each.name: getattr(result, each.name) for each in fields(result)}
    if isinstance(result, tuple) and hasattr(result, "_fields") and not isinstance(result, PackedSequence):
        return dict(zip(result._fields, result, strict=True))
    if isinstance(result, (tuple, list)) and not isinstance(result, PackedSequence):
        return dict(enumerate(result))
    return {"": result}


def state_in(entries: Mapping[str | int, Any], keys: tuple[str | int, ...]) -> Any:
    """The state in a result: the one entry that is the state, or the several ones, in their order."""
    if len(keys) == 1:
        return entries.get(keys[0])
    if all(isinstance(key, str) for key in keys):
        return {key: entries.get(key) for key in keys} or None
    return tuple(entries.get(key) for key in keys)


def roles_of(module: nn.Module, said: Mapping[str, str]) -> Roles:
    """Which arguments of forward take what, told from their names and from what the user says.

    Raises:
        RnnscopeError: the user names an argument that there is not.
    """
    found = arguments_of(module)
    if found is None:  # a scripted module has no signature
        return Roles(state=("",))
    plain = [each for each in found if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    names = [each.name for each in plain]
    for role, name in said.items():
        if name not in names:
            raise RnnscopeError(
                f"--name {name}={role}: {type(module).__name__}.forward takes no {name}",
                f"it takes {', '.join(names) or 'nothing'}",
            )
    taken = set(said.values())

    def named(role: str, pattern: re.Pattern[str]) -> inspect.Parameter | None:
        every = (
            (each for each in plain if each.name == said[role])
            if role in said
            else (each for each in plain[1:] if each.name not in taken and pattern.search(each.name))
        )
        return next(every, None)

    lengths, mask = named("lengths", _LENGTHS), named("mask", _MASK)
    others = [each for each in plain if each not in (lengths, mask)]
    x = next((each.name for each in others if each.name == said.get("x")), None)
    if x is None and others and STATE_NAMES.search(others[0].name) and len(others) > 1 and _X.search(others[1].name):
        x = others[1].name
    rest = [each for each in others if each.name != x] if x else others[1:]
    state = _state_of(rest, said.get("state"))
    is_free = any(each.kind is each.VAR_POSITIONAL for each in found)
    return Roles(
        x,
        tuple("" if each.kind is each.POSITIONAL_ONLY else each.name for each in state) or (("",) if is_free else ()),
        lengths.name if lengths else None,
        mask.name if mask else None,
        tuple(each.name for each in rest if each not in state and _may_be_state(each)),
        any(each.default is each.empty for each in state),
        bool(lengths and lengths.default is lengths.empty),
        bool(mask and mask.default is mask.empty),
    )


def _may_be_state(argument: inspect.Parameter) -> bool:
    """Whether its default may stand for no state: numbers, words and switches say something else."""
    return not isinstance(argument.default, (str, int, float)) and argument.default is not argument.empty


def _state_of(rest: list[inspect.Parameter], said: str | None) -> list[inspect.Parameter]:
    """The arguments that take the state: the named one, those whose names say so, or those that are needed."""
    if said is not None:
        return [each for each in rest if each.name == said]
    needed = [each for each in rest if each.default is each.empty]
    if len(needed) > 1:
        return needed
    cells = [each for each in rest if CELL_NAMES.search(each.name)]
    found = [each for each in rest if STATE_NAMES.search(each.name) and each not in cells]
    found += [each for each in rest if _CACHE.search(each.name) and _may_be_state(each) and each not in found]
    found += [each for each in needed if each not in found + cells]
    return [*found[:1], *cells[:1]] if found else cells[:1]
