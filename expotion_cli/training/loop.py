"""The one training loop: resumable to the step, honest about a loss that is no number.

A checkpoint holds weights, optimiser states and the step; the data of step n is drawn from a generator keyed by
(seed, n), so a resumed run sees exactly what an uninterrupted one would have seen.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from expotion_cli import storage
from expotion_cli.errors import ExpotionError


@dataclass(frozen=True)
class LoopSettings:
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps in all.
        warmup_steps: linear warm-up of the learning rate.
        decay_share: share of the steps, at the end, over which the learning rate falls linearly to a twentieth.
        clip_norm: gradients are clipped to this norm.
        eval_every: steps between held-out losses.
        save_every: steps between checkpoints.
        seed: key of the data order.
    """

    steps: int
    warmup_steps: int = 100
    decay_share: float = 0.3
    clip_norm: float = 1.0
    eval_every: int = 200
    save_every: int = 100
    seed: int = 0

    def rate(self, step: int) -> float:
        """Factor on the learning rate at this step."""
        decay_from = self.steps * (1 - self.decay_share)
        falling = 1 - 0.95 * max(0.0, step - decay_from) / max(1.0, self.steps - decay_from)
        return min(1.0, (step + 1) / max(1, self.warmup_steps)) * falling


def step_generator(seed: int, step: int) -> np.random.Generator:
    """The generator of one step's data, independent of all other steps."""
    return np.random.Generator(np.random.Philox(key=[seed, step]))


def matrix_optimizers(
    modules: Sequence[nn.Module],
    *,
    matrix_lr: float,
    other_lr: float,
    weight_decay: float,
    gate_lr: float | None = None,
) -> list:
    """Muon for the hidden matrices, AdamW for embeddings, heads, norms and gates.

    Args:
        modules: trained together; parameters that need no gradient are left out.
        matrix_lr: learning rate of Muon, on AdamW's scale.
        other_lr: learning rate of AdamW.
        weight_decay: of both.
        gate_lr: learning rate of the gates; that of all others by default.
    """
    matrices, others, gates = [], [], []
    for module in modules:
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                is_matrix = parameter.ndim == 2 and not any(s in name for s in ("embed", "lm_heads", "shared", "bias"))
                (gates if name == "gates" else matrices if is_matrix else others).append(parameter)
    groups = [{"params": others}]
    if gates:
        groups.append({"params": gates, "lr": other_lr if gate_lr is None else gate_lr})
    return [
        torch.optim.Muon(matrices, lr=matrix_lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, lr=other_lr, weight_decay=0.0, betas=(0.9, 0.98), fused=True),
    ]


def fit(
    modules: dict[str, nn.Module],
    optimizers: list[torch.optim.Optimizer],
    loss_of: Callable[[np.random.Generator], Tensor],
    evaluate: Callable[[], dict[str, float]],
    folder: Path,
    settings: LoopSettings,
) -> None:
    """Train until `settings.steps`, resuming from `folder` if a checkpoint is there.

    Args:
        modules: trained modules by name; their states make the checkpoint.
        optimizers: already holding their parameters.
        loss_of: draws a batch with the step's generator and returns its loss, a scalar with gradient.
        evaluate: held-out figures, named.
        folder: gets `checkpoint.pt`, `log.csv` and `held_out.csv`.

    Raises:
        ExpotionError: the loss or its gradient became NaN or infinite; the last good checkpoint stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    step = _resume(modules, optimizers, folder)
    for name in ("log.csv", "held_out.csv"):
        _forget_after(step, folder / name)
    base_rates = [[group.get("base_lr", group["lr"]) for group in optimizer.param_groups] for optimizer in optimizers]
    parameters = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    began, losses = time.monotonic(), []
    with tqdm(total=settings.steps, initial=step, desc=folder.name, mininterval=10) as bar:
        while step < settings.steps:
            for optimizer, rates in zip(optimizers, base_rates, strict=True):
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["base_lr"], group["lr"] = rate, rate * settings.rate(step)
            loss = loss_of(step_generator(settings.seed, step))
            _require_finite("loss", loss.item(), step, folder)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
            _require_finite("gradient's norm", norm.item(), step, folder)  # it would spoil the weights before the loss
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
            step += 1
            bar.update()
            if step % 20 == 0:
                _log(folder / "log.csv", {"step": step, "loss": np.mean(losses), "elapsed_s": time.monotonic() - began})
                losses.clear()
            if step % settings.eval_every == 0 or step == settings.steps:
                _log(folder / "held_out.csv", {"step": step, **evaluate()})
            if step % settings.save_every == 0 or step == settings.steps:
                _save(modules, optimizers, step, folder)


def read_log(path: Path) -> list[dict[str, float]]:
    """A CSV log of `fit` as rows of numbers."""
    with open(path, newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _require_finite(what: str, value: float, step: int, folder: Path) -> None:
    if not math.isfinite(value):
        raise ExpotionError(
            f"The {what} of step {step} is {value}.",
            path=folder,
            remedy="The last checkpoint is kept; lower the learning rate and run again.",
        )


def _save(modules: dict[str, nn.Module], optimizers: list, step: int, folder: Path) -> None:
    state = {
        "step": step,
        "modules": {name: module.state_dict() for name, module in modules.items()},
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }
    with storage.atomic_path(folder / "checkpoint.pt") as temporary:
        torch.save(state, temporary)


def _resume(modules: dict[str, nn.Module], optimizers: list, folder: Path) -> int:
    path = folder / "checkpoint.pt"
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(state["modules"][name])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return state["step"]


def _forget_after(step: int, path: Path) -> None:
    """Drop log rows of steps that will be done again, and a torn last one."""
    if path.is_file():
        header, *rows = path.read_bytes().splitlines(keepends=True)
        kept = [row for row in rows if row.endswith(b"\n") and float(row.split(b",")[0]) <= step]
        storage.write_bytes(path, b"".join([header, *kept]))


def _log(path: Path, row: dict[str, float]) -> None:
    is_new = not path.is_file()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if is_new:
            writer.writeheader()
        writer.writerow({key: round(float(value), 5) for key, value in row.items()})
