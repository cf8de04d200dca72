"""musicnn, a network that tags music: what it hears in 3 s of a mel spectrogram, as probabilities of 50 tags.

J. Pons and X. Serra, "musicnn: Pre-trained convolutional neural networks for music audio tagging", ISMIR 2019 late
breaking; the architecture is from J. Pons et al., "End-to-end learning for music audio tagging at scale", ISMIR 2018.

The first filters are shaped after music: wide ones over 38 or 67 bands and 7 rows for timbre, wherever it lies in
pitch; long ones of one band and up to 128 rows (2 s) for rhythm. Three layers over time follow. What all of them say is
pooled over time, by maximum and by mean, and classified. This is the network as it is used, not as it is trained: there
is no dropout, and each batch normalisation is a scale and a shift.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from expotion_cli.audio import mel
from expotion_cli.audio.spectrum import power_spectrogram
from expotion_cli.tags import TAGS

SAMPLE_RATE = 16000
SPECTRUM, HOP, BANDS = 512, 256, 96
"""Samples in a spectrum, from one row to the next, and mel bands of a row."""
ROWS = 187
"""In one window: 3 s."""
TIMBRAL_FILTERS, TIMBRAL_BANDS, TIMBRAL_ROWS = 204, (38, 67), 7
TEMPORAL_FILTERS, TEMPORAL_ROWS = 51, (128, 64, 32)
MIDDLE_FILTERS, MIDDLE_ROWS, MIDDLE_LAYERS = 64, 7, 3
WIDTH = 200
"""Of an embedding: the last layer before the tags."""
_FRONT = TIMBRAL_FILTERS * len(TIMBRAL_BANDS) + TEMPORAL_FILTERS * len(TEMPORAL_ROWS)
_POOLED = 2 * (_FRONT + MIDDLE_FILTERS * MIDDLE_LAYERS)


def log_mel(mono: np.ndarray) -> np.ndarray:
    """Mel spectrogram as the network was trained on it.

    Args:
        mono: [n] float32 at `SAMPLE_RATE`.

    Returns:
        [1 + n // HOP, BANDS] float32: log10(1 + 10,000 power). Powers are rounded to half precision, as the training
        data's were.
    """
    padded = np.pad(mono.astype(np.float32, copy=False), SPECTRUM // 2)
    power = power_spectrogram(padded, SPECTRUM, np.arange(0, len(mono) + 1, HOP))
    halved = np.minimum(power @ _bands().T, np.finfo(np.float16).max).astype(np.float16)
    return np.log10(np.float32(10000) * halved.astype(np.float32) + np.float32(1))


@lru_cache(maxsize=1)
def _bands() -> np.ndarray:
    bins_hz = np.fft.rfftfreq(SPECTRUM, 1 / SAMPLE_RATE)
    return mel.slaney_triangles(bins_hz, 0.0, SAMPLE_RATE / 2, BANDS).astype(np.float32)


class ScaleShift(nn.Module):
    """A batch normalisation with its statistics worked in.

    Args:
        width: channels.
    """

    def __init__(self, width: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """[N, width, ...] → the same shape."""
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return x * self.scale.view(shape) + self.shift.view(shape)


class Filters(nn.Module):
    """Filters over a spectrogram, each summed up by its strongest response in any band.

    Args:
        count: of filters.
        rows: in time.
        bands: in pitch.
    """

    def __init__(self, count: int, rows: int, bands: int):
        super().__init__()
        self.conv = nn.Conv2d(1, count, (rows, bands))
        self.norm = ScaleShift(count)
        self._around = (0, 0, (rows - 1) // 2, rows // 2)

    def forward(self, spectrum: Tensor) -> Tensor:
        """[N, 1, T, bands] → [N, count, T]."""
        return self.norm(F.relu(self.conv(F.pad(spectrum, self._around)))).amax(dim=-1)


class Layer(nn.Module):
    """A layer over time.

    Args:
        width_in: channels it takes.
        width: channels it gives.
        rows: of time it spans, an odd number.
    """

    def __init__(self, width_in: int, width: int, rows: int):
        super().__init__()
        self.conv = nn.Conv1d(width_in, width, rows, padding=rows // 2)
        self.norm = ScaleShift(width)

    def forward(self, x: Tensor) -> Tensor:
        """[N, width_in, T] → [N, width, T]."""
        return self.norm(F.relu(self.conv(x)))


class Musicnn(nn.Module):
    """The whole network."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = ScaleShift(1)
        self.timbral = nn.ModuleList(Filters(TIMBRAL_FILTERS, TIMBRAL_ROWS, bands) for bands in TIMBRAL_BANDS)
        self.temporal = nn.ModuleList(Filters(TEMPORAL_FILTERS, rows, 1) for rows in TEMPORAL_ROWS)
        widths = (_FRONT, *[MIDDLE_FILTERS] * (MIDDLE_LAYERS - 1))
        self.middle = nn.ModuleList(Layer(width, MIDDLE_FILTERS, MIDDLE_ROWS) for width in widths)
        self.pooled_norm = ScaleShift(_POOLED)
        self.hidden = nn.Linear(_POOLED, WIDTH)
        self.hidden_norm = ScaleShift(WIDTH)
        self.tags = nn.Linear(WIDTH, len(TAGS))

    def forward(self, spectra: Tensor) -> tuple[Tensor, Tensor]:
        """Tag windows.

        Args:
            spectra: [N, T, BANDS] of `log_mel`, T is `ROWS`.

        Returns:
            [N, 50] probabilities of `TAGS`, and [N, WIDTH] embeddings.
        """
        x = self.norm(spectra[:, None])
        front = torch.cat([filters(x) for filters in (*self.timbral, *self.temporal)], dim=1)
        first, *others = self.middle
        layers = [first(front)]
        for layer in others:
            layers.append(layers[-1] + layer(layers[-1]))
        all_layers = torch.cat([front, *layers], dim=1)
        pooled = torch.cat([all_layers.amax(dim=-1), all_layers.mean(dim=-1)], dim=1)
        embedding = self.hidden_norm(F.relu(self.hidden(self.pooled_norm(pooled))))
        return torch.sigmoid(self.tags(embedding)), embedding
