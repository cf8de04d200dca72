"""The token language of the note codec: eight voices on a beat grid.

At every step (a twelfth of a beat) each voice has one token: `REST` (the voice falls silent), `HOLD` (nothing changes)
or an onset. What an onset encodes depends on the kind of voice; its loudness is one of a few velocity classes.

All pitches are relative to a tonic of C; the key is chosen when the notes are rendered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

REST, HOLD, FIRST_ONSET = 0, 1, 2
VOCAB_SIZE = 194
PITCH_RANGE = 48
VELOCITIES = (44, 68, 92, 116)
"""MIDI velocity of each velocity class of pitched voices and drums."""
CHORD_VELOCITIES = (56, 92)
DYNAMIC_LEVELS = 8
QUALITIES: dict[str, tuple[int, ...]] = {
    "maj": (0, 4, 7),
    "min": (0, 3, 7),
    "dim": (0, 3, 6),
    "sus4": (0, 5, 7),
    "maj7": (0, 4, 7, 11),
    "min7": (0, 3, 7, 10),
    "dom7": (0, 4, 7, 10),
    "hdim7": (0, 3, 6, 10),
}
QUALITY_NAMES = tuple(QUALITIES)


@dataclass(frozen=True)
class Voice:
    """One of the parallel token rows.

    Attributes:
        name: the voice's name, used in recipes.
        kind: "dynamics", "chord", "drums" or "pitched".
        base: lowest MIDI pitch of a pitched voice (tonic C).
        lanes: General-MIDI drum keys, one a lane, of a drum voice.
    """

    name: str
    kind: str
    base: int = 0
    lanes: tuple[int, ...] = ()


VOICES = (
    Voice("dynamics", "dynamics"),
    Voice("harmony", "chord"),
    Voice("drums", "drums", lanes=(36, 38, 45, 48, 49)),  # kick, snare, low tom, high tom, crash
    Voice("percussion", "drums", lanes=(42, 46, 51, 54, 39)),  # closed hat, open hat, ride, tambourine, clap
    Voice("bass", "pitched", base=24),
    Voice("figure", "pitched", base=36),  # arpeggio, riff or inner part
    Voice("melody", "pitched", base=48),
    Voice("counter", "pitched", base=36),
)
NUM_VOICES = len(VOICES)
VOICE_INDEX = {voice.name: index for index, voice in enumerate(VOICES)}


@dataclass(frozen=True)
class Event:
    """One onset of a voice and its duration.

    Attributes:
        start: step of the onset.
        end: step where it stops (the next onset, a rest, or the end of the cue).
        value: pitched: MIDI pitch; chord: root * 8 + quality; drums: bit mask of lanes (1..31); dynamics: level.
        velocity: velocity class (0 where the voice has none).
    """

    start: int
    end: int
    value: int
    velocity: int = 0


def onset_token(voice: Voice, value: int, velocity: int = 0) -> int:
    """The token of an onset.

    Raises:
        ValueError: the value or velocity class lies outside the voice's range.
    """
    classes = {"dynamics": 1, "chord": len(CHORD_VELOCITIES)}.get(voice.kind, len(VELOCITIES))
    offset = {"pitched": voice.base, "drums": 1}.get(voice.kind, 0)
    size = {"dynamics": DYNAMIC_LEVELS, "chord": 12 * len(QUALITIES), "drums": (1 << len(voice.lanes)) - 1}.get(
        voice.kind, PITCH_RANGE
    )
    if not 0 <= value - offset < size or not 0 <= velocity < classes:
        raise ValueError(f"{voice.name}: no token for value {value}, velocity class {velocity}")
    return FIRST_ONSET + (value - offset) * classes + velocity


def read_token(voice: Voice, token: int) -> tuple[int, int] | None:
    """(value, velocity class) of an onset token; None for a rest, a hold or a token the voice does not use."""
    if token < FIRST_ONSET:
        return None
    classes = {"dynamics": 1, "chord": len(CHORD_VELOCITIES)}.get(voice.kind, len(VELOCITIES))
    value, velocity = divmod(token - FIRST_ONSET, classes)
    value += {"pitched": voice.base, "drums": 1}.get(voice.kind, 0)
    try:
        onset_token(voice, value, velocity)
    except ValueError:
        return None
    return value, velocity


def valid_tokens() -> np.ndarray:
    """[K, V] bool: the tokens that are valid for each voice."""
    return np.array([[t in (REST, HOLD) or read_token(v, t) is not None for t in range(VOCAB_SIZE)] for v in VOICES])


def events_to_tokens(events: Mapping[str, Iterable[Event]], num_steps: int) -> np.ndarray:
    """Write events as tokens; later events of a voice cut earlier ones short.

    Args:
        events: by voice name; voices left out rest throughout. The `end` of drum and dynamics events is ignored.
        num_steps: length S.

    Returns:
        [K, S] int64.
    """
    tokens = np.full((NUM_VOICES, num_steps), HOLD, dtype=np.int64)
    for index, voice in enumerate(VOICES):
        row = tokens[index]
        silent_at_start = True
        for event in sorted(events.get(voice.name, ()), key=lambda e: e.start):
            if not 0 <= event.start < num_steps:
                continue
            row[event.start] = onset_token(voice, event.value, event.velocity)
            row[event.start + 1 : event.end] = HOLD
            if voice.kind in ("pitched", "chord") and event.end < num_steps:
                row[event.end] = REST
            silent_at_start &= event.start > 0
        if silent_at_start:
            row[0] = REST
    return tokens


def tokens_to_events(tokens: np.ndarray | Sequence[Sequence[int]]) -> dict[str, list[Event]]:
    """Read tokens back as events, voice by voice. Tokens a voice does not use count as holds.

    Args:
        tokens: [K, S] integers.
    """
    tokens = np.asarray(tokens)
    num_steps = tokens.shape[1]
    events: dict[str, list[Event]] = {}
    for voice, row in zip(VOICES, tokens, strict=True):
        found: list[Event] = []
        open_onset: tuple[int, int, int] | None = None
        for step in np.flatnonzero(row != HOLD):
            onset = read_token(voice, int(row[step]))
            if onset is None and row[step] != REST:
                continue
            if open_onset is not None:
                found.append(Event(open_onset[0], int(step), *open_onset[1:]))
            open_onset = (int(step), *onset) if onset is not None else None
        if open_onset is not None:
            found.append(Event(open_onset[0], num_steps, *open_onset[1:]))
        events[voice.name] = found
    return events


def chord_value(root: int, quality: str) -> int:
    """Value of a chord event: root pitch class (0 = tonic) and quality name."""
    return (root % 12) * len(QUALITIES) + QUALITY_NAMES.index(quality)


def chord_pitches(value: int) -> tuple[int, tuple[int, ...]]:
    """(root pitch class, intervals above it) of a chord value."""
    root, quality = divmod(value, len(QUALITIES))
    return root, QUALITIES[QUALITY_NAMES[quality]]
