"""A subject of which only the call is left: it is built, has its weights, and its input is drawn, laid out and packed.

What a user writes as `y, h = rnn(x, h0)` is what the call does, and nothing else. Nothing is timed here.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from rnnscope.errors import RnnscopeError
from rnnscope.network.cells import cell_name
from rnnscope.network.shapes import tensor_shapes
from rnnscope.network.weights import Input, Weights
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import build_cells, build_module, item_alone, loaded_equations
from rnnscope.subjects.own import own_network


@dataclass(frozen=True, eq=False)
class Call:
    """What is called, and what gradients are taken of.

    Args:
        forward: gives the outputs, in whatever form.
        leaves: x, h0, c0 and the parameters.
        entered: where it must be called.
        check: refuses outputs that are not torch's.
        x: the input of a network that is called as torch's are.
    """

    forward: Callable[[], Any]
    leaves: tuple[Tensor, ...]
    entered: Callable[[], AbstractContextManager[None]] = nullcontext
    check: Callable[[Any], object] = lambda outputs: None
    x: Any = None


def prepared(subject: str, spec: Spec, weights: Weights, given: Input) -> Call:
    """The call of a subject; what it needs for gradients is kept where autograd records.

    Raises:
        RnnscopeError: a projection that it does not know, or whatever a class of the user's does wrong.
    """
    if subject == "equations":
        own = {name: _leaf(each) for name, each in weights.items()}
        x, state = _leaf(given.x), tuple(map(_leaf, given.state))
        return Call(partial(loaded_equations(spec, own), x, state), (x, *state, *own.values()))
    if subject in ("cells", "compiled"):
        if spec.proj_size:
            raise RnnscopeError("nn.LSTMCell knows no projection")
        return _of_cells(subject, spec, weights, given)
    if subject not in ("module", "items"):
        return _of_own(subject, spec, weights, given)
    module = build_module(spec)
    module.load_state_dict(weights)
    if subject == "module" or spec.unbatched:
        return _of_network(module, spec, given, dict(module.named_parameters()))
    alone = [_of_network(module, *item_alone(spec, given, item), {}) for item in range(spec.batch_size)]
    leaves = (*module.parameters(), *(leaf for call in alone for leaf in call.leaves))
    return Call(lambda: [call.forward() for call in alone], leaves)


def tensors_of(outputs: Any) -> Iterator[Tensor]:
    """The tensors of which outputs are made."""
    if isinstance(outputs, PackedSequence):
        yield outputs.data
    elif isinstance(outputs, Tensor):
        yield outputs
    else:
        for each in outputs:
            yield from tensors_of(each)


def with_backward(call: Call, outputs: Any) -> Callable[[], None]:
    """Forward and backward: the gradients of all leaves for one random cotangent of the outputs.

    Args:
        outputs: what the call gave before.

    Raises:
        RnnscopeError: outputs that have no gradient.
    """
    found = list(tensors_of(outputs))
    graded = [index for index, each in enumerate(found) if each.requires_grad]
    if not graded:
        raise RnnscopeError("what comes out has no gradient", "leave --grad out")
    cotangents = [torch.randn_like(found[index]) for index in graded]
    leaves = [each for each in call.leaves if each.requires_grad]  # a class of the user's may have frozen ones

    def both() -> None:
        found = list(tensors_of(call.forward()))
        torch.autograd.grad([found[index] for index in graded], leaves, cotangents, allow_unused=True)

    return both


def _of_network(
    network: Callable[..., Any], spec: Spec, given: Input, parameters: Weights, takes_state: bool = True
) -> Call:
    """A network that is called as torch's are."""
    x: Tensor | PackedSequence = _leaf(given.x)
    if spec.lengths is not None:
        lengths = torch.tensor(spec.lengths, device="cpu")
        packed = pack_padded_sequence(given.x, lengths, spec.batch_first, enforce_sorted=False)
        x = PackedSequence(_leaf(packed.data), *packed[1:])
    state = tuple(map(_leaf, given.state)) if takes_state else ()
    hx = (state if spec.kind == "lstm" else state[0],) if takes_state else ()
    return Call(partial(network, x, *hx), (*tensors_of((x, state)), *parameters.values()), x=x)


def _of_cells(subject: str, spec: Spec, weights: Weights, given: Input) -> Call:
    cells = build_cells(spec)
    if subject == "compiled":
        from rnnscope.network.cells import CompiledCells

        cells = build_cells(spec, CompiledCells)
    cells.load_state_dict({cell_name(name): each for name, each in weights.items()})
    return _of_network(cells, spec, given, dict(cells.named_parameters()))


def _of_own(subject: str, spec: Spec, weights: Weights, given: Input) -> Call:
    network = own_network(subject, spec)
    with network.entered(spec):
        ready = network.ready(spec, weights, given)
    call = _of_network(ready, ready.spec, ready.given, ready.parameters, ready.takes_state)

    def check(outputs: Any) -> None:
        found = network.checked(outputs, call.x, ready.spec)
        formulas = [each for each in tensor_shapes(ready.spec) if each.role == "output"]
        for each, tensor in zip(formulas, tensors_of(found), strict=True):
            if spec.lengths is not None and each.name == "y":  # packed, which is another shape
                continue
            if tuple(tensor.shape) != each.shape:
                got = tuple(tensor.shape)
                raise RnnscopeError(f"{subject} returned {each.name} of shape {got}, and torch's is {each.shape}")

    return replace(call, entered=partial(network.entered, spec), check=check)


def _leaf(tensor: Tensor) -> Tensor:
    """A copy, of which autograd takes the gradient where it records."""
    return tensor.detach().clone().requires_grad_(torch.is_grad_enabled())
