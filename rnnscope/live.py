"""Two modules that are there, with weights of their own, as the sides of a comparison.

Nothing is changed in them: every run is one of a copy.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import remove_weight_norm
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from torch.nn.utils.weight_norm import WeightNorm

from rnnscope.cells import Hidden
from rnnscope.checkpoints import find_rnn
from rnnscope.devices import arithmetic, running
from rnnscope.dims import tensor_shapes
from rnnscope.errors import RnnscopeError
from rnnscope.judgement import Side
from rnnscope.own_classes import OwnNetwork, is_fused, state_parameter
from rnnscope.problems import Problem, draw_problem, rounded_weights
from rnnscope.spec import DTYPES, Spec
from rnnscope.storage import Rnn
from rnnscope.weights import Input, Weights


def live_sides(
    left: nn.Module, right: nn.Module, x: Tensor | PackedSequence, hx: Hidden | None, grad: bool
) -> tuple[Spec, Problem, Side, Side]:
    """The Spec of the network and of the input, the problem, and both sides.

    Raises:
        RnnscopeError: no network whose kind and sizes can be told, two that are not alike, or an input that does not
            fit them.
    """
    modules = {"left": left, "right": right}
    found = {role: _rnn(module) for role, module in modules.items()}
    rnns = {role: each for role, each in found.items() if isinstance(each, Rnn)}
    if not rnns:
        reason = getattr(found["left"], "message", "")
        raise RnnscopeError(
            f"no kind and sizes can be told of {type(left).__name__} or {type(right).__name__} ({reason})",
            "let one of them be nn.RNN, nn.LSTM, nn.GRU or StackedCells, or name its parameters as they do",
        )
    first = next(iter(rnns.values()))
    if any(replace(each.spec, dtype=first.spec.dtype) != first.spec for each in rnns.values()):
        raise RnnscopeError(
            " and ".join(f"{type(modules[role]).__name__} is {_told(each.spec)}" for role, each in rnns.items()),
            "compare networks of one kind and size",
        )
    layouts = [_habit(module, "batch_first", (True, False)) for module in (left, right)]
    if set(layouts) == {True, False}:
        one, other = (f"{type(each).__name__} has batch_first={layouts[n]}" for n, each in enumerate((left, right)))
        raise RnnscopeError(
            f"{one} and {other}: the same x means another input to each",
            "give one of them the layout of the other",
        )
    spec, given = _with_input(_with_habits(first.spec, (left, right)), x, hx)
    places = {role: _placed(module, spec) for role, module in modules.items()}
    dtypes = tuple(each.dtype for each in places.values())
    problem = draw_problem(places["left"], dtypes, grad, first.weights, given)
    sides = []
    for role, module in modules.items():
        # Rounded to both dtypes, or a copy in another dtype would be another network.
        own = rounded_weights(rnns[role].weights, dtypes) if role in rnns else None
        same = own is None or all(torch.equal(own[name], each) for name, each in problem.weights.items())
        name = type(module).__name__
        with running(places[role]) as placed:
            used = arithmetic(placed, is_fused(module))
        make = _copies(module, rnns[role].names if role in rnns else {}, own or {})
        network = OwnNetwork(name, make, spec.batch_first, gets_weights=False)
        sides.append(
            Side(
                role,
                name,
                placed,
                network.run,
                used,
                None if same else own,
                is_own=True,
                gets_weights=False,
                has_layers=False,
                has_steps=state_parameter(module) is not None,
            )
        )
    return places["left"], problem, sides[0], sides[1]


def _rnn(module: nn.Module) -> Rnn | RnnscopeError:
    """The one network in a module, by the names and shapes of its parameters."""
    try:
        return find_rnn(type(module).__name__, module.state_dict())
    except RnnscopeError as error:
        return error


def _told(spec: Spec) -> str:
    both = ", bidirectional" if spec.bidirectional else ""
    return f"{spec.module_name}({spec.input_size}, {spec.hidden_size}, num_layers={spec.num_layers}{both})"


def _with_habits(spec: Spec, modules: tuple[nn.Module, ...]) -> Spec:
    """What parameters do not say, as the left module says it, or else the right one."""
    layouts, kinds = (
        [found for module in modules if (found := _habit(module, name, allowed)) is not None]
        for name, allowed in (("batch_first", (True, False)), ("nonlinearity", ("tanh", "relu")))
    )
    nonlinearity = kinds[0] if kinds and spec.kind == "rnn" else "tanh"
    return replace(spec, batch_first=bool(layouts and layouts[0]), nonlinearity=nonlinearity)


def _habit(module: nn.Module, name: str, allowed: tuple[Any, ...]) -> Any:
    """What a module, or the first one in it that has an opinion, says of itself; None where there is none."""
    says = (getattr(each, name, None) for each in module.modules())
    return next((each for each in says if any(each is value or each == value for value in allowed)), None)


def _with_input(spec: Spec, x: Tensor | PackedSequence, hx: Hidden | None) -> tuple[Spec, Input]:
    """The Spec with the sizes of the input, and the input."""
    lengths = None
    if not isinstance(x, (Tensor, PackedSequence)):
        raise RnnscopeError(f"x is a {type(x).__name__}, but it must be a tensor or a packed sequence")
    if isinstance(x, PackedSequence):
        x, steps_of = pad_packed_sequence(x, spec.batch_first)
        lengths = tuple(steps_of.tolist())
    if x.dim() not in (2, 3) or 0 in x.shape:
        raise RnnscopeError(f"x has shape {tuple(x.shape)}, but it must have 3 dims, or 2 without N, none of them 0")
    steps, *batch, _ = x.transpose(0, 1).shape if spec.batch_first and x.dim() == 3 else x.shape
    size = {"batch_size": batch[0]} if batch else {"unbatched": True}
    spec = replace(spec, seq_len=steps, lengths=lengths, h0="zeros" if hx is None else "random", **size)
    state = hx if isinstance(hx, (tuple, list)) else (hx,)
    if spec.kind != "lstm" and isinstance(hx, (tuple, list)):
        raise RnnscopeError(f"hx is a {type(hx).__name__}, but {spec.module_name} takes the tensor h0")
    if hx is not None and spec.kind == "lstm" and len(state) != 2:
        raise RnnscopeError(f"hx is a {type(hx).__name__}, but nn.LSTM takes the pair (h0, c0)")
    for name, tensor in (("x", x), *(("hx", each) for each in state if hx is not None)):
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.is_meta:
            what = str(tensor.dtype) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise RnnscopeError(f"{name} is {what}, but it must be a tensor of floating-point numbers")
    shapes = [each for each in tensor_shapes(spec) if each.role != "output"]
    tensors = [x, *(torch.zeros(each.shape, device="cpu") for each in shapes[1:])] if hx is None else [x, *state]
    for expected, tensor in zip(shapes, tensors, strict=True):
        if tuple(tensor.shape) != expected.shape:
            dims = ", ".join(expected.dims)
            raise RnnscopeError(
                f"{expected.name} has shape {tuple(tensor.shape)}, but it must be ({dims}) = {expected.shape}"
            )
    return spec, Input(tensors[0], tuple(tensors[1:]))


def _placed(module: nn.Module, spec: Spec) -> Spec:
    """The Spec on the module's device and in its dtype."""
    weight = next(module.parameters(), torch.zeros(0))
    dtype = str(weight.dtype).removeprefix("torch.")
    if dtype not in DTYPES or weight.device.type not in ("cpu", "cuda"):
        raise RnnscopeError(
            f"{type(module).__name__} is in {dtype} on {weight.device}, but it must be in one of {', '.join(DTYPES)} "
            "on cpu or cuda"
        )
    return replace(spec, device=str(weight.device), dtype=dtype)


