"""What a run of adapter training leaves behind: `adapter/` and `lora/` in PEFT's layout, and `training.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from expotion_cli import storage
from expotion_cli.errors import writing
from expotion_cli.music.checkpoints.adapter_files import save_adapter
from expotion_cli.music.transformer.adapter import JointEmbeddingAdapter
from expotion_cli.training.adapter.trainable import save_lora
from expotion_cli.training.checkpoints import Progress
from expotion_cli.training.run_folder import RESUME_REMEDY

if TYPE_CHECKING:
    from peft import PeftModel

FACTS_FILE = "training.json"
ADAPTER, LORA = "adapter", "lora"


@dataclass(frozen=True)
class TrainingResult:
    """Outcome of a run.

    Attributes:
        out: its folder.
        adapter, lora: folders of what was trained; None for what was not.
        progress: where the run ended.
        steps: optimiser steps that the recipe asks for; fewer were done if the run stopped early.
        first, best: held-out figures of the first evaluation, and of the weights that were kept; empty without
            held-out clips.
        notes: sentences on what the user should know.
    """

    out: Path
    adapter: Path | None
    lora: Path | None
    progress: Progress
    steps: int
    first: dict[str, float]
    best: dict[str, float]
    notes: tuple[str, ...]


def write_results(
    out: Path,
    base_model: str,
    adapter: JointEmbeddingAdapter | None,
    lora_model: PeftModel | None,
    facts: Mapping[str, Any],
) -> None:
    """Write what was trained, and `training.json`.

    Args:
        out: the run's folder.
        base_model: name of the adapted model, for PEFT's configuration.
        adapter: hold the weights to write; None for what was not trained.
        lora_model: hold the weights to write; None for what was not trained.
        facts: about the run, as plain JSON values.

    Raises:
        OutputError: a file can't be written; running the same command again writes it.
    """
    if adapter is not None:
        with writing(out / ADAPTER, remedy=RESUME_REMEDY):
            save_adapter(out / ADAPTER, adapter, base_model, torch.float32)
    if lora_model is not None:
        with writing(out / LORA, remedy=RESUME_REMEDY):
            save_lora(out / LORA, lora_model, base_model)
    with writing(out / FACTS_FILE, remedy=RESUME_REMEDY):
        storage.write_json(out / FACTS_FILE, facts)
