"""The networks to check keep and break what their tables say. Looked at by hand: nothing of rnnscope is used.

Each relation is a function that says how far a network is from keeping it. A network is built anew for every call,
from the same seed, so that no call depends on one before it, nor on how a network is copied.
"""

import copy
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import pytest
import torch
from faulty_networks import FAULTY
from generated_recurrent import Network, generated
from right_networks import CARRIED, RIGHT, Checked
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

L, N, H_IN, H = 18, 3, 3, 4


def drawn(seed: int) -> Checked:
    """A generated network, at the sizes that are used here."""
    plan: Any = generated(seed).module.plan

    def make(input_size: int, hidden_size: int) -> Network:
        return Network(replace(plan, input_size=input_size, hidden_size=hidden_size))

    return Checked(f"generated {seed}", plan.words, make, plan.batch_first)


DRAWN = [drawn(seed) for seed in range(10)]

ALL = {each.name: each for each in (*RIGHT, *FAULTY, *DRAWN)}

RELATIONS: dict[str, Callable[[Checked], float]] = {}

RESTS = {
    "permutation": {"item_isolation"},
    "batch_of_one": {"item_isolation", "permutation"},
    "packed": {"item_isolation", "permutation", "batch_of_one", "causality"},
    "padding": {"item_isolation", "permutation", "batch_of_one", "causality"},
    "chunked": {"causality", "last_state"},
    "stepwise": {"causality", "last_state", "chunked"},
    "gradient": {"gradient_reach"},
}
"""What each relation rests on, besides repeatable."""

ALLOWED = {"precision": 2e-5, "gradient": 1e-6}
"""How far from a relation a right network may be; from all others 1e-10. A broken one is ten times as far."""


class Run(NamedTuple):
    y: Any
    state: Any


def relation(function: Callable[[Checked], float]) -> Callable[[Checked], float]:
    RELATIONS[function.__name__] = function
    return function


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def build(checked: Checked, seed: int = 0, **arguments: Any) -> nn.Module:
    torch.manual_seed(seed)
    make: Any = checked.make
    module: nn.Module = make(H_IN, H, **arguments)
    return module.double().eval()


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cloned(state: Any) -> Any:
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, state)


def call(checked: Checked, x: Tensor, state: Any = None, module: nn.Module | None = None, **told: Any) -> Run:
    """Run it on x: (L, N, H_in) whatever its layout is; y is (L, N, H_out)."""
    module = module or build(checked)
    state = cloned(state)
    x = x.clone() if x.is_contiguous() else x  # a clone lies in memory in its own way
    x = x.transpose(0, 1) if checked.batch_first else x
    if checked.gives == "y":
        return Run(turned(checked, module(x)), None)
    out = module(x, state, **told)
    return Run(None, out) if checked.gives == "state" else Run(turned(checked, out[0]), out[1])


def turned(checked: Checked, y: Tensor) -> Tensor:
    return y.transpose(0, 1) if checked.batch_first else y


def gap(left: Any, right: Any) -> float:
    """How far two trees are apart, relative to the size of each leaf where that is over 1; inf for another form."""
    (ours, form), (theirs, other) = tree_flatten(left), tree_flatten(right)
    if form != other:
        return torch.inf
    return max((gap_of_leaves(a, b) for a, b in zip(ours, theirs, strict=True)), default=0.0)


def gap_of_leaves(a: Any, b: Any) -> float:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return 0.0 if type(a) is type(b) and a == b else torch.inf
    if a.shape != b.shape:
        return torch.inf
    if a.numel() == 0:
        return 0.0
    if not a.dtype.is_complex:
        a, b = a.double(), b.double()
    found = float(((a - b).abs() / (1 + b.abs().max())).max())
    return found if found == found else torch.inf


@lru_cache
def problem(name: str) -> tuple[Tensor, Any, Run]:
    """x, a state that the network gave after other steps, and what it gives for them."""
    checked, x = ALL[name], random(1, L, N, H_IN)
    state = call(checked, random(2, L, N, H_IN)).state if checked.gives != "y" else None
    return x, state, call(checked, x, state)


