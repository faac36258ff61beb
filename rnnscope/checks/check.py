"""Does a module keep what every recurrent module must keep? Each relation is asked, and what breaks is told.

A relation is a function of a Case: it runs the module in two ways that must give the same. Its Relation says whether
they do, within the bound that is measured on the module itself.
"""

import inspect
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from rnnscope.checks.calls import inputs_kept, repeatable, stateless, zero_state
from rnnscope.checks.case import UNITS, Case, case_of, replace_case, trusted_steps
from rnnscope.checks.copies import copies, state_dict
from rnnscope.checks.facts import BROKEN, UNDECIDED, Relation, Smallest, Support, undecided
from rnnscope.checks.gradients import gradient, gradient_reach
from rnnscope.checks.items import batch_first, batch_of_one, item_isolation, layout, permutation, unbatched
from rnnscope.checks.padding import packed, padding
from rnnscope.checks.precision import NAMES, inside, precision
from rnnscope.checks.probing import copy_in, probed
from rnnscope.checks.result import Check
from rnnscope.checks.states import cast
from rnnscope.checks.steps import causality, chunked, last_state, stepwise
from rnnscope.checks.supports import supports
from rnnscope.checks.words import raised
from rnnscope.errors import RnnscopeError
from rnnscope.pages.progress import progress, stage
from rnnscope.pages.render import render
from rnnscope.spec.relations import ALL, MODULE, RELATIONS, WANTED_FLAGS, Wanted, check_askable, roots
from rnnscope.spec.shrinking import shrink
from rnnscope.spec.spec import SPEC_FLAGS, Spec, rerun
from rnnscope.subjects.arguments import plain
from rnnscope.subjects.building import Maker, maker_of
from rnnscope.subjects.devices import device_name, has_float64, is_out_of_memory, running, spelled
from rnnscope.subjects.foreign import in_one_sentence
from rnnscope.subjects.own import acts_in_training
from rnnscope.subjects.user_code import find_own, guarded

_ANY = Spec()
"""The sizes where nothing is said of them."""

ASKED: Mapping[str, Callable[[Case], Relation]] = {
    "repeatable": repeatable,
    "stateless": stateless,
    "inputs_kept": inputs_kept,
    "zero_state": zero_state,
    "batch_first": batch_first,
    "layout": layout,
    "item_isolation": item_isolation,
    "permutation": permutation,
    "batch_of_one": batch_of_one,
    "unbatched": unbatched,
    "causality": causality,
    "last_state": last_state,
    "chunked": chunked,
    "stepwise": stepwise,
    "packed": packed,
    "padding": padding,
    "precision": precision,
    "gradient_reach": gradient_reach,
    "gradient": gradient,
    "state_dict": state_dict,
    "copies": copies,
}
"""What asks each relation."""


def relations_of(case: Case, wanted: tuple[str, ...] = RELATIONS) -> tuple[Relation, ...]:
    """What is found of each relation that is wanted, in the order of RELATIONS.

    One that rests on a broken one breaks with it: then only the root is called broken.
    """
    found: dict[str, Relation] = {}
    with progress(len(wanted), "relations") as advance, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each call would warn again of what the first one warned of
        for name in wanted:
            found[name] = _asked(case, name, found)
            advance(1)
    return tuple(found.values())


def _asked(case: Case, name: str, found: Mapping[str, Relation]) -> Relation:
    """What is found of one relation."""
    before = case.recurrent.counted[name]
    with case.asked_by(name):
        try:
            told = ASKED[name](case)
        except RnnscopeError as error:
            told = undecided(f"it raises {raised(error)}")
        except (RuntimeError, IndexError, ValueError, TypeError) as error:  # of shapes that no other module gives
            if is_out_of_memory(error):
                raise
            told = undecided(f"what it gives cannot be compared ({in_one_sentence(error)})")
    told = replace(told, relation=name, runs=case.recurrent.counted[name] - before)
    root = next((each for each in roots(name) if each in found and found[each].outcome == BROKEN), None)
    if told.outcome in (BROKEN, UNDECIDED) and root:
        if root == MIXES and name in ALONE and case.items > 1 and (one := _of_one_item(case, name)):
            return one
        return replace(told, outcome=UNDECIDED, place=None, message=f"it rests on {root}, which is broken")
    return told


MIXES, ALONE = "item_isolation", ("chunked", "stepwise")
"""Where items move each other, these are asked of one item, too: what breaks there is a fault of its own."""


def _of_one_item(case: Case, name: str) -> Relation | None:
    """What is found broken in a batch of one; None where it is not, or cannot be asked of one."""
    x, state = case.of_items([0])
    before = case.recurrent.counted[name]
    with suppress(RnnscopeError):
        told = _asked(replace_case(case, x=x, state=state, given_lengths=None), name, {})
        if told.outcome == BROKEN:
            return replace(told, runs=case.recurrent.counted[name] - before)
    return None


