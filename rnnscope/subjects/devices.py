"""Where work runs: device, threads, back ends, autograd; put back afterwards, with errors of torch in the user's words.

Computes nothing itself.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from rnnscope.errors import RnnscopeError
from rnnscope.spec.spec import Spec

_MEMORY = re.compile("allocate memory|size calculation overflow")
_DTYPE = re.compile("not implemented for '|[Uu]nsupported (data|dtype)|dtype .* not supported")

_SWITCHES: dict[str, tuple[tuple[Any, str], ...]] = {
    "tf32": ((torch.backends.cudnn, "allow_tf32"), (torch.backends.cuda.matmul, "allow_tf32")),
    "cudnn": ((torch.backends.cudnn, "enabled"),),
    "onednn": ((torch.backends.mkldnn, "enabled"),),
}
"""What each back-end flag of the Spec sets in torch."""

_FINER = tuple(
    (owner, "fp32_precision")
    for owner in (
        getattr(torch.backends.cudnn, "rnn", None),
        getattr(torch.backends.cudnn, "conv", None),
        torch.backends.cuda.matmul,
    )
    if hasattr(owner, "fp32_precision")
)
"""The settings of newer releases that allow_tf32 sets along."""


@contextmanager
def running(spec: Spec, grad: bool = False) -> Iterator[Spec]:
    """Run what is inside with the Spec's threads and back ends, and give the Spec with its device made definite.

    Args:
        grad: whether autograd records what is inside.

    A caller's autocast and inference mode do not reach inside. Threads, back ends, grad mode and the random state are
    afterwards what they were, also after an error. What torch cannot compute or cannot hold becomes an RnnscopeError.
    """
    placed = replace(spec, device=_definite_device(spec.device))
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    try:
        if spec.threads is not None:
            torch.set_num_threads(spec.threads)
        plain = torch.autocast(placed.device.partition(":")[0], enabled=False)
        rng = torch.random.fork_rng(devices=[placed.device] if placed.device != "cpu" else [])
        outside, recording = torch.inference_mode(False), partial(torch.set_grad_enabled, grad)  # acts when it is made
        with _switched(spec), outside, recording(), rng, plain, warnings.catch_warnings():
            # Which library computes an LSTM with a projection is of no use to the reader of a table.
            warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")
            yield placed
    except (RuntimeError, MemoryError) as error:
        explained = _explained(error, placed)
        if explained is None:
            raise
        try:
            raise explained from error
        finally:
            del explained  # or it would hold this frame, and with it all tensors that are there, for longer than needed
    finally:  # a class of the user's may have set either
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)


@contextmanager
def _switched(spec: Spec) -> Iterator[None]:
    """Torch's back ends as the Spec asks, where it does; afterwards as they were."""
    asked = [(place, getattr(spec, flag)) for flag, places in _SWITCHES.items() for place in places]
    # All of them, since a class of the user's may set what was not asked for.
    before = [(place, _setting(*place)) for place in (*(place for place, _ in asked), *_FINER)]
    try:
        for (owner, name), value in asked:
            if value is not None:
                setattr(owner, name, value)
        yield
    finally:
        for (owner, name), value in before:
            if value is not None and _setting(owner, name) != value:
                setattr(owner, name, value)


def _setting(owner: Any, name: str) -> bool | str | None:
    """How something is set; None where torch refuses to say, since only its newer and finer settings were used."""
    try:
        value: bool | str = getattr(owner, name)
    except RuntimeError:
        return None
    return value


def _allows_tf32(owner: Any, finer: Any) -> bool:
    allowed = _setting(owner, "allow_tf32")
    return bool(_setting(finer, "fp32_precision") == "tf32" if allowed is None else allowed)


def device_name(spec: Spec) -> str:
    """The device for a caption: "cpu", or "cuda:0 (NVIDIA H100 80GB HBM3)"."""
    if not spec.device.startswith("cuda"):
        return spec.device
    return f"{spec.device} ({torch.cuda.get_device_name(spec.device)})"


def back_ends(spec: Spec) -> dict[str, bool]:
    """Which back ends may compute on the Spec's device, asked while it runs.

    cpu: onednn. cuda: cudnn, and tf32 in cuDNN and in cuBLAS.
    """
    if not spec.device.startswith("cuda"):
        return {"onednn": bool(torch._C._has_mkldnn and torch.backends.mkldnn.enabled)}
    return {
        "cudnn": bool(torch.backends.cudnn.enabled),
        "tf32_in_cudnn": _allows_tf32(torch.backends.cudnn, getattr(torch.backends.cudnn, "rnn", None)),
        "tf32_in_cublas": _allows_tf32(torch.backends.cuda.matmul, torch.backends.cuda.matmul),
    }


def arithmetic(spec: Spec, fused: bool) -> str:
    """What a subject's products are rounded to, asked while it runs: the dtype, or tf32 where that may be used.

    Args:
        fused: whether torch's module computes, which cuDNN takes over; anything else multiplies through cuBLAS.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#tf32-on-ampere
    """
    if spec.dtype != "float32" or not spec.device.startswith("cuda"):
        return spec.dtype
    has_tf32 = torch.cuda.get_device_capability(spec.device)[0] >= 8
    on = back_ends(spec)
    allowed = on["tf32_in_cudnn"] if fused and on["cudnn"] else on["tf32_in_cublas"]
    return "tf32" if has_tf32 and allowed else spec.dtype


def _definite_device(device: str) -> str:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        device = "cuda" if count else "cpu"
    if device == "cpu":
        return device
    if not count:
        why = "finds no CUDA device on this machine" if torch.version.cuda else "is a build without CUDA"
        raise RnnscopeError(f"--device {device}: torch {torch.__version__} {why}", "use --device cpu")
    # Bare "cuda" is the current device, as everywhere in torch; a process among several may have chosen its own.
    number = int(device.partition(":")[2] or torch.cuda.current_device())
    if number >= count:
        there = "1 CUDA device, cuda:0" if count == 1 else f"{count} CUDA devices, cuda:0 to cuda:{count - 1}"
        raise RnnscopeError(f"--device {device}: this machine has {there}", "use --device cuda")
    return f"cuda:{number}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the CPU or on a device; also of an error that tells of it in the user's words."""
    if isinstance(error, RnnscopeError) and error.__cause__ is not None:
        return is_out_of_memory(error.__cause__)
    ran_out = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return ran_out or (isinstance(error, RuntimeError) and bool(_MEMORY.search(str(error))))


def _explained(error: RuntimeError | MemoryError, spec: Spec) -> RnnscopeError | None:
    """The error in the user's words where its cause is known."""
    reason = str(error).split("\n")[0]
    if _DTYPE.search(reason):
        return RnnscopeError(
            f"--dtype {spec.dtype}: torch {torch.__version__} cannot compute {spec.module_name} in {spec.dtype} "
            f"on {spec.device} ({reason})",
            "use --dtype float32",
        )
    if is_out_of_memory(error):
        return RnnscopeError(
            f"out of memory on {spec.device}" + (f" ({reason})" if reason else ""),
            "make --seq-len, --batch, --hidden-size or --layers smaller",
        )
    return None
