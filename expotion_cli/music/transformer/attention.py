"""What the decoder's rows attend to: the music so far, the text, and (with an adapter) the picture.

The decoder itself only turns rows into queries, keys and values; where a row stands and what it may look at is kept
here. A `Passage` holds rows in step; `cohorts.Cohorts` holds several passages at positions of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from expotion_cli.music.transformer.config import DecoderConfig


@dataclass(frozen=True)
class Memory:
    """Text as keys and values, which do not change while a cue is decoded.

    Attributes:
        keys: per layer [C, H, M, d/H].
        values: per layer [C, H, M, d/H].
        mask: [C, 1, 1, M] bool, True where a text may be attended; None for all.
    """

    keys: list[Tensor]
    values: list[Tensor]
    mask: Tensor | None = None


@dataclass(frozen=True)
class VisualMemory:
    """The adapter's side stream for one window, computed once (`JointEmbeddingAdapter.remember`).

    Attributes:
        queries: per adapted layer [C, H, T_c, d/H], read at the music's own position.
        keys: per adapted layer [C, H, T_c, d/H].
        values: per adapted layer [C, H, T_c, d/H].
        gates: [N], one scalar an adapted layer.
        first_layer: index of the first adapted decoder layer, L - N.
    """

    queries: list[Tensor]
    keys: list[Tensor]
    values: list[Tensor]
    gates: Tensor
    first_layer: int

    def first(self, count: int) -> VisualMemory:
        """That of the first `count` cues."""
        columns = ([layer[:count] for layer in column] for column in (self.queries, self.keys, self.values))
        return VisualMemory(*columns, self.gates, self.first_layer)


@dataclass(frozen=True)
class CueRows:
    """The rows a cue takes in a batch, from less to more condition; they stand next to each other.

    Attributes:
        count: rows n of each cue, so that R = C * n.
        deaf: leading rows that hear no text.
        blind: leading rows that see the unseen picture.
    """

    count: int = 1
    deaf: int = 0
    blind: int = 0


class Attended(Protocol):
    """What a batch of R rows attends to."""

    def positions(self, length: int, dim: int) -> Tensor:
        """Sinusoidal positions of the next `length` places. [1 or R, T, d] float32."""
        ...

    def attend_music(self, index: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Layer `index`'s self-attention with the adapter's term, all [R, H, T, d/H]."""
        ...

    def attend_text(self, index: int, query: Tensor) -> Tensor:
        """Layer `index`'s cross-attention. [R, H, T, d/H] → [R, H, T, d/H]."""
        ...

    def advance(self, length: int) -> None:
        """All layers have seen the next `length` places."""
        ...


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
        self.buffer = torch.empty(shape, device=device, dtype=dtype)
        self.length, self.max_positions = 0, max_positions

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values [R, H, T, d/H] behind those already there; return all up to the newest.

        A batch may have shrunk to its first R rows.
        """
        rows, end = keys.shape[0], self.length + keys.shape[2]
        whole = self.buffer[layer, :, :rows, :, :end]
        old_keys, old_values = whole.unbind()
        old_keys[:, :, self.length :].copy_(keys)
        old_values[:, :, self.length :].copy_(values)
        return old_keys, old_values


class Passage:
    """Rows in step: all stand at the same position.

    Args:
        text: from `MusicDecoder.remember_text`, one entry a cue.
        cache: from `MusicDecoder.new_cache`; without one the batch is a whole sequence from position 0 (training).
        visual: from `JointEmbeddingAdapter.remember`, one entry a cue; None for plain MusicGen.
        unseen: what blind rows attend to instead of `visual`.
        rows: the rows of each cue.
    """

    def __init__(
        self,
        text: Memory,
        *,
        cache: StepCache | None = None,
        visual: VisualMemory | None = None,
        unseen: VisualMemory | None = None,
        rows: CueRows = CueRows(),
    ):
        self.text, self.cache, self.rows = text, cache, rows
        self.table: Tensor | None = None
        self.pictures = [
            (memory, first, last)
            for memory, first, last in ((unseen, 0, rows.blind), (visual, rows.blind, rows.count))
            if memory is not None and first < last
        ]

    def keep(self, count: int) -> None:
        """Go on with the first `count` cues alone."""
        mask = self.text.mask[:count] if self.text.mask is not None else None
        self.text = Memory([k[:count] for k in self.text.keys], [v[:count] for v in self.text.values], mask)
        self.pictures = [(memory.first(count), first, last) for memory, first, last in self.pictures]

    @property
    def start(self) -> int:
        """The position of the next place."""
        return self.cache.length if self.cache is not None else 0

    def positions(self, length: int, dim: int) -> Tensor:
        """See `Attended`."""
        if self.cache is None:
            return positions(0, length, dim, self.text.keys[0].device)[None]
        if self.table is None:
            self.table = positions(0, self.cache.max_positions, dim, self.text.keys[0].device)[None]
        return self.table[:, self.start : self.start + length]

    def attend_music(self, index: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `Attended`."""
        length, start = query.shape[2], self.start
        if self.cache is not None:
            keys, values = self.cache.extend(index, keys, values)
        if length == 1:
            own = attend(query, keys, values)
        elif start:
            seen = torch.ones(length, start + length, dtype=torch.bool, device=query.device).tril(start)
            own = F.scaled_dot_product_attention(query.to(keys.dtype), keys, values, attn_mask=seen).to(query.dtype)
        else:
            own = F.scaled_dot_product_attention(query.to(keys.dtype), keys, values, is_causal=True).to(query.dtype)
        sides = (
            (memory, side_queries(memory, index, start, length), first, last) for memory, first, last in self.pictures
        )
        return add_pictures(own, query, index, self.rows, sides)

    def attend_text(self, index: int, query: Tensor) -> Tensor:
        """See `Attended`."""
        return hear(index, query, self.text, self.rows)

    def advance(self, length: int) -> None:
        """See `Attended`."""
        if self.cache is not None:
            self.cache.length += length


