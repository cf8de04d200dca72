"""The sheet a piece is written on: chords, gesture and events of all voices, and the rules that thin by energy."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import numpy as np

from expotion_cli.music.codecs.notes import tokens as notes
from expotion_cli.training.mini.corpus.gesture import HALF_BEAT, STILL, Gesture
from expotion_cli.training.mini.corpus.styles import Style
from expotion_cli.training.mini.corpus.theory import Chord

BEAT, BAR = 12, 48
_BEAT_WEIGHT = (0.04, 0.3, 0.16, 0.34)
_PART_WEIGHT = (0.0, 0.86, 0.84, 0.76, 0.66, 0.86, 0.5, 0.86, 0.54, 0.78, 0.7, 0.88)


def metrical_weight(step: int) -> float:
    """How late a step joins in when energy rises: bar lines first (0), then beats, eighths, sixteenths (1)."""
    part = step % BEAT
    return _PART_WEIGHT[part] if part else _BEAT_WEIGHT[step // BEAT % 4]


@dataclass
class Draft:
    """A piece in the making.

    Attributes:
        r: source of choices.
        style: its style.
        mode: "major", "minor" or "dorian".
        feel: division of the beat.
        num_bars: length.
        gesture: what the arrangement follows.
        chords: one chord each beat.
        sections: first bar of every section and its letter.
        inverted: values of chords whose third stands in the bass.
        voices: per voice name: start → [end, value, velocity].
    """

    r: Random
    style: Style
    mode: str
    feel: str
    num_bars: int
    gesture: Gesture
    chords: list[Chord] = field(default_factory=list)
    sections: list[tuple[int, int, str]] = field(default_factory=list)
    inverted: set[int] = field(default_factory=set)
    voices: dict[str, dict[int, list[int]]] = field(default_factory=lambda: {v.name: {} for v in notes.VOICES})

    def __post_init__(self) -> None:
        self.num_steps = self.num_bars * BAR
        self.body_steps = self.num_steps - BAR
        self.energy = self.gesture.energy

    def at(self, step: int) -> float:
        """Energy at a step."""
        return self.energy[step // HALF_BEAT]

    def chord_at(self, step: int) -> Chord:
        """Chord at a step."""
        return self.chords[step // BEAT]

    def wants(self, step: int, bias: float = 0.0, weight: float | None = None) -> bool:
        """Whether the energy at `step` is enough for an onset of this metrical weight."""
        energy = self.energy[step // HALF_BEAT]
        return energy > STILL and (metrical_weight(step) if weight is None else weight) <= energy * 1.15 + bias

    def velocity(self, step: int, bias: float = 0.0) -> int:
        """Velocity class from energy and metre; the loudest is kept for accents where a gesture is followed."""
        level = 3.3 * self.energy[step // HALF_BEAT] - 0.25 + bias + 0.25 * self.r.random()
        level += 0.3 if step % 24 == 0 else (-0.3 if step % BEAT else 0.0)
        top = 2 if self.gesture.follow >= 0.5 else 3
        return 0 if level < 1 else min(int(level), top)

    def note(self, voice: str, start: int, end: int, value: int, velocity: int) -> None:
        """Write an onset; an end beyond the next onset is trimmed when tokens are written."""
        self.voices[voice][start] = [end, value, velocity]

    def hit(self, voice: str, step: int, mask: int, velocity: int) -> None:
        """Add drum lanes at a step."""
        row = self.voices[voice]
        if step in row:
            row[step][1] |= mask
            row[step][2] = max(row[step][2], velocity)
        else:
            row[step] = [step + 1, mask, velocity]

    def tokens(self) -> np.ndarray:
        """[K, S] int16: the same tokens `notes.events_to_tokens` writes, quicker."""
        size = self.num_steps
        result = np.full((notes.NUM_VOICES, size), notes.HOLD, dtype=np.int16)
        for index, voice in enumerate(notes.VOICES):
            row = [notes.HOLD] * size
            events = sorted(self.voices[voice.name].items())
            classes = {"dynamics": 1, "chord": len(notes.CHORD_VELOCITIES)}.get(voice.kind, len(notes.VELOCITIES))
            offset = {"pitched": voice.base, "drums": 1}.get(voice.kind, 0)
            ends = voice.kind in ("pitched", "chord")
            for i, (start, (end, value, velocity)) in enumerate(events):
                row[start] = notes.FIRST_ONSET + (value - offset) * classes + velocity
                following = events[i + 1][0] if i + 1 < len(events) else size
                if ends and end < following:
                    row[end] = notes.REST
            if not events or events[0][0] > 0:
                row[0] = notes.REST
            result[index] = row
        return result
