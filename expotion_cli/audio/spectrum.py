"""Power spectra of short windows, and where a spectrum has its centre."""

from __future__ import annotations

import math

import numpy as np

_BLOCK_ROWS = 512
_CENTROID_WINDOW = 4096


def power_spectrogram(mono: np.ndarray, size: int, starts: np.ndarray) -> np.ndarray:
    """Power spectra of Hann windows (periodic), unscaled.

    Args:
        mono: [n] float32; every window lies inside.
        size: samples in a window.
        starts: [T] first sample of each window.

    Returns:
        [T, size // 2 + 1] float32.
    """
    shape = np.hanning(size + 1)[:-1].astype(np.float32)
    power = np.empty((len(starts), size // 2 + 1), np.float32)
    for first in range(0, len(starts), _BLOCK_ROWS):  # in blocks, so that an hour of sound needs little memory
        places = starts[first : first + _BLOCK_ROWS, None] + np.arange(size)
        power[first : first + len(places)] = np.abs(np.fft.rfft(mono[places] * shape)) ** 2
    return power


def spectral_centroid(audio: np.ndarray, sample_rate: int) -> float:
    """Mean frequency of the whole sound, weighted by power: how bright it is.

    Args:
        audio: [channels, n]; channels are averaged.
        sample_rate: in Hz.

    Returns:
        Hz; NaN for silence.
    """
    mono = audio.mean(axis=0)
    mono = np.pad(mono, (0, -len(mono) % _CENTROID_WINDOW)).reshape(-1, _CENTROID_WINDOW)
    shape = np.hanning(_CENTROID_WINDOW).astype(np.float32)
    power = np.zeros(_CENTROID_WINDOW // 2 + 1)
    for first in range(0, len(mono), 256):
        power += (np.abs(np.fft.rfft(mono[first : first + 256] * shape)) ** 2).sum(axis=0)
    power[0] = 0.0  # a DC offset is not a tone
    total = power.sum()
    return float(np.fft.rfftfreq(_CENTROID_WINDOW, 1 / sample_rate) @ power / total) if total > 0 else math.nan
