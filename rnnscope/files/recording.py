"""Records the recurrent modules of a live model: each call, by the path of its module, in one file.

A file with one call is a recorded run as any other. With several, each call has its name before its tensors:

    encoder.rnn.x, encoder.rnn.y, encoder.rnn.weights.weight_ih_l0, …    the first call of encoder.rnn
    encoder.rnn#2.x, …                                                   the second one
    rnnscope    JSON: `calls` says of each what its tensors do not, and under which name its `weights` stand

The steps of a loop over a cell are one call, x: (L, N, H_in), as long as each gets the state that one before it gave.
"""

import json
import os
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from rnnscope import __version__
from rnnscope.errors import RnnscopeError
from rnnscope.files.tensors import ABOUT, check_target, writing
from rnnscope.network.shapes import OUTPUTS
from rnnscope.network.weights import Weights, dtype_name, input_of, same_bits, sizes_of, time_of
from rnnscope.spec.flags import nearest, quoted_names
from rnnscope.spec.spec import DTYPES, Spec
from rnnscope.subjects.builtin import in_int8, other_shape
from rnnscope.subjects.devices import arithmetic, autocast_is_on

TENSORS = ("x", "h0", "c0", "lengths", *OUTPUTS)
"""What a run consists of, besides its weights."""

MOST = 32
"""Calls of a module that are kept; of a cell, loops and single steps."""

_Tensors = dict[str, Tensor]

_Facts = dict[str, Any]

_CELLS: dict[str, type[nn.RNNCellBase]] = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}

_INT8: Any = torch.ao.nn.quantized.dynamic.modules.rnn
"""torch's dynamic int8 of nn.LSTM, nn.GRU and the cells."""

_RECURRENT: tuple[type[nn.Module], ...] = (nn.RNNBase, *_CELLS.values(), _INT8.RNNBase, _INT8.RNNCellBase)


@contextmanager
def record(model: nn.Module, file: str | os.PathLike[str], force: bool = False) -> Iterator[None]:
    """Keep what each nn.RNN, nn.LSTM, nn.GRU and each of their cells in a model is given and gives, while it runs.

    The file has x, h0, c0, y, h, c and the weights of each call, by the path of its module: `rnnscope compare --left
    module --right recorded:FILE --prefix PATH` judges one, and `compare(FILE, FILE)` compares two such files. A loop
    over a cell is one call. The model stays as it is. Where the block raises an error, no file is written.

    Args:
        file: .pt, .pth, .safetensors or .npz.
        force: replace a file that is there already.

    Raises:
        RnnscopeError: the model has none of these modules, or none was called; or the file cannot be written.

    >>> from tempfile import TemporaryDirectory
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GRU(4, 5))
    >>> with TemporaryDirectory() as folder:
    ...     with record(model, f"{folder}/run.pt"):
    ...         y, h = model(torch.zeros(2, 6, 3))
    ...     run = torch.load(f"{folder}/run.pt")
    >>> run["y"].equal(y), run["weights.weight_hh_l0"].shape
    (True, torch.Size([15, 5]))
    """
    target = os.fspath(file)
    check_target(target, force)
    recorder = _Recorder(_recurrent(model))
    with recorder.watching():
        yield
    tensors, about = recorder.content(type(model).__name__)
    with writing(target, tensors, json.dumps(about), force):
        pass


def programs() -> dict[str, str]:
    """The programs with which a file is written."""
    return {"rnnscope": __version__, "python": platform.python_version(), "torch": str(torch.__version__)}


