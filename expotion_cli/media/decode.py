"""Pictures and sound out of a clip, on the picture's clock, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from expotion_cli.errors import DecodeError
from expotion_cli.media.probe import (
    ClipInfo,
    Orientation,
    has_no_display_times,
    open_container,
    picture_stream,
    probe,
    stored_size,
)
from expotion_cli.timing import exact, num_rows, num_samples

STEREO = 2
GAP_SLACK_S = 0.02  # time stamps wander by less than this without a gap in the sound


@dataclass(frozen=True)
class Frame:
    """One upright picture.

    Attributes:
        time_s: seconds since the first picture appeared.
        rgb: [height, width, 3] uint8, contiguous.
    """

    time_s: float
    rgb: np.ndarray


def iter_frames(
    clip: str | Path | ClipInfo, *, rate_hz: float | Fraction | None = None, max_side: int | None = None
) -> Iterator[Frame]:
    """Decode a clip's picture in one pass.

    Frames are chosen by their time stamps, so a variable rate does no harm; one decoded frame is held at a time.

    Args:
        clip: a file, or what `probe` found out about it.
        rate_hz: give the picture on the screen at i / rate_hz for each i before the clip's end (`timing.num_rows`
            of them; a picture that stays on comes again, sharing its array). None: each picture once, at its own time.
        max_side: scale down so that the longer side has at most this many pixels.

    Raises:
        ProbeError: the clip can't be opened.
        DecodeError: none of its pictures can be decoded.
    """
    info = clip if isinstance(clip, ClipInfo) else probe(clip)
    with open_container(info.path) as container:
        stream = picture_stream(container, info.path)
        painter = _Painter(stream, max_side)
        pictures = _pictures(container, stream, info)
        if rate_hz is None:
            for time, picture in pictures:
                yield Frame(float(time), painter.paint(picture))
        else:
            yield from _on_grid(pictures, painter, info, exact(rate_hz))


def _on_grid(
    pictures: Iterator[tuple[Fraction, av.VideoFrame]], painter: _Painter, info: ClipInfo, rate_hz: Fraction
) -> Iterator[Frame]:
    rows = num_rows(info.duration, rate_hz)
    row = 0
    shown: av.VideoFrame | None = None
    painted: np.ndarray | None = None
    for time, picture in pictures:
        if shown is not None:
            while row < rows and row / rate_hz < time:
                painted = painter.paint(shown) if painted is None else painted
                yield Frame(float(row / rate_hz), painted)
                row += 1
        shown, painted = picture, None
        if row == rows:
            return
    if shown is not None:
        painted = painter.paint(shown)
        for i in range(row, rows):  # the last picture stays on until the clip's end
            yield Frame(float(i / rate_hz), painted)


def _pictures(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream, info: ClipInfo
) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """Decoded frames with their times, skipping what is damaged."""
    stream.thread_type = "AUTO"
    time = None
    # without display times the n-th picture shown has the n-th time stamp of all, for frames leave in display order
    waiting: deque[Fraction] | None = deque() if has_no_display_times(container) else None
    for packet in container.demux(stream):
        if waiting is not None and packet.size:
            waiting.append(packet.dts * packet.time_base - info.start)
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            continue
        for frame in frames:
            if waiting:
                stamp = waiting.popleft()
            elif frame.pts is not None:
                stamp = frame.pts * frame.time_base - info.start
            else:
                stamp = Fraction(0) if time is None else time + 1 / info.fps
            if time is None or stamp > time:
                time = stamp
                yield max(stamp, Fraction(0)), frame
    if time is None:
        raise DecodeError("none of its pictures can be decoded.", path=info.path, remedy="Convert or repair it first.")


class _Painter:
    """Turns decoded frames into upright RGB pictures of one size."""

    def __init__(self, stream: av.video.stream.VideoStream, max_side: int | None):
        self._stream = stream
        self._max_side = max_side
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._orientation: Orientation | None = None

    def paint(self, frame: av.VideoFrame) -> np.ndarray:
        """The frame as [height, width, 3] uint8."""
        if self._orientation is None:
            self._orientation = Orientation.of(frame)
        width, height = stored_size(frame, self._stream)
        interpolation = "BICUBIC"
        if self._max_side is not None and max(width, height) > self._max_side:
            scale = self._max_side / max(width, height)
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
            interpolation = "AREA"  # averages what it drops, so fine texture doesn't flicker between frames
        picture = self._reformatter.reformat(frame, width, height, "rgb24", interpolation=interpolation, threads=1)
        return self._orientation.apply(picture.to_ndarray())


def read_audio(clip: str | Path | ClipInfo, sample_rate: int = 48000) -> np.ndarray:
    """A clip's first sound track, from the first picture's appearance to the picture's end.

    Time stamps are honoured: sound that begins late or pauses is preceded by silence, and sound before the picture is
    dropped.

    Args:
        clip: a file, or what `probe` found out about it.
        sample_rate: of the result, in Hz.

    Returns:
        [2, timing.num_samples(duration, sample_rate)] float32; mono is doubled, more channels are folded down.
        Silence if the clip has no sound.

    Raises:
        ProbeError: the clip can't be opened.
        DecodeError: there is a sound track, but none of it can be decoded.
    """
    info = clip if isinstance(clip, ClipInfo) else probe(clip)
    total = num_samples(info.duration, sample_rate)
    sound = np.zeros((STEREO, total), dtype=np.float32)
    if info.audio is None:
        return sound
    decoded = False
    with open_container(info.path) as container:
        stream = container.streams[info.audio.index]
        folded = "mono" if stream.codec_context.channels == 1 else "stereo"
        resampler = av.AudioResampler(format="fltp", layout=folded, rate=sample_rate)
        position: int | None = None
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue  # a damaged packet leaves a gap, which the time stamps keep in place
            for frame in frames:
                decoded = True
                if frame.pts is not None:
                    expected = round((frame.pts * frame.time_base - info.start) * sample_rate)
                    if position is None or abs(expected - position) > GAP_SLACK_S * sample_rate:
                        if position is not None:
                            position = _place(sound, position, resampler.resample(None))
                            resampler = av.AudioResampler(format="fltp", layout=folded, rate=sample_rate)
                        position = expected
                frame.pts = None
                position = _place(sound, position or 0, resampler.resample(frame))
        _place(sound, position or 0, resampler.resample(None))
    if not decoded:
        reason = f"its sound ({info.audio.codec}) can't be decoded."
        raise DecodeError(reason, path=info.path, remedy="Convert it first.")
    return sound


def _place(sound: np.ndarray, position: int, pieces: list[av.AudioFrame]) -> int:
    """Write resampled pieces [1 or 2, n] at `position` (which may lie outside); returns where the next one goes."""
    for piece in pieces:
        samples = piece.to_ndarray()
        low, high = max(0, position), min(sound.shape[1], position + samples.shape[1])
        if high > low:
            sound[:, low:high] = samples[:, low - position : high - position]
        position += samples.shape[1]
    return position
