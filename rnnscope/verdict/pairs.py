"""Two deviations at once: which pairs may be what a side computes, found on as few steps as can tell.

There are a thousand pairs. Where no direction walks backward, the first step of y tells nearly all of them apart. What
is left is tried as single deviations are: by whoever asks.
"""

from collections.abc import Iterator

from rnnscope.network.shapes import direction_parameters
from rnnscope.network.weights import time_of
from rnnscope.pages.progress import stage
from rnnscope.spec.spec import Spec
from rnnscope.verdict.bounds import UNITS
from rnnscope.verdict.deviations import Deviation, pairs_of_deviations
from rnnscope.verdict.figures import HOPELESS_EARLY
from rnnscope.verdict.problem import Problem, Tensors, first_steps, solve

MOST = 4e10
"""Multiplications that a search may take: a quarter of a minute. Of a larger network no pairs are tried."""

_LEAST, _LEAST_ITEMS = 1e6, 16
"""A step takes as long as so many multiplications, and as that of so many items, however small it is."""


def are_tried(spec: Spec, steps: int) -> bool:
    """Whether pairs are tried on a network that is seen for so many steps."""
    shapes = [each.shape for layer in range(spec.num_layers) for each in direction_parameters(spec, layer, 0)]
    weights = spec.directions * sum(shape[0] * shape[-1] for shape in shapes)
    a_step = max(_LEAST, weights * max(spec.batch_size, _LEAST_ITEMS))
    seen = steps if spec.bidirectional else 1
    return seen * a_step * sum(1 for _ in pairs_of_deviations(spec)) <= MOST


def plausible(problem: Problem, actual: Tensors, used: str) -> Iterator[Deviation]:
    """The pairs that come so near to what a side gave that rounding in an arithmetic might explain the rest."""
    spec = problem.spec
    if not are_tried(spec, spec.seq_len):
        return
    if not spec.bidirectional:
        actual = {"y": actual["y"].narrow(time_of(spec), 0, 1)}
        problem = first_steps(problem, 1)
    near = min(0.1, max(HOPELESS_EARLY * UNITS["float64"], 1000 * UNITS[used]))
    expected = {name: each.cpu().double() for name, each in actual.items()}
    limits = {name: near * each.abs().max().item() for name, each in expected.items()}
    every = tuple(pairs_of_deviations(spec))
    for number, pair in enumerate(every, 1):
        with stage(f"pairs of deviations {number} of {len(every)}"):
            found = solve(pair.run, problem.spec, problem)
        if all(
            found[name].shape == each.shape and (found[name] - each).abs().max().item() <= limits[name]
            for name, each in expected.items()
        ):
            yield pair
