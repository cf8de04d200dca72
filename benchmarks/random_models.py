"""MusicGen of real layer sizes with random weights, in this project's decoder and in transformers'."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from expotion_cli.music.conditioning import StepStream
from expotion_cli.music.generate.engine import Engine
from expotion_cli.music.generate.sampling import Sampling
from expotion_cli.music.request import CueRequest
from expotion_cli.music.transformer.adapter import AdapterConfig, JointEmbeddingAdapter, StreamSpec
from expotion_cli.music.transformer.config import DecoderConfig
from expotion_cli.music.transformer.decoder import MusicDecoder
from expotion_cli.music.transformer.text import TextEncoder, train_tokenizer
from expotion_cli.timing import Timeline

RATE_HZ = 50
GUIDANCE, TOP_K = 3.0, 250
PROMPTS = ("slow sad piano", "fast epic strings with drums", "dreamy ambient pads", "upbeat electronic dance")
SIZES = {  # width, layers, heads
    "mini": (192, 6, 6),
    "512x8": (512, 8, 8),
    "small": (1024, 24, 16),
    "medium": (1536, 48, 24),
    "large": (2048, 48, 32),
}
WINDOW_STEPS = 500
STREAM = StreamSpec("motion", tuple(str(i) for i in range(256)))
ADAPTER_RANK = 48


@dataclass(frozen=True)
class Place:
    """Where and in which number type a model runs."""

    device: torch.device
    dtype: torch.dtype


def theirs(size: str, place: Place) -> Any:
    """transformers' MusicGen: a decoder of that size, small text and audio models."""
    from transformers import MusicgenConfig, MusicgenForConditionalGeneration
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    dim, layers, heads = SIZES[size]
    config = MusicgenConfig(
        text_encoder={"model_type": "t5", "vocab_size": 400, "d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 2,
                      "num_heads": 4, "dropout_rate": 0.0},
        audio_encoder={"model_type": "encodec", "sampling_rate": 32_000, "upsampling_ratios": [8, 5, 4, 4],
                       "num_filters": 2, "hidden_size": 8, "codebook_dim": 8, "codebook_size": 2048,
                       "num_lstm_layers": 1, "audio_channels": 1,
                       "target_bandwidths": [2.2], "norm_type": "weight_norm", "normalize": False,
                       "use_causal_conv": False},
        decoder={"model_type": "musicgen_decoder", "vocab_size": 2048, "num_codebooks": 4, "audio_channels": 1,
                 "dropout": 0.0, "pad_token_id": 2048, "bos_token_id": 2048, "hidden_size": dim,
                 "num_hidden_layers": layers, "num_attention_heads": heads, "ffn_dim": 4 * dim},
    )  # fmt: skip
    torch.manual_seed(0)
    with place.device:
        model = MusicgenForConditionalGeneration(config).to(place.dtype).eval()
    model.generation_config.decoder_start_token_id = model.generation_config.pad_token_id = 2048
    return model


def text_encoder(folder: Path, device: torch.device) -> TextEncoder:
    """A small T5 with a tokenizer for the benchmark's prompts."""
    from expotion_cli.music.transformer.t5 import T5Encoder, T5Settings
    from expotion_cli.music.transformer.text import load_tokenizer

    train_tokenizer(PROMPTS, folder / "tokenizer.json", 400)
    settings = T5Settings(vocab_size=400, d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4)
    return TextEncoder(T5Encoder(settings).eval().requires_grad_(False), load_tokenizer(folder)).to(device)


def ours(size: str, place: Place, text: TextEncoder, *, adapter: bool = False) -> Engine:
    """This project's engine; the adapter is on all layers, its gates are open."""
    dim, layers, heads = SIZES[size]
    torch.manual_seed(0)
    with place.device:
        decoder = MusicDecoder(DecoderConfig(dim, layers, heads, 4 * dim, 4, 2048, text.dim)).to(place.dtype)
    decoder.eval().requires_grad_(False)
    seeing = None
    if adapter:
        with place.device:
            seeing = JointEmbeddingAdapter(AdapterConfig(dim, layers, ADAPTER_RANK, WINDOW_STEPS, (STREAM,)))
        seeing.gates.data.fill_(0.1)
        seeing = seeing.to(place.device, place.dtype).eval().requires_grad_(False)
    return Engine(decoder, text, seeing, WINDOW_STEPS)


def cues(count: int, num_steps: int, *, seeing: bool = False) -> list[CueRequest]:
    """Cues of one length; `seeing` ones carry a stream for the adapter."""
    rng = np.random.default_rng(0)
    stream = StepStream(rng.normal(size=(num_steps, 256)).astype(np.float32), np.ones(num_steps, dtype=bool))
    timeline = Timeline(Fraction(num_steps, RATE_HZ), Fraction(RATE_HZ))
    sampling = Sampling(guidance=GUIDANCE, visual_guidance=1.0, temperature=1.0, top_k=TOP_K, top_p=1.0)
    picture = {STREAM.name: stream} if seeing else None
    return [CueRequest(PROMPTS[i % len(PROMPTS)], timeline, picture, i, sampling, "") for i in range(count)]


def library_run(model: Any, text: TextEncoder, count: int, num_steps: int, *, one_by_one: bool = False) -> None:
    """The same cues by transformers' `generate`, together or clip by clip."""
    prompts = [PROMPTS[i % len(PROMPTS)] for i in range(count)]
    for group in [[p] for p in prompts] if one_by_one else [prompts]:
        sequences = [text.tokenize(prompt) for prompt in group]
        ids, mask = text.pad(sequences, max(len(s) for s in sequences))
        with torch.inference_mode():
            model.generate(
                input_ids=ids, attention_mask=mask.long(), do_sample=True, top_k=TOP_K, guidance_scale=GUIDANCE,
                max_new_tokens=num_steps + 3,  # the delay pattern takes three more
            )  # fmt: skip


def bare_products(size: str, place: Place, rows: int) -> Any:
    """The products of one decoder step alone, as a function: `linear` over weights of the decoder's shapes."""
    dim, layers, _ = SIZES[size]
    shapes = [(dim, dim)] * 4 + [(dim, dim)] * 2 + [(4 * dim, dim), (dim, 4 * dim)]
    with place.device:
        weights = [torch.randn(shape, dtype=place.dtype) for _ in range(layers) for shape in shapes]
        weights += [torch.randn(2048, dim, dtype=place.dtype) for _ in range(4)]
        inputs = {width: torch.randn(rows, width, dtype=place.dtype) for width in (dim, 4 * dim)}

    def run() -> None:
        with torch.inference_mode():
            for weight in weights:
                torch.nn.functional.linear(inputs[weight.shape[1]], weight)

    return run, sum(weight.numel() * weight.element_size() for weight in weights)
