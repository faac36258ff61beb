"""What can be compared, and within which tolerance: told from a Spec and the flags alone, before anything is run.

Runs nothing, and torch is not imported: see comparison.py.
"""

from dataclasses import dataclass

from rnnscope.errors import RnnscopeError
from rnnscope.flags import Choice, Number, Switch
from rnnscope.spec import Spec

SUBJECT_NAMES = ("module", "cells", "equations")
LEFT = Choice(("--left",), "The side that is expected:", "Comparison", "module", choices=SUBJECT_NAMES)
RIGHT = Choice(("--right",), "The side that is judged:", "Comparison", "cells", choices=SUBJECT_NAMES)
GRAD = Switch(("--grad",), "Compare the gradients too.", "Comparison", False)
RTOL = Number(("--rtol",), "Relative tolerance; goes with --atol.", "Comparison", example=1e-05)
ATOL = Number(("--atol",), "Absolute tolerance; goes with --rtol.", "Comparison", example=1e-05)

TOLERANCES = {"float16": (1e-3, 1e-5), "bfloat16": (1.6e-2, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7)}
"""(rtol, atol) of each dtype. Source: https://docs.pytorch.org/docs/stable/testing.html"""


@dataclass(frozen=True)
class Tolerance:
    """An element is within it when |right − left| ≤ atol + rtol·|left|. `given` when the user chose it."""

    rtol: float
    atol: float
    given: bool


def chosen_tolerance(dtype: str, rtol: float | None, atol: float | None) -> Tolerance:
    """The tolerance that binds: the user's two numbers, or torch.testing's for the dtype.

    Raises:
        RnnscopeError: one number without the other, or one that is negative or not finite.
    """
    if rtol is None and atol is None:
        return Tolerance(*TOLERANCES[dtype], given=False)
    if rtol is None or atol is None:
        (given, value), missing = ((RTOL, rtol), ATOL) if atol is None else ((ATOL, atol), RTOL)
        raise RnnscopeError(
            f"{given.name} {value} is given without {missing.name}", f"give both, for example {missing.name} 0"
        )
    RTOL.check(rtol)
    ATOL.check(atol)
    return Tolerance(abs(float(rtol)), abs(float(atol)), given=True)  # or -0.0 would be shown


def check_comparable(spec: Spec, left: str, right: str) -> None:
    """Do nothing where both subjects can do what the Spec asks and there is something to compare.

    Raises:
        RnnscopeError: an unknown subject, or a Spec under which nothing can be compared.
    """
    LEFT.check(left)
    RIGHT.check(right)
    for flag, name in ((LEFT.name, left), (RIGHT.name, right)):
        if name == "cells" and spec.proj_size:
            raise RnnscopeError(
                f"{flag} cells cannot do --proj-size {spec.proj_size}, since nn.LSTMCell knows no projection",
                f"use {flag} equations",
            )
    if spec.train and 0 < spec.dropout < 1 and spec.num_layers > 1:
        raise RnnscopeError(
            f"--train with --dropout {spec.dropout:g}: the two sides draw different masks, so nothing can be compared",
            "use --dropout 0 or 1, or leave --train out",
        )
    if spec.batch_size == 0:
        raise RnnscopeError(
            "--batch is 0, so y and h have no elements and nothing was compared", "try --batch 1 or more"
        )
