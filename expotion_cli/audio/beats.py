"""Beats and tempo of music, tracked over its onsets."""

from __future__ import annotations

import math

import numpy as np

from expotion_cli.audio.onsets import onset_strength

TRACK_RATE_HZ = 100.0
TEMPO_RANGE_BPM = (40.0, 240.0)
LIKELY_BPM, LIKELY_OCTAVES = 120.0, 1.0
TIGHTNESS = 100.0


def track_beats(audio: np.ndarray, sample_rate: int) -> tuple[np.ndarray, float]:
    """Track beats by dynamic programming over the onset strength (Ellis 2007, "Beat Tracking by Dynamic Programming").

    Args:
        audio: [n] or [channels, n].
        sample_rate: in Hz.

    Returns:
        ([n] seconds, tempo in beats a minute); no beats and NaN for sound without onsets.
    """
    strength = onset_strength(audio, sample_rate, TRACK_RATE_HZ).astype(np.float64)
    return beats_of(strength, TRACK_RATE_HZ)


def beats_of(strength: np.ndarray, rate_hz: float) -> tuple[np.ndarray, float]:
    """The same from an onset curve [T]."""
    bpm = tempo_of(strength, rate_hz)
    if not math.isfinite(bpm):
        return np.zeros(0), bpm
    period = 60 * rate_hz / bpm
    local = np.convolve(strength / strength.std(), np.exp(-0.5 * (np.arange(-4, 5) * 8 / period) ** 2), "same")
    steps = np.arange(-round(2 * period), -round(period / 2) + 1)
    cost = -TIGHTNESS * np.log(-steps / period) ** 2
    score, came_from = local.copy(), np.full(len(local), -1)
    for row in range(len(local)):
        places = row + steps
        inside = places >= 0
        if inside.any():
            reached = cost[inside] + score[places[inside]]
            best = int(reached.argmax())
            if reached[best] > 0:
                score[row] += reached[best]
                came_from[row] = places[inside][best]
    row = int(score.argmax())
    beats = []
    while row >= 0:
        beats.append(row)
        row = int(came_from[row])
    rows = np.array(beats[::-1])
    # Beats that the tracker continues before the music begins or after it has ended are dropped.
    loud = local[rows] >= 0.1 * local[rows].mean()
    first, last = np.flatnonzero(loud)[[0, -1]] if loud.any() else (0, -1)
    return rows[first : last + 1] / rate_hz, bpm


def tempo_of(strength: np.ndarray, rate_hz: float) -> float:
    """Tempo in beats a minute: where the onset curve returns most, tempos near 120 preferred; NaN if flat."""
    strength = np.asarray(strength, dtype=np.float64)
    if len(strength) < 2 * rate_hz or strength.std() < 1e-9:
        return math.nan
    change = strength - strength.mean()
    spectrum = np.fft.rfft(change, 2 * len(change))
    returns = np.fft.irfft(np.abs(spectrum) ** 2)[: len(change)]
    slowest, fastest = (60 * rate_hz / bpm for bpm in TEMPO_RANGE_BPM)
    lags = np.arange(math.ceil(fastest), min(math.floor(slowest), len(change) - 2) + 1)
    liking = np.exp(-0.5 * (np.log2(60 * rate_hz / lags / LIKELY_BPM) / LIKELY_OCTAVES) ** 2)
    lag = int(lags[(returns[lags] * liking).argmax()])
    before, at, after = returns[lag - 1 : lag + 2]
    bend = before - 2 * at + after
    offset = float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0
    return 60 * rate_hz / (lag + offset)
