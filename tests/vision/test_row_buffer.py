"""Long clips: rows lie in a file meanwhile, and results come block by block, as they would all at once."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.vision import flow, landmarks, row_buffer
from expotion_cli.vision.row_buffer import RowBuffer
from expotion_cli.vision.streams import encode_clip


@pytest.mark.parametrize("in_memory", [0, 100, 1 << 20])
def test_rows_come_back_as_they_were_added_from_memory_or_file(monkeypatch, in_memory):
    monkeypatch.setattr(row_buffer, "IN_MEMORY", in_memory)
    monkeypatch.setattr(row_buffer, "BLOCK_ROWS", 4)
    rows = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    kept = RowBuffer(3)
    for number, row in enumerate(rows):
        kept.add(row)
        assert np.array_equal(kept.read(number, number + 1), row[None]), "reading in between moves nothing"
    assert len(kept) == 10 and np.array_equal(kept.read(2, 7), rows[2:7]) and kept.read(5, 5).shape == (0, 3)
    assert [len(block) for block in kept.blocks()] == [4, 4, 2]
    assert np.array_equal(np.concatenate(list(kept.blocks())), rows)
    kept.close()
    kept.close()


@pytest.mark.parametrize("block_rows", [1, 3, 10])
def test_flow_in_blocks_is_flow_at_once(monkeypatch, block_rows):
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.uniform(0.02, 0.09, 60))
    fields = rng.normal(size=(59, flow.FIELD)).astype(np.float32)
    pairs = list(zip(times[:-1].tolist(), times[1:].tolist(), strict=True))
    cuts = [float(times[20]), float(times[21]) + 0.001, float(times[40]), float(times[58])]

    def values(rows_at_once):
        monkeypatch.setattr(flow, "_BLOCK_ROWS", rows_at_once)
        return flow.flow_features(pairs, lambda start, stop: fields[start:stop], 90, cuts)

    whole = values(10_000)
    assert np.abs(whole[:, :-1]).max() > 1 and np.isfinite(whole).all()
    assert np.array_equal(values(block_rows), whole)


@pytest.mark.long
def test_landmarks_that_come_in_many_blocks_are_the_same(person_clips, seen_in, monkeypatch):
    clip = person_clips["still"].path
    whole = seen_in(clip)
    assert whole["face"].mask.any() and whole["pose"].mask.any(), "with nobody in it all rows would be zero"
    monkeypatch.setattr(landmarks, "BLOCK_ROWS", 7)
    for name, stream in encode_clip(clip, ["face", "pose"]).items():
        assert np.array_equal(stream.values, whole[name].values) and np.array_equal(stream.mask, whole[name].mask)
