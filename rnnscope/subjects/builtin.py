"""The ways of computing one network, all with one signature: a Spec, weights and input in, a Run out.

Where it runs is devices.py's business, and what comes out is judged elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from rnnscope.network.cells import MODULES, StackedCells, cell_name
from rnnscope.network.equations import Layer, State, Step, gru_step, lstm_step, rnn_step, walk
from rnnscope.network.shapes import direction_parameters
from rnnscope.network.weights import Input, Weights
from rnnscope.spec.spec import Spec


@dataclass(frozen=True)
class Run:
    """What came out: y: (L, N, D·H_out), laid out as x is, and state: (h,), or (h, c) for an LSTM.

    h: (D·K, N, H_out), c: (D·K, N, H). Where the Spec has lengths y is padded, with whatever the subject pads with.
    `parameters` are the very tensors that were computed with, by torch's names. `takes_state`: whether h0 and c0 can be
    given at all.
    """

    y: Tensor
    state: tuple[Tensor, ...]
    parameters: Weights = field(default_factory=dict)
    takes_state: bool = True

    def outputs(self) -> dict[str, Tensor]:
        """The tensors by name, in the order in which they are shown: y, h and c."""
        return {"y": self.y} | dict(zip(("h", "c"), self.state, strict=False))


Subject = Callable[[Spec, Weights, Input], Run]

Formula = Callable[[Layer, Tensor, State], State]
"""One step with the weights of its layer and direction, as in equations.py."""

Around = Callable[[int, int, Step], Step]
"""Given a layer, a direction and the step that is walked there, another one."""


def run_module(spec: Spec, weights: Weights, given: Input) -> Run:
    """torch's fused module, which loops over time and layers in C++ or in cuDNN."""
    module = build_module(spec)
    module.load_state_dict(weights)  # copies, so that two subjects never share storage
    return call(module, spec, given, dict(module.named_parameters()))


def run_items(spec: Spec, weights: Weights, given: Input) -> Run:
    """torch's module on each item of the batch by itself: for as many steps as it has, and as a batch of one."""
    module = build_module(spec)
    module.load_state_dict(weights)
    parameters: Weights = dict(module.named_parameters())
    if spec.unbatched:
        return call(module, spec, given, parameters)
    runs = [_run_item(module, spec, given, item) for item in range(spec.batch_size)]
    states = zip(*(run.state for run in runs), strict=True)
    y = torch.cat([run.y for run in runs], 0 if spec.batch_first else 1)
    return Run(y, tuple(torch.cat(each, 1) for each in states), parameters)


def _run_item(module: nn.Module, spec: Spec, given: Input, item: int) -> Run:
    """y is 0 behind the item's end."""
    alone, own = item_alone(spec, given, item)
    run = call(module, alone, own, {})
    behind = (0, 0) * (1 if spec.batch_first else 2) + (0, spec.seq_len - alone.seq_len)
    return replace(run, y=nn.functional.pad(run.y, behind))


def item_alone(spec: Spec, given: Input, item: int) -> tuple[Spec, Input]:
    """An item as a batch of one, for as many steps as it has."""
    length = spec.length_of(item)
    time, items = (1, 0) if spec.batch_first else (0, 1)
    x = given.x.narrow(items, item, 1).narrow(time, 0, length)
    alone = replace(spec, seq_len=length, batch_size=1, lengths=None)
    return alone, Input(x, tuple(each.narrow(1, item, 1).contiguous() for each in given.state))


def run_cells(spec: Spec, weights: Weights, given: Input) -> Run:
    """The stack of cells, which loops in Python."""
    return _run_stack(build_cells(spec), spec, weights, given)


def run_compiled(spec: Spec, weights: Weights, given: Input) -> Run:
    """The stack of cells with its step under torch.compile."""
    from rnnscope.network.cells import CompiledCells, without_compiler

    try:
        return _run_stack(build_cells(spec, CompiledCells), spec, weights, given)
    except Exception as error:
        explained = without_compiler(error)
        if explained is None:
            raise
        raise explained from error


def _run_stack(cells: StackedCells, spec: Spec, weights: Weights, given: Input) -> Run:
    cells.load_state_dict({cell_name(name): each for name, each in weights.items()})
    return call(cells, spec, given, {cell_name(name): each for name, each in cells.named_parameters()})


def run_equations(
    spec: Spec,
    weights: Weights,
    given: Input,
    formula: Formula | None = None,
    around: Around | None = None,
    walker: Callable[..., tuple[Tensor, State]] = walk,
) -> Run:
    """The formulas themselves, in any dtype; projections too.

    Args:
        formula: computed instead of the kind's own.
        around: given each layer's step in each direction, it gives the one that is walked.
        walker: walks them instead of `walk`.
    """
    own = {name: each.clone().requires_grad_(torch.is_grad_enabled()) for name, each in weights.items()}
    return Run(*loaded_equations(spec, own, formula, around, walker)(given.x, given.state), own)


