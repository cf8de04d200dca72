"""A take on its way to tokens: its windows, its noise, and the conditions it attends to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from expotion_cli.music.conditioning import FORM, StepStream
from expotion_cli.music.generate.constraints import DRAWN, NO_SOURCE
from expotion_cli.music.generate.sampling import Sampling, cue_noise, draw, guide
from expotion_cli.music.request import CueRequest
from expotion_cli.music.transformer.adapter import JointEmbeddingAdapter, SideStream
from expotion_cli.music.transformer.attention import GuidanceRows, PrefixKeyValues, TextKeyValues
from expotion_cli.music.transformer.decoder import MusicDecoder
from expotion_cli.music.transformer.delay import num_positions, remove_delay
from expotion_cli.music.transformer.prefix import NO_PITCH, encode_prefix
from expotion_cli.music.transformer.text import TextEncoder


class Take:
    """One candidate of a cue being generated, window by window.

    Attributes:
        number: index of the request.
        tokens: [K, S] int64; from step `start + known` on they are still to be drawn.
        start: first step of the current window.
        known: leading steps of the window whose tokens are known from the window before.
        position: the last position of the window that was decoded.
        rows: its rows in a batch.

    Args:
        number: index of the request.
        cue: the request.
        delays: of each of the K codebooks.
        start_token: of the decoder.
        window: most steps in a window.
        overlap: steps that a window hands to the next.
        bucket: gives the length that a prompt's states are padded to.
        melody_frames: positions of the melody before the music; 0 for decoders that attend to the text on its own.
    """

    def __init__(
        self,
        number: int,
        cue: CueRequest,
        delays: Sequence[int],
        start_token: int,
        window: int,
        overlap: int,
        bucket: Callable[[str], int],
        melody_frames: int = 0,
    ):
        self.number, self.cue, self.sampling, self.melody_frames = number, cue, cue.sampling, melody_frames
        self._text_lengths = {text: bucket(text) for text in (*cue.all_prompts, cue.negative_prompt)}
        self.window, self.overlap, self.start_token, self.delays = window, overlap, start_token, delays
        self.tokens = torch.full((len(delays), cue.num_steps), start_token)
        self.start = self.known = self.position = 0
        rows = cue.sampling.rows(cue.has_picture)
        without_picture = sum(not has_picture for _, has_picture in rows) if cue.has_picture else 0
        self.rows = GuidanceRows(len(rows), sum(not has_text for has_text, _ in rows), without_picture)
        self.given = self.source = None
        if cue.constraints is not None:
            self.given = torch.from_numpy(cue.constraints.given.astype(np.int64))
            self.source = torch.from_numpy(cue.constraints.source.astype(np.int64))
            self.source[self.given != DRAWN] = NO_SOURCE
            self._pass_given(to_end=False)

    @property
    def num_codebooks(self) -> int:
        """K."""
        return self.tokens.shape[0]

    @property
    def prompt(self) -> str:
        """The prompt of the current window."""
        return self.cue.prompt_at(self.start + self.known)

    @property
    def has_negative(self) -> bool:
        """Whether its rows without text attend to a negative prompt."""
        return bool(self.cue.negative_prompt and self.rows.without_text)

    @property
    def text_lengths(self) -> tuple[int, int]:
        """Lengths that the states of the window's prompt and of the negative one are padded to."""
        negative = self.cue.negative_prompt if self.has_negative else ""
        return self._text_lengths[self.prompt], self._text_lengths[negative] if negative else 0

    @property
    def prefix_length(self) -> int:
        """Positions that stand before the window's music: the melody and the longer of its two prompts."""
        return self.melody_frames and self.melody_frames + max(self.text_lengths)

    @property
    def longest_text(self) -> int:
        """Most states that any of its prompts is padded to."""
        return max(self._text_lengths.values())

    @property
    def window_steps(self) -> int:
        """Steps of the current window: it ends where another prompt begins."""
        ends = (step for step, _ in self.cue.later_prompts if step > self.start + self.known)
        return min(self.window, next(ends, self.cue.num_steps) - self.start)

    @property
    def num_positions(self) -> int:
        """Positions P of the current window in the delay pattern."""
        return num_positions(self.window_steps, self.delays)

    @property
    def most_positions(self) -> int:
        """Positions of its longest window, with what stands before the music."""
        prefix = self.melody_frames and self.melody_frames + self.longest_text
        return prefix + num_positions(min(self.window, self.cue.num_steps), self.delays)

    @property
    def is_done(self) -> bool:
        """Whether no window is left."""
        return self.start + self.known >= self.cue.num_steps

    @property
    def progress(self) -> int:
        """Steps that are complete, roughly."""
        return self.start + min(self.window_steps, max(self.known, self.position))

    @property
    def row_kind(self) -> tuple:
        """Takes with equal values have the same rows and are sampled alike."""
        given = (self.cue.conditioning is None, self.cue.constraints is None, self.has_negative)
        return (self.sampling, self.rows, *given)

    @property
    def kind(self) -> tuple:
        """Takes with equal values can start together: also the same shapes and the same first position."""
        return (*self.row_kind, self.known, self.text_lengths)

    @cached_property
    def noise(self) -> np.ndarray:
        """[S, K] float64: the uniform numbers this take's tokens are drawn with."""
        return cue_noise(self.cue.seed, self.cue.digest, self.cue.num_steps, self.num_codebooks)

    def delayed_tokens(self, length: int) -> Tensor:
        """The window in the delay pattern, with only what is settled already filled in. [K, length] int64."""
        delayed = torch.full((self.num_codebooks, length), self.start_token)
        settled = self.settled()
        for k, delay in enumerate(self.delays):
            delayed[k, delay + 1 : delay + 1 + len(settled[k])] = settled[k]
        return torch.where(delayed == DRAWN, self.start_token, delayed)

    def settled(self) -> Tensor:
        """The window's tokens that are settled before it is decoded, `DRAWN` elsewhere. [K, W] int64.

        Those are known from the window before, given, or return from a step that is known.
        """
        stop = self.start + self.window_steps
        found = torch.full((self.num_codebooks, self.window_steps), DRAWN)
        if self.given is not None and self.source is not None:
            found = self.given[:, self.start : stop].clone()
            source = self.source[:, self.start : stop]
            earlier = (source != NO_SOURCE) & (source < self.start + self.known)
            found = torch.where(earlier, self.tokens.gather(1, source.clamp(min=0)), found)
        found[:, : self.known] = self.tokens[:, self.start : self.start + self.known]
        return found

    def returning(self, length: int) -> Tensor:
        """Positions in the window whose tokens return, 0 where none does. [K, length] int64."""
        delayed = torch.zeros(self.num_codebooks, length, dtype=torch.int64)
        if self.source is not None:
            source = self.source[:, self.start : self.start + self.window_steps] - self.start
            for k, delay in enumerate(self.delays):
                inside = torch.where(source[k] >= self.known, source[k] + 1 + delay, 0)
                delayed[k, delay + 1 : delay + 1 + len(inside)] = inside
        return delayed

    def masks(self, length: int) -> tuple[Tensor, Tensor]:
        """([K, length] int64 row of each position's mask, [M, V] bool masks); the first row holds all tokens."""
        assert self.cue.constraints is not None
        delayed = torch.zeros(self.num_codebooks, length, dtype=torch.int64)
        part = torch.from_numpy(self.cue.constraints.mask_of[:, self.start : self.start + self.window_steps])
        for k, delay in enumerate(self.delays):
            delayed[k, delay + 1 : delay + 1 + part.shape[1]] = part[k]
        return delayed, torch.from_numpy(self.cue.constraints.masks)

    def delayed_noise(self, length: int) -> Tensor:
        """The window's noise in the delay pattern, 0 where nothing is drawn. [K, length] float64."""
        delayed = torch.zeros(self.num_codebooks, length, dtype=torch.float64)
        part = torch.from_numpy(self.noise[self.start : self.start + self.window_steps])
        for k, delay in enumerate(self.delays):
            delayed[k, delay + 1 : delay + 1 + len(part)] = part[:, k]
        return delayed

    def is_drawn(self, length: int) -> Tensor:
        """At which positions a token is drawn. [K, length] bool.

        The others hold a settled token, or a start token: before the first step, and after the window's last one even
        if the cue goes on there.
        """
        drawn = torch.zeros(self.num_codebooks, length, dtype=torch.bool)
        settled = self.settled()
        for k, delay in enumerate(self.delays):
            drawn[k, delay + 1 : delay + 1 + len(settled[k])] = settled[k] == DRAWN
        return drawn

    def _pass_given(self, *, to_end: bool) -> None:
        """Pass over windows in which nothing is drawn: nothing has to be decoded for them.

        Args:
            to_end: also over the last one, which leaves nothing to decode.
        """
        assert self.given is not None
        drawn = (self.given == DRAWN).any(dim=0)
        while not self.is_done and not drawn[self.start + self.known : self.start + self.window_steps].any():
            stop = self.start + self.window_steps
            if stop == self.cue.num_steps and not to_end:
                return
            self.tokens[:, self.start + self.known : stop] = self.given[:, self.start + self.known : stop]
            self._move_on()

    def finish_window(self, delayed: Tensor) -> None:
        """Store a complete window, [K, at least P] in the delay pattern, and move on to the next one."""
        length, self.position = self.window_steps, 0
        window = remove_delay(delayed, length, self.delays)
        self.tokens[:, self.start : self.start + length] = window.cpu()
        self._move_on()
        if self.given is not None:
            self._pass_given(to_end=True)

    def _move_on(self) -> None:
        """Go on to the next window, if there is one."""
        end = self.start + self.window_steps
        if end < self.cue.num_steps:
            self.start = max(0, end - self.overlap)
        self.known = end - self.start


