"""Builds somebody's own class as a Spec asks, by the arguments that it takes."""

import inspect
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

from torch import nn

from rnnscope.errors import RnnscopeError
from rnnscope.spec.spec import SPEC_FLAGS, Spec
from rnnscope.subjects.own import OwnNetwork, is_fused, state_parameter
from rnnscope.subjects.user_code import find_own, guarded

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
            words = " ".join(flag.words(has)) if has else f"leave {flag.name} out"
            raise RnnscopeError(f"{name} has {argument}={has} and takes no other", f"use {words}" if has else words)
    elif value != _NEUTRAL[argument] and not fixed:
        raise RnnscopeError(
            f"{name} takes no {argument}, and {' '.join(flag.words(value))} needs it",
            "leave it out, or name a function that returns such a module"
            if value != flag.default
            else f"use {' '.join(flag.words(_NEUTRAL[argument]))}",
        )
