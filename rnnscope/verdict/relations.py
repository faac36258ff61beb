"""Which relation of every recurrent network does somebody's own network break? Asked where no deviation explains it.

torch's module keeps them all: that is asked, too, with the same weights and the same input. So a relation that is
broken is a difference from torch by itself, and says where to look: it reads the padding, it looks one step ahead.

A class that merely refuses another batch or a single step is not told here: that moves no number of the comparison.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from rnnscope.checks.case import Case, trusted_steps
from rnnscope.checks.check import ASKED
from rnnscope.checks.facts import BROKEN, HOLDS, Relation, broken, holds
from rnnscope.checks.module import Recurrent, Roles
from rnnscope.checks.states import tensors
from rnnscope.checks.values import Gap, Place, Values, gap
from rnnscope.checks.words import figures, where
from rnnscope.errors import RnnscopeError
from rnnscope.network.weights import Input, Weights, time_first
from rnnscope.pages.progress import stage
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import build_module
from rnnscope.subjects.devices import running
from rnnscope.subjects.forms import state_parameters
from rnnscope.subjects.own import OwnNetwork, module_of
from rnnscope.subjects.user_code import guarded
from rnnscope.verdict.bounds import FLOATS
from rnnscope.verdict.evidence import Side
from rnnscope.verdict.facts import BrokenRelation
from rnnscope.verdict.problem import Problem

MOST_CALLS = 100
"""So often a network is called at most; what is not known by then is not told."""

MOST_IN_A_CALL = 2e9
"""Multiplications that a call may take: of a larger network the first steps alone are asked."""

_A_STEP = 1e6
"""A step of a layer takes as long as so many multiplications, however small it is."""

_STEPWISE = 16
"""So many steps are taken one by one."""


def broken_relation(problem: Problem, side: Side) -> BrokenRelation | None:
    """The first relation that a side breaks, the cheapest asked first; None where it breaks none, or cannot be run.

    Args:
        side: not torch's function, in what comes out of a single call.
    """
    is_float = side.exact_arithmetic in FLOATS and side.exact_dtype in ("float64", "float32")
    if side.network is None or not is_float or problem.spec.train:
        return None
    placed = replace(side.spec, dtype=side.exact_dtype)
    # Whatever cannot be made or called says nothing: the verdict stands without it.
    with suppress(RnnscopeError), stage("a relation that is broken"), running(placed) as there, guarded(side.subject):
        question = _Question.of(side, side.own_problem(problem), there)
        own = question.case(question.of_network(side.network))
        if found := next(_broken(own, question), None):
            torchs = question.case(question.of_torch())
            if _asked(torchs, found.relation, question).outcome == HOLDS:
                return BrokenRelation(side.role, found)
    return None


def _broken(case: Case, question: "_Question") -> Iterator[Relation]:
    """The relations that are broken in numbers. None of them rests on one that was broken before, or it would be it."""
    for name in question.relations(case):
        told = _asked(case, name, question)
        if told.outcome == BROKEN and (told.max_abs is not None or name == "last_state"):
            yield told


def _asked(case: Case, name: str, question: "_Question") -> Relation:
    """What is found of one relation; that it cannot be asked is no finding."""
    asked = {"zero_state": _zero_state, "stepwise": _stepwise, "last_state": _last_state}.get(name, ASKED[name])
    with case.asked_by(name), suppress(RnnscopeError):
        return replace(asked(case), relation=name)
    return Relation(name, "undecided")


def _zero_state(case: Case) -> Relation:
    """No state, against zeros: torch has nothing else to start from."""
    off = gap(case.from_nothing.values, case.base.values, case.allowed)
    if not off.parts:
        return holds(off)
    return broken(off, f"without a state it gives another result than from zeros {where(off)}{figures(off)}")


def _stepwise(case: Case) -> Relation:
    """The first steps alone: what a single step is to a class shows there."""
    return ASKED["stepwise"](case if case.steps <= _STEPWISE else case.first(_STEPWISE))


def _last_state(case: Case) -> Relation:
    """Whether h is y at the last step, as it is in torch. A module that is asked alone may give another y."""
    told, base = ASKED["last_state"](case), case.base.values
    if told.outcome == BROKEN or not {"y", "h"} <= base.tensors.keys():
        return told
    y, rows = base.tensors["y"], base.tensors["h"][-1 - case.recurrent.says_backward :]
    ends = zip(torch.split(y, rows.shape[-1], -1), rows, (case.steps - 1, 0), strict=False)
    off = torch.stack([(half[step] - row).abs().amax() for half, row, step in ends]).max().item()
    limit = case.allowed.tensors["y"].max().item() + case.allowed.tensors["h"].max().item()
    if off <= limit:
        return told
    far = Gap(off, limit, off / limit, Place("y", step=case.steps - 1))
    h0 = None if case.state is None else tensors(case.state)
    if h0 is not None and _is_near(y[0], next(iter(h0.values()))[-1], limit):
        return broken(far, f"y at step 0 is the h0 that went in{figures(far)}: y is a step late")
    return broken(far, f"h is not y at the last step{figures(far)}")


def _is_near(one: Tensor, other: Tensor, limit: float) -> bool:
    return one.shape == other.shape and (one - other).abs().max().item() <= limit


@dataclass(frozen=True, eq=False)
class _Question:
    """A side's problem as the relations are asked of it.

    Args:
        name: of the side.
        spec: where and in which dtype it runs.
        weights, given: the problem's, in that dtype and place.
        unit: to which the side rounds.
    """

    name: str
    spec: Spec
    weights: Weights
    given: Input
    unit: float

    @classmethod
    def of(cls, side: Side, problem: Problem, placed: Spec) -> "_Question":
        dtype, device = getattr(torch, placed.dtype), placed.device
        given = Input(
            problem.given.x.to(dtype).to(device), tuple(each.to(dtype).to(device) for each in problem.given.state)
        )
        weights = {name: each.to(dtype).to(device) for name, each in problem.weights.items()}
        spec = replace(problem.spec, device=device, dtype=placed.dtype)
        return cls(side.subject, spec, weights, given, FLOATS[side.exact_arithmetic])

    def case(self, recurrent: Recurrent) -> Case:
        """A network with the problem's x and state, as far as its steps can be told from rounding.

        Raises:
            RnnscopeError: not even the first step can.
        """
        x, state = time_first(self.spec, self.given.x), self.given.state
        if self.spec.unbatched:
            state = tuple(each.unsqueeze(1) for each in state)
        start = None if not recurrent.roles.state else state if len(state) > 1 else state[0]
        dtype = getattr(torch, self.spec.dtype)
        case = Case(recurrent, recurrent.module, x, start, self.spec.seed, dtype, self.unit, self.spec.lengths)
        steps = min(case.steps, int(MOST_IN_A_CALL / self._a_step()))
        case = case if steps == case.steps else case.first(steps)
        with case.asked_by("bound"):
            steps = trusted_steps(case) if steps else 0
        if not steps:
            raise RnnscopeError(f"{self.name}: nothing can be told of a single step")
        return case if steps == case.steps else case.first(steps)

    def _a_step(self) -> float:
        """Multiplications of a step of all layers."""
        weights = sum(each.numel() for each in self.weights.values())
        return max(weights * self.spec.batch_size, self.spec.num_layers * self.spec.directions * _A_STEP)

    def relations(self, case: Case) -> Iterator[str]:
        """Those that the Spec allows, the cheapest first; what comes out before what is done to x and to the state."""
        takes, gives = case.takes_state, case.recurrent.has_state
        if takes and self.spec.h0 == "zeros" and not case.recurrent.roles.needs_state:
            yield "zero_state"
        yield from ("item_isolation", "permutation", "batch_of_one", "causality", "last_state")
        yield from ("chunked", "stepwise") if takes and gives else ()
        yield from ("packed",) if self.spec.lengths else ()
        yield from ("inputs_kept", "layout")

    def of_network(self, network: OwnNetwork) -> Recurrent:
        """Somebody's own network, built and with the weights, taking and giving the state as torch's modules do."""
        prepared = network.prepare(self.spec, self.weights, self.given)
        module, is_lstm = module_of(prepared), self.spec.kind == "lstm"
        taking = state_parameters(module, is_lstm) if network.form.takes else ()
        # From a random h0 nothing is asked of a call without one: a class may refuse it, and the comparison makes none.
        needs = self.spec.h0 == "random" or any(each.default is each.empty for each in taking)
        outputs, first = network.form.outputs, int("y" in network.form.outputs)
        return _AsTorchs(
            self.name,
            _Adapted(module, _calling(network, prepared.spec)),
            batch_first=prepared.spec.batch_first and not self.spec.unbatched,
            roles=Roles(state=("",) if taking else (), needs_state=needs),
            y=0 if first else None,
            state=tuple(range(first, len(outputs))),
            axes=_AXES,
            says_backward=self.spec.bidirectional,
        )

    def of_torch(self) -> Recurrent:
        """torch's module, to which everything is compared."""
        module = build_module(replace(self.spec, batch_first=False))
        module.load_state_dict(self.weights)
        roles, backward = Roles(state=("",), needs_state=self.spec.h0 == "random"), self.spec.bidirectional
        return _AsTorchs(self.name, module, roles=roles, y=0, state=(1,), axes=_AXES, says_backward=backward)


