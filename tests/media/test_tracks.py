"""Which of several pictures and sound tracks is the clip."""

from __future__ import annotations

import json

import pytest
from odd_files import AAC, CLICKS, X264, clicks, edited, ffmpeg, film, rename_entry, source, still, tone, trak

from expotion_cli.errors import ProbeError
from expotion_cli.media.clip import Tracks, clip_from, clip_record
from expotion_cli.media.decode import iter_frames
from expotion_cli.media.probe import probe
from expotion_cli.media.sound import read_clip_sound

SILENCE = "0"
HUM = "0.3*sin(2*PI*700*t)"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return film(tmp_path_factory.mktemp("base") / "base.mp4")


def heard(info):
    return clicks(read_clip_sound(info, 48_000), 48_000)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_film_comes_before_a_still_picture(base, tmp_path, suffix):
    path = tmp_path / f"still-first{suffix}"
    ffmpeg("-i", still(tmp_path), "-i", base, "-map", "0:v", "-map", 1, "-c", "copy", path)
    info = probe(path)
    assert (info.num_frames, info.width) == (50, 96) and sum(1 for _ in iter_frames(info)) == 50
    assert info.notes == ("picture: track 2 of 2 (h264, 96x64) is scored",)


def test_the_default_picture_comes_before_a_preview_and_the_user_before_both(base, tmp_path):
    path = tmp_path / "preview-first.mp4"
    preview = ["-filter:v:0", "scale=48:32,fps=5", "-c:v:0", "libx264", "-c:v:1", "copy", "-c:a", "copy"]
    dispositions = ["-disposition:v:0", 0, "-disposition:v:1", "default"]
    ffmpeg("-i", base, "-map", "0:v", "-map", "0:v", "-map", "0:a", *preview, *dispositions, path)
    assert (probe(path).width, probe(path).num_frames) == (96, 50)
    chosen = probe(path, Tracks(video=1))
    assert (chosen.width, chosen.num_frames) == (48, 10)
    assert next(iter(iter_frames(chosen))).pixels.shape == (32, 48, 3)
    assert probe(path).picture != chosen.picture == {}
    with pytest.raises(ProbeError, match="2 video tracks, and no number 3"):
        probe(path, Tracks(video=3))


def test_of_two_default_pictures_the_larger_is_scored(tmp_path):
    path = tmp_path / "two.mkv"
    small = ["-f", "lavfi", "-i", "testsrc2=size=32x24:rate=25:duration=1"]
    dispositions = ["-disposition:v:0", "default", "-disposition:v:1", "default"]
    ffmpeg(*small, *source(1), "-map", "0:v", "-map", "1:v", "-map", "2:a", *X264, *AAC, *dispositions, path)
    assert probe(path).width == 96


def test_what_can_be_heard_comes_before_silence_and_the_other_track_is_named(base, tmp_path):
    path = tmp_path / "two-sounds.mp4"
    names = ["-metadata:s:a:0", "handler_name=Desktop", "-metadata:s:a:1", "handler_name=Mic"]
    default = ["-disposition:a:0", "default", "-disposition:a:1", 0]
    maps = ["-map", "0:v", "-map", "1:a", "-map", "0:a", "-c:v", "copy"]
    ffmpeg("-i", base, *tone(SILENCE), *maps, *AAC, "-ac:a:0", 2, *names, *default, path)
    info = probe(path)
    assert heard(info) == pytest.approx([0.4, 1.2, 1.6], abs=0.02)
    assert info.sound_notes == ("own sound: track 2 (Mic, aac) of 2; without 1 (Desktop, aac)",)


