"""What is known of a clip, as plain data: no decoder is needed to hold it, compare it or plan with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from expotion_cli.errors import UsageError
from expotion_cli.recipe import AUTO_CODEC


@dataclass(frozen=True)
class Tracks:
    """Which of a clip's tracks the user chose, counted from 1 among those of their kind; covers don't count.

    Attributes:
        video: the picture; None leaves the choice to `media.tracks`.
        audio: the clip's own sound; several are mixed, none leaves the choice to `media.tracks`.
    """

    video: int | None = None
    audio: tuple[int, ...] = ()


AUTO_TRACKS = Tracks()
"""Nothing is chosen by the user."""


@dataclass(frozen=True)
class AudioInfo:
    """A clip's own sound: the track that players would play, or the mono tracks of one recording.

    Attributes:
        codec: libavcodec's name for the codec.
        sample_rate: in Hz.
        channels: how many.
        start: seconds by which it begins after the picture (negative: before); an encoder's priming doesn't count.
        duration: seconds of sound in its packets.
        index: stream index of its first track.
        indices: stream indices of all tracks that are mixed.
        language: three letters, or "".
        title: what the track is called, or "".
    """

    codec: str
    sample_rate: int
    channels: int
    start: Fraction
    duration: Fraction
    index: int
    indices: tuple[int, ...]
    language: str = ""
    title: str = ""


@dataclass(frozen=True)
class Track:
    """One stream of a clip's file.

    Attributes:
        index: its stream index.
        kind: "video", "audio", "subtitle", "data" or "attachment".
        codec: libavcodec's name for the codec; "unknown" where it has none.
        tag: the container's four letters for it, of all tracks of an MP4 or MOV, else of pictures; "" if unknown.
        language: three letters, or "".
        title: what it is called, or "".
        is_cover: whether it is a cover image.
        is_decodable: whether something of it could be decoded.
        size: width and height in pixels as stored; (0, 0) where there is no picture.
    """

    index: int
    kind: str
    codec: str
    tag: str = ""
    language: str = ""
    title: str = ""
    is_cover: bool = False
    is_decodable: bool = False
    size: tuple[int, int] = (0, 0)


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
        audio: its own sound as far as it can be decoded, or None.
        num_chapters: how many chapters the file lists.
        num_frames: frames in the file that are shown.
        start: the first picture's time stamp in seconds, on the container's clock.
        demuxer: which of `ffmpeg.DEMUXERS` reads it.
        video_index: the picture's stream index.
        tracks: all streams of the file, in its order.
        tags: the container's metadata.
        chosen: what the user chose.
        notes: what a user should know of the picture: which of several it is.
        sound_notes: likewise of the clip's own sound, for those who keep it.
        begins_late: whether the file begins with packets of pictures that can't be shown.
        edits: of an MP4 or MOV whose edit list trims or joins: parts of the picture and of the clip's own sound, by
            stream index (`media.edits.Part`).
        timecode: of the first frame, as the file states it: "01:00:00:00", or "01:00:00;00" where it drops numbers; ""
            where it has none.
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
    num_chapters: int
    num_frames: int
    start: Fraction
    demuxer: str
    video_index: int
    tracks: tuple[Track, ...]
    tags: dict[str, str]
    chosen: Tracks = AUTO_TRACKS
    notes: tuple[str, ...] = ()
    sound_notes: tuple[str, ...] = ()
    begins_late: bool = False
    edits: dict[int, tuple[tuple[Fraction, Fraction, Fraction], ...]] = field(default_factory=dict)
    timecode: str = ""

    @property
    def picture(self) -> dict[str, Any]:
        """What of the file is shown, where that isn't simply its first picture: part of the digests of what is seen."""
        first = next(track.index for track in self.tracks if track.kind == "video" and not track.is_cover)
        found: dict[str, Any] = {"track": self.video_index} if self.video_index != first else {}
        if self.begins_late:
            found["start"] = str(self.start)
        if self.edits:
            found["edits"] = [[str(time) for time in part] for part in self.edits[self.video_index]]
        return found

    @property
    def has_sound(self) -> bool:
        """Whether there is a sound track, be it decodable or not."""
        return any(track.kind == "audio" for track in self.tracks)

    @property
    def has_subtitles(self) -> bool:
        """Whether there is a subtitle track."""
        return any(track.kind == "subtitle" for track in self.tracks)

    @property
    def covers(self) -> tuple[Track, ...]:
        """Its cover images."""
        return tuple(track for track in self.tracks if track.is_cover)