@lru_cache
def from_start(name: str) -> Run:
    """What it gives for x without a state."""
    return call(ALL[name], random(1, L, N, H_IN))


@lru_cache
def moving_axes(name: str, steps: int, items: int) -> list[int | None]:
    """For each leaf of the state: its axis that grows with the number of steps, or of items."""
    checked = ALL[name]
    if checked.gives == "y":
        return []
    runs = [from_start(name).state, call(checked, random(1, L + steps, N + items, H_IN)).state]
    found: list[int | None] = []
    for a, b in zip(*(tree_flatten(each)[0] for each in runs), strict=True):
        axes = [] if not isinstance(a, Tensor) else [k for k in range(a.dim()) if a.shape[k] != b.shape[k]]
        found.append(axes[0] if axes else None)
    return found


def items_of(checked: Checked, state: Any, items: list[int]) -> Any:
    leaves, form = tree_flatten(state)
    if state is None:
        return None
    axes = moving_axes(checked.name, 0, 1)
    chosen = [
        leaf if axis is None else leaf.index_select(axis, torch.tensor(items))
        for leaf, axis in zip(leaves, axes, strict=True)
    ]
    return tree_unflatten(chosen, form)


def items_of_run(checked: Checked, run: Run, items: list[int]) -> Run:
    return Run(None if run.y is None else run.y[:, items], items_of(checked, run.state, items))


@relation
def repeatable(checked: Checked) -> float:
    x, state, whole = problem(checked.name)
    module = build(checked)
    torch.manual_seed(5)  # chance of its own
    return gap(call(checked, x, state, module), whole)


@relation
def stateless(checked: Checked) -> float:
    x, _, _ = problem(checked.name)
    module = build(checked)
    first = call(checked, x, None, module)
    kept = cloned(first)
    call(checked, random(3, L, N, H_IN), None, module)
    return max(gap(first, kept), gap(call(checked, x, None, module), kept))


@relation
def inputs_kept(checked: Checked) -> float:
    x, state, _ = problem(checked.name)
    given, form = x.clone().transpose(0, 1) if checked.batch_first else x.clone(), cloned(state)
    before = given.clone()
    build(checked)(given) if state is None else build(checked)(given, form)
    return max(gap(given, before), gap(form, state))


@relation
def zero_state(checked: Checked) -> float:
    x, _, _ = problem(checked.name)
    module: Any = build(checked)
    whole = from_start(checked.name)
    if hasattr(module, "init_hidden"):
        return gap(call(checked, x, module.init_hidden(N), module), whole)
    if hasattr(module, "h0"):
        return gap(call(checked, x, module.h0.expand(-1, N, -1), module), whole)
    leaves, form = tree_flatten(whole.state)
    zeros = [
        torch.zeros_like(leaf if axis is None else leaf.narrow(axis, 0, 0)) if isinstance(leaf, Tensor) else 0
        for leaf, axis in zip(leaves, moving_axes(checked.name, 1, 0), strict=True)
    ]
    return gap(call(checked, x, tree_unflatten(zeros, form)), whole)


@relation
def unbatched(checked: Checked) -> float:
    x, state, whole = problem(checked.name)
    y, after = build(checked)(x[:, 0], tree_map(lambda leaf: leaf[:, 0], state))
    return gap((y, after), (whole.y[:, 0], tree_map(lambda leaf: leaf[:, 0], whole.state)))


@relation
def batch_first(checked: Checked) -> float:
    x, state, whole = problem(checked.name)
    y, after = build(checked, batch_first=True)(x.transpose(0, 1), cloned(state))
    return gap((y.transpose(0, 1), after), tuple(whole))


@relation
def layout(checked: Checked) -> float:
    x, state, whole = problem(checked.name)
    turned_memory = x.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    every_second = x.repeat_interleave(2, -1)[..., ::2]
    same = x[:, :1].expand(-1, N, -1)
    return max(
        gap(call(checked, turned_memory, state), whole),
        gap(call(checked, every_second, state), whole),
        gap(call(checked, same, state), call(checked, same.contiguous(), state)),
    )


