"""The plainest `AttentionContext`: all rows stand at the same position."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from expotion_cli.music.transformer.adapter import SideStream, add_side_attention, side_queries
from expotion_cli.music.transformer.attention import (
    GuidanceRows,
    KVCache,
    PrefixKeyValues,
    TextKeyValues,
    attend,
    attend_to_text,
    sinusoidal_positions,
)

SINGLE_ROW = GuidanceRows()


class LockstepContext:
    """Rows that advance together.

    Args:
        text: from `MusicDecoder.encode_text`, one entry a cue; or from `prefix.encode_prefix`, one entry a row.
        cache: from `MusicDecoder.new_cache`; without one the batch is a whole sequence from position 0 (training).
        side_stream: from `JointEmbeddingAdapter.side_stream`, one entry a cue; None for plain MusicGen.
        masked: the same with the picture masked, for the rows without picture; None if there are none.
        rows: the rows of each cue.
    """

    def __init__(
        self,
        text: TextKeyValues | PrefixKeyValues,
        *,
        cache: KVCache | None = None,
        side_stream: SideStream | None = None,
        masked: SideStream | None = None,
        rows: GuidanceRows = SINGLE_ROW,
    ):
        self.cache, self.rows = cache, rows
        self.text = text if isinstance(text, TextKeyValues) else None
        self.prefix = text if isinstance(text, PrefixKeyValues) else None
        self.prefix_length = self.prefix.length if self.prefix is not None else 0
        if cache is not None and self.prefix is not None:
            cache.begin_with(self.prefix)
            self.prefix = None  # it is in the cache
        self.device = text.keys[0].device
        self.table: Tensor | None = None
        # Each side stream with the first of a cue's rows that attend to it, and the last plus 1.
        self.side_streams = [
            (side, first, last)
            for side, first, last in (
                (masked, 0, rows.without_picture),
                (side_stream, rows.without_picture, rows.count),
            )
            if side is not None and first < last
        ]

    def keep_first(self, count: int) -> None:
        """Drop all but the first `count` cues."""
        self.text = self.text.first(count) if self.text is not None else None
        self.side_streams = [(side.first(count), first, last) for side, first, last in self.side_streams]

    @property
    def start(self) -> int:
        """The music's next position; a prefix is not counted."""
        return self.cache.length - self.prefix_length if self.cache is not None else 0

    def positions(self, length: int, dim: int) -> Tensor:
        """See `AttentionContext`."""
        if self.cache is None:
            return sinusoidal_positions(self.prefix_length, length, dim, self.device)[None]
        if self.table is None:
            self.table = sinusoidal_positions(0, self.cache.max_positions, dim, self.device)[None]
        return self.table[:, self.cache.length : self.cache.length + length]

    def self_attention(self, layer: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `AttentionContext`."""
        length, start = query.shape[2], self.start
        if self.cache is not None:
            keys, values = self.cache.extend(layer, keys, values)
        elif self.prefix is not None:
            keys, values = self.prefix.followed_by(layer, keys, values)
        before = keys.shape[2] - length
        if length == 1:
            own = attend(query, keys, values)
        elif before:
            visible = torch.ones(length, before + length, dtype=torch.bool, device=query.device).tril(before)
            own = F.scaled_dot_product_attention(query.to(keys.dtype), keys, values, attn_mask=visible).to(query.dtype)
        else:
            own = F.scaled_dot_product_attention(query.to(keys.dtype), keys, values, is_causal=True).to(query.dtype)
        sides = (
            (side, side_queries(side, layer, start, length), first, last) for side, first, last in self.side_streams
        )
        return add_side_attention(own, query, layer, self.rows, sides)

    def cross_attention(self, layer: int, query: Tensor) -> Tensor:
        """See `AttentionContext`."""
        assert self.text is not None
        return attend_to_text(layer, query, self.text, self.rows)

    def advance(self, length: int) -> None:
        """See `AttentionContext`."""
        if self.cache is not None:
            self.cache.length += length
