"""Fits a beat grid to hit points: tempo and bar line first, then a tempo map that bends by at most 3 %."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from expotion_cli.spotting.hits import HitPoint
from expotion_cli.timing import MOST_BEND, Tempo, exact

PLACES = ((0.0, 1.0), (0.5, 0.75), (0.25, 0.45), (0.75, 0.45))
"""Places within a beat where an accent sits well, and how well: the beat, its half, its quarters."""
_WIDTH_S = 0.03
_FREE, _PULSED = 0.12, 0.015
"""How far the tempo may move from the one proposed, without a pulse in the motion and with one."""
_PHASES = 48
_THIRD_BEAT = 0.5
_EASY_S, _EASY_BEND, _EASY_TURN = 0.01, 0.03, 0.012
_ROUNDS, _STRETCH = 3, 32
"""What counts as a standard error of a hit point, a bend, and a change of bend from one beat to the next."""


def fit_grid(tempo: Tempo, hits: Sequence[HitPoint], duration_s: float, bpm_range: tuple[float, float]) -> Tempo:
    """Move tempo and bar line so that hit points fall on beats, halves or quarters of beats, then bend the rest.

    Args:
        tempo: proposed, e.g. by `tempo.choose_tempo`.
        hits: of the clip; without any the tempo stays as it is.
        duration_s: of the clip.
        bpm_range: lowest and highest tempo; equal ends fix it.

    Returns:
        The tempo, its bar line and its `bends`.
    """
    if not hits:
        return tempo
    low, high = bpm_range
    reach = _PULSED if tempo.confidence > 0 else _FREE
    middle = float(tempo.bpm)
    bpms = np.array([middle]) if low == high else np.clip(middle * np.linspace(1 - reach, 1 + reach, 49), low, high)
    times, weights = _arrays(hits)
    best, bpm, first_s = -1.0, middle, 0.0
    for candidate in sorted(set(bpms.tolist()), key=lambda value: abs(value - middle)):
        beat_s = 60 / candidate
        phases = np.arange(_PHASES) / _PHASES * beat_s
        met = _fit(times[None] - phases[:, None], beat_s) @ weights
        if met.max() > best + 1e-9:
            best, bpm, first_s = float(met.max()), candidate, float(phases[met.argmax()])
    bpm_exact = tempo.bpm if low == high else Fraction(round(bpm * 1000), 1000)
    start = _bar_line(first_s, 60 / float(bpm_exact), times, weights, tempo.beats_per_bar)
    return bend_to_hits(replace(tempo, bpm=bpm_exact, start=start), hits, duration_s)


def bend_to_hits(tempo: Tempo, hits: Sequence[HitPoint], duration_s: float) -> Tempo:
    """A tempo map that brings each hit point as near to its place on the grid as 3 % allow.

    The map is a smooth curve through one value a beat: a least-squares fit (`scipy.optimize.lsq_linear`) of the hit
    points' distances from their places, against bending at all and against changing the bend.

    Args:
        tempo: with its bar line.
        hits: of the clip.
        duration_s: of the clip.
    """
    beat_s = 60 / float(tempo.bpm)
    times, weights = _arrays(hits)
    after = times - float(tempo.start)
    nodes = np.arange(0, duration_s + beat_s, beat_s)
    bends, ahead_s = np.zeros(len(nodes)), 0.0
    for first in range(0, len(nodes) - 1, _STRETCH):  # stretch by stretch, so that an hour costs little
        last = min(first + _STRETCH, len(nodes) - 1)
        inside = (times >= nodes[first]) & (times < nodes[last])
        if last == len(nodes) - 1:
            inside |= times >= nodes[last]
        start = bends[first] if first else None
        found = _bends(nodes[first : last + 1], times[inside], after[inside] + ahead_s, weights[inside], beat_s, start)
        bends[first : last + 1] = found
        ahead_s += float(((found[1:] + found[:-1]) / 2).sum() * beat_s)
    factors = [round(1 + float(bend), 5) for bend in bends]
    return replace(tempo, bends=tuple(zip(np.round(nodes, 4).tolist(), factors, strict=True)))


def _bends(
    nodes: np.ndarray, times: np.ndarray, after: np.ndarray, weights: np.ndarray, beat_s: float, start: float | None
) -> np.ndarray:
    """[nodes] bends of one stretch of the grid.

    Args:
        nodes: [n] seconds, a beat apart.
        times: [h] seconds of the hit points.
        after: [h] places of the hit points on the grid, as far as it is bent before the stretch, in seconds.
        weights: [h] of the hit points.
        beat_s: length of a beat.
        start: bend at the first node, from the stretch before; None for the first stretch.
    """
    from scipy.optimize import lsq_linear

    # How far the grid runs ahead at a hit point is the integral of the bends before it: hat functions at the nodes.
    beats = (times[:, None] - nodes[None]) / beat_s
    up, down = np.clip(beats + 1, 0, 1), np.clip(beats, 0, 1)
    rows = beat_s * (up**2 / 2 + down - down**2 / 2)
    rows[:, 0] -= beat_s / 2  # nothing is counted before the first node
    turns = np.diff(np.eye(len(nodes)), axis=0) / _EASY_TURN
    share = np.sqrt(weights)[:, None] / _EASY_S
    fixed = np.zeros((0, len(nodes))) if start is None else np.eye(len(nodes))[:1] * 1e4
    system = np.concatenate([rows * share, np.eye(len(nodes)) / _EASY_BEND, turns, fixed])
    bends, limit = np.zeros(len(nodes)), MOST_BEND - 1e-4
    for _ in range(_ROUNDS):  # a bent grid may bring another place nearer
        places = after + rows @ bends
        wanted = places + nearest_places(places, beat_s)[0] - after
        rest = np.zeros(2 * len(nodes) - 1)
        target = np.concatenate([wanted * share[:, 0], rest, [] if start is None else [start * 1e4]])
        bends = lsq_linear(system, target, bounds=(-limit, limit)).x
    return np.asarray(bends)


def nearest_places(times_s: np.ndarray, beat_s: float) -> tuple[np.ndarray, np.ndarray]:
    """The place of an even grid that suits each time: on the beat rather than near it, quarters only if clearly nearer.

    Args:
        times_s: [n] seconds after a beat.
        beat_s: length of a beat.

    Returns:
        ([n] seconds from each time to its place, [n] 0..1 how well an accent sits there).
    """
    beats = np.asarray(times_s, dtype=np.float64) / beat_s
    distances, costs = [], []
    for place, strength in PLACES:
        away = (np.rint(beats - place) + place - beats) * beat_s
        distances.append(away)
        costs.append(np.abs(away) + (1 - strength) * _WIDTH_S)
    best = np.argmin(costs, axis=0)
    strengths = np.array([strength for _, strength in PLACES])
    return np.take_along_axis(np.array(distances), best[None], axis=0)[0], strengths[best]


def _arrays(hits: Sequence[HitPoint]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([hit.time_s for hit in hits]), np.array([0.2 + hit.weight for hit in hits])


def _fit(times_s: np.ndarray, beat_s: float) -> np.ndarray:
    away, strength = nearest_places(times_s, beat_s)
    return strength * np.exp(-0.5 * (away / _WIDTH_S) ** 2)


def _bar_line(first_s: float, beat_s: float, times: np.ndarray, weights: np.ndarray, beats_per_bar: int) -> Fraction:
    """When the bar begins in which the picture begins: in (-one bar, 0]."""
    beats = (times - first_s) / beat_s
    near = np.exp(-0.5 * ((beats - np.rint(beats)) * beat_s / _WIDTH_S) ** 2) * weights
    places = np.rint(beats).astype(int)
    third = _THIRD_BEAT if beats_per_bar % 2 == 0 else 0.0
    scores = [
        near[places % beats_per_bar == strong].sum()
        + third * near[(places - strong) % beats_per_bar == beats_per_bar // 2].sum()
        for strong in range(beats_per_bar)
    ]
    bar_s = beats_per_bar * beat_s
    downbeat = first_s + beat_s * int(np.argmax(scores))
    start = exact(-(-downbeat % bar_s))
    return start if float(start) > -bar_s + 1e-6 and math.isfinite(bar_s) else Fraction(0)
