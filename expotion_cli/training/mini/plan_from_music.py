"""What a cue plan would have said of a piece: its intensity bar by bar, its hit points and where sections begin.

It reads tokens alone, so it works for any piece, composed by rule or by people.
"""

from __future__ import annotations

import numpy as np

from expotion_cli.music.codecs.notes.tokens import (
    CHORD_VELOCITIES,
    DYNAMIC_LEVELS,
    FIRST_ONSET,
    REST,
    VELOCITIES,
    VOICE_INDEX,
    VOICES,
)
from expotion_cli.music.plan_stream import StepPlan
from expotion_cli.timing import BEATS_PER_BAR, STEPS_PER_BEAT

BAR = STEPS_PER_BEAT * BEATS_PER_BAR
_LEAST_SPREAD = 0.9
"""Spread of loudness that counts as the whole range of intensity; less contrast stays nearer to the middle."""
_LEAST_HIT, _CRASH_BIT = 1.3, 16
_GAP_STEPS, _NEARBY_STEPS = 9, 2 * BAR
_SECTION_BARS, _LEAST_NOVELTY, _SECTION_GAP = 4, 0.33, 4


def plan_of(tokens: np.ndarray, tempo_bpm: float) -> StepPlan:
    """The plan that a piece would have followed.

    Args:
        tokens: [K, S].
        tempo_bpm: in beats a minute; hit points lie about a second apart at least.
    """
    tokens = np.asarray(tokens, dtype=np.int64)
    struck = onset_weights(tokens)
    return StepPlan(bar_intensity(tokens, struck), hit_points(tokens, struck, tempo_bpm), section_starts(tokens))


def onset_weights(tokens: np.ndarray) -> np.ndarray:
    """How strongly each voice but the dynamics strikes at each step, 0..about 2. [K, S] → [K - 1, S]."""
    result = np.zeros((len(VOICES) - 1, tokens.shape[1]))
    for k, voice in enumerate(VOICES[1:], start=1):
        row = tokens[k]
        steps = np.flatnonzero(row >= FIRST_ONSET)
        values = row[steps] - FIRST_ONSET
        if voice.kind == "chord":
            result[k - 1, steps] = 0.9 * np.array(CHORD_VELOCITIES)[values % len(CHORD_VELOCITIES)] / 127
            continue
        weights = np.array(VELOCITIES)[values % len(VELOCITIES)] / 127
        if voice.kind == "drums":
            masks = values // len(VELOCITIES) + 1
            many = np.array([int(mask).bit_count() for mask in masks])
            weights = weights * np.sqrt(many) * (1.0 if voice.name == "drums" else 0.5)
            if voice.name == "drums":
                weights = weights + 0.9 * (masks & _CRASH_BIT > 0)
        result[k - 1, steps] = weights
    return result


