"""Does a network of somebody's own give the same when it is called again? A recurrent module of torch's does.

One network is called several times on the first steps: with the same input, once with another one in between, and with
other random numbers at last. Where all bits agree, that is all. Otherwise two new networks are called as often, each
call of one with the same random numbers, each call of the other with others. What the first one gives otherwise than in
its first call comes of what it keeps; what the second one gives otherwise than the first comes of chance. A cache that
changes nothing that comes out is no finding.
"""

import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from rnnscope.errors import RnnscopeError
from rnnscope.network.costs import macs
from rnnscope.network.weights import Input, Weights, all_finite
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import Run, other_shape
from rnnscope.subjects.devices import dice_kept, seed_dice
from rnnscope.subjects.own import OwnNetwork, called, module_of
from rnnscope.verdict.bounds import Bounds, flat_index
from rnnscope.verdict.diagnosis import SCREENED
from rnnscope.verdict.evidence import Side
from rnnscope.verdict.figures import distance_within
from rnnscope.verdict.problem import Problem, Tensors, first_steps

FEWEST, MOST = 3, 16
"""How often the same input is given at least, and at most if that costs little: what is rare shows in many calls."""

LITTLE = 2**25
"""Multiplications that all calls of a network may cost before they are fewer than MOST."""

BETWEEN = 2
"""After so many calls with the same input comes one with another."""


@dataclass(frozen=True)
class Unsteady:
    """A call that gives something else than it should: than the first call if state is kept, than without chance.

    Args:
        side: left or right.
        by: state or chance.
        call: its number among those with the same input, counted from 1.
        output: y, h or c, whichever is furthest off.
        max_abs: how far, at `index`.
        changes: the parameters and buffers that calls change and in which the state is; () if it is elsewhere; None for
            chance, and where they cannot be put back.
    """

    side: str
    by: str
    call: int
    output: str
    max_abs: float
    index: tuple[int, ...]
    changes: tuple[str, ...] | None = None


def unsteady(problem: Problem, side: Side, in_float64: bool) -> tuple[Unsteady, ...]:
    """What a network of somebody's own gives otherwise when it is called again, on the first steps of a problem.

    What it cannot compute is left to the run of the comparison to tell.

    Args:
        in_float64: whether float64 may be asked for, in which rounding explains least.
    """
    if side.network is None:
        return ()
    start = first_steps(replace(problem, cotangents=None), SCREENED)
    count, own = min(MOST, max(FEWEST, LITTLE // max(1, macs(start.spec)))), side.spec.dtype
    with suppress(RnnscopeError), dice_kept():
        first, *others = _called(start, side, side.network, own, [0, *range(count - 1)])
        if other_shape(start.spec, first) or not all_finite(first.values()):
            return ()  # which is said before anything else
        if all(_same_bits(each, first) for each in others):
            return ()
        if in_float64:
            with suppress(RnnscopeError):
                return _told_apart(start, side, side.network, "float64", count)
        return _told_apart(start, side, side.network, own, count)
    return ()


def _told_apart(start: Problem, side: Side, network: OwnNetwork, dtype: str, count: int) -> tuple[Unsteady, ...]:
    """State, then chance, as far as either parts calls further than rounding would."""
    call, bounds = partial(_called, start, side, network, dtype), Bounds(side.own_problem(start))
    same, other = call([0] * count), call(range(count))

    def parts(actual: Tensors, expected: Tensors) -> bool:
        if _same_bits(actual, expected):
            return False
        # Threads that add in another order give other bits, too.
        bound = bounds.precision("float64" if dtype == "float64" else side.arithmetic)
        return distance_within(start.spec, actual, expected, bound) is None

    found = []
    chance = next((at for at in range(count) if parts(other[at], same[at])), None)
    # Two new networks that differ in their first call roll dice that nobody can seed.
    kept = next((at for at in range(1, count) if chance != 0 and parts(same[at], same[0])), None)
    if kept is not None:
        restored, changes = set[str](), None
        with suppress(RnnscopeError):
            is_elsewhere = parts(call([0] * (kept + 1), restored)[kept], same[0])
            changes = () if is_elsewhere else tuple(sorted(restored))
        found.append(Unsteady(side.role, "state", kept + 1, *_furthest(same[kept], same[0]), changes))
    if chance is not None:
        found.append(Unsteady(side.role, "chance", chance + 1, *_furthest(other[chance], same[chance])))
    return tuple(found)


def _called(
    start: Problem,
    side: Side,
    network: OwnNetwork,
    dtype: str,
    seeds: Iterable[int],
    restored: set[str] | None = None,
) -> list[Tensors]:
    """What one network gives in calls with these seeds.

    Args:
        restored: where the names of changed parameters and buffers go, which are then put back before each call.
    """
    outputs: list[Tensors] = []

    def call(spec: Spec, weights: Weights, given: Input) -> Run:
        seed_dice(0, spec.device)
        prepared = network.prepare(spec, weights, given)
        before = [] if restored is None else _copies(_tables(module_of(prepared)))
        for number, seed in enumerate(seeds):
            if number == BETWEEN:
                with suppress(RnnscopeError):  # somebody's class may refuse what nobody asked it for
                    prepared.with_input(_other).run()
            if restored is not None:
                restored.update(_put_back(_tables(module_of(prepared)), before))
            seed_dice(seed, spec.device)
            # Copies: a class that changes what it is given would be called with something else the next time.
            run = called(prepared.with_input(torch.clone), spec)
            outputs.append(run.outputs())
        return run

    replace(side, run=call).solve(start, dtype)
    return outputs


def _same_bits(actual: Tensors, expected: Tensors) -> bool:
    return all(torch.equal(actual[name], each) for name, each in expected.items())


def _other(tensor: Tensor) -> Tensor:
    """Other numbers; where they may stand for words, the same in another order."""
    return tensor.flip(0) if torch.equal(tensor, tensor.round()) else 1 - tensor


_Tables = list[tuple[str, dict[str, Tensor | None]]]
"""The path of each module in a network, with its parameters or buffers; a buffer may be None until it is first used."""


def _tables(module: nn.Module) -> _Tables:
    modules: Any = module.named_modules()
    return [(path, table) for path, each in modules for table in (each._parameters, each._buffers)]


def _copies(tables: _Tables) -> _Tables:
    return [
        (path, {name: each if each is None else each.clone() for name, each in own.items()}) for path, own in tables
    ]


def _put_back(tables: _Tables, before: _Tables) -> set[str]:
    """Give parameters and buffers the numbers that they had before; the names of those that had others."""
    changed = set()
    for (path, table), (_, kept) in zip(tables, _copies(before), strict=True):
        for name, each in kept.items():
            now = table[name]
            if _is_same(now, each):
                continue
            changed.add(f"{path}.{name}".lstrip("."))
            if isinstance(now, nn.Parameter) and each is not None:
                now.data = each
            else:
                table[name] = each
    return changed


def _is_same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and torch.equal(one, other)


def _furthest(actual: Tensors, expected: Tensors) -> tuple[str, float, tuple[int, ...]]:
    """The output that is furthest off, how far, and where; without limit where a shape or NaN parts them."""
    found: list[tuple[str, float, tuple[int, ...]]] = []
    for name, each in expected.items():
        if actual[name].shape != each.shape:
            return name, math.inf, ()
        off = (actual[name].cpu().double() - each.cpu().double()).abs().nan_to_num(nan=math.inf, posinf=math.inf)
        found.append((name, off.max().item(), flat_index(int(off.argmax()), tuple(off.shape))))
    return max(found, key=itemgetter(1))
