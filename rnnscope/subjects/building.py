"""Makes the user's class for a Spec, however its constructor is worded.

Arguments are known by their names: torch's own, or others that people give them. What is taken for what is said.
"""

import inspect
import re
from argparse import Namespace
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, is_dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any, get_args, get_origin

import torch
from torch import Tensor, nn

from rnnscope.errors import RnnscopeError
from rnnscope.spec.flags import nearest
from rnnscope.spec.sides import NOTHING_SAID, Own
from rnnscope.spec.spec import SPEC_FLAGS, Spec
from rnnscope.subjects.arguments import (
    ARGUMENTS,
    CONFIG_NAMES,
    DEFAULTS,
    HEAD_NAMES,
    SIZES,
    TORCHS,
    Meaning,
    fits,
    is_for,
    meaning_of,
    means,
    plain,
    value_of,
)
from rnnscope.subjects.user_code import guarded

_A_FUNCTION = "name a function that returns the module"
"""What mends whatever a constructor asks for."""

_SILENT = re.compile(r"_*[a-zA-Z]{1,2}_*|(arg|size|dim|num|n|d|x)_?[0-9]")
"""Names that say nothing."""

_SIZE = re.compile(
    r"^(?!.*(vocab|token|class|label|out|kernel|batch|embed)).*(size|dim|dims|features|feats|units|channels)$"
)
"""Names that say a size of something of the user's, which is no head and no dictionary: obs_dim."""


@dataclass(frozen=True, eq=False)
class Maker:
    """How a network of the user's is made.

    Args:
        make: makes it for a Spec, each time anew.
        network: one that was made for the Spec that was asked.
        takes: torch's arguments that it takes.
        adaptations: what was taken for what, where names are not torch's.
    """

    make: Callable[[Spec], nn.Module]
    network: nn.Module
    takes: frozenset[str] = frozenset()
    adaptations: tuple[str, ...] = ()


def maker_of(
    name: str,
    target: Any,
    spec: Spec,
    own: Own = NOTHING_SAID,
    flag: str | None = None,
    shows: Callable[[nn.Module, Spec], bool] = lambda network, spec: False,
    follows: Container[str] = TORCHS,
) -> Maker:
    """How a class, a function or a module of the user's becomes a network of a Spec.

    Args:
        name: what it is called in messages.
        own: what the user says of it.
        flag: gives it an argument, such as --right-arg; None where no flag does.
        shows: whether the parameters of a network are those of all layers and directions of a Spec, with its biases.
            Then it need not take arguments that say so.
        follows: those of torch's arguments that it must follow.

    Raises:
        RnnscopeError: an argument that is not known, a Spec that it does not follow, or an error of the user's.

    >>> def net(n_in, n_hidden, depth):
    ...     return torch.nn.GRU(n_in, n_hidden, depth)
    >>> maker = maker_of("net", net, Spec(kind="gru", hidden_size=7))
    >>> maker.make(Spec(kind="gru", num_layers=1)), maker.adaptations
    (GRU(10, 20), ('n_in is input_size', 'n_hidden is hidden_size', 'depth is num_layers'))
    """
    user = _User(name, flag)
    with guarded(name):
        call = _start(user, target, own)
        given = call.arguments(spec)
        network = call.result(given, spec)
        if not isinstance(network, nn.Module):
            raise RnnscopeError(f"{name} made a {type(network).__name__}, but it must make an nn.Module")
        asked = [(each, config.asked) for each, config in given.items() if isinstance(config, _Config)]
        takes = call.takes.union(*(meaning.takes for _, names in asked for meaning in names.values()))
        for argument in _without(DEFAULTS, takes | _settled(own)):
            if argument not in follows:
                continue
            if argument in ("num_layers", "bidirectional", "bias") and shows(network, spec):
                continue
            if argument != "dropout" or spec.train:
                _check_left_out(user, network, argument, spec, takes_any=bool(takes))
    of_configs = (f"{one}.{each} is {it.says}" for one, names in asked for each, it in names.items() if it.says != each)
    return Maker(partial(_made, call), network, takes, (*call.adaptations, *of_configs))


