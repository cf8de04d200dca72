"""Keys of scales are found; shares of pitch classes add up."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.audio.spectrum import power_spectrogram
from expotion_cli.audio.tonality import chroma, find_key

SAMPLE_RATE, WINDOW = 48_000, 8192
MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11, 12), (0, 2, 3, 5, 7, 8, 11, 12)


def scale(tonic: int, steps: tuple[int, ...]) -> np.ndarray:
    """[n]: the tones of a scale one after another; those of the triad sound longer, as they do in music."""
    tones = []
    for step in steps:
        time = np.arange(round((1.0 if step in (0, 3, 4, 7) else 0.4) * SAMPLE_RATE)) / SAMPLE_RATE
        tones.append(0.1 * np.sin(2 * np.pi * 440 * 2 ** ((tonic + step - 69) / 12) * time))
    return np.concatenate(tones).astype(np.float32)


def shares_of(sound: np.ndarray) -> np.ndarray:
    return chroma(power_spectrogram(sound, WINDOW, np.arange(0, len(sound) - WINDOW, WINDOW // 2)), SAMPLE_RATE)


@pytest.mark.parametrize("tonic", [60, 57, 66])
def test_keys_of_scales_are_found(tonic):
    assert find_key(shares_of(scale(tonic, MAJOR))) == (tonic % 12, False)
    assert find_key(shares_of(scale(tonic, MINOR))) == (tonic % 12, True)


def test_pitch_classes_share_one_and_silence_shares_alike():
    shares = shares_of(scale(69, (0,)))
    assert shares.sum() == pytest.approx(1.0) and shares.argmax() == 9 and shares[9] > 0.6
    assert np.array_equal(shares_of(np.zeros(SAMPLE_RATE, np.float32)), np.full(12, 1 / 12))
