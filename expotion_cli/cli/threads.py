"""How the threads of matrix products wait."""

from __future__ import annotations

import os


def set_waiting() -> None:
    """Let threads spin for a moment between two products and sleep after; to be called before torch is imported.

    A step of a large decoder is hundreds of products, microseconds apart: threads that go to sleep after each cost more
    than they save. Threads that spin much longer would take the processor from those that look and encode. What the
    user has set stays. The variable is that of GNU's OpenMP, which torch brings on Linux; others overlook it.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "100000"
