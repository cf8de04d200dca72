"""Multi-head attention, the KV cache, and the interface through which a layer attends.

A layer turns rows into queries, keys and values (`Attention`) and asks its `AttentionContext` for the result. The
context knows where the rows stand, what was decoded before, and which text and side streams each row may attend to.
In MusicGen Melody text and melody are a prefix of the music instead (`prefix.py`), which each row finds in its cache.
`context.py` has the plainest one, `generate/cuda_graph.py` one whose rows stand at different positions. On a CPU,
single positions are decoded without it (`single_step.py`).

Shapes: C cues, n rows of each cue, R = C * n rows, H heads, T new positions, M text tokens, d / H a head's width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from expotion_cli.music.transformer.config import DecoderConfig

FEW_QUERIES = 8
"""On a CPU, so few queries take the plain products in `attend`."""


class Attention(nn.Module):
    """The projections of multi-head attention, without biases.

    They are four separate layers, so that checkpoints load by name and LoRA can adapt each; `onednn.py` swaps in one
    that computes `qkv` as a single product.
    """

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim, bias=False)
        self.out_proj = nn.Linear(dim, dim, bias=False)

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of self-attention. [R, T, d] → 3 × [R, H, T, d/H]."""
        return self.query(x), *self.keys_values(x)

    def query(self, x: Tensor) -> Tensor:
        """Queries. [R, T, d] → [R, H, T, d/H]."""
        return split_heads(self.q_proj(x), self.num_heads)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values. [R, M, d] → 2 × [R, H, M, d/H]."""
        return split_heads(self.k_proj(x), self.num_heads), split_heads(self.v_proj(x), self.num_heads)

    def output(self, attended: Tensor) -> Tensor:
        """The output projection. [R, H, T, d/H] → [R, T, d]."""
        return self.out_proj(join_heads(attended))


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """[R, T, d] → [R, H, T, d/H]."""
    return x.view(*x.shape[:2], num_heads, -1).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """[R, H, T, d/H] → [R, T, d]."""
    return x.transpose(1, 2).flatten(2)


class AttentionContext(Protocol):
    """What a batch of R rows attends to, and where its rows stand."""

    def positions(self, length: int, dim: int) -> Tensor:
        """Sinusoidal embeddings of the next `length` positions. [1 or R, T, d] float32."""
        ...

    def self_attention(self, layer: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Causal attention to the music so far, plus the adapter's term.

        Args:
            layer: index of the layer.
            query: [R, H, T, d/H].
            keys: of the same positions, likewise; stored if there is a cache.
            values: likewise.

        Returns:
            [R, H, T, d/H].
        """
        ...

    def cross_attention(self, layer: int, query: Tensor) -> Tensor:
        """Attention to the text. [R, H, T, d/H] → [R, H, T, d/H]."""
        ...

    def advance(self, length: int) -> None:
        """All layers are done with the next `length` positions."""
        ...


