import dataclasses
import json

import numpy as np
import pytest

from expotion_cli.demo import DEMO_CLIPS, ENERGY_RATE_HZ, render_frames, write_demo_clips
from expotion_cli.errors import OutputError
from expotion_cli.media.decode import iter_frames
from expotion_cli.media.probe import probe

SHORT = tuple(dataclasses.replace(clip, duration_s=0.6) for clip in DEMO_CLIPS)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_demo_clips(tmp_path_factory.mktemp("demo"), SHORT)


def test_the_clips_are_what_the_truth_beside_them_says(written):
    truth = json.loads((written[0].path.parent / "demo.json").read_text())["clips"]
    assert [entry["name"] for entry in truth] == ["sway", "rise", "still"]
    for clip, entry in zip(written, truth, strict=True):
        info = probe(clip.path)
        assert clip.path.name == entry["file"] and float(info.duration) == pytest.approx(0.6, abs=0.001)
        assert (info.width, info.height, info.fps, info.video_codec) == (640, 480, clip.fps, "h264")
        assert (info.audio is not None) == clip.has_sound == entry["has_sound"]
        assert entry["tempo_bpm"] == clip.tempo_bpm
        assert len(entry["energy"]) == round(0.6 * entry["energy_rate_hz"])


def test_writing_them_again_gives_the_same_bytes(written, tmp_path):
    again = write_demo_clips(tmp_path, SHORT)
    assert [clip.path.read_bytes() for clip in again] == [clip.path.read_bytes() for clip in written]


def test_accents_fall_on_the_beats_of_the_tempo():
    for clip in DEMO_CLIPS:
        if clip.tempo_bpm is None:
            assert clip.accent_times_s == ()
            continue
        assert np.diff(clip.accent_times_s) == pytest.approx(60 / clip.tempo_bpm, abs=2e-4)
        assert 0 < clip.accent_times_s[0] and clip.duration_s - 1 < clip.accent_times_s[-1] < clip.duration_s


def test_motion_is_fastest_just_before_an_accent_and_stops_at_it():
    sway = DEMO_CLIPS[0]
    for beat in sway.accent_times_s[:-1]:
        before, after = (sway.bend(beat + d).lean - sway.bend(beat + d - 0.02).lean for d in (-0.01, 0.05))
        assert abs(before) > 3 and after == 0


def test_energy_rises_over_the_rising_clip_and_is_nearly_absent_from_the_still_one():
    sway, rise, still = (clip.energy for clip in DEMO_CLIPS)
    thirds = [part.mean() for part in np.array_split(rise, 3)]
    assert thirds[0] * 2 < thirds[1] < thirds[2] / 1.4
    assert still.mean() < 0.03 * sway.mean()
    assert len(sway) == DEMO_CLIPS[0].duration_s * ENERGY_RATE_HZ


def test_the_background_stands_still_while_the_person_moves():
    frames = [frame.astype(int) for frame in render_frames(SHORT[0])]
    change = np.max([abs(frame - frames[0]).max(axis=-1) for frame in frames], axis=0)
    assert change[:, :60].max() == 0 and change[:40].max() == 0 and change[150:300, 200:400].mean() > 10


def test_the_encoded_pictures_are_the_rendered_ones(written):
    decoded = next(iter_frames(written[0].path)).pixels.astype(int)
    assert abs(decoded - next(render_frames(SHORT[0]))).mean() < 4


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="can't be written"):
        write_demo_clips(tmp_path / "file")
