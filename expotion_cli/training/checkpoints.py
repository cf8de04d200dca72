"""Checkpoints of a run: weights, optimiser states and progress; the best weights apart. Read as data, not executed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from expotion_cli import storage
from expotion_cli.errors import writing
from expotion_cli.training.run_folder import RESUME_REMEDY

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"


@dataclass
class Progress:
    """Where a run stands; stored in its checkpoints under these names.

    Attributes:
        step: optimiser steps done.
        best: lowest held-out loss so far, in nats a token.
        best_step: the step it was reached at; -1 before the first evaluation.
        worse: evaluations since then.
        losses: training losses since the last row of the log.
        elapsed_s: training time in seconds, summed over all interruptions.
    """

    step: int = 0
    best: float = math.inf
    best_step: int = -1
    worse: int = 0
    losses: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0

    def record_held_out(self, loss: float) -> bool:
        """Take note of a held-out loss; True if it is the lowest so far."""
        if loss < self.best:
            self.best, self.best_step, self.worse = loss, self.step, 0
            return True
        self.worse += 1
        return False


def save_checkpoint(
    folder: Path,
    modules: Mapping[str, nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    progress: Progress,
) -> None:
    """Write all that a run needs to resume to the same bits.

    Args:
        folder: gets `checkpoint.pt`; an earlier one is replaced only when the new one is complete.
        modules: what is trained, by name.
        optimizers: in a fixed order.
        progress: where the run stands.

    Raises:
        OutputError: it can't be written; the checkpoint before it stays whole.
    """
    state = {
        **vars(progress),
        "modules": {name: module.state_dict() for name, module in modules.items()},
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }
    _save(state, folder / CHECKPOINT)


def resume_checkpoint(
    folder: Path, modules: Mapping[str, nn.Module], optimizers: Sequence[torch.optim.Optimizer]
) -> Progress:
    """Load `checkpoint.pt` into modules and optimisers; a fresh `Progress` if there is none.

    Args:
        folder: of the run.
        modules: as given to `save_checkpoint`; changed in place.
        optimizers: as given to `save_checkpoint`; changed in place.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return Progress()
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(state["modules"][name])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return Progress(**{name: state[name] for name in vars(Progress()) if name in state})


def save_best(folder: Path, modules: Mapping[str, nn.Module]) -> None:
    """Write the weights of the lowest held-out loss to `best.pt`.

    Raises:
        OutputError: it can't be written.
    """
    _save({name: module.state_dict() for name, module in modules.items()}, folder / BEST)


def load_best(folder: Path, modules: Mapping[str, nn.Module]) -> bool:
    """Load `best.pt` into the modules; False if there is none."""
    if not (folder / BEST).is_file():
        return False
    states = torch.load(folder / BEST, map_location="cpu", weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(states[name])
    return True


def _save(state: dict[str, Any], path: Path) -> None:
    # torch.save wraps a failed write in RuntimeError.
    with (
        writing(path, remedy=RESUME_REMEDY, also=(RuntimeError,)),
        storage.atomic_path(path) as temporary,
        open(temporary, "wb") as file,
    ):
        torch.save(state, file)
