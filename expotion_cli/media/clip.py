"""What is known of a clip, as plain data: no decoder is needed to hold it, compare it or plan with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class AudioInfo:
    """A clip's first sound track.

    Attributes:
        codec: libavcodec's name for the codec.
        sample_rate: in Hz.
        channels: how many.
        start: seconds by which it begins after the picture (negative: before); an encoder's priming doesn't count.
        duration: seconds of sound in its packets.
        index: its stream index.
    """

    codec: str
    sample_rate: int
    channels: int
    start: Fraction
    duration: Fraction
    index: int


@dataclass(frozen=True)
class ClipInfo:
    """A clip that can be scored.

    Attributes:
        path: the file.
        duration: seconds from the first picture's appearance to the last one's end.
        fps: frames a second; the mean where the rate varies.
        width: of the upright frame in square pixels.
        height: of the upright frame in square pixels.
        rotation: degrees clockwise by which the stored frame is turned for showing: 0, 90, 180 or 270.
        container: "mp4", "mov", "mkv", "webm", or the demuxer's name for others ("avi", "mpegts", ...).
        video_codec: libavcodec's name for the codec.
        audio: the first sound track, or None.
        has_subtitles: whether there is a subtitle track.
        num_chapters: how many chapters the file lists.
        num_frames: frames in the file.
        start: the first picture's time stamp in seconds, on the container's clock.
        demuxer: which of `ffmpeg.DEMUXERS` reads it.
        video_index: the picture's stream index.
        cover_indices: stream indices of cover images.
        subtitle_codecs: libavcodec's name for the codec of each subtitle track.
        tags: the container's metadata.
    """

    path: Path
    duration: Fraction
    fps: Fraction
    width: int
    height: int
    rotation: int
    container: str
    video_codec: str
    audio: AudioInfo | None
    has_subtitles: bool
    num_chapters: int
    num_frames: int
    start: Fraction
    demuxer: str
    video_index: int
    cover_indices: tuple[int, ...]
    subtitle_codecs: tuple[str, ...]
    tags: dict[str, str]


PROBE_VERSION = 1
"""Raised when the same file comes to be described otherwise; remembered descriptions are then passed over."""

SUFFIXES = {"mp4": (".mp4", ".m4v", ".mov"), "mov": (".mov",), "mkv": (".mkv",), "webm": (".webm", ".mkv")}
MP4_PICTURES = {"h264", "hevc", "av1", "mpeg4"}


def output_suffix(info: ClipInfo) -> str:
    """The suffix of the scored video: the clip's own where its container takes a copied picture and the new sound.

    Others become MP4 if the picture is of a kind that plays everywhere in MP4 and no subtitles would be lost, else MKV.
    """
    own = info.path.suffix.lower()
    if info.container in SUFFIXES:
        return own if own in SUFFIXES[info.container] else SUFFIXES[info.container][0]
    return ".mp4" if info.video_codec in MP4_PICTURES and not info.has_subtitles else ".mkv"


def clip_record(info: ClipInfo) -> dict[str, Any]:
    """A description as plain JSON values, without the clip's path; `clip_from` reads it back."""
    values = {name: _plain(value) for name, value in vars(info).items() if name not in ("path", "audio")}
    sound = None if info.audio is None else {name: _plain(value) for name, value in vars(info.audio).items()}
    return {"version": PROBE_VERSION, **values, "audio": sound}


def clip_from(record: Mapping[str, Any], path: Path) -> ClipInfo | None:
    """The description that was remembered of the clip at this path; None for a record of another version."""
    try:
        if record["version"] != PROBE_VERSION:
            return None
        values = {
            field.name: _typed(field.type, record[field.name]) for field in fields(ClipInfo) if field.name != "path"
        }
        if (sound := values["audio"]) is not None:
            values["audio"] = AudioInfo(
                **{field.name: _typed(field.type, sound[field.name]) for field in fields(AudioInfo)}
            )
        return ClipInfo(path=path, **values)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, Fraction):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _typed(kind: Any, value: Any) -> Any:
    if kind == "Fraction":
        return Fraction(value)
    return tuple(value) if str(kind).startswith("tuple") else value
