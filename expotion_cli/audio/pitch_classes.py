"""The strongest pitch class of a sound over time, as MusicGen Melody was trained to be told of a melody.

A spectrum of half a second, eight times a second; its power is summed into twelve pitch classes, from C on, by bumps a
semitone wide that weigh the octaves around 880 Hz most; the strongest class of each frame is kept, and nothing else
(arXiv 2306.05284, section 2.3). The filters are those of D. Ellis, *Chroma Feature Analysis and Synthesis* (2007), with
the published extractor's settings.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

SAMPLE_RATE = 32_000
FFT_SIZE, HOP = 16_384, 4096
NUM_CLASSES = 12
_A0_HZ = 27.5
_CENTRE_OCTAVE, _OCTAVES = 5.0, 2.0
"""The octave above A0 that counts most, and how far around it others do."""
_FIRST_IS_C = 3
_BLOCK = 64
_SOFT = 1e-3


def num_frames(num_samples: int) -> int:
    """Frames of a sound of so many samples; short ones are padded to one spectrum."""
    return 1 + max(num_samples, FFT_SIZE) // HOP


def pitch_classes(sound: np.ndarray) -> np.ndarray:
    """The strongest pitch class of each frame, C = 0; frames of silence are C as well, as in the published extractor.

    Args:
        sound: [n] at `SAMPLE_RATE`.

    Returns:
        [F] uint8, F = `num_frames(n)`; frame i lies around sample i * `HOP`.
    """
    return class_powers(sound).argmax(axis=1).astype(np.uint8)


def class_powers(sound: np.ndarray) -> np.ndarray:
    """The power of each pitch class in each frame.

    Args:
        sound: [n] at `SAMPLE_RATE`.

    Returns:
        [F, 12] float64.
    """
    if (missing := FFT_SIZE - len(sound)) > 0:
        sound = np.pad(sound, (missing // 2, missing - missing // 2))
    padded = np.pad(sound, FFT_SIZE // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT_SIZE)[::HOP]
    window = np.hanning(FFT_SIZE + 1)[:-1]
    blocks = (frames[first : first + _BLOCK] * window for first in range(0, len(frames), _BLOCK))
    return np.concatenate([np.abs(np.fft.rfft(block)) ** 2 @ _filters().T for block in blocks])


def clearness(sound: np.ndarray) -> float:
    """Mean share of the power that the strongest of twelve classes has, over all frames that aren't far softer.

    A solo line reaches 0.5 and more, chords about 0.4; speech stays below 0.3, drums and noise near 0.1.

    Args:
        sound: [n] at `SAMPLE_RATE`.

    Returns:
        0 for silence, up to 1.
    """
    powers = class_powers(sound)
    totals = powers.sum(axis=1)
    loud = totals > _SOFT * totals.max()
    return float((powers[loud].max(axis=1) / totals[loud]).mean()) if loud.any() else 0.0


@lru_cache(maxsize=1)
def _filters() -> np.ndarray:
    """[12, FFT_SIZE / 2 + 1]: how much each bin of a spectrum counts for each pitch class."""
    bins = np.arange(1, FFT_SIZE // 2 + 2)
    notes = NUM_CLASSES * np.log2(bins * SAMPLE_RATE / FFT_SIZE / _A0_HZ)  # semitones above A0
    notes = np.concatenate([[notes[0] - 1.5 * NUM_CLASSES], notes])  # 0 Hz lies nowhere: an octave and a half below
    widths = np.maximum(np.diff(notes), 1.0)
    notes = notes[:-1]
    half = NUM_CLASSES / 2
    away = (notes - np.arange(NUM_CLASSES)[:, None] + half) % NUM_CLASSES - half
    bumps = np.exp(-0.5 * (2 * away / widths) ** 2)
    bumps /= np.sqrt((bumps**2).sum(axis=0))
    bumps *= np.exp(-0.5 * ((notes / NUM_CLASSES - _CENTRE_OCTAVE) / _OCTAVES) ** 2)
    return np.roll(bumps, -_FIRST_IS_C, axis=0)
