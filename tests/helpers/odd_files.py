"""Small files as cameras, recorders, editors and strangers leave them, made with ffmpeg and edited box by box.

Picture: 96x64, 25 pictures a second, a white square in the corner for 0.08 s from each of `MARKS_S` on. Sound: a click
of 2 kHz at the same times.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np

from expotion_cli.media.boxes import Box, parse
from expotion_cli.media.ffmpeg import ffmpeg_exe

MARKS_S = (0.4, 1.2, 1.6)
_FLASH = "+".join(f"between(t,{mark},{mark + 0.07})" for mark in MARKS_S)
CLICKS = "0.6*sin(2*PI*2000*t)*(" + "+".join(f"between(t,{mark},{mark + 0.06})" for mark in MARKS_S) + ")"
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "32", "-threads", "1", "-pix_fmt", "yuv420p", "-bf", "2"]
AAC = ["-c:a", "aac", "-b:a", "64k"]


def ffmpeg(*arguments: object) -> None:
    """Run ffmpeg."""
    command = [ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def source(duration_s: float = 2.0, rate_hz: int = 25) -> list[object]:
    """ffmpeg's inputs: the picture and the sound."""
    flash = f"drawbox=0:0:16:16:white:fill:enable='{_FLASH}'"
    picture = f"testsrc2=size=96x64:rate={rate_hz}:duration={duration_s},drawbox=0:0:16:16:black:fill,{flash}"
    return ["-f", "lavfi", "-i", picture, *tone(CLICKS, duration_s)]


def tone(formula: str, duration_s: float = 2.0, sample_rate: int = 48_000) -> list[object]:
    """An input of ffmpeg: sound by a formula."""
    return ["-f", "lavfi", "-i", f"aevalsrc='{formula}':d={duration_s}:s={sample_rate}"]


def film(path: Path, *options: object, duration_s: float = 2.0, rate_hz: int = 25) -> Path:
    """An ordinary clip."""
    ffmpeg(*source(duration_s, rate_hz), *X264, "-g", 2 * rate_hz, *AAC, *options, path)
    return path


def still(folder: Path) -> Path:
    """A JPEG."""
    path = folder / "still.jpg"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48", "-frames:v", 1, "-pix_fmt", "yuvj420p", path)
    return path


def edited(path: Path, target: Path, edit: Callable[[list[Box]], object], after: bytes = b"") -> Path:
    """A file whose index lies at the end, with changes to its index, and bytes after it."""
    boxes = parse(path.read_bytes())
    assert boxes[-1].kind == b"moov", [box.kind for box in boxes]
    edit(boxes)
    target.write_bytes(b"".join(map(bytes, boxes)) + after)
    return target


def trak(boxes: Sequence[Box], number: int) -> Box:
    """The index of a track."""
    return boxes[-1].all(b"trak")[number]


def rename_entry(track: Box, kind: bytes) -> None:
    """Give a track's first sample entry another name."""
    stsd = track.one(b"mdia", b"minf", b"stbl", b"stsd")
    stsd.content = stsd.content[:12] + kind + stsd.content[16:]


def add_to_entry(track: Box, box: bytes) -> None:
    """Append a box to a track's first sample entry."""
    stsd = track.one(b"mdia", b"minf", b"stbl", b"stsd")
    size = struct.unpack(">I", stsd.content[8:12])[0]
    entry = stsd.content[12 : 8 + size] + box
    stsd.content = stsd.content[:8] + struct.pack(">I", 4 + len(entry)) + entry + stsd.content[8 + size :]


def set_edits(boxes: Sequence[Box], number: int, *parts: tuple[float, float]) -> None:
    """Give a track an edit list of (from, to) in seconds of the picture; what delays its first sample is added."""
    track = trak(boxes, number)
    (film_scale,) = struct.unpack(">I", boxes[-1].one(b"mvhd").content[12:16])
    (scale,) = struct.unpack(">I", track.one(b"mdia", b"mdhd").content[12:16])
    elst = track.one(b"edts", b"elst")
    (delay,) = struct.unpack(">i", elst.content[12:16])
    rows = b""
    for start, to in parts:
        rows += struct.pack(">Iii", round((to - start) * film_scale), round(start * scale) + delay, 1 << 16)
    elst.content = struct.pack(">II", 0, len(parts)) + rows


def packets(path: Path, stream: str = "v:0", *options: object) -> str:
    """A digest of a stream's packets, and of nothing else."""
    command = [ffmpeg_exe(), "-v", "error", *map(str, options), "-i", path, "-map", f"0:{stream}", "-c", "copy"]
    return subprocess.run([*command, "-f", "streamhash", "-"], check=True, capture_output=True, text=True).stdout


def said(path: Path) -> str:
    """What ffmpeg says of a file."""
    return subprocess.run([ffmpeg_exe(), "-hide_banner", "-i", path], capture_output=True, text=True).stderr


def flashes(path: Path) -> list[float]:
    """When the white square appears, in seconds, by ffmpeg's and PyAV's own reckoning."""
    found, was_white = [], False
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            is_white = frame.to_ndarray(format="gray")[2:10, 2:10].mean() > 150
            if is_white and not was_white:
                found.append(round(float(frame.time), 2))
            was_white = is_white
    return found


def clicks(sound: np.ndarray, sample_rate: int) -> list[float]:
    """When 2 kHz begins in [2, n], in seconds."""
    hop = sample_rate // 100
    blocks = sound[0, : sound.shape[1] // hop * hop].reshape(-1, hop)
    level = np.abs(blocks @ np.exp(-2j * np.pi * 2000 * np.arange(hop) / sample_rate))
    heard = np.flatnonzero(level > 0.4 * level.max())
    return [round(hop_number / 100, 2) for n, hop_number in enumerate(heard) if not n or hop_number - heard[n - 1] > 10]
