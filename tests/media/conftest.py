"""Small clips of every troublesome kind, made on the fly."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from expotion_cli.media.ffmpeg import ffmpeg_exe

SAMPLE_RATE = 44_100
NTSC = "testsrc2=size=320x180:rate=30000/1001:duration=2.002"
H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "15", "-pix_fmt", "yuv420p"]
# bursts of harmonics with pauses of a second between them: what speech is to a level meter
SPEECH = (
    "aevalsrc='0.2*gt(mod(t,2),1)*(0.6+0.4*sin(2*PI*4*t))*(sin(2*PI*160*t)+0.6*sin(2*PI*480*t)+0.3*sin(2*PI*1900*t))'"
    ":duration=6:sample_rate=44100"
)
CHAPTERS = """;FFMETADATA1
title=A title
artist=An artist
[CHAPTER]
TIMEBASE=1/1000
START=0
END=1000
title=First
[CHAPTER]
TIMEBASE=1/1000
START=1000
END=2002
title=Second
"""
SUBTITLES = "1\n00:00:00,500 --> 00:00:01,500\nA line of text\n\n"


def ffmpeg(*arguments: object) -> str:
    """Run ffmpeg; returns its standard output."""
    command = [ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _with_sound(path: Path, *codecs: str, sound: str = "sine=frequency=440:duration=2.002") -> None:
    ffmpeg("-f", "lavfi", "-i", NTSC, "-f", "lavfi", "-i", sound, *codecs, path)


def _variable_rate(path: Path) -> None:
    """Ten frames of rising grey that stay on for 1/30 s and 1/4 s in turns."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 60)
        stream.codec_context.options = {"preset": "ultrafast"}
        pts = 0
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((120, 160, 3), 20 * number + 20, np.uint8), format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 60)
            pts += 2 if number % 2 == 0 else 15
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _rotated(path: Path, degrees: int, folder: Path) -> None:
    plain = folder / f"plain-for-{path.stem}.mp4"
    ffmpeg("-f", "lavfi", "-i", NTSC, *H264, plain)
    ffmpeg("-display_rotation", degrees, "-i", plain, "-c", "copy", path)


def _rich(path: Path, subtitle_codec: str, folder: Path) -> None:
    """Subtitles, chapters, tags and sound."""
    base, chapters, subtitles = folder / f"base-{path.name}.mp4", folder / "chapters.txt", folder / "lines.srt"
    _with_sound(base, *H264, "-c:a", "aac")
    chapters.write_text(CHAPTERS)
    subtitles.write_text(SUBTITLES)
    maps = ["-map", 0, "-map", 1, "-map_metadata", 2, "-map_chapters", 2]
    ffmpeg("-i", base, "-i", subtitles, "-i", chapters, *maps, "-c", "copy", "-c:s", subtitle_codec, path)


def _late(path: Path, folder: Path) -> None:
    """A transport stream: its clock doesn't begin at 0, and sound comes before the picture."""
    _with_sound(path, *H264, "-c:a", "aac", "-muxdelay", "1")


def _with_cover(path: Path, folder: Path) -> None:
    base, cover = folder / f"bare-{path.name}.mkv", folder / "cover.jpg"
    _with_sound(base, *H264, "-c:a", "aac")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x64", "-frames:v", 1, cover)
    if path.suffix == ".mkv":
        ffmpeg("-i", base, "-attach", cover, "-metadata:s:t", "mimetype=image/jpeg", "-c", "copy", path)
    else:
        ffmpeg("-i", base, "-i", cover, "-map", 0, "-map", 1, "-c", "copy", "-disposition:v:1", "attached_pic", path)


MAKERS: dict[str, Callable[[Path, Path], None]] = {
    "ntsc.mp4": lambda p, d: _with_sound(p, *H264, "-c:a", "aac"),
    "silent.mov": lambda p, d: ffmpeg("-f", "lavfi", "-i", NTSC, *H264, p),
    "variable.mp4": lambda p, d: _variable_rate(p),
    "short.mp4": lambda p, d: ffmpeg("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=30:duration=0.3", *H264, p),
    "ten-bit.mkv": lambda p, d: ffmpeg("-f", "lavfi", "-i", NTSC, *H264[:-1], "yuv420p10le", p),
    "turned-90.mp4": lambda p, d: _rotated(p, 90, d),
    "turned-180.mp4": lambda p, d: _rotated(p, 180, d),
    "turned-270.mov": lambda p, d: _rotated(p, 270, d),
    "rich.mkv": lambda p, d: _rich(p, "srt", d),
    "rich.mp4": lambda p, d: _rich(p, "mov_text", d),
    "small.webm": lambda p, d: _with_sound(
        p, "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"
    ),
    "old.avi": lambda p, d: _with_sound(p, "-c:v", "mpeg4", "-bf", "2", "-c:a", "mp3"),
    "reordered.avi": lambda p, d: _with_sound(p, *H264, "-c:a", "mp3"),
    "broadcast.ts": lambda p, d: _late(p, d),
    "wide-pixels.mp4": lambda p, d: ffmpeg("-f", "lavfi", "-i", NTSC + ",setsar=4/3", *H264, p),
    "speech.mp4": lambda p, d: ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=6", "-f", "lavfi", "-i", SPEECH, *H264, p
    ),
    "covered.mp4": _with_cover,
    "covered.mkv": _with_cover,
    "sound-only.mp4": lambda p, d: ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", p),
}


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`clip(name)` makes the clip of that name (see MAKERS) once."""
    folder = tmp_path_factory.mktemp("clips")

    def make(name: str) -> Path:
        path = folder / name
        if not path.exists():
            MAKERS[name](path, folder)
        return path

    return make


@pytest.fixture(scope="session")
def run_ffmpeg() -> Callable[..., str]:
    """ffmpeg itself, as a witness."""
    return ffmpeg


@pytest.fixture(scope="session")
def music() -> Callable[..., np.ndarray]:
    """`music(seconds, sample_rate)`: [2, n] float32, chords with a beat."""

    def make(seconds: float | Fraction, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
        count = int(Fraction(seconds) * sample_rate + Fraction(1, 2))
        t = np.arange(count) / sample_rate
        beat = np.exp(-8 * (t * 2 % 1))
        chord = sum(np.sin(2 * np.pi * pitch * t) for pitch in (220.0, 277.2, 329.6)) / 3
        noise = np.random.default_rng(3).normal(size=count)
        left = 0.3 * chord * (0.4 + 0.6 * beat) + 0.1 * noise * beat**4
        return np.stack([left, 0.8 * left]).astype(np.float32)

    return make
