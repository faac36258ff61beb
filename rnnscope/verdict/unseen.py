"""What a comparison leaves unseen, whatever its verdict: blind spots of its question, its sides and its very numbers.

Numbers that are zeros, all alike, or equal to others show little of how they are read. That is told of the numbers
themselves. How far a network reaches, and which units of a relu are never awake, takes one run of the equations.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import reduce
from math import isfinite
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from rnnscope.network.equations import State, Step
from rnnscope.network.shapes import GATES, ParameterShape, direction_parameters, layer_parameters, outputs_of
from rnnscope.network.weights import Input, Weights
from rnnscope.pages.page import counted
from rnnscope.pages.progress import stage
from rnnscope.spec.question import BlindSpot
from rnnscope.spec.question import blind_spots as of_any_weights
from rnnscope.spec.sides import DEVIATION, RECORDED
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import run_equations, valid_steps
from rnnscope.verdict.bounds import INT8
from rnnscope.verdict.facts import Judged, Reach, side_in_words
from rnnscope.verdict.figures import Check
from rnnscope.verdict.problem import Problem

OF_WEIGHTS = frozenset({"zero weights", "alike weights", "symmetric weights", "equal weights"})
"""The blind spots under which a verdict holds on these weights alone."""

MOST_NAMED = 4
"""A blind spot names so many parameters or units, and says how many more there are."""

SCREENED = 64
"""Numbers that are looked at first: where they differ, the rest need not be."""

NEAR_OVERFLOW = 16.0
"""By which factor the range must stay below the greatest number of a dtype: sums inside reach further than results."""


def unseen(problems: Sequence[Problem], folded: Collection[str] = ()) -> tuple[BlindSpot, ...]:
    """What the weights and the input of some problems leave unseen: one problem, or one a side with its own weights.

    folded: biases that are zeros since a side has one bias for both.
    """
    every = tuple({id(each.weights): each for each in problems}.values())
    found = [spot for each in every for spot in (*_of_input(each), *_of_weights(each.spec, each.weights))]
    names: dict[str, list[str]] = {}
    for spot, what in found:
        if what in folded:
            continue
        names.setdefault(spot, [])
        names[spot] += [] if what in names[spot] else [what]
    return tuple(BlindSpot(spot, SENTENCES[spot](whats)) for spot, whats in names.items())


def _of_input(problem: Problem) -> Iterator[tuple[str, str]]:
    """A blind spot, and the tensor that has it. A state of zeros that was asked for is told of the Spec."""
    given = problem.given.tensors() if problem.spec.h0 == "random" else {"x": problem.given.x}
    for name, each in given.items():
        if _is_alike(each):
            zero = "zero input" if name == "x" else "zero h0"
            yield zero if _is_zero(each) else "alike input", name


def _of_weights(spec: Spec, weights: Weights) -> Iterator[tuple[str, str]]:
    """A blind spot, and the parameter, or the pair, that has it."""
    alike = {name for name, each in weights.items() if _is_alike(each)}
    for name, each in weights.items():
        if name in alike:
            yield "zero weights" if _is_zero(each) else "alike weights", name
        elif name.startswith("weight_hh") and not spec.proj_size and _is_symmetric(spec, each):
            yield "symmetric weights", name
    if spec.kind == "gru":  # elsewhere only the sum of both counts
        for name, each in weights.items():
            other = name.replace("bias_ih", "bias_hh")
            if other != name and name not in alike and torch.equal(each, weights[other]):
                yield "equal weights", f"{name} and {other}"
    yield from _equal_parts(spec, weights)


def _equal_parts(spec: Spec, weights: Weights) -> Iterator[tuple[str, str]]:
    """Layers, and directions of a layer, that have the same weights as an earlier one."""

    def beginning(parameter: ParameterShape) -> tuple[float, ...]:
        return tuple(weights[parameter.name].flatten()[:SCREENED].tolist())

    first: dict[object, int] = {}
    for layer in range(spec.num_layers):
        every = layer_parameters(spec, layer)
        earlier = first.setdefault(tuple(map(beginning, every)), layer)
        if earlier != layer and _are_equal(weights, layer_parameters(spec, earlier), every):
            yield "equal weights", f"layer {earlier} and layer {layer}"
        if spec.bidirectional and _are_equal(weights, *(direction_parameters(spec, layer, each) for each in (0, 1))):
            yield "equal weights", f"both directions of layer {layer}"


def _are_equal(weights: Weights, *parts: Sequence[ParameterShape]) -> bool:
    pairs = zip(*([weights[each.name] for each in part] for part in parts), strict=True)
    return all(one.shape == other.shape and torch.equal(one, other) for one, other in pairs)


def _is_alike(tensor: Tensor) -> bool:
    """Whether one number stands everywhere; a single number that is not 0 hides nothing."""
    flat = tensor.flatten()
    if not len(flat):
        return False
    if len(flat) == 1:
        return _is_zero(tensor)
    return bool((flat[:SCREENED] == flat[0]).all()) and bool((flat == flat[0]).all())


def _is_zero(tensor: Tensor) -> bool:
    return not tensor.flatten()[0].item()


def _is_symmetric(spec: Spec, weight_hh: Tensor) -> bool:
    """Whether the block of each gate, (H, H), is its own transpose."""
    if weight_hh.shape[1] == 1:
        return False
    blocks = weight_hh.chunk(len(GATES[spec.kind]) or 1)
    return all(bool(each[0, 1] == each[1, 0]) and torch.equal(each, each.T) for each in blocks)


def _first_ones(names: Sequence[str]) -> list[str]:
    """The first of some names, and how many more there are."""
    rest = len(names) - MOST_NAMED
    return list(names) if rest < 2 else [*names[:MOST_NAMED], f"{rest} more"]


def _named(names: Sequence[str]) -> str:
    """The first of some names in a sentence."""
    *before, last = _first_ones(names)
    return f"{', '.join(before)} and {last}" if before else last


def _zeros(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} is zeros: whether it is used, and how, does not show"
    return f"{_named(names)} are zeros: whether they are used, and how, does not show"


def _one_number(names: Sequence[str]) -> str:
    return f"{_named(names)} {'has' if len(names) == 1 else 'have'} one number throughout"


SENTENCES: dict[str, Callable[[Sequence[str]], str]] = {
    "zero input": _zeros,
    "zero h0": _zeros,
    "alike input": lambda names: (
        f"{_one_number(names)}: in which order of steps, items and features it is read does not show"
    ),
    "zero weights": _zeros,
    "alike weights": lambda names: (
        f"{_one_number(names)}: whether transposed, or with gates or units in another order, does not show"
    ),
    "symmetric weights": lambda names: (
        f"{_named(names)} {'is its' if len(names) == 1 else 'are their'} own transpose: "
        f"whether {'it is' if len(names) == 1 else 'they are'} transposed does not show"
    ),
    "equal weights": lambda names: f"equal weights in {'; '.join(_first_ones(names))}: whether swapped does not show",
}
"""What is said of each blind spot, of the names of what has it."""


# What a run of the equations shows.


def watched(problems: Sequence[Problem]) -> tuple[Reach, tuple[BlindSpot, ...]]:
    """How far the equations reach on some problems, and the units of a relu that are 0 at every step.

    Each problem with other weights takes a run.
    """
    every = tuple({id(each.weights): each for each in problems}.values())
    seen = [_watch(each) for each in every]
    greatest = [reduce(torch.maximum, each).item() for each in zip(*(each.greatest for each in seen), strict=True)]
    dead = tuple(dict.fromkeys(units for each in seen for units in each.dead_units()))
    spots = (
        BlindSpot("dead units", f"0 at every step: {'; '.join(_first_ones(dead))}; what feeds these hardly shows"),
    )
    gate_sum, h, c = greatest if len(greatest) == 3 else (*greatest, None)
    largest = min(torch.finfo(getattr(torch, each)).max for each in problems[0].dtypes)
    overflows = not all(isfinite(each) and each < largest / NEAR_OVERFLOW for each in greatest)
    return Reach(h, c, gate_sum, problems[0].spec.seq_len, overflows), spots if dead else ()


class _Watch(TorchFunctionMode):
    """Notes the arguments of σ, tanh and relu in the steps of the equations, and what comes out of the steps.

    greatest: of the gate sums, of |h| and of |c|. awake: (H,) for each layer and direction of a relu.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.greatest = [
            torch.zeros((), dtype=torch.float64, device="cpu") for _ in range(3 if spec.kind == "lstm" else 2)
        ]
        self.awake: dict[tuple[int, int], Tensor] = {}
        self._spec, self._sums, self._real = spec, list[Tensor](), valid_steps(spec) if spec.lengths else None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in ("sigmoid", "tanh", "relu"):
            self._sums.append(args[0])
        return func(*args, **(kwargs or {}))

    def around(self, layer: int, direction: int, step: Step) -> Step:
        """A step that is watched; padding does not count."""
        masks = None if self._real is None else iter(self._real.flip(0) if direction else self._real)

        def watching(x: Tensor, state: State) -> State:
            self._sums.clear()
            with self:
                new = step(x, state)
            mask = None if masks is None else next(masks)
            self._note(layer, direction, new, mask)
            return new

        return watching

    def _note(self, layer: int, direction: int, new: State, mask: Tensor | None) -> None:
        real = slice(None) if mask is None else mask
        sums = [each for each in self._sums if each is not new[-1]]  # c goes into tanh too, and is no sum
        for place, tensors in enumerate((sums, *((each,) for each in new))):
            found = [self.greatest[place], *(each[real].abs().max() for each in tensors)]
            self.greatest[place] = torch.stack(found).max()
        if self._spec.nonlinearity == "relu":
            awake = (new[0][real] != 0).any(0)
            self.awake[layer, direction] = awake | self.awake.get((layer, direction), awake)

    def dead_units(self) -> Iterator[str]:
        """The units of each layer and direction that no step awakes."""
        for (layer, direction), awake in self.awake.items():
            if units := [str(unit) for unit in (~awake).nonzero().flatten().tolist()]:
                noun = "unit" if len(units) == 1 else "units"
                yield f"{noun} {_named(units)} of layer {layer}{', backward' if direction else ''}"


