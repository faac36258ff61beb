"""Somebody's own network as a subject: built as the Spec asks, given weights, called in its form, read as torch's."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from rnnscope.errors import RnnscopeError
from rnnscope.network.shapes import Shape
from rnnscope.network.weights import Input, Weights, dtype_name
from rnnscope.spec.spec import DTYPES, Spec
from rnnscope.subjects.builtin import Prepared, Run, as_module, in_int8
from rnnscope.subjects.forms import Form, ReadResult, state_parameters, unfilled
from rnnscope.subjects.matching import mappings_of
from rnnscope.subjects.parameters import Mapping
from rnnscope.subjects.user_code import guarded


@dataclass(frozen=True)
class Words:
    """What the user said of one side, for messages and for finding its parameters.

    role: left or right. names: torch's name of own ones, as --left-name and --right-name give them.
    """

    role: str = "right"
    names: tuple[tuple[str, str], ...] = ()

    @property
    def flag(self) -> str:
        """The flag that says which parameter is which."""
        return f"--{self.role}-name"


@dataclass(frozen=True, eq=False)
class OwnNetwork:
    """A network of the user's, whose `run` is a subject.

    Args:
        name: its name in messages.
        make: builds or copies it for a Spec.
        form: how it is called.
        batch_first: its layout, unless it has an attribute batch_first; None if it is built as the Spec asks.
        gets_weights: whether it is given weights; otherwise it has its own.
        fills: whether parameters that stand for nothing of torch's get random numbers. Their own are new in each
            network that is built, and zeros or ones would hide what they do.
        words: what the user said of it.
        mapping: what its parameters stand for at the Spec for which it was found out; None where it loads by itself.
        choice: which one of all such mappings that is, where several fit.
        has_layers: whether it can be built with one layer.
        is_fused: whether a module of torch's computes in it.
        is_int8: whether that is one in dynamic int8.
        adaptations: what was done to build and to call it, in sentences without a full stop.
        hint: what would mend it, where it gives no outputs of its kind; "" where it does.
    """

    name: str
    make: Callable[[Spec], nn.Module]
    form: Form = field(default_factory=Form)
    batch_first: bool | None = None
    gets_weights: bool = True
    fills: bool = True
    words: Words = field(default_factory=Words)
    mapping: Mapping | None = None
    choice: int = 0
    has_layers: bool = False
    is_fused: bool = False
    is_int8: bool = False
    adaptations: tuple[str, ...] = ()
    hint: str = ""

    @property
    def has_steps(self) -> bool:
        """Whether it takes a state."""
        return self.form.takes is not None

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
        try:
            with guarded(self.name):
                if spec.dtype == "float64":
                    torch.set_default_dtype(torch.float64)
                yield
        except RnnscopeError as error:
            if not self.hint:
                raise
            raise RnnscopeError(error.message, self.hint) from error

    def prepare(self, spec: Spec, weights: Weights, given: Input) -> Prepared:
        """Build it and give it the weights; its input is in its own layout.

        Raises:
            RnnscopeError: parameters of which it is not known what they stand for, or no argument that takes hx.
        """
        with self.entered(spec):
            network = self.make(spec).to(getattr(torch, spec.dtype)).to(spec.device)
            # Copies: a class that changes what it is given must not change it for the other side.
            given = Input(given.x.clone(), tuple(each.clone() for each in given.state))
            mapping = self._load(network, spec, weights)
            _set_mode(network, spec)
            placed = spec
            layout = spec.batch_first if self.batch_first is None else self.batch_first
            if not spec.unbatched and layout is (not spec.batch_first):
                placed, given = replace(spec, batch_first=layout), Input(given.x.transpose(0, 1), given.state)
            takes_state = self._takes_state(network, spec)
            own = _learning(network) if mapping else {}
            prepared = as_module(Called(network, self.form), placed, given, own, takes_state)
            return replace(
                prepared,
                by_torchs_names=partial(mapping.read, gradients=True) if mapping else dict,
                as_torch=partial(self.as_torch, placed),
                entered=partial(self.entered, spec),
            )

    def folded(self, weights: Weights) -> Weights:
        """Weights by torch's names of the same network with those biases alone that it has."""
        return self.mapping.fold(weights) if self.mapping else weights

    def mapping_at(self, network: nn.Module, spec: Spec) -> Mapping:
        """Which of its parameters stand for which of torch's.

        Raises:
            RnnscopeError: something of torch's has nothing that stands for it.
        """
        return every_mapping(self.name, network, spec, self.words)[self.choice]

    def _takes_state(self, network: nn.Module, spec: Spec) -> bool:
        """Whether the call has a state in it; raises where it cannot be called at all."""
        state = state_parameters(network, spec.kind == "lstm")
        if not state and spec.h0 == "random":
            mend = "name an argument hx, or leave hx out (--h0 zeros, and no --resync)"
            raise RnnscopeError(f"{self.name}: its forward takes no hx", mend)
        if needed := unfilled(network, state):
            called_as = "forward(x, hx), where hx is (h0, c0)" if spec.kind == "lstm" else "forward(x, hx)"
            mend = f"it is called as {called_as}: give all else a default"
            raise RnnscopeError(f"{self.name}: its forward needs {', '.join(needed)} besides", mend)
        return bool(state) and (spec.h0 == "random" or any(each.default is each.empty for each in state))

    def _load(self, network: nn.Module, spec: Spec, weights: Weights) -> Mapping | None:
        """Give it the weights; the mapping by which its gradients are torch's, where it is known."""
        own = dict(network.named_parameters(remove_duplicate=False))
        if not self.gets_weights:
            return None
        if not loads_by_itself(network):
            mapping = self.mapping_at(network, spec)
            mapping.write(own, weights)
            if self.fills:
                fill([own[name] for name in mapping.left_over])
            return mapping
        network.load_state_dict({name: each.clone() for name, each in weights.items()})
        try:
            mapping = self.mapping_at(network, spec)
        except RnnscopeError:
            return None
        # It knows by itself what stands for what: another mapping than its own would give other gradients.
        loaded, names = mapping.read(own), [name for name in weights if name not in mapping.folded]
        return mapping if all(torch.equal(loaded[name], weights[name]) for name in names) else None

    def as_torch(self, spec: Spec, result: Any) -> tuple[Any, tuple[Tensor, ...]]:
        """y and the tuple of states, in torch's layouts."""
        found = (self.form.read(result, spec) if self.form.is_known else None) or _as_it_is(result, spec)
        if found is None:
            is_lstm = spec.kind == "lstm"
            expected = f"({'a packed output' if spec.lengths else 'output'}, {'(h_n, c_n)' if is_lstm else 'h_n'})"
            raise RnnscopeError(f"{self.name} returned {_in_short(result)}, but {spec.module_name} returns {expected}")
        for tensor in (*(() if found.y is None else (found.y.data,)), *found.state):
            dtype, layout = dtype_name(tensor), str(tensor.layout).removeprefix("torch.")
            what = "meta" if tensor.is_meta else layout if layout != "strided" else dtype
            if what not in DTYPES:
                raise RnnscopeError(
                    f"{self.name} returned a tensor that is {what}", f"return one of {', '.join(DTYPES)}"
                )
        return found.y, found.state


