"""What a clip is, found out from its content."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType

from expotion_cli.errors import ProbeError, reason_of
from expotion_cli.media.boxes import BoxError, Boxes, read_boxes
from expotion_cli.media.clip import AUTO_TRACKS, AudioInfo, ClipInfo, Track, Tracks
from expotion_cli.media.edits import EXPORT, length_of, parts_of, shown
from expotion_cli.media.ffmpeg import DEMUXERS, file_url, open_options
from expotion_cli.media.tracks import choose, codec_name, describe, refuse_without_picture
from expotion_cli.media.walk import CUT_OFF, Span, frame_time, rate_of, refuse_empty_time, refuse_truncated, walk
from expotion_cli.timeline.timecode import TIMECODE

HEAD_BYTES = 4096
STILL_BRANDS = {"avif", "heic", "heix", "mif1"}
WEBM_CODECS = {"vp8", "vp9", "av1"}
JOINED_LATE = {"mpegts", "mpeg", "flv", "asf"}  # broadcasts: a recording may begin between two key pictures
NOT_A_VIDEO = "Give a video file (MP4, MOV, MKV, WebM, AVI, MPEG, FLV, WMV, OGG, MXF)."
MOST_PIXELS = 1 << 27  # 16,384 x 8,192, of a 360-degree camera
PROTECTED_TAGS = {"drmi", "drms", "encv", "enca"}


@dataclass(frozen=True)
class Orientation:
    """How a stored frame is turned and mirrored to stand upright (multiples of 90 degrees)."""

    transposed: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Orientation:
        """Read the display matrix that came with a decoded frame."""
        matrix = _display_matrix(frame)
        if matrix is None:
            return cls()
        (a, b), (c, d) = matrix[0][:2], matrix[1][:2]  # stored (p, q) is shown at (a p + c q, b p + d q)
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    @property
    def rotation(self) -> int:
        """Degrees clockwise; of a mirrored frame, the turn of its upper edge."""
        if self.transposed:
            return 270 if self.flip_y else 90
        return 180 if self.flip_x else 0

    def turned(self, size: tuple[int, int]) -> tuple[int, int]:
        """Upright size of a stored one, and the other way round."""
        return size[::-1] if self.transposed else size

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """Turn a stored frame [h, w, ...] upright; the result is contiguous."""
        if self.transposed:
            picture = picture.swapaxes(0, 1)
        if self.flip_x:
            picture = picture[:, ::-1]
        if self.flip_y:
            picture = picture[::-1]
        return np.ascontiguousarray(picture)


def stored_size(frame: av.VideoFrame, stream: av.video.stream.VideoStream) -> tuple[int, int]:
    """Width and height of a stored frame once its pixels are made square."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if aspect <= 0 or aspect == 1:
        return frame.width, frame.height
    return max(1, round(frame.width * aspect)), frame.height


@contextmanager
def open_container(path: str | Path, *, without_edits: bool = False) -> Iterator[av.container.InputContainer]:
    """Open a file with libavformat under the rules of `media.ffmpeg`.

    Args:
        path: the file.
        without_edits: pass edit lists over (`media.edits`).

    Raises:
        ProbeError: there is no such file, it is empty, or it is not a video container.
    """
    path = Path(path)
    head = _read_head(path)
    options = open_options() | ({"ignore_editlist": "1"} if without_edits else {})
    try:
        container = av.open(file_url(path), options=options, metadata_errors="replace")
    except (av.error.FFmpegError, UnicodeError) as error:
        raise _why_it_did_not_open(path, head, error) from error
    try:
        yield container
    finally:
        container.close()


def picture_of(container: av.container.InputContainer, info: ClipInfo) -> av.VideoStream:
    """The stream of the clip's picture in its file, opened again.

    Raises:
        ProbeError: the file has changed since it was probed.
    """
    stream = container.streams[info.video_index] if info.video_index < len(container.streams) else None
    if not isinstance(stream, av.VideoStream) or stream.codec_context is None:
        raise ProbeError("it changed while it was being scored.", path=info.path, remedy="Score it again.")
    if not stream.codec_context.is_open:
        stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
    return stream


def probe(path: str | Path, tracks: Tracks = AUTO_TRACKS) -> ClipInfo:
    """Read a clip's properties, walk through all its packets and decode its first frame.

    >>> import expotion_cli as expotion
    >>> clip = expotion.probe("clip.mp4")
    >>> float(clip.duration), float(clip.fps)
    (2.0, 25.0)

    Args:
        path: any file.
        tracks: which picture and sound to take, where the file holds several.

    Raises:
        ProbeError: it is not a video, has no picture or no duration, can't be decoded, is cut off, or claims what
            can't be.
    """
    path = Path(path)
    try:
        with open_container(path) as container:
            return _probed(container, path, tracks)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, MemoryError) as error:
        # what a damaged file can make libavformat say has no end
        reason = f"its content contradicts itself ({reason_of(error)})."
        raise ProbeError(reason, path=path, remedy=CUT_OFF) from error


