"""Makes one export of torch's module: `python -m rnnscope.subjects.exporter FOLDER`, a process of its own.

Exporters keep state, print, and may never end. So each export has a process. It reads its job from the folder and
leaves there the export, and what is to be told of it. It ends as soon as its stdin is closed, and takes the folder
along: so nothing is left behind where the process that waits for it is gone.
"""

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnnscope.network.shapes import outputs_of
from rnnscope.network.weights import Input, Weights, draw_input, time_of
from rnnscope.spec.spec import Spec
from rnnscope.subjects.builtin import build_module
from rnnscope.subjects.foreign import in_one_sentence

T = TypeVar("T")

JOB, MADE = "job.pt", "made.json"
"""Files in the folder: what is asked, and what is told of the export; the latter is written at the end."""

EXPORTS = {
    "exported": "export.pt2",
    "exported@decomposed": "export.pt2",
    "scripted": "export.pt",
    "onnx": "export.onnx",
    "onnx@legacy": "export.onnx",
}
"""The file of each export."""

MOST_TRIES = 1000
"""To remove a folder."""

RECURRENT = ("RNN", "LSTM", "GRU")
"""The nodes of ONNX that compute all steps of a layer."""


@dataclass(frozen=True)
class Made:
    """What is told of an export.

    Args:
        error: why it could not be made, in one sentence; "" where it was made.
        way: how sizes were asked to stay dynamic; "" where nothing had to be asked.
        refused: the ways that were tried before, each with the reason against it.
        nodes: the recurrent nodes in a graph of ONNX.
        versions: of the packages that made it, besides torch.
    """

    error: str = ""
    way: str = ""
    refused: tuple[tuple[str, str], ...] = ()
    nodes: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()


def spec_at(spec: Spec, sizes: tuple[int, int]) -> Spec:
    """The Spec with other numbers of steps and items; each item of a packed input has an end of its own."""
    steps, items = sizes
    if spec.unbatched:
        return replace(spec, seq_len=steps)
    lengths = spec.lengths and tuple(max(1, steps - item) for item in range(items))
    return replace(spec, seq_len=steps, batch_size=items, lengths=lengths)


def write_job(folder: Path, subject: str, spec: Spec, weights: Weights) -> None:
    """Ask for an export of a network at the sizes of its Spec, which takes a state unless that is zeros."""
    fields = vars(spec) | {"lengths": spec.lengths and list(spec.lengths)}
    plain = {name: each.detach().cpu().clone() for name, each in weights.items()}
    torch.save({"subject": subject, "spec": fields, "weights": plain}, folder / JOB)


def read_made(folder: Path) -> Made | None:
    """What is told of an export; None where none was made."""
    try:
        found = json.loads((folder / MADE).read_text(encoding="utf-8"))
    except OSError:
        return None
    refused = tuple((way, why) for way, why in found.pop("refused"))
    return Made(**found | {"refused": refused, "nodes": tuple(found["nodes"]), "versions": tuple(found["versions"])})


# The network and its example.


class Plain(nn.Module):
    """A module around nn.RNN or nn.GRU: scripted by itself, either has no forward, since that is overloaded."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x: (L, N, H_in)."""
        y, h = self.rnn(x, hx)
        return y, h


class PlainLSTM(nn.Module):
    """The same around nn.LSTM, whose state is a pair: TorchScript wants each type by its name."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x: (L, N, H_in)."""
        y, state = self.rnn(x, hx)
        return y, state


