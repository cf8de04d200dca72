"""The cue plan: what the picture asks of the music of one clip, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from expotion_cli.spotting.activity import SeenStream, motion_signal
from expotion_cli.spotting.cuts import Cut
from expotion_cli.spotting.grid import bend_to_hits, fit_grid
from expotion_cli.spotting.hits import USER, HitPoint, find_hit_points
from expotion_cli.spotting.sections import (
    INTENSITY_RATE_HZ,
    Intensity,
    Section,
    by_bars,
    find_intensity,
    find_sections,
)
from expotion_cli.spotting.tempo import choose_tempo
from expotion_cli.timing import COMMON_METRE, Tempo

SPOTTING_VERSION = 3
"""To be raised when the same streams come to give another plan; part of every cue's digest."""
MIN_GAP_S = 0.05
"""Hit points of a plan lie at least this far apart."""


@dataclass(frozen=True)
class CuePlan:
    """What the music of a clip should do, and when. Times are seconds on the picture's clock.

    Attributes:
        duration_s: of the picture.
        tempo: of the music, with bar line and tempo map. Music without a beat grid ignores it.
        hits: hit points, in order of time.
        cuts: changes of scene, in order of time.
        sections: they fill the clip.
        intensity: how strong the music should be.
        key: tonic, e.g. "D" or "Bb"; None leaves it to recipe and model.
        is_minor: its mode; None likewise.
        start_s: when the music begins.
        end_s: when it has ended.
        is_given: whether it was read from a file instead of found in the picture.
    """

    duration_s: float
    tempo: Tempo
    intensity: Intensity
    hits: tuple[HitPoint, ...] = ()
    cuts: tuple[Cut, ...] = ()
    sections: tuple[Section, ...] = ()
    key: str | None = None
    is_minor: bool | None = None
    start_s: float = 0.0
    end_s: float | None = None
    is_given: bool = False

    @property
    def words(self) -> str:
        """What a given plan adds to the prompt, for models that take it from words."""
        mode = {None: "", False: "major", True: "minor"}[self.is_minor]
        words = f"in {self.key} {mode}".strip() if self.key else mode
        return words if self.is_given else ""

    @property
    def heard_hits(self) -> tuple[HitPoint, ...]:
        """The hit points that lie within the music, in order of time."""
        end_s = math.inf if self.end_s is None else self.end_s
        return tuple(hit for hit in self.hits if self.start_s <= hit.time_s < end_s)

    @property
    def marks(self) -> tuple[tuple[float, str], ...]:
        """(seconds, words) of what a composer wants to see in a DAW: sections and hit points, in order of time."""
        sections = [
            (section.start_s, f"section {number}: intensity {section.intensity:.1f}")
            for number, section in enumerate(self.sections, start=1)
        ]
        hits = [(hit.time_s, f"hit: {hit.cause} {hit.weight:.1f}") for hit in self.hits]
        return tuple(sorted([*sections, *hits]))


def make_plan(
    streams: Mapping[str, SeenStream],
    duration: Fraction,
    bpm_range: tuple[float, float],
    *,
    cuts: Sequence[Cut] = (),
    user_hits: Sequence[HitPoint] = (),
    metre: str = COMMON_METRE,
) -> CuePlan:
    """Spot a clip: its hit points, the tempo that meets them, its sections and intensity.

    Args:
        streams: embedding streams by name.
        duration: of the picture, in seconds.
        bpm_range: lowest and highest tempo; equal ends fix it.
        cuts: changes of scene.
        user_hits: hit points that stand whatever the picture shows; those found within 0.3 s of one give way.
        metre: of the music, one of `timing.METRES`.
    """
    duration_s = float(duration)
    found = find_hit_points(streams, duration_s, [(cut.time_s, f"{cut.kind} cut") for cut in cuts])
    hits = with_user_hits(found, user_hits)
    energy, accents, rate_hz = motion_signal(streams, duration_s)
    proposed = choose_tempo(energy, accents, rate_hz, duration, bpm_range).in_metre(metre)
    tempo = fit_grid(proposed, hits, duration_s, bpm_range)
    values, source = find_intensity(streams, duration_s)
    values = np.round(values, 3)
    intensity = Intensity(INTENSITY_RATE_HZ, tuple(values.tolist()), by_bars(values, tempo.timeline(duration)), source)
    sections = find_sections(values, duration_s, [cut.time_s for cut in cuts])
    return CuePlan(duration_s, tempo, intensity, hits, tuple(cuts), sections)


def with_user_hits(found: Sequence[HitPoint], own: Sequence[HitPoint]) -> tuple[HitPoint, ...]:
    """Hit points with a user's own among them.

    Those found within 0.3 s of one give way; the user's from elsewhere only if they are closer than `MIN_GAP_S`.
    """

    def stays(hit: HitPoint) -> bool:
        gap_s = MIN_GAP_S if hit.cause == USER else 0.3
        return all(abs(hit.time_s - mine.time_s) >= gap_s for mine in own)

    return tuple(sorted([*filter(stays, found), *own], key=lambda hit: hit.time_s))


def add_user_hits(plan: CuePlan, own: Sequence[HitPoint]) -> CuePlan:
    """A given plan with a user's own hit points added.

    Its tempo and its bar line stay. So does a tempo map; where there is none, beats bend to the hit points.

    Args:
        plan: read from a file.
        own: hit points to add.
    """
    if not own:
        return plan
    hits = with_user_hits(plan.hits, own)
    tempo = plan.tempo if plan.tempo.bends else bend_to_hits(plan.tempo, hits, plan.duration_s)
    return replace(plan, hits=hits, tempo=tempo)
