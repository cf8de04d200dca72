"""Linear filters by Fourier transform: second-order sections and convolution, with numpy alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Section = tuple[float, float, float, float, float, float]
"""Numerator b0, b1, b2 and denominator a0, a1, a2 of a second-order section."""
_BLOCKS_AT_ONCE = 32


def high_pass(cutoff_hz: float, sample_rate: int, q: float = math.sqrt(0.5)) -> Section:
    """A second-order high-pass filter."""
    k = math.tan(math.pi * cutoff_hz / sample_rate)
    norm = 1 + k / q + k * k
    return (1 / norm, -2 / norm, 1 / norm, 1.0, 2 * (k * k - 1) / norm, (1 - k / q + k * k) / norm)


def low_pass(cutoff_hz: float, sample_rate: int) -> Section:
    """A second-order low-pass filter (Butterworth)."""
    k = math.tan(math.pi * cutoff_hz / sample_rate)
    norm = 1 + math.sqrt(2) * k + k * k
    gain = k * k / norm
    return (gain, 2 * gain, gain, 1.0, 2 * (k * k - 1) / norm, (1 - math.sqrt(2) * k + k * k) / norm)


def high_shelf(middle_hz: float, gain_db: float, sample_rate: int) -> Section:
    """A second-order shelf that lifts what lies above `middle_hz`, where it has half its gain."""
    gain, k, slope = 10 ** (gain_db / 20), math.tan(math.pi * middle_hz / sample_rate), math.sqrt(2)
    # Poles a quarter of the gain's octaves above the middle, zeros as far below: 1 at 0 Hz, `gain` at the top.
    up, down = k * gain**0.25, k / gain**0.25
    b = (gain * (1 + slope * down + down * down), 2 * gain * (down * down - 1), gain * (1 - slope * down + down * down))
    a = (1 + slope * up + up * up, 2 * (up * up - 1), 1 - slope * up + up * up)
    return (*b, *a)


def quick_length(length: int) -> int:
    """The least 2^a or 3 * 2^a that is not smaller: lengths that transform quickly."""
    power = 1 << max(0, length - 1).bit_length()
    return power * 3 // 4 if power * 3 // 4 >= length else power


def apply_sections(audio: np.ndarray, sections: list[Section], ring: int) -> np.ndarray:
    """Filter sound causally, from rest.

    Args:
        audio: [..., n] float32.
        sections: applied one after the other.
        ring: samples after which the filter's own response has died away.

    Returns:
        [..., n] float32.
    """
    filtered, first = np.empty(audio.shape, np.float32), 0
    for part in filtered_parts(audio, sections, ring):
        filtered[..., first : first + part.shape[-1]] = part
        first += part.shape[-1]
    return filtered


def filtered_parts(audio: np.ndarray, sections: list[Section], ring: int) -> Iterator[np.ndarray]:
    """What `apply_sections` gives, part by part, so that an hour of sound needs little memory.

    Args:
        audio: [..., n].
        sections: applied one after the other.
        ring: samples after which the filter's own response has died away.

    Yields:
        [..., m] float32, consecutive parts.
    """
    size = max(1024, 1 << (4 * ring - 1).bit_length())
    late = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)  # one sample later
    response = np.ones_like(late)
    for b0, b1, b2, a0, a1, a2 in sections:
        response *= (b0 + late * (b1 + late * b2)) / (a0 + late * (a1 + late * a2))
    response = response.astype(np.complex64)
    # Short blocks, each transformed with the `ring` samples before it, stay in the processor's cache.
    length, hop = audio.shape[-1], size - ring
    for first in range(0, length, _BLOCKS_AT_ONCE * hop):
        count = min(_BLOCKS_AT_ONCE, -(-(length - first) // hop))
        padded = np.zeros((*audio.shape[:-1], ring + count * hop), np.float32)
        given = audio[..., max(0, first - ring) : first + count * hop]
        begins = ring - min(ring, first)
        padded[..., begins : begins + given.shape[-1]] = given
        windows = sliding_window_view(padded, size, axis=-1)[..., ::hop, :]
        filtered = np.fft.irfft(np.fft.rfft(windows) * response, size)[..., ring:].astype(np.float32)
        yield filtered.reshape(*audio.shape[:-1], count * hop)[..., : length - first]


def convolve(audio: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Convolution of each channel with its response, as long as `audio`.

    Args:
        audio: [channels, n] float32.
        response: [channels, m] float32.
    """
    size = quick_length(audio.shape[-1] + response.shape[-1] - 1)
    spectrum = np.fft.rfft(audio, size) * np.fft.rfft(response, size)
    return np.fft.irfft(spectrum, size)[..., : audio.shape[-1]].astype(np.float32)


def folded(audio: np.ndarray, length: int) -> np.ndarray:
    """Sound [2, n] whose part beyond `length` samples is laid over its beginning, as where a loop repeats."""
    if audio.shape[1] <= length:
        return audio
    made = audio[:, :length].copy()
    for first in range(length, audio.shape[1], length):
        part = audio[:, first : first + length]
        made[:, : part.shape[1]] += part
    return made
