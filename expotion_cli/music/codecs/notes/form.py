"""The form of a cue, bar by bar: opening, build, peak and ending; sections; themes that return."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from expotion_cli.spotting.plan import CuePlan
    from expotion_cli.timing import Timeline

PHRASE_BARS = 8
THEME_BARS = 4
_KEPT_BARS = 6
"""Bars of a theme that return note by note; the rest of the phrase is continued anew over its chords."""
_MATERIAL = "AABACABC"
"""Which theme each section brings, from the first on and again after the last."""
_ARC = ((0.0, 0.2, 0.75, 0.92, 1.0), (0.35, 0.55, 0.95, 0.85, 0.6))
_ARC_SHARE, _CONTRAST = 0.25, 0.35
_LONGEST_SECTION, _SHORTEST_SECTION = 12, 4
_OPENINGS = ((32, 4), (14, 2), (7, 1))
"""(from so many bars on, bars of opening)."""


@dataclass(frozen=True)
class BarForm:
    """What one bar is for.

    Attributes:
        intensity: 0..1, how much plays in it.
        section: number of the section.
        starts_section: it is a section's first bar.
        ends_section: it is a section's last bar, and another one follows.
        is_opening: the theme has not begun yet.
        theme: the letter of the section's theme.
        place: the bar's number from where the theme begins; negative in the opening.
        melody_from: the bar whose melody returns in this one, or None.
        harmony_from: the bar whose chords return in this one, or None.
    """

    intensity: float
    section: int
    starts_section: bool
    ends_section: bool
    is_opening: bool
    theme: str
    place: int
    melody_from: int | None = None
    harmony_from: int | None = None


def plan_form(
    plan: CuePlan, timeline: Timeline, shift: np.ndarray | float = 0.0, changes: Sequence[int] = ()
) -> tuple[BarForm, ...]:
    """The bars of a cue.

    Intensity is that of the plan, drawn a little towards an arc that rises to a peak at three quarters; where the plan
    has none, the arc alone counts. Sections are the plan's, on bar lines; long ones are parted into phrases.

    Args:
        plan: of the cue.
        timeline: its beat grid.
        shift: is added to the bars' intensity; one number, or one for each bar.
        changes: bars with which a section begins in any case, apart from the first.
    """
    bar = timeline.bar_steps
    count = -(-timeline.num_steps // bar)
    intensity = np.clip(bar_intensity(plan, timeline) + shift, 0, 1)
    starts = _section_starts(plan, timeline, count, changes)
    opening = next((bars for least, bars in _OPENINGS if count >= least), 0)
    edges = [*starts, count]
    first_of: dict[str, int] = {}
    bars: list[BarForm] = []
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        theme = _MATERIAL[number % len(_MATERIAL)]
        begins = start + (opening if number == 0 else 0)
        origin = first_of.setdefault(theme, begins)
        for place in range(start, stop):
            melody = harmony = None
            inside = place - begins
            if inside >= 0 and origin != begins:
                melody, harmony = _returning(inside, origin, begins)
            elif inside >= 0:
                melody = harmony = _repeated(inside, begins, stop - begins)
            bars.append(
                BarForm(
                    float(intensity[place]),
                    number,
                    place == start,
                    place == stop - 1 and stop < count,
                    inside < 0,
                    theme,
                    inside,
                    melody,
                    harmony,
                )
            )
    return tuple(bars)


def _returning(inside: int, origin: int, begins: int) -> tuple[int | None, int | None]:
    """Bars that return in a section that brings back a theme: its melody first, its chords for a whole phrase."""
    if inside >= PHRASE_BARS or origin + inside >= begins:
        return None, None
    return origin + inside if inside < _KEPT_BARS else None, origin + inside


def _repeated(inside: int, begins: int, length: int) -> int | None:
    """The bar that a new theme repeats: the first bars of a phrase begin its second half too."""
    half = THEME_BARS if length >= 6 else 2
    return begins + inside - half if half <= inside < half + half // 2 and length >= half + half // 2 else None


def bar_intensity(plan: CuePlan, timeline: Timeline) -> np.ndarray:
    """[number of bars] 0..1: the plan's intensity in each bar, drawn towards an arc."""
    bar = timeline.bar_steps
    count = -(-timeline.num_steps // bar)
    edges = np.clip(timeline.time_of(np.arange(count + 1) * bar), 0, float(timeline.duration))
    seen = np.array([plan.intensity.at(np.linspace(a, b, 9)).mean() for a, b in itertools.pairwise(edges)])
    arc = np.interp((np.arange(count) + 0.5) / count, *_ARC)
    share = (1 - _ARC_SHARE) * np.clip((seen.max() - seen.min()) / _CONTRAST, 0, 1)
    return np.asarray(np.clip(share * seen + (1 - share) * arc, 0, 1))


def _section_starts(plan: CuePlan, timeline: Timeline, count: int, changes: Sequence[int]) -> list[int]:
    """First bars of the sections."""
    bar = timeline.bar_steps
    starts = sorted({0, *changes})
    for section in plan.sections[1:]:
        place = round(timeline.step_at(section.start_s) / bar)
        if all(abs(place - other) >= _SHORTEST_SECTION for other in (*starts, count)) and place < count:
            starts.append(place)
    starts.sort()
    found: list[int] = []
    for start, stop in zip(starts, [*starts[1:], count], strict=True):
        found.append(start)
        while stop - found[-1] > _LONGEST_SECTION:
            found.append(found[-1] + PHRASE_BARS)
    return found


def smooth_bars(values: Sequence[float], is_loop: bool = False) -> np.ndarray:
    """[n] each bar with half of its neighbours; in a loop the last and the first one are neighbours."""
    padded = np.pad(np.asarray(values, dtype=float), 1, mode="wrap" if is_loop else "edge")
    return np.asarray(0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:])
