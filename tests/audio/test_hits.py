import math

import numpy as np
import pytest

from expotion_cli.audio.hits import hits, musical_accents, share_met
from expotion_cli.audio.onsets import RATE_HZ

GESTURES_S = [1.0, 2.2, 3.9, 5.0, 6.7, 8.4]


def bumps(times_s, seconds=10.0, width_s=0.08, heights=None) -> np.ndarray:
    at = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    heights = heights or [1.0] * len(times_s)
    return sum(h * np.exp(-0.5 * ((at - t) / width_s) ** 2) for t, h in zip(times_s, heights, strict=True))


def test_without_moments_there_is_nothing_to_hit():
    found = hits(np.zeros(0), np.ones(500))
    assert found.num_moments == 0 and math.isnan(found.value) and math.isnan(share_met(np.zeros(0), np.ones(3)))


def test_music_that_strikes_at_the_gestures_hits_all_and_chance_is_low():
    found = hits(np.array(GESTURES_S), bumps([t + 0.05 for t in GESTURES_S], width_s=0.02))
    assert found.value == 1 and found.chance < 0.3 and found.num_moments == 6


def test_music_that_strikes_elsewhere_hits_none():
    assert hits(np.array(GESTURES_S), bumps([t + 0.3 for t in GESTURES_S], width_s=0.02)).value == 0


def test_dense_music_hits_all_by_chance():
    found = hits(np.array(GESTURES_S), bumps(np.arange(0, 10, 0.18), width_s=0.02))
    assert found.value == 1 and found.chance > 0.9


def test_only_clear_maxima_of_the_onset_strength_are_musical_accents():
    strength = bumps([2.0, 5.0], heights=[1.0, 0.05], width_s=0.02)
    assert musical_accents(strength) == pytest.approx([2.0], abs=0.02)


def test_the_share_met_counts_moments_within_a_tenth_of_a_second():
    assert share_met(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.9, 2.1, 3.11])) == 0.5
    assert share_met(np.array([1.0]), np.zeros(0)) == 0
