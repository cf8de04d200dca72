"""What a listener would notice, in numbers: loudness, silences, clipping, onsets, brightness, width, offset."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from expotion_cli.audio.onsets import RATE_HZ, onset_strength, onset_times

BLOCK_S = 0.05
SILENT_DBFS = -60.0
FILE_RATE = 48_000
_SPECTRUM = 4096


@dataclass(frozen=True)
class Heard:
    """What was heard.

    Attributes:
        duration_s: length.
        integrated_lufs: EBU R128; -inf for silence.
        true_peak_dbtp: -inf for silence.
        range_lu: loudness range.
        silent_share: share of 50 ms blocks whose level is below -60 dBFS in every channel.
        longest_silence_s: longest run of such blocks.
        silent_tail_s: such blocks at the end.
        clipped_samples: samples at or beyond full scale, all channels.
        onsets_hz: clear onsets a second.
        centroid_hz: mean frequency, weighted by power; NaN for silence.
        stereo_correlation: Pearson's of left and right (1: mono, 0: unrelated, below: partly out of phase); NaN where
            a channel is silent or there is only one.
        dc_offset: largest mean of a channel, by magnitude; full scale is 1.
    """

    duration_s: float
    integrated_lufs: float
    true_peak_dbtp: float
    range_lu: float
    silent_share: float
    longest_silence_s: float
    silent_tail_s: float
    clipped_samples: int
    onsets_hz: float
    centroid_hz: float
    stereo_correlation: float
    dc_offset: float

    def record(self) -> dict[str, Any]:
        """Plain JSON values, rounded; None for what is infinite or undefined."""
        return {
            key: value if isinstance(value, int) else round(value, 4) if math.isfinite(value) else None
            for key, value in asdict(self).items()
        }


def listen(sound: np.ndarray | str | Path, sample_rate: int | None = None) -> Heard:
    """Listen to samples, or to a file's sound as it plays with its picture.

    Args:
        sound: [n] or [channels, n] float, full scale 1; or a video file.
        sample_rate: of the samples, in Hz; needed for an array.

    Raises:
        ProbeError: the file can't be opened.
        DecodeError: its sound can't be read.
    """
    from expotion_cli.media.loudness import Loudness, measure

    if isinstance(sound, np.ndarray):
        assert sample_rate is not None, "an array needs its sample rate"
        audio = np.atleast_2d(np.asarray(sound, dtype=np.float32))
        stereo = audio if len(audio) == 2 else np.repeat(audio.mean(axis=0, keepdims=True), 2, axis=0)
        loudness = measure(stereo, sample_rate)
    else:
        from expotion_cli.media.probe import probe
        from expotion_cli.media.sound import read_clip_sound

        clip, sample_rate = probe(sound), FILE_RATE
        audio = read_clip_sound(clip, sample_rate)
        loudness = Loudness(-math.inf, -math.inf, 0.0) if clip.audio is None else measure(clip.path)
    silent = silent_blocks(audio, sample_rate)
    borders = np.flatnonzero(np.diff(np.concatenate([[False], silent, [False]]).astype(np.int8)))
    runs = (borders[1::2] - borders[::2]) * BLOCK_S
    duration_s = audio.shape[1] / sample_rate
    return Heard(
        duration_s=duration_s,
        integrated_lufs=loudness.integrated_lufs,
        true_peak_dbtp=loudness.true_peak_dbtp,
        range_lu=loudness.range_lu,
        silent_share=float(silent.mean()),
        longest_silence_s=min(duration_s, float(runs.max(initial=0.0))),
        silent_tail_s=min(duration_s, float(runs[-1])) if silent[-1] else 0.0,
        clipped_samples=int((np.abs(audio) >= 1).sum()),
        onsets_hz=len(onset_times(onset_strength(audio, sample_rate), RATE_HZ)) / duration_s,
        centroid_hz=spectral_centroid(audio, sample_rate),
        stereo_correlation=_stereo_correlation(audio),
        dc_offset=float(np.abs(audio.mean(axis=1, dtype=np.float64)).max()),
    )


def silent_blocks(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """[B] bool: which blocks of 50 ms are silent in every channel; a last, shorter block counts as one.

    Args:
        audio: [channels, n].
        sample_rate: in Hz.
    """
    starts = np.arange(0, audio.shape[1], round(BLOCK_S * sample_rate))
    lengths = np.diff(np.append(starts, audio.shape[1]))
    power = np.add.reduceat(audio.astype(np.float64) ** 2, starts, axis=1) / lengths
    return (power < 10 ** (SILENT_DBFS / 10)).all(axis=0)


def spectral_centroid(audio: np.ndarray, sample_rate: int) -> float:
    """Mean frequency in Hz over the whole sound, weighted by power; NaN for silence.

    Args:
        audio: [channels, n]; channels are averaged.
        sample_rate: in Hz.
    """
    mono = audio.mean(axis=0)
    mono = np.pad(mono, (0, -len(mono) % _SPECTRUM)).reshape(-1, _SPECTRUM)
    shape = np.hanning(_SPECTRUM).astype(np.float32)
    power = np.zeros(_SPECTRUM // 2 + 1)
    for first in range(0, len(mono), 256):
        power += (np.abs(np.fft.rfft(mono[first : first + 256] * shape)) ** 2).sum(axis=0)
    power[0] = 0.0  # an offset is no tone
    total = power.sum()
    return float(np.fft.rfftfreq(_SPECTRUM, 1 / sample_rate) @ power / total) if total > 0 else math.nan


def _stereo_correlation(audio: np.ndarray) -> float:
    if len(audio) != 2:
        return math.nan
    left, right = audio.astype(np.float64) - audio.mean(axis=1, dtype=np.float64, keepdims=True)
    size = math.sqrt(float(left @ left) * float(right @ right))
    return float(left @ right) / size if size > 0 else math.nan


def voice_levels(stems: dict[str, np.ndarray]) -> dict[str, float | None]:
    """How loud each voice is beside all the others, in dB: its power while it sounds over the mean power of their sum.

    Args:
        stems: voice → [2, n], from a codec's `decode(..., keep_stems=True)`.

    Returns:
        Voice → dB; None for one that never sounds.
    """
    if not stems:
        return {}
    whole = float((sum(stems.values()).astype(np.float64) ** 2).mean())
    levels: dict[str, float | None] = {}
    for name, stem in stems.items():
        power = (stem.astype(np.float64) ** 2).mean(axis=0)
        sounding = power > 10 ** (SILENT_DBFS / 10)
        levels[name] = (
            round(10 * math.log10(power[sounding].mean() / whole), 1) if sounding.any() and whole > 0 else None
        )
    return levels
