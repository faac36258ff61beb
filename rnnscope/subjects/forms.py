"""How somebody's own network takes its state and what it gives back, told from its signature and from a few calls.

People write the state of a network in many layouts. Each is tried, torch's own first, on an input whose sizes all
differ. The first one is taken out of which y and every state come in shapes that fit. Values are never looked at to
choose between two functions.
"""

import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from rnnscope.network.equations import State
from rnnscope.network.shapes import OUTPUTS, Shape, outputs_of, tensor_shapes
from rnnscope.network.weights import time_of
from rnnscope.spec.spec import Spec

STATE_NAMES = re.compile("^h|hx|hidden|state|init|memory|carry", re.IGNORECASE)
"""How people name what torch calls hx."""

CELL_NAMES = re.compile("^c$|^c_|^c[0-9xt]|cell|^c.*prev", re.IGNORECASE)
"""How people name c0, where it is an argument of its own."""

_NAMES = {
    "y": ("output", "outputs", "y", "out", "ys", "last_hidden_state", "sequence", "hidden_states", "hs"),
    "h": ("h_n", "hn", "h", "hidden", "hx", "h_t", "last_hidden", "final_hidden", "hidden_state", "h_last"),
    "c": ("c_n", "cn", "c", "cell", "cx", "c_t", "last_cell", "final_cell", "cell_state", "c_last"),
    "state": ("state", "states", "final_state", "last_state", "new_state", "carry"),
}
"""How people name what comes out, the most usual name first."""

_KEYS = ("h", "c"), ("hx", "cx"), ("h0", "c0"), ("hidden", "cell")
"""The names of h and c in a dict that is needed; one that may be left out is asked from the network."""

_STEPS = 4
"""A form is tried on so many steps at most."""


@dataclass(frozen=True)
class _Layout:
    """Where the rows of a state stand: of torch's h: (D·K, N, H) into another layout, and back.

    words: how a page describes it.
    """

    into: Callable[[Tensor], Any]
    back: Callable[[Any], Tensor]
    words: str


_LAYOUTS = {
    "rows": _Layout(lambda each: each, lambda each: each, "(D·K, N, H)"),
    "one row": _Layout(lambda each: each.squeeze(0), lambda each: each.unsqueeze(0), "(N, H), without the layer dim"),
    "items first": _Layout(lambda each: each.transpose(0, 1), lambda each: each.transpose(0, 1), "(N, D·K, H)"),
    "list": _Layout(
        lambda each: list(each.unbind(0)), lambda each: torch.stack(tuple(each)), "a list with one (N, H) a layer"
    ),
}


@dataclass(frozen=True)
class Packing:
    """How a state is handed over.

    kind: "hx" is torch's, h0 or (h0, c0); "apart" is each by itself; "pairs" is one (h, c) a row; "tuple" is (h,);
    "dict" has them by names. layout: where the rows of each stand. keys: the names in a dict.
    """

    kind: str = "hx"
    layout: str = "rows"
    keys: tuple[str, ...] = ()

    def pack(self, state: State) -> tuple[Any, ...]:
        """The arguments for torch's state."""
        if self.kind == "pairs":
            return (list(zip(*(each.unbind(0) for each in state), strict=True)),)
        placed = tuple(_LAYOUTS[self.layout].into(each) for each in state)
        if self.kind == "apart":
            return placed
        if self.kind == "dict":
            return (dict(zip(self.keys, placed, strict=True)),)
        return (placed if self.kind == "tuple" or len(placed) > 1 else placed[0],)

    @property
    def in_words(self) -> str:
        """How a page describes it; "" for torch's own."""
        how = {"apart": "h and c apart", "pairs": "one (h, c) a layer", "tuple": "a tuple of one", "dict": "a dict"}
        words = [how[self.kind]] if self.kind in how else []
        words += [_LAYOUTS[self.layout].words] if self.layout != "rows" and self.kind != "pairs" else []
        return ", each ".join(words) if self.kind == "apart" else ", ".join(words)


