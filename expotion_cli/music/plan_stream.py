"""The `plan` stream: what a cue plan asks of the music, on the step grid.

It is made here, not by an encoder: from a cue plan, and in training from what a piece itself would have asked for. The
delay pattern puts voice k of step s at position s + k. So each row also holds the hit points of the steps before it,
one dimension a step back, and says how near the next and the last ones are.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from expotion_cli.spotting.plan import CuePlan
from expotion_cli.timing import BEATS_PER_BAR, STEPS_PER_BEAT, Timeline

PLAN = "plan"
HIT_LAGS = tuple(range(8))
"""Steps back at which each row holds the hit points: as many as there are voices."""
_DECAYS = {"soon": 5.0, "later": 24.0}
"""Steps over which the nearness of a hit point falls to 1/e."""
_SECTION_DECAY = 24.0
PLAN_DIMS = (
    "intensity",
    "intensity_next_bar",
    "intensity_change",
    *(f"hit_back_{lag}" for lag in HIT_LAGS),
    *(f"hit_ahead_{name}" for name in _DECAYS),
    *(f"hit_behind_{name}" for name in _DECAYS),
    "section_ahead",
    "section_behind",
)
_STANDARDS = {"intensity": (0.5, 0.25), "intensity_next_bar": (0.5, 0.25), "intensity_change": (0.0, 0.15)}
_HIT_STANDARD, _NEAR_STANDARD = (0.0, 0.25), (0.1, 0.2)


@dataclass(frozen=True)
class StepPlan:
    """A plan on the step grid.

    Attributes:
        intensity: [B] of each bar, 0..1.
        hits: (step, weight 0..1) of the hit points, in order.
        sections: steps at which sections begin.
        bar_steps: length of a bar.
    """

    intensity: np.ndarray
    hits: tuple[tuple[int, float], ...] = ()
    sections: tuple[int, ...] = ()
    bar_steps: int = STEPS_PER_BEAT * BEATS_PER_BAR

    def shifted(self, start: int) -> StepPlan:
        """The same plan seen from bar line `start` on; what lies before it has negative steps."""
        bar = min(start // self.bar_steps, len(self.intensity) - 1)
        hits = tuple((step - start, weight) for step, weight in self.hits)
        return StepPlan(self.intensity[bar:], hits, tuple(step - start for step in self.sections), self.bar_steps)


def on_steps(plan: CuePlan, timeline: Timeline) -> StepPlan:
    """A cue plan on a cue's step grid; hit points fall on the nearest step.

    Args:
        plan: of the clip.
        timeline: of the cue; it begins with a bar.
    """
    bar = timeline.bar_steps
    edges = timeline.time_of(np.arange(0, timeline.num_steps + bar, bar))
    inside = [np.linspace(max(0.0, a), max(0.0, b), 9) for a, b in itertools.pairwise(edges)]
    bars = np.array([float(plan.intensity.at(times).mean()) for times in inside])
    last = timeline.num_steps - 1
    weights: dict[int, float] = {}
    for hit in plan.hits:
        step = min(max(round(timeline.step_at(hit.time_s)), 0), last)
        weights[step] = max(weights.get(step, 0.0), float(np.clip(hit.weight, 0, 1)))
    sections = tuple(min(max(round(timeline.step_at(section.start_s)), 0), last) for section in plan.sections)
    return StepPlan(bars, tuple(sorted(weights.items())), sections, bar)


def plan_rows(plan: StepPlan, num_steps: int) -> np.ndarray:
    """The values of the plan stream.

    Args:
        plan: on the step grid.
        num_steps: S.

    Returns:
        [S, len(PLAN_DIMS)] float32, standardised.
    """
    steps = np.arange(num_steps)
    bars = steps // plan.bar_steps
    last = len(plan.intensity) - 1
    now, following = (plan.intensity[np.minimum(bars + ahead, last)] for ahead in (0, 1))
    columns = {"intensity": now, "intensity_next_bar": following, "intensity_change": following - now}
    lead = len(HIT_LAGS)
    struck = np.zeros(lead + num_steps)
    for step, weight in plan.hits:
        if -lead <= step < num_steps:
            struck[lead + step] = weight
    for lag in HIT_LAGS:
        columns[f"hit_back_{lag}"] = struck[lead - lag : lead - lag + num_steps]
    places, weights = [step for step, _ in plan.hits], np.array([weight for _, weight in plan.hits])
    for name, decay in _DECAYS.items():
        ahead, behind = _nearness(places, num_steps, decay)
        columns[f"hit_ahead_{name}"] = ahead[0] * _of(weights, ahead[1])
        columns[f"hit_behind_{name}"] = behind[0] * _of(weights, behind[1])
    ahead, behind = _nearness(sorted(set(plan.sections)), num_steps, _SECTION_DECAY)
    columns |= {"section_ahead": ahead[0], "section_behind": behind[0]}
    rows = []
    for name in PLAN_DIMS:
        mean, deviation = _STANDARDS.get(name, _HIT_STANDARD if name.startswith("hit_back") else _NEAR_STANDARD)
        rows.append((columns[name] - mean) / deviation)
    return np.stack(rows, axis=1).astype(np.float32)


def asked(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([S] intensity, [S] weight of the hit point at each step), read back from `plan_rows`."""
    (mean, deviation), (hit_mean, hit_deviation) = _STANDARDS["intensity"], _HIT_STANDARD
    intensity = rows[:, PLAN_DIMS.index("intensity")] * deviation + mean
    return intensity, rows[:, PLAN_DIMS.index("hit_back_0")] * hit_deviation + hit_mean


Nearness = tuple[np.ndarray, np.ndarray]


def _nearness(places: Sequence[int], num_steps: int, decay: float) -> tuple[Nearness, Nearness]:
    """(nearness, number) of the next place from each step on, and of the last one up to it; 0 where there is none."""
    steps = np.arange(num_steps)
    if not len(places):
        none = np.zeros(num_steps), np.zeros(num_steps, int)
        return none, none
    at = np.asarray(places)
    following = np.searchsorted(at, steps, side="left")
    before = np.searchsorted(at, steps, side="right") - 1
    has_next, has_last = following < len(at), before >= 0
    following, before = np.minimum(following, len(at) - 1), np.maximum(before, 0)
    ahead = np.where(has_next, np.exp(-np.abs(at[following] - steps) / decay), 0.0)
    behind = np.where(has_last, np.exp(-np.abs(steps - at[before]) / decay), 0.0)
    return (ahead, following), (behind, before)


def _of(weights: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    return weights[numbers] if len(weights) else np.zeros(len(numbers))
