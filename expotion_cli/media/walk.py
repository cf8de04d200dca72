"""One walk through all packets of a file: what each stream covers, its first frame, and if its times can be true."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from expotion_cli.errors import ProbeError

TRUNCATION_SLACK = Fraction(1, 4)  # seconds by which headers may promise more than the packets hold
DAMAGE_SLACK = Fraction(1, 100)  # ... and when packets are damaged too
RATE_SLACK = Fraction(1, 1000)  # a mean rate this close to the nominal one is the nominal one
LONGEST_STILL_S = 120  # one picture may stay for so long with nothing to hear; longer, the time stamps are wrong
HEARD_SHARE = Fraction(9, 10)  # sound that fills so much of the length vouches for it
ABSURD_S = 1e8  # three years: no clock jumped, the numbers are damaged
MOST_PACKETS = 10_000_000  # of one stream: 46 hours at 60 pictures a second

CUT_OFF = "Copy or download it again, or repair it first."
REPAIR = "Repair it, or encode it again."

Frame = av.VideoFrame | av.AudioFrame


@dataclass
class Span:
    """What the packets of one stream cover, in seconds on the container's clock.

    Attributes:
        by_decoding: whether its packets are dated by when they are decoded, for they know nothing better.
        time_base: seconds of one tick.
        frame: its first decoded frame, if it has any.
        damaged: whether a packet said so itself.
        left_out: packets that its edit list says are not shown.
    """

    by_decoding: bool = False
    time_base: Fraction = Fraction(1)
    frame: Frame | None = None
    damaged: bool = False
    left_out: int = 0
    _stamps: array[int] = field(default_factory=lambda: array("q"))
    _end: int = 0
    _filled: int = 0

    def add(self, packet: av.Packet[Any]) -> None:
        """Count one packet."""
        self.damaged |= packet.is_corrupt
        stamp, length = packet.pts, packet.duration or 0
        if stamp is None or self.by_decoding:
            stamp, length = packet.dts, 0
        if packet.is_discard:
            self.left_out += 1
        elif stamp is not None and packet.time_base:
            self.time_base = packet.time_base
            self._end = max(self._end, stamp + length) if self._stamps else stamp + length
            self._stamps.append(stamp)
            self._filled += max(0, length)

    def close(self, frame_duration: Fraction) -> None:
        """Give the last frame a length where the container states none."""
        if self.count and self.end <= self.last:
            self._end = max(self._stamps) + max(1, round(frame_duration / self.time_base))

    def begin_at(self, time: Fraction) -> None:
        """Forget the packets before this moment."""
        self._stamps = array("q", (stamp for stamp in self._stamps if stamp * self.time_base >= time))

    @property
    def count(self) -> int:
        """How many packets are shown or heard."""
        return len(self._stamps)

    @property
    def times(self) -> list[Fraction]:
        """When each packet is shown or heard, rising."""
        return [stamp * self.time_base for stamp in sorted(self._stamps)]

    @property
    def start(self) -> Fraction:
        """The first one's time."""
        return min(self._stamps) * self.time_base if self._stamps else Fraction(0)

    @property
    def last(self) -> Fraction:
        """The last one's time."""
        return max(self._stamps) * self.time_base if self._stamps else Fraction(0)

    @property
    def end(self) -> Fraction:
        """When the last one is over."""
        return self._end * self.time_base if self._stamps else Fraction(0)

    @property
    def duration(self) -> Fraction:
        """From the first one's beginning to the last one's end."""
        return self.end - self.start

    @property
    def filled(self) -> Fraction:
        """The sum of all packets' lengths; of sound no more than twice what so many packets like the first one hold."""
        claimed = self._filled * self.time_base
        if isinstance(self.frame, av.AudioFrame) and self.frame.sample_rate:
            return min(claimed, 2 * self.count * Fraction(self.frame.samples, self.frame.sample_rate))
        return claimed

    @property
    def longest(self) -> Fraction:
        """The longest time from one packet to the next, or from the last one to the end."""
        if not self.count:
            return Fraction(0)
        stamps = np.sort(np.frombuffer(self._stamps, dtype=np.int64)).astype(float)  # whole numbers would overflow
        return Fraction(int(np.diff(np.append(stamps, max(self._end, stamps[-1]))).max())) * self.time_base


