"""All shapes of a Spec in one result, by formula, and the page that tells them. torch is not imported."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, ClassVar

from rnnscope.errors import RnnscopeError
from rnnscope.network import shapes as network
from rnnscope.network.costs import check_rows, human_bytes, mac_formula, macs, parameter_count, parameter_formula
from rnnscope.network.shapes import Shape, TensorShape, tensor_shapes
from rnnscope.pages.page import Column, Grid, Page, Sentence, thousands, where_it_ran
from rnnscope.pages.render import SpecResult
from rnnscope.spec.options import DRY_RUN, NO_FILES, PATH, PATHS, Sources
from rnnscope.spec.spec import Spec


@dataclass(frozen=True)
class Mismatch:
    """A tensor or parameter that came out of one path in another shape than the formula's; None: it is not there."""

    path: str
    name: str
    expected: Shape | None
    actual: Shape | None


@dataclass(frozen=True)
class Shapes(SpecResult):
    """All shapes of a Spec. `actual` holds what came out, path -> y, h or c -> shape; None when nothing was run.

    >>> shapes = shapes_of(Spec(kind="lstm"))
    >>> shapes.parameter_count, shapes.parameter_bytes
    (5920, 23680)
    """

    spec: Spec
    paths: tuple[str, ...]
    tensors: tuple[TensorShape, ...]
    parameter_count: int
    macs: int
    actual: Mapping[str, Mapping[str, Shape]] | None = None
    mismatches: tuple[Mismatch, ...] = ()
    device_name: str | None = None
    torch_version: str | None = None
    sources: Sources = NO_FILES

    command: ClassVar[str] = "shapes"

    @property
    def parameter_bytes(self) -> int:
        """Bytes of all parameters."""
        return self.parameter_count * self.spec.element_size

    @property
    def exit_code(self) -> int:
        """1 when a shape came out differently from its formula, 0 otherwise."""
        return 1 if self.mismatches else 0

    @property
    def rerun(self) -> str:
        path = self.paths[0] if len(self.paths) == 1 and not self.spec.proj_size else "both"
        return self.line(*((PATH, path), (DRY_RUN, self.actual is None)))

    def page(self) -> Page:
        """The tables and sentences of `rnnscope shapes`."""
        spec = self.spec
        return [
            _tensor_grid(self),
            Sentence("Sizes", network.sizes_in_words(spec)),
            Sentence("Look for", f"{network.look_for(spec)}."),
            *(Sentence("Note", f"{note}.") for note in network.notes(spec)),
            *_findings(self),
            _part_grid(spec),
            _parameter_grid(self),
            _count_grid(self),
            Sentence("Run", where_it_ran(self.device_name, spec.dtype, self.threads, self.torch_version)),
            Sentence("Rerun", self.rerun, verbatim=True),
        ]

    def facts(self) -> dict[str, Any]:
        """The tensors, parameters and parts, and what came out of a run."""
        check_rows(self.spec)
        facts: dict[str, Any] = {
            "tensors": [asdict(each) for each in self.tensors],
            "parameters": [asdict(each) for each in network.parameters(self.spec)],
            "parts": [asdict(each) for each in network.slices(self.spec)],
            "notes": list(network.notes(self.spec)),
            "parameter_count": self.parameter_count,
            "parameter_bytes": self.parameter_bytes,
            "macs": self.macs,
        }
        if self.actual is not None:
            facts |= {"actual": self.actual, "mismatches": [asdict(each) for each in self.mismatches]}
        return facts

    def records(self) -> Iterator[dict[str, Any]]:
        """One record for each tensor and parameter, with its shape on each path; empty where nothing came out."""
        check_rows(self.spec)
        paths = self.paths
        found = {(each.path, each.name): each.actual for each in self.mismatches}

        def came_out(shape: network.Shape | None, names: dict[str, str | None]) -> dict[str, network.Shape | None]:
            if self.actual is None:
                return dict.fromkeys(paths)
            return {path: found.pop((path, names[path] or ""), shape) for path in paths}

        for each in self.tensors:
            columns = came_out(each.shape if each.role == "output" else None, dict.fromkeys(paths, each.name))
            yield {"name": each.name, "role": each.role, "dims": each.dims, "shape": each.shape, **columns}
        for parameter in network.parameters(self.spec):
            facts = {"role": "parameter", "dims": parameter.dims, "shape": parameter.shape}
            yield {"name": parameter.names[paths[0]], **facts, **came_out(parameter.shape, parameter.names)}
        for (path, name), shape in list(found.items()):  # no formula names these
            columns = dict.fromkeys(paths) | {path: shape}
            yield {"name": name, "role": "parameter", "dims": None, "shape": None, **columns}


