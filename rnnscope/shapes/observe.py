"""Runs a network and lays the shapes that came out beside their formulas. Values are not looked at."""

from dataclasses import replace

import torch

from rnnscope.network.shapes import Shape, parameters
from rnnscope.network.weights import Weights, draw_input
from rnnscope.pages.progress import shown, stage
from rnnscope.shapes.result import Mismatch, Shapes, shapes_of
from rnnscope.spec.options import PATHS
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import BUILDERS, as_module
from rnnscope.subjects.devices import device_name, running


@shown("shapes")
def observed_shapes(spec: Spec, paths: tuple[str, ...] = PATHS) -> Shapes:
    """Run random input through the network on each path, and set what came out beside the formulas.

    Raises:
        RnnscopeError: an unknown path, no such device, or a dtype that it cannot compute.

    >>> observed_shapes(Spec(batch_first=True), ("module",)).actual
    {'module': {'y': (5, 3, 20), 'h': (2, 5, 20)}}
    """
    formulas = shapes_of(spec, paths)
    outputs = {each.name: each.shape for each in formulas.tensors if each.role == "output"}
    actual: dict[str, dict[str, Shape]] = {}
    mismatches: list[Mismatch] = []
    with running(spec) as placed:
        given = draw_input(placed)
        for path in formulas.paths:
            with stage(path):
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


def _shapes(tensors: Weights) -> dict[str, Shape]:
    return {name: tuple(each.shape) for name, each in tensors.items()}


def _mismatches(path: str, expected: dict[str, Shape], actual: dict[str, Shape]) -> list[Mismatch]:
    found = [Mismatch(path, name, expected.get(name), actual.get(name)) for name in sorted({*expected, *actual})]
    return [each for each in found if each.expected != each.actual]