_PATHS = {"state": "h", "state[0]": "h", "state[1]": "c"}
"""torch's name of each part of a state."""

_AXES = dict.fromkeys((*_PATHS, *_PATHS.values()), 1)


class _AsTorchs(Recurrent):
    """A network whose state is torch's: h, or (h, c)."""

    def read(self, result: Any) -> tuple[Values, Any]:
        values, state = super().read(result)
        return replace(values, tensors=_named(values.tensors), axes=_named(values.axes)), state


def _named(each: Any) -> dict[str, Any]:
    return {_PATHS.get(name, name): value for name, value in each.items()}


class _Adapted(nn.Module):
    """Somebody's own network, called in its own form. How it is called is no part of it, and is not copied with it."""

    def __init__(self, network: nn.Module, calling: Callable[..., Any]) -> None:
        super().__init__()
        self.network, self.calling = network, calling

    def forward(self, x: Tensor | PackedSequence, hx: Any = ()) -> Any:
        """(y, h) or (y, h, c), of which each is left out that does not come out."""
        return self.calling(self.network, x, (hx,) if isinstance(hx, Tensor) else tuple(hx))


def _calling(network: OwnNetwork, spec: Spec) -> Callable[..., Any]:
    """A function that calls a copy of a network with x in its own layout and torch's state, of whatever sizes.

    Args:
        spec: in the layout of the network. With lengths it is always called with a packed x, unbatched with one item.
    """
    left = MOST_CALLS

    def call(module: nn.Module, x: Any, state: tuple[Tensor, ...]) -> tuple[Any, ...]:
        nonlocal left
        left -= 1
        if left < 0:
            raise RnnscopeError(f"{network.name}: {MOST_CALLS} calls tell nothing")
        if isinstance(x, PackedSequence):
            return _parts(*network.as_torch(spec, network.form.call(module, x, state)))
        steps, items = (x.shape[1], x.shape[0]) if spec.batch_first and not spec.unbatched else x.shape[:2]
        if spec.unbatched:
            return _without_items(network, replace(spec, seq_len=steps), module, x, state)
        sizes = replace(spec, seq_len=steps, batch_size=items, lengths=spec.lengths and (steps,) * items)
        if spec.lengths:
            x = pack_padded_sequence(x, torch.full((items,), steps), spec.batch_first, enforce_sorted=False)
        y, last = network.as_torch(sizes, network.form.call(module, x, state))
        if isinstance(y, PackedSequence):
            y, _ = pad_packed_sequence(y, spec.batch_first)
        return _parts(y, last)

    return call


def _without_items(
    network: OwnNetwork, spec: Spec, module: nn.Module, x: Tensor, state: tuple[Tensor, ...]
) -> tuple[Any, ...]:
    """What one item gives without an axis for it, with that axis again."""
    if x.shape[1] != 1:
        raise RnnscopeError(f"{network.name}: an unbatched input is one item")
    y, last = network.as_torch(spec, network.form.call(module, x.squeeze(1), tuple(each.squeeze(1) for each in state)))
    return _parts(y if y is None else y.unsqueeze(1), tuple(each.unsqueeze(1) for each in last))


def _parts(y: Any, last: tuple[Tensor, ...]) -> tuple[Any, ...]:
    return (*(() if y is None else (y,)), *last)
