"""Is all that a module computes with in its state_dict, and does a copy of it stand alone?

`state_dict` saves and loads as a checkpoint does; `copies` copies by deepcopy and by pickle.
"""

import io
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from rnnscope.checks.case import Case
from rnnscope.checks.facts import Relation, broken, holds, not_applicable, undecided
from rnnscope.checks.outside import attributes, kept_outside
from rnnscope.checks.probing import copy_in
from rnnscope.checks.states import is_number
from rnnscope.checks.values import Gap, Place, Values, gap, greatest
from rnnscope.errors import RnnscopeError
from rnnscope.subjects.building import computed
from rnnscope.subjects.foreign import in_one_sentence
from rnnscope.subjects.user_code import guarded

_OTHER_SEED = 0x5EED
"""Of torch, while a module is built anew or copied: numbers that are drawn then are others."""

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
"""Where something lies in memory, which is another place each time."""

_MOST_NAMED = 3
"""Attributes that a message names."""


# The state_dict.


def state_dict(case: Case) -> Relation:
    """Whether a module that is built anew gives the same once the state_dict is loaded into it."""
    own, outside = case.module, kept_outside(case.module)
    saved, reason = _attempt(case, own.state_dict)
    if reason:
        return broken(None, f"state_dict() raises {reason}")
    if not saved and not outside and not any(True for _ in chain(own.parameters(), own.buffers())):
        return not_applicable("it has no parameters and no buffers")
    make = case.recurrent.make
    if make is None and not saved:
        return undecided(f"its state_dict is empty, and what it keeps in {_named(outside)} is known to its class alone")
    fresh, reason = _attempt(case, lambda: _fresh(case))
    if reason:
        return undecided(f"it cannot be built again: {reason}")
    _fill(fresh, _persistent(fresh))
    loaded, reason = _attempt(case, lambda: _through_a_file(saved))
    if reason:
        return broken(None, f"torch.load(..., weights_only=True) refuses its state_dict: {reason}")
    _, reason = _attempt(case, lambda: fresh.load_state_dict(loaded))
    if reason:
        what = "a freshly built one" if make else "a copy"
        return broken(None, f"load_state_dict() of {what} raises {reason}")
    return _same_once_loaded(case, fresh)


def _same_once_loaded(case: Case, fresh: nn.Module) -> Relation:
    """Whether a module into which the state_dict was loaded gives what the own one gives."""
    lacking = _lacking(case.module, fresh)
    try:
        found = gap(case.run(on=fresh).values, case.base.values, case.allowed)
    except RnnscopeError as error:
        return broken(None, f"once loaded, it raises {_reason(error)}")
    if found.parts:
        first = next(iter(lacking), None)
        place = found.place if first is None else Place(first)
        told = Gap(found.max_abs, found.bound, found.share, place, found.says)
        return broken(told, _what_it_lacks(case.module, lacking))
    if case.recurrent.make is None:
        return holds(found, "it was loaded into a copy: what it keeps outside of parameters and buffers was not asked")
    return holds(found)


def _fresh(case: Case) -> nn.Module:
    """Another module of the same class, built under another seed; a copy where nobody knows how to build one."""
    if case.recurrent.make is None:
        return deepcopy(case.module, computed(case.module))
    torch.manual_seed(case.seed + _OTHER_SEED)
    return copy_in(case.recurrent.make(), case.dtype)


