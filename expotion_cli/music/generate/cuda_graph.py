"""Takes decoded in slots of fixed buffers, their steps captured as CUDA graphs: how generation runs on a GPU.

Nothing in a step depends on the host: every slot has its own position in a tensor, tokens are drawn and written on the
device, and lengths are known beforehand. So a step is captured once for each span of positions that attention reads,
and replayed without launching its hundreds of kernels one by one and without waiting for them.

A slot whose take has finished goes to the next take of the same kind. Takes of another kind wait until all slots are
free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from expotion_cli.music.generate.constraints import MAX_MASKS
from expotion_cli.music.generate.window import EncodedConditions, Take, draw_next
from expotion_cli.music.transformer.adapter import SideStream, add_side_attention
from expotion_cli.music.transformer.attention import (
    PrefixKeyValues,
    TextKeyValues,
    attend_to_text,
    sinusoidal_positions,
)
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.decoder import MusicDecoder

SPAN = 128
"""Attention reads a multiple of this many positions."""


class CudaGraphBatch:
    """Slots for a fixed number of takes: an `engine.Runner` and an `attention.AttentionContext`.

    Args:
        decoder: frozen.
        num_slots: takes C at a time.
        num_positions: of the longest window, its prefix included.
        text_length: of the longest prompt's states.
        capture: replay captured graphs; otherwise every step is launched anew (for tests on a CPU).
    """

    def __init__(self, decoder: MusicDecoder, num_slots: int, num_positions: int, text_length: int, *, capture: bool):
        self.decoder, self.num_slots, self.capture, self.text_length = decoder, num_slots, capture, text_length
        self.num_positions = -(-num_positions // SPAN) * SPAN
        self.slots: list[Take | None] = [None] * num_slots
        self.kind: tuple | None = None

    @property
    def takes(self) -> list[Take]:
        """The takes being decoded."""
        return [take for take in self.slots if take is not None]

    def accepts(self, take: Take) -> bool:
        """Whether a take can join those being decoded."""
        return not self.takes or take.row_kind == self.kind

    def admit(self, takes: Sequence[Take], conditions: Sequence[EncodedConditions]) -> None:
        """Put takes of one kind into free slots."""
        if not self.takes and takes[0].row_kind != self.kind:
            self._allocate(takes[0], conditions[0])
        for take, encoded in zip(takes, conditions, strict=True):
            self._occupy(self.slots.index(None), take, encoded)

    def step(self) -> list[Take]:
        """Decode one position of every take; returns those whose window is complete."""
        furthest = max(take.prefix_length + take.position for take in self.takes) + 1
        self._run(-(-furthest // SPAN) * SPAN)
        done = []
        for slot, take in enumerate(self.slots):
            if take is None:
                continue
            take.position += 1
            if take.position == take.num_positions - 1:
                take.finish_window(self.delayed[slot])
                self.active[slot] = self.position[slot] = 0
                self.slots[slot] = None
                done.append(take)
        return done

    def positions(self, length: int, dim: int) -> Tensor:
        """See `AttentionContext`."""
        return self._by_row(self.table[self.prefix + self.position])[:, None]

    def self_attention(self, layer: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `AttentionContext`."""
        for half, fresh in enumerate((keys, values)):
            self.cache[layer, half].index_put_((self.row_numbers, self.row_positions), fresh[:, :, 0])
        all_keys, all_values = (self.cache[layer, half, :, : self.span].transpose(1, 2) for half in (0, 1))
        own = F.scaled_dot_product_attention(query, all_keys, all_values, attn_mask=self.visible)
        sides = []
        for side, first, last in self.side_streams:
            queries = side.queries[max(0, layer - side.first_layer)]
            position = self.position.clamp(max=queries.shape[2] - 1)
            sides.append((side, queries[self.slot_numbers, :, position][:, :, None], first, last))
        return add_side_attention(own, query, layer, self.rows, sides)

    def cross_attention(self, layer: int, query: Tensor) -> Tensor:
        """See `AttentionContext`."""
        assert self.text is not None
        return attend_to_text(layer, query, self.text, self.rows)

    def advance(self, length: int) -> None:
        """See `AttentionContext`. Positions advance when the tokens are written."""

    def _allocate(self, take: Take, encoded: EncodedConditions) -> None:
        config, device = self.decoder.config, self.decoder.device
        self.kind, self.rows, self.sampling = take.row_kind, take.rows, take.sampling
        slots, rows = self.num_slots, self.num_slots * self.rows.count
        head = (config.num_heads, config.dim // config.num_heads)
        options: dict[str, Any] = {"device": device, "dtype": self.decoder.dtype}
        self.cache = torch.zeros(config.num_layers, 2, rows, self.num_positions, *head, **options)
        empty = torch.zeros(slots, head[0], self.text_length, head[1], **options)

        def text_buffers(negative: TextKeyValues | None = None) -> TextKeyValues:
            keys, values = ([empty.clone() for _ in range(config.num_layers)] for _ in range(2))
            mask = torch.ones(slots, 1, 1, self.text_length, dtype=torch.bool, device=device)
            return TextKeyValues(keys, values, mask, negative)

        self.text = None
        if not config.takes_melody:
            self.text = text_buffers(text_buffers() if take.has_negative else None)
        without = self.rows.without_picture
        spans = ((encoded.masked, 0, without), (encoded.side_stream, without, self.rows.count))
        self.side_streams = [(_buffers(side, slots), first, last) for side, first, last in spans if side is not None]
        shape = (slots, config.num_codebooks, self.num_positions + 1)
        self.delayed = torch.full(shape, config.start_token, device=device)
        self.noise = torch.zeros(shape, dtype=torch.float64, device=device)
        self.is_drawn = torch.zeros(shape, dtype=torch.bool, device=device)
        self.is_free = take.cue.constraints is None
        if not self.is_free:
            self.returning, self.mask_of = torch.zeros_like(self.delayed), torch.zeros_like(self.delayed)
            masks = (slots, MAX_MASKS, config.vocab_size)
            self.masks = torch.ones(masks, dtype=torch.bool, device=device)
        self.position = torch.zeros(slots, dtype=torch.int64, device=device)
        self.prefix = torch.zeros(slots, dtype=torch.int64, device=device)  # positions before the music
        self.active = torch.zeros(slots, dtype=torch.int64, device=device)
        self.slot_numbers = torch.arange(slots, device=device)
        self.row_numbers = torch.arange(rows, device=device)
        self.table = sinusoidal_positions(0, self.num_positions, config.dim, device)
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def _occupy(self, slot: int, take: Take, encoded: EncodedConditions) -> None:
        self.slots[slot] = take
        if isinstance(encoded.text, PrefixKeyValues):
            self._put_prefix(slot, encoded.text)
        else:
            assert self.text is not None
            _put_text(self.text, slot, encoded.text)
        sides = [side for side in (encoded.masked, encoded.side_stream) if side is not None]
        for (buffers, *_), side in zip(self.side_streams, sides, strict=True):
            for name in ("queries", "keys", "values"):
                for target, source in zip(getattr(buffers, name), getattr(side, name), strict=True):
                    target[slot] = source[0]
        end, device = take.num_positions, self.position.device
        self.delayed[slot, :, :end] = take.delayed_tokens(end).to(device)
        self.noise[slot, :, :end] = take.delayed_noise(end).to(device)
        self.is_drawn[slot] = False
        self.is_drawn[slot, :, :end] = take.is_drawn(end).to(device)
        if not self.is_free:
            self.returning[slot, :, :end] = take.returning(end).to(device)
            numbers, masks = take.masks(end)
            self.mask_of[slot, :, :end] = numbers.to(device)
            self.masks[slot, : len(masks)] = masks.to(device)
        self.position[slot], self.active[slot] = take.known, 1
        take.position = take.known
        if take.known:
            self._prefill(slot, take, encoded)

    def _put_prefix(self, slot: int, prefix: PrefixKeyValues) -> None:
        rows = slice(slot * self.rows.count, (slot + 1) * self.rows.count)
        for half, layers in enumerate((prefix.keys, prefix.values)):
            for layer, states in enumerate(layers):
                self.cache[layer, half, rows, : prefix.length] = states.transpose(1, 2)
        self.prefix[slot] = prefix.length

    def _prefill(self, slot: int, take: Take, encoded: EncodedConditions) -> None:
        """Fill a slot's cache with the known tokens."""
        count, known, first = self.rows.count, take.known, take.prefix_length
        cache = self.decoder.new_cache(count, first + known)
        context = LockstepContext(
            encoded.text, cache=cache, side_stream=encoded.side_stream, masked=encoded.masked, rows=self.rows
        )
        self.decoder(self.delayed[slot : slot + 1, :, :known].expand(count, -1, -1), context, last_only=True)
        rows = slice(slot * count, (slot + 1) * count)
        self.cache[:, :, rows, first : first + known] = cache.buffer[..., first:, :].transpose(3, 4)

    def _run(self, span: int) -> None:
        if not self.capture:
            self._advance_all(span)
            return
        if span not in self.graphs:
            # Warm up, as capturing requires. With no slot active a step can be repeated: it writes the same again.
            active = self.active.clone()
            self.active.zero_()
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(2):
                    self._advance_all(span)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=next(iter(self.graphs.values())).pool() if self.graphs else None):
                self._advance_all(span)
            self.graphs[span] = graph
            self.active.copy_(active)
        self.graphs[span].replay()

    def _advance_all(self, span: int) -> None:
        """One position of every slot, with attention over `span` positions; all on the device."""
        self.span = span
        self.row_positions = self._by_row(self.prefix + self.position)
        self.visible = (torch.arange(span, device=self.position.device) <= self.row_positions[:, None])[:, None, None]
        index = self.position[:, None, None].expand(-1, self.delayed.shape[1], 1)
        tokens = self.delayed.gather(2, index).repeat_interleave(self.rows.count, dim=0)
        logits = self.decoder(tokens, self)[:, :, 0].float().unflatten(0, (-1, self.rows.count))
        following = index + 1
        allowed = None
        if not self.is_free:
            numbers = self.mask_of.gather(2, following)[:, :, 0]
            allowed = self.masks[self.slot_numbers[:, None], numbers]
        drawn = draw_next(logits, self.noise.gather(2, following)[:, :, 0], self.sampling, allowed)[..., None]
        if not self.is_free:
            returning = self.returning.gather(2, following)
            drawn = torch.where(returning > 0, self.delayed.gather(2, returning), drawn)
        given = self.delayed.gather(2, following)
        self.delayed.scatter_(2, following, torch.where(self.is_drawn.gather(2, following), drawn, given))
        self.position += self.active

    def _by_row(self, by_slot: Tensor) -> Tensor:
        return by_slot.repeat_interleave(self.rows.count, dim=0, output_size=self.num_slots * self.rows.count)


def _put_text(buffers: TextKeyValues, slot: int, text: TextKeyValues) -> None:
    """Write a cue's text into its slot."""
    length = text.keys[0].shape[2]
    for whole, part in ((buffers.keys, text.keys), (buffers.values, text.values)):
        for target, source in zip(whole, part, strict=True):
            target[slot, :, :length] = source[0]
    assert buffers.mask is not None and text.mask is not None
    buffers.mask[slot] = False
    buffers.mask[slot, ..., :length] = text.mask[0]
    if buffers.negative is not None and text.negative is not None:
        _put_text(buffers.negative, slot, text.negative)


def _buffers(side: SideStream, slots: int) -> SideStream:
    """Empty buffers for the side streams of all slots."""

    def empty(column: list[Tensor]) -> list[Tensor]:
        return [layer.new_zeros(slots, *layer.shape[1:]) for layer in column]

    return SideStream(empty(side.queries), empty(side.keys), empty(side.values), side.gates, side.first_layer)
