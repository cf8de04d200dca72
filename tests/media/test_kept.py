"""What of a clip is in its result, or named because it isn't."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from odd_files import (
    AAC,
    add_to_entry,
    clicks,
    edited,
    ffmpeg,
    film,
    flashes,
    packets,
    said,
    set_edits,
    source,
    still,
    tone,
    trak,
)
from options import remux

from expotion_cli.errors import ExpotionError, ProbeError
from expotion_cli.media.boxes import Box, BoxError, Changes, _move_chunks, parse, read_boxes, rewrite
from expotion_cli.media.clip import output_suffix
from expotion_cli.media.decode import iter_frames
from expotion_cli.media.probe import probe
from expotion_cli.media.sound import read_clip_sound

RATE = 44_100
X265 = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:pools=1:bframes=2"]
DATE = "creation_time=2026-07-01T08:00:00.000000Z"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return film(tmp_path_factory.mktemp("base") / "base.mp4", "-metadata", DATE)


@pytest.fixture(scope="module")
def hevc(tmp_path_factory):
    path = tmp_path_factory.mktemp("hevc") / "hevc.mp4"
    ffmpeg(*source(0.6), *X265, "-tag:v", "hvc1", *AAC, "-timecode", "10:20:30:12", path)
    return path


def finished(path: Path, music, *, own_sound: bool = False, like: np.ndarray | None = None):
    """A clip's result: its description, its path, the report."""
    info = probe(path)
    target = path.parent / f"scored-{path.stem}-{path.suffix[1:]}{output_suffix(info)}"
    sound = music(info.duration) if like is None else like
    return info, target, remux(info, sound, RATE, target, own_sound=own_sound)


def test_dolby_vision_and_spherical_mappings_are_kept(hevc, base, music, tmp_path):
    record = bytes([1, 0, 8 << 1, 1 << 3 | 0b101, 4 << 4]) + bytes(19)  # profile 8.4
    box = struct.pack(">I4s", 8 + len(record), b"dvvC") + record
    _, path, _ = finished(edited(hevc, tmp_path / "vision.mp4", lambda b: add_to_entry(trak(b, 0), box)), music)
    assert "DOVI configuration record: version: 1.0, profile: 8" in said(path)
    proj = Box(b"proj", bytes(Box(b"prhd", bytes(16))) + bytes(Box(b"equi", bytes(20))))
    sv3d = Box(b"sv3d", bytes(Box(b"svhd", bytes(4) + b"me\0")) + bytes(proj))
    sphere = edited(base, tmp_path / "sphere.mp4", lambda b: add_to_entry(trak(b, 0), bytes(sv3d)))
    assert "Spherical Mapping" in said(sphere)
    _, path, _ = finished(sphere, music)
    assert "Spherical Mapping: equirectangular" in said(path)


def test_telemetry_and_timecode_are_kept_and_other_data_is_named(hevc, music, tmp_path):
    def double(kind):
        def edit(boxes):
            (copy,) = [box for box in boxes[-1].all(b"trak") if b"tmcd" in bytes(box.one(b"mdia", b"hdlr"))]
            copy = Box(b"trak", children=[box for box in copy.children if box.kind != b"tref"])
            stsd = copy.one(b"mdia", b"minf", b"stbl", b"stsd")
            renamed = Box(b"stsd", stsd.content[:12] + kind + stsd.content[16:])
            stbl = Box(b"stbl", children=[renamed, *copy.one(b"mdia", b"minf", b"stbl").children[1:]])
            minf = Box(b"minf", children=[*copy.one(b"mdia", b"minf").children[:-1], stbl])
            header = copy.one(b"mdia", b"hdlr")
            named = Box(b"hdlr", header.content[:8] + b"meta" + header.content[12:])
            mdia = Box(b"mdia", children=[copy.one(b"mdia", b"mdhd"), named, minf])
            boxes[-1].children.append(Box(b"trak", children=[*copy.children[:-1], mdia]))

        return edit

    _, path, report = finished(edited(hevc, tmp_path / "gopro.mp4", double(b"gpmd")), music)
    assert "gpmd" in said(path) and "10:20:30:12" in said(path) and report.notes == ()
    _, path, report = finished(edited(hevc, tmp_path / "phone.mp4", double(b"mebx")), music)
    assert report.notes == ("left out: a data track (eng, mebx), which MP4 can't hold",) and "10:20:30:12" in said(path)


