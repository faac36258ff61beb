"""Stand-ins for torch's exporters: an export that is made in this process, as right or as wrong as a test wants it.

So what is judged does not depend on what today's exporters get wrong.
"""

import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rnnscope import Spec
from rnnscope.network.weights import Weights, draw_input
from rnnscope.subjects import exports
from rnnscope.subjects.exporter import EXPORTS, Made, dynamic_dims, names_of, spec_at
from rnnscope.subjects.foreign import Refused

Make = Callable[[Spec, Weights, str], None]
"""Writes an export of the Spec's network to a path."""


class Around(nn.Module):
    """torch's module, called as it is; what a wrong export does otherwise is a class of its own."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor, hx: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(x, hx)
        return y, h


class DropsH0(Around):
    def forward(self, x: Tensor, hx: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(x, torch.zeros_like(hx))
        return y, h


class RightAt7(Around):
    """The same function in 7 steps alone."""

    def forward(self, x: Tensor, hx: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(x, hx)
        return y * (x.shape[0] / 7.0), h


class First7(Around):
    """Never looks at more than 7 steps."""

    def forward(self, x: Tensor, hx: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(x[:7], hx)
        return y, h


class OneBatch(Around):
    """Knows 3 items alone."""

    def forward(self, x: Tensor, hx: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(x.reshape(x.shape[0], 3, 10), hx)
        return y, h


def module_of(spec: Spec, weights: Weights) -> nn.Module:
    kinds: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
    module: nn.Module = kinds[spec.kind](spec.input_size, spec.hidden_size, spec.num_layers).eval()
    module.load_state_dict(weights)
    return module.to(getattr(torch, spec.dtype))


def scripted(around: type[Around] = Around) -> Make:
    def make(spec: Spec, weights: Weights, path: str) -> None:
        script: Any = torch.jit.script
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            script(around(module_of(spec, weights))).save(path)

    return make


def legacy(
    around: type[Around] = Around,
    mend: Callable[[Any], None] | None = None,
    made_at: tuple[int, int] | None = None,
) -> Make:
    """Makes a graph of ONNX, at `made_at` where that is given, and lets `mend` change it before it is written."""

    def make(spec: Spec, weights: Weights, path: str) -> None:
        given = draw_input(spec if made_at is None else spec_at(spec, made_at))
        inputs, outputs = names_of(spec)
        axes = {name: each for name, each in dynamic_dims(spec).items() if name in (*inputs, *outputs)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                around(module_of(spec, weights)).eval(),
                (given.x, given.state[0]),
                path,
                dynamo=False,
                input_names=inputs,
                output_names=outputs,
                dynamic_axes=axes,
            )
        if mend is not None:
            import onnx

            model: Any = onnx.load(path)
            mend(model)
            onnx.save(model, path)

    return make


def refusing(reason: str) -> Make:
    def make(spec: Spec, weights: Weights, path: str) -> None:
        raise Refused(reason)

    return make


def stand_in(monkeypatch: pytest.MonkeyPatch, make: Make, told: Made | None = None) -> list[Spec]:
    """Let `make` make every export; gives the Specs for which one was made."""
    made: list[Spec] = []

    class StandIn:
        def __init__(self, subject: str, spec: Spec, weights: Weights) -> None:
            self.folder, self._error = Path(tempfile.mkdtemp(prefix="rnnscope-")), ""
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)  # where nobody opens it
            made.append(spec)
            self._in_onnx = subject.startswith("onnx")
            with torch.enable_grad():
                try:
                    make(spec, weights, str(self.folder / EXPORTS[subject]))
                except Refused as refused:
                    self._error = refused.message

        def wait(self) -> Made:
            return Made(error=self._error) if self._error else told or Made(nodes=("GRU",) if self._in_onnx else ())

        def end(self) -> None:
            shutil.rmtree(self.folder, ignore_errors=True)

    monkeypatch.setattr(exports, "_Exporter", StandIn)
    monkeypatch.setattr(exports, "_kept", {})
    return made
