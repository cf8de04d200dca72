"""Takes decoded together, each at a position of its own and every row in use: how generation runs on a CPU.

Takes that start at the same time form a cohort. They stand at the same position and share a KV cache, the longest
first, so that a cohort whose shorter takes have finished is simply its first rows. A step costs what reading the
decoder's matrices costs, so the rows of all cohorts go through them together (`single_step.py`); only attention runs
cohort by cohort.

A row's attention thus has the shape it would have alone. With the number of rows padded to a multiple that rounds alike
(`onednn.row_quantum`), a take's tokens do not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from expotion_cli.music.generate.window import EncodedConditions, Take, draw_next
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.decoder import MusicDecoder
from expotion_cli.music.transformer.single_step import SingleStep, StepContext


class Cohort:
    """Takes of one kind at the same position.

    Args:
        decoder: frozen.
        takes: of one kind (`Take.kind`), so that all have the same number of known steps.
        conditions: what each take attends to.
    """

    def __init__(self, decoder: MusicDecoder, takes: Sequence[Take], conditions: Sequence[EncodedConditions]):
        order = sorted(range(len(takes)), key=lambda i: -takes[i].window_steps)
        self.takes = [takes[i] for i in order]
        self.rows = self.takes[0].rows
        length = self.takes[0].num_positions
        cache = decoder.new_cache(len(takes) * self.rows.count, self.takes[0].prefix_length + length - 1)
        together = EncodedConditions.stack([conditions[i] for i in order])
        self.context = StepContext(
            together.text, cache=cache, side_stream=together.side_stream, masked=together.masked, rows=self.rows
        )
        self.delayed = torch.stack([take.delayed_tokens(length) for take in self.takes]).to(decoder.device)
        self.noise = torch.stack([take.delayed_noise(length) for take in self.takes]).to(decoder.device)
        self.is_drawn = torch.stack([take.is_drawn(length) for take in self.takes]).to(decoder.device)
        self.is_free = self.takes[0].cue.constraints is None
        if not self.is_free:
            self._constrain(length, decoder.device)
        self._prefill(decoder, conditions, order)

    def _constrain(self, length: int, device: torch.device) -> None:
        """Gather the takes' constraints: `returning` [C, K, length], `mask_of` [C, K, length], `table` [M, V]."""
        self.returning = torch.stack([take.returning(length) for take in self.takes]).to(device)
        rows, tables, first = [], [], 0
        for take in self.takes:
            numbers, table = take.masks(length)
            rows.append(numbers + first)
            tables.append(table)
            first += len(table)
        self.mask_of, self.table = torch.stack(rows).to(device), torch.cat(tables).to(device)

    def _prefill(self, decoder: MusicDecoder, conditions: Sequence[EncodedConditions], order: Sequence[int]) -> None:
        """Fill the cache with the known tokens, take by take: the products then have the shapes they have alone."""
        known, cache, count = self.takes[0].known, self.context.cache, self.rows.count
        if not known:
            return
        first, last = cache.length, cache.length + known
        for place, number in enumerate(order):
            own = conditions[number]
            alone = decoder.new_cache(count, last)
            context = LockstepContext(
                own.text, cache=alone, side_stream=own.side_stream, masked=own.masked, rows=self.rows
            )
            decoder(self.delayed[place : place + 1, :, :known].expand(count, -1, -1), context, last_only=True)
            rows = slice(place * count, (place + 1) * count)
            cache.buffer[:, :, rows, :, first:last] = alone.buffer[..., first:, :]
        cache.length = last

    @property
    def num_rows(self) -> int:
        """Rows in use."""
        return len(self.takes) * self.rows.count

    def tokens(self) -> Tensor:
        """The tokens at the current position. [R, K, 1]."""
        return self.delayed[:, :, self.context.start, None].repeat_interleave(self.rows.count, dim=0)

    def accept(self, logits: Tensor) -> list[Take]:
        """Draw the next position's tokens.

        Args:
            logits: [R, K, V], of the current position.

        Returns:
            Takes whose window is complete; they leave the cohort.
        """
        position = self.context.start  # the decoder has advanced it
        by_cue = logits.unflatten(0, (-1, self.rows.count))
        allowed = None if self.is_free else self.table[self.mask_of[:, :, position]]
        drawn = draw_next(by_cue, self.noise[:, :, position], self.takes[0].sampling, allowed)
        if not self.is_free:
            returning = self.returning[:, :, position]
            heard = self.delayed.gather(2, returning[..., None])[..., 0]
            drawn = torch.where(returning > 0, heard, drawn)
        given = self.delayed[:, :, position]
        self.delayed[:, :, position] = torch.where(self.is_drawn[:, :, position], drawn, given)
        for take in self.takes:
            take.position = position
        done = [take for take in self.takes if take.num_positions - 1 == position]
        if done:
            count = len(self.takes) - len(done)
            for row, take in enumerate(done, start=count):  # the shortest come last
                take.finish_window(self.delayed[row])
            self.takes = self.takes[:count]
            self.delayed, self.noise, self.is_drawn = self.delayed[:count], self.noise[:count], self.is_drawn[:count]
            if not self.is_free:
                self.returning, self.mask_of = self.returning[:count], self.mask_of[:count]
            self.context.keep_first(count)
        return done


