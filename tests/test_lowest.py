"""The lowest versions that pyproject.toml allows: Python and every library as old as may be pass the fast tests.

It takes some minutes and about 5 GB of disk, since torch's builds on PyPI bring CUDA along where they are for Linux on
x86: PIP_EXTRA_INDEX_URL may name an index that has lighter ones.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PYTHON = re.findall(r'^requires-python = ">=(3\.\d+)"$', PROJECT, re.M)[0]
LOWEST = dict(re.findall(r'"([\w-]+)>=([\d.]+)"', PROJECT))
NO_TEST_RUNS = ("mypy",)
"""What no test calls."""


def lowest_python() -> str:
    """Where the lowest Python is; skips the test where there is none."""
    by_pyenv = sorted(map(str, Path.home().glob(f".pyenv/versions/{PYTHON}.*/bin/python")))
    for path in (shutil.which(f"python{PYTHON}"), *by_pyenv):
        # What stands in the PATH may be a shim of a version that is not in use.
        if path and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    pytest.skip(f"needs Python {PYTHON}, which is neither in the PATH nor under ~/.pyenv")


def test_every_floor_is_read() -> None:
    assert {"torch", "typer", "rich", "numpy", "safetensors", "pytest", "pytest-xdist", "hypothesis"} <= set(LOWEST)


@pytest.mark.slow
def test_the_lowest_versions_pass_the_fast_tests(tmp_path: Path) -> None:
    subprocess.run([lowest_python(), "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pins = [f"{name}=={version}" for name, version in LOWEST.items() if name not in NO_TEST_RUNS]
    subprocess.run([python, "-m", "pip", "install", "-q", *pins], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", ROOT], check=True)
    subprocess.run(
        [python, "-m", "pytest", "-q", "-n", "auto", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        check=True,
    )
