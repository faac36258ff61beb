"""What both sides of a comparison get: weights, input and cotangents, the same numbers in every dtype that computes.

They are rounded to what each side's dtype can say, so that giving them to a side changes nothing. They are kept on the
CPU in float64; x, which may be long, in the smallest of these dtypes. From one problem others are made: its first
steps, one layer, every step by itself, or a drive that reaches further. Nothing is judged here.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnnscope.network.equations import State, Step
from rnnscope.network.shapes import BLOCK, OUTPUTS, layer_parameters
from rnnscope.network.weights import (
    Input,
    Weights,
    draw_blocks,
    draw_cotangents,
    draw_weights,
    time_first,
    time_of,
    x_of_blocks,
)
from rnnscope.pages.progress import stage
from rnnscope.spec.question import STRESS_TIMES, stressed
from rnnscope.spec.spec import DTYPES, Spec
from rnnscope.subjects.builtin import Run, Subject, run_equations, valid_steps

Tensors = dict[str, Tensor]

Solver = Callable[[Subject, Spec, "Problem"], Tensors]
"""Gives what a subject computes of a problem on a Spec's device and in its dtype: `solve`, or `solve_by_layers`."""

_ROUNDING = ("bfloat16", "float16", "float32")
"""In this order every result is a number of all the dtypes that came before, too."""


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """One network and one input, on the CPU: in float64, and x in the smallest dtype that can say it.

    Args:
        spec: its device and dtype are the reference's: cpu and float64.
        weights: parameters by torch's names.
        given: x, h0 and c0.
        cotangents: what is sent back through y, h and c; None where gradients are not compared.
        dtypes: those of the sides. Every number here can be said in each of them.
        origins: (step, item) of each sequence of length 1, where the steps of another problem are taken by themselves.
        compared: those of y, h and c that both sides give.
    """

    spec: Spec
    weights: Weights
    given: Input
    cotangents: Tensors | None
    dtypes: tuple[str, ...]
    origins: Tensor | None = None
    compared: tuple[str, ...] = OUTPUTS


def draw_problem(
    spec: Spec,
    dtypes: Iterable[str],
    grad: bool = False,
    weights: Weights | None = None,
    given: Input | None = None,
    dtypes_of_weights: tuple[str, ...] | None = None,
) -> Problem:
    """The problem of a Spec and its seed, or of weights and an input that are given.

    Args:
        dtypes_of_weights: those that must be able to say the weights; fewer where the other side has its own.
    """
    exact, dtypes = replace(spec, device="cpu", dtype="float64"), tuple(dtypes)
    state, blocks = (given.state, torch.split(given.x, BLOCK, time_of(exact))) if given else draw_blocks(exact)
    x = x_of_blocks((rounded(each, dtypes) for each in blocks), exact, smallest_dtype(dtypes))
    return Problem(
        exact,
        rounded_weights(weights or draw_weights(exact), dtypes_of_weights or dtypes),
        Input(x, tuple(rounded(each, dtypes) for each in state)),
        _rounded_cotangents(exact, dtypes) if grad else None,
        dtypes,
    )


def clear_padding(spec: Spec, x: Tensor) -> Tensor:
    """x with zeros behind the ends of its items, as whoever unpacks a packed input gets it; in place."""
    if spec.lengths is not None:
        time_first(spec, x).masked_fill_(~valid_steps(spec).unsqueeze(-1), 0)
    return x


