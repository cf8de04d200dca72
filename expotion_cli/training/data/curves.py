"""What people move to in music, as curves: hits, pulse and level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from expotion_cli.audio.loudness import loudness_curve
from expotion_cli.audio.onsets import RATE_HZ, onset_strength

VERSION = "1"
"""Raised when the same sound comes to give other curves."""
_SPAN_S, _HOP_S = 6.0, 0.5
_SLOWEST_BPM, _FASTEST_BPM = 45.0, 200.0
_PREFERRED_BPM, _PREFERENCE_OCTAVES = 105.0, 1.0


@dataclass(frozen=True)
class MusicCurves:
    """Curves of a piece of music; row i is at i / RATE_HZ seconds.

    Attributes:
        hits: [T] float32, 0..2: onset strength; 1 is a clear hit in this piece (95th percentile of its peaks).
        pulse: [T] float32, 0..1: high on beats, and the higher the steadier they are.
        level: [T] float32, 0..1: loudness, from 30 dB below the piece's loud moments (0) up to them (1).
    """

    hits: np.ndarray
    pulse: np.ndarray
    level: np.ndarray

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.hits) / RATE_HZ

    def tensors(self) -> dict[str, np.ndarray]:
        """The curves by name, for storing."""
        return {"hits": self.hits, "pulse": self.pulse, "level": self.level}

    @staticmethod
    def from_tensors(tensors: Mapping[str, np.ndarray]) -> MusicCurves:
        """The inverse of `tensors`."""
        return MusicCurves(tensors["hits"], tensors["pulse"], tensors["level"])

    def between(self, start_s: float, stop_s: float) -> MusicCurves:
        """The stretch from `start_s` to `stop_s`; silence outside the piece."""
        first, last = round(start_s * RATE_HZ), round(stop_s * RATE_HZ)

        def cut(curve: np.ndarray) -> np.ndarray:
            part = curve[max(0, first) : max(0, last)]
            return np.pad(part, (max(0, -first), max(0, last - first - len(part) - max(0, -first))))

        return MusicCurves(cut(self.hits), cut(self.pulse), cut(self.level))


def measure_curves(sound: np.ndarray, sample_rate: int) -> MusicCurves:
    """Measure the curves of a piece.

    Args:
        sound: [channels, n] or [n].
        sample_rate: in Hz.

    Returns:
        Curves at RATE_HZ rows a second.
    """
    strength = onset_strength(sound, sample_rate).astype(np.float64)
    decibels = loudness_curve(sound, sample_rate)[: len(strength)].astype(np.float64)
    decibels = np.pad(decibels, (0, len(strength) - len(decibels)), mode="edge")
    peaks = strength[strength > 1.5 * strength.mean()] if strength.max() > 0 else np.ones(1)
    # Power is averaged, not decibels: a plucked note counts as loud as its attack.
    loud = 10 * np.log10(_slow(10 ** (decibels / 10), 0.6))
    level = np.clip(1 + (loud - np.percentile(loud, 90)) / 30, 0, 1)
    hits = np.clip(strength / max(np.percentile(peaks, 95), 1e-6), 0, 2)
    return MusicCurves(*(curve.astype(np.float32) for curve in (hits, predominant_pulse(strength), level)))


def predominant_pulse(strength: np.ndarray) -> np.ndarray:
    """Where the beats fall: the predominant local pulse (Grosche & Müller 2011).

    Every half second, the periodic wave that best fits the onsets of the surrounding six seconds is found; the waves
    are added and reinforce each other where they agree.

    Args:
        strength: [T] onset strength at RATE_HZ.

    Returns:
        [T] 0..1.
    """
    size, hop = round(_SPAN_S * RATE_HZ), round(_HOP_S * RATE_HZ)
    window = np.hanning(size + 2)[1:-1]
    centred = strength - _slow(strength, 1.0)
    padded = np.pad(np.maximum(centred, 0), size // 2)
    bpm = _SLOWEST_BPM * (_FASTEST_BPM / _SLOWEST_BPM) ** np.linspace(0, 1, 96)
    preference = np.exp(-0.5 * (np.log2(bpm / _PREFERRED_BPM) / _PREFERENCE_OCTAVES) ** 2)
    waves = np.exp(-2j * np.pi * np.outer(bpm / 60, np.arange(size) / RATE_HZ)) * window
    total = np.zeros(len(padded))
    for first in range(0, max(1, len(padded) - size + 1), hop):
        part = padded[first : first + size]
        found = waves[:, : len(part)] @ (part - part.mean())
        best = int(np.argmax(np.abs(found) * preference))
        energy = np.sqrt((part**2 * window[: len(part)]).sum() * window.sum())
        share = np.abs(found[best]) / max(energy, 1e-9)
        wave = np.cos(2 * np.pi * bpm[best] / 60 * np.arange(len(part)) / RATE_HZ + np.angle(found[best]))
        total[first : first + size] += share * wave * window[: len(part)]
    overlap = size / hop / 2  # overlapping windows with a mean of 1/2
    kept = total[size // 2 : size // 2 + len(strength)]
    return np.clip(4 * kept / overlap, 0, 1)  # a click track reaches about 0.9


def _slow(curve: np.ndarray, span_s: float) -> np.ndarray:
    width = max(1, round(span_s * RATE_HZ)) | 1
    padded = np.pad(curve, width // 2, mode="edge")
    return np.convolve(padded, np.ones(width) / width, mode="valid")
