"""MusicGen's decoder: K parallel token streams, one causal transformer, text by cross-attention.

Written for reading: pre-norm layers, sinusoidal positions, no biases in attention and feed-forward, K summed input
embeddings, K output heads. Parameter names follow the transformers format, so that its checkpoints load by name and
PEFT's LoRA finds `q_proj`, `k_proj`, `v_proj` and `out_proj`.

The decoder is weights and one way through them; where its rows stand and what they attend to is kept in an
`attending.Attended`.

Source: "Simple and Controllable Music Generation" (arXiv 2306.05284); the joint-embedding attention is EXPOTION's
(arXiv 2507.04955), in `adapter.py` and `attending.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from expotion_cli.music.transformer.attention import Attended, Attention, Memory, StepCache
from expotion_cli.music.transformer.config import DecoderConfig


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention and feed-forward, each behind its own norm."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.self_attn = Attention(config.dim, config.num_heads)
        self.self_attn_layer_norm = nn.LayerNorm(config.dim)
        self.encoder_attn = Attention(config.dim, config.num_heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(config.dim)
        self.fc1 = nn.Linear(config.dim, config.ffn_dim, bias=False)
        self.fc2 = nn.Linear(config.ffn_dim, config.dim, bias=False)
        self.final_layer_norm = nn.LayerNorm(config.dim)

    def feed_forward(self, x: Tensor) -> Tensor:
        """The feed-forward branch, norm included. [R, T, d] → [R, T, d]."""
        x = self.final_layer_norm(x)
        return self.fc2(self.fc1.gelu(x) if hasattr(self.fc1, "gelu") else F.gelu(self.fc1(x)))


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
        self.embed_tokens = nn.ModuleList(
            nn.Embedding(config.vocab_size + 1, config.dim) for _ in range(config.num_codebooks)
        )
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_layers))
        self.layer_norm = nn.LayerNorm(config.dim)
        self.lm_heads = nn.ModuleList(
            nn.Linear(config.dim, config.vocab_size, bias=False) for _ in range(config.num_codebooks)
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.layer_norm.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type."""
        return self.layer_norm.weight.dtype

    def new_cache(self, rows: int, max_positions: int) -> StepCache:
        """An empty cache for `rows` rows and up to `max_positions` positions."""
        return StepCache(self.config, rows, max_positions, self.device, self.cache_dtype)

    @property
    def cache_dtype(self) -> torch.dtype:
        """Type of cached keys and values: a CPU multiplies single rows faster in fp32 than in bf16."""
        return torch.float32 if self.device.type == "cpu" and self.dtype == torch.bfloat16 else self.dtype

    def remember_text(self, states: Tensor, mask: Tensor) -> Memory:
        """Cross-attention keys and values of the text, once a cue.

        Masked states are zeroed after the projection; a row whose mask is all False is the unconditional row of
        guidance, to which every state is zero.

        Args:
            states: [R, M, text_dim].
            mask: [R, M] bool.
        """
        states = self.enc_to_dec_proj(states.to(self.dtype)) * mask[..., None].to(self.dtype)
        keys, values = [], []
        for layer in self.layers:
            attention = layer.encoder_attn
            keys.append(attention.split(attention.k_proj(states)).to(self.cache_dtype).contiguous())
            values.append(attention.split(attention.v_proj(states)).to(self.cache_dtype).contiguous())
        # A fully masked row would divide by zero; its states are zeros, so letting it see them changes nothing.
        visible = mask | ~mask.any(dim=1, keepdim=True)
        return Memory(keys, values, visible[:, None, None, :])

    def forward(self, tokens: Tensor, attended: Attended, *, last_only: bool = False) -> Tensor:
        """Logits of the next token of every stream.

        Args:
            tokens: [R, K, T] int64, in the delay pattern, behind what `attended` already holds.
            attended: grows by T places.
            last_only: compute logits for the last position alone.

        Returns:
            [R, K, T, V] (T = 1 with `last_only`), in the weights' type.
        """
        length = tokens.shape[2]
        x = sum(table(tokens[:, k]) for k, table in enumerate(self.embed_tokens))
        x = x + attended.positions(length, self.config.dim).to(x.dtype)
        for index, layer in enumerate(self.layers):
            attention = layer.self_attn
            own = attended.attend_music(index, *attention.project(layer.self_attn_layer_norm(x)))
            x = x + attention.out_proj(attention.join(own))
            attention = layer.encoder_attn
            query = attention.split(attention.q_proj(layer.encoder_attn_layer_norm(x)))
            x = x + attention.out_proj(attention.join(attended.attend_text(index, query)))
            x = x + layer.feed_forward(x)
        attended.advance(length)
        if last_only:
            x = x[:, -1:]
        return self.predict(self.layer_norm(x))

    def predict(self, x: Tensor) -> Tensor:
        """The output heads. [R, T, d] → [R, K, T, V]."""
        fused = getattr(self, "heads", None)  # after `packing.pack`
        if fused is not None:
            return fused(x).unflatten(2, (self.config.num_codebooks, -1)).transpose(1, 2)
        return torch.stack([head(x) for head in self.lm_heads], dim=1)
