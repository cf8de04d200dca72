"""A tune as MusicGen Melody takes it: the strongest pitch class over time, window by window.

A cue that fits into one window gets the tune from its beginning; where the tune is shorter than what the model was
trained with, its pitch classes begin again. A longer cue is generated window by window, and the melody moves along:
each window is told of the half minute from where it begins, of a tune that is repeated as often as the cue needs it.
Both are what audiocraft does.

The published models were trained on melodies without drums and bass, which Demucs took out. Demucs is not used here: a
file is taken as it sounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from expotion_cli.audio.pitch_classes import SAMPLE_RATE, pitch_classes
from expotion_cli.errors import UsageError
from expotion_cli.storage import digest_bytes

VERSION = 1
"""Raised whenever the same tune would be told otherwise."""
SPAN_S = 30
"""A window is told of the melody so far ahead: as long as the models' training pieces."""


def takes_no_melody(name: str) -> UsageError:
    """The error for a model that is given a melody and can't play it."""
    return UsageError(
        f"{name} takes no melody.",
        remedy="Use --model musicgen-melody or another MusicGen Melody, or leave --melody out.",
    )


def needed_s(duration_s: float) -> float:
    """Seconds of a tune that a cue of this length is told of at most; what comes after them is never looked at."""
    return duration_s + SPAN_S


@dataclass(frozen=True, eq=False)
class Melody:
    """A tune for one cue.

    Attributes:
        sound: [n] mono at `pitch_classes.SAMPLE_RATE`, n at least 1.
        frames: pitch classes F that a window is told.
        is_long: the cue is longer than a window.
    """

    sound: np.ndarray
    frames: int
    is_long: bool = False

    def pitches(self, start_s: Fraction) -> np.ndarray:
        """The pitch classes (C = 0) that a window is told of. [F] uint8.

        Args:
            start_s: where the window begins.
        """
        span = SPAN_S * SAMPLE_RATE
        if start_s == 0 and not self.is_long:
            return np.resize(pitch_classes(self.sound[:span]), self.frames)  # repeated from its beginning, or cut
        places = (int(start_s * SAMPLE_RATE) + np.arange(span)) % len(self.sound)
        return np.resize(pitch_classes(self.sound[places]), self.frames)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of all that windows may be told of."""
        told = pitch_classes(self.sound)
        return digest_bytes(f"{len(self.sound)} {self.frames} {self.is_long}".encode(), told.tobytes())
