"""Hits: whether the music accents given moments, beside what it would meet by chance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from expotion_cli.audio.onsets import RATE_HZ

ACCENT_DEVIATIONS, TOLERANCE_S = 1.5, 0.1
NUM_TURNS, TURN_SEED = 200, 0


@dataclass(frozen=True)
class Hits:
    """Share of given moments that the music meets.

    Attributes:
        value: at the true place; NaN without moments.
        chance: mean over the music turned by random times.
        num_moments: how many there are.
    """

    value: float
    chance: float
    num_moments: int


def musical_accents(strength: np.ndarray, rate_hz: float = RATE_HZ) -> np.ndarray:
    """[n] seconds: local maxima of onset strength at least 1.5 standard deviations above its mean.

    Args:
        strength: [T], from `audio.onsets.onset_strength`.
        rate_hz: rows a second.
    """
    strength = np.asarray(strength, dtype=np.float64)
    if len(strength) < 3 or strength.std() <= 0:
        return np.zeros(0)
    return (
        np.flatnonzero(is_peak(strength) & (strength >= strength.mean() + ACCENT_DEVIATIONS * strength.std())) / rate_hz
    )


def is_peak(strength: np.ndarray) -> np.ndarray:
    """[T] bool: rows of a curve [T] >= 0 that are higher than the next and no lower than the one before."""
    padded = np.pad(strength, 1)
    return np.asarray((strength >= padded[:-2]) & (strength > padded[2:]))


def hits(
    moments_s: np.ndarray, strength: np.ndarray, rate_hz: float = RATE_HZ, *, tolerance_s: float = TOLERANCE_S
) -> Hits:
    """Share of the moments with a musical accent within 0.1 s, and the same after turning the music.

    Args:
        moments_s: [n] seconds: visual accents (`spotting.visual_accents`), or hit points.
        strength: [T] onset strength of the music.
        rate_hz: rows a second.
        tolerance_s: farthest distance that counts as met.
    """
    moments_s = np.asarray(moments_s, dtype=np.float64)
    if not len(moments_s):
        return Hits(math.nan, math.nan, 0)
    duration_s = len(strength) / rate_hz
    music_s = musical_accents(strength, rate_hz)
    turns_s = np.random.default_rng(TURN_SEED).uniform(0, duration_s, NUM_TURNS)
    turned = [share_met(moments_s, np.sort((music_s + turn) % duration_s), tolerance_s) for turn in turns_s]
    return Hits(share_met(moments_s, music_s, tolerance_s), float(np.mean(turned)), len(moments_s))


def share_met(moments_s: np.ndarray, music_s: np.ndarray, tolerance_s: float = TOLERANCE_S) -> float:
    """Share of the moments with one of the music's within the tolerance; NaN without moments. Both [n] seconds."""
    if not len(moments_s):
        return math.nan
    if not len(music_s):
        return 0.0
    nearest = np.abs(moments_s[:, None] - music_s[None]).min(axis=1)
    return float((nearest <= tolerance_s + 1e-9).mean())
