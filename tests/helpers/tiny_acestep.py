"""A tiny ACE-Step with random weights, in the format that diffusers publishes it in."""

from __future__ import annotations

from pathlib import Path

import torch

HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 48}
CHANNELS = 8


def save_tiny(folder: Path, *, turbo: bool = True, seed: int = 0) -> Path:
    """Write a model of some 0.1 million parameters; its rates are the published ones."""
    from diffusers import (
        AceStepPipeline,
        AceStepTransformer1DModel,
        AutoencoderOobleck,
        FlowMatchEulerDiscreteScheduler,
    )
    from diffusers.pipelines.ace_step import AceStepConditionEncoder
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

    torch.manual_seed(seed)
    letters = {chr(code): code - 32 for code in range(32, 127)} | {"\n": 95, "<pad>": 96, "<|endoftext|>": 97}
    characters = Tokenizer(models.WordLevel(letters, unk_token="<pad>"))
    characters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=characters, pad_token="<pad>", eos_token="<|endoftext|>", model_max_length=512
    )
    transformer = AceStepTransformer1DModel(
        hidden_size=32, num_hidden_layers=2, in_channels=3 * CHANNELS, audio_acoustic_hidden_dim=CHANNELS,
        sliding_window=16, is_turbo=turbo, model_version="turbo" if turbo else "sft", **HEADS,
    )  # fmt: skip
    text = Qwen3Model(Qwen3Config(hidden_size=24, num_hidden_layers=2, vocab_size=98, **HEADS))
    conditions = AceStepConditionEncoder(
        hidden_size=32, text_hidden_dim=24, timbre_hidden_dim=CHANNELS, num_lyric_encoder_hidden_layers=2,
        num_timbre_encoder_hidden_layers=2, sliding_window=16, **HEADS,
    )  # fmt: skip
    conditions.silence_latent.normal_()
    vae = AutoencoderOobleck(
        encoder_hidden_size=2, downsampling_ratios=[2, 4, 4, 6, 10], channel_multiples=[1, 1, 1, 1, 1],
        decoder_channels=4, decoder_input_channels=CHANNELS, audio_channels=2, sampling_rate=48_000,
    )  # fmt: skip
    with torch.no_grad():  # large enough that every part matters
        for parameter in (*transformer.parameters(), *conditions.parameters()):
            if parameter.ndim == 2:
                parameter.mul_(3.0)
    pipeline = AceStepPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, transformer=transformer, condition_encoder=conditions,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    (weights,) = (folder / "transformer").glob("*.safetensors")
    size = weights.stat().st_size
    weights.unlink()
    transformer.save_pretrained(folder / "transformer", max_shard_size=round(0.7 * size))  # in two, like the large one
    return folder