def check(module: nn.Module | str, *given: Any, wanted: Wanted = ALL, **options: Any) -> Check:
    """Ask what a recurrent module must keep, with nothing to compare it with.

    `check(module, x, state)`: a module with its own weights, which is copied and left as it is, and asked in evaluation
    mode. x: (L, N, ...), or (N, L, ...) if its batch_first says so, or `batch_first=True`; without it numbers are drawn
    for a module that has an input_size. state: from which it starts, in whatever form it takes one; without it a state
    that the module itself comes to. `make=` builds another one, into which the state_dict is loaded.

    `check("FILE.py:Class", spec)`: a class of the user's, built for the sizes of a Spec. `given` names the fields of
    the Spec that it must follow, and `args` has arguments of its constructor, as NAME=VALUE.

    Both take `wanted=Wanted(...)`, or its fields by name: only, skip, supports, shrink, args, names.

    Raises:
        RnnscopeError: it cannot be built or called, or nothing that comes out is y or a state.

    >>> found = check(torch.nn.LSTM(4, 8), torch.randn(6, 3, 4), only=("causality", "chunked"))
    >>> [(each.relation, each.outcome) for each in found.relations]
    [('causality', 'holds'), ('chunked', 'holds')]
    """
    if fields := {name: options.pop(name) for name in WANTED_FLAGS if name in options}:
        for name in ("only", "skip"):
            if isinstance(fields.get(name), (str, list)):
                fields[name] = (fields[name],) if isinstance(fields[name], str) else tuple(fields[name])
        wanted = replace(wanted, **fields)
    if isinstance(module, nn.Module):
        return _of_module(module, *given, wanted=wanted, **options)
    if isinstance(module, str):
        if given and not isinstance(given[0], Spec):
            raise RnnscopeError(
                f"check of {module} takes a Spec, and got a {type(given[0]).__name__}",
                "give rnnscope.Spec(...), or a module with its x",
            )
        return _of_class(module, *given, wanted=wanted, **options)
    raise RnnscopeError(f"check takes a module or the name of a class, and got a {type(module).__name__}")


def assert_sound(module: nn.Module | str, *given: Any, **options: Any) -> Check:
    """Raise unless `check` with the same arguments finds that every relation holds that says something.

    Returns:
        the check, whose figures may be asserted, too.

    Raises:
        AssertionError: a relation is broken, or it cannot be decided; its text is the table of the check.
        RnnscopeError: `check` raises it.

    >>> assert_sound(torch.nn.GRU(4, 8), torch.randn(5, 3, 4)).exit_code
    0
    """
    found = check(module, *given, **options)
    if found.exit_code:
        raise AssertionError("\n" + render(found, "table", io.StringIO()))
    return found


def _of_class(name: str, spec: Spec = _ANY, *, wanted: Wanted, given: tuple[str, ...] | None = None) -> Check:
    """A class of the user's, built for the sizes of a Spec."""
    if given is None:
        given = tuple(each for each, flag in SPEC_FLAGS.items() if getattr(spec, each) != flag.default)
    check_askable(spec)
    with running(spec) as placed:
        case, maker = _built(name, placed, wanted, given)
        found = _found(case, name, placed, wanted)
        smallest: tuple[Smallest, ...] = ()
        if wanted.shrink:
            with stage("the smallest sizes at which it breaks"):
                smallest = tuple(
                    _smallest(each, name, placed, wanted, given) for each in found.told(BROKEN)[:MOST_SHRUNK]
                )
        return replace(found, adaptations=(*maker.adaptations, *found.adaptations), smallest=smallest)


def _built(name: str, spec: Spec, wanted: Wanted, given: tuple[str, ...]) -> tuple[Case, Maker]:
    """The case of a class for a Spec, and how it is made."""
    target = find_own(name)
    torch.manual_seed(spec.seed)
    maker = maker_of(name, target, spec, wanted.own, "--arg", follows=frozenset(given) - {"bidirectional"})
    dtype = getattr(torch, spec.dtype)

    def make(of: Spec = spec) -> nn.Module:
        with guarded(name):
            return maker.make(of).to(spec.device)

    module = maker.network.to(spec.device)
    module = module.float() if dtype is torch.float64 else module
    takes_layout = "batch_first" in maker.takes and says_batch_first(target)
    said = spec.batch_first if takes_layout or spec.batch_first else None
    x = _drawn(module, spec)
    recurrent = None
    for drawn in x:
        try:
            recurrent = probed(name, module, drawn, make, said, wanted.roles)
            break
        except RnnscopeError as refusal:
            error = refusal
    if recurrent is None:
        raise error
    other = partial(make, replace(spec, batch_first=not spec.batch_first)) if takes_layout else None
    recurrent = replace(recurrent, in_other_layout=other, says_backward=spec.bidirectional)
    case = case_of(recurrent, drawn, seed=spec.seed, dtype=_exact(spec.device))
    case.given_lengths = spec.lengths
    case.dtypes = _dtypes(torch.float32, dtype)
    return case, maker


