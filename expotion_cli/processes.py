"""Processes of our own: that none outlives its parent, and what each may take of the machine."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

PARENT_CHECK_S = 1.0
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """End this process as soon as its parent is gone, even if it is stopped by then; call it first thing in a child.

    Linux does it by itself; elsewhere a thread looks for the parent, which a stopped process can't.
    """
    parent = os.getppid()
    if sys.platform.startswith("linux"):
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it ended before this was set
                os._exit(1)
            return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


@contextlib.contextmanager
def beyond_interrupts() -> Iterator[None]:
    """Start children in here which call `ignore_interrupts`: Ctrl-C, which a terminal sends to them as well, waits.

    Python would end a child that is still loading, with a traceback. Where signals can't be held back, nothing happens.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # begun later, by the first child, it would let signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent, from a child's first moment on (`beyond_interrupts`)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # what waited is dropped


def limit_memory(num_bytes: int | None) -> None:
    """Let this process, and those it starts from now on, hold so much data in memory; where the system can't, nothing.

    More raises MemoryError in Python and ends other programs' allocations.

    Args:
        num_bytes: private memory that can be written, in bytes; None takes the limit away.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = resource.RLIM_INFINITY if num_bytes is None else num_bytes
    if hard != resource.RLIM_INFINITY and (wanted == resource.RLIM_INFINITY or wanted > hard):
        wanted = hard
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def physical_memory() -> int:
    """Bytes of memory that the machine has."""
    import psutil

    return int(psutil.virtual_memory().total)
