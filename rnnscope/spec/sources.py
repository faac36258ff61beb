"""Which files a command takes weights and input from, and where it writes. They are opened in loading.py."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from rnnscope.errors import RnnscopeError
from rnnscope.spec.flags import Choice, FileName, Flag, Prefix, Switch


def _source(flag: Flag) -> Any:
    return field(default=None, metadata={"flag": flag})


@dataclass(frozen=True, kw_only=True, eq=False)
class Sources:
    """Names of files, and where in them a network is; None where the seed gives it.

    Raises:
        RnnscopeError: a value that is no name, or a prefix without its file.
    """

    weights: str | None = _source(
        FileName(
            ("--weights", "--with-weights"), "The network and its weights, from a file.", "Files", example="model.pt"
        )
    )
    prefix: str | None = _source(
        Prefix(("--prefix",), "Where it is, of several in the file: encoder.rnn.", "Files", example="encoder.rnn")
    )
    right_weights: str | None = _source(
        FileName(("--right-weights",), "Weights of the right side's own.", "Files", example="run.pt")
    )
    right_prefix: str | None = _source(
        Prefix(("--right-prefix",), "Where these are in their file.", "Files", example="encoder.rnn")
    )
    inputs: str | None = _source(
        FileName(("--inputs",), "x, h0, c0 and lengths, from a file.", "Files", example="run.pt")
    )

    def __post_init__(self) -> None:
        for flag, value in self.given():
            flag.check(value)
        for prefix, file in (("prefix", "weights"), ("right_prefix", "right_weights")):
            if getattr(self, prefix) is not None and getattr(self, file) is None:
                name = SOURCE_FLAGS[file].name
                raise RnnscopeError(f"{SOURCE_FLAGS[prefix].name} is given without {name}", f"add {name} FILE")

    def given(self) -> Iterator[tuple[Flag, str]]:
        """The flags that were given, each with its value."""
        for name, flag in SOURCE_FLAGS.items():
            if getattr(self, name) is not None:
                yield flag, getattr(self, name)


SOURCE_FLAGS: dict[str, Flag] = {each.name: each.metadata["flag"] for each in fields(Sources)}
"""The flag of each field."""

NO_FILES = Sources()

RECORD = FileName(
    ("--record",), "Keep weights, input and the left side's outputs in a file.", "Files", example="run.pt"
)

FILE = FileName(("FILE",), "A file of tensors: .pt, .pth or .safetensors.", "Files")
TO = Choice(("--to",), "Whose names the weights get:", "Files", choices=("cells", "module"), example="cells")
OUT = FileName(("--out", "-o"), "Where the network is written; the ending names the format.", "Files", example="out.pt")
FORCE = Switch(("--force",), "Replace a file that is there already.", "Output", False)
