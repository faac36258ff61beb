"""Does a network of somebody's own give the same when it is called again? A recurrent module of torch's does.

One network is called several times on the first steps: with the same input, and once with another one in between. A new
one is called in the same way, but with other random numbers. What the first network gives otherwise than in its first
call comes of what it keeps; what the second one gives otherwise than the first comes of chance. A cache that changes
nothing that comes out is no finding.
"""

import math
import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from rnnscope.errors import RnnscopeError
from rnnscope.network.costs import macs
from rnnscope.network.weights import Input, Weights, all_finite, time_of
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import Run, other_shape
from rnnscope.subjects.own import OwnNetwork, called, module_of
from rnnscope.verdict.bounds import Bounds, flat_index
from rnnscope.verdict.diagnosis import SCREENED
from rnnscope.verdict.evidence import Side
from rnnscope.verdict.figures import distance_within
from rnnscope.verdict.problem import Problem, Tensors, first_steps

FEWEST, MOST = 4, 16
"""So often a network is called at least, and at most if that costs little: what is rare shows in many calls alone."""

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
        changes: the parameters and buffers that a call changes, if state is kept.
    """

    side: str
    by: str
    call: int
    output: str
    max_abs: float
    index: tuple[int, ...]
    changes: tuple[str, ...] = ()


def unsteady(problem: Problem, side: Side, in_float64: bool) -> tuple[Unsteady, ...]:
    """What a network of somebody's own gives otherwise when it is called again, on the first steps of a problem.

    What it cannot compute is left to the run of the comparison to tell.

    Args:
        in_float64: whether float64 may be asked for, in which rounding hides less than in its own dtype.
    """
    if side.network is None:
        return ()
    # Where chunks are drawn one by one, the problem has the first step alone.
    steps = min(SCREENED, problem.given.x.shape[time_of(problem.spec)])
    start = first_steps(replace(problem, cotangents=None), steps)
    for dtype in dict.fromkeys((*(["float64"] if in_float64 else []), side.spec.dtype)):
        with suppress(RnnscopeError), _dice_kept():
            return _in_dtype(start, side, side.network, dtype)
    return ()


def _in_dtype(start: Problem, side: Side, network: OwnNetwork, dtype: str) -> tuple[Unsteady, ...]:
    count = min(MOST, max(FEWEST, LITTLE // max(1, macs(start.spec))))
    same, changes = _called(start, side, network, dtype, [0] * count)
    if other_shape(start.spec, same[0]) or not all_finite(same[0].values()):
        return ()  # which is said before anything else
    other, _ = _called(start, side, network, dtype, range(count))
    bounds = Bounds(side.own_problem(start))

    def parts(actual: Tensors, expected: Tensors) -> bool:
        if all(torch.equal(actual[name], each) for name, each in expected.items()):
            return False
        # Threads that add in another order give other bits, too.
        bound = bounds.precision("float64" if dtype == "float64" else side.arithmetic)
        return distance_within(start.spec, actual, expected, bound) is None

    found = []
    chance = next((at for at in range(count) if parts(other[at], same[at])), None)
    if chance is not None:
        found.append(Unsteady(side.role, "chance", chance + 1, *_furthest(other[chance], same[chance])))
    # A new network that differs in its first call, with the same random numbers, differs by dice that nobody can seed.
    again = range(1, count) if chance != 0 else ()
    kept = next((at for at in again if parts(same[at], same[0])), None)
    if kept is not None:
        found.insert(0, Unsteady(side.role, "state", kept + 1, *_furthest(same[kept], same[0]), changes))
    return tuple(found)


def _called(
    start: Problem, side: Side, network: OwnNetwork, dtype: str, seeds: Iterable[int]
) -> tuple[list[Tensors], tuple[str, ...]]:
    """What one network gives in calls with these seeds, and the parameters and buffers that its first call changes."""
    outputs: list[Tensors] = []
    changes: list[str] = []

    def call(spec: Spec, weights: Weights, given: Input) -> Run:
        _seed(0)
        prepared = network.prepare(spec, weights, given)
        before = _tensors(module_of(prepared))
        for number, seed in enumerate(seeds):
            _seed(seed)
            if number == BETWEEN:
                with suppress(RnnscopeError):  # somebody's class may refuse what nobody asked it for
                    prepared.with_input(_other).run()
            # Copies: a class that changes what it is given would be called with something else the next time.
            run = called(prepared.with_input(torch.clone), spec)
            outputs.append(run.outputs())
            if number == 0:
                after = _tensors(module_of(prepared))
                changes.extend(name for name, each in after.items() if not torch.equal(each, before.get(name, each)))
        return run

    replace(side, run=call).solve(start, dtype)
    return outputs, tuple(changes)


def _other(tensor: Tensor) -> Tensor:
    """Other numbers; where they may stand for words, the same in another order."""
    return tensor.flip(0) if torch.equal(tensor, tensor.round()) else 1 - tensor


def _tensors(module: nn.Module) -> Tensors:
    """Copies of its parameters and buffers by name."""
    named = (*module.named_parameters(), *module.named_buffers())
    return {name: each.detach().clone() for name, each in named}


def _furthest(actual: Tensors, expected: Tensors) -> tuple[str, float, tuple[int, ...]]:
    """The output that is furthest off, how far, and where; without limit where a shape or NaN parts them."""
    found: list[tuple[str, float, tuple[int, ...]]] = []
    for name, each in expected.items():
        if actual[name].shape != each.shape:
            return name, math.inf, ()
        off = (actual[name].cpu().double() - each.cpu().double()).abs().nan_to_num(nan=math.inf, posinf=math.inf)
        found.append((name, off.max().item(), flat_index(int(off.argmax()), tuple(off.shape))))
    return max(found, key=itemgetter(1))


@contextmanager
def _dice_kept() -> Iterator[None]:
    """Leave the random states of Python and of numpy as they were; `running` does so for torch."""
    numpy: Any = sys.modules.get("numpy")
    before, of_numpy = random.getstate(), numpy and numpy.random.get_state()
    try:
        yield
    finally:
        random.setstate(before)
        if numpy:
            numpy.random.set_state(of_numpy)


def _seed(number: int) -> None:
    """Seed torch, Python and numpy, by which a class may roll its dice."""
    torch.manual_seed(number)
    random.seed(number)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(number)
