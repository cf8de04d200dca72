"""Plans of cues that repeat: whole bars fill the picture, and what is asked at its end meets what is asked at first."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np

from expotion_cli.errors import ClipError
from expotion_cli.spotting.grid import bend_to_hits
from expotion_cli.spotting.hits import USER, HitPoint
from expotion_cli.spotting.plan import CuePlan
from expotion_cli.spotting.sections import by_bars
from expotion_cli.timing import MOST_BEND, STEPS_PER_BEAT, Tempo

_SEAM_S = 2.0
"""Intensity comes to the same value on both sides of the seam over so many seconds, at most a quarter of the clip."""
_HELD = 200.0
"""Weight that keeps the last bar line where the picture ends while beats bend to hit points."""


def close(plan: CuePlan, duration: Fraction, bpm_range: tuple[float, float]) -> CuePlan:
    """A plan whose bars fill the picture: the first begins with it, the last ends with it.

    Of the tempos at which that is so, the one nearest to the plan's is taken. The intensity on both sides of the seam
    is the same.

    Args:
        plan: from spotting, or given.
        duration: of the picture, in seconds.
        bpm_range: lowest and highest tempo; where they are equal, or the plan is given, it may change by 3 %.

    Raises:
        ClipError: no tempo in the range fills the picture with whole bars.
    """
    tempo = _whole_bars(plan.tempo, duration, _allowed(plan, bpm_range))
    tempo = _bent(tempo, plan, duration)
    values = np.array(plan.intensity.values)
    reach = max(1, min(round(_SEAM_S * plan.intensity.rate_hz), len(values) // 4))
    share = 0.5 * (1 - np.arange(reach) / reach)
    step = values[-1] - values[0]
    values[:reach] += share * step
    values[len(values) - reach :] -= share[::-1] * step
    values = np.round(np.clip(values, 0, 1), 3)
    intensity = replace(plan.intensity, values=tuple(values.tolist()), bars=by_bars(values, tempo.timeline(duration)))
    return replace(plan, tempo=tempo, intensity=intensity)


def _allowed(plan: CuePlan, bpm_range: tuple[float, float]) -> tuple[float, float]:
    low, high = bpm_range
    if plan.is_given:
        low = high = float(plan.tempo.bpm)
    return (low, high) if low < high else (low * (1 - MOST_BEND), high * (1 + MOST_BEND))


def _whole_bars(tempo: Tempo, duration: Fraction, allowed: tuple[float, float]) -> Tempo:
    low, high = allowed
    bar = tempo.beats_per_bar * 60 / duration  # the tempo at which one bar fills the picture
    if bar > high * (1 + 1e-9):
        bar_s = float(tempo.beats_per_bar * 60 / high)
        raise ClipError(
            f"the clip lasts {float(duration):.3f} s, too short for a loop: a bar takes {bar_s:.3f} s at {high:g} bpm.",
            remedy="Leave --loop out, or allow a faster --tempo.",
        )
    fewest, most = math.ceil(low / float(bar) - 1e-9), math.floor(high / float(bar) + 1e-9)
    counts = range(max(1, fewest), most + 1)
    if not counts:
        around = " or ".join(f"{float(count * bar):.2f}" for count in (most, most + 1) if count)
        raise ClipError(
            f"whole bars fill its {float(duration):.3f} s at {around} bpm, and the tempo may be {low:.4g}-{high:.4g}.",
            remedy="Give one of these with --tempo, or leave --loop out.",
        )
    count = min(counts, key=lambda number: abs(math.log(float(number * bar) / float(tempo.bpm))))
    return replace(tempo, bpm=Fraction(count * bar), start=Fraction(0), bends=())


def _bent(tempo: Tempo, plan: CuePlan, duration: Fraction) -> Tempo:
    """The tempo with its beats bent to the hit points, and its last bar line where the picture ends."""
    if not plan.hits:
        return tempo
    end = HitPoint(float(duration), _HELD, USER, "the loop's end")
    bent = bend_to_hits(tempo, [*plan.hits, end], float(duration))
    beats = float(duration * tempo.bpm / 60)
    exact = beats * STEPS_PER_BEAT / bent.timeline(duration).step_at(float(duration))
    bends = tuple((time_s, factor * exact) for time_s, factor in bent.bends)
    return replace(bent, bends=bends) if all(abs(factor - 1) <= MOST_BEND for _, factor in bends) else tempo
