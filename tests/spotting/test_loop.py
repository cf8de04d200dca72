"""A loop's bars fill the picture, at the nearest tempo that allows it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from expotion_cli.errors import ClipError
from expotion_cli.spotting.hits import HitPoint
from expotion_cli.spotting.loop import close
from expotion_cli.spotting.plan import make_plan
from expotion_cli.spotting.plan_file import as_record, from_record
from expotion_cli.timing import MOST_BEND


def hits(*times):
    return [HitPoint(time, 0.9, "user", "made up") for time in times]


@pytest.mark.parametrize("seconds", ["9", "10.01", "7.3", "61.7"])
@pytest.mark.parametrize("metre", ["4/4", "3/4"])
def test_the_first_bar_begins_with_the_picture_and_the_last_ends_with_it(seconds, metre):
    duration = Fraction(seconds)
    found = make_plan({}, duration, (96, 144), user_hits=hits(1.13, 2.9, 4.61, 6.6), metre=metre)
    closed = close(found, duration, (96, 144))
    grid = closed.tempo.timeline(duration)
    assert closed.tempo.start == 0 and grid.num_steps % grid.bar_steps == 0
    assert abs(grid.step_at(float(duration)) - grid.num_steps) < 1e-6
    assert 96 <= closed.tempo.bpm <= 144
    assert all(abs(factor - 1) <= MOST_BEND for _, factor in closed.tempo.bends)
    again = from_record(as_record(closed), duration)
    assert len(again.tempo.bends) == len(closed.tempo.bends)


def test_the_nearest_tempo_is_taken_and_beats_still_bend_to_hit_points():
    duration = Fraction(9)
    plan = make_plan({}, duration, (96, 144), user_hits=hits(1.13, 2.9, 4.61))
    closed = close(replace(plan, tempo=replace(plan.tempo, bpm=Fraction(112))), duration, (96, 144))
    assert round(float(closed.tempo.bpm), 2) == 106.67
    even = replace(closed.tempo, bends=()).timeline(duration)
    bent = closed.tempo.timeline(duration)

    def miss(grid):
        steps = np.array([grid.step_at(hit.time_s) for hit in plan.hits]) / 3
        return np.abs(steps - np.rint(steps)).sum()

    assert miss(bent) < miss(even)


def test_intensity_is_the_same_on_both_sides_of_the_seam():
    plan = make_plan({}, Fraction(9), (96, 144))
    values = np.linspace(0.1, 0.9, len(plan.intensity.values))
    closed = close(replace(plan, intensity=replace(plan.intensity, values=tuple(values))), Fraction(9), (96, 144))
    found = np.array(closed.intensity.values)
    assert abs(found[0] - found[-1]) < 0.01
    assert np.allclose(found[25:-25], values[25:-25], atol=0.001)
    assert np.abs(np.diff(found)).max() < 0.06


@pytest.mark.parametrize(
    ("seconds", "tempo", "wanted"),
    [
        ("1.2", (96, 144), "too short for a loop: a bar takes 1.667 s at 144 bpm"),
        ("9", (110, 120), "at 106.67 or 133.33 bpm, and the tempo may be 110-120"),
        ("9", (120, 120), "at 106.67 or 133.33 bpm"),
    ],
)
def test_where_no_whole_bars_fit_the_tempos_that_do_are_named(seconds, tempo, wanted):
    duration = Fraction(seconds)
    with pytest.raises(ClipError, match=wanted):
        close(make_plan({}, duration, tempo), duration, tempo)


def test_a_fixed_tempo_may_move_by_three_percent():
    closed = close(make_plan({}, Fraction(9), (108, 108)), Fraction(9), (108, 108))
    assert round(float(closed.tempo.bpm), 2) == 106.67
