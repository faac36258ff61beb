"""What runs outside of the modules of this process: torch's exports, files of models, and programs.

Each is a subject as the others are, but it may refuse an input, have its weights in it, and know one dtype alone.
"""

import re
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


LONGEST = 220
"""Signs that a reason may have."""

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)")
_PLACES = re.compile(r"(/[\w.+-]+)+\.(py|cc|cpp|h)(:\d+)? ?")
_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from \S+ failed: ?)?")
_INVALID = re.compile(r"^This is an invalid model\. In Node, .*, Error (?=\w)")
_MENDS = re.compile(r" Please fix either the inputs/outputs or the model\.?$")
_NODE = re.compile(r"Non-zero status code returned while running (\w+) node\. Name:'[^']*' Status Message: ")
_WHERE = re.compile(r"onnxruntime::[\w:<>~]+\([^)]*\) ?")
_DOUBTS = re.compile(r"^[^.]* was false\. ")
_BULLETS = (
    re.compile(r"Constraints violated .*? - You marked .*? as dynamic but (.*?)(?=\. | - |$)"),
    re.compile(r"Found the following conflicts .*? but (tracing inferred a static shape of \d+)"),
)
"""What torch.export says below its headings; of several that say the same, the first."""

_ENDS = re.compile(r"(?<=[a-z\d)\]}'\"])\. (?=[A-Z(])|\.$| {2,}(?=[A-Z])")


def in_one_sentence(error: BaseException | str) -> str:
    """The first sentence of an error: no escape sequences, no lines, no places in somebody's source.

    >>> in_one_sentence("\\x1b[31mCannot view a tensor. It has other strides.\\x1b[0m\\n\\nSuggested fixes:")
    'Cannot view a tensor'
    """
    text = _ESCAPES.sub("", str(error)).strip()
    if "TorchScript" in text:  # where it says what failed behind where that stands
        text = text.splitlines()[-1].removeprefix("RuntimeError: ")
    paragraphs = [each for each in re.split(r"\n\s*\n", text) if each.strip()]
    plain = _CODE.sub("", " ".join((paragraphs or [type(error).__name__])[0].split()))
    plain = _MENDS.sub("", _INVALID.sub("", plain))
    if bullet := next(filter(None, (each.search(" ".join(text.split())) for each in _BULLETS)), None):
        return _cut(bullet[1].rstrip("."))
    if node := _NODE.search(plain):
        told = _DOUBTS.sub("", _WHERE.sub("", _PLACES.sub("", plain[node.end() :])))
        return _cut(f"{node[1]}: {told.strip()}".rstrip("."))
    return _cut(_ENDS.split(_PLACES.sub("", plain).strip())[0].rstrip(" .:"))


def _cut(sentence: str) -> str:
    return sentence if len(sentence) <= LONGEST else f"{sentence[: LONGEST - 1].rstrip()}…"