def _probed(container: av.container.InputContainer, path: Path, wanted: Tracks) -> ClipInfo:
    if container.metadata.get("major_brand", "").strip() in STILL_BRANDS:
        raise ProbeError("it is a still image.", path=path, remedy=NOT_A_VIDEO)
    boxes = _boxes(container, path)
    for video in container.streams.video:
        _prepare(video, path)
    untimed = has_no_display_times(container)
    spans = walk(container, path, by_decoding=untimed)
    tags = [track.tag for track in boxes.tracks] if boxes is not None else []
    tags += [""] * (len(container.streams) - len(tags))
    tracks = tuple(describe(s, spans.get(s.index), tag) for s, tag in zip(container.streams, tags, strict=False))
    refuse_without_picture(tracks, path, remedy=NOT_A_VIDEO)
    _refuse_protected(tracks, boxes, path)
    chosen = choose(container, tracks, spans, wanted, path)
    stream, picture = container.streams[chosen.index], spans[chosen.index]
    assert isinstance(stream, av.VideoStream) and isinstance(picture.frame, av.VideoFrame)
    first = frame_time(picture.frame)
    begins_late = demuxer_of(container) in JOINED_LATE and first is not None and first > picture.start
    if begins_late and first is not None:
        picture.begin_at(first)
    fps = rate_of(stream, picture)
    picture.close(1 / fps)
    if picture.duration <= 0:
        raise ProbeError("its picture has no length.", path=path, remedy=NOT_A_VIDEO)
    refuse_empty_time(picture, [span for index, span in spans.items() if tracks[index].kind == "audio"], path)
    refuse_truncated(container, spans, path, by_decoding=untimed)
    orientation = Orientation.of(picture.frame)
    width, height = orientation.turned(stored_size(picture.frame, stream))
    edits = parts_of(boxes, chosen.index, chosen.sounds, spans, path) if boxes is not None else {}
    info = ClipInfo(
        path=path,
        duration=picture.duration,
        fps=fps,
        width=width,
        height=height,
        rotation=orientation.rotation,
        container=_container_name(container, stream, path),
        video_codec=codec_name(stream),
        audio=_audio_info(container, tracks, spans, chosen.sounds, picture.start),
        num_chapters=len(container.chapters()),
        num_frames=picture.count,
        start=picture.start,
        demuxer=demuxer_of(container),
        video_index=stream.index,
        tracks=tracks,
        tags=clean_tags(container.metadata),
        chosen=wanted,
        notes=chosen.notes,
        sound_notes=chosen.sound_notes,
        begins_late=begins_late,
        edits=edits,
        timecode=_timecode(container, stream),
    )
    return _edited(info) if edits else info


def _timecode(container: av.container.InputContainer, picture: av.VideoStream) -> str:
    """The timecode of the first frame: the picture's, of a timecode track, or the file's."""
    others = [stream for stream in container.streams if stream.type == "data"]
    stated = [tags.get("timecode", tags.get("TIMECODE", "")) for tags in
              (picture.metadata, *(stream.metadata for stream in others), container.metadata)]  # fmt: skip
    return next((text.strip() for text in stated if TIMECODE.fullmatch(text.strip())), "")


def _edited(info: ClipInfo) -> ClipInfo:
    """A description under its edit list."""
    parts = info.edits[info.video_index]
    with open_container(info.path, without_edits=True) as container:
        spans = walk(container, info.path, by_decoding=False)
        times = spans[info.video_index].times
        fps = rate_of(picture_of(container, info), spans[info.video_index])
    count = sum(1 for _ in shown(((time, None) for time in times), parts))
    if not count:
        raise ProbeError("its edit list shows nothing of the picture.", path=info.path, remedy=EXPORT)
    audio = info.audio
    if audio is not None:
        heard = info.edits[audio.index]
        audio = replace(audio, start=heard[0][0], duration=length_of(heard))
    return replace(info, duration=length_of(parts), fps=fps, num_frames=count, start=Fraction(0), audio=audio)


def clean_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """A file's tags without what says the same twice.

    A key that stands in both kinds of MP4 metadata is read as "value;value"; a date like that is no date.
    """
    cleaned = {}
    for key, value in tags.items():
        parts = value.split(";")
        twice = len(parts) > 1 and (len(set(parts)) == 1 or key.lower() in ("creation_time", "date"))
        cleaned[key] = parts[0] if twice else value
    return cleaned


