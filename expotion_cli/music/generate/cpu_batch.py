"""Cues decoded together at positions of their own, every row busy: how generation runs on a CPU.

Cues that start at the same time form a cohort: they stand at the same position and share caches, the longest first,
so that a cohort whose shorter cues have finished is simply its first rows. The rows of all cohorts go through the
decoder's matrices together, because that is what a step costs; only attention is done cohort by cohort.

So what a row attends to has the shape it would have alone, and with rows padded to a number that rounds alike
(`packing.row_quantum`) a cue's tokens do not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from expotion_cli.music.generate.window import Take, TakeMemory, draw_next
from expotion_cli.music.transformer.attention import Passage
from expotion_cli.music.transformer.decoder import MusicDecoder


class Cohort:
    """Takes of one kind that stand at the same position.

    Args:
        decoder: frozen.
        takes: of one kind; their window's first `known` steps are given, the same number for all.
        memories: what each take attends to.
    """

    def __init__(self, decoder: MusicDecoder, takes: Sequence[Take], memories: Sequence[TakeMemory]):
        order = sorted(range(len(takes)), key=lambda i: -takes[i].window_steps)
        self.takes = [takes[i] for i in order]
        memory = TakeMemory.stack([memories[i] for i in order])
        self.rows = self.takes[0].rows
        places = self.takes[0].num_positions
        cache = decoder.new_cache(len(takes) * self.rows.count, places - 1)
        self.passage = Passage(memory.text, cache=cache, visual=memory.visual, unseen=memory.unseen, rows=self.rows)
        self.delayed = torch.stack([take.laid_out(places) for take in self.takes]).to(decoder.device)
        self.noise = torch.stack([take.noise_rows(places) for take in self.takes]).to(decoder.device)
        self.is_open = torch.stack([take.open_places(places) for take in self.takes]).to(decoder.device)
        self._read_known(decoder, memories, order)

    def _read_known(self, decoder: MusicDecoder, memories: Sequence[TakeMemory], order: Sequence[int]) -> None:
        """Fill the cache with what is given, take by take: the products' shapes are then the take's own."""
        known, cache, count = self.takes[0].known, self.passage.cache, self.rows.count
        assert cache is not None
        if not known:
            return
        for place, number in enumerate(order):
            memory = memories[number]
            alone = decoder.new_cache(count, known)
            passage = Passage(memory.text, cache=alone, visual=memory.visual, unseen=memory.unseen, rows=self.rows)
            decoder(self.delayed[place : place + 1, :, :known].expand(count, -1, -1), passage, last_only=True)
            cache.buffer[:, :, place * count : (place + 1) * count, :, :known] = alone.buffer
        cache.length = known

    @property
    def num_rows(self) -> int:
        """Rows in use."""
        return len(self.takes) * self.rows.count

    def tokens(self) -> Tensor:
        """The tokens at the present position. [R, K, 1]."""
        return self.delayed[:, :, self.passage.start, None].repeat_interleave(self.rows.count, dim=0)

    def accept(self, logits: Tensor) -> list[Take]:
        """Draw the next position's tokens from logits [R, K, V] of the present one.

        Returns:
            Takes whose window is complete; they leave the cohort.
        """
        place = self.passage.start  # the decoder has advanced it
        drawn = draw_next(logits.unflatten(0, (-1, self.rows.count)), self.noise[:, :, place], self.takes[0].sampling)
        given = self.delayed[:, :, place]
        self.delayed[:, :, place] = torch.where(self.is_open[:, :, place], drawn, given)
        for take in self.takes:
            take.place = place
        done = [take for take in self.takes if take.num_positions - 1 == place]
        if done:
            count = len(self.takes) - len(done)
            for row, take in enumerate(done, start=count):  # the shortest stand last
                take.keep(self.delayed[row])
            self.takes = self.takes[:count]
            self.delayed, self.noise, self.is_open = self.delayed[:count], self.noise[:count], self.is_open[:count]
            self.passage.keep(count)
        return done


class Cohorts:
    """All cohorts at work, as one batch: an `attending.Attended`.

    Args:
        decoder: frozen.
        quantum: rows are padded to a multiple of this.
    """

    def __init__(self, decoder: MusicDecoder, quantum: int):
        self.decoder, self.quantum = decoder, quantum
        self.cohorts: list[Cohort] = []

    @property
    def num_takes(self) -> int:
        """Takes at work."""
        return sum(len(cohort.takes) for cohort in self.cohorts)

    @property
    def takes(self) -> list[Take]:
        """The takes at work."""
        return [take for cohort in self.cohorts for take in cohort.takes]

    def accepts(self, take: Take) -> bool:
        """Any take can join."""
        return True

    def admit(self, takes: Sequence[Take], memories: Sequence[TakeMemory]) -> None:
        """Start a cohort."""
        self.cohorts.append(Cohort(self.decoder, takes, memories))

    def step(self) -> list[Take]:
        """One position of every take; returns those whose window is complete."""
        self._sizes = [cohort.num_rows for cohort in self.cohorts]
        tokens = torch.cat([cohort.tokens() for cohort in self.cohorts])
        self._padding = -len(tokens) % self.quantum
        if self._padding:
            tokens = torch.cat([tokens, tokens[:1].expand(self._padding, -1, -1)])
        logits = self.decoder(tokens, self)[:, :, 0].float()
        done = []
        for cohort, part in zip(self.cohorts, self._parts(logits), strict=True):
            done += cohort.accept(part)
        self.cohorts = [cohort for cohort in self.cohorts if cohort.takes]
        return done

    def positions(self, length: int, dim: int) -> Tensor:
        """See `Attended`."""
        rows = [
            cohort.passage.positions(length, dim).expand(size, -1, -1)
            for cohort, size in zip(self.cohorts, self._sizes, strict=True)
        ]
        return self._whole(rows)

    def attend_music(self, index: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `Attended`."""
        parts = zip(self.cohorts, self._parts(query), self._parts(keys), self._parts(values), strict=True)
        return self._whole([cohort.passage.attend_music(index, q, k, v) for cohort, q, k, v in parts])

    def attend_text(self, index: int, query: Tensor) -> Tensor:
        """See `Attended`."""
        parts = zip(self.cohorts, self._parts(query), strict=True)
        return self._whole([cohort.passage.attend_text(index, q) for cohort, q in parts])

    def advance(self, length: int) -> None:
        """See `Attended`."""
        for cohort in self.cohorts:
            cohort.passage.advance(length)

    def _parts(self, rows: Tensor) -> Sequence[Tensor]:
        """Each cohort's rows, without the padding."""
        if len(self._sizes) == 1:
            return [rows[: self._sizes[0]] if self._padding else rows]
        return rows[: sum(self._sizes)].split(self._sizes)

    def _whole(self, parts: Sequence[Tensor]) -> Tensor:
        """All rows again, zeros for the padding."""
        rows = parts[0] if len(parts) == 1 else torch.cat(list(parts))
        return F.pad(rows, (0, 0) * (rows.ndim - 1) + (0, self._padding)) if self._padding else rows
