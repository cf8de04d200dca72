"""Sizes of MusicGen's decoder, and of MusicGen Melody's."""

from __future__ import annotations

from dataclasses import dataclass

from expotion_cli.music.transformer.delay import codebook_delays

LARGEST_SIZE, LARGEST_DEPTH = 1 << 17, 512
"""No model is wider or has more layers: files that state more are refused before anything is built."""


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a decoder (MusicGen, arXiv 2306.05284, section 2.4).

    Attributes:
        dim: width d.
        num_layers: layers L.
        num_heads: attention heads H; a head is d / H wide.
        ffn_dim: width of the feed-forward layer.
        num_codebooks: codebooks K, predicted in parallel.
        vocab_size: tokens V of a codebook; index V is the start token.
        text_dim: width of the text encoder's states.
        channels: 2 where the codebooks of left and right alternate, otherwise 1.
        num_chroma: pitch classes of the melody (MusicGen Melody); 0 for a decoder that takes none.
        melody_frames: positions that the melody takes before the music, whatever its length.
    """

    dim: int
    num_layers: int
    num_heads: int
    ffn_dim: int
    num_codebooks: int
    vocab_size: int
    text_dim: int
    channels: int = 1
    num_chroma: int = 0
    melody_frames: int = 0

    @property
    def takes_melody(self) -> bool:
        """Whether melody and text stand before the music as a prefix; otherwise text is attended to on its own."""
        return self.num_chroma > 0

    @property
    def delays(self) -> tuple[int, ...]:
        """Steps by which each codebook lags behind the first, K numbers."""
        return codebook_delays(self.num_codebooks, self.channels)

    @property
    def start_token(self) -> int:
        """Index of the start token, which also fills the delay pattern's gaps."""
        return self.vocab_size
