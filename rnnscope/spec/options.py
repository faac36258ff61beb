"""The flags of files and of single commands, and how a side of a comparison is named.

A name is read from the text alone: whether a file or a class is there is found out when it is loaded.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

from rnnscope.errors import RnnscopeError
from rnnscope.spec.flags import Choice, FileName, Flag, Number, Repeated, Switch, Whole, Words, listed, nearest
from rnnscope.spec.spec import DEVICE_FORMS, DEVICE_WORDS, DEVICES, DTYPES, LARGEST_SIZE, SPEC_FLAGS, Spec

SUBJECT_NAMES = ("module", "cells", "equations", "compiled", "items")

RECORDED = "recorded:"
"""Stands before the name of a file with recorded outputs."""

DEVIATION = "deviation:"
"""Stands before the name of a deviation; `rnnscope explain` lists them."""

CELL = "cell:"
"""Stands before the name of a class whose forward takes one step."""

_PLACE = re.compile(rf"(.+)@({DEVICES})(?:/({'|'.join(DTYPES)}))?")
_OWN = re.compile(r".+:[^\W\d]\w*(\.[^\W\d]\w*)*", re.DOTALL)


class SideFlag(Flag):
    """A subject, and behind it the device and the dtype where they are not those of the Spec.

    `allowed` says which subjects there are, and whether a recorded run and a deviation are among them. Which deviations
    there are is not known here.
    """

    def complaint(self, value: object) -> str | None:
        text = str(value)
        if text.startswith(RECORDED) and RECORDED in self.allowed:
            return None if text != RECORDED else f"{RECORDED}FILE"
        subject, at, place = text.partition("@")
        if self._is_known(subject):
            device, slash, dtype = place.partition("/")
            if at and not re.fullmatch(DEVICES, device):
                return f"{subject}@DEVICE with one of {DEVICE_FORMS}"
            odd = slash and dtype not in DTYPES
            return f"{subject}@{device}/DTYPE with one of {', '.join(DTYPES)}" if odd else None
        if text.startswith(CELL) and not is_own(text):
            return f"{CELL}FILE.py:Class or {CELL}package.module:Class"
        return None if is_own(text) else f"one of {self.allowed}"

    def completions(self, typed: str) -> list[str]:
        subject, at, place = typed.partition("@")
        device, slash, _ = place.partition("/")
        if slash:
            offered: Iterable[str] = (f"{subject}@{device}/{dtype}" for dtype in DTYPES)
        elif at:
            offered = (f"{subject}@{each}" for each in DEVICE_WORDS)
        else:
            offered = (*SUBJECT_NAMES, *(each for each in (CELL, DEVIATION, RECORDED) if each in self.allowed))
        return [each for each in offered if each.startswith(typed)]

    def hint(self, value: object) -> str | None:
        text = str(value)
        subject = text.partition("@")[0]
        if self._is_known(subject):
            return f"try {self.name} {subject}@cpu/float32"
        if text.endswith(".py"):
            return f"name the class in it, such as {text}:MyLSTM"
        if text.startswith(CELL):
            return f"try {self.name} {CELL}mine.py:MyCell"
        near = nearest(subject, SUBJECT_NAMES)
        return f"did you mean {self.name} {near}?" if near else super().hint(value)

    def _is_known(self, subject: str) -> bool:
        return subject in SUBJECT_NAMES or (subject.startswith(DEVIATION) and DEVIATION in self.allowed)


def is_own(typed: str) -> bool:
    """Whether a side, as it was typed, is a class or function of the user's."""
    name = _parted(typed)[0].removeprefix(CELL)
    return not name.startswith((RECORDED, DEVIATION, CELL)) and _OWN.fullmatch(name) is not None


def _parted(text: str) -> tuple[str, str, str]:
    """Subject, device and dtype of a class, whose file may have an @ in its name."""
    found = _PLACE.fullmatch(text)
    return (found[1], found[2], found[5] or "") if found else (text, "", "")


_RUN = f"{', '.join(SUBJECT_NAMES)}, FILE.py:Class, package.module:Class, {CELL}FILE.py:Class"
_WHERE = "where @DEVICE or @DEVICE/DTYPE may follow"

