"""Small signal tools of the encoders: from frames to rows, gaps, smoothing, speeds, accents.

Everything here is symmetric in time, so nothing lags behind the picture, and reaches at most 80 ms to either side.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

MAX_GAP_S = 0.4
"""Gaps up to this long are interpolated; longer ones are held and stand still."""

MIN_RUN = 3
"""Finds on fewer frames in a row than this are taken for chance, unless there is a longer run near, and dropped."""


@dataclass(frozen=True)
class Rows:
    """Values on the stream's grid.

    Attributes:
        values: float64 [T, C]; interpolated in short gaps, held in long ones.
        mask: bool [T], True where the thing was seen.
        spans: row ranges (start, stop) within which values move continuously; speeds are zero outside them.
    """

    values: np.ndarray
    mask: np.ndarray
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Shot:
    """What of a stream belongs to one shot.

    Attributes:
        frames: the first of them and the one after the last.
        rows: likewise.
    """

    frames: tuple[int, int]
    rows: tuple[int, int]


def shots(cuts_s: Iterable[float], times_s: np.ndarray, num_rows: int, rate_hz: float) -> list[Shot]:
    """The shots of a clip that have rows; one where there are no cuts.

    Args:
        cuts_s: when shots begin, the first aside.
        times_s: [N] of the frames, rising.
        num_rows: T.
        rate_hz: rows a second.
    """
    cuts = np.unique(np.array([*cuts_s], dtype=np.float64))
    frames = [0, *np.searchsorted(times_s, cuts - 1e-6).tolist(), len(times_s)]
    first_rows = np.clip(np.ceil(cuts * rate_hz - 1e-6).astype(int), 0, num_rows).tolist()
    parts = zip(itertools.pairwise(frames), itertools.pairwise([0, *first_rows, num_rows]), strict=True)
    return [Shot(inside, rows) for inside, rows in parts if rows[1] > rows[0]]


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """(start, stop) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(flags, dtype=np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def rows_from_pictures(
    times_s: np.ndarray, found: np.ndarray, raw: np.ndarray, num_rows: int, rate_hz: float, min_run: int = MIN_RUN
) -> Rows:
    """Put what was found on the frames onto the stream's rows.

    Each frame counts at its own time stamp, so clips of 15, 29.97 or a varying number of frames a second all
    give even speeds. Rows between two finds at most `MAX_GAP_S` apart are interpolated linearly; in longer gaps the
    last find is held (before the first find: the first).

    Args:
        times_s: [N] rising.
        found: bool [N].
        raw: [N, C]; rows where `found` is False are ignored.
        num_rows: T.
        rate_hz: rows a second.
        min_run: instead of `MIN_RUN`.
    """
    found = _believed(np.asarray(times_s), np.asarray(found, dtype=bool), min(min_run, len(found)))
    at = np.arange(num_rows) / rate_hz
    if not found.any():
        return Rows(np.zeros((num_rows, raw.shape[1])), np.zeros(num_rows, dtype=bool), ())
    seen_at = np.asarray(times_s)[found]
    before = np.clip(np.searchsorted(seen_at, at + 1e-9, side="right") - 1, 0, len(seen_at) - 1)
    after = np.clip(np.searchsorted(seen_at, at - 1e-9, side="left"), 0, len(seen_at) - 1)
    inside = (at >= seen_at[0] - 1e-9) & (at <= seen_at[-1] + 1e-9)
    lost = inside & (seen_at[after] - seen_at[before] > MAX_GAP_S)
    values = np.empty((num_rows, raw.shape[1]))
    for number, column in enumerate(raw.T):  # one by one, because all of a long clip's at once take much memory
        seen = column[found].astype(np.float64)
        values[:, number] = np.interp(at, seen_at, seen)
        values[lost, number] = seen[before[lost]]
    # a row is seen if the picture nearest to it is; the last frame stays on screen until the clip ends
    middles = (times_s[1:] + times_s[:-1]) / 2
    mask = found[np.searchsorted(middles, at)] & ~lost
    still = ~inside & (np.minimum(abs(at - seen_at[0]), abs(at - seen_at[-1])) > MAX_GAP_S)
    return Rows(values, mask, tuple(runs(~lost & ~still)))


def _believed(times_s: np.ndarray, found: np.ndarray, min_run: int) -> np.ndarray:
    """bool [N]: finds without those by chance: short runs with no long one near."""
    every = runs(found)
    long = [(times_s[start], times_s[stop - 1]) for start, stop in every if stop - start >= min_run]
    believed = np.zeros_like(found)
    for start, stop in every:
        near = any(
            first - times_s[stop - 1] <= MAX_GAP_S and times_s[start] - last <= MAX_GAP_S for first, last in long
        )
        believed[start:stop] = stop - start >= min_run or near
    return believed


def within_spans(function: Callable[[np.ndarray], np.ndarray], values: np.ndarray, spans) -> np.ndarray:
    """Apply a function along time to each span by itself; zero outside the spans."""
    result = np.zeros_like(values, dtype=np.float64)
    for start, stop in spans:
        result[start:stop] = function(values[start:stop])
    return result


def smooth(values: np.ndarray) -> np.ndarray:
    """Binomial (1 2 1) / 4 along time: one row to either side, no lag."""
    if len(values) < 3:
        return np.asarray(values, dtype=np.float64)
    padded = np.concatenate([values[:1], values, values[-1:]])
    return (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4


def smooth_rows(rows: Rows) -> Rows:
    """The same rows, smoothed within their spans and untouched outside."""
    values = rows.values.copy()
    for start, stop in rows.spans:
        for column in values[start:stop].T:
            column[:] = smooth(column)
    return Rows(values, rows.mask, rows.spans)


def speeds(values: np.ndarray, spans, rate_hz: float) -> np.ndarray:
    """Central differences a second, same shape; zero outside the spans."""

    def differences(part: np.ndarray) -> np.ndarray:
        if len(part) < 2:
            return np.zeros_like(part, dtype=np.float64)
        return np.gradient(part, 1 / rate_hz, axis=0)

    return within_spans(differences, values, spans)


def without_noise(velocity: np.ndarray, noise: float) -> np.ndarray:
    """Shorten each vector (last axis) by `noise`, to zero at most; directions stay."""
    length = np.linalg.norm(velocity, axis=-1, keepdims=True)
    return velocity * np.maximum(0.0, 1 - noise / np.maximum(length, 1e-9))


def accents(velocity: np.ndarray, spans) -> np.ndarray:
    """How sharply a motion stops or turns at each row.

    The change of velocity from the row before to the row after, less what is only speeding up: a stop from speed v
    gives v, a reversal 2v, a start from rest 0.

    Args:
        velocity: [T, ..., d], vectors in the last axis.
        spans: see `Rows`.

    Returns:
        [T, ...] >= 0, in the unit of the velocity.
    """

    def sharpness(part: np.ndarray) -> np.ndarray:
        padded = np.concatenate([part[:1], part, part[-1:]])
        before, after = padded[:-2], padded[2:]
        change = np.linalg.norm(after - before, axis=-1)
        gain = np.linalg.norm(after, axis=-1) - np.linalg.norm(before, axis=-1)
        return np.maximum(0.0, change - np.maximum(0.0, gain))

    result = np.zeros(velocity.shape[:-1])
    for start, stop in spans:
        result[start:stop] = sharpness(velocity[start:stop])
    return result


def running_median(values: np.ndarray, reach: int) -> np.ndarray:
    """[T] median over `reach` rows to either side (fewer at the ends)."""
    return np.array([np.median(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))])


def split_at_jumps(rows: Rows, times_s: np.ndarray, jumps: np.ndarray, rate_hz: float) -> Rows:
    """The same rows, their spans ended where somebody else is seen from one frame to the next.

    Args:
        rows: from `rows_from_pictures`.
        times_s: [N] of the frames.
        jumps: bool [N], True where a frame does not go on from the one before.
        rate_hz: rows a second.
    """
    borders = np.ceil(np.asarray(times_s)[np.asarray(jumps, dtype=bool)] * rate_hz - 1e-9).astype(int)
    spans: list[tuple[int, int]] = []
    for start, stop in rows.spans:
        inside = [start, *sorted({int(border) for border in borders if start < border < stop}), stop]
        spans += itertools.pairwise(inside)
    return Rows(rows.values, rows.mask, tuple(spans))


def jumps(times_s: np.ndarray, found: np.ndarray, places: np.ndarray, size: np.ndarray, speed: float) -> np.ndarray:
    """bool [N]: where a find is further from the last find than anybody could have moved.

    Args:
        times_s: [N].
        found: bool [N].
        places: [N, d].
        size: [N] what counts as one size there, in the same unit.
        speed: sizes a second that are possible, besides one size at once.
    """
    result = np.zeros(len(times_s), dtype=bool)
    seen = np.flatnonzero(found)
    if len(seen) > 1:
        away = np.linalg.norm(np.diff(places[seen], axis=0), axis=1)
        possible = (1 + speed * np.diff(np.asarray(times_s)[seen])) * np.maximum(size[seen][1:], size[seen][:-1])
        result[seen[1:]] = away > possible
    return result
