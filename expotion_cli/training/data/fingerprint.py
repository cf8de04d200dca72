"""Audio fingerprints: find clips that share a recording, whatever their files are called.

A clip's sound becomes a row of 32-bit words, each of which says how the energy differences between neighbouring bands
change at one moment (Haitsma & Kalker 2002). Most bits survive another level, another encoding and some noise. A few
equal words at the same offset make two clips candidates; they share a recording if most bits agree there for long
enough. Tokens without sound are compared in the same way, by runs of their first codebook.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

VERSION = "1"
"""Raised when the same sound or tokens come to give other fingerprints."""
WORDS_HZ = 64
SHARED_S, SHARED_SHARE = 3.0, 0.9
"""Clips share a recording if they agree for this long, or over this share of the shorter clip if that is less."""
_WINDOW_S, _LOWEST_HZ, _HIGHEST_HZ, _BANDS = 0.256, 300.0, 2000.0, 33
_QUIET = 1e-3
_RUN = 8  # steps of tokens that make a word
_COMMON = 200  # words more frequent than this are ignored
_CANDIDATE = 4  # equal words at one offset
_BIT_ERRORS = 0.3  # share of bits that may differ; in unrelated music half of them do


def fingerprint_sound(sound: np.ndarray, sample_rate: int) -> np.ndarray:
    """Fingerprint sound.

    Args:
        sound: [channels, n].
        sample_rate: in Hz, at least 8000.

    Returns:
        [T] uint32 at `WORDS_HZ`; 0 where it is quiet.
    """
    mono = np.atleast_2d(sound).mean(axis=0)
    size = round(_WINDOW_S * sample_rate)
    edges = np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, _BANDS + 1) * size / sample_rate
    low, high = np.floor(edges[:-1]).astype(int), np.ceil(edges[1:]).astype(int)
    window = np.hanning(size).astype(np.float32)
    centres = np.arange(0, max(1, len(mono)), sample_rate / WORDS_HZ).astype(int)
    padded = np.pad(mono.astype(np.float32), size // 2 + 1)
    energies = np.empty((len(centres), _BANDS))
    for first in range(0, len(centres), 512):
        rows = centres[first : first + 512, None] + np.arange(size)
        power = np.abs(np.fft.rfft(padded[rows] * window)) ** 2
        total = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(power, axis=1)], axis=1)
        energies[first : first + len(rows)] = total[:, high] - total[:, low]
    tilt = np.diff(energies, axis=1)
    change = np.diff(tilt, axis=0, prepend=tilt[:1])
    words = ((change > 0).astype(np.uint64) << np.arange(_BANDS - 1, dtype=np.uint64)).sum(axis=1).astype(np.uint32)
    loud = energies.sum(axis=1)
    return np.where(loud > _QUIET * loud.max(), words, 0).astype(np.uint32)


def fingerprint_tokens(tokens: np.ndarray) -> np.ndarray:
    """Fingerprint tokens [K, S] by runs of their first codebook. [T] uint32, one a step."""
    first = np.asarray(tokens[0], dtype=np.uint64)
    if len(first) < _RUN:
        return np.zeros(0, np.uint32)
    runs = np.lib.stride_tricks.sliding_window_view(first, _RUN)
    factors = np.array([0x9E3779B1 * (2 * i + 1) % (1 << 32) for i in range(_RUN)], dtype=np.uint64)
    mixed = (runs * factors).sum(axis=1)
    still = (runs == runs[:, :1]).all(axis=1)  # a repeated token, silence for instance
    return np.where(still, 0, (mixed ^ (mixed >> np.uint64(17))) & np.uint64(0xFFFFFFFF)).astype(np.uint32)


def find_shared_recordings(rows: Sequence[np.ndarray], rate_hz: float = WORDS_HZ) -> list[list[int]]:
    """Find clips that share a recording.

    Args:
        rows: each clip's fingerprint.
        rate_hz: words a second.

    Returns:
        Pairs [a, b] of clip numbers, a < b.
    """
    span = max(8, int(SHARED_S * rate_hz))
    pairs: set[tuple[int, int]] = set()
    for (one, other, step), count in _candidates(rows).items():
        if count >= _CANDIDATE and (one, other) not in pairs and _agree(rows[one], rows[other], step, span):
            pairs.add((one, other))
    return sorted(map(list, pairs))


def _candidates(rows: Sequence[np.ndarray]) -> dict[tuple[int, int, int], int]:
    """(a, b, offset of b against a) → number of equal words at this offset; a < b."""
    owner = np.concatenate([np.full(len(row), number) for number, row in enumerate(rows)] or [np.zeros(0, int)])
    place = np.concatenate([np.arange(len(row)) for row in rows] or [np.zeros(0, int)])
    words = np.concatenate(list(rows) or [np.zeros(0, np.uint32)])
    audible = words != 0
    owner, place, words = owner[audible], place[audible], words[audible]
    order = np.argsort(words, kind="stable")
    owner, place, words = owner[order], place[order], words[order]
    _, counts = np.unique(words, return_counts=True)
    rare = np.repeat(counts <= _COMMON, counts)
    owner, place, words = owner[rare], place[rare], words[rare]
    votes: dict[tuple[int, int, int], int] = {}
    for distance in range(1, _COMMON):
        same = words[distance:] == words[:-distance]
        if not same.any():
            break
        a, b = owner[:-distance][same], owner[distance:][same]
        offset = place[distance:][same] - place[:-distance][same]
        swapped = a > b
        table = np.stack([np.minimum(a, b), np.maximum(a, b), np.where(swapped, -offset, offset)], axis=1)[a != b]
        for key, count in zip(*np.unique(table, axis=0, return_counts=True), strict=True):
            one, other, step = map(int, key)
            votes[one, other, step] = votes.get((one, other, step), 0) + int(count)
    return votes


def _agree(one: np.ndarray, other: np.ndarray, step: int, span: int) -> bool:
    """Whether most bits agree somewhere over `span` words when `other` begins `step` words later."""
    span = max(8, min(span, int(SHARED_SHARE * min(len(one), len(other)))))
    first, last = max(0, -step), min(len(one), len(other) - step)
    if last - first < span:
        return False
    a, b = one[first:last], other[first + step : last + step]
    wrong = np.bitwise_count(a ^ b) / 32.0
    wrong[(a == 0) & (b == 0)] = 0.5  # any silence equals any other
    total = np.concatenate([[0.0], np.cumsum(wrong)])
    return bool(((total[span:] - total[:-span]) / span).min() < _BIT_ERRORS)
