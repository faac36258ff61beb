"""Runs a network step by step and keeps what there is to see of one item: states, gates, slices that are equal.

y, h and c are torch's module's. What is inside is walked by the equations, on the same device and in the same dtype.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.files.loaded import Loaded
from rnnscope.network.equations import gates_of
from rnnscope.network.walker import State, Step
from rnnscope.network.weights import Input, Weights, draw_input, draw_weights
from rnnscope.spec.question import check_comparable
from rnnscope.spec.sources import NO_FILES
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import layer_weights, run_equations, run_module, valid_steps
from rnnscope.subjects.devices import device_name, running
from rnnscope.tracing.equalities import equalities, same
from rnnscope.tracing.result import ITEM, STEP, VALUES, Trace, Walked
from rnnscope.verdict.places import Place, in_order


def trace(
    spec: Spec, values: bool = False, item: int = 0, step: int | None = None, *, loaded: Loaded | None = None
) -> Trace:
    """Walk the weights and the input of a Spec's seed, or those that files gave, step by step.

    Args:
        values: whether numbers are to be shown.
        item: whose.
        step: whose gates are to be shown; the item's last one when None.
        loaded: what files gave.

    Raises:
        RnnscopeError: no such item or step, dropout that acts, no such device, or a dtype that it cannot compute.
    """
    check_comparable(spec, "module", "equations")
    VALUES.check(values)
    step = _checked(spec, item, step)
    loaded = loaded or Loaded(NO_FILES, spec)
    with running(spec) as placed:
        dtype = getattr(torch, placed.dtype)
        weights = {
            name: each.to(placed.device, dtype) for name, each in (loaded.weights or draw_weights(placed)).items()
        }
        given = _placed(loaded.given or draw_input(placed), placed.device, dtype)
        run = run_module(placed, weights, given)
        noted = _Noted(placed, item)
        y = run_equations(placed, weights, given, around=noted.around).y
        of_item = _of_item(placed, given, item)
        return Trace(
            placed,
            item,
            step,
            values,
            *equalities(placed, run),
            _on_cpu(of_item),
            {
                (layer, way): _walked(placed, weights, (layer, way), steps, of_item["h0"][spec.row_of(layer, way)])
                for (layer, way), steps in noted.steps.items()
            },
            float(torch.where(same(y, run.y), 0.0, (y.double() - run.y.double()).abs()).max()),
            noted.first_nonfinite(),
            device_name(placed),
            str(torch.__version__),
            loaded.sources,
        )


def _checked(spec: Spec, item: int, step: int | None) -> int:
    """The step, which the item must have."""
    ITEM.check(item)
    if item >= spec.batch_size:
        raise RnnscopeError(
            f"{ITEM.name} is {item}, but items go from 0 to {spec.batch_size - 1}", f"try {ITEM.name} 0"
        )
    length = spec.length_of(item)
    if step is None:
        return length - 1
    STEP.check(step)
    if step >= length:
        raise RnnscopeError(
            f"{STEP.name} is {step}, but the steps of item {item} go from 0 to {length - 1}",
            f"try {STEP.name} {length - 1}",
        )
    return step


class _Noted:
    """What goes into every step of one item and comes out, and where NaN or infinity first comes out of any item.

    steps: by (layer, direction) x: (L, ·), h: (L, H_out), and c: (L, H) for an LSTM, in the order of time.
    """

    def __init__(self, spec: Spec, item: int) -> None:
        self.steps: dict[tuple[int, int], tuple[Tensor, ...]] = {}
        self._spec, self._item = spec, item
        self._length = spec.length_of(item)
        self._real = valid_steps(spec).unsqueeze(-1).to(spec.device) if spec.lengths else None
        self._nonfinite: dict[tuple[int, int], Place] = {}

    def around(self, layer: int, direction: int, step: Step) -> Step:
        spec, walked = self._spec, 0

        def noting(x: Tensor, before: State) -> State:
            nonlocal walked
            after = step(x, before)
            time = spec.seq_len - 1 - walked if direction else walked
            walked += 1
            if (layer, direction) not in self._nonfinite:
                self._look(layer, direction, time, after)
            if time < self._length:
                if (layer, direction) not in self.steps:
                    room = tuple(each.new_empty(self._length, each.shape[1]) for each in (x, *after))
                    self.steps[layer, direction] = room
                for kept, each in zip(self.steps[layer, direction], (x, *after), strict=True):
                    kept[time] = each[self._item]
            return after

        return noting

    def _look(self, layer: int, direction: int, time: int, after: State) -> None:
        for name, each in zip(("h", "c"), after, strict=False):
            wrong = ~each.isfinite()
            if self._real is not None:  # what is computed of padding is thrown away
                wrong = wrong & self._real[time]
            if bool(wrong.any()):
                item, unit = wrong.nonzero()[0].tolist()
                place = Place(name, time, layer, direction, unit, None if self._spec.unbatched else item)
                self._nonfinite[layer, direction] = place
                return

    def first_nonfinite(self) -> Place | None:
        """In the order of cause."""
        return min(self._nonfinite.values(), key=lambda place: in_order(self._spec, place), default=None)


def _walked(spec: Spec, weights: Weights, place: tuple[int, int], steps: tuple[Tensor, ...], first: Tensor) -> Walked:
    """States and gates of a layer in a direction, in the order of time.

    Args:
        first: h before the first step that is walked: (H_out,).
    """
    x, *states = steps
    before = torch.cat((states[0][1:], first[None])) if place[1] else torch.cat((first[None], states[0][:-1]))
    gates = gates_of(spec.kind, layer_weights(spec, weights, *place), x, (before,))
    return Walked(_on_cpu(dict(zip(("h", "c"), states, strict=False))), _on_cpu(gates))


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: each.cpu() for name, each in tensors.items()}


def _of_item(spec: Spec, given: Input, item: int) -> dict[str, Tensor]:
    """x: (L, H_in), h0: (D·K, H_out) and c0: (D·K, H) of one item."""
    if spec.unbatched:
        return given.tensors()
    x = given.x[item] if spec.batch_first else given.x[:, item]
    return {"x": x} | {name: each[:, item] for name, each in given.tensors().items() if name != "x"}


def _placed(given: Input, device: str, dtype: torch.dtype) -> Input:
    return Input(given.x.to(device, dtype), tuple(each.to(device, dtype).contiguous() for each in given.state))
