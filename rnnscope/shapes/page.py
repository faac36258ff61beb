"""What people are told of shapes: which tensor has which shape and why, which part is which, parameters and counts."""

from collections.abc import Callable
from math import prod

from rnnscope.network.costs import human_bytes
from rnnscope.network.dims import ParameterShape, layer_parameters
from rnnscope.network.parts import halves, look_for, notes, rows
from rnnscope.pages.page import (
    Column,
    Grid,
    Page,
    Sentence,
    as_tuple,
    left_out,
    network,
    shown_layers,
    sizes_in_words,
    thousands,
    where_it_ran,
)
from rnnscope.shapes.result import Mismatch, Shapes, mac_formula, parameter_formula
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
        Sentence("Run", where_it_ran(shapes)),
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
