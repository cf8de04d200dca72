"""Accent alignment: music is shifted and bent so that its accents meet hit points, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from expotion_cli.audio.beats import track_beats
from expotion_cli.audio.hits import hits, musical_accents
from expotion_cli.audio.onsets import onset_strength
from expotion_cli.audio.pulse import pulse_clarity
from expotion_cli.music.codecs.codec import SoundCodec
from expotion_cli.recipe import Follow, load_recipe
from expotion_cli.scoring import ladder
from expotion_cli.scoring.follow import warp as warping
from expotion_cli.scoring.follow.align import Alignment, align, aligns, hashed_fields
from expotion_cli.scoring.follow.time_map import Heard, Kernel, TimeMap, find_map
from expotion_cli.scoring.follow.warp import warp
from expotion_cli.spotting.hits import GESTURE, HitPoint
from expotion_cli.spotting.plan_file import from_record
from expotion_cli.timing import MOST_BEND, Timeline

RATE = 32_000
KERNEL = Kernel(0.05, 0.12, 1.0, 1.6)


def struck(times_s, duration_s: float = 10.0, rate: int = RATE) -> np.ndarray:
    """A drum at these times, over a soft chord: [2, n]."""
    time_s = np.arange(round(duration_s * rate)) / rate
    sound = 0.02 * sum(np.sin(2 * np.pi * hz * time_s) for hz in (220.0, 277.2, 329.6))
    noise = np.random.default_rng(0).standard_normal(rate // 5)
    length_s = np.arange(rate // 5) / rate
    drum = (np.sin(2 * np.pi * 90 * length_s) + 0.4 * noise) * np.exp(-length_s / 0.04)
    for at in times_s:
        first = round(at * rate)
        if 0 <= first < len(sound):
            piece = drum[: len(sound) - first]
            sound[first : first + len(piece)] += 0.5 * piece
    return np.stack([sound, sound]).astype(np.float32)


def at(*times_s: float, weight: float = 0.5) -> list[HitPoint]:
    return [HitPoint(time_s, weight, GESTURE, "test") for time_s in times_s]


def share(sound: np.ndarray, points: list[HitPoint]) -> float:
    return hits(np.array([hit.time_s for hit in points]), onset_strength(sound, RATE)).value


@pytest.mark.parametrize("late_s", [0.15, -0.15, 0.22])
def test_beats_beside_the_hit_points_are_shifted_onto_them(late_s):
    beats_s = np.arange(0.5, 10, 1.0)
    points = at(*(beats_s[1:-1] + late_s))
    music = struck(beats_s)
    moved, done = align(music, RATE, points)
    assert (done.hits_before, done.hits_after) == (0.0, 1.0) and share(moved, points) == 1.0
    assert done.way.shift_s == pytest.approx(late_s, abs=0.06) and moved.shape == music.shape
    accents = musical_accents(onset_strength(moved, RATE))
    nearest = np.abs(accents[:, None] - [hit.time_s for hit in points]).min(axis=0)
    assert np.median(nearest) <= 0.05


def test_music_is_bent_by_no_more_than_three_per_cent_and_begins_within_half_a_beat():
    beats_s = np.arange(0.4, 12, 0.6)
    points = at(*(0.22 + beats_s[2:-1:2] / 1.022))
    music = struck(beats_s, 12.0)
    moved, done = align(music, RATE, points)
    way = done.way
    assert way is not None and max(abs(tempo - 1) for tempo in way.tempos) <= MOST_BEND + 1e-6
    assert abs(way.shift_s) <= way.beat_s / 2 and len(way.tempos) > 1
    away_s = np.subtract(way.picture_s, way.music_s)
    assert np.abs(away_s).max() <= way.beat_s
    found_s, _ = track_beats(moved, RATE)
    assert np.diff(found_s) == pytest.approx(0.6, rel=0.05), "beats stay beats"
    assert pulse_clarity(onset_strength(moved, RATE)) > pulse_clarity(onset_strength(music, RATE)) - 0.05


def test_a_bent_tone_keeps_its_pitch_and_its_level_and_never_clicks():
    time_s = np.arange(8 * RATE) / RATE
    tone = 0.4 * np.sin(2 * np.pi * 440 * time_s) + 0.2 * np.sin(2 * np.pi * 1250 * time_s)
    music = np.stack([tone, tone]).astype(np.float32)
    way = TimeMap((0.0, 2.0, 4.5, 8.0), (0.2, 2.26, 4.685, 8.29), 0.5)
    bent = warp(music, RATE, way)
    assert bent.shape == music.shape and np.isfinite(bent).all()
    middle = bent[0, round(0.1 * RATE) :]
    frames = np.lib.stride_tricks.sliding_window_view(middle, RATE // 4)[:: RATE // 10]
    spectra = np.abs(np.fft.rfft(frames * np.hanning(RATE // 4), 4 * RATE))
    assert spectra.argmax(axis=1) * RATE / (4 * RATE) == pytest.approx(440, abs=0.6), "no step in pitch"
    blocks = middle[: len(middle) // 640 * 640].reshape(-1, 640)
    level_db = 20 * np.log10(np.sqrt((blocks**2).mean(axis=1)))
    assert np.ptp(level_db) < 1.5, "no hole and no bump at a join"
    assert np.abs(np.diff(middle, 2)).max() < 1.3 * np.abs(np.diff(music[0], 2)).max(), "no click"


def test_attacks_stay_where_the_map_puts_them_and_as_sharp_as_they_were():
    beats_s = np.arange(0.5, 10, 0.5)
    music = struck(beats_s)
    way = TimeMap((0.0, 5.0, 10.0), (0.1, 5.2, 10.05), 0.5)
    bent = warp(music, RATE, way)
    wanted_s = np.interp(beats_s, way.music_s, way.picture_s)[:-1]
    reach = round(0.02 * RATE)
    for at_s in wanted_s:
        first = round(at_s * RATE)
        near = np.abs(bent[0, first - reach : first + reach])
        assert abs(int((near > 0.5 * near.max()).argmax()) - reach) / RATE < 0.01
        before, after = bent[0, first - 3 * reach : first - reach], bent[0, first : first + reach]
        assert (after**2).mean() > 30 * (before**2).mean(), "no echo before the attack"


@pytest.mark.parametrize("shift_s", [0.2, -0.2])
def test_no_end_is_left_empty_what_is_a_beat_away_plays_there(shift_s):
    music = struck(np.arange(0.0, 8, 0.5), 8.0)
    way = TimeMap((0.0, 8.0), (-shift_s, 8.0 - shift_s), 0.5)
    moved = warp(music, RATE, way)
    edge = slice(None, round(0.15 * RATE)) if shift_s > 0 else slice(-round(0.15 * RATE), None)
    chord = np.sqrt((music[0, round(0.3 * RATE) : round(0.45 * RATE)] ** 2).mean())
    assert np.sqrt((moved[0, edge] ** 2).mean()) > 0.7 * chord
    accents = musical_accents(onset_strength(moved, RATE))
    away = np.abs(accents[:, None] - (np.arange(-1, 18) * 0.5 + shift_s)[None]).min(axis=1)
    assert np.median(away) < 0.03 and moved.shape == music.shape


def test_the_same_map_without_a_shift_gives_the_same_samples():
    music = struck(np.arange(0.3, 8, 0.5), 8.0)
    assert np.array_equal(warp(music, RATE, TimeMap((0.0, 8.0), (0.0, 8.0), 0.5)), music)


def test_music_that_meets_its_hit_points_already_is_left_as_it_is():
    beats_s = np.arange(0.5, 10, 1.0)
    music = struck(beats_s)
    moved, done = align(music, RATE, at(*beats_s))
    assert moved is music and done == Alignment(1.0, 1.0)
    record = {"hits_before": 1.0, "hits_after": 1.0, "shift_s": 0.0, "most_bend": 0.0, "points": []}
    assert done.record() == record


def test_without_hit_points_sound_or_pulse_nothing_is_done():
    music = struck(np.arange(0.5, 10, 0.5))
    assert align(music, RATE, []) == (music, None)
    assert align(music, RATE, at(12.0))[1] is None, "the hit point lies beyond the music"
    assert align(np.zeros((2, RATE), np.float32), RATE, at(0.5))[1] is None
    still = np.full((2, 4 * RATE), 0.1, np.float32)
    assert align(still, RATE, at(1.0, 2.0))[1].way is None
    assert align(music[:, : RATE // 2], RATE, at(0.2))[0].shape == (2, RATE // 2)


def test_a_map_that_would_cost_the_pulse_is_not_used(monkeypatch):
    music, points = struck(np.arange(0.5, 10, 1.0)), at(*(np.arange(1.5, 9, 1.0) + 0.2))
    assert align(music, RATE, points)[1].way is not None
    values = iter([0.9, *([0.5] * 9)])
    monkeypatch.setattr("expotion_cli.scoring.follow.align.pulse_clarity", lambda strength: next(values))
    moved, done = align(music, RATE, points)
    assert moved is music and done.way is None and done.hits_after == done.hits_before


@pytest.mark.parametrize(("early", "late"), [(1.0, 0.0), (0.0, 1.0)])
def test_heavier_hit_points_win_where_not_all_can_be_met(early, late):
    heard = Heard.of(struck(np.arange(0.4, 10, 0.8)), RATE)
    points = [*at(3.6 + 0.2, weight=early), *at(6.8 - 0.2, weight=late)]
    way = find_map(heard, points, KERNEL, most_bend=0.0)
    assert way is not None and way.shift_s == pytest.approx(0.2 if early > late else -0.2, abs=0.05)


def test_where_the_stretching_library_is_missing_music_is_shifted_only(monkeypatch):
    monkeypatch.setattr("expotion_cli.scoring.follow.align.can_stretch", lambda: False)
    monkeypatch.setitem(__import__("sys").modules, "python_stretch", None)
    beats_s = np.arange(0.5, 10, 1.0)
    _, done = align(struck(beats_s), RATE, at(*(beats_s[1:-1] + 0.15)))
    assert done.hits_after == 1.0 and done.way.tempos == (1.0,)
    settings = Follow()
    assert hashed_fields(settings, has_tempo=False)["stretches"] is False


def test_only_sound_that_is_to_follow_is_aligned():
    assert warping.can_stretch()
    assert aligns(Follow(), has_tempo=False) and not aligns(Follow(), has_tempo=True)
    assert not aligns(Follow(align=False), has_tempo=False) and not aligns(Follow(mode="none"), has_tempo=False)
    assert hashed_fields(Follow(), has_tempo=True) == {} == hashed_fields(Follow(align=False), has_tempo=False)


def test_the_rung_aligns_first_then_follows_and_the_sidecar_tells_of_it():
    beats_s = np.arange(0.5, 10, 1.0)
    points = [{"time_s": round(float(time_s), 3), "weight": 0.8, "cause": "gesture"} for time_s in beats_s[1:-1] + 0.2]
    record = {"tempo": {"bpm": 100}, "hits": points, "intensity": {"rate_hz": 1, "values": [0.5]}}
    plan = from_record(record, Fraction(10))
    model, recipe = SimpleNamespace(codec=SoundCodec()), load_recipe("cinematic", {"follow.hits_per_s": 0.0})
    score = ladder.Score(struck(beats_s), RATE, None)

    def played(recipe):
        return ladder.follow(model, score, Timeline(Fraction(10), Fraction(50)), plan, recipe, seed=1)

    followed = played(recipe)
    said = followed.record()["alignment"]
    assert (said["hits_before"], said["hits_after"]) == (0.0, 1.0) and said["points"][0] == [0.0, -said["shift_s"]]
    moments_s = np.array([hit.time_s for hit in plan.hits])
    assert hits(moments_s, onset_strength(followed.audio, RATE)).value == 1.0, "with no accent laid over it"
    assert played(recipe.override({"follow.align": False})).record() == {"alignment": None}
    untouched = played(recipe.override({"follow.mode": "none"}))
    assert untouched.alignment is None and np.array_equal(untouched.audio, score.audio)


def test_only_hit_points_within_the_music_count():
    points = [{"time_s": time_s, "weight": 0.5, "cause": "gesture"} for time_s in (1.0, 4.0, 9.0)]
    record = {"tempo": {"bpm": 100}, "hits": points, "intensity": {"rate_hz": 1, "values": [0.5]}}
    plan = from_record(record, Fraction(10))
    assert len(plan.heard_hits) == 3
    assert [hit.time_s for hit in replace(plan, start_s=2.0, end_s=8.0).heard_hits] == [4.0]
