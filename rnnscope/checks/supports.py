"""Which of torch's transforms take a module: vmap, jvp, torch.compile, torch.export and scripting?

Each is tried on small sizes, and what it gives is compared with what the module itself gives. Whatever one raises is
told in one line; none prints.
"""

import inspect
import io
import logging
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from rnnscope.checks.case import DRAWS, FACTOR, FLOOR, Case, Rounding, default_dtype, replace_case
from rnnscope.checks.facts import NOT_APPLICABLE, Support
from rnnscope.checks.probing import sized
from rnnscope.checks.states import is_number, mapped, numbers, of_items, parts
from rnnscope.checks.values import Gap, Values, gap, greatest
from rnnscope.errors import RnnscopeError
from rnnscope.subjects.exporter import Plain, PlainLSTM
from rnnscope.subjects.foreign import in_one_sentence
from rnnscope.subjects.user_code import guarded

RIGHT, WRONG, REFUSED = "right", "wrong", "refused"
"""What can be said of a transform."""

FIRST, SECOND = (3, 2), (5, 3)
"""L and N at which each transform is made, and those at which it is asked as well."""

MOST_STEPS, MOST_ITEMS = 8, 3
"""L and N of a module that takes no others than it was given."""

MOST_OPERATIONS = 500
"""Operations of torch that are compiled or exported: compiling as many takes about a minute."""


_SHOWN = re.compile(r"\.?:?\s*\n\s*File \"")
"""Where an error starts to show a piece of source."""


def supports(case: Case) -> tuple[Support, ...]:
    """What each transform makes of a module, in float64, with grad off. Inside `running`."""
    sizes = _sizes_of(case)
    return tuple(_tried(name, ask, sizes) for name, ask in _TRANSFORMS.items())


def _tried(name: str, ask: "Callable[[_Sizes], Support]", sizes: "_Sizes") -> Support:
    """What one transform gives; refused with the reason where anything is raised."""
    try:
        with guarded(sizes.here.recurrent.name), _quietly():
            return replace(ask(sizes), name=name)
    except Exception as error:
        return Support(name, REFUSED, _reason(error))


def _reason(error: BaseException) -> str:
    """What torch or the module says, without what `guarded` puts around it."""
    while isinstance(error, RnnscopeError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, RnnscopeError):
        return error.message
    text = str(error)
    # TorchScript shows the line of the source behind what it says, or in an error of a run before it.
    told = in_one_sentence((text if "TorchScript" in text else _SHOWN.split(text)[0].strip()) or error)
    return told if " " in told else f"{type(error).__name__}: {told}"


@contextmanager
def _quietly() -> Iterator[None]:
    """Let nobody see what torch prints, warns of and logs: what matters of it is raised as well."""
    disabled, unseen = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(unseen), redirect_stderr(unseen):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


# The sizes.


@dataclass(frozen=True, eq=False)
class _Sizes:
    """The cases on which a transform is tried.

    Args:
        here: the sizes at which it is made.
        others: other numbers of these sizes.
        longer: another L alone.
        wider: another N alone.
        away: another L and N. Each is None where the module itself does not take it.
    """

    here: Case
    others: Case
    longer: Case | None
    wider: Case | None
    away: Case | None


def _sizes_of(case: Case) -> _Sizes:
    here = _taken(_case_at(case, *FIRST))
    if here is None:  # the module is built for one L or one N
        cut = _case_at(case, min(case.steps, MOST_STEPS), min(case.items, MOST_ITEMS))
        of_own_n = case.first(min(case.steps, MOST_STEPS))
        here = _taken(cut) or _taken(of_own_n) or case
    steps, items = (
        second if first != second else second + 1 for first, second in zip(_lengths(here), SECOND, strict=True)
    )
    return _Sizes(
        here,
        replace_case(here, x=here.other_x(seed=3)),
        _taken(_case_at(case, steps, here.items, seed=4)),
        _taken(_case_at(case, here.steps, items, seed=5)),
        _taken(_case_at(case, steps, items, seed=6)),
    )


def _lengths(case: Case) -> tuple[int, int]:
    return case.steps, case.items


def _case_at(case: Case, steps: int, items: int, seed: int | None = None) -> Case:
    """A case of other sizes, with the own numbers or others; the state is that of the same items."""
    x = sized(case.x if seed is None else case.other_x(seed), steps, items)
    rows = torch.arange(items, device=x.device) % case.items
    return replace_case(case, x=x, state=of_items(case.state, case.axes, rows))


