"""Spotting: hit points where a viewer sees accents, a grid that bends to them, intensity and sections."""

from __future__ import annotations

import itertools
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from expotion_cli.demo import DEMO_CLIPS, write_demo_clips
from expotion_cli.scoring import ladder
from expotion_cli.spotting.cuts import Cut
from expotion_cli.spotting.grid import fit_grid, nearest_places
from expotion_cli.spotting.hits import HitPoint, find_hit_points
from expotion_cli.spotting.plan import make_plan
from expotion_cli.spotting.sections import INTENSITY_RATE_HZ, find_intensity, find_sections
from expotion_cli.timing import MOST_BEND, STEPS_PER_BEAT, Tempo

RANGE = (80.0, 130.0)


def flow(gestures_s, duration_s=10.0, heights=None, floor=0.0, sharp=False) -> dict[str, SimpleNamespace]:
    """A flow stream with a bump of energy at each gesture; a sharp one stops 60 ms after."""
    at = np.arange(round(duration_s * 25)) / 25
    heights = heights or [0.2] * len(gestures_s)

    def bumps(late_s: float, width_s: float) -> np.ndarray:
        shapes = [np.exp(-0.5 * ((at - t - late_s) / width_s) ** 2) for t in gestures_s]
        return np.sum([h * shape for h, shape in zip(heights, shapes, strict=True)], axis=0)

    values = np.stack([floor + bumps(0, 0.1), bumps(0.06, 0.03) if sharp else 0 * at], axis=1).astype(np.float32)
    mask = np.ones(len(at), bool)
    return {"flow": SimpleNamespace(values=values, mask=mask, rate_hz=25.0, dims=("energy", "accent"))}


def hits_at(*times_s: float, weight: float = 0.8) -> list[HitPoint]:
    return [HitPoint(t, weight, "gesture", "") for t in times_s]


@pytest.fixture(scope="module")
def spotted(tmp_path_factory) -> dict[str, np.ndarray]:
    """The hit points of the demo clips, by name."""
    folder = tmp_path_factory.mktemp("demo")
    found = {}
    for clip in write_demo_clips(folder):
        seen = ladder.see(clip.path, ("flow",))
        found[clip.name] = np.array([hit.time_s for hit in find_hit_points(seen.streams, clip.duration_s)])
    return found


@pytest.mark.parametrize("name", [clip.name for clip in DEMO_CLIPS if clip.accent_times_s])
def test_known_accents_are_found_within_60_ms_and_hardly_anything_else(spotted, name):
    known = np.array(next(clip.accent_times_s for clip in DEMO_CLIPS if clip.name == name))
    found = spotted[name]
    recall = np.mean([np.abs(found - time).min() <= 0.06 for time in known])
    precision = np.mean([np.abs(known - time).min() <= 0.06 for time in found])
    assert recall >= 0.9 and precision >= 0.9, (recall, precision)


def test_a_person_who_sits_still_has_no_hit_point(spotted):
    assert not len(spotted["still"])


def test_free_gestures_give_about_one_hit_point_a_second_the_strongest_ones():
    times = np.cumsum(np.random.default_rng(4).uniform(0.35, 0.7, 17)) + 0.2
    heights = list(np.random.default_rng(5).uniform(0.1, 0.4, 17))
    found = find_hit_points(flow(times, heights=heights), 10.0)
    assert 5 <= len(found) <= 11
    strongest = times[int(np.argmax(heights))]
    assert min(abs(hit.time_s - strongest) for hit in found) < 0.05


def test_even_motion_keeps_all_its_hit_points():
    times = np.arange(0.4, 9.8, 0.55)
    assert len(find_hit_points(flow(times), 10.0)) == len(times)


def test_a_gesture_that_stops_sharply_is_hit_near_the_stop_and_a_soft_one_at_its_peak():
    soft, sharp = (find_hit_points(flow([2.0, 5.1, 7.7], sharp=sharp), 10.0) for sharp in (False, True))
    assert [hit.time_s for hit in soft] == pytest.approx([2.0, 5.1, 7.7], abs=0.02)
    later = [b.time_s - a.time_s for a, b in zip(soft, sharp, strict=True)]
    assert all(0.01 < step <= 0.06 for step in later) and "then a stop" in sharp[0].source


def test_a_cut_is_a_hit_point_and_outranks_a_gesture_beside_it():
    found = find_hit_points(flow([2.0, 5.0]), 10.0, [(5.1, "hard cut")])
    assert [(hit.cause, hit.time_s) for hit in found if hit.time_s > 3] == [("cut", 5.1)]
    assert all(hit.source for hit in found)