TORCHS = Packing()


@dataclass(frozen=True, eq=False, repr=False)
class ReadResult:
    """A result as it is read: y and the state in torch's layouts, as far as they are there."""

    y: Tensor | PackedSequence | None
    state: State
    gives: Packing | None
    of_y: str = ""

    @property
    def plain_y(self) -> Tensor:
        """y as a tensor: of a packed one its data, and empty where it is not there."""
        if self.y is None:
            return torch.empty(0)
        return self.y.data if isinstance(self.y, PackedSequence) else self.y

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what is there."""
        return (*(() if self.y is None else ("y",)), *("h", "c")[: len(self.state)])


@dataclass(frozen=True)
class Form:
    """How a network is called, and how its result is read.

    Args:
        takes: how the state goes in; None where none does.
        gives: how the state comes out; None where none does.
        outputs: those of y, h and c that come out.
        of_y: what y is where it is no tensor of its own.
        is_step: whether it takes one step: x: (N, H_in), and gives y: (N, H_out).
        head: the path of a module behind the network: y is what it gets, and it is left out.
        arguments: the names of forward's arguments for the state, where they can be given by name.
        is_known: whether a call has shown it; otherwise it is called as torch's modules are.
    """

    takes: Packing | None = TORCHS
    gives: Packing | None = TORCHS
    outputs: tuple[str, ...] = OUTPUTS
    of_y: str = ""
    is_step: bool = False
    head: str = ""
    arguments: tuple[str, ...] = ()
    is_known: bool = False

    def call(self, network: nn.Module, x: Any, state: State) -> Any:
        """Call a network with torch's state; () leaves the state out."""
        packed = self.takes.pack(state) if state and self.takes else ()
        words = dict(zip(self.arguments, packed, strict=False))
        if not self.head:
            return network(x, **words) if words else network(x, *packed)
        got: list[Any] = []
        with network.get_submodule(self.head).register_forward_pre_hook(lambda _, given: got.append(given[0])):
            result = replace(self, head="").call(network, x, state)
        before = got[0] if len(got) == 1 else got
        return (before, *result[1:]) if isinstance(result, tuple) else before

    def read(self, result: Any, spec: Spec) -> ReadResult | None:
        """The result in torch's layouts; None where it has no such form."""
        found = [each for each in _ways_to_read(result, spec, self.is_step) if _is_alike(each, self)]
        return found[0] if found else None

    @classmethod
    def unknown(cls, network: nn.Module, spec: Spec) -> "Form":
        """That of torch's modules, for a network of which no call shows another."""
        arguments = state_parameters(network, spec.kind == "lstm")
        by_name = tuple(each.name for each in arguments if each.kind is not each.POSITIONAL_ONLY)
        takes = (TORCHS if len(arguments) == 1 else replace(TORCHS, kind="apart")) if arguments else None
        return cls(takes, arguments=by_name)

    def is_whole(self, spec: Spec) -> bool:
        """Whether y and every state come out."""
        return self.is_known and self.outputs == outputs_of(spec.kind)

    @property
    def is_even(self) -> bool:
        """Whether the state comes out as it goes in, but for whether h and c stand apart."""
        if self.takes is None or self.gives is None:
            return False
        one, other = (
            replace(each, kind="hx" if each.kind == "apart" else each.kind) for each in (self.takes, self.gives)
        )
        return one == other

    @property
    def adaptations(self) -> tuple[str, ...]:
        """What is other than in torch's modules, in sentences without a full stop."""
        return tuple(self._told()) if self.is_known else ()

    def _told(self) -> Iterator[str]:
        taken, given = (each.in_words if each else "" for each in (self.takes, self.gives))
        if self.takes is None and self.arguments:
            yield f"no state that torch's modules take fits its {self.arguments[0]}, so that it is called without one"
        if taken and taken == given:
            yield f"its state is {taken}, in and out"
        else:
            yield from [f"it takes its state as {taken}"] if taken else []
            yield from [f"it gives its state as {given}"] if given else []
        if self.of_y:
            yield f"y is {self.of_y}"
        if self.head:
            yield f"{self.head} is left out: what it gets is taken for the output"
        if self.gives is None:
            yield "it gives y alone, so that no state is compared"
        elif "y" not in self.outputs:
            yield "it gives no y, so that the state alone is compared"