def solve(subject: Subject, spec: Spec, problem: Problem) -> Tensors:
    """What a subject gives on a Spec's device and in its dtype: y, h and c, then the gradients of x, h0, c0, weights.

    Of the outputs those that are compared. Gradients are there where the problem has cotangents and the outputs have
    their shapes; weights have torch's names.
    """
    dtype, device = getattr(torch, spec.dtype), spec.device
    # Rounded before it goes to a device, which may have no float64.
    weights = {name: each.to(dtype).to(device) for name, each in problem.weights.items()}
    given = Input(
        problem.given.x.to(dtype).to(device), tuple(each.to(dtype).to(device) for each in problem.given.state)
    )
    placed = replace(problem.spec, device=device, dtype=spec.dtype)
    if problem.cotangents is None:
        return _compared(problem, subject(placed, weights, given))
    given = Input(given.x.clone().requires_grad_(), tuple(each.clone().requires_grad_() for each in given.state))
    run = subject(placed, weights, given)
    outputs, inputs = _compared(problem, run), given.tensors() if run.takes_state else {"x": given.x}
    leaves = [*inputs.values(), *run.parameters.values()]
    plain = {name: each.detach() for name, each in outputs.items()}
    if any(problem.cotangents[name].shape != each.shape for name, each in outputs.items()):
        return plain
    roots = {name: each for name, each in outputs.items() if each.requires_grad}
    if roots:
        cotangents = [problem.cotangents[name].to(each.dtype).to(each.device) for name, each in roots.items()]
        with stage("gradients"):
            found = torch.autograd.grad([*roots.values()], leaves, cotangents, materialize_grads=True)
    else:  # what comes out does not depend on what goes in
        found = tuple(torch.zeros_like(each) for each in leaves)
    of_parameters = dict(zip(run.parameters, found[len(inputs) :], strict=True))
    return plain | dict(zip(inputs, found, strict=False)) | run.by_torchs_names(of_parameters)


def _compared(problem: Problem, run: Run) -> Tensors:
    return {name: each for name, each in run.outputs().items() if name in problem.compared}


def solve_by_layers(subject: Subject, spec: Spec, problem: Problem) -> Tensors:
    """The output of every layer, each run by itself on what came out of the layer below: "y of layer 0", …

    (L, N, D·H_out) each, laid out as y is.
    """
    found, x = {}, problem.given.x
    for layer in range(problem.spec.num_layers):
        y = solve(subject, spec, _one_layer(problem, layer, x))["y"]
        found[f"y of layer {layer}"], x = y, y.cpu().double()
    return found


