"""What is asked of two sides, what can be compared, and within which tolerance.

It is told from a Spec and the flags alone: nothing is run.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from rnnscope.errors import RnnscopeError
from rnnscope.spec.flags import Flag, Number, Switch, Whole, flagged, flags_of
from rnnscope.spec.options import RECORD, SOURCE_FLAGS, Sources
from rnnscope.spec.sides import (
    AS_IT_IS,
    COMMAND,
    EXPORTS,
    LEFT,
    NOTHING_SAID_OF_SIDES,
    RECORDED,
    RIGHT,
    How,
    OwnSides,
    check_quantized,
    is_model,
    side_spec,
)
from rnnscope.spec.spec import LARGEST_SIZE, SPEC_FLAGS, Spec

GRAD = Switch(("--grad",), "Compare the gradients too.", "Comparison", False)
RTOL = Number(("--rtol",), "An extra relative tolerance; goes with --atol.", "Comparison", example=1e-05)
ATOL = Number(("--atol",), "An extra absolute tolerance; goes with --rtol.", "Comparison", example=1e-05)
_BY_WHAT = "Judge by the equations in float64, or by torch.testing's tolerances."
REFERENCE = Switch(("--reference/--no-reference",), _BY_WHAT, "Comparison", True, rare=True)
RESYNC = Switch(
    ("--resync",),
    "Feed every step the reference's state, so that no error is carried on.",
    "Comparison",
    False,
    rare=True,
)
POWER = Switch(("--power",), "Show which deviations it would have caught.", "Comparison", False)
MAP = Switch(("--map",), "Draw the difference of each layer and step.", "Comparison", False)
_SO_MANY = "Run so many steps at a time and carry the state on; with --no-reference memory does not grow."
CHUNK = Whole(("--chunk",), _SO_MANY, "Comparison", minimum=1, maximum=LARGEST_SIZE, example=1000, rare=True)
_FURTHER = "Compare once more on a larger and longer input, so that clips, thresholds and late resets act."
STRESS = Switch(("--stress",), _FURTHER, "Comparison", False, rare=True)

STRESS_TIMES = 30
"""How much larger x and the initial state are under stress."""

_MORE_STEPS, _LEAST_STEPS = 4, 20
"""How many times as many steps are taken under stress, and how many at least."""

TOLERANCES = {"float16": (1e-3, 1e-5), "bfloat16": (1.6e-2, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7)}
"""(rtol, atol) of each dtype. Source: https://docs.pytorch.org/docs/stable/testing.html"""


def nan_last(value: float) -> tuple[bool, float]:
    """A key under which every NaN is the same, and greater than every number."""
    return (True, 0.0) if math.isnan(value) else (False, value)


@dataclass(frozen=True)
class Tolerance:
    """An element is within it when |right − left| ≤ atol + rtol·|left|. `given` when the user chose it.

    Source: https://docs.pytorch.org/docs/stable/testing.html#torch.testing.assert_close

    >>> compare(Spec(), rtol=0, atol=1e-6).tolerance
    Tolerance(rtol=0.0, atol=1e-06, given=True)
    """

    rtol: float
    atol: float
    given: bool


