"""Keys of a piece, bar by bar, from its notes."""

from __future__ import annotations

import numpy as np

_MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
_MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])
"""Krumhansl and Kessler's key profiles (1982)."""
_BASS_SHARE, _CHANGE, BLOCK_BARS = 0.5, 0.7, 8


def find_keys(sounding: np.ndarray, bass: np.ndarray) -> list[tuple[int, str]]:
    """The key of each bar: one, unless another fits clearly better over many bars.

    Args:
        sounding: [B, 12] how much each pitch class sounds in each bar.
        bass: [B, 12] the same of the bass alone; it weighs half as much again.

    Returns:
        (tonic as a pitch class, "major" or "minor") a bar.
    """
    profiles = np.stack([np.roll(profile, tonic) for profile in (_MAJOR, _MINOR) for tonic in range(12)])
    profiles = (profiles - profiles.mean(axis=1, keepdims=True)) / profiles.std(axis=1, keepdims=True)
    num_blocks = max(1, -(-len(sounding) // BLOCK_BARS))
    fits = np.zeros((num_blocks, 24))
    for block in range(num_blocks):
        rows = slice(block * BLOCK_BARS, (block + 1) * BLOCK_BARS)
        weights = _share(np.sqrt(_share(sounding[rows].sum(axis=0)))) + _BASS_SHARE * _share(bass[rows].sum(axis=0))
        if weights.std() > 1e-9:
            fits[block] = profiles @ ((weights - weights.mean()) / weights.std()) / 12
    # The path of keys with the best fit in all, each change of key at a price.
    best, came = fits[0], []
    for row in fits[1:]:
        changed = best.max() - _CHANGE
        came.append(np.where(best >= changed, np.arange(24), int(best.argmax())))
        best = np.maximum(best, changed) + row
    state = int(best.argmax())
    path = [state]
    for back in reversed(came):
        path.append(int(back[path[-1]]))
    names = [(state % 12, "major" if state < 12 else "minor") for state in reversed(path)]
    return [names[bar // BLOCK_BARS] for bar in range(len(sounding))]


def _share(weights: np.ndarray) -> np.ndarray:
    return np.asarray(weights / max(float(weights.sum()), 1e-9))
