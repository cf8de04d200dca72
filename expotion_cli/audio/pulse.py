"""Pulse: how regularly a sound's onsets return."""

from __future__ import annotations

import math

import numpy as np

from expotion_cli.audio.onsets import RATE_HZ

WINDOW_S, HOP_S = 5.0, 2.5
SLOWEST_BPM, FASTEST_BPM = 40.0, 240.0
COMPRESSION = 1000.0


def pulse_clarity(strength: np.ndarray, rate_hz: float = RATE_HZ) -> float:
    """How clearly music keeps a pulse: the autocorrelation of its onsets at the best beat period.

    Onset strength is log-compressed, so that one loud hit doesn't decide. In windows of 5 s its autocorrelation is
    normalised to 1 at lag 0; the windows' mean is taken lag by lag, and its maximum from 40 to 240 beats a minute is
    the result. (After the autocorrelation tempogram of Grosche, Mueller and Kurth 2010.)

    Args:
        strength: [T], from `audio.onsets.onset_strength`.
        rate_hz: rows a second.

    Returns:
        0..1. A metronome at 120 beats a minute reaches 0.9, because the windows end; human-composed music with a beat
        about 0.8 to 0.9. NaN for less than 3 s, 0 without onsets.
    """
    strength = np.asarray(strength, dtype=np.float64)
    shortest, longest = math.ceil(60 / FASTEST_BPM * rate_hz), math.floor(60 / SLOWEST_BPM * rate_hz)
    if len(strength) < 2 * longest:
        return math.nan
    if strength.max() <= 0:
        return 0.0
    size = min(len(strength), round(WINDOW_S * rate_hz))
    compressed = np.log1p(COMPRESSION * strength)
    returned = []
    for start in range(0, len(strength) - size + 1, round(HOP_S * rate_hz)):
        window = compressed[start : start + size]
        correlation = np.fft.irfft(np.abs(np.fft.rfft(window, 2 * size)) ** 2)[: longest + 1]
        returned.append(correlation / max(correlation[0], 1e-12))
    return float(np.clip(np.mean(returned, axis=0)[shortest:].max(), 0, 1))
