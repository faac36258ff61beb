"""torch is imported only when something must be computed: asked in a fresh interpreter, where it can also fail."""

import json
import subprocess
import sys

import pytest

PROBE = """
import contextlib, importlib.abc, io, json, sys
from rnnscope.cli.shell import run

class Refusing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            asked.append(name)
            raise ImportError(name)

sys.meta_path.insert(0, Refusing())
found = []
for line in json.loads(sys.argv[1]):
    asked = []
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        run(line.split())
    found.append(bool(asked) or "torch" in sys.modules)
print(json.dumps(found))
"""
"""Answers many lines, and says which of them asked for torch, which none gets: so one does not hide another."""

LINES = [
    "",
    "--help",
    "--version",
    "shapes --help",
    "compare --help",
    "weights --help",
    "convert --help",
    "trace --help",
    "bench --help",
    "bench --subjects recorded:a.pt",
    "bench --seq-len 10,0",
    "bench --min-time x",
    "bench --batch 0",
    "bench --lengths 3,2 --seq-len 3,4",
    "bench --seq-len 10,99999999999",
    "code --kind gru --bidirectional",
    "code --kind lstm --proj-size 3 --export /dev/null/page.txt",
    "weights",
    "convert",
    "convert a.pt --to sells",
    "compare --prefix a",
    "compare --right recorded:",
    "compare --right my_lstm.py",
    "compare --left recorded:a.pt --right recorded:b.pt --grad x",
    "shapes --dry-run",
    "shapes --dry-run --json",
    "shapes --dry-run --format tsv",
    "shapes --dry-run --layers 999999999999",
    "compare --layers 0",
    "compare --layres 2",
    "compare --dtype float8",
    "compare --device gpu",
    "compare --left nobody",
    "compare --right deviation:nothing",
    "explain",
    "explain reset before the matmul --json",
    "explain nothing",
    "compare --rtol x",
    "compare --rtol 1",
    "compare --batch 0",
    "compare --hidden-size 99999999999",
    "shapes --seq-len 99999999999",
    "shapes --format xml",
]
COMPUTED = ["compare", "shapes"]


def answered(code: str, *words: str) -> str:
    return subprocess.run([sys.executable, "-c", code, *words], check=True, timeout=120, stdout=-1, text=True).stdout


@pytest.fixture(scope="module")
def asks_for_torch() -> dict[str, bool]:
    """Whether a line asks for torch."""
    lines = [*LINES, *COMPUTED]
    return dict(zip(lines, json.loads(answered(PROBE, json.dumps(lines))), strict=True))


@pytest.mark.parametrize("line", LINES)
def test_torch_is_not_imported(line: str, asks_for_torch: dict[str, bool]) -> None:
    assert not asks_for_torch[line]


@pytest.mark.parametrize("line", COMPUTED)
def test_torch_is_imported_where_something_is_computed(line: str, asks_for_torch: dict[str, bool]) -> None:
    assert asks_for_torch[line]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("import rnnscope", False),
        ("import rnnscope; dir(rnnscope); rnnscope.__version__", False),
        ("from rnnscope import RnnscopeError, Shapes, Spec, check_memory, shapes_of; shapes_of(Spec())", False),
        ("from rnnscope import compare", True),
        ("from rnnscope import StackedCells", True),
    ],
)
def test_public_names_are_lazy(line: str, expected: bool) -> None:
    assert answered(f"{line}\nimport sys; print('torch' in sys.modules)") == f"{expected}\n"


def modules_after(line: str) -> set[str]:
    """What a fresh interpreter has imported after a line, which prints nothing."""
    code = (
        f"import contextlib, io, sys\nwith contextlib.redirect_stdout(io.StringIO()):\n    {line}\nprint(*sys.modules)"
    )
    return set(subprocess.check_output([sys.executable, "-c", code], text=True, timeout=120).split())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("from rnnscope import Shapes, Spec, shapes_of; shapes_of(Spec())", False),
        ("from rnnscope.cli.shell import run; run(['shapes', '--dry-run', '--json'])", False),
        ("from rnnscope.cli.shell import run; run(['shapes', '--dry-run', '--quiet'])", False),
        ("from rnnscope.cli.shell import run; run(['shapes', '--dry-run'])", True),
    ],
)
def test_rich_is_imported_when_something_is_drawn(line: str, expected: bool) -> None:
    assert ("rich.console" in modules_after(line)) is expected


def test_formulas_load_no_other_commands() -> None:
    found = modules_after("from rnnscope.cli.shell import run; run(['shapes', '--dry-run'])")
    assert "rnnscope.shapes.result" in found
    assert [each for each in found if each.startswith(("rnnscope.sweeps", "rnnscope.tracing", "rnnscope.timing"))] == []


@pytest.mark.parametrize("command", ["shapes", "compare", "trace"])
def test_nothing_is_said_of_a_missing_numpy(command: str) -> None:
    code = f"import sys; sys.modules['numpy'] = None; from rnnscope.cli.shell import run; run(['{command}'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
