"""The plan stream says when the next hit point comes, and tells every delayed voice exactly which step it is."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from expotion_cli.music.codecs.notes.tokens import NUM_VOICES
from expotion_cli.music.plan_stream import HIT_LAGS, PLAN_DIMS, StepPlan, asked, on_steps, plan_rows
from expotion_cli.spotting.hits import HitPoint
from expotion_cli.spotting.plan import CuePlan
from expotion_cli.spotting.sections import Intensity, Section
from expotion_cli.timing import Tempo

STEPS = 192
PLAN = StepPlan(np.array([0.2, 0.4, 0.9, 0.6]), ((50, 0.5), (120, 1.0)), (0, 96))


def column(rows: np.ndarray, name: str) -> np.ndarray:
    return rows[:, PLAN_DIMS.index(name)]


def test_rows_tell_each_voice_of_a_hit_point_at_its_own_step():
    rows = plan_rows(PLAN, STEPS)
    assert rows.shape == (STEPS, len(PLAN_DIMS)) and rows.dtype == np.float32
    assert tuple(range(NUM_VOICES)) == HIT_LAGS
    for lag in HIT_LAGS:
        struck = column(rows, f"hit_back_{lag}")
        assert np.flatnonzero(struck > struck.min()).tolist() == [50 + lag, 120 + lag]
        assert struck[120 + lag] > struck[50 + lag]


def test_a_hit_point_comes_nearer_and_goes_away_by_its_weight():
    ahead, behind = (column(plan_rows(PLAN, STEPS), f"hit_{side}_soon") for side in ("ahead", "behind"))
    assert (np.diff(ahead[:51]) > 0).all() and (np.diff(behind[120:]) < 0).all()
    assert ahead[120] > ahead[50] and behind[:50].max() == behind.min()
    assert ahead[121:].max() == ahead.min(), "none comes after the last"
    steps = {round(float(value), 6) for value in behind[120:150]}
    assert len(steps) == 30, "every distance has a value of its own"


def test_intensity_is_that_of_the_bar_and_of_the_next():
    rows = plan_rows(PLAN, STEPS)
    now, following, change = (column(rows, name) for name in ("intensity", "intensity_next_bar", "intensity_change"))
    assert np.allclose(now[48:], following[:-48][: STEPS - 48]) and now[0] < now[48] < now[96]
    assert change[0] > 0 > change[96] and (following[144:] == now[144:]).all()
    intensity, hits = asked(rows)
    assert np.allclose(intensity[::48], PLAN.intensity) and np.flatnonzero(hits > 0.01).tolist() == [50, 120]


def test_sections_draw_near_whatever_their_number():
    ahead = column(plan_rows(PLAN, STEPS), "section_ahead")
    assert ahead[96] == ahead.max() and ahead[95] < ahead[96] and ahead[97:].max() == ahead.min()
    bare = plan_rows(StepPlan(np.array([0.5])), STEPS)
    assert np.isfinite(bare).all() and (bare == bare[0]).all()


@pytest.mark.parametrize("start", [0, 48, 144])
def test_a_plan_seen_from_a_later_bar_gives_the_same_rows(start):
    whole = plan_rows(PLAN, STEPS)
    assert np.allclose(plan_rows(PLAN.shifted(start), STEPS - start), whole[start:], atol=1e-6)


def test_times_become_steps_through_the_tempo_map():
    intensity = Intensity(10.0, tuple(np.linspace(0, 1, 80).tolist()), (), "made up")
    hits = tuple(
        HitPoint(time_s, weight, "user", "") for time_s, weight in ((1.0, 0.4), (1.01, 0.9), (3.0, 0.5), (9.0, 1.0))
    )
    tempo = Tempo(Fraction(120), Fraction(-1, 2), 0.0)
    plan = CuePlan(8.0, tempo, intensity, hits, sections=(Section(0, 4, 0.3, ""), Section(4, 8, 0.7, "")))
    timeline = tempo.timeline(Fraction(8))
    found = on_steps(plan, timeline)
    assert found.hits[0] == (36, 0.9), "of two at one step the heavier counts"
    assert found.hits[1] == (84, 0.5) and found.hits[-1][0] == timeline.num_steps - 1
    assert found.sections == (12, 108)
    assert len(found.intensity) == -(-timeline.num_steps // 48) and (np.diff(found.intensity) > 0).all()
    bent = replace(tempo, bends=((0.0, 1.03), (8.0, 1.03)))
    later = on_steps(replace(plan, tempo=bent), bent.timeline(Fraction(8)))
    assert later.hits[1][0] == round(bent.timeline(Fraction(8)).step_at(3.0)) > 84
