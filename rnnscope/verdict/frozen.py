"""Does an export still run at other sizes than those at which it was made?

An export is made from an example, whose number of steps or of items may be frozen into it. What fails or changes shape
at the sizes of the run, though it runs where it was made, is a finding and no trouble.
"""

from dataclasses import dataclass, replace

from rnnscope.errors import RnnscopeError
from rnnscope.network.shapes import Shape
from rnnscope.subjects.builtin import other_shape
from rnnscope.subjects.exporter import spec_at
from rnnscope.subjects.foreign import Refused
from rnnscope.verdict.evidence import Evidence, Side
from rnnscope.verdict.problem import Problem, clear_padding, draw_problem


@dataclass(frozen=True)
class Frozen:
    """A side that runs at the sizes at which it was made, and not at those of the run.

    made_at: L and N at which it was made. reason: why it failed; "" where another shape came out. output, shape,
    expected: the output of another shape; None where it failed. there: the verdict at the sizes at which it was made.
    """

    side: str
    made_at: tuple[int, int]
    reason: str = ""
    output: str | None = None
    shape: Shape | None = None
    expected: Shape | None = None
    there: str = ""


def frozen_of(evidence: Evidence, side: Side) -> Frozen | None:
    """What an export does at sizes at which it was not made; None where it runs.

    Raises:
        Refused: it does not run where it was made either.
    """
    if side.foreign is None or side.foreign.made_at is None:
        return None
    problem, made_at = evidence.problem, side.foreign.made_at
    try:
        other = other_shape(problem.spec, evidence.in_own_dtype(side))
    except Refused as refused:
        if is_at(problem, made_at) or not _runs(side, problem_at(problem, made_at)):
            if refused.message.startswith(side.subject):
                raise
            raise Refused(f"{side.subject} fails: {refused.message}", refused.hint) from refused
        return Frozen(side.role, made_at, refused.message)
    if other is None or is_at(problem, made_at) or not _runs(side, problem_at(problem, made_at)):
        return None  # a shape that is wrong everywhere is another finding
    return Frozen(side.role, made_at, "", *other)


def problem_at(problem: Problem, sizes: tuple[int, int]) -> Problem:
    """The same network on another random input, of other sizes."""
    at = draw_problem(spec_at(problem.spec, sizes), problem.dtypes, weights=problem.weights)
    clear_padding(at.spec, at.given.x)
    return replace(at, compared=problem.compared)


def is_at(problem: Problem, sizes: tuple[int, int]) -> bool:
    """Whether a problem has these numbers of steps and items."""
    return sizes == (problem.spec.seq_len, problem.spec.batch_size)


def in_one_call(side: Side) -> Side:
    """The side, without the chunks in which the run was asked for."""
    return replace(side, run=side.foreign.run) if side.foreign else side


def _runs(side: Side, problem: Problem) -> bool:
    try:
        return other_shape(problem.spec, in_one_call(side).solve(problem, side.spec.dtype)) is None
    except RnnscopeError:
        return False
