"""Where work runs: device, threads, back ends and autograd. Afterwards all are as they were.

Errors of torch whose cause is known are told in the user's words.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from rnnscope.errors import RnnscopeError
from rnnscope.spec.spec import MOST_THREADS, Spec

_MEMORY = re.compile("allocate memory|size calculation overflow")
_DTYPE = re.compile("not implemented for '|[Uu]nsupported (data|dtype)|dtype .* not supported")

_SWITCHES: dict[str, tuple[tuple[Any, str], ...]] = {
    "tf32": ((torch.backends.cudnn, "allow_tf32"), (torch.backends.cuda.matmul, "allow_tf32")),
    "cudnn": ((torch.backends.cudnn, "enabled"),),
    "onednn": ((torch.backends.mkldnn, "enabled"),),
}
"""What each back-end flag of the Spec sets in torch."""

_CUDNN = (getattr(torch.backends.cudnn, "rnn", None), getattr(torch.backends.cudnn, "conv", None))

_FINER = [
    (owner, "fp32_precision") for owner in (*_CUDNN, torch.backends.cuda.matmul) if hasattr(owner, "fp32_precision")
]
"""The settings of newer releases that allow_tf32 sets too."""


@contextmanager
def running(spec: Spec, grad: bool = False) -> Iterator[Spec]:
    """Run what is inside with the Spec's threads and back ends; give the Spec with device and threads made definite.

    A caller's autocast and inference mode do not reach inside. Threads, back ends, grad mode, default dtype and random
    state are afterwards what they were, also after an error.

    Args:
        grad: whether autograd records what is inside.

    Raises:
        RnnscopeError: no such device, or what torch cannot compute or cannot hold in memory.
    """
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    used = spec.threads or min(threads, MOST_THREADS)
    placed = replace(spec, device=_definite_device(spec.device), threads=used)
    try:
        # Also where they are so many already: a library may take fewer than it has until it is told how many.
        torch.set_num_threads(used)
        plain = torch.autocast(placed.device.partition(":")[0], enabled=False)
        rng = torch.random.fork_rng(devices=[placed.device] if placed.device != "cpu" else [])
        quiet = warnings.catch_warnings()
        with _switched(spec), torch.inference_mode(False), torch.set_grad_enabled(grad), rng, plain, quiet:
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
            del explained  # it would hold this frame, and with it all tensors, for longer than needed
    finally:  # a class of the user's may have set either
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)


@contextmanager
def _switched(spec: Spec) -> Iterator[None]:
    """Set torch's back ends as the Spec asks; afterwards all are as they were, since a class may set others too."""
    asked = [(owner, name, getattr(spec, flag)) for flag, places in _SWITCHES.items() for owner, name in places]
    places = [*((owner, name) for owner, name, _ in asked), *_FINER]
    before = [(owner, name, _setting(owner, name)) for owner, name in places]
    try:
        for owner, name, value in asked:
            if value is not None:
                setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            if value is not None and _setting(owner, name) != value:
                setattr(owner, name, value)


def _setting(owner: Any, name: str) -> bool | str | None:
    """How something is set; None where torch refuses to say, since its newer and finer settings were used."""
    try:
        return getattr(owner, name)  # type: ignore[no-any-return]
    except RuntimeError:
        return None


def _allows_tf32(owner: Any, finer: Any) -> bool:
    allowed = _setting(owner, "allow_tf32")
    return bool(_setting(finer, "fp32_precision") == "tf32" if allowed is None else allowed)


def device_name(spec: Spec) -> str:
    """The device for a caption: "cpu", or "cuda:0 (NVIDIA H100 80GB HBM3)"."""
    if not spec.device.startswith("cuda"):
        return spec.device
    return f"{spec.device} ({torch.cuda.get_device_name(spec.device)})"


def back_ends(spec: Spec) -> dict[str, bool]:
    """Inside `running`, which back ends may compute: oneDNN on a CPU; cuDNN, and TF32 in cuDNN and cuBLAS, on CUDA."""
    if not spec.device.startswith("cuda"):
        return {"onednn": bool(torch._C._has_mkldnn and torch.backends.mkldnn.enabled)}
    return {
        "cudnn": bool(torch.backends.cudnn.enabled),
        "tf32_in_cudnn": _allows_tf32(torch.backends.cudnn, getattr(torch.backends.cudnn, "rnn", None)),
        "tf32_in_cublas": _allows_tf32(torch.backends.cuda.matmul, torch.backends.cuda.matmul),
    }


def arithmetic(spec: Spec, fused: bool) -> str:
    """Inside `running`, what a subject's products are rounded to: the dtype, or tf32 if that may be used.

    Args:
        fused: whether torch's module computes, through cuDNN; anything else multiplies through cuBLAS.

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
    """Whether memory ran out, on the CPU or on a device, also if an RnnscopeError says so."""
    if isinstance(error, RnnscopeError) and error.__cause__ is not None:
        return is_out_of_memory(error.__cause__)
    ran_out = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return ran_out or (isinstance(error, RuntimeError) and bool(_MEMORY.search(str(error))))


def _explained(error: RuntimeError | MemoryError, spec: Spec) -> RnnscopeError | None:
    """The error in the user's words; None if its cause is not known."""
    reason = str(error).split("\n")[0]
    if _DTYPE.search(reason):
        cannot = f"torch {torch.__version__} cannot compute {spec.module_name} in {spec.dtype} on {spec.device}"
        return RnnscopeError(f"--dtype {spec.dtype}: {cannot} ({reason})", "use --dtype float32")
    if is_out_of_memory(error):
        full = f"out of memory on {spec.device}{f' ({reason})' if reason else ''}"
        return RnnscopeError(full, "make --seq-len, --batch, --hidden-size or --layers smaller")
    return None