def computed(module: nn.Module) -> dict[int, Any]:
    """What deepcopy takes for what it would refuse, by the ids: tensors that a module keeps as results, and locks."""
    waiting: list[Any] = [vars(each) for each in module.modules()]
    found = {}
    while waiting:
        each = waiting.pop()
        if isinstance(each, Tensor) and not each.is_leaf:
            found[id(each)] = each.detach()
        elif isinstance(each, (dict, list, tuple)):
            waiting += each.values() if isinstance(each, dict) else each
        elif not isinstance(each, (Tensor, nn.Module)) and _is_of_this_process(each):
            found[id(each)] = each
    return found


def _is_of_this_process(value: Any) -> bool:
    """Whether something cannot be copied, as a lock or an open file."""
    if value is None or isinstance(value, (str, bytes, int, float)) or hasattr(value, "__deepcopy__"):
        return False
    try:
        value.__reduce_ex__(4)
    except TypeError:
        return True
    except Exception:  # it may be anything
        return False
    return False


def _settled(own: Own) -> set[str]:
    """torch's arguments that follow from something else. A list of sizes says how many layers there are.

    A network may have any layout, since its input is laid out for it.
    """
    found = {ARGUMENTS.get(plain(name), "") for name in own.arguments} | {"batch_first"}
    return found | {"num_layers" for value in own.arguments.values() if isinstance(value, (list, tuple))}


def _made(call: "_Call", spec: Spec) -> Any:
    return call.result(call.arguments(spec), spec)


@dataclass(frozen=True)
class _User:
    """Whose code it is: its name in messages, and the flag that gives it an argument."""

    name: str
    flag: str | None

    def unknown(self, names: Sequence[str], what: str = "needs") -> RnnscopeError:
        """What is said of arguments that have to be given, and are not known."""
        listed = ", ".join(names)
        if self.flag is None:
            mend = f"give {'it a default' if len(names) == 1 else 'them defaults'}, or {_A_FUNCTION}"
        else:
            bare = (each.rpartition(".")[2] for each in names)
            mend = f"add {' '.join(f'{self.flag} {each}=VALUE' for each in bare)}"
        return RnnscopeError(f"{self.name} {what} {listed}, which rnnscope does not know", mend)

    def ambiguous(self, argument: str, names: Sequence[str]) -> RnnscopeError:
        """What is said of several arguments that may be the same one of torch's."""
        told = " or ".join(f"{self.flag} {each}=VALUE" for each in names)
        mend = _A_FUNCTION if self.flag is None else f"say what is another thing: {told}"
        return RnnscopeError(f"{self.name} takes {' and '.join(names)}, and each may be {argument}", mend)

    def not_taken(self, name: str, known: Sequence[str]) -> RnnscopeError:
        """What is said of an argument that the user gave, and that there is not."""
        near = nearest(name, known)
        mend = f"did you mean {self.flag} {near}=VALUE?" if near else f"it takes {', '.join(known) or 'nothing'}"
        return RnnscopeError(f"{self.flag} gives {name}, and {self.name} takes no {name}", mend)


_LEFT_OUT = object()
"""What an argument gets that keeps its default."""


@dataclass(frozen=True, eq=False)
class _Call:
    """How a class or a function is called.

    Args:
        target: what is called.
        values: what each argument gets for a Spec, by its name.
        by_place: the arguments that are given by their place.
        any: torch's arguments that it takes among others that it does not name.
        takes: torch's arguments that it takes, in all.
        adaptations: what was taken for what.
    """

    target: Callable[..., Any]
    values: Mapping[str, Callable[[Spec], Any]] = field(default_factory=dict)
    by_place: frozenset[str] = frozenset()
    any: frozenset[str] = frozenset()
    takes: frozenset[str] = frozenset()
    adaptations: tuple[str, ...] = ()

    def arguments(self, spec: Spec) -> dict[str, Any]:
        """What the arguments get that it names."""
        every = {name: value(spec) for name, value in self.values.items()}
        return {name: value for name, value in every.items() if value is not _LEFT_OUT}

    def result(self, given: Mapping[str, Any], spec: Spec) -> Any:
        """What it returns. What it does not name is given in full if it takes that, and else where torch needs it."""
        places = [value for name, value in given.items() if name in self.by_place]
        named = {name: value for name, value in given.items() if name not in self.by_place}
        every = {name: value_of(name, spec) for name in sorted(self.any) if is_for(name, spec)}
        told = {name: value for name, value in every.items() if value != DEFAULTS.get(name)}
        try:
            made = self.target(*places, **named, **every)
        except TypeError as error:
            if told == every or "unexpected keyword argument" not in str(error):
                raise
            made = self.target(*places, **named, **told)
        return made if inspect.isclass(self.target) else deepcopy(made)  # a function may return what others use too


