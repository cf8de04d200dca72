"""Small runs of adapter training on clips whose tokens follow what is seen, in this process or in one of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tiny_music import CAPTIONS

SMALL = (
    "adapter.window_steps=100", "adapter.rank=8", "adapter.warm_up_steps=5", "data.held_out_crops=6", "data.drop_all=0",
    "data.drop_each=0", "data.drop_text=0", "train.batch=4", "train.micro_batch=4", "train.eval_every=8",
    "train.save_every=7", "train.steps=24", "train.warmup_steps=4", "train.patience=0",
)  # fmt: skip


def write_moving_list(folder: Path, *, count: int = 16, width: int = 2, vocab_size: int = 32) -> Path:
    """Clips of 3.2 s as a list: somebody is up or down, and all streams' tokens are high or low with it."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    lines = []
    for number in range(count):
        up = np.repeat(rng.integers(0, 2, 8), 2)  # 5 rows a second
        features = 0.1 * rng.normal(size=(16, width)) + 2.0 * up[:, None] - 1.0
        low = np.where(np.repeat(up, 10), vocab_size // 2, 0)
        np.save(folder / f"f{number}.npy", features.astype(np.float32))
        np.save(folder / f"t{number}.npy", low + rng.integers(0, 4, (2, 160)))
        about = {"audio_id": f"track {number}", "caption": CAPTIONS[number % 4]}
        lines.append(f"f{number}.npy|t{number}.npy|{about}")
    path = folder / "clips.txt"
    path.write_text("\n".join(lines))
    return path


def prepare_moving(folder: Path, tokenizer, *, width: int = 2):
    """`write_moving_list`, prepared: 12 clips to learn from, 4 held out."""
    from expotion_cli.music.transformer.adapter import StreamSpec
    from expotion_cli.training.data.data_folder import DataFolder
    from expotion_cli.training.data.prepare import PrepareOptions, prepare

    options = PrepareOptions(features=(StreamSpec.numbered("move", width),), held_out_share=0.25)
    listed = write_moving_list(folder / "list", width=width)
    prepare(listed, folder / "data", tokenizer=tokenizer, options=options)
    return DataFolder.open(folder / "data")


def trainer_for(
    data, model: Path, out: Path, *settings: str, recipe: str = "adapter", start_from: Path | None = None,
    report: Callable | None = None, device: str = "cpu",
):  # fmt: skip
    """A small run, by default on one core of the processor; `settings` are laid over `SMALL`."""
    import torch

    from expotion_cli.training.adapter.trainer import AdapterTrainer
    from expotion_cli.training.data.data_folder import DataFolder
    from expotion_cli.training.data.tokens import find_model
    from expotion_cli.training.distributed import DistributedContext
    from expotion_cli.training.settings import load_train_recipe

    torch.set_num_threads(1)
    made = load_train_recipe(recipe, [*SMALL, *settings])
    folder = data if isinstance(data, DataFolder) else DataFolder.open(data)
    return AdapterTrainer(
        folder, find_model(str(model)), made, out, DistributedContext(device, made.train.precision), start_from, report
    )


def main() -> None:
    """DATA MODEL OUT STEP SETTINGS...: train, say so after the held-out losses of STEP, and wait there to be killed."""
    import time

    data, model, out, step, *settings = sys.argv[1:]

    def report(kind: str, row: dict[str, float]) -> None:
        if kind == "held_out" and row["step"] == float(step):
            print("now", flush=True)
            time.sleep(60)

    trainer_for(data, Path(model), Path(out), *settings, report=report).run()


if __name__ == "__main__":
    main()
