"""Recorded runs: what went in and what came out, in a file of .pt, .safetensors or .npz.

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
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from rnnscope import __version__
from rnnscope.errors import RnnscopeError
from rnnscope.files.state_dicts import is_stretched
from rnnscope.files.tensors import ABOUT, writing
from rnnscope.network.weights import Input, Weights, dtype_name, first_nonfinite
from rnnscope.spec.spec import DTYPES, Spec
from rnnscope.subjects.builtin import Run
from rnnscope.verdict.problem import Problem, Tensors

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
    tensors: Tensors
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
        elif name not in OUTPUTS and (at := first_nonfinite(each)) is not None:
            raise RnnscopeError(
                f"{file}: {name} holds NaN or infinity, first at {at}", "record an input that is finite"
            )
    return Recording(file, {name: each.detach() for name, each in found.items()}, facts_beside(content))


def write_recording(
    file: str, problem: Problem, outputs: Tensors, spec: Spec, arithmetic: str, where: str, force: bool = False
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
    tensors = {name: each.to(dtype) for name, each in problem.given.tensors().items()}
    if spec.lengths is not None:
        tensors["lengths"] = torch.tensor(spec.lengths)
    tensors |= {name: outputs[name] for name in OUTPUTS if name in outputs}
    tensors |= {f"weights.{name}": each.to(dtype) for name, each in problem.weights.items()}
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
