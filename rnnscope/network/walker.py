"""Walks a recurrent network layer by layer, direction by direction, step by step; what one step is, the caller says.

The one loop behind the cells and the equations. It knows neither weights nor gates, and its sequences start with L:
batch_first and unbatched input are laid out by its callers.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

State = tuple[Tensor, ...]
"""(h,), or (h, c) for an LSTM. h: (N, H_out), c: (N, H)."""

Step = Callable[[Tensor, State], State]
"""One time step of one layer in one direction: x: (N, H_in) and the state before it give the state after it."""

Steps = Sequence[Tensor]
"""A sequence of L tensors (N, ·), one a step."""


def walk(
    layers: Sequence[Sequence[Step]],
    x: Tensor,
    initial: State,
    real: Tensor | None = None,
    between: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, State]:
    """Walk x through all layers.

    Args:
        layers: the steps of each layer: one, or the forward and the backward one.
        x: (L, N, H_in).
        initial: h0: (D·K, N, H_out), and c0: (D·K, N, H) for an LSTM.
        real: (L, N, 1), False where an item has ended and x is padding. There the state stays what it was, so that it
            is each item's own last one, and the backward direction starts at each item's own end; y is 0.
        between: applied to every step that goes up from one layer to the next.

    Returns:
        y: (L, N, D·H_out), and the last state: h: (D·K, N, H_out), and c: (D·K, N, H) for an LSTM.
    """
    steps: Steps = x.unbind(0)
    masks = None if real is None else real.unbind(0)
    # Each row in a place of its own, as the states are that follow: products are rounded by where in memory numbers
    # stand, and a walk that goes on from the state of another must give what one walk gives.
    rows = iter(zip(*([row.clone() for row in each.unbind(0)] for each in initial), strict=True))
    last: list[State] = []
    for number, directions in enumerate(layers):
        if number and between is not None:
            steps = [between(step) for step in steps]
        halves = []
        for reverse, step in enumerate(directions):
            half, state = walk_direction(step, steps, next(rows), masks, bool(reverse))
            halves.append(half)
            last.append(state)
        steps = halves[0] if len(halves) == 1 else [torch.cat(pair, -1) for pair in zip(*halves, strict=True)]
        if masks is not None:
            steps = [torch.where(mask, step, 0) for mask, step in zip(masks, steps, strict=True)]
    return torch.stack(tuple(steps)), tuple(torch.stack(each) for each in zip(*last, strict=True))


def walk_direction(
    step: Step, steps: Steps, state: State, masks: Steps | None, reverse: bool
) -> tuple[list[Tensor], State]:
    """h after each step, in the order of time whichever way it was walked, and the state after the last one walked."""
    order = -1 if reverse else 1
    walked = []
    if masks is None:
        for x in steps[::order]:
            state = step(x, state)
            walked.append(state[0])
    else:
        for x, mask in zip(steps[::order], masks[::order], strict=True):
            state = tuple(torch.where(mask, new, old) for new, old in zip(step(x, state), state, strict=True))
            walked.append(state[0])
    return walked[::order], state
