"""Time maps: how music is slipped and bent a little, so that its accents meet the hit points.

A take of a model of sound is a fixed piece of music, but it need not begin exactly with the picture: anywhere within
half a beat is as good, and a few per cent of tempo go unnoticed. An editor who slips a track and stretches it between
cuts uses both; so does `find_map`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from expotion_cli.audio.beats import TRACK_RATE_HZ, beats_of
from expotion_cli.audio.hits import is_peak
from expotion_cli.audio.onsets import RATE_HZ, onset_strength
from expotion_cli.spotting.hits import HitPoint

_STEP_S = 0.004
_REACH = 1.0
"""Music is never farther from where it was composed than this many beats."""
_BEAT = 0.25
"""What a beat without an accent is worth: an answer that is laid there keeps the pulse."""
_AT_ONCE = 0.1
"""Share of an accent's worth that goes with coming at the very moment."""
_MOVED, _BENT = 0.03, 0.03
"""What it costs to begin half a beat off, and to bend as far as allowed for one second."""
_STRAIGHT_S = 0.006
"""Turns of the map that move nothing by more than this are left out."""


@dataclass(frozen=True)
class Kernel:
    """What an accent is worth to a hit point near it.

    Attributes:
        near_s: distance up to which it is worth all it can be.
        far_s: distance from which it is worth nothing.
        faint: onset strength, in standard deviations above the mean, up to which an onset is no accent.
        clear: from which it is a full one.
    """

    near_s: float
    far_s: float
    faint: float
    clear: float


@dataclass(frozen=True)
class Heard:
    """What is heard of music before it is moved.

    Attributes:
        strength: [T] onset strength, `RATE_HZ` rows a second.
        beats_s: [n] seconds of its beats; none for music without a pulse.
        beat_s: their length; NaN likewise.
        duration_s: of the music.
    """

    strength: np.ndarray
    beats_s: np.ndarray
    beat_s: float
    duration_s: float

    @classmethod
    def of(cls, audio: np.ndarray, sample_rate: int) -> Heard:
        """Listen to music [2, n]."""
        fine = onset_strength(audio, sample_rate, TRACK_RATE_HZ).astype(np.float64)
        beats_s, bpm = beats_of(fine, TRACK_RATE_HZ)
        return cls(onset_strength(audio, sample_rate), beats_s, 60 / bpm, audio.shape[1] / sample_rate)


@dataclass(frozen=True)
class TimeMap:
    """When which part of the music sounds: straight between points.

    Attributes:
        picture_s: [n] seconds on the picture's clock, rising; the first is 0.
        music_s: [n] seconds of the music that sound then.
        beat_s: length of the music's beats.
    """

    picture_s: tuple[float, ...]
    music_s: tuple[float, ...]
    beat_s: float

    @property
    def shift_s(self) -> float:
        """How much later than composed the music begins."""
        return self.picture_s[0] - self.music_s[0]

    @property
    def tempos(self) -> tuple[float, ...]:
        """[n - 1] tempo between the points; 1.02 is 2 % faster than composed."""
        return tuple((np.diff(self.music_s) / np.diff(self.picture_s)).tolist())


