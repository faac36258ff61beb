"""Two modules with weights of their own, or one and the file of a model, as the sides of a comparison.

Only copies of modules are run.
"""

import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import remove_weight_norm
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from torch.nn.utils.weight_norm import WeightNorm

from rnnscope.errors import RnnscopeError
from rnnscope.files.checkpoints import Rnn, find_rnn
from rnnscope.files.loading import rnn_of_model
from rnnscope.network.cells import Hidden
from rnnscope.network.weights import Input, Weights, dtype_name, input_of, sizes_of
from rnnscope.spec.sides import NOTHING_SAID
from rnnscope.spec.spec import DTYPES, Spec
from rnnscope.subjects.adapting import adapted
from rnnscope.subjects.building import Maker, computed
from rnnscope.subjects.devices import running, spelled
from rnnscope.subjects.models import opened
from rnnscope.subjects.own import OwnNetwork, acts_in_training
from rnnscope.subjects.parameters import other_bias
from rnnscope.subjects.user_code import guarded
from rnnscope.verdict.evidence import Side, foreign_side, outputs_of_both, own_side
from rnnscope.verdict.problem import Problem, draw_problem, rounded_weights

Live = nn.Module | str | os.PathLike[str]
"""A module, or the name of a file that can be run."""


def live_sides(
    left: Live, right: Live, x: Tensor | PackedSequence, hx: Hidden | None, grad: bool
) -> tuple[Spec, Problem, Side, Side]:
    """The Spec of the network and of the input, the problem, and both sides, of which one may be a model's file."""
    if isinstance(left, nn.Module) and isinstance(right, nn.Module):
        spec, problem, *both = _of_modules((left, right), x, hx, grad)
    elif isinstance(left, nn.Module):
        spec, problem, *both = _with_file(left, os.fspath(right), "right", x, hx)  # type: ignore[arg-type]
    else:
        assert isinstance(right, nn.Module)
        spec, problem, *both = _with_file(right, os.fspath(left), "left", x, hx)
    one, other = both
    return spec, replace(problem, compared=outputs_of_both(one, other)), one, other


def _with_file(
    module: nn.Module, file: str, role: str, x: Tensor | PackedSequence, hx: Hidden | None
) -> tuple[Spec, Problem, Side, Side]:
    """A module, with its own weights, and the file of a model, which has a role."""
    modules, rnn = (module,), _rnn(module)
    if isinstance(rnn, RnnscopeError):  # then the file may tell what it is
        rnn = rnn_of_model(file)
    spec = _with_habits(rnn.spec, modules)
    spec, given = _with_input(spec, *_as_sequence(modules, spec, x, hx))
    place = _placed(module, spec)
    with running(place) as placed:
        other = foreign_side(role, file, opened(file, placed, None), placed)
    own = "left" if role == "right" else "right"
    network = _network(own, _names(modules)[0], module, place)
    weights, dtypes = _weights(network, place), (place.dtype, other.spec.dtype)
    problem = draw_problem(place, dtypes[:: 1 if own == "left" else -1], False, weights, given)
    one = _side(own, network, weights, place, problem)
    both = (one, other) if own == "left" else (other, one)
    return place, problem, *both


def _of_modules(
    modules: tuple[nn.Module, nn.Module], x: Tensor | PackedSequence, hx: Hidden | None, grad: bool
) -> tuple[Spec, Problem, Side, Side]:
    spec = _with_habits(_one_network(modules, [_rnn(module) for module in modules]), modules)
    spec, given = _with_input(spec, *_as_sequence(modules, spec, x, hx))
    places = [_placed(module, spec) for module in modules]
    roles = zip(("left", "right"), _names(modules), modules, places, strict=True)
    networks = [_network(*each) for each in roles]
    dtypes = tuple(each.dtype for each in places)
    own = tuple(_weights(*each) for each in zip(networks, places, strict=True))
    weights = _alike(own, networks, dtypes)
    problem = draw_problem(places[0], dtypes, grad, next(filter(None, weights)), given)
    one, other = (_side(*each, problem) for each in zip(("left", "right"), networks, weights, places, strict=True))
    return places[0], problem, one, other


def _names(modules: tuple[nn.Module, ...]) -> list[str]:
    """A name for each by its class; where both are alike, with what tells them apart."""
    names = [type(module).__name__ for module in modules]
    if len(set(names)) > 1 or len(names) == 1:
        return names
    homes = [type(module).__module__.partition(".")[0] for module in modules]
    words = homes if len(set(homes)) > 1 else ["left", "right"]
    return [f"{name} ({word})" for name, word in zip(names, words, strict=True)]


