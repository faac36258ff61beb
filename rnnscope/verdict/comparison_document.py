"""What a comparison gives to programs, as plain data: see documents.py for what stands around it."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rnnscope.verdict.result import Comparison, Reference


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """Every figure, for JSON."""
    reference, place, power = comparison.reference, comparison.first_divergence, comparison.power
    return {
        "left": comparison.left,
        "right": comparison.right,
        "outputs": [asdict(each) for each in comparison.outputs],
        **({} if comparison.gradients is None else {"gradients": [asdict(each) for each in comparison.gradients]}),
        "tolerance": asdict(comparison.tolerance),
        "reference": None if reference is None else _reference_document(reference),
        "verdict": comparison.verdict,
        "cause": comparison.cause,
        "side": comparison.side,
        "first_divergence": place and asdict(place),
        "explanations": [asdict(each) for each in comparison.explanations],
        "power": power and asdict(power),
        **({} if comparison.heat_map is None else {"map": asdict(comparison.heat_map)}),
        "blind_spots": list(comparison.blind_spots),
        "back_ends": dict(comparison.back_ends),
        "dtypes": list(comparison.dtypes),
        "resync": comparison.resync,
        "chunk": comparison.chunk,
        "weight_differences": [asdict(each) for each in comparison.weights],
        "dependences": [asdict(each) for each in comparison.dependences],
        "recorded": comparison.recorded,
        "returned": dict(comparison.returned),
        "ungraded": {role: list(names) for role, names in comparison.ungraded},
    }


def _reference_document(reference: Reference) -> dict[str, Any]:
    """The figures of each check: the greatest of all tensors, and then tensor by tensor."""
    checks = {"function": reference.function, "left": reference.left, "right": reference.right}
    return {
        "dtype": "float64",
        "function_max_abs": reference.function.max_abs,
        "left_max_abs": reference.left.max_abs,
        "right_max_abs": reference.right.max_abs,
        "bound": reference.function.worst.bound,
        "without_tf32_max_abs": reference.without_tf32,
        "other": list(reference.other),
        "about_float32": list(reference.about_float32),
        "about_coarser": reference.about_coarser,
        "checks": {
            name: asdict(check) | {"within": check.within, "decided": check.decided} for name, check in checks.items()
        },
    }


def comparison_records(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """One record an output or gradient, for TSV."""
    for each in comparison.differences:
        yield asdict(each) | {"verdict": comparison.verdict}
