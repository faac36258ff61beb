"""Where gradients first part, though outputs are right: the first one to which the backward pass comes, and how.

The backward pass comes to the parameters of the top layer first, then to those of the layers below, and last to x and
the initial state. In a whole run a fault of one step is in every gradient that comes after it. So single steps are
asked first, and then the whole run; and each of y, h and c is sent a gradient by itself. What is off in single steps is
a fault of the step. There the gradient of h0 is what a step hands to the one before.

Where the function is right in float64, and a gradient is off in a side's own dtype alone, the same is asked in that.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnnscope.network.shapes import GATES, OUTPUTS, direction_parameters
from rnnscope.spec.spec import Spec
from rnnscope.verdict.bounds import Bounds, by_bound, coarsest_times
from rnnscope.verdict.evidence import Evidence, Side, function_arithmetic, unless_refused
from rnnscope.verdict.figures import distances, settled
from rnnscope.verdict.problem import Problem, Tensors, first_steps, step_by_step

STEPS = 4
"""So many first steps are asked by themselves."""

LUCK = 1e-3
"""Numbers are called one multiple of others where chance alone would make them so in fewer of all cases."""


@dataclass(frozen=True)
class GradientFault:
    """The first gradient that is not torch's, in the order of the backward pass.

    Args:
        side: left or right.
        name: x, h0, c0 or a parameter.
        kind: missing, where it is 0 and torch's is not; scale, where it is one multiple of torch's; rounding, where
            that to a coarser dtype would explain it; formula otherwise.
        scale: that multiple, or one that may be chance where the kind is formula, as that of one number is; else None.
        gate: the letter of the gate whose rows alone are off, or to which the pass comes first; None otherwise.
        through: the output through which it came: y, h or c.
        single_steps: whether it is off in single steps, too; None where these could not be asked.
    """

    side: str
    name: str
    kind: str
    scale: float | None
    gate: str | None
    through: str
    single_steps: bool | None


def gradient_fault(evidence: Evidence, deviating: tuple[str, ...], in_own: bool = False) -> GradientFault | None:
    """Where the gradients of a side first part from those of the equations with its weights.

    Args:
        deviating: the sides that are not torch's function.
        in_own: ask in the side's own dtype and arithmetic, and not where its function is asked for.
    """
    side = evidence.left if deviating == ("left",) else evidence.right
    if side.is_recorded:
        return None
    if evidence.problem.origins is not None:
        return _first(evidence.problem, side, True, in_own)
    part = first_steps(evidence.problem, STEPS)
    # In a tuple: to find nothing is not to be refused.
    alone = unless_refused(lambda: (_first(step_by_step(part), side, True, in_own),)) if side.has_steps else None
    if alone and alone[0]:
        return alone[0]
    return _first(evidence.problem, side, False if alone else None, in_own)


def _first(problem: Problem, side: Side, single_steps: bool | None, in_own: bool) -> GradientFault | None:
    found = (_in_part(problem, side, through, single_steps, in_own) for through in OUTPUTS)
    return next(filter(None, found), None)


def _in_part(
    problem: Problem, side: Side, through: str, single_steps: bool | None, in_own: bool
) -> GradientFault | None:
    """The first gradient that is off where one output alone is sent a gradient."""
    cotangents, spec = problem.cotangents or {}, problem.spec
    if through not in cotangents:
        return None
    alone = {name: each if name == through else torch.zeros_like(each) for name, each in cotangents.items()}
    seen = Evidence(replace(problem, cotangents=alone), side, side)
    actual, bounds = seen.in_own_dtype(side) if in_own else seen.exact(side), seen.bounds_of(side)
    used = side.arithmetic if in_own else function_arithmetic(side)
    expected, names = bounds.reference, _backward(spec)
    errors = {name: each for name, each in distances(spec, actual, expected).items() if name in names}
    over, limits = _all_over(spec, bounds, errors, used)
    name = next((each for each in names if each in over and over[each].any()), None)
    if name is None:
        return None
    limit = by_bound(spec, name, torch.ones_like(errors[name])) * limits[name].unsqueeze(-1)
    got, wanted = (by_bound(spec, name, each[name].cpu().double())[over[name]] for each in (actual, expected))
    kind, scale = _kind(got, wanted, limit[over[name]])
    if in_own and kind == "formula":
        is_rounding = bool(((got - wanted).abs() <= coarsest_times(used) * limit[over[name]]).all())
        kind, scale = ("rounding", None) if is_rounding and coarsest_times(used) > 1 else (kind, scale)
    gate = _gate(spec, name, {each: where.reshape(errors[each].shape) for each, where in over.items()})
    return GradientFault(side.role, name, kind, scale, gate, through, single_steps)


def _all_over(spec: Spec, bounds: Bounds, errors: Tensors, used: str) -> tuple[Tensors, Tensors]:
    """Where errors are over their bounds in an arithmetic, but for places where these are too wide; and the bounds."""
    bound_of = settled(spec, errors, bounds.precision(used))
    limits = {name: bound.of(name) for name, bound in bound_of.items()}
    wide = {name: bounds.too_wide(name, bound) for name, bound in bound_of.items()}
    return {name: _over(spec, name, errors[name], limits[name], wide[name]) for name in errors}, limits


def _over(spec: Spec, name: str, error: Tensor, limit: Tensor, wide: Tensor) -> Tensor:
    """In the shape of the view by bounds: where an error is over its bound, which NaN is, too."""
    view = by_bound(spec, name, error).abs()
    return ~((view <= limit.unsqueeze(-1)) | (wide.unsqueeze(-1) & view.isfinite()))


def _backward(spec: Spec) -> list[str]:
    """The names of all gradients in the order in which the backward pass comes to them."""
    found = []
    for layer in reversed(range(spec.num_layers)):
        for direction in range(spec.directions):
            names = [each.name for each in direction_parameters(spec, layer, direction)]
            found += sorted(names, key=lambda name: not name.startswith("weight_hr"))  # h' comes out of W_hr
    return [*found, "x", "h0", "c0"]


def _kind(actual: Tensor, expected: Tensor, limit: Tensor) -> tuple[str, float | None]:
    """How gradients that are over their bound stand to torch's."""
    if not actual.any():
        return "missing", None
    scale = float(actual @ expected / (expected @ expected))
    limit = max(1.0, abs(scale)) * limit  # what was rounded before it was multiplied, or after that
    if not bool(((actual - scale * expected).abs() <= limit).all()):
        return "formula", None
    # One number gives the multiple. Another one, which is off by so much, fits it by chance in so many cases.
    luck = (limit / (actual - expected).abs()).clamp(max=1.0).sort().values[1:].prod()
    return ("scale" if float(luck) < LUCK else "formula"), scale


def _gate(spec: Spec, name: str, over: Tensors) -> str | None:
    """The one gate whose rows are off in the layer and direction of a parameter; n, where r is off as well."""
    gates, (base, _, layer) = GATES[spec.kind], name.partition("_l")
    if not gates or not layer or base == "weight_hr":
        return None
    stacked = [each for each in over if each.endswith(f"_l{layer}") and not each.startswith("weight_hr")]
    rows = [over[each].reshape(len(over[each]), -1).any(1).chunk(len(gates)) for each in stacked]
    found = {gate for gate, *blocks in zip(gates, *rows, strict=True) if any(block.any() for block in blocks)}
    return "n" if found == {"r", "n"} else found.pop() if len(found) == 1 else None
