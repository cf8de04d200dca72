"""What a clip is, found out from its content."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType

from expotion_cli.errors import ProbeError
from expotion_cli.media.clip import AudioInfo, ClipInfo
from expotion_cli.media.ffmpeg import DEMUXERS, file_url, open_options

HEAD_BYTES = 4096
STILL_BRANDS = {"avif", "heic", "heix", "mif1"}
WEBM_CODECS = {"vp8", "vp9", "av1"}
TRUNCATION_SLACK = Fraction(1, 4)  # seconds by which headers may promise more than the packets hold
DAMAGE_SLACK = Fraction(1, 100)  # ... and when packets are damaged too
RATE_SLACK = Fraction(1, 1000)  # a mean rate this close to the nominal one is the nominal one

NOT_A_VIDEO = "Give a video file (MP4, MOV, MKV, WebM, AVI, MPEG, FLV, WMV, OGG, MXF)."
CUT_OFF = "Copy or download it again, or repair it first."


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


def codec_name(stream: av.stream.Stream) -> str:
    """The codec's own name, whichever decoder serves it; "unknown" where none does."""
    return stream.codec_context.codec.canonical_name if stream.codec_context is not None else "unknown"


def stored_size(frame: av.VideoFrame, stream: av.video.stream.VideoStream) -> tuple[int, int]:
    """Width and height of a stored frame once its pixels are made square."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if aspect <= 0 or aspect == 1:
        return frame.width, frame.height
    return max(1, round(frame.width * aspect)), frame.height


@contextmanager
def open_container(path: str | Path) -> Iterator[av.container.InputContainer]:
    """Open a file with libavformat under the rules of `media.ffmpeg`.

    Raises:
        ProbeError: there is no such file, it is empty, or it is not a video container.
    """
    path = Path(path)
    head = _read_head(path)
    try:
        container = av.open(file_url(path), options=open_options(), metadata_errors="replace")
    except (av.error.FFmpegError, UnicodeError) as error:
        raise _why_it_did_not_open(path, head, error) from error
    try:
        yield container
    finally:
        container.close()


def video_stream(container: av.container.InputContainer, path: str | Path) -> av.video.stream.VideoStream:
    """The first video stream that is not a cover image.

    Raises:
        ProbeError: there is none.
    """
    for stream in container.streams.video:
        if not _is_cover(stream) and stream.codec_context is not None:
            return stream
    what = "it holds sound but no picture." if container.streams.audio else "it holds no picture."
    raise ProbeError(what, path=path, remedy=NOT_A_VIDEO)


def probe(path: str | Path) -> ClipInfo:
    """Read a clip's properties, walk through all its packets and decode its first frame.

    >>> import expotion_cli as expotion
    >>> clip = expotion.probe("clip.mp4")
    >>> float(clip.duration), float(clip.fps)
    (2.0, 25.0)

    Args:
        path: any file.

    Raises:
        ProbeError: it is not a video, has no picture or no duration, can't be decoded or is cut off.
    """
    path = Path(path)
    with open_container(path) as container:
        stream = video_stream(container, path)
        if container.metadata.get("major_brand", "").strip() in STILL_BRANDS:
            raise ProbeError("it is a still image.", path=path, remedy=NOT_A_VIDEO)
        spans, frames = _walk(container, path)
        picture, frame = spans[stream.index], frames.get(stream.index)
        if not isinstance(frame, av.VideoFrame):
            reason = f"its picture ({codec_name(stream)}) can't be decoded."
            raise ProbeError(reason, path=path, remedy="Convert or repair it first.")
        fps = _rate(stream, picture)
        picture.close(Fraction(1) / fps)
        if picture.duration <= 0:
            raise ProbeError("its picture has no length.", path=path, remedy=NOT_A_VIDEO)
        _refuse_truncated(container, spans, path)
        orientation = Orientation.of(frame)
        size = stored_size(frame, stream)
        subtitles = tuple(codec_name(s) for s in container.streams.subtitles)
        return ClipInfo(
            path=path,
            duration=picture.duration,
            fps=fps,
            width=size[1] if orientation.transposed else size[0],
            height=size[0] if orientation.transposed else size[1],
            rotation=orientation.rotation,
            container=_container_name(container, stream, path),
            video_codec=codec_name(stream),
            audio=_audio_info(container, spans, frames, picture),
            has_subtitles=bool(subtitles),
            num_chapters=len(container.chapters()),
            num_frames=picture.count,
            start=picture.start,
            demuxer=demuxer_of(container),
            video_index=stream.index,
            cover_indices=tuple(s.index for s in container.streams.video if _is_cover(s)),
            subtitle_codecs=subtitles,
            tags=dict(container.metadata),
        )


def has_no_display_times(container: av.container.InputContainer) -> bool:
    """Whether the container knows only when to decode a frame (AVI); what libavformat guesses from it is wrong."""
    return demuxer_of(container) == "avi"


class _Span:
    """What the packets of one stream cover, in seconds on the container's clock."""

    def __init__(self, decoding_times_only: bool) -> None:
        self._decoding_times_only = decoding_times_only
        self.count = 0
        self.start = Fraction(0)
        self.last = Fraction(0)
        self.end = Fraction(0)
        self.damaged = False

    def add(self, packet: av.Packet[Any]) -> None:
        stamp, length = packet.pts, packet.duration or 0
        if stamp is None or self._decoding_times_only:
            stamp, length = packet.dts, 0
        self.damaged |= packet.is_corrupt
        if stamp is None or packet.is_discard:
            return
        time = stamp * packet.time_base
        end = time + length * packet.time_base
        if not self.count:
            self.start, self.last, self.end = time, time, end
        else:
            self.start, self.last, self.end = min(self.start, time), max(self.last, time), max(self.end, end)
        self.count += 1

    def close(self, frame_duration: Fraction) -> None:
        """Give the last frame a length where the container states none."""
        if self.count and self.end <= self.last:
            self.end = self.last + frame_duration

    @property
    def duration(self) -> Fraction:
        return self.end - self.start