def says_batch_first(target: Any) -> bool:
    """Whether an argument of a class or function has this name: **kwargs takes any, and may leave it out."""
    if inspect.isclass(target) and issubclass(target, nn.RNNBase):
        return True
    with suppress(TypeError, ValueError):
        return any(plain(each) == "batchfirst" for each in inspect.signature(target).parameters)
    return False


def _drawn(module: nn.Module, spec: Spec) -> Iterator[Tensor]:
    """x: (L, N, H_in); where that is refused by a module with an embedding, the numbers of words: (L, N)."""
    generator = torch.Generator().manual_seed(spec.seed)
    yield torch.randn(spec.seq_len, spec.batch_size, spec.input_size, generator=generator).to(spec.device)
    words = [each.num_embeddings for each in module.modules() if isinstance(each, nn.Embedding)]
    if words:
        yield torch.randint(min(words), (spec.seq_len, spec.batch_size), generator=generator).to(spec.device)


def _exact(device: str) -> torch.dtype:
    return torch.float64 if has_float64(device) else torch.float32


def _dtypes(own: torch.dtype, asked: torch.dtype) -> tuple[torch.dtype, ...]:
    """The dtypes in which a module is run besides float64."""
    return tuple(dict.fromkeys(each for each in (own, asked) if each is not torch.float64)) or (torch.float32,)


def _of_module(
    module: nn.Module,
    x: Tensor | None = None,
    state: Any = None,
    *,
    wanted: Wanted,
    batch_first: bool | None = None,
    make: Callable[[], nn.Module] | None = None,
    name: str | None = None,
) -> Check:
    """A module that is there already."""
    name = name or type(module).__name__
    weight = next((each for each in module.parameters() if each.is_floating_point()), torch.zeros(0))
    if any(nn.parameter.is_lazy(each) for each in module.parameters()):
        raise RnnscopeError(f"{name} has parameters without numbers", "call it once: module(x)")
    device = spelled(weight.device)
    if device is None:
        raise RnnscopeError(f"{name} is on {weight.device}, but it must be on a CPU or an accelerator")
    own = weight.dtype if weight.numel() and weight.dtype in UNITS else torch.float32
    x = cast(_given_x(module, name, x), own).detach().to(weight.device)
    layout = batch_first if batch_first is not None else getattr(module, "batch_first", None)
    x = x.transpose(0, 1) if layout is True else x
    with running(replace(_ANY, device=device, dtype=NAMES[own])) as placed:
        recurrent = probed(name, copy_in(module, own), x, _on(make, weight.device), layout, wanted.roles, state)
        x = x.transpose(0, 1) if layout is None and recurrent.batch_first else x
        other = _other_layout(module, make, recurrent.batch_first)
        recurrent = replace(recurrent, in_other_layout=other)
        case = case_of(recurrent, x, state, dtype=_exact(device))
        case.dtypes = _dtypes(own, own)
        sizes = replace(placed, **_sizes_of(module), seq_len=case.steps, batch_size=case.items)
        found = _found(case, name, replace(sizes, batch_first=recurrent.batch_first), wanted)
    told = ("it is in training mode, and is asked in evaluation mode",) if acts_in_training(module) else ()
    return replace(found, is_given=True, adaptations=(*told, *found.adaptations))


def _sizes_of(module: nn.Module) -> dict[str, Any]:
    """What a module of torch's says of itself, by the fields of a Spec."""
    if not isinstance(module, nn.RNNBase):
        return {}
    kind, _, nonlinearity = module.mode.lower().partition("_")
    sizes = ("input_size", "hidden_size", "num_layers", "bias", "bidirectional", "proj_size")
    return {"kind": kind, "nonlinearity": nonlinearity or "tanh"} | {each: getattr(module, each) for each in sizes}


def _on(make: Callable[[], nn.Module] | None, device: torch.device) -> Callable[[], nn.Module] | None:
    """What makes a module, on a device."""
    return None if make is None else lambda: make().to(device)


def _given_x(module: nn.Module, name: str, x: Any) -> Tensor:
    """x as it was given, or drawn for a module that says what it takes."""
    if x is None:
        size = getattr(module, "input_size", None)
        if not isinstance(size, int):
            raise RnnscopeError(f"{name} has no input_size, so that x is not known", "give it: check(module, x)")
        layout = (4, 16) if getattr(module, "batch_first", False) is True else (16, 4)
        x = torch.randn(*layout, size, generator=torch.Generator().manual_seed(0))
    if not isinstance(x, Tensor) or x.dim() < 2 or (x.dim() == 2 and x.is_floating_point()):
        what = f"of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise RnnscopeError(f"x is {what}, but it must be a tensor (L, N, ...)", "give a batch: check(module, x)")
    if x.layout is not torch.strided or not x.isfinite().all():
        raise RnnscopeError("x is sparse, or has NaN or infinity in it", "give plain finite numbers")
    if not x.numel():
        raise RnnscopeError(f"x is of shape {tuple(x.shape)}, so that nothing comes out", "give a step and an item")
    return x


