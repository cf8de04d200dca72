"""Batches drawn ahead of their steps, in worker processes, so that a GPU need not wait for a processor."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from expotion_cli.training.seeding import keyed_generator

Draw = Callable[[np.random.Generator], Any]
"""Makes a step's batch with the step's generator."""
_AHEAD = 4
"""Steps that each worker draws ahead."""
_MOST_STEPS = 1 << 40


def useful_workers(device: torch.device) -> int:
    """How many processes should draw: none beside a CPU that trains, or where processes can't be forked."""
    if device.type == "cpu" or "fork" not in multiprocessing.get_all_start_methods():
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, cores - 1)


def drawn_ahead(draw: Draw, seed: int, first_step: int, workers: int) -> Generator[tuple[Any, np.random.Generator]]:
    """(batch, the step's generator as drawing left it) of each step, the same whatever the number of workers.

    Args:
        draw: makes a batch; with workers, in processes that are forked from this one.
        seed: of the run.
        first_step: where to begin.
        workers: processes; 0 draws in this one, when the step's turn comes.
    """
    ahead: dict[str, Any] = {"prefetch_factor": _AHEAD, "multiprocessing_context": "fork"} if workers else {}
    yield from DataLoader(
        _Drawn(draw, seed, first_step), batch_size=None, num_workers=workers, collate_fn=_as_it_is, **ahead
    )


class _Drawn(Dataset):
    def __init__(self, draw: Draw, seed: int, first_step: int):
        self.draw, self.seed, self.first_step = draw, seed, first_step

    def __len__(self) -> int:
        return _MOST_STEPS

    def __getitem__(self, index: int) -> tuple[Any, np.random.Generator]:
        rng = keyed_generator(self.seed, self.first_step + index)
        return self.draw(rng), rng


def _as_it_is(batch: Any) -> Any:
    return batch
