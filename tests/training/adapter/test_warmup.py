"""The adapter's warm-up: positions learn to look at their own moment, and nothing else changes."""

from __future__ import annotations

import torch

from expotion_cli.music.transformer.adapter import AdapterConfig, JointEmbeddingAdapter, StreamSpec
from expotion_cli.music.transformer.config import DecoderConfig
from expotion_cli.music.transformer.decoder import MusicDecoder
from expotion_cli.training.adapter.warmup import GATE_START, warm_up_adapter

CONFIG = DecoderConfig(dim=48, num_layers=2, num_heads=3, ffn_dim=64, num_codebooks=2, vocab_size=9, text_dim=8)
WINDOW = 48


def fresh() -> tuple[MusicDecoder, JointEmbeddingAdapter]:
    torch.manual_seed(0)
    decoder = MusicDecoder(CONFIG).eval().requires_grad_(False)
    return decoder, JointEmbeddingAdapter(AdapterConfig(48, 2, 4, WINDOW, (StreamSpec("pose", ("energy", "accent")),)))


def condition_of(step: int) -> torch.Tensor:
    return torch.randn(1, WINDOW + 1, 2, generator=torch.Generator().manual_seed(step))


def distance_looked(decoder: MusicDecoder, adapter: JointEmbeddingAdapter) -> float:
    """Mean distance, in steps, between a moment and what its heads attend to, on a condition not trained on."""
    with torch.no_grad():
        visual = adapter.side_stream(decoder, condition_of(10_000))
    time = torch.arange(WINDOW + 1.0)
    apart = (time[:, None] - time[None]).abs()
    means = []
    for query, key in zip(visual.queries, visual.keys, strict=True):
        attention = torch.softmax(query @ key.transpose(2, 3) / query.shape[-1] ** 0.5, dim=-1)
        means.append((attention * apart).sum(dim=-1).mean())
    return torch.stack(means).mean().item()


def test_after_the_warm_up_heads_look_near_their_own_moment():
    decoder, adapter = fresh()
    before = distance_looked(decoder, adapter)
    short = warm_up_adapter(fresh()[1], decoder, condition_of, steps=2)
    loss = warm_up_adapter(adapter, decoder, condition_of, steps=120)
    assert loss < 0.8 * short
    assert distance_looked(decoder, adapter) < 0.5 * before


def test_the_warm_up_opens_every_gate_a_little_and_leaves_the_decoder_as_it_was():
    decoder, adapter = fresh()
    before = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    assert torch.equal(adapter.gates, torch.zeros(2)), "a fresh adapter changes nothing"
    warm_up_adapter(adapter, decoder, condition_of, steps=3)
    assert torch.equal(adapter.gates, torch.full((2,), GATE_START)) and not adapter.missing["pose"].any()
    assert all(torch.equal(tensor, before[name]) for name, tensor in decoder.state_dict().items())
    assert all(parameter.grad is None for parameter in adapter.parameters())
