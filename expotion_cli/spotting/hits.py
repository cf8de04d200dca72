"""Hit points: the few moments of a clip that deserve a musical accent."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from expotion_cli.spotting.activity import SeenStream, activity_curve

GESTURE, CUT, USER = CAUSES = ("gesture", "cut", "user")
RATE_HZ = 50.0
_SMOOTH_S = 0.04
_MIN_GAP_S = 0.3
_CLEAR, _FAINT = 0.15, 0.045
"""Least prominence of a gesture: a share of the curve's range nearby, and in shares of the clip's own activity."""
_NEARBY_S = 10.0
_PER_SECOND = 1.1
_EVEN, _EVEN_SHARE, _EVEN_HITS = 0.12, 0.8, 6
_STOP_WITHIN_S, _STOP_SHARE, _LATEST_S = 0.14, 0.6, 0.05
_SHARP, _SHARP_SHARE = 0.12, 0.3
"""A stop is sharp in shares of the clip's activity, or as a share of how fast the gesture is."""
_CUT_WEIGHT = 0.7


@dataclass(frozen=True)
class HitPoint:
    """A moment that deserves a musical accent.

    Attributes:
        time_s: on the picture's clock.
        weight: 0..1, how much it deserves one.
        cause: of `CAUSES`.
        source: where time and weight come from, in words.
    """

    time_s: float
    weight: float
    cause: str
    source: str


def find_hit_points(
    streams: Mapping[str, SeenStream], duration_s: float, cuts: Sequence[tuple[float, str]] = ()
) -> tuple[HitPoint, ...]:
    """Choose a clip's hit points from its gestures and cuts.

    A gesture is a clear maximum of how much moves (`activity_curve`: pose, face and flow together). Its hit point lies
    where it is fastest, or up to 50 ms later where it then stops or turns sharply. Free gestures give at most about one
    hit point a second, the strongest ones; motion that returns evenly, as in dancing or conducting, keeps them all.
    Stillness gives none.

    Args:
        streams: embedding streams by name; others than pose, face and flow are ignored.
        duration_s: of the clip.
        cuts: (seconds, words for `source`) of each scene cut.

    Returns:
        In order of time, at least 0.3 s apart.
    """
    gestures = _gestures(streams, duration_s)
    are_even = _are_even(gestures)
    found = [HitPoint(round(t, 3), _CUT_WEIGHT, CUT, source) for t, source in cuts if 0 < t < duration_s]
    most = max(1, round(_PER_SECOND * duration_s))
    for gesture in sorted(gestures, key=lambda hit: (-hit.weight, hit.time_s)):
        if any(abs(gesture.time_s - hit.time_s) < _MIN_GAP_S for hit in found):
            continue
        nearby = sum(abs(gesture.time_s - hit.time_s) < _NEARBY_S / 2 for hit in found)
        if are_even or (len(found) < most and nearby < _NEARBY_S * _PER_SECOND):
            found.append(gesture)
    return tuple(sorted(found, key=lambda hit: hit.time_s))


def _gestures(streams: Mapping[str, SeenStream], duration_s: float) -> tuple[HitPoint, ...]:
    """All maxima that could be gestures, also faint ones."""
    from scipy.ndimage import gaussian_filter1d, maximum_filter1d
    from scipy.signal import find_peaks

    energy, stops, names = activity_curve(streams, duration_s, RATE_HZ)
    if len(energy) < 3 or not names:
        return ()
    smooth = gaussian_filter1d(energy, _SMOOTH_S * RATE_HZ, mode="nearest")
    padded = np.pad(smooth, 1, mode="constant", constant_values=float(smooth.min()))
    rows, about = find_peaks(padded, prominence=_FAINT, distance=round(_MIN_GAP_S * RATE_HZ))
    rows = np.clip(rows - 1, 0, len(smooth) - 1)
    reach = round(2 * _NEARBY_S * RATE_HZ) + 1
    range_nearby = maximum_filter1d(smooth, reach, mode="nearest") + maximum_filter1d(-smooth, reach, mode="nearest")
    hits = []
    for row, prominence in zip(rows, about["prominences"], strict=True):
        share = float(prominence / max(range_nearby[row], 1e-9))
        time_s, stopping = _refine(smooth, stops, int(row))
        weight = float(np.clip(0.5 * (share + smooth[row] / max(smooth.max(), 1e-9)), 0, 1))
        source = f"peak of {' + '.join(names)}{', then a stop' if stopping else ''}; prominence {share:.2f}"
        hits.append((share, HitPoint(round(min(time_s, duration_s), 3), round(weight, 3), GESTURE, source)))
    clear = tuple(hit for share, hit in hits if share >= _CLEAR)
    every = tuple(hit for _, hit in hits)
    return every if _are_even(every) else clear


def _are_even(hits: Sequence[HitPoint]) -> bool:
    """Whether nearly all hit points follow each other at one interval."""
    gaps = np.array([b.time_s - a.time_s for a, b in itertools.pairwise(hits)])
    if len(gaps) < _EVEN_HITS - 1:
        return False
    return bool((np.abs(gaps / np.median(gaps) - 1) <= _EVEN).mean() >= _EVEN_SHARE)


def _refine(smooth: np.ndarray, stops: np.ndarray, row: int) -> tuple[float, bool]:
    """(time of a maximum between rows, moved towards the sharp stop after it; whether there is one)."""
    peak = float(row)
    if 0 < row < len(smooth) - 1:
        before, at, after = smooth[row - 1 : row + 2]
        bend = before - 2 * at + after
        peak += float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0
    ahead = stops[row : row + round(_STOP_WITHIN_S * RATE_HZ) + 1]
    stop = int(ahead.argmax())
    if ahead[stop] < min(_SHARP, _SHARP_SHARE * smooth[row]) or stop in (0, len(ahead) - 1):
        return peak / RATE_HZ, False
    return (peak + min(_STOP_SHARE * stop, _LATEST_S * RATE_HZ)) / RATE_HZ, True
