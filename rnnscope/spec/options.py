"""The flags of files and of single commands."""

from dataclasses import dataclass, replace
from typing import Any

from rnnscope.errors import RnnscopeError
from rnnscope.spec.flags import Choice, FileName, Flag, Flagged, Number, Switch, Whole, Words, flagged, flags_of, listed
from rnnscope.spec.sides import SUBJECT, is_file
from rnnscope.spec.spec import LARGEST_SIZE, SPEC_FLAGS, Spec


def _file(*names: str, help: str, example: str = "model.pt") -> Any:
    return flagged(FileName(names, help, "Files", example=example))


def _prefix(name: str, help: str, rare: bool = False) -> Any:
    return flagged(Flag((name,), help, "Files", example="encoder.rnn", rare=rare))


@dataclass(frozen=True, kw_only=True, eq=False)
class Sources(Flagged):
    """Names of files, and where in them a network is; None where the seed gives it.

    Raises:
        RnnscopeError: a value that is no name.
    """

    weights: str | None = _file("--weights", "--with-weights", help="The network and its weights, from a file.")
    prefix: str | None = _prefix("--prefix", help="Where in the file it is, such as encoder.rnn.")
    right_weights: str | None = _file("--right-weights", help="The right side's own weights.", example="run.pt")
    right_prefix: str | None = _prefix("--right-prefix", help="Where these are in their file.", rare=True)
    inputs: str | None = _file("--inputs", help="x, h0, c0 and lengths, from a file.", example="run.pt")

    def check_prefixes(self, left: str, right: str) -> None:
        """Raise if a prefix is given without a file in which it could be; the sides may be recorded runs or models."""
        has_file = {
            "prefix": ("weights", self.weights or self.inputs or is_file(left) or is_file(right)),
            "right_prefix": ("right_weights", self.right_weights or is_file(right)),
        }
        for prefix, (file, found) in has_file.items():
            if getattr(self, prefix) is not None and not found:
                name = SOURCE_FLAGS[file].name
                raise RnnscopeError(f"{SOURCE_FLAGS[prefix].name} is given without {name}", f"add {name} FILE")

    def prefix_in(self, role: str, model: str) -> str | None:
        """Where in the file of a model the network of a side is: the prefix of other weights says nothing of it."""
        if role == "right" and self.right_prefix is not None:
            return self.right_prefix
        return self.prefix if self.weights in (None, model) else None


SOURCE_FLAGS = flags_of(Sources)

NO_FILES = Sources()

RECORD = FileName(("--record",), "Keep weights, input and left outputs in a file.", "Files", example="run.pt")

FILE = FileName(("FILE",), "A file of .pt, .pth, .safetensors, .onnx or .pt2.", "Files", example="model.pt")

TO = Choice(("--to",), "Whose names the weights get:", "Files", choices=("cells", "module"), example="cells")

OUT = FileName(("--out", "-o"), "Where the network is written; the ending names the format.", "Files", example="out.pt")

FORCE = Switch(("--force",), "Replace a file that is there already.", "Output", False)

PATHS = ("module", "cells")
"""The ways of computing a network whose shapes are shown."""

PATH = Choice(("--path",), "Which way of computing to show:", "Shapes", "both", choices=("both", *PATHS))

DRY_RUN = Switch(("--dry-run",), "From the formulas alone; nothing is run.", "Shapes", False)

VALUES = Switch(("--values",), "Print the numbers of one item, and its gates at one step.", "Trace", False)

ITEM = Whole(("--item",), "The item whose numbers are printed.", "Trace", 0, maximum=LARGEST_SIZE)

STEP = Whole(
    ("--step",), "The step whose gates are printed; by default the last.", "Trace", maximum=LARGEST_SIZE, example=0
)

BENCH_SUBJECTS: Flag = listed(SUBJECT, ("module", "cells", "equations", "compiled"))

SEQ_LENS = listed(SPEC_FLAGS["seq_len"])

TIME_GRAD = Switch(("--grad",), "Time forward and backward.", "Benchmark", False)

MIN_TIME = Number(("--min-time",), "Seconds of measuring for each row, at least.", "Benchmark", 0.5, maximum=3600.0)

MOST_TIMINGS = 1000
"""A row takes half a second and more, and nobody reads as many."""


def bench_specs(
    spec: Spec, subjects: tuple[str, ...], seq_lens: tuple[int, ...] | None, min_time: float
) -> tuple[Spec, ...]:
    """The Spec at each length, from short to long.

    Raises:
        RnnscopeError: a value that is not allowed, or nothing to time.
    """
    for flag, value in ((BENCH_SUBJECTS, subjects), (SEQ_LENS, seq_lens), (MIN_TIME, min_time)):
        if value is not None:
            flag.check(value)
    many = len(subjects) * len(seq_lens or (0,))
    if many > MOST_TIMINGS:
        raise RnnscopeError(
            f"{SEQ_LENS.name} and {BENCH_SUBJECTS.name} list {many} rows, but a benchmark may have {MOST_TIMINGS}",
            f"try {SEQ_LENS.name} 1..1000:5",
        )
    if spec.batch_size == 0:
        raise RnnscopeError("--batch is 0, so that there is nothing to time", "try --batch 1 or more")
    return (spec,) if seq_lens is None else tuple(replace(spec, seq_len=each) for each in sorted(set(seq_lens)))


def baseline_of(subjects: tuple[str, ...]) -> str:
    """What ratios are to: the first torch's module among the subjects, on whichever device, or the module anyway."""
    return next((each for each in subjects if each.partition("@")[0] == "module"), "module")


MOST_CONFIGURATIONS = 1_000_000

RANDOM = Whole(
    ("--random",),
    "Draw so many configurations, instead of all.",
    "Sweep",
    minimum=1,
    maximum=MOST_CONFIGURATIONS,
    example=100,
)

CONFIGS = FileName(("--configs",), "Take these from lines of JSON; - is stdin.", "Sweep", example="configs.jsonl")

AT_BOUNDARIES = Switch(("--at-boundaries",), "Add sizes at which devices are known to fail.", "Sweep", False, rare=True)

ROWS = FileName(("--out",), "Add a line of JSON for each to this file.", "Sweep", example="sweep.jsonl")

RESUME = Switch(("--resume",), "Go on with that file; leave out what it has.", "Sweep", False)

REPORT = FileName(("--report",), "Run nothing; show again what a file has.", "Sweep", example="sweep.jsonl")

TOPIC = Words(("TOPIC",), "A topic or a command; all topics are listed without it.", "Output")

NAME = Words(("NAME",), "What is to be explained; all names are listed without it.", "Output")
