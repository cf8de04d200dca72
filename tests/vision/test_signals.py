import numpy as np
import pytest

from expotion_cli.vision import signals

RATE = 25.0


def rows_of(times, found, values, count=50):
    return signals.rows_from_pictures(np.array(times), np.array(found), np.array(values)[:, None], count, RATE)


@pytest.mark.parametrize("fps", [15.0, 24.0, 29.97])
def test_even_motion_has_even_speed_whatever_the_picture_rate(fps):
    times = np.arange(0, 2.1, 1 / fps)
    rows = rows_of(times, np.ones(len(times)), 3.0 * times)
    speed = signals.speeds(rows.values, rows.spans, RATE)
    assert np.allclose(speed, 3.0, atol=1e-6) and rows.mask.all()


def test_short_gaps_are_interpolated_and_masked():
    times = np.arange(50) / RATE
    found = np.ones(50, dtype=bool)
    found[20:28] = False
    rows = rows_of(times, found, times)
    assert np.allclose(rows.values[:, 0], times)
    assert not rows.mask[20:28].any() and rows.mask[:20].all() and rows.mask[28:].all()


def test_long_gaps_hold_still_and_their_end_is_no_motion():
    times = np.arange(50) / RATE
    found = np.ones(50, dtype=bool)
    found[15:35] = False
    values = np.where(times < 0.8, 1.0, 9.0)
    rows = rows_of(times, found, values)
    assert (rows.values[15:34, 0] == 1.0).all() and rows.values[35, 0] == 9.0
    assert not rows.mask[15:34].any()
    assert np.allclose(signals.speeds(rows.values, rows.spans, RATE), 0)


def test_a_find_on_one_picture_alone_is_chance():
    found = np.zeros(50, dtype=bool)
    found[17] = True
    rows = rows_of(np.arange(50) / RATE, found, np.arange(50.0))
    assert not rows.mask.any() and (rows.values == 0).all() and rows.spans == ()


def test_smoothing_neither_delays_nor_reaches_further_than_one_row():
    pulse = np.zeros((21, 1))
    pulse[10] = 1
    assert signals.smooth(pulse)[8:13, 0].tolist() == [0, 0.25, 0.5, 0.25, 0]


def test_accents_mark_stops_and_turns_but_not_starts():
    velocity = np.zeros((60, 2))
    velocity[10:20, 0] = 2.0  # starts at 10, stops at 20
    velocity[30:40, 1], velocity[40:50, 1] = 3.0, -3.0  # turns at 40
    accent = signals.accents(velocity, [(0, 60)])
    assert accent[8:12].max() == 0
    assert accent[18:22].max() == pytest.approx(2.0)
    assert accent[38:42].max() == pytest.approx(6.0)
    assert accent[41:48].max() == 0


def test_noise_is_taken_off_every_vector_and_keeps_its_direction():
    cleaned = signals.without_noise(np.array([[3.0, 4.0], [0.1, 0.0], [0.0, 0.0]]), 0.5)
    assert np.allclose(cleaned, [[2.7, 3.6], [0, 0], [0, 0]])
