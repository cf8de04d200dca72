"""A tiny model with a codec that hears, a folder of made-up music, and data prepared from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_music import CAPTIONS, save_tiny, song, write_wav


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tokenizer(tiny_model):
    import torch

    from expotion_cli.training.data.tokens import AudioTokenizer, find_model

    return AudioTokenizer.load(find_model(str(tiny_model)), torch.device("cpu"))


@pytest.fixture(scope="session")
def music_folder(tmp_path_factory) -> Path:
    """Six songs by three artists, a folder each, with words."""
    folder = tmp_path_factory.mktemp("music")
    for number in range(6):
        path = write_wav(folder / f"artist{number // 2}" / f"song{number}.wav", song(number, 6.0, 80 + 10 * number))
        path.with_suffix(".txt").write_text(CAPTIONS[number % 4])
    return folder


@pytest.fixture(scope="session")
def music_data(music_folder, tokenizer, tmp_path_factory):
    """The songs, prepared; two of them are held out."""
    from expotion_cli.training.data.data_folder import DataFolder
    from expotion_cli.training.data.prepare import PrepareOptions, prepare
    from expotion_cli.vision.cache import EmbeddingCache

    out = tmp_path_factory.mktemp("data") / "data"
    cache = EmbeddingCache(tmp_path_factory.mktemp("embeddings"))
    prepare(music_folder, out, tokenizer=tokenizer, options=PrepareOptions(held_out_share=0.3), cache=cache)
    return DataFolder.open(out)


@pytest.fixture(scope="session")
def moving_data(tokenizer, tmp_path_factory):
    """Clips whose tokens are high or low with what is seen, prepared."""
    from adapter_runs import prepare_moving

    return prepare_moving(tmp_path_factory.mktemp("moving"), tokenizer)


@pytest.fixture(scope="session")
def taught(moving_data, tiny_model, tmp_path_factory):
    """(trainer, what came of it): an adapter that has learnt to follow what is seen."""
    from adapter_runs import trainer_for

    out = tmp_path_factory.mktemp("taught") / "run"
    settings = ("adapter.warm_up_steps=60", "train.steps=200", "train.batch=8", "train.micro_batch=8")
    trainer = trainer_for(moving_data, tiny_model, out, *settings, "train.eval_every=50", "train.save_every=50")
    return trainer, trainer.run()
