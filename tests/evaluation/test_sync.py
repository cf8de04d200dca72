"""Measures of how music follows motion, on made signals whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.audio.loudness import loudness_curve
from expotion_cli.audio.onsets import onset_strength, onset_times
from expotion_cli.evaluation.sync import (
    NUM_SHIFTS,
    accent_hits,
    accent_strength,
    bootstrap_interval,
    motion_onset_correlation,
    own_against_other,
    pool,
    swell_correlation,
)
from expotion_cli.spotting.activity import motion_energy
from expotion_cli.vision.encoder import EmbeddingStream

SAMPLE_RATE, RATE_HZ, DURATION_S = 44_100, 50.0, 10.0


def event_times(seed: int, spacing_s: float = 0.5) -> np.ndarray:
    """Irregular moments, never closer than half the spacing."""
    rng = np.random.default_rng(seed)
    count = int(DURATION_S / spacing_s) - 2
    return (np.arange(count) + 0.7 + rng.uniform(-0.25, 0.25, count)) * spacing_s


def clicks(times: np.ndarray, decay_s: float = 0.03) -> np.ndarray:
    """[2, n] short bursts of noise."""
    rng = np.random.default_rng(0)
    audio = np.zeros((2, int(DURATION_S * SAMPLE_RATE)), np.float32)
    burst = np.exp(-np.arange(int(5 * decay_s * SAMPLE_RATE)) / (decay_s * SAMPLE_RATE))
    for time_s in times:
        first = round(time_s * SAMPLE_RATE)
        part = audio[:, first : first + len(burst)]
        part += 0.3 * rng.standard_normal(part.shape).astype(np.float32) * burst[: part.shape[1]].astype(np.float32)
    return audio


def swings(times: np.ndarray, width_s: float = 0.05) -> np.ndarray:
    """[T] motion energy with a swing around each moment."""
    rows = np.arange(int(DURATION_S * RATE_HZ)) / RATE_HZ
    return np.exp(-0.5 * ((rows[:, None] - times) / width_s) ** 2).sum(axis=1)


@pytest.mark.parametrize("sample_rate", [44_100, 32_000])
def test_onsets_of_clicks_are_found_within_a_row(sample_rate):
    times = event_times(1)
    audio = np.zeros(int(DURATION_S * sample_rate), np.float32)
    audio[np.rint(times * sample_rate).astype(int)] = 0.8
    strength = onset_strength(audio, sample_rate)
    found = onset_times(strength)
    assert strength.shape == (500,) and strength.dtype == np.float32
    assert len(found) == len(times) and np.abs(found - times).max() < 0.02


def test_onset_strength_does_not_change_with_the_level_and_sees_a_start_at_zero():
    audio = clicks(np.array([0.0, 3.0]))
    strength = onset_strength(audio, SAMPLE_RATE)
    np.testing.assert_allclose(onset_strength(audio * 0.05, SAMPLE_RATE), strength, atol=1e-4)
    assert strength[:2].max() > 0.5 * strength.max()
    assert not onset_strength(np.zeros(SAMPLE_RATE), SAMPLE_RATE).any() and not len(onset_times(np.zeros(50)))


def test_a_steady_tone_has_no_onset_but_its_start():
    tone = np.sin(2 * np.pi * 440 * np.arange(5 * SAMPLE_RATE) / SAMPLE_RATE)
    strength = onset_strength(tone, SAMPLE_RATE)
    assert strength[3:-3].max() < 0.01 * strength[:2].max()


@pytest.mark.parametrize("lag_s", [-0.12, 0.0, 0.1])
def test_clicks_that_follow_motion_at_a_lag_correlate_at_that_lag(lag_s):
    times = event_times(2)
    motion = swings(times)
    same = motion_onset_correlation(motion, np.roll(motion, round(lag_s * RATE_HZ)))
    assert same.value > 0.99 and same.lag_s == pytest.approx(lag_s)
    heard = motion_onset_correlation(motion, onset_strength(clicks(times + lag_s), SAMPLE_RATE))
    assert heard.value > 0.45 and heard.lag_s == pytest.approx(lag_s, abs=0.021)


def test_lags_beyond_the_limit_are_not_searched_and_flat_curves_score_zero():
    rng = np.random.default_rng(3)
    motion = rng.random(500)
    assert motion_onset_correlation(motion, np.roll(motion, 25)).value < 0.3
    assert motion_onset_correlation(np.ones(500), motion).value == 0.0


def test_music_of_its_own_clip_ranks_above_shuffled_music():
    moments = [event_times(seed) for seed in range(10, 16)]
    motions = [swings(times) for times in moments]
    onsets = [onset_strength(clicks(times), SAMPLE_RATE) for times in moments]
    matrix = np.array([[motion_onset_correlation(m, o).value for m in motions] for o in onsets])
    ranking = own_against_other(matrix)
    assert ranking.own > 0.45 and ranking.other < 0.25 and ranking.lift == pytest.approx(ranking.own - ranking.other)
    assert ranking.probability == 1.0 and ranking.lift_interval[0] > 0.3
    assert own_against_other(np.roll(matrix, 1, axis=0)).probability < 0.6


def test_ranking_of_scores_without_relation_is_chance():
    scores = np.random.default_rng(5).random((40, 12, 12))
    ranking = own_against_other(scores)
    assert ranking.probability == pytest.approx(0.5, abs=0.04)
    assert ranking.lift_interval[0] < 0 < ranking.lift_interval[1]
    assert own_against_other(np.ones((3, 3))).probability == 0.5
    assert own_against_other(scores) == ranking, "the bootstrap is seeded"


def test_ranking_counts_both_rivals_of_a_pair():
    # Music 0 fits clip 1 better than its own; all else is as it should be.
    ranking = own_against_other(np.array([[0.5, 0.9], [0.1, 0.6]]))
    assert ranking.probability == pytest.approx(0.5)  # loses to its own row and column, wins the other two
    assert ranking.lift == pytest.approx(0.05)


def test_exact_onsets_meet_all_accents_and_chance_is_the_covered_share():
    accents = event_times(5)
    hits = accent_hits(accents, accents, DURATION_S, 0.05)
    covered = len(accents) * 0.1 / DURATION_S
    assert hits.value == 1.0 and hits.chance == pytest.approx(covered, rel=0.15)
    assert 1 / NUM_SHIFTS <= hits.p_value < 0.03 and hits.lift > 0.7


def test_onsets_farther_than_the_tolerance_meet_nothing():
    accents = event_times(6)
    assert accent_hits(accents + 0.06, accents, DURATION_S, 0.05).value == 0.0
    assert accent_hits(accents + 0.04, accents, DURATION_S, 0.05).value == 1.0
    assert accent_hits(np.zeros(0), accents, DURATION_S).p_value == 1.0
    assert accent_hits(accents[:1], accents, DURATION_S).value == pytest.approx(1 / len(accents))


def test_onsets_everywhere_meet_everything_and_prove_nothing():
    busy = np.arange(0, DURATION_S, 0.05)
    hits = accent_hits(busy, event_times(7), DURATION_S, 0.05)
    assert hits.value == hits.chance == hits.p_value == 1.0


def test_stressed_accents_stand_out_of_a_busy_texture():
    times = event_times(8, spacing_s=1.0)
    strength = 0.2 * swings(np.arange(0, DURATION_S, 0.125), 0.015) + swings(times, 0.02)
    stressed = accent_strength(strength, RATE_HZ, times, DURATION_S)
    elsewhere = accent_strength(strength, RATE_HZ, times + 0.4, DURATION_S)
    assert stressed.value > 1.8 and stressed.p_value <= 0.02 and stressed.chance == pytest.approx(1.0)
    assert elsewhere.value < 1.2


def test_pooling_clips_makes_the_verdict_firmer_but_seeds_of_one_clip_do_not():
    def regular(first_s: float, tempo_s: float):
        accents = np.arange(first_s, DURATION_S - 0.2, tempo_s)
        return accent_hits(accents, accents, DURATION_S, 0.05)

    clips = [regular(0.3, 0.5), regular(0.2, 0.625), regular(0.4, 0.8)]
    alone = clips[0].p_value
    assert alone > 0.15  # one period of shifts is as good as none
    assert pool(clips, "abc").p_value < 0.02
    assert pool([clips[0]] * 5, "aaaaa").p_value == pytest.approx(alone, abs=0.03)
    assert pool(clips, "abc").value == 1.0


def test_louder_where_there_is_more_motion():
    rising = np.linspace(0, 1, 500)
    noise = np.random.default_rng(9).standard_normal((2, int(DURATION_S * SAMPLE_RATE))) * 0.1
    swelling = noise * np.linspace(0.05, 1, noise.shape[1])
    assert swell_correlation(rising, loudness_curve(swelling, SAMPLE_RATE)) > 0.8
    assert swell_correlation(rising, loudness_curve(swelling[:, ::-1], SAMPLE_RATE)) < -0.8
    np.testing.assert_allclose(loudness_curve(np.full(SAMPLE_RATE, 0.1), SAMPLE_RATE), -20, atol=1e-3)


def test_motion_energy_reads_the_flow_stream_at_the_wanted_rate():
    values = np.stack([np.arange(250, dtype=np.float32), np.full(250, 7, np.float32)], axis=1)
    stream = EmbeddingStream("flow", values, np.ones(250, bool), 25.0, ("energy", "accent"), "flow", "1", "x")
    energy = motion_energy(stream, 50)
    assert energy.shape == (500,)
    np.testing.assert_allclose(energy[:499], np.arange(499) / 2)


def test_motion_energy_of_a_clip_shows_that_it_moves(make_video, tmp_path):
    energy = motion_energy(make_video(tmp_path / "moving.mp4", duration_s=1.0))
    assert energy.shape == (50,) and energy.max() > 0


def test_bootstrap_interval_holds_the_mean_and_narrows_with_more_values():
    rng = np.random.default_rng(11)
    few, many = rng.standard_normal(10), rng.standard_normal(1000)
    low, high = bootstrap_interval(many)
    assert low < many.mean() < high
    assert high - low < 0.3 * np.subtract(*bootstrap_interval(few)[::-1])