def loaded_equations(
    spec: Spec,
    weights: Weights,
    formula: Formula | None = None,
    around: Around | None = None,
    walker: Callable[..., tuple[Tensor, State]] = walk,
) -> Callable[[Tensor, State], tuple[Tensor, State]]:
    """The formulas with these very weights as a network: given x, laid out as the Spec says, and the initial state."""
    real = None if spec.lengths is None else valid_steps(spec).unsqueeze(-1).to(next(iter(weights.values())).device)
    dropout = partial(nn.functional.dropout, p=spec.dropout, training=spec.train) if spec.dropout else None
    steps = _steps(spec, weights, formula or formula_of(spec))
    if around is not None:
        steps = [[around(k, d, step) for d, step in enumerate(layer)] for k, layer in enumerate(steps)]

    def network(x: Tensor, state: State) -> tuple[Tensor, State]:
        if spec.unbatched:
            y, last = walker(steps, x.unsqueeze(1), tuple(each.unsqueeze(1) for each in state), real, dropout)
            return y.squeeze(1), tuple(each.squeeze(1) for each in last)
        y, last = walker(steps, x.transpose(0, 1) if spec.batch_first else x, state, real, dropout)
        return (y.transpose(0, 1) if spec.batch_first else y), last

    return network


def formula_of(spec: Spec) -> Formula:
    """One step of the Spec's kind."""
    if spec.kind == "rnn":
        return partial(rnn_step, nonlinearity=spec.nonlinearity)
    return lstm_step if spec.kind == "lstm" else gru_step


SUBJECTS: dict[str, Subject] = {
    "module": run_module,
    "cells": run_cells,
    "equations": run_equations,
    "compiled": run_compiled,
    "items": run_items,
}
"""Every subject by the name under which --left and --right take it."""


def build_module(spec: Spec) -> nn.Module:
    """nn.RNN, nn.LSTM or nn.GRU of the Spec, on its device and in its dtype."""
    options = _options(spec) | ({"proj_size": spec.proj_size} if spec.proj_size else {})
    if spec.kind == "rnn":
        options["nonlinearity"] = spec.nonlinearity
    module: nn.Module = MODULES[spec.kind](spec.input_size, spec.hidden_size, spec.num_layers, **options)
    return module.to(spec.device).train(_mode(spec))


def build_cells(spec: Spec, cells_class: type[StackedCells] = StackedCells) -> StackedCells:
    """The stack of cells of the Spec, on its device and in its dtype."""
    options = _options(spec) | {"nonlinearity": spec.nonlinearity}
    cells = cells_class(spec.kind, spec.input_size, spec.hidden_size, spec.num_layers, **options)
    return cells.to(spec.device).train(_mode(spec))


BUILDERS: dict[str, Callable[[Spec], nn.Module]] = {"module": build_module, "cells": build_cells}
"""The subjects that are an nn.Module, with torch's own initial weights."""


def call(network: Callable[..., Any], spec: Spec, given: Input, parameters: Weights, with_state: bool = True) -> Run:
    """Call a network as torch's modules are called; packed where the Spec has lengths, and unpacked again."""
    x: Tensor | PackedSequence = given.x
    if spec.lengths is not None:
        lengths = torch.tensor(spec.lengths, device="cpu")
        x = pack_padded_sequence(given.x, lengths, spec.batch_first, enforce_sorted=False)
    state = given.state if spec.kind == "lstm" else given.state[0]
    y, last = network(x, state) if with_state else network(x)
    if isinstance(y, PackedSequence):
        y, _ = pad_packed_sequence(y, spec.batch_first, total_length=spec.seq_len)
    if y.is_cuda:
        torch.cuda.synchronize(y.device)
    return Run(y, last if isinstance(last, tuple) else (last,), parameters)


def layer_weights(spec: Spec, weights: Weights, layer: int, direction: int) -> Layer:
    """The weights of one layer in one direction, in the letters of the equations."""
    letters = {"weight_ih": "W_ih", "weight_hh": "W_hh", "bias_ih": "b_ih", "bias_hh": "b_hh", "weight_hr": "W_hr"}
    names = [each.name for each in direction_parameters(spec, layer, direction)]
    return Layer(**{letters[name.partition("_l")[0]]: weights[name] for name in names})


def valid_steps(spec: Spec) -> Tensor:
    """(L, N), True at the steps that each sequence has by its length, False at the padding behind its end."""
    lengths = torch.tensor(spec.lengths, device="cpu")
    return torch.arange(spec.seq_len, device="cpu")[:, None] < lengths[None, :]


def valid_region(spec: Spec, y: Tensor) -> Tensor:
    """In the shape of y, True at the steps that a sequence really has; on the CPU."""
    if spec.lengths is None:
        return torch.ones(y.shape, dtype=torch.bool, device="cpu")
    valid = valid_steps(spec)
    return (valid.t() if spec.batch_first else valid).unsqueeze(-1).expand(y.shape)


def _mode(spec: Spec) -> bool:
    # cuDNN computes no gradient in inference mode; without --train there is no dropout that it could let act.
    return spec.train or torch.is_grad_enabled()


def _options(spec: Spec) -> dict[str, Any]:
    return {
        "bias": spec.bias,
        "batch_first": spec.batch_first,
        # torch warns of dropout in a single layer; the page of shapes says it.
        "dropout": spec.dropout if spec.train and spec.num_layers > 1 else 0.0,
        "bidirectional": spec.bidirectional,
        # Built on the CPU even where the caller's default device is another: no other random state is touched.
        "device": "cpu",
        "dtype": getattr(torch, spec.dtype),
    }


def _steps(spec: Spec, weights: Weights, formula: Formula) -> list[list[Step]]:
    """The formula of each layer in each direction, with its weights."""
    return [
        [partial(formula, layer_weights(spec, weights, layer, direction)) for direction in range(spec.directions)]
        for layer in range(spec.num_layers)
    ]
