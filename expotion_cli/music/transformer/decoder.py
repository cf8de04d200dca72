"""MusicGen's decoder: K codebooks, one causal transformer, text by cross-attention or as a prefix.

Pre-norm layers, sinusoidal positions, no biases in attention and feed-forward, K summed input embeddings, K output
heads ("Simple and Controllable Music Generation", arXiv 2306.05284, section 2.4). Parameter names are those of the
transformers format: its checkpoints load by name, and PEFT's LoRA finds `q_proj`, `k_proj`, `v_proj`, `out_proj`,
`fc1` and `fc2`. MusicGen Melody has no cross-attention: melody and text stand before the music (`prefix.py`).

The decoder holds weights and no state. Where its rows stand and which keys and values they attend to is up to the
`AttentionContext` it is called with (`attention.py`). That is what lets the same layers serve training on whole
sequences, decoding on a CPU and CUDA graphs, with or without EXPOTION's adapter (`adapter.py`).

Shapes: R rows, T positions, d width, H heads, K codebooks, V tokens of a codebook, M text tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from expotion_cli.music.transformer.attention import Attention, AttentionContext, KVCache, TextKeyValues
from expotion_cli.music.transformer.config import DecoderConfig


class DecoderLayer(nn.Module):
    """One layer: self-attention, cross-attention (not in MusicGen Melody) and feed-forward, each behind its own norm.

    Args:
        config: sizes.
        index: its place among the layers, which tells the context whose keys and values it asks for.
    """

    def __init__(self, config: DecoderConfig, index: int):
        super().__init__()
        self.index = index
        self.self_attn = Attention(config.dim, config.num_heads)
        self.self_attn_layer_norm = nn.LayerNorm(config.dim)
        if not config.takes_melody:
            self.encoder_attn = Attention(config.dim, config.num_heads)
            self.encoder_attn_layer_norm = nn.LayerNorm(config.dim)
        self.attends_to_text = not config.takes_melody
        self.fc1 = nn.Linear(config.dim, config.ffn_dim, bias=False)
        self.activation_fn = nn.GELU()
        self.fc2 = nn.Linear(config.ffn_dim, config.dim, bias=False)
        self.final_layer_norm = nn.LayerNorm(config.dim)

    def forward(self, x: Tensor, context: AttentionContext) -> Tensor:
        """[R, T, d] → [R, T, d]; the context stores the new keys and values if it has a cache."""
        # Self-attention; with an adapter the context adds the picture's term (EXPOTION section 3).
        query, keys, values = self.self_attn.qkv(self.self_attn_layer_norm(x))
        x = x + self.self_attn.output(context.self_attention(self.index, query, keys, values))
        # Cross-attention to the text, whose keys and values were computed once (`MusicDecoder.encode_text`).
        if self.attends_to_text:
            query = self.encoder_attn.query(self.encoder_attn_layer_norm(x))
            x = x + self.encoder_attn.output(context.cross_attention(self.index, query))
        return x + self.feed_forward(x)

    def feed_forward(self, x: Tensor) -> Tensor:
        """The feed-forward branch with its norm, without the residual. [R, T, d] → [R, T, d]."""
        return self.fc2(self.activation_fn(self.fc1(self.final_layer_norm(x))))


class OutputHeads(nn.ModuleList):
    """One linear layer for each codebook."""

    def forward(self, x: Tensor) -> Tensor:
        """[R, T, d] → [R, K, T, V]."""
        return torch.stack([head(x) for head in self], dim=1)


class MusicDecoder(nn.Module):
    """The decoder with its output heads.

    Args:
        config: sizes.
    """

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.config = config
        self.enc_to_dec_proj = (
            nn.Linear(config.text_dim, config.dim) if config.text_dim != config.dim else nn.Identity()
        )
        if config.takes_melody:
            self.audio_enc_to_dec_proj = nn.Linear(config.num_chroma, config.dim)
        self.embed_tokens = nn.ModuleList(
            nn.Embedding(config.vocab_size + 1, config.dim) for _ in range(config.num_codebooks)
        )
        # A ModuleList, which torch types as a list of any modules.
        layers = nn.ModuleList(DecoderLayer(config, index) for index in range(config.num_layers))
        self.layers = cast("Sequence[DecoderLayer]", layers)
        self.layer_norm = nn.LayerNorm(config.dim)
        self.lm_heads = OutputHeads(
            nn.Linear(config.dim, config.vocab_size, bias=False) for _ in range(config.num_codebooks)
        )

    def forward(self, tokens: Tensor, context: AttentionContext, *, last_only: bool = False) -> Tensor:
        """Logits of the next token of every codebook.

        Args:
            tokens: [R, K, T] int64, in the delay pattern; they follow those the context already holds.
            context: advances by T positions.
            last_only: compute logits for the last position alone.

        Returns:
            [R, K, T, V] (T = 1 with `last_only`), in the weights' dtype.
        """
        x = self.embed(tokens, context.positions(tokens.shape[2], self.config.dim))
        for layer in self.layers:
            x = layer(x, context)
        context.advance(tokens.shape[2])
        return self.predict(x[:, -1:] if last_only else x)

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Sum of the K embeddings and the position's, [1 or R, T, d]. [R, K, T] → [R, T, d]."""
        x, *others = (table(tokens[:, k]) for k, table in enumerate(self.embed_tokens))
        for other in others:
            x = x + other
        return x + positions.to(x.dtype)

    def predict(self, x: Tensor) -> Tensor:
        """Last norm and output heads. [R, T, d] → [R, K, T, V]."""
        return self.lm_heads(self.layer_norm(x))

    def encode_text(self, states: Tensor, mask: Tensor) -> TextKeyValues:
        """Cross-attention keys and values of the text, once a cue (MusicGen section 2.3).

        Masked states are zeroed after the projection. A row whose mask is all False is the unconditional row of
        classifier-free guidance: all of its states are zero.

        Args:
            states: [R, M, text_dim].
            mask: [R, M] bool.
        """
        states = self.enc_to_dec_proj(states.to(self.dtype)) * mask[..., None].to(self.dtype)
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for layer in self.layers:
            for column, projected in zip((keys, values), layer.encoder_attn.keys_values(states), strict=True):
                column.append(projected.to(self.cache_dtype).contiguous())
        # Softmax over a fully masked row is NaN. Its values are zeros, so attending to them adds nothing.
        visible = mask | ~mask.any(dim=1, keepdim=True)
        return TextKeyValues(keys, values, visible[:, None, None, :])

    def new_cache(self, rows: int, max_positions: int) -> KVCache:
        """An empty cache for `rows` rows and up to `max_positions` positions."""
        return KVCache(self.config, rows, max_positions, self.device, self.cache_dtype)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.layer_norm.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' dtype."""
        return self.layer_norm.weight.dtype

    @property
    def cache_dtype(self) -> torch.dtype:
        """Dtype of cached keys and values: a CPU multiplies single rows faster in fp32 than in bf16."""
        return torch.float32 if self.device.type == "cpu" and self.dtype == torch.bfloat16 else self.dtype
