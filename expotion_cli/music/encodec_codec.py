"""EnCodec tokens to audio, by transformers' `EncodecModel`: the codec of real MusicGen checkpoints."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from expotion_cli.errors import WeightsError
from expotion_cli.music.codec import Rendering
from expotion_cli.timing import Timeline

if TYPE_CHECKING:
    from transformers import EncodecModel

    from expotion_cli.music.pulse import Tempo


class EncodecCodec:
    """A `Codec` over an EnCodec model.

    Args:
        model: transformers' `EncodecModel`, loaded.
        num_streams: codebooks K the decoder speaks; twice those of one channel for a stereo checkpoint.
        digest: hash of the weights.

    Raises:
        WeightsError: the model has fewer codebooks than the decoder speaks.
    """

    name = "encodec"
    bar_steps = 1
    follows_tempo = False

    def __init__(self, model: EncodecModel, num_streams: int, digest: str):
        config = model.config
        self.model, self.num_streams, self.digest = model, num_streams, digest
        self.sample_rate = config.sampling_rate
        self.vocab_size = config.codebook_size
        self.rate_hz = Fraction(config.sampling_rate, int(np.prod(config.upsampling_ratios)))
        available = len(model.quantizer.layers)
        self.is_stereo = num_streams > available
        if num_streams > 2 * available or (self.is_stereo and num_streams % 2):
            raise WeightsError(f"The decoder speaks {num_streams} codebooks, the EnCodec model has {available}.")

    def timeline(self, duration: Fraction, tempo: Tempo | None) -> Timeline:
        """A grid from 0 at the codec's own rate; the tempo plays no part."""
        return Timeline(duration, self.rate_hz)

    @torch.inference_mode()
    def decode(self, tokens: np.ndarray, timeline: Timeline, voicing: Any = None, *, seed: int = 0) -> Rendering:
        """Tokens [K, S] as audio [2, n]; mono is heard on both sides. Stereo streams alternate left and right."""
        codes = torch.from_numpy(np.ascontiguousarray(tokens)).to(self.model.device)
        sides = [codes[0::2], codes[1::2]] if self.is_stereo else [codes]
        channels = [self.model.decode(side[None, None], [None]).audio_values[0, 0] for side in sides]
        audio = torch.stack(channels).float().cpu().numpy()
        audio = np.repeat(audio, 2, axis=0) if len(audio) == 1 else audio
        wanted = timeline.samples(self.sample_rate)
        if audio.shape[1] < wanted:
            audio = np.pad(audio, ((0, 0), (0, wanted - audio.shape[1])))
        return Rendering(np.ascontiguousarray(audio[:, :wanted], dtype=np.float32), self.sample_rate)
