"""A cue on its way to tokens: its windows, its noise, and what it attends to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from expotion_cli.music.conditioning import FORM, StepStream
from expotion_cli.music.generate.sampling import Sampling, cue_noise, draw, guide
from expotion_cli.music.request import CueRequest
from expotion_cli.music.transformer.adapter import JointEmbeddingAdapter
from expotion_cli.music.transformer.attention import CueRows, Memory, VisualMemory
from expotion_cli.music.transformer.decoder import MusicDecoder
from expotion_cli.music.transformer.delay import num_positions, remove_delay
from expotion_cli.music.transformer.text import TextEncoder


class Take:
    """One cue being generated, window by window.

    Attributes:
        number: the cue's place among the requests.
        tokens: [K, S] int64; steps from `start + known` on are not known yet.
        start: first step of the present window.
        known: steps of the window that are given.
        place: the last position of the window that was decoded.

    Args:
        number: see above.
        cue: what to generate.
        delays: steps that each of the K streams runs behind the first.
        start_token: of the decoder.
        window: steps a window holds at most.
        overlap: steps that a window hands to the next.
        text_length: length the prompt's states are padded to.
    """

    def __init__(
        self,
        number: int,
        cue: CueRequest,
        delays: Sequence[int],
        start_token: int,
        window: int,
        overlap: int,
        text_length: int,
    ):
        self.number, self.cue, self.sampling, self.text_length = number, cue, cue.sampling, text_length
        self.window, self.overlap, self.start_token, self.delays = window, overlap, start_token, delays
        self.tokens = torch.full((len(delays), cue.num_steps), start_token)
        self.start = self.known = self.place = 0
        kinds = cue.sampling.rows(cue.is_seeing)
        blind = sum(not has_picture for _, has_picture in kinds) if cue.is_seeing else 0
        self.rows = CueRows(len(kinds), sum(not has_text for has_text, _ in kinds), blind)

    @property
    def num_codebooks(self) -> int:
        """K."""
        return self.tokens.shape[0]

    @property
    def window_steps(self) -> int:
        """Steps of the present window."""
        return min(self.window, self.cue.num_steps - self.start)

    @property
    def num_positions(self) -> int:
        """Positions of the present window in the delay pattern."""
        return num_positions(self.window_steps, self.delays)

    @property
    def is_done(self) -> bool:
        """No window is left."""
        return self.start + self.known >= self.cue.num_steps

    @property
    def progress(self) -> int:
        """Steps that are complete, near enough."""
        return self.start + min(self.window_steps, max(self.known, self.place))

    @property
    def row_kind(self) -> tuple:
        """Takes of one such kind have the same rows and are drawn alike."""
        return (self.sampling, self.rows, self.cue.conditioning is None)

    @property
    def kind(self) -> tuple:
        """Takes of one kind can share a cohort: also the same shapes and the same position to begin at."""
        return (*self.row_kind, self.known, self.text_length)

    @cached_property
    def noise(self) -> np.ndarray:
        """[S, K] float64: the uniform numbers this cue is drawn with."""
        return cue_noise(self.cue.seed, self.cue.digest, self.cue.num_steps, self.num_codebooks)

    def laid_out(self, places: int) -> Tensor:
        """The window in the delay pattern, only what is known filled in. [K, places] int64."""
        delayed = torch.full((self.num_codebooks, places), self.start_token)
        for k, delay in enumerate(self.delays):
            delayed[k, delay + 1 : delay + 1 + self.known] = self.tokens[k, self.start : self.start + self.known]
        return delayed

    def noise_rows(self, places: int) -> Tensor:
        """The window's noise in the delay pattern, 0 where nothing is drawn. [K, places] float64."""
        delayed = torch.zeros(self.num_codebooks, places, dtype=torch.float64)
        part = torch.from_numpy(self.noise[self.start : self.start + self.window_steps])
        for k, delay in enumerate(self.delays):
            delayed[k, delay + 1 : delay + 1 + len(part)] = part[:, k]
        return delayed

    def open_places(self, places: int) -> Tensor:
        """Where a token is drawn. [K, places] bool.

        Elsewhere stands what was given, or a start token: in front of the first step and behind the window's last,
        though the cue may go on there.
        """
        steps = torch.arange(places)[None] - 1 - torch.tensor(self.delays)[:, None]
        return (steps >= self.known) & (steps < self.window_steps)

    def keep(self, delayed: Tensor) -> None:
        """Take over a complete window, in the delay pattern [K, places], and go on to the next one."""
        length, self.place = self.window_steps, 0
        window = remove_delay(delayed, length, self.delays)
        self.tokens[:, self.start : self.start + length] = window.cpu()
        if self.start + length >= self.cue.num_steps:
            self.known = length
        else:
            self.start += self.window - self.overlap
            self.known = self.overlap


