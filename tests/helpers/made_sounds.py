"""Sounds that tests make; numpy alone, so that other environments can make them as well."""

from __future__ import annotations

import numpy as np

NUM_SAMPLES = 468 * 256
"""Four windows of musicnn's, each 94 rows after the one before."""


def band(sample_rate: int = 16_000, num_samples: int = NUM_SAMPLES, seed: int = 0) -> np.ndarray:
    """[n] float32: decaying chords over a bass, a click on every beat, noise that swells; peaks near 0.5."""
    rng = np.random.default_rng(seed)
    time = np.arange(num_samples) / sample_rate
    sound = 0.01 * rng.standard_normal(num_samples) * (1 + np.sin(2 * np.pi * time / 5))
    for beat in range(int(num_samples / sample_rate / 0.5) + 1):
        since = time - beat * 0.5
        rings = np.where(since >= 0, np.exp(-3 * np.maximum(since, 0)), 0)
        root = 110 * 2 ** (rng.integers(0, 12) / 12)
        for number, partial in enumerate((1, 2, 2.52, 3, 4.01, 5.04)):
            sound += 0.06 / (1 + number / 2) * rings * np.sin(2 * np.pi * root * partial * since)
        clicks = np.where((since >= 0) & (since < 0.03), np.exp(-150 * np.maximum(since, 0)), 0)
        sound += 0.2 * clicks * rng.standard_normal(num_samples)
    return sound.astype(np.float32)


VOWELS_HZ = {"a": (730, 1090, 2440), "e": (530, 1840, 2480), "i": (270, 2290, 3010), "o": (570, 840, 2410),
             "u": (300, 870, 2240)}  # fmt: skip
"""First formants of a man's vowels (Peterson and Barney 1952)."""
TALK_S = ((0.8, 2.4), (4.2, 5.6))
"""When `talk` speaks, in seconds; it lasts 7 s."""


def talk(sample_rate: int = 16_000, seed: int = 0) -> np.ndarray:
    """[n] float32: somebody says syllables, `TALK_S`, in front of faint noise; peaks near 0.4."""
    rng = np.random.default_rng(seed)
    sound = 1e-4 * rng.standard_normal(7 * sample_rate)
    for begin_s, end_s in TALK_S:
        first = round(begin_s * sample_rate)
        while first < (end_s - 0.15) * sample_rate:
            syllable = _syllable(rng, sample_rate, 1 - 0.25 * (first / sample_rate - begin_s) / (end_s - begin_s))
            sound[first : first + len(syllable)] += syllable
            first += len(syllable) + round(0.02 * sample_rate)
    return sound.astype(np.float32)


def _syllable(rng: np.random.Generator, sample_rate: int, pitch: float) -> np.ndarray:
    """A hiss and a vowel that glides into another: a train of pulses through three resonances."""
    hiss = 0.03 * np.diff(rng.standard_normal(round(0.05 * sample_rate) + 1)) * np.hanning(round(0.05 * sample_rate))
    count = round(rng.uniform(0.13, 0.2) * sample_rate)
    at = np.linspace(0, 1, count)
    phase = np.cumsum(130 * pitch * (1.1 - 0.25 * at) / sample_rate)
    pulses = np.diff(np.floor(phase), prepend=0.0)
    one, other = (VOWELS_HZ[name] for name in rng.choice(list(VOWELS_HZ), 2))
    vowel = pulses - 0.9 * np.concatenate([[0.0], pulses[:-1]])
    for start_hz, end_hz, width_hz in zip(one, other, (80, 100, 140), strict=True):
        radius = np.exp(-np.pi * width_hz / sample_rate)
        swing = 2 * radius * np.cos(2 * np.pi * (start_hz + (end_hz - start_hz) * at) / sample_rate)
        gain, last, before = 1 - radius, 0.0, 0.0
        made = np.empty(count)
        for place in range(count):
            made[place] = gain * vowel[place] + swing[place] * last - radius**2 * before
            last, before = made[place], last
        vowel = made
    vowel *= np.sin(np.pi * at) ** 0.5
    return np.concatenate([hiss, 0.4 * vowel / np.abs(vowel).max()])