def _is_alike(result: ReadResult, form: Form) -> bool:
    return (result.gives, result.of_y) == (form.gives, form.of_y) and result.outputs == form.outputs


def state_parameters(network: nn.Module, is_lstm: bool) -> tuple[inspect.Parameter, ...]:
    """The arguments of forward that take the state: hx, or h0 and c0; () where none does.

    It is the first one behind x with such a name, or one that has no default.
    """
    unnamed = inspect.Parameter("hx", inspect.Parameter.POSITIONAL_ONLY, default=None)
    every = arguments_of(network)
    if every is None:
        return (unnamed,)
    named = [each for each in every[1:] if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    cells = [each for each in named if is_lstm and CELL_NAMES.search(each.name)]
    found = sorted((each for each in named if STATE_NAMES.search(each.name)), key=lambda each: each in cells)
    found += [each for each in named if each.default is each.empty]
    found += [unnamed for each in every if each.kind is each.VAR_POSITIONAL]
    if not found:
        return ()
    first = found[0]
    cell = next((each for each in cells if each is not first), None)
    return (first, cell) if cell and first in named else (first,)


def unfilled(network: nn.Module, state: tuple[inspect.Parameter, ...]) -> list[str]:
    """The arguments of forward that rnnscope has nothing for."""
    return [
        each.name
        for each in (arguments_of(network) or [])[1:]
        if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD) and each.default is each.empty and each not in state
    ]


def arguments_of(network: nn.Module) -> list[inspect.Parameter] | None:
    """The arguments of forward; None for a scripted module, which has no signature."""
    try:
        return list(inspect.signature(network.forward).parameters.values())
    except (AttributeError, TypeError, ValueError):
        return None


def found_form(network: nn.Module, spec: Spec, is_step: bool = False, heads: tuple[str, ...] = ()) -> Form | None:
    """The form in which a network gives what its kind should; None where no call does.

    Args:
        spec: in the layout of the network, on its device and in its dtype.
        heads: paths of modules that may stand behind the network. One that does is left out, whatever shape it gives:
            a head may be as wide as h.
    """
    arguments = state_parameters(network, spec.kind == "lstm")
    plain = replace(Form.unknown(network, spec), is_step=is_step, is_known=True)
    for head in (*heads, ""):
        for sizes in _probes(spec, is_step):
            forms = _tried(network, sizes, replace(plain, head=head), _ways(spec, arguments, is_step), arguments)
            best = max(forms, key=lambda form: (len(form.outputs), form.is_even), default=None)
            if best and (not head or _is_behind(network, sizes, best, heads)):
                return best
    return None


def _is_behind(network: nn.Module, spec: Spec, form: Form, heads: tuple[str, ...]) -> bool:
    """Whether all of the output comes out of a head, and what this and the other ones give moves nothing before it."""

    def read() -> list[Tensor]:
        found = _read_call(network, spec, form)
        return [each for result in found for each in (result.plain_y, *result.state)]

    before = read()
    with ExitStack() as zeroed:
        for head in heads:
            zeroed.enter_context(network.get_submodule(head).register_forward_hook(lambda *called: called[-1] * 0))
        after = read()
        outputs = [_tensors_in(_result_of_call(network, spec, replace(form, head=""), seed))[:1] for seed in (0, 1)]
    return _are_equal(before, after) and outputs[0] != [] and _are_equal(*outputs)


