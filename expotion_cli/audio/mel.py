"""Bands of the mel scale."""

from __future__ import annotations

import numpy as np


def triangles(bins_hz: np.ndarray, lowest_hz: float, highest_hz: float, count: int) -> np.ndarray:
    """Triangles of height 1, evenly spaced on the mel scale (HTK's), each from one neighbour's middle to the other's.

    Args:
        bins_hz: [bins] frequencies of a spectrum.
        lowest_hz: where the first begins.
        highest_hz: where the last ends.
        count: of bands.

    Returns:
        [count, bins] float64; a band narrower than the bins may be all zeros.
    """
    lowest, highest = 2595 * np.log10(1 + np.array([lowest_hz, highest_hz]) / 700)
    edges = 700 * (10 ** (np.linspace(lowest, highest, count + 2) / 2595) - 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.maximum(0, np.minimum((bins_hz - low) / (middle - low), (high - bins_hz) / (high - middle)))
