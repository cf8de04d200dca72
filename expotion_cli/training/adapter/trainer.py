"""Trains an adapter on a frozen MusicGen: the joint-embedding adapter (EXPOTION section 3), a LoRA, or both.

The run's folder holds `run.json` (what determines the run), checkpoints, logs, and at the end `adapter/` and `lora/` in
PEFT's layout, ready for `expotion-score --adapter`.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expotion_cli.errors import UsageError
from expotion_cli.music.checkpoints.huggingface import load_checkpoint, open_checkpoint
from expotion_cli.music.transformer.adapter import JointEmbeddingAdapter
from expotion_cli.music.transformer.attention import PrefixKeyValues, TextKeyValues
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.prefix import NO_PITCH, encode_prefix
from expotion_cli.training import run_folder
from expotion_cli.training.adapter import checkpointing, trainable
from expotion_cli.training.adapter.batches import Batch, BatchShape
from expotion_cli.training.adapter.crops import Crop, CropSampler, has_picture, mismatched_crops
from expotion_cli.training.adapter.motion_from_audio import require_synthesizable
from expotion_cli.training.adapter.results import ADAPTER, LORA, TrainingResult, write_results
from expotion_cli.training.adapter.warmup import warm_up_adapter
from expotion_cli.training.checkpoints import CHECKPOINT, Progress, load_best
from expotion_cli.training.data.data_folder import ClipRecord, DataFolder
from expotion_cli.training.data.splits import HELD_OUT, TRAIN
from expotion_cli.training.data.tokens import ModelFiles, require_audio_codec
from expotion_cli.training.distributed import DistributedContext
from expotion_cli.training.logs import HELD_OUT_LOG, Report, read_log, tensorboard
from expotion_cli.training.loop import LoopSettings, run_loop
from expotion_cli.training.loss import token_loss
from expotion_cli.training.seeding import keyed_generator
from expotion_cli.training.settings import DataSettings, TrainRecipe
from expotion_cli.version import __version__

_WARM_UP, _DROPOUT = 4 << 40, 5 << 40
"""Purposes of `keyed_generator`, besides those of `crops`."""
_MICRO_BATCHES_PER_STEP = 4096
_CACHED_CAPTIONS = 512
_NAMED_CROPS = 8
MATCHED, MISMATCHED, MASKED, OFF = "loss", "shuffled", "unseen", "off"
"""Names of the held-out losses by condition, as stored in `held_out.csv`: own picture, another clip's, masked, off."""


