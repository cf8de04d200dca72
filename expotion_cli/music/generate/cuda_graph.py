"""Cues decoded in slots of fixed buffers: how generation runs on a GPU.

Nothing in a step depends on the host: every slot has a position of its own in a tensor, tokens are drawn and written
on the device, and lengths are known beforehand. So a step is captured once as a CUDA graph (one for each span of
positions that attention reads) and replayed, without launching its hundreds of kernels one by one and without waiting.

A slot whose cue has finished is handed to the next cue of the same kind; cues of another kind wait until all slots are
free.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from expotion_cli.music.generate.window import Take, TakeMemory, draw_next
from expotion_cli.music.transformer.attention import Memory, Passage, VisualMemory, add_pictures, hear, positions
from expotion_cli.music.transformer.decoder import MusicDecoder

SPAN = 128
"""Attention reads a multiple of this many positions."""


class FixedBuffers:
    """Slots for a fixed number of cues: an `engine.Runner` and an `attending.Attended`.

    Args:
        decoder: frozen.
        num_slots: cues C at a time.
        places: positions of the longest window.
        text_length: of the longest prompt's states.
        capture: replay captured graphs; without, every step is launched anew (for tests on a CPU).
    """

    def __init__(self, decoder: MusicDecoder, num_slots: int, places: int, text_length: int, *, capture: bool):
        self.decoder, self.num_slots, self.capture, self.text_length = decoder, num_slots, capture, text_length
        self.places = -(-places // SPAN) * SPAN
        self.slots: list[Take | None] = [None] * num_slots
        self.kind: tuple | None = None

    @property
    def takes(self) -> list[Take]:
        """The takes at work."""
        return [take for take in self.slots if take is not None]

    def accepts(self, take: Take) -> bool:
        """Whether a take can join those at work."""
        return not self.takes or take.row_kind == self.kind

    def admit(self, takes: Sequence[Take], memories: Sequence[TakeMemory]) -> None:
        """Put takes of one kind into free slots."""
        if not self.takes and takes[0].row_kind != self.kind:
            self._allocate(takes[0], memories[0])
        for take, memory in zip(takes, memories, strict=True):
            self._occupy(self.slots.index(None), take, memory)

    def step(self) -> list[Take]:
        """One position of every take; returns those whose window is complete."""
        furthest = max(take.place for take in self.takes) + 1
        self._run(-(-furthest // SPAN) * SPAN)
        done = []
        for slot, take in enumerate(self.slots):
            if take is None:
                continue
            take.place += 1
            if take.place == take.num_positions - 1:
                take.keep(self.delayed[slot])
                self.active[slot] = self.place[slot] = 0
                self.slots[slot] = None
                done.append(take)
        return done

    def positions(self, length: int, dim: int) -> Tensor:
        """See `Attended`."""
        return self._by_row(self.table[self.place])[:, None]

    def attend_music(self, index: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `Attended`."""
        for half, fresh in enumerate((keys, values)):
            self.music[index, half].index_put_((self.row_numbers, self.row_places), fresh[:, :, 0])
        old_keys, old_values = (self.music[index, half, :, : self.span].transpose(1, 2) for half in (0, 1))
        own = F.scaled_dot_product_attention(query, old_keys, old_values, attn_mask=self.seen)
        sides = []
        for memory, first, last in self.pictures:
            side = memory.queries[max(0, index - memory.first_layer)]
            place = self.place.clamp(max=side.shape[2] - 1)
            sides.append((memory, side[self.slot_numbers, :, place][:, :, None], first, last))
        return add_pictures(own, query, index, self.rows, sides)

    def attend_text(self, index: int, query: Tensor) -> Tensor:
        """See `Attended`."""
        return hear(index, query, self.text, self.rows)

    def advance(self, length: int) -> None:
        """See `Attended`. Positions move on when the tokens are written."""

    def _allocate(self, take: Take, memory: TakeMemory) -> None:
        config, device = self.decoder.config, self.decoder.device
        self.kind, self.rows, self.sampling = take.row_kind, take.rows, take.sampling
        slots, rows = self.num_slots, self.num_slots * self.rows.count
        head = (config.num_heads, config.dim // config.num_heads)
        options = {"device": device, "dtype": self.decoder.dtype}
        self.music = torch.zeros(config.num_layers, 2, rows, self.places, *head, **options)
        empty = torch.zeros(slots, head[0], self.text_length, head[1], **options)
        self.text = Memory(
            [empty.clone() for _ in range(config.num_layers)],
            [empty.clone() for _ in range(config.num_layers)],
            torch.ones(slots, 1, 1, self.text_length, dtype=torch.bool, device=device),
        )
        spans = ((memory.unseen, 0, self.rows.blind), (memory.visual, self.rows.blind, self.rows.count))
        self.pictures = [(_roomy(part, slots), first, last) for part, first, last in spans if part is not None]
        shape = (slots, config.num_codebooks, self.places + 1)
        self.delayed = torch.full(shape, config.start_token, device=device)
        self.noise = torch.zeros(shape, dtype=torch.float64, device=device)
        self.is_open = torch.zeros(shape, dtype=torch.bool, device=device)
        self.place = torch.zeros(slots, dtype=torch.int64, device=device)
        self.active = torch.zeros(slots, dtype=torch.int64, device=device)
        self.slot_numbers = torch.arange(slots, device=device)
        self.row_numbers = torch.arange(rows, device=device)
        self.table = positions(0, self.places, config.dim, device)
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def _occupy(self, slot: int, take: Take, memory: TakeMemory) -> None:
        self.slots[slot] = take
        length = memory.text.keys[0].shape[2]
        for whole, part in ((self.text.keys, memory.text.keys), (self.text.values, memory.text.values)):
            for target, source in zip(whole, part, strict=True):
                target[slot, :, :length] = source[0]
        assert self.text.mask is not None and memory.text.mask is not None
        self.text.mask[slot] = False
        self.text.mask[slot, ..., :length] = memory.text.mask[0]
        parts = [part for part in (memory.unseen, memory.visual) if part is not None]
        for (buffers, *_), part in zip(self.pictures, parts, strict=True):
            for name in ("queries", "keys", "values"):
                for target, source in zip(getattr(buffers, name), getattr(part, name), strict=True):
                    target[slot] = source[0]
        places = take.num_positions
        self.delayed[slot, :, :places] = take.laid_out(places).to(self.delayed.device)
        self.noise[slot, :, :places] = take.noise_rows(places).to(self.noise.device)
        self.is_open[slot] = False
        self.is_open[slot, :, :places] = take.open_places(places).to(self.is_open.device)
        self.place[slot], self.active[slot] = take.known, 1
        take.place = take.known
        if take.known:
            self._read_known(slot, take, memory)

    def _read_known(self, slot: int, take: Take, memory: TakeMemory) -> None:
        """Fill a slot's cache with what is given."""
        count, known = self.rows.count, take.known
        cache = self.decoder.new_cache(count, known)
        passage = Passage(memory.text, cache=cache, visual=memory.visual, unseen=memory.unseen, rows=self.rows)
        self.decoder(self.delayed[slot : slot + 1, :, :known].expand(count, -1, -1), passage, last_only=True)
        self.music[:, :, slot * count : (slot + 1) * count, :known] = cache.buffer.transpose(3, 4)

    def _run(self, span: int) -> None:
        if not self.capture:
            self._advance_all(span)
            return
        if span not in self.graphs:
            # A step of slots that stand still can be repeated: it writes the same again.
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
        self.row_places = self._by_row(self.place)
        self.seen = (torch.arange(span, device=self.place.device) <= self.row_places[:, None])[:, None, None]
        index = self.place[:, None, None].expand(-1, self.delayed.shape[1], 1)
        tokens = self.delayed.gather(2, index).repeat_interleave(self.rows.count, dim=0)
        logits = self.decoder(tokens, self)[:, :, 0].float().unflatten(0, (-1, self.rows.count))
        following = index + 1
        drawn = draw_next(logits, self.noise.gather(2, following)[:, :, 0], self.sampling)[..., None]
        given = self.delayed.gather(2, following)
        self.delayed.scatter_(2, following, torch.where(self.is_open.gather(2, following), drawn, given))
        self.place += self.active

    def _by_row(self, by_slot: Tensor) -> Tensor:
        return by_slot.repeat_interleave(self.rows.count, dim=0, output_size=self.num_slots * self.rows.count)


def _roomy(visual: VisualMemory, slots: int) -> VisualMemory:
    """Buffers for the conditions of all slots."""
    columns = (
        [layer.new_zeros(slots, *layer.shape[1:]) for layer in column]
        for column in (visual.queries, visual.keys, visual.values)
    )
    return VisualMemory(*columns, visual.gates, visual.first_layer)
