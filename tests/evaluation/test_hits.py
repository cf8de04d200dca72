import math

import numpy as np
import pytest

from expotion_cli.audio.onsets import RATE_HZ
from expotion_cli.evaluation.hits import hits, musical_accents, visual_accents

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
    assert len(visual_accents(np.zeros(500))) == 0
    assert hits(np.zeros(0), np.ones(500)).num_accents == 0 and math.isnan(hits(np.zeros(0), np.ones(500)).value)


def test_music_that_strikes_at_the_gestures_hits_all_and_chance_is_low():
    found = hits(np.array(GESTURES_S), bumps([t + 0.05 for t in GESTURES_S], width_s=0.02))
    assert found.value == 1 and found.chance < 0.3 and found.num_accents == 6


def test_music_that_strikes_elsewhere_hits_none():
    assert hits(np.array(GESTURES_S), bumps([t + 0.3 for t in GESTURES_S], width_s=0.02)).value == 0


def test_dense_music_hits_all_by_chance():
    found = hits(np.array(GESTURES_S), bumps(np.arange(0, 10, 0.18), width_s=0.02))
    assert found.value == 1 and found.chance > 0.9


def test_only_clear_maxima_of_the_onset_strength_are_musical_accents():
    strength = bumps([2.0, 5.0], heights=[1.0, 0.05], width_s=0.02)
    assert musical_accents(strength) == pytest.approx([2.0], abs=0.02)
