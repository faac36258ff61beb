"""rnnscope: every shape of a recurrent network in PyTorch, and whether two implementations are the same.

A public name is imported when it is first asked for, since most of them import torch.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers; a test holds it to _HOME
    from rnnscope.checks.check import assert_sound as assert_sound
    from rnnscope.checks.check import check as check
    from rnnscope.checks.result import Check as Check
    from rnnscope.conversion.convert import checkpoint as checkpoint
    from rnnscope.conversion.convert import convert as convert
    from rnnscope.errors import RnnscopeError as RnnscopeError
    from rnnscope.files.loading import load as load
    from rnnscope.files.recording import record as record
    from rnnscope.network.cells import StackedCells as StackedCells
    from rnnscope.network.costs import check_memory as check_memory
    from rnnscope.scripts.script import code as code
    from rnnscope.shapes.observe import observed_shapes as observed_shapes
    from rnnscope.shapes.result import Shapes as Shapes
    from rnnscope.shapes.result import shapes_of as shapes_of
    from rnnscope.spec.question import Tolerance as Tolerance
    from rnnscope.spec.relations import Wanted as Wanted
    from rnnscope.spec.spec import Spec as Spec
    from rnnscope.sweeps.sweep import sweep as sweep
    from rnnscope.timing.bench import bench as bench
    from rnnscope.tracing.trace import trace as trace
    from rnnscope.verdict.compare import assert_equivalent as assert_equivalent
    from rnnscope.verdict.compare import compare as compare
    from rnnscope.verdict.figures import Difference as Difference
    from rnnscope.verdict.result import Comparison as Comparison

__version__ = "0.1.0"

_HOME = {
    "Check": "checks.result",
    "Comparison": "verdict.result",
    "Difference": "verdict.figures",
    "RnnscopeError": "errors",
    "Shapes": "shapes.result",
    "Spec": "spec.spec",
    "StackedCells": "network.cells",
    "Tolerance": "spec.question",
    "Wanted": "spec.relations",
    "assert_equivalent": "verdict.compare",
    "assert_sound": "checks.check",
    "bench": "timing.bench",
    "check": "checks.check",
    "check_memory": "network.costs",
    "checkpoint": "conversion.convert",
    "code": "scripts.script",
    "compare": "verdict.compare",
    "convert": "conversion.convert",
    "load": "files.loading",
    "observed_shapes": "shapes.observe",
    "record": "files.recording",
    "shapes_of": "shapes.result",
    "sweep": "sweeps.sweep",
    "trace": "tracing.trace",
}
"""The public names, each with the module that has it."""

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rnnscope' has no attribute {name!r}")
    from rnnscope.pages.progress import stage

    with warnings.catch_warnings(), stage("loading torch"):
        # torch warns when numpy is missing; rnnscope never needs it.
        warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
        return getattr(import_module(f"rnnscope.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