def fold(query: Tensor, count: int, first: int, last: int) -> Tensor:
    """Rows first .. last - 1 of each cue side by side. [C * n, H, T, d/H] → [C, H, n' * T, d/H]."""
    if count == 1:
        return query
    return query.view(-1, count, *query.shape[1:])[:, first:last].transpose(1, 2).flatten(2, 3)


def unfold(heard: Tensor, count: int) -> Tensor:
    """`fold`'s inverse. [C, H, n' * T, d/H] → [C, n', H, T, d/H]."""
    return heard.view(*heard.shape[:2], count, -1, heard.shape[3]).transpose(1, 2)


def hear(index: int, query: Tensor, text: Memory, rows: CueRows) -> Tensor:
    """Cross-attention; deaf rows would attend to zeros, so they hear 0. [R, H, T, d/H] → [R, H, T, d/H]."""
    heard = attend(fold(query, rows.count, 0, rows.count), text.keys[index], text.values[index], text.mask)
    heard = unfold(heard, rows.count).reshape(query.shape)
    if rows.deaf:
        heard.view(-1, rows.count, *heard.shape[1:])[:, : rows.deaf] = 0
    return heard


def side_queries(visual: VisualMemory, index: int, start: int, length: int) -> Tensor:
    """The side stream's queries at positions start .. start + length - 1. [C, H, T, d/H].

    Positions past the condition's end (the delay pattern's tail) take its last row; layers that are not adapted get
    those of the first one, which nobody reads.
    """
    side = visual.queries[max(0, index - visual.first_layer)]
    bound = side.shape[2] - 1
    if start + length - 1 <= bound:
        return side[:, :, start : start + length]
    places = torch.arange(start, start + length, device=side.device).clamp(max=bound)
    return side[:, :, places]


def add_pictures(
    own: Tensor,
    query: Tensor,
    index: int,
    rows: CueRows,
    pictures: Iterable[tuple[VisualMemory, Tensor, int, int]],
) -> Tensor:
    """The adapter's term on top of a layer's own attention: own + g · Attn(q + q'_t, k', v').

    The second attention sees all steps of the condition, past and future.

    Args:
        own: [C * n, H, T, d/H].
        query: the music's queries, likewise.
        index: of the layer.
        rows: of each cue.
        pictures: (condition, its queries at these positions [C, H, T, d/H], first row that sees it, last + 1).

    Returns:
        [C * n, H, T, d/H].
    """
    terms = []
    for visual, side, first, last in pictures:
        adapted = index - visual.first_layer
        if adapted < 0:
            return own
        moved = (query.unflatten(0, (-1, rows.count))[:, first:last] + side[:, None]).transpose(1, 2).flatten(2, 3)
        heard = attend(moved, visual.keys[adapted], visual.values[adapted])
        terms.append(visual.gates[adapted] * unfold(heard, last - first))
    if not terms:
        return own
    return own + (terms[0] if len(terms) == 1 else torch.cat(terms, dim=1)).reshape(own.shape)


FEW_QUERIES = 8


def attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention, not causal. [R, H, T, d/H] over [R, H, M, d/H] → [R, H, T, d/H], computed in the keys' type.

    Few queries on a CPU go through plain products: the library's blocked kernel packs all keys anew for them and
    takes longer.
    """
    dtype, query = query.dtype, query.to(keys.dtype)
    if query.shape[2] > FEW_QUERIES or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask).to(dtype)
    scores = torch.matmul(query * query.shape[-1] ** -0.5, keys.transpose(2, 3))
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return torch.matmul(torch.softmax(scores, dim=-1), values).to(dtype)


def positions(start: int, length: int, dim: int, device: torch.device) -> Tensor:
    """Sinusoidal positions: the cosine half, then the sine half. [length, dim] float32."""
    half = dim // 2
    scale = torch.exp(torch.arange(half, device=device, dtype=torch.float32) * (-math.log(10_000) / (half - 1)))
    angle = torch.arange(start, start + length, device=device, dtype=torch.float32)[:, None] * scale
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class Attention(nn.Module):
    """Multi-head attention without biases; projections are kept apart so that adapters can reach them."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim, bias=False)
        self.out_proj = nn.Linear(dim, dim, bias=False)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values. [R, T, d] → 3 × [R, H, T, d/H]."""
        fused = getattr(self, "qkv_proj", None)  # after `packing.pack`
        parts = fused(x).chunk(3, dim=-1) if fused is not None else (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        query, keys, values = (self.split(part) for part in parts)
        return query, keys, values

    def split(self, x: Tensor) -> Tensor:
        """[R, T, d] → [R, H, T, d/H]."""
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)

    def join(self, x: Tensor) -> Tensor:
        """[R, H, T, d/H] → [R, T, d]."""
        return x.transpose(1, 2).flatten(2)
