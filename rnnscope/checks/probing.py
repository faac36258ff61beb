"""How is a module called, what does it give, and where does N stand? Told from a few calls of a copy of it."""

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rnnscope.checks.module import Recurrent, Roles, entries_of, roles_of, state_in
from rnnscope.checks.outside import change_outside
from rnnscope.checks.states import axis_of, cast, cloned, is_number, mapped, parts, tensors
from rnnscope.checks.values import Values
from rnnscope.errors import RnnscopeError
from rnnscope.subjects.building import computed
from rnnscope.subjects.user_code import guarded

PROBED = 6
"""A form is looked for on so many steps at most."""

_Y = ("output", "outputs", "y", "ys", "out", "last_hidden_state", "sequence", "hidden_states", "hs")
"""How people name what torch calls output."""

_INITIAL = [
    "init_hidden",
    "init_state",
    "initial_state",
    "get_initial_state",
    "init_states",
    "initial_hidden",
    "get_init_state",
    "begin_state",
    "zero_state",
    "init_zero_state",
    "empty_state",
    "new_state",
    "init_carry",
    "initialize_carry",
    "init_memory",
]
"""How people name a method that gives the state from which a sequence starts."""


def copy_in(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy in evaluation mode, whose numbers are in a dtype."""
    return changed(module, lambda each: cast(each, dtype)).eval()


def twin(module: nn.Module) -> nn.Module:
    """A copy that shares the parameters alone: what a call changes else stays with the copy."""
    if isinstance(module, torch.jit.ScriptModule):  # its tensors are not Python's
        return deepcopy(module)
    return deepcopy(module, computed(module) | {id(each): each for each in module.parameters()})


def changed(module: nn.Module, function: Callable[[Tensor], Tensor]) -> nn.Module:
    """A copy with other parameters and buffers, and other tensors of which torch does not know.

    Raises:
        RnnscopeError: no copy can be made that does not share its parameters.
    """
    with guarded(type(module).__name__):
        copy: Any = deepcopy(module, computed(module))
    if _shares(copy, module):
        with suppress(Exception):  # what it pickles may be anything
            copy = pickle.loads(pickle.dumps(module))
    if _shares(copy, module):
        raise RnnscopeError(
            f"{type(module).__name__}: its copies share its parameters, so that it cannot be run without changing it",
            "mend its __deepcopy__",
        )
    made: nn.Module = copy._apply(function)
    change_outside(made, function)
    return made


def _shares(copy: nn.Module, module: nn.Module) -> bool:
    own = {id(each) for each in module.parameters()}
    return copy is module or any(id(each) in own for each in copy.parameters())


def probed(
    name: str,
    module: nn.Module,
    x: Tensor,
    make: Callable[[], nn.Module] | None = None,
    batch_first: bool | None = None,
    said: Mapping[str, str] | None = None,
    state: Any = None,
) -> Recurrent:
    """How a module is called.

    Args:
        name: its name in messages.
        x: (L, N, ...), in the dtype of the module.
        make: builds another one.
        batch_first: its layout; None where that is to be found out.
        said: the names of forward's arguments that take x, state, lengths or mask, as the user says.
        state: one that it takes, where it cannot be called without.

    Raises:
        RnnscopeError: it cannot be called with x, or nothing of its result is y or a state.
    """
    plain = Recurrent(name, module, make, roles=roles_of(module, said or {}))
    found = _laid_out(plain, x, batch_first, state)
    return replace(found, across=_across(found, x))


def _laid_out(plain: Recurrent, x: Tensor, batch_first: bool | None, state: Any) -> Recurrent:
    """In the layout that was said, that the module or its parts say, or that fits."""
    if batch_first is not None:
        return _formed(replace(plain, batch_first=batch_first), x, state)
    says = [(path, each.batch_first) for path, each in plain.module.named_modules() if _says_layout(each)]
    if says and (says[0][0] == "" or len({layout for _, layout in says}) == 1):
        path, layout = says[0]
        found = _formed(replace(plain, batch_first=layout), x, state)
        return _told(found, f"as its {path + '.' * bool(path)}batch_first says") if layout and path else found
    return _in_the_layout_that_fits(plain, x, state)


def _told(found: Recurrent, why: str) -> Recurrent:
    told = f"x and y are (N, L, …) in it, {why}"
    return replace(found, adaptations=(told, *found.adaptations))


def _in_the_layout_that_fits(plain: Recurrent, x: Tensor, state: Any) -> Recurrent:
    """(L, N, ...), unless (N, L, ...) alone fits, or fits better."""
    found, best, error = None, 0, None
    for layout in (False, True):
        try:
            formed = _formed(replace(plain, batch_first=layout), x, state)
        except RnnscopeError as raised:
            error = error or raised
            continue
        fit = _fit(formed, x)
        if found is None or fit > best:
            found, best = formed, fit
        if best == 2:
            break
    if found is None:
        assert error is not None
        raise error
    return _told(found, "since its shapes fit in no other layout") if found.batch_first else found


def _says_layout(module: nn.Module) -> bool:
    return isinstance(getattr(module, "batch_first", None), bool)


def _fit(found: Recurrent, x: Tensor) -> int:
    """How well a layout fits: 0 not at all, 2 well, 1 where nothing tells."""
    if found.has_state:
        follows = any(axis is not None for axis in found.axes.values())
        grows = any(axis is not None for axis in found.growing.values())
        if grows and follows and found.has_y:  # as a cache of all steps does, in either layout
            return 2 if _walks_over_steps(found, x) else 1
        return 2 if follows else int(not grows)
    return 1 if not found.has_y else 2 if _walks_over_steps(found, x) else 0


def _walks_over_steps(found: Recurrent, x: Tensor) -> bool:
    """Whether what the first step of an item is given does not move another item alone: that would be the time."""
    module, x = found.module, sized(x, min(len(x), PROBED), 3)
    changed = x.clone()
    changed[0, 0] = x[-1, -1]
    try:
        one, other = (found.read(_called(found, module, each))[0].tensors["y"] for each in (x, changed))
    except RnnscopeError:
        return False
    moved = (one != other).flatten(2).any(2) if one.dim() > 2 else one != other
    return bool(moved[1:, 0].any()) or not bool(moved[0, 1:].any())


def sized(x: Tensor, steps: int, items: int) -> Tensor:
    """x: (L, N, ...) with so many steps and items, those that there are again and again."""
    rows = torch.arange(steps, device=x.device) % len(x)
    return x[rows][:, torch.arange(items, device=x.device) % x.shape[1]]


def _called(recurrent: Recurrent, module: nn.Module, x: Tensor, state: Any = None) -> Any:
    """The result of a call of a copy, with the state if one is given, and with whole lengths where these are needed."""
    return _called_itself(recurrent, twin(module), x, state)


def _called_itself(recurrent: Recurrent, copy: nn.Module, x: Tensor, state: Any) -> Any:
    """The result of a call of a copy that is there already."""
    others = needed(recurrent, x.shape[0], x.shape[1], x.device)
    recurrent.counted["form"] += 1
    return recurrent.call(copy, recurrent.laid_out(x).clone(), cloned(state), **others)


def needed(recurrent: Recurrent, steps: int, items: int, device: torch.device) -> dict[str, Any]:
    """The lengths, or the mask, that a module always takes: those of items that are all as long as x."""
    roles, found = recurrent.roles, dict[str, Any]()
    if roles.lengths and roles.needs_lengths:
        found[roles.lengths] = torch.full((items,), steps)
    if roles.mask and roles.needs_mask:
        shape = (items, steps) if recurrent.batch_first else (steps, items)
        found[roles.mask] = torch.full(shape, "pad" not in roles.mask.lower(), device=device)
    return found


def _formed(plain: Recurrent, x: Tensor, given: Any) -> Recurrent:
    """A module with what is found out of its results.

    Raises:
        RnnscopeError: it cannot be called, or gives nothing that follows N.
    """
    if len(x) > PROBED:
        try:
            return _formed(plain, x[:PROBED], given)
        except RnnscopeError:  # a module may be built for one L
            pass
    items, steps = x.shape[1], len(x)
    if plain.roles.needs_state and given is None:
        without = replace(plain, gives_none=True, roles=replace(plain.roles, needs_state=False))
        if _perhaps(without, x, None) is not None:
            plain = without
    starts = [given] if given is not None else list(_starting_states(plain, x)) if plain.roles.needs_state else [None]
    one, start = _first_call(plain, x, starts)
    wider = _perhaps(plain, sized(x, steps, items + 1), _like(start, plain, items))
    longer = _perhaps(plain, sized(x, steps + 1, items), start)
    entries = entries_of(one)
    y = _y_of(entries, wider, longer, (steps, items), plain.batch_first)
    keys = tuple(key for key, each in entries.items() if key != y and tensors(each))
    if y is None and not any(isinstance(each, Tensor) for key in keys for _, each in parts(entries[key])):
        raise RnnscopeError(
            f"{plain.name} returned a {type(one).__name__}, in which nothing is y or a state",
            "return y, (y, state), or a dict of both",
        )
    found = replace(plain, y=y, state=keys, start=start)
    if not keys:
        return _with_state_that_goes_in(found, one, x)
    return _with_state(found, one, wider, longer, x)


def _first_call(plain: Recurrent, x: Tensor, starts: list[Any]) -> tuple[Any, Any]:
    """The first result that there is, and the state that gave it."""
    error = RnnscopeError(
        f"{plain.name}: its forward always takes a state ({', '.join(plain.roles.state)}), and none is known",
        "give it a default, a method init_hidden(batch_size), or call rnnscope.check(module, x, state)",
    )
    found: list[tuple[Any, Any]] = []
    for start in starts:
        try:
            found.append((_called(plain, plain.module, x, start), start))
        except RnnscopeError as raised:
            error = raised
            continue
        if start is None or _comes_out(start, found[-1][0]):
            return found[-1]
    if found:
        return found[0]
    if starts == [None] and not plain.roles.needs_state:
        shape = tuple(plain.laid_out(x).shape)
        raise RnnscopeError(
            f"{error.message}, called with x of shape {shape}", "say --input-size, --batch-first or --arg NAME=VALUE"
        ) from error
    raise error


def _comes_out(start: Any, result: Any) -> bool:
    """Whether tensors of the shapes of a state are among what comes out: another state may be spread over it."""
    shapes = [each.shape for each in tensors(start).values()]
    given = [each.shape for each in tensors(result).values()]
    return all(given.count(each) >= shapes.count(each) for each in shapes)


def _perhaps(plain: Recurrent, x: Tensor, start: Any) -> Any:
    """The result of a call; None where it is refused, as by a module that is built for one L or one N."""
    with suppress(RnnscopeError):
        return _called(plain, plain.module, x, start)
    return None


def _like(start: Any, plain: Recurrent, items: int) -> Any:
    """A starting state for one item more."""
    if start is None:
        return None

    def grown(_: str, each: Tensor) -> Tensor:
        axis = next((axis for axis, size in enumerate(each.shape) if size == items), None)
        if axis is None:
            return each
        return torch.cat((each, each.narrow(axis, 0, 1)), axis)

    return mapped(grown, start)


def _y_of(
    entries: Mapping[str | int, Any], wider: Any, longer: Any, sizes: tuple[int, int], batch_first: bool
) -> str | int | None:
    """Where y is: the entry whose first two axes follow L and N."""
    steps, items = sizes
    leading = (items, steps) if batch_first else (steps, items)
    found = [
        key
        for key, each in entries.items()
        if isinstance(each, Tensor)
        and each.shape[:2] == leading
        and _follows(each, wider, key, items, int(not batch_first))
        and _follows(each, longer, key, steps, int(batch_first))
    ]
    return next((key for key in found if key in _Y), found[0] if found else None)


def _follows(tensor: Tensor, result: Any, key: str | int, size: int, axis: int) -> bool:
    """Whether an axis has one more where N or L has one more; yes where that could not be asked."""
    if result is None:
        return True
    other = entries_of(result).get(key)
    return isinstance(other, Tensor) and other.dim() == tensor.dim() and other.shape[axis] == size + 1


def _with_state(found: Recurrent, one: Any, wider: Any, longer: Any, x: Tensor) -> Recurrent:
    """With the axes of the state, and whether it is taken back."""
    steps, items = x.shape[:2]
    entries = entries_of(one)
    for keys in dict.fromkeys((found.state, found.state[:1])):
        state = state_in(entries, keys)
        found = replace(found, state=keys, axes=_axes(state, keys, wider, items))
        found = replace(found, merged=_merged(state, keys, wider, items))
        found = replace(found, growing=_axes(state, keys, longer, steps, only_known=True))
        if not found.roles.state:
            return _with_unnamed_state(found, x)
        try:
            _called(found, found.module, x, state)
            return replace(found, takes_state=True)
        except RnnscopeError as raised:
            reason = raised.message
    names = ", ".join(filter(None, found.roles.state)) or "hx"
    told = f"it does not take back the state that it gives, as {names}: {reason}"
    return replace(found, adaptations=(told,))


def _merged(state: Any, keys: tuple[str | int, ...], wider: Any, items: int) -> frozenset[str]:
    """The tensors in which N and something else are one axis, as N·heads."""
    there = {} if wider is None else tensors(state_in(entries_of(wider), keys))

    def is_merged(one: Tensor, other: Tensor) -> bool:
        if one.dim() != other.dim() or axis_of(one.shape, other.shape, (items, items + 1)) is not None:
            return False
        pairs = zip(one.shape, other.shape, strict=True)
        return any(size != more and size * (items + 1) == more * items for size, more in pairs)

    return frozenset(path for path, each in tensors(state).items() if path in there and is_merged(each, there[path]))


def _with_unnamed_state(found: Recurrent, x: Tensor) -> Recurrent:
    """With the argument that takes the state, though its name does not say so: from there it comes nearer to the whole.

    Others may move what comes out, too.
    """
    for name in found.roles.others:
        tried = replace(found, roles=replace(found.roles, state=(name,)), takes_state=True)
        if _goes_on(tried, x, NEARER):
            return replace(tried, adaptations=(f"{name} takes the state that comes out",))
    return found


NEARER, SAME = 0.5, 1e-3
"""By such a share at most what follows is as far from the whole as without the state, where it is used, and alone."""


def _goes_on(tried: Recurrent, x: Tensor, share: float) -> bool:
    """Whether what follows, from the state before it, comes nearer to the whole than from the start.

    A single step is asked, too: a module may take a state and forget it where more steps come in.
    """
    x = sized(x, max(len(x), 4), x.shape[1])
    half, start = len(x) // 2, tried.start
    try:
        whole, (before, state) = (tried.read(_called(tried, tried.module, each, start)) for each in (x, x[:half]))
    except RnnscopeError:
        return False
    if state is None or ("y" in before.tensors and len(before.tensors["y"]) != half):
        return False
    for last in (len(x), half + 1):
        with suppress(RnnscopeError):
            near, far = (
                _distance(tried, x[half:last], each, whole[0], half, last == len(x)) for each in (state, start)
            )
            if 0 < far < torch.inf and near <= share * far:
                return True
    return False


def _distance(tried: Recurrent, x: Tensor, state: Any, whole: Values, first: int, to_the_end: bool) -> float:
    """How far some steps from a state are from the same ones in the whole; of the state at the end where there is no y.

    Infinite where that has another form, or cannot be told.
    """
    found = tried.read(_called(tried, tried.module, x, state))[0].tensors
    if "y" in whole.tensors:
        pairs = [(found.get("y"), whole.tensors["y"][first : first + len(x)])]
    else:
        pairs = [(found.get(name), each) for name, each in whole.tensors.items() if to_the_end and is_number(each)]
    if not pairs or any(one is None or one.shape != other.shape for one, other in pairs):
        return torch.inf
    return max(float((one - other).abs().max()) for one, other in pairs if one is not None)


def _moves(tried: Recurrent, without: Any, x: Tensor, state: Any) -> bool:
    """Whether a state moves what comes out, and leaves its form: a switch would change that."""
    try:
        before = tried.read(without)[0].tensors
        after = tried.read(_called(tried, tried.module, x, state))[0].tensors
    except RnnscopeError:
        return False
    if before.keys() != after.keys() or ("y" in before and before["y"].shape != after["y"].shape):
        return False
    return not all(torch.equal(each, after[path]) for path, each in before.items())


def _with_state_that_goes_in(found: Recurrent, one: Any, x: Tensor) -> Recurrent:
    """Where no state comes out: with y as the state if it goes on from that, with one that was given, or found."""
    named = found.roles.state or found.roles.others
    for name in named if found.has_y and len(found.roles.state) < 2 else ():
        for axis, form in enumerate(_FORMS):
            roles = replace(found.roles, state=(name,))
            tried = replace(found, roles=roles, takes_state=True, state_of_y=form, axes={"state": axis % 2})
            if _goes_on(tried, x, SAME):
                told = f"y at the last step is the state from which it goes on, as {name or 'hx'}"
                return replace(tried, adaptations=(told,))
    if not tensors(found.start):
        return _with_state_of_a_part(found, x) if found.roles.state else found
    if found.roles.state:
        return _with_given_state(found, x)
    tries = (replace(found, roles=replace(found.roles, state=(name,))) for name in found.roles.others)
    taking = next((tried for tried in tries if _moves(tried, one, x, found.start)), None)
    return found if taking is None else _with_given_state(taking, x)


_FORMS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda step: step,
    lambda step: step[None],
    lambda step: step[:, None],
)
"""y at a step as a state: (N, H), (1, N, H) or (N, 1, H)."""


def _with_given_state(found: Recurrent, x: Tensor) -> Recurrent:
    """With a state that was given, or from which alone it starts, and where N stands in it.

    Where several axes have N numbers, N is the one that is refused in no batch of one item more.
    """
    steps, items = x.shape[:2]
    places = {
        path: [axis for axis, size in enumerate(each.shape) if size == items]
        for path, each in tensors(found.start).items()
    }
    fitting = []
    for which in range(max(map(len, places.values()))):
        axes = {path: at[min(which, len(at) - 1)] if at else None for path, at in places.items()}
        more = mapped(partial(_with_one_more, axes), found.start)
        if _perhaps(found, sized(x, steps, items + 1), more) is not None:
            fitting.append(axes)
    if len(fitting) == 1:
        return replace(found, takes_state=True, axes=fitting[0])
    only = {path: at[0] if at else None for path, at in places.items()}
    is_plain = all(len(at) < 2 for at in places.values())
    return replace(found, takes_state=True, axes=only) if is_plain else found


def _with_state_of_a_part(found: Recurrent, x: Tensor) -> Recurrent:
    """With a state in a usual form, if parts of torch's take each row of it as their hx: so no other form is meant."""
    parts = [path for path, each in found.module.named_modules() if isinstance(each, (nn.RNNBase, nn.RNNCellBase))]
    generator = torch.Generator().manual_seed(0)
    for zeros in _usual(found.module, x, found.roles) if parts else ():
        state = mapped(lambda _, each: (torch.rand(each.shape, generator=generator) - 0.5).to(each), zeros)
        with suppress(RnnscopeError):
            seen = [each for hx in _watched(found, x, state, parts, _hx) for each in tensors(hx).values()]
            if all(_has_rows(seen, each) for each in tensors(state).values()):
                shapes = " and ".join(str(tuple(each.shape)) for each in tensors(state).values())
                told = f"{', '.join(filter(None, found.roles.state)) or 'hx'} takes a state of {shapes}"
                axes = {path: each.dim() - 2 for path, each in tensors(state).items()}
                return replace(found, start=state, takes_state=True, axes=axes, adaptations=(told,))
    return found


def _hx(_: str, __: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What a part of torch's takes as its state."""
    return args[1] if len(args) > 1 else named.get("hx")


def _has_rows(seen: list[Tensor], state: Tensor) -> bool:
    """Whether each row of a tensor is among those of others."""
    rows = [each.reshape(-1, each.shape[-1]) for each in seen if each.dim() and each.shape[-1] == state.shape[-1]]
    own = state.reshape(-1, 1, state.shape[-1])
    return bool(rows) and bool((own == torch.cat(rows)).all(-1).any(1).all())


def _with_one_more(axes: Mapping[str, int | None], path: str, tensor: Tensor) -> Tensor:
    """A tensor of a state for one item more."""
    axis = axes.get(path)
    return tensor if axis is None else torch.cat((tensor, tensor.narrow(axis, 0, 1)), axis)


def _across(found: Recurrent, x: Tensor) -> frozenset[str]:
    """The parts that say bidirectional and have each step in a row of its own, so that they carry nothing over time.

    Their rows follow L, and the axis over which they walk does not: it may be the bands of a spectrum.
    """
    parts = [path for path in found.backward_parts if _says_layout(found.module.get_submodule(path))]
    if found.reads_backward or not parts or isinstance(found.module, torch.jit.ScriptModule):
        return frozenset()
    steps, items = min(len(x), PROBED), x.shape[1]
    try:
        few, more = (_walked(found, sized(x, many, items), parts) for many in (steps, steps + 1))
    except RnnscopeError:  # a module may be built for one L
        return frozenset()

    def is_across(path: str) -> bool:
        rows, lengths = few[path]
        return rows > 0 and more[path] == (rows // steps * (steps + 1), lengths) and rows % (steps * items) == 0

    return frozenset(filter(is_across, parts))


def _walked(found: Recurrent, x: Tensor, parts: list[str]) -> dict[str, tuple[int, frozenset[int]]]:
    """How many rows each part walks over in a call, and how long they are; no row where that is not known."""

    def sizes(path: str, part: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[str, int, int]:
        shape = tuple(args[0].shape) if args and isinstance(args[0], Tensor) else ()
        rows, length = shape[:2] if len(shape) == 3 else (0, 0)
        return (path, rows, length) if part.batch_first else (path, length, rows)

    seen = _watched(found, x, found.start, parts, sizes)
    walked = {}
    for path in parts:
        calls = [each[1:] for each in seen if each[0] == path]
        rows = sum(rows for rows, _ in calls) if all(rows for rows, _ in calls) else 0
        walked[path] = (rows, frozenset(length for _, length in calls))
    return walked


def _watched(found: Recurrent, x: Tensor, state: Any, parts: list[str], watch: Callable[..., Any]) -> list[Any]:
    """What is seen of each call of some parts in one call of a copy, in their order.

    Raises:
        RnnscopeError: an error of the user's.
    """
    module, seen = twin(found.module), list[Any]()

    def saw(path: str, *called: Any) -> None:
        seen.append(watch(path, *called))

    for path in parts:
        module.get_submodule(path).register_forward_pre_hook(partial(saw, path), with_kwargs=True)
    _called_itself(found, module, x, state)
    return seen


def _axes(state: Any, keys: tuple[str | int, ...], other: Any, size: int, only_known: bool = False) -> dict[str, Any]:
    """The axes of a state that have one more where N or L has one more.

    Where that could not be asked, N is taken for the first axis of its size.
    """
    there = {} if other is None else tensors(state_in(entries_of(other), keys))
    axes: dict[str, int | None] = {}
    for path, each in tensors(state).items():
        if path in there:
            axes[path] = axis_of(each.shape, there[path].shape, (size, size + 1))
        elif not only_known:
            axes[path] = next((axis for axis, extent in enumerate(each.shape) if extent == size), None)
    return axes


def _starting_states(recurrent: Recurrent, x: Tensor) -> Iterator[Any]:
    """States from which a module that always takes one may start: what its methods give, then zeros in usual shapes."""
    yield from (state for _, state in said_states(recurrent, recurrent.module, x))
    yield from _usual(recurrent.module, x, recurrent.roles)


def said_states(recurrent: Recurrent, module: nn.Module, x: Tensor) -> Iterator[tuple[str, Any]]:
    """What the methods of a module say that it starts from, with their names."""
    for name in _INITIAL:
        method = getattr(module, name, None)
        if not callable(method) or isinstance(method, nn.Module):
            continue
        for given in ((x.shape[1],), (x.shape[1], x.device), (recurrent.laid_out(x),), ()):
            try:
                with guarded(recurrent.name):
                    state = method(*given)
            except RnnscopeError:  # a method may be anything
                continue
            if tensors(state):
                yield f"{name}()", state
            break


def _usual(module: nn.Module, x: Tensor, roles: Roles) -> Iterator[Any]:
    """Zeros: (N, H), (1, N, H), (K, N, H) or (D·K, N, H), as one, as a pair, or as so many as there are arguments."""
    items, sizes, cells = x.shape[1], list[int](), 0
    rows: list[tuple[int, ...]] = [(), (1,)]
    for each in module.modules():
        cells += isinstance(each, nn.RNNCellBase)
        if isinstance(size := getattr(each, "hidden_size", None), int):
            sizes.append(size)
        if isinstance(layers := getattr(each, "num_layers", None), int):
            rows += [(layers,), (2 * layers,)] if getattr(each, "bidirectional", False) is True else [(layers,)]
    rows += [(cells,)] if cells > 1 else []
    for shape in dict.fromkeys((*row, items, size) for size in sizes for row in rows):
        zeros = x.new_zeros(shape) if x.is_floating_point() else torch.zeros(shape)
        for several in (1, 2) if len(roles.state) == 1 else (len(roles.state),):
            yield zeros if several == 1 else tuple(zeros.clone() for _ in range(several))
