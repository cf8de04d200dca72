"""Streams of a clip of several shots are those of its shots, one after the other."""

from __future__ import annotations

import subprocess

import made_shots as shots
import numpy as np
import pytest

from expotion_cli.media.ffmpeg import ffmpeg_exe
from expotion_cli.spotting.cuts import find_cuts
from expotion_cli.vision import face, pose, signals
from expotion_cli.vision.streams import encode_clip

FPS, LENGTH = 25, 50
STREAMS = ("face", "pose", "flow")


def write(frames, path, fps=FPS):
    """An MP4 of frames as they are in memory."""
    height, width = frames[0].shape[:2]
    command = [ffmpeg_exe(), "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    command += ["-r", str(fps), "-i", "-", "-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-pix_fmt"]
    subprocess.run([*command, "yuv420p", "-y", str(path)], input=b"".join(map(bytes, frames)), check=True)
    return path


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    """What is seen of two shots of people, each by itself, and joined by a hard cut."""
    folder = tmp_path_factory.mktemp("joined")
    one, other = shots.person("plain", LENGTH), shots.person("near", LENGTH)[::-1]
    clips = {"one": one, "other": other, "both": one + other}
    return {
        name: encode_clip(write(frames, folder / f"{name}.mp4"), (*STREAMS, "cuts")) for name, frames in clips.items()
    }


def test_a_cut_between_two_people_is_found_on_its_frame(joined):
    assert [(cut.kind, cut.time_s) for cut in find_cuts(joined["both"])] == [("hard", LENGTH / FPS)]
    assert not find_cuts(joined["one"]) and not find_cuts(joined["other"])


@pytest.mark.parametrize(
    ("name", "dim"),
    [("pose", "energy"), ("pose", "accent"), ("face", "head_speed"), ("face", "head_accent"), ("flow", "energy"),
     ("flow", "accent")],
)  # fmt: skip
def test_each_side_of_a_cut_is_what_the_shot_alone_would_be(joined, name, dim):
    both = joined["both"][name].dim(dim)
    alone = np.concatenate([joined[part][name].dim(dim) for part in ("one", "other")])
    scale = np.percentile(alone, 95)
    assert scale > 0 and np.abs(both - alone).mean() < 0.06 * scale
    assert np.abs(both - alone)[LENGTH - 2 : LENGTH + 3].max() < 0.3 * scale
    assert both[LENGTH - 2 : LENGTH + 3].max() < 1.2 * max(alone[: LENGTH - 2].max(), alone[LENGTH + 3 :].max())


@pytest.mark.parametrize("name", STREAMS)
def test_masks_and_places_do_not_run_across_a_cut(joined, name):
    both, one, other = (joined[part][name] for part in ("both", "one", "other"))
    assert np.array_equal(both.mask, np.concatenate([one.mask, other.mask]))
    alone = np.concatenate([one.values, other.values])
    assert np.abs(both.values - alone).mean() < 0.06 * np.abs(alone).mean()


def test_shots_share_out_frames_and_rows_without_gap_or_overlap():
    times = np.arange(60) / 30
    parts = signals.shots([1.0, 0.5, 1.99], times, 50, 25.0)
    assert [part.rows for part in parts] == [(0, 13), (13, 25), (25, 50)], "a shot of no row is none"
    assert [part.frames for part in parts] == [(0, 15), (15, 30), (30, 60)]
    assert [part.rows for part in signals.shots([], times, 50, 25.0)] == [(0, 50)]


def test_a_shot_without_any_frame_is_a_shot_where_nobody_is_seen():
    for values, mask in (
        face.face_features(np.zeros(0), np.zeros((0, 59)), 4),
        pose.pose_features(np.zeros(0), np.zeros((0, 32)), 4),
    ):
        assert len(values) == 4 and not mask.any() and np.isfinite(values).all()
