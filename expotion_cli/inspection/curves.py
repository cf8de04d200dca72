"""Rows of a stream brought to pixel columns or to a coarser rate, without what was not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from expotion_cli.vision.signals import runs

_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Columns:
    """A curve in columns of equal length.

    Attributes:
        time_s: [n] the middle of each column.
        low, mean, high: [n] over the rows of the column that were seen; NaN where none was.
        seen: [n] share of the column's rows that were seen, 0..1.
    """

    time_s: np.ndarray
    low: np.ndarray
    mean: np.ndarray
    high: np.ndarray
    seen: np.ndarray


def to_columns(values: np.ndarray, mask: np.ndarray, rate_hz: float, duration_s: float, max_columns: int) -> Columns:
    """Gather rows into at most `max_columns` columns; a stream with fewer rows keeps a column a row.

    Args:
        values: [T], row i stands for the time from i / rate_hz to the next row.
        mask: bool [T], rows that count. Rows that are not finite never count.
        rate_hz: rows a second.
        duration_s: of the clip, which the columns cover exactly.
        max_columns: at most so many.
    """
    count = max(1, min(max_columns, len(values)))
    edges_s = np.linspace(0, duration_s, count + 1)
    if not len(values):
        nothing = np.full(count, np.nan)
        return Columns((edges_s[1:] + edges_s[:-1]) / 2, nothing, nothing, nothing, np.zeros(count))
    starts = np.minimum(np.rint(edges_s[:-1] * rate_hz).astype(int), len(values) - 1)
    counted = np.asarray(mask, dtype=bool) & np.isfinite(values)
    number = np.add.reduceat(counted.astype(float), starts)
    rows = np.diff(np.append(starts, len(values)))
    # `reduceat` gives the row itself where two columns begin at the same one
    rows = np.maximum(rows, 1)
    seen = number / rows
    sums = np.add.reduceat(np.where(counted, values, 0.0).astype(np.float64), starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(number > 0, sums / number, np.nan)
    low = np.minimum.reduceat(np.where(counted, values, np.inf), starts)
    high = np.maximum.reduceat(np.where(counted, values, -np.inf), starts)
    empty = number == 0
    low, high = (np.where(empty, np.nan, each).astype(np.float64) for each in (low, high))
    return Columns((edges_s[1:] + edges_s[:-1]) / 2, low, mean, high, seen)


def at_rate(values: np.ndarray, mask: np.ndarray, rate_hz: float, duration_s: float, wanted_hz: float) -> np.ndarray:
    """[n] means over stretches of 1 / wanted_hz seconds; NaN where nothing was seen. n covers the whole clip."""
    count = max(1, int(np.ceil(duration_s * wanted_hz - 1e-6)))
    place = np.minimum((np.arange(len(values)) / rate_hz * wanted_hz + 1e-9).astype(int), count - 1)
    counted = np.asarray(mask, dtype=bool) & np.isfinite(values)
    number = np.bincount(place[counted], minlength=count)
    sums = np.bincount(place[counted], weights=np.asarray(values, dtype=np.float64)[counted], minlength=count)
    with np.errstate(invalid="ignore"):
        return np.where(number > 0, sums / np.maximum(number, 1), np.nan)


def row_changes(values: np.ndarray, rate_hz: float) -> np.ndarray:
    """[T] Euclidean length of the change from row to row, a second; the first row repeats the second's."""
    change = np.zeros(len(values))
    for start in range(0, len(values) - 1, _BLOCK_ROWS):  # in blocks: an hour of wide embeddings is large
        block = np.asarray(values[start : start + _BLOCK_ROWS + 1], dtype=np.float64)
        change[start + 1 : start + len(block)] = np.linalg.norm(np.diff(block, axis=0), axis=1) * rate_hz
    change[:1] = change[1:2] if len(values) > 1 else 0.0
    return change


def spans_s(mask: np.ndarray, rate_hz: float, duration_s: float) -> list[tuple[float, float]]:
    """(start, end) in seconds of each run of True rows, none beyond the clip's end."""
    return [(start / rate_hz, min(stop / rate_hz, duration_s)) for start, stop in runs(mask)]
