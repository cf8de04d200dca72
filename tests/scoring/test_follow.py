"""The follow layer: any music follows a cue plan, and stays music."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from expotion_cli.audio.dynamics import measure_dynamics
from expotion_cli.audio.hits import hits
from expotion_cli.audio.loudness import integrated_lufs, momentary_lufs
from expotion_cli.audio.onsets import onset_strength
from expotion_cli.recipe import ACCENTS, Follow, load_recipe, recipe_names
from expotion_cli.scoring.follow import layer, level
from expotion_cli.scoring.follow.accents import SOUNDS, accent_sound
from expotion_cli.spotting.hits import HitPoint
from expotion_cli.spotting.plan_file import from_record
from expotion_cli.timing import Timeline

RATE, DURATION_S = 44_100, 10.0
HITS_S = (0.9, 2.13, 3.6, 4.87, 6.2, 7.51, 8.8)


def plan_of(times_s=HITS_S, values=(0.5,), **more):
    hits = [{"time_s": t, "weight": 0.8, "cause": "gesture"} for t in times_s]
    record = {"tempo": {"bpm": 100}, "hits": hits, "intensity": {"rate_hz": 1, "values": list(values)}, **more}
    return from_record(record, Fraction(10))


def pad(level_db: float = -20.0) -> np.ndarray:
    """Held tones with a little noise: music without any onset of its own."""
    at = np.arange(round(DURATION_S * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * hz * at) for hz in (110, 164.8, 220, 329.6, 440)) / 5
    air = np.random.default_rng(0).normal(0, 0.02, len(at))
    return np.tile((tones + air) * 10 ** (level_db / 20), (2, 1)).astype(np.float32)


def beats(bpm: float = 120) -> np.ndarray:
    """A pad with a click on each beat."""
    sound = pad()
    burst = np.random.default_rng(1).normal(0, 0.05, 3000) * np.exp(-np.arange(3000) / 500)
    for time_s in np.arange(0, DURATION_S - 0.1, 60 / bpm):
        first = round(time_s * RATE)
        sound[:, first : first + 3000] += burst.astype(np.float32)
    return sound


def test_every_accent_of_a_recipe_has_a_sound_and_none_is_forgotten():
    assert set(SOUNDS) == set(ACCENTS)
    for name in recipe_names():
        assert load_recipe(name).follow.accents, name


@pytest.mark.parametrize("name", ACCENTS)
def test_an_accent_is_finite_not_clipped_and_always_the_same(name):
    sound = accent_sound(name, RATE, 2, 1)
    assert np.isfinite(sound.audio).all() and 0.9 < np.abs(sound.audio).max() <= 1
    accent_sound.cache_clear()
    assert np.array_equal(sound.audio, accent_sound(name, RATE, 2, 1).audio)
    assert sound.lead_s < sound.audio.shape[1] / RATE


@pytest.mark.parametrize("music", [pad(), beats()], ids=["sparse", "beats"])
def test_hit_points_are_heard_in_any_music_far_more_often_than_by_chance(music):
    followed = layer.follow(music, RATE, plan_of(), Follow(accents=("taiko", "clap")))
    before = hits(np.array(HITS_S), onset_strength(music, RATE))
    after = hits(np.array(HITS_S), onset_strength(followed.audio, RATE))
    assert after.value >= 0.9 and after.value - after.chance >= 0.25 and after.value > before.value
    assert [answer.hit_s for answer in followed.answers] == list(HITS_S)


def test_dynamics_stay_within_four_decibels_and_no_hole_opens():
    music = beats()
    followed = layer.follow(music, RATE, plan_of(values=(0, 1, 0, 1, 0.5)), Follow(accents=("taiko",), dynamics_db=8))
    before, after = measure_dynamics(music, RATE), measure_dynamics(followed.audio, RATE)
    assert after.spread_db <= before.spread_db + 8 and after.hole_share == 0


def test_more_intensity_is_louder_but_by_no_more_than_the_recipe_says():
    values = [0.0] * 5 + [1.0] * 6
    followed = layer.follow(pad(), RATE, plan_of((), values), Follow(dynamics_db=6))
    loud = momentary_lufs(followed.audio, RATE)
    difference = loud[70:90].mean() - loud[10:40].mean()
    assert 3 < difference <= 6.5


def test_quiet_passages_are_lifted_and_silence_is_left_alone():
    music = pad()
    music[:, 3 * RATE : 6 * RATE] *= 10 ** (-20 / 20)
    music[:, 8 * RATE :] = 0
    gain_db = level.levelling_db(music, RATE)
    rate = round(level.RATE_HZ)
    assert gain_db[round(4.5 * rate)] > 5 and abs(gain_db[round(9.5 * rate)]) < 0.5


def test_without_following_the_music_is_untouched():
    music = beats()
    assert np.array_equal(layer.follow(music, RATE, plan_of(), Follow(mode="none")).audio, music)
    silence = np.zeros((2, RATE), np.float32)
    assert not layer.follow(silence, RATE, plan_of(), Follow()).audio.any()


def test_accents_move_onto_the_musics_grid_where_it_is_near_and_only_there():
    timeline = Timeline(Fraction(10), Fraction(24))  # beats at 0.5 s, quarters at 0.125 s
    wanted = [HitPoint(1.03, 0.8, "gesture", ""), HitPoint(3.06, 0.8, "gesture", "")]
    found = layer.snapped(wanted, beats(), RATE, timeline)
    assert found[0] == pytest.approx(1.0, abs=0.001)
    assert abs(found[1] - 3.06) <= 0.041


def test_the_musics_own_grid_is_found_and_used():
    found = layer.snapped([HitPoint(4.03, 0.8, "gesture", "")], beats(120), RATE, None)
    assert found[0] == pytest.approx(4.0, abs=0.02)


def test_of_many_hit_points_the_heaviest_are_answered_and_a_users_own_always():
    many = [HitPoint(0.4 * i, 0.1 + 0.03 * i, "gesture", "") for i in range(24)]
    chosen = layer.choose_hits([*many, HitPoint(0.2, 0.0, "user", "")], 1.0)
    assert len(chosen) <= 13 and chosen[0].cause == "user" and many[-1] in chosen
    assert [hit.cause for hit in layer.choose_hits([*many, HitPoint(0.2, 0.0, "user", "")], 0)] == ["user"]


def test_heavier_hit_points_are_answered_by_more_sounds():
    accents = ("taiko", "strings", "crash")
    assert layer.sounds_for(0.1, accents) == ("taiko",)
    assert layer.sounds_for(0.5, accents) == ("taiko", "strings")
    assert layer.sounds_for(1.0, accents) == accents and layer.sounds_for(1.0, ()) == ()


def test_accents_never_bury_the_music_and_peaks_stay_low():
    music = beats()
    followed = layer.follow(music, RATE, plan_of(), Follow(accents=("taiko", "crash"), gain_db=6)).audio
    peak_db = 20 * np.log10(np.abs(followed).max())
    assert peak_db - integrated_lufs(followed, RATE) < 16
    assert integrated_lufs(followed, RATE) - integrated_lufs(music, RATE) < 6


def test_music_at_another_rate_and_shorter_than_its_plan_is_followed_too():
    short = pad()[:, : 2 * RATE : 2]
    followed = layer.follow(short, RATE // 2, plan_of(), Follow(accents=("bell",)))
    assert followed.audio.shape == short.shape and np.isfinite(followed.audio).all()