def _recurrent(model: nn.Module) -> dict[str, nn.Module]:
    """torch's recurrent modules by their paths; of those inside one another the outermost, which calls the others."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        path = ".".join(part for part in name.split(".") if part != "_orig_mod")  # torch.compile's wrapper
        is_inside = any(not outer or path.startswith(f"{outer}.") for outer in found)
        if isinstance(module, _RECURRENT) and not is_inside:
            found[path] = module
    if not found:
        raise RnnscopeError(
            f"{type(model).__name__} has no recurrent module of torch's to record",
            "record a model with nn.RNN, nn.LSTM, nn.GRU or their cells inside",
        )
    return found


@dataclass(frozen=True, eq=False, repr=False)
class _Step:
    """One call of a module: its tensors as a file has them, its weights by torch's names, and its Spec.

    is_cell: whether it may be a step of a loop. about: what else is known of it.
    """

    tensors: _Tensors
    weights: Weights
    spec: Spec
    is_cell: bool
    about: _Facts

    def goes_on_from(self, before: "_Step") -> bool:
        """Whether it is the next step of a loop: the same network, in the state that a step before it gave."""
        if not self.is_cell or self.spec != replace(before.spec, h0="random") or self.about != before.about:
            return False
        ends = {name: each for name, each in before.tensors.items() if name in ("h", "c")}
        starts = {name: self.tensors.get(f"{name}0") for name in ends}
        is_next = all(each is not None and same_bits(each, ends[name]) for name, each in starts.items())
        return is_next and _same_weights(self.weights, before.weights)


@dataclass(eq=False, repr=False)
class _Recorder:
    """Keeps the calls of modules, each as the list of its steps, in the order in which they began."""

    modules: dict[str, nn.Module]
    calls: dict[str, list[list[_Step]]] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Have every module tell of its calls."""
        with ExitStack() as hooks:
            for path, module in self.modules.items():
                # Before other hooks, which may replace what the module itself gives.
                hook = module.register_forward_hook(self._hook(path), prepend=True, with_kwargs=True)
                hooks.callback(hook.remove)
            yield

    def _hook(self, path: str) -> Callable[..., None]:
        def keep(module: nn.Module, args: tuple[Any, ...], named: _Facts, outputs: Any) -> None:
            given = dict(zip(("input", "hx"), args, strict=False)) | named
            try:
                with torch.no_grad():
                    self._take(path, _step(module, given.get("input"), given.get("hx"), outputs))
            except RnnscopeError as error:  # it is the model's run, which goes on
                self.left_out[path] = error.message

        return keep

    def _take(self, path: str, step: _Step) -> None:
        """Add a call to the loop that it goes on, or as one of its own."""
        calls = self.calls.setdefault(path, [])
        if steps := next((each for each in reversed(calls) if step.goes_on_from(each[-1])), None):
            steps.append(replace(step, weights=steps[0].weights))
        elif len(calls) < MOST:
            known = next((each[0].weights for each in calls if _same_weights(each[0].weights, step.weights)), None)
            calls.append([replace(step, weights=known or _copies(step.weights))])
        else:
            self.dropped[path] = self.dropped.get(path, 0) + 1

    def content(self, model: str) -> tuple[_Tensors, _Facts]:
        """The tensors of all calls by their names in a file, and what the file says besides."""
        if not self.calls:
            raise self._nothing(model)
        named = {
            f"{path}#{number}" if number > 1 else path: (path, *_joined(steps))
            for path, calls in self.calls.items()
            for number, steps in enumerate(calls, 1)
        }
        tensors, facts, homes = _Tensors(), dict[str, _Facts](), dict[int, str]()
        for name, (path, step, spec) in named.items():
            prefix = f"{name}." if name and len(named) > 1 else ""
            home = homes.setdefault(id(step.weights), name)
            tensors |= {f"{prefix}{each}": tensor for each, tensor in step.tensors.items()}
            if home == name:
                tensors |= {f"{prefix}weights.{each}": tensor for each, tensor in step.weights.items()}
            facts[name] = {"path": path, **step.about, "weights": home, "spec": asdict(spec)}
        about: _Facts = {"schema": 1, **programs(), "model": model}
        about |= next(iter(facts.values())) if len(facts) == 1 else {"calls": facts}
        not_called = [path for path in self.modules if path not in self.calls and path not in self.left_out]
        return tensors, about | {"dropped": self.dropped, "left_out": self.left_out, "not_called": not_called}

    def _nothing(self, model: str) -> RnnscopeError:
        """The error where no call was kept: which modules there are, and why none of them is in the file."""
        if self.left_out:
            path, why = next(iter(self.left_out.items()))
            return RnnscopeError(f"{model}: no call can be recorded: of {path or 'the model'}, {why}")
        return RnnscopeError(
            f"{model}: none of its recurrent modules was called: {quoted_names(list(self.modules))}",
            "call the model itself inside the block",
        )


def _same_weights(one: Weights, other: Weights) -> bool:
    return one is other or all(name in one and same_bits(one[name], each) for name, each in other.items())