def _watch(problem: Problem) -> _Watch:
    watch = _Watch(problem.spec)
    given = Input(problem.given.x.double(), problem.given.state)
    with stage(f"the range of {counted(problem.spec.seq_len, 'step')}"), torch.no_grad():
        run_equations(problem.spec, problem.weights, given, around=watch.around)
    return watch


# What a comparison cannot see.


def blind_spots(comparison: Judged) -> tuple[BlindSpot, ...]:
    """What this comparison cannot see, whatever its verdict."""
    if comparison.frozen is not None:
        return ()  # no numbers were compared
    has_own_input = comparison.sides.recorded is not None or comparison.sources.inputs is not None
    found = list(of_any_weights(comparison.spec, comparison.question.resync))
    if has_own_input:
        found = [each for each in found if "--h0" not in each.sentence]
    if has_own_input and comparison.spec.h0 == "zeros":
        unused = "no h0 was recorded, so zeros were taken: whether the initial state is used does not show"
        found.append(BlindSpot("no recorded h0", unused))
    subjects = (comparison.left, comparison.right)
    own = [each for each in subjects if ":" in each and not each.startswith((RECORDED, DEVIATION))]
    compared = {each.name for each in comparison.outputs}
    if missing := [each for each in outputs_of(comparison.spec.kind) if each not in compared]:
        is_, it = ("is", "it") if len(missing) == 1 else ("are", "them")
        left_out = f"{' and '.join(missing)} {is_} not compared, since a side does not give {it}"
        found.append(BlindSpot("output not given", left_out))
    if own and comparison.question.chunk is not None and comparison.question.chunk < comparison.spec.seq_len:
        kept = f"what {' and '.join(own)} may keep from step to step besides hx starts anew in every chunk"
        found.append(BlindSpot("memory of its own", kept))
    for role in comparison.reference.without_float64 if comparison.reference else ():
        if role != comparison.sides.recorded:
            asked_in = dict(comparison.reference.asked_in if comparison.reference else ())
            used = asked_in.get(role, comparison.sides.dtypes[0 if role == "left" else 1])
            used = INT8 if comparison.reference and comparison.reference.function.arithmetic == INT8 else used
            alone = f"{side_in_words(comparison, role)} does not run in float64, so that it was judged in {used}"
            found.append(BlindSpot("no float64", f"{alone}: a fault smaller than its rounding would not be seen"))
    if comparison.reference and comparison.exit_code == 0:
        for each in comparison.reference.inside:
            small = f"a fault smaller than what {side_in_words(comparison, each.side)} rounds inside"
            found.append(BlindSpot("rounding inside", f"{small} would not be seen"))
    late = (_late_fault(each) for each in (comparison, comparison.stress) if each is not None)
    return (*found, *filter(None, late), *comparison.unseen, *_beyond(comparison))


