"""Finds out how somebody's own network is built, laid out, called and given weights: an OwnNetwork that a Spec can run.

What is taken for what is said: it becomes one of the network's adaptations. Where two would fit and give different
functions, nothing is guessed, and the user is asked.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from rnnscope.errors import RnnscopeError
from rnnscope.network.cells import StackedCells
from rnnscope.network.equations import State, Step, walk
from rnnscope.network.shapes import outputs_of
from rnnscope.network.weights import Input, Weights, draw_input, draw_weights
from rnnscope.pages.page import first_of
from rnnscope.spec.sides import CELL, NOTHING_SAID, Own
from rnnscope.spec.spec import Spec
from rnnscope.subjects.building import Maker, maker_of
from rnnscope.subjects.builtin import PREPARATIONS, Prepared
from rnnscope.subjects.forms import Form, found_form
from rnnscope.subjects.matching import ambiguous
from rnnscope.subjects.own import OwnNetwork, Words, every_mapping, fill, is_fused, is_int8, loads_by_itself
from rnnscope.subjects.parameters import Mapping
from rnnscope.subjects.user_code import find_own, guarded


def prepare(subject: str, spec: Spec, weights: Weights, given: Input) -> Prepared:
    """A subject that is ready to be called: one of ours by its name, or somebody's own.

    Raises:
        RnnscopeError: a projection that the subject does not know, or an error in a class of the user's.
    """
    if subject in PREPARATIONS:
        return PREPARATIONS[subject](spec, weights, given)
    return own_network(subject, spec).prepare(spec, weights, given)


def own_network(name: str, spec: Spec, own: Own = NOTHING_SAID, role: str = "right") -> OwnNetwork:
    """The class, function or module that `FILE.py:Class` or `package.module:Class` names, as the Spec needs it.

    Args:
        own: what the user said of it.
        role: the side whose flags messages name.

    Raises:
        RnnscopeError: it cannot be found, built or called, or it is not known what its parameters stand for.
    """
    target = find_own(name)
    with guarded(name):
        maker, is_cell = _maker(name, target, spec, own, role)
        return adapted(name, maker, spec, own, role, is_cell)


def _maker(name: str, target: Any, spec: Spec, own: Own, role: str) -> tuple[Maker, bool]:
    """How a class is made, and whether it is known by now that it takes one step."""
    flag = f"--{role}-arg"
    if name.startswith(CELL):
        return maker_of(name, target, _one_cell(spec), own, flag, _shows), True
    try:
        return maker_of(name, target, spec, own, flag, _shows), False
    except RnnscopeError:
        with suppress(RnnscopeError):  # what has one layer may be a cell, which is made once for each
            maker = maker_of(name, target, _one_cell(spec), own, flag, _shows)
            if _step_form(maker, _one_cell(spec), is_said=False):
                return maker, True
        raise


def _shows(network: nn.Module, spec: Spec) -> bool:
    """Whether a network has the parameters of a Spec, though none of its arguments says so."""
    with suppress(RnnscopeError):
        return not loads_by_itself(network) and bool(every_mapping("it", network, spec, Words()))
    return False


def adapted(
    name: str, maker: Maker, spec: Spec, own: Own, role: str, is_cell: bool = False, is_named: bool = True
) -> OwnNetwork:
    """A network that its maker makes, with everything found out by which the Spec can run it.

    Args:
        is_cell: whether it is said to take one step; otherwise that is found out.
        is_named: whether it must be known what its parameters stand for; otherwise it may keep weights of its own.

    Raises:
        RnnscopeError: it cannot be called, or it is not known what its parameters stand for.
    """
    words = Words(role, tuple(own.torch_names.items()))
    found = _cell(name, maker, spec) if is_cell else _whole_or_step(name, maker, spec, own, words)
    layout = found.layout
    network = _placed(found.maker.make(spec), spec)
    hint = "" if found.form.is_known or is_cell else _hint(found.maker, network, spec, layout, role)
    choice, mapping = 0, None
    if not loads_by_itself(network) or not is_named:
        with nullcontext() if is_named else suppress(RnnscopeError):
            choice = _choice(name, network, _laid_out(spec, layout), words, found.form)
            mapping = every_mapping(name, network, spec, words)[choice]
    return OwnNetwork(
        name,
        found.maker.make,
        found.form,
        layout,
        gets_weights=is_named or mapping is not None,
        fills=is_named,
        words=words,
        mapping=mapping,
        choice=choice,
        has_layers=found.has_layers,
        is_fused=is_fused(network),
        is_int8=is_int8(network),
        adaptations=(
            *maker.adaptations,
            *found.told,
            *found.form.adaptations,
            *(mapping.adaptations if mapping else ()),
            *(_left_over(mapping, found.head) if mapping and is_named else ()),
        ),
        hint=hint,
    )


_MOST_NAMED = 4
"""A sentence names so many parameters at most."""


def _left_over(mapping: Mapping, head: str) -> Iterator[str]:
    """What is said of parameters that stand for nothing of torch's, but for those of a head that is left out."""
    names = [each for each in mapping.left_over if not head or not f".{each}".rpartition(".")[0].endswith(f".{head}")]
    if names:
        yield f"{first_of(names, _MOST_NAMED)}: torch has nothing like it, so random numbers are taken"


