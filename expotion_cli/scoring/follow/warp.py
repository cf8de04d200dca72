"""Plays music along a time map: cut where it is quiet, each piece stretched to its tempo, joined in phase.

Signalsmith's library does the stretching (`python_stretch`): pitch stays, and attacks stay attacks. Pieces at their own
tempo are copied.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from expotion_cli.scoring.follow.time_map import TimeMap

_CONTEXT_S = 0.15
"""Music before and after a piece that the stretcher hears as well."""
_FADE_S, _LAG_S = 0.012, 0.006
"""Length of a cross-fade, and how far a piece may move to be in phase there."""
_QUIET_REACH_S, _QUIET_S = 0.06, 0.01
"""How far from its place a cut may lie, and over how long loudness is told there."""
_EDGE_S = 0.01
_SAME_TEMPO = 2e-4
_SEED = 1


@dataclass(frozen=True)
class _Piece:
    """Music from `first` to `last` that sounds in the picture from `start` to `end`, all in samples."""

    start: int
    end: int
    first: float
    last: float

    @property
    def tempo(self) -> float:
        tempo = (self.last - self.first) / (self.end - self.start)
        return 1.0 if abs(tempo - 1) < _SAME_TEMPO else tempo


@lru_cache(maxsize=1)
def can_stretch() -> bool:
    """Whether the stretching library is here. It has no wheels for Linux on ARM, where music is shifted only."""
    return importlib.util.find_spec("python_stretch") is not None


def warp(audio: np.ndarray, sample_rate: int, way: TimeMap) -> np.ndarray:
    """Music [2, n] along a time map, as long as before.

    Where the map asks for music before the first sample or after the last, what is a beat away plays.

    Args:
        audio: [2, n] float32.
        sample_rate: in Hz.
        way: from `time_map.find_map`.
    """
    count = audio.shape[1]
    made = np.zeros_like(audio, dtype=np.float32)
    fade, lag = round(_FADE_S * sample_rate), round(_LAG_S * sample_rate)
    for piece in _pieces(audio, sample_rate, way):
        head = min(fade, piece.start)
        after = min(fade, count - piece.end) + lag
        sound = _played(audio, sample_rate, piece, head + lag if head else 0, after)
        if head:
            there = made[:, piece.start - head : piece.start]
            sound = _in_phase(there, sound, lag)
            sound[:, :head] = _crossed(there, sound[:, :head])
        place = piece.start - head
        made[:, place : place + sound.shape[1]] = sound[:, : count - place]
    if way.music_s[0] > 0:  # it begins in the middle
        edge = min(round(_EDGE_S * sample_rate), count)
        made[:, :edge] *= np.linspace(0, 1, edge, dtype=np.float32)
    return made


def _pieces(audio: np.ndarray, sample_rate: int, way: TimeMap) -> Iterator[_Piece]:
    """The map as pieces without gaps from the first sample to the last, cut at quiet places."""
    count = audio.shape[1]
    picture, music = np.array(way.picture_s) * sample_rate, np.array(way.music_s) * sample_rate
    reach = round(_QUIET_REACH_S * sample_rate)
    shape = np.ones(max(1, round(_QUIET_S * sample_rate)))
    cuts = [(0, float(music[0]))]
    for place, heard in zip(picture[1:-1].tolist(), music[1:-1].tolist(), strict=True):
        low = max(0, round(heard) - reach)
        near = np.convolve((audio[:, low : round(heard) + reach] ** 2).sum(axis=0), shape, "same")
        at = round(place) + (low + int(near.argmin()) - round(heard) if len(near) else 0)
        if cuts[-1][0] + 2 * reach < at < count - 2 * reach:
            cuts.append((at, float(np.interp(at, picture, music))))
    cuts.append((count, float(np.interp(count, picture, music))))
    for (start, first), (end, last) in pairwise(cuts):
        yield from _inside(_Piece(start, end, first, last), count, way.beat_s * sample_rate)


def _inside(piece: _Piece, count: int, beat: float) -> Iterator[_Piece]:
    """The same; what lies outside the music is taken from a beat later or earlier."""
    edges = [piece.first, *(edge for edge in (0.0, float(count)) if piece.first < edge < piece.last), piece.last]
    places = np.rint(np.interp(edges, (piece.first, piece.last), (piece.start, piece.end))).astype(int).tolist()
    for (first, start), (last, end) in pairwise(zip(edges, places, strict=True)):
        move = beat if last <= 0 else -beat if first >= count else 0.0
        if end > start:
            yield _Piece(start, end, first + move, last + move)


def _played(audio: np.ndarray, sample_rate: int, piece: _Piece, before: int, after: int) -> np.ndarray:
    """A piece [2, n], with so many samples more before and after it."""
    tempo, count = piece.tempo, audio.shape[1]
    context = round(_CONTEXT_S * sample_rate)
    first = round(piece.first - before * tempo) - context
    last = round(piece.last + after * tempo) + context
    beside = ((0, 0), (max(0, -first), max(0, last - count)))
    sound = np.pad(audio[:, max(0, first) : max(0, min(last, count))], beside)
    head = (piece.first - first) / tempo - before
    if tempo != 1.0:
        from python_stretch.Signalsmith import Stretch

        stretch = Stretch(_SEED)
        stretch.preset(len(sound), sample_rate)
        stretch.timeFactor = tempo
        sound = np.asarray(stretch.process(np.ascontiguousarray(sound, dtype=np.float32)))
    wanted = before + piece.end - piece.start + after
    return sound[:, round(head) : round(head) + wanted].copy()


def _in_phase(there: np.ndarray, sound: np.ndarray, lag: int) -> np.ndarray:
    """A sound that begins `lag` samples early, from where it is most like what it is faded into, [2, fade]."""
    fade = there.shape[1]
    windows = np.lib.stride_tricks.sliding_window_view(sound[:, : fade + 2 * lag].mean(axis=0), fade)
    alike = windows @ there.mean(axis=0) / np.maximum(np.linalg.norm(windows, axis=1), 1e-9)
    return sound[:, int(alike.argmax()) :] if alike.max() > 0 else sound[:, lag:]


def _crossed(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """One sound faded into another, [2, fade] each, as loud throughout as both are, however alike they are."""
    rise = np.linspace(0, 1, new.shape[1], dtype=np.float32)
    alike = float((old * new).sum()) / max(float(np.sqrt((old**2).sum() * (new**2).sum())), 1e-9)
    power = rise**2 + (1 - rise) ** 2 + 2 * rise * (1 - rise) * max(0.0, alike)
    return np.asarray((old * (1 - rise) + new * rise) / np.sqrt(power))
