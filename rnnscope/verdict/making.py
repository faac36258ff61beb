"""Makes the sides of a comparison from their names, and brings them to what both can do.

A name stands for one of torch's ways to compute, a class, an export, a model's file, a program, or a recorded run.
"""

from dataclasses import replace
from functools import partial

from rnnscope.errors import RnnscopeError
from rnnscope.files.loading import Loaded, Recording, load
from rnnscope.files.tensors import check_extra, read_file, write_tensors
from rnnscope.network.shapes import outputs_of
from rnnscope.pages.progress import stage
from rnnscope.spec.flags import Flag
from rnnscope.spec.options import NO_FILES, Sources
from rnnscope.spec.question import CHUNK, Question
from rnnscope.spec.sides import (
    AS_IT_IS,
    COMMAND,
    EXPORTS,
    NOTHING_SAID,
    RECORDED,
    How,
    Own,
    is_model,
    side_spec,
    subject_of,
)
from rnnscope.spec.spec import Spec
from rnnscope.subjects.adapting import own_network
from rnnscope.subjects.builtin import SUBJECTS, compiled_in_words
from rnnscope.subjects.devices import arithmetic, running
from rnnscope.subjects.foreign import Foreign
from rnnscope.verdict import chunks
from rnnscope.verdict.deviations import deviation_of
from rnnscope.verdict.evidence import (
    Side,
    foreign_side,
    outputs_of_both,
    own_side,
    quantized_side,
    recorded_side,
)
from rnnscope.verdict.problem import Problem, first_steps, rounded_weights


def side_called(
    role: str,
    flag: Flag,
    typed: str,
    spec: Spec,
    recorded: Recording | None,
    said: Own = NOTHING_SAID,
    how: How = AS_IT_IS,
    sources: Sources = NO_FILES,
) -> Side:
    """The side that a name stands for. said: of a class of the user's. sources: where in a model's file it is."""
    subject, own = side_spec(flag, typed, spec)
    if subject.startswith(RECORDED) and recorded is None:
        raise RnnscopeError(f"{subject} is not loaded", "give what rnnscope.load returned as loaded=")
    if recorded is not None:
        return replace(recorded_side(role, recorded, own), subject=subject)
    deviation = deviation_of(flag, subject, spec)
    try:
        with running(own) as placed:
            if foreign := _foreign_of(subject, placed, how, sources.prefix_in(role, subject)):
                return foreign_side(role, subject, foreign, placed)
            if subject not in SUBJECTS and deviation is None:
                with stage(f"loading {subject}"):
                    return own_side(role, own_network(subject, placed, said, role), placed)
            if subject == "quantized":
                return quantized_side(role, subject, SUBJECTS[subject], placed)
            used = arithmetic(placed, fused=subject in ("module", "items"))
            run = deviation.run if deviation else SUBJECTS[subject]
            return Side(role, subject, placed, run, used).where_it_is()
    except RnnscopeError as error:
        if "@" not in typed or not error.message.startswith(f"--device {own.device}"):
            raise
        message = error.message.replace(f"--device {own.device}", f"{flag.name} {typed}")
        raise RnnscopeError(message, f"use {flag.name} {subject}@cpu") from error


def _foreign_of(subject: str, spec: Spec, how: How, prefix: str | None = None) -> Foreign | None:
    """What runs a compiled module, an export, a model's file or a program; None where a subject is none of them.

    prefix: where in the file of a model the network is.
    """
    if subject == "compiled-module":
        told = partial(compiled_in_words, spec)
        return Foreign(SUBJECTS[subject], gets_weights=True, arithmetic=arithmetic(spec, fused=True), told=told)
    if subject in EXPORTS:
        from rnnscope.subjects.exports import export_of

        return export_of(subject, spec, how.traced_at)
    if is_model(subject):
        from rnnscope.subjects.models import opened

        return opened(subject, spec, how.traced_at, prefix)
    if subject.startswith(COMMAND):
        from rnnscope.subjects.programs import Files, program_of

        files = Files(check_extra, write_tensors, read_file)
        return program_of(subject.removeprefix(COMMAND), spec.dtype, how.timeout, files)
    return None


def in_model_files(spec: Spec, left: str, right: str) -> Loaded:
    """What the files of models give, which have their weights in them; nothing where no side is one."""
    has_model = any(is_model(subject_of(each)) for each in (left, right))
    return load(NO_FILES, vars(spec), left, right) if has_model else Loaded(NO_FILES, spec)


def with_zeros(spec: Spec, left: Side, right: Side, loaded: Loaded) -> Spec:
    """The Spec, from zeros where a class takes no state: then the other side starts from them, too."""
    stateless = any(not side.has_steps and not side.is_recorded for side in (left, right))
    return replace(spec, h0="zeros") if stateless and spec.h0 == "random" and loaded.given is None else spec


def with_outputs(side: Side, problem: Problem, question: Question) -> Side:
    """The side with the outputs that it gives, where its first run tells; a chunk needs all of them."""
    if not (side.foreign and side.foreign.first_run_tells):
        return side
    start = problem if question.chunk is None else first_steps(problem, 1)
    found = tuple(side.solve(start, side.spec.dtype))
    if question.chunk is not None and found != outputs_of(problem.spec.kind):
        raise RnnscopeError(
            f"{side.subject} gives {' and '.join(found)} alone, and {CHUNK.name} {question.chunk} carries the state on",
            f"leave {CHUNK.name} out",
        )
    return replace(side, foreign=replace(side.foreign, outputs=found))


def alike(problem: Problem, left: Side, right: Side) -> tuple[Problem, Side, Side]:
    """The problem and the sides with what a class of the user's lacks taken from both: a bias, or an output."""
    networks = [side.network for side in (left, right) if side.network]
    for network in networks:
        # Rounded after it was summed: the rounding of a sum is no fault of a class that has one bias.
        problem = replace(problem, weights=rounded_weights(network.folded(problem.weights), problem.dtypes))
        left, right = (
            replace(side, weights=rounded_weights(network.folded(side.weights), (side.spec.dtype,)))
            if side.weights
            else side
            for side in (left, right)
        )
    return replace(problem, compared=outputs_of_both(left, right)), left, right


def chunked(side: Side, question: Question) -> Side:
    """The side, carrying its state through chunks if the question asks for chunks."""
    if question.chunk is None:
        return side
    if not side.has_steps:
        raise RnnscopeError(
            f"{side.subject}: its forward takes no hx, by which {CHUNK.name} {question.chunk} carries the state on",
            f"name an argument hx, or leave {CHUNK.name} out",
        )
    if not {"h", "c"} & set(side.outputs):
        raise RnnscopeError(
            f"{side.subject} gives no state, by which {CHUNK.name} {question.chunk} carries on",
            f"leave {CHUNK.name} out",
        )
    if side.is_own:
        side = replace(side, run=chunks.using_its_state(side.run, side.subject))
    # For figures alone the chunks of both sides are walked side by side, and neither is put together again.
    return side if question.figures_alone else replace(side, run=chunks.carried(side.run, side.subject, question.chunk))
