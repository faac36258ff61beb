"""What each command tells people of its result: a page of grids and sentences, without colour or width.

How a page is drawn is render.py's business; what programs get of the same result is in documents.py.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rnnscope.shapes import Mismatch, ParameterShape, Shape, Shapes, dim_sizes, layer_parameters
from rnnscope.spec import Spec

if TYPE_CHECKING:  # its module imports torch, which a page of shapes does without
    from rnnscope.comparison import Comparison
    from rnnscope.differences import Difference
    from rnnscope.documents import Result

MOST_LAYERS = 4
"""A table shows the parameters of this many layers; of more it shows the first two and the last."""


@dataclass(frozen=True)
class Column:
    """A column of a grid; only a column of prose may be wrapped."""

    title: str
    prose: bool = False
    number: bool = False


@dataclass(frozen=True)
class Grid:
    """A table: each row has a text for each column."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Sentence:
    """A line under a grid: `label: text`.

    `mood` is good, bad or None and never carries what the words do not say. `verbatim` text is to be copied.
    """

    label: str
    text: str
    mood: str | None = None
    verbatim: bool = False


Page = list[Grid | Sentence]


def page(result: "Result") -> Page:
    """The tables and sentences that people read."""
    return _shapes_page(result) if isinstance(result, Shapes) else _comparison_page(result)


def _shapes_page(shapes: Shapes) -> Page:
    spec = shapes.spec
    came_out = shapes.actual or {}
    columns = [Column("tensor"), Column("dims"), Column("formula"), *map(Column, came_out)]
    rows = tuple(
        (
            each.name,
            ", ".join(each.dims),
            _tuple(each.shape),
            *(_tuple(came_out[path][each.name]) if each.role == "output" else "goes in" for path in came_out),
            each.meaning,
        )
        for each in shapes.tensors
    )
    last = "y[:, -1]" if spec.batch_first else "y[-1]"
    return [
        Grid(f"What goes into {_network(spec)} and comes out", (*columns, Column("what it holds", prose=True)), rows),
        Sentence("Sizes", _legend(spec)),
        Sentence("Look for", f"the last state of the top layer is h[-1], which is {last}."),
        *_findings(shapes),
        _parameter_grid(shapes),
        Sentence("Parameters", f"{_thousands(shapes.parameter_count)} numbers to learn."),
        Sentence("Work", f"{_thousands(shapes.macs)} multiply-accumulates for the whole sequence."),
        Sentence("Run", _where(shapes)),
        Sentence("Rerun", shapes.rerun, verbatim=True),
    ]


def _legend(spec: Spec) -> str:
    sizes = dim_sizes(spec)
    return (
        f"L = {_counted(sizes['L'], 'step')}, N = {_counted(sizes['N'], 'sequence')}, "
        f"H_in = {_thousands(sizes['H_in'])}, H = H_out = {_thousands(sizes['H'])}, "
        f"D = {_counted(sizes['D'], 'direction')}, K = {_counted(sizes['K'], 'layer')}."
    )


def _findings(shapes: Shapes) -> list[Sentence]:
    if shapes.actual is None:
        return [Sentence("Verdict", "formulas only, nothing was run.")]
    if not shapes.mismatches:
        return [Sentence("Verdict", "every shape came out as its formula says.", "good")]
    return [Sentence("Finding", _finding(each), "bad") for each in shapes.mismatches]


def _finding(each: Mismatch) -> str:
    gave = f"no {each.name}" if each.actual is None else f"{each.name} {_tuple(each.actual)}"
    formula = "no formula names it" if each.expected is None else f"the formula says {_tuple(each.expected)}"
    return f"{each.path} gave {gave}; {formula}."


def _parameter_grid(shapes: Shapes) -> Grid:
    spec, last = shapes.spec, shapes.spec.num_layers - 1
    columns = [*(Column(f"name in {path}") for path in shapes.paths), Column("dims"), Column("shape")]

    def rows_of(layer: int) -> list[tuple[str, ...]]:
        return [_parameter_row(each, shapes.paths) for each in layer_parameters(spec, layer)]

    if spec.num_layers <= MOST_LAYERS:
        rows = [row for layer in range(spec.num_layers) for row in rows_of(layer)]
    else:
        count = (last - 2) * sum(each.count for each in layer_parameters(spec, 1))
        blanks = [""] * (len(columns) - 1)
        rows = [
            *rows_of(0),
            *rows_of(1),
            (f"... {_counted(last - 2, 'layer')} like it ...", *blanks, _thousands(count)),
            *rows_of(last),
        ]
    return Grid("Parameters", (*columns, Column("count", number=True)), tuple(rows))


def _parameter_row(each: ParameterShape, paths: tuple[str, ...]) -> tuple[str, ...]:
    return (*(each.names[path] for path in paths), ", ".join(each.dims), _tuple(each.shape), _thousands(each.count))


def _comparison_page(comparison: "Comparison") -> Page:
    left, right, tolerance = comparison.left, comparison.right, comparison.tolerance
    names = ("output", "shape", "max abs", "max rel", "max ulp", "at", "over tolerance")
    numbers = ("max abs", "max rel", "max ulp", "over tolerance")
    source = "as given" if tolerance.given else f"torch.testing's for {comparison.spec.dtype}"
    return [
        Grid(
            f"{right} against {left}, {_network(comparison.spec)}",
            tuple(Column(name, number=name in numbers) for name in names),
            tuple(_comparison_row(each, left, right) for each in comparison.outputs),
        ),
        Sentence("Tolerance", f"|{right} - {left}| <= {tolerance.atol:g} + {tolerance.rtol:g}·|{left}|; {source}."),
        Sentence("Verdict", _verdict(comparison), "bad" if comparison.verdict == "different" else "good"),
        Sentence("Run", _where(comparison)),
        Sentence("Rerun", comparison.rerun, verbatim=True),
    ]


def _verdict(comparison: "Comparison") -> str:
    why = {
        ("identical", None): "every bit agrees",
        ("equivalent", None): "every element is within the tolerance",
        ("different", None): "elements are over the tolerance",
        ("different", "nonfinite"): "NaN or infinity came out, which is never the same",
        ("different", "shape"): "the shapes differ, so no numbers were compared",
    }
    return f"{comparison.verdict}: {why[comparison.verdict, comparison.cause]}."


def _comparison_row(each: "Difference", left: str, right: str) -> tuple[str, ...]:
    if each.max_abs is None or each.max_rel is None or each.max_ulp is None or each.worst_index is None:
        return (each.name, f"{left} {_tuple(each.shape)}, {right} {_tuple(each.right_shape)}", *["-"] * 5)
    return (
        each.name,
        _tuple(each.shape),
        f"{each.max_abs:.3g}",
        f"{each.max_rel:.3g}",
        f"{each.max_ulp:.3g}",
        f"{each.name}[{', '.join(map(str, each.worst_index))}]",
        f"{_thousands(each.mismatched or 0)} of {_thousands(each.total)}",
    )


def _network(spec: Spec) -> str:
    return f"nn.RNN ({_counted(spec.num_layers, 'layer')}, {spec.nonlinearity}{'' if spec.bias else ', no bias'})"


def _where(result: "Result") -> str:
    if result.torch_version is None:
        return "not run; torch was not imported."
    return f"on {result.device_name} in {result.spec.dtype}, torch {result.torch_version}."


def _tuple(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _thousands(number: int) -> str:
    return f"{number:,}"


def _counted(number: int, noun: str) -> str:
    return f"{_thousands(number)} {noun}{'' if number == 1 else 's'}"
