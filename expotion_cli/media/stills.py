"""Single frames of a clip, by seeking: a few frames of an hour of video cost seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from expotion_cli.errors import DecodeError
from expotion_cli.media.clip import ClipInfo
from expotion_cli.media.decode import Damage, decoded
from expotion_cli.media.frames import View
from expotion_cli.media.painter import Painter
from expotion_cli.media.probe import open_container, picture_of, probe
from expotion_cli.timing import exact

JUMP_S = 8
"""Nearer frames are reached by decoding on: key frames usually stand about this far apart."""


def stills(clip: str | Path | ClipInfo, times_s: Sequence[float], view: View) -> list[np.ndarray]:
    """The frames on the screen at some times.

    Args:
        clip: a file, or what `probe` found out about it.
        times_s: seconds since the first frame appeared, rising.
        view: their size and colours; its rates are not used.

    Returns:
        For each time a frame as `Painter.paint` makes it: uint8 [h, w, 3], or [h, w] grey.

    Raises:
        ProbeError: the clip can't be opened.
        DecodeError: none of its frames can be decoded.
    """
    info = clip if isinstance(clip, ClipInfo) else probe(clip)
    with open_container(info.path, without_edits=bool(info.edits)) as container:
        stream = picture_of(container, info)
        painter, reader = Painter(stream, view), _Reader(container, stream, info)
        return [painter.paint(reader.picture_at(exact(float(time)))) for time in times_s]


class _Reader:
    """Goes forward through a clip, jumping where that saves decoding."""

    def __init__(
        self, container: av.container.InputContainer, stream: av.video.stream.VideoStream, info: ClipInfo
    ) -> None:
        self._container, self._stream, self._info = container, stream, info
        self._pictures = self._from_here()
        self._shown: tuple[Fraction, av.VideoFrame] | None = None
        # Raises DecodeError where there is none.
        self._next: tuple[Fraction, av.VideoFrame] | None = next(self._pictures)
        self._jumps = True

    def picture_at(self, time: Fraction) -> av.VideoFrame:
        """The picture that is on the screen; the first one before it appears, the last one after the end."""
        reached = self._next[0] if self._next is not None else self._info.duration
        if self._jumps and time - reached > JUMP_S:
            self._jump(time, reached)
        while self._next is not None and (self._shown is None or self._next[0] <= time):
            self._shown, self._next = self._next, next(self._pictures, None)
        assert self._shown is not None
        return self._shown[1]

    def _from_here(self) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        return decoded(self._container, self._stream, self._info, Damage())

    def _jump(self, time: Fraction, reached: Fraction) -> None:
        try:
            stamp = int((time + self._info.start) / (self._stream.time_base or 1))
            self._container.seek(stamp, stream=self._stream, backward=True)
            frames = self._from_here()
            landed = next(frames)
        except (
            av.error.FFmpegError,
            DecodeError,
        ):  # no index, or a decoder that can't start in the middle: begin again
            self._jumps = False
            self._container.seek(0)
            self._pictures, self._next = self._from_here(), None
            self._next = next(self._pictures)
            return
        # Key frames far apart: each jump would decode the same frames again.
        self._jumps = landed[0] > reached
        self._pictures, self._shown, self._next = frames, None, landed
