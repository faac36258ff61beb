"""What runs outside of the modules of this process: torch's exports, files of models, and programs.

Each is a subject as the others are, but it may refuse an input, have its weights in it, and know one dtype alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rnnscope.errors import RnnscopeError
from rnnscope.network.shapes import OUTPUTS
from rnnscope.subjects.builtin import Subject


class Refused(RnnscopeError):
    """An export, a model or a program does not take an input, or fails at it. The message says what it did."""


@dataclass(frozen=True, eq=False)
class Foreign:
    """A network that runs elsewhere, whose `run` is a subject.

    Args:
        run: raises Refused where it does not take an input.
        gets_weights: whether each call can be given other weights; otherwise those of the first problem are in it.
        has_float64: whether it can compute in float64; None where that is found out by asking it.
        has_steps: whether it takes an initial state.
        outputs: those of y, h and c that it gives.
        made_at: L and N at which it was made; None where that means nothing, or is not known.
        arithmetic: what its products are rounded to, where that is not its dtype.
        dtype: the one in which it takes x; None where it takes the dtype of the Spec.
        first_run_tells: whether its first run tells which outputs it gives.
        in_torch: whether it runs in this process; otherwise nothing shows of its inside, and each run takes long.
        told: gives what was done to make and to call it, in sentences without a full stop, once it has run.
    """

    run: Subject
    gets_weights: bool = False
    has_float64: bool | None = None
    has_steps: bool = True
    outputs: tuple[str, ...] = OUTPUTS
    made_at: tuple[int, int] | None = None
    arithmetic: str | None = None
    dtype: str | None = None
    first_run_tells: bool = False
    in_torch: bool = True
    told: Callable[[], tuple[str, ...]] = tuple
