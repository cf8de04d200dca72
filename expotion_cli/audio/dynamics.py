"""Silence, dynamics and balance: what is silent, how far the loudness moves, how loud voices are beside the others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np

from expotion_cli.audio.loudness import ABSOLUTE_GATE_LUFS, integrated_lufs, momentary_lufs
from expotion_cli.audio.loudness import BLOCK_S as MOMENTARY_S

BLOCK_S = 0.05
SILENT_DBFS = -60.0
SPREAD_PERCENTILES = (10, 95)
HOLE_DB = 15.0
DYNAMICS_LEAD_S, DYNAMICS_TAIL_S = 0.2, 1.5


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


@dataclass(frozen=True)
class Dynamics:
    """How far a sound's loudness moves, and whether it falls into holes.

    Attributes:
        spread_db: 95th less 10th percentile of the momentary loudness. Human-composed music: 1.5 to 7.5 dB.
        hole_share: share of the momentary blocks more than `HOLE_DB` under the integrated loudness, 0..1.
    """

    spread_db: float
    hole_share: float


def measure_dynamics(audio: np.ndarray, sample_rate: int) -> Dynamics:
    """Measure spread and holes on the momentary loudness (BS.1770-4: 0.4 s every 0.1 s).

    The first 0.2 s and the last 1.5 s don't count: there, music may fade in and die away.

    Args:
        audio: [channels, n] float32.
        sample_rate: in Hz.

    Returns:
        (NaN, NaN) for sound too short to have a middle, and for silence.
    """
    first, last = round(DYNAMICS_LEAD_S * sample_rate), round(DYNAMICS_TAIL_S * sample_rate)
    middle = audio[:, first : audio.shape[1] - last]
    integrated = integrated_lufs(audio, sample_rate)
    if middle.shape[1] < MOMENTARY_S * sample_rate or not math.isfinite(integrated):
        return Dynamics(math.nan, math.nan)
    blocks = np.maximum(momentary_lufs(middle, sample_rate), ABSOLUTE_GATE_LUFS)
    low, high = np.percentile(blocks, SPREAD_PERCENTILES)
    return Dynamics(float(high - low), float((blocks < integrated - HOLE_DB).mean()))