def _taken(case: Case) -> Case | None:
    """A case that the module itself takes; None where it raises."""
    try:
        _ = case.base
    except RnnscopeError:
        return None
    return case


# What is compared.


def _judged(here: Sequence[Case], elsewhere: Sequence[Case | None], made: Any) -> Support:
    """What something gives that was made of a module, beside a copy of the module that is called just as often.

    Args:
        here: cases of the sizes at which it was made.
        elsewhere: those of other sizes.
    """
    plain, found, refused = here[0].copy(), list[Gap](), list[str]()
    for case in (*here, *filter(None, elsewhere)):
        is_here = case in here
        try:
            expected = case.run(on=plain).values
        except RnnscopeError:  # it keeps something of the calls before, and takes no other size any more
            continue
        try:
            actual = case.run(on=made).values
        except RnnscopeError as error:
            if is_here:
                raise
            refused.append(f"at {_differing(case, here[0])} it refuses: {_reason(error)}")
            continue
        found.append(gap(actual, expected, case.allowed))
        if found[-1].parts:
            right = "" if is_here else f"right at {_named(here[0])}, where it was made; "
            return _told(WRONG, found[-1], f"{right}at {_differing(case, here[0])} {_off(found[-1])}")
    furthest = greatest(found)
    if refused:
        message = f"right at {_named(here[0])}, where it was made; {refused[0]}"
        return _told(REFUSED, furthest, message)
    return _told(RIGHT, furthest)


def _told(outcome: str, found: Gap, message: str = "") -> Support:
    return Support("", outcome, message, found.max_abs, found.bound)


def _named(case: Case) -> str:
    return f"L = {case.steps}, N = {case.items}"


def _differing(case: Case, first: Case) -> str:
    """What is another size than first; both where nothing is."""
    sizes = zip("LN", _lengths(case), _lengths(first), strict=True)
    changed = [f"another {each}" for each, one, other in sizes if one != other]
    return " and ".join(changed).replace("and another", "and") or _named(case)


def _off(found: Gap) -> str:
    return found.says or f"{found.place.tensor if found.place else 'y'} is {found.max_abs:.2g} off"


def _others(case: Case) -> dict[str, Any]:
    """The lengths of whole items, or a mask, where forward needs them."""
    return case.needed(case.steps, case.items)


# vmap.


def _vmap(sizes: _Sizes) -> Support:
    """An extra axis of x and of the state, against a loop over it."""
    here = sizes.here
    scaled = {7: 0.5, 8: -0.75}
    several = [
        here,
        *(replace_case(here, x=here.other_x(i), state=_scaled(here.state, by)) for i, by in scaled.items()),
    ]
    module, recurrent, others = here.copy(), here.recurrent, _others(here)

    def one(x: Tensor, parts_of_state: dict[str, Tensor]) -> dict[str, Tensor]:
        state = mapped(lambda path, _: parts_of_state[path], here.state)
        return dict(recurrent.read(recurrent.call(module, recurrent.laid_out(x), state, **others))[0].tensors)

    flat = [{path: each for path, each in parts(case.state) if isinstance(each, Tensor)} for case in several]
    stacked = {path: torch.stack([each[path] for each in flat]) for path in flat[0]}
    with default_dtype(here.dtype):
        given = torch.stack([each.x for each in several])
        result = torch.func.vmap(one, randomness="error")(given, stacked)
    found = [
        gap(
            Values({name: each[i] for name, each in result.items()}, case.base.values.axes),
            case.base.values,
            case.allowed,
        )
        for i, case in enumerate(several)
    ]
    furthest = greatest(found)
    return _told(WRONG, furthest, f"beside a loop {_off(furthest)}") if furthest.parts else _told(RIGHT, furthest)


def _scaled(state: Any, by: float) -> Any:
    return numbers(lambda each: each * by, state)


# jvp.

_X = "x"


