"""What holds of generation on whatever device: number types, neighbours, a lack of memory. `-m gpu` asks a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cues import BAR, WINDOW, FixedEngine, cue, many, random_adapter, tokens_of
from devices import DEVICES, NEEDS_CUDA

from expotion_cli.music.checkpoints.huggingface import load_checkpoint
from expotion_cli.music.generate.cuda_graph import CudaGraphBatch
from expotion_cli.music.generate.engine import Engine

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def engine_on(device: str, folder, dtype: torch.dtype = torch.float32) -> FixedEngine:
    """Fixed buffers everywhere, with captured steps on a GPU."""
    loaded = load_checkpoint(folder, device=torch.device(device), dtype=dtype)
    engine = FixedEngine(loaded.decoder, loaded.text, random_adapter(loaded.decoder).to(device), WINDOW, BAR)
    engine.capture = device == "cuda"
    return engine


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_type_composes_and_composes_the_same_again(tiny_folder, device, dtype):
    engine, batch = engine_on(device, tiny_folder, dtype), many(7)
    first = tokens_of(engine, batch, batch_size=3)
    assert all(
        found.shape == (4, c.num_steps) and len(np.unique(found)) > 5 for found, c in zip(first, batch, strict=True)
    )
    for once, again in zip(first, tokens_of(engine, batch, batch_size=3), strict=True):
        assert np.array_equal(once, again)


@pytest.mark.parametrize("device", DEVICES)
def test_neighbours_change_no_token_at_one_batch_size(tiny_folder, device):
    engine, mine = engine_on(device, tiny_folder), cue(19, "slow sad piano", seed=123)
    companies = (many(9), many(20)[11:], [cue(19, seed=seed) for seed in range(9)])
    found = [tokens_of(engine, [*one[:4], mine, *one[4:]], batch_size=4)[4] for one in companies]
    assert all(np.array_equal(found[0], other) for other in found[1:])


@pytest.mark.gpu
@NEEDS_CUDA
def test_a_gpu_composes_what_the_cpu_composes(tiny_folder):
    """In fp32; a draw may fall the other way where two tokens are equally likely but for rounding."""
    batch, loaded = many(12), load_checkpoint(tiny_folder, device=torch.device("cpu"), dtype=torch.float32)
    on_cpu = tokens_of(Engine(loaded.decoder, loaded.text, random_adapter(loaded.decoder), WINDOW, BAR), batch)
    on_gpu = tokens_of(engine_on("cuda", tiny_folder), batch, batch_size=4)
    assert sum(np.array_equal(one, other) for one, other in zip(on_cpu, on_gpu, strict=True)) >= 11


@pytest.mark.parametrize("device", DEVICES)
def test_where_memory_runs_out_a_smaller_batch_gives_the_same_tokens(tiny_folder, device, monkeypatch):
    """A GPU's memory is limited to what is in use and a little more; a CPU only says so."""
    engine, batch = engine_on(device, tiny_folder), many(10)
    expected = tokens_of(engine, batch, batch_size=5)
    if device == "cuda":
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (256 << 20)) / total)
    else:
        allocate = CudaGraphBatch._allocate

        def scarce(self, *arguments):
            if self.num_slots > 100:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return allocate(self, *arguments)

        monkeypatch.setattr(CudaGraphBatch, "_allocate", scarce)
    try:
        found = tokens_of(engine, batch, batch_size=1 << 14)
    finally:
        if device == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0)
    assert engine._most == 5, "it is remembered for later batches"
    assert all(np.array_equal(one, other) for one, other in zip(expected, found, strict=True))
