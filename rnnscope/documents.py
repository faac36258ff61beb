"""What each command gives to programs: one document for JSON, flat records for TSV, in full precision.

How they are written down is render.py's business; what people read of the same result is in pages.py.
"""

import platform
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rnnscope import __version__
from rnnscope.errors import RnnscopeError
from rnnscope.shapes import Shape, Shapes, parameter_rows, parameters

if TYPE_CHECKING:  # its module imports torch, which a document of shapes does without
    from rnnscope.comparison import Comparison

    Result = Shapes | Comparison

MOST_ROWS = 1_000_000
"""A document is whole up to this many rows and refused above."""


def document(result: "Result") -> dict[str, Any]:
    """The facts of a result, as plain data for JSON."""
    head = {
        "schema": 1,
        "command": result.command,
        "rerun": result.rerun,
        "environment": {
            "rnnscope": __version__,
            "python": platform.python_version(),
            "torch": result.torch_version,
            "device": result.device_name,
        },
        "spec": asdict(result.spec),
    }
    return head | (_shapes_document(result) if isinstance(result, Shapes) else _comparison_document(result))


def records(result: "Result") -> Iterator[dict[str, Any]]:
    """One flat record a tensor, for TSV."""
    return _shapes_records(result) if isinstance(result, Shapes) else _comparison_records(result)


def _shapes_document(shapes: Shapes) -> dict[str, Any]:
    _refuse_too_many(shapes)
    facts: dict[str, Any] = {
        "tensors": [asdict(each) for each in shapes.tensors],
        "parameters": [asdict(each) for each in parameters(shapes.spec)],
        "parameter_count": shapes.parameter_count,
        "macs": shapes.macs,
    }
    if shapes.actual is not None:
        facts |= {"actual": shapes.actual, "mismatches": [asdict(each) for each in shapes.mismatches]}
    return facts


def _shapes_records(shapes: Shapes) -> Iterator[dict[str, Any]]:
    _refuse_too_many(shapes)
    found = {(each.path, each.name): each.actual for each in shapes.mismatches}

    def came_out(shape: Shape | None, names: dict[str, str]) -> dict[str, Shape | None]:
        if shapes.actual is None:
            return dict.fromkeys(shapes.paths)
        return {path: found.pop((path, names[path]), shape) for path in shapes.paths}

    for each in shapes.tensors:
        columns = came_out(each.shape if each.role == "output" else None, dict.fromkeys(shapes.paths, each.name))
        yield {"name": each.name, "role": each.role, "dims": each.dims, "shape": each.shape, **columns}
    for parameter in parameters(shapes.spec):
        columns = came_out(parameter.shape, parameter.names)
        facts = {"name": parameter.name, "role": "parameter", "dims": parameter.dims, "shape": parameter.shape}
        yield facts | columns
    for (path, name), shape in list(found.items()):  # what no formula names
        columns = dict.fromkeys(shapes.paths) | {path: shape}
        yield {"name": name, "role": "parameter", "dims": None, "shape": None, **columns}


def _comparison_document(comparison: "Comparison") -> dict[str, Any]:
    return {
        "left": comparison.left,
        "right": comparison.right,
        "outputs": [asdict(each) for each in comparison.outputs],
        "tolerance": asdict(comparison.tolerance),
        "reference": None,
        "verdict": comparison.verdict,
        "cause": comparison.cause,
    }


def _comparison_records(comparison: "Comparison") -> Iterator[dict[str, Any]]:
    for each in comparison.outputs:
        yield asdict(each) | {"verdict": comparison.verdict}


def _refuse_too_many(shapes: Shapes) -> None:
    rows = parameter_rows(shapes.spec)
    if rows > MOST_ROWS:
        raise RnnscopeError(
            f"--layers is {shapes.spec.num_layers}: its {rows:,} parameters are over the limit of {MOST_ROWS:,} rows",
            "use --format table, which leaves out the layers in the middle",
        )
