"""What is measured of a finished sound, for its sidecar: does it follow, and is it still music."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from expotion_cli.audio.dynamics import measure_dynamics
from expotion_cli.audio.hits import hits
from expotion_cli.audio.onsets import onset_strength
from expotion_cli.audio.pulse import pulse_clarity
from expotion_cli.spotting.plan import CuePlan


def measure_result(video: Path, sample_rate: int, plan: CuePlan) -> dict[str, Any]:
    """Measure the sound of a finished video; null where it is too short, silent or has no hit points.

    Args:
        video: the result.
        sample_rate: of its sound, in Hz.
        plan: whose hit points count.

    Raises:
        DecodeError: the sound can't be read.
    """
    from expotion_cli.media.probe import probe
    from expotion_cli.media.remux import WRITTEN
    from expotion_cli.media.sound import read_clip_sound

    sound = read_clip_sound(probe(video, WRITTEN), sample_rate)
    strength = onset_strength(sound, sample_rate)
    dynamics = measure_dynamics(sound, sample_rate)
    met = hits(np.array([hit.time_s for hit in plan.hits]), strength)
    return {
        "spread_db": _known(dynamics.spread_db, 1),
        "hole_share": _known(dynamics.hole_share, 4),
        "pulse": _known(pulse_clarity(strength), 3),
        "hits": _known(met.value, 3),
        "hits_chance": _known(met.chance, 3),
    }


def _known(value: float, digits: int) -> float | None:
    return round(value, digits) if math.isfinite(value) else None
