"""Somebody's own network as a subject: built as the Spec asks, given weights by name, called as torch's are."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from rnnscope.errors import RnnscopeError
from rnnscope.network.cells import cell_name
from rnnscope.network.shapes import parameters
from rnnscope.network.weights import Input, Weights, dtype_name
from rnnscope.spec.spec import DTYPES, SPEC_FLAGS, Spec
from rnnscope.subjects.builtin import Run, call
from rnnscope.subjects.user_code import find_own, guarded


@dataclass(frozen=True, eq=False)
class Ready:
    """A network of the user's that has its weights, and what it is to be called with.

    Args:
        network: the module itself.
        spec: in the network's own layout.
        given: laid out likewise.
        parameters: by torch's names.
        takes_state: whether it is called with hx.
        state: the argument of its forward that is hx, where it has one.
    """

    network: nn.Module
    spec: Spec
    given: Input
    parameters: Weights
    takes_state: bool
    state: inspect.Parameter | None

    def __call__(self, x: Tensor | PackedSequence, *hx: Any) -> Any:
        if hx and self.state is not None and self.state is not _ANY:
            return self.network(x, **{self.state.name: hx[0]})
        return self.network(x, *hx)


@dataclass(frozen=True, eq=False)
class OwnNetwork:
    """A network of the user's, whose `run` is a subject.

    Args:
        name: as it is told.
        make: builds it, or copies it, for a Spec.
        batch_first: its layout, where it does not say it itself; None where it is built as the Spec asks.
        gets_weights: whether it is given weights; otherwise it has its own.
        has_layers: whether it can be built with one layer.
        has_steps: whether it takes a state.
        is_fused: whether a module of torch's computes in it.
    """

    name: str
    make: Callable[[Spec], nn.Module]
    batch_first: bool | None
    gets_weights: bool = True
    has_layers: bool = False
    has_steps: bool = True
    is_fused: bool = False

    def run(self, spec: Spec, weights: Weights, given: Input) -> Run:
        """Build it, give it the weights and call it: without hx where h0 is zeros and it may be, with hx otherwise.

        In float64, which the verdict rests on, it is called before with zeros of the same shapes.

        Raises:
            RnnscopeError: whatever is wrong with it, or an error of the user's.
        """
        with self.entered(spec):
            ready = self.ready(spec, weights, given)

            def called(x: Tensor | PackedSequence, *hx: Any) -> Any:
                return self.checked(ready(x, *hx), x, spec)

            if spec.dtype == "float64":  # or what a class keeps from one call to the next would never show
                with torch.no_grad():
                    call(called, ready.spec, _zeros(ready.given), {}, ready.takes_state)
            run = call(called, ready.spec, ready.given, ready.parameters, ready.takes_state)
            # Copies here too: a class may give out a buffer that it writes into again.
            y = (run.y.transpose(0, 1) if ready.spec.batch_first is not spec.batch_first else run.y).clone()
            return replace(run, y=y, state=tuple(each.clone() for each in run.state), takes_state=ready.takes_state)

    @contextmanager
    def entered(self, spec: Spec) -> Iterator[None]:
        """Where the user's code runs: see own_code.py."""
        with guarded(self.name):
            if spec.dtype == "float64":  # asked for by the verdict: a state that the class makes must be float64 too
                torch.set_default_dtype(torch.float64)
            yield

    def ready(self, spec: Spec, weights: Weights, given: Input) -> Ready:
        """Build it and give it the weights.

        Raises:
            RnnscopeError: parameters that are not named or shaped as torch's are, or no argument that takes hx.
        """
        network = self.make(spec).to(spec.device, getattr(torch, spec.dtype))
        # Copies, or a class that changes what it is given would change it for the other side too.
        given = Input(given.x.clone(), tuple(each.clone() for each in given.state))
        if self.gets_weights:
            self._load(network, spec, {name: each.clone() for name, each in weights.items()})
        _set_mode(network, spec)
        state = state_parameter(network)
        if state is None and spec.h0 == "random":
            raise RnnscopeError(
                f"{self.name}: its forward takes no hx",
                "name an argument hx, or leave hx out (--h0 zeros, and no --resync)",
            )
        takes_state = state is not None and (spec.h0 == "random" or state.default is state.empty)
        layout = spec.batch_first if self.batch_first is None else getattr(network, "batch_first", self.batch_first)
        swap = not spec.unbatched and layout is (not spec.batch_first)
        placed = replace(spec, batch_first=layout) if swap else spec
        laid_out = Input(given.x.transpose(0, 1), given.state) if swap else given
        return Ready(network, placed, laid_out, parameters_by_name(network, spec), takes_state, state)

    def _load(self, network: nn.Module, spec: Spec, weights: Weights) -> None:
        if type(network).load_state_dict is not nn.Module.load_state_dict:  # it knows how its weights are named
            network.load_state_dict(dict(weights))
            return
        theirs = dict(network.named_parameters(remove_duplicate=False))
        names = nearest_names(theirs, spec)
        missing, unexpected = (names.keys() - theirs.keys(), theirs.keys() - names.keys())
        if missing or unexpected:
            found = [names_in_words("missing", missing, unexpected)] if missing else []
            found += [names_in_words("unexpected", unexpected, set())] if unexpected else []
            raise RnnscopeError(
                f"{self.name}: its parameters are not named as torch's or StackedCells' are: {'; '.join(found)}",
                "rename them, or give the class a load_state_dict of its own that takes torch's names",
            )
        for own, name in names.items():
            if theirs[own].shape != weights[name].shape:
                got, given = tuple(theirs[own].shape), tuple(weights[name].shape)
                raise RnnscopeError(
                    f"{self.name}: {own} has shape {got}, but {name} is {given}", "build it in that size"
                )
        network.load_state_dict({own: weights[name] for own, name in names.items()}, strict=False)

    def checked(self, result: Any, x: Tensor | PackedSequence, spec: Spec) -> Any:
        """What came out, which must have torch's form."""
        is_pair = isinstance(result, (tuple, list)) and len(result) == 2
        if is_pair and isinstance(result[0], type(x) if isinstance(x, PackedSequence) else Tensor):
            y, last = result
            state = tuple(last) if isinstance(last, (tuple, list)) else (last,)
            alike = isinstance(last, (tuple, list)) == (spec.kind == "lstm") and len(state) == 1 + (spec.kind == "lstm")
            if alike and all(isinstance(each, Tensor) for each in state):
                for each in (y.data, *state):
                    self._check_numbers(each)
                return y, state if spec.kind == "lstm" else last
        output = "a packed output" if isinstance(x, PackedSequence) else "output"
        expected = f"({output}, (h_n, c_n))" if spec.kind == "lstm" else f"({output}, h_n)"
        raise RnnscopeError(f"{self.name} returned {_form(result)}, but {spec.module_name} returns {expected}")

    def _check_numbers(self, tensor: Tensor) -> None:
        dtype, layout = dtype_name(tensor), str(tensor.layout).removeprefix("torch.")
        if dtype not in DTYPES or layout != "strided" or tensor.is_meta:
            what = "meta" if tensor.is_meta else layout if layout != "strided" else dtype
            raise RnnscopeError(f"{self.name} returned a {what} tensor", f"return one of {', '.join(DTYPES)}")


