"""What a page shows of a video: small, right, and looked at once."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import numpy as np
import pytest
from made_results import make_result

from expotion_cli.report import looking
from expotion_cli.report.results import Result, collect
from expotion_cli.scoring.executors import ThreadExecutor


@pytest.fixture
def executor():
    made = ThreadExecutor({"see": 1})
    yield made
    made.close()


def columns(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.uint8)


@pytest.fixture(scope="module")
def half_silent(tmp_path_factory, ffmpeg) -> Path:
    """Noise that would be a large picture; the second half moves and sounds."""
    path = tmp_path_factory.mktemp("half") / "half.mp4"
    noise = "nullsrc=size=640x480:rate=25:duration=0.04,geq=random(1)*255:128:128,loop=49:1,setpts=N/25/TB"
    box = "color=white:size=160x240:rate=25:duration=2"
    tone = "sine=frequency=300:duration=2,volume='if(lt(t,1),0,0.5)':eval=frame"
    moves = "overlay=x='if(lt(t,1),100,100+300*abs(sin(6*(t-1))))':y=100[v]"
    codecs = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac")
    inputs = [part for each in (noise, box, tone) for part in ("-f", "lavfi", "-i", each)]
    ffmpeg(*inputs, "-filter_complex", f"[0][1]{moves}", "-map", "[v]", "-map", "2:a", *codecs, path)
    return path


def test_a_look_is_small_and_shows_where_it_sounds_and_moves(half_silent):
    from PIL import Image

    look = looking.look_at(half_silent, {})
    jpeg = base64.b64decode(look["poster"])
    assert len(jpeg) <= looking.POSTER_BYTES and Image.open(io.BytesIO(jpeg)).format == "JPEG"
    peaks, motion = columns(look["peaks"]), columns(look["motion"])
    assert len(peaks) == looking.COLUMNS and 25 <= len(motion) <= looking.COLUMNS
    assert peaks[: len(peaks) * 45 // 100].max() < 10 and peaks[len(peaks) * 55 // 100 : -20].min() > 150
    assert motion[: len(motion) * 4 // 10].mean() < motion[len(motion) * 6 // 10 :].mean() / 3
    assert (look["width"], look["height"], look["duration_s"], look["trouble"]) == (640, 480, 2.0, [])


def test_takes_have_a_shape_too_and_new_ones_are_listened_to(tmp_path, scored_video, ffmpeg, executor):
    rows = [{"take": 1, "sound": {"file": "take-1.m4a"}}, {"take": 2, "sound": {"file": "take-2.m4a"}}]
    make_result(tmp_path / "one.mp4", scored_video, takes={"chosen": 1, "each": rows})
    result = collect(tmp_path).results
    assert looking.look(result, executor)[tmp_path / "one.mp4"].takes == {}
    (tmp_path / "one.takes").mkdir()
    half = "sine=frequency=300:duration=2,volume='if(lt(t,1),0,0.5)':eval=frame"
    ffmpeg("-f", "lavfi", "-i", half, "-c:a", "aac", tmp_path / "one.takes" / "take-2.m4a")
    (shape,) = (look := looking.look(result, executor)[tmp_path / "one.mp4"]).takes.values()
    assert list(look.takes) == ["take-2.m4a"] and len(columns(shape)) == looking.TAKE_COLUMNS
    assert columns(shape)[:40].max() < 10 and columns(shape)[60:90].min() > 150


def test_streams_that_scoring_kept_spare_looking_again(half_silent, own_cache, monkeypatch):
    from expotion_cli.vision import streams

    kept = streams.encode_clip(half_silent, ("flow",), cache=streams.EmbeddingCache())["flow"]
    first = looking.look_at(half_silent, {})
    monkeypatch.setattr(streams, "encode_clip", lambda *_, **__: pytest.fail("looked again"))
    assert looking.look_at(half_silent, {"flow": kept.digest, "pose": "../../x"})["motion"] == first["motion"]


def test_a_video_is_looked_at_once_and_what_can_not_be_read_costs_no_other(
    tmp_path, scored_video, executor, monkeypatch
):
    make_result(tmp_path / "one.mp4", scored_video)
    (tmp_path / "two.mp4").write_bytes(b"no video")
    results = [*collect(tmp_path).results, Result("failed.mp4", "failed")]
    told = []
    looks = looking.look(results, executor, lambda *step: told.append(step))
    good, bad = looks[tmp_path / "one.mp4"], looks[tmp_path / "two.mp4"]
    assert good.peaks and not good.trouble and bad.trouble and not bad.poster and told == [(1, 2), (2, 2)]
    monkeypatch.setattr(looking, "look_at", lambda *_: pytest.fail("looked again"))
    assert looking.look(results[:1], executor) == {tmp_path / "one.mp4": good}
    os.utime(tmp_path / "one.mp4", (1, 1))
    monkeypatch.setattr(looking, "look_at", lambda *_: {"duration_s": 9.0, "trouble": []})
    assert looking.look(results[:1], executor)[tmp_path / "one.mp4"].duration_s == 9.0
    os.utime(tmp_path / "one.mp4", (2, 2))
    monkeypatch.setattr(looking, "look_at", lambda *_: {}["nobody foresaw this"])
    assert "unexpected KeyError" in looking.look(results[:1], executor)[tmp_path / "one.mp4"].trouble[0]
