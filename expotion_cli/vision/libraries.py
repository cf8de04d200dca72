"""System libraries that the wheels of MediaPipe and OpenCV load but do not contain."""

from __future__ import annotations

import ctypes
import functools
import sys

SYSTEM_LIBRARIES = {
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libGLESv2.so.2": "libgles2",
    "libgthread-2.0.so.0": "libglib2.0-0",
}
"""Library -> the Debian package that holds it."""


@functools.cache
def missing_libraries() -> dict[str, str]:
    """Those of `SYSTEM_LIBRARIES` that can't be loaded here; empty on other systems than Linux."""
    if sys.platform != "linux":
        return {}
    missing = {}
    for library, package in SYSTEM_LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing[library] = package
    return missing