def _tensors_in(result: Any) -> list[Tensor]:
    """The tensors of a result, in its order."""
    if isinstance(result, Tensor):
        return [result]
    parts = result.values() if isinstance(result, Mapping) else result if isinstance(result, (tuple, list)) else ()
    return [each for part in parts for each in _tensors_in(part)]


def _are_equal(some: list[Tensor], others: list[Tensor]) -> bool:
    return len(some) == len(others) and all(map(torch.equal, some, others))


def _tried(
    network: nn.Module, spec: Spec, plain: Form, ways: list[Packing | None], arguments: tuple[inspect.Parameter, ...]
) -> list[Form]:
    """The forms that fit, up to the first one that gives everything, and the state as it takes it.

    A class may run on a state in another layout than its own, where sizes are alike or a size of 1 is spread.
    """
    found, alone, ways = list[Form](), list[Form](), list(ways)
    if arguments and all(each.default is not each.empty for each in arguments):
        # What it gives is what it takes: so it is called without a state first.
        without = replace(plain, takes=None)
        for result in _read_call(network, spec, without):
            alone.append(replace(without, gives=result.gives, of_y=result.of_y, outputs=result.outputs))
            if result.gives and result.gives not in ways[:1] and _may_go_in(result.gives, arguments):
                ways = [result.gives, *ways]
    for takes in ways:  # to which a dict is added, by the names in which it comes out
        form = replace(plain, takes=takes)
        for result in _read_call(network, spec, form):
            if not _is_turned(takes, result.gives):
                found.append(replace(form, gives=result.gives, of_y=result.of_y, outputs=result.outputs))
            if result.gives and result.gives.kind == "dict" and result.gives not in ways and len(arguments) == 1:
                ways.append(result.gives)
        if any(each.is_whole(spec) and each.is_even for each in found):
            break
    return found or alone


def _is_turned(takes: Packing | None, gives: Packing | None) -> bool:
    """Whether rows and items change places between the state that goes in and the one that comes out: a fault."""
    return takes is not None and gives is not None and {takes.layout, gives.layout} == {"rows", "items first"}


def _may_go_in(packing: Packing, arguments: tuple[inspect.Parameter, ...]) -> bool:
    return (packing.kind == "apart") == (len(arguments) > 1)


def _ways(spec: Spec, arguments: tuple[inspect.Parameter, ...], is_step: bool) -> list[Packing | None]:
    """The packings to try, in this order."""
    if not arguments:
        return [None]
    rows = spec.directions * spec.num_layers
    layouts = ["rows", *["one row"] * (rows == 1), "items first", "list"]
    if is_step and rows == 1:  # a cell has no layers
        layouts = ["one row", "rows"]
    kinds = ["apart"] if len(arguments) > 1 else ["hx", *["tuple"] * (spec.kind != "lstm")]
    ways: list[Packing | None] = [Packing(kind, layout) for kind in kinds for layout in layouts]
    if spec.kind == "lstm" and len(arguments) == 1:
        ways.append(Packing("pairs", "list"))
        ways += [Packing("dict", layout, keys) for keys in _KEYS for layout in layouts]
    return ways


def _probes(spec: Spec, is_step: bool) -> Iterator[Spec]:
    """Few steps of a batch whose sizes all differ, and the Spec itself: a class may be built for its sizes."""
    rows = spec.directions * spec.num_layers
    steps = 1 if is_step else min(spec.seq_len, _STEPS)
    if not spec.unbatched:
        sizes = {spec.input_size, spec.hidden_size, spec.hidden_size * spec.directions}
        taken = {rows, steps, *sizes, 1, 2}  # h and c are two
        items = next(each for each in (spec.batch_size, *range(2, 12)) if each not in taken)
        lengths = spec.lengths and (steps, *(max(1, steps - 1 - each % steps) for each in range(items - 1)))
        yield replace(spec, seq_len=steps, batch_size=items, lengths=lengths)
    else:
        yield replace(spec, seq_len=steps)
    if not is_step:
        yield spec


