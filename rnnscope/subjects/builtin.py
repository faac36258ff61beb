"""The ways of computing one network, all with one signature: a Spec, weights and input in, a network ready to call out.

A comparison runs it once. A benchmark calls it again and again.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ParamSpec

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from rnnscope.errors import RnnscopeError
from rnnscope.network.cells import MODULES, MOST_SHAPES, CompiledCells, StackedCells, without_compiler
from rnnscope.network.equations import Layer, State, Step, gru_step, lstm_step, rnn_step, walk
from rnnscope.network.shapes import Shape, cell_name, direction_parameters, tensor_shapes
from rnnscope.network.weights import Input, Weights, time_first, time_of
from rnnscope.spec.sides import check_quantized
from rnnscope.spec.spec import Spec
from rnnscope.subjects.devices import wait_for

Renamed = Callable[[Weights], Weights]
"""Gives the gradients of torch's parameters for those of a network's own."""


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """What came out: y: (L, N, D·H_out), laid out as x is, and state: (h,), or (h, c) for an LSTM.

    h: (D·K, N, H_out), c: (D·K, N, H). Where the Spec has lengths, y is padded with whatever the subject pads with.
    Somebody's own network may give y alone, or no y; then has_y is False and y is empty. `parameters` are the very
    tensors that were computed with, by the network's names. `takes_state` says whether h0 and c0 were given to it.
    """

    y: Tensor
    state: tuple[Tensor, ...]
    parameters: Weights = field(default_factory=dict)
    takes_state: bool = True
    by_torchs_names: Renamed = dict
    has_y: bool = True

    def outputs(self) -> dict[str, Tensor]:
        """The tensors by name, in the order in which they are shown: y, h and c, as far as they came out."""
        found = {"y": self.y} if self.has_y else {}
        return found | dict(zip(("h", "c"), self.state, strict=False))


Subject = Callable[[Spec, Weights, Input], Run]

Formula = Callable[[Layer, Tensor, State], State]
"""One step with the weights of its layer and direction."""

Around = Callable[[int, int, Step], Step]
"""Takes a layer, a direction and the step that is walked there, and gives the step to walk instead."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A network that has its weights, and an input that is laid out and packed as the network takes it.

    x: (L, N, H_in), or (N, L, H_in) with batch_first; packed where the Spec has lengths.

    Args:
        spec: in the layout of the network.
        hx: the one argument behind x, which is the initial state; () where the network is called without it.
        parameters: the tensors that the network computes with, by its own names.
        by_torchs_names: gives the gradients of torch's parameters for those of these.
        as_torch: makes torch's (y, h_n) or (y, (h_n, c_n)) of what the network returns, or raises an RnnscopeError.
        entered: the context in which the network must be called.
    """

    network: Callable[..., Any]
    spec: Spec
    x: Any
    hx: tuple[Any, ...]
    parameters: Weights
    by_torchs_names: Renamed = dict
    as_torch: Callable[[Any], Any] = lambda outputs: outputs
    entered: Callable[[], AbstractContextManager[None]] = nullcontext

    @property
    def call(self) -> Callable[[], Any]:
        """The bare call `network(x, hx)`, which is what a benchmark times."""
        return partial(self.network, self.x, *self.hx)

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """The tensors whose gradients are taken: x, h0, c0 and the parameters."""
        return (*tensors_of((self.x, self.hx)), *self.parameters.values())

    def with_input(self, change: Callable[[Tensor], Tensor]) -> "Prepared":
        """The same network with each tensor of its input changed."""
        return replace(self, x=_mapped(change, self.x), hx=_mapped(change, self.hx))

    def run(self) -> Run:
        """Call the network once; raise an RnnscopeError if it does not return what torch's modules return."""
        with self.entered():
            return self.run_of(self.call())

    def run_of(self, outputs: Any) -> Run:
        """What a call returned as a Run; y is padded where it was packed."""
        y, last = self.as_torch(outputs)
        if isinstance(y, PackedSequence):
            y, _ = pad_packed_sequence(y, self.spec.batch_first, total_length=self.spec.seq_len)
        wait_for(next(tensors_of(self.x)).device)
        state = last if isinstance(last, tuple) else (last,)
        has_y, y = y is not None, state[0].new_empty(0) if y is None else y
        return Run(y, state, self.parameters, bool(self.hx), self.by_torchs_names, has_y)


