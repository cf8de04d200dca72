"""Beats of music and of motion, and how they meet: coverage, hits, F1, beat alignment.

Moments are seconds on one clock. The scores are those of the dance-to-music papers, with their free parameters (bins,
width, what counts as a beat) stated here, because figures made with other values can't be compared.
"""

from __future__ import annotations

import math

import numpy as np

from expotion_cli.audio.onsets import RATE_HZ

BIN_S, WEAK_BIN_S = 0.2, 1.0
"""Beats count by bins of 0.2 s, as in 5-Hz versions of the scores. Most papers count by whole seconds: any dense music,
and a mere click track, meets all of those."""
KINEMATIC_SIGMA_S = 5 / 60
"""Smoothing of the speed before its minima are taken: five frames at 60 frames a second, as with AIST++."""
ALIGNMENT_SIGMA_S = 3 / 60
"""Width of the Gaussian of the alignment score: three frames at 60 frames a second, as with AIST++."""
TEMPO_TOLERANCE = 0.1
_TEMPO_OCTAVES = (0.25, 0.5, 1.0, 2.0, 4.0)
_MIN_DIP = 0.1


def kinematic_beats(speed: np.ndarray, rate_hz: float = RATE_HZ) -> np.ndarray:
    """Moments where motion comes to a stop or turns: local minima of the smoothed speed.

    Minima that lie less than 10 % below the lower of their neighbouring maxima are noise.

    Args:
        speed: [T] >= 0.
        rate_hz: rows a second.

    Returns:
        [n] seconds, rising.
    """
    speed = np.asarray(speed, dtype=np.float64)
    if len(speed) < 3 or speed.max() <= 0:
        return np.zeros(0)
    sigma = KINEMATIC_SIGMA_S * rate_hz
    reach = math.ceil(3 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    smooth = np.convolve(np.pad(speed, reach, mode="edge"), kernel / kernel.sum(), "valid")
    rows = 1 + np.flatnonzero((smooth[1:-1] < smooth[:-2]) & (smooth[1:-1] <= smooth[2:]))
    edges = [0, *rows.tolist(), len(smooth)]
    kept = []
    for index, row in enumerate(rows, 1):
        around = min(smooth[edges[index - 1] : row].max(), smooth[row : edges[index + 1]].max())
        if around - smooth[row] >= _MIN_DIP * around:
            kept.append(row)
    return np.array(kept, dtype=np.float64) / rate_hz


def meets_tempo(bpm: float, stated: tuple[float, float]) -> float:
    """Whether a tempo is the stated one, or an octave of it, within 10 % (Accuracy 2 of Gouyon et al. 2006).

    Args:
        bpm: the tempo found; NaN meets none.
        stated: (lowest, highest) that count, equal for a single tempo (`prompts.stated_tempo`).

    Returns:
        1 or 0.
    """
    if not math.isfinite(bpm):
        return 0.0
    slack = TEMPO_TOLERANCE + 1e-9
    low, high = stated[0] * (1 - slack), stated[1] * (1 + slack)
    return float(any(low <= bpm * octave <= high for octave in _TEMPO_OCTAVES))


def binned(times_s: np.ndarray, duration_s: float, bin_s: float = BIN_S) -> np.ndarray:
    """[B] bool: the bins of a clip that hold a moment."""
    bins = np.zeros(max(1, math.ceil(duration_s / bin_s - 1e-9)), bool)
    places = (np.asarray(times_s) / bin_s).astype(int)
    bins[places[(places >= 0) & (places < len(bins))]] = True
    return bins


def beat_scores(
    music_s: np.ndarray, true_s: np.ndarray, duration_s: float, bin_s: float = BIN_S
) -> tuple[float, float, float]:
    """Coverage, hit and F1 of the music's moments, against the true ones.

    Coverage is the number of the music's bins over that of the true ones (D2M-GAN's BCS: 1 is best, and it may be
    more), hit the share of the true ones that are met (BHS), F1 the harmonic mean of that share and of the share of
    the music's that meet a true one.

    Args:
        music_s: moments of the music.
        true_s: moments it should meet.
        duration_s: of what both have in common; moments beyond don't count.
        bin_s: length of the bins, `BIN_S` or `WEAK_BIN_S`.

    Returns:
        (coverage, hit, F1); NaN without any true moment.
    """
    music, true = binned(music_s, duration_s, bin_s), binned(true_s, duration_s, bin_s)
    if not true.any():
        return math.nan, math.nan, math.nan
    hits = int((music & true).sum())
    return float(music.sum() / true.sum()), float(hits / true.sum()), 2 * hits / int(music.sum() + true.sum())


def beat_alignment(to_s: np.ndarray, from_s: np.ndarray, sigma_s: float = ALIGNMENT_SIGMA_S) -> float:
    """Mean over `from_s` of exp(-d² / 2σ²), d being the distance to the nearest moment of `to_s`.

    With the motion's beats as `from_s` this is AIST++'s score, with the music's Bailando's.

    Returns:
        0..1; NaN without `from_s`, 0 without `to_s`.
    """
    if not len(from_s):
        return math.nan
    if not len(to_s):
        return 0.0
    nearest = np.abs(np.asarray(from_s)[:, None] - np.asarray(to_s)[None]).min(axis=1)
    return float(np.exp(-0.5 * (nearest / sigma_s) ** 2).mean())