LEFT = SideFlag(
    ("--left",),
    f"What is expected, {_WHERE}: {_RUN}, {DEVIATION}NAME or {RECORDED}FILE.",
    "Sides",
    "module",
    allowed=f"{_RUN}, {DEVIATION}NAME, {RECORDED}FILE",
    placeholder="SIDE",
)
RIGHT = replace(LEFT, names=("--right",), help="What is judged, likewise.", default="cells")
SUBJECT = SideFlag(
    ("--subjects",), f"What is timed, {_WHERE}: {_RUN}.", "Benchmark", "cells", allowed=_RUN, placeholder="SUBJECT"
)


def recorded_files(left: str, right: str) -> tuple[str, str] | None:
    """The files of two sides that are both recorded; None where one of them is run."""
    if not (left.startswith(RECORDED) and right.startswith(RECORDED)):
        return None
    return left.removeprefix(RECORDED), right.removeprefix(RECORDED)


def side_spec(flag: Flag, typed: str, spec: Spec) -> tuple[str, Spec]:
    """The subject of a side, and the Spec with the side's own device and dtype.

    Raises:
        RnnscopeError: no such subject, device or dtype.
    """
    flag.check(typed)
    subject, device, dtype = (typed, "", "") if typed.startswith(RECORDED) else _parted(typed)
    return subject, replace(spec, device=device or spec.device, dtype=dtype or spec.dtype)


@dataclass(frozen=True)
class Own:
    """How a class of the user's is made, named and called, as far as its user says it. The rest is found out.

    Args:
        args: arguments of its constructor: NAME=VALUE.
        names: torch's names of its parameters: OWN=TORCH.
        batch_first: whether its x and y start with N.
    """

    args: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    batch_first: bool | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by their names: literals of Python, and texts where they are none."""
        return {name: _literal(value) for name, value in (each.split("=", 1) for each in self.args)}

    @property
    def torch_names(self) -> dict[str, str]:
        """What stands for torch's name, by the class's own name, as it was typed."""
        return dict(each.split("=", 1) for each in self.names)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


ARG = Repeated(
    ("--left-arg",),
    "An argument of the left class; give it again for more.",
    "Sides",
    (),
    example="vocabulary=100",
    allowed="NAME=VALUE, with a name as in Python",
    pattern=r"(?s:[^\W\d]\w*=.*)",
    placeholder="NAME=VALUE",
    rare=True,
)
NAME_OF = replace(
    ARG,
    names=("--left-name",),
    help="Torch's name of one of its parameters; likewise.",
    example="W_hh=weight_hh_l0",
    allowed="OWN=TORCH, the parameter's own name and torch's",
    pattern=r"[^=\s]+=[^=\s]+",
    placeholder="OWN=TORCH",
)
LAYOUT = Switch(
    ("--left-batch-first/--no-left-batch-first",), "Whether its x and y start with N.", "Sides", None, rare=True
)


def _own(flag: Flag, side: str) -> Any:
    """A field with the flag of a side."""
    names = tuple(each.replace("left", side) for each in flag.names)
    flag = replace(flag, names=names, help=flag.help.replace("left", side))
    return field(default=flag.default, metadata={"flag": flag})


@dataclass(frozen=True, kw_only=True)
class OwnSides:
    """What the user says of each side that is a class of their own: Own, with the side in front of each name.

    Raises:
        RnnscopeError: a text of another form, or a name that is given twice.
    """

    left_args: tuple[str, ...] = _own(ARG, "left")
    left_names: tuple[str, ...] = _own(NAME_OF, "left")
    left_batch_first: bool | None = _own(LAYOUT, "left")
    right_args: tuple[str, ...] = _own(ARG, "right")
    right_names: tuple[str, ...] = _own(NAME_OF, "right")
    right_batch_first: bool | None = _own(LAYOUT, "right")

    def __post_init__(self) -> None:
        for name, flag in self._given():
            flag.check(getattr(self, name))

    @property
    def left(self) -> Own:
        return Own(self.left_args, self.left_names, self.left_batch_first)

    @property
    def right(self) -> Own:
        return Own(self.right_args, self.right_names, self.right_batch_first)

    def check(self, left: str, right: str) -> None:
        """Raise where a side of which something is said is no class of the user's."""
        for name, flag in self._given():
            side, typed = (LEFT, left) if name.startswith("left") else (RIGHT, right)
            if not is_own(typed):
                words = " ".join(flag.as_typed(getattr(self, name))[:2])
                raise RnnscopeError(
                    f"{words} is said of a class of your own, and {side.name} is {typed}",
                    f"name the class, such as {side.name} mine.py:MyLSTM, or leave {words.split()[0]} out",
                )

    def _given(self) -> Iterator[tuple[str, Flag]]:
        return ((name, flag) for name, flag in OWN_FLAGS.items() if getattr(self, name) != flag.default)


