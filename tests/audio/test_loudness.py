"""Loudness as ITU-R BS.1770 defines it, on signals whose loudness is known."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.audio.loudness import integrated_lufs, k_weighted_power, loudness_curve, momentary_lufs

RATE = 44_100


def level_db(audio: np.ndarray) -> float:
    return float(10 * np.log10((audio.astype(np.float64) ** 2).mean()))


def test_k_weighting_measures_as_the_recommendation_says() -> None:
    seconds = np.arange(3 * RATE) / RATE
    sine = np.sin(2 * np.pi * 997 * seconds).astype(np.float32)
    both = momentary_lufs(np.stack([sine, np.zeros_like(sine)]), RATE)
    assert np.median(both) == pytest.approx(-3.01, abs=0.1)
    low = np.sin(2 * np.pi * 30 * seconds).astype(np.float32)[None]
    (weighted,) = k_weighted_power(low, RATE, np.array([low.shape[1]])) / low.shape[1]
    assert 10 * np.log10(weighted) < level_db(low) - 6


def test_power_is_summed_up_to_any_place_as_if_in_one_piece():
    """Long sound is filtered part by part; nothing is lost or counted twice where parts meet."""
    sound = np.random.default_rng(1).standard_normal((2, 31 * RATE + 7)).astype(np.float32)
    places = np.array([0, 1, 1000, RATE, 20 * RATE, 31 * RATE + 7, 40 * RATE])
    sums = k_weighted_power(sound, RATE, places)
    assert sums[0] == 0 and sums[-1] == sums[-2] and (np.diff(sums[:-1]) > 0).all()
    per_sample = np.diff(k_weighted_power(sound, RATE, np.arange(sound.shape[1] + 1)))
    assert np.allclose(sums[:-1], [per_sample[:place].sum() for place in places[:-1]])
    (short,) = k_weighted_power(sound[:, :RATE], RATE, places[3:4])
    assert sums[3] == pytest.approx(short, rel=1e-6), "what comes later does not reach back"


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
