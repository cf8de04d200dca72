"""The frozen decoder's forward pass for training, on request without keeping its activations.

With `rewind` each layer's activations are computed again when the gradient comes by: memory falls to about one layer's,
for a third more time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from expotion_cli.music.transformer.adapter import JointEmbeddingAdapter
from expotion_cli.music.transformer.attention import Passage, VisualMemory
from expotion_cli.music.transformer.decoder import DecoderLayer, MusicDecoder


def decode(decoder: MusicDecoder, tokens: Tensor, passage: Passage, *, rewind: bool) -> Tensor:
    """`MusicDecoder.forward` of whole sequences.

    Args:
        decoder: without a cache, unpacked.
        tokens: [R, K, T] int64, delayed.
        passage: what the rows attend to.
        rewind: see above.

    Returns:
        [R, K, T, V].
    """
    if not rewind:
        return decoder(tokens, passage)
    x = sum(table(tokens[:, k]) for k, table in enumerate(decoder.embed_tokens))
    x = x + passage.positions(tokens.shape[2], decoder.config.dim).to(x.dtype)
    for index, layer in enumerate(decoder.layers):
        x = _again(_through, layer, index, passage, x)
    return decoder.predict(decoder.layer_norm(x))


def remember(adapter: JointEmbeddingAdapter, decoder: MusicDecoder, condition: Tensor, *, rewind: bool) -> VisualMemory:
    """`JointEmbeddingAdapter.remember`; what its layers compute in between is not kept with `rewind`."""
    return _again(adapter.remember, decoder, condition) if rewind else adapter.remember(decoder, condition)


def _through(layer: DecoderLayer, index: int, passage: Passage, x: Tensor) -> Tensor:
    attention = layer.self_attn
    own = passage.attend_music(index, *attention.project(layer.self_attn_layer_norm(x)))
    x = x + attention.out_proj(attention.join(own))
    attention = layer.encoder_attn
    query = attention.split(attention.q_proj(layer.encoder_attn_layer_norm(x)))
    x = x + attention.out_proj(attention.join(passage.attend_text(index, query)))
    return x + layer.feed_forward(x)


def _again(function: Callable[..., Any], *arguments: Any) -> Any:
    return (
        checkpoint(function, *arguments, use_reentrant=False, determinism_check="none")
        if torch.is_grad_enabled()
        else function(*arguments)
    )
