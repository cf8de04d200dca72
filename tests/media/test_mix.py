import numpy as np
import pytest
from options import mix

from expotion_cli.errors import UsageError
from expotion_cli.media.loudness import measure
from expotion_cli.media.mix import own_is_highest
from expotion_cli.media.sound import read_clip_sound

RATE = 44_100


@pytest.mark.parametrize("num_samples", [1, 100, 13_230, 88_289, 441_001])
def test_the_result_is_as_long_as_asked_to_the_sample(music, num_samples):
    assert mix(music(3.0), RATE, num_samples=num_samples).shape == (2, num_samples)


@pytest.mark.parametrize("sample_rate", [22_050, 32_000, 44_100, 48_000])
def test_music_fades_at_both_ends_and_is_untouched_between(sample_rate):
    music = np.full((2, 4 * sample_rate), 0.7, np.float32)
    result = mix(music, sample_rate, num_samples=3 * sample_rate, fade_in_s=0.5, fade_out_s=1.0)
    assert np.abs(result[:, [0, -1]]).max() < 0.002
    middle = result[:, int(0.5 * sample_rate) + 1 : 2 * sample_rate - 1]
    assert np.allclose(middle, 0.7)
    assert result[0, sample_rate // 4] == pytest.approx(0.35, abs=0.02)
    assert result[0, 5 * sample_rate // 2] == pytest.approx(0.35, abs=0.02)
    assert np.abs(np.diff(result[0])).max() < 0.005  # no clicks


def test_fades_keep_32_bits_and_what_exceeds_full_scale():
    music = np.full((2, RATE), 3.0, np.float32)
    music[1] = 1e-5
    result = mix(music, RATE, num_samples=RATE, fade_in_s=0.3, fade_out_s=0.3)
    assert result[0].max() == pytest.approx(3.0)
    assert result[1, RATE // 4] == pytest.approx(result[0, RATE // 4] / 3e5, rel=1e-3)


def test_short_clips_keep_a_middle():
    result = mix(np.ones((2, 13_230), np.float32), RATE, num_samples=13_230, fade_in_s=2.0, fade_out_s=5.0)
    assert np.allclose(result[:, 4_500:8_700], 1.0) and abs(result[0, -1]) < 0.02


def test_short_music_fades_out_before_the_silence_that_follows():
    result = mix(np.ones((2, RATE), np.float32), RATE, num_samples=2 * RATE, fade_out_s=0.2)
    assert not result[:, RATE:].any() and np.abs(result[:, RATE - 1]).max() < 0.01


def test_replace_ignores_the_original(music):
    noise = np.random.default_rng(0).normal(size=(2, 2 * RATE)).astype(np.float32)
    plain = mix(music(2.0), RATE, num_samples=2 * RATE)
    assert np.array_equal(plain, mix(music(2.0), RATE, num_samples=2 * RATE, original=noise))


def test_music_under_speech_lies_as_far_below_it_as_asked_and_rises_in_pauses(clip, music):
    own = read_clip_sound(clip("speech.mp4"), RATE)  # speaks from 1 to 2, 3 to 4 and 5 to 6 s
    length = own.shape[1]
    unmixed = music(6.0)
    mixed = mix(unmixed, RATE, num_samples=length, original=own, mode="under", under_lu=12.0, fade_out_s=0.1)
    beneath = mixed - own
    speaking = [slice(int(a * RATE), int((a + 0.8) * RATE)) for a in (1.1, 3.1, 5.1)]
    for part in speaking:
        below = measure(own[:, part], RATE).integrated_lufs - measure(beneath[:, part], RATE).integrated_lufs
        assert 11.0 < below < 16.0
    # the pause from 0 to 1 s, before the music moves aside ahead of the speech
    lifted = measure(beneath[:, int(0.05 * RATE) : int(0.6 * RATE)], RATE).integrated_lufs
    spoken = measure(beneath[:, speaking[1]], RATE).integrated_lufs
    assert 2.5 < lifted - spoken < 8.0
    # between its fades the level moves, and from sample to sample by so little that nothing clicks
    heard = np.flatnonzero(np.abs(unmixed[0]) > 0.05)
    heard = heard[(heard > RATE // 10) & (heard < length - RATE // 4)]
    level_db = 20 * np.log10(beneath[0, heard] / unmixed[0, heard])
    assert 3 < np.ptp(level_db) < 8 and np.abs(np.diff(level_db))[np.diff(heard) == 1].max() < 0.01


def test_swells_of_the_music_never_cover_the_speech(clip, music):
    own = read_clip_sound(clip("speech.mp4"), RATE)
    swelling = music(6.0)
    swelling[:, 3 * RATE : 4 * RATE] *= 8
    mixed = mix(swelling, RATE, num_samples=own.shape[1], original=own, mode="under", under_lu=12.0)
    part = slice(int(3.1 * RATE), int(3.9 * RATE))
    below = measure(own[:, part], RATE).integrated_lufs - measure((mixed - own)[:, part], RATE).integrated_lufs
    assert below > 8.0


@pytest.mark.parametrize(
    "bang",
    [np.array([16_000.0]), *(0.9 * np.random.default_rng(0).uniform(-1, 1, RATE // part) for part in (250, 8))],
    ids=["sample", "clap", "slam"],
)
def test_a_clap_or_a_single_broken_sample_does_not_change_the_balance(music, bang):
    tone = 0.01 * np.sin(300 * 2 * np.pi * np.arange(3 * RATE) / RATE)
    struck = tone.copy()
    struck[3 * RATE // 10 :][: len(bang)] += bang
    settings = {"num_samples": 3 * RATE, "mode": "under", "under_lu": 12.0}
    part = slice(3 * RATE // 2, 5 * RATE // 2)
    beneath = []
    for own in (tone, struck):
        own = np.stack([own, own]).astype(np.float32)
        mixed = mix(music(3.0), RATE, original=own, **settings)
        beneath.append(measure((mixed - own)[:, part], RATE).integrated_lufs)
    assert beneath[0] == pytest.approx(beneath[1], abs=1.0)
    assert np.abs(mixed).max() < 3 and own_is_highest(mixed, own)


def test_a_word_in_a_long_pause_and_a_rhythm_of_claps_are_sound(music):
    time = np.arange(20 * RATE) / RATE
    noise = 0.002 * np.random.default_rng(0).normal(size=len(time))
    word = 0.2 * np.sin(2 * np.pi * 300 * time) * ((time > 9) & (time < 9.5))
    claps = 0.3 * np.random.default_rng(1).uniform(-1, 1, len(time)) * (time % 0.5 < 0.05)
    for sound, part in ((word, slice(9 * RATE, 9 * RATE + RATE // 2)), (claps, slice(5 * RATE, 15 * RATE))):
        own = np.stack([sound + noise] * 2).astype(np.float32)
        mixed = mix(music(20.0), RATE, num_samples=len(time), original=own, mode="under", under_lu=12.0)
        beneath = measure((mixed - own)[:, part], RATE).integrated_lufs
        assert 8 < measure(own[:, part], RATE).integrated_lufs - beneath < 20


def test_under_a_silent_original_music_is_left_alone(music):
    silent = np.zeros((2, 2 * RATE), np.float32)
    under = mix(music(2.0), RATE, num_samples=2 * RATE, original=silent, mode="under")
    assert np.array_equal(under, mix(music(2.0), RATE, num_samples=2 * RATE))


def test_wrong_modes_are_refused(music):
    with pytest.raises(UsageError, match="beside"):
        mix(music(1.0), RATE, num_samples=RATE, mode="beside")
    with pytest.raises(UsageError, match="own sound"):
        mix(music(1.0), RATE, num_samples=RATE, mode="under")