def _late_fault(comparison: Judged) -> BlindSpot | None:
    """What rounding may hide in the later steps, where it grows."""
    check = comparison.reference.function if comparison.reference else None
    if check is None or comparison.exit_code:
        return None
    steps = check.sharp_steps if check.whole_steps is None else check.whole_steps
    if steps is None or (check.tamed_by and check.whole_steps is None):
        return None
    where = "under stress " if comparison.is_stressed else ""
    seen = f", unless with {tamed_in_words(check)}" if check.tamed_by else ""
    late = f"a fault of the loop after the first {steps} of {comparison.spec.seq_len} steps would not be seen{seen}"
    return BlindSpot("late fault", f"{where}{late}: rounding hides it with these weights")


def tamed_in_words(check: Check) -> str:
    """The weights with which a check was tamed."""
    return f"weights of 1/{round(1 / (check.tamed_by or 1))}"


def _beyond(comparison: Judged) -> Iterator[BlindSpot]:
    """That nothing is known of what lies beyond the range that was reached, where nothing differs."""
    if comparison.reached and comparison.exit_code == 0 and not (comparison.question.stress or comparison.is_stressed):
        far = reach_in_words(comparison.spec, comparison.reached)
        yield BlindSpot("reached range", f"{far}; --stress reaches further", label="Reached")


def reach_in_words(spec: Spec, reached: Reach) -> str:
    """How far the equations reach, and what does not show beyond that."""
    state, far = ("h", reached.h) if reached.c is None else ("c", reached.c)
    sums = f"sums before {spec.nonlinearity}" if spec.kind == "rnn" else "gate sums"
    steps = counted(reached.steps, "step")
    greatest = f"|{state}| up to {_short(far)}, {sums} up to {_short(reached.gate_sum)}, in {steps}"
    return f"{greatest}: a clip or a threshold beyond that would not be seen"


def _short(number: float) -> str:
    return f"{number:.2g}" if number < 100 else f"{number:.3g}"
