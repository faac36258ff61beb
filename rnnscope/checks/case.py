"""One module with one input, run in float64, and what rounding alone does to what comes out. Every relation asks it.

The bound has no equations to lean on. So it is measured on the module as a black box: x, the state and all parameters
are rounded at random by one unit of the arithmetic, some times, and what comes out moves. That holds whatever happens
inside: cancellation, growth over time, a division by something small. Two runs of a relation may be as far apart as
FACTOR times that.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from rnnscope.checks.module import Recurrent
from rnnscope.checks.probing import changed, needed, sized, twin
from rnnscope.checks.states import Axes, cast, cloned, is_number, mapped, numbers, of_items
from rnnscope.checks.values import Values
from rnnscope.checks.words import refused
from rnnscope.errors import RnnscopeError
from rnnscope.subjects.devices import dice_kept, seed_dice

DRAWS, FEWER_DRAWS = 4, 2
"""How often everything is rounded at random, and where two relations alone ask."""

FACTOR = 64.0
"""How many times further than the random roundings moved it may an output be. `rnnscope help check` has the figures."""

FLOOR = 4.0
"""Units in the last place of an output's greatest number in an item that it may be off anyway: it is rounded itself."""

UNITS = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
"""Unit roundoff u of each arithmetic."""

REACHED = 5
"""After so many steps at most a module has come to the state from which it is asked."""

CHAOTIC = 1e-3
"""Where rounding may move a number by such a share of the greatest one, a relation says nothing."""

COARSE = 128.0
"""Or by so many units, where the arithmetic is so coarse that this is more."""


@dataclass(frozen=True, eq=False)
class Ran:
    """What came out of a call: its values, and the state as the module has it, to be handed on."""

    values: Values
    state: Any


