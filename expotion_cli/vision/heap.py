"""Gives memory that was freed back to the system.

glibc keeps what is freed below anything still in use. Networks take and free tens of megabytes a picture, in ever new
sizes, and between two pictures small things are kept (boxes, compiled products): the holes add up with the length of a
clip. Values don't depend on it. Other C libraries have no such call; nothing is done there.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable

EVERY_S = 10.0
"""So much of a clip is looked at between two calls; one takes milliseconds."""


def give_back() -> None:
    """Return free pages of all threads' heaps to the system."""
    if (trim := _trim()) is not None:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library, as musl
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return trim
