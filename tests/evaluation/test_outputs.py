"""Which output belongs to which clip, and where its sound stands on the picture's clock."""

from __future__ import annotations

import json

import numpy as np
import pytest

from expotion_cli.errors import DecodeError, UsageError
from expotion_cli.evaluation.outputs import (
    PICTURE,
    SAMPLE_RATE,
    Output,
    clip_prompts,
    find_clips,
    find_outputs,
    own_sound,
    read_cue,
)
from expotion_cli.media.flac import to_16_bit, write_flac
from expotion_cli.media.probe import probe


def click(path, at_s: float, duration_s: float = 2.0, rate: int = 44_100):
    """A FLAC file, silent but for 10 ms."""
    audio = np.zeros((2, round(duration_s * rate)), np.float32)
    audio[:, round(at_s * rate) : round((at_s + 0.01) * rate)] = 0.5
    path.parent.mkdir(parents=True, exist_ok=True)
    write_flac(path, to_16_bit(audio), rate)
    return path


def first_sound_s(audio: np.ndarray) -> float:
    return float(np.flatnonzero(np.abs(audio[0]) > 0.1)[0] / SAMPLE_RATE)


def test_outputs_are_matched_by_path_and_else_by_a_stem_that_is_no_ones_else(tmp_path):
    clips = ["one", "sub/two", "a/same", "b/same"]
    for name in ("one.flac", "deep/two.wav", "a/same.m4a", "same.mp4", "stranger.mp4", ".one.mp4", "one.mid"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_outputs("ours", tmp_path, clips)
    assert {clip: file.path.name for clip, file in found.files.items()} == {
        "one": "one.flac",
        "sub/two": "two.wav",
        "a/same": "same.m4a",
    }
    assert any("same.mp4, stranger.mp4" in note for note in found.notes)
    assert any("no output for b/same" in note for note in found.notes)


def test_two_outputs_of_one_clip_are_refused(tmp_path):
    for name in ("one.flac", "one.mp4"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match="both outputs of one"):
        find_outputs("ours", tmp_path, ["one"])
    with pytest.raises(UsageError, match="no such folder"):
        find_outputs("ours", tmp_path / "none", ["one"])


def test_two_clips_of_one_name_are_refused(tmp_path, make_video):
    for name in ("a/one.mp4", "b/one.mp4"):
        make_video(tmp_path / name, duration_s=0.2)
    with pytest.raises(UsageError, match="both the clip 'one'"):
        find_clips([tmp_path / "a", tmp_path / "b"])
    assert list(find_clips([tmp_path])[0]) == ["a/one", "b/one"]


def test_sound_beside_a_late_picture_is_laid_to_the_file_unless_told_otherwise(tmp_path, make_video, ffmpeg):
    make_video(tmp_path / "plain.mp4", duration_s=1.5, sound=False)
    ffmpeg("-itsoffset", "0.5", "-i", tmp_path / "plain.mp4", "-c", "copy", tmp_path / "late.mp4")
    clip = probe(tmp_path / "late.mp4")
    assert float(clip.start) == pytest.approx(0.5, abs=0.03)
    output = Output("late", click(tmp_path / "late.flac", 1.0))
    by_file, _ = read_cue(output, clip)
    by_picture, _ = read_cue(output, clip, zero=PICTURE)
    assert first_sound_s(by_file.audio) == pytest.approx(1.0 - float(clip.start), abs=0.01)
    assert first_sound_s(by_picture.audio) == pytest.approx(1.0, abs=0.01)
    assert by_file.duration_s == pytest.approx(1.5, abs=0.02)


def test_a_video_without_sound_is_refused_with_a_reason(tmp_path, make_video):
    mute = make_video(tmp_path / "mute.mp4", duration_s=0.4, sound=False)
    with pytest.raises(DecodeError, match="no sound"):
        read_cue(Output("mute", mute), probe(mute))


def test_silence_other_lengths_notes_and_words_are_noticed(tmp_path, make_video):
    clip = probe(make_video(tmp_path / "one.mp4", duration_s=2.0, sound=False))
    short = click(tmp_path / "short" / "one.flac", 0.2, duration_s=1.0)
    (tmp_path / "short" / "one.mid").write_bytes(b"MThd")
    (tmp_path / "short" / "one.score.json").write_text(json.dumps({"prompt": "slow strings"}))
    cue, notes = read_cue(Output("one", short), clip, prompt="other words")
    assert cue.prompt == "slow strings" and cue.midi == b"MThd" and not cue.is_silent
    assert len(notes) == 1 and "1.0 s shorter" in notes[0]
    silent = tmp_path / "silent.flac"
    write_flac(silent, np.zeros((2, 2 * 44_100), np.int16), 44_100)
    cue, notes = read_cue(Output("one", silent), clip, prompt="other words")
    assert cue.is_silent and cue.prompt == "other words" and any("silent" in note for note in notes)


def test_clips_own_sound_is_a_set_of_those_that_have_some(tmp_path, make_video):
    infos = {
        "with": probe(make_video(tmp_path / "with.mp4", duration_s=0.4)),
        "without": probe(make_video(tmp_path / "without.mp4", duration_s=0.4, sound=False)),
    }
    found = own_sound("own", infos)
    assert list(found.files) == ["with"] and "without" in found.notes[0]


def test_prompts_are_a_table_of_texts(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text('{"one.mp4": "calm", "sub/two": "fast"}')
    # A clip that shares its stem with another goes by its whole name.
    assert clip_prompts(path) == {"one": "calm", "one.mp4": "calm", "sub/two": "fast"}
    for text in ("[]", '{"one": 1}', "no json"):
        path.write_text(text)
        with pytest.raises(UsageError, match="prompts"):
            clip_prompts(path)
