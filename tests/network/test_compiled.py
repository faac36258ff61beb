"""The cells' step under torch.compile: the same function, and a clear refusal where there is no compiler."""

import shutil
from collections.abc import Callable

import pytest
import torch
from conftest import Answer

from rnnscope import Spec, compare
from rnnscope.network.cells import CompiledCells

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")


@needs_compiler
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_the_compiled_step_is_the_same_function(kind: str) -> None:
    found = compare(Spec(kind=kind, seq_len=4), right="compiled", grad=True)
    assert found.exit_code == 0
    assert found.cause in (None, "rounding")


@needs_compiler
def test_it_is_compiled_once_for_each_shape_and_not_for_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._dynamo.utils as dynamo

    dynamo.counters.clear()
    cells = CompiledCells("gru", 3, 5, 2)
    with torch.no_grad():
        cells(torch.randn(40, 2, 3))
    assert dynamo.counters["stats"]["unique_graphs"] == 2  # one for each layer's input size


@needs_compiler
def test_more_shapes_than_torchs_own_limit_stay_compiled() -> None:
    import torch._dynamo.utils as dynamo

    dynamo.counters.clear()
    with torch.no_grad():
        for size in range(2, 13):
            CompiledCells("rnn", size, 4, 1)(torch.randn(2, 1, size))
    assert dynamo.counters["stats"]["unique_graphs"] == 11


def test_without_a_compiler_it_is_trouble_and_says_so(bash: Callable[..., Answer], tmp_path: object) -> None:
    answer = bash("rnnscope compare --right compiled", CXX="/nowhere/g++", TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("rnnscope: the subject compiled needs a compiler, and torch.compile finds none (")
    assert answer.err.endswith("); install g++ (on a GPU Triton too), or use cells\n")
