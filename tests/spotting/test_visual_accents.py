import numpy as np
import pytest

from expotion_cli.audio.onsets import RATE_HZ
from expotion_cli.spotting.visual_accents import visual_accents

GESTURES_S = [1.0, 2.2, 3.9, 5.0, 6.7, 8.4]


def bumps(times_s, seconds=10.0, width_s=0.08, heights=None) -> np.ndarray:
    at = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    heights = heights or [1.0] * len(times_s)
    return sum(h * np.exp(-0.5 * ((at - t) / width_s) ** 2) for t, h in zip(times_s, heights, strict=True))


def test_visual_accents_are_the_clear_maxima():
    assert visual_accents(bumps(GESTURES_S) + 0.02 * np.sin(np.arange(500))) == pytest.approx(GESTURES_S, abs=0.03)


def test_of_many_maxima_only_the_strongest_ten_of_ten_seconds_count():
    times = np.arange(0.3, 9.8, 0.5)
    found = visual_accents(bumps(times, heights=list(np.linspace(1, 2, len(times)))))
    assert found == pytest.approx(times[-10:], abs=0.03)


def test_a_still_picture_has_no_accents():
    assert not any(len(visual_accents(motion)) for motion in (np.zeros(500), np.ones(500), np.ones(2)))
