"""How loud a sound is, moment by moment."""

from __future__ import annotations

import math

import numpy as np

from expotion_cli.audio.onsets import RATE_HZ


def loudness_curve(audio: np.ndarray, sample_rate: int, rate_hz: float = RATE_HZ) -> np.ndarray:
    """[T] float32: level of each row's stretch of sound in dB below full scale, never under -60."""
    audio = np.atleast_2d(np.asarray(audio, dtype=np.float32))
    num_rows = math.ceil(audio.shape[1] * rate_hz / sample_rate)
    edges = np.rint(np.arange(num_rows + 1) * sample_rate / rate_hz).astype(int)
    edges = np.minimum(edges, audio.shape[1])
    power = np.concatenate([[0.0], np.cumsum((audio.astype(np.float64) ** 2).mean(axis=0))])
    means = np.diff(power[edges]) / np.maximum(np.diff(edges), 1)
    return (10 * np.log10(np.maximum(means, 1e-6))).astype(np.float32)
