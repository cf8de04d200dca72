"""Gain over time: a leveller that evens out the music, intensity as gain, a breath before hit points, a compressor."""

from __future__ import annotations

import math

import numpy as np

from expotion_cli.audio.filters import quick_length
from expotion_cli.audio.loudness import integrated_lufs, k_weighted_power

RATE_HZ = 200.0
HELD, JOINED = "held", "joined"
"""What lies beyond the ends of a sound: the same again, or, in a loop, its other end."""
BRIGHT_HZ = 1800.0
_BLOCK_S = 30
LEVEL_WINDOW_S = 0.8
STEADY_DB = 3.0
"""The leveller leaves deviations within this alone and takes a share off what lies beyond."""
LEVEL_SHARE, MOST_LIFT_DB, MOST_CUT_DB = 0.75, 9.0, 6.0
GAP_DBFS = -60.0
FADE_IN_S, FADE_OUT_S = 0.03, 0.5
"""How music enters and leaves within the picture."""


def loudness_over_time(audio: np.ndarray, sample_rate: int, window_s: float, ends: str = HELD) -> np.ndarray:
    """[T] K-weighted loudness in LUFS at `RATE_HZ`, over a smooth window centred on each row.

    Args:
        audio: [2, n] float32.
        sample_rate: in Hz.
        window_s: full width of the window (Hann).
        ends: see `smoothed`.
    """
    rows = max(1, math.ceil(audio.shape[1] / sample_rate * RATE_HZ))
    edges = np.rint(np.arange(rows + 1) * sample_rate / RATE_HZ).astype(int).clip(0, audio.shape[1])
    mean = np.diff(k_weighted_power(audio, sample_rate, edges)) / np.maximum(np.diff(edges), 1)
    return np.asarray(-0.691 + 10 * np.log10(np.maximum(smoothed(mean, window_s, ends), 1e-12)))


def smoothed(values: np.ndarray, window_s: float, ends: str = HELD) -> np.ndarray:
    """Values at `RATE_HZ` smoothed by a Hann window.

    Args:
        values: [T].
        window_s: width of the window.
        ends: `HELD`, or `JOINED` for those of a loop, whose end is followed by its beginning.
    """
    reach = max(1, round(window_s * RATE_HZ / 2))
    window = np.hanning(2 * reach + 3)[1:-1]
    padded = np.pad(values, reach, mode="edge" if ends == HELD else "wrap")
    size = quick_length(len(padded) + len(window))
    full = np.fft.irfft(np.fft.rfft(padded, size) * np.fft.rfft(window / window.sum(), size), size)
    return full[2 * reach : 2 * reach + len(values)]


def levelling_db(audio: np.ndarray, sample_rate: int, ends: str = HELD) -> np.ndarray:
    """[T] gain in dB at `RATE_HZ` that evens music out slowly: quiet passages up, loud ones down a little.

    Real gaps (below -60 dBFS) are not lifted.

    Args:
        audio: [2, n] float32.
        sample_rate: in Hz.
        ends: see `smoothed`.
    """
    whole = integrated_lufs(audio, sample_rate)
    loudness = loudness_over_time(audio, sample_rate, LEVEL_WINDOW_S, ends)
    if not math.isfinite(whole):
        return np.zeros(len(loudness))
    off = loudness - whole
    beyond = np.sign(off) * np.maximum(np.abs(off) - STEADY_DB, 0)
    gain_db = np.clip(-LEVEL_SHARE * beyond, -MOST_CUT_DB, MOST_LIFT_DB)
    return smoothed(np.where(loudness > GAP_DBFS, gain_db, 0.0), LEVEL_WINDOW_S, ends)


