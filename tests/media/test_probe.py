from fractions import Fraction
from pathlib import Path

import pytest

from expotion_cli.errors import ProbeError
from expotion_cli.media.probe import probe


@pytest.mark.parametrize(
    ("name", "container", "codec", "has_sound"),
    [
        ("ntsc.mp4", "mp4", "h264", True),
        ("silent.mov", "mov", "h264", False),
        ("rich.mkv", "mkv", "h264", True),
        ("small.webm", "webm", "vp9", True),
        ("old.avi", "avi", "mpeg4", True),
        ("reordered.avi", "avi", "h264", True),
        ("broadcast.ts", "mpegts", "h264", True),
        ("ten-bit.mkv", "mkv", "h264", False),
    ],
)
def test_each_container_is_known_with_its_exact_length_and_rate(clip, name, container, codec, has_sound):
    info = probe(clip(name))
    assert (info.container, info.video_codec, info.audio is not None) == (container, codec, has_sound)
    assert info.fps == Fraction(30000, 1001)
    assert abs(info.duration - Fraction(2002, 1000)) <= Fraction(1, 1000)
    assert (info.width, info.height, info.num_frames) == (320, 180, 60)


def test_content_decides_whatever_the_suffix_says(clip, tmp_path):
    disguised = tmp_path / "really-matroska.mp4"
    disguised.write_bytes(clip("rich.mkv").read_bytes())
    assert probe(disguised).container == "mkv"


def test_a_variable_rate_has_its_true_length_and_mean_rate(clip):
    info = probe(clip("variable.mp4"))
    last_begins = Fraction(5 * 2 + 4 * 15, 60)
    assert info.num_frames == 10
    assert info.duration == last_begins + Fraction(2, 60)
    assert info.fps == pytest.approx(9 / float(last_begins), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "rotation"), [("turned-90.mp4", 270), ("turned-180.mp4", 180), ("turned-270.mov", 90)]
)
def test_rotation_is_read_and_the_size_is_that_of_the_upright_picture(clip, name, rotation):
    info = probe(clip(name))
    assert info.rotation == rotation
    assert (info.width, info.height) == ((320, 180) if rotation == 180 else (180, 320))


def test_pixels_that_are_not_square_are_counted_as_shown(clip):
    info = probe(clip("wide-pixels.mp4"))
    assert (info.width, info.height) == (427, 180)


def test_subtitles_chapters_and_tags_are_seen(clip):
    info = probe(clip("rich.mkv"))
    assert [track.codec for track in info.tracks if track.kind == "subtitle"] == ["subrip"]
    assert info.num_chapters == 2
    assert info.tags["title"] == "A title"


def test_sound_that_starts_with_the_picture_starts_at_zero_despite_priming(clip):
    for name in ("ntsc.mp4", "rich.mkv", "small.webm"):
        audio = probe(clip(name)).audio
        assert abs(audio.start) <= Fraction(1, 1000), name
        assert abs(audio.duration - Fraction(2002, 1000)) <= Fraction(25, 1000), name


def text_file(folder, clip):
    (folder / "a.mp4").write_text("This is not a video.\n" * 50)
    return folder / "a.mp4"


def empty_file(folder, clip):
    (folder / "a.mp4").touch()
    return folder / "a.mp4"


def cut_before_its_index(folder, clip):
    content = clip("ntsc.mp4").read_bytes()
    (folder / "a.mp4").write_bytes(content[: len(content) // 2])
    return folder / "a.mp4"


def cut_after_its_index(folder, clip, run_ffmpeg):
    run_ffmpeg("-i", clip("ntsc.mp4"), "-c", "copy", "-movflags", "+faststart", folder / "whole.mp4")
    content = (folder / "whole.mp4").read_bytes()
    (folder / "a.mp4").write_bytes(content[: len(content) // 2])
    return folder / "a.mp4"


def cut(name):
    def make(folder, clip):
        content = clip(name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        return folder / name

    return make


def without_frames(folder, clip, run_ffmpeg):
    run_ffmpeg("-i", clip("ntsc.mp4"), "-frames:v", "0", "-an", "-c", "copy", folder / "a.mov")
    return folder / "a.mov"


def still_picture(folder, clip, run_ffmpeg):
    run_ffmpeg("-f", "lavfi", "-i", "testsrc2=d=0.1", "-frames:v", "1", folder / "a.png")
    (folder / "a.png").rename(folder / "a.mp4")
    return folder / "a.mp4"


def playlist(folder, clip):
    (folder / "a.mp4").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{clip('broadcast.ts')}\n#EXT-X-ENDLIST\n"
    )
    return folder / "a.mp4"


def concatenation_list(folder, clip):
    (folder / "a.mp4").write_text(f"ffconcat version 1.0\nfile '{clip('ntsc.mp4')}'\n")
    return folder / "a.mp4"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (text_file, "isn't a readable video file"),
        (empty_file, "empty"),
        (cut_before_its_index, "moov"),
        (cut_after_its_index, "cut off"),
        (cut("rich.mkv"), "cut off"),
        (cut("small.webm"), "cut off"),
        (cut("old.avi"), "cut off"),
        (lambda folder, clip: clip("sound-only.mp4"), "sound but no picture"),
        (without_frames, "no picture|no length|can't be"),
        (still_picture, "isn't a readable video file"),
        (playlist, "isn't a readable video file"),
        (concatenation_list, "isn't a readable video file"),
        (lambda folder, clip: folder / "absent.mp4", "no such file"),
        (lambda folder, clip: folder, "folder"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_file_reason_and_remedy(make, reason, clip, run_ffmpeg, tmp_path):
    needs_ffmpeg = "run_ffmpeg" in make.__code__.co_varnames
    path = make(tmp_path, clip, run_ffmpeg) if needs_ffmpeg else make(tmp_path, clip)
    with pytest.raises(ProbeError, match=reason) as caught:
        probe(path)
    assert caught.value.path == path
    assert caught.value.remedy and str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["-y.mp4", "http:clip.mp4", "a b%20d 'q' \"r\".mp4", "%03d.mp4", "Grüße 你好.mp4"])
def test_odd_file_names_are_only_names(clip, tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(clip("short.mp4").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert probe(Path(name)).duration == Fraction(3, 10)
