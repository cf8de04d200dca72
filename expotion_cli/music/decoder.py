"""MusicGen's decoder: K parallel token streams, one causal transformer, text by cross-attention.

Written for reading: pre-norm layers, sinusoidal positions, no biases in attention and feed-forward, K summed input
embeddings, K output heads. Parameter names follow the transformers format, so that its checkpoints load by name and
PEFT's LoRA finds `q_proj`, `k_proj`, `v_proj` and `out_proj`.

Source: "Simple and Controllable Music Generation" (arXiv 2306.05284); the joint-embedding attention is EXPOTION's
(arXiv 2507.04955) and lives in `adapter.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a decoder.

    Attributes:
        dim: width d.
        num_layers: layers L.
        num_heads: attention heads H; d / H is a head's width.
        ffn_dim: width of the feed-forward layer.
        num_codebooks: parallel streams K.
        vocab_size: tokens V a stream; index V is the start token.
        text_dim: width of the text encoder's states.
    """

    dim: int
    num_layers: int
    num_heads: int
    ffn_dim: int
    num_codebooks: int
    vocab_size: int
    text_dim: int

    @property
    def start_token(self) -> int:
        """Index of the start token, also the filler of the delay pattern."""
        return self.vocab_size


@dataclass(frozen=True)
class Memory:
    """Keys and values that do not change while a window is decoded.

    Attributes:
        keys: per layer [R, H, M, d/H].
        values: per layer [R, H, M, d/H].
        mask: [R, 1, 1, M] bool, True where a row may be attended; None for all.
    """

    keys: list[Tensor]
    values: list[Tensor]
    mask: Tensor | None = None


@dataclass(frozen=True)
class VisualMemory:
    """The adapter's side stream for one window, computed once (`JointEmbeddingAdapter.remember`).

    Attributes:
        queries: per adapted layer [R, H, T_c, d/H], read at the music's own position.
        keys: per adapted layer [R, H, T_c, d/H].
        values: per adapted layer [R, H, T_c, d/H].
        gates: [N], one scalar an adapted layer.
        first_layer: index of the first adapted decoder layer, L - N.
    """

    queries: list[Tensor]
    keys: list[Tensor]
    values: list[Tensor]
    gates: Tensor
    first_layer: int


