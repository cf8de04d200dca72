"""The main job with the real parts: a person in, music that follows out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from expotion_cli.demo import write_demo_clips
from expotion_cli.media.decode import iter_frames
from expotion_cli.media.loudness import measure
from expotion_cli.media.probe import probe
from expotion_cli.media.sound import read_clip_sound

TONE_HZ = 9_000
"""Between the notes, above all fundamentals."""


@pytest.fixture(scope="module")
def short_clip(tmp_path_factory, ffmpeg):
    """Four seconds of the swaying demo clip, under a tone of its own."""
    folder = tmp_path_factory.mktemp("person")
    write_demo_clips(folder / "demo")
    clip = folder / "in" / "sway.mp4"
    clip.parent.mkdir()
    tone = ["-f", "lavfi", "-i", f"sine=frequency={TONE_HZ}"]
    ffmpeg("-i", folder / "demo" / "sway.mp4", *tone, "-t", 4, "-map", "0:v", "-map", "1:a", "-c:v", "libx264", clip)
    return clip


def tone_share(sound: np.ndarray) -> float:
    """How strong the clip's own tone is beside the strongest partial of two seconds."""
    spectrum = np.abs(np.fft.rfft(sound[0, : 44_100 * 2] * np.hanning(44_100 * 2)))
    return float(spectrum[2 * TONE_HZ - 3 : 2 * TONE_HZ + 4].max() / spectrum.max())


def test_a_person_goes_in_and_a_scored_video_comes_out(expotion, short_clip, tmp_path):
    from expotion_cli.music.load import load_model
    from expotion_cli.recipe import load_recipe
    from expotion_cli.scoring.api import score_clip

    done = expotion("score", short_clip, "--recipe", "cinematic", "--out", tmp_path / "out", "--midi")
    assert done.exit_code == 0, done.stderr
    result = tmp_path / "out" / "sway.mp4"
    said = json.loads((tmp_path / "out" / "sway.score.json").read_text())

    before, after = probe(short_clip), probe(result)
    assert (after.duration, after.num_frames, after.video_codec) == (before.duration, before.num_frames, "h264")
    pairs = list(zip(iter_frames(short_clip, rate_hz=2), iter_frames(result, rate_hz=2), strict=True))
    assert len(pairs) == 8 and all(np.array_equal(one.pixels, two.pixels) for one, two in pairs)

    loudness = measure(result)
    assert abs(loudness.integrated_lufs + 14) <= 0.5 and loudness.true_peak_dbtp <= -1
    sound = read_clip_sound(result, 44_100)
    assert sound.shape[0] == 2 and np.abs(sound).max() <= 1
    seconds = np.sqrt(np.mean(sound[:, : 4 * 44_100].reshape(2, 4, -1) ** 2, axis=(0, 2)))
    assert seconds[:3].min() > 0.005, "no second before the fade is silent"
    assert tone_share(read_clip_sound(short_clip, 44_100)) > 0.9
    assert tone_share(sound) < 0.05, "the clip's own tone is replaced"

    found = {stream["name"]: stream["found"] for stream in said["streams"]}
    assert found["face"] > 0.9 and found["pose"] > 0.9 and found["flow"] == 1 and not said["left_out"]
    asked = load_recipe("cinematic").tempo
    assert asked.min <= said["tempo"]["bpm"] <= asked.max
    assert said["model"]["name"] == "expotion-mini" and said["model"]["licence"] and said["adapter"]
    assert (tmp_path / "out" / "sway.mid").read_bytes()[:4] == b"MThd"

    again = score_clip(
        short_clip, tmp_path / "again.mp4", model=load_model(), recipe=load_recipe("cinematic"), seed=said["seed"]
    )
    assert np.array_equal(read_clip_sound(again.output, 44_100), sound), "from Python the music is the same"
    other = expotion("score", short_clip, "--seed", "per-clip:1", "--out", tmp_path / "other")
    assert other.exit_code == 0
    assert not np.array_equal(read_clip_sound(tmp_path / "other" / "sway.mp4", 44_100), sound), (
        "another seed, another take"
    )


def test_an_unknown_model_exits_with_2_and_makes_nothing(expotion, short_clip, tmp_path):
    done = expotion("score", short_clip, "--model", "expotion-min", "--out", tmp_path / "out")
    assert done.exit_code == 2 and "expotion-mini" in done.stderr and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("flag", "value"), [("--device", "abacus"), ("--dtype", "fp8"), ("--soundfont", "none.sf2")])
def test_what_the_machine_or_the_model_can_not_do_exits_with_2(expotion, short_clip, tmp_path, flag, value):
    done = expotion("score", short_clip, flag, value, "--streams", "none", "--out", tmp_path / "out")
    assert done.exit_code == 2 and value in done.stderr and not (tmp_path / "out").exists()
