"""The gain and the limiter of the finished sound: what to try next, and what to say where it can't be met."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from expotion_cli import recipe
from expotion_cli.media.loudness import RESOLUTION_DB, Loudness

TOLERANCE_LU = 0.5
MET_LU = TOLERANCE_LU - RESOLUTION_DB / 2  # of the measured loudness: what rounding may hide doesn't count
AIM_LU = 0.3
LOWEST_LUFS = recipe.bounds("loudness.lufs")[0]
MOST_LIMITING_DB = 6.0  # more would flatten attacks: from there on the result stays below its loudness


@dataclass(frozen=True)
class Level:
    """The gain and limiter setting of one attempt.

    Attributes:
        before_dbtp: highest peak before the gain.
        wanted_db: gain that the loudness asks for.
        ceiling_dbtp: of the limiter.
        limited: whether there is a limiter.
    """

    before_dbtp: float
    wanted_db: float
    ceiling_dbtp: float
    limited: bool

    @property
    def _most_db(self) -> float:
        return self.ceiling_dbtp + MOST_LIMITING_DB - self.before_dbtp

    @property
    def gain_db(self) -> float:
        """The gain wanted, or the highest that needs no more limiting than `MOST_LIMITING_DB`."""
        return min(self.wanted_db, self._most_db)

    @property
    def is_held(self) -> bool:
        """Whether the limiter's bound holds the gain back."""
        return self.wanted_db > self._most_db

    @property
    def excess_db(self) -> float:
        """By how much the highest peak passes the ceiling after the gain; negative below it."""
        return self.before_dbtp + self.gain_db - self.ceiling_dbtp

    @property
    def limited_db(self) -> float:
        """What the limiter takes off the highest peak."""
        return max(0.0, self.excess_db) if self.limited else 0.0


@dataclass(frozen=True)
class Attempt:
    """A level and how it measured once encoded: the error of the loudness in LU, the excess over the peak in dB."""

    level: Level
    loudness: Loudness
    error_lu: float
    excess_db: float

    @property
    def distance(self) -> tuple[float, float]:
        """How far it is from right: the peak counts first."""
        return max(0.0, self.excess_db), abs(self.error_lu)

    def is_right(self, allowed_lu: float) -> bool:
        """Whether nothing better is to be had under the peak."""
        return self.excess_db <= 0 and (abs(self.error_lu) <= allowed_lu or (self.level.is_held and self.error_lu > 0))


def corrected(tried: Sequence[Attempt]) -> Level:
    """The level to try next."""
    last, slope = tried[-1], 1.0
    for one, other in itertools.pairwise(tried):
        change_db = other.level.gain_db - one.level.gain_db
        if abs(change_db) > 0.2:
            # the limiter takes back part of a gain: learn how much is left of it
            slope = float(np.clip((one.error_lu - other.error_lu) / change_db, 0.1, 1.0))
    lower_db = last.excess_db + RESOLUTION_DB if last.excess_db > 0 else 0.0
    gain_db = last.level.gain_db + last.error_lu / slope
    level = replace(last.level, wanted_db=gain_db, ceiling_dbtp=last.level.ceiling_dbtp - lower_db)
    return replace(level, limited=level.limited or level.excess_db > 0 or lower_db > 0)


def unmet(attempt: Attempt, target_lufs: float, peak_dbtp: float) -> Iterator[str]:
    """A note where loudness or peak isn't what was asked for, with the loudness that works.

    Args:
        attempt: the one that was kept.
        target_lufs: the loudness asked for.
        peak_dbtp: the highest true peak asked for.
    """
    found = attempt.loudness
    if not math.isfinite(attempt.error_lu):
        yield "encoding leaves nothing of the sound that can be measured"
    elif attempt.excess_db > 0:
        yield f"peaks reach {found.true_peak_dbtp:.1f} dBTP instead of {peak_dbtp:g}"
    elif abs(attempt.error_lu) > MET_LU:
        reason = f"louder, its peaks would pass {peak_dbtp:g} dBTP"
        works = math.floor(found.integrated_lufs + AIM_LU + RESOLUTION_DB / 2)
        remedy = f"; --lufs {works} can be met" if works >= LOWEST_LUFS else ""
        yield f"The loudness is {found.integrated_lufs:.1f} LUFS, not {target_lufs:g}: {reason}{remedy}."
