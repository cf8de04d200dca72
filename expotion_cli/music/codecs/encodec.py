"""EnCodec tokens to audio, by transformers' `EncodecModel`: the codec of real MusicGen checkpoints.

Cues longer than half a minute are decoded piece by piece, so that memory does not grow with the cue. EnCodec's decoder
is a convolution, an LSTM and more convolutions. Convolutions look a few steps to either side, so pieces are decoded
with that much context. The LSTM's memory has no limit, so its state is handed from piece to piece. There is no seam:
the pieces equal the whole but for the last bits of a float.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from expotion_cli.errors import WeightsError
from expotion_cli.music.codecs.codec import Rating, Rendering, SoundCodec
from expotion_cli.timing import Timeline

if TYPE_CHECKING:
    from transformers import EncodecModel


WHOLE_S = 30
"""Cues up to this length, which MusicGen was trained on, are decoded at once, bit for bit as transformers does."""
PIECE_S = 10
"""Length of a piece."""
CONTEXT_STEPS = 16
"""Steps of context on either side of a piece; the published models' convolutions reach at most 4."""
LOOP_S, LONGEST_LOOP_S, LOOP_SHARE = 4.0, 1.0, 0.9
"""Stuck is what repeats itself, no more than `LONGEST_LOOP_S` later, in this share of the tokens for `LOOP_S`, or for
three quarters of a shorter cue that lasts more than a second."""
FULL_SCALE, CLIPPED_SHARE = 0.999, 0.001
"""More than this share of samples at full scale is a fault."""


class EncodecCodec(SoundCodec):
    """A `Codec` over an EnCodec model.

    Args:
        model: transformers' `EncodecModel`, loaded.
        num_codebooks: codebooks K of the music decoder; in stereo, those of both channels.
        digest: hash of the weights.

    Raises:
        WeightsError: the model has too few codebooks.
    """

    name = "encodec"

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

    def rate(self, tokens: np.ndarray, audio: np.ndarray, timeline: Timeline) -> Rating:
        """Rate a take: by loops among the tokens, and by samples at full scale."""
        return rate_sound(tokens, audio, float(timeline.rate_hz))

    @torch.inference_mode()
    def decode(
        self,
        tokens: np.ndarray,
        timeline: Timeline,
        settings: Any = None,
        *,
        seed: int = 0,
        marks: Any = (),
        keep_stems: bool = False,
    ) -> Rendering:
        """Render a cue; mono goes to both channels.

        Args:
            tokens: [K, S]; in stereo the codebooks of left and right alternate.
            timeline: the cue's grid.
            settings: not used.
            seed: not used.
            marks: not used.
            keep_stems: not used; it has no voices.

        Returns:
            [2, n] float32.
        """
        codes = torch.from_numpy(np.ascontiguousarray(tokens)).to(self.model.device)
        sides = [codes[0::2], codes[1::2]] if self.is_stereo else [codes]
        audio = np.zeros((2, timeline.samples(self.sample_rate)), np.float32)
        for side, channel in zip(sides, audio, strict=False):
            first = 0
            for piece in self._pieces(side):
                target = channel[first : first + len(piece)]
                target[:] = piece[: len(target)]
                first += len(piece)
        if not self.is_stereo:
            audio[1] = audio[0]
        return Rendering(audio, self.sample_rate)

    def _pieces(self, codes: Tensor) -> Iterator[np.ndarray]:
        """Decode one channel. codes [K, S] → consecutive stretches of samples, each [n] float32."""
        config = self.model.config
        # Other kinds normalise over the whole length, or are made of overlapping chunks anyway.
        is_local = config.norm_type == "weight_norm" and config.chunk_length_s is None
        if codes.shape[1] <= WHOLE_S * self.rate_hz or not is_local:
            yield self.model.decode(codes[None, None], [None]).audio_values[0, 0].float().cpu().numpy()
            return
        num_steps, hop = codes.shape[1], int(np.prod(config.upsampling_ratios))
        piece = int(PIECE_S * self.rate_hz)
        state, begin, known = None, 0, 0
        kept: list[Tensor] = []  # the LSTM's output at the steps from `begin` to `known`
        for first in range(0, num_steps, piece):
            last, start = min(first + piece, num_steps), max(0, first - CONTEXT_STEPS)
            ahead = min(last + CONTEXT_STEPS, num_steps)
            if ahead > known:
                fresh, state = self._recurrent_output(codes, known, ahead, state)
                kept.append(fresh)
            kept = [torch.cat(kept, dim=-1)[..., start - begin :]]
            begin, known = start, ahead
            sound = kept[0]
            for layer in self.model.decoder.layers[self._recurrent_place + 1 :]:
                sound = layer(sound)
            yield sound[0, 0, (first - begin) * hop : (last - begin) * hop].float().cpu().numpy()

    def _recurrent_output(self, codes: Tensor, first: int, last: int, state: Any) -> tuple[Tensor, Any]:
        """The LSTM's output at the steps from `first` to `last` [1, C, n], and its state after them."""
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


def rate_sound(tokens: np.ndarray, audio: np.ndarray, rate_hz: float) -> Rating:
    """The faults of composed sound.

    Args:
        tokens: [K, S]; the first row is the coarsest.
        audio: [channels, n] that was decoded from them.
        rate_hz: steps a second.
    """
    clipped = float((np.abs(audio) >= FULL_SCALE).mean()) if audio.size else 0.0
    return Rating(
        (
            *(["stuck in a loop"] if is_looped(tokens[0], rate_hz) else []),
            *([f"{clipped:.1%} of it clipped"] if clipped > CLIPPED_SHARE else []),
        )
    )


def is_looped(row: np.ndarray, rate_hz: float) -> bool:
    """Whether a row of tokens [S] is stuck: the same tokens again and again.

    Args:
        row: the coarsest codebook's tokens.
        rate_hz: steps a second.
    """
    span = min(round(LOOP_S * rate_hz), 3 * len(row) // 4)
    if span < rate_hz:
        return False
    for lag in range(1, min(round(LONGEST_LOOP_S * rate_hz), len(row) - span) + 1):
        again = np.concatenate([[0], np.cumsum(row[lag:] == row[:-lag])])
        if (again[span:] - again[:-span]).max(initial=0) >= LOOP_SHARE * span:
            return True
    return False