@dataclass(frozen=True)
class Question:
    """What is asked of two sides: the flags of `rnnscope compare`.

    Args:
        rtol, atol: tolerances that bind besides the bounds; both or neither.
        grad: compare the gradients of x, h0, c0 and every parameter too, for one random cotangent of y, h and c.
        reference: judge by the equations in float64 and by measured bounds. Otherwise the tolerance alone decides,
            torch.testing's for the dtype if none is given.
        resync: take every step by itself, fed the reference's state.
        power: tell which known deviations this comparison would have caught.
        map: find the greatest difference of each layer and step.
        chunk: run both sides over so many steps at a time, each from the state after the ones before. Without the
            reference no more than a chunk is ever in memory; with it every run keeps its y.
        stress: where no difference is found, ask once more on the same input 30 times as large, four times as long.

    Raises:
        RnnscopeError: one tolerance without the other, a value that is not allowed, or two that do not go together.

    Source of the tolerance rule: https://docs.pytorch.org/docs/stable/testing.html#torch.testing.assert_close
    """

    rtol: float | None = flagged(RTOL)
    atol: float | None = flagged(ATOL)
    grad: bool = flagged(GRAD)
    reference: bool = flagged(REFERENCE)
    resync: bool = flagged(RESYNC)
    power: bool = flagged(POWER)
    map: bool = flagged(MAP)
    chunk: int | None = flagged(CHUNK)
    stress: bool = flagged(STRESS)

    def __post_init__(self) -> None:
        for name, flag in flags_of(self).items():
            value = getattr(self, name)
            if isinstance(flag, Switch) or (flag is CHUNK and value is not None):
                flag.check(value)
        if self.resync and not self.reference:
            raise RnnscopeError(
                f"{RESYNC.name} feeds every step the reference's state, and --no-reference leaves it out",
                "give one of the two",
            )
        self._check_stress()
        self.check_chunk()
        self.tolerance("float32")

    def _check_stress(self) -> None:
        """Raise if something that is asked leaves nothing to see under stress."""
        refused = {
            f"{STRESS.name} asks about more steps, and {RESYNC.name} takes every step by itself": self.resync,
            f"{STRESS.name} is judged by the equations in float64, and --no-reference leaves them out": (
                not self.reference
            ),
        }
        for why, is_asked in refused.items():
            if self.stress and is_asked:
                raise RnnscopeError(why, "give one of the two")

    def check_chunk(self, spec: Spec | None = None) -> None:
        """Raise if something that is asked, or a Spec, keeps the state from being carried from chunk to chunk."""
        if self.chunk is None:
            return
        refused = {
            "from chunk to chunk, and --grad goes back through all steps at once": self.grad,
            "from chunk to chunk, and --resync takes every step by itself and carries nothing on": self.resync,
            "from chunk to chunk, and --power runs every deviation over the whole sequence": self.power,
            "from chunk to chunk, and --map keeps every step of every layer": self.map,
            "from chunk to chunk, and --stress runs more steps as a whole": self.stress,
            "on from chunk to chunk, and --bidirectional walks from the last step back, too": spec
            and spec.bidirectional,
            "on from chunk to chunk, and --lengths lets each item end at a step of its own": spec and spec.lengths,
        }
        for why, is_asked in refused.items():
            if is_asked:
                raise RnnscopeError(f"{CHUNK.name} {self.chunk} carries the state {why}", "give one of the two")

    def tolerance(self, *dtypes: str) -> Tolerance:
        """The user's two numbers, or torch.testing's: the wider of those of the dtypes.

        Raises:
            RnnscopeError: one number without the other, or one that is negative or not finite.
        """
        rtol, atol = self.rtol, self.atol
        if rtol is None and atol is None:
            rtols, atols = zip(*(TOLERANCES[each] for each in dtypes), strict=True)
            return Tolerance(max(rtols), max(atols), given=False)
        if rtol is None or atol is None:
            (given, value), missing = ((RTOL, rtol), ATOL) if atol is None else ((ATOL, atol), RTOL)
            raise RnnscopeError(
                f"{given.name} {value} is given without {missing.name}", f"give both, for example {missing.name} 0"
            )
        RTOL.check(rtol)
        ATOL.check(atol)
        return Tolerance(abs(float(rtol)), abs(float(atol)), given=True)  # abs, so that -0.0 is shown as 0

    @property
    def binds(self) -> bool:
        """Whether the tolerance decides: it was given, or there is no reference."""
        return self.rtol is not None or not self.reference

    @property
    def figures_alone(self) -> bool:
        """Whether only the figures of y, h and c are asked for, so that no whole run need be kept."""
        return not (self.reference or self.grad or self.resync or self.power or self.map)


QUESTION_FLAGS = flags_of(Question)

DEFAULT_QUESTION = Question()


def check_comparable(
    spec: Spec,
    left: str,
    right: str,
    question: Question = DEFAULT_QUESTION,
    own: OwnSides = NOTHING_SAID_OF_SIDES,
    how: How = AS_IT_IS,
) -> None:
    """Raise RnnscopeError unless both subjects can do what the Spec asks and there is something to compare."""
    own.check(left, right)
    how.check(left, right)
    sides = [(flag, typed, *side_spec(flag, typed, spec)) for flag, typed in ((LEFT, left), (RIGHT, right))]
    recorded = [subject for _, _, subject, _ in sides if subject.startswith(RECORDED)]
    if len(recorded) == 2:
        raise RnnscopeError(
            "--left and --right are both recorded, so that nothing would be run",
            "give compare the names of both files instead of a Spec",
        )
    again = {GRAD: question.grad, RESYNC: question.resync, CHUNK: question.chunk is not None, STRESS: question.stress}
    if recorded and (flag := next((flag for flag, asked in again.items() if asked), None)):
        raise RnnscopeError(f"{recorded[0]} cannot be run again, as {flag.name} would need", "leave it out")
    question.check_chunk(spec)
    for flag, _, subject, _ in sides:
        _check_elsewhere(spec, flag, subject, question)
    for flag, typed, subject, own_spec in sides:
        _check_quantized(subject, own_spec, f"{flag.name} {typed}", question)
    for flag, _, subject, _ in sides:
        if subject in ("cells", "compiled") and spec.proj_size:
            raise RnnscopeError(
                f"{flag.name} {subject} cannot do --proj-size {spec.proj_size}, since nn.LSTMCell knows no projection",
                f"use {flag.name} equations",
            )
    if how.autocast is not None and sides[1][3].dtype == "float64":
        raise RnnscopeError(
            f"--autocast {how.autocast} does nothing in float64, in which the right side runs", "use --dtype float32"
        )
    if spec.train and 0 < spec.dropout < 1 and spec.num_layers > 1:
        raise RnnscopeError(
            f"--train with --dropout {spec.dropout:g} draws random masks, so that no two runs are alike",
            "use --dropout 0 or 1, or leave --train out",
        )
    if spec.batch_size == 0:
        raise RnnscopeError(
            "--batch is 0, so y and h have no elements and there is nothing to see", "try --batch 1 or more"
        )


