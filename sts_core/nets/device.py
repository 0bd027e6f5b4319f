"""Which device and number format a run uses, found without importing torch where that is possible."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sts_core.errors import UserError

NARROW = ("bfloat16", "float16")
"""Number formats of two bytes."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE, _KEPT = 15_000_000, 2**30
"""Bytes, of a measurement: a piece of features is above the first, a batch's own arrays are below."""


def choose_device(asked: str) -> str:
    """`auto` becomes cuda, mps or cpu; an accelerator that is not here is refused."""
    if asked == "cpu":
        return "cpu"
    found = _accelerator()
    if asked == "auto":
        return found or "cpu"
    if found is None or asked.split(":")[0] != found:
        raise UserError(f"The device {asked!r} is not on this machine", f'Use "auto" or "{found or "cpu"}".')
    return asked


def choose_dtype(asked: str, device: str) -> str:
    """`auto` becomes bfloat16 where the device computes in it natively, float32 elsewhere."""
    if asked == "float16" and device == "cpu":
        raise UserError("float16 is not computed on a CPU", 'Use dtype = "auto".')
    if asked != "auto":
        return asked
    if device.startswith("cuda"):
        return "bfloat16"
    return "bfloat16" if device == "cpu" and computes_natively("bfloat16", device) else "float32"


def computes_natively(dtype: str, device: str) -> bool:
    """Whether the device has products of this number format; what is not a processor is taken to have them."""
    if device != "cpu" or dtype not in NARROW:
        return True
    return dtype == "bfloat16" and _cpu_has_bfloat16()


def steady_memory() -> None:
    """Have the C library hand large arrays back at once and keep the rest until `hand_back`, where it is glibc.

    Left alone it learns to keep large ones too, in places that fit the next ones ill: the same work held up to 1.7
    times as much the longer it ran (docs/decisions/0005). For a measurement, whose arrays vary in size.
    """
    _allot(large=_LARGE, kept=_KEPT)


def keep_memory() -> None:
    """Have the C library keep large arrays for the next step instead of handing them back, where it is glibc.

    Fresh memory must be filled with zeros by the system first, at every step anew: a third of the time of a step. For a
    training, where the same arrays come and go.
    """
    _allot(large=2**30, kept=2**31 - 1)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a pass did not fit; the CPU's allocator has no exception of its own."""
    from torch import OutOfMemoryError

    return isinstance(error, OutOfMemoryError) or "can't allocate memory" in str(error)


def hand_back() -> None:
    """Have the C library hand back what it holds for nobody. It costs milliseconds: once a batch is often enough."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _allot(large: int, kept: int) -> None:
    """Bytes from which an array is handed back as soon as it is free, and what may be kept of the smaller ones."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(_M_MMAP_THRESHOLD, large)
            library.mallopt(_M_TRIM_THRESHOLD, kept)


def cpu_name() -> str:
    """The processor's name for the manifest."""
    for line in _cpuinfo().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    import platform

    return platform.processor() or platform.machine()


def _accelerator() -> str | None:
    """cuda or mps when torch can use it. Torch is asked only where a driver is in sight (its import costs seconds)."""
    try:
        cpu_build = version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return None
    if sys.platform == "linux" and (cpu_build or not list(Path("/dev").glob("nvidia[0-9]*"))):
        return None
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


@cache
def _cpu_has_bfloat16() -> bool:
    """Linux tells; where it does not, no."""
    return any(flag in _cpuinfo() for flag in ("avx512_bf16", "amx_bf16"))


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
