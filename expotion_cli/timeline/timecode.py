"""Timecode: frames counted as hours, minutes, seconds and frames, with or without dropped numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

USUAL_RATES = (
    *(Fraction(1000 * rate, 1001) for rate in (24, 30, 48, 60, 120)),
    *(Fraction(rate) for rate in (24, 25, 30, 48, 50, 60, 100, 120)),
)
"""Frames a second that editing programs know."""
DROPPING = {Fraction(30000, 1001): 2, Fraction(60000, 1001): 4}
"""Rates whose timecode may leave out numbers to keep up with the clock, and how many at the start of a minute."""
TIMECODE = re.compile(r"(\d{1,2}):([0-5]?\d):([0-5]?\d)([:;.,])(\d{1,3})")
_NO_CODE = "00:00:00:00"


@dataclass(frozen=True)
class Timebase:
    """How a timeline counts its frames.

    Attributes:
        rate: frames a second.
        is_drop: whether timecode leaves out numbers (29.97 and 59.94 only).
        start: the number of the first frame; 0 is 00:00:00:00.
    """

    rate: Fraction
    is_drop: bool = False
    start: int = 0

    @property
    def nominal(self) -> int:
        """Frames that timecode counts in a second."""
        return max(1, round(self.rate))

    def frame_at(self, time_s: float | Fraction) -> int:
        """The frame, counted from the first, that begins nearest to a moment of the picture."""
        return int(Fraction(time_s) * self.rate + Fraction(1, 2))

    def time_of(self, frame: int) -> Fraction:
        """When a frame, counted from the first, begins: seconds on the picture's clock."""
        return frame / self.rate

    def timecode(self, frame: int) -> str:
        """The timecode of a frame, counted from the first; it begins again after 24 hours."""
        number, per_s = self.start + frame, self.nominal
        number %= self._numbers(24 * 60)
        if self.is_drop:
            tens, rest = divmod(number, self._numbers(10))
            dropped = DROPPING[self.rate]
            minute = max(0, rest - dropped) // self._numbers(1)
            number += dropped * (9 * tens + minute)
        seconds, frames = divmod(number, per_s)
        mark = ";" if self.is_drop else ":"
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{frames:02}"

    def frame_of(self, timecode: str) -> int:
        """The frame, counted from the first, of a timecode; negative before it.

        Raises:
            ValueError: that is no timecode, or none that this timeline has.
        """
        return self.number_of(timecode) - self.start

    def number_of(self, timecode: str) -> int:
        """The number of the frame of a timecode; 0 is 00:00:00:00.

        Raises:
            ValueError: that is no timecode, or none that this timeline has.
        """
        found = TIMECODE.fullmatch(timecode.strip())
        if found is None:
            raise ValueError(f"{timecode!r} is no timecode")
        hours, minutes, seconds, frames = (int(found[part]) for part in (1, 2, 3, 5))
        if frames >= self.nominal:
            raise ValueError(f"{timecode} has frame {frames}, but a second has {self.nominal}")
        number = ((hours * 60 + minutes) * 60 + seconds) * self.nominal + frames
        if not self.is_drop:
            return number
        dropped = DROPPING[self.rate]
        if frames < dropped and seconds == 0 and minutes % 10:
            raise ValueError(f"{timecode} is a number that drop-frame timecode leaves out")
        total = hours * 60 + minutes
        return number - dropped * (total - total // 10)

    def _numbers(self, minutes: int) -> int:
        """How many numbers so many minutes have: 1 (not each tenth), 10 or whole multiples of 10."""
        count = minutes * 60 * self.nominal
        if not self.is_drop:
            return count
        return count - DROPPING[self.rate] * (1 if minutes == 1 else minutes * 9 // 10)


def timeline_rate(fps: Fraction) -> tuple[Fraction, bool]:
    """The rate of the timeline that a clip of this rate is edited on, and whether it is the clip's own.

    A rate such as 30000/1001 or a whole number is its own. A mean rate, of a clip whose rate varies, is none that an
    editing program has: the nearest usual rate takes its place.
    """
    if fps.denominator == 1 or (fps.denominator == 1001 and fps.numerator % 1000 == 0):
        return fps, True
    nearest = min(USUAL_RATES, key=lambda rate: abs(rate / fps - 1))
    return nearest, nearest == fps


def timebase_of(fps: Fraction, timecode: str = "") -> Timebase:
    """How the timeline of a clip counts.

    Args:
        fps: the clip's frames a second, a mean where the rate varies.
        timecode: of its first frame, as its file states it; one that can't be read counts as 00:00:00:00.
    """
    rate, _ = timeline_rate(fps)
    is_drop = is_dropping(timecode) and rate in DROPPING
    base = Timebase(rate, is_drop)
    try:
        return Timebase(rate, is_drop, base.number_of(timecode or _NO_CODE))
    except ValueError:
        return Timebase(rate, is_drop)


def is_dropping(timecode: str) -> bool:
    """Whether a timecode is written as drop-frame timecode is: 01:00:00;00."""
    found = TIMECODE.fullmatch(timecode.strip())
    return found is not None and found[4] in ";,."


def shown_rate(rate: Fraction | float) -> str:
    """A rate as people write it: 23.976, 25, 29.97."""
    return f"{float(rate):.3f}".rstrip("0").rstrip(".")