def _copies(module: nn.Module, names: dict[str, str], weights: Weights) -> Callable[[Spec], nn.Module]:
    """Copies of a module with its own weights, given as they were rounded; what is reparametrised becomes plain.

    Or a weight would be computed anew, and otherwise, in float64.
    """

    def make(spec: Spec) -> nn.Module:
        try:
            copy = deepcopy(module, _computed(module))
            _make_plain(copy)
            own = dict(copy.named_parameters(remove_duplicate=False))
            for name, weight in weights.items():
                if names[name] in own:
                    own[names[name]].data.copy_(weight)
            return copy
        except RuntimeError as error:
            raise RnnscopeError(f"{type(module).__name__} cannot be copied ({error})", "make it plain first") from error

    return make


def _computed(module: nn.Module) -> dict[int, Any]:
    """Tensors that a module keeps though they are results, which deepcopy refuses, with what to take instead."""
    kept = [value for each in module.modules() for value in (*vars(each).values(), *getattr(each, "_flat_weights", ()))]
    return {id(each): each.detach() for each in kept if isinstance(each, Tensor) and not each.is_leaf}


def _make_plain(module: nn.Module) -> None:
    """Put each weight that is reparametrised in the place of what computes it."""
    for each in list(module.modules()):
        lists: Any = each.parametrizations if is_parametrized(each) else {}
        for name in list(lists):
            lists[name] = _Plain(getattr(each, name).detach())
        for hook in list(each._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                remove_weight_norm(each, hook.name)


class _Plain(nn.Module):
    """Stands where a parametrisation was, and gives its result."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())

    def forward(self) -> Tensor:
        return self.weight