def _read_call(network: nn.Module, spec: Spec, form: Form) -> list[ReadResult]:
    """What a call in a form can be read as; [] where it raises an error."""
    with suppress(Exception):
        return list(_ways_to_read(_result_of_call(network, spec, form), spec, form.is_step))
    return []


def _result_of_call(network: nn.Module, spec: Spec, form: Form, seed: int = 0) -> Any:
    """What a call in a form gives; None where it raises an error."""
    generator = torch.Generator(device="cpu").manual_seed(seed)

    def drawn(shape: Shape) -> Tensor:
        return torch.randn(shape, generator=generator).to(spec.device, getattr(torch, spec.dtype))

    shapes = {each.name: each.shape for each in tensor_shapes(spec)}
    x: Any = drawn(shapes.pop("x"))
    state = tuple(drawn(shapes[name]) for name in ("h0", "c0") if name in shapes)
    if form.is_step:
        x = x.select(time_of(spec), 0)
    elif spec.lengths is not None:
        x = pack_padded_sequence(x, torch.tensor(spec.lengths, device="cpu"), spec.batch_first, enforce_sorted=False)
    with suppress(Exception), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself will tell them
        return form.call(network, x, state)
    return None


def _ways_to_read(result: Any, spec: Spec, is_step: bool) -> Iterator[ReadResult]:
    """Everything that a result can be read as, with all shapes right; what is read as torch's comes first."""
    shapes = {each.name: each.shape for each in tensor_shapes(spec) if each.role == "output"}
    if is_step:
        shapes["y"] = tuple(size for dim, size in enumerate(shapes["y"]) if dim != time_of(spec))
    for y, raw, apart in _parts(result, spec, is_step):
        found = _y_of(y, shapes["y"], spec)
        if y is not None and found is None:
            continue
        whole, of_y = found or (None, "")
        if raw is None:
            if whole is not None:
                yield ReadResult(whole, (), None, of_y)
            continue
        for packing, state in _states(raw, shapes, spec):
            if apart:
                packing = replace(packing, kind="apart")
            if whole is None and is_step:
                yield ReadResult(state[0][-1], state, packing, of_y)
            else:
                yield ReadResult(whole, state, packing, of_y)


def _parts(result: Any, spec: Spec, is_step: bool) -> Iterator[tuple[Any, Any, bool]]:
    """Which part of a result may be y, and which one the state; whether h and c stand apart."""
    named = _named(result)
    if named:
        if named.get("state") is None and {"h", "c"} <= named.keys() and spec.kind == "lstm":
            yield named.get("y"), (named["h"], named["c"]), True
        else:
            yield named.get("y"), named.get("state", named.get("h")), False
        if "y" not in named and "h" in named:  # h of each step
            yield named["h"], None, False
    elif isinstance(result, (Tensor, PackedSequence)):
        yield (None, result, False) if is_step else (result, None, False)
        if not is_step:
            yield None, result, False
    elif isinstance(result, (tuple, list)):
        if len(result) == 1:
            yield from _parts(result[0], spec, is_step)
            return
        if not is_step and len(result) == spec.seq_len:
            yield result, None, False
        if spec.kind == "lstm" and len(result) == 3:
            yield result[0], tuple(result[1:]), True
        if len(result) == 2:
            yield result[0], result[1], False
            yield None, tuple(result), False


def _y_of(y: Any, shape: Shape, spec: Spec) -> tuple[Tensor | PackedSequence, str] | None:
    """y in torch's layout, and what it is where it is no tensor; None where its shape does not fit."""
    if isinstance(y, PackedSequence):
        is_packed = spec.lengths is not None and y.data.dim() == 2 and y.data.shape[1] == shape[-1]
        return (y, "") if is_packed else None
    if isinstance(y, Tensor):
        return (y, "") if tuple(y.shape) == shape and spec.lengths is None else None
    time = time_of(spec)
    if isinstance(y, (tuple, list)) and len(y) == spec.seq_len and len(shape) > 1 and _are_tensors(y):
        of_step = tuple(size for dim, size in enumerate(shape) if dim != time)
        if all(tuple(each.shape) == of_step for each in y):
            return torch.stack(tuple(y), time), "a list of steps"
    return None