def has_no_display_times(container: av.container.InputContainer) -> bool:
    """Whether the container knows only when to decode a frame (AVI); what libavformat guesses from it is wrong."""
    return demuxer_of(container) == "avi"


def _prepare(stream: av.VideoStream, path: Path) -> None:
    """Bound what decoding may allocate."""
    context = stream.codec_context
    if context is None:
        return
    if context.width * context.height > MOST_PIXELS:
        reason = f"its picture of {context.width:,} x {context.height:,} pixels is too large."
        raise ProbeError(reason, path=path, remedy="Scale it down first.")
    context.options = {"max_pixels": str(MOST_PIXELS)}


def _boxes(container: av.container.InputContainer, path: Path) -> Boxes | None:
    if demuxer_of(container) != "mov":
        return None
    try:
        found = read_boxes(path)
    except (BoxError, OSError):
        return None  # libavformat made sense of it; what only boxes tell is unknown
    # streams and boxes are told apart by their numbers
    return found if len(found.tracks) == len(container.streams) else None


def _refuse_protected(tracks: Sequence[Track], boxes: Boxes | None, path: Path) -> None:
    pictures = [track for track in tracks if track.kind == "video" and not track.is_cover]
    if pictures and all(track.tag in PROTECTED_TAGS for track in pictures):
        raise ProbeError("it is protected (DRM).", path=path, remedy="Use a copy without protection.")
    if boxes is not None and all(boxes.tracks[track.index].is_elsewhere for track in pictures):
        reason = "its picture lies in another file, to which it only refers."
        raise ProbeError(reason, path=path, remedy="Export it as one self-contained file.")


def _audio_info(
    container: av.container.InputContainer,
    tracks: Sequence[Track],
    spans: dict[int, Span],
    indices: Sequence[int],
    picture_start: Fraction,
) -> AudioInfo | None:
    for index in indices:
        stream, span = container.streams[index], spans[index]
        assert isinstance(stream, av.AudioStream)
        context = stream.codec_context
        if span.frame is None or not context.sample_rate:
            continue
        first = frame_time(span.frame)
        start = span.start if first is None else first
        return AudioInfo(
            codec=codec_name(stream),
            sample_rate=context.sample_rate,
            channels=context.channels,
            start=start - picture_start,
            duration=span.end - start,
            index=index,
            indices=tuple(indices),
            language=tracks[index].language,
            title=tracks[index].title,
        )
    return None


def demuxer_of(container: av.container.InputContainer) -> str:
    """Which of `ffmpeg.DEMUXERS` reads this container."""
    names = container.format.name.split(",")
    return next(name for name in DEMUXERS if name in names)


def _container_name(container: av.container.InputContainer, stream: av.video.stream.VideoStream, path: Path) -> str:
    demuxer = demuxer_of(container)
    if demuxer == "mov":
        return "mov" if container.metadata.get("major_brand", "qt").strip() == "qt" else "mp4"
    if demuxer == "matroska":
        # both share a demuxer, so only the head's DocType tells them apart
        return "webm" if b"webm" in _read_head(path)[:128] and codec_name(stream) in WEBM_CODECS else "mkv"
    return demuxer


def _display_matrix(frame: av.VideoFrame) -> np.ndarray | None:
    found: Any = frame.side_data  # PyAV's stubs know motion vectors alone
    data = found.get(SideDataType.DISPLAYMATRIX)
    return None if data is None else np.frombuffer(bytes(data), dtype=np.int32).reshape(3, 3).astype(float)


def _read_head(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        raise ProbeError("there is no such file.", path=path, remedy="Check the path.") from error
    except IsADirectoryError as error:
        raise ProbeError("it is a folder, not a clip.", path=path, remedy="Give the files in it.") from error
    except OSError as error:
        reason = f"it can't be opened ({error.strerror})."
        raise ProbeError(reason, path=path, remedy="Check its permissions.") from error
    if not head:
        raise ProbeError("the file is empty.", path=path, remedy=CUT_OFF)
    return head


def _why_it_did_not_open(path: Path, head: bytes, error: Exception) -> ProbeError:
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide") and isinstance(error, av.error.InvalidDataError):
        reason = "its index (moov) is missing: it is cut off or was never finished."
        return ProbeError(reason, path=path, remedy=CUT_OFF)
    if head.startswith((b"\x1aE\xdf\xa3", b"RIFF")):
        return ProbeError(
            "its first bytes are those of a video, but the rest can't be read.", path=path, remedy=CUT_OFF
        )
    reason = "this isn't a readable video file."
    return ProbeError(reason, path=path, remedy=NOT_A_VIDEO)
