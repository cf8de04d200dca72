"""Beats of music and motion, on signals whose beats are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from expotion_cli.audio.beats import track_beats
from expotion_cli.evaluation import baselines, beats

SAMPLE_RATE, DURATION_S = 48_000, 10.0


@pytest.mark.parametrize("bpm", [84.0, 120.0, 151.0])
def test_beats_of_clicks_are_found_with_their_tempo(bpm):
    true = np.arange(0.3, DURATION_S, 60 / bpm)
    found, tempo = track_beats(baselines.strike(true, DURATION_S, SAMPLE_RATE), SAMPLE_RATE)
    assert tempo == pytest.approx(bpm, rel=0.02)
    nearest = np.abs(found[:, None] - true).min(axis=1)
    assert len(found) >= len(true) - 2 and np.median(nearest) < 0.03


def test_sound_without_onsets_has_neither_beats_nor_tempo():
    found, tempo = track_beats(np.zeros((2, 5 * SAMPLE_RATE), np.float32), SAMPLE_RATE)
    assert not len(found) and math.isnan(tempo)
    assert not len(track_beats(np.zeros((2, 100), np.float32), SAMPLE_RATE)[0])


def test_motion_beats_are_where_a_swing_turns():
    rows = np.arange(500) / 50
    found = beats.kinematic_beats(np.abs(np.sin(np.pi * rows / 0.5)))
    inside = found[(found > 0.2) & (found < 9.8)]
    assert len(inside) == 19 and np.abs(inside - np.rint(inside / 0.5) * 0.5).max() < 0.03


def test_small_swings_count_beside_a_large_one_but_trembling_does_not():
    rows = np.arange(500) / 50
    swings = np.abs(np.sin(np.pi * rows / 0.5)) * np.where(rows < 5, 0.1, 5.0)
    assert (beats.kinematic_beats(swings) < 4.8).sum() >= 8
    trembling = 1 + 0.01 * np.random.default_rng(0).standard_normal(500)
    assert len(beats.kinematic_beats(trembling)) == 0
    assert len(beats.kinematic_beats(np.zeros(500))) == 0 and len(beats.kinematic_beats(np.ones(2))) == 0


def test_coverage_hit_and_f1_count_bins():
    true = np.array([0.1, 1.1, 2.1, 3.1])
    coverage, hit, f1 = beats.beat_scores(np.array([0.15, 1.15, 5.0]), true, 10.0)
    assert coverage == pytest.approx(3 / 4) and hit == pytest.approx(2 / 4) and f1 == pytest.approx(4 / 7)
    assert beats.beat_scores(true, true, 10.0) == (1.0, 1.0, 1.0)
    assert beats.beat_scores(np.zeros(0), true, 10.0) == (0.0, 0.0, 0.0)
    busy = beats.beat_scores(np.arange(0, 10, 0.05), true, 10.0)
    assert busy[0] == 50 / 4 and busy[1] == 1.0 and busy[2] < 0.2, "dense music hits all and proves nothing"
    assert all(math.isnan(value) for value in beats.beat_scores(true, np.zeros(0), 10.0))


def test_alignment_is_a_gaussian_of_the_distance():
    sigma = beats.ALIGNMENT_SIGMA_S
    true = np.array([1.0, 2.0])
    assert beats.beat_alignment(true, true) == 1.0
    assert beats.beat_alignment(true + sigma, true) == pytest.approx(math.exp(-0.5))
    assert beats.beat_alignment(np.array([1.0]), true) == pytest.approx(0.5)
    assert beats.beat_alignment(np.zeros(0), true) == 0.0 and math.isnan(beats.beat_alignment(true, np.zeros(0)))


def test_a_click_track_meets_every_bin_of_a_second_and_few_of_a_fifth():
    rng = np.random.default_rng(0)
    true = np.sort(rng.uniform(0, DURATION_S, 8))
    clicks = baselines.metronome_times(DURATION_S)
    coverage, hit, _ = beats.beat_scores(clicks, true, DURATION_S, beats.WEAK_BIN_S)
    assert hit == 1.0 and coverage == 10 / beats.binned(true, DURATION_S, 1.0).sum()
    assert beats.beat_scores(clicks, true, DURATION_S)[1] < 0.7
