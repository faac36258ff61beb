"""Why a side is another function, and what a check can see: the known deviations, tried on the equations.

As a hypothesis a deviation explains a side that computes just what it does; as a mutant it is a fault that the check
would catch or miss. The deviations themselves are in conventions.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from rnnscope.bounds import Yardstick
from rnnscope.conventions import Deviation, deviations
from rnnscope.judgement import Evidence, Side, distances, settled
from rnnscope.problems import Problem, Tensors, draw_problem, first_steps

SCREENED = 4
"""The first steps, on which a deviation is tried before it is tried on all of them."""

UNLIKELY = 1e-5
"""A relative difference to which no network carries a rounding in float64 within so few steps: it saves the bound."""


@dataclass(frozen=True)
class Explanation:
    """A deviation that brings a side within the bound, and what is left of the difference."""

    side: str
    convention: str
    does: str
    max_abs: float


@dataclass(frozen=True)
class Power:
    """What would become of each deviation on the right side, by their names.

    `missed`: this check cannot see it, though one of the same network with more steps and a random h0 can.
    `equivalent`: that one cannot either. Deviations that do not apply are left out.
    """

    caught: tuple[str, ...]
    missed: tuple[str, ...]
    equivalent: tuple[str, ...]


def explanations(evidence: Evidence, sides: dict[str, Side]) -> tuple[Explanation, ...]:
    """The deviations that compute what a side does.

    Args:
        sides: those that are not torch's function, under "left" and "right".
    """
    problem = replace(evidence.problem, cotangents=None)
    start = first_steps(problem, min(SCREENED, problem.spec.seq_len))
    found = []
    for name, side in sides.items():
        began = side.solve(start, "float64")
        for deviation in deviations(problem.spec):
            if _left_over(start, deviation, began) is not None:
                max_abs = _left_over(problem, deviation, evidence.exact(side))
                if max_abs is not None:
                    found.append(Explanation(name, deviation.name, deviation.does, max_abs))
    return tuple(found)


def _left_over(problem: Problem, deviation: Deviation, actual: Tensors) -> float | None:
    """The greatest difference of what a side gave from what a deviation gives, or None where it is over the bound."""
    yardstick = Yardstick(problem, deviation.run)
    expected = yardstick.reference
    if any(actual[name].shape != each.shape for name, each in expected.items()):
        return None
    errors = distances(actual, expected)
    max_abs = max(each.abs().max().item() for each in errors.values())
    reach = max(each.abs().max().item() for each in expected.values())
    if problem.spec.seq_len <= SCREENED and not max_abs <= UNLIKELY * reach:
        return None
    return max_abs if settled(problem.spec, errors, yardstick.function()).within else None


def power(evidence: Evidence, differs: Callable[[Evidence], bool]) -> Power:
    """What would become of each deviation that applies.

    Args:
        differs: whether the verdict on some evidence is "different".
    """
    spec = evidence.problem.spec
    verdicts: dict[str, list[str]] = {"caught": [], "missed": [], "equivalent": []}
    rich = Evidence(rich_probe(evidence.problem), evidence.left, evidence.right)
    for deviation in deviations(spec):
        mutant = Side(deviation.name, replace(evidence.right.spec, device="cpu"), deviation.run)
        if differs(evidence.against(mutant)):
            verdicts["caught"].append(deviation.name)
        else:
            verdicts["missed" if differs(rich.against(mutant)) else "equivalent"].append(deviation.name)
    return Power(**{name: tuple(each) for name, each in verdicts.items()})


def rich_probe(problem: Problem) -> Problem:
    """The same network on an input that shows more: four steps of four items, and a random h0."""
    lengths = problem.spec.lengths and (4, 2, 3, 1)
    spec = replace(problem.spec, seq_len=4, batch_size=4, unbatched=False, lengths=lengths, h0="random")
    return draw_problem(spec, problem.dtypes, problem.cotangents is not None, problem.weights)
