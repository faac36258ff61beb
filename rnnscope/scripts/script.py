"""A script of bare torch for a Spec: torch's module, a loop of cells by hand, and the check that they are one network.

It needs nothing of rnnscope. Its parts are written in script_parts.py, script_runs.py and script_files.py; here they
are put in order, the one in which the script is read.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from rnnscope.errors import RnnscopeError
from rnnscope.files.loaded import Loaded
from rnnscope.network.dims import parameters
from rnnscope.pages.shown import Shown
from rnnscope.scripts import parts as script_parts
from rnnscope.scripts import script_runs
from rnnscope.scripts.script_files import Stored, from_file, imports, shared, stored
from rnnscope.scripts.script_text import joined, text
from rnnscope.spec.question import check_comparable
from rnnscope.spec.sources import NO_FILES, Sources
from rnnscope.spec.spec import Spec, rerun


@dataclass(frozen=True)
class Script(Shown):
    """A complete script of bare torch, as it is written for a Spec."""

    spec: Spec
    text: str
    sources: Sources = NO_FILES

    command: ClassVar[str] = "code"
    exit_code: ClassVar[int] = 0
    torch_version: ClassVar[None] = None
    device_name: ClassVar[None] = None

    @property
    def rerun(self) -> str:
        """The command line that writes this again."""
        files = tuple(self.sources.given())
        return rerun(self.command, self.spec, *files, with_files=bool(files))


def code(spec: Spec, *, loaded: Loaded | None = None) -> Script:
    """The script that runs a Spec as torch's module and as a loop of cells, and checks that they are the same network.

    Args:
        loaded: what files gave, of which the script reads the weights itself; torch draws them where there are none.

    Raises:
        RnnscopeError: a Spec under which nothing can be compared, or weights that a plain script cannot load.
    """
    check_comparable(spec, "module", "equations" if spec.proj_size else "cells")
    script = Script(spec, "", loaded.sources if loaded else NO_FILES)
    file, found = script.sources.weights, None
    if loaded is not None and file is not None and (rnn := loaded.rnn) is not None:
        if list(parameters(rnn.spec)) != list(parameters(spec)):
            raise RnnscopeError(f"{file} holds another network than the Spec", "take the Spec that was loaded from it")
        found = stored(file, rnn, script.sources.prefix)
    return replace(script, text=joined(_parts(spec, found, script.rerun)))


def _parts(spec: Spec, found: Stored | None, line: str) -> tuple[str, ...]:
    """The parts in the order in which they are read."""
    return (
        script_parts.title(spec, line),
        _imports(spec, found),
        script_parts.sizes(spec),
        script_parts.settings(spec),
        script_parts.torch_module(spec),
        script_parts.run_module(spec),
        script_parts.cell_class(spec),
        script_parts.cells(spec),
        "" if found is None else from_file(spec, found),
        shared(spec, found),
        script_runs.real_steps(spec),
        script_runs.walk(spec),
        script_runs.run_cells(spec),
        script_parts.inputs(spec),
        script_runs.difference(spec),
        script_runs.check(spec),
    )


def _imports(spec: Spec, found: Stored | None) -> str:
    packing = "from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence"
    module, name = imports(found)
    return text(
        *(["import warnings", ""] if script_parts.warns(spec) else []),
        module or False,
        "import torch",
        name or False,
        "from torch import nn",
        spec.lengths is not None and packing,
    )
