"""All shapes of a Spec in one result: by formula, and as they came out of a run. Values are not looked at."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from rnnscope.errors import RnnscopeError
from rnnscope.network.costs import macs, parameter_count
from rnnscope.network.shapes import Shape, TensorShape, parameters, tensor_shapes
from rnnscope.pages.page import Page
from rnnscope.pages.render import SpecResult
from rnnscope.spec.options import DRY_RUN, NO_FILES, PATH, PATHS, Sources
from rnnscope.spec.spec import Spec

if TYPE_CHECKING:
    from rnnscope.network.weights import Weights


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
        from rnnscope.shapes.page import page_of_shapes

        return page_of_shapes(self)

    def facts(self) -> dict[str, Any]:
        from rnnscope.shapes.page import document_of_shapes

        return document_of_shapes(self)

    def records(self) -> Iterator[dict[str, Any]]:
        """One record for each tensor and parameter."""
        from rnnscope.shapes.page import records_of_shapes

        return records_of_shapes(self)


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


def observed_shapes(spec: Spec, paths: tuple[str, ...] = PATHS) -> Shapes:
    """Run random input through the network on each path, and set what came out beside the formulas.

    Raises:
        RnnscopeError: an unknown path, no such device, or a dtype that it cannot compute.

    >>> observed_shapes(Spec(batch_first=True), ("module",)).actual
    {'module': {'y': (5, 3, 20), 'h': (2, 5, 20)}}
    """
    import torch

    from rnnscope.network.weights import draw_input
    from rnnscope.subjects.builtin import BUILDERS, as_module
    from rnnscope.subjects.devices import device_name, running

    formulas = shapes_of(spec, paths)
    outputs = {each.name: each.shape for each in formulas.tensors if each.role == "output"}
    actual: dict[str, dict[str, Shape]] = {}
    mismatches: list[Mismatch] = []
    with running(spec) as placed:
        given = draw_input(placed)
        for path in formulas.paths:
            network = BUILDERS[path](placed)
            own: Weights = dict(network.named_parameters())
            actual[path] = _shapes(as_module(network, placed, given, own).run().outputs())
            named = {name: each.shape for each in parameters(spec) if (name := each.names[path])}
            mismatches += _mismatches(path, outputs, actual[path])
            mismatches += _mismatches(path, named, _shapes(own))
        return replace(
            formulas,
            spec=placed,
            actual=actual,
            mismatches=tuple(mismatches),
            device_name=device_name(placed),
            torch_version=str(torch.__version__),
        )


def _shapes(tensors: "Weights") -> dict[str, Shape]:
    return {name: tuple(each.shape) for name, each in tensors.items()}


def _mismatches(path: str, expected: dict[str, Shape], actual: dict[str, Shape]) -> list[Mismatch]:
    found = [Mismatch(path, name, expected.get(name), actual.get(name)) for name in sorted({*expected, *actual})]
    return [each for each in found if each.expected != each.actual]