@dataclass(frozen=True)
class EncodedConditions:
    """The conditions of one or more takes' windows as keys and values.

    Attributes:
        text: of the prompts, one entry a take; or prompts and melodies as a prefix, one entry a row.
        side_stream: of the picture, or None.
        masked: the side stream with the picture masked, if the takes have rows without picture.
    """

    text: TextKeyValues | PrefixKeyValues
    side_stream: SideStream | None
    masked: SideStream | None

    @staticmethod
    def stack(parts: Sequence[EncodedConditions]) -> EncodedConditions:
        """Several takes' conditions as one, entries in this order."""
        if len(parts) == 1:
            return parts[0]
        text = _stack_texts([part.text for part in parts])
        sides, masked = _stack_sides([p.side_stream for p in parts]), _stack_sides([p.masked for p in parts])
        return EncodedConditions(text, sides, masked)


def _stack_texts(parts: Sequence[TextKeyValues | PrefixKeyValues]) -> TextKeyValues | PrefixKeyValues:
    texts = [part for part in parts if isinstance(part, TextKeyValues)]
    if texts:
        return TextKeyValues.stack(texts)
    keys, values = _stack_layers([part.keys for part in parts]), _stack_layers([part.values for part in parts])
    return PrefixKeyValues(keys, values)


def _stack_layers(parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    return [torch.cat(layers) for layers in zip(*parts, strict=True)]


def _stack_sides(parts: Sequence[SideStream | None]) -> SideStream | None:
    present = [part for part in parts if part is not None]
    if not present:
        return None
    assert len(present) == len(parts)
    return SideStream(
        _stack_layers([part.queries for part in present]),
        _stack_layers([part.keys for part in present]),
        _stack_layers([part.values for part in present]),
        present[0].gates,
        present[0].first_layer,
    )


def encode_conditions(
    take: Take, decoder: MusicDecoder, text: TextEncoder, adapter: JointEmbeddingAdapter | None
) -> EncodedConditions:
    """Encode what a take's current window attends to, one take at a time, so that no other can change a bit of it.

    Args:
        take: at the beginning of a window.
        decoder: frozen.
        text: its text encoder.
        adapter: its adapter, or None.
    """
    encoded: TextKeyValues | PrefixKeyValues
    if decoder.config.takes_melody:
        encoded = _encode_prefix(take, decoder, text)
    else:
        states, mask = text.encode(take.prompt)
        encoded = decoder.encode_text(states[None], mask[None])
        if take.has_negative:
            states, mask = text.encode(take.cue.negative_prompt)
            encoded = replace(encoded, negative=decoder.encode_text(states[None], mask[None]))
    if adapter is None or take.cue.conditioning is None:
        return EncodedConditions(encoded, None, None)
    side = masked = None
    if take.rows.without_picture < take.rows.count:
        side = adapter.side_stream(decoder, window_condition(take, adapter, has_picture=True))
    if take.rows.without_picture:
        masked = adapter.side_stream(decoder, window_condition(take, adapter, has_picture=False))
    return EncodedConditions(encoded, side, masked)


def _encode_prefix(take: Take, decoder: MusicDecoder, text: TextEncoder) -> PrefixKeyValues:
    """The prefix of each of a take's rows; those that guidance leads away from have no melody, and no text of the cue.

    In their text's place stands the negative prompt, if there is one.
    """
    count, without, length = take.rows.count, take.rows.without_text, max(take.text_lengths)
    states = torch.zeros(count, length, text.dim, device=decoder.device)
    mask = torch.zeros(count, length, dtype=torch.bool, device=decoder.device)
    pitches = torch.full((count, decoder.config.melody_frames), NO_PITCH, device=decoder.device)
    spans = [(take.prompt, slice(without, count))]
    if take.has_negative:
        spans.append((take.cue.negative_prompt, slice(without)))
    for words, rows in spans:
        found, valid = text.encode(words, is_padded=False)
        states[rows, : len(valid)], mask[rows, : len(valid)] = found, valid
    if take.cue.melody is not None:
        told = take.cue.melody.pitches(take.start / take.cue.timeline.rate_hz)
        pitches[without:] = torch.from_numpy(told.astype(np.int64))
    return encode_prefix(decoder, states, mask, pitches)


def window_condition(take: Take, adapter: JointEmbeddingAdapter, *, has_picture: bool) -> Tensor:
    """The adapter's input for a take's current window.

    Args:
        take: gives the window and the streams. Steps past the cue's end repeat its last row.
        adapter: says which streams it reads.
        has_picture: False masks every stream but the form.

    Returns:
        [1, T_c, D].
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


def draw_next(logits: Tensor, uniform: Tensor, sampling: Sampling, allowed: Tensor | None = None) -> Tensor:
    """Guide and draw one token for each codebook of each cue.

    Args:
        logits: [C, n, K, V] float32, rows as in `Sampling.rows`.
        uniform: [C, K] float64 in [0, 1).
        sampling: the same for all.
        allowed: [C, K, V] bool: the tokens that may be drawn; None for all.

    Returns:
        [C, K] int64.
    """
    guided = guide(logits.transpose(0, 1), sampling)
    if allowed is not None:
        guided = guided.masked_fill(~allowed, -torch.inf)
    return draw(guided.flatten(0, 1), uniform.flatten(), sampling).view(uniform.shape)
