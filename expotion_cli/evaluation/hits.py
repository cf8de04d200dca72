"""Hits: whether the music accents the moments that a viewer sees as accents."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from expotion_cli.audio.onsets import RATE_HZ

SMOOTH_S, MIN_PROMINENCE, MIN_GAP_S, PER_SECOND = 0.04, 0.15, 0.3, 1.0
ACCENT_DEVIATIONS, TOLERANCE_S = 1.5, 0.1
NUM_TURNS, TURN_SEED = 200, 0


@dataclass(frozen=True)
class Hits:
    """Share of the visual accents that the music meets.

    Attributes:
        value: at the true place; NaN without visual accents.
        chance: mean over the music turned by random times.
        num_accents: number of visual accents.
    """

    value: float
    chance: float
    num_accents: int


def visual_accents(motion: np.ndarray, rate_hz: float = RATE_HZ) -> np.ndarray:
    """Salient accents of the picture: clear maxima of motion energy, at most one a second on average.

    Maxima of the energy (smoothed by a Gaussian of 40 ms) whose prominence is at least 15 % of its range, at least
    0.3 s apart; of more than one a second the strongest are kept.

    Args:
        motion: [T] >= 0, e.g. from `spotting.activity.motion_energy`.
        rate_hz: rows a second.

    Returns:
        [n] seconds, rising.
    """
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks

    motion = np.asarray(motion, dtype=np.float64)
    if len(motion) < 3 or np.ptp(motion) <= 0:
        return np.zeros(0)
    smooth = gaussian_filter1d(motion, SMOOTH_S * rate_hz, mode="nearest")
    rows, _ = find_peaks(smooth, prominence=MIN_PROMINENCE * np.ptp(smooth), distance=MIN_GAP_S * rate_hz)
    most = max(1, round(PER_SECOND * len(motion) / rate_hz))
    strongest = rows[np.argsort(-smooth[rows], kind="stable")[:most]]
    return np.sort(strongest) / rate_hz


def musical_accents(strength: np.ndarray, rate_hz: float = RATE_HZ) -> np.ndarray:
    """[n] seconds: local maxima of onset strength at least 1.5 standard deviations above its mean.

    Args:
        strength: [T], from `audio.onsets.onset_strength`.
        rate_hz: rows a second.
    """
    strength = np.asarray(strength, dtype=np.float64)
    if len(strength) < 3 or strength.std() <= 0:
        return np.zeros(0)
    padded = np.pad(strength, 1)
    is_peak = (strength >= padded[:-2]) & (strength > padded[2:])
    return np.flatnonzero(is_peak & (strength >= strength.mean() + ACCENT_DEVIATIONS * strength.std())) / rate_hz


def hits(
    visual_s: np.ndarray, strength: np.ndarray, rate_hz: float = RATE_HZ, *, tolerance_s: float = TOLERANCE_S
) -> Hits:
    """Share of the visual accents with a musical accent within 0.1 s, and the same after turning the music.

    Args:
        visual_s: [n] seconds, from `visual_accents`.
        strength: [T] onset strength of the music.
        rate_hz: rows a second.
        tolerance_s: farthest distance that counts as met.
    """
    visual_s = np.asarray(visual_s, dtype=np.float64)
    if not len(visual_s):
        return Hits(math.nan, math.nan, 0)
    duration_s = len(strength) / rate_hz
    music_s = musical_accents(strength, rate_hz)
    turns_s = np.random.default_rng(TURN_SEED).uniform(0, duration_s, NUM_TURNS)
    turned = [_share_met(visual_s, np.sort((music_s + turn) % duration_s), tolerance_s) for turn in turns_s]
    return Hits(_share_met(visual_s, music_s, tolerance_s), float(np.mean(turned)), len(visual_s))


def _share_met(visual_s: np.ndarray, music_s: np.ndarray, tolerance_s: float) -> float:
    if not len(music_s):
        return 0.0
    nearest = np.abs(visual_s[:, None] - music_s[None]).min(axis=1)
    return float((nearest <= tolerance_s + 1e-9).mean())
