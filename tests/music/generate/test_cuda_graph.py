"""Slots of fixed buffers give the cohorts' tokens; on a GPU, captured steps give the eager steps' tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cues import BAR, BOTH, WINDOW, FixedEngine, cue, many, random_adapter, tokens_of
from devices import NEEDS_CUDA

from expotion_cli.music.checkpoints.huggingface import load_checkpoint
from expotion_cli.music.generate.cuda_graph import CudaGraphBatch
from expotion_cli.music.generate.engine import Engine
from expotion_cli.music.generate.window import Take, encode_conditions


@pytest.fixture(scope="module")
def engine(tiny_folder) -> Engine:
    loaded = load_checkpoint(tiny_folder, device=torch.device("cpu"), dtype=torch.float32)
    return Engine(loaded.decoder, loaded.text, random_adapter(loaded.decoder), WINDOW, BAR)


@pytest.fixture(scope="module")
def fixed(engine) -> FixedEngine:
    return FixedEngine(engine.decoder, engine.text, engine.adapter, WINDOW, BAR)


@pytest.mark.long
@pytest.mark.parametrize("size", [1, 3, 16])
def test_fixed_buffers_give_the_cohorts_tokens_for_cues_of_all_lengths_and_kinds(engine, fixed, size):
    batch = [*many(10), cue(21, conditioning=None), cue(12, conditioning={}), cue(30, seed=3, sampling=BOTH)]
    expected = tokens_of(engine, batch)
    for ours, theirs in zip(tokens_of(fixed, batch, batch_size=size), expected, strict=True):
        assert np.array_equal(ours, theirs)


def test_positions_are_read_in_spans(engine, fixed, monkeypatch):
    monkeypatch.setattr("expotion_cli.music.generate.cuda_graph.SPAN", 8)
    spans, advance = set(), CudaGraphBatch._advance_all
    monkeypatch.setattr(CudaGraphBatch, "_advance_all", lambda self, span: (spans.add(span), advance(self, span)))
    batch = many(6)
    for ours, theirs in zip(tokens_of(fixed, batch, batch_size=4), tokens_of(engine, batch), strict=True):
        assert np.array_equal(ours, theirs)
    assert spans == {8, 16, 24}


def test_repeating_a_step_of_slots_that_stand_still_changes_nothing(fixed):
    """What capturing relies on."""
    runner = CudaGraphBatch(fixed.decoder, 2, 24, 64, capture=False)
    takes = [Take(i, c, (0, 1, 2, 3), 64, WINDOW, WINDOW // 2, lambda _: 64) for i, c in enumerate((cue(10), cue(12)))]
    with torch.inference_mode():
        runner.admit(takes, [encode_conditions(take, fixed.decoder, fixed.text, fixed.adapter) for take in takes])
        for _ in range(3):
            runner.step()
        runner.active.zero_()
        runner._advance_all(128)
        before = runner.delayed.clone(), runner.cache.clone(), runner.position.clone()
        for _ in range(3):
            runner._advance_all(128)
        after = runner.delayed, runner.cache, runner.position
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.gpu
@NEEDS_CUDA
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_captured_steps_give_the_eager_steps_tokens(tiny_folder, dtype):
    loaded = load_checkpoint(tiny_folder, device=torch.device("cuda"), dtype=dtype)
    adapter = random_adapter(loaded.decoder).to("cuda")
    eager = FixedEngine(loaded.decoder, loaded.text, adapter, WINDOW, BAR)
    captured = FixedEngine(loaded.decoder, loaded.text, adapter, WINDOW, BAR)
    captured.capture = True
    batch = many(11)
    for size in (1, 4):
        expected = tokens_of(eager, batch, batch_size=size)
        for ours, theirs in zip(tokens_of(captured, batch, batch_size=size), expected, strict=True):
            assert np.array_equal(ours, theirs)
        assert captured.made.graphs
