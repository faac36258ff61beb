"""How a side of a comparison is named: SUBJECT[@DEVICE[/DTYPE]], and which subjects there are.

Read from the text alone: whether a file or a class is there is found out when it is loaded.
"""

import re
from dataclasses import dataclass, replace
from difflib import get_close_matches

from rnnscope.spec.flags import Flag
from rnnscope.spec.spec import DEVICES, DTYPES, Spec

SUBJECT_NAMES = ("module", "cells", "equations", "compiled", "items")

RECORDED = "recorded:"
"""Stands before the name of a file with recorded outputs."""

_PLACE = re.compile(rf"(.+)@({DEVICES})(?:/({'|'.join(DTYPES)}))?")
_OWN = re.compile(r".+:[^\W\d]\w*(\.[^\W\d]\w*)*", re.DOTALL)


@dataclass(frozen=True, eq=False, repr=False)
class _Side(Flag):
    """A subject, and behind it the device and the dtype where they are not those of the Spec."""

    @property
    def metavar(self) -> str:
        return "SIDE"

    def must_be(self, value: object) -> str | None:
        text = str(value)
        if text.startswith(RECORDED):
            return None if text != RECORDED else f"{RECORDED}FILE"
        subject, at, place = text.partition("@")
        if subject in SUBJECT_NAMES:
            device, slash, dtype = place.partition("/")
            if at and not re.fullmatch(DEVICES, device):
                return f"{subject}@DEVICE with one of cpu, cuda, cuda:N, auto"
            return (
                f"{subject}@{device}/DTYPE with one of {', '.join(DTYPES)}" if slash and dtype not in DTYPES else None
            )
        if _OWN.fullmatch(_parted(text)[0]):
            return None
        return f"one of {_RUN}, {RECORDED}FILE"

    def mend(self, value: object) -> str | None:
        text = str(value)
        subject = text.partition("@")[0]
        if subject in SUBJECT_NAMES:
            return f"try {self.name} {subject}@cpu/float32"
        if text.endswith(".py"):
            return f"name the class in it, such as {text}:MyLSTM"
        near = get_close_matches(subject.lower(), SUBJECT_NAMES, n=1, cutoff=0.5)
        return f"did you mean {self.name} {near[0]}?" if near else super().mend(value)


@dataclass(frozen=True, eq=False, repr=False)
class _Subject(_Side):
    """A side that is run, as a recorded one is not."""

    @property
    def metavar(self) -> str:
        return "SUBJECT"

    def must_be(self, value: object) -> str | None:
        if str(value).startswith(RECORDED):
            return f"one of {_RUN}"
        must_be = super().must_be(value)
        return must_be and must_be.removesuffix(f", {RECORDED}FILE")


def _parted(text: str) -> tuple[str, str, str]:
    """Subject, device and dtype of a class, whose file may have an @ in its name."""
    found = _PLACE.fullmatch(text)
    return (found[1], found[2], found[5] or "") if found else (text, "", "")


_RUN = f"{', '.join(SUBJECT_NAMES)}, FILE.py:Class, package.module:Class"
_WHICH = f"{_RUN} or {RECORDED}FILE"

LEFT = _Side(("--left",), f"What is expected, where @DEVICE or @DEVICE/DTYPE may follow: {_WHICH}.", "Sides", "module")
RIGHT = _Side(("--right",), "What is judged, likewise.", "Sides", "cells")
SUBJECT = _Subject(
    ("--subjects",), f"What is timed, where @DEVICE or @DEVICE/DTYPE may follow: {_RUN}.", "Benchmark", "cells"
)


def side_spec(flag: Flag, typed: str, spec: Spec) -> tuple[str, Spec]:
    """The subject of a side, and the Spec with the side's own device and dtype.

    Raises:
        RnnscopeError: no such subject, device or dtype.
    """
    flag.check(typed)
    subject, device, dtype = (typed, "", "") if typed.startswith(RECORDED) else _parted(typed)
    return subject, replace(spec, device=device or spec.device, dtype=dtype or spec.dtype)
