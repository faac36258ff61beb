"""What files say of a comparison: the Spec of the network in them, its weights, the input and a recorded run.

A flag that was given must not contradict a file; what a file does not record, the flags say.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from rnnscope.errors import RnnscopeError
from rnnscope.files.checkpoints import find_rnn
from rnnscope.files.loaded import Loaded
from rnnscope.files.recordings import Recording, facts_beside, recording
from rnnscope.files.storage import Rnn
from rnnscope.files.tensors import read_file
from rnnscope.network.weights import input_of, sizes_of
from rnnscope.spec.flags import Switch
from rnnscope.spec.sides import RECORDED
from rnnscope.spec.sources import Sources
from rnnscope.spec.spec import SPEC_FLAGS, Spec

Facts = dict[str, Any]
"""Fields of a Spec by their names."""

_NETWORK = ("kind", "input_size", "hidden_size", "num_layers", "bias", "bidirectional", "proj_size")


def load(sources: Sources, flags: Facts, left: str = "module", right: str = "cells") -> Loaded:
    """Open the files of a comparison.

    Args:
        flags: the fields of the Spec that were given.
        left, right: the sides; a recorded one brings weights and input along where no other file gives them.

    Raises:
        RnnscopeError: a file that cannot be used, one that contradicts a flag or another file, or one that lacks what
            only a file can give.
    """
    read = cache(read_file)
    sides = {"left": left, "right": right}
    recorded = {role: text.removeprefix(RECORDED) for role, text in sides.items() if text.startswith(RECORDED)}
    recordings = {role: recording(file, read(file)) for role, file in recorded.items()}
    brings = next(iter(recordings.values()), None)
    facts = _Facts(flags)
    rnn = None
    if sources.weights is not None:
        rnn = find_rnn(sources.weights, read(sources.weights), sources.prefix)
    elif brings is not None:
        rnn = _brought(brings, read(brings.file))
    if rnn is not None:
        file = sources.weights or (brings.file if brings else "")
        facts.take(file, {name: getattr(rnn.spec, name) for name in _NETWORK})
        facts.take(file, _beside(facts_beside(read(file)), rnn.spec.kind))
    run = brings if sources.inputs is None else recording(sources.inputs, read(sources.inputs))
    if run is not None:
        facts.take(run.file, _beside(run.facts, facts.of("kind")))
        facts.take(run.file, _sizes(run, facts.of("batch_first")))
    spec = facts.spec(rnn.spec.dtype if rnn else run.dtype if run else None)
    second = None
    if sources.right_weights is not None:
        second = find_rnn(sources.right_weights, read(sources.right_weights), sources.right_prefix)
        _check_alike(sources.right_weights, second, spec)
    given = None if run is None else input_of(spec, run.tensors, f"{run.file}: ")
    right_dtype = second.spec.dtype if second and "dtype" not in flags else None
    return Loaded(sources, spec, rnn, second.weights if second else None, right_dtype, given, recordings)


class _Facts:
    """The fields of a Spec that files say, none of which contradicts a flag or another file."""

    def __init__(self, flags: Facts) -> None:
        self._flags, self._found, self._files = flags, Facts(), dict[str, str]()

    def take(self, file: str, found: Facts) -> None:
        for name, value in found.items():
            if name in self._flags and self._flags[name] != value:
                flag = SPEC_FLAGS[name]
                typed = " ".join(flag.words(self._flags[name]))
                raise RnnscopeError(f"{typed} contradicts {file}, {_has(name, value)}", f"leave {flag.name} out")
            if name in self._found and self._found[name] != value:
                raise RnnscopeError(
                    f"{file} does not go with {self._files[name]}, {_has(name, self._found[name])}: its own is {value}"
                )
            self._found[name], self._files[name] = value, file

    def of(self, name: str) -> Any:
        return self._found.get(name, self._flags.get(name, SPEC_FLAGS[name].default))

    def spec(self, dtype: str | None) -> Spec:
        facts: Facts = {"dtype": dtype} if dtype else {}
        return Spec(**facts | self._found | self._flags)


def _has(name: str, value: object) -> str:
    flag = SPEC_FLAGS[name]
    if isinstance(flag, Switch):
        return f"which has {'' if value else 'no '}{name.replace('_', '-')}"
    return f"which has {' '.join(flag.words(value))}"


def _brought(run: Recording, content: Any) -> Rnn:
    try:
        return find_rnn(run.file, content)
    except RnnscopeError as error:
        raise RnnscopeError(error.message, "give the network that was recorded by --weights FILE") from error


def _beside(said: Mapping[str, Any], kind: str) -> Facts:
    """What a file that rnnscope wrote says of the network beside its weights."""
    names = ("batch_first", "nonlinearity") if kind == "rnn" else ("batch_first",)
    return {name: said[name] for name in names if name in said}


def _sizes(run: Recording, batch_first: bool) -> Facts:
    """The sizes of an input, and whether it has a state."""
    x, lengths = run.tensors.get("x"), run.tensors.get("lengths")
    if x is None:
        raise RnnscopeError(f"{run.file} has no x", "give the input by --inputs FILE, with x, h0 and c0 in it")
    facts: Facts = dict(sizes_of(x, batch_first, f"{run.file}: "))
    facts["h0"] = "random" if {"h0", "c0"} & run.tensors.keys() else "zeros"
    if lengths is None:
        return facts
    items, steps = facts.get("batch_size"), facts["seq_len"]
    if items is None:
        raise RnnscopeError(f"{run.file}: lengths needs an x with N, and it has shape {tuple(x.shape)}")
    if lengths.min() < 1 or lengths.max() != steps or len(lengths) != items:
        raise RnnscopeError(
            f"{run.file}: lengths must be {items} numbers from 1 to the {steps} steps of x, the longest {steps}"
        )
    return facts | {"lengths": tuple(lengths.tolist())}


def _check_alike(file: str, rnn: Rnn, spec: Spec) -> None:
    """The right side's weights must be those of the same network."""
    for name in _NETWORK:
        if getattr(rnn.spec, name) != getattr(spec, name):
            flag = SPEC_FLAGS[name]
            raise RnnscopeError(
                f"--right-weights {file} has {flag.name} {getattr(rnn.spec, name)}, and the left side has "
                f"{getattr(spec, name)}",
                "compare networks of one kind and size",
            )
