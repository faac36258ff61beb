"""rnnscope: every shape of a recurrent network in PyTorch, and whether two implementations are the same.

The public names are imported when they are first asked for, since most of them import torch.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rnnscope.assertion import assert_equivalent
    from rnnscope.cells import StackedCells
    from rnnscope.checkpoints import checkpoint
    from rnnscope.comparability import Tolerance
    from rnnscope.comparison import compare
    from rnnscope.conversion import convert
    from rnnscope.differences import Difference
    from rnnscope.errors import RnnscopeError
    from rnnscope.loading import load
    from rnnscope.memory import check_memory
    from rnnscope.observation import observed_shapes
    from rnnscope.scripts import code
    from rnnscope.shapes import Shapes, shapes_of
    from rnnscope.spec import Spec
    from rnnscope.sweeps import sweep
    from rnnscope.timing import bench
    from rnnscope.tracing import trace
    from rnnscope.verdicts import Comparison

__version__ = "0.1.0"

_HOME = {
    "Comparison": "verdicts",
    "Difference": "differences",
    "RnnscopeError": "errors",
    "Shapes": "shapes",
    "Spec": "spec",
    "StackedCells": "cells",
    "Tolerance": "comparability",
    "assert_equivalent": "assertion",
    "check_memory": "memory",
    "bench": "timing",
    "checkpoint": "checkpoints",
    "code": "scripts",
    "compare": "comparison",
    "convert": "conversion",
    "load": "loading",
    "observed_shapes": "observation",
    "shapes_of": "shapes",
    "sweep": "sweeps",
    "trace": "tracing",
}

__all__ = [
    "Comparison",
    "Difference",
    "RnnscopeError",
    "Shapes",
    "Spec",
    "StackedCells",
    "Tolerance",
    "__version__",
    "assert_equivalent",
    "bench",
    "check_memory",
    "checkpoint",
    "code",
    "compare",
    "convert",
    "load",
    "observed_shapes",
    "shapes_of",
    "sweep",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rnnscope' has no attribute {name!r}")
    with warnings.catch_warnings():
        # torch warns when numpy is missing; rnnscope never needs it.
        warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
        return getattr(import_module(f"rnnscope.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
