"""Synchformer's audio encoder: an Audio Spectrogram Transformer over segments, and a layer that sums each moment up.

V. Iashin et al., "Synchformer: Efficient Synchronization from Sparse Cues", arXiv 2401.16423; the transformer is from
Y. Gong et al., "AST: Audio Spectrogram Transformer", arXiv 2104.01778, with the two tokens of DeiT. Module names follow
the published checkpoints, so that their tensors fit as they are.

A segment is 0.64 s of sound at 16 kHz: 10,240 samples, which give 65 rows of 128 mel bands every 10 ms, and one more of
padding. Patches of 16 by 16, a new one every 10 bands and every 10 rows, make 12 x 6 tokens; two more go before them
(class and distillation). At the end a token of its own gathers the 12 bands of every moment, so a segment gives 6 rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from expotion_cli.audio import mel
from expotion_cli.vision.synchformer_model import Gather, attend

SAMPLE_RATE = 16000
SEGMENT = 10240
"""Samples in a segment, 0.64 s: as long as the picture's 16 at 25 a second."""
WINDOW, HOP, SPECTRUM = 400, 160, 1024
"""Samples in a row of the spectrogram, from one row to the next, and in its Fourier transform."""
FLOOR = 1e-6
MEAN, DEVIATION = -4.2677393, 4.5689974
"""Of log mel spectra, as AST's authors took them over AudioSet."""
EPSILON = 1e-12
_FIRST = 2  # tokens before the patches': class and distillation


@dataclass(frozen=True)
class AudioSizes:
    """Sizes of the encoder, as published by default.

    Attributes:
        width: of tokens and rows, D.
        depth: layers.
        heads: attention heads.
        spread: width of the feed-forward layers in D.
        bands: of the mel spectrogram.
        rows: of a segment's spectrogram.
        patch: bands and rows of a patch.
        step: bands and rows from one patch to the next.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    spread: int = 4
    bands: int = 128
    rows: int = 66
    patch: int = 16
    step: int = 10

    @property
    def moments(self) -> int:
        """Rows that a segment gives: patches along time."""
        return (self.rows - self.patch) // self.step + 1

    @property
    def heights(self) -> int:
        """Tokens of a moment: patches along frequency."""
        return (self.bands - self.patch) // self.step + 1


class AudioEncoder(nn.Module):
    """Segments of sound in, rows out.

    Args:
        sizes: as published by default.
    """

    def __init__(self, sizes: AudioSizes | None = None):
        super().__init__()
        self.sizes = sizes = sizes or AudioSizes()
        self.ast = _SpectrogramTransformer(sizes)
        self.freq_attn_agg = Gather(sizes.width, sizes.heads, sizes.spread)

    def forward(self, spectra: Tensor) -> Tensor:
        """Rows of some segments.

        Args:
            spectra: [B, bands, rows], from `log_mel`.

        Returns:
            [B, moments, D].
        """
        sizes = self.sizes
        tokens = self.ast(spectra)[:, _FIRST:].unflatten(1, (sizes.heights, sizes.moments))
        moments = tokens.transpose(1, 2).flatten(0, 1)  # [B * moments, heights, D]
        return self.freq_attn_agg(moments).view(-1, sizes.moments, sizes.width)


class _SpectrogramTransformer(nn.Module):
    """[B, bands, rows] → [B, 2 + heights * moments, D]; patches stand in order of frequency, then of time."""

    def __init__(self, sizes: AudioSizes):
        super().__init__()
        self.embeddings = _Patches(sizes)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_Layer(sizes) for _ in range(sizes.depth))})
        self.layernorm = nn.LayerNorm(sizes.width, eps=EPSILON)

    def forward(self, spectra: Tensor) -> Tensor:
        tokens = self.embeddings(spectra)
        for layer in cast("nn.ModuleList", self.encoder["layer"]):
            tokens = layer(tokens)
        return self.layernorm(tokens)


class _Patches(nn.Module):
    """A spectrogram as tokens, each with its place added."""

    def __init__(self, sizes: AudioSizes):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, sizes.width))
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, sizes.width))
        places = _FIRST + sizes.heights * sizes.moments
        self.position_embeddings = nn.Parameter(torch.zeros(1, places, sizes.width))
        projection = nn.Conv2d(1, sizes.width, kernel_size=sizes.patch, stride=sizes.step)
        self.patch_embeddings = nn.ModuleDict({"projection": projection})

    def forward(self, spectra: Tensor) -> Tensor:
        patches = self.patch_embeddings["projection"](spectra[:, None]).flatten(2).transpose(1, 2)
        first = (token.expand(len(spectra), -1, -1) for token in (self.cls_token, self.distillation_token))
        return torch.cat([*first, patches], dim=1) + self.position_embeddings


class _Layer(nn.Module):
    """A pre-norm transformer layer, its parts under the names of the published file."""

    def __init__(self, sizes: AudioSizes):
        super().__init__()
        width = sizes.width
        self.layernorm_before = nn.LayerNorm(width, eps=EPSILON)
        parts = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
        self.attention = nn.ModuleDict({"attention": parts, "output": _dense(width, width)})
        self.layernorm_after = nn.LayerNorm(width, eps=EPSILON)
        self.intermediate = _dense(width, sizes.spread * width)
        self.output = _dense(sizes.spread * width, width)
        self._heads = sizes.heads

    def forward(self, tokens: Tensor) -> Tensor:
        seen, parts = self.layernorm_before(tokens), cast("nn.ModuleDict", self.attention["attention"])
        seen = attend(parts["query"](seen), parts["key"](seen), parts["value"](seen), self._heads)
        tokens = tokens + cast("nn.ModuleDict", self.attention["output"])["dense"](seen)
        return tokens + self.output["dense"](F.gelu(self.intermediate["dense"](self.layernorm_after(tokens))))


def _dense(inputs: int, outputs: int) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(inputs, outputs)})


def log_mel(sound: Tensor, sizes: AudioSizes | None = None) -> Tensor:
    """The spectrograms that the encoder was trained on.

    Power spectra of Hann windows of 25 ms every 10 ms, centred, the segment mirrored at its edges; mel bands up to
    8 kHz; natural logarithm; zeros (in the logarithm) up to the number of rows; AST's mean taken off, and divided by
    twice its deviation.

    Args:
        sound: [B, n] float32 at `SAMPLE_RATE`, each row one segment; its level counts.
        sizes: as published by default.

    Returns:
        [B, bands, rows].
    """
    sizes = sizes or AudioSizes()
    shape = torch.hann_window(WINDOW, device=sound.device)
    spectra = torch.stft(sound, SPECTRUM, HOP, WINDOW, shape, center=True, pad_mode="reflect", return_complex=True)
    bands = torch.from_numpy(mel_bands(sizes.bands)).to(sound.device)
    levels = torch.log(bands @ spectra.abs() ** 2 + FLOOR)
    levels = F.pad(levels, (0, max(0, sizes.rows - levels.shape[2])))[:, :, : sizes.rows]
    return (levels - MEAN) / (2 * DEVIATION)


def mel_bands(count: int) -> np.ndarray:
    """[count, bins] float32: the triangles of the mel scale from 0 to 8 kHz."""
    bins_hz = np.fft.rfftfreq(SPECTRUM, 1 / SAMPLE_RATE)
    return mel.triangles(bins_hz, 0.0, SAMPLE_RATE / 2, count).astype(np.float32)