def walk(container: av.container.InputContainer, path: Path, *, by_decoding: bool) -> dict[int, Span]:
    """Read all packets of a file and decode the first frame of each picture and sound.

    Args:
        container: the file, at its beginning.
        path: its name, for messages.
        by_decoding: whether the container knows only when to decode a picture.

    Returns:
        By stream index.

    Raises:
        ProbeError: nothing can be read, or it holds more packets than any real file.
    """
    spans = {s.index: Span(by_decoding and isinstance(s, av.VideoStream)) for s in container.streams}
    kinds = (av.VideoStream, av.AudioStream)
    awaited = {s.index for s in container.streams if isinstance(s, kinds) and s.codec_context is not None}
    try:
        for packet in container.demux():
            span = spans.setdefault(packet.stream_index, Span())
            if packet.stream_index in awaited:
                span.frame = _first_frame(packet)
                awaited -= {packet.stream_index} if span.frame is not None else set()
            if packet.size:
                span.add(packet)
                if span.count > MOST_PACKETS:
                    raise ProbeError(f"it claims more than {MOST_PACKETS:,} pictures.", path=path, remedy=REPAIR)
    except av.error.FFmpegError as error:
        if not any(span.count for span in spans.values()):
            raise ProbeError(f"it can't be read ({error.strerror}).", path=path, remedy=CUT_OFF) from error
        for span in spans.values():
            span.damaged = True
    return spans


def _first_frame(packet: av.Packet[Any]) -> Frame | None:
    if not isinstance(packet.stream, av.VideoStream | av.AudioStream):
        return None  # a damaged index made something else of it
    try:
        found = next(iter(packet.decode()), None)
    except (av.error.FFmpegError, ValueError):
        return None  # a damaged or leading packet; a later one may do
    return found if isinstance(found, Frame) else None


def frame_time(frame: Frame) -> Fraction | None:
    """When a decoded frame comes, in seconds on the container's clock; None where it doesn't know."""
    return None if frame.pts is None or not frame.time_base else frame.pts * frame.time_base


def rate_of(stream: av.VideoStream, picture: Span) -> Fraction:
    """Frames a second: the nominal rate where time stamps bear it out, else the mean.

    Args:
        stream: the picture.
        picture: what its packets cover.
    """
    rates = (stream.guessed_rate, stream.average_rate, stream.base_rate)
    nominal = next((rate for rate in rates if rate and 0 < rate <= 1000), Fraction(25))
    if picture.count < 2 or picture.last <= picture.start:
        return nominal
    mean = (picture.count - 1) / (picture.last - picture.start)
    # millisecond time stamps (MKV) make short clips' mean rate uncertain
    slack = max(RATE_SLACK, Fraction(2, 1000) / (picture.last - picture.start))
    if abs(mean / nominal - 1) <= slack:
        return nominal
    return mean.limit_denominator(1_000_000) or mean


def refuse_truncated(
    container: av.container.InputContainer, spans: dict[int, Span], path: Path, *, by_decoding: bool
) -> None:
    """Compare what headers promise with what packets hold.

    Only the container's promise counts, against the longest of its tracks: tracks often differ.

    Args:
        container: the file.
        spans: from `walk`.
        path: its name, for messages.
        by_decoding: whether the container knows only when to decode a picture.

    Raises:
        ProbeError: something is missing.
    """
    promised = Fraction(container.duration or 0, av.time_base)
    if by_decoding:
        rates = [(s.frames, s.average_rate) for s in container.streams.video]
        promised = max([promised, *(frames / rate for frames, rate in rates if rate)])
    held = max(s.end for s in spans.values()) - min(s.start for s in spans.values() if s.count)
    origin = Fraction(container.start_time or 0, av.time_base)
    reached = max(s.end for s in spans.values()) - min(origin, Fraction(0))
    missing = promised - max(held, reached)
    if missing > max(TRUNCATION_SLACK, promised / 1000):
        text = f"it is cut off: {float(held):.2f} s of {float(promised):.2f} s are there."
        raise ProbeError(text, path=path, remedy=CUT_OFF)
    if any(s.damaged and s.count for s in spans.values()) and missing > DAMAGE_SLACK:
        raise ProbeError("its end is damaged or missing.", path=path, remedy=CUT_OFF)


def refuse_empty_time(picture: Span, sounds: list[Span], path: Path) -> None:
    """Refuse a length that neither pictures nor sound fill: a clock that jumped, or absurd time stamps.

    Args:
        picture: what the picture's packets cover.
        sounds: likewise of all sound tracks.
        path: the file, for messages.

    Raises:
        ProbeError: one picture would stay on the screen for longer than `LONGEST_STILL_S`, in silence.
    """
    still = picture.longest
    heard = max((sound.filled for sound in sounds), default=Fraction(0))
    if still <= LONGEST_STILL_S or heard >= HEARD_SHARE * picture.duration:
        return
    if still > ABSURD_S:
        raise ProbeError("its time stamps can't be true.", path=path, remedy=REPAIR)
    length = f"{float(still) / 60:,.0f} minutes" if still < 7200 else f"{float(still) / 3600:,.0f} hours"
    raise ProbeError(
        f"its time stamps jump by {length}, with neither picture nor sound in between.",
        path=path,
        remedy="If two recordings were joined, score them one by one; else encode it again.",
    )