def tensors_of(nested: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples and lists; of a packed sequence its data."""
    if isinstance(nested, PackedSequence):
        yield nested.data
    elif isinstance(nested, Tensor):
        yield nested
    else:
        for each in nested:
            yield from tensors_of(each)


def _mapped(change: Callable[[Tensor], Tensor], nested: Any) -> Any:
    if isinstance(nested, PackedSequence):
        return nested._replace(data=change(nested.data))
    return change(nested) if isinstance(nested, Tensor) else tuple(_mapped(change, each) for each in nested)


def as_module(
    network: Callable[..., Any], spec: Spec, given: Input, parameters: Weights, takes_state: bool = True
) -> Prepared:
    """A network that is called as torch's modules are: with x packed where the Spec has lengths."""
    x: Tensor | PackedSequence = given.x
    if spec.lengths is not None:
        lengths = torch.tensor(spec.lengths, device="cpu")
        x = pack_padded_sequence(given.x, lengths, spec.batch_first, enforce_sorted=False)
    hx = given.state if spec.kind == "lstm" else given.state[0]
    return Prepared(network, spec, x, (hx,) if takes_state else (), parameters)


def prepare_module(spec: Spec, weights: Weights, given: Input) -> Prepared:
    """torch's fused module, which loops over time and layers in C++ or in cuDNN."""
    module = build_module(spec)
    module.load_state_dict(weights)  # copies, so that two subjects never share storage
    return as_module(module, spec, given, dict(module.named_parameters()))


def prepare_items(spec: Spec, weights: Weights, given: Input) -> Prepared:
    """torch's module on each item of the batch by itself: for as many steps as it has, and as a batch of one."""
    whole = prepare_module(spec, weights, given)
    if spec.unbatched:
        return whole
    module, time = whole.network, time_of(spec)
    items = [as_module(module, *item_alone(spec, given, item), {}) for item in range(spec.batch_size)]

    def one_by_one(xs: tuple[Tensor, ...], states: tuple[Any, ...]) -> list[Any]:
        return [module(x, hx) for x, hx in zip(xs, states, strict=True)]

    def as_batch(outputs: list[Any]) -> tuple[Tensor, State]:
        """y is 0 behind the end of each item."""
        before = (0, 0) * (2 - time)  # pad counts dims from the last one
        y = [nn.functional.pad(y, (*before, 0, spec.seq_len - y.shape[time])) for y, _ in outputs]
        states = zip(*(last if isinstance(last, tuple) else (last,) for _, last in outputs), strict=True)
        return torch.cat(y, 1 - time), tuple(torch.cat(each, 1) for each in states)

    x, hx = tuple(each.x for each in items), (tuple(each.hx[0] for each in items),)
    return replace(whole, network=one_by_one, x=x, hx=hx, as_torch=as_batch)


def item_alone(spec: Spec, given: Input, item: int) -> tuple[Spec, Input]:
    """An item as a batch of one, for as many steps as it has."""
    length, time = spec.length_of(item), time_of(spec)
    x = given.x.narrow(1 - time, item, 1).narrow(time, 0, length)
    alone = replace(spec, seq_len=length, batch_size=1, lengths=None)
    return alone, Input(x, tuple(each.narrow(1, item, 1).contiguous() for each in given.state))


def prepare_cells(
    spec: Spec, weights: Weights, given: Input, cells_class: type[StackedCells] = StackedCells
) -> Prepared:
    """The stack of cells, which loops in Python."""
    if spec.proj_size:
        raise RnnscopeError("nn.LSTMCell knows no projection")
    cells = build_cells(spec, cells_class)
    cells.load_state_dict({cell_name(name): each for name, each in weights.items()})
    return as_module(cells, spec, given, {cell_name(name): each for name, each in cells.named_parameters()})


def prepare_compiled(spec: Spec, weights: Weights, given: Input) -> Prepared:
    """The stack of cells with its step under torch.compile."""
    return replace(prepare_cells(spec, weights, given, CompiledCells), entered=_with_compiler)


COMPILED_FIRST = 4, 2
"""L and N at which a compiled module is called first, so that the call of the run is not the one it was compiled for;
one more where the run has the same."""

MOST_UNROLLED = 64
"""Steps of layers that may be compiled: torch.compile unrolls them, and takes about a second for each."""


def prepare_compiled_module(spec: Spec, weights: Weights, given: Input) -> Prepared:
    """torch's module under torch.compile, as a whole; dynamo is told to go into it, as it does not by itself.

    Raises:
        RnnscopeError: it has so many steps that compiling them would take many minutes.
    """
    unrolled = spec.seq_len * spec.num_layers * spec.directions
    if unrolled > MOST_UNROLLED:
        steps = MOST_UNROLLED // (spec.num_layers * spec.directions)
        raise RnnscopeError(
            f"compiled-module: torch.compile unrolls {spec.module_name}, and {unrolled} steps of layers take too long",
            f"use --seq-len {steps} or less" if steps else "make --layers smaller",
        )
    whole = prepare_module(spec, weights, given)
    compiled, is_called = torch.compile(whole.network), False

    def network(x: Any, *hx: Any) -> Any:
        nonlocal is_called
        if not is_called:
            is_called = True
            first = as_module(whole.network, *_elsewhere(spec, given), {})
            compiled(first.x, *first.hx)
        return compiled(x, *hx)

    return replace(whole, network=network, entered=_compiling_modules)


def _first_sizes(spec: Spec) -> tuple[int, int]:
    steps, items = COMPILED_FIRST
    return steps + (steps == spec.seq_len), 1 if spec.unbatched else items + (items == spec.batch_size)


def _elsewhere(spec: Spec, given: Input) -> tuple[Spec, Input]:
    """A Spec with another L and N, and zeros for it."""
    steps, items = _first_sizes(spec)
    lengths = spec.lengths and tuple(max(1, steps - item) for item in range(items))
    other = replace(spec, seq_len=steps, batch_size=items, lengths=lengths)
    x, *state = (given.x.new_zeros(each.shape) for each in tensor_shapes(other) if each.role != "output")
    return other, Input(x, tuple(state))


@contextmanager
def _compiling_modules() -> Iterator[None]:
    """Let dynamo go into nn.RNN, nn.LSTM and nn.GRU, which it otherwise leaves as they are; then as it was."""
    import torch._dynamo.config as dynamo  # not there before it is asked for

    settings: Any = {"cache_size_limit": MOST_SHAPES}  # which torch 2.6 knows by this name alone
    settings |= {"allow_rnn": True} if hasattr(dynamo, "allow_rnn") else {}
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # dynamo tells of each part that it leaves uncompiled
    try:
        with warnings.catch_warnings(), dynamo.patch(**settings), _with_compiler():
            warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
            yield
    finally:
        logging.disable(disabled)


def compiled_in_words(spec: Spec) -> tuple[str, ...]:
    """What was done to compile a module."""
    import torch._dynamo.config as dynamo

    steps, items = _first_sizes(spec)
    first = f"L = {steps}" if spec.unbatched else f"L = {steps}, N = {items}"
    told = [f"it was called at {first} first"]
    if not hasattr(dynamo, "allow_rnn"):
        return f"this torch compiles no {spec.module_name}, and runs it as it is", *told
    if spec.lengths is not None:
        told.append("a packed input breaks its graph, so that torch runs most of it uncompiled")
    allowed = "torch.compile with torch._dynamo.config.allow_rnn"
    return f"{allowed}, without which torch runs {spec.module_name} uncompiled", *told


def prepare_quantized(spec: Spec, weights: Weights, given: Input) -> Prepared:
    """torch's module in dynamic int8: weights of qint8, and what goes into each product quantized when it is there.

    Raises:
        RnnscopeError: torch has no such module, or gradients are taken, which do not come through it.
    """
    check_quantized(spec, "quantized")
    if torch.is_grad_enabled():
        raise RnnscopeError("quantized gives no gradients", "leave --grad out")
    if torch.backends.quantized.engine in (None, "none"):
        raise RnnscopeError("quantized needs an engine for int8, and this build of torch has none", "leave it out")
    module = build_module(spec)
    module.load_state_dict(weights)
    quantize: Any = torch.ao.quantization.quantize_dynamic
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that its successor is another package
        # What is given is left as it is; its children alone are quantized.
        found = quantize(nn.ModuleDict({"rnn": module}), {type(module)}, dtype=torch.qint8)["rnn"]
    return as_module(found, spec, given, {})


def in_int8(module: nn.Module) -> bool:
    """Whether a module is torch's dynamic int8 of nn.LSTM, nn.GRU, a cell or nn.Linear; its weights may be float16."""
    dynamic: Any = torch.ao.nn.quantized.dynamic
    if isinstance(module, (dynamic.modules.rnn.RNNBase, dynamic.modules.rnn.RNNCellBase, dynamic.Linear)):
        own: Any = module
        return bool(getattr(own, "dtype", getattr(own, "weight_dtype", None) or torch.qint8) == torch.qint8)
    return False


@contextmanager
def _with_compiler() -> Iterator[None]:
    """Raise an RnnscopeError where torch.compile finds no compiler."""
    try:
        yield
    except Exception as error:
        explained = without_compiler(error)
        if explained is None:
            raise
        raise explained from error


def prepare_equations(
    spec: Spec,
    weights: Weights,
    given: Input,
    formula: Formula | None = None,
    around: Around | None = None,
    walker: Callable[..., tuple[Tensor, State]] = walk,
) -> Prepared:
    """The formulas themselves, in any dtype and with projections.

    Args:
        formula: computed instead of the kind's own.
        around: gives the step to walk instead of each layer's step in each direction.
        walker: walks the steps instead of `walk`.
    """
    own = {name: each.clone().requires_grad_(torch.is_grad_enabled()) for name, each in weights.items()}
    real = None if spec.lengths is None else valid_steps(spec).unsqueeze(-1).to(given.x.device)
    dropout = partial(nn.functional.dropout, p=spec.dropout, training=spec.train) if spec.dropout else None

    def step_of(layer: int, direction: int) -> Step:
        step = partial(formula or formula_of(spec), layer_weights(spec, own, layer, direction))
        return step if around is None else around(layer, direction, step)

    steps = [[step_of(layer, direction) for direction in range(spec.directions)] for layer in range(spec.num_layers)]

    def network(x: Tensor, state: State) -> tuple[Tensor, State]:
        if spec.unbatched:
            state = tuple(each.unsqueeze(1) for each in state)
        y, last = walker(steps, time_first(spec, x), state, real, dropout)
        if spec.unbatched:
            return y.squeeze(1), tuple(each.squeeze(1) for each in last)
        return (y.transpose(0, 1) if spec.batch_first else y), last

    return Prepared(network, spec, given.x, (given.state,), own)


def formula_of(spec: Spec) -> Formula:
    """One step of the Spec's kind."""
    if spec.kind == "rnn":
        return partial(rnn_step, nonlinearity=spec.nonlinearity)
    return lstm_step if spec.kind == "lstm" else gru_step


PREPARATIONS: dict[str, Callable[[Spec, Weights, Input], Prepared]] = {
    "module": prepare_module,
    "cells": prepare_cells,
    "equations": prepare_equations,
    "compiled": prepare_compiled,
    "compiled-module": prepare_compiled_module,
    "items": prepare_items,
    "quantized": prepare_quantized,
}
"""How each subject is prepared, by the name under which --left, --right and --subjects take it."""


P = ParamSpec("P")


def _run_of(prepare: Callable[P, Prepared]) -> Callable[P, Run]:
    """A function that takes what prepares a subject, and runs it."""

    def run(*args: P.args, **options: P.kwargs) -> Run:
        return prepare(*args, **options).run()

    return run


SUBJECTS: dict[str, Subject] = {name: _run_of(prepare) for name, prepare in PREPARATIONS.items()}
"""Every subject by its name."""

run_module, run_cells = SUBJECTS["module"], SUBJECTS["cells"]

run_equations = _run_of(prepare_equations)
"""Runs the formulas, or what is given instead of them."""


def build_module(spec: Spec) -> nn.Module:
    """nn.RNN, nn.LSTM or nn.GRU of the Spec, on its device and in its dtype."""
    own: dict[str, Any] = {"nonlinearity": spec.nonlinearity} if spec.kind == "rnn" else {}
    return _built(MODULES[spec.kind], spec, **own, **({"proj_size": spec.proj_size} if spec.proj_size else {}))


def build_cells(spec: Spec, cells_class: type[StackedCells] = StackedCells) -> nn.Module:
    """The stack of cells of the Spec, on its device and in its dtype."""
    return _built(partial(cells_class, spec.kind), spec, nonlinearity=spec.nonlinearity)


def _built(make: Callable[..., nn.Module], spec: Spec, **own: Any) -> nn.Module:
    network = make(
        spec.input_size,
        spec.hidden_size,
        spec.num_layers,
        bias=spec.bias,
        batch_first=spec.batch_first,
        # torch warns of dropout in a single layer; the page of shapes says it.
        dropout=spec.dropout if spec.train and spec.num_layers > 1 else 0.0,
        bidirectional=spec.bidirectional,
        # Built on the CPU even if the caller's default device is another: no other random state is touched.
        device="cpu",
        dtype=getattr(torch, spec.dtype),
        **own,
    )
    # cuDNN computes no gradient in inference mode; without --train there is no dropout that could act.
    return network.to(spec.device).train(spec.train or torch.is_grad_enabled())


BUILDERS: dict[str, Callable[[Spec], nn.Module]] = {"module": build_module, "cells": build_cells}
"""The subjects that are an nn.Module, with torch's own initial weights."""


def layer_weights(spec: Spec, weights: Weights, layer: int, direction: int) -> Layer:
    """The weights of one layer in one direction, in the letters of the equations."""
    letters = {"weight_ih": "W_ih", "weight_hh": "W_hh", "bias_ih": "b_ih", "bias_hh": "b_hh", "weight_hr": "W_hr"}
    names = [each.name for each in direction_parameters(spec, layer, direction)]
    return Layer(**{letters[name.partition("_l")[0]]: weights[name] for name in names})


def valid_steps(spec: Spec) -> Tensor:
    """(L, N), True at the steps that each sequence has, False at the padding behind its end; N is 1 when unbatched."""
    lengths = torch.tensor(spec.lengths or [spec.seq_len] * spec.batch_size, device="cpu")
    return torch.arange(spec.seq_len, device="cpu")[:, None] < lengths[None, :]


def valid_region(spec: Spec, y: Tensor) -> Tensor:
    """In the shape of y, True at the steps that a sequence really has; on the CPU."""
    if spec.lengths is None:
        return torch.ones(y.shape, dtype=torch.bool, device="cpu")
    valid = valid_steps(spec)
    return (valid.t() if spec.batch_first else valid).unsqueeze(-1).expand(y.shape)


def other_shape(spec: Spec, outputs: dict[str, Tensor]) -> tuple[str, Shape, Shape] | None:
    """The first output of another shape than the Spec's, with its shape and the expected one; None if all are right."""
    for each in tensor_shapes(spec):
        given = outputs.get(each.name)  # somebody's own network may not give all
        if each.role == "output" and given is not None and (got := tuple(given.shape)) != each.shape:
            return each.name, got, each.shape
    return None