def _jvp(sizes: _Sizes) -> Support:
    """Forward mode by parameters and x: wᵀ(Jv) against (Jᵀw)ᵀv of autograd; where they part, against differences."""
    case = sizes.here
    given = {f"parameter {name}": each.detach() for name, each in case.module.named_parameters() if is_number(each)}
    given |= {_X: case.x} if is_number(case.x) else {}
    if not given:
        return Support("", NOT_APPLICABLE, "it has no parameters, and x holds whole numbers")
    along, onto = _drawn(given, 1), _drawn(case.base.values.tensors, 2)
    if not onto:
        return Support("", NOT_APPLICABLE, "it gives whole numbers alone")
    products = _forward(case, given, along, onto)
    forward, size = float(products.sum()), float(products.abs().sum())
    if not math.isfinite(size):
        return Support("", NOT_APPLICABLE, "what comes out, or its derivative, is not finite")
    moved = [
        float(_forward(case, {n: rounding(each) for n, each in given.items()}, along, onto).sum())
        for rounding in (Rounding(case.seed + draw, case.unit) for draw in range(DRAWS))
    ]
    bound = FACTOR * max(abs(each - forward) for each in moved) + FLOOR * case.unit * size
    off = abs(forward - _backward(case, given, along, onto))
    found = Gap(off, bound, off and (off / bound if bound else math.inf), None)
    if not found.parts:
        return _told(RIGHT, found)
    if _as_differences(case, given, along, onto, forward, size):
        return _told(RIGHT, found, "finite differences agree with it, and autograd's gradients do not")
    return _told(WRONG, found, f"the derivative along one direction is {off:.2g} off what autograd gives")


def _drawn(like: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: _like(each, generator) for name, each in like.items() if is_number(each)}


def _like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype).to(tensor.device)


def _outputs(case: Case) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """What comes out of a new copy, as a function of its parameters and of x."""
    module, recurrent, others = case.copy(), case.recurrent, _others(case)

    def outputs(given: dict[str, Tensor]) -> dict[str, Tensor]:
        parameters = {name.removeprefix("parameter "): each for name, each in given.items() if name != _X}

        def call(*args: Any, **named: Any) -> Any:
            return torch.func.functional_call(module, parameters, args, named)

        any_module: Any = call
        state = mapped(lambda _, each: each.clone(), case.state)
        result = recurrent.call(any_module, recurrent.laid_out(given.get(_X, case.x)), state, **others)
        return {name: each for name, each in recurrent.read(result)[0].tensors.items() if is_number(each)}

    return outputs


def _dot(one: dict[str, Tensor], other: dict[str, Tensor]) -> Tensor:
    """The products of all numbers in a row, whose sum is the inner product; of complex ones their real part."""
    products = [(one[name].conj() * other[name]).flatten() for name in one if name in other]
    return torch.cat([each.real if each.is_complex() else each for each in products])


def _forward(case: Case, given: dict[str, Tensor], along: dict[str, Tensor], onto: dict[str, Tensor]) -> Tensor:
    with default_dtype(case.dtype):
        results: Any = torch.func.jvp(_outputs(case), (given,), (along,))
    return _dot(onto, results[1])


def _backward(case: Case, given: dict[str, Tensor], along: dict[str, Tensor], onto: dict[str, Tensor]) -> float:
    with torch.enable_grad(), default_dtype(case.dtype):
        leaves = {name: each.clone().requires_grad_() for name, each in given.items()}
        total = _dot(onto, _outputs(case)(leaves)).sum()
        if not total.requires_grad:
            return 0.0
        found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    arrived = {name: each for name, each in zip(leaves, found, strict=True) if each is not None}
    return float(_dot(arrived, along).sum()) if arrived else 0.0


def _as_differences(
    case: Case,
    given: dict[str, Tensor],
    along: dict[str, Tensor],
    onto: dict[str, Tensor],
    forward: float,
    size: float,
) -> bool:
    """Whether a derivative is that of central differences, whose own error two steps tell."""

    def at(step: float) -> Tensor:
        return _dot(onto, _outputs(case)({name: each + step * along[name] for name, each in given.items()}))

    step = float(case.unit ** (1 / 3))
    with default_dtype(case.dtype):
        wide, near = (float((at(each) - at(-each)).sum()) / (2 * each) for each in (step, step / 2))
    return bool(abs(forward - near) <= 4 * abs(wide - near) + case.unit**0.5 * size)


# torch.compile.


def _compile(sizes: _Sizes) -> Support:
    """Compiled by inductor, or where there is no compiler by aot_eager, and called at two sizes."""
    from torch import _dynamo
    from torch._dynamo.utils import counters
    from torch._inductor import config

    if many := _too_many(sizes.here):
        return many
    backend = "inductor" if _compiles(sizes.here.x.device.type) else "aot_eager"
    _dynamo.reset()
    counters.clear()
    try:
        with config.patch(compile_threads=1), _dynamo.config.patch(suppress_errors=False):
            compiled, told = torch.compile(sizes.here.copy(), backend=backend), list[str]()

            def counted(*args: Any, **named: Any) -> Any:
                result = compiled(*args, **named)
                if not told:  # what is compiled later is the same at other sizes
                    told.append(_in_words(counters["graph_break"], counters["stats"]["unique_graphs"]))
                return result

            found = _judged((sizes.here, sizes.others), (sizes.away,), counted)
    finally:
        _dynamo.reset()
        counters.clear()
    by = "" if backend == "inductor" else "by aot_eager, since there is no compiler"
    return replace(found, message="; ".join(filter(None, (found.message, *told, by))))


