"""Rungs that crash, hang or fill memory, made up and given to worker processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from expotion_cli.errors import ClipError
from expotion_cli.scoring.workers import TRIES, clip_workers

LIMIT_S = 1.0
ENOUGH_S = 120.0
"""For rungs that end by themselves, on any machine."""
MEMORY_BYTES = 1 << 30
SLACK_S = 10.0
"""For starting a process again, on a busy machine."""
_MIB = 1 << 20


def crash() -> None:
    """As a broken decoder does."""
    os.kill(os.getpid(), signal.SIGSEGV)


def leave() -> None:
    """As a library does that calls exit()."""
    os._exit(3)


def sleep() -> None:
    """Wait for what never comes."""
    time.sleep(3600)


def spin() -> None:
    """Work for ever without giving another thread of Python a turn."""
    re.match(r"(x+x+)+y", "x" * 64)


def start_child() -> None:
    """Wait for a program that never ends."""
    subprocess.run([sys.executable, "-c", "import time; time.sleep(3600)"])


def fill() -> int:
    """Take more and more memory."""
    kept = []
    while True:
        kept.append(np.ones(64 * _MIB, dtype=np.uint8))


def fill_at_once() -> int:
    """Take far too much memory."""
    return int(np.ones(64 << 30, dtype=np.uint8)[-1])


RUNAWAYS: tuple[tuple[Callable[[], object], str], ...] = (
    (crash, "ended its process (signal SIGSEGV)"),
    (leave, "ended its process (exit code 3)"),
    (sleep, "took longer than 1 s"),
    (spin, "took longer than 1 s"),
    (start_child, "took longer than 1 s"),
    (fill, "needs more memory than the 1 GiB"),
    (fill_at_once, "needs more memory than the 1 GiB"),
)
"""Rungs, and what the clip's failure must say."""


def runaways() -> dict[str, Any]:
    """Give each of `RUNAWAYS` to a worker, with one healthy rung after it."""
    violations, rows = [], []
    executor = clip_workers(memory_bytes=MEMORY_BYTES)
    try:
        executor.submit("see", os.getpid).result()  # the first start is not part of any limit
        for rung, expected in RUNAWAYS:
            clip, started = Path(f"{rung.__name__}.mp4"), time.monotonic()
            limit_s = LIMIT_S if "took longer" in expected else ENOUGH_S
            bad = executor.submit("see", rung, path=clip, limit_s=limit_s)
            good = executor.submit("see", abs, -1, path=Path("good.mp4"))
            error = bad.exception()
            took_s = time.monotonic() - started
            if not isinstance(error, ClipError) or error.path != clip or expected not in str(error):
                violations.append(f"{rung.__name__}: {error!r}")
            if took_s > TRIES * limit_s + SLACK_S:
                violations.append(f"{rung.__name__}: it took {took_s:.1f} s")
            if good.result() != 1:
                violations.append(f"{rung.__name__}: the next clip was harmed")
            rows.append({"rung": rung.__name__, "took_s": round(took_s, 2), "said": str(error)})
    finally:
        executor.close()
    return {"limit_s": LIMIT_S, "memory_bytes": MEMORY_BYTES, "runaways": rows, "violations": violations}
