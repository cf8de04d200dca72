"""EnCodec tokens to audio, by transformers' `EncodecModel`: the codec of real MusicGen checkpoints.

What is longer than half a minute is decoded piece by piece, so that memory does not grow with the cue. The decoder is a
convolution, an LSTM and more convolutions. Convolutions look a few steps to either side: pieces are decoded with that
much context. An LSTM remembers without limit, so its state is handed on from piece to piece. Both together leave no
seam: the pieces equal the whole but for the last bits of a float.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from expotion_cli.errors import WeightsError
from expotion_cli.music.codecs.codec import Rendering
from expotion_cli.timing import Timeline

if TYPE_CHECKING:
    from transformers import EncodecModel

    from expotion_cli.timing import Tempo

WHOLE_S = 30
"""Cues up to this length, which MusicGen was trained on, are decoded in one go: bit for bit what transformers makes."""
PIECE_S = 10
CONTEXT_STEPS = 16
"""Steps on either side that the convolutions may see; those of the published models see at most 4."""


class EncodecCodec:
    """A `Codec` over an EnCodec model.

    Args:
        model: transformers' `EncodecModel`, loaded.
        num_codebooks: codebooks K the decoder speaks; twice those of one channel for a stereo checkpoint.
        digest: hash of the weights.

    Raises:
        WeightsError: the model has fewer codebooks than the decoder speaks.
    """

    name = "encodec"
    bar_steps = 1
    follows_tempo = False
    judge = None

    def __init__(self, model: EncodecModel, num_codebooks: int, digest: str):
        config = model.config
        self.model, self.num_codebooks, self.digest = model, num_codebooks, digest
        self.sample_rate = config.sampling_rate
        self.vocab_size = config.codebook_size
        self.rate_hz = Fraction(config.sampling_rate, int(np.prod(config.upsampling_ratios)))
        available = len(model.quantizer.layers)
        self.is_stereo = num_codebooks > available
        if num_codebooks > 2 * available or (self.is_stereo and num_codebooks % 2):
            raise WeightsError(f"The decoder speaks {num_codebooks} codebooks, the EnCodec model has {available}.")

    def timeline(self, duration: Fraction, tempo: Tempo | None) -> Timeline:
        """A grid from 0 at the codec's own rate; the tempo plays no part."""
        return Timeline(duration, self.rate_hz)

    @torch.inference_mode()
    def decode(self, tokens: np.ndarray, timeline: Timeline, voicing: Any = None, *, seed: int = 0) -> Rendering:
        """Tokens [K, S] as audio [2, n]; mono is heard on both sides. Stereo streams alternate left and right."""
        codes = torch.from_numpy(np.ascontiguousarray(tokens)).to(self.model.device)
        sides = [codes[0::2], codes[1::2]] if self.is_stereo else [codes]
        audio = np.zeros((2, timeline.samples(self.sample_rate)), np.float32)
        for side, channel in zip(sides, audio, strict=False):
            first = 0
            for piece in self._pieces(side):
                heard = channel[first : first + len(piece)]
                heard[:] = piece[: len(heard)]
                first += len(piece)
        if not self.is_stereo:
            audio[1] = audio[0]
        return Rendering(audio, self.sample_rate)

    def _pieces(self, codes: Tensor) -> Iterator[np.ndarray]:
        """Decode one channel. codes [K, S] → consecutive stretches of samples, each [n] float32."""
        config = self.model.config
        # Other kinds normalise over the whole length, or are made of overlapping frames anyway.
        is_local = config.norm_type == "weight_norm" and config.chunk_length_s is None
        if codes.shape[1] <= WHOLE_S * self.rate_hz or not is_local:
            yield self.model.decode(codes[None, None], [None]).audio_values[0, 0].float().cpu().numpy()
            return
        num_steps, hop = codes.shape[1], int(np.prod(config.upsampling_ratios))
        piece = int(PIECE_S * self.rate_hz)
        state, begin, known = None, 0, 0
        kept: list[Tensor] = []  # what came out of the LSTM at the steps from `begin` to `known`
        for first in range(0, num_steps, piece):
            last, start = min(first + piece, num_steps), max(0, first - CONTEXT_STEPS)
            ahead = min(last + CONTEXT_STEPS, num_steps)
            if ahead > known:
                fresh, state = self._remember(codes, known, ahead, state)
                kept.append(fresh)
            kept = [torch.cat(kept, dim=-1)[..., start - begin :]]
            begin, known = start, ahead
            sound = kept[0]
            for layer in self.model.decoder.layers[self._recurrent_place + 1 :]:
                sound = layer(sound)
            yield sound[0, 0, (first - begin) * hop : (last - begin) * hop].float().cpu().numpy()

    def _remember(self, codes: Tensor, first: int, last: int, state: Any) -> tuple[Tensor, Any]:
        """(what comes out of the LSTM at the steps from `first` to `last` [1, C, n], its state after them)."""
        low, high = max(0, first - CONTEXT_STEPS), min(codes.shape[1], last + CONTEXT_STEPS)
        layers = self.model.decoder.layers
        hidden = self.model.quantizer.decode(codes[:, None, low:high])
        for layer in layers[: self._recurrent_place]:
            hidden = layer(hidden)
        hidden = hidden[..., first - low : last - low].permute(2, 0, 1)
        found, state = layers[self._recurrent_place].lstm(hidden, state)
        return (found + hidden).permute(1, 2, 0), state

    @property
    def _recurrent_place(self) -> int:
        return next(i for i, layer in enumerate(self.model.decoder.layers) if hasattr(layer, "lstm"))
