"""Stereo reverb: a synthetic impulse response, and convolution with it."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from expotion_cli.audio.filters import convolve, quick_length

_PRE_DELAY_S = 0.022
_BUILD_UP_S = 0.03
_BAND_EDGES_HZ = (160.0, 500.0, 1600.0, 4500.0, 9000.0)
_BAND_DECAY = (0.85, 1.1, 1.0, 0.75, 0.45, 0.25)
"""Each band's reverberation time relative to the nominal one: high frequencies are absorbed sooner."""
_BAND_GAIN_DB = (-9.0, -1.0, 0.0, -2.0, -6.0, -14.0)
# First reflections: milliseconds after the pre-delay, gain, and position (-1 left .. 1 right).
_REFLECTIONS = ((0.0, 0.9, -0.5), (5.3, -0.8, 0.6), (11.9, 0.7, 0.9), (17.1, 0.6, -0.9), (26.7, -0.5, 0.2),
                (34.3, 0.45, -0.4), (43.9, -0.35, 0.7), (57.1, 0.3, -0.7))  # fmt: skip


@lru_cache(maxsize=8)
def impulse_response(reverb_s: float, sample_rate: int) -> np.ndarray:
    """Impulse response of a room.

    Exponentially decaying noise, independent left and right, whose high bands fade sooner, after a pre-delay and a
    few early reflections. Always the same for the same arguments.

    Args:
        reverb_s: seconds in which the middle of the spectrum falls by 60 dB.
        sample_rate: of the response.

    Returns:
        [2, n] float32, each channel of unit energy.
    """
    length = tail_samples(reverb_s, sample_rate)
    # numpy promises that this generator's numbers never change, which default_rng's may.
    noise = np.random.RandomState(1977).standard_normal((2, length))
    size = quick_length(length)
    spectrum = np.fft.rfft(noise, size)
    frequency = np.fft.rfftfreq(size, 1 / sample_rate)
    time = np.arange(length) / sample_rate - _PRE_DELAY_S
    tail = np.zeros((2, length))
    octave = np.log2(np.maximum(frequency, 1.0))
    edges = [math.log2(edge) for edge in _BAND_EDGES_HZ]
    for band, (decay, gain_db) in enumerate(zip(_BAND_DECAY, _BAND_GAIN_DB, strict=True)):
        # Bands overlap by an octave and sum to one.
        above = np.clip(octave - edges[band - 1] + 0.5, 0, 1) if band else 1.0
        below = np.clip(octave - edges[band] + 0.5, 0, 1) if band < len(edges) else 0.0
        shaped = np.fft.irfft(spectrum * (above - below), size)[:, :length]
        tail += shaped * 10 ** (gain_db / 20) * np.exp(-np.maximum(time, 0) * math.log(1000) / (decay * reverb_s))
    tail *= np.clip(time / _BUILD_UP_S, 0, 1) ** 0.5
    fade = max(1, round(0.05 * sample_rate))
    tail[:, -fade:] *= np.linspace(1, 0, fade)
    tail /= np.sqrt((tail**2).sum(axis=1, keepdims=True))
    early = np.zeros((2, length))
    for delay_ms, gain, position in _REFLECTIONS:
        index = round((_PRE_DELAY_S * 0.4 + delay_ms / 1000) * sample_rate)
        if index < length:
            angle = (position + 1) * math.pi / 4
            early[:, index] += gain * np.array([math.cos(angle), math.sin(angle)])
    early /= np.sqrt((early**2).sum(axis=1, keepdims=True)) * 2.5
    response = tail + early
    response /= np.sqrt((response**2).sum(axis=1, keepdims=True))
    return response.astype(np.float32)


def tail_samples(reverb_s: float, sample_rate: int) -> int:
    """Length of the impulse response."""
    return round((_PRE_DELAY_S + _BUILD_UP_S + 1.15 * reverb_s) * sample_rate) if reverb_s > 0 else 0


def reverberate(send: np.ndarray, reverb_s: float, sample_rate: int) -> np.ndarray:
    """The reverberation of a dry signal.

    Args:
        send: [2, n] float32, the dry signal.
        reverb_s: reverberation time; 0 gives silence.
        sample_rate: of `send`.

    Returns:
        [2, n] float32, the reverberation alone.
    """
    if reverb_s <= 0 or not send.any():
        return np.zeros_like(send)
    return convolve(send, impulse_response(reverb_s, sample_rate))
