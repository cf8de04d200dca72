"""Single pictures of a clip: the ones on the screen at given times, without decoding the whole clip."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.media.clip import ClipInfo
from expotion_cli.media.decode import iter_frames
from expotion_cli.media.frames import View
from expotion_cli.media.probe import probe
from expotion_cli.media.stills import decoded, stills


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory, make_video) -> ClipInfo:
    """Half a minute with a key frame every twelve pictures."""
    return probe(make_video(tmp_path_factory.mktemp("long") / "long.mp4", duration_s=30, fps="10", sound=False))


def counted(monkeypatch) -> list[int]:
    """Counts the pictures that `stills` decodes."""
    numbers = [0]

    def counting(*arguments):
        for picture in decoded(*arguments):
            numbers[0] += 1
            yield picture

    monkeypatch.setattr("expotion_cli.media.stills.decoded", counting)
    return numbers


def test_stills_are_the_pictures_on_the_screen_and_cost_few_of_them(long_clip, monkeypatch):
    times = [0.0, 0.55, 12.05, 24.55, 29.99]
    everything = {round(frame.time_s, 3): frame.pixels for frame in iter_frames(long_clip)}
    number = counted(monkeypatch)
    found = stills(long_clip, times, View())
    for time, picture in zip(times, found, strict=True):
        shown = max(known for known in everything if known <= time)
        assert np.array_equal(picture, everything[shown]), time
    assert len(everything) == 300 and number[0] < 130


def test_stills_of_a_clip_without_key_frames_to_jump_to_are_right_too(tmp_path, ffmpeg, monkeypatch):
    path = tmp_path / "one-key.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x48:rate=5:duration=40", "-pix_fmt", "yuv420p", "-g", 9999, path)
    everything = [frame.pixels for frame in iter_frames(path)]
    number = counted(monkeypatch)
    found = stills(path, [0.1, 15.1, 25.1, 39.9], View())
    assert all(np.array_equal(a, everything[i]) for a, i in zip(found, (0, 75, 125, 199), strict=True))
    assert number[0] < 2 * 200, "one jump in vain, no more"


def test_stills_stand_upright(tmp_path, ffmpeg):
    plain, turned = tmp_path / "plain.mp4", tmp_path / "turned.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=96x64:rate=5:duration=1", "-pix_fmt", "yuv420p", plain)
    ffmpeg("-display_rotation", 90, "-i", plain, "-c", "copy", turned)
    (picture,) = stills(turned, [0.5], View(max_height=48))
    assert picture.shape == (48, 32, 3)
