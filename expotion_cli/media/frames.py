"""One frame of a clip, and which frames somebody wants. Plain data: nothing here decodes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Frame:
    """One upright frame.

    Attributes:
        time_s: seconds since the first frame appeared.
        pixels: uint8 [height, width, 3], contiguous; [height, width] where a view asked for grey.
    """

    time_s: float
    pixels: np.ndarray


@dataclass(frozen=True)
class View:
    """Which frames of a clip somebody wants, and how large.

    Frames are only ever made smaller, except by `short_side`, and keep their aspect ratio.

    Attributes:
        rate_hz: the frame on the screen at i / rate_hz for each i before the clip's end. None: each frame once, at
            its own time.
        max_rate_hz: without `rate_hz`: leave frames out that follow the one before sooner than this.
        max_side: the longer side has at most this many pixels.
        max_height: the upright frame is at most this high.
        min_side: no side gets smaller than this.
        short_side: the shorter side has exactly this many pixels.
        grey: [h, w] brightness instead of [h, w, 3] RGB.
    """

    rate_hz: Fraction | None = None
    max_rate_hz: Fraction | None = None
    max_side: int | None = None
    max_height: int | None = None
    min_side: int = 1
    short_side: int | None = None
    grey: bool = False

    def size_of(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the view, for upright frames of this size."""
        if self.short_side is not None:
            scale = self.short_side / min(width, height)
        else:
            limits = [1.0]
            if self.max_side is not None:
                limits.append(self.max_side / max(width, height))
            if self.max_height is not None:
                limits.append(self.max_height / height)
            scale = min(limits)
        if scale == 1:
            return max(self.min_side, width), max(self.min_side, height)
        return max(self.min_side, round(width * scale)), max(self.min_side, round(height * scale))
