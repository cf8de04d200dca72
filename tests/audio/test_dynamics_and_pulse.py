import math

import numpy as np
import pytest

from expotion_cli.audio.dynamics import measure_dynamics
from expotion_cli.audio.onsets import RATE_HZ, onset_strength
from expotion_cli.audio.pulse import pulse_clarity

RATE = 22_050


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (2, round(seconds * RATE))).astype(np.float32)


def clicks(times_s: list[float], seconds: float) -> np.ndarray:
    sound = np.zeros((2, round(seconds * RATE)), np.float32)
    burst = np.random.default_rng(0).normal(0, 0.3, 800) * np.exp(-np.arange(800) / 200)
    for time_s in times_s:
        first = round(time_s * RATE)
        part = sound[:, first : first + 800]
        part += burst[: part.shape[1]].astype(np.float32)
    return sound


def test_steady_noise_has_hardly_any_spread_and_no_hole():
    found = measure_dynamics(noise(10), RATE)
    assert found.spread_db < 1 and found.hole_share == 0


def test_a_step_of_12_db_is_a_spread_of_12_db():
    sound = noise(10)
    sound[:, : 5 * RATE] *= 10 ** (-12 / 20)
    assert measure_dynamics(sound, RATE).spread_db == pytest.approx(12, abs=0.7)


def test_a_gap_of_two_seconds_is_a_hole_of_that_share():
    sound = noise(10)
    sound[:, 4 * RATE : 6 * RATE] *= 0.01
    # 8.3 s of blocks count; a block of 0.4 s lies in the hole while hardly any of the rest reaches into it.
    assert measure_dynamics(sound, RATE).hole_share == pytest.approx(1.65 / 7.95, abs=0.03)


def test_fades_at_the_ends_do_not_count():
    sound = noise(10)
    sound[:, : round(0.15 * RATE)] = 0
    sound[:, -RATE:] = 0
    assert measure_dynamics(sound, RATE).hole_share == 0


@pytest.mark.parametrize("sound", [np.zeros((2, 5 * RATE), np.float32), noise(1.9)])
def test_silence_and_short_sounds_have_no_dynamics(sound):
    found = measure_dynamics(sound, RATE)
    assert math.isnan(found.spread_db) and math.isnan(found.hole_share)


def test_a_metronome_has_a_pulse_and_scattered_clicks_have_less():
    even = pulse_clarity(onset_strength(clicks(list(np.arange(0, 10, 0.5)), 10), RATE))
    scattered = pulse_clarity(onset_strength(clicks(sorted(np.random.default_rng(1).uniform(0, 9.9, 20)), 10), RATE))
    assert even > 0.85 and scattered < even - 0.3


def test_loud_hits_off_the_beat_weaken_the_pulse():
    beats = list(np.arange(0, 10, 0.5))
    steady = pulse_clarity(onset_strength(clicks(beats, 10), RATE))
    hit = clicks(beats, 10) + 3 * clicks([1.17, 2.88, 4.1, 5.63, 7.31, 8.86], 10)
    assert pulse_clarity(onset_strength(hit, RATE)) < steady - 0.05


def test_silence_has_no_pulse_and_a_short_sound_no_value():
    assert pulse_clarity(np.zeros(500), RATE_HZ) == 0
    assert math.isnan(pulse_clarity(np.ones(100), RATE_HZ))