def _copies(tensors: _Tensors) -> _Tensors:
    """Tensors that nothing else will change."""
    return {name: each.clone() for name, each in tensors.items()}


def _step(module: nn.Module, x: Any, hx: Any, outputs: Any) -> _Step:
    """What a call of a module was given and gave. Raises where that has not the form of torch's modules."""
    network, weights = _network(module)
    is_cell = isinstance(module, (nn.RNNCellBase, _INT8.RNNCellBase))
    if is_cell:
        last = outputs if isinstance(outputs, tuple) else (outputs,)
        tensors = _named(x, hx, last[0], last)
        tensors = {name: each.unsqueeze(0) for name, each in tensors.items()}  # one step of one layer
    else:
        tensors = _named(x, hx, *_of_module(outputs, network["batch_first"]), network["batch_first"])
    device = str(tensors["x"].device)
    tensors = {name: each.detach().cpu() for name, each in tensors.items()}
    dtype = dtype_name(next(iter(weights.values())))
    for name, each in {"the weight": next(iter(weights.values())), **tensors}.items():
        if name != "lengths" and dtype_name(each) not in DTYPES:
            raise RnnscopeError(f"{name} is {dtype_name(each)}, and not one of {', '.join(DTYPES)}")
    sizes: _Facts = dict(sizes_of(tensors["x"], network["batch_first"]))
    if (features := sizes.pop("input_size")) != network["input_size"]:
        raise RnnscopeError(f"x has {features} features, and the module takes {network['input_size']}")
    lengths = tuple(tensors["lengths"].tolist()) if "lengths" in tensors else None
    spec = Spec(**network, **sizes, lengths=lengths, dtype=dtype, h0="random" if "h0" in tensors else "zeros")
    input_of(spec, tensors)
    if wrong := other_shape(spec, tensors):
        raise RnnscopeError("it gives {} of shape {}, and not {}".format(*wrong))
    about = {"module": type(module).__name__, "device": device, **_computed_in(module, spec, device, not is_cell)}
    return _Step(_copies(tensors), {name: each.cpu() for name, each in weights.items()}, spec, is_cell, about)


def _named(x: Any, hx: Any, y: Any, last: tuple[Any, ...], batch_first: bool = False) -> _Tensors:
    """The tensors of a call by their names, padded where they are packed."""
    found: dict[str, Any] = {"x": x}
    if isinstance(x, PackedSequence):
        found["x"], found["lengths"] = pad_packed_sequence(x, batch_first)
    state = () if hx is None else hx if isinstance(hx, (tuple, list)) else (hx,)
    found |= dict(zip(("h0", "c0"), state, strict=False)) | {"y": y} | dict(zip(("h", "c"), last, strict=False))
    for name, each in found.items():
        if not isinstance(each, Tensor) or each.is_meta or each.layout != torch.strided:
            raise RnnscopeError(f"{name} is of type {type(each).__name__}, and no dense tensor")
    return found


def _of_module(outputs: Any, batch_first: bool) -> tuple[Any, tuple[Any, ...]]:
    """y, padded where it is packed, and (h,) or (h, c)."""
    if not (isinstance(outputs, tuple) and len(outputs) == 2):
        raise RnnscopeError("it does not give (y, h) or (y, (h, c))")
    y, last = outputs
    if isinstance(y, PackedSequence):
        y, _ = pad_packed_sequence(y, batch_first)
    return y, last if isinstance(last, tuple) else (last,)


def _network(module: Any) -> tuple[_Facts, Weights]:
    """What a Spec says of a module, and its weights by torch's names: those with which it has just computed."""
    names = ["input_size", "hidden_size", "bias"]
    if isinstance(module, (_INT8.RNNBase, _INT8.RNNCellBase)):
        return _in_int8(module, names)
    if isinstance(module, nn.RNNBase):
        kind, _, nonlinearity = module.mode.lower().partition("_")
        names += ["num_layers", "batch_first", "bidirectional", "proj_size", "dropout"]
        pairs = dict(zip(module._flat_weights_names, module._flat_weights, strict=True))  # forward computes with these
    else:
        kind = next(kind for kind, cell in _CELLS.items() if isinstance(module, cell))
        nonlinearity = getattr(module, "nonlinearity", "")
        bases = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if module.bias else ()))
        pairs = {f"{base}_l0": getattr(module, base) for base in bases}
    facts: _Facts = {"num_layers": 1, "batch_first": False} | {name: getattr(module, name) for name in names}
    facts |= {"kind": kind, "train": module.training} | ({"nonlinearity": nonlinearity} if nonlinearity else {})
    return facts, {name: each.detach() for name, each in pairs.items() if each is not None}


