"""How rows of a stream become columns of a chart."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.inspection import curves

RATE_HZ = 25.0


def test_columns_keep_a_single_peak_of_an_hour_and_know_what_was_not_seen():
    rows = 90_000
    values, mask = np.full(rows, 0.5), np.ones(rows, dtype=bool)
    values[45_678] = 9.0
    mask[:9_000] = False
    values[3] = np.nan
    found = curves.to_columns(values, mask, RATE_HZ, 3600.0, 1000)
    peak = int(np.nanargmax(found.high))
    assert len(found.mean) == 1000 and found.high[peak] == 9.0 and abs(found.time_s[peak] - 45_678 / RATE_HZ) < 3.6
    assert np.isnan(found.mean[:100]).all() and (found.seen[:100] == 0).all() and (found.seen[100:] == 1).all()
    assert found.low[500:700] == pytest.approx(0.5) and found.mean[200] == pytest.approx(0.5)


def test_a_short_stream_keeps_a_column_a_row_and_values_that_are_not_finite_count_as_not_seen():
    values = np.array([1.0, 2.0, np.inf, 4.0])
    found = curves.to_columns(values, np.ones(4, dtype=bool), RATE_HZ, 0.16, 1000)
    assert np.array_equal(found.mean, [1, 2, np.nan, 4], equal_nan=True) and found.time_s[0] == pytest.approx(0.02)


def test_a_coarse_curve_covers_the_whole_clip_and_leaves_gaps_open():
    mask = np.arange(26) < 20
    found = curves.at_rate(np.arange(26.0), mask, RATE_HZ, 1.04, 5)
    assert found[:4] == pytest.approx([2, 7, 12, 17]) and np.isnan(found[4:]).all() and len(found) == 6


def test_changes_of_wide_embeddings_are_taken_across_blocks():
    values = np.zeros((10_000, 2), dtype=np.float32)
    values[4097:] = (3.0, 4.0)
    change = curves.row_changes(values, 10.0)
    assert np.flatnonzero(change).tolist() == [4097] and change[4097] == pytest.approx(50.0)