def _start(user: _User, target: Any, own: Own) -> _Call:
    """How what the user named is called: a module is there already."""
    if not callable(target):
        raise RnnscopeError(f"{user.name} is of type {type(target).__name__}, but it must be a class or a function")
    if not isinstance(target, nn.Module):
        return _call_of(user, target, own.arguments)
    if own.args:
        raise RnnscopeError(f"{user.name} is a module already, and takes no {own.args[0]}", f"leave {user.flag} out")
    return _Call(lambda: target)


def _call_of(user: _User, target: Callable[..., Any], said: Mapping[str, Any], path: str = "") -> _Call:
    """How a class or function is called.

    Args:
        said: arguments that the user gives.
        path: what stands before an argument in messages.
    """
    signature = _signature(target)
    if signature is None:
        return _Call(target, any=TORCHS, takes=TORCHS)
    named = {each.name: each for each in signature if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in signature)
    free, unnamed = _without(named, said), _without(said, named)
    meanings = _meanings(user, list(free.values()))
    told: tuple[str, ...] = ()
    needed = [each for name, each in free.items() if each.default is each.empty and name not in meanings]
    if config := _config_of(list(free.values()), needed, meanings):
        meanings[config.name], told = _meaning_of_config(user, config, unnamed, path)
        unnamed = {}
    elif needed:
        meanings |= _by_order(user, needed, meanings, path)
    elif signature and not named and not takes_any:  # *args alone
        meanings = {name: means(name) for name in SIZES}
    if unnamed and not takes_any:
        raise user.not_taken(next(iter(unnamed)), list(named))
    takes = _taken(meanings)
    others = TORCHS - takes - unnamed.keys() - _refused(target) if takes_any else frozenset()
    values = {name: each.value for name, each in meanings.items()}
    values |= {name: partial(_copy, said[name]) for name in said if name in named or name in unnamed}
    by_place = {name: each for name, each in named.items() if each.kind is each.POSITIONAL_ONLY}
    values = {name: partial(_or_default, values.get(name), each) for name, each in by_place.items()} | _without(
        values, by_place
    )
    own = tuple(f"{path}{name} is {each.says}" for name, each in meanings.items() if each.says != name)
    return _Call(target, values, frozenset(by_place if named else meanings), others, takes | others, (*own, *told))


def _without(some: Mapping[str, Any], others: Container[str]) -> dict[str, Any]:
    return {name: each for name, each in some.items() if name not in others}


def _taken(meanings: Mapping[str, Meaning]) -> frozenset[str]:
    return frozenset(one for each in meanings.values() for one in each.takes)


def _copy(value: Any, spec: Spec) -> Any:
    return deepcopy(value)  # a network may change a list that it is given


def _or_default(value: Callable[[Spec], Any] | None, parameter: inspect.Parameter, spec: Spec) -> Any:
    """What an argument gets that cannot be left out, since those behind it would take its place."""
    found = _LEFT_OUT if value is None else value(spec)
    return parameter.default if found is _LEFT_OUT else found


