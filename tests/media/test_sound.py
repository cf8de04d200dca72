"""Sound is read from any file at the rate that is asked for, and what is no sound is named."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_music import song, write_wav

from expotion_cli.errors import DecodeError
from expotion_cli.media.sound import lacks_sound, read_sound, refuse_silence, resample

RATE = 16_000


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aiff"])
def test_music_of_every_common_kind_is_read_at_the_rate_that_is_asked_for(tmp_path, ffmpeg, suffix):
    wav = write_wav(tmp_path / "a.wav", song(0, 2.0))
    path = tmp_path / f"b{suffix}"
    if suffix == ".wav":
        path = wav
    else:
        ffmpeg("-i", wav, *(["-c:a", "libopus"] if suffix in (".ogg", ".opus") else []), path)
    sound = read_sound(path, 32_000, 2)
    assert sound.shape[0] == 2 and sound.dtype == np.float32 and not lacks_sound(path)
    assert sound.shape[1] == pytest.approx(64_000, abs=4_000) and 0.3 < np.abs(sound).max() < 1.1


def test_a_video_lends_its_sound_track(tmp_path, make_video):
    assert read_sound(make_video(tmp_path / "a.mp4"), RATE, 1).shape == pytest.approx((1, RATE), abs=2_100)
    silent = make_video(tmp_path / "b.mp4", sound=False)
    assert lacks_sound(silent)
    with pytest.raises(DecodeError, match="no sound"):
        read_sound(silent, RATE)


def test_files_that_are_no_music_are_named(tmp_path):
    (tmp_path / "broken.mp3").write_bytes(b"not at all music")
    (tmp_path / "list.wav").write_text("#EXTM3U\nfile:///etc/passwd\n")
    (tmp_path / "cut.wav").write_bytes(b"RIFF" + bytes(40))
    for name in ("broken.mp3", "list.wav", "cut.wav", "none.wav"):
        with pytest.raises(DecodeError, match="can't be read") as caught:
            read_sound(tmp_path / name, RATE)
        assert caught.value.path == tmp_path / name
    assert not lacks_sound(tmp_path / "broken.mp3")


def test_silence_is_read_but_refused_where_something_is_to_be_learnt(tmp_path):
    path = write_wav(tmp_path / "silent.wav", np.zeros(RATE))
    with pytest.raises(DecodeError, match="silence") as caught:
        refuse_silence(read_sound(path, RATE), path, remedy="Leave it out.")
    assert caught.value.path == path


def test_a_mono_file_is_doubled_at_its_own_level(tmp_path):
    tone = np.sin(2 * np.pi * 220 * np.arange(RATE) / RATE) / 2
    path = write_wav(tmp_path / "mono.wav", tone)
    one, two = read_sound(path, RATE, 1), read_sound(path, RATE)
    assert one.shape == (1, RATE) and two.shape == (2, RATE)
    assert np.array_equal(two[0], one[0]) and np.array_equal(two[1], one[0])
    assert np.abs(one[0] - tone).max() < 1e-4


def test_no_more_is_read_than_asked_for(tmp_path):
    path = write_wav(tmp_path / "long.wav", song(0, 3.0))
    whole = read_sound(path, RATE)
    assert np.array_equal(read_sound(path, RATE, max_s=0.5), whole[:, : RATE // 2])


def test_resampling_keeps_length_and_pitch():
    tone = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)[None].astype(np.float32)
    made = resample(tone, 44_100, 48_000)
    assert abs(made.shape[1] - 48_000) < 64
    assert np.abs(np.fft.rfft(made[0, :48_000])).argmax() == pytest.approx(440, abs=1)