OWN_FLAGS: dict[str, Flag] = {each.name: each.metadata["flag"] for each in fields(OwnSides)}
"""The flag of each field."""

NOTHING_SAID, NOTHING_SAID_OF_SIDES = Own(), OwnSides()


def _file(*names: str, help: str, example: str = "model.pt") -> Any:
    return field(default=None, metadata={"flag": FileName(names, help, "Files", example=example)})


def _prefix(name: str, help: str, rare: bool = False) -> Any:
    return field(default=None, metadata={"flag": Flag((name,), help, "Files", example="encoder.rnn", rare=rare)})


@dataclass(frozen=True, kw_only=True, eq=False)
class Sources:
    """Names of files, and where in them a network is; None where the seed gives it.

    Raises:
        RnnscopeError: a value that is no name.
    """

    weights: str | None = _file("--weights", "--with-weights", help="The network and its weights, from a file.")
    prefix: str | None = _prefix("--prefix", help="Where in the file it is: encoder.rnn.")
    right_weights: str | None = _file("--right-weights", help="Weights of the right side's own.", example="run.pt")
    right_prefix: str | None = _prefix("--right-prefix", help="Where these are in their file.", rare=True)
    inputs: str | None = _file("--inputs", help="x, h0, c0 and lengths, from a file.", example="run.pt")

    def __post_init__(self) -> None:
        for flag, value in self.given():
            flag.check(value)

    def check_prefixes(self, left: str = "", right: str = "") -> None:
        """Raise if a prefix is given without a file in which it could be; the sides may be recorded runs."""
        is_recorded = [side.startswith(RECORDED) for side in (left, right)]
        has_file = {
            "prefix": ("weights", self.weights or self.inputs or any(is_recorded)),
            "right_prefix": ("right_weights", self.right_weights or is_recorded[1]),
        }
        for prefix, (file, found) in has_file.items():
            if getattr(self, prefix) is not None and not found:
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

RECORD = FileName(("--record",), "Keep weights, input and left outputs in a file.", "Files", example="run.pt")

FILE = FileName(("FILE",), "A file of tensors: .pt, .pth or .safetensors.", "Files", example="model.pt")

TO = Choice(("--to",), "Whose names the weights get:", "Files", choices=("cells", "module"), example="cells")

OUT = FileName(("--out", "-o"), "Where the network is written; the ending names the format.", "Files", example="out.pt")

FORCE = Switch(("--force",), "Replace a file that is there already.", "Output", False)

PATHS = ("module", "cells")
"""The ways of computing a network whose shapes are shown."""

PATH = Choice(("--path",), "Which way of computing to show:", "Shapes", "both", choices=("both", *PATHS))

DRY_RUN = Switch(("--dry-run",), "From the formulas alone; nothing is run.", "Shapes", False)

VALUES = Switch(("--values",), "Print the numbers of one item, and its gates at one step.", "Trace", False)

ITEM = Whole(("--item",), "Whose numbers are printed.", "Trace", 0, maximum=LARGEST_SIZE)

STEP = Whole(
    ("--step",), "At which step gates are printed; the last one otherwise.", "Trace", maximum=LARGEST_SIZE, example=0
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
    "Draw so many, instead of every combination.",
    "Sweep",
    minimum=1,
    maximum=MOST_CONFIGURATIONS,
    example=100,
)

CONFIGS = FileName(("--configs",), "Take them from lines of JSON; - is stdin.", "Sweep", example="configs.jsonl")

ROWS = FileName(("--out",), "Add a line of JSON for each to a file.", "Sweep", example="sweep.jsonl")

RESUME = Switch(("--resume",), "Go on with that file; leave out what it has.", "Sweep", False)

REPORT = FileName(("--report",), "Run nothing; tell again what a file says.", "Sweep", example="sweep.jsonl")

TOPIC = Words(("TOPIC",), "A topic or a command; all topics are listed without it.", "Output")

NAME = Words(("NAME",), "What is to be explained; all names are listed without it.", "Output")
