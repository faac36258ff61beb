"""What a benchmark can be asked for: its flags, and the Specs that follow from them. torch is not imported."""

from dataclasses import replace

from rnnscope.errors import RnnscopeError
from rnnscope.spec.flags import Flag, Number, Switch
from rnnscope.spec.listed import listed
from rnnscope.spec.sides import SUBJECT
from rnnscope.spec.spec import SPEC_FLAGS, Spec

SUBJECTS: Flag = replace(listed(SUBJECT), default=("module", "cells", "equations", "compiled"))
SEQ_LENS = listed(SPEC_FLAGS["seq_len"])
TIME_GRAD = Switch(("--grad",), "Time forward and backward.", "Benchmark", False)
MIN_TIME = Number(("--min-time",), "Seconds of measuring for each row, at least.", "Benchmark", 0.5, maximum=3600.0)

MOST_ROWS = 1000
"""A row takes half a second and more, and nobody reads as many."""


def bench_specs(
    spec: Spec, subjects: tuple[str, ...], seq_lens: tuple[int, ...] | None, min_time: float
) -> tuple[Spec, ...]:
    """The Spec at each length, from short to long.

    Raises:
        RnnscopeError: a value that is not allowed, or nothing to time.
    """
    for flag, value in ((SUBJECTS, subjects), (SEQ_LENS, seq_lens), (MIN_TIME, min_time)):
        if value is not None:
            flag.check(value)
    many = len(subjects) * len(seq_lens or (0,))
    if many > MOST_ROWS:
        raise RnnscopeError(
            f"{SEQ_LENS.name} and {SUBJECTS.name} list {many} rows, but a benchmark may have {MOST_ROWS}",
            f"try {SEQ_LENS.name} 1..1000:5",
        )
    if spec.batch_size == 0:
        raise RnnscopeError("--batch is 0, so that there is nothing to time", "try --batch 1 or more")
    return (spec,) if seq_lens is None else tuple(replace(spec, seq_len=each) for each in sorted(set(seq_lens)))


def yardstick_of(subjects: tuple[str, ...]) -> str:
    """What ratios are to: the first torch's module among the subjects, on whichever device, or the module anyway."""
    return next((each for each in subjects if each.partition("@")[0] == "module"), "module")