def test_a_second_picture_is_kept(base, music, tmp_path):
    both = tmp_path / "both.mp4"
    inputs = ["-i", base, "-i", base, "-map", "0:v", "-map", "1:v", "-map", "0:a"]
    ffmpeg(*inputs, "-c", "copy", "-disposition:v:1", 0, both)
    _, path, _ = finished(both, music)
    assert packets(path, "v:1") == packets(both, "v:1") != ""
    assert [track.kind for track in probe(path).tracks] == ["video", "audio", "video"]


def test_what_cannot_be_kept_is_named(base, music, tmp_path):
    lines = tmp_path / "lines.srt"
    lines.write_text("1\n00:00:00,100 --> 00:00:01,000\nwords\n\n")
    rich = tmp_path / "rich.webm"
    vp9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", 8, "-c:a", "libopus", "-c:s", "webvtt"]
    ffmpeg("-i", base, "-i", lines, "-map", "0:v", "-map", "0:v", "-map", "0:a", "-map", 1, "-t", 0.6, *vp9, rich)
    _, path, report = finished(rich, music)
    assert path.suffix == ".webm" and "left out: a picture (vp9), which WebM can't hold" in report.notes
    assert [track.kind for track in probe(path).tracks] == ["video", "audio", "subtitle"]


def test_place_cameras_boxes_and_xmp_are_kept_and_the_index_stands_in_front(base, music, tmp_path):
    place = b"\xa9xyz", struct.pack(">HH", 18, 0x15C7) + b"+48.8577+002.2950/"
    xmp = Box(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + b"<x:xmpmeta/>")

    own = [Box(*place), Box(b"FIRM", b"HD9.01"), Box(b"CAME", bytes(16))]

    def add(boxes):
        boxes[-1].children = [box for box in boxes[-1].children if box.kind != b"udta"]
        boxes[-1].children.append(Box(b"udta", children=own))

    _, path, _ = finished(edited(base, tmp_path / "camera.mp4", add, after=bytes(xmp)), music)
    found = read_boxes(path)
    assert {box.kind for box in found.user} >= {b"\xa9xyz", b"FIRM", b"CAME"} and list(found.file) == [xmp]
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat") and place[1] in content
    assert packets(path) == packets(base)
    with av.open(str(path)) as container:
        assert container.metadata["creation_time"] == "2026-07-01T08:00:00.000000Z"


def test_a_date_that_stands_twice_is_kept_once(base, music, tmp_path):
    once, twice = tmp_path / "once.mov", tmp_path / "twice.mov"
    keys = ["-metadata", "com.apple.quicktime.make=Apple", "-metadata", "com.apple.quicktime.software=1;2"]
    ffmpeg("-i", base, "-c", "copy", "-map_metadata", 0, "-movflags", "use_metadata_tags", *keys, once)
    _, path, _ = finished(once, music)
    path.rename(twice)
    info, path, _ = finished(twice, music)
    assert info.tags["creation_time"] == "2026-07-01T08:00:00.000000Z"
    (mvhd,) = [box for box in _index(path).children if box.kind == b"mvhd"]
    seconds = struct.unpack(">I", mvhd.content[4:8])[0] - 2_082_844_800  # since 1904 → since 1970
    assert seconds == 1_782_892_800
    assert b"Z;2026" not in path.read_bytes() and b"qt  ;qt" not in path.read_bytes()
    assert info.tags["com.apple.quicktime.software"] == "1;2"


def test_a_cover_in_matroska_stays_an_attachment(base, music, tmp_path):
    covered = tmp_path / "covered.mkv"
    ffmpeg("-i", base, "-attach", still(tmp_path), "-metadata:s:t", "mimetype=image/jpeg", "-c", "copy", covered)
    _, path, report = finished(covered, music)
    assert report.notes == () and packets(path, 2) == packets(covered, 2)
    with av.open(str(path)) as container:
        names = container.streams[2].metadata
        assert names["mimetype"] == "image/jpeg" and names["filename"] == "cover.jpg"


