"""The same question on a drive that reaches further: more steps, and numbers 30 times as large.

A clip at ±10, a threshold, or a state that is reset at step 10 does nothing in three steps of numbers about 1. So x is
given over and over, with its features moved on by one each time: otherwise the network would be driven in a circle.
Each item goes on to an end of its own, as much later as all are. x and the initial state are 30 times as large, so
that gates saturate and an LSTM's c counts up. Sides and weights stay what they are. Gradients are not compared: where
gates saturate they vanish, and a right formula such as 1/(1 + exp(-x)) makes them NaN.
"""

from dataclasses import replace

import torch
from torch import Tensor

from rnnscope.network.weights import Input, time_first, time_of
from rnnscope.spec.question import STRESS_TIMES, Question, stressed
from rnnscope.spec.spec import Spec
from rnnscope.verdict.problem import Problem, rounded, smallest_dtype


def stressed_problem(problem: Problem) -> Problem:
    """The problem under stress; weights and dtypes stay."""
    spec, dtypes = stressed(problem.spec), problem.dtypes
    x = STRESS_TIMES * _over_and_over(problem.spec, spec, problem.given.x)
    state = tuple(rounded(STRESS_TIMES * each, dtypes) for each in problem.given.state)
    given = Input(rounded(x, dtypes).to(smallest_dtype(dtypes)), state)
    return replace(problem, spec=spec, given=given, cotangents=None)


def stressed_question(question: Question) -> Question:
    """What is asked under stress: whether y, h and c are the same; all else is of the input that was given."""
    return replace(question, stress=False, grad=False, power=False, map=False, rtol=None, atol=None)


def _over_and_over(short: Spec, long: Spec, x: Tensor) -> Tensor:
    """x for more steps, in float64: each repetition of an item's own steps has its features moved on by one."""
    x = time_first(short, x).double()
    lengths = torch.tensor(short.lengths or [short.seq_len] * x.shape[1], device="cpu")
    steps = torch.arange(long.seq_len, device="cpu")[:, None]
    features = (torch.arange(x.shape[2], device="cpu") - (steps // lengths)[..., None]) % x.shape[2]
    longer = x[steps % lengths, torch.arange(x.shape[1], device="cpu")].gather(2, features)
    return longer.squeeze(1) if long.unbatched else longer.movedim(0, time_of(long))
