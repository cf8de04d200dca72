"""The table for GPUs in `benchmarks/decode.py`: a row that fails ends nothing, and each row is kept at once."""

from __future__ import annotations

import argparse
import json
from types import SimpleNamespace

import decode
import pytest
import torch


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Engines that take no time; at 32 clips memory runs out, at 64 a batch of 16 fits."""
    decoder = torch.nn.Linear(100, 100)

    def run(engine, batch, size):
        if size == 32:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 GiB")
        engine._most = 16 if size == 64 else None

    monkeypatch.setattr(decode, "ours", lambda *_, **__: SimpleNamespace(decoder=decoder, _most=None))
    monkeypatch.setattr(decode, "theirs", lambda *_: None)
    monkeypatch.setattr(decode, "run", run)
    monkeypatch.setattr(decode, "library_run", lambda *_: None)
    monkeypatch.setattr(decode, "copy_bandwidth", lambda device: 1e9)
    options = argparse.Namespace(sizes="mini", clips="1,32,64", quick=True, repeats=1, no_transformers=False)
    kept = []
    made = decode.GpuTable(None, torch.device("cpu"), 5, options, lambda rows: kept.append(json.dumps(rows)))
    return made, kept


def test_a_row_that_finds_no_memory_says_so_and_the_others_are_measured(table, capsys):
    made, kept = table
    made.measure()
    assert [len(json.loads(rows)) for rows in kept] == list(range(2, 11)), "written row by row, after the bandwidth"
    by_row = {(row["who"], row["adapter"], row["clips"]): row for row in json.loads(kept[-1])[1:]}
    for adapter in (False, True):
        assert by_row["ours", adapter, 1]["share_of_copy_bandwidth"] > 0 and "error" not in by_row["ours", adapter, 1]
        assert by_row["ours", adapter, 32]["error"].startswith("OutOfMemoryError: CUDA out of memory. Tried")
        assert by_row["ours", adapter, 64]["error"] == "memory for 16 together"
    assert by_row["transformers", False, 32]["ms_a_step"] >= 0
    assert "memory for 16 together" in capsys.readouterr().out


def test_when_time_is_over_the_rest_is_named_and_a_model_that_can_t_be_made_too(table, monkeypatch):
    made, kept = table

    def broken(*_):
        raise ValueError("no such size")

    monkeypatch.setattr(decode, "theirs", broken)
    made.began -= decode.QUICK_BUDGET_S + 1
    made.measure()
    errors = {(row["who"], row["error"]) for row in json.loads(kept[-1])[1:]}
    assert errors == {("ours", "left out: 540 s were over"), ("transformers", "ValueError: no such size")}
