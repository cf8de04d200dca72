"""Loudness as ITU-R BS.1770 defines it, on signals whose loudness is known."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.audio.loudness import integrated_lufs, k_weighted, loudness_curve, momentary_lufs

RATE = 44_100


def level_db(audio: np.ndarray) -> float:
    return float(10 * np.log10((audio.astype(np.float64) ** 2).mean()))


def test_k_weighting_measures_as_the_recommendation_says() -> None:
    seconds = np.arange(3 * RATE) / RATE
    sine = np.sin(2 * np.pi * 997 * seconds).astype(np.float32)
    both = momentary_lufs(np.stack([sine, np.zeros_like(sine)]), RATE)
    assert np.median(both) == pytest.approx(-3.01, abs=0.1)
    low = np.sin(2 * np.pi * 30 * seconds).astype(np.float32)[None]
    assert level_db(k_weighted(low, RATE)) < level_db(low) - 6


def test_the_gates_leave_silence_out():
    tone = (0.1 * np.sin(2 * np.pi * 997 * np.arange(4 * RATE) / RATE)).astype(np.float32)[None]
    with_gap = np.concatenate([tone, np.zeros_like(tone)], axis=1)
    assert integrated_lufs(with_gap, RATE) == pytest.approx(integrated_lufs(tone, RATE), abs=0.2)
    assert integrated_lufs(np.zeros((2, RATE), np.float32), RATE) == -np.inf


def test_the_level_of_each_row_is_that_of_its_own_samples():
    audio = np.concatenate([np.zeros(RATE), np.full(RATE, 0.5)]).astype(np.float32)
    curve = loudness_curve(audio, RATE)
    assert len(curve) == 100 and (curve[:50] == -60).all()
    assert curve[50:] == pytest.approx(20 * np.log10(0.5), abs=1e-3)
