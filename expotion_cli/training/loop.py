"""The one training loop: resumable to the step, honest about a loss that is no number.

A checkpoint holds weights, optimiser states and the step; the data of step n is drawn from a generator keyed by
(seed, n), so a resumed run sees exactly what an uninterrupted one would have seen. A checkpoint that can't be written,
on a full disk for instance, leaves the one before it whole.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from expotion_cli import storage
from expotion_cli.errors import ExpotionError, OutputError, reason_of

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"
LOG_EVERY = 20


@dataclass(frozen=True)
class LoopSettings:
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps in all.
        warmup_steps: linear warm-up of the learning rate.
        decay_share: share of the steps, at the end, over which the learning rate falls linearly to its last value.
        clip_norm: gradients are clipped to this norm.
        eval_every: steps between held-out losses.
        save_every: steps between checkpoints.
        seed: key of the data order.
        schedule: "linear" as above, or "cosine": it falls from the warm-up's end on.
        last_rate: the learning rate's last value, as a share of its peak.
        patience: stop after so many held-out losses without a new best one; 0 never stops early.
    """

    steps: int
    warmup_steps: int = 100
    decay_share: float = 0.3
    clip_norm: float = 1.0
    eval_every: int = 200
    save_every: int = 100
    seed: int = 0
    schedule: str = "linear"
    last_rate: float = 0.05
    patience: int = 0

    def rate(self, step: int) -> float:
        """Factor on the learning rate at this step."""
        rising = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if self.schedule == "cosine":
            place = min(1.0, max(0.0, step - self.warmup_steps) / max(1, self.steps - self.warmup_steps))
            return rising * (self.last_rate + (1 - self.last_rate) * 0.5 * (1 + math.cos(math.pi * place)))
        decay_from = self.steps * (1 - self.decay_share)
        return rising * (1 - (1 - self.last_rate) * max(0.0, step - decay_from) / max(1.0, self.steps - decay_from))


@dataclass
class Progress:
    """Where a run stands; kept in its checkpoints.

    Attributes:
        step: steps done.
        best: lowest held-out loss so far.
        best_step: when it was; -1 before the first.
        worse: held-out losses since then.
        losses: of the steps since the last row of the log.
        elapsed_s: seconds at work, over all interruptions.
    """

    step: int = 0
    best: float = math.inf
    best_step: int = -1
    worse: int = 0
    losses: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0

    def judge(self, loss: float) -> bool:
        """Take note of a held-out loss; True if it is the best so far."""
        if loss < self.best:
            self.best, self.best_step, self.worse = loss, self.step, 0
            return True
        self.worse += 1
        return False


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
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    gates: list[torch.nn.Parameter] = []
    for module in modules:
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                is_matrix = parameter.ndim == 2 and not any(s in name for s in ("embed", "lm_heads", "shared", "bias"))
                (gates if name == "gates" else matrices if is_matrix else others).append(parameter)
    groups: list[dict[str, Any]] = [{"params": others}]
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

    def learn(step: int) -> float:
        loss = loss_of(step_generator(settings.seed, step))
        _require_finite("loss", loss.item(), step, folder)
        loss.backward()
        return loss.item()

    run(modules, optimizers, learn, evaluate, folder, settings)


