"""Named deviations from torch's convention: what hand-written and converted networks do otherwise, as one table.

Applied to the equations a deviation is a mutant (would this check notice it?) and a hypothesis (is this what a wrong
subject does?): see diagnosis.py. The functions behind the table are in variants.py; nothing is compared here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

from rnnscope.network.dims import GATES
from rnnscope.network.walker import State, walk
from rnnscope.network.weights import Input, Weights
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import Around, Formula, Run, run_equations
from rnnscope.verdict import variants

Applies = Callable[[Spec], bool]


@dataclass(frozen=True)
class Deviation:
    """One thing done otherwise than in torch; None where it leaves that part as it is.

    Args:
        name: short, for lists.
        does: what a subject does that has it, after the subject's name; what torch does stands behind a semicolon.
        applies: whether it makes sense for a Spec.
        weights, given: changed before the equations run.
        formula: the step that is computed instead, for a Spec.
        walker: walks the steps instead of `walk`.
        outputs: changed when the equations have run.
    """

    name: str
    does: str
    applies: Applies = lambda spec: True
    weights: Callable[[Spec, Weights], Weights] | None = None
    given: Callable[[Spec, Input], Input] | None = None
    formula: Callable[[Spec], Formula] | None = None
    walker: Callable[..., tuple[Tensor, State]] = walk
    outputs: Callable[[Spec, Run], Run] | None = None

    def run(self, spec: Spec, weights: Weights, given: Input, around: Around | None = None) -> Run:
        """The equations with this deviation: a subject like any other."""
        own = {name: each.clone().requires_grad_(torch.is_grad_enabled()) for name, each in weights.items()}
        changed = own if self.weights is None else self.weights(spec, own)
        given = given if self.given is None else self.given(spec, given)
        formula = None if self.formula is None else self.formula(spec)
        run = run_equations(spec, changed, given, formula, around, self.walker)
        run = run if self.outputs is None else self.outputs(spec, run)
        return Run(run.y, run.state, own)


def deviations(spec: Spec) -> Iterator[Deviation]:
    """Those that make sense for a Spec."""
    return (each for each in DEVIATIONS if each.applies(spec))


def _gate_orders() -> Iterator[Deviation]:
    for kind in ("lstm", "gru"):
        torchs = GATES[kind]
        for order in map("".join, permutations(torchs)):
            if order != torchs:
                yield Deviation(
                    f"gates {' '.join(order)}",
                    f"stacks its gates {' '.join(order)}; torch stacks {' '.join(torchs)}",
                    applies=lambda spec, kind=kind: spec.kind == kind,  # type: ignore[misc]
                    weights=variants.rows_in_order(order),
                )


def _is(*kinds: str) -> Applies:
    return lambda spec: spec.kind in kinds


def _can_swap_batch_and_time(spec: Spec) -> bool:
    return not spec.unbatched and spec.lengths is None and (spec.seq_len == spec.batch_size or spec.h0 == "zeros")


DEVIATIONS: tuple[Deviation, ...] = (
    *_gate_orders(),
    Deviation(
        "b_ih dropped",
        "leaves out b_ih; torch adds both biases",
        lambda spec: spec.bias,
        weights=variants.without("bias_ih"),
    ),
    Deviation(
        "b_hh dropped",
        "leaves out b_hh; torch adds both biases",
        lambda spec: spec.bias,
        weights=variants.without("bias_hh"),
    ),
    Deviation(
        "both biases dropped",
        "leaves out b_ih and b_hh; torch adds both",
        lambda spec: spec.bias,
        weights=variants.without("bias"),
    ),
    Deviation(
        "b_ih and b_hh swapped",
        "takes b_hh for b_ih and b_ih for b_hh",
        lambda spec: spec.bias,
        weights=variants.biases_swapped,
    ),
    Deviation(
        "W_hh transposed",
        "multiplies with the transpose of W_hh; torch computes W_hh·h",
        lambda spec: not spec.proj_size,
        weights=variants.w_hh_transposed,
    ),
    Deviation(
        "layers in reverse order",
        "takes the weights of its layers of one shape from the last to the first; torch starts with the lowest",
        lambda spec: len(variants.layers_alike(spec)) > 1,
        weights=variants.layers_reversed,
    ),
    Deviation("h0 ignored", "starts from zeros; torch starts from h0", given=variants.state_ignored(0)),
    Deviation(
        "c0 ignored",
        "starts its cell state from zeros; torch starts from c0",
        _is("lstm"),
        given=variants.state_ignored(1),
    ),
    Deviation(
        "h0 and c0 ignored",
        "starts from zeros in h and c; torch starts from hx",
        _is("lstm"),
        given=variants.state_ignored(0, 1),
    ),
    Deviation(
        "h0 and c0 swapped",
        "takes hx for (c0, h0); torch takes (h0, c0)",
        lambda spec: spec.kind == "lstm" and not spec.proj_size,
        given=lambda spec, given: Input(given.x, given.state[::-1]),
    ),
    Deviation(
        "tanh and relu swapped",
        "has the other nonlinearity: relu for tanh, or tanh for relu",
        formula=variants.nonlinearity_swapped,
    ),
    Deviation(
        "tanh missing on the cell state",
        "gives o·c for h; torch gives o·tanh(c)",
        _is("lstm"),
        formula=lambda spec: variants.lstm_without_tanh,
    ),
    Deviation(
        "output gate before tanh",
        "gives tanh(o·c) for h; torch gives o·tanh(c)",
        _is("lstm"),
        formula=lambda spec: variants.lstm_gated_before_tanh,
    ),
    Deviation(
        "forget bias of 1",
        "adds 1 to the forget gate; torch adds its biases alone",
        _is("lstm"),
        formula=lambda spec: variants.lstm_forget_bias,
    ),
    Deviation(
        "projection left out",
        "gives the first P features of o·tanh(c) for h; torch multiplies with W_hr",
        lambda spec: spec.proj_size > 0,
        formula=lambda spec: variants.lstm_unprojected,
    ),
    Deviation(
        "reset before the matmul",
        "resets h before it multiplies with W_hn; torch resets the product",
        _is("gru"),
        formula=lambda spec: variants.gru_reset_before,
    ),
    Deviation(
        "update gate inverted",
        "gives z·n + (1 - z)·h; torch gives (1 - z)·n + z·h",
        _is("gru"),
        formula=lambda spec: variants.gru_inverted,
    ),
    Deviation(
        "reset state kept",
        "mixes n with r·h; torch mixes it with h",
        _is("gru"),
        formula=lambda spec: variants.gru_reset_kept,
    ),
    Deviation(
        "new hidden used too early",
        "takes the new h for the one before the step, and takes the step once more",
        formula=variants.too_early,
    ),
    Deviation(
        "layer fed by the previous step",
        "feeds each layer the h that the layer below had a step before; torch feeds it the h of the same step",
        lambda spec: spec.num_layers > 1 and not spec.bidirectional,
        walker=variants.layer_by_layer(variants.fed_late),
    ),
    Deviation(
        "backward outputs not flipped back",
        "leaves the backward half of y in the order in which it was walked; torch puts it in the order of time",
        lambda spec: spec.bidirectional,
        walker=variants.layer_by_layer(variants.not_flipped_back),
    ),
    Deviation(
        "backward direction fed forward",
        "walks its backward direction from the first step on; torch starts at the last",
        lambda spec: spec.bidirectional,
        walker=variants.layer_by_layer(variants.fed_forward),
    ),
    Deviation(
        "directions swapped in y",
        "puts the backward half of y first; torch puts the forward half first",
        lambda spec: spec.bidirectional,
        outputs=variants.y_directions_swapped,
    ),
    Deviation(
        "directions swapped in h",
        "puts the backward row of each layer first; torch puts the forward row first",
        lambda spec: spec.bidirectional,
        outputs=variants.rows_of_state(variants.direction_swapped),
    ),
    Deviation(
        "directions swapped in y and h",
        "puts the backward direction first in y and h; torch puts the forward one first",
        lambda spec: spec.bidirectional,
        outputs=variants.both_swapped,
    ),
    Deviation(
        "h ordered direction-major",
        "stacks the forward rows of h before all backward ones; torch stacks them layer by layer",
        lambda spec: spec.bidirectional and spec.num_layers > 1,
        outputs=variants.rows_of_state(variants.direction_major),
    ),
    Deviation(
        "batch and time swapped",
        "walks along N instead of L",
        _can_swap_batch_and_time,
        walker=variants.batch_and_time_swapped,
    ),
    Deviation(
        "lengths ignored",
        "walks on through the padding; torch stops at each item's own end",
        lambda spec: spec.lengths is not None and min(spec.lengths) < spec.seq_len,
        walker=variants.lengths_ignored,
    ),
)
