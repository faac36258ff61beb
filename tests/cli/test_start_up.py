"""A command loads no folder of another one, and makes no options of another one: asked in a fresh interpreter."""

import json
import subprocess
import sys

import pytest

LOADED = """
import contextlib, io, json, sys
from rnnscope.cli.shell import run
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    run(sys.argv[1:])
print(json.dumps([name.split(".")[1] for name in sys.modules if name.startswith("rnnscope.")]))
"""

FOLDERS = {"conversion", "scripts", "shapes", "sweeps", "timing", "tracing", "verdict"}


def folders_loaded(*words: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words], check=True, timeout=120, capture_output=True, text=True
    )
    return set(json.loads(done.stdout)) & FOLDERS


@pytest.mark.parametrize(
    ("words", "folders"),
    [
        ("--version", set()),
        ("--help", set()),
        ("shapes --dry-run", {"shapes"}),
        ("compare", {"verdict"}),
        ("code", {"scripts"}),
        ("bench --help", set()),
        ("explain zero-h0", set()),
        ("sweep --kind rnn", {"sweeps", "verdict"}),
    ],
)
def test_a_command_loads_its_own_folder(words: str, folders: set[str]) -> None:
    assert folders_loaded(*words.split()) == folders


def test_options_are_made_for_the_command_that_is_called() -> None:
    import typer.main

    from rnnscope.cli.commands import main
    from rnnscope.cli.parser import COMMANDS, app_of

    assert set(typer.main.get_command(app_of("shapes", main)).commands) == {"shapes"}  # type: ignore[attr-defined]
    every = typer.main.get_command(app_of(None, main)).commands  # type: ignore[attr-defined]
    assert {name: each.params for name, each in every.items()} == {name: [] for name in COMMANDS}
