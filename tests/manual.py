"""The examples of README and of the topics: what a reader types or runs, and what stands under it.

`python tests/manual.py README.md rnnscope/help/*.md` writes what is printed now under each example of these files. Look
at it before you commit it.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

_EXAMPLE = re.compile(
    r"^```(?:console\n\$ (?P<line>.*)\n|(?P<kind>bash|python)\n(?P<script>(?:.*\n)*?)```\n\n```text\n)"
    r"(?P<output>(?:.*\n)*?)```$",
    re.MULTILINE,
)

_HIDDEN = ("numpy", "safetensors")
"""Extras that the set-up of README does not install: no example may need one, but those of ONNX."""


@dataclass(frozen=True)
class Example:
    """Something to type or to run. kind: console, bash or python."""

    kind: str
    text: str
    output: str

    @property
    def can_run(self) -> bool:
        """Whether this machine says what the manual says."""
        if "cuda" in self.text or "@mps" in self.text:
            return not torch.accelerator.is_available()
        if self.needs_onnx:
            return all(map(find_spec, ("onnx", "onnxruntime")))
        return "bfloat16" not in self.text or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

    @property
    def needs_onnx(self) -> bool:
        """Whether it reads or writes a file of ONNX, for which numpy is installed too."""
        return ".onnx" in self.text

    def run(self, folder: Path, **environment: str) -> str:
        """What is printed; a console shows errors too. A script that fails says so in what it prints."""
        line = f"{self.text} 2>&1" if self.kind == "console" else f"set -eu\n{self.text}"
        program = [sys.executable, "-c", self.text] if self.kind == "python" else ["bash", "-c", line]
        done = subprocess.run(
            program,
            cwd=folder,
            env=os.environ | _environment(folder, () if self.needs_onnx else _HIDDEN) | environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        is_trouble = self.kind != "console" and (done.returncode or done.stderr)
        return done.stdout + (f"exit code {done.returncode}\n{done.stderr}" if is_trouble else "")


def _environment(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    """`rnnscope` is this very package, and what the set-up does not install is not there."""
    hidden = folder / f".hidden{len(names)}"
    hidden.mkdir(exist_ok=True)
    for name in names:
        (hidden / f"{name}.py").write_text(f"raise ModuleNotFoundError('no {name} here')\n", encoding="utf-8")
    paths = (str(hidden), *filter(None, [os.environ.get("PYTHONPATH")]))
    return {
        "COLUMNS": "80",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONWARNINGS": "ignore:Failed to initialize NumPy",
    }


def examples(text: str) -> Iterator[Example]:
    """Those of a file, in the order in which they stand."""
    return map(_example, _EXAMPLE.finditer(text))


def _example(found: re.Match[str]) -> Example:
    return Example(found["kind"] or "console", found["script"] or found["line"], found["output"])


def filled(text: str, run: Callable[[Example], str]) -> str:
    """The file with what is printed now under each example."""

    def example(found: re.Match[str]) -> str:
        this = _example(found)
        printed = run(this) if this.can_run else this.output
        return found[0].removesuffix(f"{this.output}```") + f"{printed}```"

    return _EXAMPLE.sub(example, text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            old = Path(name).read_text(encoding="utf-8")
            new = filled(old, lambda example, folder=Path(folder): example.run(folder))  # type: ignore[misc]
            Path(name).write_text(new, encoding="utf-8")