def _in_int8(module: Any, names: list[str]) -> tuple[_Facts, Weights]:
    """The same of a module in dynamic int8, whose weights are those numbers that its steps stand for."""
    is_cell = isinstance(module, _INT8.RNNCellBase)
    names += [] if is_cell else ["num_layers", "batch_first", "bidirectional", "dropout"]
    kind = type(module).__name__.removesuffix("Cell").lower()
    facts: _Facts = {"num_layers": 1, "batch_first": False, "kind": kind, "train": False}
    facts |= {name: getattr(module, name) for name in names}
    facts |= {"nonlinearity": module.nonlinearity} if kind == "rnn" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that its successor is another package
        found = {name: each.dequantize() for name, each in module.get_weight().items()}
        found |= module.get_bias() if module.bias is not False else {}
    return facts, {f"{name}_l0" if is_cell else name: each.detach().float() for name, each in found.items()}


def _computed_in(module: nn.Module, spec: Spec, device: str, is_fused: bool) -> _Facts:
    """What products were rounded to, and the dtype of autocast where that is on."""
    if in_int8(module):
        return {"arithmetic": "int8"}
    kind = device.partition(":")[0]
    used = arithmetic(replace(spec, device=device), is_fused) if kind == "cuda" else spec.dtype
    if not autocast_is_on(kind):
        return {"arithmetic": used}
    return {"arithmetic": used, "autocast": str(torch.get_autocast_dtype(kind)).removeprefix("torch.")}


def _joined(steps: list[_Step]) -> tuple[_Step, Spec]:
    """The steps of a loop as one call, and its Spec."""
    first, last = steps[0], steps[-1]
    if len(steps) == 1:
        return first, first.spec
    spec = replace(first.spec, seq_len=len(steps))
    joined = {name: torch.cat([each.tensors[name] for each in steps], time_of(spec)) for name in ("x", "y")}
    tensors = first.tensors | {name: last.tensors[name] for name in ("h", "c") if name in last.tensors} | joined
    return replace(first, tensors=tensors), spec


def calls_in(content: Any) -> dict[str, Any]:
    """Each call in the content of a file by its name, as the content of a file of its own."""
    about = about_in(content)
    calls = about.get("calls")
    if not isinstance(calls, dict) or not calls:
        path = about.get("path")
        return {path if isinstance(path, str) else "": content}
    return {name: _call(content, name, facts if isinstance(facts, dict) else {}) for name, facts in calls.items()}


def _call(content: Mapping[str, Any], name: str, facts: _Facts) -> dict[str, Any]:
    prefix = f"{name}." if name else ""
    home = f"{facts.get('weights', name)}.weights.".removeprefix(".")
    found = {each: content[prefix + each] for each in TENSORS if prefix + each in content}
    found |= {f"weights.{key.removeprefix(home)}": each for key, each in content.items() if key.startswith(home)}
    return found | {ABOUT: json.dumps(facts)}


def call_in(file: str, content: Any, prefix: str | None, flag: str) -> Any:
    """The one call under a name. Raises where there are several and none is named, or where there is no such.

    A run without a path is taken whatever the name: the flag may be meant for another file.
    """
    calls = calls_in(content)
    if prefix in calls:
        return calls[prefix]
    names = list(calls)
    if len(names) == 1 and (prefix is None or not names[0]):
        return calls[names[0]]
    told = quoted_names(names)
    if prefix is None:
        raise RnnscopeError(f"{file} has {len(names)} runs: {told}", f"name one, such as {flag} {names[0] or repr('')}")
    near = nearest(prefix, names)
    raise RnnscopeError(
        f"{file} has no run of {prefix!r}, but of {told}", f"did you mean {near!r}?" if near else f"try {names[0]!r}"
    )


def about_in(content: Any) -> _Facts:
    """What rnnscope wrote beside the tensors of a file; {} where that is nothing, or cannot be read."""
    try:
        about = json.loads(content.get(ABOUT, "{}"))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}