def find_map(heard: Heard, hits: Sequence[HitPoint], kernel: Kernel, *, most_bend: float) -> TimeMap | None:
    """The time map that lets the most hit points be met by accents of the music, and of the others most by its beats.

    Dynamic programming over how far the music lies from where it was composed: at most half a beat at the beginning,
    at most a beat anywhere. Heavier hit points count up to twice as much.

    Args:
        heard: of the music.
        hits: to be met, in order of time, all before the music's end.
        kernel: how near which accents should come.
        most_bend: share of its tempo by which the music may be faster or slower anywhere.

    Returns:
        None where there is nothing to meet, no pulse, or nothing to be gained.
    """
    beat_s = heard.beat_s
    if not hits or len(heard.beats_s) < 2:
        return None
    reach = math.floor(_REACH * beat_s / _STEP_S)
    offsets = np.arange(-reach, reach + 1) * _STEP_S
    worth = _worth(heard, kernel)
    moments_s = np.arange(len(worth)) * _STEP_S
    begun = np.abs(offsets) / (beat_s / 2)
    score = np.where(begun <= 1, -_MOVED * begun, -np.inf)
    unmoved, came_from, time_s = 0.0, [], 0.0
    for hit in hits:
        score, place = _after(score, hit.time_s - time_s, most_bend)
        came_from.append(place)
        met = (1 + hit.weight) * np.interp(hit.time_s - offsets, moments_s, worth, left=0, right=0)
        score, unmoved, time_s = score + met, unmoved + float(met[reach]), hit.time_s
    row = int(score.argmax())
    if score[row] <= unmoved + 1e-9:
        return None
    rows = [row]
    for place in reversed(came_from):
        rows.append(int(place[rows[-1]]))
    picture_s = np.array([0.0, *(hit.time_s for hit in hits), heard.duration_s])
    moved_s = offsets[[*reversed(rows), rows[0]]]
    kept = _turns(picture_s, moved_s)
    return TimeMap(tuple(picture_s[kept].tolist()), tuple((picture_s - moved_s)[kept].tolist()), beat_s)


def _after(score: np.ndarray, span_s: float, most_bend: float) -> tuple[np.ndarray, np.ndarray]:
    """(best score of each offset after a span of time, row of the offset that it came from)."""
    reach = min(math.floor(most_bend * span_s / _STEP_S + 1e-9), len(score) - 1)
    padded = np.pad(score, reach, constant_values=-np.inf)
    moves = np.arange(-reach, reach + 1)
    cost = _BENT * np.abs(moves) * _STEP_S / max(most_bend, 1e-9)
    costed = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1) - cost
    best = costed.argmax(axis=1)
    rows = np.arange(len(score))
    return costed[rows, best], rows + best - reach


def _worth(heard: Heard, kernel: Kernel) -> np.ndarray:
    """[n] what each moment of the music is worth to a hit point, one value every `_STEP_S`."""
    strength, beats_s = heard.strength.astype(np.float64), heard.beats_s
    height = (strength - strength.mean()) / max(float(strength.std()), 1e-9)
    value = np.clip((height - kernel.faint) / (kernel.clear - kernel.faint), 0, 1)
    peaks = np.flatnonzero(is_peak(strength) & (value > 0))
    moments_s = np.concatenate([beats_s, peaks / RATE_HZ])
    values = np.concatenate([np.full(len(beats_s), _BEAT), value[peaks]])
    worth = np.zeros(math.ceil(len(strength) / RATE_HZ / _STEP_S) + 1)
    for moment_s, most in zip(moments_s.tolist(), values.tolist(), strict=True):
        first = max(0, math.floor((moment_s - kernel.far_s) / _STEP_S))
        last = min(len(worth), math.ceil((moment_s + kernel.far_s) / _STEP_S) + 1)
        away_s = np.abs(np.arange(first, last) * _STEP_S - moment_s)
        near = np.clip((kernel.far_s - away_s) / (kernel.far_s - kernel.near_s), 0, 1)
        exact = 1 - _AT_ONCE * np.minimum(away_s / kernel.near_s, 1)
        worth[first:last] = np.maximum(worth[first:last], most * near * exact)
    return worth


def _turns(picture_s: np.ndarray, moved_s: np.ndarray) -> np.ndarray:
    """[n] bool: the points to keep; those on an almost straight line between others go (Ramer-Douglas-Peucker)."""
    kept = np.zeros(len(picture_s), dtype=bool)
    kept[[0, -1]] = True
    spans = [(0, len(picture_s) - 1)]
    while spans:
        first, last = spans.pop()
        inside = np.arange(first + 1, last)
        line = np.interp(picture_s[inside], picture_s[[first, last]], moved_s[[first, last]])
        off = np.abs(moved_s[inside] - line)
        if off.max(initial=0.0) > _STRAIGHT_S:
            middle = int(inside[off.argmax()])
            kept[middle] = True
            spans += [(first, middle), (middle, last)]
    return kept