def _network(role: str, name: str, module: nn.Module, place: Spec) -> OwnNetwork:
    """A module with everything found out by which it can be run."""
    told = ("it is in training mode, and is compared in evaluation mode",) if acts_in_training(module) else ()
    maker = Maker(_copies(module), module, adaptations=told)
    with running(place) as placed, guarded(name):
        return adapted(name, maker, placed, NOTHING_SAID, role, isinstance(module, nn.RNNCellBase), is_named=False)


def _weights(network: OwnNetwork, place: Spec) -> Weights | None:
    """Its own weights by torch's names; None where they are not known."""
    if network.mapping is None:
        return None
    return network.mapping.read(dict(network.make(place).named_parameters(remove_duplicate=False)))


def _alike(
    own: tuple[Weights | None, ...], networks: list[OwnNetwork], dtypes: tuple[str, ...]
) -> tuple[Weights | None, ...]:
    """The own weights of both, where a sum of two biases and the one bias that was made of it are alike.

    Whoever has one bias has the sum, rounded. That rounding is no fault, so both get that number there. Wherever the
    sum is another number, a network is run with exactly its own: otherwise it would be another network by a rounding.
    """
    one, other = own
    if one is None or other is None or not any(network.mapping and network.mapping.folded for network in networks):
        return own
    sums, others = (rounded_weights(_folded(each, networks), dtypes) for each in (one, other))
    found = one | {}, other | {}
    for name in (each for each in one if each.startswith("bias_ih")):
        both = (name, other_bias(name))
        is_sum = torch.stack([sums[each] == others[each] for each in both]).all(0)
        for each in both:
            for weights in found:
                weights[each] = torch.where(is_sum, sums[each], weights[each].cpu().double())
    return found


def _folded(weights: Weights, networks: list[OwnNetwork]) -> Weights:
    """The same weights, with those biases alone that every network has."""
    for network in networks:
        weights = network.folded(weights)
    return weights


def _side(role: str, network: OwnNetwork, weights: Weights | None, place: Spec, problem: Problem) -> Side:
    # Rounded to the dtypes of both sides: otherwise a copy in another dtype would be another network.
    own = rounded_weights(weights, problem.dtypes) if weights else None
    same = own is None or all(torch.equal(each, problem.weights[name]) for name, each in own.items())
    with running(place) as placed:
        return own_side(role, network, placed, None if same else own)


def _as_sequence(
    modules: tuple[nn.Module, ...], spec: Spec, x: Any, hx: Any
) -> tuple[Tensor | PackedSequence, Hidden | None]:
    """x and hx for a loop over steps: what cells take for one, (N, H_in) and (N, H), is a sequence of one."""
    if all(isinstance(each, nn.RNNCellBase) for each in modules) and isinstance(x, Tensor) and x.dim() < 3:
        x = x.unsqueeze(0)
    rows = spec.directions * spec.num_layers

    def with_layers(each: Any) -> Any:
        is_row = isinstance(each, Tensor) and isinstance(x, Tensor) and rows == 1 and each.dim() == x.dim() - 1
        return each.unsqueeze(0) if is_row else each

    return x, tuple(map(with_layers, hx)) if isinstance(hx, (tuple, list)) else with_layers(hx)


def _rnn(module: nn.Module) -> Rnn | RnnscopeError:
    """The one network in a module, by the names and shapes of its parameters."""
    try:
        return find_rnn(type(module).__name__, module.state_dict())
    except RnnscopeError as error:
        return error


def _told(spec: Spec) -> str:
    facts = [f"{spec.module_name}({spec.input_size}, {spec.hidden_size}, num_layers={spec.num_layers}"]
    facts += ["bidirectional=True"] if spec.bidirectional else []
    facts += [] if spec.bias else ["bias=False"]
    facts += [f"proj_size={spec.proj_size}"] if spec.proj_size else []
    return f"{', '.join(facts)})"


def _one_network(modules: tuple[nn.Module, ...], rnns: list[Rnn | RnnscopeError]) -> Spec:
    """Kind and sizes, on which both modules must agree if both tell them."""
    names = [type(module).__name__ for module in modules]
    specs = [each.spec for each in rnns if isinstance(each, Rnn)]
    if not specs:
        reason = getattr(rnns[0], "message", "")
        raise RnnscopeError(
            f"no kind and sizes can be told of {names[0]} or {names[1]} ({reason})",
            "let one of them be nn.RNN, nn.LSTM, nn.GRU or StackedCells, or name its parameters as they do",
        )
    if any(replace(each, dtype=specs[0].dtype) != specs[0] for each in specs):
        raise RnnscopeError(
            " and ".join(f"{name} is {_told(each)}" for name, each in zip(names, specs, strict=True)),
            "compare networks of one kind and size",
        )
    return specs[0]


