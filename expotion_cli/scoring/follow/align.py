"""Accent alignment: music of its own time is slipped and bent so that its accents meet the hit points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from expotion_cli.audio.hits import musical_accents, share_met
from expotion_cli.audio.onsets import onset_strength
from expotion_cli.audio.pulse import pulse_clarity
from expotion_cli.recipe import NO_FOLLOW, Follow
from expotion_cli.scoring.follow import ALIGN_VERSION
from expotion_cli.scoring.follow.time_map import Heard, Kernel, TimeMap, find_map
from expotion_cli.scoring.follow.warp import can_stretch, warp
from expotion_cli.spotting.hits import HitPoint
from expotion_cli.timing import MOST_BEND

_KERNELS = (
    Kernel(0.05, 0.12, 1.0, 1.6),
    Kernel(0.08, 0.11, 1.0, 1.6),
    Kernel(0.06, 0.10, 1.3, 2.0),
)
"""Ways to weigh how near and how clear an accent is; which suits a piece shows only once it is warped."""
_PULSE_LOST = 0.05
"""A map that costs more clarity of the pulse than this is not used."""


def aligns(settings: Follow, *, has_tempo: bool) -> bool:
    """Whether music is aligned with hit points before it follows them.

    Args:
        settings: the recipe's table `[follow]`.
        has_tempo: its beats are on a grid that was fitted to the hit points beforehand.
    """
    return settings.align and settings.mode != NO_FOLLOW and not has_tempo


def deciding() -> dict[str, Any]:
    """What alignment depends on besides the music, the hit points and the settings."""
    return {"align": ALIGN_VERSION, "stretches": can_stretch()}


def hashed_fields(settings: Follow, *, has_tempo: bool) -> dict[str, Any]:
    """What alignment adds to the digest of a result; nothing where there is none. For the arguments see `aligns`."""
    return deciding() if aligns(settings, has_tempo=has_tempo) else {}


@dataclass(frozen=True)
class Alignment:
    """What alignment did.

    Attributes:
        hits_before: share of the hit points that accents of the music met as it was composed.
        hits_after: the same as it lies now.
        way: where it lies now; None as composed.
    """

    hits_before: float
    hits_after: float
    way: TimeMap | None = None

    def record(self) -> dict[str, Any]:
        """For the sidecar: `points` are (seconds of the picture, seconds of the music that sound then)."""
        way = self.way
        points = list(zip(way.picture_s, way.music_s, strict=True)) if way is not None else []
        return {
            "hits_before": round(self.hits_before, 3),
            "hits_after": round(self.hits_after, 3),
            "shift_s": round(way.shift_s, 3) if way is not None else 0.0,
            "most_bend": round(max(abs(tempo - 1) for tempo in way.tempos), 4) if way is not None else 0.0,
            "points": [[round(float(at), 3), round(float(heard), 3)] for at, heard in points],
        }


def align(audio: np.ndarray, sample_rate: int, hits: Sequence[HitPoint]) -> tuple[np.ndarray, Alignment | None]:
    """Slip and bend music so that its accents meet hit points, where that helps.

    It begins up to half a beat earlier or later than composed and is at most 3 % faster or slower anywhere; pitch and
    length stay. It stays as it was where no more hit points are met or the pulse would suffer.

    Args:
        audio: [2, n] float32, the music, as long as the picture.
        sample_rate: in Hz.
        hits: to be met, in order of time.

    Returns:
        (the music, what was done; None where there is nothing to measure).
    """
    hits = [hit for hit in hits if hit.time_s < audio.shape[1] / sample_rate]
    if not hits or not np.any(audio):
        return audio, None
    moments_s = np.array([hit.time_s for hit in hits])

    def measured(strength: np.ndarray) -> tuple[float, float]:
        return share_met(moments_s, musical_accents(strength)), pulse_clarity(strength)

    heard, most_bend = Heard.of(audio, sample_rate), MOST_BEND if can_stretch() else 0.0
    before, pulse = measured(heard.strength)
    best, way, clearest = audio, None, (before, pulse)
    for kernel in _KERNELS:
        found = find_map(heard, hits, kernel, most_bend=most_bend)
        if found is None:
            continue
        warped = warp(audio, sample_rate, found)
        met, clarity = measured(onset_strength(warped, sample_rate))
        loses_pulse = math.isfinite(pulse) and not clarity >= pulse - _PULSE_LOST
        if met > before and (met, clarity) > clearest and not loses_pulse:
            best, way, clearest = warped, found, (met, clarity)
    return best, Alignment(before, clearest[0], way)
