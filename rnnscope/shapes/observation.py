"""Runs a network and lays the shapes that came out beside their formulas. Values are not looked at."""

from dataclasses import replace

import torch
from torch import Tensor

from rnnscope.network.dims import Shape, parameters
from rnnscope.network.weights import Weights, draw_input
from rnnscope.shapes.result import PATHS, Mismatch, Shapes, shapes_of
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import BUILDERS, call
from rnnscope.subjects.devices import device_name, running


def observed_shapes(spec: Spec, paths: tuple[str, ...] = PATHS) -> Shapes:
    """Run random input through the network on each path and lay what came out beside the formulas.

    Raises:
        RnnscopeError: an unknown path, no such device, or a dtype that it cannot compute.
    """
    formulas = shapes_of(spec, paths)
    outputs = {each.name: each.shape for each in formulas.tensors if each.role == "output"}
    actual: dict[str, dict[str, Shape]] = {}
    mismatches: list[Mismatch] = []
    with running(spec) as placed:
        given = draw_input(placed)
        for path in formulas.paths:
            network = BUILDERS[path](placed)
            own: Weights = dict(network.named_parameters())
            actual[path] = _shapes(call(network, placed, given, own).outputs())
            names = {each.names[path]: each.shape for each in parameters(spec)}
            mismatches += _mismatches(path, outputs, actual[path])
            mismatches += _mismatches(path, {name: each for name, each in names.items() if name}, _shapes(own))
        return replace(
            formulas,
            spec=placed,
            actual=actual,
            mismatches=tuple(mismatches),
            device_name=device_name(placed),
            torch_version=str(torch.__version__),
        )


def _shapes(tensors: dict[str, Tensor]) -> dict[str, Shape]:
    return {name: tuple(each.shape) for name, each in tensors.items()}


def _mismatches(path: str, expected: dict[str, Shape], actual: dict[str, Shape]) -> list[Mismatch]:
    pairs = {name: (expected.get(name), actual.get(name)) for name in sorted(expected.keys() | actual.keys())}
    return [Mismatch(path, name, *pair) for name, pair in pairs.items() if pair[0] != pair[1]]
