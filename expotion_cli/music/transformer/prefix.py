"""What stands before the music in MusicGen Melody: the melody, then the text (arXiv 2306.05284, section 2.3).

The melody is one pitch class for each of its frames, 7.8 a second (`audio/pitch_classes.py`): a row of zeros with a 1
at the strongest of twelve. Both parts are projected to the decoder's width and come before the music's first position,
with positions of their own: a prefix of F melody frames and M text tokens is followed by the music at position F + M.
Its rows are causal like the music's, so their keys and values don't depend on the music and are computed once a window.

The adapter's side stream answers the music alone: the prefix doesn't attend to it, and it is read at the music's own
position, counted without the prefix (`context.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from expotion_cli.music.transformer.attention import PrefixKeyValues, sinusoidal_positions
from expotion_cli.music.transformer.decoder import MusicDecoder

NO_PITCH = 0
"""The pitch class that stands for "no melody": what the model was trained with where it was given none."""


class _Recorder:
    """An `AttentionContext` for whole sequences without text, which keeps all keys and values."""

    def __init__(self, device: torch.device):
        self.device = device
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def positions(self, length: int, dim: int) -> Tensor:
        return sinusoidal_positions(0, length, dim, self.device)[None]

    def self_attention(self, layer: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        self.keys.append(keys)
        self.values.append(values)
        return F.scaled_dot_product_attention(query, keys, values, is_causal=True)

    def cross_attention(self, layer: int, query: Tensor) -> Tensor:
        raise AssertionError("a decoder with a prefix has no cross-attention")

    def advance(self, length: int) -> None:
        pass


def encode_prefix(decoder: MusicDecoder, states: Tensor, mask: Tensor, pitches: Tensor) -> PrefixKeyValues:
    """Keys and values of melody and text in every layer.

    Masked states are zeros and are attended to all the same, as in training. In the unconditional row of
    classifier-free guidance all states are masked and all pitches are `NO_PITCH`.

    Args:
        decoder: one that takes a melody (`DecoderConfig.takes_melody`).
        states: [R, M, text_dim] of the text encoder.
        mask: [R, M] bool.
        pitches: [R, F] int64, the pitch class of each of the melody's `melody_frames`.

    Returns:
        One entry a row, F + M positions, in the cache's dtype.
    """
    text = decoder.enc_to_dec_proj(states.to(decoder.dtype)) * mask[..., None].to(decoder.dtype)
    chroma = F.one_hot(pitches, decoder.config.num_chroma).to(decoder.dtype)
    x = torch.cat([decoder.audio_enc_to_dec_proj(chroma), text], dim=1)
    recorder = _Recorder(decoder.device)
    x = x + recorder.positions(x.shape[1], decoder.config.dim).to(x.dtype)
    for layer in decoder.layers:
        x = layer(x, recorder)
    dtype = decoder.cache_dtype
    return PrefixKeyValues(
        [keys.to(dtype).contiguous() for keys in recorder.keys],
        [values.to(dtype).contiguous() for values in recorder.values],
    )