def shapes_of(spec: Spec, paths: tuple[str, ...] = PATHS) -> Shapes:
    """Every shape of the network by formula; nothing is run.

    Args:
        paths: the ways of computing: module, cells or both. With a projection both is module alone.

    Raises:
        RnnscopeError: no path, one that is not known, or the cells alone with a projection.

    >>> y = shapes_of(Spec(seq_len=3, batch_size=5, hidden_size=20, bidirectional=True)).tensors[2]
    >>> y.dims, y.shape
    (('L', 'N', 'D·H_out'), (3, 5, 40))
    """
    if not paths or not set(paths) <= set(PATHS):
        raise RnnscopeError(f"paths is {paths!r}, but it must be some of {PATHS!r}")
    if spec.proj_size:
        if paths == ("cells",):
            raise RnnscopeError("--path is cells, but nn.LSTMCell knows no --proj-size", "try --path module")
        paths = ("module",)
    return Shapes(spec, paths, tensor_shapes(spec), parameter_count(spec), macs(spec))


Texts = tuple[str, ...]


def _tensor_grid(shapes: Shapes) -> Grid:
    came_out = shapes.actual or {}
    rows = []
    for each in shapes.tensors:
        is_output = each.role == "output"
        found = (str(actual[each.name]) if is_output else "goes in" for actual in came_out.values())
        rows.append((each.name, ", ".join(each.dims), str(each.shape), *found, each.meaning))
    columns = (*map(Column, ("tensor", "dims", "formula", *came_out)), Column("what it holds", prose=True))
    return Grid(f"What goes into {network.network_in_words(shapes.spec)} and comes out", columns, tuple(rows))


def _findings(shapes: Shapes) -> list[Sentence]:
    if shapes.actual is None:
        return [Sentence("Verdict", "formulas only, nothing was run.")]
    if not shapes.mismatches:
        return [Sentence("Verdict", "every shape came out as its formula says.", "good")]
    return [Sentence("Finding", _finding(each), "bad") for each in shapes.mismatches]


def _finding(each: Mismatch) -> str:
    gave = f"no {each.name}" if each.actual is None else f"{each.name} {each.actual}"
    formula = "no formula names it" if each.expected is None else f"the formula says {each.expected}"
    return f"{each.path} gave {gave}; {formula}."


def _part_grid(spec: Spec) -> Grid:
    def rows_of(parts: Iterable[network.Slice]) -> list[Texts]:
        return [(each.name, str(each.shape), each.meaning) for each in parts]

    columns = (Column("part"), Column("shape"), Column("what it holds", prose=True))
    title = "Which part is which" + (": c has the rows of h" if spec.kind == "lstm" else "")
    of_h = _by_layer(spec, lambda layer: rows_of(network.rows(spec, layer)), ("", ""))
    return Grid(title, columns, (*rows_of(network.halves(spec)), *of_h))


def _parameter_grid(shapes: Shapes) -> Grid:
    """The parameters of the first path, and their names in the other: what a narrow page tells below."""
    spec, (first, *others) = shapes.spec, shapes.paths

    def rows_of(layer: int) -> Iterator[Texts]:
        for each in network.layer_parameters(spec, layer):
            sizes = (", ".join(each.dims), str(each.shape), thousands(each.count))
            yield each.names[first] or "", *sizes, *(each.names[path] or "" for path in others)

    skipped = max(spec.num_layers - 3, 0) * sum(each.count for each in network.layer_parameters(spec, 1))
    name, *other_names = (Column(f"name in {path}") for path in shapes.paths)
    columns = (name, Column("dims"), Column("shape"), Column("count", number=True), *other_names)
    rows = _by_layer(spec, rows_of, ("", "", thousands(skipped), *[""] * len(others)))
    return Grid("Parameters", columns, rows)


def _by_layer(spec: Spec, rows_of: Callable[[int], Iterable[Texts]], skipped: Texts) -> tuple[Texts, ...]:
    """The rows of every layer on the page, and one row for the layers that are left out."""
    between = [(network.left_out(spec), *skipped)]
    return tuple(row for layer in network.shown_layers(spec) for row in (between if layer is None else rows_of(layer)))


def _count_grid(shapes: Shapes) -> Grid:
    rows = []
    for each in shapes.tensors:
        count = prod(each.shape)
        rows.append((each.name, "·".join(map(str, each.shape)), thousands(count), human_bytes(each.bytes)))
    count, size = shapes.parameter_count, shapes.parameter_bytes
    rows.append(("parameters", parameter_formula(shapes.spec), thousands(count), human_bytes(size)))
    count += sum(prod(each.shape) for each in shapes.tensors)
    size += sum(each.bytes for each in shapes.tensors)
    rows.append(("in all", "", thousands(count), human_bytes(size)))
    rows.append(("multiply-accumulates", mac_formula(shapes.spec), thousands(shapes.macs), ""))
    numbers = (Column("count", number=True), Column("bytes", number=True))
    return Grid("Counts", (Column("what"), Column("formula", prose=True), *numbers), tuple(rows))
