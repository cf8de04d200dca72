"""A tiny MusicGen Melody with random weights in the published formats, tunes for it, and what it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

FRAMES = 11
"""Melody frames of the tiny model; the published ones have 235."""


def tiny_musicgen_melody(
    num_codebooks: int = 4, audio_channels: int = 1, seed: int = 0, frames: int = FRAMES, rate: int = 800
):
    """transformers' MusicGen Melody, 3 layers wide 32, with weights large enough that every part matters."""
    import torch
    from transformers import MusicgenMelodyConfig, MusicgenMelodyForConditionalGeneration

    torch.manual_seed(seed)
    config = MusicgenMelodyConfig(
        num_chroma=12,
        chroma_length=frames,
        text_encoder={"model_type": "t5", "vocab_size": 300, "d_model": 24, "d_kv": 8, "d_ff": 32, "num_layers": 2,
                      "num_heads": 3, "dropout_rate": 0.0},
        audio_encoder={"model_type": "encodec", "sampling_rate": rate, "upsampling_ratios": [4, rate // 200],
                       "num_filters": 4, "hidden_size": 8, "codebook_dim": 8, "codebook_size": 64,
                       "num_lstm_layers": 1, "audio_channels": 1, "target_bandwidths": [2.0],
                       "norm_type": "weight_norm", "normalize": False, "use_causal_conv": False,
                       "num_residual_layers": 1, "compress": 2, "kernel_size": 3, "last_kernel_size": 3},
        decoder={"model_type": "musicgen_melody_decoder", "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 3,
                 "num_attention_heads": 4, "ffn_dim": 64, "num_codebooks": num_codebooks,
                 "audio_channels": audio_channels, "dropout": 0.0, "pad_token_id": 64, "bos_token_id": 64,
                 "max_position_embeddings": 512},
    )  # fmt: skip
    model = MusicgenMelodyForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and not name.startswith("audio_encoder"):
                parameter.normal_(std=2.0 * parameter.shape[1] ** -0.5)
        for layer in model.audio_encoder.quantizer.layers:
            layer.codebook.embed.normal_(std=1.0)
    model.generation_config.decoder_start_token_id = 64
    model.generation_config.pad_token_id = 64
    return model


def save_tiny_melody(folder: Path, model=None) -> Path:
    """A tiny model as a folder in the transformers format, with a tokenizer."""
    from tiny_music import CAPTIONS

    from expotion_cli.music.transformer.text import train_tokenizer

    (model or tiny_musicgen_melody()).save_pretrained(folder)
    train_tokenizer(CAPTIONS, folder / "tokenizer.json", 290)
    return folder


def melodic_copy(folder: Path, out: Path) -> Path:
    """A melody model from a plain one's folder: without cross-attention, with a projection of the melody."""
    import json
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, out)
    config = json.loads((out / "config.json").read_text())
    config |= {"model_type": "musicgen_melody", "num_chroma": 12, "chroma_length": FRAMES}
    (out / "config.json").write_text(json.dumps(config))
    tensors = {name: each for name, each in load_file(out / "model.safetensors").items() if ".encoder_attn" not in name}
    width, rng = config["decoder"]["hidden_size"], torch.Generator().manual_seed(2)
    tensors["audio_enc_to_dec_proj.weight"] = torch.randn(width, 12, generator=rng)
    tensors["audio_enc_to_dec_proj.bias"] = torch.randn(width, generator=rng)
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    return out


def speech(duration_s: float, seed: int = 0, rate: int = 32_000) -> np.ndarray:
    """[n] float32: syllables whose pitch glides, with breaths of noise between them."""
    rng, sound = np.random.default_rng(seed), []
    while sum(map(len, sound)) < duration_s * rate:
        time = np.arange(round(rng.uniform(0.1, 0.25) * rate)) / rate
        hz = rng.uniform(90, 220) * 2 ** (rng.uniform(-4, 4) * time)
        phase = np.cumsum(hz) / rate
        voiced = sum(np.sin(2 * np.pi * k * phase) / k for k in range(1, 30)) * np.sin(np.pi * time / time[-1])
        sound += [0.1 * voiced, 0.03 * rng.normal(size=round(rng.uniform(0.03, 0.1) * rate))]
    return np.concatenate(sound)[: round(duration_s * rate)].astype(np.float32)


def tune(duration_s: float, notes: tuple[float, ...] = (60, 64, 67, 72), rate: int = 32_000) -> np.ndarray:
    """[n] float32: plucked notes (MIDI numbers) of half a second, over and over."""
    time = np.arange(round(duration_s * rate)) / rate
    number = (time // 0.5).astype(int) % len(notes)
    hz = 440 * 2 ** ((np.array(notes)[number] - 69) / 12)
    phase = np.cumsum(hz) / rate
    wave = sum(np.sin(2 * np.pi * k * phase) / k for k in (1, 2, 3))
    return (0.2 * wave * np.exp(-3 * (time % 0.5))).astype(np.float32)
