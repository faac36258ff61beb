"""The fixture of pytest, in suites of tests of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
import pytest
import torch
from rnnscope import Spec

GRU = Spec(kind="gru", num_layers=1, threads=1)

def test_the_same(rnnscope):
    assert rnnscope.compare(GRU).verdict in ("identical", "equivalent")
    assert rnnscope.check("torch.nn:GRU", only="causality").verdict == "holds"
    assert rnnscope.sweep({"kind": ("gru",), "seq_len": (2, 3), "right": ("module",)}).verdict == "same"

def test_compare(rnnscope):
    rnnscope.compare(GRU, right="deviation:update-gate-inverted")

def test_sweep(rnnscope):
    rnnscope.sweep({"kind": ("gru",), "seq_len": (2, 3), "right": ("deviation:update-gate-inverted",)})

def test_modules(rnnscope):
    rnnscope.compare(torch.nn.GRU(3, 4), torch.nn.GRU(3, 4), torch.randn(3, 2, 3))

def test_caught(rnnscope):
    with pytest.raises(AssertionError, match="^rnnscope compare found different"):
        rnnscope.compare(GRU, right="deviation:update-gate-inverted")
"""

COMPARED = "rnnscope compare --kind gru --layers 1 --threads 1 --right deviation:update-gate-inverted"

SMALLEST = (
    "rnnscope compare --kind gru --input-size 1 --hidden-size 1 --layers 1 --seq-len 1 --batch 1 --threads 1 "
    "--right deviation:update-gate-inverted"
)


AROUND = """
import pytest
from rnnscope import Spec

WRONG = "deviation:update-gate-inverted"


@pytest.fixture
def before(rnnscope):
    rnnscope.compare(Spec(kind="gru"), right=WRONG)


@pytest.fixture
def after(rnnscope):
    yield
    rnnscope.compare(Spec(kind="gru"), right=WRONG)


def test_before(before):
    pass


def test_after(after):
    pass
"""


def pytest_in(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", *words]
    own = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    done = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, check=False, timeout=300)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    (folder / "test_mine.py").write_text(SUITE)
    return folder


@pytest.fixture(scope="module", params=["-n0", "-n2"])
def out(request: pytest.FixtureRequest, folder: Path) -> str:
    """What pytest says of the suite, in one process and in two."""
    return pytest_in(folder, request.param, "--junitxml=report.xml")


def test_what_is_the_same_passes_and_what_differs_fails(out: str) -> None:
    assert "3 failed, 2 passed" in out


@pytest.mark.parametrize(("test", "line"), [("test_compare", COMPARED), ("test_sweep", SMALLEST)])
def test_the_line_of_a_failure_stands_below_all_tests(out: str, test: str, line: str) -> None:
    summary = out.partition("rnnscope: the same again, in a shell")[2]
    assert f"\ntest_mine.py::{test}\n{line}\n" in summary


@pytest.mark.parametrize("test", ["test_modules", "test_caught", "test_the_same"])
def test_what_has_no_line_or_passes_is_not_listed(out: str, test: str) -> None:
    summary = out.partition("rnnscope: the same again")[2].partition("short test summary")[0]
    assert test not in summary


def test_the_text_of_a_failure_is_the_page(out: str) -> None:
    assert "E       AssertionError: rnnscope compare found different\n" in out
    assert "E       Why: The right side (deviation:update-gate-inverted) gives " in out


def test_no_frame_of_the_fixture_is_shown(out: str) -> None:
    assert "plugin.py" not in out


def test_the_line_is_a_property_in_the_report(out: str, folder: Path) -> None:
    assert f'<property name="rnnscope/rerun" value="{COMPARED}" />' in (folder / "report.xml").read_text()


def test_a_line_is_kept_until_its_test_passes(tmp_path: Path) -> None:
    suite, kept = tmp_path / "test_mine.py", tmp_path / ".pytest_cache" / "v" / "rnnscope" / "rerun"
    suite.write_text(SUITE)
    pytest_in(tmp_path, "-k", "test_compare or test_sweep")
    suite.write_text(SUITE.replace('GRU, right="deviation:update-gate-inverted"', "GRU"))
    pytest_in(tmp_path, "-k", "test_compare")
    assert json.loads(kept.read_text()) == {"test_mine.py::test_sweep": [SMALLEST]}


def test_a_failure_in_a_fixture_before_or_after_a_test_is_listed_and_kept(tmp_path: Path) -> None:
    (tmp_path / "test_around.py").write_text(AROUND)
    out = pytest_in(tmp_path, "test_around.py")
    for name in ("test_before", "test_after"):
        assert f"test_around.py::{name}\nrnnscope compare --kind gru" in out
        assert f"test_around.py::{name}" in pytest_in(tmp_path, "--cache-show", "rnnscope/*")


def test_nothing_is_written_without_a_failure(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("def test_right():\n    pass\n")
    assert "rnnscope" not in pytest_in(tmp_path)
    assert not (tmp_path / ".pytest_cache" / "v" / "rnnscope").exists()


def test_pytest_may_run_without_a_cache(folder: Path) -> None:
    out = pytest_in(folder, "-p", "no:cacheprovider", "-k", "test_compare")
    assert "1 failed" in out
    assert COMPARED in out


def test_pytest_starts_without_torch() -> None:
    program = "import sys, rnnscope.testing.plugin; print('torch' in sys.modules, 'rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_the_fixture_is_listed_with_what_it_does(folder: Path) -> None:
    assert "which fail the test where something is wrong" in pytest_in(folder, "--fixtures")
