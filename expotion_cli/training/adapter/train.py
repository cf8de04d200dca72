"""Trains an adapter on a frozen MusicGen: the joint-embedding adapter, a LoRA, or both.

The run's folder holds `run.json` (what decides it), checkpoints, logs (CSV, and TensorBoard's where that is
installed), and in the end `adapter/` and `lora/` in PEFT's layout, ready for `expotion-score --adapter`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expotion_cli import storage
from expotion_cli.errors import UsageError
from expotion_cli.music.checkpoints.adapter_files import save_adapter
from expotion_cli.music.checkpoints.huggingface import load_audio_model, load_checkpoint, open_checkpoint
from expotion_cli.music.checkpoints.state_dict import Source
from expotion_cli.music.transformer.adapter import JointEmbeddingAdapter
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.training import run_folder as runs
from expotion_cli.training.adapter import checkpointing
from expotion_cli.training.adapter import trainable as trainees
from expotion_cli.training.adapter.batches import (
    Batch,
    Crop,
    Crops,
    Shape,
    generator,
    has_picture,
    strangers,
)
from expotion_cli.training.adapter.motion_from_audio import refuse_what_cannot_be_made
from expotion_cli.training.adapter.warmup import look_at_the_moment
from expotion_cli.training.data.shards import ClipRecord, DataFolder
from expotion_cli.training.data.splits import HELD_OUT, TRAIN
from expotion_cli.training.data.tokens import ModelFiles, codec_digest, refuse_notes
from expotion_cli.training.distributed import Team
from expotion_cli.training.loop import CHECKPOINT, LoopSettings, Progress, load_best, read_log, run
from expotion_cli.training.losses import token_loss
from expotion_cli.training.settings import DataPart, TrainRecipe
from expotion_cli.version import __version__

FACTS_FILE = "training.json"
ADAPTER, LORA = "adapter", "lora"
_WARM_UP, _DROPOUT = 4 << 40, 5 << 40


@dataclass(frozen=True)
class Trained:
    """What came of a run.

    Attributes:
        out: its folder.
        adapter, lora: folders of what was trained.
        progress: where it ended.
        steps: those the recipe asked for.
        first, last: the first held-out figures, and those of the weights that were kept; empty without held-out clips.
        notes: in words, what is out of the ordinary.
    """

    out: Path
    adapter: Path | None
    lora: Path | None
    progress: Progress
    steps: int
    first: dict[str, float]
    last: dict[str, float]
    notes: tuple[str, ...]


class AdapterTrainer:
    """A run.

    Args:
        folder: the data.
        files: the model.
        recipe: how.
        out: the run's folder.
        team: where.
        start_from: an adapter to go on from; a fresh one by default.
        report: gets ("train" or "held_out", figures) as they come; without it no progress is shown either.

    Raises:
        UsageError: data, model, recipe and folder do not fit together.
        WeightsError: the model can't be loaded.
    """

    def __init__(
        self,
        folder: DataFolder,
        files: ModelFiles,
        recipe: TrainRecipe,
        out: Path,
        team: Team,
        start_from: Path | None = None,
        report: Callable[[str, dict[str, float]], None] | None = None,
    ):
        self.folder, self.files, self.recipe, self.out, self.team = folder, files, recipe, out, team
        self.report = report
        self.notes: list[str] = []
        source = open_checkpoint(files.path)
        refuse_notes(source.config, files.name)
        checkpoint = load_checkpoint(source, device=team.device, dtype=team.frozen_dtype, known=files.checked)
        self.decoder, self.text, self.model_digest = checkpoint.decoder, checkpoint.text, checkpoint.digest
        self._require_same_tokens(source)
        self._start_from = ""
        self.adapter = self._make_adapter(start_from)
        specs = self.adapter.config.streams if self.adapter is not None else ()
        window = self.adapter.config.window_steps if self.adapter is not None else recipe.adapter.window_steps
        config = self.decoder.config
        self.shape = Shape(window, config.delays, config.start_token, folder.tokens.rate_hz, specs)
        settings = self._synthetic_share()
        clips = self._usable(TRAIN, settings.synthetic)
        if not clips:
            raise UsageError(
                "no clip in the data can teach this adapter.",
                path=folder.path,
                remedy="It needs video or features of its streams, or sound and --recipe synthetic.",
            )
        self.crops = Crops(folder, clips, self.shape, settings, recipe.train.seed)
        held_out = self._usable(HELD_OUT, settings.synthetic)
        self.held_out = Crops(folder, held_out, self.shape, settings, recipe.train.seed) if held_out else None
        if not held_out:
            self.notes.append("nothing is held out: the last weights are kept, and nothing tells when to stop")
        self.adapted = trainees.add_lora(recipe.lora, self.decoder, recipe.train.seed) if recipe.lora.rank else None
        lora = trainees.Kept(trainees.lora_parameters(self.decoder)) if self.adapted is not None else None
        parts = {ADAPTER: self.adapter, LORA: lora}
        self.modules = {name: part for name, part in parts.items() if part is not None}
        self.optimizers = trainees.make_optimizers(recipe.train, self.adapter, lora)
        self.parameters = [p for module in self.modules.values() for p in module.parameters()]
        self._states = lru_cache(maxsize=512)(self.text.encode)

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        settings = self.recipe.train
        if settings.steps:
            return settings.steps
        return max(1, math.ceil(settings.epochs * self.crops.crops_an_epoch / settings.batch))

    def loop_settings(self) -> LoopSettings:
        """The recipe's lengths in steps."""
        settings = self.recipe.train
        warmup = round(settings.warmup_epochs * self.crops.crops_an_epoch / settings.batch)
        return LoopSettings(
            steps=self.steps,
            warmup_steps=max(warmup, settings.warmup_steps),
            decay_share=0.5,
            clip_norm=settings.clip_norm,
            eval_every=settings.eval_every,
            save_every=settings.save_every,
            seed=settings.seed,
            schedule=settings.schedule,
            last_rate=settings.last_rate,
            patience=settings.patience if self.held_out is not None else 0,
        )

    def run(self) -> Trained:
        """Train, or go on, and write what was trained.

        Raises:
            UsageError: the folder holds another run.
            ExpotionError: a loss is no number; the batch is named.
            OutputError: something can't be written; the last checkpoint is whole.
        """
        runs.claim(self.out, self._decided(), is_writer=self.team.is_first)
        self.team.wait()
        if not (self.out / CHECKPOINT).is_file():
            self._warm_up()
        self.team.agree(self.modules.values())
        with runs.tensorboard(self.out if self.team.is_first else None) as board:

            def report(kind: str, row: dict[str, float]) -> None:
                for sink in (board, self.report):
                    if sink is not None:
                        sink(kind, row)

            progress = run(
                self.modules,
                self.optimizers,
                self.learn,
                self.evaluate if self.held_out is not None else None,
                self.out,
                self.loop_settings(),
                name_batch=self.name_batch,
                report=report,
                is_writer=self.team.is_first,
                is_quiet=self.report is None,
            )
        self.team.wait()
        load_best(self.modules, self.out)
        return self._write(progress)

    def learn(self, step: int) -> float:
        """Gradients of a step, mean over all tokens of its crops whoever computes them."""
        crops = self.crops_of(step)
        total = sum(crop.num_steps for crop in crops) * self.decoder.config.num_codebooks
        size = self.recipe.train.micro_batch
        mine = self.team.share(crops)
        summed = torch.zeros((), device=self.team.device, dtype=torch.float64)
        if self.adapted is not None:
            self.decoder.train()
        for first in range(0, len(mine), size):
            key = generator(_DROPOUT + self.team.number, self.recipe.train.seed, step * 4096 + first // size)
            torch.manual_seed(int(key.integers(0, 2**62)))
            batch = self.crops.batch(mine[first : first + size]).to(self.team.device)
            loss = token_loss(*self.predict(batch), "sum") / total
            loss.backward()
            summed += loss.detach()
        self.team.add_up_gradients(self.parameters)
        return float(self.team.add_up(summed))

    def crops_of(self, step: int) -> list[Crop]:
        """All crops of a step, whoever computes them."""
        size = self.recipe.train.batch
        return [self.crops.crop(number) for number in range(step * size, (step + 1) * size)]

    def name_batch(self, step: int) -> str:
        """A step's crops in words."""
        names = [str(crop) for crop in self.crops_of(step)]
        return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")

    def predict(self, batch: Batch, *, has_adapter: bool = True) -> tuple[Tensor, Tensor]:
        """(logits [B, K, P, V], targets [B, K, P]) of a batch."""
        recompute = self.recipe.train.checkpointing
        states, mask = self._text_states(batch.captions)
        with self.team.autocast():
            text, side = self.decoder.encode_text(states, mask), None
            if self.adapter is not None and has_adapter:
                seen = self.adapter.join_streams(batch.values, batch.masks)
                side = checkpointing.side_stream(self.adapter, self.decoder, seen, recompute=recompute)
            context = LockstepContext(text, side_stream=side)
            logits = checkpointing.decode(self.decoder, batch.inputs, context, recompute=recompute)
        return logits, batch.targets

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Held-out losses by name.

        "loss": as trained; "shuffled": with another clip's motion; "unseen": with the picture masked; "off": without
        anything that is trained.
        """
        assert self.held_out is not None
        self.decoder.eval()
        every = self.held_out.held_out(self.recipe.data.held_out_crops)
        others = self.team.share(strangers(every)) if self.adapter is not None else []
        crops = self.team.share(every)
        size = self.recipe.train.micro_batch
        kinds = {"loss": True, "shuffled": bool(others), "unseen": self.adapter is not None, "off": True}
        names = [name for name, is_taken in kinds.items() if is_taken]
        sums = torch.zeros(len(names) + 1, device=self.team.device, dtype=torch.float64)
        for first in range(0, len(crops), size):
            part = slice(first, first + size)
            batch = self.held_out.batch(crops[part]).to(self.team.device)
            views = {"loss": batch, "unseen": batch.blind(), "off": batch}
            if others:
                views["shuffled"] = batch.with_eyes_of(self.held_out.batch(others[part]).to(self.team.device))
            for number, name in enumerate(names):
                with self._without_lora() if name == "off" else contextlib.nullcontext():
                    sums[number] += token_loss(*self.predict(views[name], has_adapter=name != "off"), "sum").double()
            sums[-1] += (batch.targets >= 0).sum()
        sums = self.team.add_up(sums)
        figures = {name: float(sums[number] / sums[-1]) for number, name in enumerate(names)}
        if self.adapter is not None:
            figures["gate"] = float(self.adapter.gates.abs().mean())
        return figures

    def _without_lora(self) -> contextlib.AbstractContextManager[Any]:
        return self.adapted.disable_adapter() if self.adapted is not None else contextlib.nullcontext()

    def _text_states(self, captions: tuple[str | None, ...]) -> tuple[Tensor, Tensor]:
        """States and mask of captions, each encoded alone as when composing; None hears nothing."""
        encoded = [self._states(caption or "") for caption in captions]
        length = max(len(mask) for _, mask in encoded)
        states = torch.zeros(len(encoded), length, encoded[0][0].shape[1], device=self.team.device)
        mask = torch.zeros(len(encoded), length, dtype=torch.bool, device=self.team.device)
        for row, ((state, kept), caption) in enumerate(zip(encoded, captions, strict=True)):
            if caption is not None:
                states[row, : len(kept)], mask[row, : len(kept)] = state, kept
        return states, mask

    def _warm_up(self) -> None:
        """Let a fresh adapter look at the moment before it learns what to say."""
        settings = self.recipe.adapter
        if self.adapter is None or not settings.warm_up_steps or self._start_from:
            return
        adapter = self.adapter

        def condition_of(step: int) -> Tensor:
            number = int(generator(_WARM_UP, self.recipe.train.seed, step).integers(0, 1 << 30))
            batch = self.crops.batch([self.crops.crop(number)]).to(self.team.device)
            return adapter.join_streams(batch.values, batch.masks)

        torch.manual_seed(self.recipe.train.seed)
        with self.team.autocast():
            look_at_the_moment(
                adapter, self.decoder, condition_of, steps=settings.warm_up_steps, is_quiet=self.report is None
            )

    def _make_adapter(self, start_from: Path | None) -> JointEmbeddingAdapter | None:
        settings, held = self.recipe.adapter, self.folder.streams
        if start_from is not None:
            can = self.recipe.data.synthetic > 0
            adapter, self._start_from = trainees.take_up_adapter(start_from, self.decoder, held, can_make_up=can)
            return adapter
        if not settings.rank:
            return None
        specs = trainees.choose_specs(settings.streams, held)
        return trainees.make_adapter(settings, specs, self.decoder, self.recipe.train.seed)

    def _synthetic_share(self) -> DataPart:
        """The recipe's data table, without made-up motion where that can't be had but need not be."""
        settings = self.recipe.data
        if settings.synthetic > 0 and self.shape.seen:
            try:
                refuse_what_cannot_be_made(self.shape.specs)
            except UsageError as error:
                if settings.synthetic == 1:
                    raise
                self.notes.append(f"all motion is seen, none is made up: {error.reason}")
                return replace(settings, synthetic=0.0)
        return settings

    def _usable(self, split: str, synthetic: float) -> list[ClipRecord]:
        """A split's clips with a picture, or whose motion may be made up; without an adapter all."""
        clips, seen = self.folder.clips(split), self.shape.seen
        if not seen:
            return clips
        kept = [c for c in clips if has_picture(c, seen) or (synthetic > 0 and c.has_sound)]
        if left := len(clips) - len(kept):
            which = "held-out clips" if split == HELD_OUT else "clips"
            self.notes.append(f"{left} of {len(clips)} {which} show nothing that the adapter reads and are left out")
        return kept

    def _require_same_tokens(self, source: Source) -> None:
        """The data's tokens must be those that the model speaks."""
        form, config = self.folder.tokens, self.decoder.config
        own = (config.num_codebooks, config.vocab_size, config.channels)
        if (form.num_streams, form.vocab_size, form.channels) != own:
            raise UsageError(
                f"the data hold {form.num_streams} streams of {form.vocab_size} tokens ({form.channels} channels), "
                f"{self.files.name} speaks {own[0]} of {own[1]} ({own[2]}).",
                path=self.folder.path,
                remedy=f"Prepare the data again with --model {self.files.name}.",
            )
        if form.codec_digest and codec_digest(load_audio_model(source, torch.device("cpu"))) != form.codec_digest:
            raise UsageError(
                f"the data were encoded by another codec than that of {self.files.name}.",
                path=self.folder.path,
                remedy=f"Prepare the data again with --model {self.files.name}.",
            )

    def _decided(self) -> dict[str, Any]:
        """All that decides this run."""
        return {
            "format": 1,
            "recipe": self.recipe.fields(),
            "data": self.folder.digest,
            "model": self.model_digest,
            "start_from": self._start_from,
        }

    def _write(self, progress: Progress) -> Trained:
        held_out = read_log(self.out / "held_out.csv") if (self.out / "held_out.csv").is_file() else []
        kept = next((row for row in held_out if row["step"] == progress.best_step), {})
        adapter = self.out / ADAPTER if self.adapter is not None else None
        lora = self.out / LORA if self.adapted is not None else None
        result = Trained(
            self.out, adapter, lora, progress, self.steps, held_out[0] if held_out else {}, kept, tuple(self.notes)
        )
        if not self.team.is_first:
            return result
        if adapter is not None:
            runs.store(adapter, lambda: save_adapter(adapter, self.adapter, self.files.name, torch.float32))
        if lora is not None:
            runs.store(lora, lambda: trainees.save_lora(lora, self.adapted, self.files.name))
        facts = {
            "base_model": self.files.name,
            "base_licence": self.files.licence,
            "recipe": {"name": self.recipe.name, **self.recipe.fields()},
            "data": {
                "digest": self.folder.digest,
                "clips": {split: len(self.folder.clips(split)) for split in (TRAIN, HELD_OUT)},
                "train_hours": round(sum(c.duration_s for c in self.crops.clips) / 3600, 3),
                "leaks": self.folder.content["leaks"],
            },
            "steps": progress.step,
            "best_step": progress.best_step,
            "held_out": held_out,
            "gates": self.adapter.gates.tolist() if self.adapter is not None else [],
            "notes": self.notes,
            "version": __version__,
        }
        runs.store(self.out / FACTS_FILE, lambda: storage.write_json(self.out / FACTS_FILE, facts))
        return result
