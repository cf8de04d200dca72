"""Music beside the clip's own sound: how far under it, and where it moves aside."""

from __future__ import annotations

import numpy as np
import pytest
from made_sounds import TALK_S, band, talk
from options import mix, mix_down

from expotion_cli.audio.filters import apply_sections, high_pass, low_pass
from expotion_cli.audio.loudness import integrated_lufs, momentary_lufs
from expotion_cli.media.beneath import ROWS_HZ, ducked_share

RATE = 16_000
LENGTH = 14 * RATE


@pytest.fixture(scope="module")
def tune() -> np.ndarray:
    """[2, LENGTH] music that never pauses."""
    return np.stack([band(RATE, LENGTH, seed=1)] * 2)


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    """[2, LENGTH]: somebody speaks twice, then no more."""
    return np.stack([np.pad(talk(), (0, LENGTH - 7 * RATE))] * 2)


def in_band(sound: np.ndarray, spans: tuple[tuple[float, float], ...]) -> float:
    """Level in dB of what lies between 300 and 3,400 Hz within spans."""
    heard = apply_sections(sound, [high_pass(300, RATE), low_pass(3400, RATE)], RATE // 10)
    parts = [heard[:, int(a * RATE) : int(b * RATE)] for a, b in spans]
    return float(10 * np.log10(np.mean(np.concatenate(parts, axis=1) ** 2)))


def test_ducked_music_leaves_the_speech_its_band_and_is_back_within_a_second(tune, voice):
    made = mix_down(tune, RATE, num_samples=LENGTH, original=voice, mode="duck", speech=TALK_S)
    beneath = made.sound - voice
    assert in_band(voice, TALK_S) - in_band(beneath, TALK_S) > 10
    rest_db = made.gain_db.max()
    for _, end in TALK_S:
        assert made.gain_db[round((end + 1.0) * ROWS_HZ)] > rest_db - 1
    assert np.all(made.gain_db[round(9 * ROWS_HZ) :] == rest_db)
    at_rest = slice(round(9 * RATE), round(13 * RATE))
    assert integrated_lufs(beneath[:, at_rest], RATE) == pytest.approx(integrated_lufs(voice, RATE), abs=3)


def test_music_is_down_before_the_first_syllable_and_moves_without_a_click(tune, voice):
    made = mix_down(tune, RATE, num_samples=LENGTH, original=voice, mode="duck", speech=TALK_S)
    for start, _ in TALK_S:
        assert made.gain_db[round(start * ROWS_HZ)] < made.gain_db.max() - 10
    assert np.abs(np.diff(made.gain_db)).max() < 1.0  # dB in 10 ms


def test_music_stays_down_in_pauses_between_words_and_comes_up_in_long_ones():
    share = ducked_share([(2.0, 3.0), (3.4, 4.0), (5.3, 6.0), (9.0, 10.0)], 1200)
    assert share[: round(1.6 * ROWS_HZ)].max() == 0
    assert share[round(2.0 * ROWS_HZ) : round(6.0 * ROWS_HZ)].min() == 1
    assert share[round(7.0 * ROWS_HZ) : round(8.6 * ROWS_HZ)].max() < 0.01
    assert share[round(11.0 * ROWS_HZ) :].max() == 0
    assert ducked_share([(0.2, 1.0)], 100)[0] == 1, "there is no time to be heard before the first word"
    assert ducked_share([], 100).max() == 0


def test_without_speech_music_is_not_lowered(tune):
    noise = 0.05 * np.random.default_rng(0).standard_normal((2, LENGTH)).astype(np.float32)
    made = mix_down(tune, RATE, num_samples=LENGTH, original=noise, mode="duck", speech=())
    assert np.ptp(made.gain_db) == 0
    assert integrated_lufs(made.sound - noise, RATE) == pytest.approx(integrated_lufs(noise, RATE), abs=0.5)
    hiss = noise / 500
    made = mix_down(tune, RATE, num_samples=LENGTH, original=hiss, mode="duck", speech=())
    assert integrated_lufs(made.sound - hiss, RATE) > -31, "hiss is no measure for the music"


def test_the_distance_and_the_gain_are_those_asked_for(tune, voice):
    levels = {}
    for lu, gain in ((6.0, 0.0), (18.0, 0.0), (18.0, 5.0)):
        settings = {"num_samples": LENGTH, "original": voice, "speech": TALK_S, "under_lu": lu, "music_gain_db": gain}
        for mode in ("under", "duck"):
            beneath = mix(tune, RATE, mode=mode, **settings) - voice
            levels[mode, lu, gain] = in_band(beneath, TALK_S)
    for mode in ("under", "duck"):
        assert levels[mode, 6.0, 0.0] - levels[mode, 18.0, 0.0] == pytest.approx(12, abs=0.5)
        assert levels[mode, 18.0, 5.0] - levels[mode, 18.0, 0.0] == pytest.approx(5, abs=0.1)


def test_music_whose_end_is_loud_lies_no_further_under_a_voice_before_it(tune):
    """A level taken from the whole is that of the loudest passage: all else was 10 LU too soft."""
    swelling = tune.copy()
    swelling[:, : 9 * RATE] *= 0.25
    voice = np.stack([np.resize(talk()[int(0.8 * RATE) : int(2.4 * RATE)], LENGTH)] * 2)
    beneath = mix(swelling, RATE, num_samples=LENGTH, original=voice, mode="under", under_lu=14.0) - voice
    theirs, ours = momentary_lufs(beneath, RATE), momentary_lufs(voice, RATE)
    soft, loud = slice(5, 75), slice(105, 125)
    for part in (soft, loud):
        assert np.median(ours[part] - theirs[part]) == pytest.approx(14, abs=2.5)


def test_parts_of_the_music_add_up_to_it_in_the_mix(tune, voice):
    low = apply_sections(tune, [low_pass(800, RATE)], RATE // 10)
    for mode in ("replace", "under", "duck"):
        settings = {"num_samples": LENGTH - 77, "mode": mode, "original": voice, "speech": TALK_S}
        made = mix_down(tune, RATE, **settings)
        own = 0 if mode == "replace" else voice[:, : LENGTH - 77]
        rest = made.part(low) + made.part(tune - low) + own - made.sound
        assert np.abs(rest).max() < 1e-5


def test_sound_shorter_than_a_block_of_loudness_is_mixed():
    for mode in ("under", "duck"):
        short = mix(np.full((2, 800), 0.1, np.float32), RATE, num_samples=800, mode=mode,
                    original=np.full((2, 800), 0.1, np.float32), speech=((0.0, 0.05),))  # fmt: skip
        assert short.shape == (2, 800) and np.isfinite(short).all()
