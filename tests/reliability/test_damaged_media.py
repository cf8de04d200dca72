"""Damaged files, and files that refer to others: read or refused in words, never a crash, a hang or a leak."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from odd_files import edited, ffmpeg, film, trak

from expotion_cli.errors import ProbeError
from expotion_cli.media.decode import iter_frames
from expotion_cli.media.ffmpeg import DEMUXERS
from expotion_cli.media.probe import probe
from expotion_cli.media.sound import SOUND_DEMUXERS, read_sound

REPOSITORY = Path(__file__).resolve().parents[2]
FOLLOWS_REFERENCES = {"concat", "hls", "applehttp", "dash", "sdp", "rtsp", "rtp", "imf", "webm_dash_manifest", "image2",
                      "lavfi", "tee", "bluray", "dvdvideo", "vapoursynth", "avisynth", "ffmetadata", "mlv"}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    return film(folder / "base.mp4", "-an", "-g", 5, "-movflags", "+frag_keyframe+empty_moov", duration_s=1)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return film(tmp_path_factory.mktemp("plain") / "plain.mp4", duration_s=1)


def test_mutated_files_of_all_kinds_are_read_or_refused(tmp_path):
    report = tmp_path / "fuzz_media.json"
    fuzzer = [sys.executable, REPOSITORY / "benchmarks" / "fuzz_media.py", "--results", report.parent]
    done = subprocess.run([*fuzzer, "--files", "63", "--seed", "11"], capture_output=True, text=True, cwd=tmp_path)
    found = json.loads(report.read_text())
    assert done.returncode == 0 and not found["bad"], found["bad"]
    assert found["read"] + found["refused"] == 63 and min(found["read"], found["refused"]) > 5


def test_the_fuzzer_counts_what_is_neither_read_nor_refused(tmp_path):
    broken = tmp_path / "sitecustomize.py"
    broken.write_text(
        "import os, sys\n"
        "if '--child' in sys.argv:\n"
        "    import expotion_cli.media.decode as decode\n"
        "    def frames(info, **options):\n"
        "        if '00003' in info.path.name: os._exit(7)\n"
        "        if '00006' in info.path.name: raise ZeroDivisionError('nothing')\n"
        "        return iter(())\n"
        "    decode.iter_frames = frames\n"
    )
    report = tmp_path / "fuzz_media.json"
    command = [sys.executable, REPOSITORY / "benchmarks" / "fuzz_media.py", "--files", "9", "--seed", "11"]
    paths = f"{tmp_path}:{REPOSITORY}"
    done = subprocess.run([*command, "--results", report.parent], env={"PATH": "/usr/bin:/bin", "PYTHONPATH": paths})
    found = json.loads(report.read_text())
    assert done.returncode == 1 and (found["crash"], found["wrong error"]) == (1, 1), found


def test_a_length_that_nothing_fills_is_refused(base, tmp_path):
    content = bytearray(base.read_bytes())
    last = content.rindex(b"tfdt")  # when the last fragment comes
    content[last + 8 : last + 16] = (0x7FFFFFFF).to_bytes(8, "big")
    (tmp_path / "hours.mp4").write_bytes(content)
    with pytest.raises(ProbeError, match="time stamps jump by .* hours, with neither picture nor sound"):
        probe(tmp_path / "hours.mp4")


def test_sound_vouches_for_a_picture_that_stays(tmp_path):
    lecture, silent = tmp_path / "lecture.mkv", tmp_path / "silent.mkv"
    picture = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=1/150:duration=450"]
    sound = ["-f", "lavfi", "-i", "sine=300:sample_rate=8000:duration=450"]
    ffmpeg(*picture, *sound, "-c:v", "libx264", "-c:a", "flac", lecture)
    ffmpeg("-i", lecture, "-map", "0:v", "-c", "copy", silent)
    assert probe(lecture).duration == 450
    with pytest.raises(ProbeError, match="time stamps jump by"):
        probe(silent)


@pytest.mark.parametrize("place", range(0, 96, 4))
def test_absurd_numbers_in_headers_never_raise_other_errors(plain, tmp_path, place):
    def spoil(number):
        def edit(boxes):
            for box in (boxes[-1].one(b"mvhd"), trak(boxes, 0).one(b"tkhd"), trak(boxes, 0).one(b"mdia", b"mdhd")):
                if place + 4 <= len(box.content):
                    box.content = box.content[:place] + number.to_bytes(4, "big") + box.content[place + 4 :]

        return edit

    for number in (0, 0xFFFFFFFF, 0x80000000):
        path = edited(plain, tmp_path / "absurd.mp4", spoil(number))
        try:
            list(iter_frames(probe(path), max_side=16))
        except ProbeError as error:
            assert error.path == path and error.remedy


def test_no_demuxer_that_follows_references_is_allowed():
    assert not FOLLOWS_REFERENCES & set(SOUND_DEMUXERS) and set(DEMUXERS) <= set(SOUND_DEMUXERS)


@pytest.mark.parametrize("kind", ["concat", "hls", "dash", "sdp"])
def test_playlists_reach_no_other_file_whatever_they_are_called(plain, tmp_path, kind):
    dash = f'<Representation id="1" bandwidth="1"><BaseURL>{plain}</BaseURL></Representation>'
    texts = {
        "concat": f"ffconcat version 1.0\nfile '{plain}'\n",
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{plain}\n#EXT-X-ENDLIST\n",
        "dash": '<?xml version="1.0"?><MPD type="static" mediaPresentationDuration="PT1S"><Period><AdaptationSet>'
        f"{dash}</AdaptationSet></Period></MPD>",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
    }
    path = tmp_path / "holiday.mp4"
    path.write_text(texts[kind])
    with pytest.raises(ProbeError, match="isn't a readable video file"):
        probe(path)
    with pytest.raises(Exception, match="can't be read"):
        read_sound(path, 16_000)


def test_every_open_of_a_file_keeps_to_the_list():
    opened = []
    for path in sorted((REPOSITORY / "expotion_cli").rglob("*.py")):
        opened += [(path, line) for line in path.read_text().splitlines() if "av.open(" in line]
    ways = ("open_options()", "options=options", '"w"', "io.BytesIO(")  # our own files, and memory
    loose = [f"{path.name}: {line.strip()}" for path, line in opened if not any(way in line for way in ways)]
    assert len(opened) >= 5 and not loose, loose
