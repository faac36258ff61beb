"""Draws the picture of the README anew: `python tests/draw_pictures.py`; look at them before they are committed.

Each is what `--export` writes of a command, in the root of a checkout.
"""

from pathlib import Path

from support import ROOT

from rnnscope.cli.shell import run

PICTURES = {
    "trace.svg": "trace --kind lstm --bidirectional --layers 1 --seq-len 50",
}


def draw(folder: Path) -> None:
    """Write all pictures into a folder, for which the root must be the current one."""
    for name, line in PICTURES.items():
        run([*line.split(), "--export", str(folder / name), "--force", "-q"])


if __name__ == "__main__":
    draw(ROOT / "tests" / "pictures")
