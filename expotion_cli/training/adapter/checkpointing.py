"""Gradient checkpointing: train without keeping the frozen decoder's activations.

Each layer's activations are computed again in the backward pass. Memory falls to about one layer's, for a third more
time. The layers themselves are the decoder's and the adapter's own; nothing of them is repeated here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from expotion_cli.music.transformer.adapter import JointEmbeddingAdapter, SideStream
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.decoder import MusicDecoder


def decode(decoder: MusicDecoder, tokens: Tensor, context: LockstepContext, *, recompute: bool) -> Tensor:
    """`MusicDecoder.forward` on whole sequences.

    Args:
        decoder: not packed.
        tokens: [R, K, T] int64, delayed.
        context: without a cache.
        recompute: recompute each layer in the backward pass.

    Returns:
        [R, K, T, V].
    """
    if not recompute:
        return decoder(tokens, context)
    x = decoder.embed(tokens, context.positions(tokens.shape[2], decoder.config.dim))
    for layer in decoder.layers:
        x = _checkpointed(layer, x, context)
    return decoder.predict(x)


def side_stream(
    adapter: JointEmbeddingAdapter, decoder: MusicDecoder, condition: Tensor, *, recompute: bool
) -> SideStream:
    """`JointEmbeddingAdapter.side_stream`.

    Args:
        adapter: in training.
        decoder: frozen, not packed.
        condition: [C, T_c, D].
        recompute: recompute the side stream in the backward pass.
    """
    if not recompute:
        return adapter.side_stream(decoder, condition)
    return _checkpointed(adapter.side_stream, decoder, condition)


def _checkpointed(function: Callable[..., Any], *arguments: Any) -> Any:
    if not torch.is_grad_enabled():
        return function(*arguments)
    # The determinism check would compare shapes and dtypes, which follow from the arguments here.
    return checkpoint(function, *arguments, use_reentrant=False, determinism_check="none")
