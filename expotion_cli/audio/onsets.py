"""Onset strength: when something new begins to sound, and how strongly."""

from __future__ import annotations

import math

import numpy as np

from expotion_cli.audio import mel

RATE_HZ = 50.0
_NUM_BANDS, _LOWEST_HZ, _HIGHEST_HZ = 48, 40.0, 16_000.0
_LOUDNESS_SLOPE = 1000.0  # bands 60 dB below the loudest moment still count, fainter ones fade out
_WINDOW_ROWS, _LEAD_ROWS = 3, 0.25
_LOOK_BACK_ROWS = 5  # beating and vibrato come back to where they were, an attack rises above it
_BLOCK_ROWS = 1024
_MIN_GAP_S = 0.06


def onset_strength(audio: np.ndarray, sample_rate: int, rate_hz: float = RATE_HZ) -> np.ndarray:
    """Spectral flux (Bello et al. 2005, section III-B): how far mel bands rise above their last five rows.

    Windows of three rows, centred a quarter of a row before their row's time, because a sharp attack shows as soon as
    a window reaches it; clicks are found some 10 ms early, slow attacks some 20 ms late. Before the first row there is
    silence, so music that begins at 0 has an onset there. The measure does not change with the level of the whole.

    Args:
        audio: [n] or [channels, n]; channels are averaged.
        sample_rate: in Hz.
        rate_hz: rows a second.

    Returns:
        [T] float32 >= 0, mean over the bands of the rises of log loudness; T covers all samples.
    """
    mono = np.atleast_2d(np.asarray(audio, dtype=np.float32)).mean(axis=0)
    num_rows = max(1, math.ceil(len(mono) * rate_hz / sample_rate))
    size = max(16, round(_WINDOW_ROWS * sample_rate / rate_hz))
    spectrum_size = 1 << (size - 1).bit_length()
    bands = mel_bands(spectrum_size, sample_rate)
    shape = np.hanning(size + 2)[1:-1].astype(np.float32)
    centres = np.rint(np.arange(num_rows) * sample_rate / rate_hz).astype(int)
    padded = np.pad(mono, (size // 2 + round(_LEAD_ROWS * sample_rate / rate_hz), size))
    levels = np.empty((num_rows, len(bands)), np.float32)
    for first in range(0, num_rows, _BLOCK_ROWS):
        places = centres[first : first + _BLOCK_ROWS, None] + np.arange(size)
        magnitudes = np.abs(np.fft.rfft(padded[places] * shape, spectrum_size))
        levels[first : first + len(places)] = magnitudes.astype(np.float32) @ bands.T
    loudest = levels.max()
    if loudest <= 0:
        return np.zeros(num_rows, np.float32)
    loudness = np.log1p(_LOUDNESS_SLOPE * levels / loudest)
    before = np.pad(loudness, ((_LOOK_BACK_ROWS, 0), (0, 0)))
    highest = np.lib.stride_tricks.sliding_window_view(before, _LOOK_BACK_ROWS, axis=0).max(axis=-1)[:num_rows]
    return np.maximum(loudness - highest, 0).mean(axis=1)


def mel_bands(spectrum_size: int, sample_rate: int) -> np.ndarray:
    """[bands, bins] float32 triangles, evenly spaced on the mel scale, each of sum 1; empty ones are left out."""
    top = min(_HIGHEST_HZ, sample_rate / 2)
    bands = mel.triangles(np.fft.rfftfreq(spectrum_size, 1 / sample_rate), _LOWEST_HZ, top, _NUM_BANDS)
    sums = bands.sum(axis=1, keepdims=True)
    kept = sums[:, 0] > 0
    return (bands[kept] / sums[kept]).astype(np.float32)


def onset_times(strength: np.ndarray, rate_hz: float = RATE_HZ, threshold: float = 1.5) -> np.ndarray:
    """Moments where a curve peaks clearly: local maxima well above the curve's mean.

    Args:
        strength: [T], from `onset_strength`, or a curve of accents.
        rate_hz: rows a second.
        threshold: how many times the curve's mean a peak must pass.

    Returns:
        [n] seconds, rising, at least 0.06 s apart, refined between rows.
    """
    strength = np.asarray(strength, dtype=np.float64)
    if len(strength) == 0 or strength.max() <= 0:
        return np.zeros(0)
    reach = max(1, math.ceil(_MIN_GAP_S * rate_hz) - 1)
    padded = np.pad(strength, reach, constant_values=-np.inf)
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    # The first of equal neighbours is the peak, so no plateau counts twice.
    highest = (strength >= around.max(axis=1)) & (strength > around[:, :reach].max(axis=1))
    rows = np.flatnonzero(highest & (strength > threshold * strength.mean()))
    before, after = (np.pad(strength, 1)[rows + d] for d in (0, 2))
    bend = before - 2 * strength[rows] + after
    offset = np.where(bend < 0, (before - after) / (2 * np.minimum(bend, -1e-12)), 0.0)
    offset[rows == 0] = 0.0  # nothing is known of what would stand before
    return (rows + np.clip(offset, -0.5, 0.5)) / rate_hz
