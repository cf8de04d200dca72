"""Returns freed memory to the system.

glibc keeps what is freed below anything still in use. Networks allocate and free tens of megabytes a frame, in varying
sizes, and small things are kept from frame to frame (boxes, compiled products), so the holes add up over a long clip.
Values don't depend on it. Other C libraries have no such call; nothing is done there.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable

RELEASE_EVERY_S = 10.0
"""Seconds of a clip between two calls of `release_free`, which takes milliseconds."""


def release_free() -> None:
    """Return free pages of all threads' heaps to the system."""
    if (trim := _malloc_trim()) is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library, as musl
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return trim
