"""Somebody's own class as a subject: built as the Spec asks, given the weights by their names, called as torch's are.

Where the class is found, and what becomes of its errors and prints, is own_code.py's business.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from rnnscope.errors import RnnscopeError
from rnnscope.naming import listed, nearest_names, parameters_by_name
from rnnscope.own_code import find_own, guarded
from rnnscope.spec import Spec, flag_of
from rnnscope.subjects import Run, call
from rnnscope.weights import Input, Weights

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


@dataclass(frozen=True, eq=False)
class OwnNetwork:
    """A network of the user's, whose `run` is a subject.

    Args:
        name: as it is told.
        make: builds it, or copies it, for a Spec.
        batch_first: its layout, where it does not say it itself; None where it is built as the Spec asks.
        gets_weights: whether it is given weights; otherwise it has its own.
        has_layers: whether it can be built with one layer.
    """

    name: str
    make: Callable[[Spec], nn.Module]
    batch_first: bool | None
    gets_weights: bool = True
    has_layers: bool = False

    def run(self, spec: Spec, weights: Weights, given: Input) -> Run:
        """Build it, give it the weights and call it: without hx where h0 is zeros and it may be, with hx otherwise.

        Raises:
            RnnscopeError: whatever is wrong with it, or an error of the user's.
        """
        with guarded(self.name), _default_dtype(spec):
            network = self.make(spec).to(spec.device, getattr(torch, spec.dtype))
            if self.gets_weights:
                self._load(network, spec, weights)
            _set_mode(network, spec)
            takes, needs = _takes_state(network)
            if not takes and spec.h0 == "random":
                raise RnnscopeError(f"{self.name}: its forward takes no hx", "use --h0 zeros")
            with_state = takes and (needs or spec.h0 == "random" or torch.is_grad_enabled())
            layout = spec.batch_first if self.batch_first is None else getattr(network, "batch_first", self.batch_first)
            swap = not spec.unbatched and layout is (not spec.batch_first)
            placed = replace(spec, batch_first=layout) if swap else spec
            laid_out = Input(given.x.transpose(0, 1), given.state) if swap else given
            own = parameters_by_name(network, spec)
            run = call(lambda *inputs: self._checked(network(*inputs), spec), placed, laid_out, own, with_state)
            return replace(run, y=run.y.transpose(0, 1) if swap else run.y, takes_state=takes)

    def _load(self, network: nn.Module, spec: Spec, weights: Weights) -> None:
        if type(network).load_state_dict is not nn.Module.load_state_dict:  # it knows how its weights are named
            network.load_state_dict(dict(weights))
            return
        theirs = dict(network.named_parameters(remove_duplicate=False))
        names = nearest_names(theirs, spec)
        missing, unexpected = (names.keys() - theirs.keys(), theirs.keys() - names.keys())
        if missing or unexpected:
            found = [listed("missing", missing, unexpected)] if missing else []
            found += [listed("unexpected", unexpected, set())] if unexpected else []
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

    def _checked(self, result: Any, spec: Spec) -> Any:
        """What came out, which must have torch's form."""
        if isinstance(result, (tuple, list)) and len(result) == 2 and isinstance(result[0], (Tensor, PackedSequence)):
            y, last = result
            pair = isinstance(last, (tuple, list)) and len(last) == 2 and all(isinstance(e, Tensor) for e in last)
            if pair if spec.kind == "lstm" else isinstance(last, Tensor):
                return y, tuple(last) if pair else last
        expected = "(output, (h_n, c_n))" if spec.kind == "lstm" else "(output, h_n)"
        raise RnnscopeError(f"{self.name} returned {_form(result)}, but {spec.module_name} returns {expected}")


def own_network(name: str, spec: Spec) -> OwnNetwork:
    """The class, function or module that `FILE.py:Class` or `package.module:Class` names.

    Raises:
        RnnscopeError: it cannot be found or built, or does not do what the Spec needs.
    """
    target = find_own(name)
    if isinstance(target, nn.Module):
        takes: set[str] = set()
        make: Callable[[Spec], nn.Module] = lambda spec: deepcopy(target)  # noqa: E731
    elif callable(target):
        takes = _taken(name, target)
        make = lambda spec: target(**{each: _argument(each, spec) for each in takes if _applies(each, spec)})  # noqa: E731
    else:
        raise RnnscopeError(f"{name} is a {type(target).__name__}, but it must be a class or a function")
    with guarded(name):
        network = make(spec)
    if not isinstance(network, nn.Module):
        raise RnnscopeError(f"{name} made a {type(network).__name__}, but it must make an nn.Module")
    for each in _NEUTRAL.keys() - takes:
        _check_needed(name, network, each, spec, fixed=not takes)
    layout = None if "batch_first" in takes else spec.batch_first
    return OwnNetwork(name, make, layout, has_layers={"num_layers", "input_size"} <= takes)


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
    flag = next(flag_of(each) for each in fields(Spec) if each.name == argument)
    has = getattr(network, argument, None)
    if type(has) is type(value):
        if has != value:
            words = " ".join(flag.words(has)) if has else f"leave {flag.name} out"
            raise RnnscopeError(f"{name} has {argument}={has} and takes no other", f"use {words}" if has else words)
    elif value != _NEUTRAL[argument] and not fixed:
        raise RnnscopeError(
            f"{name} takes no {argument}, and {' '.join(flag.words(value))} needs it",
            "leave it out, or name a function that returns such a module"
            if value != flag.default
            else f"use {' '.join(flag.words(_NEUTRAL[argument]))}",
        )


def _takes_state(network: nn.Module) -> tuple[bool, bool]:
    """Whether its forward takes hx, and whether it must be given."""
    try:
        every = list(inspect.signature(network.forward).parameters.values())
    except (TypeError, ValueError):
        return True, True
    places = [each for each in every if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    if len(places) > 1:
        return True, places[1].default is places[1].empty
    return any(each.kind is each.VAR_POSITIONAL for each in every), False


def _set_mode(network: nn.Module, spec: Spec) -> None:
    network.train(spec.train)
    if torch.is_grad_enabled() and not spec.train:
        for each in network.modules():
            if isinstance(each, nn.RNNBase):  # cuDNN computes no gradient in inference mode
                each.dropout = 0.0
                each.train()


@contextmanager
def _default_dtype(spec: Spec) -> Iterator[None]:
    """In float64 a state that the class makes itself is float64 too: that run is asked for by the verdict."""
    before = torch.get_default_dtype()
    try:
        if spec.dtype == "float64":
            torch.set_default_dtype(torch.float64)
        yield
    finally:
        torch.set_default_dtype(before)


def _form(result: Any) -> str:
    """A result by its form: "(Tensor, (Tensor, Tensor))"."""
    if isinstance(result, (tuple, list)) and len(result) < 5:
        return f"({', '.join(map(_form, result))})"
    return type(result).__name__