@relation
def item_isolation(checked: Checked) -> float:
    x, state, whole = problem(checked.name)
    other = x.clone()
    other[:, 1] = 3 * random(3, L, H_IN)
    moved = call(checked, other, state)
    return gap(items_of_run(checked, moved, [0, 2]), items_of_run(checked, whole, [0, 2]))


@relation
def permutation(checked: Checked) -> float:
    x, state, whole = problem(checked.name)
    order = [2, 0, 1]
    return gap(
        call(checked, x[:, order].contiguous(), items_of(checked, state, order)), items_of_run(checked, whole, order)
    )


@relation
def batch_of_one(checked: Checked) -> float:
    x, state, whole = problem(checked.name)
    far = [0.0]
    for items in ([2], [0, 1]):
        alone = call(checked, x[:, items].contiguous(), items_of(checked, state, items))
        far.append(gap(alone, items_of_run(checked, whole, items)))
    return max(far)


@relation
def causality(checked: Checked) -> float:
    x, state, whole = problem(checked.name)
    far = [0.0]
    for t in (1, 9):
        changed = torch.cat([x[:t], random(3, L - t, N, H_IN)])
        far.append(gap(call(checked, changed, state).y[:t], whole.y[:t]))
    return max(far)


def in_chunks(checked: Checked, state: Any, sizes: list[int]) -> float:
    x, _, _ = problem(checked.name)
    whole, ys = from_start(checked.name) if state is None else problem(checked.name)[2], []
    for start, size in zip(accumulate([0, *sizes]), sizes, strict=False):
        y, state = call(checked, x[start : start + size], state)
        ys.append(y)
    if any(y.dim() != 3 for y in ys):
        return torch.inf
    return gap(Run(torch.cat(ys), state), whole)


@relation
def chunked(checked: Checked) -> float:
    _, state, _ = problem(checked.name)
    return max(in_chunks(checked, each, [5, 2, 8, 3]) for each in (None, state))


@relation
def stepwise(checked: Checked) -> float:
    return in_chunks(checked, None, [1] * L)


@relation
def last_state(checked: Checked) -> float:
    """Zero if the last step moves each part of the state that the step before it moves."""
    x, state, whole = problem(checked.name)
    moved = []
    for t in (L - 2, L - 1):
        changed = x.clone()
        changed[t] = random(3, N, H_IN)
        leaves = zip(tree_flatten(call(checked, changed, state).state)[0], tree_flatten(whole.state)[0], strict=True)
        moved.append([gap_of_leaves(a, b) > 0 for a, b in leaves if isinstance(a, Tensor) and a.dtype != torch.long])
    by_last = all(last for before, last in zip(*moved, strict=True) if before)
    return 0.0 if by_last and any(moved[1]) else torch.inf


LENGTHS = [9, L, 3]


def alone(checked: Checked) -> Iterator[tuple[int, Run]]:
    """Each item by itself, as long as it is."""
    x, state, _ = problem(checked.name)
    for item, length in enumerate(LENGTHS):
        yield length, call(checked, x[:length, [item]].contiguous(), items_of(checked, state, [item]))


@relation
def packed(checked: Checked) -> float:
    x, state, _ = problem(checked.name)
    y, after = build(checked)(pack_padded_sequence(x, torch.tensor(LENGTHS), enforce_sorted=False), cloned(state))
    y, _ = pad_packed_sequence(y)
    far = [0.0]
    for item, (length, expected) in enumerate(alone(checked)):
        far.append(gap(Run(y[:length, [item]], items_of(checked, after, [item])), expected))
    return max(far)


@relation
def padding(checked: Checked) -> float:
    x, state, _ = problem(checked.name)
    real = torch.arange(L) < torch.tensor(LENGTHS)[:, None]
    words = {"lengths": torch.tensor(LENGTHS), "mask": real, "padding_mask": ~real}
    told: dict[str, Any] = {checked.argument: words[checked.argument]}
    filled = torch.where(real.T[..., None], x, random(3, L, N, H_IN))
    out = call(checked, filled, state, **told)
    far = [0.0]
    for item, (length, expected) in enumerate(alone(checked)):
        far.append(gap(Run(out.y[:length, [item]], items_of(checked, out.state, [item])), expected))
    return max(far)


