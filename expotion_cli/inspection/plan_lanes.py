"""A cue plan as lanes: hit points, intensity, sections and the beat grid, not yet drawn."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np

from expotion_cli.inspection.curves import to_columns
from expotion_cli.inspection.marks import (
    DARK,
    HEADS,
    LOW,
    ORANGE,
    PURPLE,
    RED,
    TALL,
    THIN,
    Borders,
    Curve,
    Lane,
    Pins,
    Shades,
    Steps,
    Ticks,
)
from expotion_cli.spotting.hits import CAUSES, HitPoint
from expotion_cli.spotting.plan import CuePlan
from expotion_cli.timing import STEPS_PER_BEAT

CAUSE_COLOURS = dict(zip(CAUSES, (PURPLE, RED, ORANGE), strict=True))
CAUSE_HEADS = dict(zip(CAUSES, HEADS, strict=True))
BEAT_LIMIT = 400
"""More beats than this can't be told apart: only bars are shown, or nothing."""
_PIN_COLUMNS = 3


def plan_lanes(plan: CuePlan, duration: Fraction, max_columns: int) -> list[Lane]:
    """The lanes of a cue plan, top to bottom.

    Args:
        plan: what to show.
        duration: of the picture, in seconds.
        max_columns: the plot's width in pixels.
    """
    return [
        _hit_points(plan, max_columns),
        _intensity(plan, duration, max_columns),
        _sections(plan),
        _beat_grid(plan, duration),
    ]


def beat_times(plan: CuePlan, duration: Fraction) -> list[tuple[float, bool]]:
    """(time in seconds, whether a bar begins) of the beats on the picture, bent as the plan's tempo map bends them.

    Bars alone where there are too many beats; nothing where there are too many bars.
    """
    timeline = plan.tempo.timeline(duration)
    count = -(-timeline.num_steps // STEPS_PER_BEAT) + 1
    every = 1 if count <= BEAT_LIMIT else plan.tempo.beats_per_bar
    if count / every > BEAT_LIMIT:
        return []
    beats = np.arange(0, count, every)
    times = timeline.time_of(beats * STEPS_PER_BEAT)
    found = zip(times.tolist(), (beats % plan.tempo.beats_per_bar == 0).tolist(), strict=True)
    return [(time, strong) for time, strong in found if 0 <= time < float(duration)]


def drawn_hits(plan: CuePlan, max_columns: int) -> list[HitPoint]:
    """The heaviest hit point of each three columns, in order of time: all of them unless a clip is long."""
    heaviest: dict[int, HitPoint] = {}
    for hit in plan.hits:
        column = int(hit.time_s / plan.duration_s * max_columns / _PIN_COLUMNS)
        if column not in heaviest or hit.weight > heaviest[column].weight:
            heaviest[column] = hit
    return list(heaviest.values())


def _hit_points(plan: CuePlan, max_columns: int) -> Lane:
    shown, marks, facts = drawn_hits(plan, max_columns), [], []
    dense = is_dense(plan, max_columns)
    causes = [cause for cause in CAUSES if any(hit.cause == cause for hit in plan.hits)]
    for cause in causes:
        own = tuple(
            (hit.time_s, hit.weight, "" if dense else CAUSE_HEADS[cause]) for hit in shown if hit.cause == cause
        )
        marks.append(Pins(own, CAUSE_COLOURS[cause]))
        facts.append(f"{cause} {sum(hit.cause == cause for hit in plan.hits)}")
    return Lane(
        "Hit points", "height: weight", TALL, 0, 1.15, tuple(marks),
        keys=tuple((cause, CAUSE_COLOURS[cause]) for cause in causes), facts=tuple(facts),
        levels=((0, "0"), (0.5, "0.5"), (1, "1")), said=None if plan.hits else "no hit points", has_beats=True,
    )  # fmt: skip


def _intensity(plan: CuePlan, duration: Fraction, max_columns: int) -> Lane:
    values = np.array(plan.intensity.values)
    everywhere = np.ones(len(values), bool)
    curve = to_columns(values, everywhere, plan.intensity.rate_hz, plan.duration_s, max_columns)
    timeline = plan.tempo.timeline(duration)
    bar = timeline.bar_steps
    edges = timeline.time_of(np.arange(len(plan.intensity.bars) + 1) * bar)
    edges = np.clip(edges, 0, plan.duration_s)
    steps = Steps(tuple(edges.tolist()), plan.intensity.bars, PURPLE)
    borders = Borders(tuple(section.start_s for section in plan.sections[1:]), DARK)
    has_bars = len(plan.intensity.bars) <= BEAT_LIMIT
    return Lane(
        "Intensity", "filled: mean of each bar" if has_bars else "", TALL, 0, 1,
        (*((steps,) if has_bars else ()), Curve(curve, PURPLE), borders),
        facts=(f"mean {values.mean():.2f}", f"{values.min():.2f} to {values.max():.2f}"),
        levels=((0, "0"), (0.5, "0.5"), (1, "1")),
    )  # fmt: skip


def _sections(plan: CuePlan) -> Lane:
    spans = tuple((each.start_s, each.end_s, 0.12 + 0.6 * each.intensity) for each in plan.sections)
    words = tuple(f"{each.intensity:.2f}" for each in plan.sections)
    count = len(plan.sections)
    facts = (f"{count} section{'' if count == 1 else 's'}",)
    return Lane("Sections", "", THIN, 0, 1, (Shades(spans, words, PURPLE),), facts=facts)


def _beat_grid(plan: CuePlan, duration: Fraction) -> Lane:
    beats, bpm = beat_times(plan, duration), f"{float(plan.tempo.bpm):.1f} bpm"
    strong = Ticks(tuple((time, 1.0) for time, first in beats if first), DARK, width=2.4)
    weak = Ticks(tuple((time, 0.55) for time, first in beats if not first), DARK, width=1.2)
    said = None if beats else f"{bpm}: too many beats to draw"
    most = max((abs(factor - 1) for _, factor in plan.tempo.bends), default=0.0)
    facts = (bpm, f"bent by {most:.1%}") if most else (bpm,)
    return Lane("Beat grid", "", LOW - 10, 0, 1, (strong, weak), said=said, facts=facts)


def is_dense(plan: CuePlan, max_columns: int) -> bool:
    """Whether hit points stand too close for heads, and for marks on the pictures."""
    gaps = [b.time_s - a.time_s for a, b in itertools.pairwise(plan.hits)]
    return bool(gaps) and float(np.median(gaps)) / plan.duration_s * max_columns < 9
