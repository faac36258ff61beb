"""How a side of a comparison is named, and what can be said of one: flags, and what each of them means.

A name is read from the text alone: whether a file or a class is there is found out when it is loaded.
"""

import ast
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from rnnscope.errors import RnnscopeError
from rnnscope.spec.flags import Choice, Flag, Flagged, Number, Repeated, Switch, Wholes, flagged, flags_of, nearest
from rnnscope.spec.spec import DEVICE_FORMS, DEVICE_WORDS, DEVICES, DTYPES, KINDS, Spec, nearest_device

SUBJECT_NAMES = ("module", "cells", "equations", "compiled", "compiled-module", "items", "quantized")

EXPORTS = ("exported", "exported@decomposed", "scripted", "onnx", "onnx@legacy")
"""What torch itself makes of its module for other programs; each is made in a process of its own, and run."""

COMMAND = "command:"
"""Stands before the words of a program that computes the network."""

MODEL_ENDINGS = (".onnx", ".pt2")
"""Of files that hold a network which can be run."""

RECORDED = "recorded:"
"""Stands before the name of a file with recorded outputs."""

DEVIATION = "deviation:"
"""Stands before the name of a deviation; `rnnscope explain` lists them."""

CELL = "cell:"
"""Stands before the name of a class whose forward takes one step."""

_PLACE = re.compile(rf"(.+)@({DEVICES})(?:/({'|'.join(DTYPES)}))?")
_OWN = re.compile(r".+:[^\W\d]\w*(\.[^\W\d]\w*)*", re.DOTALL)

_FORMATS = (".npz", ".safetensors", ".pt")
"""What {in} and {out} may be; the first one where no ending is given."""

_PROGRAM_EXAMPLE = "./my_lstm {in} {out}"

_PROGRAM_ALLOWED = "{in} and {out}, or {in.safetensors} and {in.pt} likewise; {spec} may be among them"
"""What words may have for files."""

_FILE = re.compile(r"\{(in|out|spec)(\.\w*)?\}")


class SideFlag(Flag):
    """A subject, and behind it the device and the dtype where they are not those of the Spec.

    `allowed` says which subjects there are, and whether a recorded run and a deviation are among them. Which deviations
    there are is not known here.
    """

    def complaint(self, value: object) -> str | None:
        text = str(value)
        for prefix, form in ((RECORDED, f"{RECORDED}FILE"), (COMMAND, f"{COMMAND}WORDS")):
            if text.startswith(prefix) and prefix in self.allowed:
                if prefix == COMMAND and text[len(prefix) :].strip():
                    return _program_complaint(text[len(prefix) :])
                return None if text[len(prefix) :].strip() else form
        if self._is_known(_parted(text)[0]):
            return None
        subject, _, place = text.partition("@")
        if self._is_known(subject):
            device = place.partition("/")[0]
            if not re.fullmatch(DEVICES, device):
                return f"{subject}@DEVICE with one of {DEVICE_FORMS}"
            return f"{subject}@{device}/DTYPE with one of {', '.join(DTYPES)}"
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
            words = (*EXPORTS, CELL, DEVIATION, RECORDED, COMMAND)
            offered = (*SUBJECT_NAMES, *(each for each in words if each in self.allowed))
        return [each for each in offered if each.startswith(typed)]

    def hint(self, value: object) -> str | None:
        text = str(value)
        if text.startswith(COMMAND):
            return f"try {self.name} '{COMMAND}{_PROGRAM_EXAMPLE}'"
        if text.startswith(RECORDED):
            return f"try {self.name} {RECORDED}run.pt"
        subject = text.partition("@")[0]
        if self._is_known(subject):
            device = text.partition("@")[2].partition("/")[0]
            near = None if re.fullmatch(DEVICES, device) else nearest_device(device)
            return f"did you mean {self.name} {subject}@{near}?" if near else f"try {self.name} {subject}@cpu/float32"
        if text.endswith(".py"):
            return f"name the class in it, such as {text}:MyLSTM"
        if text.startswith(CELL):
            return f"try {self.name} {CELL}mine.py:MyCell"
        near = nearest(subject, (*SUBJECT_NAMES, *(each for each in EXPORTS if each in self.allowed)))
        return f"did you mean {self.name} {near}?" if near else super().hint(value)

    def ends_a_list(self, part: str) -> bool:
        return part.startswith(COMMAND) and COMMAND in self.allowed  # its words may have commas

    def _is_known(self, subject: str) -> bool:
        is_deviation = subject.startswith(DEVIATION) and DEVIATION in self.allowed and "@" not in subject
        if subject in SUBJECT_NAMES or is_deviation:
            return True
        return (subject in EXPORTS and subject in self.allowed) or (is_model(subject) and "FILE.onnx" in self.allowed)


