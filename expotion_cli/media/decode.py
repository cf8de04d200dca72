"""Frames out of a clip, on the picture's clock, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from expotion_cli.errors import DecodeError
from expotion_cli.media.clip import ClipInfo
from expotion_cli.media.edits import shown
from expotion_cli.media.frames import Frame, View
from expotion_cli.media.painter import Painter
from expotion_cli.media.probe import has_no_display_times, open_container, picture_of, probe
from expotion_cli.timing import exact, num_rows


@dataclass
class Damage:
    """What could not be decoded, filled while frames are read.

    Attributes:
        skipped: frames left out because they are broken.
        first_s: about where the first one stood, in seconds.
    """

    skipped: int = 0
    first_s: float | None = None

    def add(self, time_s: float) -> None:
        """Note one frame."""
        self.skipped += 1
        if self.first_s is None:
            self.first_s = time_s


def iter_frames(
    clip: str | Path | ClipInfo, *, rate_hz: float | Fraction | None = None, max_side: int | None = None
) -> Iterator[Frame]:
    """Decode a clip's picture in one pass; `iter_views` with a single view.

    Args:
        clip: a file, or what `probe` found out about it.
        rate_hz: give the frame on the screen at i / rate_hz for each i before the clip's end (`timing.num_rows`
            of them; a frame that stays on comes again, sharing its array). None: each frame once, at its own time.
        max_side: scale down so that the longer side has at most this many pixels.

    Raises:
        ProbeError: the clip can't be opened.
        DecodeError: none of its frames can be decoded.
    """
    view = View(rate_hz=None if rate_hz is None else exact(rate_hz), max_side=max_side)
    for _, frame in iter_views(clip, (view,)):
        yield frame


def iter_views(
    clip: str | Path | ClipInfo, views: Sequence[View], *, damage: Damage | None = None
) -> Iterator[tuple[int, Frame]]:
    """Decode a clip's picture once for several views of it.

    Frames are chosen by their time stamps, so a variable rate does no harm. Of each view one frame is held at a
    time, and none is made twice. Interlaced frames give one field.

    Args:
        clip: a file, or what `probe` found out about it.
        views: what is wanted.
        damage: counts frames that could not be decoded.

    Yields:
        Number of a view and its next frame; the times of each view rise.

    Raises:
        ProbeError: the clip can't be opened.
        DecodeError: none of its frames can be decoded.
    """
    info = clip if isinstance(clip, ClipInfo) else probe(clip)
    with open_container(info.path, without_edits=bool(info.edits)) as container:
        stream = picture_of(container, info)
        schedules = [_Schedule(number, view, info) for number, view in enumerate(views)]
        painters = [Painter(stream, view) for view in views]
        on_screen: _Shown | None = None
        for time, picture in decoded(container, stream, info, damage or Damage()):
            for schedule in schedules:
                yield from schedule.until(time, on_screen)
            on_screen = _Shown(picture, painters)
            for schedule in schedules:
                yield from schedule.at(time, on_screen)
            if all(schedule.done for schedule in schedules):
                return
        for schedule in schedules:
            yield from schedule.until(info.duration, on_screen)


class _Shown:
    """The picture on the screen, painted for each view when first asked for."""

    def __init__(self, picture: av.VideoFrame, painters: Sequence[Painter]):
        self._picture, self._painters = picture, painters
        self._painted: dict[int, np.ndarray] = {}

    def view(self, number: int) -> np.ndarray:
        if number not in self._painted:
            self._painted[number] = self._painters[number].paint(self._picture)
        return self._painted[number]


class _Schedule:
    """When a view wants a frame."""

    def __init__(self, number: int, view: View, info: ClipInfo):
        self.number, self.view = number, view
        self._rows = num_rows(info.duration, view.rate_hz) if view.rate_hz is not None else None
        self._row = 0
        self._last: Fraction | None = None

    @property
    def done(self) -> bool:
        """Whether nothing more is wanted."""
        return self._rows is not None and self._row == self._rows

    def until(self, time: Fraction, shown: _Shown | None) -> Iterator[tuple[int, Frame]]:
        """Rows of the grid before the next frame: the one on the screen, again and again."""
        rate_hz = self.view.rate_hz
        if shown is None or self._rows is None or rate_hz is None:
            return
        while self._row < self._rows and self._row / rate_hz < time:
            yield self.number, Frame(float(self._row / rate_hz), shown.view(self.number))
            self._row += 1

    def at(self, time: Fraction, shown: _Shown) -> Iterator[tuple[int, Frame]]:
        """A new frame, for a view that follows the clip's own times."""
        if self._rows is not None:
            return
        fastest = self.view.max_rate_hz
        if fastest is not None and self._last is not None and (time - self._last) * fastest < 1:
            return
        self._last = time
        yield self.number, Frame(float(time), shown.view(self.number))


def decoded(
    container: av.container.InputContainer, stream: av.VideoStream, info: ClipInfo, damage: Damage
) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """Decoded frames with their times, without what is damaged or not shown."""
    frames = _in_order(container, stream, info, damage)
    parts = info.edits.get(info.video_index)
    some = False
    for time, frame in frames if parts is None else shown(frames, parts):
        some = True
        yield max(time, Fraction(0)), frame
    if not some:
        raise DecodeError("none of its frames can be decoded.", path=info.path, remedy="Convert or repair it first.")


def _in_order(
    container: av.container.InputContainer, stream: av.VideoStream, info: ClipInfo, damage: Damage
) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """Frames with rising times."""
    if not stream.codec_context.is_open:  # it is when reading goes on from another place
        stream.thread_type = "AUTO"
    time = None
    # Without display times a frame has its packet's, or where packets are reordered the n-th picture shown has the n-th
    # time stamp of all, for frames leave in display order.
    untimed = has_no_display_times(container)
    waiting: deque[Fraction] | None = deque() if untimed and stream.codec_context.has_b_frames else None
    for packet in _packets(container, stream, damage):
        if waiting is not None and packet.size and packet.dts is not None:
            waiting.append(packet.dts * packet.time_base - info.start)
        try:
            frames = packet.decode()
        except (av.error.FFmpegError, ValueError):
            damage.add(float(time or 0))
            continue
        for frame in frames:
            own = frame.dts if untimed and frame.dts is not None else frame.pts
            if waiting:
                stamp = waiting.popleft()
            elif own is not None and frame.time_base:
                stamp = own * frame.time_base - info.start
            else:
                stamp = Fraction(0) if time is None else time + 1 / info.fps
            if time is not None and stamp <= time:
                continue
            if frame.is_corrupt and time is not None:
                damage.add(float(stamp))  # what is on the screen stays there
                continue
            time = stamp
            yield stamp, frame


def _packets(
    container: av.container.InputContainer, stream: av.VideoStream, damage: Damage
) -> Iterator[av.Packet[av.VideoStream]]:
    """The stream's packets, as far as the file can be read."""
    try:
        yield from container.demux(stream)
    except av.error.FFmpegError:
        damage.add(0.0)