def single(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor) or leaf.dtype == torch.long:
        return leaf
    return leaf.to(torch.complex64) if leaf.is_complex() else leaf.float()


def double(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor) or leaf.dtype == torch.long:
        return leaf
    return leaf.to(torch.complex128) if leaf.is_complex() else leaf.double()


@relation
def precision(checked: Checked) -> float:
    x, state, _ = problem(checked.name)
    x, state = tree_map(single, (x, state))
    coarse = call(checked, x, state, build(checked).float())
    x, state = tree_map(double, (x, state))
    return gap(coarse, call(checked, x, state, build(checked).float().double()))


class Sources(NamedTuple):
    """What a gradient is asked for: x, the leaves of the state that are not counted, the parameters."""

    x: Tensor
    state: list[Tensor]
    parameters: list[Tensor]


def scalar_of(checked: Checked, sources: Sources) -> Tensor:
    """A random sum of all that comes out, as a function of the sources."""
    _, state, _ = problem(checked.name)
    leaves, form = tree_flatten(state)
    given = iter(sources.state)
    filled = [back(next(given), leaf) if differentiable(leaf) else leaf for leaf in leaves]
    module = build(checked)
    for parameter, value in zip(module.parameters(), sources.parameters, strict=True):
        parameter.data = value.data
    # A clone, so that writing in place is allowed; the parameters take their gradients themselves.
    run = call(checked, sources.x.clone(), tree_unflatten(filled, form), module)
    outs = [
        torch.view_as_real(leaf) if leaf.is_complex() else leaf
        for leaf in tree_flatten(tuple(run))[0]
        if differentiable(leaf)
    ]
    total = sum((out * random(k, *out.shape)).sum() for k, out in enumerate(outs))
    assert isinstance(total, Tensor)
    if torch.is_grad_enabled():
        found = torch.autograd.grad(
            total, [sources.x, *sources.state, *module.parameters()], allow_unused=True, materialize_grads=True
        )
        total = torch.cat([each.reshape(-1) for each in found])
    return total


def differentiable(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())


def back(value: Tensor, leaf: Tensor) -> Tensor:
    return torch.view_as_complex(value) if leaf.is_complex() else value.clone()


def sources_of(checked: Checked) -> Sources:
    x, state, _ = problem(checked.name)
    leaves = [
        torch.view_as_real(leaf) if leaf.is_complex() else leaf
        for leaf in tree_flatten(state)[0]
        if differentiable(leaf)
    ]
    return Sources(
        x.clone(), [leaf.clone() for leaf in leaves], [each.detach().clone() for each in build(checked).parameters()]
    )


@lru_cache
def gradient_of(name: str) -> list[Tensor]:
    """What autograd gives, for each source."""
    sources = sources_of(ALL[name])
    flat = [sources.x, *sources.state, *sources.parameters]
    with torch.enable_grad():
        for each in (sources.x, *sources.state):
            each.requires_grad_()
        found = scalar_of(ALL[name], sources)
    return [
        part.reshape(each.shape)
        for part, each in zip(torch.split(found, [each.numel() for each in flat]), flat, strict=True)
    ]


def slope(checked: Checked, directions: list[Tensor], step: float = 1e-6) -> float:
    """The slope by central differences."""
    ends = []
    for sign in (step, -step):
        sources = sources_of(checked)
        flat = [sources.x, *sources.state, *sources.parameters]
        moved = [each + sign * direction for each, direction in zip(flat, directions, strict=True)]
        states = len(sources.state)
        ends.append(float(scalar_of(checked, Sources(moved[0], moved[1 : 1 + states], moved[1 + states :]))))
    return (ends[0] - ends[1]) / (2 * step)


@relation
def gradient(checked: Checked) -> float:
    found = gradient_of(checked.name)
    directions = [random(10 + k, *each.shape) for k, each in enumerate(found)]
    expected = slope(checked, directions)
    got = float(sum((a * b).sum() for a, b in zip(found, directions, strict=True)))
    return abs(got - expected) / (1 + abs(expected))


