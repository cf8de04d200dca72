"""Pitch classes of a sound, and the key they point to."""

from __future__ import annotations

import numpy as np

# How well each pitch class fits a major key on C, and a minor one: the probe-tone ratings of Krumhansl and Kessler,
# "Tracing the dynamic changes in perceived tonal organization", Psychological Review 89, 1982.
MAJOR_PROFILE = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR_PROFILE = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)
HIGHEST_HZ = 4000.0


def chroma(power: np.ndarray, sample_rate: int, *, lowest_hz: float = 80.0, even_octaves: bool = True) -> np.ndarray:
    """Share of each pitch class of a power spectrogram.

    Args:
        power: [T, bins].
        sample_rate: in Hz.
        lowest_hz: bins from here to 4 kHz count.
        even_octaves: weight each bin by 1 / frequency, so that high octaves, which have more bins, count no more.

    Returns:
        [12] float64, 0 is C, sum 1; equal shares for silence.
    """
    bins_hz = np.fft.rfftfreq(2 * (power.shape[1] - 1), 1 / sample_rate)
    kept = (bins_hz >= lowest_hz) & (bins_hz <= HIGHEST_HZ)
    classes = np.rint(12 * np.log2(bins_hz[kept] / 440) + 9).astype(int) % 12
    # Roots of the power, so that the loudest moments don't decide alone.
    weights = np.sqrt(power[:, kept]).sum(axis=0)
    if even_octaves:
        weights = weights / bins_hz[kept]
    shares = np.bincount(classes, weights, minlength=12)
    total = shares.sum()
    return shares / total if total > 0 else np.full(12, 1 / 12)


def find_key(shares: np.ndarray) -> tuple[int, bool]:
    """The key whose profile correlates best with a chroma (Krumhansl-Schmuckler).

    Args:
        shares: [12] from `chroma`.

    Returns:
        (pitch class of the tonic, whether minor).
    """
    fits = key_fits(shares)
    return max(fits, key=lambda key: fits[key])


def key_fits(shares: np.ndarray) -> dict[tuple[int, bool], float]:
    """How well each key fits: (pitch class of the tonic, whether minor) → correlation of its profile with a chroma.

    Args:
        shares: [12] from `chroma`.
    """
    return {
        (tonic, minor): float(np.corrcoef(np.roll(profile, tonic), shares + 1e-9 * np.arange(12))[0, 1])
        for minor, profile in ((False, MAJOR_PROFILE), (True, MINOR_PROFILE))
        for tonic in range(12)
    }