def is_own(typed: str) -> bool:
    """Whether a side, as it was typed, is a class or function of the user's."""
    name = _parted(typed)[0].removeprefix(CELL)
    return not name.startswith((RECORDED, DEVIATION, CELL, COMMAND)) and _OWN.fullmatch(name) is not None


def is_model(subject: str) -> bool:
    """Whether a subject is a file that holds a network which can be run."""
    return subject.endswith(MODEL_ENDINGS) and not subject.startswith((RECORDED, DEVIATION, CELL, COMMAND))


def is_file(typed: str) -> bool:
    """Whether a side, as it was typed, is a recorded run or a model, whose file says what the network is."""
    return typed.startswith(RECORDED) or is_model(subject_of(typed))


def subject_of(typed: str) -> str:
    """The subject of a side as it was typed, without device and dtype."""
    return _parted(typed)[0]


def _parted(text: str) -> tuple[str, str, str]:
    """Subject, device and dtype; a file may have an @ in its name, and words of a program are left as they are."""
    if text.startswith(COMMAND):
        return text, "cpu", ""
    found = None if text.startswith(RECORDED) else _PLACE.fullmatch(text)
    return (found[1], found[2], found[3] or "") if found else (text, "", "")


@dataclass(frozen=True)
class ProgramWords:
    """The words that start a program, as they were typed, in which the names of files have their place.

        command:python3 my_lstm.py {in} {out}

    `{in}` stands for the file with the network and its input, `{out}` for the file that the program writes, `{spec}`
    for a file with the sizes. An ending in the braces names the format: `{in.safetensors}`. Other braces are left as
    they are. The flag of a side has found nothing wrong with the words.
    """

    text: str

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words, split as a shell splits them: nothing in them is a variable or a wildcard."""
        return tuple(shlex.split(self.text))

    @cached_property
    def files(self) -> dict[str, str]:
        """The name of the file that stands for each place: {"{in}": "in.npz", "{spec}": "spec.json"}."""
        return {found[0]: _file_of(found) for word in self.words for found in _FILE.finditer(word)}

    def file(self, name: str) -> str:
        """The name of the file of "in" or "out"; the first one where there are several formats."""
        return next(each for each in self.files.values() if each.startswith(f"{name}."))

    def placed(self, folder: str) -> list[str]:
        """The words with the files of a folder in their places."""
        return [_FILE.sub(lambda found: f"{folder}/{_file_of(found)}", word) for word in self.words]


def _program_complaint(text: str) -> str | None:
    """What the words of a program would have to be; None where they may be run."""
    try:
        words = shlex.split(text)
    except ValueError:
        return "words as in a shell, with every quote closed"
    if not words or "\0" in text:
        return f"words that start a program, such as {_PROGRAM_EXAMPLE}"
    places = [found for word in words for found in _FILE.finditer(word)]
    has_odd = any(each[2] not in ((None,) if each[1] == "spec" else (None, *_FORMATS)) for each in places)
    is_missing = {"in", "out"} - {each[1] for each in places}
    writes_several = len({each[2] for each in places if each[1] == "out"}) > 1
    if has_odd or is_missing or writes_several:
        return f"words with {_PROGRAM_ALLOWED}"
    return None


def _file_of(found: re.Match[str]) -> str:
    return "spec.json" if found[1] == "spec" else f"{found[1]}{found[2] or _FORMATS[0]}"


_RUN = f"{', '.join(SUBJECT_NAMES)}, FILE.py:Class, package.module:Class, {CELL}FILE.py:Class"
_ELSEWHERE = f"{', '.join(EXPORTS)}, FILE.onnx, FILE.pt2, {COMMAND}WORDS, {RECORDED}FILE, {DEVIATION}NAME"
_IN_SHORT = "exported[@decomposed], scripted, onnx[@legacy], FILE.onnx, FILE.pt2"
_WHERE = "@DEVICE/DTYPE may follow"

LEFT = SideFlag(
    ("--left",),
    f"What is expected ({_WHERE}): {_RUN}, {_IN_SHORT}, {COMMAND}WORDS, {RECORDED}FILE, {DEVIATION}NAME.",
    "Sides",
    "module",
    allowed=f"{_RUN}, {_ELSEWHERE}",
    placeholder="SIDE",
)
RIGHT = replace(LEFT, names=("--right",), help="What is judged, likewise.", default="cells")
SUBJECT = SideFlag(
    ("--subjects",), f"What is timed ({_WHERE}): {_RUN}.", "Benchmark", "cells", allowed=_RUN, placeholder="SUBJECT"
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
    subject, device, dtype = _parted(typed)
    return subject, replace(spec, device=device or spec.device, dtype=dtype or spec.dtype)


def check_quantized(spec: Spec, name: str) -> None:
    """Raise unless torch has a dynamic int8 version of a Spec's module that takes its input.

    Args:
        name: of the subject, as it was typed.
    """
    needs = {
        f"nn.RNN: torch has one of {KINDS['lstm']} and {KINDS['gru']} alone": (spec.kind == "rnn", "use --kind lstm"),
        "--no-bias: torch's takes a bias only": (not spec.bias, "leave --no-bias out"),
        f"--proj-size {spec.proj_size}: torch's knows no projection": (spec.proj_size > 0, "leave --proj-size out"),
        "--unbatched: torch's takes batches only": (spec.unbatched, "use --batch 1"),
        f"--dtype {spec.dtype}: torch's takes and gives float32": (
            spec.dtype != "float32",
            f"use {name.partition('@')[0]}@cpu/float32",
        ),
        f"--device {spec.device}: torch's runs on the CPU": (
            spec.device not in ("cpu", "auto"),
            f"use {name.partition('@')[0]}@cpu",
        ),
        f"--train with dropout {spec.dropout:g}: torch's runs in evaluation mode": (
            spec.train and spec.dropout > 0,
            "leave --train out",
        ),
    }
    for what, (is_asked, mend) in needs.items():
        if is_asked:
            raise RnnscopeError(f"{name} cannot do {what}", mend)


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
    return flagged(replace(flag, names=names, help=flag.help.replace("left", side)))


@dataclass(frozen=True, kw_only=True)
class OwnSides(Flagged):
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

    @property
    def left(self) -> Own:
        return Own(self.left_args, self.left_names, self.left_batch_first)

    @property
    def right(self) -> Own:
        return Own(self.right_args, self.right_names, self.right_batch_first)

    def check(self, left: str, right: str) -> None:
        """Raise where a side of which something is said is no class of the user's."""
        for flag, value in self.given():
            side, typed = (LEFT, left) if flag.name.startswith(LEFT.name) else (RIGHT, right)
            if not is_own(typed):
                words = " ".join(flag.as_typed(value)[:2])
                raise RnnscopeError(
                    f"{words} is said of a class of your own, and {side.name} is {typed}",
                    f"name the class, such as {side.name} mine.py:MyLSTM, or leave {words.split()[0]} out",
                )


