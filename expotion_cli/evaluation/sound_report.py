"""The technical state of a sound in numbers: loudness, silences, clipping, onsets, brightness, width, offset."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from expotion_cli.audio.dynamics import find_silences
from expotion_cli.audio.onsets import RATE_HZ, onset_strength, onset_times
from expotion_cli.audio.spectrum import spectral_centroid

FILE_RATE = 48_000


@dataclass(frozen=True)
class SoundReport:
    """Measures of one sound.

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


def measure_sound(sound: np.ndarray | str | Path, sample_rate: int | None = None) -> SoundReport:
    """Measure samples, or a video's sound as it plays with its picture.

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
    silences = find_silences(audio, sample_rate)
    duration_s = audio.shape[1] / sample_rate
    return SoundReport(
        duration_s=duration_s,
        integrated_lufs=loudness.integrated_lufs,
        true_peak_dbtp=loudness.true_peak_dbtp,
        range_lu=loudness.range_lu,
        silent_share=silences.share,
        longest_silence_s=silences.longest_s,
        silent_tail_s=silences.tail_s,
        clipped_samples=int((np.abs(audio) >= 1).sum()),
        onsets_hz=len(onset_times(onset_strength(audio, sample_rate), RATE_HZ)) / duration_s,
        centroid_hz=spectral_centroid(audio, sample_rate),
        stereo_correlation=_stereo_correlation(audio),
        dc_offset=float(np.abs(audio.mean(axis=1, dtype=np.float64)).max()),
    )


def _stereo_correlation(audio: np.ndarray) -> float:
    if len(audio) != 2:
        return math.nan
    left, right = audio.astype(np.float64) - audio.mean(axis=1, dtype=np.float64, keepdims=True)
    size = math.sqrt(float(left @ left) * float(right @ right))
    return float(left @ right) / size if size > 0 else math.nan