def test_nothing_seen_gives_a_plan_without_hit_points_and_with_even_intensity():
    plan = make_plan({}, Fraction(10), RANGE)
    assert plan.hits == () and set(plan.intensity.values) == {0.5} and plan.tempo.bends == ()
    assert [(each.start_s, each.end_s) for each in plan.sections] == [(0.0, 10.0)]


@pytest.mark.parametrize("values", [np.zeros(1), np.zeros(250), np.random.default_rng(0).uniform(0, 1, 250)])
def test_one_frame_black_and_noise_are_spotted_without_failing(values):
    stream = SimpleNamespace(
        values=np.stack([values, values], axis=1).astype(np.float32),
        mask=np.ones(len(values), bool), rate_hz=25.0, dims=("energy", "accent"),
    )  # fmt: skip
    plan = make_plan({"flow": stream}, Fraction(len(values), 25), RANGE)
    assert len(plan.hits) <= 12 and 80 <= float(plan.tempo.bpm) <= 130


def test_the_grid_moves_and_bends_to_the_hit_points_by_at_most_three_percent():
    hits = hits_at(0.93, 2.21, 3.47, 4.9, 6.05, 7.41, 8.8)
    tempo = fit_grid(Tempo(Fraction(100), Fraction(0), 0.0), hits, 10.0, RANGE)
    assert tempo.bends and all(abs(factor - 1) <= MOST_BEND for _, factor in tempo.bends)
    factors = [factor for _, factor in tempo.bends]
    assert max(abs(b - a) for a, b in itertools.pairwise(factors)) < 0.03, "it never jumps"
    timeline, beat_s = tempo.timeline(Fraction(10)), 60 / float(tempo.bpm)
    steps = np.array([timeline.step_at(hit.time_s) for hit in hits]) / STEPS_PER_BEAT
    assert np.abs(nearest_places(steps * beat_s, beat_s)[0]).mean() < 0.02


def test_twenty_minutes_of_hit_points_is_fitted_in_little_memory_and_its_map_never_jumps():
    times = np.cumsum(np.random.default_rng(2).uniform(0.6, 1.4, 1200))
    tempo = fit_grid(Tempo(Fraction(100), Fraction(0), 0.0), hits_at(*times), float(times[-1]) + 1, (100.0, 100.0))
    factors = np.array([factor for _, factor in tempo.bends])
    assert np.abs(factors - 1).max() <= MOST_BEND and np.abs(np.diff(factors)).max() <= 0.05
    timeline = tempo.timeline(Fraction(round(times[-1]) + 1))
    beats = np.array([timeline.step_at(float(t)) for t in times[::50]]) / STEPS_PER_BEAT
    assert np.abs(nearest_places(beats * 0.6, 0.6)[0]).mean() < 0.035


def test_a_fixed_tempo_stays_and_only_its_beats_move():
    tempo = fit_grid(Tempo(Fraction(96), Fraction(0), 0.0), hits_at(0.3, 0.925, 1.55, 2.8), 4.0, (96.0, 96.0))
    assert tempo.bpm == 96
    steps = [tempo.timeline(Fraction(4)).step_at(t) / STEPS_PER_BEAT for t in (0.3, 0.925, 1.55, 2.8)]
    assert np.abs(np.array(steps) - np.rint(steps)).max() < 0.03


def test_intensity_is_high_where_much_moves_and_low_where_little_does():
    values, source = find_intensity(flow([6.0, 6.4, 6.8, 7.2, 7.6]), 10.0)
    assert values[60:75].mean() > 0.6 > 0.3 > values[10:40].mean() and "flow" in source
    assert values.min() >= 0 and values.max() <= 1


def test_a_long_clip_that_changes_its_character_has_sections_at_the_cut_nearby():
    values = np.concatenate([np.full(150, 0.2), np.full(150, 0.8)])
    calm, lively = find_sections(values, 30.0, [15.6])
    assert calm.end_s == lively.start_s == 15.6 and "at a cut" in lively.source and lively.intensity > calm.intensity
    assert len(find_sections(np.full(300, 0.5), 30.0)) == 1
    assert len(find_sections(values[:150], 150 / INTENSITY_RATE_HZ)) == 1, "a short clip is one section"


def test_cuts_and_a_users_own_hit_points_stand_in_the_plan():
    own = (HitPoint(2.1, 1.0, "user", "mine"),)
    plan = make_plan(flow([2.0, 5.0]), Fraction(10), RANGE, cuts=(Cut(7.0, "hard", 0.9),), user_hits=own)
    assert [(hit.cause, round(hit.time_s, 1)) for hit in plan.hits] == [("user", 2.1), ("gesture", 5.0), ("cut", 7.0)]
