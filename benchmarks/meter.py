"""What a piece of work costs: wall seconds, processor seconds, and the most memory the process held meanwhile."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

T = TypeVar("T")
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Cost(NamedTuple):
    """Medians over the repeats; memory is the most over all of them."""

    wall: float
    cpu: float
    repeats: int
    peak: int
    """Bytes: the largest resident set."""
    beyond: int
    """Bytes by which it exceeded what was resident before."""


def measured(work: Callable[[], T], repeats: int, seconds: float, resident: int | None = None) -> tuple[T, Cost]:
    """Do the work `repeats` times, but no further once `seconds` are spent; the last outcome and the cost.

    `resident` is what counts as held before, in bytes; by default what the process holds now.
    """
    before = held("VmRSS") if resident is None else resident
    forget_peak()
    walls: list[float] = []
    cpus: list[float] = []
    while True:
        wall, cpu = time.perf_counter(), time.process_time()
        outcome = work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        if len(walls) >= repeats or sum(walls) >= seconds:
            break
    peak = held("VmHWM")
    return outcome, Cost(median(walls), median(cpus), len(walls), peak, max(0, peak - before))


def held(what: str) -> int:
    """Bytes resident now (`VmRSS`) or at most since the peak was forgotten (`VmHWM`).

    Where the system does not tell the two apart (macOS) both are the most there ever was.
    """
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def settle() -> int:
    """Hand back what loading left over, so that it does not hide what the work needs; bytes resident then."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    return held("VmRSS")


def forget_peak() -> None:
    """Let the peak start anew, where the system can."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return