def _with_habits(spec: Spec, modules: tuple[nn.Module, ...]) -> Spec:
    """The layout and the nonlinearity, which parameters do not say: the left module's, otherwise the right one's."""
    layouts = [_habit(module, "batch_first", True, False) for module in modules]
    kinds = [found for module in modules if (found := _habit(module, "nonlinearity", "tanh", "relu"))]
    nonlinearity = kinds[0] if kinds and spec.kind == "rnn" else "tanh"
    layout = next((each for each in layouts if each is not None), False)
    return replace(spec, batch_first=layout, nonlinearity=nonlinearity)


def _habit(module: nn.Module, name: str, *allowed: Any) -> Any:
    """What a module, or the first one in it that has such an attribute, says of itself; None if none has."""
    says = (getattr(each, name, None) for each in module.modules())
    return next((each for each in says if isinstance(each, (bool, str)) and each in allowed), None)


def _with_input(spec: Spec, x: Tensor | PackedSequence, hx: Hidden | None) -> tuple[Spec, Input]:
    """The Spec with the sizes of the input, and the input."""
    lengths = None
    if isinstance(x, PackedSequence):
        x, steps = pad_packed_sequence(x, spec.batch_first)
        lengths = tuple(steps.tolist())
    pair = isinstance(hx, (tuple, list))
    if hx is not None and not (pair and len(hx) == 2 if spec.kind == "lstm" else not pair):
        expected = "the pair (h0, c0)" if spec.kind == "lstm" else "the tensor h0"
        raise RnnscopeError(f"hx is a {type(hx).__name__}, but {spec.module_name} takes {expected}")
    state = () if hx is None else tuple(hx) if pair else (hx,)
    tensors = {"x": x} | dict(zip(("h0", "c0"), state, strict=False))
    for name, each in tensors.items():
        if not isinstance(each, Tensor) or not each.is_floating_point() or each.is_meta:
            what = f"of {each.dtype}" if isinstance(each, Tensor) else f"a {type(each).__name__}"
            raise RnnscopeError(f"{name} is {what}, but it must be a tensor of floating-point numbers")
    facts: dict[str, Any] = sizes_of(x, spec.batch_first) | {"lengths": lengths}
    del facts["input_size"]  # the network's own stays: input_of checks x by it
    facts.setdefault("batch_size", None)
    spec = replace(spec, h0="zeros" if hx is None else "random", **facts)
    return spec, input_of(spec, tensors)


def _placed(module: nn.Module, spec: Spec) -> Spec:
    """The Spec on the module's device and in its dtype."""
    weight = next(module.parameters(), torch.zeros(0))
    dtype, device = dtype_name(weight), spelled(weight.device)
    if dtype not in DTYPES or device is None:
        raise RnnscopeError(
            f"{type(module).__name__} is in {dtype} on {weight.device}, but it must be in one of {', '.join(DTYPES)} "
            "on a CPU or an accelerator"
        )
    return replace(spec, device=device, dtype=dtype)


def _copies(module: nn.Module) -> Callable[[Spec], nn.Module]:
    """Makes copies of a module whose weights are plain parameters, to be filled with what they were rounded to.

    A parametrised weight would be computed anew in float64, with another result.
    """

    def make(spec: Spec) -> nn.Module:
        try:
            copy = deepcopy(module, computed(module))
            _make_plain(copy)
            return copy
        except RuntimeError as error:
            raise RnnscopeError(f"{type(module).__name__} cannot be copied ({error})", "make it plain first") from error

    return make


def _make_plain(module: nn.Module) -> None:
    """Replace what computes a weight by the weight itself."""
    for each in list(module.modules()):
        if is_parametrized(each):
            own: Any = each
            # The class loses its properties here, and a copy shares it with the original.
            own.__class__ = type(type(own).__name__, type(own).__bases__, dict(vars(type(own))))
            for name, parts in list(own.parametrizations.items()):
                learns = any(part.requires_grad for part in parts.parameters())
                remove_parametrizations(own, name)
                weight = getattr(own, name)
                if not isinstance(weight, nn.Parameter):  # computed without gradients, it was left as a buffer
                    delattr(own, name)
                    setattr(own, name, nn.Parameter(weight, requires_grad=learns))
        for hook in list(each._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                remove_weight_norm(each, hook.name)
