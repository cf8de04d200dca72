"""One position of every row on a CPU, with as few operations as it takes.

The decoder's layers serve whole sequences, training and CUDA graphs. When a CPU decodes one position of a small decoder
with them, splitting, copying and looking things up takes as long as the products do: each operation costs
microseconds, and there are hundreds a step. Here the same function is computed, to the same bits, on flat rows:
projections are not taken apart, keys and values go into the cache in one copy, and what a text or a cache looks like is
worked out once a cue.

Shapes: C cues, n rows of each cue, R = C * n rows, H heads, M text tokens, d width, d / H a head's width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from expotion_cli.music.transformer.adapter import SideStream, add_side_attention, side_queries
from expotion_cli.music.transformer.attention import GuidanceRows, KVCache, PrefixKeyValues, TextKeyValues
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.decoder import DecoderLayer, MusicDecoder
from expotion_cli.music.transformer.onednn import FusedSelfAttention

_NOTHING = torch.zeros(())

Rows = Callable[[Tensor], Tensor]
"""From flat rows [R, a] to flat rows [R, b]."""


class FlatAttention(Protocol):
    """What the rows of one step attend to."""

    def self_attention_step(self, layer: int, qkv: Tensor) -> Tensor:
        """Attention to the music so far, plus the adapter's term.

        Args:
            layer: index of the layer.
            qkv: [R, 3d] queries, keys and values of the newest position; keys and values are stored.

        Returns:
            [R, d].
        """
        ...

    def cross_attention_step(self, layer: int, query: Tensor) -> Tensor:
        """Attention to the text. [R, d] → [R, d]; valid until the next call."""
        ...


class SingleStep:
    """The layers of a decoder that `onednn.pack` has fused, applied to flat rows.

    Args:
        decoder: frozen; it must not be moved or packed afterwards.
    """

    def __init__(self, decoder: MusicDecoder):
        self._layers = [_FlatLayer.of(layer) for layer in decoder.layers]

    def __call__(self, x: Tensor, attention: FlatAttention) -> Tensor:
        """[R, d] → [R, d], as `DecoderLayer.forward` of all layers computes it; x holds the result afterwards."""
        for index, layer in enumerate(self._layers):
            x += layer.output(attention.self_attention_step(index, layer.qkv(layer.norm(x))))
            if layer.text is not None:
                x += layer.text.output(attention.cross_attention_step(index, layer.text.query(layer.text.norm(x))))
            x += layer.feed_forward(x)
        return x


@dataclass(frozen=True)
class _CrossAttention:
    norm: Rows
    query: Rows
    output: Rows


@dataclass(frozen=True)
class _FlatLayer:
    norm: Rows
    qkv: Rows
    output: Rows
    text: _CrossAttention | None
    feed_forward: Rows

    @staticmethod
    def of(layer: DecoderLayer) -> _FlatLayer:
        own, text = cast("FusedSelfAttention", layer.self_attn), None
        if layer.attends_to_text:
            words = layer.encoder_attn
            text = _CrossAttention(_norm(layer.encoder_attn_layer_norm), words.q_proj.forward, words.out_proj.forward)
        norm = _norm(layer.self_attn_layer_norm)
        return _FlatLayer(norm, own.qkv_proj.forward, own.out_proj.forward, text, _feed_forward(layer))


def _feed_forward(layer: DecoderLayer) -> Rows:
    norm, widen, narrow, activate = (
        _norm(layer.final_layer_norm),
        layer.fc1.forward,
        layer.fc2.forward,
        layer.activation_fn,
    )
    if isinstance(activate, nn.Identity):  # it is within the product
        return lambda x: narrow(widen(norm(x)))
    return lambda x: narrow(activate(widen(norm(x))))


def _norm(module: nn.LayerNorm) -> Rows:
    shape, weight, bias, eps = module.normalized_shape, module.weight, module.bias, module.eps
    return lambda x: torch.layer_norm(x, shape, weight, bias, eps)


class StepContext(LockstepContext):
    """Rows that advance together, and from the first position that is not known on one position at a time.

    Args:
        text: see `LockstepContext`.
        cache: likewise.
        side_stream: likewise.
        masked: likewise.
        rows: likewise.
    """

    cache: KVCache

    def __init__(
        self,
        text: TextKeyValues | PrefixKeyValues,
        *,
        cache: KVCache,
        side_stream: SideStream | None,
        masked: SideStream | None,
        rows: GuidanceRows,
    ):
        super().__init__(text, cache=cache, side_stream=side_stream, masked=masked, rows=rows)
        self._num_rows = cache.buffer.shape[2]
        self._flatten()

    def keep_first(self, count: int) -> None:
        """Drop all but the first `count` cues."""
        super().keep_first(count)
        self._num_rows = count * self.rows.count
        self._flatten()

    def _flatten(self) -> None:
        """Views of the cache and of the text that a step needs: per layer, and with rows and heads as one dimension."""
        buffer = self.cache.buffer[:, :, : self._num_rows]
        self._newest = list(buffer.transpose(1, 2))  # [R, 2, H, P, d/H]
        self._keys = [_flat_keys(layer) for layer in buffer[:, 0]]
        self._values = [layer.flatten(0, 1) for layer in buffer[:, 1]]
        self._words = _FlatWords.of(self.text)
        negative = self.text.negative if self.text is not None and self.rows.without_text else None
        self._negative = _FlatWords.of(negative)
        self._with_text: Tensor | None = None  # [C, n, H, d/H]; the rows without text stay 0

    def self_attention_step(self, layer: int, qkv: Tensor) -> Tensor:
        """See `FlatAttention`."""
        newest, now = self._newest[layer], self.cache.length
        heads, dim = newest.shape[2], qkv.shape[1] // 3
        newest.select(3, now).copy_(qkv[:, dim:].view(-1, 2, heads, newest.shape[4]))
        query = qkv[:, :dim].to(newest.dtype)
        keys, values = self._keys[layer].narrow(2, 0, now + 1), self._values[layer].narrow(1, 0, now + 1)
        own = _attend(query.reshape(keys.shape[0], 1, -1), keys, values).view(-1, dim).to(qkv.dtype)
        if not self.side_streams:
            return own
        start, apart = self.start, (-1, heads, 1, newest.shape[4])
        sides = ((side, side_queries(side, layer, start, 1), first, last) for side, first, last in self.side_streams)
        return add_side_attention(own.view(apart), qkv[:, :dim].view(apart), layer, self.rows, sides).view(-1, dim)

    def cross_attention_step(self, layer: int, query: Tensor) -> Tensor:
        """See `FlatAttention`."""
        words, count, without = self._words, self.rows.count, self.rows.without_text
        assert words is not None
        keys = words.keys[layer]
        apart = query.view(-1, count, words.num_heads, keys.shape[1])
        if self._with_text is None:
            self._with_text = torch.zeros_like(apart)
        # A cue's rows lie side by side, so that they share one product with its text.
        folded = apart.to(keys.dtype).transpose(1, 2)
        self._with_text[:, without:] = _attend_to_words(words, layer, folded)[:, without:]
        if self._negative is not None:
            self._with_text[:, :without] = _attend_to_words(self._negative, layer, folded[:, :, :without])
        return self._with_text.view(query.shape)


@dataclass(frozen=True)
class _FlatWords:
    """A text's keys per layer [C * H, d/H, M], its values [C * H, M, d/H]; -inf where it is hidden [C * H, 1, M]."""

    keys: list[Tensor]
    values: list[Tensor]
    hidden: Tensor | None
    num_heads: int

    @staticmethod
    def of(text: TextKeyValues | None) -> _FlatWords | None:
        if text is None:
            return None
        cues, heads = text.keys[0].shape[:2]
        hidden = None
        if text.mask is not None and not text.mask.all():
            hidden = torch.zeros_like(text.mask, dtype=text.keys[0].dtype).masked_fill_(~text.mask, -torch.inf)
            hidden = hidden.expand(cues, heads, 1, -1).flatten(0, 1)
        keys, values = [_flat_keys(layer) for layer in text.keys], [layer.flatten(0, 1) for layer in text.values]
        return _FlatWords(keys, values, hidden, heads)