@dataclass(frozen=True, eq=False)
class Called:
    """A network that is called with torch's arguments, in its own form."""

    network: nn.Module
    form: Form

    def __call__(self, x: Any, hx: Any = ()) -> Any:
        state = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        return self.form.call(self.network, x, state)


def every_mapping(name: str, network: nn.Module, spec: Spec, words: Words) -> tuple[Mapping, ...]:
    """Every way in which the parameters of a network may stand for torch's."""
    every = list(network.named_parameters(remove_duplicate=False))
    first: dict[int, str] = {}
    aliases = tuple((path, first.setdefault(id(each), path)) for path, each in every)
    shapes = tuple((path, tuple(each.shape)) for path, each in every)
    # What the search looks at, so that it is made once for all lengths and dtypes.
    plain = replace(spec, seq_len=1, batch_size=1, lengths=None, unbatched=False, seed=0, dtype="float32", device="cpu")
    return _mappings(name, shapes, tuple(each for each in aliases if each[0] != each[1]), plain, words)


@cache
def _mappings(
    name: str, shapes: tuple[tuple[str, Shape], ...], aliases: tuple[tuple[str, str], ...], spec: Spec, words: Words
) -> tuple[Mapping, ...]:
    return mappings_of(name, dict(shapes), spec, dict(words.names), words.flag, dict(aliases))


