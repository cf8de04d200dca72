"""Distances between sets of sounds, where they are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from expotion_cli.evaluation import baselines, distributions

SAMPLE_RATE = 48_000


def chord(*pitches: int, seconds: float = 3.0) -> np.ndarray:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return sum(0.1 * np.sin(2 * np.pi * 440 * 2 ** ((p - 69) / 12) * time) for p in pitches).astype(np.float32)


def scale(tonic: int, steps: tuple[int, ...]) -> np.ndarray:
    # The triad sounds longer than the other tones, as it does in music.
    return np.concatenate([chord(tonic + s, seconds=1.0 if s in (0, 3, 4, 7) else 0.4) for s in steps])


def test_frechet_distance_of_gaussians_is_the_formulas():
    rng = np.random.default_rng(0)
    one, two = rng.standard_normal((60_000, 3)), 2 * rng.standard_normal((60_000, 3)) + [3, 0, 0]
    # |mean difference|² + sum over the axes of (1 - 2)²
    assert distributions.frechet(one, two) == pytest.approx(9 + 3, rel=0.02)
    assert distributions.frechet(one, one) == pytest.approx(0, abs=1e-6)
    few = rng.standard_normal((4, 50))  # fewer rows than dimensions: the covariance is singular
    assert distributions.frechet(few, few) == pytest.approx(0, abs=1e-6)
    assert distributions.frechet(few, few + 1) == pytest.approx(50, abs=1e-6)


def test_kl_and_inception_score_of_known_distributions():
    even, sure = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    assert distributions.kl_divergence(sure, even) == pytest.approx(math.log(2))
    assert distributions.kl_divergence(even, even) == 0
    assert distributions.inception_score(np.stack([even, even])) == pytest.approx(1.0)
    assert distributions.inception_score(np.eye(4)) == pytest.approx(4.0)


def test_sets_are_near_themselves_and_far_from_others():
    def clicks(gap_s: float) -> distributions.Descriptor:
        return distributions.describe(baselines.strike(np.arange(0, 8, gap_s), 8.0, SAMPLE_RATE), SAMPLE_RATE)

    tones = [distributions.describe(chord(60, 64, 67), SAMPLE_RATE) for _ in range(4)]
    slow, fast = [clicks(0.5)] * 4, [clicks(0.25)] * 4
    assert distributions.spectrum_distance(tones, tones) == 0 and distributions.chroma_distance(slow, slow) == 0
    assert distributions.spectrum_distance(tones, slow) > 5 and distributions.chroma_distance(tones, slow) > 0.2
    assert distributions.rhythm_distance(slow, fast) == pytest.approx(250, abs=15)
    assert math.isnan(distributions.rhythm_distance(slow, [distributions.describe(np.zeros(9000), SAMPLE_RATE)]))
    assert distributions.to_itself(slow, distributions.rhythm_distance, 0) == 0
    assert distributions.to_itself(slow[:3], distributions.rhythm_distance, 0) is None


def test_transposing_a_piece_leaves_its_chroma_where_it_was():
    one, two = (distributions.describe(scale(t, (0, 2, 4, 5, 7, 9, 11, 12)), SAMPLE_RATE) for t in (60, 65))
    assert distributions.chroma_distance([one], [two]) < 0.02
