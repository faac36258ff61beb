"""Where work runs: device, threads, back ends and autograd. Afterwards all are as they were.

A device that is neither a CPU nor CUDA is asked through torch.accelerator and through the module that torch has for its
type, such as torch.mps or torch.xpu. Not each of these can do all: what one cannot tell is left out.

Errors of torch whose cause is known are told in the user's words.
"""

import random
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from rnnscope.errors import RnnscopeError
from rnnscope.pages.page import counted
from rnnscope.spec.spec import ACCELERATORS, MOST_THREADS, Spec

_MEMORY = re.compile("allocate memory|size calculation overflow|backend out of memory")
_DTYPE = re.compile("not implemented for '|[Uu]nsupported (data|dtype)|dtype .* not supported|doesn't support float64")

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
    if placed.dtype == "float64" and not has_float64(placed.device):
        raise RnnscopeError(f"--dtype float64: {placed.device} does not compute in float64", "use --dtype float32")
    try:
        # Also where they are so many already: a library may take fewer than it has until it is told how many.
        torch.set_num_threads(used)
        plain, rng, quiet = (
            _without_autocast(placed.device),
            _random_state_kept(placed.device),
            warnings.catch_warnings(),
        )
        with _switched(spec), torch.inference_mode(False), torch.set_grad_enabled(grad), rng, plain, quiet:
            # Which library computes an LSTM with a projection is of no use to the reader of a table.
            warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")
            yield placed
    except (RuntimeError, MemoryError, TypeError) as error:  # of float64 some devices say by a TypeError
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
    """The device for a caption: "cpu", or "cuda:0 (NVIDIA H100 80GB HBM3)"; as far as torch has a name for it."""
    if spec.device == "cpu":
        return spec.device
    name = _told(lambda: _module_of(spec.device).get_device_name(spec.device))
    if spec.device == "mps":
        name = _told(lambda: torch.backends.mps.get_name())
    if device_type(spec.device) != spec.device.partition(":")[0]:  # a name that a package gave its device
        name = name or device_type(spec.device)
    return f"{spec.device} ({name})" if name else spec.device


def back_ends(spec: Spec) -> dict[str, bool]:
    """Inside `running`, which back ends may compute: oneDNN on a CPU; cuDNN, and TF32 in cuDNN and cuBLAS, on CUDA.

    Of other devices torch tells none.
    """
    if spec.device == "cpu":
        return {"onednn": bool(torch._C._has_mkldnn and torch.backends.mkldnn.enabled)}
    if not spec.device.startswith("cuda"):
        return {}
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


def device_type(device: str) -> str:
    """What torch calls the type of a device: a package may have given privateuseone another name."""
    return torch.device(device).type


def spelled(device: torch.device) -> str | None:
    """A device of torch's as a Spec names it; None where a Spec has no name for it."""
    kind = device.type
    if kind not in ("cpu", *ACCELERATORS):
        is_renamed = kind == _told(lambda: torch._C._get_privateuse1_backend_name())
        kind = "privateuseone" if is_renamed else ""
    if kind in ("", "cpu", "mps"):  # of which there is one
        return kind or None
    return kind if device.index is None else f"{kind}:{device.index}"


def _accelerator() -> str | None:
    """The type of device that torch.accelerator names, if there is one on this machine."""
    found = _told(lambda: torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None)
    return None if found is None else spelled(torch.device(found.type))


def _module_of(device: str) -> Any:
    """torch's module for a type of device, such as torch.xpu."""
    return torch.get_device_module(device_type(device))


def _told(ask: Callable[[], Any]) -> Any:
    """What torch says; None where it has nothing to say of such a device, in whichever way it puts that."""
    try:
        return ask()
    except (RuntimeError, AttributeError, AssertionError, ImportError, TypeError, ValueError):
        return None


def _count_of(kind: str) -> int:
    """How many devices of a type there are."""
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    return int(_told(lambda: _module_of(kind).device_count()) or 0)


def _definite_device(device: str) -> str:
    """The device with its number; of MPS there is one alone.

    Bare "cuda" is the current device, as everywhere in torch; a process among several may have chosen its own.
    """
    if device == "auto":
        device = "cuda" if _count_of("cuda") else _accelerator() or "cpu"
    if device == "cpu":
        return device
    kind, _, typed = device.partition(":")
    count, name = _count_of(kind), "CUDA" if kind == "cuda" else kind
    if not count:
        raise _no_such(device, kind)
    number = int(typed) if typed else int(_told(lambda: _module_of(kind).current_device()) or 0)
    if number >= count:
        there = (
            f"1 {name} device, {kind}:0" if count == 1 else f"{count} {name} devices, {kind}:0 to {kind}:{count - 1}"
        )
        raise RnnscopeError(f"--device {device}: this machine has {there}", f"use --device {kind}")
    return kind if kind == "mps" else f"{kind}:{number}"


