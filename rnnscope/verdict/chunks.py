"""A long sequence in chunks of steps: what goes into each, and a subject that carries its state through them.

x is drawn in blocks of a fixed size, and the chunks are cut out of these, so that every chunk size sees the same
numbers. Nothing is compared here: see side_by_side.py.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.network.dims import tensor_shapes
from rnnscope.network.weights import Input, Weights, draw_blocks, draw_weights, time_of
from rnnscope.pages.progress import progress
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import Run, Subject
from rnnscope.verdict.problem import Problem, rounded, rounded_weights, smallest


def draw_in_chunks(
    spec: Spec,
    dtypes: tuple[str, ...],
    chunk: int,
    weights: Weights | None = None,
    dtypes_of_weights: tuple[str, ...] | None = None,
) -> tuple[Problem, Iterator[Tensor]]:
    """The problem that `draw_problem` gives, with an x of no steps, and x in chunks: (T, N, H_in), laid out as x is."""
    exact = replace(spec, device="cpu", dtype="float64")
    state, blocks = draw_blocks(exact)
    problem = Problem(
        exact,
        rounded_weights(weights or draw_weights(exact), dtypes_of_weights or dtypes),
        Input(torch.empty(0, dtype=smallest(dtypes), device="cpu"), tuple(rounded(each, dtypes) for each in state)),
        None,
        dtypes,
    )
    exact_blocks = (rounded(each, dtypes).to(smallest(dtypes)) for each in blocks)
    return problem, cut(exact_blocks, time_of(exact), chunk)


def cut(blocks: Iterable[Tensor], time: int, chunk: int) -> Iterator[Tensor]:
    """Blocks of steps as chunks of steps, the last of which may be shorter.

    Chunks are views into whole blocks, so that in memory each step stands as it would in the whole x: products are
    rounded by that.
    """
    kept: list[Tensor] = []
    first = start = end = 0
    for block in blocks:
        kept.append(block)
        end += block.shape[time]
        while end - start >= chunk:
            yield _joined(kept, time).narrow(time, start - first, chunk)
            start += chunk
            while kept and first + kept[0].shape[time] <= start:
                first += kept.pop(0).shape[time]
    if end > start:
        yield _joined(kept, time).narrow(time, start - first, end - start)


def _joined(blocks: list[Tensor], time: int) -> Tensor:
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, time)


def carried(run: Subject, name: str, chunk: int) -> Subject:
    """A subject that is run chunk by chunk, and gives the whole y: (L, N, D·H_out).

    Raises:
        RnnscopeError: it gives something that cannot be carried on.
    """

    def chunk_by_chunk(spec: Spec, weights: Weights, given: Input) -> Run:
        ys: list[Tensor] = []  # and of all else that a run gives only the last one: it has weights of its own
        state = given.state
        with progress(spec.seq_len, "steps") as advance:
            for x in torch.split(given.x, chunk, time_of(spec)):
                of_chunk = spec_of(spec, x, first=not ys)
                last = run(of_chunk, weights, Input(x, state))
                check_carried(name, of_chunk, last.outputs())
                ys.append(last.y)
                state = last.state
                advance(of_chunk.seq_len)
        return replace(last, y=torch.cat(ys, time_of(spec)))

    return chunk_by_chunk


def using_its_state(run: Subject, name: str) -> Subject:
    """A class of the user's, which might take a state and ignore it: then there is nothing to carry.

    Raises:
        RnnscopeError: it gives the same from its state as from zeros.
    """
    is_known = False

    def watched(spec: Spec, weights: Weights, given: Input) -> Run:
        nonlocal is_known
        found = run(spec, weights, given)
        if not is_known and spec.h0 == "random" and any(bool(each.any()) for each in given.state):
            zeros = run(spec, weights, Input(given.x, tuple(map(torch.zeros_like, given.state))))
            if found.y.shape == zeros.y.shape and torch.equal(found.y, zeros.y):
                raise RnnscopeError(
                    f"{name}: its output does not depend on hx, by which --chunk carries the state on",
                    "leave --chunk out to see how it differs",
                )
            is_known = True
        return found

    return watched


def spec_of(spec: Spec, x: Tensor, first: bool) -> Spec:
    """The Spec of a chunk, which starts from a state unless it is the first."""
    return replace(spec, seq_len=x.shape[time_of(spec)], h0=spec.h0 if first else "random")


def check_carried(name: str, spec: Spec, outputs: dict[str, Tensor]) -> None:
    """Do nothing where what came out of a chunk has the shapes of its Spec.

    Raises:
        RnnscopeError: another shape.
    """
    for each in tensor_shapes(spec):
        if each.role == "output" and (got := tuple(outputs[each.name].shape)) != each.shape:
            steps = f"{spec.seq_len} step{'' if spec.seq_len == 1 else 's'}"
            raise RnnscopeError(
                f"{name} gives {each.name} of shape {got} for a chunk of {steps}, and {each.shape} can be carried on",
                "leave --chunk out to see how it differs",
            )
