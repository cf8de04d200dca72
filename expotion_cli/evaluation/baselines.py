"""Simple baselines to compare figures with: a bare rule that strikes where there is motion, and a metronome."""

from __future__ import annotations

import numpy as np

from expotion_cli.audio.onsets import RATE_HZ

RULE, METRONOME = "bare rule", "metronome"
BPM = 120.0
_HIT_S, _LEVEL = 0.03, 0.3


def rule_times(motion: np.ndarray, duration_s: float, rate_hz: float = RATE_HZ) -> np.ndarray:
    """The sixteenths (at 120 bpm) at which more moves than on average. [n] seconds.

    It has no melody and no form: an upper bound for plain following, not for music.
    """
    grid = np.arange(0, duration_s, 60 / BPM / 4)
    if not len(motion):
        return grid[:0]
    rows = np.clip(np.rint(grid * rate_hz).astype(int), 0, len(motion) - 1)
    return grid[motion[rows] > np.mean(motion)]


def metronome_times(duration_s: float) -> np.ndarray:
    """Every beat at 120 bpm, from the first frame on: steady time without any picture. [n] seconds."""
    return np.arange(0, duration_s, 60 / BPM)


def strike(times_s: np.ndarray, duration_s: float, sample_rate: int) -> np.ndarray:
    """[2, n] float32: a short burst of noise, always the same, at each moment."""
    audio = np.zeros((2, round(duration_s * sample_rate)), np.float32)
    length = round(5 * _HIT_S * sample_rate)
    decay = np.exp(-np.arange(length) / (_HIT_S * sample_rate))
    burst = (_LEVEL * decay * np.random.default_rng(0).uniform(-1, 1, length)).astype(np.float32)
    for time_s in times_s:
        first = round(time_s * sample_rate)
        part = audio[:, first : first + length]
        part += burst[: part.shape[1]]
    return audio