@dataclass(eq=False)
class Case:
    """A module in float64 with x and a state to start from.

    Args:
        recurrent: how it is called.
        module: a copy in float64, whose numbers the own dtype of the module has, too. It is never run itself.
        x: (L, N, ...), numbers that float32 has, too.
        state: from which it starts: one that the module itself has come to, or the user's; None where it takes none.
        seed: of whatever is drawn.
        dtype: float64, or float32 where the device has none.
        dtypes: in which it is run besides: its own, and the one that is asked for.
        inside: the coarser dtype to which it rounds inside; None where it does not.
        without_float64: what the module raises in float64, where it is asked in float32 for that.
        writes: whether a call writes into the parameters.
        given_lengths: of the items, where they are asked for.
        by_name: the relations that the user asks for by their names, and not with all others.
        asking: the relation for which calls are counted.
        kept: runs that several relations ask for.
    """

    recurrent: Recurrent
    module: nn.Module
    x: Tensor
    state: Any
    seed: int = 0
    dtype: torch.dtype = torch.float64
    unit: float = UNITS[torch.float64]
    given_lengths: tuple[int, ...] | None = None
    dtypes: tuple[torch.dtype, ...] = (torch.float32,)
    inside: torch.dtype | None = None
    without_float64: str = ""
    writes: bool = False
    by_name: tuple[str, ...] = ()
    asking: str = "bound"
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """L."""
        return self.x.shape[0]

    @property
    def items(self) -> int:
        """N."""
        return self.x.shape[1]

    @property
    def lengths(self) -> Tensor:
        """A length for each item: those that were asked for, or the whole, one step, and some between."""
        if self.given_lengths is not None:
            return torch.tensor(self.given_lengths)
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.randint(1, self.steps + 1, (self.items,), generator=generator)
        drawn[0] = max(1, self.steps // 2)
        if self.items > 1:
            drawn[-1] = 1
            drawn[self.items // 2] = self.steps
        return drawn

    @property
    def axes(self) -> Axes:
        return self.recurrent.axes

    @property
    def takes_state(self) -> bool:
        return self.state is not None

    def run(
        self,
        x: Tensor | None = None,
        state: Any = ...,
        *,
        on: nn.Module | None = None,
        seed: int = 0,
        as_it_is: bool = False,
        keep: bool = False,
        **others: Any,
    ) -> Ran:
        """Call a new copy of the module, and read what comes out.

        Args:
            x: (L, N, ...); the case's own without it.
            state: likewise; None leaves it out.
            on: a module that is called instead of a new copy.
            seed: of torch, Python and numpy, by which a module may roll its dice.
            as_it_is: whether x is in the module's own layout already.
            keep: whether x and the state are handed over themselves, as they lie in memory.
            others: more arguments by their names.

        Raises:
            RnnscopeError: an error of the module's.
        """
        x = self.x if x is None else x
        state = self.state if state is ... else state
        given = x if as_it_is else self.recurrent.laid_out(x)
        if keep:
            state = mapped(lambda _, each: each, state)  # other containers, with the tensors themselves in them
        else:
            given, state = given.clone(), cloned(state)
        steps, items = (x.shape[0], x.shape[1]) if x.dim() == self.x.dim() else (len(x), 1)
        if as_it_is and self.recurrent.batch_first and x.dim() == self.x.dim():
            steps, items = items, steps
        module = self.copy() if on is None else on
        result = self.call(module, given, state, seed, **self.needed(steps, items) | others)
        return Ran(*self.recurrent.read(result))

    def call(self, module: nn.Module, x: Any, state: Any, seed: int = 0, **others: Any) -> Any:
        """The result of a call of a copy, with x in its own layout, or a PackedSequence; nothing is copied."""
        self.recurrent.counted[self.asking] += 1
        with dice_kept(), default_dtype(self.dtype):
            seed_dice(seed, str(self.x.device))
            return self.recurrent.call(module, x, state, **others)

    def alone(self, item: int) -> Ran:
        """What a batch of one item gives."""
        key = f"item {item} alone"
        if key not in self.kept:
            self.kept[key] = self.run(*self.of_items([item]))
        ran: Ran = self.kept[key]
        return ran

    def needed(self, steps: int, items: int) -> dict[str, Any]:
        """The lengths, or the mask, that a module always takes: those of whole items."""
        return needed(self.recurrent, steps, items, self.x.device)

    def copy(self) -> nn.Module:
        """A new copy, that keeps nothing of the calls before. Parameters are shared, unless calls write into them."""
        return changed(self.module, torch.clone) if self.writes else twin(self.module)

    @cached_property
    def base(self) -> Ran:
        """x from the state."""
        return self.run()

    @cached_property
    def from_nothing(self) -> Ran:
        """x without a state."""
        return self.run(state=None) if self.takes_state else self.base

    @cached_property
    def allowed(self) -> Values:
        """What rounding may bring at each number of `base`."""
        return self._allowed(self.base, self.state, DRAWS)

    @cached_property
    def allowed_from_nothing(self) -> Values:
        """Likewise of `from_nothing`."""
        return self._allowed(self.from_nothing, None, FEWER_DRAWS) if self.takes_state else self.allowed

    def _allowed(self, base: Ran, state: Any, draws: int) -> Values:
        with self.asked_by("bound"):
            return allowed(base.values, self.rounded_runs(state, self.unit, draws), self.unit)

    def rounded_runs(self, state: Any, unit: float, draws: int) -> Iterator[Values]:
        """Runs with x, the state and every parameter rounded at random by a unit."""
        for draw in range(draws):
            rounding = Rounding(self.seed + draw, unit)
            module = changed(self.module, rounding)
            yield self.run(rounding(self.x), numbers(rounding, state), on=module).values

    def moved(self, what: str, unit: float) -> Values:
        """A run with x alone rounded at random by a unit, or all else."""
        rounding = Rounding(self.seed, unit)
        if what == "x":
            return self.run(rounding(self.x)).values
        return self.run(state=numbers(rounding, self.state), on=changed(self.module, rounding)).values

    @contextmanager
    def asked_by(self, relation: str) -> Iterator[None]:
        """Count the calls inside for a relation."""
        before, self.asking = self.asking, relation
        try:
            yield
        finally:
            self.asking = before

    def first(self, steps: int) -> "Case":
        """The same on the first steps alone."""
        lengths = self.given_lengths and tuple(min(each, steps) for each in self.given_lengths)
        return replace_case(self, x=self.x[:steps], given_lengths=lengths)

    def of_items(self, index: Tensor | list[int], state: Any = ...) -> tuple[Tensor, Any]:
        """x and the state of some items."""
        rows = torch.as_tensor(index).to(self.x.device)
        state = self.state if state is ... else state
        return self.x.index_select(1, rows), of_items(state, self.axes, rows)

    def other_x(self, seed: int = 1) -> Tensor:
        """Other numbers of the size of x; of whole numbers, which may stand for words, others that there are."""
        if not is_number(self.x):
            return (self.x + seed) % torch.clamp(self.x.max() + 1, min=2)
        generator = torch.Generator().manual_seed(self.seed + seed)
        drawn = torch.randn(self.x.shape, generator=generator, dtype=torch.float32)
        return self.x.abs().mean().clamp(min=0.5) * drawn.to(self.x)


def replace_case(case: Case, **changed: Any) -> Case:
    """A case with something else; what is cached in it is not taken along."""
    return replace(case, kept={}, **changed)


class Rounding:
    """Rounds numbers at random: each is multiplied by 1 + u·d, d between −1 and 1, and rounded again."""

    def __init__(self, seed: int, unit: float) -> None:
        self._generator, self._unit = torch.Generator().manual_seed(seed), unit

    def __call__(self, tensor: Tensor) -> Tensor:
        if not is_number(tensor):
            return tensor
        if tensor.is_complex():
            return torch.view_as_complex(self(torch.view_as_real(tensor).contiguous()))
        drawn = torch.rand(tensor.shape, generator=self._generator, dtype=torch.float64)
        here = tensor.detach().cpu()  # not every device has float64 to round in
        if self._unit == UNITS[torch.float64] and tensor.dtype == torch.float64:
            # One unit is half of the distance to the next number: so the next one, or the same.
            away = here * torch.where(drawn < 1 / 3, 0.5, 2.0)
            rounded = torch.where((drawn < 2 / 3) & (here != 0), torch.nextafter(here, away), here)
        else:
            rounded = (here.double() * (1 + self._unit * (2 * drawn - 1))).to(tensor.dtype)
        return rounded.to(tensor.device)


def allowed(base: Values, runs: Iterator[Values], unit: float) -> Values:
    """What rounding may bring at each number: of y (L, N, 1, ...), of a state one number for each item.

    Args:
        runs: what came out of numbers that were rounded at random.
    """
    moved: dict[str, Tensor] = {name: torch.zeros_like(_reach(each)) for name, each in base.tensors.items()}
    for run in runs:
        for name, each in base.tensors.items():
            there = run.tensors.get(name)
            if there is not None and there.shape == each.shape and is_number(each):
                moved[name] = torch.maximum(moved[name], _reach(there - each))
    found = {}
    for name, each in base.tensors.items():
        over = [axis for axis in range(each.dim()) if axis != base.axes[name] and not (name == "y" and axis == 0)]
        most = _amax(moved[name], over)
        if name == "y":  # an error that was made stays, if it does not grow
            most = most.cummax(0).values
        if (axis := base.axes[name]) is not None:  # one item may have had luck
            most = torch.maximum(most, most.mean(axis, keepdim=True))
        found[name] = FACTOR * most + FLOOR * unit * _amax(_reach(each), over)
    return Values(_as_far_as_y(found, base), base.axes)


def _as_far_as_y(found: dict[str, Tensor], base: Values) -> dict[str, Tensor]:
    """A tensor of the state with few units may have had luck in all draws: it may move by the share that y may."""
    y = base.tensors.get("y")
    if y is None or y.dim() < 2 or not y.numel() or not y.any():
        return found
    limit = found["y"].flatten(2).amax(-1) if y.dim() > 2 else found["y"]  # (L, N)
    share = (limit / _reach(y).flatten(2).amax(-1).cummax(0).values if y.dim() > 2 else limit / _reach(y)).amax(0)
    share = share.nan_to_num(nan=0.0, posinf=0.0)
    wider = dict(found)
    for name, each in base.tensors.items():
        axis = base.axes[name]
        if name != "y" and axis is not None and is_number(each) and each.numel():
            over = [other for other in range(each.dim()) if other != axis]
            size = _amax(_reach(each), over)
            shape = [1] * each.dim()
            shape[axis] = len(share)
            wider[name] = torch.maximum(found[name], size * share.reshape(shape))
    return wider


def _reach(tensor: Tensor) -> Tensor:
    """|x| in float64, infinite where it is no number."""
    return (
        tensor.abs().double().nan_to_num(nan=torch.inf, posinf=torch.inf) if is_number(tensor) else tensor.double() * 0
    )


def _amax(tensor: Tensor, axes: list[int]) -> Tensor:
    return tensor.amax(axes, keepdim=True) if axes and tensor.numel() else tensor


def trusted_steps(case: Case) -> int:
    """The first steps in which rounding moves nothing by more than CHAOTIC of the greatest number up to there."""
    y, steps = case.base.values.tensors.get("y"), case.steps
    if y is not None and y.numel():
        limit = case.allowed.tensors["y"].flatten(1).amax(1)
        size = y.abs().double().flatten(1).amax(1).cummax(0).values
        chaotic = ~(limit <= _too_far(case) * size)  # also where one of them is NaN
        if chaotic.any() and not (y == 0).all():
            steps = int(chaotic.nonzero()[0])
    if steps == 0 or _trusts_state(case if steps == case.steps else case.first(steps)):
        return steps
    return trusted_steps(case.first(steps // 2)) if steps > 1 else 0


def _too_far(case: Case) -> float:
    return max(CHAOTIC, COARSE * case.unit)


def _trusts_state(case: Case) -> bool:
    """Whether rounding moves no tensor of the state too far."""
    return all(
        bool(limit.max() <= _too_far(case) * each.abs().max()) or bool((each == 0).all())
        for name, each in case.base.values.of_state().tensors.items()
        if is_number(each) and each.numel()
        for limit in [case.allowed.tensors[name]]
    )


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """A state that a module makes itself must be of the dtype in which it is run."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def case_of(
    recurrent: Recurrent, x: Tensor, state: Any = None, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Case:
    """A module in float64, with x: (L, N, ...) and a state that the module itself comes to.

    Numbers are those that float32 has, too, so that it can be run in that on the very same ones. One that does not run
    in float64 is asked in float32.

    Raises:
        RnnscopeError: it runs in neither.
    """
    if dtype is torch.float64:
        try:
            return _case_in(recurrent, x, state, seed, dtype)
        except RnnscopeError as error:
            case = _case_in(recurrent, x, state, seed, torch.float32)
            case.without_float64 = refused(error)
            return case
    return _case_in(recurrent, x, state, seed, dtype)


def _as_exact(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy in a dtype, with numbers that float32 has, too."""
    return changed(module, lambda each: cast(cast(each, torch.float32), dtype)).eval()


def _case_in(recurrent: Recurrent, x: Tensor, state: Any, seed: int, dtype: torch.dtype, writes: bool = False) -> Case:
    module, x = _as_exact(recurrent.module, dtype), cast(cast(x, torch.float32), dtype)
    case = Case(recurrent, module, x, None, seed, dtype, UNITS[dtype], writes=writes)
    before = [each._version for each in module.parameters()]
    if recurrent.takes_state and not recurrent.merged:  # of which no item could be taken
        case.state = _reached(case) if state is None else mapped(lambda _, each: cast(each, dtype), state)
    case.base  # noqa: B018  a module may refuse the dtype, and write into its parameters
    if before != [each._version for each in module.parameters()]:
        return _case_in(recurrent, x, state, seed, dtype, writes=True)
    return case


def _reached(case: Case) -> Any:
    """The state after some steps, with numbers that float32 has, too; that at the start where none comes out."""
    start = numbers(lambda each: cast(each, case.dtype), case.recurrent.start)
    if not case.recurrent.hands_on:
        return start
    before = case.other_x(seed=2)
    try:
        state = case.run(sized(before, min(case.steps, REACHED), case.items), start).state
    except RnnscopeError:  # a module may be built for one L
        state = case.run(before, start).state
    return numbers(lambda each: cast(cast(each, torch.float32), case.dtype), state)