def run(
    modules: dict[str, nn.Module],
    optimizers: list[torch.optim.Optimizer],
    learn: Callable[[int], float],
    evaluate: Callable[[], dict[str, float]] | None,
    folder: Path,
    settings: LoopSettings,
    *,
    name_batch: Callable[[int], str] | None = None,
    report: Callable[[str, dict[str, float]], None] | None = None,
    is_writer: bool = True,
    is_quiet: bool = False,
) -> Progress:
    """As `fit`, for steps that make their gradients themselves (in several parts, on several devices).

    Args:
        modules, optimizers, folder, settings: see `fit`.
        learn: leaves the gradients of this step in the parameters and returns its loss.
        evaluate: held-out figures; the one called "loss" decides about `best.pt` and about stopping early.
        name_batch: what a step learns from, for errors.
        report: also gets ("train" or "held_out", figures) whenever a log does, with more detail.
        is_writer: whether this process writes; of several that run in step one does.
        is_quiet: no progress bar.

    Returns:
        Where the run stands at its end.

    Raises:
        ExpotionError: see `fit`.
        OutputError: a checkpoint or a log can't be written; the checkpoint before it stays whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    progress = _resume(modules, optimizers, folder)
    for name in ("log.csv", "held_out.csv") if is_writer else ():
        _forget_after(progress.step, folder / name)
    base_rates = [[group.get("base_lr", group["lr"]) for group in optimizer.param_groups] for optimizer in optimizers]
    parameters = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    began = time.monotonic() - progress.elapsed_s

    def log(kind: str, name: str, row: dict[str, float], more: dict[str, float]) -> None:
        if is_writer:
            _log(folder / name, row)
            if report is not None:
                report(kind, row | more)

    def is_over() -> bool:
        return progress.step >= settings.steps or 0 < settings.patience <= progress.worse

    hidden = is_quiet or not is_writer
    bar = tqdm(total=settings.steps, initial=progress.step, desc=folder.name, mininterval=10, disable=hidden)
    with bar:
        while not is_over():
            step = progress.step
            for optimizer, rates in zip(optimizers, base_rates, strict=True):
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["base_lr"], group["lr"] = rate, rate * settings.rate(step)
            loss = learn(step)
            _require_finite("loss", loss, step, folder, name_batch)
            norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm).item()
            # It would spoil the weights before the loss.
            _require_finite("gradient's norm", norm, step, folder, name_batch)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            progress.losses.append(loss)
            progress.step = step = step + 1
            progress.elapsed_s = time.monotonic() - began
            bar.update()
            is_last = step == settings.steps
            if step % LOG_EVERY == 0 or is_last:
                row = {"step": step, "loss": float(np.mean(progress.losses)), "elapsed_s": progress.elapsed_s}
                log("train", "log.csv", row, {"gradient_norm": norm, "rate": settings.rate(step - 1)})
                progress.losses.clear()
            if evaluate is not None and (step % settings.eval_every == 0 or is_last):
                figures = evaluate()
                log("held_out", "held_out.csv", {"step": step, **figures}, {})
                if "loss" in figures and progress.judge(figures["loss"]) and is_writer:
                    _write_state(_states(modules), folder / BEST)
            if is_writer and (step % settings.save_every == 0 or is_over()):
                _save(modules, optimizers, progress, folder)
    return progress


def read_log(path: Path) -> list[dict[str, float]]:
    """A CSV log of `fit` as rows of numbers."""
    with open(path, newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def load_best(modules: dict[str, nn.Module], folder: Path) -> bool:
    """Give the modules the weights of the best held-out loss; False if none were kept."""
    if not (folder / BEST).is_file():
        return False
    states = torch.load(folder / BEST, map_location="cpu", weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(states[name])
    return True


def _require_finite(
    what: str, value: float, step: int, folder: Path, name_batch: Callable[[int], str] | None = None
) -> None:
    if not math.isfinite(value):
        learnt, remedy = "", "The last checkpoint is kept; lower the learning rate and run again."
        if name_batch is not None:
            learnt = f" It learnt from {name_batch(step)}."
            remedy = "The last checkpoint is kept. Look at these clips, or lower the learning rate with another --out."
        raise ExpotionError(f"The {what} of step {step} is {value}.{learnt}", path=folder, remedy=remedy)


def _states(modules: dict[str, nn.Module]) -> dict[str, dict[str, Tensor]]:
    return {name: module.state_dict() for name, module in modules.items()}


def _save(modules: dict[str, nn.Module], optimizers: list, progress: Progress, folder: Path) -> None:
    state = {
        **vars(progress),
        "modules": _states(modules),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }
    _write_state(state, folder / CHECKPOINT)


def _write_state(state: dict, path: Path) -> None:
    try:
        with storage.atomic_path(path) as temporary, open(temporary, "wb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:  # torch wraps what the system says
        raise _no_room(path, error) from error


def _no_room(path: Path, error: Exception) -> OutputError:
    return OutputError(
        f"it can't be written ({reason_of(error)}).",
        path=path,
        remedy="The last checkpoint is whole: make room, and the same command goes on from there.",
    )


def _resume(modules: dict[str, nn.Module], optimizers: list, folder: Path) -> Progress:
    path = folder / CHECKPOINT
    if not path.is_file():
        return Progress()
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(state["modules"][name])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return Progress(**{name: state[name] for name in vars(Progress()) if name in state})


def _forget_after(step: int, path: Path) -> None:
    """Drop log rows of steps that will be done again, and a torn last one."""
    if path.is_file():
        header, *rows = path.read_bytes().splitlines(keepends=True)
        kept = [row for row in rows if row.endswith(b"\n") and float(row.split(b",")[0]) <= step]
        storage.write_bytes(path, b"".join([header, *kept]))


def _log(path: Path, row: dict[str, float]) -> None:
    is_new = not path.is_file()
    try:
        with open(path, "a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if is_new:
                writer.writeheader()
            writer.writerow({key: round(float(value), 5) for key, value in row.items()})
    except OSError as error:
        raise _no_room(path, error) from error