@dataclass(frozen=True, eq=False)
class _Found:
    """What makes a network that takes a sequence, and how it is called.

    Args:
        told: what a page says of it, beside what its form says.
        head: the path of the head in it, or in each cell.
        layout: whether its x starts with N; None where it is built as the Spec asks.
    """

    maker: Maker
    form: Form
    has_layers: bool
    told: tuple[str, ...] = ()
    head: str = ""
    layout: bool | None = None


def _one_cell(spec: Spec) -> Spec:
    return replace(spec, num_layers=1, bidirectional=False, batch_first=False, lengths=None, seq_len=1, unbatched=False)


def _laid_out(spec: Spec, layout: bool | None) -> Spec:
    return spec if layout is None or spec.unbatched else replace(spec, batch_first=layout)


def _placed(network: nn.Module, spec: Spec) -> nn.Module:
    return network.to(getattr(torch, spec.dtype)).to(spec.device).eval()


def _probe(maker: Maker, spec: Spec) -> nn.Module:
    """A network to be called, with random numbers: zeros, or whatever torch.empty left, would hide what moves what."""
    network = _placed(maker.make(spec), spec)
    fill(each for each in network.parameters() if each.is_floating_point() and not is_lazy(each))
    return network


def _layout(
    network: nn.Module, maker: Maker, spec: Spec, own: Own, role: str, form_in: Callable[[bool | None], Form | None]
) -> tuple[bool | None, tuple[str, ...]]:
    """Whether its x starts with N, None where it is built as the Spec asks; and what a page says of that.

    form_in: how it is called in a layout.
    """
    if own.batch_first is not None:
        layout, why = own.batch_first, f"as --{'' if own.batch_first else 'no-'}{role}-batch-first says"
    elif "batch_first" in maker.takes:
        return None, ()
    else:
        says = [(path, each.batch_first) for path, each in network.named_modules() if _is_switch(each, "batch_first")]
        if not says:
            layout, why = _layout_that_fits(spec, form_in)
        elif len({layout for _, layout in says}) == 1 or says[0][0] == "":
            path, layout = says[0]
            why = f"as its {path + '.' if path else ''}batch_first says"
        else:
            raise RnnscopeError(
                f"{says[0][0]} has batch_first={says[0][1]}, and others in it have not, so its layout is not known",
                f"say --{role}-batch-first or --no-{role}-batch-first",
            )
    if layout is spec.batch_first or spec.unbatched:
        return layout, ()
    return layout, (f"x and y are {'(N, L, …)' if layout else '(L, N, …)'} in it, {why}",)


def _layout_that_fits(spec: Spec, form_in: Callable[[bool | None], Form | None]) -> tuple[bool, str]:
    """The Spec's layout, unless calls show that the other one alone fits; and why it is taken."""
    other = not spec.batch_first

    def fit(layout: bool) -> int:
        """0: not at all; 1: without the state that it takes; 2: in full."""
        form = form_in(layout)
        return 0 if form is None else 1 if form.takes is None and form.arguments else 2

    as_asked = fit(spec.batch_first)
    if as_asked < 2 and not spec.unbatched and fit(other) > as_asked:
        return other, "since its shapes fit in no other layout"
    return spec.batch_first and as_asked > 0, "since it takes no batch_first"


def _hint(maker: Maker, network: nn.Module, spec: Spec, layout: bool | None, role: str) -> str:
    """What would mend a network that gives no outputs of its kind: "" where that is not known."""
    if any(isinstance(each, nn.Embedding) for each in network.modules()):
        return "x is no number of a word: name a function that returns what stands behind its embedding"
    laid_out = _laid_out(spec, layout)
    other = replace(laid_out, batch_first=not laid_out.batch_first)
    if not spec.unbatched and found_form(network, other) is not None:
        return f"its shapes fit with --{'' if other.batch_first else 'no-'}{role}-batch-first"
    lengths = (spec.seq_len, *[1] * (spec.batch_size - 1))
    if not spec.unbatched and spec.lengths is None and found_form(network, replace(laid_out, lengths=lengths)):
        return f"it takes a packed x: use --lengths {','.join(map(str, lengths))}"
    if spec.num_layers > 1 and "num_layers" in maker.takes:
        one = replace(laid_out, num_layers=1)
        network = _probe(maker, one)
        heads = _heads("it", network, one, Words())
        if any(found_form(network, replace(one, batch_first=each), heads=heads) for each in (False, True)):
            return "its shapes fit with --layers 1: of several layers it gives the last one alone"
    return ""