def _zeros(given: Input) -> Input:
    return Input(torch.zeros_like(given.x), tuple(map(torch.zeros_like, given.state)))


def is_fused(network: nn.Module) -> bool:
    """Whether nn.RNN, nn.LSTM or nn.GRU computes in it."""
    return any(isinstance(each, nn.RNNBase) for each in network.modules())


def state_parameter(network: nn.Module) -> inspect.Parameter | None:
    """What its forward takes hx by: the first argument behind x with such a name, or one that must be given."""
    try:
        every = list(inspect.signature(network.forward).parameters.values())
    except (AttributeError, TypeError, ValueError):  # as of a module that was scripted
        return _ANY
    named = [each for each in every[1:] if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    for found in (
        [each for each in named if _STATE.search(each.name)],
        [each for each in named if each.default is each.empty],
        [_ANY for each in every if each.kind is each.VAR_POSITIONAL],
    ):
        if found:
            return found[0]
    return None


_STATE = re.compile("^h|hx|hidden|state|init|memory|carry", re.IGNORECASE)
"""How people name what torch calls hx."""


_ANY = inspect.Parameter("hx", inspect.Parameter.POSITIONAL_ONLY, default=None)


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


_NEUTRAL = {
    "num_layers": 1,
    "bias": True,
    "batch_first": False,
    "dropout": 0.0,
    "bidirectional": False,
    "proj_size": 0,
    "nonlinearity": "tanh",
}
"""What a class that does not take an argument is expected to do."""


def own_network(name: str, spec: Spec) -> OwnNetwork:
    """The class, function or module that `FILE.py:Class` or `package.module:Class` names.

    Raises:
        RnnscopeError: it cannot be found or built, or does not do what the Spec needs.
    """
    target = find_own(name)
    if isinstance(target, nn.Module):
        takes: set[str] = set()
        make: Callable[[Spec], nn.Module] = partial(_made, lambda: target, takes)
    elif callable(target):
        takes = _taken(name, target)
        make = partial(_made, target, takes)
    else:
        raise RnnscopeError(f"{name} is a {type(target).__name__}, but it must be a class or a function")
    with guarded(name):
        network = make(spec)
        if not isinstance(network, nn.Module):
            raise RnnscopeError(f"{name} made a {type(network).__name__}, but it must make an nn.Module")
        for each in _NEUTRAL.keys() - takes - (set() if spec.train else {"dropout"}):
            _check_needed(name, network, each, spec, fixed=not takes)
        has_steps = state_parameter(network) is not None
    layout = None if "batch_first" in takes else spec.batch_first
    has_layers = {"num_layers", "input_size"} <= takes
    return OwnNetwork(name, make, layout, has_layers=has_layers, has_steps=has_steps, is_fused=is_fused(network))


def _made(target: Callable[..., Any], takes: set[str], spec: Spec) -> Any:
    network = target(**{each: _argument(each, spec) for each in takes if _applies(each, spec)})
    return network if inspect.isclass(target) else deepcopy(network)  # a function may return what others use too


def _taken(name: str, target: Callable[..., Any]) -> set[str]:
    """Which of torch's arguments it takes."""
    known = {"input_size", "hidden_size", *_NEUTRAL}
    try:
        signature = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return known
    other = [
        each.name
        for each in signature
        if each.default is each.empty and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    ]
    if odd := [each for each in other if each not in known]:
        raise RnnscopeError(
            f"{name} needs {', '.join(odd)}, which rnnscope does not know",
            "give it a default, or name a function that returns the module",
        )
    if any(each.kind is each.VAR_KEYWORD for each in signature):
        return known
    return {each.name for each in signature if each.kind is not each.POSITIONAL_ONLY} & known


def _applies(argument: str, spec: Spec) -> bool:
    """torch's modules themselves refuse an argument that only another kind has."""
    return {"nonlinearity": spec.kind == "rnn", "proj_size": spec.proj_size > 0}.get(argument, True)


def _argument(name: str, spec: Spec) -> Any:
    return getattr(spec, name) if name != "dropout" or (spec.train and spec.num_layers > 1) else 0.0


def _check_needed(name: str, network: nn.Module, argument: str, spec: Spec, fixed: bool) -> None:
    """What it does not take it must have by itself, or the Spec must not need it.

    Args:
        fixed: whether it takes nothing at all, so that only what it says of itself can be checked.
    """
    value = _argument(argument, spec)
    flag = SPEC_FLAGS[argument]
    has = getattr(network, argument, None)
    if type(has) is type(value):
        if has != value:
            words = " ".join(flag.as_typed(has)) if has else f"leave {flag.name} out"
            raise RnnscopeError(f"{name} has {argument}={has} and takes no other", f"use {words}" if has else words)
    elif value != _NEUTRAL[argument] and not fixed:
        raise RnnscopeError(
            f"{name} takes no {argument}, and {' '.join(flag.as_typed(value))} needs it",
            "leave it out, or name a function that returns such a module"
            if value != flag.default
            else f"use {' '.join(flag.as_typed(_NEUTRAL[argument]))}",
        )


MOST_NAMED = 8
"""Of so many parameters the names are names_in_words in a message."""


def nearest_names(own: Iterable[str], spec: Spec) -> dict[str, str]:
    """torch's name of each parameter that a network should have, by the name that would be its own.

    The names are torch's or StackedCells', or those of a list of cells or of a single one, and may have a prefix in
    common: those of which the network has most.
    """
    expected = [each.name for each in parameters(spec)]
    forms = [{name: name for name in expected}]
    if not spec.proj_size:
        forms.append({cell_name(name): name for name in expected})
        if spec.directions == 1:
            forms.append({cell_name(name).removeprefix("cells."): name for name in expected})
        if spec.num_layers == spec.directions == 1:
            forms.append({name.removesuffix("_l0"): name for name in expected})
    prefixes = sorted(
        {name[: -len(each)] for name in own for form in forms for each in form if name.endswith(f".{each}")}
    )
    every = [{prefix + each: name for each, name in form.items()} for form in forms for prefix in ("", *prefixes)]
    return max(every, key=lambda names: len(names.keys() & set(own)))


def parameters_by_name(network: nn.Module, spec: Spec) -> Weights:
    """Its parameters by torch's names, those that learn; none where they have other names."""
    own = dict(network.named_parameters(remove_duplicate=False))
    names = nearest_names(own, spec)
    if names.keys() - own.keys():
        return {}
    return {name: own[each] for each, name in names.items() if own[each].requires_grad}


def names_in_words(word: str, names: set[str], others: set[str]) -> str:
    """Names for a message, each with the nearest of the others."""
    shown = []
    for name in sorted(names)[:MOST_NAMED]:
        near = get_close_matches(name, sorted(others), n=1, cutoff=0.7)
        shown.append(f"{name} (near: {near[0]})" if near else name)
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{word} {', '.join(shown)}{more}"
