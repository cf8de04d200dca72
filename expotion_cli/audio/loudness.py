"""How loud a sound is: its level moment by moment, and its loudness by ITU-R BS.1770-4."""

from __future__ import annotations

import math

import numpy as np

from expotion_cli.audio.filters import filtered_parts
from expotion_cli.audio.onsets import RATE_HZ

BLOCK_S, HOP_S = 0.4, 0.1
"""BS.1770-4, annex 1: gating blocks of 400 ms that overlap by 75 %."""
ABSOLUTE_GATE_LUFS, RELATIVE_GATE_LU = -70.0, 10.0


def loudness_curve(audio: np.ndarray, sample_rate: int, rate_hz: float = RATE_HZ) -> np.ndarray:
    """The level of each row's stretch of sound.

    Args:
        audio: [n] or [channels, n], full scale 1; the channels' power is averaged.
        sample_rate: in Hz.
        rate_hz: rows a second.

    Returns:
        [T] float32 dBFS, never below -60; T covers all samples.
    """
    audio = np.atleast_2d(np.asarray(audio, dtype=np.float32))
    num_rows = math.ceil(audio.shape[1] * rate_hz / sample_rate)
    edges = np.rint(np.arange(num_rows + 1) * sample_rate / rate_hz).astype(int)
    edges = np.minimum(edges, audio.shape[1])
    power = np.concatenate([[0.0], np.cumsum((audio.astype(np.float64) ** 2).mean(axis=0))])
    means = np.diff(power[edges]) / np.maximum(np.diff(edges), 1)
    return (10 * np.log10(np.maximum(means, 1e-6))).astype(np.float32)


def k_weighted_power(audio: np.ndarray, sample_rate: int, places: np.ndarray) -> np.ndarray:
    """Power after the K-weighting of BS.1770-4 (annex 1, section 2), at any sample rate, summed up to some places.

    Args:
        audio: [channels, n] float32; all channels have weight 1, as left and right do.
        sample_rate: in Hz.
        places: [m] int, rising: samples up to which to sum; those beyond the end give the whole sum.

    Returns:
        [m] float64.
    """
    # The recommendation's two filters, from the analogue prototypes that its 48 kHz coefficients come from.
    shelf_gain = 10 ** (3.999843853973347 / 20)
    k, q = math.tan(math.pi * 1681.974450955533 / sample_rate), 0.7071752369554196
    vb = shelf_gain**0.4996667741545416
    norm = 1 + k / q + k * k
    middle = 2 * (k * k - 1) / norm
    shelf = (
        (shelf_gain + vb * k / q + k * k) / norm,
        2 * (k * k - shelf_gain) / norm,
        (shelf_gain - vb * k / q + k * k) / norm,
        *(1.0, middle, (1 - k / q + k * k) / norm),
    )
    k, q = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    norm = 1 + k / q + k * k
    # Its numerator is 1, -2, 1 in the recommendation, not divided by `norm` as a high-pass filter's would be.
    low_cut = (1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / norm, (1 - k / q + k * k) / norm)
    sums, first, total = np.zeros(len(places)), 0, 0.0
    for part in filtered_parts(audio, [shelf, low_cut], ring=sample_rate // 5):
        power = (part.astype(np.float64) ** 2).sum(axis=0)
        power[0] += total
        running = np.cumsum(power)
        total, last = float(running[-1]), first + len(running)
        here = slice(*np.searchsorted(places, (first, last), side="right"))
        sums[here] = running[places[here] - first - 1]
        first = last
    sums[places > first] = total
    return sums


def momentary_lufs(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Loudness of blocks of 0.4 s, one every 0.1 s (BS.1770-4, annex 1, equations 2 and 3).

    Args:
        audio: [channels, n] float32; all channels have weight 1, as left and right do.
        sample_rate: in Hz.

    Returns:
        [blocks] float64, at least one; -inf for silence.
    """
    block, hop = round(BLOCK_S * sample_rate), round(HOP_S * sample_rate)
    starts = np.arange(0, max(audio.shape[1], block) - block + 1, hop)
    places, back = np.unique(np.concatenate([starts, starts + block]), return_inverse=True)
    before, after = k_weighted_power(audio, sample_rate, places)[back].reshape(2, -1)
    mean = np.maximum(after - before, 0) / block
    with np.errstate(divide="ignore"):
        return -0.691 + 10 * np.log10(mean)


def integrated_lufs(audio: np.ndarray, sample_rate: int) -> float:
    """Loudness of the whole with both gates (BS.1770-4, annex 1, equations 4 to 7).

    Args:
        audio: [channels, n] float32.
        sample_rate: in Hz.

    Returns:
        LUFS; -inf for silence.
    """
    blocks = momentary_lufs(audio, sample_rate)
    power = 10 ** (blocks[blocks > ABSOLUTE_GATE_LUFS] / 10)
    if not len(power):
        return -math.inf
    loud = power[power > power.mean() * 10 ** (-RELATIVE_GATE_LU / 10)]
    return float(10 * np.log10(loud.mean()))
