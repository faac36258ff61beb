"""What files say of a comparison: the network and its weights, the input, and a recorded run.

A flag must not contradict a file; what a file does not record, the flags say. A recorded run is a file of .pt,
.safetensors or .npz:

    x, h0, c0       input, laid out as torch's modules take it; a state that is left out is zeros
    lengths         steps of each sequence, where x is padded
    y, h, c         output, h_n and c_n
    weights.…       the network, by torch's names
    rnnscope        JSON of what tensors do not say; only files that rnnscope wrote have it

Any part may be missing: outputs of another framework need no more than y, h and c. A file of `record` may have several
runs, of which a prefix names one.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.files.checkpoints import Rnn, find_rnn, has_own_numbers
from rnnscope.files.onnx_models import find_onnx_rnn
from rnnscope.files.recording import TENSORS, about_in, call_in, calls_in, programs
from rnnscope.files.tensors import read_file, writing
from rnnscope.network.shapes import OUTPUTS
from rnnscope.network.weights import Input, Weights, dtype_name, input_of, nonfinite_index, sizes_of
from rnnscope.spec.flags import Switch
from rnnscope.spec.options import NO_FILES, SOURCE_FLAGS, Sources
from rnnscope.spec.sides import RECORDED, is_model, subject_of
from rnnscope.spec.spec import DTYPES, SPEC_FLAGS, Spec
from rnnscope.subjects.builtin import Run
from rnnscope.subjects.onnx_graphs import OnnxModel

Facts = dict[str, Any]
"""Fields of a Spec by their names."""


@dataclass(frozen=True, eq=False, repr=False)
class Recording:
    """Those of x, h0, c0, lengths, y, h and c that a file has, and of batch_first, nonlinearity and arithmetic.

    Among its facts is dropout where that drew random masks.
    """

    file: str
    tensors: Weights
    facts: Facts

    def run(self, spec: Spec, weights: Weights, given: Input) -> Run:
        """The recorded outputs, whatever is given: a subject that computes nothing. Raises where one is missing.

        Raises also where random masks are in them, which nobody can draw again.
        """
        if "dropout" in self.facts:
            raise RnnscopeError(
                f"{self.file} was recorded in training mode, with random masks of dropout {self.facts['dropout']}",
                "record it in evaluation mode: model.eval()",
            )
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
        each = self.tensors.get("y", self.tensors.get("x"))
        return None if each is None else dtype_name(each)

    @property
    def arithmetic(self) -> str:
        """What its products were rounded to: its dtype, or TF32, int8 or autocast's dtype where rnnscope wrote so."""
        return str(self.facts.get("arithmetic", self.dtype) if self.dtype == "float32" else self.dtype)


def recording(file: str, content: Any, is_finite: bool = True) -> Recording:
    """The run in what `read_file` gave. Raises unless its tensors are dense and of one of DTYPES.

    is_finite: whether to raise, too, where an input holds NaN or infinity.
    """
    items = content.items() if isinstance(content, Mapping) else ()
    found = {name: each for name, each in items if name in TENSORS and isinstance(each, Tensor)}
    for name, each in items:  # an input that is left out would be another problem
        if name in TENSORS and name not in (*found, *OUTPUTS) and each is not None:
            mend = f"save torch.tensor({name})"
            raise RnnscopeError(f"{file}: {name} is of type {type(each).__name__}, but it must be a tensor", mend)
    for name, each in found.items():
        dtype = dtype_name(each)
        if not has_own_numbers(each):
            raise RnnscopeError(f"{file}: {name} must be a dense tensor with numbers of its own", "save it as one")
        if name == "lengths":
            if each.dim() != 1 or dtype not in ("int64", "int32") or each.numel() == 0:
                raise RnnscopeError(
                    f"{file}: lengths must be whole numbers in one dim, and is {dtype} of shape {tuple(each.shape)}"
                )
        elif dtype not in DTYPES:
            raise RnnscopeError(f"{file}: {name} is {dtype}, but it must be one of {', '.join(DTYPES)}")
        elif is_finite and name not in OUTPUTS and (at := nonfinite_index(each)) is not None:
            raise RnnscopeError(
                f"{file}: {name} holds NaN or infinity, first at {at}", "record an input that is finite"
            )
    return Recording(file, {name: each.detach() for name, each in found.items()}, _facts_beside(content))


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
    """Keep a run of one side in a file: its y, h and c, its Spec, what its products were rounded to, and its device."""
    dtype = getattr(torch, spec.dtype)
    tensors = {name: each.to(dtype) for name, each in given.tensors().items()}
    if spec.lengths is not None:
        tensors["lengths"] = torch.tensor(spec.lengths)
    tensors |= {name: outputs[name] for name in OUTPUTS if name in outputs}
    tensors |= {f"weights.{name}": each.to(dtype) for name, each in weights.items()}
    about = {"schema": 1, **programs(), "device": where, "arithmetic": arithmetic, "spec": asdict(spec)}
    with writing(file, tensors, json.dumps(about), force):
        pass


