"""Two deviations at once: which pairs may be what a side computes, found on as little of its run as can tell.

There are a thousand pairs. Where no direction walks backward, the first step of y tells nearly all of them apart. What
is left is tried as single deviations are: by whoever asks.
"""

import math
from collections.abc import Iterator

from rnnscope.network.shapes import direction_parameters
from rnnscope.network.weights import time_of
from rnnscope.pages.progress import stage
from rnnscope.spec.spec import Spec
from rnnscope.verdict.bounds import UNITS
from rnnscope.verdict.deviations import Deviation, batch_and_time_swapped, pairs_of_deviations
from rnnscope.verdict.figures import HOPELESS_EARLY
from rnnscope.verdict.problem import Problem, Tensors, first_steps, solve

MOST = 4e10
"""Multiplications that a search may take: some ten seconds. Of a larger network no pairs are tried."""

_LEAST, _LEAST_ITEMS = 1e6, 16
"""A step of a layer takes as long as so many multiplications, and as that of so many items, however small it is."""


def are_tried(spec: Spec, recorded: bool = False) -> bool:
    """Whether pairs are tried on a network; a recorded run with a backward direction is seen as a whole."""
    sizes = (math.prod(p.shape) for layer in range(spec.num_layers) for p in direction_parameters(spec, layer, 0))
    multiplications = sum(sizes) * max(spec.batch_size, _LEAST_ITEMS)
    a_step = spec.directions * max(multiplications, spec.num_layers * _LEAST)
    steps = spec.seq_len if recorded and spec.bidirectional else 1
    return steps * a_step * sum(1 for _ in pairs_of_deviations(spec)) <= MOST


def plausible(spec: Spec, problem: Problem, actual: Tensors, used: str) -> Iterator[Deviation]:
    """The pairs that come so near to what a side gave that rounding in an arithmetic might explain the rest.

    Args:
        spec: of the whole problem.
        problem: it, or its beginning.
    """
    every = tuple(pairs_of_deviations(spec))
    near = min(0.1, max(HOPELESS_EARLY * UNITS["float64"], 1000 * UNITS[used]))
    first, y = first_steps(problem, 1), {"y": actual["y"].narrow(time_of(spec), 0, 1)}
    for number, pair in enumerate(every, 1):
        with stage(f"pairs of deviations {number} of {len(every)}"):
            walks_in_time = not spec.bidirectional and pair.walker is not batch_and_time_swapped
            if _is_near(pair, *((first, y) if walks_in_time else (problem, actual)), near):
                yield pair


def _is_near(pair: Deviation, problem: Problem, actual: Tensors, near: float) -> bool:
    found = solve(pair.run, problem.spec, problem)
    expected = {name: each.cpu().double() for name, each in actual.items()}
    return all(
        found[name].shape == each.shape and (found[name] - each).abs().max().item() <= near * each.abs().max().item()
        for name, each in expected.items()
    )