def test_the_default_sound_comes_before_a_commentary_and_the_user_before_both(base, tmp_path):
    path = tmp_path / "commentary.mkv"
    marks = ["-disposition:a:0", "comment", "-disposition:a:1", "default", "-metadata:s:a:0", "title=Commentary"]
    maps = ["-map", "0:v", "-map", "1:a", "-map", "0:a", "-c:v", "copy"]
    ffmpeg("-i", base, *tone(HUM), *maps, *AAC, *marks, path)
    info = probe(path)
    assert heard(info) == pytest.approx([0.4, 1.2, 1.6], abs=0.02) and "without 1 (Commentary" in info.sound_notes[0]
    assert probe(path, Tracks(audio=(1,))).audio.indices == (1,)
    both = read_clip_sound(probe(path, Tracks(audio=(1, 2))), 48_000)
    alone = [read_clip_sound(probe(path, Tracks(audio=(number,))), 48_000) for number in (1, 2)]
    assert both == pytest.approx((alone[0] + alone[1]) / 2, abs=1e-5)
    with pytest.raises(ProbeError, match="2 sound tracks, and no number 3"):
        probe(path, Tracks(audio=(3,)))


def test_an_audio_description_is_not_the_programme(base, tmp_path):
    path = tmp_path / "two-languages.ts"
    languages = ["-metadata:s:a:0", "language=qad", "-metadata:s:a:1", "language=deu"]
    maps = ["-map", "0:v", "-map", "1:a", "-map", "0:a", "-c:v", "copy", "-c:a", "mp2"]
    ffmpeg("-i", base, *tone(HUM), *maps, *languages, path)
    assert (probe(path).audio.language, probe(path).audio.index) == ("deu", 2)


def test_mono_tracks_of_one_recording_are_mixed_and_silent_ones_take_nothing_away(base, tmp_path):
    path = tmp_path / "microphones.mov"
    inputs = ["-i", base, *tone(SILENCE), *tone(CLICKS), *tone(HUM), *tone(SILENCE)]
    maps = ["-map", "0:v", "-map", "1:a", "-map", "2:a", "-map", "3:a", "-map", "4:a"]
    ffmpeg(*inputs, *maps, "-c:v", "copy", "-c:a", "pcm_s16le", path)
    info = probe(path)
    assert info.audio.indices == (1, 2, 3, 4)
    sound = read_clip_sound(info, 48_000)
    assert clicks(sound, 48_000) == pytest.approx([0.4, 1.2, 1.6], abs=0.02)
    assert abs(sound[0, 4800:14400]).max() == pytest.approx(0.15, abs=0.01)  # half of the hum
    assert info.sound_notes == ("own sound: 4 mono tracks of one recording are mixed",)


@pytest.mark.parametrize("kind", [b"apac", b"drms"])
def test_sound_that_cannot_be_decoded_is_sound_and_is_named(base, tmp_path, kind):
    def hide(boxes):
        entry = trak(boxes, 1).one(b"mdia", b"minf", b"stbl", b"stsd")
        rename_entry(trak(boxes, 1), kind)
        entry.content = entry.content.replace(b"esds", b"free")

    info = probe(edited(base, tmp_path / "unknown.mp4", hide))
    assert info.audio is None and info.has_sound
    assert info.sound_notes == (f"its sound track ({kind.decode()}) can't be decoded and is not in the result",)


def test_a_protected_film_is_called_protected(base, tmp_path):
    with pytest.raises(ProbeError, match=r"it is protected \(DRM\)"):
        probe(edited(base, tmp_path / "bought.m4v", lambda boxes: rename_entry(trak(boxes, 0), b"drmi")))


def test_a_picture_that_lies_in_another_file_is_named_so(base, tmp_path):
    def refer(boxes):
        dref = trak(boxes, 0).one(b"mdia", b"minf", b"dinf", b"dref")
        dref.content = dref.content[:8] + b"\0\0\0\x1curl \0\0\0\0file:///etc/hosts\0"[:28].ljust(28, b"\0")

    with pytest.raises(ProbeError, match="lies in another file"):
        probe(edited(base, tmp_path / "reference.mov", refer))


def test_a_description_survives_its_record(base, tmp_path):
    path = tmp_path / "two.mp4"
    ffmpeg("-i", base, "-i", base, "-map", "0:v", "-map", "1:v", "-map", "0:a", "-c", "copy", path)
    info = probe(path, Tracks(video=2))
    assert clip_from(json.loads(json.dumps(clip_record(info))), path) == info
    assert clip_from({**clip_record(info), "tracks": [{}]}, path) is None