def _facts_beside(content: Any) -> Facts:
    """What rnnscope wrote beside the tensors of a file that tells of the run; anything else is left out."""
    about = about_in(content)
    known = about.get("spec")
    known = known if isinstance(known, dict) else {}
    facts: Facts = {}
    for used in (about.get("arithmetic"), about.get("autocast")):  # the dtype tells all else
        if used in ("tf32", "int8", "bfloat16", "float16"):
            facts["arithmetic"] = used
    for name in ("nonlinearity", "batch_first"):
        if SPEC_FLAGS[name].complaint(known.get(name)) is None:
            facts[name] = known[name]
    if known.get("train") is True and known.get("dropout") and known.get("num_layers") != 1:
        facts["dropout"] = known["dropout"]
    return facts


@dataclass(frozen=True, eq=False, repr=False)
class Loaded:
    """What files, flags and defaults say: the whole Spec, and what else the files gave; None where the seed gives it.

    `rnn` is the network in the file of weights. `right_weights` are the right side's own, by torch's names, in the
    dtype of their file; `right_dtype` is that dtype, unless a flag says another. `recordings` are by left or right.
    """

    sources: Sources
    spec: Spec
    rnn: Rnn | None = None
    right_weights: Weights | None = None
    right_dtype: str | None = None
    given: Input | None = None
    recordings: Mapping[str, Recording] = field(default_factory=dict)

    @property
    def weights(self) -> Weights | None:
        """The weights of the network, by torch's names, in the dtype of their file."""
        return self.rnn.weights if self.rnn else None


_NETWORK = ("kind", "input_size", "hidden_size", "num_layers", "bias", "bidirectional", "proj_size")


def load(sources: Sources, flags: Facts, left: str = "module", right: str = "cells") -> Loaded:
    """Open the files of a comparison.

    Args:
        flags: the fields of the Spec that were given.
        left, right: the sides. A recorded side brings weights and input along, unless another file gives them, and a
            file of a model brings its weights.

    Raises:
        RnnscopeError: a file cannot be used, contradicts a flag or another file, or lacks what only a file can give.

    >>> from tempfile import TemporaryDirectory
    >>> from rnnscope.spec.options import Sources
    >>> with TemporaryDirectory() as folder:
    ...     torch.save(torch.nn.GRU(3, 4).state_dict(), f"{folder}/gru.pt")
    ...     load(Sources(weights=f"{folder}/gru.pt"), {"batch_first": True}).spec.hidden_size
    4
    """
    read = cache(read_file)
    sources.check_prefixes(left, right)
    sides = {"left": left, "right": right}
    prefixes = {"left": sources.prefix, "right": sources.right_prefix or sources.prefix}
    recorded = {role: side.removeprefix(RECORDED) for role, side in sides.items() if side.startswith(RECORDED)}
    flag = SOURCE_FLAGS["prefix"].name
    calls = {role: call_in(file, read(file), prefixes[role], flag) for role, file in recorded.items()}
    recordings = {role: recording(file, calls[role]) for role, file in recorded.items()}
    models = {role: subject for role, side in sides.items() if is_model(subject := subject_of(side))}
    return _loaded(sources, flags, recordings, calls, read, models)


def load_call(file: str, call: Any) -> Loaded:
    """A recorded run as the right side of a comparison, with its own weights and input, which need not be finite."""
    return _loaded(NO_FILES, {}, {"right": recording(file, call, is_finite=False)}, {"right": call}, read_file)


