"""Counter-based random numbers, so that step n of a run draws the same whatever happened before it."""

from __future__ import annotations

import numpy as np


def keyed_generator(seed: int, number: int, purpose: int = 0) -> np.random.Generator:
    """A generator that depends on its key alone.

    Args:
        seed: of the run.
        number: of the step, crop or epoch.
        purpose: keeps unlike uses of the same number apart; a multiple of 2^40, above any seed.
    """
    return np.random.Generator(np.random.Philox(key=[purpose + seed, number]))