def test_fonts_stay_beside_a_cover(base, music, tmp_path):
    font, styled = tmp_path / "letters.ttf", tmp_path / "styled.mkv"
    font.write_bytes(b"\0\1\0\0" + bytes(60))
    attached = ["-attach", font, "-metadata:s:t:0", "mimetype=font/ttf"]
    attached += ["-attach", still(tmp_path), "-metadata:s:t:1", "mimetype=image/jpeg"]
    ffmpeg("-i", base, *attached, "-c", "copy", styled)
    _, path, report = finished(styled, music)
    assert report.notes == ()
    with av.open(str(path)) as container:
        names = [stream.metadata.get("filename") for stream in container.streams]
    assert names == [None, None, "letters.ttf", "cover.jpg"] and font.read_bytes() in path.read_bytes()


def test_own_sound_keeps_its_language_name_and_companions(base, music, tmp_path):
    spoken = tmp_path / "spoken.mp4"
    names = ["-metadata:s:a:1", "language=deu", "-metadata:s:a:1", "handler_name=Ton"]
    maps = ["-map", "0:v", "-map", "1:a", "-map", "0:a", "-c:v", "copy", *AAC]
    ffmpeg("-i", base, *tone("0.3*sin(2*PI*700*t)"), *maps, *names, "-disposition:a:1", "default", spoken)
    _, path, report = finished(spoken, music, own_sound=True)
    result = probe(path)
    assert (result.audio.language, result.audio.title, result.audio.index) == ("deu", "Ton", 1)
    assert packets(path, "a:1") == packets(spoken, "a:0") and "sound track 1 is kept beside the mix" in report.notes
    _, path, report = finished(spoken, music)
    assert [track.kind for track in probe(path).tracks] == ["video", "audio"] and probe(path).audio.language == ""
    assert report.notes == ("the music replaces all 2 sound tracks",)


