"""Lengths and rates are exact."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from expotion_cli.timing import Timeline, beat_rate_hz, exact, num_rows, num_samples, resample_rows


def test_rates_are_read_exactly():
    assert exact("30000/1001") == Fraction(30000, 1001)
    assert exact(29.97) == Fraction(2997, 100)
    assert exact(0.1) == Fraction(1, 10)
    assert exact(25) == 25
    third = Fraction(1, 3)
    assert exact(third) is third


def test_twelve_steps_a_beat():
    assert beat_rate_hz(60) == 12
    assert beat_rate_hz(Fraction(97)) == Fraction(97, 5)
    assert beat_rate_hz(100.5) == Fraction(201, 10)


def test_samples_are_rounded_half_up_and_never_drift():
    assert num_samples(Fraction(1, 2), 3) == 2
    assert num_samples(Fraction(1, 3), 4) == 1
    ntsc_hour = 107_892 * Fraction(1001, 30000)
    assert num_samples(ntsc_hour, 48_000) == 107_892 * 48_000 * 1001 // 30000
    pieces = [num_samples(Fraction(i + 1, 7), 44_100) - num_samples(Fraction(i, 7), 44_100) for i in range(7)]
    assert sum(pieces) == 44_100


@pytest.mark.parametrize(
    ("duration", "rate", "rows"),
    [(Fraction(10), 25, 250), (Fraction(101, 10), 25, 253), (Fraction(1, 100), 25, 1), (Fraction(0), 25, 1)],
)
def test_a_stream_has_a_row_for_every_time_before_the_end(duration, rate, rows):
    assert num_rows(duration, Fraction(rate)) == rows


def test_the_steps_of_a_timeline_cover_the_picture_and_no_more():
    for duration in (Fraction(10), Fraction(1, 30), Fraction(31337, 1000), Fraction(1001, 100)):
        for rate in (Fraction(50), beat_rate_hz(97), beat_rate_hz(Fraction(355, 3))):
            for start in (Fraction(0), Fraction(-1, 7), Fraction(-2)):
                timeline = Timeline(duration, rate, start)
                times = timeline.step_times()
                assert len(times) == timeline.num_steps
                assert times[0] == float(start)
                last = start + (timeline.num_steps - 1) / rate
                assert last < duration <= last + 1 / rate
                assert timeline.samples(44_100) == num_samples(duration, 44_100)


@pytest.mark.parametrize("wrong", [(0, 50, 0), (1, 0, 0), (1, 50, Fraction(1, 10))])
def test_a_timeline_without_length_or_that_begins_late_is_refused(wrong):
    with pytest.raises(AssertionError):
        Timeline(*map(Fraction, wrong))


def test_rows_are_read_between_and_held_at_the_ends():
    values = np.array([[0.0, 10.0], [1.0, 20.0], [4.0, 0.0]], dtype=np.float32)
    found = resample_rows(values, 2.0, np.array([-3.0, 0.0, 0.25, 0.5, 0.75, 1.0, 9.0]))
    assert found.dtype == np.float32
    assert found[:, 0].tolist() == [0, 0, 0.5, 1, 2.5, 4, 4]
    assert found[:, 1].tolist() == [10, 10, 15, 20, 10, 0, 0]
    assert resample_rows(values[:1], 2.0, np.array([-1.0, 5.0])).tolist() == [[0, 10], [0, 10]]


def test_reading_a_stream_at_its_own_times_changes_nothing():
    values = np.random.default_rng(0).normal(size=(250, 3)).astype(np.float32)
    assert np.allclose(resample_rows(values, 25.0, np.arange(250) / 25), values, atol=1e-5)


def bent(factors=((0.0, 1.0), (3.0, 1.03), (6.0, 0.97), (9.0, 1.0))) -> Timeline:
    return Timeline(Fraction(10), Fraction(24), Fraction(-1, 2), factors)


def test_a_tempo_map_of_ones_is_the_even_grid():
    even = Timeline(Fraction(10), Fraction(24), Fraction(-1, 2))
    mapped = bent(((0.0, 1.0), (10.0, 1.0)))
    assert mapped.num_steps == even.num_steps and mapped.step_times() == pytest.approx(even.step_times(), abs=1e-9)


def test_a_tempo_map_bends_steps_and_steps_lead_back_to_their_times():
    timeline = bent()
    steps = np.array([0.0, 5.0, 12.0, 100.5, 200.0, 251.0])
    times = timeline.time_of(steps)
    assert np.all(np.diff(times) > 0)
    assert [timeline.step_at(float(t)) for t in times] == pytest.approx(steps, abs=1e-3)
    faster = np.diff(timeline.time_of(np.array([80.0, 81.0])))[0]
    assert 1 / 24 / 1.03 <= faster < 1 / 24


def test_a_bent_grid_still_fills_the_picture():
    for factor in (0.97, 1.03):
        timeline = bent(((0.0, factor),))
        assert timeline.step_times()[-1] < 10 <= timeline.time_of(timeline.num_steps) + 1e-6
