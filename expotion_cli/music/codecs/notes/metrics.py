"""Measures of note tokens: is it in key, how dense, how varied, how much of it is copied.

Definitions follow MusPy's where it has them: scale consistency is the largest share of notes that fit one of the 24
natural major and minor scales; pitch-class entropy is in bits; polyphony counts the pitches that sound at a step;
groove consistency and the empty-beat rate count drums among the notes.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from expotion_cli.music.codecs.notes import muspy
from expotion_cli.music.codecs.notes import tokens as notes
from expotion_cli.timing import BEATS_PER_BAR, STEPS_PER_BEAT

BAR_STEPS = BEATS_PER_BAR * STEPS_PER_BEAT
"""Of 4/4, in which the training music is."""
STUCK_BARS, STUCK_NOTES = 4, 24

_CHORD_TONES = np.array(
    [
        [(root + i) % 12 if i is not None else -1 for i in [*q, None][:4]]
        for root in range(12)
        for q in notes.QUALITIES.values()
    ]
)


def statistics(tokens: np.ndarray) -> dict[str, Any]:
    """Measure a piece.

    Args:
        tokens: [K, S] integers.

    Returns:
        scale_consistency: 0..1 over the notes of the pitched voices and the tones of chords; NaN without notes.
        pitch_class_entropy: bits, of the same tones.
        density: onsets a beat of all voices but the dynamics.
        voice_density: the same, by voice.
        polyphony: mean number of tones sounding at once where any sounds (chord tones counted singly).
        grid: share of onsets (dynamics left out) on "beat", "eighth" (the half beat), "sixteenth", "triplet" and
            "other" steps.
        empty_beat_rate: share of beats without any onset.
        silence_rate: share of steps at which no pitched voice or chord sounds.
    """
    tokens = np.asarray(tokens)
    num_steps = tokens.shape[1]
    beats = num_steps / STEPS_PER_BEAT
    onsets = tokens >= notes.FIRST_ONSET
    dynamics = notes.VOICE_INDEX["dynamics"]
    struck = np.delete(onsets, dynamics, axis=0)
    pitch_classes = np.zeros(12)
    sounding = np.zeros(num_steps)
    for index, voice in enumerate(notes.VOICES):
        if voice.kind not in ("pitched", "chord"):
            continue
        values, tones = _tones(voice, tokens[index][onsets[index]])
        pitch_classes += np.bincount(tones, minlength=12)
        sizes = np.zeros(num_steps)
        sizes[onsets[index]] = values
        sounding += sizes[_last_change(tokens[index])]
    any_sound = sounding > 0
    steps = np.flatnonzero(struck.any(axis=0))
    places = np.repeat(steps, struck.sum(axis=0)[steps]) % STEPS_PER_BEAT
    total = max(len(places), 1)
    share = {
        "beat": np.isin(places, (0,)),
        "eighth": np.isin(places, (6,)),
        "sixteenth": np.isin(places, (3, 9)),
        "triplet": np.isin(places, (4, 8)),
    }
    grid = {name: float(hit.sum() / total) for name, hit in share.items()}
    grid["other"] = 1.0 - sum(grid.values()) if len(places) else 0.0
    whole = int(np.ceil(beats))
    per_beat = np.zeros(whole)
    np.add.at(per_beat, steps // STEPS_PER_BEAT, 1)
    return {
        "scale_consistency": muspy.scale_consistency(pitch_classes),
        "pitch_class_entropy": muspy.entropy_bits(pitch_classes),
        "density": float(struck.sum() / beats),
        "voice_density": {v.name: float(onsets[i].sum() / beats) for i, v in enumerate(notes.VOICES)},
        "polyphony": muspy.polyphony(sounding) if any_sound.any() else 0.0,
        "grid": grid,
        "empty_beat_rate": float((per_beat == 0).mean()),
        "silence_rate": float(1 - any_sound.mean()),
    }


def five_measures(tokens: np.ndarray, bar_steps: int = BAR_STEPS) -> dict[str, float]:
    """The five measures of a piece or cue; NaN where one is not defined.

    Args:
        tokens: [K, S] integers.
        bar_steps: steps in a bar.
    """
    tokens = np.asarray(tokens)
    found = statistics(tokens)
    return {
        "pitch_class_entropy": found["pitch_class_entropy"],
        "scale_consistency": found["scale_consistency"],
        "groove_consistency": groove_consistency(tokens, bar_steps),
        "polyphony": found["polyphony"],
        "empty_beat_rate": empty_beat_rate(tokens),
    }


def groove_consistency(tokens: np.ndarray, bar_steps: int = BAR_STEPS) -> float:
    """MusPy's groove consistency of a piece, drums included; NaN for less than two bars.

    Args:
        tokens: [K, S] integers.
        bar_steps: steps in a bar.
    """
    steps = np.flatnonzero((tokens[1:] >= notes.FIRST_ONSET).any(axis=0))
    return muspy.groove_consistency(steps, np.arange(-(-tokens.shape[1] // bar_steps) + 1) * bar_steps)


def empty_beat_rate(tokens: np.ndarray) -> float:
    """Share of beats during which no note sounds, drums included.

    Args:
        tokens: [K, S] integers.
    """
    spans = []
    for name, events in notes.tokens_to_events(tokens).items():
        kind = notes.VOICES[notes.VOICE_INDEX[name]].kind
        if kind != "dynamics":
            spans += [(event.start, event.start + 1 if kind == "drums" else event.end) for event in events]
    starts, ends = np.array(spans, dtype=int).reshape(-1, 2).T
    return muspy.empty_beat_rate(starts, ends, -(-tokens.shape[1] // STEPS_PER_BEAT), STEPS_PER_BEAT)


def is_stuck(tokens: np.ndarray, bar_steps: int = BAR_STEPS) -> bool:
    """Whether a piece has run into a loop: a bar comes four times in a row to the note, or a voice says one note only.

    Args:
        tokens: [K, S] integers.
        bar_steps: steps in a bar.
    """
    tokens = np.asarray(tokens)
    struck = np.where(tokens[1:] >= notes.FIRST_ONSET, tokens[1:], 0)
    same = 0
    for first in range(bar_steps, tokens.shape[1] - bar_steps + 1, bar_steps):
        before, bar = struck[:, first - bar_steps : first], struck[:, first : first + bar_steps]
        same = same + 1 if bar.any() and np.array_equal(before, bar) else 0
        if same >= STUCK_BARS - 1:
            return True
    events = notes.tokens_to_events(tokens)
    lines = ([event.value for event in events[name]] for name in ("melody", "counter"))
    return any(len(list(run)) >= STUCK_NOTES for line in lines for _, run in itertools.groupby(line))


def excerpt(tokens: np.ndarray, start: int, num_steps: int) -> np.ndarray:
    """A stretch of a piece as a piece of its own: what already sounds where it begins is struck there.

    Statistics of a whole piece and of a short cue can't be compared (the longer, the more pitches occur); those of an
    excerpt and a cue of about the same length can.

    Args:
        tokens: [K, S] integers.
        start: its first step.
        num_steps: its length; less where the piece ends before.

    Returns:
        [K, <= num_steps], a copy.
    """
    found = np.array(tokens[:, start : start + num_steps])
    for index, voice in enumerate(notes.VOICES):
        if voice.kind in ("pitched", "chord"):
            found[index, 0] = tokens[index, _last_change(tokens[index, : start + 1])[start]]
    return found


def _tones(voice: notes.Voice, onsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(number of tones of every onset, pitch classes of all of them)."""
    if voice.kind == "chord":
        chords = _CHORD_TONES[(onsets - notes.FIRST_ONSET) // len(notes.CHORD_VELOCITIES) % len(_CHORD_TONES)]
        return (chords >= 0).sum(axis=1), chords[chords >= 0]
    pitches = (onsets - notes.FIRST_ONSET) // len(notes.VELOCITIES) + voice.base
    return np.ones(len(onsets), int), pitches % 12


def _last_change(row: np.ndarray) -> np.ndarray:
    """[S] for each step the latest step that is not a hold (0 before the first)."""
    return np.maximum.accumulate(np.where(row != notes.HOLD, np.arange(len(row)), 0))
