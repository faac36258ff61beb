"""What one call does to another: chance, what is kept on self, what is written into x, and what it starts from."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from rnnscope.checks.case import Case, default_dtype
from rnnscope.checks.facts import Relation, broken, holds, not_applicable
from rnnscope.checks.probing import said_states
from rnnscope.checks.states import cast, cloned, mapped, numbers, tensors
from rnnscope.checks.values import Gap, Values, gap, greatest
from rnnscope.checks.words import figures, raised, where
from rnnscope.errors import RnnscopeError

SEEDS = (1, 2)
"""What is rare shows in several calls."""


def repeatable(case: Case) -> Relation:
    """The same call with other random numbers."""
    found = greatest([gap(case.run(seed=seed).values, case.base.values, case.allowed) for seed in SEEDS])
    if not found.parts:
        return holds(found)
    return broken(found, f"the same call gives another result {where(found)}{figures(found)}: it draws random numbers")


def stateless(case: Case) -> Relation:
    """One instance, called with x after other calls: from a state, and from none."""
    found = []
    starts = [(case.state, case.base, case.allowed, case.other_x())]
    if case.takes_state and not case.recurrent.roles.needs_state:
        fewer = case.x[: max(1, case.steps // 2), : max(1, case.items - 1)]
        starts.append((None, case.from_nothing, case.allowed_from_nothing, fewer))
    for state, fresh, limit, other in starts:
        one = case.copy()
        with suppress(RnnscopeError):  # what it refuses is another relation's matter
            case.run(other, state, on=one)
        try:
            first = case.run(state=state, on=one)
        except RnnscopeError as error:
            return broken(
                None, f"after a call with another x it raises {raised(error)}: it keeps something of that call"
            )
        kept = Values({name: each.clone() for name, each in first.values.tensors.items()}, first.values.axes)
        with suppress(RnnscopeError):
            case.run(case.other_x(), state, on=one)
        overwritten = gap(first.values, kept, limit)
        again = greatest([gap(each, fresh.values, limit) for each in (kept, case.run(state=state, on=one).values)])
        if again.parts:
            return _kept_state(case, one, again)
        if overwritten.parts:
            what = f"what a call returned is overwritten by the next one {where(overwritten)}"
            return broken(overwritten, f"{what}: it returns a buffer of its own")
        found.append(again)
    return holds(greatest(found))


def _kept_state(case: Case, one: torch.nn.Module, again: Gap) -> Relation:
    """What is said of a module that gives another result when it is called again."""
    names = ", ".join(_changed(case, one)[:3])
    what = f"a second call gives another result {where(again)}{figures(again)}: it keeps state from call to call"
    return broken(again, what + (f", in {names}" if names else ""))


def _changed(case: Case, one: torch.nn.Module) -> list[str]:
    """The attributes of a module that calls have changed: tensors first."""
    before = {path: vars(each) for path, each in case.module.named_modules()}
    found = []
    for path, each in one.named_modules():
        tables = (vars(each), each._buffers, each._parameters)
        kept = before.get(path, {})
        old = (kept, kept.get("_buffers", {}), kept.get("_parameters", {}))
        for table, was in zip(tables, old, strict=True):
            for name, value in table.items():
                if not name.startswith("_") and not _is_same(value, was.get(name)):
                    found.append(f"{path}.{name}".lstrip("."))
    return found


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and bool(((one == other) | (one != one)).all())
    if isinstance(one, (Tensor, int, float, str, type(None))) or isinstance(other, Tensor):
        return type(one) is type(other) and one == other
    mine, theirs = tensors(one), tensors(other)
    return mine.keys() == theirs.keys() and all(_is_same(each, theirs[path]) for path, each in mine.items())


def inputs_kept(case: Case) -> Relation:
    """What is handed over, after the call: x, and the state with what is in it."""
    x, state = case.recurrent.laid_out(case.x).clone(), cloned(case.state)
    case.call(case.copy(), x, state, **case.needed(case.steps, case.items))
    after = {"x": x.transpose(0, 1) if case.recurrent.batch_first else x, **tensors(state)}
    before = {"x": case.x, **tensors(case.state)}
    axes = {name: 1 if name == "x" else case.axes.get(name) for name in before}
    nothing = dict.fromkeys(before, torch.zeros((), dtype=torch.float64))
    if added := [name for name in after if name not in before]:
        return broken(None, f"the call changed state: {added[0]} is in it now")
    off = gap(Values(after, axes), Values(before, axes), Values(nothing, axes))
    if not off.parts:
        return holds(off)
    name = off.place.tensor if off.place else "x"
    return broken(off, f"the call changed {name}{figures(off)}: it is written into, as by +=, or x[...] =")


def zero_state(case: Case) -> Relation:
    """No state, against zeros and against what the module says that it starts from."""
    if not case.takes_state:
        return not_applicable(no_state(case))
    if case.recurrent.roles.needs_state:
        return not_applicable("it always needs a state, which cannot be left out")
    expected = case.from_nothing.values
    found = []
    for words, state in _starts(case):
        with suppress(RnnscopeError):
            off = gap(case.run(state=state).values, expected, case.allowed_from_nothing)
            if not off.parts:
                return holds(off, "" if words == "zeros" else f"it starts from {words}, and not from zeros")
            found.append(off)
    if not found:
        return not_applicable("it does not take zeros of the form of its state")
    return broken(
        found[0],
        f"without a state it gives another result than from zeros {where(found[0])}{figures(found[0])}, and neither a "
        "method such as init_hidden nor a parameter such as h0 says what it starts from",
    )


def _starts(case: Case) -> Iterator[tuple[str, Any]]:
    """States of which one should be that from which the module starts, the likeliest first."""

    def zeros(path: str, each: Tensor) -> Tensor:
        axis = case.recurrent.growing.get(path)
        return torch.zeros_like(each if axis is None else each.narrow(axis, 0, 0))

    yield "zeros", mapped(zeros, case.state, count=lambda number: type(number)(0))
    with default_dtype(case.dtype):
        for name, state in said_states(case.recurrent, case.copy(), case.x):
            yield name, numbers(lambda each: cast(each, case.dtype), state)
    own = {name: each for name, each in [*case.module.named_parameters(), *case.module.named_buffers()]}
    told = [name for name in own if any(word in name.lower() for word in ("init", "start", "h0", "c0", "state", "hx"))]
    taken = iter(told)

    def learned(path: str, each: Tensor) -> Tensor:
        name = next(taken, None)
        axis = case.axes.get(path)
        if name is None:
            raise RnnscopeError("no parameter is left")
        value = own[name].detach()
        while axis is not None and value.dim() < each.dim():
            value = value.unsqueeze(min(axis, value.dim()))
        return value.expand_as(each).clone()

    if told:
        with suppress(RnnscopeError, RuntimeError):
            yield ", ".join(told), mapped(learned, case.state)


def no_state(case: Case) -> str:
    """Why a relation of the state says nothing of a module that takes none."""
    if case.recurrent.merged:
        return "N and something else are one axis of its state, so that no item of it can be taken"
    if not case.recurrent.hands_on:
        taking = ", ".join(filter(None, case.recurrent.roles.state))
        if not taking or case.takes_state:
            return "no state comes out of it"
        return f"no state comes out of it, so that the form of {taking} is not known; check(module, x, state) says it"
    if not case.recurrent.roles.state:
        return "no argument of its forward takes the state; --name OWN=state says which one does"
    return "it does not take back the state that it gives"
