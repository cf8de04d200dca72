"""Silence is found where it is; voices are weighed against their sum."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.audio.dynamics import find_silences, voice_levels

SAMPLE_RATE = 44_100


def tone(pitch_hz: float, level: float) -> np.ndarray:
    """[2, n], one second."""
    wave = level * np.sin(2 * np.pi * pitch_hz * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    return np.stack([wave, wave]).astype(np.float32)


def test_silences_are_measured_in_the_middle_and_at_the_end():
    nothing = np.zeros((2, SAMPLE_RATE), np.float32)
    audio = np.concatenate([tone(440, 0.1), nothing, tone(440, 0.1), nothing[:, : SAMPLE_RATE // 2]], axis=1)
    found = find_silences(audio, SAMPLE_RATE)
    assert found.share == pytest.approx(1.5 / 3.5, abs=0.02)
    assert found.longest_s == pytest.approx(1.0, abs=0.05) and found.tail_s == pytest.approx(0.5, abs=0.05)
    assert find_silences(nothing, SAMPLE_RATE).longest_s == find_silences(nothing, SAMPLE_RATE).tail_s == 1.0
    assert find_silences(tone(440, 0.1), SAMPLE_RATE).share == 0


def test_voices_are_weighed_against_their_sum():
    stems = {
        "melody": tone(440, 0.2),
        "bass": tone(110, 0.1),
        "drums": np.zeros((2, SAMPLE_RATE), np.float32),
    }
    levels = voice_levels(stems)
    assert levels["drums"] is None
    assert levels["melody"] == pytest.approx(-1.0, abs=0.2) and levels["bass"] == pytest.approx(-7.0, abs=0.2)
    assert voice_levels({}) == {}
