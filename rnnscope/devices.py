"""Where work runs: device, threads, autograd; put back afterwards, with what torch cannot do said in the user's words.

Computes nothing itself.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from rnnscope.errors import RnnscopeError
from rnnscope.spec import Spec

_MEMORY = re.compile("allocate memory|size calculation overflow")
_DTYPE = re.compile("not implemented for '|[Uu]nsupported (data|dtype)|dtype .* not supported")


@contextmanager
def running(spec: Spec, grad: bool = False) -> Iterator[Spec]:
    """Run what is inside with the Spec's threads, and give the Spec with its device made definite.

    Args:
        grad: whether autograd records what is inside.

    A caller's autocast does not reach inside. Threads, grad mode and the random state of the CPU are afterwards what
    they were, also after an error. What torch cannot compute or cannot hold becomes an RnnscopeError.
    """
    placed = replace(spec, device=_definite_device(spec.device))
    threads = torch.get_num_threads()
    try:
        if spec.threads is not None:
            torch.set_num_threads(spec.threads)
        plain = torch.autocast(placed.device.partition(":")[0], enabled=False)
        with torch.set_grad_enabled(grad), torch.random.fork_rng(devices=[]), plain, warnings.catch_warnings():
            # Which library computes an LSTM with a projection is of no use to the reader of a table.
            warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")
            yield placed
    except (RuntimeError, MemoryError) as error:
        explained = _explained(error, placed)
        if explained is None:
            raise
        raise explained from error
    finally:
        if spec.threads is not None:
            torch.set_num_threads(threads)


def device_name(spec: Spec) -> str:
    """The device for a caption: "cpu", or "cuda:0 (NVIDIA H100 80GB HBM3)"."""
    if not spec.device.startswith("cuda"):
        return spec.device
    return f"{spec.device} ({torch.cuda.get_device_name(spec.device)})"


def _definite_device(device: str) -> str:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda:0" if count else "cpu"
    if device == "cpu":
        return device
    if not count:
        why = "finds no CUDA device on this machine" if torch.version.cuda else "is a build without CUDA"
        raise RnnscopeError(f"--device {device}: torch {torch.__version__} {why}", "use --device cpu")
    number = int(device.partition(":")[2] or 0)
    if number >= count:
        there = "1 CUDA device, cuda:0" if count == 1 else f"{count} CUDA devices, cuda:0 to cuda:{count - 1}"
        raise RnnscopeError(f"--device {device}: this machine has {there}", "use --device cuda")
    return f"cuda:{number}"


def _explained(error: RuntimeError | MemoryError, spec: Spec) -> RnnscopeError | None:
    """The error in the user's words where its cause is known."""
    reason = str(error).split("\n")[0]
    if _DTYPE.search(reason):
        return RnnscopeError(
            f"--dtype {spec.dtype}: torch {torch.__version__} cannot compute {spec.module_name} in {spec.dtype} "
            f"on {spec.device} ({reason})",
            "use --dtype float32",
        )
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or _MEMORY.search(reason):
        return RnnscopeError(
            f"out of memory on {spec.device}" + (f" ({reason})" if reason else ""),
            "make --seq-len, --batch, --hidden-size or --layers smaller",
        )
    return None