def bar_intensity(tokens: np.ndarray, struck: np.ndarray) -> np.ndarray:
    """[B] 0..1: density, force and number of voices of each bar, smoothed a little and scaled within the piece."""
    num_bars = -(-tokens.shape[1] // BAR)
    padded = np.pad(struck, ((0, 0), (0, num_bars * BAR - struck.shape[1])))
    by_bar = padded.reshape(len(struck), num_bars, BAR)
    density = np.sqrt(by_bar.sum(axis=(0, 2)))
    counts = np.maximum((by_bar > 0).sum(axis=(0, 2)), 1)
    force = by_bar.sum(axis=(0, 2)) / counts
    voices = (by_bar.sum(axis=2) > 0).sum(axis=0)
    level = _bar_levels(tokens[VOICE_INDEX["dynamics"]], num_bars)
    raw = 0.45 * density + 1.2 * force + 0.16 * voices + 0.16 * level
    if num_bars > 2:
        edged = np.pad(raw, 1, mode="edge")
        raw = 0.15 * edged[:-2] + 0.7 * edged[1:-1] + 0.15 * edged[2:]
    body = raw[:-1] if num_bars > 4 else raw  # the last bar of a piece only rings out
    low, high = np.percentile(body, (5, 95))
    scaled = (raw - low) / max(high - low, 1e-6)
    contrast = min(1.0, (high - low) / _LEAST_SPREAD)
    return np.clip(0.5 + 0.8 * contrast * (scaled - 0.5), 0, 1)


def _bar_levels(row: np.ndarray, num_bars: int) -> np.ndarray:
    """[B] mean level of the dynamics, 0..7."""
    levels = np.full(num_bars * BAR, (DYNAMIC_LEVELS - 1) / 2)
    for step in np.flatnonzero(row >= FIRST_ONSET):
        levels[step:] = row[step] - FIRST_ONSET
    return levels.reshape(num_bars, BAR).mean(axis=1)


def hit_points(tokens: np.ndarray, struck: np.ndarray, tempo_bpm: float) -> tuple[tuple[int, float], ...]:
    """(step, weight) where many voices strike strongly together, above all after a gap or with a new chord.

    Few: only what stands out from the two bars around, at least about a second apart.
    """
    total = struck.sum(axis=0)
    size = len(total)
    together = (struck > 0).sum(axis=0)
    sums = np.concatenate([[0.0], np.cumsum(total)])
    lasts = np.maximum(np.arange(size) - _GAP_STEPS, 0)
    since = (sums[np.arange(size)] - sums[lasts]) / _GAP_STEPS
    nearby = np.convolve(total, np.ones(_NEARBY_STEPS) / _NEARBY_STEPS, mode="same")
    after_gap = np.clip(1 - since / np.maximum(nearby, 1e-6), 0, 1) * (np.arange(size) > 0)
    chord = struck[VOICE_INDEX["harmony"] - 1] > 0
    score = total + 0.25 * together + 0.6 * after_gap * (total > 0) + 0.4 * chord
    sounding = np.flatnonzero(total > 0)
    if not len(sounding):
        return ()
    excess = score[sounding] - _usual(score, total)[sounding // BAR]
    least_gap = max(6, round(0.9 * tempo_bpm / 60 * STEPS_PER_BEAT))
    order = np.argsort(-excess, kind="stable")
    chosen: list[tuple[int, float]] = []
    for index in order:
        if excess[index] < _LEAST_HIT or len(chosen) > size:
            break
        step = int(sounding[index])
        if all(abs(step - other) >= least_gap for other, _ in chosen):
            chosen.append((step, float(np.clip(0.35 + 0.2 * (excess[index] - _LEAST_HIT), 0, 1))))
    return tuple(sorted(chosen))


def _usual(score: np.ndarray, total: np.ndarray) -> np.ndarray:
    """[B] what a rather strong onset scores in each bar and its two neighbours."""
    usual = np.zeros(-(-len(score) // BAR))
    for bar in range(len(usual)):
        around = slice(max(0, bar - 1) * BAR, (bar + 2) * BAR)
        found = score[around][total[around] > 0]
        usual[bar] = np.percentile(found, 70) if len(found) else 0.0
    return usual


def section_starts(tokens: np.ndarray) -> tuple[int, ...]:
    """Steps of bars from which on the music differs from the four bars before: who plays, how densely, which drums."""
    num_bars = tokens.shape[1] // BAR
    if not num_bars:
        return (0,)
    bars = tokens[1:, : num_bars * BAR].reshape(len(VOICES) - 1, num_bars, BAR)
    onsets = (bars >= FIRST_ONSET).sum(axis=2).T / np.array([2, 12, 16, 8, 12, 8, 8])
    silent = ((bars == REST).any(axis=2) & ~(bars >= FIRST_ONSET).any(axis=2)).T * 0.5
    places = (bars >= FIRST_ONSET).any(axis=0).reshape(num_bars, 16, 3).any(axis=2) * 0.25
    features = np.concatenate([np.minimum(onsets, 2), silent, places], axis=1)
    novelty = np.zeros(num_bars)
    for bar in range(2, num_bars - 1):
        before = features[max(0, bar - _SECTION_BARS) : bar].mean(axis=0)
        after = features[bar : bar + _SECTION_BARS].mean(axis=0)
        novelty[bar] = np.linalg.norm(after - before) / (np.linalg.norm(after) + np.linalg.norm(before) + 1e-6)
        novelty[bar] *= 1.0 if bar % 4 == 0 else 0.85
    starts = [0]
    for bar in np.argsort(-novelty, kind="stable"):
        if novelty[bar] < _LEAST_NOVELTY:
            break
        if all(abs(int(bar) - other) >= _SECTION_GAP for other in starts):
            starts.append(int(bar))
    return tuple(BAR * bar for bar in sorted(starts))
