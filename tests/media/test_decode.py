import tracemalloc
from fractions import Fraction

import numpy as np
import pytest

from expotion_cli.media.decode import iter_frames
from expotion_cli.media.probe import probe
from expotion_cli.media.sound import read_clip_sound
from expotion_cli.timing import num_rows, num_samples

KINDS = [
    "ntsc.mp4",
    "ten-bit.mkv",
    "small.webm",
    "old.avi",
    "reordered.avi",
    "broadcast.ts",
    "turned-90.mp4",
    "turned-180.mp4",
]


@pytest.mark.parametrize("name", [*KINDS, "turned-270.mov"])
def test_frames_are_upright_and_equal_ffmpegs_own(clip, run_ffmpeg, tmp_path, name):
    info = probe(clip(name))
    raw = tmp_path / "frames.rgb"
    run_ffmpeg("-i", info.path, "-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo", raw)
    wanted = np.fromfile(raw, np.uint8).reshape(-1, info.height, info.width, 3)
    frames = list(iter_frames(info))
    assert len(frames) == len(wanted) == info.num_frames
    error = max(np.abs(one.pixels.astype(int) - other).mean() for one, other in zip(frames, wanted, strict=True))
    assert error < 3  # rounding in the conversion of colours; a turned or shifted picture is off by dozens
    times = np.array([frame.time_s for frame in frames])
    assert np.allclose(times, np.arange(60) * 1001 / 30000, atol=0.0011)


def test_a_grid_shows_what_is_on_the_screen_at_each_of_its_times(clip):
    info = probe(clip("variable.mp4"))
    stamps = np.cumsum([0] + [2 if number % 2 == 0 else 15 for number in range(9)]) / 60
    frames = list(iter_frames(info, rate_hz=25))
    assert len(frames) == num_rows(info.duration, Fraction(25))
    for i, frame in enumerate(frames):
        assert frame.time_s == pytest.approx(i / 25)
        on_screen = np.searchsorted(stamps, i / 25 + 1e-9, side="right") - 1
        assert frame.pixels.mean() == pytest.approx(20 * on_screen + 20, abs=4), i


def test_a_grid_finer_than_the_clip_repeats_and_a_coarse_one_skips(clip):
    info = probe(clip("short.mp4"))
    assert [len(list(iter_frames(info, rate_hz=rate))) for rate in (60, 10, 1)] == [18, 3, 1]


def test_pictures_are_scaled_to_the_longer_side_upright(clip):
    assert next(iter_frames(clip("ntsc.mp4"), max_side=160)).pixels.shape == (90, 160, 3)
    assert next(iter_frames(clip("turned-90.mp4"), max_side=160)).pixels.shape == (160, 90, 3)
    assert next(iter_frames(clip("wide-pixels.mp4"), max_side=427)).pixels.shape == (180, 427, 3)
    assert next(iter_frames(clip("ntsc.mp4"), max_side=4000)).pixels.shape == (180, 320, 3)


def test_memory_does_not_grow_with_the_clip(run_ffmpeg, tmp_path):
    long = tmp_path / "long.mp4"
    run_ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=320x180:rate=30:duration=20",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        long,
    )
    info = probe(long)
    tracemalloc.start()  # numpy reports its arrays to it
    try:
        count = sum(1 for _ in iter_frames(info, rate_hz=25))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 500
    assert peak < 20 * 320 * 180 * 3


def test_damage_inside_a_clip_spoils_some_pictures_and_leaves_the_grid_whole(clip, tmp_path):
    content = bytearray(clip("rich.mkv").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 300] = bytes(300)
    damaged = tmp_path / "damaged.mkv"
    damaged.write_bytes(content)
    whole = list(iter_frames(clip("rich.mkv"), rate_hz=25))
    frames = list(iter_frames(damaged, rate_hz=25))
    assert [frame.time_s for frame in frames] == [frame.time_s for frame in whole]
    spoilt = [not np.array_equal(one.pixels, other.pixels) for one, other in zip(frames, whole, strict=True)]
    assert 0 < sum(spoilt) < len(whole) // 2, "from the damage to the next key frame"


@pytest.mark.parametrize("name", ["ntsc.mp4", "rich.mkv", "small.webm", "old.avi", "broadcast.ts"])
def test_sound_is_as_long_as_the_picture_and_stereo(clip, name):
    info = probe(clip(name))
    sound = read_clip_sound(info, 48_000)
    assert sound.dtype == np.float32 and sound.shape == (2, num_samples(info.duration, 48_000))
    assert np.array_equal(sound[0], sound[1])
    level = np.sqrt(np.mean(sound[:, 4800:-4800] ** 2))  # mono keeps its level; MP3 encoders take 5 % off
    assert level == pytest.approx(0.125 / np.sqrt(2), rel=0.07)


def test_sound_stands_where_its_time_stamps_put_it(run_ffmpeg, tmp_path):
    """A click at 0.5 s in a track that begins 0.4 s after the picture is heard at 0.9 s."""
    late = tmp_path / "late.mkv"
    click = "aevalsrc='if(eq(n,24000),0.9,0)':sample_rate=48000:duration=1"
    picture = "testsrc2=size=160x120:rate=25:duration=2"
    run_ffmpeg("-f", "lavfi", "-i", picture, "-itsoffset", "0.4", "-f", "lavfi", "-i", click, "-c:a", "flac", late)
    sound = read_clip_sound(late, 48_000)
    assert abs(int(np.abs(sound[0]).argmax()) - round(0.9 * 48_000)) <= 48


def test_a_clip_without_sound_reads_as_silence(clip):
    sound = read_clip_sound(clip("short.mp4"), 44_100)
    assert sound.shape == (2, 13_230) and not sound.any()


def test_real_clips_decode_on_a_25_hz_grid(real_clips):
    for path in real_clips[:3]:
        info = probe(path)
        frames = list(iter_frames(info, rate_hz=25, max_side=320))
        assert len(frames) == num_rows(info.duration, Fraction(25))
        assert max(frames[0].pixels.shape) == 320 and frames[0].pixels.std() > 5