def _signature(target: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """The arguments, with annotations that are no texts where these can be read; None for what has no signature."""
    if inspect.isclass(target) and target.__init__ is nn.Module.__init__:  # which takes any, and refuses it
        return []
    try:
        return list(inspect.signature(target, eval_str=True).parameters.values())
    except Exception:  # an annotation may be any code
        try:
            return list(inspect.signature(target).parameters.values())
        except (TypeError, ValueError):
            return None


def _refused(target: Any) -> frozenset[str]:
    """What torch's modules take in **kwargs, and then refuse."""
    if inspect.isclass(target) and issubclass(target, nn.RNNBase):
        lacks_choice = frozenset({"nonlinearity"}) if issubclass(target, (nn.LSTM, nn.GRU)) else frozenset()
        return lacks_choice | (frozenset({"proj_size"}) if issubclass(target, (nn.RNN, nn.GRU)) else frozenset())
    return frozenset()


def _meanings(user: _User, parameters: Sequence[inspect.Parameter]) -> dict[str, Meaning]:
    """What each argument is taken for that has a known name. With a default, only torch's arguments are given.

    Raises:
        RnnscopeError: two arguments that may be the same one.
    """
    found: dict[str, list[inspect.Parameter]] = {}
    for each in parameters:
        argument = ARGUMENTS.get(plain(each.name))
        if argument and (each.name == argument or fits(argument, each)):
            found.setdefault(argument, []).append(each)
    heads = [each for each in parameters if each.default is each.empty and plain(each.name) in HEAD_NAMES]
    if "hidden_size" not in found and heads:  # a cell has two sizes: the second is that of h
        found["hidden_size"] = [heads[0]]
    meanings = {}
    for argument, alike in found.items():
        exact = [each for each in alike if each.name == argument]
        if len(alike) > 1 and not (
            exact and all(each.default is not each.empty for each in alike if each not in exact)
        ):
            raise user.ambiguous(argument, [each.name for each in alike])
        (taken,) = exact or alike
        is_head = plain(taken.name) in HEAD_NAMES
        meaning = means(argument) if is_head else meaning_of(taken.name)
        assert meaning is not None
        meanings[taken.name] = replace(meaning, value=partial(_given, argument, taken, meaning.value))
    for each in parameters:
        meaning = meaning_of(each.name)
        if each.default is each.empty and each.name not in meanings and meaning and not meaning.takes:
            meanings[each.name] = meaning
    return {each.name: meanings[each.name] for each in parameters if each.name in meanings}


def _given(argument: str, parameter: inspect.Parameter, value: Callable[[Spec], Any], spec: Spec) -> Any:
    """What one of torch's arguments gets, in the form that a class has for it; nothing where its default says that."""
    is_needed, found = parameter.default is parameter.empty, value(spec)
    if not is_needed and (
        not is_for(argument, spec) or (parameter.default is None and found == DEFAULTS.get(argument))
    ):
        return _LEFT_OUT
    return _activation(parameter, found) if argument == "nonlinearity" else found


def _activation(parameter: inspect.Parameter, word: str) -> Any:
    """tanh or relu: as a text, a function, a class or a module, whichever the default or the annotation is."""
    default, annotation = parameter.default, str(parameter.annotation)
    module: type[nn.Module] = nn.ReLU if word == "relu" else nn.Tanh
    if isinstance(default, str):
        return default if default.lower() == word else word
    is_class = inspect.isclass(default) and default is not parameter.empty
    if is_class or (default in (parameter.empty, None) and "type[" in annotation.lower()):
        return module
    if isinstance(default, nn.Module) or "Module" in annotation:
        return module()
    is_function = (callable(default) and default is not parameter.empty) or "Callable" in annotation
    return getattr(torch, word) if is_function else word


def _by_order(
    user: _User, needed: Sequence[inspect.Parameter], meanings: Mapping[str, Meaning], path: str
) -> dict[str, Meaning]:
    """What two arguments are whose names say nothing: the sizes, in torch's order; or what one is that says size.

    Raises:
        RnnscopeError: arguments that are something else.
    """
    lacking = [each for each in SIZES if each not in _taken(meanings)]
    if len(needed) == len(lacking) == 1 and _SIZE.search(needed[0].name):
        return {needed[0].name: means(lacking[0])}
    silent = all(each.kind is each.POSITIONAL_ONLY or _SILENT.fullmatch(each.name) for each in needed)
    if len(needed) != len(SIZES) or not silent or not _taken(meanings).isdisjoint(SIZES):
        raise user.unknown([f"{path}{each.name}" for each in needed])
    return {each.name: means(argument) for each, argument in zip(needed, SIZES, strict=True)}


def _config_of(
    parameters: Sequence[inspect.Parameter], needed: Sequence[inspect.Parameter], meanings: Mapping[str, Meaning]
) -> inspect.Parameter | None:
    """The argument that holds the others, if there is one."""
    # Without any size among the others, the default of a config would say the sizes.
    others = parameters if _taken(meanings).isdisjoint(SIZES) and not needed else needed
    found = [each for each in others if each.name not in meanings and _holds_others(each)]
    return found[0] if len(found) == 1 and list(needed) in ([], found) else None


def _holds_others(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    is_mapping = (get_origin(annotation) or annotation) in (dict, Mapping, Namespace, SimpleNamespace)
    return is_mapping or _fields_of(annotation) is not None or plain(parameter.name) in CONFIG_NAMES


def _fields_of(annotation: Any) -> type | None:
    """The dataclass or NamedTuple of an annotation, that may be None besides."""
    for each in (annotation, *get_args(annotation)):
        if inspect.isclass(each) and (is_dataclass(each) or (issubclass(each, tuple) and hasattr(each, "_fields"))):
            return each
    return None


def _meaning_of_config(
    user: _User, parameter: inspect.Parameter, said: Mapping[str, Any], path: str
) -> tuple[Meaning, tuple[str, ...]]:
    """What a config gets, and what was taken for what in it."""
    name = parameter.name
    made_of = _fields_of(parameter.annotation)
    if made_of is None:
        return Meaning(name, partial(_Config, user, name, said)), ()
    call = _call_of(user, made_of, said, f"{path}{name}.")
    return Meaning(name, partial(_made, call), call.takes), call.adaptations


class _Config(dict[str, Any]):
    """Stands for an object or a dict that holds all arguments, under whatever names it is asked for them.

    What it was asked for is noted in `asked`: only then is it known what the user's class takes.
    """

    def __init__(self, user: _User, name: str, said: Mapping[str, Any], spec: Spec) -> None:
        super().__init__({each: value_of(each, spec) for each in sorted(TORCHS) if is_for(each, spec)})
        self.update(deepcopy(dict(said)))
        self._user, self._name, self._said, self._spec = user, name, frozenset(said), spec
        self.asked: dict[str, Meaning] = {}

    def __getitem__(self, name: str) -> Any:
        meaning = None if name in self._said else meaning_of(name)
        if meaning:
            self.asked[name] = meaning
        if super().__contains__(name):
            return super().__getitem__(name)
        if meaning:
            return meaning.value(self._spec)
        raise _NotInConfig(self._user.unknown([f"{self._name}.{name}"], "asks for"))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # as copy and pickle ask
            raise AttributeError(name)
        return self[name]

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or plain(str(name)) in ARGUMENTS

    def __iter__(self) -> Iterator[str]:  # that **config asks for each by its name
        return iter(self.keys())

    def get(self, name: str, default: Any = None) -> Any:
        if name not in self:
            return default
        return self[name]


class _NotInConfig(RnnscopeError, AttributeError, KeyError):
    """What a config does not know. A class that has a default for it goes on with that."""

    def __init__(self, told: RnnscopeError) -> None:
        super().__init__(told.message, told.hint)


def _check_left_out(user: _User, network: nn.Module, argument: str, spec: Spec, takes_any: bool) -> None:
    """Raise unless a network does what the Spec needs without being told by an argument.

    A network that takes no arguments at all may do anything, so only what it says of itself is checked.
    """
    value, flag, has = value_of(argument, spec), SPEC_FLAGS[argument], getattr(network, argument, None)
    is_other_kinds = (argument == "nonlinearity" and spec.kind != "rnn") or (
        argument == "proj_size" and spec.kind != "lstm"
    )
    if type(has) is type(value) and flag.complaint(has) is None:
        if has != value and not is_other_kinds:
            raise RnnscopeError(f"{user.name} has {argument}={has} and takes no other", _mended(argument, has, spec))
    elif argument == "bias":
        return  # its parameters tell
    elif value != DEFAULTS[argument] and takes_any:
        mend = f"leave it out, or {_A_FUNCTION.replace('the', 'such a')}"
        if value == flag.default:
            mend = f"use {' '.join(flag.as_typed(DEFAULTS[argument]))}"
        needs = " ".join(flag.as_typed(value))
        raise RnnscopeError(f"{user.name} takes no {argument}, and {needs} needs it", mend)


def _mended(argument: str, has: Any, spec: Spec) -> str:
    """The flags with which a Spec asks for what a network has."""
    flag = SPEC_FLAGS[argument]
    if argument == "dropout":  # which draws masks, so that nothing could be compared
        return "leave --train out"
    if has == flag.default:
        return f"leave {flag.as_typed(getattr(spec, argument))[0]} out"
    words = flag.as_typed(has)
    if argument == "proj_size" and has >= spec.hidden_size:
        words += SPEC_FLAGS["hidden_size"].as_typed(2 * has)
    return f"use {' '.join(words)}"
