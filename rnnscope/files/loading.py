"""What files say of a comparison: the network and its weights, the input, and a recorded run.

A flag that was given must not contradict a file. What a file does not record, the flags say. A recorded run is a file
of .pt, .safetensors or .npz:

    x, h0, c0       input, laid out as torch's modules take it; a state that is left out is zeros
    lengths         steps of each sequence, where x is padded
    y, h, c         output, h_n and c_n
    weights.…       the network, by torch's names
    rnnscope        JSON of what tensors do not say; only files that rnnscope wrote have it

Any part may be missing: outputs of another framework need no more than y, h and c.
"""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rnnscope import __version__
from rnnscope.errors import RnnscopeError
from rnnscope.files.checkpoints import Rnn, find_rnn, is_stretched
from rnnscope.files.tensors import ABOUT, read_file, writing
from rnnscope.network.weights import Input, Weights, dtype_name, input_of, nonfinite_index, sizes_of
from rnnscope.spec.flags import Switch
from rnnscope.spec.options import RECORDED, Sources
from rnnscope.spec.spec import DTYPES, SPEC_FLAGS, Spec
from rnnscope.subjects.builtin import Run

if TYPE_CHECKING:
    from rnnscope.files.checkpoints import Rnn
    from rnnscope.network.weights import Input, Weights


OUTPUTS = ("y", "h", "c")


@dataclass(frozen=True)
class Recording:
    """What a file has of a run.

    Args:
        file: its name.
        tensors: x, h0, c0, lengths, y, h and c, those that it has.
        facts: what it says besides: batch_first, nonlinearity, arithmetic.
    """

    file: str
    tensors: Weights
    facts: Mapping[str, str | bool]

    def run(self, spec: Spec, weights: Weights, given: Input) -> Run:
        """The recorded outputs, whatever is given: a subject that computes nothing.

        Raises:
            RnnscopeError: y, h or c is missing.
        """
        state = ("h", "c") if spec.kind == "lstm" else ("h",)
        missing = [name for name in ("y", *state) if name not in self.tensors]
        if missing:
            raise RnnscopeError(
                f"{self.file} has no {' and no '.join(missing)}", f"record y, {' and '.join(state)} under these names"
            )
        return Run(self.tensors["y"], tuple(self.tensors[name] for name in state))

    @property
    def dtype(self) -> str | None:
        """The dtype of the outputs, or of the input where there are none."""
        each = next((self.tensors[name] for name in ("y", "x") if name in self.tensors), None)
        return None if each is None else dtype_name(each)

    @property
    def arithmetic(self) -> str:
        """What its products were rounded to: its dtype, or TF32 where rnnscope wrote so."""
        says = self.facts.get("arithmetic")
        return "tf32" if says == "tf32" and self.dtype == "float32" else str(self.dtype)


def recording(file: str, content: Any) -> Recording:
    """The run in what `read_file` gave.

    Raises:
        RnnscopeError: a tensor of a run that is not dense, finite or of one of DTYPES.
    """
    names = ("x", "h0", "c0", "lengths", *OUTPUTS)
    found = {name: each for name, each in _named(content).items() if name in names and isinstance(each, Tensor)}
    for name, each in found.items():
        dtype = dtype_name(each)
        if each.is_meta or each.layout != torch.strided or is_stretched(each):
            raise RnnscopeError(f"{file}: {name} must be a dense tensor with numbers of its own", "save it as one")
        if name == "lengths":
            if each.dim() != 1 or dtype not in ("int64", "int32") or each.numel() == 0:
                raise RnnscopeError(f"{file}: lengths must be whole numbers in one dim, and is {dtype}")
        elif dtype not in DTYPES:
            raise RnnscopeError(f"{file}: {name} is {dtype}, but it must be one of {', '.join(DTYPES)}")
        elif name not in OUTPUTS and (at := nonfinite_index(each)) is not None:
            raise RnnscopeError(
                f"{file}: {name} holds NaN or infinity, first at {at}", "record an input that is finite"
            )
    return Recording(file, {name: each.detach() for name, each in found.items()}, facts_beside(content))


def write_recording(
    file: str,
    given: Input,
    weights: Weights,
    outputs: Weights,
    spec: Spec,
    arithmetic: str,
    where: str,
    force: bool = False,
) -> None:
    """Keep a run in a file.

    Args:
        outputs: y, h and c of a side.
        spec: the side's own.
        arithmetic: what its products were rounded to.
        where: the device's name.
        force: whether a file that is there is replaced.
    """
    dtype = getattr(torch, spec.dtype)
    tensors = {name: each.to(dtype) for name, each in given.tensors().items()}
    if spec.lengths is not None:
        tensors["lengths"] = torch.tensor(spec.lengths)
    tensors |= {name: outputs[name] for name in OUTPUTS if name in outputs}
    tensors |= {f"weights.{name}": each.to(dtype) for name, each in weights.items()}
    about = {
        "schema": 1,
        "rnnscope": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "device": where,
        "arithmetic": arithmetic,
        "spec": asdict(spec),
    }
    with writing(file, tensors, json.dumps(about), force):
        pass


def _named(content: Any) -> Mapping[str, Any]:
    return content if isinstance(content, Mapping) else {}


def facts_beside(content: Any) -> dict[str, str | bool]:
    """What rnnscope wrote beside the tensors, as far as it can be used; anything else is left out."""
    try:
        about = json.loads(_named(content).get(ABOUT, "{}"))
        known = {"arithmetic": about.get("arithmetic"), **about.get("spec", {})}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}
    found: dict[str, str | bool] = {}
    if known.get("arithmetic") == "tf32":  # all else is told by the dtype
        found["arithmetic"] = "tf32"
    if known.get("nonlinearity") in ("tanh", "relu"):
        found["nonlinearity"] = known["nonlinearity"]
    if isinstance(known.get("batch_first"), bool):
        found["batch_first"] = known["batch_first"]
    return found


@dataclass(frozen=True, eq=False, repr=False)
class Loaded:
    """A Spec, and what else the files gave; None where the seed gives it.

    Args:
        sources: the files.
        spec: the whole Spec: what files say, what flags say, and defaults.
        rnn: the network in the file of weights.
        right_weights: by torch's names, in the dtype of their file.
        right_dtype: that of the right side's weights, where it has its own and no flag says another.
        given: x, h0 and c0.
        recordings: the recorded side, by left or right.
    """

    sources: Sources
    spec: Spec
    rnn: "Rnn | None" = None
    right_weights: "Weights | None" = None
    right_dtype: str | None = None
    given: "Input | None" = None
    recordings: "Mapping[str, Recording]" = field(default_factory=dict)

    @property
    def weights(self) -> "Weights | None":
        """By torch's names, in the dtype of their file."""
        return self.rnn.weights if self.rnn else None


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
                typed = " ".join(flag.as_typed(self._flags[name]))
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
    return f"which has {' '.join(flag.as_typed(value))}"


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
