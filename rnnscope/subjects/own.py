"""Somebody's own network as a subject: found by its name, built as the Spec asks, given weights, called as torch's."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from rnnscope.errors import RnnscopeError
from rnnscope.network.shapes import cell_name, parameters
from rnnscope.network.weights import Input, Weights, dtype_name
from rnnscope.spec.flags import nearest
from rnnscope.spec.spec import DTYPES, SPEC_FLAGS, Spec
from rnnscope.subjects.builtin import PREPARATIONS, Prepared, Run, as_module
from rnnscope.subjects.user_code import find_own, guarded

_DEFAULTS: dict[str, Any] = dict(
    num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False, proj_size=0, nonlinearity="tanh"
)
"""torch's arguments that a class may leave out, with the value that it must then follow."""

_STATE = re.compile("^h|hx|hidden|state|init|memory|carry", re.IGNORECASE)
"""How people name what torch calls hx."""

_MOST_NAMED = 8
"""A message names so many parameters at most."""


def prepare(subject: str, spec: Spec, weights: Weights, given: Input) -> Prepared:
    """A subject that is ready to be called: one of ours by its name, or somebody's own.

    Raises:
        RnnscopeError: a projection that the subject does not know, or an error in a class of the user's.
    """
    if subject in PREPARATIONS:
        return PREPARATIONS[subject](spec, weights, given)
    return own_network(subject, spec).prepare(spec, weights, given)


def own_network(name: str, spec: Spec) -> "OwnNetwork":
    """The class, function or module that `FILE.py:Class` or `package.module:Class` names.

    Raises:
        RnnscopeError: it cannot be found or built, or does not do what the Spec needs.
    """
    target = find_own(name)
    if not callable(target):
        raise RnnscopeError(f"{name} is of type {type(target).__name__}, but it must be a class or a function")
    is_module = isinstance(target, nn.Module)
    takes: set[str] = set() if is_module else _arguments(name, target)

    def make(spec: Spec) -> Any:
        # torch's modules themselves refuse an argument that only another kind has.
        refused = ({"nonlinearity"} if spec.kind != "rnn" else set()) | (set() if spec.proj_size else {"proj_size"})
        made = target if is_module else target(**{each: _value(each, spec) for each in takes - refused})
        return made if inspect.isclass(target) else deepcopy(made)  # a function may return what others use too

    with guarded(name):
        network = make(spec)
        if not isinstance(network, nn.Module):
            raise RnnscopeError(f"{name} made a {type(network).__name__}, but it must make an nn.Module")
        for each in _DEFAULTS:
            if each not in takes and (each != "dropout" or spec.train):
                _check_left_out(name, network, each, spec, takes_any=bool(takes))
        layout, layers = None if "batch_first" in takes else spec.batch_first, {"num_layers", "input_size"} <= takes
        steps = state_parameter(network) is not None
        return OwnNetwork(name, make, layout, has_layers=layers, has_steps=steps, is_fused=is_fused(network))