class Packed(nn.Module):
    """nn.RNN or nn.GRU behind a padded x and its lengths, as whoever exports a packed network writes it."""

    def __init__(self, rnn: nn.Module, batch_first: bool) -> None:
        super().__init__()
        self.rnn, self.batch_first = rnn, batch_first

    def forward(self, x: Tensor, lengths: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x: (L, N, H_in), lengths: (N,); y is padded with zeros."""
        packed = pack_padded_sequence(x, lengths, self.batch_first, enforce_sorted=False)
        y, h = self.rnn(packed, hx)
        return pad_packed_sequence(y, self.batch_first)[0], h


class PackedLSTM(nn.Module):
    """The same around nn.LSTM."""

    def __init__(self, rnn: nn.Module, batch_first: bool) -> None:
        super().__init__()
        self.rnn, self.batch_first = rnn, batch_first

    def forward(
        self, x: Tensor, lengths: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x: (L, N, H_in), lengths: (N,); y is padded with zeros."""
        packed = pack_padded_sequence(x, lengths, self.batch_first, enforce_sorted=False)
        y, state = self.rnn(packed, hx)
        return pad_packed_sequence(y, self.batch_first)[0], state


def network_of(subject: str, spec: Spec, weights: Weights) -> nn.Module:
    """torch's module, in a wrapper that packs where the Spec has lengths, or that TorchScript needs."""
    module = build_module(spec)
    module.load_state_dict(weights)
    module.train(spec.train)
    if spec.lengths is None:
        wrapper = PlainLSTM if spec.kind == "lstm" else Plain
        return wrapper(module).train(spec.train) if subject == "scripted" else module
    return (PackedLSTM if spec.kind == "lstm" else Packed)(module, spec.batch_first).train(spec.train)


def arguments_of(spec: Spec, given: Input, lengths: tuple[int, ...] | None) -> tuple[Any, ...]:
    """What the network is called with: x, its lengths where it has some, and the state unless that is zeros."""
    of_lengths = () if lengths is None else (torch.tensor(lengths, device="cpu"),)
    state: Any = given.state if spec.kind == "lstm" else given.state[0]
    return (given.x, *of_lengths, *([state] if spec.h0 == "random" else []))


def names_of(spec: Spec) -> tuple[list[str], list[str]]:
    """The names of the arguments, a state's tensors one by one, and of the outputs."""
    states = [f"{each}0" for each in outputs_of(spec.kind)[1:]] if spec.h0 == "random" else []
    return ["x", *([] if spec.lengths is None else ["lengths"]), *states], list(outputs_of(spec.kind))


def dynamic_dims(spec: Spec) -> dict[str, dict[int, str]]:
    """The dims of each argument and output that are L or N."""
    if spec.unbatched:
        return {"x": {0: "L"}, "y": {0: "L"}}
    sequence = {time_of(spec): "L", 1 - time_of(spec): "N"}
    return {"x": sequence, "y": sequence, "lengths": {0: "N"}} | {state: {1: "N"} for state in ("h0", "c0", "h", "c")}


# The exporters.


def export(subject: str, spec: Spec, weights: Weights, path: str) -> Made:
    """Make an export and write it to a path. Raises whatever the exporter raises."""
    network, arguments = network_of(subject, spec, weights), arguments_of(spec, draw_input(spec), spec.lengths)
    if subject == "scripted":
        torch.jit.save(torch.jit.script(network), path)
        return Made()
    if subject == "onnx@legacy":
        return _legacy(spec, network, arguments, path)
    if subject == "onnx":
        return _dynamo(spec, network, arguments, path)
    program, made = _first_accepted(spec, lambda dims: torch.export.export(network, arguments, dynamic_shapes=dims))
    torch.export.save(program.run_decompositions() if subject == "exported@decomposed" else program, path)
    return made


def _legacy(spec: Spec, network: nn.Module, arguments: tuple[Any, ...], path: str) -> Made:
    inputs, outputs = names_of(spec)
    axes = {name: each for name, each in dynamic_dims(spec).items() if name in (*inputs, *outputs)}
    torch.onnx.export(
        network, arguments, path, dynamo=False, input_names=inputs, output_names=outputs, dynamic_axes=axes
    )
    return Made(way="dynamic_axes", nodes=_recurrent_nodes(path))


def _dynamo(spec: Spec, network: nn.Module, arguments: tuple[Any, ...], path: str) -> Made:
    inputs, outputs = names_of(spec)

    def attempt(dims: Any) -> object:
        return torch.onnx.export(
            network,
            arguments,
            path,
            dynamo=True,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=dims,
            external_data=False,
            verbose=False,
        )

    _, made = _first_accepted(spec, attempt)
    return replace(made, nodes=_recurrent_nodes(path), versions=_versions("onnxscript"))


def _first_accepted(spec: Spec, attempt: Callable[[Any], T]) -> tuple[T, Made]:
    """What comes of the first way to ask for dynamic sizes that is not refused, in the order of torch's documentation.

    Source: https://docs.pytorch.org/docs/stable/export.html#expressing-dynamism
    """
    dim, refused = torch.export.Dim, list[tuple[str, str]]()
    named = {name: dim(name) for name in ("L", "N")}
    ways = {"Dim.DYNAMIC": dict.fromkeys(named, dim.DYNAMIC), "named Dims": named}
    for way, of in (ways | {"Dim.AUTO": dict.fromkeys(named, dim.AUTO)}).items():
        try:
            return attempt(_dynamic_shapes(spec, of)), Made(way=way, refused=tuple(refused))
        except Exception as error:
            if way == "Dim.AUTO":
                raise
            refused.append((way, _reason(error)))
    raise AssertionError


def _dynamic_shapes(spec: Spec, of: dict[str, Any]) -> Any:
    """The dims in the structure of the arguments; of: what stands for L, and for N."""
    dims = {name: {dim: of[size] for dim, size in each.items()} for name, each in dynamic_dims(spec).items()}
    states = [{} if spec.unbatched else dims[name] for name in names_of(spec)[0] if name in ("h0", "c0")]
    lengths = [] if spec.lengths is None else [dims["lengths"]]
    return (dims["x"], *lengths, *([tuple(states) if spec.kind == "lstm" else states[0]] if states else []))


def _recurrent_nodes(path: str) -> tuple[str, ...]:
    import onnx

    model: Any = onnx.load(path)
    every = [model.graph.node, *(each.node for each in model.functions)]
    return tuple(sorted({node.op_type for nodes in every for node in nodes} & set(RECURRENT)))


def _versions(*packages: str) -> tuple[str, ...]:
    from importlib.metadata import version

    return tuple(f"{each} {version(each)}" for each in packages)


def _reason(error: BaseException) -> str:
    """Why an exporter refuses: torch.onnx says of its steps, and the step that failed says why."""
    while type(error).__module__.startswith("torch.onnx") and error.__cause__ is not None:
        error = error.__cause__
    return in_one_sentence(error)


# The process.


def main(folder: Path) -> None:
    threading.Thread(target=_end_with_stdin, args=(folder,), daemon=True).start()
    job = torch.load(folder / JOB, map_location="cpu", weights_only=True)
    lengths = job["spec"]["lengths"]
    spec = Spec(**job["spec"] | {"lengths": lengths and tuple(lengths)})
    weights = {name: each.to(spec.device) for name, each in job["weights"].items()}
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    try:
        made = export(job["subject"], spec, weights, str(folder / EXPORTS[job["subject"]]))
    except Exception as error:
        made = Made(error=_reason(error))
    part = folder / f"{MADE}.part"
    part.write_text(json.dumps(asdict(made)), encoding="utf-8")
    part.replace(folder / MADE)


def _end_with_stdin(folder: Path) -> None:
    sys.stdin.buffer.read()
    tries = 0
    while folder.exists() and tries < MOST_TRIES:  # something may be written while it is removed
        shutil.rmtree(folder, ignore_errors=True)
        tries += 1
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
