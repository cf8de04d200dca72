"""When memory runs out, the batch shrinks, what is done is kept, and no token changes."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from cues import BAR, WINDOW, FixedEngine, many, random_adapter, tokens_of

from expotion_cli.errors import EnvironmentProblem
from expotion_cli.music.checkpoints.huggingface import load_checkpoint
from expotion_cli.music.generate.cpu_batch import CpuBatch
from expotion_cli.music.generate.cuda_graph import CudaGraphBatch
from expotion_cli.music.generate.engine import Engine


@pytest.fixture(scope="module")
def checkpoint(tiny_folder):
    return load_checkpoint(tiny_folder, device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="module")
def engine(checkpoint) -> Engine:
    return Engine(checkpoint.decoder, checkpoint.text, random_adapter(checkpoint.decoder), WINDOW, BAR)


@pytest.fixture
def fresh(checkpoint) -> Engine:
    """One that has never run out of memory."""
    return Engine(checkpoint.decoder, checkpoint.text, random_adapter(checkpoint.decoder), WINDOW, BAR)


@pytest.mark.long
def test_when_memory_runs_out_the_batch_is_halved_and_finished_work_is_kept(engine, fresh, monkeypatch):
    batch = many(9)
    expected = tokens_of(engine, batch)
    sizes, step = [], CpuBatch.step

    def tight(cohorts: CpuBatch):
        sizes.append(len(cohorts.takes))
        if len(cohorts.takes) > 3 and len(sizes) > 12:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate much")
        return step(cohorts)

    monkeypatch.setattr(CpuBatch, "step", tight)
    found = list(fresh.generate(batch, batch_size=8))
    assert sorted(number for number, _ in found) == list(range(9))
    for number, tokens in found:
        assert np.array_equal(tokens, expected[number])
    assert 8 in sizes[:13] and max(sizes[14:]) <= 4 and set(sizes[16:]) <= {1, 2, 3}


NO_MEMORY = (
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("std::bad_alloc"),
)


@pytest.mark.long
@pytest.mark.parametrize("error", NO_MEMORY, ids=str)
def test_the_largest_batch_that_fits_is_remembered_and_changes_no_token(engine, fresh, monkeypatch, error):
    batch = many(9)
    expected = tokens_of(engine, batch)
    asked, admit = [], CpuBatch.admit

    def tight(cohorts: CpuBatch, takes, conditions):
        asked.append(len(cohorts.takes) + len(takes))
        if asked[-1] > 3:
            raise error
        admit(cohorts, takes, conditions)

    monkeypatch.setattr(CpuBatch, "admit", tight)
    for size in (8, 8, "auto"):
        for ours, theirs in zip(tokens_of(fresh, batch, batch_size=size), expected, strict=True):
            assert np.array_equal(ours, theirs)
    too_large = [place for place, size in enumerate(asked) if size > 3]
    assert too_large and max(too_large) < 6, "only the first call tried what does not fit"
    assert max(asked[max(too_large) + 1 :]) in (2, 3)


def test_buffers_that_do_not_fit_are_made_smaller_once_the_larger_ones_are_gone(engine, checkpoint, monkeypatch):
    batch = many(9)
    expected = tokens_of(engine, batch)
    made: list[tuple[int, int]] = []
    alive: weakref.WeakSet[CudaGraphBatch] = weakref.WeakSet()

    class Tight(FixedEngine):
        def _runner(self, takes, size):
            made.append((size, len(alive)))
            if size > 4:
                raise torch.OutOfMemoryError("CUDA out of memory")
            runner = super()._runner(takes, size)
            self.made = None
            alive.add(runner)
            return runner

    steps, step = [], CudaGraphBatch.step

    def fails_once(runner):
        steps.append(len(runner.takes))
        if len(steps) == 7:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(runner)

    monkeypatch.setattr(CudaGraphBatch, "step", fails_once)
    tight = Tight(checkpoint.decoder, checkpoint.text, random_adapter(checkpoint.decoder), WINDOW, BAR)
    for ours, theirs in zip(tokens_of(tight, batch, batch_size=8), expected, strict=True):
        assert np.array_equal(ours, theirs)
    assert made == [(8, 0), (4, 0), (2, 0)]


def test_memory_too_small_for_one_cue_is_an_error_that_says_so(fresh, monkeypatch):
    def never(cohorts: CpuBatch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(CpuBatch, "step", never)
    with pytest.raises(EnvironmentProblem, match="single cue"):
        list(fresh.generate(many(3)))


def test_any_other_error_of_the_library_is_not_mistaken_for_one(fresh, monkeypatch):
    def broken(cohorts: CpuBatch):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(CpuBatch, "step", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        list(fresh.generate(many(3)))
