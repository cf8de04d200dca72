"""A tiny MusicGen with random weights in the real format, and a small made-up piece of notes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from audiocraft_files import save_audiocraft

from expotion_cli.music.codecs.notes.tokens import QUALITIES, VOICE_INDEX, Event, chord_value, events_to_tokens

CAPTIONS = ["slow sad piano", "fast epic strings with drums", "dreamy ambient pads, soft", "upbeat electronic dance"]


def tiny_musicgen(num_codebooks: int = 4, audio_channels: int = 1, text_dim: int = 24, seed: int = 0):
    """transformers' MusicGen, 2 layers wide 32, with weights large enough that every part matters."""
    from transformers import MusicgenConfig, MusicgenForConditionalGeneration

    torch.manual_seed(seed)
    config = MusicgenConfig(
        text_encoder={
            "model_type": "t5",
            "vocab_size": 300,
            "d_model": text_dim,
            "d_kv": 8,
            "d_ff": 32,
            "num_layers": 2,
            "num_heads": 3,
            "dropout_rate": 0.0,
        },
        audio_encoder={
            "model_type": "encodec",
            "sampling_rate": 800,
            "upsampling_ratios": [4, 4],
            "num_filters": 4,
            "hidden_size": 8,
            "codebook_dim": 8,
            "codebook_size": 64,
            "num_lstm_layers": 1,
            "audio_channels": 1,
            "target_bandwidths": [2.0],
            "norm_type": "weight_norm",
            "normalize": False,
            "use_causal_conv": False,
            "num_residual_layers": 1,
            "compress": 2,
            "kernel_size": 3,
            "last_kernel_size": 3,
        },
        decoder={
            "model_type": "musicgen_decoder",
            "vocab_size": 64,
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "ffn_dim": 64,
            "num_codebooks": num_codebooks,
            "audio_channels": audio_channels,
            "dropout": 0.0,
            "pad_token_id": 64,
            "bos_token_id": 64,
            "max_position_embeddings": 512,
        },
    )
    model = MusicgenForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and not name.startswith("audio_encoder"):
                parameter.normal_(std=2.0 * parameter.shape[1] ** -0.5)
    model.generation_config.decoder_start_token_id = 64
    model.generation_config.pad_token_id = 64
    return model


def save_folder(model, folder: Path) -> Path:
    """Save in the transformers format, with a tokenizer."""
    from expotion_cli.music.transformer.text import train_tokenizer

    model.save_pretrained(folder)
    train_tokenizer(CAPTIONS, folder / "tokenizer.json", 290)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "musicgen"
    return folder


@pytest.fixture(scope="session")
def tiny():
    return tiny_musicgen()


@pytest.fixture(scope="session")
def make_tiny() -> Callable:
    """Makes other tiny MusicGens, stereo ones for instance."""
    return tiny_musicgen


@pytest.fixture(scope="session")
def save() -> Callable[..., Path]:
    return save_folder


@pytest.fixture(scope="session")
def tiny_folder(tiny, tmp_path_factory) -> Path:
    return save_folder(tiny, tmp_path_factory.mktemp("tiny") / "musicgen")


@pytest.fixture(scope="session")
def audiocraft_folder(tiny, tiny_folder, tmp_path_factory) -> Path:
    """The same model in audiocraft's files."""
    return save_audiocraft(tiny, tiny_folder / "tokenizer.json", tmp_path_factory.mktemp("audiocraft") / "model")


@pytest.fixture
def own_copy(audiocraft_folder, tmp_path) -> Path:
    """`audiocraft_folder`, for a test to change."""
    return Path(shutil.copytree(audiocraft_folder, tmp_path / "own"))


PROGRESSION = ((0, "maj"), (9, "min"), (5, "maj"), (7, "dom7"))


def piece_events(bars: int, level: int | None = 5) -> dict[str, list[Event]]:
    """Four chords over and over in all voices; `level` None swells from bar to bar."""
    events: dict[str, list[Event]] = {name: [] for name in VOICE_INDEX}
    for bar in range(bars):
        (root, quality), first = PROGRESSION[bar % 4], 48 * bar
        low, chord = (root if root < 6 else root - 12), QUALITIES[quality]
        events["dynamics"].append(Event(first, first + 48, min(7, 1 + bar) if level is None else level))
        events["harmony"].append(Event(first, first + 48, chord_value(root, quality), 1))
        events["counter"].append(Event(first, first + 48, 60 + low, 2))
        for beat in range(4):
            step = first + 12 * beat
            events["drums"].append(Event(step, step + 12, 2 if beat % 2 else 1, 2))
            events["bass"].append(Event(step, step + 11, 36 + low, 2))
            events["melody"].append(Event(step, step + 10, 72 + low + chord[beat % 3], 2))
        for half in range(8):
            step = first + 6 * half
            events["percussion"].append(Event(step, step + 6, 1, 1 + (half % 2 == 0)))
            events["figure"].append(Event(step, step + 6, 60 + low + chord[half % 3], 1))
    return events


@pytest.fixture(scope="session")
def piece() -> Callable[..., dict[str, list[Event]]]:
    return piece_events


@pytest.fixture(scope="session")
def piece_tokens() -> Callable[..., np.ndarray]:
    """Tokens [8, S] of the piece, or only of the voices named."""

    def tokens(num_steps: int, *, level: int | None = 5, only: tuple[str, ...] | None = None) -> np.ndarray:
        events = piece_events(num_steps // 48 + 1, level)
        wanted = {name: rows for name, rows in events.items() if only is None or name in (*only, "dynamics")}
        return events_to_tokens(wanted, num_steps)

    return tokens
