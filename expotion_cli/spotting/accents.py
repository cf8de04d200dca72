"""Accents of the motion (where it stops or turns sharply) and stillness (when nobody moves)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from expotion_cli.audio.onsets import onset_times
from expotion_cli.spotting.activity import ACTIVITY_FLOORS, normalise
from expotion_cli.vision.signals import runs

if TYPE_CHECKING:
    from expotion_cli.vision.encoder import EmbeddingStream


ACCENT_DIMS = {"pose": "accent", "face": "head_accent", "flow": "accent"}
ENERGY_DIMS = {"pose": "energy", "flow": "energy", "face": "head_speed"}
"""The dimension of each stream that measures how much moves, the most reliable stream first."""
CLEAR_ACCENT = 0.3
"""Weaker accents are mostly jitter. In shares of the clip's own 95th percentile plus a floor (`activity.normalise`)."""
STILL_SHARE, STILL_S, STILL_BLUR_S = 0.5, 0.5, 0.2
"""Still is less energy than this share of the activity floor, for at least STILL_S, averaged over STILL_BLUR_S."""
MIN_COVERAGE = 0.5
"""A stream counts if it saw somebody in at least this share of its rows."""


@dataclass(frozen=True)
class Accent:
    """A moment where motion stops or turns sharply.

    Attributes:
        time_s: on the picture's clock.
        strength: 0..1.5, in shares of the clip's own 95th percentile plus a floor (`activity.normalise`).
        source: the stream that saw it.
    """

    time_s: float
    strength: float
    source: str


@dataclass(frozen=True)
class Stillness:
    """When nobody moves.

    Attributes:
        source: the stream it was found in; None where no stream saw enough.
        threshold: energy below which it counts as still, in that stream's unit.
        spans_s: (start, end) of each stretch.
    """

    source: str | None
    threshold: float
    spans_s: tuple[tuple[float, float], ...]


def find_accents(streams: dict[str, EmbeddingStream]) -> tuple[Accent, ...]:
    """Find the clear accents of all streams that have an accent dimension, sorted by time."""
    found = []
    for name, dim in ACCENT_DIMS.items():
        stream = streams.get(name)
        if stream is None or dim not in stream.dims or not stream.mask.any():
            continue
        curve = np.nan_to_num(normalise(name, dim, stream.dim(dim), stream.mask)) * stream.mask
        for time_s in onset_times(curve, stream.rate_hz):
            strength = float(curve[min(len(curve) - 1, round(time_s * stream.rate_hz))])
            if strength >= CLEAR_ACCENT:
                found.append(Accent(round(float(time_s), 3), round(strength, 3), name))
    return tuple(sorted(found, key=lambda accent: (accent.time_s, accent.source)))


def find_stillness(streams: dict[str, EmbeddingStream]) -> Stillness:
    """Find when nobody moves, in the most reliable stream that saw somebody at least half of the time."""
    for name, dim in ENERGY_DIMS.items():
        stream = streams.get(name)
        if stream is None or dim not in stream.dims or stream.coverage < MIN_COVERAGE:
            continue
        threshold = STILL_SHARE * ACTIVITY_FLOORS[name, dim]
        reach = max(1, round(STILL_BLUR_S * stream.rate_hz))
        energy = np.convolve(np.pad(stream.dim(dim), (reach // 2, reach - 1 - reach // 2), mode="edge"),
                             np.full(reach, 1 / reach), mode="valid")  # fmt: skip
        spans = [
            (start / stream.rate_hz, stop / stream.rate_hz)
            for start, stop in runs((energy < threshold) & stream.mask)
            if stop - start >= STILL_S * stream.rate_hz
        ]
        return Stillness(name, threshold, tuple(spans))
    return Stillness(None, 0.0, ())
