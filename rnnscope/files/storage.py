"""What was found in a file, and what was written into one: facts alone.

They are gathered in checkpoints.py and conversion.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rnnscope.pages.shown import Shown
from rnnscope.shapes.result import parameter_count
from rnnscope.spec.sources import FILE, FORCE, OUT, SOURCE_FLAGS, TO
from rnnscope.spec.spec import Spec, rerun

if TYPE_CHECKING:  # their modules import torch
    from rnnscope.network.weights import Weights
    from rnnscope.verdict.result import Comparison


@dataclass(frozen=True)
class Rnn:
    """One network in a file.

    Args:
        prefix: its path in the state_dict; "" at the root.
        path: its path in the file, which goes through the dicts that hold the state_dict.
        form: module (named as in torch's modules), cell (as in their cells) or stacked (a list of cells).
        spec: kind, sizes and dtype; all else in it is not recorded.
        names: in the state_dict, by torch's names.
        weights: by torch's names, in the dtype of the file.
        notes: what else was seen.
        keys: through which the dict with these very weights is reached in the file; None where they were put together
            from others.
    """

    prefix: str
    path: str
    form: str
    spec: Spec
    names: dict[str, str]
    weights: "Weights"
    notes: tuple[str, ...] = ()
    keys: tuple[Any, ...] | None = ()

    @property
    def parameter_count(self) -> int:
        """Numbers in all its weights."""
        return parameter_count(self.spec)


def told_apart(prefixes: Sequence[str], paths: Sequence[str]) -> list[str]:
    """A name for each network: its prefix, or its path in the file where another has the same prefix."""
    return [path if prefixes.count(prefix) > 1 else prefix for prefix, path in zip(prefixes, paths, strict=True)]


@dataclass(frozen=True)
class Checkpoint(Shown):
    """The networks in a file, in the order in which it has them; a stack before its cells."""

    file: str
    rnns: tuple[Rnn, ...]
    torch_version: str

    command: ClassVar[str] = "weights"
    device_name: ClassVar[str] = "cpu"
    exit_code: ClassVar[int] = 0

    @property
    def names(self) -> list[str]:
        """What to call each network."""
        return told_apart([each.prefix for each in self.rnns], [each.path for each in self.rnns])

    @property
    def rerun(self) -> str:
        """The command line that lists this again."""
        return rerun(self.command, None, (FILE, self.file))


@dataclass(frozen=True)
class Conversion(Shown):
    """A network that was written under other names.

    Args:
        file, prefix: where it was.
        rnn: what it is.
        out, to: where it is now, and whose names it has.
        names: the new name of each weight by its old one, in the order of torch's module.
        comparison: torch's module with the old weights against the cells with the new ones, in float64.
    """

    file: str
    prefix: str | None
    rnn: Rnn
    out: str
    to: str
    names: dict[str, str]
    comparison: "Comparison"

    command: ClassVar[str] = "convert"
    device_name: ClassVar[str] = "cpu"
    exit_code: ClassVar[int] = 0

    @property
    def torch_version(self) -> str:
        """The release that computed the comparison."""
        return self.comparison.torch_version

    @property
    def rerun(self) -> str:
        """The command line that writes this again."""
        own = ((FILE, self.file), (TO, self.to), (OUT, self.out), (SOURCE_FLAGS["prefix"], self.prefix))
        return rerun(self.command, None, *own, (FORCE, True))