def _check_elsewhere(spec: Spec, flag: Flag, subject: str, question: Question) -> None:
    """Raise unless a side can do what is asked where it runs outside of torch."""
    is_outside = subject.startswith((COMMAND, "onnx")) or is_model(subject)
    if is_outside and question.grad:
        raise RnnscopeError(f"{flag.name} {subject} gives no gradients for {GRAD.name}", f"leave {GRAD.name} out")
    if (is_outside or subject in EXPORTS) and spec.train and spec.dropout:
        raise RnnscopeError(
            f"{flag.name} {subject} runs in evaluation mode, and --train asks for dropout {spec.dropout:g}",
            "leave --train out",
        )


def _check_quantized(subject: str, spec: Spec, name: str, question: Question) -> None:
    """Raise unless torch's int8 can do what is asked of a side that is that."""
    if subject == "quantized":
        check_quantized(spec, name)
        if question.grad:
            raise RnnscopeError(f"{name} gives no gradients for {GRAD.name}", f"leave {GRAD.name} out")


def check_recordings(given: Iterable[str], sources: Sources, record: str | None, question: Question) -> None:
    """Raise if a flag is given that says nothing of two recorded runs, which are compared as they are.

    given: the fields of the Spec that were given.
    """
    files = ("weights", "right_weights", "inputs")
    asked, default = vars(question), vars(DEFAULT_QUESTION)
    flags = [SPEC_FLAGS[name] for name in given if name not in ("threads", "memory_check")]
    flags += [SOURCE_FLAGS[name] for name in files if getattr(sources, name) is not None]
    flags += [RECORD] if record is not None else []
    flags += [flag for name, flag in QUESTION_FLAGS.items() if asked[name] != default[name]]
    if flags:
        raise RnnscopeError(
            f"{flags[0].name} says nothing of two recorded runs, which are compared as they are", "leave it out"
        )


def stressed(spec: Spec) -> Spec:
    """The Spec of the input under stress: the same network on more steps."""
    steps = max(_MORE_STEPS * spec.seq_len, _LEAST_STEPS)
    lengths = spec.lengths and tuple(-(-each * steps // spec.seq_len) for each in spec.lengths)
    return replace(spec, seq_len=steps, lengths=lengths)


def stressed_question(question: Question) -> Question:
    """What is asked under stress: whether y, h and c are the same; all else is of the input that was given.

    Gradients are not compared: where gates saturate they vanish, and a right formula such as 1/(1 + exp(-x)) makes
    them NaN.
    """
    return replace(question, stress=False, grad=False, power=False, map=False, rtol=None, atol=None)


@dataclass(frozen=True)
class BlindSpot:
    """A fault that a comparison cannot see: the name of its entry among the words for people, and a sentence.

    label: what stands before the sentence on a page.
    """

    name: str
    sentence: str
    label: str = "Blind spot"


def blind_spots(spec: Spec, resync: bool = False) -> Iterator[BlindSpot]:
    """Which faults no comparison of the Spec can see, whichever weights it has."""
    if resync:
        loop = "--resync takes every step by itself, so the loop does not show: h0, lengths, order of time, padding"
        yield BlindSpot("resync", loop)
        return
    if spec.seq_len == 1 and spec.h0 == "zeros":
        unused = "one step from --h0 zeros never uses weight_hh: use --seq-len 2 or more, or --h0 random"
        yield BlindSpot("one step from zeros", unused)
    elif spec.h0 == "zeros":
        state = "with --h0 zeros it does not show whether the initial state is used: use --h0 random"
        yield BlindSpot("zero h0", state)
    if spec.seq_len == spec.batch_size == 1 and not spec.unbatched:
        swapped = "one step of one item does not show whether batch and time are swapped: use --seq-len 2 or more"
        yield BlindSpot("one step of one item", swapped)
    if spec.seq_len == 1 and spec.bidirectional:
        order = "one step does not show in which order the backward direction walks: use --seq-len 2 or more"
        yield BlindSpot("one step backward", order)