def _states(raw: Any, shapes: dict[str, Shape], spec: Spec) -> Iterator[tuple[Packing, State]]:
    """What a state can be read as."""
    names = ("h", "c") if spec.kind == "lstm" else ("h",)
    if isinstance(raw, Mapping):
        named = _named(raw)
        if all(name in named for name in names):
            keys = tuple(next(key for key in raw if raw[key] is named[name]) for name in names)
            for packing, state in _states(tuple(named[name] for name in names), shapes, spec):
                yield replace(packing, kind="dict", keys=keys), state
        return
    is_sequence = isinstance(raw, (tuple, list))
    if spec.kind != "lstm":
        if is_sequence and len(raw) == 1:
            for layout, h in _layouts_of(raw[0], shapes["h"]):
                yield Packing("tuple", layout), (h,)
        for layout, h in _layouts_of(raw, shapes["h"]):
            yield Packing("hx", layout), (h,)
        return
    if isinstance(raw, list) and len(raw) == shapes["h"][0] and all(_is_pair(each) for each in raw):
        rows = [tuple(_layouts_of([pair[place] for pair in raw], shapes[name])) for place, name in enumerate(names)]
        if all(rows):
            yield Packing("pairs", "list"), tuple(each[0][1] for each in rows)
            if any(isinstance(each, tuple) for each in raw):  # two lists are a tuple of lists
                return
    if is_sequence and len(raw) == 2:
        for layout, h in _layouts_of(raw[0], shapes["h"]):
            yield from (
                (Packing("hx", layout), (h, c)) for of_c, c in _layouts_of(raw[1], shapes["c"]) if of_c == layout
            )
    else:
        for layout, h in _layouts_of(raw, shapes["h"]):
            yield Packing("hx", layout), (h,)


def _is_pair(each: Any) -> bool:
    return isinstance(each, (tuple, list)) and len(each) == 2


def _layouts_of(raw: Any, shape: Shape) -> Iterator[tuple[str, Tensor]]:
    """Each layout in which a tensor, or a list of them, may have a state: (D·K, N, ·), and the state itself.

    As many items as rows fit in two, of which the form that is known tells one.
    """
    if isinstance(raw, (tuple, list)):
        if len(raw) == shape[0] and _are_tensors(raw) and all(tuple(each.shape) == shape[1:] for each in raw):
            yield "list", _LAYOUTS["list"].back(raw)
        return
    if not isinstance(raw, Tensor):
        return
    got = tuple(raw.shape)
    if got == shape:
        yield "rows", raw
    if got == shape[1:] and shape[0] == 1:
        yield "one row", _LAYOUTS["one row"].back(raw)
    if len(shape) == 3 and got == (shape[1], shape[0], shape[2]):
        yield "items first", _LAYOUTS["items first"].back(raw)


def _are_tensors(each: Any) -> bool:
    return all(isinstance(one, Tensor) for one in each)


def _named(result: Any) -> dict[str, Any]:
    """y, h, c and state in a dict, a namedtuple or a dataclass, by the names that people give them."""
    if isinstance(result, PackedSequence):
        return {}
    if isinstance(result, Mapping):
        every = {str(key): value for key, value in result.items()}
    elif isinstance(result, tuple) and hasattr(result, "_asdict"):
        every = dict(result._asdict())
    elif is_dataclass(result) and not isinstance(result, type):
        every = {each.name: getattr(result, each.name) for each in fields(result)}
    else:
        return {}
    found = {}
    for what, names in _NAMES.items():
        for name in names:
            key = next((key for key in every if key.lower() == name), None)
            key = key or next((key for key in every if what == "y" and key.lower().endswith(f"_{name}")), None)
            if key is not None:
                found[what] = every[key]
                break
    return found