class KVCache:
    """Self-attention keys and values of the positions decoded so far, in buffers of fixed size.

    Args:
        config: the decoder's sizes.
        rows: rows R of the batch.
        max_positions: positions the buffers hold.
        device: where the buffers live.
        dtype: of the buffers.
    """

    def __init__(self, config: DecoderConfig, rows: int, max_positions: int, device: torch.device, dtype: torch.dtype):
        shape = (config.num_layers, 2, rows, config.num_heads, max_positions, config.dim // config.num_heads)
        self.buffer = torch.empty(shape, device=device, dtype=dtype)
        self.length, self.max_positions = 0, max_positions

    def begin_with(self, prefix: PrefixKeyValues) -> None:
        """Put a prefix in front of all that will be decoded; the cache is empty until then."""
        for layer, (keys, values) in enumerate(zip(prefix.keys, prefix.values, strict=True)):
            self.extend(layer, keys, values)
        self.length = prefix.length

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values of a layer.

        Args:
            layer: index of the layer.
            keys: [R, H, T, d/H]; R may be smaller than the cache's rows, of which the first R are then used.
            values: likewise.

        Returns:
            All keys and all values up to the newest, each [R, H, length + T, d/H].
        """
        rows, end = keys.shape[0], self.length + keys.shape[2]
        whole = self.buffer[layer, :, :rows, :, :end]
        all_keys, all_values = whole.unbind()
        all_keys[:, :, self.length :].copy_(keys)
        all_values[:, :, self.length :].copy_(values)
        return all_keys, all_values


@dataclass(frozen=True)
class PrefixKeyValues:
    """Self-attention keys and values of what stands before the music: melody and text (`prefix.py`).

    Attributes:
        keys: per layer [R, H, P, d/H], P positions from 0 on.
        values: likewise.
    """

    keys: list[Tensor]
    values: list[Tensor]

    @property
    def length(self) -> int:
        """Positions P."""
        return self.keys[0].shape[2]

    def followed_by(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's keys and values with those of the music, each [R, H, T, d/H], behind them."""
        parts = (self.keys[layer], keys), (self.values[layer], values)
        all_keys, all_values = (torch.cat([own.to(theirs.dtype), theirs], dim=2) for own, theirs in parts)
        return all_keys, all_values


@dataclass(frozen=True)
class TextKeyValues:
    """Cross-attention keys and values of the text, which do not change while a cue is decoded.

    Attributes:
        keys: per layer [C, H, M, d/H].
        values: per layer [C, H, M, d/H].
        mask: [C, 1, 1, M] bool, True where a text may be attended to; None for everywhere.
        negative: of the negative prompts, which the rows without text attend to; None where those attend to nothing.
    """

    keys: list[Tensor]
    values: list[Tensor]
    mask: Tensor | None = None
    negative: TextKeyValues | None = None

    def first(self, count: int) -> TextKeyValues:
        """Those of the first `count` cues."""
        mask = self.mask[:count] if self.mask is not None else None
        negative = self.negative.first(count) if self.negative is not None else None
        return TextKeyValues([k[:count] for k in self.keys], [v[:count] for v in self.values], mask, negative)

    @staticmethod
    def stack(parts: Sequence[TextKeyValues]) -> TextKeyValues:
        """Several cues' as one, in this order; all have a mask and a negative prompt, or none has."""
        masks = [part.mask for part in parts if part.mask is not None]
        negatives = [part.negative for part in parts if part.negative is not None]
        assert len(masks) in (0, len(parts)) and len(negatives) in (0, len(parts))
        keys, values = (
            [torch.cat(layers) for layers in zip(*columns, strict=True)]
            for columns in ([part.keys for part in parts], [part.values for part in parts])
        )
        negative = TextKeyValues.stack(negatives) if negatives else None
        return TextKeyValues(keys, values, torch.cat(masks) if masks else None, negative)


@dataclass(frozen=True)
class GuidanceRows:
    """The rows that classifier-free guidance needs for each cue, from less to more condition, next to each other.

    Attributes:
        count: rows n of each cue, so that R = C * n.
        without_text: the first so many have no text.
        without_picture: the first so many have the picture masked.
    """

    count: int = 1
    without_text: int = 0
    without_picture: int = 0


def attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention without a causal mask, computed in the keys' dtype.

    Few queries on a CPU take plain products: `scaled_dot_product_attention` would pack all keys anew for them, which
    costs more than it saves.

    Args:
        query: [R, H, T, d/H].
        keys: [R, H, M, d/H].
        values: likewise.
        mask: True where attention is allowed, broadcast to [R, H, T, M]; None for everywhere.

    Returns:
        [R, H, T, d/H], in the query's dtype.
    """
    dtype, query = query.dtype, query.to(keys.dtype)
    if query.shape[2] > FEW_QUERIES or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask).to(dtype)
    scores = torch.matmul(query * query.shape[-1] ** -0.5, keys.transpose(2, 3))
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return torch.matmul(torch.softmax(scores, dim=-1), values).to(dtype)


def attend_to_text(layer: int, query: Tensor, text: TextKeyValues, rows: GuidanceRows) -> Tensor:
    """Cross-attention of a batch; the rows of a cue share its keys and values.

    Args:
        layer: index of the layer.
        query: [C * n, H, T, d/H].
        text: of C cues.
        rows: rows n of each cue. Those without text attend to the negative prompt, if there is one; else they would
            attend to zeros, so their result is 0.

    Returns:
        [C * n, H, T, d/H].
    """
    folded = fold_rows(query, rows.count, 0, rows.count)
    attended = attend(folded, text.keys[layer], text.values[layer], text.mask)
    attended = unfold_rows(attended, rows.count).reshape(query.shape)
    if rows.without_text:
        without = attended.view(-1, rows.count, *attended.shape[1:])[:, : rows.without_text]
        without.zero_() if text.negative is None else without.copy_(
            _attend_to_negative(layer, query, text.negative, rows)
        )
    return attended


def _attend_to_negative(layer: int, query: Tensor, negative: TextKeyValues, rows: GuidanceRows) -> Tensor:
    """What the rows without text take from the negative prompt. [C, without_text, H, T, d/H]."""
    folded = fold_rows(query, rows.count, 0, rows.without_text)
    attended = attend(folded, negative.keys[layer], negative.values[layer], negative.mask)
    return unfold_rows(attended, rows.without_text)


def fold_rows(query: Tensor, count: int, first: int, last: int) -> Tensor:
    """Queries of rows first .. last - 1 of each cue side by side, so that they share one product with the cue's keys.

    Args:
        query: [C * n, H, T, d/H].
        count: rows n of each cue.
        first: index of the first row taken.
        last: index of the last row taken, plus 1.

    Returns:
        [C, H, (last - first) * T, d/H].
    """
    if count == 1:
        return query
    return query.view(-1, count, *query.shape[1:])[:, first:last].transpose(1, 2).flatten(2, 3)


def unfold_rows(folded: Tensor, count: int) -> Tensor:
    """The inverse of `fold_rows` for `count` rows n'. [C, H, n' * T, d/H] → [C, n', H, T, d/H]."""
    return folded.view(*folded.shape[:2], count, -1, folded.shape[3]).transpose(1, 2)


def sinusoidal_positions(start: int, length: int, dim: int, device: torch.device) -> Tensor:
    """Position embeddings: the cosine half, then the sine half (MusicGen section 2.4).

    Args:
        start: the first position.
        length: number of positions.
        dim: width d, even.
        device: where they are computed; devices round differently.

    Returns:
        [length, dim] float32.
    """
    half = dim // 2
    scale = torch.exp(torch.arange(half, device=device, dtype=torch.float32) * (-math.log(10_000) / (half - 1)))
    angle = torch.arange(start, start + length, device=device, dtype=torch.float32)[:, None] * scale
    return torch.cat([angle.cos(), angle.sin()], dim=1)
