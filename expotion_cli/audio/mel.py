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
    return _triangles(bins_hz, 700 * (10 ** (np.linspace(lowest, highest, count + 2) / 2595) - 1))


def slaney_triangles(bins_hz: np.ndarray, lowest_hz: float, highest_hz: float, count: int) -> np.ndarray:
    """Triangles of area 1 Hz, evenly spaced on Slaney's mel scale (Auditory Toolbox, 1998), librosa's default.

    The scale is linear up to 1 kHz, which is 15 mel, and logarithmic above, 27 mel for a factor of 6.4.

    Args:
        bins_hz: [bins] frequencies of a spectrum.
        lowest_hz: where the first begins.
        highest_hz: where the last ends.
        count: of bands.

    Returns:
        [count, bins] float64; a band narrower than the bins may be all zeros.
    """
    ends = np.array([lowest_hz, highest_hz])
    lowest, highest = np.where(ends < 1000, ends * 0.015, 15 + 27 * np.log(np.maximum(ends, 1) / 1000) / np.log(6.4))
    mels = np.linspace(lowest, highest, count + 2)
    edges = np.where(mels < 15, mels / 0.015, 1000 * 6.4 ** ((mels - 15) / 27))
    return _triangles(bins_hz, edges) * (2 / (edges[2:] - edges[:-2]))[:, None]


def _triangles(bins_hz: np.ndarray, edges: np.ndarray) -> np.ndarray:
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.maximum(0, np.minimum((bins_hz - low) / (middle - low), (high - bins_hz) / (high - middle)))
