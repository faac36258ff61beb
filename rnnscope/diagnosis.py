"""Why a side is another function, and what a check can see: the known deviations, tried on the equations.

As a hypothesis a deviation explains a side that computes just what it does; as a mutant it is a fault that the check
would catch or miss. The deviations themselves are in conventions.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from rnnscope.bounds import Yardstick
from rnnscope.conventions import Deviation, deviations
from rnnscope.judgement import Evidence, Side
from rnnscope.margins import all_within, distances
from rnnscope.problems import Problem, Tensors, draw_problem, first_steps
from rnnscope.spec import Spec

SCREENED = 4
"""The first steps, on which a deviation is tried before it is tried on all of them."""


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


def explanations(evidence: Evidence, sides: tuple[Side, ...]) -> tuple[Explanation, ...]:
    """The deviations that compute what a side does, where its outputs are not what the equations give.

    Args:
        sides: those that are not torch's function.
    """
    problem = replace(evidence.problem, cotangents=None)
    start = first_steps(problem, min(SCREENED, problem.spec.seq_len))
    found = []
    for side in sides:
        if evidence.outputs_are_torchs(side):
            continue
        began = side.solve(start, "float64")
        for deviation in deviations(problem.spec):
            if _left_over(start, deviation, began) is not None:
                max_abs = _left_over(problem, deviation, evidence.exact(side))
                if max_abs is not None:
                    found.append(Explanation(side.role, deviation.name, deviation.does, max_abs))
    return tuple(found)


def _left_over(problem: Problem, deviation: Deviation, actual: Tensors) -> float | None:
    """The greatest difference of what a side gave from what a deviation gives, or None where it is over the bound."""
    yardstick = Yardstick(problem, deviation.run)
    expected = yardstick.reference
    if any(actual[name].shape != each.shape for name, each in expected.items()):
        return None
    errors = distances(problem.spec, actual, expected)
    if not all_within(problem.spec, errors, yardstick.function()):
        return None
    return max(each.abs().max().item() for each in errors.values())


def power(evidence: Evidence, spec: Spec, differs: Callable[[Evidence], bool], by_reference: bool) -> Power:
    """What would become of each deviation that applies to a Spec.

    Args:
        spec: the comparison's own; the evidence's is another one where every step is taken by itself.
        differs: whether the verdict on some evidence is "different".
        by_reference: whether that rests on the reference, so that a y that parts in its first steps is enough.
    """
    problem = evidence.problem
    verdicts: dict[str, list[str]] = {"caught": [], "missed": [], "equivalent": []}
    start, rich = (
        Evidence(each, evidence.left, evidence.right)
        for each in (first_steps(problem, min(SCREENED, problem.spec.seq_len)), rich_probe(problem, spec))
    )
    where = replace(evidence.right.spec, device="cpu")
    for deviation in deviations(spec):
        mutant = Side("right", deviation.name, where, deviation.run, where.dtype)
        at_once = by_reference and _parts_at_once(start.against(mutant))
        if deviation.applies(problem.spec) and (at_once or differs(evidence.against(mutant))):
            verdicts["caught"].append(deviation.name)
        else:
            seen = not rich.against(mutant).same_function().within
            verdicts["missed" if seen else "equivalent"].append(deviation.name)
    return Power(**{name: tuple(each) for name, each in verdicts.items()})


def _parts_at_once(start: Evidence) -> bool:
    """Whether y differs in the first steps already, which are those of the whole where nothing walks backward."""
    spec = start.problem.spec
    errors = distances(spec, {"y": start.exact(start.right)["y"]}, {"y": start.exact(start.left)["y"]})
    return not spec.bidirectional and not all_within(spec, errors, start.yardstick.function())


def rich_probe(problem: Problem, spec: Spec) -> Problem:
    """The same network on an input that shows more: four steps of four items, and a random h0."""
    lengths = spec.lengths and (4, 2, 3, 1)
    rich = replace(
        problem.spec,
        seq_len=4,
        batch_size=4,
        unbatched=False,
        lengths=lengths,
        h0="random",
        batch_first=spec.batch_first,
    )
    return draw_problem(rich, problem.dtypes, problem.cotangents is not None, problem.weights)
