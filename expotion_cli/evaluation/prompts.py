"""What a prompt states in figures: tempo and key; and whether music keeps to it."""

from __future__ import annotations

import math

TEMPO_TOLERANCE = 0.1
_OCTAVES = (0.25, 0.5, 1.0, 2.0, 4.0)


def meets_tempo(bpm: float, wanted_bpm: float) -> float:
    """1 if a tempo is the wanted one, or an octave of it, within 10 %; else 0."""
    if not math.isfinite(bpm):
        return 0.0
    return float(any(abs(bpm * octave / wanted_bpm - 1) <= TEMPO_TOLERANCE + 1e-9 for octave in _OCTAVES))