@dataclass(frozen=True)
class TakeMemory:
    """What one or more takes attend to besides their music.

    Attributes:
        text: keys and values of the prompts; deaf rows have none.
        visual: the picture, or None.
        unseen: the picture of rows that see nothing, where a cue has such rows.
    """

    text: Memory
    visual: VisualMemory | None
    unseen: VisualMemory | None

    @staticmethod
    def stack(parts: Sequence[TakeMemory]) -> TakeMemory:
        """Several takes' memories as one, entries in this order."""
        if len(parts) == 1:
            return parts[0]
        masks = [part.text.mask for part in parts]
        text = Memory(
            _stack_layers([part.text.keys for part in parts]),
            _stack_layers([part.text.values for part in parts]),
            None if masks[0] is None else torch.cat([mask for mask in masks if mask is not None]),
        )
        return TakeMemory(text, _stack_visual([p.visual for p in parts]), _stack_visual([p.unseen for p in parts]))


def _stack_layers(parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    return [torch.cat(layers) for layers in zip(*parts, strict=True)]


def _stack_visual(parts: Sequence[VisualMemory | None]) -> VisualMemory | None:
    present = [part for part in parts if part is not None]
    if not present:
        return None
    assert len(present) == len(parts)
    columns = (_stack_layers([getattr(p, name) for p in present]) for name in ("queries", "keys", "values"))
    return VisualMemory(*columns, present[0].gates, present[0].first_layer)


def remember(take: Take, decoder: MusicDecoder, text: TextEncoder, adapter: JointEmbeddingAdapter | None) -> TakeMemory:
    """What a take's present window attends to, computed for it alone so that neighbours can't touch a bit of it."""
    state, mask = text.encode(take.cue.prompt)
    heard = decoder.remember_text(state[None], mask[None])
    if adapter is None or take.cue.conditioning is None:
        return TakeMemory(heard, None, None)
    visual = unseen = None
    if take.rows.blind < take.rows.count:
        visual = adapter.remember(decoder, condition_rows(take, adapter, has_picture=True))
    if take.rows.blind:
        unseen = adapter.remember(decoder, condition_rows(take, adapter, has_picture=False))
    return TakeMemory(heard, visual, unseen)


def condition_rows(take: Take, adapter: JointEmbeddingAdapter, *, has_picture: bool) -> Tensor:
    """The condition of a take's present window. [1, T_c, D].

    Steps past the cue's end take its last row; without the picture only the form is known.
    """
    rows = np.arange(take.start, take.start + adapter.config.window_steps + 1)
    values: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    for spec in adapter.config.streams:
        stream = (take.cue.conditioning or {}).get(spec.name)
        if stream is None:
            stream = StepStream(np.zeros((1, len(spec.dims)), np.float32), np.zeros(1, dtype=bool))
        held = np.minimum(rows, len(stream.mask) - 1)
        device = adapter.gates.device
        values[spec.name] = torch.from_numpy(stream.values[held])[None].to(device)
        masks[spec.name] = torch.from_numpy(stream.mask[held] & (has_picture or spec.name == FORM))[None].to(device)
    return adapter.join_streams(values, masks)


def draw_next(logits: Tensor, uniform: Tensor, sampling: Sampling) -> Tensor:
    """Guide and draw. logits [C, n, K, V] float32, uniform [C, K] float64 → [C, K] int64."""
    guided = guide(logits.transpose(0, 1), sampling)
    return draw(guided.flatten(0, 1), uniform.flatten(), sampling).view(uniform.shape)