def _walk(
    container: av.container.InputContainer, path: Path
) -> tuple[dict[int, _Span], dict[int, av.VideoFrame | av.AudioFrame]]:
    """What each stream's packets cover, and the first decoded frame of each frame or sound."""
    spans = {s.index: _Span(has_no_display_times(container) and s.type == "video") for s in container.streams}
    awaited = {s.index for s in container.streams if s.type in ("video", "audio") and s.codec_context is not None}
    frames: dict[int, av.VideoFrame | av.AudioFrame] = {}
    try:
        for packet in container.demux():
            index = packet.stream_index
            if index in awaited and (frame := _first_frame(packet)) is not None:
                frames[index] = frame
                awaited.remove(index)
            if packet.size:
                spans[index].add(packet)
    except av.error.FFmpegError as error:
        if not any(span.count for span in spans.values()):
            raise ProbeError(f"it can't be read ({error.strerror}).", path=path, remedy=CUT_OFF) from error
        for span in spans.values():
            span.damaged = True
    return spans, frames


def _first_frame(packet: av.Packet[Any]) -> av.VideoFrame | av.AudioFrame | None:
    try:
        return next(iter(packet.decode()), None)
    except av.error.FFmpegError:
        return None  # a damaged or leading packet; a later one may do


def _refuse_truncated(container: av.container.InputContainer, spans: dict[int, _Span], path: Path) -> None:
    """Compare what headers promise with what packets hold.

    Only the container's promise counts, against the longest of its tracks: tracks often differ.
    """
    promised = Fraction(container.duration or 0, av.time_base)
    if has_no_display_times(container):
        promised = max(promised, max(s.frames / s.average_rate for s in container.streams.video if s.average_rate))
    held = max(s.end for s in spans.values()) - min(s.start for s in spans.values() if s.count)
    origin = Fraction(container.start_time or 0, av.time_base)
    reached = max(s.end for s in spans.values()) - min(origin, Fraction(0))
    missing = promised - max(held, reached)
    if missing > max(TRUNCATION_SLACK, promised / 1000):
        text = f"it is cut off: {float(held):.2f} s of {float(promised):.2f} s are there."
        raise ProbeError(text, path=path, remedy=CUT_OFF)
    if any(s.damaged and s.count for s in spans.values()) and missing > DAMAGE_SLACK:
        raise ProbeError("its end is damaged or missing.", path=path, remedy=CUT_OFF)


def _rate(stream: av.video.stream.VideoStream, picture: _Span) -> Fraction:
    nominal = stream.guessed_rate or stream.average_rate or stream.base_rate
    nominal = nominal if nominal and 0 < nominal <= 1000 else Fraction(25)
    if picture.count < 2 or picture.last <= picture.start:
        return nominal
    mean = (picture.count - 1) / (picture.last - picture.start)
    # millisecond time stamps (MKV) make short clips' mean rate uncertain
    slack = max(RATE_SLACK, Fraction(2, 1000) / (picture.last - picture.start))
    return nominal if abs(mean / nominal - 1) <= slack else mean.limit_denominator(1_000_000)


def _audio_info(
    container: av.container.InputContainer,
    spans: dict[int, _Span],
    frames: dict[int, av.VideoFrame | av.AudioFrame],
    picture: _Span,
) -> AudioInfo | None:
    for stream in container.streams.audio:
        span, frame = spans[stream.index], frames.get(stream.index)
        context = stream.codec_context
        if context is None or frame is None or not context.sample_rate:
            continue
        start = span.start if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base
        return AudioInfo(
            codec=codec_name(stream),
            sample_rate=context.sample_rate,
            channels=context.channels,
            start=start - picture.start,
            duration=span.end - start,
            index=stream.index,
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


def _is_cover(stream: av.video.stream.VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


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
    reason = "its content is not a video that can be read."
    return ProbeError(reason, path=path, remedy=NOT_A_VIDEO)