class StepCache:
    """Self-attention keys and values of the positions decoded so far, in buffers of fixed size.

    Args:
        config: the decoder's sizes.
        rows: rows R of the batch.
        max_positions: positions the buffers hold.
        device: where the buffers live.
        dtype: their type.
    """

    def __init__(self, config: DecoderConfig, rows: int, max_positions: int, device: torch.device, dtype: torch.dtype):
        shape = (config.num_layers, 2, rows, config.num_heads, max_positions, config.dim // config.num_heads)
        self.buffer = torch.zeros(shape, device=device, dtype=dtype)
        self.length = 0

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values [R, H, T, d/H] behind those already there; return all up to the newest."""
        end = self.length + keys.shape[2]
        self.buffer[layer, 0, :, :, self.length : end] = keys
        self.buffer[layer, 1, :, :, self.length : end] = values
        return self.buffer[layer, 0, :, :, :end], self.buffer[layer, 1, :, :, :end]


class Attention(nn.Module):
    """Multi-head attention without biases; projections are kept apart so that adapters can reach them."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim, bias=False)
        self.out_proj = nn.Linear(dim, dim, bias=False)

    def split(self, x: Tensor) -> Tensor:
        """[R, T, d] → [R, H, T, d/H]."""
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)

    def join(self, x: Tensor) -> Tensor:
        """[R, H, T, d/H] → [R, T, d]."""
        return x.transpose(1, 2).flatten(2)


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
        return self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


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
        return StepCache(self.config, rows, max_positions, self.device, self.dtype)

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
            keys.append(attention.split(attention.k_proj(states)).contiguous())
            values.append(attention.split(attention.v_proj(states)).contiguous())
        # A fully masked row would divide by zero; its states are zeros, so letting it see them changes nothing.
        visible = mask | ~mask.any(dim=1, keepdim=True)
        return Memory(keys, values, visible[:, None, None, :])

    def forward(
        self,
        tokens: Tensor,
        text: Memory,
        *,
        cache: StepCache | None = None,
        visual: VisualMemory | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Logits of the next token of every stream.

        Without a cache the tokens are a whole sequence from position 0 (training); with one they follow what the
        cache holds, and it grows by them.

        Args:
            tokens: [R, K, T] int64, in the delay pattern.
            text: from `remember_text`.
            cache: from `new_cache`.
            visual: from `JointEmbeddingAdapter.remember`, or None for plain MusicGen.
            last_only: compute logits for the last position alone.

        Returns:
            [R, K, T, V] (T = 1 with `last_only`), in the weights' type.
        """
        start = cache.length if cache is not None else 0
        length = tokens.shape[2]
        x = sum(table(tokens[:, k]) for k, table in enumerate(self.embed_tokens))
        x = x + positions(start, length, self.config.dim, x.device).to(x.dtype)
        for index, layer in enumerate(self.layers):
            x = x + self._self_attention(index, layer, layer.self_attn_layer_norm(x), start, cache, visual)
            attention = layer.encoder_attn
            query = attention.split(attention.q_proj(layer.encoder_attn_layer_norm(x)))
            heard = attend(query, text.keys[index], text.values[index], text.mask)
            x = x + attention.out_proj(attention.join(heard))
            x = x + layer.feed_forward(x)
        if cache is not None:
            cache.length += length
        if last_only:
            x = x[:, -1:]
        x = self.layer_norm(x)
        return torch.stack([head(x) for head in self.lm_heads], dim=1)

    def _self_attention(
        self,
        index: int,
        layer: DecoderLayer,
        x: Tensor,
        start: int,
        cache: StepCache | None,
        visual: VisualMemory | None,
    ) -> Tensor:
        attention = layer.self_attn
        query, keys, values = (attention.split(p(x)) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
        length = x.shape[1]
        if cache is not None:
            keys, values = cache.extend(index, keys, values)
        if start and length > 1:
            seen = torch.ones(length, start + length, dtype=torch.bool, device=x.device).tril(start)
            own = attend(query, keys, values, seen)
        elif length > 1:
            own = F.scaled_dot_product_attention(query, keys, values, is_causal=True)
        else:
            own = attend(query, keys, values)
        adapted = index - visual.first_layer if visual is not None else -1
        if adapted >= 0:
            own = own + visual.gates[adapted] * joint_attention(query, visual, adapted, start)
        return attention.out_proj(attention.join(own))


def joint_attention(query: Tensor, visual: VisualMemory, adapted: int, start: int) -> Tensor:
    """The gated term of the adapter: Attn(q + q'_t, k', v') over all steps of the condition, past and future.

    Positions past the condition's end (the delay pattern's tail) take its last row.

    Args:
        query: [R, H, T, d/H], the music's queries at positions start .. start + T - 1.
        visual: the condition.
        adapted: index among the adapted layers.
        start: first position.

    Returns:
        [R, H, T, d/H], before the gate.
    """
    side = visual.queries[adapted]
    last = side.shape[2] - 1
    if start + query.shape[2] - 1 <= last:
        side = side[:, :, start : start + query.shape[2]]
    else:
        rows = torch.arange(start, start + query.shape[2], device=query.device).clamp(max=last)
        side = side[:, :, rows]
    return attend(query + side, visual.keys[adapted], visual.values[adapted])


def attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention, not causal. [R, H, T, d/H] over [R, H, M, d/H] → [R, H, T, d/H].

    A single query on a CPU goes through plain products: the library's blocked kernel packs all keys anew for it and
    takes several times as long.
    """
    if query.shape[2] > 1 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
    scores = torch.matmul(query * query.shape[-1] ** -0.5, keys.transpose(2, 3))
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return torch.matmul(torch.softmax(scores, dim=-1), values)


def positions(start: int, length: int, dim: int, device: torch.device) -> Tensor:
    """Sinusoidal positions: the cosine half, then the sine half. [length, dim] float32."""
    half = dim // 2
    scale = torch.exp(torch.arange(half, device=device, dtype=torch.float32) * (-math.log(10_000) / (half - 1)))
    angle = torch.arange(start, start + length, device=device, dtype=torch.float32)[:, None] * scale
    return torch.cat([angle.cos(), angle.sin()], dim=1)