def _is_switch(module: nn.Module, name: str) -> bool:
    return isinstance(getattr(module, name, None), bool)


def _cell(name: str, maker: Maker, spec: Spec) -> _Found:
    """How what is said to take one step becomes a network."""
    if looped := _looped(maker, spec, is_said=True):
        return looped
    raise RnnscopeError(
        f"{name}: its forward does not take one step, x: (N, H_in) and the state, and give the next state",
        f"leave {CELL} out if it takes a sequence",
    )


def _whole_or_step(name: str, maker: Maker, spec: Spec, own: Own, words: Words) -> _Found:
    """How a network is called with a sequence, or else how what takes one step becomes a network."""
    network = _probe(maker, spec)
    heads = _heads(name, network, spec, words)

    @cache  # which layout fits and how it is called are asked of the same calls
    def form_in(layout: bool | None) -> Form | None:
        return found_form(network, _laid_out(spec, layout), heads=heads)

    layout, told = _layout(network, maker, spec, own, words.role, form_in)
    form = form_in(layout) or Form.unknown(network, spec)  # as torch's modules are where no call shows anything
    if not form.is_whole(spec) and (looped := _looped(maker, spec, is_said=False)):
        return looped
    return _Found(maker, form, {"num_layers", "input_size"} <= maker.takes, told, form.head, layout)


def _heads(name: str, network: nn.Module, spec: Spec, words: Words) -> tuple[str, ...]:
    """The paths of Linear layers that stand for nothing of torch's."""
    with suppress(RnnscopeError):
        left_over = [path for each in every_mapping(name, network, spec, words) for path in each.left_over]
        paths = dict.fromkeys(path.rpartition(".")[0] for path in left_over)
        return tuple(path for path in paths if path and isinstance(network.get_submodule(path), nn.Linear))
    return ()


def _looped(maker: Maker, spec: Spec, is_said: bool) -> _Found | None:
    """A loop over what takes one step: all layers at once, or one cell for each layer and direction."""
    told: tuple[str, ...] = ("its forward takes one step: it is called for each step in turn",)
    plain = Form(outputs=outputs_of(spec.kind))
    takes_width = "input_size" in maker.takes
    has_all = spec.directions == 1 and (spec.num_layers == 1 or "num_layers" in maker.takes)
    if has_all and (form := _step_form(maker, _time_first(spec), is_said)):
        of_all = partial(_loop_of_one, maker, form)
        return _Found(replace(maker, make=of_all), plain, takes_width, (*told, *form.adaptations), form.head)
    widths = {spec.input_size, *[spec.directions * spec.output_size] * (spec.num_layers > 1)}
    cells = spec.num_layers * spec.directions
    if (len(widths) > 1 and not takes_width) or (cells > 1 and not maker.takes):
        return None
    if form := _step_form(maker, _one_cell(spec), is_said):
        told = told if cells == 1 else (*told, f"{cells} of it are built, one for each layer and direction")
        of_each = partial(_loop_of_cells, maker, form)
        return _Found(replace(maker, make=of_each), plain, takes_width, (*told, *form.adaptations), form.head)
    return None


def _time_first(spec: Spec) -> Spec:
    return replace(spec, batch_first=False, lengths=None, seq_len=1, unbatched=False)


def _step_form(maker: Maker, spec: Spec, is_said: bool) -> Form | None:
    """How a step is called; None where it does not give what a step gives."""
    try:
        network = _probe(maker, spec)
        form = found_form(network, spec, is_step=True, heads=_heads("it", network, spec, Words()))
        if form is None or form.takes is None or not form.is_whole(spec):
            return None
        return form if _is_step(_moved_items(network, form, spec), is_said) else None
    except Exception:
        if is_said:
            raise
        return None  # it refuses to be one cell, or to take one step


def _is_step(moved: Tensor, is_said: bool) -> bool:
    """Whether N is no time along which a sequence is walked: then x of every item would move the first one's state.

    Not every item has to move: behind relu all of one may be zeros. Where it is said to be a step, one item that moves
    another is a fault.
    """
    if is_said:
        return bool(moved[1:, 1:].any())
    own = torch.eye(len(moved), dtype=torch.bool)
    return bool((moved & own).any() and not (moved & ~own).any())


def _moved_items(network: nn.Module, form: Form, spec: Spec) -> Tensor:
    """(3, 3): whether x of the item of a row moves the state of the item of a column."""
    spec = replace(spec, batch_size=3)
    given = draw_input(spec)

    def state(item: int | None) -> Tensor:
        x = given.x[0].clone()
        if item is not None:
            x[item] += 1
        with torch.no_grad():
            read = form.read(form.call(network, x, given.state), spec)
        return read.state[0] if read else x

    before = state(None)
    return torch.stack([(state(item) != before).flatten(2).any(2).any(0) for item in range(3)]).cpu()


