"""The ways of computing one network, all with one signature: a Spec, weights and input in, a Run out.

Places the work (device, threads, no autograd) and puts these settings of torch back afterwards. What it finds of shapes
is laid beside the formulas; values are judged elsewhere.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from rnnscope.cells import StackedCells
from rnnscope.errors import RnnscopeError
from rnnscope.shapes import PATHS, Mismatch, Shape, Shapes, parameters, shapes_of
from rnnscope.spec import Spec
from rnnscope.weights import Input, Weights, cell_weights, draw_input


@dataclass(frozen=True)
class Run:
    """What came out: y: (L, N, H), or (N, L, H) with batch_first, and h: (K, N, H)."""

    y: Tensor
    h: Tensor

    def outputs(self) -> dict[str, Tensor]:
        """The tensors by name, in the order in which they are shown."""
        return {"y": self.y, "h": self.h}


Subject = Callable[[Spec, Weights, Input], Run]


def run_module(spec: Spec, weights: Weights, given: Input) -> Run:
    """torch's fused module, which loops over time and layers in C++."""
    return _run(build_module(spec), weights, given)


def run_cells(spec: Spec, weights: Weights, given: Input) -> Run:
    """The stack of cells, which loops in Python."""
    return _run(build_cells(spec), cell_weights(spec, weights), given)


SUBJECTS: dict[str, Subject] = {"module": run_module, "cells": run_cells}
"""Every subject by the name under which --left and --right take it."""


def build_module(spec: Spec) -> nn.Module:
    """nn.RNN of the Spec, on its device and in its dtype."""
    return nn.RNN(spec.input_size, spec.hidden_size, spec.num_layers, **_options(spec)).to(spec.device)


def build_cells(spec: Spec) -> nn.Module:
    """The stack of nn.RNNCell of the Spec, on its device and in its dtype."""
    return StackedCells(spec.input_size, spec.hidden_size, spec.num_layers, **_options(spec)).to(spec.device)


def _options(spec: Spec) -> dict[str, Any]:
    # Built on the CPU even where the caller's default device is another, so that no other random state is touched.
    return {
        "nonlinearity": spec.nonlinearity,
        "bias": spec.bias,
        "batch_first": spec.batch_first,
        "device": "cpu",
        "dtype": getattr(torch, spec.dtype),
    }


_MEMORY = re.compile("allocate memory|size calculation overflow")
_DTYPE = re.compile("not implemented for '|[Uu]nsupported (data|dtype)|dtype .* not supported")

_BUILDERS = {"module": build_module, "cells": build_cells}


def observed_shapes(spec: Spec, paths: tuple[str, ...] = PATHS) -> Shapes:
    """Build the network on each path, run random input through it and lay what came out beside the formulas.

    Raises:
        RnnscopeError: no such device, or a dtype that it cannot compute.
    """
    formulas = shapes_of(spec, paths)
    actual: dict[str, dict[str, Shape]] = {}
    mismatches: list[Mismatch] = []
    with running(spec) as placed:
        given = draw_input(placed)
        for path in paths:
            network = _BUILDERS[path](placed)
            outputs = {each.name: each.shape for each in formulas.tensors if each.role == "output"}
            actual[path] = {name: tuple(each.shape) for name, each in _called(network, given).outputs().items()}
            mismatches += _mismatches(path, outputs, actual[path])
            expected = {each.names[path]: each.shape for each in parameters(spec)}
            found = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
            mismatches += _mismatches(path, expected, found)
        return replace(
            formulas,
            spec=placed,
            actual=actual,
            mismatches=tuple(mismatches),
            device_name=device_name(placed),
            torch_version=str(torch.__version__),
        )


@contextmanager
def running(spec: Spec) -> Iterator[Spec]:
    """Run what is inside without autograd, with the Spec's threads, and give the Spec with its device made definite.

    Threads, grad mode and the random state of torch are afterwards what they were, also after an error. What torch
    cannot compute or cannot hold becomes an RnnscopeError.
    """
    placed = replace(spec, device=_definite_device(spec.device))
    threads = torch.get_num_threads()
    try:
        if spec.threads is not None:
            torch.set_num_threads(spec.threads)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield placed
    except (RuntimeError, MemoryError) as error:
        explained = _explained(error, placed)
        if explained is None:
            raise
        raise explained from error
    finally:
        if spec.threads is not None:
            torch.set_num_threads(threads)


def device_name(spec: Spec) -> str:
    """The device for a caption: "cpu", or "cuda:0 (NVIDIA H100 80GB HBM3)"."""
    if not spec.device.startswith("cuda"):
        return spec.device
    return f"{spec.device} ({torch.cuda.get_device_name(spec.device)})"


def _definite_device(device: str) -> str:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda:0" if count else "cpu"
    if device == "cpu":
        return device
    if not count:
        why = "finds no CUDA device on this machine" if torch.version.cuda else "is a build without CUDA"
        raise RnnscopeError(f"--device {device}: torch {torch.__version__} {why}", "use --device cpu")
    number = int(device.partition(":")[2] or 0)
    if number >= count:
        there = "1 CUDA device, cuda:0" if count == 1 else f"{count} CUDA devices, cuda:0 to cuda:{count - 1}"
        raise RnnscopeError(f"--device {device}: this machine has {there}", "use --device cuda")
    return f"cuda:{number}"


def _explained(error: RuntimeError | MemoryError, spec: Spec) -> RnnscopeError | None:
    """The error in the user's words where its cause is known."""
    reason = str(error).split("\n")[0]
    if _DTYPE.search(reason):
        return RnnscopeError(
            f"--dtype {spec.dtype}: torch {torch.__version__} cannot compute nn.RNN in {spec.dtype} on {spec.device} "
            f"({reason})",
            "use --dtype float32",
        )
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or _MEMORY.search(reason):
        return RnnscopeError(
            f"out of memory on {spec.device}" + (f" ({reason})" if reason else ""),
            "make --seq-len, --batch, --hidden-size or --layers smaller",
        )
    return None


def _run(network: nn.Module, weights: Weights, given: Input) -> Run:
    network.load_state_dict(weights)  # copies, so that two subjects never share storage
    return _called(network, given)


def _called(network: nn.Module, given: Input) -> Run:
    run = Run(*network.eval()(given.x, given.h0))
    if run.y.is_cuda:
        torch.cuda.synchronize(run.y.device)
    return run


def _mismatches(path: str, expected: dict[str, Shape], actual: dict[str, Shape]) -> list[Mismatch]:
    names = expected.keys() | actual.keys()
    pairs = {name: (expected.get(name), actual.get(name)) for name in sorted(names)}
    return [Mismatch(path, name, *pair) for name, pair in pairs.items() if pair[0] != pair[1]]
