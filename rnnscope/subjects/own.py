"""Somebody's own network as a subject: given the weights by their names, and called as torch's are.

Which one it is, and how it is built, is told in own_building.py and live.py; what becomes of its errors and prints in
own_code.py.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from rnnscope.errors import RnnscopeError
from rnnscope.network.weights import Input, Weights, dtype_name
from rnnscope.spec.spec import DTYPES, Spec
from rnnscope.subjects.builtin import Run, call
from rnnscope.subjects.naming import listed, nearest_names, parameters_by_name
from rnnscope.subjects.user_code import guarded


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