def _other_layout(
    module: nn.Module, make: Callable[..., nn.Module] | None, batch_first: bool
) -> Callable[[], nn.Module] | None:
    """What gives one in the other layout: torch's modules are turned, others are made anew with batch_first."""
    if isinstance(module, nn.RNNBase):
        return partial(_turned, module)
    with suppress(TypeError, ValueError):
        if make is not None and "batch_first" in inspect.signature(make).parameters:
            return partial(make, batch_first=not batch_first)
    return None


def _turned(module: nn.RNNBase) -> nn.Module:
    other: Any = copy_in(module, next(module.parameters()).dtype)
    other.batch_first = not module.batch_first
    made: nn.Module = other
    return made


def _found(case: Case, name: str, spec: Spec, wanted: Wanted) -> Check:
    """What is found of a case: shorter than it is, where rounding moves later steps too far."""
    case.by_name = wanted.only or ()
    with case.asked_by("bound"):
        case.inside = inside(case)
        if case.inside is not None:
            case = replace_case(case, unit=UNITS[case.inside])
        steps = trusted_steps(case)
    relations: tuple[Relation, ...]
    if steps == 0:
        relations = tuple(_nothing_said(case, each) for each in wanted.relations)
    else:
        case = case if steps == case.steps else case.first(steps)
        relations = relations_of(case, wanted.relations)
    supported: tuple[Support, ...] = ()
    if wanted.supports and steps:
        with case.asked_by("supports"):
            supported = supports(case)
    return Check(
        subject=name,
        spec=spec,
        relations=relations,
        wanted=wanted,
        supports=supported,
        adaptations=case.recurrent.adaptations,
        x=tuple(case.recurrent.laid_out(case.x).shape),
        batch_first=case.recurrent.batch_first,
        computed_in=NAMES[case.dtype],
        steps=None if steps == spec.seq_len else steps,
        inside=NAMES[case.inside] if case.inside else None,
        calls=tuple(case.recurrent.counted.items()),
        device_name=device_name(spec),
        torch_version=str(torch.__version__),
    )


def _nothing_said(case: Case, relation: str) -> Relation:
    """Why not even the first step says anything. That a module is too coarse for that is known of its precision."""
    if relation == "precision" and case.inside is not None and (told := precision(case)).outcome == BROKEN:
        return replace(told, relation=relation)
    reason = "rounding alone moves the first step too far to tell"
    for name, each in case.base.values.tensors.items():
        if not (each[:1] if name == "y" else each).isfinite().all():
            reason = f"{name} is NaN or infinite{' at the first step' if name == 'y' else ''}"
            break
    return replace(undecided(reason), relation=relation)


MOST_SHRUNK, MOST_TRIES = 2, 60
"""Of so many broken relations the smallest sizes are looked for, in so many tries."""


def _smallest(broken: Relation, name: str, spec: Spec, wanted: Wanted, given: tuple[str, ...]) -> Smallest:
    """The smallest sizes at which a relation is still broken, and the line that asks for it alone."""
    only = replace(wanted, only=(broken.relation,), skip=None, supports=False)
    tries, takes = count(), frozenset[str]()

    def breaks(smaller: Spec) -> bool:
        nonlocal takes
        if next(tries) >= MOST_TRIES or smaller.unbatched:
            return False
        # What the line says, the class must follow.
        said = {*given, *(each for each in SPEC_FLAGS if getattr(smaller, each) != getattr(spec, each))}
        with suppress(RnnscopeError):  # a class may be made for other sizes alone
            case, maker = _built(name, smaller, only, tuple(said))
            takes, case.by_name = maker.takes, only.only or ()
            case.unit = UNITS[inside(case) or case.dtype]
            return trusted_steps(case) == case.steps and _asked(case, broken.relation, {}).outcome == BROKEN
        return False

    kept = {each: getattr(spec, each) for each in ("kind", "dtype", "device", "threads", "bidirectional", "seed")}
    found = shrink(spec, lambda smaller: all(getattr(smaller, n) == v for n, v in kept.items()) and breaks(smaller))
    if "num_layers" not in takes:
        found = replace(found, num_layers=spec.num_layers)
    words = ((flag, getattr(only, each)) for each, flag in WANTED_FLAGS.items())
    return Smallest(broken.relation, found, rerun("check", found, (MODULE, name), *words))