def test_own_sound_outside_the_picture_and_folded_channels_are_told(base, music, tmp_path):
    late, surround = tmp_path / "late.mkv", tmp_path / "surround.mkv"
    ffmpeg("-itsoffset", 0.48, "-i", base, "-i", base, "-map", "0:v", "-map", "1:a", "-t", 1.2, "-c", "copy", late)
    _, _, report = finished(late, music, own_sound=True)
    assert "the 0.48 s of its own sound before the picture are left out" in report.notes
    assert not any("own sound" in note for note in finished(late, music)[2].notes)
    six = ["-f", "lavfi", "-i", "aevalsrc=0.1*sin(440*2*PI*t)|0|0.2*sin(220*2*PI*t)|0|0|0:c=5.1:d=2.6:s=16000"]
    ffmpeg("-i", base, *six, "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "flac", surround)
    _, _, report = finished(surround, music, own_sound=True)
    assert "its own sound of 6 channels is mixed down to stereo" in report.notes
    assert "the 0.60 s of its own sound after the picture are left out" in report.notes


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_further_sound_track_that_begins_early_moves_nothing(base, music, tmp_path, suffix):
    early = tmp_path / f"early{suffix}"
    inputs = ["-itsoffset", 0.6, "-i", base, "-i", base, *tone("0.3*sin(2*PI*700*t)")]
    maps = ["-map", "0:v", "-map", "1:a", "-map", "2:a", "-c", "copy", "-c:a:1", "aac", "-ac:a:1", 2]
    ffmpeg(*inputs, *maps, early)
    _, path, report = finished(early, music, own_sound=True)
    assert "sound track 2 is kept beside the mix" in report.notes
    with av.open(str(path)) as container:
        firsts: dict[int, float] = {}
        for packet in container.demux():
            if packet.size and not packet.is_discard:
                firsts.setdefault(packet.stream_index, float(packet.pts * packet.time_base))
    assert firsts[0] == 0 and abs(firsts[1]) < 0.03 and (suffix == ".mp4" or abs(firsts[2]) < 0.03)


@pytest.mark.parametrize("suffix", [".ts", ".avi"])
def test_hevc_gets_the_tag_that_apple_plays(hevc, music, tmp_path, suffix):
    other = tmp_path / f"other{suffix}"
    ffmpeg("-i", hevc, "-map", "0:v", "-map", "0:a", "-c", "copy", "-bsf:v", "hevc_mp4toannexb", other)
    _, path, _ = finished(other, music)
    assert path.suffix == ".mp4" and read_boxes(path).tracks[0].tag == "hvc1" and len(flashes(path)) == 1


@pytest.mark.parametrize("order", [2, 0])
@pytest.mark.parametrize("kind", ["mpeg", "vob"])
def test_program_streams_lose_no_picture(music, tmp_path, order, kind):
    path = tmp_path / "tape.mpg"
    ffmpeg(*source(), "-c:v", "mpeg2video", "-q:v", 8, "-bf", order, "-c:a", "mp2", "-f", kind, path)
    info, result, _ = finished(path, music)
    assert info.num_frames == probe(result).num_frames == 50
    assert flashes(result) == pytest.approx([0.4, 1.2, 1.6], abs=0.011) and packets(result) == packets(path)


def test_a_recording_that_begins_between_key_pictures_is_scored_from_the_first_that_can_be_shown(music, tmp_path):
    whole, cut = tmp_path / "whole.ts", tmp_path / "cut.ts"
    ffmpeg(*source(), "-c:v", "mpeg2video", "-g", 25, "-bf", 2, "-q:v", 8, "-c:a", "mp2", whole)
    content = whole.read_bytes()
    cut.write_bytes(content[len(content) // 188 // 5 * 188 :])
    info, path, _ = finished(cut, music)
    shown = [frame.pixels for frame in iter_frames(info)]
    assert info.begins_late and 20 < len(shown) == info.num_frames < 50
    after = list(iter_frames(probe(path)))
    assert after[0].time_s == 0 and len(after) == len(shown)
    assert all(np.array_equal(one, other.pixels) for one, other in zip(shown, after, strict=True))


def test_two_recordings_with_two_clocks_are_refused_and_never_hours_long(base, tmp_path):
    parts = []
    for offset in (500, 20):
        parts.append(tmp_path / f"{offset}.ts")
        ffmpeg("-i", base, "-c", "copy", "-output_ts_offset", offset, parts[-1])
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(ProbeError, match="time stamps jump by .* hours") as caught:
        probe(joined)
    assert "score them one by one" in caught.value.remedy


def test_old_phones_and_capture_cards_are_scored(music, tmp_path):
    phone, card = tmp_path / "phone.3gp", tmp_path / "card.avi"
    ffmpeg(*source(1), "-vf", "scale=128:96", "-c:v", "h263", "-c:a", "aac", "-ar", 8000, "-ac", 1, phone)
    ffmpeg(*source(1), "-c:v", "rawvideo", "-pix_fmt", "yuv420p", "-c:a", "pcm_s16le", card)
    for clip, suffix in ((phone, ".mov"), (card, ".mkv")):
        info, path, _ = finished(clip, music)
        assert path.suffix == suffix and packets(path) == packets(clip)
        frames = zip(iter_frames(info), iter_frames(probe(path)), strict=True)
        assert all(np.array_equal(a.pixels, b.pixels) and a.time_s == b.time_s for a, b in frames)


def test_packed_pictures_are_parted(music, tmp_path):
    plain, packed = tmp_path / "plain.avi", tmp_path / "packed.avi"
    ffmpeg(*source(), "-an", "-c:v", "mpeg4", "-bf", 1, "-q:v", 6, "-vtag", "XVID", plain)
    _pack(plain, packed)
    info, path, _ = finished(packed, music)
    shown = [frame.pixels for frame in iter_frames(info)]
    after = list(iter_frames(probe(path)))
    assert len(after) == len(shown) == info.num_frames
    assert all(np.array_equal(one, other.pixels) for one, other in zip(shown, after, strict=True))
    with av.open(str(path)) as container:
        starts = [bytes(packet).count(b"\0\0\1\xb6") for packet in container.demux(video=0) if packet.size]
    assert set(starts) == {1}


def _pack(plain: Path, packed: Path) -> None:
    """Put each B-picture into the packet before it, and a picture that isn't coded in its place, as DivX does."""
    with av.open(str(plain)) as container:
        stream = container.streams.video[0]
        sizes = stream.codec_context.extradata
        chunks = [bytes(packet) for packet in container.demux(stream) if packet.size]
    is_b = [chunk[chunk.index(b"\0\0\1\xb6") + 4] >> 6 == 2 for chunk in chunks]
    nothing = b"\0\0\1\xb6\x57\xff"
    with av.open(str(packed), "w") as container:
        with av.open(str(plain)) as original:
            stream = container.add_stream_from_template(original.streams.video[0])
        number = 0
        while number < len(chunks):
            follows = number + 1 < len(chunks) and is_b[number + 1]
            data = chunks[number] + (chunks[number + 1] if follows else b"")
            if not number:
                head, _, rest = data.partition(b"\0\0\1\xb6")
                data = (head or sizes or b"") + b"\0\0\1\xb2DivX503b1393p" + b"\0\0\1\xb6" + rest
            for piece in (data, nothing) if follows else (data,):
                packet = av.Packet(piece)
                packet.stream, packet.time_base = stream, Fraction(1, 25)
                packet.pts = packet.dts = number
                container.mux(packet)
                number += 1


@pytest.mark.parametrize(
    ("parts", "marks", "length"),
    [
        (((0.8, 1.8),), [0.4, 0.8], 1.0),
        (((0, 0.8), (1.4, 2.0)), [0.4, 1.0], 1.4),
        (((0.82, 1.8),), [0.38, 0.78], 0.98),
    ],
    ids=["both-ends", "two-parts", "inside-a-picture"],
)
def test_edit_lists_are_obeyed_and_kept(base, music, tmp_path, parts, marks, length):
    def cut(boxes):
        for number in (0, 1):
            set_edits(boxes, number, *parts)

    clip = edited(base, tmp_path / "cut.mp4", cut)
    info = probe(clip)
    assert info.duration == Fraction(str(length)) and info.fps == 25
    own = read_clip_sound(info, RATE)
    assert clicks(own, RATE) == pytest.approx(marks, abs=0.02)
    info, path, _ = finished(clip, music, own_sound=True, like=own)
    assert packets(path, "v:0", "-ignore_editlist", 1) == packets(base)
    result = probe(path)
    assert (result.duration, result.num_frames) == (info.duration, info.num_frames)
    for one, other in zip(iter_frames(info), iter_frames(result), strict=True):
        assert one.time_s == other.time_s and np.array_equal(one.pixels, other.pixels)
    moov = _index(path)
    scale, claimed = struct.unpack(">II", moov.one(b"mvhd").content[12:20])
    assert claimed / scale == pytest.approx(length, abs=0.001)
    assert clicks(read_clip_sound(result, RATE), RATE) == pytest.approx(marks, abs=0.02)
    assert [edit.media_start for edit in read_boxes(path).tracks[0].edits] == [start for _, start, _ in info.edits[0]]


def test_an_edit_list_that_changes_the_order_is_refused_with_the_true_reason(base, tmp_path):
    clip = edited(base, tmp_path / "back.mp4", lambda boxes: set_edits(boxes, 0, (1.0, 2.0), (0.0, 1.0)))
    with pytest.raises(ProbeError, match="its edit list shows parts of it again, in another order") as caught:
        probe(clip)
    assert caught.value.remedy == "Export it anew in the program that cut it."


def test_a_file_that_is_not_laid_out_as_expected_is_not_rewritten(base, tmp_path):
    fast = tmp_path / "fast.mp4"
    ffmpeg("-i", base, "-c", "copy", "-movflags", "faststart", fast)
    before = fast.read_bytes()
    with pytest.raises(BoxError):
        rewrite(fast, Changes())
    assert fast.read_bytes() == before


def test_places_of_samples_beyond_four_gigabytes_get_eight_bytes(base):
    moov = parse(base.read_bytes())[-1]
    place = (b"trak", b"mdia", b"minf", b"stbl")
    before = [struct.unpack(f">{len(b.content) // 4 - 2}I", b.content[8:]) for b in moov.all(*place, b"stco")]
    size = _move_chunks(moov, 1 << 32)
    assert size == len(bytes(moov)) and not moov.all(*place, b"stco")
    after = [struct.unpack(f">{len(b.content) // 8 - 1}Q", b.content[8:]) for b in moov.all(*place, b"co64")]
    assert after == [tuple(place + size for place in places) for places in before] != []


def test_no_message_names_a_temporary_file(base, music, tmp_path, monkeypatch):
    import expotion_cli.media.muxing as muxing

    monkeypatch.setattr(muxing.Job, "write", lambda job, temporary, *rest: temporary.write_bytes(b"nothing"))
    with pytest.raises(ExpotionError) as caught:
        finished(base, music)
    assert ".partial" not in str(caught.value) and "can't be read back" in caught.value.reason


def _index(path: Path) -> Box:

    (moov,) = [box for box in parse(path.read_bytes()) if box.kind == b"moov"]
    return moov