@relation
def gradient_reach(checked: Checked) -> float:
    """The greatest slope along a source, or a step of x, of which autograd says that it moves nothing."""
    found = gradient_of(checked.name)
    far = [0.0]
    for k, each in enumerate(found):
        parts = list(range(L)) if k == 0 else [...]
        for part in parts:
            if each.numel() and not each[part].any():
                directions = [torch.zeros_like(other) for other in found]
                directions[k][part] = random(5, *each[part].shape)
                far.append(abs(slope(checked, directions)))
    return max(far)


@relation
def state_dict(checked: Checked) -> float:
    x, state, whole = problem(checked.name)
    other = build(checked, seed=1)
    other.load_state_dict(build(checked).state_dict())
    return gap(call(checked, x, state, other), whole)


def pickled(module: nn.Module) -> nn.Module:
    loaded: nn.Module = pickle.loads(pickle.dumps(module))
    return loaded


@relation
def copies(checked: Checked) -> float:
    x, state, whole = problem(checked.name)
    far = [0.0]
    for make_copy in (copy.deepcopy, pickled):
        module = build(checked)
        copied = make_copy(module)
        far.append(gap(call(checked, x, state, copied), whole))
        for each in (*copied.parameters(), *copied.buffers()):
            each.data.add_(1)
        far.append(gap(call(checked, x, state, module), whole))
    return max(far)


def applying(checked: Checked) -> list[str]:
    """The relations that hold in spite of what it breaks: all that do not rest on that."""
    if checked.breaks == "repeatable":
        return []
    return [each for each in checked.applies if each != checked.breaks and checked.breaks not in RESTS.get(each, ())]


@pytest.mark.parametrize(("name", "relation"), [(each.name, word) for each in RIGHT for word in each.applies])
def test_a_right_network_keeps_a_relation(name: str, relation: str) -> None:
    assert RELATIONS[relation](ALL[name]) <= ALLOWED.get(relation, 1e-10)


def broken(checked: Checked) -> bool:
    try:
        return RELATIONS[checked.breaks](checked) > 10 * ALLOWED.get(checked.breaks, 1e-10)
    except (RuntimeError, IndexError, ValueError, AttributeError, pickle.PicklingError):
        return True


@pytest.mark.parametrize("name", [each.name for each in FAULTY])
def test_a_faulty_network_breaks_its_relation(name: str) -> None:
    assert broken(ALL[name])


@pytest.mark.parametrize("name", [each.name for each in FAULTY])
def test_a_faulty_network_breaks_nothing_that_does_not_rest_on_its_fault(name: str) -> None:
    found = {word: RELATIONS[word](ALL[name]) for word in applying(ALL[name])}
    assert {word: far for word, far in found.items() if far > ALLOWED.get(word, 1e-10)} == {}


@pytest.mark.parametrize("name", [each.name for each in DRAWN])
def test_a_generated_network_keeps_every_relation(name: str) -> None:
    found = {word: RELATIONS[word](ALL[name]) for word in CARRIED}
    assert {word: far for word, far in found.items() if far > ALLOWED.get(word, 1e-10)} == {}


@pytest.mark.parametrize("seed", range(10))
def test_a_generated_network_runs_at_the_sizes_and_in_the_dtype_that_it_names(seed: int) -> None:
    made = generated(seed)
    sizes = (made.N, made.L) if made.batch_first else (made.L, made.N)
    y, _ = made.module(torch.zeros(*sizes, made.H_in, dtype=made.dtype))
    assert (y.shape[:2], y.dtype) == (sizes, made.dtype)


def test_one_seed_gives_one_network_and_leaves_the_generator() -> None:
    before = torch.random.get_rng_state()
    one, other = generated(7), generated(7)
    assert gap(one.module.state_dict(), other.module.state_dict()) == 0
    assert (one.words, torch.equal(before, torch.random.get_rng_state())) == (other.words, True)


def test_every_relation_is_broken_by_a_network() -> None:
    assert {each.breaks for each in FAULTY} == set(RELATIONS)


def test_no_two_networks_have_one_name() -> None:
    assert len(ALL) == len(RIGHT) + len(FAULTY) + len(DRAWN)
