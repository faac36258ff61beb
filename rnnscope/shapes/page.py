"""What people are told of shapes: which tensor has which shape and why, which part is which, parameters and counts."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from math import prod
from typing import Any

from rnnscope.network.costs import check_rows, human_bytes, mac_formula, parameter_formula
from rnnscope.network.shapes import (
    ParameterShape,
    Shape,
    halves,
    layer_parameters,
    left_out,
    look_for,
    notes,
    parameters,
    rows,
    shown_layers,
    sizes_in_words,
    slices,
)
from rnnscope.network.shapes import network_in_words as network
from rnnscope.pages.page import Column, Grid, Page, Sentence, as_tuple, thousands, where_it_ran
from rnnscope.shapes.result import Mismatch, Shapes
from rnnscope.spec.spec import Spec


def page_of_shapes(shapes: Shapes) -> Page:
    """The tables and sentences of `rnnscope shapes`."""
    spec = shapes.spec
    came_out = shapes.actual or {}
    columns = [Column("tensor"), Column("dims"), Column("formula"), *map(Column, came_out)]
    rows = tuple(
        (
            each.name,
            ", ".join(each.dims),
            as_tuple(each.shape),
            *(as_tuple(came_out[path][each.name]) if each.role == "output" else "goes in" for path in came_out),
            each.meaning,
        )
        for each in shapes.tensors
    )
    return [
        Grid(f"What goes into {network(spec)} and comes out", (*columns, Column("what it holds", prose=True)), rows),
        Sentence("Sizes", sizes_in_words(spec)),
        Sentence("Look for", f"{look_for(spec)}."),
        *(Sentence("Note", f"{note}.") for note in notes(spec)),
        *_findings(shapes),
        _part_grid(spec),
        _parameter_grid(shapes),
        _count_grid(shapes),
        Sentence("Run", where_it_ran(shapes.device_name, shapes.spec.dtype, shapes.torch_version)),
        Sentence("Rerun", shapes.rerun, verbatim=True),
    ]


def _findings(shapes: Shapes) -> list[Sentence]:
    if shapes.actual is None:
        return [Sentence("Verdict", "formulas only, nothing was run.")]
    if not shapes.mismatches:
        return [Sentence("Verdict", "every shape came out as its formula says.", "good")]
    return [Sentence("Finding", _finding(each), "bad") for each in shapes.mismatches]


def _finding(each: Mismatch) -> str:
    gave = f"no {each.name}" if each.actual is None else f"{each.name} {as_tuple(each.actual)}"
    formula = "no formula names it" if each.expected is None else f"the formula says {as_tuple(each.expected)}"
    return f"{each.path} gave {gave}; {formula}."


def _parameter_grid(shapes: Shapes) -> Grid:
    spec, last = shapes.spec, shapes.spec.num_layers - 1
    columns = [*(Column(f"name in {path}") for path in shapes.paths), Column("dims"), Column("shape")]

    def rows_of(layer: int) -> list[tuple[str, ...]]:
        return [_parameter_row(each, shapes.paths) for each in layer_parameters(spec, layer)]

    skipped = max(last - 2, 0) * sum(each.count for each in layer_parameters(spec, 1))
    rows = _first_and_last(spec, rows_of, (*[""] * (len(columns) - 1), thousands(skipped)))
    return Grid("Parameters", (*columns, Column("count", number=True)), rows)


def _parameter_row(each: ParameterShape, paths: tuple[str, ...]) -> tuple[str, ...]:
    names = [each.names[path] or "" for path in paths]
    return (*names, ", ".join(each.dims), as_tuple(each.shape), thousands(each.count))


def _first_and_last(
    spec: Spec, rows_of: Callable[[int], list[tuple[str, ...]]], skipped: tuple[str, ...]
) -> tuple[tuple[str, ...], ...]:
    """The rows of every layer that is shown, and one for those that are left out."""
    between = [(left_out(spec), *skipped)]
    return tuple(row for layer in shown_layers(spec) for row in (between if layer is None else rows_of(layer)))


def _part_grid(spec: Spec) -> Grid:
    def rows_of(layer: int) -> list[tuple[str, ...]]:
        return [(each.name, as_tuple(each.shape), each.meaning) for each in rows(spec, layer)]

    parts = [(each.name, as_tuple(each.shape), each.meaning) for each in halves(spec)]
    columns = (Column("part"), Column("shape"), Column("what it holds", prose=True))
    title = "Which part is which" + (": c has the rows of h" if spec.kind == "lstm" else "")
    return Grid(title, columns, (*parts, *_first_and_last(spec, rows_of, ("", ""))))


def _count_grid(shapes: Shapes) -> Grid:
    spec = shapes.spec
    tensors = [
        (each.name, "·".join(map(str, each.shape)), thousands(prod(each.shape)), human_bytes(each.bytes))
        for each in shapes.tensors
    ]
    total = sum(each.bytes for each in shapes.tensors) + shapes.parameter_bytes
    numbers = sum(prod(each.shape) for each in shapes.tensors) + shapes.parameter_count
    learned = (thousands(shapes.parameter_count), human_bytes(shapes.parameter_bytes))
    rows = (
        *tensors,
        ("parameters", parameter_formula(spec), *learned),
        ("in all", "", thousands(numbers), human_bytes(total)),
        ("multiply-accumulates", mac_formula(spec), thousands(shapes.macs), ""),
    )
    columns = (
        Column("what"),
        Column("formula", prose=True),
        Column("count", number=True),
        Column("bytes", number=True),
    )
    return Grid("Counts", columns, rows)


def document_of_shapes(shapes: Shapes) -> dict[str, Any]:
    check_rows(shapes.spec)
    facts: dict[str, Any] = {
        "tensors": [asdict(each) for each in shapes.tensors],
        "parameters": [asdict(each) for each in parameters(shapes.spec)],
        "parts": [asdict(each) for each in slices(shapes.spec)],
        "notes": list(notes(shapes.spec)),
        "parameter_count": shapes.parameter_count,
        "parameter_bytes": shapes.parameter_bytes,
        "macs": shapes.macs,
    }
    if shapes.actual is not None:
        facts |= {"actual": shapes.actual, "mismatches": [asdict(each) for each in shapes.mismatches]}
    return facts


def records_of_shapes(shapes: Shapes) -> Iterator[dict[str, Any]]:
    check_rows(shapes.spec)
    found = {(each.path, each.name): each.actual for each in shapes.mismatches}

    def came_out(shape: Shape | None, names: dict[str, str | None]) -> dict[str, Shape | None]:
        if shapes.actual is None:
            return dict.fromkeys(shapes.paths)
        return {path: found.pop((path, names[path] or ""), shape) for path in shapes.paths}

    for each in shapes.tensors:
        columns = came_out(each.shape if each.role == "output" else None, dict.fromkeys(shapes.paths, each.name))
        yield {"name": each.name, "role": each.role, "dims": each.dims, "shape": each.shape, **columns}
    for parameter in parameters(shapes.spec):
        columns = came_out(parameter.shape, parameter.names)
        name = parameter.names[shapes.paths[0]]
        facts = {"name": name, "role": "parameter", "dims": parameter.dims, "shape": parameter.shape}
        yield facts | columns
    for (path, name), shape in list(found.items()):  # what no formula names
        columns = dict.fromkeys(shapes.paths) | {path: shape}
        yield {"name": name, "role": "parameter", "dims": None, "shape": None, **columns}