def first_steps(problem: Problem, count: int) -> Problem:
    """The same network on the first steps of the same input, or on all where it has no more."""
    spec, x = problem.spec, problem.given.x
    time = time_of(spec)
    count = min(count, x.shape[time])  # where chunks are drawn one by one, the problem has the first step alone
    # As ragged as before: otherwise what happens at the ends would not show.
    lengths = spec.lengths and tuple(-(-each * count // spec.seq_len) for each in spec.lengths)
    cotangents = problem.cotangents and problem.cotangents | {"y": problem.cotangents["y"].narrow(time, 0, count)}
    shorter, x = replace(spec, seq_len=count, lengths=lengths), x.narrow(time, 0, count)
    if lengths != spec.lengths:  # an item that ends earlier has more padding
        x = clear_padding(shorter, x.clone())
    return replace(problem, spec=shorter, given=Input(x, problem.given.state), cotangents=cotangents)


def up_to(problem: Problem, step: int) -> Problem:
    """The same network on the steps up to one: every item takes all of them that it has."""
    part = first_steps(problem, step + 1)
    lengths = problem.spec.lengths and tuple(min(each, step + 1) for each in problem.spec.lengths)
    return replace(part, spec=replace(part.spec, lengths=lengths))


def step_by_step(problem: Problem) -> Problem:
    """Every step of every item as a sequence of length 1, from the state in which the reference came to it.

    Nothing accumulates over time in it: a fault of the step itself shows, and an error carried on does not.
    M sequences, the first steps of all items first: x: (1, M, H_in), h0: (D·K, M, H_out), c0: (D·K, M, H).
    """
    spec, x = problem.spec, time_first(problem.spec, problem.given.x)
    origins = valid_steps(spec).nonzero()
    steps, items = origins.unbind(1)
    states = (each[:, steps, items].contiguous() for each in _states_before(problem))
    given = Input(x[steps, items].unsqueeze(0), tuple(rounded(each, problem.dtypes) for each in states))
    alone = replace(
        spec, seq_len=1, batch_size=len(origins), lengths=None, unbatched=False, batch_first=False, h0="random"
    )
    cotangents = problem.cotangents and _rounded_cotangents(alone, problem.dtypes)
    return replace(problem, spec=alone, given=given, cotangents=cotangents, origins=origins)


def stressed_problem(problem: Problem) -> Problem:
    """The same network on a drive that reaches further: more steps, and numbers 30 times as large.

    A clip at ±10, a threshold, or a state that is reset at step 10 does nothing in three steps of numbers about 1. So x
    is given over and over, with its features moved on by one each time: otherwise the network would be driven in a
    circle. Each item goes on to an end of its own, as much later as all are. x and the initial state are 30 times as
    large, so that gates saturate and an LSTM's c counts up. Weights and dtypes stay what they are.
    """
    spec, dtypes = stressed(problem.spec), problem.dtypes
    x = STRESS_TIMES * _over_and_over(problem.spec, spec, problem.given.x)
    state = tuple(rounded(STRESS_TIMES * each, dtypes) for each in problem.given.state)
    given = Input(rounded(x, dtypes).to(smallest_dtype(dtypes)), state)
    return replace(problem, spec=spec, given=given, cotangents=None)


def _over_and_over(short: Spec, long: Spec, x: Tensor) -> Tensor:
    """x for more steps, in float64: each repetition of an item's own steps has its features moved on by one."""
    x = time_first(short, x).double()
    lengths = torch.tensor(short.lengths or [short.seq_len] * x.shape[1], device="cpu")
    steps = torch.arange(long.seq_len, device="cpu")[:, None]
    features = (torch.arange(x.shape[2], device="cpu") - (steps // lengths)[..., None]) % x.shape[2]
    longer = x[steps % lengths, torch.arange(x.shape[1], device="cpu")].gather(2, features)
    return longer.squeeze(1) if long.unbatched else longer.movedim(0, time_of(long))


def _one_layer(problem: Problem, layer: int, x: Tensor) -> Problem:
    """A layer by itself, fed with x: (L, N, H_in), or (L, N, D·H_out) above the first one."""
    spec = replace(problem.spec, num_layers=1, input_size=x.shape[-1])
    names = [each.name for each in layer_parameters(problem.spec, layer)]
    weights = {name.replace(f"_l{layer}", "_l0"): problem.weights[name] for name in names}
    rows = slice(layer * spec.directions, (layer + 1) * spec.directions)
    given = Input(x, tuple(each[rows] for each in problem.given.state))
    return replace(problem, spec=spec, weights=weights, given=given, cotangents=None, compared=OUTPUTS)


def _states_before(problem: Problem) -> State:
    """h: (D·K, L, N, H_out), and c: (D·K, L, N, H), in which the reference came to each step in each direction."""
    walked: list[deque[State]] = []

    def around(layer: int, direction: int, step: Step) -> Step:
        states = deque[State]()
        walked.append(states)
        note = states.appendleft if direction else states.append

        def noting(x: Tensor, state: State) -> State:
            note(state)
            return step(x, state)

        return noting

    given = Input(problem.given.x.double(), problem.given.state)
    with torch.no_grad():
        run_equations(problem.spec, problem.weights, given, around=around)
    rows = [tuple(map(torch.stack, zip(*states, strict=True))) for states in walked]
    return tuple(map(torch.stack, zip(*rows, strict=True)))


def _rounded_cotangents(spec: Spec, dtypes: tuple[str, ...]) -> Tensors:
    return {name: rounded(each, dtypes) for name, each in draw_cotangents(spec).items()}


def rounded_weights(weights: Weights, dtypes: tuple[str, ...]) -> Weights:
    """Weights as a problem keeps them."""
    return {name: rounded(each, dtypes) for name, each in weights.items()}


def smallest_dtype(dtypes: tuple[str, ...]) -> torch.dtype:
    """The dtype in which numbers that all of these can say take the least memory."""
    dtype: torch.dtype = getattr(torch, min(dtypes, key=DTYPES.__getitem__))
    return dtype


def rounded(tensor: Tensor, dtypes: tuple[str, ...]) -> Tensor:
    """The nearest numbers that each of the dtypes can say, in float64 on the CPU."""
    tensor = tensor.detach().to("cpu", torch.float64).contiguous()
    for dtype in _ROUNDING:
        if dtype in dtypes:
            tensor = tensor.to(getattr(torch, dtype)).double()
    return tensor
