"""Silence and balance: which stretches are silent, and how loud single voices are beside the others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np

BLOCK_S = 0.05
SILENT_DBFS = -60.0


@dataclass(frozen=True)
class Silences:
    """The silent stretches of a sound.

    Attributes:
        share: of the blocks that are silent, 0..1.
        longest_s: length of the longest run of silent blocks.
        tail_s: length of the run at the end; 0 where the sound ends aloud.
    """

    share: float
    longest_s: float
    tail_s: float


def find_silences(audio: np.ndarray, sample_rate: int) -> Silences:
    """Find the silent stretches of a sound, by `silent_blocks`.

    Args:
        audio: [channels, n], n >= 1.
        sample_rate: in Hz.
    """
    silent, duration_s = silent_blocks(audio, sample_rate), audio.shape[1] / sample_rate
    borders = np.flatnonzero(np.diff(np.concatenate([[False], silent, [False]]).astype(np.int8)))
    runs_s = (borders[1::2] - borders[::2]) * BLOCK_S
    longest_s = min(duration_s, float(runs_s.max(initial=0.0)))
    return Silences(float(silent.mean()), longest_s, min(duration_s, float(runs_s[-1])) if silent[-1] else 0.0)


def silent_blocks(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Tell which blocks of 50 ms are silent: below -60 dBFS in every channel.

    Args:
        audio: [channels, n], full scale 1.
        sample_rate: in Hz.

    Returns:
        [B] bool; a last, shorter block counts as one.
    """
    starts = np.arange(0, audio.shape[1], round(BLOCK_S * sample_rate))
    lengths = np.diff(np.append(starts, audio.shape[1]))
    power = np.add.reduceat(audio.astype(np.float64) ** 2, starts, axis=1) / lengths
    return np.asarray((power < 10 ** (SILENT_DBFS / 10)).all(axis=0))


def voice_levels(stems: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """How loud each voice is beside all together: its power while it sounds over the mean power of their sum.

    Args:
        stems: voice → [2, n], as a codec's `decode(..., keep_stems=True)` gives them.

    Returns:
        Voice → dB; None for one that never sounds.
    """
    if not stems:
        return {}
    whole = float((reduce(np.add, stems.values()).astype(np.float64) ** 2).mean())
    levels: dict[str, float | None] = {}
    for name, stem in stems.items():
        power = (stem.astype(np.float64) ** 2).mean(axis=0)
        sounding = power > 10 ** (SILENT_DBFS / 10)
        is_heard = sounding.any() and whole > 0
        levels[name] = round(10 * math.log10(power[sounding].mean() / whole), 1) if is_heard else None
    return levels