class CpuBatch:
    """All cohorts as one batch: an `engine.Runner`, and what its rows attend to (`FlatAttention`).

    Args:
        decoder: frozen and fused (`onednn.pack`).
        quantum: the number of rows is padded to a multiple of this.
    """

    def __init__(self, decoder: MusicDecoder, quantum: int):
        self.decoder, self.quantum, self.layers = decoder, quantum, SingleStep(decoder)
        self.cohorts: list[Cohort] = []

    @property
    def takes(self) -> list[Take]:
        """The takes being decoded."""
        return [take for cohort in self.cohorts for take in cohort.takes]

    def accepts(self, take: Take) -> bool:
        """Any take can join."""
        return True

    def admit(self, takes: Sequence[Take], conditions: Sequence[EncodedConditions]) -> None:
        """Start a cohort."""
        self.cohorts.append(Cohort(self.decoder, takes, conditions))

    def step(self) -> list[Take]:
        """Decode one position of every take; returns those whose window is complete."""
        self._sizes = [cohort.num_rows for cohort in self.cohorts]
        self._padding = -sum(self._sizes) % self.quantum
        tokens = self._join([cohort.tokens() for cohort in self.cohorts])
        is_one = len(self.cohorts) == 1 and not self._padding
        x = self.decoder.embed(tokens, self._positions())[:, 0]
        x = self.layers(x, self.cohorts[0].context if is_one else self)
        logits = self.decoder.predict(x[:, None])[:, :, 0].float()
        done = []
        for cohort, part in zip(self.cohorts, self._split(logits), strict=True):
            cohort.context.advance(1)
            done += cohort.accept(part)
        self.cohorts = [cohort for cohort in self.cohorts if cohort.takes]
        return done

    def self_attention_step(self, layer: int, qkv: Tensor) -> Tensor:
        """See `FlatAttention`."""
        parts = zip(self.cohorts, self._split(qkv), strict=True)
        return self._join([cohort.context.self_attention_step(layer, part) for cohort, part in parts])

    def cross_attention_step(self, layer: int, query: Tensor) -> Tensor:
        """See `FlatAttention`."""
        parts = zip(self.cohorts, self._split(query), strict=True)
        return self._join([cohort.context.cross_attention_step(layer, part) for cohort, part in parts])

    def _positions(self) -> Tensor:
        """[R, 1, d] of all rows; [1, 1, d] where they stand at the same one."""
        found = [cohort.context.positions(1, self.decoder.config.dim) for cohort in self.cohorts]
        if len(found) == 1:
            return found[0]
        return self._join([at.expand(size, -1, -1) for at, size in zip(found, self._sizes, strict=True)])

    def _split(self, rows: Tensor) -> Sequence[Tensor]:
        """Each cohort's rows, without the padding."""
        if len(self._sizes) == 1:
            return [rows[: self._sizes[0]] if self._padding else rows]
        return rows[: sum(self._sizes)].split(self._sizes)

    def _join(self, parts: Sequence[Tensor]) -> Tensor:
        """The inverse of `_split`, with zeros for the padding."""
        rows = parts[0] if len(parts) == 1 else torch.cat(list(parts))
        return F.pad(rows, (0, 0) * (rows.ndim - 1) + (0, self._padding)) if self._padding else rows
