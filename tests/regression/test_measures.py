"""How far apart two renderings sound."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.errors import UsageError
from expotion_cli.media.flac import to_16_bit
from expotion_cli.regression.measures import TOLERANCES, Sound, compare, onset_f1, tolerances

RATE = 44_100


def tune(seed: int, duration_s: float = 4.0, rate: int = RATE) -> np.ndarray:
    """[2, n] plucked notes, four a second or so."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(duration_s * rate)) / rate
    audio = np.zeros_like(times)
    start = 0.1
    while start < duration_s - 0.1:
        pitch = 220 * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
        since = times - start
        envelope = np.where(since >= 0, np.exp(-np.maximum(since, 0) * 4), 0)
        audio += 0.2 * envelope * sum(np.sin(2 * np.pi * pitch * k * since) / k**2 for k in (1, 2, 3))
        start += rng.choice([0.25, 0.375, 0.5])
    return np.stack([audio, audio * 0.8])


def sound(audio: np.ndarray, rate: int = RATE) -> Sound:
    return Sound(to_16_bit(audio), rate)


def beyond(distances: dict) -> set[str]:
    limits = tolerances()
    return {name for name, value in distances.items() if value is not None and value > limits[name].limit}


def test_equal_sounds_are_at_no_distance_by_any_measure():
    distances = compare(sound(tune(1)), sound(tune(1)))
    assert set(distances) == {tolerance.name for tolerance in TOLERANCES} and set(distances.values()) == {0.0}
    touched = sound(tune(1))
    touched.samples[0, RATE] += 1  # the least there is, so that all measures are taken
    assert all(value < 0.01 for value in compare(sound(tune(1)), touched).values())


@pytest.mark.parametrize("gain_db", [-1.0, 1.0])
def test_one_decibel_is_seen_as_loudness_and_as_nothing_else(gain_db):
    distances = compare(sound(tune(1) * 0.8), sound(tune(1) * 0.8 * 10 ** (gain_db / 20)))
    assert beyond(distances) == {"loudness"} and abs(distances["loudness"] - 1) < 0.11


@pytest.mark.parametrize("shift_ms", [-50, 20, 50])
def test_a_shift_in_time_is_measured_to_the_millisecond(shift_ms):
    moved = np.roll(tune(1), round(shift_ms / 1000 * RATE), axis=1)
    distances = compare(sound(tune(1)), sound(moved))
    assert abs(distances["lag"] - abs(shift_ms)) < 1 and "lag" in beyond(distances)
    assert ("onsets" in beyond(distances)) == (abs(shift_ms) > 30)


def test_noise_as_faint_as_an_encoders_stays_within_all_tolerances():
    audio = tune(1)
    noise = np.random.default_rng(0).standard_normal(audio.shape)
    assert not beyond(compare(sound(audio), sound(audio + noise * np.abs(audio) * 0.01)))


def test_another_tune_is_beyond_in_spectrum_onsets_and_character():
    distances = compare(sound(tune(1)), sound(np.sign(tune(2)) * 0.05))
    assert {"spectrum", "onsets", "character"} <= beyond(distances)


def test_a_filtered_sound_differs_in_spectrum_but_not_in_time():
    audio = tune(1)
    spectrum = np.fft.rfft(audio)
    spectrum[:, int(900 * audio.shape[1] / RATE) :] *= 0.1
    distances = compare(sound(audio), sound(np.fft.irfft(spectrum, audio.shape[1])))
    assert "spectrum" in beyond(distances) and distances["lag"] < 2 and "onsets" not in beyond(distances)


def test_a_gap_shows_in_the_swell():
    audio = tune(1)
    audio[:, RATE : int(1.6 * RATE)] = 0
    assert "swell" in beyond(compare(sound(tune(1)), sound(audio)))


def test_the_sample_rate_does_not_matter():
    assert not beyond(compare(sound(tune(1)), sound(tune(1, rate=48_000), 48_000)))


def test_silence_equals_silence_and_differs_from_sound():
    silence = np.zeros((2, RATE))
    assert set(compare(sound(silence), sound(silence)).values()) == {0.0}
    for pair in ((silence, tune(1, 1.0)), (tune(1, 1.0), silence)):
        distances = compare(*(sound(audio) for audio in pair))
        assert {"loudness", "onsets"} <= beyond(distances)
        assert all(value is None or np.isfinite(value) for value in distances.values())


@pytest.mark.parametrize("duration_s", [0.05, 0.3])
def test_very_short_sounds_can_be_compared(duration_s):
    audio = tune(1, 1.0)[:, RATE // 10 :][:, : round(duration_s * RATE)]
    assert set(compare(sound(audio), sound(audio)).values()) == {0.0}


def test_a_sound_that_ends_early_is_not_the_same():
    audio = tune(1)
    assert {"spectrum", "onsets"} & beyond(compare(sound(audio), sound(audio[:, : RATE * 2])))


def test_onsets_pair_up_once_each():
    one = np.array([0.5, 1.0, 2.0])
    assert onset_f1(one, one) == onset_f1(np.zeros(0), np.zeros(0)) == 1
    assert onset_f1(one, one + 0.029) == 1 and onset_f1(one, one + 0.031) == 0
    assert onset_f1(one, np.array([0.5, 0.51, 1.0, 1.5])) == pytest.approx(4 / 7)
    assert onset_f1(one, np.zeros(0)) == 0


def test_tolerances_can_be_replaced_and_later_ones_win():
    limits = tolerances({"lag": 3, "spectrum": 4}, {"lag": 5})
    assert (limits["lag"].limit, limits["spectrum"].limit) == (5, 4)
    assert limits["onsets"] == next(tolerance for tolerance in TOLERANCES if tolerance.name == "onsets")


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"spectrom": 1}, "did you mean 'spectrum'"),
        ({"lag": -1}, "-1"),
        ({"lag": float("nan")}, "nan"),
        ({"lag": "2"}, "2"),
        ({"lag": True}, "True"),
    ],
)
def test_a_wrong_tolerance_is_named(values, wanted):
    with pytest.raises(UsageError, match=wanted):
        tolerances(values)