def _in_words(breaks: Mapping[str, int], graphs: int) -> str:
    """Where torch.compile leaves a part to Python, and why; "" where it compiles all.

    Args:
        breaks: how often a graph ended for each reason.
        graphs: how many there are.
    """
    count = sum(breaks.values())
    why = in_one_sentence(next(iter(breaks)).split("\n")[0]) if breaks else ""
    if not graphs:
        return f"torch.compile leaves all of it uncompiled{f': {why}' if why else ''}"
    return f"{count} graph break{'s' * (count > 1)}: {why}" if count else ""


def _compiles(device: str) -> bool:
    """Whether there is what inductor needs: a C++ compiler, and beside a CPU Triton."""
    try:
        if device != "cpu":
            from torch.utils._triton import has_triton

            return bool(has_triton())
        from torch._inductor.cpp_builder import get_cpp_compiler

        return bool(get_cpp_compiler())
    except Exception:  # how it says that there is none differs from release to release
        return False


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations inside."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def _too_many(case: Case) -> Support | None:
    """What is said where a module has so many operations that they are not tried; None for others."""
    with _Counting() as counting:  # type: ignore[no-untyped-call]
        case.run()
    if counting.count <= MOST_OPERATIONS:
        return None
    many = f"not tried: {counting.count:,} operations at {_named(case)} would take minutes"
    return Support("", NOT_APPLICABLE, many)


# torch.export.


def _export(sizes: _Sizes) -> Support:
    """Exported with L and N dynamic, else as far as torch takes them for dynamic, else fixed."""
    if many := _too_many(sizes.here):
        return many
    program, is_dynamic = _program(sizes.here)
    found = _judged((sizes.here, sizes.others), (sizes.longer, sizes.wider), program.module())
    return replace(found, message="with L and N dynamic") if found.outcome == RIGHT and is_dynamic else found


def _program(case: Case) -> tuple[Any, bool]:
    """The export by the first way that is not refused, and whether it was asked to be dynamic in all.

    Raises whatever torch.export raises of the last way.
    """
    dim = torch.export.Dim
    # Without a hint, whoever made it is told a reason; Dim.AUTO fixes what it must without a word.
    for way in (dim.DYNAMIC, dim.AUTO):
        try:
            return _exported(case, way), way is dim.DYNAMIC
        except Exception:
            continue
    return _exported(case, None), False


def _exported(case: Case, way: Any) -> Any:
    """The export, with a hint for each axis that is L or N."""
    module, recurrent = case.copy(), case.recurrent
    x, state, others = recurrent.laid_out(case.x), mapped(lambda _, each: each.clone(), case.state), _others(case)
    collect: Any = lambda *args, **named: (args, named)  # noqa: E731
    args, named = recurrent.call(collect, x, state, **others)
    axes: dict[int, tuple[int, ...]] = {id(x): (0, 1)} | {id(each): (0,) for each in others.values()}
    for path, each in parts(state):
        over = (case.axes.get(path), recurrent.growing.get(path))
        axes[id(each)] = tuple(axis for axis in over if axis is not None)
    bound = inspect.signature(module.forward).bind(*args, **named).arguments
    hinted = pytree.tree_map(lambda each: dict.fromkeys(axes.get(id(each), ()), way) or None, dict(bound))
    with default_dtype(case.dtype):
        return torch.export.export(module, args, named, dynamic_shapes=None if way is None else hinted)


# Scripting.


def _script(sizes: _Sizes) -> Support:
    """Scripted, and called several times, since TorchScript compiles it anew once it has seen some calls."""
    module = sizes.here.copy()
    told = ""
    if type(module) in (nn.RNN, nn.GRU, nn.LSTM):  # whose forward is overloaded
        module = (PlainLSTM if isinstance(module, nn.LSTM) else Plain)(module).eval()
        told = "inside a module, since by itself it has no forward"
    script: Any = torch.jit.script
    found = _judged((sizes.here, sizes.others, sizes.here), (sizes.longer, sizes.wider, sizes.away), script(module))
    return replace(found, message=found.message or told)


_TRANSFORMS = {"vmap": _vmap, "jvp": _jvp, "compile": _compile, "export": _export, "scripting": _script}
