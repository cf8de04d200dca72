"""A folder of clips that give the encoders trouble: each is scored or named, and the others go on."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest

STREAMS = "face,pose,flow"


@pytest.fixture(scope="module")
def hard_clips(tmp_path_factory, make_video, ffmpeg) -> Path:
    """One clip of each kind; none shows anybody."""
    folder = tmp_path_factory.mktemp("hard")
    make_video(folder / "good.mp4", duration_s=0.6)
    make_video(folder / "three-pictures.mp4", duration_s=0.12, sound=False)
    make_video(folder / "one-picture.mp4", duration_s=0.04, sound=False)
    for name in ("no-frames.mp4", "no-frames.mkv"):
        ffmpeg("-f", "lavfi", "-i", "testsrc=size=160x120:rate=25", "-t", "0", folder / name)
    one_pixel = ["-f", "lavfi", "-i", "testsrc=size=16x16:rate=25:duration=0.6,crop=1:1:8:8,format=yuv444p"]
    ffmpeg(*one_pixel, "-c:v", "ffv1", folder / "one-pixel.mkv")
    huge = ["-f", "lavfi", "-i", "color=c=blue:size=7680x4320:rate=5:duration=0.4", "-preset", "ultrafast"]
    ffmpeg(*huge, "-pix_fmt", "yuv420p", folder / "huge.mp4")
    wide = ["-f", "lavfi", "-i", "testsrc=size=1600x16:rate=25:duration=0.6", "-preset", "ultrafast"]
    ffmpeg(*wide, "-pix_fmt", "yuv420p", folder / "wide.mp4")
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.6", folder / "no-picture.mp4")
    (folder / "cut.mp4").write_bytes((folder / "good.mp4").read_bytes()[:3000])
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=1", "-c:v", "mjpeg", folder / "broken.avi")
    with av.open(str(folder / "broken.avi")) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][12]
    content = bytearray((folder / "broken.avi").read_bytes())
    content[packet.pos + 16 : packet.pos + packet.size - 16] = b"\xff" * (packet.size - 32)
    (folder / "broken.avi").write_bytes(content)
    return folder


@pytest.mark.long
def test_hard_clips_are_scored_or_named_and_the_batch_goes_on(expotion, composer, hard_clips, tmp_path):
    composer.streams = ("face", "flow")
    done = expotion("score", hard_clips, "--streams", STREAMS, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 1, done.stderr
    summary = json.loads(done.stdout)
    rows = {row["clip"]: row for row in summary["clips"]}
    failed = {name for name, row in rows.items() if row["status"] == "failed"}
    assert failed == {"no-picture.mp4", "cut.mp4", "no-frames.mp4", "no-frames.mkv"}
    for name in failed:
        assert str(hard_clips / name) in done.stderr and rows[name]["error"]["remedy"]
    assert summary["counts"]["scored"] == 7
    notes = {name: " ".join(row["notes"]) for name, row in rows.items() if name not in failed}
    assert "1 frame could not be decoded and was skipped" in notes["broken.avi"]
    assert not any("skipped" in text for name, text in notes.items() if name != "broken.avi")
    assert all("nobody found by face and pose" in text for text in notes.values())


def test_what_was_skipped_is_also_told_from_the_cache(expotion, composer, hard_clips, tmp_path):
    composer.streams = ("flow",)
    for out in ("first", "second"):
        done = expotion(
            "score", hard_clips / "broken.avi", "--streams", "flow", "--seed", len(out), "--out", tmp_path / out
        )
        assert done.exit_code == 0, done.stderr
        sidecar = json.loads(next((tmp_path / out).glob("*.score.json")).read_text())
        assert any("skipped" in note for note in sidecar["notes"]), sidecar["notes"]


@pytest.mark.long
def test_a_batch_of_such_clips_is_composed_by_the_embedded_model(expotion, hard_clips, tmp_path):
    done = expotion("score", hard_clips, "--streams", "flow", "--out", tmp_path / "out", "--json")
    assert done.exit_code == 1 and json.loads(done.stdout)["counts"]["scored"] == 7, done.stderr
