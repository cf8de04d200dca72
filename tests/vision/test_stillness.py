"""A still image asks no motion of anybody, from its first moment on."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from expotion_cli.demo import DEMO_CLIPS, Bend, render_frames, write_demo_clips
from expotion_cli.vision import worker
from expotion_cli.vision.streams import encode_clip
from expotion_cli.vision.worker import NEW_AFTER_MS, SETTLING_DETECTIONS, SETTLING_MS, SteadyLandmarker

MOTION = {
    "face": ("head_speed", "head_accent", "expression_speed"),
    "pose": ("energy", "energy_left", "energy_right", "energy_both", "energy_head", "accent"),
    "flow": ("energy", "accent", "energy_left", "energy_right", "camera_x", "camera_y", "camera_zoom", "camera_roll"),
}
STILL = dataclasses.replace(DEMO_CLIPS[2], duration_s=2.0, has_sound=False, bend=lambda _: Bend())


@pytest.mark.slow
def test_a_portrait_that_is_one_picture_all_along_has_no_motion_at_all(tmp_path):
    clip = tmp_path / "still.mkv"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("ffv1", rate=25)  # without loss: each frame is the same to the last bit
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for number in range(40):
            frame = av.VideoFrame.from_ndarray(next(render_frames(STILL)), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    for name, stream in encode_clip(clip, list(MOTION)).items():
        assert stream.mask.all(), name
        assert all(np.abs(stream.dim(dim)).max() == 0 for dim in MOTION[name]), name


def test_a_clip_of_a_still_portrait_begins_without_a_jolt(tmp_path):
    """The codec refines the picture a little from one to the next, so it is not the same all along."""
    (clip,) = write_demo_clips(tmp_path, (STILL,))
    streams = encode_clip(clip.path, ["face", "pose"])
    assert streams["face"].dim("head_speed")[:12].max() < 0.02
    assert streams["face"].dim("head_accent")[:12].max() < 0.02
    assert streams["pose"].dim("energy")[:12].max() < 0.1


class Landmarker:
    """Finds somebody where the picture's first value is not 0; tells at what times it was asked."""

    def __init__(self, asked: list[int]):
        self._asked = asked

    def detect_for_video(self, picture, time_ms):
        self._asked.append(time_ms)
        there = bool(picture.numpy_view()[0, 0, 0])
        return SimpleNamespace(face_landmarks=[len(self._asked)] if there else [])

    def close(self):
        pass


def picture(value: int) -> np.ndarray:
    return np.full((8, 8, 3), value, dtype=np.uint8)


def test_whoever_is_found_anew_is_looked_at_until_the_landmarks_rest():
    asked: list[int] = []
    steady = SteadyLandmarker(lambda: Landmarker(asked))
    steady.begin()
    steady.detect(picture(0), 0)
    assert asked == [0], "there is nobody to look at"
    first = steady.detect(picture(1), 40)
    assert len(asked) == 2 + SETTLING_DETECTIONS and first.face_landmarks == [len(asked)], "the last look counts"
    steady.detect(picture(2), 80)
    assert len(asked) == 3 + SETTLING_DETECTIONS
    assert asked[-1] == 80 + SETTLING_DETECTIONS * SETTLING_MS and (np.diff(asked) > 0).all()
    steady.detect(picture(0), 120)
    steady.detect(picture(3), 80 + NEW_AFTER_MS)
    assert len(asked) == 5 + SETTLING_DETECTIONS, "gone for a moment only"
    steady.detect(picture(0), 120 + NEW_AFTER_MS)
    steady.detect(picture(4), 120 + 2 * NEW_AFTER_MS)
    assert len(asked) == 7 + 2 * SETTLING_DETECTIONS and (np.diff(asked) > 0).all()


def test_a_picture_like_the_one_before_gives_the_same_and_costs_no_look():
    asked: list[int] = []
    steady = SteadyLandmarker(lambda: Landmarker(asked))
    first = steady.detect(picture(1), 0)
    count = len(asked)
    assert steady.detect(picture(1), 200) is first and len(asked) == count
    assert steady.detect(picture(2), 240) is not first and len(asked) == count + 1
    steady.detect(picture(2), 5000)
    steady.detect(picture(3), 5040)
    assert len(asked) == count + 2, "who was there all the time is not new"
    steady.begin()
    steady.detect(picture(3), 0)
    assert len(asked) == count + 3 + SETTLING_DETECTIONS, "nothing is remembered of the clip before"


def test_settling_takes_longer_than_the_landmarks_tremble():
    assert worker.SETTLING_DETECTIONS * worker.SETTLING_MS >= 500