def loads_by_itself(network: nn.Module) -> bool:
    """Whether it has a load_state_dict of its own, which knows torch's names."""
    return type(network).load_state_dict is not nn.Module.load_state_dict


def is_fused(network: nn.Module) -> bool:
    """Whether nn.RNN, nn.LSTM or nn.GRU computes in it."""
    return any(isinstance(each, nn.RNNBase) for each in network.modules())


def is_int8(network: nn.Module) -> bool:
    """Whether torch's dynamic int8 of nn.LSTM, nn.GRU, a cell or nn.Linear computes in it."""
    return any(in_int8(each) for each in network.modules())


def acts_in_training(module: nn.Module) -> bool:
    """Whether it is in training mode, and something in it says that this matters."""
    drops = (getattr(each, name, None) for each in module.modules() for name in ("p", "dropout", "drop"))
    is_normed = any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in module.modules())
    return module.training and (is_normed or any(isinstance(each, float) and each > 0 for each in drops))


def called(prepared: Prepared, spec: Spec) -> Run:
    """What one more call gives, in the Spec's layout. Copies: a class may return a buffer that it writes into again."""
    run = prepared.run()
    y = run.y.transpose(0, 1) if run.has_y and prepared.spec.batch_first is not spec.batch_first else run.y
    return replace(run, y=y.clone(), state=tuple(each.clone() for each in run.state))


def module_of(prepared: Prepared) -> nn.Module:
    """The network itself."""
    network: Any = prepared.network
    module: nn.Module = network.network
    return module


@torch.no_grad()
def fill(tensors: Iterable[Tensor]) -> None:
    """Random numbers that every dtype can say, the same each time."""
    generator = torch.Generator(device="cpu").manual_seed(0)
    for each in tensors:
        each.copy_(torch.randint(-64, 65, each.shape, generator=generator, device="cpu") / 128)


def _learning(network: nn.Module) -> Weights:
    return {name: each for name, each in network.named_parameters(remove_duplicate=False) if each.requires_grad}


def _set_mode(network: nn.Module, spec: Spec) -> None:
    network.train(spec.train)
    if torch.is_grad_enabled() and not spec.train:
        for each in network.modules():
            if isinstance(each, nn.RNNBase):  # cuDNN computes no gradient in inference mode
                each.dropout = 0.0
                each.train()


def _as_it_is(result: Any, spec: Spec) -> ReadResult | None:
    """What has the form of torch's modules, in whatever shapes."""
    is_lstm, output = spec.kind == "lstm", PackedSequence if spec.lengths else Tensor
    if isinstance(result, (tuple, list)) and len(result) == 2 and isinstance(result[0], output):
        y, last = result
        state = tuple(last) if is_lstm and isinstance(last, (tuple, list)) else (last,)
        if len(state) == 1 + is_lstm and all(isinstance(each, Tensor) for each in state):
            return ReadResult(y, state, None)
    return None


def _in_short(result: Any) -> str:
    """A result by its form: "(Tensor, (Tensor, Tensor))"."""
    if isinstance(result, (tuple, list)) and len(result) < 5:
        return f"({', '.join(map(_in_short, result))})"
    return type(result).__name__
