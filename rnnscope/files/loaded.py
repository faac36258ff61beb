"""What flags and files say together of a comparison. Files are opened in loading.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rnnscope.spec.sources import Sources
from rnnscope.spec.spec import Spec

if TYPE_CHECKING:  # their modules import torch
    from rnnscope.files.recordings import Recording
    from rnnscope.files.storage import Rnn
    from rnnscope.network.weights import Input, Weights


@dataclass(frozen=True, eq=False, repr=False)
class Loaded:
    """A Spec, and what else the files gave; None where the seed gives it.

    Args:
        sources: the files.
        spec: the whole Spec: what files say, what flags say, and defaults.
        rnn: the network in the file of weights.
        right_weights: by torch's names, in the dtype of their file.
        right_dtype: that of the right side's weights, where it has its own and no flag says another.
        given: x, h0 and c0.
        recordings: the recorded side, by left or right.
    """

    sources: Sources
    spec: Spec
    rnn: "Rnn | None" = None
    right_weights: "Weights | None" = None
    right_dtype: str | None = None
    given: "Input | None" = None
    recordings: "Mapping[str, Recording]" = field(default_factory=dict)

    @property
    def weights(self) -> "Weights | None":
        """By torch's names, in the dtype of their file."""
        return self.rnn.weights if self.rnn else None