def _through_a_file(saved: Any) -> Any:
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _persistent(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers that a state_dict has to hold."""
    left_out = {
        f"{path}.{name}" if path else name
        for path, each in module.named_modules()
        for name in each._non_persistent_buffers_set
    }
    buffers = {name: each for name, each in module.named_buffers() if name not in left_out}
    return dict(module.named_parameters()) | buffers


def _fill(module: nn.Module, places: dict[str, Tensor]) -> None:
    """Put other numbers into tensors of a module; whole numbers, which may be places, are put in another order."""
    generator = torch.Generator().manual_seed(_OTHER_SEED)
    for each in places.values():
        if nn.parameter.is_lazy(each):
            continue  # it has no numbers before it is loaded
        drawn = torch.randn(each.shape, generator=generator, dtype=torch.float64)
        other = drawn.to(each.dtype).to(each.device) if is_number(each) else each.flatten().flip(0).reshape(each.shape)
        with torch.no_grad():
            each.data.copy_(other)


def _lacking(own: nn.Module, fresh: nn.Module) -> dict[str, Tensor]:
    """What a module keeps that its state_dict did not bring along: tensors that are others in a fresh one."""
    here, there = (kept_outside(each) | dict(each.named_buffers()) for each in (own, fresh))
    return {name: each for name, each in here.items() if name not in there or not _are_same(each, there[name])}


def _are_same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and bool(torch.equal(one, other))


def _what_it_lacks(module: nn.Module, lacking: dict[str, Tensor]) -> str:
    """In a sentence, with the attribute by its name."""
    if not lacking:
        return "the state_dict lacks something that it computes with, or load_state_dict() does not take all of it"
    return f"the state_dict lacks {_named(lacking)}{_kind(module, next(iter(lacking)))}"


def _kind(module: nn.Module, path: str) -> str:
    """What the attribute at a path is, and what would be in the state_dict."""
    if path in dict(module.named_buffers()):
        return ": a buffer with persistent=False"
    value: Any = None
    for place, each in module.named_modules():
        inside = path.removeprefix(f"{place}.") if place else path
        name = re.split(r"[.\[]", inside, maxsplit=1)[0]
        if (not place or inside != path) and name in attributes(each):
            value = attributes(each)[name]
    if isinstance(value, Tensor):
        return ": a tensor that is no buffer (register_buffer)"
    if isinstance(value, (list, tuple, dict)):
        elements, word = list(_elements(value)), type(value).__name__
        of = "Dict" if isinstance(value, dict) else "List"
        for kind, name in ((nn.Module, f"nn.Module{of}"), (nn.Parameter, f"nn.Parameter{of}")):
            if any(isinstance(each, kind) for each in elements):
                return f": a {word} that is no {name}"
        return f": a {word} of tensors, which are neither parameters nor buffers"
    return ": something that is no nn.Module"


def _elements(value: Any) -> Iterator[Any]:
    """What is in lists and dicts of any depth."""
    if isinstance(value, (list, tuple, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _elements(each)
    else:
        yield value


def _named(tensors: dict[str, Tensor]) -> str:
    """The attributes that hold tensors, a few of them."""
    names = list(dict.fromkeys(name.partition("[")[0] for name in tensors))
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


# Copies.


def copies(case: Case) -> Relation:
    """Whether deepcopy and pickle give a module that gives the same, and that shares nothing with the first one."""
    _, reason = _attempt(case, lambda: deepcopy(_original(case)))
    if reason:
        return broken(None, f"deepcopy is refused: {reason}")
    try:
        expected = case.run(on=_called(case)).values  # the second call, as it is that of every copy
    except RnnscopeError as error:
        return undecided(f"called a second time, it raises by itself {_reason(error)}")
    found = _of_one_way(case, expected, "deepcopy", deepcopy)
    if isinstance(found, Relation):
        return found
    if any(isinstance(each, torch.jit.ScriptModule) or is_parametrized(each) for each in case.module.modules()):
        return holds(found, "torch pickles no scripted or parametrized module, so that deepcopy alone was asked")
    pickled = _Pickled()
    of_pickle = _of_one_way(case, expected, "pickle", pickled)
    if isinstance(of_pickle, Relation):
        return of_pickle
    return holds(greatest([found, of_pickle]), pickled.told())


def _of_one_way(case: Case, expected: Values, way: str, copy: Callable[[nn.Module], nn.Module]) -> Relation | Gap:
    """How near a copy is, asked after a call with gradients; what is broken where it is no copy."""
    original = _called(case)
    torch.manual_seed(case.seed + _OTHER_SEED)  # numbers that are drawn anew are others
    copied, reason = _attempt(case, lambda: copy(original))
    if reason:
        return _refused(way, original, reason)
    if shared := _shared(original, copied):
        tensor = next(iter(shared))
        place = Gap(None, None, 0.0, Place(tensor))
        return broken(place, f"{way} gives a copy that shares {_named(shared)} with the first one")
    try:
        of_copy = gap(case.run(on=copied).values, expected, case.allowed)
    except RnnscopeError as error:
        return broken(None, f"what {way} gives raises {_reason(error)}")
    if of_copy.parts:
        return broken(of_copy, f"what {way} gives does not give what the first one gives")
    _fill(copied, dict(copied.named_parameters()) | dict(copied.named_buffers()))
    try:
        after = gap(case.run(on=original).values, expected, case.allowed)
    except RnnscopeError as error:
        return broken(None, f"the first one raises {_reason(error)} once the parameters of its {way} are changed")
    if after.parts:
        return broken(after, f"the first one gives something else once the parameters of its {way} are changed")
    return greatest([of_copy, after])


def _refused(way: str, original: nn.Module, reason: str) -> Relation:
    """What is told where a copy is refused, with the result that the module keeps if that is why."""
    results = {name: each for name, each in kept_outside(original).items() if not each.is_leaf}
    if way == "deepcopy" and results:
        why = f"it keeps {_named(results)}, a result with gradients: detach() it"
        place = Gap(None, None, 0.0, Place(next(iter(results))))
        return broken(place, f"deepcopy is refused after a call with gradients ({why}): {reason}")
    after = " after a call with gradients" if way == "deepcopy" else ""
    return broken(None, f"{way} is refused{after}: {reason}")


def _original(case: Case) -> nn.Module:
    """A copy of the case's module with parameters of its own."""
    torch.manual_seed(case.seed)
    return deepcopy(case.module, computed(case.module))


def _called(case: Case) -> nn.Module:
    """The same after a call with gradients; without, where it refuses those, as another relation tells."""
    module = _original(case)
    try:
        with torch.enable_grad():
            case.run(on=module)
    except RnnscopeError:
        module = _original(case)
        case.run(on=module)
    return module


def _shared(one: nn.Module, other: nn.Module) -> dict[str, Tensor]:
    """The tensors of a copy whose numbers lie where those of the first one lie."""
    theirs = {_storage(each) for each in _every(one).values()} - {None}
    return {name: each for name, each in _every(other).items() if _storage(each) in theirs}


def _every(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers()) | kept_outside(module)


def _storage(tensor: Tensor) -> tuple[str, int] | None:
    """Where the numbers of a tensor lie; None where it has none, or does not say."""
    try:
        place = tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError, ValueError):
        return None
    return (str(tensor.device), place) if place else None


