"""The training loop: resumes to the same bits, logs, evaluates, stops early, and stops at a loss that is not finite.

Each step draws its data from a generator keyed by (seed, step), so a resumed run sees exactly what an uninterrupted
one would have seen.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from expotion_cli.errors import ExpotionError
from expotion_cli.training.ahead import Draw, drawn_ahead
from expotion_cli.training.checkpoints import Progress, resume_checkpoint, save_best, save_checkpoint
from expotion_cli.training.logs import HELD_OUT_LOG, TRAIN_LOG, Report, append_row, truncate_log

LOG_EVERY = 20
"""Steps between rows of the training log."""


@dataclass(frozen=True)
class LoopSettings:
    """Length, learning-rate schedule and intervals of a run.

    Attributes:
        steps: optimiser steps in all.
        warmup_steps: steps over which the learning rate rises linearly.
        decay_share: "linear" schedule: share of the steps, at the end, over which the rate falls to its last value.
        clip_norm: gradients are clipped to this norm.
        eval_every: steps between evaluations.
        save_every: steps between checkpoints.
        seed: key of the data order.
        schedule: "linear" (constant, then falling), or "cosine" (falling from the end of the warm-up).
        last_rate: last value of the learning rate, as a share of its peak.
        patience: stop after this many evaluations without a lower loss; 0 never stops early.
        minutes: above 0, the run takes so long instead of `steps`, and the learning rate goes by the share of the time
            that is over instead of that of the steps. Such a run depends on the machine's speed.
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
    minutes: float = 0.0

    def is_over(self, step: int, elapsed_s: float) -> bool:
        """Whether a run ends after so many steps and seconds."""
        return elapsed_s >= 60 * self.minutes if self.minutes else step >= self.steps

    def lr_factor(self, step: int, elapsed_s: float = 0.0) -> float:
        """The learning rate at a step, as a share of its peak.

        Args:
            step: steps done before it.
            elapsed_s: seconds of training before it; they count if the run goes by time.
        """
        rising = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if self.minutes:
            step = round(self.steps * min(1.0, elapsed_s / (60 * self.minutes)))
        if self.schedule == "cosine":
            place = min(1.0, max(0.0, step - self.warmup_steps) / max(1, self.steps - self.warmup_steps))
            return rising * (self.last_rate + (1 - self.last_rate) * 0.5 * (1 + math.cos(math.pi * place)))
        decay_from = self.steps * (1 - self.decay_share)
        return rising * (1 - (1 - self.last_rate) * max(0.0, step - decay_from) / max(1.0, self.steps - decay_from))


