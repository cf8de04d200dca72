"""What needs no model: the bare rule, the drum rule and the click track, on motion that is known."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.audio.beats import tempo_of
from expotion_cli.audio.dynamics import measure_dynamics
from expotion_cli.audio.hits import hits
from expotion_cli.audio.onsets import onset_strength
from expotion_cli.evaluation import baselines
from expotion_cli.spotting.visual_accents import visual_accents

RATE, DURATION_S = 48_000, 10.0
GESTURES_S = [1.0, 2.2, 3.9, 5.0, 6.7, 8.4]


def gestures(width_s: float = 0.08) -> np.ndarray:
    """[500] motion that swells at known moments."""
    rows = np.arange(500) / 50
    return np.exp(-0.5 * ((rows[:, None] - GESTURES_S) / width_s) ** 2).sum(axis=1)


def chord() -> np.ndarray:
    """[2, n] that goes on evenly."""
    t = np.arange(round(DURATION_S * RATE)) / RATE
    sound = sum(np.sin(2 * np.pi * hz * t) for hz in (220.0, 277.0, 330.0)) / 10
    return np.stack([sound, sound]).astype(np.float32)


def test_the_bare_rule_makes_any_music_meet_the_visual_accents():
    music, motion = chord(), gestures()
    ruled = baselines.lay_bare_rule(music, RATE, motion, 50.0)
    seen = visual_accents(motion)
    assert ruled.shape == music.shape and ruled.dtype == np.float32
    assert hits(seen, onset_strength(music, RATE)).value <= 0.2
    found = hits(seen, onset_strength(ruled, RATE))
    assert found.value == 1 and found.chance < 0.4


def test_the_bare_rule_lowers_music_by_8_db_where_nothing_moves_and_leaves_the_rest():
    music, motion = chord(), np.repeat([0.0, 1.0], 250)
    level_db = 20 * np.log10(np.abs(baselines.lay_bare_rule(music, RATE, motion, 50.0)[0]) + 1e-12)
    plain_db = 20 * np.log10(np.abs(music[0]) + 1e-12)
    sounding = plain_db > -40
    still, moving = (np.arange(len(sounding)) < 4 * RATE), (np.arange(len(sounding)) > 6 * RATE)
    assert (level_db - plain_db)[sounding & still] == pytest.approx(-8.0, abs=0.1)
    assert (level_db - plain_db)[sounding & moving] == pytest.approx(0.0, abs=0.1)


def test_the_bare_rule_keeps_the_spread_of_even_music_within_10_db():
    assert measure_dynamics(baselines.lay_bare_rule(chord(), RATE, gestures(), 50.0), RATE).spread_db < 10


def test_the_bare_rule_goes_with_any_rate_and_length_and_with_silence():
    music = chord()[:, : 3 * RATE]
    assert baselines.lay_bare_rule(music, RATE, gestures()[::2], 25.0).shape == music.shape
    assert np.array_equal(baselines.lay_bare_rule(music, RATE, np.zeros(0), 50.0), music)
    struck = baselines.lay_bare_rule(np.zeros((2, 10 * RATE), np.float32), RATE, gestures(), 50.0)
    assert 0.2 < np.abs(struck).max() < 0.4 and not struck[:, : RATE // 2].any()


def test_the_drum_rule_strikes_where_there_is_motion_and_the_metronome_everywhere():
    motion = np.zeros(500)
    motion[200:300] = 1.0
    rule = baselines.rule_times(motion, DURATION_S)
    assert rule.min() >= 3.9 and rule.max() <= 6.0 and np.allclose(rule / 0.125, np.rint(rule / 0.125))
    assert not len(baselines.rule_times(np.zeros(500), DURATION_S))
    metronome = baselines.strike(baselines.metronome_times(DURATION_S), DURATION_S, RATE)
    assert tempo_of(onset_strength(metronome, RATE, 100.0), 100.0) == pytest.approx(120, rel=0.01)
