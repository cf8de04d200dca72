"""How OpenMP threads wait between matrix products."""

from __future__ import annotations

import os


def set_waiting() -> None:
    """Let threads spin briefly between two products, then sleep. Call it before torch is imported.

    A step of a large decoder is hundreds of products, microseconds apart: threads that sleep after each lose more time
    than they save. Threads that spin much longer take the CPU from the encoders. The user's own settings stay. The
    variable belongs to GNU OpenMP, which torch brings on Linux; other runtimes ignore it.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "100000"