def brighten(audio: np.ndarray, sample_rate: int, gain_db: np.ndarray) -> np.ndarray:
    """Audio [2, n] whose highs above `BRIGHT_HZ` have a gain of their own: softer playing is darker.

    Args:
        audio: [2, n] float32.
        sample_rate: in Hz.
        gain_db: [T] at `RATE_HZ`.
    """
    from scipy.signal import butter, sosfiltfilt

    if sample_rate <= 2.5 * BRIGHT_HZ:
        return audio
    sections = butter(2, BRIGHT_HZ, fs=sample_rate, output="sos")
    block, margin = _BLOCK_S * sample_rate, sample_rate // 4
    lows = np.empty_like(audio)
    for first in range(0, audio.shape[1], block):  # in blocks, so that an hour of sound needs little memory
        head, last = min(first, margin), min(first + block, audio.shape[1])
        part = audio[:, first - head : last + margin]
        filtered = sosfiltfilt(sections, part, axis=1, padlen=min(50, part.shape[1] - 1))
        lows[:, first:last] = filtered[:, head : head + last - first]
    highs = apply_db(audio - lows, gain_db, sample_rate)
    highs += lows
    return highs


def breath_db(times_s: np.ndarray, depths_db: np.ndarray, rows: int, lead_s: float, rise_s: float) -> np.ndarray:
    """[T] gain in dB at `RATE_HZ`: a short dip before each moment, over as it comes.

    Args:
        times_s: [n] seconds.
        depths_db: [n] >= 0.
        rows: T.
        lead_s: how long before the moment the dip is at its depth.
        rise_s: how long it takes to come back.
    """
    at = np.arange(rows) / RATE_HZ
    gain = np.zeros(rows)
    for time_s, depth in zip(times_s, depths_db, strict=True):
        points = time_s + np.array([-lead_s - 0.06, -lead_s, -rise_s, 0.0])
        gain = np.minimum(gain, -depth * np.interp(at, points, [0.0, 1.0, 1.0, 0.0], left=0, right=0))
    return gain


def apply_db(audio: np.ndarray, gain_db: np.ndarray, sample_rate: int) -> np.ndarray:
    """Audio [2, n] with a gain curve at `RATE_HZ`."""
    block, rows = _BLOCK_S * sample_rate, np.arange(len(gain_db))
    made = np.empty_like(audio, dtype=np.float32)
    for first in range(0, audio.shape[1], block):
        last = min(first + block, audio.shape[1])
        places = np.arange(first, last) / sample_rate * RATE_HZ
        made[:, first:last] = audio[:, first:last] * (10 ** (np.interp(places, rows, gain_db) / 20)).astype(np.float32)
    return made


def within(audio: np.ndarray, sample_rate: int, start_s: float, end_s: float | None) -> np.ndarray:
    """Audio [2, n] that is silent before `start_s` and has faded out by `end_s`.

    It enters within 30 ms and leaves within 0.5 s; both are shorter where little lies between.

    Args:
        audio: [2, n] float32.
        sample_rate: in Hz.
        start_s: when it may begin; at 0 nothing is faded in.
        end_s: when it must be silent; None fades nothing out.
    """
    if start_s <= 0 and end_s is None:
        return audio
    length_s = (audio.shape[1] / sample_rate if end_s is None else end_s) - start_s
    block, made = _BLOCK_S * sample_rate, np.empty_like(audio)
    for first in range(0, audio.shape[1], block):
        last = min(first + block, audio.shape[1])
        at, gain = np.arange(first, last) / sample_rate, np.ones(last - first)
        if start_s > 0:
            gain *= np.clip((at - start_s) / min(FADE_IN_S, length_s / 2), 0, 1)
        if end_s is not None:
            gain *= np.clip((end_s - at) / min(FADE_OUT_S, length_s / 2), 0, 1)
        made[:, first:last] = audio[:, first:last] * np.sin(gain * np.pi / 2).astype(np.float32)
    return made


def compress_db(audio: np.ndarray, sample_rate: int, *, ratio: float, above_lu: float, ends: str = HELD) -> np.ndarray:
    """[T] gain in dB of a gentle bus compressor: what is louder than the whole by `above_lu` is turned down.

    Args:
        audio: [2, n] float32.
        sample_rate: in Hz.
        ratio: input over output change above the threshold.
        above_lu: threshold over the integrated loudness.
        ends: see `smoothed`.
    """
    whole = integrated_lufs(audio, sample_rate)
    loudness = loudness_over_time(audio, sample_rate, 0.12, ends)
    if not math.isfinite(whole):
        return np.zeros(len(loudness))
    over = np.maximum(loudness - whole - above_lu, 0)
    return -smoothed(over * (1 - 1 / ratio), 0.06, ends)