def _arguments(name: str, target: Callable[..., Any]) -> set[str]:
    """Which of torch's arguments a class or function takes."""
    known = {"input_size", "hidden_size", *_DEFAULTS}
    try:
        signature = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return known
    plain = [each for each in signature if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
    if odd := [each.name for each in plain if each.default is each.empty and each.name not in known]:
        mend = (
            f"give {'it a default' if len(odd) == 1 else 'them defaults'}, or name a function that returns the module"
        )
        raise RnnscopeError(f"{name} needs {', '.join(odd)}, which rnnscope does not know", mend)
    if any(each.kind is each.VAR_KEYWORD for each in signature):
        return known
    return {each.name for each in plain if each.kind is not each.POSITIONAL_ONLY} & known


def _value(argument: str, spec: Spec) -> Any:
    return getattr(spec, argument) if argument != "dropout" or (spec.train and spec.num_layers > 1) else 0.0


def _check_left_out(name: str, network: nn.Module, argument: str, spec: Spec, takes_any: bool) -> None:
    """Raise unless a network does what the Spec needs without being told by an argument.

    A network that takes no arguments at all may do anything, so only what it says of itself is checked.
    """
    value, flag = _value(argument, spec), SPEC_FLAGS[argument]
    has = getattr(network, argument, None)
    if type(has) is type(value):
        if has != value:
            words = " ".join(flag.as_typed(has)) if has else f"leave {flag.name} out"
            raise RnnscopeError(f"{name} has {argument}={has} and takes no other", f"use {words}" if has else words)
    elif value != _DEFAULTS[argument] and takes_any:
        mend = "leave it out, or name a function that returns such a module"
        if value == flag.default:
            mend = f"use {' '.join(flag.as_typed(_DEFAULTS[argument]))}"
        raise RnnscopeError(f"{name} takes no {argument}, and {' '.join(flag.as_typed(value))} needs it", mend)


@dataclass(frozen=True, eq=False)
class OwnNetwork:
    """A network of the user's, whose `run` is a subject.

    Args:
        name: its name in messages.
        make: builds or copies it for a Spec.
        batch_first: its layout, unless it has an attribute batch_first; None if it is built as the Spec asks.
        gets_weights: whether it is given weights; otherwise it has its own.
        names: the paths of its weights by torch's names, where they are known; None where its names are searched.
        has_layers: whether it can be built with one layer.
        has_steps: whether it takes a state.
        is_fused: whether a module of torch's computes in it.
    """

    name: str
    make: Callable[[Spec], nn.Module]
    batch_first: bool | None
    gets_weights: bool = True
    names: dict[str, str] | None = None
    has_layers: bool = False
    has_steps: bool = True
    is_fused: bool = False

    def run(self, spec: Spec, weights: Weights, given: Input) -> Run:
        """Build it, give it the weights and call it: without hx where h0 is zeros and hx may be left out.

        In float64, on which the verdict rests, it is first called with zeros. Otherwise it would never show what a
        class keeps from one call to the next.

        Raises:
            RnnscopeError: whatever is wrong with it, or an error of the user's.
        """
        prepared = self.prepare(spec, weights, given)
        if spec.dtype == "float64":
            with torch.no_grad():
                prepared.with_input(torch.zeros_like).run()
        return called(prepared, spec)

    def run_once(self, spec: Spec, weights: Weights, given: Input) -> Run:
        """`run` without a call before it, in float64 too."""
        return called(self.prepare(spec, weights, given), spec)

    @contextmanager
    def entered(self, spec: Spec) -> Iterator[None]:
        """Where the user's code runs; in float64 a state that the class makes must be float64 too."""
        with guarded(self.name):
            if spec.dtype == "float64":
                torch.set_default_dtype(torch.float64)
            yield

    def prepare(self, spec: Spec, weights: Weights, given: Input) -> Prepared:
        """Build it and give it the weights; its input is in its own layout.

        Raises:
            RnnscopeError: parameters that are not named or shaped as torch's are, or no argument that takes hx.
        """
        with self.entered(spec):
            network = self.make(spec).to(spec.device, getattr(torch, spec.dtype))
            # Copies: a class that changes what it is given must not change it for the other side.
            given = Input(given.x.clone(), tuple(each.clone() for each in given.state))
            if self.gets_weights:
                self._load(network, spec, {name: each.clone() for name, each in weights.items()})
            _set_mode(network, spec)
            state = state_parameter(network)
            if state is None and spec.h0 == "random":
                mend = "name an argument hx, or leave hx out (--h0 zeros, and no --resync)"
                raise RnnscopeError(f"{self.name}: its forward takes no hx", mend)
            if unfilled := _unfilled(network, state):
                called_as = "forward(x, hx), where hx is (h0, c0)" if spec.kind == "lstm" else "forward(x, hx)"
                mend = f"it is called as {called_as}: give all else a default"
                raise RnnscopeError(f"{self.name}: its forward needs {', '.join(unfilled)} besides", mend)
            takes_state = state is not None and (spec.h0 == "random" or state.default is state.empty)
            layout = spec.batch_first if self.batch_first is None else getattr(network, "batch_first", self.batch_first)
            placed = spec
            if not spec.unbatched and layout is (not spec.batch_first):
                placed, given = replace(spec, batch_first=layout), Input(given.x.transpose(0, 1), given.state)
            call: Callable[..., Any] = network
            if takes_state and state is not None and state.kind is not state.POSITIONAL_ONLY:
                call = partial(_by_keyword, network, state.name)
            prepared = as_module(call, placed, given, parameters_by_name(network, spec), takes_state)
            return replace(prepared, as_torch=partial(self._as_torch, spec), entered=partial(self.entered, spec))

    def _load(self, network: nn.Module, spec: Spec, weights: Weights) -> None:
        if self.names is not None:
            state = network.state_dict()
            for name, weight in weights.items():
                state[self.names[name]].copy_(weight)
            return
        if type(network).load_state_dict is not nn.Module.load_state_dict:  # it knows how its weights are named
            network.load_state_dict(dict(weights))
            return
        own = dict(network.named_parameters(remove_duplicate=False))
        names = nearest_names(own, spec)
        missing, unexpected = names.keys() - own.keys(), own.keys() - names.keys()
        if missing or unexpected:
            found = filter(None, [_named("missing", missing, unexpected), _named("unexpected", unexpected, set())])
            raise RnnscopeError(
                f"{self.name}: its parameters are not named as torch's or StackedCells' are: {'; '.join(found)}",
                "rename them, or give the class a load_state_dict of its own that takes torch's names",
            )
        for each, name in names.items():
            got, given = tuple(own[each].shape), tuple(weights[name].shape)
            if got != given:
                wrong = f"{self.name}: {each} has shape {got}, but {name} is {given}"
                raise RnnscopeError(wrong, "build it in that size")
        network.load_state_dict({each: weights[name] for each, name in names.items()}, strict=False)

    def _as_torch(self, spec: Spec, result: Any) -> tuple[Any, tuple[Tensor, ...]]:
        """y and the tuple of states, if the result has the form that torch's modules return."""
        is_lstm, output = spec.kind == "lstm", PackedSequence if spec.lengths else Tensor
        if isinstance(result, (tuple, list)) and len(result) == 2 and isinstance(result[0], output):
            y, last = result
            state = tuple(last) if is_lstm and isinstance(last, (tuple, list)) else (last,)
            if len(state) == 1 + is_lstm and all(isinstance(each, Tensor) for each in state):
                for tensor in (y.data, *state):
                    dtype, layout = dtype_name(tensor), str(tensor.layout).removeprefix("torch.")
                    what = "meta" if tensor.is_meta else layout if layout != "strided" else dtype
                    if what not in DTYPES:
                        allowed = f"return one of {', '.join(DTYPES)}"
                        raise RnnscopeError(f"{self.name} returned a tensor that is {what}", allowed)
                return y, state
        expected = f"({'a packed output' if spec.lengths else 'output'}, {'(h_n, c_n)' if is_lstm else 'h_n'})"
        raise RnnscopeError(f"{self.name} returned {_form(result)}, but {spec.module_name} returns {expected}")


def is_fused(network: nn.Module) -> bool:
    """Whether nn.RNN, nn.LSTM or nn.GRU computes in it."""
    return any(isinstance(each, nn.RNNBase) for each in network.modules())


def state_parameter(network: nn.Module) -> inspect.Parameter | None:
    """The argument of forward that takes hx: the first one behind x with such a name, or one that has no default."""
    unnamed = inspect.Parameter("hx", inspect.Parameter.POSITIONAL_ONLY, default=None)
    try:
        every = list(inspect.signature(network.forward).parameters.values())
    except (AttributeError, TypeError, ValueError):  # a scripted module has no signature
        return unnamed
    named = [each for each in every[1:] if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    found = [each for each in named if _STATE.search(each.name)]
    found += [each for each in named if each.default is each.empty]
    found += [unnamed for each in every if each.kind is each.VAR_POSITIONAL]
    return found[0] if found else None


def _unfilled(network: nn.Module, state: inspect.Parameter | None) -> list[str]:
    """The arguments of forward that rnnscope has nothing for."""
    try:
        every = list(inspect.signature(network.forward).parameters.values())
    except (AttributeError, TypeError, ValueError):  # a scripted module has no signature
        return []
    return [
        each.name
        for each in every[1:]
        if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD) and each.default is each.empty and each != state
    ]


def called(prepared: Prepared, spec: Spec) -> Run:
    """What one more call gives, in the Spec's layout. Copies: a class may return a buffer that it writes into again."""
    run = prepared.run()
    y = run.y if prepared.spec.batch_first is spec.batch_first else run.y.transpose(0, 1)
    return replace(run, y=y.clone(), state=tuple(each.clone() for each in run.state))


def module_of(prepared: Prepared) -> nn.Module:
    """The network itself."""
    network: Any = prepared.network
    module: nn.Module = network.args[0] if isinstance(network, partial) else network
    return module


def _by_keyword(network: nn.Module, name: str, x: Any, hx: Any) -> Any:
    return network(x, **{name: hx})


def _set_mode(network: nn.Module, spec: Spec) -> None:
    network.train(spec.train)
    if torch.is_grad_enabled() and not spec.train:
        for each in network.modules():
            if isinstance(each, nn.RNNBase):  # cuDNN computes no gradient in inference mode
                each.dropout = 0.0
                each.train()


def _form(result: Any) -> str:
    """A result by its form: "(Tensor, (Tensor, Tensor))"."""
    if isinstance(result, (tuple, list)) and len(result) < 5:
        return f"({', '.join(map(_form, result))})"
    return type(result).__name__


def nearest_names(own: Iterable[str], spec: Spec) -> dict[str, str]:
    """torch's name of each parameter that a network should have, by the network's own name.

    The names may be those of torch's modules, of StackedCells, of a list of cells or of a single cell, with a prefix
    in common. The form with most of the network's names is taken.
    """
    expected = [each.name for each in parameters(spec)]
    forms = [{name: name for name in expected}]
    if not spec.proj_size:
        forms.append({cell_name(name): name for name in expected})
        if spec.directions == 1:
            forms.append({cell_name(name).removeprefix("cells."): name for name in expected})
        if spec.num_layers == spec.directions == 1:
            forms.append({name.removesuffix("_l0"): name for name in expected})
    found = {name[: -len(each)] for name in own for form in forms for each in form if name.endswith(f".{each}")}
    prefixes = ("", *sorted(found))
    every = [{prefix + each: name for each, name in form.items()} for form in forms for prefix in prefixes]
    return max(every, key=lambda names: len(names.keys() & set(own)))


def parameters_by_name(network: nn.Module, spec: Spec) -> Weights:
    """The parameters that learn, by torch's names; none if they have other names."""
    own = dict(network.named_parameters(remove_duplicate=False))
    names = nearest_names(own, spec)
    if names.keys() - own.keys():
        return {}
    return {name: own[each] for each, name in names.items() if own[each].requires_grad}


def _named(word: str, names: set[str], others: set[str]) -> str:
    """Names for a message, each with the nearest of the others; "" for no names."""
    told = []
    for name in sorted(names)[:_MOST_NAMED]:
        near = nearest(name, sorted(others), cutoff=0.7)
        told.append(f"{name} (near: {near})" if near else name)
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{word} {', '.join(told)}{more}" if told else ""