def _loop_of_one(maker: Maker, form: Form, spec: Spec) -> nn.Module:
    return LoopedSteps(spec, [maker.make(replace(spec, batch_first=False))], form, has_layers=spec.num_layers == 1)


def _loop_of_cells(maker: Maker, form: Form, spec: Spec) -> nn.Module:
    widths = [spec.input_size] + [spec.directions * spec.output_size] * (spec.num_layers - 1)
    one = replace(spec, num_layers=1, bidirectional=False, batch_first=False)
    cells = [maker.make(replace(one, input_size=width)) for _ in range(spec.directions) for width in widths]
    return LoopedSteps(spec, cells, form, has_layers=True)


class LoopedSteps(StackedCells):
    """A loop over the steps of somebody's own cells, or of one network that steps through all its layers.

    It loops over time as StackedCells loops torch's cells. It is called as torch's modules are, and returns what they
    return: y is what each step gives, which may be another tensor than h.

    Args:
        cells: the forward cells, a layer each, then the backward ones; or the one network that has all layers.
        form: how a step is called.
        has_layers: whether each cell is one layer in one direction.
    """

    def __init__(self, spec: Spec, cells: list[nn.Module], form: Form, has_layers: bool) -> None:
        nn.Module.__init__(self)
        self.kind, self.input_size, self.hidden_size = spec.kind, spec.input_size, spec.hidden_size
        self.num_layers, self.bidirectional = spec.num_layers, spec.bidirectional
        self.nonlinearity, self.bias, self.batch_first = spec.nonlinearity, spec.bias, spec.batch_first
        self.dropout = spec.dropout if spec.train and has_layers else 0.0
        self.form, self.has_layers = form, has_layers
        layers = spec.num_layers if has_layers else 1
        self.cells, self.reverse_cells = nn.ModuleList(cells[:layers]), nn.ModuleList(cells[layers:])

    def _walk(self, x: Tensor, initial: State, real: Tensor | None) -> tuple[Tensor, State]:
        """The walk of StackedCells, in which a step gives y besides, in front of the state."""
        if not self.has_layers:  # all rows are the state of one step
            initial = tuple(each.unsqueeze(0) for each in initial)
        y0 = initial[0] if self.has_layers else initial[0][:, -1]
        y, (_, *last) = walk(self._steps(), x, (y0, *initial), real, self._between())
        return y, tuple(last if self.has_layers else (each.squeeze(0) for each in last))

    def _step(self, cell: nn.Module) -> Step:
        form = self.form

        def step(x: Tensor, state: State) -> State:
            rows = tuple(each.unsqueeze(0) if self.has_layers else each for each in state[1:])
            spec = _spec_of_step(self.kind, x.shape[-1], self.hidden_size, len(rows[0]), x.shape[0])
            read = form.read(form.call(cell, x, rows), spec)
            if read is None:
                raise ValueError(f"a step gives another form for x of shape {tuple(x.shape)}")
            last = tuple(each.squeeze(0) if self.has_layers else each for each in read.state)
            return (read.plain_y, *last)

        return step


@cache
def _spec_of_step(kind: str, input_size: int, hidden_size: int, layers: int, items: int) -> Spec:
    return Spec(
        kind=kind, input_size=input_size, hidden_size=hidden_size, num_layers=layers, seq_len=1, batch_size=items
    )


def _choice(name: str, network: nn.Module, spec: Spec, words: Words, form: Form) -> int:
    """Which mapping of its parameters is taken: the one by which x meets weight_ih alone, where several fit."""
    every = every_mapping(name, network, spec, words)
    if len(every) == 1:
        return 0
    wired = [number for number, each in enumerate(every) if _is_wired_so(network, form, spec, each)]
    if len(wired) != 1:
        raise ambiguous(name, tuple(every[number] for number in wired) or every, words.flag)
    return wired[0]


def _is_wired_so(network: nn.Module, form: Form, spec: Spec, mapping: Mapping) -> bool:
    """Whether x does nothing where every weight_ih is 0."""
    probe = deepcopy(network)
    weights = draw_weights(replace(spec, device="cpu"))
    zeros = {name: torch.zeros_like(each) if name.startswith("weight_ih") else each for name, each in weights.items()}
    mapping.write(dict(probe.named_parameters(remove_duplicate=False)), zeros)
    outputs = []
    for seed in (0, 1):
        given = draw_input(replace(spec, seed=seed, h0="zeros", lengths=None))
        with torch.no_grad():
            read = form.read(form.call(probe, given.x, given.state), replace(spec, lengths=None))
        if read is None:
            return False
        outputs.append(read.state[0] if read.state else read.plain_y)
    return torch.equal(*outputs)
