"""Memory of a training on a processor: the same large arrays come and go at every step."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_memory() -> None:
    """Have the C library keep large arrays for the next step instead of handing them back, where it is glibc.

    Fresh memory must be filled with zeros by the system first, at every step anew: a third of the time of a step.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            library.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
