"""Sizes of MusicGen's decoder."""

from __future__ import annotations

from dataclasses import dataclass

from expotion_cli.music.transformer.delay import codebook_delays


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a decoder.

    Attributes:
        dim: width d.
        num_layers: layers L.
        num_heads: attention heads H; d / H is a head's width.
        ffn_dim: width of the feed-forward layer.
        num_codebooks: parallel streams K.
        vocab_size: tokens V a stream; index V is the start token.
        text_dim: width of the text encoder's states.
        channels: 2 where the streams of left and right alternate.
    """

    dim: int
    num_layers: int
    num_heads: int
    ffn_dim: int
    num_codebooks: int
    vocab_size: int
    text_dim: int
    channels: int = 1

    @property
    def delays(self) -> tuple[int, ...]:
        """Steps that each stream runs behind the first."""
        return codebook_delays(self.num_codebooks, self.channels)

    @property
    def start_token(self) -> int:
        """Index of the start token, also the filler of the delay pattern."""
        return self.vocab_size