def _no_such(device: str, kind: str) -> RnnscopeError:
    """What is there instead."""
    there = "cuda" if _count_of("cuda") else _accelerator()
    if kind == "cuda":
        why = "finds no CUDA device on this machine" if torch.version.cuda else "is a build without CUDA"
    else:
        why = f"finds no {kind} device on this machine, "
        why += f"but {counted(_count_of(there), 'device')} of type {there}" if there else "and no other accelerator"
    return RnnscopeError(f"--device {device}: torch {torch.__version__} {why}", f"use --device {there or 'cpu'}")


@cache
def has_float64(device: str) -> bool:
    """Whether a device computes in float64, which it shows by a sum of numbers that float32 would round away.

    MPS makes no such tensor, some GPUs of Intel's make one and cannot add, and another might compute in float32.
    """

    def asked() -> bool:
        numbers = torch.tensor([1 + 2.0**-40, 2.0**-41], dtype=torch.float64, device="cpu").to(device)
        return bool((numbers @ torch.ones_like(numbers)).cpu().item() == 1 + 2.0**-40 + 2.0**-41)

    return device == "cpu" or bool(_told(asked))


def take_device(rank: int) -> None:
    """Let a process among several on this machine have an accelerator of its own, as far as there are so many."""
    if count := _count_of("cuda"):
        torch.cuda.set_device(rank % count)
    elif kind := _accelerator():
        _told(lambda: _module_of(kind).set_device(rank % _count_of(kind)))


def wait_for(device: str | torch.device) -> None:
    """Wait until a device has done all that it was given."""
    kind = device.type if isinstance(device, torch.device) else device_type(device)
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind != "cpu":
        try:
            torch.accelerator.synchronize(torch.device(device))
        except RuntimeError as error:  # then what is read off it waits by itself
            if "support" not in str(error):  # an error of the work that was waited for
                raise


def seed_device(number: int, device: str) -> None:
    """Seed the random numbers of a device; those of the CPU are seeded by themselves."""
    if device.startswith("cuda"):
        torch.cuda.default_generators[torch.device(device).index].manual_seed(number)
    elif device != "cpu":
        _told(lambda: _module_of(device).manual_seed(number))


@contextmanager
def dice_kept() -> Iterator[None]:
    """Leave the random states of Python and of numpy as they were; `running` does so for torch."""
    numpy: Any = sys.modules.get("numpy")
    before, of_numpy = random.getstate(), numpy and numpy.random.get_state()
    try:
        yield
    finally:
        random.setstate(before)
        if numpy:
            numpy.random.set_state(of_numpy)


def seed_dice(number: int, device: str) -> None:
    """Seed torch, Python and numpy, by which a class may roll its dice."""
    torch.default_generator.manual_seed(number)  # torch.manual_seed notes who called it, which takes longer
    seed_device(number, device)
    random.seed(number)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(number)


@contextmanager
def _random_state_kept(device: str) -> Iterator[None]:
    """Afterwards the random states of the CPU and of a device are what they were, as far as that has one."""
    before = None if device == "cpu" else _told(lambda: _module_of(device).get_rng_state(device))
    try:
        with torch.random.fork_rng(devices=[], device_type="cuda" if device == "cpu" else device_type(device)):
            yield
    finally:
        if before is not None:
            _module_of(device).set_rng_state(before, device)


def autocast_is_on(kind: str) -> bool:
    """Whether torch.autocast is on for a type of device."""
    return bool(_told(lambda: torch.is_autocast_enabled(kind)))


def _without_autocast(device: str) -> AbstractContextManager[Any]:
    """A caller's autocast switched off, which packages outside of torch may not have for their devices."""
    kind = device_type(device)
    is_torchs = kind in ("cpu", "cuda") or autocast_is_on(kind)
    return torch.autocast(kind, enabled=False) if is_torchs else nullcontext()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the CPU or on a device, also if an RnnscopeError says so."""
    if isinstance(error, RnnscopeError) and error.__cause__ is not None:
        return is_out_of_memory(error.__cause__)
    ran_out = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return ran_out or (isinstance(error, RuntimeError) and bool(_MEMORY.search(str(error))))


def _explained(error: RuntimeError | MemoryError | TypeError, spec: Spec) -> RnnscopeError | None:
    """The error in the user's words; None if its cause is not known."""
    reason = str(error).split("\n")[0]
    if _DTYPE.search(reason):
        cannot = f"torch {torch.__version__} cannot compute {spec.module_name} in {spec.dtype} on {spec.device}"
        return RnnscopeError(f"--dtype {spec.dtype}: {cannot} ({reason})", "use --dtype float32")
    if is_out_of_memory(error):
        full = f"out of memory on {spec.device}{f' ({reason})' if reason else ''}"
        return RnnscopeError(full, "make --seq-len, --batch, --hidden-size or --layers smaller")
    return None
