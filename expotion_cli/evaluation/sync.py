"""How closely music follows motion: onset strength, motion energy, their correlation, accents met, all against chance.

Curves are [T] arrays on one clock, row i at i / rate_hz seconds. Every measure comes with what unrelated music
scores, because a maximum over lags and a dense texture both look well by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from expotion_cli.audio.onsets import RATE_HZ

if TYPE_CHECKING:
    pass

MAX_LAG_S = 0.2
TOLERANCE_S = 0.05
"""An onset this near to an accent is seen as one with it."""
NUM_SHIFTS = 200


@dataclass(frozen=True)
class Correlation:
    """A correlation at its best lag.

    Attributes:
        value: Pearson's, -1..1; 0 where one of the curves is flat.
        lag_s: by how much the music follows the motion (negative: it comes first).
    """

    value: float
    lag_s: float


def motion_onset_correlation(
    motion: np.ndarray, onsets: np.ndarray, rate_hz: float = RATE_HZ, max_lag_s: float = MAX_LAG_S
) -> Correlation:
    """Largest Pearson correlation of motion energy and onset strength over small lags.

    Args:
        motion: [T].
        onsets: [T'], on the same clock; what is longer is cut.
        rate_hz: rows a second of both.
        max_lag_s: lags from minus this to plus this are tried.
    """
    length = min(len(motion), len(onsets))
    motion, onsets = np.asarray(motion[:length], np.float64), np.asarray(onsets[:length], np.float64)
    reach = min(round(max_lag_s * rate_hz), length - 2)
    best = Correlation(0.0, 0.0)
    found = False
    for lag in range(-reach, reach + 1):
        value = _pearson(motion[max(0, -lag) : length - max(0, lag)], onsets[max(0, lag) : length - max(0, -lag)])
        if value is not None and (not found or value > best.value):
            best, found = Correlation(value, lag / rate_hz), True
    return best


def _pearson(a: np.ndarray, b: np.ndarray) -> float | None:
    """None where a curve is flat."""
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size > 1e-12 else None


def swell_correlation(
    motion: np.ndarray, loudness_db: np.ndarray, rate_hz: float = RATE_HZ, span_s: float = 2.0
) -> float:
    """Pearson correlation of motion and loudness, both averaged over `span_s` seconds: does more motion sound louder?

    Args:
        motion: [T].
        loudness_db: [T'], from `loudness_curve`; what is longer is cut.
        rate_hz: rows a second of both.
        span_s: length of the running mean.

    Returns:
        -1..1; 0 where a curve is flat or shorter than the span.
    """
    length, span = min(len(motion), len(loudness_db)), max(1, round(span_s * rate_hz))
    if length < 2 * span:
        return 0.0
    slow = [
        np.convolve(np.asarray(c[:length], np.float64), np.ones(span) / span, "valid") for c in (motion, loudness_db)
    ]
    return _pearson(*slow) or 0.0


@dataclass(frozen=True)
class Ranking:
    """How much better music fits its own clip than others.

    Attributes:
        own: mean score of music with its own clip.
        other: mean score of music with other clips (shuffled).
        lift: own - other.
        probability: that music and clip that belong together score higher than a pair that shares only the music or
            only the clip (ties count half); 0.5 is chance.
        lift_interval, probability_interval: 95 % bootstrap intervals over clips.
    """

    own: float
    other: float
    lift: float
    probability: float
    lift_interval: tuple[float, float]
    probability_interval: tuple[float, float]


def own_against_other(matrix: np.ndarray, *, seed: int = 0, draws: int = 2000) -> Ranking:
    """Compare the diagonal of a matrix of scores with what is off it.

    Args:
        matrix: [..., N, N], row i music of clip i, column j motion of clip j, N >= 2; leading axes are repetitions
            (other seeds).
        seed: of the bootstrap.
        draws: of the bootstrap.
    """
    matrix = np.asarray(matrix, dtype=np.float64).reshape(-1, *np.shape(matrix)[-2:])
    size = matrix.shape[-1]
    own = np.einsum("rii->ri", matrix)
    wins = (_beats(own[:, :, None], matrix) + _beats(own[:, None, :], matrix)).mean(axis=0) / 2
    scores, diagonal = matrix.mean(axis=0), own.mean(axis=0)
    drawn = np.random.default_rng(seed).integers(0, size, (draws, size))
    counts = np.stack([(drawn == clip).sum(axis=1) for clip in range(size)], axis=1)
    weights = np.concatenate([np.ones((1, size)), counts[(counts > 0).sum(axis=1) > 1]])
    apart = 1 - np.eye(size)
    pairs = np.einsum("bi,bj,ij->b", weights, weights, apart)
    others = np.einsum("bi,bj,ij->b", weights, weights, scores * apart) / pairs
    probabilities = np.einsum("bi,bj,ij->b", weights, weights, wins * apart) / pairs
    owns = weights @ diagonal / size
    lifts = owns - others
    return Ranking(
        float(owns[0]),
        float(others[0]),
        float(lifts[0]),
        float(probabilities[0]),
        _middle(lifts[1:]),
        _middle(probabilities[1:]),
    )


def _beats(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return (mine > theirs) + 0.5 * (mine == theirs)


def _middle(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, (2.5, 97.5)) if len(values) else (math.nan, math.nan)
    return float(low), float(high)


def bootstrap_interval(
    values: Sequence[float] | np.ndarray, *, seed: int = 0, draws: int = 2000
) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of some values."""
    known = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(known), (draws, len(known)))
    return _middle(known[drawn].mean(axis=1))


@dataclass(frozen=True)
class AgainstChance:
    """A measure at the accents, and at the same accents moved elsewhere.

    Attributes:
        value: at the true accents.
        chance: mean over all circular shifts of the accents.
        p_value: share of the shifts (the true place among them) that do at least as well. With evenly spaced accents
            it can't fall below about 2 * tolerance / spacing: a shift by a whole spacing meets the same beats.
        shifted: [NUM_SHIFTS] the measure at each shift, the first one being none.
    """

    value: float
    chance: float
    p_value: float
    shifted: np.ndarray = field(repr=False)

    @property
    def lift(self) -> float:
        """Value above chance."""
        return self.value - self.chance


def accent_hits(
    onset_times_s: np.ndarray, accent_times_s: Sequence[float], duration_s: float, tolerance_s: float = TOLERANCE_S
) -> AgainstChance:
    """Share of accents that meet an onset.

    Args:
        onset_times_s: of the music, from `onset_times` or from its notes.
        accent_times_s: of the motion; at least one.
        duration_s: of the clip.
        tolerance_s: farthest distance that counts as met.
    """
    onsets = np.sort(np.asarray(onset_times_s, dtype=np.float64))
    places = _shifted(accent_times_s, duration_s)
    if not len(onsets):
        return _against(np.zeros(len(places)))
    after = np.searchsorted(onsets, places).clip(1, max(1, len(onsets) - 1))
    nearest = np.abs(places - onsets[after - 1])
    if len(onsets) > 1:
        nearest = np.minimum(nearest, np.abs(places - onsets[after]))
    return _against((nearest <= tolerance_s + 1e-9).mean(axis=1))


def accent_strength(
    strength: np.ndarray,
    rate_hz: float,
    accent_times_s: Sequence[float],
    duration_s: float,
    tolerance_s: float = TOLERANCE_S,
) -> AgainstChance:
    """Mean onset strength near the accents, in units of its mean over all places: above 1 the music stresses them.

    Unlike `accent_hits` it tells stressed from plain onsets, so a busy texture does not reach it by being everywhere.

    Args:
        strength: [T], from `onset_strength`.
        rate_hz: rows a second.
        accent_times_s: of the motion; at least one.
        duration_s: of the clip.
        tolerance_s: the strongest row within this distance counts.
    """
    reach = round(tolerance_s * rate_hz)
    padded = np.pad(np.asarray(strength, dtype=np.float64), reach)
    near = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1)
    rows = np.clip(np.rint(_shifted(accent_times_s, duration_s) * rate_hz).astype(int), 0, len(near) - 1)
    found = near[rows].mean(axis=1)
    return _against(found / found.mean() if found.mean() > 0 else found)