def _loaded(
    sources: Sources,
    flags: Facts,
    recordings: Mapping[str, Recording],
    calls: Mapping[str, Any],
    read: Callable[[str], Any],
    models: Mapping[str, str] | None = None,
) -> Loaded:
    """What files and flags say.

    Args:
        recordings, calls: the recorded sides, and the content that each was read from.
        models: the files of models, by their sides; the first brings its weights along, unless another file gives them.
    """
    run = next(iter(recordings.values()), None)
    said, rnn, models = _Said(flags), None, models or {}
    role, file = _bringing_weights(sources, recordings, models)
    if file is not None:
        content = calls[role] if role in recordings else read(file)
        if role in recordings:
            rnn = _rnn_of_run(file, content)
        else:
            rnn = _find(file, content, sources.prefix_in(role, file) if role else sources.prefix)
        said.take(file, {name: getattr(rnn.spec, name) for name in _NETWORK})
        said.take(file, _habits(_facts_beside(content), rnn.spec.kind))
        if rnn.nodes and rnn.spec.kind == "rnn":
            said.take(file, {"nonlinearity": rnn.spec.nonlinearity})
    if sources.inputs is not None:
        content = read(sources.inputs)
        run = recording(sources.inputs, call_in(sources.inputs, content, sources.prefix, SOURCE_FLAGS["prefix"].name))
    if run is not None:
        said.take(run.file, _habits(run.facts, said.of("kind")))
        said.take(run.file, _sizes(run, said.of("batch_first")))
    spec = said.spec(rnn.spec.dtype if rnn else run.dtype if run else None)
    right_weights, right_dtype = None, None
    if sources.right_weights is not None:
        right_rnn = _find(sources.right_weights, read(sources.right_weights), sources.right_prefix)
        _check_alike(sources.right_weights, right_rnn.spec, spec)
        right_weights, right_dtype = right_rnn.weights, None if "dtype" in flags else right_rnn.spec.dtype
    elif rnn and "right" in models and role != "right":
        right_weights = _of_other_model(models["right"], read, sources, spec)
    given = input_of(spec, run.tensors, f"{run.file}: ") if run else None
    return Loaded(sources, spec, rnn, right_weights, right_dtype, given, recordings)


def _bringing_weights(
    sources: Sources, recordings: Mapping[str, Recording], models: Mapping[str, str]
) -> tuple[str, str | None]:
    """The side whose file brings the weights, "" where a file of weights does; and the file, where there is one."""
    if sources.weights is not None:
        return "", sources.weights
    files = {role: each.file for role, each in recordings.items()} or models
    return next(iter(files.items()), ("", None))


def _find(file: str, content: Any, prefix: str | None) -> Rnn:
    """The network under a prefix, which may also be the name of a recorded run."""
    if isinstance(content, OnnxModel):
        return find_onnx_rnn(content, prefix)
    calls = calls_in(content)
    return find_rnn(file, calls[prefix]) if prefix and prefix in calls else find_rnn(file, content, prefix)


def rnn_of_model(file: str) -> Rnn:
    """The one network in the file of a model.

    Raises:
        RnnscopeError: the file cannot be used, or has none or several.
    """
    return _find(file, read_file(file), None)


def _of_other_model(file: str, read: Callable[[str], Any], sources: Sources, spec: Spec) -> Weights | None:
    """The weights in the file of the right side; None where they are not known as torch's, or of another network.

    Then its outputs alone are judged: a bias that an export lost is no trouble but a finding.
    """
    try:
        rnn = _find(file, read(file), sources.prefix_in("right", file))
    except RnnscopeError:
        return None
    is_alike = all(getattr(rnn.spec, name) == getattr(spec, name) for name in _NETWORK)
    return rnn.weights if is_alike else None


class _Said:
    """The fields of a Spec that files say; no file may contradict a flag or another file."""

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


def _rnn_of_run(file: str, content: Any) -> Rnn:
    try:
        return find_rnn(file, content)
    except RnnscopeError as error:
        raise RnnscopeError(error.message, "give the network that was recorded by --weights FILE") from error


def _habits(said: Facts, kind: str) -> Facts:
    """The facts beside tensors that a network of the kind has."""
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


def _check_alike(file: str, right: Spec, left: Spec) -> None:
    """Raise unless the right side's weights are those of the same network."""
    for name in _NETWORK:
        if getattr(right, name) != getattr(left, name):
            has = f"{SOURCE_FLAGS['right_weights'].name} {file} has {SPEC_FLAGS[name].name} {getattr(right, name)}"
            raise RnnscopeError(
                f"{has}, and the left side has {getattr(left, name)}", "compare networks of one kind and size"
            )
