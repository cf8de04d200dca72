"""Yardsticks: what needs no model. A bare rule laid over any music, a drum that follows the motion, a click track."""

from __future__ import annotations

import numpy as np

from expotion_cli.audio.loudness import loudness_curve
from expotion_cli.audio.onsets import RATE_HZ
from expotion_cli.spotting.visual_accents import SMOOTH_S, visual_accents

BPM = 120.0
QUIETEST_DB = -8.0
LOUD_PERCENTILE = 95
_HIT_S, _LEVEL = 0.03, 0.3
_DRUM_S, _DRUM_HZ, _DRUM_DB = 0.06, 180.0, 6.0


def lay_bare_rule(music: np.ndarray, sample_rate: int, motion: np.ndarray, motion_rate_hz: float) -> np.ndarray:
    """Make any music follow by a bare rule: the floor that every way of following has to beat.

    The music's gain goes from -8 dB where least moves to 0 dB where most does, and a drum is struck at each visual
    accent (`spotting.visual_accents`: at most one a second on average), its peak 6 dB above the music's loud moments.

    Args:
        music: [2, n] float32.
        sample_rate: in Hz.
        motion: [T] motion energy >= 0.
        motion_rate_hz: rows a second.

    Returns:
        [2, n] float32; may exceed ±1.
    """
    from scipy.ndimage import gaussian_filter1d

    length = music.shape[1]
    if not len(motion):
        return music.astype(np.float32)
    smooth = gaussian_filter1d(np.asarray(motion, np.float64), SMOOTH_S * motion_rate_hz, mode="nearest")
    share = (smooth - smooth.min()) / max(float(np.ptp(smooth)), 1e-12)
    times = np.arange(length) / sample_rate
    gain = 10 ** (QUIETEST_DB / 20 * (1 - np.interp(times, np.arange(len(share)) / motion_rate_hz, share)))
    loud_db = float(np.percentile(loudness_curve(music, sample_rate), LOUD_PERCENTILE))
    height = 10 ** ((loud_db + _DRUM_DB) / 20) if np.any(music) else _LEVEL
    strokes = _at(visual_accents(motion, motion_rate_hz), length, sample_rate, _drum(sample_rate))
    return (music * gain + height * strokes).astype(np.float32)


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
    length = round(5 * _HIT_S * sample_rate)
    decay = np.exp(-np.arange(length) / (_HIT_S * sample_rate))
    burst = (_LEVEL * decay * np.random.default_rng(0).uniform(-1, 1, length)).astype(np.float32)
    return np.tile(_at(times_s, round(duration_s * sample_rate), sample_rate, burst), (2, 1))


def _drum(sample_rate: int) -> np.ndarray:
    """[n] float32 of peak 1: a drum, half a falling tone, half noise."""
    t = np.arange(round(5 * _DRUM_S * sample_rate)) / sample_rate
    noise = np.random.default_rng(0).uniform(-1, 1, len(t))
    drum = np.exp(-t / _DRUM_S) * (np.sin(2 * np.pi * _DRUM_HZ * t) + noise)
    return (drum / np.abs(drum).max()).astype(np.float32)


def _at(times_s: np.ndarray, length: int, sample_rate: int, sound: np.ndarray) -> np.ndarray:
    """[length] float32: the sound [n] once at each moment."""
    track = np.zeros(length, np.float32)
    for time_s in times_s:
        part = track[round(time_s * sample_rate) :][: len(sound)]
        part += sound[: len(part)]
    return track
