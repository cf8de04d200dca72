"""Five measures of a cue's notes by MusPy's definitions, to hold cues to the training music's own range.

Pitch-class entropy, scale consistency and polyphony are `notes.statistics`'; groove consistency and the empty-beat rate
are defined here as MusPy defines them, with drums among the notes.
"""

from __future__ import annotations

import numpy as np

from expotion_cli.evaluation.notes import statistics
from expotion_cli.music import notes
from expotion_cli.timing import BEATS_PER_BAR, STEPS_PER_BEAT

MEASURES = ("pitch_class_entropy", "scale_consistency", "groove_consistency", "polyphony", "empty_beat_rate")
BAR_STEPS = BEATS_PER_BAR * STEPS_PER_BEAT


def five_measures(tokens: np.ndarray) -> dict[str, float]:
    """The five measures of a piece or cue; NaN where one is not defined.

    Args:
        tokens: [K, S] integers.
    """
    tokens = np.asarray(tokens)
    found = statistics(tokens)
    return {
        "pitch_class_entropy": found["pitch_class_entropy"],
        "scale_consistency": found["scale_consistency"],
        "groove_consistency": groove_consistency(tokens),
        "polyphony": found["polyphony"],
        "empty_beat_rate": empty_beat_rate(tokens),
    }


def groove_consistency(tokens: np.ndarray) -> float:
    """1 less the mean share of steps at which a bar differs from the next in whether anything begins.

    NaN for less than two bars.
    """
    begins = (tokens[1:] >= notes.FIRST_ONSET).any(axis=0)
    bars = -(-len(begins) // BAR_STEPS)
    if bars < 2:
        return float("nan")
    patterns = np.zeros(bars * BAR_STEPS, dtype=bool)
    patterns[: len(begins)] = begins
    patterns = patterns.reshape(bars, BAR_STEPS)
    return float(1 - (patterns[1:] != patterns[:-1]).mean())


def empty_beat_rate(tokens: np.ndarray) -> float:
    """Share of beats during which no note sounds."""
    beats = -(-tokens.shape[1] // STEPS_PER_BEAT)
    empty = np.ones(beats, dtype=bool)
    for name, events in notes.tokens_to_events(tokens).items():
        kind = notes.VOICES[notes.VOICE_INDEX[name]].kind
        for event in events if kind != "dynamics" else ():
            end = event.start + 1 if kind == "drums" else event.end
            empty[event.start // STEPS_PER_BEAT : (end - 1) // STEPS_PER_BEAT + 1] = False
    return float(empty.mean())
