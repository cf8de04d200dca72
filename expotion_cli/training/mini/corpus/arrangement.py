"""A piece while it is being arranged: chords, energy, events of all voices, and which onsets the energy allows."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import numpy as np

from expotion_cli.music.codecs.notes import tokens as notes
from expotion_cli.training.mini.corpus.energy import HALF_BEAT, STILL, EnergyProfile
from expotion_cli.training.mini.corpus.styles import Style
from expotion_cli.training.mini.corpus.theory import Chord

BEAT, BAR = 12, 48
_BEAT_WEIGHT = (0.04, 0.3, 0.16, 0.34)
_PART_WEIGHT = (0.0, 0.86, 0.84, 0.76, 0.66, 0.86, 0.5, 0.86, 0.54, 0.78, 0.7, 0.88)


def metrical_weight(step: int) -> float:
    """Energy that an onset at this step needs, 0..1: bar lines first, then beats, eighths and sixteenths."""
    part = step % BEAT
    return _PART_WEIGHT[part] if part else _BEAT_WEIGHT[step // BEAT % 4]


@dataclass
class Arrangement:
    """A piece while it is being arranged.

    Attributes:
        r: source of randomness.
        style: of the piece.
        mode: "major", "minor" or "dorian".
        feel: division of the beat, see `Style.feels`.
        num_bars: length in bars of 4/4.
        profile: energy and accents that the arrangement follows.
        chords: one for each beat.
        sections: (first bar, number of bars, letter) of each section.
        inverted: values of the chords that have their third in the bass.
        voices: events by voice name: start step → [end step, value, velocity class].
    """

    r: Random
    style: Style
    mode: str
    feel: str
    num_bars: int
    profile: EnergyProfile
    chords: list[Chord] = field(default_factory=list)
    sections: list[tuple[int, int, str]] = field(default_factory=list)
    inverted: set[int] = field(default_factory=set)
    voices: dict[str, dict[int, list[int]]] = field(default_factory=lambda: {v.name: {} for v in notes.VOICES})

    def __post_init__(self) -> None:
        self.num_steps = self.num_bars * BAR
        self.body_steps = self.num_steps - BAR
        self.energy = self.profile.energy

    def at(self, step: int) -> float:
        """Energy at a step, 0..1."""
        return self.energy[step // HALF_BEAT]

    def chord_at(self, step: int) -> Chord:
        """Chord at a step."""
        return self.chords[step // BEAT]

    def allows(self, step: int, bias: float = 0.0, weight: float | None = None) -> bool:
        """Whether the energy at a step allows an onset.

        Args:
            step: of the onset.
            bias: added to the energy.
            weight: energy that the onset needs; that of its place in the bar by default.
        """
        energy = self.energy[step // HALF_BEAT]
        return energy > STILL and (metrical_weight(step) if weight is None else weight) <= energy * 1.15 + bias

    def velocity(self, step: int, bias: float = 0.0) -> int:
        """Velocity class from energy and metre; where energy is followed, accents alone get the loudest class."""
        level = 3.3 * self.energy[step // HALF_BEAT] - 0.25 + bias + 0.25 * self.r.random()
        level += 0.3 if step % 24 == 0 else (-0.3 if step % BEAT else 0.0)
        top = 2 if self.profile.follow >= 0.5 else 3
        return 0 if level < 1 else min(int(level), top)

    def note(self, voice: str, start: int, end: int, value: int, velocity: int) -> None:
        """Add a note; an end beyond the voice's next onset is cut when tokens are written.

        Args:
            voice: name of the voice.
            start: step of the onset.
            end: step where it stops.
            value: MIDI pitch, or a chord's value.
            velocity: class, from 0.
        """
        self.voices[voice][start] = [end, value, velocity]

    def hit(self, voice: str, step: int, mask: int, velocity: int) -> None:
        """Add drum strokes at a step.

        Args:
            voice: "drums" or "percussion".
            step: of the strokes.
            mask: bits of the drums struck.
            velocity: class, from 0; the loudest of several at one step counts.
        """
        row = self.voices[voice]
        if step in row:
            row[step][1] |= mask
            row[step][2] = max(row[step][2], velocity)
        else:
            row[step] = [step + 1, mask, velocity]

    def tokens(self) -> np.ndarray:
        """[K, S] int16, as `notes.events_to_tokens` gives, but faster."""
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
