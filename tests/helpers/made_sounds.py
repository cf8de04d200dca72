"""Sounds that tests make; numpy alone, so that other environments can make them as well."""

from __future__ import annotations

import numpy as np

NUM_SAMPLES = 468 * 256
"""Four windows of musicnn's, each 94 rows after the one before."""


def band(sample_rate: int = 16_000, num_samples: int = NUM_SAMPLES, seed: int = 0) -> np.ndarray:
    """[n] float32: decaying chords over a bass, a click on every beat, noise that swells; peaks near 0.5."""
    rng = np.random.default_rng(seed)
    time = np.arange(num_samples) / sample_rate
    sound = 0.01 * rng.standard_normal(num_samples) * (1 + np.sin(2 * np.pi * time / 5))
    for beat in range(int(num_samples / sample_rate / 0.5) + 1):
        since = time - beat * 0.5
        rings = np.where(since >= 0, np.exp(-3 * np.maximum(since, 0)), 0)
        root = 110 * 2 ** (rng.integers(0, 12) / 12)
        for number, partial in enumerate((1, 2, 2.52, 3, 4.01, 5.04)):
            sound += 0.06 / (1 + number / 2) * rings * np.sin(2 * np.pi * root * partial * since)
        clicks = np.where((since >= 0) & (since < 0.03), np.exp(-150 * np.maximum(since, 0)), 0)
        sound += 0.2 * clicks * rng.standard_normal(num_samples)
    return sound.astype(np.float32)