def _attend_to_words(words: _FlatWords, layer: int, folded: Tensor) -> Tensor:
    """[C, H, n, d/H] → [C, n, H, d/H]."""
    query = folded.reshape(-1, *folded.shape[2:])
    return _attend(query, words.keys[layer], words.values[layer], words.hidden).view(folded.shape).transpose(1, 2)


def _flat_keys(keys: Tensor) -> Tensor:
    """[C, H, M, d/H] → [C * H, d/H, M]."""
    return keys.flatten(0, 1).transpose(1, 2)


def _attend(query: Tensor, keys: Tensor, values: Tensor, hidden: Tensor | None = None) -> Tensor:
    """`attention.attend` with rows and heads as one, N. [N, n, d/H], [N, d/H, M], [N, M, d/H] → [N, n, d/H]."""
    scale = query.shape[2] ** -0.5
    if math.frexp(scale)[0] == 0.5:  # a power of two: scaled within the product, scores have the same bits
        hidden, beta = (_NOTHING.to(query), 0) if hidden is None else (hidden, 1)
        scores = torch.baddbmm(hidden, query, keys, beta=beta, alpha=scale)
    else:
        scores = torch.bmm(query * scale, keys)
        if hidden is not None:
            scores += hidden
    return torch.bmm(torch.softmax(scores, dim=-1), values)