def fit(
    modules: Mapping[str, nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    loss_fn: Callable[[Any, np.random.Generator], Tensor],
    evaluate: Callable[[], dict[str, float]],
    folder: Path,
    settings: LoopSettings,
    *,
    draw: Draw,
    workers: int = 0,
) -> None:
    """Train with one loss a step, in one process, to the end of the schedule; resumes if `folder` holds a checkpoint.

    Args:
        modules: what is trained, by name; their states make the checkpoint.
        optimizers: already holding their parameters.
        loss_fn: returns a batch's loss, a scalar with gradient; what it draws itself comes from the step's generator.
        evaluate: returns held-out figures by name.
        folder: gets `checkpoint.pt`, `best.pt`, `log.csv` and `held_out.csv`.
        settings: length and schedule.
        draw: makes a step's batch with the step's generator.
        workers: processes that draw ahead (`ahead.useful_workers`); they change no bit.

    Raises:
        ExpotionError: the loss or its gradient became NaN or infinite; the last checkpoint stays.
        OutputError: a checkpoint or a log can't be written; the last checkpoint stays whole.
    """
    with contextlib.ExitStack() as stack:
        drawn: Generator[tuple[Any, np.random.Generator]] | None = None

        def train_step(step: int) -> float:
            nonlocal drawn
            if drawn is None:
                drawn = stack.enter_context(contextlib.closing(drawn_ahead(draw, settings.seed, step, workers)))
            loss = loss_fn(*next(drawn))
            _require_finite("loss", loss.item(), step, folder)
            loss.backward()
            return loss.item()

        run_loop(modules, optimizers, train_step, evaluate, folder, settings)


def run_loop(
    modules: Mapping[str, nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    train_step: Callable[[int], float],
    evaluate: Callable[[], dict[str, float]] | None,
    folder: Path,
    settings: LoopSettings,
    *,
    describe_batch: Callable[[int], str] | None = None,
    report: Report | None = None,
    is_writer: bool = True,
    is_quiet: bool = False,
) -> Progress:
    """Train with steps that compute their own gradients: in micro-batches, on several devices.

    Args:
        modules: what is trained, by name; their states make the checkpoint.
        optimizers: already holding their parameters.
        train_step: accumulates the gradients of step n in the parameters and returns its loss.
        evaluate: returns held-out figures by name; "loss" decides about `best.pt` and early stopping.
        folder: see `fit`.
        settings: length and schedule.
        describe_batch: names what a step trained on, for errors.
        report: also receives every row that is logged, with more detail.
        is_writer: whether this process writes; of several processes exactly one does.
        is_quiet: show no progress bar.

    Returns:
        Where the run ended.

    Raises:
        ExpotionError: see `fit`.
        OutputError: see `fit`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    progress = resume_checkpoint(folder, modules, optimizers)
    for name in (TRAIN_LOG, HELD_OUT_LOG) if is_writer else ():
        truncate_log(folder / name, progress.step)
    base_rates = [[group.get("base_lr", group["lr"]) for group in optimizer.param_groups] for optimizer in optimizers]
    parameters = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    began = time.monotonic() - progress.elapsed_s

    def log(kind: str, name: str, row: dict[str, float], more: dict[str, float]) -> None:
        if is_writer:
            append_row(folder / name, row)
            if report is not None:
                report(kind, row | more)

    def is_over() -> bool:
        return settings.is_over(progress.step, progress.elapsed_s) or 0 < settings.patience <= progress.worse

    hidden = is_quiet or not is_writer
    bar = tqdm(
        total=None if settings.minutes else settings.steps,
        initial=progress.step,
        desc=folder.name,
        mininterval=10,
        disable=hidden,
    )
    with bar:
        while not is_over():
            step = progress.step
            factor = settings.lr_factor(step, progress.elapsed_s)
            for optimizer, rates in zip(optimizers, base_rates, strict=True):
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["base_lr"], group["lr"] = rate, rate * factor
            loss = train_step(step)
            _require_finite("loss", loss, step, folder, describe_batch)
            norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm).item()
            # A gradient that is not finite would spoil the weights before any loss shows it.
            _require_finite("gradient norm", norm, step, folder, describe_batch)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            progress.losses.append(loss)
            progress.step = step = step + 1
            progress.elapsed_s = time.monotonic() - began
            bar.update()
            is_last = settings.is_over(step, progress.elapsed_s)
            if step % LOG_EVERY == 0 or is_last:
                row = {"step": step, "loss": float(np.mean(progress.losses)), "elapsed_s": progress.elapsed_s}
                log("train", TRAIN_LOG, row, {"gradient_norm": norm, "rate": factor})
                progress.losses.clear()
            if evaluate is not None and (step % settings.eval_every == 0 or is_last):
                figures = evaluate()
                log("held_out", HELD_OUT_LOG, {"step": step, **figures}, {})
                if "loss" in figures and progress.record_held_out(figures["loss"]) and is_writer:
                    save_best(folder, modules)
            if is_writer and (step % settings.save_every == 0 or is_over()):
                save_checkpoint(folder, modules, optimizers, progress)
    return progress


def _require_finite(
    name: str, value: float, step: int, folder: Path, describe_batch: Callable[[int], str] | None = None
) -> None:
    if not math.isfinite(value):
        batch, remedy = "", "The last checkpoint is kept; lower the learning rate and run again."
        if describe_batch is not None:
            batch = f" The step trained on {describe_batch(step)}."
            remedy = "The last checkpoint is kept. Check these clips, or lower the learning rate with another --out."
        raise ExpotionError(f"The {name} of step {step} is {value}.{batch}", path=folder, remedy=remedy)