class _Pickled:
    """Copies by pickle. Classes that pickle would not find by their names are handed over, and told."""

    def __init__(self) -> None:
        self.handed: list[type] = []
        self.of_files: set[str] = set()

    def __call__(self, module: nn.Module) -> nn.Module:
        file = io.BytesIO()
        _Pickler(file, self._handed_over).dump(module)
        file.seek(0)
        copied: nn.Module = _Unpickler(file, self.handed).load()
        return copied

    def told(self) -> str:
        """What is to be said of the classes."""
        local = [each.__qualname__ for each in self.handed]
        if local:
            them = "it" if len(local) == 1 else "them"
            return f"pickle does not find {', '.join(local[:_MOST_NAMED])} by name, and was handed {them}"
        if self.of_files:
            return f"pickle finds its class where {' and '.join(sorted(self.of_files))} can be imported by that name"
        return ""

    def _handed_over(self, each: Any) -> int | None:
        if not isinstance(each, type):
            return None
        home = sys.modules.get(each.__module__)
        if not _is_found(each, home):
            if each not in self.handed:
                self.handed.append(each)
            return self.handed.index(each)
        file = getattr(home, "__file__", None) or ""
        if re.fullmatch(rf"{re.escape(Path(file).stem)}_[0-9a-f]{{8}}", each.__module__):  # as a file is run here
            self.of_files.add(Path(file).name)
        return None


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, handed_over: Callable[[Any], int | None]) -> None:
        super().__init__(file)
        self.persistent_id = handed_over  # type: ignore[method-assign]


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, handed: list[type]) -> None:
        super().__init__(file)
        self.persistent_load = handed.__getitem__  # type: ignore[method-assign]


def _is_found(cls: type, home: Any) -> bool:
    """Whether a class is what its module has under its name."""
    found = home
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls


# Errors.


def _attempt(case: Case, call: Callable[[], Any]) -> tuple[Any, str]:
    """What code of the user's gives, or the reason why it gives nothing."""
    try:
        with guarded(case.recurrent.name):
            return call(), ""
    except RnnscopeError as error:
        return None, _reason(error)


def _reason(error: RnnscopeError) -> str:
    """The error itself, without the name and place that `guarded` puts around it."""
    cause = error.__cause__
    told = error.message if cause is None else f"{type(cause).__name__}: {in_one_sentence(cause)}"
    return _ADDRESS.sub("", told)
