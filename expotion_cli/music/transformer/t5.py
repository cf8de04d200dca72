"""T5's encoder, which turns a prompt into the states that MusicGen attends to (Raffel et al. 2020, arXiv:1910.10683).

There is no dropout, which MusicGen's text encoder never needs. Modules are named like the tensors of published
checkpoints. The states are those of transformers' `T5EncoderModel`, which takes longer to import than a cue to compose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from expotion_cli.music.transformer.config import LARGEST_DEPTH

RELU, GATED_GELU = "relu", "gated-gelu"

LARGEST_VOCABULARY = 1 << 20


@dataclass(frozen=True)
class T5Settings:
    """Sizes of a T5 encoder, under their names in a checkpoint's `config.json`.

    Attributes:
        vocab_size: rows of the embedding table.
        d_model: width of the states.
        d_kv: width of one attention head.
        d_ff: width of the feed-forward layers.
        num_layers: how many blocks.
        num_heads: attention heads in a block; their widths need not add up to `d_model`.
        relative_attention_num_buckets: rows of the position bias, half of them for positions to the right.
        relative_attention_max_distance: tokens from which on all distances share a bucket.
        layer_norm_epsilon: keeps the norm finite.
        feed_forward_proj: "relu" (T5 1.0, MusicGen's), or "gated-gelu" (T5 1.1, Flan-T5).
    """

    vocab_size: int = 32128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 6
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = RELU

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> T5Settings:
        """Read a T5 section of a `config.json`; keys that don't concern the encoder are ignored.

        Raises:
            ValueError: a value has the wrong type or range, or names an unknown feed-forward layer.
        """
        found = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        for name, value in found.items():
            kind = type(getattr(cls, name))
            if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
                raise ValueError(f"{name} is {value!r}, expected {kind.__name__}")
            if kind is not str and value <= 0:
                raise ValueError(f"{name} is {value!r}, expected more than 0")
            if kind is int and value > (LARGEST_DEPTH if name in ("num_layers", "num_heads") else LARGEST_VOCABULARY):
                raise ValueError(f"{name} is {value}, more than any model has")
        settings = cls(**found)
        if settings.feed_forward_proj not in (RELU, GATED_GELU):
            raise ValueError(f"feed_forward_proj is {settings.feed_forward_proj!r}, expected {RELU} or {GATED_GELU}")
        return settings


class T5Encoder(nn.Module):
    """Token ids in, states out.

    Args:
        settings: its sizes.
    """

    def __init__(self, settings: T5Settings):
        super().__init__()
        self.settings = settings
        self.shared = nn.Embedding(settings.vocab_size, settings.d_model)
        self.encoder = _Stack(settings)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Make both names of the embedding table one parameter again, after tensors were assigned."""
        self.encoder.embed_tokens.weight = self.shared.weight

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.shared.weight.device

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """States of padded prompts.

        Args:
            ids: [R, M] int64.
            mask: [R, M] bool, False for padding.

        Returns:
            [R, M, d_model]; what stands at padding has no meaning.
        """
        return self.encoder(ids, mask)


class _Stack(nn.Module):
    def __init__(self, settings: T5Settings):
        super().__init__()
        self.embed_tokens = nn.Embedding(settings.vocab_size, settings.d_model)
        self.block = nn.ModuleList(_Block(settings, has_bias=number == 0) for number in range(settings.num_layers))
        self.final_layer_norm = _Norm(settings)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states = self.embed_tokens(ids)
        # Only the first block holds a position bias; all use it (section 2.1).
        first = cast("_AttentionLayer", cast("_Block", self.block[0]).layer[0])
        bias = first.SelfAttention.position_bias(ids.shape[1])
        allowed = mask[:, None, None, :]
        bias = torch.where(allowed, bias, torch.finfo(states.dtype).min).contiguous()  # [R, heads, M, M]
        for block in self.block:
            states = block(states, bias)
        return self.final_layer_norm(states)


class _Block(nn.Module):
    def __init__(self, settings: T5Settings, *, has_bias: bool):
        super().__init__()
        self.layer = nn.ModuleList([_AttentionLayer(settings, has_bias=has_bias), _FeedForwardLayer(settings)])

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        return self.layer[1](self.layer[0](states, bias))


class _AttentionLayer(nn.Module):
    def __init__(self, settings: T5Settings, *, has_bias: bool):
        super().__init__()
        self.SelfAttention = _Attention(settings, has_bias=has_bias)
        self.layer_norm = _Norm(settings)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        return states + self.SelfAttention(self.layer_norm(states), bias)


class _Attention(nn.Module):
    """Self-attention over all tokens; scores are not scaled, the initialisation of T5 sees to that."""

    def __init__(self, settings: T5Settings, *, has_bias: bool):
        super().__init__()
        self._settings = settings
        width = settings.num_heads * settings.d_kv
        self.q = nn.Linear(settings.d_model, width, bias=False)
        self.k = nn.Linear(settings.d_model, width, bias=False)
        self.v = nn.Linear(settings.d_model, width, bias=False)
        self.o = nn.Linear(width, settings.d_model, bias=False)
        if has_bias:
            self.relative_attention_bias = nn.Embedding(settings.relative_attention_num_buckets, settings.num_heads)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        heads = (*states.shape[:-1], self._settings.num_heads, self._settings.d_kv)
        query, key, value = (part(states).view(heads).transpose(1, 2) for part in (self.q, self.k, self.v))
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
        return self.o(found.transpose(1, 2).reshape(*states.shape[:-1], -1))

    def position_bias(self, length: int) -> Tensor:
        """[1, heads, length, length]: what is added to a score for the distance from query to key."""
        at = torch.arange(length, device=self.relative_attention_bias.weight.device)
        buckets = self._buckets(at[None, :] - at[:, None])
        return self.relative_attention_bias(buckets).permute(2, 0, 1)[None]

    def _buckets(self, distance: Tensor) -> Tensor:
        """Signed distances in tokens → rows of the bias: near ones singly, far ones by their logarithm."""
        half = self._settings.relative_attention_num_buckets // 2
        exact = half // 2
        far_end = self._settings.relative_attention_max_distance
        size = distance.abs()
        far = exact + (torch.log(size.float() / exact) / math.log(far_end / exact) * (half - exact)).long()
        return (distance > 0).long() * half + torch.where(size < exact, size, far.clamp(max=half - 1))


class _FeedForwardLayer(nn.Module):
    def __init__(self, settings: T5Settings):
        super().__init__()
        self.DenseReluDense = (_Dense if settings.feed_forward_proj == RELU else _GatedDense)(settings)
        self.layer_norm = _Norm(settings)

    def forward(self, states: Tensor) -> Tensor:
        return states + self.DenseReluDense(self.layer_norm(states))


class _Dense(nn.Module):
    def __init__(self, settings: T5Settings):
        super().__init__()
        self.wi = nn.Linear(settings.d_model, settings.d_ff, bias=False)
        self.wo = nn.Linear(settings.d_ff, settings.d_model, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        return self.wo(functional.relu(self.wi(states)))


class _GatedDense(nn.Module):
    def __init__(self, settings: T5Settings):
        super().__init__()
        self.wi_0 = nn.Linear(settings.d_model, settings.d_ff, bias=False)
        self.wi_1 = nn.Linear(settings.d_model, settings.d_ff, bias=False)
        self.wo = nn.Linear(settings.d_ff, settings.d_model, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        return self.wo(functional.gelu(self.wi_0(states), approximate="tanh") * self.wi_1(states))


class _Norm(nn.Module):
    """Root-mean-square norm (Zhang and Sennrich 2019, equation 4): no mean is taken off, nothing is added."""

    def __init__(self, settings: T5Settings):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(settings.d_model))
        self._epsilon = settings.layer_norm_epsilon

    def forward(self, states: Tensor) -> Tensor:
        power = states.float().pow(2).mean(-1, keepdim=True)
        return self.weight * (states * torch.rsqrt(power + self._epsilon))
