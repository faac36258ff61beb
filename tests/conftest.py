"""Fixtures: a command line answered in this process or in one of its own, and goldens that can be written anew."""

import os

# Read when torch is loaded: threads of several processes that wait for each other must not keep both cores busy.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import re
import subprocess
import sys

import pytest
from hypothesis import settings
from support import Answer, Cli

# The same examples on every run, and no limit of time on any.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")

TERMINAL = ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "LC_ALL", "LC_CTYPE", "LANG", "PYTHONIOENCODING", "TERM")
"""What decides how a page looks; no test depends on what the developer's shell says of it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--overwrite", action="store_true", help="write the goldens anew; look at them before you commit")


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TERMINAL:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Answer a command line in this process."""
    from rnnscope.cli.shell import run

    def answer(*words: str) -> Answer:
        code = run(list(words))
        return Answer(code, *capsys.readouterr())

    return answer


@pytest.fixture
def bash() -> Cli:
    """Run a line of shell in which `rnnscope` is this very package, with the environment of the tests."""

    def answer(line: str, **environment: str) -> Answer:
        bin_folder = os.path.dirname(sys.executable)
        path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", line],
            env=os.environ | {"PATH": path} | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        # torch 2.6 prints it where there is nvcc and no GPU; newer releases log it.
        err = re.sub(r"^No CUDA runtime is found, using CUDA_HOME=.*\n", "", done.stderr)
        return Answer(done.returncode, done.stdout, err)

    return answer


@pytest.fixture
def single_deviations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search no two deviations at once, where a test asks for something else: that takes most of a compare."""
    monkeypatch.setattr("rnnscope.verdict.diagnosis.pairs_are_tried", lambda *_: False)