def _shifted(times_s: Sequence[float], duration_s: float) -> np.ndarray:
    """[NUM_SHIFTS, n]: the times moved round a circle, first not at all.

    The circle is as long as n mean spacings, not as the clip: else evenly spaced accents would fall out of step with
    themselves at its seam, no shift could do as well as the true place, and luck with the phase would look like skill.
    """
    times = np.sort(np.asarray(times_s, dtype=np.float64))
    assert len(times) and duration_s > 0, "accents are needed"
    span = times[-1] - times[0]
    circle = min(duration_s, span * len(times) / (len(times) - 1)) if len(times) > 1 and span > 0 else duration_s
    first = np.clip(times[0] - (circle - span) / 2, 0, duration_s - circle)
    return first + (times - first + circle * np.arange(NUM_SHIFTS)[:, None] / NUM_SHIFTS) % circle


def _against(shifted: np.ndarray) -> AgainstChance:
    return AgainstChance(
        float(shifted[0]), float(shifted.mean()), float((shifted >= shifted[0] - 1e-12).mean()), shifted
    )


def pool(
    results: Sequence[AgainstChance], clips: Sequence[Hashable], *, seed: int = 0, draws: int = 10_000
) -> AgainstChance:
    """Several cues together: mean value, mean chance, and how often random shifts do as well.

    Cues of one clip are shifted together, because they share the clip's accents and beats; clips independently.

    Args:
        results: at least one.
        clips: the clip each belongs to.
        seed: of the drawn shifts.
        draws: how many.
    """
    names = list(dict.fromkeys(clips))
    curves = np.stack(
        [np.mean([r.shifted for r, c in zip(results, clips, strict=True) if c == name], axis=0) for name in names]
    )
    picked = np.random.default_rng(seed).integers(0, NUM_SHIFTS, (len(names), draws))
    means = np.concatenate([[curves[:, 0].mean()], np.take_along_axis(curves, picked, axis=1).mean(axis=0)])
    return AgainstChance(float(means[0]), float(curves.mean()), float((means >= means[0] - 1e-12).mean()), means)


def record(value: Any) -> dict[str, Any]:
    """A result as plain JSON values, rounded; the shifts are left out."""
    plain = {k: v for k, v in vars(value).items() if k != "shifted"}
    return {k: [round(x, 4) for x in v] if isinstance(v, tuple) else round(v, 4) for k, v in plain.items()}
