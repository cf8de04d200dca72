"""A tiny MusicGen whose codec hears, and small made-up songs and videos to train it on."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

RATE = 8000
CAPTIONS = ["slow sad piano", "fast epic strings with drums", "dreamy ambient pads, soft", "upbeat electronic dance"]


def song(seed: int, duration_s: float, bpm: float = 100.0) -> np.ndarray:
    """[n] float32 at 16 kHz: plucked notes on the beat, the first of four louder, over some noise."""
    rng, rate = np.random.default_rng(seed), 16_000
    sound = 0.004 * rng.normal(size=round(duration_s * rate))
    time = np.arange(rate // 2) / rate
    for beat in range(int(duration_s * bpm / 60)):
        first = round(beat * 60 / bpm * rate)
        note = np.sin(2 * np.pi * rng.uniform(90, 700) * time) * np.exp(-14 * time) * (1.0 if beat % 4 == 0 else 0.5)
        note += 0.3 * rng.normal(size=len(time)) * np.exp(-120 * time)
        part = sound[first : first + len(note)]
        part += note[: len(part)]
    return (0.7 * sound / np.abs(sound).max()).astype(np.float32)


def write_wav(path: Path, sound: np.ndarray, rate: int = 16_000) -> Path:
    """A mono WAV file of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(sound, -1, 1) * 32_767).astype("<i2").tobytes())
    return path


def tiny_musicgen(seed: int = 0, vocab_size: int = 32, num_codebooks: int = 2, dim: int = 32, num_layers: int = 2):
    """transformers' MusicGen with random weights; its codec's entries are what it makes of a song, so it hears."""
    import torch
    from transformers import MusicgenConfig, MusicgenForConditionalGeneration

    torch.manual_seed(seed)
    bits = (vocab_size - 1).bit_length()
    config = MusicgenConfig(
        text_encoder={"model_type": "t5", "vocab_size": 300, "d_model": 24, "d_kv": 8, "d_ff": 32, "num_layers": 1,
                      "num_heads": 2, "dropout_rate": 0.0},
        audio_encoder={"model_type": "encodec", "sampling_rate": RATE, "upsampling_ratios": [16, 10], "num_filters": 4,
                       "hidden_size": 8, "codebook_dim": 8, "codebook_size": vocab_size, "num_lstm_layers": 1,
                       "audio_channels": 1, "target_bandwidths": [0.05 * bits * num_codebooks],
                       "norm_type": "weight_norm", "normalize": False, "use_causal_conv": False,
                       "num_residual_layers": 1, "compress": 2, "kernel_size": 3, "last_kernel_size": 3},
        decoder={"model_type": "musicgen_decoder", "vocab_size": vocab_size, "hidden_size": dim,
                 "num_hidden_layers": num_layers, "num_attention_heads": dim // 16, "ffn_dim": 2 * dim,
                 "num_codebooks": num_codebooks, "audio_channels": 1, "dropout": 0.0,
                 "pad_token_id": vocab_size, "bos_token_id": vocab_size, "max_position_embeddings": 512},
    )  # fmt: skip
    model = MusicgenForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and not name.startswith("audio_encoder"):
                parameter.normal_(std=parameter.shape[1] ** -0.5)
        heard = torch.from_numpy(song(99, 20.0)[:: 16_000 // RATE].copy())[None, None]
        rest = model.audio_encoder.encoder(heard)[0].T
        for layer in model.audio_encoder.quantizer.layers:
            layer.codebook.embed.copy_(rest[torch.randperm(len(rest))[:vocab_size]])
            rest = rest - layer.codebook.embed[torch.cdist(rest, layer.codebook.embed).argmin(dim=1)]
    model.generation_config.decoder_start_token_id = vocab_size
    model.generation_config.pad_token_id = vocab_size
    return model


def save_tiny(folder: Path, **options) -> Path:
    """The tiny model as a folder in the transformers format, with a tokenizer."""
    from expotion_cli.music.transformer.text import train_tokenizer

    tiny_musicgen(**options).save_pretrained(folder)
    train_tokenizer(CAPTIONS, folder / "tokenizer.json", 290)
    return folder