OWN_FLAGS = flags_of(OwnSides)

NOTHING_SAID, NOTHING_SAID_OF_SIDES = Own(), OwnSides()


class _Sizes(Wholes):
    """L and N."""

    def complaint(self, value: object) -> str | None:
        are_two = isinstance(value, tuple) and len(value) == 2 and super().complaint(value) is None
        return None if are_two else "L,N: two whole numbers of at least 1"


TRACED_AT = _Sizes(
    ("--traced-at",),
    "L,N at which exports are made; by default not the run's.",
    "Sides",
    example=(7, 3),
    maximum=2**31,
    placeholder="L,N",
    rare=True,
)
TIMEOUT = Number(("--timeout",), "Seconds that a program may take for a call.", "Sides", 60.0, maximum=86400, rare=True)
AUTOCAST = Choice(
    ("--autocast",),
    "Run the right side under torch.autocast in:",
    "Sides",
    None,
    example="bfloat16",
    choices=("bfloat16", "float16"),
    rare=True,
)


@dataclass(frozen=True, kw_only=True)
class How(Flagged):
    """How sides are made and run that are more than a call of a module in its own dtype.

    Args:
        traced_at: L and N at which exports are made; None chooses some that differ from the run's. Of a file of a model
            it says at which it was made.
        timeout: seconds that a program may take for each call.
        autocast: the dtype of torch.autocast, under which the right side is run; None runs it as it is.

    Raises:
        RnnscopeError: a value that is not allowed.
    """

    traced_at: tuple[int, int] | None = flagged(TRACED_AT)
    timeout: float = flagged(TIMEOUT)
    autocast: str | None = flagged(AUTOCAST)

    def check(self, left: str, right: str) -> None:
        """Raise where something is said of sides that are not there."""
        subjects = [_parted(each)[0] for each in (left, right)]
        needed = {
            TRACED_AT: (
                any(each in EXPORTS or is_model(each) for each in subjects),
                "is an export or a model's file",
            ),
            TIMEOUT: (any(each.startswith(COMMAND) for each in subjects), "is a program"),
            AUTOCAST: (
                subjects[1] in SUBJECT_NAMES or subjects[1].startswith(DEVIATION) or is_own(right),
                "runs in torch here",
            ),
        }
        for flag, value in self.given():
            is_there, what = needed[flag]
            if not is_there:
                side = "a right side" if flag is AUTOCAST else "a side"
                words = " ".join(flag.as_typed(value))
                raise RnnscopeError(f"{words} is said of {side} that {what}, and there is none", "leave it out")


HOW_FLAGS = flags_of(How)

AS_IT_IS = How()
