"""torch's exports made by hand: `exports_by_hand.py FILE SUBJECT KIND LAYERS BIDIRECTIONAL BATCH_FIRST H0`.

But for the numbers of the weights not a line is the package's. Each export of dynamo has a process of its own: in one
that has made other exports before, torch 2.13 was seen to freeze L in a graph in which it otherwise keeps it dynamic.
"""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from rnnscope import Spec
from rnnscope.network.weights import draw_weights

MADE_AT = (7, 3)


@dataclass(frozen=True)
class Network:
    """What is exported, how, and whether it is given h0."""

    subject: str
    kind: str
    layers: int
    bidirectional: bool
    batch_first: bool
    h0: str

    def spec(self, sizes: tuple[int, int]) -> Spec:
        return Spec(
            kind=self.kind,
            num_layers=self.layers,
            bidirectional=self.bidirectional,
            batch_first=self.batch_first,
            h0=self.h0,
            seq_len=sizes[0],
            batch_size=sizes[1],
        )


def module_of(network: Network) -> nn.Module:
    kinds: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
    module: nn.Module = kinds[network.kind](
        10, 20, network.layers, batch_first=network.batch_first, bidirectional=network.bidirectional
    ).eval()
    module.load_state_dict(draw_weights(network.spec(MADE_AT)))
    return module


def arguments_at(network: Network, sizes: tuple[int, int]) -> tuple[Any, ...]:
    steps, items = sizes
    generator = torch.Generator().manual_seed(steps * 100 + items)
    x = torch.randn(items, steps, 10, generator=generator)
    x = x if network.batch_first else x.transpose(0, 1).contiguous()
    rows = network.layers * (2 if network.bidirectional else 1)
    states = [torch.randn(rows, items, 20, generator=generator) for _ in range(2)]
    if network.h0 == "zeros":
        return (x,)
    return (x, tuple(states) if network.kind == "lstm" else states[0])


class Wrapped(nn.Module):
    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(x, h0)
        return y, h


class WrappedLSTM(nn.Module):
    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor, h0: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, h = self.rnn(x, h0)
        return y, h


def shapes_by(network: Network, of_l: Any, of_n: Any) -> Any:
    x = {1: of_l, 0: of_n} if network.batch_first else {0: of_l, 1: of_n}
    state = {1: of_n}
    if network.h0 == "zeros":
        return (x,)
    return (x, (state, state) if network.kind == "lstm" else state)


def first_of_the_ways(network: Network, make: Callable[[Any], Any]) -> Any:
    """The first that is not refused: DYNAMIC, named Dims, AUTO."""
    for of_l, of_n in ((Dim.DYNAMIC, Dim.DYNAMIC), (Dim("L"), Dim("N")), (Dim.AUTO, Dim.AUTO)):
        try:
            return make(shapes_by(network, of_l, of_n))
        except Exception as error:
            refused = error
    raise refused


def inputs_of(network: Network) -> list[str]:
    return ["a", "b", "c"][: 1 if network.h0 == "zeros" else 3 if network.kind == "lstm" else 2]


def write(network: Network, path: Path) -> None:
    """Make the export."""
    module, given = module_of(network), arguments_at(network, MADE_AT)
    if network.subject == "scripted":
        script: Any = torch.jit.script
        script((WrappedLSTM if network.kind == "lstm" else Wrapped)(module)).save(str(path))
        return
    if network.subject == "onnx@legacy":
        sequence = {1: "L", 0: "N"} if network.batch_first else {0: "L", 1: "N"}
        axes = dict(zip("abc", (sequence, {1: "N"}, {1: "N"}), strict=True))
        names = inputs_of(network)
        dynamic = {name: axes[name] for name in names}
        torch.onnx.export(module, given, str(path), dynamo=False, input_names=names, dynamic_axes=dynamic)
        return
    if network.subject == "onnx":

        def make(shapes: Any) -> Any:
            names = inputs_of(network)
            return torch.onnx.export(
                module, given, str(path), dynamo=True, verbose=False, input_names=names, dynamic_shapes=shapes
            )

        first_of_the_ways(network, make)
        return
    program = first_of_the_ways(network, lambda shapes: torch.export.export(module, given, dynamic_shapes=shapes))
    torch.export.save(program.run_decompositions() if network.subject == "exported@decomposed" else program, path)


def opened(network: Network, path: Path) -> Callable[..., Any]:
    """The export, to be called with x and the state."""
    if network.subject == "scripted":
        load: Any = torch.jit.load
        return load(str(path))  # type: ignore[no-any-return]
    if not network.subject.startswith("onnx"):
        return torch.export.load(path).module()
    onnxruntime: Any = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def call(x: Tensor, state: Any = ()) -> Any:
        flat = (x, *(state if isinstance(state, tuple) else (state,)))
        fed = {name: each.numpy() for name, each in zip(inputs_of(network), flat, strict=True)}
        return [torch.from_numpy(each) for each in session.run(None, fed)]

    return call


@cache
def by_hand(network: Network, folder: Path) -> Callable[..., Any]:
    """The export, made once and opened."""
    ending = {"scripted": "pt", "onnx": "onnx", "onnx@legacy": "onnx"}.get(network.subject, "pt2")
    path = folder / f"{abs(hash(network))}.{ending}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if network.subject in ("scripted", "onnx@legacy"):
            write(network, path)
        else:
            words = [str(each) for each in (path, *vars(network).values())]
            paths = os.pathsep.join((str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")))
            command = [sys.executable, "-W", "ignore", __file__, *words]
            subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=True, capture_output=True)
        return opened(network, path)


if __name__ == "__main__":
    file, subject, kind, layers, bidirectional, batch_first, h0 = sys.argv[1:]
    write(Network(subject, kind, int(layers), bidirectional == "True", batch_first == "True", h0), Path(file))