PROBE_VERSION = 3
"""Raised when the same file comes to be described otherwise; remembered descriptions are then passed over."""

MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""ffmpeg's name for the container of a result, by its suffix."""
SUFFIXES = {"mp4": (".mp4", ".m4v", ".mov"), "mov": (".mov",), "mkv": (".mkv",), "webm": (".webm", ".mkv")}
LONGEST_S = 2 * 3600
"""Clips that last longer are refused unless the user allows it: the sound of two hours takes about 8 GB of memory."""
MP4_PICTURES = {"h264", "hevc", "av1", "mpeg4"}
"""Kinds of pictures that play everywhere in MP4."""
MP4_HOLDS = set("apv av1 dirac ffv1 h264 hevc jpeg2000 mjpeg mpeg1video mpeg2video mpeg4 png tscc2 vc1 vp9 vvc".split())
"""Kinds of pictures that ffmpeg can copy into MP4; phones and cameras also put others there, which MOV takes."""
AUDIO_CODECS = {"mp4": ("aac",), "mov": ("aac",), "matroska": ("aac", "flac", "opus"), "webm": ("opus",)}
"""Codecs of the finished sound, by ffmpeg's name for the container; the first is the usual one."""


def output_suffix(info: ClipInfo) -> str:
    """The suffix of the scored video: the clip's own where its container takes a copied picture and the new sound.

    Others become MP4 if the picture is of a kind that plays everywhere in MP4 and no subtitles would be lost, else MKV.
    """
    own = info.path.suffix.lower()
    if info.container == "mp4" and info.video_codec not in MP4_HOLDS:
        return ".mov"
    if info.container in SUFFIXES:
        return own if own in SUFFIXES[info.container] else SUFFIXES[info.container][0]
    return ".mp4" if info.video_codec in MP4_PICTURES and not info.has_subtitles else ".mkv"


def check_codec(info: ClipInfo, audio_codec: str) -> None:
    """Refuse a codec that the result's container can't hold, before anything is composed for it.

    Args:
        info: the clip.
        audio_codec: of the recipe; `recipe.AUTO_CODEC` always fits.

    Raises:
        UsageError: naming the codecs that fit.
    """
    suffix = output_suffix(info)
    fitting = AUDIO_CODECS[MUXERS[suffix]]
    if audio_codec not in (*fitting, AUTO_CODEC):
        remedy = f"Use --audio-codec {' or '.join(fitting)}, or auto."
        raise UsageError(f"{audio_codec} sound doesn't go into {suffix}.", path=info.path, remedy=remedy)


def clip_record(info: ClipInfo) -> dict[str, Any]:
    """A description as plain JSON values, without the clip's path; `clip_from` reads it back."""
    return {"version": PROBE_VERSION, **_plain({k: v for k, v in vars(info).items() if k != "path"})}


def clip_from(record: Mapping[str, Any], path: Path) -> ClipInfo | None:
    """The description that was remembered of the clip at this path; None for a record of another version."""
    try:
        if record["version"] != PROBE_VERSION:
            return None
        found: ClipInfo = _typed(ClipInfo, {**record, "path": path})
        return found
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, Fraction):
        return str(value)
    if is_dataclass(value):
        return _plain(vars(value))
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value


def _typed(kind: Any, value: Any) -> Any:
    """A plain value as the annotated kind."""
    kinds = get_args(kind)
    if type(None) in kinds:
        return None if value is None else _typed(kinds[0], value)
    if get_origin(kind) is tuple:
        return tuple(_typed(kinds[0], inner) for inner in value)
    if get_origin(kind) is dict:
        return {_typed(kinds[0], key): _typed(kinds[1], inner) for key, inner in value.items()}
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return kind(**{field.name: _typed(hints[field.name], value[field.name]) for field in fields(kind)})
    return kind(value) if kind in (Fraction, int) else value