class AdapterTrainer:
    """A run of adapter training.

    Args:
        folder: the prepared data.
        files: the model to adapt.
        recipe: the training recipe.
        out: the run's folder.
        distributed: devices and processes.
        start_from: an adapter to continue from; a new one by default.
        report: receives ("train" or "held_out", figures) as they come; without it no progress bar is shown either.

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
        distributed: DistributedContext,
        start_from: Path | None = None,
        report: Report | None = None,
    ):
        self.folder, self.files, self.recipe, self.out = folder, files, recipe, out
        self.distributed, self.report = distributed, report
        self.notes: list[str] = []
        source = open_checkpoint(files.path)
        require_audio_codec(source.config, files.name)
        checkpoint = load_checkpoint(
            source, device=distributed.device, dtype=distributed.frozen_dtype, known=files.checked
        )
        self.decoder, self.text, self.model_digest = checkpoint.decoder, checkpoint.text, checkpoint.digest
        folder.tokens.require_match(source, self.decoder.config, files.name, folder.path)
        self._start_digest = ""
        self.adapter = self._make_adapter(start_from)
        specs = self.adapter.config.streams if self.adapter is not None else ()
        window = self.adapter.config.window_steps if self.adapter is not None else recipe.adapter.window_steps
        config = self.decoder.config
        self.shape = BatchShape(window, config.delays, config.start_token, folder.tokens.rate_hz, specs)
        settings = self._data_settings()
        clips = self._usable(TRAIN, settings.synthetic)
        if not clips:
            raise UsageError(
                "no clip in the data can train this adapter.",
                path=folder.path,
                remedy="It needs video or features of its streams, or sound and --recipe synthetic.",
            )
        self.crops = CropSampler(folder, clips, self.shape, settings, recipe.train.seed)
        held_out = self._usable(HELD_OUT, settings.synthetic)
        self.held_out = CropSampler(folder, held_out, self.shape, settings, recipe.train.seed) if held_out else None
        if not held_out:
            self.notes.append("nothing is held out: the last weights are kept, and the run can't stop early")
        self.lora_model = trainable.add_lora(recipe.lora, self.decoder, recipe.train.seed) if recipe.lora.rank else None
        lora = None
        if self.lora_model is not None:
            lora = trainable.ParameterBundle(trainable.lora_parameters(self.decoder))
        parts = {ADAPTER: self.adapter, LORA: lora}
        self.modules = {name: part for name, part in parts.items() if part is not None}
        self.optimizers = trainable.make_optimizers(recipe.train, self.adapter, lora)
        self.parameters = [p for module in self.modules.values() for p in module.parameters()]
        self._encode_caption = lru_cache(maxsize=_CACHED_CAPTIONS)(self.text.encode)
        # Text in a prefix moves the music: as long for all crops, the loss doesn't depend on the micro-batch.
        self._prefix_text = 0
        if self.decoder.config.takes_melody:
            self._prefix_text = max(self.text.bucket(clip.caption) for clip in (*clips, *held_out))

    @property
    def steps(self) -> int:
        """Optimiser steps in all, from the recipe's steps or epochs."""
        settings = self.recipe.train
        if settings.steps:
            return settings.steps
        return max(1, math.ceil(settings.epochs * self.crops.crops_per_epoch / settings.batch))

    def loop_settings(self) -> LoopSettings:
        """The recipe's schedule, in steps."""
        settings = self.recipe.train
        warmup = round(settings.warmup_epochs * self.crops.crops_per_epoch / settings.batch)
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

    def run(self) -> TrainingResult:
        """Train, or resume, and write what was trained.

        Raises:
            UsageError: the folder holds another run.
            ExpotionError: a loss is not finite; its batch is named.
            OutputError: something can't be written; the last checkpoint is whole.
        """
        run_folder.claim(self.out, self._inputs(), is_writer=self.distributed.is_main)
        self.distributed.barrier()
        if not (self.out / CHECKPOINT).is_file():
            self._warm_up()
        self.distributed.broadcast_parameters(self.modules.values())
        with tensorboard(self.out if self.distributed.is_main else None) as board:

            def report(kind: str, row: dict[str, float]) -> None:
                for sink in (board, self.report):
                    if sink is not None:
                        sink(kind, row)

            progress = run_loop(
                self.modules,
                self.optimizers,
                self.train_step,
                self.evaluate if self.held_out is not None else None,
                self.out,
                self.loop_settings(),
                describe_batch=self.describe_batch,
                report=report,
                is_writer=self.distributed.is_main,
                is_quiet=self.report is None,
            )
        self.distributed.barrier()
        load_best(self.out, self.modules)
        return self._write_results(progress)

    def train_step(self, step: int) -> float:
        """Accumulate the gradients of a step and return its loss, in nats a token.

        Loss and gradients are means over all tokens of the step's crops, whatever the micro-batch size and the number
        of processes.
        """
        crops = self.step_crops(step)
        num_tokens = sum(crop.num_steps for crop in crops) * self.decoder.config.num_codebooks
        size = self.recipe.train.micro_batch
        own = self.distributed.shard(crops)
        total = torch.zeros((), device=self.distributed.device, dtype=torch.float64)
        if self.lora_model is not None:
            self.decoder.train()  # LoRA dropout
        for first in range(0, len(own), size):
            number = step * _MICRO_BATCHES_PER_STEP + first // size
            rng = keyed_generator(self.recipe.train.seed, number, _DROPOUT + self.distributed.rank)
            torch.manual_seed(int(rng.integers(0, 2**62)))
            batch = self.crops.batch(own[first : first + size]).to(self.distributed.device)
            loss = token_loss(*self.predict(batch), reduction="sum") / num_tokens
            loss.backward()
            total += loss.detach()
        self.distributed.all_reduce_gradients(self.parameters)
        return float(self.distributed.all_reduce(total))

    def step_crops(self, step: int) -> list[Crop]:
        """All crops of a step, over all processes."""
        size = self.recipe.train.batch
        return [self.crops.crop(number) for number in range(step * size, (step + 1) * size)]

    def describe_batch(self, step: int) -> str:
        """Names of a step's crops, for an error message."""
        names = [str(crop) for crop in self.step_crops(step)]
        more = f" and {len(names) - _NAMED_CROPS} more" if len(names) > _NAMED_CROPS else ""
        return ", ".join(names[:_NAMED_CROPS]) + more

    def predict(self, batch: Batch, *, has_adapter: bool = True) -> tuple[Tensor, Tensor]:
        """The decoder's predictions for a batch.

        Args:
            batch: on this process's device.
            has_adapter: False leaves the joint-embedding adapter out.

        Returns:
            (logits [B, K, P, V], targets [B, K, P]).
        """
        recompute = self.recipe.train.checkpointing
        states, mask = self._text_states(batch.captions)
        with self.distributed.autocast():
            text, side = self._encode(states, mask), None
            if self.adapter is not None and has_adapter:
                streams = self.adapter.join_streams(batch.values, batch.masks)
                side = checkpointing.side_stream(self.adapter, self.decoder, streams, recompute=recompute)
            context = LockstepContext(text, side_stream=side)
            logits = checkpointing.decode(self.decoder, batch.inputs, context, recompute=recompute)
        return logits, batch.targets

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Held-out losses in nats a token, and the mean absolute gate.

        Returns:
            "loss": with each crop's own picture; "shuffled": with another clip's (absent if all are of one clip);
            "unseen": with the picture masked; "off": without anything that is trained; "gate".
        """
        assert self.held_out is not None
        self.decoder.eval()
        all_crops = self.held_out.held_out(self.recipe.data.held_out_crops)
        others = self.distributed.shard(mismatched_crops(all_crops)) if self.adapter is not None else []
        crops = self.distributed.shard(all_crops)
        size = self.recipe.train.micro_batch
        conditions = {MATCHED: True, MISMATCHED: bool(others), MASKED: self.adapter is not None, OFF: True}
        names = [name for name, is_measured in conditions.items() if is_measured]
        sums = torch.zeros(len(names) + 1, device=self.distributed.device, dtype=torch.float64)
        for first in range(0, len(crops), size):
            part = slice(first, first + size)
            batch = self.held_out.batch(crops[part]).to(self.distributed.device)
            batches = {MATCHED: batch, MASKED: batch.without_picture(), OFF: batch}
            if others:
                other = self.held_out.batch(others[part]).to(self.distributed.device)
                batches[MISMATCHED] = batch.with_streams_of(other)
            for number, name in enumerate(names):
                with self._without_lora() if name == OFF else contextlib.nullcontext():
                    logits, targets = self.predict(batches[name], has_adapter=name != OFF)
                    sums[number] += token_loss(logits, targets, reduction="sum").double()
            sums[-1] += (batch.targets >= 0).sum()
        sums = self.distributed.all_reduce(sums)
        figures = {name: float(sums[number] / sums[-1]) for number, name in enumerate(names)}
        if self.adapter is not None:
            figures["gate"] = float(self.adapter.gates.abs().mean())
        return figures

    def _without_lora(self) -> contextlib.AbstractContextManager[Any]:
        return self.lora_model.disable_adapter() if self.lora_model is not None else contextlib.nullcontext()

    def _encode(self, states: Tensor, mask: Tensor) -> TextKeyValues | PrefixKeyValues:
        """What the music attends to beside itself; a model that takes a melody is given none."""
        if not self.decoder.config.takes_melody:
            return self.decoder.encode_text(states, mask)
        pitches = torch.full((len(states), self.decoder.config.melody_frames), NO_PITCH, device=states.device)
        return encode_prefix(self.decoder, states, mask, pitches)

    def _text_states(self, captions: tuple[str | None, ...]) -> tuple[Tensor, Tensor]:
        """([B, L, D] states, [B, L] mask) of captions, each encoded alone as at inference; None is masked."""
        encoded = [self._encode_caption(caption or "") for caption in captions]
        length = max(self._prefix_text, *(len(mask) for _, mask in encoded))
        states = torch.zeros(len(encoded), length, encoded[0][0].shape[1], device=self.distributed.device)
        mask = torch.zeros(len(encoded), length, dtype=torch.bool, device=self.distributed.device)
        for row, ((state, valid), caption) in enumerate(zip(encoded, captions, strict=True)):
            if caption is not None:
                states[row, : len(valid)], mask[row, : len(valid)] = state, valid
        return states, mask

    def _warm_up(self) -> None:
        """Fit a new adapter's positions before the music is trained on."""
        settings = self.recipe.adapter
        if self.adapter is None or not settings.warm_up_steps or self._start_digest:
            return
        adapter = self.adapter

        def condition_fn(step: int) -> Tensor:
            number = int(keyed_generator(self.recipe.train.seed, step, _WARM_UP).integers(0, 1 << 30))
            batch = self.crops.batch([self.crops.crop(number)]).to(self.distributed.device)
            return adapter.join_streams(batch.values, batch.masks)

        torch.manual_seed(self.recipe.train.seed)
        with self.distributed.autocast():
            warm_up_adapter(
                adapter, self.decoder, condition_fn, steps=settings.warm_up_steps, is_quiet=self.report is None
            )

    def _make_adapter(self, start_from: Path | None) -> JointEmbeddingAdapter | None:
        settings, data_streams = self.recipe.adapter, self.folder.streams
        if start_from is not None:
            adapter, self._start_digest = trainable.load_initial_adapter(
                start_from, self.decoder, data_streams, allow_synthetic=self.recipe.data.synthetic > 0
            )
            return adapter
        if not settings.rank:
            return None
        specs = trainable.choose_specs(settings.streams, data_streams)
        return trainable.new_adapter(settings, specs, self.decoder, self.recipe.train.seed)

    def _data_settings(self) -> DataSettings:
        """The recipe's [data] table, without optional synthetic motion where the streams can't be synthesised."""
        settings = self.recipe.data
        if settings.synthetic > 0 and self.shape.visual_names:
            try:
                require_synthesizable(self.shape.specs)
            except UsageError as error:
                if settings.synthetic == 1:
                    raise
                self.notes.append(f"no synthetic motion is mixed in: {error.reason}")
                return replace(settings, synthetic=0.0)
        return settings

    def _usable(self, split: str, synthetic: float) -> list[ClipRecord]:
        """A split's clips that have a picture, or whose motion may be synthetic; without an adapter, all of them."""
        clips, names = self.folder.clips(split), self.shape.visual_names
        if not names:
            return clips
        usable = [clip for clip in clips if has_picture(clip, names) or (synthetic > 0 and clip.has_sound)]
        if count := len(clips) - len(usable):
            which = "held-out clips" if split == HELD_OUT else "clips"
            self.notes.append(f"{count} of {len(clips)} {which} have none of the adapter's streams and are left out")
        return usable

    def _inputs(self) -> dict[str, Any]:
        """All that determines this run, for `run.json`."""
        return {
            "format": 1,
            "recipe": self.recipe.fields(),
            "data": self.folder.digest,
            "model": self.model_digest,
            "start_from": self._start_digest,
        }

    def _write_results(self, progress: Progress) -> TrainingResult:
        log = self.out / HELD_OUT_LOG
        held_out = read_log(log) if log.is_file() else []
        if self.distributed.is_main:
            write_results(self.out, self.files.name, self.adapter, self.lora_model, self._facts(progress, held_out))
        return TrainingResult(
            out=self.out,
            adapter=self.out / ADAPTER if self.adapter is not None else None,
            lora=self.out / LORA if self.lora_model is not None else None,
            progress=progress,
            steps=self.steps,
            first=held_out[0] if held_out else {},
            best=next((row for row in held_out if row["step"] == progress.best_step), {}),
            notes=tuple(self.notes),
        )

    def _facts(self, progress: Progress, held_out: list[dict[str, float]]) -> dict[str, Any]:
        """What `training.json` says about the run."""
        return {
            "base_model": self.files.name,
            "base_licence": self.files.licence,
            "recipe": {"name": self.recipe.name, **self.recipe.fields()},
            "data": {
                "digest": self.folder.digest,
                "clips": {split: len(self.folder.clips(split)) for split in (TRAIN, HELD_OUT)},
                "train_hours": round(sum(clip.duration_s for clip in self.crops.clips) / 3600, 3),
                "leaks": self.folder.content["leaks"],
            },
            "steps": progress.step,
            "best_step": progress.best_step,
            "held_out": held_out,
            "gates": self.adapter.gates.tolist() if self.adapter is not None else [],
            "notes": self.notes,
            "version": __version__,
        }
